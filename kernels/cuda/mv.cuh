/* SPDX-License-Identifier: MIT */
/*
 * mv.cuh - what the products for few tokens share: a block takes tiles of
 * MV_ROWS rows one after the other, and their columns come chunk by chunk
 * through a ring of stages that does not stop between tiles. One warp asks for
 * them, the first stages' before the grid before this one has ended.
 */
#pragma once
#include "op.h"
#include "panel.cuh"

/**
 * struct mv_at - a chunk of a tile
 * @pass:  of this block; a gate and what it is multiplied with are two
 * @chunk: of the pass
 * @mat:   which matrix
 * @row:   the tile's first
 * @cols:  of the chunk
 */
struct mv_at {
	uint32_t pass;
	uint32_t chunk;
	uint32_t mat;
	uint32_t row;
	uint32_t cols;
};

/* False if the block has no such pass. */
DEV bool mv_find(const struct cu_mv &p, struct mv_at *at)
{
	uint32_t per = p.mul.glu ? 2 : 1, i = 0;
	uint32_t tile = blockIdx.x + at->pass / per * gridDim.x;

	if (tile >= p.tiles)
		return false;
	if (p.mul.glu)
		i = at->pass % 2;
	else
		for (; tile >= p.of[i].tiles; i++)
			tile -= p.of[i].tiles;
	at->mat = i;
	at->row = tile * MV_ROWS;
	at->cols = min(p.cols, p.mul.m[0].cols);
	return true;
}

DEV bool mv_next(const struct cu_mv &p, struct mv_at *at)
{
	uint32_t cols = p.mul.m[0].cols, begin = ++at->chunk * p.cols;

	if (begin < cols) {
		at->cols = min(p.cols, cols - begin);
		return true;
	}
	at->chunk = 0;
	at->pass++;
	return mv_find(p, at);
}

DEV bool mv_ends(const struct cu_mv &p, const struct mv_at &at)
{
	return (at.chunk + 1) * p.cols >= p.mul.m[0].cols;
}

/* By a warp: @bytes, a multiple of 16, into shared memory. */
DEV void mv_copy(uint32_t to, const uint8_t *from, uint32_t bytes)
{
	uint32_t lane = lane_id() * 16, whole = bytes / (WARP * 16), k;

	to += lane;
	from += lane;
#pragma unroll 4
	for (k = 0; k < whole; k++)
		cp_async16(to + k * WARP * 16, from + k * WARP * 16);
	if (lane < bytes % (WARP * 16))
		cp_async16(to + k * WARP * 16, from + k * WARP * 16);
}

/* Ask for a chunk of both panels: codes, and scales behind them. The second
 * panel may be the first once more. */
DEV void mv_fetch(const struct cu_mv &p, const struct mv_at &at, uint32_t stage)
{
	const struct cu_mv_mat &of = p.of[at.mat];
	const uint8_t *data = (const uint8_t *)p.mul.m[at.mat].data;
	uint32_t last = (p.mul.m[at.mat].rows - 1) / MAT_PANEL, i;
	uint32_t block = at.chunk * (p.cols / ACT_BLOCK);
	uint32_t codes = at.cols / ACT_BLOCK * of.unit;
	uint64_t scales = (uint64_t)(p.mul.m[0].cols / ACT_BLOCK) * of.unit +
			  (uint64_t)at.chunk * of.chunk_scales;

	for (i = 0; i < MV_ROWS / MAT_PANEL; i++, stage += of.stride) {
		const uint8_t *panel =
			data + of.bytes * min(at.row / MAT_PANEL + i, last);

		mv_copy(stage, panel + (uint64_t)block * of.unit, codes);
		mv_copy(stage + codes, panel + scales,
			at.cols == p.cols ? of.chunk_scales : of.last_scales);
	}
}

/* Chunks of all tiles of this block. */
DEV uint32_t mv_chunks(const struct cu_mv &p)
{
	uint32_t tiles = (p.tiles - blockIdx.x - 1) / gridDim.x + 1;
	uint32_t chunks = (p.mul.m[0].cols - 1) / p.cols + 1;

	return tiles * chunks * (p.mul.glu ? 2 : 1);
}

/*
 * What the warp that asks does, in two parts: the stages but one; then one stage
 * more for each chunk, once all warps, at a barrier, are done with the chunk
 * before. At barrier i chunk i is there.
 */
DEV void mv_ask(const struct cu_mv &p, struct mv_at *next, bool *more,
		uint32_t stage)
{
	if (*more) {
		mv_fetch(p, *next, stage);
		*more = mv_next(p, next);
	}
	cp_commit();
}

DEV void mv_ask_first(const struct cu_mv &p, struct mv_at *next, bool *more,
		      const void *stages)
{
	uint32_t i;

	*more = mv_find(p, next);
	for (i = 0; i < MV_STAGES - 1; i++)
		mv_ask(p, next, more, smem_at(stages) + i * p.stage);
}

DEV void mv_ask_rest(const struct cu_mv &p, struct mv_at *next, bool *more,
		     const void *stages, uint32_t barriers)
{
	uint32_t i;

	for (i = 0; i < barriers; i++) {
		cp_wait<MV_STAGES - 2>();
		__syncthreads();
		mv_ask(p, next, more,
		       smem_at(stages) +
			       (i + MV_STAGES - 1) % MV_STAGES * p.stage);
	}
}

/* What becomes of a product: by a warp, lane i has row i of the tile. @gate is
 * kept from a tile's first pass to the second. */
DEV void mv_end(const struct cu_mv &p, const struct mv_at &at, uint32_t t,
		float v, float *gate)
{
	const struct cu_mul &m = p.mul;
	uint32_t rows = m.m[at.mat].rows, row = at.row + lane_id();
	uint32_t mat = m.glu ? 0 : at.mat;
	float *out = m.out[mat];

	if (m.add && row < rows)
		v = m.out[0][(size_t)t * rows + row] + v;
	if (m.bias[at.mat] && row < rows)
		v = v + m.bias[at.mat][row];
	if (m.glu && at.mat == 0) {
		*gate = v;
		return;
	}
	if (m.glu)
		v = glu_f(m.glu - 1u, *gate, v);
	if (m.glu && m.act_out)
		quantise(m.act_out + (size_t)t * (rows / ACT_BLOCK) +
				 at.row / ACT_BLOCK,
			 v);
	if (out && row < rows)
		out[(size_t)t * rows + row] = v;
}
