/* SPDX-License-Identifier: MIT */
/*
 * fmt.c - sizes, durations, tables and growing strings.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hearth-tool.h"

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char *scaled(char buf[32], double v, const char *unit, bool space)
{
	static const char *const prefix[] = { "", "k", "M", "G", "T", "P" };
	size_t i = 0;

	while (v >= 999.5 && i + 1 < N_ELEM(prefix)) {
		v /= 1000;
		i++;
	}
	snprintf(buf, 32, "%.*f%s%s%s", i == 0 || v >= 99.95 ? 0 : 1, v,
		 space && (*unit || *prefix[i]) ? " " : "", prefix[i], unit);
	return buf;
}

char *fmt_size(char buf[32], uint64_t n)
{
	return scaled(buf, (double)n, "B", true);
}

char *fmt_count(char buf[32], uint64_t n)
{
	return scaled(buf, (double)n, "", true);
}

char *fmt_rate(char buf[32], double v)
{
	int digits = 2;

	if (v >= 99.95)
		digits = 0;
	else if (v >= 9.995)
		digits = 1;
	snprintf(buf, 32, "%.*f", digits, v);
	return buf;
}

char *fmt_dur(char buf[32], uint64_t ns)
{
	double s = (double)ns / 1e9;

	if (s >= 3600)
		snprintf(buf, 32, "%d h %02d min", (int)(s / 3600),
			 (int)(s / 60) % 60);
	else if (s >= 60)
		snprintf(buf, 32, "%d min %02d s", (int)(s / 60), (int)s % 60);
	else if (s >= 1)
		snprintf(buf, 32, "%.2f s", s);
	else if (s >= 1e-3)
		snprintf(buf, 32, "%.1f ms", s * 1e3);
	else
		snprintf(buf, 32, "%.1f us", s * 1e6);
	return buf;
}

char *fmt_hex(char buf[65], const uint8_t digest[32])
{
	size_t i;

	for (i = 0; i < 32; i++)
		snprintf(buf + 2 * i, 3, "%02x", digest[i]);
	return buf;
}

/* ------------------------------------------------------------------ memory */

void *xrealloc(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		bytes = SIZE_MAX;
	p = realloc(p, bytes ? bytes : 1);
	if (!p) {
		tool_err("out of memory (%zu bytes)", bytes);
		exit(EXIT_FAIL);
	}
	return p;
}

char *xstrdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(xrealloc(NULL, n, 1), s, n);
}

char *xvasprintf(const char *fmt, va_list ap)
{
	char *p;

	if (vasprintf(&p, fmt, ap) >= 0)
		return p;
	tool_err("out of memory");
	exit(EXIT_FAIL);
}

void str_add(struct str *s, const char *p, size_t n)
{
	if (s->n + n + 1 > s->max) {
		s->max = (s->n + n + 1) * 2;
		s->p = xrealloc(s->p, s->max, 1);
	}
	if (n)
		memcpy(s->p + s->n, p, n);
	s->n += n;
	s->p[s->n] = 0;
}

void str_addf(struct str *s, const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = xvasprintf(fmt, ap);
	va_end(ap);
	str_add(s, p, strlen(p));
	free(p);
}

void str_free(struct str *s)
{
	free(s->p);
	memset(s, 0, sizeof(*s));
}

/* ------------------------------------------------------------------ tables */

void table_init(struct table *t, const char *const *head, size_t n,
		unsigned right)
{
	size_t i;

	memset(t, 0, sizeof(*t));
	t->n_cols = n;
	t->right = right;
	for (i = 0; i < n; i++)
		t->head[i] = head[i];
}

void table_cell(struct table *t, const char *fmt, ...)
{
	va_list ap;

	if (t->n_cells == t->max_cells) {
		t->max_cells = t->max_cells * 2 + 64;
		t->cell = xrealloc(t->cell, t->max_cells, sizeof(*t->cell));
	}
	va_start(ap, fmt);
	t->cell[t->n_cells++] = xvasprintf(fmt, ap);
	va_end(ap);
}

/* Columns a text takes: code points, which is right for all our text. */
static int width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_cell(const struct table *t, FILE *f, size_t col,
		       const char *s, int w)
{
	int pad = w - width(s);

	if (t->right >> col & 1)
		fprintf(f, "%*s%s", pad, "", s);
	else if (col + 1 < t->n_cols)
		fprintf(f, "%s%*s", s, pad, "");
	else
		fputs(s, f);
	fputs(col + 1 < t->n_cols ? "  " : "\n", f);
}

void table_print(struct table *t, FILE *f)
{
	int w[TABLE_COLS];
	size_t i, col;

	for (col = 0; col < t->n_cols; col++)
		w[col] = width(t->head[col]);
	for (i = 0; i < t->n_cells; i++) {
		col = i % t->n_cols;
		if (width(t->cell[i]) > w[col])
			w[col] = width(t->cell[i]);
	}
	fputs(term_style(f, STYLE_BOLD), f);
	for (col = 0; col < t->n_cols; col++) {
		/* The style must end before the line does. */
		if (col + 1 == t->n_cols && !(t->right >> col & 1)) {
			fprintf(f, "%s%s\n", t->head[col],
				term_style(f, STYLE_NONE));
			break;
		}
		print_cell(t, f, col, t->head[col], w[col]);
		if (col + 1 == t->n_cols)
			fputs(term_style(f, STYLE_NONE), f);
	}
	for (i = 0; i < t->n_cells; i++)
		print_cell(t, f, i % t->n_cols, t->cell[i], w[i % t->n_cols]);
}

void table_fini(struct table *t)
{
	size_t i;

	for (i = 0; i < t->n_cells; i++)
		free(t->cell[i]);
	free(t->cell);
	memset(t, 0, sizeof(*t));
}
