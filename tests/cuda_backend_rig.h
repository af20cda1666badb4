/* SPDX-License-Identifier: MIT */
/*
 * cuda_backend_rig.h - a tiny model in the CPU's backend and in the CUDA one,
 * in the simulator, and batches for both.
 */
#ifndef HEARTH_TESTS_CUDA_BACKEND_RIG_H
#define HEARTH_TESTS_CUDA_BACKEND_RIG_H

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../daemon/cuda/cuda.h"
#include "tiny_model.h"
#include "load.h"

/* The kernels' arithmetic is the same when the simulator is slow. */
#ifdef HEARTH_SANITIZE
#define SANITIZE 1
#else
#define SANITIZE 0
#endif

#define MAX_TOKENS 48
#define MAX_SEQS   6
#define BLOCKS	   12 /* of a sequence */
#define POSITIONS  (BLOCKS * KV_BLOCK)

static struct backend_conf conf = {
	.n_threads = 2,
	.cpu_level = -1,
	.max_tokens = MAX_TOKENS,
	.max_seqs = MAX_SEQS,
	.max_out = MAX_TOKENS,
};

/* A model in one of the backends. */
struct side {
	const struct backend_ops *ops;
	struct backend *be;
	struct backend_model *m;
};

/* Both of them, and what every sequence has had. */
struct rig {
	struct tiny t;
	struct side cpu;
	struct side gpu;
	uint32_t blocks[MAX_SEQS][BLOCKS];
	uint32_t pos[MAX_SEQS];
	uint64_t rng;
};

static inline void open_driver(void)
{
	const char *lib = getenv("HEARTH_CUDA");
	char exe[2048], path[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	ck_assert_int_gt(n, 0);
	exe[n] = 0;
	snprintf(path, sizeof(path), "%s/cudasim/libcuda.so.1", dirname(exe));
	/* By its name it is then found for whoever opens it. */
	ck_assert_msg(dlopen(lib ? lib : path, RTLD_NOW) != NULL, "%s",
		      dlerror());
}

/* Bytes of copies, and a 128th of registrations, of the next one that is opened,
 * if they are to be small. */
static uint64_t rig_piece;

static inline void be_small(struct side *s)
{
	struct cu_dev *d[] = { &s->be->dev, &s->be->up };
	int i;

	for (i = 0; i < 2 && rig_piece && s->ops == &backend_cuda; i++) {
		d[i]->piece_bytes = rig_piece;
		d[i]->pin_bytes = 128 * rig_piece;
	}
}

static inline int side_load(struct side *s, const struct tiny *t, char why[160])
{
	struct backend_progress pg = { 0 };

	return load_model(s->ops, s->be, &t->im, &t->fd, 1, &pg, &s->m, why);
}

static inline void side_open(struct side *s, const struct backend_ops *ops,
			     const struct tiny *t, int32_t gpu_layers)
{
	struct backend_conf c = conf;
	char why[160] = "";

	c.why = why;
	c.gpu_layers = gpu_layers;
	s->ops = ops;
	ck_assert_msg(!ops->open(&s->be, &c), "%s: %s", ops->name, why);
	be_small(s);
	ck_assert_msg(!side_load(s, t, why), "%s: %s", ops->name, why);
	ck_assert_int_eq(ops->kv_alloc(s->m, MAX_SEQS * BLOCKS), 0);
}

/* Layer @layer alone. */
static inline void part_open(struct side *s, const struct tiny *t,
			     uint32_t layer)
{
	const struct backend_part part = { .layer0 = layer,
					   .layer1 = layer + 1 };
	struct backend_progress pg = { 0 };
	struct backend_conf c = conf;
	char why[160] = "";

	c.why = why;
	ck_assert_msg(!s->ops->open(&s->be, &c), "%s", why);
	ck_assert_msg(!load_part(s->ops, s->be, &t->im, &part, &t->fd, 1, &pg,
				 &s->m, why),
		      "%s", why);
	ck_assert_int_eq(s->ops->kv_alloc(s->m, MAX_SEQS * BLOCKS), 0);
}

static inline void side_close(struct side *s)
{
	s->ops->unload(s->be, s->m);
	s->ops->close(s->be);
}

/* On the GPU alone, or so many layers of it. */
static inline void rig_open_split(struct rig *r, const struct image_hparams *hp,
				  enum fmt f, int32_t gpu_layers)
{
	uint32_t i, j;

	memset(r, 0, sizeof(*r));
	r->rng = 7;
	open_driver();
	tiny_make(&r->t, hp, f, 42 + f);
	side_open(&r->cpu, &backend_cpu, &r->t, 0);
	side_open(&r->gpu, gpu_layers < 0 ? &backend_cuda : &backend_auto,
		  &r->t, gpu_layers);
	for (i = 0; i < MAX_SEQS; i++)
		for (j = 0; j < BLOCKS; j++)
			r->blocks[i][j] =
				(i + j * MAX_SEQS) * 7 % (MAX_SEQS * BLOCKS);
}

static inline void rig_open(struct rig *r, const struct image_hparams *hp,
			    enum fmt f)
{
	rig_open_split(r, hp, f, -1);
}

static inline void rig_close(struct rig *r)
{
	side_close(&r->cpu);
	if (r->gpu.ops)
		side_close(&r->gpu);
	tiny_free(&r->t);
}

static inline void same(const float *got, const float *want, size_t n,
			const char *what, const struct batch *b)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (memcmp(&got[i], &want[i], sizeof(*got)))
			ck_abort_msg("%s %zu of %zu is %a, not %a (%u tokens, "
				     "%u outputs)",
				     what, i, n, (double)got[i],
				     (double)want[i], b->n_tokens, b->n_out);
}

/* Rows in short, what is picked, and all of a row when it is asked for. */
static inline void same_rows(struct rig *r, const struct batch *b,
			     const struct batch *g)
{
	const uint32_t n = r->t.hp.n_vocab;
	const float *want;
	struct top_row row;
	uint32_t i, k;
	size_t at;
	float *x;

	for (i = b->n_logits; i-- > 0;) {
		want = b->logits + (size_t)i * n;
		top_row(&row, want, n);
		ck_assert_mem_eq(g->top + i, &row, sizeof(row));
		at = (size_t)i * BATCH_PICKS;
		for (k = 0; k < b->n_picks[i]; k++, at++)
			same(g->picked + at, want + b->picks[at], 1, "pick", b);
		ck_assert_int_eq(r->gpu.ops->logits(r->gpu.m, i, &x), 0);
		same(x, want, n, "logit", b);
	}
	ck_assert_int_eq(r->gpu.ops->logits(r->gpu.m, b->n_logits, NULL),
			 -EINVAL);
}

static inline void step(struct rig *r, struct batch *b)
{
	struct batch g = *b;

	ck_assert_int_eq(r->cpu.ops->step(r->cpu.m, b), 0);
	ck_assert_int_eq(r->gpu.ops->step(r->gpu.m, &g), 0);
	/* Without a layer on the GPU they are the CPU's. */
	ck_assert(r->gpu.ops == &backend_auto || !g.logits);
	if (g.logits)
		same(g.logits, b->logits, (size_t)b->n_logits * r->t.hp.n_vocab,
		     "logit", b);
	else
		same_rows(r, b, &g);
	same(g.hidden, b->hidden, (size_t)b->n_out * r->t.hp.n_embd, "hidden",
	     b);
}

/* Room for a batch. */
struct work {
	uint32_t tokens[MAX_TOKENS];
	uint32_t out[MAX_TOKENS];
	uint32_t n_picks[MAX_TOKENS];
	uint32_t picks[MAX_TOKENS * BATCH_PICKS];
	struct batch_seq seqs[MAX_SEQS];
	struct batch b;
};

static inline void work_init(struct work *w)
{
	memset(w, 0, sizeof(*w));
	w->b.tokens = w->tokens;
	w->b.out_rows = w->out;
	w->b.n_picks = w->n_picks;
	w->b.picks = w->picks;
	w->b.seqs = w->seqs;
}

/* Picks for a row: another number of them in each step, and often none. */
static inline void want(struct rig *r, struct work *w, uint32_t row)
{
	uint32_t *id = w->picks + (size_t)row * BATCH_PICKS, n, i;

	n = tiny_rnd(&r->rng) % (BATCH_PICKS + BATCH_PICKS / 2);
	w->n_picks[row] = n = n > BATCH_PICKS ? 0 : n;
	for (i = 0; i < n; i++)
		id[i] = tiny_rnd(&r->rng) % r->t.hp.n_vocab;
}

/* @n more tokens of a sequence, the last @n_out of which are wanted. */
static inline void add(struct rig *r, struct work *w, uint32_t seq, uint32_t n,
		       uint32_t n_out)
{
	struct batch *b = &w->b;
	uint32_t i;

	ck_assert_uint_le(r->pos[seq] + n, POSITIONS);
	w->seqs[b->n_seqs++] = (struct batch_seq){ .first = b->n_tokens,
						   .n = n,
						   .pos = r->pos[seq],
						   .blocks = r->blocks[seq] };
	for (i = 0; i < n; i++) {
		if (n - i <= n_out) {
			want(r, w, b->n_out);
			w->out[b->n_out++] = b->n_tokens;
		}
		w->tokens[b->n_tokens++] = tiny_rnd(&r->rng) % r->t.hp.n_vocab;
	}
	b->n_logits = b->n_out;
	r->pos[seq] += n;
}

static inline void one(struct rig *r, uint32_t seq, uint32_t n, uint32_t n_out)
{
	struct work w;

	work_init(&w);
	add(r, &w, seq, n, n_out);
	step(r, &w.b);
}

#endif
