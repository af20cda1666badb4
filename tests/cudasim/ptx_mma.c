/* SPDX-License-Identifier: MIT */
/* ptx_mma.c - matrix products of a warp (mma.sync) and of four (wgmma). */
#include <stdlib.h>
#include <string.h>

#include "ptx_ops.h"

static float element(uint64_t reg, int i, int ty)
{
	return ty == T_BF16 ? bf16_of(reg >> 16 * i) : f16_of(reg >> 16 * i);
}

static int byte_at(uint64_t reg, int i, int ty)
{
	return ty == T_S8 ? (int8_t)(reg >> 8 * i) : (uint8_t)(reg >> 8 * i);
}

/* Where element (row, k) of A and (col, k) of B are: PER to a register. */
static uint64_t a_reg(struct ptx_warp *w, const struct ptx_insn *x, int g,
		      int row, int k, int per)
{
	int half = k / (4 * per), in = k % (4 * per);

	return ptx_row(
		w,
		ptx_arg(x, g, half * 2 + (row >> 3)))[(row & 7) * 4 + in / per];
}

static uint64_t b_reg(struct ptx_warp *w, const struct ptx_insn *x, int col,
		      int k, int per)
{
	int half = k / (4 * per), in = k % (4 * per);

	return ptx_row(w, ptx_arg(x, 2, half))[col * 4 + in / per];
}

static void mma_float(struct ptx_warp *w, const struct ptx_insn *x)
{
	uint64_t d[4][32];
	int l, i, k;

	for (l = 0; l < 32; l++)
		for (i = 0; i < 4; i++) {
			int row = (l >> 2) + (i >> 1) * 8;
			int col = 2 * (l & 3) + (i & 1);
			float s = f32_of(ptx_row(w, ptx_arg(x, 3, i))[l]);

			for (k = 0; k < 16; k++)
				s += element(a_reg(w, x, 1, row, k, 2), k & 1,
					     x->ty[1]) *
				     element(b_reg(w, x, col, k, 2), k & 1,
					     x->ty[2]);
			d[i][l] = of_f32(s);
		}
	for (i = 0; i < 4; i++)
		memcpy(ptx_row(w, ptx_arg(x, 0, i)), d[i], sizeof(d[i]));
}

static void mma_int(struct ptx_warp *w, const struct ptx_insn *x)
{
	int l, i, k, n = x->shape[2], a[16][32], b[8][32];
	uint64_t d[4][32];

	for (k = 0; k < n; k++) {
		for (i = 0; i < 16; i++)
			a[i][k] = byte_at(a_reg(w, x, 1, i, k, 4), k & 3,
					  x->ty[1]);
		for (i = 0; i < 8; i++)
			b[i][k] =
				byte_at(b_reg(w, x, i, k, 4), k & 3, x->ty[2]);
	}
	for (l = 0; l < 32; l++)
		for (i = 0; i < 4; i++) {
			int row = (l >> 2) + (i >> 1) * 8;
			int col = 2 * (l & 3) + (i & 1);
			uint32_t s = (uint32_t)ptx_row(w, ptx_arg(x, 3, i))[l];

			for (k = 0; k < n; k++)
				s += (uint32_t)(a[row][k] * b[col][k]);
			d[i][l] = s;
		}
	for (i = 0; i < 4; i++)
		memcpy(ptx_row(w, ptx_arg(x, 0, i)), d[i], sizeof(d[i]));
}

void op_mma(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	bool is_float = x->ty[0] == T_F32 && x->shape[2] == 16 &&
			(x->ty[1] == T_BF16 || x->ty[1] == T_F16);
	bool is_int = x->ty[0] == T_S32 &&
		      (x->shape[2] == 16 || x->shape[2] == 32) &&
		      (x->ty[1] == T_S8 || x->ty[1] == T_U8);
	/* registers of B: 4 bytes each of a column's k, by four lanes */
	int b = x->shape[2] * (is_float ? 2 : 1) / 16;
	bool shape = x->shape[0] == 16 && x->shape[1] == 8 &&
		     ptx_count(x, 0) == 4 && ptx_count(x, 1) == 2 * b &&
		     ptx_count(x, 2) == b && ptx_count(x, 3) == 4;

	(void)ex;
	if (shape && is_float)
		mma_float(w, x);
	else if (shape && is_int)
		mma_int(w, x);
	else
		ptx_fault(w, x, -1, ERR_FAILED,
			  "the simulator lacks mma m%dn%dk%d of these types",
			  x->shape[0], x->shape[1], x->shape[2]);
}

/* ----------------------------------------------------------------- wgmma */

/* Eight elements from row ROW, eighth K8, of a K-major tile. */
static const uint8_t *tile_row(struct ptx_warp *w, const struct ptx_wgmma *g,
			       uint64_t desc, int row, int k8)
{
	uint32_t start = (uint32_t)(desc & 0x3fff) << 4;
	uint32_t lead = (uint32_t)(desc >> 16 & 0x3fff) << 4;
	uint32_t stride = (uint32_t)(desc >> 32 & 0x3fff) << 4;
	uint32_t mode = (uint32_t)(desc >> 62), at, r = (uint32_t)row;

	if (mode) {
		uint32_t bits = 4 - mode; /* 1: 128 bytes, 2: 64, 3: 32 */

		at = start + r / 8 * stride + r % 8 * (16u << bits) +
		     (uint32_t)k8 * 16;
		at ^= (at >> 7 & ((1u << bits) - 1)) << 4;
	} else {
		at = start + r / 8 * stride + (uint32_t)k8 * lead + r % 8 * 16;
	}
	if (!ptx_shared_access(w, g->x, -1, at, 16, ACC_READ, g->clock, w->id))
		return NULL;
	return w->b->shared + at;
}

static bool tile_get(struct ptx_warp *w, const struct ptx_wgmma *g,
		     uint64_t desc, int row, float *to)
{
	int k8, i;

	for (k8 = 0; k8 < 2; k8++) {
		const uint8_t *p = tile_row(w, g, desc, row, k8);
		uint16_t v[8];

		if (!p)
			return false;
		memcpy(v, p, sizeof(v));
		for (i = 0; i < 8; i++)
			to[8 * k8 + i] = element(v[i], 0, g->x->ty[1]);
	}
	return true;
}

/* This warp's 16 of the 64 rows. */
static void product(struct ptx_warp *w, const struct ptx_wgmma *g)
{
	const struct ptx_insn *x = g->x;
	bool from_regs = ptx_count(x, 1) == 4;
	int n = x->shape[1], first = (w->id & 3) * 16, r, c, j, k, l;
	float a[16][16], b[256][16];

	for (r = 0; r < 16; r++) {
		if (!from_regs && !tile_get(w, g, g->a, first + r, a[r]))
			return;
		for (k = 0; from_regs && k < 16; k++)
			a[r][k] = element(a_reg(w, x, 1, r, k, 2), k & 1,
					  x->ty[1]);
		for (k = 0; g->neg_a && k < 16; k++)
			a[r][k] = -a[r][k];
	}
	for (c = 0; c < n; c++) {
		if (!tile_get(w, g, g->b, c, b[c]))
			return;
		for (k = 0; g->neg_b && k < 16; k++)
			b[c][k] = -b[c][k];
	}
	for (j = 0; j < n / 2; j++) {
		uint64_t *D = ptx_row(w, ptx_arg(x, 0, j));

		for (l = 0; l < 32; l++) {
			int row = (l >> 2) + (j >> 1 & 1) * 8;
			int col = (j >> 2) * 8 + 2 * (l & 3) + (j & 1);
			float s = g->add ? f32_of(D[l]) : 0;

			for (k = 0; k < 16; k++)
				s += a[row][k] * b[col][k];
			D[l] = of_f32(s);
		}
	}
}

static uint64_t imm(struct ptx_warp *w, const struct ptx_insn *x, int group)
{
	return group < x->n_groups ? ptx_op_row(w, x, group)[0] : 0;
}

void op_wgmma(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	bool from_regs = ptx_count(x, 1) == 4;
	struct ptx_wgmma *g;
	int i;

	(void)ex;
	if (x->shape[0] != 64 || x->shape[2] != 16 || x->ty[0] != T_F32 ||
	    (x->ty[1] != T_BF16 && x->ty[1] != T_F16) ||
	    ptx_count(x, 0) != x->shape[1] / 2 || imm(w, x, 6) ||
	    (!from_regs && imm(w, x, 7))) {
		ptx_fault(w, x, -1, ERR_FAILED,
			  "the simulator lacks wgmma m%dn%dk%d of these types "
			  "or a transposed operand",
			  x->shape[0], x->shape[1], x->shape[2]);
		return;
	}
	if (w->n_wg == w->wg_room) {
		w->wg_room = w->wg_room ? 2 * w->wg_room : 8;
		w->wg = realloc(w->wg, (size_t)w->wg_room * sizeof(*w->wg));
		if (!w->wg)
			abort();
	}
	g = &w->wg[w->n_wg++];
	*g = (struct ptx_wgmma){
		.x = x,
		.a = ptx_op_row(w, x, 1)[0],
		.b = ptx_op_row(w, x, 2)[0],
		.add = ((ptx_op_row(w, x, 3)[0] & 1) != 0) ^ (x->not_arg == 4),
		.neg_a = (int64_t)imm(w, x, 4) < 0,
		.neg_b = (int64_t)imm(w, x, 5) < 0,
		.group = w->wg_group,
	};
	memcpy(g->clock, w->clock, sizeof(g->clock));
	w->clock[w->id]++;
	for (i = 0; i < ptx_count(x, 0); i++)
		w->wg_reg[ptx_arg(x, 0, i)]++;
}

void op_wgmma_commit(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	(void)x, (void)ex;
	w->wg_group++;
}

/* Products happen here and not before: who reads early reads the old. */
void op_wgmma_wait(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint32_t allowed = (uint32_t)ptx_op_row(w, x, 0)[0];
	int i, j, kept = 0;

	(void)ex;
	for (i = 0; i < w->n_wg; i++) {
		struct ptx_wgmma *g = &w->wg[i];

		if (w->wg_group - g->group <= allowed) {
			w->wg[kept++] = *g;
			continue;
		}
		for (j = 0; j < ptx_count(g->x, 0); j++)
			w->wg_reg[ptx_arg(g->x, 0, j)]--;
		product(w, g);
	}
	w->n_wg = kept;
}
