/* SPDX-License-Identifier: MIT */
/* lanes.cu - what lanes tell each other, atomics, matrices turned over. */
#include "ptx.cuh"

/* One warp; out[k * 32 + lane] */
extern "C" __global__ void lanes_k(const int *x, int *out)
{
	int l = threadIdx.x, v = x[l];
	unsigned int r;

	out[l] = __shfl_up_sync(~0u, v, 3);
	out[32 + l] = __shfl_down_sync(~0u, v, 5, 16);
	out[64 + l] = __shfl_sync(~0u, v, l * 7 & 31);
	out[96 + l] = __shfl_sync(~0u, v, 2, 8);
	out[128 + l] = (int)__match_any_sync(~0u, v & 3);
	out[160 + l] = __reduce_add_sync(~0u, v);
	out[192 + l] = __reduce_min_sync(~0u, v);
	out[224 + l] = (int)__reduce_xor_sync(~0u, (unsigned int)v);
	out[256 + l] = __any_sync(~0u, v == x[9]) + 2 * __all_sync(~0u, v);
	asm volatile("{\n.reg .pred p;\nelect.sync %0|p, 0xffffffff;\n"
		     "selp.u32 %0, 7, %0, p;\n}"
		     : "=r"(r));
	out[288 + l] = (int)r;
	if (l < 13) /* lanes that have parted */
		out[320 + l] = __shfl_xor_sync(0x1fff, v, 1 + 3 * (l == 12));
	else
		out[320 + l] = __popc(__ballot_sync(0xffffe000, v > 0));
	asm("bfe.s32 %0, %1, %2, 9;" : "=r"(out[352 + l]) : "r"(v), "r"(l));
	asm("bfi.b32 %0, %1, %2, %3, 5;"
	    : "=r"(out[384 + l])
	    : "r"(v), "r"(~v), "r"(l));
	out[416 + l] = __dp2a_lo(v, 0x01fe037f, l);
	out[448 + l] = __ffs(v);
}

/* Every kind of atomic, by 64 threads at once. */
extern "C" __global__ void atomics_k(int *a, unsigned int *u,
				     unsigned long long *w, float *f)
{
	__shared__ int s[2];
	int i = threadIdx.x + blockIdx.x * blockDim.x;

	if (threadIdx.x < 2)
		s[threadIdx.x] = 0;
	__syncthreads();
	atomicAdd(&s[0], i);
	atomicMax(&s[1], i);
	__syncthreads();
	if (threadIdx.x == 0) {
		atomicAdd(&a[0], s[0]);
		atomicMax(&a[1], s[1]);
	}
	atomicMin(&a[2], -i);
	atomicAnd(&u[0], ~(1u << (i & 31)));
	atomicOr(&u[1], 1u << (i & 31));
	atomicXor(&u[2], (unsigned int)i);
	atomicInc(&u[3], 9);
	atomicExch(&u[4], 77);
	for (unsigned int was = u[5], now; (now = atomicCAS(&u[5], was, was + 3))
					   != was;)
		was = now;
	atomicAdd(w, 1ull << 33);
	atomicAdd(f, 0.25f);
}

/* A 16x16 tile of 16-bit elements, turned over. */
extern "C" __global__ void transpose_k(const uint16_t *x, uint16_t *y)
{
	__shared__ __align__(16) uint16_t a[256], b[256];
	int l = threadIdx.x;
	uint32_t r[4];

	for (int i = l; i < 256; i += 32)
		a[i] = x[i];
	__syncwarp();
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 "
		     "{%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem(a + (l & 15) * 16 + (l >> 4) * 8))
		     : "memory");
	/* the parts beside the diagonal change places */
	asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 "
		     "[%4], {%0,%1,%2,%3};" ::"r"(r[0]),
		     "r"(r[2]), "r"(r[1]), "r"(r[3]),
		     "r"(smem(b + (l & 15) * 16 + (l >> 4) * 8))
		     : "memory");
	__syncwarp();
	for (int i = l; i < 256; i += 32)
		y[i] = b[i];
}
