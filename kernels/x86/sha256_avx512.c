/* SPDX-License-Identifier: MIT */
/*
 * sha256_avx512.c - 16 SHA-256 hashes side by side, a lane each.
 *
 * A vector is the same word of 16 messages; 64 bytes of each are loaded and
 * transposed at a time. Names are those of FIPS 180-4.
 */
#include <immintrin.h>

#include "../sha256.h"

#define INLINE static inline __attribute__((always_inline))

#define LANES  SHA256_LANES
#define CHUNK  64 /* bytes of a message that a compression takes */
#define ROUNDS 64

static const uint32_t k[ROUNDS] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372,
				   0xa54ff53a, 0x510e527f, 0x9b05688c,
				   0x1f83d9ab, 0x5be0cd19 };

INLINE __m512i add(__m512i a, __m512i b)
{
	return _mm512_add_epi32(a, b);
}

INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
	return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

/* Words are big-endian. */
INLINE __m512i swap(__m512i v)
{
	return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_set_epi8(
					      12, 13, 14, 15, 8, 9, 10, 11, 4,
					      5, 6, 7, 0, 1, 2, 3)));
}

/* 16 x 16 words. */
INLINE void transpose(__m512i v[16])
{
	__m512i t[16];
	int i;

#pragma GCC unroll 8
	for (i = 0; i < 8; i++) {
		t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
		t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
	}
#pragma GCC unroll 4
	for (i = 0; i < 4; i++) {
		const __m512i *s = t + 4 * i;

		v[4 * i] = _mm512_unpacklo_epi64(s[0], s[2]);
		v[4 * i + 1] = _mm512_unpackhi_epi64(s[0], s[2]);
		v[4 * i + 2] = _mm512_unpacklo_epi64(s[1], s[3]);
		v[4 * i + 3] = _mm512_unpackhi_epi64(s[1], s[3]);
	}
	/* v[4 i + j]: column 4 l + j of rows 4 i to 4 i + 3 in 128-bit lane l */
#pragma GCC unroll 4
	for (i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
		t[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
		t[8 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
		t[12 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
	}
#pragma GCC unroll 4
	for (i = 0; i < 4; i++) {
		v[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
		v[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
		v[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
		v[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
	}
}

/* Macros, as the counts must be constants to every compiler. */
#define SIGMA(x, r0, r1, r2)                                   \
	xor3(_mm512_ror_epi32(x, r0), _mm512_ror_epi32(x, r1), \
	     _mm512_ror_epi32(x, r2))
#define SCHEDULE(x, r0, r1, s)                                 \
	xor3(_mm512_ror_epi32(x, r0), _mm512_ror_epi32(x, r1), \
	     _mm512_srli_epi32(x, s))

/*
 * 16 rounds. Variable @i of a to h is s[(i - round) & 7]; the next words are
 * made in place while these are used.
 */
INLINE void rounds(__m512i s[8], __m512i w[16], const uint32_t *kk, int more)
{
	int i;

#pragma GCC unroll 16
	for (i = 0; i < 16; i++) {
		__m512i a = s[(0 - i) & 7], b = s[(1 - i) & 7];
		__m512i c = s[(2 - i) & 7], e = s[(4 - i) & 7];
		__m512i f = s[(5 - i) & 7], g = s[(6 - i) & 7];
		__m512i t = add(add(s[(7 - i) & 7], w[i]),
				_mm512_set1_epi32((int)kk[i]));

		t = add(add(t, SIGMA(e, 6, 11, 25)),
			_mm512_ternarylogic_epi32(e, f, g, 0xca));
		s[(3 - i) & 7] = add(s[(3 - i) & 7], t);
		s[(7 - i) & 7] = add(add(t, SIGMA(a, 2, 13, 22)),
				     _mm512_ternarylogic_epi32(a, b, c, 0xe8));
		if (more)
			w[i] = add(add(w[i], w[(i + 9) & 15]),
				   add(SCHEDULE(w[(i + 1) & 15], 7, 18, 3),
				       SCHEDULE(w[(i + 14) & 15], 17, 19, 10)));
	}
}

static void compress(__m512i h[8], __m512i w[16])
{
	__m512i s[8];
	int i;

	for (i = 0; i < 8; i++)
		s[i] = h[i];
	for (i = 0; i < ROUNDS - 16; i += 16)
		rounds(s, w, k + i, 1);
	rounds(s, w, k + i, 0);
	for (i = 0; i < 8; i++)
		h[i] = add(h[i], s[i]);
}

void sha256_lanes_avx512(const uint8_t *data, size_t bytes,
			 uint8_t out[SHA256_LANES][SHA256_BYTES])
{
	__m512i h[8], w[16];
	size_t at;
	int i;

	for (i = 0; i < 8; i++)
		h[i] = _mm512_set1_epi32((int)start[i]);
	for (at = 0; at < bytes; at += CHUNK) {
#pragma GCC unroll 16
		for (i = 0; i < LANES; i++)
			w[i] = swap(_mm512_loadu_si512(data +
						       (size_t)i * bytes + at));
		transpose(w);
		compress(h, w);
	}
	/* the padding: a one, zeros, and the length in bits */
	for (i = 0; i < 16; i++)
		w[i] = _mm512_setzero_si512();
	w[0] = _mm512_set1_epi32((int)0x80000000);
	w[14] = _mm512_set1_epi32((int)((uint64_t)bytes * 8 >> 32));
	w[15] = _mm512_set1_epi32((int)(bytes * 8));
	compress(h, w);
	for (i = 0; i < 8; i++)
		w[i] = swap(h[i]);
	for (; i < 16; i++)
		w[i] = _mm512_setzero_si512();
	transpose(w);
	for (i = 0; i < LANES; i++)
		_mm256_storeu_si256((__m256i *)out[i],
				    _mm512_castsi512_si256(w[i]));
}
