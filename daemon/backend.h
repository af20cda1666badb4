/* SPDX-License-Identifier: MIT */
/*
 * backend.h - what the engine asks of a backend: CPU, CUDA, or the oracle.
 *
 * The engine decides which tokens of which sequences go into a step and which
 * KV blocks they own; the backend computes. A backend never allocates in
 * step() and never sees a client, a text or a file name.
 */
#ifndef HEARTH_BACKEND_H
#define HEARTH_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../libclient/image.h"

#define KV_BLOCK    32	/* positions in a KV block, all layers together */
#define BATCH_PICKS 512 /* picked logits of a row, at most */

struct backend;
struct backend_model;
struct top_row;

/**
 * struct backend_conf - how to open a backend
 * @n_threads:  workers, the calling thread included; 0 is one a core
 * @cpu_level:  highest enum cpu_level to use, negative for the best there is
 * @max_tokens: tokens in a step at most
 * @max_seqs:   sequences in a step at most
 * @max_out:    output rows in a step at most
 * @spin_us:    how long workers spin for the next op before sleeping
 * @token_us:   oracle: how long each token of a step takes
 * @gpu:        CUDA: index, UUID or PCI address; NULL or "": the first that
 *              will do
 * @gpu_layers: auto: so many of the last layers are the GPU's; negative: as
 *              many as fit
 * @gpu_prompts: CUDA: float products of prompts (struct batch_seq) may be near
 *              instead of exact, where that is faster
 * @gpu_ahead:  CUDA: bytes of the next weights that a launch asks for to be in
 *              the L2 cache, as far as there is room; 0: none
 * @beat:       counted up now and then in a step, so that a watchdog sees it
 *              is alive; NULL: nobody looks
 * @device:     not 0 while a device that is not the CPU is used: its failures
 *              may not be the requests' fault; NULL: nobody looks
 * @why:        open() says here why it failed, if it knows; NULL: nobody asks
 */
struct backend_conf {
	uint32_t n_threads;
	int cpu_level;
	uint32_t max_tokens;
	uint32_t max_seqs;
	uint32_t max_out;
	uint32_t spin_us;
	uint32_t token_us;
	const char *gpu;
	int32_t gpu_layers;
	bool gpu_prompts;
	uint64_t gpu_ahead;
	_Atomic uint64_t *beat;
	_Atomic uint64_t *device;
	char *why; /* [160] */
};

static inline void backend_beat(const struct backend_conf *conf)
{
	if (conf->beat)
		atomic_fetch_add_explicit(conf->beat, 1, memory_order_relaxed);
}

#define BACKEND_LAYOUT 24 /* name of a layout with its NUL: "cpu-panel16-1" */

/**
 * struct backend_part - consecutive layers of a model
 * [@layer0, @layer1). What is before the first layer goes with it, and what is
 * after the last one with that.
 * @n_ctx: a context there should be room for, 0: whichever
 * @n_tries: how often it has been loaded for kv_alloc() to say -EAGAIN
 */
struct backend_part {
	uint32_t layer0;
	uint32_t layer1;
	uint32_t n_ctx;
	uint32_t n_tries;
};

/**
 * struct backend_piece - bytes of a file that are packed in one go
 * @tensor:     of the image
 * @file:       which file
 * @part0, @part1: the backend's matter
 * @off, @bytes: in the file
 */
struct backend_piece {
	uint32_t tensor;
	uint32_t file;
	uint32_t part0;
	uint32_t part1;
	uint64_t off;
	uint64_t bytes;
	uint64_t dst; /* in the object */
	uint64_t dst_bytes;
};

/**
 * struct backend_layout - where a model's weights go in its object
 * @name:   and version: objects of one name and content are equal
 * @bytes:  of weights, whole pages
 * @pieces: in order of file and offset; allocated, the caller frees them
 */
struct backend_layout {
	char name[BACKEND_LAYOUT];
	uint64_t bytes;
	uint32_t n_pieces;
	struct backend_piece *pieces;
};

/* Filled while loading, read by another thread. Set @stop to give up. */
struct backend_progress {
	_Atomic uint64_t done_bytes;
	_Atomic uint64_t total_bytes;
	_Atomic int stop;
};

/**
 * struct backend_info - exact sizes, for admission
 * @weight_bytes:   weights as the backend holds them
 * @scratch_bytes:  registers and everything else a step needs
 * @kv_block_bytes: one block of KV_BLOCK positions, all layers
 * @own_bytes:      of weights and scratch, what is in a memory of the backend's
 *                  own; the rest is in the host's
 * @own_block_bytes: of a block, likewise
 * @kv_budget:      bytes that blocks may take of that memory
 */
struct backend_info {
	uint64_t weight_bytes;
	uint64_t scratch_bytes;
	uint64_t kv_block_bytes;
	uint64_t own_bytes;
	uint64_t own_block_bytes;
	uint64_t kv_budget;
	char text[32]; /* "cpu avx512 x2" */
};

/**
 * struct batch_seq - consecutive new tokens of one sequence
 * @first:  index of its first token in the batch
 * @n:      new tokens
 * @pos:    position of the first one; positions before it are in the cache
 * @blocks: its block table: position p is in block blocks[p / KV_BLOCK];
 *          covers at least pos + n positions
 * @prompt: the tokens are a request's prompt, and not what was generated, be
 *          that computed for the first time or again
 */
struct batch_seq {
	uint32_t first;
	uint32_t n;
	uint32_t pos;
	const uint32_t *blocks;
	bool prompt;
};

/**
 * struct batch - one step's work; the engine fills it, arrays are the engine's
 * @tokens:   n_tokens ids, all < n_vocab (the engine checked)
 * @seqs:     n_seqs, in order, covering all tokens; prompts are the last
 * @out_rows: n_out indices of tokens whose final hidden state is wanted; the
 *            first n_logits of them also want logits
 * @n_picks:  of each row of logits, how many of them are wanted by themselves,
 *            BATCH_PICKS at most; NULL: none of any
 * @picks:    uint32_t[n_logits][BATCH_PICKS]: their ids, all < n_vocab
 * @x:        float[n_tokens][n_embd]: residual rows between parts of a model;
 *            whoever has both parts has the memory
 * @logits:   set by step(): float[n_logits][n_vocab], the backend's memory,
 *            valid until its next step, and the engine may write there; NULL:
 *            its logits() has them
 * @top:      set by step(): n_logits of kernels/top.h, likewise; NULL: it has
 *            nothing but @logits
 * @picked:   set by step() with @top: float[n_logits][BATCH_PICKS], of @picks
 * @hidden:   set by step(): float[n_out][n_embd], likewise. A part without
 *            the head sets neither
 */
struct batch {
	uint32_t n_tokens;
	uint32_t n_seqs;
	uint32_t n_out;
	uint32_t n_logits;
	uint32_t *tokens;
	struct batch_seq *seqs;
	uint32_t *out_rows;
	uint32_t *n_picks;
	uint32_t *picks;
	float *x;
	float *logits;
	const struct top_row *top;
	const float *picked;
	const float *hidden;
};

/**
 * struct backend_ops - the backend interface
 * @device:   asked before privileges are given up: will open() need the files
 *            of a device? NULL: no
 * @open, @close: one backend a process
 * @lay_out:  a function of the image alone: no CPU level, no thread count
 * @pack:     check and place a piece's bytes; any thread, any order. -EBADMSG
 *            with tensor, file and offset in @why
 * @split:    the first of the layers that, all to the last, fit into a memory
 *            of the backend's own; -ENOMEM: none does. NULL: it has none
 * @load:     map an object that was filled before, read-only; reads no file.
 *            @part NULL: all layers. @object is borrowed, @bytes of weights
 *            are at its start. Those may still be on their way to a device
 *            when it returns. -ENODEV: the device is gone, as for step()
 * @unload:   waits for weights on their way and for nothing else: the engine
 *            stepped it last
 * @info:     sizes of a loaded model
 * @kv_alloc: give the model @n_blocks blocks (once, before the first step);
 *            -ENODEV: likewise; -EAGAIN: memory that info() counts on is
 *            another's now, and loading the model again will count anew
 * @step:     compute one batch, synchronously. -EIO or other -errno: the whole
 *            step failed; -ENODEV: and so will all others, for the device is
 *            gone. Non-finite logits are the engine's to notice.
 * @logits:   a row of the last step's logits, valid until the next call, and the
 *            engine may write there; fails as step() does. NULL: step() has set
 *            them all
 */
struct backend_ops {
	const char *name;
	bool (*device)(void);
	int (*open)(struct backend **be, const struct backend_conf *conf);
	void (*close)(struct backend *be);
	int (*lay_out)(const struct image *im, struct backend_layout *l,
		       char why[160]);
	int (*pack)(const struct image *im, const struct backend_piece *p,
		    const void *src, void *object, char why[160]);
	int (*split)(struct backend *be, const struct image *im, uint32_t n_ctx,
		     uint32_t *layer0, char why[160]);
	int (*load)(struct backend *be, const struct image *im,
		    const struct backend_part *part, int object, uint64_t bytes,
		    struct backend_model **m, char why[160]);
	void (*unload)(struct backend *be, struct backend_model *m);
	void (*info)(const struct backend_model *m, struct backend_info *info);
	int (*kv_alloc)(struct backend_model *m, uint32_t n_blocks);
	int (*step)(struct backend_model *m, struct batch *b);
	int (*logits)(struct backend_model *m, uint32_t row, float **x);
};

/* Elements of one head's keys and values in a block, and of a whole block, as
 * kernels/vec.h has them: f16[block][layer][kv head][keys, values]. */
static inline size_t kv_head_elems(const struct image_hparams *hp)
{
	return (size_t)2 * hp->head_dim * KV_BLOCK;
}

static inline size_t kv_block_elems(const struct image_hparams *hp)
{
	return kv_head_elems(hp) * hp->n_head_kv * hp->n_layer;
}

/* What two parts of a model take. One of them has no memory of its own. */
void backend_info_add(struct backend_info *to, const struct backend_info *from);

/* How large steps may be, from the engine's options. */
void backend_conf_size(struct backend_conf *bc, uint64_t step_tokens,
		       uint64_t max_batch);

/* Can attention take such heads? */
int backend_check_model(const struct image_hparams *hp, char why[160]);

/* Is a batch what it must be: 0 or -EINVAL. */
int backend_check_batch(const struct batch *b, const struct backend_conf *c,
			uint32_t n_blocks, uint32_t n_vocab);

/* What the CPU would say about a model, without one. @part NULL: all layers. */
int backend_cpu_measure(struct backend_info *info, const struct image *im,
			const struct backend_part *part,
			const struct backend_conf *conf, char why[160]);

extern const struct backend_ops backend_auto;
extern const struct backend_ops backend_cpu;
extern const struct backend_ops backend_cuda;
extern const struct backend_ops backend_oracle;

/* NULL-terminated. */
extern const struct backend_ops *const backends[];
/* By name, or NULL. */
const struct backend_ops *backend_find(const char *name);

#endif
