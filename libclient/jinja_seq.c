/* SPDX-License-Identifier: MIT */
/*
 * jinja_seq.c - filters of lists and mappings: sorting, choosing, grouping.
 */
#include <errno.h>
#include <string.h>

#include "jinja_int.h"

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
		a = j_lower(j, a);
	if (o->fold && b.t == J_STR)
		b = j_lower(j, b);
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

	o.back = j_flag_arg(j, a, 0, "reverse", false);
	o.fold = !j_flag_arg(j, a, 1, "case_sensitive", false);
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

	o.fold = !j_flag_arg(j, a, 0, "case_sensitive", false);
	o.item = j_is(j_arg(j, a, 1, "by", j_lit("key")), "value");
	o.back = j_flag_arg(j, a, 2, "reverse", false);
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
	bool fold = !j_flag_arg(j, a, 0, "case_sensitive", false);
	struct j_val attr = j_arg(j, a, 1, "attribute", j_none);
	uint32_t i;

	for (i = 0; i < l.l->n; i++) {
		k = l.l->v[i];
		if (attr.t != J_NONE)
			k = by_path(j, k, attr);
		if (fold && k.t == J_STR)
			k = j_lower(j, k);
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

	o.fold = !j_flag_arg(j, a, 0, "case_sensitive", false);
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

/* clang-format off */
const struct j_filter_row j_seq_filters[] = {
	{ "batch", f_batch },
	{ "count", f_length },
	{ "dictsort", f_dictsort },
	{ "first", f_first },
	{ "groupby", f_groupby },
	{ "items", f_items },
	{ "join", f_join },
	{ "last", f_last },
	{ "length", f_length },
	{ "list", f_list },
	{ "map", f_map },
	{ "max", f_max },
	{ "min", f_min },
	{ "reject", f_reject },
	{ "rejectattr", f_rejectattr },
	{ "reverse", f_reverse },
	{ "select", f_select },
	{ "selectattr", f_selectattr },
	{ "slice", f_slice },
	{ "sort", f_sort },
	{ "sum", f_sum },
	{ "unique", f_unique },
	{ NULL, NULL },
};
/* clang-format on */
