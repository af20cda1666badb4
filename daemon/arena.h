/* SPDX-License-Identifier: MIT */
/*
 * arena.h - which bytes of a session's D belong to which request.
 *
 * The bookkeeping is private: extents in use, sorted by offset. What lies
 * between them is free, so freeing coalesces by itself, and nothing is ever
 * read back from shared memory.
 */
#ifndef HEARTH_ARENA_H
#define HEARTH_ARENA_H

#include "mem.h"

#define ARENA_ALIGN 64

struct arena_extent {
	uint64_t off;
	uint64_t len;
};

/**
 * struct arena - a range of bytes with at most @max extents in use
 * @start, @end: the range, aligned inwards
 */
struct arena {
	uint64_t start;
	uint64_t end;
	uint32_t n;
	uint32_t max;
	struct arena_extent *ext;
};

int arena_init(struct arena *a, const struct mem *mem, uint64_t start,
	       uint64_t end, uint32_t max);
void arena_fini(struct arena *a, const struct mem *mem);

/* First fit. Return: 0 or -ENOSPC. @len is rounded up to ARENA_ALIGN. */
int arena_alloc(struct arena *a, uint64_t len, uint64_t *off);

/* Take exactly this range: 0, or -EINVAL if it is not all free and aligned. */
int arena_claim(struct arena *a, uint64_t off, uint64_t len);
void arena_free(struct arena *a, uint64_t off);

/* Bytes of the largest free range. */
uint64_t arena_room(const struct arena *a);

#endif
