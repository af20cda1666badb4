/* SPDX-License-Identifier: MIT */
/* hash.c - SHA-256, Merkle trees, and what the kernel knows already. */
#include "hash.h"

#include <endian.h>
#include <errno.h>
#include <linux/fsverity.h>
#include <linux/magic.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include "../kernels/sha256.h"

#define LOG_BLOCK 12
#define MAX_BYTES (1ull << 56)

/* 128 hashes of blocks, there while some are missing. */
struct hash_group {
	_Atomic(uint8_t *) leaves;
	_Atomic uint32_t left;
};

/* Of <linux/fsverity.h>'s documentation; what a file's digest is made of. */
struct descriptor {
	uint8_t version;
	uint8_t hash_algorithm;
	uint8_t log_blocksize;
	uint8_t salt_size;
	uint32_t resv1;
	uint64_t data_size;
	uint8_t root_hash[64];
	uint8_t salt[32];
	uint8_t resv2[144];
};

_Static_assert(sizeof(struct descriptor) == 256, "as the kernel's");

/*
 * Looking up the algorithm and making a context cost as much as hashing a
 * small block: once a thread is enough.
 */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static EVP_MD *sha256;
static struct sha256_kernels many;

static void drop(void *ctx)
{
	EVP_MD_CTX_free(ctx);
}

static void setup(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!sha256 || pthread_key_create(&key, drop))
		abort(); /* no memory for a few bytes at the start */
	sha256_kernels_init(&many, cpu_detect());
}

static EVP_MD_CTX *context(void)
{
	EVP_MD_CTX *ctx;

	pthread_once(&once, setup);
	ctx = pthread_getspecific(key);
	if (ctx)
		return ctx;
	ctx = EVP_MD_CTX_new();
	if (!ctx || !EVP_DigestInit_ex2(ctx, sha256, NULL) ||
	    pthread_setspecific(key, ctx))
		abort();
	return ctx;
}

void hash_sha256(uint8_t out[HASH_BYTES], const void *p, size_t n)
{
	EVP_MD_CTX *ctx = context();

	if (!EVP_DigestInit_ex2(ctx, NULL, NULL) ||
	    !EVP_DigestUpdate(ctx, p, n) || !EVP_DigestFinal_ex(ctx, out, NULL))
		abort();
}

void hash_block(uint8_t out[HASH_BYTES], const void *block)
{
	hash_sha256(out, block, HASH_BLOCK);
}

void hash_blocks(uint8_t (*out)[HASH_BYTES], const void *blocks, size_t n)
{
	const uint8_t *p = blocks;

	pthread_once(&once, setup);
	for (; many.lanes && n >= SHA256_LANES; n -= SHA256_LANES) {
		many.lanes(p, HASH_BLOCK, out);
		p += SHA256_LANES * HASH_BLOCK;
		out += SHA256_LANES;
	}
	for (; n; n--, p += HASH_BLOCK)
		hash_block(*out++, p);
}

/* ------------------------------------------------------------------- tree */

static uint64_t blocks_of(uint64_t bytes)
{
	return bytes / HASH_BLOCK + (bytes % HASH_BLOCK != 0);
}

int hash_tree_init(struct hash_tree *t, uint64_t bytes)
{
	uint64_t i;

	memset(t, 0, sizeof(*t));
	if (bytes > MAX_BYTES)
		return -EFBIG;
	t->bytes = bytes;
	t->n_blocks = blocks_of(bytes);
	t->n_groups = (t->n_blocks + HASH_FANOUT - 1) / HASH_FANOUT;
	t->groups = calloc(t->n_groups + 1, sizeof(*t->groups));
	t->level = calloc(t->n_groups + 1, sizeof(*t->level));
	if (!t->groups || !t->level) {
		hash_tree_fini(t);
		return -ENOMEM;
	}
	for (i = 0; i < t->n_groups; i++)
		t->groups[i].left = HASH_FANOUT;
	if (t->n_blocks % HASH_FANOUT)
		t->groups[t->n_groups - 1].left = t->n_blocks % HASH_FANOUT;
	return 0;
}

void hash_tree_fini(struct hash_tree *t)
{
	uint64_t i;

	for (i = 0; t->groups && i < t->n_groups; i++)
		free(atomic_load(&t->groups[i].leaves));
	free(t->groups);
	free(t->level);
	memset(t, 0, sizeof(*t));
}

/* Who comes first makes the group's memory. */
static uint8_t *leaves_of(struct hash_group *g)
{
	uint8_t *mine, *none = NULL;
	uint8_t *leaves = atomic_load(&g->leaves);

	if (leaves)
		return leaves;
	mine = calloc(1, HASH_BLOCK);
	if (!mine)
		return NULL;
	if (atomic_compare_exchange_strong(&g->leaves, &none, mine))
		return mine;
	free(mine);
	return none;
}

int hash_tree_put(struct hash_tree *t, uint64_t block,
		  const uint8_t hash[HASH_BYTES])
{
	struct hash_group *g = &t->groups[block / HASH_FANOUT];
	uint8_t *leaves;

	/* A file of one block is its own root. */
	if (t->n_blocks == 1) {
		memcpy(t->level[0], hash, HASH_BYTES);
		atomic_store(&g->left, 0);
		return 0;
	}
	leaves = leaves_of(g);
	if (!leaves)
		return -ENOMEM;
	memcpy(leaves + block % HASH_FANOUT * HASH_BYTES, hash, HASH_BYTES);
	if (atomic_fetch_sub(&g->left, 1) != 1)
		return 0;
	hash_block(t->level[block / HASH_FANOUT], leaves);
	atomic_store(&g->leaves, NULL);
	free(leaves);
	return 0;
}

int hash_tree_complete(const struct hash_tree *t)
{
	uint64_t i;

	for (i = 0; i < t->n_groups; i++)
		if (atomic_load(&t->groups[i].left))
			return 0;
	return 1;
}

/* In place: the hash of a block of hashes goes before what is still needed. */
static void root_of(struct hash_tree *t)
{
	uint64_t n = t->n_groups, i, out;
	uint8_t block[HASH_BLOCK];
	size_t have;

	while (n > 1) {
		for (i = out = 0; i < n; i += HASH_FANOUT, out++) {
			have = n - i < HASH_FANOUT ? n - i : HASH_FANOUT;
			memset(block, 0, sizeof(block));
			memcpy(block, t->level[i], have * HASH_BYTES);
			hash_block(t->level[out], block);
		}
		n = out;
	}
}

void hash_tree_digest(struct hash_tree *t, uint8_t out[HASH_BYTES])
{
	struct descriptor d;

	memset(&d, 0, sizeof(d));
	d.version = 1;
	d.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
	d.log_blocksize = LOG_BLOCK;
	d.data_size = htole64(t->bytes);
	if (t->n_groups) {
		root_of(t);
		memcpy(d.root_hash, t->level[0], HASH_BYTES);
	}
	hash_sha256(out, &d, sizeof(d));
}

/* ----------------------------------------------------- files and their parts */

static int trusted(int fd)
{
	struct statfs s;

	if (fstatfs(fd, &s))
		return 0;
	return s.f_type == EXT4_SUPER_MAGIC || s.f_type == F2FS_SUPER_MAGIC ||
	       s.f_type == BTRFS_SUPER_MAGIC;
}

int hash_measure(int fd, uint8_t out[HASH_BYTES])
{
	union {
		struct fsverity_digest d;
		uint8_t room[sizeof(struct fsverity_digest) + 64];
	} u;

	if (!trusted(fd))
		return -ENODATA;
	memset(&u, 0, sizeof(u));
	u.d.digest_size = 64;
	if (ioctl(fd, FS_IOC_MEASURE_VERITY, &u.d) ||
	    u.d.digest_algorithm != FS_VERITY_HASH_ALG_SHA256 ||
	    u.d.digest_size != HASH_BYTES)
		return -ENODATA;
	memcpy(out, u.d.digest, HASH_BYTES);
	return 0;
}

void hash_parts(const uint8_t (*part)[HASH_BYTES], unsigned int n,
		uint8_t out[HASH_BYTES])
{
	if (n == 1)
		memcpy(out, part[0], HASH_BYTES);
	else
		hash_sha256(out, part, (size_t)n * HASH_BYTES);
}
