/* SPDX-License-Identifier: MIT */
/* kv.c - block allocator with reference counts and tables by sequence. */
#include "kv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int kv_init(struct kv *kv, const struct mem *mem, uint32_t n_blocks,
	    uint32_t n_seqs, uint32_t max_blocks)
{
	uint32_t i;
	size_t n;

	memset(kv, 0, sizeof(*kv));
	if (__builtin_mul_overflow((size_t)n_seqs, (size_t)max_blocks, &n))
		return -ENOMEM;
	kv->free = mem_alloc(mem, n_blocks, sizeof(*kv->free));
	kv->ref = mem_alloc(mem, n_blocks, sizeof(*kv->ref));
	kv->table = mem_alloc(mem, n, sizeof(*kv->table));
	kv->len = mem_alloc(mem, n_seqs, sizeof(*kv->len));
	kv->seq_free = mem_alloc(mem, n_seqs, sizeof(*kv->seq_free));
	kv->used = mem_alloc(mem, n_seqs, sizeof(*kv->used));
	if (!kv->free || !kv->ref || !kv->table || !kv->len || !kv->seq_free ||
	    !kv->used)
		return -ENOMEM;
	kv->n_blocks = kv->n_free = n_blocks;
	kv->n_seqs = kv->n_seq_free = n_seqs;
	kv->max_blocks = max_blocks;
	/* Low numbers first: the pages that are touched stay few. */
	for (i = 0; i < n_blocks; i++)
		kv->free[i] = n_blocks - 1 - i;
	for (i = 0; i < n_seqs; i++)
		kv->seq_free[i] = n_seqs - 1 - i;
	return 0;
}

void kv_fini(struct kv *kv, const struct mem *mem)
{
	mem_free(mem, kv->free);
	mem_free(mem, kv->ref);
	mem_free(mem, kv->table);
	mem_free(mem, kv->len);
	mem_free(mem, kv->seq_free);
	mem_free(mem, kv->used);
	memset(kv, 0, sizeof(*kv));
}

int kv_seq_get(struct kv *kv)
{
	uint32_t seq;

	if (!kv->n_seq_free)
		return -EAGAIN;
	seq = kv->seq_free[--kv->n_seq_free];
	assert(!kv->used[seq] && !kv->len[seq]);
	kv->used[seq] = true;
	return (int)seq;
}

static uint32_t *table(const struct kv *kv, int seq)
{
	assert(seq >= 0 && (uint32_t)seq < kv->n_seqs && kv->used[seq]);
	return kv->table + (size_t)seq * kv->max_blocks;
}

void kv_seq_put(struct kv *kv, int seq)
{
	uint32_t *t = table(kv, seq), i, b;

	/* Backwards, so that the lowest block is taken first again. */
	for (i = kv->len[seq]; i-- > 0;) {
		b = t[i];
		assert(b < kv->n_blocks && kv->ref[b]);
		if (!--kv->ref[b])
			kv->free[kv->n_free++] = b;
	}
	kv->len[seq] = 0;
	kv->used[seq] = false;
	kv->seq_free[kv->n_seq_free++] = (uint32_t)seq;
}

int kv_grow(struct kv *kv, int seq, uint32_t positions)
{
	uint32_t *t = table(kv, seq);
	uint64_t want = kv_blocks_for(positions);
	uint32_t have = kv->len[seq], b;

	if (want <= have)
		return 0;
	if (want > kv->max_blocks || want - have > kv->n_free)
		return -ENOSPC;
	while (have < want) {
		b = kv->free[--kv->n_free];
		assert(!kv->ref[b]);
		kv->ref[b] = 1;
		t[have++] = b;
	}
	kv->len[seq] = have;
	return 0;
}

uint64_t kv_reach(const struct kv *kv, int seq)
{
	uint64_t n = (uint64_t)kv->len[seq] + kv->n_free;

	if (n > kv->max_blocks)
		n = kv->max_blocks;
	return n * KV_BLOCK;
}

void kv_share(struct kv *kv, int dst, int src, uint32_t n)
{
	uint32_t *d = table(kv, dst), *s = table(kv, src), i;

	assert(!kv->len[dst] && n <= kv->len[src]);
	for (i = 0; i < n; i++) {
		d[i] = s[i];
		kv->ref[s[i]]++;
	}
	kv->len[dst] = n;
}

const uint32_t *kv_table(const struct kv *kv, int seq)
{
	return table(kv, seq);
}

bool kv_consistent(const struct kv *kv)
{
	uint64_t refs = 0, held = 0;
	uint32_t i, free = 0, used = 0;

	for (i = 0; i < kv->n_blocks; i++) {
		refs += kv->ref[i];
		free += !kv->ref[i];
	}
	for (i = 0; i < kv->n_free; i++)
		if (kv->free[i] >= kv->n_blocks || kv->ref[kv->free[i]])
			return false;
	for (i = 0; i < kv->n_seqs; i++) {
		held += kv->len[i];
		used += kv->used[i];
	}
	return free == kv->n_free && refs == held &&
	       used + kv->n_seq_free == kv->n_seqs;
}
