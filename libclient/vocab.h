/* SPDX-License-Identifier: MIT */
/*
 * vocab.h - the tables that tokenizing makes of a model's vocabulary.
 *
 * Built once a model, on first use; read-only afterwards. bpe.c and spm.c cut
 * text into tokens, merge.c is the merging that both share, detok.c is the
 * way back.
 */
#ifndef HEARTH_VOCAB_H
#define HEARTH_VOCAB_H

#include "lib.h"
#include "pretok.h"

/* Symbols merged at a time. A run with no place where cutting is harmless is
 * cut after this many: it bounds memory, and no word of a language is near. */
#define MERGE_MAX 16384

/* Longer control tokens are not looked for in texts. */
#define SPECIAL_MAX 255

#define PAIR_BITS 17

/**
 * struct vocab - what tokenizing needs besides the image
 * @im:        the image
 * @kind:      IMAGE_VOCAB_BPE or IMAGE_VOCAB_SPM
 * @rule:      pre-tokenizer (BPE)
 * @flags:     PRETOK_* of it
 * @byte_id:   token of a byte, IMAGE_NONE if there is none
 * @byte_of:   code point of byte-level BPE to byte, -1 if it is none
 * @max_len:   bytes of the longest token
 * @special:   control and user-defined tokens, sorted by text
 * @sp_lo, @sp_hi: those that begin with a byte
 * @pairs:     set of the adjacent characters inside tokens (hashed bits): a
 *             pair that is not there is never merged across
 * @rstrip:    control tokens swallow the blanks after them
 */
struct vocab {
	const struct image *im;
	unsigned kind;
	const struct pretok *rule;
	unsigned flags;
	bool add_bos;
	bool add_eos;
	bool space_prefix;
	bool rstrip;
	uint32_t byte_id[256];
	int16_t byte_of[0x180];
	uint32_t max_len;
	uint32_t *special;
	uint32_t n_special;
	uint32_t sp_lo[256];
	uint32_t sp_hi[256];
	uint64_t pairs[1u << (PAIR_BITS - 6)];
};

/**
 * vocab_get() - the tables of a model, made on first use
 *
 * Return: 0; -ENODATA when the model has no vocabulary; -ENOTSUP when its kind
 * or its pre-tokenizer is not known; or -ENOMEM.
 */
int vocab_get(const struct hearth_model *m, const struct vocab **out);

/* Longest special token at @p, or IMAGE_NONE. Control tokens count only with
 * @control. */
uint32_t vocab_special(const struct vocab *v, const uint8_t *p,
		       const uint8_t *e, bool control);

/* Type of a token. */
unsigned vocab_type(const struct vocab *v, uint32_t id);

/* May these characters meet inside a token? UNI_BYTE(b) for a stray byte. */
bool vocab_pair(const struct vocab *v, uint32_t a, uint32_t b);

#define UNI_BYTE(b) (0x110000u + (b))
#define SPACE_MARK  0x2581u /* stands for a space in SentencePiece */

/* Where tokens go: counted always, stored while there is room. */
struct tok_out {
	uint32_t *out;
	size_t max;
	int64_t n;
};

static inline void tok_emit(struct tok_out *o, uint32_t id)
{
	if ((size_t)o->n < o->max)
		o->out[o->n] = id;
	o->n++;
}

/**
 * struct merge_sym - a piece of the text being merged
 * @id:  its token, or IMAGE_NONE
 * @off: in the merger's text
 * @len: 0 when it was merged into its left neighbour
 */
struct merge_sym {
	uint32_t id;
	uint32_t off;
	uint32_t len;
	uint32_t prev;
	uint32_t next;
};

struct merge_cand {
	uint32_t key; /* smallest first, then leftmost */
	uint32_t left;
	uint32_t len; /* of both together: tells a stale candidate */
	uint32_t id;
};

/**
 * struct merger - merges neighbours, best pair first, in O(n log n)
 * @pair: token that two neighbours make and the pair's key; false if none
 */
struct merger {
	const struct vocab *v;
	bool (*pair)(const struct merger *mg, const struct merge_sym *l,
		     const struct merge_sym *r, uint32_t *key, uint32_t *id);
	uint8_t *text;
	size_t cap_text;
	size_t n_text;
	struct merge_sym *sym;
	struct merge_cand *heap;
	uint32_t cap;
	uint32_t n;
	uint32_t n_heap;
};

/* Make room for @n symbols (at most MERGE_MAX) and empty the merger. */
int merge_start(struct merger *mg, size_t n);

/* Make room for @n bytes in mg->text. */
int merge_text(struct merger *mg, size_t n);
void merge_add(struct merger *mg, uint32_t id, uint32_t off, uint32_t len);
void merge_run(struct merger *mg);
void merge_fini(struct merger *mg);

/* Cut one run of text without control tokens. */
int bpe_tokenize(struct merger *mg, const uint8_t *p, const uint8_t *e,
		 struct tok_out *o);
int spm_tokenize(struct merger *mg, const uint8_t *p, const uint8_t *e,
		 bool prefix, struct tok_out *o);

#endif
