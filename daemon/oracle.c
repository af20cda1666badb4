/* SPDX-License-Identifier: MIT */
/* oracle.c - the backend that stands in for a model in tests. */
#include "oracle.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What the oracle keeps of a position. */
struct cell {
	uint32_t token;
	uint32_t pos;
};

struct backend {
	struct backend_conf conf;
};

/**
 * struct backend_model - an image and its pages
 * @cells:   [n_blocks][KV_BLOCK]
 * @base:    logits of all tokens that do not stand out
 * @logits:  [max_out][n_vocab], equal to @base but for @changed
 * @changed: per row: tokens that stand out now
 */
struct backend_model {
	const struct backend_conf *conf;
	const struct image *im;
	uint32_t n_blocks;
	uint32_t n_vocab;
	uint32_t n_embd;
	struct cell *cells;
	float *base;
	float *logits;
	float *hidden;
	uint32_t (*changed)[ORACLE_TOP];
};

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return x;
}

uint64_t oracle_hash(uint64_t hash, uint32_t token, uint32_t pos)
{
	hash ^= ((uint64_t)token << 32 | pos) + 0x9e3779b97f4a7c15ull;
	hash *= 0xd6e8feb86659fd93ull;
	return hash ^ hash >> 29;
}

static bool is_eog(const struct image *im, uint32_t token)
{
	uint64_t i;

	for (i = 0; i < im->h->eog.n; i++)
		if (im->eog[i] == token)
			return true;
	return false;
}

uint32_t oracle_next(uint64_t hash, const struct image *im)
{
	uint32_t n = im->h->hp.n_vocab, token, i;
	uint64_t h = mix(hash);

	if (im->h->eog.n && h % ORACLE_EOG == 0)
		return im->eog[(h >> 32) % im->h->eog.n];
	token = (uint32_t)((h >> 16) % n);
	for (i = 0; i < n && is_eog(im, token); i++)
		token = (token + 1) % n;
	return token;
}

/* Noise in [-1, 1) that is the same for every row. */
static float noise(uint32_t token)
{
	return (float)(int32_t)(mix(token + 1) >> 32) * 0x1p-31f;
}

/* The tokens that stand out, greatest last, so that it wins if one repeats. */
static void stand_out(uint64_t hash, const struct image *im, float *row,
		      uint32_t changed[ORACLE_TOP])
{
	uint32_t n = im->h->hp.n_vocab, i;
	uint64_t h;

	for (i = 0; i + 1 < ORACLE_TOP; i++) {
		h = mix(hash + i + 1);
		changed[i] = (uint32_t)((h >> 8) % n);
		row[changed[i]] = 6 + (float)(h & 255) / 64;
	}
	changed[i] = oracle_next(hash, im);
	row[changed[i]] = 12;
}

void oracle_logits(uint64_t hash, const struct image *im, float *row)
{
	uint32_t changed[ORACLE_TOP], i;

	for (i = 0; i < im->h->hp.n_vocab; i++)
		row[i] = noise(i);
	stand_out(hash, im, row, changed);
}

float oracle_hidden(uint64_t hash, uint32_t i)
{
	return (float)(int32_t)(mix(hash ^ (i + 1) * 0x9e3779b97f4a7c15ull) >>
				32) *
	       0x1p-31f;
}

static int oracle_open(struct backend **be, const struct backend_conf *conf)
{
	*be = calloc(1, sizeof(**be));
	if (!*be)
		return -ENOMEM;
	(*be)->conf = *conf;
	return 0;
}

static void oracle_close(struct backend *be)
{
	free(be);
}

static void oracle_unload(struct backend *be, struct backend_model *m)
{
	(void)be;
	if (!m)
		return;
	free(m->cells);
	free(m->base);
	free(m->logits);
	free(m->hidden);
	free(m->changed);
	free(m);
}

/* It reads no weights. */
static int oracle_lay_out(const struct image *im, struct backend_layout *l,
			  char why[160])
{
	(void)im;
	(void)why;
	memset(l, 0, sizeof(*l));
	snprintf(l->name, sizeof(l->name), "oracle-1");
	return 0;
}

static int oracle_pack(const struct image *im, const struct backend_piece *p,
		       const void *src, void *object, char why[160])
{
	(void)im;
	(void)p;
	(void)src;
	(void)object;
	snprintf(why, 160, "the oracle has no weights");
	return -EINVAL;
}

static int oracle_load(struct backend *be, const struct image *im,
		       const struct backend_part *part, int object,
		       uint64_t bytes, struct backend_model **out,
		       char why[160])
{
	const size_t rows = be->conf.max_out;
	struct backend_model *m;
	uint32_t i;
	size_t r;

	(void)part;
	(void)object;
	(void)bytes;
	m = calloc(1, sizeof(*m));
	if (!m)
		goto no_memory;
	m->conf = &be->conf;
	m->im = im;
	m->n_vocab = im->h->hp.n_vocab;
	m->n_embd = im->h->hp.n_embd;
	m->base = calloc(m->n_vocab, sizeof(*m->base));
	m->logits = calloc(rows * m->n_vocab, sizeof(*m->logits));
	m->hidden = calloc(rows * m->n_embd, sizeof(*m->hidden));
	m->changed = calloc(rows, sizeof(*m->changed));
	if (!m->base || !m->logits || !m->hidden || !m->changed)
		goto no_memory;
	for (i = 0; i < m->n_vocab; i++)
		m->base[i] = noise(i);
	for (r = 0; r < rows; r++)
		memcpy(m->logits + r * m->n_vocab, m->base,
		       m->n_vocab * sizeof(*m->base));
	*out = m;
	return 0;
no_memory:
	snprintf(why, 160, "oracle: no memory for %zu rows of %u logits", rows,
		 im->h->hp.n_vocab);
	oracle_unload(be, m);
	return -ENOMEM;
}

static void oracle_info(const struct backend_model *m,
			struct backend_info *info)
{
	memset(info, 0, sizeof(*info));
	info->scratch_bytes = (uint64_t)m->conf->max_out *
			      (m->n_vocab + m->n_embd) * sizeof(float);
	info->kv_block_bytes = KV_BLOCK * sizeof(struct cell);
	snprintf(info->text, sizeof(info->text), "oracle");
}

static int oracle_kv_alloc(struct backend_model *m, uint32_t n_blocks)
{
	struct cell *c = calloc((size_t)n_blocks * KV_BLOCK, sizeof(*c));

	if (!c)
		return -ENOMEM;
	free(m->cells);
	m->cells = c;
	m->n_blocks = n_blocks;
	return 0;
}

static struct cell *cell(struct backend_model *m, const struct batch_seq *s,
			 uint32_t pos)
{
	uint32_t b = s->blocks[pos / KV_BLOCK];

	assert(b < m->n_blocks);
	return &m->cells[(size_t)b * KV_BLOCK + pos % KV_BLOCK];
}

/* Hash of everything up to and including @pos, as the pages have it. */
static uint64_t recall(struct backend_model *m, const struct batch_seq *s,
		       uint32_t pos)
{
	uint64_t h = ORACLE_SEED;
	const struct cell *c;
	uint32_t p;

	for (p = 0; p <= pos; p++) {
		c = cell(m, s, p);
		h = oracle_hash(h, c->token, c->pos);
	}
	return h;
}

/* Each row's hash goes where its logits and hidden state go. */
static void answer(struct backend_model *m, const struct batch *b, uint32_t row,
		   uint64_t hash)
{
	float *x = m->logits + (size_t)row * m->n_vocab;
	uint32_t i;

	for (i = 0; i < m->n_embd; i++)
		m->hidden[(size_t)row * m->n_embd + i] = oracle_hidden(hash, i);
	if (row >= b->n_logits)
		return;
	for (i = 0; i < ORACLE_TOP; i++)
		x[m->changed[row][i]] = m->base[m->changed[row][i]];
	stand_out(hash, m->im, x, m->changed[row]);
}

static void pause_us(uint64_t us)
{
	struct timespec t = { (time_t)(us / 1000000),
			      (long)(us % 1000000) * 1000 };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static int oracle_step(struct backend_model *m, struct batch *b)
{
	const struct batch_seq *s;
	uint32_t i, k, row;
	struct cell *c;
	int ret;

	ret = backend_check_batch(b, m->conf, m->n_blocks, m->n_vocab);
	if (ret)
		return ret;
	for (i = 0; i < b->n_seqs; i++) {
		s = &b->seqs[i];
		for (k = 0; k < s->n; k++) {
			c = cell(m, s, s->pos + k);
			c->token = b->tokens[s->first + k];
			c->pos = s->pos + k;
		}
	}
	for (row = 0; row < b->n_out; row++) {
		for (i = 0; i + 1 < b->n_seqs &&
			    b->out_rows[row] >= b->seqs[i + 1].first;
		     i++)
			;
		s = &b->seqs[i];
		k = s->pos + b->out_rows[row] - s->first;
		answer(m, b, row, recall(m, s, k));
	}
	b->logits = m->logits;
	b->hidden = m->hidden;
	if (m->conf->token_us)
		pause_us((uint64_t)m->conf->token_us * b->n_tokens);
	return 0;
}

const struct backend_ops backend_oracle = {
	.name = "oracle",
	.open = oracle_open,
	.close = oracle_close,
	.lay_out = oracle_lay_out,
	.pack = oracle_pack,
	.load = oracle_load,
	.unload = oracle_unload,
	.info = oracle_info,
	.kv_alloc = oracle_kv_alloc,
	.step = oracle_step,
};
