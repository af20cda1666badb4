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
	SHAPE(wide, 2, 8, 4, 2, 2, 3, 1, 9, __VA_ARGS__)	\
	SHAPE(slim, 1, 2, 2, 2, 4, 5, 3, 1, __VA_ARGS__)
/* clang-format on */

/*
 * Of a stage, for W bits a code, G scale groups in 32 columns, MIN: has minima
 *	codes	uint32_t[panels][kb][W][16], swizzled: MM_WORD
 *	q	of activations, [kb][tokens][2] of 16 bytes, swizzled
 *	d	float[kb][MM_ROW(tokens)], gaps after each 32
 *	ds	float[kb][G][MM_ROW(tokens)] likewise, with minima
 */
#define MM_ROW(tokens)		      ((tokens) + (tokens) / 32 * 4)
#define MM_CODES_BYTES(panels, kb, w) ((panels) * (kb) * (w)*64)
#define MM_ACT_BYTES(tokens, kb, g, min) \
	((kb) * ((tokens)*32 + MM_ROW(tokens) * 4 * (1 + ((min) ? (g) : 0))))
#define MM_STAGE_BYTES(panels, tokens, kb, w, g, min) \
	(MM_CODES_BYTES(panels, kb, w) + MM_ACT_BYTES(tokens, kb, g, min))

/* Scales and minima of a stage as floats, of which there are two: [kb][G]
 * [panels][8] of rows r and r + 8: scales, then minima. */
#define MM_FACTOR_FLOATS(panels, kb, g, min) \
	((kb) * (g) * (panels)*16 * ((min) ? 2 : 1))

#define MM_BYTES(panels, tokens, kb, stages, w, g, min)           \
	((stages)*MM_STAGE_BYTES(panels, tokens, kb, w, g, min) + \
	 2 * 4 * MM_FACTOR_FLOATS(panels, kb, g, min))

#endif
