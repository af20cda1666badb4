/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_attn.c - CUDA kernels around the cache give the bits of plain C:
 * rotation, the way into it, and attention.
 */
#include <errno.h>

#include "../kernels/vec.h"
#include "cuda_rig.h"

#define LAYERS 2 /* in the cache; all is done to the second */
#define LAYER  1
#define SEQS   4

static struct mat_kernels mk;
static struct vec_kernels vk;

static void begin(int with_seed)
{
	seed = (uint64_t)with_seed;
	rng_state = seed;
	mat_kernels_init(&mk, CPU_C);
	vec_kernels_init(&vk, CPU_C);
	cuda_open(with_seed);
}

/* Tokens [pos, pos + n) of a sequence; no more if n is 0. */
struct part {
	uint32_t pos;
	uint32_t n;
};

/* A step's tokens and the cache: blocks of the sequences lie anywhere, and
 * what no token may see is NaN. */
struct step {
	struct part parts[SEQS];
	uint32_t n;
	uint32_t dim, heads, heads_kv;
	uint16_t *cache;
	size_t cache_bytes;
	uint32_t *tables, *table, *pos;
	uint32_t n_table; /* entries of @tables */
	struct cu_kv kv;  /* on the device */
};

static size_t head_elems(const struct step *s)
{
	return (size_t)2 * VEC_ATTN_BLOCK * s->dim;
}

static size_t block_elems(const struct step *s)
{
	return LAYERS * s->heads_kv * head_elems(s);
}

/* Where @head of position @pos of token @t's sequence is. */
static uint16_t *cached(const struct step *s, uint32_t t, uint32_t pos,
			uint32_t head)
{
	uint32_t block = s->tables[s->table[t] + pos / VEC_ATTN_BLOCK];

	return s->cache + block * block_elems(s) +
	       (LAYER * s->heads_kv + head) * head_elems(s);
}

static uint32_t blocks_of(const struct part *p)
{
	return (p->pos + p->n + VEC_ATTN_BLOCK - 1) / VEC_ATTN_BLOCK;
}

/* Tables with the blocks 0 to n in any order, and nonsense behind each. */
static void place(struct step *s)
{
	uint32_t i, k, j, n = 0, at = 0, t = 0, order[256];

	for (i = 0; i < SEQS && s->parts[i].n; i++) {
		n += blocks_of(&s->parts[i]);
		s->n += s->parts[i].n;
		s->n_table += blocks_of(&s->parts[i]) + 1;
	}
	ck_assert_uint_le(n, COUNT(order));
	for (i = 0; i < n; i++) {
		k = (uint32_t)(rnd() % (i + 1));
		order[i] = order[k];
		order[k] = i;
	}
	s->cache_bytes = n * block_elems(s) * sizeof(*s->cache);
	s->cache = malloc(s->cache_bytes);
	s->tables = calloc(s->n_table, sizeof(*s->tables));
	s->table = calloc(s->n, sizeof(*s->table));
	s->pos = calloc(s->n, sizeof(*s->pos));
	ck_assert(s->cache && s->tables && s->table && s->pos);
	memset(s->cache, 0xff, s->cache_bytes);
	for (i = n = 0; i < SEQS && s->parts[i].n; i++) {
		for (k = 0; k < s->parts[i].n; k++, t++) {
			s->table[t] = at;
			s->pos[t] = s->parts[i].pos + k;
		}
		for (j = 0; j < blocks_of(&s->parts[i]); j++)
			s->tables[at++] = order[n++];
		s->tables[at++] = UINT32_MAX;
	}
}

/* Positions [0, end) of each sequence, end being that of the step. */
static void fill_cache(struct step *s)
{
	uint32_t i, h, p, d, t = 0;
	uint16_t *kv;

	for (i = 0; i < SEQS && s->parts[i].n; t += s->parts[i++].n)
		for (p = 0; p < s->parts[i].pos + s->parts[i].n; p++)
			for (h = 0; h < s->heads_kv; h++) {
				kv = cached(s, t, p, h);
				for (d = 0; d < s->dim; d++) {
					kv[d * VEC_ATTN_BLOCK +
					   p % VEC_ATTN_BLOCK] =
						vec_to_f16(gauss());
					kv[(VEC_ATTN_BLOCK + p % VEC_ATTN_BLOCK) *
						   s->dim +
					   d] = vec_to_f16(gauss());
				}
			}
}

/* To the device. */
static void upload(struct step *s)
{
	uint16_t *cache = dev_put(s->cache, s->cache_bytes);

	s->kv = (struct cu_kv){
		.base = cache + LAYER * s->heads_kv * head_elems(s),
		.stride = block_elems(s),
		.tables = dev_put(s->tables, s->n_table * sizeof(uint32_t)),
		.table = dev_put(s->table, s->n * sizeof(uint32_t)),
		.pos = dev_put(s->pos, s->n * sizeof(uint32_t)),
		.n_head_kv = s->heads_kv,
		.head_dim = s->dim,
	};
}

static void *device_cache(const struct step *s)
{
	return s->kv.base - LAYER * s->heads_kv * head_elems(s);
}

static void step_free(struct step *s)
{
	dev_free(device_cache(s));
	dev_free(s->kv.tables);
	dev_free(s->kv.table);
	dev_free(s->kv.pos);
	free(s->cache);
	free(s->tables);
	free(s->table);
	free(s->pos);
}

static float *values(size_t n, bool wild)
{
	float *x = guarded(n * sizeof(*x));

	fill_acts(wild ? A_WILD : A_NORMAL, x, n);
	return x;
}

/* ------------------------------------------------------------- rotation */

static void rope_heads(float *x, uint32_t n_heads, uint32_t dim,
		       const float *norm, const struct cu_rope_kv *p,
		       const float *cos, const float *sin)
{
	uint32_t i;

	for (i = 0; i < n_heads; i++, x += dim) {
		if (norm)
			vk.rmsnorm(x, x, norm, dim, p->eps);
		vk.rope(x, cos, sin, p->n_rope, p->halves);
	}
}

static bool same_f16(uint16_t a, uint16_t b)
{
	return a == b || ((a & 0x7fff) > 0x7c00 && (b & 0x7fff) > 0x7c00);
}

static void same_cache(const struct step *s)
{
	uint16_t *got = malloc(s->cache_bytes);
	size_t i;

	ck_assert_ptr_nonnull(got);
	dev_get(got, device_cache(s), s->cache_bytes);
	for (i = 0; i < s->cache_bytes / sizeof(*got); i++)
		if (!same_f16(got[i], s->cache[i]))
			ck_abort_msg("cache: element %zu is %#x, not %#x", i,
				     got[i], s->cache[i]);
	free(got);
}

/* What the CPU's step does. */
static void rope_kv_c(struct step *s, const struct cu_rope_kv *p, float *q,
		      float *k, const float *v, const float *norms,
		      const float *cos, const float *sin)
{
	uint32_t dim = s->dim, t, h, d, j;
	uint16_t *kv;

	for (t = 0; t < s->n; t++) {
		size_t at = (size_t)s->pos[t] * p->n_rope;

		rope_heads(q + t * s->heads * dim, s->heads, dim, norms, p,
			   cos + at, sin + at);
		rope_heads(k + t * s->heads_kv * dim, s->heads_kv, dim,
			   norms ? norms + dim : NULL, p, cos + at, sin + at);
		j = s->pos[t] % VEC_ATTN_BLOCK;
		for (h = 0; h < s->heads_kv; h++) {
			kv = cached(s, t, s->pos[t], h);
			for (d = 0; d < dim; d++) {
				size_t x = (t * s->heads_kv + h) * dim + d;

				kv[d * VEC_ATTN_BLOCK + j] = vec_to_f16(k[x]);
				kv[(VEC_ATTN_BLOCK + j) * dim + d] =
					vec_to_f16(v[x]);
			}
		}
	}
}

struct rope_case {
	struct part parts[SEQS];
	uint32_t dim, heads, heads_kv, n_rope;
	bool halves, norms, wild;
};

static void rope(const struct rope_case *c)
{
	struct step s = { .dim = c->dim,
			  .heads = c->heads,
			  .heads_kv = c->heads_kv };
	float *q, *k, *v, *cos, *sin, *norms;
	uint32_t n_q, n_kv, n_table = 0, i;
	struct cu_launch l;
	struct cu_rope_kv p;

	memcpy(s.parts, c->parts, sizeof(s.parts));
	place(&s);
	upload(&s);
	for (i = 0; i < s.n; i++)
		n_table = s.pos[i] >= n_table ? s.pos[i] + 1 : n_table;
	n_q = s.n * c->heads * c->dim;
	n_kv = s.n * c->heads_kv * c->dim;
	q = values(n_q, c->wild);
	k = values(n_kv, c->wild);
	v = values(n_kv, c->wild);
	norms = values(2 * c->dim, false);
	cos = values((size_t)n_table * c->n_rope, false);
	sin = values((size_t)n_table * c->n_rope, false);
	p = (struct cu_rope_kv){
		.kv = s.kv,
		.q = dev_put(q, n_q * sizeof(*q)),
		.k = dev_put(k, n_kv * sizeof(*k)),
		.v = dev_put(v, n_kv * sizeof(*v)),
		.cos = dev_put(cos, n_table * c->n_rope * sizeof(*cos)),
		.sin = dev_put(sin, n_table * c->n_rope * sizeof(*sin)),
		.eps = 1e-6f,
		.n_head = c->heads,
		.n_rope = c->n_rope,
		.halves = c->halves,
		.n = s.n,
	};
	if (c->norms) {
		p.norm_q = dev_put(norms, c->dim * sizeof(*norms));
		p.norm_k = dev_put(norms + c->dim, c->dim * sizeof(*norms));
	}
	rope_kv_c(&s, &p, q, k, v, c->norms ? norms : NULL, cos, sin);
	cuda_run(&l, cu_launch_rope_kv(&l, &p, &chip));
	dev_same(p.q, q, n_q, "rotated q");
	dev_same(p.k, k, n_kv, "rotated k");
	same_cache(&s);
	guarded_free(q, n_q * sizeof(*q));
	guarded_free(k, n_kv * sizeof(*k));
	guarded_free(v, n_kv * sizeof(*v));
	guarded_free(norms, 2 * c->dim * sizeof(*norms));
	guarded_free(cos, (size_t)n_table * c->n_rope * sizeof(*cos));
	guarded_free(sin, (size_t)n_table * c->n_rope * sizeof(*sin));
	step_free(&s);
}

START_TEST(ropes)
{
	static const struct rope_case cases[] = {
		/* clang-format off */
		{ { { 0, 1 } }, 64, 3, 1, 64, true, false, false },
		{ { { 31, 3 } }, 64, 9, 3, 64, false, true, false },
		{ { { 5, 1 }, { 40, 2 }, { 0, 1 } }, 80, 4, 2, 40, true, true, true },
		{ { { 63, 2 }, { 7, 7 } }, 128, 2, 2, 128, true, true, false },
		{ { { 3, 1 } }, 96, 8, 1, 32, false, false, true },
		{ { { 33, 1 } }, 512, 1, 1, 512, true, true, true },
		{ { { 0, 40 } }, 256, 1, 1, 64, true, true, false },
		/* clang-format on */
	};
	size_t i;

	begin(_i);
	for (i = 0; i < COUNT(cases); i++)
		rope(&cases[i]);
}
END_TEST

/* ------------------------------------------------------------ attention */

struct attn_case {
	struct part parts[SEQS];
	uint32_t dim, heads, heads_kv, window;
	uint32_t more; /* spans of the launch that no token sees */
	bool floats, wild;
};

static uint32_t spans_of(const struct step *s, uint32_t window)
{
	uint32_t t, end, first, n = 0, most = 0;

	for (t = 0; t < s->n; t++) {
		end = s->pos[t] + 1;
		first = window && end > window ? end - window : 0;
		n = (end - 1) / VEC_ATTN_SPAN - first / VEC_ATTN_SPAN + 1;
		most = n > most ? n : most;
	}
	return most;
}

static float *attn_c(const struct step *s, const struct attn_case *c,
		     const float *q, float scale)
{
	size_t width = (size_t)c->heads * c->dim;
	float *out = guarded(s->n * width * sizeof(*out));
	uint32_t group = c->heads / c->heads_kv, t, h;

	for (t = 0; t < s->n; t++)
		for (h = 0; h < c->heads_kv; h++)
			vk.attn(&(struct vec_attn){
				.kv = s->cache +
				      (LAYER * c->heads_kv + h) * head_elems(s),
				.stride = block_elems(s),
				.blocks = s->tables + s->table[t],
				.head_dim = c->dim,
				.n_group = group,
				.n_tok = 1,
				.pos = s->pos[t],
				.window = c->window,
				.scale = scale,
				.q = q + t * width + h * group * c->dim,
				.out = out + t * width + h * group * c->dim,
			});
	return out;
}

/* Of the step's tokens, at most CU_PIECE of one sequence each. */
static struct cu_piece *pieces(const struct step *s, uint32_t *n)
{
	struct cu_piece p[64];
	uint32_t i, k, at = 0, each;

	*n = 0;
	for (i = 0; i < SEQS; i++)
		for (k = 0; k < s->parts[i].n; k += each) {
			each = s->parts[i].n - k;
			each = each < CU_PIECE ? each : CU_PIECE;
			ck_assert_uint_lt(*n, COUNT(p));
			p[(*n)++] = (struct cu_piece){ at, each };
			at += each;
		}
	return dev_put(p, *n * sizeof(*p));
}

static void attn_same(const struct cu_attn *p, const float *want)
{
	uint32_t width = p->n_head * p->kv.head_dim, t;
	struct act_block *act;
	struct act a;

	if (p->out)
		dev_same(p->out, want, (size_t)p->n * width, "attention");
	if (!p->act)
		return;
	act = guarded(p->n * act_bytes(1, width));
	for (t = 0; t < p->n; t++) {
		act_init(&a, 1, width, act + t * (width / ACT_BLOCK));
		mk.act_quant(&a, 0, want + (size_t)t * width);
	}
	dev_same_act(p->act, act, (size_t)p->n * (width / ACT_BLOCK),
		     "quantised attention");
	guarded_free(act, p->n * act_bytes(1, width));
}

static void attn(const struct attn_case *c)
{
	struct step s = { .dim = c->dim,
			  .heads = c->heads,
			  .heads_kv = c->heads_kv };
	size_t width = (size_t)c->heads * c->dim, i;
	uint32_t tickets, zero[CU_FEW * 16] = { 0 };
	float *q, *out;
	struct cu_launch l;
	struct cu_attn p;

	memcpy(s.parts, c->parts, sizeof(s.parts));
	place(&s);
	fill_cache(&s);
	upload(&s);
	q = values(s.n * width, false);
	for (i = 0; c->wild && i < s.n * width; i += 3 * c->dim / 2)
		q[i] = (float[]){ INFINITY, NAN, 1e30f, 3e38f }[rnd() & 3];
	p = (struct cu_attn){
		.kv = s.kv,
		.q = dev_put(q, s.n * width * sizeof(*q)),
		.scale = 1.7f / sqrtf((float)c->dim),
		.n_head = c->heads,
		.window = c->window,
		.spans = spans_of(&s, c->window) + c->more,
		.n = s.n,
	};
	if (c->floats || c->dim % ACT_BLOCK)
		p.out = dev_room(s.n * width * sizeof(*out));
	if (c->dim % ACT_BLOCK == 0)
		p.act = dev_room(s.n * act_bytes(1, (uint32_t)width));
	tickets = s.n * c->heads_kv;
	if (s.n <= CU_FEW) {
		ck_assert_uint_le(tickets, COUNT(zero));
		p.ticket = dev_put(zero, tickets * sizeof(*zero));
		p.part = dev_room((size_t)s.n * c->heads * p.spans *
				  CU_PART(c->dim) * sizeof(float));
	} else {
		p.pieces = pieces(&s, &p.n_pieces);
	}
	cuda_run(&l, cu_launch_attn(&l, &p, &chip));
	out = attn_c(&s, c, q, p.scale);
	attn_same(&p, out);
	if (p.ticket) {
		dev_get(zero, p.ticket, tickets * sizeof(*zero));
		for (i = 0; i < tickets; i++)
			ck_assert_uint_eq(zero[i], 0);
	}
	dev_free(p.q);
	dev_free(p.out);
	dev_free(p.act);
	dev_free(p.part);
	dev_free(p.ticket);
	dev_free(p.pieces);
	guarded_free(q, s.n * width * sizeof(*q));
	guarded_free(out, s.n * width * sizeof(*out));
	step_free(&s);
}

START_TEST(few_tokens)
{
	static const struct attn_case cases[] = {
		/* clang-format off */
		{ { { 0, 1 } }, 64, 1, 1, 0, 0, true, false },
		{ { { 31, 3 } }, 64, 3, 1, 0, 2, false, false },
		{ { { 255, 2 } }, 64, 9, 3, 0, 0, true, false },
		{ { { 1000, 1 } }, 128, 4, 1, 0, 1, true, false },
		{ { { 700, 1 }, { 40, 1 }, { 256, 1 } }, 80, 4, 2, 0, 0, true, false },
		{ { { 600, 1 } }, 64, 2, 1, 100, 0, true, false },
		{ { { 520, 2 }, { 90, 1 } }, 64, 4, 1, 300, 1, false, false },
		{ { { 511, 3 } }, 64, 2, 2, 256, 0, false, false },
		{ { { 300, 1 } }, 256, 8, 1, 77, 0, true, false },
		{ { { 290, 1 } }, 128, 16, 1, 0, 0, false, false },
		{ { { 270, 2 } }, 96, 6, 1, 0, 0, true, true },
		{ { { 7, 8 } }, 64, 4, 2, 5, 0, true, true },
		{ { { 37, 1 } }, 512, 2, 1, 0, 0, true, false },
		{ { { 258, 1 } }, 8, 5, 1, 0, 0, true, false },
		/* clang-format on */
	};
	size_t i;

	begin(_i);
	for (i = 0; i < COUNT(cases); i++)
		attn(&cases[i]);
}
END_TEST

START_TEST(many_tokens)
{
	static const struct attn_case cases[] = {
		/* clang-format off */
		{ { { 0, 9 } }, 64, 1, 1, 0, 0, true, false },
		{ { { 0, 40 } }, 64, 3, 1, 0, 0, false, false },
		{ { { 500, 16 }, { 20, 1 }, { 0, 3 } }, 64, 4, 2, 0, 0, true, false },
		{ { { 250, 17 } }, 128, 4, 1, 0, 0, true, false },
		{ { { 800, 9 } }, 64, 7, 1, 0, 0, false, false },
		{ { { 240, 20 } }, 80, 4, 2, 50, 0, true, false },
		{ { { 500, 20 } }, 64, 2, 1, 256, 0, true, false },
		{ { { 570, 9 }, { 10, 9 } }, 96, 2, 1, 300, 0, false, true },
		{ { { 270, 9 } }, 256, 8, 1, 0, 0, true, false },
		{ { { 33, 10 } }, 512, 2, 1, 0, 0, false, false },
		{ { { 3, 20 } }, 128, 16, 1, 7, 0, true, true },
		{ { { 30, 9 } }, 8, 5, 1, 0, 0, true, false },
		/* clang-format on */
	};
	size_t i;

	begin(_i);
	for (i = 0; i < COUNT(cases); i++)
		attn(&cases[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda attn");
	TCase *c = tcase_create("cache");

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, ropes, 1, 3);
	tcase_add_loop_test(c, few_tokens, 1, 3);
	tcase_add_loop_test(c, many_tokens, 1, 3);
	suite_add_tcase(s, c);
	return cuda_main(s);
}
