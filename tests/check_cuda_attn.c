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
	uint32_t i, k, j, n = 0, at = 0, t = 0, order[256] = { 0 };

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

/* Positions [0, end) of each sequence, end being that of the step, or where it
 * begins. */
static void fill_cache(struct step *s, bool all)
{
	uint32_t i, h, p, d, t = 0;
	uint16_t *kv;

	for (i = 0; i < SEQS && s->parts[i].n; t += s->parts[i++].n)
		for (p = 0; p < s->parts[i].pos + (all ? s->parts[i].n : 0);
		     p++)
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

/* A step's heads, here and on the device. */
struct heads {
	float *q, *k, *v, *norm_q, *norm_k, *cos, *sin;
	uint32_t n_q, n_kv, n_table;
	struct cu_rope_kv p;
};

static void heads_new(struct heads *h, const struct step *s, uint32_t n_rope,
		      bool halves, bool norms, bool wild)
{
	uint32_t i, dim = s->dim;

	*h = (struct heads){ .n_q = s->n * s->heads * dim,
			     .n_kv = s->n * s->heads_kv * dim };
	for (i = 0; i < s->n; i++)
		if ((s->pos[i] + 1) * n_rope > h->n_table)
			h->n_table = (s->pos[i] + 1) * n_rope;
	h->q = values(h->n_q, wild);
	h->k = values(h->n_kv, wild);
	h->v = values(h->n_kv, wild);
	h->cos = values(h->n_table, false);
	h->sin = values(h->n_table, false);
	h->p = (struct cu_rope_kv){
		.kv = s->kv,
		.q = dev_put(h->q, h->n_q * sizeof(float)),
		.k = dev_put(h->k, h->n_kv * sizeof(float)),
		.v = dev_put(h->v, h->n_kv * sizeof(float)),
		.cos = dev_put(h->cos, h->n_table * sizeof(float)),
		.sin = dev_put(h->sin, h->n_table * sizeof(float)),
		.eps = 1e-6f,
		.n_head = s->heads,
		.n_rope = n_rope,
		.halves = halves,
		.n = s->n,
	};
	if (!norms)
		return;
	h->norm_q = values(dim, false);
	h->norm_k = values(dim, false);
	h->p.norm_q = dev_put(h->norm_q, dim * sizeof(float));
	h->p.norm_k = dev_put(h->norm_k, dim * sizeof(float));
}

static void heads_free(struct heads *h, uint32_t dim)
{
	dev_free(h->p.q);
	dev_free(h->p.k);
	dev_free(h->p.v);
	dev_free(h->p.norm_q);
	dev_free(h->p.norm_k);
	dev_free(h->p.cos);
	dev_free(h->p.sin);
	guarded_free(h->q, h->n_q * sizeof(float));
	guarded_free(h->k, h->n_kv * sizeof(float));
	guarded_free(h->v, h->n_kv * sizeof(float));
	guarded_free(h->cos, h->n_table * sizeof(float));
	guarded_free(h->sin, h->n_table * sizeof(float));
	guarded_free(h->norm_q, dim * sizeof(float));
	guarded_free(h->norm_k, dim * sizeof(float));
}

/* What the CPU's step does. */
static void rope_kv_c(struct step *s, struct heads *x)
{
	uint32_t dim = s->dim, t, h, d, j;
	uint16_t *kv;

	for (t = 0; t < s->n; t++) {
		size_t at = (size_t)s->pos[t] * x->p.n_rope;

		rope_heads(x->q + t * s->heads * dim, s->heads, dim, x->norm_q,
			   &x->p, x->cos + at, x->sin + at);
		rope_heads(x->k + t * s->heads_kv * dim, s->heads_kv, dim,
			   x->norm_k, &x->p, x->cos + at, x->sin + at);
		j = s->pos[t] % VEC_ATTN_BLOCK;
		for (h = 0; h < s->heads_kv; h++) {
			kv = cached(s, t, s->pos[t], h);
			for (d = 0; d < dim; d++) {
				size_t i = (t * s->heads_kv + h) * dim + d;

				kv[d * VEC_ATTN_BLOCK + j] =
					vec_to_f16(x->k[i]);
				kv[(VEC_ATTN_BLOCK + j) * dim + d] =
					vec_to_f16(x->v[i]);
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
	struct cu_launch l;
	struct heads h;

	memcpy(s.parts, c->parts, sizeof(s.parts));
	place(&s);
	upload(&s);
	heads_new(&h, &s, c->n_rope, c->halves, c->norms, c->wild);
	rope_kv_c(&s, &h);
	cuda_run(&l, cu_launch_rope_kv(&l, &h.p, &chip));
	dev_same(h.p.q, h.q, h.n_q, "rotated q");
	dev_same(h.p.k, h.k, h.n_kv, "rotated k");
	same_cache(&s);
	heads_free(&h, s.dim);
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

/* What is done on the way; nothing if n is 0. */
struct rotation {
	uint32_t n;
	bool halves, norms;
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

/* Where the results go, and what the kernel works with. */
static void attn_room(struct cu_attn *p, const struct step *s,
		      const struct attn_case *c)
{
	size_t width = (size_t)c->heads * c->dim, tickets;
	static const uint32_t zero[CU_FEW * 16];

	if (c->floats || c->dim % ACT_BLOCK)
		p->out = dev_room(s->n * width * sizeof(float));
	if (c->dim % ACT_BLOCK == 0)
		p->act = dev_room(s->n * act_bytes(1, (uint32_t)width));
	if (s->n > CU_FEW) {
		p->pieces = pieces(s, &p->n_pieces);
		return;
	}
	tickets = s->n * c->heads_kv;
	ck_assert_uint_le(tickets, COUNT(zero));
	p->ticket = dev_put(zero, tickets * sizeof(*zero));
	p->part = dev_room(s->n * c->heads * p->spans * CU_PART(c->dim) *
			   sizeof(float));
}

static void attn_free(const struct cu_attn *p)
{
	dev_free(p->out);
	dev_free(p->act);
	dev_free(p->part);
	dev_free(p->ticket);
	dev_free(p->pieces);
}

static void tickets_zero(const struct cu_attn *p)
{
	uint32_t got[CU_FEW * 16], n = p->n * p->kv.n_head_kv, i;

	dev_get(got, p->ticket, n * sizeof(*got));
	for (i = 0; i < n; i++)
		ck_assert_uint_eq(got[i], 0);
}

/* A launch that makes the @n rows at @x, so that attention has a kernel to wait
 * for: what is there is moved away. */
static struct cu_launch moved(const float *x, uint32_t width, uint32_t n,
			      struct cu_gather *g)
{
	size_t bytes = (size_t)n * width * sizeof(float);
	float *away = malloc(bytes);
	uint32_t rows[64], i;
	struct cu_launch l;

	ck_assert(away && n <= COUNT(rows));
	for (i = 0; i < n; i++)
		rows[i] = i;
	dev_get(away, x, bytes);
	*g = (struct cu_gather){
		.x = dev_put(away, bytes),
		.rows = dev_put(rows, n * sizeof(*rows)),
		.out = (float *)x,
		.width = width,
		.n = n,
	};
	memset(away, 0xff, bytes);
	OK(cuMemcpyHtoD_v2(PTR(x), away, bytes));
	free(away);
	ck_assert_int_eq(cu_launch_gather(&l, g, &chip), 1);
	return l;
}

static void attn(const struct attn_case *c, struct rotation r)
{
	struct step s = { .dim = c->dim,
			  .heads = c->heads,
			  .heads_kv = c->heads_kv };
	struct cu_gather from[3];
	struct cu_launch l[4];
	struct heads h;
	struct cu_attn p;
	float *want;
	uint32_t i;

	memcpy(s.parts, c->parts, sizeof(s.parts));
	place(&s);
	fill_cache(&s, !r.n);
	upload(&s);
	heads_new(&h, &s, r.n, r.halves, r.norms, false);
	for (i = 0; c->wild && i < h.n_q; i += 3 * c->dim / 2)
		h.q[i] = (float[]){ INFINITY, NAN, 1e30f, 3e38f }[rnd() & 3];
	OK(cuMemcpyHtoD_v2(PTR(h.p.q), h.q, h.n_q * sizeof(float)));
	p = (struct cu_attn){
		.kv = s.kv,
		.q = h.p.q,
		.scale = 1.7f / sqrtf((float)c->dim),
		.n_head = c->heads,
		.window = c->window,
		.spans = spans_of(&s, c->window) + c->more,
		.n = s.n,
	};
	if (r.n) {
		p.q = NULL;
		p.rope = h.p;
		rope_kv_c(&s, &h);
	}
	attn_room(&p, &s, c);
	l[0] = moved(h.p.k, s.heads_kv * s.dim, s.n, &from[0]);
	l[1] = moved(h.p.v, s.heads_kv * s.dim, s.n, &from[1]);
	l[2] = moved(h.p.q, s.heads * s.dim, s.n, &from[2]);
	cuda_run(l, 3 + cu_launch_attn(&l[3], &p, &chip));
	for (i = 0; i < COUNT(from); i++) {
		dev_free(from[i].x);
		dev_free(from[i].rows);
	}
	want = attn_c(&s, c, h.q, p.scale);
	attn_same(&p, want);
	same_cache(&s);
	if (p.ticket)
		tickets_zero(&p);
	guarded_free(want, h.n_q * sizeof(*want));
	attn_free(&p);
	heads_free(&h, s.dim);
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
		attn(&cases[i], (struct rotation){ 0 });
}
END_TEST

/* With rotation and the way into the cache done by the same kernel. */
START_TEST(fused)
{
	static const struct {
		struct attn_case a;
		struct rotation r;
	} cases[] = {
		/* clang-format off */
		{ { { { 0, 1 } }, 64, 3, 1, 0, 0, true, false }, { 64, true, true } },
		{ { { { 32, 1 } }, 64, 1, 1, 0, 1, true, false }, { 32, false, false } },
		{ { { { 255, 1 } }, 128, 4, 1, 0, 0, false, false }, { 128, true, true } },
		{ { { { 256, 1 } }, 128, 4, 1, 0, 0, true, false }, { 128, true, false } },
		{ { { { 510, 4 }, { 3, 2 } }, 64, 4, 2, 0, 0, true, false }, { 64, true, true } },
		{ { { { 600, 1 }, { 0, 3 } }, 80, 6, 2, 0, 0, true, false }, { 40, true, false } },
		{ { { { 29, 8 } }, 64, 9, 3, 5, 0, false, false }, { 64, false, true } },
		{ { { { 300, 3 } }, 256, 8, 1, 30, 0, true, false }, { 256, true, true } },
		{ { { { 20, 6 }, { 30, 2 } }, 512, 2, 1, 0, 0, true, false }, { 128, true, true } },
		{ { { { 250, 8 } }, 96, 2, 1, 0, 1, true, true }, { 96, true, false } },
		/* clang-format on */
	};
	size_t i;

	begin(_i);
	for (i = 0; i < COUNT(cases); i++)
		attn(&cases[i].a, cases[i].r);
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
		attn(&cases[i], (struct rotation){ 0 });
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda attn");
	TCase *c = tcase_create("cache");

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, ropes, 1, 3);
	tcase_add_loop_test(c, few_tokens, 1, 3);
	tcase_add_loop_test(c, fused, 1, 3);
	tcase_add_loop_test(c, many_tokens, 1, 3);
	suite_add_tcase(s, c);
	return cuda_main(s);
}
