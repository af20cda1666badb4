// SPDX-License-Identifier: GPL-2.0-only
/*
 * pool.c - buffers by name: pinning, charging, finding, forgetting.
 */
#include <linux/file.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "pool.h"
#include "trace.h"

#define MAX_BUFS 4096 /* they are searched one by one */

DEFINE_SPINLOCK(pool_lock);
struct hearth_pool pool = { .bufs = LIST_HEAD_INIT(pool.bufs) };
static struct hearth_user users[1024];

u32 pool_seals(const struct hearth_buf *b)
{
	return READ_ONCE(HUGETLBFS_I(file_inode(b->memfd))->seals);
}

/* ---- users ---- */

/* Locked. A user's place in the table, or a free one; NULL if there is none. */
static struct hearth_user *user_find(u32 uid)
{
	struct hearth_user *u, *vacant = NULL;

	for (u = users; u < users + ARRAY_SIZE(users); u++) {
		if (!u->used && !u->own)
			vacant = u;
		else if (u->uid == uid)
			return u;
	}
	if (vacant)
		vacant->uid = uid;
	return vacant;
}

static bool fits(u64 used, u64 more, u64 limit)
{
	return used <= limit && more <= limit - used;
}

static int charge(struct hearth_buf *b)
{
	struct hearth_user *u;
	int ret = -ENOSPC;

	spin_lock(&pool_lock);
	u = user_find(b->uid);
	if (!u || !fits(pool.bytes, b->bytes, READ_ONCE(max_bytes)))
		goto out;
	ret = -EDQUOT;
	if (!fits(u->used, b->bytes,
		  u->own ? u->limit : READ_ONCE(max_uid_bytes)))
		goto out;
	pool.bytes += b->bytes;
	u->used += b->bytes;
	b->user = u;
	ret = 0;
out:
	spin_unlock(&pool_lock);
	return ret;
}

int pool_limit(struct hearth_call *c)
{
	struct hearth_dev_limit *l = &c->limit;
	struct hearth_user *u;

	if ((l->flags & ~HEARTH_DEV_SET) || l->uid == (u32)-1)
		return -EINVAL;
	spin_lock(&pool_lock);
	u = user_find(l->uid);
	if (u && (l->flags & HEARTH_DEV_SET)) {
		u->own = l->limit != ~0ull;
		u->limit = l->limit;
	}
	l->limit = u && u->own ? u->limit : ~0ull;
	l->used = u ? u->used : 0;
	spin_unlock(&pool_lock);
	return u ? 0 : -ENOSPC;
}

/* ---- pinning ---- */

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)

static int pin_some(struct hearth_buf *b, unsigned long left, u64 uaddr)
{
	loff_t at = (loff_t)b->nr << b->shift;
	pgoff_t offset;

	return memfd_pin_folios(b->memfd, at, b->bytes - 1, b->folios + b->nr,
				min(left, 512ul), &offset);
}

#else

/*
 * Through the caller's mapping, which may be of something else, or become it
 * at any moment: each page must be the file's own at its place. One small page
 * of each huge page, as the pin is on the huge page.
 */
static int pin_some(struct hearth_buf *b, unsigned long left, u64 uaddr)
{
	unsigned long size = 1ul << b->shift;
	pgoff_t index = b->nr;
	struct folio *folio;
	struct page *page;
	int ret;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	index <<= b->shift - PAGE_SHIFT;
#endif
	if (!uaddr || !IS_ALIGNED(uaddr, size))
		return -EINVAL;
	ret = pin_user_pages_fast(uaddr + b->nr * size, 1,
				  FOLL_WRITE | FOLL_LONGTERM, &page);
	if (ret != 1)
		return ret < 0 ? ret : -EFAULT;
	folio = page_folio(page);
	if (folio->mapping != b->memfd->f_mapping || folio->index != index ||
	    folio_size(folio) != size || page != &folio->page) {
		unpin_user_page(page);
		return -ESTALE;
	}
	b->folios[b->nr] = folio;
	return 1;
}

#endif

static int pin(struct hearth_buf *b, u64 uaddr)
{
	unsigned long i, want = b->bytes >> b->shift;
	int ret;

	b->folios = kvcalloc(want, sizeof(*b->folios), GFP_KERNEL);
	if (!b->folios)
		return -ENOMEM;
	while (b->nr < want) {
		ret = pin_some(b, want - b->nr, uaddr);
		if (ret <= 0)
			return ret ? ret : -EFAULT;
		b->nr += ret;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	for (i = 0; i < b->nr; i++)
		b->on_node[folio_nid(b->folios[i])]++;
	b->nents = dmabuf_pieces(b, SZ_1G);
	return 0;
}

/* ---- making and freeing ---- */

/* Let go of the memory; @b has no other user any more. */
void pool_release(struct hearth_buf *b)
{
	for (; b->nr; b->nr--) {
		unpin_user_page(folio_page(b->folios[b->nr - 1], 0));
		cond_resched();
	}
	kvfree(b->folios);
	b->folios = NULL;
	spin_lock(&pool_lock);
	if (b->user) {
		pool.bytes -= b->bytes;
		b->user->used -= b->bytes;
	}
	b->user = NULL;
	spin_unlock(&pool_lock);
	/* The memory must be back when the shrinker's worker has done with it. */
	if (b->memfd && (current->flags & PF_KTHREAD))
		__fput_sync(b->memfd);
	else if (b->memfd)
		fput(b->memfd);
	b->memfd = NULL;
}

static void buf_free(struct kref *ref)
{
	struct hearth_buf *b = container_of(ref, struct hearth_buf, ref);

	pool_release(b);
	kfree(b);
}

void pool_put(struct hearth_buf *b)
{
	kref_put(&b->ref, buf_free);
}

static bool name_valid(const char *s)
{
	size_t n = strnlen(s, HEARTH_DEV_NAME);

	return n && n < HEARTH_DEV_NAME &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			 "0123456789._:-") == n;
}

/*
 * The file of a memfd of huge pages that will keep its size and has all its
 * pages. (is_file_hugepages() needs what is not exported; files that were not
 * made by memfd_create() cannot be sealed.)
 */
static int buf_file(struct hearth_buf *b, int fd)
{
	const u32 seals = F_SEAL_SHRINK | F_SEAL_GROW;
	struct inode *inode;

	b->memfd = fget(fd);
	if (!b->memfd)
		return -EBADF;
	inode = file_inode(b->memfd);
	if (inode->i_sb->s_magic != HUGETLBFS_MAGIC || !S_ISREG(inode->i_mode))
		return -EINVAL;
	if ((pool_seals(b) & seals) != seals)
		return -EINVAL;
	if (!(b->memfd->f_mode & FMODE_WRITE))
		return -EACCES;
	b->hstate = hstate_file(b->memfd);
	b->shift = huge_page_shift(b->hstate);
	b->bytes = i_size_read(inode);
	if (!b->bytes || !IS_ALIGNED(b->bytes, 1ull << b->shift))
		return -EINVAL;
	if (inode->i_blocks != b->bytes >> 9)
		return -ENODATA;
	return 0;
}

/* Locked. Return: the buffer of that name, and id if not 0, or ERR_PTR. */
static struct hearth_buf *find(const char *name, u64 id)
{
	struct hearth_buf *b;

	lockdep_assert_held(&pool_lock);
	list_for_each_entry(b, &pool.bufs, node)
		if (!strcmp(b->name, name))
			return id && id != b->id ? ERR_PTR(-ESTALE) : b;
	return ERR_PTR(-ENOENT);
}

/* Gives it its name; consumes nothing. */
static int buf_publish(struct hearth_buf *b)
{
	int ret = 0;

	spin_lock(&pool_lock);
	if (!IS_ERR(find(b->name, 0))) {
		ret = -EEXIST;
	} else if (pool.nr_bufs >= MAX_BUFS) {
		ret = -ENOSPC;
	} else {
		b->id = pool.next_id++;
		b->used_ns = ktime_get_ns();
		list_add_tail(&b->node, &pool.bufs);
		pool.nr_bufs++;
		kref_get(&b->ref);
		__module_get(THIS_MODULE);
	}
	spin_unlock(&pool_lock);
	return ret;
}

/* CREATE: fills in what it knows even when it fails. */
int pool_create(struct hearth_call *c)
{
	struct hearth_dev_create *a = &c->create;
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;
	int ret;

	if (a->flags || a->resv || a->uid == (u32)-1 || !name_valid(a->name))
		return -EINVAL;
	b = kzalloc(struct_size(b, on_node, nr_node_ids), GFP_KERNEL);
	if (!b)
		return -ENOMEM;
	kref_init(&b->ref);
	strscpy(b->name, a->name, sizeof(b->name));
	b->uid = a->uid;
	ret = buf_file(b, a->memfd);
	a->bytes = b->bytes;
	if (!ret)
		ret = charge(b);
	if (!ret)
		ret = pin(b, a->uaddr);
	a->pin_ns = ktime_get_ns() - t0;
	if (!ret)
		ret = buf_publish(b);
	if (!ret) {
		a->id = b->id;
		a->hpage_shift = b->shift;
		a->nents = b->nents;
		trace_buf(create, b, t0);
	}
	pool_put(b);
	return ret;
}

/* ---- by name ---- */

/* A reference to what is the most recently used one now, or ERR_PTR. */
struct hearth_buf *pool_get(const char *name, u64 id)
{
	struct hearth_buf *b;

	if (!name_valid(name))
		return ERR_PTR(-EINVAL);
	spin_lock(&pool_lock);
	b = find(name, id);
	if (!IS_ERR(b)) {
		b->used_ns = ktime_get_ns();
		list_move_tail(&b->node, &pool.bufs);
		kref_get(&b->ref);
	}
	spin_unlock(&pool_lock);
	return b;
}

int pool_touch(struct hearth_call *c)
{
	struct hearth_buf *b = pool_get(c->destroy.name, c->destroy.id);

	if (!IS_ERR(b))
		pool_put(b);
	return PTR_ERR_OR_ZERO(b);
}

/* Locked. The name's reference, and the module's, are the caller's now. */
void pool_unname(struct hearth_buf *b)
{
	lockdep_assert_held(&pool_lock);
	list_del(&b->node);
	pool.nr_bufs--;
}

/*
 * Locked. Nobody else has it: then nobody can get it but through its name, for
 * which the lock is needed. Files that were opened anew, and mappings of them,
 * hold the dentry.
 */
bool pool_idle(const struct hearth_buf *b)
{
	return kref_read(&b->ref) == 1 && file_count(b->memfd) == 1 &&
	       d_count(b->memfd->f_path.dentry) == 1;
}

int pool_destroy(struct hearth_call *c)
{
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;

	if (!name_valid(c->destroy.name))
		return -EINVAL;
	spin_lock(&pool_lock);
	b = find(c->destroy.name, c->destroy.id);
	if (!IS_ERR(b))
		pool_unname(b);
	spin_unlock(&pool_lock);
	if (IS_ERR(b))
		return PTR_ERR(b);
	if (kref_read(&b->ref) == 1) /* and nobody can get another one */
		pool_release(b);
	trace_buf(destroy, b, t0);
	pool_put(b);
	module_put(THIS_MODULE); /* the open device still holds one */
	return 0;
}

/* LIST: the buffer with the smallest id above the cookie. */
int pool_list(struct hearth_call *c)
{
	struct hearth_dev_list *l = &c->list;
	struct hearth_buf *b, *best = NULL;

	spin_lock(&pool_lock);
	list_for_each_entry(b, &pool.bufs, node)
		if (b->id > l->cookie && (!best || b->id < best->id))
			best = b;
	if (best) {
		memcpy(l->name, best->name, sizeof(l->name));
		l->cookie = best->id;
		l->bytes = best->bytes;
		l->id = best->id;
		l->idle_ns = ktime_get_ns() - best->used_ns;
		l->uid = best->uid;
		l->seals = pool_seals(best);
		l->open = !pool_idle(best);
		l->hpage_shift = best->shift;
	}
	spin_unlock(&pool_lock);
	return best ? 0 : -ENOENT;
}

int pool_info(struct hearth_call *c)
{
	struct hearth_dev_info *a = &c->info;
	struct hearth_buf *b;

	a->abi = HEARTH_DEV_ABI;
	if (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0))
		a->features = HEARTH_DEV_F_FOLIOS;
	spin_lock(&pool_lock);
	list_for_each_entry(b, &pool.bufs, node)
		a->nr_idle += pool_idle(b);
	a->nr_bufs = pool.nr_bufs;
	a->total_bytes = pool.bytes;
	a->nr_shrunk = pool.nr_shrunk;
	a->shrunk_bytes = pool.shrunk_bytes;
	spin_unlock(&pool_lock);
	a->max_bytes = READ_ONCE(max_bytes);
	a->uid_bytes = READ_ONCE(max_uid_bytes);
	a->watermark = READ_ONCE(watermark);
	return 0;
}
