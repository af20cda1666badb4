/* SPDX-License-Identifier: MIT */
/* q6_k.h - 256 codes of 6 bits in groups of 16: d * sc * (q - 32). */
#ifndef HEARTH_FMT_Q6_K_H
#define HEARTH_FMT_Q6_K_H

#include "fit.h"
#include "fmt.h"

struct q6_k {
	uint8_t ql[128];
	uint8_t qh[64];
	int8_t scales[16];
	uint16_t d;
};

#define Q6_K_BYTE(i)	   (((i) >> 7) * 64 + ((i)&63))
#define Q6_K_SHIFT(i)	   (((i) >> 6 & 1) * 4)
#define Q6_K_HIGH(i)	   (((i) >> 7) * 32 + ((i)&31))
#define Q6_K_HIGH_SHIFT(i) (((i) >> 5 & 3) * 2)

FMT_FN void q6_k_codes(const struct q6_k *b, struct fmt_codes *c)
{
	int i, j;

	for (j = 0; j < 8; j++)
		for (i = 0; i < 32; i++)
			c->q[32 * j + i] =
				(uint8_t)((b->ql[(j >> 2) * 64 + (j & 1) * 32 +
						 i] >>
						   (j >> 1 & 1) * 4 &
					   15) |
					  (b->qh[(j >> 2) * 32 + i] >>
						   (j & 3) * 2 &
					   3) << 4);
	for (i = 0; i < 16; i++) {
		c->sc[i] = b->scales[i];
		c->mn[i] = 0;
	}
	c->d = b->d;
	c->m = 0;
}

static inline void q6_k_quant(const float *x, struct q6_k *b)
{
	float d[16], top = 0, sd, inv;
	int i, g, q;

	memset(b, 0, sizeof(*b));
	for (g = 0; g < 16; g++) {
		d[g] = fit_scale(x + 16 * g, 16, -32, 31);
		if (fabsf(d[g]) > fabsf(top))
			top = d[g];
	}
	b->d = f32_to_f16(top / -128);
	sd = f16_to_f32(b->d);
	for (g = 0; g < 16; g++) {
		int sc = fit_code(d[g] * fit_inv(sd), -128, 127);

		b->scales[g] = (int8_t)sc;
		inv = fit_inv(sd * (float)sc);
		for (i = 16 * g; i < 16 * g + 16; i++) {
			q = fit_code(x[i] * inv, -32, 31) + 32;
			b->ql[Q6_K_BYTE(i)] |=
				(uint8_t)((q & 15) << Q6_K_SHIFT(i));
			b->qh[Q6_K_HIGH(i)] |=
				(uint8_t)(q >> 4 << Q6_K_HIGH_SHIFT(i));
		}
	}
}

#endif
