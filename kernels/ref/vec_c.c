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
	float s[L] = { 0 }, scale;
	uint32_t i;

	for (i = 0; i < n; i++)
		s[i % L] = fmaf(x[i], x[i], s[i % L]);
	scale = 1.0f / sqrtf(tree_sum(s) / (float)n + eps);
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

/*
 * One query against one block of 32 positions, of which it sees [lo, hi).
 * @m is the largest score so far, @l the sum of weights in lanes, @acc the
 * weighted sum of values.
 */
static void attn_block(const struct vec_attn *a, const float *q,
		       const uint16_t *k, uint32_t lo, uint32_t hi, float *m,
		       float l[L], float *acc)
{
	const uint16_t *v = k + (size_t)a->head_dim * VEC_ATTN_BLOCK;
	float s[VEC_ATTN_BLOCK], top[L], new_m, c;
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
	new_m = max_f(tree_max(top), *m);
	c = vec_exp(*m - new_m);
	*m = new_m;
	for (j = 0; j < VEC_ATTN_BLOCK; j++)
		s[j] = vec_exp(s[j] - new_m);
	for (i = 0; i < L; i++)
		l[i] = fmaf(l[i], c, s[i] + s[i + L]);
	for (d = 0; d < a->head_dim; d++) {
		acc[d] = acc[d] * c;
		for (j = lo; j < hi; j++)
			acc[d] = fmaf(s[j],
				      vec_from_f16(v[j * a->head_dim + d]),
				      acc[d]);
	}
}

static void attn_c(const struct vec_attn *a)
{
	uint32_t t, g, b, d, last, first, lo, hi;
	float m, l[L], inv, *out;

	for (t = 0; t < a->n_tok; t++) {
		last = a->pos + t;
		first = a->window && last >= a->window ? last - a->window + 1
						       : 0;
		for (g = 0; g < a->n_group; g++) {
			out = a->out + t * a->out_stride + g * a->head_dim;
			m = -INFINITY;
			memset(l, 0, sizeof(l));
			memset(out, 0, a->head_dim * sizeof(*out));
			for (b = first / VEC_ATTN_BLOCK;
			     b <= last / VEC_ATTN_BLOCK; b++) {
				lo = b == first / VEC_ATTN_BLOCK
					     ? first % VEC_ATTN_BLOCK
					     : 0;
				hi = b == last / VEC_ATTN_BLOCK
					     ? last % VEC_ATTN_BLOCK + 1
					     : VEC_ATTN_BLOCK;
				attn_block(a,
					   a->q + t * a->q_stride +
						   g * a->head_dim,
					   a->kv + a->blocks[b] * a->stride, lo,
					   hi, &m, l, out);
			}
			inv = 1.0f / tree_sum(l);
			for (d = 0; d < a->head_dim; d++)
				out[d] = out[d] * inv;
		}
	}
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
