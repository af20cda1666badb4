/* SPDX-License-Identifier: MIT */
/*
 * fit.h - what a model would take of a machine, without loading it: the sizes
 * that the backends allocate by and the engine admits by.
 */
#ifndef HEARTH_FIT_H
#define HEARTH_FIT_H

#include <stdbool.h>

#include "../backend.h"

enum fit_on { FIT_AUTO, FIT_GPU, FIT_CPU };

/**
 * struct fit_machine - what there is
 * @has_gpu: there is a GPU
 * @gpu:     bytes of its memory that models may take
 * @granule: which it is mapped in
 * @host:    bytes of the host's memory that are free
 */
struct fit_machine {
	bool has_gpu;
	uint64_t gpu;
	uint64_t granule;
	uint64_t host;
};

/**
 * struct fit_wish - how the model is to run
 * @n_ctx, @kv_bytes: 0: as the engine finds it right
 */
struct fit_wish {
	enum fit_on on;
	uint32_t n_ctx;
	uint64_t kv_bytes;
};

/**
 * struct fit_side - bytes on the GPU, in whole granules, or on the host
 * @weights: of its layers
 * @context: what grows with the context besides the cache
 * @pinned:  the host's, between it and the GPU
 */
struct fit_side {
	uint32_t n_layer;
	uint64_t weights;
	uint64_t scratch;
	uint64_t context;
	uint64_t kv;
	uint64_t pinned;
	uint64_t total;
};

/**
 * struct fit - a model's plan
 * @n_layer: all of the model's
 * @object:  bytes of its weights in the pool, which the host's side has
 * @block:   bytes of a KV block, @n_blocks of them
 * @n_ctx:   tokens of context that a sequence can have; @max_ctx: at most, if
 *           that were asked for, 0: none
 * @fits:    if not, @why says what is missing; else why it is not all on the
 *           GPU, if one is there
 */
struct fit {
	uint32_t n_layer;
	struct fit_side gpu;
	struct fit_side host;
	uint64_t object;
	uint64_t block;
	uint32_t n_blocks;
	uint32_t n_ctx;
	uint32_t max_ctx;
	bool fits;
	char why[160];
};

/* Return: 0, whether it fits or not; else -errno and @why says. */
int fit_model(struct fit *f, const struct image *im,
	      const struct backend_conf *conf, const struct fit_machine *there,
	      const struct fit_wish *wish);

#endif
