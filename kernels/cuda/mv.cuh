/* SPDX-License-Identifier: MIT */
/*
 * mv.cuh - what the products for few tokens share: a block takes tiles of
 * MV_ROWS rows one after the other, and their columns come chunk by chunk
 * through a ring of stages that does not stop between tiles. The weights of the
 * first stages are asked for before the grid before this one has ended.
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

/* Bytes of a panel's codes in a chunk, behind which its scales are. */
DEV uint32_t mv_codes(const struct cu_mv &p, const struct mv_at &at)
{
	return at.cols / ACT_BLOCK * p.of[at.mat].unit;
}

/* Ask for a chunk of both panels; the second may be the first once more. */
DEV void mv_fetch(const struct cu_mv &p, const struct mv_at &at, uint32_t stage)
{
	const struct cu_mv_mat &of = p.of[at.mat];
	const uint8_t *data = (const uint8_t *)p.mul.m[at.mat].data;
	uint32_t last = (p.mul.m[at.mat].rows - 1) / MAT_PANEL, i, k;
	uint32_t begin = at.chunk * p.cols, codes = mv_codes(p, at);
	uint32_t bytes = codes + at.cols / of.block * of.scale_bytes;
	uint64_t scales = (uint64_t)(p.mul.m[0].cols / ACT_BLOCK) * of.unit +
			  (uint64_t)(begin / of.block) * of.scale_bytes;

	for (i = 0; i < MV_ROWS / MAT_PANEL; i++, stage += of.stride) {
		const uint8_t *panel =
			data + of.bytes * min(at.row / MAT_PANEL + i, last);
		const uint8_t *from =
			panel + (uint64_t)(begin / ACT_BLOCK) * of.unit;

		for (k = threadIdx.x * 16; k < bytes; k += blockDim.x * 16)
			cp_async16(stage + k,
				   k < codes ? from + k
					     : panel + scales + (k - codes));
	}
}

/* The first stages but one, and the first chunk. Returns whether there is one. */
DEV bool mv_start(const struct cu_mv &p, struct mv_at *first,
		  struct mv_at *next, bool *more, uint32_t ring)
{
	bool any;
	int i;

	first->pass = first->chunk = 0;
	any = *more = mv_find(p, first);
	*next = *first;
	for (i = 0; i < MV_STAGES - 1; i++) {
		if (*more) {
			mv_fetch(p, *next, ring + i * p.stage);
			*more = mv_next(p, next);
		}
		cp_commit();
	}
	return any;
}

/* What becomes of a product: by a warp, lane i has row i of the tile. @gate is
 * kept from a tile's first pass to the second. */
DEV void mv_end(const struct cu_mv &p, const struct mv_at &at, uint32_t t,
		float v, float *gate)
{
	const struct cu_mul &m = p.mul;
	uint32_t rows = m.m[at.mat].rows, row = at.row + lane_id();
	uint32_t mat = m.glu ? 0 : at.mat;
	float *out = m.out[mat] ? m.out[mat] + (size_t)t * rows + row : NULL;

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
		*out = m.add ? *out + v : v;
}
