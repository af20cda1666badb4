/* SPDX-License-Identifier: MIT */
/* launch_attn.c - geometry of the kernels of attn.cu. */
#include <errno.h>

#include "../mat.h"
#include "attn.h"
#include "launch.h"

#define WARP	 32u
#define SMEM_OWN 128u /* at most, that the kernels have beside l->smem */

/* A block a span, key head and token. */
static void few(struct cu_launch *l, const struct cu_attn *p)
{
	l->kernel = CU_attn_few;
	l->block = SPAN_BLOCKS * WARP;
	l->grid[0] = p->spans;
	l->grid[1] = p->kv.n_head_kv;
	l->grid[2] = p->n;
	l->smem = FEW_SMEM(p->kv.head_dim, p->n_head / p->kv.n_head_kv);
}

int cu_launch_attn(struct cu_launch *l, const struct cu_attn *p,
		   const struct cu_chip *chip)
{
	uint32_t dim = p->kv.head_dim;

	if (dim % 8 || dim > VEC_ATTN_DIM || (p->act && dim % ACT_BLOCK) ||
	    p->n_head / p->kv.n_head_kv > GROUP_MAX || p->n > CU_FEW)
		return -ENOTSUP;
	l->p.attn = *p;
	l->pdl = 1;
	few(l, p);
	return l->smem + SMEM_OWN > chip->smem ? -ENOTSUP : 1;
}
