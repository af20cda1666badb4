/* SPDX-License-Identifier: MIT */
/*
 * jinja_lex.c - tokens of a template: text with blanks trimmed around tags,
 * and what stands in the tags.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_lex.h"
#include "unicode.h"

/* Line ends become "\n", and one at the very end is dropped. */
void j_lex_init(struct j_lexer *lx, struct jinja *j, const char *p, size_t n)
{
	size_t i, k = 0;
	char *q;

	if (n && memchr(p, '\r', n)) {
		q = j_alloc(j, n);
		for (i = 0; i < n; i++) {
			if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n')
				continue;
			q[k++] = p[i] == '\r' ? '\n' : p[i];
		}
		p = q;
		n = k;
	}
	if (n && p[n - 1] == '\n')
		n--;
	*lx = (struct j_lexer){
		.j = j, .p = p, .e = p + n, .line = 1, .line_start = true
	};
}

static _Noreturn void bad(struct j_lexer *lx, const char *what)
{
	lx->j->line = lx->line;
	j_fail(lx->j, -EINVAL, "%s", what);
}

static bool has(const struct j_lexer *lx, const char *p, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(lx->e - p) >= n && !memcmp(p, word, n);
}

static void move(struct j_lexer *lx, const char *to)
{
	for (; lx->p < to; lx->p++)
		lx->line += *lx->p == '\n';
}

/* Past blanks of any kind. */
static const char *skip_blanks(const struct j_lexer *lx, const char *p)
{
	uint32_t cp;
	unsigned n;

	while (p < lx->e) {
		n = utf8_get((const uint8_t *)p, (const uint8_t *)lx->e, &cp);
		if (!(uni_class(cp) & UC_WS))
			break;
		p += n;
	}
	return p;
}

/* Cut the text before a tag as the tag's sign says. */
static struct j_val trim(const struct j_lexer *lx, const char *b, const char *e,
			 char sign, bool var)
{
	const char *l;
	struct j_val v = j_strn(b, (size_t)(e - b));

	if (sign == '-')
		return j_strip(v, j_none, 2);
	if (sign == '+' || var)
		return v;
	/* a tag alone on its line takes the blanks before it away */
	l = memrchr(b, '\n', (size_t)(e - b));
	if (!l && !lx->line_start)
		return v;
	l = l ? l + 1 : b;
	if (skip_blanks(lx, l) >= e)
		v.n = (uint32_t)(l - b);
	return v;
}

/* "-%}", "+%}" or "%}" and what follows of it; NULL if it is not here. */
static const char *tag_end(const struct j_lexer *lx, const char *p,
			   const char *end, bool newline)
{
	if (p < lx->e && *p == '-' && has(lx, p + 1, end))
		return skip_blanks(lx, p + 3);
	if (p < lx->e && *p == '+' && newline && has(lx, p + 1, end))
		return p + 3;
	if (!has(lx, p, end))
		return NULL;
	p += 2;
	return newline && p < lx->e && *p == '\n' ? p + 1 : p;
}

static void close_tag(struct j_lexer *lx, const char *to)
{
	move(lx, to);
	lx->line_start = to[-1] == '\n';
}

static char sign_at(const struct j_lexer *lx, const char *p)
{
	return p < lx->e && (*p == '-' || *p == '+') ? *p : 0;
}

static void skip_comment(struct j_lexer *lx, const char *p)
{
	const char *q, *end;

	for (q = p; q < lx->e; q++) {
		end = tag_end(lx, q, "#}", true);
		if (end) {
			close_tag(lx, end);
			return;
		}
	}
	bad(lx, "a comment does not end");
}

/* Is this "{% word %}"? The byte after it, or NULL. */
static const char *word_tag(const struct j_lexer *lx, const char *p,
			    const char *word, bool newline)
{
	if (!has(lx, p, "{%"))
		return NULL;
	p += 2;
	p = skip_blanks(lx, sign_at(lx, p) ? p + 1 : p);
	if (!has(lx, p, word))
		return NULL;
	p = skip_blanks(lx, p + strlen(word));
	if (!newline && has(lx, p, "%}"))
		return p + 2;
	return tag_end(lx, p, "%}", newline);
}

static struct j_val raw(struct j_lexer *lx, const char *body)
{
	const char *q = body, *end;
	struct j_val v;

	close_tag(lx, body);
	while (q < lx->e) {
		q = memmem(q, (size_t)(lx->e - q), "{%", 2);
		if (!q)
			break;
		end = word_tag(lx, q, "endraw", true);
		if (end) {
			v = trim(lx, body, q, sign_at(lx, q + 2), false);
			close_tag(lx, end);
			return v;
		}
		q += 2;
	}
	if (body == lx->e)
		return j_strn(body, 0);
	bad(lx, "a raw block does not end");
}

/* Text up to the next tag; the tag itself is opened or skipped. */
static bool text(struct j_lexer *lx, struct j_val *v)
{
	const char *b = lx->p, *q = b, *body;
	char sign;

	for (;; q++) {
		q = q < lx->e ? memchr(q, '{', (size_t)(lx->e - q)) : NULL;
		if (!q || q + 1 == lx->e) {
			*v = j_strn(b, (size_t)(lx->e - b));
			move(lx, lx->e);
			return v->n;
		}
		if (q[1] == '{' || q[1] == '%' || q[1] == '#')
			break;
	}
	sign = sign_at(lx, q + 2);
	*v = trim(lx, b, q, sign, q[1] == '{');
	move(lx, q);
	if (q[1] == '#') {
		skip_comment(lx, q + 2);
		return v->n;
	}
	body = q[1] == '%' ? word_tag(lx, q, "raw", false) : NULL;
	if (body) {
		/* two texts side by side */
		struct j_val w = raw(lx, body);

		*v = j_cat(lx->j, *v, w);
		return v->n;
	}
	lx->pending = q[1] == '{' ? T_VAR : T_BLOCK;
	move(lx, sign ? q + 3 : q + 2);
	return v->n;
}

/* ---------------------------------------------------------------- in tags */

static bool name_char(char c, bool first)
{
	uint8_t u = (uint8_t)c;

	return u == '_' || u >= 0x80 || (u >= 'a' && u <= 'z') ||
	       (u >= 'A' && u <= 'Z') || (!first && u >= '0' && u <= '9');
}

static unsigned digit(char c)
{
	uint8_t u = (uint8_t)c;

	if (u >= '0' && u <= '9')
		return u - '0';
	u |= 0x20;
	return u >= 'a' && u <= 'z' ? u - 'a' + 10u : 99;
}

static bool is_digit(const struct j_lexer *lx, const char *p)
{
	return p < lx->e && *p >= '0' && *p <= '9';
}

static const char *digits(const struct j_lexer *lx, const char *p)
{
	while (is_digit(lx, p) ||
	       (p < lx->e && *p == '_' && is_digit(lx, p + 1)))
		p++;
	return p;
}

static struct j_val whole(struct j_lexer *lx, const char *p, const char *e,
			  unsigned base)
{
	int64_t v = 0;

	for (; p < e; p++) {
		if (*p == '_')
			continue;
		if (__builtin_mul_overflow(v, (int64_t)base, &v) ||
		    __builtin_add_overflow(v, (int64_t)digit(*p), &v))
			bad(lx, "a number is too large");
	}
	return j_int(v);
}

static struct j_val real(struct j_lexer *lx, const char *p, const char *e)
{
	char s[128];
	size_t n = 0;

	for (; p < e; p++) {
		if (*p == '_')
			continue;
		if (n == sizeof(s) - 1)
			bad(lx, "a number is too long");
		s[n++] = *p;
	}
	s[n] = 0;
	return j_float(strtod(s, NULL));
}

static struct j_val number(struct j_lexer *lx, const char **end)
{
	const char *p = lx->p, *q, *r;
	unsigned base = 10;
	bool point = false;

	if (*p == '0' && p + 1 < lx->e) {
		base = (p[1] | 0x20) == 'x'   ? 16
		       : (p[1] | 0x20) == 'o' ? 8
		       : (p[1] | 0x20) == 'b' ? 2
					      : 10;
	}
	if (base != 10) {
		for (q = p + 2; q < lx->e && (digit(*q) < base || *q == '_');
		     q++)
			;
		*end = q;
		return whole(lx, p + 2, q, base);
	}
	q = digits(lx, p);
	if (q < lx->e && *q == '.' && is_digit(lx, q + 1)) {
		q = digits(lx, q + 1);
		point = true;
	}
	if (q < lx->e && (*q | 0x20) == 'e') {
		r = q + 1;
		if (r < lx->e && (*r == '+' || *r == '-'))
			r++;
		if (is_digit(lx, r)) {
			q = digits(lx, r);
			point = true;
		}
	}
	*end = q;
	return point ? real(lx, p, q) : whole(lx, p, q, 10);
}

/* A character's number after \x, \u, \U or in octal. */
static const char *code(struct j_lexer *lx, struct j_buf *b, const char *p,
			const char *e, unsigned n, unsigned base)
{
	const char *from = p;
	uint32_t cp = 0;

	while (p < e && p < from + n && digit(*p) < base)
		cp = cp * base + digit(*p++);
	if (base == 16 && p != from + n)
		bad(lx, "a broken escape in a string");
	if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		bad(lx, "an escape in a string is no character");
	j_addc(lx->j, b, cp);
	return p;
}

static struct j_val unescape(struct j_lexer *lx, const char *p, const char *e)
{
	static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
	struct j_buf b = { 0 };
	const char *q, *k;

	for (;;) {
		q = p < e ? memchr(p, '\\', (size_t)(e - p)) : NULL;
		if (!q) {
			j_add(lx->j, &b, p, (size_t)(e - p));
			return j_done(&b);
		}
		j_add(lx->j, &b, p, (size_t)(q - p));
		p = q + 1;
		k = *p ? strchr(from, *p) : NULL;
		if (k) {
			j_add(lx->j, &b, to + (k - from), 1);
			p++;
		} else if (*p == '\n') {
			p++;
		} else if (*p == 'x') {
			p = code(lx, &b, p + 1, e, 2, 16);
		} else if (*p == 'u') {
			p = code(lx, &b, p + 1, e, 4, 16);
		} else if (*p == 'U') {
			p = code(lx, &b, p + 1, e, 8, 16);
		} else if (digit(*p) < 8) {
			p = code(lx, &b, p, e, 3, 8);
		} else {
			j_add(lx->j, &b, "\\", 1);
		}
	}
}

static struct j_val string(struct j_lexer *lx, const char **end)
{
	const char *p = lx->p + 1;
	bool esc = false;

	while (p < lx->e && *p != *lx->p) {
		if (*p == '\\') {
			esc = true;
			p++;
		}
		p++;
	}
	if (p >= lx->e)
		bad(lx, "a string does not end");
	*end = p + 1;
	if (esc)
		return unescape(lx, lx->p + 1, p);
	return j_strn(lx->p + 1, (size_t)(p - lx->p - 1));
}

static void operator(struct j_lexer *lx, struct j_tok *t)
{
	static const struct {
		char s[3];
		uint8_t op;
	} two[] = {
		{ "==", OP_EQ }, { "!=", OP_NE },	{ "<=", OP_LE },
		{ ">=", OP_GE }, { "//", OP_FLOORDIV }, { "**", OP_POW },
	};
	size_t i;
	char c = *lx->p;

	t->kind = T_OP;
	for (i = 0; i < sizeof(two) / sizeof(two[0]); i++) {
		if (has(lx, lx->p, two[i].s)) {
			t->op = two[i].op;
			lx->p += 2;
			return;
		}
	}
	if (!c || !strchr("+-*/%~[](){}<>=.:|,;", c))
		bad(lx, "an unexpected character");
	if (strchr("[({", c)) {
		lx->open++;
	} else if (strchr("])}", c)) {
		if (!lx->open)
			bad(lx, "a bracket closes that was not opened");
		lx->open--;
	}
	t->op = (uint8_t)c;
	lx->p++;
}

static void in_tag(struct j_lexer *lx, struct j_tok *t)
{
	const char *end;

	move(lx, skip_blanks(lx, lx->p));
	t->line = lx->line;
	if (lx->p == lx->e)
		bad(lx, "a tag does not end");
	end = lx->open		    ? NULL
	      : lx->inside == T_VAR ? tag_end(lx, lx->p, "}}", false)
				    : tag_end(lx, lx->p, "%}", true);
	if (end) {
		t->kind = lx->inside == T_VAR ? T_VAR_END : T_BLOCK_END;
		close_tag(lx, end);
		lx->inside = 0;
		return;
	}
	if (*lx->p == '"' || *lx->p == '\'') {
		t->kind = T_STRING;
		t->v = string(lx, &end);
		move(lx, end);
	} else if (is_digit(lx, lx->p)) {
		t->kind = T_NUMBER;
		t->v = number(lx, &end);
		move(lx, end);
	} else if (name_char(*lx->p, true)) {
		for (end = lx->p; end < lx->e && name_char(*end, false); end++)
			;
		t->kind = T_NAME;
		t->v = j_strn(lx->p, (size_t)(end - lx->p));
		move(lx, end);
	} else {
		operator(lx, t);
	}
}

void j_lex_next(struct j_lexer *lx, struct j_tok *t)
{
	j_step(lx->j, 1);
	*t = (struct j_tok){ .kind = T_EOF, .line = lx->line };
	while (!lx->inside) {
		if (lx->pending) {
			t->kind = lx->inside = lx->pending;
			lx->pending = 0;
			lx->open = 0;
			t->line = lx->line;
			return;
		}
		if (lx->p == lx->e)
			return;
		if (text(lx, &t->v)) {
			t->kind = T_TEXT;
			return;
		}
	}
	in_tag(lx, t);
}
