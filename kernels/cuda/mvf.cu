/* SPDX-License-Identifier: MIT */
/*
 * mvf.cu - products of float matrices with few tokens.
 *
 * A thread has one of the MAT_SUMS partial sums of a row, for all tokens; a
 * warp more asks for weights.
 */
#include "mv.cuh"

#define ASKER	4u	       /* the warp that asks */
#define THREADS (ASKER * WARP) /* that sum: MV_ROWS * MAT_SUMS */

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
	for (i = threadIdx.x; i < m.n * cols; i += blockDim.x) {
		x = m.x[i];
		if (scale)
			x = x * scale[i / cols];
		if (scale && m.norm)
			x = x * m.norm[i % cols];
		to[i] = x;
	}
	return to;
}

/* Sums of four lanes to products. */
template <int NT> DEV void products(float *y, float *acc, uint32_t n)
{
	uint32_t t;

#pragma unroll
	for (t = 0; t < NT; t++) {
		float v = acc[t];

		v = v + __shfl_xor_sync(ALL, v, 1);
		v = v + __shfl_xor_sync(ALL, v, 2);
		if (my_sum() == 0 && t < n)
			y[t * MV_ROWS + my_row()] = v;
		acc[t] = 0;
	}
}

/* For those that sum. */
DEV void barrier()
{
	asm volatile("bar.sync 1, %0;" ::"n"(ASKER * WARP) : "memory");
}

template <int NT> DEV void floats(const struct cu_mv &p)
{
	extern __shared__ __align__(128) uint8_t smem[];
	float *y = (float *)(smem + MV_STAGES * p.stage);
	float *xs = (float *)((uint8_t *)y + 2 * p.sum_bytes);
	uint32_t n = p.mul.n, chunks = mv_chunks(p), warp = warp_id(), i, k;
	float acc[NT] = {}, gate[(NT + ASKER - 1) / ASKER] = {};
	struct mv_at at = {};
	bool more = false;
	const float *x;

	grid_launch();
	if (warp == ASKER)
		mv_ask_first(p, &at, &more, smem);
	grid_wait();
	x = input(p, xs, y);
	if (warp == ASKER) {
		mv_ask_rest(p, &at, &more, smem, chunks);
		return;
	}
	mv_find(p, &at);
	for (i = 0; i < chunks; i++, mv_next(p, &at)) {
		const uint8_t *w = smem + i % MV_STAGES * p.stage +
				   my_row() / MAT_PANEL * p.of[at.mat].stride;

		__syncthreads();
		panel_float_case(p.mul.m[at.mat].fmt, [&](auto f) {
			add_chunk<decltype(f), NT>(w, at.cols,
						   x + at.chunk * p.cols,
						   p.mul.m[0].cols, n, acc);
		});
		if (!mv_ends(p, at))
			continue;
		/* a warp has four sums of eight rows each, and then a token of
		 * all rows */
		products<NT>(y, acc, n);
		barrier();
#pragma unroll
		for (k = 0; k < (NT + ASKER - 1) / ASKER; k++)
			if (warp + k * ASKER < n)
				mv_end(p, at, warp + k * ASKER,
				       y[(warp + k * ASKER) * MV_ROWS +
					 lane_id()],
				       gate + k);
	}
}

#define FLOATS(nt)                                                      \
	extern "C" __global__ void __launch_bounds__(THREADS + WARP, 4) \
		mvf_##nt(const __grid_constant__ struct cu_mv p)        \
	{                                                               \
		floats<nt>(p);                                          \
	}

FLOATS(1)
FLOATS(2)
FLOATS(8)
