/* SPDX-License-Identifier: MIT */
/* heap.h - counts the heap of a fuzz target: peak <= 8 x input + 1 MiB. */
#ifndef HEARTH_FUZZ_HEAP_H
#define HEARTH_FUZZ_HEAP_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

int __sanitizer_install_malloc_and_free_hooks(
	void (*malloc_hook)(const volatile void *, size_t),
	void (*free_hook)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static long heap_now, heap_peak;

static void heap_malloc(const volatile void *p, size_t n)
{
	(void)p;
	heap_now += (long)n;
	if (heap_now > heap_peak)
		heap_peak = heap_now;
}

static void heap_free(const volatile void *p)
{
	if (p)
		heap_now -= (long)__sanitizer_get_allocated_size(p);
}

static inline void heap_begin(void)
{
	static int installed;

	if (!installed)
		__sanitizer_install_malloc_and_free_hooks(heap_malloc,
							  heap_free);
	installed = 1;
	heap_now = heap_peak = 0;
}

static inline void heap_end(size_t input)
{
	if (heap_peak <= 8 * (long)input + (1 << 20))
		return;
	fprintf(stderr, "heap: %ld bytes for %zu of input\n", heap_peak, input);
	abort();
}

#endif
