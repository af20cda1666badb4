/* SPDX-License-Identifier: MIT */
/*
 * safe.h - checked arithmetic for numbers that came from outside.
 *
 * Every function returns true when the result fits and false otherwise, in
 * which case the result is not to be used.
 */
#ifndef HEARTH_SAFE_H
#define HEARTH_SAFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool safe_add(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

static inline bool safe_mul(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

/* acc += n * size */
static inline bool safe_add_mul(uint64_t *acc, uint64_t n, uint64_t size)
{
	uint64_t t;

	return safe_mul(n, size, &t) && safe_add(*acc, t, acc);
}

static inline bool safe_pow2(uint64_t a)
{
	return a && !(a & (a - 1));
}

/* Round @a up to a multiple of @align, a power of two. */
static inline bool safe_align(uint64_t a, uint64_t align, uint64_t *out)
{
	if (!safe_add(a, align - 1, out))
		return false;
	*out &= ~(align - 1);
	return true;
}

/* [off, off + len) lies in [0, total). */
static inline bool safe_range(uint64_t off, uint64_t len, uint64_t total)
{
	return off <= total && len <= total - off;
}

/* @n elements of @size bytes at @off lie in [0, total). */
static inline bool safe_array(uint64_t off, uint64_t n, uint64_t size,
			      uint64_t total)
{
	uint64_t len;

	return safe_mul(n, size, &len) && safe_range(off, len, total);
}

static inline bool safe_u32(uint64_t a, uint32_t *out)
{
	*out = (uint32_t)a;
	return a <= UINT32_MAX;
}

#endif
