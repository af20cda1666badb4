/* SPDX-License-Identifier: MIT */
/*
 * t_uids.c - what one user has with the daemon is out of another's reach.
 *
 *   t_uids SOCKET MODEL OTHER OBJECTS UID_A UID_B
 *
 * As root. MODEL is A's and readable by A only, OTHER is B's and readable by
 * B only, OBJECTS is the directory of the pool. B tries to use A's model by
 * number, by name and by a descriptor that is not open for reading; to open,
 * map or copy the session memory of A out of A, the monitor and the engine;
 * and to reach the weights in the pool. B has a right to none of it, until B
 * holds MODEL open for reading.
 */
#include <dirent.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "raw.h"
#include "util.h"

#define N_TOKENS 32
#define MAX_FD	 256
#define OBJ_NAME 256

static struct shared {
	uint32_t model; /* A's */
	uint32_t a[N_TOKENS];
	uint32_t b[N_TOKENS];
	uint64_t address; /* of A's session memory, in A */
} * sh;

static const char *path;
static const char *model;
static const char *other;
static const char *objects;
static uid_t uid_a;
static uid_t uid_b;

/* As dumpable as any program of that user: nothing is won by that alone. */
static void become(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid) || prctl(PR_SET_DUMPABLE, 1))
		die("cannot become uid %u: %s", uid, strerror(errno));
}

/* ------------------------------------------------------------------ models */

static void answer(struct raw *r, uint32_t id, uint32_t *out)
{
	const struct ring_slot *s = raw_slot(r, 0);
	const struct ring_token *tok;
	struct ring_cqe e;
	int i;

	raw_run(r, 0, 1, id, 16, N_TOKENS);
	if (raw_done(r, 0, &e, 30000) || e.event != RING_EV_DONE ||
	    s->n_out != N_TOKENS)
		die("no answer");
	tok = (const struct ring_token *)(const void *)(r->d + s->out_off);
	for (i = 0; i < N_TOKENS; i++)
		out[i] = tok[i].token;
	raw_release(r, 0, 1);
}

/* LOAD with this descriptor, under A's name. */
static int load_fd(struct raw *r, int fd, struct wire_model *w)
{
	struct wire_load l = { .n_files = 1, .name = "private" };
	int fds[WIRE_MAX_FDS];
	unsigned int n = 0;
	int err = wire_send(r->sock, WIRE_LOAD, 1, &l, sizeof(l), &fd, 1);

	if (!err)
		err = raw_expect(r->sock, WIRE_MODEL, w, sizeof(*w), fds, &n,
				 60000);
	while (!err && n)
		close(fds[--n]);
	return err;
}

static int open_id(struct raw *r, uint32_t id)
{
	struct wire_id q = { .model = id };
	struct wire_model w;
	int fds[WIRE_MAX_FDS];
	unsigned int n = 0;
	int err = wire_send(r->sock, WIRE_OPEN, 1, &q, sizeof(q), NULL, 0);

	if (!err)
		err = raw_expect(r->sock, WIRE_MODEL, &w, sizeof(w), fds, &n,
				 10000);
	while (!err && n)
		close(fds[--n]);
	return err;
}

/* The number of the model that was loaded as "private" by A, or 0. */
static uint32_t find(int sock)
{
	static struct wire_model w[WIRE_MAX_MODELS];
	int fds[WIRE_MAX_FDS];
	unsigned int n;
	size_t i;

	memset(w, 0, sizeof(w));
	if (wire_send(sock, WIRE_LIST, 1, NULL, 0, NULL, 0) ||
	    raw_recv(sock, w, sizeof(w), fds, &n, 10000) != WIRE_MODELS)
		die("no list of models");
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (w[i].model && w[i].uid == uid_a)
			return w[i].model;
	return 0;
}

/* B has no way to A's model @id. */
static void try_model(uint32_t id)
{
	struct wire_model w = { 0 };
	struct ring_cqe e;
	struct raw r;
	int err;
	int fd;

	if (raw_open(&r, path))
		die("B cannot connect");
	if (open(model, O_RDONLY) >= 0 || errno != EACCES)
		die("B can open the file itself");
	err = open_id(&r, id);
	if (err != -EACCES)
		die("OPEN of A's model: %s", strerror(-err));
	fd = open(model, O_PATH);
	if (fd < 0)
		die("O_PATH: %s", strerror(errno));
	if (!load_fd(&r, fd, &w))
		die("a descriptor that cannot read was enough");
	close(fd);
	raw_run(&r, 0, 1, id, 16, 4);
	if (raw_done(&r, 0, &e, 10000) || e.event != RING_EV_REFUSED ||
	    e.reason != RING_BAD_MODEL)
		die("a request for A's model was not refused");
	/* a model of B's own, under the same name, is another one */
	fd = open(other, O_RDONLY);
	err = fd < 0 ? -errno : load_fd(&r, fd, &w);
	if (err)
		die("B's own file: %s", strerror(-err));
	if (w.model == id)
		die("by its name B's file has become A's model");
	close(fd);
	answer(&r, w.model, sh->b);
	raw_close(&r);
}

/* ---------------------------------------------------------------- memories */

/* In how many ways can we get at @pid? */
static unsigned int reach(pid_t pid, uint64_t address)
{
	char name[64];
	char buf[16];
	struct iovec to = { buf, sizeof(buf) };
	struct iovec from = { (void *)(uintptr_t)address, sizeof(buf) };
	unsigned int n = 0;
	int pidfd;
	int fd;
	int i;

	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	for (i = 0; i < MAX_FD; i++) {
		snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)pid, i);
		fd = open(name, O_RDONLY | O_NONBLOCK);
		n += fd >= 0;
		close(fd);
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
		n += fd >= 0;
		close(fd);
	}
	close(pidfd);
	snprintf(name, sizeof(name), "/proc/%d/mem", (int)pid);
	fd = open(name, O_RDONLY);
	n += fd >= 0 && pread(fd, buf, 16, (off_t)address) == 16;
	close(fd);
	n += process_vm_readv(pid, &to, 1, &from, 1, 0) > 0;
	if (!ptrace(PTRACE_SEIZE, pid, NULL, NULL)) {
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
		n++;
	}
	return n;
}

/* What B got for itself is no way in, either: D is for reading only. */
static void try_own(void)
{
	struct raw r;
	char name[64];
	void *v;

	if (raw_open(&r, path))
		die("B cannot connect");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", r.d_fd);
	if (open(name, O_RDWR) >= 0)
		die("D can be opened for writing");
	v = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r.d_fd, 0);
	if (v != MAP_FAILED ||
	    !mprotect((void *)(uintptr_t)r.d, 4096, PROT_READ | PROT_WRITE))
		die("D can be mapped for writing");
	raw_close(&r);
}

static void try_memory(pid_t client)
{
	const pid_t pid[] = { client, (pid_t)raw_stat(path, "pid"),
			      (pid_t)raw_stat(path, "engine_pid") };
	static const char *const who[] = { "client", "monitor", "engine" };
	unsigned int n;
	size_t i;

	for (i = 0; i < 3; i++) {
		n = reach(pid[i], sh->address);
		if (n)
			die("B reaches into A's %s in %u ways", who[i], n);
	}
	try_own();
}

/* The weights: neither the directory nor, names being guessed, a file. */
static void try_objects(char (*names)[OBJ_NAME], int n)
{
	char file[8192];
	int i;

	if (opendir(objects) || errno != EACCES)
		die("B can list the pool");
	for (i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%s/%s", objects, names[i]);
		if (open(file, O_RDONLY) >= 0 || errno != EACCES)
			die("B can open an object of the pool");
	}
	if (open("/dev/hearth", O_RDWR) >= 0)
		die("B can open /dev/hearth");
}

/* --------------------------------------------------------------- processes */

/* A: opens a session, asks, says so, and stays until told to go. */
static void __attribute__((noreturn)) run_a(int ready, int go)
{
	struct wire_model w = { 0 };
	struct raw r;
	char c = 0;
	int fd;

	become(uid_a);
	fd = open(model, O_RDONLY);
	if (fd < 0 || raw_open(&r, path) || load_fd(&r, fd, &w))
		die("A: cannot start");
	close(fd);
	answer(&r, w.model, sh->a);
	sh->model = w.model;
	sh->address = (uintptr_t)r.c;
	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 0)
		die("A: cannot wait");
	raw_close(&r);
	exit(0);
}

/* B, with the very file open: the model is B's to use. */
static void with_fd(int fd)
{
	struct wire_model w = { 0 };
	struct raw r;

	if (raw_open(&r, path) || load_fd(&r, fd, &w))
		die("B: the open file is not enough");
	answer(&r, w.model, sh->b);
	raw_close(&r);
}

/* Run a part as another user. */
#define AS(uid, what)                                  \
	do {                                           \
		pid_t p_ = fork();                     \
		int status_ = 1;                       \
                                                       \
		if (!p_) {                             \
			become(uid);                   \
			what;                          \
			exit(0);                       \
		}                                      \
		waitpid(p_, &status_, 0);              \
		if (status_)                           \
			die("uid %u: %s", uid, #what); \
	} while (0)

static int list_objects(char (*names)[OBJ_NAME], int max)
{
	DIR *d = opendir(objects);
	struct dirent *e;
	int n = 0;

	while (d && n < max && (e = readdir(d)))
		if (e->d_name[0] != '.')
			snprintf(names[n++], OBJ_NAME, "%s", e->d_name);
	if (d)
		closedir(d);
	return n;
}

static uint32_t resident(void)
{
	int s = raw_connect(path);
	uint32_t id;

	if (s < 0)
		die("no daemon");
	id = find(s);
	close(s);
	return id;
}

static void together(void)
{
	static char names[16][OBJ_NAME];
	int ready[2];
	int go[2];
	pid_t a;
	char c;
	int n;

	if (pipe2(ready, O_CLOEXEC) || pipe2(go, O_CLOEXEC))
		die("pipe");
	a = fork();
	if (!a) {
		close(go[1]);
		run_a(ready[1], go[0]);
	}
	close(ready[1]);
	close(go[0]);
	if (read(ready[0], &c, 1) != 1)
		die("A has failed");
	n = list_objects(names, 16);
	if (!n)
		die("%s: no object", objects);
	/* that these ways are ways, for who has the right */
	AS(uid_a, if (reach(a, sh->address) < 4) die("A is out of reach"));
	AS(uid_b, try_model(sh->model));
	if (!memcmp(sh->a, sh->b, sizeof(sh->a)))
		die("B's own model answers like A's");
	AS(uid_b, try_memory(a));
	AS(uid_b, try_objects(names, n));
	close(go[1]);
	waitpid(a, &n, 0);
	if (n)
		die("A ended with status %#x", n);
}

int main(int argc, char **argv)
{
	uint32_t id;
	int fd;

	if (argc != 7)
		die("usage: t_uids SOCKET MODEL OTHER OBJECTS UID_A UID_B");
	path = argv[1];
	model = argv[2];
	other = argv[3];
	objects = argv[4];
	uid_a = (uid_t)atoi(argv[5]);
	uid_b = (uid_t)atoi(argv[6]);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fd = open(model, O_RDONLY);
	if (sh == MAP_FAILED || fd < 0)
		die("%s: %s", model, strerror(errno));
	id = resident();
	if (id) {
		/* a model that this daemon found in the pool */
		AS(uid_b, try_model(id));
		AS(uid_b, with_fd(fd));
		AS(uid_b, try_model(id));
	}
	close(fd);
	together();
	fd = open(model, O_RDONLY);
	AS(uid_b, with_fd(fd));
	if (memcmp(sh->a, sh->b, sizeof(sh->a)))
		die("with the file open B gets another answer than A");
	AS(uid_b, try_model(sh->model));
	printf("uid %u: %s model of uid %u out of reach\n", uid_b,
	       id ? "resident" : "new", uid_a);
	return 0;
}
