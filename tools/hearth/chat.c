/* SPDX-License-Identifier: MIT */
/*
 * chat.c - a conversation at the terminal.
 *
 * The whole conversation is kept and sent again with every turn (the daemon
 * finds the part it knows in its cache). It is never cut: when it no longer
 * fits, the daemon's refusal with both numbers is shown and the last message
 * is taken back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "line.h"

struct chat {
	struct runner *r;
	struct conv *c;
	struct line *line;
	bool leave;
	char *system; /* as set last */
	char **kept;  /* texts that settings point to */
	size_t n_kept;
};

struct chat_cmd {
	const char *name;
	const char *args;
	const char *help;
	void (*fn)(struct chat *t, char *arg);
};

static const struct chat_cmd chat_cmds[];

extern const struct opt opts_run[];

/* --------------------------------------------------------------- commands */

static void set_system(struct chat *t, const char *text)
{
	struct conv old = *t->c;
	size_t i;

	free(t->system);
	t->system = xstrdup(text);
	memset(t->c, 0, sizeof(*t->c));
	if (*text)
		conv_add(t->c, "system", text);
	for (i = 0; i < old.n; i++)
		if (strcmp(old.msg[i].role, "system"))
			conv_add(t->c, old.msg[i].role, old.msg[i].content);
	conv_clear(&old);
}

/* These belong to the load or to another way of running. */
static bool settable(const struct opt *o)
{
	return strcmp(o->name, "ctx") && strcmp(o->name, "json") &&
	       strcmp(o->name, "raw") && strcmp(o->name, "template") &&
	       strcmp(o->name, "system");
}

static void show_settings(struct chat *t)
{
	const struct opt *o;
	char value[200];

	for (o = opts_run; o->type != OPT_END; o++) {
		if (!settable(o))
			continue;
		opt_show(o, t->r->a, value, sizeof(value));
		printf("  %-18s %-10s %s\n", o->name, value, o->help);
	}
	printf("  %-18s %s\n", "system", t->system ? t->system : "");
}

static void unknown_param(const char *name)
{
	const char *list[64];
	const struct opt *o;
	char buf[200];
	size_t n = 0;

	for (o = opts_run; o->type != OPT_END && n < 63; o++)
		if (settable(o))
			list[n++] = o->name;
	list[n++] = "system";
	near_names(name, list, n, buf, sizeof(buf));
	tool_err("/set: there is no parameter '%s'%s%s", name,
		 *buf ? "; near to it: " : "", buf);
}

/* Options point to their text: it stays until the end. */
static const char *keep(struct chat *t, const char *text)
{
	t->kept = xrealloc(t->kept, t->n_kept + 1, sizeof(*t->kept));
	t->kept[t->n_kept] = xstrdup(text);
	return t->kept[t->n_kept++];
}

static void do_set(struct chat *t, char *arg)
{
	const struct opt *o;
	char why[160] = "", *value;

	if (!*arg) {
		show_settings(t);
		return;
	}
	value = arg + strcspn(arg, " \t\n");
	if (*value)
		*value++ = 0;
	value += strspn(value, " \t");
	if (!strcmp(arg, "system")) {
		set_system(t, value);
		return;
	}
	o = opt_find(opts_run, arg);
	if (!o || !settable(o)) {
		unknown_param(arg);
		return;
	}
	if (!*value && o->type == OPT_STRS) {
		((struct strs *)(void *)((char *)t->r->a + o->off))->n = 0;
		return;
	}
	if (opt_set(o, t->r->a, *value ? keep(t, value) : "on", why))
		tool_err("/set: %s", why);
}

static void show_history(struct chat *t)
{
	size_t i;

	for (i = 0; i < t->c->n; i++)
		printf("%s%s:%s %s\n", term_style(stdout, STYLE_BOLD),
		       t->c->msg[i].role, term_style(stdout, STYLE_NONE),
		       t->c->msg[i].content);
}

static void show_template(struct chat *t)
{
	const char *p;
	size_t n;

	if (t->r->tmpl)
		puts(t->r->tmpl);
	else if (hearth_model_meta(t->r->m, "tokenizer.chat_template", &p, &n))
		printf("%.*s\n", (int)n, p);
	else
		puts("the model has no template of its own");
}

static void show_info(struct chat *t)
{
	const struct hearth_model_info *i = &t->r->info;
	char a[32], b[32];
	uint32_t *tok = NULL;
	int64_t n = 0;

	if (t->c->n)
		n = answer_render(t->r, t->c, &tok);
	free(tok);
	printf("  %-14s %s (%s, %s)\n", "model", i->name, i->arch, i->quant);
	printf("  %-14s %s\n", "parameters",
	       i->n_params ? fmt_count(a, i->n_params) : "?");
	printf("  %-14s %s on %s\n", "weights", fmt_size(b, i->weight_bytes),
	       i->backend);
	printf("  %-14s %lld of %u tokens in use\n", "context",
	       (long long)(n > 0 ? n : 0), i->n_ctx);
	printf("  %-14s %zu\n", "messages", t->c->n);
	puts("  /show settings, history and template show more");
}

static void do_show(struct chat *t, char *arg)
{
	if (!*arg || !strcmp(arg, "info"))
		show_info(t);
	else if (!strcmp(arg, "settings"))
		show_settings(t);
	else if (!strcmp(arg, "history"))
		show_history(t);
	else if (!strcmp(arg, "template"))
		show_template(t);
	else if (!strcmp(arg, "system"))
		puts(t->system ? t->system : "");
	else
		tool_err("/show takes info, settings, history, template or "
			 "system, not '%s'",
			 arg);
}

static void do_clear(struct chat *t, char *arg)
{
	(void)arg;
	conv_clear(t->c);
	if (t->system && *t->system)
		conv_add(t->c, "system", t->system);
}

static void do_save(struct chat *t, char *arg)
{
	if (!*arg)
		tool_err("/save: which file?");
	else if (conv_save(t->c, t->r, arg) == 0)
		printf("%zu messages saved to %s\n", t->c->n, arg);
}

static void do_load(struct chat *t, char *arg)
{
	if (!*arg) {
		tool_err("/load: which file?");
		return;
	}
	if (conv_load(t->c, t->r, arg))
		return;
	free(t->system);
	t->system = NULL;
	if (t->c->n && !strcmp(t->c->msg[0].role, "system"))
		t->system = xstrdup(t->c->msg[0].content);
	printf("%zu messages loaded from %s\n", t->c->n, arg);
}

static void do_bye(struct chat *t, char *arg)
{
	(void)arg;
	t->leave = true;
}

static void do_help(struct chat *t, char *arg)
{
	const struct chat_cmd *k;
	char left[64];

	(void)t, (void)arg;
	for (k = chat_cmds; k->name; k++) {
		snprintf(left, sizeof(left), "%s %s", k->name, k->args);
		printf("  %-24s %s\n", left, k->help);
	}
	puts("  \"\"\"                      begins and ends a text of several "
	     "lines\n"
	     "  Ctrl-C                   stops the answer; twice at an empty "
	     "prompt, leaves\n"
	     "  Ctrl-D                   leaves");
}

/* clang-format off */
static const struct chat_cmd chat_cmds[] = {
	{ "/?", "", "this text", do_help },
	{ "/help", "", "this text", do_help },
	{ "/set", "[PARAM [VALUE]]", "change a parameter, or show them", do_set },
	{ "/show", "[WHAT]", "info, settings, history, template, system", do_show },
	{ "/clear", "", "forget the conversation, keep the settings", do_clear },
	{ "/save", "FILE", "write the conversation to a JSON file", do_save },
	{ "/load", "FILE", "go on with a conversation from a file", do_load },
	{ "/bye", "", "leave", do_bye },
	{ "/exit", "", "leave", do_bye },
	{ NULL, NULL, NULL, NULL },
};
/* clang-format on */

static void command(struct chat *t, char *text)
{
	const char *list[N_ELEM(chat_cmds)];
	const struct chat_cmd *k;
	char *arg = text + strcspn(text, " \t\n"), near[200];
	size_t n = 0, end;

	if (*arg)
		*arg++ = 0;
	arg += strspn(arg, " \t");
	end = strlen(arg);
	while (end && strchr(" \t\n", arg[end - 1]))
		arg[--end] = 0;
	for (k = chat_cmds; k->name; k++) {
		if (!strcmp(k->name, text)) {
			k->fn(t, arg);
			fflush(stdout);
			return;
		}
		list[n++] = k->name;
	}
	near_names(text, list, n, near, sizeof(near));
	tool_err("there is no command %s%s%s (/? lists them)", text,
		 *near ? "; near to it: " : "", near);
}

/* ------------------------------------------------------------------- turns */

static void turn(struct chat *t, const char *text)
{
	struct str answer = { 0 };
	uint32_t *tok = NULL;
	int64_t n;
	int rc = EXIT_FAIL;

	conv_add(t->c, "user", text);
	n = answer_render(t->r, t->c, &tok);
	tool_interrupted = 0;
	if (n > 0)
		rc = answer_run(t->r, tok, (size_t)n, &answer);
	free(tok);
	/* Nothing came: as if it had not been asked. */
	if (rc != EXIT_OK && !answer.n) {
		conv_pop(t->c);
		if (n >= (int64_t)t->r->info.n_ctx)
			tool_note("the conversation no longer fits; /clear "
				  "starts a new one, /save keeps this one");
	} else {
		conv_add(t->c, "assistant", answer.p ? answer.p : "");
	}
	tool_interrupted = 0;
	str_free(&answer);
}

/* Lines up to the closing mark; @s holds what followed the opening one. */
static enum line_end read_block(struct chat *t, struct str *s)
{
	struct str more = { 0 };
	enum line_end e = LINE_OK;
	char *end;

	for (;;) {
		end = strstr(s->p, "\"\"\"");
		if (end) {
			s->n = (size_t)(end - s->p);
			*end = 0;
			break;
		}
		e = line_read(t->line, "... ", &more);
		if (e != LINE_OK)
			break;
		str_add(s, "\n", 1);
		str_add(s, more.p, more.n);
	}
	str_free(&more);
	/* The line ends beside the marks are not part of the text. */
	if (s->n && s->p[s->n - 1] == '\n')
		s->p[--s->n] = 0;
	if (s->n && s->p[0] == '\n') {
		memmove(s->p, s->p + 1, s->n);
		s->n--;
	}
	return e;
}

static enum line_end read_turn(struct chat *t, struct str *s)
{
	char prompt[64];
	enum line_end e;

	snprintf(prompt, sizeof(prompt), "\1%s\1>>>\1%s\1 ",
		 term_style(stdout, STYLE_PROMPT),
		 term_style(stdout, STYLE_NONE));
	e = line_read(t->line,
		      *term_style(stdout, STYLE_BOLD) ? prompt : ">>> ", s);
	if (e != LINE_OK || strncmp(s->p, "\"\"\"", 3))
		return e;
	memmove(s->p, s->p + 3, s->n - 2);
	s->n -= 3;
	return read_block(t, s);
}

static void talk(struct chat *t)
{
	struct str s = { 0 };
	bool warned = false;
	enum line_end e;

	while (!t->leave) {
		e = read_turn(t, &s);
		if (e == LINE_EOF) {
			putchar('\n');
			break;
		}
		if (e == LINE_INTR) {
			putchar('\n');
			if (warned && !s.n)
				break;
			warned = !s.n;
			if (warned)
				puts("Ctrl-C again, Ctrl-D or /bye leaves");
			fflush(stdout);
			continue;
		}
		warned = false;
		if (!s.p[strspn(s.p, " \t\n")])
			continue;
		line_remember(t->line, s.p);
		if (s.p[0] == '/')
			command(t, s.p);
		else
			turn(t, s.p);
		if (ferror(stdout))
			break;
	}
	str_free(&s);
}

int chat(struct runner *r, struct conv *c)
{
	const char *names[N_ELEM(chat_cmds)];
	struct chat t = { .r = r, .c = c };
	size_t i;

	for (i = 0; i < N_ELEM(chat_cmds); i++)
		names[i] = chat_cmds[i].name;
	if (line_open(&t.line, names))
		return EXIT_FAIL;
	if (r->a->system)
		set_system(&t, r->a->system);
	printf("%s, context %u tokens; /? for help\n", r->info.name,
	       r->info.n_ctx);
	talk(&t);
	line_close(&t.line);
	free(t.system);
	while (t.n_kept)
		free(t.kept[--t.n_kept]);
	free(t.kept);
	return EXIT_OK;
}
