/* SPDX-License-Identifier: MIT */
/*
 * cpu.h - the CPU backend from inside: a model's weights and its program.
 *
 * plan.c turns the tape into a short program of parallel regions, step.c runs
 * the program over a batch.
 */
#ifndef HEARTH_CPU_CPU_H
#define HEARTH_CPU_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kernels/mat.h"
#include "../../kernels/vec.h"
#include "../backend.h"
#include "../tape.h"
#include "../weights.h"
#include "workers.h"

struct backend {
	struct workers *workers;
	struct mat_kernels mk;
	struct vec_kernels vk;
	struct backend_conf conf;
};

/* What a row is: a token of the batch, an output row, one with logits. */
enum domain { DOMAIN_TOKENS, DOMAIN_OUT, DOMAIN_LOGITS };

enum region_kind {
	REGION_ROWS, /* ops that take each row by itself */
	REGION_MATMUL,
	REGION_GLU, /* two matmuls, the gate, and quantising the result */
	REGION_ATTN,
};

/* What ROWS regions run besides ops of the tape. */
enum row_kind {
	ROW_ROPE_TABLE = TAPE_KIND_N, /* sines and cosines of the positions */
	ROW_QUANT,		      /* dst's float rows to its act */
};

/**
 * struct op - an op of the tape with its weights at hand
 * @kind:  enum tape_kind or row_kind
 * @quant: the result is quantised into act[dst[0]] where it is made, for
 *         rows of @quant_domain
 * @keep:  the result is stored as floats in the register, too
 */
struct op {
	uint8_t kind;
	uint8_t src;
	uint8_t dst[TAPE_MATS];
	uint8_t n;
	uint8_t act; /* enum vec_act */
	uint8_t rope;
	uint8_t quant_domain;
	bool quant;
	bool keep;
	bool add;
	uint32_t layer;
	uint32_t window;
	float f[2];
	const struct mat *mat[TAPE_MATS];
	const float *vec[TAPE_MATS];
	const float *bias[TAPE_MATS];
};

struct region {
	uint8_t kind;
	uint8_t domain;
	uint32_t first_op;
	uint32_t n_ops;
};

/* A piece of attention work: tokens [tok, tok + n) of one sequence. */
struct attn_piece {
	uint32_t seq;
	uint32_t tok;
	uint32_t n;
};

/**
 * struct backend_model - a loaded model
 * @reg:      registers, NULL where no float is ever stored
 * @act_mem:  memory for a register's quantised rows, NULL if no one reads them
 * @act:      the rows of this step; f and blk may be NULL
 * @rope:     cos and sin of each token: float[max_tokens][n_rope], each table
 * @tok_pos:  position of each token of the batch
 * @tok_slot: its place in the cache: block * KV_BLOCK + position in it
 * @pieces:   attention work of the batch
 * @tmp:      tmp_floats of each worker
 * @kv:       f16[block][layer][kv head][keys, values]
 */
struct backend_model {
	struct backend *be;
	struct image_hparams hp;
	struct weights w;

	struct op *ops;
	struct region *regions;
	uint32_t n_ops;
	uint32_t n_regions;

	uint32_t width[TAPE_REG_N];
	float *reg[TAPE_REG_N];
	struct act act[TAPE_REG_N];
	void *act_mem[TAPE_REG_N];
	double *inv_freq[TAPE_ROPE_N];
	float *rope_cos[TAPE_ROPE_N];
	float *rope_sin[TAPE_ROPE_N];
	uint32_t *tok_pos;
	uint32_t *tok_slot;
	struct attn_piece *pieces;
	uint32_t n_pieces;
	float *tmp;
	size_t tmp_floats;
	void *scratch;
	uint64_t scratch_bytes;

	uint16_t *kv;
	uint64_t kv_bytes;
	uint32_t n_blocks;
};

/* Tokens that attention takes in one unit. */
static inline uint32_t attn_tokens(const struct image_hparams *hp)
{
	uint32_t group = hp->n_head / hp->n_head_kv;

	return group < VEC_ATTN_ROWS ? VEC_ATTN_ROWS / group : 1;
}

/* A GLU unit makes this many rows of the result, a tile of tokens at a time. */
#define GLU_ROWS 64
#define GLU_TILE 256

/* plan.c: program and scratch of a model whose weights are there. */
int plan_build(struct backend_model *m, const struct image *im,
	       const struct tape *tape, char why[160]);
void plan_free(struct backend_model *m);
void plan_info(const struct backend_model *m, struct backend_info *info);
/* As many as conf says, or as there are cores. */
uint32_t plan_threads(const struct backend_conf *conf);

/* step.c */
int cpu_step(struct backend_model *m, struct batch *b);

#endif
