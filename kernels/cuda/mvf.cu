/* SPDX-License-Identifier: MIT */
/*
 * mvf.cu - products of float matrices with few tokens.
 *
 * A thread has one of the MAT_SUMS partial sums of a row, for all tokens.
 */
#include "mv.cuh"

#define THREADS (MV_ROWS * MAT_SUMS)

/* Lanes 4r..4r+3 have the sums of row r of eight. */
DEV uint32_t my_row()
{
	return threadIdx.x / MAT_SUMS;
}

DEV uint32_t my_sum()
{
	return threadIdx.x % MAT_SUMS;
}

template <class P, int NT>
DEV void add_chunk(const uint8_t *w, uint32_t cols, const float *x,
		   uint32_t stride, uint32_t n, float *acc)
{
	uint32_t k;
	int t;

#pragma unroll 4
	for (k = my_sum(); k < cols; k += MAT_SUMS) {
		float v = panel_float<P>(w, k, my_row() % MAT_PANEL);

#pragma unroll
		for (t = 0; t < NT; t++)
			if (NT <= 2 || t < n)
				acc[t] =
					__fmaf_rn(v, x[t * stride + k], acc[t]);
	}
}

/* The input in shared memory, or where it is if there is no room. */
DEV const float *input(const struct cu_mv &p, float *to, float *scratch)
{
	const struct cu_mul &m = p.mul;
	uint32_t cols = m.m[0].cols, i;
	const float *scale = NULL;
	float x;

	if (!p.staged)
		return m.x;
	if (m.in == CU_IN_NORM)
		scale = norm_rows(m.x, cols, m.n, m.eps, scratch);
	for (i = threadIdx.x; i < m.n * cols; i += THREADS) {
		x = m.x[i];
		if (scale)
			x = x * scale[i / cols];
		if (scale && m.norm)
			x = x * m.norm[i % cols];
		to[i] = x;
	}
	return to;
}

/* Sums of four lanes to products, which warps then take by row. */
template <int NT>
DEV void end_tile(const struct cu_mv &p, const struct mv_at &at, float *y,
		  float *acc, float *gate)
{
	uint32_t n = p.mul.n, t, k;

#pragma unroll
	for (t = 0; t < NT; t++) {
		float v = acc[t];

		v = v + __shfl_xor_sync(ALL, v, 1);
		v = v + __shfl_xor_sync(ALL, v, 2);
		if (my_sum() == 0 && t < n)
			y[t * MV_ROWS + my_row()] = v;
		acc[t] = 0;
	}
	__syncthreads();
	for (k = 0; k < (NT + 3) / 4; k++) {
		t = warp_id() + k * (THREADS / WARP);
		if (t < n)
			mv_end(p, at, t, y[t * MV_ROWS + lane_id()], gate + k);
	}
}

template <int NT> DEV void floats(const struct cu_mv &p)
{
	extern __shared__ __align__(128) uint8_t smem[];
	float *y = (float *)(smem + MV_STAGES * p.stage);
	float *xs = (float *)((uint8_t *)y + 2 * p.sum_bytes);
	uint32_t ring = smem_at(smem), cols = p.mul.m[0].cols, i;
	float acc[NT] = { 0 }, gate[(NT + 3) / 4] = { 0 };
	struct mv_at at, next;
	bool more, here;
	const float *x;

	grid_launch();
	here = mv_start(p, &at, &next, &more, ring);
	grid_wait();
	x = input(p, xs, y);
	for (i = 0; here; i++) {
		const uint8_t *stage =
			smem + i % MV_STAGES * p.stage +
			my_row() / MAT_PANEL * p.of[at.mat].stride;

		cp_wait<MV_STAGES - 2>();
		__syncthreads();
		if (more) {
			mv_fetch(p, next,
				 ring + (i + MV_STAGES - 1) % MV_STAGES *
						 p.stage);
			more = mv_next(p, &next);
		}
		cp_commit();
		panel_float_case(p.mul.m[at.mat].fmt, [&](auto f) {
			add_chunk<decltype(f), NT>(stage, at.cols,
						   x + at.chunk * p.cols, cols,
						   p.mul.n, acc);
		});
		if (mv_ends(p, at))
			end_tile<NT>(p, at, y, acc, gate);
		here = mv_next(p, &at);
	}
}

#define FLOATS(nt)                                               \
	extern "C" __global__ void __launch_bounds__(THREADS, 4) \
		mvf_##nt(const __grid_constant__ struct cu_mv p) \
	{                                                        \
		floats<nt>(p);                                   \
	}

FLOATS(1)
FLOATS(2)
FLOATS(8)
