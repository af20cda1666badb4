/* SPDX-License-Identifier: MIT */
/*
 * arch.h - an architecture: its keys, its tensors, its graph.
 *
 * One file in arch/ owns all three, a row of arch.def lists it. The parser
 * asks for hyperparameters and the tensor list, the engine for the tensor
 * list and the graph.
 */
#ifndef HEARTH_ARCH_H
#define HEARTH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tape.h"

struct gguf;
struct tape_builder;

enum arch_id {
#define ARCH(name) ARCH_##name,
#include "arch.def"
#undef ARCH
	ARCH_N,
};

enum tensor_role {
#define TENSOR(role, name, per_layer) ROLE_##role,
#include "tensor.def"
#undef TENSOR
	ROLE_N,
};

struct tensor_role_info {
	const char *name; /* "%u" is the layer */
	bool per_layer;
};

extern const struct tensor_role_info tensor_roles[ROLE_N];

/* Role and layer of a tensor's name, or ROLE_N. */
enum tensor_role tensor_role_parse(const char *name, size_t n, uint32_t *layer);

/* Extents of tensors, in terms of the hyperparameters. */
enum arch_dim {
	DIM_ONE,
	DIM_EMBD,
	DIM_FF,
	DIM_Q,	   /* n_head * head_dim */
	DIM_KV,	   /* n_head_kv * head_dim */
	DIM_HEAD,  /* head_dim */
	DIM_PAIRS, /* n_rope / 2 */
	DIM_VOCAB,
};

#define ARCH_OPTIONAL 1u
/* A row of an architecture's tensor list. A vector has DIM_ONE rows and is in
 * a float format. */
struct arch_tensor {
	uint8_t role; /* enum tensor_role */
	uint8_t cols; /* enum arch_dim */
	uint8_t rows;
	uint8_t flags;
};

/**
 * struct arch - an architecture
 * @name:    general.architecture
 * @tensors: what a file may hold; any other tensor is refused
 * @hparams: fill @hp from the file's keys (n_vocab is set already)
 * @layer:   emit one layer's ops
 */
struct arch {
	const char *name;
	const struct arch_tensor *tensors;
	size_t n_tensors;
	int (*hparams)(struct image_hparams *hp, const struct gguf *g,
		       char why[160]);
	void (*layer)(struct tape_builder *tb, uint32_t layer);
};

extern const struct arch *const archs[ARCH_N];
#define ARCH(name) extern const struct arch arch_##name;
#include "arch.def"
#undef ARCH

/* enum arch_id of a name, or ARCH_N. */
enum arch_id arch_find(const char *name, size_t n);

uint64_t arch_dim_of(const struct image_hparams *hp, enum arch_dim d);

/* The row of @a that lists @role, or NULL. */
const struct arch_tensor *arch_tensor_find(const struct arch *a,
					   enum tensor_role role);

/* Does the tensor's shape and format fit its row? 0 or -EBADMSG and why. */
int arch_tensor_check(const struct image_hparams *hp,
		      const struct arch_tensor *at, uint32_t type,
		      uint64_t cols, uint64_t rows, const char *name,
		      char why[160]);

/*
 * arch_hparams_common() - keys that all these architectures share
 *
 * context_length, embedding_length, block_count, feed_forward_length,
 * attention.head_count(_kv), key_length, value_length, rope.*, epsilon; with
 * the defaults the format's other readers use.
 */
int arch_hparams_common(struct image_hparams *hp, const struct gguf *g,
			const char *arch, char why[160]);

/* ------------------------------------------------ graph building (tape.c) */

/* Tensor of a role in a layer (index in the image) or TAPE_NONE. */
uint32_t tape_tensor(struct tape_builder *tb, enum tensor_role role,
		     uint32_t layer);
const struct image_hparams *tape_hparams(const struct tape_builder *tb);

/* Residual stream at this point: TAPE_X, or TAPE_O once rows are gathered. */
enum tape_reg tape_residual(const struct tape_builder *tb);

void tape_norm(struct tape_builder *tb, enum tape_reg dst, enum tape_reg src,
	       uint32_t w);
void tape_norm_add(struct tape_builder *tb, enum tape_reg dst,
		   enum tape_reg src, uint32_t w);
/* dst[i] = w[i] . src + b[i]; b may be NULL. */
void tape_matmul(struct tape_builder *tb, unsigned int n,
		 const enum tape_reg *dst, enum tape_reg src, const uint32_t *w,
		 const uint32_t *b);
void tape_matmul_add(struct tape_builder *tb, enum tape_reg dst,
		     enum tape_reg src, uint32_t w);
void tape_rope_kv(struct tape_builder *tb, uint32_t layer, enum tape_rope rope,
		  uint32_t q_norm, uint32_t k_norm);
void tape_attn(struct tape_builder *tb, uint32_t layer, uint32_t window);
void tape_glu(struct tape_builder *tb, enum tape_act act);

/* In the last layer, after attention: from here on only the rows that the
 * batch wants out are computed. A no-op in other layers. */
void tape_gather_last(struct tape_builder *tb, uint32_t layer);

/* The layer of llama, qwen2 and qwen3: they differ in tensors only. */
void arch_layer_plain(struct tape_builder *tb, uint32_t layer);

#endif
