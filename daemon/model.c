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

/* Bytes of whole blocks, when there are @bytes for the @part of each. */
static uint64_t scale(uint64_t bytes, uint64_t part, uint64_t block)
{
	return part == block ? bytes : bytes / part * block;
}

/* Bytes that the KV cache may take at most: of the backend's own memory, and of
 * the host's, which alone a limit is of. */
static int kv_bound(const struct backend_info *info,
		    const struct model_room *room, uint64_t *bound,
		    char why[160])
{
	const uint64_t block = info->kv_block_bytes;
	uint64_t fixed = info->weight_bytes + info->scratch_bytes, left, host;
	uint64_t host_block = block - info->own_block_bytes;

	fixed -= info->own_bytes;
	*bound = UINT64_MAX;
	if (info->own_block_bytes)
		*bound = scale(info->kv_budget, info->own_block_bytes, block);
	if (!host_block)
		return 0;
	host = room->free ? room->free : KV_UNKNOWN;
	if (room->limit) {
		left = room->limit > room->used ? room->limit - room->used : 0;
		if (fixed + host_block > left)
			return no_memory(why, "model", fixed + host_block,
					 left);
		if (!room->free || left - fixed < host)
			host = left - fixed;
	}
	host = scale(host, host_block, block);
	if (host < *bound)
		*bound = host;
	return 0;
}

/* What it takes of @bound when nobody says. */
static uint64_t kv_share_of(uint64_t bound, uint64_t need,
			    const struct backend_info *info,
			    const struct proc_load *l,
			    const struct model_room *room)
{
	uint64_t most = bound;

	/* Half of what is free is for others, but not of a limit; and a context
	 * that was asked for is what a memory of its own is there for. */
	if (!room->limit || info->own_block_bytes)
		most /= 2;
	if (info->own_block_bytes && l->n_ctx && most < need)
		most = need < bound ? need : bound;
	return need * KV_CONTEXTS < most ? need * KV_CONTEXTS : most;
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
	if (!bytes)
		bytes = kv_share_of(bound, need, info, l, room);
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
