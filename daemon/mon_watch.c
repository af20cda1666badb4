/* SPDX-License-Identifier: MIT */
/*
 * mon_watch.c - how an engine dies: by itself, from outside, or because it
 * hangs and is killed here.
 *
 * The watchdog's timer runs only while the engine has work: it says BUSY when
 * it gets some and nobody watches; see struct proc_stats for the handshake.
 */
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "monitor.h"

#define TICKS	  4 /* looks at the beat in the time that is allowed */
#define START	  6 /* times as long as any work a start may take to a beat */
#define MINUTE_NS 60000000000ull

/* OOM kills since boot; of whom, the kernel does not say there. */
static uint64_t count_oom(void)
{
	unsigned long long n = 0;
	char line[128];
	FILE *f = fopen("/proc/vmstat", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "oom_kill %llu", &n) == 1)
			break;
	fclose(f);
	return n;
}

static uint64_t get(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

void mon_watch_stop(struct mon *m)
{
	loop_timer_clear(m->loop, &m->engine.watch);
	if (m->engine.stats)
		atomic_store(&m->engine.stats->watched, 0);
}

/* Has it stood still for longer than @limit? Then it is killed. */
static bool stuck(struct mon *m, uint64_t limit)
{
	struct mon_engine *e = &m->engine;
	uint64_t now = clock_ns();

	if (get(&e->stats->beat) != e->beat) {
		e->beat = get(&e->stats->beat);
		e->t_beat = now;
	}
	if (now - e->t_beat < limit)
		return false;
	log_warnx("engine: no progress in %llu ms, killing it (pid %d)",
		  (unsigned long long)(limit / 1000000), (int)e->child.pid);
	e->hung = true;
	m->ops->kill(e->child.pidfd);
	return true;
}

static void look(struct loop_timer *t)
{
	struct mon *m = t->arg;
	struct mon_engine *e = &m->engine;
	uint64_t limit = m->conf.watchdog_ms * 1000000u;

	if (!get(&e->stats->busy)) {
		atomic_store(&e->stats->watched, 0);
		atomic_thread_fence(memory_order_seq_cst);
		if (!get(&e->stats->busy))
			return;
		/* It got busy meanwhile, and may have seen that we watch. */
		atomic_store(&e->stats->watched, 1);
		e->t_beat = clock_ns();
	}
	if (!stuck(m, limit))
		loop_timer_set(m->loop, t, limit / TICKS);
}

/* Opening a backend means a driver, which takes its time, or hangs. */
static void start(struct loop_timer *t)
{
	struct mon *m = t->arg;
	uint64_t limit = m->conf.watchdog_ms * 1000000u;

	if (!stuck(m, limit * START))
		loop_timer_set(m->loop, t, limit);
}

static void watch(struct mon *m, void (*fn)(struct loop_timer *t),
		  uint64_t first_ns)
{
	struct mon_engine *e = &m->engine;

	e->watch.fn = fn;
	e->watch.arg = m;
	e->beat = get(&e->stats->beat);
	e->t_beat = clock_ns();
	loop_timer_set(m->loop, &e->watch, first_ns);
}

void mon_watch_busy(struct mon *m)
{
	struct mon_engine *e = &m->engine;

	e->n_oom = count_oom();
	if (!m->conf.watchdog_ms || e->watch.pos)
		return;
	atomic_store(&e->stats->watched, 1);
	watch(m, look, m->conf.watchdog_ms * 1000000u / TICKS);
}

void mon_watch_start(struct mon *m)
{
	m->engine.n_oom = count_oom();
	m->engine.hung = false;
	m->engine.wrong = false;
	if (m->conf.watchdog_ms)
		watch(m, start, m->conf.watchdog_ms * 1000000u);
}

void mon_watch_ready(struct mon *m)
{
	loop_timer_clear(m->loop, &m->engine.watch);
}

/* What somebody outside sends to end a process. */
static bool from_outside(int sig)
{
	return sig == SIGKILL || sig == SIGTERM || sig == SIGINT ||
	       sig == SIGHUP || sig == SIGQUIT || sig == SIGUSR1 ||
	       sig == SIGUSR2;
}

/*
 * It died of itself with a GPU in use. If the next ones may use the CPU alone
 * this says nothing about what it ran; and they will, once it happens often.
 */
static bool blame_gpu(struct mon *m)
{
	struct mon_engine *e = &m->engine;
	uint64_t now = clock_ns();

	if (!get(&e->stats->device) || strcmp(m->child_conf.backend, "auto"))
		return false;
	if (e->t_device && now - e->t_device < MINUTE_NS) {
		log_warnx("engine: two died with the GPU within a minute, "
			  "going on with the CPU");
		strcpy(m->child_conf.backend, "cpu");
	}
	e->t_device = now;
	return true;
}

bool mon_watch_death(struct mon *m, const siginfo_t *si)
{
	struct mon_engine *e = &m->engine;
	const char *why = "";
	bool crashed = true;

	if (si->si_code == CLD_EXITED) {
		if (si->si_status == PROC_EXIT_DEVICE)
			why = ", the GPU was lost";
		log_warnx("engine: left (pid %d, status %d%s)", si->si_pid,
			  si->si_status, why);
	} else {
		if (e->hung)
			why = ", it hung";
		else if (e->wrong)
			why = ", it broke its protocol";
		else if (si->si_status == SIGKILL && count_oom() != e->n_oom)
			why = ", out of memory";
		else
			crashed = !from_outside(si->si_status);
		log_warnx("engine: killed (pid %d, SIG%s%s)", si->si_pid,
			  sigabbrev_np(si->si_status), why);
	}
	m->n_crashes += crashed;
	m->n_hangs += e->hung;
	mon_watch_stop(m);
	return crashed && !blame_gpu(m);
}
