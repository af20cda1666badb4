/* SPDX-License-Identifier: MIT */
/* cring.c - the client's half of the rings; ring.h has the protocol. */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "conn.h"

#define SPIN_MIN_NS 1000u
#define MS_NS	    1000000ull

uint64_t cring_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* Add one to an eventfd of ours. It never blocks and nobody reads it: only
 * the edge matters, so a full counter would be no news either. */
static void signal_fd(int fd)
{
	uint64_t one = 1;
	ssize_t r;

	if (fd < 0)
		return;
	r = write(fd, &one, sizeof(one));
	(void)r;
}

/* ------------------------------------------------------------- submission */

/* Entries the engine has not read; more than there are is nonsense. */
static int in_queue(struct hearth *h, uint32_t *n)
{
	*n = h->sq_tail - load(&h->mem->rd->sq_head);
	if (*n > h->mem->lay.sq_entries)
		return conn_lose(h, -EPROTO,
				 "the daemon broke the ring protocol "
				 "(submission queue)");
	return 0;
}

int cring_push(struct hearth *h, const struct ring_sqe *e)
{
	uint32_t at;
	uint32_t n;
	int err;

	if (h->lost)
		return -ENOTCONN;
	if (!h->mem)
		return -EAGAIN;
	err = in_queue(h, &n);
	if (err)
		return err;
	if (n == h->mem->lay.sq_entries)
		return -EAGAIN;
	at = h->sq_tail & (h->mem->lay.sq_entries - 1);
	memcpy(h->mem->c + h->mem->lay.c_sq_off + (size_t)at * RING_ENTRY_BYTES,
	       e, sizeof(*e));
	h->sq_tail++;
	__atomic_store_n(&h->mem->rc->sq_tail, h->sq_tail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&h->mem->rd->daemon_waiting, __ATOMIC_RELAXED))
		signal_fd(h->kick_fd);
	return 0;
}

/* Records are read in the order they were written, so the data area is a ring
 * of bytes: everything before the last record the engine has read is free. */
static int reclaim(struct hearth *h)
{
	const struct cring_rec *r;
	uint32_t head;
	uint32_t n;
	int err;

	err = in_queue(h, &n);
	if (err)
		return err;
	head = h->sq_tail - n;
	while (h->rec_head != h->rec_tail) {
		r = &h->rec[h->rec_head & (h->mem->lay.sq_entries - 1)];
		if ((int32_t)(head - r->sq_tail) < 0)
			break;
		h->data_tail = r->end;
		h->rec_head++;
	}
	if (h->rec_head == h->rec_tail)
		h->data_head = h->data_tail = 0;
	return 0;
}

int cring_alloc(struct hearth *h, size_t n, uint64_t *off)
{
	uint64_t size = (h->mem->lay.c_bytes - h->mem->lay.c_data_off) & ~63ull;
	uint64_t need = ((uint64_t)n + 63) & ~63ull;
	uint64_t pos;
	uint64_t skip;
	int err;

	if (need > size)
		return -E2BIG;
	err = reclaim(h);
	if (err)
		return err;
	pos = h->data_head % size;
	skip = pos + need > size ? size - pos : 0;
	if (h->data_head - h->data_tail + skip + need > size)
		return -EAGAIN;
	*off = h->mem->lay.c_data_off + (pos + skip) % size;
	h->data_next = h->data_head + skip + need;
	return 0;
}

void cring_commit(struct hearth *h)
{
	struct cring_rec *r;

	r = &h->rec[h->rec_tail & (h->mem->lay.sq_entries - 1)];
	r->sq_tail = h->sq_tail;
	r->end = h->data_next;
	h->data_head = h->data_next;
	h->rec_tail++;
}

/* ------------------------------------------------------------- completion */

int cring_drain(struct hearth *h)
{
	struct ring_cqe e;
	uint32_t start = h->cq_head;
	uint32_t n;
	uint32_t at;

	if (!h->mem)
		return 0;
	for (;;) {
		n = load(&h->mem->rd->cq_tail) - h->cq_head;
		if (n > h->mem->lay.cq_entries)
			return conn_lose(h, -EPROTO,
					 "the daemon broke the ring protocol "
					 "(completion queue)");
		if (!n)
			break;
		for (; n; n--) {
			at = h->cq_head & (h->mem->lay.cq_entries - 1);
			memcpy(&e,
			       h->mem->d + h->mem->lay.d_cq_off +
				       (size_t)at * RING_ENTRY_BYTES,
			       sizeof(e));
			h->cq_head++;
			req_complete(h, &e);
		}
	}
	if (h->cq_head == start)
		return 0;
	__atomic_store_n(&h->mem->rc->cq_head, h->cq_head, __ATOMIC_RELEASE);
	/* the engine takes no submissions while their answers have no room */
	if (h->cq_head - start > h->mem->lay.cq_entries / 2) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		signal_fd(h->kick_fd);
	}
	return 0;
}

/* Anything to do: entries, or output whose entry was coalesced away because
 * the one before it was still unread. */
static bool have_work(struct hearth *h, uint64_t id)
{
	return load(&h->mem->rd->cq_tail) != h->cq_head || event_pending(h, id);
}

static bool spin(struct hearth *h, uint64_t start, uint64_t deadline_ns)
{
	uint64_t until = start + h->spin_ns;
	uint32_t i;

	if (!h->spin_ns)
		return false;
	if (until > deadline_ns)
		until = deadline_ns;
	do {
		for (i = 0; i < 32; i++) {
			if (load(&h->mem->rd->cq_tail) != h->cq_head)
				return true;
			relax();
		}
	} while (cring_now_ns() < until);
	return false;
}

/* Spin longer where it would have helped, shorter where it did not. */
static void adapt(struct hearth *h, uint64_t waited_ns)
{
	if (!h->spin_max_ns)
		return;
	if (waited_ns <= h->spin_max_ns)
		h->spin_ns = h->spin_ns * 2 > h->spin_max_ns ? h->spin_max_ns
							     : h->spin_ns * 2;
	else
		h->spin_ns = h->spin_ns / 2 < SPIN_MIN_NS ? SPIN_MIN_NS
							  : h->spin_ns / 2;
}

void cring_sleep(struct hearth *h, uint64_t id, uint64_t deadline_ns)
{
	uint64_t start = cring_now_ns();
	uint64_t now = start;
	uint64_t end = start + h->alive_ms * MS_NS;
	struct timespec ts;

	if (end > deadline_ns)
		end = deadline_ns;
	if (h->lost || end <= start)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (have_work(h, id) || spin(h, start, end))
		return;
	__atomic_store_n(&h->mem->rc->client_waiting, RING_WAIT_FUTEX,
			 __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!have_work(h, id)) {
		now = cring_now_ns();
		if (now < end) {
			ts.tv_sec = (time_t)((end - now) / 1000000000ull);
			ts.tv_nsec = (long)((end - now) % 1000000000ull);
			syscall(SYS_futex, &h->mem->rd->cq_tail, FUTEX_WAIT,
				h->cq_head, &ts, NULL, 0);
		}
	}
	__atomic_store_n(&h->mem->rc->client_waiting, 0, __ATOMIC_RELAXED);
	now = cring_now_ns();
	adapt(h, now - start);
	if (now < end)
		return;
	h->t_alive_ns = 0;
	h->alive_ms = h->alive_ms * 2 > CONN_ALIVE_MS ? CONN_ALIVE_MS
						      : h->alive_ms * 2;
	conn_alive(h);
}

/* ------------------------------------------------------------- event loops */

/*
 * The engine writes the event eventfd and nobody reads it, so on its own it
 * would stay readable for ever. An epoll set with an edge-triggered entry is
 * readable once per write, until epoll_wait() has taken the edge. The set also
 * stays the same when socket and eventfd become those of another daemon.
 */
static int watch(struct hearth *h, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events };

	if (fd < 0 || !epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		return 0;
	if (errno == EEXIST && !epoll_ctl(h->epoll_fd, EPOLL_CTL_MOD, fd, &ev))
		return 0;
	return -errno;
}

static int watch_all(struct hearth *h)
{
	bool up = h->link.state == LINK_UP;
	int err;

	err = watch(h, h->event_fd, EPOLLIN | EPOLLET);
	if (!err)
		err = watch(h, h->sock, up ? EPOLLRDHUP : EPOLLRDHUP | EPOLLIN);
	return err;
}

void cring_watch(struct hearth *h)
{
	if (h->epoll_fd >= 0 && watch_all(h) && h->log)
		h->log(h->log_arg, "the event fd cannot watch the daemon");
}

/* An eventfd is the daemon's, too: closing ours would not take it out. */
void cring_unwatch(struct hearth *h)
{
	if (h->epoll_fd < 0)
		return;
	if (h->event_fd >= 0)
		epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, h->event_fd, NULL);
	if (h->sock >= 0)
		epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, h->sock, NULL);
}

int cring_fd(struct hearth *h)
{
	int err = 0;

	if (h->epoll_fd >= 0)
		return h->epoll_fd;
	h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (h->epoll_fd < 0) {
		err = -errno;
		return err_set(h, err, "cannot make an epoll set: %s",
			       hearth_strerror(err));
	}
	h->timer_fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (h->timer_fd < 0)
		err = -errno;
	if (!err)
		err = watch(h, h->timer_fd, EPOLLIN);
	if (!err)
		err = watch_all(h);
	if (err)
		goto fail;
	cring_rearm(h);
	return h->epoll_fd;
fail:
	if (h->timer_fd >= 0)
		close(h->timer_fd);
	close(h->epoll_fd);
	h->timer_fd = h->epoll_fd = -1;
	return err_set(h, err, "cannot watch the session: %s",
		       hearth_strerror(err));
}

/* Readable at @at_ns, or never at 0. */
static void set_timer(struct hearth *h, uint64_t at_ns)
{
	struct itimerspec t = {
		.it_value = { .tv_sec = (time_t)(at_ns / 1000000000ull),
			      .tv_nsec = (long)(at_ns % 1000000000ull) },
	};

	if (at_ns == h->timer_ns)
		return;
	h->timer_ns = at_ns;
	timerfd_settime(h->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

void cring_disarm(struct hearth *h)
{
	struct epoll_event ev[4];

	if (h->epoll_fd < 0)
		return;
	if (h->mem && !h->lost)
		__atomic_store_n(&h->mem->rc->client_waiting, 0,
				 __ATOMIC_RELAXED);
	if (epoll_wait(h->epoll_fd, ev, 4, 0) > 0)
		h->t_alive_ns = 0;
}

bool cring_arm(struct hearth *h)
{
	if (h->epoll_fd < 0)
		return false;
	/* nothing more will come, and that is news for ever */
	if (h->lost)
		set_timer(h, 1);
	else
		set_timer(h, link_due_ns(h));
	if (h->lost || h->link.state != LINK_UP)
		return false;
	__atomic_store_n(&h->mem->rc->client_waiting, RING_WAIT_EVENTFD,
			 __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return have_work(h, 0);
}

void cring_rearm(struct hearth *h)
{
	if (!cring_arm(h))
		return;
	/* an eventfd of ours: readable at once */
	signal_fd(h->event_fd);
}
