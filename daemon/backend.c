/* SPDX-License-Identifier: MIT */
/* backend.c - what backends have in common: their names, sums, checks. */
#include "backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../kernels/vec.h"

void backend_info_add(struct backend_info *to, const struct backend_info *from)
{
	to->weight_bytes += from->weight_bytes;
	to->scratch_bytes += from->scratch_bytes;
	to->kv_block_bytes += from->kv_block_bytes;
	to->own_bytes += from->own_bytes;
	to->own_block_bytes += from->own_block_bytes;
	to->kv_budget += from->kv_budget;
}

#define SPARE_ROWS 32 /* of output, for embeddings beside answers */

void backend_conf_size(struct backend_conf *bc, uint64_t step_tokens,
		       uint64_t max_batch)
{
	bc->max_seqs = max_batch ? (uint32_t)max_batch : 1;
	bc->max_tokens = (uint32_t)step_tokens;
	/* A step in which everybody generates has room for prompts too. */
	if (bc->max_tokens < bc->max_seqs + KV_BLOCK)
		bc->max_tokens = bc->max_seqs + KV_BLOCK;
	bc->max_out = bc->max_seqs + SPARE_ROWS;
}

int backend_check_model(const struct image_hparams *hp, char why[160])
{
	uint32_t group = hp->n_head / hp->n_head_kv;

	if (hp->head_dim > VEC_ATTN_DIM) {
		snprintf(why, 160, "heads of %u are more than the limit of %d",
			 hp->head_dim, VEC_ATTN_DIM);
		return -ENOTSUP;
	}
	if (group > VEC_ATTN_ROWS) {
		snprintf(why, 160,
			 "%u query heads share one key head, the limit is %d",
			 group, VEC_ATTN_ROWS);
		return -ENOTSUP;
	}
	return 0;
}

/* Only tokens that there are, and no more than there is room for. */
static bool picks_ok(const struct batch *b, uint32_t n_vocab)
{
	const uint32_t *id = b->picks;
	uint32_t i, k;

	for (i = 0; b->n_picks && i < b->n_logits; i++, id += BATCH_PICKS) {
		if (b->n_picks[i] > BATCH_PICKS)
			return false;
		for (k = 0; k < b->n_picks[i]; k++)
			if (id[k] >= n_vocab)
				return false;
	}
	return true;
}

int backend_check_batch(const struct batch *b, const struct backend_conf *c,
			uint32_t n_blocks, uint32_t n_vocab)
{
	const struct batch_seq *q;
	uint32_t i, k, at = 0;

	if (!b->n_tokens || b->n_tokens > c->max_tokens ||
	    b->n_seqs > c->max_seqs || b->n_out > c->max_out ||
	    b->n_logits > b->n_out)
		return -EINVAL;
	for (i = 0; i < b->n_seqs; i++) {
		q = &b->seqs[i];
		if (q->first != at || !q->n || q->n > b->n_tokens - at)
			return -EINVAL;
		if (i && q[-1].prompt && !q->prompt)
			return -EINVAL;
		at += q->n;
		for (k = 0; k <= (q->pos + q->n - 1) / KV_BLOCK; k++)
			if (q->blocks[k] >= n_blocks)
				return -EINVAL;
	}
	if (at != b->n_tokens)
		return -EINVAL;
	for (i = 0; i < b->n_out; i++)
		if (b->out_rows[i] >= b->n_tokens)
			return -EINVAL;
	for (i = 0; i < b->n_tokens; i++)
		if (b->tokens[i] >= n_vocab)
			return -EINVAL;
	return picks_ok(b, n_vocab) ? 0 : -EINVAL;
}

const struct backend_ops *backend_find(const char *name)
{
	size_t i;

	for (i = 0; backends[i]; i++)
		if (!strcmp(backends[i]->name, name))
			return backends[i];
	return NULL;
}
