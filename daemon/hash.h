/* SPDX-License-Identifier: MIT */
/*
 * hash.h - digests of files: the ones that fs-verity gives, in user space.
 *
 * A file's digest is SHA-256 over the kernel's struct fsverity_descriptor with
 * the root of a Merkle tree of SHA-256 hashes, blocks of 4 KiB, no salt. So a
 * file that has fs-verity need not be read for it, blocks may be hashed in any
 * order by any number of threads, and `fsverity digest` gives the same.
 */
#ifndef HEARTH_HASH_H
#define HEARTH_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BYTES  32
#define HASH_BLOCK  4096u
#define HASH_FANOUT (HASH_BLOCK / HASH_BYTES)

void hash_sha256(uint8_t out[HASH_BYTES], const void *p, size_t n);

/* Hash of one block of HASH_BLOCK bytes, the last one of a file zero-padded. */
void hash_block(uint8_t out[HASH_BYTES], const void *block);

/* The same of @n blocks, one after the other; the more the faster. */
void hash_blocks(uint8_t (*out)[HASH_BYTES], const void *blocks, size_t n);

struct hash_group;

/**
 * struct hash_tree - the tree of a file that is being read
 * @bytes:    of the file
 * @n_blocks: of the file
 * @n_groups: blocks of hashes; each is folded into one hash when complete, so
 *            that memory stays at 96 bytes for each 512 KiB of the file
 */
struct hash_tree {
	uint64_t bytes;
	uint64_t n_blocks;
	uint64_t n_groups;
	struct hash_group *groups;
	uint8_t (*level)[HASH_BYTES];
};

/* Return: 0, -ENOMEM, or -EFBIG. */
int hash_tree_init(struct hash_tree *t, uint64_t bytes);
void hash_tree_fini(struct hash_tree *t);

/**
 * hash_tree_put() - the hash of one block; thread-safe, any order, once each
 * Return: 0 or -ENOMEM.
 */
int hash_tree_put(struct hash_tree *t, uint64_t block,
		  const uint8_t hash[HASH_BYTES]);

/* True if every block was put. */
int hash_tree_complete(const struct hash_tree *t);

/* The file's digest. The tree is used up. */
void hash_tree_digest(struct hash_tree *t, uint8_t out[HASH_BYTES]);

/**
 * hash_measure() - the digest that the kernel keeps for a file with fs-verity
 *
 * Only of file systems in the kernel: one that a user serves could say
 * anything.
 *
 * Return: 0, or -ENODATA: there is none, or not with SHA-256.
 */
int hash_measure(int fd, uint8_t out[HASH_BYTES]);

/* Of several parts: SHA-256 over their digests; of one, its own. */
void hash_parts(const uint8_t (*part)[HASH_BYTES], unsigned int n,
		uint8_t out[HASH_BYTES]);

#endif
