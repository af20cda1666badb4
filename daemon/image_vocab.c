/* SPDX-License-Identifier: MIT */
/* image_vocab.c - a model file's vocabulary: tokens, merges, special tokens. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_priv.h"

/* "<|end_of_sentence|>" in wide bars and SentencePiece's blanks. */
#define DEEPSEEK_END    \
	"<\xef\xbd\x9c" \
	"end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"

/* Texts that end a turn, whatever the file says; the first ones name EOT. */
static const char *const eot_texts[] = {
	"<|eot_id|>",
	"<|im_end|>",
	"<|end|>",
	"<end_of_turn>",
	"<|endoftext|>",
	"<|end_of_text|>",
	"<EOT>",
	"_<EOT>",
	"[EOT]",
	DEEPSEEK_END,
	"<end_of_utterance>",
};

static const char *const eog_texts[] = {
	"<|return|>",	    "<|call|>", "<|flush|>", "<|calls|>", "</s>",
	"<|eom_id|>",	    "[EOS]",	"<eos>",     "<turn|>",	  "[e~[",
	"<|tool_response>",
};

/* Fill-in-the-middle: padding and separators of files end an answer. */
static const char *const fim_texts[] = {
	"<|fim_pad|>", "<fim-pad>",    "<fim_pad>",	"<PAD>",
	"[PAD]",       "<|fim_repo|>", "<|repo_name|>", "<fim-repo>",
	"<REPO>",      "<reponame>",   "<|file_sep|>",
};

/* Its other marks: control tokens, but no ends. */
static const char *const fim_marks[] = {
	"<|fim_prefix|>",
	"<fim-prefix>",
	"<fim_prefix>",
	"<PRE>",
	"\xe2\x96\x81<PRE>",
	"<|code_prefix|>",
	"<|prefix|>",
	"<|fim_suffix|>",
	"<fim-suffix>",
	"<fim_suffix>",
	"<SUF>",
	"\xe2\x96\x81<SUF>",
	"<|code_suffix|>",
	"<|suffix|>",
	"<|fim_middle|>",
	"<fim-middle>",
	"<fim_middle>",
	"<MID>",
	"\xe2\x96\x81<MID>",
	"<|code_middle|>",
	"<|middle|>",
	"<\xef\xbd\x9c"
	"fim\xe2\x96\x81"
	"begin\xef\xbd\x9c>",
	"<\xef\xbd\x9c"
	"fim\xe2\x96\x81hole\xef\xbd\x9c>",
	"<\xef\xbd\x9c"
	"fim\xe2\x96\x81"
	"end\xef\xbd\x9c>",
};

/* Byte-level vocabularies whose pre-tokenizer implies a leading BOS. */
static const char *const bos_pres[] = {
	"llama3",  "llama-v3", "llama-bpe", "falcon3", "falcon-h1",
	"pixtral", "midm-2.0", "lfm2",	    "tekken",  "chameleon",
};

#define N(a) (sizeof(a) / sizeof((a)[0]))

__attribute__((format(printf, 4, 5))) static int
fail_at(struct image_draft *d, int err, uint64_t at, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(d->why, 130, fmt, ap);
	va_end(ap);
	n = strlen(d->why);
	snprintf(d->why + n, 160 - n, " (at byte %llu)",
		 (unsigned long long)at);
	return err;
}

static bool str_is(struct image_draft *d, struct image_str s, const char *text)
{
	return s.len == strlen(text) && !memcmp(d->str + s.off, text, s.len);
}

/* -------------------------------------------------------------- tokens */

/* Put @value into a table; -ELOOP when the chain is too long. */
static int insert(uint32_t *table, uint64_t slots, uint32_t hash,
		  uint32_t value)
{
	uint64_t i, at;

	for (i = 0; i < IMAGE_MAX_PROBE && i < slots; i++) {
		at = (hash + i) & (slots - 1);
		if (table[at] == IMAGE_NONE) {
			table[at] = value;
			return 0;
		}
	}
	return -ELOOP;
}

static int read_tokens(struct image_draft *d, const struct gguf_kv *kv)
{
	const uint8_t *base = d->g->part[0].buf, *p = base + kv->off;
	uint64_t slots = d->h->tok_hash.n, len;
	struct image_token *t;
	uint32_t i;

	memset(d->tok_hash, 0xff, slots * sizeof(uint32_t));
	for (i = 0; i < kv->n; i++) {
		memcpy(&len, p, 8);
		p += 8;
		t = &d->tokens[i];
		t->text = draft_str(d, p, len);
		t->type = IMAGE_TOK_NORMAL;
		if (image_find_token(&d->im, p, len) == IMAGE_NONE &&
		    insert(d->tok_hash, slots, image_hash(p, len), i))
			return fail_at(d, -EBADMSG, (uint64_t)(p - base),
				       "key tokenizer.ggml.tokens: token %u: "
				       "too many alike",
				       i);
		p += len;
	}
	return 0;
}

static int read_scores(struct image_draft *d)
{
	const char *key = "tokenizer.ggml.scores";
	const struct gguf_kv *kv = gguf_find(d->g, key);
	const uint8_t *p;
	uint64_t i;
	float f;

	if (!kv)
		return 0;
	if (kv->type != GGUF_ARRAY || kv->elem != GGUF_F32 ||
	    kv->n != d->h->tokens.n)
		return fail_at(d, -EBADMSG, kv->off,
			       "key %s: want one f32 a token", key);
	p = d->g->part[0].buf + kv->off;
	for (i = 0; i < kv->n; i++) {
		memcpy(&f, p + 4 * i, 4);
		if (!isfinite(f))
			return fail_at(d, -EBADMSG, kv->off + 4 * i,
				       "key %s: token %llu: not finite", key,
				       (unsigned long long)i);
		d->tokens[i].score = f;
	}
	return 0;
}

static int read_types(struct image_draft *d)
{
	const char *key = "tokenizer.ggml.token_type";
	const struct gguf_kv *kv = gguf_find(d->g, key);
	uint32_t i, type;

	if (!kv)
		return 0;
	if (kv->type != GGUF_ARRAY ||
	    (kv->elem != GGUF_I32 && kv->elem != GGUF_U32) ||
	    kv->n != d->h->tokens.n)
		return fail_at(d, -EBADMSG, kv->off,
			       "key %s: want one i32 a token", key);
	for (i = 0; i < kv->n; i++) {
		memcpy(&type, d->g->part[0].buf + kv->off + 4ull * i, 4);
		if (type > IMAGE_TOK_BYTE)
			return fail_at(d, -EBADMSG, kv->off + 4ull * i,
				       "key %s: token %u: type %d", key, i,
				       (int)type);
		d->tokens[i].type = type;
	}
	return 0;
}

/* -------------------------------------------------------------- merges */

/* "left right": the blank that parts them is not the first letter. */
static bool split_merge(struct image_draft *d, const char *p, size_t n,
			char *joined, struct image_merge *m)
{
	const char *blank = n > 1 ? memchr(p + 1, ' ', n - 1) : NULL;
	size_t left, right;

	if (!blank)
		return false;
	left = (size_t)(blank - p);
	right = n - left - 1;
	m->left = image_find_token(&d->im, p, left);
	m->right = image_find_token(&d->im, blank + 1, right);
	if (m->left == IMAGE_NONE || m->right == IMAGE_NONE)
		return false;
	memcpy(joined, p, left);
	memcpy(joined + left, blank + 1, right);
	m->result = image_find_token(&d->im, joined, left + right);
	return m->result != IMAGE_NONE;
}

static int add_merges(struct image_draft *d, const struct gguf_kv *kv,
		      char *joined)
{
	const uint8_t *base = d->g->part[0].buf, *p = base + kv->off;
	uint64_t slots = d->h->merge_hash.n, len;
	struct image_merge m;
	uint32_t i;

	memset(d->merge_hash, 0xff, slots * sizeof(uint32_t));
	for (i = 0; i < kv->n; i++) {
		memcpy(&len, p, 8);
		p += 8 + len;
		if (!split_merge(d, (const char *)p - len, len, joined, &m) ||
		    image_find_merge(&d->im, m.left, m.right) != IMAGE_NONE)
			continue;
		if (insert(d->merge_hash, slots,
			   image_hash_pair(m.left, m.right),
			   (uint32_t)d->h->merges.n))
			return fail_at(d, -EBADMSG, (uint64_t)(p - base),
				       "key tokenizer.ggml.merges: merge %u: "
				       "too many alike",
				       i);
		d->merges[d->h->merges.n++] = m;
	}
	return 0;
}

static int read_merges(struct image_draft *d)
{
	const char *key = "tokenizer.ggml.merges";
	const struct gguf_kv *kv = gguf_find(d->g, key);
	const uint8_t *p;
	uint64_t len, max = 0;
	uint32_t i;
	char *joined;
	int ret;

	if (!kv)
		return 0;
	if (kv->type != GGUF_ARRAY || kv->elem != GGUF_STRING)
		return fail_at(d, -EBADMSG, kv->off,
			       "key %s: no array of strings", key);
	p = d->g->part[0].buf + kv->off;
	for (i = 0; i < kv->n; i++) {
		memcpy(&len, p, 8);
		max = len > max ? len : max;
		p += 8 + len;
	}
	joined = malloc(max + 1);
	if (!joined)
		return fail_at(d, -ENOMEM, kv->off, "out of memory");
	ret = add_merges(d, kv, joined);
	free(joined);
	return ret;
}

/* ------------------------------------------------------- special tokens */

/* Some writers put -1, or an id of another vocabulary, for "none". */
static int get_special(struct image_draft *d, const char *key, uint32_t *id)
{
	const struct gguf_kv *kv = gguf_find(d->g, key);
	uint32_t v = IMAGE_NONE;
	int ret = 0;

	if (kv && kv->type == GGUF_I32)
		memcpy(&v, d->g->part[0].buf + kv->off, 4);
	else
		ret = gguf_get_u32(d->g, key, &v, false, d->why);
	if (!ret && v < d->h->hp.n_vocab)
		*id = v;
	return ret;
}

static void add_eog(struct image_draft *d, uint32_t id)
{
	uint64_t i;

	if (id == IMAGE_NONE || d->h->eog.n == IMAGE_MAX_EOG)
		return;
	for (i = 0; i < d->h->eog.n; i++)
		if (d->eog[i] == id)
			return;
	d->eog[d->h->eog.n++] = id;
}

static uint32_t find_text(struct image_draft *d, const char *text)
{
	return image_find_token(&d->im, text, strlen(text));
}

static void mark_control(struct image_draft *d, const char *const *texts,
			 size_t n)
{
	uint32_t id;
	size_t i;

	for (i = 0; i < n; i++) {
		id = find_text(d, texts[i]);
		if (id != IMAGE_NONE)
			d->tokens[id].type = IMAGE_TOK_CONTROL;
	}
}

/* Tokens that end a turn are control tokens, even if the file forgot. */
static void add_eog_texts(struct image_draft *d, const char *const *texts,
			  size_t n, bool control)
{
	uint32_t id;
	size_t i;

	for (i = 0; i < n; i++) {
		id = find_text(d, texts[i]);
		add_eog(d, id);
		if (id != IMAGE_NONE && control)
			d->tokens[id].type = IMAGE_TOK_CONTROL;
	}
}

static int read_specials(struct image_draft *d)
{
	struct image_header *h = d->h;
	const struct {
		const char *key;
		uint32_t *id;
	} ids[] = {
		{ "tokenizer.ggml.bos_token_id", &h->bos },
		{ "tokenizer.ggml.eos_token_id", &h->eos },
		{ "tokenizer.ggml.unknown_token_id", &h->unk },
		{ "tokenizer.ggml.padding_token_id", &h->pad },
		{ "tokenizer.ggml.seperator_token_id", &h->sep },
		{ "tokenizer.ggml.eot_token_id", &h->eot },
	};
	uint32_t eom = IMAGE_NONE;
	bool spm = h->vocab_kind == IMAGE_VOCAB_SPM;
	size_t i;
	int ret;

	for (i = 0; i < N(ids); i++)
		*ids[i].id = IMAGE_NONE;
	if (spm && h->hp.n_vocab > 2) {
		h->unk = 0;
		h->bos = 1;
		h->eos = 2;
	}
	for (i = 0; i < N(ids); i++) {
		ret = get_special(d, ids[i].key, ids[i].id);
		if (ret)
			return ret;
	}
	ret = get_special(d, "tokenizer.ggml.eom_token_id", &eom);
	if (ret)
		return ret;
	for (i = 0; i < N(eot_texts) && h->eot == IMAGE_NONE; i++)
		h->eot = find_text(d, eot_texts[i]);
	h->nl = find_text(d, spm ? "<0x0A>" : "\xc4\x8a"); /* byte-level \n */
	add_eog(d, h->eos);
	add_eog(d, h->eot);
	add_eog(d, eom);
	add_eog_texts(d, eot_texts, N(eot_texts), true);
	add_eog_texts(d, eog_texts, N(eog_texts), true);
	add_eog_texts(d, fim_texts, N(fim_texts), true);
	mark_control(d, fim_marks, N(fim_marks));
	return 0;
}

static int read_flags(struct image_draft *d)
{
	bool spm = d->h->vocab_kind == IMAGE_VOCAB_SPM;
	bool bos = spm, eos = false, space = spm;
	size_t i;
	int ret;

	if (d->h->vocab_kind == IMAGE_VOCAB_BPE)
		for (i = 0; i < N(bos_pres); i++)
			bos |= str_is(d, d->h->tok_pre, bos_pres[i]);
	ret = gguf_get_bool(d->g, "tokenizer.ggml.add_bos_token", &bos, false,
			    d->why);
	if (!ret)
		ret = gguf_get_bool(d->g, "tokenizer.ggml.add_eos_token", &eos,
				    false, d->why);
	if (!ret)
		ret = gguf_get_bool(d->g, "tokenizer.ggml.add_space_prefix",
				    &space, false, d->why);
	if (ret)
		return ret;
	if (gguf_find(d->g, "tokenizer.ggml.add_bos_token"))
		d->h->tok_flags |= IMAGE_TOK_F_HAS_ADD_BOS;
	if (bos)
		d->h->tok_flags |= IMAGE_TOK_F_ADD_BOS;
	if (eos)
		d->h->tok_flags |= IMAGE_TOK_F_ADD_EOS;
	if (space)
		d->h->tok_flags |= IMAGE_TOK_F_SPACE_PREFIX;
	return 0;
}

int draft_vocab(struct image_draft *d)
{
	const struct gguf_kv *kv = gguf_find(d->g, "tokenizer.ggml.tokens");
	int ret;

	if (!kv || !kv->n)
		d->h->vocab_kind = IMAGE_VOCAB_NONE;
	else if (str_is(d, d->h->tok_model, "gpt2") ||
		 str_is(d, d->h->tok_model, "gemma4"))
		d->h->vocab_kind = IMAGE_VOCAB_BPE;
	else if (str_is(d, d->h->tok_model, "llama"))
		d->h->vocab_kind = IMAGE_VOCAB_SPM;
	else
		d->h->vocab_kind = IMAGE_VOCAB_OTHER;
	if (kv && kv->n) {
		ret = read_tokens(d, kv);
		if (!ret)
			ret = read_scores(d);
		if (!ret)
			ret = read_types(d);
		if (!ret)
			ret = read_merges(d);
		if (ret)
			return ret;
	}
	ret = read_specials(d);
	if (!ret)
		ret = read_flags(d);
	return ret;
}
