/* SPDX-License-Identifier: MIT */
/*
 * notify.h - what a service tells systemd, sd_notify(3) on a datagram socket.
 *
 * Everything here does nothing when nobody listens, never waits, and is the
 * monitor's alone: children get no NOTIFY_SOCKET.
 */
#ifndef HEARTH_NOTIFY_H
#define HEARTH_NOTIFY_H

#include <stdint.h>

/**
 * notify_init() - read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID
 *
 * They leave the environment.
 */
void notify_init(void);

/* One or more "NAME=value" lines. */
void notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* How often "WATCHDOG=1" is due, in ns: half of what is allowed; 0: never. */
uint64_t notify_beat_ns(void);

#endif
