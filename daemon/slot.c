/* SPDX-License-Identifier: MIT */
/* slot.c - one request's state in D: what the client and the next engine see. */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void store_release(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

struct ring_slot *session_slot(const struct req *r)
{
	return &r->s->slots[r->slot];
}

void session_bind(struct req *r, const struct run_layout *lay)
{
	unsigned char *p = r->s->d + r->off;

	r->prompt = (const uint32_t *)(p + lay->prompt_off);
	r->bias = (const struct ring_bias *)(p + lay->bias_off);
	r->stop = (const uint32_t *)(p + lay->stop_off);
	r->logits_at = (const uint32_t *)(p + lay->logits_off);
	r->out = lay->out ? (struct ring_token *)(p + lay->out) : NULL;
	r->top = lay->top ? (struct ring_top *)(p + lay->top) : NULL;
	r->logits = lay->logits ? (float *)(p + lay->logits) : NULL;
	r->embed = lay->embed ? (float *)(p + lay->embed) : NULL;
}

static uint64_t mix(uint64_t sum, uint64_t x)
{
	sum = (sum ^ x) * 0x9e3779b97f4a7c15ull;
	return sum ^ sum >> 29;
}

/*
 * Sums find what a broken engine or broken memory did to D, in whichever bit;
 * they are no defence against somebody who can write to it.
 */
uint64_t session_sum(const struct ring_slot *ds, const void *rec, uint64_t len)
{
	const uint32_t *w = rec;
	uint64_t sum = mix(RING_MAGIC, len), i;

	sum = mix(sum, (uint64_t)ds->gen << 32 | ds->model);
	sum = mix(sum, (uint64_t)ds->n_vocab << 32 | ds->n_embd);
	sum = mix(sum, (uint64_t)ds->n_prompt << 32 | ds->max_out);
	sum = mix(sum, ds->rec_off);
	sum = mix(sum, ds->key);
	for (i = 0; i < len / sizeof(*w); i++)
		sum = mix(sum, w[i]);
	return sum;
}

static uint64_t pair(uint32_t token, float logprob)
{
	uint32_t bits;

	memcpy(&bits, &logprob, sizeof(bits));
	return (uint64_t)token << 32 | bits;
}

uint64_t session_sum_token(uint64_t sum, const struct ring_token *t,
			   const struct ring_top *top, uint32_t n_top)
{
	uint32_t i;

	sum = mix(sum, pair(t->token, t->logprob));
	for (i = 0; top && i < n_top; i++)
		sum = mix(sum, pair(top[i].token, top[i].logprob));
	return sum;
}

/* The tokens that came with the request are its first output. */
static void take_done(struct req *r, const struct run_layout *lay)
{
	const struct ring_token *t =
		(const struct ring_token *)(r->s->d + r->off + lay->done_off);
	struct ring_slot *ds = session_slot(r);

	ds->sum_out[0] = r->sum;
	for (; r->n_out < r->run.n_done; r->n_out++) {
		r->out[r->n_out] = t[r->n_out];
		r->sum = session_sum_token(r->sum, &t[r->n_out], NULL, 0);
	}
	ds->n_out = r->n_out;
	ds->sum_out[r->n_out & 1] = r->sum;
}

/* The slot, all of it but the state, which makes it valid. */
static void write_slot(struct req *r, const struct run_limits *lim,
		       const struct run_layout *lay, uint64_t now)
{
	struct ring_slot *ds = session_slot(r);
	uint64_t off = r->off;

	store_release(&ds->state, RING_SLOT_FREE);
	memset(ds, 0, sizeof(*ds));
	ds->gen = r->gen;
	ds->n_prompt = r->n_prompt;
	ds->max_out = r->max_out;
	ds->model = r->run.model;
	ds->rec_off = off;
	ds->rec_len = lay->rec_len;
	ds->out_off = lay->out ? off + lay->out : 0;
	ds->top_off = lay->top ? off + lay->top : 0;
	ds->logits_off = lay->logits ? off + lay->logits : 0;
	ds->embed_off = lay->embed ? off + lay->embed : 0;
	ds->key = r->run.key;
	ds->t_submit_ns = now;
	ds->n_vocab = lim->n_vocab;
	ds->n_embd = lim->n_embd;
	ds->sum_rec = session_sum(ds, r->s->d + off, lay->rec_len);
	r->sum = ds->sum_rec;
	take_done(r, lay);
	store_release(&ds->state, RING_SLOT_QUEUED);
}

int session_accept(struct session *s, const struct session_cmd *cmd,
		   const struct run_limits *lim, uint64_t now, struct req **out)
{
	struct req *r = &s->reqs[cmd->sqe.slot];
	const struct ring_run *run = &cmd->run;
	struct run_refusal why = { 0 };
	struct run_layout lay;
	uint32_t max_out;
	uint64_t off;
	int err;

	err = run_fit(run, lim, &max_out, &why);
	if (err)
		goto refuse;
	if (run_lay(run, lim->n_vocab, lim->n_embd, max_out, &lay) ||
	    arena_alloc(&s->arena, lay.bytes, &off)) {
		err = run_refuse(&why, RING_NO_ARENA, -ENOSPC, lay.bytes,
				 arena_room(&s->arena));
		goto refuse;
	}
	err = run_copy(s->d + off, s->c + cmd->sqe.off, run, &lay, lim->n_vocab,
		       &why);
	if (err) {
		arena_free(&s->arena, off);
		goto refuse;
	}
	memset(r, 0, sizeof(*r));
	r->s = s;
	r->slot = cmd->sqe.slot;
	r->gen = cmd->sqe.gen;
	r->flow = s->flow;
	r->seq = -1;
	r->state = REQ_QUEUED;
	r->run = *run;
	r->n_prompt = run->n_prompt;
	r->max_out = max_out;
	r->off = off;
	r->has_extent = true;
	session_bind(r, &lay);
	write_slot(r, lim, &lay, now);
	s->n_live++;
	*out = r;
	return 0;
refuse:
	session_refuse(s, cmd, &why);
	return err;
}

void session_stepping(struct req *r, bool alone, uint64_t now)
{
	struct ring_slot *ds = session_slot(r);

	ds->step_alone = alone;
	store_release(&ds->step_to, r->n_done + r->n_now);
	if (r->started)
		return;
	r->started = true;
	ds->t_start_ns = now;
	store_release(&ds->state, RING_SLOT_RUNNING);
}

void session_stepped(struct req *r)
{
	struct ring_slot *ds = session_slot(r);

	if (r->mark && r->n_done >= r->mark) {
		r->mark = 0;
		ds->mark = 0;
	}
	store_release(&ds->step_to, 0);
}

void session_prefilled(struct req *r)
{
	uint32_t n = r->n_done < r->n_prompt ? r->n_done : r->n_prompt;

	/* What a preempted request does again is not news. */
	if (n > r->n_prefill) {
		r->n_prefill = n;
		store_release(&session_slot(r)->n_prefill, n);
	}
}

void session_token(struct req *r, const struct ring_token *t,
		   const struct ring_top *top, uint64_t now)
{
	struct ring_slot *ds = session_slot(r);
	uint32_t n_top = r->run.n_top_logprobs;

	assert(r->n_out < r->max_out);
	if (r->top && top)
		memcpy(r->top + (size_t)r->n_out * n_top, top,
		       n_top * sizeof(*top));
	r->out[r->n_out] = *t;
	r->sum = session_sum_token(r->sum, t, r->top ? top : NULL, n_top);
	ds->sum_out[(r->n_out + 1) & 1] = r->sum;
	if (r->n_out == r->run.n_done)
		ds->t_first_ns = now;
	ds->t_last_ns = now;
	store_release(&ds->n_out, ++r->n_out);
}

/* A live request no longer is. */
static void quit(struct req *r)
{
	struct session *s = r->s;

	assert(r->state == REQ_WAITING || r->state == REQ_QUEUED ||
	       r->state == REQ_RUNNING);
	r->state = REQ_DONE;
	r->m = NULL;
	s->n_live--;
	if (r->posted) {
		r->posted = false;
		s->n_posted--;
	}
}

void session_finish(struct req *r, enum ring_finish how, int err,
		    enum ring_refusal reason, uint64_t now)
{
	struct session *s = r->s;
	struct ring_slot *ds = session_slot(r);
	struct ring_cqe e = {
		.event = RING_EV_DONE,
		.reason = (uint16_t)reason,
		.err = err,
		.slot = r->slot,
		.gen = r->gen,
	};

	ds->finish = how;
	ds->err = err;
	if (!r->n_out)
		ds->t_last_ns = now;
	ds->cq_at = s->cq_tail;
	store_release(&ds->state, RING_SLOT_DONE);
	quit(r);
	if (!s->bad)
		session_post(s, &e);
}

void session_release(struct req *r)
{
	struct session *s = r->s;

	if (r->state != REQ_DONE)
		quit(r);
	if (r->has_extent)
		arena_free(&s->arena, r->off);
	r->has_extent = false;
	r->state = REQ_FREE;
	store_release(&session_slot(r)->state, RING_SLOT_FREE);
}
