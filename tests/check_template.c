/* SPDX-License-Identifier: MIT */
/*
 * check_template.c - templates: what jinja2 makes of small ones, depth and
 * size ladders, real templates if at hand, and hearth_apply_template().
 */
#include <check.h>
#include <errno.h>
#include <glob.h>
#include <jansson.h>
#include <time.h>

#include "../libclient/jinja.h"
#include "vocab_make.h"

#define CASES "tests/golden/template.json"
#define DATA  "../shared/data/templates/"
#define NOW   1760000000

static char why[512];

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int render(const char *tmpl, size_t n, const char *vars,
		  const struct jinja_limits *lim, char **out)
{
	const struct jinja_limits none = { .now = NOW };
	size_t n_vars = strlen(vars), got;
	int err;

	err = jinja_render(tmpl, n, &vars, &n_vars, 1, lim ? lim : &none, out,
			   &got, why, sizeof(why));
	ck_assert((err != 0) == (*out == NULL));
	if (!err)
		ck_assert_uint_eq(strlen(*out), got);
	return err;
}

/* Everything in the table, whose results Python computed. */
START_TEST(cases)
{
	json_t *all = json_load_file(CASES, 0, NULL), *c;
	const char *tmpl, *want;
	char *vars, *out;
	size_t i;
	int err;

	ck_assert_msg(all != NULL, "cannot read " CASES);
	vars = json_dumps(json_object_get(all, "vars"), 0);
	json_array_foreach(json_object_get(all, "cases"), i, c)
	{
		tmpl = json_string_value(json_object_get(c, "t"));
		want = json_string_value(json_object_get(c, "want"));
		err = render(tmpl, strlen(tmpl), vars, NULL, &out);
		if (!want)
			ck_assert_msg(err == -EINVAL, "%s: is no error", tmpl);
		else
			ck_assert_msg(!err && !strcmp(out, want),
				      "%s\n want %s\n got  %s", tmpl, want,
				      err ? why : out);
		free(out);
	}
	ck_assert_uint_gt(i, 100);
	free(vars);
	json_decref(all);
}
END_TEST

START_TEST(messages)
{
	static const struct {
		const char *tmpl, *want;
	} t[] = {
		{ "a\nb {{ x.y.z }}", "line 2: 'x' is undefined" },
		{ "\n\n{% if %}", "line 3: expected an expression, not '%}'" },
		{ "{{ raise_exception('no tools here') }}",
		  "line 1: no tools here" },
		{ "{% for x in y %}", "a block does not end" },
		{ "{{ 1 | frob }}", "no filter named 'frob'" },
		{ "{{ 1 is frob }}", "no test named 'frob'" },
		{ "{% include 'x' %}", "unknown tag" },
		{ "{{ 9223372036854775807 + 1 }}", "too large" },
		{ "{{ 99999999999999999999 }}", "too large" },
		{ "{{ [1] | sort(attribute='a.b') | length and 1 < 'a' }}",
		  "'<' not supported between instances of 'int' and 'str'" },
	};
	char *out;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		ck_assert_int_eq(render(t[i].tmpl, strlen(t[i].tmpl), "{}",
					NULL, &out),
				 -EINVAL);
		ck_assert_msg(strstr(why, t[i].want) != NULL, "%s: %s",
			      t[i].tmpl, why);
	}
}
END_TEST

START_TEST(bad_json)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"{\"a\"}",
		"{\"a\":}",
		"{}x",
		"{\"a\":1,}",
		"{\"a\":tru}",
		"{\"a\":01x}",
		"{\"a\":\"\\u12\"}",
		"{\"a\":\"\\q\"}",
		"{\"a\":\"x",
		"nul",
		"{\"a\":+1}",
		"{\"a\":\"\n\"}",
		"{\"a\":[1 2]}",
		"{1:2}",
		"{\"a\":-}",
		"{\"a\":1e}",
		"{\"a\":.5}",
	};
	char *out;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(render("x", 1, bad[i], NULL, &out) == -EINVAL,
			      "%s is no error", bad[i]);
	ck_assert_int_eq(render("{{ a }}", 7,
				" { \"a\" : \"\\ud83d\\ude00\\/\\n\" } ", NULL,
				&out),
			 0);
	ck_assert_str_eq(out, "\xf0\x9f\x98\x80/\n");
	free(out);
}
END_TEST

/* ----------------------------------------------------------- ladders */

/* @n times @open, @mid, @n times @close. */
static char *nested(const char *open, const char *mid, const char *close,
		    size_t n, size_t *len)
{
	size_t a = strlen(open), m = strlen(mid), c = strlen(close), i;
	char *p = malloc(n * (a + c) + m + 1), *q = p;

	ck_assert_ptr_nonnull(p);
	for (i = 0; i < n; i++, q += a)
		memcpy(q, open, a);
	memcpy(q, mid, m);
	q += m;
	for (i = 0; i < n; i++, q += c)
		memcpy(q, close, c);
	*q = 0;
	*len = (size_t)(q - p);
	return p;
}

static const struct {
	const char *open, *mid, *close;
} ladders[] = {
	{ "(", "1", ")" },	     { "[", "1", "]" },
	{ "{'a':", "1", "}" },	     { "-", "1", "" },
	{ "not ", "1", "" },	     { "1+", "1", "" },
	{ "1 if 1 else ", "1", "" }, { "a", "", "" },
	{ "'a'~", "1", "" },	     { "a.", "a", "" },
	{ "a[", "1", "]" },	     { "a(", "1", ")" },
	{ "1|abs", "", "" },	     { "1", "", "|abs" },
	{ "1 and ", "1", "" },	     { "1<", "2", "" },
	{ "1**", "2", "" },	     { "", "1", " is odd" },
};

START_TEST(deep_expressions)
{
	size_t sizes[] = { 100, 1000, 1000000 }, i, k, n;
	char *t, *text, *out;
	double s;
	int err;

	for (i = 0; i < sizeof(ladders) / sizeof(ladders[0]); i++) {
		for (k = 0; k < 3; k++) {
			t = nested(ladders[i].open, ladders[i].mid,
				   ladders[i].close, sizes[k], &n);
			text = malloc(n + 8);
			n = (size_t)sprintf(text, "{{%s}}", t);
			s = cpu_s();
			err = render(text, n, "{}", NULL, &out);
			s = cpu_s() - s;
			ck_assert_msg(!err || why[0], "no message");
			ck_assert_msg(err == 0 || err == -EINVAL ||
					      err == -E2BIG,
				      "%s: %d", ladders[i].open, err);
#ifndef HEARTH_SANITIZE
			ck_assert_msg(s < 3, "%s: %.1f s", ladders[i].open, s);
#else
			(void)s;
#endif
			free(out);
			free(text);
			free(t);
		}
	}
}
END_TEST

START_TEST(deep_blocks)
{
	static const char *const b[][2] = {
		{ "{% if 1 %}", "{% endif %}" },
		{ "{% for x in [1] %}", "{% endfor %}" },
		{ "{% set x %}", "{% endset %}" },
		{ "{% macro m() %}", "{% endmacro %}" },
		{ "{% filter upper %}", "{% endfilter %}" },
		{ "{% with %}", "{% endwith %}" },
		{ "{% generation %}", "{% endgeneration %}" },
		{ "{% if 1 %}", "" },
		{ "{% endif %}", "" },
		{ "{#", "" },
		{ "{{", "" },
	};
	size_t i, n;
	char *t, *out;
	int err;

	for (i = 0; i < sizeof(b) / sizeof(b[0]); i++) {
		t = nested(b[i][0], "x", b[i][1], 100000, &n);
		err = render(t, n, "{}", NULL, &out);
		ck_assert_msg(err == -E2BIG || err == -EINVAL, "%s: %d",
			      b[i][0], err);
		free(t);
	}
	t = nested("[", "1", "]", 1000000, &n);
	ck_assert_int_eq(render("x", 1, t, NULL, &out), -EINVAL);
	ck_assert(strstr(why, "nested too deep"));
	free(t);
}
END_TEST

/* What runs for ever or eats memory is stopped. */
START_TEST(limits)
{
	static const char *const bad[] = {
		"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"{% for x in range(1000000000) %}{% endfor %}",
		"{% for x in range(99999) %}{% for y in range(99999) %}x"
		"{% endfor %}{% endfor %}",
		"{% set ns = namespace(s='x') %}{% for x in range(99) %}"
		"{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
		"{{ 'x' * 2000000000 }}",
		"{{ 'x' * 4000000000000000000 }}",
		"{{ [0] * 4000000000000000000 }}",
		"{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
		"{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
		"{% set l = [] %}{% set _ = l.append(l) %}"
		"{{ l == [[[[[l]]]]] and l < [[l]] }}",
		"{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}"
		"{% endfor %}",
		"{{ '%99999999s' % 'x' * 9999999 }}",
		"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
		"{{ ('a' * 100000).split('a') * 99999 }}",
		"{{ 'x' | indent(999999999) }}",
		"{{ 'x'.center(99999999999) }}",
		"{{ range(3) | batch(9999999999, 'x') | list }}",
		"{{ range(3) | slice(9999999999) | list }}",
	};
	const struct jinja_limits lim = { .mem = 8 << 20, .steps = 4 << 20 };
	char *out;
	size_t i;
	double s;
	int err;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		s = cpu_s();
		err = render(bad[i], strlen(bad[i]), "{}", &lim, &out);
		s = cpu_s() - s;
		ck_assert_msg(err == -E2BIG, "%s: %d %s", bad[i], err, why);
#ifndef HEARTH_SANITIZE
		ck_assert_msg(s < 1, "%s: %.1f s", bad[i], s);
#endif
	}
}
END_TEST

/* A long conversation costs little: text grows in place. */
START_TEST(long_talk)
{
	static const char tmpl[] =
		"{% set ns = namespace(s='') %}{% for m in messages %}"
		"{% set ns.s = ns.s + '<' + m.role + '>' + m.content | trim + "
		"'\\n' %}{% endfor %}{{ ns.s }}";
	size_t i, n = 20000, at;
	char *vars = malloc(n * 120 + 64), *out;
	double s;

	at = (size_t)sprintf(vars, "{\"messages\": [");
	for (i = 0; i < n; i++)
		at += (size_t)sprintf(vars + at,
				      "%s{\"role\": \"user\", \"content\": "
				      "\" A message of some length, number "
				      "%zu.\\n\"}",
				      i ? "," : "", i);
	sprintf(vars + at, "]}");
	s = cpu_s();
	ck_assert_msg(!render(tmpl, strlen(tmpl), vars, NULL, &out), "%s", why);
	printf("%zu messages: %.3f s\n", n, cpu_s() - s);
	ck_assert_uint_gt(strlen(out), n * 40);
	free(out);
	free(vars);
}
END_TEST

/* ------------------------------------------------------- real templates */

static char *read_all(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *p = malloc(1 << 20);

	ck_assert(f && p);
	*n = fread(p, 1, 1 << 20, f);
	fclose(f);
	return p;
}

/* Nearly all render a plain conversation; some refuse one without tools. What
 * they render is compared with jinja2 by golden/template.py. */
START_TEST(data)
{
	static const char vars[] =
		"{\"messages\": [{\"role\": \"user\", \"content\": \"Marker "
		"4711\"}], \"tools\": null, \"documents\": null, "
		"\"add_generation_prompt\": true, \"bos_token\": \"<s>\", "
		"\"eos_token\": \"</s>\"}";
	size_t i, n, good = 0;
	char *t, *out;
	glob_t g;
	int err;

	if (glob(DATA "*.jinja", 0, NULL, &g)) {
		printf("skipped: no data in " DATA "\n");
		return;
	}
	for (i = 0; i < g.gl_pathc; i++) {
		t = read_all(g.gl_pathv[i], &n);
		err = render(t, n, vars, NULL, &out);
		ck_assert_msg(!err || err == -EINVAL, "%s: %s", g.gl_pathv[i],
			      why);
		if (err)
			printf("%s: %s\n", g.gl_pathv[i], why);
		else
			ck_assert_msg(strstr(out, "Marker 4711") != NULL,
				      "%s: %s", g.gl_pathv[i], out);
		good += !err;
		free(out);
		free(t);
	}
	printf("%zu of %zu real templates render\n", good, g.gl_pathc);
	ck_assert_uint_ge(good * 10, g.gl_pathc * 9);
	globfree(&g);
}
END_TEST

/* -------------------------------------------------------- the public call */

static void apply(const struct hearth_model *m,
		  const struct hearth_template_options *opt, const char *want)
{
	static const struct hearth_message talk[] = {
		{ "system", "Be \"brief\"." },
		{ "user", "Hi\n" },
	};
	char out[512] = "";
	int64_t n;

	n = hearth_apply_template(m, talk, 2, opt, out, sizeof(out), why,
				  sizeof(why));
	ck_assert_msg(n >= 0, "%s", why);
	ck_assert_int_lt(n, sizeof(out));
	out[n] = 0;
	ck_assert_str_eq(out, want);
	/* too little room: the length is the same, and nothing is overrun */
	memset(out, '#', sizeof(out));
	ck_assert_int_eq(hearth_apply_template(m, talk, 2, opt, out, 5, why,
					       sizeof(why)),
			 n);
	ck_assert_int_eq(out[5], '#');
	ck_assert(!memcmp(out, want, 5));
}

START_TEST(models)
{
	struct hearth_template_options HEARTH_INIT(opt);
	struct hearth_message bad = { "user", NULL };
	struct hearth_model *m;
	void *image;
	struct gm g;

	/* its own template */
	gm_init(&g);
	vm_bpe(&g, "gpt-2");
	gm_kv_str(&g, "tokenizer.chat_template",
		  "{{ bos_token }}{% for m in messages %}[{{ m.role }}]"
		  "{{ m.content }}{% endfor %}{% if add_generation_prompt %}"
		  "[{{ name or 'bot' }}]{% endif %}");
	ck_assert_int_eq(vm_model(&g, &m, &image, why), 0);
	apply(m, NULL, "<|bos|>[system]Be \"brief\".[user]Hi\n[bot]");
	opt.vars_json = "{\"name\": \"me\"}";
	apply(m, &opt, "<|bos|>[system]Be \"brief\".[user]Hi\n[me]");
	opt.no_generation_prompt = true;
	apply(m, &opt, "<|bos|>[system]Be \"brief\".[user]Hi\n");
	opt.vars_json = "{\"messages\": []}";
	apply(m, &opt, "<|bos|>");
	opt.tmpl = "{{ eos_token }}/{{ messages | length }}/{{ tools }}";
	apply(m, &opt, "<|end|>/0/None");
	/* a caller of an earlier version: what it cannot name is the default */
	opt.size = offsetof(struct hearth_template_options, vars_json);
	apply(m, &opt, "<|end|>/2/None");
	opt.size = sizeof(opt);
	opt.tmpl = "{{ x.y }}";
	ck_assert_int_eq(hearth_apply_template(m, NULL, 0, &opt, NULL, 0, why,
					       sizeof(why)),
			 -EINVAL);
	ck_assert_str_eq(why, "template: line 1: 'x' is undefined");
	ck_assert_int_eq(hearth_apply_template(m, &bad, 1, NULL, NULL, 0, why,
					       sizeof(why)),
			 -EINVAL);
	opt.size = 3;
	ck_assert_int_eq(hearth_apply_template(m, NULL, 0, &opt, NULL, 0, NULL,
					       0),
			 -EINVAL);
	hearth_model_close(&m);
	free(image);
	gm_free(&g);

	/* none: a plain one */
	gm_init(&g);
	vm_bpe(&g, "gpt-2");
	ck_assert_int_eq(vm_model(&g, &m, &image, why), 0);
	apply(m, NULL, "System: Be \"brief\".\n\nUser: Hi\n\nAssistant:");
	hearth_model_close(&m);
	free(image);
	gm_free(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template");
	TCase *t = tcase_create("template");
	SRunner *r;
	int failed;

	setenv("TZ", "UTC", 1);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, cases);
	tcase_add_test(t, messages);
	tcase_add_test(t, bad_json);
	tcase_add_test(t, deep_expressions);
	tcase_add_test(t, deep_blocks);
	tcase_add_test(t, limits);
	tcase_add_test(t, long_talk);
	tcase_add_test(t, data);
	tcase_add_test(t, models);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
