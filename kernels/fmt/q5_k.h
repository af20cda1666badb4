/* SPDX-License-Identifier: MIT */
/* q5_k.h - 256 codes of 5 bits in groups of 32: d * sc * q - dmin * mn. */
#ifndef HEARTH_FMT_Q5_K_H
#define HEARTH_FMT_Q5_K_H

#include "fit.h"
#include "fmt.h"

struct q5_k {
	uint16_t d;
	uint16_t dmin;
	uint8_t scales[12];
	uint8_t qh[32]; /* bit i >> 5 of byte i & 31 is bit 4 of code i */
	uint8_t qs[128];
};

#define Q5_K_BYTE(i)  (((i) >> 6) * 32 + ((i)&31))
#define Q5_K_SHIFT(i) (((i) >> 5 & 1) * 4)

FMT_FN void q5_k_codes(const struct q5_k *b, struct fmt_codes *c)
{
	uint8_t sc;
	int i, j;

	for (j = 0; j < 8; j++)
		for (i = 0; i < 32; i++)
			c->q[32 * j + i] =
				(uint8_t)((b->qs[(j >> 1) * 32 + i] >>
						   (j & 1) * 4 &
					   15) |
					  (b->qh[i] >> j & 1) << 4);
	for (i = 0; i < 8; i++) {
		fmt_k_scale(b->scales, i, &sc, &c->mn[i]);
		c->sc[i] = (int8_t)sc;
	}
	c->d = b->d;
	c->m = b->dmin;
}

static inline void q5_k_quant(const float *x, struct q5_k *b)
{
	float d[8], m[8], top_d = 0, top_m = 0, sd, sm, inv, min;
	int i, g, q;

	memset(b, 0, sizeof(*b));
	for (g = 0; g < 8; g++) {
		d[g] = fit_min(x + 32 * g, 32, 31, &m[g]);
		top_d = fmaxf(top_d, d[g]);
		top_m = fmaxf(top_m, -m[g]);
	}
	b->d = f32_to_f16(top_d / 63);
	b->dmin = f32_to_f16(top_m / 63);
	sd = f16_to_f32(b->d);
	sm = f16_to_f32(b->dmin);
	for (g = 0; g < 8; g++) {
		int sc = fit_code(d[g] * fit_inv(sd), 0, 63);
		int mn = fit_code(-m[g] * fit_inv(sm), 0, 63);

		fmt_k_scale_put(b->scales, g, (uint8_t)sc, (uint8_t)mn);
		inv = fit_inv(sd * (float)sc);
		min = sm * (float)mn;
		for (i = 32 * g; i < 32 * g + 32; i++) {
			q = fit_code((x[i] + min) * inv, 0, 31);
			b->qs[Q5_K_BYTE(i)] |=
				(uint8_t)((q & 15) << Q5_K_SHIFT(i));
			b->qh[i & 31] |= (uint8_t)(q >> 4 << (i >> 5));
		}
	}
}

#endif
