/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - starting the engine and parsers.
 *
 * Re-executed, not merely forked: a fresh address space, no descriptor but
 * those named here, an empty environment, a session of its own.
 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ENV 16
#define SAFE_FD 64 /* above all fixed numbers */

extern char **environ;

static int self_fd = -1;

int spawn_init(void)
{
	int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	/* Out of the way of the numbers a child gets. */
	self_fd = fcntl(fd, F_DUPFD_CLOEXEC, SAFE_FD);
	err = self_fd < 0 ? -errno : 0;
	close(fd);
	return err;
}

static int conf_memfd(const struct conf *conf)
{
	int fd = memfd_create("conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (write(fd, conf, sizeof(*conf)) != (ssize_t)sizeof(*conf) ||
	    fcntl(fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)) {
		err = errno ? -errno : -EIO;
		close(fd);
		return err;
	}
	return fd;
}

int spawn_conf(struct conf *conf)
{
	ssize_t n = pread(SPAWN_CONF_FD, conf, sizeof(*conf), 0);

	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(*conf) ? 0 : -EBADMSG;
}

/* What sanitizers, coverage and tests of the loop read; in the engine where a
 * GPU's driver is, and what that reads; nothing else. */
static int env_wanted(const char *e, bool engine)
{
	static const char *const prefix[] = {
		"ASAN_",	 "UBSAN_",	     "LSAN_", "TSAN_",
		"HEARTH_EPOLL=", "LD_LIBRARY_PATH=", "CUDA"
	};
	size_t n = sizeof(prefix) / sizeof(prefix[0]) - (engine ? 0 : 2);
	size_t i;

	for (i = 0; i < n; i++)
		if (!strncmp(e, prefix[i], strlen(prefix[i])))
			return 1;
	return 0;
}

/* Out of memory, the kernel is to take what can be started again, and the
 * monitor, whom systemd protects, last. */
static void expendable(const char *mode)
{
	const char *score = strcmp(mode, "--engine") ? "500" : "100";
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* Without /proc, or from a higher score, the inherited one stays. */
	if (fd < 0)
		return;
	(void)!write(fd, score, 3);
	close(fd);
}

/* Fixed numbers: 3, 4, 5. Only async-signal-safe calls from here on. */
static void __attribute__((noreturn))
child_exec(const char *mode, const int fds[3])
{
	char arg0[] = "hearthd";
	char arg1[16];
	char *argv[] = { arg0, arg1, NULL };
	char *env[MAX_ENV + 1];
	sigset_t none;
	int high[3];
	size_t n = 0;
	size_t i;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	expendable(mode);
	strncpy(arg1, mode, sizeof(arg1) - 1);
	arg1[sizeof(arg1) - 1] = 0;
	for (i = 0; environ[i] && n < MAX_ENV; i++)
		if (env_wanted(environ[i], !strcmp(mode, "--engine")))
			env[n++] = environ[i];
	env[n] = NULL;
	for (i = 0; i < 3; i++) {
		high[i] = fds[i] < 0 ? -1
				     : fcntl(fds[i], F_DUPFD_CLOEXEC, SAFE_FD);
		if (fds[i] >= 0 && high[i] < 0)
			_exit(126);
	}
	for (i = 0; i < 3; i++)
		if (high[i] >= 0 && dup2(high[i], PROC_FD + (int)i) < 0)
			_exit(126);
	/* Descriptors that we inherited without CLOEXEC go no further. */
	close_range(PROC_FD + (high[2] < 0 ? 2 : 3), ~0u, CLOSE_RANGE_CLOEXEC);
	syscall(SYS_execveat, self_fd, "", argv, env, AT_EMPTY_PATH);
	_exit(127);
}

int spawn(struct child *c, const char *mode, const struct conf *conf,
	  int stats_fd)
{
	int sv[2] = { -1, -1 };
	int fds[3];
	int err;

	c->pid = -1;
	c->pidfd = -1;
	c->ctl = -1;
	fds[2] = stats_fd;
	fds[1] = conf_memfd(conf);
	if (fds[1] < 0)
		return fds[1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
		err = -errno;
		goto out;
	}
	fds[0] = sv[1];
	c->pid = fork();
	if (!c->pid)
		child_exec(mode, fds);
	if (c->pid < 0) {
		err = -errno;
		goto out;
	}
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0) {
		err = -errno;
		kill(c->pid, SIGKILL);
		goto out;
	}
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	c->ctl = sv[0];
	sv[0] = -1;
	err = 0;
out:
	close(fds[1]);
	if (sv[0] >= 0)
		close(sv[0]);
	if (sv[1] >= 0)
		close(sv[1]);
	return err;
}

/* By pidfd: a number could by now be somebody else's. */
void spawn_kill(int pidfd)
{
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

bool spawn_wait(int pidfd, siginfo_t *si)
{
	memset(si, 0, sizeof(*si));
	return !waitid(P_PIDFD, pidfd, si, WEXITED | WNOHANG) && si->si_pid;
}
