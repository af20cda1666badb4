/* SPDX-License-Identifier: MIT */
/* q4_1.h - 32 codes of 4 bits, scale and minimum: d * q + m. */
#ifndef HEARTH_FMT_Q4_1_H
#define HEARTH_FMT_Q4_1_H

#include "fit.h"
#include "fmt.h"

struct q4_1 {
	uint16_t d;
	uint16_t m;
	uint8_t qs[16];
};

FMT_FN void q4_1_codes(const struct q4_1 *b, struct fmt_codes *c)
{
	int i;

	for (i = 0; i < 16; i++) {
		c->q[i] = b->qs[i] & 15;
		c->q[i + 16] = b->qs[i] >> 4;
	}
	c->sc[0] = 1;
	c->mn[0] = 1;
	c->d = b->d;
	c->m = b->m;
}

static inline void q4_1_quant(const float *x, struct q4_1 *b)
{
	float m, inv;
	int i;

	b->d = f32_to_f16(fit_min(x, 32, 15, &m));
	b->m = f32_to_f16(m);
	inv = fit_inv(f16_to_f32(b->d));
	m = f16_to_f32(b->m);
	for (i = 0; i < 16; i++)
		b->qs[i] =
			(uint8_t)(fit_code((x[i] - m) * inv, 0, 15) |
				  fit_code((x[i + 16] - m) * inv, 0, 15) << 4);
}

#endif
