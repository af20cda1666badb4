/* SPDX-License-Identifier: MIT */
/*
 * plan.c - what a model needs on a device, to the byte, without one.
 *
 * Three memories: the weights as they are in the pool; registers, which depend
 * on how large steps may be; and what grows with the context: the cache,
 * rotation tables, partial sums of attention, block tables.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../libclient/why.h"
#include "cuda.h"

#define ALIGN 256u /* of everything in it */
#define MIB   ((uint64_t)1 << 20)

#define USUAL_CTX 4096 /* tokens that there should be room for, unasked */

static uint64_t carve(uint64_t *at, uint64_t bytes)
{
	uint64_t p = *at;

	*at += (bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
	return p;
}

static uint64_t whole(uint64_t bytes, uint64_t granule)
{
	return (bytes + granule - 1) / granule * granule;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What only exists after the gathering has a row for each output. */
static uint64_t max_rows(const struct backend_conf *c, uint32_t reg)
{
	if (reg == TAPE_O || reg == TAPE_E || reg == TAPE_L)
		return c->max_out;
	return most(c->max_tokens, c->max_out);
}

/* Registers whose floats are stored in some step, few tokens or many. */
static void find_stored(const struct cuda_plan *p, bool *stored)
{
	const struct tape_op *o;
	uint32_t i, j;
	uint8_t d;

	for (i = 0; i < p->tape.n_ops; i++) {
		o = &p->tape.ops[i];
		d = o->dst[0];
		switch (o->kind) {
		case TAPE_NORM:
			/* The last norm's rows are the hidden state. */
			stored[d] |= d == TAPE_E || p->wants[d] != WANT_Q8;
			break;
		case TAPE_ATTN:
			stored[d] |= p->wants[d] != WANT_Q8 ||
				     p->hp.head_dim % ACT_BLOCK;
			break;
		case TAPE_ROPE_KV:
			break;
		default:
			for (j = 0; j < o->n; j++)
				stored[o->dst[j]] = true;
		}
	}
}

bool cuda_is_near(const struct cuda_plan *p, const struct tape_op *o,
		  const struct mat *w)
{
	return p->conf.gpu_prompts &&
	       (o->kind == TAPE_MATMUL || o->kind == TAPE_MATMUL_ADD) &&
	       cu_gemm_takes(w->fmt, w->cols);
}

/* Room for the operands of the largest such product. */
static void find_near(struct cuda_plan *p, const struct weights *w)
{
	uint64_t mat = 0, x = 0;
	const struct tape_op *o;
	const struct mat *m;
	uint32_t i, j;

	for (i = 0; i < p->tape.n_ops; i++) {
		o = &p->tape.ops[i];
		for (j = 0; tape_is_matmul(o->kind) && j < o->n; j++) {
			m = &w->mat[o->w[j]];
			if (!cuda_is_near(p, o, m))
				continue;
			p->near = true;
			mat = most(mat, cu_tiles_bytes(m->rows, m->cols));
			x = most(x,
				 cu_tiles_bytes(p->conf.max_tokens, m->cols));
		}
	}
	p->near_w = carve(&p->scratch_bytes, mat);
	p->near_x = carve(&p->scratch_bytes, x);
}

/* What goes between host and device besides a step's input. */
static void find_pinned(struct cuda_plan *p)
{
	uint64_t out = p->conf.max_out, n = 0;
	uint32_t i;

	for (i = 0; i < TAPE_ROPE_N; i++)
		n += p->rope[i];
	p->rope_bytes = n * 2 * CUDA_ROPE_ROWS * p->hp.n_rope * sizeof(float);
	p->takes = p->tape.ops[0].kind == TAPE_TAKE;
	p->gives = p->tape.ops[p->tape.n_ops - 1].kind == TAPE_GIVE;
	if (p->takes || p->gives)
		p->x_bytes = (uint64_t)p->conf.max_tokens * p->hp.n_embd *
			     sizeof(float);
	p->hidden = out * p->short_bytes / sizeof(float);
	p->row = p->hidden + out * p->tape.width[TAPE_E];
	p->out_bytes = (p->row + p->tape.width[TAPE_L]) * sizeof(float);
}

int cuda_plan_build(struct cuda_plan *p, const struct image *im,
		    struct tape *tape, const struct weights *w,
		    const struct backend_conf *conf, char why[160])
{
	bool stored[TAPE_REG_N] = { false };
	uint64_t width, rows;
	uint32_t i;
	int ret;

	memset(p, 0, sizeof(*p));
	p->tape = *tape;
	memset(tape, 0, sizeof(*tape));
	p->hp = im->h->hp;
	p->hp.n_layer = p->tape.n_layer;
	p->conf = *conf;
	p->weight_bytes = w->used;
	ret = backend_check_model(&p->hp, why);
	if (ret)
		return ret;
	weights_readers(w, &p->tape, p->wants);
	find_stored(p, stored);
	for (i = 0; i < p->tape.n_ops; i++)
		if (p->tape.ops[i].kind == TAPE_ROPE_KV)
			p->rope[p->tape.ops[i].rope] = true;
	for (i = 0; i < TAPE_REG_N; i++) {
		width = p->tape.width[i];
		rows = max_rows(conf, i);
		p->reg[i] = p->act[i] = CUDA_NOWHERE;
		if (stored[i])
			p->reg[i] = carve(&p->scratch_bytes,
					  rows * width * sizeof(float));
		if (p->wants[i] & WANT_Q8)
			p->act[i] = carve(&p->scratch_bytes,
					  rows * (width / ACT_BLOCK) *
						  sizeof(struct act_block));
	}
	width = p->tape.width[TAPE_L];
	rows = width ? max_rows(conf, TAPE_L) : 0;
	if (width)
		p->short_bytes =
			sizeof(struct top_row) + BATCH_PICKS * sizeof(float);
	p->top = carve(&p->scratch_bytes, rows * p->short_bytes);
	p->top_part = carve(&p->scratch_bytes,
			    rows * CU_TOP_PART(width) * sizeof(uint64_t));
	find_near(p, w);
	find_pinned(p);
	return 0;
}

int cuda_plan_measure(struct cuda_plan *p, const struct image *im,
		      const struct backend_part *part,
		      const struct backend_conf *conf, char why[160])
{
	struct weights w;
	struct tape tape;
	int ret;

	memset(p, 0, sizeof(*p));
	ret = tape_build_part(&tape, im, part, why);
	if (ret)
		return ret;
	ret = weights_measure(&w, im, &tape, why);
	if (!ret)
		ret = cuda_plan_build(p, im, &tape, &w, conf, why);
	if (ret)
		cuda_plan_free(p);
	tape_free(&tape);
	weights_free(&w);
	return ret;
}

void cuda_plan_free(struct cuda_plan *p)
{
	tape_free(&p->tape);
}

void cuda_plan_context(const struct cuda_plan *p, uint32_t n_blocks,
		       struct cuda_context *c)
{
	const struct image_hparams *hp = &p->hp;
	const struct backend_conf *conf = &p->conf;
	uint64_t n = (uint64_t)n_blocks * KV_BLOCK, few = CU_FEW, rope, per;
	uint32_t i;

	memset(c, 0, sizeof(*c));
	n = n < hp->n_ctx_train ? n : hp->n_ctx_train;
	c->n_pos = (uint32_t)n;
	c->spans = (uint32_t)((n + VEC_ATTN_SPAN - 1) / VEC_ATTN_SPAN);
	rope = n * hp->n_rope * sizeof(float);
	for (i = 0; i < TAPE_ROPE_N; i++) {
		if (!p->rope[i])
			continue;
		c->cos[i] = carve(&c->bytes, rope);
		c->sin[i] = carve(&c->bytes, rope);
	}
	c->part =
		carve(&c->bytes, few * hp->n_head * c->spans *
					 CU_PART(hp->head_dim) * sizeof(float));
	c->ticket_bytes = few * hp->n_head_kv * sizeof(uint32_t);
	c->ticket = carve(&c->bytes, c->ticket_bytes);
	c->top_ticket = carve(&c->bytes, conf->max_out * sizeof(uint32_t));
	c->tokens = carve(&c->in_bytes, conf->max_tokens * sizeof(uint32_t));
	c->pos = carve(&c->in_bytes, conf->max_tokens * sizeof(uint32_t));
	c->table = carve(&c->in_bytes, conf->max_tokens * sizeof(uint32_t));
	c->rows = carve(&c->in_bytes, conf->max_out * sizeof(uint32_t));
	c->pieces = carve(&c->in_bytes,
			  ((uint64_t)conf->max_tokens + conf->max_seqs) *
				  sizeof(struct cu_piece));
	c->picks = carve(&c->in_bytes, conf->max_out * sizeof(struct cu_picks));
	per = (n + KV_BLOCK - 1) / KV_BLOCK * conf->max_seqs;
	if (p->short_bytes)
		per += (uint64_t)conf->max_out * BATCH_PICKS;
	c->tables = carve(&c->in_bytes, per * sizeof(uint32_t));
	c->in = carve(&c->bytes, c->in_bytes);
}

uint64_t cuda_plan_block(const struct cuda_plan *p)
{
	return kv_block_elems(&p->hp) * sizeof(uint16_t);
}

void cuda_plan_need(const struct cuda_plan *p, uint32_t n_blocks,
		    uint64_t granule, struct cuda_need *n)
{
	struct cuda_context c;

	cuda_plan_context(p, n_blocks, &c);
	n->weights = whole(p->weight_bytes, granule);
	n->scratch = whole(p->scratch_bytes, granule);
	n->context = whole(c.bytes, granule);
	n->kv = whole(cuda_plan_block(p) * n_blocks, granule);
	n->device = n->weights + n->scratch + n->context + n->kv;
	n->pinned = p->rope_bytes + p->out_bytes + p->x_bytes + c.in_bytes;
}

uint64_t cuda_plan_kv(const struct cuda_plan *p, uint64_t left,
		      uint64_t granule)
{
	uint64_t block = cuda_plan_block(p), low = 0, high = left / block, mid;
	struct cuda_need need;

	if (high > UINT32_MAX)
		high = UINT32_MAX;
	while (low < high) {
		mid = high - (high - low) / 2;
		cuda_plan_need(p, (uint32_t)mid, granule, &need);
		if (need.context + need.kv > left)
			high = mid - 1;
		else
			low = mid;
	}
	return low * block;
}

void cuda_plan_info(const struct cuda_plan *p, uint64_t left, uint64_t granule,
		    struct backend_info *info)
{
	memset(info, 0, sizeof(*info));
	info->weight_bytes = p->weight_bytes;
	info->scratch_bytes = p->scratch_bytes;
	info->kv_block_bytes = cuda_plan_block(p);
	info->own_bytes = info->weight_bytes + info->scratch_bytes;
	info->own_block_bytes = info->kv_block_bytes;
	info->kv_budget = cuda_plan_kv(p, left, granule);
}

int cuda_plan_split(const struct image *im, const struct backend_conf *conf,
		    uint64_t left, uint64_t granule, uint32_t n_ctx,
		    uint32_t *layer0, char why[160])
{
	struct backend_part part = { .layer1 = im->h->hp.n_layer };
	uint64_t first = 0, ctx = n_ctx, n;
	struct cuda_need need = { 0 };
	struct cuda_plan p;
	int ret;

	if (!ctx)
		ctx = im->h->hp.n_ctx_train < USUAL_CTX ? im->h->hp.n_ctx_train
							: USUAL_CTX;
	n = (ctx + KV_BLOCK - 1) / KV_BLOCK;
	/* Unasked, a cache takes half of what is left at most. */
	n *= n_ctx ? 1 : 2;
	for (; part.layer0 < part.layer1; part.layer0++) {
		ret = cuda_plan_measure(&p, im, &part, conf, why);
		if (ret)
			return ret;
		cuda_plan_need(&p, (uint32_t)n, granule, &need);
		cuda_plan_free(&p);
		first = first ? first : need.device;
		*layer0 = part.layer0;
		if (need.device <= left)
			return 0;
	}
	return say_why(
		why, -ENOMEM,
		"with %llu tokens the model needs %llu bytes on the GPU, "
		"its last layer %llu, and %llu are free",
		(unsigned long long)ctx, (unsigned long long)first,
		(unsigned long long)need.device, (unsigned long long)left);
}

uint64_t cuda_margin(uint64_t vram_bytes)
{
	return 128 * MIB + vram_bytes / 64;
}
