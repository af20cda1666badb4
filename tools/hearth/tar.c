/* SPDX-License-Identifier: MIT */
/*
 * tar.c - a streaming reader of .tar.gz archives on zlib.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "tar.h"

#define BLOCK	    512u
#define NAME	    4096u
#define EXTRA_MAX   (1u << 20) /* bytes of a pax or long-name record */
#define MEMBERS_MAX 1000000u

struct tar {
	gzFile gz;
	char name[NAME];
	uint64_t size;
	uint64_t left;	    /* bytes of the current member, with its padding */
	char *long_name;    /* for the next member, from a record before it */
	uint64_t long_size; /* UINT64_MAX when not given */
	unsigned n;
	char why[200];
};

int tar_open(struct tar **out, int fd)
{
	struct tar *t = calloc(1, sizeof(*t));
	int copy = dup(fd), rc;

	*out = NULL;
	rc = copy < 0 ? -errno : -ENOMEM;
	if (!t || copy < 0)
		goto fail;
	t->long_size = UINT64_MAX;
	t->gz = gzdopen(copy, "r");
	if (!t->gz)
		goto fail;
	gzbuffer(t->gz, 131072);
	*out = t;
	return 0;
fail:
	if (copy >= 0)
		close(copy);
	free(t);
	return rc;
}

void tar_close(struct tar **t)
{
	if (!*t)
		return;
	gzclose((*t)->gz);
	free((*t)->long_name);
	free(*t);
	*t = NULL;
}

const char *tar_name(const struct tar *t)
{
	return t->name;
}

uint64_t tar_size(const struct tar *t)
{
	return t->size;
}

const char *tar_why(const struct tar *t)
{
	return t->why;
}

static int fail(struct tar *t, const char *what)
{
	snprintf(t->why, sizeof(t->why), "archive: member %u: %s", t->n, what);
	return -EINVAL;
}

/* Read exactly @n bytes. */
static int get(struct tar *t, void *p, size_t n)
{
	int k = gzread(t->gz, p, (unsigned)n);

	if (k == (int)n)
		return 0;
	return fail(t, k < 0 ? "bad compressed data" : "cut off");
}

/* Octal, or binary when the first bit is set. */
static int number(const uint8_t *p, size_t n, uint64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	if (*p & 0x80) {
		for (i = 0; i < n; i++) {
			if (v >> 55)
				return -EINVAL;
			v = v << 8 | (i ? p[i] : p[i] & 0x7fu);
		}
		*out = v;
		return 0;
	}
	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v * 8 + (uint64_t)(p[i] - '0');
	*out = v;
	return i < n && p[i] && p[i] != ' ' ? -EINVAL : 0;
}

static bool checksum_ok(const uint8_t *h)
{
	uint64_t want, sum = 0;
	size_t i;

	for (i = 0; i < BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : h[i];
	return number(h + 148, 8, &want) == 0 && want == sum;
}

static int skip(struct tar *t)
{
	uint8_t buf[16384];
	size_t n;
	int rc = 0;

	while (rc == 0 && t->left) {
		n = t->left < sizeof(buf) ? t->left : sizeof(buf);
		rc = get(t, buf, n);
		t->left -= n;
	}
	return rc;
}

/* pax: "LEN key=value\n" records */
static int read_pax(struct tar *t, char *p, size_t n)
{
	char *end = p + n, *key, *val, *next;
	unsigned long len;

	while (p < end) {
		len = strtoul(p, &key, 10);
		if (key == p || *key != ' ' || len < 5 ||
		    len > (size_t)(end - p) || p[len - 1] != '\n')
			return fail(t, "bad pax record");
		next = p + len;
		next[-1] = 0;
		key++;
		val = key < next ? strchr(key, '=') : NULL;
		if (!val)
			return fail(t, "bad pax record");
		*val++ = 0;
		if (!strcmp(key, "path")) {
			free(t->long_name);
			t->long_name = strdup(val);
		} else if (!strcmp(key, "size")) {
			t->long_size = strtoull(val, NULL, 10);
		}
		p = next;
	}
	return 0;
}

/* A record that belongs to the member after it. */
static int read_record(struct tar *t, char type)
{
	char *p;
	int rc;

	if (t->size > EXTRA_MAX)
		return fail(t, "record too long");
	p = calloc(1, t->size + 1);
	if (!p)
		return -ENOMEM;
	rc = get(t, p, t->size);
	t->left -= rc ? 0 : t->size;
	if (rc == 0 && type == 'L') {
		free(t->long_name);
		t->long_name = p;
		return 0;
	}
	if (rc == 0)
		rc = read_pax(t, p, t->size);
	free(p);
	return rc;
}

static int read_head(struct tar *t, uint8_t h[BLOCK])
{
	size_t n = strnlen((char *)h, 100), pre = strnlen((char *)h + 345, 155);

	if (!checksum_ok(h))
		return fail(t, "bad checksum");
	if (number(h + 124, 12, &t->size))
		return fail(t, "bad size");
	if (memcmp(h + 257, "ustar", 6) || !pre)
		pre = 0;
	snprintf(t->name, sizeof(t->name), "%.*s%s%.*s", (int)pre, h + 345,
		 pre ? "/" : "", (int)n, h);
	/* These describe themselves only. */
	if (h[156] == 'x' || h[156] == 'L' || h[156] == 'g' || h[156] == 'K')
		goto sized;
	if (t->long_name)
		snprintf(t->name, sizeof(t->name), "%s", t->long_name);
	if (t->long_size != UINT64_MAX)
		t->size = t->long_size;
	free(t->long_name);
	t->long_name = NULL;
	t->long_size = UINT64_MAX;
sized:
	if (t->size > (uint64_t)INT64_MAX - BLOCK)
		return fail(t, "bad size");
	t->left = (t->size + BLOCK - 1) / BLOCK * BLOCK;
	return 0;
}

int tar_next(struct tar *t)
{
	uint8_t h[BLOCK];
	int rc, k;

	for (;;) {
		rc = skip(t);
		if (rc)
			return rc;
		k = gzread(t->gz, h, BLOCK);
		if (k == 0)
			return -ENOENT;
		if (k != (int)BLOCK)
			return fail(t,
				    k < 0 ? "bad compressed data" : "cut off");
		if (!h[0] && !h[156])
			return -ENOENT;
		if (++t->n > MEMBERS_MAX)
			return fail(t, "too many members");
		rc = read_head(t, h);
		if (rc)
			return rc;
		if (h[156] == '0' || !h[156])
			return 0;
		if (h[156] == 'x' || h[156] == 'L') {
			rc = read_record(t, (char)h[156]);
			if (rc)
				return rc;
		}
	}
}

int tar_extract(struct tar *t, int (*sink)(void *arg, const void *p, size_t n),
		void *arg)
{
	uint8_t buf[65536];
	uint64_t left = t->size;
	size_t n;
	int rc;

	while (left) {
		n = left < sizeof(buf) ? left : sizeof(buf);
		rc = get(t, buf, n);
		if (rc == 0)
			rc = sink(arg, buf, n);
		if (rc)
			return rc;
		left -= n;
		t->left -= n;
	}
	return 0;
}
