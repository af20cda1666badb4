/* SPDX-License-Identifier: MIT */
/* object.c - mapping objects, and getting their pages. */
#include "object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WHY 160

/* Newer than some systems' headers. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static size_t round_up(uint64_t n, uint64_t to)
{
	return (size_t)((n + to - 1) / to * to);
}

/* At a multiple of a huge page, which one of shmem must be to be mapped so. */
static int map(struct object *o, int fd, uint64_t bytes, int prot,
	       char why[160])
{
	struct stat st;
	size_t len, room;
	uint8_t *p, *at;
	uint64_t page;
	int err;

	memset(o, 0, sizeof(*o));
	if (!bytes)
		return 0;
	if (fstat(fd, &st) || (uint64_t)st.st_size < bytes) {
		snprintf(why, WHY, "object: shorter than its %llu bytes",
			 (unsigned long long)bytes);
		return -EBADMSG;
	}
	/* hugetlbfs maps and unmaps whole pages only */
	page = st.st_blksize > 4096 ? (uint64_t)st.st_blksize : 4096;
	len = round_up(bytes, page);
	room = page > OBJECT_HUGE ? page : OBJECT_HUGE;
	p = mmap(NULL, len + room, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		goto fail;
	at = (uint8_t *)round_up((uintptr_t)p, room);
	if (at > p)
		munmap(p, (size_t)(at - p));
	munmap(at + len, (size_t)(p + room - at));
	p = mmap(at, len, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) {
		munmap(at, len);
		goto fail;
	}
	o->p = p;
	o->bytes = len;
	o->page = page;
	return 0;
fail:
	err = errno ? errno : ENOMEM;
	snprintf(why, WHY,
		 "object: %llu bytes of %llu KiB pages cannot be "
		 "mapped (%s)",
		 (unsigned long long)bytes, (unsigned long long)(page >> 10),
		 strerrordesc_np(err));
	return -err;
}

int object_map(struct object *o, int fd, uint64_t bytes, char why[160])
{
	int ret = map(o, fd, bytes, PROT_READ, why);

	if (ret || !bytes)
		return ret;
	/* EINVAL: this kernel cannot; then pages come when they are read. */
	if (madvise(o->p, round_up(bytes, 4096), MADV_POPULATE_READ) &&
	    errno != EINVAL) {
		ret = -errno;
		snprintf(why, WHY, "object: its pages cannot be had (%s)",
			 strerrordesc_np(-ret));
		object_unmap(o);
	}
	return ret;
}

int object_map_write(struct object *o, int fd, uint64_t bytes, char why[160])
{
	return map(o, fd, bytes, PROT_READ | PROT_WRITE, why);
}

/* EFAULT: a write would have been a SIGBUS. */
static int no_room(const struct object *o, uint64_t off, uint64_t bytes,
		   int err, char why[160])
{
	char in[64] = "no memory";

	if (err == EFAULT)
		snprintf(in, sizeof(in),
			 "its file system (%llu KiB pages) has no room",
			 (unsigned long long)(o->page >> 10));
	snprintf(why, WHY, "object: %s for bytes %llu to %llu of %llu", in,
		 (unsigned long long)off, (unsigned long long)(off + bytes),
		 (unsigned long long)o->bytes);
	return err == EFAULT ? -ENOSPC : -err;
}

int object_present(struct object *o, uint64_t off, uint64_t bytes,
		   char why[160])
{
	uint8_t *at = (uint8_t *)o->p + off;
	uint64_t whole = bytes / OBJECT_HUGE * OBJECT_HUGE, i;

	/*
	 * A page where there is none is a page of zeros when shmem is made
	 * huge, which costs less than many small ones. One must be there.
	 * Where it cannot be done this fails and nothing is lost.
	 */
	if (o->page == 4096) {
		for (i = 0; i < whole; i += OBJECT_HUGE)
			if (madvise(at + i, 4096, MADV_POPULATE_WRITE))
				break;
		if (whole && i == whole)
			madvise(at, whole, MADV_COLLAPSE);
	}
	if (madvise(at, round_up(bytes, 4096), MADV_POPULATE_WRITE))
		return no_room(o, off, bytes, errno, why);
	return 0;
}

bool object_unmap_some(struct object *o, uint64_t most)
{
	size_t n = o->bytes < most ? o->bytes : most;

	if (!n)
		return false;
	o->bytes -= n;
	munmap((uint8_t *)o->p + o->bytes, n);
	return true;
}

void object_unmap(struct object *o)
{
	if (o->bytes)
		munmap(o->p, o->bytes);
	memset(o, 0, sizeof(*o));
}
