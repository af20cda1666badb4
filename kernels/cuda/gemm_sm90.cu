/* SPDX-License-Identifier: MIT */
/*
 * gemm_sm90.cu - BF16 products by wgmma, for chips with compute capability 9.0.
 *
 * Unlike the other products these round their operands to BF16, and the tensor
 * cores add in an order of their own: the result is near, not equal.
 *
 * tiles() brings an operand into tiles of GEMM_TILE rows x GEMM_COLS columns as
 * wgmma wants them in shared memory (128 bytes a row, 16-byte pieces swapped by
 * the row's number), so that a tile is one bulk copy of 16 KiB and no tensor map
 * is needed. Rows and columns that only fill tiles are zero. A matrix is brought
 * there for each product: a copy that stayed would double what weights take.
 *
 * gemm() has a warpgroup that asks for tiles, a ring of stages ahead, and two
 * that multiply: each 64 tokens by 256 rows, its sums in registers.
 */
#include "gemm.h"
#include "mm.cuh"

#define PIECES (GEMM_COLS / 8) /* of a row: 16 bytes each */

/* Eight columns from @col of @row as BF16; cols is a multiple of 8. */
DEV uint4 from_floats(const float *x, uint32_t cols, uint32_t row, uint32_t col)
{
	const float *f = x + (size_t)row * cols + col;
	uint32_t v[4];

#pragma unroll
	for (int i = 0; i < 4; i++)
		v[i] = f32_to_bf16(f[2 * i]) |
		       (uint32_t)f32_to_bf16(f[2 * i + 1]) << 16;
	return make_uint4(v[0], v[1], v[2], v[3]);
}

template <class P>
DEV uint4 from_panel(const struct cu_mat &m, uint32_t row, uint32_t col)
{
	const uint8_t *panel = (const uint8_t *)m.data +
			       row / MAT_PANEL * panel_bytes<P>(m.cols);
	uint32_t v[4];

#pragma unroll
	for (int i = 0; i < 4; i++)
		v[i] = f32_to_bf16(panel_float<P>(panel, col + 2 * i,
						  row % MAT_PANEL)) |
		       (uint32_t)f32_to_bf16(panel_float<P>(
			       panel, col + 2 * i + 1, row % MAT_PANEL))
			       << 16;
	return make_uint4(v[0], v[1], v[2], v[3]);
}

/* Lanes have 16 rows, which lie side by side in a panel, and two pieces, which
 * do so in a tile. */
template <class FN>
DEV void tile_of(const struct cu_tiles &p, uint32_t rows, uint32_t cols, FN get)
{
	uint32_t row0 = blockIdx.y * GEMM_TILE, col0 = blockIdx.x * GEMM_COLS;
	uint4 *to =
		(uint4 *)p.out + (size_t)(blockIdx.y * gridDim.x + blockIdx.x) *
					 GEMM_TILE * PIECES;
	uint32_t i;

	for (i = threadIdx.x; i < GEMM_TILE * PIECES; i += blockDim.x) {
		uint32_t row = i % 16 + i / (16 * PIECES) * 16;
		uint32_t piece = i / 16 % PIECES;
		uint4 v = make_uint4(0, 0, 0, 0);

		if (row0 + row < rows && col0 + piece * 8 < cols)
			v = get(row0 + row, col0 + piece * 8);
		to[row * PIECES + (piece ^ (row & 7))] = v;
	}
}

extern "C" __global__ void __launch_bounds__(256)
	tiles(const __grid_constant__ struct cu_tiles p)
{
	grid_wait();
	grid_launch();
	if (p.x)
		tile_of(p, p.n, p.cols, [&](uint32_t row, uint32_t col) {
			return from_floats(p.x, p.cols, row, col);
		});
	else
		panel_float_case(p.m.fmt, [&](auto f) {
			tile_of(p, p.m.rows, p.m.cols,
				[&](uint32_t row, uint32_t col) {
					return from_panel<decltype(f)>(p.m, row,
								       col);
				});
		});
}

#if __CUDA_ARCH_FEAT_SM90_ALL
/* ------------------------------------------------------------- barriers */

DEV void bar_init(uint32_t at, uint32_t n)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(n)
		     : "memory");
}

DEV void bar_expect(uint32_t at, uint32_t bytes)
{
	asm volatile(
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
			at),
		"r"(bytes)
		: "memory");
}

DEV void bar_arrive(uint32_t at)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at)
		     : "memory");
}

DEV void bar_wait(uint32_t at, uint32_t parity)
{
	uint32_t done;

	do {
		asm volatile(
			"{\n.reg .pred p;\n"
			"mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
			"selp.u32 %0, 1, 0, p;\n}"
			: "=r"(done)
			: "r"(at), "r"(parity)
			: "memory");
	} while (!done);
}

DEV void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t bar)
{
	asm volatile(
		"cp.async.bulk.shared::cluster.global"
		".mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
		"l"(from), "r"(bytes), "r"(bar)
		: "memory");
}

/* ---------------------------------------------------------------- wgmma */

#define SUMS8(i)                                                    \
	"+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
		"+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS32(i) SUMS8(i), SUMS8(i + 8), SUMS8(i + 16), SUMS8(i + 24)
/* clang-format off */
#define REGISTERS \
	"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
	"%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
	"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
	"%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
	"%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
	"%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95," \
	"%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
	"%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
/* clang-format on */

/* d = a . b, or with @add d + a . b: 64 x 256 sums of 16 products */
DEV void wgmma(float d[128], uint64_t a, uint64_t b, int add)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
		     "{" REGISTERS "}, %128, %129, p, 1, 1, 0, 0;\n}"
		     : SUMS32(0), SUMS32(32), SUMS32(64), SUMS32(96)
		     : "l"(a), "l"(b), "r"(add));
}

/* Rows of 128 bytes along k, swapped in eights of rows: a tile of tiles(). */
DEV uint64_t operand(uint32_t at)
{
	return (at & 0x3ffff) >> 4 | (uint64_t)1 << 16 |
	       (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

DEV void ask(const struct cu_gemm &p, uint32_t at, uint32_t full,
	     uint32_t empty)
{
	uint32_t n = (p.cols + GEMM_COLS - 1) / GEMM_COLS, s, i;
	const uint8_t *x =
		(const uint8_t *)p.x + (size_t)blockIdx.y * n * GEMM_TILE_BYTES;
	const uint8_t *w = (const uint8_t *)p.w +
			   (size_t)blockIdx.x * 2 * n * GEMM_TILE_BYTES;

	for (s = 0; s < n; s++) {
		uint32_t slot = s % GEMM_STAGES, to = at + slot * GEMM_STAGE;

		if (s >= GEMM_STAGES)
			bar_wait(empty + slot * 8, s / GEMM_STAGES + 1 & 1);
		bar_expect(full + slot * 8, GEMM_STAGE);
		bulk_load(to, x + (size_t)s * GEMM_TILE_BYTES, GEMM_TILE_BYTES,
			  full + slot * 8);
		for (i = 0; i < 2; i++)
			bulk_load(to + (1 + i) * GEMM_TILE_BYTES,
				  w + (size_t)(i * n + s) * GEMM_TILE_BYTES,
				  GEMM_TILE_BYTES, full + slot * 8);
	}
}

DEV void multiply(const struct cu_gemm &p, uint32_t at, uint32_t full,
		  uint32_t empty, uint32_t half, float d[128])
{
	uint32_t n = (p.cols + GEMM_COLS - 1) / GEMM_COLS, s, k;

	for (s = 0; s < n; s++) {
		uint32_t slot = s % GEMM_STAGES, from = at + slot * GEMM_STAGE;

		bar_wait(full + slot * 8, s / GEMM_STAGES & 1);
		asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
		for (k = 0; k < GEMM_COLS / 16; k++)
			wgmma(d,
			      operand(from + half * GEMM_TILE_BYTES / 2 +
				      k * 32),
			      operand(from + GEMM_TILE_BYTES + k * 32), s + k);
		asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
		/* the stage before this one has been read */
		asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
		if (s && lane_id() == 0)
			bar_arrive(empty + (s - 1) % GEMM_STAGES * 8);
	}
	asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

/* Sum 4i + 2h + e of a lane: rows 8i + 2t + e, token g + 8h of its warp's 16. */
DEV void put_all(const struct cu_gemm &p, const float d[128], uint32_t half)
{
	uint32_t lane = lane_id();
	uint32_t token0 = blockIdx.y * GEMM_TILE + half * 64 +
			  warp_id() % 4 * 16 + lane / 4;
	uint32_t row0 = blockIdx.x * 2 * GEMM_TILE + lane % 4 * 2;

#pragma unroll
	for (int i = 0; i < 128; i++) {
		uint32_t token = token0 + (i / 2 & 1) * 8;
		uint32_t row = row0 + i / 4 * 8 + (i & 1);

		put(p.out, p.bias, p.add, p.n, p.rows, token, row, d[i]);
	}
}
#endif

extern "C" __global__ void __launch_bounds__(384, 1)
	gemm(const __grid_constant__ struct cu_gemm p)
{
#if __CUDA_ARCH_FEAT_SM90_ALL
	extern __shared__ __align__(1024) uint8_t shared[];
	uint32_t at = smem_at(shared), full = at + GEMM_STAGES * GEMM_STAGE;
	uint32_t empty = full + 8 * GEMM_STAGES, role = threadIdx.x / 128, i;

	if (threadIdx.x == 0)
		for (i = 0; i < GEMM_STAGES; i++) {
			bar_init(full + 8 * i, 1);
			bar_init(empty + 8 * i, 8); /* warps */
		}
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	__syncthreads();
	grid_wait();
	grid_launch();
	if (role == 0) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
		if (threadIdx.x == 0)
			ask(p, at, full, empty);
	} else {
		float d[128];

		asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
		multiply(p, at, full, empty, role - 1, d);
		put_all(p, d, role - 1);
	}
#endif
}
