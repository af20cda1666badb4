/* SPDX-License-Identifier: MIT */
/*
 * attn_many.cu - attention of many tokens: a block takes a piece of a sequence
 * and some query heads of one key head through all positions they see.
 */
#include "attn.cuh"

/*
 * What a block works on. Query i is of head @head + i % @heads and of token
 * @tok + i / @heads; a warp has Q of them.
 */
struct many {
	uint32_t dim;
	uint32_t tok;
	uint32_t n_tok;
	uint32_t kv_head;
	uint32_t head;
	uint32_t heads;
	uint32_t end_head;
};

/* A query: where what it sees ends (0: it is none) and its sums of this span;
 * D dimensions a lane, 32 apart. */
template <int D> struct query {
	uint32_t end;
	struct soft soft;
	float sum[D];
};

/* Its sums of the spans before. They are needed once a span, so registers are
 * left to what is needed always: @at is 0, but the compiler does not know. */
template <int D, int Q> struct spans {
	struct soft soft[Q];
	float sum[Q][D];
	uint32_t at;
};

template <int N> DEV void load(float *to, const float *from)
{
	int i;

	if (N == 2) {
		float2 v = *(const float2 *)from;

		to[0] = v.x;
		to[1] = v.y;
	}
#pragma unroll
	for (i = 0; i + 4 <= N; i += 4) {
		float4 v = *(const float4 *)(from + i);

		to[i] = v.x;
		to[i + 1] = v.y;
		to[i + 2] = v.z;
		to[i + 3] = v.w;
	}
}

/* Shared memory: a block's keys and values; of each warp, queries as
 * float[dim][Q], and weights as float[VEC_ATTN_BLOCK][Q]. */
DEV uint16_t *keys_of(const struct many *m)
{
	return (uint16_t *)smem;
}

DEV uint16_t *values_of(const struct many *m)
{
	return keys_of(m) + VEC_ATTN_BLOCK * m->dim;
}

template <int Q> DEV float *queries_of(const struct many *m)
{
	return (float *)smem + (VEC_ATTN_BLOCK + warp_id() * Q) * m->dim;
}

template <int Q> DEV float *weights_of(const struct many *m)
{
	return (float *)smem +
	       (VEC_ATTN_BLOCK + blockDim.x / WARP * Q) * m->dim +
	       warp_id() * (VEC_ATTN_BLOCK * Q);
}

template <int Q> DEV void many_init(struct many *m, const struct cu_attn *p)
{
	uint32_t group = p->n_head / p->kv.n_head_kv, dim = p->kv.head_dim;
	uint32_t parts = gridDim.y / p->kv.n_head_kv;

	m->dim = dim;
	m->tok = p->pieces[blockIdx.x].tok;
	m->n_tok = p->pieces[blockIdx.x].n;
	m->kv_head = blockIdx.y / parts;
	m->heads = (group + parts - 1) / parts;
	m->head = m->kv_head * group + blockIdx.y % parts * m->heads;
	m->end_head = (m->kv_head + 1) * group;
}

/* A warp's queries; those that are none are 0. */
template <int D, int Q>
DEV void many_queries(const struct many *m, const struct cu_attn *p,
		      struct query<D> *q)
{
	uint32_t k, i, t, head, d;
	const float *from;

#pragma unroll
	for (k = 0; k < Q; k++) {
		i = warp_id() * Q + k;
		t = m->tok + i / m->heads;
		head = m->head + i % m->heads;
		q[k].end = 0;
		if (i / m->heads < m->n_tok && head < m->end_head)
			q[k].end = p->kv.pos[t] + 1;
		from = p->q + ((size_t)t * p->n_head + head) * m->dim;
		for (d = lane_id(); d < m->dim; d += WARP)
			queries_of<Q>(m)[d * Q + k] = q[k].end ? from[d] : 0;
	}
	__syncwarp();
}

/* Half a block of the cache, on its way: keys or values. */
DEV void many_load(const struct many *m, uint16_t *to, const uint16_t *from)
{
	uint32_t at;

	for (at = threadIdx.x * 8; at < VEC_ATTN_BLOCK * m->dim;
	     at += blockDim.x * 8)
		cp_async16(smem_at(to + at), from + at);
}

/* Of block @b's positions, a bit for each in [first, end). */
DEV uint32_t seen(uint32_t first, uint32_t end, uint32_t b)
{
	uint32_t base = b * VEC_ATTN_BLOCK, bits = ALL;

	if (end <= base || first >= base + WARP)
		return 0;
	if (end - base < WARP)
		bits = (1u << (end - base)) - 1;
	return first > base ? bits & ALL << (first - base) : bits;
}

/* A span of query @k into all before it, if it is not the first. */
template <int D, int Q>
DEV void many_merge(struct spans<D, Q> *all, const struct query<D> *q, int k,
		    bool first)
{
	struct soft *soft = &all->soft[all->at + k];
	float *sum = all->sum[all->at + k], m = max_f(q->soft.m, soft->m);
	float c1 = exp_f(soft->m - m), c2 = exp_f(q->soft.m - m);
	int i;

	if (first)
		*soft = q->soft;
	else
		*soft = { m, __fmaf_rn(soft->l, c1, q->soft.l * c2) };
#pragma unroll
	for (i = 0; i < D; i++)
		sum[i] = first ? q->sum[i]
			       : __fmaf_rn(sum[i], c1, q->sum[i] * c2);
}

/* Before block @b, of which query @k sees something. */
template <int D, int Q>
DEV void many_span(struct spans<D, Q> *all, struct query<D> *q, int k,
		   uint32_t first, uint32_t b)
{
	int i;

	if (b != first / VEC_ATTN_BLOCK) {
		if (b % SPAN_BLOCKS)
			return;
		many_merge<D, Q>(all, q, k,
				 b / SPAN_BLOCKS - 1 == first / VEC_ATTN_SPAN);
	}
	q->soft = { -INFINITE, 0 };
#pragma unroll
	for (i = 0; i < D; i++)
		q->sum[i] = 0;
}

template <int Q> DEV void many_scores(const struct many *m, float *s)
{
	const uint16_t *key = keys_of(m) + lane_id();
	const float *at = queries_of<Q>(m);
	float q[Q], x;
	uint32_t d;
	int k;

#pragma unroll
	for (k = 0; k < Q; k++)
		s[k] = 0;
#pragma unroll 8
	for (d = 0; d < m->dim; d++) {
		x = from_f16(*key);
		key += VEC_ATTN_BLOCK;
		load<Q>(q, at);
		at += Q;
#pragma unroll
		for (k = 0; k < Q; k++)
			s[k] = __fmaf_rn(q[k], x, s[k]);
	}
}

/* Scores to weights, and the sums of values rescaled. */
template <int D, int Q>
DEV void many_soft(const struct many *m, const struct cu_attn *p,
		   struct query<D> *q, struct spans<D, Q> *all, float *s,
		   const uint32_t *bits, uint32_t b)
{
	float c;
	int k, i;

#pragma unroll
	for (k = 0; k < Q; k++) {
		if (!bits[k])
			continue;
		many_span<D, Q>(all, &q[k], k, first_seen(p, q[k].end), b);
		s[k] = bits[k] >> lane_id() & 1 ? s[k] * p->scale : -INFINITE;
		c = soft_block(&q[k].soft, &s[k], warp_max(s[k]));
		weights_of<Q>(m)[lane_id() * Q + k] = s[k];
#pragma unroll
		for (i = 0; i < D; i++)
			q[k].sum[i] = q[k].sum[i] * c;
	}
	__syncwarp();
}

/* Values times weights; with ALL_SEEN of all positions, else those in @bits. */
template <int D, int Q, bool ALL_SEEN>
DEV void many_values(const struct many *m, struct query<D> *q,
		     const uint32_t *bits)
{
	const uint16_t *v = values_of(m) + lane_id();
	const float *at = weights_of<Q>(m);
	float w[Q], x[D];
	uint32_t j;
	int i, k;

#pragma unroll 4
	for (j = 0; j < VEC_ATTN_BLOCK; j++) {
#pragma unroll
		for (i = 0; i < D; i++)
			x[i] = lane_id() + i * WARP < m->dim
				       ? from_f16(v[i * WARP])
				       : 0;
		v += m->dim;
		load<Q>(w, at);
		at += Q;
#pragma unroll
		for (k = 0; k < Q; k++) {
			if (!ALL_SEEN && !(bits[k] >> j & 1))
				continue;
#pragma unroll
			for (i = 0; i < D; i++)
				q[k].sum[i] =
					__fmaf_rn(w[k], x[i], q[k].sum[i]);
		}
	}
}

/* One block of the cache, whose keys and values are on their way; then those
 * of @next, if there is one. */
template <int D, int Q>
DEV void many_block(const struct many *m, const struct cu_attn *p,
		    struct query<D> *q, struct spans<D, Q> *spans, uint32_t b,
		    const uint16_t *next)
{
	uint32_t bits[Q], any = 0, all = ALL;
	float s[Q];
	int k;

#pragma unroll
	for (k = 0; k < Q; k++) {
		bits[k] = seen(first_seen(p, q[k].end), q[k].end, b);
		any |= bits[k];
		all &= bits[k];
	}
	cp_wait<1>();
	__syncthreads();
	if (any)
		many_scores<Q>(m, s);
	__syncthreads();
	if (next)
		many_load(m, keys_of(m), next);
	cp_commit();
	if (any)
		many_soft<D, Q>(m, p, q, spans, s, bits, b);
	cp_wait<1>();
	__syncthreads();
	if (all == ALL)
		many_values<D, Q, true>(m, q, bits);
	else if (any)
		many_values<D, Q, false>(m, q, bits);
	__syncthreads();
	if (next)
		many_load(m, values_of(m), next + VEC_ATTN_BLOCK * m->dim);
	cp_commit();
}

template <int D, int Q>
DEV void many_results(const struct many *m, const struct cu_attn *p,
		      const struct query<D> *q, struct spans<D, Q> *all)
{
	uint32_t k, i, n, first;
	float inv, *sum;

#pragma unroll
	for (k = 0; k < Q; k++) {
		if (!q[k].end)
			continue;
		first = first_seen(p, q[k].end);
		many_merge<D, Q>(all, &q[k], k,
				 (q[k].end - 1) / VEC_ATTN_SPAN ==
					 first / VEC_ATTN_SPAN);
		inv = 1.0f / tree_sum(all->soft[all->at + k].l);
		sum = all->sum[all->at + k];
		n = warp_id() * Q + k;
#pragma unroll
		for (i = 0; i < D; i++)
			if (lane_id() + i * WARP < m->dim)
				result(p, m->tok + n / m->heads,
				       m->head + n % m->heads,
				       lane_id() + i * WARP, sum[i] * inv);
	}
}

/* A block a piece (x), and a part of the heads of a key head (y). */
template <int D, int Q> DEV void attn_many(const struct cu_attn *p)
{
	struct spans<D, Q> spans;
	struct query<D> q[Q];
	const uint16_t *kv;
	struct many m;
	uint32_t b, end;

	grid_launch();
	grid_wait();
	many_init<Q>(&m, p);
	asm volatile("mov.u32 %0, 0;" : "=r"(spans.at));
	b = p->kv.pos[m.tok] + 1;
	end = b + m.n_tok - 1;
	b = first_seen(p, b) / VEC_ATTN_BLOCK;
	kv = kv_block(&p->kv, m.tok, b, m.kv_head);
	many_load(&m, keys_of(&m), kv);
	cp_commit();
	many_load(&m, values_of(&m), kv + VEC_ATTN_BLOCK * m.dim);
	cp_commit();
	many_queries<D, Q>(&m, p, q);
	for (; b * VEC_ATTN_BLOCK < end; b++) {
		kv = NULL;
		if ((b + 1) * VEC_ATTN_BLOCK < end)
			kv = kv_block(&p->kv, m.tok, b + 1, m.kv_head);
		many_block<D, Q>(&m, p, q, &spans, b, kv);
	}
	many_results<D, Q>(&m, p, q, &spans);
}

#define KERNEL(dim)                                                          \
	extern "C" __global__ void __launch_bounds__(MANY_WARPS(dim) * WARP, \
						     12 / MANY_WARPS(dim))   \
		attn_##dim(struct cu_attn p)                                 \
	{                                                                    \
		attn_many<dim / 32, MANY_ROWS(dim)>(&p);                     \
	}

KERNEL(64)
KERNEL(128)
KERNEL(256)
KERNEL(512)
