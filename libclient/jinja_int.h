/* SPDX-License-Identifier: MIT */
/*
 * jinja_int.h - values, nodes and state that the interpreter's files share.
 *
 * Everything lives in one arena that goes when the rendering is over; an error
 * jumps out of wherever it happens, so nothing below returns one.
 */
#ifndef HEARTH_JINJA_INT_H
#define HEARTH_JINJA_INT_H

#include <setjmp.h>
#include <stdbool.h>

#include "jinja.h"

/* ----------------------------------------------------------------- values */

enum j_type {
	J_UNDEF, /* s, n: what is not there, for the message */
	J_NONE,
	J_BOOL,
	J_INT,
	J_FLOAT,
	J_STR,
	J_LIST,
	J_DICT,
	J_NS, /* namespace(): a dict whose entries can be set */
	J_LOOP,
	J_FUNC,	  /* a global function */
	J_METHOD, /* of a value */
	J_MACRO,
};

#define JF_SAFE	 1u /* string marked as markup */
#define JF_TUPLE 2u /* list that is a tuple */
#define JF_TEMP	 4u /* string at the arena's end: may grow in place */

struct j_val {
	uint8_t t;   /* enum j_type */
	uint8_t f;   /* JF_* */
	uint16_t id; /* function or method */
	uint32_t n;  /* bytes of a string */
	union {
		int64_t i;
		double d;
		const char *s;
		struct j_list *l;
		struct j_dict *o;
		struct j_loop *loop;
		struct j_val *self; /* of a method */
		struct j_macro *m;
	};
};

struct j_list {
	struct j_val *v;
	uint32_t n;
	uint32_t cap;
};

struct j_pair {
	struct j_val k;
	struct j_val v;
};

struct j_dict {
	struct j_pair *e;
	uint32_t *slot; /* hash table over @e, once there are many */
	uint32_t n;
	uint32_t cap;
	uint32_t n_slot;
};

struct j_loop {
	const struct j_list *items;
	uint32_t i;
	uint32_t depth;
	const struct j_node *node; /* for recursive loops */
	struct j_val changed;
};

struct j_macro {
	const struct j_node *node;
	struct j_scope *scope;
	struct j_val caller;
};

/* ------------------------------------------------------------------ nodes */

enum j_kind {
	/* expressions */
	N_CONST,    /* v */
	N_NAME,	    /* v */
	N_LIST,	    /* list */
	N_TUPLE,    /* list */
	N_DICT,	    /* list: key, value, key, value */
	N_BIN,	    /* op, a, b */
	N_AND,	    /* a, b */
	N_OR,	    /* a, b */
	N_NOT,	    /* a */
	N_NEG,	    /* a */
	N_POS,	    /* a */
	N_CMP,	    /* a, list of N_CMP with op and a */
	N_CONCAT,   /* a, b */
	N_COND,	    /* a if b else c */
	N_ATTR,	    /* a . v */
	N_ITEM,	    /* a [ b ] */
	N_SLICE,    /* a [ b : c : d ] */
	N_CALL,	    /* a ( list ) */
	N_FILTER,   /* a | id ( list ) */
	N_TEST,	    /* a is id ( list ), op: not */
	N_KW,	    /* v = a */
	N_STAR,	    /* *a */
	N_STARS,    /* **a */
	N_CAPTURED, /* what a block rendered to */
	/* statements */
	N_TEXT,	       /* v */
	N_OUT,	       /* a */
	N_IF,	       /* a, list, b: the next branch */
	N_ELSE,	       /* list */
	N_FOR,	       /* a in b if c, list, d: else list; op: recursive */
	N_SET,	       /* a = b */
	N_SETBLOCK,    /* a = b over the captured list */
	N_MACRO,       /* v, a: parameters, list */
	N_CALLBLOCK,   /* a: parameters, b: call, list */
	N_FILTERBLOCK, /* b over the captured list */
	N_WITH,	       /* a: list of N_SET, list */
	N_BLOCK,       /* list, in a scope of its own */
	N_BREAK,
	N_CONTINUE,
};

struct j_node {
	uint8_t kind; /* enum j_kind */
	uint8_t op;   /* character of an operator, or a flag */
	int16_t id;   /* filter or test, -1 if unknown */
	uint32_t line;
	struct j_val v;
	struct j_node *a;
	struct j_node *b;
	struct j_node *c;
	struct j_node *d;
	struct j_node *list; /* first of children */
	struct j_node *next; /* in the parent's list */
};

/* Operators that are not one character. */
enum { OP_EQ = 1, OP_NE, OP_LE, OP_GE, OP_IN, OP_NOT_IN, OP_FLOORDIV, OP_POW };

/* ------------------------------------------------------------------ state */

struct j_var {
	const char *name;
	uint32_t n;
	struct j_val v;
};

struct j_scope {
	struct j_scope *up;
	struct j_var *var;
	uint32_t n;
	uint32_t cap;
};

struct j_chunk {
	struct j_chunk *next;
	size_t n;
};

struct jinja {
	jmp_buf jmp;
	int err;
	char *why;
	size_t why_n;
	struct j_chunk *chunks;
	uint8_t *top;
	uint8_t *end;
	size_t used;
	size_t mem;
	uint64_t steps;
	unsigned depth;
	uint32_t line; /* of what runs, for messages */
	char *out;
	size_t out_n;
	size_t out_cap;
	int64_t now;
	struct j_scope *scope;
	struct j_val captured;
};

/* jinja_value.c: memory, limits and values */
_Noreturn void j_fail(struct jinja *j, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void j_limit(struct jinja *j, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void *j_alloc(struct jinja *j, size_t n);
void *j_zalloc(struct jinja *j, size_t n);
void *j_grow(struct jinja *j, void *p, size_t used, size_t want);
void j_step(struct jinja *j, size_t n);
void j_enter(struct jinja *j);
static inline void j_leave(struct jinja *j)
{
	j->depth--;
}
void j_free(struct jinja *j);

extern const struct j_val j_none;
struct j_val j_undef(const char *name, size_t n);
struct j_val j_bool(bool b);
struct j_val j_int(int64_t i);
struct j_val j_float(double d);
struct j_val j_lit(const char *s);	      /* borrows */
struct j_val j_strn(const char *s, size_t n); /* borrows */
struct j_val j_copy(struct jinja *j, const char *s, size_t n);
struct j_val j_list(struct jinja *j, size_t cap);
struct j_val j_dict(struct jinja *j);
void j_push(struct jinja *j, struct j_val list, struct j_val v);
void j_put(struct jinja *j, struct j_val dict, struct j_val k, struct j_val v);
struct j_val *j_find(struct jinja *j, struct j_val dict, struct j_val k);
struct j_val *j_find_lit(struct jinja *j, struct j_val dict, const char *k);

bool j_true(struct j_val v);
bool j_is_num(struct j_val v); /* bool, int, float */
double j_num(struct j_val v);
bool j_equal(struct jinja *j, struct j_val a, struct j_val b);
int j_order(struct jinja *j, struct j_val a, struct j_val b, const char *op);
bool j_in(struct jinja *j, struct j_val needle, struct j_val hay);
const char *j_type_name(struct j_val v);
bool j_is(struct j_val v, const char *s); /* a string equal to s */
struct j_val j_cat(struct jinja *j, struct j_val a, struct j_val b);
/* Elements, characters or keys as a list. */
struct j_val j_iter(struct jinja *j, struct j_val v);
uint64_t j_len(struct jinja *j, struct j_val v);

/* jinja_text.c: writing values; characters of strings */
struct j_buf {
	char *p;
	size_t n;
	size_t cap;
};
void j_add(struct jinja *j, struct j_buf *b, const char *s, size_t n);
void j_adds(struct jinja *j, struct j_buf *b, const char *s);
void j_addc(struct jinja *j, struct j_buf *b, uint32_t cp);
struct j_val j_done(const struct j_buf *b);
struct j_val j_str(struct jinja *j, struct j_val v);
struct j_val j_repr(struct jinja *j, struct j_val v);
struct j_val j_json(struct jinja *j, struct j_val v, struct j_val indent,
		    bool sort, bool ascii, struct j_val sep);
struct j_val j_escape(struct jinja *j, struct j_val v);
uint32_t j_chars(struct j_val s);
size_t j_char_off(struct j_val s, uint64_t i);
struct j_val j_strip(struct j_val s, struct j_val chars, int sides);

/* jinja_json.c */
struct j_val j_json_read(struct jinja *j, const char *p, size_t n);

/* jinja_lex.c and jinja_parse.c */
struct j_node *j_parse(struct jinja *j, const char *p, size_t n);

/* jinja_expr.c and jinja_eval.c */
struct j_val j_eval(struct jinja *j, const struct j_node *n);
void j_exec(struct jinja *j, const struct j_node *list);
struct j_val j_get_attr(struct jinja *j, struct j_val v, struct j_val name);
struct j_val j_get_item(struct jinja *j, struct j_val v, struct j_val key);
struct j_val j_binary(struct jinja *j, unsigned op, struct j_val a,
		      struct j_val b);
struct j_val j_compare(struct jinja *j, unsigned op, struct j_val a,
		       struct j_val b);
void j_set(struct jinja *j, const char *name, size_t n, struct j_val v);
void j_scope_push(struct jinja *j, struct j_scope *s, struct j_scope *up);
size_t j_capture_begin(struct jinja *j);
struct j_val j_capture_end(struct jinja *j, size_t mark);
void j_emit(struct jinja *j, const char *s, size_t n);

/**
 * struct j_args - arguments of a call
 *
 * Positional ones in pos, named ones in kw (a dict).
 */
struct j_args {
	struct j_list *pos;
	struct j_dict *kw;
};

struct j_val j_call(struct jinja *j, struct j_val f, const struct j_args *a);
struct j_val j_call_macro(struct jinja *j, const struct j_macro *m,
			  const struct j_args *a);
struct j_val j_call_loop(struct jinja *j, struct j_loop *l, struct j_val items);

/* Argument @i, or the one named @name, or @dflt. */
struct j_val j_arg(struct jinja *j, const struct j_args *a, unsigned i,
		   const char *name, struct j_val dflt);
struct j_val j_need(struct jinja *j, const struct j_args *a, unsigned i,
		    const char *name, const char *who);
int64_t j_want_int(struct jinja *j, struct j_val v, const char *who);

int64_t j_int_arg(struct jinja *j, const struct j_args *a, unsigned i,
		  const char *name, int64_t dflt);
bool j_flag_arg(struct jinja *j, const struct j_args *a, unsigned i,
		const char *name, bool dflt);

struct j_filter_row {
	const char *name;
	struct j_val (*fn)(struct jinja *j, struct j_val v,
			   const struct j_args *a);
};

extern const struct j_filter_row j_seq_filters[]; /* jinja_seq.c */
struct j_val j_lower(struct jinja *j, struct j_val v);

/* jinja_filter.c, jinja_test.c, jinja_method.c, jinja_global.c: tables */
int j_filter_find(const char *s, size_t n);
struct j_val j_filter(struct jinja *j, int id, struct j_val v,
		      const struct j_args *a);
int j_test_find(const char *s, size_t n);
bool j_test(struct jinja *j, int id, struct j_val v, const struct j_args *a);
/* A method of the value's type: J_METHOD, or undefined. */
struct j_val j_method(struct jinja *j, struct j_val v, struct j_val name);
struct j_val j_call_method(struct jinja *j, struct j_val f,
			   const struct j_args *a);
void j_globals(struct jinja *j);
struct j_val j_call_global(struct jinja *j, struct j_val f,
			   const struct j_args *a);

/* Merge sort by @cmp, stable. */
void j_sort(struct jinja *j, struct j_val *v, uint32_t n,
	    int (*cmp)(struct jinja *j, struct j_val a, struct j_val b,
		       void *arg),
	    void *arg);
/* jinja_format.c: "..." % args and "...".format(args) */
struct j_val j_format(struct jinja *j, struct j_val fmt, struct j_val args);
struct j_val j_format_braces(struct jinja *j, struct j_val fmt,
			     const struct j_args *a);

#endif
