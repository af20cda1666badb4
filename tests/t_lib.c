/* SPDX-License-Identifier: MIT */
/*
 * t_lib.c - libhearth against a real daemon: many requests at once, results,
 * refusals, files, and what a client sees when engine and daemon die.
 *
 *   t_lib work MODEL       everything that should work
 *   t_lib engine MODEL     says "running", wants the engine killed then, any
 *                          number of times; ends after SIGUSR1
 *   t_lib daemon MODEL     says "running", wants the daemon killed then
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hearth.h>

#define N_MANY 24

static struct hearth *h;
static struct hearth_model *m;

#define WANT(x)                                                      \
	do {                                                         \
		if (!(x)) {                                          \
			printf("t_lib.c:%d: %s: %s\n", __LINE__, #x, \
			       hearth_error(h));                     \
			exit(1);                                     \
		}                                                    \
	} while (0)

static const uint32_t prompt[] = { 72, 101, 108, 108, 111, 32, 119, 111 };

static struct hearth_request request(uint32_t max)
{
	struct hearth_request HEARTH_INIT(rq);

	rq.model = m;
	rq.prompt = prompt;
	rq.n_prompt = 8;
	rq.max_tokens = max;
	rq.ignore_eos = true;
	return rq;
}

/* Run one request to its end. Return: the final event. */
static struct hearth_event finish(uint64_t id)
{
	struct hearth_event HEARTH_INIT(ev);

	do {
		WANT(!hearth_next(h, &ev, 60000));
		WANT(ev.id == id);
	} while (ev.type != HEARTH_EV_DONE && ev.type != HEARTH_EV_ERROR);
	return ev;
}

static void tokens_of(uint64_t id, uint32_t *tok, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		WANT(!hearth_token_at(h, id, i, &tok[i], NULL));
}

/* The same greedy request alone and among many others. */
static void many(void)
{
	struct hearth_request rq = request(40);
	struct hearth_event HEARTH_INIT(ev);
	uint64_t id[N_MANY];
	uint32_t alone[40];
	uint32_t tok[40];
	uint32_t seen[N_MANY] = { 0 };
	int left = N_MANY;
	int i;

	WANT(!hearth_submit(h, &rq, &id[0]));
	ev = finish(id[0]);
	WANT(ev.type == HEARTH_EV_DONE && ev.finish == HEARTH_FINISH_LENGTH);
	tokens_of(id[0], alone, 40);
	WANT(!hearth_release(h, id[0]));
	for (i = 0; i < N_MANY; i++) {
		rq.n_prompt = i % 2 ? 8 : 1 + (size_t)i % 8;
		WANT(!hearth_submit(h, &rq, &id[i]));
	}
	while (left) {
		WANT(!hearth_next(h, &ev, 60000));
		for (i = 0; i < N_MANY && id[i] != ev.id; i++)
			;
		WANT(i < N_MANY);
		if (ev.type == HEARTH_EV_TOKENS) {
			WANT(ev.first == seen[i]);
			seen[i] += ev.n_tokens;
		} else if (ev.type != HEARTH_EV_PREFILL) {
			WANT(ev.type == HEARTH_EV_DONE && seen[i] == 40);
			left--;
		}
	}
	for (i = 1; i < N_MANY; i += 2) {
		tokens_of(id[i], tok, 40);
		WANT(!memcmp(tok, alone, sizeof(tok)));
	}
	for (i = 0; i < N_MANY; i++)
		WANT(!hearth_release(h, id[i]));
}

static void results(void)
{
	static const uint32_t pos[] = { 0, 7 };
	struct hearth_request rq = request(4);
	struct hearth_timings HEARTH_INIT(t);
	const struct hearth_top *top;
	const float *logits;
	const float *v;
	uint32_t best = 0;
	uint32_t tok;
	uint32_t n;
	uint32_t i;
	uint64_t id;
	float lp;

	rq.logits_pos = pos;
	rq.n_logits_pos = 2;
	rq.n_top_logprobs = 3;
	rq.embed_mean = true;
	WANT(!hearth_submit(h, &rq, &id));
	WANT(finish(id).type == HEARTH_EV_DONE);
	WANT(!hearth_logits(h, id, 1, &logits, &n));
	for (i = 1; i < n; i++)
		best = logits[i] > logits[best] ? i : best;
	WANT(!hearth_token_at(h, id, 0, &tok, &lp));
	WANT(tok == best && lp <= 0);
	WANT(hearth_top_at(h, id, 0, &top) == 3);
	WANT(top[0].token == best && top[0].logprob >= top[1].logprob);
	WANT(!hearth_embedding(h, id, &v, &n));
	WANT(n > 0);
	WANT(!hearth_timings(h, id, &t));
	WANT(t.n_prompt == 8 && t.n_out == 4 && t.first_ns > 0);
	WANT(t.first_ns >= t.queue_ns + t.prefill_ns);
	WANT(!hearth_release(h, id));
	/* no tokens at all, only the embedding */
	rq = request(0);
	rq.no_generate = true;
	rq.embed_last = true;
	WANT(!hearth_submit(h, &rq, &id));
	WANT(finish(id).finish == HEARTH_FINISH_DONE);
	WANT(!hearth_embedding(h, id, &v, &n));
	WANT(!hearth_release(h, id));
}

static void refusals(void)
{
	struct hearth_model_info HEARTH_INIT(info);
	struct hearth_request rq = request(1u << 30);
	struct hearth_model *none;
	struct hearth_event ev;
	char n_ctx[16];
	uint64_t id;

	WANT(!hearth_model_info(m, &info));
	snprintf(n_ctx, sizeof(n_ctx), "%u", info.n_ctx);
	WANT(hearth_submit(h, &rq, &id) == -E2BIG);
	WANT(strstr(hearth_error(h), n_ctx));
	WANT(hearth_model_open(h, &none, 0xffff) < 0);
	WANT(hearth_error(h)[0]);
	WANT(hearth_model_unload(h, 0xffff, 0) < 0);
	/* both ways to end one that would run long, however late they come */
	rq = request(2000);
	WANT(!hearth_submit(h, &rq, &id));
	WANT(!hearth_cancel(h, id));
	ev = finish(id);
	WANT(ev.type == HEARTH_EV_DONE && ev.finish == HEARTH_FINISH_CANCEL);
	WANT(!hearth_release(h, id));
	WANT(!hearth_submit(h, &rq, &id));
	WANT(!hearth_release(h, id));
	WANT(hearth_next(h, &ev, 0) == -EAGAIN);
}

static void stop_text(void)
{
	struct hearth_request rq = request(60);
	char *whole = NULL;
	char *cut = NULL;
	char text[8] = "";
	const char *stop[1] = { text };
	size_t at;

	WANT(!hearth_generate(h, "Hello", &rq, NULL, NULL, &whole));
	WANT(strlen(whole) > 12);
	/* end at something the answer is known to have */
	memcpy(text, whole + 8, 3);
	at = (size_t)(strstr(whole, text) - whole);
	rq.stop_text = stop;
	rq.n_stop_text = 1;
	WANT(!hearth_generate(h, "Hello", &rq, NULL, NULL, &cut));
	WANT(strlen(cut) == at && !memcmp(cut, whole, at));
	free(whole);
	free(cut);
}

static void file(const char *path)
{
	struct hearth_model_info HEARTH_INIT(a);
	struct hearth_model_info HEARTH_INIT(b);
	struct hearth_model *f;
	char why[300] = "";
	const char *v;
	size_t n;

	if (hearth_model_open_file(&f, path, why, sizeof(why))) {
		printf("open_file: %s\n", why);
		exit(1);
	}
	WANT(!hearth_model_info(f, &a) && !hearth_model_info(m, &b));
	WANT(a.n_vocab == b.n_vocab && a.n_params == b.n_params);
	WANT(!strcmp(a.arch, b.arch) && !strcmp(a.quant, b.quant));
	WANT(hearth_model_meta(f, "general.architecture", &v, &n));
	WANT(n == strlen(a.arch) && !memcmp(v, a.arch, n));
	hearth_model_close(&f);
	WANT(hearth_model_open_file(&f, "/", why, sizeof(why)) == -EISDIR);
	WANT(hearth_model_open_file(&f, "/nonexistent.gguf", why,
				    sizeof(why)) == -ENOENT);
	WANT(hearth_model_open_file(&f, "/proc/self/exe", why, sizeof(why)) <
	     0);
	WANT(why[0]);
}

static volatile sig_atomic_t enough;

static void on_usr1(int sig)
{
	(void)sig;
	enough = 1;
}

/* The engine dies under the same answer, again and again: it stays the same. */
static int engines(void)
{
	struct hearth_request rq = request(400);
	struct hearth_event HEARTH_INIT(ev);
	uint32_t first[400] = { 0 };
	uint32_t tok[400] = { 0 };
	uint64_t id;
	int n;

	signal(SIGUSR1, on_usr1);
	for (n = 0; !enough || n < 2; n++) {
		WANT(!hearth_submit(h, &rq, &id));
		ev = finish(id);
		WANT(ev.type == HEARTH_EV_DONE);
		WANT(ev.finish == HEARTH_FINISH_LENGTH);
		tokens_of(id, n ? tok : first, 400);
		WANT(!n || !memcmp(tok, first, sizeof(tok)));
		WANT(!hearth_release(h, id));
		if (!n) {
			puts("running");
			fflush(stdout);
		}
	}
	printf("%d answers, all equal\n", n);
	return 0;
}

/* The daemon dies and none comes: an error in time, not silence. */
static int death(void)
{
	struct hearth_request rq = request(400);
	struct hearth_event HEARTH_INIT(ev);
	bool said = false;
	uint64_t id;

	for (;;) {
		WANT(!hearth_submit(h, &rq, &id));
		do {
			WANT(!hearth_next(h, &ev, 20000));
			if (ev.type == HEARTH_EV_TOKENS && !said) {
				puts("running");
				fflush(stdout);
				said = true;
			}
		} while (ev.type != HEARTH_EV_DONE &&
			 ev.type != HEARTH_EV_ERROR);
		if (ev.type == HEARTH_EV_ERROR)
			break;
		WANT(!hearth_release(h, id));
	}
	WANT(ev.err == -ENOTCONN && ev.error && ev.error[0]);
	puts(ev.error);
	WANT(hearth_next(h, &ev, 0) == -ENOTCONN);
	WANT(hearth_submit(h, &rq, &id) == -ENOTCONN);
	return 0;
}

int main(int argc, char **argv)
{
	struct hearth_options HEARTH_INIT(opt);
	int rc = 0;
	int i;

	if (argc != 3)
		return 2;
	opt.reconnect_ms = 1000;
	if (hearth_open(&h, &opt)) {
		puts(hearth_error(NULL));
		return 1;
	}
	WANT(!hearth_model_load(h, &m, argv[2], NULL));
	if (!strcmp(argv[1], "work")) {
		for (i = 0; i < 100; i++)
			WANT(!hearth_ping(h, i & 1 ? 20000 : 0));
		many();
		results();
		refusals();
		stop_text();
		file(argv[2]);
	} else if (!strcmp(argv[1], "engine")) {
		rc = engines();
	} else {
		rc = death();
	}
	hearth_model_close(&m);
	hearth_close(&h);
	return rc;
}
