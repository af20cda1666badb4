/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pool.h - what the files of hearth.ko share: a buffer and its users.
 *
 * pool_lock protects all lists and counters. It is a spinlock, and nothing is
 * allocated under it, because the shrinker takes it in the middle of other
 * people's allocations.
 */
#ifndef HEARTH_POOL_H
#define HEARTH_POOL_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/spinlock.h>

#include "uapi/hearth.h"

#define HEARTH_MAX_BUFS 4096 /* names are searched one by one */

struct hearth_user;
struct hstate;

/**
 * struct hearth_buf - pinned huge pages of a memfd
 * @ref:     one of the name, one of each dma-buf, and passing ones
 * @node:    in pool.bufs, least recently used first, or in pool.victims
 * @memfd:   ours; somebody else has the memory open or mapped exactly when
 *           this file or its dentry has other references
 * @folios:  @nr of them, one pin each
 * @user:    who is charged
 * @used_ns: when it was last made, attached or touched
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
 * @bufs:    that have a name, least recently used first
 * @victims: that the shrinker has taken and its worker has not freed yet
 * @users:   that have a charge or a limit
 * @bytes:   pinned, with or without a name
 */
struct hearth_pool {
	struct list_head bufs;
	struct list_head victims;
	struct list_head users;
	u32 nr_bufs;
	u64 bytes;
	u64 next_id;
	u64 nr_shrunk;
	u64 shrunk_bytes;
};

extern struct hearth_pool pool;
extern spinlock_t pool_lock;
extern unsigned long long max_bytes, max_uid_bytes, watermark;

/* pool.c: those that take a name or id lock, the others say so. */
int pool_create(struct hearth_dev_create *a);
struct hearth_buf *pool_get(const char *name);
void pool_put(struct hearth_buf *b);
void pool_release(struct hearth_buf *b);
void pool_unname(struct hearth_buf *b); /* locked; the name's ref is yours */
bool pool_idle(struct hearth_buf *b);	/* locked */
int pool_destroy(const struct hearth_dev_destroy *a);
int pool_touch(const struct hearth_dev_destroy *a);
int pool_next(struct hearth_dev_list *l);
int pool_limit(struct hearth_dev_limit *a);
void pool_info(struct hearth_dev_info *a);
u32 pool_seals(const struct hearth_buf *b);
u64 pool_cgroup(void);

/* dmabuf.c */
unsigned int dmabuf_pieces(const struct hearth_buf *b, size_t max);
struct file *dmabuf_file(struct hearth_buf *b);

/* shrink.c */
int shrink_init(void);
void shrink_exit(void);

/* ioctl.c */
long hearth_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

#endif
