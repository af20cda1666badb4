/* SPDX-License-Identifier: MIT */
/*
 * gemm.h - BF16 products of chips with compute capability 9.0.
 *
 * An operand is tiles of GEMM_TILE rows x GEMM_COLS columns, cu_tiles_bytes() of
 * them; its rows are filled up to a multiple of 2 * GEMM_TILE.
 */
#ifndef HEARTH_KERNELS_CUDA_GEMM_H
#define HEARTH_KERNELS_CUDA_GEMM_H

#include "op.h"

#define GEMM_TILE	128
#define GEMM_COLS	64
#define GEMM_TILE_BYTES (GEMM_TILE * GEMM_COLS * 2)
#define GEMM_STAGE	(3 * GEMM_TILE_BYTES) /* tokens, twice as many rows */
#define GEMM_STAGES	4
#define GEMM_BARRIERS	(2 * GEMM_STAGES * 8) /* bytes, behind the stages */

/* Tiles of a matrix of a float format, or if @x is not NULL of float[n][cols] */
struct cu_tiles {
	struct cu_mat m;
	const float *x;
	uint16_t *out;
	uint32_t n;
	uint32_t cols;
};

/* out[t] = w . x[t] of operands as tiles, or with @add out[t] + that; then plus
 * bias, unless that is NULL: near it, and not its bits. Those of a row depend on
 * nothing but the row. */
struct cu_gemm {
	const uint16_t *w;
	const uint16_t *x;
	const float *bias;
	float *out;
	uint32_t rows;
	uint32_t cols;
	uint32_t n;
	uint32_t add;
};

#endif
