/* SPDX-License-Identifier: MIT */
/* jinja_parse.h - what the parsers of statements and expressions share. */
#ifndef HEARTH_JINJA_PARSE_H
#define HEARTH_JINJA_PARSE_H

#include "jinja_lex.h"

/**
 * struct parser - reads a template
 * @t:     the current token
 * @peek:  the one after it
 * @loops: loops around this place: break and continue need one
 */
struct parser {
	struct jinja *j;
	struct j_lexer lx;
	struct j_tok t;
	struct j_tok peek;
	unsigned depth;
	unsigned loops;
};

/* jinja_parse.c */
_Noreturn void p_fail(struct parser *p, const char *what);
void p_next(struct parser *p);
bool p_is_name(const struct parser *p, const char *s);
bool p_is_op(const struct parser *p, unsigned op);
bool p_take_name(struct parser *p, const char *s);
bool p_take_op(struct parser *p, unsigned op);
void p_want_op(struct parser *p, char op);
void p_enter(struct parser *p);
struct j_node *p_node(struct parser *p, enum j_kind kind);

/* jinja_pexpr.c */
struct j_node *p_expr(struct parser *p);
struct j_node *p_tuple(struct parser *p);	  /* an expression or "a, b" */
struct j_node *p_tuple_no_cond(struct parser *p); /* no "a if b" */
struct j_node *p_filters(struct parser *p, struct j_node *n);
struct j_node *p_first_filter(struct parser *p, struct j_node *n);

#endif
