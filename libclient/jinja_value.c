/* SPDX-License-Identifier: MIT */
/*
 * jinja_value.c - memory and limits of the interpreter, values and what they
 * are equal to.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "jinja_int.h"
#include "unicode.h"

#define CHUNK_MIN 4096u
#define CHUNK_MAX (256u << 10)

/* Entries of a dict that are searched one by one. */
#define DICT_LINEAR 8

const struct j_val j_none = { .t = J_NONE };

/* ------------------------------------------------------ errors and limits */

static _Noreturn void stop(struct jinja *j, int err, const char *fmt,
			   va_list ap)
{
	size_t n = 0;

	if (j->why_n) {
		j->why[0] = 0;
		if (j->line)
			n = (size_t)snprintf(j->why, j->why_n,
					     "template: line %u: ", j->line);
		if (n < j->why_n)
			vsnprintf(j->why + n, j->why_n - n, fmt, ap);
	}
	j->err = err;
	longjmp(j->jmp, 1);
}

void j_fail(struct jinja *j, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	stop(j, err, fmt, ap);
	/* cppcheck-suppress va_end_missing ; stop() does not return */
}

void j_limit(struct jinja *j, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	stop(j, -E2BIG, fmt, ap);
	/* cppcheck-suppress va_end_missing ; stop() does not return */
}

void j_step(struct jinja *j, size_t n)
{
	if (j->steps < n)
		j_limit(j, "too many steps");
	j->steps -= n;
}

void j_enter(struct jinja *j)
{
	if (++j->depth > JINJA_DEPTH_RUN)
		j_limit(j, "nested more than %d deep", JINJA_DEPTH_RUN);
	j_step(j, 1);
}

/* ----------------------------------------------------------------- memory */

static void new_chunk(struct jinja *j, size_t n)
{
	size_t want = j->used / 2;
	struct j_chunk *c;

	if (want < CHUNK_MIN)
		want = CHUNK_MIN;
	if (want > CHUNK_MAX)
		want = CHUNK_MAX;
	if (want < n)
		want = n;
	if (want > j->mem - j->used && n + sizeof(*c) <= j->mem - j->used)
		want = n;
	if (want + sizeof(*c) > j->mem - j->used)
		j_limit(j, "needs more than %zu bytes of memory", j->mem);
	c = malloc(sizeof(*c) + want);
	if (!c)
		j_fail(j, -ENOMEM, "out of memory");
	j->used += sizeof(*c) + want;
	c->next = j->chunks;
	c->n = want;
	j->chunks = c;
	j->top = (uint8_t *)(c + 1);
	j->end = j->top + want;
}

static void *take(struct jinja *j, size_t n, size_t align)
{
	size_t pad = -(uintptr_t)j->top & (align - 1);
	void *p;

	if (n > j->mem)
		j_limit(j, "needs more than %zu bytes of memory", j->mem);
	if (!j->top || (size_t)(j->end - j->top) < n + pad) {
		new_chunk(j, n);
		pad = 0;
	}
	p = j->top + pad;
	j->top += pad + n;
	return p;
}

void *j_alloc(struct jinja *j, size_t n)
{
	return take(j, n, 8);
}

void *j_zalloc(struct jinja *j, size_t n)
{
	void *p = j_alloc(j, n);

	memset(p, 0, n);
	return p;
}

/* @p, of which @used bytes count, with room for @want. */
void *j_grow(struct jinja *j, void *p, size_t used, size_t want)
{
	void *q = j_alloc(j, want);

	if (used)
		memcpy(q, p, used);
	return q;
}

void j_free(struct jinja *j)
{
	struct j_chunk *c;

	while ((c = j->chunks)) {
		j->chunks = c->next;
		free(c);
	}
	free(j->out);
	j->out = NULL;
}

/* ----------------------------------------------------------- constructors */

struct j_val j_undef(const char *name, size_t n)
{
	return (struct j_val){ .t = J_UNDEF, .s = name, .n = (uint32_t)n };
}

struct j_val j_bool(bool b)
{
	return (struct j_val){ .t = J_BOOL, .i = b };
}

struct j_val j_int(int64_t i)
{
	return (struct j_val){ .t = J_INT, .i = i };
}

struct j_val j_float(double d)
{
	return (struct j_val){ .t = J_FLOAT, .d = d };
}

struct j_val j_strn(const char *s, size_t n)
{
	return (struct j_val){ .t = J_STR, .s = s, .n = (uint32_t)n };
}

struct j_val j_lit(const char *s)
{
	return j_strn(s, strlen(s));
}

struct j_val j_copy(struct jinja *j, const char *s, size_t n)
{
	char *p;

	if (n > UINT32_MAX / 2)
		j_limit(j, "a string of %zu bytes", n);
	p = take(j, n, 1);
	if (n)
		memcpy(p, s, n);
	return j_strn(p, n);
}

/* Text that ends where the arena does grows in place: building a long string
 * piece by piece stays linear. Nobody sees it, for a string is its length. */
struct j_val j_cat(struct jinja *j, struct j_val a, struct j_val b)
{
	size_t n = (size_t)a.n + b.n, slack = 0;
	char *p;

	if (n > UINT32_MAX / 2)
		j_limit(j, "a string of %zu bytes", n);
	if (!b.n)
		return j_strn(a.s, a.n);
	if (!a.n)
		return j_strn(b.s, b.n);
	j_step(j, b.n / 16);
	if (a.s + a.n == (const char *)j->top &&
	    (size_t)(j->end - j->top) >= b.n) {
		memcpy(j->top, b.s, b.n);
		j->top += b.n;
		return j_strn(a.s, n);
	}
	j_step(j, a.n / 16);
	/* what was long will be longer: leave room behind it */
	if (n > 256 && n + n / 2 < j->mem - j->used)
		slack = n / 2;
	p = take(j, n + slack, 1);
	j->top -= slack;
	memcpy(p, a.s, a.n);
	memcpy(p + a.n, b.s, b.n);
	return j_strn(p, n);
}

struct j_val j_list(struct jinja *j, size_t cap)
{
	struct j_val v = { .t = J_LIST };

	if (cap > UINT32_MAX / 2)
		j_limit(j, "a list of %zu elements", cap);
	v.l = j_zalloc(j, sizeof(*v.l));
	if (cap) {
		v.l->v = j_alloc(j, cap * sizeof(*v.l->v));
		v.l->cap = (uint32_t)cap;
	}
	return v;
}

void j_push(struct jinja *j, struct j_val list, struct j_val v)
{
	struct j_list *l = list.l;
	uint32_t cap;

	if (l->n == l->cap) {
		if (l->cap > UINT32_MAX / 4)
			j_limit(j, "a list of %u elements", l->n);
		cap = l->cap ? 2 * l->cap : 4;
		l->v = j_grow(j, l->v, l->n * sizeof(*l->v),
			      cap * sizeof(*l->v));
		l->cap = cap;
	}
	l->v[l->n++] = v;
}

struct j_val j_dict(struct jinja *j)
{
	struct j_val v = { .t = J_DICT };

	v.o = j_zalloc(j, sizeof(*v.o));
	return v;
}

/* ------------------------------------------------------------------ dicts */

static uint32_t hash(struct jinja *j, struct j_val k)
{
	double d;

	switch (k.t) {
	case J_STR:
		j_step(j, k.n / 16);
		return image_hash(k.s, k.n);
	case J_UNDEF:
	case J_NONE:
		return 1;
	case J_BOOL:
	case J_INT:
	case J_FLOAT:
		/* equal numbers are equal keys, whatever their type */
		d = j_num(k);
		return image_hash(&d, sizeof(d));
	case J_LIST:
		if (k.f & JF_TUPLE)
			return 2;
		break;
	}
	j_fail(j, -EINVAL, "unhashable type: '%s'", j_type_name(k));
}

static void rehash(struct jinja *j, struct j_dict *o)
{
	uint32_t i, s;

	o->n_slot = o->n_slot ? 2 * o->n_slot : 8 * DICT_LINEAR;
	o->slot = j_alloc(j, o->n_slot * sizeof(*o->slot));
	memset(o->slot, 0xff, o->n_slot * sizeof(*o->slot));
	for (i = 0; i < o->n; i++) {
		s = hash(j, o->e[i].k) & (o->n_slot - 1);
		while (o->slot[s] != UINT32_MAX)
			s = (s + 1) & (o->n_slot - 1);
		o->slot[s] = i;
	}
}

struct j_val *j_find(struct jinja *j, struct j_val dict, struct j_val k)
{
	struct j_dict *o = dict.o;
	uint32_t i, s;

	s = hash(j, k);
	if (!o->slot) {
		for (i = 0; i < o->n; i++)
			if (j_equal(j, o->e[i].k, k))
				return &o->e[i].v;
		return NULL;
	}
	for (s &= o->n_slot - 1; o->slot[s] != UINT32_MAX;
	     s = (s + 1) & (o->n_slot - 1)) {
		j_step(j, 1);
		if (j_equal(j, o->e[o->slot[s]].k, k))
			return &o->e[o->slot[s]].v;
	}
	return NULL;
}

struct j_val *j_find_lit(struct jinja *j, struct j_val dict, const char *k)
{
	return j_find(j, dict, j_lit(k));
}

void j_put(struct jinja *j, struct j_val dict, struct j_val k, struct j_val v)
{
	struct j_dict *o = dict.o;
	struct j_val *old = j_find(j, dict, k);
	uint32_t cap, s;

	if (old) {
		*old = v;
		return;
	}
	if (o->n == o->cap) {
		if (o->cap > UINT32_MAX / 64)
			j_limit(j, "a dict of %u entries", o->n);
		cap = o->cap ? 2 * o->cap : 4;
		o->e = j_grow(j, o->e, o->n * sizeof(*o->e),
			      cap * sizeof(*o->e));
		o->cap = cap;
	}
	o->e[o->n].k = k;
	o->e[o->n++].v = v;
	if (o->n <= DICT_LINEAR)
		return;
	if (2 * o->n > o->n_slot) {
		rehash(j, o);
		return;
	}
	s = hash(j, k) & (o->n_slot - 1);
	while (o->slot[s] != UINT32_MAX)
		s = (s + 1) & (o->n_slot - 1);
	o->slot[s] = o->n - 1;
}

/* --------------------------------------------------------------- relations */

bool j_true(struct j_val v)
{
	switch (v.t) {
	case J_UNDEF:
	case J_NONE:
		return false;
	case J_BOOL:
	case J_INT:
		return v.i != 0;
	case J_FLOAT:
		return v.d != 0;
	case J_STR:
		return v.n != 0;
	case J_LIST:
		return v.l->n != 0;
	case J_DICT:
		return v.o->n != 0;
	default:
		return true;
	}
}

bool j_is_num(struct j_val v)
{
	return v.t == J_BOOL || v.t == J_INT || v.t == J_FLOAT;
}

double j_num(struct j_val v)
{
	return v.t == J_FLOAT ? v.d : (double)v.i;
}

bool j_is(struct j_val v, const char *s)
{
	return v.t == J_STR && strlen(s) == v.n && !memcmp(v.s, s, v.n);
}

const char *j_type_name(struct j_val v)
{
	static const char *const names[] = {
		[J_UNDEF] = "Undefined", [J_NONE] = "NoneType",
		[J_BOOL] = "bool",	 [J_INT] = "int",
		[J_FLOAT] = "float",	 [J_STR] = "str",
		[J_LIST] = "list",	 [J_DICT] = "dict",
		[J_NS] = "Namespace",	 [J_LOOP] = "LoopContext",
		[J_FUNC] = "function",	 [J_METHOD] = "method",
		[J_MACRO] = "Macro",
	};

	if (v.t == J_LIST && (v.f & JF_TUPLE))
		return "tuple";
	return names[v.t];
}

static bool equal_lists(struct jinja *j, const struct j_list *a,
			const struct j_list *b)
{
	uint32_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++)
		if (!j_equal(j, a->v[i], b->v[i]))
			return false;
	return true;
}

static bool equal_dicts(struct jinja *j, struct j_val a, struct j_val b)
{
	const struct j_val *v;
	uint32_t i;

	if (a.o->n != b.o->n)
		return false;
	for (i = 0; i < a.o->n; i++) {
		v = j_find(j, b, a.o->e[i].k);
		if (!v || !j_equal(j, a.o->e[i].v, *v))
			return false;
	}
	return true;
}

bool j_equal(struct jinja *j, struct j_val a, struct j_val b)
{
	bool eq;

	if (a.t == J_STR && b.t == J_STR)
		return a.n == b.n && !memcmp(a.s, b.s, a.n);
	if ((a.t == J_INT || a.t == J_BOOL) && (b.t == J_INT || b.t == J_BOOL))
		return a.i == b.i;
	if (j_is_num(a) && j_is_num(b))
		return j_num(a) == j_num(b);
	if (a.t != b.t)
		return false;
	j_enter(j);
	switch (a.t) {
	case J_UNDEF:
	case J_NONE:
		eq = true;
		break;
	case J_LIST:
		eq = (a.f & JF_TUPLE) == (b.f & JF_TUPLE) &&
		     equal_lists(j, a.l, b.l);
		break;
	case J_DICT:
		eq = equal_dicts(j, a, b);
		break;
	case J_FUNC:
	case J_METHOD:
		eq = a.id == b.id && a.self == b.self;
		break;
	default:
		eq = a.o == b.o;
	}
	j_leave(j);
	return eq;
}

static _Noreturn void no_order(struct jinja *j, struct j_val a, struct j_val b,
			       const char *op)
{
	j_fail(j, -EINVAL,
	       "'%s' not supported between instances of '%s' "
	       "and '%s'",
	       op, j_type_name(a), j_type_name(b));
}

int j_order(struct jinja *j, struct j_val a, struct j_val b, const char *op)
{
	uint32_t i, n;
	int c = 0;

	if (j_is_num(a) && j_is_num(b)) {
		if (a.t != J_FLOAT && b.t != J_FLOAT)
			return (a.i > b.i) - (a.i < b.i);
		return (j_num(a) > j_num(b)) - (j_num(a) < j_num(b));
	}
	if (a.t == J_STR && b.t == J_STR) {
		n = a.n < b.n ? a.n : b.n;
		c = n ? memcmp(a.s, b.s, n) : 0;
		return c ? c : (a.n > b.n) - (a.n < b.n);
	}
	if (a.t != J_LIST || b.t != J_LIST)
		no_order(j, a, b, op);
	n = a.l->n < b.l->n ? a.l->n : b.l->n;
	j_enter(j);
	for (i = 0; i < n && !c; i++)
		if (!j_equal(j, a.l->v[i], b.l->v[i]))
			c = j_order(j, a.l->v[i], b.l->v[i], op);
	j_leave(j);
	return c ? c : (a.l->n > b.l->n) - (a.l->n < b.l->n);
}

bool j_in(struct jinja *j, struct j_val needle, struct j_val hay)
{
	uint32_t i;

	switch (hay.t) {
	case J_STR:
		if (needle.t != J_STR)
			j_fail(j, -EINVAL,
			       "'in <string>' requires string as "
			       "left operand, not %s",
			       j_type_name(needle));
		j_step(j, hay.n / 16);
		return memmem(hay.s, hay.n, needle.s, needle.n) != NULL;
	case J_LIST:
		for (i = 0; i < hay.l->n; i++) {
			j_step(j, 1);
			if (j_equal(j, hay.l->v[i], needle))
				return true;
		}
		return false;
	case J_DICT:
		return j_find(j, hay, needle) != NULL;
	case J_UNDEF:
		return false;
	default:
		j_fail(j, -EINVAL, "argument of type '%s' is not iterable",
		       j_type_name(hay));
	}
}

uint64_t j_len(struct jinja *j, struct j_val v)
{
	switch (v.t) {
	case J_STR:
		j_step(j, v.n / 16);
		return j_chars(v);
	case J_LIST:
		return v.l->n;
	case J_DICT:
		return v.o->n;
	case J_UNDEF:
		return 0;
	case J_LOOP:
		return v.loop->items->n;
	default:
		j_fail(j, -EINVAL, "object of type '%s' has no len()",
		       j_type_name(v));
	}
}

struct j_val j_iter(struct jinja *j, struct j_val v)
{
	const uint8_t *p, *e;
	struct j_val l;
	uint32_t i, cp;
	unsigned n;

	switch (v.t) {
	case J_LIST:
		return v;
	case J_DICT:
		l = j_list(j, v.o->n);
		for (i = 0; i < v.o->n; i++)
			j_push(j, l, v.o->e[i].k);
		j_step(j, v.o->n);
		return l;
	case J_STR:
		j_step(j, v.n);
		l = j_list(j, 0);
		p = (const uint8_t *)v.s;
		for (e = p + v.n; p < e; p += n) {
			n = utf8_get(p, e, &cp);
			j_push(j, l, j_strn((const char *)p, n));
		}
		return l;
	case J_UNDEF:
		return j_list(j, 0);
	default:
		j_fail(j, -EINVAL, "'%s' object is not iterable",
		       j_type_name(v));
	}
}
