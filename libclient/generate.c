/* SPDX-License-Identifier: MIT */
/* generate.c - the whole answer in one call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conn.h"

/* Text that grows. */
struct answer {
	char *p;
	size_t n;
	size_t max;
};

static int answer_add(struct answer *a, const char *p, size_t n)
{
	size_t max = a->max ? a->max : 256;
	char *q;

	while (max < a->n + n + 1)
		max *= 2;
	if (max != a->max) {
		q = realloc(a->p, max);
		if (!q)
			return -ENOMEM;
		a->p = q;
		a->max = max;
	}
	if (n)
		memcpy(a->p + a->n, p, n);
	a->n += n;
	a->p[a->n] = 0;
	return 0;
}

static int tokenize(struct hearth *h, const struct hearth_model *m,
		    const char *prompt, uint32_t **tok, size_t *n)
{
	size_t len = strlen(prompt);
	size_t max = len + 8;
	int64_t k;

	for (;;) {
		*tok = malloc(max * sizeof(**tok));
		if (!*tok)
			return err_set(h, -ENOMEM,
				       "not enough memory for %zu "
				       "tokens",
				       max);
		k = hearth_tokenize(m, prompt, len, *tok, max,
				    HEARTH_TOK_SPECIAL);
		if (k >= 0 && (size_t)k <= max)
			break;
		free(*tok);
		*tok = NULL;
		if (k < 0)
			return err_set(h, (int)k, "cannot tokenize for %s: %s",
				       m->info.name, hearth_strerror((int)k));
		max = (size_t)k;
	}
	*n = (size_t)k;
	return 0;
}

static int follow(struct hearth *h, uint64_t id,
		  int (*on_text)(void *arg, const char *p, size_t n), void *arg,
		  struct answer *a)
{
	struct hearth_event ev;
	bool stopped = false;
	int err;

	for (;;) {
		memset(&ev, 0, sizeof(ev));
		err = event_next(h, id, &ev, -1);
		if (err)
			return err;
		if (ev.type == HEARTH_EV_ERROR)
			return ev.err;
		if (ev.text_n && !stopped) {
			err = a ? answer_add(a, ev.text, ev.text_n) : 0;
			if (err)
				return err_set(h, err,
					       "not enough memory for "
					       "the answer");
			if (on_text && on_text(arg, ev.text, ev.text_n)) {
				stopped = true;
				hearth_cancel(h, id);
			}
		}
		if (ev.type == HEARTH_EV_DONE)
			return 0;
	}
}

int hearth_generate(struct hearth *h, const char *prompt,
		    const struct hearth_request *rq,
		    int (*on_text)(void *arg, const char *p, size_t n),
		    void *arg, char **out)
{
	struct answer a = { 0 };
	struct hearth_request q;
	uint32_t *tok = NULL;
	struct req *r;
	uint64_t id;
	int err;

	if (out)
		*out = NULL;
	if (!rq || rq->size < sizeof(size_t))
		return err_set(h, -EINVAL, "struct hearth_request has no size");
	memset(&q, 0, sizeof(q));
	memcpy(&q, rq, rq->size < sizeof(q) ? rq->size : sizeof(q));
	q.size = sizeof(q);
	if (!q.model)
		return err_set(h, -EINVAL, "the request names no model");
	err = tokenize(h, q.model, prompt, &tok, &q.n_prompt);
	if (err)
		return err;
	q.prompt = tok;
	err = hearth_submit(h, &q, &id);
	free(tok);
	if (err)
		return err;
	err = out ? answer_add(&a, NULL, 0) : 0;
	if (!err)
		err = follow(h, id, on_text, arg, out ? &a : NULL);
	r = req_find(h, id);
	if (r)
		req_release(h, r);
	cring_rearm(h);
	if (err)
		free(a.p);
	else if (out)
		*out = a.p;
	return err;
}
