/* SPDX-License-Identifier: MIT */
/*
 * jinja_format.c - "..." % arguments and "...".format(arguments).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "jinja_int.h"

#define WIDTH_MAX 4096

/**
 * struct spec - how one value is written
 * @align: '<', '>', '^', '=' or 0 for the type's own
 * @fill:  the character that pads
 * @prec:  digits or characters at most, -1 if not said
 */
struct spec {
	char align;
	char fill;
	char sign;
	bool alt;
	bool comma;
	int width;
	int prec;
	char type;
};

static int digits(const char **p, const char *e)
{
	int n = 0;

	for (; *p < e && **p >= '0' && **p <= '9'; (*p)++)
		n = n > WIDTH_MAX ? n : 10 * n + **p - '0';
	return n;
}

static void pad(struct jinja *j, struct j_buf *b, struct j_val s,
		const struct spec *sp, char align)
{
	int64_t more = sp->width - (int64_t)j_chars(s), left, i;
	char fill = sp->fill ? sp->fill : ' ';

	if (more < 0)
		more = 0;
	if (sp->align)
		align = sp->align;
	left = align == '>' || align == '=' ? more
	       : align == '^'		    ? more / 2
					    : 0;
	if (align == '=' && s.n && (*s.s == '-' || *s.s == '+')) {
		j_add(j, b, s.s++, 1);
		s.n--;
	}
	for (i = 0; i < left; i++)
		j_add(j, b, &fill, 1);
	j_add(j, b, s.s, s.n);
	for (; i < more; i++)
		j_add(j, b, &fill, 1);
	j_step(j, (size_t)more);
}

static struct j_val with_commas(struct jinja *j, const char *s)
{
	const char *dot = s + strcspn(s, ".e"), *p = s;
	struct j_buf b = { 0 };

	for (; *p; p++) {
		j_add(j, &b, p, 1);
		if (p + 1 < dot && *p >= '0' && *p <= '9' &&
		    (dot - p - 1) % 3 == 0)
			j_add(j, &b, ",", 1);
	}
	return j_done(&b);
}

static void number(struct jinja *j, struct j_buf *b, struct j_val v,
		   const struct spec *sp)
{
	char s[512], fmt[16];
	int prec = sp->prec < 0 ? 6 : sp->prec > 100 ? 100 : sp->prec;
	const char *sign = sp->sign == '+' ? "+" : sp->sign == ' ' ? " " : "";
	const char *alt = sp->alt ? "#" : "";

	if (!j_is_num(v))
		j_fail(j, -EINVAL,
		       "%%%c format: a real number is required, "
		       "not %s",
		       sp->type, j_type_name(v));
	switch (sp->type) {
	case 'd':
	case 'i':
	case 'u':
		if (v.t == J_FLOAT && !(v.d > -9e18 && v.d < 9e18))
			j_fail(j, -EINVAL, "a number is too large");
		snprintf(fmt, sizeof(fmt), "%%%slld", sign);
		snprintf(s, sizeof(s), fmt,
			 v.t == J_FLOAT ? (long long)v.d : (long long)v.i);
		break;
	case 'x':
	case 'X':
	case 'o':
		snprintf(fmt, sizeof(fmt), "%s%%%sll%c", v.i < 0 ? "-" : sign,
			 alt, sp->type);
		snprintf(s, sizeof(s), fmt,
			 v.i < 0 ? 0 - (unsigned long long)v.i
				 : (unsigned long long)v.i);
		break;
	case '%':
		snprintf(fmt, sizeof(fmt), "%%%s.*f%%%%", sign);
		snprintf(s, sizeof(s), fmt, prec, 100 * j_num(v));
		break;
	default:
		snprintf(fmt, sizeof(fmt), "%%%s%s.*%c", sign, alt, sp->type);
		snprintf(s, sizeof(s), fmt, prec, j_num(v));
	}
	pad(j, b, sp->comma ? with_commas(j, s) : j_copy(j, s, strlen(s)), sp,
	    '>');
}

static void one(struct jinja *j, struct j_buf *b, struct j_val v,
		const struct spec *sp)
{
	struct j_val s;

	switch (sp->type) {
	case 's':
	case 'r':
	case 'a':
		s = sp->type == 's' ? j_str(j, v) : j_repr(j, v);
		if (sp->prec >= 0)
			s.n = (uint32_t)j_char_off(s, (uint64_t)sp->prec);
		pad(j, b, s, sp, j_is_num(v) ? '>' : '<');
		return;
	case 'c':
		if (v.t == J_STR)
			pad(j, b, v, sp, '<');
		else
			j_addc(j, b, (uint32_t)j_want_int(j, v, "%c"));
		return;
	case 'd':
	case 'i':
	case 'u':
	case 'x':
	case 'X':
	case 'o':
	case 'f':
	case 'F':
	case 'e':
	case 'E':
	case 'g':
	case 'G':
	case '%':
		number(j, b, v, sp);
		return;
	default:
		j_fail(j, -EINVAL, "unsupported format character '%c'",
		       sp->type);
	}
}

struct j_val j_format(struct jinja *j, struct j_val fmt, struct j_val args)
{
	const char *p = fmt.s, *e = p + fmt.n, *q;
	struct j_buf b = { 0 };
	struct j_val v, *k;
	uint32_t used = 0;

	for (;;) {
		struct spec sp = { .prec = -1 };

		q = p < e ? memchr(p, '%', (size_t)(e - p)) : NULL;
		if (!q)
			break;
		j_add(j, &b, p, (size_t)(q - p));
		p = q + 1;
		v = args;
		k = NULL;
		if (p < e && *p == '(') {
			q = memchr(p, ')', (size_t)(e - p));
			if (!q || args.t != J_DICT)
				j_fail(j, -EINVAL, "format requires a mapping");
			k = j_find(j, args, j_strn(p + 1, (size_t)(q - p - 1)));
			if (!k)
				j_fail(j, -EINVAL, "format: no such key");
			p = q + 1;
		}
		for (; p < e && *p && strchr("-+ 0#", *p); p++) {
			if (*p == '-')
				sp.align = '<';
			else if (*p == '0' && !sp.align)
				sp.fill = '0', sp.align = '=';
			else if (*p == '#')
				sp.alt = true;
			else
				sp.sign = *p;
		}
		sp.width = digits(&p, e);
		if (p < e && *p == '.') {
			p++;
			sp.prec = digits(&p, e);
		}
		if (p == e)
			j_fail(j, -EINVAL, "incomplete format");
		sp.type = *p++;
		if (!sp.align)
			sp.align = '>';
		if (sp.type == '%') {
			j_add(j, &b, "%", 1);
			continue;
		}
		if (k) {
			v = *k;
		} else if (args.t == J_LIST && (args.f & JF_TUPLE)) {
			if (used >= args.l->n)
				j_fail(j, -EINVAL,
				       "not enough arguments for "
				       "format string");
			v = args.l->v[used++];
		} else if (used++) {
			j_fail(j, -EINVAL,
			       "not enough arguments for format string");
		}
		one(j, &b, v, &sp);
	}
	j_add(j, &b, p, (size_t)(e - p));
	if (args.t == J_LIST && (args.f & JF_TUPLE) && used < args.l->n)
		j_fail(j, -EINVAL,
		       "not all arguments converted during string "
		       "formatting");
	return j_done(&b);
}

static void read_spec(struct jinja *j, const char *p, const char *e,
		      struct spec *sp)
{
	if (e - p >= 2 && p[1] && strchr("<>^=", p[1])) {
		sp->fill = p[0];
		sp->align = p[1];
		p += 2;
	} else if (p < e && *p && strchr("<>^=", *p)) {
		sp->align = *p++;
	}
	if (p < e && *p && strchr("+- ", *p))
		sp->sign = *p++;
	if (p < e && *p == '#') {
		sp->alt = true;
		p++;
	}
	if (p < e && *p == '0') {
		if (!sp->align) {
			sp->fill = '0';
			sp->align = '=';
		}
		p++;
	}
	sp->width = digits(&p, e);
	if (p < e && (*p == ',' || *p == '_')) {
		sp->comma = true;
		p++;
	}
	if (p < e && *p == '.') {
		p++;
		sp->prec = digits(&p, e);
	}
	if (p < e)
		sp->type = *p++;
	if (p < e)
		j_fail(j, -EINVAL, "invalid format specifier");
}

/* "0.name[key]" */
static struct j_val field(struct jinja *j, const char *p, const char *e,
			  const struct j_args *a, uint32_t *next)
{
	const char *q = p, *r;
	struct j_val kw = { .t = J_DICT, .o = a->kw }, v, *k, key;
	uint32_t i;

	while (q < e && *q != '.' && *q != '[')
		q++;
	if (q == p || (*p >= '0' && *p <= '9')) {
		i = q == p ? (*next)++ : (uint32_t)digits(&p, q);
		if (i >= a->pos->n)
			j_fail(j, -EINVAL,
			       "Replacement index %u out of range "
			       "for positional args tuple",
			       i);
		v = a->pos->v[i];
	} else {
		k = j_find(j, kw, j_strn(p, (size_t)(q - p)));
		if (!k)
			j_fail(j, -EINVAL, "format: no argument '%.*s'",
			       (int)(q - p > 40 ? 40 : q - p), p);
		v = *k;
	}
	while (q < e) {
		r = q + 1;
		while (r < e &&
		       (*q == '[' ? *r != ']' : *r != '.' && *r != '['))
			r++;
		key = j_strn(q + 1, (size_t)(r - q - 1));
		if (*q == '[' && key.n && *key.s >= '0' && *key.s <= '9') {
			p = key.s;
			key = j_int(digits(&p, r));
		}
		v = *q == '[' ? j_get_item(j, v, key) : j_get_attr(j, v, key);
		q = r < e && *r == ']' ? r + 1 : r;
		if (q < e && *q != '.' && *q != '[')
			j_fail(j, -EINVAL, "broken field in format string");
	}
	return v;
}

struct j_val j_format_braces(struct jinja *j, struct j_val fmt,
			     const struct j_args *a)
{
	const char *p = fmt.s, *e = p + fmt.n, *q, *colon, *name;
	struct j_buf b = { 0 };
	uint32_t next = 0;
	struct j_val v;

	while (p < e) {
		struct spec sp = { .prec = -1 };

		for (q = p; q < e && *q != '{' && *q != '}'; q++)
			;
		j_add(j, &b, p, (size_t)(q - p));
		if (q == e)
			break;
		if (q + 1 < e && q[1] == *q) {
			j_add(j, &b, q, 1);
			p = q + 2;
			continue;
		}
		if (*q == '}')
			j_fail(j, -EINVAL,
			       "Single '}' encountered in format "
			       "string");
		p = q + 1;
		q = memchr(p, '}', (size_t)(e - p));
		if (!q)
			j_fail(j, -EINVAL, "expected '}' before end of string");
		colon = memchr(p, ':', (size_t)(q - p));
		name = colon ? colon : q;
		if (name - p >= 2 && name[-2] == '!') {
			sp.type = name[-1];
			name -= 2;
		}
		v = field(j, p, name, a, &next);
		if (sp.type)
			v = sp.type == 'r' ? j_repr(j, v) : j_str(j, v);
		sp.type = 0;
		if (colon)
			read_spec(j, colon + 1, q, &sp);
		if (!sp.type)
			sp.type = v.t == J_FLOAT && sp.prec >= 0 ? 'g'
				  : v.t == J_INT && sp.width	 ? 'd'
								 : 's';
		if (sp.type == 's' && v.t == J_INT && sp.comma)
			sp.type = 'd';
		one(j, &b, v, &sp);
		p = q + 1;
	}
	return j_done(&b);
}
