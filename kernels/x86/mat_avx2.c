/* SPDX-License-Identifier: MIT */
/*
 * mat_avx2.c - products with packed matrices, AVX2.
 *
 * A quad (4 consecutive k) of the panel's 16 rows is two vectors, its halves.
 * vpmaddubsw adds pairs into 16 bits; as many quads are added there as cannot
 * overflow (CODES_MAX below), then vpmaddwd brings them into the 32-bit lane
 * of their row. Codes stay unshifted, the integer sum is shifted instead,
 * which is the same integer.
 */
#include <immintrin.h>

#include "../shape.h"

#define INLINE static inline __attribute__((always_inline))

/* As in mat_avx512.c. */
#define CHUNK	  16
#define CHUNK_FEW 4
#define TOKENS	  64
#define AHEAD	  2048

#define HALVES	    2
#define TILE_TOKENS 4

/* Quads that fit 16 bits together: 2 products each, code * 127. */
#define CODES_MAX(bits) (32767 / (2 * ((1 << (bits)) - 1) * 127))

INLINE __m256i field(__m256i v, int bits, int pos, int to)
{
	char mask = (char)(((1 << bits) - 1) << to);

	if (pos > to)
		v = _mm256_srli_epi16(v, pos - to);
	else if (pos < to)
		v = _mm256_slli_epi16(v, to - pos);
	return bits == 8 ? v : _mm256_and_si256(v, _mm256_set1_epi8(mask));
}

INLINE __m256i load_half_vector(const uint8_t *p, int vector, int half)
{
	return _mm256_loadu_si256(
		(const __m256i *)(p + 64 * vector + 32 * half));
}

/* Half of quad @i; for 8 bits the code as a signed weight. */
INLINE __m256i load_quad(const uint8_t *p, int lo, int hi, int i, int half)
{
	__m256i w, h;

	if (lo == 8)
		return _mm256_xor_si256(load_half_vector(p, i, half),
					_mm256_set1_epi8((char)0x80));
	if (lo == 4)
		w = field(load_half_vector(p, i & 3, half), 4, (i >> 2) * 4, 0);
	else
		w = field(load_half_vector(p, i >> 2, half), 2, (i & 3) * 2, 0);
	if (hi == 1) {
		h = field(load_half_vector(p, lo, half), 1, i, lo);
		w = _mm256_or_si256(w, h);
	} else if (hi == 2) {
		h = field(load_half_vector(p, lo + (i >> 2), half), 2,
			  (i & 3) * 2, lo);
		w = _mm256_or_si256(w, h);
	}
	return w;
}

INLINE __m256 load_f16(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256 bytes_float(const uint8_t *p, bool is_signed, __m256i *raw)
{
	__m128i v = _mm_loadl_epi64((const __m128i *)p);

	*raw = is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v);
	return _mm256_cvtepi32_ps(*raw);
}

/* Scales and minima (as what is added) of half the rows. */
INLINE void load_scales(const uint8_t *p, uint32_t b, int half, const int block,
			const int group, const int kind, const int s,
			__m256 scale[2], __m256 min[2])
{
	const int groups = block / group, n = ACT_BLOCK / group;
	__m256 d, m = _mm256_setzero_ps();
	__m256i raw, lo;
	int i;

	d = load_f16(p + 16 * half);
	if (kind == SHAPE_OFF)
		d = _mm256_mul_ps(d, _mm256_set1_ps(1.0f / (float)(1 << s)));
	else
		m = load_f16(p + 32 + 16 * half);
	if (kind == SHAPE_SUB)
		m = _mm256_xor_ps(m, _mm256_set1_ps(-0.0f));
	if (block == ACT_BLOCK) {
		scale[0] = d;
		min[0] = m;
		return;
	}
	p += kind == SHAPE_OFF ? 32 : 64;
	p += (size_t)(b % (uint32_t)(block / ACT_BLOCK)) * (size_t)(16 * n) +
	     8 * half;
	for (i = 0; i < n; i++, p += 16) {
		__m256 f = bytes_float(p, kind == SHAPE_OFF, &raw);

		if (kind == SHAPE_SUB && group == 16) {
			lo = _mm256_and_si256(raw, _mm256_set1_epi32(15));
			f = _mm256_cvtepi32_ps(lo);
			min[i] = _mm256_mul_ps(
				m,
				_mm256_cvtepi32_ps(_mm256_srli_epi32(raw, 4)));
		} else if (kind == SHAPE_SUB) {
			min[i] = _mm256_mul_ps(m, bytes_float(p + 16 * groups,
							      false, &raw));
		}
		scale[i] = _mm256_mul_ps(d, f);
	}
}

struct chunk {
	__m256i w[CHUNK][HALVES][8];
	__m256 scale[CHUNK][HALVES][2];
	__m256 min[CHUNK][HALVES][2];
};

INLINE __m256i quad_of(const struct act_block *x, int i)
{
	int32_t q;

	memcpy(&q, x->q + 4 * i, 4);
	return _mm256_set1_epi32(q);
}

/* Pairs of products in 16 bits. 8-bit weights are signed: their magnitude is
 * at most 128 and takes the activation's sign along, so a pair fits too. */
INLINE __m256i pairs(__m256i w, __m256i q, int bits)
{
	if (bits == 8)
		return _mm256_maddubs_epi16(_mm256_abs_epi8(w),
					    _mm256_sign_epi8(q, w));
	return _mm256_maddubs_epi16(w, q);
}

/* One group of one block of half the rows, @h tokens. */
INLINE void tile_group(const __m256i *w, const __m256 scale, const __m256 min,
		       const struct act_block *x, __m256 *acc, const int h,
		       const int g, const int group, const int bits,
		       const bool has_min)
{
	const int quads = group / 4, most = bits == 8 ? 1 : CODES_MAX(bits);
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i sum[TILE_TOKENS], part[TILE_TOKENS], v;
	int i, t;

#pragma GCC unroll 8
	for (i = 0; i < quads; i++) {
#pragma GCC unroll 4
		for (t = 0; t < h; t++) {
			v = pairs(w[g * quads + i],
				  quad_of(x + t, g * quads + i), bits);
			part[t] = i % most ? _mm256_add_epi16(part[t], v) : v;
			if (i % most != most - 1 && i != quads - 1)
				continue;
			v = _mm256_madd_epi16(part[t], ones);
			sum[t] = i / most ? _mm256_add_epi32(sum[t], v) : v;
		}
	}
#pragma GCC unroll 4
	for (t = 0; t < h; t++) {
		const struct act_block *k = x + t;
		const bool wide = group == ACT_BLOCK;

		/* signed 8-bit weights have no offset */
		if (!has_min && bits != 8)
			sum[t] = _mm256_add_epi32(
				_mm256_slli_epi32(sum[t], 8 - bits),
				_mm256_set1_epi32(wide ? k->off : k->off16[g]));
		v = sum[t];
		acc[t] = _mm256_fmadd_ps(
			_mm256_cvtepi32_ps(v),
			_mm256_mul_ps(scale, _mm256_set1_ps(k->d)), acc[t]);
		if (has_min)
			acc[t] = _mm256_fmadd_ps(
				min, _mm256_set1_ps(wide ? k->ds : k->ds16[g]),
				acc[t]);
	}
}

/* @h tokens, whose next blocks are @next further, over a chunk of half the
 * rows. */
INLINE void tile(const struct chunk *c, uint32_t n, int half,
		 const struct act_block *x, uint32_t next,
		 __m256 (*sums)[HALVES], const int h, const int group,
		 const int bits, const bool has_min)
{
	__m256 acc[TILE_TOKENS];
	uint32_t b;
	int t;

#pragma GCC unroll 4
	for (t = 0; t < h; t++)
		acc[t] = sums[t][half];
	for (b = 0; b < n; b++, x += next) {
		tile_group(c->w[b][half], c->scale[b][half][0],
			   c->min[b][half][0], x, acc, h, 0, group, bits,
			   has_min);
		if (group == 16)
			tile_group(c->w[b][half], c->scale[b][half][1],
				   c->min[b][half][1], x, acc, h, 1, group,
				   bits, has_min);
	}
#pragma GCC unroll 4
	for (t = 0; t < h; t++)
		sums[t][half] = acc[t];
}

typedef void tile_fn(const struct chunk *c, uint32_t n,
		     const struct act_block *x, uint32_t next,
		     __m256 (*sums)[HALVES]);

#define TILE(h, group, bits, m)                                               \
	static void tile_##h##_##group##_##bits##_##m(                        \
		const struct chunk *c, uint32_t n, const struct act_block *x, \
		uint32_t next, __m256(*sums)[HALVES])                         \
	{                                                                     \
		tile(c, n, 0, x, next, sums, h, group, bits, m);              \
		tile(c, n, 1, x, next, sums, h, group, bits, m);              \
	}
#define TILES(group, bits, m)                                                 \
	TILE(1, group, bits, m)                                               \
	TILE(2, group, bits, m)                                               \
	TILE(3, group, bits, m)                                               \
	TILE(4, group, bits, m)                                               \
	static tile_fn *const tiles_##group##_##bits##_##m[] = {              \
		tile_1_##group##_##bits##_##m, tile_2_##group##_##bits##_##m, \
		tile_3_##group##_##bits##_##m, tile_4_##group##_##bits##_##m  \
	};
/* width of a group, bits of a code, with a minimum */
TILES(32, 4, 0)
TILES(32, 4, 1)
TILES(32, 5, 0)
TILES(32, 5, 1)
TILES(32, 8, 0)
TILES(16, 2, 1)
TILES(16, 3, 0)
TILES(16, 6, 0)

INLINE void decode(const uint8_t *w, const uint8_t *sp, uint32_t b0, uint32_t n,
		   struct chunk *c, const int block, const int lo, const int hi,
		   const int group, const int kind, uint32_t scale_bytes)
{
	const uint32_t unit = (lo + hi) * 64u;
	const uint32_t per = (uint32_t)block / ACT_BLOCK;
	uint32_t b, l;
	int half, i;

	w += (size_t)b0 * unit;
	for (b = 0; b < n; b++, w += unit) {
		const uint8_t *scales =
			sp + (size_t)((b0 + b) / per) * scale_bytes;

#pragma GCC unroll 8
		for (l = 0; l < unit; l += 64)
			_mm_prefetch(w + AHEAD + l, _MM_HINT_T0);
		_mm_prefetch(scales + AHEAD / 4, _MM_HINT_T0);
#pragma GCC unroll 2
		for (half = 0; half < HALVES; half++) {
#pragma GCC unroll 8
			for (i = 0; i < 8; i++)
				c->w[b][half][i] =
					load_quad(w, lo, hi, i, half);
			load_scales(scales, b0 + b, half, block, group, kind,
				    8 - lo - hi, c->scale[b][half],
				    c->min[b][half]);
		}
	}
}

INLINE void store(const struct mat *m, uint32_t p, const __m256 v[HALVES],
		  float *out, bool add)
{
	uint32_t left = m->rows - p * MAT_PANEL, i;
	float last[MAT_PANEL];
	__m256 lo = v[0], hi = v[1];

	out += (size_t)p * MAT_PANEL;
	if (left >= MAT_PANEL) {
		if (add) {
			lo = _mm256_add_ps(_mm256_loadu_ps(out), lo);
			hi = _mm256_add_ps(_mm256_loadu_ps(out + 8), hi);
		}
		_mm256_storeu_ps(out, lo);
		_mm256_storeu_ps(out + 8, hi);
		return;
	}
	_mm256_storeu_ps(last, lo);
	_mm256_storeu_ps(last + 8, hi);
	for (i = 0; i < left; i++)
		out[i] = add ? out[i] + last[i] : last[i];
}

INLINE void mul(const struct mat *m, uint32_t panel0, uint32_t panel1,
		const struct act *a, float *out, size_t stride, bool add,
		tile_fn *const *fn, const int block, const int lo, const int hi,
		const int group, const int kind)
{
	const size_t bytes = mat_panel_bytes(m->fmt, m->cols);
	const uint32_t nb = m->cols / ACT_BLOCK, unit = (lo + hi) * 64u;
	const uint32_t scale_bytes = shapes[m->fmt].scale_bytes;
	uint32_t t0, t, p, b, n, h, tokens, most, next;
	__m256 acc[TOKENS][HALVES];
	struct chunk c;

	for (t0 = 0; t0 < a->n; t0 += tokens) {
		tokens = a->n - t0 < TOKENS ? a->n - t0 : TOKENS;
		most = tokens <= ACT_TILE ? CHUNK_FEW : CHUNK;
		for (p = panel0; p < panel1; p++) {
			const uint8_t *w = (const uint8_t *)m->data + p * bytes;

			memset(acc, 0, tokens * sizeof(acc[0]));
			for (b = 0; b < nb; b += n) {
				n = nb - b < most ? nb - b : most;
				decode(w, w + (size_t)nb * unit, b, n, &c,
				       block, lo, hi, group, kind, scale_bytes);
				for (t = 0; t < tokens; t += h) {
					next = act_step(a, t0 + t);
					h = (t0 + t) % ACT_TILE + TILE_TOKENS <=
							    next
						    ? TILE_TOKENS
						    : next % TILE_TOKENS;
					fn[h - 1](&c, n, act_at(a, t0 + t, b),
						  next, acc + t);
				}
			}
			for (t = 0; t < tokens; t++)
				store(m, p, acc[t], out + (t0 + t) * stride,
				      add);
		}
	}
}

#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind)                 \
	static void mul_##x##_avx2(const struct mat *m, uint32_t panel0,   \
				   uint32_t panel1, const struct act *a,   \
				   float *out, size_t stride, bool add)    \
	{                                                                  \
		mul(m, panel0, panel1, a, out, stride, add, TILES_OF_##id, \
		    block, lo, hi, group, SHAPE_##kind);                   \
	}
#define TILES_OF_Q4_0 tiles_32_4_0
#define TILES_OF_Q4_1 tiles_32_4_1
#define TILES_OF_Q5_0 tiles_32_5_0
#define TILES_OF_Q5_1 tiles_32_5_1
#define TILES_OF_Q8_0 tiles_32_8_0
#define TILES_OF_Q2_K tiles_16_2_1
#define TILES_OF_Q3_K tiles_16_3_0
#define TILES_OF_Q4_K tiles_32_4_1
#define TILES_OF_Q5_K tiles_32_5_1
#define TILES_OF_Q6_K tiles_16_6_0
#include "../quant.def"

/* --------------------------------------------------------- float formats */
INLINE __m256 load_float(const uint8_t *p, const enum fmt f, int half)
{
	if (f == FMT_F32)
		return _mm256_loadu_ps((const float *)p + 8 * half);
	p += 16 * half;
	if (f == FMT_F16)
		return load_f16(p);
	return _mm256_castsi256_ps(_mm256_slli_epi32(
		_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)),
		16));
}

/* @h tokens at once, half the rows, MAT_SUMS sums each in registers. */
INLINE void float_tile(const uint8_t *w, uint32_t cols, const float *x,
		       __m256 (*sums)[HALVES], const enum fmt f, const int half,
		       const int h)
{
	const uint32_t step_bytes = f == FMT_F32 ? 64 : 32;
	__m256 acc[3][MAT_SUMS], v;
	uint32_t k, i;
	int t;

#pragma GCC unroll 3
	for (t = 0; t < h; t++)
#pragma GCC unroll 4
		for (i = 0; i < MAT_SUMS; i++)
			acc[t][i] = _mm256_setzero_ps();
	for (k = 0; k + MAT_SUMS <= cols; k += MAT_SUMS) {
		_mm_prefetch(w + AHEAD, _MM_HINT_T0);
		_mm_prefetch(w + AHEAD + 64, _MM_HINT_T0);
#pragma GCC unroll 4
		for (i = 0; i < MAT_SUMS; i++, w += step_bytes) {
			v = load_float(w, f, half);
#pragma GCC unroll 3
			for (t = 0; t < h; t++)
				acc[t][i] = _mm256_fmadd_ps(
					v,
					_mm256_set1_ps(
						x[(size_t)t * cols + k + i]),
					acc[t][i]);
		}
	}
#pragma GCC unroll 3
	for (i = 0; i < MAT_SUMS - 1; i++, k++, w += step_bytes) {
		if (k >= cols)
			break;
		v = load_float(w, f, half);
#pragma GCC unroll 3
		for (t = 0; t < h; t++)
			acc[t][i] = _mm256_fmadd_ps(
				v, _mm256_set1_ps(x[(size_t)t * cols + k]),
				acc[t][i]);
	}
#pragma GCC unroll 3
	for (t = 0; t < h; t++)
		sums[t][half] =
			_mm256_add_ps(_mm256_add_ps(acc[t][0], acc[t][1]),
				      _mm256_add_ps(acc[t][2], acc[t][3]));
}

INLINE void mul_float(const struct mat *m, uint32_t panel0, uint32_t panel1,
		      const struct act *a, float *out, size_t stride, bool add,
		      const enum fmt f)
{
	const size_t bytes = mat_panel_bytes(f, m->cols);
	__m256 sums[3][HALVES];
	uint32_t p, t, i, h;
	int half;

	for (p = panel0; p < panel1; p++) {
		const uint8_t *w = (const uint8_t *)m->data + p * bytes;

		for (t = 0; t < a->n; t += h) {
			const float *x = a->f + (size_t)t * a->cols;

			h = a->n - t >= 3 ? 3 : 1;
			for (half = 0; half < HALVES; half++)
				if (h == 3)
					float_tile(w, m->cols, x, sums, f, half,
						   3);
				else
					float_tile(w, m->cols, x, sums, f, half,
						   1);
			for (i = 0; i < h; i++)
				store(m, p, sums[i], out + (t + i) * stride,
				      add);
		}
	}
}

#define FLOAT_FMT(id, ggml, bytes, to, from)                                 \
	static void mul_##id##_avx2(const struct mat *m, uint32_t panel0,    \
				    uint32_t panel1, const struct act *a,    \
				    float *out, size_t stride, bool add)     \
	{                                                                    \
		mul_float(m, panel0, panel1, a, out, stride, add, FMT_##id); \
	}
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind)
#include "../quant.def"

/* ----------------------------------------------------------- activations */
/* Sums of the two groups of 16, in lanes 0 and 4 after adding neighbours. */
INLINE void act_sums(const __m256i q[4], int32_t *s0, int32_t *s1)
{
	__m256i a = _mm256_add_epi32(q[0], q[1]);
	__m256i b = _mm256_add_epi32(q[2], q[3]);
	__m128i v;

	a = _mm256_hadd_epi32(a, b);
	a = _mm256_hadd_epi32(a, a);
	v = _mm_add_epi32(_mm256_castsi256_si128(a),
			  _mm256_extracti128_si256(a, 1));
	*s0 = _mm_extract_epi32(v, 0);
	*s1 = _mm_extract_epi32(v, 1);
}

INLINE int32_t act_max(__m256i v)
{
	__m128i m = _mm_max_epi32(_mm256_castsi256_si128(v),
				  _mm256_extracti128_si256(v, 1));

	m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
	m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
	return _mm_cvtsi128_si32(m);
}

static void act_quant_avx2(struct act *a, uint32_t t, const float *x)
{
	const __m256i abs = _mm256_set1_epi32(0x7fffffff);
	uint32_t b, n = a->cols / ACT_BLOCK, next = act_step(a, t);
	struct act_block *k = act_at(a, t, 0);
	int32_t top, s0, s1;
	__m256i q[4], u;
	__m256 v[4], scale;
	float amax, inv;
	int i;

	for (b = 0; b < n; b++, x += ACT_BLOCK, k += next) {
		u = _mm256_setzero_si256();
		for (i = 0; i < 4; i++) {
			v[i] = _mm256_loadu_ps(x + 8 * i);
			u = _mm256_max_epi32(
				u, _mm256_and_si256(_mm256_castps_si256(v[i]),
						    abs));
		}
		top = act_max(u);
		amax = fmt_bits_float((uint32_t)top);
		inv = 0;
		k->d = 0;
		if (top >= 0x7f800000) {
			k->d = fmt_bits_float(0x7fc00000);
		} else if (amax >= ACT_TINY) {
			k->d = amax / 127.0f;
			inv = 127.0f / amax;
		}
		scale = _mm256_set1_ps(inv);
		for (i = 0; i < 4; i++) {
			q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], scale));
			if (top >= 0x7f800000)
				q[i] = _mm256_setzero_si256();
		}
		act_sums(q, &s0, &s1);
		/* packing works in 128-bit lanes; the dwords are put right */
		u = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),
				       _mm256_packs_epi32(q[2], q[3]));
		u = _mm256_permutevar8x32_epi32(
			u, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
		_mm256_storeu_si256((__m256i *)k->q, u);
		k->off = -128 * (s0 + s1);
		k->ds = k->d * (float)(s0 + s1);
		k->off16[0] = -128 * s0;
		k->off16[1] = -128 * s1;
		k->ds16[0] = k->d * (float)s0;
		k->ds16[1] = k->d * (float)s1;
		k->pad = 0;
	}
}

void mat_init_avx2(struct mat_kernels *k)
{
	k->act_quant = act_quant_avx2;
#define FLOAT_FMT(id, ggml, bytes, to, from) k->mul[FMT_##id] = mul_##id##_avx2;
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind) \
	k->mul[FMT_##id] = mul_##x##_avx2;
#include "../quant.def"
}
