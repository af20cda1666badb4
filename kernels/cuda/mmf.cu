/* SPDX-License-Identifier: MIT */
/*
 * mmf.cu - products of float matrices with many tokens.
 *
 * Four neighbouring lanes have the four partial sums of the same 8 rows x 8
 * tokens: lane j takes columns j, j + 4, ..., so that a step is an outer product
 * of 8 weights and 8 inputs, and the sums meet only at the end. A warp has a
 * panel's 16 rows and 32 tokens, a block of threads four panels and 64 tokens;
 * its ring of stages has weights as they are and the input turned.
 *
 * Banks. The rows of a lane are 4r..4r+3 and 8+4r..8+4r+3, r = 0, 1; of 16 bytes
 * that eight lanes (j, r) read of four columns of F32, the odd columns lie half
 * of the banks further, and the columns 2 and 3 have their halves swapped. Of
 * the input these lanes read four columns, which are four banks apart.
 */
#include "mm.cuh"

#define PANELS (MMF_ROWS / MAT_PANEL)
#define ROW    (MMF_TOKENS + 4) /* of the turned input */

/* Ask for 32 columns of four panels. */
template <class P>
DEV void ask_weights(const struct cu_mul &p, uint32_t col, uint32_t to)
{
	constexpr uint32_t panel = MMF_COLS * MAT_PANEL * P::bytes / 16;
	uint32_t panel0 = blockIdx.y * PANELS, i;
	uint32_t last = (p.m[0].rows - 1) / MAT_PANEL - panel0;
	uint64_t bytes = panel_bytes<P>(p.m[0].cols);

#pragma unroll
	for (i = threadIdx.x; i < PANELS * panel; i += MMF_THREADS) {
		uint32_t c = i % panel;
		uint32_t at = P::bytes == 4 ? i ^ (c >> 2 & 2) : i;

		cp_async16(to + at * 16,
			   (const uint8_t *)p.m[0].data +
				   (panel0 + min(i / panel, last)) * bytes +
				   (size_t)col * MAT_PANEL * P::bytes + c * 16);
	}
}

/* Ask for 32 columns of 64 tokens. Eight lanes have eight columns, so that they
 * read 32 bytes, and a warp's four tokens go to the banks between. */
DEV void ask_input(const struct cu_mul &p, uint32_t col, uint32_t to)
{
	uint32_t token0 = blockIdx.x * MMF_TOKENS, last = p.n - 1 - token0, i;

#pragma unroll
	for (i = threadIdx.x; i < MMF_TOKENS * MMF_COLS; i += MMF_THREADS) {
		uint32_t k = i % 8 + i / (8 * MMF_TOKENS) * 8;
		uint32_t token = i / 8 % MMF_TOKENS;

		cp_async4(to + (k * ROW + token) * 4,
			  p.x +
				  (size_t)(token0 + min(token, last)) *
					  p.m[0].cols +
				  col + k);
	}
}

/* Four weights of column k: of the rows from 8h + 4r. */
template <class P>
DEV void weights(const uint8_t *panel, uint32_t k, uint32_t h, uint32_t r,
		 float *w)
{
	uint32_t chunk = k * 4 + 2 * h + r;
	uint2 v;

	if (P::bytes == 4) {
		*(float4 *)w = ((const float4 *)panel)[chunk ^ (k & 2)];
		return;
	}
	v = ((const uint2 *)panel)[chunk];
	w[0] = P::to_float(v.x & 0xffff);
	w[1] = P::to_float(v.x >> 16);
	w[2] = P::to_float(v.y & 0xffff);
	w[3] = P::to_float(v.y >> 16);
}

template <class P>
DEV void add_stage(float acc[8][8], const uint8_t *panel, const float *x,
		   uint32_t j, uint32_t r)
{
	uint32_t k;

#pragma unroll 2
	for (k = j; k < MMF_COLS; k += MAT_SUMS) {
		float w[8], y[8];

		weights<P>(panel, k, 0, r, w);
		weights<P>(panel, k, 1, r, w + 4);
		*(float4 *)y = *(const float4 *)(x + k * ROW);
		*(float4 *)(y + 4) = *(const float4 *)(x + k * ROW + 4);
#pragma unroll
		for (int i = 0; i < 64; i++)
			acc[i / 8][i % 8] = __fmaf_rn(w[i / 8], y[i % 8],
						      acc[i / 8][i % 8]);
	}
}

/* The four partial sums become one; each lane puts one row of four. */
DEV void finish(const struct cu_mul &p, float acc[8][8], uint32_t row,
		uint32_t token, uint32_t j)
{
#pragma unroll
	for (int i = 0; i < 64; i++) {
		float *v = &acc[i / 8][i % 8];

		*v = *v + __shfl_xor_sync(ALL, *v, 1);
		*v = *v + __shfl_xor_sync(ALL, *v, 2);
	}
#pragma unroll
	for (int h = 0; h < 16; h++) {
		float v = acc[h / 8 * 4][h % 8];

#pragma unroll
		for (int i = 1; i < 4; i++)
			v = j == i ? acc[h / 8 * 4 + i][h % 8] : v;
		put(p, p.m[0].rows, token + h % 8, row + h / 8 * 8 + j, v);
	}
}

template <class P> DEV void mmf(const struct cu_mul &p)
{
	constexpr uint32_t x_at = MMF_ROWS * MMF_COLS * P::bytes;
	constexpr uint32_t stage = MMF_STAGE_BYTES(P::bytes);
	extern __shared__ __align__(128) uint8_t shared[];
	uint32_t warp = warp_id(), lane = lane_id(), at = smem_at(shared), s;
	uint32_t panel = warp / 2, j = lane % 4, r = lane / 4 % 2;
	uint32_t token = warp % 2 * 32 + lane / 8 * 8;
	uint32_t n = p.m[0].cols / MMF_COLS;
	float acc[8][8] = {};

	/* Weights do not depend on the kernel before this one. */
#pragma unroll
	for (int i = 0; i < MMF_STAGES - 1; i++)
		if (i < n)
			ask_weights<P>(p, i * MMF_COLS, at + i * stage);
	grid_wait();
#pragma unroll
	for (int i = 0; i < MMF_STAGES - 1; i++) {
		if (i < n)
			ask_input(p, i * MMF_COLS, at + i * stage + x_at);
		cp_commit();
	}
	grid_launch();
	for (s = 0; s < n; s++) {
		const uint8_t *from = shared + s % MMF_STAGES * stage;
		uint32_t next = s + MMF_STAGES - 1;
		uint32_t to = at + next % MMF_STAGES * stage;

		cp_wait<MMF_STAGES - 2>();
		__syncthreads();
		if (next < n) {
			ask_weights<P>(p, next * MMF_COLS, to);
			ask_input(p, next * MMF_COLS, to + x_at);
		}
		cp_commit();
		add_stage<P>(acc,
			     from + panel * MMF_COLS * MAT_PANEL * P::bytes,
			     (const float *)(from + x_at) + token, j, r);
	}
	finish(p, acc, (blockIdx.y * PANELS + panel) * MAT_PANEL + 4 * r,
	       blockIdx.x * MMF_TOKENS + token, j);
}

#define FLOAT_FMT(id, ggml, bytes, to, from)                         \
	extern "C" __global__ void __launch_bounds__(MMF_THREADS, 2) \
		mmf_##id(const __grid_constant__ struct cu_mul p)    \
	{                                                            \
		mmf<panel<FMT_##id>>(p);                             \
	}
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind)
#include "../quant.def"
