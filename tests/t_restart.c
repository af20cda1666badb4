/* SPDX-License-Identifier: MIT */
/*
 * t_restart.c - clients stream while their daemon is killed and started again.
 *
 *   t_restart KIND N KEPT MODEL HEARTHD ARGUMENTS...
 *
 * KIND is "monitor", or "both" (monitor and engine). KEPT is 1 when weights
 * are to outlive the daemon, and then nobody may read the model's file again.
 * N times the daemon dies at a random moment, under eight clients whose
 * answers, greedy and seeded, were taken down before. Each request must end
 * with its answer, or with an error that says why, and nobody may hang.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hearth.h>

#include "util.h"

#define N_CLIENTS 8
#define N_TOKENS  64
#define LIFE_US	  400000 /* at most, from the first token on */
#define HANG_MS	  25000
#define N_PROMPT  12

/* How a client waits. */
enum { BY_NEXT, BY_FD, BY_GENERATE, N_WAYS };

struct client {
	volatile uint64_t n_tokens;
	volatile uint64_t n_complete;
	volatile uint64_t n_restarted; /* of them over a death */
	volatile uint64_t n_again;     /* failed: the daemon died twice */
	volatile uint64_t n_gone;      /* failed: none came in time */
	volatile uint64_t n_opened;
	uint32_t want[2][N_TOKENS]; /* greedy, seeded */
	char text[2][8 * N_TOKENS];
};

static struct shared {
	volatile bool stop;
	struct client c[N_CLIENTS];
} * sh;

static char *const *daemon_argv;
static const char *sock;
static const char *model;
static pid_t daemon_pid;
static pid_t client_pid[N_CLIENTS];

static void __attribute__((noreturn, format(printf, 1, 2)))
give_up(const char *fmt, ...)
{
	va_list ap;
	int i;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	for (i = 0; i < N_CLIENTS; i++)
		if (client_pid[i] > 0)
			kill(client_pid[i], SIGKILL);
	if (daemon_pid > 0)
		kill(daemon_pid, SIGKILL);
	exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------- clients */

struct conn {
	struct hearth *h;
	struct hearth_model *m;
	int me;
};

static struct hearth_request request(const struct conn *c, bool seeded,
				     uint32_t prompt[N_PROMPT])
{
	struct hearth_request HEARTH_INIT(q);
	uint32_t i;

	for (i = 0; i < N_PROMPT; i++)
		prompt[i] = 40 + (uint32_t)c->me * 3 + i;
	q.model = c->m;
	q.prompt = prompt;
	q.n_prompt = N_PROMPT;
	q.max_tokens = N_TOKENS;
	q.ignore_eos = true;
	q.greedy = !seeded;
	if (seeded) {
		q.temperature = 0.9f;
		q.top_k = 50;
		q.repeat_penalty = 1.1f;
		q.seed = 1000 + (uint64_t)c->me;
		q.want_logprobs = true;
	}
	return q;
}

static void begin(struct conn *c)
{
	uint64_t end = now_ms() + HANG_MS;
	struct hearth_options HEARTH_INIT(o);
	int err;

	o.socket = sock;
	for (;;) {
		err = hearth_open(&c->h, &o);
		if (!err)
			err = hearth_model_load(c->h, &c->m, model, NULL);
		if (!err)
			break;
		if (now_ms() > end)
			give_up("client %d: cannot open: %s", c->me,
				hearth_error(c->h));
		hearth_close(&c->h);
		nap(5000);
	}
	sh->c[c->me].n_opened++;
}

static void end(struct conn *c)
{
	hearth_model_close(&c->m);
	hearth_close(&c->h);
}

/* The next event, by waiting or as an event loop does. */
static int wait_event(struct conn *c, int way, struct hearth_event *ev)
{
	uint64_t end_ms = now_ms() + HANG_MS;
	struct pollfd p = { .events = POLLIN };
	int err;

	if (way == BY_NEXT)
		return hearth_next(c->h, ev, HANG_MS);
	p.fd = hearth_fd(c->h);
	for (;;) {
		err = hearth_next(c->h, ev, 0);
		if (err != -EAGAIN || now_ms() > end_ms)
			return err;
		if (poll(&p, 1, HANG_MS) <= 0)
			return -EAGAIN;
	}
}

static void count_error(struct conn *c, int err, const char *text)
{
	struct client *s = &sh->c[c->me];

	if (err == -ECONNRESET)
		s->n_again++;
	else if (err == -ENOTCONN)
		s->n_gone++;
	else
		give_up("client %d: error %d: %s", c->me, err, text);
	if (!strstr(text, "daemon"))
		give_up("client %d: an error that says nothing: %s", c->me,
			text);
	if (err != -ENOTCONN)
		return;
	end(c);
	begin(c);
}

/* Token by token what it was without a death. */
static void compare(struct conn *c, uint64_t id, bool seeded)
{
	struct client *s = &sh->c[c->me];
	struct hearth_timings HEARTH_INIT(t);
	uint32_t tok;
	uint32_t i;

	for (i = 0; i < N_TOKENS; i++) {
		if (hearth_token_at(c->h, id, i, &tok, NULL))
			give_up("client %d: no token %u: %s", c->me, i,
				hearth_error(c->h));
		if (tok != s->want[seeded][i])
			give_up("client %d: token %u is %u, it was %u", c->me,
				i, tok, s->want[seeded][i]);
	}
	if (hearth_timings(c->h, id, &t))
		give_up("client %d: no timings", c->me);
	s->n_restarted += t.n_restart > 0;
	s->n_complete++;
}

static void stream(struct conn *c, bool seeded, int way)
{
	struct client *s = &sh->c[c->me];
	uint32_t prompt[N_PROMPT];
	struct hearth_request q = request(c, seeded, prompt);
	struct hearth_event HEARTH_INIT(ev);
	uint32_t n = 0;
	uint64_t id;
	int err;

	err = hearth_submit(c->h, &q, &id);
	if (err) {
		count_error(c, err, hearth_error(c->h));
		return;
	}
	do {
		err = wait_event(c, way, &ev);
		if (err)
			give_up("client %d: hangs, or %s", c->me,
				hearth_error(c->h));
		if (ev.id != id)
			give_up("client %d: event of another request", c->me);
		if (ev.type == HEARTH_EV_TOKENS) {
			if (ev.first != n)
				give_up("client %d: token %u after %u", c->me,
					ev.first, n);
			n += ev.n_tokens;
			s->n_tokens += ev.n_tokens;
		}
	} while (ev.type != HEARTH_EV_DONE && ev.type != HEARTH_EV_ERROR);
	if (ev.type == HEARTH_EV_ERROR) {
		count_error(c, ev.err, ev.error);
	} else {
		if (n != N_TOKENS || ev.finish != HEARTH_FINISH_LENGTH)
			give_up("client %d: %u tokens, finish %u", c->me, n,
				ev.finish);
		compare(c, id, seeded);
	}
	if (c->h)
		hearth_release(c->h, id);
}

static int on_text(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;

	(void)p;
	sh->c[c->me].n_tokens += n > 0;
	return 0;
}

static void generate(struct conn *c, bool seeded)
{
	struct client *s = &sh->c[c->me];
	uint32_t prompt[N_PROMPT];
	struct hearth_request q = request(c, seeded, prompt);
	char *out;
	int err;

	err = hearth_generate(c->h, "Hello there", &q, on_text, c, &out);
	if (err) {
		count_error(c, err, hearth_error(c->h));
		return;
	}
	if (!s->text[seeded][0])
		snprintf(s->text[seeded], sizeof(s->text[0]), "%s", out);
	else if (strncmp(s->text[seeded], out, sizeof(s->text[0]) - 1))
		give_up("client %d: another text: %s", c->me, out);
	s->n_complete++;
	free(out);
}

static void __attribute__((noreturn)) client(int me)
{
	struct conn c = { .me = me };
	unsigned int i;

	begin(&c);
	for (i = 0; !sh->stop; i++) {
		int way = (int)((i + (unsigned int)me) % N_WAYS);
		bool seeded = i / N_WAYS & 1;

		if (way == BY_GENERATE)
			generate(&c, seeded);
		else
			stream(&c, seeded, way);
		if (i % 16 == 15) {
			end(&c);
			begin(&c);
		}
	}
	end(&c);
	exit(0);
}

/* What each of them gets when nobody dies. */
static void take_down(void)
{
	struct conn c = { 0 };
	struct client *s;
	int k;

	for (c.me = 0; c.me < N_CLIENTS; c.me++) {
		begin(&c);
		s = &sh->c[c.me];
		for (k = 0; k < 2; k++) {
			struct hearth_event HEARTH_INIT(ev);
			uint32_t prompt[N_PROMPT];
			struct hearth_request q = request(&c, k, prompt);
			uint64_t id;
			uint32_t i;

			if (hearth_submit(c.h, &q, &id))
				give_up("start: %s", hearth_error(c.h));
			do {
				if (hearth_next(c.h, &ev, HANG_MS))
					give_up("start: %s", hearth_error(c.h));
			} while (ev.type != HEARTH_EV_DONE &&
				 ev.type != HEARTH_EV_ERROR);
			for (i = 0; i < N_TOKENS; i++)
				if (hearth_token_at(c.h, id, i, &s->want[k][i],
						    NULL))
					give_up("start: %s", hearth_error(c.h));
			generate(&c, k);
		}
		end(&c);
		memset((void *)(uintptr_t)&s->n_tokens, 0,
		       offsetof(struct client, want));
	}
}

/* ------------------------------------------------------------- the daemon */

static void start_daemon(void)
{
	daemon_pid = fork();
	if (daemon_pid < 0)
		give_up("fork: %s", strerror(errno));
	if (daemon_pid)
		return;
	execv(daemon_argv[0], daemon_argv);
	_exit(127);
}

/* Children of the daemon: engine, parsers, loaders. */
static int children(pid_t pid[16])
{
	char path[64];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children",
		 (int)daemon_pid, (int)daemon_pid);
	f = fopen(path, "re");
	while (f && n < 16 && fscanf(f, "%d", &pid[n]) == 1)
		n++;
	if (f)
		fclose(f);
	return n;
}

/* They are ours once the daemon is dead, so they can be waited for. */
static void await_end(const pid_t *pid, int n)
{
	uint64_t end_ms = now_ms() + 10000;
	int i;

	for (i = 0; i < n; i++) {
		while (waitpid(pid[i], NULL, WNOHANG) != pid[i]) {
			if (errno == ECHILD && kill(pid[i], 0))
				break;
			if (now_ms() > end_ms)
				give_up("process %d outlives its monitor",
					(int)pid[i]);
			nap(1000);
		}
	}
}

static void kill_daemon(bool both)
{
	pid_t pid[16];
	int n = children(pid);
	bool first = both && rand() & 1;
	int i;

	for (i = 0; first && i < n; i++)
		kill(pid[i], SIGKILL);
	kill(daemon_pid, SIGKILL);
	for (i = 0; both && !first && i < n; i++)
		kill(pid[i], SIGKILL);
	waitpid(daemon_pid, NULL, 0);
	daemon_pid = 0;
	/* sometimes the next one is there before the last engine is gone */
	if (rand() & 1) {
		await_end(pid, n);
		start_daemon();
	} else {
		start_daemon();
		await_end(pid, n);
	}
}

static uint64_t n_tokens(void)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < N_CLIENTS; i++)
		n += sh->c[i].n_tokens;
	return n;
}

static void check_clients(void)
{
	int status;
	int i;

	for (i = 0; i < N_CLIENTS; i++)
		if (waitpid(client_pid[i], &status, WNOHANG) == client_pid[i]) {
			client_pid[i] = 0;
			give_up("client %d ended (status %#x)", i, status);
		}
}

/* Until some client has a new token. Return: how long that took. */
static uint64_t await_tokens(void)
{
	uint64_t t = now_ms();
	uint64_t n = n_tokens();

	while (n_tokens() == n) {
		check_clients();
		if (now_ms() - t > HANG_MS)
			give_up("no client gets anything for %d ms", HANG_MS);
		nap(500);
	}
	return now_ms() - t;
}

/* Reads of the model's file that the kernel knows of, since the last call. */
static unsigned int n_reads(int watch)
{
	char buf[4096];
	unsigned int n = 0;
	ssize_t k;

	while ((k = read(watch, buf, sizeof(buf))) > 0)
		n += (unsigned int)k / sizeof(struct inotify_event);
	return n;
}

/* ------------------------------------------------------------------- main */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *kind, int n, uint64_t *stall)
{
	struct client sum = { 0 };
	int i;

	for (i = 0; i < N_CLIENTS; i++) {
		sum.n_complete += sh->c[i].n_complete;
		sum.n_restarted += sh->c[i].n_restarted;
		sum.n_again += sh->c[i].n_again;
		sum.n_gone += sh->c[i].n_gone;
	}
	qsort(stall, (size_t)n, sizeof(*stall), by_value);
	printf("%s killed %d times: %llu answers complete and equal, %llu of "
	       "them over a death; %llu failed because the daemon died twice "
	       "under them, %llu because none came; until the next token: p50 "
	       "%llu ms, p99 %llu ms, worst %llu ms\n",
	       kind, n, (unsigned long long)sum.n_complete,
	       (unsigned long long)sum.n_restarted,
	       (unsigned long long)sum.n_again, (unsigned long long)sum.n_gone,
	       (unsigned long long)stall[n / 2],
	       (unsigned long long)stall[n * 99 / 100],
	       (unsigned long long)stall[n - 1]);
	if (!sum.n_restarted)
		give_up("no answer ever met a death");
	if (sum.n_complete < sum.n_again + sum.n_gone)
		give_up("more answers failed than were complete");
}

static void finish(void)
{
	uint64_t end_ms = now_ms() + 2 * HANG_MS;
	int status;
	int i;

	sh->stop = true;
	for (i = 0; i < N_CLIENTS; i++) {
		while (!waitpid(client_pid[i], &status, WNOHANG)) {
			if (now_ms() > end_ms)
				give_up("client %d hangs at the end", i);
			nap(1000);
		}
		client_pid[i] = 0;
		if (status)
			give_up("client %d ended (status %#x)", i, status);
	}
	kill(daemon_pid, SIGTERM);
	if (waitpid(daemon_pid, &status, 0) != daemon_pid || status)
		give_up("the last daemon ended with status %#x", status);
	daemon_pid = 0;
	if (!access(sock, F_OK))
		give_up("%s: left behind", sock);
}

int main(int argc, char **argv)
{
	uint64_t *stall;
	unsigned int reads = 0;
	bool both;
	bool kept;
	int watch;
	int n;
	int i;

	signal(SIGPIPE, SIG_IGN);
	sock = getenv("HEARTH_SOCKET");
	if (argc < 6 || !sock)
		give_up("usage: HEARTH_SOCKET=... t_restart monitor|both N KEPT "
			"MODEL HEARTHD ARGUMENTS...");
	both = !strcmp(argv[1], "both");
	n = atoi(argv[2]);
	kept = atoi(argv[3]);
	model = argv[4];
	daemon_argv = argv + 5;
	stall = calloc((size_t)n, sizeof(*stall));
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (!stall || sh == MAP_FAILED || watch < 0 ||
	    inotify_add_watch(watch, model, IN_ACCESS) < 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1))
		give_up("start: %s", strerror(errno));
	srand(1);
	start_daemon();
	take_down();
	if (!n_reads(watch))
		give_up("nobody has read the model's file");
	for (i = 0; i < N_CLIENTS; i++) {
		client_pid[i] = fork();
		if (!client_pid[i])
			client(i);
	}
	for (i = 0; i < n; i++) {
		await_tokens();
		nap((unsigned int)rand() % LIFE_US);
		kill_daemon(both);
		stall[i] = await_tokens();
		reads += n_reads(watch);
		if (kept && reads)
			give_up("life %d: the model's file was read again",
				i + 1);
	}
	finish();
	report(argv[1], n, stall);
	if (!kept)
		printf("nothing was kept: the model's file was read again (%u "
		       "reads)\n",
		       reads);
	free(stall);
	return 0;
}
