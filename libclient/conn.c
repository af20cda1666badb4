/* SPDX-License-Identifier: MIT */
/* conn.c - a connection: the socket, the handshake, and its end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "conn.h"

#define SYSTEM_SOCKET "/run/hearth/hearth.sock"
#define SPIN_MAX_NS   50000u
#define ALIVE_NS      (100 * 1000000ull)

/* --------------------------------------------------------------- the end */

int conn_lose(struct hearth *h, int err, const char *why)
{
	struct req *r;
	uint32_t i;

	if (h->lost)
		return -ENOTCONN;
	h->lost = true;
	h->lost_why = why;
	if (h->sock >= 0)
		shutdown(h->sock, SHUT_RDWR);
	for (i = 0; i < h->n_live; i++) {
		r = &h->req[h->live[i]];
		if (r->state != REQ_LIVE)
			continue;
		r->state = REQ_ENDED;
		r->lost = true;
		r->err = -ENOTCONN;
	}
	if (h->log)
		h->log(h->log_arg, why);
	err_set(h, err, "%s", why);
	return err;
}

bool conn_alive(struct hearth *h)
{
	struct pollfd p = { .fd = h->sock, .events = POLLRDHUP };
	uint64_t now;

	if (h->lost)
		return false;
	if (h->sock < 0)
		return true;
	now = cring_now_ns();
	if (now - h->t_alive_ns < ALIVE_NS)
		return true;
	h->t_alive_ns = now;
	if (poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR)) {
		conn_lose(h, -ENOTCONN, "the daemon closed the connection");
		return false;
	}
	return true;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void hearth_close(struct hearth **hp)
{
	struct hearth *h = *hp;
	struct req *r;
	uint32_t i;

	*hp = NULL;
	if (!h)
		return;
	for (i = 0; h->req && i < h->lay.n_slots; i++) {
		r = &h->req[i];
		stop_fini(&r->stop);
		model_put(r->model);
	}
	close_fd(&h->epoll_fd);
	close_fd(&h->event_fd);
	close_fd(&h->kick_fd);
	close_fd(&h->sock);
	if (h->owns_map && h->c)
		munmap(h->c, h->lay.c_bytes);
	if (h->owns_map && h->d)
		munmap((void *)(uintptr_t)h->d, h->lay.d_bytes);
	free(h->rec);
	free(h->req);
	free(h->live);
	free(h->msg);
	free(h->text);
	free(h);
}

/* --------------------------------------------------------------- handshake */

static bool pow2(uint32_t n)
{
	return n && !(n & (n - 1));
}

/* [off, off + n) starts on a cache line, after the first page, inside. */
static bool inside(uint64_t off, uint64_t n, uint64_t bytes)
{
	return off >= RING_PAGE && !(off & 63) && off <= bytes &&
	       n <= bytes - off;
}

int conn_check_layout(const struct ring_layout *l)
{
	if (!pow2(l->sq_entries) || !pow2(l->cq_entries) || !l->n_slots ||
	    l->n_slots > RING_MAX_SLOTS || l->sq_entries > 65536 ||
	    l->cq_entries > 65536 || l->cq_entries < 4 * l->n_slots)
		return -EPROTO;
	if (l->c_bytes > RING_MAX_C_BYTES || l->d_bytes > RING_MAX_D_BYTES)
		return -EPROTO;
	if (!inside(l->c_sq_off, (uint64_t)l->sq_entries * RING_ENTRY_BYTES,
		    l->c_bytes) ||
	    !inside(l->c_data_off, 64, l->c_bytes) ||
	    !inside(l->d_cq_off, (uint64_t)l->cq_entries * RING_ENTRY_BYTES,
		    l->d_bytes) ||
	    !inside(l->d_slot_off,
		    (uint64_t)l->n_slots * sizeof(struct ring_slot),
		    l->d_bytes) ||
	    !inside(l->d_arena_off, 0, l->d_bytes))
		return -EPROTO;
	if (l->c_data_off <
	    l->c_sq_off + (uint64_t)l->sq_entries * RING_ENTRY_BYTES)
		return -EPROTO;
	return 0;
}

/* Everything of a connection that depends on the layout. */
static int setup(struct hearth *h, const struct ring_layout *lay)
{
	uint32_t i;

	h->lay = *lay;
	h->rec = calloc(lay->sq_entries, sizeof(*h->rec));
	h->req = calloc(lay->n_slots, sizeof(*h->req));
	h->live = calloc(lay->n_slots, sizeof(*h->live));
	if (!h->rec || !h->req || !h->live)
		return -ENOMEM;
	for (i = 0; i < lay->n_slots; i++)
		h->req[i].slot = i;
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		h->spin_max_ns = SPIN_MAX_NS;
	h->spin_ns = h->spin_max_ns;
	return 0;
}

static int new_conn(struct hearth **out)
{
	struct hearth *h;

	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->sock = h->kick_fd = h->event_fd = h->epoll_fd = -1;
	h->msg = malloc(WIRE_MAX_BYTES);
	if (!h->msg) {
		free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

int conn_attach(struct hearth **out, const struct ring_layout *lay, void *c,
		const void *d, int sock, int kick_fd, int event_fd)
{
	struct hearth *h;
	int err;

	*out = NULL;
	err = new_conn(&h);
	if (err)
		return err;
	h->sock = sock;
	h->kick_fd = kick_fd;
	h->event_fd = event_fd;
	err = conn_check_layout(lay);
	if (!err)
		err = setup(h, lay);
	if (err) {
		hearth_close(&h);
		return err;
	}
	h->c = c;
	h->d = d;
	h->rc = c;
	h->rd = d;
	h->cq_head = __atomic_load_n(&h->rd->cq_tail, __ATOMIC_ACQUIRE);
	h->sq_tail = __atomic_load_n(&h->rd->sq_head, __ATOMIC_ACQUIRE);
	*out = h;
	return 0;
}

static int check_size(struct hearth *h, int fd, uint64_t bytes,
		      const char *what)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(h, -errno, "cannot look at session memory %s",
			       what);
	if (st.st_size < 0 || (uint64_t)st.st_size < bytes)
		return err_set(h, -EPROTO,
			       "session memory %s has %lld bytes, the daemon "
			       "spoke of %llu",
			       what, (long long)st.st_size,
			       (unsigned long long)bytes);
	return 0;
}

/* Map C and D and take the eventfds of a SESSION message. */
static int take_session(struct hearth *h, struct conn_msg *m)
{
	struct wire_session ws;
	void *p;
	int err;

	if (m->type != WIRE_SESSION || m->len != sizeof(ws) || m->n_fds != 4)
		return err_set(h, -EPROTO,
			       "the daemon's answer to the "
			       "handshake is not a session");
	memcpy(&ws, m->body, sizeof(ws));
	err = conn_check_layout(&ws.layout);
	if (err)
		return err_set(h, err,
			       "the daemon's session layout is not "
			       "valid");
	err = check_size(h, m->fd[0], ws.layout.c_bytes, "C");
	if (!err)
		err = check_size(h, m->fd[1], ws.layout.d_bytes, "D");
	if (!err)
		err = setup(h, &ws.layout);
	if (err)
		return err;
	h->owns_map = true;
	h->epoch = ws.epoch;
	h->session = ws.session;
	p = mmap(NULL, ws.layout.c_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		 m->fd[0], 0);
	if (p == MAP_FAILED)
		goto fail;
	h->c = p;
	p = mmap(NULL, ws.layout.d_bytes, PROT_READ, MAP_SHARED, m->fd[1], 0);
	if (p == MAP_FAILED)
		goto fail;
	h->d = p;
	h->rc = (struct ring_c *)(void *)h->c;
	h->rd = (const struct ring_d *)(const void *)h->d;
	h->kick_fd = m->fd[2];
	h->event_fd = m->fd[3];
	m->fd[2] = m->fd[3] = -1;
	return 0;
fail:
	err = -errno;
	return err_set(h, err, "cannot map the session's memory: %s",
		       hearth_strerror(err));
}

static int handshake(struct hearth *h, const struct hearth_options *o)
{
	struct wire_hello hello = {
		.n_slots = o->n_slots,
		.c_bytes = o->in_bytes,
		.d_bytes = o->out_bytes,
	};
	struct conn_msg m;
	int err;

	err = conn_send(h, WIRE_HELLO, &hello, sizeof(hello), NULL, 0);
	if (!err)
		err = conn_recv(h, &m, CONN_HANDSHAKE_MS);
	if (err)
		return err;
	err = take_session(h, &m);
	conn_msg_close(&m);
	if (!err)
		err = conn_send(h, WIRE_MAPPED, NULL, 0, NULL, 0);
	if (!err)
		err = conn_recv(h, &m, CONN_HANDSHAKE_MS);
	if (err)
		return err;
	conn_msg_close(&m);
	if (m.type != WIRE_READY)
		return err_set(h, -EPROTO,
			       "the daemon did not finish the "
			       "handshake");
	if (h->rd->magic != RING_MAGIC || h->rd->abi != RING_ABI)
		return err_set(h, -EPROTO,
			       "the session's memory is not of "
			       "version %u of the rings",
			       RING_ABI);
	h->cq_head = __atomic_load_n(&h->rd->cq_tail, __ATOMIC_ACQUIRE);
	h->sq_tail = __atomic_load_n(&h->rd->sq_head, __ATOMIC_ACQUIRE);
	return 0;
}

/* ------------------------------------------------------------- connecting */

static int dial(struct hearth *h, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 10 };
	int err;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(h, -ENAMETOOLONG,
			       "socket path %s: %zu bytes, at most %zu", path,
			       strlen(path), sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	h->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (h->sock < 0) {
		err = -errno;
		return err_set(h, err, "cannot make a socket: %s",
			       hearth_strerror(err));
	}
	/* a daemon that is stopped must not hang its clients */
	setsockopt(h->sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (!connect(h->sock, (struct sockaddr *)&sa, sizeof(sa)))
		return 0;
	err = -errno;
	close_fd(&h->sock);
	if (err == -EAGAIN)
		err = -ETIMEDOUT;
	return err_set(h, err, "no daemon answers on %s: %s", path,
		       hearth_strerror(err));
}

static int find_daemon(struct hearth *h, const char *path)
{
	char user[sizeof(((struct sockaddr_un *)0)->sun_path) + 64];
	const char *dir;
	int err;

	if (!path)
		path = getenv("HEARTH_SOCKET");
	if (path && *path)
		return dial(h, path);
	dir = getenv("XDG_RUNTIME_DIR");
	if (dir && *dir == '/' &&
	    snprintf(user, sizeof(user), "%s/hearth/hearth.sock", dir) <
		    (int)sizeof(user) &&
	    !dial(h, user))
		return 0;
	err = dial(h, SYSTEM_SOCKET);
	if (err && dir && *dir == '/')
		err_set(h, err,
			"no daemon answers on %s/hearth/hearth.sock or "
			"%s: %s",
			dir, SYSTEM_SOCKET, hearth_strerror(err));
	return err;
}

int hearth_open(struct hearth **out, const struct hearth_options *opt)
{
	struct hearth_options o = { .size = sizeof(o) };
	struct hearth *h;
	int err;

	*out = NULL;
	if (opt && opt->size < sizeof(size_t))
		return err_open(-EINVAL, "struct hearth_options has no size");
	if (opt)
		memcpy(&o, opt, opt->size < sizeof(o) ? opt->size : sizeof(o));
	err = new_conn(&h);
	if (err)
		return err_open(err, "not enough memory for a connection");
	h->log = o.log;
	h->log_arg = o.log_arg;
	err = find_daemon(h, o.socket);
	if (!err)
		err = handshake(h, &o);
	if (err) {
		err_open(err, "%s", h->err[0] ? h->err : hearth_strerror(err));
		hearth_close(&h);
		return err;
	}
	*out = h;
	return 0;
}

int hearth_fd(struct hearth *h)
{
	return cring_fd(h);
}
