/* SPDX-License-Identifier: MIT */
/*
 * mm.cu - products of quantised matrices with many tokens, on the integer tensor
 * cores.
 *
 * A block of threads computes a tile of rows x tokens. It walks along the
 * columns in stages of some blocks of 32, which a ring of asynchronous copies
 * brings to shared memory as they are: codes of the panels, and of each block of
 * activations q, d and what goes with minima. Scales and minima become floats
 * once a stage, by all threads, a stage ahead.
 *
 * mma's A is a panel's 16 rows, B is 8 tokens: lane 4g + t has rows g and g + 8,
 * quads t and t + 4 of them, and of the sums tokens 2t and 2t + 1. Which token
 * is which column of B is free: a warp's token 2 * WN * t + 2 * i + e is column
 * 2t + e of product i, so that what lane 4g + t needs of d lies in a row.
 *
 * Exact sums. |code - offset| is at most 128 after the shift, or a code without
 * offset at most 31, |q| <= 127, a group has at most 32: the sum is below 2^19.01
 * < 2^22, for which 1.5 * 2^23 + sum has the sum in its lowest bits as a float's
 * mantissa. So a sum begins at the float's bits, is read as a float, and is
 * exact less 1.5 * 2^23: an addition instead of a conversion, which is slower by
 * eight.
 *
 * Banks. Vector v of a block of codes has its halves swapped if v & 2, so that
 * the four vectors which a warp's lanes read (t = 0..3) lie in four quarters.
 * The 8 rows of a ldmatrix are tokens 2 * WN * a + 2 * i + e: a (0..3) goes into
 * bits 0 and 2 of the number of their 16 bytes, e is bit 1. d is read 16 bytes a
 * lane by four different t: bit 5 of the token's number goes into bit 2.
 */
#include "mm.h"
#include "panel.cuh"

#define SUM_ZERO 0x4b400000 /* 1.5 * 2^23 */

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
	static constexpr int stage =
		MM_STAGE_BYTES(panels, tokens, KB, bits, groups, min);
	static constexpr int factors =
		MM_FACTOR_FLOATS(panels, KB, groups, min);
	static constexpr int lane_factors = min ? 4 : 2;
	/* copies and factors of a thread */
	static constexpr int share = rows * KB * groups / threads;
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

template <class T> DEV struct job job_of(const struct cu_mul &p)
{
	const struct cu_mat *m = &p.m[0];
	uint32_t panel0 = blockIdx.y * T::panels;
	uint32_t token0 = blockIdx.x * T::tokens;
	struct job j;

	j.blocks = m->cols / 32;
	j.panel_bytes = (uint32_t)panel_bytes<typename T::fmt>(m->cols);
	j.w = (const uint8_t *)m->data + (size_t)panel0 * j.panel_bytes;
	j.act = (const uint8_t *)(p.act + (size_t)token0 * j.blocks);
	j.last_panel = (m->rows - 1) / 16 - panel0;
	j.last_token = p.n - 1 - token0;
	return j;
}

/* threadIdx.x, but what follows from it is computed again: that costs less than
 * registers for as long as the sums need them. */
DEV uint32_t tid_again()
{
	uint32_t i;

	asm volatile("mov.u32 %0, %%tid.x;" : "=r"(i));
	return i;
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

/* A thread's share of a stage's factors is of row share_row() of the tile and
 * group share_group() of the stage. */
template <class T> DEV uint32_t share_row(uint32_t tid, int i)
{
	return (i * T::threads + tid) % T::rows;
}

template <class T> DEV uint32_t share_group(uint32_t tid, int i)
{
	return (i * T::threads + tid) / T::rows;
}

template <class T>
DEV void raw_load(struct panel_raw *raw, const struct job &j, uint32_t b0)
{
	uint32_t tid = tid_again();

#pragma unroll
	for (int i = 0; i < T::share; i++) {
		uint32_t row = share_row<T>(tid, i);
		uint32_t g = share_group<T>(tid, i);
		uint32_t b = b0 + g / T::groups;
		const uint8_t *p = j.w +
				   min(row / 16, j.last_panel) * j.panel_bytes +
				   j.blocks * T::fmt::unit +
				   b / T::per * T::fmt::scale_bytes;

		if (b < j.blocks)
			raw[i] = panel_raw_get<typename T::fmt>(
				p, row % 16,
				b % T::per * T::groups + g % T::groups);
	}
}

template <class T> DEV void raw_store(const struct panel_raw *raw, float *to)
{
	uint32_t tid = tid_again();

#pragma unroll
	for (int i = 0; i < T::share; i++) {
		uint32_t row = share_row<T>(tid, i);
		float *f =
			to +
			((share_group<T>(tid, i) * T::panels + row / 16) * 8 +
			 row % 8) *
				T::lane_factors +
			(row / 8 & 1);
		float scale, least;

		panel_raw_group<typename T::fmt>(raw[i], &scale, &least);
		f[0] = scale;
		if (T::min)
			f[2] = least;
	}
}

/**
 * struct place - where in the tile a lane works
 * @g, @t: rows g and g + 8 of a panel, tokens 2t and 2t + 1 of a product
 * @panel, @token: its warp's first
 */
struct place {
	int g, t;
	int panel, token;
};

template <class T> DEV struct place place_of(uint32_t tid)
{
	struct place l = { (int)tid % 32 / 4, (int)tid % 4,
			   (int)tid / 32 / T::warps_n * T::mt,
			   (int)tid / 32 % T::warps_n * 8 * T::wn };

	return l;
}

/**
 * struct part - a lane's sums and operands
 * @chunk:   of q, the row that the lane names to the first ldmatrix
 * @word:    of d, the lane's first token
 */
template <class T> struct part {
	float acc[T::mt][T::wn][4];
	struct place at;
	int chunk, word;
};

template <class T> DEV void part_init(struct part<T> &w)
{
	int lane = threadIdx.x % 32, next;

	memset(w.acc, 0, sizeof(w.acc));
	w.at = place_of<T>(threadIdx.x);
	/* Of ldmatrix4, lanes 8 to 15 name the other half and 16 to 31 product
	 * i + 1; of ldmatrix2, 8 to 15 product i + 1. */
	next = T::groups == 1 ? lane / 16 : lane / 8 % 2;
	w.chunk = q_chunk<T>(w.at.token + 2 * T::wn * (lane % 8 / 2) +
				     next * 2 + lane % 2,
			     T::groups == 1 ? lane / 8 % 2 : 0);
	w.word = d_word(w.at.token + 2 * T::wn * w.at.t);
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
DEV void pair(struct part<T> &w, const uint8_t *stage, int g, int i,
	      const uint32_t a[T::mt][4], const float f[T::mt][4])
{
	int word = w.word + 2 * i, b = g / T::groups;
	uint32_t q[4], at = smem_at(stage) + T::q_at + b * T::tokens * 32;
	float d[4], ds[4];

	if (T::groups == 1)
		ldmatrix4(q, at + (w.chunk + 4 * i) * 16);
	else
		ldmatrix2(q, at + ((w.chunk ^ (g & 1)) + 4 * i) * 16);
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
		add<T>(w.acc[p][i + u], sum, f[p], d + 2 * u, ds + 2 * u);
	}
}

/* Group g of a stage. */
template <class T>
DEV void group(struct part<T> &w, const uint8_t *stage, const float *factors,
	       int g)
{
	int quad0 = w.at.t + g % T::groups * 4;
	uint32_t a[T::mt][4];
	float f[T::mt][4];

#pragma unroll
	for (int p = 0; p < T::mt; p++) {
		const uint32_t *u =
			(const uint32_t *)(stage + ((w.at.panel + p) * T::kb +
						    g / T::groups) *
							   T::fmt::unit);
		const float *from =
			factors +
			((g * T::panels + w.at.panel + p) * 8 + w.at.g) *
				T::lane_factors;

#pragma unroll
		for (int i = 0; i < 4 / T::groups; i++)
			a[p][i] = quad<T>(u, w.at.g + i % 2 * 8,
					  quad0 + i / 2 * 4);
		memcpy(f[p],
		       __builtin_assume_aligned(from, 4 * T::lane_factors),
		       4 * T::lane_factors);
	}
#pragma unroll
	for (int i = 0; i < T::wn; i += 2)
		pair<T>(w, stage, g, i, a, f);
}

template <class T>
DEV void store(const struct part<T> &w, const struct cu_mul &p)
{
	struct place l = place_of<T>(tid_again());
	uint32_t rows = p.m[0].rows;
	uint32_t row0 = (blockIdx.y * T::panels + l.panel) * 16 + l.g;
	uint32_t tok0 = blockIdx.x * T::tokens + l.token + 2 * T::wn * l.t;

#pragma unroll
	for (int i = 0; i < T::mt * T::wn * 4; i++) {
		uint32_t row = row0 + i / (T::wn * 4) * 16 + (i / 2 & 1) * 8;
		uint32_t tok = tok0 + i / 4 % T::wn * 2 + (i & 1);
		float v = w.acc[i / 4 / T::wn][i / 4 % T::wn][i % 4];
		float *out = p.out[0] + (size_t)tok * rows + row;

		if (row >= rows || tok >= p.n)
			continue;
		if (p.add)
			v = __fadd_rn(*out, v);
		if (p.bias[0])
			v = __fadd_rn(v, p.bias[0][row]);
		*out = v;
	}
}

template <class T> DEV void mm(const struct cu_mul &p)
{
	extern __shared__ __align__(128) uint8_t shared[];
	float *factors = (float *)(shared + T::stages * T::stage);
	struct job j = job_of<T>(p);
	uint32_t n = (j.blocks + T::kb - 1) / T::kb, at = smem_at(shared), s;
	struct panel_raw raw[T::share];
	struct part<T> w;
	bool idle;

	part_init<T>(w);
	idle = w.at.panel > (int)j.last_panel || w.at.token > (int)j.last_token;
	/* Weights do not depend on the kernel before this one. */
#pragma unroll
	for (int i = 0; i < T::stages - 1; i++)
		if (i < n)
			ask_codes<T>(j, i * T::kb, at + i * T::stage);
	raw_load<T>(raw, j, 0);
	raw_store<T>(raw, factors);
	raw_load<T>(raw, j, T::kb);
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
		const uint8_t *stage = shared + s % T::stages * T::stage;

		cp_wait<T::stages - 2>();
		__syncthreads();
		if (next < n) {
			uint32_t to = at + next % T::stages * T::stage;

			ask_codes<T>(j, next * T::kb, to);
			ask_acts<T>(j, next * T::kb, to);
		}
		cp_commit();
		if (s + 1 < n)
			raw_store<T>(raw, factors + ((s + 1) & 1) * T::factors);
		if (s + 2 < n)
			raw_load<T>(raw, j, (s + 2) * T::kb);
		if (idle)
			continue;
#pragma unroll 1
		for (int g = 0; g < T::kb * T::groups; g++)
			if (!T::ends || s * T::kb + g < j.blocks)
				group<T>(w, stage,
					 factors + (s & 1) * T::factors, g);
	}
	store<T>(w, p);
}

#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind) \
	MM_SHAPES(PRODUCT, x, FMT_##id)
#define PRODUCT(name, mt, wn, warps_m, warps_n, kb, stages, per_sm, work, x, \
		f)                                                           \
	extern "C" __global__ void __launch_bounds__(warps_m *warps_n * 32,  \
						     per_sm)                 \
		mm_##name##_##x(const __grid_constant__ struct cu_mul p)     \
	{                                                                    \
		mm<tile<f, mt, wn, warps_m, warps_n, kb, stages>>(p);        \
	}
#include "../quant.def"
