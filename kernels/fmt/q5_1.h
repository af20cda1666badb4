/* SPDX-License-Identifier: MIT */
/* q5_1.h - 32 codes of 5 bits, scale and minimum: d * q + m. */
#ifndef HEARTH_FMT_Q5_1_H
#define HEARTH_FMT_Q5_1_H

#include "fit.h"
#include "fmt.h"

struct q5_1 {
	uint16_t d;
	uint16_t m;
	uint8_t qh[4]; /* bit i of the 32 is bit 4 of code i */
	uint8_t qs[16];
};

FMT_FN void q5_1_codes(const struct q5_1 *b, struct fmt_codes *c)
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
	c->mn[0] = 1;
	c->d = b->d;
	c->m = b->m;
}

static inline void q5_1_quant(const float *x, struct q5_1 *b)
{
	float m, inv;
	int i, q;

	memset(b, 0, sizeof(*b));
	b->d = f32_to_f16(fit_min(x, 32, 31, &m));
	b->m = f32_to_f16(m);
	inv = fit_inv(f16_to_f32(b->d));
	m = f16_to_f32(b->m);
	for (i = 0; i < 32; i++) {
		q = fit_code((x[i] - m) * inv, 0, 31);
		b->qs[i & 15] |= (uint8_t)((q & 15) << (i >> 4 << 2));
		b->qh[i >> 3] |= (uint8_t)(q >> 4 << (i & 7));
	}
}

#endif
