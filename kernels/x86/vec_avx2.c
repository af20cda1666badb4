/* SPDX-License-Identifier: MIT */
/* vec_avx2.c - 16 lanes are two vectors. */
#include <immintrin.h>
#include <stdint.h>

typedef struct {
	__m256 a, b; /* lanes 0-7, 8-15 */
} v16;

#define SHIM static inline __attribute__((always_inline))

#define QK_ROWS	  4
#define QK_HALVES 1
#define PV_ROWS	  2
#define PV_VECS	  2
#define FILL	  vec_fill_avx2

#define BOTH(ea, eb)       \
	(v16)              \
	{                  \
		(ea), (eb) \
	}

SHIM v16 vl(const float *p)
{
	return BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}

SHIM void vs(float *p, v16 v)
{
	_mm256_storeu_ps(p, v.a);
	_mm256_storeu_ps(p + 8, v.b);
}

/* Lanes [0, n) of eight, n of any sign. */
SHIM __m256i first_n(int32_t n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
				  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SHIM v16 vl_n(const float *p, uint32_t n)
{
	return BOTH(_mm256_maskload_ps(p, first_n(n)),
		    _mm256_maskload_ps(p + 8, first_n((int32_t)n - 8)));
}

SHIM void vs_n(float *p, v16 v, uint32_t n)
{
	_mm256_maskstore_ps(p, first_n(n), v.a);
	_mm256_maskstore_ps(p + 8, first_n((int32_t)n - 8), v.b);
}

SHIM v16 vh(const uint16_t *p)
{
	return BOTH(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
		    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)));
}

SHIM void vsh(uint16_t *p, v16 v)
{
	_mm_storeu_si128((__m128i *)p,
			 _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
	_mm_storeu_si128((__m128i *)p + 1,
			 _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}

SHIM v16 v1(float f)
{
	return BOTH(_mm256_set1_ps(f), _mm256_set1_ps(f));
}

#define LANEWISE(name, op)                               \
	SHIM v16 name(v16 x, v16 y)                      \
	{                                                \
		return BOTH(_mm256_##op##_ps(x.a, y.a),  \
			    _mm256_##op##_ps(x.b, y.b)); \
	}

LANEWISE(vadd, add)
LANEWISE(vsub, sub)
LANEWISE(vmul, mul)
LANEWISE(vdiv, div)
LANEWISE(vmax, max)
LANEWISE(vmin, min)

SHIM v16 vfma(v16 x, v16 y, v16 z)
{
	return BOTH(_mm256_fmadd_ps(x.a, y.a, z.a),
		    _mm256_fmadd_ps(x.b, y.b, z.b));
}

SHIM __m256 pow2_8(__m256 k)
{
	__m256i i = _mm256_slli_epi32(_mm256_castps_si256(k), 23);

	return _mm256_castsi256_ps(
		_mm256_add_epi32(i, _mm256_set1_epi32(0x3f800000)));
}

SHIM v16 vpow2(v16 k)
{
	return BOTH(pow2_8(k.a), pow2_8(k.b));
}

SHIM __m256 zero_below_8(__m256 x, float m, __m256 y)
{
	return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(m), _CMP_NLT_UQ),
			     y);
}

SHIM v16 vzero_below(v16 x, float m, v16 y)
{
	return BOTH(zero_below_8(x.a, m, y.a), zero_below_8(x.b, m, y.b));
}

SHIM __m256 keep_8(__m256 x, int32_t lo, int32_t hi)
{
	__m256i k = _mm256_andnot_si256(first_n(lo), first_n(hi));

	return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), x,
				_mm256_castsi256_ps(k));
}

SHIM v16 vkeep(v16 x, int32_t lo, int32_t hi)
{
	return BOTH(keep_8(x.a, lo, hi), keep_8(x.b, lo - 8, hi - 8));
}

SHIM v16 vswap(v16 x)
{
	return BOTH(_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1));
}

/* Halves on halves: l + 8, l + 4, l + 2, l + 1. */
#define TREE(v, op)                                            \
	__m256 y = _mm256_##op##_ps(v.a, v.b);                 \
	__m128 x = _mm_##op##_ps(_mm256_castps256_ps128(y),    \
				 _mm256_extractf128_ps(y, 1)); \
	x = _mm_##op##_ps(x, _mm_movehl_ps(x, x));             \
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
