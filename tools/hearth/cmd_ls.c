/* SPDX-License-Identifier: MIT */
/*
 * cmd_ls.c - hearth ls: the model files in the model directories.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <jansson.h>

#include "hearth-tool.h"

struct args {
	bool json;
	bool quick;
	bool quiet;
};

/* clang-format off */
const struct opt opts_ls[] = {
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print a JSON array" },
	{ 0, "quick", NULL, OPT_FLAG, offsetof(struct args, quick), 0, 0,
	  "do not look into the files" },
	{ 'q', "quiet", NULL, OPT_FLAG, offsetof(struct args, quiet), 0, 0,
	  "print names only" },
	{ .type = OPT_END },
};
/* clang-format on */

/* A model file; of a split model the first, with the size of all. */
struct file {
	char *path;
	char *name;
	uint64_t bytes;
	struct hearth_model_info info;
	bool read;
	char why[256];
};

struct files {
	struct file *v;
	size_t n;
	size_t max;
};

/* "-00001-of-00003" at the end of the @n bytes? */
static bool is_part(const char *s, size_t n, unsigned *part)
{
	unsigned of;
	int used = 0;

	if (n <= 15 ||
	    sscanf(s + n - 15, "-%5u-of-%5u%n", part, &of, &used) != 2)
		return false;
	return used == 15;
}

static void add(struct files *f, const char *dir, const char *name, size_t stem)
{
	struct str path = { 0 };
	struct stat st;
	struct file *e;

	str_addf(&path, "%s/%s", dir, name);
	if (stat(path.p, &st) < 0 || !S_ISREG(st.st_mode)) {
		str_free(&path);
		return;
	}
	if (f->n == f->max) {
		f->max = f->max * 2 + 32;
		f->v = xrealloc(f->v, f->max, sizeof(*f->v));
	}
	e = f->v + f->n++;
	memset(e, 0, sizeof(*e));
	e->path = path.p;
	e->name = strndup(name, stem);
	e->bytes = (uint64_t)st.st_size;
}

/* Sizes of the other parts of a split model count with the first. */
static void add_part(struct files *f, const char *dir, const char *name,
		     size_t stem)
{
	struct str path = { 0 };
	struct stat st;
	size_t i;

	str_addf(&path, "%s/%s", dir, name);
	for (i = 0; i < f->n && stat(path.p, &st) == 0; i++)
		if (strlen(f->v[i].name) == stem &&
		    !strncmp(f->v[i].name, name, stem) &&
		    !strncmp(f->v[i].path, dir, strlen(dir)))
			f->v[i].bytes += (uint64_t)st.st_size;
	str_free(&path);
}

static void scan(struct files *f, const char *dir)
{
	struct dirent **e;
	unsigned part;
	size_t n;
	int i, k;

	/* Sorted, so that first parts come first. */
	k = scandir(dir, &e, NULL, alphasort);
	if (k < 0) {
		if (errno != ENOENT)
			tool_note("%s: %s", dir, strerror(errno));
		return;
	}
	for (i = 0; i < k; i++) {
		n = strlen(e[i]->d_name);
		if (n > 5 && e[i]->d_name[0] != '.' &&
		    !strcasecmp(e[i]->d_name + n - 5, ".gguf")) {
			n -= 5;
			if (!is_part(e[i]->d_name, n, &part))
				add(f, dir, e[i]->d_name, n);
			else if (part == 1)
				add(f, dir, e[i]->d_name, n - 15);
			else
				add_part(f, dir, e[i]->d_name, n - 15);
		}
		free(e[i]);
	}
	free(e);
}

static void look(struct file *f)
{
	struct hearth_model *m;

	f->info.size = sizeof(f->info);
	if (hearth_model_open_file(&m, f->path, f->why, sizeof(f->why)) < 0)
		return;
	f->read = hearth_model_info(m, &f->info) >= 0;
	hearth_model_close(&m);
}

static void print_json(const struct files *f)
{
	const struct file *e;
	json_t *list = json_array(), *o;
	size_t i;

	for (i = 0; i < f->n; i++) {
		e = f->v + i;
		o = json_pack("{s:s, s:s, s:I}", "name", e->name, "path",
			      e->path, "bytes", (json_int_t)e->bytes);
		if (e->read) {
			json_object_set_new(o, "arch",
					    json_string(e->info.arch));
			json_object_set_new(o, "quant",
					    json_string(e->info.quant));
			json_object_set_new(o, "n_ctx_train",
					    json_integer(e->info.n_ctx_train));
			json_object_set_new(
				o, "n_params",
				json_integer((json_int_t)e->info.n_params));
		} else if (*e->why) {
			json_object_set_new(o, "error", json_string(e->why));
		}
		json_array_append_new(list, o);
	}
	json_dumpf(list, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(list);
}

static void print_table(const struct files *f)
{
	static const char *const head[] = { "NAME", "SIZE",  "PARAMETERS",
					    "ARCH", "QUANT", "CONTEXT" };
	const struct file *e;
	struct table t;
	char a[32];
	size_t i;

	table_init(&t, head, N_ELEM(head), 1 << 1 | 1 << 2 | 1 << 5);
	for (i = 0; i < f->n; i++) {
		e = f->v + i;
		table_cell(&t, "%s", e->name);
		table_cell(&t, "%s", fmt_size(a, e->bytes));
		table_cell(&t, "%s",
			   e->read ? fmt_count(a, e->info.n_params) : "-");
		table_cell(&t, "%s", e->read ? e->info.arch : "-");
		table_cell(&t, "%s", e->read ? e->info.quant : "-");
		if (e->read)
			table_cell(&t, "%u", e->info.n_ctx_train);
		else
			table_cell(&t, "-");
	}
	table_print(&t, stdout);
	table_fini(&t);
	for (i = 0; i < f->n; i++)
		if (*f->v[i].why)
			tool_note("%s: %s", f->v[i].path, f->v[i].why);
}

int cmd_ls(const struct cmd *c, int argc, char **argv)
{
	char dirs[4096], *dir, *save = NULL;
	struct files f = { 0 };
	struct args a = { 0 };
	int n = opt_parse(c, &a, argc, argv);
	size_t i;

	if (n < 0)
		return EXIT_USAGE;
	if (n)
		return tool_usage(c, "takes no arguments");
	if (hearth_model_dirs(dirs, sizeof(dirs)) < 0) {
		tool_err("the list of model directories is too long");
		return EXIT_FAIL;
	}
	for (dir = strtok_r(dirs, ":", &save); dir;
	     dir = strtok_r(NULL, ":", &save))
		scan(&f, dir);
	for (i = 0; i < f.n && !a.quick && !a.quiet; i++)
		look(f.v + i);
	if (a.json) {
		print_json(&f);
	} else if (a.quiet) {
		for (i = 0; i < f.n; i++)
			puts(f.v[i].name);
	} else if (f.n) {
		print_table(&f);
	} else {
		hearth_model_dirs(dirs, sizeof(dirs));
		tool_note("there is no model file in %s; 'hearth pull' "
			  "fetches one",
			  dirs);
	}
	for (i = 0; i < f.n; i++) {
		free(f.v[i].path);
		free(f.v[i].name);
	}
	free(f.v);
	return EXIT_OK;
}
