/* SPDX-License-Identifier: MIT */
/* pool_mem.c - memory as the pool's providers see it: free, huge, reserved. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool_priv.h"

#define RESERVE	 16 /* that part of what is available is left to others */
#define HUGE_MIN (64ull << 20) /* less is not worth a choice by itself */

int pool_short(char why[160], const char *of, uint64_t bytes, uint64_t have)
{
	return say_why(why, -ENOMEM,
		       "pool: the model needs %llu MiB, %llu MiB of %s are "
		       "free",
		       (unsigned long long)((bytes + (1u << 20) - 1) >> 20),
		       (unsigned long long)(have >> 20), of);
}

static uint64_t meminfo(const char *field)
{
	char line[128];
	unsigned long long kb = 0;
	size_t n = strlen(field);
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, n) && line[n] == ':')
			sscanf(line + n + 1, "%llu", &kb);
	fclose(f);
	return kb * 1024;
}

uint64_t pool_mem_free(void)
{
	uint64_t n = meminfo("MemAvailable");

	return n - n / RESERVE;
}

static uint64_t huge_file(uint64_t page, const char *name)
{
	unsigned long long v = 0;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
		 (unsigned long long)(page / 1024), name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &v) != 1)
		v = 0;
	fclose(f);
	return v;
}

int pool_huge_read(struct pool_huge *h, uint64_t page)
{
	uint64_t more;
	uint64_t surplus;
	uint64_t resv;

	memset(h, 0, sizeof(*h));
	if (!page)
		page = meminfo("Hugepagesize");
	if (!page)
		return -ENOENT;
	h->page = page;
	h->free = huge_file(page, "free_hugepages");
	resv = huge_file(page, "resv_hugepages");
	h->free = h->free > resv ? h->free - resv : 0;
	more = huge_file(page, "nr_overcommit_hugepages");
	h->total = huge_file(page, "nr_hugepages");
	surplus = huge_file(page, "surplus_hugepages");
	h->surplus = surplus;
	h->total += more > surplus ? more - surplus : 0;
	/* On demand only as far as there is memory to make them of. */
	more = more > surplus ? more - surplus : 0;
	if (more > pool_mem_free() / page)
		more = pool_mem_free() / page;
	h->free += more;
	return 0;
}

int pool_huge_use(struct pool *p, bool used, const char *kind, char why[160])
{
	struct pool_huge h;

	if (pool_huge_read(&h, p->page))
		h.total = h.free = h.page = 0;
	if (!h.total && !used)
		return say_why(why, -ENODEV,
			       "%s: no huge pages of %llu KiB are configured",
			       kind, (unsigned long long)(p->page >> 10));
	if (used || strcmp(p->conf->pool, "auto") ||
	    h.free * h.page >= HUGE_MIN)
		return 0;
	return say_why(why, -ENODEV, "%s: only %llu MiB of huge pages are free",
		       kind, (unsigned long long)(h.free * h.page >> 20));
}

int pool_reserve(int fd, uint64_t bytes)
{
	void *v = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (v == MAP_FAILED)
		return -errno;
	munmap(v, bytes);
	return 0;
}

int pool_huge_memfd(uint64_t bytes)
{
	int fd = memfd_create("weights",
			      MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		err = -errno;
	if (!err)
		err = pool_reserve(fd, bytes);
	if (!err)
		return fd;
	close(fd);
	return err;
}

int pool_reopen(int fd)
{
	char path[32];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}

int pool_lock(int fd, const char *what, char why[160])
{
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno == EWOULDBLOCK)
		return say_why(why, -EBUSY, "%.60s: another hearthd uses it",
			       what);
	return say_why(why, -errno, "%.60s: flock: %s", what,
		       strerrordesc_np(errno));
}
