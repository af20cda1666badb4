/* SPDX-License-Identifier: MIT */
/*
 * list.c - from the tape to launches, for a step of so many rows.
 *
 * With few rows a product norms and quantises its input itself, a gate follows
 * its two products in the same kernel, attention rotates and stores what it is
 * about, and what reads a result quantised has it made so at once. With many
 * rows the products are tiles of matrix instructions, and what is around them
 * are kernels of their own. If prompts may be near, their rows of float products
 * are, whatever else is in the step: so their bits do not depend on it.
 */
#include <errno.h>
#include <string.h>

#include "cuda.h"

/**
 * struct lister - a list in the making
 * @rows: that ops have from here on; @exact: so many of them must be, the first
 * @need: bytes of the weights that have been named, from their start
 */
struct lister {
	const struct backend_model *m;
	const struct cuda_plan *p;
	const struct cuda_key *key;
	uint32_t n_pieces;
	uint32_t rows;
	uint32_t exact;
	uint64_t need;
	struct cu_launch *out;
	int n;
	int err;
};

static void *scratch(const struct lister *s, uint64_t off)
{
	return (void *)(uintptr_t)(s->m->scratch.at + off);
}

static float *reg(const struct lister *s, uint32_t r)
{
	return scratch(s, s->p->reg[r]);
}

/* Its quantised rows, if anyone reads them. */
static struct act_block *act(const struct lister *s, uint32_t r)
{
	if (!(s->p->wants[r] & WANT_Q8))
		return NULL;
	return scratch(s, s->p->act[r]);
}

/* Its floats, if it has any. */
static float *floats(const struct lister *s, uint32_t r)
{
	return s->p->reg[r] == CUDA_NOWHERE ? NULL : reg(s, r);
}

static void use(struct lister *s, uint32_t tensor)
{
	uint64_t end = s->m->w.end[tensor];

	if (end > s->need)
		s->need = end;
}

static const float *vec(struct lister *s, uint32_t tensor)
{
	if (tensor == TAPE_NONE)
		return NULL;
	use(s, tensor);
	return s->m->w.vec[tensor];
}

static struct cu_mat mat(struct lister *s, uint32_t tensor)
{
	const struct mat *w = &s->m->w.mat[tensor];

	use(s, tensor);
	return (struct cu_mat){
		.data = w->data, .rows = w->rows, .cols = w->cols, .fmt = w->fmt
	};
}

static void *context(const struct lister *s, uint64_t off)
{
	return (void *)(uintptr_t)(s->m->context.at + off);
}

static void *input(const struct lister *s, uint64_t off)
{
	return context(s, s->m->ctx.in + off);
}

static struct cu_launch *next(struct lister *s)
{
	return s->out + s->n;
}

static void take(struct lister *s, int n)
{
	if (n < 0)
		s->err = n;
	while (n-- > 0)
		s->m->need[s->n++] = s->need;
}

static bool few(const struct lister *s)
{
	return s->rows <= CU_FEW && s->exact == s->rows;
}

/* ------------------------------------------------------------- products */

/* Ways to compute one, which differ in what they read. */
enum product {
	PRODUCT_FLOAT,
	PRODUCT_Q8,
	PRODUCT_NEAR, /* some rows of it need not be exact */
	PRODUCT_N,
};

static enum product product_of(const struct lister *s, const struct tape_op *o,
			       const struct mat *w)
{
	if (mat_wants_q8(w->fmt))
		return PRODUCT_Q8;
	return s->exact < s->rows && cuda_is_near(s->p, o, w) ? PRODUCT_NEAR
							      : PRODUCT_FLOAT;
}

/* How the input of the products of an op comes: normed on the way by @norm,
 * else from the register, quantised or as it is. */
struct input {
	uint32_t reg;
	const struct tape_op *norm;
};

static void set_input(struct lister *s, const struct input *in,
		      enum product kind, struct cu_mul *mul)
{
	mul->n = s->rows;
	if (in->norm) {
		mul->in = CU_IN_NORM;
		mul->x = reg(s, in->norm->src);
		mul->norm = vec(s, in->norm->w[0]);
		mul->eps = in->norm->f[0];
	} else if (kind == PRODUCT_Q8) {
		mul->in = CU_IN_ACT;
		mul->act = act(s, in->reg);
	} else {
		mul->in = CU_IN_FLOAT;
		mul->x = reg(s, in->reg);
	}
}

/* Those of @o's products that are of a kind. */
static void group(struct lister *s, const struct tape_op *o,
		  const struct input *in, enum product kind, struct cu_mul *mul)
{
	uint32_t i, k;

	memset(mul, 0, sizeof(*mul));
	for (i = 0; i < o->n; i++) {
		if (product_of(s, o, &s->m->w.mat[o->w[i]]) != kind)
			continue;
		k = mul->n_mats++;
		mul->m[k] = mat(s, o->w[i]);
		mul->bias[k] = vec(s, o->b[i]);
		mul->out[k] = reg(s, o->dst[i]);
	}
	mul->add = o->kind == TAPE_MATMUL_ADD;
	set_input(s, in, kind, mul);
}

/* The gate of @glu goes into the kernel of its two products. */
static bool fuse_glu(const struct lister *s, const struct tape_op *o,
		     const struct tape_op *glu, struct cu_mul *mul)
{
	uint8_t d = glu->dst[0];

	if (!few(s) || glu->kind != TAPE_GLU || mul->n_mats != 2 || o->n != 2 ||
	    o->dst[0] != TAPE_G || o->dst[1] != TAPE_U)
		return false;
	mul->glu = 1 + (glu->act == TAPE_SILU ? VEC_SILU : VEC_GELU_TANH);
	mul->out[0] = s->p->wants[d] & WANT_FLOAT ? reg(s, d) : NULL;
	mul->out[1] = NULL;
	mul->act_out = act(s, d);
	return true;
}

/* Rows of prompts near, those before them exactly. */
static void near_products(struct lister *s, struct cu_mul *mul)
{
	const struct cu_chip *chip = &s->m->be->chip;
	uint32_t cols = mul->m[0].cols, first = s->exact, i;
	struct cu_tiles x = { .x = mul->x + (size_t)first * cols,
			      .out = scratch(s, s->p->near_x),
			      .n = s->rows - first,
			      .cols = cols };

	mul->n = first;
	if (first)
		take(s, cu_launch_mul(next(s), mul, chip));
	if (!s->err)
		take(s, cu_launch_tiles(next(s), &x, chip));
	for (i = 0; i < mul->n_mats && !s->err; i++) {
		const struct cu_mat *m = &mul->m[i];
		struct cu_tiles w = { .m = *m,
				      .out = scratch(s, s->p->near_w) };
		struct cu_gemm g = {
			.w = w.out,
			.x = x.out,
			.bias = mul->bias[i],
			.out = mul->out[i] + (size_t)first * m->rows,
			.rows = m->rows,
			.cols = cols,
			.n = x.n,
			.add = mul->add,
		};

		take(s, cu_launch_tiles(next(s), &w, chip));
		if (!s->err)
			take(s, cu_launch_gemm(next(s), &g, chip));
	}
}

/* The ops from @i: products, perhaps with the gate. Return: how many. */
static uint32_t products(struct lister *s, uint32_t i, const struct input *in)
{
	const struct tape_op *o = &s->p->tape.ops[i];
	struct cu_mul mul;
	bool fused = false;
	int kind;

	for (kind = 0; kind < PRODUCT_N && !s->err; kind++) {
		group(s, o, in, (enum product)kind, &mul);
		if (!mul.n_mats)
			continue;
		if (kind == PRODUCT_NEAR) {
			near_products(s, &mul);
			continue;
		}
		if (i + 1 < s->p->tape.n_ops)
			fused = fuse_glu(s, o, o + 1, &mul);
		take(s, cu_launch_mul(next(s), &mul, &s->m->be->chip));
	}
	return fused ? 2 : 1;
}

/* Can the products of @o norm their input themselves? */
static bool fits(struct lister *s, const struct tape_op *o,
		 const struct input *in)
{
	struct cu_mul mul;
	int kind;

	for (kind = 0; kind < PRODUCT_N; kind++) {
		group(s, o, in, (enum product)kind, &mul);
		if (mul.n_mats && !cu_mul_fits(&mul, &s->m->be->chip))
			return false;
	}
	return true;
}

/* Does only the op after @i read what it makes, until it is made anew? */
static bool read_once(const struct cuda_plan *p, uint32_t i)
{
	const struct tape_op *o = &p->tape.ops[i], *r;
	uint32_t k;

	if (i + 1 >= p->tape.n_ops || o[1].src != o->dst[0])
		return false;
	for (k = i + 2; k < p->tape.n_ops; k++) {
		r = &p->tape.ops[k];
		if (r->src == o->dst[0])
			return false;
		if (r->kind == TAPE_NORM && r->dst[0] == o->dst[0])
			return true;
	}
	return true;
}

static uint32_t norm(struct lister *s, uint32_t i)
{
	const struct tape_op *o = &s->p->tape.ops[i];
	struct input in = { .reg = o->dst[0], .norm = o };
	struct cu_norm n = {
		.x = reg(s, o->src),
		.w = vec(s, o->w[0]),
		.eps = o->f[0],
		.width = s->p->tape.width[o->src],
		.n = s->rows,
	};

	if (o->kind == TAPE_NORM_ADD) {
		n.sum = reg(s, o->dst[0]);
	} else {
		if (few(s) && o->dst[0] != TAPE_E && read_once(s->p, i) &&
		    tape_is_matmul(o[1].kind) && fits(s, o + 1, &in))
			return 1 + products(s, i + 1, &in);
		n.out = floats(s, o->dst[0]);
		n.act = act(s, o->dst[0]);
	}
	take(s, cu_launch_norm(next(s), &n, &s->m->be->chip));
	return 1;
}

/* ------------------------------------------------------------ attention */

static struct cu_kv cache(const struct lister *s, const struct tape_op *o)
{
	const struct image_hparams *hp = &s->p->hp;
	const struct cuda_context *c = &s->m->ctx;

	return (struct cu_kv){
		.base = (uint16_t *)(uintptr_t)s->m->kv.at +
			(size_t)o->layer * hp->n_head_kv * kv_head_elems(hp),
		.stride = kv_block_elems(hp),
		.tables = input(s, c->tables),
		.table = input(s, c->table),
		.pos = input(s, c->pos),
		.n_head_kv = hp->n_head_kv,
		.head_dim = hp->head_dim,
	};
}

static struct cu_rope_kv rotation(struct lister *s, const struct tape_op *o)
{
	const struct image_hparams *hp = &s->p->hp;

	return (struct cu_rope_kv){
		.kv = cache(s, o),
		.q = reg(s, TAPE_Q),
		.k = reg(s, TAPE_K),
		.v = reg(s, TAPE_V),
		.norm_q = vec(s, o->w[0]),
		.norm_k = vec(s, o->w[1]),
		.cos = context(s, s->m->ctx.cos[o->rope]),
		.sin = context(s, s->m->ctx.sin[o->rope]),
		.eps = o->f[0],
		.n_head = hp->n_head,
		.n_rope = hp->n_rope,
		.halves = hp->rope_pairs == IMAGE_ROPE_HALVES,
		.n = s->rows,
	};
}

/* Of few tokens rotated on the way by @rope, unless that is NULL. */
static void attn(struct lister *s, const struct tape_op *o,
		 const struct tape_op *rope)
{
	const struct image_hparams *hp = &s->p->hp;
	uint8_t d = o->dst[0];
	struct cu_attn a = {
		.kv = cache(s, o),
		.q = reg(s, TAPE_Q),
		.out = floats(s, d),
		.part = context(s, s->m->ctx.part),
		.ticket = context(s, s->m->ctx.ticket),
		.pieces = input(s, s->m->ctx.pieces),
		.n_pieces = s->n_pieces,
		.scale = o->f[0],
		.n_head = hp->n_head,
		.window = o->window,
		.spans = s->key->spans,
		.n = s->rows,
	};
	struct cu_quant q = { .x = a.out,
			      .act = act(s, d),
			      .width = s->p->tape.width[d],
			      .n = s->rows };
	/* Else a head is no whole number of blocks. */
	bool whole = hp->head_dim % ACT_BLOCK == 0;

	if (whole)
		a.act = q.act;
	if (rope)
		a.rope = rotation(s, rope);
	take(s, cu_launch_attn(next(s), &a, &s->m->be->chip));
	if (!whole && q.act && !s->err)
		take(s, cu_launch_quant(next(s), &q, &s->m->be->chip));
}

static uint32_t rope_kv(struct lister *s, uint32_t i)
{
	const struct tape_op *o = &s->p->tape.ops[i];
	struct cu_rope_kv r;

	if (few(s) && i + 1 < s->p->tape.n_ops && o[1].kind == TAPE_ATTN &&
	    o[1].layer == o->layer) {
		attn(s, o + 1, o);
		return 2;
	}
	r = rotation(s, o);
	take(s, cu_launch_rope_kv(next(s), &r, &s->m->be->chip));
	return 1;
}

/* ------------------------------------------------------------ the others */

static void embed(struct lister *s, const struct tape_op *o)
{
	struct cu_embed e = {
		.m = mat(s, o->w[0]),
		.tokens = input(s, s->m->ctx.tokens),
		.out = reg(s, o->dst[0]),
		.scale = o->f[0],
		.n = s->rows,
	};

	take(s, cu_launch_embed(next(s), &e, &s->m->be->chip));
}

static void glu(struct lister *s, const struct tape_op *o)
{
	uint8_t d = o->dst[0];
	struct cu_glu g = {
		.g = reg(s, TAPE_G),
		.u = reg(s, TAPE_U),
		.out = s->p->wants[d] & WANT_FLOAT ? reg(s, d) : NULL,
		.act = act(s, d),
		.kind = o->act == TAPE_SILU ? VEC_SILU : VEC_GELU_TANH,
		.width = s->p->tape.width[d],
		.n = s->rows,
	};

	take(s, cu_launch_glu(next(s), &g, &s->m->be->chip));
}

static void gather(struct lister *s, const struct tape_op *o)
{
	struct cu_gather g = {
		.x = reg(s, o->src),
		.rows = input(s, s->m->ctx.rows),
		.out = reg(s, o->dst[0]),
		.width = s->p->tape.width[o->src],
		.n = s->rows,
	};

	take(s, cu_launch_gather(next(s), &g, &s->m->be->chip));
}

/* What leaves the device of most rows of logits. */
static void top(struct lister *s)
{
	struct top_row *rows = scratch(s, s->p->top);
	struct cu_top t = {
		.x = reg(s, TAPE_L),
		.out = rows,
		.part = scratch(s, s->p->top_part),
		.ticket = context(s, s->m->ctx.top_ticket),
		.picks = input(s, s->m->ctx.picks),
		.tokens = input(s, s->m->ctx.tables),
		.picked = (float *)(rows + s->rows),
		.most = BATCH_PICKS,
		.width = s->p->tape.width[TAPE_L],
		.n = s->rows,
	};

	take(s, cu_launch_top(next(s), &t, &s->m->be->chip));
}

/* Return: how many ops of the tape it was. */
static uint32_t one(struct lister *s, uint32_t i)
{
	const struct tape_op *o = &s->p->tape.ops[i];
	struct input in = { .reg = o->src };

	switch (o->kind) {
	case TAPE_TAKE:
	case TAPE_GIVE: /* copies, of the step's */
		return 1;
	case TAPE_EMBED:
		embed(s, o);
		return 1;
	case TAPE_NORM:
	case TAPE_NORM_ADD:
		return norm(s, i);
	case TAPE_ROPE_KV:
		return rope_kv(s, i);
	case TAPE_ATTN:
		attn(s, o, NULL);
		return 1;
	case TAPE_GLU:
		glu(s, o);
		return 1;
	case TAPE_GATHER:
		gather(s, o);
		return 1;
	default:
		return products(s, i, &in);
	}
}

/* ----------------------------------------------------------------- ahead */

/* Of a launch that waits more than it reads, so that memory would be idle. */
static struct cu_ahead *ahead_of(struct cu_launch *l)
{
	switch (l->kernel) {
	case CU_embed:
		return &l->p.embed.ahead;
	case CU_rmsnorm:
		return &l->p.norm.ahead;
	case CU_attn_few:
		return &l->p.attn.ahead;
	case CU_top:
		return &l->p.top.ahead;
	default:
		return NULL;
	}
}

/* The beginnings of a product's matrices: of a gate's both alike, as they are
 * read side by side, else one after the other. */
static void add_mats(struct cu_ahead *a, uint32_t *k, const struct cu_mul *mul,
		     uint64_t *left)
{
	uint64_t most = mul->glu ? *left / mul->n_mats : *left, bytes;
	uint32_t i;

	for (i = 0; i < mul->n_mats && *k < CU_MATS; i++, ++*k) {
		const struct cu_mat *m = &mul->m[i];

		bytes = mat_bytes((enum fmt)m->fmt, m->rows, m->cols);
		bytes = bytes < most ? bytes : most;
		bytes = bytes < *left ? bytes : *left;
		a->from[*k] = m->data;
		a->bytes[*k] = (uint32_t)bytes / 16 * 16;
		*left -= bytes;
	}
}

/* Of the list @l, such launches ask for what the products read that come next;
 * behind the last one is the next step. */
static void look_ahead(struct cu_launch *l, int n, uint64_t most)
{
	struct cu_ahead *a;
	uint32_t k;
	int i, j;

	for (i = 0; i < n; i++) {
		uint64_t left = most;

		a = ahead_of(&l[i]);
		for (j = i + 1, k = 0; a && j < i + n && k < CU_MATS; j++) {
			const struct cu_launch *next = &l[j % n];

			if (next->kernel >= CU_mv_1 && next->kernel <= CU_mvf_8)
				add_mats(a, &k, &next->p.mv.mul, &left);
			else if (j < n && ahead_of(&l[j]))
				break; /* does so itself */
		}
	}
}

int cuda_list(const struct backend_model *m, const struct cuda_key *key,
	      uint32_t n_pieces, struct cu_launch *out)
{
	struct lister s = { .m = m,
			    .p = &m->plan,
			    .key = key,
			    .n_pieces = n_pieces,
			    .rows = key->n,
			    .exact = key->n_exact,
			    .out = out };
	uint32_t i = 0;

	while (i < s.p->tape.n_ops && !s.err) {
		if (s.p->tape.ops[i].kind == TAPE_GATHER)
			s.rows = s.exact = key->n_out;
		if (s.p->tape.ops[i].kind == TAPE_LOGITS)
			s.rows = s.exact = key->n_logits;
		if (!s.rows)
			break;
		i += one(&s, i);
	}
	if (!s.err && i && s.rows && s.p->tape.ops[i - 1].kind == TAPE_LOGITS)
		top(&s);
	/* What has not come yet is not asked for. */
	if (!s.err && key->n <= CU_FEW && m->up.done == m->up.bytes)
		look_ahead(out, s.n, m->be->ahead);
	return s.err ? s.err : s.n;
}
