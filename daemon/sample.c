/* SPDX-License-Identifier: MIT */
/* sample.c - bias, penalties, truncation and the draw. */
#include "sample.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

int sample_init(struct sampler *s, const struct mem *mem, uint32_t max_vocab)
{
	memset(s, 0, sizeof(*s));
	s->max_vocab = max_vocab;
	s->row = mem_alloc(mem, max_vocab, sizeof(*s->row));
	s->count = mem_alloc(mem, max_vocab, sizeof(*s->count));
	s->cand = mem_alloc(mem, max_vocab, sizeof(*s->cand));
	s->pick = mem_alloc(mem, max_vocab, sizeof(*s->pick));
	s->weight = mem_alloc(mem, max_vocab, sizeof(*s->weight));
	return s->row && s->count && s->cand && s->pick && s->weight ? 0
								     : -ENOMEM;
}

void sample_fini(struct sampler *s, const struct mem *mem)
{
	mem_free(mem, s->row);
	mem_free(mem, s->count);
	mem_free(mem, s->cand);
	mem_free(mem, s->pick);
	mem_free(mem, s->weight);
	memset(s, 0, sizeof(*s));
}

void sample_philox(const uint32_t ctr[4], const uint32_t key[2],
		   uint32_t out[4])
{
	uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];
	uint32_t k0 = key[0], k1 = key[1];
	uint64_t a, b;
	int i;

	for (i = 0; i < 10; i++) {
		a = (uint64_t)0xd2511f53u * c0;
		b = (uint64_t)0xcd9e8d57u * c2;
		c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
		c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
		c1 = (uint32_t)b;
		c3 = (uint32_t)a;
		k0 += 0x9e3779b9u;
		k1 += 0xbb67ae85u;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

double sample_uniform(uint64_t seed, uint64_t position)
{
	const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t ctr[4] = { (uint32_t)position,
				  (uint32_t)(position >> 32), 0, 0 };
	uint32_t x[4];

	sample_philox(ctr, key, x);
	return (double)((((uint64_t)x[0] << 32 | x[1]) >> 11)) * 0x1p-53;
}

/* 2^(i/64) */
static const double pow64[64] = {
	0x1.0000000000000p+0, 0x1.02c9a3e778061p+0, 0x1.059b0d3158574p+0,
	0x1.0874518759bc8p+0, 0x1.0b5586cf9890fp+0, 0x1.0e3ec32d3d1a2p+0,
	0x1.11301d0125b51p+0, 0x1.1429aaea92de0p+0, 0x1.172b83c7d517bp+0,
	0x1.1a35beb6fcb75p+0, 0x1.1d4873168b9aap+0, 0x1.2063b88628cd6p+0,
	0x1.2387a6e756238p+0, 0x1.26b4565e27cddp+0, 0x1.29e9df51fdee1p+0,
	0x1.2d285a6e4030bp+0, 0x1.306fe0a31b715p+0, 0x1.33c08b26416ffp+0,
	0x1.371a7373aa9cbp+0, 0x1.3a7db34e59ff7p+0, 0x1.3dea64c123422p+0,
	0x1.4160a21f72e2ap+0, 0x1.44e086061892dp+0, 0x1.486a2b5c13cd0p+0,
	0x1.4bfdad5362a27p+0, 0x1.4f9b2769d2ca7p+0, 0x1.5342b569d4f82p+0,
	0x1.56f4736b527dap+0, 0x1.5ab07dd485429p+0, 0x1.5e76f15ad2148p+0,
	0x1.6247eb03a5585p+0, 0x1.6623882552225p+0, 0x1.6a09e667f3bcdp+0,
	0x1.6dfb23c651a2fp+0, 0x1.71f75e8ec5f74p+0, 0x1.75feb564267c9p+0,
	0x1.7a11473eb0187p+0, 0x1.7e2f336cf4e62p+0, 0x1.82589994cce13p+0,
	0x1.868d99b4492edp+0, 0x1.8ace5422aa0dbp+0, 0x1.8f1ae99157736p+0,
	0x1.93737b0cdc5e5p+0, 0x1.97d829fde4e50p+0, 0x1.9c49182a3f090p+0,
	0x1.a0c667b5de565p+0, 0x1.a5503b23e255dp+0, 0x1.a9e6b5579fdbfp+0,
	0x1.ae89f995ad3adp+0, 0x1.b33a2b84f15fbp+0, 0x1.b7f76f2fb5e47p+0,
	0x1.bcc1e904bc1d2p+0, 0x1.c199bdd85529cp+0, 0x1.c67f12e57d14bp+0,
	0x1.cb720dcef9069p+0, 0x1.d072d4a07897cp+0, 0x1.d5818dcfba487p+0,
	0x1.da9e603db3285p+0, 0x1.dfc97337b9b5fp+0, 0x1.e502ee78b3ff6p+0,
	0x1.ea4afa2a490dap+0, 0x1.efa1bee615a27p+0, 0x1.f50765b6e4540p+0,
	0x1.fa7c1819e90d8p+0,
};

double sample_exp(double x)
{
	double k, r, p, scale;
	uint64_t bits;
	int n;

	if (!(x > -745))
		return 0;
	/* x = k ln 2 / 64 + r, |r| <= ln 2 / 128; ln 2 / 64 in two parts. */
	k = x * 0x1.71547652b82fep+6 + 0x1.8p52;
	k -= 0x1.8p52;
	r = (x - k * 0x1.62e42fe000000p-7) - k * 0x1.f473de6af278fp-36;
	p = 1 + r * (1 + r * (0.5 + r * (1.0 / 6 +
					 r * (1.0 / 24 + r * (1.0 / 120)))));
	n = (int)k;
	p *= pow64[n & 63];
	n >>= 6;
	if (n < -1000) {
		/* Through the subnormals in two steps. */
		p *= 0x1p-512;
		n += 512;
	}
	bits = (uint64_t)(n + 1023) << 52;
	memcpy(&scale, &bits, sizeof(scale));
	return p * scale;
}

double sample_log(double x)
{
	uint64_t bits;
	double m, s, z, sum;
	int e, i;

	memcpy(&bits, &x, sizeof(bits));
	e = (int)(bits >> 52 & 2047) - 1023;
	bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
	memcpy(&m, &bits, sizeof(m));
	if (m > 1.4142135623730951) {
		m *= 0.5;
		e++;
	}
	/* log m = 2 atanh(s) = 2 (s + s^3/3 + ...), |s| < 0.172 */
	s = (m - 1) / (m + 1);
	z = s * s;
	sum = 0;
	for (i = 21; i >= 1; i -= 2)
		sum = sum * z + 1.0 / i;
	return e * 0x1.ef35793c76730p-45 + 2 * s * sum +
	       e * 0x1.62e42fefa3800p-1;
}

/* Lanes: so that a step of the loop does not wait for the one before. */
#define LANES 8

bool sample_finite(const float *x, uint32_t n)
{
	const uint32_t inf = 0x7f800000;
	uint32_t bad[LANES] = { 0 }, u, i, l, any = 0;

	for (i = 0; i + LANES <= n; i += LANES) {
		for (l = 0; l < LANES; l++) {
			memcpy(&u, x + i + l, sizeof(u));
			bad[l] |= (u & inf) == inf;
		}
	}
	for (; i < n; i++) {
		memcpy(&u, x + i, sizeof(u));
		any |= (u & inf) == inf;
	}
	for (l = 0; l < LANES; l++)
		any |= bad[l];
	return !any;
}

/* Index of the greatest; the first of equals. */
static uint32_t arg_max(const float *x, uint32_t n)
{
	float m[LANES], max = x[0];
	uint32_t i, l;

	for (l = 0; l < LANES; l++)
		m[l] = max;
	for (i = 0; i + LANES <= n; i += LANES)
		for (l = 0; l < LANES; l++)
			m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
	for (; i < n; i++)
		max = x[i] > max ? x[i] : max;
	for (l = 0; l < LANES; l++)
		max = m[l] > max ? m[l] : max;
	for (i = 0; x[i] != max; i++)
		;
	return i;
}

/* Of two candidates, does @a come first? Greater logit, then smaller id. */
static bool before(const struct sample_cand *a, const struct sample_cand *b)
{
	return a->logit > b->logit ||
	       (a->logit == b->logit && a->token < b->token);
}

/*
 * Heaps: @first on top is the one that comes first (sign 1) or last (sign 0)
 * of all candidates in it.
 */
static bool above(const struct sample_cand *a, const struct sample_cand *b,
		  bool first)
{
	return first ? before(a, b) : before(b, a);
}

static void sift_down(struct sample_cand *h, uint32_t n, uint32_t i, bool first)
{
	struct sample_cand x = h[i];
	uint32_t c;

	while ((c = 2 * i + 1) < n) {
		if (c + 1 < n && above(&h[c + 1], &h[c], first))
			c++;
		if (!above(&h[c], &x, first))
			break;
		h[i] = h[c];
		i = c;
	}
	h[i] = x;
}

static void heapify(struct sample_cand *h, uint32_t n, bool first)
{
	uint32_t i;

	for (i = n / 2; i-- > 0;)
		sift_down(h, n, i, first);
}

/* The @k first candidates of the row, in order, into @c. */
static uint32_t top_k(struct sample_cand *c, const float *x, uint32_t n,
		      uint32_t k)
{
	struct sample_cand t;
	uint32_t i;

	if (k > n)
		k = n;
	for (i = 0; i < k; i++)
		c[i] = (struct sample_cand){ x[i], i };
	heapify(c, k, false);
	for (; i < n; i++) {
		/* Equal logits: the earlier one is in already. */
		if (!(x[i] > c[0].logit))
			continue;
		c[0] = (struct sample_cand){ x[i], i };
		sift_down(c, k, 0, false);
	}
	for (i = k; i-- > 1;) {
		t = c[0];
		c[0] = c[i];
		c[i] = t;
		sift_down(c, i, 0, false);
	}
	while (k && c[k - 1].logit == -INFINITY)
		k--;
	return k;
}

/*
 * Smallest set of first candidates with probability @p of the sum @z, in
 * order, into s->pick. Works down from the maximum in bands of logits, so
 * that only what is needed is ever sorted.
 */
static uint32_t top_p(struct sampler *s, const float *x, uint32_t n, float max,
		      double z, double p)
{
	float hi = INFINITY, lo, width = 4;
	struct sample_cand *h = s->cand;
	uint32_t k = 0, m, i;
	double sum = 0;

	for (; hi != -INFINITY; hi = lo, width *= 2) {
		lo = width < 1000 ? max - width : -INFINITY;
		for (i = 0, m = 0; i < n; i++)
			if (x[i] < hi && x[i] >= lo && x[i] != -INFINITY)
				h[m++] = (struct sample_cand){ x[i], i };
		heapify(h, m, true);
		while (m) {
			s->pick[k++] = h[0];
			sum += sample_exp((double)h[0].logit - max);
			if (sum >= p * z)
				return k;
			h[0] = h[--m];
			sift_down(h, m, 0, true);
		}
	}
	return k;
}

/* Draw from s->pick by weight exp((logit - max) / t). */
static uint32_t draw(struct sampler *s, uint32_t n, float max, double t,
		     double u)
{
	const struct sample_cand *c = s->pick;
	double z = 0, sum = 0;
	uint32_t i, last = 0;

	for (i = 0; i < n; i++) {
		s->weight[i] = sample_exp(((double)c[i].logit - max) / t);
		z += s->weight[i];
	}
	for (i = 0; i < n; i++) {
		if (s->weight[i] > 0)
			last = i;
		sum += s->weight[i];
		if (sum > u * z)
			return c[i].token;
	}
	return c[last].token;
}

static double exp_sum(const float *x, uint32_t n, float max)
{
	double z = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		z += sample_exp((double)x[i] - max);
	return z;
}

static uint32_t choose(struct sampler *s, const struct ring_run *run,
		       const float *x, uint32_t n, uint32_t pos)
{
	struct sample_cand *c = s->pick;
	float max = x[arg_max(x, n)], least = -INFINITY;
	double z, sum;
	uint32_t k = 0, i;

	if (run->min_p > 0)
		least = (float)(max + sample_log((double)run->min_p));
	if (run->top_k && run->top_k < n) {
		k = top_k(c, x, n, run->top_k);
		if (run->top_p < 1) {
			for (z = 0, i = 0; i < k; i++)
				z += sample_exp((double)c[i].logit - max);
			for (sum = 0, i = 0; i < k;) {
				sum += sample_exp((double)c[i++].logit - max);
				if (sum >= run->top_p * z)
					break;
			}
			k = i;
		}
	} else if (run->top_p < 1) {
		k = top_p(s, x, n, max, exp_sum(x, n, max), (double)run->top_p);
	} else {
		for (i = 0; i < n; i++)
			if (x[i] >= least && x[i] != -INFINITY)
				c[k++] = (struct sample_cand){ x[i], i };
	}
	/* In order, or all above it already. */
	while (k > 1 && c[k - 1].logit < least)
		k--;
	return draw(s, k, max, (double)run->temperature,
		    sample_uniform(run->seed, pos));
}

/* What changed must stay comparable: no NaN, no +inf; -inf is a ban. */
static float tame(double x)
{
	if (x > FLT_MAX)
		return FLT_MAX;
	if (x == -INFINITY)
		return -INFINITY;
	return x < -FLT_MAX ? -FLT_MAX : (float)x;
}

static void penalise(struct sampler *s, const struct req *r, uint32_t n_vocab)
{
	const struct ring_run *run = &r->run;
	uint32_t n = req_tokens(r), from, i, id;
	double x;

	from = n > run->penalty_last ? n - run->penalty_last : 0;
	for (i = from; i < n; i++) {
		id = req_token(r, i);
		if (id < n_vocab)
			s->count[id]++;
	}
	for (i = from; i < n; i++) {
		id = req_token(r, i);
		if (id >= n_vocab || !s->count[id])
			continue;
		x = s->row[id];
		x = x > 0 ? x / (double)run->repeat_penalty
			  : x * (double)run->repeat_penalty;
		x -= (double)run->frequency_penalty * s->count[id] +
		     (double)run->presence_penalty;
		s->row[id] = tame(x);
		s->count[id] = 0;
	}
}

/* The row with bias and penalties: @logits itself if there are none. */
static const float *adjust(struct sampler *s, const struct req *r,
			   const float *logits, uint32_t n_vocab)
{
	const struct ring_run *run = &r->run;
	bool penal = run->penalty_last &&
		     (run->repeat_penalty != 1 || run->presence_penalty != 0 ||
		      run->frequency_penalty != 0);
	uint32_t i;

	if (!penal && !run->n_bias)
		return logits;
	memcpy(s->row, logits, n_vocab * sizeof(*logits));
	for (i = 0; i < run->n_bias; i++)
		if (r->bias[i].token < n_vocab && !isnan(r->bias[i].bias))
			s->row[r->bias[i].token] =
				tame((double)s->row[r->bias[i].token] +
				     (double)r->bias[i].bias);
	if (penal)
		penalise(s, r, n_vocab);
	return s->row;
}

static void log_probs(struct sampler *s, const struct ring_run *run,
		      const float *logits, uint32_t n_vocab,
		      struct ring_token *out, struct ring_top *top)
{
	float max = logits[arg_max(logits, n_vocab)];
	double lz = sample_log(exp_sum(logits, n_vocab, max)) + max;
	uint32_t i, k;

	out->logprob = (float)((double)logits[out->token] - lz);
	if (!top || !run->n_top_logprobs)
		return;
	k = top_k(s->cand, logits, n_vocab, run->n_top_logprobs);
	memset(top, 0, run->n_top_logprobs * sizeof(*top));
	for (i = 0; i < k; i++) {
		top[i].token = s->cand[i].token;
		top[i].logprob = (float)((double)s->cand[i].logit - lz);
	}
}

int sample_token(struct sampler *s, const struct req *r, const float *logits,
		 uint32_t n_vocab, struct ring_token *out, struct ring_top *top)
{
	const struct ring_run *run = &r->run;
	const float *x;
	uint32_t best;

	if (n_vocab > s->max_vocab || !sample_finite(logits, n_vocab))
		return -EDOM;
	x = adjust(s, r, logits, n_vocab);
	best = arg_max(x, n_vocab);
	if (x[best] == -INFINITY)
		return -EDOM;
	if (!(run->flags & RING_RUN_GREEDY) && run->temperature > 0)
		best = choose(s, run, x, n_vocab, req_tokens(r));
	out->token = best;
	out->logprob = 0;
	if (run->flags & RING_RUN_LOGPROBS)
		log_probs(s, run, logits, n_vocab, out, top);
	return 0;
}
