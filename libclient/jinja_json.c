/* SPDX-License-Identifier: MIT */
/*
 * jinja_json.c - reads JSON into values, with an explicit stack.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

struct reader {
	struct jinja *j;
	const char *b;
	const char *p;
	const char *e;
};

static _Noreturn void bad(struct reader *r, const char *what)
{
	r->j->line = 0;
	j_fail(r->j, -EINVAL, "variables: byte %zu: %s", (size_t)(r->p - r->b),
	       what);
}

static void blanks(struct reader *r)
{
	while (r->p < r->e && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' ||
			       *r->p == '\r'))
		r->p++;
}

static unsigned hex4(struct reader *r)
{
	unsigned v = 0, i, c;

	if (r->e - r->p < 4)
		bad(r, "broken escape");
	for (i = 0; i < 4; i++) {
		c = (uint8_t)*r->p++;
		if (c >= '0' && c <= '9')
			c -= '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			c = (c | 0x20) - 'a' + 10;
		else
			bad(r, "broken escape");
		v = v << 4 | c;
	}
	return v;
}

static void escape(struct reader *r, struct j_buf *b)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *k;
	unsigned u, v;

	if (r->p == r->e)
		bad(r, "broken escape");
	k = *r->p ? strchr(from, *r->p) : NULL;
	if (k) {
		r->p++;
		j_add(r->j, b, to + (k - from), 1);
		return;
	}
	if (*r->p++ != 'u')
		bad(r, "unknown escape");
	u = hex4(r);
	if (u >= 0xd800 && u < 0xdc00 && r->e - r->p >= 6 && r->p[0] == '\\' &&
	    r->p[1] == 'u') {
		r->p += 2;
		v = hex4(r);
		if (v >= 0xdc00 && v < 0xe000) {
			j_addc(r->j, b,
			       0x10000 + ((u - 0xd800) << 10) + (v - 0xdc00));
			return;
		}
		j_addc(r->j, b, UNI_BAD);
		u = v;
	}
	/* half a pair is no character */
	j_addc(r->j, b, u >= 0xd800 && u < 0xe000 ? UNI_BAD : u);
}

static struct j_val string(struct reader *r)
{
	struct j_buf b = { 0 };
	const char *from;

	if (r->p == r->e || *r->p != '"')
		bad(r, "a string is missing");
	from = ++r->p;
	for (;;) {
		while (r->p < r->e && *r->p != '"' && *r->p != '\\' &&
		       (uint8_t)*r->p >= 0x20)
			r->p++;
		if (r->p == r->e)
			bad(r, "a string does not end");
		if (*r->p == '"' && !b.n)
			return j_strn(from, (size_t)(r->p++ - from));
		j_add(r->j, &b, from, (size_t)(r->p - from));
		if (*r->p == '"') {
			r->p++;
			return j_done(&b);
		}
		if (*r->p++ != '\\')
			bad(r, "a control character in a string");
		escape(r, &b);
		from = r->p;
		/* an empty escape cannot be: b.n tells that b is in use */
	}
}

static struct j_val number(struct reader *r)
{
	char s[64];
	size_t n = 0;
	bool real = false;
	long long i;
	double d;
	char *e;

	while (r->p + n < r->e && n < sizeof(s) - 1 &&
	       strchr("+-.0123456789eE", r->p[n]) && r->p[n]) {
		real |= strchr(".eE", r->p[n]) != NULL;
		s[n] = r->p[n];
		n++;
	}
	s[n] = 0;
	if (!real) {
		errno = 0;
		i = strtoll(s, &e, 10);
		real = errno == ERANGE;
		if (!real && (*e || !n || s[0] == '+'))
			bad(r, "no value");
		if (!real) {
			r->p += n;
			return j_int(i);
		}
	}
	d = strtod(s, &e);
	if (*e || s[0] == '+' || s[0] == '.')
		bad(r, "broken number");
	r->p += n;
	return j_float(d);
}

static bool word(struct reader *r, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(r->e - r->p) < n || memcmp(r->p, w, n))
		return false;
	r->p += n;
	return true;
}

static struct j_val scalar(struct reader *r)
{
	if (*r->p == '"')
		return string(r);
	if (word(r, "true"))
		return j_bool(true);
	if (word(r, "false"))
		return j_bool(false);
	if (word(r, "null"))
		return j_none;
	return number(r);
}

struct level {
	struct j_val v;
	struct j_val key;
};

/* Put a value where it belongs; true when the outermost one is whole. */
static bool store(struct reader *r, struct level *st, int depth, struct j_val v)
{
	if (depth < 0)
		return true;
	if (st[depth].v.t == J_LIST)
		j_push(r->j, st[depth].v, v);
	else
		j_put(r->j, st[depth].v, st[depth].key, v);
	return false;
}

static void key(struct reader *r, struct level *l)
{
	blanks(r);
	l->key = string(r);
	blanks(r);
	if (r->p == r->e || *r->p != ':')
		bad(r, "':' is missing");
	r->p++;
}

struct j_val j_json_read(struct jinja *j, const char *p, size_t n)
{
	struct reader r = { .j = j, .b = p, .p = p, .e = p + n };
	struct level st[JINJA_DEPTH_JSON];
	struct j_val v;
	int depth = -1;
	char c;

	for (;;) {
		blanks(&r);
		if (r.p == r.e)
			bad(&r, "ends too early");
		j_step(j, 1);
		c = *r.p;
		if (c == '{' || c == '[') {
			if (++depth == JINJA_DEPTH_JSON)
				bad(&r, "nested too deep");
			r.p++;
			st[depth].v = c == '[' ? j_list(j, 0) : j_dict(j);
			blanks(&r);
			if (r.p < r.e && *r.p == (c == '[' ? ']' : '}')) {
				r.p++;
				v = st[depth--].v;
			} else {
				if (c == '{')
					key(&r, &st[depth]);
				continue;
			}
		} else {
			v = scalar(&r);
		}
		/* a value is whole, and maybe what it is in as well */
		while (!store(&r, st, depth, v)) {
			blanks(&r);
			if (r.p == r.e)
				bad(&r, "ends too early");
			c = *r.p++;
			if (c == ',') {
				if (st[depth].v.t == J_DICT)
					key(&r, &st[depth]);
				break;
			}
			if (c != (st[depth].v.t == J_LIST ? ']' : '}'))
				bad(&r, "',' is missing");
			v = st[depth--].v;
		}
		if (depth < 0)
			break;
	}
	blanks(&r);
	if (r.p != r.e)
		bad(&r, "text after the value");
	return v;
}
