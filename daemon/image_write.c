/* SPDX-License-Identifier: MIT */
/* image_write.c - makes a model image of a model's headers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/quant.h"
#include "../libclient/safe.h"
#include "../libclient/why.h"
#include "image_priv.h"

#define ALIGN	       64
#define MAX_VALUE_TEXT 32 /* of a number or "[n x type]" */

#define fail(d, err, ...) say_why((d)->why, err, __VA_ARGS__)

struct image_str draft_str(struct image_draft *d, const void *p, size_t n)
{
	struct image_str s = { (uint32_t)d->h->strings.n, (uint32_t)n };

	if (!safe_range(s.off, n, d->str_max))
		abort(); /* counted wrong: a bug of ours */
	memcpy(d->str + s.off, p, n);
	d->h->strings.n += n;
	return s;
}

uint64_t draft_slots(uint64_t n)
{
	uint64_t slots = 2;

	while (slots < 2 * n)
		slots *= 2;
	return slots;
}

/* --------------------------------------------------- measuring, laying out */

/* Bytes of all texts of an array of strings. */
static uint64_t array_text(const struct gguf *g, const struct gguf_kv *kv)
{
	const uint8_t *p = g->part[0].buf + kv->off;
	uint64_t len, sum = 0;
	uint32_t i;

	for (i = 0; i < kv->n; i++) {
		memcpy(&len, p, 8);
		sum += len;
		p += 8 + len;
	}
	return sum;
}

static const struct gguf_kv *string_array(const struct gguf *g, const char *key)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	return kv && kv->type == GGUF_ARRAY && kv->elem == GGUF_STRING ? kv
								       : NULL;
}

static uint64_t measure_strings(struct image_draft *d,
				const struct gguf_kv *tokens)
{
	const struct gguf_part *p = &d->g->part[0];
	uint64_t i, sum = MAX_VALUE_TEXT; /* quant_name */

	for (i = 0; i < p->n_kv; i++) {
		sum += p->kv[i].key_len;
		sum += p->kv[i].type == GGUF_STRING ? p->kv[i].n
						    : MAX_VALUE_TEXT;
	}
	for (i = 0; i < d->g->n_tensors; i++)
		sum += d->g->tensors[i].name_len;
	return sum + (tokens ? array_text(d->g, tokens) : 0);
}

/* Reserve a section at the end of what there is. */
static void reserve(uint64_t *end, uint64_t n, size_t size,
		    struct image_span *span)
{
	span->off = *end;
	span->n = n;
	*end = (*end + n * size + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

static int lay_out(struct image_draft *d)
{
	const struct gguf_kv *tok, *mrg;
	struct image_header h = { 0 };
	uint64_t n_tok, n_mrg, end;
	char *base;

	tok = string_array(d->g, "tokenizer.ggml.tokens");
	mrg = string_array(d->g, "tokenizer.ggml.merges");
	n_tok = tok ? tok->n : 0;
	n_mrg = mrg && n_tok ? mrg->n : 0;
	if (n_tok > IMAGE_MAX_VOCAB)
		return fail(d, -EBADMSG,
			    "key tokenizer.ggml.tokens: %u tokens, at most %u",
			    tok->n, IMAGE_MAX_VOCAB);
	d->str_max = measure_strings(d, tok);
	end = (sizeof(h) + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
	reserve(&end, d->g->n_tensors, sizeof(*d->tensors), &h.tensors);
	reserve(&end, n_tok, sizeof(*d->tokens), &h.tokens);
	reserve(&end, n_mrg, sizeof(*d->merges), &h.merges);
	reserve(&end, n_tok ? draft_slots(n_tok) : 0, 4, &h.tok_hash);
	reserve(&end, n_mrg ? draft_slots(n_mrg) : 0, 4, &h.merge_hash);
	reserve(&end, IMAGE_MAX_EOG, 4, &h.eog);
	reserve(&end, d->g->part[0].n_kv, sizeof(*d->meta), &h.meta);
	reserve(&end, d->str_max, 1, &h.strings);
	if (end > IMAGE_MAX_BYTES)
		return fail(d, -EBADMSG, "the vocabulary is too large");
	base = calloc(1, end);
	if (!base)
		return fail(d, -ENOMEM, "out of memory");
	d->h = (struct image_header *)base;
	*d->h = h;
	d->str = base + h.strings.off;
	d->tensors = (void *)(base + h.tensors.off);
	d->tokens = (void *)(base + h.tokens.off);
	d->merges = (void *)(base + h.merges.off);
	d->tok_hash = (void *)(base + h.tok_hash.off);
	d->merge_hash = (void *)(base + h.merge_hash.off);
	d->eog = (void *)(base + h.eog.off);
	d->meta = (void *)(base + h.meta.off);
	d->h->strings.n = 0;
	d->h->eog.n = 0;
	d->h->merges.n = 0;
	d->im = (struct image){ .h = d->h,
				.str = d->str,
				.tensors = d->tensors,
				.tokens = d->tokens,
				.merges = d->merges,
				.tok_hash = d->tok_hash,
				.merge_hash = d->merge_hash,
				.eog = d->eog,
				.meta = d->meta };
	return 0;
}

/* --------------------------------------------------------------- tensors */

static int add_tensor(struct image_draft *d, const struct arch *arch,
		      const struct gguf_tensor *t)
{
	const char *text = gguf_text(d->g, t->part, t->name_off);
	struct image_hparams *hp = &d->h->hp;
	const struct arch_tensor *at = NULL;
	struct image_tensor *out;
	enum tensor_role role;
	uint32_t layer = 0;
	char name[64];
	int ret;

	snprintf(name, sizeof(name), "%.*s", t->name_len, text);
	role = tensor_role_parse(text, t->name_len, &layer);
	if (role != ROLE_N)
		at = arch_tensor_find(arch, role);
	if (!at)
		return fail(d, -ENOTSUP,
			    "tensor %.63s: not known in %s (part %u, byte %u)",
			    name, arch->name, t->part + 1, t->at);
	if (layer >= hp->n_layer)
		return fail(d, -EBADMSG,
			    "tensor %.63s: there are %u layers (part %u, "
			    "byte %u)",
			    name, hp->n_layer, t->part + 1, t->at);
	ret = arch_tensor_check(hp, at, t->type, t->cols, t->rows, name,
				d->why);
	if (ret)
		return ret;
	out = &d->tensors[d->h->tensors.n++];
	out->name = draft_str(d, text, t->name_len);
	out->role = role;
	out->layer = layer;
	out->type = t->type;
	out->file = t->part;
	out->cols = t->cols;
	out->rows = t->rows;
	out->off = t->off;
	out->bytes = t->bytes;
	if (role == ROLE_OUTPUT)
		hp->tied = 0;
	if (role == ROLE_ROPE_FREQS)
		hp->rope_scaling = IMAGE_ROPE_FREQS;
	return 0;
}

static const struct gguf_tensor *tensor_named(const struct gguf *g,
					      const char *name)
{
	size_t n = strlen(name);
	uint32_t i;

	for (i = 0; i < g->n_tensors; i++)
		if (g->tensors[i].name_len == n &&
		    !memcmp(gguf_text(g, g->tensors[i].part,
				      g->tensors[i].name_off),
			    name, n))
			return &g->tensors[i];
	return NULL;
}

static int draft_model(struct image_draft *d)
{
	struct image_hparams *hp = &d->h->hp;
	const struct gguf_tensor *embd;
	const struct arch *arch;
	const char *name;
	char shown[64];
	enum arch_id id;
	uint32_t i;
	size_t n;
	int ret;

	ret = gguf_get_str(d->g, "general.architecture", &name, &n, true,
			   d->why);
	if (ret)
		return ret;
	d->h->tensors.n = 0;
	if (!d->g->n_tensors && (d->flags & MODEL_VOCAB_ONLY)) {
		hp->arch = IMAGE_NONE;
		hp->n_vocab = (uint32_t)d->h->tokens.n;
		return 0;
	}
	id = arch_find(name, n);
	if (id == ARCH_N) {
		gguf_printable(shown, sizeof(shown), name, n);
		return fail(d, -ENOTSUP, "architecture %s is not supported",
			    shown);
	}
	arch = archs[id];
	embd = tensor_named(d->g, "token_embd.weight");
	if (!embd)
		return fail(d, -EBADMSG, "tensor token_embd.weight: missing");
	if (embd->rows > IMAGE_MAX_VOCAB || embd->rows < d->h->tokens.n)
		return fail(d, -EBADMSG,
			    "tensor token_embd.weight: %llu rows, %llu tokens",
			    (unsigned long long)embd->rows,
			    (unsigned long long)d->h->tokens.n);
	hp->arch = id;
	hp->n_vocab = (uint32_t)embd->rows;
	hp->tied = 1;
	ret = arch->hparams(hp, d->g, d->why);
	if (ret)
		return ret;
	for (i = 0; i < d->g->n_tensors; i++) {
		ret = add_tensor(d, arch, &d->g->tensors[i]);
		if (ret)
			return ret;
	}
	return 0;
}

/* ------------------------------------------------------------- metadata */

static void draft_meta(struct image_draft *d)
{
	const struct gguf_part *p = &d->g->part[0];
	const struct gguf_kv *kv;
	char text[MAX_VALUE_TEXT];
	struct image_meta *m;
	uint64_t i;
	int n;

	for (i = 0; i < p->n_kv; i++) {
		kv = &p->kv[i];
		m = &d->meta[i];
		m->key = draft_str(d, p->buf + kv->key_off, kv->key_len);
		if (kv->type == GGUF_STRING) {
			m->value = draft_str(d, p->buf + kv->off, kv->n);
			continue;
		}
		if (kv->type == GGUF_ARRAY)
			n = snprintf(text, sizeof(text), "[%u x %s]", kv->n,
				     gguf_type_names[kv->elem]);
		else
			n = gguf_print(text, sizeof(text), kv->type,
				       p->buf + kv->off);
		m->value = draft_str(d, text, (size_t)n);
	}
}

/* The text of a string key, in the metadata already. */
static struct image_str meta_str(struct image_draft *d, const char *key)
{
	const struct gguf_kv *kv = gguf_find(d->g, key);

	if (!kv || kv->type != GGUF_STRING)
		return (struct image_str){ 0, 0 };
	return d->meta[kv - d->g->part[0].kv].value;
}

/* Names of general.file_type. */
static const char *const file_types[] = {
	[0] = "F32",	 [1] = "F16",	  [2] = "Q4_0",	   [3] = "Q4_1",
	[7] = "Q8_0",	 [8] = "Q5_0",	  [9] = "Q5_1",	   [10] = "Q2_K",
	[11] = "Q3_K_S", [12] = "Q3_K_M", [13] = "Q3_K_L", [14] = "Q4_K_S",
	[15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M", [18] = "Q6_K",
	[21] = "Q2_K_S", [32] = "BF16",
};

static void draft_quant_name(struct image_draft *d)
{
	const size_t n = sizeof(file_types) / sizeof(file_types[0]);
	uint64_t bytes[FMT_N] = { 0 };
	uint32_t i, ft = UINT32_MAX;
	int f, best = 0;
	const char *name;
	char why[160];

	if (!gguf_get_u32(d->g, "general.file_type", &ft, false, why) &&
	    ft < n && file_types[ft]) {
		name = file_types[ft];
	} else {
		for (i = 0; i < d->g->n_tensors; i++)
			bytes[fmt_from_ggml(d->g->tensors[i].type)] +=
				d->g->tensors[i].bytes;
		for (f = 1; f < FMT_N; f++)
			if (bytes[f] > bytes[best])
				best = f;
		name = d->g->n_tensors ? fmt_info[best].name : "";
	}
	d->h->quant_name = draft_str(d, name, strlen(name));
}

int image_build(const struct gguf *g, unsigned int flags, void **out, size_t *n,
		char why[160])
{
	struct image_draft d = { .g = g, .flags = flags, .why = why };
	struct image check;
	struct gguf_kv const *kv;
	unsigned int i;
	int ret;

	*out = NULL;
	kv = gguf_find(g, "tokenizer.ggml.tokens");
	if (kv && !string_array(g, "tokenizer.ggml.tokens"))
		return gguf_bad_key(g, "tokenizer.ggml.tokens", why,
				    "no array of strings");
	ret = lay_out(&d);
	if (ret)
		return ret;
	d.h->magic = IMAGE_MAGIC;
	d.h->version = IMAGE_VERSION;
	d.h->n_params = g->n_params;
	d.h->n_files = g->n_parts;
	for (i = 0; i < g->n_parts; i++)
		d.h->file_bytes[i] = g->part[i].src.bytes;
	draft_meta(&d);
	d.h->arch_name = meta_str(&d, "general.architecture");
	d.h->tok_model = meta_str(&d, "tokenizer.ggml.model");
	d.h->tok_pre = meta_str(&d, "tokenizer.ggml.pre");
	d.h->chat_template = meta_str(&d, "tokenizer.chat_template");
	draft_quant_name(&d);
	ret = draft_model(&d);
	if (!ret)
		ret = draft_vocab(&d);
	if (ret)
		goto err;
	d.h->bytes = d.h->strings.off + d.h->strings.n;
	ret = image_open_mem(&check, d.h, d.h->bytes, why);
	if (ret)
		goto err;
	*out = d.h;
	*n = d.h->bytes;
	return 0;
err:
	free(d.h);
	return ret;
}
