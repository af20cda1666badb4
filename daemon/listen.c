/* SPDX-License-Identifier: MIT */
/*
 * listen.c - binding the socket.
 *
 * A lock beside the socket says that its daemon lives; whoever holds it may
 * remove a socket that was left behind. Under systemd the socket is given.
 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define BACKLOG	  256
#define LISTEN_FD 3 /* systemd's first */

static int fail(char why[256], int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(char why[256], int err, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(why, 256, fmt, ap);
	va_end(ap);
	if (err && n >= 0 && n < 256)
		snprintf(why + n, 256 - n, ": %s", strerrordesc_np(-err));
	return err ? err : -EADDRINUSE;
}

/* A directory of ours that nobody else may enter. */
static int private_dir(const char *dir, mode_t mode, char why[256])
{
	struct stat st;

	if (mkdir(dir, mode) && errno != EEXIST)
		return fail(why, -errno, "%s", dir);
	if (lstat(dir, &st))
		return fail(why, -errno, "%s", dir);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return fail(why, -EPERM, "%s: is not a directory of ours", dir);
	if (st.st_mode & 0022)
		return fail(why, -EPERM, "%s: others may write there", dir);
	return 0;
}

static int default_path(struct conf *conf, char why[256])
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char dir[sizeof(conf->socket) - 16];
	mode_t mode = 0700;
	int n;
	int err;

	if (!geteuid()) {
		n = snprintf(dir, sizeof(dir), "/run/hearth");
		mode = 0755;
	} else if (run && *run) {
		n = snprintf(dir, sizeof(dir), "%s/hearth", run);
	} else {
		n = snprintf(dir, sizeof(dir), "/tmp/hearth-%u", geteuid());
	}
	if (n >= (int)sizeof(dir))
		return fail(why, -ENAMETOOLONG, "XDG_RUNTIME_DIR");
	err = private_dir(dir, mode, why);
	if (!err)
		snprintf(conf->socket, sizeof(conf->socket), "%s/hearth.sock",
			 dir);
	return err;
}

static int given_by_systemd(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *fds = getenv("LISTEN_FDS");
	int type;
	socklen_t len = sizeof(type);

	if (!pid || !fds || atoi(pid) != getpid() || atoi(fds) != 1)
		return -1;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (getsockopt(LISTEN_FD, SOL_SOCKET, SO_TYPE, &type, &len) ||
	    type != SOCK_SEQPACKET)
		return -1;
	fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC);
	fcntl(LISTEN_FD, F_SETFL, O_NONBLOCK);
	return LISTEN_FD;
}

static int held_by(int fd, const char *path, char why[256])
{
	char pid[16] = "?";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	if (n > 0)
		pid[n] = 0;
	return fail(why, 0, "another hearthd (pid %s) serves %s", pid, path);
}

/* The file may be removed by its last owner while we wait for it: look again. */
static int take_lock(struct listen *ln, char why[256])
{
	struct stat a;
	struct stat b;
	char pid[16];
	int n;
	int err;

	for (;;) {
		ln->lock = open(ln->lock_path,
				O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
				0600);
		if (ln->lock < 0)
			return fail(why, -errno, "%s", ln->lock_path);
		if (flock(ln->lock, LOCK_EX | LOCK_NB)) {
			err = errno == EWOULDBLOCK
				      ? held_by(ln->lock, ln->path, why)
				      : fail(why, -errno, "%s", ln->lock_path);
			close(ln->lock);
			return err;
		}
		if (!fstat(ln->lock, &a) && !stat(ln->lock_path, &b) &&
		    a.st_ino == b.st_ino && a.st_dev == b.st_dev)
			break;
		close(ln->lock);
	}
	n = snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (ftruncate(ln->lock, 0) || pwrite(ln->lock, pid, n, 0) != n)
		return 0; /* the number is a courtesy, the lock counts */
	return 0;
}

static int bind_path(struct listen *ln, const struct conf *conf, char why[256])
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", ln->path);
	if (!lstat(ln->path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return fail(why, -EEXIST, "%s: is not a socket",
				    ln->path);
		if (unlink(ln->path))
			return fail(why, -errno, "%s", ln->path);
	}
	ln->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);
	if (ln->fd < 0)
		return fail(why, -errno, "socket");
	if (bind(ln->fd, (struct sockaddr *)&a, sizeof(a)) ||
	    chmod(ln->path, conf->socket_mode) || listen(ln->fd, BACKLOG))
		return fail(why, -errno, "%s", ln->path);
	return 0;
}

int listen_open(struct listen *ln, struct conf *conf, char why[256])
{
	int err = 0;

	memset(ln, 0, sizeof(*ln));
	ln->lock = -1;
	ln->fd = given_by_systemd();
	if (ln->fd >= 0) {
		if (!conf->socket[0])
			snprintf(conf->socket, sizeof(conf->socket),
				 "given by systemd");
		return 0;
	}
	if (!conf->socket[0])
		err = default_path(conf, why);
	if (err)
		return err;
	snprintf(ln->path, sizeof(ln->path), "%s", conf->socket);
	snprintf(ln->lock_path, sizeof(ln->lock_path), "%s.lock", conf->socket);
	err = take_lock(ln, why);
	if (err)
		return err;
	err = bind_path(ln, conf, why);
	if (err) {
		if (ln->fd >= 0)
			close(ln->fd);
		unlink(ln->lock_path);
		close(ln->lock);
	}
	return err;
}

void listen_close(struct listen *ln)
{
	if (ln->lock >= 0) {
		unlink(ln->path);
		unlink(ln->lock_path);
		close(ln->lock);
	}
	close(ln->fd);
}
