/* SPDX-License-Identifier: MIT */
/*
 * session.h - one client's rings, slots and arena, as the engine sees them.
 *
 * Nothing here waits, and nothing that the client can write is read twice: an
 * entry or a record is copied once, the copy is checked, and only the copy is
 * used. Indices, sizes and offsets are private; those in shared memory are
 * only ever published, never read back. (The exception is recover.c, which
 * reads the D of an engine that died, and checks that too.) session.c has the
 * queues, slot.c the slots.
 */
#ifndef HEARTH_SESSION_H
#define HEARTH_SESSION_H

#include "arena.h"
#include "mem.h"
#include "proc.h"
#include "req.h"

#define SESSION_BUDGET 32 /* submissions of a session in a turn */

/**
 * struct session - a session
 * @flow:    index of its uid's flow
 * @l:       layout, checked
 * @ring_c, @ring_d: first pages of C and D
 * @reqs:    private state of the slots
 * @sq_head: submissions taken
 * @cq_tail: completions posted
 * @cq_head: completions the client has consumed, as far as we have seen
 * @n_live:  requests queued or running
 * @n_posted: of them, those with an unconsumed PROGRESS entry
 * @n_refused: submissions refused since somebody last looked
 * @posted:  the completion queue grew since the client was last woken
 * @stalled: it cannot take the next submission: no room for the answer
 * @bad:     it broke the protocol, and why; @told: the monitor knows
 * @held:    taken over from a dead engine: no RUN is taken until @all_granted
 *           and all models granted are here
 * @replay:  a dead engine was at the next submission; @poison: two died of it
 * @grants:  models it may use
 */
struct session {
	uint64_t id;
	uint32_t uid;
	uint32_t flow;
	int event_fd;
	struct ring_layout l;
	unsigned char *c;
	unsigned char *d;
	struct ring_c *ring_c;
	struct ring_d *ring_d;
	struct ring_slot *slots;
	struct arena arena;
	struct req *reqs;
	uint32_t sq_head;
	uint32_t cq_tail;
	uint32_t cq_head;
	uint32_t n_live;
	uint32_t n_posted;
	uint32_t n_refused;
	bool posted;
	bool stalled;
	bool held;
	bool all_granted;
	bool replay;
	bool poison;
	const char *bad;
	bool told;
	uint32_t n_grants;
	uint64_t grants[WIRE_MAX_MODELS];
	struct session *next;
};

/* What a submission wants from the engine. */
enum session_want {
	SESSION_NOTHING, /* the queue is empty, stalled or broken */
	SESSION_HANDLED, /* one submission was dealt with here */
	SESSION_RUN,	 /* look at @run, then session_accept() or _refuse() */
	SESSION_CANCEL,	 /* @req */
	SESSION_RELEASE, /* @req, if it is still live: stop it first */
};

struct session_cmd {
	enum session_want want;
	struct ring_sqe sqe;
	struct ring_run run;
	struct req *req;
};

/**
 * session_new() - attach a session's memories
 * @c, @d: borrowed; their sizes are those of ps->layout
 * Return: 0, -EINVAL for a layout that cannot be, -ENOMEM, -EBADMSG when the
 * D of a dead engine makes no sense.
 */
int session_new(struct session **out, const struct mem *mem,
		const struct proc_session *ps, void *c, void *d, int event_fd,
		uint64_t now);
void session_free(struct session *s, const struct mem *mem);

bool session_granted(const struct session *s, uint64_t model);
int session_grant(struct session *s, uint64_t model);
void session_revoke(struct session *s, uint64_t model);

/* Take one submission. */
enum session_want session_take(struct session *s, struct session_cmd *cmd);

/* The submission of @cmd is dealt with: the client may reuse its entry. */
void session_taken(struct session *s);

/**
 * session_accept() - make a request of a SESSION_RUN
 * Copies record and arrays to D and publishes the slot as queued. Return: 0,
 * or -errno after having posted the refusal.
 */
int session_accept(struct session *s, const struct session_cmd *cmd,
		   const struct run_limits *lim, uint64_t now,
		   struct req **out);
void session_refuse(struct session *s, const struct session_cmd *cmd,
		    const struct run_refusal *why);

/*
 * Around a step that computes r->n_now more positions of the request: so that
 * the next engine knows where this one died, and who was there.
 */
void session_stepping(struct req *r, bool alone, uint64_t now);
void session_stepped(struct req *r);

/* State of a request, as the client sees it. */
void session_token(struct req *r, const struct ring_token *t,
		   const struct ring_top *top, uint64_t now);
void session_prefilled(struct req *r);

/* There is something new to read; posts an entry if none is unread. */
void session_progress(struct req *r);
void session_finish(struct req *r, enum ring_finish how, int err,
		    enum ring_refusal reason, uint64_t now);
void session_release(struct req *r);

/* Best effort: a model that the session may use came or went. */
void session_model_event(struct session *s, uint64_t model, int err);

/* Is there a submission that it could take? */
bool session_ready(struct session *s);

/* Bits of RING_WAIT_* by which the client waits for what was posted. */
uint32_t session_wake(struct session *s);

/* Announce sleep (no fence: one for all sessions comes from the caller). */
void session_sleep(struct session *s, bool on);

/**
 * session_recover() - recover.c: take over D from an engine that died
 * @crashed: it died of itself
 * What was done stays done, what was live waits for its model.
 */
int session_recover(struct session *s, bool crashed, uint64_t now);

/**
 * session_resume() - the model of a request in REQ_WAITING is here
 * Return: 0, it is QUEUED and goes on where it was; -EBADMSG when what was
 * left of it does not fit the model; -EMSGSIZE or -ENOMEM when the model is
 * not what it was.
 */
int session_resume(struct req *r, const struct run_limits *lim);

struct ring_slot *session_slot(const struct req *r);
void session_post(struct session *s, const struct ring_cqe *e);
/* Do the unread entries, and those there must be room for, fit the queue? */
bool session_fits(const struct session *s);
/* Point the request at its parts in D. */
void session_bind(struct req *r, const struct run_layout *lay);
/* Sums of a record with what the slot says of it, and of one more token. */
uint64_t session_sum(const struct ring_slot *ds, const void *rec, uint64_t len);
uint64_t session_sum_token(uint64_t sum, const struct ring_token *t,
			   const struct ring_top *top, uint32_t n_top);

#endif
