/* SPDX-License-Identifier: MIT */
/*
 * jinja_pexpr.c - expressions of a template, as nodes in the arena.
 */
#include <errno.h>
#include <string.h>

#include "jinja_parse.h"

static struct j_node *two(struct parser *p, enum j_kind kind, unsigned op,
			  struct j_node *a, struct j_node *b)
{
	struct j_node *n = p_node(p, kind);

	n->op = (uint8_t)op;
	n->a = a;
	n->b = b;
	return n;
}

/* ---------------------------------------------------------------- primary */

static struct j_node *list_until(struct parser *p, struct j_node *n, char end)
{
	struct j_node **tail = &n->list;

	while (!p_take_op(p, (uint8_t)end)) {
		if (n->list) {
			p_want_op(p, ',');
			if (p_take_op(p, (uint8_t)end))
				break;
		}
		*tail = p_expr(p);
		tail = &(*tail)->next;
	}
	return n;
}

static struct j_node *dict(struct parser *p)
{
	struct j_node *n = p_node(p, N_DICT), **tail = &n->list;

	while (!p_take_op(p, '}')) {
		if (n->list) {
			p_want_op(p, ',');
			if (p_take_op(p, '}'))
				break;
		}
		*tail = p_expr(p);
		tail = &(*tail)->next;
		p_want_op(p, ':');
		*tail = p_expr(p);
		tail = &(*tail)->next;
	}
	return n;
}

/* ( ... ): brackets, or a tuple */
static struct j_node *paren(struct parser *p)
{
	struct j_node *n, *t;

	if (p_take_op(p, ')'))
		return p_node(p, N_TUPLE);
	n = p_expr(p);
	if (p_take_op(p, ')'))
		return n;
	t = p_node(p, N_TUPLE);
	t->list = n;
	p_want_op(p, ',');
	if (p_take_op(p, ')'))
		return t;
	n->next = list_until(p, p_node(p, N_TUPLE), ')')->list;
	return t;
}

static struct j_node *constant(struct parser *p, struct j_val v)
{
	struct j_node *n = p_node(p, N_CONST);

	n->v = v;
	p_next(p);
	return n;
}

static struct j_node *name(struct parser *p)
{
	static const struct {
		const char *name;
		uint8_t type;
		uint8_t b;
	} words[] = {
		{ "true", J_BOOL, 1 },	{ "True", J_BOOL, 1 },
		{ "false", J_BOOL, 0 }, { "False", J_BOOL, 0 },
		{ "none", J_NONE, 0 },	{ "None", J_NONE, 0 },
	};
	static const char *const reserved[] = { "if",  "else", "elif", "for",
						"in",  "is",   "and",  "or",
						"not", "endif" };
	struct j_node *n;
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (p_is_name(p, words[i].name))
			return constant(p, words[i].type == J_NONE
						   ? j_none
						   : j_bool(words[i].b));
	for (i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (p_is_name(p, reserved[i]))
			p_fail(p, "expected an expression");
	n = p_node(p, N_NAME);
	n->v = p->t.v;
	p_next(p);
	return n;
}

static struct j_node *primary(struct parser *p)
{
	struct j_node *n;

	switch (p->t.kind) {
	case T_NAME:
		return name(p);
	case T_NUMBER:
		return constant(p, p->t.v);
	case T_STRING:
		n = constant(p, p->t.v);
		while (p->t.kind == T_STRING) {
			n->v = j_cat(p->j, n->v, p->t.v);
			p_next(p);
		}
		return n;
	default:
		break;
	}
	if (p_take_op(p, '('))
		return paren(p);
	if (p_take_op(p, '['))
		return list_until(p, p_node(p, N_LIST), ']');
	if (p_take_op(p, '{'))
		return dict(p);
	p_fail(p, "expected an expression");
}

/* ---------------------------------------------------------------- postfix */

/* Arguments after '('. */
static struct j_node *args(struct parser *p)
{
	struct j_node *first = NULL, **tail = &first, *n;
	bool named = false;

	while (!p_take_op(p, ')')) {
		if (first) {
			p_want_op(p, ',');
			if (p_take_op(p, ')'))
				break;
		}
		if (p_is_op(p, '*') || p_is_op(p, OP_POW)) {
			n = p_node(p, p_is_op(p, '*') ? N_STAR : N_STARS);
			p_next(p);
			n->a = p_expr(p);
		} else if (p->t.kind == T_NAME && p->peek.kind == T_OP &&
			   p->peek.op == '=') {
			n = p_node(p, N_KW);
			n->v = p->t.v;
			p_next(p);
			p_next(p);
			n->a = p_expr(p);
			named = true;
		} else {
			if (named)
				p_fail(p, "expected a named argument");
			n = p_expr(p);
		}
		*tail = n;
		tail = &n->next;
	}
	return first;
}

static struct j_node *subscript(struct parser *p, struct j_node *a)
{
	struct j_node *n = p_node(p, N_ITEM);

	n->a = a;
	if (!p_is_op(p, ':'))
		n->b = p_tuple(p);
	if (p_take_op(p, ']'))
		return n;
	n->kind = N_SLICE;
	p_want_op(p, ':');
	if (!p_is_op(p, ':') && !p_is_op(p, ']'))
		n->c = p_expr(p);
	if (p_take_op(p, ':') && !p_is_op(p, ']'))
		n->d = p_expr(p);
	p_want_op(p, ']');
	return n;
}

static struct j_node *attribute(struct parser *p, struct j_node *a)
{
	struct j_node *n = p_node(p, N_ATTR);

	n->a = a;
	n->v = p->t.v;
	if (p->t.kind == T_NUMBER && p->t.v.t == J_INT) {
		n->kind = N_ITEM;
		n->b = constant(p, p->t.v);
		return n;
	}
	if (p->t.kind != T_NAME)
		p_fail(p, "expected a name after '.'");
	p_next(p);
	return n;
}

static struct j_node *call(struct parser *p, struct j_node *a)
{
	struct j_node *n = p_node(p, N_CALL);

	n->a = a;
	n->list = args(p);
	return n;
}

static struct j_node *postfix(struct parser *p, struct j_node *n)
{
	for (;;) {
		if (p_take_op(p, '.'))
			n = attribute(p, n);
		else if (p_take_op(p, '['))
			n = subscript(p, n);
		else if (p_take_op(p, '('))
			n = call(p, n);
		else
			return n;
	}
}

/* A name with dots, as filters and tests may have. */
static void dotted(struct parser *p, struct j_node *n)
{
	n->v = p->t.v;
	do {
		if (p->t.kind != T_NAME)
			p_fail(p, "expected a name");
		n->v.n = (uint32_t)(p->t.v.s + p->t.v.n - n->v.s);
		p_next(p);
	} while (p_take_op(p, '.'));
}

struct j_node *p_first_filter(struct parser *p, struct j_node *a)
{
	struct j_node *n = p_node(p, N_FILTER);

	dotted(p, n);
	n->id = (int16_t)j_filter_find(n->v.s, n->v.n);
	n->a = a;
	if (p_take_op(p, '('))
		n->list = args(p);
	return p_filters(p, n);
}

static bool begins_operand(const struct parser *p)
{
	if (p->t.kind == T_NAME)
		return !p_is_name(p, "else") && !p_is_name(p, "or") &&
		       !p_is_name(p, "and") && !p_is_name(p, "is") &&
		       !p_is_name(p, "if") && !p_is_name(p, "in") &&
		       !p_is_name(p, "not") && !p_is_name(p, "recursive");
	return p->t.kind == T_STRING || p->t.kind == T_NUMBER ||
	       p_is_op(p, '[') || p_is_op(p, '{');
}

static struct j_node *test(struct parser *p, struct j_node *a)
{
	struct j_node *n = p_node(p, N_TEST);

	n->op = p_take_name(p, "not");
	dotted(p, n);
	n->id = (int16_t)j_test_find(n->v.s, n->v.n);
	n->a = a;
	if (p_take_op(p, '('))
		n->list = args(p);
	else if (begins_operand(p))
		n->list = postfix(p, primary(p));
	return n;
}

struct j_node *p_filters(struct parser *p, struct j_node *n)
{
	struct j_node *f;

	for (;;) {
		if (p_take_op(p, '|')) {
			f = p_node(p, N_FILTER);
			dotted(p, f);
			f->id = (int16_t)j_filter_find(f->v.s, f->v.n);
			f->a = n;
			if (p_take_op(p, '('))
				f->list = args(p);
			n = f;
		} else if (p_take_name(p, "is")) {
			n = test(p, n);
		} else if (p_take_op(p, '(')) {
			n = call(p, n);
		} else {
			return n;
		}
	}
}

/* -------------------------------------------------------------- operators */

static struct j_node *unary(struct parser *p, bool with_filters)
{
	struct j_node *n;

	p_enter(p);
	if (p_is_op(p, '-') || p_is_op(p, '+')) {
		n = p_node(p, p_is_op(p, '-') ? N_NEG : N_POS);
		p_next(p);
		n->a = unary(p, false);
	} else {
		n = primary(p);
	}
	n = postfix(p, n);
	if (with_filters)
		n = p_filters(p, n);
	p->depth--;
	return n;
}

/* Binding strength of a binary operator, 0 if it is none. */
static unsigned strength(const struct parser *p)
{
	if (p->t.kind != T_OP)
		return 0;
	switch (p->t.op) {
	case '+':
	case '-':
		return 1;
	case '~':
		return 2;
	case '*':
	case '/':
	case '%':
	case OP_FLOORDIV:
		return 3;
	case OP_POW:
		return 4;
	default:
		return 0;
	}
}

static struct j_node *arith(struct parser *p, unsigned min)
{
	struct j_node *n, *b;
	unsigned s, op;

	p_enter(p);
	n = unary(p, true);
	while ((s = strength(p)) >= min && s) {
		op = p->t.op;
		p_next(p);
		b = arith(p, s + 1);
		n = two(p, op == '~' ? N_CONCAT : N_BIN, op, n, b);
	}
	p->depth--;
	return n;
}

static unsigned relation(struct parser *p)
{
	unsigned op = 0;

	if (p->t.kind == T_OP &&
	    (p->t.op == OP_EQ || p->t.op == OP_NE || p->t.op == OP_LE ||
	     p->t.op == OP_GE || p->t.op == '<' || p->t.op == '>'))
		op = p->t.op;
	else if (p_is_name(p, "in"))
		op = OP_IN;
	else if (p_is_name(p, "not") && p->peek.kind == T_NAME &&
		 j_is(p->peek.v, "in"))
		op = OP_NOT_IN;
	if (op == OP_NOT_IN)
		p_next(p);
	if (op)
		p_next(p);
	return op;
}

static struct j_node *compare(struct parser *p)
{
	struct j_node *n = arith(p, 1), *c = NULL, **tail = NULL, *k;
	unsigned op;

	while ((op = relation(p))) {
		if (!c) {
			c = p_node(p, N_CMP);
			c->a = n;
			tail = &c->list;
		}
		k = p_node(p, N_CMP);
		k->op = (uint8_t)op;
		k->a = arith(p, 1);
		*tail = k;
		tail = &k->next;
	}
	return c ? c : n;
}

static struct j_node *negation(struct parser *p)
{
	struct j_node *n;
	unsigned not = 0;

	while (p_take_name(p, "not"))
		not ++;
	n = compare(p);
	if (not )
		n = two(p, N_NOT, 0, n, NULL);
	/* twice is not nothing: it makes a boolean */
	if (not &&!(not % 2))
		n = two(p, N_NOT, 0, n, NULL);
	return n;
}

static struct j_node *conjunction(struct parser *p)
{
	struct j_node *n = negation(p);

	while (p_take_name(p, "and"))
		n = two(p, N_AND, 0, n, negation(p));
	return n;
}

static struct j_node *disjunction(struct parser *p)
{
	struct j_node *n = conjunction(p);

	while (p_take_name(p, "or"))
		n = two(p, N_OR, 0, n, conjunction(p));
	return n;
}

struct j_node *p_expr(struct parser *p)
{
	struct j_node *n, *c;

	p_enter(p);
	n = disjunction(p);
	while (p_take_name(p, "if")) {
		c = p_node(p, N_COND);
		c->a = n;
		c->b = disjunction(p);
		if (p_take_name(p, "else"))
			c->c = p_expr(p);
		n = c;
	}
	p->depth--;
	return n;
}

static bool ends_tuple(const struct parser *p)
{
	return p->t.kind == T_VAR_END || p->t.kind == T_BLOCK_END ||
	       p_is_op(p, ')') || p_is_op(p, ']') || p_is_name(p, "if") ||
	       p_is_name(p, "recursive");
}

static struct j_node *tuple(struct parser *p,
			    struct j_node *(*expr)(struct parser *p))
{
	struct j_node *n = expr(p), *t, **tail;

	if (!p_is_op(p, ','))
		return n;
	t = p_node(p, N_TUPLE);
	t->list = n;
	tail = &n->next;
	while (p_take_op(p, ',') && !ends_tuple(p)) {
		*tail = expr(p);
		tail = &(*tail)->next;
	}
	return t;
}

struct j_node *p_tuple(struct parser *p)
{
	return tuple(p, p_expr);
}

static struct j_node *no_cond(struct parser *p)
{
	struct j_node *n;

	p_enter(p);
	n = disjunction(p);
	p->depth--;
	return n;
}

struct j_node *p_tuple_no_cond(struct parser *p)
{
	return tuple(p, no_cond);
}
