/* SPDX-License-Identifier: MIT */
/* find.c - model files: where they are, which one a name means. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "conn.h"

#define SYSTEM_MODELS "/var/lib/hearth/models"
#define SUFFIX	      ".gguf"
#define PART_LEN      15 /* "-00001-of-00003" */
#define MAX_FILES     4096
#define MAX_NAME      128
#define N_NEAREST     5

/* A file in a model directory. */
struct cand {
	char *name; /* as it would be listed */
	char *path;
	unsigned int far; /* edit distance to what was asked for */
};

struct cands {
	struct cand *v;
	size_t n;
	size_t max;
};

int hearth_model_dirs(char *buf, size_t n)
{
	const char *env = getenv("HEARTH_MODELS");
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	int k;

	if (env && *env)
		k = snprintf(buf, n, "%s", env);
	else if (data && *data == '/')
		k = snprintf(buf, n, "%s/hearth/models:%s", data,
			     SYSTEM_MODELS);
	else if (home && *home == '/')
		k = snprintf(buf, n, "%s/.local/share/hearth/models:%s", home,
			     SYSTEM_MODELS);
	else
		k = snprintf(buf, n, "%s", SYSTEM_MODELS);
	return k < 0 || (size_t)k >= n ? -ENOSPC : k;
}

/* ------------------------------------------------------------ split models */

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s);
	size_t k = strlen(suffix);

	return n >= k && !strcasecmp(s + n - k, suffix);
}

static bool digits(const char *p, unsigned int *v)
{
	int i;

	*v = 0;
	for (i = 0; i < 5; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		*v = *v * 10 + (unsigned int)(p[i] - '0');
	}
	return true;
}

/* Does @stem (n bytes, no ".gguf") end in "-00001-of-00003"? */
static bool part_of(const char *stem, size_t n, unsigned int *i,
		    unsigned int *total)
{
	const char *p = stem + n - PART_LEN;

	return n > PART_LEN && p[0] == '-' && digits(p + 1, i) &&
	       !strncmp(p + 6, "-of-", 4) && digits(p + 10, total) && *total &&
	       *i && *i <= *total;
}

static size_t stem_len(const char *path)
{
	size_t n = strlen(path);

	return has_suffix(path, SUFFIX) ? n - strlen(SUFFIX) : n;
}

int find_parts(const char *path, char (*parts)[FIND_PATH], unsigned int max,
	       char *why, size_t why_n)
{
	size_t stem = stem_len(path);
	unsigned int total;
	unsigned int i;
	int k;

	if (strlen(path) >= FIND_PATH || !max) {
		snprintf(why, why_n, "the path has %zu bytes, at most %d",
			 strlen(path), FIND_PATH - 1);
		return -ENAMETOOLONG;
	}
	if (!has_suffix(path, SUFFIX) || !part_of(path, stem, &i, &total)) {
		strcpy(parts[0], path);
		return 1;
	}
	if (total > max) {
		snprintf(why, why_n, "%s: split into %u files, at most %u",
			 path, total, max);
		return -E2BIG;
	}
	for (i = 1; i <= total; i++) {
		k = snprintf(parts[i - 1], FIND_PATH, "%.*s-%05u-of-%05u%s",
			     (int)(stem - PART_LEN), path, i, total,
			     path + stem);
		if (k < 0 || k >= FIND_PATH)
			return -ENAMETOOLONG;
	}
	return (int)total;
}

void find_name(const char *path, char *name, size_t n)
{
	const char *base = strrchr(path, '/');
	unsigned int total;
	unsigned int i;
	size_t k;

	base = base ? base + 1 : path;
	k = stem_len(base);
	if (part_of(base, k, &i, &total))
		k -= PART_LEN;
	if (k > n - 1)
		k = n - 1;
	memcpy(name, base, k);
	name[k] = 0;
}

/* -------------------------------------------------------------- candidates */

static void cands_free(struct cands *c)
{
	size_t i;

	for (i = 0; i < c->n; i++) {
		free(c->v[i].name);
		free(c->v[i].path);
	}
	free(c->v);
}

static int cands_add(struct cands *c, const char *dir, const char *file)
{
	char name[MAX_NAME];
	struct cand *v;
	size_t max;
	char *path;

	if (c->n == MAX_FILES)
		return 0;
	if (c->n == c->max) {
		max = c->max ? c->max * 2 : 64;
		v = realloc(c->v, max * sizeof(*v));
		if (!v)
			return -ENOMEM;
		c->v = v;
		c->max = max;
	}
	find_name(file, name, sizeof(name));
	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return -ENOMEM;
	c->v[c->n].name = strdup(name);
	c->v[c->n].path = path;
	c->v[c->n].far = 0;
	if (!c->v[c->n].name) {
		free(path);
		return -ENOMEM;
	}
	c->n++;
	return 0;
}

/* Model files in one directory; of a split model only the first part. */
static int scan_dir(struct cands *c, const char *dir)
{
	struct dirent *e;
	unsigned int total;
	unsigned int i;
	int err = 0;
	DIR *d;

	d = opendir(dir);
	if (!d)
		return 0;
	while (!err && (e = readdir(d))) {
		if (e->d_name[0] == '.' || !has_suffix(e->d_name, SUFFIX))
			continue;
		if (part_of(e->d_name, stem_len(e->d_name), &i, &total) &&
		    i != 1)
			continue;
		err = cands_add(c, dir, e->d_name);
	}
	closedir(d);
	return err;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct cand *)a)->name,
		      ((const struct cand *)b)->name);
}

/* Earlier directories come first; inside one the order is by name. */
static int scan(struct cands *c)
{
	char dirs[FIND_PATH];
	char *save = NULL;
	size_t start;
	char *dir;
	int err;

	err = hearth_model_dirs(dirs, sizeof(dirs));
	for (dir = strtok_r(dirs, ":", &save); err >= 0 && dir;
	     dir = strtok_r(NULL, ":", &save)) {
		start = c->n;
		err = scan_dir(c, dir);
		if (c->n > start)
			qsort(c->v + start, c->n - start, sizeof(*c->v),
			      by_name);
	}
	return err < 0 ? err : 0;
}

/* --------------------------------------------------------------- matching */

/* Same text, or longer only from a boundary on ("-Q4_K_M", ".Q8_0"). */
static bool begins(const char *name, const char *want, size_t n)
{
	return !strncasecmp(name, want, n) &&
	       (!name[n] || strchr("-._:", name[n]));
}

/* Exactly this name in any case; else the only one that continues it. */
static const struct cand *match(const struct cands *c, const char *want)
{
	const struct cand *only = NULL;
	size_t n = stem_len(want);
	size_t i;

	for (i = 0; i < c->n; i++) {
		if (strlen(c->v[i].name) == n &&
		    !strncasecmp(c->v[i].name, want, n))
			return &c->v[i];
	}
	for (i = 0; i < c->n; i++) {
		if (!begins(c->v[i].name, want, n))
			continue;
		if (only && strcasecmp(only->name, c->v[i].name))
			return NULL;
		if (!only)
			only = &c->v[i];
	}
	return only;
}

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int m = a < b ? a : b;

	return m < c ? m : c;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Insertions, deletions and changes between two names, case aside; what
 * follows a boundary in @b may be missing in @a. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[MAX_NAME + 1];
	size_t na = strnlen(a, MAX_NAME);
	size_t nb = strnlen(b, MAX_NAME);
	unsigned int diag;
	unsigned int best;
	unsigned int up;
	size_t i;
	size_t j;

	for (j = 0; j <= nb; j++)
		row[j] = (unsigned int)j;
	for (i = 1; i <= na; i++) {
		diag = row[0];
		row[0] = (unsigned int)i;
		for (j = 1; j <= nb; j++) {
			up = row[j];
			row[j] = min3(row[j] + 1, row[j - 1] + 1,
				      diag + (lower(a[i - 1]) !=
					      lower(b[j - 1])));
			diag = up;
		}
	}
	best = row[nb];
	for (j = 1; j < nb; j++)
		if (strchr("-._:", b[j]) && row[j] < best)
			best = row[j];
	return best;
}

static int by_far(const void *a, const void *b)
{
	const struct cand *x = a;
	const struct cand *y = b;

	if (x->far != y->far)
		return x->far < y->far ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* The nearest names, comma separated; none that have little in common. */
static void nearest(struct cands *c, const char *want, char *buf, size_t n)
{
	char name[MAX_NAME];
	size_t len;
	size_t used = 0;
	size_t shown = 0;
	size_t i;
	int k;

	find_name(want, name, sizeof(name));
	len = strlen(name);
	for (i = 0; i < c->n; i++) {
		c->v[i].far = distance(name, c->v[i].name);
		/* what contains the name is near, however long it is */
		if (strcasestr(c->v[i].name, name))
			c->v[i].far = 1;
	}
	if (c->n)
		qsort(c->v, c->n, sizeof(*c->v), by_far);
	for (i = 0; i < c->n && shown < N_NEAREST; i++) {
		if (c->v[i].far > len / 2 + 1)
			break;
		if (i && !strcmp(c->v[i].name, c->v[i - 1].name))
			continue;
		k = snprintf(buf + used, n - used, "%s%s", used ? ", " : "",
			     c->v[i].name);
		if (k < 0 || (size_t)k >= n - used) {
			buf[used] = 0;
			break;
		}
		used += (size_t)k;
		shown++;
	}
}

static int give(char *buf, size_t n, const char *path)
{
	int k = snprintf(buf, n, "%s", path);

	return k < 0 || (size_t)k >= n ? -ENAMETOOLONG : 0;
}

static bool exists(const char *path)
{
	struct stat st;

	return !stat(path, &st) || errno == EACCES;
}

/* A path as it was typed, or with the suffix. */
static int try_path(const char *path, char *buf, size_t n)
{
	char with[FIND_PATH];
	int k;

	if (exists(path))
		return give(buf, n, path);
	k = snprintf(with, sizeof(with), "%s%s", path, SUFFIX);
	if (k > 0 && k < (int)sizeof(with) && exists(with))
		return give(buf, n, with);
	return -ENOENT;
}

/* "sub/name" may also be below a model directory. */
static int try_dirs(const char *name, char *buf, size_t n)
{
	char dirs[FIND_PATH];
	char path[FIND_PATH];
	char *save = NULL;
	char *dir;
	int err;
	int k;

	err = hearth_model_dirs(dirs, sizeof(dirs));
	if (err < 0)
		return err;
	for (dir = strtok_r(dirs, ":", &save); dir;
	     dir = strtok_r(NULL, ":", &save)) {
		k = snprintf(path, sizeof(path), "%s/%s", dir, name);
		if (k < 0 || k >= (int)sizeof(path))
			continue;
		err = try_path(path, buf, n);
		if (err != -ENOENT)
			return err;
	}
	return -ENOENT;
}

int hearth_model_find(const char *name, char *buf, size_t n)
{
	struct cands c = { 0 };
	const struct cand *hit;
	int err;

	if (!n)
		return -EINVAL;
	buf[0] = 0;
	if (!*name)
		return -ENOENT;
	if (strchr(name, '/')) {
		err = try_path(name, buf, n);
		if (err != -ENOENT || name[0] == '/')
			return err;
		return try_dirs(name, buf, n);
	}
	if (has_suffix(name, SUFFIX) && exists(name))
		return give(buf, n, name);
	if (strcmp(name, ".") && strcmp(name, "..")) {
		err = try_dirs(name, buf, n);
		if (err != -ENOENT)
			return err;
	}
	err = scan(&c);
	if (err)
		goto out;
	hit = match(&c, name);
	if (hit) {
		err = give(buf, n, hit->path);
	} else {
		err = -ENOENT;
		nearest(&c, name, buf, n);
	}
out:
	cands_free(&c);
	return err;
}
