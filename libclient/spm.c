/* SPDX-License-Identifier: MIT */
/*
 * spm.c - SentencePiece BPE: neighbours merge when their text is a token, best
 * score first; what is no token falls back to bytes.
 */
#include <string.h>

#include "unicode.h"
#include "vocab.h"

/* Descending floats as ascending integers. */
static uint32_t key_of(float score)
{
	uint32_t u;

	score += 0.0f; /* -0 is 0 */
	memcpy(&u, &score, sizeof(u));
	u = u >> 31 ? ~u : u | 0x80000000u;
	return ~u;
}

static bool pair(const struct merger *mg, const struct merge_sym *l,
		 const struct merge_sym *r, uint32_t *key, uint32_t *id)
{
	const struct vocab *v = mg->v;
	unsigned type;

	if (l->len + r->len > v->max_len)
		return false;
	*id = image_find_token(v->im, mg->text + l->off, l->len + r->len);
	if (*id == IMAGE_NONE)
		return false;
	type = vocab_type(v, *id);
	if (type == IMAGE_TOK_CONTROL || type == IMAGE_TOK_BYTE)
		return false;
	*key = key_of(v->im->tokens[*id].score);
	return true;
}

static void flush(struct merger *mg, struct tok_out *o)
{
	const struct vocab *v = mg->v;
	const struct merge_sym *s;
	uint32_t i, k, id;
	bool unk;

	merge_run(mg);
	for (i = 0; i < mg->n; i++) {
		s = &mg->sym[i];
		if (!s->len)
			continue;
		id = s->id;
		if (id == IMAGE_NONE) {
			id = image_find_token(v->im, mg->text + s->off, s->len);
			if (id != IMAGE_NONE &&
			    vocab_type(v, id) == IMAGE_TOK_CONTROL)
				id = IMAGE_NONE;
		}
		if (id != IMAGE_NONE) {
			tok_emit(o, id);
			continue;
		}
		unk = false;
		for (k = 0; k < s->len; k++) {
			id = v->byte_id[mg->text[s->off + k]];
			if (id != IMAGE_NONE)
				tok_emit(o, id);
			else
				unk = true;
		}
		/* a vocabulary without bytes: say at least that it was there */
		if (unk && v->im->h->unk != IMAGE_NONE)
			tok_emit(o, v->im->h->unk);
	}
	merge_start(mg, 0);
}

static void add(struct merger *mg, uint32_t cp, const uint8_t *p, unsigned n)
{
	if (cp == SPACE_MARK)
		n = utf8_put(mg->text + mg->n_text, cp);
	else
		memcpy(mg->text + mg->n_text, p, n);
	merge_add(mg, IMAGE_NONE, (uint32_t)mg->n_text, n);
	mg->n_text += n;
}

int spm_tokenize(struct merger *mg, const uint8_t *p, const uint8_t *e,
		 bool prefix, struct tok_out *o)
{
	uint32_t cp, last = SPACE_MARK;
	unsigned n;
	int err;

	mg->pair = pair;
	err = merge_start(mg, (size_t)(e - p) + 1);
	if (!err)
		err = merge_text(mg, 4 * (size_t)mg->cap);
	if (err)
		return err;
	if (prefix)
		add(mg, SPACE_MARK, NULL, 0);
	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp == UNI_BAD && n == 1)
			cp = UNI_BYTE(*p);
		if (cp == ' ')
			cp = SPACE_MARK;
		if (mg->n && (mg->n == mg->cap || !vocab_pair(mg->v, last, cp)))
			flush(mg, o);
		last = cp;
		add(mg, cp, p, n);
	}
	flush(mg, o);
	return 0;
}
