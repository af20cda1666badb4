/* SPDX-License-Identifier: MIT */
/*
 * jinja_filter.c - filters: value | name(arguments).
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

typedef struct j_val filter_fn(struct jinja *j, struct j_val v,
			       const struct j_args *a);

/* -------------------------------------------------------------- arguments */

struct j_val j_arg(struct jinja *j, const struct j_args *a, unsigned i,
		   const char *name, struct j_val dflt)
{
	struct j_val kw = { .t = J_DICT, .o = a->kw }, *v;

	if (i < a->pos->n)
		return a->pos->v[i];
	v = name && a->kw->n ? j_find_lit(j, kw, name) : NULL;
	return v ? *v : dflt;
}

struct j_val j_need(struct jinja *j, const struct j_args *a, unsigned i,
		    const char *name, const char *who)
{
	struct j_val none = { .t = J_METHOD }, v = j_arg(j, a, i, name, none);

	if (v.t == J_METHOD && !v.self)
		j_fail(j, -EINVAL, "%s: an argument is missing", who);
	return v;
}

int64_t j_want_int(struct jinja *j, struct j_val v, const char *who)
{
	if (v.t != J_INT && v.t != J_BOOL)
		j_fail(j, -EINVAL, "%s: an integer is needed, not %s", who,
		       j_type_name(v));
	return v.i;
}

static int64_t int_arg(struct jinja *j, const struct j_args *a, unsigned i,
		       const char *name, int64_t dflt)
{
	return j_want_int(j, j_arg(j, a, i, name, j_int(dflt)), name);
}

static bool flag_arg(struct jinja *j, const struct j_args *a, unsigned i,
		     const char *name, bool dflt)
{
	return j_true(j_arg(j, a, i, name, j_bool(dflt)));
}

/* ----------------------------------------------------------------- sorting */

void j_sort(struct jinja *j, struct j_val *v, uint32_t n,
	    int (*cmp)(struct jinja *j, struct j_val a, struct j_val b,
		       void *arg),
	    void *arg)
{
	struct j_val *from = v, *to, *tmp;
	uint64_t w, b, i, l, r, k;

	if (n < 2)
		return;
	to = tmp = j_alloc(j, n * sizeof(*v));
	for (w = 1; w < n; w *= 2) {
		for (b = 0; b < n; b += 2 * w) {
			l = b;
			r = k = b + w < n ? b + w : n;
			for (i = b; i < n && i < b + 2 * w; i++) {
				j_step(j, 1);
				if (l < k &&
				    (r >= n || r >= b + 2 * w ||
				     cmp(j, from[l], from[r], arg) <= 0))
					to[i] = from[l++];
				else
					to[i] = from[r++];
			}
		}
		tmp = from;
		from = to;
		to = tmp;
	}
	if (from != v)
		memcpy(v, from, n * sizeof(*v));
}

/* A value by a path "a.b.0", or by an index. */
static struct j_val by_path(struct jinja *j, struct j_val v, struct j_val path)
{
	const char *p = path.s, *e, *dot;
	struct j_val part;
	int64_t k;

	if (path.t != J_STR)
		return j_get_item(j, v, path);
	for (e = p + path.n; p <= e; p = dot + 1) {
		dot = p < e ? memchr(p, '.', (size_t)(e - p)) : NULL;
		if (!dot)
			dot = e;
		part = j_strn(p, (size_t)(dot - p));
		for (k = 0; p < dot && *p >= '0' && *p <= '9' && k < 1 << 24;
		     p++)
			k = 10 * k + *p - '0';
		if (p == dot && part.n)
			part = j_int(k);
		v = j_get_item(j, v, part);
	}
	return v;
}

static struct j_val lower(struct jinja *j, struct j_val v);

struct order {
	struct j_val attr; /* paths, none for the value itself */
	bool fold;
	bool back;
	int item; /* of a pair, or -1 */
};

static int one_order(struct jinja *j, struct j_val a, struct j_val b,
		     const struct order *o)
{
	if (o->fold && a.t == J_STR)
		a = lower(j, a);
	if (o->fold && b.t == J_STR)
		b = lower(j, b);
	return j_order(j, a, b, "<");
}

static int by_order(struct jinja *j, struct j_val a, struct j_val b, void *arg)
{
	const struct order *o = arg;
	struct j_val path;
	uint32_t i;
	int c = 0;

	if (o->item >= 0) {
		c = one_order(j, a.l->v[o->item], b.l->v[o->item], o);
	} else if (o->attr.t != J_LIST) {
		c = one_order(j, a, b, o);
	} else {
		for (i = 0; i < o->attr.l->n && !c; i++) {
			path = o->attr.l->v[i];
			c = one_order(j, by_path(j, a, path),
				      by_path(j, b, path), o);
		}
	}
	return o->back ? -c : c;
}

/* "a,b" as paths; an index stands alone. */
static struct j_val paths(struct jinja *j, struct j_val attr)
{
	const char *p, *e, *q;
	struct j_val l;

	if (attr.t == J_NONE)
		return attr;
	l = j_list(j, 0);
	if (attr.t != J_STR) {
		j_push(j, l, attr);
		return l;
	}
	p = attr.s;
	for (e = p + attr.n; p <= e; p = q + 1) {
		q = p < e ? memchr(p, ',', (size_t)(e - p)) : NULL;
		if (!q)
			q = e;
		j_push(j, l, j_strn(p, (size_t)(q - p)));
	}
	return l;
}

static struct j_val copy_list(struct jinja *j, struct j_val v)
{
	struct j_val l = j_iter(j, v), out = j_list(j, l.l->n);

	j_step(j, l.l->n);
	if (l.l->n)
		memcpy(out.l->v, l.l->v, l.l->n * sizeof(*l.l->v));
	out.l->n = l.l->n;
	return out;
}

static struct j_val f_sort(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct order o = { .item = -1 };
	struct j_val l = copy_list(j, v);

	o.back = flag_arg(j, a, 0, "reverse", false);
	o.fold = !flag_arg(j, a, 1, "case_sensitive", false);
	o.attr = paths(j, j_arg(j, a, 2, "attribute", j_none));
	j_sort(j, l.l->v, l.l->n, by_order, &o);
	return l;
}

static struct j_val pairs(struct jinja *j, struct j_val v)
{
	struct j_val l = j_list(j, 0), t;
	uint32_t i;

	if (v.t == J_UNDEF)
		return l;
	if (v.t != J_DICT)
		j_fail(j, -EINVAL, "items: a mapping is needed, not %s",
		       j_type_name(v));
	for (i = 0; i < v.o->n; i++) {
		t = j_list(j, 2);
		t.f = JF_TUPLE;
		j_push(j, t, v.o->e[i].k);
		j_push(j, t, v.o->e[i].v);
		j_push(j, l, t);
	}
	return l;
}

static struct j_val f_items(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	(void)a;
	return pairs(j, v);
}

static struct j_val f_dictsort(struct jinja *j, struct j_val v,
			       const struct j_args *a)
{
	struct order o = { .attr = j_none };
	struct j_val l = pairs(j, v);

	o.fold = !flag_arg(j, a, 0, "case_sensitive", false);
	o.item = j_is(j_arg(j, a, 1, "by", j_lit("key")), "value");
	o.back = flag_arg(j, a, 2, "reverse", false);
	j_sort(j, l.l->v, l.l->n, by_order, &o);
	return l;
}

/* -------------------------------------------------------------- sequences */

static struct j_val f_length(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	(void)a;
	return j_int((int64_t)j_len(j, v));
}

static struct j_val f_first(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val l = j_iter(j, v);

	(void)a;
	return l.l->n ? l.l->v[0] : j_undef("first of nothing", 16);
}

static struct j_val f_last(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct j_val l = j_iter(j, v);

	(void)a;
	return l.l->n ? l.l->v[l.l->n - 1] : j_undef("last of nothing", 15);
}

static struct j_val f_list(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	(void)a;
	return copy_list(j, v);
}

static struct j_val f_join(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct j_val l = j_iter(j, v), e, attr;
	struct j_val sep = j_str(j, j_arg(j, a, 0, "d", j_lit("")));
	struct j_buf b = { 0 };
	uint32_t i;

	attr = j_arg(j, a, 1, "attribute", j_none);
	for (i = 0; i < l.l->n; i++) {
		e = l.l->v[i];
		if (attr.t != J_NONE)
			e = by_path(j, e, attr);
		e = j_str(j, e);
		if (i)
			j_add(j, &b, sep.s, sep.n);
		j_add(j, &b, e.s, e.n);
	}
	return j_done(&b);
}

static struct j_val f_reverse(struct jinja *j, struct j_val v,
			      const struct j_args *a)
{
	struct j_val l = copy_list(j, v), t;
	struct j_buf b = { 0 };
	uint32_t i, n = l.l->n;

	(void)a;
	for (i = 0; i < n / 2; i++) {
		t = l.l->v[i];
		l.l->v[i] = l.l->v[n - 1 - i];
		l.l->v[n - 1 - i] = t;
	}
	if (v.t != J_STR)
		return l;
	for (i = 0; i < n; i++)
		j_add(j, &b, l.l->v[i].s, l.l->v[i].n);
	return j_done(&b);
}

static struct j_val f_unique(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	struct j_val l = j_iter(j, v), out = j_list(j, 0), seen = j_dict(j), k;
	bool fold = !flag_arg(j, a, 0, "case_sensitive", false);
	struct j_val attr = j_arg(j, a, 1, "attribute", j_none);
	uint32_t i;

	for (i = 0; i < l.l->n; i++) {
		k = l.l->v[i];
		if (attr.t != J_NONE)
			k = by_path(j, k, attr);
		if (fold && k.t == J_STR)
			k = lower(j, k);
		if (j_find(j, seen, k))
			continue;
		j_put(j, seen, k, j_none);
		j_push(j, out, l.l->v[i]);
	}
	return out;
}

static struct j_val extreme(struct jinja *j, struct j_val v,
			    const struct j_args *a, int want)
{
	struct j_val l = j_iter(j, v), best;
	struct order o = { .item = -1 };
	uint32_t i;

	o.fold = !flag_arg(j, a, 0, "case_sensitive", false);
	o.attr = paths(j, j_arg(j, a, 1, "attribute", j_none));
	if (!l.l->n)
		return j_undef("extreme of nothing", 18);
	best = l.l->v[0];
	for (i = 1; i < l.l->n; i++)
		if (by_order(j, l.l->v[i], best, &o) * want > 0)
			best = l.l->v[i];
	return best;
}

static struct j_val f_min(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	return extreme(j, v, a, -1);
}

static struct j_val f_max(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	return extreme(j, v, a, 1);
}

static struct j_val f_sum(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	struct j_val l = j_iter(j, v), attr, sum, e;
	uint32_t i;

	attr = j_arg(j, a, 0, "attribute", j_none);
	sum = j_arg(j, a, 1, "start", j_int(0));
	for (i = 0; i < l.l->n; i++) {
		e = l.l->v[i];
		if (attr.t != J_NONE)
			e = by_path(j, e, attr);
		sum = j_binary(j, '+', sum, e);
	}
	return sum;
}

static struct j_val f_batch(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val l = j_iter(j, v), out = j_list(j, 0), row = j_none, fill;
	int64_t n =
		j_want_int(j, j_need(j, a, 0, "linecount", "batch"), "batch");
	uint32_t i;

	if (n < 1)
		j_fail(j, -EINVAL, "batch: %lld is not a size", (long long)n);
	fill = j_arg(j, a, 1, "fill_with", j_none);
	for (i = 0; i < l.l->n; i++) {
		if (i % (uint64_t)n == 0) {
			row = j_list(j, 0);
			j_push(j, out, row);
		}
		j_push(j, row, l.l->v[i]);
	}
	if (fill.t != J_NONE && row.t == J_LIST)
		while (row.l->n < n) {
			j_step(j, 1);
			j_push(j, row, fill);
		}
	return out;
}

static struct j_val f_slice(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val l = j_iter(j, v), out = j_list(j, 0), col, fill;
	int64_t n = j_want_int(j, j_need(j, a, 0, "slices", "slice"), "slice");
	int64_t k, i, at = 0, each, more;

	if (n < 1)
		j_fail(j, -EINVAL, "slice: %lld is no count", (long long)n);
	fill = j_arg(j, a, 1, "fill_with", j_none);
	each = l.l->n / n;
	more = l.l->n % n;
	for (k = 0; k < n; k++) {
		j_step(j, 1);
		col = j_list(j, 0);
		for (i = 0; i < each + (k < more); i++)
			j_push(j, col, l.l->v[at++]);
		if (fill.t != J_NONE && k >= more)
			j_push(j, col, fill);
		j_push(j, out, col);
	}
	return out;
}

static struct j_val f_groupby(struct jinja *j, struct j_val v,
			      const struct j_args *a)
{
	struct j_val attr = j_need(j, a, 0, "attribute", "groupby"), key, last;
	struct order o = { .item = -1, .fold = true };
	struct j_val l = copy_list(j, v), out = j_list(j, 0), g, t;
	uint32_t i;

	o.attr = paths(j, attr);
	j_sort(j, l.l->v, l.l->n, by_order, &o);
	last = g = j_none;
	for (i = 0; i < l.l->n; i++) {
		key = by_path(j, l.l->v[i], attr);
		if (!i || one_order(j, key, last, &o)) {
			g = j_list(j, 0);
			t = j_list(j, 2);
			t.f = JF_TUPLE;
			j_push(j, t, key);
			j_push(j, t, g);
			j_push(j, out, t);
		}
		last = key;
		j_push(j, g, l.l->v[i]);
	}
	return out;
}

/* --------------------------------------------------------- select and map */

static struct j_args after(const struct j_args *a, struct j_list *pos,
			   uint32_t k)
{
	*pos = *a->pos;
	k = k < pos->n ? k : pos->n;
	if (k)
		pos->v += k;
	pos->n -= k;
	return (struct j_args){ .pos = pos, .kw = a->kw };
}

static struct j_val pick(struct jinja *j, struct j_val v,
			 const struct j_args *a, bool attr, bool want)
{
	struct j_val l, out = j_list(j, 0), path = j_none, name, e;
	struct j_list pos;
	struct j_args more;
	uint32_t i, k = attr;
	int id = -1;
	bool is;

	if (!j_true(v)) /* none, too, has nothing to choose from */
		return out;
	l = j_iter(j, v);
	if (attr)
		path = j_need(j, a, 0, NULL, "selectattr");
	if (a->pos->n > k) {
		name = a->pos->v[k];
		id = name.t == J_STR ? j_test_find(name.s, name.n) : -1;
		if (id < 0)
			j_fail(j, -EINVAL, "no such test");
	}
	more = after(a, &pos, k + 1);
	for (i = 0; i < l.l->n; i++) {
		j_step(j, 1);
		e = attr ? by_path(j, l.l->v[i], path) : l.l->v[i];
		is = id < 0 ? j_true(e) : j_test(j, id, e, &more);
		if (is == want)
			j_push(j, out, l.l->v[i]);
	}
	return out;
}

static struct j_val f_select(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	return pick(j, v, a, false, true);
}

static struct j_val f_reject(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	return pick(j, v, a, false, false);
}

static struct j_val f_selectattr(struct jinja *j, struct j_val v,
				 const struct j_args *a)
{
	return pick(j, v, a, true, true);
}

static struct j_val f_rejectattr(struct jinja *j, struct j_val v,
				 const struct j_args *a)
{
	return pick(j, v, a, true, false);
}

static struct j_val f_map(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	struct j_val l, out = j_list(j, 0), attr, dflt, e;
	struct j_list pos;
	struct j_args more = after(a, &pos, 1);
	uint32_t i;
	int id = -1;

	if (!j_true(v))
		return out;
	l = j_iter(j, v);
	attr = j_arg(j, a, UINT32_MAX, "attribute", j_none);
	dflt = j_arg(j, a, UINT32_MAX, "default", j_none);
	if (attr.t == J_NONE) {
		e = j_need(j, a, 0, NULL, "map");
		id = e.t == J_STR ? j_filter_find(e.s, e.n) : -1;
		if (id < 0)
			j_fail(j, -EINVAL, "map: no such filter");
	}
	for (i = 0; i < l.l->n; i++) {
		j_step(j, 1);
		if (id >= 0) {
			e = j_filter(j, id, l.l->v[i], &more);
		} else {
			e = by_path(j, l.l->v[i], attr);
			if (e.t == J_UNDEF && dflt.t != J_NONE)
				e = dflt;
		}
		j_push(j, out, e);
	}
	return out;
}

/* ---------------------------------------------------------------- numbers */

static struct j_val f_abs(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	(void)a;
	if (!j_is_num(v))
		j_fail(j, -EINVAL, "bad operand type for abs(): '%s'",
		       j_type_name(v));
	if (v.t == J_FLOAT)
		return j_float(fabs(v.d));
	return v.i < 0 ? j_binary(j, '-', j_int(0), v) : j_int(v.i);
}

/* A number's text without blanks; false if it is too long to be one. */
static bool number_text(struct j_val v, char *s, size_t n)
{
	v = j_strip(v, j_none, 3);
	if (!v.n || v.n >= n || memchr(v.s, 'x', v.n) || memchr(v.s, 'X', v.n))
		return false;
	memcpy(s, v.s, v.n);
	s[v.n] = 0;
	return true;
}

static struct j_val f_float(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val dflt = j_arg(j, a, 0, "default", j_float(0));
	char s[64], *e;
	double d;

	if (j_is_num(v))
		return j_float(j_num(v));
	if (v.t != J_STR || !number_text(v, s, sizeof(s)))
		return dflt;
	d = strtod(s, &e);
	return *e ? dflt : j_float(d);
}

static struct j_val f_int(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	struct j_val dflt = j_arg(j, a, 0, "default", j_int(0));
	int64_t base = int_arg(j, a, 1, "base", 10);
	char s[64], *e;
	double d;
	long long i;

	if (v.t == J_INT || v.t == J_BOOL)
		return j_int(v.i);
	if (v.t == J_STR) {
		if (base < 2 || base > 36 || !number_text(v, s, sizeof(s)))
			return dflt;
		errno = 0;
		i = strtoll(s, &e, (int)base);
		if (!*e && !errno)
			return j_int(i);
		d = strtod(s, &e);
		if (*e)
			return dflt;
	} else if (v.t == J_FLOAT) {
		d = v.d;
	} else {
		return dflt;
	}
	return fabs(d) < 9e18 ? j_int((int64_t)d) : dflt;
}

static struct j_val f_round(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	int64_t digits = int_arg(j, a, 0, "precision", 0);
	struct j_val how = j_arg(j, a, 1, "method", j_lit("common"));
	double k, d;

	if (!j_is_num(v))
		j_fail(j, -EINVAL, "round: a number is needed, not %s",
		       j_type_name(v));
	if (digits < -300 || digits > 300)
		return j_float(j_num(v));
	if (v.t != J_FLOAT && j_is(how, "common") && digits >= 0)
		return j_int(v.i);
	k = pow(10, (double)digits);
	d = j_num(v) * k;
	d = j_is(how, "ceil")	 ? ceil(d)
	    : j_is(how, "floor") ? floor(d)
				 : nearbyint(d);
	return j_float(d / k);
}

/* ---------------------------------------------------------------- strings */

static struct j_val lower(struct jinja *j, struct j_val v)
{
	const struct j_list none = { 0 };
	struct j_dict kw = { 0 };
	struct j_args a = { .pos = (struct j_list *)&none, .kw = &kw };
	struct j_val m;

	v = j_str(j, v);
	m = j_method(j, v, j_lit("lower"));
	return j_call_method(j, m, &a);
}

/* A filter that is a method of the string. */
static struct j_val as_method(struct jinja *j, struct j_val v, const char *name,
			      const struct j_args *a)
{
	v = j_str(j, v);
	return j_call_method(j, j_method(j, v, j_lit(name)), a);
}

static struct j_val f_lower(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	return as_method(j, v, "lower", a);
}

static struct j_val f_upper(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	return as_method(j, v, "upper", a);
}

static struct j_val f_capitalize(struct jinja *j, struct j_val v,
				 const struct j_args *a)
{
	return as_method(j, v, "capitalize", a);
}

/* Words begin after blanks, dashes and opening brackets. */
static struct j_val f_title(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val s = j_str(j, v);
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	struct j_buf b = { 0 };
	bool start = true;
	uint32_t cp;
	unsigned n;

	(void)a;
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp == UNI_BAD)
			j_add(j, &b, (const char *)p, n);
		else
			j_addc(j, &b, start ? uni_upper(cp) : uni_lower(cp));
		start = (uni_class(cp) & UC_WS) ||
			(cp < 128 && cp && strchr("-({[<", (int)cp));
	}
	return j_done(&b);
}

static struct j_val f_trim(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct j_val s = j_str(j, v);

	s.f &= JF_SAFE;
	return j_strip(s, j_arg(j, a, 0, "chars", j_none), 3);
}

static struct j_val f_replace(struct jinja *j, struct j_val v,
			      const struct j_args *a)
{
	return as_method(j, v, "replace", a);
}

static struct j_val f_string(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	(void)a;
	return j_str(j, v);
}

static struct j_val f_safe(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	(void)a;
	v = j_str(j, v);
	v.f |= JF_SAFE;
	return v;
}

static struct j_val f_escape(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	(void)a;
	return j_escape(j, v);
}

static struct j_val f_forceescape(struct jinja *j, struct j_val v,
				  const struct j_args *a)
{
	(void)a;
	v = j_str(j, v);
	v.f = 0;
	return j_escape(j, v);
}

static struct j_val f_format(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	struct j_val pos = { .t = J_LIST, .f = JF_TUPLE, .l = a->pos };
	struct j_val kw = { .t = J_DICT, .o = a->kw };

	return j_format(j, j_str(j, v), a->kw->n ? kw : pos);
}

static struct j_val f_indent(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	struct j_val w = j_arg(j, a, 0, "width", j_int(4)), s = j_str(j, v);
	bool first = flag_arg(j, a, 1, "first", false);
	bool blank = flag_arg(j, a, 2, "blank", false);
	const char *p = s.s, *e = s.s + s.n, *q;
	struct j_buf b = { 0 };
	struct j_val pad;

	pad = w.t == J_STR ? w
			   : j_binary(j, '*', j_lit(" "),
				      j_int(j_want_int(j, w, "indent")));
	for (; p <= e; p = q + 1) {
		q = p < e ? memchr(p, '\n', (size_t)(e - p)) : NULL;
		if (!q)
			q = e;
		if (p == s.s ? first : (blank || q > p))
			j_add(j, &b, pad.s, pad.n);
		j_add(j, &b, p, (size_t)(q - p));
		if (q < e)
			j_add(j, &b, "\n", 1);
	}
	return j_done(&b);
}

static struct j_val f_center(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	if (a->pos->n || a->kw->n)
		return as_method(j, v, "center", a);
	j_fail(j, -EINVAL, "center: an argument is missing");
}

static struct j_val f_wordcount(struct jinja *j, struct j_val v,
				const struct j_args *a)
{
	struct j_val s = j_str(j, v);
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	bool in = false, w;
	int64_t n = 0;
	uint32_t cp;

	(void)a;
	j_step(j, s.n);
	while (p < e) {
		p += utf8_get(p, e, &cp);
		w = cp == '_' || (uni_class(cp) & (UC_L | UC_N));
		n += w && !in;
		in = w;
	}
	return j_int(n);
}

static struct j_val f_truncate(struct jinja *j, struct j_val v,
			       const struct j_args *a)
{
	int64_t len = int_arg(j, a, 0, "length", 255);
	bool hard = flag_arg(j, a, 1, "killwords", false);
	struct j_val end = j_str(j, j_arg(j, a, 2, "end", j_lit("...")));
	int64_t leeway = int_arg(j, a, 3, "leeway", 5), keep;
	struct j_val s = j_str(j, v);
	const char *q;

	keep = len - (int64_t)j_chars(end);
	if (keep < 0 || leeway < 0)
		j_fail(j, -EINVAL, "truncate: %lld is too short",
		       (long long)len);
	if ((int64_t)j_chars(s) - leeway <= len)
		return s;
	s.n = (uint32_t)j_char_off(s, (uint64_t)keep);
	q = hard || !s.n ? NULL : memrchr(s.s, ' ', s.n);
	if (q)
		s.n = (uint32_t)(q - s.s);
	return j_cat(j, s, end);
}

static struct j_val f_striptags(struct jinja *j, struct j_val v,
				const struct j_args *a)
{
	struct j_val s = j_str(j, v), out;
	const char *p = s.s, *e = s.s + s.n, *q;
	struct j_buf b = { 0 };
	bool gap = false;

	(void)a;
	while (p < e) {
		q = *p == '<' ? memchr(p, '>', (size_t)(e - p)) : NULL;
		if (q) {
			p = q + 1;
		} else if (*p == ' ' || (*p >= '\t' && *p <= '\r')) {
			gap = true;
			p++;
		} else {
			if (gap && b.n)
				j_add(j, &b, " ", 1);
			gap = false;
			j_add(j, &b, p++, 1);
		}
		j_step(j, 1);
	}
	out = j_done(&b);
	return out;
}

static struct j_val f_urlencode(struct jinja *j, struct j_val v,
				const struct j_args *a)
{
	static const char hex[] = "0123456789ABCDEF";
	struct j_val s = j_str(j, v);
	struct j_buf b = { 0 };
	char x[3] = "%";
	uint8_t c;
	uint32_t i;

	(void)a;
	for (i = 0; i < s.n; i++) {
		c = (uint8_t)s.s[i];
		if ((c < 128 && (uni_class(c) & (UC_L | UC_N))) ||
		    (c && strchr("_.-~/", c))) {
			j_add(j, &b, s.s + i, 1);
			continue;
		}
		x[1] = hex[c >> 4];
		x[2] = hex[c & 15];
		j_add(j, &b, x, 3);
	}
	return j_done(&b);
}

/* ----------------------------------------------------------------- others */

static struct j_val f_default(struct jinja *j, struct j_val v,
			      const struct j_args *a)
{
	struct j_val d = j_arg(j, a, 0, "default_value", j_lit(""));

	if (v.t == J_UNDEF ||
	    (!j_true(v) && flag_arg(j, a, 1, "boolean", false)))
		return d;
	return v;
}

static struct j_val f_attr(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct j_val name = j_str(j, j_need(j, a, 0, "name", "attr"));
	struct j_val m;

	if (v.t == J_UNDEF || v.t == J_NS || v.t == J_LOOP || v.t == J_MACRO)
		return j_get_attr(j, v, name);
	m = j_method(j, v, name);
	return m.t == J_UNDEF ? j_undef(name.s, name.n) : m;
}

static struct j_val f_tojson(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	bool ascii = flag_arg(j, a, 0, "ensure_ascii", false);
	struct j_val indent = j_arg(j, a, 1, "indent", j_none);
	struct j_val sep = j_arg(j, a, 2, "separators", j_none);
	bool sort = flag_arg(j, a, 3, "sort_keys", false);

	if (indent.t == J_INT || indent.t == J_BOOL)
		indent = j_binary(j, '*', j_lit(" "), indent);
	return j_json(j, v, indent, sort, ascii, sep);
}

/* clang-format off */
static const struct {
	const char *name;
	filter_fn *fn;
} filters[] = {
	{ "abs", f_abs }, { "attr", f_attr }, { "batch", f_batch },
	{ "capitalize", f_capitalize }, { "center", f_center },
	{ "count", f_length }, { "d", f_default }, { "default", f_default },
	{ "dictsort", f_dictsort }, { "e", f_escape },
	{ "escape", f_escape }, { "first", f_first }, { "float", f_float },
	{ "forceescape", f_forceescape }, { "format", f_format },
	{ "groupby", f_groupby }, { "indent", f_indent }, { "int", f_int },
	{ "items", f_items }, { "join", f_join }, { "last", f_last },
	{ "length", f_length }, { "list", f_list }, { "lower", f_lower },
	{ "map", f_map }, { "max", f_max }, { "min", f_min },
	{ "reject", f_reject }, { "rejectattr", f_rejectattr },
	{ "replace", f_replace }, { "reverse", f_reverse },
	{ "round", f_round }, { "safe", f_safe }, { "select", f_select },
	{ "selectattr", f_selectattr }, { "slice", f_slice },
	{ "sort", f_sort }, { "string", f_string },
	{ "striptags", f_striptags }, { "sum", f_sum }, { "title", f_title },
	{ "tojson", f_tojson }, { "trim", f_trim },
	{ "truncate", f_truncate }, { "unique", f_unique },
	{ "upper", f_upper }, { "urlencode", f_urlencode },
	{ "wordcount", f_wordcount },
};
/* clang-format on */

int j_filter_find(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (strlen(filters[i].name) == n &&
		    !memcmp(filters[i].name, s, n))
			return (int)i;
	return -1;
}

struct j_val j_filter(struct jinja *j, int id, struct j_val v,
		      const struct j_args *a)
{
	struct j_val r;

	j_enter(j);
	r = filters[id].fn(j, v, a);
	j_leave(j);
	return r;
}
