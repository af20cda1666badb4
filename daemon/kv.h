/* SPDX-License-Identifier: MIT */
/*
 * kv.h - which block of a model's KV cache belongs to which sequence.
 *
 * A block holds KV_BLOCK positions of all layers; the backend has the memory,
 * this has the indices. A sequence's block table maps position p to block
 * table[p / KV_BLOCK]. Blocks are reference counted, so that sequences may
 * share a prefix.
 *
 * Nobody reads what somebody else left in a block: a sequence's length grows
 * only by positions that the same step writes, a backend reads positions below
 * the length only, and a shared block is full, so no position is ever read
 * before its own sequence (or the one that it shares the prefix with) wrote
 * it. The oracle backend checks that on every step of every test.
 */
#ifndef HEARTH_KV_H
#define HEARTH_KV_H

#include <stdbool.h>

#include "backend.h"
#include "mem.h"

/**
 * struct kv - a model's blocks
 * @n_blocks, @n_free: all, and those nobody has
 * @n_seqs:     sequences that may have a table at a time
 * @max_blocks: entries in a table
 * @free:       stack of free blocks
 * @ref:        per block
 * @table:      [n_seqs][max_blocks]
 * @len:        per sequence: entries of its table in use
 * @seq_free:   stack of unused tables
 * @used:       per sequence: it is not in that stack
 */
struct kv {
	uint32_t n_blocks;
	uint32_t n_free;
	uint32_t n_seqs;
	uint32_t n_seq_free;
	uint32_t max_blocks;
	uint32_t *free;
	uint32_t *ref;
	uint32_t *table;
	uint32_t *len;
	uint32_t *seq_free;
	bool *used;
};

static inline uint64_t kv_blocks_for(uint64_t positions)
{
	return positions / KV_BLOCK + (positions % KV_BLOCK != 0);
}

/* Half-built on failure: kv_fini() takes it. */
int kv_init(struct kv *kv, const struct mem *mem, uint32_t n_blocks,
	    uint32_t n_seqs, uint32_t max_blocks);
void kv_fini(struct kv *kv, const struct mem *mem);

/* An empty sequence, or -EAGAIN when all tables are in use. */
int kv_seq_get(struct kv *kv);

/* Gives the table and its blocks back. */
void kv_seq_put(struct kv *kv, int seq);

/* Make the table cover @positions: all of it or -ENOSPC and nothing. */
int kv_grow(struct kv *kv, int seq, uint32_t positions);

/* Positions that @seq could have without anybody giving a block back. */
uint64_t kv_reach(const struct kv *kv, int seq);

/* Let the empty @dst start with the first @n blocks of @src, all full. */
void kv_share(struct kv *kv, int dst, int src, uint32_t n);

const uint32_t *kv_table(const struct kv *kv, int seq);

/* Every count agrees with every other: for tests. */
bool kv_consistent(const struct kv *kv);

#endif
