/* SPDX-License-Identifier: MIT */
/*
 * dev.h - for programs that torment /dev/hearth: buffers, calls, accounts.
 *
 * Calls return 0 (or an fd) or -errno.
 */
#ifndef HEARTH_TEST_DEV_H
#define HEARTH_TEST_DEV_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../kmod/uapi/hearth.h"

#define HPAGE (2ul << 20)

#define DIE(...)                                  \
	do {                                      \
		printf("not ok " __VA_ARGS__);    \
		printf(" (line %d)\n", __LINE__); \
		exit(1);                          \
	} while (0)

/* A hugetlb memfd, all of it present, sealed as CREATE wants it. */
struct buf {
	int fd;
	size_t bytes;
	char *map;
};

static inline void buf_drop(struct buf *b)
{
	if (b->map)
		munmap(b->map, b->bytes);
	if (b->fd >= 0)
		close(b->fd);
	*b = (struct buf){ .fd = -1 };
}

/* -ENOMEM when there are not as many huge pages free. */
static inline int buf_new(struct buf *b, unsigned int pages)
{
	int rc;

	*b = (struct buf){ .fd = -1, .bytes = pages * HPAGE };
	b->fd = memfd_create("weights",
			     MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (b->fd < 0 || ftruncate(b->fd, (off_t)b->bytes) ||
	    fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		goto err;
	b->map = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd,
		      0);
	if (b->map == MAP_FAILED) {
		b->map = NULL;
		goto err;
	}
	if (madvise(b->map, b->bytes, MADV_POPULATE_WRITE))
		goto err;
	return 0;
err:
	rc = errno == EFAULT ? -ENOMEM : -errno;
	buf_drop(b);
	return rc;
}

static inline void buf_make(struct buf *b, unsigned int pages)
{
	if (buf_new(b, pages))
		DIE("no %u huge pages", pages);
}

static inline int dev_open(void)
{
	int fd = open(HEARTH_DEV_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		DIE("%s: %s", HEARTH_DEV_PATH, strerror(errno));
	return fd;
}

static inline int dev_call(int d, unsigned long cmd, void *arg)
{
	return ioctl(d, cmd, arg) ? -errno : 0;
}

static inline int dev_create(int d, const char *name, const struct buf *b,
			     uint32_t uid, uint64_t *id)
{
	struct hearth_dev_buf c = { .fd = b->fd, .uid = uid };
	int rc;

	snprintf(c.name, sizeof(c.name), "%s", name);
	rc = dev_call(d, HEARTH_DEV_IOC_CREATE, &c);
	if (id)
		*id = c.id;
	return rc;
}

/* An fd: ATTACH or EXPORT. */
static inline int dev_get(int d, unsigned long cmd, const char *name,
			  uint32_t flags, uint64_t *id)
{
	struct hearth_dev_buf g = { .flags = flags };
	int rc;

	snprintf(g.name, sizeof(g.name), "%s", name);
	rc = dev_call(d, cmd, &g);
	if (id)
		*id = g.id;
	return rc ? rc : g.fd;
}

/* DESTROY or TOUCH. */
static inline int dev_name(int d, unsigned long cmd, const char *name,
			   uint64_t id)
{
	struct hearth_dev_buf x = { .id = id };

	snprintf(x.name, sizeof(x.name), "%s", name);
	return dev_call(d, cmd, &x);
}

static inline struct hearth_dev_info dev_info(int d)
{
	struct hearth_dev_info i;

	if (dev_call(d, HEARTH_DEV_IOC_INFO, &i))
		DIE("INFO: %s", strerror(errno));
	return i;
}

static inline uint64_t dev_used(int d, uint32_t uid)
{
	struct hearth_dev_limit l = { .uid = uid };

	if (dev_call(d, HEARTH_DEV_IOC_LIMIT, &l))
		DIE("LIMIT: %s", strerror(errno));
	return l.used;
}

static inline void dev_destroy_all(int d)
{
	struct hearth_dev_buf l = { .id = 0 };

	while (!dev_call(d, HEARTH_DEV_IOC_LIST, &l))
		dev_name(d, HEARTH_DEV_IOC_DESTROY, l.name, 0);
}

/* A line of /proc/meminfo, such as "HugePages_Free"; -1 without it. */
static inline long meminfo(const char *field)
{
	char line[128];
	size_t n = strlen(field);
	long v = -1;
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, n) && line[n] == ':')
			v = strtol(line + n + 1, NULL, 10);
	if (f)
		fclose(f);
	return v;
}

/* Pages come back a little after their last user; wait for @want of them. */
static inline bool pages_back(long want)
{
	int i;

	for (i = 0; i < 200; i++) {
		if (meminfo("HugePages_Free") == want)
			return true;
		usleep(20000);
	}
	return false;
}

/* Nothing is left: no name, no byte on anybody's account, no page missing. */
static inline void dev_expect_empty(int d, const uint32_t *uid, unsigned int n,
				    long pages, const char *after)
{
	struct hearth_dev_info i = dev_info(d);
	unsigned int k;

	if (i.nr_bufs || i.total_bytes)
		DIE("after %s: %u buffers, %llu bytes", after, i.nr_bufs,
		    (unsigned long long)i.total_bytes);
	for (k = 0; k < n; k++)
		if (dev_used(d, uid[k]))
			DIE("after %s: uid %u is charged %llu bytes", after,
			    uid[k], (unsigned long long)dev_used(d, uid[k]));
	if (!pages_back(pages))
		DIE("after %s: HugePages_Free %ld, was %ld", after,
		    meminfo("HugePages_Free"), pages);
}

/* Write @text to a file of proc or sysfs; false if it is not there. */
static inline bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

#endif
