/* SPDX-License-Identifier: MIT */
/* attn.h - what of shared memory attention uses, for attn.cu and its launch. */
#ifndef HEARTH_KERNELS_CUDA_ATTN_H
#define HEARTH_KERNELS_CUDA_ATTN_H

#include "../vec.h"

#define SPAN_BLOCKS (VEC_ATTN_SPAN / VEC_ATTN_BLOCK)

/*
 * Few tokens: a block of SPAN_BLOCKS warps takes a span. Each warp streams the
 * keys of one block of the cache through KEY_DEPTH buffers of KEY_ROWS
 * dimensions; all of them the values through VALUE_DEPTH buffers of
 * FEW_VALUES() positions.
 */
#define KEY_ROWS    32u
#define KEY_DEPTH   2u
#define VALUE_DEPTH 4u
#define HEADS	    4u	/* query heads that lie side by side */
#define GROUP_MAX   16u /* that share a key */

#define FEW_VALUES(dim) ((dim) <= 128 ? 32u : (dim) <= 256 ? 16u : 8u)

/* Heads as they lie, with those that fill up the last four. */
#define FEW_HEADS(group) (((group) + HEADS - 1) / HEADS * HEADS)

/* Bytes, in this order: keys; values; queries, later sums; scores, later
 * weights; of each head what a block's weights rescale the sums by, its
 * largest score and the lanes of the sum of weights; the step's own keys, then
 * values, on their way into the cache. */
#define FEW_KEYS \
	((uint32_t)SPAN_BLOCKS * KEY_DEPTH * KEY_ROWS * VEC_ATTN_BLOCK * 2u)
#define FEW_VALUE_BUF(dim)	(FEW_VALUES(dim) * (dim)*2u)
#define FEW_QUERIES(dim, group) (FEW_HEADS(group) * (dim)*4u)
#define FEW_SCORES(group)	(FEW_HEADS(group) * VEC_ATTN_SPAN * 4u)
#define FEW_HEAD		(SPAN_BLOCKS + 1u + VEC_LANES)
#define FEW_SMEM(dim, group)                           \
	(FEW_KEYS + VALUE_DEPTH * FEW_VALUE_BUF(dim) + \
	 FEW_QUERIES(dim, group) + FEW_SCORES(group) + \
	 FEW_HEADS(group) * FEW_HEAD * 4u)
#define FEW_FRESH(dim, n) ((n) * (dim)*4u)

/*
 * Many tokens: a warp takes MANY_ROWS() queries through all blocks that they
 * see. Bytes: keys and values of a block, queries, weights.
 */
#define MANY_ROWS(dim)	((dim) <= 128 ? 8u : (dim) <= 256 ? 4u : 2u)
#define MANY_WARPS(dim) ((dim) <= 256 ? 4u : 8u) /* at most */
#define MANY_SMEM(dim, warps)        \
	(VEC_ATTN_BLOCK * (dim)*4u + \
	 (warps)*MANY_ROWS(dim) * ((dim) + VEC_ATTN_BLOCK) * 4u)

#endif
