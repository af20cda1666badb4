// SPDX-License-Identifier: GPL-2.0-only
/*
 * shrink.c - gives idle buffers back when the kernel is short of memory.
 *
 * Huge pages of the persistent pool stay in the pool when they are freed, which
 * helps nobody; surplus ones go back to the system. So a buffer may go only
 * when nobody has it but its name and some of its pages are on nodes with
 * surplus pages of that size, the least recently used one first.
 *
 * Freeing ends in the eviction of an inode, which takes locks that whoever
 * needs memory may hold. So a worker does it, and reclaim does not wait for it.
 * Before the OOM killer strikes there is a last round that does wait, a little.
 */
#include <linux/hugetlb.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/shrinker.h>
#include <linux/version.h>
#include <linux/workqueue.h>

#include "pool.h"
#include "trace.h"

#define OOM_WAIT (HZ / 2)

static struct workqueue_struct *wq;
static DECLARE_WAIT_QUEUE_HEAD(done);

/* Locked. Pages of PAGE_SIZE that the system would get for it. */
static unsigned long gain(struct hearth_buf *b)
{
	unsigned long n = 0;
	int nid;

	if (!pool_idle(b))
		return 0;
	for_each_online_node(nid)
		n += min_t(unsigned long, b->on_node[nid],
			   READ_ONCE(b->hstate->surplus_huge_pages_node[nid]));
	return n << (b->shift - PAGE_SHIFT);
}

/* Locked. May it go without leaving less than the watermark? */
static bool spare(const struct hearth_buf *b)
{
	u64 keep = READ_ONCE(watermark);

	return pool.bytes >= b->bytes && pool.bytes - b->bytes >= keep;
}

/* Locked. Take the least recently used one that is worth it, if none is going. */
static unsigned long take_one(void)
{
	struct hearth_buf *b;
	unsigned long n;

	lockdep_assert_held(&pool_lock);
	if (!list_empty(&pool.victims))
		return 0;
	list_for_each_entry(b, &pool.bufs, node) {
		n = spare(b) ? gain(b) : 0;
		if (!n)
			continue;
		pool_unname(b);
		list_add_tail(&b->node, &pool.victims);
		pool.nr_shrunk++;
		pool.shrunk_bytes += b->bytes;
		return n;
	}
	return 0;
}

/* The name's references, its own and the module's, are given up here. */
static void work_fn(struct work_struct *work)
{
	struct hearth_buf *b;
	u64 t0 = ktime_get_ns();

	spin_lock(&pool_lock);
	b = list_first_entry_or_null(&pool.victims, struct hearth_buf, node);
	spin_unlock(&pool_lock);
	if (!b)
		return;
	pool_release(b);
	trace_hearth_shrink(b, ktime_get_ns() - t0);
	spin_lock(&pool_lock);
	list_del(&b->node);
	spin_unlock(&pool_lock);
	wake_up_all(&done);
	pool_put(b);
	module_put(THIS_MODULE); /* shrink_exit() waits for this function */
}
static DECLARE_WORK(work, work_fn);

static unsigned long take(void)
{
	unsigned long n;

	spin_lock(&pool_lock);
	n = take_one();
	spin_unlock(&pool_lock);
	if (n)
		queue_work(wq, &work);
	return n;
}

static unsigned long count(struct shrinker *s, struct shrink_control *sc)
{
	struct hearth_buf *b;
	unsigned long n = 0;

	spin_lock(&pool_lock);
	if (list_empty(&pool.victims))
		list_for_each_entry(b, &pool.bufs, node)
			n += spare(b) ? gain(b) : 0;
	spin_unlock(&pool_lock);
	return n;
}

static unsigned long scan(struct shrinker *s, struct shrink_control *sc)
{
	unsigned long n = take();

	return n ? n : SHRINK_STOP;
}

static int last_round(struct notifier_block *nb, unsigned long unused,
		      void *freed)
{
	unsigned long n = take();

	wait_event_timeout(done, list_empty(&pool.victims), OOM_WAIT);
	*(unsigned long *)freed += n;
	return NOTIFY_OK;
}

static struct notifier_block oom_nb = { .notifier_call = last_round };

/*
 * With a batch that large a scan takes place only when about everything that
 * can be counted is asked for, which is to say that reclaim is in trouble;
 * reading files through the page cache does not get there.
 */
#define BATCH (LONG_MAX / 2)

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)

static struct shrinker *shrinker;

static int shrinker_start(void)
{
	shrinker = shrinker_alloc(0, "hearth");
	if (!shrinker)
		return -ENOMEM;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->batch = BATCH;
	shrinker_register(shrinker);
	return 0;
}

static void shrinker_stop(void)
{
	shrinker_free(shrinker);
}

#else

static struct shrinker shrinker = {
	.count_objects = count,
	.scan_objects = scan,
	.batch = BATCH,
	.seeks = DEFAULT_SEEKS,
};

static int shrinker_start(void)
{
	return register_shrinker(&shrinker, "hearth");
}

static void shrinker_stop(void)
{
	unregister_shrinker(&shrinker);
}

#endif

int shrink_init(void)
{
	int ret;

	wq = alloc_workqueue("hearth", WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	if (!wq)
		return -ENOMEM;
	ret = shrinker_start();
	if (ret)
		goto err_wq;
	ret = register_oom_notifier(&oom_nb);
	if (ret)
		goto err_shrinker;
	return 0;
err_shrinker:
	shrinker_stop();
err_wq:
	destroy_workqueue(wq);
	return ret;
}

void shrink_exit(void)
{
	unregister_oom_notifier(&oom_nb);
	shrinker_stop();
	destroy_workqueue(wq);
}
