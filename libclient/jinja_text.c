/* SPDX-License-Identifier: MIT */
/*
 * jinja_text.c - values as text, the way Python prints them, and as JSON.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

void j_add(struct jinja *j, struct j_buf *b, const char *s, size_t n)
{
	size_t cap;
	char *p;

	j_step(j, n / 16);
	if (b->n + n > UINT32_MAX / 2)
		j_limit(j, "a string of %zu bytes", b->n + n);
	if (b->cap - b->n < n) {
		cap = 2 * b->cap + n + 32;
		p = j_alloc(j, cap);
		if (b->n)
			memcpy(p, b->p, b->n);
		b->p = p;
		b->cap = cap;
	}
	if (n)
		memcpy(b->p + b->n, s, n);
	b->n += n;
}

void j_adds(struct jinja *j, struct j_buf *b, const char *s)
{
	j_add(j, b, s, strlen(s));
}

void j_addc(struct jinja *j, struct j_buf *b, uint32_t cp)
{
	uint8_t u[4];

	j_add(j, b, (const char *)u, utf8_put(u, cp));
}

struct j_val j_done(const struct j_buf *b)
{
	return j_strn(b->p ? b->p : "", b->n);
}

uint32_t j_chars(struct j_val s)
{
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	uint32_t cp, n = 0;

	while (p < e) {
		p += *p < 0x80 ? 1 : utf8_get(p, e, &cp);
		n++;
	}
	return n;
}

/* Byte offset of the @i-th character, the length past the last. */
size_t j_char_off(struct j_val s, uint64_t i)
{
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	uint32_t cp;

	while (i-- && p < e)
		p += *p < 0x80 ? 1 : utf8_get(p, e, &cp);
	return (size_t)(p - (const uint8_t *)s.s);
}

static bool strips(const uint8_t *p, unsigned n, struct j_val chars)
{
	const uint8_t *q, *e;
	uint32_t cp, c;
	unsigned k;

	utf8_get(p, p + n, &cp);
	if (chars.t != J_STR)
		return (uni_class(cp) & UC_WS) || (cp >= 0x1c && cp <= 0x1f);
	q = (const uint8_t *)chars.s;
	for (e = q + chars.n; q < e; q += k) {
		k = utf8_get(q, e, &c);
		if (k == n && !memcmp(p, q, n))
			return true;
	}
	return false;
}

/* @sides: 1 left, 2 right. @chars: a string, anything else is whitespace. */
struct j_val j_strip(struct j_val s, struct j_val chars, int sides)
{
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	uint32_t cp;
	unsigned n;
	int k;

	while ((sides & 1) && p < e) {
		n = utf8_get(p, e, &cp);
		if (!strips(p, n, chars))
			break;
		p += n;
	}
	while ((sides & 2) && p < e) {
		n = 1;
		for (k = 2; k <= 4 && e - p >= k && n == 1; k++)
			if (utf8_valid(e - k, e) == (unsigned)k)
				n = (unsigned)k;
		if (!strips(e - n, n, chars))
			break;
		e -= n;
	}
	s.s = (const char *)p;
	s.n = (uint32_t)(e - p);
	return s;
}

/* ------------------------------------------------------- Python's str() */

/* The shortest text that reads back as the same number. */
static void add_float(struct jinja *j, struct j_buf *b, double d)
{
	char s[40], *e;
	int prec, exp;

	if (isnan(d)) {
		j_adds(j, b, "nan");
		return;
	}
	if (isinf(d)) {
		j_adds(j, b, d > 0 ? "inf" : "-inf");
		return;
	}
	for (prec = 0; prec < 17; prec++) {
		snprintf(s, sizeof(s), "%.*e", prec, d);
		if (strtod(s, NULL) == d)
			break;
	}
	e = strchr(s, 'e');
	exp = e ? atoi(e + 1) : 0;
	if (exp >= -4 && exp < 16) {
		snprintf(s, sizeof(s), "%.*f", prec > exp ? prec - exp : 0, d);
		if (!strchr(s, '.'))
			strcat(s, ".0");
	}
	j_adds(j, b, s);
}

static void add_quoted(struct jinja *j, struct j_buf *b, struct j_val v)
{
	const uint8_t *p = (const uint8_t *)v.s, *e = p + v.n;
	char q = memchr(v.s, '\'', v.n) && !memchr(v.s, '"', v.n) ? '"' : '\'';
	char x[16];
	uint32_t cp;
	unsigned n;

	j_add(j, b, &q, 1);
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp == (uint32_t)q || cp == '\\') {
			j_add(j, b, "\\", 1);
			j_add(j, b, (const char *)p, 1);
		} else if (cp == '\n') {
			j_add(j, b, "\\n", 2);
		} else if (cp == '\r') {
			j_add(j, b, "\\r", 2);
		} else if (cp == '\t') {
			j_add(j, b, "\\t", 2);
		} else if (cp != ' ' && (uni_class(cp) & (UC_C | UC_WS))) {
			snprintf(x, sizeof(x),
				 cp < 0x100	? "\\x%02x"
				 : cp < 0x10000 ? "\\u%04x"
						: "\\U%08x",
				 cp);
			j_adds(j, b, x);
		} else {
			j_add(j, b, (const char *)p, n);
		}
	}
	j_add(j, b, &q, 1);
}

static void add_value(struct jinja *j, struct j_buf *b, struct j_val v,
		      bool repr)
{
	char s[80];
	uint32_t i;

	j_enter(j);
	switch (v.t) {
	case J_UNDEF:
		if (repr)
			j_adds(j, b, "Undefined");
		break;
	case J_NONE:
		j_adds(j, b, "None");
		break;
	case J_BOOL:
		j_adds(j, b, v.i ? "True" : "False");
		break;
	case J_INT:
		snprintf(s, sizeof(s), "%lld", (long long)v.i);
		j_adds(j, b, s);
		break;
	case J_FLOAT:
		add_float(j, b, v.d);
		break;
	case J_STR:
		if (repr)
			add_quoted(j, b, v);
		else
			j_add(j, b, v.s, v.n);
		break;
	case J_LIST:
		j_adds(j, b, v.f & JF_TUPLE ? "(" : "[");
		for (i = 0; i < v.l->n; i++) {
			if (i)
				j_adds(j, b, ", ");
			add_value(j, b, v.l->v[i], true);
		}
		if ((v.f & JF_TUPLE) && v.l->n == 1)
			j_adds(j, b, ",");
		j_adds(j, b, v.f & JF_TUPLE ? ")" : "]");
		break;
	case J_NS:
	case J_DICT:
		j_adds(j, b, v.t == J_NS ? "<Namespace {" : "{");
		for (i = 0; i < v.o->n; i++) {
			if (i)
				j_adds(j, b, ", ");
			add_value(j, b, v.o->e[i].k, true);
			j_adds(j, b, ": ");
			add_value(j, b, v.o->e[i].v, true);
		}
		j_adds(j, b, v.t == J_NS ? "}>" : "}");
		break;
	default:
		snprintf(s, sizeof(s), "<%s>", j_type_name(v));
		j_adds(j, b, s);
	}
	j_leave(j);
}

struct j_val j_str(struct jinja *j, struct j_val v)
{
	struct j_buf b = { 0 };

	if (v.t == J_STR)
		return v;
	add_value(j, &b, v, false);
	return j_done(&b);
}

struct j_val j_repr(struct jinja *j, struct j_val v)
{
	struct j_buf b = { 0 };

	add_value(j, &b, v, true);
	return j_done(&b);
}

/* ------------------------------------------------------------------- JSON */

struct json_how {
	struct j_buf b;
	struct j_val indent; /* a string, or none */
	const char *item;
	size_t item_n;
	const char *key;
	size_t key_n;
	bool sort;
	bool ascii;
};

static void json_string(struct jinja *j, struct json_how *h, struct j_val v)
{
	static const char esc[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	const uint8_t *p = (const uint8_t *)v.s, *e = p + v.n;
	char x[16];
	uint32_t cp;
	unsigned n, i;

	j_add(j, &h->b, "\"", 1);
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		for (i = 0; i < 14 && (uint8_t)esc[i] != cp; i += 2)
			;
		if (i < 14) {
			x[0] = '\\';
			x[1] = esc[i + 1];
			j_add(j, &h->b, x, 2);
		} else if (cp < 0x20 ||
			   (h->ascii && cp > 0x7e && cp < 0x10000)) {
			snprintf(x, sizeof(x), "\\u%04x", cp);
			j_adds(j, &h->b, x);
		} else if (h->ascii && cp >= 0x10000) {
			cp -= 0x10000;
			snprintf(x, sizeof(x), "\\u%04x\\u%04x",
				 0xd800 | (cp >> 10), 0xdc00 | (cp & 0x3ff));
			j_adds(j, &h->b, x);
		} else {
			j_add(j, &h->b, (const char *)p, n);
		}
	}
	j_add(j, &h->b, "\"", 1);
}

static void json_break(struct jinja *j, struct json_how *h, unsigned level)
{
	if (h->indent.t != J_STR)
		return;
	j_add(j, &h->b, "\n", 1);
	while (level--)
		j_add(j, &h->b, h->indent.s, h->indent.n);
}

static int by_key(struct jinja *j, struct j_val a, struct j_val b, void *arg)
{
	(void)arg;
	return j_order(j, a, b, "<");
}

static struct j_val key_text(struct jinja *j, struct j_val k)
{
	struct j_buf b = { 0 };

	switch (k.t) {
	case J_STR:
		return k;
	case J_NONE:
		return j_lit("null");
	case J_BOOL:
		return j_lit(k.i ? "true" : "false");
	case J_INT:
	case J_FLOAT:
		add_value(j, &b, k, false);
		return j_done(&b);
	default:
		j_fail(j, -EINVAL,
		       "keys must be str, int, float, bool or "
		       "None, not %s",
		       j_type_name(k));
	}
}

static void json_value(struct jinja *j, struct json_how *h, struct j_val v,
		       unsigned level);

static void json_dict(struct jinja *j, struct json_how *h, struct j_val v,
		      unsigned level)
{
	struct j_val keys = j_iter(j, v);
	uint32_t i;

	if (h->sort)
		j_sort(j, keys.l->v, keys.l->n, by_key, NULL);
	j_add(j, &h->b, "{", 1);
	for (i = 0; i < keys.l->n; i++) {
		if (i)
			j_add(j, &h->b, h->item, h->item_n);
		json_break(j, h, level + 1);
		json_string(j, h, key_text(j, keys.l->v[i]));
		j_add(j, &h->b, h->key, h->key_n);
		json_value(j, h, *j_find(j, v, keys.l->v[i]), level + 1);
	}
	if (i)
		json_break(j, h, level);
	j_add(j, &h->b, "}", 1);
}

static void json_list(struct jinja *j, struct json_how *h, struct j_val v,
		      unsigned level)
{
	uint32_t i;

	j_add(j, &h->b, "[", 1);
	for (i = 0; i < v.l->n; i++) {
		if (i)
			j_add(j, &h->b, h->item, h->item_n);
		json_break(j, h, level + 1);
		json_value(j, h, v.l->v[i], level + 1);
	}
	if (i)
		json_break(j, h, level);
	j_add(j, &h->b, "]", 1);
}

static void json_value(struct jinja *j, struct json_how *h, struct j_val v,
		       unsigned level)
{
	j_enter(j);
	switch (v.t) {
	case J_NONE:
		j_adds(j, &h->b, "null");
		break;
	case J_BOOL:
		j_adds(j, &h->b, v.i ? "true" : "false");
		break;
	case J_FLOAT:
		if (isnan(v.d))
			j_adds(j, &h->b, "NaN");
		else if (isinf(v.d))
			j_adds(j, &h->b, v.d > 0 ? "Infinity" : "-Infinity");
		else
			add_float(j, &h->b, v.d);
		break;
	case J_INT:
		add_value(j, &h->b, v, false);
		break;
	case J_STR:
		json_string(j, h, v);
		break;
	case J_LIST:
		json_list(j, h, v, level);
		break;
	case J_DICT:
		json_dict(j, h, v, level);
		break;
	default:
		j_fail(j, -EINVAL, "Object of type %s is not JSON serializable",
		       j_type_name(v));
	}
	j_leave(j);
}

/* @sep: a pair of strings, or none for Python's defaults. */
struct j_val j_json(struct jinja *j, struct j_val v, struct j_val indent,
		    bool sort, bool ascii, struct j_val sep)
{
	struct json_how h = { .indent = indent, .sort = sort, .ascii = ascii };

	h.item = indent.t == J_STR ? "," : ", ";
	h.key = ": ";
	h.item_n = strlen(h.item);
	h.key_n = 2;
	if (sep.t == J_LIST && sep.l->n == 2 && sep.l->v[0].t == J_STR &&
	    sep.l->v[1].t == J_STR) {
		h.item = sep.l->v[0].s;
		h.item_n = sep.l->v[0].n;
		h.key = sep.l->v[1].s;
		h.key_n = sep.l->v[1].n;
	}
	json_value(j, &h, v, 0);
	return j_done(&h.b);
}

struct j_val j_escape(struct jinja *j, struct j_val v)
{
	struct j_buf b = { 0 };
	struct j_val s;
	uint32_t i;

	if (v.t == J_STR && (v.f & JF_SAFE))
		return v;
	s = j_str(j, v);
	for (i = 0; i < s.n; i++) {
		switch (s.s[i]) {
		case '&':
			j_adds(j, &b, "&amp;");
			break;
		case '<':
			j_adds(j, &b, "&lt;");
			break;
		case '>':
			j_adds(j, &b, "&gt;");
			break;
		case '"':
			j_adds(j, &b, "&#34;");
			break;
		case '\'':
			j_adds(j, &b, "&#39;");
			break;
		default:
			j_add(j, &b, s.s + i, 1);
		}
	}
	s = j_done(&b);
	s.f |= JF_SAFE;
	return s;
}
