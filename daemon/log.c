/* SPDX-License-Identifier: MIT */
/* log.c - messages of the daemon, one write(2) a line. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define CLIENT_LINES 10 /* a second */

static const char *log_who = "hearthd";
static int log_verbose;
static int log_levels; /* prefix lines with <n> */

void log_init(const char *who, int verbose)
{
	log_who = who;
	log_verbose = verbose;
	log_levels = !isatty(STDERR_FILENO);
}

/* A line that does not fit is cut; a line that cannot be written is lost. */
static void line(int level, int err, const char *fmt, va_list ap)
{
	char buf[1024];
	int n = 0;
	int room;

	if (log_verbose < 0 && level > LOG_ERR)
		return;
	if (log_levels)
		n = snprintf(buf, sizeof(buf), "<%d>", level);
	n += snprintf(buf + n, sizeof(buf) - n, "%s: ", log_who);
	room = (int)sizeof(buf) - n - 1;
	n += vsnprintf(buf + n, room, fmt, ap);
	if (n > (int)sizeof(buf) - 2)
		n = (int)sizeof(buf) - 2;
	if (err) {
		room = (int)sizeof(buf) - n - 1;
		n += snprintf(buf + n, room, ": %s",
			      strerrordesc_np(err < 0 ? -err : err));
		if (n > (int)sizeof(buf) - 2)
			n = (int)sizeof(buf) - 2;
	}
	buf[n++] = '\n';
	if (write(STDERR_FILENO, buf, n) < 0)
		return;
}

void log_warn(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_WARNING, err, fmt, ap);
	va_end(ap);
}

void log_warnx(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_WARNING, 0, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_INFO, 0, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	if (log_verbose <= 0)
		return;
	va_start(ap, fmt);
	line(LOG_DEBUG, 0, fmt, ap);
	va_end(ap);
}

void log_client(const char *fmt, ...)
{
	static struct timespec since;
	static unsigned int n;
	struct timespec now;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec != since.tv_sec) {
		if (n > CLIENT_LINES)
			log_info("clients: more messages (%u)",
				 n - CLIENT_LINES);
		since = now;
		n = 0;
	}
	if (n++ >= CLIENT_LINES)
		return;
	va_start(ap, fmt);
	line(LOG_INFO, 0, fmt, ap);
	va_end(ap);
}

void fatal(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_ERR, err, fmt, ap);
	va_end(ap);
	exit(1);
}

void fatalx(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_ERR, 0, fmt, ap);
	va_end(ap);
	exit(1);
}
