/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pool.h - what the files of hearth.ko share: a buffer, and all of them.
 *
 * pool_lock protects lists and counters. It is a spinlock, and nothing is
 * allocated under it, because the shrinker takes it in the middle of other
 * people's allocations.
 */
#ifndef HEARTH_POOL_H
#define HEARTH_POOL_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mm.h>

#include "uapi/hearth.h"

/**
 * struct hearth_user - whom buffers are charged to
 * @uid:   in the initial user namespace
 * @own:   has a limit of his own
 * @used:  bytes of buffers, with or without a name
 * @limit: where @own
 */
struct hearth_user {
	u32 uid;
	bool own;
	u64 used;
	u64 limit;
};

/**
 * struct hearth_buf - pinned huge pages of a memfd
 * @ref:     one of the name, one of each dma-buf, and passing ones
 * @node:    in pool.bufs while it has its name
 * @name:    content and layout, if it is hearthd's
 * @id:      never used again
 * @bytes:   of @memfd
 * @memfd:   ours; others have the memory open or mapped exactly when this file
 *           or its dentry has more references
 * @hstate:  its kind of huge pages
 * @folios:  @nr of them, one pin each
 * @nr:      so many are pinned
 * @shift:   of the size of a huge page
 * @nents:   pieces of contiguous memory
 * @user:    who is charged; NULL before and after
 * @uid:     his
 * @used_ns: when it was last made, got or touched
 * @on_node: of @folios, how many are on each NUMA node
 */
struct hearth_buf {
	struct kref ref;
	struct list_head node;
	char name[HEARTH_DEV_NAME];
	u64 id;
	u64 bytes;
	struct file *memfd;
	struct hstate *hstate;
	struct folio **folios;
	unsigned long nr;
	unsigned int shift;
	unsigned int nents;
	struct hearth_user *user;
	u32 uid;
	u64 used_ns;
	unsigned long on_node[];
};

/**
 * struct hearth_pool - all of it; pool_lock protects it
 * @bufs:         those with a name, least recently used first
 * @victim:       what the shrinker has taken and its worker is freeing
 * @nr_bufs:      names
 * @bytes:        pinned, with or without a name
 * @next_id:      for the next one
 * @nr_shrunk:    taken by the shrinker since the module was loaded
 * @shrunk_bytes: of those
 */
struct hearth_pool {
	struct list_head bufs;
	struct hearth_buf *victim;
	u32 nr_bufs;
	u64 bytes;
	u64 next_id;
	u64 nr_shrunk;
	u64 shrunk_bytes;
};

/**
 * struct hearth_call - a call of the device
 * @file: what becomes the caller's @get.fd
 */
struct hearth_call {
	union {
		struct hearth_dev_info info;
		struct hearth_dev_create create;
		struct hearth_dev_get get;
		struct hearth_dev_destroy destroy;
		struct hearth_dev_list list;
		struct hearth_dev_limit limit;
	};
	struct file *file;
};

extern struct hearth_pool pool;
extern spinlock_t pool_lock;
extern unsigned long long max_bytes, max_uid_bytes, watermark;

/* pool.c */
struct hearth_buf *pool_get(const char *name, u64 id);
void pool_put(struct hearth_buf *b);
void pool_unname(struct hearth_buf *b);
void pool_release(struct hearth_buf *b);
bool pool_idle(const struct hearth_buf *b);
u32 pool_seals(const struct hearth_buf *b);
int pool_create(struct hearth_call *c);
int pool_destroy(struct hearth_call *c);
int pool_touch(struct hearth_call *c);
int pool_list(struct hearth_call *c);
int pool_limit(struct hearth_call *c);
int pool_info(struct hearth_call *c);

/* dmabuf.c */
unsigned int dmabuf_pieces(const struct hearth_buf *b, size_t max);
int dmabuf_export(struct hearth_call *c);

/* shrink.c */
int shrink_init(void);
void shrink_exit(void);

/* ioctl.c */
void call_describe(struct hearth_call *c, const struct hearth_buf *b);
long hearth_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

#endif
