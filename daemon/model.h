/* SPDX-License-Identifier: MIT */
/*
 * model.h - a resident model: its KV cache, scheduler and batch.
 */
#ifndef HEARTH_MODEL_H
#define HEARTH_MODEL_H

#include "batch.h"
#include "conf.h"
#include "kv.h"
#include "proc.h"
#include "sched.h"

/**
 * struct model - a resident model
 * @im, @bm:   borrowed
 * @mem_bytes: all it takes of the host's memory: weights, scratch and KV
 * @sum:       double[max_seqs][n_embd]: running sums of mean embeddings
 * @st:        its counters
 */
struct model {
	uint64_t id;
	const struct image *im;
	struct backend_model *bm;
	struct backend_info info;
	struct run_limits lim;
	uint64_t mem_bytes;
	struct kv kv;
	struct sched sched;
	struct batch_plan plan;
	double *sum;
	struct proc_model_stats *st;
};

/**
 * struct model_room - memory for a new model
 * @limit: bytes that all models may take, 0 is no limit
 * @used:  what the others take
 * @free:  bytes free on the machine, 0 is unknown
 */
struct model_room {
	uint64_t limit;
	uint64_t used;
	uint64_t free;
};

/**
 * model_size() - how many KV blocks and which context
 * Sets lim. Return: 0, or -ENOMEM, -EINVAL with both numbers in @why.
 */
int model_size(struct run_limits *lim, const struct image_hparams *hp,
	       const struct backend_info *info, const struct proc_load *l,
	       uint64_t kv_bytes, uint32_t max_seqs,
	       const struct model_room *room, char why[160]);

int model_new(struct model **out, const struct mem *mem,
	      const struct backend_conf *bc, uint32_t n_flows,
	      const struct run_limits *lim);
void model_free(struct model *m, const struct mem *mem);

#endif
