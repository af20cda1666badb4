/* SPDX-License-Identifier: MIT */
/*
 * example.c - a program that asks a model, in the two ways there are.
 *
 *   example MODEL PROMPT          one call, the answer streams out
 *   example -e MODEL PROMPT...    an event loop: all prompts at once
 *
 * Build: cc example.c $(pkg-config --cflags --libs hearth)
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hearth.h>

#define MAX_PROMPTS 32
#define MAX_TOKENS  64

static int fail(const struct hearth *h, const char *what)
{
	fprintf(stderr, "example: %s: %s\n", what, hearth_error(h));
	return 1;
}

/* The model's own chat format around one question. NULL when it cannot. */
static char *as_chat(const struct hearth_model *m, const char *question)
{
	struct hearth_message msg = { .role = "user", .content = question };
	char why[256] = "";
	int64_t n;
	char *p;

	n = hearth_apply_template(m, &msg, 1, NULL, NULL, 0, why, sizeof(why));
	if (n < 0) {
		fprintf(stderr, "example: template: %s\n", why);
		return NULL;
	}
	p = malloc((size_t)n + 1);
	if (!p)
		return NULL;
	hearth_apply_template(m, &msg, 1, NULL, p, (size_t)n, why, sizeof(why));
	p[n] = 0;
	return p;
}

/* ----------------------------------------------------------- the simple way */

static int print(void *arg, const char *p, size_t n)
{
	(void)arg;
	fwrite(p, 1, n, stdout);
	fflush(stdout);
	return 0; /* anything else cancels */
}

static int simple(struct hearth *h, const struct hearth_model *m,
		  const char *question)
{
	struct hearth_request HEARTH_INIT(rq);
	char *chat = as_chat(m, question);
	int err;

	if (!chat)
		return 1;
	rq.model = m;
	rq.max_tokens = MAX_TOKENS;
	err = hearth_generate(h, chat, &rq, print, NULL, NULL);
	free(chat);
	putchar('\n');
	return err ? fail(h, "generate") : 0;
}

/* ----------------------------------------------------------- the event loop */

struct answer {
	uint64_t id;
	char text[4096];
	size_t n;
};

static int submit(struct hearth *h, const struct hearth_model *m,
		  const char *question, struct answer *a)
{
	struct hearth_request HEARTH_INIT(rq);
	char *chat = as_chat(m, question);
	uint32_t *tok = NULL;
	int64_t n;
	int err = -ENOMEM;

	if (!chat)
		return err;
	n = hearth_tokenize(m, chat, strlen(chat), NULL, 0, HEARTH_TOK_SPECIAL);
	if (n > 0)
		tok = malloc((size_t)n * sizeof(*tok));
	if (tok) {
		hearth_tokenize(m, chat, strlen(chat), tok, (size_t)n,
				HEARTH_TOK_SPECIAL);
		rq.model = m;
		rq.prompt = tok;
		rq.n_prompt = (size_t)n;
		rq.max_tokens = MAX_TOKENS;
		err = hearth_submit(h, &rq, &a->id);
	}
	free(tok); /* the library has its own copy */
	free(chat);
	return err;
}

static struct answer *find(struct answer *a, int n, uint64_t id)
{
	int i;

	for (i = 0; i < n; i++) {
		if (a[i].id == id)
			return &a[i];
	}
	return NULL;
}

static void append(struct answer *a, const struct hearth_event *ev)
{
	size_t n = ev->text_n;

	if (n > sizeof(a->text) - a->n)
		n = sizeof(a->text) - a->n;
	memcpy(a->text + a->n, ev->text, n);
	a->n += n;
}

/* Everything there is, without waiting. Return: answers that are complete. */
static int take_events(struct hearth *h, struct answer *a, int n, int *bad)
{
	struct hearth_event HEARTH_INIT(ev);
	struct answer *x;
	int done = 0;
	int err;

	while (!(err = hearth_next(h, &ev, 0))) {
		x = find(a, n, ev.id);
		if (!x)
			continue;
		if (ev.text_n)
			append(x, &ev);
		if (ev.type == HEARTH_EV_ERROR) {
			fprintf(stderr, "example: %s\n", ev.error);
			*bad = 1;
		}
		if (ev.type == HEARTH_EV_DONE || ev.type == HEARTH_EV_ERROR) {
			hearth_release(h, ev.id);
			done++;
		}
	}
	if (err != -EAGAIN) {
		*bad = fail(h, "next");
		return n;
	}
	return done;
}

static int event_loop(struct hearth *h, const struct hearth_model *m,
		      char **question, int n)
{
	static struct answer a[MAX_PROMPTS];
	struct pollfd pfd = { .events = POLLIN };
	int left = n;
	int bad = 0;
	int i;

	/* a real program has more fds than this one in its loop */
	pfd.fd = hearth_fd(h);
	if (pfd.fd < 0)
		return fail(h, "fd");
	for (i = 0; i < n; i++) {
		if (submit(h, m, question[i], &a[i]))
			return fail(h, "submit");
	}
	while (left > 0) {
		if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
			return 1;
		left -= take_events(h, a, n, &bad);
	}
	for (i = 0; i < n; i++)
		printf("%s\n\t%.*s\n", question[i], (int)a[i].n, a[i].text);
	return bad;
}

int main(int argc, char **argv)
{
	int loop = argc > 1 && !strcmp(argv[1], "-e");
	struct hearth_model *m;
	struct hearth *h;
	int rc;

	argc -= 1 + loop;
	argv += 1 + loop;
	if (argc < 2 || (!loop && argc > 2) || argc > MAX_PROMPTS + 1) {
		fprintf(stderr, "usage: example MODEL PROMPT\n"
				"       example -e MODEL PROMPT...\n");
		return 2;
	}
	if (hearth_open(&h, NULL))
		return fail(NULL, "open");
	if (hearth_model_load(h, &m, argv[0], NULL)) {
		rc = fail(h, "load");
	} else {
		rc = loop ? event_loop(h, m, argv + 1, argc - 1)
			  : simple(h, m, argv[1]);
		hearth_model_close(&m);
	}
	hearth_close(&h);
	return rc;
}
