/* SPDX-License-Identifier: MIT */
/* model.c - sizes of a model's KV cache, and what it needs to be scheduled. */
#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Without another word: room for so many full contexts, if there is memory. */
#define KV_CONTEXTS 4
/* When nobody can say how much memory is free. */
#define KV_UNKNOWN (1ull << 30)

static int no_memory(char why[160], const char *what, uint64_t need,
		     uint64_t have)
{
	snprintf(why, 160, "%s needs %" PRIu64 " bytes, %" PRIu64 " are free",
		 what, need, have);
	return -ENOMEM;
}

/* Bytes that the KV cache may take at most. A limit is of the host's memory. */
static int kv_bound(const struct backend_info *info,
		    const struct model_room *room, uint64_t *bound,
		    char why[160])
{
	uint64_t fixed = info->weight_bytes + info->scratch_bytes, left;

	*bound = info->kv_budget;
	if (*bound)
		return 0;
	*bound = room->free ? room->free : KV_UNKNOWN;
	if (!room->limit)
		return 0;
	left = room->limit > room->used ? room->limit - room->used : 0;
	if (fixed + info->kv_block_bytes > left)
		return no_memory(why, "model", fixed + info->kv_block_bytes,
				 left);
	if (!room->free || left - fixed < *bound)
		*bound = left - fixed;
	return 0;
}

int model_size(struct run_limits *lim, const struct image_hparams *hp,
	       const struct backend_info *info, const struct proc_load *l,
	       uint64_t kv_bytes, uint32_t max_seqs,
	       const struct model_room *room, char why[160])
{
	const uint64_t block = info->kv_block_bytes;
	uint64_t ctx = hp->n_ctx_train, bound, bytes, need, n;
	int err;

	if (l->n_ctx > ctx) {
		snprintf(why, 160,
			 "context of %u tokens wanted, the model has %u",
			 l->n_ctx, hp->n_ctx_train);
		return -EINVAL;
	}
	if (l->n_ctx)
		ctx = l->n_ctx;
	err = kv_bound(info, room, &bound, why);
	if (err)
		return err;
	need = kv_blocks_for(ctx) * block;
	bytes = l->kv_bytes ? l->kv_bytes : kv_bytes;
	if (bytes > bound)
		return no_memory(why, "KV cache", bytes, bound);
	if (!bytes) {
		bytes = need * KV_CONTEXTS;
		/* Half of what is free is for others, but not of a limit. */
		if (!room->limit || info->kv_budget)
			bound /= 2;
		if (bytes > bound)
			bytes = bound;
	}
	n = bytes / block;
	if (l->n_ctx && n * block < need)
		return no_memory(why, "context", need, bytes);
	if (!n)
		return no_memory(why, "KV cache", block, bytes);
	if (ctx > n * KV_BLOCK)
		ctx = n * KV_BLOCK;
	/* More could never be used. */
	if (n > kv_blocks_for(ctx) * max_seqs)
		n = kv_blocks_for(ctx) * max_seqs;
	if (n > UINT32_MAX / 2)
		n = UINT32_MAX / 2;
	lim->n_ctx = (uint32_t)ctx;
	lim->n_vocab = hp->n_vocab;
	lim->n_embd = hp->n_embd;
	lim->n_blocks = (uint32_t)n;
	lim->block_bytes = block;
	return 0;
}

int model_new(struct model **out, const struct mem *mem,
	      const struct backend_conf *bc, uint32_t n_flows,
	      const struct run_limits *lim)
{
	struct model *m = mem_alloc(mem, 1, sizeof(*m));
	int err = -ENOMEM;

	*out = NULL;
	if (!m)
		return -ENOMEM;
	m->lim = *lim;
	m->sum = mem_alloc(mem, (size_t)bc->max_seqs * lim->n_embd,
			   sizeof(*m->sum));
	if (!m->sum)
		goto fail;
	err = kv_init(&m->kv, mem, lim->n_blocks, bc->max_seqs,
		      (uint32_t)kv_blocks_for(lim->n_ctx));
	if (err)
		goto fail;
	err = sched_init(&m->sched, mem, &m->kv, n_flows, bc->max_seqs);
	if (err)
		goto fail;
	err = batch_init(&m->plan, mem, bc);
	if (err)
		goto fail;
	*out = m;
	return 0;
fail:
	model_free(m, mem);
	return err;
}

void model_free(struct model *m, const struct mem *mem)
{
	if (!m)
		return;
	batch_fini(&m->plan, mem);
	sched_fini(&m->sched, mem);
	kv_fini(&m->kv, mem);
	mem_free(mem, m->sum);
	mem_free(mem, m);
}
