/* SPDX-License-Identifier: MIT */
/* qwen2.c - Qwen 2 and 2.5: biases on queries, keys and values. */
#include "../arch.h"

static int qwen2_hparams(struct image_hparams *hp, const struct gguf *g,
			 char why[160])
{
	hp->rope_pairs = IMAGE_ROPE_HALVES;
	return arch_hparams_common(hp, g, "qwen2", why);
}

static const struct arch_tensor qwen2_tensors[] = {
	{ ROLE_TOKEN_EMBD, DIM_EMBD, DIM_VOCAB, 0 },
	{ ROLE_OUTPUT_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_OUTPUT, DIM_EMBD, DIM_VOCAB, ARCH_OPTIONAL },
	{ ROLE_ATTN_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_ATTN_Q, DIM_EMBD, DIM_Q, 0 },
	{ ROLE_ATTN_K, DIM_EMBD, DIM_KV, 0 },
	{ ROLE_ATTN_V, DIM_EMBD, DIM_KV, 0 },
	{ ROLE_ATTN_OUT, DIM_Q, DIM_EMBD, 0 },
	{ ROLE_ATTN_Q_BIAS, DIM_Q, DIM_ONE, 0 },
	{ ROLE_ATTN_K_BIAS, DIM_KV, DIM_ONE, 0 },
	{ ROLE_ATTN_V_BIAS, DIM_KV, DIM_ONE, 0 },
	{ ROLE_FFN_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_FFN_GATE, DIM_EMBD, DIM_FF, 0 },
	{ ROLE_FFN_UP, DIM_EMBD, DIM_FF, 0 },
	{ ROLE_FFN_DOWN, DIM_FF, DIM_EMBD, 0 },
};

const struct arch arch_qwen2 = {
	.name = "qwen2",
	.tensors = qwen2_tensors,
	.n_tensors = sizeof(qwen2_tensors) / sizeof(qwen2_tensors[0]),
	.hparams = qwen2_hparams,
	.layer = arch_layer_plain,
};
