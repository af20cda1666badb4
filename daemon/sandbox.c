/* SPDX-License-Identifier: MIT */
/* sandbox.c - uid, namespaces, rlimits, Landlock and seccomp of children. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../libclient/image.h"
#include "log.h"

/* A sanitizer's run-time library needs what a sandbox forbids. */
#ifdef HEARTH_SANITIZE
static const int sanitize = 1;
#else
static const int sanitize;
#endif

/* ---------------------------------------------------------- user, limits */

int sandbox_user(struct conf *conf)
{
	struct passwd *pw;

	if (geteuid()) {
		conf->user[0] = 0;
		return 0;
	}
	pw = getpwnam(conf->user);
	if (!pw)
		pw = getpwnam("nobody");
	if (!pw)
		return -ENOENT;
	snprintf(conf->user, sizeof(conf->user), "%u:%u", pw->pw_uid,
		 pw->pw_gid);
	return 0;
}

/* The group that GPUs are for, on systems where they are not for everybody. */
static size_t gpu_group(gid_t *gid)
{
	struct stat st;

	if (stat("/dev/nvidiactl", &st) || !st.st_gid ||
	    (st.st_mode & 06) == 06 || (st.st_mode & 060) != 060)
		return 0;
	*gid = st.st_gid;
	return 1;
}

static int drop_user(const struct conf *conf, enum sandbox_kind kind)
{
	gid_t group = 0;
	size_t n_groups;
	unsigned int uid;
	unsigned int gid;

	if (sscanf(conf->user, "%u:%u", &uid, &gid) != 2)
		return 0;
	n_groups = kind == SANDBOX_GPU ? gpu_group(&group) : 0;
	if (setgroups(n_groups, &group) || setresgid(gid, gid, gid) ||
	    setresuid(uid, uid, uid))
		return -errno;
	return setuid(0) ? 0 : -EPERM; /* must not be possible any more */
}

static int limit(int what, rlim_t n)
{
	struct rlimit r = { n, n };

	return setrlimit(what, &r) ? -errno : 0;
}

static bool is_engine(enum sandbox_kind kind)
{
	return kind == SANDBOX_ENGINE || kind == SANDBOX_GPU;
}

/* Weights are pinned while they go up: as much as may be. */
static void pin_all(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_MEMLOCK, &r))
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_MEMLOCK, &r);
}

static int set_limits(const struct conf *conf, enum sandbox_kind kind)
{
	int err = limit(RLIMIT_CORE, 0);

	if (kind == SANDBOX_GPU)
		pin_all();
	if (err || is_engine(kind))
		return err;
	/* Messages carry fds above the files: a margin. */
	err = limit(RLIMIT_NOFILE, 160);
	/* It has threads and takes its time, and writes to its log only. */
	if (!err && kind == SANDBOX_LOADER)
		return limit(RLIMIT_FSIZE, IMAGE_MAX_BYTES);
	if (!err)
		err = limit(RLIMIT_NPROC, 0);
	if (!err)
		err = limit(RLIMIT_FSIZE, IMAGE_MAX_BYTES);
	if (!err)
		err = limit(RLIMIT_CPU, conf->parse_ms / 1000 + 1);
	if (!err && !sanitize)
		err = limit(RLIMIT_AS, conf->parse_bytes);
	return err;
}

/* ------------------------------------------------- namespaces, Landlock */

/* As root at once; else in a user namespace of its own, if that is allowed.
 * Not so for a root without CAP_SYS_ADMIN: there he could become nobody. */
static void leave_namespaces(void)
{
	int flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

	if (!unshare(flags))
		return;
	if (geteuid() && !unshare(CLONE_NEWUSER | flags))
		return;
	log_debug("sandbox: no namespace of its own (%s)",
		  strerrorname_np(errno));
}

static uint64_t landlock_fs(int abi)
{
	uint64_t all = (1ull << 13) - 1; /* ABI 1: EXECUTE .. MAKE_SYM */

	if (abi >= 2)
		all |= 1ull << 13; /* REFER */
	if (abi >= 3)
		all |= 1ull << 14; /* TRUNCATE */
	if (abi >= 5)
		all |= 1ull << 15; /* IOCTL_DEV */
	return all;
}

/* Larger than this system's headers may know; older kernels take a prefix. */
struct ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

#define FS_READ	 (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_FILE	 (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define FS_IOCTL (1ull << 15)

static int add_rule(int ruleset, int fd, uint64_t file, uint64_t dir)
{
	struct landlock_path_beneath_attr rule = { .parent_fd = fd };
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	rule.allowed_access = S_ISDIR(st.st_mode) ? file | dir : file;
	return syscall(SYS_landlock_add_rule, ruleset,
		       LANDLOCK_RULE_PATH_BENEATH, &rule, 0)
		       ? -errno
		       : 0;
}

/* What is not there is not needed. */
static int allow(int ruleset, const char *path, uint64_t file, uint64_t dir)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	int err;

	if (fd < 0)
		return 0;
	err = add_rule(ruleset, fd, file, dir);
	close(fd);
	return err;
}

/*
 * The driver names its threads by writing to /proc/self/task/TID/comm, and a
 * thread that cannot is an error of cuInit() since 570. Other files there are
 * root's, as we are not dumpable. A rule is an inode's, and procfs makes a new
 * one when nobody has the old one: the descriptor stays open.
 */
static int allow_names(int ruleset)
{
	int fd = open("/proc/self/task", O_PATH | O_CLOEXEC);

	return fd < 0 ? 0
		      : add_rule(ruleset, fd, LANDLOCK_ACCESS_FS_WRITE_FILE, 0);
}

/* Each directory of a list with colons. */
static int allow_list(int ruleset, const char *list)
{
	char path[4096];
	size_t n;
	int err = 0;

	for (; list && *list && !err; list += n + !!list[n]) {
		n = strcspn(list, ":");
		snprintf(path, sizeof(path), "%.*s", (int)n, list);
		if (n && n < sizeof(path))
			err = allow(ruleset, path, LANDLOCK_ACCESS_FS_READ_FILE,
				    FS_READ);
	}
	return err;
}

/*
 * What libcuda opens: its devices, to use them; to read, further libraries of
 * the driver's, and what /proc and /sys say of devices and memory.
 */
static int allow_gpu(int ruleset, uint64_t known)
{
	static const char places[] =
		"/usr/lib:/usr/lib64:/lib:/lib64:/etc/ld.so.cache:"
		"/usr/local/nvidia:/usr/local/cuda:/proc:/sys";
	glob_t g = { 0 };
	size_t i;
	int err;

	err = allow_list(ruleset, places);
	if (!err)
		err = allow_names(ruleset);
	if (!err)
		err = allow_list(ruleset, getenv("LD_LIBRARY_PATH"));
	if (glob("/dev/nvidia*", 0, NULL, &g))
		return err;
	for (i = 0; i < g.gl_pathc && !err; i++)
		err = allow(ruleset, g.gl_pathv[i],
			    (FS_FILE | FS_IOCTL) & known, FS_READ);
	globfree(&g);
	return err;
}

static int landlock(enum sandbox_kind kind)
{
	struct ruleset rs = { 0 };
	size_t size = sizeof(rs.fs);
	int abi;
	int fd;
	int err = 0;

	abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			   LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1) {
		log_info("sandbox: this kernel has no Landlock (%s)",
			 strerrorname_np(errno));
		return 0;
	}
	rs.fs = landlock_fs(abi);
	if (abi >= 4) {
		rs.net = 3; /* BIND_TCP, CONNECT_TCP */
		size = 2 * sizeof(uint64_t);
	}
	if (abi >= 6) {
		rs.scoped = 3; /* abstract sockets, signals */
		size = sizeof(rs);
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &rs, size, 0);
	if (fd < 0)
		return -errno;
	if (kind == SANDBOX_GPU)
		err = allow_gpu(fd, rs.fs);
	if (!err && syscall(SYS_landlock_restrict_self, fd, 0))
		err = -errno;
	close(fd);
	return err;
}

int sandbox_drop(const struct conf *conf, enum sandbox_kind kind)
{
	int err;

	if (!conf->sandbox) {
		log_info("sandbox: off (option sandbox)");
		return 0;
	}
	if (!sanitize)
		leave_namespaces();
	err = drop_user(conf, kind);
	if (err)
		return err;
	/* The leak checker looks at its own process, through /proc. */
	if (prctl(PR_SET_DUMPABLE, sanitize) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	/* After the change of user, which clears it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return -errno;
	err = sanitize ? 0 : landlock(kind);
	if (err)
		return err;
	return set_limits(conf, kind);
}

/* --------------------------------------------------------------- seccomp */

#define ALL    15
#define CPU    1 /* an engine with nothing else */
#define PARSER 2
#define LOADER 4
#define GPU    8 /* an engine with one */
#define ENGINE (CPU | GPU)
#define THREAD (ENGINE | LOADER)

struct call {
	int nr;
	int who;
};

/* clang-format off */
static const struct call calls[] = {
	{ SCMP_SYS(read), ALL },
	{ SCMP_SYS(write), ALL },
	{ SCMP_SYS(readv), ALL },
	{ SCMP_SYS(writev), ALL },
	{ SCMP_SYS(pread64), ALL },
	{ SCMP_SYS(pwrite64), PARSER },
	{ SCMP_SYS(ftruncate), PARSER },
	{ SCMP_SYS(lseek), ALL },
	{ SCMP_SYS(fstat), ALL },
	{ SCMP_SYS(newfstatat), ALL }, /* glibc's fstat; paths are Landlock's */
	{ SCMP_SYS(close), ALL },
	{ SCMP_SYS(sendmsg), ALL },
	{ SCMP_SYS(recvmsg), ALL },
	{ SCMP_SYS(mmap), ALL },
	{ SCMP_SYS(munmap), ALL },
	{ SCMP_SYS(mremap), ALL },
	{ SCMP_SYS(madvise), ALL },
	{ SCMP_SYS(brk), ALL },
	{ SCMP_SYS(futex), ALL },
	{ SCMP_SYS(getpid), ALL },
	{ SCMP_SYS(gettid), ALL },
	{ SCMP_SYS(getrandom), ALL },
	{ SCMP_SYS(clock_gettime), ALL },
	{ SCMP_SYS(gettimeofday), ALL },
	{ SCMP_SYS(rt_sigprocmask), ALL },
	{ SCMP_SYS(rt_sigaction), ALL },
	{ SCMP_SYS(rt_sigreturn), ALL },
	{ SCMP_SYS(sigaltstack), ALL },
	{ SCMP_SYS(restart_syscall), ALL },
	{ SCMP_SYS(exit), ALL },
	{ SCMP_SYS(exit_group), ALL },
	{ SCMP_SYS(fadvise64), PARSER | LOADER },
	{ SCMP_SYS(readahead), LOADER },
	{ SCMP_SYS(poll), THREAD },
	{ SCMP_SYS(ppoll), THREAD },
	{ SCMP_SYS(epoll_ctl), ENGINE },
	{ SCMP_SYS(epoll_wait), ENGINE },
	{ SCMP_SYS(epoll_pwait), ENGINE },
	{ SCMP_SYS(io_uring_enter), THREAD },
	{ SCMP_SYS(io_submit), ENGINE },
	{ SCMP_SYS(io_getevents), ENGINE },
	{ SCMP_SYS(set_robust_list), THREAD },
	{ SCMP_SYS(rseq), THREAD },
	{ SCMP_SYS(sched_yield), THREAD },
	{ SCMP_SYS(sched_getaffinity), THREAD },
	{ SCMP_SYS(sched_setaffinity), ENGINE },
	{ SCMP_SYS(sched_getparam), ENGINE },
	{ SCMP_SYS(sched_getscheduler), ENGINE },
	{ SCMP_SYS(getcpu), THREAD },
	{ SCMP_SYS(nanosleep), THREAD },
	{ SCMP_SYS(clock_nanosleep), THREAD },
	{ SCMP_SYS(membarrier), THREAD },
	{ SCMP_SYS(mlock), ENGINE },
	{ SCMP_SYS(munlock), ENGINE },
	{ SCMP_SYS(mbind), THREAD },
	{ SCMP_SYS(sysinfo), ENGINE },
	/* The driver: what it opens is Landlock's matter. */
	{ SCMP_SYS(ioctl), GPU },
	{ SCMP_SYS(openat), GPU },
	{ SCMP_SYS(stat), GPU },
	{ SCMP_SYS(lstat), GPU },
	{ SCMP_SYS(statx), GPU },
	{ SCMP_SYS(statfs), GPU },
	{ SCMP_SYS(fstatfs), GPU },
	{ SCMP_SYS(access), GPU },
	{ SCMP_SYS(faccessat), GPU },
	{ SCMP_SYS(faccessat2), GPU },
	{ SCMP_SYS(readlink), GPU },
	{ SCMP_SYS(readlinkat), GPU },
	{ SCMP_SYS(getdents64), GPU },
	{ SCMP_SYS(getcwd), GPU },
	{ SCMP_SYS(uname), GPU },
	{ SCMP_SYS(getuid), GPU },
	{ SCMP_SYS(geteuid), GPU },
	{ SCMP_SYS(getgid), GPU },
	{ SCMP_SYS(getegid), GPU },
	{ SCMP_SYS(getppid), GPU },
	{ SCMP_SYS(dup), GPU },
	{ SCMP_SYS(pipe2), GPU },
	{ SCMP_SYS(eventfd2), GPU },
	{ SCMP_SYS(epoll_create1), GPU },
	{ SCMP_SYS(memfd_create), GPU },
	{ SCMP_SYS(ftruncate), GPU },
	{ SCMP_SYS(fallocate), GPU },
	{ SCMP_SYS(mincore), GPU },
	{ SCMP_SYS(mlock2), GPU },
	{ SCMP_SYS(get_mempolicy), GPU },
	{ SCMP_SYS(set_mempolicy), GPU },
	{ SCMP_SYS(sched_get_priority_max), GPU },
	{ SCMP_SYS(sched_get_priority_min), GPU },
	{ SCMP_SYS(clock_getres), GPU },
};
/* clang-format on */

/* Descriptors may be changed, limits only be read. */
static int add_gpu(scmp_filter_ctx ctx)
{
	static const int how[] = { F_GETFD, F_SETFD, F_SETFL, F_DUPFD,
				   F_DUPFD_CLOEXEC };
	size_t i;
	int err;

	err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
			       SCMP_A2(SCMP_CMP_EQ, 0, 0));
	for (i = 0; !err && i < sizeof(how) / sizeof(how[0]); i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1(SCMP_CMP_EQ, how[i], 0));
	return err;
}

/* mprotect and mmap never make memory executable; clone only makes threads. */
static int add_conditional(scmp_filter_ctx ctx, enum sandbox_kind kind)
{
	int err;

	err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			       SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
	/* An image is believed only when it is sealed. */
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1(SCMP_CMP_EQ, F_GET_SEALS, 0));
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1(SCMP_CMP_EQ, F_GETFL, 0));
	if (err || kind == SANDBOX_PARSER)
		return err;
	if (kind == SANDBOX_GPU)
		err = add_gpu(ctx);
	if (err)
		return err;
	err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
			       SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD,
					       CLONE_THREAD));
	/* Its arguments are in memory; without it glibc takes clone(). */
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS),
				       SCMP_SYS(clone3), 0);
	return err;
}

static int add_calls(scmp_filter_ctx ctx, enum sandbox_kind kind)
{
	static const int who_is[] = { [SANDBOX_ENGINE] = CPU,
				      [SANDBOX_PARSER] = PARSER,
				      [SANDBOX_LOADER] = LOADER,
				      [SANDBOX_GPU] = GPU };
	int who = who_is[kind];
	size_t i;
	int err = 0;

	for (i = 0; !err && i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (!(calls[i].who & who))
			continue;
		if (calls[i].nr == SCMP_SYS(mmap))
			err = seccomp_rule_add(
				ctx, SCMP_ACT_ALLOW, calls[i].nr, 1,
				SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
		else
			err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].nr,
					       0);
		if (err == -EDOM) /* not on this architecture */
			err = 0;
	}
	return err;
}

int sandbox_filter(const struct conf *conf, enum sandbox_kind kind)
{
	scmp_filter_ctx ctx;
	int err;

	if (!conf->sandbox || sanitize)
		return 0;
	if (prctl(PR_GET_SECCOMP) < 0) {
		log_info("sandbox: this kernel has no seccomp filters");
		return 0;
	}
	ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!ctx)
		return -ENOMEM;
	/* All threads, those of the backend too. */
	err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = add_calls(ctx, kind);
	if (!err)
		err = add_conditional(ctx, kind);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	return err;
}

/* ------------------------------------------------------------------ tests */

#define FORBIDDEN(call, ...)                          \
	{                                             \
#call, SYS_##call, { __VA_ARGS__ }, 0 \
	}
/* But for the driver of a GPU. */
#define MOSTLY(call, ...)                               \
	{                                               \
#call, SYS_##call, { __VA_ARGS__ }, GPU \
	}
#define P(x) (long)(x)

/* clang-format off */
static const struct {
	const char *name;
	long nr;
	long arg[6];
	int but;
} forbidden[] = {
	FORBIDDEN(openat, AT_FDCWD, P("/etc/passwd"), O_RDONLY),
	MOSTLY(openat, AT_FDCWD, P("/proc/self/maps"), O_RDONLY),
	FORBIDDEN(openat, AT_FDCWD, P("/proc/self/oom_score_adj"), O_WRONLY),
	FORBIDDEN(openat, AT_FDCWD, P("/proc/thread-self/oom_score_adj"), O_WRONLY),
	FORBIDDEN(openat, AT_FDCWD, P("/tmp/hearth-escape"), O_CREAT | O_RDWR, 0600),
	FORBIDDEN(openat, AT_FDCWD, P("/dev/null"), O_RDWR),
	FORBIDDEN(openat2, AT_FDCWD, P("/"), 0, 24),
	FORBIDDEN(mkdirat, AT_FDCWD, P("/tmp/hearth-escape"), 0700),
	FORBIDDEN(unlinkat, AT_FDCWD, P("/tmp/hearth-nothing"), 0),
	FORBIDDEN(renameat2, AT_FDCWD, P("/tmp/a"), AT_FDCWD, P("/tmp/b"), 0),
	FORBIDDEN(chdir, P("/")),
	FORBIDDEN(chroot, P("/")),
	FORBIDDEN(mount, P("none"), P("/tmp"), P("tmpfs"), 0, 0),
	MOSTLY(memfd_create, P("x"), 0),
	FORBIDDEN(socket, 1 /* AF_UNIX */, 1, 0),
	FORBIDDEN(socket, 2 /* AF_INET */, 1, 0),
	FORBIDDEN(socketpair, 1, 1, 0, 0),
	FORBIDDEN(connect, 3, 0, 0),
	FORBIDDEN(bind, 3, 0, 0),
	FORBIDDEN(execve, P("/bin/true"), 0, 0),
	FORBIDDEN(execveat, AT_FDCWD, P("/bin/true"), 0, 0, 0),
	FORBIDDEN(ptrace, 16 /* ATTACH */, 1, 0, 0),
	FORBIDDEN(process_vm_readv, 1, 0, 0, 0, 0, 0),
	FORBIDDEN(kill, 1, 0),
	FORBIDDEN(tgkill, 1, 1, 0),
	FORBIDDEN(pidfd_open, 1, 0),
	FORBIDDEN(pidfd_getfd, 3, 0, 0),
	FORBIDDEN(clone, SIGCHLD, 0, 0, 0, 0),
	FORBIDDEN(clone3, 0, 0),
	FORBIDDEN(unshare, CLONE_NEWUSER),
	FORBIDDEN(setns, 3, 0),
	FORBIDDEN(setresuid, 0, 0, 0),
	FORBIDDEN(setgroups, 0, 0),
	FORBIDDEN(capset, 0, 0),
	FORBIDDEN(prctl, PR_SET_DUMPABLE, 1),
	FORBIDDEN(prctl, PR_CAPBSET_DROP, 1),
	FORBIDDEN(seccomp, 0, 0, 0),
	FORBIDDEN(io_uring_setup, 8, 0),
	FORBIDDEN(bpf, 0, 0, 0),
	FORBIDDEN(perf_event_open, 0, 0, 0, 0, 0),
	FORBIDDEN(userfaultfd, 0),
	FORBIDDEN(keyctl, 0, 0),
	FORBIDDEN(add_key, 0, 0, 0, 0, 0),
	FORBIDDEN(shmget, 0, 4096, 01600),
	FORBIDDEN(inotify_init1, 0),
	FORBIDDEN(fanotify_init, 0, 0),
	FORBIDDEN(name_to_handle_at, AT_FDCWD, P("/"), 0, 0, 0),
	FORBIDDEN(reboot, 0, 0, 0),
	FORBIDDEN(sethostname, P("x"), 1),
	FORBIDDEN(setrlimit, RLIMIT_CORE, 0),
	FORBIDDEN(mmap, 0, 4096, 7 /* with PROT_EXEC */, 0x22, -1, 0),
	FORBIDDEN(mprotect, 0, 0, 4),
};
/* clang-format on */

int sandbox_try(enum sandbox_kind kind)
{
	static const char *const names[] = {
		[SANDBOX_ENGINE] = "engine",
		[SANDBOX_PARSER] = "parser",
		[SANDBOX_LOADER] = "loader",
		[SANDBOX_GPU] = "engine with a GPU",
	};
	const long *a;
	int possible = 0;
	size_t i;
	long r;

	for (i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		if (forbidden[i].but && kind == SANDBOX_GPU)
			continue;
		a = forbidden[i].arg;
		r = syscall(forbidden[i].nr, a[0], a[1], a[2], a[3], a[4],
			    a[5]);
		if (!r && forbidden[i].nr == SYS_clone)
			_exit(99); /* the child that must not be */
		if (r < 0 &&
		    (errno == EPERM || errno == EACCES || errno == ENOSYS))
			continue;
		log_warnx("sandbox: %s is possible in the %s (%ld, %s)",
			  forbidden[i].name, names[kind], r,
			  r < 0 ? strerrorname_np(errno) : "no error");
		possible++;
	}
	return possible;
}
