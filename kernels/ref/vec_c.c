/* SPDX-License-Identifier: MIT */
/*
 * vec_c.c - the vector kernels in plain C: what they are, lane by lane.
 *
 * Written to be read. The vector files compute the same in the same order, and
 * the checker compares bits.
 */
#include <math.h>
#include <string.h>

#include "../vec.h"

#define L VEC_LANES

static float max_f(float a, float b)
{
	return a > b ? a : b;
}

static float min_f(float a, float b)
{
	return a < b ? a : b;
}

static float tree_sum(float v[L])
{
	uint32_t w, i;

	for (w = L / 2; w; w /= 2)
		for (i = 0; i < w; i++)
			v[i] = v[i] + v[i + w];
	return v[0];
}

static float tree_max(float v[L])
{
	uint32_t w, i;

	for (w = L / 2; w; w /= 2)
		for (i = 0; i < w; i++)
			v[i] = max_f(v[i], v[i + w]);
	return v[0];
}

float vec_exp(float x)
{
	float c, k, r, p, scale;
	uint32_t bits;

	/* In this order a NaN passes both. */
	c = max_f(VEC_EXP_MIN, x);
	c = min_f(VEC_EXP_MAX, c);
	k = fmaf(c, VEC_EXP_LOG2E, VEC_EXP_MAGIC);
	memcpy(&bits, &k, 4);
	bits = (bits << 23) + 0x3f800000u;
	memcpy(&scale, &bits, 4);
	k = k - VEC_EXP_MAGIC;
	r = fmaf(k, -VEC_EXP_LN2_HI, c);
	r = fmaf(k, -VEC_EXP_LN2_LO, r);
	p = VEC_EXP_C6;
	p = fmaf(p, r, VEC_EXP_C5);
	p = fmaf(p, r, VEC_EXP_C4);
	p = fmaf(p, r, VEC_EXP_C3);
	p = fmaf(p, r, VEC_EXP_C2);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	p = p * scale;
	return x < VEC_EXP_MIN ? 0.0f : p;
}

float vec_from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
	uint32_t exp = (h >> 10) & 31, man = h & 0x3ffu, bits;
	float f;

	if (exp == 31) /* infinity; a NaN becomes a quiet one */
		bits = sign | 0x7f800000u | man << 13 | (man ? 0x400000u : 0);
	else if (exp)
		bits = sign | (exp + 112) << 23 | man << 13;
	else { /* man * 2^-24, exact */
		f = (float)man * 0x1p-24f;
		memcpy(&bits, &f, 4);
		bits |= sign;
	}
	memcpy(&f, &bits, 4);
	return f;
}

uint16_t vec_to_f16(float f)
{
	uint32_t bits, sign, a, shift, man, half;

	memcpy(&bits, &f, 4);
	sign = bits >> 16 & 0x8000u;
	a = bits & 0x7fffffffu;
	if (a > 0x7f800000u)
		return sign | 0x7e00u | (a >> 13 & 0x3ffu);
	if (a >= 0x477ff000u) /* rounds to 2^16 or more */
		return sign | 0x7c00u;
	if (a >= 0x38800000u) { /* normal: rebias, round to even */
		a -= 112u << 23;
		return sign | (a + 0xfffu + (a >> 13 & 1)) >> 13;
	}
	if (a < 0x33000000u) /* below half of the smallest */
		return sign;
	shift = 126 - (a >> 23); /* of a 24-bit mantissa, 14 to 24 */
	man = (a & 0x7fffffu) | 0x800000u;
	half = man >> shift;
	man &= (1u << shift) - 1;
	if (man > 1u << (shift - 1) || (man == 1u << (shift - 1) && (half & 1)))
		half++;
	return sign | half;
}

static void rmsnorm_c(float *out, const float *x, const float *w, uint32_t n,
		      float eps)
{
	float sum[L], s[L], scale;
	uint32_t at, end, i;

	for (at = 0; at < n; at = end) {
		end = n - at < VEC_NORM_CHUNK ? n : at + VEC_NORM_CHUNK;
		memset(s, 0, sizeof(s));
		for (i = at; i < end; i++)
			s[i % L] = fmaf(x[i], x[i], s[i % L]);
		for (i = 0; i < L; i++)
			sum[i] = at ? sum[i] + s[i] : s[i];
	}
	scale = 1.0f / sqrtf(tree_sum(sum) / (float)n + eps);
	for (i = 0; i < n; i++) {
		out[i] = x[i] * scale;
		if (w)
			out[i] = out[i] * w[i];
	}
}

static void add_c(float *out, const float *x, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		out[i] = out[i] + x[i];
}

static void scale_c(float *x, float s, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		x[i] = x[i] * s;
}

static void rope_c(float *x, const float *cos, const float *sin, uint32_t n,
		   bool halves)
{
	uint32_t i, a, b;
	float xa, xb;

	for (i = 0; i < n / 2; i++) {
		a = halves ? i : 2 * i;
		b = halves ? i + n / 2 : 2 * i + 1;
		xa = x[a];
		xb = x[b];
		x[a] = fmaf(xa, cos[a], xb * sin[a]);
		x[b] = fmaf(xb, cos[b], xa * sin[b]);
	}
}

static void silu_c(float *out, const float *g, const float *u, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		out[i] = g[i] / (1.0f + vec_exp(0.0f - g[i])) * u[i];
}

static void gelu_tanh_c(float *out, const float *g, const float *u, uint32_t n)
{
	uint32_t i;
	float y;

	for (i = 0; i < n; i++) {
		y = g[i] * fmaf(g[i] * g[i], VEC_GELU_B, 1.0f) * VEC_GELU_A;
		out[i] = g[i] / (1.0f + vec_exp(y)) * u[i];
	}
}

static void to_f16_c(uint16_t *out, const float *x, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		out[i] = vec_to_f16(x[i]);
}

/* A softmax under way: the largest score so far, the sum of weights in lanes,
 * the weighted sum of values. */
struct sum {
	float m, l[L], acc[VEC_ATTN_DIM];
};

/* One query against one block of 32 positions, of which it sees [lo, hi). */
static void attn_block(const struct vec_attn *a, const float *q,
		       const uint16_t *k, uint32_t lo, uint32_t hi,
		       struct sum *sum)
{
	const uint16_t *v = k + (size_t)a->head_dim * VEC_ATTN_BLOCK;
	float s[VEC_ATTN_BLOCK], top[L], m, c;
	uint32_t i, j, d;

	for (j = 0; j < VEC_ATTN_BLOCK; j++) {
		s[j] = 0;
		for (d = 0; d < a->head_dim; d++)
			s[j] = fmaf(q[d],
				    vec_from_f16(k[d * VEC_ATTN_BLOCK + j]),
				    s[j]);
		s[j] = j >= lo && j < hi ? s[j] * a->scale : -INFINITY;
	}
	for (i = 0; i < L; i++)
		top[i] = max_f(s[i], s[i + L]);
	m = max_f(tree_max(top), sum->m);
	c = vec_exp(sum->m - m);
	sum->m = m;
	for (j = 0; j < VEC_ATTN_BLOCK; j++)
		s[j] = vec_exp(s[j] - m);
	for (i = 0; i < L; i++)
		sum->l[i] = fmaf(sum->l[i], c, s[i] + s[i + L]);
	for (d = 0; d < a->head_dim; d++) {
		sum->acc[d] = sum->acc[d] * c;
		for (j = lo; j < hi; j++)
			sum->acc[d] = fmaf(s[j],
					   vec_from_f16(v[j * a->head_dim + d]),
					   sum->acc[d]);
	}
}

/* One query against positions [from, to) of one span. */
static void attn_span(const struct vec_attn *a, const float *q, uint32_t from,
		      uint32_t to, struct sum *sum)
{
	uint32_t p, n, lo;

	memset(sum, 0, sizeof(*sum));
	sum->m = -INFINITY;
	for (p = from; p < to; p += n) {
		lo = p % VEC_ATTN_BLOCK;
		n = VEC_ATTN_BLOCK - lo < to - p ? VEC_ATTN_BLOCK - lo : to - p;
		attn_block(a, q,
			   a->kv + a->blocks[p / VEC_ATTN_BLOCK] * a->stride,
			   lo, lo + n, sum);
	}
}

static void attn_merge(struct sum *to, const struct sum *span, uint32_t dim)
{
	float m = max_f(span->m, to->m);
	float c1 = vec_exp(to->m - m), c2 = vec_exp(span->m - m);
	uint32_t i;

	to->m = m;
	for (i = 0; i < L; i++)
		to->l[i] = fmaf(to->l[i], c1, span->l[i] * c2);
	for (i = 0; i < dim; i++)
		to->acc[i] = fmaf(to->acc[i], c1, span->acc[i] * c2);
}

static uint32_t span_end(uint32_t from, uint32_t end)
{
	uint32_t to = (from / VEC_ATTN_SPAN + 1) * VEC_ATTN_SPAN;

	return to < end ? to : end;
}

static void attn_row(const struct vec_attn *a, uint32_t t, uint32_t g)
{
	const float *q = a->q + t * a->q_stride + g * a->head_dim;
	float *out = a->out + t * a->out_stride + g * a->head_dim, inv;
	uint32_t end = a->pos + t + 1, from, to, d;
	struct sum sum, span;

	from = a->window && end > a->window ? end - a->window : 0;
	to = span_end(from, end);
	attn_span(a, q, from, to, &sum);
	for (from = to; from < end; from = to) {
		to = span_end(from, end);
		attn_span(a, q, from, to, &span);
		attn_merge(&sum, &span, a->head_dim);
	}
	inv = 1.0f / tree_sum(sum.l);
	for (d = 0; d < a->head_dim; d++)
		out[d] = sum.acc[d] * inv;
}

static void attn_c(const struct vec_attn *a)
{
	uint32_t t, g;

	for (t = 0; t < a->n_tok; t++)
		for (g = 0; g < a->n_group; g++)
			attn_row(a, t, g);
}

void vec_fill_c(struct vec_kernels *k)
{
	k->rmsnorm = rmsnorm_c;
	k->add = add_c;
	k->scale = scale_c;
	k->rope = rope_c;
	k->glu[VEC_SILU] = silu_c;
	k->glu[VEC_GELU_TANH] = gelu_tanh_c;
	k->to_f16 = to_f16_c;
	k->attn = attn_c;
}
