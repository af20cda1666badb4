/* SPDX-License-Identifier: MIT */
/* request.c - requests: into the ring, out of it, and back to the slot. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"

_Static_assert(sizeof(struct hearth_bias) == sizeof(struct ring_bias), "bias");
_Static_assert(sizeof(struct hearth_top) == sizeof(struct ring_top), "top");
_Static_assert((int)HEARTH_FINISH_DONE == (int)RING_FIN_DONE, "finish");

/* ------------------------------------------------------------------ slots */

uint64_t req_id(const struct req *r)
{
	return (uint64_t)r->gen << 32 | r->slot;
}

struct req *req_find(struct hearth *h, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct req *r;

	if (slot >= h->n_slots)
		return NULL;
	r = &h->req[slot];
	if (r->state == REQ_FREE || r->release ||
	    r->gen != (uint32_t)(id >> 32))
		return NULL;
	return r;
}

static const struct ring_slot *slot_in(const struct mem *mem,
				       const struct req *r)
{
	const struct ring_slot *s;

	if (!mem || r->slot >= mem->lay.n_slots)
		return NULL;
	s = (const struct ring_slot *)(const void *)(mem->d +
						     mem->lay.d_slot_off) +
	    r->slot;
	/* the engine frees a slot before it gives it a new generation, and
	 * sets the state last */
	if (__atomic_load_n(&s->gen, __ATOMIC_ACQUIRE) != r->gen)
		return NULL;
	if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == RING_SLOT_FREE)
		return NULL;
	return s;
}

const struct ring_slot *req_slot(const struct req *r)
{
	if (r->refused && r->mem == r->run)
		return NULL;
	return slot_in(r->mem, r);
}

const struct ring_slot *req_run_slot(const struct req *r)
{
	return r->refused ? NULL : slot_in(r->run ? r->run : r->mem, r);
}

const void *req_range(const struct mem *mem, uint64_t off, uint64_t n,
		      uint64_t size)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || off & 3 ||
	    off < mem->lay.d_arena_off || off > mem->lay.d_bytes ||
	    bytes > mem->lay.d_bytes - off)
		return NULL;
	return mem->d + off;
}

static const struct ring_token *tokens_in(const struct mem *mem,
					  const struct ring_slot *s)
{
	return req_range(mem, s->out_off, s->max_out,
			 sizeof(struct ring_token));
}

static uint32_t n_out_in(const struct ring_slot *s)
{
	uint32_t n = __atomic_load_n(&s->n_out, __ATOMIC_ACQUIRE);

	return n > s->max_out ? s->max_out : n;
}

const struct ring_token *req_tokens(const struct req *r)
{
	const struct ring_slot *s = req_slot(r);

	return s ? tokens_in(r->mem, s) : NULL;
}

uint32_t req_n_out(const struct req *r)
{
	const struct ring_slot *s = req_slot(r);
	uint32_t n;

	if (!s)
		return 0;
	n = n_out_in(s);
	/* the engine of a dead daemon may go on for a moment: the next daemon
	 * was told of these */
	if (r->run != r->mem && n > r->n_done)
		n = r->n_done;
	if (r->cut && n > r->n_shown)
		n = r->n_shown;
	return n;
}

struct req *req_take(struct hearth *h)
{
	uint32_t n = h->n_slots;
	struct req *r;
	uint32_t i;

	if (h->mem && h->mem->lay.n_slots < n)
		n = h->mem->lay.n_slots;
	for (i = 0; i < n; i++) {
		r = &h->req[(h->next_slot + i) % n];
		if (r->state == REQ_FREE) {
			h->next_slot = r->slot + 1;
			return r;
		}
	}
	return NULL;
}

void req_begin(struct hearth *h, struct req *r)
{
	r->state = REQ_LIVE;
	r->live_at = h->n_live;
	h->live[h->n_live++] = r->slot;
}

/* Out of the list of slots that may still have events. */
static void unlist(struct hearth *h, struct req *r)
{
	uint32_t last = h->live[--h->n_live];

	h->live[r->live_at] = last;
	h->req[last].live_at = r->live_at;
}

static void drop_record(struct req *r)
{
	free(r->rec);
	r->rec = NULL;
	r->rec_n = 0;
}

static void unnote(struct hearth *h, bool *flag)
{
	h->n_deferred -= *flag;
	*flag = false;
}

static void note(struct hearth *h, bool *flag)
{
	h->n_deferred += !*flag;
	*flag = true;
}

void req_over(struct hearth *h, struct req *r)
{
	unlist(h, r);
	drop_record(r);
	r->state = REQ_OVER;
}

void req_end(struct hearth *h, struct req *r, uint32_t fin, int err,
	     const char *why)
{
	unnote(h, &r->again);
	unnote(h, &r->cancel);
	r->fin = fin;
	if (fin == RING_FIN_ERROR) {
		r->lost = true;
		r->err = err;
		r->why = why;
	}
	r->state = REQ_ENDED;
}

void req_gc(struct hearth *h)
{
	struct mem **p = &h->old;
	struct mem *mem;
	uint32_t i;

	while ((mem = *p)) {
		for (i = 0; i < h->n_slots; i++)
			if (h->req[i].mem && h->req[i].mem_lo <= mem->no &&
			    mem->no <= h->req[i].mem_hi)
				break;
		if (i < h->n_slots) {
			p = &mem->next;
			continue;
		}
		*p = mem->next;
		mem_free(mem);
	}
}

/* The slot is nobody's any more. Its generation stays: it is never reused. */
void req_forget(struct hearth *h, struct req *r)
{
	uint32_t slot = r->slot;
	uint32_t gen = r->gen;

	if (r->state == REQ_LIVE || r->state == REQ_ENDED)
		unlist(h, r);
	unnote(h, &r->again);
	unnote(h, &r->cancel);
	unnote(h, &r->release);
	stop_fini(&r->stop);
	model_put(r->model);
	drop_record(r);
	memset(r, 0, sizeof(*r));
	r->slot = slot;
	r->gen = gen;
	if (h->old)
		req_gc(h);
}

/* ------------------------------------------------- cancelling, releasing */

/* Send CANCEL or RELEASE; a full queue leaves a note for req_flush(). */
static int tell(struct hearth *h, struct req *r, enum ring_op op)
{
	struct ring_sqe e = {
		.op = (uint16_t)op,
		.slot = r->slot,
		.gen = r->gen,
	};

	return cring_push(h, &e);
}

void req_cancel(struct hearth *h, struct req *r)
{
	if (r->state != REQ_LIVE || r->cancelled)
		return;
	/* no daemon has it */
	if (r->again) {
		req_end(h, r, RING_FIN_CANCEL, 0, NULL);
		return;
	}
	if (tell(h, r, RING_OP_CANCEL) == -EAGAIN) {
		note(h, &r->cancel);
		return;
	}
	unnote(h, &r->cancel);
	r->cancelled = true;
}

/* Give the slot back to the engine and then to the next request. RELEASE
 * stops what still runs, and what is left of it in the completion queue has
 * another generation than the next request in the slot. */
void req_release(struct hearth *h, struct req *r)
{
	unnote(h, &r->cancel);
	unnote(h, &r->again);
	if (!r->refused && r->run && r->run == h->mem && !h->lost &&
	    tell(h, r, RING_OP_RELEASE) == -EAGAIN) {
		note(h, &r->release);
		return;
	}
	req_forget(h, r);
}

/* ---------------------------------------------------------------- sending */

/* The record as the daemon of today gets it: with its number of the model,
 * and with the tokens that one before has given. */
static void write_run(uint8_t *to, const struct req *r, uint32_t model,
		      uint32_t n_done)
{
	struct ring_run run;

	memcpy(to, r->rec, r->rec_n);
	memcpy(&run, r->rec, sizeof(run));
	run.model = model;
	if (n_done) {
		run.n_done = n_done;
		run.done_off = (uint32_t)r->rec_n;
		memcpy(to + r->rec_n, req_tokens(r),
		       n_done * sizeof(struct ring_token));
	}
	memcpy(to, &run, sizeof(run));
}

static bool as_many_as_fit(const struct req *r)
{
	struct ring_run run;

	memcpy(&run, r->rec, sizeof(run));
	return run.max_tokens == RING_MAX_TOKENS_CTX;
}

/* Is there something that no daemon of today can do? */
static const char *hopeless(const struct hearth *h, const struct req *r,
			    const struct link_model *e)
{
	if (!e)
		return "not enough memory to submit the request again";
	if (e->why[0])
		return e->why;
	if (r->slot >= h->mem->lay.n_slots)
		return "the daemon was restarted and allows fewer requests "
		       "on a connection";
	/* another length, another answer */
	if (r->n_again && e->n_ctx && e->n_ctx != r->model->info.n_ctx &&
	    as_many_as_fit(r))
		return "the daemon was restarted and the model's context has "
		       "another length now";
	return NULL;
}

int req_push(struct hearth *h, struct req *r)
{
	struct link_model *e = link_model(h, r->model);
	struct ring_sqe q = { .op = RING_OP_RUN,
			      .slot = r->slot,
			      .gen = r->gen };
	uint32_t n_done = r->n_top ? 0 : r->n_done;
	const char *why;
	int err;

	if (!h->mem || h->link.state != LINK_UP) {
		note(h, &r->again);
		return -EAGAIN;
	}
	why = hopeless(h, r, e);
	if (why) {
		req_end(h, r, RING_FIN_ERROR, -ECONNRESET, why);
		return -ECONNRESET;
	}
	if (n_done && !req_tokens(r))
		n_done = 0;
	q.len = (uint32_t)(r->rec_n + n_done * sizeof(struct ring_token));
	err = cring_alloc(h, q.len, &q.off);
	/* too much together: the daemon finds the same tokens again */
	if (err == -E2BIG && n_done) {
		n_done = 0;
		q.len = (uint32_t)r->rec_n;
		err = cring_alloc(h, q.len, &q.off);
	}
	if (err == -EAGAIN)
		err_set(h, err,
			"the requests before this one have not "
			"been read yet");
	if (!err) {
		write_run(h->mem->c + q.off, r, e->id, n_done);
		err = cring_push(h, &q);
		if (err == -EAGAIN)
			err_set(h, err,
				"the submission queue is full (%u entries)",
				h->mem->lay.sq_entries);
	}
	if (err == -E2BIG)
		req_end(h, r, RING_FIN_ERROR, -E2BIG,
			"the daemon was restarted and its sessions have no "
			"room for this request");
	if (err)
		return err;
	cring_commit(h);
	unnote(h, &r->again);
	if (!h->link.path)
		drop_record(r);
	r->run = h->mem;
	r->mem_hi = h->mem->no;
	if (!r->mem) {
		r->mem = h->mem;
		r->mem_lo = h->mem->no;
	}
	return 0;
}

void req_flush(struct hearth *h)
{
	struct req *r;
	uint32_t i;

	for (i = 0; h->n_deferred && i < h->n_slots; i++) {
		r = &h->req[i];
		if (r->state != REQ_FREE && r->release)
			req_release(h, r);
		else if (r->state == REQ_LIVE && r->again)
			req_push(h, r);
		else if (r->state == REQ_LIVE && r->cancel)
			req_cancel(h, r);
	}
}

/* ------------------------------------------------------- another daemon's */

static bool said_all(const struct ring_slot *s)
{
	return s->finish != RING_FIN_ERROR && s->finish != RING_FIN_CANCEL;
}

void req_settle(struct req *r)
{
	const struct ring_token *a;
	const struct ring_token *b;
	const struct ring_slot *s;
	bool done;
	uint32_t n;
	uint32_t i;

	if (!r->run || r->run == r->mem || r->refused || r->lost)
		return;
	s = slot_in(r->run, r);
	if (!s)
		return;
	done = __atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == RING_SLOT_DONE;
	n = n_out_in(s);
	/* results of the prompt are there with the first new token only */
	if (done ? n < r->n_done && !said_all(s) : n <= r->n_done)
		return;
	a = req_tokens(r);
	b = tokens_in(r->run, s);
	for (i = 0; a && b && i < r->n_done && i < n; i++)
		if (a[i].token != b[i].token)
			break;
	if (i < r->n_done) {
		r->lost = true;
		r->err = -ECONNRESET;
		r->why = "the daemon was restarted and the answer came out "
			 "differently";
		r->state = REQ_ENDED;
		return;
	}
	r->mem = r->run;
}

/* Has it all its tokens, though nobody has said so yet? */
static bool is_full(const struct req *r)
{
	const struct ring_slot *s = req_slot(r);
	struct ring_run run;

	memcpy(&run, r->rec, sizeof(run));
	if (!s || !r->n_done || !run.max_tokens)
		return false;
	return r->n_done >= (run.max_tokens == RING_MAX_TOKENS_CTX
				     ? s->max_out
				     : run.max_tokens);
}

void req_orphan(struct hearth *h, struct req *r)
{
	const struct ring_slot *s;

	if (r->state != REQ_FREE && r->release) {
		req_forget(h, r);
		return;
	}
	if (r->state != REQ_LIVE || r->again)
		return;
	req_settle(r);
	s = slot_in(r->run, r);
	if (r->state == REQ_ENDED ||
	    (s &&
	     __atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == RING_SLOT_DONE)) {
		/* it was finished and only the word of it is missing */
		unnote(h, &r->cancel);
		r->state = REQ_ENDED;
		return;
	}
	if (r->run == r->mem)
		r->n_done = req_n_out(r);
	r->run = NULL;
	if (!r->n_done)
		r->mem = NULL;
	if (r->cut)
		req_end(h, r, RING_FIN_STOP, 0, NULL);
	else if (r->cancel || r->cancelled)
		req_end(h, r, RING_FIN_CANCEL, 0, NULL);
	else if (is_full(r))
		req_end(h, r, RING_FIN_LENGTH, 0, NULL);
	else if (r->n_again++ >= h->link.max_again)
		req_end(h, r, RING_FIN_ERROR, -ECONNRESET,
			"the daemon died again while this ran, so it is not "
			"submitted once more");
	else
		note(h, &r->again);
}

/* ------------------------------------------------------------- completion */

void req_complete(struct hearth *h, const struct ring_cqe *e)
{
	struct req *r;

	if (e->event == RING_EV_NOP) {
		if (e->arg == h->nop_seen + 1 && e->arg <= h->nop_sent)
			h->nop_seen = e->arg;
		else if (e->arg > h->nop_given_up)
			h->nop_wrong++;
		return;
	}
	if ((e->event != RING_EV_DONE && e->event != RING_EV_REFUSED) ||
	    e->slot >= h->n_slots)
		return;
	r = &h->req[e->slot];
	if (r->gen != e->gen || r->state != REQ_LIVE || r->run != h->mem)
		return;
	r->state = REQ_ENDED;
	if (e->event == RING_EV_REFUSED) {
		r->refused = true;
		r->err = e->err < 0 ? e->err : -EIO;
		r->reason = e->reason;
		r->arg = e->arg;
		r->limit = e->limit;
	}
}

/* ------------------------------------------------------- by number, public */

static struct req *find(struct hearth *h, uint64_t id)
{
	struct req *r = req_find(h, id);

	if (!r)
		err_set(h, -ENOENT, "no request %llu on this connection",
			(unsigned long long)id);
	return r;
}

int hearth_cancel(struct hearth *h, uint64_t id)
{
	struct req *r = find(h, id);

	if (!r)
		return -ENOENT;
	req_cancel(h, r);
	return 0;
}

int hearth_release(struct hearth *h, uint64_t id)
{
	struct req *r = find(h, id);

	if (!r)
		return -ENOENT;
	req_release(h, r);
	return 0;
}
