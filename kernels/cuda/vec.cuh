/* SPDX-License-Identifier: MIT */
/*
 * vec.cuh - what the kernels share of ../vec.h: its exp, trees, norm,
 * activations and cache, and the quantisation of ../mat.h.
 *
 * The same bits as kernels/ref/vec_c.c and act_quant_c(). Sums and products are
 * plain operators, which nvcc is told not to contract; fma is __fmaf_rn().
 */
#pragma once
#include "../mat.h"
#include "../vec.h"
#include "op.h"
#include "ptx.cuh"

#define WARP	 32u
#define ALL	 0xffffffffu
#define INFINITE __int_as_float(0x7f800000)

DEV uint32_t lane_id()
{
	return threadIdx.x % WARP;
}

DEV uint32_t warp_id()
{
	return threadIdx.x / WARP;
}

/* Ask for what comes next, all warps of the grid a part of it. Weights depend on
 * no launch: this needs no grid_wait(). */
DEV void ahead(const struct cu_ahead &a)
{
	uint32_t block =
		blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
	uint32_t warps = blockDim.x / WARP;
	uint32_t first = (block * warps + warp_id()) * L2_PIECE, at;
	uint32_t step = gridDim.x * gridDim.y * gridDim.z * warps * L2_PIECE;

#pragma unroll
	for (int i = 0; i < CU_MATS; i++)
		for (at = first; at < a.bytes[i]; at += step)
			l2_prefetch((const uint8_t *)a.from[i] + at,
				    min(a.bytes[i] - at, L2_PIECE), lane_id());
}

DEV float max_f(float a, float b)
{
	return a > b ? a : b;
}

DEV float min_f(float a, float b)
{
	return a < b ? a : b;
}

DEV float from_f16(uint16_t h)
{
	float f;

	asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
	return f;
}

DEV uint16_t to_f16(float f)
{
	uint16_t h;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
}

/* vec_exp() of ../vec.h, and the order in which a NaN passes. */
DEV float exp_f(float x)
{
	float c, k, r, p;

	c = max_f(VEC_EXP_MIN, x);
	c = min_f(VEC_EXP_MAX, c);
	k = __fmaf_rn(c, VEC_EXP_LOG2E, VEC_EXP_MAGIC);
	p = __uint_as_float((__float_as_uint(k) << 23) + 0x3f800000u);
	k = k - VEC_EXP_MAGIC;
	r = __fmaf_rn(k, -VEC_EXP_LN2_HI, c);
	r = __fmaf_rn(k, -VEC_EXP_LN2_LO, r);
	c = __fmaf_rn(VEC_EXP_C6, r, VEC_EXP_C5);
	c = __fmaf_rn(c, r, VEC_EXP_C4);
	c = __fmaf_rn(c, r, VEC_EXP_C3);
	c = __fmaf_rn(c, r, VEC_EXP_C2);
	c = __fmaf_rn(c, r, 1.0f);
	c = __fmaf_rn(c, r, 1.0f);
	return x < VEC_EXP_MIN ? 0.0f : c * p;
}

/* act(g) * u, @kind of enum vec_act */
DEV float glu_f(uint32_t kind, float g, float u)
{
	float y = 0.0f - g;

	if (kind == VEC_GELU_TANH)
		y = g * __fmaf_rn(g * g, VEC_GELU_B, 1.0f) * VEC_GELU_A;
	return g / (1.0f + exp_f(y)) * u;
}

/* The tree over VEC_LANES lanes: lane l of each half of the warp has element
 * l, and all lanes get the sum. */
DEV float tree_sum(float v)
{
	v = v + __shfl_xor_sync(ALL, v, 8);
	v = v + __shfl_xor_sync(ALL, v, 4);
	v = v + __shfl_xor_sync(ALL, v, 2);
	return v + __shfl_xor_sync(ALL, v, 1);
}

/* Quantise a block: by a warp, of which lane i has element i. @to may be in
 * shared memory. */
DEV void quantise(struct act_block *to, float x)
{
	uint32_t top = __reduce_max_sync(ALL, __float_as_uint(x) & 0x7fffffffu);
	float amax = __uint_as_float(top), d = 0, inv = 0;
	uint32_t lane = lane_id();
	int q = 0, low, sum;

	if (top >= 0x7f800000u) {
		d = __uint_as_float(0x7fc00000u);
	} else if (amax >= ACT_TINY) {
		d = amax / 127.0f;
		inv = 127.0f / amax;
	}
	if (inv > 0)
		q = __float2int_rn(x * inv);
	sum = __reduce_add_sync(ALL, q);
	low = __reduce_add_sync(ALL, lane < 16 ? q : 0);
	to->q[lane] = (int8_t)q;
	if (lane)
		return;
	to->d = d;
	to->off = -128 * sum;
	to->ds = d * (float)sum;
	to->off16[0] = -128 * low;
	to->off16[1] = -128 * (sum - low);
	to->ds16[0] = d * (float)low;
	to->ds16[1] = d * (float)(sum - low);
	to->pad = 0;
}

DEV uint32_t norm_chunks(uint32_t width)
{
	return (width + VEC_NORM_CHUNK - 1) / VEC_NORM_CHUNK;
}

/* A lane of a chunk's squares. */
DEV float norm_lane(const float *x, uint32_t width, uint32_t chunk,
		    uint32_t lane)
{
	uint32_t i = chunk * VEC_NORM_CHUNK + lane, k;
	float s = 0;

#pragma unroll
	for (k = 0; k < VEC_NORM_CHUNK; k += VEC_LANES)
		if (i + k < width)
			s = __fmaf_rn(x[i + k], x[i + k], s);
	return s;
}

/* What rmsnorm multiplies a row by, of the sum of its squares. */
DEV float norm_scale(float sum, uint32_t width, float eps)
{
	return 1.0f / sqrtf(sum / (float)width + eps);
}

/* The same of a row, by one warp: half a warp takes a chunk. */
DEV float norm_row(const float *x, uint32_t width, float eps)
{
	uint32_t lane = lane_id(), n = norm_chunks(width), c;
	float sum = 0, s;

	for (c = 0; c < n; c += 2) {
		s = norm_lane(x, width, c + lane / VEC_LANES, lane % VEC_LANES);
		sum = c ? sum + __shfl_sync(ALL, s, lane % VEC_LANES)
			: __shfl_sync(ALL, s, lane % VEC_LANES);
		s = __shfl_sync(ALL, s, lane % VEC_LANES + VEC_LANES);
		if (c + 1 < n)
			sum = sum + s;
	}
	return norm_scale(tree_sum(sum), width, eps);
}

/* Floats of shared memory that norm_rows() wants. */
#define NORM_SMEM(rows, width) \
	((rows) *              \
	 (VEC_LANES * (((width) + VEC_NORM_CHUNK - 1) / VEC_NORM_CHUNK) + 1u))

/*
 * The same of @n rows, by the whole block: scale[t] for row t, in the @n floats
 * at the end of @smem that it returns. Rows may be in shared memory, written
 * before a barrier; there is one at the end.
 */
DEV const float *norm_rows(const float *x, uint32_t width, uint32_t n,
			   float eps, float *smem)
{
	uint32_t per = norm_chunks(width) * VEC_LANES, i, t, lane = lane_id();
	float *scale = smem + n * per;
	float sum;

	for (i = threadIdx.x; i < n * per; i += blockDim.x)
		smem[i] = norm_lane(x + (size_t)(i / per) * width, width,
				    i % per / VEC_LANES, i % VEC_LANES);
	__syncthreads();
	for (t = warp_id(); t < n; t += blockDim.x / WARP) {
		sum = smem[t * per + lane % VEC_LANES];
		for (i = VEC_LANES; i < per; i += VEC_LANES)
			sum = sum + smem[t * per + i + lane % VEC_LANES];
		sum = tree_sum(sum);
		if (lane == 0)
			scale[t] = norm_scale(sum, width, eps);
	}
	__syncthreads();
	return scale;
}

/* Block @b of the sequence that @token is of: key-value head @head's part. */
DEV uint16_t *kv_block(const struct cu_kv *kv, uint32_t token, uint32_t b,
		       uint32_t head)
{
	return kv->base + kv->tables[kv->table[token] + b] * kv->stride +
	       (size_t)head * kv->head_dim * (2 * VEC_ATTN_BLOCK);
}

/* Element @i of a head before rotation; @s of norm_row(). */
DEV float rope_in(const float *x, const float *norm, float s, uint32_t i)
{
	return norm ? x[i] * s * norm[i] : x[i];
}

/* Element @i of a head at position @pos, normed and rotated. */
DEV float rope_at(const struct cu_rope_kv *p, const float *x, const float *norm,
		  float s, uint32_t pos, uint32_t i)
{
	uint32_t n = p->n_rope, pair = i ^ 1;
	size_t at = (size_t)pos * n + i;
	float y = rope_in(x, norm, s, i);

	if (i >= n)
		return y;
	if (p->halves)
		pair = i < n / 2 ? i + n / 2 : i - n / 2;
	return __fmaf_rn(y, p->cos[at], rope_in(x, norm, s, pair) * p->sin[at]);
}
