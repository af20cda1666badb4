/* SPDX-License-Identifier: MIT */
/*
 * bpe.c - byte-level BPE: words by the pre-tokenizer, merges by rank.
 */
#include <string.h>

#include "unicode.h"
#include "vocab.h"

static bool pair(const struct merger *mg, const struct merge_sym *l,
		 const struct merge_sym *r, uint32_t *key, uint32_t *id)
{
	uint32_t i;

	if (l->id == IMAGE_NONE || r->id == IMAGE_NONE)
		return false;
	i = image_find_merge(mg->v->im, l->id, r->id);
	if (i == IMAGE_NONE)
		return false;
	*key = i;
	*id = mg->v->im->merges[i].result;
	return true;
}

/* What was left: tokens, or the bytes of what is none. */
static void flush(struct merger *mg, const uint8_t *text, struct tok_out *o)
{
	const struct vocab *v = mg->v;
	const struct merge_sym *s;
	uint32_t i, k, id;

	for (i = 0; i < mg->n; i++) {
		s = &mg->sym[i];
		if (s->len && s->id != IMAGE_NONE) {
			tok_emit(o, s->id);
			continue;
		}
		for (k = 0; k < s->len; k++) {
			id = v->byte_id[text[s->off + k]];
			if (id != IMAGE_NONE)
				tok_emit(o, id);
		}
	}
}

/* A word as the vocabulary writes it: every byte as a printable character. */
static size_t spell(const struct vocab *v, const uint8_t *p, const uint8_t *e,
		    uint8_t *out)
{
	const struct image_token *t;
	size_t n = 0;
	uint32_t id;

	for (; p < e; p++) {
		id = v->byte_id[*p];
		if (id == IMAGE_NONE)
			return 0;
		t = &v->im->tokens[id];
		memcpy(out + n, v->im->str + t->text.off, t->text.len);
		n += t->text.len;
	}
	return n;
}

static uint32_t whole_word(struct merger *mg, const uint8_t *p,
			   const uint8_t *e)
{
	uint32_t id;
	size_t n;

	/* a byte is written with at most two */
	if ((size_t)(e - p) > mg->v->max_len)
		return IMAGE_NONE;
	if (merge_text(mg, 2 * (size_t)(e - p)))
		return IMAGE_NONE;
	n = spell(mg->v, p, e, mg->text);
	id = n ? image_find_token(mg->v->im, mg->text, n) : IMAGE_NONE;
	if (id != IMAGE_NONE && vocab_type(mg->v, id) == IMAGE_TOK_CONTROL)
		return IMAGE_NONE;
	return id;
}

/* Every byte is a symbol. */
static int byte_word(struct merger *mg, const uint8_t *p, const uint8_t *e,
		     struct tok_out *o)
{
	size_t n, i;
	uint32_t id;
	int err;

	if (mg->v->flags & PRETOK_WHOLE) {
		id = whole_word(mg, p, e);
		if (id != IMAGE_NONE) {
			tok_emit(o, id);
			return 0;
		}
	}
	for (; p < e; p += n) {
		n = (size_t)(e - p);
		err = merge_start(mg, n);
		if (err)
			return err;
		if (n > MERGE_MAX)
			n = MERGE_MAX;
		for (i = 0; i < n; i++)
			merge_add(mg, mg->v->byte_id[p[i]], (uint32_t)i, 1);
		merge_run(mg);
		flush(mg, p, o);
	}
	return 0;
}

/* Every character is a symbol; a space is written U+2581. */
static int raw_word(struct merger *mg, const uint8_t *p, const uint8_t *e,
		    struct tok_out *o)
{
	const struct vocab *v = mg->v;
	uint32_t cp, last = 0, id;
	unsigned n;
	int err;

	if ((v->flags & PRETOK_NL_RUN) && *p == '\n') {
		id = image_find_token(v->im, p, (size_t)(e - p));
		if (id != IMAGE_NONE) {
			tok_emit(o, id);
			return 0;
		}
	}
	err = merge_start(mg, (size_t)(e - p));
	if (!err)
		err = merge_text(mg, 4 * (size_t)mg->cap);
	if (err)
		return err;
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp == UNI_BAD && n == 1)
			cp = UNI_BYTE(*p);
		if (cp == ' ' && !(v->flags & PRETOK_SPACED))
			cp = SPACE_MARK;
		if (mg->n && (mg->n == mg->cap || !vocab_pair(v, last, cp))) {
			merge_run(mg);
			flush(mg, mg->text, o);
			merge_start(mg, 0);
		}
		last = cp;
		if (cp == SPACE_MARK) {
			utf8_put(mg->text + mg->n_text, cp);
			merge_add(mg,
				  image_find_token(v->im, mg->text + mg->n_text,
						   3),
				  (uint32_t)mg->n_text, 3);
			mg->n_text += 3;
			continue;
		}
		memcpy(mg->text + mg->n_text, p, n);
		merge_add(mg, image_find_token(v->im, p, n),
			  (uint32_t)mg->n_text, n);
		mg->n_text += n;
	}
	merge_run(mg);
	flush(mg, mg->text, o);
	return 0;
}

int bpe_tokenize(struct merger *mg, const uint8_t *p, const uint8_t *e,
		 struct tok_out *o)
{
	struct pretok_iter it;
	const uint8_t *b, *w;
	int err = 0;

	mg->pair = pair;
	pretok_start(&it, mg->v->rule, p, e);
	while (!err && pretok_next(&it, &b, &w))
		err = mg->v->flags & PRETOK_RAW ? raw_word(mg, b, w, o)
						: byte_word(mg, b, w, o);
	return err;
}
