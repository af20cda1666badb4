/* SPDX-License-Identifier: MIT */
/*
 * count.h - a line for each check, and how many there were.
 */
#ifndef HEARTH_TEST_COUNT_H
#define HEARTH_TEST_COUNT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Shared with children, which check things too. */
struct counts {
	unsigned int pass;
	unsigned int fail;
};
static struct counts *counts;

static inline void count_init(void)
{
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		exit(1);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

__attribute__((format(printf, 2, 3))) static inline bool
check(bool good, const char *what, ...)
{
	va_list ap;

	if (good)
		counts->pass++;
	else
		counts->fail++;
	printf(good ? "ok " : "not ok ");
	va_start(ap, what);
	vprintf(what, ap);
	va_end(ap);
	printf("\n");
	return good;
}

/* What a call gave is what was wanted, 0 or -errno; else say what it gave. */
static inline bool check_rc(long rc, long want, const char *what)
{
	if (rc == want)
		return check(true, "%s", what);
	return check(false, "%s: %ld, not %ld", what, rc, want);
}

/* Run @fn in a process of its own; that it dies counts as a failure. */
static inline void in_child(void (*fn)(void), const char *what)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		fn();
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		check(false, "%s: the process ended with %#x", what,
		      (unsigned int)status);
}

static inline int count_end(void)
{
	printf("RESULT pass=%u fail=%u\n", counts->pass, counts->fail);
	return counts->fail || !counts->pass;
}

#endif
