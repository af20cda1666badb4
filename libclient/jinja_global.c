/* SPDX-License-Identifier: MIT */
/*
 * jinja_global.c - functions that every template may call.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "jinja_int.h"

typedef struct j_val global_fn(struct jinja *j, const struct j_args *a);

static struct j_val g_range(struct jinja *j, const struct j_args *a)
{
	int64_t from = 0, to, step = 1, i;
	struct j_val l = j_list(j, 0);

	to = j_want_int(j, j_need(j, a, 0, NULL, "range"), "range");
	if (a->pos->n > 1) {
		from = to;
		to = j_want_int(j, a->pos->v[1], "range");
	}
	if (a->pos->n > 2)
		step = j_want_int(j, a->pos->v[2], "range");
	if (!step)
		j_fail(j, -EINVAL, "range() arg 3 must not be zero");
	for (i = from; step > 0 ? i < to : i > to;) {
		j_step(j, 1);
		j_push(j, l, j_int(i));
		if (__builtin_add_overflow(i, step, &i))
			break;
	}
	return l;
}

static struct j_val g_dict(struct jinja *j, const struct j_args *a)
{
	struct j_val o = j_dict(j), src = j_arg(j, a, 0, NULL, j_none), e;
	uint32_t i;

	if (src.t == J_DICT) {
		for (i = 0; i < src.o->n; i++)
			j_put(j, o, src.o->e[i].k, src.o->e[i].v);
	} else if (src.t == J_LIST) {
		for (i = 0; i < src.l->n; i++) {
			e = src.l->v[i];
			if (e.t != J_LIST || e.l->n != 2)
				j_fail(j, -EINVAL,
				       "dict: element %u is no "
				       "pair",
				       i);
			j_put(j, o, e.l->v[0], e.l->v[1]);
		}
	}
	for (i = 0; i < a->kw->n; i++)
		j_put(j, o, a->kw->e[i].k, a->kw->e[i].v);
	return o;
}

static struct j_val g_namespace(struct jinja *j, const struct j_args *a)
{
	struct j_val o = g_dict(j, a);

	o.t = J_NS;
	return o;
}

static struct j_val g_raise(struct jinja *j, const struct j_args *a)
{
	struct j_val s =
		j_str(j, j_need(j, a, 0, "message", "raise_exception"));

	j_fail(j, -EINVAL, "%.*s", (int)(s.n > 1000 ? 1000 : s.n), s.s);
}

static struct j_val g_strftime(struct jinja *j, const struct j_args *a)
{
	struct j_val f = j_str(j, j_need(j, a, 0, "format", "strftime_now"));
	time_t t = (time_t)j->now;
	char fmt[128], out[512];
	struct tm tm;
	size_t n;

	if (f.n >= sizeof(fmt) || memchr(f.s, 0, f.n))
		j_fail(j, -EINVAL, "strftime_now: the format is too long");
	memcpy(fmt, f.s, f.n);
	fmt[f.n] = 0;
	if (!localtime_r(&t, &tm))
		j_fail(j, -EINVAL, "strftime_now: the clock is out of range");
	n = strftime(out, sizeof(out), fmt, &tm);
	return j_copy(j, out, n);
}

/* clang-format off */
static const struct {
	const char *name;
	global_fn *fn;
} globals[] = {
	{ "range", g_range },
	{ "dict", g_dict },
	{ "namespace", g_namespace },
	{ "raise_exception", g_raise },
	{ "strftime_now", g_strftime },
};
/* clang-format on */

void j_globals(struct jinja *j)
{
	struct j_val f = { .t = J_FUNC };
	size_t i;

	for (i = 0; i < sizeof(globals) / sizeof(globals[0]); i++) {
		f.id = (uint16_t)i;
		j_set(j, globals[i].name, strlen(globals[i].name), f);
	}
}

struct j_val j_call_global(struct jinja *j, struct j_val f,
			   const struct j_args *a)
{
	return globals[f.id].fn(j, a);
}
