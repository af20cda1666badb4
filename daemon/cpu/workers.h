/* SPDX-License-Identifier: MIT */
/*
 * workers.h - workers that share the units of a parallel region.
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

#define WORKERS_MAX 256

struct workers;

/* A unit of a region. @worker is below the number of threads, 0 the caller. */
typedef void workers_fn(void *arg, uint32_t unit, uint32_t worker);

/**
 * workers_open() - start n_threads - 1 workers
 * @out:     returns new; close with workers_close()
 * @n_threads: 1 to WORKERS_MAX
 * @spin_us: how long a thread spins before it sleeps, 0 is not at all
 *
 * Return: 0 or -errno.
 */
int workers_open(struct workers **out, uint32_t n_threads, uint32_t spin_us);
void workers_close(struct workers *p);

uint32_t workers_threads(const struct workers *p);

/**
 * workers_run() - run units [0, n) and wait for all of them
 *
 * One caller at a time. What the caller wrote before is visible to the units,
 * and what they wrote is visible after.
 */
void workers_run(struct workers *p, workers_fn *fn, void *arg, uint32_t n);

#endif
