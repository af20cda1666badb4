/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages of the daemon: "subject: fact (value)" lines on stderr.
 *
 * Lower case, no full stop, no timestamps (journald has them); each line
 * starts with "<n>", the syslog level, when stderr is not a terminal.
 * Nothing is logged per token, and prompt text never.
 */
#ifndef HEARTH_LOG_H
#define HEARTH_LOG_H

#define LOG_FMT(a, b) __attribute__((format(printf, a, b)))

/* @who: "hearthd", "engine", "parser"; borrowed. @verbose: 1 shows debug,
 * -1 errors only. */
void log_init(const char *who, int verbose);

/* With strerror(@err) appended; @err is a positive or negative errno. */
void log_warn(int err, const char *fmt, ...) LOG_FMT(2, 3);
void log_warnx(const char *fmt, ...) LOG_FMT(1, 2);
void log_info(const char *fmt, ...) LOG_FMT(1, 2);
void log_debug(const char *fmt, ...) LOG_FMT(1, 2);

/* What a client can provoke: at most a few a second, the rest is counted. */
void log_client(const char *fmt, ...) LOG_FMT(1, 2);

/* Log and exit with status 1. */
void fatal(int err, const char *fmt, ...) LOG_FMT(2, 3)
	__attribute__((noreturn));
void fatalx(const char *fmt, ...) LOG_FMT(1, 2) __attribute__((noreturn));

#endif
