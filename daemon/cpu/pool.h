/* SPDX-License-Identifier: MIT */
/*
 * pool.h - workers that share the units of a parallel region.
 *
 * One thread, the caller, runs regions one after the other and works in them
 * itself. Units are claimed one at a time from a counter, so a worker that the
 * kernel has taken off its core costs the unit it holds and no more: nobody
 * waits for workers that never came. Between regions workers spin for a
 * moment and then sleep; those that see the machine is busy sleep at once.
 */
#ifndef HEARTH_POOL_H
#define HEARTH_POOL_H

#include <stdint.h>

#define POOL_MAX_THREADS 256

struct pool;

/* A unit of a region. @worker is below the number of threads, 0 the caller. */
typedef void pool_fn(void *arg, uint32_t unit, uint32_t worker);

/**
 * pool_open() - start n_threads - 1 workers
 * @out:     returns new; close with pool_close()
 * @n_threads: 1 to POOL_MAX_THREADS
 * @spin_us: how long a thread spins before it sleeps, 0 is not at all
 *
 * Return: 0 or -errno.
 */
int pool_open(struct pool **out, uint32_t n_threads, uint32_t spin_us);
void pool_close(struct pool *p);

uint32_t pool_threads(const struct pool *p);

/**
 * pool_run() - run units [0, n) and wait for all of them
 *
 * One caller at a time. What the caller wrote before is visible to the units,
 * and what they wrote is visible after.
 */
void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n);

#endif
