/* SPDX-License-Identifier: MIT */
/*
 * raw.h - a client of bare messages and rings, for tests that misbehave.
 *
 * It does what libhearth never would: every step can be left out, every field
 * written by hand. One struct raw is one connection.
 */
#ifndef HEARTH_TESTS_RAW_H
#define HEARTH_TESTS_RAW_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../daemon/proc.h"

struct raw {
	int sock;
	int c_fd;
	int d_fd;
	int kick;
	int event;
	uint8_t *c;
	const uint8_t *d;
	struct wire_session ws;
	struct ring_layout l;
	uint32_t sq_tail;
	uint32_t cq_head;
	uint32_t seq;
};

static inline uint64_t raw_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static inline int raw_connect(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (s < 0)
		return -errno;
	if (connect(s, (struct sockaddr *)&a, sizeof(a))) {
		close(s);
		return -errno;
	}
	return s;
}

/* Return: type of the answer and its body, 0 at the end, -ETIMEDOUT. */
static inline int raw_recv(int s, void *body, size_t max, int *fds,
			   unsigned int *n_fds, int timeout_ms)
{
	static char buf[WIRE_MAX_BYTES];
	struct pollfd p = { .fd = s, .events = POLLIN };
	struct wire_hdr h;
	int n;

	*n_fds = 0;
	if (poll(&p, 1, timeout_ms) <= 0)
		return -ETIMEDOUT;
	n = wire_recv(s, buf, sizeof(buf), fds, n_fds);
	if (n <= 0)
		return n;
	if (n < (int)sizeof(h))
		return -EPROTO;
	memcpy(&h, buf, sizeof(h));
	memcpy(body, buf + sizeof(h), h.len < max ? h.len : max);
	return h.type;
}

/* An answer of this type, else what came instead: -errno of an ERROR. */
static inline int raw_expect(int s, int type, void *body, size_t max, int *fds,
			     unsigned int *n_fds, int timeout_ms)
{
	union {
		struct wire_error e;
		char b[WIRE_MAX_BYTES];
	} *u = malloc(sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	do {
		memset(u, 0, sizeof(u->e));
		r = raw_recv(s, u->b, sizeof(u->b), fds, n_fds, timeout_ms);
	} while (r == WIRE_PROGRESS);
	if (r == WIRE_ERROR) {
		fprintf(stderr, "  daemon: %s\n", u->e.text);
		r = u->e.err < 0 ? u->e.err : -EPROTO;
	} else if (r == 0) {
		r = -EPIPE;
	} else if (r == type) {
		memcpy(body, u->b, max);
		r = 0;
	} else if (r > 0) {
		r = -EPROTO;
	}
	free(u);
	return r;
}

static inline void raw_close(struct raw *r)
{
	if (r->c)
		munmap(r->c, r->l.c_bytes);
	if (r->d)
		munmap((void *)(uintptr_t)r->d, r->l.d_bytes);
	if (r->c_fd >= 0)
		close(r->c_fd);
	if (r->d_fd >= 0)
		close(r->d_fd);
	if (r->kick >= 0)
		close(r->kick);
	if (r->event >= 0)
		close(r->event);
	if (r->sock >= 0)
		close(r->sock);
	memset(r, 0, sizeof(*r));
	r->sock = r->c_fd = r->d_fd = r->kick = r->event = -1;
}

/* Connect and say HELLO; the memories are not mapped yet. */
static inline int raw_hello(struct raw *r, const char *path,
			    const struct wire_hello *h)
{
	struct wire_hello zero = { 0 };
	int fds[WIRE_MAX_FDS];
	unsigned int n;
	int err;

	memset(r, 0, sizeof(*r));
	r->sock = r->c_fd = r->d_fd = r->kick = r->event = -1;
	r->sock = raw_connect(path);
	if (r->sock < 0)
		return r->sock;
	err = wire_send(r->sock, WIRE_HELLO, ++r->seq, h ? h : &zero,
			sizeof(zero), NULL, 0);
	if (!err)
		err = raw_expect(r->sock, WIRE_SESSION, &r->ws, sizeof(r->ws),
				 fds, &n, 10000);
	if (err)
		return err;
	if (n != 4)
		return -EPROTO;
	r->l = r->ws.layout;
	r->c_fd = fds[0];
	r->d_fd = fds[1];
	r->kick = fds[2];
	r->event = fds[3];
	return 0;
}

static inline int raw_map(struct raw *r)
{
	void *c = mmap(NULL, r->l.c_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		       r->c_fd, 0);
	void *d = mmap(NULL, r->l.d_bytes, PROT_READ, MAP_SHARED, r->d_fd, 0);

	if (c == MAP_FAILED || d == MAP_FAILED)
		return -errno;
	r->c = c;
	r->d = d;
	return 0;
}

static inline int raw_mapped(struct raw *r)
{
	char none[1];
	int fds[WIRE_MAX_FDS];
	unsigned int n;
	int err;

	err = wire_send(r->sock, WIRE_MAPPED, ++r->seq, NULL, 0, NULL, 0);
	return err ? err
		   : raw_expect(r->sock, WIRE_READY, none, 0, fds, &n, 10000);
}

/* The whole handshake. */
static inline int raw_open(struct raw *r, const char *path)
{
	int err = raw_hello(r, path, NULL);

	if (!err)
		err = raw_map(r);
	return err ? err : raw_mapped(r);
}

/* Load (or join) a model file on any connection. */
static inline int raw_load(int sock, const char *file, struct wire_model *w)
{
	struct wire_load l = { .n_files = 1 };
	int fds[WIRE_MAX_FDS];
	unsigned int n;
	int err;

	fds[0] = open(file, O_RDONLY | O_CLOEXEC);
	if (fds[0] < 0)
		return -errno;
	snprintf(l.name, sizeof(l.name), "%s", "raw");
	err = wire_send(sock, WIRE_LOAD, 1, &l, sizeof(l), fds, 1);
	close(fds[0]);
	if (!err)
		err = raw_expect(sock, WIRE_MODEL, w, sizeof(*w), fds, &n,
				 60000);
	while (!err && n)
		close(fds[--n]);
	return err;
}

static inline int raw_unload(int sock, uint32_t model)
{
	struct wire_id id = { .model = model };
	char none[1];
	int fds[WIRE_MAX_FDS];
	unsigned int n;
	int err = wire_send(sock, WIRE_UNLOAD, 1, &id, sizeof(id), NULL, 0);

	return err ? err : raw_expect(sock, WIRE_OK, none, 0, fds, &n, 10000);
}

static inline struct ring_c *raw_rc(struct raw *r)
{
	return (struct ring_c *)(void *)r->c;
}

static inline const struct ring_d *raw_rd(const struct raw *r)
{
	return (const struct ring_d *)(const void *)r->d;
}

static inline const struct ring_slot *raw_slot(const struct raw *r, uint32_t i)
{
	return (const struct ring_slot *)(const void *)(r->d +
							r->l.d_slot_off) +
	       i;
}

static inline void raw_kick(struct raw *r)
{
	uint64_t one = 1;

	if (write(r->kick, &one, sizeof(one)) < 0)
		fprintf(stderr, "  kick: %s\n", strerror(errno));
}

static inline void raw_submit(struct raw *r, const struct ring_sqe *q)
{
	uint32_t i = r->sq_tail & (r->l.sq_entries - 1);

	memcpy(r->c + r->l.c_sq_off + (size_t)i * RING_ENTRY_BYTES, q,
	       sizeof(*q));
	__atomic_store_n(&raw_rc(r)->sq_tail, ++r->sq_tail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&raw_rd(r)->daemon_waiting, __ATOMIC_RELAXED))
		raw_kick(r);
}

/* Next completion. Return: 0, -ETIMEDOUT. */
static inline int raw_wait(struct raw *r, struct ring_cqe *e, int timeout_ms)
{
	uint64_t end = raw_now() + (uint64_t)timeout_ms * 1000000u;
	struct timespec ts = { 0, 20000000 };
	uint32_t tail;

	for (;;) {
		tail = __atomic_load_n(&raw_rd(r)->cq_tail, __ATOMIC_ACQUIRE);
		if (tail != r->cq_head)
			break;
		__atomic_store_n(&raw_rc(r)->client_waiting, RING_WAIT_FUTEX,
				 __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		tail = __atomic_load_n(&raw_rd(r)->cq_tail, __ATOMIC_ACQUIRE);
		if (tail == r->cq_head)
			syscall(SYS_futex, &raw_rd(r)->cq_tail, FUTEX_WAIT,
				tail, &ts, NULL, 0);
		__atomic_store_n(&raw_rc(r)->client_waiting, 0,
				 __ATOMIC_RELAXED);
		if (raw_now() > end)
			return -ETIMEDOUT;
	}
	memcpy(e,
	       r->d + r->l.d_cq_off +
		       (size_t)(r->cq_head & (r->l.cq_entries - 1)) *
			       RING_ENTRY_BYTES,
	       sizeof(*e));
	__atomic_store_n(&raw_rc(r)->cq_head, ++r->cq_head, __ATOMIC_RELEASE);
	return 0;
}

static inline int raw_nop(struct raw *r, uint64_t arg, int timeout_ms)
{
	struct ring_sqe q = { .op = RING_OP_NOP, .arg = arg };
	struct ring_cqe e;
	int err;

	raw_submit(r, &q);
	do {
		err = raw_wait(r, &e, timeout_ms);
	} while (!err && e.event != RING_EV_NOP);
	return err ? err : e.arg == arg ? 0 : -EBADMSG;
}

/* Place a plain record for @slot and submit it. Prompt: tokens 1, 2, 3, ... */
static inline void raw_run(struct raw *r, uint32_t slot, uint32_t gen,
			   uint32_t model, uint32_t n_prompt,
			   uint32_t max_tokens)
{
	struct ring_run run = { .model = model,
				.flags = RING_RUN_GREEDY | RING_RUN_IGNORE_EOS,
				.seed = 1,
				.n_prompt = n_prompt,
				.max_tokens = max_tokens,
				.top_p = 1,
				.repeat_penalty = 1,
				.prompt_off = sizeof(run) };
	uint64_t room = (r->l.c_bytes - r->l.c_data_off) / r->l.n_slots &
			~63ull;
	uint64_t off = r->l.c_data_off + slot * room;
	struct ring_sqe q = { .op = RING_OP_RUN,
			      .slot = slot,
			      .gen = gen,
			      .off = off,
			      .len = sizeof(run) + n_prompt * 4 };
	uint32_t *tok = (uint32_t *)(void *)(r->c + off + sizeof(run));
	uint32_t i;

	memcpy(r->c + off, &run, sizeof(run));
	for (i = 0; i < n_prompt; i++)
		tok[i] = 1 + i % 100;
	raw_submit(r, &q);
}

static inline void raw_release(struct raw *r, uint32_t slot, uint32_t gen)
{
	struct ring_sqe q = { .op = RING_OP_RELEASE, .slot = slot, .gen = gen };

	raw_submit(r, &q);
}

/* Wait for the slot's end. Return: 0 and the entry, or -ETIMEDOUT. */
static inline int raw_done(struct raw *r, uint32_t slot, struct ring_cqe *e,
			   int timeout_ms)
{
	int err;

	do {
		err = raw_wait(r, e, timeout_ms);
	} while (!err && (e->slot != slot || (e->event != RING_EV_DONE &&
					      e->event != RING_EV_REFUSED)));
	return err;
}

/* One of the daemon's counters (WIRE_STATS), or -1. */
static inline long long raw_stat(const char *path, const char *name)
{
	char text[8192] = "";
	char key[64];
	int fds[WIRE_MAX_FDS];
	long long v = -1;
	unsigned int n;
	char *p;
	int s = raw_connect(path);

	if (s < 0)
		return -1;
	if (!wire_send(s, WIRE_STATS, 1, NULL, 0, NULL, 0) &&
	    raw_recv(s, text, sizeof(text) - 1, fds, &n, 10000) ==
		    WIRE_TEXT_REPLY) {
		snprintf(key, sizeof(key), "\n%s ", name);
		p = strstr(text, key);
		if (p)
			v = atoll(p + strlen(key));
	}
	close(s);
	return v;
}

#endif
