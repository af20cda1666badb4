/* SPDX-License-Identifier: MIT */
/*
 * rows.cu - what is done to rows of activations: norm, quantisation, the gate
 * of a feed-forward, gathering, rotation and the way into the cache.
 */
#include "vec.cuh"

/* A block a row. Elements go to threads 32 in a row, a warp a block of
 * activations. */
extern "C" __global__ void rmsnorm(struct cu_norm p)
{
	extern __shared__ float smem[];
	const float *x = p.x + (size_t)blockIdx.x * p.width;
	size_t at = (size_t)blockIdx.x * p.width;
	uint32_t i;
	float s, y;

	grid_launch();
	ahead(p.ahead);
	grid_wait();
	s = *norm_rows(x, p.width, 1, p.eps, smem);
	for (i = threadIdx.x; i < p.width; i += blockDim.x) {
		y = x[i] * s;
		if (p.w)
			y = y * p.w[i];
		if (p.out)
			p.out[at + i] = y;
		if (p.sum)
			p.sum[at + i] = p.sum[at + i] + y;
		if (p.act)
			quantise(p.act + (at + i) / ACT_BLOCK, y);
	}
}

extern "C" __global__ void quant(struct cu_quant p)
{
	uint32_t col = blockIdx.x * blockDim.x + threadIdx.x;
	size_t at = (size_t)blockIdx.y * p.width + col;

	grid_launch();
	grid_wait();
	if (col < p.width)
		quantise(p.act + at / ACT_BLOCK, p.x[at]);
}

extern "C" __global__ void glu(struct cu_glu p)
{
	uint32_t col = blockIdx.x * blockDim.x + threadIdx.x;
	size_t at = (size_t)blockIdx.y * p.width + col;
	float y;

	grid_launch();
	grid_wait();
	if (col >= p.width)
		return;
	y = glu_f(p.kind, p.g[at], p.u[at]);
	if (p.out)
		p.out[at] = y;
	if (p.act)
		quantise(p.act + at / ACT_BLOCK, y);
}

extern "C" __global__ void gather(struct cu_gather p)
{
	uint32_t col = blockIdx.x * blockDim.x + threadIdx.x;

	grid_launch();
	grid_wait();
	if (col < p.width)
		p.out[(size_t)blockIdx.y * p.width + col] =
			p.x[(size_t)p.rows[blockIdx.y] * p.width + col];
}

/* A warp norms and rotates a head, through @y of its own in shared memory. */
DEV void rope_head(const struct cu_rope_kv *p, float *x, const float *norm,
		   uint32_t pos, float *y)
{
	uint32_t dim = p->kv.head_dim, i;
	float s = norm ? norm_row(x, dim, p->eps) : 0;

	for (i = lane_id(); i < dim; i += WARP)
		y[i] = rope_at(p, x, norm, s, pos, i);
	__syncwarp();
	for (i = lane_id(); i < dim; i += WARP)
		x[i] = y[i];
}

/* A warp a head: first those of q, then of k, then of v. */
extern "C" __global__ void rope_kv(struct cu_rope_kv p)
{
	extern __shared__ float smem[];
	uint32_t head = blockIdx.x * (blockDim.x / WARP) + warp_id();
	uint32_t t = blockIdx.y, dim = p.kv.head_dim, n = p.kv.n_head_kv, i;
	float *y = smem + warp_id() * dim, *k;
	uint32_t pos, j;
	const float *v;
	uint16_t *to;

	grid_launch();
	grid_wait();
	pos = p.kv.pos[t];
	j = pos % VEC_ATTN_BLOCK;
	if (head < p.n_head) {
		rope_head(&p, p.q + ((size_t)t * p.n_head + head) * dim,
			  p.norm_q, pos, y);
		return;
	}
	head -= p.n_head;
	if (head < n) {
		k = p.k + ((size_t)t * n + head) * dim;
		rope_head(&p, k, p.norm_k, pos, y);
		to = kv_block(&p.kv, t, pos / VEC_ATTN_BLOCK, head);
		for (i = lane_id(); i < dim; i += WARP)
			to[i * VEC_ATTN_BLOCK + j] = to_f16(k[i]);
		return;
	}
	head -= n;
	if (head >= n)
		return;
	v = p.v + ((size_t)t * n + head) * dim;
	to = kv_block(&p.kv, t, pos / VEC_ATTN_BLOCK, head) +
	     (VEC_ATTN_BLOCK + j) * dim;
	for (i = lane_id(); i < dim; i += WARP)
		to[i] = to_f16(v[i]);
}
