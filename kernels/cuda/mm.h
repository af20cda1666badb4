/* SPDX-License-Identifier: MIT */
/*
 * mm.h - tiles of the products for many tokens, for their kernels and for who
 * launches them.
 */
#ifndef HEARTH_KERNELS_CUDA_MM_H
#define HEARTH_KERNELS_CUDA_MM_H

/*
 * SHAPE(name, panels and eights of tokens of a warp, warps along rows and along
 * tokens, blocks of 32 columns a stage, stages, blocks of threads that a
 * multiprocessor shall hold, work, what else is given): work is a tile's beside
 * the others', counted in instructions. Sixteen slim tiles make a wide one, and
 * of a slim one nearly half is operands, which a wide one uses eight times.
 */
/* clang-format off */
#define MM_SHAPES(SHAPE, ...)				\
	SHAPE(wide, 2, 8, 4, 2, 2, 3, 2, 9, __VA_ARGS__)	\
	SHAPE(slim, 1, 2, 2, 2, 4, 5, 3, 1, __VA_ARGS__)
/* clang-format on */

/*
 * Of a stage, for W bits a code, G scale groups in 32 columns, MIN: has minima,
 * PER times 32 columns a block
 *	codes	uint32_t[panels][kb][W][16], swizzled
 *	q	of activations, [kb][tokens][2] of 16 bytes, swizzled
 *	d	float[kb][MM_ROW(tokens)], gaps after each 32
 *	ds	float[kb][G][MM_ROW(tokens)] likewise, with minima
 *	scales	[panels] of a block's, or of kb blocks'
 */
#define MM_ROW(tokens)		      ((tokens) + (tokens) / 32 * 4)
#define MM_CODES_BYTES(panels, kb, w) ((panels) * (kb) * (w)*64)
#define MM_ACT_BYTES(tokens, kb, g, min) \
	((kb) * ((tokens)*32 + MM_ROW(tokens) * 4 * (1 + ((min) ? (g) : 0))))
#define MM_SCALES(kb, per, bytes) ((bytes) * ((per) == 1 ? (kb) : 1))
#define MM_STAGE_BYTES(panels, tokens, kb, w, g, min, per, bytes)           \
	(MM_CODES_BYTES(panels, kb, w) + MM_ACT_BYTES(tokens, kb, g, min) + \
	 (panels)*MM_SCALES(kb, per, bytes))

/* Scales and minima of a stage as floats follow the stages: [kb][G][panels][8]
 * of rows r and r + 8, scales and then minima. */
#define MM_FACTOR_BYTES(panels, kb, g, min) \
	((kb) * (g) * (panels)*64 * ((min) ? 2 : 1))

/* Products of float matrices: a tile, columns of a stage, stages; a stage has
 * weights, and the input as [cols][tokens and a gap]. */
#define MMF_THREADS 256
#define MMF_ROWS    64
#define MMF_TOKENS  64
#define MMF_COLS    32
#define MMF_STAGES  3
#define MMF_STAGE_BYTES(bytes) \
	(MMF_COLS * (MMF_ROWS * (bytes) + (MMF_TOKENS + 4) * 4))

#endif
