/* SPDX-License-Identifier: MIT */
/* proc.c - messages between our processes, and the checks of all messages. */
#include "proc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct msg_row {
	const char *name;
	uint16_t len; /* bytes of the body, exactly */
	uint8_t min_fds;
	uint8_t max_fds;
};

/* clang-format off */
static const struct msg_row proc_rows[PROC_TYPE_N] = {
	[PROC_SESSION_NEW] = { "session-new", sizeof(struct proc_session), 4, 4 },
	[PROC_SESSION_END] = { "session-end", sizeof(struct proc_id), 0, 0 },
	[PROC_MODEL_LOAD] = { "model-load", sizeof(struct proc_load), 2, PROC_MAX_FDS },
	[PROC_MODEL_UNLOAD] = { "model-unload", sizeof(struct proc_id), 0, 0 },
	[PROC_GRANT] = { "grant", sizeof(struct proc_grant), 0, 0 },
	[PROC_EXIT] = { "exit", 0, 0, 0 },
	[PROC_READY] = { "ready", 0, 0, 0 },
	[PROC_SESSION_UP] = { "session-up", sizeof(struct proc_status), 0, 0 },
	[PROC_SESSION_BAD] = { "session-bad", sizeof(struct proc_status), 0, 0 },
	[PROC_SESSION_GONE] = { "session-gone", sizeof(struct proc_id), 0, 0 },
	[PROC_MODEL_STATE] = { "model-state", sizeof(struct proc_model_state), 0, 0 },
	[PROC_PARSED] = { "parsed", sizeof(struct proc_status), 0, 0 },
	[PROC_PLAN] = { "plan", sizeof(struct proc_plan), 0, 0 },
	[PROC_PROGRESS] = { "progress", sizeof(struct proc_progress), 0, 0 },
	[PROC_LOADED] = { "loaded", sizeof(struct proc_loaded), 0, 0 },
	[PROC_PLACE] = { "place", sizeof(struct proc_id), 1, 1 },
	[PROC_BUSY] = { "busy", 0, 0, 0 },
};

static const struct msg_row wire_rows[] = {
	[WIRE_HELLO] = { "hello", sizeof(struct wire_hello), 0, 0 },
	[WIRE_MAPPED] = { "mapped", 0, 0, 0 },
	[WIRE_LOAD] = { "load", sizeof(struct wire_load), 1, WIRE_MAX_FDS },
	[WIRE_UNLOAD] = { "unload", sizeof(struct wire_id), 0, 0 },
	[WIRE_LIST] = { "list", 0, 0, 0 },
	[WIRE_OPEN] = { "open", sizeof(struct wire_id), 0, 0 },
	[WIRE_LIMITS] = { "limits", 0, 0, 0 },
	[WIRE_STATS] = { "stats", 0, 0, 0 },
};
/* clang-format on */

#define N_WIRE (sizeof(wire_rows) / sizeof(wire_rows[0]))

_Static_assert(sizeof(struct proc_model_state) <= PROC_MAX_BODY, "body");
_Static_assert(sizeof(struct proc_session) <= PROC_MAX_BODY, "body");

union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(PROC_MAX_FDS * sizeof(int))];
};

static int send_packet(int sock, struct iovec *iov, int n_iov, const int *fds,
		       unsigned int n_fds, int flags)
{
	union control c;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n_iov };
	struct cmsghdr *h;

	if (n_fds > PROC_MAX_FDS)
		return -EINVAL;
	if (n_fds) {
		memset(&c, 0, sizeof(c));
		m.msg_control = c.buf;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(h), fds, n_fds * sizeof(int));
	}
	while (sendmsg(sock, &m, flags | MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Fds of a message: at most @max go to @fds, the rest is closed. */
static int take_fds(struct msghdr *m, int *fds, unsigned int max,
		    unsigned int *n_fds)
{
	struct cmsghdr *h;
	unsigned int n;
	unsigned int i;
	int extra = 0;
	int fd;

	*n_fds = 0;
	for (h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int),
			       sizeof(int));
			if (*n_fds < max) {
				fds[(*n_fds)++] = fd;
			} else {
				close(fd);
				extra = 1;
			}
		}
	}
	return extra || (m->msg_flags & MSG_CTRUNC) ? -EMSGSIZE : 0;
}

static void close_fds(const int *fds, unsigned int n)
{
	while (n)
		close(fds[--n]);
}

/* Return: bytes; 0 at end of file (SEQPACKET has no other empty read). */
static int recv_packet(int sock, void *buf, size_t n, int *fds,
		       unsigned int max, unsigned int *n_fds, int flags)
{
	union control c;
	struct iovec iov = { buf, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r;

	*n_fds = 0;
	m.msg_control = c.buf;
	m.msg_controllen = CMSG_SPACE(max * sizeof(int));
	do {
		r = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	if (take_fds(&m, fds, max, n_fds) || (m.msg_flags & MSG_TRUNC))
		return -EMSGSIZE;
	return (int)r;
}

int proc_send(int sock, enum proc_type type, const void *body, size_t n,
	      const int *fds, unsigned int n_fds)
{
	struct proc_hdr h = { .type = type, .len = (uint32_t)n };
	struct iovec iov[2] = { { &h, sizeof(h) },
				{ (void *)(uintptr_t)body, n } };
	const struct msg_row *r;

	if (type <= 0 || type >= PROC_TYPE_N)
		return -EINVAL;
	r = &proc_rows[type];
	if (n != r->len || n_fds < r->min_fds || n_fds > r->max_fds)
		return -EINVAL;
	return send_packet(sock, iov, n ? 2 : 1, fds, n_fds, 0);
}

int proc_recv(int sock, void *body, size_t *n, int *fds, unsigned int *n_fds)
{
	char buf[sizeof(struct proc_hdr) + PROC_MAX_BODY];
	const struct msg_row *row;
	struct proc_hdr h;
	int r;

	*n = 0;
	r = recv_packet(sock, buf, sizeof(buf), fds, PROC_MAX_FDS, n_fds, 0);
	if (r == -EMSGSIZE)
		goto bad;
	if (r < 0 || (!r && !*n_fds))
		return r;
	if ((size_t)r < sizeof(h))
		goto bad;
	memcpy(&h, buf, sizeof(h));
	if (!h.type || h.type >= PROC_TYPE_N)
		goto bad;
	row = &proc_rows[h.type];
	if (h.len != row->len || h.len != r - sizeof(h))
		goto bad;
	if (*n_fds < row->min_fds || *n_fds > row->max_fds)
		goto bad;
	memcpy(body, buf + sizeof(h), h.len);
	*n = h.len;
	return (int)h.type;
bad:
	close_fds(fds, *n_fds);
	*n_fds = 0;
	return -EPROTO;
}

static int bad(char why[160], const char *fmt, unsigned long a, unsigned long b)
	__attribute__((format(printf, 2, 0)));

static int bad(char why[160], const char *fmt, unsigned long a, unsigned long b)
{
	snprintf(why, 160, fmt, a, b);
	return -EPROTO;
}

int wire_check(const void *msg, size_t n, unsigned int n_fds, char why[160])
{
	const struct msg_row *row;
	struct wire_hdr h;

	if (n < sizeof(h))
		return bad(why, "message of %lu bytes, a header has %lu", n,
			   sizeof(h));
	memcpy(&h, msg, sizeof(h));
	if (h.magic != WIRE_MAGIC)
		return bad(why, "not a Hearth message (magic %#lx)", h.magic,
			   0);
	if (h.abi != RING_ABI) {
		bad(why, "protocol version %lu, this daemon speaks %lu", h.abi,
		    RING_ABI);
		return -EPROTONOSUPPORT;
	}
	if (!h.type || h.type >= N_WIRE)
		return bad(why, "no such message type (%lu)", h.type, 0);
	row = &wire_rows[h.type];
	if (h.len != n - sizeof(h))
		return bad(why, "length %lu in a message with %lu bytes", h.len,
			   n - sizeof(h));
	if (h.len != row->len) {
		snprintf(why, 160, "%s: body of %u bytes, must be %u",
			 row->name, h.len, row->len);
		return -EPROTO;
	}
	if (n_fds < row->min_fds || n_fds > row->max_fds) {
		snprintf(why, 160, "%s: %u file descriptors, must be %u to %u",
			 row->name, n_fds, row->min_fds, row->max_fds);
		return -EPROTO;
	}
	return h.type;
}

int wire_send(int sock, enum wire_type type, uint32_t seq, const void *body,
	      size_t n, const int *fds, unsigned int n_fds)
{
	struct wire_hdr h = { .magic = WIRE_MAGIC,
			      .abi = RING_ABI,
			      .type = (uint16_t)type,
			      .seq = seq,
			      .len = (uint32_t)n };
	struct iovec iov[2] = { { &h, sizeof(h) },
				{ (void *)(uintptr_t)body, n } };

	if (n > WIRE_MAX_BYTES - sizeof(h))
		return -EMSGSIZE;
	return send_packet(sock, iov, n ? 2 : 1, fds, n_fds, MSG_DONTWAIT);
}

int wire_recv(int sock, void *buf, size_t n, int *fds, unsigned int *n_fds)
{
	return recv_packet(sock, buf, n, fds, WIRE_MAX_FDS, n_fds,
			   MSG_DONTWAIT);
}
