// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl.c - the table of ioctls; privilege, size and direction are checked once.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/uaccess.h>

#include "pool.h"
#include "trace.h"

static_assert(sizeof(struct hearth_dev_info) == 64);
static_assert(sizeof(struct hearth_dev_create) == 152);
static_assert(sizeof(struct hearth_dev_get) == 136);
static_assert(sizeof(struct hearth_dev_destroy) == 104);
static_assert(sizeof(struct hearth_dev_list) == 144);
static_assert(sizeof(struct hearth_dev_limit) == 24);

/**
 * struct row - an ioctl
 * @cmd: its number, with direction and size of the struct as we know it
 * @min: bytes that the caller's struct has at least
 * @named: the struct begins with a name
 * @fn:  works on the kernel's copy
 */
struct row {
	unsigned int cmd;
	size_t min;
	bool named;
	int (*fn)(struct hearth_call *c);
};

void call_describe(struct hearth_call *c, const struct hearth_buf *b)
{
	c->get.bytes = b->bytes;
	c->get.id = b->id;
	c->get.hpage_shift = b->shift;
	c->get.seals = pool_seals(b);
	c->get.uid = b->uid;
}

/* A file of its own, so that its flags are this caller's. */
static int attach(struct hearth_call *c)
{
	bool ro = c->get.flags & HEARTH_DEV_RDONLY;
	u64 t0 = ktime_get_ns();
	struct hearth_buf *b;
	int ret = -EACCES;

	if ((c->get.flags & ~HEARTH_DEV_RDONLY) || c->get.resv)
		return -EINVAL;
	b = pool_get(c->get.name, 0);
	if (IS_ERR(b))
		return PTR_ERR(b);
	call_describe(c, b);
	if (!ro && (c->get.seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)))
		goto out;
	c->file = dentry_open(&b->memfd->f_path,
			      (ro ? O_RDONLY : O_RDWR) | O_LARGEFILE,
			      current_cred());
	ret = PTR_ERR_OR_ZERO(c->file);
	if (!ret)
		trace_buf(attach, b, t0);
out:
	pool_put(b);
	return ret;
}

#define END(s, field) offsetofend(struct hearth_dev_##s, field)
/* clang-format off */
static const struct row rows[] = {
	{ HEARTH_DEV_IOC_INFO,    END(info, features), 0, pool_info },
	{ HEARTH_DEV_IOC_CREATE,  END(create, resv),   1, pool_create },
	{ HEARTH_DEV_IOC_ATTACH,  END(get, fd),        1, attach },
	{ HEARTH_DEV_IOC_EXPORT,  END(get, fd),        1, dmabuf_export },
	{ HEARTH_DEV_IOC_DESTROY, END(destroy, name),  1, pool_destroy },
	{ HEARTH_DEV_IOC_LIST,    END(list, name),     0, pool_list },
	{ HEARTH_DEV_IOC_TOUCH,   END(destroy, name),  1, pool_touch },
	{ HEARTH_DEV_IOC_LIMIT,   END(limit, used),    0, pool_limit },
};
/* clang-format on */

/* For the administrator: what was forbidden, to whom. */
static void denied(const struct row *row, struct hearth_call *c, int err)
{
	if (err != -EPERM && err != -EACCES && err != -EDQUOT && err != -ENOSPC)
		return;
	c->create.name[HEARTH_DEV_NAME - 1] = 0;
	trace_hearth_denied(row->named ? c->create.name : "",
			    row->fn == pool_create ? c->create.bytes : 0,
			    from_kuid(&init_user_ns, current_uid()), err);
}

/* Who could not be told of it shall not have made it. */
static void uncreate(const struct hearth_call *c)
{
	struct hearth_call d = { .destroy = { .id = c->create.id } };

	strscpy(d.destroy.name, c->create.name, sizeof(d.destroy.name));
	pool_destroy(&d);
}

/* An fd that is in the table cannot be taken back: so copy out first. */
static long finish(struct hearth_call *c, size_t bytes, void __user *up)
{
	int fd = -1;

	if (c->file) {
		fd = get_unused_fd_flags(O_CLOEXEC);
		if (fd < 0) {
			fput(c->file);
			return fd;
		}
		c->get.fd = fd;
	}
	if (!copy_to_user(up, c, bytes)) {
		if (c->file)
			fd_install(fd, c->file);
		return 0;
	}
	if (c->file) {
		put_unused_fd(fd);
		fput(c->file);
	}
	return -EFAULT;
}

long hearth_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	void __user *up = (void __user *)arg;
	size_t size, usize = _IOC_SIZE(cmd);
	struct hearth_call c = {};
	const struct row *row;
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
		ret = copy_struct_from_user(&c, size, up, usize);
		if (ret)
			return ret;
	}
	ret = capable(CAP_IPC_LOCK) || capable(CAP_SYS_ADMIN) ? row->fn(&c)
							      : -EPERM;
	denied(row, &c, ret);
	if (ret || !(_IOC_DIR(cmd) & _IOC_READ))
		return ret;
	ret = finish(&c, min(size, usize), up);
	if (ret && row->fn == pool_create)
		uncreate(&c);
	return ret;
}
