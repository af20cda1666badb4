/* SPDX-License-Identifier: MIT */
/*
 * t_kill.c - clients and engines killed at random moments.
 *
 *   t_kill clients SOCKET MODEL N   N clients die somewhere between connect
 *                                   and the end of an answer
 *   t_kill engine SOCKET MODEL N    the engine dies under running requests
 *
 * An honest client runs beside and compares every answer with the first.
 */
#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include "raw.h"
#include "util.h"

#define N_SLOTS	   4
#define MAX_TOKENS 200
#define SETTLE_MS  5000

static const char *path;
static const char *model;

/* --------------------------------------------------------- honest client */

/* Tokens of a request, or -errno of what it was told. */
static int answer(struct raw *r, uint32_t id, uint32_t gen, uint32_t *out,
		  int n)
{
	const struct ring_token *tok;
	const struct ring_slot *s = raw_slot(r, 0);
	struct ring_cqe e;
	int err;
	int i;

	raw_run(r, 0, gen, id, 16, (uint32_t)n);
	err = raw_done(r, 0, &e, 30000);
	if (err)
		return err;
	if (e.event == RING_EV_REFUSED)
		return e.err < 0 ? e.err : -EPROTO;
	err = s->finish == RING_FIN_ERROR ? s->err : 0;
	if (!err && s->n_out != (uint32_t)n)
		err = -EBADMSG;
	tok = (const struct ring_token *)(const void *)(r->d + s->out_off);
	for (i = 0; !err && i < n; i++)
		out[i] = tok[i].token;
	raw_release(r, 0, gen);
	return err;
}

/* Runs until told to stop. Exit status: 0, or 1 after a wrong answer. */
static void __attribute__((noreturn)) honest(int stop_fd)
{
	uint32_t first[32];
	uint32_t out[32];
	struct pollfd p = { .fd = stop_fd, .events = POLLIN };
	struct wire_model w = { 0 };
	struct raw r;
	uint32_t gen = 0;
	int err;

	err = raw_open(&r, path);
	if (!err)
		err = raw_load(r.sock, model, &w);
	if (!err)
		err = answer(&r, w.model, ++gen, first, 32);
	if (err)
		die("honest: start: %s", strerror(-err));
	while (!poll(&p, 1, 0)) {
		err = answer(&r, w.model, ++gen, out, 32);
		if (err)
			die("honest: answer %u: %s", gen, strerror(-err));
		if (memcmp(first, out, sizeof(out)))
			die("honest: answer %u differs", gen);
		nap(2000);
	}
	printf("honest client: %u answers, all equal\n", gen);
	fflush(stdout);
	raw_close(&r);
	exit(0);
}

/* --------------------------------------------------------------- victims */

/* Does everything, in no particular order, until it is killed. */
static void __attribute__((noreturn)) victim(unsigned int seed)
{
	struct wire_model w = { 0 };
	struct raw r;
	uint32_t gen = 0;
	uint32_t i;

	srand(seed);
	for (;;) {
		if (raw_hello(&r, path, NULL))
			exit(0);
		if (rand() % 8 == 0) {
			raw_close(&r);
			continue;
		}
		if (raw_map(&r) || raw_mapped(&r) ||
		    raw_load(r.sock, model, &w))
			exit(0);
		for (gen++; rand() % 4; gen++) {
			for (i = 0; i < N_SLOTS; i++)
				raw_run(&r, i, gen, w.model, 1 + rand() % 300,
					1 + rand() % MAX_TOKENS);
			nap(rand() % 3000);
			for (i = 0; i < N_SLOTS; i++)
				raw_release(&r, i, gen);
			raw_nop(&r, gen, 1000);
		}
		raw_close(&r);
	}
}

/* ----------------------------------------------------------- what is left */

static long field(pid_t pid, const char *file, const char *key)
{
	char name[64];
	char line[256];
	long v = -1;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/%s", pid, file);
	f = fopen(name, "re");
	if (!f)
		return -1;
	while (v < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			v = atol(line + strlen(key));
	fclose(f);
	return v;
}

static long n_fds(pid_t pid)
{
	char name[64];
	long n = 0;
	DIR *d;

	snprintf(name, sizeof(name), "/proc/%d/fd", pid);
	d = opendir(name);
	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

struct left {
	pid_t pid;
	pid_t engine;
	long fds;
	long engine_fds;
	long rss;
	long engine_rss;
	long long sessions;
	long long engine_sessions;
	long long kv_used;
	long long active;
};

static struct left look(void)
{
	struct left l;

	l.pid = (pid_t)raw_stat(path, "pid");
	l.engine = (pid_t)raw_stat(path, "engine_pid");
	l.sessions = raw_stat(path, "sessions");
	l.engine_sessions = raw_stat(path, "engine_sessions");
	l.kv_used = raw_stat(path, "kv_used");
	l.active = raw_stat(path, "active");
	/* until the daemon has seen that the last one who asked is gone */
	nap(1000);
	l.fds = n_fds(l.pid);
	l.engine_fds = n_fds(l.engine);
	l.rss = field(l.pid, "status", "RssAnon:");
	l.engine_rss = field(l.engine, "status", "RssAnon:");
	return l;
}

static void show(const char *when, const struct left *l)
{
	printf("%s: monitor %ld fds %ld KiB, engine %ld fds %ld KiB, "
	       "%lld sessions (engine %lld), %lld active, %lld bytes of KV\n",
	       when, l->fds, l->rss, l->engine_fds, l->engine_rss, l->sessions,
	       l->engine_sessions, l->active, l->kv_used);
}

/* Wait until nothing is left over; how long that took, or -1. */
static int settle(const struct left *a, struct left *b)
{
	int ms;

	for (ms = 0; ms < SETTLE_MS; ms += 20) {
		*b = look();
		if (b->sessions == a->sessions &&
		    b->engine_sessions == a->engine_sessions && !b->active &&
		    b->kv_used == a->kv_used && b->fds <= a->fds &&
		    b->engine_fds <= a->engine_fds)
			return ms;
		nap(20000);
	}
	return -1;
}

static int compare(const struct left *a, const struct left *b, int ms)
{
	int bad = 0;

	show("before", a);
	show("after", b);
	if (ms < 0)
		bad = fprintf(stderr, "something was left over\n");
	else
		printf("all of it was gone after %d ms\n", ms);
	if (a->pid != b->pid)
		bad = fprintf(stderr, "the daemon is another one\n");
	/* KV pages that were touched stay; a leak of some KiB a client may not. */
	if (b->rss > a->rss + 1024 || b->engine_rss > a->engine_rss + 16384)
		bad = fprintf(stderr, "memory has grown\n");
	return bad;
}

static void warm_up(void)
{
	uint32_t out[MAX_TOKENS];
	struct wire_model w = { 0 };
	struct raw r;
	int i;

	for (i = 0; i < 20; i++) {
		if (raw_open(&r, path) || raw_load(r.sock, model, &w) ||
		    answer(&r, w.model, 1, out, MAX_TOKENS))
			die("warm-up failed");
		raw_close(&r);
	}
}

static int kill_clients(int n)
{
	struct left a;
	struct left b;
	int stop[2];
	pid_t good;
	pid_t p;
	int status;
	int ms;
	int i;

	warm_up();
	if (settle(&(struct left){ .sessions = 0,
				   .fds = 1 << 20,
				   .engine_fds = 1 << 20 },
		   &a) < 0)
		die("not quiet before the start");
	if (pipe(stop))
		die("pipe");
	good = fork();
	if (!good) {
		close(stop[1]);
		honest(stop[0]);
	}
	for (i = 0; i < n; i++) {
		p = fork();
		if (!p)
			victim((unsigned int)i);
		nap((unsigned int)rand() % 12000);
		kill(p, SIGKILL);
		waitpid(p, &status, 0);
		if (WIFEXITED(status))
			die("client %d ended by itself", i);
	}
	close(stop[1]);
	waitpid(good, &status, 0);
	ms = settle(&a, &b);
	printf("%d clients killed\n", n);
	return compare(&a, &b, ms) || status;
}

/* A running request ends as if nothing had been, and the next one works. */
static int kill_engine(int n)
{
	uint32_t first[64];
	uint32_t out[64];
	struct wire_model w = { 0 };
	struct raw r;
	uint32_t gen = 0;
	pid_t pid = (pid_t)raw_stat(path, "pid");
	int n_resumed = 0;
	int err;
	int i;

	err = raw_open(&r, path);
	if (!err)
		err = raw_load(r.sock, model, &w);
	if (!err)
		err = answer(&r, w.model, ++gen, first, 64);
	if (err)
		die("start: %s", strerror(-err));
	for (i = 0; i < n; i++) {
		const struct ring_slot *s = raw_slot(&r, 1);
		struct ring_cqe e;
		uint64_t t;

		raw_run(&r, 1, ++gen, w.model, 16, 1000);
		nap((unsigned int)rand() % 20000);
		kill((pid_t)raw_stat(path, "engine_pid"), SIGKILL);
		t = raw_now();
		err = raw_done(&r, 1, &e, 20000);
		if (err)
			die("kill %d: no word about the request", i);
		if (e.event == RING_EV_DONE && s->finish == RING_FIN_ERROR)
			die("kill %d: error %d", i, s->err);
		n_resumed += e.event == RING_EV_DONE && s->n_restart;
		raw_release(&r, 1, gen);
		err = answer(&r, w.model, ++gen, out, 64);
		if (err)
			die("kill %d: next request: %s", i, strerror(-err));
		if (memcmp(first, out, sizeof(out)))
			die("kill %d: next answer differs", i);
		printf("kill %d: answered again after %.1f ms\n", i,
		       (raw_now() - t) / 1e6);
	}
	if (!n_resumed)
		die("no request ever met a dying engine");
	printf("%d engines killed, %d requests went on with the next\n", n,
	       n_resumed);
	raw_close(&r);
	return pid != (pid_t)raw_stat(path, "pid");
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc != 5)
		die("usage: t_kill clients|engine SOCKET MODEL N");
	path = argv[2];
	model = argv[3];
	srand(1);
	if (!strcmp(argv[1], "clients"))
		return kill_clients(atoi(argv[4])) ? 1 : 0;
	return kill_engine(atoi(argv[4])) ? 1 : 0;
}
