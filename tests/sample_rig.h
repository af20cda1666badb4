/* SPDX-License-Identifier: MIT */
/* sample_rig.h - a sampler, a request, and rows and parameters of any kind. */
#ifndef HEARTH_SAMPLE_RIG_H
#define HEARTH_SAMPLE_RIG_H

#include <check.h>
#include <math.h>

#include "../daemon/sample_priv.h"
#include "rig.h"

#define N 500

static const struct mem heap;
static struct sampler sampler;
static struct req req;
static uint32_t prompt[64];
static struct ring_token out_tokens[64];

static inline void setup(void)
{
	if (sample_init(&sampler, &heap, 300000))
		abort();
	memset(&req, 0, sizeof(req));
	req.prompt = prompt;
	req.n_prompt = 1;
	req.out = out_tokens;
	req.run.top_p = 1;
	req.run.repeat_penalty = 1;
	prompt[0] = 0;
}

static inline void teardown(void)
{
	sample_fini(&sampler, &heap);
}

static inline void fill(float *x, uint32_t n, uint64_t seed, float scale)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		x[i] = (float)(int64_t)rig_rand(&seed) * 0x1p-63f * scale;
}

static inline int try(float *x, uint32_t n, struct ring_token *t,
		      struct ring_top *top)
{
	struct sample_row row = { .n = n, .x = x };

	return sample_token(&sampler, &req, &row, t, top);
}

#define MOST 9000 /* logits of a row here: more than two chunks */

static int fetched, fetch_error;

static inline int fetch(void *arg, float **x)
{
	fetched++;
	*x = arg;
	return fetch_error;
}

static inline uint32_t below(uint64_t *seed, uint32_t n)
{
	return (uint32_t)(rig_rand(seed) >> 32) % n;
}

/* A row with as many ties as there may be, and sometimes what is not finite. */
static inline void any_row(float *x, uint32_t n, uint64_t *seed)
{
	static const float scales[] = { 1e-3f, 1, 5, 30, 1000, 3e38f };
	static const float odd[] = { -INFINITY, INFINITY, NAN, -0.0f, 3e38f };
	uint32_t levels = below(seed, 2) ? 1 + below(seed, 20) : 1u << 30, i;
	float scale = scales[below(seed, 6)];

	for (i = 0; i < n; i++)
		x[i] = scale *
		       ((float)below(seed, levels) / (float)levels - 0.5f);
	if (!below(seed, 10))
		x[below(seed, n)] = odd[below(seed, 5)];
}

/* Parameters, each of them often off. */
static inline void any_run(struct ring_run *run, uint32_t n, uint64_t *seed)
{
	static const float temps[] = { 0, 0.01f, 0.7f, 1, 1.5f, 100 };
	static const float tops[] = { 1e-9f, 0.1f, 0.5f, 0.9f, 0.99f, 1 };
	static const float mins[] = { 0, 0, 1e-30f, 0.01f, 0.3f, 1 };
	static const uint32_t ks[] = { 0, 0, 1, 40, 64, 65, 200 };

	run->temperature = temps[below(seed, 6)];
	run->top_p = below(seed, 2) ? 1 : tops[below(seed, 6)];
	run->min_p = mins[below(seed, 6)];
	run->top_k = below(seed, 4) ? ks[below(seed, 7)] : below(seed, 70);
	run->seed = rig_rand(seed);
	run->flags = below(seed, 2) ? RING_RUN_LOGPROBS : 0;
	run->n_top_logprobs = below(seed, RING_MAX_TOP_LOGPROBS + 1);
	run->n_bias = below(seed, 8) ? 0 : 2;
	run->penalty_last = below(seed, 8) ? 0 : 64;
	run->presence_penalty = 1;
	req.n_prompt = 1 + below(seed, 60);
	prompt[req.n_prompt - 1] = below(seed, n);
}

#endif
