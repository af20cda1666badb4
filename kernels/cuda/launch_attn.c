/* SPDX-License-Identifier: MIT */
/* launch_attn.c - geometry of attn.cu and attn_many.cu. */
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
	if (p->rope.k)
		l->smem += FEW_FRESH(p->kv.head_dim, p->n);
}

/* A block a piece and as many heads as make its warps' queries. */
static void many(struct cu_launch *l, const struct cu_attn *p)
{
	uint32_t dim = p->kv.head_dim, rows = MANY_ROWS(dim);
	uint32_t group = p->n_head / p->kv.n_head_kv;
	uint32_t parts = cu_up(group, MANY_WARPS(dim) * rows / CU_PIECE);
	uint32_t warps = cu_up(cu_up(group, parts) * CU_PIECE, rows);

	l->kernel = dim <= 64	 ? CU_attn_64
		    : dim <= 128 ? CU_attn_128
		    : dim <= 256 ? CU_attn_256
				 : CU_attn_512;
	l->block = warps * WARP;
	l->grid[0] = p->n_pieces;
	l->grid[1] = p->kv.n_head_kv * parts;
	l->grid[2] = 1;
	l->smem = MANY_SMEM(dim, warps);
}

int cu_launch_attn(struct cu_launch *l, const struct cu_attn *p,
		   const struct cu_chip *chip)
{
	uint32_t dim = p->kv.head_dim;

	if (dim % 8 || dim > VEC_ATTN_DIM || (p->act && dim % ACT_BLOCK) ||
	    p->n_head / p->kv.n_head_kv > GROUP_MAX ||
	    (p->rope.k && (p->n > CU_FEW || p->rope.n_rope > dim)))
		return -ENOTSUP;
	l->p.attn = *p;
	l->pdl = 1;
	if (p->n <= CU_FEW)
		few(l, p);
	else
		many(l, p);
	return l->smem + SMEM_OWN > chip->smem ? -ENOTSUP : 1;
}
