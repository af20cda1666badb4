/* SPDX-License-Identifier: MIT */
/* vocab_make.h - two small vocabularies of our own, for tests and fuzzers. */
#ifndef HEARTH_VOCAB_MAKE_H
#define HEARTH_VOCAB_MAKE_H

#include "../daemon/image_write.h"
#include "../libclient/lib.h"
#include "gguf_make.h"

struct vm_token {
	const char *text;
	uint32_t type;
	float score;
};

/* Besides the 256 bytes; a merge "a b" makes the token "ab". The blank is
 * written U+0120. */
static const char *const vm_merges[] = {
	"h e",
	"l l",
	"he ll",
	"hell o",
	"\xc4\xa0 hello",
	"a a",
	"aa aa",
	"aaaa aaaa",
	"o o",
	"t h",
	"th e",
	"\xc4\xa0 the",
	"1 2",
	"12 3",
	"\xc3\x83 \xc2\xa9",
	"l o",
	"\xc4\xa0 \xc4\xa0",
	"' s",
	"i n",
	"n g",
	"in g",
	"e r",
	"o n",
	"r e",
	"h i",
	"a n",
	"an d",
};

static const struct vm_token vm_special[] = {
	{ "<|bos|>", IMAGE_TOK_CONTROL, 0 },
	{ "<|end|>", IMAGE_TOK_CONTROL, 0 },
	{ "<|end|>>", IMAGE_TOK_CONTROL, 0 },
	{ "<|endless|>", IMAGE_TOK_CONTROL, 0 },
	{ "<tool>", IMAGE_TOK_USER, 0 },
	{ "<tool", IMAGE_TOK_CONTROL, 0 },
};

#define VM_SPECIAL (sizeof(vm_special) / sizeof(vm_special[0]))

static const struct vm_token vm_spm[] = {
	{ "<unk>", IMAGE_TOK_UNKNOWN, 0 },
	{ "<s>", IMAGE_TOK_CONTROL, 0 },
	{ "</s>", IMAGE_TOK_CONTROL, 0 },
	{ "<tool>", IMAGE_TOK_USER, 0 },
	{ "\xe2\x96\x81", IMAGE_TOK_NORMAL, -1 },
	{ "\xe2\x96\x81\xe2\x96\x81", IMAGE_TOK_NORMAL, -2 },
	{ "h", IMAGE_TOK_NORMAL, -3 },
	{ "e", IMAGE_TOK_NORMAL, -4 },
	{ "l", IMAGE_TOK_NORMAL, -5 },
	{ "o", IMAGE_TOK_NORMAL, -6 },
	{ "a", IMAGE_TOK_NORMAL, -7 },
	{ "he", IMAGE_TOK_NORMAL, -20 },
	{ "ll", IMAGE_TOK_NORMAL, -10 },
	{ "hell", IMAGE_TOK_NORMAL, -30 },
	{ "\xe2\x96\x81h", IMAGE_TOK_NORMAL, -8 },
	{ "\xe2\x96\x81he", IMAGE_TOK_NORMAL, -25 },
	{ "llo", IMAGE_TOK_NORMAL, -15 },
	{ "\xe2\x96\x81hello", IMAGE_TOK_NORMAL, -40 },
	{ "aa", IMAGE_TOK_NORMAL, -11 },
	{ "aaaa", IMAGE_TOK_NORMAL, -12 },
	{ "\xc3\xa9", IMAGE_TOK_NORMAL, -13 },
};

#define VM_SPM (sizeof(vm_spm) / sizeof(vm_spm[0]))

/* "a b" without its blank. */
static inline void vm_join(const char *merge, char out[64])
{
	const char *blank = strchr(merge + 1, ' ');

	snprintf(out, 64, "%.*s%s", (int)(blank - merge), merge, blank + 1);
}

static inline void vm_bpe(struct gm *m, const char *pre)
{
	const uint32_t n_merges = sizeof(vm_merges) / sizeof(vm_merges[0]);
	const uint32_t n = 256 + n_merges + VM_SPECIAL;
	char text[64];
	uint32_t i;

	gm_kv_str(m, "tokenizer.ggml.model", "gpt2");
	gm_kv_str(m, "tokenizer.ggml.pre", pre);
	gm_kv_array(m, "tokenizer.ggml.tokens", GGUF_STRING, n);
	for (i = 0; i < 256; i++) {
		gm_byte_text(i, text);
		gm_str(&m->kv, text);
	}
	for (i = 0; i < n_merges; i++) {
		vm_join(vm_merges[i], text);
		gm_str(&m->kv, text);
	}
	for (i = 0; i < VM_SPECIAL; i++)
		gm_str(&m->kv, vm_special[i].text);
	gm_kv_array(m, "tokenizer.ggml.token_type", GGUF_I32, n);
	for (i = 0; i < n; i++)
		gm_u32(&m->kv, i < n - VM_SPECIAL
				       ? (uint32_t)IMAGE_TOK_NORMAL
				       : vm_special[i + VM_SPECIAL - n].type);
	gm_kv_array(m, "tokenizer.ggml.merges", GGUF_STRING, n_merges);
	for (i = 0; i < n_merges; i++)
		gm_str(&m->kv, vm_merges[i]);
	gm_kv_u32(m, "tokenizer.ggml.bos_token_id", 256 + n_merges);
	gm_kv_u32(m, "tokenizer.ggml.eos_token_id", 256 + n_merges + 1);
}

static inline void vm_spm_keys(struct gm *m)
{
	const uint32_t n = VM_SPM + 256;
	const float zero = 0;
	char text[8];
	uint32_t i;

	gm_kv_str(m, "tokenizer.ggml.model", "llama");
	gm_kv_array(m, "tokenizer.ggml.tokens", GGUF_STRING, n);
	for (i = 0; i < VM_SPM; i++)
		gm_str(&m->kv, vm_spm[i].text);
	for (i = 0; i < 256; i++) {
		snprintf(text, sizeof(text), "<0x%02X>", i);
		gm_str(&m->kv, text);
	}
	gm_kv_array(m, "tokenizer.ggml.token_type", GGUF_I32, n);
	for (i = 0; i < n; i++)
		gm_u32(&m->kv,
		       i < VM_SPM ? vm_spm[i].type : (uint32_t)IMAGE_TOK_BYTE);
	gm_kv_array(m, "tokenizer.ggml.scores", GGUF_F32, n);
	for (i = 0; i < n; i++)
		gm_put(&m->kv, i < VM_SPM ? &vm_spm[i].score : &zero, 4);
	gm_kv_u32(m, "tokenizer.ggml.bos_token_id", 1);
	gm_kv_u32(m, "tokenizer.ggml.eos_token_id", 2);
}

/* The model of what was put into @m; *image is the caller's. */
static inline int vm_model(struct gm *m, struct hearth_model **out,
			   void **image, char why[160])
{
	struct gguf_src src;
	struct gguf *g;
	size_t n;
	int ret;

	gm_kv_str(m, "general.architecture", "llama");
	gm_finish(m);
	src = (struct gguf_src){ .mem = m->out.p, .bytes = m->out.n };
	*image = NULL;
	ret = gguf_open(&g, &src, 1, why);
	if (ret)
		return ret;
	ret = image_build(g, MODEL_VOCAB_ONLY, image, &n, why);
	gguf_close(g);
	return ret ? ret : model_new_mem(out, *image, n, why);
}

#endif
