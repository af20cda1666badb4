/* SPDX-License-Identifier: MIT */
/*
 * detok.c - tokens back to bytes, all at once or one by one.
 */
#include <errno.h>
#include <string.h>

#include "unicode.h"
#include "vocab.h"

/* Where bytes go: counted always, stored while there is room. */
struct sink {
	uint8_t *out;
	size_t max;
	size_t n;
	bool skip; /* the next byte is left out */
};

static void put(struct sink *s, const uint8_t *p, size_t n)
{
	size_t room = s->n < s->max ? s->max - s->n : 0;

	if (n && s->skip) {
		s->skip = false;
		p++;
		n--;
	}
	if (room)
		memcpy(s->out + s->n, p, n < room ? n : room);
	s->n += n;
}

/* U+2581 is a space. */
static void put_marked(struct sink *s, const uint8_t *p, const uint8_t *e)
{
	const uint8_t *q = p;

	while (q < e) {
		if (e - q >= 3 && q[0] == 0xe2 && q[1] == 0x96 &&
		    q[2] == 0x81) {
			put(s, p, (size_t)(q - p));
			put(s, (const uint8_t *)" ", 1);
			q += 3;
			p = q;
		} else {
			q++;
		}
	}
	put(s, p, (size_t)(q - p));
}

/* Characters that stand for bytes; others are left as they are. */
static void put_bytes(const struct vocab *v, struct sink *s, const uint8_t *p,
		      const uint8_t *e)
{
	uint32_t cp;
	uint8_t b;
	unsigned n;

	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp < 0x180 && v->byte_of[cp] >= 0) {
			b = (uint8_t)v->byte_of[cp];
			put(s, &b, 1);
		} else {
			put(s, p, n);
		}
	}
}

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" is the byte 10. */
static bool byte_value(const uint8_t *p, size_t n, uint8_t *b)
{
	if (n != 6 || memcmp(p, "<0x", 3) || p[5] != '>' || hex(p[3]) < 0 ||
	    hex(p[4]) < 0)
		return false;
	*b = (uint8_t)(hex(p[3]) << 4 | hex(p[4]));
	return true;
}

static bool is_silent(unsigned type)
{
	return type == IMAGE_TOK_CONTROL || type == IMAGE_TOK_UNKNOWN;
}

/* The bytes of one token. */
static void piece(const struct vocab *v, uint32_t tok, bool special,
		  struct sink *s)
{
	const struct image_token *t = &v->im->tokens[tok];
	const uint8_t *p = (const uint8_t *)v->im->str + t->text.off;
	uint8_t b;

	if (is_silent(t->type)) {
		if (special)
			put(s, p, t->text.len);
	} else if (t->type == IMAGE_TOK_USER) {
		put(s, p, t->text.len);
	} else if (t->type == IMAGE_TOK_BYTE &&
		   byte_value(p, t->text.len, &b)) {
		put(s, &b, 1);
	} else if (v->kind == IMAGE_VOCAB_SPM ||
		   ((v->flags & PRETOK_RAW) && !(v->flags & PRETOK_SPACED))) {
		put_marked(s, p, p + t->text.len);
	} else if (v->flags & PRETOK_RAW) {
		put(s, p, t->text.len);
	} else {
		put_bytes(v, s, p, p + t->text.len);
	}
}

/* The space that tokenizing put before the text is taken away again: is it
 * the first thing that this token writes? */
static bool drops_space(const struct vocab *v, uint32_t tok)
{
	const struct image_token *t = &v->im->tokens[tok];
	const char *p = v->im->str + t->text.off;

	return v->space_prefix && t->type != IMAGE_TOK_USER &&
	       t->type != IMAGE_TOK_BYTE && t->text.len >= 3 &&
	       !memcmp(p, "\xe2\x96\x81", 3);
}

/* One token after others; @first is cleared by the first that says a word. */
static void next(const struct vocab *v, uint32_t tok, bool special, bool *first,
		 struct sink *s)
{
	bool text;

	/* a vocabulary may be padded with tokens that have no text */
	if (tok >= v->im->h->tokens.n)
		return;
	text = !is_silent(vocab_type(v, tok));
	s->skip = text && *first && drops_space(v, tok);
	piece(v, tok, special, s);
	if (text)
		*first = false;
}

int64_t hearth_detokenize(const struct hearth_model *m, const uint32_t *tok,
			  size_t n, char *out, size_t max, bool special)
{
	struct sink s = { .out = (uint8_t *)out, .max = max };
	const struct vocab *v;
	bool first = true;
	size_t i;
	int err;

	if (!m || (n && !tok) || (max && !out))
		return -EINVAL;
	err = vocab_get(m, &v);
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		if (tok[i] >= m->im.h->hp.n_vocab)
			return -EINVAL;
		next(v, tok[i], special, &first, &s);
	}
	return (int64_t)s.n;
}

int hearth_stream_token(const struct hearth_model *m, struct hearth_stream *s,
			uint32_t tok, char *out, size_t max)
{
	struct sink k = { .out = (uint8_t *)out, .max = max };
	const struct vocab *v;
	size_t open = 0;
	bool first;
	int err;

	if (!m || !s || (max && !out) || s->n_held > sizeof(s->held))
		return -EINVAL;
	err = vocab_get(m, &v);
	if (err)
		return err;
	if (tok != UINT32_MAX && tok >= m->im.h->hp.n_vocab)
		return -EINVAL;
	put(&k, s->held, s->n_held);
	first = !s->started;
	if (tok != UINT32_MAX)
		next(v, tok, false, &first, &k);
	if (k.n > max)
		return -ENOSPC;
	if (k.n > INT32_MAX)
		return -EINVAL;
	if (tok != UINT32_MAX)
		open = utf8_open_tail(k.out, k.n);
	k.n -= open;
	if (open)
		memcpy(s->held, k.out + k.n, open);
	s->n_held = (uint32_t)open;
	s->started = !first;
	return (int)k.n;
}
