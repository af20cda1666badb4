/* SPDX-License-Identifier: MIT */
/* launch_rows.c - geometry of the kernels of rows.cu. */
#include <errno.h>

#include "../mat.h"
#include "../vec.h"
#include "launch.h"

#define WARP  32u
#define BLOCK 256u
#define Y_MAX 65535u /* of a grid */
#define WARPS 8u     /* a block's heads */

/* A thread an element of a row. */
static int by_row(struct cu_launch *l, uint16_t kernel, uint32_t width,
		  uint32_t n, bool quantised)
{
	if (n > Y_MAX || (quantised && width % ACT_BLOCK))
		return -ENOTSUP;
	l->kernel = kernel;
	l->pdl = 1;
	l->block = width < BLOCK ? cu_up(width, WARP) * WARP : BLOCK;
	l->grid[0] = cu_up(width, l->block);
	l->grid[1] = n;
	l->grid[2] = 1;
	l->smem = 0;
	return 1;
}

int cu_launch_quant(struct cu_launch *l, const struct cu_quant *p,
		    const struct cu_chip *chip)
{
	(void)chip;
	l->p.quant = *p;
	return by_row(l, CU_quant, p->width, p->n, true);
}

int cu_launch_glu(struct cu_launch *l, const struct cu_glu *p,
		  const struct cu_chip *chip)
{
	(void)chip;
	l->p.glu = *p;
	return by_row(l, CU_glu, p->width, p->n, p->act != NULL);
}

int cu_launch_gather(struct cu_launch *l, const struct cu_gather *p,
		     const struct cu_chip *chip)
{
	(void)chip;
	l->p.gather = *p;
	return by_row(l, CU_gather, p->width, p->n, false);
}

/* A row is a block, with a thread for eight elements as far as there are: the
 * time is that of one row's latency. */
int cu_launch_norm(struct cu_launch *l, const struct cu_norm *p,
		   const struct cu_chip *chip)
{
	uint32_t threads = cu_up(p->width, 8 * WARP) * WARP;

	l->p.norm = *p;
	l->kernel = CU_rmsnorm;
	l->pdl = 1;
	l->block = threads < 1024 ? threads : 1024;
	l->grid[0] = p->n;
	l->grid[1] = l->grid[2] = 1;
	l->smem = (cu_up(p->width, VEC_NORM_CHUNK) * VEC_LANES + 1) *
		  (uint32_t)sizeof(float);
	if (l->smem > chip->smem || (p->act && p->width % ACT_BLOCK))
		return -ENOTSUP;
	return 1;
}

int cu_launch_rope_kv(struct cu_launch *l, const struct cu_rope_kv *p,
		      const struct cu_chip *chip)
{
	(void)chip;
	if (p->n > Y_MAX || p->kv.head_dim > VEC_ATTN_DIM ||
	    p->n_rope > p->kv.head_dim)
		return -ENOTSUP;
	l->p.rope_kv = *p;
	l->kernel = CU_rope_kv;
	l->pdl = 1;
	l->block = WARPS * WARP;
	l->grid[0] = cu_up(p->n_head + 2 * p->kv.n_head_kv, WARPS);
	l->grid[1] = p->n;
	l->grid[2] = 1;
	l->smem = WARPS * p->kv.head_dim * (uint32_t)sizeof(float);
	return 1;
}
