/* SPDX-License-Identifier: MIT */
/* vec_avx512.c - 16 lanes are one vector. */
#include <immintrin.h>
#include <stdint.h>

typedef __m512 v16;

#define SHIM static inline __attribute__((always_inline))

#define QK_ROWS	  8
#define QK_HALVES 2
#define PV_ROWS	  4
#define PV_VECS	  4
#define FILL	  vec_fill_avx512

SHIM v16 vl(const float *p)
{
	return _mm512_loadu_ps(p);
}

SHIM void vs(float *p, v16 v)
{
	_mm512_storeu_ps(p, v);
}

SHIM __mmask16 first_n(uint32_t n)
{
	return (__mmask16)((1u << n) - 1);
}

SHIM v16 vl_n(const float *p, uint32_t n)
{
	return _mm512_maskz_loadu_ps(first_n(n), p);
}

SHIM void vs_n(float *p, v16 v, uint32_t n)
{
	_mm512_mask_storeu_ps(p, first_n(n), v);
}

SHIM v16 vh(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

SHIM void vsh(uint16_t *p, v16 v)
{
	_mm256_storeu_si256((__m256i *)p,
			    _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT |
						       _MM_FROUND_NO_EXC));
}

SHIM v16 v1(float f)
{
	return _mm512_set1_ps(f);
}

SHIM v16 vadd(v16 a, v16 b)
{
	return _mm512_add_ps(a, b);
}

SHIM v16 vsub(v16 a, v16 b)
{
	return _mm512_sub_ps(a, b);
}

SHIM v16 vmul(v16 a, v16 b)
{
	return _mm512_mul_ps(a, b);
}

SHIM v16 vdiv(v16 a, v16 b)
{
	return _mm512_div_ps(a, b);
}

SHIM v16 vfma(v16 a, v16 b, v16 c)
{
	return _mm512_fmadd_ps(a, b, c);
}

SHIM v16 vmax(v16 a, v16 b)
{
	return _mm512_max_ps(a, b);
}

SHIM v16 vmin(v16 a, v16 b)
{
	return _mm512_min_ps(a, b);
}

SHIM v16 vpow2(v16 k)
{
	__m512i i = _mm512_slli_epi32(_mm512_castps_si512(k), 23);

	return _mm512_castsi512_ps(
		_mm512_add_epi32(i, _mm512_set1_epi32(0x3f800000)));
}

SHIM v16 vzero_below(v16 x, float m, v16 y)
{
	__mmask16 k = _mm512_cmp_ps_mask(x, _mm512_set1_ps(m), _CMP_NLT_UQ);

	return _mm512_maskz_mov_ps(k, y);
}

SHIM v16 vkeep(v16 x, int32_t lo, int32_t hi)
{
	__m512i i = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,
				     3, 2, 1, 0);
	__mmask16 k = _mm512_cmpge_epi32_mask(i, _mm512_set1_epi32(lo)) &
		      _mm512_cmplt_epi32_mask(i, _mm512_set1_epi32(hi));

	return _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), k, x);
}

SHIM v16 vswap(v16 x)
{
	return _mm512_permute_ps(x, 0xb1);
}

/* Halves on halves: l + 8, l + 4, l + 2, l + 1. */
#define TREE(v, op)                                                \
	__m256 y = _mm256_##op##_ps(_mm512_castps512_ps256(v),     \
				    _mm512_extractf32x8_ps(v, 1)); \
	__m128 x = _mm_##op##_ps(_mm256_castps256_ps128(y),        \
				 _mm256_extractf128_ps(y, 1));     \
	x = _mm_##op##_ps(x, _mm_movehl_ps(x, x));                 \
	return _mm_cvtss_f32(_mm_##op##_ss(x, _mm_movehdup_ps(x)))

SHIM float vtree_sum(v16 v)
{
	TREE(v, add);
}

SHIM float vtree_max(v16 v)
{
	TREE(v, max);
}

#include "vec_simd.h"
