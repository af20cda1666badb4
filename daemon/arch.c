/* SPDX-License-Identifier: MIT */
/* arch.c - what all architectures share: lists, roles, shapes, common keys. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../kernels/quant.h"
#include "../libclient/why.h"
#include "arch.h"
#include "gguf.h"

const struct arch *const archs[ARCH_N] = {
#define ARCH(name) [ARCH_##name] = &arch_##name,
#include "arch.def"
#undef ARCH
};

const struct tensor_role_info tensor_roles[ROLE_N] = {
#define TENSOR(role, name, per_layer) [ROLE_##role] = { name, per_layer },
#include "tensor.def"
#undef TENSOR
};

#define bad(why, ...) say_why(why, -EBADMSG, __VA_ARGS__)

enum arch_id arch_find(const char *name, size_t n)
{
	unsigned int i;

	for (i = 0; i < ARCH_N; i++)
		if (strlen(archs[i]->name) == n &&
		    !memcmp(archs[i]->name, name, n))
			return i;
	return ARCH_N;
}

enum tensor_role tensor_role_parse(const char *name, size_t n, uint32_t *layer)
{
	static const char prefix[] = "blk.";
	static const size_t skip = sizeof("blk.%u") - 1;
	size_t plen = sizeof(prefix) - 1, i = plen, len;
	const char *want;
	uint32_t l = 0;
	unsigned int r;
	bool in_layer;

	in_layer = n > plen && !memcmp(name, prefix, plen);
	if (in_layer) {
		for (; i < n && name[i] >= '0' && name[i] <= '9'; i++) {
			if (i - plen >= 4 || (i > plen && !l))
				return ROLE_N; /* too long, leading zero */
			l = l * 10 + (uint32_t)(name[i] - '0');
		}
		if (i == plen)
			return ROLE_N;
	} else {
		i = 0;
	}
	for (r = 0; r < ROLE_N; r++) {
		if (tensor_roles[r].per_layer != in_layer)
			continue;
		want = tensor_roles[r].name + (in_layer ? skip : 0);
		len = strlen(want);
		if (n - i == len && !memcmp(name + i, want, len)) {
			*layer = l;
			return r;
		}
	}
	return ROLE_N;
}

uint64_t arch_dim_of(const struct image_hparams *hp, enum arch_dim d)
{
	switch (d) {
	case DIM_ONE:
		return 1;
	case DIM_EMBD:
		return hp->n_embd;
	case DIM_FF:
		return hp->n_ff;
	case DIM_Q:
		return (uint64_t)hp->n_head * hp->head_dim;
	case DIM_KV:
		return (uint64_t)hp->n_head_kv * hp->head_dim;
	case DIM_HEAD:
		return hp->head_dim;
	case DIM_PAIRS:
		return hp->n_rope / 2;
	case DIM_VOCAB:
		return hp->n_vocab;
	}
	return 0;
}

const struct arch_tensor *arch_tensor_find(const struct arch *a,
					   enum tensor_role role)
{
	size_t i;

	for (i = 0; i < a->n_tensors; i++)
		if (a->tensors[i].role == role)
			return &a->tensors[i];
	return NULL;
}

int arch_tensor_check(const struct image_hparams *hp,
		      const struct arch_tensor *at, uint32_t type,
		      uint64_t cols, uint64_t rows, const char *name,
		      char why[160])
{
	uint64_t c = arch_dim_of(hp, at->cols), r = arch_dim_of(hp, at->rows);
	int f = fmt_from_ggml(type);

	if (cols != c || rows != r)
		return bad(why,
			   "tensor %.48s: shape %llu x %llu, want %llu x %llu",
			   name, (unsigned long long)cols,
			   (unsigned long long)rows, (unsigned long long)c,
			   (unsigned long long)r);
	if (f < 0)
		return bad(why, "tensor %.48s: unknown type %u", name, type);
	if (at->rows == DIM_ONE && fmt_info[f].block != 1)
		return bad(why, "tensor %.48s: type %s, want a float type",
			   name, fmt_info[f].name);
	return 0;
}

/* ------------------------------------------------------------ common keys */

static const char *key_of(char buf[96], const char *arch, const char *key)
{
	snprintf(buf, 96, "%s.%s", arch, key);
	return buf;
}

static int read_sizes(struct image_hparams *hp, const struct gguf *g,
		      const char *arch, char why[160])
{
	const struct {
		const char *key;
		uint32_t *out;
	} keys[] = {
		{ "context_length", &hp->n_ctx_train },
		{ "embedding_length", &hp->n_embd },
		{ "block_count", &hp->n_layer },
		{ "feed_forward_length", &hp->n_ff },
		{ "attention.head_count", &hp->n_head },
	};
	uint32_t value_length, n_expert = 0;
	char k[96];
	size_t i;
	int ret;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		ret = gguf_get_u32(g, key_of(k, arch, keys[i].key), keys[i].out,
				   true, why);
		if (ret)
			return ret;
		if (!*keys[i].out)
			return gguf_bad_key(g, k, why, "zero");
	}
	ret = gguf_get_u32(g, key_of(k, arch, "expert_count"), &n_expert, false,
			   why);
	if (ret)
		return ret;
	if (n_expert)
		return gguf_bad_key(g, k, why, "experts are not supported");
	hp->n_head_kv = hp->n_head;
	ret = gguf_get_u32(g, key_of(k, arch, "attention.head_count_kv"),
			   &hp->n_head_kv, false, why);
	if (ret)
		return ret;
	if (!hp->n_head_kv || hp->n_head % hp->n_head_kv)
		return gguf_bad_key(g, k, why,
				    "does not divide the number of heads");
	hp->head_dim = hp->n_embd / hp->n_head;
	ret = gguf_get_u32(g, key_of(k, arch, "attention.key_length"),
			   &hp->head_dim, false, why);
	if (ret)
		return ret;
	if (!hp->head_dim || hp->head_dim % 2)
		return gguf_bad_key(g, k, why, "zero or odd");
	value_length = hp->n_embd / hp->n_head;
	ret = gguf_get_u32(g, key_of(k, arch, "attention.value_length"),
			   &value_length, false, why);
	if (ret)
		return ret;
	if (value_length != hp->head_dim)
		return gguf_bad_key(g, k, why,
				    "differs from the key length, not "
				    "supported");
	return 0;
}

static int read_scaling(struct image_hparams *hp, const struct gguf *g,
			const char *arch, char why[160])
{
	const char *type = "linear";
	size_t n = strlen(type);
	float factor = 0;
	char k[96], what[64], shown[25];
	int ret;

	ret = gguf_get_f32(g, key_of(k, arch, "rope.scale_linear"), &factor,
			   false, why);
	if (!ret)
		ret = gguf_get_f32(g, key_of(k, arch, "rope.scaling.factor"),
				   &factor, false, why);
	if (!ret)
		ret = gguf_get_str(g, key_of(k, arch, "rope.scaling.type"),
				   &type, &n, false, why);
	if (ret)
		return ret;
	hp->rope_scaling = IMAGE_ROPE_NONE;
	hp->rope_factor = 1;
	if (n == 4 && !memcmp(type, "none", 4))
		return 0;
	if (n != 6 || memcmp(type, "linear", 6)) {
		gguf_printable(shown, sizeof(shown), type, n);
		snprintf(what, sizeof(what), "scaling %s is not supported",
			 shown);
		return gguf_bad_key(g, k, why, what);
	}
	if (factor != 0 && factor != 1) {
		hp->rope_scaling = IMAGE_ROPE_LINEAR;
		hp->rope_factor = factor;
	}
	return 0;
}

int arch_hparams_common(struct image_hparams *hp, const struct gguf *g,
			const char *arch, char why[160])
{
	char k[96];
	int ret;

	ret = read_sizes(hp, g, arch, why);
	if (ret)
		return ret;
	hp->n_rope = hp->head_dim;
	ret = gguf_get_u32(g, key_of(k, arch, "rope.dimension_count"),
			   &hp->n_rope, false, why);
	if (ret)
		return ret;
	if (hp->n_rope != hp->head_dim)
		return gguf_bad_key(g, k, why,
				    "differs from the head's width, not "
				    "supported");
	hp->rope_base = 10000;
	ret = gguf_get_f32(g, key_of(k, arch, "rope.freq_base"), &hp->rope_base,
			   false, why);
	if (!ret)
		ret = read_scaling(hp, g, arch, why);
	if (!ret)
		ret = gguf_get_f32(
			g, key_of(k, arch, "attention.layer_norm_rms_epsilon"),
			&hp->norm_eps, true, why);
	if (ret)
		return ret;
	hp->rope_base_local = 10000;
	hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
	hp->embd_scale = 1;
	return 0;
}
