/* SPDX-License-Identifier: MIT */
/*
 * t_resume.c - the engine is killed at random moments while clients stream.
 *
 *   t_resume SOCKET MODEL KILLS [CLIENTS [GAP_MS]]
 *   t_resume SOCKET MODEL faults [CLIENTS]
 *
 * Each client asks the same few questions over and over: greedy and sampled,
 * with penalties, bias, log-probabilities, embeddings, rows of logits. First
 * undisturbed, then with kills at random times, at most GAP_MS after the last
 * client came to speak again. Every answer must be complete and equal in each
 * byte to the undisturbed one. A stall is the time from a kill to the next
 * token of a request that ran.
 *
 * With "faults" the engine of t_faultd dies of what one more client asks: that
 * client is told so, after the second time; the others notice nothing.
 */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "raw.h"
#include "util.h"

#define MAX_CLIENTS 32
#define N_QUESTIONS 6
#define MAX_PROMPT  200
#define MAX_STALLS  100000
#define ANSWER_MS   60000

/* What an answer came to; bytes: tokens, alternatives, embedding, logits. */
struct answer {
	uint32_t n_out;
	uint32_t finish;
	size_t n;
	uint8_t *bytes;
};

struct client {
	struct raw r;
	pthread_t thread;
	unsigned int index;
	uint32_t model;
	uint32_t gen;
	struct answer truth[N_QUESTIONS];
	_Atomic uint64_t n_tokens; /* that came since the start */
	uint64_t n_answers;
	uint64_t n_resumed;
	uint32_t max_restarts;
};

static struct client clients[MAX_CLIENTS + 1]; /* and the culprit */
static unsigned int n_clients = 8;
static _Atomic int stop;
static _Atomic int failed;
static _Atomic uint64_t t_kill; /* of the last kill */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double stalls[MAX_STALLS];
static unsigned int n_stalls;
static double pauses[MAX_STALLS]; /* from a kill to the next step */
static unsigned int n_pauses;

static void __attribute__((format(printf, 1, 2))) complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	failed = 1;
}

static uint64_t rnd(uint64_t *s, uint64_t n)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (z ^ z >> 31) % n;
}

/* --------------------------------------------------------- the questions */

static uint32_t put(uint8_t *rec, uint32_t *len, const void *p, size_t n)
{
	uint32_t off = *len;

	memcpy(rec + off, p, n);
	*len += (uint32_t)n;
	return off;
}

/* Question @q of a client, into its slot 0; the same each time. */
static void ask(struct client *c, unsigned int q)
{
	uint64_t seed = c->index * 1000 + q;
	uint8_t *rec = c->r.c + c->r.l.c_data_off;
	uint32_t len = sizeof(struct ring_run), i;
	uint32_t prompt[MAX_PROMPT] = { 0 };
	const uint32_t at[] = { 0, 2 }, halt[] = { 17, 99 };
	const struct ring_bias bias[] = { { 20, 3 }, { 21, -1e30f } };
	struct ring_run run = { .model = c->model,
				.seed = seed,
				.top_p = 1,
				.repeat_penalty = 1,
				.flags = RING_RUN_IGNORE_EOS };
	struct ring_sqe e = { .op = RING_OP_RUN, .gen = ++c->gen };

	run.n_prompt = 4 + (uint32_t)rnd(&seed, q & 1 ? MAX_PROMPT - 4 : 20);
	run.max_tokens = 30 + (uint32_t)rnd(&seed, 60);
	for (i = 0; i < run.n_prompt; i++)
		prompt[i] = 1 + (uint32_t)rnd(&seed, 250);
	if (q) {
		run.temperature = 0.9f;
		run.top_k = q & 2 ? 40 : 0;
		run.top_p = q & 4 ? 0.9f : 1;
	}
	if (q == 2 || q == 5) {
		run.repeat_penalty = 1.3f;
		run.frequency_penalty = 0.2f;
		run.penalty_last = 64;
	}
	if (q == 3 || q == 5) {
		run.flags |= RING_RUN_LOGPROBS;
		run.n_top_logprobs = 4;
	}
	if (q == 4) {
		run.flags = RING_RUN_EMBED_MEAN;
		run.n_bias = run.n_stop = run.n_logits = 2;
	}
	run.prompt_off = put(rec, &len, prompt, run.n_prompt * 4ull);
	run.bias_off = put(rec, &len, bias, sizeof(bias));
	run.stop_off = put(rec, &len, halt, sizeof(halt));
	run.logits_off = put(rec, &len, at, sizeof(at));
	memcpy(rec, &run, sizeof(run));
	e.off = c->r.l.c_data_off;
	e.len = len;
	raw_submit(&c->r, &e);
}

static void keep(struct answer *a, const struct client *c, uint64_t off,
		 uint64_t n)
{
	if (!off || off > c->r.l.d_bytes || n > c->r.l.d_bytes - off)
		return;
	a->bytes = realloc(a->bytes, a->n + n);
	memcpy(a->bytes + a->n, c->r.d + off, n);
	a->n += n;
}

static void read_answer(struct client *c, struct answer *a, unsigned int q)
{
	const struct ring_slot *s = raw_slot(&c->r, 0);

	memset(a, 0, sizeof(*a));
	a->n_out = s->n_out;
	a->finish = s->finish;
	keep(a, c, s->out_off, s->n_out * sizeof(struct ring_token));
	keep(a, c, s->top_off, s->n_out * 4 * sizeof(struct ring_top));
	if (q == 4) {
		keep(a, c, s->embed_off, s->n_embd * sizeof(float));
		keep(a, c, s->logits_off, 2ull * s->n_vocab * sizeof(float));
	}
}

/* ---------------------------------------------------------- the answers */

static void note_stall(uint64_t ns)
{
	pthread_mutex_lock(&lock);
	if (n_stalls < MAX_STALLS)
		stalls[n_stalls++] = (double)ns / 1e6;
	pthread_mutex_unlock(&lock);
}

/*
 * Wait for the end; on the way, the first token after a kill. Token times are
 * the engine's own, so a token is on the side of the kill where it was made.
 */
static int wait_end(struct client *c, struct ring_cqe *e)
{
	const struct ring_slot *s = raw_slot(&c->r, 0);
	uint64_t start = raw_now(), end = start + ANSWER_MS * 1000000ull;
	uint64_t seen = atomic_load(&t_kill), kill_at, t;
	uint32_t n = 0, now;
	int err;

	do {
		err = raw_wait(&c->r, e, 20);
		if (err && raw_now() > end)
			return err;
		now = __atomic_load_n(&s->n_out, __ATOMIC_ACQUIRE);
		t = __atomic_load_n(&s->t_last_ns, __ATOMIC_RELAXED);
		if (s->gen != c->gen)
			continue;
		if (now < n) {
			complain("client %u: %u tokens became %u", c->index, n,
				 now);
			return -EBADMSG;
		}
		if (now > n)
			atomic_fetch_add(&c->n_tokens, now - n);
		n = now;
		kill_at = atomic_load(&t_kill);
		if (n && kill_at != seen && t > kill_at) {
			if (s->n_restart && start < kill_at)
				note_stall(t - kill_at);
			seen = kill_at;
		}
	} while (err ||
		 (e->event != RING_EV_DONE && e->event != RING_EV_REFUSED));
	return 0;
}

/* Ask @q and read what came. */
static int get(struct client *c, unsigned int q, struct answer *a)
{
	const struct ring_slot *s = raw_slot(&c->r, 0);
	struct ring_cqe e;
	int err;

	ask(c, q);
	err = wait_end(c, &e);
	if (err) {
		complain("client %u: question %u: no end: %s (state %u, %u "
			 "tokens)",
			 c->index, q, strerror(-err), s->state, s->n_out);
		return err;
	}
	if (e.gen != c->gen) {
		complain("client %u: two ends of one request", c->index);
		return -EBADMSG;
	}
	if (e.event == RING_EV_REFUSED) {
		complain("client %u: refused for %u", c->index, e.reason);
		return -EBADMSG;
	}
	read_answer(c, a, q);
	if (s->finish == RING_FIN_ERROR) {
		complain("client %u: question %u: error %d", c->index, q,
			 s->err);
		return -EBADMSG;
	}
	c->n_resumed += s->n_restart > 0;
	if (s->n_restart > c->max_restarts)
		c->max_restarts = s->n_restart;
	raw_release(&c->r, 0, c->gen);
	return 0;
}

static void compare(struct client *c, unsigned int q, const struct answer *a)
{
	const struct answer *w = &c->truth[q];
	size_t i;

	c->n_answers++;
	if (a->n_out == w->n_out && a->finish == w->finish && a->n == w->n &&
	    !memcmp(a->bytes, w->bytes, w->n))
		return;
	for (i = 0; i < a->n && i < w->n && a->bytes[i] == w->bytes[i]; i++)
		;
	complain(
		"client %u: question %u: %u tokens, end %u, differ at byte %zu "
		"of %zu from %u tokens, end %u",
		c->index, q, a->n_out, a->finish, i, w->n, w->n_out, w->finish);
}

static void *stream(void *arg)
{
	struct client *c = arg;
	struct answer a = { 0 };
	unsigned int q = c->index;
	int err;

	while (!stop && !failed) {
		err = get(c, q % N_QUESTIONS, &a);
		if (err)
			break;
		compare(c, q % N_QUESTIONS, &a);
		free(a.bytes);
		q++;
	}
	return NULL;
}

static int start(struct client *c, const char *path, const char *model)
{
	struct wire_model w = { 0 };
	unsigned int q;
	int err;

	err = raw_open(&c->r, path);
	if (!err)
		err = raw_load(c->r.sock, model, &w);
	if (err) {
		complain("client %u: start: %s", c->index, strerror(-err));
		return err;
	}
	c->model = w.model;
	for (q = 0; q < N_QUESTIONS && !err; q++)
		err = get(c, q, &c->truth[q]);
	return err;
}

/* ------------------------------------------------------------- the kills */

/* All speak again: then the next kill may come. */
static void wait_speaking(void)
{
	uint64_t before[MAX_CLIENTS], end = raw_now() + ANSWER_MS * 1000000ull;
	unsigned int i;

	for (i = 0; i < n_clients; i++)
		before[i] = clients[i].n_tokens;
	for (i = 0; i < n_clients && !failed; i++)
		while (clients[i].n_tokens == before[i] && !failed) {
			if (raw_now() > end)
				complain("client %u is silent", i);
			nap(1000);
		}
}

/* Until a step begins that computes one of the requests again. */
static void wait_step(uint64_t from)
{
	uint32_t gens[MAX_CLIENTS] = { 0 };
	uint32_t restarts[MAX_CLIENTS] = { 0 };
	const struct ring_slot *s;
	unsigned int i;

	for (i = 0; i < n_clients; i++) {
		s = raw_slot(&clients[i].r, 0);
		gens[i] = s->gen;
		restarts[i] = s->n_restart;
	}
	while (raw_now() - from < 10000000000u && !failed) {
		for (i = 0; i < n_clients; i++) {
			s = raw_slot(&clients[i].r, 0);
			if (s->gen == gens[i] && s->n_restart > restarts[i] &&
			    __atomic_load_n(&s->step_to, __ATOMIC_ACQUIRE)) {
				pauses[n_pauses++] =
					(double)(raw_now() - from) / 1e6;
				return;
			}
		}
		nap(100);
	}
}

static void kill_all(const char *path, unsigned int n, uint64_t gap_ms)
{
	uint64_t seed = 1;
	unsigned int k, early = 0;
	pid_t pid;

	for (k = 0; k < n && !failed; k++) {
		/* One in eight hits an engine that is only just coming up. */
		if (k % 8 == 7)
			early++;
		else
			wait_speaking();
		nap(rnd(&seed, 1 + gap_ms * 1000));
		pid = (pid_t)raw_stat(path, "engine_pid");
		if (pid <= 0) {
			k--;
			continue;
		}
		atomic_store(&t_kill, raw_now());
		kill(pid, SIGKILL);
		if (k % 8 != 6 && n_pauses < MAX_STALLS)
			wait_step(t_kill);
	}
	printf("%u engines killed, %u of them while they came up\n", k, early);
}

/* ------------------------------------------------------------ the faults */

/*
 * Have token @bad follow itself: in the prompt, or in the answer, where it is
 * all that may be chosen.
 */
static void ask_fault(struct client *c, uint32_t bad, bool in_prompt)
{
	uint8_t *rec = c->r.c + c->r.l.c_data_off;
	uint32_t len = sizeof(struct ring_run);
	const uint32_t prompt[] = { 5, 6, bad, in_prompt ? bad : 7 };
	const struct ring_bias bias = { bad, 1e30f };
	struct ring_run run = { .model = c->model,
				.top_p = 1,
				.repeat_penalty = 1,
				.flags = RING_RUN_IGNORE_EOS,
				.n_prompt = 4,
				.max_tokens = 5,
				.n_bias = !in_prompt };
	struct ring_sqe e = { .op = RING_OP_RUN, .gen = ++c->gen };

	run.prompt_off = put(rec, &len, prompt, sizeof(prompt));
	run.bias_off = put(rec, &len, &bias, sizeof(bias));
	memcpy(rec, &run, sizeof(run));
	e.off = c->r.l.c_data_off;
	e.len = len;
	raw_submit(&c->r, &e);
}

static void one_fault(struct client *c, const char *name, uint32_t bad,
		      bool in_prompt)
{
	const struct ring_slot *s = raw_slot(&c->r, 0);
	struct ring_cqe e;
	uint64_t t;
	int err;

	wait_speaking();
	t = raw_now();
	ask_fault(c, bad, in_prompt);
	err = wait_end(c, &e);
	if (err) {
		complain("%s: no end: %s", name, strerror(-err));
		return;
	}
	if (e.event != RING_EV_DONE) {
		complain("%s: refused for %u", name, e.reason);
		return;
	}
	printf("%-6s in the %s: %s after %.0f ms and %u engines\n", name,
	       in_prompt ? "prompt" : "answer",
	       s->finish == RING_FIN_ERROR ? strerrorname_np(-s->err) : "done",
	       (double)(raw_now() - t) / 1e6, s->n_restart);
	if (!strcmp(name, "crowd")) {
		if (s->finish != RING_FIN_LENGTH || !s->n_restart)
			complain("crowd: end %u after %u", s->finish,
				 s->n_restart);
	} else if (s->finish != RING_FIN_ERROR || s->err != -ENOTRECOVERABLE ||
		   e.reason != RING_KILLS_ENGINE || s->n_restart < 2) {
		complain("%s: end %u, error %d", name, s->finish, s->err);
	}
	raw_release(&c->r, 0, c->gen);
}

/* As t_faultd counts them. */
static void all_faults(struct client *c)
{
	static const char *const names[] = { "crash", "abort", "exit", "hang",
					     "crowd" };
	uint32_t i;

	for (i = 0; i < 10 && !failed; i++)
		one_fault(c, names[i / 2], 251 + i / 2, i & 1);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void show(const char *what, double *x, unsigned int n)
{
	if (!n)
		return;
	qsort(x, n, sizeof(*x), by_size);
	printf("%s: p50 %.0f ms, p99 %.0f ms, longest %.0f ms, of %u\n", what,
	       x[n / 2], x[n * 99ull / 100], x[n - 1], n);
}

static void report(bool kills)
{
	uint64_t answers = 0, resumed = 0;
	uint32_t most = 0;
	unsigned int i;

	for (i = 0; i < n_clients; i++) {
		answers += clients[i].n_answers;
		resumed += clients[i].n_resumed;
		if (clients[i].max_restarts > most)
			most = clients[i].max_restarts;
	}
	printf("%llu answers of %u clients, %llu went on after a death (one of "
	       "them after %u), all equal\n",
	       (unsigned long long)answers, n_clients,
	       (unsigned long long)resumed, most);
	if (!resumed || (kills && !n_stalls)) {
		complain("no request ever met a death");
		return;
	}
	if (!kills)
		return;
	show("from a kill to the next step", pauses, n_pauses);
	show("from a kill to a request's next token", stalls, n_stalls);
}

int main(int argc, char **argv)
{
	struct client *culprit = &clients[MAX_CLIENTS];
	unsigned int i;
	bool faults;
	pid_t pid;

	if (argc < 4) {
		fprintf(stderr, "usage: t_resume SOCKET MODEL KILLS|faults "
				"[CLIENTS [GAP_MS]]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (argc > 4)
		n_clients = (unsigned int)atoi(argv[4]);
	if (!n_clients || n_clients > MAX_CLIENTS)
		return 2;
	faults = !strcmp(argv[3], "faults");
	pid = (pid_t)raw_stat(argv[1], "pid");
	culprit->index = MAX_CLIENTS;
	if (faults && start(culprit, argv[1], argv[2]))
		return 1;
	for (i = 0; i < n_clients; i++) {
		clients[i].index = i;
		if (start(&clients[i], argv[1], argv[2]))
			return 1;
		clients[i].n_answers = 0;
	}
	for (i = 0; i < n_clients; i++)
		if (pthread_create(&clients[i].thread, NULL, stream,
				   &clients[i]))
			return 1;
	if (faults)
		all_faults(culprit);
	else
		kill_all(argv[1], (unsigned int)atoi(argv[3]),
			 argc > 5 ? strtoull(argv[5], NULL, 0) : 50);
	wait_speaking();
	stop = 1;
	for (i = 0; i < n_clients; i++)
		pthread_join(clients[i].thread, NULL);
	if (!failed)
		report(!faults);
	if (pid != (pid_t)raw_stat(argv[1], "pid"))
		complain("the daemon is another one");
	for (i = 0; i < n_clients; i++)
		raw_close(&clients[i].r);
	return failed;
}
