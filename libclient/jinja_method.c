/* SPDX-License-Identifier: MIT */
/*
 * jinja_method.c - methods of strings, lists and dicts, as Python has them.
 */
#include <errno.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

typedef struct j_val method_fn(struct jinja *j, struct j_val v,
			       const struct j_args *a);

#define METHOD(name)                                              \
	static struct j_val name(struct jinja *j, struct j_val v, \
				 const struct j_args *a)

static struct j_val text_arg(struct jinja *j, const struct j_args *a,
			     unsigned i, const char *name, const char *who)
{
	struct j_val s = j_need(j, a, i, name, who);

	if (s.t != J_STR)
		j_fail(j, -EINVAL, "%s: a string is needed, not %s", who,
		       j_type_name(s));
	return s;
}

/* -------------------------------------------------------------------- case */

enum recase { LOWER, UPPER, TITLE, CAPITAL, SWAP };

static struct j_val recase(struct jinja *j, struct j_val v, enum recase how)
{
	const uint8_t *p = (const uint8_t *)v.s, *e = p + v.n;
	struct j_buf b = { 0 };
	bool up, in = false;
	uint32_t cp;
	unsigned n, c;

	j_step(j, v.n);
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		c = uni_class(cp);
		up = how == UPPER || (how == TITLE && !in) ||
		     (how == CAPITAL && !in) || (how == SWAP && (c & UC_LL));
		in = how == CAPITAL || (how == TITLE && (c & UC_L));
		if (cp == UNI_BAD)
			j_add(j, &b, (const char *)p, n);
		else if (cp == 0xdf && up) /* the one that becomes two */
			j_adds(j, &b,
			       how == UPPER || how == SWAP ? "SS" : "Ss");
		else
			j_addc(j, &b,
			       !up			     ? uni_lower(cp)
			       : how == UPPER || how == SWAP ? uni_upper(cp)
							     : uni_title(cp));
	}
	return j_done(&b);
}

METHOD(s_lower)
{
	(void)a;
	return recase(j, v, LOWER);
}

METHOD(s_upper)
{
	(void)a;
	return recase(j, v, UPPER);
}

METHOD(s_title)
{
	(void)a;
	return recase(j, v, TITLE);
}

METHOD(s_capitalize)
{
	(void)a;
	return recase(j, v, CAPITAL);
}

METHOD(s_swapcase)
{
	(void)a;
	return recase(j, v, SWAP);
}

/* --------------------------------------------------------------- stripping */

METHOD(s_strip)
{
	return j_strip(v, j_arg(j, a, 0, "chars", j_none), 3);
}

METHOD(s_lstrip)
{
	return j_strip(v, j_arg(j, a, 0, "chars", j_none), 1);
}

METHOD(s_rstrip)
{
	return j_strip(v, j_arg(j, a, 0, "chars", j_none), 2);
}

static bool starts(struct j_val v, struct j_val s)
{
	return s.n <= v.n && !memcmp(v.s, s.s, s.n);
}

static bool ends(struct j_val v, struct j_val s)
{
	return s.n <= v.n && !memcmp(v.s + v.n - s.n, s.s, s.n);
}

static bool any_of(struct jinja *j, struct j_val v, const struct j_args *a,
		   const char *who, bool (*match)(struct j_val, struct j_val))
{
	struct j_val s = j_need(j, a, 0, NULL, who);
	uint32_t i;

	if (s.t != J_LIST)
		return match(v, text_arg(j, a, 0, NULL, who));
	for (i = 0; i < s.l->n; i++)
		if (s.l->v[i].t == J_STR && match(v, s.l->v[i]))
			return true;
	return false;
}

METHOD(s_startswith)
{
	return j_bool(any_of(j, v, a, "startswith", starts));
}

METHOD(s_endswith)
{
	return j_bool(any_of(j, v, a, "endswith", ends));
}

METHOD(s_removeprefix)
{
	struct j_val s = text_arg(j, a, 0, NULL, "removeprefix");

	return starts(v, s) ? j_strn(v.s + s.n, v.n - s.n) : v;
}

METHOD(s_removesuffix)
{
	struct j_val s = text_arg(j, a, 0, NULL, "removesuffix");

	return ends(v, s) ? j_strn(v.s, v.n - s.n) : v;
}

/* --------------------------------------------------------------- searching */

static const char *last_of(const char *p, size_t n, struct j_val s)
{
	const char *q;

	if (s.n > n)
		return NULL;
	for (q = p + n - s.n;; q--) {
		if (!memcmp(q, s.s, s.n))
			return q;
		if (q == p)
			return NULL;
	}
}

static const char *first_of(const char *p, size_t n, struct j_val s)
{
	return memmem(p, n, s.s, s.n);
}

static struct j_val find(struct jinja *j, struct j_val v,
			 const struct j_args *a, bool last, const char *who)
{
	struct j_val s = text_arg(j, a, 0, "sub", who);
	int64_t from = j_int_arg(j, a, 1, "start", 0);
	size_t off;
	const char *q;

	j_step(j, v.n / 4);
	if (from < 0)
		from += j_chars(v);
	off = j_char_off(v, from < 0 ? 0 : (uint64_t)from);
	q = (last ? last_of : first_of)(v.s + off, v.n - off, s);
	if (!q)
		return j_int(-1);
	return j_int(j_chars(j_strn(v.s, (size_t)(q - v.s))));
}

METHOD(s_find)
{
	return find(j, v, a, false, "find");
}

METHOD(s_rfind)
{
	return find(j, v, a, true, "rfind");
}

METHOD(s_index)
{
	struct j_val i = find(j, v, a, false, "index");

	if (i.i < 0)
		j_fail(j, -EINVAL, "substring not found");
	return i;
}

METHOD(s_count)
{
	struct j_val s = text_arg(j, a, 0, "sub", "count");
	const char *p = v.s, *e = v.s + v.n;
	int64_t n = 0;

	j_step(j, v.n);
	if (!s.n)
		return j_int((int64_t)j_chars(v) + 1);
	while ((p = first_of(p, (size_t)(e - p), s))) {
		p += s.n;
		n++;
	}
	return j_int(n);
}

METHOD(s_replace)
{
	struct j_val old = j_str(j, j_need(j, a, 0, "old", "replace"));
	struct j_val new = j_str(j, j_need(j, a, 1, "new", "replace"));
	struct j_val count = j_arg(j, a, 2, "count", j_none);
	const char *p = v.s, *e = v.s + v.n, *q;
	int64_t left;
	struct j_buf b = { 0 };
	uint32_t cp;
	unsigned n;

	left = count.t == J_NONE ? -1 : j_want_int(j, count, "replace");
	j_step(j, v.n / 8);
	while (left--) {
		q = old.n ? first_of(p, (size_t)(e - p), old) : p;
		if (!q)
			break;
		j_add(j, &b, p, (size_t)(q - p));
		j_add(j, &b, new.s, new.n);
		j_step(j, 1);
		p = q + old.n;
		if (old.n)
			continue;
		/* nothing is between all characters and at both ends */
		if (p == e)
			break;
		n = utf8_get((const uint8_t *)p, (const uint8_t *)e, &cp);
		j_add(j, &b, p, n);
		p += n;
	}
	j_add(j, &b, p, (size_t)(e - p));
	return j_done(&b);
}

/* --------------------------------------------------------------- splitting */

static void push_part(struct jinja *j, struct j_val l, const char *p,
		      const char *e)
{
	j_step(j, 1);
	j_push(j, l, j_strn(p, (size_t)(e - p)));
}

static bool is_blank(const char *p, const char *e, unsigned *n)
{
	uint32_t cp;

	*n = utf8_get((const uint8_t *)p, (const uint8_t *)e, &cp);
	return (uni_class(cp) & UC_WS) || (cp >= 0x1c && cp <= 0x1f);
}

static struct j_val split_blanks(struct jinja *j, struct j_val v, int64_t max)
{
	const char *p, *e, *q;
	struct j_val l = j_list(j, 0);
	unsigned n;

	v = j_strip(v, j_none, 1);
	p = v.s;
	e = v.s + v.n;
	while (p < e) {
		if (max >= 0 && l.l->n == max) {
			push_part(j, l, p, e);
			break;
		}
		for (q = p; q < e && !is_blank(q, e, &n); q += n)
			;
		push_part(j, l, p, q);
		for (p = q; p < e && is_blank(p, e, &n); p += n)
			;
	}
	return l;
}

static struct j_val reversed(struct j_val l)
{
	struct j_val t;
	uint32_t i;

	for (i = 0; i < l.l->n / 2; i++) {
		t = l.l->v[i];
		l.l->v[i] = l.l->v[l.l->n - 1 - i];
		l.l->v[l.l->n - 1 - i] = t;
	}
	return l;
}

static struct j_val split(struct jinja *j, struct j_val v,
			  const struct j_args *a, bool right)
{
	struct j_val sep = j_arg(j, a, 0, "sep", j_none), l;
	int64_t max = j_int_arg(j, a, 1, "maxsplit", -1);
	const char *p = v.s, *e = v.s + v.n, *q;

	j_step(j, v.n / 4);
	if (sep.t == J_NONE) {
		if (right && max >= 0)
			j_fail(j, -EINVAL, "rsplit: maxsplit needs sep");
		return split_blanks(j, v, max);
	}
	sep = text_arg(j, a, 0, "sep", "split");
	if (!sep.n)
		j_fail(j, -EINVAL, "empty separator");
	l = j_list(j, 0);
	while (max < 0 || l.l->n < max) {
		q = (right ? last_of : first_of)(p, (size_t)(e - p), sep);
		if (!q)
			break;
		if (right) {
			push_part(j, l, q + sep.n, e);
			e = q;
		} else {
			push_part(j, l, p, q);
			p = q + sep.n;
		}
	}
	push_part(j, l, p, e);
	return right ? reversed(l) : l;
}

METHOD(s_split)
{
	return split(j, v, a, false);
}

METHOD(s_rsplit)
{
	return split(j, v, a, true);
}

METHOD(s_splitlines)
{
	bool keep = j_true(j_arg(j, a, 0, "keepends", j_bool(false)));
	const char *p = v.s, *e = v.s + v.n, *q, *n;
	struct j_val l = j_list(j, 0);

	for (; p < e; p = n) {
		for (q = p; q < e && *q != '\n' && *q != '\r'; q++)
			;
		n = q < e ? q + 1 : q;
		if (q < e && *q == '\r' && n < e && *n == '\n')
			n++;
		push_part(j, l, p, keep ? n : q);
	}
	return l;
}

static struct j_val partition(struct jinja *j, struct j_val v,
			      const struct j_args *a, bool right)
{
	struct j_val sep = text_arg(j, a, 0, "sep", "partition");
	struct j_val l = j_list(j, 3);
	const char *q;

	q = sep.n ? (right ? last_of : first_of)(v.s, v.n, sep) : NULL;
	l.f = JF_TUPLE;
	if (!q) {
		j_push(j, l, right ? j_lit("") : v);
		j_push(j, l, j_lit(""));
		j_push(j, l, right ? v : j_lit(""));
		return l;
	}
	push_part(j, l, v.s, q);
	j_push(j, l, sep);
	push_part(j, l, q + sep.n, v.s + v.n);
	return l;
}

METHOD(s_partition)
{
	return partition(j, v, a, false);
}

METHOD(s_rpartition)
{
	return partition(j, v, a, true);
}

METHOD(s_join)
{
	struct j_val l = j_iter(j, j_need(j, a, 0, NULL, "join"));
	struct j_buf b = { 0 };
	uint32_t i;

	for (i = 0; i < l.l->n; i++) {
		if (l.l->v[i].t != J_STR)
			j_fail(j, -EINVAL,
			       "sequence item %u: expected str "
			       "instance, %s found",
			       i, j_type_name(l.l->v[i]));
		if (i)
			j_add(j, &b, v.s, v.n);
		j_add(j, &b, l.l->v[i].s, l.l->v[i].n);
	}
	return j_done(&b);
}

/* ----------------------------------------------------------------- padding */

static struct j_val pad(struct jinja *j, struct j_val v, const struct j_args *a,
			const char *who, int left, bool zeros)
{
	int64_t w = j_want_int(j, j_need(j, a, 0, "width", who), who);
	struct j_val fill = j_arg(j, a, 1, "fillchar", j_lit(" "));
	int64_t more = w - (int64_t)j_chars(v), i, l;
	struct j_buf b = { 0 };
	const char *p = v.s;

	if (zeros)
		fill = j_lit("0");
	if (more <= 0 || fill.t != J_STR)
		return v;
	l = left == 1 ? more : left == 2 ? more / 2 + (more & w & 1) : 0;
	if (zeros && v.n && (*p == '-' || *p == '+')) {
		j_add(j, &b, p++, 1);
		v.n--;
	}
	for (i = 0; i < l; i++)
		j_add(j, &b, fill.s, fill.n);
	j_add(j, &b, p, v.n);
	for (; i < more; i++)
		j_add(j, &b, fill.s, fill.n);
	j_step(j, (size_t)more);
	return j_done(&b);
}

METHOD(s_ljust)
{
	return pad(j, v, a, "ljust", 0, false);
}

METHOD(s_rjust)
{
	return pad(j, v, a, "rjust", 1, false);
}

METHOD(s_center)
{
	return pad(j, v, a, "center", 2, false);
}

METHOD(s_zfill)
{
	return pad(j, v, a, "zfill", 1, true);
}

/* ----------------------------------------------------------------- classes */

static struct j_val all_of(struct jinja *j, struct j_val v, unsigned mask,
			   unsigned not )
{
	const uint8_t *p = (const uint8_t *)v.s, *e = p + v.n;
	bool some = false;
	unsigned c;
	uint32_t cp;

	j_step(j, v.n);
	while (p < e) {
		p += utf8_get(p, e, &cp);
		c = uni_class(cp);
		if (not ? (c & not ) != 0 : !(c & mask))
			return j_bool(false);
		some |= (c & mask) != 0;
	}
	return j_bool(some);
}

METHOD(s_isdigit)
{
	(void)a;
	return all_of(j, v, UC_N, 0);
}

METHOD(s_isalpha)
{
	(void)a;
	return all_of(j, v, UC_L, 0);
}

METHOD(s_isalnum)
{
	(void)a;
	return all_of(j, v, UC_L | UC_N, 0);
}

METHOD(s_isspace)
{
	(void)a;
	return all_of(j, v, UC_WS, 0);
}

METHOD(s_isupper)
{
	(void)a;
	return all_of(j, v, UC_LU, UC_LL);
}

METHOD(s_islower)
{
	(void)a;
	return all_of(j, v, UC_LL, UC_LU);
}

/* ------------------------------------------------------------------- lists */

METHOD(l_append)
{
	j_push(j, v, j_need(j, a, 0, NULL, "append"));
	return j_none;
}

METHOD(l_extend)
{
	struct j_val l = j_iter(j, j_need(j, a, 0, NULL, "extend"));
	uint32_t i, n = l.l->n;

	j_step(j, n);
	for (i = 0; i < n; i++)
		j_push(j, v, l.l->v[i]);
	return j_none;
}

METHOD(l_insert)
{
	int64_t i = j_want_int(j, j_need(j, a, 0, NULL, "insert"), "insert");
	struct j_val x = j_need(j, a, 1, NULL, "insert");
	uint32_t n = v.l->n;

	if (i < 0)
		i = i + n < 0 ? 0 : i + n;
	if (i > n)
		i = n;
	j_step(j, n / 8);
	j_push(j, v, x);
	memmove(v.l->v + i + 1, v.l->v + i, (n - (size_t)i) * sizeof(*v.l->v));
	v.l->v[i] = x;
	return j_none;
}

METHOD(l_pop)
{
	int64_t i = j_int_arg(j, a, 0, "pop", -1);
	uint32_t n = v.l->n;
	struct j_val x;

	if (i < 0)
		i += n;
	if (i < 0 || i >= n)
		j_fail(j, -EINVAL, "pop index out of range");
	x = v.l->v[i];
	j_step(j, n / 8);
	memmove(v.l->v + i, v.l->v + i + 1,
		(n - (size_t)i - 1) * sizeof(*v.l->v));
	v.l->n--;
	return x;
}

METHOD(l_index)
{
	struct j_val x = j_need(j, a, 0, NULL, "index");
	uint32_t i;

	for (i = 0; i < v.l->n; i++)
		if (j_equal(j, v.l->v[i], x))
			return j_int(i);
	j_fail(j, -EINVAL, "the value is not in the list");
}

METHOD(l_count)
{
	struct j_val x = j_need(j, a, 0, NULL, "count");
	int64_t n = 0;
	uint32_t i;

	for (i = 0; i < v.l->n; i++)
		n += j_equal(j, v.l->v[i], x);
	return j_int(n);
}

METHOD(l_reverse)
{
	(void)a;
	j_step(j, v.l->n);
	reversed(v);
	return j_none;
}

METHOD(l_copy)
{
	struct j_args all = { .pos = v.l, .kw = a->kw };
	struct j_val l = j_list(j, v.l->n);
	uint32_t i;

	j_step(j, v.l->n);
	for (i = 0; i < all.pos->n; i++)
		j_push(j, l, all.pos->v[i]);
	return l;
}

/* ------------------------------------------------------------------- dicts */

METHOD(d_get)
{
	struct j_val *e = j_find(j, v, j_need(j, a, 0, "key", "get"));

	return e ? *e : j_arg(j, a, 1, "default", j_none);
}

METHOD(d_keys)
{
	(void)a;
	return j_iter(j, v);
}

METHOD(d_values)
{
	struct j_val l = j_list(j, v.o->n);
	uint32_t i;

	(void)a;
	j_step(j, v.o->n);
	for (i = 0; i < v.o->n; i++)
		j_push(j, l, v.o->e[i].v);
	return l;
}

METHOD(d_items)
{
	(void)a;
	return j_filter(j, j_filter_find("items", 5), v, a);
}

METHOD(d_update)
{
	struct j_val o = j_arg(j, a, 0, NULL, j_none);
	uint32_t i;

	if (o.t == J_DICT)
		for (i = 0; i < o.o->n; i++)
			j_put(j, v, o.o->e[i].k, o.o->e[i].v);
	for (i = 0; i < a->kw->n; i++)
		j_put(j, v, a->kw->e[i].k, a->kw->e[i].v);
	return j_none;
}

METHOD(d_setdefault)
{
	struct j_val k = j_need(j, a, 0, "key", "setdefault");
	struct j_val *e = j_find(j, v, k);

	if (e)
		return *e;
	j_put(j, v, k, j_arg(j, a, 1, "default", j_none));
	return *j_find(j, v, k);
}

METHOD(d_copy)
{
	struct j_val o = j_dict(j);
	uint32_t i;

	(void)a;
	for (i = 0; i < v.o->n; i++)
		j_put(j, o, v.o->e[i].k, v.o->e[i].v);
	return o;
}

METHOD(d_pop)
{
	struct j_val k = j_need(j, a, 0, "key", "pop"), out = j_none, o;
	bool found = false;
	uint32_t i;

	/* rare: what is left is put into a new table */
	o = j_dict(j);
	for (i = 0; i < v.o->n; i++) {
		if (!found && j_equal(j, v.o->e[i].k, k)) {
			found = true;
			out = v.o->e[i].v;
		} else {
			j_put(j, o, v.o->e[i].k, v.o->e[i].v);
		}
	}
	if (!found && a->pos->n < 2)
		j_fail(j, -EINVAL, "pop: the key is not in the dict");
	if (!found)
		return a->pos->v[1];
	*v.o = *o.o;
	return out;
}

/* ------------------------------------------------------------------- loops */

METHOD(o_cycle)
{
	if (!a->pos->n)
		j_fail(j, -EINVAL, "no items for cycling given");
	return a->pos->v[v.loop->i % a->pos->n];
}

METHOD(o_changed)
{
	struct j_val now = { .t = J_LIST, .f = JF_TUPLE, .l = a->pos };
	bool same = v.loop->changed.t == J_LIST &&
		    j_equal(j, v.loop->changed, now);

	v.loop->changed = now;
	return j_bool(!same);
}

METHOD(s_format);

/* clang-format off */
static const struct {
	uint8_t type;
	const char *name;
	method_fn *fn;
} methods[] = {
	{ J_STR, "capitalize", s_capitalize }, { J_STR, "center", s_center },
	{ J_STR, "count", s_count }, { J_STR, "endswith", s_endswith },
	{ J_STR, "casefold", s_lower }, { J_STR, "find", s_find },
	{ J_STR, "format", s_format }, { J_STR, "index", s_index },
	{ J_STR, "isalnum", s_isalnum }, { J_STR, "isalpha", s_isalpha },
	{ J_STR, "isdecimal", s_isdigit }, { J_STR, "isdigit", s_isdigit },
	{ J_STR, "islower", s_islower }, { J_STR, "isnumeric", s_isdigit },
	{ J_STR, "isspace", s_isspace }, { J_STR, "isupper", s_isupper },
	{ J_STR, "join", s_join }, { J_STR, "ljust", s_ljust },
	{ J_STR, "lower", s_lower }, { J_STR, "lstrip", s_lstrip },
	{ J_STR, "partition", s_partition },
	{ J_STR, "removeprefix", s_removeprefix },
	{ J_STR, "removesuffix", s_removesuffix },
	{ J_STR, "replace", s_replace }, { J_STR, "rfind", s_rfind },
	{ J_STR, "rjust", s_rjust }, { J_STR, "rpartition", s_rpartition },
	{ J_STR, "rsplit", s_rsplit }, { J_STR, "rstrip", s_rstrip },
	{ J_STR, "split", s_split }, { J_STR, "splitlines", s_splitlines },
	{ J_STR, "startswith", s_startswith }, { J_STR, "strip", s_strip },
	{ J_STR, "swapcase", s_swapcase }, { J_STR, "title", s_title },
	{ J_STR, "upper", s_upper }, { J_STR, "zfill", s_zfill },
	{ J_LIST, "append", l_append }, { J_LIST, "copy", l_copy },
	{ J_LIST, "count", l_count }, { J_LIST, "extend", l_extend },
	{ J_LIST, "index", l_index }, { J_LIST, "insert", l_insert },
	{ J_LIST, "pop", l_pop }, { J_LIST, "reverse", l_reverse },
	{ J_DICT, "copy", d_copy }, { J_DICT, "get", d_get },
	{ J_DICT, "items", d_items }, { J_DICT, "keys", d_keys },
	{ J_DICT, "pop", d_pop }, { J_DICT, "setdefault", d_setdefault },
	{ J_DICT, "update", d_update }, { J_DICT, "values", d_values },
	{ J_LOOP, "cycle", o_cycle }, { J_LOOP, "changed", o_changed },
};
/* clang-format on */

METHOD(s_format)
{
	return j_format_braces(j, v, a);
}

struct j_val j_method(struct jinja *j, struct j_val v, struct j_val name)
{
	struct j_val m = { .t = J_METHOD };
	size_t i;

	if (v.t < J_STR || name.t != J_STR)
		return j_undef("method", 6);
	for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (methods[i].type != v.t || !j_is(name, methods[i].name))
			continue;
		m.id = (uint16_t)i;
		m.self = j_alloc(j, sizeof(v));
		*m.self = v;
		return m;
	}
	return j_undef(name.s, name.n);
}

struct j_val j_call_method(struct jinja *j, struct j_val f,
			   const struct j_args *a)
{
	struct j_val r;

	j_enter(j);
	r = methods[f.id].fn(j, *f.self, a);
	j_leave(j);
	return r;
}
