/* SPDX-License-Identifier: MIT */
/*
 * mat_avx512.c - products with packed matrices, AVX-512 with VNNI.
 *
 * A zmm is a quad (4 consecutive k) of the panel's 16 rows, so vpdpbusd with a
 * broadcast quad of activations leaves one integer sum a row in its lane.
 *
 * One token: codes are decoded in registers on their way from memory, which
 * is what limits it. More tokens: a chunk of a panel is decoded once into L1,
 * then each tile of tokens runs over it with its sums in registers.
 */
#include <immintrin.h>

#include "../shape.h"

#define INLINE static inline __attribute__((always_inline))

/* Blocks of 32 columns in a decoded chunk: with a tile's activations (a
 * kilobyte a block) it stays in L1. */
#define CHUNK 16
/* The same for few tokens: memory should never wait long for arithmetic. */
#define CHUNK_FEW 4
/* Panels and tokens whose sums are kept between chunks, and bytes of the
 * tokens' activations: they are read once a panel and should come from L2.
 * Several panels, because results of one are a line a token, which is a page
 * a token when there are many rows. */
#define PANELS	     4
#define TOKENS	     128
#define TOKENS_BYTES (1u << 20)
/* How far ahead of the codes to prefetch. */
#define AHEAD 2048

#define KIND_OFF 0
#define KIND_MIN 1

/* Field of @bits bits at bit @pos of each byte, moved to bit @to. */
INLINE __m512i field(__m512i v, int bits, int pos, int to)
{
	char mask = (char)(((1 << bits) - 1) << to);

	if (pos > to)
		v = _mm512_srli_epi16(v, pos - to);
	else if (pos < to)
		v = _mm512_slli_epi16(v, to - pos);
	return bits == 8 ? v : _mm512_and_si512(v, _mm512_set1_epi8(mask));
}

/* Eight quads; codes shifted left by @s. */
INLINE void load_codes(const uint8_t *p, int lo, int hi, int s, __m512i w[8])
{
	__m512i low[8], high[2];
	int i, n = lo, per = 8 / lo;

	for (i = 0; i < n; i++)
		low[i] = _mm512_loadu_si512(p + 64 * i);
	for (i = 0; i < hi; i++)
		high[i] = _mm512_loadu_si512(p + 64 * (n + i));
#pragma GCC unroll 8
	for (i = 0; i < 8; i++) {
		if (per == 4) /* quad i in vector i / 4 */
			w[i] = field(low[i >> 2], 2, (i & 3) * 2, s);
		else
			w[i] = field(low[i % n], lo, i / n * lo, s);
		if (hi == 1)
			w[i] = _mm512_or_si512(w[i],
					       field(high[0], 1, i, s + lo));
		else if (hi == 2)
			w[i] = _mm512_or_si512(w[i],
					       field(high[i >> 2], 2,
						     (i & 3) * 2, s + lo));
	}
}

INLINE __m512 load_half(const uint8_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Scales (and minima, as what is added) of the groups in block @b of 32. */
INLINE void load_scales(const uint8_t *p, uint32_t b, const int block,
			const int group, const int kind, const int s,
			__m512 scale[2], __m512 min[2])
{
	const int groups = block / group, n = ACT_BLOCK / group;
	__m512 d, m = _mm512_setzero_ps();
	const uint8_t *q;
	int i;

	d = load_half(p);
	if (kind == SHAPE_OFF)
		d = _mm512_mul_ps(d, _mm512_set1_ps(1.0f / (float)(1 << s)));
	else
		m = load_half(p + 32);
	if (kind == SHAPE_SUB)
		m = _mm512_xor_ps(m, _mm512_set1_ps(-0.0f));
	if (block == ACT_BLOCK) {
		scale[0] = d;
		min[0] = m;
		return;
	}
	q = p + (kind == SHAPE_OFF ? 32 : 64);
	q += (size_t)(b % (uint32_t)(block / ACT_BLOCK)) * (size_t)(16 * n);
	for (i = 0; i < n; i++) {
		__m128i v = _mm_loadu_si128((const __m128i *)(q + 16 * i));
		__m512i sc = kind == SHAPE_OFF ? _mm512_cvtepi8_epi32(v)
					       : _mm512_cvtepu8_epi32(v);
		__m512i mn = sc;

		if (kind == SHAPE_SUB && group == 16) {
			mn = _mm512_srli_epi32(sc, 4);
			sc = _mm512_and_si512(sc, _mm512_set1_epi32(15));
		} else if (kind == SHAPE_SUB) {
			v = _mm_loadu_si128(
				(const __m128i *)(q + 16 * (groups + i)));
			mn = _mm512_cvtepu8_epi32(v);
		}
		scale[i] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sc));
		if (kind == SHAPE_SUB)
			min[i] = _mm512_mul_ps(m, _mm512_cvtepi32_ps(mn));
	}
}

/* One block of one token. */
INLINE __m512 step(const __m512i w[8], const __m512 scale[2],
		   const __m512 min[2], const struct act_block *x,
		   const int groups, const int has_min, __m512 acc)
{
	const int quads = 8 / groups;
	int g, i;

#pragma GCC unroll 2
	for (g = 0; g < groups; g++) {
		__m512i sum;
		__m512 sd;

		if (has_min)
			sum = _mm512_setzero_si512();
		else
			sum = _mm512_set1_epi32(groups == 1 ? x->off
							    : x->off16[g]);
#pragma GCC unroll 8
		for (i = g * quads; i < (g + 1) * quads; i++) {
			int32_t q;

			memcpy(&q, x->q + 4 * i, 4);
			sum = _mm512_dpbusd_epi32(sum, w[i],
						  _mm512_set1_epi32(q));
		}
		sd = _mm512_mul_ps(scale[g], _mm512_set1_ps(x->d));
		acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), sd, acc);
		if (has_min)
			acc = _mm512_fmadd_ps(
				min[g],
				_mm512_set1_ps(groups == 1 ? x->ds
							   : x->ds16[g]),
				acc);
	}
	return acc;
}

INLINE void store(const struct mat *m, uint32_t p, __m512 v, float *out,
		  bool add)
{
	uint32_t left = m->rows - p * MAT_PANEL;
	__mmask16 k = left >= MAT_PANEL ? 0xffff : (1u << left) - 1;

	out += (size_t)p * MAT_PANEL;
	if (add)
		v = _mm512_add_ps(_mm512_maskz_loadu_ps(k, out), v);
	_mm512_mask_storeu_ps(out, k, v);
}

/* ------------------------------------------------------------ one token */
INLINE void mul_one(const struct mat *m, uint32_t panel0, uint32_t panel1,
		    const struct act *a, float *out, bool add, const int block,
		    const int lo, const int hi, const int group, const int kind)
{
	const int s = kind == SHAPE_OFF ? 8 - lo - hi : 0;
	const struct shape *sh = &shapes[m->fmt];
	const size_t bytes = mat_panel_bytes(m->fmt, m->cols);
	const uint32_t nb = m->cols / ACT_BLOCK, unit = (lo + hi) * 64u;
	const uint32_t per = (uint32_t)block / ACT_BLOCK;
	const uint32_t scale_bytes = sh->scale_bytes;
	uint32_t p, b, i;

	for (p = panel0; p < panel1; p++) {
		const uint8_t *w = (const uint8_t *)m->data + p * bytes;
		const uint8_t *sp = w + (size_t)nb * unit;
		const struct act_block *x = a->blk;
		__m512 acc = _mm512_setzero_ps();

		for (b = 0; b < nb; b += per, sp += scale_bytes) {
			_mm_prefetch(sp + AHEAD / 4, _MM_HINT_T0);
#pragma GCC unroll 8
			for (i = 0; i < per; i++, w += unit, x++) {
				__m512i q[8];
				__m512 scale[2], min[2];
				uint32_t l;

#pragma GCC unroll 8
				for (l = 0; l < unit; l += 64)
					_mm_prefetch(w + AHEAD + l,
						     _MM_HINT_T0);
				load_codes(w, lo, hi, s, q);
				load_scales(sp, i, block, group, kind, s, scale,
					    min);
				acc = step(q, scale, min, x, 32 / group,
					   kind != SHAPE_OFF, acc);
			}
		}
		store(m, p, acc, out, add);
	}
}

/* ---------------------------------------------------------- many tokens */
struct chunk {
	__m512i w[CHUNK][8];
	__m512 scale[CHUNK][2];
	__m512 min[CHUNK][2];
};

typedef void tile_fn(const struct chunk *c, uint32_t n,
		     const struct act_block *x, __m512 *acc,
		     const uint8_t *ahead, uint32_t lines);

/* sum += w * the quad at @q, which is broadcast on its way from memory: one
 * instruction, which compilers do not make of two intrinsics. */
INLINE __m512i dot(__m512i sum, __m512i w, const int8_t *q)
{
	__asm__("vpdpbusd %2%{1to16%}, %1, %0"
		: "+v"(sum)
		: "v"(w), "m"(*(const int32_t *)q));
	return sum;
}

/* Tokens [t0, t1) of a tile over a block. Quads go outside and tokens inside,
 * so that neighbouring instructions do not wait for each other. */
INLINE void tile_step(const struct chunk *c, uint32_t b,
		      const struct act_block *x, __m512 *acc, const int t0,
		      const int t1, const int groups, const int has_min)
{
	const int quads = 8 / groups;
	__m512i sum[8], w;
	int g, i, t;

#pragma GCC unroll 2
	for (g = 0; g < groups; g++) {
#pragma GCC unroll 8
		for (t = t0; t < t1; t++) {
			if (has_min)
				sum[t - t0] = _mm512_setzero_si512();
			else
				sum[t - t0] = _mm512_set1_epi32(
					groups == 1 ? x[t].off : x[t].off16[g]);
		}
#pragma GCC unroll 8
		for (i = g * quads; i < (g + 1) * quads; i++) {
			w = c->w[b][i];
#pragma GCC unroll 8
			for (t = t0; t < t1; t++)
				sum[t - t0] =
					dot(sum[t - t0], w, x[t].q + 4 * i);
		}
#pragma GCC unroll 8
		for (t = t0; t < t1; t++) {
			__m512 sd = _mm512_mul_ps(c->scale[b][g],
						  _mm512_set1_ps(x[t].d));

			acc[t] = _mm512_fmadd_ps(
				_mm512_cvtepi32_ps(sum[t - t0]), sd, acc[t]);
			if (has_min)
				acc[t] = _mm512_fmadd_ps(
					c->min[b][g],
					_mm512_set1_ps(groups == 1
							       ? x[t].ds
							       : x[t].ds16[g]),
					acc[t]);
		}
	}
}

/* A tile of @h tokens over the @n blocks of a chunk. On the way, @lines lines
 * a block are asked for from @ahead, so that memory works while we do. */
INLINE void tile(const struct chunk *c, uint32_t n, const struct act_block *x,
		 __m512 *sums, const uint8_t *ahead, uint32_t lines,
		 const int h, const int groups, const int has_min)
{
	const int half = h > 8 ? (h + 1) / 2 : h;
	__m512 acc[ACT_TILE];
	uint32_t b, l;
	int t;

#pragma GCC unroll 16
	for (t = 0; t < h; t++)
		acc[t] = sums[t];
	for (b = 0; b < n; b++, x += h) {
		for (l = 0; l < lines; l++, ahead += 64)
			_mm_prefetch(ahead, _MM_HINT_T0);
		tile_step(c, b, x, acc, 0, half, groups, has_min);
		if (h > half)
			tile_step(c, b, x, acc, half, h, groups, has_min);
	}
#pragma GCC unroll 16
	for (t = 0; t < h; t++)
		sums[t] = acc[t];
}

#define TILE(h, g, m)                                                       \
	static void tile_##h##_##g##_##m(const struct chunk *c, uint32_t n, \
					 const struct act_block *x,         \
					 __m512 *acc, const uint8_t *ahead, \
					 uint32_t lines)                    \
	{                                                                   \
		tile(c, n, x, acc, ahead, lines, h, g, m);                  \
	}
#define TILES(g, m)    \
	TILE(1, g, m)  \
	TILE(2, g, m)  \
	TILE(3, g, m)  \
	TILE(4, g, m)  \
	TILE(5, g, m)  \
	TILE(6, g, m)  \
	TILE(7, g, m)  \
	TILE(8, g, m)  \
	TILE(9, g, m)  \
	TILE(10, g, m) \
	TILE(11, g, m) \
	TILE(12, g, m) \
	TILE(13, g, m) \
	TILE(14, g, m) \
	TILE(15, g, m) \
	TILE(16, g, m)
TILES(1, 0)
TILES(1, 1)
TILES(2, 0)
TILES(2, 1)

#define ROW(g, m)                                                             \
	{                                                                     \
		tile_1_##g##_##m, tile_2_##g##_##m, tile_3_##g##_##m,         \
			tile_4_##g##_##m, tile_5_##g##_##m, tile_6_##g##_##m, \
			tile_7_##g##_##m, tile_8_##g##_##m, tile_9_##g##_##m, \
			tile_10_##g##_##m, tile_11_##g##_##m,                 \
			tile_12_##g##_##m, tile_13_##g##_##m,                 \
			tile_14_##g##_##m, tile_15_##g##_##m,                 \
			tile_16_##g##_##m                                     \
	}
static tile_fn *const tiles[2][2][ACT_TILE] = {
	{ ROW(1, 0), ROW(1, 1) },
	{ ROW(2, 0), ROW(2, 1) },
};

INLINE void decode(const uint8_t *w, const uint8_t *sp, uint32_t b0, uint32_t n,
		   struct chunk *c, const int block, const int lo, const int hi,
		   const int group, const int kind, uint32_t scale_bytes)
{
	const int s = kind == SHAPE_OFF ? 8 - lo - hi : 0;
	const uint32_t unit = (lo + hi) * 64u;
	const uint32_t per = (uint32_t)block / ACT_BLOCK;
	uint32_t b;

	w += (size_t)b0 * unit;
	for (b = 0; b < n; b++, w += unit) {
		const uint8_t *scales =
			sp + (size_t)((b0 + b) / per) * scale_bytes;

		_mm_prefetch(scales + AHEAD / 4, _MM_HINT_T0);
		load_codes(w, lo, hi, s, c->w[b]);
		load_scales(scales, b0 + b, block, group, kind, s, c->scale[b],
			    c->min[b]);
	}
}

/* Sums of tokens [t0, t0 + tokens) over one panel. */
INLINE void mul_panel(const struct mat *m, uint32_t p, const struct act *a,
		      uint32_t t0, uint32_t tokens, __m512 *acc,
		      struct chunk *c, const int block, const int lo,
		      const int hi, const int group, const int kind)
{
	const uint32_t nb = m->cols / ACT_BLOCK, unit = (lo + hi) * 64u;
	const uint32_t scale_bytes = shapes[m->fmt].scale_bytes;
	const uint32_t most = tokens <= ACT_TILE ? CHUNK_FEW : CHUNK;
	const size_t bytes = mat_panel_bytes(m->fmt, m->cols);
	const uint8_t *w = (const uint8_t *)m->data + p * bytes;
	tile_fn *const *fn = tiles[group == 16][kind != SHAPE_OFF];
	const uint32_t n_tiles = (tokens + ACT_TILE - 1) / ACT_TILE;
	const uint32_t lines = (lo + hi + n_tiles - 1) / n_tiles;
	const size_t far = (n_tiles == 1 ? 3 : 1) * most * unit;
	const uint8_t *ahead;
	uint32_t t, b, n;

	for (t = 0; t < tokens; t++)
		acc[t] = _mm512_setzero_ps();
	for (b = 0; b < nb; b += most) {
		n = nb - b < most ? nb - b : most;
		decode(w, w + (size_t)nb * unit, b, n, c, block, lo, hi, group,
		       kind, scale_bytes);
		/* in order of memory: the next panel comes after this one */
		ahead = w + (size_t)b * unit + far;
		for (t = 0; t < tokens; t += ACT_TILE) {
			fn[act_step(a, t0 + t) - 1](c, n, act_at(a, t0 + t, b),
						    acc + t, ahead, lines);
			ahead += (size_t)n * lines * 64;
		}
	}
}

INLINE void mul_many(const struct mat *m, uint32_t panel0, uint32_t panel1,
		     const struct act *a, float *out, size_t stride, bool add,
		     const int block, const int lo, const int hi,
		     const int group, const int kind)
{
	const uint32_t row = m->cols / ACT_BLOCK * sizeof(struct act_block);
	uint32_t most = TOKENS_BYTES / row / ACT_TILE * ACT_TILE;
	uint32_t t0, t, p, i, n, tokens;
	__m512 acc[PANELS][TOKENS];
	struct chunk c;

	most = most < ACT_TILE ? ACT_TILE : most > TOKENS ? TOKENS : most;
	for (t0 = 0; t0 < a->n; t0 += tokens) {
		tokens = a->n - t0 < most ? a->n - t0 : most;
		for (p = panel0; p < panel1; p += n) {
			n = panel1 - p < PANELS ? panel1 - p : PANELS;
			/* their pages will be there when the sums are */
			for (t = 0; t < tokens; t++)
				for (i = 0; i < n; i++)
					__builtin_prefetch(
						out + (t0 + t) * stride +
							(p + i) * MAT_PANEL,
						1);
			for (i = 0; i < n; i++)
				mul_panel(m, p + i, a, t0, tokens, acc[i], &c,
					  block, lo, hi, group, kind);
			for (t = 0; t < tokens; t++)
				for (i = 0; i < n; i++)
					store(m, p + i, acc[i][t],
					      out + (t0 + t) * stride, add);
		}
	}
}

#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind)                     \
	static void mul_##x##_avx512(const struct mat *m, uint32_t panel0,     \
				     uint32_t panel1, const struct act *a,     \
				     float *out, size_t stride, bool add)      \
	{                                                                      \
		if (a->n == 1)                                                 \
			mul_one(m, panel0, panel1, a, out, add, block, lo, hi, \
				group, SHAPE_##kind);                          \
		else                                                           \
			mul_many(m, panel0, panel1, a, out, stride, add,       \
				 block, lo, hi, group, SHAPE_##kind);          \
	}
#include "../quant.def"

/* --------------------------------------------------------- float formats */
INLINE __m512 load_float(const uint8_t *p, const enum fmt f)
{
	if (f == FMT_F32)
		return _mm512_loadu_ps(p);
	if (f == FMT_F16)
		return load_half(p);
	return _mm512_castsi512_ps(_mm512_slli_epi32(
		_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)),
		16));
}

/* @h tokens at once, MAT_SUMS sums each in registers. */
INLINE void mul_float_tile(const struct mat *m, uint32_t p, const uint8_t *w,
			   const float *x, float *out, size_t out_stride,
			   bool add, const enum fmt f, const int h)
{
	const uint32_t cols = m->cols, step_bytes = f == FMT_F32 ? 64 : 32;
	__m512 acc[6][MAT_SUMS], v;
	uint32_t k, i;
	int t;

#pragma GCC unroll 6
	for (t = 0; t < h; t++)
#pragma GCC unroll 4
		for (i = 0; i < MAT_SUMS; i++)
			acc[t][i] = _mm512_setzero_ps();
	for (k = 0; k + MAT_SUMS <= cols; k += MAT_SUMS) {
		_mm_prefetch(w + AHEAD, _MM_HINT_T0);
		_mm_prefetch(w + AHEAD + 64, _MM_HINT_T0);
#pragma GCC unroll 4
		for (i = 0; i < MAT_SUMS; i++, w += step_bytes) {
			v = load_float(w, f);
#pragma GCC unroll 6
			for (t = 0; t < h; t++)
				acc[t][i] = _mm512_fmadd_ps(
					v,
					_mm512_set1_ps(
						x[(size_t)t * cols + k + i]),
					acc[t][i]);
		}
	}
#pragma GCC unroll 3
	for (i = 0; i < MAT_SUMS - 1; i++, k++, w += step_bytes) {
		if (k >= cols)
			break;
		v = load_float(w, f);
#pragma GCC unroll 6
		for (t = 0; t < h; t++)
			acc[t][i] = _mm512_fmadd_ps(
				v, _mm512_set1_ps(x[(size_t)t * cols + k]),
				acc[t][i]);
	}
#pragma GCC unroll 6
	for (t = 0; t < h; t++)
		store(m, p,
		      _mm512_add_ps(_mm512_add_ps(acc[t][0], acc[t][1]),
				    _mm512_add_ps(acc[t][2], acc[t][3])),
		      out + (size_t)t * out_stride, add);
}

INLINE void mul_float(const struct mat *m, uint32_t panel0, uint32_t panel1,
		      const struct act *a, float *out, size_t stride, bool add,
		      const enum fmt f)
{
	const size_t bytes = mat_panel_bytes(f, m->cols);
	uint32_t p, t;

	for (p = panel0; p < panel1; p++) {
		const uint8_t *w = (const uint8_t *)m->data + p * bytes;

		for (t = 0; t < a->n;) {
			const float *x = a->f + (size_t)t * a->cols;
			float *o = out + (size_t)t * stride;
			uint32_t left = a->n - t;

			if (left >= 6) {
				mul_float_tile(m, p, w, x, o, stride, add, f,
					       6);
				t += 6;
			} else if (left >= 4) {
				mul_float_tile(m, p, w, x, o, stride, add, f,
					       4);
				t += 4;
			} else if (left >= 2) {
				mul_float_tile(m, p, w, x, o, stride, add, f,
					       2);
				t += 2;
			} else {
				mul_float_tile(m, p, w, x, o, stride, add, f,
					       1);
				t += 1;
			}
		}
	}
}

#define FLOAT_FMT(id, ggml, bytes, to, from)                                 \
	static void mul_##id##_avx512(const struct mat *m, uint32_t panel0,  \
				      uint32_t panel1, const struct act *a,  \
				      float *out, size_t stride, bool add)   \
	{                                                                    \
		mul_float(m, panel0, panel1, a, out, stride, add, FMT_##id); \
	}
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind)
#include "../quant.def"

/* ----------------------------------------------------------- activations */
static void act_quant_avx512(struct act *a, uint32_t t, const float *x)
{
	const __m512i abs = _mm512_set1_epi32(0x7fffffff);
	uint32_t b, n = a->cols / ACT_BLOCK, next = act_step(a, t);
	struct act_block *k = act_at(a, t, 0);
	int32_t top, s0, s1;
	float amax, inv;

	for (b = 0; b < n; b++, x += ACT_BLOCK, k += next) {
		__m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
		__m512i u0 = _mm512_and_si512(_mm512_castps_si512(v0), abs);
		__m512i u1 = _mm512_and_si512(_mm512_castps_si512(v1), abs);
		__m512i q0, q1;

		top = _mm512_reduce_max_epi32(_mm512_max_epi32(u0, u1));
		amax = fmt_bits_float((uint32_t)top);
		inv = 0;
		k->d = 0;
		if (top >= 0x7f800000) {
			k->d = fmt_bits_float(0x7fc00000);
		} else if (amax >= ACT_TINY) {
			k->d = amax / 127.0f;
			inv = 127.0f / amax;
		}
		q0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, _mm512_set1_ps(inv)));
		q1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, _mm512_set1_ps(inv)));
		if (top >= 0x7f800000)
			q0 = q1 = _mm512_setzero_si512();
		_mm_storeu_si128((__m128i *)k->q, _mm512_cvtepi32_epi8(q0));
		_mm_storeu_si128((__m128i *)(k->q + 16),
				 _mm512_cvtepi32_epi8(q1));
		s0 = _mm512_reduce_add_epi32(q0);
		s1 = _mm512_reduce_add_epi32(q1);
		k->off = -128 * (s0 + s1);
		k->ds = k->d * (float)(s0 + s1);
		k->off16[0] = -128 * s0;
		k->off16[1] = -128 * s1;
		k->ds16[0] = k->d * (float)s0;
		k->ds16[1] = k->d * (float)s1;
		k->pad = 0;
	}
}

void mat_init_avx512(struct mat_kernels *k)
{
	k->act_quant = act_quant_avx512;
	k->pack = mat_pack_avx512;
#define FLOAT_FMT(id, ggml, bytes, to, from) \
	k->mul[FMT_##id] = mul_##id##_avx512;
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind) \
	k->mul[FMT_##id] = mul_##x##_avx512;
#include "../quant.def"
}
