// SPDX-License-Identifier: GPL-2.0-only
/*
 * pool.c - buffers by name: pinning, charging, finding, forgetting.
 */
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/ctype.h>
#include <linux/file.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "pool.h"
#include "trace.h"

#define SEALS	  (F_SEAL_SHRINK | F_SEAL_GROW)
#define MAX_USERS 4096

/**
 * struct hearth_user - a charge, or a limit, or both; else it is not kept
 * @node:  in pool.users
 * @uid:   in the initial user namespace
 * @used:  bytes of this user's buffers, with or without a name
 * @limit: ~0: max_uid_bytes
 */
struct hearth_user {
	struct list_head node;
	u32 uid;
	u64 used;
	u64 limit;
};

DEFINE_SPINLOCK(pool_lock);
struct hearth_pool pool = {
	.bufs = LIST_HEAD_INIT(pool.bufs),
	.victims = LIST_HEAD_INIT(pool.victims),
	.users = LIST_HEAD_INIT(pool.users),
};
static u32 nr_users;

u64 pool_cgroup(void)
{
	u64 id;

	rcu_read_lock();
	id = cgroup_id(task_dfl_cgroup(current));
	rcu_read_unlock();
	return id;
}

u32 pool_seals(const struct hearth_buf *b)
{
	return READ_ONCE(HUGETLBFS_I(file_inode(b->memfd))->seals);
}

/* ---- users ---- */

static struct hearth_user *user_find(u32 uid)
{
	struct hearth_user *u;

	lockdep_assert_held(&pool_lock);
	list_for_each_entry(u, &pool.users, node)
		if (u->uid == uid)
			return u;
	return NULL;
}

/* Locked. Adds @fresh where there is none, and says so by taking it. */
static struct hearth_user *user_add(u32 uid, struct hearth_user **fresh)
{
	struct hearth_user *u = user_find(uid);

	if (u || !*fresh || nr_users >= MAX_USERS)
		return u;
	u = *fresh;
	*fresh = NULL;
	u->uid = uid;
	u->limit = ~0ull;
	list_add(&u->node, &pool.users);
	nr_users++;
	return u;
}

/* Locked. Return: what to kfree, if nothing needs it any more. */
static struct hearth_user *user_drop(struct hearth_user *u)
{
	if (!u || u->used || u->limit != ~0ull)
		return NULL;
	list_del(&u->node);
	nr_users--;
	return u;
}

static int charge(struct hearth_buf *b)
{
	struct hearth_user *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL);
	struct hearth_user *u, *gone = NULL;
	u64 limit, max = READ_ONCE(max_bytes);
	int ret = 0;

	if (!fresh)
		return -ENOMEM;
	spin_lock(&pool_lock);
	u = user_add(b->uid, &fresh);
	limit = !u ? 0 : u->limit != ~0ull ? u->limit : READ_ONCE(max_uid_bytes);
	if (!u || pool.bytes > max || b->bytes > max - pool.bytes)
		ret = -ENOSPC;
	else if (u->used > limit || b->bytes > limit - u->used)
		ret = -EDQUOT;
	if (ret) {
		gone = user_drop(u);
	} else {
		u->used += b->bytes;
		pool.bytes += b->bytes;
		b->user = u;
	}
	spin_unlock(&pool_lock);
	kfree(fresh);
	kfree(gone);
	return ret;
}

static void uncharge(struct hearth_buf *b)
{
	struct hearth_user *gone;

	if (!b->user)
		return;
	spin_lock(&pool_lock);
	pool.bytes -= b->bytes;
	b->user->used -= b->bytes;
	gone = user_drop(b->user);
	b->user = NULL;
	spin_unlock(&pool_lock);
	kfree(gone);
}

int pool_limit(struct hearth_dev_limit *a)
{
	struct hearth_user *fresh = NULL, *u, *gone;
	int ret = 0;

	if ((a->flags & ~HEARTH_DEV_SET) || a->uid == (u32)-1)
		return -EINVAL;
	if (a->flags & HEARTH_DEV_SET) {
		fresh = kzalloc(sizeof(*fresh), GFP_KERNEL);
		if (!fresh)
			return -ENOMEM;
	}
	spin_lock(&pool_lock);
	u = user_add(a->uid, &fresh);
	if (u && (a->flags & HEARTH_DEV_SET))
		u->limit = a->limit;
	else if (a->flags & HEARTH_DEV_SET)
		ret = -ENOSPC;
	a->limit = u ? u->limit : ~0ull;
	a->used = u ? u->used : 0;
	gone = user_drop(u);
	spin_unlock(&pool_lock);
	kfree(fresh);
	kfree(gone);
	return ret;
}

/* ---- pinning ---- */

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)

static void unpin(struct hearth_buf *b)
{
	unpin_folios(b->folios, b->nr);
}

static int pin_some(struct hearth_buf *b, unsigned long left, u64 uaddr)
{
	loff_t at = (loff_t)b->nr << b->shift;
	pgoff_t offset;

	return memfd_pin_folios(b->memfd, at, b->bytes - 1, b->folios + b->nr,
				min(left, 512ul), &offset);
}

#else

static void unpin(struct hearth_buf *b)
{
	unsigned long i;

	for (i = 0; i < b->nr; i++)
		unpin_user_page(&b->folios[i]->page);
}

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
	if (b->nr)
		unpin(b);
	b->nr = 0;
	kvfree(b->folios);
	b->folios = NULL;
	uncharge(b);
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

static int check_name(const char *s)
{
	size_t i, n = strnlen(s, HEARTH_DEV_NAME);

	if (!n || n == HEARTH_DEV_NAME)
		return -EINVAL;
	for (i = 0; i < n; i++)
		if (!(isascii(s[i]) && isalnum(s[i])) && !strchr("._:-", s[i]))
			return -EINVAL;
	return 0;
}

static struct hearth_buf *find(const char *name)
{
	struct hearth_buf *b;

	lockdep_assert_held(&pool_lock);
	list_for_each_entry(b, &pool.bufs, node)
		if (!strcmp(b->name, name))
			return b;
	return NULL;
}

/*
 * The file of a memfd of huge pages that will keep its size and has all its
 * pages. (is_file_hugepages() needs what is not exported; files that were not
 * made by memfd_create() cannot be sealed.)
 */
static int buf_file(struct hearth_buf *b, int fd)
{
	struct inode *inode;

	b->memfd = fget(fd);
	if (!b->memfd)
		return -EBADF;
	inode = file_inode(b->memfd);
	if (inode->i_sb->s_magic != HUGETLBFS_MAGIC || !S_ISREG(inode->i_mode))
		return -EINVAL;
	if ((pool_seals(b) & SEALS) != SEALS)
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

/* Gives it its name; consumes nothing. */
static int buf_publish(struct hearth_buf *b)
{
	int ret = 0;

	spin_lock(&pool_lock);
	if (find(b->name)) {
		ret = -EEXIST;
	} else if (pool.nr_bufs >= HEARTH_MAX_BUFS) {
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

/**
 * pool_create() - pin a memfd and give it a name
 * @a: from user space; filled in even on error as far as it is known
 */
int pool_create(struct hearth_dev_create *a)
{
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;
	int ret;

	if (a->flags || a->resv || a->uid == (u32)-1 || check_name(a->name))
		return -EINVAL;
	b = pool_get(a->name); /* before minutes of work */
	if (!IS_ERR(b)) {
		pool_put(b);
		return -EEXIST;
	}
	b = kzalloc(struct_size(b, on_node, nr_node_ids), GFP_KERNEL);
	if (!b)
		return -ENOMEM;
	kref_init(&b->ref);
	strscpy(b->name, a->name, sizeof(b->name));
	b->uid = a->uid;
	ret = buf_file(b, a->memfd);
	if (ret)
		goto out;
	a->bytes = b->bytes;
	ret = charge(b);
	if (ret)
		goto out;
	ret = pin(b, a->uaddr);
	if (ret)
		goto out;
	a->pin_ns = ktime_get_ns() - t0;
	ret = buf_publish(b);
	if (ret)
		goto out;
	a->id = b->id;
	a->hpage_shift = b->shift;
	a->nents = b->nents;
	trace_hearth_create(b, a->pin_ns);
out:
	pool_put(b);
	return ret;
}

/* ---- by name ---- */

/* A reference, as it is used now. Return: it, or ERR_PTR. */
struct hearth_buf *pool_get(const char *name)
{
	struct hearth_buf *b;

	if (check_name(name))
		return ERR_PTR(-EINVAL);
	spin_lock(&pool_lock);
	b = find(name);
	if (b)
		kref_get(&b->ref);
	spin_unlock(&pool_lock);
	return b ? b : ERR_PTR(-ENOENT);
}

/* Locked. The name's reference, and the module's, are the caller's now. */
void pool_unname(struct hearth_buf *b)
{
	lockdep_assert_held(&pool_lock);
	list_del_init(&b->node);
	pool.nr_bufs--;
}

/*
 * Locked. Nobody else has it: then nobody can get it but through its name, for
 * which the lock is needed. Files that were opened anew, and mappings of them,
 * hold the dentry.
 */
bool pool_idle(struct hearth_buf *b)
{
	return kref_read(&b->ref) == 1 && file_count(b->memfd) == 1 &&
	       d_count(b->memfd->f_path.dentry) == 1;
}

/* Locked. Return: the buffer, if @a names it and its id. */
static struct hearth_buf *find_id(const struct hearth_dev_destroy *a)
{
	struct hearth_buf *b = find(a->name);

	if (!b)
		return ERR_PTR(-ENOENT);
	return a->id && a->id != b->id ? ERR_PTR(-ESTALE) : b;
}

int pool_destroy(const struct hearth_dev_destroy *a)
{
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;

	if (check_name(a->name))
		return -EINVAL;
	spin_lock(&pool_lock);
	b = find_id(a);
	if (!IS_ERR(b))
		pool_unname(b);
	spin_unlock(&pool_lock);
	if (IS_ERR(b))
		return PTR_ERR(b);
	if (kref_read(&b->ref) == 1) /* and nobody can get another one */
		pool_release(b);
	trace_hearth_destroy(b, ktime_get_ns() - t0);
	pool_put(b);
	module_put(THIS_MODULE); /* the open device still holds one */
	return 0;
}

int pool_touch(const struct hearth_dev_destroy *a)
{
	struct hearth_buf *b;

	if (check_name(a->name))
		return -EINVAL;
	spin_lock(&pool_lock);
	b = find_id(a);
	if (!IS_ERR(b)) {
		b->used_ns = ktime_get_ns();
		list_move_tail(&b->node, &pool.bufs);
	}
	spin_unlock(&pool_lock);
	return PTR_ERR_OR_ZERO(b);
}

/**
 * pool_next() - the buffer with the smallest id above a cookie
 * @l: in: cookie; out: all of it
 * Return: 0, or -ENOENT.
 */
int pool_next(struct hearth_dev_list *l)
{
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

void pool_info(struct hearth_dev_info *a)
{
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
}
