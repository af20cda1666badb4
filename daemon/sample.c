/* SPDX-License-Identifier: MIT */
/* sample.c - truncation, the draw, log-probabilities. */
#include "sample_priv.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int sample_init(struct sampler *s, const struct mem *mem, uint32_t max_vocab)
{
	memset(s, 0, sizeof(*s));
	s->max_vocab = max_vocab;
	s->edit = mem_alloc(mem, max_vocab, sizeof(*s->edit));
	s->where = mem_alloc(mem, max_vocab, sizeof(*s->where));
	s->cand = mem_alloc(mem, max_vocab, sizeof(*s->cand));
	s->pick = mem_alloc(mem, max_vocab, sizeof(*s->pick));
	s->weight = mem_alloc(mem, max_vocab, sizeof(*s->weight));
	return s->edit && s->where && s->cand && s->pick && s->weight ? 0
								      : -ENOMEM;
}

void sample_fini(struct sampler *s, const struct mem *mem)
{
	mem_free(mem, s->edit);
	mem_free(mem, s->where);
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
static int pick_k(struct sampler *s, const struct ring_run *run, struct view *v,
		  float max, uint32_t *k)
{
	double z = 0;
	uint32_t i, n;
	int rc;

	*k = run->top_k;
	rc = view_first(v, s->pick, k);
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
static int pick_p(struct sampler *s, const struct ring_run *run, struct view *v,
		  float max, float least, uint32_t *k)
{
	double mass;
	int rc = view_sum(v, max, &mass);

	if (rc)
		return rc;
	mass *= (double)run->top_p;
	if (v->n) {
		*k = reach(v->cand, v->n, max, mass);
		if (*k <= v->n || view_ends(v, least)) {
			*k = *k < v->n ? *k : v->n;
			memcpy(s->pick, v->cand, *k * sizeof(*s->pick));
			return 0;
		}
	}
	rc = view_get(v);
	if (!rc)
		*k = bands(s, v->row->x, v->row->n, max, mass);
	return rc;
}

/* All that are not below @least, by token. */
static int pick_all(struct sampler *s, struct view *v, float least, uint32_t *k)
{
	struct top_cand *c = s->pick;
	uint32_t n = 0, i, j;
	const float *x;
	int rc;

	if (view_ends(v, least)) {
		for (; n < v->n && v->cand[n].logit >= least; n++) {
			for (j = n; j && c[j - 1].token > v->cand[n].token; j--)
				c[j] = c[j - 1];
			c[j] = v->cand[n];
		}
		*k = n;
		return 0;
	}
	rc = view_get(v);
	if (rc)
		return rc;
	x = v->row->x;
	for (i = 0; i < v->row->n; i++)
		if (x[i] >= least && x[i] != -INFINITY)
			c[n++] = (struct top_cand){ x[i], i };
	*k = n;
	return 0;
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

/* Draw from what truncation leaves. */
static int choose(struct sampler *s, const struct ring_run *run, struct view *v,
		  float max, uint32_t pos, uint32_t *token)
{
	float least = -INFINITY;
	uint32_t k;
	int rc;

	if (run->min_p > 0)
		least = (float)(max + sample_log((double)run->min_p));
	if (run->top_k && run->top_k < v->row->n)
		rc = pick_k(s, run, v, max, &k);
	else if (run->top_p < 1)
		rc = pick_p(s, run, v, max, least, &k);
	else
		rc = pick_all(s, v, least, &k);
	if (rc)
		return rc;
	/* In order, or all above it already. */
	while (k > 1 && s->pick[k - 1].logit < least)
		k--;
	*token = draw(s, k, max, (double)run->temperature,
		      sample_uniform(run->seed, pos));
	return 0;
}

/* ---------------------------------------------------- log-probabilities */

static int logit_of(struct view *v, uint32_t token, float *logit)
{
	const struct sample_row *row = v->row;
	uint32_t i;
	int rc;

	for (i = 0; i < v->n; i++) {
		if (v->cand[i].token == token) {
			*logit = v->cand[i].logit;
			return 0;
		}
	}
	for (i = 0; i < row->n_picks; i++) {
		if (row->picks[i] == token) {
			*logit = row->picked[i];
			return 0;
		}
	}
	rc = view_get(v);
	if (!rc)
		*logit = v->row->x[token];
	return rc;
}

static int log_probs(struct sampler *s, const struct ring_run *run,
		     struct view *v, struct ring_token *out,
		     struct ring_top *top)
{
	uint32_t i, k = run->n_top_logprobs;
	struct top_cand best;
	float logit;
	double lz;
	int rc;

	rc = view_best(v, &best);
	if (!rc)
		rc = view_sum(v, best.logit, &lz);
	if (!rc)
		rc = logit_of(v, out->token, &logit);
	if (rc)
		return rc;
	lz = sample_log(lz) + best.logit;
	out->logprob = (float)((double)logit - lz);
	if (!top || !k)
		return 0;
	memset(top, 0, k * sizeof(*top));
	rc = view_first(v, s->cand, &k);
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

/* With bias and penalties. */
static int next_token(struct sampler *s, const struct req *r, struct view *v,
		      uint32_t *token)
{
	const struct ring_run *run = &r->run;
	struct top_cand best;
	int rc;

	rc = view_best(v, &best);
	if (rc)
		return rc;
	if (best.logit == -INFINITY)
		return -EDOM;
	*token = best.token;
	if (run->flags & RING_RUN_GREEDY || run->temperature <= 0)
		return 0;
	return choose(s, run, v, best.logit, req_tokens(r), token);
}

int sample_token(struct sampler *s, const struct req *r, struct sample_row *row,
		 struct ring_token *out, struct ring_top *top)
{
	struct view v;
	int rc;

	rc = check(s, row);
	if (rc)
		return rc;
	out->logprob = 0;
	rc = view_open(&v, s, r, row);
	if (!rc)
		rc = next_token(s, r, &v, &out->token);
	view_close(&v);
	if (rc || !(r->run.flags & RING_RUN_LOGPROBS))
		return rc;
	view_raw(&v, s, row);
	return log_probs(s, &r->run, &v, out, top);
}
