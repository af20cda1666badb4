/* SPDX-License-Identifier: MIT */
/*
 * recover.c - a session that outlived its engine.
 *
 * D was written by the engine that died and by nobody else, but it may have
 * died in the middle of a store sequence, or because it was broken: whatever
 * disagrees is dropped, and the client is told, never believed. Queues go on
 * at the indices they had. What was done stays until the client releases it.
 * What was queued or running waits for its model and then goes on: its tokens
 * are computed again, and since the same request gives the same bits, the next
 * one is what it would have been.
 *
 * An engine that died of itself died in a step, and D says whose. They are
 * suspects: each gets steps of its own until it is past that place. Who was
 * alone when an engine died, and has a strike or was a suspect before, is
 * never run again.
 */
#include "session.h"

#include <errno.h>
#include <string.h>

#define STRIKES 2

/* Is the slot's description of its extent the one we would have made? */
static bool sound(const struct session *s, const struct ring_slot *ds,
		  struct ring_run *run, struct run_layout *lay)
{
	struct run_refusal why;
	uint64_t room;

	if (ds->rec_off % ARENA_ALIGN || ds->rec_off < s->arena.start ||
	    ds->rec_off > s->arena.end)
		return false;
	room = s->arena.end - ds->rec_off;
	if (room < sizeof(*run))
		return false;
	memcpy(run, s->d + ds->rec_off, sizeof(*run));
	if (ds->rec_len > room || ds->rec_len > UINT32_MAX ||
	    run_check(run, (uint32_t)ds->rec_len, &why))
		return false;
	if (run->n_prompt != ds->n_prompt || run->key != ds->key ||
	    run->model != ds->model || ds->n_out > ds->max_out ||
	    ds->n_out < run->n_done || ds->n_prefill > ds->n_prompt ||
	    (run->max_tokens != RING_MAX_TOKENS_CTX &&
	     run->max_tokens != ds->max_out))
		return false;
	if (run_lay(run, ds->n_vocab, ds->n_embd, ds->max_out, lay) ||
	    lay->bytes > room || lay->rec_len != ds->rec_len)
		return false;
	return run->prompt_off == lay->prompt_off &&
	       run->bias_off == lay->bias_off &&
	       run->stop_off == lay->stop_off &&
	       run->logits_off == lay->logits_off &&
	       run->done_off == lay->done_off &&
	       ds->out_off == (lay->out ? ds->rec_off + lay->out : 0) &&
	       ds->top_off == (lay->top ? ds->rec_off + lay->top : 0) &&
	       ds->logits_off ==
		       (lay->logits ? ds->rec_off + lay->logits : 0) &&
	       ds->embed_off == (lay->embed ? ds->rec_off + lay->embed : 0) &&
	       ds->sum_rec == session_sum(ds, s->d + ds->rec_off, ds->rec_len);
}

/* Are the tokens those that were put there? Leaves their sum in @r. */
static bool whole(struct req *r, const struct ring_slot *ds)
{
	const uint32_t n_top = r->run.n_top_logprobs;
	const struct ring_top *top = r->top;
	uint32_t i;

	r->sum = ds->sum_rec;
	for (i = 0; i < ds->n_out; i++) {
		r->sum = session_sum_token(r->sum, &r->out[i], top, n_top);
		top = top ? top + n_top : NULL;
	}
	return r->sum == ds->sum_out[ds->n_out & 1];
}

/* The extent cannot be trusted: nothing of the slot's output is offered. */
static void forget(struct ring_slot *ds)
{
	ds->rec_off = ds->rec_len = 0;
	ds->out_off = ds->top_off = ds->logits_off = ds->embed_off = 0;
	ds->n_out = ds->max_out = ds->n_prompt = ds->n_prefill = 0;
	ds->finish = RING_FIN_ERROR;
	ds->err = -EBADMSG;
}

/* Take the slot's extent, or drop its output. */
static bool claim(struct session *s, struct req *r, struct ring_slot *ds)
{
	struct run_layout lay;

	if (sound(s, ds, &r->run, &lay) &&
	    !arena_claim(&s->arena, ds->rec_off, lay.bytes)) {
		r->off = ds->rec_off;
		session_bind(r, &lay);
		if (whole(r, ds)) {
			r->has_extent = true;
			return true;
		}
		arena_free(&s->arena, r->off);
	}
	forget(ds);
	return false;
}

/* The last engine died of itself, in a step with this request. */
static void strike(struct ring_slot *ds)
{
	if (ds->step_alone)
		ds->n_strikes = ds->mark ? STRIKES : ds->n_strikes + 1;
	ds->mark = ds->step_to;
}

/* All of the slot but the state, then that: we may die here, too. */
static void put_slot(struct ring_slot *shared, const struct ring_slot *ds)
{
	struct ring_slot tmp = *ds;

	tmp.state = shared->state;
	memcpy(shared, &tmp, sizeof(tmp));
	__atomic_store_n(&shared->state, ds->state, __ATOMIC_RELEASE);
}

/* It is over; the client learns it from an entry, unless it has one. */
static void adopt_done(struct session *s, struct req *r, struct ring_slot *ds)
{
	bool posted = ds->state == RING_SLOT_DONE &&
		      (int32_t)(s->cq_tail - ds->cq_at) > 0;
	struct ring_cqe e = {
		.event = RING_EV_DONE,
		.slot = r->slot,
		.gen = ds->gen,
		.err = ds->err,
	};

	if (ds->err == -ENOTRECOVERABLE)
		e.reason = RING_KILLS_ENGINE;
	else if (ds->err == -EBADMSG)
		e.reason = RING_ENGINE_LOST;
	r->state = REQ_DONE;
	if (!posted)
		ds->cq_at = s->cq_tail;
	ds->state = RING_SLOT_DONE;
	put_slot(session_slot(r), ds);
	if (posted || s->bad)
		return;
	if (s->cq_tail - s->cq_head >= s->l.cq_entries) {
		s->bad = "completion queue of the last engine is full";
		return;
	}
	session_post(s, &e);
}

/* It goes on when its model is here. */
static void adopt_live(struct session *s, struct req *r, struct ring_slot *ds,
		       uint64_t now)
{
	r->state = REQ_WAITING;
	r->age = ds->t_submit_ns < now ? ds->t_submit_ns : now;
	r->n_prompt = ds->n_prompt;
	r->n_out = ds->n_out;
	r->max_out = ds->max_out;
	r->n_prefill = ds->n_prefill;
	r->started = ds->state == RING_SLOT_RUNNING;
	r->mark = ds->mark;
	s->n_live++;
	put_slot(session_slot(r), ds);
}

static void adopt(struct session *s, struct req *r, bool crashed, uint64_t now)
{
	struct ring_slot *shared = session_slot(r), ds = *shared;
	bool live = ds.state == RING_SLOT_QUEUED ||
		    ds.state == RING_SLOT_RUNNING;

	if (!live && ds.state != RING_SLOT_DONE) {
		__atomic_store_n(&shared->state, RING_SLOT_FREE,
				 __ATOMIC_RELEASE);
		return;
	}
	r->gen = ds.gen;
	if (live) {
		ds.n_restart++;
		if (crashed && ds.step_to)
			strike(&ds);
		ds.step_to = 0;
		if (ds.n_strikes >= STRIKES) {
			ds.finish = RING_FIN_ERROR;
			ds.err = -ENOTRECOVERABLE;
			live = false;
		}
		if (!ds.n_out)
			ds.t_last_ns = now;
	}
	if (claim(s, r, &ds) && live)
		adopt_live(s, r, &ds, now);
	else
		adopt_done(s, r, &ds);
}

static const struct ring_cqe *queue(const struct session *s)
{
	return (const struct ring_cqe *)(s->d + s->l.d_cq_off);
}

/* PROGRESS entries that the client has not read stand for what is live. */
static void find_posted(struct session *s)
{
	const struct ring_cqe *q = queue(s), *e;
	struct req *r;
	uint32_t i;

	for (i = s->cq_head; i != s->cq_tail; i++) {
		e = &q[i & (s->l.cq_entries - 1)];
		if (e->event != RING_EV_PROGRESS || e->slot >= s->l.n_slots)
			continue;
		r = &s->reqs[e->slot];
		if (r->state != REQ_WAITING || r->gen != e->gen)
			continue;
		if (!r->posted)
			s->n_posted++;
		r->posted = true;
		r->posted_at = i;
	}
}

/* Did the last engine answer the submission that it was at when it died? */
static bool answered(const struct session *s, const struct ring_cqe *q)
{
	uint32_t i = s->ring_d->taking_cq;

	if (s->cq_tail - i > s->l.cq_entries)
		return false;
	for (; i != s->cq_tail; i++)
		switch (q[i & (s->l.cq_entries - 1)].event) {
		case RING_EV_NOP:
		case RING_EV_REFUSED:
			return true;
		}
	return false;
}

/* An engine that dies at a submission leaves it to the next one. */
static void find_replay(struct session *s, bool crashed)
{
	struct ring_d *rd = s->ring_d;

	if (rd->taking_sq != s->sq_head)
		return;
	if (answered(s, queue(s))) {
		session_taken(s);
		return;
	}
	s->replay = true;
	if (crashed)
		rd->taking_strikes++;
	s->poison = rd->taking_strikes >= STRIKES;
	/* What is posted until it is dealt with is no answer to it. */
	rd->taking_cq = s->cq_tail;
}

int session_recover(struct session *s, bool crashed, uint64_t now)
{
	const struct ring_d *rd = s->ring_d;
	uint32_t i;

	if (rd->magic != RING_MAGIC || rd->abi != RING_ABI)
		return -EBADMSG;
	s->sq_head = rd->sq_head;
	s->cq_tail = rd->cq_tail;
	s->cq_head = __atomic_load_n(&s->ring_c->cq_head, __ATOMIC_ACQUIRE);
	if (s->cq_tail - s->cq_head > s->l.cq_entries) {
		s->cq_head = s->cq_tail;
		s->bad = "completion index is out of range";
	}
	find_replay(s, crashed);
	for (i = 0; i < s->l.n_slots; i++)
		adopt(s, &s->reqs[i], crashed, now);
	find_posted(s);
	if (!s->bad && !session_fits(s))
		s->bad = "completion queue of the last engine is too full";
	/* The last engine may have died before it woke the client. */
	s->posted = true;
	__atomic_store_n(&s->ring_d->daemon_waiting, 0, __ATOMIC_RELAXED);
	return 0;
}

int session_resume(struct req *r, const struct run_limits *lim)
{
	const struct ring_slot *ds = session_slot(r);
	struct run_refusal why = { 0 };
	struct ring_run run = r->run;
	struct run_layout lay;
	uint32_t i, max_out;
	int err;

	if (ds->n_vocab != lim->n_vocab || ds->n_embd != lim->n_embd ||
	    run_lay(&run, lim->n_vocab, lim->n_embd, r->max_out, &lay) ||
	    run_check_arrays(r->s->d + r->off, &run, &lay, lim->n_vocab, &why))
		return -EBADMSG;
	for (i = 0; i < r->n_out; i++)
		if (r->out[i].token >= lim->n_vocab)
			return -EBADMSG;
	/* What "as many as the context takes" was stays what it was. */
	run.max_tokens = r->max_out;
	err = run_fit(&run, lim, &max_out, &why);
	if (err)
		return err;
	r->state = REQ_QUEUED;
	return 0;
}
