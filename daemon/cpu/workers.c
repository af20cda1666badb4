/* SPDX-License-Identifier: MIT */
/*
 * workers.c - workers that share the units of a parallel region.
 *
 * All hangs on one 64-bit ticket: how many units the region has and the next
 * one. Adding one claims a unit of whatever region is current at that instant,
 * so a worker that comes late claims work of a later region or nothing. The
 * region's function is written before its ticket, and cannot be written again
 * while a unit that somebody claimed is not done.
 */
#include "workers.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../clock.h"

#define LINE	   64
#define N_SHIFT	   32
#define BUSY_NS	   50000 /* a pause this long: we were off the core */
#define QUIET_RUNS 64	 /* sleep at once for as many waits after that */

struct worker {
	struct workers *workers;
	pthread_t thread;
	uint32_t index;
};

struct workers {
	_Atomic uint64_t ticket __attribute__((aligned(LINE)));
	_Atomic uint32_t done __attribute__((aligned(LINE)));
	_Atomic uint32_t caller_waits;
	/* Number of the region: what workers wait for. */
	_Atomic uint32_t gen __attribute__((aligned(LINE)));
	_Atomic uint32_t sleepers;
	_Atomic bool stop;
	workers_fn *fn __attribute__((aligned(LINE)));
	void *arg;
	uint32_t n_threads;
	uint64_t spin_ns;
	uint32_t quiet; /* the caller's */
	struct worker *worker;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/*
 * Spin until *word is not @value. False when the time is up, or at once while
 * @quiet counts down: a gap between two looks at the clock means that some
 * other thread wants this core, and spinning would keep it from it.
 */
static bool spin(_Atomic uint32_t *word, uint32_t value, uint64_t spin_ns,
		 uint32_t *quiet)
{
	uint64_t start, last, now;
	uint32_t i;

	if (!spin_ns)
		return false;
	if (*quiet) {
		--*quiet;
		return false;
	}
	start = last = clock_ns();
	do {
		for (i = 0; i < 32; i++) {
			if (atomic_load_explicit(word, memory_order_acquire) !=
			    value)
				return true;
			cpu_relax();
		}
		now = clock_ns();
		if (now - last > BUSY_NS) {
			*quiet = QUIET_RUNS;
			return false;
		}
		last = now;
	} while (now - start < spin_ns);
	return false;
}

/* Claim and run units until there are none; all of one region or of several. */
static void work(struct workers *p, uint32_t worker)
{
	uint64_t t;
	uint32_t unit, n;

	for (;;) {
		t = atomic_load_explicit(&p->ticket, memory_order_relaxed);
		if ((uint32_t)t >= t >> N_SHIFT)
			return;
		t = atomic_fetch_add_explicit(&p->ticket, 1,
					      memory_order_acq_rel);
		unit = (uint32_t)t;
		n = t >> N_SHIFT;
		if (unit >= n)
			return;
		p->fn(p->arg, unit, worker);
		/* seq_cst pairs with the caller's: it sees the last one done,
		 * or we see that it waits. */
		if (atomic_fetch_add(&p->done, 1) + 1 == n && worker &&
		    atomic_load(&p->caller_waits))
			futex_wake(&p->done);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct workers *p = w->workers;
	uint32_t gen = 0, quiet = 0;

	for (;;) {
		while (atomic_load_explicit(&p->gen, memory_order_acquire) ==
		       gen) {
			if (spin(&p->gen, gen, p->spin_ns, &quiet))
				break;
			atomic_fetch_add(&p->sleepers, 1);
			if (atomic_load(&p->gen) == gen)
				futex_wait(&p->gen, gen);
			atomic_fetch_sub(&p->sleepers, 1);
		}
		gen = atomic_load(&p->gen);
		if (atomic_load(&p->stop))
			return NULL;
		work(p, w->index);
	}
}

static void wait_done(struct workers *p, uint32_t n)
{
	uint32_t done;

	for (;;) {
		done = atomic_load_explicit(&p->done, memory_order_acquire);
		if (done == n)
			return;
		if (spin(&p->done, done, p->spin_ns, &p->quiet))
			continue;
		atomic_store(&p->caller_waits, 1);
		done = atomic_load(&p->done);
		if (done != n)
			futex_wait(&p->done, done);
		atomic_store(&p->caller_waits, 0);
	}
}

void workers_run(struct workers *p, workers_fn *fn, void *arg, uint32_t n)
{
	uint32_t gen, i;

	if (n <= 1 || p->n_threads == 1) {
		for (i = 0; i < n; i++)
			fn(arg, i, 0);
		return;
	}
	gen = atomic_load_explicit(&p->gen, memory_order_relaxed) + 1;
	p->fn = fn;
	p->arg = arg;
	atomic_store_explicit(&p->done, 0, memory_order_relaxed);
	atomic_store_explicit(&p->ticket, (uint64_t)n << N_SHIFT,
			      memory_order_release);
	/* seq_cst pairs with the sleepers': they see the new number, or we see
	 * that they sleep. */
	atomic_store(&p->gen, gen);
	if (atomic_load(&p->sleepers))
		futex_wake(&p->gen);
	work(p, 0);
	wait_done(p, n);
}

uint32_t workers_threads(const struct workers *p)
{
	return p->n_threads;
}

int workers_open(struct workers **out, uint32_t n_threads, uint32_t spin_us)
{
	sigset_t all, old;
	struct workers *p;
	uint32_t i;
	int ret = 0;

	if (!n_threads || n_threads > WORKERS_MAX)
		return -EINVAL;
	if (posix_memalign((void **)&p, LINE, sizeof(*p)))
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->spin_ns = (uint64_t)spin_us * 1000;
	p->worker = calloc(n_threads, sizeof(*p->worker));
	if (!p->worker) {
		free(p);
		return -ENOMEM;
	}
	/* Signals are the main thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	p->n_threads = 1;
	for (i = 1; i < n_threads && !ret; i++) {
		p->worker[i].workers = p;
		p->worker[i].index = i;
		ret = -pthread_create(&p->worker[i].thread, NULL, worker_main,
				      &p->worker[i]);
		if (!ret)
			p->n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		workers_close(p);
		return ret;
	}
	*out = p;
	return 0;
}

void workers_close(struct workers *p)
{
	uint32_t i;

	if (!p)
		return;
	atomic_store(&p->stop, true);
	atomic_fetch_add(&p->gen, 1);
	futex_wake(&p->gen);
	for (i = 1; i < p->n_threads; i++)
		pthread_join(p->worker[i].thread, NULL);
	free(p->worker);
	free(p);
}
