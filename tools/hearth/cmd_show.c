/* SPDX-License-Identifier: MIT */
/*
 * cmd_show.c - hearth show: what a model file says about itself.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "hearth-tool.h"

#define LONG_VALUE 60

struct args {
	bool tmpl;
	bool metadata;
	bool json;
};

/* clang-format off */
const struct opt opts_show[] = {
	{ 0, "template", NULL, OPT_FLAG, offsetof(struct args, tmpl), 0, 0,
	  "print the chat template" },
	{ 0, "metadata", NULL, OPT_FLAG, offsetof(struct args, metadata), 0, 0,
	  "print all keys and values of the file" },
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print JSON" },
	{ .type = OPT_END },
};
/* clang-format on */

/* What the file and, if it is resident, the daemon say. */
struct view {
	struct hearth_model *m;
	struct hearth_model_info info;
	struct hearth_model_info live;
	bool resident;
	char path[4096];
};

static double bits_per_weight(const struct hearth_model_info *i)
{
	uint64_t bytes = i->weight_bytes ? i->weight_bytes : i->file_bytes;

	return i->n_params ? 8.0 * (double)bytes / (double)i->n_params : 0;
}

static void row(const char *name, const char *fmt, ...) PRINTF(2, 3);

static void row(const char *name, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	printf("%-14s %s\n", name, buf);
}

static void meta_row(const struct view *v, const char *name, const char *key)
{
	const char *p;
	size_t n;

	if (hearth_model_meta(v->m, key, &p, &n) && n)
		row(name, "%.*s", n > 400 ? 400 : (int)n, p);
}

static void print_view(const struct view *v)
{
	const struct hearth_model_info *i = &v->info;
	char a[32], b[32];
	const char *p;
	size_t n;

	meta_row(v, "name", "general.name");
	row("file", "%s", v->path);
	row("size", "%s", fmt_size(a, i->file_bytes));
	row("architecture", "%s", i->arch);
	row("parameters", "%s (%llu)", fmt_count(a, i->n_params),
	    (unsigned long long)i->n_params);
	row("quantisation", "%s, %.2f bits per weight", i->quant,
	    bits_per_weight(i));
	row("context", "%u tokens", i->n_ctx_train);
	row("embedding", "%u", i->n_embd);
	row("vocabulary", "%u tokens", i->n_vocab);
	meta_row(v, "tokenizer", "tokenizer.ggml.model");
	if (hearth_model_meta(v->m, "tokenizer.chat_template", &p, &n) && n)
		row("template", "%zu bytes (--template prints it)", n);
	else
		row("template", "none; a plain one is used");
	meta_row(v, "licence", "general.license");
	meta_row(v, "author", "general.author");
	meta_row(v, "source", "general.source.url");
	if (!v->resident) {
		row("state", "not resident");
		return;
	}
	row("state", "%s on %s", model_state_name(v->live.state),
	    v->live.backend);
	row("limits", "context %u tokens, KV cache %s with %s in use",
	    v->live.n_ctx, fmt_size(a, v->live.kv_bytes),
	    fmt_size(b, v->live.kv_used));
}

static json_t *metadata_json(const struct hearth_model *m)
{
	const char *key, *val;
	size_t i, kn, vn;
	json_t *o = json_object(), *s;

	for (i = 0; hearth_model_meta_at(m, i, &key, &kn, &val, &vn); i++) {
		char *k = strndup(key, kn);

		s = json_stringn(val, vn);
		if (k)
			json_object_set_new(o, k, s ? s : json_null());
		free(k);
	}
	return o;
}

static void print_json(const struct view *v)
{
	const struct hearth_model_info *i = &v->info;
	json_t *o = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:f, s:i, s:i, s:i, s:b, s:o}",
		"path", v->path, "arch", i->arch, "quant", i->quant, "bytes",
		(json_int_t)i->file_bytes, "n_params", (json_int_t)i->n_params,
		"bits_per_weight", bits_per_weight(i), "n_ctx_train",
		(int)i->n_ctx_train, "n_embd", (int)i->n_embd, "n_vocab",
		(int)i->n_vocab, "resident", v->resident, "metadata",
		metadata_json(v->m));

	if (v->resident) {
		json_object_set_new(o, "n_ctx", json_integer(v->live.n_ctx));
		json_object_set_new(o, "kv_bytes",
				    json_integer((json_int_t)v->live.kv_bytes));
	}
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

/* Long values are cut here, with their length; --json has them whole. */
static void print_metadata(const struct hearth_model *m)
{
	const char *key, *val;
	size_t i, kn, vn, k;

	for (i = 0; hearth_model_meta_at(m, i, &key, &kn, &val, &vn); i++) {
		printf("%.*s = ", (int)kn, key);
		for (k = 0; k < vn && k < LONG_VALUE; k++)
			putchar((unsigned char)val[k] < 32 ? ' ' : val[k]);
		if (vn > LONG_VALUE)
			printf("... (%zu bytes)", vn);
		putchar('\n');
	}
}

static int print_template(const struct hearth_model *m, const char *name)
{
	const char *p;
	size_t n;

	if (!hearth_model_meta(m, "tokenizer.chat_template", &p, &n) || !n) {
		tool_err("%s: the model has no chat template", name);
		return EXIT_FAIL;
	}
	fwrite(p, 1, n, stdout);
	if (p[n - 1] != '\n')
		putchar('\n');
	return EXIT_OK;
}

/* "show limits" and "show stats": the daemon's own lines. */
static int show_daemon(const char *what, bool json)
{
	int (*get)(struct hearth *, char *, size_t) =
		strcmp(what, "limits") ? hearth_stats : hearth_limits;
	char *text = xrealloc(NULL, 65536, 1), *line, *save = NULL;
	char name[128], value[256];
	struct hearth *h = NULL;
	json_t *o = json_object();
	int rc = tool_connect(&h, 0);

	if (rc)
		goto out;
	rc = get(h, text, 65536);
	if (rc < 0)
		tool_err("%s", hearth_error(h));
	else if (!json)
		fputs(text, stdout);
	for (line = strtok_r(text, "\n", &save); rc >= 0 && json && line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "%127s %255[^\n]", name, value) == 2)
			json_object_set_new(o, name, json_string(value));
	}
	if (rc >= 0 && json) {
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	hearth_close(&h);
out:
	json_decref(o);
	free(text);
	return rc < 0 ? EXIT_FAIL : EXIT_OK;
}

static int open_view(struct view *v, const char *name)
{
	struct hearth *h = NULL;
	int rc;

	memset(v, 0, sizeof(*v));
	v->info.size = sizeof(v->info);
	/* A daemon is asked if there is one, and not missed if there is none. */
	if (tool_connect(&h, TOOL_QUIET) == 0) {
		v->resident = tool_resident(h, name, &v->live) == 0;
		hearth_close(&h);
	}
	rc = tool_open_file(&v->m, name);
	if (rc)
		return rc;
	if (hearth_model_find(name, v->path, sizeof(v->path)) < 0)
		snprintf(v->path, sizeof(v->path), "%s", name);
	rc = hearth_model_info(v->m, &v->info);
	if (rc < 0)
		tool_err("%s: %s", name, hearth_strerror(rc));
	return rc < 0 ? rc : 0;
}

int cmd_show(const struct cmd *c, int argc, char **argv)
{
	struct args a = { 0 };
	struct view v;
	int n = opt_parse(c, &a, argc, argv), rc = EXIT_OK;

	if (n < 0)
		return EXIT_USAGE;
	if (n != 1)
		return tool_usage(c, "takes one model, 'limits' or 'stats'");
	if (a.tmpl + a.metadata + a.json > 1)
		return tool_usage(c, "--template, --metadata and --json "
				     "exclude each other");
	if (!strcmp(argv[0], "limits") || !strcmp(argv[0], "stats"))
		return show_daemon(argv[0], a.json);
	rc = open_view(&v, argv[0]) ? EXIT_FAIL : EXIT_OK;
	if (rc == EXIT_OK && a.tmpl)
		rc = print_template(v.m, argv[0]);
	else if (rc == EXIT_OK && a.metadata)
		print_metadata(v.m);
	else if (rc == EXIT_OK && a.json)
		print_json(&v);
	else if (rc == EXIT_OK)
		print_view(&v);
	hearth_model_close(&v.m);
	return rc;
}
