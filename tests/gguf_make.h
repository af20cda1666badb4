/* SPDX-License-Identifier: MIT */
/*
 * gguf_make.h - writes small GGUF files in memory, for tests.
 *
 * gm_init, then keys and tensors in any order, then gm_finish; gm_model adds
 * everything a tiny random model of one of our architectures needs.
 */
#ifndef HEARTH_GGUF_MAKE_H
#define HEARTH_GGUF_MAKE_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../daemon/gguf.h"
#include "../kernels/quant.h"

struct gm_buf {
	uint8_t *p;
	size_t n, cap;
};

struct gm {
	struct gm_buf kv, info, data, out;
	uint64_t n_kv, n_tensors;
	uint32_t version;
	uint32_t align;
	uint64_t seed;
};

struct gm_opts {
	const char *arch;
	enum fmt fmt; /* of matrices */
	uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_ctx;
	bool tied;
	bool rope_freqs; /* llama 3 */
	uint32_t n_swa;
	uint64_t seed;
};

#define GM_OPTS                                                               \
	{                                                                     \
		.arch = "llama", .fmt = FMT_F32, .n_layer = 2, .n_embd = 256, \
		.n_ff = 512, .n_head = 4, .n_head_kv = 2, .head_dim = 64,     \
		.n_ctx = 2048, .n_swa = 64, .seed = 1                         \
	}

#define GM_N_BYTES 256
#define GM_TEMPLATE                                                          \
	"{% for message in messages %}{{'<|im_start|>' + message['role'] + " \
	"'\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"    \
	"{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"     \
	"{% endif %}"

static inline void gm_put(struct gm_buf *b, const void *p, size_t n)
{
	if (b->n + n > b->cap) {
		b->cap = 2 * (b->n + n) + 256;
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			abort();
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void gm_u32(struct gm_buf *b, uint32_t v)
{
	gm_put(b, &v, 4);
}

static inline void gm_u64(struct gm_buf *b, uint64_t v)
{
	gm_put(b, &v, 8);
}

static inline void gm_str(struct gm_buf *b, const char *s)
{
	gm_u64(b, strlen(s));
	gm_put(b, s, strlen(s));
}

static inline void gm_key(struct gm *m, const char *key, uint32_t type)
{
	gm_str(&m->kv, key);
	gm_u32(&m->kv, type);
	m->n_kv++;
}

static inline void gm_kv_u32(struct gm *m, const char *key, uint32_t v)
{
	gm_key(m, key, GGUF_U32);
	gm_u32(&m->kv, v);
}

static inline void gm_kv_f32(struct gm *m, const char *key, float v)
{
	gm_key(m, key, GGUF_F32);
	gm_put(&m->kv, &v, 4);
}

static inline void gm_kv_bool(struct gm *m, const char *key, bool v)
{
	uint8_t b = v;

	gm_key(m, key, GGUF_BOOL);
	gm_put(&m->kv, &b, 1);
}

static inline void gm_kv_str(struct gm *m, const char *key, const char *v)
{
	gm_key(m, key, GGUF_STRING);
	gm_str(&m->kv, v);
}

/* Elements follow by the caller's gm_put/gm_str into m->kv. */
static inline void gm_kv_array(struct gm *m, const char *key, uint32_t elem,
			       uint64_t n)
{
	gm_key(m, key, GGUF_ARRAY);
	gm_u32(&m->kv, elem);
	gm_u64(&m->kv, n);
}

static inline void gm_align(struct gm_buf *b, uint32_t align)
{
	while (b->n % align)
		gm_put(b, "", 1);
}

/* A tensor's row and its data; rows 0 makes a vector. */
static inline void gm_tensor(struct gm *m, const char *name, uint32_t type,
			     uint64_t cols, uint64_t rows, const void *data,
			     size_t bytes)
{
	gm_align(&m->data, m->align);
	gm_str(&m->info, name);
	gm_u32(&m->info, rows ? 2 : 1);
	gm_u64(&m->info, cols);
	if (rows)
		gm_u64(&m->info, rows);
	gm_u32(&m->info, type);
	gm_u64(&m->info, m->data.n);
	gm_put(&m->data, data, bytes);
	m->n_tensors++;
}

static inline void gm_init(struct gm *m)
{
	memset(m, 0, sizeof(*m));
	m->version = 3;
	m->align = 32;
	m->seed = 1;
}

static inline void gm_free(struct gm *m)
{
	free(m->kv.p);
	free(m->info.p);
	free(m->data.p);
	free(m->out.p);
}

/* The file, in m->out. May be called again after more keys or tensors. */
static inline void gm_finish(struct gm *m)
{
	m->out.n = 0;
	gm_put(&m->out, "GGUF", 4);
	gm_u32(&m->out, m->version);
	gm_u64(&m->out, m->n_tensors);
	gm_u64(&m->out, m->n_kv);
	gm_put(&m->out, m->kv.p, m->kv.n);
	gm_put(&m->out, m->info.p, m->info.n);
	gm_align(&m->out, m->align);
	gm_put(&m->out, m->data.p, m->data.n);
}

/* Uniform in (-1, 1). */
static inline float gm_random(struct gm *m)
{
	uint64_t z = m->seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return (float)((double)(int64_t)z / 9223372036854775808.0);
}

/* Random values mean + spread * uniform, in a format. */
static inline void gm_weights(struct gm *m, const char *name, enum fmt f,
			      uint32_t cols, uint32_t rows, float mean,
			      float spread)
{
	size_t n = (size_t)cols * (rows ? rows : 1), i;
	size_t bytes = fmt_bytes(f, n);
	float *x = malloc(n * sizeof(*x));
	uint8_t *q = malloc(bytes);

	if (!x || !q)
		abort();
	for (i = 0; i < n; i++)
		x[i] = mean + spread * gm_random(m);
	fmt_info[f].quant(x, q, n);
	gm_tensor(m, name, fmt_info[f].ggml_type, cols, rows, q, bytes);
	free(x);
	free(q);
}

/* The code point that byte-level vocabularies write for a byte, in UTF-8. */
static inline void gm_byte_text(uint32_t byte, char out[4])
{
	uint32_t c = byte, n = 256, b;

	for (b = 0; b <= byte; b++) {
		bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) ||
			     b >= 174;

		c = plain ? b : n++;
	}
	if (c < 128) {
		out[0] = (char)c;
		out[1] = 0;
	} else {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		out[2] = 0;
	}
}

/* 256 bytes, a few merges, three control tokens. Returns the count. */
static inline uint32_t gm_vocab(struct gm *m)
{
	static const char *const merges[] = { "t h", "th e", "i n", "a n",
					      "e r", "o n",  "h e" };
	static const char *const control[] = { "<|endoftext|>", "<|im_start|>",
					       "<|im_end|>" };
	const uint32_t n_merges = sizeof(merges) / sizeof(merges[0]);
	const uint32_t n = GM_N_BYTES + n_merges + 3;
	char text[8], *blank;
	uint32_t i;

	gm_kv_str(m, "tokenizer.ggml.model", "gpt2");
	gm_kv_str(m, "tokenizer.ggml.pre", "gpt-2");
	gm_kv_array(m, "tokenizer.ggml.tokens", GGUF_STRING, n);
	for (i = 0; i < GM_N_BYTES; i++) {
		gm_byte_text(i, text);
		gm_str(&m->kv, text);
	}
	for (i = 0; i < n_merges; i++) {
		snprintf(text, sizeof(text), "%s", merges[i]);
		blank = strchr(text, ' ');
		memmove(blank, blank + 1, strlen(blank));
		gm_str(&m->kv, text);
	}
	for (i = 0; i < 3; i++)
		gm_str(&m->kv, control[i]);
	gm_kv_array(m, "tokenizer.ggml.token_type", GGUF_I32, n);
	for (i = 0; i < n; i++)
		gm_u32(&m->kv,
		       i < n - 3 ? IMAGE_TOK_NORMAL : IMAGE_TOK_CONTROL);
	gm_kv_array(m, "tokenizer.ggml.merges", GGUF_STRING, n_merges);
	for (i = 0; i < n_merges; i++)
		gm_str(&m->kv, merges[i]);
	gm_kv_u32(m, "tokenizer.ggml.bos_token_id", n - 3);
	gm_kv_u32(m, "tokenizer.ggml.eos_token_id", n - 1);
	gm_kv_bool(m, "tokenizer.ggml.add_bos_token", false);
	gm_kv_str(m, "tokenizer.chat_template", GM_TEMPLATE);
	return n;
}

static inline void gm_hparams(struct gm *m, const struct gm_opts *o)
{
	const struct {
		const char *key;
		uint32_t v;
	} u[] = {
		{ "context_length", o->n_ctx },
		{ "embedding_length", o->n_embd },
		{ "block_count", o->n_layer },
		{ "feed_forward_length", o->n_ff },
		{ "attention.head_count", o->n_head },
		{ "attention.head_count_kv", o->n_head_kv },
		{ "attention.key_length", o->head_dim },
		{ "attention.value_length", o->head_dim },
		{ "rope.dimension_count", o->head_dim },
	};
	char key[96];
	size_t i;

	gm_kv_str(m, "general.architecture", o->arch);
	gm_kv_str(m, "general.name", "tiny random");
	gm_kv_str(m, "general.license", "mit");
	for (i = 0; i < sizeof(u) / sizeof(u[0]); i++) {
		snprintf(key, sizeof(key), "%s.%s", o->arch, u[i].key);
		gm_kv_u32(m, key, u[i].v);
	}
	snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon",
		 o->arch);
	gm_kv_f32(m, key, 1e-5f);
	snprintf(key, sizeof(key), "%s.rope.freq_base", o->arch);
	gm_kv_f32(m, key, 10000);
	if (!strcmp(o->arch, "gemma3"))
		gm_kv_u32(m, "gemma3.attention.sliding_window", o->n_swa);
}

static inline void gm_layer(struct gm *m, const struct gm_opts *o, uint32_t l)
{
	const uint32_t q = o->n_head * o->head_dim;
	const uint32_t kv = o->n_head_kv * o->head_dim;
	const bool gemma = !strcmp(o->arch, "gemma3");
	const struct {
		const char *name;
		uint32_t cols, rows; /* rows 0: a norm, 1: a bias */
		bool want;
	} t[] = {
		{ "attn_norm.weight", o->n_embd, 0, true },
		{ "attn_q.weight", o->n_embd, q, true },
		{ "attn_k.weight", o->n_embd, kv, true },
		{ "attn_v.weight", o->n_embd, kv, true },
		{ "attn_output.weight", q, o->n_embd, true },
		{ "attn_q.bias", q, 1, !strcmp(o->arch, "qwen2") },
		{ "attn_k.bias", kv, 1, !strcmp(o->arch, "qwen2") },
		{ "attn_v.bias", kv, 1, !strcmp(o->arch, "qwen2") },
		{ "attn_q_norm.weight", o->head_dim, 0,
		  gemma || !strcmp(o->arch, "qwen3") },
		{ "attn_k_norm.weight", o->head_dim, 0,
		  gemma || !strcmp(o->arch, "qwen3") },
		{ "post_attention_norm.weight", o->n_embd, 0, gemma },
		{ "ffn_norm.weight", o->n_embd, 0, true },
		{ "ffn_gate.weight", o->n_embd, o->n_ff, true },
		{ "ffn_up.weight", o->n_embd, o->n_ff, true },
		{ "ffn_down.weight", o->n_ff, o->n_embd, true },
		{ "post_ffw_norm.weight", o->n_embd, 0, gemma },
	};
	char name[64];
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		if (!t[i].want)
			continue;
		snprintf(name, sizeof(name), "blk.%u.%s", l, t[i].name);
		if (t[i].rows < 2)
			gm_weights(m, name, FMT_F32, t[i].cols, 0,
				   t[i].rows ? 0 : 1, 0.1f);
		else
			gm_weights(m, name, o->fmt, t[i].cols, t[i].rows, 0,
				   sqrtf(3.0f / (float)t[i].cols));
	}
}

/* A whole model; gm_finish() is the caller's. */
static inline void gm_model(struct gm *m, const struct gm_opts *o)
{
	uint32_t n_vocab, i;
	float freq[512];

	m->seed = o->seed;
	gm_hparams(m, o);
	n_vocab = gm_vocab(m);
	gm_weights(m, "token_embd.weight", o->fmt, o->n_embd, n_vocab, 0,
		   sqrtf(3.0f / (float)o->n_embd));
	for (i = 0; i < o->n_layer; i++)
		gm_layer(m, o, i);
	gm_weights(m, "output_norm.weight", FMT_F32, o->n_embd, 0, 1, 0.1f);
	if (!o->tied)
		gm_weights(m, "output.weight", o->fmt, o->n_embd, n_vocab, 0,
			   sqrtf(3.0f / (float)o->n_embd));
	if (!o->rope_freqs)
		return;
	for (i = 0; i < o->head_dim / 2 && i < 512; i++)
		freq[i] = i < o->head_dim / 4 ? 1 : 8;
	gm_tensor(m, "rope_freqs.weight", 0, i, 0, freq, i * sizeof(float));
}

#endif
