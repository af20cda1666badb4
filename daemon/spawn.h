/* SPDX-License-Identifier: MIT */
/* spawn.h - our own program, executed again as a child with its own socket. */
#ifndef HEARTH_SPAWN_H
#define HEARTH_SPAWN_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "conf.h"
#include "proc.h"

#define SPAWN_CONF_FD  4 /* in the child: struct conf, a sealed memfd */
#define SPAWN_STATS_FD 5 /* in the engine: struct proc_stats */

struct child {
	pid_t pid;
	int pidfd;
	int ctl; /* our end of its socketpair, non-blocking */
};

/* Remember our executable, so that a restarted child is the same program
 * even if the file was replaced. */
int spawn_init(void);

/**
 * spawn() - start a child
 * @mode:     "--engine" or "--parser"
 * @conf:     its configuration, copied
 * @stats_fd: borrowed, or -1
 * Return: 0 and @c (its fds are the caller's), or -errno.
 */
int spawn(struct child *c, const char *mode, const struct conf *conf,
	  int stats_fd);

void spawn_kill(int pidfd);
bool spawn_wait(int pidfd, siginfo_t *si);

/* In the child: the configuration that spawn() was given. */
int spawn_conf(struct conf *conf);

#endif
