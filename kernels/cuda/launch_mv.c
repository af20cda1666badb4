/* SPDX-License-Identifier: MIT */
/* launch_mv.c - geometry of the products for few tokens, mv.cu and mvf.cu. */
#include <errno.h>

#include "../shape.h"
#include "launch_mul.h"

#define SUMMERS	   288u	  /* threads of mv.cu but for the chains */
#define FLOATS	   160u	  /* threads of mvf.cu */
#define PREPARED   65536u /* input that a block prepares itself, at most */
#define COPIED	   32768u /* input worth a copy in shared memory */
#define SMEM_BLOCK 1024u  /* of shared memory, what each block costs on top */

static void lay_mat(struct cu_mv *v, uint32_t i)
{
	const struct cu_mat *m = &v->mul.m[i];
	const struct shape *s = &shapes[m->fmt];
	const struct fmt_info *info = &fmt_info[m->fmt];
	struct cu_mv_mat *of = &v->of[i];

	of->bytes = mat_panel_bytes(m->fmt, m->cols);
	of->unit = s->lo ? shape_code_bytes(s)
			 : ACT_BLOCK * MAT_PANEL * info->bytes;
	if (s->lo) {
		of->chunk_scales = v->cols / info->block * s->scale_bytes;
		of->last_scales =
			m->cols % v->cols / info->block * s->scale_bytes;
	}
	of->chain = (s->group < ACT_BLOCK ? CU_CHAIN_HALVES : 0) |
		    (s->kind != SHAPE_OFF ? CU_CHAIN_MIN : 0);
	of->tiles = cu_up(m->rows, MV_ROWS);
	/* half of the banks further than whole rounds, for the two panels */
	of->stride = v->cols / ACT_BLOCK * of->unit + of->chunk_scales;
	of->stride = cu_up(of->stride, 128) * 128 + 64;
	if (2 * of->stride > v->stage)
		v->stage = 2 * of->stride;
	if (s->lo && v->groups < v->cols / s->group)
		v->groups = v->cols / s->group;
	v->tiles = v->mul.glu ? of->tiles : v->tiles + of->tiles;
}

/* Shared memory of a block, or 0 if it cannot be. */
static uint32_t lay(struct cu_mv *v, const struct cu_mul *p,
		    const struct cu_chip *chip)
{
	bool quant = mat_wants_q8((enum fmt)p->m[0].fmt), must;
	uint32_t cols = p->m[0].cols, tokens = p->n > 2 ? CU_FEW : p->n, i;
	uint32_t smem;
	uint64_t acts;

	*v = (struct cu_mv){ .mul = *p };
	if (p->n > CU_FEW || !cols || cols % ACT_BLOCK)
		return 0;
	v->cols = !quant ? 128 : p->n > 2 ? 256 : 512;
	for (i = 0; i < p->n_mats; i++)
		lay_mat(v, i);
	if (quant)
		/* sums of each token, scales and minima */
		v->sum_bytes = v->groups * (tokens + 2) * MV_ROWS * 4;
	else
		/* products of a tile, or half of what norm_rows() wants */
		v->sum_bytes = (CU_FEW * MV_ROWS + p->n * (cols / 32 + 9)) * 4;
	v->sum_bytes = cu_up(v->sum_bytes, 128) * 128;
	smem = MV_STAGES * v->stage + 2 * v->sum_bytes;
	/* tokens a quarter of the banks apart */
	v->act_stride = quant ? cu_up(cols * 2, 128) * 128 + 16 : cols * 4;
	acts = (uint64_t)v->act_stride * p->n;
	must = p->in == CU_IN_NORM || (quant && p->in == CU_IN_FLOAT);
	v->staged = acts <= (must ? PREPARED : COPIED) &&
		    smem + acts <= chip->smem;
	if (v->staged)
		return smem + (uint32_t)acts;
	v->act_stride = cols * (quant ? 2 : 4);
	return must || smem > chip->smem ? 0 : smem;
}

/* Blocks that a multiprocessor holds: more would wait for the first to end, with
 * all others idle by then. What registers allow is as in __launch_bounds__. */
static uint32_t blocks_of(const struct cu_launch *l, const struct cu_chip *chip)
{
	uint32_t n = (chip->smem + SMEM_BLOCK) / (l->smem + SMEM_BLOCK), most;

	if (l->block == FLOATS)
		most = 4;
	else
		most = (l->p.mv.mul.n > 2 ? 2u : 3u) - (chip->cc != 90);
	return n < most ? n : most;
}

bool cu_mul_fits(const struct cu_mul *p, const struct cu_chip *chip)
{
	struct cu_mv v;

	return lay(&v, p, chip) != 0;
}

int cu_launch_mv(struct cu_launch *l, const struct cu_mul *p,
		 const struct cu_chip *chip)
{
	static const uint16_t kernels[2][3] = {
		{ CU_mvf_1, CU_mvf_2, CU_mvf_8 },
		{ CU_mv_1, CU_mv_2, CU_mv_8 },
	};
	bool quant = mat_wants_q8((enum fmt)p->m[0].fmt);
	uint32_t blocks;

	*l = (struct cu_launch){ .pdl = chip->cc >= 90 };
	l->smem = lay(&l->p.mv, p, chip);
	if (!l->smem || (p->act_out && p->m[0].rows % ACT_BLOCK))
		return -ENOTSUP;
	l->kernel = kernels[quant][p->n > 2 ? 2 : p->n - 1];
	l->block = quant ? SUMMERS + 32 * p->n : FLOATS;
	blocks = blocks_of(l, chip) * chip->sms;
	l->grid[0] = blocks < l->p.mv.tiles ? blocks : l->p.mv.tiles;
	l->grid[1] = l->grid[2] = 1;
	return 1;
}
