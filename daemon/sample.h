/* SPDX-License-Identifier: MIT */
/*
 * sample.h - from a row of logits to a token.
 *
 * The chain, in this order: bias, penalties, top-k, top-p, min-p, temperature,
 * draw. Plain C in a fixed order with its own exp and log, so that a request's
 * tokens depend on nothing but its logits: not on CPU, libm or neighbours.
 * The random number of a token is a function of (seed, position).
 */
#ifndef HEARTH_SAMPLE_H
#define HEARTH_SAMPLE_H

#include "../kernels/top.h"
#include "mem.h"
#include "req.h"

/**
 * struct sampler - scratch for rows of up to @max_vocab logits
 * @row:   a copy of the row, when bias or penalties change it
 * @count: per token, zero between calls
 * @cand:  candidates as a heap
 * @pick:  those to draw from, with their @weight
 */
struct sampler {
	uint32_t max_vocab;
	float *row;
	uint32_t *count;
	struct top_cand *cand;
	struct top_cand *pick;
	double *weight;
};

int sample_init(struct sampler *s, const struct mem *mem, uint32_t max_vocab);
void sample_fini(struct sampler *s, const struct mem *mem);

/**
 * struct sample_row - the logits of a position
 * @n:   how many there are
 * @top: them in short; NULL: only they themselves are at hand
 * @x:   all of them; NULL: not at hand, get() has them
 * @get: fetch them for @arg: 0 or -errno
 */
struct sample_row {
	uint32_t n;
	const struct top_row *top;
	const float *x;
	int (*get)(void *arg, const float **x);
	void *arg;
};

/* Have @x. */
int sample_row_get(struct sample_row *row);

/**
 * sample_token() - the next token of a request
 * @r:   its parameters, and its tokens so far for the penalties
 * @row: all of it is only fetched if its candidates are not enough; the token
 *       is the same
 * @top: filled when the request asks for alternatives
 *
 * Log-probabilities are the model's own, before bias, penalties and
 * truncation. Return: 0; -EDOM when a logit is not finite or no token is left
 * to choose from; or what get() returned.
 */
int sample_token(struct sampler *s, const struct req *r, struct sample_row *row,
		 struct ring_token *out, struct ring_top *top);

/* Uniform in [0, 1), 53 bits, by (seed, position): Philox 4x32-10. */
double sample_uniform(uint64_t seed, uint64_t position);
void sample_philox(const uint32_t ctr[4], const uint32_t key[2],
		   uint32_t out[4]);

/* log(x) for normal x > 0. */
double sample_log(double x);

#endif
