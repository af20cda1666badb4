/* SPDX-License-Identifier: MIT */
/*
 * loop.h - an event loop on one io_uring, or on epoll where that is forbidden.
 *
 * Every source is polled edge-triggered (one multishot poll each, armed
 * once), so a handler reads until -EAGAIN, or asks for another turn with
 * loop_again(). Nothing ticks: a loop with no ready source and no set timer
 * sleeps for ever. One thread owns a loop.
 */
#ifndef HEARTH_LOOP_H
#define HEARTH_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

struct loop;

/**
 * struct loop_src - a file descriptor to watch; embedded by its owner
 * @fd:     borrowed; must stay open until loop_del()
 * @events: POLLIN, POLLOUT, ...; POLLHUP and POLLERR are always reported
 * @fn:     called with what poll(2) reports
 */
struct loop_src {
	int fd;
	uint32_t events;
	void (*fn)(struct loop_src *s, uint32_t revents);
	void *arg;
	uint32_t slot; /* the loop's: index + 1, 0 when not watched */
};

/**
 * struct loop_timer - one deadline; embedded by its owner
 * @fn: called once when it has passed; may set it again
 */
struct loop_timer {
	void (*fn)(struct loop_timer *t);
	void *arg;
	uint64_t at_ns; /* the loop's */
	uint32_t pos;	/* the loop's: place in the heap + 1, 0 when not set */
};

/* @max: sources and timers at once. New loop; -errno. */
int loop_new(struct loop **out, uint32_t max);
void loop_free(struct loop *l);

/* "io_uring" or "epoll". */
const char *loop_kind(const struct loop *l);

int loop_add(struct loop *l, struct loop_src *s);  /* borrows until loop_del */
void loop_del(struct loop *l, struct loop_src *s); /* legal when not added */
void loop_again(struct loop *l, struct loop_src *s);

/* Fire @ns from now (CLOCK_MONOTONIC). Set again: the new deadline counts. */
int loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t ns);
void loop_timer_clear(struct loop *l, struct loop_timer *t);

/**
 * loop_close() - close a file that a stranger opened; consumes @fd
 *
 * Closing may wait for a file system in user space: with io_uring the kernel
 * does it aside.
 */
void loop_close(struct loop *l, int fd);

/* Handle what is ready; sleep for it if @wait. Return: handlers called. */
int loop_run(struct loop *l, bool wait);

/* Cheap look without a system call: is something waiting? (epoll: asks) */
bool loop_ready(struct loop *l);

#endif
