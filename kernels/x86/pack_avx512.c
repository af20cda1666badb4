/* SPDX-License-Identifier: MIT */
/*
 * pack_avx512.c - packing matrices, AVX-512.
 *
 * A lane is a row of the panel: the same dword of 16 rows' blocks is gathered
 * from the file's data, and four codes of each row are where the panel has
 * them but for their bits. shape.h says where those go.
 */
#include <immintrin.h>
#include <stddef.h>

#include "../shape.h"

#define FMT_HEADERS
#include "../quant.def"
#undef FMT_HEADERS

#define INLINE static inline __attribute__((always_inline))

/* A block of each row: it begins at @p, and @at[row] further. */
struct rows {
	const uint8_t *p;
	__m512i at;
};

INLINE __m512i dword(const struct rows *r, size_t off)
{
	return _mm512_i32gather_epi32(r->at, r->p + off, 1);
}

INLINE void dwords(const struct rows *r, size_t off, int n, __m512i *v)
{
	int i;

#pragma GCC unroll 8
	for (i = 0; i < n; i++)
		v[i] = dword(r, off + 4 * (size_t)i);
}

/* Fields of @bits bits at bit @pos of each byte, moved to bit @to. */
INLINE __m512i field(__m512i v, int bits, int pos, int to)
{
	char mask = (char)(((1 << bits) - 1) << to);

	if (pos > to)
		v = _mm512_srli_epi16(v, (unsigned int)(pos - to));
	else if (pos < to)
		v = _mm512_slli_epi16(v, (unsigned int)(to - pos));
	return _mm512_and_si512(v, _mm512_set1_epi8(mask));
}

INLINE __m512i either(__m512i a, __m512i b)
{
	return _mm512_or_si512(a, b);
}

/* Past the caches: it is far more than they hold, and read much later. */
INLINE void store(uint8_t *dst, __m512i v)
{
	_mm512_stream_si512((void *)dst, v);
}

/* ------------------------------------------------------------------- codes */

/* Eight quads of codes, all bits together, to where 32 columns have them. */
INLINE void put_codes(uint8_t *dst, int lo, int hi, const __m512i q[8])
{
	__m512i v, h = _mm512_setzero_si512();
	int i;

#pragma GCC unroll 8
	for (i = 0; i < lo; i++) {
		if (lo == 8)
			v = q[i];
		else if (lo == 4)
			v = either(field(q[i], 4, 0, 0),
				   field(q[i + 4], 4, 0, 4));
		else
			v = either(either(field(q[4 * i], 2, 0, 0),
					  field(q[4 * i + 1], 2, 0, 2)),
				   either(field(q[4 * i + 2], 2, 0, 4),
					  field(q[4 * i + 3], 2, 0, 6)));
		store(dst + 64 * i, v);
	}
	dst += 64 * lo;
	if (hi == 1) {
#pragma GCC unroll 8
		for (i = 0; i < 8; i++)
			h = either(h, field(q[i], 1, lo, i));
		store(dst, h);
	} else if (hi == 2) {
#pragma GCC unroll 2
		for (i = 0; i < 2; i++)
			store(dst + 64 * i,
			      either(either(field(q[4 * i], 2, lo, 0),
					    field(q[4 * i + 1], 2, lo, 2)),
				     either(field(q[4 * i + 2], 2, lo, 4),
					    field(q[4 * i + 3], 2, lo, 6))));
	}
}

/* Blocks of 32: bits of a row's codes are in one dword, in order. */
INLINE void nibbles(const struct rows *r, uint8_t *dst, size_t qs, int hi,
		    size_t qh)
{
	const __m512i spread = _mm512_set1_epi32(0x00204081);
	__m512i w[4], q[8], high, four;
	int i;

	dwords(r, qs, 4, w);
#pragma GCC unroll 4
	for (i = 0; i < 4; i++) {
		q[i] = field(w[i], 4, 0, 0);
		q[i + 4] = field(w[i], 4, 4, 0);
	}
	if (hi) {
		high = dword(r, qh);
#pragma GCC unroll 8
		for (i = 0; i < 8; i++) {
			four = _mm512_and_si512(
				_mm512_srli_epi32(high, (unsigned int)(4 * i)),
				_mm512_set1_epi32(15));
			/* bit j to byte j */
			four = _mm512_mullo_epi32(four, spread);
			q[i] = either(q[i], field(four, 1, 0, 4));
		}
	}
	put_codes(dst, 4, hi, q);
}

INLINE void codes_q8_0(const struct rows *r, uint8_t *dst)
{
	__m512i q[8];
	int i;

	dwords(r, offsetof(struct q8_0, qs), 8, q);
#pragma GCC unroll 8
	for (i = 0; i < 8; i++)
		q[i] = _mm512_xor_si512(q[i], _mm512_set1_epi8((char)0x80));
	put_codes(dst, 8, 0, q);
}

/*
 * Q4_K and Q5_K: 64 codes share 32 bytes; Q2_K and Q3_K: 128 do. The bytes at
 * @high have a further bit of all 256: bit j is the 32 codes' from 32 * j.
 */
INLINE void codes_k(const struct rows *r, uint8_t *dst, int bits, size_t qs,
		    int hi, size_t high)
{
	__m512i w[8], q[8], h[8];
	int n = 8 / bits, i, j;

	if (hi)
		dwords(r, high, 8, h);
#pragma GCC unroll 8
	for (j = 0; j < 8; j++) {
		if (j % n == 0)
			dwords(r, qs + (size_t)(j * 4 * bits), 8, w);
#pragma GCC unroll 8
		for (i = 0; i < 8; i++) {
			q[i] = field(w[i], bits, j % n * bits, 0);
			if (hi)
				q[i] = either(q[i], field(h[i], 1, j, bits));
		}
		put_codes(dst + j * (bits + hi) * 64, bits, hi, q);
	}
}

INLINE void codes_q6_k(const struct rows *r, uint8_t *dst)
{
	__m512i low[2][8], high[8], q[8];
	int i, j, n;

	for (n = 0; n < 2; n++) {
		dwords(r, offsetof(struct q6_k, ql) + 64 * (size_t)n, 8,
		       low[0]);
		dwords(r, offsetof(struct q6_k, ql) + 64 * (size_t)n + 32, 8,
		       low[1]);
		dwords(r, offsetof(struct q6_k, qh) + 32 * (size_t)n, 8, high);
#pragma GCC unroll 4
		for (j = 0; j < 4; j++, dst += 6 * 64) {
#pragma GCC unroll 8
			for (i = 0; i < 8; i++)
				q[i] = either(field(low[j & 1][i], 4, j / 2 * 4,
						    0),
					      field(high[i], 2, 2 * j, 4));
			put_codes(dst, 4, 2, q);
		}
	}
}

/* ------------------------------------------------------------------ scales */

INLINE void put_half(uint8_t *dst, __m512i v)
{
	_mm256_storeu_si256((__m256i *)dst, _mm512_cvtepi32_epi16(v));
}

/* Two half floats of a dword, or the one that is @shift bits up in it. */
INLINE uint8_t *put_d(const struct rows *r, size_t off, int shift, bool min,
		      uint8_t *dst)
{
	__m512i v = dword(r, off);

	put_half(dst, _mm512_srli_epi32(v, (unsigned int)shift));
	if (!min)
		return dst + 32;
	put_half(dst + 32, _mm512_srli_epi32(v, 16));
	return dst + 64;
}

/* The bytes of a dword are four groups'. */
INLINE uint8_t *put_groups(uint8_t *dst, __m512i v)
{
	int i;

#pragma GCC unroll 4
	for (i = 0; i < 4; i++, dst += 16)
		_mm_storeu_si128((__m128i *)dst,
				 _mm512_cvtepi32_epi8(_mm512_srli_epi32(
					 v, (unsigned int)(8 * i))));
	return dst;
}

/* What fmt_k_scale() does, four at a time. */
INLINE void scales_k45(const struct rows *r, size_t off, uint8_t *dst)
{
	__m512i s[3];

	dwords(r, off, 3, s);
	dst = put_groups(dst, field(s[0], 6, 0, 0));
	dst = put_groups(dst,
			 either(field(s[2], 4, 0, 0), field(s[0], 2, 6, 4)));
	dst = put_groups(dst, field(s[1], 6, 0, 0));
	put_groups(dst, either(field(s[2], 4, 4, 0), field(s[1], 2, 6, 4)));
}

INLINE void scales_q3_k(const struct rows *r, uint8_t *dst)
{
	__m512i s[3], v;
	int k;

	dwords(r, offsetof(struct q3_k, scales), 3, s);
#pragma GCC unroll 4
	for (k = 0; k < 4; k++) {
		v = either(field(s[k & 1], 4, k / 2 * 4, 0),
			   field(s[2], 2, 2 * k, 4));
		dst = put_groups(dst, _mm512_sub_epi8(v, _mm512_set1_epi8(32)));
	}
}

INLINE void scales_16(const struct rows *r, size_t off, uint8_t *dst)
{
	int k;

	for (k = 0; k < 4; k++)
		dst = put_groups(dst, dword(r, off + 4 * (size_t)k));
}

/* ----------------------------------------------------------------- formats */

/* One block of each row: codes to @dst, scales to @sc. */
INLINE void block(enum fmt f, const struct rows *r, uint8_t *dst, uint8_t *sc)
{
	switch (f) {
	case FMT_Q4_0:
		nibbles(r, dst, offsetof(struct q4_0, qs), 0, 0);
		put_d(r, 0, 0, false, sc);
		break;
	case FMT_Q4_1:
		nibbles(r, dst, offsetof(struct q4_1, qs), 0, 0);
		put_d(r, 0, 0, true, sc);
		break;
	case FMT_Q5_0:
		nibbles(r, dst, offsetof(struct q5_0, qs), 1,
			offsetof(struct q5_0, qh));
		put_d(r, 0, 0, false, sc);
		break;
	case FMT_Q5_1:
		nibbles(r, dst, offsetof(struct q5_1, qs), 1,
			offsetof(struct q5_1, qh));
		put_d(r, 0, 0, true, sc);
		break;
	case FMT_Q8_0:
		codes_q8_0(r, dst);
		put_d(r, 0, 0, false, sc);
		break;
	case FMT_Q2_K:
		codes_k(r, dst, 2, offsetof(struct q2_k, qs), 0, 0);
		sc = put_d(r, offsetof(struct q2_k, d), 0, true, sc);
		scales_16(r, offsetof(struct q2_k, scales), sc);
		break;
	case FMT_Q3_K:
		codes_k(r, dst, 2, offsetof(struct q3_k, qs), 1,
			offsetof(struct q3_k, hmask));
		sc = put_d(r, offsetof(struct q3_k, d) - 2, 16, false, sc);
		scales_q3_k(r, sc);
		break;
	case FMT_Q4_K:
		codes_k(r, dst, 4, offsetof(struct q4_k, qs), 0, 0);
		sc = put_d(r, 0, 0, true, sc);
		scales_k45(r, offsetof(struct q4_k, scales), sc);
		break;
	case FMT_Q5_K:
		codes_k(r, dst, 4, offsetof(struct q5_k, qs), 1,
			offsetof(struct q5_k, qh));
		sc = put_d(r, 0, 0, true, sc);
		scales_k45(r, offsetof(struct q5_k, scales), sc);
		break;
	case FMT_Q6_K:
		codes_q6_k(r, dst);
		sc = put_d(r, offsetof(struct q6_k, d) - 2, 16, false, sc);
		scales_16(r, offsetof(struct q6_k, scales), sc);
		break;
	default:
		break;
	}
}

INLINE void panel(enum fmt f, int bits, uint32_t elems, size_t bytes,
		  size_t scale_bytes, uint32_t cols, struct rows r,
		  uint8_t *dst)
{
	uint8_t *sc = dst + (size_t)cols / 32 * (uint32_t)bits * 64;
	uint32_t b;

	for (b = 0; b < cols / elems; b++) {
		block(f, &r, dst, sc);
		r.p += bytes;
		dst += elems / 32 * (uint32_t)bits * 64;
		sc += scale_bytes;
	}
}

#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, x, n, lo, hi, group, kind)                   \
	static void pack_##x(uint32_t cols, struct rows r, uint8_t *dst) \
	{                                                                \
		panel(FMT_##id, (lo) + (hi), n, sizeof(struct x),        \
		      shapes[FMT_##id].scale_bytes, cols, r, dst);       \
	}
#include "../quant.def"

static void (*const packers[FMT_N])(uint32_t cols, struct rows r,
				    uint8_t *dst) = {
#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, x, n, lo, hi, group, kind) [FMT_##id] = pack_##x,
#include "../quant.def"
};

/* Element after element of 16 rows; two of 2 bytes at a time. */
static void pack_floats(size_t size, uint32_t cols, struct rows r, uint8_t *dst)
{
	uint32_t i;
	__m512i v;

	for (i = 0; i < cols * size / 4; i++, dst += 64) {
		v = dword(&r, 4 * (size_t)i);
		if (size == 4) {
			store(dst, v);
		} else {
			put_half(dst, v);
			put_half(dst + 32, _mm512_srli_epi32(v, 16));
		}
	}
}

void mat_pack_avx512(enum fmt f, uint32_t cols, const void *rows,
		     uint32_t n_rows, void *out)
{
	uint64_t bytes = fmt_bytes(f, cols), all = mat_panel_bytes(f, cols);
	struct rows r = { .p = rows };

	/* Lanes are offsets of 31 bits; an odd column has no pair. */
	if (!all || n_rows != MAT_PANEL || bytes > (1u << 26) ||
	    (!packers[f] && bytes % 4) || (uintptr_t)out % MAT_ALIGN) {
		mat_pack(f, cols, rows, n_rows, out);
		return;
	}
	memset((uint8_t *)out + all - MAT_ALIGN, 0, MAT_ALIGN);
	r.at = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8,
						    9, 10, 11, 12, 13, 14, 15),
				  _mm512_set1_epi32((int)bytes));
	if (packers[f])
		packers[f](cols, r, out);
	else
		pack_floats(fmt_info[f].bytes, cols, r, out);
	_mm_sfence();
}
