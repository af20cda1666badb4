/* SPDX-License-Identifier: MIT */
/*
 * attn.cuh - attention over the cache, as struct vec_kernels has it: what the
 * kernels for few tokens and for many share.
 *
 * Dot products of a query and keys have a lane a position, sums of values a
 * lane a dimension, so that each sum is one thread's, in order.
 */
#pragma once
#include "attn.h"
#include "vec.cuh"

extern __shared__ uint4 smem[];

/* The first position that a query sees of those before @end. */
DEV uint32_t first_seen(const struct cu_attn *p, uint32_t end)
{
	return p->window && end > p->window ? end - p->window : 0;
}

/* Of no NaN, as integers of the same order. If there is one, the sum of
 * weights becomes NaN whatever this gives. */
DEV float warp_max(float x)
{
	int b = __float_as_int(x);

	b ^= b >> 31 & 0x7fffffff;
	b = __reduce_max_sync(ALL, b);
	return __int_as_float(b ^ (b >> 31 & 0x7fffffff));
}

/* A query's softmax as far as it has come. Lanes i and i + 16 hold lane i of
 * the sum of weights. */
struct soft {
	float m, l;
};

/* What attn_block() does with scores: @s of this lane's position becomes its
 * weight, and what the sums are rescaled by is returned. */
DEV float soft_block(struct soft *soft, float *s, float top)
{
	float m = max_f(top, soft->m), c = exp_f(soft->m - m);

	soft->m = m;
	*s = exp_f(*s - m);
	soft->l = __fmaf_rn(soft->l, c, *s + __shfl_xor_sync(ALL, *s, 16));
	return c;
}

/* The value of dimension @d of a head, for everyone who wants it; if it is to
 * be quantised, a warp has 32 in a row. */
DEV void result(const struct cu_attn *p, uint32_t t, uint32_t head, uint32_t d,
		float y)
{
	size_t at = ((size_t)t * p->n_head + head) * p->kv.head_dim + d;

	if (p->out)
		p->out[at] = y;
	if (p->act)
		quantise(p->act + at / ACT_BLOCK, y);
}
