/* SPDX-License-Identifier: MIT */
/*
 * op.h - what the CUDA kernels are given, for them and for the host.
 *
 * The arithmetic is that of ../mat.h and ../vec.h, bit for bit, and so are the
 * layouts of packed matrices, quantised activations and the cache; only the
 * blocks of activations simply go [token][cols / ACT_BLOCK]. A kernel gets one
 * of these structs by value. Every pointer is to device memory. What differs
 * from one step to the next with the same number of tokens is read from
 * memory (tokens, positions, block tables), so that a captured graph of
 * launches can be replayed.
 *
 * float rows of width w are float[n][w] without gaps.
 */
#ifndef HEARTH_KERNELS_CUDA_OP_H
#define HEARTH_KERNELS_CUDA_OP_H

#include <stdint.h>

#define CU_MATS	 3
#define CU_FEW	 8  /* tokens that the kernels for few tokens take */
#define CU_PIECE 16 /* tokens in a piece of attention at most */

struct act_block;
struct top_row;

/* A packed matrix. */
struct cu_mat {
	const void *data;
	uint32_t rows;
	uint32_t cols;
	uint32_t fmt; /* enum fmt */
	uint32_t pad;
};

/* Weights that launches after this one read first, which it asks for to be in
 * the L2 cache by then. Multiples of 16 bytes; 0: none. */
struct cu_ahead {
	const void *from[CU_MATS];
	uint32_t bytes[CU_MATS];
	uint32_t pad;
};

/* out[t] = row tokens[t] of m, times scale unless that is 1 */
struct cu_embed {
	struct cu_mat m;
	const uint32_t *tokens;
	float *out;
	float scale;
	uint32_t n;
	struct cu_ahead ahead;
};

enum cu_in {
	CU_IN_ACT,   /* act: quantised before */
	CU_IN_FLOAT, /* x: used as it is, or quantised on the way */
	CU_IN_NORM,  /* x: rmsnorm by norm and eps first */
};

/**
 * struct cu_mul - products of one input with up to three matrices
 * @m:    of equal columns, either all of float formats or none
 * @bias: added to the product, one addition at the end; NULL: none
 * @out:  float[n][m[i].rows]; with @glu only out[0], and NULL if no one wants
 *        floats
 * @act_out: with @glu: the result quantised, NULL if no one wants that
 * @act, @x, @norm, @eps: the input, see enum cu_in; float formats take no
 *        CU_IN_ACT
 * @n:    tokens
 * @add:  out[0] = out[0] + product (n_mats is 1)
 * @glu:  0, or 1 + enum vec_act: out[0] = act(m[0] . x) * (m[1] . x), n_mats
 *        is 2 and both have the same rows, biases included
 */
struct cu_mul {
	struct cu_mat m[CU_MATS];
	const float *bias[CU_MATS];
	float *out[CU_MATS];
	struct act_block *act_out;
	const struct act_block *act;
	const float *x;
	const float *norm;
	float eps;
	uint32_t n;
	uint32_t n_mats;
	uint8_t in; /* enum cu_in */
	uint8_t add;
	uint8_t glu;
	uint8_t pad;
};

#define MV_ROWS	  32 /* of a tile */
#define MV_STAGES 4  /* chunks of weights in shared memory */

#define CU_CHAIN_HALVES 1 /* groups are 16 wide */
#define CU_CHAIN_MIN	2 /* there are minima */

/* Of a matrix: bytes of a panel, of 32 columns' codes or floats, of the scales
 * of a chunk and of the last one, and of a panel in a stage; tiles; CU_CHAIN_*.
 */
struct cu_mv_mat {
	uint64_t bytes;
	uint32_t unit;
	uint32_t chunk_scales;
	uint32_t last_scales;
	uint32_t stride;
	uint32_t tiles;
	uint32_t chain;
};

/**
 * struct cu_mv - cu_mul for few tokens, as cu_launch_mul() lays it out
 * @cols:   of a chunk
 * @groups: scale groups in a chunk at most
 * @stage:  bytes
 * @sum_bytes: what the sums of a chunk take; two chunks' follow the stages
 * @act_stride: bytes from a token's input to the next
 * @staged: the input is prepared in shared memory, behind the sums
 * @tiles:  of all matrices
 */
struct cu_mv {
	struct cu_mul mul;
	struct cu_mv_mat of[CU_MATS];
	uint32_t cols;
	uint32_t groups;
	uint32_t stage;
	uint32_t sum_bytes;
	uint32_t act_stride;
	uint32_t staged;
	uint32_t tiles;
	uint32_t pad;
};

/* y = rmsnorm(x) * w; then what is not NULL of: out = y, act = quantised y,
 * sum = sum + y. out and sum may be x. */
struct cu_norm {
	const float *x;
	const float *w;
	float *out;
	float *sum;
	struct act_block *act;
	float eps;
	uint32_t width;
	uint32_t n;
	struct cu_ahead ahead;
};

/* act = quantised x */
struct cu_quant {
	const float *x;
	struct act_block *act;
	uint32_t width;
	uint32_t n;
};

/* y = act(g) * u to what is not NULL of out and act_out; @kind is of enum
 * vec_act */
struct cu_glu {
	const float *g;
	const float *u;
	float *out;
	struct act_block *act;
	uint32_t kind;
	uint32_t width;
	uint32_t n;
};

/* out[i] = x[rows[i]] */
struct cu_gather {
	const float *x;
	const uint32_t *rows;
	float *out;
	uint32_t width;
	uint32_t n;
};

/**
 * struct cu_kv - where the cache of a layer is
 * @base:   first key-value head's part of block 0
 * @stride: f16 elements from a block to the next
 * @tables: block tables of the step's sequences
 * @table:  of each token: where its sequence's table begins in @tables
 * @pos:    of each token
 * @n_head_kv, @head_dim: as in the model
 */
struct cu_kv {
	uint16_t *base;
	uint64_t stride;
	const uint32_t *tables;
	const uint32_t *table;
	const uint32_t *pos;
	uint32_t n_head_kv;
	uint32_t head_dim;
};

/**
 * struct cu_rope_kv - norm, rotate, and put keys and values into the cache
 * @q, @k: rows of all heads, changed in place
 * @norm_q, @norm_k: float[head_dim], rmsnorm of each head before; NULL: none
 * @cos, @sin: float[position][n_rope], as vec_kernels.rope wants them
 * @halves: see there
 */
struct cu_rope_kv {
	struct cu_kv kv;
	float *q;
	float *k;
	const float *v;
	const float *norm_q;
	const float *norm_k;
	const float *cos;
	const float *sin;
	float eps;
	uint32_t n_head;
	uint32_t n_rope;
	uint32_t halves;
	uint32_t n;
};

/* Consecutive tokens [tok, tok + n) of one sequence. */
struct cu_piece {
	uint32_t tok;
	uint32_t n;
};

/**
 * struct cu_attn - attention over the cache
 * @q:      float[n][n_head * head_dim], rotated
 * @out:    likewise; NULL if no one wants floats
 * @act:    the same quantised; NULL if no one wants that
 * @part:   float[n][n_head][spans][CU_PART(head_dim)], sums of a span
 * @ticket: uint32_t[n][n_head_kv], zero before and after
 * @pieces: n_pieces that cover the n tokens; not used for few tokens
 * @spans:  at least as many as any token sees of VEC_ATTN_SPAN positions
 * @window: see struct vec_attn
 * @rope:   with k not NULL and few tokens, what it says is done on the way:
 *          q and k are read from it and stay as they are, its kv is not used,
 *          and a sequence's tokens follow each other
 * @ahead:  of few tokens
 */
struct cu_attn {
	struct cu_kv kv;
	const float *q;
	float *out;
	struct act_block *act;
	float *part;
	uint32_t *ticket;
	const struct cu_piece *pieces;
	uint32_t n_pieces;
	float scale;
	uint32_t n_head;
	uint32_t window;
	uint32_t spans;
	uint32_t n;
	struct cu_rope_kv rope;
	struct cu_ahead ahead;
};

#define CU_TOP_CHUNKS 128 /* of a row of logits at most */

/* Of a row, the logits of @n tokens that begin at tokens[at]. */
struct cu_picks {
	uint32_t at;
	uint32_t n;
};

/**
 * struct cu_top - rows of logits in short, and some logits by themselves
 * @x:      float[n][width]
 * @out:    n of ../top.h
 * @part:   uint64_t[n][CU_TOP_PART(width)], of chunks
 * @ticket: uint32_t[n], zero before and after
 * @picks:  of each row, of @tokens: all < width
 * @picked: float[n][most]
 */
struct cu_top {
	const float *x;
	struct top_row *out;
	uint64_t *part;
	uint32_t *ticket;
	const struct cu_picks *picks;
	const uint32_t *tokens;
	float *picked;
	uint32_t most;
	uint32_t width;
	uint32_t n;
	struct cu_ahead ahead;
};

/* A key for each of a chunk's first candidates, and its sum. */
#define CU_TOP_PART(width) (((width) + TOP_CHUNK - 1) / TOP_CHUNK * (TOP_N + 1))

/* Floats of a span's sums: largest score, 16 lanes of weights, the values. */
#define CU_PART(head_dim) ((head_dim) + 32u)

#endif
