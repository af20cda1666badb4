/* SPDX-License-Identifier: MIT */
/* rope.c - the tables that queries and keys are rotated by. */
#include "rope.h"

#include <math.h>
#include <stdlib.h>

double *rope_freqs(const struct tape *tape, uint32_t which,
		   const struct weights *w, uint32_t n_rope)
{
	double *inv_freq = calloc(n_rope / 2 + 1, sizeof(*inv_freq));
	const float *div = NULL;
	uint32_t k;

	if (!inv_freq)
		return NULL;
	if (which == TAPE_ROPE_GLOBAL && tape->rope_freqs != TAPE_NONE)
		div = w->vec[tape->rope_freqs];
	for (k = 0; k < n_rope / 2; k++) {
		inv_freq[k] = tape->rope_inv_freq[which][k];
		if (div)
			inv_freq[k] /= (double)div[k];
	}
	return inv_freq;
}

void rope_row(float *cos_row, float *sin_row, const double *inv_freq,
	      const struct image_hparams *hp, uint32_t pos)
{
	bool halves = hp->rope_pairs == IMAGE_ROPE_HALVES;
	uint32_t n = hp->n_rope, k, a, b;
	double angle;

	for (k = 0; k < n / 2; k++) {
		angle = (double)pos * inv_freq[k];
		a = halves ? k : 2 * k;
		b = halves ? k + n / 2 : 2 * k + 1;
		cos_row[a] = cos_row[b] = (float)cos(angle);
		sin_row[b] = (float)sin(angle);
		sin_row[a] = -sin_row[b];
	}
}
