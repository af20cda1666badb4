/* SPDX-License-Identifier: MIT */
/* check_sandbox.c - inside the sandboxes: what must work, what must not. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../daemon/conf.h"
#include "../daemon/proc.h"
#include "../daemon/sandbox.h"

#ifdef HEARTH_SANITIZE
#define SANITIZE 1
#else
#define SANITIZE 0
#endif

static struct conf conf;

static void enter(enum sandbox_kind kind)
{
	conf_init(&conf);
	if (sandbox_user(&conf) || sandbox_drop(&conf, kind) ||
	    sandbox_filter(&conf, kind))
		_exit(90);
}

/* A child in a sandbox; its exit status. */
static int inside(enum sandbox_kind kind, int (*fn)(enum sandbox_kind))
{
	int status;
	pid_t p = fork();

	ck_assert_int_ge(p, 0);
	if (!p) {
		enter(kind);
		_exit(fn(kind));
	}
	ck_assert_int_eq(waitpid(p, &status, 0), p);
	ck_assert_msg(WIFEXITED(status), "killed by signal %d",
		      WTERMSIG(status));
	return WEXITSTATUS(status);
}

START_TEST(forbidden)
{
	ck_assert_int_eq(inside((enum sandbox_kind)_i, sandbox_try), 0);
}
END_TEST

static int state(enum sandbox_kind kind)
{
	(void)kind;
	if (!getuid() || !geteuid() || !getgid())
		return 1;
	/* A parser may not even ask. */
	return 0;
}

START_TEST(user)
{
	if (!getuid())
		ck_assert_int_eq(inside((enum sandbox_kind)_i, state), 0);
}
END_TEST

static void *thread(void *arg)
{
	*(int *)arg = 7;
	return NULL;
}

/* Memory, files that were passed, messages; in the engine threads, too. */
static int work(enum sandbox_kind kind)
{
	static const char text[] = "hello";
	struct proc_id id = { 5 };
	char body[PROC_MAX_BODY];
	char buf[8] = "";
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	pthread_t t;
	char *p[64];
	size_t n;
	int got = 0;
	int i;

	for (i = 0; i < 64; i++) {
		p[i] = malloc((size_t)i * 100000 + 1);
		if (!p[i])
			return 1;
		memset(p[i], 1, (size_t)i * 100000 + 1);
	}
	for (i = 0; i < 64; i++)
		free(p[i]);
	if (pread(10, buf, 5, 0) != 5 || memcmp(buf, text, 5))
		return 2;
	if (proc_send(11, PROC_SESSION_END, &id, sizeof(id), NULL, 0) ||
	    proc_recv(12, body, &n, fds, &n_fds) != PROC_SESSION_END)
		return 3;
	if (fcntl(10, F_GET_SEALS) < 0)
		return 4;
	if (kind == SANDBOX_PARSER)
		return ftruncate(10, 100) || pwrite(10, text, 5, 50) != 5 ? 5
									  : 0;
	if (pthread_create(&t, NULL, thread, &got) || pthread_join(t, NULL) ||
	    got != 7)
		return 6;
	return 0;
}

START_TEST(working)
{
	int sv[2];
	int fd = memfd_create("x", MFD_ALLOW_SEALING);

	ck_assert_int_eq(write(fd, "hello", 5), 5);
	ck_assert(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	dup2(fd, 10);
	dup2(sv[0], 11);
	dup2(sv[1], 12);
	ck_assert_int_eq(inside((enum sandbox_kind)_i, work), 0);
}
END_TEST

static void *sleeper(void *arg)
{
	atomic_store((_Atomic int *)arg, gettid());
	for (;;)
		pause();
	return NULL;
}

/* What the driver of a GPU does: it names its threads, and reads of devices. */
static int driver(enum sandbox_kind kind)
{
	_Atomic int tid = 0;
	char path[64], name[16] = "";
	pthread_t t;
	int fd, i;

	(void)kind;
	for (i = 0; i < 3; i++) {
		atomic_store(&tid, 0);
		if (pthread_create(&t, NULL, sleeper, &tid))
			return 1;
		while (!atomic_load(&tid))
			sched_yield();
		snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", getpid(),
			 tid);
		fd = open(path, O_WRONLY);
		if (fd < 0 || write(fd, "cuda-EvtHandlr", 14) != 14)
			return 2;
		close(fd);
		fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, name, 15) != 15 ||
		    memcmp(name, "cuda-EvtHandlr\n", 15))
			return 3;
		close(fd);
	}
	fd = open("/proc/devices", O_RDONLY);
	if (fd < 0)
		return 4;
	close(fd);
	fd = memfd_create("x", MFD_CLOEXEC);
	return fd < 0 ? 5 : 0;
}

START_TEST(of_a_driver)
{
	ck_assert_int_eq(inside(SANDBOX_GPU, driver), 0);
}
END_TEST

/* More memory than parse-bytes: refused, not given. */
static int greedy(enum sandbox_kind kind)
{
	(void)kind;
	return malloc(6ull << 30) ? 1 : 0;
}

START_TEST(memory)
{
	ck_assert_int_eq(inside(SANDBOX_PARSER, greedy), 0);
}
END_TEST

int main(void)
{
	Suite *s;
	TCase *t;
	SRunner *r;
	int failed;

	if (SANITIZE) {
		puts("sanitizers and system call filters do not mix");
		return 77;
	}
	s = suite_create("sandbox");
	t = tcase_create("sandbox");
	tcase_add_loop_test(t, forbidden, 0, 4);
	tcase_add_loop_test(t, user, 0, 4);
	tcase_add_loop_test(t, working, 0, 4);
	tcase_add_test(t, of_a_driver);
	tcase_add_test(t, memory);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
