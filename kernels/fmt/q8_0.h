/* SPDX-License-Identifier: MIT */
/* q8_0.h - 32 signed codes of 8 bits, one scale: d * q. */
#ifndef HEARTH_FMT_Q8_0_H
#define HEARTH_FMT_Q8_0_H

#include "fit.h"
#include "fmt.h"

struct q8_0 {
	uint16_t d;
	int8_t qs[32];
};

FMT_FN void q8_0_codes(const struct q8_0 *b, struct fmt_codes *c)
{
	int i;

	for (i = 0; i < 32; i++)
		c->q[i] = (uint8_t)(b->qs[i] ^ 0x80); /* + 128 */
	c->sc[0] = 1;
	c->mn[0] = 0;
	c->d = b->d;
	c->m = 0;
}

static inline void q8_0_quant(const float *x, struct q8_0 *b)
{
	float peak = 0, inv;
	int i;

	for (i = 0; i < 32; i++)
		peak = fmaxf(peak, fabsf(x[i]));
	b->d = f32_to_f16(peak / 127);
	inv = fit_inv(f16_to_f32(b->d));
	for (i = 0; i < 32; i++)
		b->qs[i] = (int8_t)fit_code(x[i] * inv, -127, 127);
}

#endif
