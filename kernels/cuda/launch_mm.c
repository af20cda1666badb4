/* SPDX-License-Identifier: MIT */
/* launch_mm.c - geometry of the products for many tokens, mm.cu and mmf.cu. */
#include <errno.h>

#include "../shape.h"
#include "launch_mul.h"
#include "mm.h"

enum {
#define SHAPE(name, ...) SHAPE_##name,
	MM_SHAPES(SHAPE, )
#undef SHAPE
		SHAPE_N,
};

static const struct tile {
	uint32_t panels, tokens, kb, stages, threads, work;
} tiles[SHAPE_N] = {
#define SHAPE(name, mt, wn, warps_m, warps_n, kb, stages, per_sm, work, ...) \
	[SHAPE_##name] = {                                                   \
		(mt) * (warps_m), 8 * (wn) * (warps_n),	      kb,            \
		stages,		  32 * (warps_m) * (warps_n), work           \
	},
	MM_SHAPES(SHAPE, )
#undef SHAPE
};

static const uint16_t kernels[FMT_N][SHAPE_N] = {
#define FLOAT_FMT(id, ggml, bytes, to, from) [FMT_##id] = { CU_mmf_##id },
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind) \
	[FMT_##id] = { CU_mm_wide_##x, CU_mm_slim_##x },
#include "../quant.def"
};

static uint32_t smem_of(const struct tile *t, enum fmt f)
{
	const struct shape *s = &shapes[f];
	uint32_t groups = ACT_BLOCK / s->group;
	uint32_t per = fmt_info[f].block / ACT_BLOCK;
	bool min = s->kind != SHAPE_OFF;

	return t->stages * MM_STAGE_BYTES(t->panels, t->tokens, t->kb,
					  s->lo + s->hi, groups, min, per,
					  s->scale_bytes) +
	       MM_FACTOR_BYTES(t->panels, t->kb, groups, min);
}

/* The tiles that keep the busiest multiprocessor the shortest. */
static int choose(const struct cu_mat *m, uint32_t n,
		  const struct cu_chip *chip)
{
	uint64_t least = UINT64_MAX, cost;
	int i, best = 0;

	for (i = 0; i < SHAPE_N; i++) {
		const struct tile *t = &tiles[i];

		cost = (uint64_t)cu_up(m->rows, t->panels * MAT_PANEL) *
		       cu_up(n, t->tokens);
		cost = (cost + chip->sms - 1) / chip->sms * t->work;
		if (cost < least &&
		    smem_of(t, (enum fmt)m->fmt) <= chip->smem) {
			least = cost;
			best = i;
		}
	}
	return best;
}

static int quantised(struct cu_launch *l, const struct cu_chip *chip)
{
	const struct cu_mat *m = &l->p.mul.m[0];
	int shape = choose(m, l->p.mul.n, chip);
	const struct tile *t = &tiles[shape];

	l->kernel = kernels[m->fmt][shape];
	l->grid[0] = cu_up(l->p.mul.n, t->tokens);
	l->grid[1] = cu_up(m->rows, t->panels * MAT_PANEL);
	l->block = t->threads;
	l->smem = smem_of(t, (enum fmt)m->fmt);
	if (l->p.mul.in != CU_IN_ACT || m->cols % fmt_info[m->fmt].block ||
	    l->smem > chip->smem || l->grid[1] > UINT16_MAX)
		return -ENOTSUP;
	return 0;
}

static int floats(struct cu_launch *l, const struct cu_chip *chip)
{
	const struct cu_mat *m = &l->p.mul.m[0];

	l->kernel = kernels[m->fmt][0];
	l->grid[0] = cu_up(l->p.mul.n, MMF_TOKENS);
	l->grid[1] = cu_up(m->rows, MMF_ROWS);
	l->block = MMF_THREADS;
	l->smem = MMF_STAGES * MMF_STAGE_BYTES(fmt_info[m->fmt].bytes);
	if (l->p.mul.in != CU_IN_FLOAT || m->cols % MMF_COLS ||
	    l->smem > chip->smem || l->grid[1] > UINT16_MAX)
		return -ENOTSUP;
	return 0;
}

int cu_launch_mm(struct cu_launch *l, const struct cu_mul *p,
		 const struct cu_chip *chip)
{
	uint32_t i;
	int rc;

	if (p->glu)
		return -ENOTSUP;
	for (i = 0; i < p->n_mats; i++) {
		l[i] = (struct cu_launch){
			.pdl = chip->cc >= 90,
			.grid = { 1, 1, 1 },
			.p.mul = *p,
		};
		l[i].p.mul.n_mats = 1;
		l[i].p.mul.m[0] = p->m[i];
		l[i].p.mul.bias[0] = p->bias[i];
		l[i].p.mul.out[0] = p->out[i];
		rc = mat_wants_q8((enum fmt)p->m[i].fmt)
			     ? quantised(&l[i], chip)
			     : floats(&l[i], chip);
		if (rc)
			return rc;
	}
	return (int)p->n_mats;
}
