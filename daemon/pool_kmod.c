/* SPDX-License-Identifier: MIT */
/*
 * pool_kmod.c - weights that the kernel module keeps, in pinned huge pages.
 *
 * An object that is not sealed against writing was never finished by who made
 * it: it is dropped at open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kmod/uapi/hearth.h"
#include "log.h"
#include "pool_priv.h"

struct kmod {
	int dev;
};

_Static_assert(POOL_NAME == HEARTH_DEV_NAME, "names");

static int call(struct pool *p, unsigned long cmd, void *arg)
{
	struct kmod *k = p->priv;

	return ioctl(k->dev, cmd, arg) < 0 ? -errno : 0;
}

/* Call @fn for each name; -ENOENT is the end. */
static int each(struct pool *p,
		void (*fn)(struct pool *p, const struct hearth_dev_buf *l,
			   void *arg),
		void *arg)
{
	struct hearth_dev_buf l = { 0 };
	int err;

	while (!(err = call(p, HEARTH_DEV_IOC_LIST, &l))) {
		l.name[HEARTH_DEV_NAME - 1] = 0;
		if (pool_name_valid(l.name))
			fn(p, &l, arg);
	}
	return err == -ENOENT ? 0 : err;
}

static void drop_torn(struct pool *p, const struct hearth_dev_buf *l, void *arg)
{
	struct hearth_dev_buf d = *l;

	(void)arg;
	if (l->seals & F_SEAL_FUTURE_WRITE)
		return;
	log_warnx("pool: dropping %.16s..., which was never finished", l->name);
	call(p, HEARTH_DEV_IOC_DESTROY, &d);
}

static int check_dev(struct pool *p, char why[160])
{
	struct hearth_dev_info info = { 0 };
	struct kmod *k = p->priv;
	struct pool_huge h;
	int err;

	k->dev = open(HEARTH_DEV_PATH, O_RDWR | O_CLOEXEC);
	if (k->dev < 0)
		return say_why(why, -ENODEV, "module: %s: %s", HEARTH_DEV_PATH,
			       strerrordesc_np(errno));
	err = call(p, HEARTH_DEV_IOC_INFO, &info);
	if (err)
		return say_why(why, err, "module: INFO: %s",
			       strerrordesc_np(-err));
	if (info.abi != HEARTH_DEV_ABI)
		return say_why(why, -ENODEV,
			       "module: speaks version %u, this daemon %u",
			       info.abi, HEARTH_DEV_ABI);
	if (pool_huge_read(&h, 0))
		return say_why(why, -ENODEV,
			       "module: this kernel has no huge pages");
	p->page = h.page;
	err = pool_huge_use(p, info.nr_bufs, "module", why);
	return err ? err : pool_lock(k->dev, HEARTH_DEV_PATH, why);
}

static void kmod_close(struct pool *p)
{
	struct kmod *k = p->priv;

	if (k->dev >= 0)
		close(k->dev);
	free(k);
	p->priv = NULL;
}

static int kmod_open(struct pool *p, char why[160])
{
	struct kmod *k = calloc(1, sizeof(*k));
	int err;

	if (!k)
		return say_why(why, -ENOMEM, "module: no memory");
	k->dev = -1;
	p->priv = k;
	err = check_dev(p, why);
	if (!err)
		err = each(p, drop_torn, NULL);
	if (err) {
		kmod_close(p);
		return err;
	}
	snprintf(p->text, sizeof(p->text), "module (%s), %llu KiB pages",
		 HEARTH_DEV_PATH, (unsigned long long)(p->page >> 10));
	return 0;
}

static uint64_t kmod_free(struct pool *p)
{
	struct hearth_dev_info info = { 0 };
	struct pool_huge h;
	uint64_t n;

	if (pool_huge_read(&h, p->page) || call(p, HEARTH_DEV_IOC_INFO, &info))
		return 0;
	n = info.max_bytes > info.total_bytes
		    ? info.max_bytes - info.total_bytes
		    : 0;
	return h.free * h.page < n ? h.free * h.page : n;
}

static int check_quota(struct pool *p, uint64_t bytes, uint32_t uid,
		       char why[160])
{
	struct hearth_dev_limit l = { .uid = uid };
	struct hearth_dev_info info = { 0 };
	uint64_t limit;

	if (call(p, HEARTH_DEV_IOC_INFO, &info) ||
	    call(p, HEARTH_DEV_IOC_LIMIT, &l))
		return 0; /* CREATE is who decides */
	if (info.total_bytes + bytes > info.max_bytes)
		return say_why(why, -ENOSPC,
			       "pool: %llu MiB and %llu MiB are over the "
			       "module's max_bytes (%llu MiB)",
			       (unsigned long long)(info.total_bytes >> 20),
			       (unsigned long long)(bytes >> 20),
			       (unsigned long long)(info.max_bytes >> 20));
	limit = l.limit == ~0ull ? info.uid_bytes : l.limit;
	if (l.used + bytes > limit)
		return say_why(why, -EDQUOT,
			       "pool: %llu MiB and %llu MiB are over the "
			       "limit of uid %u (%llu MiB)",
			       (unsigned long long)(l.used >> 20),
			       (unsigned long long)(bytes >> 20), uid,
			       (unsigned long long)(limit >> 20));
	return 0;
}

static int kmod_create(struct pool *p, uint64_t *bytes, uint32_t uid, int *fd,
		       char why[160])
{
	struct pool_huge h;
	int err;

	*bytes = (*bytes + p->page - 1) / p->page * p->page;
	err = check_quota(p, *bytes, uid, why);
	if (err)
		return err;
	err = pool_huge_read(&h, p->page);
	if (err)
		return say_why(why, err, "pool: no huge pages");
	if (*bytes > h.free * h.page)
		return pool_short(why, "huge pages (nr_hugepages)", *bytes,
				  h.free * h.page);
	*fd = pool_huge_memfd(*bytes);
	if (*fd < 0)
		return say_why(why, *fd, "pool: %llu MiB of huge pages: %s",
			       (unsigned long long)(*bytes >> 20),
			       strerrordesc_np(-*fd));
	return 0;
}

static int kmod_publish(struct pool *p, int fd, const char *name, uint32_t uid,
			char why[160])
{
	struct hearth_dev_buf b = { .fd = fd, .uid = uid };
	int err;

	if (fchmod(fd, 0400))
		return say_why(why, -errno, "pool: fchmod: %s",
			       strerrordesc_np(errno));
	snprintf(b.name, sizeof(b.name), "%s", name);
	err = call(p, HEARTH_DEV_IOC_CREATE, &b);
	if (err)
		return say_why(why, err, "pool: the module refuses it: %s",
			       strerrordesc_np(-err));
	/* Pinned before it is sealed: a pin is one for writing. */
	if (!fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
		return 0;
	err = -errno;
	call(p, HEARTH_DEV_IOC_DESTROY, &b);
	return say_why(why, err, "pool: seal: %s", strerrordesc_np(-err));
}

static int kmod_attach(struct pool *p, const char *name, int *fd)
{
	struct hearth_dev_buf g = { .flags = HEARTH_DEV_RDONLY };
	int err;

	snprintf(g.name, sizeof(g.name), "%s", name);
	err = call(p, HEARTH_DEV_IOC_ATTACH, &g);
	if (!err)
		*fd = g.fd;
	return err;
}

struct listing {
	void (*fn)(void *arg, const struct pool_entry *e);
	void *arg;
};

static void list_one(struct pool *p, const struct hearth_dev_buf *l, void *arg)
{
	struct pool_entry e = { .bytes = l->bytes,
				.idle_ns = l->idle_ns,
				.open = l->open };
	struct listing *ls = arg;

	(void)p;
	memcpy(e.name, l->name, sizeof(e.name));
	ls->fn(ls->arg, &e);
}

static int kmod_list(struct pool *p,
		     void (*fn)(void *arg, const struct pool_entry *e),
		     void *arg)
{
	struct listing ls = { fn, arg };

	return each(p, list_one, &ls);
}

static int kmod_destroy(struct pool *p, const char *name)
{
	struct hearth_dev_buf d = { 0 };

	snprintf(d.name, sizeof(d.name), "%s", name);
	return call(p, HEARTH_DEV_IOC_DESTROY, &d);
}

static void kmod_touch(struct pool *p, const char *name)
{
	struct hearth_dev_buf d = { 0 };

	snprintf(d.name, sizeof(d.name), "%s", name);
	call(p, HEARTH_DEV_IOC_TOUCH, &d);
}

const struct pool_ops pool_kmod = {
	.name = "module",
	.open = kmod_open,
	.close = kmod_close,
	.create = kmod_create,
	.publish = kmod_publish,
	.attach = kmod_attach,
	.list = kmod_list,
	.destroy = kmod_destroy,
	.touch = kmod_touch,
	.free = kmod_free,
};
