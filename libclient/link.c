/* SPDX-License-Identifier: MIT */
/*
 * link.c - coming back to a daemon: back-off, handshake, models, requests.
 *
 * A small state machine that never waits: link_step() goes on as far as it
 * can, link_wait() says when it is worth calling again. It has the socket for
 * itself until the link is up again; whoever wants to ask something waits for
 * that by link_await(). Requests that were running are kept by req_orphan()
 * and sent when the models are there.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"

#define MS_NS	    1000000ull
#define WAIT_MIN_MS 10
#define WAIT_MAX_MS 1000
#define SILENCE_MS  30000 /* a daemon that loads a model speaks more often */

/* Ways to open a model again, in this order. */
enum { BY_FILES, BY_DIGEST, BY_NAME, NO_WAY };

static void say(struct hearth *h, const char *text)
{
	if (h->log)
		h->log(h->log_arg, text);
}

/* -------------------------------------------------------- what is opened */

/* Forget the models that nobody but connections holds any more. */
static void prune(struct hearth *h)
{
	struct link_model **p = &h->link.models;
	struct link_model *e;

	while ((e = *p)) {
		if (model_n_users(e->m)) {
			p = &e->next;
			continue;
		}
		*p = e->next;
		model_drop(e->m);
		free(e);
	}
}

struct link_model *link_model(struct hearth *h, const struct hearth_model *m)
{
	struct link_model **p;
	struct link_model *e;

	for (e = h->link.models; e; e = e->next)
		if (e->m == m)
			return e;
	/* not while one of them is being opened */
	if (h->link.state == LINK_UP)
		prune(h);
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->m = model_keep(m);
	e->id = model_id(m);
	for (p = &h->link.models; *p; p = &(*p)->next)
		;
	*p = e;
	return e;
}

static void drop_next(struct hearth *h)
{
	mem_free(h->link.next);
	h->link.next = NULL;
}

static void drop_list(struct hearth *h)
{
	free(h->link.list);
	h->link.list = NULL;
	h->link.n_list = 0;
}

void link_fini(struct hearth *h)
{
	struct link_model *e;

	while ((e = h->link.models)) {
		h->link.models = e->next;
		model_drop(e->m);
		free(e);
	}
	drop_next(h);
	drop_list(h);
	free(h->link.path);
	h->link.path = NULL;
}

/* ---------------------------------------------------------------- the end */

/* No daemon in time, or none of ours: say so to all that is unfinished. */
static void give_up(struct hearth *h, const char *what)
{
	snprintf(h->link.why, sizeof(h->link.why),
		 "the daemon died and %s (%llu ms after its death): %.300s",
		 what,
		 (unsigned long long)((cring_now_ns() - h->link.t_down_ns) /
				      MS_NS),
		 h->err[0] ? h->err : "no answer");
	conn_close_fds(h);
	drop_next(h);
	conn_lose(h, -ENOTCONN, h->link.why);
}

/* A quarter more or less, so that not all clients come at once. */
static uint64_t jitter(struct hearth *h, uint64_t ns)
{
	h->link.rnd =
		h->link.rnd * 6364136223846793005ull + (cring_now_ns() | 1);
	return ns * 3 / 4 + (h->link.rnd >> 33) % (ns / 2 + 1);
}

static void later(struct hearth *h)
{
	h->link.state = LINK_WAIT;
	h->link.t_try_ns = cring_now_ns() + jitter(h, h->link.wait_ms * MS_NS);
	h->link.wait_ms = h->link.wait_ms * 2 > WAIT_MAX_MS
				  ? WAIT_MAX_MS
				  : h->link.wait_ms * 2;
	if (h->link.t_try_ns > h->link.t_end_ns)
		h->link.t_try_ns = h->link.t_end_ns;
}

/* The session's memory is kept for those who still read results there. */
static void retire(struct hearth *h)
{
	struct mem *mem = h->mem;

	if (mem->owns)
		munmap(mem->c, mem->lay.c_bytes);
	mem->c = NULL;
	mem->rc = NULL;
	mem->next = h->old;
	h->old = mem;
	h->mem = NULL;
}

/* Called for each death, also for that of a daemon we are coming back to. */
void link_down(struct hearth *h, const char *why)
{
	struct link *l = &h->link;
	uint64_t now = cring_now_ns();
	uint32_t i;

	if (l->state == LINK_UP) {
		/* what it said last */
		if (cring_drain(h))
			return;
		for (i = 0; i < h->n_slots; i++)
			req_orphan(h, &h->req[i]);
		say(h, why);
		l->t_down_ns = now;
		l->t_end_ns = l->t_down_ns + l->bound_ms * MS_NS;
		l->wait_ms = WAIT_MIN_MS;
	}
	conn_close_fds(h);
	drop_next(h);
	drop_list(h);
	l->at = NULL;
	if (h->mem)
		retire(h);
	req_gc(h);
	if (now >= l->t_end_ns) {
		err_set(h, -ECONNRESET, "%s", why);
		give_up(h, "those that came died, too");
		return;
	}
	later(h);
}

/* ----------------------------------------------------------------- models */

static bool known(const uint8_t digest[32])
{
	static const uint8_t none[32];

	return memcmp(digest, none, 32) != 0;
}

/* The resident model with these very weights. */
static const struct wire_model *by_digest(const struct hearth *h,
					  const struct link_model *e)
{
	const struct wire_model *w;
	uint32_t i;

	for (i = 0; i < h->link.n_list; i++) {
		w = &h->link.list[i];
		if (w->state != WIRE_MODEL_UNLOADING &&
		    w->state != WIRE_MODEL_FAILED &&
		    !memcmp(w->digest, e->m->info.digest, 32))
			return w;
	}
	return NULL;
}

/* Ask for @e by files. Return: was there any way to ask? */
static bool ask_files(struct hearth *h, const struct link_model *e)
{
	const struct model_source *s = e->m->src;

	return !conn_send(h, WIRE_LOAD, &s->load, sizeof(s->load), s->fd,
			  s->n_files);
}

static bool ask_model(struct hearth *h, struct link_model *e)
{
	const struct model_source *s = e->m->src;
	const struct wire_model *w;
	struct wire_id q = { 0 };

	switch (h->link.step) {
	case BY_FILES:
		return s && s->loaded && ask_files(h, e);
	case BY_DIGEST:
		if (!known(e->m->info.digest))
			return false;
		if (!h->link.list) {
			h->link.state = LINK_LIST;
			return !conn_send(h, WIRE_LIST, NULL, 0, NULL, 0);
		}
		w = by_digest(h, e);
		q.model = w ? w->model : 0;
		return w && !conn_send(h, WIRE_OPEN, &q, sizeof(q), NULL, 0);
	default:
		return s && !s->loaded && ask_files(h, e);
	}
}

/* All models are there again: so is the connection. */
static void up(struct hearth *h)
{
	char text[96];

	h->link.state = LINK_UP;
	drop_list(h);
	h->alive_ms = CONN_ALIVE_MIN_MS;
	cring_watch(h);
	snprintf(text, sizeof(text), "connected again (after %llu ms)",
		 (unsigned long long)((cring_now_ns() - h->link.t_down_ns) /
				      MS_NS));
	say(h, text);
	req_flush(h);
}

static void next_model(struct hearth *h)
{
	struct link *l = &h->link;
	struct link_model *e;

	for (; (e = l->at); l->at = e->next, l->step = BY_FILES) {
		if (l->step == BY_FILES)
			e->why[0] = 0;
		for (; l->step < NO_WAY; l->step++) {
			l->state = LINK_MODEL;
			if (ask_model(h, e)) {
				l->t_heard_ns = cring_now_ns();
				return;
			}
			/* the attempt to ask has found the daemon dead */
			if (l->state == LINK_WAIT || h->lost)
				return;
		}
		if (!e->why[0])
			snprintf(e->why, sizeof(e->why),
				 "the daemon was restarted and does not have "
				 "%.120s any more",
				 e->m->info.name);
	}
	up(h);
}

/* Not this way: is there another? The first reason is the one to tell. */
static void model_failed(struct hearth *h, const char *why)
{
	struct link_model *e = h->link.at;

	if (!e->why[0])
		snprintf(e->why, sizeof(e->why),
			 "the daemon was restarted and %.100s is not there "
			 "any more: %.100s",
			 e->m->info.name, why);
	h->link.step++;
	next_model(h);
}

/* Is this the model that there was? By digest, else by its image. */
static int same_model(const struct link_model *e, const struct wire_model *w,
		      int image_fd, char why[160])
{
	const struct hearth_model *m = e->m;
	struct image im;
	int err;

	if (known(m->info.digest) && known(w->digest)) {
		if (!memcmp(m->info.digest, w->digest, 32))
			return 0;
		snprintf(why, 160, "its file has another content now");
		return -ESTALE;
	}
	err = image_open_fd(&im, image_fd, why);
	if (err)
		return err;
	if (im.h->bytes != m->im.h->bytes ||
	    memcmp(im.h, m->im.h, im.h->bytes) != 0) {
		snprintf(why, 160, "its file has another header now");
		err = -ESTALE;
	}
	image_close(&im);
	return err;
}

static void take_model(struct hearth *h, struct conn_msg *m)
{
	struct link_model *e = h->link.at;
	struct wire_model w;
	char why[160];

	if (m->type == WIRE_PROGRESS)
		return;
	if (m->type != WIRE_MODEL || m->len != sizeof(w) || m->n_fds != 1) {
		model_failed(h, "the daemon's answer is not a model");
		return;
	}
	memcpy(&w, m->body, sizeof(w));
	if (same_model(e, &w, m->fd[0], why)) {
		model_failed(h, why);
		return;
	}
	e->id = w.model;
	e->n_ctx = w.n_ctx;
	e->why[0] = 0;
	__atomic_store_n(&e->m->id, w.model, __ATOMIC_RELAXED);
	h->link.at = e->next;
	h->link.step = BY_FILES;
	next_model(h);
}

static void take_list(struct hearth *h, const struct conn_msg *m)
{
	uint32_t n = m->len / sizeof(*h->link.list);

	if (m->type != WIRE_MODELS || n > WIRE_MAX_MODELS)
		n = 0;
	h->link.list = calloc(WIRE_MAX_MODELS, sizeof(*h->link.list));
	if (h->link.list) {
		memcpy(h->link.list, m->body, n * sizeof(*h->link.list));
		h->link.n_list = n;
	} else {
		h->link.step = BY_NAME;
	}
	next_model(h);
}

/* ------------------------------------------------------------ the machine */

/* Somebody else's daemon in the place of ours gets nothing. */
static bool same_owner(struct hearth *h)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);

	if (getsockopt(h->sock, SOL_SOCKET, SO_PEERCRED, &cred, &n) ||
	    cred.uid == h->link.uid || !cred.uid)
		return true;
	err_set(h, -EPERM, "%s is a daemon of uid %u now, it was of uid %u",
		h->link.path, cred.uid, h->link.uid);
	return false;
}

/* Return: is there more to do at once? */
static bool try_dial(struct hearth *h)
{
	uint64_t now = cring_now_ns();
	int err;

	if (now < h->link.t_try_ns)
		return false;
	err = conn_dial(h, h->link.path);
	if (!err && !same_owner(h)) {
		give_up(h, "another user's took its place");
		return false;
	}
	if (!err) {
		h->link.state = LINK_HELLO;
		cring_watch(h);
		err = conn_send(h, WIRE_HELLO, &h->link.hello,
				sizeof(h->link.hello), NULL, 0);
		if (!err)
			return true;
	} else {
		err_set(h, err, "no daemon answers on %s: %s", h->link.path,
			hearth_strerror(err));
		later(h);
	}
	if (!h->lost && now >= h->link.t_end_ns)
		give_up(h, "none came in its place");
	return false;
}

static void take_session(struct hearth *h, struct conn_msg *m)
{
	if (conn_take_session(h, m, &h->link.next)) {
		give_up(h, "the next one's session is of no use");
		return;
	}
	cring_watch(h);
	h->link.state = LINK_MAPPED;
	conn_send(h, WIRE_MAPPED, NULL, 0, NULL, 0);
}

static void take_ready(struct hearth *h, const struct conn_msg *m)
{
	struct mem *mem = h->link.next;

	if (conn_check_rings(h, m, mem)) {
		give_up(h, "the next one speaks another language");
		return;
	}
	if (conn_install(h, mem)) {
		give_up(h, "there is no memory for another session");
		return;
	}
	h->link.next = NULL;
	prune(h);
	h->link.at = h->link.models;
	h->link.step = BY_FILES;
	next_model(h);
}

static bool readable(const struct hearth *h)
{
	struct pollfd p = { .fd = h->sock, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* No answer came: is it time to stop waiting for one? */
static void silent(struct hearth *h)
{
	uint64_t now = cring_now_ns();

	if (now < link_due_ns(h))
		return;
	if (h->link.state == LINK_LIST || h->link.state == LINK_MODEL)
		err_set(h, -ETIMEDOUT, "it loads %s and says nothing",
			h->link.at->m->info.name);
	else
		err_set(h, -ETIMEDOUT, "it does not answer");
	give_up(h, "the next one hangs");
}

/* An error in place of an answer. */
static void refused(struct hearth *h, int err)
{
	char why[CONN_ERR];

	snprintf(why, sizeof(why), "%s", h->err);
	switch (h->link.state) {
	case LINK_LIST:
	case LINK_MODEL:
		model_failed(h, why);
		return;
	default:
		if (err == -EPROTO || err == -EPROTONOSUPPORT) {
			give_up(h, "the next one speaks another language");
			return;
		}
		/* too many sessions, say: others may leave */
		conn_close_fds(h);
		drop_next(h);
		later(h);
		if (cring_now_ns() >= h->link.t_end_ns)
			give_up(h, "the next one refuses us");
	}
}

static bool take_answer(struct hearth *h)
{
	struct conn_msg m;
	int err;

	if (!readable(h)) {
		silent(h);
		return false;
	}
	h->err[0] = 0;
	err = conn_recv(h, &m, 0);
	if (err == -ECONNRESET || h->lost)
		return false;
	h->link.t_heard_ns = cring_now_ns();
	if (err) {
		refused(h, err);
		return true;
	}
	switch (h->link.state) {
	case LINK_HELLO:
		take_session(h, &m);
		break;
	case LINK_MAPPED:
		take_ready(h, &m);
		break;
	case LINK_LIST:
		take_list(h, &m);
		break;
	default:
		take_model(h, &m);
	}
	conn_msg_close(&m);
	return true;
}

void link_step(struct hearth *h)
{
	bool more = true;

	while (more && !h->lost && h->link.state != LINK_UP)
		more = h->link.state == LINK_WAIT ? try_dial(h)
						  : take_answer(h);
}

uint64_t link_due_ns(const struct hearth *h)
{
	switch (h->link.state) {
	case LINK_UP:
		return 0;
	case LINK_WAIT:
		return h->link.t_try_ns;
	case LINK_HELLO:
	case LINK_MAPPED:
		return h->link.t_end_ns;
	default:
		return h->link.t_heard_ns + SILENCE_MS * MS_NS;
	}
}

void link_wait(struct hearth *h, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = h->sock, .events = POLLIN };
	uint64_t now = cring_now_ns();
	uint64_t due = link_due_ns(h);
	uint64_t ms;

	if (due > deadline_ns)
		due = deadline_ns;
	if (h->lost || due <= now)
		return;
	ms = (due - now + MS_NS - 1) / MS_NS;
	poll(&p, 1, ms > 60000 ? 60000 : (int)ms);
}

int link_await(struct hearth *h)
{
	while (!h->lost && h->link.state != LINK_UP) {
		link_step(h);
		if (!h->lost && h->link.state != LINK_UP)
			link_wait(h, UINT64_MAX);
	}
	if (h->lost)
		return err_set(h, -ENOTCONN, "%s", h->lost_why);
	return 0;
}
