/* SPDX-License-Identifier: MIT */
/*
 * step.c - a batch on the device: its input goes up in one copy, its launches
 * follow, logits in short and hidden states come back into pinned memory. All of
 * a row of logits only does if it is asked for.
 *
 * A step of few tokens, all exact, is a graph, captured the first time that so
 * many come: what differs from one to the next is in the input. While weights
 * are still coming up it is none, and each launch waits for what it reads of
 * them. Whatever fails here leaves the device in no state that is known, so all
 * of it is -ENODEV: the process must start again.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "../clock.h"
#include "../log.h"
#include "../rope.h"
#include "cuda.h"

#define PDL_DRIVER 12030 /* the first that captures such launches */
#define AWAKE_NS   150000 /* before its end a step is looked at, not slept over */

/* --------------------------------------------------------------- input */

/* Where in the batch things are, as they are written down. */
struct filled {
	uint64_t bytes;
	uint32_t n_pieces;
	uint32_t n_pos;
};

static void *in_at(const struct backend_model *m, uint64_t off)
{
	return m->in + off;
}

/* @n more numbers where block tables are. Return: which is the first. */
static uint32_t append(struct backend_model *m, const uint32_t *from,
		       uint32_t n, struct filled *f)
{
	uint64_t at = f->bytes - m->ctx.tables;

	memcpy(in_at(m, f->bytes), from, n * sizeof(*from));
	f->bytes += n * sizeof(*from);
	return (uint32_t)(at / sizeof(*from));
}

static void fill_seq(struct backend_model *m, const struct batch_seq *q,
		     struct filled *f)
{
	const struct cuda_context *c = &m->ctx;
	uint32_t *pos = in_at(m, c->pos), *table = in_at(m, c->table);
	struct cu_piece *piece = in_at(m, c->pieces);
	uint32_t n_blocks = (q->pos + q->n - 1) / KV_BLOCK + 1, k, at;

	at = append(m, q->blocks, n_blocks, f);
	for (k = 0; k < q->n; k++) {
		pos[q->first + k] = q->pos + k;
		table[q->first + k] = at;
		if (k % CU_PIECE == 0)
			piece[f->n_pieces++] = (struct cu_piece){
				.tok = q->first + k,
				.n = q->n - k < CU_PIECE ? q->n - k : CU_PIECE,
			};
	}
	if (q->pos + q->n > f->n_pos)
		f->n_pos = q->pos + q->n;
}

static void fill_picks(struct backend_model *m, const struct batch *b,
		       struct filled *f)
{
	struct cu_picks *p = in_at(m, m->ctx.picks);
	uint32_t i, n;

	for (i = 0; i < b->n_logits && m->plan.short_bytes; i++) {
		n = b->n_picks ? b->n_picks[i] : 0;
		p[i].n = n;
		if (n)
			p[i].at = append(m, b->picks + (size_t)i * BATCH_PICKS,
					 n, f);
	}
}

static void fill(struct backend_model *m, const struct batch *b,
		 struct filled *f)
{
	const struct cuda_context *c = &m->ctx;
	uint32_t i;

	*f = (struct filled){ .bytes = c->tables };
	memcpy(in_at(m, c->tokens), b->tokens,
	       b->n_tokens * sizeof(*b->tokens));
	memcpy(in_at(m, c->rows), b->out_rows, b->n_out * sizeof(*b->out_rows));
	for (i = 0; i < b->n_seqs; i++)
		fill_seq(m, &b->seqs[i], f);
	fill_picks(m, b, f);
}

/* ------------------------------------------------------ rotation tables */

/* Wait for what is on the stream. */
static int settle(struct backend_model *m, const char *doing)
{
	struct cu_dev *d = &m->be->dev;
	int rc;

	rc = CU(d, cuEventRecord(m->done, d->compute), "%s", doing);
	return rc ? rc : cu_wait(d, m->done, doing);
}

static int put_rows(struct backend_model *m, uint64_t table, const float *rows,
		    uint32_t n)
{
	struct cu_dev *d = &m->be->dev;
	uint64_t row = m->plan.hp.n_rope * sizeof(float);

	return CU(d,
		  cuMemcpyHtoDAsync(m->context.at + table + m->n_rope_pos * row,
				    rows, n * row, d->compute),
		  "rotation tables of %u positions", m->n_rope_pos + n);
}

/* Some more positions: by the CPU's code, so by the CPU's bits. */
static int more_rows(struct backend_model *m)
{
	const struct image_hparams *hp = &m->plan.hp;
	uint32_t n = m->ctx.n_pos - m->n_rope_pos, i, k;
	size_t half = (size_t)CUDA_ROPE_ROWS * hp->n_rope;
	float *cos_rows = m->rope_host, *sin_rows;
	int rc = 0;

	n = n < CUDA_ROPE_ROWS ? n : CUDA_ROPE_ROWS;
	for (i = 0; i < TAPE_ROPE_N && !rc; i++) {
		if (!m->plan.rope[i])
			continue;
		sin_rows = cos_rows + half;
		for (k = 0; k < n; k++)
			rope_row(cos_rows + (size_t)k * hp->n_rope,
				 sin_rows + (size_t)k * hp->n_rope,
				 m->inv_freq[i], hp, m->n_rope_pos + k);
		rc = put_rows(m, m->ctx.cos[i], cos_rows, n);
		if (!rc)
			rc = put_rows(m, m->ctx.sin[i], sin_rows, n);
		cos_rows += 2 * half;
	}
	/* The rows are written over the next time. */
	if (!rc)
		rc = settle(m, "rotation tables");
	m->n_rope_pos += n;
	return rc;
}

/* ------------------------------------------------------------- launches */

static int launch(struct backend_model *m, struct cu_launch *l)
{
	struct cu_dev *d = &m->be->dev;
	const struct cu_run run = {
		.fn = m->be->fn[l->kernel],
		.name = cu_kernels[l->kernel].name,
		.grid = { l->grid[0], l->grid[1], l->grid[2] },
		.block = { l->block, 1, 1 },
		.shared = l->smem,
		.pdl = l->pdl && d->drv.version >= PDL_DRIVER,
	};
	void *params[] = { &l->p };

	return cu_run(d, &run, d->compute, params);
}

/* Once what it reads of the weights is there. */
static int launch_after(struct backend_model *m, int i)
{
	struct cu_launch *l = &m->list[i];
	int rc = cu_upload_order(&m->up, m->need[i], m->be->dev.compute);

	/* What is in front of it is a copy, which triggers nothing. */
	if (rc > 0)
		l->pdl = 0;
	return rc < 0 ? rc : launch(m, l);
}

static int get(struct backend_model *m, uint64_t from, uint64_t bytes,
	       float *to)
{
	struct cu_dev *d = &m->be->dev;

	if (!bytes)
		return 0;
	return CU(d,
		  cuMemcpyDtoHAsync(to, m->scratch.at + from, bytes,
				    d->compute),
		  "results of a step");
}

static uint64_t row_bytes(const struct backend_model *m, uint32_t reg)
{
	return m->plan.tape.width[reg] * sizeof(float);
}

static int get_rows(struct backend_model *m, uint32_t reg, uint32_t rows,
		    float *to)
{
	return get(m, m->plan.reg[reg], rows * row_bytes(m, reg), to);
}

/* All of a step, or all that a graph of it keeps. */
static int submit(struct backend_model *m, const struct cuda_key *key,
		  uint32_t n_pieces)
{
	int n = cuda_list(m, key, n_pieces, m->list), i, rc = 0;

	if (n < 0)
		return cu_fail(&m->be->dev, n, "no kernel for %u tokens",
			       key->n);
	/* Nothing in front of it but a copy. */
	m->list[0].pdl = 0;
	for (i = 0; i < n && !rc; i++)
		rc = launch_after(m, i);
	if (!rc)
		rc = get(m, m->plan.top, key->n_logits * m->plan.short_bytes,
			 m->out);
	if (!rc)
		rc = get_rows(m, TAPE_E, key->n_out, m->out + m->plan.hidden);
	if (!rc && m->plan.gives)
		rc = get_rows(m, TAPE_X, key->n, m->x);
	return rc;
}

/* -------------------------------------------------------------- graphs */

/* Sleep through most of a step that began at @start. */
static void doze(const struct cuda_graph *g, uint64_t start)
{
	uint64_t end = start + g->usual_ns - AWAKE_NS;
	struct timespec t = { .tv_sec = (time_t)(end / 1000000000u),
			      .tv_nsec = (long)(end % 1000000000u) };

	if (g->usual_ns > 2 * AWAKE_NS)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* A step that was slept over for too long makes the next sleep shorter, and
 * one that took its time not much longer. */
static void took(struct cuda_graph *g, uint64_t ns)
{
	if (!g->usual_ns || ns < g->usual_ns)
		g->usual_ns = ns;
	else
		g->usual_ns += g->usual_ns / 64;
}

/*
 * When all weights have come, the host memory that they came from is given back,
 * a part in each step, while the device computes. Not while another model comes:
 * the driver may wait for that.
 */
static bool give_back(struct backend_model *m)
{
	struct cu_dev *d = &m->be->dev;

	if (!m->up.base || m->up.done < m->up.bytes ||
	    d->drv.cuStreamQuery(d->copy))
		return false;
	if (!cu_upload_unpin(&m->up) &&
	    !object_unmap_some(&m->w.object, d->pin_bytes))
		cu_upload_drop(&m->up);
	return true;
}

/* The graph for @key, or the place where it is to be. */
static struct cuda_graph *find(struct backend_model *m,
			       const struct cuda_key *key)
{
	struct cuda_graph *g, *oldest = m->graph;

	for (g = m->graph; g < m->graph + CUDA_GRAPHS; g++) {
		if (g->exec && !memcmp(&g->key, key, sizeof(*key)))
			return g;
		if (g->used < oldest->used)
			oldest = g;
	}
	cu_exec_free(&m->be->dev, &oldest->exec);
	*oldest = (struct cuda_graph){ .key = *key };
	return oldest;
}

static int replay(struct backend_model *m, const struct cuda_key *key)
{
	struct cu_dev *d = &m->be->dev;
	struct cuda_graph *g = find(m, key);
	uint64_t start;
	bool longer;
	int rc;

	g->used = m->n_steps;
	if (!g->exec) {
		rc = cu_capture_begin(d, d->compute);
		if (!rc)
			rc = cu_capture_end(d, d->compute, submit(m, key, 0),
					    &g->exec);
		if (rc)
			return rc;
		m->n_captured++;
	}
	start = clock_ns();
	rc = CU(d, cuGraphLaunch(g->exec, d->compute), "a step of %u tokens",
		key->n);
	if (rc)
		return rc;
	longer = give_back(m);
	doze(g, start);
	rc = settle(m, "a step");
	if (!longer)
		took(g, clock_ns() - start);
	return rc;
}

/* What layers that are elsewhere have made of the tokens. */
static int put_x(struct backend_model *m, const struct batch *b)
{
	struct cu_dev *d = &m->be->dev;
	size_t bytes = (size_t)b->n_tokens * m->plan.hp.n_embd * sizeof(float);

	if (!m->plan.takes)
		return 0;
	memcpy(m->x, b->x, bytes);
	return CU(d,
		  cuMemcpyHtoDAsync(m->scratch.at + m->plan.reg[TAPE_X], m->x,
				    bytes, d->compute),
		  "residual rows of a step");
}

/* One number for contexts that are nearly as long, so that a graph lasts. */
static uint32_t round_spans(const struct backend_model *m, uint32_t n)
{
	uint32_t spans = 1;

	while (spans < n)
		spans *= 2;
	return spans < m->ctx.spans ? spans : m->ctx.spans;
}

/* Rows before the first prompt that may be near. */
static uint32_t exact_rows(const struct backend_model *m, const struct batch *b)
{
	uint32_t i;

	for (i = 0; i < b->n_seqs && m->plan.near; i++)
		if (b->seqs[i].prompt)
			return b->seqs[i].first;
	return b->n_tokens;
}

static int run(struct backend_model *m, const struct batch *b)
{
	struct cuda_key key = { .n = b->n_tokens,
				.n_exact = exact_rows(m, b),
				.n_out = b->n_out,
				.n_logits = b->n_logits };
	struct cu_dev *d = &m->be->dev;
	struct filled f;
	bool few;
	int rc = 0;

	fill(m, b, &f);
	while (m->n_rope_pos < f.n_pos && !rc)
		rc = more_rows(m);
	if (rc)
		return rc;
	rc = CU(d,
		cuMemcpyHtoDAsync(m->context.at + m->ctx.in, m->in, f.bytes,
				  d->compute),
		"input of a step");
	if (!rc)
		rc = put_x(m, b);
	if (rc)
		return rc;
	rc = cu_upload_poll(&m->up);
	if (rc)
		return rc;
	key.spans = (f.n_pos + VEC_ATTN_SPAN - 1) / VEC_ATTN_SPAN;
	few = key.n <= CU_FEW && key.n_out <= CU_FEW && key.n_exact == key.n;
	if (few)
		key.spans = round_spans(m, key.spans);
	if (few && m->up.done == m->up.bytes)
		return replay(m, &key);
	rc = submit(m, &key, f.n_pieces);
	if (!rc)
		rc = cu_upload_wait(&m->up, m->up.ordered);
	if (rc)
		return rc;
	give_back(m);
	return settle(m, "a step");
}

int cuda_step(struct backend_model *m, struct batch *b)
{
	struct backend *be = m->be;
	int rc;

	rc = backend_check_batch(b, &m->plan.conf, m->n_blocks,
				 m->plan.hp.n_vocab);
	if (rc)
		return rc;
	m->n_steps++;
	backend_beat(&be->dev.conf);
	rc = run(m, b);
	if (rc) {
		log_warnx("cuda: step: %s", be->dev.why);
		return -ENODEV;
	}
	if (m->plan.gives) {
		memcpy(b->x, m->x,
		       (size_t)b->n_tokens * m->plan.hp.n_embd * sizeof(float));
		return 0;
	}
	m->n_rows = b->n_logits;
	b->logits = NULL;
	b->top = (const struct top_row *)m->out;
	b->picked = (const float *)(b->top + b->n_logits);
	b->hidden = m->out + m->plan.hidden;
	return 0;
}

int cuda_logits(struct backend_model *m, uint32_t row, float **x)
{
	uint64_t bytes = row_bytes(m, TAPE_L);
	float *to = m->out + m->plan.row;
	int rc;

	if (row >= m->n_rows)
		return -EINVAL;
	backend_beat(&m->be->dev.conf);
	rc = get(m, m->plan.reg[TAPE_L] + row * bytes, bytes, to);
	if (!rc)
		rc = settle(m, "a row of logits");
	if (rc) {
		log_warnx("cuda: logits: %s", m->be->dev.why);
		return -ENODEV;
	}
	*x = to;
	return 0;
}
