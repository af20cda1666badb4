/* SPDX-License-Identifier: MIT */
/* q5_0.h - 32 codes of 5 bits, one scale: d * (q - 16). */
#ifndef HEARTH_FMT_Q5_0_H
#define HEARTH_FMT_Q5_0_H

#include "fit.h"
#include "fmt.h"

struct q5_0 {
	uint16_t d;
	uint8_t qh[4]; /* bit i of the 32 is bit 4 of code i */
	uint8_t qs[16];
};

FMT_FN void q5_0_codes(const struct q5_0 *b, struct fmt_codes *c)
{
	int i;

	for (i = 0; i < 16; i++) {
		c->q[i] = (uint8_t)((b->qs[i] & 15) |
				    (b->qh[i >> 3] >> (i & 7) & 1) << 4);
		c->q[i + 16] =
			(uint8_t)(b->qs[i] >> 4 |
				  (b->qh[2 + (i >> 3)] >> (i & 7) & 1) << 4);
	}
	c->sc[0] = 1;
	c->mn[0] = 0;
	c->d = b->d;
	c->m = 0;
}

static inline void q5_0_quant(const float *x, struct q5_0 *b)
{
	float inv;
	int i, q;

	memset(b, 0, sizeof(*b));
	b->d = f32_to_f16(fit_scale(x, 32, -16, 15));
	inv = fit_inv(f16_to_f32(b->d));
	for (i = 0; i < 32; i++) {
		q = fit_code(x[i] * inv, -16, 15) + 16;
		b->qs[i & 15] |= (uint8_t)((q & 15) << (i >> 4 << 2));
		b->qh[i >> 3] |= (uint8_t)(q >> 4 << (i & 7));
	}
}

#endif
