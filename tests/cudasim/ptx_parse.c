/* SPDX-License-Identifier: MIT */
/* ptx_parse.c - PTX text to modules: variables, kernels, labels. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_parse.h"

int parse_fail(struct parser *p, const char *what, const char *s)
{
	if (!p->m->error[0])
		snprintf(p->m->error, sizeof(p->m->error),
			 "line %d: %s: %.120s", p->line, what, s);
	return -EINVAL;
}

void *parse_grow(void *v, int n, size_t size)
{
	/* Room doubles: 8, 16, 32, ... */
	if (n && (n < 8 || (n & (n - 1))))
		return v;
	v = realloc(v, (n < 8 ? 8 : 2 * (size_t)n) * size);
	if (!v)
		abort();
	return v;
}

char *parse_trim(char *s)
{
	char *e;

	while (isspace((unsigned char)*s))
		s++;
	e = s + strlen(s);
	while (e > s && isspace((unsigned char)e[-1]))
		*--e = 0;
	return s;
}

static uint32_t hash(const char *s)
{
	uint32_t h = 2166136261u;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 16777619u;
	return h;
}

struct symbol *parse_symbol(struct parser *p, const char *name)
{
	uint32_t i = p->room ? hash(name) & (p->room - 1) : 0;

	for (; p->room && p->sym[i].name; i = (i + 1) & (p->room - 1))
		if (!strcmp(p->sym[i].name, name))
			return &p->sym[i];
	return NULL;
}

static void put_symbol(struct parser *p, struct symbol s)
{
	uint32_t i = hash(s.name) & (p->room - 1);

	while (p->sym[i].name)
		i = (i + 1) & (p->room - 1);
	p->sym[i] = s;
}

/* A later declaration of the same name takes the place of the earlier. */
struct symbol *parse_declare(struct parser *p, const char *name,
			     enum sym_kind kind, int64_t v)
{
	struct symbol *s = parse_symbol(p, name), *old = p->sym;
	uint32_t i, n = p->room;

	if (s) {
		s->kind = kind;
		s->v = v;
		return s;
	}
	if (2 * (p->n_sym + 1) > p->room) {
		p->room = n ? 2 * n : 1024;
		p->sym = calloc(p->room, sizeof(*p->sym));
		if (!p->sym)
			abort();
		for (i = 0; i < n; i++)
			if (old[i].name)
				put_symbol(p, old[i]);
		free(old);
	}
	p->n_sym++;
	put_symbol(p, (struct symbol){ strdup(name), kind, v });
	return parse_symbol(p, name);
}

/* What a kernel declared is gone with it. */
static void forget_locals(struct parser *p)
{
	struct symbol *old = p->sym;
	uint32_t i, n = p->room;

	p->sym = calloc(n ? n : 1, sizeof(*p->sym));
	if (!p->sym)
		abort();
	p->n_sym = 0;
	for (i = 0; i < n; i++) {
		if (!old[i].name)
			continue;
		if (old[i].kind <= SYM_LAST_GLOBAL) {
			p->n_sym++;
			put_symbol(p, old[i]);
		} else {
			free(old[i].name);
		}
	}
	free(old);
}

/* ----------------------------------------------------------- variables */

/* ".align 16 .b8 name[64]": what a declaration says. */
struct decl {
	char name[256];
	int align;
	int type;
	int64_t count; /* 0: name[] */
	char *init;
};

static int read_decl(struct parser *p, char *s, struct decl *d)
{
	char *tok, *br, *save = NULL, *eq = strchr(s, '=');
	char copy[1024];

	memset(d, 0, sizeof(*d));
	d->count = 1;
	if (eq) {
		*eq = 0;
		d->init = eq + 1;
	}
	snprintf(copy, sizeof(copy), "%s", s);
	for (tok = strtok_r(copy, " \t\n", &save); tok;
	     tok = strtok_r(NULL, " \t\n", &save)) {
		if (!strcmp(tok, ".align")) {
			tok = strtok_r(NULL, " \t\n", &save);
			d->align = tok ? atoi(tok) : 0;
		} else if (*tok == '.') {
			int t = parse_type(tok + 1);

			if (t)
				d->type = t;
		} else {
			snprintf(d->name, sizeof(d->name), "%s", tok);
		}
	}
	for (br = strchr(s, '['); br; br = strchr(br + 1, '['))
		d->count *= strtoll(br + 1, NULL, 0);
	br = strchr(d->name, '[');
	if (br)
		*br = 0;
	if (!d->name[0] || !d->type || d->count < 0)
		return parse_fail(p, "a declaration that is not understood", s);
	if (!d->align)
		d->align = ptx_type_size(d->type);
	return 0;
}

static int fill(struct parser *p, const struct decl *d, uint8_t *to)
{
	int size = ptx_type_size(d->type);
	char *tok, *save = NULL;
	int64_t i = 0;

	for (tok = strtok_r(d->init, "{}, \t\n", &save); tok;
	     tok = strtok_r(NULL, "{}, \t\n", &save), i++) {
		char *end = tok;
		uint64_t v;

		if (i >= d->count)
			return parse_fail(p, "more values than room", d->name);
		if (tok[0] == '0' && strchr("fFdD", tok[1]) && tok[1])
			v = strtoull(tok + 2, &end, 16);
		else if (*tok == '-')
			v = (uint64_t)strtoll(tok, &end, 0);
		else
			v = strtoull(tok, &end, 0);
		if (*end)
			return parse_fail(p, "a value that is no number", tok);
		memcpy(to + i * size, &v, (size_t)size);
	}
	return 0;
}

static int global_var(struct parser *p, char *s)
{
	struct ptx_module *m = p->m;
	struct decl d;
	struct ptx_var v = { 0 };

	if (read_decl(p, s, &d))
		return -EINVAL;
	v.size = (size_t)d.count * (size_t)ptx_type_size(d.type);
	v.at = p->alloc(v.size ? v.size : 1);
	if (!v.at)
		return parse_fail(p, "no memory for a variable", d.name);
	memset(v.at, 0, v.size);
	v.name = strdup(d.name);
	m->var = parse_grow(m->var, m->n_var, sizeof(*m->var));
	m->var[m->n_var++] = v;
	parse_declare(p, d.name, SYM_GLOBAL, (int64_t)(uintptr_t)v.at);
	return d.init ? fill(p, &d, v.at) : 0;
}

static int align_up(int n, int align)
{
	return (n + align - 1) / align * align;
}

static int shared_var(struct parser *p, char *s, bool external)
{
	struct ptx_kernel *k = p->k;
	struct decl d;
	int size;

	if (read_decl(p, s, &d))
		return -EINVAL;
	if (external || !d.count) {
		parse_declare(p, d.name, SYM_DYNAMIC, d.align);
		return 0;
	}
	size = (int)d.count * ptx_type_size(d.type);
	if (!k)
		return parse_fail(p, "shared memory outside kernels", d.name);
	k->shared = align_up(k->shared, d.align);
	parse_declare(p, d.name, SYM_OFFSET, k->shared);
	k->shared += size;
	return 0;
}

static int local_var(struct parser *p, char *s)
{
	struct decl d;

	if (!p->k)
		return parse_fail(p, "local memory outside kernels", s);
	if (read_decl(p, s, &d))
		return -EINVAL;
	p->k->local = align_up(p->k->local, d.align);
	parse_declare(p, d.name, SYM_OFFSET, p->k->local);
	p->k->local += (int)d.count * ptx_type_size(d.type);
	return 0;
}

static void declare_reg(struct parser *p, const char *name)
{
	struct symbol *s = p->scope ? parse_symbol(p, name) : NULL;

	if (s) {
		p->hidden =
			parse_grow(p->hidden, p->n_hidden, sizeof(*p->hidden));
		p->hidden[p->n_hidden++] = (struct hidden){ *s, p->scope };
	}
	parse_declare(p, name, SYM_REG, p->k->n_reg++);
}

/* The names that the scope which ends had taken mean again what they did. */
static void uncover(struct parser *p)
{
	while (p->n_hidden && p->hidden[p->n_hidden - 1].scope == p->scope) {
		const struct symbol *s = &p->hidden[--p->n_hidden].was;

		parse_declare(p, s->name, s->kind, s->v);
	}
}

static int declare_regs(struct parser *p, char *s)
{
	char *tok, *save = NULL;

	/* ".pred p, q" or ".b32 %r<12>" */
	tok = strtok_r(s, " \t\n,", &save);
	while ((tok = strtok_r(NULL, " \t\n,", &save))) {
		char *lt = strchr(tok, '<');
		int i, n = lt ? atoi(lt + 1) : 0;
		char name[300];

		if (!lt) {
			declare_reg(p, tok);
			continue;
		}
		*lt = 0;
		for (i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "%s%d", tok, i);
			declare_reg(p, name);
		}
	}
	return 0;
}

/* ------------------------------------------------------------- kernels */

static int read_params(struct parser *p, char *s)
{
	struct ptx_kernel *k = p->k;
	char *one;

	while ((one = strsep(&s, ","))) {
		char *at = strstr(one, ".param");
		struct decl d;
		int size;

		if (!at)
			continue;
		/* .ptr .global .align 1: says something of the pointee */
		if (strstr(at, ".ptr")) {
			char *nm = strrchr(at, ' ');

			d = (struct decl){ .align = 8,
					   .type = T_U64,
					   .count = 1 };
			snprintf(d.name, sizeof(d.name), "%s",
				 parse_trim(nm ? nm : at));
		} else if (read_decl(p, at, &d)) {
			return -EINVAL;
		}
		size = (int)d.count * ptx_type_size(d.type);
		if (k->n_param == PTX_PARAMS)
			return parse_fail(p, "too many parameters", k->name);
		k->param_bytes = align_up(k->param_bytes, d.align);
		parse_declare(p, d.name, SYM_PARAM, k->param_bytes);
		k->param_off[k->n_param] = k->param_bytes;
		k->param_size[k->n_param++] = size;
		k->param_bytes += size;
		if (k->param_bytes > PTX_PARAM_MAX)
			return parse_fail(p, "parameters over 4 KiB", k->name);
	}
	return 0;
}

/* From ".entry" to behind its '{'. */
static char *open_kernel(struct parser *p, char *s)
{
	struct ptx_module *m = p->m;
	char *open = strchr(s, '{'), *par, *end, *max;
	struct ptx_kernel *k;

	if (!open)
		return parse_fail(p, "a kernel without a body", s), NULL;
	*open = 0;
	m->kernel = parse_grow(m->kernel, m->n_kernel, sizeof(*m->kernel));
	k = p->k = &m->kernel[m->n_kernel++];
	memset(k, 0, sizeof(*k));
	k->dyn_konst = -1;
	k->dyn_align = 16;
	max = strstr(s, ".maxntid");
	if (!max)
		max = strstr(s, ".reqntid");
	if (max) {
		int x = 1, y = 1, z = 1;

		sscanf(max + 8, "%d , %d , %d", &x, &y, &z);
		k->max_threads = x * y * z;
	}
	par = strchr(s, '(');
	end = par ? strchr(par, ')') : NULL;
	if (par && end)
		*par = *end = 0;
	s = parse_trim(s + strlen(".entry"));
	k->name = strndup(s, strcspn(s, " \t\n"));
	p->n_label = 0;
	p->n_goto = 0;
	p->n_hidden = 0;
	p->scope = p->n_scope = 0;
	if (par && end && read_params(p, par + 1))
		return NULL;
	return open + 1;
}

static int find_label(struct parser *p, const struct goto_ *g)
{
	int sc = g->scope, i;

	for (;; sc = p->parent[sc]) {
		for (i = 0; i < p->n_label; i++)
			if (p->label[i].scope == sc &&
			    !strcmp(p->label[i].name, g->name))
				return p->label[i].pc;
		if (!sc)
			return -1;
	}
}

static int close_kernel(struct parser *p)
{
	struct ptx_kernel *k = p->k;
	int i, rc = 0;

	for (i = 0; i < p->n_goto && !rc; i++) {
		struct goto_ *g = &p->go[i];
		int pc = find_label(p, g);

		k->code[g->pc].target = pc;
		p->line = k->code[g->pc].line;
		if (pc < 0)
			rc = parse_fail(p, "a label that is nowhere", g->name);
	}
	for (i = 0; i < p->n_goto; i++)
		free(p->go[i].name);
	for (i = 0; i < p->n_label; i++)
		free(p->label[i].name);
	p->n_goto = p->n_label = 0;
	/* A kernel that runs off its end returns. */
	if (!rc)
		rc = parse_insn(p, (char[]){ "ret" });
	k->dyn_align = k->dyn_align < 16 ? 16 : k->dyn_align;
	forget_locals(p);
	p->k = NULL;
	return rc;
}

static void add_label(struct parser *p, char *name)
{
	p->label = parse_grow(p->label, p->n_label, sizeof(*p->label));
	p->label[p->n_label++] =
		(struct label){ strdup(name), p->k->n_code, p->scope };
}

/* --------------------------------------------------------------- text */

/* Comments become blanks, so that lines stay what they are. */
static void strip_comments(char *s)
{
	while (*s) {
		if (s[0] == '/' && s[1] == '/') {
			while (*s && *s != '\n')
				*s++ = ' ';
		} else if (s[0] == '/' && s[1] == '*') {
			while (*s && !(s[0] == '*' && s[1] == '/')) {
				if (*s != '\n')
					*s = ' ';
				s++;
			}
			if (*s)
				s[0] = s[1] = ' ';
		} else {
			s++;
		}
	}
}

/* What a directive says; s has no ';' any more. */
static int directive(struct parser *p, char *s)
{
	static const char *const drop[] = { ".visible", ".weak", ".common" };
	bool external = false;
	unsigned int i;

	for (i = 0; i < sizeof(drop) / sizeof(*drop); i++)
		if (!strncmp(s, drop[i], strlen(drop[i])))
			s = parse_trim(s + strlen(drop[i]));
	if (!strncmp(s, ".extern", 7)) {
		external = true;
		s = parse_trim(s + 7);
	}
	if (!strncmp(s, ".reg", 4) && p->k)
		return declare_regs(p, parse_trim(s + 4));
	if (!strncmp(s, ".shared", 7))
		return shared_var(p, s + 7, external);
	if (!strncmp(s, ".local", 6))
		return local_var(p, s + 6);
	if (!strncmp(s, ".global", 7))
		return global_var(p, s + 7);
	if (!strncmp(s, ".const", 6))
		return global_var(p, s + 6);
	if (!strncmp(s, ".pragma", 7) || (external && !strncmp(s, ".func", 5)))
		return 0;
	return parse_fail(p, "a directive that is not known", s);
}

static bool whole_line(const char *s)
{
	static const char *const lines[] = { ".version", ".target",
					     ".address_size", ".file", ".loc" };
	size_t n = strcspn(s, " \t\n");
	unsigned int i;

	for (i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		if (strlen(lines[i]) == n && !strncmp(s, lines[i], n))
			return true;
	return false;
}

static char *scope_of(struct parser *p, char *s)
{
	if (!p->k)
		return parse_fail(p, "a brace outside kernels", s), NULL;
	if (*s == '{') {
		if (p->n_scope + 1 >= PARSE_SCOPES)
			return parse_fail(p, "too many scopes", s), NULL;
		p->parent[++p->n_scope] = p->scope;
		p->scope = p->n_scope;
	} else if (p->scope) {
		uncover(p);
		p->scope = p->parent[p->scope];
	} else if (close_kernel(p)) {
		return NULL;
	}
	return s + 1;
}

/* One thing of the text; behind it, or NULL. */
static char *statement(struct parser *p, char *s)
{
	char *e = s, *entry;

	if (*s == '{' || *s == '}')
		return scope_of(p, s);
	if (whole_line(s))
		return s + strcspn(s, "\n");
	if (*s == '.' && !p->k) {
		size_t n = strcspn(s, ";{(");

		entry = strstr(s, ".entry");
		if (entry && entry < s + n)
			return open_kernel(p, entry);
	}
	while (isalnum((unsigned char)*e) || *e == '_' || *e == '$')
		e++;
	if (*e == ':' && e > s && p->k) {
		*e = 0;
		add_label(p, s);
		return e + 1;
	}
	e = strchr(s, ';');
	if (!e)
		return parse_fail(p, "a statement without an end", s), NULL;
	*e = 0;
	if (*s == '.')
		return directive(p, parse_trim(s)) ? NULL : e + 1;
	if (!p->k)
		return parse_fail(p, "an instruction outside kernels", s), NULL;
	return parse_insn(p, parse_trim(s)) ? NULL : e + 1;
}

/* Constants that say where dynamic shared memory begins. */
static void place_dynamic(struct ptx_module *m)
{
	int i, l;

	for (i = 0; i < m->n_kernel; i++) {
		struct ptx_kernel *k = &m->kernel[i];
		int at = align_up(k->shared, k->dyn_align);

		for (l = 0; l < 32 && k->dyn_konst >= 0; l++)
			k->konst[k->dyn_konst][l] = (uint64_t)at;
	}
}

struct ptx_module *ptx_parse(const char *text, void *(*alloc)(size_t))
{
	struct parser *p = calloc(1, sizeof(*p));
	struct ptx_module *m = calloc(1, sizeof(*m));
	char *copy = strdup(text), *s = copy;
	const char *seen = text;
	uint32_t i;

	if (!p || !m || !copy)
		abort();
	p->m = m;
	p->alloc = alloc;
	p->line = 1;
	strip_comments(copy);
	while (s) {
		s += strspn(s, " \t\r\n\f\v;");
		/* The copy is cut up as it is read, the text is not. */
		for (; text + (s - copy) > seen; seen++)
			p->line += *seen == '\n';
		if (!*s)
			break;
		s = statement(p, s);
	}
	if (!m->error[0] && p->k)
		parse_fail(p, "a kernel without an end", p->k->name);
	place_dynamic(m);
	for (i = 0; i < p->room; i++)
		free(p->sym[i].name);
	free(p->sym);
	free(p->label);
	free(p->go);
	free(p->hidden);
	free(p);
	free(copy);
	return m;
}

void ptx_free(struct ptx_module *m)
{
	int i, j;

	if (!m)
		return;
	for (i = 0; i < m->n_kernel; i++) {
		struct ptx_kernel *k = &m->kernel[i];

		for (j = 0; j < k->n_code; j++)
			free(k->code[j].arg);
		free(k->code);
		free(k->konst);
		free(k->name);
	}
	for (i = 0; i < m->n_var; i++)
		free(m->var[i].name);
	free(m->kernel);
	free(m->var);
	free(m);
}
