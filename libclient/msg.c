/* SPDX-License-Identifier: MIT */
/* msg.c - messages on the daemon's socket, and the questions that are one. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"

static int not_connected(struct hearth *h)
{
	return err_set(h, -ENOTCONN, "%s",
		       h->lost_why ? h->lost_why : "the daemon is gone");
}

int conn_send(struct hearth *h, enum wire_type type, const void *body, size_t n,
	      const int *fds, unsigned int n_fds)
{
	struct wire_hdr hdr = {
		.magic = WIRE_MAGIC,
		.abi = RING_ABI,
		.type = (uint16_t)type,
		.seq = ++h->seq,
		.len = (uint32_t)n,
	};
	struct iovec iov[2] = {
		{ .iov_base = &hdr, .iov_len = sizeof(hdr) },
		{ .iov_base = (void *)(uintptr_t)body, .iov_len = n },
	};
	union {
		char buf[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
		struct cmsghdr align;
	} ctl;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n ? 2 : 1 };
	struct cmsghdr *cm;
	ssize_t r;
	int err;

	if (h->lost || h->sock < 0)
		return not_connected(h);
	if (n_fds) {
		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * n_fds);
	}
	do {
		r = sendmsg(h->sock, &msg, MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return 0;
	err = -errno;
	if (err == -EPIPE || err == -ECONNRESET)
		return conn_gone(h, "the daemon closed the connection");
	return err_set(h, err, "cannot write to the daemon: %s",
		       hearth_strerror(err));
}

void conn_msg_close(struct conn_msg *m)
{
	unsigned int i;

	for (i = 0; i < m->n_fds; i++) {
		if (m->fd[i] >= 0)
			close(m->fd[i]);
	}
	m->n_fds = 0;
}

/* Fds of a message; those beyond what any answer carries are closed. */
static void take_fds(struct msghdr *msg, struct conn_msg *m)
{
	struct cmsghdr *cm;
	size_t n;
	size_t i;
	int fd;

	for (cm = CMSG_FIRSTHDR(msg); cm; cm = CMSG_NXTHDR(msg, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int),
			       sizeof(fd));
			if (m->n_fds < sizeof(m->fd) / sizeof(m->fd[0]))
				m->fd[m->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

static int wait_socket(struct hearth *h, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = h->sock, .events = POLLIN };
	uint64_t now;
	int ms;
	int r;

	do {
		now = cring_now_ns();
		ms = -1;
		if (deadline_ns != UINT64_MAX)
			ms = now >= deadline_ns
				     ? 0
				     : (int)((deadline_ns - now) / 1000000) + 1;
		r = poll(&p, 1, ms);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r ? 0 : -ETIMEDOUT;
}

/* One packet into h->msg. */
static int recv_one(struct hearth *h, struct conn_msg *m, struct wire_hdr *hdr)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = h->msg, .iov_len = WIRE_MAX_BYTES };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = ctl.buf,
			      .msg_controllen = sizeof(ctl.buf) };
	ssize_t n;
	int err;

	memset(m, 0, sizeof(*m));
	do {
		n = recvmsg(h->sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != ECONNRESET) {
		err = -errno;
		return err_set(h, err, "cannot read from the daemon: %s",
			       hearth_strerror(err));
	}
	if (n <= 0)
		return conn_gone(h, "the daemon closed the connection");
	take_fds(&msg, m);
	if ((size_t)n < sizeof(*hdr) ||
	    msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		goto bad;
	memcpy(hdr, h->msg, sizeof(*hdr));
	if (hdr->magic != WIRE_MAGIC)
		goto bad;
	if (hdr->abi != RING_ABI) {
		conn_msg_close(m);
		return err_set(h, -EPROTO,
			       "the daemon speaks version %u of the protocol, "
			       "this library version %u",
			       hdr->abi, RING_ABI);
	}
	if (hdr->len != (size_t)n - sizeof(*hdr))
		goto bad;
	m->type = hdr->type;
	m->len = hdr->len;
	m->body = h->msg + sizeof(*hdr);
	return 0;
bad:
	conn_msg_close(m);
	return err_set(h, -EPROTO,
		       "the daemon sent a message that is no "
		       "message of Hearth");
}

int conn_recv(struct hearth *h, struct conn_msg *m, int timeout_ms)
{
	uint64_t deadline = UINT64_MAX;
	struct wire_error we;
	struct wire_hdr hdr;
	int err;

	if (h->lost || h->sock < 0)
		return not_connected(h);
	if (timeout_ms >= 0)
		deadline = cring_now_ns() + (uint64_t)timeout_ms * 1000000ull;
	for (;;) {
		err = wait_socket(h, deadline);
		if (err)
			return err_set(h, err,
				       "the daemon does not answer (waited "
				       "%d ms)",
				       timeout_ms);
		err = recv_one(h, m, &hdr);
		if (err)
			return err;
		if (hdr.seq == h->seq)
			break;
		/* the rest of something nobody waits for any more */
		conn_msg_close(m);
	}
	if (m->type != WIRE_ERROR)
		return 0;
	conn_msg_close(m);
	if (m->len != sizeof(we))
		return err_set(h, -EPROTO, "the daemon sent a damaged error");
	memcpy(&we, m->body, sizeof(we));
	we.text[sizeof(we.text) - 1] = 0;
	err = we.err < 0 && we.err > -4096 ? we.err : -EPROTO;
	return err_set(h, err, "%s",
		       we.text[0] ? we.text : hearth_strerror(err));
}

int conn_ask(struct hearth *h, enum wire_type type, const void *body, size_t n,
	     struct conn_msg *m)
{
	int tries = 2;
	int err;

	do {
		err = link_await(h);
		if (!err)
			err = conn_send(h, type, body, n, NULL, 0);
		if (!err)
			err = conn_recv(h, m, CONN_ANSWER_MS);
	} while (err == -ECONNRESET && --tries);
	return err;
}

/* --------------------------------------------------------- small questions */

static int text_reply(struct hearth *h, enum wire_type ask, char *buf, size_t n)
{
	struct conn_msg m;
	size_t k;
	int err;

	if (n)
		buf[0] = 0;
	err = conn_ask(h, ask, NULL, 0, &m);
	cring_rearm(h);
	if (err)
		return err;
	conn_msg_close(&m);
	if (m.type != WIRE_TEXT_REPLY)
		return err_set(h, -EPROTO, "the daemon's answer is not text");
	k = strnlen(m.body, m.len);
	if (n && k > n - 1)
		k = n - 1;
	if (!n)
		return 0;
	memcpy(buf, m.body, k);
	buf[k] = 0;
	return (int)k;
}

int hearth_limits(struct hearth *h, char *buf, size_t n)
{
	return text_reply(h, WIRE_LIMITS, buf, n);
}

int hearth_stats(struct hearth *h, char *buf, size_t n)
{
	return text_reply(h, WIRE_STATS, buf, n);
}

/* Wait for the answer to the ping that was sent last. */
static int pong(struct hearth *h, uint64_t spin_ns, uint64_t deadline_ns)
{
	const struct mem *mem = h->mem;
	int err;

	for (;;) {
		err = cring_drain(h);
		if (err || h->nop_seen == h->nop_sent)
			return err;
		if (cring_now_ns() >= deadline_ns) {
			h->nop_given_up = h->nop_seen = h->nop_sent;
			return err_set(h, -ETIMEDOUT,
				       "the engine does not answer (waited "
				       "%d ms)",
				       CONN_PING_MS);
		}
		h->spin_ns = spin_ns;
		cring_sleep(h, UINT64_MAX, deadline_ns);
		if (h->lost)
			return -ENOTCONN;
		if (h->mem != mem)
			return -ECONNRESET;
	}
}

/* One NOP, and exactly one answer with its number. */
int hearth_ping(struct hearth *h, uint64_t spin_ns)
{
	uint64_t spin_saved = h->spin_ns;
	uint64_t deadline = cring_now_ns() + CONN_PING_MS * 1000000ull;
	struct ring_sqe e = { .op = RING_OP_NOP };
	uint64_t wrong;
	int tries = 2;
	int err;

	h->alive_ms = CONN_ALIVE_MIN_MS;
	do {
		err = link_await(h);
		if (err)
			break;
		wrong = h->nop_wrong;
		e.arg = h->nop_sent + 1;
		err = cring_push(h, &e);
		if (err == -EAGAIN)
			err_set(h, err, "the submission queue is full");
		if (err)
			break;
		h->nop_sent++;
		err = pong(h, spin_ns, deadline);
		if (!err && h->nop_wrong != wrong)
			err = err_set(h, -EPROTO,
				      "the engine answered a ping twice or "
				      "never");
	} while (err == -ECONNRESET && --tries);
	h->spin_ns = spin_saved;
	cring_rearm(h);
	return err;
}
