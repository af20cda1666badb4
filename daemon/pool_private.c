/* SPDX-License-Identifier: MIT */
/*
 * pool_private.c - weights in memory of our own: they go when the daemon goes.
 *
 * Memfds, of huge pages where enough of them are free. Sealed for ever once
 * published; the list of them is here and nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "pool_priv.h"

#define MAX_OBJECTS (2 * WIRE_MAX_MODELS)

struct object {
	char name[POOL_NAME]; /* empty: free */
	uint64_t bytes;
	uint64_t t_used;
	int fd;
};

struct private
{
	struct object o[MAX_OBJECTS];
};

static struct object *find(struct pool *p, const char *name)
{
	struct private *pv = p->priv;
	size_t i;

	for (i = 0; i < MAX_OBJECTS; i++)
		if (!strcmp(pv->o[i].name, name))
			return &pv->o[i];
	return NULL;
}

static int private_open(struct pool *p, char why[160])
{
	struct private *pv = calloc(1, sizeof(*pv));
	struct pool_huge h;

	if (!pv)
		return say_why(why, -ENOMEM, "private: no memory");
	p->priv = pv;
	p->page = POOL_PAGE;
	if (!pool_huge_read(&h, 0) && h.free) {
		p->page = h.page;
		snprintf(p->text, sizeof(p->text),
			 "private memory, %llu huge pages of %llu KiB are free",
			 (unsigned long long)h.free,
			 (unsigned long long)(h.page >> 10));
	} else {
		snprintf(p->text, sizeof(p->text),
			 "private memory, 4 KiB pages");
	}
	return 0;
}

static void private_close(struct pool *p)
{
	struct private *pv = p->priv;
	size_t i;

	for (i = 0; i < MAX_OBJECTS; i++)
		if (pv->o[i].name[0])
			close(pv->o[i].fd);
	free(pv);
	p->priv = NULL;
}

static int small_memfd(uint64_t bytes)
{
	int fd = memfd_create("weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, (off_t)bytes) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int private_create(struct pool *p, uint64_t *bytes, uint32_t uid,
			  int *fd, char why[160])
{
	uint64_t have = pool_mem_free();
	struct pool_huge h;
	uint64_t n;

	(void)p;
	(void)uid;
	if (!pool_huge_read(&h, 0)) {
		n = (*bytes + h.page - 1) / h.page;
		*fd = n <= h.free ? pool_huge_memfd(n * h.page) : -ENOMEM;
		if (*fd >= 0) {
			*bytes = n * h.page;
			return 0;
		}
	}
	*bytes = (*bytes + POOL_PAGE - 1) / POOL_PAGE * POOL_PAGE;
	if (*bytes > have)
		return pool_short(why, "memory", *bytes, have);
	*fd = small_memfd(*bytes);
	if (*fd < 0)
		return say_why(why, *fd, "pool: memory cannot be had: %s",
			       strerrordesc_np(-*fd));
	return 0;
}

static int private_publish(struct pool *p, int fd, const char *name,
			   uint32_t uid, char why[160])
{
	struct object *o;
	struct stat st;
	int own;

	(void)uid;
	if (find(p, name))
		return -EEXIST;
	o = find(p, "");
	if (!o)
		return say_why(why, -ENOSPC, "pool: %d models, limit %d",
			       MAX_OBJECTS, MAX_OBJECTS);
	if (fstat(fd, &st) || fchmod(fd, 0400) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL))
		return say_why(why, -errno, "pool: seal: %s",
			       strerrordesc_np(errno));
	own = pool_reopen(fd);
	if (own < 0)
		return say_why(why, own, "pool: reopen: %s",
			       strerrordesc_np(-own));
	o->fd = own;
	o->bytes = (uint64_t)st.st_size;
	o->t_used = clock_ns();
	snprintf(o->name, sizeof(o->name), "%s", name);
	return 0;
}

static int private_attach(struct pool *p, const char *name, int *fd)
{
	struct object *o = find(p, name);

	if (!o || !*name)
		return -ENOENT;
	*fd = pool_reopen(o->fd);
	if (*fd < 0)
		return *fd;
	o->t_used = clock_ns();
	return 0;
}

static int private_list(struct pool *p,
			void (*fn)(void *arg, const struct pool_entry *e),
			void *arg)
{
	struct private *pv = p->priv;
	struct pool_entry e = { 0 };
	size_t i;

	for (i = 0; i < MAX_OBJECTS; i++) {
		if (!pv->o[i].name[0])
			continue;
		memcpy(e.name, pv->o[i].name, sizeof(e.name));
		e.bytes = pv->o[i].bytes;
		e.idle_ns = clock_ns() - pv->o[i].t_used;
		fn(arg, &e);
	}
	return 0;
}

static int private_destroy(struct pool *p, const char *name)
{
	struct object *o = find(p, name);

	if (!o || !*name)
		return -ENOENT;
	o->name[0] = 0;
	if (p->drop)
		p->drop(p->drop_arg, o->fd);
	else
		close(o->fd);
	return 0;
}

static void private_touch(struct pool *p, const char *name)
{
	struct object *o = find(p, name);

	if (o && *name)
		o->t_used = clock_ns();
}

static uint64_t private_free(struct pool *p)
{
	uint64_t n = pool_mem_free();
	struct pool_huge h;

	(void)p;
	if (!pool_huge_read(&h, 0) && h.free * h.page > n)
		n = h.free * h.page;
	return n;
}

const struct pool_ops pool_private = {
	.name = "private",
	.open = private_open,
	.close = private_close,
	.create = private_create,
	.publish = private_publish,
	.attach = private_attach,
	.list = private_list,
	.destroy = private_destroy,
	.touch = private_touch,
	.free = private_free,
};
