/* SPDX-License-Identifier: MIT */
/*
 * jinja_eval.c - runs statements: scopes, loops, macros, output; and
 * jinja_render().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_int.h"

enum flow { GO, BREAK, CONTINUE };

static enum flow run(struct jinja *j, const struct j_node *n);

/* ----------------------------------------------------------------- output */

void j_emit(struct jinja *j, const char *s, size_t n)
{
	size_t cap, room = j->mem - j->used;
	char *p;

	j_step(j, n / 16);
	if (j->out_cap - j->out_n < n) {
		/* while it moves, the old one counts as well */
		cap = j->out_cap + j->out_cap / 2 + n + 256;
		if (cap > room)
			cap = j->out_n + n;
		if (cap > room)
			j_limit(j, "needs more than %zu bytes of memory",
				j->mem);
		p = realloc(j->out, cap);
		if (!p)
			j_fail(j, -ENOMEM, "out of memory");
		j->used += cap - j->out_cap;
		j->out = p;
		j->out_cap = cap;
	}
	if (n)
		memcpy(j->out + j->out_n, s, n);
	j->out_n += n;
}

size_t j_capture_begin(struct jinja *j)
{
	return j->out_n;
}

struct j_val j_capture_end(struct jinja *j, size_t mark)
{
	const char *from = j->out ? j->out + mark : "";
	struct j_val v = j_copy(j, from, j->out_n - mark);

	j_step(j, v.n / 16);
	j->out_n = mark;
	return v;
}

/* ----------------------------------------------------------------- scopes */

void j_scope_push(struct jinja *j, struct j_scope *s, struct j_scope *up)
{
	*s = (struct j_scope){ .up = up };
	j->scope = s;
}

static void set_in(struct jinja *j, struct j_scope *s, const char *name,
		   size_t n, struct j_val v)
{
	uint32_t i, cap;

	j_step(j, s->n / 8);
	for (i = 0; i < s->n; i++) {
		if (s->var[i].n == n && !memcmp(s->var[i].name, name, n)) {
			s->var[i].v = v;
			return;
		}
	}
	if (s->n == s->cap) {
		cap = s->cap ? 2 * s->cap : 4;
		s->var = j_grow(j, s->var, s->n * sizeof(*s->var),
				cap * sizeof(*s->var));
		s->cap = cap;
	}
	s->var[s->n++] =
		(struct j_var){ .name = name, .n = (uint32_t)n, .v = v };
}

void j_set(struct jinja *j, const char *name, size_t n, struct j_val v)
{
	set_in(j, j->scope, name, n, v);
}

static void assign(struct jinja *j, const struct j_node *t, struct j_val v)
{
	const struct j_node *e;
	struct j_val l, ns;
	uint32_t i = 0;

	switch (t->kind) {
	case N_NAME:
		j_set(j, t->v.s, t->v.n, v);
		return;
	case N_ATTR:
		ns = j_eval(j, t->a);
		if (ns.t != J_NS)
			j_fail(j, -EINVAL,
			       "cannot assign attribute on "
			       "non-namespace object");
		j_put(j, ns, t->v, v);
		return;
	default:
		l = j_iter(j, v);
		for (e = t->list; e; e = e->next, i++) {
			if (i >= l.l->n)
				j_fail(j, -EINVAL,
				       "not enough values to "
				       "unpack (got %u)",
				       l.l->n);
			assign(j, e, l.l->v[i]);
		}
		if (i < l.l->n)
			j_fail(j, -EINVAL,
			       "too many values to unpack "
			       "(expected %u)",
			       i);
	}
}

/* A block in a scope of its own, rendered to a value. */
static struct j_val capture(struct jinja *j, const struct j_node *list)
{
	struct j_scope *s = j_alloc(j, sizeof(*s)), *up = j->scope;
	size_t mark = j_capture_begin(j);

	j_scope_push(j, s, up);
	run(j, list);
	j->scope = up;
	return j_capture_end(j, mark);
}

static struct j_val captured(struct jinja *j, const struct j_node *n)
{
	struct j_val old = j->captured, v;

	v = capture(j, n->list);
	j->captured = v;
	v = j_eval(j, n->b);
	j->captured = old;
	return v;
}

/* ------------------------------------------------------------------ loops */

/* Elements that pass the loop's condition. */
static struct j_val chosen(struct jinja *j, const struct j_node *n,
			   struct j_val items)
{
	struct j_scope *up = j->scope, s;
	struct j_val l;
	uint32_t i;

	if (!n->c)
		return items;
	l = j_list(j, 0);
	j_scope_push(j, &s, up);
	for (i = 0; i < items.l->n; i++) {
		assign(j, n->a, items.l->v[i]);
		if (j_true(j_eval(j, n->c)))
			j_push(j, l, items.l->v[i]);
	}
	j->scope = up;
	return l;
}

static void loop(struct jinja *j, const struct j_node *n, struct j_val over,
		 uint32_t depth)
{
	struct j_scope *up = j->scope, *s = j_alloc(j, sizeof(*s));
	struct j_val items = chosen(j, n, j_iter(j, over));
	struct j_loop *l = j_zalloc(j, sizeof(*l));
	struct j_val self = { .t = J_LOOP, .loop = l };
	enum flow f = GO;

	l->items = items.l;
	l->depth = depth;
	l->node = n;
	l->changed = j_undef("", 0);
	j_scope_push(j, s, up);
	for (; l->i < l->items->n && f != BREAK; l->i++) {
		j_step(j, 1);
		s->n = 0;
		j_set(j, "loop", 4, self);
		assign(j, n->a, l->items->v[l->i]);
		f = run(j, n->list);
	}
	j->scope = up;
	if (!l->items->n && n->d)
		run(j, n->d->list);
}

struct j_val j_call_loop(struct jinja *j, struct j_loop *l, struct j_val items)
{
	size_t mark = j_capture_begin(j);

	loop(j, l->node, items, l->depth + 1);
	return j_capture_end(j, mark);
}

/* ----------------------------------------------------------------- macros */

static struct j_val *given(struct jinja *j, const struct j_args *a, uint32_t i,
			   struct j_val name)
{
	struct j_val kw = { .t = J_DICT, .o = a->kw };

	if (i < a->pos->n)
		return &a->pos->v[i];
	return a->kw->n ? j_find(j, kw, name) : NULL;
}

static bool is_param(const struct j_node *p, struct j_val name)
{
	for (; p; p = p->next)
		if (p->v.n == name.n && !memcmp(p->v.s, name.s, name.n))
			return true;
	return false;
}

/* Arguments that no parameter takes. */
static void rest(struct jinja *j, const struct j_macro *m,
		 const struct j_args *a, uint32_t n, struct j_val *caller)
{
	struct j_val var = j_list(j, 0), kw = j_dict(j);
	uint32_t i;

	var.f = JF_TUPLE;
	for (i = n; i < a->pos->n; i++)
		j_push(j, var, a->pos->v[i]);
	for (i = 0; i < a->kw->n; i++) {
		if (j_is(a->kw->e[i].k, "caller"))
			*caller = a->kw->e[i].v;
		else if (!is_param(m->node->a, a->kw->e[i].k))
			j_put(j, kw, a->kw->e[i].k, a->kw->e[i].v);
	}
	j_set(j, "varargs", 7, var);
	j_set(j, "kwargs", 6, kw);
}

struct j_val j_call_macro(struct jinja *j, const struct j_macro *m,
			  const struct j_args *a)
{
	struct j_scope *up = j->scope, *s = j_alloc(j, sizeof(*s));
	struct j_val v, *g, caller = j_undef("caller", 6);
	size_t mark = j_capture_begin(j);
	const struct j_node *p;
	uint32_t line = j->line, i = 0, n = 0;

	j_enter(j);
	for (p = m->node->a; p; p = p->next)
		n++;
	j_scope_push(j, s, m->scope);
	rest(j, m, a, n, &caller);
	j_set(j, "caller", 6, caller);
	for (p = m->node->a; p; p = p->next, i++) {
		g = given(j, a, i, p->v);
		v = g ? *g : p->a ? j_eval(j, p->a) : j_undef(p->v.s, p->v.n);
		j_set(j, p->v.s, p->v.n, v);
	}
	run(j, m->node->list);
	j->scope = up;
	j->line = line;
	j_leave(j);
	return j_capture_end(j, mark);
}

static struct j_val macro(struct jinja *j, const struct j_node *n)
{
	struct j_val v = { .t = J_MACRO };

	v.m = j_zalloc(j, sizeof(*v.m));
	v.m->node = n;
	v.m->scope = j->scope;
	return v;
}

/* {% call f(x) %}: f gets the block as a macro named caller. */
static void call_block(struct jinja *j, const struct j_node *n)
{
	struct j_node kw = { .kind = N_KW, .v = j_lit("caller") };
	struct j_node val = { .kind = N_CONST, .v = macro(j, n) };
	struct j_node c = *n->b;
	struct j_val v;

	kw.a = &val;
	kw.next = c.list;
	c.list = &kw;
	v = j_str(j, j_eval(j, &c));
	j_emit(j, v.s, v.n);
}

/* ------------------------------------------------------------- statements */

static enum flow branch(struct jinja *j, const struct j_node *n)
{
	for (; n; n = n->b) {
		j_step(j, 1);
		j->line = n->line;
		if (n->kind == N_ELSE || j_true(j_eval(j, n->a)))
			return run(j, n->list);
	}
	return GO;
}

static void with(struct jinja *j, const struct j_node *n, enum flow *f)
{
	struct j_scope *up = j->scope, *s = j_alloc(j, sizeof(*s)), *in;
	const struct j_node *k;
	struct j_val v;

	j_scope_push(j, s, up);
	in = s;
	for (k = n->a; k; k = k->next) {
		/* values see what is outside, not each other */
		j->scope = up;
		v = j_eval(j, k->b);
		j->scope = in;
		assign(j, k->a, v);
	}
	*f = run(j, n->list);
	j->scope = up;
}

static enum flow statement(struct jinja *j, const struct j_node *n)
{
	enum flow f = GO;
	struct j_val v;

	switch (n->kind) {
	case N_TEXT:
		j_emit(j, n->v.s, n->v.n);
		break;
	case N_OUT:
		v = j_eval(j, n->a);
		if (n->op)
			break;
		v = j_str(j, v);
		j_emit(j, v.s, v.n);
		break;
	case N_IF:
		return branch(j, n);
	case N_FOR:
		loop(j, n, j_eval(j, n->b), 0);
		break;
	case N_SET:
		v = j_eval(j, n->b);
		j->line = n->line;
		assign(j, n->a, v);
		break;
	case N_SETBLOCK:
		assign(j, n->a, captured(j, n));
		break;
	case N_MACRO:
		j_set(j, n->v.s, n->v.n, macro(j, n));
		break;
	case N_CALLBLOCK:
		call_block(j, n);
		break;
	case N_FILTERBLOCK:
		v = j_str(j, captured(j, n));
		j_emit(j, v.s, v.n);
		break;
	case N_WITH:
		with(j, n, &f);
		return f;
	case N_BLOCK:
		v = capture(j, n->list);
		j_emit(j, v.s, v.n);
		break;
	case N_BREAK:
		return BREAK;
	case N_CONTINUE:
		return CONTINUE;
	default:
		j_fail(j, -EINVAL, "not a statement");
	}
	return GO;
}

static enum flow run(struct jinja *j, const struct j_node *n)
{
	enum flow f = GO;

	j_enter(j);
	for (; n && f == GO; n = n->next) {
		j_step(j, 1);
		j->line = n->line;
		f = statement(j, n);
	}
	j_leave(j);
	return f;
}

/* -------------------------------------------------------------- rendering */

static void render(struct jinja *j, const char *tmpl, size_t n,
		   const char *const *vars, const size_t *n_vars, size_t k)
{
	struct j_scope *global = j_alloc(j, sizeof(*global));
	struct j_scope *top = j_alloc(j, sizeof(*top));
	const struct j_node *list;
	struct j_val v;
	uint32_t e;
	size_t i;

	j_scope_push(j, global, NULL);
	j_globals(j);
	j_scope_push(j, top, global);
	for (i = 0; i < k; i++) {
		v = j_json_read(j, vars[i], n_vars[i]);
		if (v.t != J_DICT)
			j_fail(j, -EINVAL, "variables: not a JSON object");
		for (e = 0; e < v.o->n; e++)
			j_set(j, v.o->e[e].k.s, v.o->e[e].k.n, v.o->e[e].v);
	}
	list = j_parse(j, tmpl, n);
	j->line = 0;
	run(j, list);
}

int jinja_render(const char *tmpl, size_t n, const char *const *vars,
		 const size_t *n_vars, size_t k, const struct jinja_limits *lim,
		 char **out, size_t *out_n, char *why, size_t why_n)
{
	struct jinja *j;
	size_t i, in = n;
	int err;

	*out = NULL;
	*out_n = 0;
	if (why_n)
		why[0] = 0;
	for (i = 0; i < k; i++)
		in += n_vars[i];
	if (in > UINT32_MAX / 4) {
		snprintf(why, why_n, "template and variables have %zu bytes",
			 in);
		return -E2BIG;
	}
	/* on the heap: locals do not survive the jump */
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->why = why;
	j->why_n = why_n;
	j->mem = lim->mem ? lim->mem : JINJA_MEM + 64 * in;
	j->steps = lim->steps ? lim->steps : JINJA_STEPS;
	j->now = lim->now;
	if (!setjmp(j->jmp)) {
		render(j, tmpl, n, vars, n_vars, k);
		j_emit(j, "", 1);
		*out = j->out;
		*out_n = j->out_n - 1;
		j->out = NULL;
	}
	err = j->err;
	j_free(j);
	free(j);
	return err;
}
