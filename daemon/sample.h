/* SPDX-License-Identifier: MIT */
/*
 * sample.h - from a row of logits to a token.
 *
 * The chain, in this order: bias, penalties, top-k, top-p, min-p, temperature,
 * draw. Plain C in a fixed order with its own exp and log, so that a request's
 * tokens depend on nothing but its logits: not on CPU, libm or neighbours.
 * The random number of a token is a function of (seed, position).
 *
 * Top-p without top-k needs the sum of exp(x - max) over a row. Of a row that
 * bias or penalties touch it is this, whatever was at hand: from kernels/top.h's
 * sum of the untouched row, with the maximum m, exp(x - m) of each touched token
 * is taken away, in the order in which the tokens are first met, the bias before
 * the penalties' window. What remains, if it is at least 2^-24 of the sum, is
 * multiplied by exp(m - max) if max is above m, else divided by exp(max - m); and
 * the touched tokens' exp(x - max), added up in that order, are added. Then the
 * error is below that of top_p, which is a float. If less remains, it is
 * kernels/top.h's sum of the changed row.
 */
#ifndef HEARTH_SAMPLE_H
#define HEARTH_SAMPLE_H

#include "../kernels/top.h"
#include "mem.h"
#include "req.h"

struct sample_edit;

/**
 * struct sampler - scratch for rows of up to @max_vocab logits
 * @edit:  tokens whose logits bias or penalties change
 * @where: per token: 1 + its place there, zero between calls
 * @cand:  candidates as a heap
 * @pick:  those to draw from, with their @weight
 */
struct sampler {
	uint32_t max_vocab;
	struct sample_edit *edit;
	uint32_t *where;
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
 * @picks, @picked: what sample_picks() says, and their logits
 * @n_picks: 0: not at hand
 * @x:   all of them; NULL: not at hand, get() has them. While a token is chosen
 *       they may change
 * @get: fetch them for @arg: 0 or -errno
 */
struct sample_row {
	uint32_t n;
	uint32_t n_picks;
	const struct top_row *top;
	const uint32_t *picks;
	const float *picked;
	float *x;
	int (*get)(void *arg, float **x);
	void *arg;
};

/* Have @x. */
int sample_row_get(struct sample_row *row);

/*
 * Tokens that bias and penalties of a request touch, in the order of the bias
 * and then of its tokens, as often as they are met there: how many; 0 when there
 * are none, or more than @max. @token has room for @max.
 */
uint32_t sample_picks(const struct req *r, uint32_t n_vocab, uint32_t *token,
		      uint32_t max);

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
