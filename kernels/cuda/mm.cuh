/* SPDX-License-Identifier: MIT */
/* mm.cuh - what the products for many tokens share. */
#pragma once
#include "mm.h"
#include "panel.cuh"

/* A product that is done, of @n tokens with a matrix of so many rows. */
DEV void put(float *out, const float *bias, bool add, uint32_t n, uint32_t rows,
	     uint32_t token, uint32_t row, float v)
{
	if (row >= rows || token >= n)
		return;
	out += (size_t)token * rows + row;
	if (add)
		v = __fadd_rn(*out, v);
	if (bias)
		v = __fadd_rn(v, bias[row]);
	*out = v;
}

DEV void put(const struct cu_mul &p, uint32_t rows, uint32_t token,
	     uint32_t row, float v)
{
	put(p.out[0], p.bias[0], p.add, p.n, rows, token, row, v);
}
