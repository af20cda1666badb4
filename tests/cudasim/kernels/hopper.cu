/* SPDX-License-Identifier: MIT */
/* hopper.cu - bulk copies, mbarriers, tiles through TMA, wgmma (sm_90a). */
#include "ptx.cuh"

#define CHUNK 4096
#define RING  2

/*
 * Sums of chunks that a ring of bulk copies brings, then a barrier of the grid
 * and the sum of sums. BUG 1: a stage is filled again before all have read it;
 * BUG 2: nobody waits for a stage.
 */
template <int BUG>
DEV void persist(const float *x, float *part, float *out, uint32_t *bar,
		 int chunks)
{
	extern __shared__ __align__(128) uint8_t mem[];
	uint64_t *full = (uint64_t *)mem, *empty = full + RING;
	float *buf = (float *)(mem + 128), *red = buf + RING * CHUNK / 4;
	int t = threadIdx.x, it = 0, c;
	float s = 0;

	if (t == 0) {
		for (int i = 0; i < RING; i++) {
			mbar_init(&full[i], 1);
			mbar_init(&empty[i], blockDim.x);
		}
	}
	__syncthreads();
	for (c = blockIdx.x, it = 0; t == 0 && it < RING && c < chunks;
	     c += gridDim.x, it++) {
		mbar_expect(&full[it], CHUNK);
		bulk_load(buf + it * CHUNK / 4, x + (size_t)c * CHUNK / 4,
			  CHUNK, &full[it]);
	}
	for (c = blockIdx.x, it = 0; c < chunks; c += gridDim.x, it++) {
		int b = it % RING, next = c + RING * gridDim.x;
		float *stage = buf + b * CHUNK / 4;

		if (BUG != 2)
			mbar_wait(&full[b], it / RING & 1);
		for (int i = t; i < CHUNK / 4; i += blockDim.x)
			s += stage[i];
		mbar_arrive(&empty[b]);
		if (t == 0 && next < chunks) {
			if (BUG != 1)
				mbar_wait(&empty[b], it / RING & 1);
			mbar_expect(&full[b], CHUNK);
			bulk_load(stage, x + (size_t)next * CHUNK / 4, CHUNK,
				  &full[b]);
		}
	}
	for (int o = 16; o; o >>= 1)
		s += __shfl_xor_sync(~0u, s, o);
	if ((t & 31) == 0)
		red[t >> 5] = s;
	__syncthreads();
	if (t)
		return;
	s = 0;
	for (int i = 0; i < blockDim.x / 32; i++)
		s += red[i];
	part[blockIdx.x] = s;
	__threadfence();
	add_release(bar, 1);
	if (blockIdx.x)
		return;
	while (load_acquire(bar) < gridDim.x)
		__nanosleep(20);
	s = 0;
	for (int i = 0; i < gridDim.x; i++)
		s += part[i];
	*out = s;
}

extern "C" __global__ void persist_ok(const float *x, float *part, float *out,
				      uint32_t *bar, int chunks)
{
	persist<0>(x, part, out, bar, chunks);
}

extern "C" __global__ void persist_refill(const float *x, float *part,
					  float *out, uint32_t *bar, int chunks)
{
	persist<1>(x, part, out, bar, chunks);
}

extern "C" __global__ void persist_nowait(const float *x, float *part,
					  float *out, uint32_t *bar, int chunks)
{
	persist<2>(x, part, out, bar, chunks);
}

/* All blocks must be there at once. */
extern "C" __global__ void grid_barrier(uint32_t *bar)
{
	if (threadIdx.x == 0) {
		add_release(bar, 1);
		while (load_acquire(bar) < gridDim.x)
			__nanosleep(20);
	}
	__syncthreads();
}

struct tensor_map {
	uint8_t opaque[128];
} __attribute__((aligned(64)));

#define MAP const __grid_constant__ struct tensor_map

extern __shared__ __align__(1024) uint8_t tiles[];

DEV void store_sums(const float *d, float *c)
{
	int w = threadIdx.x >> 5, l = threadIdx.x & 31;

	for (int j = 0; j < 32; j++)
		c[(w * 16 + (l >> 2) + (j >> 1 & 1) * 8) * 64 + (j >> 2) * 8 +
		  2 * (l & 3) + (j & 1)] = d[j];
}

DEV void issue(int c, const void *ta, const void *tb, uint64_t *mb)
{
	uint8_t *s = tiles + (c & 1) * 16384;

	mbar_expect(&mb[c & 1], 16384);
	tile_load(s, ta, c * 64, 0, &mb[c & 1]);
	tile_load(s + 8192, tb, c * 64, 0, &mb[c & 1]);
}

/*
 * C[64x64] = A[64xk] B[64xk]^T. BUG 1: sums are used before wgmma is waited
 * for; BUG 2: a stage is filled while other warps still multiply it.
 */
template <int BUG>
DEV void product(const void *ta, const void *tb, float *c, int k)
{
	__shared__ uint64_t mb[2];
	int t = threadIdx.x, n = k / 64;
	float d[32];

	for (int i = 0; i < 32; i++)
		d[i] = 0;
	if (t == 0) {
		mbar_init(&mb[0], 1);
		mbar_init(&mb[1], 1);
		asm volatile("fence.proxy.async;");
	}
	__syncthreads();
	if (t == 0)
		issue(0, ta, tb, mb);
	for (int i = 0; i < n; i++) {
		uint8_t *s = tiles + (i & 1) * 16384;

		if (t == 0 && i + 1 < n)
			issue(i + 1, ta, tb, mb);
		mbar_wait(&mb[i & 1], i >> 1 & 1);
		wgmma_fence();
		for (int j = 0; j < 4; j++)
			wgmma64(d, tile_desc(s + j * 32),
				tile_desc(s + 8192 + j * 32));
		wgmma_commit();
		if (BUG != 1)
			wgmma_wait();
		if (BUG != 2)
			__syncthreads();
	}
	store_sums(d, c);
}

extern "C" __global__ void hop_ok(MAP ta, MAP tb, float *c, int k)
{
	product<0>(&ta, &tb, c, k);
}

extern "C" __global__ void hop_nowait(MAP ta, MAP tb, float *c, int k)
{
	product<1>(&ta, &tb, c, k);
}

extern "C" __global__ void hop_early(MAP ta, MAP tb, float *c, int k)
{
	product<2>(&ta, &tb, c, k);
}

DEV uint32_t pair(float a, float b)
{
	uint32_t r;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
	return r;
}

/* A is int8 and becomes bf16 in registers. */
extern "C" __global__ void hop_mixed(const int8_t *a, MAP tb, float *c, int k)
{
	__shared__ uint64_t mb;
	int t = threadIdx.x, w = t >> 5, l = t & 31, g = l >> 2, q = l & 3;
	float d[32];

	for (int i = 0; i < 32; i++)
		d[i] = 0;
	if (t == 0) {
		mbar_init(&mb, 1);
		asm volatile("fence.proxy.async;");
	}
	__syncthreads();
	for (int i = 0; i < k / 64; i++) {
		if (t == 0) {
			mbar_expect(&mb, 8192);
			tile_load(tiles, &tb, i * 64, 0, &mb);
		}
		mbar_wait(&mb, i & 1);
		for (int j = 0; j < 4; j++) {
			const int8_t *p = a + (size_t)(w * 16 + g) * k +
					  i * 64 + j * 16 + 2 * q;
			uint32_t f[4];

			for (int h = 0; h < 4; h++) {
				const int8_t *e = p + (h & 1) * 8 * k +
						  (h >> 1) * 8;

				f[h] = pair(e[0], e[1]);
			}
			wgmma_fence();
			wgmma64_regs(d, f, tile_desc(tiles + j * 32));
			wgmma_commit();
			wgmma_wait();
		}
		__syncthreads();
	}
	store_sums(d, c);
}
