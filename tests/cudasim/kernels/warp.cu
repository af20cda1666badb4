/* SPDX-License-Identifier: MIT */
/* warp.cu - shared memory, barriers, shuffles, cp.async, dp4a and mma.sync. */
#include "ptx.cuh"

/* BUG 1: the barrier between warps' sums and their sum is missing */
template <int BUG> DEV void reduce(const float *x, float *out, size_t n)
{
	__shared__ float part[32];
	size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
	float s = 0;

	for (; i < n; i += (size_t)gridDim.x * blockDim.x)
		s += x[i];
	for (int o = 16; o; o >>= 1)
		s += __shfl_xor_sync(~0u, s, o);
	if ((threadIdx.x & 31) == 0)
		part[threadIdx.x >> 5] = s;
	if (BUG != 1)
		__syncthreads();
	if (threadIdx.x < 32) {
		s = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
		for (int o = 16; o; o >>= 1)
			s += __shfl_xor_sync(~0u, s, o);
		if (threadIdx.x == 0)
			atomicAdd(out, s);
	}
}

extern "C" __global__ void reduce_ok(const float *x, float *out, size_t n)
{
	reduce<0>(x, out, n);
}

extern "C" __global__ void reduce_racy(const float *x, float *out, size_t n)
{
	reduce<1>(x, out, n);
}

/* A row a warp, weights through a ring of three; BUG 1: nobody waits. */
template <int BUG>
DEV void gemv(const int8_t *w, const float *scale, const int8_t *x, float *y,
	      int k)
{
	extern __shared__ __align__(16) uint8_t mem[];
	int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
	int row = blockIdx.x * (blockDim.x >> 5) + warp, n = k / 512, acc = 0;
	uint8_t *ring = mem + warp * 3 * 512 + lane * 16;

	w += (size_t)row * k + lane * 16;
	for (int s = 0; s < 2; s++) {
		if (s < n)
			cp_async16(ring + s * 512, w + s * 512);
		cp_commit();
	}
	for (int c = 0; c < n; c++) {
		const int *a = (const int *)(ring + c % 3 * 512);
		const int *b = (const int *)(x + c * 512 + lane * 16);

		if (c + 2 < n)
			cp_async16(ring + (c + 2) % 3 * 512, w + (c + 2) * 512);
		cp_commit();
		if (BUG == 1)
			cp_wait<3>();
		else
			cp_wait<2>();
		__syncwarp();
		for (int i = 0; i < 4; i++)
			acc = __dp4a(a[i], b[i], acc);
		__syncwarp();
	}
	for (int o = 16; o; o >>= 1)
		acc += __shfl_xor_sync(~0u, acc, o);
	if (lane == 0)
		y[row] = acc * scale[row];
}

extern "C" __global__ void gemv_ok(const int8_t *w, const float *scale,
				   const int8_t *x, float *y, int k)
{
	gemv<0>(w, scale, x, y, k);
}

extern "C" __global__ void gemv_early(const int8_t *w, const float *scale,
				      const int8_t *x, float *y, int k)
{
	gemv<1>(w, scale, x, y, k);
}

/* C[16x8] = A[16xk] B[8xk]^T */
template <int F16>
DEV void mma16(const uint16_t *a, const uint16_t *b, float *c, int k)
{
	int g = threadIdx.x >> 2, t = threadIdx.x & 3;
	float d[4] = { 0, 0, 0, 0 };

	for (int i = 0; i < k; i += 16) {
		uint32_t fa[4], fb[2];

		for (int j = 0; j < 4; j++)
			fa[j] = *(const uint32_t *)&a[(g + (j & 1) * 8) * k +
						      i + (j >> 1) * 8 + 2 * t];
		for (int j = 0; j < 2; j++)
			fb[j] = *(const uint32_t *)&b[g * k + i + j * 8 +
						      2 * t];
		if (F16)
			mma_f16(d, fa, fb);
		else
			mma_bf16(d, fa, fb);
	}
	for (int j = 0; j < 4; j++)
		c[(g + (j >> 1) * 8) * 8 + 2 * t + (j & 1)] = d[j];
}

extern "C" __global__ void mma_bf16_k(const uint16_t *a, const uint16_t *b,
				      float *c, int k)
{
	mma16<0>(a, b, c, k);
}

extern "C" __global__ void mma_f16_k(const uint16_t *a, const uint16_t *b,
				     float *c, int k)
{
	mma16<1>(a, b, c, k);
}

extern "C" __global__ void mma_s8_k(const int8_t *a, const int8_t *b, int *c,
				    int k)
{
	int g = threadIdx.x >> 2, t = threadIdx.x & 3, d[4] = { 0, 0, 0, 0 };

	for (int i = 0; i < k; i += 32) {
		uint32_t fa[4], fb[2];

		for (int j = 0; j < 4; j++)
			fa[j] = *(const uint32_t *)&a[(g + (j & 1) * 8) * k +
						      i + (j >> 1) * 16 +
						      4 * t];
		for (int j = 0; j < 2; j++)
			fb[j] = *(const uint32_t *)&b[g * k + i + j * 16 +
						      4 * t];
		mma_s8(d, fa, fb);
	}
	for (int j = 0; j < 4; j++)
		c[(g + (j >> 1) * 8) * 8 + 2 * t + (j & 1)] = d[j];
}

/* The fragments of mma_bf16_k's A, by ldmatrix. */
extern "C" __global__ void ldmatrix_k(const uint16_t *a, uint32_t *frag)
{
	__shared__ __align__(16) uint16_t s[16 * 16];
	int l = threadIdx.x;
	uint32_t r[4];

	for (int i = l; i < 256; i += 32)
		s[i] = a[i];
	__syncwarp();
	ldmatrix4(r, s + (l & 15) * 16 + (l >> 4) * 8);
	for (int i = 0; i < 4; i++)
		frag[i * 32 + l] = r[i];
}

/* What a compiler makes of ordinary code: every kind of thing once. */
struct mix {
	int i;
	float f;
	double d;
	unsigned long long u;
};

extern "C" {
__constant__ int mix_table[4] = { 3, -5, 7, 11 };
__device__ unsigned int mix_count;
}

extern "C" __global__ void mix_k(struct mix in, int *out, float *fout, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	int local[8];
	unsigned int b, m;

	if (i >= n)
		return;
	for (int j = 0; j < 8; j++)
		local[j] = i * j + in.i;
	b = (unsigned int)local[i & 7] * 2654435761u;
	m = __ballot_sync(__activemask(), i & 1);
	out[i * 8] = local[(i * 5) & 7] / (i + 1) + mix_table[i & 3];
	out[i * 8 + 1] = (int)__popc(b) + __clz(i) + (int)(__brev(b) >> 28);
	out[i * 8 + 2] = (int)__byte_perm(b, i, 0x5140);
	out[i * 8 + 3] = (i - 20) % 7 + ((i - 20) >> 1);
	out[i * 8 + 4] = (int)((in.u * (unsigned)i) >> 33);
	out[i * 8 + 5] = __mulhi(i * 1234567, -98765);
	out[i * 8 + 6] = (int)__funnelshift_l(b, i, 7);
	out[i * 8 + 7] = (int)__popc(m);
	fout[i * 4] = in.f * i + 0.5f;
	fout[i * 4 + 1] = expf(-(float)i * 0.1f) + rsqrtf(i + 1.0f);
	fout[i * 4 + 2] = (float)(in.d / (i + 1));
	fout[i * 4 + 3] = fminf(fmaxf((float)i - 30, -8.0f), 9.0f) +
			  (float)(int)rintf(i * 0.3f);
	atomicAdd(&mix_count, 1u);
}

/* Four roundings of a sum, a product, a quotient and a fused one. */
extern "C" __global__ void round_k(const float *x, const float *y, float *out)
{
	int i = threadIdx.x;
	float a = x[i], b = y[i], *o = out + i * 8;

	o[0] = __fadd_rn(a, b);
	o[1] = __fadd_rz(a, b);
	o[2] = __fadd_rd(a, b);
	o[3] = __fadd_ru(a, b);
	o[4] = __fmul_rd(a, b);
	o[5] = __fmaf_ru(a, b, 1);
	o[6] = __fdiv_rz(a, b);
	o[7] = __double2float_rd((double)a * b);
}

/* The compiler's own text for these hides the registers around it. */
extern "C" __global__ void count_k(int *out, int n)
{
	int i = threadIdx.x, odd = i & 1, low = i < n;
	int a = __syncthreads_count(odd && low);
	int b = __syncthreads_or(i == 77), c = __syncthreads_and(i < 90);

	if (low)
		a += odd ? 1000 : 2000;
	out[i] = a + (b ? 10000 : 0) + (c ? 20000 : 0);
}

extern "C" __global__ void oob(float *x, int n)
{
	if (threadIdx.x == 5)
		x[n + 3] = 1;
}

/* @n bytes into L2, by lines and then in one piece; whose end is wrong is a bug. */
extern "C" __global__ void ahead_k(const char *x, uint32_t n, uint32_t more)
{
	uint32_t i;

	for (i = threadIdx.x * 128; i < n; i += blockDim.x * 128)
		asm volatile("prefetch.global.L2 [%0];" ::"l"(x + i)
			     : "memory");
	if (threadIdx.x == 0)
		asm volatile(
			"cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(x),
			"r"(n + more)
			: "memory");
}

extern "C" __global__ void misaligned(char *x)
{
	*(volatile float *)(x + threadIdx.x) = 1;
}

extern "C" __global__ void shared_oob(float *out, int at)
{
	extern __shared__ float f[];

	f[at + threadIdx.x] = 1;
	out[threadIdx.x] = f[at + threadIdx.x];
}

/* Half of the block is at the barrier, the other half has returned. */
extern "C" __global__ void half_barrier(int *out)
{
	if (threadIdx.x >= 64)
		return;
	__syncthreads();
	out[threadIdx.x] = 1;
}

extern "C" __global__ void scale_k(float *x, float by, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		x[i] = x[i] * by + 1;
}

/* Under programmatic launch: BUG 1 reads before it waits. */
template <int BUG> DEV void dependent(const float *x, float *y, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (BUG != 1)
		grid_wait();
	if (i < n)
		y[i] = x[i] * 2;
	grid_launch();
}

extern "C" __global__ void first_k(float *x, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	grid_launch();
	if (i < n)
		x[i] = (float)i;
}

extern "C" __global__ void dependent_ok(const float *x, float *y, int n)
{
	dependent<0>(x, y, n);
}

extern "C" __global__ void dependent_early(const float *x, float *y, int n)
{
	dependent<1>(x, y, n);
}
