/* SPDX-License-Identifier: MIT */
/*
 * event.c - events: what changed in D since the last look, one at a time.
 *
 * There is no queue of events. Each request remembers what was given out, and
 * the next event is the difference to what D says now, so a caller that reads
 * late gets fewer and larger events and nothing is ever lost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"

#define TEXT_STEP 256
#define TEXT_MAX  (16u << 20)

/* ------------------------------------------------------------------- text */

static int text_room(struct hearth *h, size_t n)
{
	size_t max = h->text_max ? h->text_max : 1024;
	char *p;

	if (h->text_max - h->text_n >= n)
		return 0;
	if (n > TEXT_MAX)
		return -ENOMEM;
	while (max - h->text_n < n)
		max *= 2;
	p = realloc(h->text, max);
	if (!p)
		return -ENOMEM;
	h->text = p;
	h->text_max = max;
	return 0;
}

static bool has_text(const struct req *r)
{
	uint32_t kind = r->model->im.h->vocab_kind;

	return kind == IMAGE_VOCAB_BPE || kind == IMAGE_VOCAB_SPM;
}

/* Append the text of one token (UINT32_MAX: what the stream holds) to the
 * connection's buffer, less what may become a stop text. */
static int add_text(struct hearth *h, struct req *r, uint32_t tok, bool *hit)
{
	size_t room = TEXT_STEP;
	int n;
	int err;

	*hit = false;
	if (!has_text(r))
		return 0;
	for (;; room *= 4) {
		err = text_room(h, room + stop_room(&r->stop));
		if (err)
			return err;
		n = hearth_stream_token(r->model, &r->stream, tok,
					h->text + h->text_n, room);
		if (n != -ENOSPC)
			break;
	}
	if (n < 0)
		return n;
	h->text_n += stop_feed(&r->stop, h->text + h->text_n, (size_t)n, hit);
	return 0;
}

/* ----------------------------------------------------------------- events */

/* A stop text is complete: what came so far is the answer. */
static void cut(struct hearth *h, struct req *r, uint32_t n_shown)
{
	r->cut = true;
	r->n_shown = n_shown;
	req_cancel(h, r);
}

static void end_text(struct hearth *h, struct req *r)
{
	bool hit = false;

	if (r->cut)
		return;
	if (add_text(h, r, UINT32_MAX, &hit))
		return;
	if (hit) {
		cut(h, r, r->n_seen);
		return;
	}
	if (!text_room(h, stop_room(&r->stop)))
		h->text_n += stop_flush(&r->stop, h->text + h->text_n);
}

static void tokens_event(struct hearth *h, struct req *r, uint32_t n,
			 struct hearth_event *ev)
{
	const struct ring_token *tok = req_tokens(r);
	bool hit = false;
	uint32_t i;

	if (!r->t_seen_ns)
		r->t_seen_ns = cring_now_ns();
	if (n > CONN_EVENT_TOKENS)
		n = CONN_EVENT_TOKENS;
	ev->type = HEARTH_EV_TOKENS;
	ev->first = r->n_seen;
	for (i = 0; i < n && !hit; i++) {
		/* a token that has no text leaves a gap, no error */
		add_text(h, r, tok[r->n_seen + i].token, &hit);
	}
	ev->n_tokens = i;
	r->n_seen += i;
	if (hit)
		cut(h, r, r->n_seen);
}

static void failed(struct hearth *h, struct req *r, int32_t err,
		   struct hearth_event *ev)
{
	ev->type = HEARTH_EV_ERROR;
	ev->finish = HEARTH_FINISH_ERROR;
	ev->err = err < 0 ? err : -EIO;
	if (r->lost)
		snprintf(h->ev_err, sizeof(h->ev_err), "%s",
			 r->why ? r->why : h->lost_why);
	else if (r->refused)
		err_refusal(h->ev_err, sizeof(h->ev_err), r->reason, r->err,
			    r->arg, r->limit);
	else
		err_failed(h->ev_err, sizeof(h->ev_err), ev->err);
	ev->error = h->ev_err;
	snprintf(h->err, sizeof(h->err), "%s", h->ev_err);
}

static void final_event(struct hearth *h, struct req *r,
			struct hearth_event *ev)
{
	const struct ring_slot *s = req_run_slot(r);
	uint32_t finish = s ? s->finish : RING_FIN_ERROR;
	int32_t err = s ? s->err : -EPROTO;

	if (r->fin)
		finish = r->fin;
	if (r->refused || r->lost) {
		finish = RING_FIN_ERROR;
		err = r->err;
	}
	if (finish == RING_FIN_NONE || finish > RING_FIN_DONE) {
		finish = RING_FIN_ERROR;
		err = -EPROTO;
	}
	if (finish != RING_FIN_ERROR)
		end_text(h, r);
	if (r->cut)
		finish = RING_FIN_STOP;
	if (finish == RING_FIN_ERROR) {
		failed(h, r, err, ev);
	} else {
		ev->type = HEARTH_EV_DONE;
		ev->finish = finish;
	}
	ev->first = r->n_seen;
	req_over(h, r);
}

/* Tokens that were not given out yet. */
static uint32_t unseen(const struct req *r)
{
	uint32_t n;

	if (r->cut)
		return 0;
	n = req_n_out(r);
	return n > r->n_seen ? n - r->n_seen : 0;
}

static uint32_t prefilled(const struct req *r)
{
	const struct ring_slot *s = req_run_slot(r);
	uint32_t n;

	if (!s)
		return 0;
	n = __atomic_load_n(&s->n_prefill, __ATOMIC_ACQUIRE);
	return n > r->n_prompt ? r->n_prompt : n;
}

static bool wanted(const struct req *r, uint64_t id)
{
	return !r->release && (!id || req_id(r) == id);
}

static bool has_news(struct req *r)
{
	req_settle(r);
	return r->state == REQ_ENDED || unseen(r) ||
	       (!r->n_seen && prefilled(r) > r->n_prefill);
}

bool event_pending(struct hearth *h, uint64_t id)
{
	struct req *r;
	uint32_t i;

	for (i = 0; i < h->n_live; i++) {
		r = &h->req[h->live[i]];
		if (wanted(r, id) && has_news(r))
			return true;
	}
	return false;
}

static bool look(struct hearth *h, struct req *r, struct hearth_event *ev)
{
	uint32_t n;

	ev->id = req_id(r);
	ev->n_prompt = r->n_prompt;
	n = unseen(r);
	if (n && !req_tokens(r)) {
		conn_lose(h, -EPROTO,
			  "the daemon put an answer outside its memory");
		r->state = REQ_ENDED;
		r->lost = true;
		r->err = -EPROTO;
		n = 0;
	}
	if (!r->refused)
		r->n_prefill = prefilled(r) > r->n_prefill ? prefilled(r)
							   : r->n_prefill;
	ev->n_prefill = r->n_prefill;
	if (n)
		tokens_event(h, r, n, ev);
	else if (r->state == REQ_ENDED)
		final_event(h, r, ev);
	else
		ev->type = HEARTH_EV_PREFILL;
	ev->text_n = h->text_n;
	ev->text = h->text_n ? h->text : "";
	return true;
}

/* The next event, fairly between the requests. */
static bool make_event(struct hearth *h, uint64_t id, struct hearth_event *ev)
{
	struct req *r;
	uint32_t n = h->n_live;
	uint32_t at;
	uint32_t i;

	for (i = 0; i < n; i++) {
		at = (h->turn + i) % n;
		r = &h->req[h->live[at]];
		if (!wanted(r, id) || !has_news(r))
			continue;
		h->turn = at + 1;
		return look(h, r, ev);
	}
	return false;
}

static bool anything_live(const struct hearth *h)
{
	uint32_t i;

	for (i = 0; i < h->n_live; i++) {
		if (wanted(&h->req[h->live[i]], 0))
			return true;
	}
	return false;
}

int event_next(struct hearth *h, uint64_t id, struct hearth_event *ev,
	       int timeout_ms)
{
	uint64_t deadline = UINT64_MAX;

	if (timeout_ms >= 0)
		deadline = cring_now_ns() + (uint64_t)timeout_ms * 1000000ull;
	h->text_n = 0;
	h->alive_ms = CONN_ALIVE_MIN_MS;
	cring_disarm(h);
	for (;;) {
		if (h->link.state != LINK_UP)
			link_step(h);
		if (h->n_deferred)
			req_flush(h);
		if (!h->lost)
			cring_drain(h);
		if (make_event(h, id, ev))
			return 0;
		if (h->lost) {
			cring_arm(h);
			return -ENOTCONN;
		}
		if (!conn_alive(h))
			continue;
		if (timeout_ms < 0 && !anything_live(h))
			return err_set(h, -ENOENT,
				       "no request is running, so there is "
				       "nothing to wait for");
		if (timeout_ms >= 0 && cring_now_ns() >= deadline) {
			if (!id && cring_arm(h))
				continue;
			return -EAGAIN;
		}
		if (h->link.state == LINK_UP)
			cring_sleep(h, id, deadline);
		else
			link_wait(h, deadline);
	}
}

int hearth_next(struct hearth *h, struct hearth_event *ev, int timeout_ms)
{
	struct hearth_event e;
	size_t size = ev->size;
	int err;

	if (size < sizeof(size_t))
		return err_set(h, -EINVAL, "struct hearth_event has no size");
	memset(&e, 0, sizeof(e));
	err = event_next(h, 0, &e, timeout_ms);
	if (err)
		return err;
	e.size = size;
	memcpy(ev, &e, size < sizeof(e) ? size : sizeof(e));
	return 0;
}
