/* SPDX-License-Identifier: MIT */
/*
 * mv.cu - products of quantised matrices with few tokens.
 *
 * Eight warps compute the exact integer sums of a chunk and decode its scales;
 * meanwhile one warp asks for weights, and one warp a token does the previous
 * chunk's chain of fused multiply-adds, a lane a row, groups ascending. One
 * barrier a chunk.
 */
#include "mv.cuh"

#define ASKER	8u	       /* the warp that asks; those before sum */
#define SUMMERS (ASKER * WARP) /* threads */

/**
 * struct few - what a block shares about a chunk and its input
 * @sum:   int[group][tokens][MV_ROWS], see sum_at()
 * @scale: float[group][MV_ROWS]
 * @min:   likewise
 * @act:   the chunk's first block of token 0
 * @stride: bytes from a token to the next
 */
struct few {
	int *sum;
	float *scale;
	float *min;
	const uint8_t *act;
	uint32_t stride;
};

/* Rows are turned by token, so that lanes of an mma do not collide. */
template <int NT> DEV uint32_t sum_at(uint32_t group, uint32_t t, uint32_t row)
{
	if (NT > 2)
		row = (row + t / 2 * 8) % MV_ROWS;
	return (group * NT + t) * MV_ROWS + row;
}

DEV struct few few_at(const struct cu_mv &p, uint8_t *sums, uint32_t turn,
		      uint32_t tokens, const uint8_t *act, uint32_t block)
{
	uint32_t groups = p.groups;
	struct few f;

	f.sum = (int *)(sums + (turn & 1) * p.sum_bytes);
	f.scale = (float *)(f.sum + groups * tokens * MV_ROWS);
	f.min = f.scale + groups * MV_ROWS;
	f.act = act + block * sizeof(struct act_block);
	f.stride = p.act_stride;
	return f;
}

DEV int dot16(const uint32_t *w, uint4 q)
{
	int s = __dp4a((int)w[0], (int)q.x, 0);

	s = __dp4a((int)w[1], (int)q.y, s);
	s = __dp4a((int)w[2], (int)q.z, s);
	return __dp4a((int)w[3], (int)q.w, s);
}

/* Scales and minima of @n times 32 columns from block @b on as floats, by a
 * warp, a lane a row. There may be fewer columns. */
template <class P, int N>
DEV void scales_of(const struct few &f, const uint8_t *panel, uint32_t blocks,
		   uint32_t b)
{
	constexpr uint32_t parts = ACT_BLOCK / P::group,
			   per = P::block / ACT_BLOCK;
	const uint8_t *scales = panel + blocks * P::unit;
	uint32_t row = lane_id() % MAT_PANEL,
		 at = b * parts * MV_ROWS + lane_id();
	struct panel_raw raw[N * parts];
	float scale, min;
	uint32_t i;

	/* all before the first store, so that what is common is read once */
#pragma unroll
	for (i = 0; i < N * parts; i++) {
		uint32_t k = b + (per == 1 ? i : 0), g = i;

		if (per == 1)
			g = 0;
		else
			g += b % per * parts;
		if (per == 1 && k >= blocks)
			k = blocks - 1;
		raw[i] = panel_raw_get<P>(scales + k / per * P::scale_bytes,
					  row, g);
	}
#pragma unroll
	for (i = 0; i < N * parts; i++) {
		panel_raw_group<P>(raw[i], &scale, &min);
		f.scale[at + i * MV_ROWS] = scale;
		if (P::has_min)
			f.min[at + i * MV_ROWS] = min;
	}
}

/* A warp takes 64 columns, a lane a row. If only 32 are left it does them
 * twice. */
template <class P, int NT>
DEV void sums_by_row(const struct few &f, const uint8_t *panel, uint32_t stride,
		     uint32_t blocks)
{
	uint32_t lane = lane_id(), b, w[8];
	const uint8_t *mine = panel + lane / MAT_PANEL * stride;
	int h, i, t;

#pragma unroll 1
	for (b = 2 * warp_id(); b < blocks; b += 2 * ASKER) {
#pragma unroll
		for (h = 0; h < 2; h++) {
			uint32_t k = min(b + h, blocks - 1);

#pragma unroll
			for (i = 0; i < 8; i++)
				w[i] = panel_dot_quad<P>(mine + k * P::unit,
							 lane % MAT_PANEL, i);
#pragma unroll
			for (t = 0; t < NT; t++) {
				const uint4 *q =
					(const uint4 *)(f.act + t * f.stride +
							k * 64);
				int lo = dot16(w, q[0]);
				int hi = dot16(w + 4, q[1]);

				if (P::group == 32) {
					f.sum[sum_at<NT>(k, t, lane)] = lo + hi;
					continue;
				}
				f.sum[sum_at<NT>(2 * k, t, lane)] = lo;
				f.sum[sum_at<NT>(2 * k + 1, t, lane)] = hi;
			}
		}
		scales_of<P, 2>(f, mine, blocks, b);
	}
}

/* A warp takes 32 columns of both panels: what a lane holds is row g or g + 8
 * and quad t or t + 4 of weights, quad t and t + 4 of token g; it gets the sums
 * of both rows with tokens 2t and 2t + 1. Those past the last are not used. */
template <class P, int NT>
DEV void sums_by_mma(const struct few &f, const uint8_t *panel, uint32_t stride,
		     uint32_t blocks, uint32_t n)
{
	uint32_t g = lane_id() / 4, t = lane_id() % 4, k, half, part, i;
	constexpr uint32_t parts = ACT_BLOCK / P::group;
	const uint8_t *act = f.act + min(g, n - 1) * f.stride + 4 * t;

#pragma unroll 1
	for (k = warp_id(); k < blocks; k += ASKER) {
		const uint32_t *q = (const uint32_t *)(act + k * 64);
		uint32_t b[2] = { q[0], q[4] };

#pragma unroll
		for (half = 0; half < 2; half++) {
			const uint8_t *u = panel + half * stride + k * P::unit;
			uint32_t a[4], a_part[4];
			int d[4];

			for (i = 0; i < 4; i++)
				a[i] = panel_dot_quad<P>(u, g + i % 2 * 8,
							 t + i / 2 * 4);
#pragma unroll
			for (part = 0; part < parts; part++) {
				for (i = 0; i < 4; i++)
					a_part[i] = parts == 1 || i / 2 == part
							    ? a[i]
							    : 0;
				mma_k32(d, a_part, b, 0);
				for (i = 0; i < 4; i++)
					f.sum[sum_at<NT>(
						k * parts + part, 2 * t + i % 2,
						half * MAT_PANEL + g +
							i / 2 * 8)] = d[i];
			}
		}
		scales_of<P, 1>(f, panel + lane_id() / MAT_PANEL * stride,
				blocks, k);
	}
}

template <int NT>
DEV void sum_chunk(const struct cu_mv &p, const struct mv_at &at,
		   const struct few &f, const uint8_t *stage)
{
	uint32_t stride = p.of[at.mat].stride, blocks = at.cols / ACT_BLOCK;

	panel_case(p.mul.m[at.mat].fmt, [&](auto fmt) {
		typedef decltype(fmt) P;

		if constexpr (NT > 2)
			sums_by_mma<P, NT>(f, stage, stride, blocks, p.mul.n);
		else
			sums_by_row<P, NT>(f, stage, stride, blocks);
	});
}

/* The chain of a token over a chunk, a lane a row. */
template <int NT, int PARTS, bool MIN>
DEV float chain_of(const struct few &f, uint32_t blocks, uint32_t t, float acc)
{
	const uint8_t *act = f.act + t * f.stride;
	uint32_t lane = lane_id(), b;
	int i;

#pragma unroll 4
	for (b = 0; b < blocks; b++, act += sizeof(struct act_block)) {
		const struct act_block *a = (const struct act_block *)act;
		float d = a->d;

#pragma unroll
		for (i = 0; i < PARTS; i++) {
			uint32_t g = b * PARTS + i, at = g * MV_ROWS + lane;
			int sum = f.sum[sum_at<NT>(g, t, lane)];

			acc = __fmaf_rn((float)sum, f.scale[at] * d, acc);
			if (MIN)
				acc = __fmaf_rn(f.min[at],
						PARTS == 1 ? a->ds : a->ds16[i],
						acc);
		}
	}
	return acc;
}

template <int NT>
DEV float chain_chunk(const struct cu_mv &p, const struct mv_at &at,
		      const struct few &f, uint32_t t, float acc)
{
	uint32_t blocks = at.cols / ACT_BLOCK;
	uint32_t chain = p.of[at.mat].chain;

	if (chain & CU_CHAIN_HALVES)
		return chain & CU_CHAIN_MIN
			       ? chain_of<NT, 2, true>(f, blocks, t, acc)
			       : chain_of<NT, 2, false>(f, blocks, t, acc);
	return chain & CU_CHAIN_MIN ? chain_of<NT, 1, true>(f, blocks, t, acc)
				    : chain_of<NT, 1, false>(f, blocks, t, acc);
}

/* The input as quantised blocks, in shared memory if there is room. Returns
 * where. */
DEV const uint8_t *input(const struct cu_mv &p, uint8_t *to, float *scratch)
{
	const struct cu_mul &m = p.mul;
	uint32_t blocks = m.m[0].cols / ACT_BLOCK, i, t, b;
	const float *scale = NULL;

	if (!p.staged)
		return (const uint8_t *)m.act;
	if (m.in == CU_IN_ACT) {
		for (i = threadIdx.x; i < m.n * blocks * 4; i += blockDim.x) {
			t = i / (blocks * 4);
			b = i % (blocks * 4);
			*(uint4 *)(to + t * p.act_stride + 16 * b) =
				((const uint4 *)m.act)[i];
		}
		return to;
	}
	if (m.in == CU_IN_NORM)
		scale = norm_rows(m.x, m.m[0].cols, m.n, m.eps, scratch);
#pragma unroll 2
	for (i = warp_id(); i < m.n * blocks; i += blockDim.x / WARP) {
		float x = m.x[(size_t)i * ACT_BLOCK + lane_id()];

		t = i / blocks;
		b = i % blocks;
		if (scale)
			x = x * scale[t];
		if (scale && m.norm)
			x = x * m.norm[b * ACT_BLOCK + lane_id()];
		quantise((struct act_block *)(to + t * p.act_stride) + b, x);
	}
	return to;
}

template <int NT> DEV void few(const struct cu_mv &p)
{
	extern __shared__ __align__(128) uint8_t smem[];
	uint8_t *sums = smem + MV_STAGES * p.stage;
	uint32_t per = p.cols / ACT_BLOCK, chunks = mv_chunks(p), i;
	uint32_t warp = warp_id();
	struct mv_at at = {};
	const uint8_t *act;
	bool more = false;
	float acc = 0, gate = 0;

	grid_launch();
	if (warp == ASKER)
		mv_ask_first(p, &at, &more, smem);
	grid_wait();
	act = input(p, sums + 2 * p.sum_bytes, (float *)sums);
	if (warp == ASKER) {
		mv_ask_rest(p, &at, &more, smem, chunks + 1);
		return;
	}
	mv_find(p, &at);
	if (warp > ASKER)
		__syncthreads();
	for (i = 0; i < chunks; i++, mv_next(p, &at)) {
		struct few f = few_at(p, sums, i, NT, act, at.chunk * per);

		__syncthreads();
		if (warp < ASKER) {
			sum_chunk<NT>(p, at, f, smem + i % MV_STAGES * p.stage);
			continue;
		}
		acc = chain_chunk<NT>(p, at, f, warp - ASKER - 1, acc);
		if (mv_ends(p, at)) {
			mv_end(p, at, warp - ASKER - 1, acc, &gate);
			acc = 0;
		}
	}
	if (warp < ASKER)
		__syncthreads();
}

/* Shared memory for as many blocks is there on 9.0 alone. */
#if __CUDA_ARCH__ == 900
#define FEWER 0
#else
#define FEWER 1
#endif
#define FEW(nt, per_sm)                                                       \
	extern "C" __global__ void __launch_bounds__((ASKER + 1 + nt) * WARP, \
						     per_sm - FEWER)          \
		mv_##nt(const __grid_constant__ struct cu_mv p)               \
	{                                                                     \
		few<nt>(p);                                                   \
	}

FEW(1, 3)
FEW(2, 3)
FEW(8, 2)
