// SPDX-License-Identifier: GPL-2.0-only
/* hearth.c - /dev/hearth: named, pinned buffers of huge pages. */
#include <linux/debugfs.h>
#include <linux/dma-buf.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/oom.h>
#include <linux/sched/signal.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/workqueue.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

static unsigned long long max_bytes, max_uid_bytes = ~0ull, watermark;
module_param(max_bytes, ullong, 0644);
MODULE_PARM_DESC(max_bytes, "pinned in all (default: 3/4 of memory)");
module_param(max_uid_bytes, ullong, 0644);
MODULE_PARM_DESC(max_uid_bytes, "pinned by a user without a limit of his own");
module_param(watermark, ullong, 0644);
MODULE_PARM_DESC(watermark, "bytes that a shortage of memory leaves pinned");

/**
 * struct buf - pinned huge pages of a memfd
 * @is:      what of it does not change
 * @ref:     the name's, one of each dma-buf, and passing ones
 * @node:    in bufs, and charged, till its pages are unpinned
 * @named:   can be found
 * @memfd:   ours; see idle()
 * @folios:  @nr of them, one pin each
 * @nr:      so many are pinned
 * @used_ns: when it was last made, attached, exported or touched
 * @on_node: of @folios, how many are on each NUMA node
 */
struct buf {
	struct hearth_dev_buf is;
	struct kref ref;
	struct list_head node;
	bool named;
	struct file *memfd;
	struct folio **folios;
	unsigned long nr;
	u64 used_ns;
	unsigned long on_node[];
};

/* An event of a buffer, since ktime_get_ns() was t0 */
#define event(what, b, t0) \
	trace_hearth_##what(&(b)->is, (s64)(ktime_get_ns() - (t0)))

/*
 * Protects the list, least recently used first, names and counters. Nothing is
 * allocated under it: the shrinker takes it in other people's allocations.
 */
static DEFINE_SPINLOCK(lock);
static LIST_HEAD(bufs);
static u64 nr_shrunk, shrunk_bytes;
static struct buf *victim; /* of the shrinker, being freed */
static atomic_t looks;	   /* for what it gave; see count() */

/* By uid, bytes: of users with a limit of their own */
static DEFINE_XARRAY_FLAGS(limits, XA_FLAGS_ACCOUNT);

/*
 * Locked. Nobody else has it, nor can get it but by its name. Files that were
 * opened anew, and mappings of them, hold the dentry.
 */
static bool idle(const struct buf *b)
{
	return b->named && kref_read(&b->ref) == 1 &&
	       file_count(b->memfd) == 1 &&
	       d_count(b->memfd->f_path.dentry) == 1;
}

/* Locked. What there is; returns the bytes that @uid is charged. */
static u64 sum(struct hearth_dev_info *all, u32 uid)
{
	struct buf *b;
	u64 used = 0;

	list_for_each_entry(b, &bufs, node) {
		all->nr_bufs += b->named;
		all->nr_idle += idle(b);
		all->total_bytes += b->is.bytes;
		used += b->is.uid == uid ? b->is.bytes : 0;
	}
	return used;
}

/* Locked. What a caller learns of it */
static void describe(struct hearth_dev_buf *a, const struct buf *b)
{
	*a = b->is;
	a->idle_ns = ktime_get_ns() - b->used_ns;
	a->seals = READ_ONCE(HUGETLBFS_I(file_inode(b->memfd))->seals);
	a->open = !idle(b);
}

/* Locked. */
static struct buf *find(const char *name)
{
	struct buf *b;

	list_for_each_entry(b, &bufs, node)
		if (b->named && !strcmp(b->is.name, name))
			return b;
	return NULL;
}

static bool name_valid(const char *s)
{
	size_t n = strnlen(s, HEARTH_DEV_NAME);

	return n && n < HEARTH_DEV_NAME &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			 "0123456789._:-") == n;
}

/*
 * A reference to what @a names, which is described there: another one, which
 * makes it the most recently used, or the name's own, and it is no more a name.
 */
static struct buf *take(struct hearth_dev_buf *a, bool unname)
{
	struct buf *b;

	if (!name_valid(a->name))
		return ERR_PTR(-EINVAL);
	spin_lock(&lock);
	b = find(a->name);
	if (!b || (a->id && a->id != b->is.id)) {
		b = ERR_PTR(b ? -ESTALE : -ENOENT);
	} else {
		describe(a, b);
		b->used_ns = ktime_get_ns();
		list_move_tail(&b->node, &bufs);
		b->named = !unname;
		if (unname)
			module_put(THIS_MODULE); /* its device is open */
		else
			kref_get(&b->ref);
	}
	spin_unlock(&lock);
	return b;
}

/* ---- making and freeing ---- */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
/* A reference is as good: what has one more than its users does not move. */
static long memfd_pin_folios(struct file *file, loff_t start, loff_t end,
			     struct folio **folios, unsigned int max,
			     pgoff_t *offset)
{
	unsigned int shift = LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
				     ? huge_page_shift(hstate_file(file))
				     : PAGE_SHIFT;

	*folios = filemap_get_folio(file->f_mapping, start >> shift);
	return IS_ERR_OR_NULL(*folios) ? -ENODATA : 1;
}
#define unpin_folio folio_put
#endif

static int pin(struct buf *b)
{
	unsigned long want = b->is.bytes >> b->is.hpage_shift;
	pgoff_t offset;
	long n;

	b->folios = kvcalloc(want, sizeof(*b->folios), GFP_KERNEL);
	if (!b->folios)
		return -ENOMEM;
	while (b->nr < want) {
		n = memfd_pin_folios(b->memfd, (u64)b->nr << b->is.hpage_shift,
				     b->is.bytes - 1, b->folios + b->nr,
				     min(want - b->nr, 512ul), &offset);
		if (n <= 0)
			return n ? n : -EFAULT;
		for (; n; n--)
			b->on_node[folio_nid(b->folios[b->nr++])]++;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static void buf_free(struct kref *ref)
{
	struct buf *b = container_of(ref, struct buf, ref);

	while (b->nr) {
		unpin_folio(b->folios[--b->nr]);
		cond_resched();
	}
	kvfree(b->folios);
	/* The memory must be back when the shrinker's worker has done with it. */
	if (b->memfd && (current->flags & PF_KTHREAD))
		__fput_sync(b->memfd);
	else if (b->memfd)
		fput(b->memfd);
	spin_lock(&lock);
	list_del(&b->node);
	spin_unlock(&lock);
	kfree(b);
}

/* A memfd (nothing else can be sealed) of huge pages, all of them there */
static int buf_file(struct buf *b, int fd)
{
	const u32 sized = F_SEAL_SHRINK | F_SEAL_GROW;
	struct inode *inode;

	b->memfd = fget(fd);
	if (!b->memfd)
		return -EBADF;
	inode = file_inode(b->memfd);
	if (inode->i_sb->s_magic != HUGETLBFS_MAGIC ||
	    (HUGETLBFS_I(inode)->seals & sized) != sized)
		return -EINVAL;
	if (!(b->memfd->f_mode & FMODE_WRITE))
		return -EACCES;
	b->is.hpage_shift = huge_page_shift(hstate_file(b->memfd));
	b->is.bytes = i_size_read(inode);
	if (!b->is.bytes || !IS_ALIGNED(b->is.bytes, 1ull << b->is.hpage_shift))
		return -EINVAL;
	return inode->i_blocks == b->is.bytes >> 9 ? 0 : -ENODATA;
}

/* Charge it and give it its name, which holds a reference and the module. */
static int publish(struct buf *b)
{
	const void *own = xa_load(&limits, b->is.uid);
	u64 limit = own ? xa_to_value(own) : READ_ONCE(max_uid_bytes), used;
	struct hearth_dev_info all = {};
	static u64 last_id;
	int ret = 0;

	spin_lock(&lock);
	used = sum(&all, b->is.uid);
	if (find(b->is.name)) {
		ret = -EEXIST;
	} else if (all.nr_bufs >= HEARTH_DEV_BUFS ||
		   all.total_bytes + b->is.bytes > READ_ONCE(max_bytes)) {
		ret = -ENOSPC;
	} else if (used + b->is.bytes > limit) {
		ret = -EDQUOT;
	} else {
		/* ids do not repeat when the module is loaded again */
		last_id = max_t(u64, last_id + 1, ktime_get_boottime_ns());
		b->is.id = last_id;
		b->used_ns = ktime_get_ns();
		b->named = true;
		list_add_tail(&b->node, &bufs);
		kref_get(&b->ref);
		__module_get(THIS_MODULE);
	}
	spin_unlock(&lock);
	return ret;
}

/* ---- as a dma-buf ---- */

/* Segments no longer than the importer can do, as each has its own table. */
static struct sg_table *buf_map(struct dma_buf_attachment *at,
				enum dma_data_direction dir)
{
	size_t max = min_t(size_t, dma_get_max_seg_size(at->dev), SZ_1G);
	struct buf *b = at->dmabuf->priv;
	unsigned long i, per = 1ul << (b->is.hpage_shift - PAGE_SHIFT);
	unsigned long n = b->nr * per;
	u64 t0 = ktime_get_ns();
	struct sg_table *sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	struct page **pages = kvmalloc_array(n, sizeof(*pages), GFP_KERNEL);
	int ret = -ENOMEM;

	if (!sgt || !pages)
		goto out;
	for (i = 0; i < n; i++)
		pages[i] = folio_page(b->folios[i / per], i % per);
	max = min(max, dma_max_mapping_size(at->dev));
	ret = sg_alloc_table_from_pages_segment(sgt, pages, n, 0, b->is.bytes,
						max, GFP_KERNEL);
	if (ret)
		goto out;
	ret = dma_map_sgtable(at->dev, sgt, dir, 0);
	if (ret)
		sg_free_table(sgt);
	else
		event(map, b, t0);
out:
	kvfree(pages);
	if (!ret)
		return sgt;
	kfree(sgt);
	return ERR_PTR(ret);
}

static void buf_unmap(struct dma_buf_attachment *at, struct sg_table *sgt,
		      enum dma_data_direction dir)
{
	u64 t0 = ktime_get_ns();

	dma_unmap_sgtable(at->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
	event(unmap, (struct buf *)at->dmabuf->priv, t0);
}

static void buf_release(struct dma_buf *dbuf)
{
	kref_put(&((struct buf *)dbuf->priv)->ref, buf_free);
}

/* No mmap: addresses would not be aligned as hugetlbfs needs it. */
static const struct dma_buf_ops buf_ops = {
	.map_dma_buf = buf_map,
	.unmap_dma_buf = buf_unmap,
	.release = buf_release,
};

/* ---- the shrinker ---- */

/*
 * Only surplus huge pages go back to the system when they are freed. A worker
 * does it, as an inode is evicted, for which locks are taken that whoever needs
 * memory may hold. A last round before the OOM killer waits for it, a little.
 */
static struct workqueue_struct *wq;
static DECLARE_WAIT_QUEUE_HEAD(done);

static void free_victim(struct work_struct *work)
{
	struct hearth_dev_buf was = victim->is;
	u64 t0 = ktime_get_ns();

	kref_put(&victim->ref, buf_free);
	trace_hearth_shrink(&was, (s64)(ktime_get_ns() - t0));
	atomic_set(&looks, 64); /* some find a page and drain nothing */
	WRITE_ONCE(victim, NULL);
	wake_up_all(&done);
}
static DECLARE_WORK(work, free_victim);

/*
 * The least recently used goes, if @really; returns how many PAGE_SIZE that
 * gives. One at a time: what the next gives shows when its pages are back.
 */
static unsigned long shrink(bool really)
{
	struct hearth_dev_info all = {};
	unsigned long gain = 0;
	unsigned int *surplus;
	struct buf *b;
	int nid;

	spin_lock(&lock);
	sum(&all, 0);
	list_for_each_entry(b, &bufs, node) {
		if (victim || !idle(b) ||
		    all.total_bytes - b->is.bytes < READ_ONCE(watermark))
			continue;
		surplus = hstate_file(b->memfd)->surplus_huge_pages_node;
		for_each_online_node(nid)
			gain += min(b->on_node[nid], 0ul + surplus[nid]);
		if (!gain)
			continue;
		gain <<= b->is.hpage_shift - PAGE_SHIFT;
		if (really) {
			b->named = false;
			module_put(THIS_MODULE); /* hearth_exit() waits */
			nr_shrunk++;
			shrunk_bytes += b->is.bytes;
			victim = b;
			queue_work(wq, &work);
		}
		break;
	}
	spin_unlock(&lock);
	return gain;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define reclaimed reclaimed_slab
#endif

/* What a victim gave is in a CPU's list, drained if reclaim got something. */
static unsigned long count(struct shrinker *s, struct shrink_control *sc)
{
	if (current->reclaim_state && !current_is_kswapd() &&
	    atomic_dec_if_positive(&looks) >= 0)
		current->reclaim_state->reclaimed += SWAP_CLUSTER_MAX;
	return shrink(false);
}

static unsigned long scan(struct shrinker *s, struct shrink_control *sc)
{
	/* at the last priority alone: all else was tried; never by kswapd */
	bool last = sc->nr_to_scan > shrink(false) * 3 / 2;

	return (last ? shrink(true) : 0) ?: SHRINK_STOP;
}

static int last_round(struct notifier_block *nb, unsigned long unused,
		      void *freed)
{
	shrink(true); /* unless reclaim did, and was faster than the worker */
	wait_event_timeout(done, !READ_ONCE(victim), 2 * HZ);
	*(unsigned long *)freed += atomic_read(&looks);
	return NOTIFY_OK;
}

static struct notifier_block oom_nb = { .notifier_call = last_round };
static struct shrinker *shrinker;

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
static struct shrinker only;
#define shrinker_alloc(flags, name) (&only)
#define shrinker_start(s)	    register_shrinker(s, "hearth")
#define shrinker_free		    unregister_shrinker
#else
#define shrinker_start(s) (shrinker_register(s), 0)
#endif

/* ---- ioctls ---- */

/* An ioctl's struct, and what becomes the caller's fd */
struct call {
	union {
		struct hearth_dev_info info;
		struct hearth_dev_buf buf;
		struct hearth_dev_limit limit;
	};
	struct file *file;
};

static int do_info(struct call *c)
{
	struct hearth_dev_info *a = &c->info;

	a->abi = HEARTH_DEV_ABI;
	a->max_bytes = READ_ONCE(max_bytes);
	a->uid_bytes = READ_ONCE(max_uid_bytes);
	a->watermark = READ_ONCE(watermark);
	spin_lock(&lock);
	sum(a, 0);
	a->nr_shrunk = nr_shrunk;
	a->shrunk_bytes = shrunk_bytes;
	spin_unlock(&lock);
	return 0;
}

static int do_create(struct call *c)
{
	struct hearth_dev_buf *a = &c->buf;
	u64 t0 = ktime_get_ns();
	struct buf *b;
	int ret;

	if (a->uid == (u32)-1 || !name_valid(a->name))
		return -EINVAL;
	b = kzalloc(struct_size(b, on_node, nr_node_ids), GFP_KERNEL);
	if (!b)
		return -ENOMEM;
	kref_init(&b->ref);
	INIT_LIST_HEAD(&b->node);
	strscpy(b->is.name, a->name, sizeof(b->is.name));
	b->is.uid = a->uid;
	b->is.fd = -1;
	ret = buf_file(b, a->fd);
	if (!ret)
		ret = pin(b);
	if (!ret)
		ret = publish(b);
	*a = b->is;
	if (!ret)
		event(create, b, t0);
	kref_put(&b->ref, buf_free);
	return ret;
}

/* A file of its own, so that its flags are this caller's. */
static int do_attach(struct call *c)
{
	int mode = c->buf.flags & HEARTH_DEV_RDONLY ? O_RDONLY : O_RDWR;
	struct buf *b = take(&c->buf, false);
	u64 t0 = ktime_get_ns();
	int ret = -EACCES;

	if (IS_ERR(b))
		return PTR_ERR(b);
	if (mode == O_RDONLY ||
	    !(c->buf.seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE))) {
		c->file = dentry_open(&b->memfd->f_path, mode | O_LARGEFILE,
				      current_cred());
		ret = PTR_ERR_OR_ZERO(c->file);
	}
	if (!ret)
		event(attach, b, t0);
	kref_put(&b->ref, buf_free);
	return ret;
}

/* Each dma-buf holds a reference. */
static int do_export(struct call *c)
{
	struct buf *b = take(&c->buf, false);
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	u64 t0 = ktime_get_ns();
	struct dma_buf *dbuf;

	if (IS_ERR(b))
		return PTR_ERR(b);
	info.ops = &buf_ops;
	info.size = b->is.bytes;
	info.flags = O_RDWR | O_CLOEXEC;
	info.priv = b;
	dbuf = dma_buf_export(&info);
	if (IS_ERR(dbuf)) {
		kref_put(&b->ref, buf_free);
		return PTR_ERR(dbuf);
	}
	c->file = dbuf->file;
	event(export, b, t0);
	return 0;
}

static int do_destroy(struct call *c)
{
	u64 t0 = ktime_get_ns();
	struct buf *b = take(&c->buf, true);

	if (IS_ERR(b))
		return PTR_ERR(b);
	kref_put(&b->ref, buf_free);
	trace_hearth_destroy(&c->buf, (s64)(ktime_get_ns() - t0));
	return 0;
}

static int do_touch(struct call *c)
{
	struct buf *b = take(&c->buf, false);

	if (!IS_ERR(b))
		kref_put(&b->ref, buf_free);
	return PTR_ERR_OR_ZERO(b);
}

static int do_list(struct call *c)
{
	struct buf *b, *best = NULL;

	spin_lock(&lock);
	list_for_each_entry(b, &bufs, node)
		if (b->named && b->is.id > c->buf.id &&
		    (!best || b->is.id < best->is.id))
			best = b;
	if (best)
		describe(&c->buf, best);
	spin_unlock(&lock);
	return best ? 0 : -ENOENT;
}

static int do_limit(struct call *c)
{
	struct hearth_dev_limit *l = &c->limit;
	struct hearth_dev_info all = {};
	void *own;
	int ret = 0;

	if ((l->flags & ~HEARTH_DEV_SET) || l->uid == (u32)-1)
		return -EINVAL;
	own = l->limit == ~0ull ? NULL
				: xa_mk_value(min_t(u64, l->limit, LONG_MAX));
	if (l->flags & HEARTH_DEV_SET)
		ret = xa_err(xa_store(&limits, l->uid, own, GFP_KERNEL));
	own = xa_load(&limits, l->uid);
	l->limit = own ? xa_to_value(own) : ~0ull;
	spin_lock(&lock);
	l->used = sum(&all, l->uid);
	spin_unlock(&lock);
	return ret;
}

static const struct row {
	unsigned int cmd; /* with direction and size of the struct */
	u32 flags;	  /* of struct hearth_dev_buf: those that are known */
	int (*fn)(struct call *c);
} rows[] = {
	{ HEARTH_DEV_IOC_INFO, 0, do_info },
	{ HEARTH_DEV_IOC_CREATE, 0, do_create },
	{ HEARTH_DEV_IOC_ATTACH, HEARTH_DEV_RDONLY, do_attach },
	{ HEARTH_DEV_IOC_EXPORT, 0, do_export },
	{ HEARTH_DEV_IOC_DESTROY, 0, do_destroy },
	{ HEARTH_DEV_IOC_LIST, 0, do_list },
	{ HEARTH_DEV_IOC_TOUCH, 0, do_touch },
	{ HEARTH_DEV_IOC_LIMIT, 0, do_limit },
};

static long hearth_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	unsigned int nr = array_index_nospec(_IOC_NR(cmd), ARRAY_SIZE(rows));
	const struct row *row = &rows[nr]; /* the first one if there is none */
	unsigned int size = _IOC_SIZE(row->cmd), usize = _IOC_SIZE(cmd);
	void __user *up = (void __user *)arg;
	struct call c = {};
	long ret;

	if ((cmd ^ row->cmd) & ~IOCSIZE_MASK)
		return -ENOTTY;
	if (usize < size) /* of the first version, when there is another */
		return -EINVAL;
	ret = cmd & IOC_IN ? copy_struct_from_user(&c, size, up, usize) : 0;
	if (ret)
		return ret;
	if (!capable(CAP_IPC_LOCK) && !capable(CAP_SYS_ADMIN))
		ret = -EPERM;
	else if (size == sizeof(c.buf) && (c.buf.flags & ~row->flags))
		ret = -EINVAL;
	else
		ret = row->fn(&c);
	if (ret == -EPERM || ret == -EACCES || ret == -EDQUOT ||
	    ret == -ENOSPC) {
		if (size != sizeof(c.buf))
			c.buf.name[0] = 0;
		c.buf.uid = from_kuid(&init_user_ns, current_uid());
		trace_hearth_denied(&c.buf, ret);
	}
	if (ret)
		return ret;
	/* An fd in the table cannot be taken back: that comes last. */
	if (c.file)
		ret = c.buf.fd = get_unused_fd_flags(O_CLOEXEC);
	if (ret >= 0 && (cmd & IOC_OUT) && copy_to_user(up, &c, size))
		ret = -EFAULT;
	if (ret >= 0 && c.file)
		fd_install(c.buf.fd, c.file);
	if (ret >= 0)
		return 0;
	/* Who could not be told of it shall not have got or made it. */
	if (c.file && c.buf.fd >= 0)
		put_unused_fd(c.buf.fd);
	if (c.file)
		fput(c.file);
	if (row->fn == do_create)
		do_destroy(&c);
	return ret;
}

/* /sys/kernel/debug/hearth/buffers */
static int buffers_show(struct seq_file *m, void *unused)
{
	struct call c = {};
	const struct hearth_dev_buf *l = &c.buf;

	seq_puts(m, "id bytes page uid open sealed idle_ms name\n");
	while (!do_list(&c) && !seq_has_overflowed(m))
		seq_printf(m, "%llu %llu %llu %u %u %u %llu %s\n", l->id,
			   l->bytes, 1ull << l->hpage_shift, l->uid, l->open,
			   !!(l->seals & F_SEAL_FUTURE_WRITE),
			   div_u64(l->idle_ns, NSEC_PER_MSEC), l->name);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(buffers);
static struct dentry *debug_dir;

static const struct file_operations hearth_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = hearth_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice hearth_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hearth",
	.fops = &hearth_fops,
	.mode = 0600,
};

static int __init hearth_init(void)
{
	int ret = -ENOMEM;

	if (!max_bytes)
		max_bytes = (u64)totalram_pages() * 3 / 4 << PAGE_SHIFT;
	wq = alloc_workqueue("hearth", WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	if (!wq)
		return ret;
	shrinker = shrinker_alloc(0, "hearth");
	if (!shrinker)
		goto err_wq;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->seeks = 2 * DEFAULT_SEEKS; /* see scan() */
	shrinker->batch = LONG_MAX / 2;
	ret = shrinker_start(shrinker);
	if (!ret)
		ret = misc_register(&hearth_misc);
	if (ret)
		goto err_shrinker;
	register_oom_notifier(&oom_nb);
	debug_dir = debugfs_create_dir("hearth", NULL);
	debugfs_create_file("buffers", 0400, debug_dir, NULL, &buffers_fops);
	return 0;
err_shrinker:
	shrinker_free(shrinker);
err_wq:
	destroy_workqueue(wq);
	return ret;
}

/* Each name and each dma-buf holds the module: so no buffer is left. */
static void __exit hearth_exit(void)
{
	debugfs_remove(debug_dir);
	misc_deregister(&hearth_misc);
	unregister_oom_notifier(&oom_nb);
	shrinker_free(shrinker);
	destroy_workqueue(wq);
	xa_destroy(&limits);
}

module_init(hearth_init);
module_exit(hearth_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("named, pinned buffers of huge pages that outlive processes");
MODULE_VERSION("0.1.0");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
