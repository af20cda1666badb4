/* SPDX-License-Identifier: MIT */
/*
 * tape.h - a model's graph as a linear array of ops.
 *
 * An architecture file builds the tape once per model. A backend interprets
 * it (CPU), captures it (CUDA graphs) or hands it to a persistent kernel; none
 * of them knows architectures. The batch size is symbolic: a register holds
 * `width` floats for each row of the batch. Until TAPE_GATHER the rows are the
 * batch's tokens, after it they are the batch's output rows.
 */
#ifndef HEARTH_TAPE_H
#define HEARTH_TAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "../libclient/image.h"

struct backend_part;

#define TAPE_NONE 0xffffffffu
#define TAPE_MATS 3

/* Registers: float[rows][width]. */
enum tape_reg {
	TAPE_X, /* residual stream, n_embd */
	TAPE_H, /* normed input of a block, n_embd */
	TAPE_Q, /* n_head * head_dim */
	TAPE_K, /* n_head_kv * head_dim */
	TAPE_V, /* n_head_kv * head_dim */
	TAPE_A, /* attention output, n_head * head_dim */
	TAPE_T, /* output of a block before its post-norm, n_embd */
	TAPE_G, /* n_ff */
	TAPE_U, /* n_ff */
	TAPE_O, /* gathered residual rows, n_embd */
	TAPE_E, /* final normed hidden state of the output rows, n_embd */
	TAPE_L, /* logits, n_vocab */
	TAPE_REG_N,
};

enum tape_kind {
	TAPE_EMBED,	 /* dst = row(w[0], token) * f[0] */
	TAPE_TAKE,	 /* dst = the batch's residual rows, of layers before */
	TAPE_GIVE,	 /* the batch's residual rows = src, for those after */
	TAPE_NORM,	 /* dst = rmsnorm(src; eps f[0]) * w[0] */
	TAPE_NORM_ADD,	 /* dst += rmsnorm(src; eps f[0]) * w[0] (post-norm) */
	TAPE_MATMUL,	 /* dst[i] = w[i] . src (+ b[i]), i < n */
	TAPE_MATMUL_ADD, /* dst[0] += w[0] . src */
	TAPE_ROPE_KV, /* q,k of TAPE_Q,K: norm by w[0],w[1] if given (eps f[0]),
			 rotate (table @rope); k,v to layer @layer's cache */
	TAPE_ATTN, /* dst = attend(TAPE_Q, cache @layer; scale f[0], window) */
	TAPE_GLU,  /* dst = act(TAPE_G) * TAPE_U */
	TAPE_GATHER, /* dst = rows of src that the batch wants out */
	TAPE_LOGITS, /* dst = w[0] . src, for the rows that want logits */
	TAPE_KIND_N,
};

static inline bool tape_is_matmul(uint8_t kind)
{
	return kind == TAPE_MATMUL || kind == TAPE_MATMUL_ADD ||
	       kind == TAPE_LOGITS;
}

enum tape_act { TAPE_SILU, TAPE_GELU_TANH };

/* Rotation tables of a model: 0 global, 1 for sliding-window layers. */
enum tape_rope { TAPE_ROPE_GLOBAL, TAPE_ROPE_LOCAL, TAPE_ROPE_N };

/**
 * struct tape_op - one op
 * @layer: of those that the tape has: where in a KV block its keys are
 * @w, @b: indices into the image's tensors, or TAPE_NONE
 * @window: ATTN: attends to the last @window positions, 0 is all
 */
struct tape_op {
	uint8_t kind; /* enum tape_kind */
	uint8_t src;  /* enum tape_reg */
	uint8_t dst[TAPE_MATS];
	uint8_t n;    /* MATMUL: how many matrices */
	uint8_t act;  /* enum tape_act */
	uint8_t rope; /* enum tape_rope */
	uint32_t layer;
	uint32_t window;
	uint32_t w[TAPE_MATS];
	uint32_t b[TAPE_MATS];
	float f[2];
};

/**
 * struct tape - a model's graph
 * @n_layer: layers, all of the model's or a part
 * @width: floats a row in each register, 0 if it is not used
 * @rope_inv_freq: per table: radians per position of each pair (n_rope / 2
 *          doubles), scaling applied; the caller of tape_build() frees with
 *          tape_free()
 */
struct tape {
	struct tape_op *ops;
	uint32_t n_ops;
	uint32_t n_layer;
	uint32_t width[TAPE_REG_N];
	uint32_t rope_freqs; /* tensor of divisors (llama 3), or TAPE_NONE: the
				backend divides the global table by it */
	double *rope_inv_freq[TAPE_ROPE_N];
};

/**
 * tape_build() - build the tape of a checked image
 * @t:   filled; free with tape_free()
 * @im:  borrowed, must outlive the tape
 * @why: what is wrong
 *
 * Checks that every tensor the architecture needs is there with the right
 * shape and a format of kernels/quant.def. Return: 0, -EBADMSG, -ENOMEM.
 */
int tape_build(struct tape *t, const struct image *im, char why[160]);

/**
 * tape_build_part() - the tape of some of the layers
 * The first layer's part has the embedding, the last one's the head; between
 * parts the residual rows pass through the batch. @part NULL: all layers.
 * -EINVAL: there are no such layers.
 */
int tape_build_part(struct tape *t, const struct image *im,
		    const struct backend_part *part, char why[160]);
void tape_free(struct tape *t);

#endif
