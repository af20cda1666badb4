/* SPDX-License-Identifier: MIT */
/*
 * jinja_test.c - tests: value is name(arguments).
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

typedef bool test_fn(struct jinja *j, struct j_val v, const struct j_args *a);

#define TEST(name)                                        \
	static bool name(struct jinja *j, struct j_val v, \
			 const struct j_args *a)
#define PLAIN(name, expr)    \
	TEST(name)           \
	{                    \
		(void)j;     \
		(void)a;     \
		return expr; \
	}

PLAIN(t_defined, v.t != J_UNDEF)
PLAIN(t_undefined, v.t == J_UNDEF)
PLAIN(t_none, v.t == J_NONE)
PLAIN(t_boolean, v.t == J_BOOL)
PLAIN(t_true, v.t == J_BOOL && v.i)
PLAIN(t_false, v.t == J_BOOL && !v.i)
PLAIN(t_integer, v.t == J_INT)
PLAIN(t_float, v.t == J_FLOAT)
PLAIN(t_number, j_is_num(v))
PLAIN(t_string, v.t == J_STR)
PLAIN(t_mapping, v.t == J_DICT)
PLAIN(t_callable, v.t == J_FUNC || v.t == J_METHOD || v.t == J_MACRO)
PLAIN(t_escaped, v.t == J_STR && (v.f & JF_SAFE))
PLAIN(t_sequence,
      v.t == J_STR || v.t == J_LIST || v.t == J_DICT || v.t == J_UNDEF)
PLAIN(t_iterable, v.t == J_STR || v.t == J_LIST || v.t == J_DICT ||
			  v.t == J_UNDEF || v.t == J_LOOP)

static int64_t mod(struct jinja *j, struct j_val v, struct j_val by)
{
	struct j_val r = j_binary(j, '%', v, by);

	if (r.t == J_FLOAT)
		return r.d == 1 ? 1 : r.d == 0 ? 0 : 2;
	return r.t == J_INT ? r.i : 2;
}

TEST(t_even)
{
	(void)a;
	return mod(j, v, j_int(2)) == 0;
}

TEST(t_odd)
{
	(void)a;
	return mod(j, v, j_int(2)) == 1;
}

TEST(t_divisibleby)
{
	return mod(j, v, j_need(j, a, 0, "num", "divisibleby")) == 0;
}

static bool relation(struct jinja *j, unsigned op, struct j_val v,
		     const struct j_args *a)
{
	return j_true(j_compare(j, op, v, j_need(j, a, 0, NULL, "test")));
}

TEST(t_eq)
{
	return relation(j, OP_EQ, v, a);
}

TEST(t_ne)
{
	return relation(j, OP_NE, v, a);
}

TEST(t_lt)
{
	return relation(j, '<', v, a);
}

TEST(t_le)
{
	return relation(j, OP_LE, v, a);
}

TEST(t_gt)
{
	return relation(j, '>', v, a);
}

TEST(t_ge)
{
	return relation(j, OP_GE, v, a);
}

TEST(t_in)
{
	return relation(j, OP_IN, v, a);
}

TEST(t_sameas)
{
	struct j_val w = j_need(j, a, 0, "other", "sameas");

	if (v.t != w.t)
		return false;
	if (v.t == J_LIST || v.t == J_DICT || v.t == J_NS)
		return v.o == w.o;
	return j_equal(j, v, w);
}

/* Every letter is of one case, and there is one. */
static bool all_case(struct jinja *j, struct j_val v, unsigned want,
		     unsigned not )
{
	struct j_val s = j_str(j, v);
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	bool some = false;
	unsigned c;
	uint32_t cp;

	while (p < e) {
		p += utf8_get(p, e, &cp);
		c = uni_class(cp);
		if (c & not )
			return false;
		some |= (c & want) != 0;
	}
	return some;
}

TEST(t_lower)
{
	(void)a;
	return all_case(j, v, UC_LL, UC_LU);
}

TEST(t_upper)
{
	(void)a;
	return all_case(j, v, UC_LU, UC_LL);
}

TEST(t_filter)
{
	(void)j;
	(void)a;
	return v.t == J_STR && j_filter_find(v.s, v.n) >= 0;
}

TEST(t_test)
{
	(void)j;
	(void)a;
	return v.t == J_STR && j_test_find(v.s, v.n) >= 0;
}

/* clang-format off */
static const struct {
	const char *name;
	test_fn *fn;
} tests[] = {
	{ "defined", t_defined }, { "undefined", t_undefined },
	{ "none", t_none }, { "boolean", t_boolean }, { "true", t_true },
	{ "false", t_false }, { "integer", t_integer },
	{ "float", t_float }, { "number", t_number },
	{ "string", t_string }, { "mapping", t_mapping },
	{ "sequence", t_sequence }, { "iterable", t_iterable },
	{ "callable", t_callable }, { "escaped", t_escaped },
	{ "even", t_even }, { "odd", t_odd },
	{ "divisibleby", t_divisibleby },
	{ "eq", t_eq }, { "equalto", t_eq }, { "==", t_eq },
	{ "ne", t_ne }, { "!=", t_ne },
	{ "lt", t_lt }, { "lessthan", t_lt }, { "<", t_lt },
	{ "le", t_le }, { "<=", t_le },
	{ "gt", t_gt }, { "greaterthan", t_gt }, { ">", t_gt },
	{ "ge", t_ge }, { ">=", t_ge }, { "in", t_in },
	{ "sameas", t_sameas }, { "lower", t_lower }, { "upper", t_upper },
	{ "filter", t_filter }, { "test", t_test },
};
/* clang-format on */

int j_test_find(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (strlen(tests[i].name) == n && !memcmp(tests[i].name, s, n))
			return (int)i;
	return -1;
}

bool j_test(struct jinja *j, int id, struct j_val v, const struct j_args *a)
{
	return tests[id].fn(j, v, a);
}
