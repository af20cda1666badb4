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

/* ------------------------------------------------------------- the row */

int sample_row_get(struct sample_row *row)
{
	return row->x ? 0 : row->get(row->arg, &row->x);
}

/* The first of equals. */
static struct top_cand best(const struct sample_row *row)
{
	struct top_cand c = { 0 };

	if (row->top)
		return row->top->cand[0];
	c.logit = top_max(row->x, row->n);
	while (row->x[c.token] != c.logit)
		c.token++;
	return c;
}

static double row_sum(const struct sample_row *row, float max)
{
	return row->top ? row->top->sum : top_sum(row->x, row->n, max);
}

/* Is whatever comes after the candidates at hand below @least? */
static bool ends(const struct sample_row *row, float least)
{
	const struct top_row *t = row->top;

	return t && (t->n == row->n || t->cand[t->n - 1].logit < least);
}

/* The @k first candidates of the row, in order, into @c. */
static int first(struct sample_row *row, struct top_cand *c, uint32_t *k)
{
	const struct top_row *t = row->top;
	int rc;

	if (t && (*k <= t->n || t->n == row->n)) {
		*k = *k < t->n ? *k : t->n;
		memcpy(c, t->cand, *k * sizeof(*c));
		return 0;
	}
	rc = sample_row_get(row);
	if (!rc)
		*k = top_first(c, row->x, row->n, *k);
	return rc;
}

/* ---------------------------------------------------------- truncation */

/* How many of @n candidates it takes to have @mass; n + 1: they have less. */
static uint32_t reach(const struct top_cand *c, uint32_t n, float max,
		      double mass)
{
	double sum = 0;
	uint32_t i;

	for (i = 0; i < n; i++) {
		sum += top_exp((double)c[i].logit - max);
		if (sum >= mass)
			return i + 1;
	}
	return n + 1;
}

/* The @k first, and of them as many as have probability top_p. */
static int pick_k(struct sampler *s, const struct ring_run *run,
		  struct sample_row *row, float max, uint32_t *k)
{
	double z = 0;
	uint32_t i, n;
	int rc;

	*k = run->top_k;
	rc = first(row, s->pick, k);
	if (rc || run->top_p >= 1)
		return rc;
	for (i = 0; i < *k; i++)
		z += top_exp((double)s->pick[i].logit - max);
	n = reach(s->pick, *k, max, (double)run->top_p * z);
	*k = n < *k ? n : *k;
	return 0;
}

/*
 * The same from a row. Works down from the maximum in bands of logits, so that
 * only what is needed is ever sorted.
 */
static uint32_t bands(struct sampler *s, const float *x, uint32_t n, float max,
		      double mass)
{
	float hi = INFINITY, lo, width = 4;
	struct top_cand *h = s->cand;
	uint32_t k = 0, m, i;
	double sum = 0;

	for (; hi != -INFINITY; hi = lo, width *= 2) {
		lo = width < 1000 ? max - width : -INFINITY;
		for (i = 0, m = 0; i < n; i++)
			if (x[i] < hi && x[i] >= lo && x[i] != -INFINITY)
				h[m++] = (struct top_cand){ x[i], i };
		top_heap(h, m);
		while (m) {
			s->pick[k++] = h[0];
			sum += top_exp((double)h[0].logit - max);
			if (sum >= mass)
				return k;
			h[0] = h[--m];
			top_sift(h, m, 0);
		}
	}
	return k;
}

/* The first candidates with probability top_p, in order. Those below @least may
 * be missing: they are cut off anyway. */
static int pick_p(struct sampler *s, const struct ring_run *run,
		  struct sample_row *row, float max, float least, uint32_t *k)
{
	double mass = (double)run->top_p * row_sum(row, max);
	const struct top_row *t = row->top;
	int rc;

	if (t) {
		*k = reach(t->cand, t->n, max, mass);
		if (*k <= t->n || ends(row, least)) {
			*k = *k < t->n ? *k : t->n;
			memcpy(s->pick, t->cand, *k * sizeof(*s->pick));
			return 0;
		}
	}
	rc = sample_row_get(row);
	if (!rc)
		*k = bands(s, row->x, row->n, max, mass);
	return rc;
}

/* All that are not below @least, by token. */
static int pick_all(struct sampler *s, struct sample_row *row, float least,
		    uint32_t *k)
{
	const struct top_row *t = row->top;
	struct top_cand *c = s->pick;
	uint32_t n = 0, i, j;
	int rc = 0;

	if (ends(row, least)) {
		for (; n < t->n && t->cand[n].logit >= least; n++) {
			for (j = n; j && c[j - 1].token > t->cand[n].token; j--)
				c[j] = c[j - 1];
			c[j] = t->cand[n];
		}
	} else {
		rc = sample_row_get(row);
		for (i = 0; !rc && i < row->n; i++)
			if (row->x[i] >= least && row->x[i] != -INFINITY)
				c[n++] = (struct top_cand){ row->x[i], i };
	}
	*k = n;
	return rc;
}

/* ----------------------------------------------------------------- draw */

/* Draw from s->pick by weight exp((logit - max) / t). */
static uint32_t draw(struct sampler *s, uint32_t n, float max, double t,
		     double u)
{
	const struct top_cand *c = s->pick;
	double z = 0, sum = 0;
	uint32_t i, last = 0;

	for (i = 0; i < n; i++) {
		s->weight[i] = top_exp(((double)c[i].logit - max) / t);
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

static int choose(struct sampler *s, const struct ring_run *run,
		  struct sample_row *row, float max, uint32_t pos,
		  uint32_t *token)
{
	float least = -INFINITY;
	uint32_t k;
	int rc;

	if (run->min_p > 0)
		least = (float)(max + sample_log((double)run->min_p));
	if (run->top_k && run->top_k < row->n)
		rc = pick_k(s, run, row, max, &k);
	else if (run->top_p < 1)
		rc = pick_p(s, run, row, max, least, &k);
	else
		rc = pick_all(s, row, least, &k);
	if (rc)
		return rc;
	/* In order, or all above it already. */
	while (k > 1 && s->pick[k - 1].logit < least)
		k--;
	*token = draw(s, k, max, (double)run->temperature,
		      sample_uniform(run->seed, pos));
	return 0;
}

/* --------------------------------------------------- bias and penalties */

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

/* If there are bias or penalties, *to becomes @own, which has them. */
static int adjust(struct sampler *s, const struct req *r,
		  struct sample_row *own, struct sample_row **to)
{
	const struct ring_run *run = &r->run;
	bool penal = run->penalty_last &&
		     (run->repeat_penalty != 1 || run->presence_penalty != 0 ||
		      run->frequency_penalty != 0);
	struct sample_row *row = *to;
	uint32_t i;
	int rc;

	if (!penal && !run->n_bias)
		return 0;
	rc = sample_row_get(row);
	if (rc)
		return rc;
	memcpy(s->row, row->x, row->n * sizeof(*s->row));
	for (i = 0; i < run->n_bias; i++)
		if (r->bias[i].token < row->n && !isnan(r->bias[i].bias))
			s->row[r->bias[i].token] =
				tame((double)s->row[r->bias[i].token] +
				     (double)r->bias[i].bias);
	if (penal)
		penalise(s, r, row->n);
	*own = (struct sample_row){ .n = row->n, .x = s->row };
	*to = own;
	return 0;
}

/* ---------------------------------------------------- log-probabilities */

static int logit_of(struct sample_row *row, uint32_t token, float *logit)
{
	uint32_t i;
	int rc;

	for (i = 0; row->top && i < row->top->n; i++) {
		if (row->top->cand[i].token == token) {
			*logit = row->top->cand[i].logit;
			return 0;
		}
	}
	rc = sample_row_get(row);
	if (!rc)
		*logit = row->x[token];
	return rc;
}

static int log_probs(struct sampler *s, const struct ring_run *run,
		     struct sample_row *row, struct ring_token *out,
		     struct ring_top *top)
{
	float max = best(row).logit, logit;
	double lz = sample_log(row_sum(row, max)) + max;
	uint32_t i, k = run->n_top_logprobs;
	int rc;

	rc = logit_of(row, out->token, &logit);
	if (rc)
		return rc;
	out->logprob = (float)((double)logit - lz);
	if (!top || !k)
		return 0;
	memset(top, 0, k * sizeof(*top));
	rc = first(row, s->cand, &k);
	for (i = 0; !rc && i < k; i++) {
		top[i].token = s->cand[i].token;
		top[i].logprob = (float)((double)s->cand[i].logit - lz);
	}
	return rc;
}

static int check(const struct sampler *s, struct sample_row *row)
{
	int rc;

	if (row->n > s->max_vocab)
		return -EDOM;
	if (row->top)
		return row->top->finite ? 0 : -EDOM;
	rc = sample_row_get(row);
	if (rc)
		return rc;
	return top_finite(row->x, row->n) ? 0 : -EDOM;
}

int sample_token(struct sampler *s, const struct req *r, struct sample_row *row,
		 struct ring_token *out, struct ring_top *top)
{
	struct sample_row own, *with = row;
	const struct ring_run *run = &r->run;
	struct top_cand max;
	int rc;

	rc = check(s, row);
	if (!rc)
		rc = adjust(s, r, &own, &with);
	if (rc)
		return rc;
	max = best(with);
	if (max.logit == -INFINITY)
		return -EDOM;
	out->token = max.token;
	out->logprob = 0;
	if (!(run->flags & RING_RUN_GREEDY) && run->temperature > 0)
		rc = choose(s, run, with, max.logit, req_tokens(r),
			    &out->token);
	if (!rc && run->flags & RING_RUN_LOGPROBS)
		rc = log_probs(s, run, row, out, top);
	return rc;
}
