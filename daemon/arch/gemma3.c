/* SPDX-License-Identifier: MIT */
/*
 * gemma3.c - Gemma 3, text: scaled embeddings, norms on both sides of each
 * block, most layers with a sliding window and a rotation base of their own.
 */
#include <math.h>
#include <stdio.h>

#include "../arch.h"
#include "../gguf.h"

#define PERIOD	   6  /* every sixth layer sees everything */
#define LAYERS_27B 62 /* that size scales by n_embd / n_head */

/* The pattern is a period, or one boolean a layer (true slides). */
static int read_pattern(struct image_hparams *hp, const struct gguf *g,
			char why[160])
{
	const char *key = "gemma3.attention.sliding_window_pattern";
	uint32_t i, period, slides, n = gguf_array_len(g, key);
	int ret;

	hp->swa_period = PERIOD;
	if (!n) {
		ret = gguf_get_u32(g, key, &hp->swa_period, false, why);
		if (!ret && !hp->swa_period) /* none is global */
			hp->swa_period = hp->n_layer + 1;
		return ret;
	}
	for (period = 1; period <= n; period++) {
		ret = gguf_array_u32(g, key, period - 1, &slides, why);
		if (ret)
			return ret;
		if (!slides)
			break;
	}
	hp->swa_period = period;
	for (i = 0; i < n; i++) {
		ret = gguf_array_u32(g, key, i, &slides, why);
		if (ret)
			return ret;
		if (!!slides != ((i + 1) % period != 0))
			return gguf_bad_key(g, key, why,
					    "not periodic, not supported");
	}
	return 0;
}

static int gemma3_hparams(struct image_hparams *hp, const struct gguf *g,
			  char why[160])
{
	float cap = 0;
	int ret;

	hp->rope_pairs = IMAGE_ROPE_HALVES;
	ret = arch_hparams_common(hp, g, "gemma3", why);
	if (!ret)
		ret = gguf_get_u32(g, "gemma3.attention.sliding_window",
				   &hp->n_swa, false, why);
	if (!ret && hp->n_swa)
		ret = read_pattern(hp, g, why);
	if (!ret && hp->n_swa)
		ret = gguf_get_f32(g, "gemma3.rope.freq_base_swa",
				   &hp->rope_base_local, false, why);
	if (!ret)
		ret = gguf_get_f32(g, "gemma3.final_logit_softcapping", &cap,
				   false, why);
	if (ret)
		return ret;
	if (cap != 0)
		return gguf_bad_key(g, "gemma3.final_logit_softcapping", why,
				    "not supported");
	hp->embd_scale = sqrtf((float)hp->n_embd);
	if (hp->n_layer == LAYERS_27B)
		hp->attn_scale = 1.0f / sqrtf((float)(hp->n_embd / hp->n_head));
	return 0;
}

static void gemma3_layer(struct tape_builder *tb, uint32_t layer)
{
	const struct image_hparams *hp = tape_hparams(tb);
	const enum tape_reg qkv[] = { TAPE_Q, TAPE_K, TAPE_V };
	const enum tape_reg gu[] = { TAPE_G, TAPE_U };
	const enum tape_reg t[] = { TAPE_T };
	bool local = hp->n_swa && (layer + 1) % hp->swa_period;
	uint32_t w[TAPE_MATS];
	enum tape_reg x;

	tape_norm(tb, TAPE_H, TAPE_X, tape_tensor(tb, ROLE_ATTN_NORM, layer));
	w[0] = tape_tensor(tb, ROLE_ATTN_Q, layer);
	w[1] = tape_tensor(tb, ROLE_ATTN_K, layer);
	w[2] = tape_tensor(tb, ROLE_ATTN_V, layer);
	tape_matmul(tb, 3, qkv, TAPE_H, w, NULL);
	tape_rope_kv(tb, layer, local ? TAPE_ROPE_LOCAL : TAPE_ROPE_GLOBAL,
		     tape_tensor(tb, ROLE_ATTN_Q_NORM, layer),
		     tape_tensor(tb, ROLE_ATTN_K_NORM, layer));
	tape_attn(tb, layer, local ? hp->n_swa : 0);
	w[0] = tape_tensor(tb, ROLE_ATTN_OUT, layer);
	tape_matmul(tb, 1, t, TAPE_A, w, NULL);
	tape_norm_add(tb, TAPE_X, TAPE_T,
		      tape_tensor(tb, ROLE_ATTN_POST_NORM, layer));
	tape_gather_last(tb, layer);
	x = tape_residual(tb);
	tape_norm(tb, TAPE_H, x, tape_tensor(tb, ROLE_FFN_NORM, layer));
	w[0] = tape_tensor(tb, ROLE_FFN_GATE, layer);
	w[1] = tape_tensor(tb, ROLE_FFN_UP, layer);
	tape_matmul(tb, 2, gu, TAPE_H, w, NULL);
	tape_glu(tb, TAPE_GELU_TANH);
	w[0] = tape_tensor(tb, ROLE_FFN_DOWN, layer);
	tape_matmul(tb, 1, t, TAPE_G, w, NULL);
	tape_norm_add(tb, x, TAPE_T,
		      tape_tensor(tb, ROLE_FFN_POST_NORM, layer));
}

static const struct arch_tensor gemma3_tensors[] = {
	{ ROLE_TOKEN_EMBD, DIM_EMBD, DIM_VOCAB, 0 },
	{ ROLE_OUTPUT_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_OUTPUT, DIM_EMBD, DIM_VOCAB, ARCH_OPTIONAL },
	{ ROLE_ATTN_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_ATTN_Q, DIM_EMBD, DIM_Q, 0 },
	{ ROLE_ATTN_K, DIM_EMBD, DIM_KV, 0 },
	{ ROLE_ATTN_V, DIM_EMBD, DIM_KV, 0 },
	{ ROLE_ATTN_OUT, DIM_Q, DIM_EMBD, 0 },
	{ ROLE_ATTN_Q_NORM, DIM_HEAD, DIM_ONE, 0 },
	{ ROLE_ATTN_K_NORM, DIM_HEAD, DIM_ONE, 0 },
	{ ROLE_ATTN_POST_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_FFN_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_FFN_GATE, DIM_EMBD, DIM_FF, 0 },
	{ ROLE_FFN_UP, DIM_EMBD, DIM_FF, 0 },
	{ ROLE_FFN_DOWN, DIM_FF, DIM_EMBD, 0 },
	{ ROLE_FFN_POST_NORM, DIM_EMBD, DIM_ONE, 0 },
};

const struct arch arch_gemma3 = {
	.name = "gemma3",
	.tensors = gemma3_tensors,
	.n_tensors = sizeof(gemma3_tensors) / sizeof(gemma3_tensors[0]),
	.hparams = gemma3_hparams,
	.layer = gemma3_layer,
};
