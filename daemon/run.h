/* SPDX-License-Identifier: MIT */
/*
 * run.h - the record of a request: checking it and laying it out in D.
 *
 * Pure functions over copies; a table gives each field's range.
 */
#ifndef HEARTH_RUN_H
#define HEARTH_RUN_H

#include <stdint.h>

#include "../libclient/ring.h"

/* Why something was refused, as RING_EV_REFUSED tells it. */
struct run_refusal {
	uint16_t reason; /* enum ring_refusal */
	int32_t err;
	uint64_t arg;
	uint64_t limit;
};

/**
 * struct run_limits - what a model allows
 * @n_ctx:       positions of one request
 * @n_blocks:    KV blocks there are
 * @block_bytes: size of one
 */
struct run_limits {
	uint32_t n_ctx;
	uint32_t n_vocab;
	uint32_t n_embd;
	uint32_t n_blocks;
	uint64_t block_bytes;
};

/**
 * struct run_layout - where a request's parts lie, from its extent's start
 * @rec_len: the record with its arrays
 * @out, @top, @logits, @embed: 0 if there is none
 * @bytes:   all of it
 */
struct run_layout {
	uint32_t prompt_off;
	uint32_t bias_off;
	uint32_t stop_off;
	uint32_t logits_off;
	uint32_t done_off;
	uint64_t rec_len;
	uint64_t out;
	uint64_t top;
	uint64_t logits;
	uint64_t embed;
	uint64_t bytes;
};

/* Fields and arrays of a record of @len bytes. 0 or -errno and @why. */
int run_check(const struct ring_run *run, uint32_t len,
	      struct run_refusal *why);

/* Does it fit the model? Sets @max_out, the tokens it may generate. */
int run_fit(const struct ring_run *run, const struct run_limits *lim,
	    uint32_t *max_out, struct run_refusal *why);

/* Lay it out: 0, or -EOVERFLOW when no memory could be so large. */
int run_lay(const struct ring_run *run, uint32_t n_vocab, uint32_t n_embd,
	    uint32_t max_out, struct run_layout *lay);

/*
 * Copy record and arrays from @src (shared, changing) to @dst (D) and check
 * the arrays' copy. The copy's offsets are those of @lay.
 */
int run_copy(void *dst, const void *src, const struct ring_run *run,
	     const struct run_layout *lay, uint32_t n_vocab,
	     struct run_refusal *why);

/* The arrays of a record laid out at @rec; 0 or -errno and @why. */
int run_check_arrays(const void *rec, const struct ring_run *run,
		     const struct run_layout *lay, uint32_t n_vocab,
		     struct run_refusal *why);

/* One pass of 4-byte volatile loads; @n is a multiple of 4. */
void run_snapshot(void *dst, const void *src, uint64_t n);

/* Fill @why and return @err. */
int run_refuse(struct run_refusal *why, enum ring_refusal reason, int err,
	       uint64_t arg, uint64_t limit);

#endif
