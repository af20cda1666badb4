/* SPDX-License-Identifier: MIT */
/*
 * fuzz_tokenizer.c - any bytes to tokens and back, by every rule.
 *
 * The first byte chooses the vocabulary and its pre-tokenizer.
 */
#include <errno.h>
#include <stdint.h>

#include "../../libclient/pretok.h"
#include "../vocab_make.h"
#include "heap.h"

#define MODELS 128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct hearth_model *models[MODELS];
static unsigned n_models;

static void add_model(const char *pre)
{
	char why[160];
	void *image;
	struct gm g;

	gm_init(&g);
	if (pre)
		vm_bpe(&g, pre);
	else
		vm_spm_keys(&g);
	if (vm_model(&g, &models[n_models++], &image, why) ||
	    hearth_detokenize(models[n_models - 1], NULL, 0, NULL, 0, false))
		abort();
	gm_free(&g);
}

static void make_models(void)
{
	const struct pretok *last = NULL, *rule;
	const char *name;
	size_t i;

	add_model(NULL);
	for (i = 0; (name = pretok_name(i)); i++) {
		rule = pretok_find(name, strlen(name));
		/* the raw rules need another vocabulary than ours */
		if (rule != last && !(rule->flags & PRETOK_RAW) &&
		    n_models < MODELS)
			add_model(name);
		last = rule;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hearth_stream s = { 0 };
	const struct hearth_model *m;
	int64_t k, len, i, at = 0;
	char *text, *back;
	uint32_t *tok;
	int got;

	if (!n_models)
		make_models();
	if (n < 2)
		return 0;
	m = models[data[0] % n_models];
	n--;
	text = malloc(n);
	memcpy(text, data + 1, n);
	heap_begin();
	k = hearth_tokenize(m, text, n, NULL, 0, HEARTH_TOK_NO_BOS);
	heap_end(n);
	if (k < 0 || k > (int64_t)n + 1)
		abort();
	tok = malloc((size_t)(k + 1) * sizeof(*tok));
	back = malloc(n + 64);
	if (hearth_tokenize(m, text, n, tok, (size_t)k, HEARTH_TOK_NO_BOS) != k)
		abort();
	len = hearth_detokenize(m, tok, (size_t)k, back, n + 64, false);
	for (i = 0; i <= k; i++) {
		got = hearth_stream_token(m, &s, i < k ? tok[i] : UINT32_MAX,
					  back + at, n + 64 - (size_t)at);
		if (got < 0)
			abort();
		at += got;
	}
	if (at != len)
		abort();
	/* SentencePiece cannot tell U+2581 from a space, nor the space that
	 * it puts after a user's token from one that was there */
	if (data[0] % n_models && (len != (int64_t)n || memcmp(back, text, n)))
		abort();
	free(back);
	free(tok);
	heap_begin();
	k = hearth_tokenize(m, text, n, NULL, 0, HEARTH_TOK_SPECIAL);
	heap_end(n);
	if (k < 0)
		abort();
	free(text);
	return 0;
}
