/* SPDX-License-Identifier: MIT */
/* llama.c - Llama 2 and 3.x, Mistral, SmolLM2 and everything of their shape. */
#include "../arch.h"

static int llama_hparams(struct image_hparams *hp, const struct gguf *g,
			 char why[160])
{
	hp->rope_pairs = IMAGE_ROPE_ADJACENT;
	return arch_hparams_common(hp, g, "llama", why);
}

static const struct arch_tensor llama_tensors[] = {
	{ ROLE_TOKEN_EMBD, DIM_EMBD, DIM_VOCAB, 0 },
	{ ROLE_OUTPUT_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_OUTPUT, DIM_EMBD, DIM_VOCAB, ARCH_OPTIONAL },
	{ ROLE_ROPE_FREQS, DIM_PAIRS, DIM_ONE, ARCH_OPTIONAL },
	{ ROLE_ATTN_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_ATTN_Q, DIM_EMBD, DIM_Q, 0 },
	{ ROLE_ATTN_K, DIM_EMBD, DIM_KV, 0 },
	{ ROLE_ATTN_V, DIM_EMBD, DIM_KV, 0 },
	{ ROLE_ATTN_OUT, DIM_Q, DIM_EMBD, 0 },
	{ ROLE_ATTN_Q_BIAS, DIM_Q, DIM_ONE, ARCH_OPTIONAL },
	{ ROLE_ATTN_K_BIAS, DIM_KV, DIM_ONE, ARCH_OPTIONAL },
	{ ROLE_ATTN_V_BIAS, DIM_KV, DIM_ONE, ARCH_OPTIONAL },
	{ ROLE_FFN_NORM, DIM_EMBD, DIM_ONE, 0 },
	{ ROLE_FFN_GATE, DIM_EMBD, DIM_FF, 0 },
	{ ROLE_FFN_UP, DIM_EMBD, DIM_FF, 0 },
	{ ROLE_FFN_DOWN, DIM_FF, DIM_EMBD, 0 },
};

const struct arch arch_llama = {
	.name = "llama",
	.tensors = llama_tensors,
	.n_tensors = sizeof(llama_tensors) / sizeof(llama_tensors[0]),
	.hparams = llama_hparams,
	.layer = arch_layer_plain,
};
