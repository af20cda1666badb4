/* SPDX-License-Identifier: MIT */
/* listen.h - the daemon's socket: where, whose, and that it is only one. */
#ifndef HEARTH_LISTEN_H
#define HEARTH_LISTEN_H

#include <stdbool.h>

#include "conf.h"

struct listen {
	int fd;
	int lock; /* -1 for a socket that systemd gave us */
	char path[108];
	char lock_path[128];
};

/**
 * listen_open() - the listening socket
 * @conf: socket is filled in if it was empty
 * @why:  on failure, what and where
 */
int listen_open(struct listen *ln, struct conf *conf, char why[256]);
void listen_close(struct listen *ln);

#endif
