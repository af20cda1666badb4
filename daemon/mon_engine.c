/* SPDX-License-Identifier: MIT */
/* mon_engine.c - the engine process: start, messages, death, next one. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"
#include "notify.h"

#define QUICK_NS       2000000000ull /* an engine that lives shorter died at once */
#define MAX_QUICK      6 /* before READY in a row: there is no sense in more */
#define BACKOFF_NS     10000000ull /* doubles each time, after the first */
#define MAX_BACKOFF    3	   /* times: an engine is back within 100 ms */
#define STOP_MS	       3000	   /* time to leave before it is killed */
#define MESSAGE_BUDGET 64

static int make_stats(struct mon_engine *e)
{
	void *p;

	e->stats_fd = memfd_create("stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (e->stats_fd < 0)
		return -errno;
	if (ftruncate(e->stats_fd, sizeof(*e->stats)) ||
	    fcntl(e->stats_fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	p = mmap(NULL, sizeof(*e->stats), PROT_READ | PROT_WRITE, MAP_SHARED,
		 e->stats_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	e->stats = p;
	return 0;
}

/* ---------------------------------------------------------------- sending */

static void free_out(struct mon_out *o)
{
	while (o->n_fds)
		close(o->fds[--o->n_fds]);
	free(o);
}

static void flush_out(struct mon *m)
{
	struct mon_engine *e = &m->engine;
	struct mon_out *o;

	while ((o = e->out)) {
		if (proc_send(e->child.ctl, o->type, o->body, o->n, o->fds,
			      o->n_fds) == -EAGAIN)
			return;
		e->out = o->next;
		if (!e->out)
			e->out_tail = &e->out;
		free_out(o);
	}
}

/* Sessions, models and grants are bounded, so this queue is. */
static void enqueue(struct mon *m, enum proc_type type, const void *body,
		    size_t n, const int *fds, unsigned int n_fds)
{
	struct mon_engine *e = &m->engine;
	struct mon_out *o = calloc(1, sizeof(*o));

	if (!o)
		fatal(ENOMEM, "engine: no memory for a message");
	o->type = type;
	o->n = (uint32_t)n;
	if (n)
		memcpy(o->body, body, n);
	while (o->n_fds < n_fds) {
		o->fds[o->n_fds] = fcntl(fds[o->n_fds], F_DUPFD_CLOEXEC, 0);
		if (o->fds[o->n_fds] < 0)
			fatal(errno, "engine: no descriptor for a message");
		o->n_fds++;
	}
	*e->out_tail = o;
	e->out_tail = &o->next;
}

void mon_engine_send(struct mon *m, enum proc_type type, const void *body,
		     size_t n, const int *fds, unsigned int n_fds)
{
	struct mon_engine *e = &m->engine;
	int err;

	if (!e->ready)
		return;
	if (e->out) {
		enqueue(m, type, body, n, fds, n_fds);
		return;
	}
	err = proc_send(e->child.ctl, type, body, n, fds, n_fds);
	if (err == -EAGAIN)
		enqueue(m, type, body, n, fds, n_fds);
	else if (err && err != -EPIPE && err != -ECONNRESET)
		log_warn(err, "engine: message %d not sent", type);
}

/* --------------------------------------------------------------- messages */

static void engine_ready(struct mon *m)
{
	size_t i;

	m->engine.ready = true;
	m->engine.was_ready = true;
	mon_watch_ready(m);
	notify("READY=1");
	mon_model_engine_up(m);
	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		if (m->sessions[i].state == MON_S_ATTACHING)
			mon_session_attach(m, &m->sessions[i]);
	mon_notify_status(m);
}

static void engine_message(struct mon *m, int type, void *body)
{
	struct proc_model_state *ms = body;
	struct proc_status *st = body;
	struct proc_id *id = body;
	struct mon_session *s;

	switch (type) {
	case PROC_READY:
		engine_ready(m);
		break;
	case PROC_SESSION_UP:
		st->text[sizeof(st->text) - 1] = 0;
		mon_session_up(m, st);
		break;
	case PROC_SESSION_BAD:
		st->text[sizeof(st->text) - 1] = 0;
		mon_session_bad(m, st);
		break;
	case PROC_SESSION_GONE:
		s = mon_session_find(m, id->id);
		if (s && s->state == MON_S_ENDING)
			mon_session_free(s);
		break;
	case PROC_MODEL_STATE:
		ms->text[sizeof(ms->text) - 1] = 0;
		ms->arch[sizeof(ms->arch) - 1] = 0;
		ms->quant[sizeof(ms->quant) - 1] = 0;
		ms->backend[sizeof(ms->backend) - 1] = 0;
		mon_model_state(m, ms);
		mon_notify_status(m);
		break;
	case PROC_BUSY:
		mon_watch_busy(m);
		break;
	default:
		log_warnx("engine: unexpected message (%d), killing it", type);
		m->engine.wrong = true;
		m->ops->kill(m->engine.child.pidfd);
	}
}

static void ctl_ready(struct loop_src *s, uint32_t revents)
{
	struct mon *m = s->arg;
	_Alignas(8) char body[PROC_MAX_BODY];
	int fds[PROC_MAX_FDS];
	int budget = MESSAGE_BUDGET;
	unsigned int n_fds;
	size_t n;
	int type;

	(void)revents;
	flush_out(m);
	while (budget--) {
		type = proc_recv(s->fd, body, &n, fds, &n_fds);
		if (type == -EAGAIN)
			return;
		if (type <= 0) {
			/* Its end of the socket is shut: so is it, or soon. */
			m->engine.wrong = type == -EPROTO;
			m->ops->kill(m->engine.child.pidfd);
			return;
		}
		/* None of what it may say carries any. */
		while (n_fds)
			close(fds[--n_fds]);
		engine_message(m, type, body);
	}
	loop_again(m->loop, s);
}

/* ------------------------------------------------------------ life, death */

struct mon_dying {
	struct loop_src src;
	struct mon *m;
	struct mon_dying *next;
	struct mon_dying **prev;
};

static void forget(struct mon_dying *d)
{
	*d->prev = d->next;
	if (d->next)
		d->next->prev = d->prev;
	loop_del(d->m->loop, &d->src);
	close(d->src.fd);
	free(d);
}

static void dead(struct loop_src *s, uint32_t revents)
{
	struct mon_dying *d = s->arg;
	siginfo_t si;

	(void)revents;
	if (d->m->ops->wait(s->fd, &si))
		forget(d);
}

void mon_reap(struct mon *m, struct child *c)
{
	struct mon_dying *d = calloc(1, sizeof(*d));

	m->ops->kill(c->pidfd);
	if (!d) {
		close(c->pidfd); /* a zombie harms nobody */
		return;
	}
	d->m = m;
	d->src = (struct loop_src){
		.fd = c->pidfd, .events = POLLIN, .fn = dead, .arg = d
	};
	d->next = m->dying;
	d->prev = &m->dying;
	if (d->next)
		d->next->prev = &d->next;
	m->dying = d;
	if (loop_add(m->loop, &d->src))
		forget(d);
}

static void drop_child(struct mon *m)
{
	struct mon_engine *e = &m->engine;
	struct mon_out *o;

	loop_del(m->loop, &e->ctl);
	loop_del(m->loop, &e->pid);
	if (e->child.ctl >= 0)
		close(e->child.ctl);
	if (e->child.pidfd >= 0)
		close(e->child.pidfd);
	e->child.ctl = -1;
	e->child.pidfd = -1;
	e->ready = false;
	while ((o = e->out)) {
		e->out = o->next;
		free_out(o);
	}
	e->out_tail = &e->out;
}

/* Sessions stay; what the dead engine was to end has ended. */
static void sessions_down(struct mon *m, bool crashed)
{
	struct mon_session *s;
	size_t i;

	for (i = 0; i < PROC_MAX_SESSIONS; i++) {
		s = &m->sessions[i];
		if (s->state == MON_S_ENDING)
			mon_session_free(s);
		/* Until an engine has taken it over, the first cause counts. */
		if (s->attached && crashed)
			s->crashed = true;
		if (s->state != MON_S_UP)
			continue;
		s->state = MON_S_ATTACHING;
		s->epoch = m->epoch++;
	}
}

static void restart(struct loop_timer *t)
{
	struct mon *m = t->arg;
	int err = mon_engine_start(m);

	if (!err)
		return;
	log_warn(err, "engine: cannot be started");
	m->fail = err;
	m->stop = true;
}

/*
 * The next one at once, unless they keep dying of themselves. One that never
 * gets READY is given up after a while; a kill from outside is no reason to.
 */
static void next_engine(struct mon *m, bool was_ready, bool crashed)
{
	struct mon_engine *e = &m->engine;
	bool quick = clock_ns() - e->t_start < QUICK_NS;
	uint32_t n;

	if (was_ready)
		e->n_quick = 0;
	else
		e->n_quick += crashed;
	e->n_crash = was_ready && crashed && quick ? e->n_crash + 1 : 0;
	if (e->n_quick >= MAX_QUICK) {
		m->fail = -EIO;
		m->stop = true;
		return;
	}
	n = e->n_quick + e->n_crash;
	if (n <= 1)
		restart(&e->restart);
	else if (!was_ready)
		loop_timer_set(m->loop, &e->restart, BACKOFF_NS << n);
	else
		loop_timer_set(m->loop, &e->restart,
			       BACKOFF_NS
				       << (n > MAX_BACKOFF ? MAX_BACKOFF : n));
}

/* What is asked for is not there, and was not before. */
static bool hopeless(const struct mon_engine *e, const siginfo_t *si)
{
	return !e->was_ready && si->si_code == CLD_EXITED &&
	       si->si_status == PROC_EXIT_BACKEND;
}

static void pid_ready(struct loop_src *src, uint32_t revents)
{
	struct mon *m = src->arg;
	struct mon_engine *e = &m->engine;
	bool was_ready = e->ready;
	bool crashed;
	siginfo_t si;

	(void)revents;
	if (!m->ops->wait(src->fd, &si))
		return;
	crashed = mon_watch_death(m, &si);
	drop_child(m);
	e->child.pid = -1;
	sessions_down(m, crashed);
	mon_model_engine_down(m, crashed);
	mon_notify_status(m);
	memset(e->stats, 0, sizeof(*e->stats));
	if (hopeless(e, &si)) {
		m->fail = -ENODEV;
		m->stop = true;
		return;
	}
	next_engine(m, was_ready, crashed);
}

int mon_engine_start(struct mon *m)
{
	struct mon_engine *e = &m->engine;
	int err;

	e->restart.fn = restart;
	e->restart.arg = m;
	if (!e->stats) {
		err = make_stats(e);
		if (err)
			return err;
	}
	err = m->ops->spawn(&e->child, "--engine", &m->child_conf, e->stats_fd);
	if (err)
		return err;
	e->n_starts++;
	e->t_start = clock_ns();
	mon_watch_start(m);
	e->ctl = (struct loop_src){ .fd = e->child.ctl,
				    .events = POLLIN | POLLOUT,
				    .fn = ctl_ready,
				    .arg = m };
	e->pid = (struct loop_src){ .fd = e->child.pidfd,
				    .events = POLLIN,
				    .fn = pid_ready,
				    .arg = m };
	err = loop_add(m->loop, &e->ctl);
	if (!err)
		err = loop_add(m->loop, &e->pid);
	return err;
}

void mon_engine_stop(struct mon *m)
{
	struct mon_engine *e = &m->engine;
	struct pollfd p = { .fd = e->child.pidfd, .events = POLLIN };
	siginfo_t si;

	if (e->child.pidfd >= 0) {
		if (!e->ready ||
		    proc_send(e->child.ctl, PROC_EXIT, NULL, 0, NULL, 0) ||
		    poll(&p, 1, STOP_MS) <= 0)
			m->ops->kill(e->child.pidfd);
		poll(&p, 1, STOP_MS);
		m->ops->wait(e->child.pidfd, &si);
	}
	drop_child(m);
	while (m->dying)
		forget(m->dying);
	loop_timer_clear(m->loop, &e->restart);
	mon_watch_stop(m);
	if (e->stats)
		munmap(e->stats, sizeof(*e->stats));
	if (e->stats_fd >= 0)
		close(e->stats_fd);
	e->stats = NULL;
	e->stats_fd = -1;
}
