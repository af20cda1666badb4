/* SPDX-License-Identifier: MIT */
/* ptx_parse.h - what the two halves of the parser share. */
#ifndef CUDASIM_PTX_PARSE_H
#define CUDASIM_PTX_PARSE_H

#include "ptx.h"

#define PARSE_SCOPES 8192

enum sym_kind {
	SYM_GLOBAL,  /* an address */
	SYM_DYNAMIC, /* dynamic shared memory; the value is its alignment */
	SYM_LAST_GLOBAL = SYM_DYNAMIC,
	SYM_REG,
	SYM_OFFSET, /* in shared or local memory */
	SYM_PARAM,
};

struct symbol {
	char *name;
	enum sym_kind kind;
	int64_t v;
};

/* What a name meant before a scope gave it to a register of its own. */
struct hidden {
	struct symbol was;
	int scope;
};

struct label {
	char *name;
	int pc;
	int scope;
};

struct goto_ {
	char *name;
	int pc;
	int scope;
};

struct parser {
	struct ptx_module *m;
	struct ptx_kernel *k; /* open one, or NULL */
	void *(*alloc)(size_t bytes);
	struct symbol *sym;
	uint32_t n_sym;
	uint32_t room;
	struct label *label;
	int n_label;
	struct hidden *hidden;
	int n_hidden;
	struct goto_ *go;
	int n_goto;
	int parent[PARSE_SCOPES];
	int n_scope;
	int scope;
	int line;
};

int parse_fail(struct parser *p, const char *what, const char *s);
void *parse_grow(void *v, int n, size_t size);
char *parse_trim(char *s);
int parse_type(const char *s);
struct symbol *parse_symbol(struct parser *p, const char *name);
struct symbol *parse_declare(struct parser *p, const char *name,
			     enum sym_kind kind, int64_t v);
int parse_insn(struct parser *p, char *s);

#endif
