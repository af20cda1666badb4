/* SPDX-License-Identifier: MIT */
/*
 * mem.h - the allocator that the engine's state machines are given.
 *
 * Memory is asked for when a session or a model comes, never in a step; a
 * test's allocator may refuse at any point.
 */
#ifndef HEARTH_MEM_H
#define HEARTH_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct mem {
	void *arg;
	void *(*alloc)(void *arg, size_t n);
	void (*free)(void *arg, void *p);
};

/* New zeroed array, or NULL; also NULL when the size overflows. */
static inline void *mem_alloc(const struct mem *m, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	if (!bytes)
		bytes = 1;
	return m->alloc ? m->alloc(m->arg, bytes) : calloc(1, bytes);
}

static inline void mem_free(const struct mem *m, void *p)
{
	if (!p)
		return;
	if (m->free)
		m->free(m->arg, p);
	else
		free(p);
}

#endif
