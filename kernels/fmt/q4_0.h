/* SPDX-License-Identifier: MIT */
/* q4_0.h - 32 codes of 4 bits, one scale: d * (q - 8). */
#ifndef HEARTH_FMT_Q4_0_H
#define HEARTH_FMT_Q4_0_H

#include "fit.h"
#include "fmt.h"

struct q4_0 {
	uint16_t d;
	uint8_t qs[16];
};

FMT_FN void q4_0_codes(const struct q4_0 *b, struct fmt_codes *c)
{
	int i;

	for (i = 0; i < 16; i++) {
		c->q[i] = b->qs[i] & 15;
		c->q[i + 16] = b->qs[i] >> 4;
	}
	c->sc[0] = 1;
	c->mn[0] = 0;
	c->d = b->d;
	c->m = 0;
}

static inline void q4_0_quant(const float *x, struct q4_0 *b)
{
	float inv;
	int i;

	b->d = f32_to_f16(fit_scale(x, 32, -8, 7));
	inv = fit_inv(f16_to_f32(b->d));
	for (i = 0; i < 16; i++)
		b->qs[i] =
			(uint8_t)((fit_code(x[i] * inv, -8, 7) + 8) |
				  (fit_code(x[i + 16] * inv, -8, 7) + 8) << 4);
}

#endif
