// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl.c - the table of ioctls; privilege, size and direction are checked once.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pool.h"
#include "trace.h"

static_assert(sizeof(struct hearth_dev_info) == 64);
static_assert(sizeof(struct hearth_dev_create) == 152);
static_assert(sizeof(struct hearth_dev_get) == 136);
static_assert(sizeof(struct hearth_dev_destroy) == 104);
static_assert(sizeof(struct hearth_dev_list) == 144);
static_assert(sizeof(struct hearth_dev_limit) == 24);

union arg {
	struct hearth_dev_info info;
	struct hearth_dev_create create;
	struct hearth_dev_get get;
	struct hearth_dev_destroy destroy;
	struct hearth_dev_list list;
	struct hearth_dev_limit limit;
};

/**
 * struct row - an ioctl
 * @cmd: its number, with direction and size of the struct as we know it
 * @min: bytes that the caller's struct has at least
 * @fn:  works on the kernel's copy; may leave a file that becomes arg.get.fd
 */
struct row {
	unsigned int cmd;
	size_t min;
	int (*fn)(union arg *a, struct file **file);
};

static int do_info(union arg *a, struct file **file)
{
	pool_info(&a->info);
	return 0;
}

static int do_create(union arg *a, struct file **file)
{
	return pool_create(&a->create);
}

static void describe(struct hearth_dev_get *g, const struct hearth_buf *b)
{
	g->bytes = b->bytes;
	g->id = b->id;
	g->hpage_shift = b->shift;
	g->seals = pool_seals(b);
	g->uid = b->uid;
}

/* A file of its own, so that the flags and the rights are this caller's. */
static int do_attach(union arg *a, struct file **file)
{
	bool ro = a->get.flags & HEARTH_DEV_RDONLY;
	struct hearth_dev_destroy used = {};
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;
	int ret;

	if ((a->get.flags & ~HEARTH_DEV_RDONLY) || a->get.resv)
		return -EINVAL;
	b = pool_get(a->get.name);
	if (IS_ERR(b))
		return PTR_ERR(b);
	describe(&a->get, b);
	ret = -EACCES;
	if (!ro && (a->get.seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)))
		goto out;
	*file = dentry_open(&b->memfd->f_path,
			    (ro ? O_RDONLY : O_RDWR) | O_LARGEFILE,
			    current_cred());
	ret = PTR_ERR_OR_ZERO(*file);
	if (ret)
		goto out;
	memcpy(used.name, b->name, sizeof(used.name));
	used.id = b->id;
	pool_touch(&used); /* fails if it was destroyed meanwhile: no matter */
	trace_hearth_attach(b, ktime_get_ns() - t0);
out:
	pool_put(b);
	return ret;
}

static int do_export(union arg *a, struct file **file)
{
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;
	int ret;

	if (a->get.flags || a->get.resv)
		return -EINVAL;
	b = pool_get(a->get.name);
	if (IS_ERR(b))
		return PTR_ERR(b);
	describe(&a->get, b);
	*file = dmabuf_file(b);
	ret = PTR_ERR_OR_ZERO(*file);
	if (!ret)
		trace_hearth_export(b, ktime_get_ns() - t0);
	pool_put(b);
	return ret;
}

static int do_destroy(union arg *a, struct file **file)
{
	return pool_destroy(&a->destroy);
}

static int do_list(union arg *a, struct file **file)
{
	return pool_next(&a->list);
}

static int do_touch(union arg *a, struct file **file)
{
	return pool_touch(&a->destroy);
}

static int do_limit(union arg *a, struct file **file)
{
	return pool_limit(&a->limit);
}

#define END(s, field) offsetofend(struct hearth_dev_##s, field)
/* clang-format off */
static const struct row rows[] = {
	{ HEARTH_DEV_IOC_INFO,    END(info, features), do_info },
	{ HEARTH_DEV_IOC_CREATE,  END(create, resv),   do_create },
	{ HEARTH_DEV_IOC_ATTACH,  END(get, fd),        do_attach },
	{ HEARTH_DEV_IOC_EXPORT,  END(get, fd),        do_export },
	{ HEARTH_DEV_IOC_DESTROY, END(destroy, name),  do_destroy },
	{ HEARTH_DEV_IOC_LIST,    END(list, name),     do_list },
	{ HEARTH_DEV_IOC_TOUCH,   END(destroy, name),  do_touch },
	{ HEARTH_DEV_IOC_LIMIT,   END(limit, used),    do_limit },
};
/* clang-format on */

static bool privileged(void)
{
	return capable(CAP_IPC_LOCK) || capable(CAP_SYS_ADMIN);
}

/* What a system administrator would want to know of. */
static void denied(unsigned int cmd, const union arg *a, int err)
{
	static const char none[HEARTH_DEV_NAME];
	const char *name = none;
	u64 bytes = 0;

	if (err != -EPERM && err != -EACCES && err != -EDQUOT && err != -ENOSPC)
		return;
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(HEARTH_DEV_IOC_CREATE):
		bytes = a->create.bytes;
		fallthrough;
	case _IOC_NR(HEARTH_DEV_IOC_ATTACH):
	case _IOC_NR(HEARTH_DEV_IOC_EXPORT):
	case _IOC_NR(HEARTH_DEV_IOC_DESTROY):
	case _IOC_NR(HEARTH_DEV_IOC_TOUCH):
		name = a->create.name; /* the first field of each of them */
	}
	trace_hearth_denied(_IOC_NR(cmd), name, bytes,
			    from_kuid(&init_user_ns, current_uid()), err);
}

/* An fd that is in the table cannot be taken back: so copy out first. */
static long finish(union arg *a, size_t bytes, void __user *up,
		   struct file *file)
{
	if (file) {
		a->get.fd = get_unused_fd_flags(O_CLOEXEC);
		if (a->get.fd < 0) {
			fput(file);
			return a->get.fd;
		}
	}
	if (copy_to_user(up, a, bytes)) {
		if (file) {
			put_unused_fd(a->get.fd);
			fput(file);
		}
		return -EFAULT;
	}
	if (file)
		fd_install(a->get.fd, file);
	return 0;
}

long hearth_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	void __user *up = (void __user *)arg;
	size_t size, usize = _IOC_SIZE(cmd);
	struct file *file = NULL;
	const struct row *row;
	union arg a = {};
	int ret;

	if (_IOC_NR(cmd) >= ARRAY_SIZE(rows))
		return -ENOTTY;
	row = &rows[_IOC_NR(cmd)];
	if ((cmd ^ row->cmd) & ~IOCSIZE_MASK)
		return -ENOTTY;
	size = _IOC_SIZE(row->cmd);
	if (usize < row->min)
		return -EINVAL;
	if (_IOC_DIR(cmd) & _IOC_WRITE) {
		ret = copy_struct_from_user(&a, size, up, usize);
		if (ret)
			return ret;
	}
	ret = privileged() ? row->fn(&a, &file) : -EPERM;
	if (ret) {
		denied(cmd, &a, ret);
		return ret;
	}
	if (!(_IOC_DIR(cmd) & _IOC_READ))
		return 0;
	return finish(&a, min(size, usize), up, file);
}
