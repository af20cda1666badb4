/* SPDX-License-Identifier: MIT */
/* image_priv.h - the image under construction, shared by image_*.c. */
#ifndef HEARTH_IMAGE_PRIV_H
#define HEARTH_IMAGE_PRIV_H

#include "arch.h"
#include "gguf.h"
#include "image_write.h"

/**
 * struct image_draft - an image being filled
 *
 * All memory is one block, sized by an upper bound before anything is
 * written; sections point into it. The string section comes last.
 */
struct image_draft {
	const struct gguf *g;
	unsigned int flags;
	char *why;
	struct image im; /* reads what is written so far */
	struct image_header *h;
	char *str;
	struct image_tensor *tensors;
	struct image_token *tokens;
	struct image_merge *merges;
	uint32_t *tok_hash;
	uint32_t *merge_hash;
	uint32_t *eog;
	struct image_meta *meta;
	uint64_t str_max;
};

#define IMAGE_MAX_EOG 64

/* Copy a text into the string section; its size was counted before. */
struct image_str draft_str(struct image_draft *d, const void *p, size_t n);

/* Slots of a hash table for @n entries: twice as many, a power of two. */
uint64_t draft_slots(uint64_t n);

/* image_vocab.c: tokens, merges, special tokens. */
int draft_vocab(struct image_draft *d);

#endif
