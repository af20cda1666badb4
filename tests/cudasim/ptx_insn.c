/* SPDX-License-Identifier: MIT */
/* ptx_insn.c - one PTX instruction from text to its decoded form. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_parse.h"
#include "ptx_special.h"

static const struct {
	const char *name;
	enum ptx_type type;
	int size;
} types[] = {
	/* clang-format off */
	{ "u8", T_U8, 1 },     { "b8", T_U8, 1 },     { "u16", T_U16, 2 },
	{ "b16", T_U16, 2 },   { "u32", T_U32, 4 },   { "b32", T_U32, 4 },
	{ "u64", T_U64, 8 },   { "b64", T_U64, 8 },   { "s8", T_S8, 1 },
	{ "s16", T_S16, 2 },   { "s32", T_S32, 4 },   { "s64", T_S64, 8 },
	{ "f16", T_F16, 2 },   { "bf16", T_BF16, 2 }, { "f32", T_F32, 4 },
	{ "f64", T_F64, 8 },   { "pred", T_PRED, 1 }, { "f16x2", T_F16X2, 4 },
	{ "bf16x2", T_BF16X2, 4 },
	/* clang-format on */
};

int parse_type(const char *s)
{
	unsigned int i;

	for (i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (!strcmp(s, types[i].name))
			return (int)types[i].type;
	return T_NONE;
}

int ptx_type_size(int ty)
{
	unsigned int i;

	for (i = 0; i < sizeof(types) / sizeof(*types); i++)
		if ((int)types[i].type == ty)
			return types[i].size;
	return 0;
}

/* Words between the dots of an opcode, and the field each one sets. */
#define FIELD(name, field, value)                             \
	{                                                     \
		name, offsetof(struct ptx_insn, field), value \
	}
#define NOTHING(name)             \
	{                         \
		name, SIZE_MAX, 0 \
	}
static const struct {
	const char *name;
	size_t field;
	uint8_t value;
} words[] = {
	/* clang-format off */
	FIELD("global", space, SP_GLOBAL), FIELD("const", space, SP_GLOBAL),
	FIELD("shared", space, SP_SHARED), FIELD("shared::cta", space, SP_SHARED),
	FIELD("shared::cluster", space, SP_SHARED),
	FIELD("local", space, SP_LOCAL), FIELD("param", space, SP_PARAM),
	FIELD("eq", cmp, CMP_EQ), FIELD("ne", cmp, CMP_NE),
	FIELD("lt", cmp, CMP_LT), FIELD("le", cmp, CMP_LE),
	FIELD("gt", cmp, CMP_GT), FIELD("ge", cmp, CMP_GE),
	FIELD("lo", cmp, CMP_LT), FIELD("ls", cmp, CMP_LE),
	FIELD("hi", cmp, CMP_GT), FIELD("hs", cmp, CMP_GE),
	FIELD("num", cmp, CMP_NUM), FIELD("nan", cmp, CMP_NAN),
	FIELD("rn", round, RN_NEAR), FIELD("rni", round, RN_NEAR),
	FIELD("rz", round, RN_ZERO), FIELD("rzi", round, RN_ZERO),
	FIELD("rm", round, RN_DOWN), FIELD("rmi", round, RN_DOWN),
	FIELD("rp", round, RN_UP), FIELD("rpi", round, RN_UP),
	FIELD("add", sub, SUB_ADD), FIELD("min", sub, SUB_MIN),
	FIELD("max", sub, SUB_MAX), FIELD("and", sub, SUB_AND),
	FIELD("or", sub, SUB_OR), FIELD("xor", sub, SUB_XOR),
	FIELD("exch", sub, SUB_EXCH), FIELD("cas", sub, SUB_CAS),
	FIELD("inc", sub, SUB_INC), FIELD("dec", sub, SUB_DEC),
	FIELD("v2", vec, 2), FIELD("v4", vec, 4), FIELD("v8", vec, 8),
	FIELD("volatile", strong, 1), FIELD("relaxed", strong, 1),
	FIELD("acquire", strong, 1), FIELD("release", strong, 1),
	FIELD("acq_rel", strong, 1), FIELD("mmio", strong, 1),
	FIELD("sat", sat, 1), FIELD("satfinite", sat, 1),
	FIELD("expect_tx", expect_tx, 1),
	NOTHING("weak"), NOTHING("gpu"), NOTHING("sys"), NOTHING("cta"),
	NOTHING("cluster"), NOTHING("approx"), NOTHING("full"), NOTHING("ftz"),
	NOTHING("nc"), NOTHING("ca"), NOTHING("cg"), NOTHING("cs"),
	NOTHING("lu"), NOTHING("cv"), NOTHING("wb"), NOTHING("wt"),
	NOTHING("L1::no_allocate"), NOTHING("L1::evict_last"),
	NOTHING("L1::evict_first"), NOTHING("L1::evict_normal"),
	NOTHING("L1::evict_unchanged"), NOTHING("L2::64B"),
	NOTHING("L2::128B"), NOTHING("L2::256B"), NOTHING("L2::evict_last"),
	NOTHING("L2::evict_normal"), NOTHING("L2"), NOTHING("uni"),
	NOTHING("sync"), NOTHING("aligned"), NOTHING("to"), NOTHING("row"),
	NOTHING("col"), NOTHING("all"), NOTHING("noftz"), NOTHING("proxy"),
	NOTHING("async"), NOTHING("sc"), NOTHING("gl"), NOTHING("parity"),
	NOTHING("wrap"), NOTHING("mbarrier::complete_tx::bytes"),
	FIELD("trans", trans, 1), FIELD("x1", vec, 1), FIELD("x2", vec, 2),
	FIELD("x4", vec, 4), NOTHING("tile"), NOTHING("read"),
	NOTHING("mbarrier_init"), NOTHING("m8n8"), NOTHING("tensor"),
	NOTHING("2d"), NOTHING("L2::cache_hint"),
	NOTHING("fractional"), NOTHING("L2::evict_first"),
	NOTHING("L2::evict_unchanged"),
	/* clang-format on */
};

/* The row with the longest name that OPCODE begins with. */
static const struct ptx_op *find_op(const char *opcode)
{
	const struct ptx_op *best = NULL;
	size_t best_n = 0;
	int i;

	for (i = 0; i < n_ptx_ops; i++) {
		size_t n = strlen(ptx_ops[i].name);

		if (n > best_n && !strncmp(opcode, ptx_ops[i].name, n) &&
		    (!opcode[n] || opcode[n] == '.')) {
			best = &ptx_ops[i];
			best_n = n;
		}
	}
	return best;
}

static int word(struct parser *p, struct ptx_insn *x, const char *w)
{
	int ty = parse_type(w);
	unsigned int i;
	char base[16];

	if (ty) {
		if (x->n_ty == 4)
			return parse_fail(p, "more than four types", w);
		x->ty[x->n_ty++] = (uint8_t)ty;
		return 0;
	}
	if (sscanf(w, "m%dn%dk%d", &x->shape[0], &x->shape[1], &x->shape[2]) ==
	    3)
		return 0;
	for (i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcmp(w, words[i].name))
			continue;
		if (words[i].field != SIZE_MAX)
			((uint8_t *)x)[words[i].field] = words[i].value;
		return 0;
	}
	/* ltu: or one of both is no number */
	snprintf(base, sizeof(base), "%.2s", w);
	if (strlen(w) == 3 && w[2] == 'u' && strcmp(base, w)) {
		x->unordered = true;
		return word(p, x, base);
	}
	return parse_fail(p, "a modifier that is not known", w);
}

static int opcode(struct parser *p, struct ptx_insn *x, char *s)
{
	char *rest, *w;

	x->op = find_op(s);
	if (!x->op)
		return parse_fail(p, "an instruction that is not known", s);
	rest = s + strlen(x->op->name);
	if (*rest == '.')
		rest++;
	while ((w = strsep(&rest, ".")))
		if (*w && word(p, x, w))
			return -EINVAL;
	return 0;
}

/* ------------------------------------------------------------ operands */

static int konst(struct ptx_kernel *k, uint64_t v)
{
	int i, l;

	for (i = 0; i < k->n_konst; i++)
		if (k->konst[i][0] == v && i != k->dyn_konst)
			return ~i;
	k->konst = parse_grow(k->konst, k->n_konst, sizeof(*k->konst));
	for (l = 0; l < 32; l++)
		k->konst[k->n_konst][l] = v;
	return ~k->n_konst++;
}

static int dynamic(struct ptx_kernel *k, int align)
{
	int i;

	if (k->dyn_konst < 0) {
		/* A value of its own, which no other constant is given. */
		i = konst(k, UINT64_C(0xd15ea5ed00000000));
		k->dyn_konst = ~i;
	}
	if (align > k->dyn_align)
		k->dyn_align = align;
	return ~k->dyn_konst;
}

static void add_arg(struct ptx_insn *x, int n, int reg)
{
	x->arg = parse_grow(x->arg, n, sizeof(*x->arg));
	x->arg[n] = reg;
	x->first[x->n_groups + 1] = (uint16_t)(n + 1);
}

static int number(struct parser *p, struct ptx_insn *x, int n, const char *s)
{
	char *end;
	uint64_t v;

	if (s[0] == '0' && s[1] && strchr("fFdD", s[1]))
		v = strtoull(s + 2, &end, 16);
	else if (*s == '-')
		v = (uint64_t)strtoll(s, &end, 0);
	else
		v = strtoull(s, &end, 0);
	if (*end == 'U')
		end++;
	if (*end)
		return parse_fail(p, "an operand that is no number", s);
	add_arg(x, n, konst(p->k, v));
	return 0;
}

/* One register, number or symbol; '!' before it negates. */
static int operand(struct parser *p, struct ptx_insn *x, char *s)
{
	int n = x->first[x->n_groups + 1];
	struct symbol *sym;
	int special;

	if (*s == '!') {
		x->not_arg = (uint8_t)(x->n_groups + 1);
		s = parse_trim(s + 1);
	}
	if (!strcmp(s, "_")) {
		add_arg(x, n, p->k->n_reg++);
		return 0;
	}
	if (isdigit((unsigned char)*s) || *s == '-')
		return number(p, x, n, s);
	sym = parse_symbol(p, s);
	special = sym ? -1 : ptx_special_find(s);
	if (special >= 0) {
		if (strcmp(x->op->name, "mov"))
			return parse_fail(p, "only mov reads it", s);
		x->target = special;
		add_arg(x, n, konst(p->k, 0));
		return 0;
	}
	if (!sym)
		return parse_fail(p, "an operand that is not declared", s);
	switch (sym->kind) {
	case SYM_REG:
		add_arg(x, n, (int)sym->v);
		break;
	case SYM_DYNAMIC:
		add_arg(x, n, dynamic(p->k, (int)sym->v));
		break;
	case SYM_PARAM:
		add_arg(x, n, konst(p->k, PTX_PARAM_BASE + (uint64_t)sym->v));
		break;
	default:
		add_arg(x, n, konst(p->k, (uint64_t)sym->v));
	}
	return 0;
}

static int list(struct parser *p, struct ptx_insn *x, char *s)
{
	char *one;

	while ((one = strsep(&s, ",")))
		if (operand(p, x, parse_trim(one)))
			return -EINVAL;
	return 0;
}

/* "[%rd1+16]", or a tensor map and where in it: "[%rd1, {%r1, %r2}]" */
static int address(struct parser *p, struct ptx_insn *x, char *s)
{
	char *brace = strchr(s, '{'), *end = strrchr(s, ']'), *plus;

	if (!end)
		return parse_fail(p, "a bracket that is not closed", s);
	*end = 0;
	s++;
	if (brace) {
		char *comma = strchr(s, ','), *close = strchr(brace, '}');

		if (!close || !comma || comma > brace)
			return parse_fail(p, "a place in a tensor", s);
		*comma = *close = 0;
		if (operand(p, x, parse_trim(s)))
			return -EINVAL;
		return list(p, x, brace + 1);
	}
	plus = strchr(s, '+');
	if (plus) {
		x->off[x->n_groups] = (int)strtol(plus + 1, NULL, 0);
		*plus = 0;
	}
	return operand(p, x, parse_trim(s));
}

static int group(struct parser *p, struct ptx_insn *x, char *s)
{
	char *bar;
	int rc;

	if (!*s)
		return parse_fail(p, "an operand is missing", x->op->name);
	if (x->n_groups == PTX_GROUPS)
		return parse_fail(p, "too many operands", s);
	x->first[x->n_groups + 1] = x->first[x->n_groups];
	bar = strchr(s, '|');
	if (*s == '{') {
		char *end = strrchr(s, '}');

		if (!end)
			return parse_fail(p, "a brace that is not closed", s);
		*end = 0;
		rc = list(p, x, s + 1);
	} else if (*s == '[') {
		rc = address(p, x, s);
	} else if (bar) {
		/* d|p: one operand of two */
		*bar = 0;
		rc = operand(p, x, parse_trim(s));
		rc = rc ? rc : operand(p, x, parse_trim(bar + 1));
	} else {
		rc = operand(p, x, s);
	}
	x->n_groups++;
	return rc;
}

static int operands(struct parser *p, struct ptx_insn *x, char *s)
{
	int depth = 0;
	char *from = s;

	if (!*s)
		return 0;
	for (;; s++) {
		bool end = !*s;

		depth += (*s == '{' || *s == '[') - (*s == '}' || *s == ']');
		if (!end && (*s != ',' || depth))
			continue;
		*s = 0;
		if (group(p, x, parse_trim(from)))
			return -EINVAL;
		from = s + 1;
		if (end)
			return 0;
	}
}

static int branch(struct parser *p, struct ptx_insn *x, const char *s)
{
	p->go = parse_grow(p->go, p->n_goto, sizeof(*p->go));
	p->go[p->n_goto++] =
		(struct goto_){ strdup(s), p->k->n_code, p->scope };
	x->scope = p->scope;
	return 0;
}

static char *guard(struct parser *p, struct ptx_insn *x, char *s)
{
	struct symbol *sym;
	char *e;

	s++;
	if (*s == '!') {
		x->pred_not = true;
		s++;
	}
	e = s + strcspn(s, " \t\n");
	if (!*e)
		return parse_fail(p, "a guard of nothing", s), NULL;
	*e = 0;
	sym = parse_symbol(p, s);
	if (!sym || sym->kind != SYM_REG)
		return parse_fail(p, "a guard that is not declared", s), NULL;
	x->pred = (int)sym->v;
	return parse_trim(e + 1);
}

/* Directed roundings of float and double are the processor's own. */
static bool rounds(struct ptx_insn *x)
{
	int ty = x->ty[0];

	if (x->round <= RN_NEAR || (ty != x->ty[1] && ty < T_F16))
		return true;
	x->directed = ty == T_F32 || ty == T_F64;
	return x->directed || ty == x->ty[1];
}

int parse_insn(struct parser *p, char *s)
{
	struct ptx_kernel *k = p->k;
	struct ptx_insn x = { .pred = -1, .target = -1 };
	char whole[160], *rest;
	int rc;

	x.line = p->line;
	if (*s == '@') {
		s = guard(p, &x, s);
		if (!s)
			return -EINVAL;
	}
	snprintf(whole, sizeof(whole), "%s", s);
	rest = s + strcspn(s, " \t\n");
	if (*rest)
		*rest++ = 0;
	rest = parse_trim(rest);
	rc = opcode(p, &x, s);
	if (!rc)
		rc = !strcmp(x.op->name, "bra") ? branch(p, &x, rest)
						: operands(p, &x, rest);
	if (!rc && (x.n_groups < x.op->n_least || x.n_groups > x.op->n_most))
		rc = parse_fail(p, "so many operands it does not have", whole);
	if (!rc && !rounds(&x))
		rc = parse_fail(p, "a rounding that is not modelled", whole);
	if (rc) {
		free(x.arg);
		return rc;
	}
	k->code = parse_grow(k->code, k->n_code, sizeof(*k->code));
	k->code[k->n_code++] = x;
	return 0;
}
