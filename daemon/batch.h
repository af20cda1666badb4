/* SPDX-License-Identifier: MIT */
/*
 * batch.h - one step's work: from the scheduler's plan to struct batch.
 *
 * Beside the arrays that the backend reads, it remembers whose each sequence
 * and each output row is, and what the row is for.
 */
#ifndef HEARTH_BATCH_H
#define HEARTH_BATCH_H

#include "backend.h"
#include "sched.h"

#define BATCH_LOGITS 1u /* the client asked for this position's logits */
#define BATCH_EMBED  2u /* its hidden state is (part of) the embedding */
#define BATCH_SAMPLE 4u /* the next token comes from it */

struct batch_row {
	struct req *r;
	uint32_t token; /* index in the batch */
	uint32_t what;
};

/**
 * struct batch_plan - a batch and its owners
 * @reqs: per sequence
 * @rows: per output row, those with logits first, each part in token order
 */
struct batch_plan {
	struct batch b;
	uint32_t max_tokens;
	uint32_t max_seqs;
	uint32_t max_out;
	struct req **reqs;
	struct batch_row *rows;
	struct batch_row *hidden;
};

int batch_init(struct batch_plan *p, const struct mem *mem,
	       const struct backend_conf *bc);
void batch_fini(struct batch_plan *p, const struct mem *mem);

/* Fill @p from what sched_plan() decided. */
void batch_build(struct batch_plan *p, const struct sched *s, uint32_t n_vocab);

/*
 * Rows in the order of their tokens, so that sums over positions do not depend
 * on how a prompt was cut: start with *i = *j = 0; NULL after the last.
 */
const struct batch_row *batch_next(const struct batch_plan *p, uint32_t *i,
				   uint32_t *j, uint32_t *row);

#endif
