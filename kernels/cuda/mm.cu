/* SPDX-License-Identifier: MIT */
/*
 * mm.cu - products of quantised matrices with many tokens, on the integer tensor
 * cores.
 *
 * A block of threads computes a tile of rows x tokens. It walks along the
 * columns in stages of some blocks of 32, which a ring of asynchronous copies
 * brings to shared memory as they are: codes of the panels, and of each block of
 * activations q, d and what goes with minima. Scales and minima become floats
 * once a stage, by all threads.
 *
 * mma's A is a panel's 16 rows, B is 8 tokens: lane 4g + t has rows g and g + 8,
 * quads t and t + 4 of them, and of the sums tokens 2t and 2t + 1. Which token
 * is which column of B is free: a warp's token 2 * WN * t + 2 * i + e is column
 * 2t + e of product i, so that what lane 4g + t needs of d lies in a row.
 *
 * Exact sums. A code is at most 128 from its offset once it is shifted, or at
 * most 31 where there is no offset, |q| <= 127 and a group has at most 32: a sum
 * is below 2^19. The float 1.5 * 2^23 + sum has the sum in the lowest bits of its
 * mantissa as long as that is below 2^22; so a sum begins at that float's bits,
 * is read as a float, and less 1.5 * 2^23 it is exact: an addition instead of a
 * conversion, of which a multiprocessor does an eighth as many.
 *
 * Banks. Vector v of a block of codes has its halves swapped if v & 2, so that
 * the four vectors which a warp's lanes read (t = 0..3) lie in four quarters.
 * The 8 rows of a ldmatrix are tokens 2 * WN * a + 2 * i + e: a (0..3) goes into
 * bits 0 and 2 of the number of their 16 bytes, e is bit 1. Of d four different
 * t read 16 bytes each, 2 * WN words apart: after each 32 words 4 are left out.
 * Factors of the eight g lie side by side.
 */
#include "mm.cuh"

#define SUM_ZERO 0x4b400000 /* 1.5 * 2^23 */

/* Two blocks of most formats do not fit into 100 KiB of shared memory, and the
 * compiler for these chips wants a few more registers than two would have. */
#if __CUDA_ARCH__ >= 1200
#define PER_SM(n) 1
#else
#define PER_SM(n) n
#endif

/* What is known of a tile when compiling, see MM_SHAPES. */
template <int F, int MT, int WN, int WARPS_M, int WARPS_N, int KB, int STAGES>
struct tile {
	typedef panel<F> fmt;
	static constexpr int mt = MT, wn = WN, warps_n = WARPS_N;
	static constexpr int kb = KB, stages = STAGES;
	static constexpr int threads = WARPS_M * WARPS_N * 32;
	static constexpr int panels = MT * WARPS_M, rows = panels * 16;
	static constexpr int tokens = 8 * WN * WARPS_N;
	static constexpr int per = fmt::block / 32;    /* 32 columns */
	static constexpr int groups = 32 / fmt::group; /* of them */
	static constexpr int bits = fmt::lo + fmt::hi;
	static constexpr bool min = fmt::has_min;
	/* of a stage: where things are, its size; of its factors */
	static constexpr int q_at = MM_CODES_BYTES(panels, KB, bits);
	static constexpr int d_at = q_at + KB * tokens * 32;
	static constexpr int ds_at = d_at + KB * MM_ROW(tokens) * 4;
	static constexpr int d_row = MM_ROW(tokens);
	static constexpr int scale_room = MM_SCALES(KB, per, fmt::scale_bytes);
	static constexpr int scales_at =
		q_at + MM_ACT_BYTES(tokens, KB, groups, min);
	static constexpr int stage = MM_STAGE_BYTES(
		panels, tokens, KB, bits, groups, min, per, fmt::scale_bytes);
	static constexpr int lane_factors = min ? 4 : 2;
	static_assert(rows * KB * groups % threads == 0, "whole");
	static_assert(tokens * KB % threads == 0, "whole");
	/* a stage lies in one block of the format, or blocks are counted */
	static constexpr bool ends = per % KB != 0;
	static_assert(!ends || groups == 1, "blocks and groups are one");
};

/**
 * struct job - a thread block's part of a product
 * @w:      its first panel
 * @act:    its first token
 * @blocks: of 32 columns
 * @last_panel, @last_token: counted from the first; they are read instead of
 *          what would lie beyond, and nothing of that is stored
 */
struct job {
	const uint8_t *w;
	const uint8_t *act;
	uint32_t panel_bytes;
	uint32_t blocks;
	uint32_t last_panel;
	uint32_t last_token;
};

/* threadIdx.x and blockIdx, but what follows from them is computed again: that
 * costs less than registers for as long as the sums need them. */
DEV uint32_t tid_again()
{
	uint32_t i;

	asm volatile("mov.u32 %0, %%tid.x;" : "=r"(i));
	return i;
}

DEV uint2 block_again()
{
	uint2 i;

	asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(i.x));
	asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(i.y));
	return i;
}

template <class T> DEV struct job job_of(const struct cu_mul &p)
{
	const struct cu_mat *m = &p.m[0];
	uint2 block = block_again();
	uint32_t panel0 = block.y * T::panels, token0 = block.x * T::tokens;
	struct job j;

	j.blocks = m->cols / 32;
	j.panel_bytes = (uint32_t)panel_bytes<typename T::fmt>(m->cols);
	j.w = (const uint8_t *)m->data + (size_t)panel0 * j.panel_bytes;
	j.act = (const uint8_t *)(p.act + (size_t)token0 * j.blocks);
	j.last_panel = (m->rows - 1) / 16 - panel0;
	j.last_token = p.n - 1 - token0;
	return j;
}

/* Ask for the codes of the stage from block b0. */
template <class T>
DEV void ask_codes(const struct job &j, uint32_t b0, uint32_t to)
{
	constexpr uint32_t unit = T::bits * 4, panel = T::kb * unit;
	constexpr uint32_t all = panel * T::panels; /* in 16 bytes */
	uint32_t tid = tid_again();

#pragma unroll
	for (uint32_t at = 0; at < all; at += T::threads) {
		uint32_t i = at + tid, c = i % panel;
		uint32_t from = min(i / panel, j.last_panel) * j.panel_bytes +
				b0 * T::fmt::unit +
				(c ^ (c % unit >> 2 & 2)) * 16;

		if (all % T::threads && i >= all)
			continue;
		if (T::ends && b0 + c / unit >= j.blocks)
			continue;
		cp_async16(to + i * 16, j.w + from);
	}
}

/* Where 16 bytes of a token's q are, and a token's float. */
template <class T> DEV uint32_t q_chunk(uint32_t token, uint32_t half)
{
	uint32_t a = token / (2 * T::wn);

	return (2 * token + half) ^ ((a & 1) | (a & 2) << 1);
}

DEV uint32_t d_word(uint32_t token)
{
	return token + token / 32 * 4;
}

DEV uint32_t act_from(const struct job &j, uint32_t token, uint32_t b)
{
	return (min(token, j.last_token) * j.blocks + b) *
	       (uint32_t)sizeof(struct act_block);
}

/* Ask for the activations of the stage from block b0. */
template <class T>
DEV void ask_acts(const struct job &j, uint32_t b0, uint32_t to)
{
	constexpr uint32_t all = T::tokens * T::kb;
	uint32_t tid = tid_again();

#pragma unroll
	for (uint32_t at = 0; at < 2 * all; at += T::threads) {
		uint32_t i = at + tid, tok = i / 2 % T::tokens, half = i % 2;
		uint32_t b = i / (2 * T::tokens);

		if (T::ends && b0 + b >= j.blocks)
			continue;
		cp_async16(to + T::q_at +
				   (b * T::tokens * 2 + q_chunk<T>(tok, half)) *
					   16,
			   j.act + act_from(j, tok, b0 + b) + half * 16);
	}
#pragma unroll
	for (uint32_t at = 0; at < all; at += T::threads) {
		uint32_t i = at + tid, tok = i % T::tokens, b = i / T::tokens;
		uint32_t word = d_word(tok) * 4;
		const uint8_t *x = j.act + act_from(j, tok, b0 + b);

		if (T::ends && b0 + b >= j.blocks)
			continue;
		cp_async4(to + T::d_at + b * T::d_row * 4 + word,
			  x + offsetof(struct act_block, d));
		if (T::min && T::groups == 1)
			cp_async4(to + T::ds_at + b * T::d_row * 4 + word,
				  x + offsetof(struct act_block, ds));
#pragma unroll
		for (uint32_t g = 0; T::min && T::groups == 2 && g < 2; g++)
			cp_async4(to + T::ds_at + (2 * b + g) * T::d_row * 4 +
					  word,
				  x + offsetof(struct act_block, ds16) + 4 * g);
	}
}

/* Ask for what the stage from block b0 needs of its blocks' scales: all of each,
 * or of a large one the first halves and bytes of some groups. They lie in the
 * stage as in the panel, and what is not needed is not there. */
template <class T>
DEV void ask_scales(const struct job &j, uint32_t b0, uint32_t to)
{
	constexpr uint32_t halves = T::min ? 4 : 2; /* in 16 bytes */
	constexpr uint32_t some = T::kb * T::groups;
	constexpr uint32_t panel =
		T::per == 1 ? T::kb * halves
			    : halves + some * (T::groups == 1 ? 2 : 1);
	constexpr uint32_t all = panel * T::panels;
	uint32_t tid = tid_again(), c = tid % panel, at = c;

	static_assert(all <= T::threads, "one for each thread");
	if (tid >= all || (T::ends && b0 + c / halves >= j.blocks))
		return;
	if (T::per > 1 && c >= halves)
		at += b0 % T::per * T::groups;
	if (T::per > 1 && c >= halves + some)
		at += T::per * T::groups - some;
	cp_async16(to + T::scales_at + tid / panel * T::scale_room + at * 16,
		   j.w + min(tid / panel, j.last_panel) * j.panel_bytes +
			   j.blocks * T::fmt::unit +
			   b0 / T::per * T::fmt::scale_bytes + at * 16);
}

/* Scales and minima of the stage from block b0 as floats. */
template <class T>
DEV void decode_scales(const uint8_t *stage, uint32_t b0, float *to)
{
	uint32_t tid = tid_again();

#pragma unroll
	for (uint32_t at = 0; at < T::rows * T::kb * T::groups;
	     at += T::threads) {
		uint32_t row = (at + tid) % T::rows, g = (at + tid) / T::rows;
		const uint8_t *from =
			stage + T::scales_at + row / 16 * T::scale_room;
		float *f = to +
			   ((g * T::panels + row / 16) * 8 + row % 8) *
				   T::lane_factors +
			   (row / 8 & 1);
		float least;

		if (T::per == 1)
			panel_group<typename T::fmt>(
				from + g * T::fmt::scale_bytes, row % 16, 0, f,
				&least);
		else
			panel_group<typename T::fmt>(
				from, row % 16, b0 % T::per * T::groups + g, f,
				&least);
		if (T::min)
			f[2] = least;
	}
}

/**
 * struct place - where in the tile a lane works
 * @g, @t: rows g and g + 8 of a panel, tokens 2t and 2t + 1 of a product
 * @panel, @token: its warp's first
 * @chunk: of q, the row that the lane names to the first ldmatrix
 * @word:  of d, the lane's first token
 */
struct place {
	int g, t;
	int panel, token;
	int chunk, word;
};

template <class T> DEV struct place place_of(uint32_t tid)
{
	uint32_t warp = tid / 32, lane = tid % 32, next;
	struct place l;

	l.g = lane / 4;
	l.t = lane % 4;
	l.panel = warp / T::warps_n * T::mt;
	l.token = warp % T::warps_n * 8 * T::wn;
	/* Of ldmatrix4, lanes 8 to 15 name the other half and 16 to 31 product
	 * i + 1; of ldmatrix2, 8 to 15 product i + 1. */
	next = T::groups == 1 ? lane / 16 : lane / 8 % 2;
	l.chunk = q_chunk<T>(l.token + 2 * T::wn * (lane % 8 / 2) + next * 2 +
				     lane % 2,
			     T::groups == 1 ? lane / 8 % 2 : 0);
	l.word = d_word(l.token + 2 * T::wn * l.t);
	return l;
}

/* Quad @i of @row as mma takes it; halves of vectors are swapped. */
template <class T> DEV uint32_t quad(const uint32_t *u, int row, int i)
{
	auto word = [=](int v) { return u[16 * v + (row ^ (v & 2) << 2)]; };

	return panel_dot<typename T::fmt>(
		panel_quad_of<typename T::fmt>(word, i));
}

/* A group's sums of rows g and g + 8, tokens 2t and 2t + 1. */
template <class T>
DEV void add(float acc[4], const int sum[4], const float *f, const float *d,
	     const float *ds)
{
#pragma unroll
	for (int e = 0; e < 4; e++) {
		float s = __fsub_rn(__int_as_float(sum[e]),
				    __int_as_float(SUM_ZERO));

		acc[e] = __fmaf_rn(s, __fmul_rn(f[e / 2], d[e % 2]), acc[e]);
		if (T::min)
			acc[e] = __fmaf_rn(f[2 + e / 2], ds[e % 2], acc[e]);
	}
}

DEV void load4(float *to, const void *from)
{
	memcpy(to, __builtin_assume_aligned(from, 16), 16);
}

/* Products i and i + 1, which are four tokens of the lane, of group g. */
template <class T>
DEV void pair(float acc[T::mt][T::wn][4], const struct place &l,
	      const uint8_t *stage, int g, int i, const uint32_t a[T::mt][4],
	      const float f[T::mt][4])
{
	int word = l.word + 2 * i, b = g / T::groups;
	uint32_t q[4], at = smem_at(stage) + T::q_at + b * T::tokens * 32;
	float d[4], ds[4];

	if (T::groups == 1)
		ldmatrix4(q, at + (l.chunk + 4 * i) * 16);
	else
		ldmatrix2(q, at + ((l.chunk ^ (g & 1)) + 4 * i) * 16);
	load4(d, stage + T::d_at + (b * T::d_row + word) * 4);
	if (T::min)
		load4(ds, stage + T::ds_at + (g * T::d_row + word) * 4);
#pragma unroll
	for (int pu = 0; pu < T::mt * 2; pu++) {
		int p = pu / 2, u = pu % 2, sum[4];

		if (T::groups == 1)
			mma_k32(sum, a[p], q + 2 * u, SUM_ZERO);
		else
			mma_k16(sum, a[p], q[u], SUM_ZERO);
		add<T>(acc[p][i + u], sum, f[p], d + 2 * u, ds + 2 * u);
	}
}

/* Group g of a stage. */
template <class T>
DEV void group(float acc[T::mt][T::wn][4], const struct place &l,
	       const uint8_t *stage, const float *factors, int g)
{
	int quad0 = l.t + g % T::groups * 4;
	uint32_t a[T::mt][4];
	float f[T::mt][4];

#pragma unroll
	for (int p = 0; p < T::mt; p++) {
		const uint32_t *u =
			(const uint32_t *)(stage + ((l.panel + p) * T::kb +
						    g / T::groups) *
							   T::fmt::unit);
		const float *from =
			factors + ((g * T::panels + l.panel + p) * 8 + l.g) *
					  T::lane_factors;

#pragma unroll
		for (int i = 0; i < 4 / T::groups; i++)
			a[p][i] =
				quad<T>(u, l.g + i % 2 * 8, quad0 + i / 2 * 4);
		memcpy(f[p],
		       __builtin_assume_aligned(from, 4 * T::lane_factors),
		       4 * T::lane_factors);
	}
#pragma unroll
	for (int i = 0; i < T::wn; i += 2)
		pair<T>(acc, l, stage, g, i, a, f);
}

template <class T>
DEV void store(const float acc[T::mt][T::wn][4], const struct cu_mul &p)
{
	struct place l = place_of<T>(tid_again());
	uint32_t rows = p.m[0].rows;
	uint32_t row0 = (blockIdx.y * T::panels + l.panel) * 16 + l.g;
	uint32_t tok0 = blockIdx.x * T::tokens + l.token + 2 * T::wn * l.t;

#pragma unroll
	for (int i = 0; i < T::mt * T::wn * 4; i++) {
		uint32_t row = row0 + i / (T::wn * 4) * 16 + (i / 2 & 1) * 8;
		uint32_t tok = tok0 + i / 4 % T::wn * 2 + (i & 1);

		put(p, rows, tok, row,
		    acc[i / 4 / T::wn][i / 4 % T::wn][i % 4]);
	}
}

template <class T> DEV void mm(const struct cu_mul &p)
{
	extern __shared__ __align__(128) uint8_t shared[];
	float *factors = (float *)(shared + T::stages * T::stage);
	struct job j = job_of<T>(p);
	uint32_t n = (j.blocks + T::kb - 1) / T::kb, at = smem_at(shared), s;
	float acc[T::mt][T::wn][4] = {};

	/* Weights do not depend on the kernel before this one. */
#pragma unroll
	for (int i = 0; i < T::stages - 1; i++)
		if (i < n) {
			ask_codes<T>(j, i * T::kb, at + i * T::stage);
			ask_scales<T>(j, i * T::kb, at + i * T::stage);
		}
	grid_wait();
#pragma unroll
	for (int i = 0; i < T::stages - 1; i++) {
		if (i < n)
			ask_acts<T>(j, i * T::kb, at + i * T::stage);
		cp_commit();
	}
	grid_launch();
	for (s = 0; s < n; s++) {
		uint32_t next = s + T::stages - 1;
		struct place l;
		const uint8_t *stage = shared + s % T::stages * T::stage;

		cp_wait<T::stages - 2>();
		__syncthreads();
		if (next < n) {
			uint32_t to = at + next % T::stages * T::stage;

			j = job_of<T>(p);
			ask_codes<T>(j, next * T::kb, to);
			ask_scales<T>(j, next * T::kb, to);
			ask_acts<T>(j, next * T::kb, to);
		}
		cp_commit();
		decode_scales<T>(stage, s * T::kb, factors);
		__syncthreads();
		l = place_of<T>(tid_again());
		if (l.panel > (int)j.last_panel || l.token > (int)j.last_token)
			continue;
#pragma unroll 1
		for (int g = 0; g < T::kb * T::groups; g++)
			if (!T::ends || s * T::kb + g < j.blocks)
				group<T>(acc, l, stage, factors, g);
	}
	store<T>(acc, p);
}

#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind) \
	MM_SHAPES(PRODUCT, x, FMT_##id)
#define PRODUCT(name, mt, wn, warps_m, warps_n, kb, stages, per_sm, work, x, \
		f)                                                           \
	extern "C" __global__ void __launch_bounds__(warps_m *warps_n * 32,  \
						     PER_SM(per_sm))         \
		mm_##name##_##x(const __grid_constant__ struct cu_mul p)     \
	{                                                                    \
		mm<tile<f, mt, wn, warps_m, warps_n, kb, stages>>(p);        \
	}
#include "../quant.def"
