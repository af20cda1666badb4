/* SPDX-License-Identifier: MIT */
/* session.c - one client's rings: snapshot, check, answer. */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static uint32_t load_relaxed(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static uint32_t load_acquire(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store_release(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static void fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static bool pow2(uint32_t n)
{
	return n && !(n & (n - 1));
}

/* Does [off, off + n * size) start aligned, after @from, and end by @to? */
static bool within(uint64_t off, uint64_t n, uint64_t size, uint64_t from,
		   uint64_t to)
{
	return off % 64 == 0 && off >= from && off <= to &&
	       n * size <= to - off;
}

static bool layout_ok(const struct ring_layout *l)
{
	return pow2(l->sq_entries) && l->sq_entries <= 65536 &&
	       pow2(l->cq_entries) && l->cq_entries <= 65536 && l->n_slots &&
	       l->n_slots <= RING_MAX_SLOTS &&
	       l->cq_entries >= 4 * l->n_slots && !l->resv &&
	       l->c_bytes <= RING_MAX_C_BYTES &&
	       l->d_bytes <= RING_MAX_D_BYTES &&
	       within(l->c_sq_off, l->sq_entries, RING_ENTRY_BYTES,
		      sizeof(struct ring_c), l->c_bytes) &&
	       within(l->c_data_off, 0, 1,
		      l->c_sq_off + l->sq_entries * RING_ENTRY_BYTES,
		      l->c_bytes) &&
	       within(l->d_cq_off, l->cq_entries, RING_ENTRY_BYTES,
		      sizeof(struct ring_d), l->d_bytes) &&
	       within(l->d_slot_off, l->n_slots, sizeof(struct ring_slot),
		      l->d_cq_off + l->cq_entries * RING_ENTRY_BYTES,
		      l->d_bytes) &&
	       within(l->d_arena_off, 0, 1,
		      l->d_slot_off + l->n_slots * sizeof(struct ring_slot),
		      l->d_bytes);
}

/* A new D: everything zero but what says so. */
static void init_d(struct session *s, const struct proc_session *ps)
{
	memset(s->ring_d, 0, sizeof(*s->ring_d));
	memset(s->slots, 0, s->l.n_slots * sizeof(*s->slots));
	/* Not an entry that an engine is at. */
	s->ring_d->taking_sq = UINT32_MAX;
	s->ring_d->abi = RING_ABI;
	s->ring_d->epoch = ps->epoch;
	store_release(&s->ring_d->magic, RING_MAGIC);
}

int session_new(struct session **out, const struct mem *mem,
		const struct proc_session *ps, void *c, void *d, int event_fd,
		uint64_t now)
{
	struct session *s;
	uint32_t i;
	int err;

	*out = NULL;
	if (!layout_ok(&ps->layout))
		return -EINVAL;
	s = mem_alloc(mem, 1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->id = ps->id;
	s->uid = ps->uid;
	s->l = ps->layout;
	s->c = c;
	s->d = d;
	s->ring_c = c;
	s->ring_d = d;
	s->event_fd = event_fd;
	s->slots = (struct ring_slot *)(s->d + s->l.d_slot_off);
	err = -ENOMEM;
	s->reqs = mem_alloc(mem, s->l.n_slots, sizeof(*s->reqs));
	if (!s->reqs)
		goto fail;
	for (i = 0; i < s->l.n_slots; i++) {
		s->reqs[i].s = s;
		s->reqs[i].slot = i;
		s->reqs[i].seq = -1;
	}
	err = arena_init(&s->arena, mem, s->l.d_arena_off, s->l.d_bytes,
			 s->l.n_slots);
	if (err)
		goto fail;
	if (ps->flags & PROC_SESSION_RECOVER) {
		err = session_recover(s, ps->flags & PROC_SESSION_CRASHED, now);
		if (err)
			goto fail;
		s->ring_d->epoch = ps->epoch;
		s->held = true;
	} else {
		init_d(s, ps);
	}
	*out = s;
	return 0;
fail:
	session_free(s, mem);
	return err;
}

void session_free(struct session *s, const struct mem *mem)
{
	if (!s)
		return;
	arena_fini(&s->arena, mem);
	mem_free(mem, s->reqs);
	mem_free(mem, s);
}

bool session_granted(const struct session *s, uint64_t model)
{
	uint32_t i;

	for (i = 0; i < s->n_grants; i++)
		if (s->grants[i] == model)
			return true;
	return false;
}

int session_grant(struct session *s, uint64_t model)
{
	if (session_granted(s, model))
		return 0;
	if (s->n_grants == WIRE_MAX_MODELS)
		return -ENOSPC;
	s->grants[s->n_grants++] = model;
	return 0;
}

void session_revoke(struct session *s, uint64_t model)
{
	uint32_t i;

	for (i = 0; i < s->n_grants; i++) {
		if (s->grants[i] == model) {
			s->grants[i] = s->grants[--s->n_grants];
			return;
		}
	}
}

/*
 * Completion queue. Room is kept for one final entry of each live request and
 * for one progress entry of each that has none unread; what else is posted
 * (answers to NOP, refusals) needs room beyond that, or waits.
 */
static uint32_t cq_kept(const struct session *s)
{
	return 2 * s->n_live - s->n_posted;
}

static uint32_t cq_free(const struct session *s)
{
	return s->l.cq_entries - (s->cq_tail - s->cq_head);
}

bool session_fits(const struct session *s)
{
	return s->cq_tail - s->cq_head + cq_kept(s) <= s->l.cq_entries;
}

static struct ring_cqe *cqe_at(const struct session *s, uint32_t i)
{
	return (struct ring_cqe *)(s->d + s->l.d_cq_off) +
	       (i & (s->l.cq_entries - 1));
}

static void broken(struct session *s, const char *why)
{
	if (!s->bad)
		s->bad = why;
}

/* Look how far the client has read; its progress entries may be posted anew. */
static void cq_look(struct session *s)
{
	uint32_t head = load_acquire(&s->ring_c->cq_head);
	const struct ring_cqe *e;
	struct req *r;

	if (head - s->cq_head > s->cq_tail - s->cq_head) {
		broken(s, "completion index is out of range");
		return;
	}
	for (; s->cq_head != head; s->cq_head++) {
		e = cqe_at(s, s->cq_head);
		if (e->event != RING_EV_PROGRESS || e->slot >= s->l.n_slots)
			continue;
		r = &s->reqs[e->slot];
		if (r->posted && r->posted_at == s->cq_head) {
			r->posted = false;
			s->n_posted--;
		}
	}
}

void session_post(struct session *s, const struct ring_cqe *e)
{
	assert(cq_free(s) > 0);
	*cqe_at(s, s->cq_tail) = *e;
	store_release(&s->ring_d->cq_tail, ++s->cq_tail);
	s->posted = true;
}

/* Is there room for @n entries beyond what is kept? */
static bool cq_room(struct session *s, uint32_t n)
{
	if (cq_free(s) >= cq_kept(s) + n)
		return true;
	cq_look(s);
	return !s->bad && cq_free(s) >= cq_kept(s) + n;
}

static bool sqe_clean(const struct ring_sqe *e)
{
	return !(e->resv[0] | e->resv[1] | e->resv[2] | e->resv[3]);
}

/* Completion entries that answering @e may need. */
static uint32_t answers(const struct session *s, const struct ring_sqe *e)
{
	if (e->op == RING_OP_RUN)
		return 2;
	if (e->op != RING_OP_CANCEL && e->op != RING_OP_RELEASE)
		return 1;
	return e->slot >= s->l.n_slots || e->flags || !sqe_clean(e);
}

static bool sq_look(struct session *s, uint32_t *n)
{
	*n = load_acquire(&s->ring_c->sq_tail) - s->sq_head;
	if (*n > s->l.sq_entries) {
		broken(s, "submission index is out of range");
		return false;
	}
	return *n > 0;
}

static void sq_snapshot(const struct session *s, struct ring_sqe *e)
{
	const unsigned char *q = s->c + s->l.c_sq_off;

	run_snapshot(e,
		     q + (size_t)(s->sq_head & (s->l.sq_entries - 1)) *
				     RING_ENTRY_BYTES,
		     sizeof(*e));
}

void session_taken(struct session *s)
{
	store_release(&s->ring_d->sq_head, ++s->sq_head);
	s->replay = s->poison = false;
}

void session_refuse(struct session *s, const struct session_cmd *cmd,
		    const struct run_refusal *why)
{
	struct ring_cqe e = {
		.event = RING_EV_REFUSED,
		.reason = why->reason,
		.err = why->err,
		.slot = cmd->sqe.slot,
		.gen = cmd->sqe.gen,
		.arg = why->arg,
		.limit = why->limit,
	};

	s->n_refused++;
	session_post(s, &e);
}

/* Did the engine that died deal with this entry before it could say so? */
static bool replayed(const struct session *s, const struct ring_sqe *e)
{
	const struct req *r;

	if (!s->replay)
		return false;
	if (e->op != RING_OP_RUN || e->slot >= s->l.n_slots)
		return false;
	r = &s->reqs[e->slot];
	return r->state != REQ_FREE && r->gen == e->gen;
}

/* No request is refused because its model is on the way to a new engine. */
static bool waits(const struct session *s, const struct ring_sqe *e)
{
	return s->held && e->op == RING_OP_RUN && !replayed(s, e);
}

/* Two engines died of themselves while they were at this entry. */
static void skip_poison(struct session *s, const struct session_cmd *cmd)
{
	struct run_refusal why;

	if (cmd->sqe.op != RING_OP_RUN)
		return;
	run_refuse(&why, RING_KILLS_ENGINE, -ENOTRECOVERABLE,
		   s->ring_d->taking_strikes, 1);
	session_refuse(s, cmd, &why);
}

/* The record of a RUN: where it is, and a copy of its fixed part. */
static int take_record(const struct session *s, struct session_cmd *cmd,
		       struct run_refusal *why)
{
	const struct ring_sqe *e = &cmd->sqe;

	if (e->slot >= s->l.n_slots)
		return run_refuse(why, RING_BAD_SLOT, -EINVAL, e->slot,
				  s->l.n_slots);
	if (s->reqs[e->slot].state != REQ_FREE)
		return run_refuse(why, RING_BAD_SLOT, -EBUSY, e->slot,
				  s->l.n_slots);
	if (e->off % 64 || e->off < s->l.c_data_off || e->off > s->l.c_bytes ||
	    e->len > s->l.c_bytes - e->off || e->len < sizeof(cmd->run))
		return run_refuse(why, RING_BAD_RECORD, -EINVAL, e->off,
				  s->l.c_bytes);
	run_snapshot(&cmd->run, s->c + e->off, sizeof(cmd->run));
	return run_check(&cmd->run, e->len, why);
}

static enum session_want take_slot(struct session *s, struct session_cmd *cmd)
{
	struct req *r;

	if (cmd->sqe.slot >= s->l.n_slots)
		return SESSION_NOTHING;
	r = &s->reqs[cmd->sqe.slot];
	if (r->state == REQ_FREE || r->gen != cmd->sqe.gen)
		return SESSION_HANDLED;
	cmd->req = r;
	if (cmd->sqe.op == RING_OP_RELEASE)
		return SESSION_RELEASE;
	return r->state == REQ_DONE ? SESSION_HANDLED : SESSION_CANCEL;
}

static enum session_want dispatch(struct session *s, struct session_cmd *cmd)
{
	struct run_refusal why;
	enum session_want want;
	struct ring_cqe nop = {
		.event = RING_EV_NOP,
		.slot = cmd->sqe.slot,
		.gen = cmd->sqe.gen,
		.arg = cmd->sqe.arg,
	};

	run_refuse(&why, RING_BAD_OP, -EINVAL, cmd->sqe.op, RING_OP_N - 1);
	if (cmd->sqe.op >= RING_OP_N || cmd->sqe.flags)
		goto refuse;
	run_refuse(&why, RING_BAD_RECORD, -EINVAL, RING_F_RESV, 0);
	if (!sqe_clean(&cmd->sqe))
		goto refuse;
	switch ((enum ring_op)cmd->sqe.op) {
	case RING_OP_NOP:
		session_post(s, &nop);
		return SESSION_HANDLED;
	case RING_OP_RUN:
		if (take_record(s, cmd, &why))
			goto refuse;
		return SESSION_RUN;
	case RING_OP_CANCEL:
	case RING_OP_RELEASE:
		want = take_slot(s, cmd);
		if (want != SESSION_NOTHING)
			return want;
		run_refuse(&why, RING_BAD_SLOT, -EINVAL, cmd->sqe.slot,
			   s->l.n_slots);
		goto refuse;
	case RING_OP_N:
		break;
	}
refuse:
	session_refuse(s, cmd, &why);
	return SESSION_HANDLED;
}

enum session_want session_take(struct session *s, struct session_cmd *cmd)
{
	uint32_t n, need;

	memset(cmd, 0, sizeof(*cmd));
	s->stalled = false;
	if (s->bad || !sq_look(s, &n))
		return SESSION_NOTHING;
	sq_snapshot(s, &cmd->sqe);
	if (waits(s, &cmd->sqe))
		return SESSION_NOTHING;
	need = answers(s, &cmd->sqe);
	if (need && !cq_room(s, need)) {
		s->stalled = !s->bad;
		return SESSION_NOTHING;
	}
	if (replayed(s, &cmd->sqe)) {
		cmd->want = SESSION_HANDLED;
	} else {
		if (!s->replay)
			s->ring_d->taking_strikes = 0;
		store_release(&s->ring_d->taking_cq, s->cq_tail);
		store_release(&s->ring_d->taking_sq, s->sq_head);
		if (s->poison) {
			cmd->want = SESSION_HANDLED;
			skip_poison(s, cmd);
		} else {
			cmd->want = dispatch(s, cmd);
		}
	}
	if (cmd->want == SESSION_HANDLED)
		session_taken(s);
	return cmd->want;
}

void session_progress(struct req *r)
{
	struct session *s = r->s;
	struct ring_cqe e = {
		.event = RING_EV_PROGRESS,
		.slot = r->slot,
		.gen = r->gen,
	};

	if (r->posted) {
		/* Pairs with the client's fence between cq_head and n_out. */
		fence();
		cq_look(s);
	}
	if (r->posted || s->bad)
		return;
	r->posted = true;
	r->posted_at = s->cq_tail;
	s->n_posted++;
	session_post(s, &e);
}

void session_model_event(struct session *s, uint64_t model, int err)
{
	struct ring_cqe e = {
		.event = RING_EV_MODEL,
		.err = err,
		.slot = (uint32_t)model,
	};

	if (!s->bad && cq_room(s, 2))
		session_post(s, &e);
}

bool session_ready(struct session *s)
{
	struct ring_sqe e;
	uint32_t n, need;

	if (s->bad || !sq_look(s, &n))
		return false;
	if (!s->stalled && !s->held)
		return true;
	sq_snapshot(s, &e);
	if (waits(s, &e))
		return false;
	need = answers(s, &e);
	return !need || cq_room(s, need);
}

uint32_t session_wake(struct session *s)
{
	if (!s->posted)
		return 0;
	s->posted = false;
	/* Pairs with the client's, between client_waiting and cq_tail. */
	fence();
	return load_relaxed(&s->ring_c->client_waiting) &
	       (RING_WAIT_FUTEX | RING_WAIT_EVENTFD);
}

void session_sleep(struct session *s, bool on)
{
	__atomic_store_n(&s->ring_d->daemon_waiting, on, __ATOMIC_RELAXED);
}
