/* SPDX-License-Identifier: MIT */
/* notify.c - what a service tells systemd. */
#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define MESSAGE 512

static int sock = -1;
static struct sockaddr_un to = { .sun_family = AF_UNIX };
static socklen_t to_len;
static uint64_t beat_ns;

/* An absolute path, or the name of an abstract socket. */
static int open_socket(const char *path)
{
	size_t n = strlen(path);
	int fd;

	if ((path[0] != '/' && path[0] != '@') || n >= sizeof(to.sun_path))
		return -EINVAL;
	memcpy(to.sun_path, path, n);
	if (to.sun_path[0] == '@')
		to.sun_path[0] = 0;
	to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

/* Ours, not that of a shell that started us with its own environment. */
static uint64_t read_watchdog(void)
{
	const char *pid = getenv("WATCHDOG_PID");
	const char *us = getenv("WATCHDOG_USEC");
	unsigned long long v;
	char *end;

	if (!us || (pid && atoi(pid) != getpid()))
		return 0;
	errno = 0;
	v = strtoull(us, &end, 10);
	if (errno || end == us || *end || v > UINT64_MAX / 1000) {
		log_warnx("systemd: WATCHDOG_USEC is no number (%.40s)", us);
		return 0;
	}
	return v * 1000 / 2;
}

void notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path)
		sock = open_socket(path);
	if (path && sock < 0)
		log_warn(sock, "systemd: cannot be told (%.100s)", path);
	if (sock >= 0)
		beat_ns = read_watchdog();
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify(const char *fmt, ...)
{
	char text[MESSAGE];
	va_list ap;
	int n;

	if (sock < 0)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(text))
		return;
	if (sendto(sock, text, n, MSG_NOSIGNAL, (struct sockaddr *)&to,
		   to_len) < 0)
		log_warn(errno, "systemd: not told %.*s",
			 (int)strcspn(text, "\n"), text);
}

uint64_t notify_beat_ns(void)
{
	return beat_ns;
}
