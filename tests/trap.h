/* SPDX-License-Identifier: MIT */
/*
 * trap.h - the engine dies at its n-th store into a session's D.
 *
 * While armed, D is read-only: each store faults, is let through alone (by
 * single-stepping it) and counted. Before the n-th one the engine is left by
 * siglongjmp(), so D is exactly what a process killed there leaves behind.
 */
#ifndef HEARTH_TESTS_TRAP_H
#define HEARTH_TESTS_TRAP_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_MAX 16

static struct {
	struct {
		char *p;
		size_t n;
	} d[TRAP_MAX];
	int n;
	long left; /* stores until death; 0: not armed */
	sigjmp_buf *to;
} trap;

static inline void trap_protect(int prot)
{
	int i;

	for (i = 0; i < trap.n; i++)
		if (mprotect(trap.d[i].p, trap.d[i].n, prot))
			abort();
}

static inline void trap_disarm(void)
{
	if (trap.left)
		trap_protect(PROT_READ | PROT_WRITE);
	trap.left = 0;
}

#if defined(__x86_64__)
#define TRAP_FLAG 0x100 /* of the CPU: stop after the next instruction */

static inline void trap_fault(int sig, siginfo_t *si, void *uc)
{
	greg_t *regs = ((ucontext_t *)uc)->uc_mcontext.gregs;
	char *at = si->si_addr;
	int i;

	if (sig == SIGTRAP) {
		regs[REG_EFL] &= ~TRAP_FLAG;
		if (trap.left)
			trap_protect(PROT_READ);
		return;
	}
	for (i = 0; i < trap.n; i++)
		if (at >= trap.d[i].p && at < trap.d[i].p + trap.d[i].n)
			break;
	if (i == trap.n || !trap.left) {
		signal(sig, SIG_DFL);
		return;
	}
	/* An instruction may touch two pages: it faults once more and is let
	 * through, since all of D is open by then. */
	if (!--trap.left) {
		trap_protect(PROT_READ | PROT_WRITE);
		siglongjmp(*trap.to, 1);
	}
	trap_protect(PROT_READ | PROT_WRITE);
	regs[REG_EFL] |= TRAP_FLAG;
}

/* Which memories; D begins and ends inside them. */
static inline void trap_add(void *p, size_t n)
{
	if (trap.n == TRAP_MAX)
		abort();
	trap.d[trap.n].p = p;
	trap.d[trap.n++].n = n;
}

static inline void trap_arm(long n, sigjmp_buf *to)
{
	struct sigaction sa = { .sa_sigaction = trap_fault,
				.sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	trap.to = to;
	trap.left = n;
	trap_protect(PROT_READ);
}
#else
static inline void trap_add(void *p, size_t n)
{
	(void)p;
	(void)n;
}

static inline void trap_arm(long n, sigjmp_buf *to)
{
	(void)n;
	(void)to;
}
#endif

#endif
