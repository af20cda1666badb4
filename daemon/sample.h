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

#include "mem.h"
#include "req.h"

struct sample_cand {
	float logit;
	uint32_t token;
};

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
	struct sample_cand *cand;
	struct sample_cand *pick;
	double *weight;
};

int sample_init(struct sampler *s, const struct mem *mem, uint32_t max_vocab);
void sample_fini(struct sampler *s, const struct mem *mem);

/**
 * sample_token() - the next token of a request
 * @r:      its parameters, and its tokens so far for the penalties
 * @logits: n_vocab of them
 * @top:    filled when the request asks for alternatives
 *
 * Log-probabilities are the model's own, before bias, penalties and
 * truncation. Return: 0, or -EDOM when a logit is not finite or no token is
 * left to choose from.
 */
int sample_token(struct sampler *s, const struct req *r, const float *logits,
		 uint32_t n_vocab, struct ring_token *out,
		 struct ring_top *top);

/* Uniform in [0, 1), 53 bits, by (seed, position): Philox 4x32-10. */
double sample_uniform(uint64_t seed, uint64_t position);
void sample_philox(const uint32_t ctr[4], const uint32_t key[2],
		   uint32_t out[4]);

/* e^x for x <= 0 (0 below -745) and log(x) for normal x > 0. */
double sample_exp(double x);
double sample_log(double x);

/* Are all of them finite? */
bool sample_finite(const float *x, uint32_t n);

#endif
