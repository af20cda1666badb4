/* SPDX-License-Identifier: MIT */
/*
 * jinja_filter.c - filters: value | name(arguments); those of sequences are in
 * jinja_seq.c.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_int.h"
#include "unicode.h"

/* -------------------------------------------------------------- arguments */

struct j_val j_arg(struct jinja *j, const struct j_args *a, unsigned i,
		   const char *name, struct j_val dflt)
{
	struct j_val kw = { .t = J_DICT, .o = a->kw }, *v;

	if (i < a->pos->n)
		return a->pos->v[i];
	v = name && a->kw->n ? j_find_lit(j, kw, name) : NULL;
	return v ? *v : dflt;
}

struct j_val j_need(struct jinja *j, const struct j_args *a, unsigned i,
		    const char *name, const char *who)
{
	struct j_val none = { .t = J_METHOD }, v = j_arg(j, a, i, name, none);

	if (v.t == J_METHOD && !v.self)
		j_fail(j, -EINVAL, "%s: an argument is missing", who);
	return v;
}

int64_t j_want_int(struct jinja *j, struct j_val v, const char *who)
{
	if (v.t != J_INT && v.t != J_BOOL)
		j_fail(j, -EINVAL, "%s: an integer is needed, not %s", who,
		       j_type_name(v));
	return v.i;
}

int64_t j_int_arg(struct jinja *j, const struct j_args *a, unsigned i,
		  const char *name, int64_t dflt)
{
	return j_want_int(j, j_arg(j, a, i, name, j_int(dflt)), name);
}

bool j_flag_arg(struct jinja *j, const struct j_args *a, unsigned i,
		const char *name, bool dflt)
{
	return j_true(j_arg(j, a, i, name, j_bool(dflt)));
}

/* ---------------------------------------------------------------- numbers */

static struct j_val f_abs(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	(void)a;
	if (!j_is_num(v))
		j_fail(j, -EINVAL, "bad operand type for abs(): '%s'",
		       j_type_name(v));
	if (v.t == J_FLOAT)
		return j_float(fabs(v.d));
	return v.i < 0 ? j_binary(j, '-', j_int(0), v) : j_int(v.i);
}

/* A number's text without blanks; false if it is too long to be one. */
static bool number_text(struct j_val v, char *s, size_t n)
{
	v = j_strip(v, j_none, 3);
	if (!v.n || v.n >= n || memchr(v.s, 'x', v.n) || memchr(v.s, 'X', v.n))
		return false;
	memcpy(s, v.s, v.n);
	s[v.n] = 0;
	return true;
}

static struct j_val f_float(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val dflt = j_arg(j, a, 0, "default", j_float(0));
	char s[64], *e;
	double d;

	if (j_is_num(v))
		return j_float(j_num(v));
	if (v.t != J_STR || !number_text(v, s, sizeof(s)))
		return dflt;
	d = strtod(s, &e);
	return *e ? dflt : j_float(d);
}

static struct j_val f_int(struct jinja *j, struct j_val v,
			  const struct j_args *a)
{
	struct j_val dflt = j_arg(j, a, 0, "default", j_int(0));
	int64_t base = j_int_arg(j, a, 1, "base", 10);
	char s[64], *e;
	double d;
	long long i;

	if (v.t == J_INT || v.t == J_BOOL)
		return j_int(v.i);
	if (v.t == J_STR) {
		if (base < 2 || base > 36 || !number_text(v, s, sizeof(s)))
			return dflt;
		errno = 0;
		i = strtoll(s, &e, (int)base);
		if (!*e && !errno)
			return j_int(i);
		d = strtod(s, &e);
		if (*e)
			return dflt;
	} else if (v.t == J_FLOAT) {
		d = v.d;
	} else {
		return dflt;
	}
	return fabs(d) < 9e18 ? j_int((int64_t)d) : dflt;
}

static struct j_val f_round(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	int64_t digits = j_int_arg(j, a, 0, "precision", 0);
	struct j_val how = j_arg(j, a, 1, "method", j_lit("common"));
	double k, d;

	if (!j_is_num(v))
		j_fail(j, -EINVAL, "round: a number is needed, not %s",
		       j_type_name(v));
	if (digits < -300 || digits > 300)
		return j_float(j_num(v));
	if (v.t != J_FLOAT && j_is(how, "common") && digits >= 0)
		return j_int(v.i);
	k = pow(10, (double)digits);
	d = j_num(v) * k;
	d = j_is(how, "ceil")	 ? ceil(d)
	    : j_is(how, "floor") ? floor(d)
				 : nearbyint(d);
	return j_float(d / k);
}

/* ---------------------------------------------------------------- strings */

struct j_val j_lower(struct jinja *j, struct j_val v)
{
	const struct j_list none = { 0 };
	struct j_dict kw = { 0 };
	struct j_args a = { .pos = (struct j_list *)&none, .kw = &kw };
	struct j_val m;

	v = j_str(j, v);
	m = j_method(j, v, j_lit("lower"));
	return j_call_method(j, m, &a);
}

/* A filter that is a method of the string. */
static struct j_val as_method(struct jinja *j, struct j_val v, const char *name,
			      const struct j_args *a)
{
	v = j_str(j, v);
	return j_call_method(j, j_method(j, v, j_lit(name)), a);
}

static struct j_val f_lower(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	return as_method(j, v, "lower", a);
}

static struct j_val f_upper(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	return as_method(j, v, "upper", a);
}

static struct j_val f_capitalize(struct jinja *j, struct j_val v,
				 const struct j_args *a)
{
	return as_method(j, v, "capitalize", a);
}

/* Words begin after blanks, dashes and opening brackets. */
static struct j_val f_title(struct jinja *j, struct j_val v,
			    const struct j_args *a)
{
	struct j_val s = j_str(j, v);
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	struct j_buf b = { 0 };
	bool start = true;
	uint32_t cp;
	unsigned n;

	(void)a;
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp == UNI_BAD)
			j_add(j, &b, (const char *)p, n);
		else
			j_addc(j, &b, start ? uni_upper(cp) : uni_lower(cp));
		start = (uni_class(cp) & UC_WS) ||
			(cp < 128 && cp && strchr("-({[<", (int)cp));
	}
	return j_done(&b);
}

static struct j_val f_trim(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct j_val s = j_str(j, v);

	s.f &= JF_SAFE;
	return j_strip(s, j_arg(j, a, 0, "chars", j_none), 3);
}

static struct j_val f_replace(struct jinja *j, struct j_val v,
			      const struct j_args *a)
{
	return as_method(j, v, "replace", a);
}

static struct j_val f_string(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	(void)a;
	return j_str(j, v);
}

static struct j_val f_safe(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	(void)a;
	v = j_str(j, v);
	v.f |= JF_SAFE;
	return v;
}

static struct j_val f_escape(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	(void)a;
	return j_escape(j, v);
}

static struct j_val f_forceescape(struct jinja *j, struct j_val v,
				  const struct j_args *a)
{
	(void)a;
	v = j_str(j, v);
	v.f = 0;
	return j_escape(j, v);
}

static struct j_val f_format(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	struct j_val pos = { .t = J_LIST, .f = JF_TUPLE, .l = a->pos };
	struct j_val kw = { .t = J_DICT, .o = a->kw };

	return j_format(j, j_str(j, v), a->kw->n ? kw : pos);
}

static struct j_val f_indent(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	struct j_val w = j_arg(j, a, 0, "width", j_int(4)), s = j_str(j, v);
	bool first = j_flag_arg(j, a, 1, "first", false);
	bool blank = j_flag_arg(j, a, 2, "blank", false);
	const char *p = s.s, *e = s.s + s.n, *q;
	struct j_buf b = { 0 };
	struct j_val pad;

	pad = w.t == J_STR ? w
			   : j_binary(j, '*', j_lit(" "),
				      j_int(j_want_int(j, w, "indent")));
	for (; p <= e; p = q + 1) {
		q = p < e ? memchr(p, '\n', (size_t)(e - p)) : NULL;
		if (!q)
			q = e;
		if (p == s.s ? first : (blank || q > p))
			j_add(j, &b, pad.s, pad.n);
		j_add(j, &b, p, (size_t)(q - p));
		if (q < e)
			j_add(j, &b, "\n", 1);
	}
	return j_done(&b);
}

static struct j_val f_center(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	if (a->pos->n || a->kw->n)
		return as_method(j, v, "center", a);
	j_fail(j, -EINVAL, "center: an argument is missing");
}

static struct j_val f_wordcount(struct jinja *j, struct j_val v,
				const struct j_args *a)
{
	struct j_val s = j_str(j, v);
	const uint8_t *p = (const uint8_t *)s.s, *e = p + s.n;
	bool in = false, w;
	int64_t n = 0;
	uint32_t cp;

	(void)a;
	j_step(j, s.n);
	while (p < e) {
		p += utf8_get(p, e, &cp);
		w = cp == '_' || (uni_class(cp) & (UC_L | UC_N));
		n += w && !in;
		in = w;
	}
	return j_int(n);
}

static struct j_val f_truncate(struct jinja *j, struct j_val v,
			       const struct j_args *a)
{
	int64_t len = j_int_arg(j, a, 0, "length", 255);
	bool hard = j_flag_arg(j, a, 1, "killwords", false);
	struct j_val end = j_str(j, j_arg(j, a, 2, "end", j_lit("...")));
	int64_t leeway = j_int_arg(j, a, 3, "leeway", 5), keep;
	struct j_val s = j_str(j, v);
	const char *q;

	keep = len - (int64_t)j_chars(end);
	if (keep < 0 || leeway < 0)
		j_fail(j, -EINVAL, "truncate: %lld is too short",
		       (long long)len);
	if ((int64_t)j_chars(s) - leeway <= len)
		return s;
	s.n = (uint32_t)j_char_off(s, (uint64_t)keep);
	q = hard || !s.n ? NULL : memrchr(s.s, ' ', s.n);
	if (q)
		s.n = (uint32_t)(q - s.s);
	return j_cat(j, s, end);
}

static struct j_val f_striptags(struct jinja *j, struct j_val v,
				const struct j_args *a)
{
	struct j_val s = j_str(j, v), out;
	const char *p = s.s, *e = s.s + s.n, *q;
	struct j_buf b = { 0 };
	bool gap = false;

	(void)a;
	while (p < e) {
		q = *p == '<' ? memchr(p, '>', (size_t)(e - p)) : NULL;
		if (q) {
			p = q + 1;
		} else if (*p == ' ' || (*p >= '\t' && *p <= '\r')) {
			gap = true;
			p++;
		} else {
			if (gap && b.n)
				j_add(j, &b, " ", 1);
			gap = false;
			j_add(j, &b, p++, 1);
		}
		j_step(j, 1);
	}
	out = j_done(&b);
	return out;
}

static struct j_val f_urlencode(struct jinja *j, struct j_val v,
				const struct j_args *a)
{
	static const char hex[] = "0123456789ABCDEF";
	struct j_val s = j_str(j, v);
	struct j_buf b = { 0 };
	char x[3] = "%";
	uint8_t c;
	uint32_t i;

	(void)a;
	for (i = 0; i < s.n; i++) {
		c = (uint8_t)s.s[i];
		if ((c < 128 && (uni_class(c) & (UC_L | UC_N))) ||
		    (c && strchr("_.-~/", c))) {
			j_add(j, &b, s.s + i, 1);
			continue;
		}
		x[1] = hex[c >> 4];
		x[2] = hex[c & 15];
		j_add(j, &b, x, 3);
	}
	return j_done(&b);
}

/* ----------------------------------------------------------------- others */

static struct j_val f_default(struct jinja *j, struct j_val v,
			      const struct j_args *a)
{
	struct j_val d = j_arg(j, a, 0, "default_value", j_lit(""));

	if (v.t == J_UNDEF ||
	    (!j_true(v) && j_flag_arg(j, a, 1, "boolean", false)))
		return d;
	return v;
}

static struct j_val f_attr(struct jinja *j, struct j_val v,
			   const struct j_args *a)
{
	struct j_val name = j_str(j, j_need(j, a, 0, "name", "attr"));
	struct j_val m;

	if (v.t == J_UNDEF || v.t == J_NS || v.t == J_LOOP || v.t == J_MACRO)
		return j_get_attr(j, v, name);
	m = j_method(j, v, name);
	return m.t == J_UNDEF ? j_undef(name.s, name.n) : m;
}

static struct j_val f_tojson(struct jinja *j, struct j_val v,
			     const struct j_args *a)
{
	bool ascii = j_flag_arg(j, a, 0, "ensure_ascii", false);
	struct j_val indent = j_arg(j, a, 1, "indent", j_none);
	struct j_val sep = j_arg(j, a, 2, "separators", j_none);
	bool sort = j_flag_arg(j, a, 3, "sort_keys", false);

	if (indent.t == J_INT || indent.t == J_BOOL)
		indent = j_binary(j, '*', j_lit(" "), indent);
	return j_json(j, v, indent, sort, ascii, sep);
}

/* clang-format off */
static const struct j_filter_row filters[] = {
	{ "abs", f_abs }, { "attr", f_attr }, { "capitalize", f_capitalize },
	{ "center", f_center }, { "d", f_default }, { "default", f_default },
	{ "e", f_escape }, { "escape", f_escape }, { "float", f_float },
	{ "forceescape", f_forceescape }, { "format", f_format },
	{ "indent", f_indent }, { "int", f_int }, { "lower", f_lower },
	{ "replace", f_replace }, { "round", f_round }, { "safe", f_safe },
	{ "string", f_string }, { "striptags", f_striptags },
	{ "title", f_title }, { "tojson", f_tojson }, { "trim", f_trim },
	{ "truncate", f_truncate }, { "upper", f_upper },
	{ "urlencode", f_urlencode }, { "wordcount", f_wordcount },
	{ NULL, NULL },
};
/* clang-format on */

/* Filters of sequences have numbers from here on. */
#define SEQ 256

static int find_in(const struct j_filter_row *row, const char *s, size_t n)
{
	int i;

	for (i = 0; row[i].name; i++)
		if (strlen(row[i].name) == n && !memcmp(row[i].name, s, n))
			return i;
	return -1;
}

int j_filter_find(const char *s, size_t n)
{
	int i = find_in(filters, s, n);

	if (i >= 0)
		return i;
	i = find_in(j_seq_filters, s, n);
	return i < 0 ? -1 : SEQ + i;
}

struct j_val j_filter(struct jinja *j, int id, struct j_val v,
		      const struct j_args *a)
{
	struct j_val r;

	j_enter(j);
	/* cppcheck-suppress arrayIndexOutOfBoundsCond ; ids come from the search */
	r = id < SEQ ? filters[id].fn(j, v, a)
		     : j_seq_filters[id - SEQ].fn(j, v, a);
	j_leave(j);
	return r;
}
