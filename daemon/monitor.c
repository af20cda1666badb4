/* SPDX-License-Identifier: MIT */
/* monitor.c - clients of the monitor: accepting, messages, answers. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

#define ACCEPT_BUDGET	  32
#define MESSAGE_BUDGET	  16
#define MESSAGE_MAX	  1024 /* the longest a client may send is shorter */
#define EXTRA_CLIENTS_UID 16   /* connections without a session */

_Static_assert(sizeof(struct wire_hdr) + sizeof(struct wire_load) <=
		       MESSAGE_MAX,
	       "message");

static void idle_check(struct mon *m)
{
	if (!m->conf.exit_idle_s)
		return;
	if (m->n_clients)
		loop_timer_clear(m->loop, &m->idle);
	else
		loop_timer_set(m->loop, &m->idle,
			       m->conf.exit_idle_s * 1000000000u);
}

static void idle_out(struct loop_timer *t)
{
	struct mon *m = t->arg;

	log_info("leaving: nobody was connected (%llu s)",
		 (unsigned long long)m->conf.exit_idle_s);
	m->stop = true;
}

/* -------------------------------------------------------------- answering */

void mon_reply(struct mon_client *cl, enum wire_type type, uint32_t seq,
	       const void *body, size_t n, const int *fds, unsigned int n_fds)
{
	int err;

	if (!cl->used)
		return;
	err = wire_send(cl->src.fd, type, seq, body, n, fds, n_fds);
	if (!err)
		return;
	/* Progress is news: a full socket may miss it. Answers are not. */
	if (type == WIRE_PROGRESS && err == -EAGAIN)
		return;
	if (err != -EPIPE && err != -ECONNRESET)
		log_client("client: cannot be answered (uid %u, %s)", cl->uid,
			   strerrorname_np(-err));
	mon_client_drop(cl);
}

void mon_error(struct mon_client *cl, uint32_t seq, int err, const char *fmt,
	       ...)
{
	struct wire_error e = { .err = err };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e.text, sizeof(e.text), fmt, ap);
	va_end(ap);
	/* cppcheck-suppress ctunullpointer ; nobody calls this without one */
	log_debug("client: refused, %s (uid %u)", e.text, cl->uid);
	mon_reply(cl, WIRE_ERROR, seq, &e, sizeof(e), NULL, 0);
}

static void reply_limits(struct mon_client *cl, uint32_t seq)
{
	char buf[8192];
	int n = conf_print(&cl->m->conf, buf, sizeof(buf));

	if (n >= (int)sizeof(buf))
		n = (int)sizeof(buf) - 1;
	mon_reply(cl, WIRE_TEXT_REPLY, seq, buf, n, NULL, 0);
}

/* --------------------------------------------------------------- messages */

static void close_strangers(struct mon *m, const int *fds, unsigned int n)
{
	while (n)
		loop_close(m->loop, fds[--n]);
}

void mon_message(struct mon_client *cl, const void *msg, size_t n,
		 const int *fds, unsigned int n_fds)
{
	const void *body = (const char *)msg + sizeof(struct wire_hdr);
	struct wire_hello hello;
	struct wire_load load;
	struct wire_hdr h = { 0 };
	struct wire_id id;
	char why[160];
	int type;

	memcpy(&h, msg, n < sizeof(h) ? n : sizeof(h));
	type = wire_check(msg, n, n_fds, why);
	if (type < 0) {
		close_strangers(cl->m, fds, n_fds);
		mon_error(cl, h.seq, type, "%s", why);
		mon_client_drop(cl);
		return;
	}
	if (!cl->session)
		loop_timer_clear(cl->m->loop, &cl->timer);
	switch (type) {
	case WIRE_HELLO:
		memcpy(&hello, body, sizeof(hello));
		mon_hello(cl, h.seq, &hello);
		break;
	case WIRE_MAPPED:
		mon_mapped(cl, h.seq);
		break;
	case WIRE_LOAD:
		memcpy(&load, body, sizeof(load));
		if (load.n_files == n_fds) {
			mon_load(cl, h.seq, &load, fds);
			break;
		}
		close_strangers(cl->m, fds, n_fds);
		mon_error(cl, h.seq, -EINVAL,
			  "load: %u files, but %u file descriptors",
			  load.n_files, n_fds);
		break;
	case WIRE_LIST:
		mon_list(cl, h.seq);
		break;
	case WIRE_LIMITS:
		reply_limits(cl, h.seq);
		break;
	case WIRE_STATS:
		mon_stats(cl, h.seq);
		break;
	default: /* WIRE_OPEN, WIRE_UNLOAD: the table has no other */
		memcpy(&id, body, sizeof(id));
		if (type == WIRE_OPEN)
			mon_open(cl, h.seq, id.model);
		else
			mon_unload(cl, h.seq, &id);
	}
}

static void client_ready(struct loop_src *s, uint32_t revents)
{
	struct mon_client *cl = s->arg;
	_Alignas(8) char msg[MESSAGE_MAX];
	int fds[WIRE_MAX_FDS];
	unsigned int n_fds;
	int budget = MESSAGE_BUDGET;
	int n;

	(void)revents;
	while (cl->used && budget--) {
		n = wire_recv(s->fd, msg, sizeof(msg), fds, &n_fds);
		if (n == -EAGAIN)
			return;
		if (n == -EMSGSIZE) {
			close_strangers(cl->m, fds, n_fds);
			mon_error(cl, 0, -EMSGSIZE,
				  "message too long, or more than %d files",
				  WIRE_MAX_FDS);
			mon_client_drop(cl);
			return;
		}
		if (n <= 0) {
			/* An empty packet looks like the end, but has fds. */
			close_strangers(cl->m, fds, n_fds);
			mon_client_drop(cl);
			return;
		}
		mon_message(cl, msg, n, fds, n_fds);
	}
	if (cl->used)
		loop_again(cl->m->loop, s);
}

/* ---------------------------------------------------------------- clients */

static void client_late(struct loop_timer *t)
{
	struct mon_client *cl = t->arg;

	mon_error(cl, cl->session ? cl->session->seq : 0, -ETIMEDOUT,
		  "handshake: not done in %llu ms",
		  (unsigned long long)cl->m->conf.handshake_ms);
	mon_client_drop(cl);
}

/* Say why in one packet and close: the peer never gets a slot here. */
static void turn_away(struct mon *m, int fd, int err, const char *what,
		      unsigned long long limit)
{
	struct wire_error e = { .err = err };

	m->n_refused++;
	snprintf(e.text, sizeof(e.text), "too many %s (limit %llu)", what,
		 limit);
	wire_send(fd, WIRE_ERROR, 0, &e, sizeof(e), NULL, 0);
	close(fd);
}

static uint64_t count_of(const struct mon *m, uint32_t uid)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < MON_MAX_CLIENTS; i++)
		n += m->clients[i].used && m->clients[i].uid == uid;
	return n;
}

/* Drop this user's clients that have gone, and of which the loop has not told
 * yet: on a busy machine newcomers may be seen before them. */
static void drop_gone(struct mon *m, uint32_t uid)
{
	struct pollfd p = { .events = POLLRDHUP };
	size_t i;

	for (i = 0; i < MON_MAX_CLIENTS; i++) {
		p.fd = m->clients[i].src.fd;
		if (m->clients[i].used && m->clients[i].uid == uid &&
		    poll(&p, 1, 0) > 0)
			mon_client_drop(&m->clients[i]);
	}
}

struct mon_client *mon_client_new(struct mon *m, int fd, uint32_t uid)
{
	struct mon_client *cl = NULL;
	uint64_t limit = m->conf.max_sessions_uid + EXTRA_CLIENTS_UID;
	size_t i;

	if (count_of(m, uid) >= limit)
		drop_gone(m, uid);
	for (i = 0; i < MON_MAX_CLIENTS && !cl; i++)
		if (!m->clients[i].used)
			cl = &m->clients[i];
	if (count_of(m, uid) >= limit) {
		turn_away(m, fd, -EUSERS, "connections of this user", limit);
		return NULL;
	}
	if (!cl) {
		turn_away(m, fd, -EUSERS, "connections", MON_MAX_CLIENTS);
		return NULL;
	}
	memset(cl, 0, sizeof(*cl));
	cl->m = m;
	cl->uid = uid;
	cl->timer.fn = client_late;
	cl->timer.arg = cl;
	cl->src = (struct loop_src){ .fd = fd,
				     .events = POLLIN | POLLRDHUP,
				     .fn = client_ready,
				     .arg = cl };
	if (loop_add(m->loop, &cl->src)) {
		turn_away(m, fd, -ENOSPC, "event sources", MON_MAX_CLIENTS);
		return NULL;
	}
	cl->used = true;
	m->n_clients++;
	m->n_accepted++;
	loop_timer_set(m->loop, &cl->timer, m->conf.handshake_ms * 1000000u);
	idle_check(m);
	return cl;
}

void mon_client_drop(struct mon_client *cl)
{
	struct mon *m = cl->m;

	if (!cl->used)
		return;
	cl->used = false;
	loop_timer_clear(m->loop, &cl->timer);
	loop_del(m->loop, &cl->src);
	close(cl->src.fd);
	if (cl->session)
		mon_session_end(cl->session);
	cl->session = NULL;
	mon_model_client_gone(cl);
	m->n_clients--;
	idle_check(m);
}

/* No descriptors left: take one in the reserve's place and close it. */
static void shed(struct mon *m)
{
	int fd;

	close(m->reserve);
	fd = accept4(m->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		turn_away(m, fd, -EMFILE, "open files", 0);
	m->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void listen_ready(struct loop_src *s, uint32_t revents)
{
	struct mon *m = s->arg;
	struct ucred cred;
	socklen_t len;
	int budget = ACCEPT_BUDGET;
	int fd;

	(void)revents;
	while (budget--) {
		fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			shed(m);
			continue;
		}
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			return;
		len = sizeof(cred);
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
			close(fd);
			continue;
		}
		mon_client_new(m, fd, cred.uid);
	}
	loop_again(m->loop, s);
}

static void signal_ready(struct loop_src *s, uint32_t revents)
{
	struct mon *m = s->arg;
	struct signalfd_siginfo si;

	(void)revents;
	while (read(s->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		log_info("leaving: signal (%s)",
			 sigabbrev_np((int)si.ssi_signo));
		m->stop = true;
	}
}

/* ---------------------------------------------------------------- monitor */

static int watch_signals(struct mon *m)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	m->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (m->signals.fd < 0)
		return -errno;
	m->signals.events = POLLIN;
	m->signals.fn = signal_ready;
	m->signals.arg = m;
	return loop_add(m->loop, &m->signals);
}

int mon_new(struct mon **out, const struct conf *conf,
	    const struct mon_ops *ops, int listen_fd, char why[160])
{
	struct mon *m;
	size_t i;
	int err;

	*out = NULL;
	snprintf(why, 160, "start: no memory");
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	why[0] = 0;
	m->conf = *conf;
	m->child_conf = *conf;
	m->ops = ops;
	m->listen.fd = listen_fd;
	m->signals.fd = -1;
	m->reserve = -1;
	m->engine.child.ctl = -1;
	m->engine.child.pidfd = -1;
	m->engine.stats_fd = -1;
	m->pressure.fd = -1;
	m->engine.out_tail = &m->engine.out;
	m->t_start = clock_ns();
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		m->models[i].m = m;
		m->models[i].kid.child.pidfd = -1;
	}
	err = loop_new(&m->loop, 3 * (MON_MAX_CLIENTS + WIRE_MAX_MODELS));
	if (err)
		goto fail;
	if (getrandom(&m->epoch, sizeof(m->epoch), 0) < 0) {
		err = -errno;
		goto fail;
	}
	err = mon_pool_start(m, why);
	if (err)
		goto fail;
	m->idle.fn = idle_out;
	m->idle.arg = m;
	if (listen_fd >= 0) {
		m->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
		m->listen.events = POLLIN;
		m->listen.fn = listen_ready;
		m->listen.arg = m;
		err = loop_add(m->loop, &m->listen);
		if (!err)
			err = watch_signals(m);
		if (err)
			goto fail;
	}
	*out = m;
	return 0;
fail:
	mon_free(m);
	if (!why[0])
		snprintf(why, 160, "start: %s", strerrordesc_np(-err));
	return err;
}

void mon_free(struct mon *m)
{
	size_t i;

	if (!m)
		return;
	for (i = 0; i < MON_MAX_CLIENTS; i++)
		if (m->clients[i].used)
			mon_client_drop(&m->clients[i]);
	mon_models_free(m);
	mon_engine_stop(m);
	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		if (m->sessions[i].state != MON_S_FREE)
			mon_session_free(&m->sessions[i]);
	if (m->reserve >= 0)
		close(m->reserve);
	if (m->signals.fd >= 0)
		close(m->signals.fd);
	mon_pool_stop(m);
	loop_free(m->loop);
	free(m);
}

int mon_run(struct mon *m)
{
	int err = mon_engine_start(m);

	mon_pool_watch(m);
	mon_notify_start(m);
	mon_gpu_find(m);
	idle_check(m);
	while (!err && !m->stop)
		loop_run(m->loop, true);
	return err ? err : m->fail;
}
