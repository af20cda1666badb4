/* SPDX-License-Identifier: MIT */
/*
 * bench_ipc.c - hearth bench ipc: round trips through the rings beside a unix
 * socket, in one run, and what the way through the daemon adds to an answer.
 *
 * A ping is a 64-byte submission and a 64-byte completion. Each carries a
 * number, and libhearth fails a ping whose answer is missing, doubled or of
 * another number; so the count of good ones is the count of messages that
 * arrived exactly once. The socket's echo is a process of its own that gets
 * 64 bytes and sends them back. The kinds take turns in short blocks, so that
 * what else the machine does hits them alike.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hearth-tool.h"

#define MSG_BYTES  64
#define ROUNDS	   10
#define SLOW_SHARE 20 /* one in so many trips is a blocking one */
#define IDLE_TRIPS 400
#define IDLE_NS	   1000000
#define POLL_NS	   1000000000ull
#define ECHO_NS	   1000000 /* the polling echo sleeps after that */
#define REST_NS	   3000000 /* between blocks: the echo sleeps, too */
#define FIRST_REPS 200

/* Times in buckets of 1/32: exact below 64 ns. */
#define SUB_BITS  5
#define N_BUCKETS ((64 - SUB_BITS) << SUB_BITS)

struct hist {
	uint64_t n;
	uint64_t count[N_BUCKETS];
};

enum kind {
	RING_POLL,
	SOCK_POLL,
	RING_BLOCK,
	SOCK_BLOCK,
	RING_IDLE,
	SOCK_IDLE,
	N_KINDS,
};

static const char *const kind_name[N_KINDS] = {
	"ring, polling",	   "unix socket, polling",
	"ring, blocking",	   "unix socket, blocking",
	"ring, both sides asleep", "unix socket, both sides asleep",
};

static const char *const kind_key[N_KINDS] = {
	"ring_poll",	"socket_poll", "ring_block",
	"socket_block", "ring_idle",   "socket_idle",
};

struct ipc {
	struct hearth *h;
	int sock[2]; /* the echo's, polling and blocking */
	pid_t pid[2];
	uint64_t number;
	uint64_t lost;
	uint64_t doubled;
	struct hist *hist;  /* one a kind */
	struct hist first;  /* time to first token, what we add */
	struct hist engine; /* and the engine's own part */
};

/* ------------------------------------------------------------- histograms */

static unsigned int bucket(uint64_t v)
{
	unsigned int shift;

	if (v < 2u << SUB_BITS)
		return (unsigned int)v;
	shift = 63 - SUB_BITS - (unsigned int)__builtin_clzll(v);
	return (shift << SUB_BITS) + (unsigned int)(v >> shift);
}

static uint64_t value(unsigned int b)
{
	unsigned int shift;

	if (b < 2u << SUB_BITS)
		return b;
	shift = (b >> SUB_BITS) - 1;
	return ((uint64_t)(b & ((1u << SUB_BITS) - 1)) + (1u << SUB_BITS))
	       << shift;
}

static void hist_add(struct hist *x, uint64_t v)
{
	x->count[bucket(v)]++;
	x->n++;
}

static uint64_t hist_at(const struct hist *x, double q)
{
	uint64_t want = (uint64_t)(q * (double)x->n);
	uint64_t seen = 0;
	unsigned int b;

	for (b = 0; b < N_BUCKETS; b++) {
		seen += x->count[b];
		if (seen > want)
			return value(b);
	}
	return 0;
}

/* ------------------------------------------------------------ the echo */

static void __attribute__((noreturn)) echo(int fd, bool spin)
{
	char buf[MSG_BYTES];
	uint64_t until = 0;
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		/* like the engine: poll a while after work, then sleep */
		n = recv(fd, buf, sizeof(buf), spin ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN && now_ns() < until)
			continue;
		if (n < 0 && errno == EAGAIN)
			n = recv(fd, buf, sizeof(buf), 0);
		if (n <= 0 || send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
			_exit(0);
		until = now_ns() + ECHO_NS;
	}
}

static int start_echo(struct ipc *b, int i)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -errno;
	b->pid[i] = fork();
	if (!b->pid[i]) {
		close(sv[0]);
		if (i)
			close(b->sock[0]);
		echo(sv[1], i == 0);
	}
	close(sv[1]);
	if (b->pid[i] < 0) {
		close(sv[0]);
		return -errno;
	}
	b->sock[i] = sv[0];
	return 0;
}

static void stop_echo(struct ipc *b, int i)
{
	if (b->pid[i] <= 0)
		return;
	close(b->sock[i]);
	waitpid(b->pid[i], NULL, 0);
}

/* ------------------------------------------------------------- one trip */

static int ring_trip(struct ipc *b, uint64_t spin_ns)
{
	int err = hearth_ping(b->h, spin_ns);

	b->lost += err == -ETIMEDOUT;
	b->doubled += err == -EPROTO;
	if (err)
		tool_err("ping: %s", hearth_error(b->h));
	return err;
}

static int sock_trip(struct ipc *b, bool spin)
{
	char buf[MSG_BYTES] = { 0 };
	int fd = b->sock[!spin];
	uint64_t back;
	ssize_t n;

	b->number++;
	memcpy(buf, &b->number, sizeof(b->number));
	if (send(fd, buf, sizeof(buf), MSG_NOSIGNAL) != sizeof(buf))
		return -EIO;
	do {
		n = recv(fd, buf, sizeof(buf), spin ? MSG_DONTWAIT : 0);
	} while (n < 0 && (errno == EAGAIN || errno == EINTR));
	memcpy(&back, buf, sizeof(back));
	return n == sizeof(buf) && back == b->number ? 0 : -EIO;
}

static int trip(struct ipc *b, enum kind k)
{
	switch (k) {
	case RING_POLL:
		return ring_trip(b, POLL_NS);
	case SOCK_POLL:
		return sock_trip(b, true);
	case RING_BLOCK:
	case RING_IDLE:
		return ring_trip(b, 0);
	default:
		return sock_trip(b, false);
	}
}

static int block(struct ipc *b, enum kind k, uint64_t n)
{
	static const struct timespec rest = { .tv_nsec = REST_NS };
	static const struct timespec idle = { .tv_nsec = IDLE_NS };
	uint64_t t;
	uint64_t i;
	int err;

	nanosleep(&rest, NULL);
	for (i = 0; i < n; i++) {
		if (k >= RING_IDLE)
			nanosleep(&idle, NULL);
		if (tool_interrupted)
			return -EINTR;
		t = now_ns();
		err = trip(b, k);
		if (err)
			return err;
		hist_add(&b->hist[k], now_ns() - t);
	}
	return 0;
}

static int trips(struct ipc *b, uint64_t n)
{
	uint64_t share[N_KINDS];
	uint64_t done;
	uint64_t r;
	int err;
	int k;

	for (k = 0; k < N_KINDS; k++)
		share[k] = k >= RING_IDLE   ? IDLE_TRIPS
			   : k == RING_POLL ? n
			   : k == SOCK_POLL ? n / 10 + ROUNDS
					    : n / SLOW_SHARE + ROUNDS;
	for (r = 0; r < ROUNDS; r++) {
		for (k = 0; k < N_KINDS; k++) {
			done = share[k] * r / ROUNDS;
			err = block(b, (enum kind)k,
				    share[k] * (r + 1) / ROUNDS - done);
			if (err)
				return err;
		}
	}
	return 0;
}

/* ------------------------------------------------------ the first token */

static int one_first(struct ipc *b, const struct hearth_request *rq)
{
	struct hearth_timings HEARTH_INIT(t);
	struct hearth_event HEARTH_INIT(ev);
	uint64_t engine;
	uint64_t id;
	int err;

	err = hearth_submit(b->h, rq, &id);
	do {
		err = err ? err : hearth_next(b->h, &ev, -1);
	} while (!err && ev.type != HEARTH_EV_DONE &&
		 ev.type != HEARTH_EV_ERROR);
	if (!err && ev.type == HEARTH_EV_ERROR)
		err = ev.err;
	if (!err)
		err = hearth_timings(b->h, id, &t);
	if (err) {
		tool_err("first token: %s", hearth_error(b->h));
		return err;
	}
	engine = t.queue_ns + t.prefill_ns;
	if (t.n_out) {
		hist_add(&b->engine, engine);
		hist_add(&b->first,
			 t.first_ns > engine ? t.first_ns - engine : 0);
	}
	return hearth_release(b->h, id);
}

/* Of the first model that is ready; none is no error. */
static int first_tokens(struct ipc *b, struct hearth_model_info *info)
{
	struct hearth_request HEARTH_INIT(rq);
	struct hearth_model_info *list = NULL;
	struct hearth_model *m = NULL;
	uint32_t prompt[8];
	int err = 0;
	int n;
	int i;

	n = tool_list(b->h, &list);
	for (i = 0; i < n && !m; i++) {
		if (list[i].state != HEARTH_MODEL_READY &&
		    list[i].state != HEARTH_MODEL_RESIDENT)
			continue;
		if (hearth_model_open(b->h, &m, list[i].id))
			tool_note("%s: %s", list[i].name, hearth_error(b->h));
		else
			*info = list[i];
	}
	free(list);
	if (n < 0)
		return n;
	if (!m)
		return 0;
	rq.model = m;
	rq.prompt = prompt;
	rq.n_prompt = N_ELEM(prompt);
	rq.max_tokens = 1;
	rq.ignore_eos = true;
	for (n = 0; n < FIRST_REPS && !err; n++) {
		if (tool_interrupted)
			err = -EINTR;
		/* another prompt each time, or a cache would answer */
		for (i = 0; i < (int)N_ELEM(prompt); i++)
			prompt[i] = (uint32_t)(n * 8 + i + 1) % 256;
		err = err ? err : one_first(b, &rq);
	}
	hearth_model_close(&m);
	return err;
}

/* -------------------------------------------------------------- reporting */

static void report_json(const struct ipc *b, const struct hearth_model_info *m)
{
	int k;

	printf("{\n");
	for (k = 0; k < N_KINDS; k++)
		printf("  \"%s\": { \"n\": %" PRIu64 ", \"p50_ns\": %" PRIu64
		       ", \"p99_ns\": %" PRIu64 " },\n",
		       kind_key[k], b->hist[k].n, hist_at(&b->hist[k], 0.5),
		       hist_at(&b->hist[k], 0.99));
	if (b->first.n)
		printf("  \"first_token\": { \"model\": \"%s\", \"n\": %" PRIu64
		       ", \"engine_p50_ns\": %" PRIu64
		       ", \"added_p50_ns\": %" PRIu64
		       ", \"added_p99_ns\": %" PRIu64 " },\n",
		       m->name, b->first.n, hist_at(&b->engine, 0.5),
		       hist_at(&b->first, 0.5), hist_at(&b->first, 0.99));
	printf("  \"lost\": %" PRIu64 ",\n  \"doubled\": %" PRIu64 "\n}\n",
	       b->lost, b->doubled);
}

static void report(const struct ipc *b, const struct hearth_model_info *m)
{
	static const char *const head[] = { "64-byte round trip", "n", "p50 us",
					    "p99 us" };
	struct table t;
	int k;

	table_init(&t, head, N_ELEM(head), 1 << 1 | 1 << 2 | 1 << 3);
	for (k = 0; k < N_KINDS; k++) {
		table_cell(&t, "%s", kind_name[k]);
		table_cell(&t, "%" PRIu64, b->hist[k].n);
		table_cell(&t, "%.2f", (double)hist_at(&b->hist[k], 0.5) / 1e3);
		table_cell(&t, "%.2f",
			   (double)hist_at(&b->hist[k], 0.99) / 1e3);
	}
	table_print(&t, stdout);
	table_fini(&t);
	printf("messages: %" PRIu64 " sent, %" PRIu64 " lost, %" PRIu64
	       " doubled\n",
	       b->hist[RING_POLL].n + b->hist[RING_BLOCK].n +
		       b->hist[RING_IDLE].n,
	       b->lost, b->doubled);
	if (!b->first.n)
		printf("first token: no model is resident, not measured\n");
	else
		printf("first token of %s: %.1f us added to the engine's "
		       "%.1f us (p50 of %" PRIu64 ", p99 %.1f us)\n",
		       m->name, (double)hist_at(&b->first, 0.5) / 1e3,
		       (double)hist_at(&b->engine, 0.5) / 1e3, b->first.n,
		       (double)hist_at(&b->first, 0.99) / 1e3);
}

int bench_ipc(struct hearth *h, uint64_t n, bool json)
{
	struct hearth_model_info info = { 0 };
	struct ipc *b = calloc(1, sizeof(*b));
	int err = -ENOMEM;

	if (b)
		b->hist = calloc(N_KINDS, sizeof(*b->hist));
	if (!b || !b->hist) {
		tool_err("not enough memory");
		goto out;
	}
	b->h = h;
	err = start_echo(b, 0);
	if (!err)
		err = start_echo(b, 1);
	if (err)
		tool_err("socket echo: %s", hearth_strerror(err));
	else
		err = trips(b, n);
	if (!err)
		err = first_tokens(b, &info);
	if (!err && json)
		report_json(b, &info);
	else if (!err)
		report(b, &info);
	stop_echo(b, 0);
	stop_echo(b, 1);
out:
	if (b)
		free(b->hist);
	free(b);
	return err;
}
