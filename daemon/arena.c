/* SPDX-License-Identifier: MIT */
/* arena.c - first fit over a sorted list of extents in use. */
#include "arena.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int arena_init(struct arena *a, const struct mem *mem, uint64_t start,
	       uint64_t end, uint32_t max)
{
	memset(a, 0, sizeof(*a));
	a->start = (start + ARENA_ALIGN - 1) & ~(uint64_t)(ARENA_ALIGN - 1);
	a->end = end & ~(uint64_t)(ARENA_ALIGN - 1);
	if (a->end < a->start)
		a->end = a->start;
	a->max = max;
	a->ext = mem_alloc(mem, max, sizeof(*a->ext));
	return a->ext ? 0 : -ENOMEM;
}

void arena_fini(struct arena *a, const struct mem *mem)
{
	mem_free(mem, a->ext);
	a->ext = NULL;
}

static void insert(struct arena *a, uint32_t at, uint64_t off, uint64_t len)
{
	memmove(&a->ext[at + 1], &a->ext[at], (a->n - at) * sizeof(*a->ext));
	a->ext[at].off = off;
	a->ext[at].len = len;
	a->n++;
}

/* Free bytes before extent @i (or at the end), and where they start. */
static uint64_t gap(const struct arena *a, uint32_t i, uint64_t *off)
{
	uint64_t end = i < a->n ? a->ext[i].off : a->end;

	*off = i ? a->ext[i - 1].off + a->ext[i - 1].len : a->start;
	return end - *off;
}

static int round_len(uint64_t *len)
{
	if (!*len)
		*len = 1;
	if (*len > UINT64_MAX - ARENA_ALIGN)
		return -ENOSPC;
	*len = (*len + ARENA_ALIGN - 1) & ~(uint64_t)(ARENA_ALIGN - 1);
	return 0;
}

int arena_alloc(struct arena *a, uint64_t len, uint64_t *off)
{
	uint32_t i;

	if (round_len(&len) || a->n == a->max)
		return -ENOSPC;
	for (i = 0; i <= a->n; i++) {
		if (gap(a, i, off) >= len) {
			insert(a, i, *off, len);
			return 0;
		}
	}
	return -ENOSPC;
}

int arena_claim(struct arena *a, uint64_t off, uint64_t len)
{
	uint64_t at, room;
	uint32_t i;

	if (round_len(&len) || a->n == a->max || off % ARENA_ALIGN)
		return -EINVAL;
	for (i = 0; i <= a->n; i++) {
		room = gap(a, i, &at);
		if (off >= at && off - at <= room && len <= room - (off - at)) {
			insert(a, i, off, len);
			return 0;
		}
	}
	return -EINVAL;
}

void arena_free(struct arena *a, uint64_t off)
{
	uint32_t lo = 0, hi = a->n, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (a->ext[mid].off < off)
			lo = mid + 1;
		else
			hi = mid;
	}
	assert(lo < a->n && a->ext[lo].off == off);
	memmove(&a->ext[lo], &a->ext[lo + 1],
		(a->n - lo - 1) * sizeof(*a->ext));
	a->n--;
}

uint64_t arena_room(const struct arena *a)
{
	uint64_t best = 0, off, n;
	uint32_t i;

	for (i = 0; i <= a->n; i++) {
		n = gap(a, i, &off);
		if (n > best)
			best = n;
	}
	return best;
}
