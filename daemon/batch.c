/* SPDX-License-Identifier: MIT */
/* batch.c - tokens, sequences and wanted rows of a step. */
#include "batch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sample.h"

int batch_init(struct batch_plan *p, const struct mem *mem,
	       const struct backend_conf *bc)
{
	memset(p, 0, sizeof(*p));
	p->max_tokens = bc->max_tokens;
	p->max_seqs = bc->max_seqs;
	p->max_out = bc->max_out;
	p->b.tokens = mem_alloc(mem, p->max_tokens, sizeof(*p->b.tokens));
	p->b.seqs = mem_alloc(mem, p->max_seqs, sizeof(*p->b.seqs));
	p->b.out_rows = mem_alloc(mem, p->max_out, sizeof(*p->b.out_rows));
	p->b.n_picks = mem_alloc(mem, p->max_out, sizeof(*p->b.n_picks));
	p->b.picks =
		mem_alloc(mem, p->max_out, BATCH_PICKS * sizeof(*p->b.picks));
	p->reqs = mem_alloc(mem, p->max_seqs, sizeof(*p->reqs));
	p->rows = mem_alloc(mem, p->max_out, sizeof(*p->rows));
	p->hidden = mem_alloc(mem, p->max_out, sizeof(*p->hidden));
	if (!p->b.tokens || !p->b.seqs || !p->b.out_rows || !p->b.n_picks ||
	    !p->b.picks || !p->reqs || !p->rows || !p->hidden)
		return -ENOMEM;
	return 0;
}

void batch_fini(struct batch_plan *p, const struct mem *mem)
{
	mem_free(mem, p->b.tokens);
	mem_free(mem, p->b.seqs);
	mem_free(mem, p->b.out_rows);
	mem_free(mem, p->b.n_picks);
	mem_free(mem, p->b.picks);
	mem_free(mem, p->reqs);
	mem_free(mem, p->rows);
	mem_free(mem, p->hidden);
	memset(p, 0, sizeof(*p));
}

/* What the row of position @pos is for; @next is the next asked-for one. */
static uint32_t purpose(const struct req *r, uint32_t pos, uint32_t *next)
{
	uint32_t what = 0;

	if (*next < r->run.n_logits && r->logits_at[*next] == pos) {
		what |= BATCH_LOGITS;
		++*next;
	}
	if (r->n_embed < r->n_prompt && pos < r->n_prompt &&
	    (r->run.flags & RING_RUN_EMBED_MEAN ||
	     (r->run.flags & RING_RUN_EMBED_LAST && pos == r->n_prompt - 1)))
		what |= BATCH_EMBED;
	if (pos + 1 == req_tokens(r) && r->n_out < r->max_out)
		what |= BATCH_SAMPLE;
	return what;
}

/* A row for @what, and the logits that the sampler will ask for. */
static void add_row(struct batch_plan *p, struct req *r, uint32_t what,
		    uint32_t n_vocab, uint32_t *n_hidden)
{
	struct batch *b = &p->b;
	struct batch_row row = { r, b->n_tokens, what };
	uint32_t i = b->n_logits;

	if (!(what & (BATCH_LOGITS | BATCH_SAMPLE))) {
		p->hidden[(*n_hidden)++] = row;
		return;
	}
	b->n_picks[i] = 0;
	if (what & BATCH_SAMPLE)
		b->n_picks[i] = sample_picks(r, n_vocab,
					     b->picks + (size_t)i * BATCH_PICKS,
					     BATCH_PICKS);
	p->rows[b->n_logits++] = row;
}

static void add_seq(struct batch_plan *p, const struct sched *s, struct req *r,
		    uint32_t n_vocab, uint32_t *n_hidden)
{
	uint32_t k, what, token, next = r->next_logits;
	struct batch *b = &p->b;

	assert(b->n_seqs < p->max_seqs &&
	       r->n_now <= p->max_tokens - b->n_tokens);
	p->reqs[b->n_seqs] = r;
	b->seqs[b->n_seqs++] = (struct batch_seq){
		.first = b->n_tokens,
		.n = r->n_now,
		.pos = r->n_done,
		.blocks = kv_table(s->kv, r->seq),
		.prompt = req_in_prompt(r),
	};
	for (k = 0; k < r->n_now; k++) {
		token = req_token(r, r->n_done + k);
		if (token >= n_vocab) {
			/* It was checked: somebody else wrote into D. */
			r->fail = -EIO;
			token = 0;
		}
		what = purpose(r, r->n_done + k, &next);
		/* More than was planned: likewise. */
		if (what && b->n_logits + *n_hidden == p->max_out)
			r->fail = -EIO;
		else if (what)
			add_row(p, r, what, n_vocab, n_hidden);
		b->tokens[b->n_tokens++] = token;
	}
}

void batch_build(struct batch_plan *p, const struct sched *s, uint32_t n_vocab)
{
	struct batch *b = &p->b;
	uint32_t i, n_hidden = 0;
	int prompt;

	b->n_tokens = b->n_seqs = b->n_out = b->n_logits = 0;
	b->logits = NULL;
	b->top = NULL;
	b->picked = b->hidden = NULL;
	for (prompt = 0; prompt < 2; prompt++)
		for (i = 0; i < s->n_running; i++)
			if (s->run[i]->n_now &&
			    req_in_prompt(s->run[i]) == prompt)
				add_seq(p, s, s->run[i], n_vocab, &n_hidden);
	memcpy(p->rows + b->n_logits, p->hidden, n_hidden * sizeof(*p->rows));
	b->n_out = b->n_logits + n_hidden;
	for (i = 0; i < b->n_out; i++)
		b->out_rows[i] = p->rows[i].token;
}

const struct batch_row *batch_next(const struct batch_plan *p, uint32_t *i,
				   uint32_t *j, uint32_t *row)
{
	const struct batch_row *a = p->rows + *i,
			       *h = p->rows + p->b.n_logits + *j;

	if (*i == p->b.n_logits && p->b.n_logits + *j == p->b.n_out)
		return NULL;
	if (p->b.n_logits + *j == p->b.n_out ||
	    (*i < p->b.n_logits && a->token < h->token)) {
		*row = (*i)++;
		return a;
	}
	*row = p->b.n_logits + (*j)++;
	return h;
}
