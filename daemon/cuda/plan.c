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

#include "cuda.h"

#define ALIGN 256u /* of everything in it */
#define MIB   ((uint64_t)1 << 20)

static uint64_t carve(uint64_t *at, uint64_t bytes)
{
	uint64_t p = *at;

	*at += (bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
	return p;
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
	p->conf = *conf;
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
	p->top = carve(&p->scratch_bytes, rows * sizeof(struct top_row));
	p->top_part = carve(&p->scratch_bytes,
			    rows * CU_TOP_PART(width) * sizeof(uint64_t));
	return 0;
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
	per = (n + KV_BLOCK - 1) / KV_BLOCK;
	c->tables =
		carve(&c->in_bytes, conf->max_seqs * per * sizeof(uint32_t));
	c->in = carve(&c->bytes, c->in_bytes);
}

uint64_t cuda_plan_kv(const struct cuda_plan *p, uint64_t left,
		      uint64_t granule)
{
	uint64_t block = kv_block_elems(&p->hp) * sizeof(uint16_t), n;
	struct cuda_context c;

	/* Both are rounded up to what the device maps. */
	left = left > 2 * granule ? left - 2 * granule : 0;
	n = left / block;
	n = n < UINT32_MAX ? n : UINT32_MAX;
	/* What the most blocks need, fewer do not need more of. */
	cuda_plan_context(p, (uint32_t)n, &c);
	left = left > c.bytes ? left - c.bytes : 0;
	return left / block * block;
}

uint64_t cuda_margin(uint64_t vram_bytes)
{
	return 128 * MIB + vram_bytes / 64;
}
