/* SPDX-License-Identifier: MIT */
/*
 * recover.c - a session that outlived its engine.
 *
 * D was written by the engine that died and by nobody else, but it may have
 * died in the middle of a store sequence, or because it was broken: whatever
 * disagrees is dropped, and the client is told, never believed. Queues go on
 * at the indices they had. What was running ends with -ENOTCONN, and its
 * tokens stay readable; what was done stays until the client releases it.
 */
#include "session.h"

#include <errno.h>
#include <string.h>

/* Is the slot's description of its extent the one we would have made? */
static bool sound(const struct session *s, const struct ring_slot *ds,
		  struct run_layout *lay)
{
	struct run_refusal why;
	struct ring_run run;
	uint64_t room;

	if (ds->rec_off % ARENA_ALIGN || ds->rec_off < s->arena.start ||
	    ds->rec_off > s->arena.end)
		return false;
	room = s->arena.end - ds->rec_off;
	if (room < sizeof(run))
		return false;
	memcpy(&run, s->d + ds->rec_off, sizeof(run));
	if (ds->rec_len > room || ds->rec_len > UINT32_MAX ||
	    run_check(&run, (uint32_t)ds->rec_len, &why))
		return false;
	if (run.n_prompt != ds->n_prompt || run.key != ds->key ||
	    run.model != ds->model || ds->n_out > ds->max_out ||
	    ds->n_prefill > ds->n_prompt ||
	    (run.max_tokens != RING_MAX_TOKENS_CTX &&
	     run.max_tokens != ds->max_out))
		return false;
	if (run_lay(&run, ds->n_vocab, ds->n_embd, ds->max_out, lay) ||
	    lay->bytes > room || lay->rec_len != ds->rec_len)
		return false;
	return run.prompt_off == lay->prompt_off &&
	       run.bias_off == lay->bias_off && run.stop_off == lay->stop_off &&
	       run.logits_off == lay->logits_off &&
	       ds->out_off == (lay->out ? ds->rec_off + lay->out : 0) &&
	       ds->top_off == (lay->top ? ds->rec_off + lay->top : 0) &&
	       ds->logits_off ==
		       (lay->logits ? ds->rec_off + lay->logits : 0) &&
	       ds->embed_off == (lay->embed ? ds->rec_off + lay->embed : 0);
}

/* The extent cannot be trusted: nothing of the slot's output is offered. */
static void forget(struct ring_slot *ds)
{
	ds->rec_off = ds->rec_len = 0;
	ds->out_off = ds->top_off = ds->logits_off = ds->embed_off = 0;
	ds->n_out = ds->max_out = ds->n_prompt = ds->n_prefill = 0;
	ds->finish = RING_FIN_ERROR;
	ds->err = -EIO;
}

static void adopt(struct session *s, struct req *r, uint64_t now)
{
	struct ring_slot *shared = session_slot(r), ds = *shared;
	bool live = ds.state == RING_SLOT_QUEUED ||
		    ds.state == RING_SLOT_RUNNING;
	struct run_layout lay;
	struct ring_cqe e;

	if (!live && ds.state != RING_SLOT_DONE) {
		__atomic_store_n(&shared->state, RING_SLOT_FREE,
				 __ATOMIC_RELEASE);
		return;
	}
	r->state = REQ_DONE;
	r->gen = ds.gen;
	if (live) {
		ds.finish = RING_FIN_ERROR;
		ds.err = -ENOTCONN;
		ds.n_restart++;
		if (!ds.n_out)
			ds.t_last_ns = now;
	}
	if (sound(s, &ds, &lay) &&
	    !arena_claim(&s->arena, ds.rec_off, lay.bytes)) {
		r->off = ds.rec_off;
		r->has_extent = true;
	} else {
		forget(&ds);
	}
	/* A final entry that is behind the tail has been posted already. */
	if (!live && (int32_t)(s->cq_tail - ds.cq_at) > 0) {
		*shared = ds;
		return;
	}
	ds.cq_at = s->cq_tail;
	ds.state = RING_SLOT_DONE;
	*shared = ds;
	if (s->bad)
		return;
	if (s->cq_tail - s->cq_head >= s->l.cq_entries) {
		s->bad = "completion queue of the last engine is full";
		return;
	}
	memset(&e, 0, sizeof(e));
	e.event = RING_EV_DONE;
	e.reason = live ? RING_ENGINE_LOST : RING_OK;
	e.err = ds.err;
	e.slot = r->slot;
	e.gen = r->gen;
	session_post(s, &e);
}

int session_recover(struct session *s, uint64_t now)
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
	s->replay = rd->taking_sq == s->sq_head;
	s->answered = s->replay && rd->taking_cq != s->cq_tail;
	for (i = 0; i < s->l.n_slots; i++)
		adopt(s, &s->reqs[i], now);
	__atomic_store_n(&s->ring_d->daemon_waiting, 0, __ATOMIC_RELAXED);
	return 0;
}
