/* SPDX-License-Identifier: MIT */
/* q3_k.h - 256 codes of 3 bits in groups of 16: d * sc * (q - 4). */
#ifndef HEARTH_FMT_Q3_K_H
#define HEARTH_FMT_Q3_K_H

#include "fit.h"
#include "fmt.h"

struct q3_k {
	uint8_t hmask[32]; /* bit i >> 5 of byte i & 31 is bit 2 of code i */
	uint8_t qs[64];
	uint8_t scales[12]; /* 16 of 6 bits, offset 32 */
	uint16_t d;
};

#define Q3_K_BYTE(i)  (((i) >> 7) * 32 + ((i)&31))
#define Q3_K_SHIFT(i) (((i) >> 5 & 3) * 2)

FMT_FN void q3_k_codes(const struct q3_k *b, struct fmt_codes *c)
{
	int i, j;

	for (j = 0; j < 8; j++)
		for (i = 0; i < 32; i++)
			c->q[32 * j + i] =
				(uint8_t)((b->qs[(j >> 2) * 32 + i] >>
						   (j & 3) * 2 &
					   3) |
					  (b->hmask[i] >> j & 1) << 2);
	for (i = 0; i < 16; i++) {
		int lo = b->scales[i & 7] >> (i >> 3 << 2) & 15;
		int hi = b->scales[8 + (i & 3)] >> (i >> 2 << 1) & 3;

		c->sc[i] = (int8_t)((lo | hi << 4) - 32);
		c->mn[i] = 0;
	}
	c->d = b->d;
	c->m = 0;
}

static inline void q3_k_quant(const float *x, struct q3_k *b)
{
	float d[16], top = 0, sd, inv;
	int i, g, q;

	memset(b, 0, sizeof(*b));
	for (g = 0; g < 16; g++) {
		d[g] = fit_scale(x + 16 * g, 16, -4, 3);
		if (fabsf(d[g]) > fabsf(top))
			top = d[g];
	}
	b->d = f32_to_f16(top / -32);
	sd = f16_to_f32(b->d);
	for (g = 0; g < 16; g++) {
		int sc = fit_code(d[g] * fit_inv(sd), -32, 31);

		inv = fit_inv(sd * (float)sc);
		sc += 32;
		b->scales[g & 7] |= (uint8_t)((sc & 15) << (g >> 3 << 2));
		b->scales[8 + (g & 3)] |= (uint8_t)(sc >> 4 << (g >> 2 << 1));
		for (i = 16 * g; i < 16 * g + 16; i++) {
			q = fit_code(x[i] * inv, -4, 3) + 4;
			b->qs[Q3_K_BYTE(i)] |=
				(uint8_t)((q & 3) << Q3_K_SHIFT(i));
			b->hmask[i & 31] |= (uint8_t)(q >> 2 << (i >> 5));
		}
	}
}

#endif
