/* SPDX-License-Identifier: MIT */
/* launch_gemm.c - geometry of gemm_sm90.cu. */
#include <errno.h>

#include "../mat.h"
#include "launch.h"

#define SMEM (GEMM_STAGES * GEMM_STAGE + GEMM_BARRIERS)

bool cu_gemm_here(const struct cu_chip *chip)
{
	return chip->cc == 90 && chip->smem >= SMEM;
}

/* Of F16 it drops three bits; of F32 it would be sixteen. */
bool cu_gemm_takes(uint32_t fmt, uint32_t cols)
{
	return (fmt == FMT_BF16 || fmt == FMT_F16) && cols % 8 == 0;
}

uint64_t cu_tiles_bytes(uint32_t rows, uint32_t cols)
{
	return (uint64_t)cu_up(rows, 2 * GEMM_TILE) * 2 *
	       cu_up(cols, GEMM_COLS) * GEMM_TILE_BYTES;
}

int cu_launch_tiles(struct cu_launch *l, const struct cu_tiles *p,
		    const struct cu_chip *chip)
{
	uint32_t rows = p->x ? p->n : p->m.rows;
	uint32_t cols = p->x ? p->cols : p->m.cols;

	if (!cu_gemm_here(chip) || cols % 8 ||
	    (!p->x && mat_wants_q8((enum fmt)p->m.fmt)) ||
	    cu_up(rows, 2 * GEMM_TILE) > UINT16_MAX / 2)
		return -ENOTSUP;
	*l = (struct cu_launch){
		.kernel = CU_tiles,
		.pdl = 1,
		.grid = { cu_up(cols, GEMM_COLS),
			  2 * cu_up(rows, 2 * GEMM_TILE), 1 },
		.block = 256,
		.p.tiles = *p,
	};
	return 1;
}

int cu_launch_gemm(struct cu_launch *l, const struct cu_gemm *p,
		   const struct cu_chip *chip)
{
	*l = (struct cu_launch){
		.kernel = CU_gemm,
		.pdl = 1,
		.grid = { cu_up(p->rows, 2 * GEMM_TILE), cu_up(p->n, GEMM_TILE),
			  1 },
		.block = 384,
		.smem = SMEM,
		.p.gemm = *p,
	};
	return cu_gemm_here(chip) && l->grid[1] <= UINT16_MAX ? 1 : -ENOTSUP;
}
