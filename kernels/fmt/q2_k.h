/* SPDX-License-Identifier: MIT */
/* q2_k.h - 256 codes of 2 bits in groups of 16: d * sc * q - dmin * mn. */
#ifndef HEARTH_FMT_Q2_K_H
#define HEARTH_FMT_Q2_K_H

#include "fit.h"
#include "fmt.h"

struct q2_k {
	uint8_t scales[16]; /* scale in the low nibble, minimum in the high */
	uint8_t qs[64];
	uint16_t d;
	uint16_t dmin;
};

/* Where element @i's two bits are: byte and shift. */
#define Q2_K_BYTE(i)  (((i) >> 7) * 32 + ((i)&31))
#define Q2_K_SHIFT(i) (((i) >> 5 & 3) * 2)

FMT_FN void q2_k_codes(const struct q2_k *b, struct fmt_codes *c)
{
	int i, j;

	for (j = 0; j < 8; j++)
		for (i = 0; i < 32; i++)
			c->q[32 * j + i] =
				b->qs[(j >> 2) * 32 + i] >> (j & 3) * 2 & 3;
	for (i = 0; i < 16; i++) {
		c->sc[i] = b->scales[i] & 15;
		c->mn[i] = b->scales[i] >> 4;
	}
	c->d = b->d;
	c->m = b->dmin;
}

static inline void q2_k_quant(const float *x, struct q2_k *b)
{
	float d[16], m[16], top_d = 0, top_m = 0, sd, sm, inv, min;
	int i, g;

	memset(b, 0, sizeof(*b));
	for (g = 0; g < 16; g++) {
		d[g] = fit_min(x + 16 * g, 16, 3, &m[g]);
		top_d = fmaxf(top_d, d[g]);
		top_m = fmaxf(top_m, -m[g]);
	}
	b->d = f32_to_f16(top_d / 15);
	b->dmin = f32_to_f16(top_m / 15);
	sd = f16_to_f32(b->d);
	sm = f16_to_f32(b->dmin);
	for (g = 0; g < 16; g++) {
		int sc = fit_code(d[g] * fit_inv(sd), 0, 15);
		int mn = fit_code(-m[g] * fit_inv(sm), 0, 15);

		b->scales[g] = (uint8_t)(sc | mn << 4);
		inv = fit_inv(sd * (float)sc);
		min = sm * (float)mn;
		for (i = 16 * g; i < 16 * g + 16; i++)
			b->qs[Q2_K_BYTE(i)] |=
				(uint8_t)(fit_code((x[i] + min) * inv, 0, 3)
					  << Q2_K_SHIFT(i));
	}
}

#endif
