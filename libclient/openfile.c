/* SPDX-License-Identifier: MIT */
/*
 * openfile.c - a model file's vocabulary and metadata without a daemon.
 *
 * The header of a model file may be hostile, so it is not parsed here either:
 * `hearthd --parser` does it as a sandboxed child that is handed the files and
 * an empty image, and what it wrote is checked like any image.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conn.h"
#include "openfile.h"

#define PARSE_MS 60000
#define HIGH_FD	 100

extern char **environ;

/* ------------------------------------------------------ finding the parser */

static bool runnable(const char *path)
{
	return !access(path, X_OK);
}

static bool beside(char *buf, size_t n)
{
	ssize_t k = readlink("/proc/self/exe", buf, n - 1);
	char *slash;

	if (k <= 0)
		return false;
	buf[k] = 0;
	slash = strrchr(buf, '/');
	if (!slash || (size_t)(slash - buf) + sizeof("/hearthd") > n)
		return false;
	strcpy(slash, "/hearthd");
	return runnable(buf);
}

static bool in_dirs(const char *dirs, char *buf, size_t n)
{
	const char *p = dirs;
	const char *end;
	int k;

	while (p && *p) {
		end = strchrnul(p, ':');
		k = snprintf(buf, n, "%.*s/hearthd", (int)(end - p), p);
		if (end > p && k > 0 && (size_t)k < n && runnable(buf))
			return true;
		p = *end ? end + 1 : end;
	}
	return false;
}

int openfile_daemon(char *buf, size_t n)
{
	const char *env = getenv("HEARTH_DAEMON");
	const char *path = getenv("PATH");
	int k;

	if (env && *env) {
		k = snprintf(buf, n, "%s", env);
		return k > 0 && (size_t)k < n && runnable(buf) ? 0 : -ENOENT;
	}
	if (beside(buf, n) || (path && in_dirs(path, buf, n)) ||
	    in_dirs("/usr/local/sbin:/usr/sbin:/usr/libexec", buf, n))
		return 0;
	return -ENOENT;
}

/* ------------------------------------------------------------- the child */

struct parser {
	pid_t pid;
	int sock;
	int image;
};

/* The child gets the socket as fd 3 and nothing else. */
static int spawn_parser(struct parser *p, const char *path, int child_sock)
{
	char arg0[] = "hearthd";
	char arg1[] = "--parser";
	char *argv[] = { arg0, arg1, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none;
	int high;
	int err;

	/* out of the way first: dup2() onto itself would keep CLOEXEC */
	high = fcntl(child_sock, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high < 0)
		return -errno;
	err = -posix_spawn_file_actions_init(&fa);
	if (err)
		goto out_fd;
	err = -posix_spawnattr_init(&attr);
	if (err)
		goto out_fa;
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	err = -posix_spawn_file_actions_adddup2(&fa, high, OPENFILE_SOCK);
	if (!err)
		err = -posix_spawn_file_actions_addclosefrom_np(
			&fa, OPENFILE_SOCK + 1);
	if (!err)
		err = -posix_spawn(&p->pid, path, &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
out_fa:
	posix_spawn_file_actions_destroy(&fa);
out_fd:
	close(high);
	return err;
}

/* The parser's work: the image to fill and the files, in order. */
static int give_files(struct parser *p, const int *fds, int n)
{
	struct openfile_ask ask = { .type = OPENFILE_LOAD,
				    .len = sizeof(ask) - 8,
				    .n_files = (uint32_t)n };
	struct iovec iov = { .iov_base = &ask, .iov_len = sizeof(ask) };
	size_t bytes = sizeof(int) * ((size_t)n + 1);
	union {
		char buf[CMSG_SPACE(sizeof(int) * (WIRE_MAX_FDS + 1))];
		struct cmsghdr align;
	} ctl = { 0 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = ctl.buf,
			      .msg_controllen = CMSG_SPACE(bytes) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(cm), &p->image, sizeof(int));
	memcpy(CMSG_DATA(cm) + sizeof(int), fds, bytes - sizeof(int));
	return sendmsg(p->sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The parser's one message: what it made of the files. */
static int await_parser(struct parser *p, char *why, size_t n)
{
	struct pollfd pfd = { .fd = p->sock, .events = POLLIN };
	struct openfile_msg msg;
	uint64_t end = cring_now_ns() + PARSE_MS * 1000000ull;
	uint64_t now;
	ssize_t k;
	int r;

	do {
		now = cring_now_ns();
		r = poll(&pfd, 1, now < end ? (int)((end - now) / 1000000) : 0);
	} while (r < 0 && errno == EINTR);
	if (!r) {
		kill(p->pid, SIGKILL);
		snprintf(why, n, "the parser took longer than %d s",
			 PARSE_MS / 1000);
		return -ETIMEDOUT;
	}
	k = recv(p->sock, &msg, sizeof(msg), MSG_DONTWAIT);
	if (k != (ssize_t)sizeof(msg) || msg.type != OPENFILE_PARSED) {
		snprintf(why, n, "the parser died");
		return -EBADMSG;
	}
	if (!msg.err)
		return 0;
	msg.text[sizeof(msg.text) - 1] = 0;
	snprintf(why, n, "%s", msg.text);
	return msg.err < 0 && msg.err > -4096 ? msg.err : -EBADMSG;
}

static int parse(struct parser *p, const int *fds, int n, char *why, size_t m)
{
	char path[FIND_PATH];
	int sv[2];
	int status;
	int err;

	err = openfile_daemon(path, sizeof(path));
	if (err) {
		snprintf(why, m,
			 "hearthd, which reads model files, was not found (set "
			 "HEARTH_DAEMON)");
		return err;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -errno;
	p->sock = sv[0];
	err = spawn_parser(p, path, sv[1]);
	close(sv[1]);
	if (err) {
		snprintf(why, m, "cannot run %.300s: %s", path,
			 hearth_strerror(err));
	} else {
		err = give_files(p, fds, n);
		if (!err)
			err = await_parser(p, why, m);
		/* its end must be seen: only then can the image be sealed */
		if (err)
			kill(p->pid, SIGKILL);
		while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(p->sock);
	return err;
}

int hearth_model_open_file(struct hearth_model **out, const char *name,
			   char *why, size_t n)
{
	struct parser p = { .pid = -1, .sock = -1, .image = -1 };
	char path[FIND_PATH];
	char text[CONN_ERR] = "";
	int fds[WIRE_MAX_FDS];
	int n_fds;
	int err;
	int i;

	*out = NULL;
	err = hearth_model_find(name, path, sizeof(path));
	if (err) {
		snprintf(text, sizeof(text), "no model file %.128s%s%.300s",
			 name, path[0] ? "; did you mean " : "", path);
		goto out;
	}
	n_fds = model_files(path, fds, WIRE_MAX_FDS, text, sizeof(text));
	if (n_fds < 0) {
		err = n_fds;
		goto out;
	}
	p.image = memfd_create("model image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	err = p.image < 0 ? -errno : parse(&p, fds, n_fds, text, sizeof(text));
	for (i = 0; i < n_fds; i++)
		close(fds[i]);
	if (!err &&
	    fcntl(p.image, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL))
		err = -errno;
	if (!err) {
		/* consumes the image */
		err = model_new_fd(out, p.image, text);
		p.image = -1;
	}
	if (!err)
		find_name(path, (*out)->info.name, sizeof((*out)->info.name));
	if (p.image >= 0)
		close(p.image);
	if (err && n)
		snprintf(why, n, "%.200s: %.300s", path,
			 text[0] ? text : hearth_strerror(err));
	return err;
out:
	if (n)
		snprintf(why, n, "%.511s", text);
	return err;
}
