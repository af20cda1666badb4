/* SPDX-License-Identifier: MIT */
/*
 * bench_copy.c - hearth bench hw: copies between the host's memory and the
 * GPU's, by kind of memory, and what it takes to register that memory.
 */
#include "bench_gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOST_BYTES ((uint64_t)1 << 30)
#define HUGE_BYTES ((uint64_t)2 << 20)
#define REPS	   5
#define GIB	   ((double)(1 << 30))

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

struct host {
	const char *key;
	const char *name;
	/* -errno with why it cannot be had, or 0 */
	int (*map)(struct host *h);
	bool read_only;
	bool pageable;
	uint64_t bytes;
	uint8_t *p;
	const char *why;
	uint64_t dev;
};

/* ----------------------------------------------------------- kinds of it */

static int map_anon(struct host *h, int flags, int advice)
{
	void *p = mmap(NULL, h->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	if (advice && madvise(p, h->bytes, advice)) {
		int err = errno;

		munmap(p, h->bytes);
		return -err;
	}
	memset(p, 1, h->bytes);
	h->p = p;
	return 0;
}

static int map_small(struct host *h)
{
	h->why = "no memory";
	return map_anon(h, 0, MADV_NOHUGEPAGE);
}

static int map_thp(struct host *h)
{
	h->why = "no transparent huge pages";
	return map_anon(h, 0, MADV_HUGEPAGE);
}

static int map_hugetlb(struct host *h)
{
	h->why = "not enough huge pages: see vm.nr_hugepages";
	return map_anon(h, MAP_HUGETLB | MAP_HUGE_2MB, 0);
}

/* As weights are in the pool: nobody can write to them any more. */
static int map_sealed(struct host *h)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int fd = memfd_create("hearth-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p;
	int rc = 0;

	h->why = "no sealed memory";
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)h->bytes))
		goto fail;
	p = mmap(NULL, h->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		goto fail;
	memset(p, 1, h->bytes);
	munmap(p, h->bytes);
	if (fcntl(fd, F_ADD_SEALS, seals))
		goto fail;
	p = mmap(NULL, h->bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED)
		goto fail;
	h->p = p;
	close(fd);
	return 0;
fail:
	rc = -errno;
	close(fd);
	return rc;
}

/* -------------------------------------------------------------- measuring */

static int up(struct gpu_bench *b, void *arg)
{
	struct host *h = arg;

	return CU(&b->dev,
		  cuMemcpyHtoDAsync(h->dev, h->p, h->bytes, b->dev.compute),
		  "copying from the host, %s", h->name);
}

static int down(struct gpu_bench *b, void *arg)
{
	struct host *h = arg;

	return CU(&b->dev,
		  cuMemcpyDtoHAsync(h->p, h->dev, h->bytes, b->dev.compute),
		  "copying to the host, %s", h->name);
}

static void row(struct gpu_bench *b, const char *verb, const struct host *h,
		enum gpu_unit unit, double v, const char *how)
{
	char key[48];
	char what[96];

	snprintf(key, sizeof(key), "%s_%s", verb, h->key);
	snprintf(what, sizeof(what), "%s, %s", verb, h->name);
	gpu_row(b, key, what, unit, v, "%s", how);
}

static int copies(struct gpu_bench *b, struct host *h, const char *how)
{
	unsigned int reps = b->sim ? 1 : REPS;
	double s;
	int rc = gpu_timed(b, reps, up, h, &s);

	if (!rc)
		row(b, "upload", h, GPU_RATE, (double)h->bytes / s, how);
	if (rc || h->read_only)
		return rc;
	rc = gpu_timed(b, reps, down, h, &s);
	if (!rc)
		row(b, "download", h, GPU_RATE, (double)h->bytes / s, how);
	return rc;
}

static int registered(struct gpu_bench *b, struct host *h)
{
	bool read_only = h->read_only && b->dev.read_only;
	unsigned int flags = CU_HOST_PORTABLE |
			     (read_only ? CU_HOST_READ_ONLY : 0);
	double gib = (double)h->bytes / GIB;
	uint64_t t = now_ns();
	int rc;

	rc = CU(&b->dev, cuMemHostRegister(h->p, h->bytes, flags),
		"registering, %s", h->name);
	t = now_ns() - t;
	if (rc && b->dev.lost)
		return rc;
	if (rc) {
		row(b, "register", h, GPU_PER_GIB, -1, b->dev.why);
		return 0;
	}
	row(b, "register", h, GPU_PER_GIB, (double)t * 1e-9 / gib,
	    read_only ? "read-only, touched before" : "touched before");
	rc = copies(b, h, "copy engine");
	t = now_ns();
	if (!rc)
		rc = CU(&b->dev, cuMemHostUnregister(h->p), "unregistering, %s",
			h->name);
	if (!rc)
		row(b, "unregister", h, GPU_PER_GIB,
		    (double)(now_ns() - t) * 1e-9 / gib, "");
	return rc;
}

static int one_kind(struct gpu_bench *b, struct host *h)
{
	int rc = h->map(h);

	if (rc) {
		row(b, h->pageable ? "upload" : "register", h,
		    h->pageable ? GPU_RATE : GPU_PER_GIB, -1, h->why);
		return 0;
	}
	rc = h->pageable ? copies(b, h, "not registered") : registered(b, h);
	munmap(h->p, h->bytes);
	return rc;
}

/* Memory that the driver allocates, which takes the longest to get. */
static int pinned(struct gpu_bench *b, struct host *h)
{
	uint64_t t = now_ns();
	uint64_t at;
	void *p;
	int rc = cu_pinned_new(&b->dev, h->bytes, &p, &at);

	t = now_ns() - t;
	if (rc)
		return rc;
	row(b, "allocate", h, GPU_PER_GIB,
	    (double)t * 1e-9 * GIB / (double)h->bytes, "cuMemHostAlloc");
	h->p = p;
	rc = copies(b, h, "copy engine");
	cu_pinned_free(&b->dev, p, h->bytes);
	return rc;
}

int gpu_bench_copies(struct gpu_bench *b)
{
	struct host kinds[] = {
		{ .key = "4k", .name = "4 KiB pages", .map = map_small },
		{ .key = "thp",
		  .name = "transparent huge pages",
		  .map = map_thp },
		{ .key = "2m",
		  .name = "huge pages of 2 MiB",
		  .map = map_hugetlb },
		{ .key = "sealed",
		  .name = "sealed file in memory",
		  .map = map_sealed,
		  .read_only = true },
		{ .key = "pageable",
		  .name = "pageable",
		  .map = map_small,
		  .pageable = true },
	};
	struct host own = { .key = "pinned", .name = "the driver's" };
	uint64_t bytes = b->bytes < HOST_BYTES ? b->bytes : HOST_BYTES;
	uint64_t dev = 0;
	size_t i;
	int rc;

	bytes = (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
	rc = CU(&b->dev, cuMemAlloc(&dev, bytes), "getting memory for copies");
	for (i = 0; i < N_ELEM(kinds) && !rc; i++) {
		kinds[i].bytes = bytes;
		kinds[i].dev = dev;
		rc = one_kind(b, &kinds[i]);
	}
	own.bytes = bytes;
	own.dev = dev;
	if (!rc)
		rc = pinned(b, &own);
	if (dev)
		CU_DROP(&b->dev, cuMemFree(dev));
	return rc;
}
