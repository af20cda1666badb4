/* SPDX-License-Identifier: MIT */
/*
 * jinja_expr.c - what expressions are worth.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

/* ------------------------------------------------------------- arithmetic */

static _Noreturn void no_op(struct jinja *j, const char *op, struct j_val a,
			    struct j_val b)
{
	if (a.t == J_UNDEF || b.t == J_UNDEF) {
		if (a.t != J_UNDEF)
			a = b;
		j_fail(j, -EINVAL, "'%.*s' is undefined",
		       (int)(a.n > 60 ? 60 : a.n), a.s ? a.s : "");
	}
	j_fail(j, -EINVAL, "unsupported operand type(s) for %s: '%s' and '%s'",
	       op, j_type_name(a), j_type_name(b));
}

static struct j_val repeat(struct jinja *j, struct j_val v, int64_t times)
{
	struct j_buf b = { 0 };
	struct j_val l;
	int64_t i;
	uint32_t k;

	if (times < 0)
		times = 0;
	if (v.t == J_STR) {
		if (times && v.n > UINT32_MAX / 2 / (uint64_t)times)
			j_limit(j, "a string of %lld times %u bytes",
				(long long)times, v.n);
		for (i = 0; i < times && v.n; i++)
			j_add(j, &b, v.s, v.n);
		return j_done(&b);
	}
	l = j_list(j, 0);
	l.f = v.f;
	for (i = 0; i < times && v.l->n; i++) {
		j_step(j, v.l->n);
		for (k = 0; k < v.l->n; k++)
			j_push(j, l, v.l->v[k]);
	}
	return l;
}

static struct j_val add(struct jinja *j, struct j_val a, struct j_val b)
{
	struct j_val v;
	uint32_t i;

	if (a.t == J_STR && b.t == J_STR) {
		if (!((a.f | b.f) & JF_SAFE))
			return j_cat(j, a, b);
		v = j_cat(j, j_escape(j, a), j_escape(j, b));
		v.f |= JF_SAFE;
		return v;
	}
	if (a.t != J_LIST || b.t != J_LIST ||
	    (a.f & JF_TUPLE) != (b.f & JF_TUPLE))
		no_op(j, "+", a, b);
	j_step(j, (size_t)a.l->n + b.l->n);
	v = j_list(j, (size_t)a.l->n + b.l->n);
	v.f = a.f;
	for (i = 0; i < a.l->n; i++)
		j_push(j, v, a.l->v[i]);
	for (i = 0; i < b.l->n; i++)
		j_push(j, v, b.l->v[i]);
	return v;
}

static struct j_val power(struct jinja *j, int64_t a, int64_t b)
{
	int64_t r = 1;

	while (b) {
		if ((b & 1) && __builtin_mul_overflow(r, a, &r))
			j_fail(j, -EINVAL, "a number is too large");
		b >>= 1;
		if (b && __builtin_mul_overflow(a, a, &a))
			j_fail(j, -EINVAL, "a number is too large");
	}
	return j_int(r);
}

static struct j_val whole(struct jinja *j, unsigned op, int64_t a, int64_t b)
{
	int64_t r = 0;
	bool over = false;

	switch (op) {
	case '+':
		over = __builtin_add_overflow(a, b, &r);
		break;
	case '-':
		over = __builtin_sub_overflow(a, b, &r);
		break;
	case '*':
		over = __builtin_mul_overflow(a, b, &r);
		break;
	case OP_POW:
		return power(j, a, b);
	default:
		if (!b)
			j_fail(j, -EINVAL, "division by zero");
		if (b == -1) {
			over = op == OP_FLOORDIV &&
			       __builtin_sub_overflow((int64_t)0, a, &r);
			break;
		}
		/* towards minus infinity, as Python */
		r = op == '%' ? a % b : a / b;
		if (a % b && (a % b < 0) != (b < 0))
			r += op == '%' ? b : -1;
	}
	if (over)
		j_fail(j, -EINVAL, "a number is too large");
	return j_int(r);
}

static struct j_val real(struct jinja *j, unsigned op, double a, double b)
{
	double r;

	switch (op) {
	case '+':
		return j_float(a + b);
	case '-':
		return j_float(a - b);
	case '*':
		return j_float(a * b);
	case OP_POW:
		return j_float(pow(a, b));
	default:
		if (b == 0)
			j_fail(j, -EINVAL, "division by zero");
		if (op == '/')
			return j_float(a / b);
		if (op == OP_FLOORDIV)
			return j_float(floor(a / b));
		r = fmod(a, b);
		return j_float(r != 0 && (r < 0) != (b < 0) ? r + b : r);
	}
}

struct j_val j_binary(struct jinja *j, unsigned op, struct j_val a,
		      struct j_val b)
{
	char name[3] = { (char)op, 0, 0 };

	if (op == OP_FLOORDIV)
		memcpy(name, "//", 3);
	if (op == OP_POW)
		memcpy(name, "**", 3);
	if (op == '%' && a.t == J_STR)
		return j_format(j, a, b);
	if (j_is_num(a) && j_is_num(b)) {
		if (a.t == J_FLOAT || b.t == J_FLOAT || op == '/' ||
		    (op == OP_POW && b.i < 0))
			return real(j, op, j_num(a), j_num(b));
		return whole(j, op, a.i, b.i);
	}
	if (op == '+')
		return add(j, a, b);
	if (op == '*' && (a.t == J_STR || a.t == J_LIST) &&
	    (b.t == J_INT || b.t == J_BOOL))
		return repeat(j, a, b.i);
	if (op == '*' && (b.t == J_STR || b.t == J_LIST) &&
	    (a.t == J_INT || a.t == J_BOOL))
		return repeat(j, b, a.i);
	no_op(j, name, a, b);
}

struct j_val j_compare(struct jinja *j, unsigned op, struct j_val a,
		       struct j_val b)
{
	switch (op) {
	case OP_EQ:
		return j_bool(j_equal(j, a, b));
	case OP_NE:
		return j_bool(!j_equal(j, a, b));
	case OP_IN:
		return j_bool(j_in(j, a, b));
	case OP_NOT_IN:
		return j_bool(!j_in(j, a, b));
	case '<':
		return j_bool(j_order(j, a, b, "<") < 0);
	case '>':
		return j_bool(j_order(j, a, b, ">") > 0);
	case OP_LE:
		return j_bool(j_order(j, a, b, "<=") <= 0);
	default:
		return j_bool(j_order(j, a, b, ">=") >= 0);
	}
}

/* -------------------------------------------------------------- accessing */

static struct j_val loop_attr(struct jinja *j, struct j_loop *l,
			      struct j_val name)
{
	uint32_t n = l->items->n, i = l->i;
	const struct {
		const char *name;
		struct j_val v;
	} at[] = {
		{ "index", j_int((int64_t)i + 1) },
		{ "index0", j_int(i) },
		{ "revindex", j_int((int64_t)n - i) },
		{ "revindex0", j_int((int64_t)n - i - 1) },
		{ "first", j_bool(!i) },
		{ "last", j_bool(i + 1 >= n) },
		{ "length", j_int(n) },
		{ "depth", j_int((int64_t)l->depth + 1) },
		{ "depth0", j_int(l->depth) },
		{ "previtem", i ? l->items->v[i - 1] : j_undef("previtem", 8) },
		{ "nextitem",
		  i + 1 < n ? l->items->v[i + 1] : j_undef("nextitem", 8) },
	};
	size_t k;

	(void)j;
	for (k = 0; k < sizeof(at) / sizeof(at[0]); k++)
		if (j_is(name, at[k].name))
			return at[k].v;
	return j_undef(name.s, name.n);
}

static _Noreturn void undefined(struct jinja *j, struct j_val v)
{
	j_fail(j, -EINVAL, "'%.*s' is undefined", (int)(v.n > 60 ? 60 : v.n),
	       v.s ? v.s : "");
}

struct j_val j_get_attr(struct jinja *j, struct j_val v, struct j_val name)
{
	struct j_val m, *e;

	if (v.t == J_UNDEF)
		undefined(j, v);
	m = j_method(j, v, name);
	if (m.t != J_UNDEF)
		return m;
	if (v.t == J_LOOP)
		return loop_attr(j, v.loop, name);
	if (v.t == J_DICT || v.t == J_NS) {
		e = j_find(j, v, name);
		if (e)
			return *e;
	}
	if (v.t == J_MACRO && j_is(name, "name"))
		return v.m->node->v;
	return j_undef(name.s, name.n);
}

struct j_val j_get_item(struct jinja *j, struct j_val v, struct j_val key)
{
	struct j_val *e;
	size_t off, end;
	int64_t i, n;

	if (v.t == J_UNDEF)
		undefined(j, v);
	if (v.t == J_DICT) {
		e = j_find(j, v, key);
		if (e)
			return *e;
	}
	if ((v.t == J_STR || v.t == J_LIST) &&
	    (key.t == J_INT || key.t == J_BOOL)) {
		n = (int64_t)j_len(j, v);
		i = key.i < 0 ? key.i + n : key.i;
		if (i < 0 || i >= n)
			return j_undef("element", 7);
		if (v.t == J_LIST)
			return v.l->v[i];
		off = j_char_off(v, (uint64_t)i);
		end = off + j_char_off(j_strn(v.s + off, v.n - off), 1);
		return j_strn(v.s + off, end - off);
	}
	if (key.t == J_STR)
		return j_get_attr(j, v, key);
	return j_undef("element", 7);
}

/* A bound of a slice, as Python clips it. */
static int64_t bound(struct jinja *j, const struct j_node *n, int64_t len,
		     int64_t dflt, bool back)
{
	struct j_val v = n ? j_eval(j, n) : j_none;
	int64_t i;

	if (v.t == J_NONE)
		return dflt;
	if (v.t != J_INT && v.t != J_BOOL)
		j_fail(j, -EINVAL, "slice indices must be integers or None");
	i = v.i;
	if (i < 0) {
		i += len;
		if (i < 0)
			i = back ? -1 : 0;
	} else if (i >= len) {
		i = back ? len - 1 : len;
	}
	return i;
}

static struct j_val slice(struct jinja *j, const struct j_node *n)
{
	struct j_val v = j_eval(j, n->a), step, l, out;
	struct j_buf b = { 0 };
	int64_t len, k, from, to, i;
	size_t off;

	step = n->d ? j_eval(j, n->d) : j_none;
	if (v.t == J_UNDEF)
		undefined(j, v);
	if (v.t != J_STR && v.t != J_LIST)
		j_fail(j, -EINVAL, "'%s' object is not subscriptable",
		       j_type_name(v));
	k = step.t == J_NONE ? 1 : j_want_int(j, step, "slice");
	if (!k)
		j_fail(j, -EINVAL, "slice step cannot be zero");
	len = (int64_t)j_len(j, v);
	from = bound(j, n->b, len, k > 0 ? 0 : len - 1, k < 0);
	to = bound(j, n->c, len, k > 0 ? len : -1, k < 0);
	if (v.t == J_STR && k == 1) {
		if (from >= to)
			return j_strn("", 0);
		off = j_char_off(v, (uint64_t)from);
		l = j_strn(v.s + off, v.n - off);
		l.n = (uint32_t)j_char_off(l, (uint64_t)(to - from));
		l.f = v.f & JF_SAFE;
		return l;
	}
	l = j_iter(j, v);
	out = j_list(j, 0);
	out.f = v.f & JF_TUPLE;
	for (i = from; k > 0 ? i < to : i > to;) {
		j_step(j, 1);
		if (v.t == J_STR)
			j_add(j, &b, l.l->v[i].s, l.l->v[i].n);
		else
			j_push(j, out, l.l->v[i]);
		if (__builtin_add_overflow(i, k, &i))
			break;
	}
	return v.t == J_STR ? j_done(&b) : out;
}

static struct j_val *lookup(struct jinja *j, const char *s, size_t n)
{
	struct j_scope *sc;
	uint32_t i;

	for (sc = j->scope; sc; sc = sc->up) {
		j_step(j, 1 + sc->n / 8);
		for (i = sc->n; i-- > 0;)
			if (sc->var[i].n == n && !memcmp(sc->var[i].name, s, n))
				return &sc->var[i].v;
	}
	return NULL;
}

/* ---------------------------------------------------------------- calling */

static void collect(struct jinja *j, const struct j_node *n, struct j_val pos,
		    struct j_val kw)
{
	struct j_val v, k;
	uint32_t i;

	for (; n; n = n->next) {
		switch (n->kind) {
		case N_KW:
			j_put(j, kw, n->v, j_eval(j, n->a));
			break;
		case N_STAR:
			v = j_iter(j, j_eval(j, n->a));
			for (i = 0; i < v.l->n; i++)
				j_push(j, pos, v.l->v[i]);
			break;
		case N_STARS:
			v = j_eval(j, n->a);
			if (v.t != J_DICT)
				j_fail(j, -EINVAL,
				       "argument after ** must be "
				       "a mapping");
			for (i = 0; i < v.o->n; i++) {
				k = v.o->e[i].k;
				j_put(j, kw, k, v.o->e[i].v);
			}
			break;
		default:
			j_push(j, pos, j_eval(j, n));
		}
	}
}

static struct j_args args_of(struct jinja *j, const struct j_node *list)
{
	static struct j_list no_pos;
	static struct j_dict no_kw;
	struct j_val pos, kw;

	if (!list)
		return (struct j_args){ .pos = &no_pos, .kw = &no_kw };
	pos = j_list(j, 0);
	kw = j_dict(j);
	collect(j, list, pos, kw);
	return (struct j_args){ .pos = pos.l, .kw = kw.o };
}

struct j_val j_call(struct jinja *j, struct j_val f, const struct j_args *a)
{
	switch (f.t) {
	case J_FUNC:
		return j_call_global(j, f, a);
	case J_METHOD:
		return j_call_method(j, f, a);
	case J_MACRO:
		return j_call_macro(j, f.m, a);
	case J_LOOP:
		if (!f.loop->node->op || !a->pos->n)
			j_fail(j, -EINVAL, "the loop is not recursive");
		return j_call_loop(j, f.loop, a->pos->v[0]);
	case J_UNDEF:
		undefined(j, f);
	default:
		j_fail(j, -EINVAL, "'%s' object is not callable",
		       j_type_name(f));
	}
}

static struct j_val call(struct jinja *j, const struct j_node *n)
{
	struct j_val f = j_eval(j, n->a);
	struct j_args a = args_of(j, n->list);

	j->line = n->line;
	return j_call(j, f, &a);
}

static struct j_val filter(struct jinja *j, const struct j_node *n)
{
	struct j_val v = j_eval(j, n->a);
	struct j_args a = args_of(j, n->list);

	j->line = n->line;
	if (n->id < 0)
		j_fail(j, -EINVAL, "no filter named '%.*s'",
		       (int)(n->v.n > 60 ? 60 : n->v.n), n->v.s);
	return j_filter(j, n->id, v, &a);
}

static struct j_val test(struct jinja *j, const struct j_node *n)
{
	struct j_val v = j_eval(j, n->a);
	struct j_args a = args_of(j, n->list);

	j->line = n->line;
	if (n->id < 0)
		j_fail(j, -EINVAL, "no test named '%.*s'",
		       (int)(n->v.n > 60 ? 60 : n->v.n), n->v.s);
	return j_bool(j_test(j, n->id, v, &a) != (bool)n->op);
}

/* ------------------------------------------------------------- evaluating */

static struct j_val literal(struct jinja *j, const struct j_node *n)
{
	const struct j_node *e;
	struct j_val v, k;

	if (n->kind == N_DICT) {
		v = j_dict(j);
		for (e = n->list; e; e = e->next->next) {
			k = j_eval(j, e);
			j_put(j, v, k, j_eval(j, e->next));
		}
		return v;
	}
	v = j_list(j, 0);
	if (n->kind == N_TUPLE)
		v.f = JF_TUPLE;
	for (e = n->list; e; e = e->next)
		j_push(j, v, j_eval(j, e));
	return v;
}

static struct j_val chain(struct jinja *j, const struct j_node *n)
{
	struct j_val a = j_eval(j, n->a), b, r = j_bool(true);
	const struct j_node *k;

	for (k = n->list; k && j_true(r); k = k->next) {
		b = j_eval(j, k->a);
		j->line = k->line;
		r = j_compare(j, k->op, a, b);
		a = b;
	}
	return r;
}

static struct j_val sign(struct jinja *j, const struct j_node *n)
{
	struct j_val v = j_eval(j, n->a);

	if (!j_is_num(v))
		no_op(j, n->kind == N_NEG ? "unary -" : "unary +", v, v);
	if (n->kind == N_POS)
		return v.t == J_BOOL ? j_int(v.i) : v;
	if (v.t == J_FLOAT)
		return j_float(-v.d);
	return j_binary(j, '-', j_int(0), v);
}

static struct j_val name(struct jinja *j, const struct j_node *n)
{
	struct j_val *v = lookup(j, n->v.s, n->v.n);

	return v ? *v : j_undef(n->v.s, n->v.n);
}

static struct j_val eval(struct jinja *j, const struct j_node *n)
{
	struct j_val v, w;

	switch (n->kind) {
	case N_CONST:
		return n->v;
	case N_NAME:
		return name(j, n);
	case N_LIST:
	case N_TUPLE:
	case N_DICT:
		return literal(j, n);
	case N_BIN:
		v = j_eval(j, n->a);
		w = j_eval(j, n->b);
		j->line = n->line;
		return j_binary(j, n->op, v, w);
	case N_CONCAT:
		v = j_str(j, j_eval(j, n->a));
		return j_cat(j, v, j_str(j, j_eval(j, n->b)));
	case N_AND:
		v = j_eval(j, n->a);
		return j_true(v) ? j_eval(j, n->b) : v;
	case N_OR:
		v = j_eval(j, n->a);
		return j_true(v) ? v : j_eval(j, n->b);
	case N_NOT:
		return j_bool(!j_true(j_eval(j, n->a)));
	case N_NEG:
	case N_POS:
		return sign(j, n);
	case N_CMP:
		return chain(j, n);
	case N_COND:
		if (j_true(j_eval(j, n->b)))
			return j_eval(j, n->a);
		return n->c ? j_eval(j, n->c)
			    : j_undef("the inline if-expression without else",
				      37);
	case N_ATTR:
		v = j_eval(j, n->a);
		j->line = n->line;
		return j_get_attr(j, v, n->v);
	case N_ITEM:
		v = j_eval(j, n->a);
		w = j_eval(j, n->b);
		j->line = n->line;
		return j_get_item(j, v, w);
	case N_SLICE:
		return slice(j, n);
	case N_CALL:
		return call(j, n);
	case N_FILTER:
		return filter(j, n);
	case N_TEST:
		return test(j, n);
	case N_CAPTURED:
		return j->captured;
	default:
		j_fail(j, -EINVAL, "not an expression");
	}
}

struct j_val j_eval(struct jinja *j, const struct j_node *n)
{
	struct j_val v;

	j_enter(j);
	v = eval(j, n);
	j_leave(j);
	return v;
}
