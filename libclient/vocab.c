/* SPDX-License-Identifier: MIT */
/*
 * vocab.c - the tables that tokenizing makes of a model's vocabulary, and
 * hearth_tokenize() itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "unicode.h"
#include "vocab.h"

static const uint8_t *text_of(const struct image *im, uint32_t id, uint32_t *n)
{
	const struct image_token *t = &im->tokens[id];

	*n = t->text.len;
	return (const uint8_t *)im->str + t->text.off;
}

unsigned vocab_type(const struct vocab *v, uint32_t id)
{
	return v->im->tokens[id].type;
}

/* Byte-level BPE writes bytes that print as themselves and the others, in
 * order, as code points from 256 on. */
static void byte_chars(struct vocab *v)
{
	uint32_t b, cp, next = 256;

	memset(v->byte_of, -1, sizeof(v->byte_of));
	for (b = 0; b < 256; b++) {
		if ((b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) ||
		    b >= 0xae)
			cp = b;
		else
			cp = next++;
		v->byte_of[cp] = (int16_t)b;
	}
}

static void byte_tokens(struct vocab *v)
{
	static const char hex[] = "0123456789ABCDEF";
	char name[] = "<0x00>";
	uint8_t u[4];
	uint32_t cp, b;

	if (v->kind == IMAGE_VOCAB_BPE && !(v->flags & PRETOK_RAW)) {
		for (cp = 0; cp < 0x180; cp++)
			if (v->byte_of[cp] >= 0)
				v->byte_id[v->byte_of[cp]] = image_find_token(
					v->im, u, utf8_put(u, cp));
		return;
	}
	for (b = 0; b < 256; b++) {
		name[3] = hex[b >> 4];
		name[4] = hex[b & 15];
		v->byte_id[b] = image_find_token(v->im, name, 6);
		u[0] = (uint8_t)b;
		if (b < 128 && v->byte_id[b] == IMAGE_NONE)
			v->byte_id[b] = image_find_token(v->im, u, 1);
	}
}

static uint32_t pair_slot(uint32_t a, uint32_t b)
{
	uint64_t h = ((uint64_t)a << 21 | b) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(h >> (64 - PAIR_BITS));
}

bool vocab_pair(const struct vocab *v, uint32_t a, uint32_t b)
{
	uint32_t s = pair_slot(a, b);

	return v->pairs[s >> 6] >> (s & 63) & 1;
}

static void note_pairs(struct vocab *v, const uint8_t *p, const uint8_t *e)
{
	uint32_t cp, last = 0, s;
	const uint8_t *b = p;
	unsigned n;

	for (; p < e; p += n) {
		n = utf8_get(p, e, &cp);
		if (cp == UNI_BAD && n == 1)
			cp = UNI_BYTE(*p);
		if (p > b) {
			s = pair_slot(last, cp);
			v->pairs[s >> 6] |= 1ull << (s & 63);
		}
		last = cp;
	}
}

static int by_text(const void *a, const void *b, void *arg)
{
	const struct image *im = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	uint32_t nx, ny;
	const uint8_t *px = text_of(im, x, &nx), *py = text_of(im, y, &ny);
	int c = memcmp(px, py, nx < ny ? nx : ny);

	if (c)
		return c;
	if (nx != ny)
		return nx < ny ? -1 : 1;
	return x < y ? -1 : 1;
}

static bool is_special(const struct vocab *v, uint32_t id)
{
	const struct image_token *t = &v->im->tokens[id];

	return (t->type == IMAGE_TOK_CONTROL || t->type == IMAGE_TOK_USER ||
		t->type == IMAGE_TOK_UNKNOWN) &&
	       t->text.len && t->text.len <= SPECIAL_MAX;
}

static int find_specials(struct vocab *v)
{
	uint32_t n = (uint32_t)v->im->h->tokens.n, i, len;
	uint8_t c;

	for (i = 0; i < n; i++)
		v->n_special += is_special(v, i);
	v->special = malloc((v->n_special + 1) * sizeof(*v->special));
	if (!v->special)
		return -ENOMEM;
	v->n_special = 0;
	for (i = 0; i < n; i++)
		if (is_special(v, i))
			v->special[v->n_special++] = i;
	qsort_r(v->special, v->n_special, sizeof(*v->special), by_text,
		(void *)v->im);
	for (i = 0; i < v->n_special; i++) {
		c = text_of(v->im, v->special[i], &len)[0];
		if (!v->sp_hi[c])
			v->sp_lo[c] = i;
		v->sp_hi[c] = i + 1;
	}
	return 0;
}

/* First of [lo, hi) whose byte at @depth is at least @c; all share what comes
 * before and are longer than @depth. */
static uint32_t bound(const struct vocab *v, uint32_t lo, uint32_t hi,
		      uint32_t depth, unsigned c)
{
	uint32_t mid, len;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (text_of(v->im, v->special[mid], &len)[depth] < c)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint32_t vocab_special(const struct vocab *v, const uint8_t *p,
		       const uint8_t *e, bool control)
{
	uint32_t lo = v->sp_lo[*p], hi = v->sp_hi[*p], best = IMAGE_NONE;
	uint32_t depth = 1, id, len;

	while (lo < hi) {
		/* the shortest come first; of equal texts the first id counts */
		while (lo < hi) {
			id = v->special[lo];
			text_of(v->im, id, &len);
			if (len != depth)
				break;
			if ((best == IMAGE_NONE ||
			     v->im->tokens[best].text.len != len) &&
			    (control || vocab_type(v, id) == IMAGE_TOK_USER))
				best = id;
			lo++;
		}
		if (lo == hi || p + depth >= e)
			break;
		if (text_of(v->im, v->special[lo], &len)[depth] != p[depth] ||
		    text_of(v->im, v->special[hi - 1], &len)[depth] !=
			    p[depth]) {
			lo = bound(v, lo, hi, depth, p[depth]);
			hi = bound(v, lo, hi, depth, p[depth] + 1u);
		}
		depth++;
	}
	return best;
}

static bool name_has(const struct image *im, const char *word)
{
	const char *p;
	size_t n, k = strlen(word), i;

	if (!image_meta_get(im, "general.name", &p, &n))
		return false;
	for (i = 0; i + k <= n; i++)
		if (!strncasecmp(p + i, word, k))
			return true;
	return false;
}

static int build(struct vocab **out, const struct image *im)
{
	const struct image_header *h = im->h;
	struct vocab *v;
	uint32_t i, len;
	const uint8_t *p;
	bool bos;
	int err;

	if (h->vocab_kind == IMAGE_VOCAB_NONE || !h->tokens.n)
		return -ENODATA;
	if (h->vocab_kind != IMAGE_VOCAB_BPE &&
	    h->vocab_kind != IMAGE_VOCAB_SPM)
		return -ENOTSUP;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->im = im;
	v->kind = h->vocab_kind;
	bos = v->kind == IMAGE_VOCAB_SPM;
	if (v->kind == IMAGE_VOCAB_BPE) {
		err = -ENOTSUP;
		if (h->tok_model.len == 6 &&
		    !memcmp(im->str + h->tok_model.off, "gemma4", 6))
			v->rule = pretok_find("gemma4", 6);
		else
			v->rule = pretok_find(im->str + h->tok_pre.off,
					      h->tok_pre.len);
		if (!v->rule)
			goto fail;
		v->flags = v->rule->flags;
		bos = v->flags & PRETOK_BOS;
	}
	v->add_bos = h->tok_flags & IMAGE_TOK_F_HAS_ADD_BOS
			     ? h->tok_flags & IMAGE_TOK_F_ADD_BOS
			     : bos;
	v->add_eos = h->tok_flags & IMAGE_TOK_F_ADD_EOS;
	v->space_prefix = v->kind == IMAGE_VOCAB_SPM &&
			  (h->tok_flags & IMAGE_TOK_F_SPACE_PREFIX);
	v->rstrip = name_has(im, "phi-3") || name_has(im, "phi3");
	byte_chars(v);
	byte_tokens(v);
	for (i = 0; i < h->tokens.n; i++) {
		p = text_of(im, i, &len);
		if (len > v->max_len)
			v->max_len = len;
		if (v->kind == IMAGE_VOCAB_SPM || (v->flags & PRETOK_RAW))
			note_pairs(v, p, p + len);
	}
	err = find_specials(v);
	if (err)
		goto fail;
	*out = v;
	return 0;
fail:
	free(v);
	return err;
}

int vocab_get(const struct hearth_model *m, const struct vocab **out)
{
	/* a cache: the model that the caller sees does not change */
	struct hearth_model *w = (struct hearth_model *)m;
	struct vocab *v = __atomic_load_n(&w->text, __ATOMIC_ACQUIRE);
	int err = 0;

	if (!v) {
		pthread_mutex_lock(&w->lock);
		v = w->text;
		if (!v) {
			err = build(&v, &w->im);
			if (!err)
				__atomic_store_n(&w->text, v, __ATOMIC_RELEASE);
		}
		pthread_mutex_unlock(&w->lock);
	}
	*out = v;
	return err;
}

void text_free(struct hearth_model *m)
{
	struct vocab *v = m->text;

	if (v)
		free(v->special);
	free(v);
	m->text = NULL;
}

/* Does this token swallow the blanks after it? */
static bool strips(const struct vocab *v, uint32_t id)
{
	static const char *const keep[] = { "<unk>", "<s>", "<|endoftext|>" };
	const uint8_t *p;
	uint32_t n;
	size_t i;

	if (!v->rstrip)
		return false;
	p = text_of(v->im, id, &n);
	for (i = 0; i < sizeof(keep) / sizeof(keep[0]); i++)
		if (n == strlen(keep[i]) && !memcmp(p, keep[i], n))
			return false;
	return true;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static int tokenize(struct merger *mg, const uint8_t *p, const uint8_t *e,
		    bool control, struct tok_out *o)
{
	const struct vocab *v = mg->v;
	bool prefix = v->space_prefix;
	const uint8_t *q;
	uint32_t id, len;
	int err;

	while (p < e) {
		id = IMAGE_NONE;
		for (q = p; q < e; q++) {
			if (!v->sp_hi[*q])
				continue;
			id = vocab_special(v, q, e, control);
			if (id != IMAGE_NONE)
				break;
		}
		if (q > p) {
			err = v->kind == IMAGE_VOCAB_SPM
				      ? spm_tokenize(mg, p, q, prefix, o)
				      : bpe_tokenize(mg, p, q, o);
			if (err)
				return err;
			prefix = false;
		}
		if (id == IMAGE_NONE)
			break;
		tok_emit(o, id);
		prefix = v->space_prefix;
		text_of(v->im, id, &len);
		p = q + len;
		if (strips(v, id))
			while (p < e && is_blank(*p))
				p++;
	}
	return 0;
}

int64_t hearth_tokenize(const struct hearth_model *m, const char *text,
			size_t n, uint32_t *out, size_t max, uint32_t flags)
{
	const struct image_header *h;
	struct tok_out o = { .out = out, .max = max };
	struct merger mg = { 0 };
	const uint8_t *p = (const uint8_t *)text;
	bool ends;
	int err;

	if (!m || (n && !text) || (max && !out) ||
	    (flags & ~(HEARTH_TOK_SPECIAL | HEARTH_TOK_NO_BOS)))
		return -EINVAL;
	err = vocab_get(m, &mg.v);
	if (err)
		return err;
	h = m->im.h;
	ends = !(flags & HEARTH_TOK_NO_BOS);
	if (ends && mg.v->add_bos && h->bos != IMAGE_NONE)
		tok_emit(&o, h->bos);
	if (n) /* NULL is an empty text, and must not be added to */
		err = tokenize(&mg, p, p + n, flags & HEARTH_TOK_SPECIAL, &o);
	if (ends && mg.v->add_eos && h->eos != IMAGE_NONE)
		tok_emit(&o, h->eos);
	merge_fini(&mg);
	return err ? err : o.n;
}

bool hearth_token_is_eog(const struct hearth_model *m, uint32_t tok)
{
	uint64_t i;

	for (i = 0; m && i < m->im.h->eog.n; i++)
		if (m->im.eog[i] == tok)
			return true;
	return false;
}
