/* SPDX-License-Identifier: MIT */
/*
 * rope.h - the tables that queries and keys are rotated by.
 *
 * One computation for all backends, so that all rotate by the same bits.
 */
#ifndef HEARTH_ROPE_H
#define HEARTH_ROPE_H

#include "weights.h"

/* Radians a position of the n_rope / 2 pairs of table @which: malloc()ed, the
 * caller's, or NULL. */
double *rope_freqs(const struct tape *tape, uint32_t which,
		   const struct weights *w, uint32_t n_rope);

/* Cosines and sines of position @pos, n_rope of each, as vec_kernels.rope
 * wants them. */
void rope_row(float *cos_row, float *sin_row, const double *inv_freq,
	      const struct image_hparams *hp, uint32_t pos);

#endif
