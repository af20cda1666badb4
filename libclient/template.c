/* SPDX-License-Identifier: MIT */
/*
 * template.c - hearth_apply_template(): messages to a prompt.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jinja.h"
#include "lib.h"

/* For models that bring no template: ChatML if they know its tokens, else
 * each turn as "Role: text" on lines of its own. */
static const char chatml[] =
	"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
	"<|im_end|>\n{% endfor %}"
	"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
static const char plain[] =
	"{% for m in messages %}{{ m.role | capitalize }}: "
	"{{ m.content | trim }}\n\n{% endfor %}"
	"{% if add_generation_prompt %}Assistant:{% endif %}";

/* Text that grows; after a failure it only remembers that. */
struct text {
	char *p;
	size_t n;
	size_t cap;
	bool failed;
};

static void add(struct text *t, const char *s, size_t n)
{
	size_t cap;
	char *p;

	if (t->cap - t->n < n && !t->failed) {
		cap = 2 * t->cap + n + 64;
		p = realloc(t->p, cap);
		t->failed = !p;
		if (p) {
			t->p = p;
			t->cap = cap;
		}
	}
	if (t->failed || !n)
		return;
	memcpy(t->p + t->n, s, n);
	t->n += n;
}

static void adds(struct text *t, const char *s)
{
	add(t, s, strlen(s));
}

static void add_quoted(struct text *t, const char *s, size_t n)
{
	char x[8];
	size_t i, from = 0;

	add(t, "\"", 1);
	for (i = 0; i < n; i++) {
		if (s[i] != '"' && s[i] != '\\' && (uint8_t)s[i] >= 0x20)
			continue;
		add(t, s + from, i - from);
		snprintf(x, sizeof(x), "\\u%04x", (uint8_t)s[i]);
		adds(t, x);
		from = i + 1;
	}
	add(t, s + from, n - from);
	add(t, "\"", 1);
}

static void add_token(struct text *t, const struct image *im, const char *name,
		      uint32_t id)
{
	const struct image_token *k;

	if (id >= im->h->tokens.n)
		return;
	k = &im->tokens[id];
	adds(t, ", \"");
	adds(t, name);
	adds(t, "\": ");
	add_quoted(t, im->str + k->text.off, k->text.len);
}

/* What transformers passes to every template. */
static void describe(struct text *t, const struct hearth_model *m,
		     const struct hearth_message *msg, size_t n,
		     bool generation)
{
	size_t i;

	adds(t, "{\"messages\": [");
	for (i = 0; i < n; i++) {
		adds(t, i ? ", {\"role\": " : "{\"role\": ");
		add_quoted(t, msg[i].role, strlen(msg[i].role));
		adds(t, ", \"content\": ");
		add_quoted(t, msg[i].content, strlen(msg[i].content));
		adds(t, "}");
	}
	adds(t, "], \"tools\": null, \"documents\": null");
	adds(t, ", \"add_generation_prompt\": ");
	adds(t, generation ? "true" : "false");
	if (m) {
		add_token(t, &m->im, "bos_token", m->im.h->bos);
		add_token(t, &m->im, "eos_token", m->im.h->eos);
		add_token(t, &m->im, "unk_token", m->im.h->unk);
		add_token(t, &m->im, "pad_token", m->im.h->pad);
		add_token(t, &m->im, "sep_token", m->im.h->sep);
	}
	adds(t, "}");
}

static bool has_token(const struct image *im, const char *s)
{
	return image_find_token(im, s, strlen(s)) != IMAGE_NONE;
}

static const char *choose(const struct hearth_model *m,
			  const struct hearth_template_options *opt, size_t *n)
{
	const struct image_str *own = m ? &m->im.h->chat_template : NULL;
	const char *p = plain;

	if (opt->tmpl) {
		p = opt->tmpl;
	} else if (own && own->len) {
		*n = own->len;
		return m->im.str + own->off;
	} else if (m && has_token(&m->im, "<|im_start|>") &&
		   has_token(&m->im, "<|im_end|>")) {
		p = chatml;
	}
	*n = strlen(p);
	return p;
}

int64_t hearth_apply_template(const struct hearth_model *m,
			      const struct hearth_message *msg, size_t n_msg,
			      const struct hearth_template_options *opt,
			      char *out, size_t max, char *why, size_t why_n)
{
	struct hearth_template_options o = { .size = sizeof(o) };
	struct jinja_limits lim = { .now = time(NULL) };
	struct text t = { 0 };
	const char *vars[2], *tmpl;
	size_t n_vars[2], k = 1, n, i, done;
	char *got;
	int err;

	if (!why)
		why_n = 0;
	for (i = 0; i < n_msg; i++)
		if (!msg || !msg[i].role || !msg[i].content)
			goto invalid;
	if ((max && !out) || (opt && opt->size < sizeof(size_t)))
		goto invalid;
	if (opt)
		memcpy(&o, opt, opt->size < sizeof(o) ? opt->size : sizeof(o));
	tmpl = choose(m, &o, &n);
	describe(&t, m, msg, n_msg, !o.no_generation_prompt);
	if (t.failed) {
		free(t.p);
		return -ENOMEM;
	}
	vars[0] = t.p;
	n_vars[0] = t.n;
	if (o.vars_json) {
		vars[1] = o.vars_json;
		n_vars[1] = strlen(o.vars_json);
		k = 2;
	}
	err = jinja_render(tmpl, n, vars, n_vars, k, &lim, &got, &done, why,
			   why_n);
	free(t.p);
	if (err)
		return err;
	if (max)
		memcpy(out, got, done < max ? done : max);
	free(got);
	return (int64_t)done;
invalid:
	if (why_n)
		snprintf(why, why_n,
			 "a message without role or content, or "
			 "options without their size");
	return -EINVAL;
}
