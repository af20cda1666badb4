/* SPDX-License-Identifier: MIT */
/*
 * mon_session.c - session memories: made here, sealed here, kept here for the
 * next engine.
 *
 * C is made by us, never by the client, and sealed against shrinking and
 * growing before it leaves; once the client has mapped it, nobody can map it
 * for writing or punch holes into it any more (the engine maps it read-only).
 * D is mode 0600 and its client gets a read-only descriptor, so that another
 * uid cannot open it for writing; it cannot be sealed against new writable
 * mappings, because the next engine needs one. All pages of both exist before
 * anyone maps them, so touching them never fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"

#define DEF_SLOTS   32
#define DEF_C_BYTES (4ull << 20)
#define DEF_D_BYTES (16ull << 20)
#define MIN_BYTES   (64ull << 10)
#define MIN_SQ	    16
#define MAX_SQ	    4096

static uint64_t page_up(uint64_t n)
{
	return (n + RING_PAGE - 1) / RING_PAGE * RING_PAGE;
}

static uint32_t pow2_up(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

static uint64_t pick(uint64_t asked, uint64_t def, uint64_t min, uint64_t max)
{
	uint64_t v = asked ? asked : def;

	if (v > max)
		v = max;
	return v < min ? min : v;
}

int mon_layout(const struct conf *conf, const struct wire_hello *h,
	       struct ring_layout *l)
{
	memset(l, 0, sizeof(*l));
	l->n_slots = (uint32_t)pick(h->n_slots, DEF_SLOTS, 1, conf->max_slots);
	l->sq_entries = pow2_up(
		(uint32_t)pick(h->sq_entries, 2 * l->n_slots, MIN_SQ, MAX_SQ));
	l->cq_entries = pow2_up(4 * l->n_slots);
	if (l->cq_entries < MIN_SQ)
		l->cq_entries = MIN_SQ;
	l->c_bytes = page_up(
		pick(h->c_bytes, DEF_C_BYTES, MIN_BYTES, conf->max_in_bytes));
	l->d_bytes = page_up(
		pick(h->d_bytes, DEF_D_BYTES, MIN_BYTES, conf->max_out_bytes));
	l->c_sq_off = RING_PAGE;
	l->c_data_off = page_up(l->c_sq_off +
				(uint64_t)l->sq_entries * RING_ENTRY_BYTES);
	l->d_cq_off = RING_PAGE;
	l->d_slot_off = page_up(l->d_cq_off +
				(uint64_t)l->cq_entries * RING_ENTRY_BYTES);
	l->d_arena_off =
		page_up(l->d_slot_off +
			(uint64_t)l->n_slots * sizeof(struct ring_slot));
	/* Small memories with many slots have no room for data. */
	if (l->c_data_off >= l->c_bytes || l->d_arena_off >= l->d_bytes)
		return -EINVAL;
	return 0;
}

/* All its pages are there when this returns, or it fails. */
static int new_memfd(const char *name, uint64_t bytes, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) || fchmod(fd, 0600) ||
	    fallocate(fd, 0, 0, (off_t)bytes) ||
	    fcntl(fd, F_ADD_SEALS, seals)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int reopen_readonly(int fd)
{
	char path[32];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}

static int make_fds(struct mon_session *s)
{
	s->c = new_memfd("in", s->layout.c_bytes, F_SEAL_SHRINK | F_SEAL_GROW);
	if (s->c < 0)
		return s->c;
	s->d = new_memfd("out", s->layout.d_bytes,
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (s->d < 0)
		return s->d;
	s->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->kick < 0)
		return -errno;
	s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->event < 0 ? -errno : 0;
}

/* Why a session of these sizes may not be, or NULL. */
static const char *over_budget(const struct mon *m, uint32_t uid,
			       const struct ring_layout *l, uint64_t *asked,
			       uint64_t *limit)
{
	uint64_t shared = l->c_bytes + l->d_bytes;
	uint64_t n_uid = 1;
	uint64_t n = 1;
	size_t i;

	for (i = 0; i < PROC_MAX_SESSIONS; i++) {
		if (m->sessions[i].state == MON_S_FREE)
			continue;
		n++;
		if (m->sessions[i].uid != uid)
			continue;
		n_uid++;
		shared += m->sessions[i].layout.c_bytes +
			  m->sessions[i].layout.d_bytes;
	}
	*asked = n;
	*limit = m->conf.max_sessions;
	if (*asked > *limit)
		return "sessions";
	*asked = n_uid;
	*limit = m->conf.max_sessions_uid;
	if (*asked > *limit)
		return "sessions of this user";
	*asked = shared;
	*limit = m->conf.max_shared_uid;
	return *asked > *limit ? "bytes of shared memory of this user" : NULL;
}

static struct mon_session *session_new(struct mon *m, struct mon_client *cl,
				       const struct ring_layout *l)
{
	struct mon_session *s = NULL;
	size_t i;

	for (i = 0; i < PROC_MAX_SESSIONS && !s; i++)
		if (m->sessions[i].state == MON_S_FREE)
			s = &m->sessions[i];
	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->id = ++m->next_session;
	s->epoch = m->epoch++;
	s->uid = cl->uid;
	s->layout = *l;
	s->client = cl;
	s->state = MON_S_SENT;
	s->c = s->d = s->kick = s->event = -1;
	return s;
}

void mon_session_free(struct mon_session *s)
{
	int *fds[] = { &s->c, &s->d, &s->kick, &s->event };
	size_t i;

	for (i = 0; i < 4; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	s->state = MON_S_FREE;
}

static void send_session(struct mon_client *cl, uint32_t seq, int d_ro)
{
	struct mon_session *s = cl->session;
	struct wire_session ws = { .epoch = s->epoch,
				   .session = s->id,
				   .layout = s->layout,
				   .spin_us = (uint32_t)cl->m->conf.spin_us };
	int fds[4] = { s->c, d_ro, s->kick, s->event };

	sscanf(HEARTH_VERSION, "%u.%u.%u", &ws.version[0], &ws.version[1],
	       &ws.version[2]);
	mon_reply(cl, WIRE_SESSION, seq, &ws, sizeof(ws), fds, 4);
}

void mon_hello(struct mon_client *cl, uint32_t seq, const struct wire_hello *h)
{
	struct mon *m = cl->m;
	struct ring_layout l;
	const char *over;
	uint64_t asked;
	uint64_t limit;
	int ro;
	int err;

	if (cl->session) {
		mon_error(cl, seq, -EALREADY,
			  "hello: this connection has a "
			  "session already");
		return;
	}
	if (h->resv[0] | h->resv[1] | h->resv[2] | h->resv[3]) {
		mon_error(cl, seq, -EINVAL, "hello: a reserved field is set");
		return;
	}
	if (mon_layout(&m->conf, h, &l)) {
		mon_error(cl, seq, -EINVAL,
			  "hello: %llu and %llu bytes are too few for %u "
			  "slots",
			  (unsigned long long)l.c_bytes,
			  (unsigned long long)l.d_bytes, l.n_slots);
		return;
	}
	over = over_budget(m, cl->uid, &l, &asked, &limit);
	if (over) {
		m->n_refused++;
		mon_error(cl, seq, -EDQUOT, "hello: %llu %s, limit %llu",
			  (unsigned long long)asked, over,
			  (unsigned long long)limit);
		return;
	}
	cl->session = session_new(m, cl, &l);
	if (!cl->session) {
		mon_error(cl, seq, -EDQUOT, "hello: %d sessions, limit %d",
			  PROC_MAX_SESSIONS, PROC_MAX_SESSIONS);
		return;
	}
	err = make_fds(cl->session);
	ro = err ? -1 : reopen_readonly(cl->session->d);
	if (err || ro < 0) {
		err = err ? err : ro;
		log_client("session: cannot be made (uid %u, %s)", cl->uid,
			   strerrorname_np(-err));
		mon_session_free(cl->session);
		cl->session = NULL;
		mon_error(cl, seq, err,
			  "hello: session memory cannot be made: %s",
			  strerrordesc_np(-err));
		return;
	}
	loop_timer_set(m->loop, &cl->timer, m->conf.handshake_ms * 1000000u);
	send_session(cl, seq, ro);
	close(ro);
}

/* Tell the engine, or leave it to the next engine's start. */
void mon_session_attach(struct mon *m, struct mon_session *s)
{
	struct proc_session p = {
		.id = s->id,
		.uid = s->uid,
		.flags = (s->attached ? PROC_SESSION_RECOVER : 0) |
			 (s->crashed ? PROC_SESSION_CRASHED : 0),
		.epoch = s->epoch,
		.layout = s->layout
	};
	int fds[4] = { s->c, s->d, s->kick, s->event };

	mon_engine_send(m, PROC_SESSION_NEW, &p, sizeof(p), fds, 4);
}

void mon_mapped(struct mon_client *cl, uint32_t seq)
{
	struct mon_session *s = cl->session;

	if (!s || s->state != MON_S_SENT) {
		mon_error(cl, seq, -EPROTO,
			  "mapped: no handshake is under way");
		mon_client_drop(cl);
		return;
	}
	if (fcntl(s->c, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) {
		/* Only the client can have sealed it, to spoil it. */
		mon_error(cl, seq, -EPERM, "mapped: memory cannot be sealed");
		mon_client_drop(cl);
		return;
	}
	s->seq = seq;
	s->state = MON_S_ATTACHING;
	mon_session_attach(cl->m, s);
}

void mon_session_end(struct mon_session *s)
{
	struct mon *m = s->client->m;
	struct proc_id id = { .id = s->id };

	s->client = NULL;
	/* The engine never heard of it, or died and took it along. */
	if (s->state == MON_S_SENT || !m->engine.ready) {
		mon_session_free(s);
		return;
	}
	s->state = MON_S_ENDING;
	mon_engine_send(m, PROC_SESSION_END, &id, sizeof(id), NULL, 0);
}

struct mon_session *mon_session_find(struct mon *m, uint64_t id)
{
	size_t i;

	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		if (m->sessions[i].state != MON_S_FREE &&
		    m->sessions[i].id == id)
			return &m->sessions[i];
	return NULL;
}

void mon_session_up(struct mon *m, const struct proc_status *st)
{
	struct mon_session *s = mon_session_find(m, st->id);
	struct proc_grant all = { .session = st->id };

	if (!s || s->state == MON_S_ENDING || !s->client)
		return;
	if (st->err) {
		log_warn(st->err, "session: the engine cannot map it (uid %u)",
			 s->uid);
		mon_error(s->client, s->seq, st->err,
			  "session: the engine cannot map it: %.100s",
			  st->text);
		mon_client_drop(s->client);
		return;
	}
	if (s->state != MON_S_ATTACHING)
		return;
	s->state = MON_S_UP;
	s->crashed = false;
	mon_grant_all(s->client);
	/* What a dead engine ran on another model has lost it. */
	mon_engine_send(m, PROC_GRANT, &all, sizeof(all), NULL, 0);
	if (s->attached)
		return; /* a new engine has taken it over: no handshake */
	s->attached = true;
	loop_timer_clear(m->loop, &s->client->timer);
	mon_reply(s->client, WIRE_READY, s->seq, NULL, 0, NULL, 0);
}

void mon_session_bad(struct mon *m, const struct proc_status *st)
{
	struct mon_session *s = mon_session_find(m, st->id);

	if (!s || !s->client)
		return;
	log_client("session: ended, %s (uid %u)", st->text, s->uid);
	mon_error(s->client, 0, st->err ? st->err : -EPROTO, "session: %.200s",
		  st->text);
	if (s->client)
		mon_client_drop(s->client);
}
