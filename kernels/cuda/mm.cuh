/* SPDX-License-Identifier: MIT */
/* mm.cuh - what the products for many tokens share. */
#pragma once
#include "mm.h"
#include "panel.cuh"

/* A product that is done, of a matrix of so many rows. */
DEV void put(const struct cu_mul &p, uint32_t rows, uint32_t token,
	     uint32_t row, float v)
{
	float *out = p.out[0] + (size_t)token * rows + row;

	if (row >= rows || token >= p.n)
		return;
	if (p.add)
		v = __fadd_rn(*out, v);
	if (p.bias[0])
		v = __fadd_rn(v, p.bias[0][row]);
	*out = v;
}
