/* SPDX-License-Identifier: MIT */
/*
 * answer.c - submit a prompt, show what comes back, and how fast it came.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <jansson.h>

#include "answer.h"
#include "text.h"

#define POLL_MS 100 /* how soon Ctrl-C is noticed */

/* A request on its way. */
struct answer {
	struct runner *r;
	uint64_t id;
	uint64_t seed;
	size_t n_prompt;
	uint32_t n_out;
	uint32_t finish;
	bool cancelled;
	bool over;
	char last; /* last byte printed */
	int rc;
	struct progress bar;
	struct str *text;
};

/* ------------------------------------------------------------------- prompt */

int64_t answer_tokenize(struct runner *r, const char *text, size_t n,
			uint32_t **out)
{
	int64_t have, want;
	uint32_t *tok = NULL;

	*out = NULL;
	want = hearth_tokenize(r->m, text, n, NULL, 0, HEARTH_TOK_SPECIAL);
	if (want > 0) {
		tok = xrealloc(NULL, (size_t)want, sizeof(*tok));
		have = hearth_tokenize(r->m, text, n, tok, (size_t)want,
				       HEARTH_TOK_SPECIAL);
		want = have < want ? have : want;
	}
	if (want < 0) {
		tool_err("the prompt cannot be tokenized: %s",
			 hearth_strerror((int)want));
		free(tok);
		return want;
	}
	*out = tok;
	return want;
}

/* A template may or may not write BOS itself: there must be one, not two. */
static int64_t drop_second_bos(struct runner *r, const char *text, size_t n,
			       uint32_t *tok, int64_t n_tok)
{
	uint32_t bare;
	int64_t k = hearth_tokenize(r->m, text, n, &bare, 1,
				    HEARTH_TOK_SPECIAL | HEARTH_TOK_NO_BOS);

	if (k == n_tok - 1 && n_tok >= 2 && tok[0] == tok[1] &&
	    bare == tok[0]) {
		memmove(tok, tok + 1, (size_t)k * sizeof(*tok));
		return k;
	}
	return n_tok;
}

int64_t answer_render(struct runner *r, const struct conv *c, uint32_t **out)
{
	struct hearth_template_options HEARTH_INIT(opt);
	char why[512] = "", *text = NULL;
	int64_t n, have;

	opt.tmpl = r->tmpl;
	opt.vars_json = r->a->vars;
	*out = NULL;
	n = hearth_apply_template(r->m, c->msg, c->n, &opt, NULL, 0, why,
				  sizeof(why));
	if (n >= 0) {
		text = xrealloc(NULL, (size_t)n + 1, 1);
		have = hearth_apply_template(r->m, c->msg, c->n, &opt, text,
					     (size_t)n + 1, why, sizeof(why));
		n = have < n ? have : n;
	}
	if (n < 0) {
		tool_err("chat template: %s",
			 *why ? why : hearth_strerror((int)n));
		free(text);
		return n;
	}
	have = answer_tokenize(r, text, (size_t)n, out);
	if (have > 0)
		have = drop_second_bos(r, text, (size_t)n, *out, have);
	free(text);
	return have;
}

/* ------------------------------------------------------------------- output */

/* What a model says must not steer the terminal. */
static void print_safe(struct answer *a, const char *p, size_t n)
{
	bool tty = term_is_tty(1);
	unsigned char c;
	size_t i;

	if (!n)
		return;
	for (i = 0; tty && i < n; i++) {
		c = (unsigned char)p[i];
		if ((c < 32 && c != '\n' && c != '\t') || c == 127) {
			/* its picture in Unicode's control pictures */
			c = c == 127 ? 0x21 : c;
			printf("\xe2\x90%c", 0x80 + c);
		} else if (c == 0xc2 && i + 1 < n &&
			   (unsigned char)p[i + 1] < 0xa0) {
			fputs("\xef\xbf\xbd", stdout);
			i++;
		} else {
			putchar(c);
		}
	}
	if (!tty)
		fwrite(p, 1, n, stdout);
	fflush(stdout);
	a->last = p[n - 1];
}

static void json_line(json_t *o)
{
	char *s = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9))
		    : NULL;

	if (s)
		puts(s);
	fflush(stdout);
	free(s);
	json_decref(o);
}

static json_t *token_text(struct answer *a, uint32_t tok)
{
	char buf[1024];
	int64_t n = hearth_detokenize(a->r->m, &tok, 1, buf, sizeof(buf), true);

	if (n < 0)
		n = 0;
	if (n > (int64_t)sizeof(buf))
		n = sizeof(buf);
	return text_json(buf, (size_t)n);
}

/* The token's text in quotes, printable; after @before. */
static void print_token(struct answer *a, const char *before, uint32_t tok)
{
	json_t *o = token_text(a, tok);
	char *s = o ? json_dumps(o, JSON_ENCODE_ANY) : NULL;

	printf("%s%s", before, s ? s : "?");
	free(s);
	json_decref(o);
}

static json_t *json_token(struct answer *a, uint32_t i)
{
	const struct hearth_top *top;
	json_t *o, *list;
	uint32_t tok;
	float lp;
	int n, k;

	if (hearth_token_at(a->r->h, a->id, i, &tok, &lp) < 0)
		return json_null();
	if (!a->r->a->logprobs)
		return json_integer(tok);
	o = json_pack("{s:I, s:o, s:f}", "id", (json_int_t)tok, "text",
		      token_text(a, tok), "logprob", (double)lp);
	if (!o)
		return json_null();
	n = hearth_top_at(a->r->h, a->id, i, &top);
	list = json_array();
	for (k = 0; k < n; k++)
		json_array_append_new(
			list, json_pack("{s:I, s:o, s:f}", "id",
					(json_int_t)top[k].token, "text",
					token_text(a, top[k].token), "logprob",
					(double)top[k].logprob));
	json_object_set_new(o, "top", list);
	return o;
}

static void print_logprobs(struct answer *a, const struct hearth_event *ev)
{
	const struct hearth_top *top;
	uint32_t i, tok;
	float lp;
	int n, k;

	for (i = ev->first; i < ev->first + ev->n_tokens; i++) {
		if (hearth_token_at(a->r->h, a->id, i, &tok, &lp) < 0)
			continue;
		printf("%9.4f", (double)lp);
		print_token(a, " ", tok);
		n = hearth_top_at(a->r->h, a->id, i, &top);
		for (k = 0; k < n; k++) {
			print_token(a, "  ", top[k].token);
			printf(" %.4f", (double)top[k].logprob);
		}
		putchar('\n');
	}
	fflush(stdout);
	a->last = '\n';
}

static void on_tokens(struct answer *a, const struct hearth_event *ev)
{
	json_t *list;
	uint32_t i;

	progress_end(&a->bar, 0, false);
	a->n_out = ev->first + ev->n_tokens;
	if (a->text)
		str_add(a->text, ev->text, ev->text_n);
	if (a->r->a->json) {
		list = json_array();
		for (i = 0; i < ev->n_tokens; i++)
			json_array_append_new(list,
					      json_token(a, ev->first + i));
		json_line(json_pack("{s:s, s:i, s:o, s:o}", "event", "tokens",
				    "first", (int)ev->first, "text",
				    text_json(ev->text, ev->text_n), "tokens",
				    list));
	} else if (a->r->a->logprobs) {
		print_logprobs(a, ev);
	} else {
		print_safe(a, ev->text, ev->text_n);
	}
}

static void on_prefill(struct answer *a, const struct hearth_event *ev)
{
	if (a->r->a->json)
		json_line(json_pack("{s:s, s:i, s:i}", "event", "prefill",
				    "done", (int)ev->n_prefill, "total",
				    (int)ev->n_prompt));
	else
		progress_update(&a->bar, ev->n_prefill, ev->n_prompt);
}

/* ------------------------------------------------------------------- numbers */

static double rate(uint64_t n, uint64_t ns)
{
	return ns ? (double)n * 1e9 / (double)ns : 0;
}

static const char *finish_name(uint32_t f)
{
	static const char *const name[] = {
		[HEARTH_FINISH_NONE] = "none",
		[HEARTH_FINISH_EOS] = "eos",
		[HEARTH_FINISH_STOP] = "stop",
		[HEARTH_FINISH_LENGTH] = "length",
		[HEARTH_FINISH_CANCEL] = "cancel",
		[HEARTH_FINISH_ERROR] = "error",
		[HEARTH_FINISH_DONE] = "done",
	};

	return f < N_ELEM(name) && name[f] ? name[f] : "?";
}

static void show_verbose(struct answer *a, const struct hearth_timings *t)
{
	char b[32], c[32];
	uint32_t fresh = t->n_prompt - t->n_cached;

	fprintf(stderr, "load     %s\n", fmt_dur(b, a->r->load_ns));
	fprintf(stderr, "queue    %s\n", fmt_dur(b, t->queue_ns));
	fprintf(stderr, "prefill  %s for %u tokens (%s tokens/s)",
		fmt_dur(b, t->prefill_ns), fresh,
		fmt_rate(c, rate(fresh, t->prefill_ns)));
	if (t->n_cached)
		fprintf(stderr, ", %u more were cached", t->n_cached);
	fprintf(stderr, "\nfirst    %s after submitting\n",
		fmt_dur(b, t->first_ns));
	fprintf(stderr, "decode   %s for %u tokens (%s tokens/s)\n",
		fmt_dur(b, t->decode_ns), t->n_out,
		fmt_rate(c, rate(t->n_out ? t->n_out - 1 : 0, t->decode_ns)));
	fprintf(stderr, "context  %u of %u tokens\n", t->n_prompt + t->n_out,
		a->r->info.n_ctx);
	fprintf(stderr, "finish   %s; seed %llu\n", finish_name(a->finish),
		(unsigned long long)a->seed);
	if (t->n_restart)
		fprintf(stderr, "restarts %u\n", t->n_restart);
}

static void show_line(const struct hearth_timings *t)
{
	char b[32], c[32];

	fprintf(stderr, "%s[%u tokens, %s tokens/s, first after %s]%s\n",
		term_style(stderr, STYLE_DIM), t->n_out,
		fmt_rate(c, rate(t->n_out ? t->n_out - 1 : 0, t->decode_ns)),
		fmt_dur(b, t->first_ns), term_style(stderr, STYLE_NONE));
}

static void show_json(struct answer *a, const struct hearth_timings *t)
{
	json_line(json_pack(
		"{s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I}",
		"event", "done", "finish", finish_name(a->finish), "text",
		text_json(a->text->p, a->text->n), "n_prompt", (int)t->n_prompt,
		"n_cached", (int)t->n_cached, "n_out", (int)t->n_out, "n_ctx",
		(int)a->r->info.n_ctx, "seed", (json_int_t)a->seed, "load_ns",
		(json_int_t)a->r->load_ns, "queue_ns", (json_int_t)t->queue_ns,
		"prefill_ns", (json_int_t)t->prefill_ns, "first_ns",
		(json_int_t)t->first_ns, "decode_ns",
		(json_int_t)t->decode_ns));
}

static void show_end(struct answer *a)
{
	struct hearth_timings HEARTH_INIT(t);

	if (hearth_timings(a->r->h, a->id, &t) < 0)
		t.n_out = a->n_out;
	if (a->r->a->json) {
		show_json(a, &t);
		return;
	}
	if (a->last && a->last != '\n')
		putchar('\n');
	fflush(stdout);
	/* Why it stopped must never be a riddle. */
	if (a->finish == HEARTH_FINISH_LENGTH &&
	    a->n_prompt + t.n_out >= a->r->info.n_ctx)
		tool_note("the context is full: %zu prompt tokens and %u of "
			  "the answer make %u",
			  a->n_prompt, t.n_out, a->r->info.n_ctx);
	else if (a->finish == HEARTH_FINISH_LENGTH && term_is_tty(2))
		tool_note("stopped at %u tokens, as --max-tokens says",
			  t.n_out);
	if (a->r->a->verbose)
		show_verbose(a, &t);
	else if (term_is_tty(2) && !a->r->a->no_stats)
		show_line(&t);
}

/* ------------------------------------------------------------------- request */

static int submit(struct answer *a, const uint32_t *tok, size_t n)
{
	const struct run_args *o = a->r->a;
	struct hearth_request HEARTH_INIT(rq);
	int rc;

	a->seed = o->seed;
	while (!a->seed) {
		if (getrandom(&a->seed, sizeof(a->seed), 0) < 0)
			a->seed = now_ns();
		/* so that JSON readers with doubles keep it */
		a->seed &= (1ull << 53) - 1;
	}
	rq.model = a->r->m;
	rq.prompt = tok;
	rq.n_prompt = n;
	rq.max_tokens = (uint32_t)o->max_tokens;
	rq.greedy = o->greedy;
	rq.ignore_eos = o->ignore_eos;
	rq.temperature = o->temp;
	rq.top_k = (uint32_t)o->top_k;
	rq.top_p = o->top_p;
	rq.min_p = o->min_p;
	rq.repeat_penalty = o->repeat_penalty;
	rq.presence_penalty = o->presence_penalty;
	rq.frequency_penalty = o->frequency_penalty;
	rq.penalty_last = (uint32_t)o->penalty_last;
	rq.seed = a->seed;
	rq.stop_text = o->stop.v;
	rq.n_stop_text = o->stop.n;
	rq.want_logprobs = o->logprobs || o->top_logprobs;
	rq.n_top_logprobs = (uint32_t)o->top_logprobs;
	rc = hearth_submit(a->r->h, &rq, &a->id);
	if (rc < 0 && o->json)
		json_line(json_pack("{s:s, s:i, s:s}", "event", "error",
				    "errno", -rc, "error",
				    hearth_error(a->r->h)));
	else if (rc < 0)
		tool_err("%s", hearth_error(a->r->h));
	return rc;
}

static void on_error(struct answer *a, const struct hearth_event *ev)
{
	progress_end(&a->bar, 0, false);
	if (a->last && a->last != '\n' && !a->r->a->json)
		putchar('\n');
	if (a->r->a->json)
		json_line(json_pack("{s:s, s:i, s:s}", "event", "error",
				    "errno", -ev->err, "error", ev->error));
	else
		tool_err("%s", ev->error);
	a->rc = ev->err ? ev->err : -EIO;
	a->over = true;
}

static void on_event(struct answer *a, const struct hearth_event *ev)
{
	switch (ev->type) {
	case HEARTH_EV_PREFILL:
		on_prefill(a, ev);
		break;
	case HEARTH_EV_TOKENS:
		on_tokens(a, ev);
		break;
	case HEARTH_EV_DONE:
		progress_end(&a->bar, 0, false);
		if (ev->text_n) {
			if (a->text)
				str_add(a->text, ev->text, ev->text_n);
			if (!a->r->a->json && !a->r->a->logprobs)
				print_safe(a, ev->text, ev->text_n);
		}
		a->finish = ev->finish;
		a->over = true;
		break;
	case HEARTH_EV_ERROR:
		on_error(a, ev);
		break;
	default:
		break;
	}
}

static void wait_all(struct answer *a)
{
	struct hearth_event HEARTH_INIT(ev);
	int rc;

	while (!a->over) {
		rc = hearth_next(a->r->h, &ev, POLL_MS);
		if (rc == 0 && ev.id == a->id)
			on_event(a, &ev);
		else if (rc < 0 && rc != -EAGAIN && rc != -EINTR) {
			tool_err("%s", hearth_error(a->r->h));
			a->rc = rc;
			return;
		}
		if (tool_interrupted && !a->cancelled) {
			a->cancelled = true;
			hearth_cancel(a->r->h, a->id);
		}
		/* Nobody reads: the rest of the answer is for nobody. */
		if (ferror(stdout) && !a->cancelled) {
			a->cancelled = true;
			a->rc = -EPIPE;
			hearth_cancel(a->r->h, a->id);
		}
	}
}

int answer_run(struct runner *r, const uint32_t *tok, size_t n,
	       struct str *text)
{
	struct str own = { 0 };
	struct answer a = { .r = r, .n_prompt = n, .text = text ? text : &own };

	str_add(a.text, "", 0);
	a.rc = submit(&a, tok, n);
	if (a.rc < 0) {
		str_free(&own);
		return EXIT_FAIL;
	}
	if (r->a->json)
		json_line(json_pack("{s:s, s:s, s:i, s:i, s:I}", "event",
				    "start", "model", r->info.name, "n_prompt",
				    (int)n, "n_ctx", (int)r->info.n_ctx, "seed",
				    (json_int_t)a.seed));
	progress_start(&a.bar, "prefill", "tokens", 0, 700000000u);
	wait_all(&a);
	progress_end(&a.bar, 0, false);
	if (a.over && a.finish)
		show_end(&a);
	hearth_release(r->h, a.id);
	str_free(&own);
	if (a.rc < 0)
		return EXIT_FAIL;
	if (a.finish == HEARTH_FINISH_CANCEL && tool_interrupted)
		return EXIT_INTR;
	if (a.finish == HEARTH_FINISH_CANCEL) {
		tool_err("the daemon cancelled the answer");
		return EXIT_FAIL;
	}
	return a.finish == HEARTH_FINISH_ERROR ? EXIT_FAIL : EXIT_OK;
}
