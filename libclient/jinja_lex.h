/* SPDX-License-Identifier: MIT */
/* jinja_lex.h - tokens of a template, for jinja_parse.c. */
#ifndef HEARTH_JINJA_LEX_H
#define HEARTH_JINJA_LEX_H

#include "jinja_int.h"

enum j_tok_kind {
	T_EOF,
	T_TEXT, /* v: what stands between tags, blanks already trimmed */
	T_VAR,	/* {{ */
	T_VAR_END,
	T_BLOCK, /* {% */
	T_BLOCK_END,
	T_NAME,	  /* v */
	T_STRING, /* v */
	T_NUMBER, /* v */
	T_OP,	  /* op: a character or OP_* */
};

struct j_tok {
	uint8_t kind;
	uint8_t op;
	uint32_t line;
	struct j_val v;
};

/**
 * struct j_lexer - reads a template
 * @inside:     T_VAR or T_BLOCK in a tag, else 0
 * @open:       brackets open in the tag: "}}" may close two of them
 * @line_start: the last tag ate its line end, or nothing came yet
 * @pending:    the tag that begins where the text before it ends
 */
struct j_lexer {
	struct jinja *j;
	const char *p;
	const char *e;
	uint32_t line;
	uint8_t inside;
	uint8_t pending;
	bool line_start;
	uint32_t open;
};

void j_lex_init(struct j_lexer *lx, struct jinja *j, const char *p, size_t n);
void j_lex_next(struct j_lexer *lx, struct j_tok *t);

#endif
