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
#define BOUND_MS      10000 /* of coming back to a daemon */
#define MAX_AGAIN     1
#define OPEN_NS	      (2000 * 1000000ull) /* of trying to open */
#define AGAIN_NS      (20 * 1000000)

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

int conn_gone(struct hearth *h, const char *why)
{
	if (h->lost)
		return -ENOTCONN;
	if (!h->link.path)
		return conn_lose(h, -ENOTCONN, why);
	link_down(h, why);
	return err_set(h, h->lost ? -ENOTCONN : -ECONNRESET, "%s", why);
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
		conn_gone(h, "the daemon closed the connection");
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

void conn_close_fds(struct hearth *h)
{
	cring_unwatch(h);
	close_fd(&h->event_fd);
	close_fd(&h->kick_fd);
	close_fd(&h->sock);
}

void mem_free(struct mem *mem)
{
	if (!mem)
		return;
	if (mem->owns && mem->c)
		munmap(mem->c, mem->lay.c_bytes);
	if (mem->owns && mem->d)
		munmap((void *)(uintptr_t)mem->d, mem->lay.d_bytes);
	free(mem);
}

void hearth_close(struct hearth **hp)
{
	struct hearth *h = *hp;
	struct mem *mem;
	struct req *r;
	uint32_t i;

	*hp = NULL;
	if (!h)
		return;
	for (i = 0; h->req && i < h->n_slots; i++) {
		r = &h->req[i];
		stop_fini(&r->stop);
		model_put(r->model);
		free(r->rec);
	}
	conn_close_fds(h);
	close_fd(&h->timer_fd);
	close_fd(&h->epoll_fd);
	link_fini(h);
	mem_free(h->mem);
	while ((mem = h->old)) {
		h->old = mem->next;
		mem_free(mem);
	}
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

/* The first session says how many requests there may be. */
static int setup(struct hearth *h, const struct ring_layout *lay)
{
	uint32_t i;

	h->n_slots = lay->n_slots;
	h->req = calloc(lay->n_slots, sizeof(*h->req));
	h->live = calloc(lay->n_slots, sizeof(*h->live));
	if (!h->req || !h->live)
		return -ENOMEM;
	for (i = 0; i < lay->n_slots; i++)
		h->req[i].slot = i;
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		h->spin_max_ns = SPIN_MAX_NS;
	h->spin_ns = h->spin_max_ns;
	return 0;
}

int conn_install(struct hearth *h, struct mem *mem)
{
	struct cring_rec *rec;
	int err;

	rec = calloc(mem->lay.sq_entries, sizeof(*rec));
	if (!rec)
		return -ENOMEM;
	if (!h->req) {
		err = setup(h, &mem->lay);
		if (err) {
			free(rec);
			return err;
		}
	}
	free(h->rec);
	h->rec = rec;
	h->rec_head = h->rec_tail = 0;
	h->data_head = h->data_tail = h->data_next = 0;
	h->nop_sent = h->nop_seen = h->nop_given_up = h->nop_wrong = 0;
	mem->rc = (struct ring_c *)(void *)mem->c;
	mem->rd = (const struct ring_d *)(const void *)mem->d;
	mem->no = ++h->link.n;
	h->cq_head = __atomic_load_n(&mem->rd->cq_tail, __ATOMIC_ACQUIRE);
	h->sq_tail = __atomic_load_n(&mem->rd->sq_head, __ATOMIC_ACQUIRE);
	h->mem = mem;
	return 0;
}

static int new_conn(struct hearth **out)
{
	struct hearth *h;

	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->sock = h->kick_fd = h->event_fd = h->epoll_fd = h->timer_fd = -1;
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
	struct mem *mem;
	int err;

	*out = NULL;
	err = new_conn(&h);
	if (err)
		return err;
	h->sock = sock;
	h->kick_fd = kick_fd;
	h->event_fd = event_fd;
	err = conn_check_layout(lay);
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		err = -ENOMEM;
	if (!err) {
		mem->lay = *lay;
		mem->c = c;
		mem->d = d;
		err = conn_install(h, mem);
	}
	if (err) {
		if (!h->mem)
			mem_free(mem);
		hearth_close(&h);
		return err;
	}
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

int conn_take_session(struct hearth *h, struct conn_msg *m, struct mem **out)
{
	struct wire_session ws;
	struct mem *mem;
	void *p;
	int err;

	*out = NULL;
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
	if (err)
		return err;
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return err_set(h, -ENOMEM, "not enough memory for a session");
	mem->owns = true;
	mem->lay = ws.layout;
	p = mmap(NULL, ws.layout.c_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		 m->fd[0], 0);
	if (p == MAP_FAILED)
		goto fail;
	mem->c = p;
	p = mmap(NULL, ws.layout.d_bytes, PROT_READ, MAP_SHARED, m->fd[1], 0);
	if (p == MAP_FAILED)
		goto fail;
	mem->d = p;
	h->epoch = ws.epoch;
	h->session = ws.session;
	h->kick_fd = m->fd[2];
	h->event_fd = m->fd[3];
	m->fd[2] = m->fd[3] = -1;
	*out = mem;
	return 0;
fail:
	err = -errno;
	mem_free(mem);
	return err_set(h, err, "cannot map the session's memory: %s",
		       hearth_strerror(err));
}

/* The daemon has initialised what we mapped. */
int conn_check_rings(struct hearth *h, const struct conn_msg *m,
		     const struct mem *mem)
{
	const struct ring_d *rd = (const struct ring_d *)(const void *)mem->d;

	if (m->type != WIRE_READY)
		return err_set(h, -EPROTO,
			       "the daemon did not finish the "
			       "handshake");
	if (rd->magic != RING_MAGIC || rd->abi != RING_ABI)
		return err_set(h, -EPROTO,
			       "the session's memory is not of "
			       "version %u of the rings",
			       RING_ABI);
	return 0;
}

static int handshake(struct hearth *h)
{
	struct mem *mem = NULL;
	struct conn_msg m;
	int err;

	err = conn_send(h, WIRE_HELLO, &h->link.hello, sizeof(h->link.hello),
			NULL, 0);
	if (!err)
		err = conn_recv(h, &m, CONN_HANDSHAKE_MS);
	if (err)
		return err;
	err = conn_take_session(h, &m, &mem);
	conn_msg_close(&m);
	if (!err)
		err = conn_send(h, WIRE_MAPPED, NULL, 0, NULL, 0);
	if (!err)
		err = conn_recv(h, &m, CONN_HANDSHAKE_MS);
	if (!err) {
		conn_msg_close(&m);
		err = conn_check_rings(h, &m, mem);
	}
	if (!err)
		err = conn_install(h, mem);
	if (err && mem != h->mem)
		mem_free(mem);
	return err;
}

/* ------------------------------------------------------------- connecting */

int conn_dial(struct hearth *h, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 10 };
	int err;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(h, -ENAMETOOLONG,
			       "socket path %s: %zu bytes, at most %zu", path,
			       strlen(path), sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	h->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
			 0);
	if (h->sock < 0) {
		err = -errno;
		return err_set(h, err, "cannot make a socket: %s",
			       hearth_strerror(err));
	}
	/* a daemon that is stopped must not hang its clients */
	setsockopt(h->sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (!connect(h->sock, (struct sockaddr *)&sa, sizeof(sa)) &&
	    !fcntl(h->sock, F_SETFL, 0))
		return 0;
	err = -errno;
	close_fd(&h->sock);
	return err;
}

/* A full backlog is worth waiting for, for a while. */
static int dial(struct hearth *h, const char *path)
{
	uint64_t end = cring_now_ns() + CONN_HANDSHAKE_MS * 1000000ull;
	struct timespec nap = { .tv_nsec = 5000000 };
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);
	int err;

	do {
		err = conn_dial(h, path);
		if (err == -EAGAIN)
			nanosleep(&nap, NULL);
	} while (err == -EAGAIN && cring_now_ns() < end);
	if (err == -ENAMETOOLONG)
		return err;
	if (err == -EAGAIN)
		err = -ETIMEDOUT;
	if (err)
		return err_set(h, err, "no daemon answers on %s: %s", path,
			       hearth_strerror(err));
	free(h->link.path);
	h->link.path = strdup(path);
	if (!h->link.path)
		return err_set(h, -ENOMEM, "not enough memory");
	if (!getsockopt(h->sock, SOL_SOCKET, SO_PEERCRED, &cred, &n))
		h->link.uid = cred.uid;
	return 0;
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

static int open_once(struct hearth **out, const struct hearth_options *o)
{
	struct hearth *h;
	char *path;
	int err;

	err = new_conn(&h);
	if (err)
		return err_open(err, "not enough memory for a connection");
	h->log = o->log;
	h->log_arg = o->log_arg;
	h->link.hello.n_slots = o->n_slots;
	h->link.hello.c_bytes = o->in_bytes;
	h->link.hello.d_bytes = o->out_bytes;
	h->link.bound_ms = o->reconnect_ms ? o->reconnect_ms : BOUND_MS;
	h->link.max_again = o->max_resubmit ? o->max_resubmit : MAX_AGAIN;
	/* what fails before it ever worked is no matter for the link */
	err = find_daemon(h, o->socket);
	path = h->link.path;
	h->link.path = NULL;
	if (!err)
		err = handshake(h);
	if (o->no_reconnect)
		free(path);
	else
		h->link.path = path;
	if (err) {
		err_open(err, "%s", h->err[0] ? h->err : hearth_strerror(err));
		hearth_close(&h);
		return err;
	}
	/* the next daemon is to give the same */
	h->link.hello.n_slots = h->mem->lay.n_slots;
	h->link.hello.sq_entries = h->mem->lay.sq_entries;
	h->link.hello.c_bytes = h->mem->lay.c_bytes;
	h->link.hello.d_bytes = h->mem->lay.d_bytes;
	*out = h;
	return 0;
}

/* One that left in the middle of the handshake may be restarting. */
int hearth_open(struct hearth **out, const struct hearth_options *opt)
{
	struct hearth_options o = { .size = sizeof(o) };
	struct timespec nap = { .tv_nsec = AGAIN_NS };
	uint64_t end = 0;
	int err;

	*out = NULL;
	if (opt && opt->size < sizeof(size_t))
		return err_open(-EINVAL, "struct hearth_options has no size");
	if (opt)
		memcpy(&o, opt, opt->size < sizeof(o) ? opt->size : sizeof(o));
	for (;;) {
		err = open_once(out, &o);
		if (err == -ENOTCONN && !end && !o.no_reconnect)
			end = cring_now_ns() + OPEN_NS;
		if ((err != -ENOTCONN && err != -ENOENT &&
		     err != -ECONNREFUSED) ||
		    cring_now_ns() >= end)
			return err;
		nanosleep(&nap, NULL);
	}
}

uint64_t hearth_epoch(const struct hearth *h)
{
	return h->epoch;
}

int hearth_fd(struct hearth *h)
{
	return cring_fd(h);
}
