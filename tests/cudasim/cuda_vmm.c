/* SPDX-License-Identifier: MIT */
/* cuda_vmm.c - physical memory apart from the addresses it is mapped at. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim.h"

#define GRANULE ((size_t)2 << 20)
#define HANDLES 1024
#define RANGES	256

/* Memory lives while it has a handle or a mapping. */
struct chunk {
	int fd;
	size_t size;
	int refs;
	bool released;
};

static struct chunk chunks[HANDLES]; /* handle: index plus one */
static struct {
	uint64_t at;
	size_t size;
} ranges[RANGES];
static struct {
	uint64_t at;
	int chunk;
} maps[HANDLES];

int vmm_left(void)
{
	int i, n = 0;

	for (i = 0; i < RANGES; i++)
		n += ranges[i].size != 0;
	for (i = 0; i < HANDLES; i++)
		n += chunks[i].refs && !chunks[i].released;
	return n;
}

int cuMemGetAllocationGranularity(size_t *n, const struct cu_alloc_prop *prop,
				  int option)
{
	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	(void)option;
	*n = GRANULE;
	return api_leave(prop ? 0 : CU_INVALID_VALUE);
}

static void put_chunk(struct chunk *c)
{
	if (--c->refs)
		return;
	close(c->fd);
	dev.used -= c->size;
	c->size = 0;
}

int cuMemCreate(uint64_t *handle, size_t n, const struct cu_alloc_prop *prop,
		uint64_t flags)
{
	struct chunk *c;
	int i;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	if (flags || !prop || prop->type != 1 || prop->location.id ||
	    prop->location.type != 1 || !n || n % GRANULE)
		return api_leave(CU_INVALID_VALUE);
	for (i = 0; i < HANDLES && chunks[i].refs; i++)
		;
	if (i == HANDLES || n > dev.total - dev.used)
		return api_leave(CU_OUT_OF_MEMORY);
	c = &chunks[i];
	c->fd = memfd_create("cudasim", MFD_CLOEXEC);
	if (c->fd < 0)
		return api_leave(CU_OUT_OF_MEMORY);
	if (ftruncate(c->fd, (off_t)n)) {
		close(c->fd);
		return api_leave(CU_OUT_OF_MEMORY);
	}
	c->size = n;
	c->refs = 1;
	c->released = false;
	dev.used += n;
	*handle = (uint64_t)i + 1;
	return api_leave(0);
}

static struct chunk *chunk_of(uint64_t handle)
{
	struct chunk *c = &chunks[handle - 1];

	return handle - 1 < HANDLES && c->refs && !c->released ? c : NULL;
}

int cuMemRelease(uint64_t handle)
{
	struct chunk *c;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	c = chunk_of(handle);
	if (!c)
		return api_leave(CU_INVALID_VALUE);
	c->released = true;
	put_chunk(c);
	return api_leave(0);
}

int cuMemAddressReserve(uint64_t *at, size_t n, size_t align, uint64_t want,
			uint64_t flags)
{
	uint64_t p;
	int i;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	(void)want;
	if (!n || n % GRANULE || flags || align & (align - 1))
		return api_leave(CU_INVALID_VALUE);
	align = align > GRANULE ? align : GRANULE;
	for (i = 0; i < RANGES && ranges[i].size; i++)
		;
	if (i == RANGES)
		return api_leave(CU_OUT_OF_MEMORY);
	/* Too much, so that what is aligned lies in it; the rest goes back. */
	p = (uint64_t)(uintptr_t)mmap(
		NULL, n + align, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == (uint64_t)(uintptr_t)MAP_FAILED)
		return api_leave(CU_OUT_OF_MEMORY);
	*at = (p + align - 1) / align * align;
	if (*at > p)
		munmap((void *)(uintptr_t)p, *at - p);
	if (p + align > *at)
		munmap((void *)(uintptr_t)(*at + n), p + align - *at);
	ranges[i].at = *at;
	ranges[i].size = n;
	return api_leave(0);
}

int cuMemAddressFree(uint64_t at, size_t n)
{
	int i;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	for (i = 0; i < RANGES; i++)
		if (ranges[i].size == n && ranges[i].at == at && n)
			break;
	if (i == RANGES)
		return api_leave(CU_INVALID_VALUE);
	for (rc = 0; rc < HANDLES; rc++)
		if (maps[rc].at >= at && maps[rc].at < at + n)
			return api_leave(CU_INVALID_VALUE);
	munmap((void *)(uintptr_t)at, n);
	ranges[i].size = 0;
	return api_leave(0);
}

static bool reserved(uint64_t at, size_t n)
{
	int i;

	for (i = 0; i < RANGES; i++)
		if (at >= ranges[i].at && n <= ranges[i].size &&
		    at - ranges[i].at <= ranges[i].size - n)
			return true;
	return false;
}

int cuMemMap(uint64_t at, size_t n, size_t offset, uint64_t handle,
	     uint64_t flags)
{
	struct mem m = { .at = at, .size = n, .kind = MEM_MAPPED };
	struct chunk *c;
	int i;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	c = chunk_of(handle);
	if (!c || flags || offset || n != c->size || at % GRANULE ||
	    !reserved(at, n) || mem_find(at, 1))
		return api_leave(CU_INVALID_VALUE);
	for (i = 0; i < HANDLES && maps[i].at; i++)
		;
	if (i == HANDLES ||
	    mmap((void *)(uintptr_t)at, n, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, c->fd, 0) == MAP_FAILED)
		return api_leave(CU_OUT_OF_MEMORY);
	if (!mem_add(m))
		return api_leave(CU_OUT_OF_MEMORY);
	maps[i].at = at;
	maps[i].chunk = (int)(c - chunks);
	c->refs++;
	return api_leave(0);
}

int cuMemUnmap(uint64_t at, size_t n)
{
	struct mem *m;
	int i;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	rc = stream_wait_all();
	m = mem_find(at, n);
	for (i = 0; i < HANDLES && maps[i].at != at; i++)
		;
	if (rc || !m || m->kind != MEM_MAPPED || m->size != n || i == HANDLES)
		return api_leave(rc ? rc : CU_INVALID_VALUE);
	mem_remove(m);
	if (mmap((void *)(uintptr_t)at, n, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		abort();
	maps[i].at = 0;
	put_chunk(&chunks[maps[i].chunk]);
	return api_leave(0);
}

int cuMemSetAccess(uint64_t at, size_t n, const struct cu_access *access,
		   size_t count)
{
	uint64_t end = at + n;

	ENTER(API_CTX);
	if (!dev_attr(CU_DEV_VMM))
		return api_leave(CU_NOT_SUPPORTED);
	if (count != 1 || access->location.type != 1 || access->location.id)
		return api_leave(CU_INVALID_VALUE);
	while (at < end) {
		struct mem *m = mem_find(at, 1);

		if (!m || m->kind != MEM_MAPPED)
			return api_leave(CU_INVALID_VALUE);
		m->access = access->flags;
		at = m->at + m->size;
	}
	return api_leave(0);
}
