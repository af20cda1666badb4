/* SPDX-License-Identifier: MIT */
/*
 * cmd_run.c - hearth run: answer a prompt, or chat.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answer.h"

#define PROMPT_MAX  (64u << 20)
#define PATIENCE_MS 2000

#define F(m) offsetof(struct run_args, m)
/* clang-format off */
const struct opt opts_run[] = {
	{ 's', "system", "TEXT", OPT_STR, F(system), 0, 0,
	  "system message" },
	{ 't', "temp", "X", OPT_F32, F(temp), 0, 100,
	  "temperature; 0 takes the most probable token (default 0.8)" },
	{ 0, "top-k", "N", OPT_U64, F(top_k), 0, 1e9,
	  "of the N most probable tokens; 0 is off (default 40)" },
	{ 0, "top-p", "X", OPT_F32, F(top_p), 0, 1,
	  "of those that make up this probability (default 0.95)" },
	{ 0, "min-p", "X", OPT_F32, F(min_p), 0, 1,
	  "of those this part as probable as the first (default 0.05)" },
	{ 0, "repeat-penalty", "X", OPT_F32, F(repeat_penalty), 0, 100,
	  "divide the logits of recent tokens by X; 1 is off (default 1)" },
	{ 0, "presence-penalty", "X", OPT_F32, F(presence_penalty), -2, 2,
	  "take X off the logits of recent tokens (default 0)" },
	{ 0, "frequency-penalty", "X", OPT_F32, F(frequency_penalty), -2, 2,
	  "the same for each time they occurred (default 0)" },
	{ 0, "penalty-last", "N", OPT_U64, F(penalty_last), 0, 1e9,
	  "recent means the last N tokens (default 64)" },
	{ 0, "seed", "N", OPT_U64, F(seed), 0, 9.2e18,
	  "seed; 0 draws one (default 0)" },
	{ 'n', "max-tokens", "N", OPT_U64, F(max_tokens), 0, 4e9,
	  "end the answer after N tokens; 0: when the context is full" },
	{ 0, "ctx", "N", OPT_U64, F(ctx), 0, 1e9,
	  "context to load the model with (default: its own)" },
	{ 0, "greedy", NULL, OPT_FLAG, F(greedy), 0, 0,
	  "always the most probable token" },
	{ 0, "ignore-eos", NULL, OPT_FLAG, F(ignore_eos), 0, 0,
	  "go on when the model wants to end" },
	{ 0, "stop", "TEXT", OPT_STRS, F(stop), 0, 0,
	  "end the answer before TEXT; may be repeated" },
	{ 0, "raw", NULL, OPT_FLAG, F(raw), 0, 0,
	  "send the prompt as it is, without a chat template" },
	{ 0, "template", "FILE", OPT_STR, F(template), 0, 0,
	  "chat template to use in place of the model's" },
	{ 0, "vars", "JSON", OPT_STR, F(vars), 0, 0,
	  "variables for the template, {\"enable_thinking\": false}" },
	{ 0, "logprobs", NULL, OPT_FLAG, F(logprobs), 0, 0,
	  "print each token with its log-probability" },
	{ 0, "top-logprobs", "N", OPT_U64, F(top_logprobs), 0, 20,
	  "and with those of the N most probable ones" },
	{ 0, "json", NULL, OPT_FLAG, F(json), 0, 0,
	  "print events as JSON, one object a line" },
	{ 'v', "verbose", NULL, OPT_FLAG, F(verbose), 0, 0,
	  "print times and rates of load, prefill and decode" },
	{ 0, "no-stats", NULL, OPT_FLAG, F(no_stats), 0, 0,
	  "do not print the line with the rate" },
	{ .type = OPT_END },
};
/* clang-format on */
#undef F

/* Read all of a file; refuses what is too long. */
static int read_all(FILE *f, const char *name, struct str *s)
{
	char buf[65536];
	size_t n;
	int rc;

	errno = 0;
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0) {
		str_add(s, buf, n);
		if (s->n > PROMPT_MAX) {
			tool_err("%s: longer than %u bytes", name, PROMPT_MAX);
			return -E2BIG;
		}
	}
	rc = errno;
	if (ferror(f)) {
		tool_err("%s: %s", name, strerror(rc ? rc : EIO));
		return -EIO;
	}
	if (s->n && memchr(s->p, 0, s->n)) {
		tool_err("%s: a zero byte in it: this is no text", name);
		return -EINVAL;
	}
	return 0;
}

static int read_template(struct runner *r)
{
	struct str s = { 0 };
	FILE *f;
	int rc;

	if (!r->a->template)
		return 0;
	f = fopen(r->a->template, "re");
	if (!f) {
		rc = -errno;
		tool_err("%s: %s", r->a->template, strerror(-rc));
		return rc;
	}
	rc = read_all(f, r->a->template, &s);
	fclose(f);
	str_add(&s, "", 0);
	r->tmpl = s.p;
	return rc;
}

/* Standard input belongs to the prompt when it is no terminal. With words on
 * the command line as well, a silent pipe is suspicious: say so. */
static int read_stdin(struct str *s, bool more)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };
	struct stat st;

	if (term_is_tty(0) || fstat(0, &st) < 0)
		return 0;
	if (more && !S_ISFIFO(st.st_mode) && !S_ISREG(st.st_mode) &&
	    !S_ISSOCK(st.st_mode))
		return 0; /* /dev/null and the like */
	if (more && poll(&p, 1, PATIENCE_MS) == 0)
		tool_note("reading the rest of the prompt from standard input "
			  "(</dev/null if there is none)");
	if (more && s->n)
		str_add(s, "\n\n", 2);
	return read_all(stdin, "standard input", s);
}

static int read_prompt(struct str *s, int n, char **word)
{
	size_t before;
	int i, rc;

	for (i = 0; i < n; i++)
		str_addf(s, "%s%s", i ? " " : "", word[i]);
	before = s->n;
	rc = read_stdin(s, n > 0);
	/* Nothing came: the blank line goes again. */
	if (rc == 0 && n > 0 && s->n == before + 2)
		s->n = before;
	str_add(s, "", 0);
	s->p[s->n] = 0;
	return rc;
}

/* One prompt, one answer. */
static int answer_one(struct runner *r, struct str *prompt)
{
	struct conv c = { 0 };
	uint32_t *tok;
	int64_t n;
	int rc;

	if (r->a->raw) {
		n = answer_tokenize(r, prompt->p, prompt->n, &tok);
	} else {
		if (r->a->system)
			conv_add(&c, "system", r->a->system);
		conv_add(&c, "user", prompt->p);
		n = answer_render(r, &c, &tok);
	}
	if (n == 0)
		tool_err("the prompt has no tokens");
	rc = n > 0 ? answer_run(r, tok, (size_t)n, NULL) : EXIT_FAIL;
	conv_clear(&c);
	free(tok);
	return rc;
}

static int open_model(struct runner *r, const char *name)
{
	uint64_t t = now_ns();
	int rc;

	rc = tool_connect_for(&r->h, &name, 1);
	if (rc == 0)
		rc = tool_load(r->h, &r->m, name, (uint32_t)r->a->ctx,
			       !r->a->json);
	if (rc)
		return rc;
	r->load_ns = now_ns() - t;
	r->info.size = sizeof(r->info);
	rc = hearth_model_info(r->m, &r->info);
	if (rc < 0)
		tool_err("%s: %s", name, hearth_strerror(rc));
	return rc < 0 ? rc : 0;
}

static int run(struct runner *r, const char *name, struct str *prompt,
	       bool talk)
{
	struct conv c = { 0 };
	int rc = read_template(r);

	if (rc == 0)
		rc = open_model(r, name);
	if (rc)
		rc = rc == -EINTR || tool_interrupted ? EXIT_INTR : EXIT_FAIL;
	else if (talk)
		rc = chat(r, &c);
	else
		rc = answer_one(r, prompt);
	conv_clear(&c);
	hearth_model_close(&r->m);
	if (r->h)
		hearth_close(&r->h);
	free(r->tmpl);
	return rc;
}

int cmd_run(const struct cmd *c, int argc, char **argv)
{
	struct run_args a = { .temp = 0.8f,
			      .top_k = 40,
			      .top_p = 0.95f,
			      .min_p = 0.05f,
			      .repeat_penalty = 1,
			      .penalty_last = 64 };
	struct runner r = { .a = &a };
	struct str prompt = { 0 };
	int n = opt_parse(c, &a, argc, argv), rc;
	bool talk;

	if (n < 0)
		return EXIT_USAGE;
	if (!n)
		return tool_usage(c, "which model? (hearth ls shows the models "
				     "there are)");
	if (a.raw && (a.system || a.template || a.vars))
		return tool_usage(c, "--raw uses no template, system message "
				     "or variables");
	if (a.top_logprobs)
		a.logprobs = true;
	talk = n == 1 && term_is_tty(0);
	if (talk && (a.json || a.raw))
		return tool_usage(c, "--%s needs a prompt",
				  a.json ? "json" : "raw");
	if (!talk && read_prompt(&prompt, n - 1, argv + 1)) {
		str_free(&prompt);
		return EXIT_FAIL;
	}
	/* The line end that echo writes is not meant. */
	if (!a.raw && prompt.n && prompt.p[prompt.n - 1] == '\n')
		prompt.p[--prompt.n] = 0;
	if (!talk && !prompt.n) {
		str_free(&prompt);
		return tool_usage(c, "the prompt is empty");
	}
	term_catch_int();
	rc = run(&r, argv[0], &prompt, talk);
	str_free(&prompt);
	return rc;
}
