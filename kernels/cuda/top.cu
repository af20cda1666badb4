/* SPDX-License-Identifier: MIT */
/*
 * top.cu - rows of logits in short: first candidates and sums, as ../top.h
 * says, bit for bit.
 *
 * A block takes a chunk, and the last one of a row to be done merges them all.
 * A candidate is a key, the greater of which comes first. Of many keys the
 * first TOP_N are found by a bound: the TOP_N-th of the threads' greatest has
 * so many keys before it at least, and all of them belong to so many threads.
 */
#include "../top.h"
#include "vec.cuh"

#define PER  (TOP_CHUNK / TOP_LANES)		 /* of a chunk, a thread */
#define MOST (TOP_N * CU_TOP_CHUNKS / TOP_LANES) /* of all chunks */

struct work {
	uint64_t greatest[TOP_LANES];
	uint64_t list[TOP_N * MOST];
	double sum[TOP_LANES];
	uint64_t bound;
	uint32_t n;
};

/* Never 0. Zeros are equal. */
DEV uint64_t key_of(float x, uint32_t token)
{
	uint32_t u = __float_as_uint(x + 0.0f);

	u = u & 0x80000000u ? ~u : u | 0x80000000u;
	return (uint64_t)u << 32 | ~token;
}

DEV uint32_t token_of(uint64_t key)
{
	return ~(uint32_t)key;
}

DEV float logit_of(uint64_t key)
{
	uint32_t u = (uint32_t)(key >> 32);

	return __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
}

/* How many of @n keys come before @key? */
DEV uint32_t rank_of(uint64_t key, const uint64_t *keys, uint32_t n)
{
	uint32_t rank = 0, i;

	for (i = 0; i < n; i++)
		rank += keys[i] > key;
	return rank;
}

/*
 * The first TOP_N of the keys get(0 .. per - 1) of each thread, 0 being none:
 * put(rank, key), with keys of 0 where there are not so many.
 */
template <class G, class P> DEV void select(work *w, uint32_t per, G get, P put)
{
	uint32_t t = threadIdx.x, i;
	uint64_t mine = 0, key;

	for (i = 0; i < per; i++) {
		key = get(i);
		mine = key > mine ? key : mine;
	}
	w->greatest[t] = mine;
	if (t == 0) {
		w->bound = 1;
		w->n = 0;
	}
	__syncthreads();
	if (mine && rank_of(mine, w->greatest, TOP_LANES) == TOP_N - 1)
		w->bound = mine;
	__syncthreads();
	for (i = 0; i < per && mine >= w->bound; i++) {
		key = get(i);
		if (key >= w->bound)
			w->list[atomicAdd(&w->n, 1)] = key;
	}
	__syncthreads();
	for (i = t; i < w->n; i += TOP_LANES) {
		uint32_t rank = rank_of(w->list[i], w->list, w->n);

		if (rank < TOP_N)
			put(rank, w->list[i]);
	}
	if (t >= w->n && t < TOP_N)
		put(t, 0);
}

/* The tree over the lanes, each thread's being @s. Thread 0 has the sum. */
DEV double lanes_sum(work *w, double s)
{
	uint32_t t = threadIdx.x, n;

	w->sum[t] = s;
	for (n = TOP_LANES / 2; n; n /= 2) {
		__syncthreads();
		if (t < n)
			w->sum[t] = s = s + w->sum[t + n];
	}
	return s;
}

/* A chunk's keys to @part, rank by rank; its sum to @sum, a NaN if one of its
 * logits is not finite. */
DEV void chunk(work *w, const float *x, uint32_t from, uint32_t width,
	       uint64_t *part, double *sum)
{
	uint32_t at = from + threadIdx.x, bad = 0, i;
	__shared__ float max;
	double s = 0;

	select(
		w, PER,
		[&](uint32_t k) {
			uint32_t token = at + k * TOP_LANES;

			return token < width ? key_of(x[token], token) : 0;
		},
		[&](uint32_t rank, uint64_t key) {
			part[(size_t)rank * gridDim.x] = key;
			if (rank == 0)
				max = logit_of(key);
		});
	__syncthreads();
	for (i = at; i < width && i < from + TOP_CHUNK; i += TOP_LANES) {
		bad |= (__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u;
		s = s + top_exp((double)x[i] - (double)max);
	}
	s = lanes_sum(w, s);
	bad = (uint32_t)__syncthreads_or((int)bad);
	if (threadIdx.x == 0)
		*sum = bad ? __longlong_as_double(0x7ff8ll << 48) : s;
}

/* Are all the other chunks of the row done? */
DEV bool is_last(uint32_t *ticket)
{
	__shared__ uint32_t before;

	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0) {
		before = atomicAdd(ticket, 1);
		if (before + 1 == gridDim.x)
			*ticket = 0;
	}
	__syncthreads();
	__threadfence();
	return before + 1 == gridDim.x;
}

/* Of all chunks' keys and sums, the row's. */
DEV void merge(work *w, const float *x, uint32_t width, const uint64_t *part,
	       const double *sum, struct top_row *out)
{
	uint32_t t = threadIdx.x, n = gridDim.x, i;
	__shared__ uint64_t first;
	double z = 0;

	select(
		w, (TOP_N * n + TOP_LANES - 1) / TOP_LANES,
		[&](uint32_t k) {
			uint32_t at = k * TOP_LANES + t;

			return at < TOP_N * n ? __ldcg(part + at) : 0;
		},
		[&](uint32_t rank, uint64_t key) {
			struct top_cand c = { 0, 0 };

			if (rank == 0)
				first = key;
			if (key)
				c = { x[token_of(key)], token_of(key) };
			out->cand[rank] = c;
		});
	__syncthreads();
	/* Of each chunk the first key is its greatest. */
	if (t < n)
		w->sum[t] = __ldcg(sum + t) *
			    top_exp((double)logit_of(__ldcg(part + t)) -
				    (double)logit_of(first));
	__syncthreads();
	if (t)
		return;
	for (i = 0; i < n; i++)
		z = z + w->sum[i];
	out->sum = z;
	out->n = width < TOP_N ? width : TOP_N;
	out->finite = z == z;
}

/* Those of the row that are wanted by themselves. */
DEV void pick(const struct cu_top &p, const float *x, uint32_t row)
{
	struct cu_picks k = p.picks[row];
	float *to = p.picked + (size_t)row * p.most;
	uint32_t i;

	for (i = threadIdx.x; i < k.n; i += TOP_LANES)
		to[i] = x[p.tokens[k.at + i]];
}

/* Two blocks: for more at a time registers would be spilled. */
extern "C" __global__ void __launch_bounds__(TOP_LANES, 2) top(struct cu_top p)
{
	__shared__ work w;
	uint32_t row = blockIdx.y, c = blockIdx.x, n = gridDim.x;
	const float *x = p.x + (size_t)row * p.width;
	uint64_t *part = p.part + CU_TOP_PART(p.width) * row;
	double *sum = (double *)(part + TOP_N * n);

	grid_launch();
	ahead(p.ahead);
	grid_wait();
	if (c == 0)
		pick(p, x, row);
	chunk(&w, x, c * TOP_CHUNK, p.width, part + c, sum + c);
	if (is_last(p.ticket + row))
		merge(&w, x, p.width, part, sum, p.out + row);
}
