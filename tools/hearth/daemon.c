/* SPDX-License-Identifier: MIT */
/*
 * daemon.c - the way to a daemon: connect, or start a private one.
 *
 * A private daemon belongs to the user, runs detached with its socket in the
 * runtime directory, logs beside the socket, and leaves when nobody used it
 * for a while. Starts are serialised by a lock beside the socket, so that
 * racing ones end with one daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hearth-tool.h"

#define START_MS 15000
#define IDLE_S	 "1800"
#define LOG_MAX	 (1 << 20)
#define PATH_N	 TOOL_PATH

const char *tool_socket;

/* ------------------------------------------------------------- the socket */

static bool own_dir(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       st.st_uid == getuid() && !(st.st_mode & 022);
}

/* Where a private daemon listens; false if there is no safe place. */
static bool private_socket(char path[PATH_N])
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	const char *set = tool_socket ? tool_socket : getenv("HEARTH_SOCKET");
	char run[64];

	if (set && *set)
		return snprintf(path, PATH_N, "%s", set) < PATH_N;
	snprintf(run, sizeof(run), "/run/user/%u", (unsigned)getuid());
	if (!dir || *dir != '/')
		dir = getuid() && own_dir(run) ? run : NULL;
	if (dir)
		return snprintf(path, PATH_N, "%s/hearth/hearth.sock", dir) <
		       PATH_N;
	if (getuid() == 0) {
		snprintf(path, PATH_N, "/run/hearth/hearth.sock");
		return true;
	}
	snprintf(path, PATH_N, "/tmp/hearth-%u/hearth.sock",
		 (unsigned)getuid());
	return true;
}

/* The directory of the socket, made for us alone if it is not there. */
static int socket_dir(const char *sock, char dir[PATH_N])
{
	char *slash;
	struct stat st;
	int rc;

	snprintf(dir, PATH_N, "%s", sock);
	slash = strrchr(dir, '/');
	if (!slash) {
		snprintf(dir, PATH_N, ".");
		return 0;
	}
	if (slash == dir)
		slash++;
	*slash = 0;
	if (mkdir(dir, getuid() ? 0700 : 0755) < 0 && errno != EEXIST) {
		rc = -errno;
		tool_err("%s: %s", dir, strerror(-rc));
		return rc;
	}
	/* In /tmp somebody else may have been there first. */
	if (!strncmp(dir, "/tmp/hearth-", 12) && !own_dir(dir)) {
		tool_err("%s belongs to somebody else; set HEARTH_SOCKET", dir);
		return -EPERM;
	}
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		tool_err("%s is no directory", dir);
		return -ENOTDIR;
	}
	return 0;
}

static int try_open(struct hearth **h, bool own_path)
{
	struct hearth_options HEARTH_INIT(opt);
	char path[PATH_N];
	int rc;

	opt.socket = tool_socket;
	if (own_path) {
		if (!private_socket(path))
			return -ENAMETOOLONG;
		opt.socket = path;
	}
	rc = hearth_open(h, &opt);
	return rc;
}

static bool is_absent(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED;
}

static int find_running(struct hearth **h)
{
	int rc = try_open(h, false);

	/* The library does not know the places for odd environments. */
	if (is_absent(rc) && !tool_socket && !getenv("HEARTH_SOCKET") &&
	    !getenv("XDG_RUNTIME_DIR"))
		rc = try_open(h, true);
	return rc;
}

/* ------------------------------------------------------------- the program */

static bool usable(const char *path)
{
	struct stat st;

	return access(path, X_OK) == 0 && stat(path, &st) == 0 &&
	       S_ISREG(st.st_mode);
}

static bool find_program(char path[PATH_N])
{
	static const char *const beside[] = { "hearthd", "../sbin/hearthd",
					      "../libexec/hearth/hearthd" };
	static const char *const fixed[] = { "/usr/local/sbin", "/usr/sbin" };
	const char *set = getenv("HEARTH_DAEMON"), *p, *end;
	char exe[PATH_N];
	ssize_t n;
	size_t i;

	if (set && *set) {
		snprintf(path, PATH_N, "%s", set);
		return usable(path);
	}
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	while (n > 0 && exe[n - 1] != '/')
		n--;
	for (i = 0; n > 0 && i < N_ELEM(beside); i++) {
		if (snprintf(path, PATH_N, "%.*s%s", (int)n, exe, beside[i]) <
			    PATH_N &&
		    usable(path))
			return true;
	}
	for (p = getenv("PATH"); p && *p; p = *end ? end + 1 : end) {
		end = strchrnul(p, ':');
		if (*p == '/' &&
		    snprintf(path, PATH_N, "%.*s/hearthd", (int)(end - p), p) <
			    PATH_N &&
		    usable(path))
			return true;
	}
	for (i = 0; i < N_ELEM(fixed); i++) {
		snprintf(path, PATH_N, "%s/hearthd", fixed[i]);
		if (usable(path))
			return true;
	}
	return false;
}

/* In the child: become the daemon. */
__attribute__((noreturn)) static void become(const char *prog, const char *sock,
					     int log)
{
	char opt[PATH_N + 8];
	int null = open("/dev/null", O_RDWR);

	/* Not of our terminal, session or job any more. */
	setsid();
	signal(SIGINT, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    dup2(log, 2) < 0)
		_exit(127);
	closefrom(3);
	snprintf(opt, sizeof(opt), "socket=%s", sock);
	execl(prog, prog, "-o", opt, "-o", "exit-idle-s=" IDLE_S, (char *)NULL);
	dprintf(2, "%s: %s\n", prog, strerror(errno));
	_exit(127);
}

static int open_log(const char *dir, char path[PATH_N])
{
	struct stat st;
	int fd, rc;

	if (snprintf(path, PATH_N, "%s/hearthd.log", dir) >= PATH_N)
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
		  0600);
	if (fd < 0) {
		rc = -errno;
		tool_err("%s: %s", path, strerror(-rc));
		return rc;
	}
	if (fstat(fd, &st) == 0 && st.st_size > LOG_MAX && ftruncate(fd, 0) < 0)
		tool_note("%s: cannot be shortened", path);
	return fd;
}

bool tool_log(char path[TOOL_PATH])
{
	char sock[PATH_N];
	char *slash;

	if (!private_socket(sock))
		return false;
	slash = strrchr(sock, '/');
	if (slash)
		slash[1] = 0;
	return snprintf(path, TOOL_PATH, "%shearthd.log", slash ? sock : "") <
		       TOOL_PATH &&
	       !access(path, R_OK);
}

/* The last line of the log without its journal prefix. */
static void last_line(const char *path, char *buf, size_t n)
{
	char line[512];
	FILE *f = fopen(path, "re");

	buf[0] = 0;
	if (!f)
		return;
	if (fseek(f, -4096, SEEK_END) < 0)
		rewind(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (*line)
			snprintf(buf, n, "%s",
				 line[0] == '<' && line[1] && line[2] == '>'
					 ? line + 3
					 : line);
	}
	fclose(f);
}

/* Wait until the daemon answers or is dead. */
static int wait_ready(struct hearth **h, pid_t pid, const char *log)
{
	uint64_t end = now_ns() + START_MS * 1000000ull;
	unsigned us = 1000;
	char why[512];
	int rc, status;

	for (;;) {
		rc = try_open(h, true);
		if (!is_absent(rc))
			break;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			last_line(log, why, sizeof(why));
			tool_err("the daemon did not start: %s (%s)",
				 *why ? why : "it said nothing", log);
			return -ECHILD;
		}
		if (now_ns() > end) {
			tool_err("the daemon did not answer within %d s (%s)",
				 START_MS / 1000, log);
			return -ETIMEDOUT;
		}
		if (tool_interrupted)
			return -EINTR;
		usleep(us);
		if (us < 20000)
			us *= 2;
	}
	if (rc)
		tool_err("%s", hearth_error(NULL));
	return rc;
}

static int start_daemon(struct hearth **h, const char *sock, const char *dir)
{
	char prog[PATH_N], log[PATH_N];
	pid_t pid;
	int fd, rc;

	if (!find_program(prog)) {
		tool_err("no daemon runs and hearthd is not found%s%s",
			 getenv("HEARTH_DAEMON") ? ": " : "",
			 getenv("HEARTH_DAEMON") ? getenv("HEARTH_DAEMON")
						 : "");
		return -ENOENT;
	}
	fd = open_log(dir, log);
	if (fd < 0)
		return fd;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		become(prog, sock, fd);
	rc = pid < 0 ? -errno : 0;
	close(fd);
	if (rc) {
		tool_err("fork: %s", strerror(-rc));
		return rc;
	}
	return wait_ready(h, pid, log);
}

/* Start one, unless somebody else does so right now: then take theirs. */
static int start(struct hearth **h)
{
	char sock[PATH_N], dir[PATH_N], lock[PATH_N + 8];
	int fd, rc;

	if (!private_socket(sock)) {
		tool_err("the socket's path is too long");
		return -ENAMETOOLONG;
	}
	rc = socket_dir(sock, dir);
	if (rc)
		return rc;
	snprintf(lock, sizeof(lock), "%s.start", sock);
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR &&
	       !tool_interrupted)
		;
	if (fd < 0) {
		rc = -errno;
		tool_err("%s: %s", lock, strerror(-rc));
		return rc;
	}
	rc = try_open(h, true);
	if (is_absent(rc))
		rc = start_daemon(h, sock, dir);
	else if (rc)
		tool_err("%s", hearth_error(NULL));
	close(fd);
	return rc;
}

int tool_connect(struct hearth **h, unsigned flags)
{
	int rc = find_running(h);

	if (rc == 0)
		return 0;
	if (is_absent(rc) && flags & TOOL_START)
		return start(h);
	if (is_absent(rc)) {
		if (!(flags & TOOL_QUIET))
			tool_err("no daemon is running");
		return rc;
	}
	tool_err("%s", hearth_error(NULL));
	return rc;
}
