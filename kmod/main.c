// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - hearth.ko: parameters, /dev/hearth, and the listing in debugfs.
 */
#include <linux/debugfs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "pool.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

unsigned long long max_bytes;
module_param(max_bytes, ullong, 0644);
MODULE_PARM_DESC(max_bytes,
		 "pinned by all users (default: three quarters of memory)");
unsigned long long max_uid_bytes = ~0ull;
module_param(max_uid_bytes, ullong, 0644);
MODULE_PARM_DESC(max_uid_bytes, "pinned by a user without a limit of his own");
unsigned long long watermark;
module_param(watermark, ullong, 0644);
MODULE_PARM_DESC(watermark, "bytes that a shortage of memory leaves pinned");

static struct dentry *debug_dir;

/* /sys/kernel/debug/hearth/buffers */
static int buffers_show(struct seq_file *m, void *unused)
{
	struct hearth_call c = {};
	const struct hearth_dev_list *l = &c.list;

	seq_puts(m, "id bytes page uid open sealed idle_ms name\n");
	while (!pool_list(&c) && !seq_has_overflowed(m))
		seq_printf(m, "%llu %llu %llu %u %u %u %llu %s\n", l->id,
			   l->bytes, 1ull << l->hpage_shift, l->uid, l->open,
			   !!(l->seals & F_SEAL_FUTURE_WRITE),
			   div_u64(l->idle_ns, NSEC_PER_MSEC), l->name);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(buffers);

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
	int ret;

	if (!max_bytes)
		max_bytes = (u64)totalram_pages() * 3 / 4 << PAGE_SHIFT;
	/* ids do not repeat when the module is loaded again */
	pool.next_id = ktime_get_boottime_ns();
	ret = shrink_init();
	if (ret)
		return ret;
	ret = misc_register(&hearth_misc);
	if (ret) {
		shrink_exit();
		return ret;
	}
	debug_dir = debugfs_create_dir("hearth", NULL);
	debugfs_create_file("buffers", 0400, debug_dir, NULL, &buffers_fops);
	return 0;
}

/* Nothing is left to free: each name and each dma-buf holds the module. */
static void __exit hearth_exit(void)
{
	debugfs_remove(debug_dir);
	misc_deregister(&hearth_misc);
	shrink_exit();
}

module_init(hearth_init);
module_exit(hearth_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("named, pinned buffers of huge pages that outlive processes");
MODULE_VERSION("0.1.0");
