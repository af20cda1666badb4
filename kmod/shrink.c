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

static struct workqueue_struct *wq;
static DECLARE_WAIT_QUEUE_HEAD(done);

/*
 * Locked. Pages of PAGE_SIZE that the system would get for it; 0 if it must
 * stay.
 */
static unsigned long gain(const struct hearth_buf *b)
{
	unsigned long n = 0;
	int nid;

	if (!pool_idle(b) || pool.bytes < b->bytes ||
	    pool.bytes - b->bytes < READ_ONCE(watermark))
		return 0;
	for_each_online_node(nid)
		n += min_t(unsigned long, b->on_node[nid],
			   READ_ONCE(b->hstate->surplus_huge_pages_node[nid]));
	return n << (b->shift - PAGE_SHIFT);
}

/* The name's references, its own and the module's, are given up here. */
static void work_fn(struct work_struct *work)
{
	struct hearth_buf *b = pool.victim;
	u64 t0 = ktime_get_ns();

	pool_release(b);
	trace_buf(shrink, b, t0);
	spin_lock(&pool_lock);
	pool.victim = NULL;
	spin_unlock(&pool_lock);
	wake_up_all(&done);
	pool_put(b);
	module_put(THIS_MODULE); /* shrink_exit() waits for this function */
}
static DECLARE_WORK(work, work_fn);

static unsigned long count(struct shrinker *s, struct shrink_control *sc)
{
	struct hearth_buf *b;
	unsigned long n = 0;

	spin_lock(&pool_lock);
	if (!pool.victim)
		list_for_each_entry(b, &pool.bufs, node)
			n += gain(b);
	spin_unlock(&pool_lock);
	return n;
}

/*
 * One at a time: what is to be had for the others is only known when its pages
 * have come back.
 */
static unsigned long scan(struct shrinker *s, struct shrink_control *sc)
{
	struct hearth_buf *b;
	unsigned long n = 0;

	spin_lock(&pool_lock);
	list_for_each_entry(b, &pool.bufs, node) {
		n = pool.victim ? 0 : gain(b);
		if (!n)
			continue;
		pool_unname(b);
		pool.victim = b;
		pool.nr_shrunk++;
		pool.shrunk_bytes += b->bytes;
		queue_work(wq, &work);
		break;
	}
	spin_unlock(&pool_lock);
	return n ? n : SHRINK_STOP;
}

static int last_round(struct notifier_block *nb, unsigned long unused,
		      void *freed)
{
	unsigned long n = scan(NULL, NULL);

	wait_event_timeout(done, !READ_ONCE(pool.victim), HZ / 2);
	*(unsigned long *)freed += n == SHRINK_STOP ? 0 : n;
	return NOTIFY_OK;
}

static struct notifier_block oom_nb = { .notifier_call = last_round };
static struct shrinker *shrinker;

/*
 * With a batch that large a scan takes place only when about everything that
 * can be counted is asked for, which is to say that reclaim is in trouble;
 * reading files through the page cache does not get there.
 */
static int shrinker_start(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	static struct shrinker before_6_7;

	shrinker = &before_6_7;
#else
	shrinker = shrinker_alloc(0, "hearth");
	if (!shrinker)
		return -ENOMEM;
#endif
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->seeks = DEFAULT_SEEKS;
	shrinker->batch = LONG_MAX / 2;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return register_shrinker(shrinker, "hearth");
#else
	shrinker_register(shrinker);
	return 0;
#endif
}

int shrink_init(void)
{
	int ret;

	wq = alloc_workqueue("hearth", WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	if (!wq)
		return -ENOMEM;
	ret = register_oom_notifier(&oom_nb);
	if (ret)
		goto err_wq;
	ret = shrinker_start();
	if (!ret)
		return 0;
	unregister_oom_notifier(&oom_nb);
err_wq:
	destroy_workqueue(wq);
	return ret;
}

void shrink_exit(void)
{
	unregister_oom_notifier(&oom_nb);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	unregister_shrinker(shrinker);
#else
	shrinker_free(shrinker);
#endif
	destroy_workqueue(wq);
}
