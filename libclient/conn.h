/* SPDX-License-Identifier: MIT */
/*
 * conn.h - a connection as the files of libhearth share it: the socket, the
 * client's half of the rings, and one struct req a slot.
 *
 * D is written by the daemon. It is not hostile, but nothing read from it is
 * used as an offset, count or index before it was compared with the layout
 * that the handshake fixed (private copy in struct hearth).
 */
#ifndef HEARTH_CONN_H
#define HEARTH_CONN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/hearth.h"
#include "lib.h"
#include "ring.h"
#include "stop.h"
#include "wire.h"

#define CONN_ERR	  512
#define CONN_HANDSHAKE_MS 10000
#define CONN_ANSWER_MS	  30000
/* A sleeper looks at the socket after so long, then after twice as long, ... */
#define CONN_ALIVE_MIN_MS 20
#define CONN_ALIVE_MS	  500
#define CONN_PING_MS	  60000
#define CONN_EVENT_TOKENS 1024 /* tokens in one event at most */

enum req_state {
	REQ_FREE,
	REQ_LIVE,  /* submitted, no final completion yet */
	REQ_ENDED, /* final completion seen, final event not yet given out */
	REQ_OVER,  /* final event given out; results stay until release */
};

/**
 * struct mem - the memory of one session, as it is mapped here
 *
 * When the daemon dies its session's memory stays mapped as long as a request
 * that was in it has not been released.
 * @no:   counts the sessions of a connection from 1 on
 * @lay:  layout agreed in the handshake: the only sizes ever used
 * @c:    NULL once the session is over
 * @owns: C and D are unmapped at the end
 */
struct mem {
	struct mem *next;
	uint64_t no;
	struct ring_layout lay;
	uint8_t *c;
	const uint8_t *d;
	struct ring_c *rc;
	const struct ring_d *rd;
	bool owns;
};

/* The way to the daemon. */
enum link_state {
	LINK_UP,
	LINK_WAIT,   /* it is gone: until it is time to try again */
	LINK_HELLO,  /* connected, waiting for SESSION */
	LINK_MAPPED, /* waiting for READY */
	LINK_LIST,   /* waiting for the list of models */
	LINK_MODEL,  /* waiting for a model to be opened again */
};

/**
 * struct link_model - a model as the daemon of today knows it
 * @id:    its number there
 * @n_ctx: the context it has there, 0: as the model says
 * @why:   empty; or why the daemon that came last does not have it
 */
struct link_model {
	struct link_model *next;
	struct hearth_model *m;
	uint32_t id;
	uint32_t n_ctx;
	char why[CONN_ERR / 2];
};

/**
 * struct link - how to come back to a daemon after a death
 * @path:    the socket; NULL: never
 * @uid:     whose daemon it was: no other gets our prompts
 * @bound_ms: give up so long after the death
 * @max_again: requests are submitted to another daemon so often
 * @n:       sessions so far
 * @t_down_ns, @t_try_ns, @t_end_ns: of this death, the next attempt, the last
 * @t_heard_ns: when the daemon last said something about a model
 * @wait_ms: back-off before jitter
 * @next:    session memory of the handshake under way
 * @models:  what has been opened on this connection and is still used
 * @at:      which of them is being opened
 * @step:    and which way: enum in link.c
 * @rnd:     of the jitter
 * @list:    models of the new daemon, once asked for
 */
struct link {
	enum link_state state;
	char *path;
	uint32_t uid;
	uint32_t bound_ms;
	uint32_t max_again;
	uint64_t n;
	uint64_t t_down_ns;
	uint64_t t_try_ns;
	uint64_t t_end_ns;
	uint64_t t_heard_ns;
	uint32_t wait_ms;
	uint64_t rnd;
	struct wire_hello hello;
	struct mem *next;
	struct link_model *models;
	struct link_model *at;
	int step;
	struct wire_model *list;
	uint32_t n_list;
	char why[CONN_ERR];
};

/**
 * struct model_source - where a model came from, to open it again
 * @n_files: files, as they were opened with the caller's rights
 * @loaded:  the daemon got these very files; else they are only those that the
 *           model's name means
 */
struct model_source {
	uint32_t n_files;
	bool loaded;
	struct wire_load load;
	int fd[WIRE_MAX_FDS];
};

/**
 * struct req - one slot as this side sees it
 * @mem:      where its results are; NULL before it was sent
 * @run:      where it runs: @mem, or the next daemon's session while its
 *            answer there is not longer than what @mem has; NULL: to be sent
 * @mem_lo, @mem_hi: numbers of the sessions it has been in
 * @rec:      the record and its arrays, to be sent (again)
 * @n_done:   tokens in @mem when that daemon died
 * @n_again:  daemons that died while it ran
 * @again:    RUN is to be sent
 * @fin:      how it ended when no daemon said so: enum ring_finish
 * @why:      sentence for an error of this side, NULL: the connection's
 * @gen:      generation of the slot's present (or last) request, never 0
 * @model:    a reference, for the text of tokens
 * @err, @reason, @arg, @limit: why it failed, when it was refused
 * @n_seen:   tokens given out in events
 * @n_shown:  tokens that belong to the answer (a stop text cuts the rest)
 * @cut:      a stop text matched: no more tokens or text are given out
 * @cancel:   CANCEL is to be sent; @cancelled: it was
 * @release:  released, but RELEASE found the queue full
 */
struct req {
	enum req_state state;
	uint32_t slot;
	uint32_t gen;
	uint32_t live_at;
	uint32_t n_prompt;
	uint32_t n_top;
	uint32_t n_logits;
	uint32_t n_seen;
	uint32_t n_shown;
	uint32_t n_prefill;
	uint32_t n_vocab;
	int32_t err;
	uint32_t reason;
	uint64_t arg;
	uint64_t limit;
	struct mem *mem;
	struct mem *run;
	uint64_t mem_lo;
	uint64_t mem_hi;
	uint8_t *rec;
	size_t rec_n;
	uint32_t n_done;
	uint32_t n_again;
	uint32_t fin;
	const char *why;
	bool again;
	bool lost;
	bool refused;
	bool cut;
	bool cancel;
	bool cancelled;
	bool release;
	struct hearth_model *model;
	struct hearth_stream stream;
	struct stop stop;
	uint64_t t_submit_ns;
	uint64_t t_seen_ns;
};

/* A record in C that the engine has perhaps not read yet. */
struct cring_rec {
	uint32_t sq_tail; /* read when sq_head has reached this */
	uint64_t end;	  /* free-running end of the record in the data area */
};

/**
 * struct hearth - a connection
 * @mem:      the session; NULL while there is none
 * @old:      sessions of dead daemons that are still read
 * @n_slots:  requests there may be (those of the first session)
 * @sq_tail, @cq_head: our indices; the shared copies are only published
 * @rec:      records in flight, a ring of sq_entries
 * @data_head, @data_tail: free-running allocation and reclaim positions
 * @data_next: @data_head once what was allocated last is committed
 * @live:     dense list of slots that are REQ_LIVE or REQ_ENDED
 * @turn:     where the next look for events starts, for fairness
 * @n_deferred: RUN, CANCEL and RELEASE entries that found no room or no daemon
 * @alive_ms: how long the next sleep lasts before the socket is looked at
 * @spin_ns:  adaptive: how long a wait polls before it sleeps
 * @t_alive_ns: when the socket was last looked at
 */
struct hearth {
	int sock;
	int kick_fd;
	int event_fd;
	int epoll_fd;
	int timer_fd;
	uint64_t timer_ns;
	uint32_t seq;
	uint64_t epoch;
	uint64_t session;
	struct mem *mem;
	struct mem *old;
	struct link link;
	uint32_t n_slots;
	bool lost;
	uint32_t sq_tail;
	uint32_t cq_head;
	uint32_t rec_head;
	uint32_t rec_tail;
	uint64_t data_head;
	uint64_t data_tail;
	uint64_t data_next;
	struct cring_rec *rec;
	struct req *req;
	uint32_t *live;
	uint32_t n_live;
	uint32_t turn;
	uint32_t next_slot;
	uint32_t n_deferred;
	uint64_t nop_sent;
	uint64_t nop_seen;
	uint64_t nop_given_up;
	uint64_t nop_wrong;
	uint64_t spin_ns;
	uint64_t spin_max_ns;
	uint64_t t_alive_ns;
	uint32_t alive_ms;
	uint8_t *msg;
	char *text;
	size_t text_n;
	size_t text_max;
	void (*log)(void *arg, const char *text);
	void *log_arg;
	const char *lost_why;
	char err[CONN_ERR];
	char ev_err[CONN_ERR];
};

/* One message received. @body lies in the connection's buffer. */
struct conn_msg {
	uint32_t type;
	uint32_t len;
	const void *body;
	int fd[8];
	unsigned int n_fds;
};

/* ---- err.c */
/* Set the connection's error text and return @err. */
int err_set(struct hearth *h, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int err_open(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* One sentence for a refusal, with both numbers. */
void err_refusal(char *buf, size_t n, uint32_t reason, int32_t err,
		 uint64_t arg, uint64_t limit);
/* One sentence for a request that ended with HEARTH_FINISH_ERROR. */
void err_failed(char *buf, size_t n, int32_t err);

/* ---- conn.c, msg.c */
/**
 * conn_attach() - a connection over given memories, without a handshake
 * @c, @d:    borrowed; @lay must describe them
 * @sock:     consumed; -1: the peer never dies
 * @kick_fd, @event_fd: consumed
 */
int conn_attach(struct hearth **out, const struct ring_layout *lay, void *c,
		const void *d, int sock, int kick_fd, int event_fd);
/* Is the daemon still there? Looks at the socket; false marks @h lost. */
bool conn_alive(struct hearth *h);
/* The daemon talks nonsense, or is gone for good: fail all that is unfinished.
 * @why is borrowed for the connection's life. */
int conn_lose(struct hearth *h, int err, const char *why);
/* The daemon has hung up. Return: -ECONNRESET when it is worth trying again,
 * with the link down; -ENOTCONN when not, with all lost. */
int conn_gone(struct hearth *h, const char *why);
/* Connect h->sock; never waits. */
int conn_dial(struct hearth *h, const char *path);
/* Session memory and eventfds of a SESSION message. */
int conn_take_session(struct hearth *h, struct conn_msg *m, struct mem **out);
int conn_check_rings(struct hearth *h, const struct conn_msg *m,
		     const struct mem *mem);
/* READY has come: @mem is the session's from now on. */
int conn_install(struct hearth *h, struct mem *mem);
void mem_free(struct mem *mem);
/* Close what belongs to the session but its memory. */
void conn_close_fds(struct hearth *h);
int conn_send(struct hearth *h, enum wire_type type, const void *body, size_t n,
	      const int *fds, unsigned int n_fds);
/* The answer to the last conn_send(); WIRE_ERROR becomes its errno and text.
 * The caller owns the fds. @timeout_ms < 0 waits for ever. */
int conn_recv(struct hearth *h, struct conn_msg *m, int timeout_ms);
void conn_msg_close(struct conn_msg *m);
/* Question and answer, asked once more when the daemon dies in between. */
int conn_ask(struct hearth *h, enum wire_type type, const void *body, size_t n,
	     struct conn_msg *m);
/* Check sizes and offsets of a layout against each other. */
int conn_check_layout(const struct ring_layout *l);

/* ---- link.c */
/* The daemon is gone: keep what is needed and prepare to come back. */
void link_down(struct hearth *h, const char *why);
/* Go on as far as possible without waiting. */
void link_step(struct hearth *h);
/* Wait until link_step() has something to do, or @deadline_ns. */
void link_wait(struct hearth *h, uint64_t deadline_ns);
/* Wait until there is a daemon. Return: 0, or -ENOTCONN: there is none. */
int link_await(struct hearth *h);
/* When link_step() wants to be called without news on the socket. */
uint64_t link_due_ns(const struct hearth *h);
/* What this connection knows about @m; made when it is new. NULL: no memory */
struct link_model *link_model(struct hearth *h, const struct hearth_model *m);
void link_fini(struct hearth *h);

/* ---- cring.c */
uint64_t cring_now_ns(void);
int cring_push(struct hearth *h, const struct ring_sqe *e);
/* Room for @n bytes in C, offset in @off; given back when read. -EAGAIN. */
int cring_alloc(struct hearth *h, size_t n, uint64_t *off);
/* The entry that the next cring_push() adds refers to what was allocated. */
void cring_commit(struct hearth *h);
/* Take all completions, and hand each to req_complete(). */
int cring_drain(struct hearth *h);
/* Sleep until the engine has something for request @id (0: any), or until
 * @deadline_ns, or until it is time to look after the daemon. */
void cring_sleep(struct hearth *h, uint64_t id, uint64_t deadline_ns);
/* The fd that hearth_fd() gives out; made on first use. */
int cring_fd(struct hearth *h);
/* Another socket or eventfd; those before were taken out by cring_unwatch(). */
void cring_watch(struct hearth *h);
void cring_unwatch(struct hearth *h);
/* The caller is here, no need to make the fd readable. */
void cring_disarm(struct hearth *h);
/* The caller goes back to its loop. Return: true if there is something after
 * all: look again. Always false when nobody asked for the fd. */
bool cring_arm(struct hearth *h);
/* The same for calls that are no hearth_next(): makes the fd readable. */
void cring_rearm(struct hearth *h);

/* ---- request.c */
struct req *req_find(struct hearth *h, uint64_t id);
uint64_t req_id(const struct req *r);
/* The slot with its results, once the engine has accepted it, else NULL. */
const struct ring_slot *req_slot(const struct req *r);
/* The slot in which it runs or ran last. */
const struct ring_slot *req_run_slot(const struct req *r);
/* Tokens in D, bounded by what the output array holds. */
uint32_t req_n_out(const struct req *r);
const struct ring_token *req_tokens(const struct req *r);
void req_complete(struct hearth *h, const struct ring_cqe *e);
/* A range of D, or NULL when it does not lie in the daemon's arena. */
const void *req_range(const struct mem *mem, uint64_t off, uint64_t n,
		      uint64_t size);
/* Take the answer of the daemon that runs it now, once that is longer. */
void req_settle(struct req *r);
/* Its daemon is gone: is it finished all the same, or to be sent again? */
void req_orphan(struct hearth *h, struct req *r);
/* It ends here and now: @fin, or RING_FIN_ERROR with @err and @why. */
void req_end(struct hearth *h, struct req *r, uint32_t fin, int err,
	     const char *why);
/* Into the session's queue, or -EAGAIN and a note for req_flush(). */
int req_push(struct hearth *h, struct req *r);
/* A free slot that the session has, or NULL. */
struct req *req_take(struct hearth *h);
/* It has a number, and events from now on. */
void req_begin(struct hearth *h, struct req *r);
void req_forget(struct hearth *h, struct req *r);
void req_cancel(struct hearth *h, struct req *r);
void req_release(struct hearth *h, struct req *r);
/* The final event was given out: only the results are left. */
void req_over(struct hearth *h, struct req *r);
/* Unmap sessions of dead daemons that no request needs any more. */
void req_gc(struct hearth *h);
/* Send what found the queue full, or no daemon, before. */
void req_flush(struct hearth *h);

/* ---- event.c */
/* Next event of request @id, or of any when 0. */
int event_next(struct hearth *h, uint64_t id, struct hearth_event *ev,
	       int timeout_ms);
/* Has request @id (0: any) something that was not given out yet? */
bool event_pending(struct hearth *h, uint64_t id);

/* ---- find.c */
#define FIND_PATH 4096
/* The files of the model at @path, in order: the parts of a split one. */
int find_parts(const char *path, char (*parts)[FIND_PATH], unsigned int max,
	       char *why, size_t why_n);
/* Name to list a file under: base name without ".gguf" and part number. */
void find_name(const char *path, char *name, size_t n);

/* ---- model.c */
/* Open the files of the model at @path, with the caller's rights.
 * Return: how many, the caller's to close; or -errno and a sentence. */
int model_files(const char *path, int *fds, unsigned int max, char *why,
		size_t n);

#endif
