/* SPDX-License-Identifier: MIT */
/*
 * jinja_parse.c - statements of a template, as nodes in the arena.
 *
 * Recursive descent, no deeper than JINJA_DEPTH_PARSE. What is long but not
 * deep (elif chains, lists) is linked, not nested.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "jinja_parse.h"

_Noreturn void p_fail(struct parser *p, const char *what)
{
	static const char *const kinds[] = {
		[T_EOF] = "the end",	 [T_TEXT] = "text",
		[T_VAR] = "'{{'",	 [T_VAR_END] = "'}}'",
		[T_BLOCK] = "'{%'",	 [T_BLOCK_END] = "'%}'",
		[T_NAME] = "a name",	 [T_STRING] = "a string",
		[T_NUMBER] = "a number", [T_OP] = "an operator",
	};

	p->j->line = p->t.line;
	if (p->t.kind == T_NAME)
		j_fail(p->j, -EINVAL, "%s, not '%.*s'", what,
		       (int)(p->t.v.n > 40 ? 40 : p->t.v.n), p->t.v.s);
	if (p->t.kind == T_OP && p->t.op >= ' ')
		j_fail(p->j, -EINVAL, "%s, not '%c'", what, p->t.op);
	j_fail(p->j, -EINVAL, "%s, not %s", what, kinds[p->t.kind]);
}

void p_next(struct parser *p)
{
	p->t = p->peek;
	if (p->t.kind != T_EOF)
		j_lex_next(&p->lx, &p->peek);
}

bool p_is_name(const struct parser *p, const char *s)
{
	return p->t.kind == T_NAME && j_is(p->t.v, s);
}

bool p_is_op(const struct parser *p, unsigned op)
{
	return p->t.kind == T_OP && p->t.op == op;
}

bool p_take_name(struct parser *p, const char *s)
{
	if (!p_is_name(p, s))
		return false;
	p_next(p);
	return true;
}

bool p_take_op(struct parser *p, unsigned op)
{
	if (!p_is_op(p, op))
		return false;
	p_next(p);
	return true;
}

void p_want_op(struct parser *p, char op)
{
	char what[32];

	if (p_take_op(p, (uint8_t)op))
		return;
	snprintf(what, sizeof(what), "expected '%c'", op);
	p_fail(p, what);
}

void p_enter(struct parser *p)
{
	if (++p->depth > JINJA_DEPTH_PARSE) {
		p->j->line = p->t.line;
		j_limit(p->j, "nested more than %d deep", JINJA_DEPTH_PARSE);
	}
}

struct j_node *p_node(struct parser *p, enum j_kind kind)
{
	struct j_node *n = j_zalloc(p->j, sizeof(*n));

	n->kind = (uint8_t)kind;
	n->line = p->t.line;
	return n;
}

static struct j_val want_name(struct parser *p)
{
	struct j_val v = p->t.v;

	if (p->t.kind != T_NAME)
		p_fail(p, "expected a name");
	p_next(p);
	return v;
}

static void want_end(struct parser *p)
{
	if (p->t.kind != T_BLOCK_END)
		p_fail(p, "expected the end of the tag");
	p_next(p);
}

/* What is assigned to: names, or name.attribute. */
static struct j_node *one_target(struct parser *p, bool attr)
{
	struct j_node *n = p_node(p, N_NAME), *a;

	n->v = want_name(p);
	if (!attr || !p_take_op(p, '.'))
		return n;
	a = p_node(p, N_ATTR);
	a->a = n;
	a->v = want_name(p);
	return a;
}

static struct j_node *target(struct parser *p, bool attr)
{
	struct j_node *n, **tail, *t;
	bool paren = p_take_op(p, '(');

	n = one_target(p, attr);
	if (p_is_op(p, ',')) {
		t = p_node(p, N_TUPLE);
		t->list = n;
		tail = &n->next;
		while (p_take_op(p, ',')) {
			if (p->t.kind != T_NAME || p_is_name(p, "in"))
				break;
			*tail = one_target(p, attr);
			tail = &(*tail)->next;
		}
		n = t;
	}
	if (paren)
		p_want_op(p, ')');
	return n;
}

static bool at_end_tag(const struct parser *p, const char *const *ends)
{
	for (; *ends; ends++)
		if (p->peek.kind == T_NAME && j_is(p->peek.v, *ends))
			return true;
	return false;
}

static struct j_node *statement(struct parser *p);

/* Statements up to a tag that begins with one of @ends (NULL-terminated); its
 * name is left as the current token. No ends: up to the end of the text. */
static struct j_node *body(struct parser *p, const char *const *ends)
{
	struct j_node *first = NULL, **tail = &first, *n;

	p_enter(p);
	for (;;) {
		if (p->t.kind == T_BLOCK && ends && at_end_tag(p, ends)) {
			p_next(p);
			break;
		}
		if (p->t.kind == T_EOF) {
			if (ends)
				p_fail(p, "a block does not end: expected "
					  "another tag");
			break;
		}
		n = statement(p);
		*tail = n;
		tail = &n->next;
	}
	p->depth--;
	return first;
}

static struct j_node *block_of(struct parser *p, const char *end)
{
	const char *ends[] = { end, NULL };
	struct j_node *n;

	want_end(p);
	n = body(p, ends);
	p_next(p);
	/* {% endmacro name %} */
	if (p->t.kind == T_NAME)
		p_next(p);
	want_end(p);
	return n;
}

static struct j_node *parse_if(struct parser *p)
{
	static const char *const ends[] = { "elif", "else", "endif", NULL };
	static const char *const last[] = { "endif", NULL };
	struct j_node *first = p_node(p, N_IF), *n = first;

	for (;;) {
		n->a = p_tuple(p);
		want_end(p);
		n->list = body(p, ends);
		if (!p_take_name(p, "elif"))
			break;
		n->b = p_node(p, N_IF);
		n = n->b;
	}
	if (p_take_name(p, "else")) {
		n->b = p_node(p, N_ELSE);
		want_end(p);
		n->b->list = body(p, last);
	}
	p_next(p);
	want_end(p);
	return first;
}

static struct j_node *parse_for(struct parser *p)
{
	static const char *const ends[] = { "else", "endfor", NULL };
	static const char *const last[] = { "endfor", NULL };
	struct j_node *n = p_node(p, N_FOR);

	n->a = target(p, false);
	if (!p_take_name(p, "in"))
		p_fail(p, "expected 'in'");
	n->b = p_tuple_no_cond(p);
	if (p_take_name(p, "if"))
		n->c = p_expr(p);
	n->op = p_take_name(p, "recursive");
	want_end(p);
	p->loops++;
	n->list = body(p, ends);
	p->loops--;
	if (p_take_name(p, "else")) {
		want_end(p);
		n->d = p_node(p, N_ELSE);
		n->d->list = body(p, last);
	}
	p_next(p);
	want_end(p);
	return n;
}

static struct j_node *parse_set(struct parser *p)
{
	struct j_node *n = p_node(p, N_SET);

	n->a = target(p, true);
	if (p_take_op(p, '=')) {
		n->b = p_tuple(p);
		want_end(p);
		return n;
	}
	n->kind = N_SETBLOCK;
	n->b = p_filters(p, p_node(p, N_CAPTURED));
	n->list = block_of(p, "endset");
	return n;
}

static struct j_node *params(struct parser *p)
{
	struct j_node *first = NULL, **tail = &first, *n;

	p_want_op(p, '(');
	while (!p_take_op(p, ')')) {
		if (first) {
			p_want_op(p, ',');
			if (p_take_op(p, ')'))
				break;
		}
		n = p_node(p, N_KW);
		n->v = want_name(p);
		if (p_take_op(p, '='))
			n->a = p_expr(p);
		*tail = n;
		tail = &n->next;
	}
	return first;
}

static struct j_node *parse_macro(struct parser *p)
{
	struct j_node *n = p_node(p, N_MACRO);
	unsigned loops = p->loops;

	p->loops = 0;
	n->v = want_name(p);
	n->a = params(p);
	n->list = block_of(p, "endmacro");
	p->loops = loops;
	return n;
}

static struct j_node *parse_call(struct parser *p)
{
	struct j_node *n = p_node(p, N_CALLBLOCK);
	unsigned loops = p->loops;

	p->loops = 0;
	n->v = j_lit("caller");
	if (p_is_op(p, '('))
		n->a = params(p);
	n->b = p_expr(p);
	if (n->b->kind != N_CALL)
		p_fail(p, "expected a call");
	n->list = block_of(p, "endcall");
	p->loops = loops;
	return n;
}

static struct j_node *parse_filter(struct parser *p)
{
	struct j_node *n = p_node(p, N_FILTERBLOCK);

	n->b = p_first_filter(p, p_node(p, N_CAPTURED));
	n->list = block_of(p, "endfilter");
	return n;
}

static struct j_node *parse_with(struct parser *p)
{
	struct j_node *n = p_node(p, N_WITH), **tail = &n->a, *s;

	while (p->t.kind != T_BLOCK_END) {
		if (n->a)
			p_want_op(p, ',');
		s = p_node(p, N_SET);
		s->a = target(p, false);
		p_want_op(p, '=');
		s->b = p_expr(p);
		*tail = s;
		tail = &s->next;
	}
	n->list = block_of(p, "endwith");
	return n;
}

static struct j_node *parse_generation(struct parser *p)
{
	struct j_node *n = p_node(p, N_BLOCK);
	unsigned loops = p->loops;

	p->loops = 0;
	n->list = block_of(p, "endgeneration");
	p->loops = loops;
	return n;
}

static struct j_node *parse_do(struct parser *p)
{
	struct j_node *n = p_node(p, N_OUT);

	n->op = 1; /* nothing is printed */
	n->a = p_tuple(p);
	want_end(p);
	return n;
}

static struct j_node *parse_jump(struct parser *p, enum j_kind kind)
{
	struct j_node *n = p_node(p, kind);

	if (!p->loops)
		p_fail(p, "'break' or 'continue' outside a loop");
	want_end(p);
	return n;
}

static struct j_node *parse_break(struct parser *p)
{
	return parse_jump(p, N_BREAK);
}

static struct j_node *parse_continue(struct parser *p)
{
	return parse_jump(p, N_CONTINUE);
}

/* clang-format off */
static const struct {
	const char *name;
	struct j_node *(*parse)(struct parser *p);
} tags[] = {
	{ "if", parse_if },
	{ "for", parse_for },
	{ "set", parse_set },
	{ "macro", parse_macro },
	{ "call", parse_call },
	{ "filter", parse_filter },
	{ "with", parse_with },
	{ "generation", parse_generation },
	{ "do", parse_do },
	{ "break", parse_break },
	{ "continue", parse_continue },
};
/* clang-format on */

static struct j_node *statement(struct parser *p)
{
	struct j_node *n;
	size_t i;

	if (p->t.kind == T_TEXT) {
		n = p_node(p, N_TEXT);
		n->v = p->t.v;
		p_next(p);
		return n;
	}
	if (p->t.kind == T_VAR) {
		p_next(p);
		n = p_node(p, N_OUT);
		n->a = p_tuple(p);
		if (p->t.kind != T_VAR_END)
			p_fail(p, "expected '}}'");
		p_next(p);
		return n;
	}
	p_next(p);
	for (i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
		if (p_take_name(p, tags[i].name)) {
			p_enter(p);
			n = tags[i].parse(p);
			p->depth--;
			return n;
		}
	}
	p_fail(p, "unknown tag");
}

struct j_node *j_parse(struct jinja *j, const char *text, size_t n)
{
	struct parser p = { .j = j };

	j_lex_init(&p.lx, j, text, n);
	j_lex_next(&p.lx, &p.t);
	if (p.t.kind != T_EOF)
		j_lex_next(&p.lx, &p.peek);
	return body(&p, NULL);
}
