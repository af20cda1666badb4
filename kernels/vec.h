/* SPDX-License-Identifier: MIT */
/*
 * vec.h - everything a step computes that is no matrix product.
 *
 * Slots are chosen once for a CPU level, and all levels give the same bits.
 * That holds because every slot is specified in lanes: 16 floats side by side,
 * element i in lane i % 16, whatever the machine's vectors are, and because
 * - a sum over lanes is one tree: lane l with l + 8, then l + 4, l + 2, l + 1;
 * - a product that feeds a sum is a fused multiply-add where the text below
 *   says fma(), and never where it does not;
 * - the largest of a and b is (a > b ? a : b);
 * - exp is vec_exp() below, not libm's.
 * kernels/ref/vec_c.c is the specification; no slot allocates, and pointers
 * need no alignment.
 */
#ifndef HEARTH_VEC_H
#define HEARTH_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

#define VEC_LANES 16

/*
 * exp(x) = 2^k * e^r with k = rint(x / ln 2) and r = x - k ln 2 taken in two
 * pieces; e^r = 1 + r + r^2 P(r), P a minimax polynomial (relative error
 * 3e-9 before rounding). Below VEC_EXP_MIN it is 0, above VEC_EXP_MAX that
 * value's exp; NaN stays NaN.
 */
#define VEC_EXP_MIN    (-87.0f)
#define VEC_EXP_MAX    88.0f
#define VEC_EXP_LOG2E  0x1.715476p+0f
#define VEC_EXP_MAGIC  0x1.8p+23f /* adding it rounds to an integer */
#define VEC_EXP_LN2_HI 0x1.62e4p-1f
#define VEC_EXP_LN2_LO 0x1.7f7d1cp-20f
#define VEC_EXP_C2     0x1.fffffcp-2f
#define VEC_EXP_C3     0x1.555490p-3f
#define VEC_EXP_C4     0x1.5558f4p-5f
#define VEC_EXP_C5     0x1.123a6cp-7f
#define VEC_EXP_C6     0x1.6a2352p-10f

/* gelu: x / (1 + exp(-2 y)), y = sqrt(2 / pi) (x + 0.044715 x^3) */
#define VEC_GELU_A (-0x1.988454p+0f) /* -2 sqrt(2 / pi) */
#define VEC_GELU_B 0x1.6e4e26p-5f    /* 0.044715 */

enum vec_act { VEC_SILU, VEC_GELU_TANH, VEC_ACT_N };

#define VEC_NORM_CHUNK 256 /* elements whose squares are summed apart */

#define VEC_ATTN_BLOCK 32  /* positions in a block of the cache */
#define VEC_ATTN_SPAN  256 /* positions whose softmax is taken apart */
#define VEC_ATTN_ROWS  32  /* queries in one call at most, heads x tokens */
#define VEC_ATTN_DIM   512 /* head_dim at most */

/**
 * struct vec_attn - attention of consecutive tokens of one sequence, for the
 *                   query heads that share one key/value head
 * @kv:       this head's part of block 0 of the cache. Keys come first, a lane
 *            a position: f16[head_dim][32], then values: f16[32][head_dim].
 * @stride:   f16 elements from a block to the next
 * @blocks:   block table of the sequence: position p is in block
 *            blocks[p / 32]
 * @head_dim: elements of a head
 * @n_group:  query heads
 * @n_tok:    tokens; n_tok * n_group <= VEC_ATTN_ROWS
 * @pos:      position of the first token; a token sees itself and what is
 *            before it, and all that is already in the cache
 * @window:   it sees only the last @window of these, 0 is all
 * @scale:    factor on q.k
 * @q:        query of head g of token t at q[t * q_stride + g * head_dim]
 * @out:      likewise with out_stride
 */
struct vec_attn {
	const uint16_t *kv;
	size_t stride;
	const uint32_t *blocks;
	uint32_t head_dim;
	uint32_t n_group;
	uint32_t n_tok;
	uint32_t pos;
	uint32_t window;
	float scale;
	const float *q;
	size_t q_stride;
	float *out;
	size_t out_stride;
};

/**
 * struct vec_kernels - slots, chosen once for a CPU level
 * @rmsnorm: out = x * s * w, s = 1 / sqrt(sum / n + eps); out may be x. @w
 *           NULL is all ones. Squares are summed in chunks of VEC_NORM_CHUNK
 *           elements, the last may be shorter: in a chunk by fma in 16 lanes
 *           from 0, elements ascending; then the chunks' lanes are added to
 *           the first chunk's, chunks ascending; then the tree.
 * @add:     out = out + x
 * @scale:   x = x * s
 * @rope:    rotates the first n elements of x by tables of n entries each:
 *           x[i] = fma(x[i], cos[i], partner(i) * sin[i]). The partner is the
 *           other one of the pair (2i, 2i + 1), or with @halves of
 *           (i, i + n / 2); sin is negative at a pair's first element.
 * @glu:     out = act(g) * u, one slot an activation; out may be g or u.
 *           act(x) = x / (1 + exp(..)): silu exp(-x), gelu see above.
 * @to_f16:  rounds to nearest even
 * @attn:    softmax over the positions that a query sees, in spans: span s is
 *           positions [256 s, 256 s + 256), VEC_ATTN_SPAN, wherever the window
 *           begins. A span that has a visible position is an online softmax
 *           over its visible blocks, ascending, from m = -inf (largest score),
 *           l = 0 (sum of weights, 16 lanes) and acc = 0 (weighted sum of
 *           values); what a block does to them is attn_block() of
 *           kernels/ref/vec_c.c. The total is the first such span's (m, l,
 *           acc) as it is; a further one (m2, l2, acc2), ascending, goes into
 *           the total (m1, l1, acc1) by
 *             m = (m2 > m1 ? m2 : m1), c1 = exp(m1 - m), c2 = exp(m2 - m)
 *             l = fma(l1, c1, l2 * c2), lane by lane
 *             acc = fma(acc1, c1, acc2 * c2), dimension by dimension
 *           In the end out = acc * (1 / tree(l)). So spans can be computed
 *           anywhere and merged later. Scores that are NaN or +inf, or all
 *           -inf in the first visible block of a span, make the result NaN.
 *           A query's result depends on nothing but the query, its position,
 *           the window and what is cached for positions that it sees.
 */
struct vec_kernels {
	enum cpu_level level;
	void (*rmsnorm)(float *out, const float *x, const float *w, uint32_t n,
			float eps);
	void (*add)(float *out, const float *x, uint32_t n);
	void (*scale)(float *x, float s, uint32_t n);
	void (*rope)(float *x, const float *cos, const float *sin, uint32_t n,
		     bool halves);
	void (*glu[VEC_ACT_N])(float *out, const float *g, const float *u,
			       uint32_t n);
	void (*to_f16)(uint16_t *out, const float *x, uint32_t n);
	void (*attn)(const struct vec_attn *a);
};

/* Fill every slot with C, then overlay what @level has. */
void vec_kernels_init(struct vec_kernels *k, enum cpu_level level);

/* What each file of kernels fills in; for vec.c and tests alone. */
void vec_fill_c(struct vec_kernels *k);
void vec_fill_avx2(struct vec_kernels *k);
void vec_fill_avx512(struct vec_kernels *k);

/* One value, for tests and for tables that are made once. */
float vec_exp(float x);
float vec_from_f16(uint16_t h);
uint16_t vec_to_f16(float f);

#endif
