/* SPDX-License-Identifier: MIT */
/*
 * cuda.h - the CUDA backend from inside: a model's plan, its memory, a step.
 *
 * plan.c finds what a model needs without a device, so that it can be said
 * before there is one; list.c turns the tape into launches; step.c runs them
 * over a batch; backend.c is models coming and going.
 */
#ifndef HEARTH_CUDA_CUDA_H
#define HEARTH_CUDA_CUDA_H

#include <pthread.h>

#include "../../kernels/cuda/launch.h"
#include "../../kernels/top.h"
#include "../../kernels/vec.h"
#include "../weights.h"
#include "device.h"

struct act_block;

/**
 * struct cuda_plan - what a model needs, by image, tape and conf alone
 * @wants: how products read each register, bits WANT_*
 * @reg, @act: where a register's floats and its quantised rows begin in the
 *         scratch memory; CUDA_NOWHERE: no one needs them
 * @rope:  tables that are used
 * @weight_bytes:  of the tape's tensors
 * @top, @top_part: likewise, of struct cu_top; its picked logits follow the rows
 * @near:  there are products whose rows of prompts need not be exact; @near_w,
 *         @near_x: where their operands are, as tiles
 * @scratch_bytes: registers, for whatever context
 * @short_bytes: of a row of logits in short, with what is picked of it
 * @hidden, @row: where in a step's results the hidden states begin, and a row of
 *         logits, in floats
 * @takes, @gives: residual rows come from layers before, go to those after
 * @rope_bytes, @out_bytes, @x_bytes: of pinned host memory, for rows of the
 *         tables on their way up, for results, and for residual rows
 */
struct cuda_plan {
	struct image_hparams hp;
	struct backend_conf conf;
	struct tape tape;
	uint8_t wants[TAPE_REG_N];
	uint64_t reg[TAPE_REG_N];
	uint64_t act[TAPE_REG_N];
	bool rope[TAPE_ROPE_N];
	uint64_t weight_bytes;
	uint64_t top;
	uint64_t top_part;
	bool near;
	uint64_t near_w;
	uint64_t near_x;
	uint64_t scratch_bytes;
	uint64_t short_bytes;
	uint64_t hidden;
	uint64_t row;
	uint64_t rope_bytes;
	uint64_t out_bytes;
	uint64_t x_bytes;
	bool takes;
	bool gives;
};

#define CUDA_NOWHERE UINT64_MAX

/**
 * struct cuda_context - what more it needs for so many KV blocks
 * @n_pos:  positions that a sequence can have
 * @spans:  of attention, at most
 * @cos, @sin: rotation tables, float[n_pos][n_rope]
 * @part, @ticket: see struct cu_attn
 * @top_ticket: see struct cu_top
 * @in:     a step's input, uploaded in one piece: first what has a fixed size,
 *          then block tables and picks, of which only the used ones travel
 * @in_bytes: of all of it
 */
struct cuda_context {
	uint32_t n_pos;
	uint32_t spans;
	uint64_t cos[TAPE_ROPE_N];
	uint64_t sin[TAPE_ROPE_N];
	uint64_t part;
	uint64_t ticket;
	uint64_t ticket_bytes;
	uint64_t top_ticket;
	uint64_t in;
	uint64_t in_bytes;
	uint64_t tokens; /* these are offsets in the input */
	uint64_t pos;
	uint64_t table;
	uint64_t rows;
	uint64_t pieces;
	uint64_t picks;
	uint64_t tables;
	uint64_t bytes;
};

/**
 * struct cuda_need - what a model takes with so many KV blocks
 * @weights, @scratch, @context, @kv: on the device, in whole granules
 * @pinned: on the host; while weights are uploaded there may be more
 */
struct cuda_need {
	uint64_t weights;
	uint64_t scratch;
	uint64_t context;
	uint64_t kv;
	uint64_t device; /* the four of them */
	uint64_t pinned;
};

/* plan.c. Takes the tape over, also when it fails; @w: measured or mapped. */
int cuda_plan_build(struct cuda_plan *p, const struct image *im,
		    struct tape *tape, const struct weights *w,
		    const struct backend_conf *conf, char why[160]);
void cuda_plan_free(struct cuda_plan *p);
/* The same from nothing but an image; @part NULL: all layers. */
int cuda_plan_measure(struct cuda_plan *p, const struct image *im,
		      const struct backend_part *part,
		      const struct backend_conf *conf, char why[160]);
void cuda_plan_context(const struct cuda_plan *p, uint32_t n_blocks,
		       struct cuda_context *c);
void cuda_plan_need(const struct cuda_plan *p, uint32_t n_blocks,
		    uint64_t granule, struct cuda_need *n);
uint64_t cuda_plan_block(const struct cuda_plan *p);
/* Its info() when @left bytes were free once it had been loaded. */
void cuda_plan_info(const struct cuda_plan *p, uint64_t left, uint64_t granule,
		    struct backend_info *info);
/* Bytes of KV blocks that fit into @left with all that belongs to them. */
uint64_t cuda_plan_kv(const struct cuda_plan *p, uint64_t left,
		      uint64_t granule);
/* The first of the layers that, all to the last, fit into @left with a context
 * of @n_ctx tokens, 0: a usual one. -ENOMEM: not even the last one does. */
int cuda_plan_split(const struct image *im, const struct backend_conf *conf,
		    uint64_t left, uint64_t granule, uint32_t n_ctx,
		    uint32_t *layer0, char why[160]);
/* Need rows of prompts not be exact in a product of @o? Of logits they are: there
 * are few of them. */
bool cuda_is_near(const struct cuda_plan *p, const struct tape_op *o,
		  const struct mat *w);
/* Of a device's memory, what is left to the driver and to others. */
uint64_t cuda_margin(uint64_t vram_bytes);

/* What a captured graph is for. Of the @n rows the first @n_exact have the CPU's
 * bits, all of them in a graph. */
struct cuda_key {
	uint32_t n;
	uint32_t n_exact;
	uint32_t n_out;
	uint32_t n_logits;
	uint32_t spans;
};

#define CUDA_GRAPHS 48

/**
 * struct cuda_graph - one of them
 * @used: the last step that it was
 * @usual_ns: how long it takes
 */
struct cuda_graph {
	struct cuda_key key;
	struct cu_exec *exec;
	uint64_t used;
	uint64_t usual_ns;
};

/**
 * struct backend - a device with the kernels
 * @dev: the engine thread's
 * @ahead: bytes of weights that a launch of a graph asks for
 * @up:  the same device for the thread that loads a model, which uses the copy
 *       stream; @loading: of which there is one at a time
 */
struct backend {
	struct cu_dev dev;
	struct cu_dev up;
	pthread_mutex_t loading;
	pthread_mutex_t counting; /* dev.bytes, dev.total, dev.lost */
	struct cu_chip chip;
	uint64_t ahead;
	struct cu_module *module[CU_FILE_N + 1];
	struct cu_func *fn[CU_KERNEL_N + 1];
};

/**
 * struct backend_model - a loaded model
 * @w:       pointers are the device's
 * @weights, @scratch, @kv, @context: its memory on the device
 * @in:      a step's input before it is uploaded, pinned; @out: its rows in
 *           short, its hidden states, and a row of logits, likewise
 * @n_rows:  with logits, of the last step
 * @x:       residual rows from and for other layers, pinned
 * @rope_host: rows of the rotation tables on their way up, pinned
 * @n_rope_pos: positions whose rows are up
 * @kv_left: bytes that were free for a cache when it had been loaded
 * @list:    launches of a step, room for CUDA_LIST an op of the tape
 * @need:    bytes of the weights, from their start, that have to be there
 *           before each of these
 * @up:      weights on their way up, or that there was memory registered for
 */
struct backend_model {
	struct backend *be;
	struct cuda_plan plan;
	struct cuda_context ctx;
	struct weights w;
	struct cu_arena weights;
	struct cu_arena scratch;
	struct cu_arena kv;
	struct cu_arena context;
	uint8_t *in;
	uint64_t in_bytes;
	float *out;
	float *x;
	float *rope_host;
	double *inv_freq[TAPE_ROPE_N];
	uint64_t kv_left;
	uint32_t n_rows;
	uint32_t n_rope_pos;
	uint32_t n_blocks;
	struct cu_event *done;
	struct cu_launch *list;
	uint64_t *need;
	struct cu_upload up;
	struct cuda_graph graph[CUDA_GRAPHS];
	uint64_t n_steps;
	uint64_t n_captured;
};

#define CUDA_LIST 10 /* launches an op of the tape may become */

/* backend.c: of a device, what launches depend on. */
struct cu_chip cuda_chip(const struct cu_dev *d);

/* list.c: the launches of a step, and in @m->need what each of them needs.
 * Their number, or -ENOTSUP. */
int cuda_list(const struct backend_model *m, const struct cuda_key *key,
	      uint32_t n_pieces, struct cu_launch *out);

/* step.c */
#define CUDA_ROPE_ROWS 256 /* that are computed at a time */
int cuda_step(struct backend_model *m, struct batch *b);
int cuda_logits(struct backend_model *m, uint32_t row, float **x);

#endif
