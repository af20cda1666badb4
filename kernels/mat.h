/* SPDX-License-Identifier: MIT */
/*
 * mat.h - matrices repacked for the CPU, and their product with activations.
 *
 * Layout. A matrix of @rows x @cols is cut into panels of MAT_PANEL rows; the
 * last panel is padded with zero rows. Inside a panel the elements of the 16
 * rows are interleaved so that one vector lane is one row: a product needs no
 * horizontal sum and its order of additions is the same in plain C (16
 * scalars), AVX2 (two vectors) and AVX-512 (one).
 *
 * Arithmetic, the same bits everywhere (quantised formats): activations are
 * quantised in blocks of ACT_BLOCK to int8 with a float scale,
 *     d = amax / 127, q = rint(x * (127 / amax))
 * (a block whose amax is below ACT_TINY is zero) and for each scale group g of
 * a row, 32 or 16 wide, in ascending order,
 *     acc = fma((float)isum_g, scale_g * d, acc)
 * with isum_g the exact integer sum of products over the group and scale_g
 * the weight's scale (exact in float for every format); formats with a
 * minimum then do acc = fma(min_g, d * (float)sum_g, acc), min_g the constant
 * that the format adds to each weight, sum_g the exact sum of the group's q.
 * Formats with an offset (a weight is scale * (code - offset)) take the code
 * shifted left until the offset is 128 and the scale divided by as much, so
 * that isum_g starts at -128 * sum_g whatever the format.
 * Float formats keep MAT_SUMS partial sums, element k going to sum
 * k % MAT_SUMS by fma, added as (s0 + s1) + (s2 + s3).
 * Nothing depends on how many tokens or panels a call covers. Where C gives a
 * NaN every level gives a NaN, of whatever sign and payload.
 */
#ifndef HEARTH_MAT_H
#define HEARTH_MAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "quant.h"

#define MAT_PANEL 16
#define MAT_SUMS  4
#define MAT_ALIGN 64 /* of packed data and of every activation array */
#define ACT_BLOCK 32

/**
 * struct mat - a packed matrix (borrows @data)
 */
struct mat {
	enum fmt fmt;
	uint32_t rows;
	uint32_t cols;
	const void *data;
};

/* Bytes of one packed panel, and of a packed matrix. cols is a multiple of the
 * format's block. 0 on overflow, or if cols is not. */
uint64_t mat_panel_bytes(enum fmt f, uint64_t cols);
uint64_t mat_bytes(enum fmt f, uint64_t rows, uint64_t cols);

/* Pack up to MAT_PANEL rows of file data (consecutive, row bytes apart) into
 * one panel; missing rows are zero. In plain C; mat_kernels has the fast. */
void mat_pack(enum fmt f, uint32_t cols, const void *rows, uint32_t n_rows,
	      void *panel);

/* False if a scale, minimum or float in a packed panel is infinite or NaN. */
bool mat_panel_finite(enum fmt f, uint32_t cols, const void *panel);

/* Dequantise one row of a packed matrix to @cols floats: equal to the format's
 * dequant() of the file's row. */
void mat_row(const struct mat *m, uint32_t row, float *out);

static inline uint32_t mat_panels(const struct mat *m)
{
	return (m->rows + MAT_PANEL - 1) / MAT_PANEL;
}

/* True if products with this format read quantised activations. */
bool mat_wants_q8(enum fmt f);

/**
 * struct act_block - ACT_BLOCK quantised activations, one cache line
 * @q:     x ~ q * d
 * @d:     scale
 * @off:   -128 * sum of q
 * @ds:    d * (float)sum of q
 * @off16, @ds16: the same over 16 elements each
 */
struct act_block {
	int8_t q[ACT_BLOCK];
	float d;
	int32_t off;
	float ds;
	int32_t off16[2];
	float ds16[2];
	uint32_t pad;
};

/**
 * struct act - activations of @n tokens, input of a product
 * @f:   float[n][cols], read by float formats; the caller sets it, NULL if no
 *       one does
 * @blk: quantised blocks, see act_at()
 *
 * The layout of @blk depends on n, so n is fixed by act_init().
 */
struct act {
	uint32_t n;
	uint32_t cols;
	const float *f;
	struct act_block *blk;
};

/* Bytes of the blocks of @n tokens (a multiple of MAT_ALIGN), and use of @mem,
 * which is MAT_ALIGNed, for them. cols is a multiple of ACT_BLOCK. */
size_t act_bytes(uint32_t n, uint32_t cols);
void act_init(struct act *a, uint32_t n, uint32_t cols, void *mem);

/* Block @b of token @t. Tokens go in tiles of ACT_TILE, the last one lower;
 * inside a tile block comes before token, so that a kernel which walks a tile
 * along k reads memory in order. The next block of a token is act_step()
 * further. */
#define ACT_TILE 16
#define ACT_TINY 0x1p-100f

static inline uint32_t act_step(const struct act *a, uint32_t t)
{
	uint32_t left = a->n - (t & ~(ACT_TILE - 1u));

	return left < ACT_TILE ? left : ACT_TILE;
}

static inline struct act_block *act_at(const struct act *a, uint32_t t,
				       uint32_t b)
{
	size_t t0 = t & ~(ACT_TILE - 1u);

	return a->blk + t0 * (a->cols / ACT_BLOCK) +
	       (size_t)b * act_step(a, t) + (t - t0);
}

/**
 * struct mat_kernels - slots, chosen once for a CPU level
 * @level:     the highest level that has slots of its own in here
 * @act_quant: quantise one token's row @t of @a from @x (cols floats, any
 *             alignment). A NaN or infinity makes the block's scale NaN.
 * @mul:       out[t * out_stride + row] = W[row] . x[t], for the rows of panels
 *             [panel0, panel1) and tokens [0, a->n). Rows past m->rows are not
 *             written. With @add it adds to what is there (one addition at the
 *             end: out = out + product).
 * @pack:      what mat_pack() does
 */
struct mat_kernels {
	enum cpu_level level;
	void (*act_quant)(struct act *a, uint32_t t, const float *x);
	void (*mul[FMT_N])(const struct mat *m, uint32_t panel0,
			   uint32_t panel1, const struct act *a, float *out,
			   size_t out_stride, bool add);
	void (*pack)(enum fmt f, uint32_t cols, const void *rows,
		     uint32_t n_rows, void *panel);
};

/* Fill every slot with C, then overlay what @level has. */
void mat_kernels_init(struct mat_kernels *k, enum cpu_level level);

#endif
