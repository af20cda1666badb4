/* SPDX-License-Identifier: MIT */
/*
 * vec_simd.h - the vector kernels over a type of 16 float lanes.
 *
 * A template, included once by each of vec_avx2.c and vec_avx512.c, which
 * define before it the type v16 and
 *   vl, vs      load, store 16 floats     vl_n, vs_n  the first n of them
 *   vh, vsh     load, store 16 f16        v1          one float in all lanes
 *   vadd vsub vmul vdiv                   vfma(a, b, c) = a * b + c, fused
 *   vmax, vmin  (a > b ? a : b), (a < b ? a : b)
 *   vpow2(k)    the float with bits (bits(k) << 23) + bits(1.0f)
 *   vzero_below(x, m, y)  x < m ? 0 : y   vkeep(x, lo, hi)  -inf outside
 *   vswap       lanes 2i and 2i + 1 exchanged
 *   vtree_sum, vtree_max  the fixed tree over the lanes
 *   FILL        name of the function that fills the slots
 *   QK_ROWS, QK_HALVES, PV_ROWS, PV_VECS  how much of attention fits in the
 *               registers: queries, and vectors of positions or dimensions
 * What is computed is in kernels/ref/vec_c.c; here is only how.
 */
#include <math.h>
#include <string.h>

#include "../vec.h"

#define L	    VEC_LANES
#define B	    VEC_ATTN_BLOCK
#define SPAN	    VEC_ATTN_SPAN
#define SPAN_BLOCKS (SPAN / B)
#define INLINE	    static inline __attribute__((always_inline))
#define NORM_CHUNKS 4
#define PREFETCH(p) __builtin_prefetch(p, 0, 2)

INLINE v16 vexp(v16 x)
{
	v16 c, k, r, p, s;

	c = vmax(v1(VEC_EXP_MIN), x);
	c = vmin(v1(VEC_EXP_MAX), c);
	k = vfma(c, v1(VEC_EXP_LOG2E), v1(VEC_EXP_MAGIC));
	s = vpow2(k);
	k = vsub(k, v1(VEC_EXP_MAGIC));
	r = vfma(k, v1(-VEC_EXP_LN2_HI), c);
	r = vfma(k, v1(-VEC_EXP_LN2_LO), r);
	p = vfma(v1(VEC_EXP_C6), r, v1(VEC_EXP_C5));
	p = vfma(p, r, v1(VEC_EXP_C4));
	p = vfma(p, r, v1(VEC_EXP_C3));
	p = vfma(p, r, v1(VEC_EXP_C2));
	p = vfma(p, r, v1(1.0f));
	p = vfma(p, r, v1(1.0f));
	return vzero_below(x, VEC_EXP_MIN, vmul(p, s));
}

/* Squares of @n chunks, or of one of @len elements: each is a chain of its own,
 * several of them keep the multipliers busy. To begin with 0 instead of the
 * first chunk changes no bit, a sum of squares is no -0. */
INLINE v16 add_squares(v16 sum, const float *x, const uint32_t n, uint32_t len)
{
	v16 s[NORM_CHUNKS], v;
	uint32_t i, c, rest = len % L;

	for (c = 0; c < n; c++)
		s[c] = v1(0);
	for (i = 0; i < len - rest; i += L)
		for (c = 0; c < n; c++) {
			v = vl(x + c * VEC_NORM_CHUNK + i);
			s[c] = vfma(v, v, s[c]);
		}
	if (rest) { /* + 0 * 0 leaves the other lanes as they are */
		v = vl_n(x + i, rest);
		s[0] = vfma(v, v, s[0]);
	}
	for (c = 0; c < n; c++)
		sum = vadd(sum, s[c]);
	return sum;
}

static void rmsnorm(float *out, const float *x, const float *w, uint32_t n,
		    float eps)
{
	const uint32_t chunk = VEC_NORM_CHUNK, many = NORM_CHUNKS * chunk;
	uint32_t i, end = n / L * L, rest = n % L;
	v16 s = v1(0), v;
	float scale;

	for (i = 0; n - i >= many; i += many)
		s = add_squares(s, x + i, NORM_CHUNKS, chunk);
	for (; n - i >= chunk; i += chunk)
		s = add_squares(s, x + i, 1, chunk);
	if (i < n)
		s = add_squares(s, x + i, 1, n - i);
	scale = 1.0f / sqrtf(vtree_sum(s) / (float)n + eps);
	for (i = 0; i < end; i += L) {
		v = vmul(vl(x + i), v1(scale));
		vs(out + i, w ? vmul(v, vl(w + i)) : v);
	}
	if (rest) {
		v = vmul(vl_n(x + end, rest), v1(scale));
		vs_n(out + end, w ? vmul(v, vl_n(w + end, rest)) : v, rest);
	}
}

static void add(float *out, const float *x, uint32_t n)
{
	uint32_t i;

	for (i = 0; i + L <= n; i += L)
		vs(out + i, vadd(vl(out + i), vl(x + i)));
	if (i < n)
		vs_n(out + i, vadd(vl_n(out + i, n - i), vl_n(x + i, n - i)),
		     n - i);
}

static void scale(float *x, float s, uint32_t n)
{
	uint32_t i;

	for (i = 0; i + L <= n; i += L)
		vs(x + i, vmul(vl(x + i), v1(s)));
	if (i < n)
		vs_n(x + i, vmul(vl_n(x + i, n - i), v1(s)), n - i);
}

/* Whole vectors are loaded and stored whole: masks are for the ends. */
static void rope_halves(float *x, const float *cos, const float *sin,
			uint32_t h)
{
	float *y = x + h;
	uint32_t i, n;
	v16 a, b, r;

	for (i = 0; i + L <= h; i += L) {
		a = vl(x + i);
		b = vl(y + i);
		vs(x + i, vfma(a, vl(cos + i), vmul(b, vl(sin + i))));
		vs(y + i, vfma(b, vl(cos + h + i), vmul(a, vl(sin + h + i))));
	}
	n = h - i;
	if (!n)
		return;
	a = vl_n(x + i, n);
	b = vl_n(y + i, n);
	r = vfma(a, vl_n(cos + i, n), vmul(b, vl_n(sin + i, n)));
	vs_n(x + i, r, n);
	r = vfma(b, vl_n(cos + h + i, n), vmul(a, vl_n(sin + h + i, n)));
	vs_n(y + i, r, n);
}

static void rope(float *x, const float *cos, const float *sin, uint32_t n,
		 bool halves)
{
	uint32_t i;
	v16 a;

	if (halves) {
		rope_halves(x, cos, sin, n / 2);
		return;
	}
	for (i = 0; i + L <= n; i += L) {
		a = vl(x + i);
		vs(x + i, vfma(a, vl(cos + i), vmul(vswap(a), vl(sin + i))));
	}
	n -= i;
	if (!n)
		return;
	a = vl_n(x + i, n);
	a = vfma(a, vl_n(cos + i, n), vmul(vswap(a), vl_n(sin + i, n)));
	vs_n(x + i, a, n);
}

INLINE v16 silu(v16 g)
{
	return vdiv(g, vadd(v1(1.0f), vexp(vsub(v1(0.0f), g))));
}

INLINE v16 gelu_tanh(v16 g)
{
	v16 y = vfma(vmul(g, g), v1(VEC_GELU_B), v1(1.0f));

	y = vmul(vmul(g, y), v1(VEC_GELU_A));
	return vdiv(g, vadd(v1(1.0f), vexp(y)));
}

static void glu_silu(float *out, const float *g, const float *u, uint32_t n)
{
	uint32_t i;

	for (i = 0; i + L <= n; i += L)
		vs(out + i, vmul(silu(vl(g + i)), vl(u + i)));
	if (i < n)
		vs_n(out + i,
		     vmul(silu(vl_n(g + i, n - i)), vl_n(u + i, n - i)), n - i);
}

static void glu_gelu(float *out, const float *g, const float *u, uint32_t n)
{
	uint32_t i;

	for (i = 0; i + L <= n; i += L)
		vs(out + i, vmul(gelu_tanh(vl(g + i)), vl(u + i)));
	if (i < n)
		vs_n(out + i,
		     vmul(gelu_tanh(vl_n(g + i, n - i)), vl_n(u + i, n - i)),
		     n - i);
}

static void to_f16(uint16_t *out, const float *x, uint32_t n)
{
	uint16_t tail[L];
	uint32_t i;

	for (i = 0; i + L <= n; i += L)
		vsh(out + i, vl(x + i));
	if (i < n) {
		vsh(tail, vl_n(x + i, n - i));
		memcpy(out + i, tail, (n - i) * sizeof(*tail));
	}
}

/* One query row of a call to attn. */
struct row {
	const float *q;
	float *out;	      /* the total of values, until the end */
	float *acc;	      /* the span's: out in the first, NULL before it */
	float m, total;	      /* largest score of the span, of those before */
	uint32_t first, last; /* positions that it sees */
	uint32_t lo, hi;      /* in the current block, hi excluded */
};

/* Scores of @n rows against the 32 positions of a block. The next block, whose
 * keys and values are as many lines, is fetched meanwhile. */
INLINE void qk_rows(const uint32_t n, const struct row *row, const uint16_t *k,
		    const uint16_t *next, uint32_t dim, float scale,
		    float (*s)[B])
{
	v16 acc[QK_ROWS][QK_HALVES], kv[QK_HALVES];
	uint32_t h, d, r, x;

	for (h = 0; h < B / L; h += QK_HALVES) {
		for (r = 0; r < n; r++)
			for (x = 0; x < QK_HALVES; x++)
				acc[r][x] = v1(0);
		for (d = 0; d < dim; d++) {
			for (x = 0; x < QK_HALVES; x++)
				kv[x] = vh(k + d * B + (h + x) * L);
			PREFETCH(next + d * B);
			PREFETCH(next + (dim + d) * B);
			for (r = 0; r < n; r++)
				for (x = 0; x < QK_HALVES; x++)
					acc[r][x] = vfma(v1(row[r].q[d]), kv[x],
							 acc[r][x]);
		}
		for (r = 0; r < n; r++)
			for (x = 0; x < QK_HALVES; x++)
				vs(s[r] + (h + x) * L,
				   vmul(acc[r][x], v1(scale)));
	}
}

static void qk(uint32_t n, const struct row *row, const uint16_t *k,
	       const uint16_t *next, uint32_t dim, float sc, float (*s)[B])
{
	switch (n) {
	case 1:
		qk_rows(1, row, k, next, dim, sc, s);
		break;
	case 2:
		qk_rows(2, row, k, next, dim, sc, s);
		break;
	case 3:
		qk_rows(3, row, k, next, dim, sc, s);
		break;
	case 4:
		qk_rows(4, row, k, next, dim, sc, s);
		break;
#if QK_ROWS == 8
	case 5:
		qk_rows(5, row, k, next, dim, sc, s);
		break;
	case 6:
		qk_rows(6, row, k, next, dim, sc, s);
		break;
	case 7:
		qk_rows(7, row, k, next, dim, sc, s);
		break;
	case 8:
		qk_rows(8, row, k, next, dim, sc, s);
		break;
#endif
	default:
		__builtin_unreachable();
	}
}

/* Scores become weights; the sum in lanes @l follows, and @c gets the factor
 * for the sum of values. */
INLINE void softmax_row(struct row *row, float *s, float *l, float *c)
{
	v16 a = vkeep(vl(s), row->lo, row->hi);
	v16 b = vkeep(vl(s + L), row->lo - L, row->hi - L);
	float top = vtree_max(vmax(a, b)), e[L];

	top = top > row->m ? top : row->m;
	vs(e, vexp(v1(row->m - top)));
	*c = e[0];
	row->m = top;
	a = vexp(vsub(a, v1(top)));
	b = vexp(vsub(b, v1(top)));
	vs(s, a);
	vs(s + L, b);
	vs(l, vfma(vl(l), v1(*c), vadd(a, b)));
}

/* Weighted values of @n rows that see the same positions, @nv vectors. */
INLINE void pv_vecs(const uint32_t n, const uint32_t nv, const struct row *row,
		    const float *c, const uint16_t *v, uint32_t dim, uint32_t d,
		    float (*s)[B])
{
	v16 acc[PV_ROWS][PV_VECS], vv[PV_VECS];
	uint32_t j, r, x;

	for (r = 0; r < n; r++)
		for (x = 0; x < nv; x++)
			acc[r][x] = vmul(vl(row[r].acc + d + x * L), v1(c[r]));
	for (j = row->lo; j < row->hi; j++) {
		for (x = 0; x < nv; x++)
			vv[x] = vh(v + (size_t)j * dim + d + x * L);
		for (r = 0; r < n; r++)
			for (x = 0; x < nv; x++)
				acc[r][x] = vfma(v1(s[r][j]), vv[x], acc[r][x]);
	}
	for (r = 0; r < n; r++)
		for (x = 0; x < nv; x++)
			vs(row[r].acc + d + x * L, acc[r][x]);
}

/* The last dim % 16 dimensions of one row. */
static void pv_tail(const struct row *row, float c, const uint16_t *v,
		    uint32_t dim, uint32_t d, const float *s)
{
	uint16_t h[L] = { 0 };
	uint32_t j, n = dim - d;
	v16 acc;

	acc = vmul(vl_n(row->acc + d, n), v1(c));
	for (j = row->lo; j < row->hi; j++) {
		memcpy(h, v + (size_t)j * dim + d, n * sizeof(*h));
		acc = vfma(v1(s[j]), vh(h), acc);
	}
	vs_n(row->acc + d, acc, n);
}

INLINE void pv_rows(const uint32_t n, const struct row *row, const float *c,
		    const uint16_t *v, uint32_t dim, float (*s)[B])
{
	uint32_t d = 0, r;

	for (; d + PV_VECS * L <= dim; d += PV_VECS * L)
		pv_vecs(n, PV_VECS, row, c, v, dim, d, s);
	for (; d + L <= dim; d += L)
		pv_vecs(n, 1, row, c, v, dim, d, s);
	if (d < dim)
		for (r = 0; r < n; r++)
			pv_tail(row + r, c[r], v, dim, d, s[r]);
}

static void pv(uint32_t n, const struct row *row, const float *c,
	       const uint16_t *v, uint32_t dim, float (*s)[B])
{
	switch (n) {
	case 1:
		pv_rows(1, row, c, v, dim, s);
		break;
	case 2:
		pv_rows(2, row, c, v, dim, s);
		break;
#if PV_ROWS == 4
	case 3:
		pv_rows(3, row, c, v, dim, s);
		break;
	case 4:
		pv_rows(4, row, c, v, dim, s);
		break;
#endif
	default:
		__builtin_unreachable();
	}
}

/* Rows [0, n), all of which see something of the block at @k. */
static void attn_rows(const struct vec_attn *a, struct row *row, uint32_t n,
		      float (*l)[L], const uint16_t *k, const uint16_t *next)
{
	const uint16_t *v = k + (size_t)a->head_dim * B;
	float s[QK_ROWS][B] __attribute__((aligned(64))), c[QK_ROWS];
	uint32_t i, r, w, g;

	for (i = 0; i < n; i += w) {
		w = n - i < QK_ROWS ? n - i : QK_ROWS;
		qk(w, row + i, k, next, a->head_dim, a->scale, s);
		for (r = 0; r < w; r++)
			softmax_row(row + i + r, s[r], l[i + r], &c[r]);
		for (r = 0; r < w; r += g) {
			for (g = 1; g < PV_ROWS && r + g < w &&
				    row[i + r + g].lo == row[i + r].lo &&
				    row[i + r + g].hi == row[i + r].hi;
			     g++)
				;
			pv(g, row + i + r, c + r, v, a->head_dim, s + r);
		}
	}
}

static uint32_t first_seen(const struct vec_attn *a, uint32_t t)
{
	uint32_t p = a->pos + t;

	return a->window && p >= a->window ? p - a->window + 1 : 0;
}

/* The rows of a call. */
struct work {
	struct row row[VEC_ATTN_ROWS];
	uint32_t n;
	/* sums of weights of the span, and the total of those before it */
	float l[VEC_ATTN_ROWS][L] __attribute__((aligned(64)));
	float total[VEC_ATTN_ROWS][L] __attribute__((aligned(64)));
	/* head_dim values a row; the first span's are in the row's out */
	float acc[VEC_ATTN_ROWS * VEC_ATTN_DIM] __attribute__((aligned(64)));
};

/* Return: how many. */
static uint32_t rows_init(const struct vec_attn *a, struct row *row)
{
	uint32_t n = a->n_tok * a->n_group, i, t;

	for (i = 0; i < n; i++, row++) {
		t = i / a->n_group;
		row->q = a->q + t * a->q_stride +
			 (size_t)(i % a->n_group) * a->head_dim;
		row->out = a->out + t * a->out_stride +
			   (size_t)(i % a->n_group) * a->head_dim;
		row->acc = NULL;
		row->last = a->pos + t;
		row->first = first_seen(a, t);
	}
	return n;
}

/* The rows that see something of the block, or the span, at @from: they are
 * consecutive, [*r0, *r1), and there is one at least. */
static void rows_that_see(struct work *w, uint32_t from, uint32_t n,
			  uint32_t *r0, uint32_t *r1)
{
	struct row *row = w->row;
	uint32_t i;

	*r0 = w->n;
	*r1 = 0;
	for (i = 0; i < w->n; i++, row++) {
		if (row->first >= from + n || row->last < from)
			continue;
		row->lo = row->first > from ? row->first - from : 0;
		row->hi = row->last - from < n ? row->last - from + 1 : n;
		*r0 = i < *r0 ? i : *r0;
		*r1 = i + 1;
	}
}

static void span_begin(const struct vec_attn *a, struct work *w, uint32_t r0,
		       uint32_t r1)
{
	struct row *row;
	uint32_t i;

	for (i = r0; i < r1; i++) {
		row = &w->row[i];
		row->acc = row->acc ? w->acc + i * a->head_dim : row->out;
		row->m = -INFINITY;
		memset(w->l[i], 0, sizeof(w->l[i]));
		memset(row->acc, 0, a->head_dim * sizeof(float));
	}
}

/* A row's first span is the total so far, others are merged into it. */
static void span_end(const struct vec_attn *a, struct work *w, uint32_t r0,
		     uint32_t r1)
{
	uint32_t i, d, n;
	struct row *row;
	v16 c1, c2;
	float m;

	for (i = r0; i < r1; i++) {
		row = &w->row[i];
		if (row->acc == row->out) {
			row->total = row->m;
			memcpy(w->total[i], w->l[i], sizeof(w->l[i]));
			continue;
		}
		m = row->m > row->total ? row->m : row->total;
		c1 = vexp(v1(row->total - m));
		c2 = vexp(v1(row->m - m));
		row->total = m;
		vs(w->total[i],
		   vfma(vl(w->total[i]), c1, vmul(vl(w->l[i]), c2)));
		for (d = 0; d + L <= a->head_dim; d += L)
			vs(row->out + d, vfma(vl(row->out + d), c1,
					      vmul(vl(row->acc + d), c2)));
		n = a->head_dim - d;
		if (n)
			vs_n(row->out + d,
			     vfma(vl_n(row->out + d, n), c1,
				  vmul(vl_n(row->acc + d, n), c2)),
			     n);
	}
}

static void attn(const struct vec_attn *a)
{
	uint32_t b, last = (a->pos + a->n_tok - 1) / B, stop, s0, s1, r0, r1;
	const uint16_t *k, *next;
	struct work w;
	uint32_t i, d;
	float inv;

	w.n = rows_init(a, w.row);
	for (b = first_seen(a, 0) / B; b <= last;) {
		rows_that_see(&w, b / SPAN_BLOCKS * SPAN, SPAN, &s0, &s1);
		span_begin(a, &w, s0, s1);
		stop = (b / SPAN_BLOCKS + 1) * SPAN_BLOCKS;
		for (; b <= last && b < stop; b++) {
			k = a->kv + a->blocks[b] * a->stride;
			next = b < last ? a->kv + a->blocks[b + 1] * a->stride
					: k;
			rows_that_see(&w, b * B, B, &r0, &r1);
			attn_rows(a, w.row + r0, r1 - r0, w.l + r0, k, next);
		}
		span_end(a, &w, s0, s1);
	}
	for (i = 0; i < w.n; i++) {
		inv = 1.0f / vtree_sum(vl(w.total[i]));
		for (d = 0; d < a->head_dim; d++)
			w.row[i].out[d] = w.row[i].out[d] * inv;
	}
}

void FILL(struct vec_kernels *k)
{
	k->rmsnorm = rmsnorm;
	k->add = add;
	k->scale = scale;
	k->rope = rope;
	k->glu[VEC_SILU] = glu_silu;
	k->glu[VEC_GELU_TANH] = glu_gelu;
	k->to_f16 = to_f16;
	k->attn = attn;
}
