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
#define CONN_ALIVE_MS	  500 /* how often a sleeper looks at the socket */
#define CONN_PING_MS	  60000
#define CONN_EVENT_TOKENS 1024 /* tokens in one event at most */

enum req_state {
	REQ_FREE,
	REQ_LIVE,  /* submitted, no final completion yet */
	REQ_ENDED, /* final completion seen, final event not yet given out */
	REQ_OVER,  /* final event given out; results stay until release */
};

/**
 * struct req - one slot as this side sees it
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
 * @lay:      layout agreed in the handshake: the only sizes ever used
 * @owns_map: C and D are unmapped at the end
 * @sq_tail, @cq_head: our indices; the shared copies are only published
 * @rec:      records in flight, a ring of sq_entries
 * @data_head, @data_tail: free-running allocation and reclaim positions
 * @data_next: @data_head once what was allocated last is committed
 * @live:     dense list of slots that are REQ_LIVE or REQ_ENDED
 * @turn:     where the next look for events starts, for fairness
 * @n_deferred: CANCEL and RELEASE entries that found the queue full
 * @spin_ns:  adaptive: how long a wait polls before it sleeps
 * @t_alive_ns: when the socket was last looked at
 */
struct hearth {
	int sock;
	int kick_fd;
	int event_fd;
	int epoll_fd;
	uint32_t seq;
	uint64_t epoch;
	uint64_t session;
	struct ring_layout lay;
	uint8_t *c;
	const uint8_t *d;
	struct ring_c *rc;
	const struct ring_d *rd;
	bool owns_map;
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
const char *err_opened(void);
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
/* The daemon is gone or talks nonsense: fail all that is unfinished. */
int conn_lose(struct hearth *h, int err, const char *why);
int conn_send(struct hearth *h, enum wire_type type, const void *body, size_t n,
	      const int *fds, unsigned int n_fds);
/* The answer to the last conn_send(); WIRE_ERROR becomes its errno and text.
 * The caller owns the fds. @timeout_ms < 0 waits for ever. */
int conn_recv(struct hearth *h, struct conn_msg *m, int timeout_ms);
void conn_msg_close(struct conn_msg *m);
/* Check sizes and offsets of a layout against each other. */
int conn_check_layout(const struct ring_layout *l);

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
/* The request's slot in D once the engine has accepted it, else NULL. */
const struct ring_slot *req_slot(const struct hearth *h, struct req *r);
/* Tokens in D, bounded by what the output array holds. */
uint32_t req_n_out(const struct hearth *h, struct req *r);
const struct ring_token *req_tokens(const struct hearth *h, struct req *r);
void req_complete(struct hearth *h, const struct ring_cqe *e);
/* A range of D, or NULL when it does not lie in the daemon's arena. */
const void *req_range(const struct hearth *h, uint64_t off, uint64_t n,
		      uint64_t size);
void req_cancel(struct hearth *h, struct req *r);
void req_release(struct hearth *h, struct req *r);
/* The final event was given out: only the results are left. */
void req_over(struct hearth *h, struct req *r);
/* Send what found the queue full before. */
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
