/* SPDX-License-Identifier: MIT */
/* arena.c - device memory that grows in place, and host memory beside it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "device.h"

#define MIB ((double)(1 << 20))

static const char *const kinds[] = { "weights", "kv", "scratch" };

static void count(struct cu_bytes *b, uint64_t more, uint64_t less)
{
	b->now += more - less;
	if (b->now > b->peak)
		b->peak = b->now;
}

static void count_kind(struct cu_dev *d, enum cu_kind kind, uint64_t more,
		       uint64_t less)
{
	count(&d->bytes[kind], more, less);
	count(&d->total, more, less);
}

uint64_t cu_arena_round(const struct cu_dev *d, uint64_t bytes)
{
	return (bytes + d->granule - 1) / d->granule * d->granule;
}

/* What was missing, behind what the driver said. */
static int no_room(struct cu_dev *d, int rc, uint64_t bytes)
{
	size_t n = strlen(d->why);
	size_t left = 0;
	size_t total = 0;

	if (rc == -ENOMEM && !d->drv.cuMemGetInfo(&left, &total))
		snprintf(d->why + n, sizeof(d->why) - n,
			 " (%.0f MiB, of %.0f MiB there are %.0f free)",
			 (double)bytes / MIB, (double)total / MIB,
			 (double)left / MIB);
	return rc;
}

static int open_whole(struct cu_dev *d, struct cu_arena *a)
{
	static bool said;
	int rc;

	if (!said)
		log_info("cuda: %s reserves no addresses: arenas are allocated "
			 "whole",
			 d->id.name);
	said = true;
	rc = CU(d, cuMemAlloc(&a->at, a->reserved), "allocating %s",
		kinds[a->kind]);
	if (rc)
		return no_room(d, rc, a->reserved);
	a->whole = true;
	a->bytes = a->reserved;
	count_kind(d, a->kind, a->bytes, 0);
	return 0;
}

int cu_arena_open(struct cu_dev *d, struct cu_arena *a, enum cu_kind kind,
		  uint64_t max)
{
	int rc;

	memset(a, 0, sizeof(*a));
	a->kind = kind;
	a->reserved = cu_arena_round(d, max);
	rc = d->vmm ? CU(d,
			 cuMemAddressReserve(&a->at, a->reserved, d->granule, 0,
					     0),
			 "reserving addresses for %s", kinds[kind])
		    : open_whole(d, a);
	if (rc)
		memset(a, 0, sizeof(*a));
	return rc;
}

/* @c becomes memory at @at, or nothing is left of it. */
static int map(struct cu_dev *d, const struct cu_arena *a, uint64_t at,
	       struct cu_chunk *c)
{
	const struct cu_location here = { 1, d->id.dev };
	const struct cu_alloc_prop prop = { .type = 1, .location = here };
	const struct cu_access rw = { here, CU_ACCESS_READ_WRITE };
	const char *kind = kinds[a->kind];
	int rc;

	rc = CU(d, cuMemCreate(&c->handle, c->bytes, &prop, 0), "growing %s",
		kind);
	if (rc)
		return no_room(d, rc, c->bytes);
	rc = CU(d, cuMemMap(at, c->bytes, 0, c->handle, 0), "growing %s", kind);
	if (rc)
		goto release;
	rc = CU(d, cuMemSetAccess(at, c->bytes, &rw, 1), "growing %s", kind);
	if (!rc)
		return 0;
	CU_DROP(d, cuMemUnmap(at, c->bytes));
release:
	CU_DROP(d, cuMemRelease(c->handle));
	return rc;
}

int cu_arena_grow(struct cu_dev *d, struct cu_arena *a, uint64_t bytes)
{
	struct cu_chunk *v;
	struct cu_chunk c = { 0 };
	int rc;

	if (bytes <= a->bytes)
		return 0;
	if (bytes > a->reserved)
		return cu_fail(d, -ENOMEM,
			       "cuda: %.0f MiB of %s, only %.0f are reserved",
			       (double)bytes / MIB, kinds[a->kind],
			       (double)a->reserved / MIB);
	v = realloc(a->chunk, (a->n_chunks + 1) * sizeof(*v));
	if (!v)
		return cu_fail(d, -ENOMEM, "cuda: no memory to grow %s",
			       kinds[a->kind]);
	a->chunk = v;
	c.bytes = cu_arena_round(d, bytes) - a->bytes;
	rc = map(d, a, a->at + a->bytes, &c);
	if (rc)
		return rc;
	a->chunk[a->n_chunks++] = c;
	a->bytes += c.bytes;
	count_kind(d, a->kind, c.bytes, 0);
	return 0;
}

void cu_arena_shrink(struct cu_dev *d, struct cu_arena *a, uint64_t bytes)
{
	while (a->n_chunks) {
		const struct cu_chunk *c = &a->chunk[a->n_chunks - 1];

		if (a->bytes - c->bytes < bytes)
			return;
		a->bytes -= c->bytes;
		a->n_chunks--;
		CU_DROP(d, cuMemUnmap(a->at + a->bytes, c->bytes));
		CU_DROP(d, cuMemRelease(c->handle));
		count_kind(d, a->kind, 0, c->bytes);
	}
}

void cu_arena_close(struct cu_dev *d, struct cu_arena *a)
{
	cu_arena_shrink(d, a, 0);
	if (a->whole) {
		CU_DROP(d, cuMemFree(a->at));
		count_kind(d, a->kind, 0, a->bytes);
	} else if (a->at) {
		CU_DROP(d, cuMemAddressFree(a->at, a->reserved));
	}
	free(a->chunk);
	memset(a, 0, sizeof(*a));
}

int cu_pinned_new(struct cu_dev *d, uint64_t bytes, void **p, uint64_t *at)
{
	int rc;

	rc = CU(d, cuMemHostAlloc(p, bytes, CU_HOST_DEVICE_MAP),
		"pinning %llu KiB", (unsigned long long)bytes >> 10);
	if (rc) {
		*p = NULL;
		return rc;
	}
	rc = CU(d, cuMemHostGetDevicePointer(at, *p, 0),
		"mapping pinned memory");
	if (rc) {
		CU_DROP(d, cuMemFreeHost(*p));
		*p = NULL;
		return rc;
	}
	count(&d->pinned, bytes, 0);
	return 0;
}

void cu_pinned_free(struct cu_dev *d, void *p, uint64_t bytes)
{
	if (!p)
		return;
	CU_DROP(d, cuMemFreeHost(p));
	count(&d->pinned, 0, bytes);
}
