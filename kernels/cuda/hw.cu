/* SPDX-License-Identifier: MIT */
/*
 * hw.cu - kernels that measure the GPU, for hearth bench hw: reading, copying,
 * being launched, and flags in the host's memory.
 *
 * No model needs them, so they are not in kernels.def.
 */
#include "ptx.cuh"

#define LOADS	 8	  /* of 16 bytes that a thread has under way */
#define PATIENCE 4000000u /* looks at a flag before it is given up */

/* What is read is no zeros: those may move faster. */
extern "C" __global__ void hw_fill(uint64_t *p, uint64_t n)
{
	uint64_t step = (uint64_t)gridDim.x * blockDim.x;
	uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;

	for (; i < n; i += step)
		p[i] = (i + 1) * 0x9e3779b97f4a7c15;
}

/* Read n vectors and keep nothing: the store is there to be possible. */
extern "C" __global__ void hw_read(const uint4 *p, uint64_t n, uint32_t *out)
{
	uint64_t step = (uint64_t)gridDim.x * blockDim.x;
	uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
	uint32_t sum = 0;
	uint4 v[LOADS];
	int k;

	for (; i + (LOADS - 1) * step < n; i += LOADS * step) {
#pragma unroll
		for (k = 0; k < LOADS; k++)
			v[k] = __ldcs(p + i + k * step);
#pragma unroll
		for (k = 0; k < LOADS; k++)
			sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
	}
	for (; i < n; i += step) {
		v[0] = __ldcs(p + i);
		sum ^= v[0].x ^ v[0].y ^ v[0].z ^ v[0].w;
	}
	if (sum == 0x9e3779b9)
		*out = sum;
}

extern "C" __global__ void hw_copy(uint4 *to, const uint4 *from, uint64_t n)
{
	uint64_t step = (uint64_t)gridDim.x * blockDim.x;
	uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
	uint4 v[LOADS];
	int k;

	for (; i + (LOADS - 1) * step < n; i += LOADS * step) {
#pragma unroll
		for (k = 0; k < LOADS; k++)
			v[k] = __ldcs(from + i + k * step);
#pragma unroll
		for (k = 0; k < LOADS; k++)
			__stcs(to + i + k * step, v[k]);
	}
	for (; i < n; i += step)
		__stcs(to + i, __ldcs(from + i));
}

extern "C" __global__ void hw_empty()
{
}

extern "C" __global__ void hw_pdl()
{
	grid_launch();
	grid_wait();
}

/* flag[0] is the host's, flag[1] ours. */
DEV bool flag_reaches(const volatile uint32_t *flag, uint32_t v)
{
	uint32_t i;

	for (i = 0; i < PATIENCE; i++)
		if (*flag >= v)
			return true;
	return false;
}

/* What is queued behind it waits for the host. */
extern "C" __global__ void hw_hold(volatile uint32_t *flag)
{
	flag[1] = flag_reaches(flag, 1) ? 1 : 2;
}

/* Answer n times; short of that the host was not there. */
extern "C" __global__ void hw_ping(volatile uint32_t *flag, uint32_t n)
{
	uint32_t i;

	for (i = 1; i <= n && flag_reaches(flag, i); i++) {
		__threadfence_system();
		flag[1] = i;
	}
}
