/* SPDX-License-Identifier: MIT */
/*
 * attn.cu - attention of few tokens: a block a span, merged by the last one.
 */
#include "attn.cuh"

/*
 * One token's span, for the query heads of one key head.
 * @lo, @hi: positions seen, from the span's first
 * @heads: query heads computed, HEADS at a time side by side
 * @q: float[heads / HEADS][dim][HEADS]
 * @sum: float[heads][dim], where the queries were
 * @s: float[heads / HEADS][VEC_ATTN_SPAN][HEADS], scores, then weights
 * @head: float[heads][FEW_HEAD]
 * @own, @n_own: where the positions of the step's own tokens begin, which are
 *         not read from the cache, and how many there are; none unless rope
 *         is done on the way
 * @fresh: f16[n_own][dim], their keys, then as many values
 */
struct few {
	uint16_t *keys;
	uint16_t *values;
	float *q;
	float *sum;
	float *s;
	float *head;
	uint16_t *fresh;
	uint32_t own;
	uint32_t n_own;
	uint32_t t;
	uint32_t kv_head;
	uint32_t dim;
	uint32_t group;
	uint32_t heads;
	uint32_t lo;
	uint32_t hi;
};

DEV void few_init(struct few *f, const struct cu_attn *p)
{
	uint32_t dim = p->kv.head_dim, group = p->n_head / p->kv.n_head_kv;
	char *at = (char *)smem;

	f->dim = dim;
	f->group = group;
	f->heads = group < HEADS ? group : FEW_HEADS(group);
	f->keys = (uint16_t *)at;
	at += FEW_KEYS;
	f->values = (uint16_t *)at;
	at += VALUE_DEPTH * FEW_VALUE_BUF(dim);
	f->q = f->sum = (float *)at;
	at += FEW_QUERIES(dim, group);
	f->s = (float *)at;
	at += FEW_SCORES(group);
	f->head = (float *)at;
	at += FEW_HEADS(group) * FEW_HEAD * 4;
	f->fresh = (uint16_t *)at;
	f->own = f->n_own = 0;
}

/* Which of the positions seen are of the step's own tokens; @first is that of
 * the span. */
DEV void few_own(struct few *f, const struct cu_attn *p, uint32_t first)
{
	const struct cu_kv *kv = &p->kv;
	uint32_t t = f->t, end = first + f->hi;

	while (t && kv->table[t - 1] == kv->table[t])
		t--;
	t = kv->pos[t];
	f->own = t > first + f->lo ? t - first : f->lo;
	f->n_own = t < end ? f->hi - f->own : 0;
}

template <int H> DEV void load_heads(float *to, const float *from)
{
	if (H == 1) {
		to[0] = *from;
	} else if (H == 2) {
		float2 v = *(const float2 *)from;

		to[0] = v.x;
		to[1] = v.y;
	} else {
		float4 v = *(const float4 *)from;

		to[0] = v.x;
		to[1] = v.y;
		to[2] = v.z;
		if (H == 4)
			to[3] = v.w;
	}
}

/* Queries, those of heads that only fill up being 0. */
DEV void few_queries(const struct few *f, const struct cu_attn *p)
{
	const float *q = p->rope.k ? p->rope.q : p->q, *norm = p->rope.norm_q;
	uint32_t h, d;
	float *to, s = 0, x;

	q += ((size_t)f->t * p->n_head + f->kv_head * f->group) * f->dim;
	for (h = warp_id(); h < f->heads; h += SPAN_BLOCKS) {
		if (p->rope.k && norm && h < f->group)
			s = norm_row(q + h * f->dim, f->dim, p->rope.eps);
		to = f->q + h / HEADS * f->dim * HEADS + h % HEADS;
		for (d = lane_id(); d < f->dim; d += WARP) {
			x = 0;
			if (h < f->group)
				x = p->rope.k ? rope_at(&p->rope,
							q + h * f->dim, norm, s,
							p->kv.pos[f->t], d)
					      : q[h * f->dim + d];
			to[d * HEADS] = x;
		}
	}
}

/* Keys and values of the step's own tokens; @first is the span's position. */
DEV void few_fresh(const struct few *f, const struct cu_attn *p, uint32_t first)
{
	uint32_t i, d, n = p->kv.n_head_kv, pos = p->kv.pos[f->t], t;
	const float *norm = p->rope.norm_k, *x;
	float s = 0;

	/* the last warps: the first have the queries */
	for (i = SPAN_BLOCKS - 1 - warp_id(); i < f->n_own; i += SPAN_BLOCKS) {
		t = f->t - (pos - first - f->own - i);
		x = p->rope.k + ((size_t)t * n + f->kv_head) * f->dim;
		if (norm)
			s = norm_row(x, f->dim, p->rope.eps);
		for (d = lane_id(); d < f->dim; d += WARP)
			f->fresh[i * f->dim + d] = to_f16(rope_at(
				&p->rope, x, norm, s, first + f->own + i, d));
		x = p->rope.v + ((size_t)t * n + f->kv_head) * f->dim;
		for (d = lane_id(); d < f->dim; d += WARP)
			f->fresh[(f->n_own + i) * f->dim + d] = to_f16(x[d]);
	}
}

/* The token's own key and value into the cache, from the block of its span. */
DEV void few_store(const struct few *f, const struct cu_attn *p)
{
	const uint16_t *key = f->fresh + (f->n_own - 1) * f->dim;
	uint32_t pos = p->kv.pos[f->t], j = pos % VEC_ATTN_BLOCK, d;
	uint16_t *to = kv_block(&p->kv, f->t, pos / VEC_ATTN_BLOCK, f->kv_head);

	for (d = threadIdx.x; d < f->dim; d += blockDim.x) {
		to[d * VEC_ATTN_BLOCK + j] = key[d];
		to[(VEC_ATTN_BLOCK + j) * f->dim + d] =
			key[f->n_own * f->dim + d];
	}
}

/* Dimensions [32 * i, ..) of a warp's keys. */
DEV void keys_load(const struct few *f, const uint16_t *from, uint32_t i)
{
	uint16_t *to = f->keys + (warp_id() * KEY_DEPTH + i % KEY_DEPTH) *
					 (KEY_ROWS * VEC_ATTN_BLOCK);
	uint32_t end = f->dim - i * KEY_ROWS, at;

	end = (end < KEY_ROWS ? end : KEY_ROWS) * VEC_ATTN_BLOCK;
	from += i * KEY_ROWS * VEC_ATTN_BLOCK;
	for (at = lane_id() * 8; at < end; at += WARP * 8)
		cp_async16(smem_at(to + at), from + at);
}

/* A warp's scores of its block of the cache: C times H heads. */
template <int H, int C>
DEV void few_scores(const struct few *f, const uint16_t *from)
{
	uint32_t n = (f->dim + KEY_ROWS - 1) / KEY_ROWS, i, d, end;
	uint32_t fresh = threadIdx.x - f->own, step;
	float s[C][H] = {}, q[H], k;
	const uint16_t *key;
	int c, h;

	for (i = 0; i < n; i++) {
		if (i < KEY_DEPTH)
			cp_wait<KEY_DEPTH + VALUE_DEPTH - 1>();
		else
			cp_wait<KEY_DEPTH - 1>();
		__syncwarp();
		key = f->keys + lane_id() +
		      (warp_id() * KEY_DEPTH + i % KEY_DEPTH) *
			      (KEY_ROWS * VEC_ATTN_BLOCK);
		step = VEC_ATTN_BLOCK;
		if (fresh < f->n_own) {
			key = f->fresh + fresh * f->dim + i * KEY_ROWS;
			step = 1;
		}
		end = f->dim - i * KEY_ROWS;
		end = i * KEY_ROWS + (end < KEY_ROWS ? end : KEY_ROWS);
#pragma unroll 8
		for (d = i * KEY_ROWS; d < end; d++) {
			k = from_f16(*key);
			key += step;
#pragma unroll
			for (c = 0; c < C; c++) {
				load_heads<H>(q,
					      f->q + (c * f->dim + d) * HEADS);
#pragma unroll
				for (h = 0; h < H; h++)
					s[c][h] = __fmaf_rn(q[h], k, s[c][h]);
			}
		}
		__syncwarp();
		if (i + KEY_DEPTH < n)
			keys_load(f, from, i + KEY_DEPTH);
		cp_commit();
	}
#pragma unroll
	for (c = 0; c < C; c++)
#pragma unroll
		for (h = 0; h < H; h++)
			f->s[(c * VEC_ATTN_SPAN + threadIdx.x) * HEADS + h] =
				s[c][h];
}

/* A warp's head: scores to weights. */
DEV void few_soft(const struct few *f, const struct cu_attn *p, uint32_t h)
{
	float *at = f->s + (h / HEADS * VEC_ATTN_SPAN + lane_id()) * HEADS +
		    h % HEADS;
	float *head = f->head + h * FEW_HEAD, s[SPAN_BLOCKS], top[SPAN_BLOCKS];
	struct soft soft = { -INFINITE, 0 };
	uint32_t b, j;
	float c;

#pragma unroll
	for (b = 0; b < SPAN_BLOCKS; b++) {
		j = b * VEC_ATTN_BLOCK + lane_id();
		s[b] = -INFINITE;
		if (j >= f->lo && j < f->hi)
			s[b] = at[b * VEC_ATTN_BLOCK * HEADS] * p->scale;
		top[b] = warp_max(s[b]);
	}
#pragma unroll
	for (b = 0; b < SPAN_BLOCKS; b++) {
		if (b < f->lo / VEC_ATTN_BLOCK ||
		    b > (f->hi - 1) / VEC_ATTN_BLOCK)
			continue;
		c = soft_block(&soft, &s[b], top[b]);
		at[b * VEC_ATTN_BLOCK * HEADS] = s[b];
		if (lane_id() == 0)
			head[b] = c;
	}
	head += SPAN_BLOCKS;
	if (lane_id() == 0)
		*head = soft.m;
	if (lane_id() < VEC_LANES)
		head[1 + lane_id()] = soft.l;
}

/* A buffer of values, all threads: positions [row, row + FEW_VALUES) of the
 * span, which begin in @block. */
DEV void values_load(const struct few *f, const uint16_t *block, uint32_t i,
		     uint32_t row)
{
	uint32_t n = FEW_VALUES(f->dim) * f->dim, at;
	uint16_t *to = f->values + i % VALUE_DEPTH * n;

	block += (VEC_ATTN_BLOCK + row % VEC_ATTN_BLOCK) * f->dim;
	for (at = threadIdx.x * 8; at < n; at += blockDim.x * 8)
		cp_async16(smem_at(to + at), block + at);
}

/* Positions [row, end) of the span into the sums of H heads. */
template <int H>
DEV void few_add(const struct few *f, const uint16_t *v, uint32_t row,
		 uint32_t end, uint32_t e, bool rescale)
{
	uint32_t c = e / f->dim, d = e % f->dim, j, b = row / VEC_ATTN_BLOCK;
	const float *s = f->s + c * (VEC_ATTN_SPAN * HEADS);
	float *sum = f->sum + (size_t)c * HEADS * f->dim + d, a[H], w[H], x;
	int h;

#pragma unroll
	for (h = 0; h < H; h++) {
		a[h] = sum[h * f->dim];
		if (rescale)
			a[h] = a[h] * f->head[(c * HEADS + h) * FEW_HEAD + b];
	}
	v += d;
#pragma unroll 8
	for (j = row; j < end; j++) {
		x = from_f16(*v);
		v += f->dim;
		load_heads<H>(w, s + j * HEADS);
#pragma unroll
		for (h = 0; h < H; h++)
			a[h] = __fmaf_rn(w[h], x, a[h]);
	}
#pragma unroll
	for (h = 0; h < H; h++)
		sum[h * f->dim] = a[h];
}

/* The step's own values into a buffer that begins with position @row. */
DEV void few_patch(const struct few *f, uint16_t *v, uint32_t row)
{
	uint32_t from = row > f->own ? row : f->own, e;
	uint32_t end = row + FEW_VALUES(f->dim);
	const uint16_t *fresh = f->fresh + (f->n_own + from - f->own) * f->dim;

	end = end < f->own + f->n_own ? end : f->own + f->n_own;
	if (from >= end)
		return;
	for (e = threadIdx.x; e < (end - from) * f->dim; e += blockDim.x)
		v[(from - row) * f->dim + e] = fresh[e];
	__syncthreads();
}

/* The sums of values: buffer by buffer, those from @i on not yet loading. */
template <int H>
DEV void few_values(const struct few *f, const uint16_t *const *blocks,
		    uint32_t n)
{
	uint32_t rows = FEW_VALUES(f->dim), per = VEC_ATTN_BLOCK / rows, i, e;
	uint32_t first = f->lo / VEC_ATTN_BLOCK * VEC_ATTN_BLOCK, row, at, end;
	uint16_t *v;

	for (e = threadIdx.x; e < f->heads * f->dim; e += blockDim.x)
		f->sum[e] = 0;
	for (i = 0; i < n; i++) {
		cp_wait<VALUE_DEPTH - 2>();
		__syncthreads();
		at = i + VALUE_DEPTH - 1;
		if (i && at < n)
			values_load(f,
				    blocks[first / VEC_ATTN_BLOCK + at / per],
				    at, at * rows);
		cp_commit();
		row = first + i * rows;
		end = row + rows < f->hi ? row + rows : f->hi;
		v = f->values + i % VALUE_DEPTH * rows * f->dim;
		few_patch(f, v, row);
		at = row < f->lo ? f->lo : row;
		for (e = threadIdx.x; e < f->heads / H * f->dim;
		     e += blockDim.x)
			few_add<H>(f, v + (at - row) * f->dim, at, end, e,
				   i % per == 0);
	}
	__syncthreads();
}

/* The sums of one span of a head, or of all of them, to what is asked for. */
DEV void few_results(const struct few *f, const struct cu_attn *p)
{
	float *l, inv;
	uint32_t e, h;

	for (h = warp_id(); h < f->group; h += SPAN_BLOCKS) {
		l = f->head + h * FEW_HEAD + SPAN_BLOCKS;
		inv = 1.0f / tree_sum(l[1 + lane_id() % VEC_LANES]);
		if (lane_id() == 0)
			*l = inv;
	}
	__syncthreads();
	for (e = threadIdx.x; e < f->group * f->dim; e += blockDim.x) {
		h = e / f->dim;
		inv = f->head[h * FEW_HEAD + SPAN_BLOCKS];
		result(p, f->t, f->kv_head * f->group + h, e % f->dim,
		       f->sum[e] * inv);
	}
}

DEV float *part_of(const struct few *f, const struct cu_attn *p, uint32_t h,
		   uint32_t span)
{
	size_t head = (size_t)f->t * p->n_head + f->kv_head * f->group + h;

	return p->part + (head * p->spans + span) * CU_PART(f->dim);
}

/* The block's sums to where the last one finds them; true if this is that,
 * of @n. */
DEV bool few_last(const struct few *f, const struct cu_attn *p, uint32_t n)
{
	uint32_t *ticket = p->ticket + f->t * p->kv.n_head_kv + f->kv_head;
	__shared__ uint32_t before;
	const float *head;
	uint32_t h, e;
	float *to;

	for (h = 0; h < f->group; h++) {
		to = part_of(f, p, h, blockIdx.x);
		head = f->head + h * FEW_HEAD + SPAN_BLOCKS;
		if (threadIdx.x <= VEC_LANES)
			to[threadIdx.x] = head[threadIdx.x];
		for (e = threadIdx.x; e < f->dim; e += blockDim.x)
			to[CU_PART(0) + e] = f->sum[h * f->dim + e];
	}
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0) {
		before = atomicAdd(ticket, 1);
		if (before + 1 == n)
			*ticket = 0;
	}
	__syncthreads();
	__threadfence();
	return before + 1 == n;
}

/* Spans [z, z + n) of a head, by a warp: what they are rescaled by goes to
 * @factor, and the sums of weights are merged. */
DEV void merge_head(const struct few *f, const struct cu_attn *p, uint32_t h,
		    uint32_t z, uint32_t n, float2 *factor)
{
	float *head = f->head + h * FEW_HEAD + SPAN_BLOCKS, *l, m, top, x;
	float2 c, k;
	uint32_t i;

	l = head + 1 + lane_id() % VEC_LANES;
	m = -INFINITE;
	if (lane_id() < n)
		m = __ldcg(part_of(f, p, h, z + lane_id()));
	/* the largest score up to each span, and before it */
	top = m;
	for (i = 1; i < WARP; i *= 2) {
		x = __shfl_up_sync(ALL, top, i);
		if (lane_id() >= i)
			top = max_f(top, x);
	}
	if (z)
		top = max_f(top, *head);
	x = __shfl_up_sync(ALL, top, 1);
	if (lane_id() == 0)
		x = *head;
	c.x = exp_f(x - top);
	c.y = exp_f(m - top);
	factor[lane_id()] = c;
	__syncwarp();
	x = *l;
	for (i = 0; i < n; i++) {
		k.x = __shfl_sync(ALL, c.x, i);
		k.y = __shfl_sync(ALL, c.y, i);
		m = __ldcg(part_of(f, p, h, z + i) + 1 + lane_id() % VEC_LANES);
		x = z + i ? __fmaf_rn(x, k.x, m * k.y) : m;
	}
	top = __shfl_sync(ALL, top, n - 1);
	if (lane_id() < VEC_LANES)
		*l = x;
	if (lane_id() == 0)
		*head = top;
	__syncwarp();
}

/* All @n spans into the block's sums, 32 at a time. */
DEV void few_merge(const struct few *f, const struct cu_attn *p, uint32_t n)
{
	float2 *factor = (float2 *)f->keys, c;
	uint32_t z, end, i, e, h, d;
	float a, x;

	for (z = 0; z < n; z = end) {
		end = n - z < WARP ? n : z + WARP;
		for (h = warp_id(); h < f->group; h += SPAN_BLOCKS)
			merge_head(f, p, h, z, end - z, factor + h * WARP);
		__syncthreads();
		for (e = threadIdx.x; e < f->group * f->dim; e += blockDim.x) {
			h = e / f->dim;
			d = e % f->dim;
			a = f->sum[e];
#pragma unroll 4
			for (i = z; i < end; i++) {
				x = __ldcg(part_of(f, p, h, i) + CU_PART(0) +
					   d);
				c = factor[h * WARP + i - z];
				a = i ? __fmaf_rn(a, c.x, x * c.y) : x;
			}
			f->sum[e] = a;
		}
		__syncthreads();
	}
}

/* From scores to sums, @H heads at a time and @C times that. */
template <int H, int C>
DEV void few_span(const struct few *f, const struct cu_attn *p,
		  const uint16_t *const *blocks)
{
	uint32_t b0 = f->lo / VEC_ATTN_BLOCK, b1 = (f->hi - 1) / VEC_ATTN_BLOCK;
	uint32_t rows = FEW_VALUES(f->dim), per = VEC_ATTN_BLOCK / rows, h;

	if (warp_id() >= b0 && warp_id() <= b1)
		few_scores<H, C>(f, blocks[warp_id()]);
	__syncthreads();
	for (h = warp_id(); h < f->heads; h += SPAN_BLOCKS)
		few_soft(f, p, h);
	cp_wait<0>();
	few_values<H>(f, blocks, (b1 - b0 + 1) * per);
}

/* Keys and the first values on their way. */
DEV void few_begin(const struct few *f, const struct cu_attn *p,
		   const uint16_t **blocks, uint32_t span)
{
	uint32_t b0 = f->lo / VEC_ATTN_BLOCK, b1 = (f->hi - 1) / VEC_ATTN_BLOCK;
	uint32_t per = VEC_ATTN_BLOCK / FEW_VALUES(f->dim), w = warp_id(), i;

	if (w >= b0 && w <= b1) {
		blocks[w] = kv_block(&p->kv, f->t, span * SPAN_BLOCKS + w,
				     f->kv_head);
		for (i = 0; i < KEY_DEPTH; i++) {
			if (i * KEY_ROWS < f->dim)
				keys_load(f, blocks[w], i);
			cp_commit();
		}
	}
	__syncthreads();
	for (i = 0; i < VALUE_DEPTH; i++) {
		if (i < (b1 - b0 + 1) * per)
			values_load(f, blocks[b0 + i / per], i,
				    i * FEW_VALUES(f->dim));
		cp_commit();
	}
}

/* A block a span (x), key head (y) and token (z). */
extern "C" __global__ void __launch_bounds__(SPAN_BLOCKS *WARP, 2)
	attn_few(struct cu_attn p)
{
	__shared__ const uint16_t *blocks[SPAN_BLOCKS];
	uint32_t end, first, span, last;
	struct few f;

	grid_launch();
	if (!p.rope.k)
		grid_wait();
	f.t = blockIdx.z;
	f.kv_head = blockIdx.y;
	end = p.kv.pos[f.t] + 1;
	first = first_seen(&p, end);
	last = (end - 1) / VEC_ATTN_SPAN;
	span = first / VEC_ATTN_SPAN + blockIdx.x;
	if (span > last) {
		ahead(p.ahead);
		return;
	}
	few_init(&f, &p);
	end -= span * VEC_ATTN_SPAN;
	f.lo = blockIdx.x ? 0 : first % VEC_ATTN_SPAN;
	f.hi = end < VEC_ATTN_SPAN ? end : VEC_ATTN_SPAN;
	if (p.rope.k)
		few_own(&f, &p, span * VEC_ATTN_SPAN);
	few_begin(&f, &p, blocks, span);
	/* behind the first of its own reads */
	ahead(p.ahead);
	if (p.rope.k) {
		/* what is in the cache is of earlier steps */
		grid_wait();
		few_fresh(&f, &p, span * VEC_ATTN_SPAN);
	}
	few_queries(&f, &p);
	__syncthreads();
	if (p.rope.k && span == last)
		few_store(&f, &p);
	if (f.group == 1)
		few_span<1, 1>(&f, &p, blocks);
	else if (f.group == 2)
		few_span<2, 1>(&f, &p, blocks);
	else if (f.group == 3)
		few_span<3, 1>(&f, &p, blocks);
	else if (f.group == 4)
		few_span<4, 1>(&f, &p, blocks);
	else if (f.group <= 8)
		few_span<4, 2>(&f, &p, blocks);
	else
		few_span<4, GROUP_MAX / 4>(&f, &p, blocks);
	last -= first / VEC_ATTN_SPAN;
	if (last && !few_last(&f, &p, last + 1))
		return;
	if (last)
		few_merge(&f, &p, last + 1);
	few_results(&f, &p);
}
