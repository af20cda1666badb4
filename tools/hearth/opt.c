/* SPDX-License-Identifier: MIT */
/*
 * opt.c - options of the verbs: one parser for all their tables.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hearth-tool.h"

int tool_usage(const struct cmd *c, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = xvasprintf(fmt, ap);
	va_end(ap);
	if (c)
		tool_err("%s: %s", c->name, p);
	else
		tool_err("%s", p);
	free(p);
	return EXIT_USAGE;
}

/* ------------------------------------------------------------- near names */

#define NEAR_LEN 63

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edits (insert, delete, replace, swap neighbours) from a to b, case aside;
 * what follows a boundary in b may be missing in a. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[3][NEAR_LEN + 1];
	size_t na = strnlen(a, NEAR_LEN), nb = strnlen(b, NEAR_LEN), i, j;
	unsigned *cur, *prev, *old, best;

	for (j = 0; j <= nb; j++)
		row[0][j] = (unsigned)j;
	memcpy(row[2], row[0], sizeof(row[2]));
	for (i = 1; i <= na; i++) {
		cur = row[i % 3];
		prev = row[(i + 2) % 3];
		old = row[(i + 1) % 3];
		cur[0] = (unsigned)i;
		for (j = 1; j <= nb; j++) {
			best = prev[j - 1] + !same(a[i - 1], b[j - 1]);
			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) &&
			    same(a[i - 2], b[j - 1]) && old[j - 2] + 1 < best)
				best = old[j - 2] + 1;
			cur[j] = best;
		}
	}
	best = row[na % 3][nb];
	for (j = 1; j < nb; j++)
		if (strchr("-._:", b[j]) && row[na % 3][j] < best)
			best = row[na % 3][j];
	return best;
}

void near_names(const char *name, const char *const *list, size_t n, char *buf,
		size_t max)
{
	size_t i, used = 0, len = strlen(name);
	unsigned limit = len <= 3 ? 1 : len <= 5 ? 2 : 3, want, d;
	int k;

	buf[0] = 0;
	for (want = 0; want <= limit; want++) {
		for (i = 0; i < n; i++) {
			d = distance(name, list[i]);
			/* The beginning of a name is near to it. */
			if (len >= 2 && !strncasecmp(list[i], name, len))
				d = 1;
			if (d != want)
				continue;
			k = snprintf(buf + used, max - used, "%s%s",
				     used ? ", " : "", list[i]);
			if (k < 0 || (size_t)k >= max - used) {
				buf[used] = 0;
				return;
			}
			used += (size_t)k;
		}
	}
}

/* ----------------------------------------------------------------- values */

static int set_number(const struct opt *o, void *at, const char *value,
		      char why[160])
{
	unsigned long long u = 0;
	double d;
	char *end;

	errno = 0;
	if (o->type == OPT_U64) {
		u = strtoull(value, &end, 10);
		d = (double)u;
		/* strtoull() takes "-1"; we do not. */
		if (*value < '0' || *value > '9')
			end = (char *)value;
	} else {
		d = strtod(value, &end);
	}
	if (end == value || *end) {
		snprintf(why, 160, "%s takes a number, not '%.60s'", o->name,
			 value);
		return -EINVAL;
	}
	if (errno == ERANGE || !isfinite(d) || d < o->min ||
	    (o->max > o->min && d > o->max)) {
		if (o->max > o->min)
			snprintf(why, 160,
				 "%s is %.40s; it can be %.15g to %.15g",
				 o->name, value, o->min, o->max);
		else
			snprintf(why, 160, "%s is %.40s; %.15g is the least",
				 o->name, value, o->min);
		return -ERANGE;
	}
	if (o->type == OPT_U64)
		*(uint64_t *)at = u;
	else
		*(float *)at = (float)d;
	return 0;
}

int opt_set(const struct opt *o, void *args, const char *value, char why[160])
{
	void *at = (char *)args + o->off;
	struct strs *list;

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)at = strcmp(value, "off") && strcmp(value, "0") &&
			      strcmp(value, "false");
		return 0;
	case OPT_U64:
	case OPT_F32:
		return set_number(o, at, value, why);
	case OPT_STR:
		*(const char **)at = value;
		return 0;
	case OPT_STRS:
		list = at;
		if (list->n == STRS_MAX) {
			snprintf(why, 160, "%s can be given %d times", o->name,
				 STRS_MAX);
			return -E2BIG;
		}
		list->v[list->n++] = value;
		return 0;
	case OPT_END:
		break;
	}
	return -EINVAL;
}

void opt_show(const struct opt *o, const void *args, char *buf, size_t n)
{
	const void *at = (const char *)args + o->off;
	const struct strs *list = at;
	const char *s;
	size_t i, used = 0;
	int k;

	buf[0] = 0;
	switch (o->type) {
	case OPT_FLAG:
		snprintf(buf, n, "%s", *(const bool *)at ? "on" : "off");
		break;
	case OPT_U64:
		snprintf(buf, n, "%llu",
			 (unsigned long long)*(const uint64_t *)at);
		break;
	case OPT_F32:
		snprintf(buf, n, "%g", (double)*(const float *)at);
		break;
	case OPT_STR:
		s = *(const char *const *)at;
		snprintf(buf, n, "%s", s ? s : "");
		break;
	case OPT_STRS:
		for (i = 0; i < list->n && used < n; i++) {
			k = snprintf(buf + used, n - used, "%s\"%s\"",
				     i ? " " : "", list->v[i]);
			used += k > 0 ? (size_t)k : 0;
		}
		break;
	case OPT_END:
		break;
	}
}

const struct opt *opt_find(const struct opt *opts, const char *name)
{
	for (; opts->type != OPT_END; opts++)
		if (!strcmp(opts->name, name))
			return opts;
	return NULL;
}

/* ---------------------------------------------------------------- parsing */

static int unknown(const struct cmd *c, const char *name)
{
	const char *list[64];
	char buf[200];
	size_t n = 0;
	const struct opt *o;

	for (o = c->opts; o->type != OPT_END && n < N_ELEM(list); o++)
		list[n++] = o->name;
	near_names(name, list, n, buf, sizeof(buf));
	tool_usage(c,
		   "there is no option --%s%s%s (hearth help %s lists them; "
		   "-- ends options)",
		   name, *buf ? "; near to it: " : "", buf, c->name);
	return -1;
}

static int one(const struct cmd *c, void *args, const struct opt *o,
	       const char *value)
{
	char why[160] = "";

	if (opt_set(o, args, value, why) == 0)
		return 0;
	tool_usage(c, "--%s", why);
	return -1;
}

/* --name, --name=value or --name value; returns words used or -1 */
static int long_opt(const struct cmd *c, void *args, char **argv)
{
	char name[64];
	const char *s = argv[0] + 2, *eq = strchr(s, '=');
	size_t n = eq ? (size_t)(eq - s) : strlen(s);
	const struct opt *o;

	snprintf(name, sizeof(name), "%.*s", (int)(n < 63 ? n : 63), s);
	o = opt_find(c->opts, name);
	if (!o)
		return unknown(c, name);
	if (!o->arg) {
		if (eq) {
			tool_usage(c, "--%s takes no value", name);
			return -1;
		}
		return one(c, args, o, "on") ? -1 : 1;
	}
	if (eq)
		return one(c, args, o, eq + 1) ? -1 : 1;
	if (!argv[1]) {
		tool_usage(c, "--%s needs a value: %s", name, o->arg);
		return -1;
	}
	return one(c, args, o, argv[1]) ? -1 : 2;
}

/* -x, -xvalue, -x value, -xyz; returns words used or -1 */
static int short_opts(const struct cmd *c, void *args, char **argv)
{
	const char *s;
	const struct opt *o;

	for (s = argv[0] + 1; *s; s++) {
		for (o = c->opts; o->type != OPT_END && o->c != *s; o++)
			;
		if (o->type == OPT_END) {
			tool_usage(c,
				   "there is no option -%c (hearth help %s "
				   "lists them; -- ends options)",
				   *s, c->name);
			return -1;
		}
		if (!o->arg) {
			if (one(c, args, o, "on"))
				return -1;
			continue;
		}
		if (s[1])
			return one(c, args, o, s + 1) ? -1 : 1;
		if (!argv[1]) {
			tool_usage(c, "-%c needs a value: %s", *s, o->arg);
			return -1;
		}
		return one(c, args, o, argv[1]) ? -1 : 2;
	}
	return 1;
}

int opt_parse(const struct cmd *c, void *args, int argc, char **argv)
{
	int i = 0, n = 0, used;

	while (i < argc) {
		if (argv[i][0] != '-' || !argv[i][1]) {
			argv[n++] = argv[i++];
			continue;
		}
		if (!strcmp(argv[i], "--")) {
			for (i++; i < argc; i++)
				argv[n++] = argv[i];
			break;
		}
		used = argv[i][1] == '-' ? long_opt(c, args, argv + i)
					 : short_opts(c, args, argv + i);
		if (used < 0)
			return -1;
		i += used;
	}
	argv[n] = NULL;
	return n;
}

void opt_help(const struct cmd *c, FILE *f)
{
	const struct opt *o;
	char left[64];
	bool any = c->opts->type != OPT_END;

	fprintf(f, "usage: hearth %s%s%s%s\n\n%s\n", c->name,
		any ? " [options]" : "", *c->args ? " " : "", c->args,
		c->summary);
	if (any)
		fputs("\noptions:\n", f);
	for (o = c->opts; o->type != OPT_END; o++) {
		snprintf(left, sizeof(left), "%c%c%s --%s%s%s",
			 o->c ? '-' : ' ', o->c ? o->c : ' ', o->c ? "," : " ",
			 o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		fprintf(f, "  %-28s %s\n", left, o->help);
	}
}
