/* SPDX-License-Identifier: MIT */
/* loop.c - the event loop: slots for sources, a heap of timers, two drivers. */
#include "loop.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_ENTRIES 256
#define BATCH	     64
#define SLOT_NONE    UINT32_MAX
#define DATA_IGNORE  UINT64_MAX /* a completion nobody waits for */

/* A late completion carries the generation its slot had: stale ones differ. */
struct slot {
	struct loop_src *src;
	uint32_t gen;
	uint32_t next_free;
	uint32_t again; /* in the list of loop_again() */
};

struct loop {
	struct slot *slots;
	struct loop_timer **heap;
	uint32_t *again;
	uint32_t max;
	uint32_t n_timers;
	uint32_t n_again;
	uint32_t free_head;
	int epoll; /* -1: io_uring */
	struct io_uring ring;
};

/* ---------------------------------------------------------------- drivers */

/* liburing 2.3 does not export its functions for these two. */
static int ring_register(struct io_uring *r, unsigned int op, void *arg,
			 unsigned int n)
{
	if (syscall(SYS_io_uring_register, r->ring_fd, op, arg, n) < 0)
		return -errno;
	return 0;
}

/*
 * The ring starts disabled, so that its operations can be frozen first: what
 * runs here needs poll, its removal and close, and can never do more.
 */
static int restrict_ring(struct io_uring *r)
{
	static const uint8_t ops[] = { IORING_OP_NOP, IORING_OP_POLL_ADD,
				       IORING_OP_POLL_REMOVE, IORING_OP_CLOSE };
	struct io_uring_restriction res[8];
	unsigned int n = 0;
	unsigned int i;

	memset(res, 0, sizeof(res));
	for (i = 0; i < sizeof(ops); i++) {
		res[n].opcode = IORING_RESTRICTION_SQE_OP;
		res[n++].sqe_op = ops[i];
	}
	res[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	res[n++].register_op = IORING_REGISTER_ENABLE_RINGS;
	return ring_register(r, IORING_REGISTER_RESTRICTIONS, res, n);
}

static int ring_open(struct io_uring *r)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	unsigned int i;
	int err = -ENOSYS;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		err = io_uring_queue_init(RING_ENTRIES, r,
					  flags[i] | IORING_SETUP_R_DISABLED |
						  IORING_SETUP_CLAMP);
		if (err)
			continue;
		err = restrict_ring(r);
		if (!err)
			err = ring_register(r, IORING_REGISTER_ENABLE_RINGS,
					    NULL, 0);
		if (!err && !(r->features & IORING_FEAT_EXT_ARG))
			err = -ENOSYS;
		if (!err)
			return 0;
		io_uring_queue_exit(r);
	}
	return err;
}

static struct io_uring_sqe *get_sqe(struct loop *l)
{
	struct io_uring_sqe *q = io_uring_get_sqe(&l->ring);

	if (!q) {
		io_uring_submit(&l->ring);
		q = io_uring_get_sqe(&l->ring);
	}
	return q;
}

static uint64_t data_of(const struct loop *l, uint32_t i)
{
	return (uint64_t)l->slots[i].gen << 32 | i;
}

static int arm(struct loop *l, uint32_t i)
{
	struct loop_src *s = l->slots[i].src;
	struct epoll_event ev = { .events = s->events | EPOLLET,
				  .data.u64 = data_of(l, i) };
	struct io_uring_sqe *q;

	if (l->epoll >= 0)
		return epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &ev) ? -errno
								      : 0;
	q = get_sqe(l);
	if (!q)
		return -EAGAIN;
	io_uring_prep_poll_multishot(q, s->fd, s->events | EPOLLET);
	io_uring_sqe_set_data64(q, data_of(l, i));
	return 0;
}

static void disarm(struct loop *l, uint32_t i)
{
	struct io_uring_sqe *q;

	if (l->epoll >= 0) {
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->slots[i].src->fd, NULL);
		return;
	}
	q = get_sqe(l);
	if (!q)
		return;
	io_uring_prep_poll_remove(q, data_of(l, i));
	io_uring_sqe_set_data64(q, DATA_IGNORE);
	/* Now: the caller is about to close the file. */
	io_uring_submit(&l->ring);
}

/* ---------------------------------------------------------------- sources */

int loop_new(struct loop **out, uint32_t max)
{
	struct loop *l;
	uint32_t i;
	int err;

	*out = NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->epoll = -1;
	l->max = max;
	l->slots = calloc(max, sizeof(*l->slots));
	l->heap = calloc(max, sizeof(struct loop_timer *));
	l->again = calloc(max, sizeof(*l->again));
	err = -ENOMEM;
	if (!l->slots || !l->heap || !l->again)
		goto fail;
	for (i = 0; i < max; i++) {
		l->slots[i].gen = 1;
		l->slots[i].next_free = i + 1 < max ? i + 1 : SLOT_NONE;
	}
	err = getenv("HEARTH_EPOLL") ? -ENOSYS : ring_open(&l->ring);
	if (err) {
		l->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (l->epoll < 0) {
			err = -errno;
			goto fail;
		}
	}
	*out = l;
	return 0;
fail:
	free(l->again);
	free(l->heap);
	free(l->slots);
	free(l);
	return err;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	if (l->epoll >= 0)
		close(l->epoll);
	else
		io_uring_queue_exit(&l->ring);
	free(l->again);
	free(l->heap);
	free(l->slots);
	free(l);
}

const char *loop_kind(const struct loop *l)
{
	return l->epoll >= 0 ? "epoll" : "io_uring";
}

int loop_add(struct loop *l, struct loop_src *s)
{
	uint32_t i = l->free_head;
	int err;

	if (s->slot)
		return -EEXIST;
	if (i == SLOT_NONE)
		return -ENOSPC;
	l->slots[i].src = s;
	err = arm(l, i);
	if (err) {
		l->slots[i].src = NULL;
		return err;
	}
	l->free_head = l->slots[i].next_free;
	s->slot = i + 1;
	return 0;
}

void loop_del(struct loop *l, struct loop_src *s)
{
	struct slot *t;
	uint32_t i = s->slot - 1;

	if (!s->slot)
		return;
	t = &l->slots[i];
	disarm(l, i);
	t->src = NULL;
	/* Never zero, so that no data is ever mistaken for an old one's. */
	if (!++t->gen || t->gen == UINT32_MAX)
		t->gen = 1;
	t->next_free = l->free_head;
	l->free_head = i;
	s->slot = 0;
}

void loop_again(struct loop *l, struct loop_src *s)
{
	uint32_t i = s->slot - 1;

	if (!s->slot || l->slots[i].again)
		return;
	l->slots[i].again = 1;
	l->again[l->n_again++] = i;
}

/* A completion or epoll event: is it still about a living source? */
static int dispatch(struct loop *l, uint64_t data, uint32_t revents, bool more)
{
	uint32_t i = (uint32_t)data;
	struct loop_src *s;

	if (data == DATA_IGNORE || i >= l->max)
		return 0;
	s = l->slots[i].src;
	if (!s || l->slots[i].gen != data >> 32)
		return 0;
	if (!more && l->epoll < 0 && arm(l, i))
		loop_again(l, s); /* no room to arm now: do not forget it */
	s->fn(s, revents);
	return 1;
}

static int run_again(struct loop *l)
{
	uint32_t list[BATCH];
	struct loop_src *s;
	uint32_t n = l->n_again < BATCH ? l->n_again : BATCH;
	uint32_t i;
	int done = 0;

	memcpy(list, l->again, n * sizeof(*list));
	l->n_again -= n;
	memmove(l->again, l->again + n, l->n_again * sizeof(*list));
	for (i = 0; i < n; i++)
		l->slots[list[i]].again = 0;
	for (i = 0; i < n; i++) {
		s = l->slots[list[i]].src;
		if (s) {
			s->fn(s, s->events);
			done++;
		}
	}
	return done;
}

void loop_close(struct loop *l, int fd)
{
	struct io_uring_sqe *q;

	q = l->epoll >= 0 ? NULL : get_sqe(l);
	if (!q) {
		close(fd);
		return;
	}
	io_uring_prep_close(q, fd);
	io_uring_sqe_set_data64(q, DATA_IGNORE);
	io_uring_submit(&l->ring);
}

/* ----------------------------------------------------------------- timers */

static void heap_put(struct loop *l, uint32_t i, struct loop_timer *t)
{
	l->heap[i] = t;
	t->pos = i + 1;
}

static void heap_up(struct loop *l, uint32_t i)
{
	struct loop_timer *t = l->heap[i];
	uint32_t up;

	for (; i; i = up) {
		up = (i - 1) / 2;
		if (l->heap[up]->at_ns <= t->at_ns)
			break;
		heap_put(l, i, l->heap[up]);
	}
	heap_put(l, i, t);
}

static void heap_down(struct loop *l, uint32_t i)
{
	struct loop_timer *t = l->heap[i];
	uint32_t kid;

	for (;; i = kid) {
		kid = 2 * i + 1;
		if (kid >= l->n_timers)
			break;
		if (kid + 1 < l->n_timers &&
		    l->heap[kid + 1]->at_ns < l->heap[kid]->at_ns)
			kid++;
		if (l->heap[kid]->at_ns >= t->at_ns)
			break;
		heap_put(l, i, l->heap[kid]);
	}
	heap_put(l, i, t);
}

int loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t ns)
{
	loop_timer_clear(l, t);
	if (l->n_timers == l->max)
		return -ENOSPC;
	t->at_ns = clock_ns() + ns;
	heap_put(l, l->n_timers, t);
	heap_up(l, l->n_timers++);
	return 0;
}

void loop_timer_clear(struct loop *l, struct loop_timer *t)
{
	struct loop_timer *last;
	uint32_t i = t->pos - 1;

	if (!t->pos)
		return;
	t->pos = 0;
	last = l->heap[--l->n_timers];
	if (last == t)
		return;
	heap_put(l, i, last);
	heap_up(l, i);
	heap_down(l, last->pos - 1);
}

static int run_timers(struct loop *l)
{
	uint64_t now;
	struct loop_timer *t;
	int done = 0;

	if (!l->n_timers)
		return 0;
	now = clock_ns();
	while (l->n_timers && l->heap[0]->at_ns <= now) {
		t = l->heap[0];
		loop_timer_clear(l, t);
		t->fn(t);
		done++;
	}
	return done;
}

/* How long to sleep: false is for ever. */
static bool sleep_time(const struct loop *l, struct __kernel_timespec *ts)
{
	uint64_t now;
	uint64_t ns;

	if (!l->n_timers)
		return false;
	now = clock_ns();
	ns = l->heap[0]->at_ns > now ? l->heap[0]->at_ns - now : 0;
	ts->tv_sec = ns / 1000000000u;
	ts->tv_nsec = ns % 1000000000u;
	return true;
}

/* ---------------------------------------------------------------- running */

static int run_epoll(struct loop *l, bool wait)
{
	struct epoll_event ev[BATCH];
	struct __kernel_timespec ts;
	int timeout = wait ? -1 : 0;
	int n;
	int i;
	int done = 0;

	/* Rounded up, else a timer's last millisecond would be spun away. */
	if (wait && sleep_time(l, &ts))
		timeout = ts.tv_sec > 1000000
				  ? 1000000000
				  : (int)(ts.tv_sec * 1000 +
					  (ts.tv_nsec + 999999) / 1000000);
	n = epoll_wait(l->epoll, ev, BATCH, timeout);
	for (i = 0; i < n; i++)
		done += dispatch(l, ev[i].data.u64, ev[i].events, true);
	return done;
}

static int run_uring(struct loop *l, bool wait)
{
	struct io_uring_cqe *cqe[BATCH];
	struct __kernel_timespec ts;
	struct io_uring_cqe *one;
	uint64_t data[BATCH];
	int32_t res[BATCH];
	uint32_t flags[BATCH];
	int done = 0;
	int n;
	int i;

	if (io_uring_sq_ready(&l->ring))
		io_uring_submit(&l->ring);
	if (wait)
		io_uring_wait_cqes(&l->ring, &one, 1,
				   sleep_time(l, &ts) ? &ts : NULL, NULL);
	n = (int)io_uring_peek_batch_cqe(&l->ring, cqe, BATCH);
	for (i = 0; i < n; i++) {
		data[i] = cqe[i]->user_data;
		res[i] = cqe[i]->res;
		flags[i] = cqe[i]->flags;
	}
	io_uring_cq_advance(&l->ring, n);
	for (i = 0; i < n; i++) {
		/* An error ends the poll: its owner hears of it once. */
		if (res[i] == -ECANCELED)
			continue;
		done += dispatch(l, data[i], res[i] < 0 ? POLLERR : res[i],
				 res[i] < 0 || (flags[i] & IORING_CQE_F_MORE));
	}
	return done;
}

int loop_run(struct loop *l, bool wait)
{
	int done = 0;

	if (l->n_again)
		wait = false;
	if (l->epoll >= 0)
		done = run_epoll(l, wait);
	else
		done = run_uring(l, wait);
	done += run_timers(l);
	if (l->n_again)
		done += run_again(l);
	return done;
}

bool loop_ready(struct loop *l)
{
	struct pollfd p = { .fd = l->epoll, .events = POLLIN };

	if (l->n_again)
		return true;
	if (l->epoll >= 0)
		return poll(&p, 1, 0) > 0;
	return io_uring_cq_ready(&l->ring) ||
	       (IO_URING_READ_ONCE(*l->ring.sq.kflags) &
		(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}
