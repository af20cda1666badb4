/* SPDX-License-Identifier: MIT */
/*
 * plan.c - from a tape to a program of parallel regions, and its memory.
 *
 * Neighbouring ops that take each row by itself become one region. Two
 * matmuls and the gate after them become one. What only a quantising reader
 * wants is quantised where it is made and never stored as floats.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../rope.h"
#include "cpu.h"

#define WHY 160

static bool is_row_op(uint8_t kind)
{
	return kind == TAPE_EMBED || kind == TAPE_NORM ||
	       kind == TAPE_NORM_ADD || kind == TAPE_ROPE_KV ||
	       kind == TAPE_TAKE || kind == TAPE_GIVE || kind == TAPE_GATHER ||
	       kind == ROW_ROPE_TABLE || kind == ROW_QUANT;
}

static void take_op(struct backend_model *m, const struct tape_op *t,
		    const uint8_t *wants, struct op *o)
{
	uint32_t i;

	memset(o, 0, sizeof(*o));
	o->kind = t->kind;
	o->src = t->src;
	memcpy(o->dst, t->dst, sizeof(o->dst));
	o->n = t->kind == TAPE_MATMUL ? t->n : 1;
	o->act = t->act == TAPE_SILU ? VEC_SILU : VEC_GELU_TANH;
	o->rope = t->rope;
	o->add = t->kind == TAPE_MATMUL_ADD;
	o->layer = t->layer;
	o->window = t->window;
	memcpy(o->f, t->f, sizeof(o->f));
	for (i = 0; i < TAPE_MATS; i++) {
		if (t->w[i] != TAPE_NONE) {
			o->mat[i] = &m->w.mat[t->w[i]];
			o->vec[i] = m->w.vec[t->w[i]];
		}
		if (t->b[i] != TAPE_NONE)
			o->bias[i] = m->w.vec[t->b[i]];
	}
	if (t->kind == TAPE_NORM || t->kind == TAPE_ATTN ||
	    t->kind == TAPE_GLU) {
		o->quant = wants[o->dst[0]] & WANT_Q8;
		/* The last norm's rows are the hidden state. */
		o->keep = !o->quant || wants[o->dst[0]] & WANT_FLOAT ||
			  o->dst[0] == TAPE_E;
	}
}

/* A gate and the two matmuls before it: "act(a) * b" from one input. */
static int fuse_glu(struct op *mm, const struct op *glu)
{
	if (mm->kind != TAPE_MATMUL || mm->n != 2 || mm->dst[0] != TAPE_G ||
	    mm->dst[1] != TAPE_U || mm->mat[0]->rows != mm->mat[1]->rows)
		return -ENOTSUP;
	mm->kind = TAPE_GLU;
	mm->dst[0] = glu->dst[0];
	mm->act = glu->act;
	mm->quant = glu->quant;
	mm->keep = glu->keep;
	return 0;
}

/* Fills m->ops: at most two more than two of each op of the tape. */
static int make_ops(struct backend_model *m, const struct tape *tape,
		    const uint8_t *wants)
{
	uint32_t group = m->hp.n_head / m->hp.n_head_kv, i;
	struct op *o;

	m->ops[m->n_ops++] = (struct op){ .kind = ROW_ROPE_TABLE };
	for (i = 0; i < tape->n_ops; i++) {
		o = &m->ops[m->n_ops];
		take_op(m, &tape->ops[i], wants, o);
		if (o->kind == TAPE_GLU) {
			if (fuse_glu(o - 1, o))
				return -ENOTSUP;
			continue;
		}
		m->n_ops++;
		if (o->kind == TAPE_ATTN && o->quant &&
		    group * m->hp.head_dim % ACT_BLOCK) {
			/* A head's part is no whole number of blocks. */
			o->quant = false;
			o->keep = true;
			o[1] = (struct op){ .kind = ROW_QUANT };
			o[1].dst[0] = o->dst[0];
			m->n_ops++;
		}
	}
	return 0;
}

/* The rows that the first reader after op @i wants quantised. */
static uint8_t reader_domain(const struct backend_model *m, uint32_t i)
{
	uint8_t domain = DOMAIN_TOKENS, reg = m->ops[i].dst[0];
	const struct op *o;
	uint32_t k;

	for (k = 0; k < m->n_ops; k++) {
		o = &m->ops[k];
		if (o->kind == TAPE_GATHER)
			domain = DOMAIN_OUT;
		if (o->kind == TAPE_LOGITS)
			domain = DOMAIN_LOGITS;
		if (k > i && o->src == reg &&
		    (tape_is_matmul(o->kind) || o->kind == TAPE_GLU))
			break;
	}
	return domain;
}

static void make_regions(struct backend_model *m)
{
	uint8_t domain = DOMAIN_TOKENS;
	struct region *r = NULL;
	struct op *o;
	uint32_t i;

	for (i = 0; i < m->n_ops; i++) {
		o = &m->ops[i];
		if (o->kind == TAPE_GATHER)
			domain = DOMAIN_OUT;
		if (o->kind == TAPE_LOGITS)
			domain = DOMAIN_LOGITS;
		if (r && is_row_op(o->kind) && r->kind == REGION_ROWS &&
		    r->domain == domain) {
			r->n_ops++;
			continue;
		}
		r = &m->regions[m->n_regions++];
		r->kind = is_row_op(o->kind)	    ? REGION_ROWS
			  : tape_is_matmul(o->kind) ? REGION_MATMUL
			  : o->kind == TAPE_ATTN    ? REGION_ATTN
						    : REGION_GLU;
		r->domain = domain;
		r->first_op = i;
		r->n_ops = 1;
	}
	for (i = 0; i < m->n_ops; i++)
		m->ops[i].quant_domain = reader_domain(m, i);
}

/* Lay out scratch memory from @base; with NULL only count. */
struct carver {
	uint8_t *base;
	uint64_t bytes;
};

static void *carve(struct carver *c, uint64_t bytes)
{
	void *p = c->base ? c->base + c->bytes : NULL;

	c->bytes += (bytes + MAT_ALIGN - 1) & ~(uint64_t)(MAT_ALIGN - 1);
	return p;
}

/* What only exists after the gathering has a row for each output. */
static uint64_t max_rows(const struct backend_model *m, uint32_t reg)
{
	const struct backend_conf *c = &m->be->conf;

	if (reg == TAPE_O || reg == TAPE_E || reg == TAPE_L)
		return c->max_out;
	return c->max_tokens > c->max_out ? c->max_tokens : c->max_out;
}

/**
 * struct needs - of registers and tables, those that there must be
 * @wants:  how products read each register, bits WANT_*
 * @stored: its floats are kept
 * @rope:   rotation tables in use
 */
struct needs {
	uint8_t wants[TAPE_REG_N];
	bool stored[TAPE_REG_N];
	bool rope[TAPE_ROPE_N];
};

static void carve_all(struct backend_model *m, const struct needs *need,
		      struct carver *c)
{
	const struct backend_conf *conf = &m->be->conf;
	uint64_t n = conf->max_tokens, rope_bytes;
	uint32_t i;

	for (i = 0; i < TAPE_REG_N; i++) {
		if (need->stored[i])
			m->reg[i] = carve(c, max_rows(m, i) * m->width[i] *
						     sizeof(float));
		if (need->wants[i] & WANT_Q8)
			m->act_mem[i] =
				carve(c, act_bytes((uint32_t)max_rows(m, i),
						   m->width[i]));
	}
	rope_bytes = n * m->hp.n_rope * sizeof(float);
	for (i = 0; i < TAPE_ROPE_N; i++) {
		if (!need->rope[i])
			continue;
		m->rope_cos[i] = carve(c, rope_bytes);
		m->rope_sin[i] = carve(c, rope_bytes);
	}
	m->tok_pos = carve(c, n * sizeof(*m->tok_pos));
	m->tok_slot = carve(c, n * sizeof(*m->tok_slot));
	m->pieces = carve(c, (n + conf->max_seqs) * sizeof(*m->pieces));
	m->tmp =
		carve(c, m->be->conf.n_threads * m->tmp_floats * sizeof(float));
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void find_stored(struct backend_model *m, bool *stored, bool *rope)
{
	const struct op *o;
	uint32_t i, j;

	for (i = 0; i < m->n_ops; i++) {
		o = &m->ops[i];
		if (o->kind == ROW_ROPE_TABLE || o->kind == ROW_QUANT)
			continue;
		if (o->kind == TAPE_ROPE_KV) {
			rope[o->rope] = true;
			continue;
		}
		if (o->kind == TAPE_NORM || o->kind == TAPE_ATTN ||
		    o->kind == TAPE_GLU) {
			stored[o->dst[0]] |= o->keep;
			continue;
		}
		for (j = 0; j < o->n; j++)
			stored[o->dst[j]] = true;
	}
}

/* Floats that a worker needs beside the registers: a row of any width,
 * the queries' results of an attention unit, or both sides of a gate. */
static size_t tmp_need(const struct backend_model *m)
{
	size_t n = VEC_ATTN_ROWS * (size_t)m->hp.head_dim;
	uint32_t i;

	n = max_size(n, (size_t)2 * GLU_ROWS * GLU_TILE);
	for (i = 0; i < TAPE_REG_N; i++)
		if (i != TAPE_L)
			n = max_size(n, m->width[i]);
	return (n + 31) & ~(size_t)15;
}

/* Not in the scratch memory: no page of that is touched before the first step. */
static int make_freqs(struct backend_model *m, const struct tape *tape,
		      const bool *rope)
{
	uint32_t i;

	for (i = 0; i < TAPE_ROPE_N; i++) {
		if (!rope[i])
			continue;
		m->inv_freq[i] = rope_freqs(tape, i, &m->w, m->hp.n_rope);
		if (!m->inv_freq[i])
			return -ENOMEM;
	}
	return 0;
}

/* The program, and how much scratch memory its steps take. */
static int make_program(struct backend_model *m, const struct image *im,
			const struct tape *tape, struct needs *n, char why[160])
{
	struct carver c = { 0 };
	int ret;

	m->hp = im->h->hp;
	m->hp.n_layer = tape->n_layer;
	memcpy(m->width, tape->width, sizeof(m->width));
	ret = backend_check_model(&m->hp, why);
	if (ret)
		return ret;
	snprintf(why, WHY, "no memory for a step's registers");
	m->ops = calloc(2 * (size_t)tape->n_ops + 2, sizeof(*m->ops));
	m->regions = calloc(2 * (size_t)tape->n_ops + 2, sizeof(*m->regions));
	if (!m->ops || !m->regions)
		return -ENOMEM;
	weights_readers(&m->w, tape, n->wants);
	ret = make_ops(m, tape, n->wants);
	if (ret) {
		snprintf(why, WHY, "a gate does not follow its two matrices");
		return ret;
	}
	make_regions(m);
	find_stored(m, n->stored, n->rope);
	m->tmp_floats = tmp_need(m);
	carve_all(m, n, &c);
	m->scratch_bytes = c.bytes;
	return 0;
}

int plan_build(struct backend_model *m, const struct image *im,
	       const struct tape *tape, char why[160])
{
	struct needs n = { 0 };
	struct carver c;
	void *p;
	int ret;

	ret = make_program(m, im, tape, &n, why);
	if (ret)
		return ret;
	p = mmap(NULL, m->scratch_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	m->scratch = p;
	madvise(m->scratch, m->scratch_bytes, MADV_HUGEPAGE);
	c = (struct carver){ .base = m->scratch };
	carve_all(m, &n, &c);
	return make_freqs(m, tape, n.rope);
}

uint32_t plan_threads(const struct backend_conf *conf)
{
	uint32_t n = conf->n_threads;
	cpu_set_t set;
	long online;

	if (!n && !sched_getaffinity(0, sizeof(set), &set)) {
		n = (uint32_t)CPU_COUNT(&set);
	} else if (!n) {
		online = sysconf(_SC_NPROCESSORS_ONLN);
		n = online < 1 ? 1 : (uint32_t)online;
	}
	return n < WORKERS_MAX ? n : WORKERS_MAX;
}

void plan_info(const struct backend_model *m, struct backend_info *info)
{
	memset(info, 0, sizeof(*info));
	info->weight_bytes = m->w.used;
	info->scratch_bytes = m->scratch_bytes;
	info->kv_block_bytes = kv_block_elems(&m->hp) * sizeof(uint16_t);
}

int backend_cpu_measure(struct backend_info *info, const struct image *im,
			const struct backend_part *part,
			const struct backend_conf *conf, char why[160])
{
	struct backend be = { .conf = *conf };
	struct backend_model m = { .be = &be };
	struct needs n = { 0 };
	struct tape tape;
	int ret;

	be.conf.n_threads = plan_threads(conf);
	ret = tape_build_part(&tape, im, part, why);
	if (ret)
		return ret;
	ret = weights_measure(&m.w, im, &tape, why);
	if (!ret)
		ret = make_program(&m, im, &tape, &n, why);
	if (!ret)
		plan_info(&m, info);
	plan_free(&m);
	weights_free(&m.w);
	tape_free(&tape);
	return ret;
}

void plan_free(struct backend_model *m)
{
	uint32_t i;

	if (m->scratch)
		munmap(m->scratch, m->scratch_bytes);
	for (i = 0; i < TAPE_ROPE_N; i++)
		free(m->inv_freq[i]);
	free(m->ops);
	free(m->regions);
}
