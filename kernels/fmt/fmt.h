/* SPDX-License-Identifier: MIT */
/*
 * fmt.h - what the block formats have in common: half floats and codes.
 *
 * A format header gives the block's layout as in the file and
 *	<fmt>_codes()	its integers in element order, without arithmetic
 *	<fmt>_quant()	a block from floats (host only)
 * Everything else (floats, packing) follows from the codes.
 */
#ifndef HEARTH_FMT_H
#define HEARTH_FMT_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define FMT_FN __host__ __device__ static inline
#else
#define FMT_FN static inline
#endif

#define FMT_BLOCK_MAX 256

/**
 * struct fmt_codes - one block taken apart
 * @q:  unsigned codes, the format's offset not yet taken off
 * @sc: scale of each group, 1 where the format has one scale a block
 * @mn: minimum of each group, 0 or 1 likewise
 * @d, @m: half floats by which @sc and @mn are multiplied
 */
struct fmt_codes {
	uint8_t q[FMT_BLOCK_MAX];
	int8_t sc[16];
	uint8_t mn[16];
	uint16_t d;
	uint16_t m;
};

FMT_FN float fmt_bits_float(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

FMT_FN uint32_t fmt_float_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

/* Exact; a signalling NaN becomes quiet, as in hardware. */
FMT_FN float f16_to_f32(uint16_t h)
{
#ifdef __CUDA_ARCH__
	float f;

	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
	return f;
#else
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exp = (h >> 10) & 31;
	uint32_t man = h & 0x3ff;

	if (exp == 31)
		return fmt_bits_float(sign | 0x7f800000 | man << 13 |
				      (man ? 0x400000 : 0));
	if (exp)
		return fmt_bits_float(sign | (exp + 112) << 23 | man << 13);
	return fmt_bits_float(sign | fmt_float_bits((float)man * 0x1p-24f));
#endif
}

/* Round to nearest, ties to even, as in hardware. */
FMT_FN uint16_t f32_to_f16(float f)
{
	uint32_t u = fmt_float_bits(f);
	uint32_t sign = (u >> 16) & 0x8000;
	uint32_t a = u & 0x7fffffff;
	uint32_t r;

	if (a > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
	if (a >= 0x477ff000)
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) {
		/* adding 0.5 leaves the subnormal's bits in the last ten */
		r = fmt_float_bits(fmt_bits_float(a) + 0.5f) - 0x3f000000;
		return (uint16_t)(sign | r);
	}
	r = a - 0x38000000;
	r += 0xfff + ((r >> 13) & 1);
	return (uint16_t)(sign | r >> 13);
}

FMT_FN float bf16_to_f32(uint16_t h)
{
	return fmt_bits_float((uint32_t)h << 16);
}

FMT_FN uint16_t f32_to_bf16(float f)
{
	uint32_t u = fmt_float_bits(f);

	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* The 6-bit scale and minimum @j of the 12 bytes that Q4_K and Q5_K share. */
FMT_FN void fmt_k_scale(const uint8_t *s, int j, uint8_t *sc, uint8_t *mn)
{
	if (j < 4) {
		*sc = s[j] & 63;
		*mn = s[j + 4] & 63;
	} else {
		*sc = (uint8_t)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
		*mn = (uint8_t)(s[j + 4] >> 4 | s[j] >> 6 << 4);
	}
}

FMT_FN void fmt_k_scale_put(uint8_t *s, int j, uint8_t sc, uint8_t mn)
{
	if (j < 4) {
		s[j] = (uint8_t)((s[j] & 0xc0) | sc);
		s[j + 4] = (uint8_t)((s[j + 4] & 0xc0) | mn);
	} else {
		s[j + 4] = (uint8_t)((sc & 15) | (mn & 15) << 4);
		s[j - 4] = (uint8_t)((s[j - 4] & 63) | sc >> 4 << 6);
		s[j] = (uint8_t)((s[j] & 63) | mn >> 4 << 6);
	}
}

#endif
