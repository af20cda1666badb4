/* SPDX-License-Identifier: MIT */
/* check_reconnect.c - libhearth when its daemon dies, at every point there is,
 * and comes back, comes back different, or does not come back. */
#include "client_daemon.h"

#define N_TOKENS 60
#define N_REQ	 3

static struct srv srv;
static char file[64];

static void files(void)
{
	int fd;

	snprintf(file, sizeof(file), "/tmp/check-client-%d.gguf",
		 (int)getpid());
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	close(fd);
}

static void no_files(void)
{
	hearth_model_close(&m);
	hearth_close(&h);
	srv_stop(&srv);
	unlink(file);
}

/* Connect to the first life, which has the model. */
static void begin(const struct life *life, int n, struct hearth_options *opt)
{
	struct hearth_options HEARTH_INIT(o);
	double t = now();
	int err;

	srv_start(&srv, life, n);
	if (!opt)
		opt = &o;
	opt->socket = srv.path;
	do {
		err = hearth_open(&h, opt);
	} while (err && now() - t < 5);
	ck_assert_msg(!err, "%s", hearth_error(NULL));
}

static void begin_loaded(const struct life *life, int n,
			 struct hearth_options *opt)
{
	begin(life, n, opt);
	ck_assert_msg(!hearth_model_load(h, &m, file, NULL), "%s",
		      hearth_error(h));
}

static struct hearth_request seeded(uint64_t seed)
{
	struct hearth_request q = request();

	q.max_tokens = N_TOKENS;
	q.seed = seed;
	q.temperature = 1;
	q.want_logprobs = true;
	return q;
}

/* What came of a request, event by event. */
struct got {
	uint64_t id;
	uint64_t seed;
	uint32_t n;
	char text[4096];
	size_t text_n;
	int type;
	int finish;
	int err;
	char error[CONN_ERR];
};

static void add(struct got *g, const struct hearth_event *ev)
{
	ck_assert_int_eq(g->type, 0);
	if (ev->type == HEARTH_EV_TOKENS) {
		ck_assert_uint_eq(ev->first, g->n);
		g->n += ev->n_tokens;
	}
	memcpy(g->text + g->text_n, ev->text, ev->text_n);
	g->text_n += ev->text_n;
	if (ev->type != HEARTH_EV_DONE && ev->type != HEARTH_EV_ERROR)
		return;
	g->type = (int)ev->type;
	g->finish = (int)ev->finish;
	g->err = ev->err;
	if (ev->error)
		snprintf(g->error, sizeof(g->error), "%s", ev->error);
}

static int n_ended(const struct got *g, int n)
{
	int k = 0;
	int i;

	for (i = 0; i < n; i++)
		k += g[i].type != 0;
	return k;
}

static void give(struct got *g, int n, const struct hearth_event *ev)
{
	int i;

	for (i = 0; i < n && g[i].id != ev->id; i++)
		;
	ck_assert_int_lt(i, n);
	add(&g[i], ev);
}

/* All of them to their ends, by waiting or by an event loop. */
static void follow(struct got *g, int n, bool by_fd)
{
	struct hearth_event ev;
	double t = now();
	int fd = by_fd ? hearth_fd(h) : -1;
	int err;

	while (n_ended(g, n) < n) {
		ck_assert_msg(now() - t < 15, "hangs");
		if (by_fd) {
			struct pollfd p = { .fd = fd, .events = POLLIN };

			ck_assert_int_eq(poll(&p, 1, 4000), 1);
			ck_assert_int_eq(hearth_fd(h), fd);
		}
		while (!(err = next(&ev, by_fd ? 0 : -1)) &&
		       n_ended(g, n) < n) {
			give(g, n, &ev);
			if (n_ended(g, n) == n)
				return;
		}
		ck_assert_msg(err == -EAGAIN && by_fd, "%d: %s", err,
			      hearth_error(h));
	}
}

static void ask(struct got *g, uint64_t seed)
{
	struct hearth_request q = seeded(seed);

	memset(g, 0, sizeof(*g));
	g->seed = seed;
	ck_assert_msg(!hearth_submit(h, &q, &g->id), "%s", hearth_error(h));
}

/* The whole answer, once, in the event and in the memory. */
static void whole(const struct got *g)
{
	uint32_t tok;
	uint32_t i;
	float lp;

	ck_assert_msg(g->type == HEARTH_EV_DONE, "%s", g->error);
	ck_assert_int_eq(g->finish, HEARTH_FINISH_LENGTH);
	ck_assert_uint_eq(g->n, N_TOKENS);
	ck_assert_uint_eq(g->text_n, N_TOKENS);
	for (i = 0; i < N_TOKENS; i++) {
		ck_assert_int_eq(g->text[i], life_token(g->seed, 65, i));
		ck_assert_int_eq(hearth_token_at(h, g->id, i, &tok, &lp), 0);
		ck_assert_uint_eq(tok, life_token(g->seed, 65, i));
		ck_assert(lp == -(float)i);
	}
}

static void release(struct got *g, int n)
{
	int i;

	for (i = 0; i < n; i++)
		ck_assert_int_eq(hearth_release(h, g[i].id), 0);
	ck_assert_ptr_null(h->old);
	ck_assert_uint_eq(h->n_deferred, 0);
	ck_assert_uint_eq(h->n_live, 0);
}

/* ------------------------------------------------------------- every point */

/* The first life ends under three answers, the second at a point of coming
 * back, the third lives. Then the same through an event loop. */
START_TEST(every_point)
{
	const struct life life[] = {
		{ .die = DIE_TOKENS, .after = 25 },
		{ .die = (enum die_at)(_i % DIE_N), .after = 30, .gap_ms = 30 },
		{ .gap_ms = 10 },
	};
	bool by_fd = _i >= DIE_N;
	struct hearth_options HEARTH_INIT(o);
	struct got g[N_REQ];
	uint64_t epoch;
	int i;

	o.max_resubmit = 2;
	begin_loaded(life, 3, &o);
	epoch = hearth_epoch(h);
	for (i = 0; i < N_REQ; i++)
		ask(&g[i], (uint64_t)i + 1);
	follow(g, N_REQ, by_fd);
	for (i = 0; i < N_REQ; i++)
		whole(&g[i]);
	ck_assert_uint_ne(hearth_epoch(h), epoch);
	release(g, N_REQ);
	/* and the connection is as good as new */
	ask(&g[0], 77);
	follow(g, 1, by_fd);
	whole(&g[0]);
	ck_assert_int_eq(hearth_ping(h, 0), 0);
	ck_assert_int_eq(srv.bad, 0);
}
END_TEST

/* The first life ends before anything was asked, or while it is. */
START_TEST(every_point_before_tokens)
{
	static const enum die_at at[] = { DIE_MODEL, DIE_RUN, DIE_ACCEPTED,
					  DIE_UNSAID };
	const struct life life[] = { { .die = at[_i] }, { .gap_ms = 20 } };
	struct got g[N_REQ];
	int i;

	begin_loaded(life, 2, NULL);
	for (i = 0; i < N_REQ; i++)
		ask(&g[i], (uint64_t)i + 1);
	follow(g, N_REQ, false);
	for (i = 0; i < N_REQ; i++)
		whole(&g[i]);
	if (at[_i] == DIE_UNSAID)
		/* one was complete: nobody computes it again */
		ck_assert_int_eq(srv.n_run[1], N_REQ - 1);
	else
		ck_assert_int_eq(srv.n_run[1], N_REQ);
	release(g, N_REQ);
	ck_assert_int_eq(srv.bad, 0);
}
END_TEST

/* A load that the daemon does not survive is asked for once more. */
START_TEST(load_again)
{
	static const enum die_at at[] = { DIE_LOAD, DIE_PROGRESS };
	const struct life life[] = { { .die = at[_i] }, { 0 } };
	struct got g;

	begin_loaded(life, 2, NULL);
	ask(&g, 5);
	follow(&g, 1, false);
	whole(&g);
	ck_assert_int_eq(srv.n_load, 2);
}
END_TEST

static int append(void *arg, const char *p, size_t n)
{
	strncat(arg, p, n);
	return 0;
}

START_TEST(generate)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { .refuse = true, .gap_ms = 50 } };
	struct hearth_request q;
	char seen[256] = "";
	char *out = NULL;
	int i;

	begin_loaded(life, 2, NULL);
	q = seeded(9);
	ck_assert_msg(!hearth_generate(h, "A", &q, append, seen, &out), "%s",
		      hearth_error(h));
	ck_assert_str_eq(seen, out);
	ck_assert_uint_eq(strlen(out), N_TOKENS);
	for (i = 0; i < N_TOKENS; i++)
		ck_assert_int_eq(out[i], life_token(9, 65, (uint32_t)i));
	free(out);
}
END_TEST

/* ------------------------------------------------------------ what is kept */

/* Results of a dead daemon are read until they are released. */
START_TEST(results_stay)
{
	const struct life life[] = {
		{ .die = DIE_TOKENS, .after = N_TOKENS + 9 }, { 0 }
	};
	static const uint32_t pos[] = { 0, 2 };
	struct hearth_request q;
	struct got g[2] = { 0 };
	const float *logits;
	uint32_t n;

	begin_loaded(life, 2, NULL);
	q = seeded(1);
	q.logits_pos = pos;
	q.n_logits_pos = 2;
	ck_assert_int_eq(hearth_submit(h, &q, &g[0].id), 0);
	g[0].seed = 1;
	follow(g, 1, false);
	ck_assert_int_eq(hearth_logits(h, g[0].id, 1, &logits, &n), 0);
	ask(&g[1], 2);
	follow(g + 1, 1, false);
	whole(&g[0]);
	whole(&g[1]);
	ck_assert_uint_eq(n, FAKE_VOCAB);
	ck_assert(logits[FAKE_VOCAB - 1] == 0);
	ck_assert_ptr_nonnull(h->old);
	ck_assert_int_eq(hearth_release(h, g[1].id), 0);
	/* the other one needs the first session, and no more */
	ck_assert_ptr_nonnull(h->old);
	ck_assert_ptr_null(h->old->next);
	ck_assert_int_eq(hearth_release(h, g[0].id), 0);
	ck_assert_ptr_null(h->old);
	ck_assert_int_eq(srv.n_run[1], 1);
}
END_TEST

/* Alternatives cannot be told to the next daemon: it runs the request anew. */
START_TEST(alternatives_run_anew)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { .other_tokens = _i } };
	struct hearth_request q;
	struct got g = { .seed = 4 };
	const struct hearth_top *top;

	begin_loaded(life, 2, NULL);
	q = seeded(4);
	q.n_top_logprobs = 2;
	ck_assert_int_eq(hearth_submit(h, &q, &g.id), 0);
	follow(&g, 1, false);
	ck_assert_int_eq(srv.n_run[1], 1);
	ck_assert_int_eq(srv.n_done[1], 0);
	if (_i) {
		ck_assert_int_eq(g.err, -ECONNRESET);
		ck_assert(strstr(g.error, "differently"));
		/* what came before is still there */
		ck_assert_uint_ge(g.n, 3);
		ck_assert_int_eq(hearth_token_at(h, g.id, g.n - 1, NULL, NULL),
				 0);
	} else {
		whole(&g);
		ck_assert_int_eq(hearth_top_at(h, g.id, N_TOKENS - 1, &top), 2);
	}
	release(&g, 1);
}
END_TEST

/* --------------------------------------------------- what is not run again */

/* Wait until the first life has ended: the socket hangs up. */
static void await_death(void)
{
	struct pollfd p = { .fd = h->sock, .events = POLLRDHUP };

	ck_assert_int_eq(poll(&p, 1, 5000), 1);
}

START_TEST(cancelled_is_cancelled)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 40 },
				     { 0 } };
	static const char *const stop[] = { "\xff" };
	struct hearth_request q;
	struct hearth_event ev;
	struct got g[3] = { 0 };
	char text[3];
	const char *cut[] = { text };

	begin_loaded(life, 2, NULL);
	q = seeded(3);
	/* one is cut at its third token, one is cancelled, one released */
	text[0] = (char)life_token(3, 65, 2);
	text[1] = (char)life_token(3, 65, 3);
	text[2] = 0;
	q.stop_text = cut;
	q.n_stop_text = 1;
	ck_assert_int_eq(hearth_submit(h, &q, &g[0].id), 0);
	q.stop_text = stop;
	ck_assert_int_eq(hearth_submit(h, &q, &g[1].id), 0);
	ck_assert_int_eq(hearth_submit(h, &q, &g[2].id), 0);
	await_death();
	ck_assert_int_eq(hearth_cancel(h, g[1].id), 0);
	ck_assert_int_eq(hearth_release(h, g[2].id), 0);
	follow(g, 2, false);
	ck_assert_int_eq(g[0].finish, HEARTH_FINISH_STOP);
	ck_assert_uint_eq(g[0].n, 4);
	ck_assert_int_eq(g[1].finish, HEARTH_FINISH_CANCEL);
	ck_assert_int_eq(next(&ev, 200), -EAGAIN);
	release(g, 2);
	ck_assert_int_le(srv.n_run[1], 1);
}
END_TEST

/* Cancelling and releasing while there is no daemon at all. */
START_TEST(cancel_without_daemon)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { .gap_ms = 400 } };
	struct hearth_event ev;
	struct got g[3];
	int i;

	begin_loaded(life, 2, NULL);
	for (i = 0; i < 2; i++)
		ask(&g[i], (uint64_t)i + 1);
	await_death();
	h->t_alive_ns = 0;
	while (!next(&ev, 0))
		give(g, 2, &ev);
	ask(&g[2], 3); /* taken, though nobody is there */
	ck_assert_int_ne(h->link.state, LINK_UP);
	ck_assert_int_eq(hearth_cancel(h, g[0].id), 0);
	ck_assert_int_eq(hearth_release(h, g[1].id), 0);
	g[1] = g[2];
	follow(g, 2, false);
	ck_assert_int_eq(g[0].finish, HEARTH_FINISH_CANCEL);
	whole(&g[1]);
	release(g, 2);
	ck_assert_int_eq(srv.n_run[1], 1);
}
END_TEST

START_TEST(once_is_enough)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 10 },
				     { .die = DIE_TOKENS, .after = 10 },
				     { 0 } };
	struct hearth_options HEARTH_INIT(o);
	struct hearth_timings HEARTH_INIT(t);
	struct got g;

	o.max_resubmit = (uint32_t)_i;
	begin_loaded(life, 3, &o);
	ask(&g, 8);
	follow(&g, 1, false);
	if (_i == 2) {
		whole(&g);
		ck_assert_int_eq(hearth_timings(h, g.id, &t), 0);
		ck_assert_uint_eq(t.n_restart, 2);
	} else {
		ck_assert_int_eq(g.type, HEARTH_EV_ERROR);
		ck_assert_int_eq(g.err, -ECONNRESET);
		ck_assert_msg(strstr(g.error, "died again"), "%s", g.error);
		ck_assert_uint_ge(g.n, 15);
		/* the next one is none of its business */
		release(&g, 1);
		ask(&g, 9);
		follow(&g, 1, false);
		whole(&g);
	}
	release(&g, 1);
}
END_TEST

/* ------------------------------------------------------------- no daemon */

START_TEST(nobody_comes)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { .silent = true, .gap_ms = 20 } };
	bool by_fd = _i & 1;
	bool hangs = _i & 2;
	struct hearth_options HEARTH_INIT(o);
	struct hearth_event ev;
	struct got g[2];
	uint64_t id;
	double t;

	o.reconnect_ms = 300;
	begin_loaded(life, hangs ? 2 : 1, &o);
	ask(&g[0], 1);
	ask(&g[1], 2);
	await_death();
	t = now();
	follow(g, 2, by_fd);
	ck_assert(now() - t > 0.25);
	ck_assert(now() - t < 3);
	ck_assert_int_eq(g[0].err, -ENOTCONN);
	ck_assert_msg(strstr(g[0].error, hangs ? "hangs" : "none came"), "%s",
		      g[0].error);
	ck_assert_int_eq(g[1].err, -ENOTCONN);
	ck_assert_int_eq(next(&ev, -1), -ENOTCONN);
	if (by_fd) {
		struct pollfd p = { .fd = hearth_fd(h), .events = POLLIN };

		ck_assert_int_eq(next(&ev, 0), -ENOTCONN);
		ck_assert_int_eq(poll(&p, 1, 1000), 1);
	}
	ck_assert_int_eq(hearth_submit(h, &(struct hearth_request){ 0 }, &id),
			 -ENOTCONN);
	ck_assert_int_eq(hearth_ping(h, 0), -ENOTCONN);
	ck_assert_int_eq(hearth_model_list(h, NULL, 0), -ENOTCONN);
	ck_assert(strstr(hearth_error(h), "died"));
	/* what came is still there */
	ck_assert_uint_ge(g[0].n, 10);
	ck_assert_int_eq(hearth_token_at(h, g[0].id, 9, NULL, NULL), 0);
	release(g, 2);
}
END_TEST

START_TEST(not_wanted)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { 0 } };
	struct hearth_options HEARTH_INIT(o);
	struct got g;
	double t = now();

	o.no_reconnect = true;
	begin_loaded(life, 2, &o);
	ask(&g, 1);
	follow(&g, 1, false);
	ck_assert_int_eq(g.err, -ENOTCONN);
	ck_assert(now() - t < 2);
	release(&g, 1);
}
END_TEST

START_TEST(another_users_daemon)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { .uid = 54321 } };
	struct life mine[2];
	struct got g;

	if (geteuid())
		return; /* cannot play another user */
	memcpy(mine, life, sizeof(mine));
	begin_loaded(mine, 2, NULL);
	ask(&g, 1);
	follow(&g, 1, false);
	ck_assert_int_eq(g.err, -ENOTCONN);
	ck_assert_msg(strstr(g.error, "54321"), "%s", g.error);
	ck_assert_int_eq(srv.n_run[1], 0);
	release(&g, 1);
}
END_TEST

/* A daemon that leaves while it is greeted: the next one is found. */
START_TEST(greeted_anew)
{
	const struct life life[] = { { .die = (enum die_at)_i },
				     { .gap_ms = 50 } };
	struct hearth_options HEARTH_INIT(o);
	double t = now();
	int err;

	srv_start(&srv, life, 2);
	while (access(srv.path, F_OK) && now() - t < 5)
		nap(1000);
	nap(10000); /* from the name to listen() */
	o.socket = srv.path;
	err = hearth_open(&h, &o);
	ck_assert_msg(!err, "%s", hearth_error(NULL));
	ck_assert_int_eq(srv.now, 1);
}
END_TEST

/* ---------------------------------------------------------------- models */

/* Opened by number: found again by the digest of its weights, or not. */
START_TEST(model_by_digest)
{
	const struct life life[] = {
		{ .die = DIE_TOKENS, .after = 25, .digest = _i != 2 },
		{ .digest = true, .absent = _i == 1 }
	};
	struct got g;
	uint64_t id;
	struct hearth_request q;

	begin(life, 2, NULL);
	ck_assert_int_eq(hearth_model_open(h, &m, 7), 0);
	ask(&g, 6);
	follow(&g, 1, false);
	ck_assert_int_eq(srv.n_load, 0);
	if (_i == 0) {
		whole(&g);
		ck_assert_int_eq(srv.n_open, 2);
		ck_assert_uint_eq(model_id(m), 107);
	} else {
		ck_assert_int_eq(g.err, -ECONNRESET);
		ck_assert_msg(strstr(g.error, "does not have fake"), "%s",
			      g.error);
		q = seeded(1);
		ck_assert_int_eq(hearth_submit(h, &q, &id), -ECONNRESET);
		ck_assert(strstr(hearth_error(h), "fake"));
	}
	release(&g, 1);
}
END_TEST

/* The file behind the descriptor is not what it was. */
START_TEST(model_is_another)
{
	const struct life life[] = {
		{ .die = DIE_TOKENS, .after = 25, .digest = _i == 2 },
		{ .other_file = _i == 0, .no_load = _i > 0, .digest = _i == 2 }
	};
	struct got g;

	begin_loaded(life, 2, NULL);
	ask(&g, 6);
	follow(&g, 1, false);
	if (_i == 2) {
		/* the file cannot be read any more, and need not be */
		whole(&g);
		ck_assert_int_eq(srv.n_open, 1);
	} else {
		ck_assert_int_eq(g.err, -ECONNRESET);
		ck_assert_msg(strstr(g.error,
				     _i ? "cannot be read" : "another header"),
			      "%s", g.error);
	}
	release(&g, 1);
}
END_TEST

/* Questions over a death: asked again, unless they name a number of the
 * daemon that died. */
START_TEST(questions)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 25 },
				     { .gap_ms = 100 } };
	struct hearth_model_info HEARTH_INIT(info);
	struct hearth_model *other;
	struct got g;
	char buf[64];

	begin_loaded(life, 2, NULL);
	ask(&g, 6);
	await_death();
	switch (_i) {
	case 0:
		ck_assert_int_eq(hearth_model_list(h, &info, 1), 1);
		ck_assert_uint_eq(info.id, 107);
		break;
	case 1:
		ck_assert_int_eq(hearth_limits(h, buf, sizeof(buf)), 8);
		break;
	case 2:
		ck_assert_int_eq(hearth_stats(h, buf, sizeof(buf)), 8);
		ck_assert_str_eq(buf, "lives 1\n");
		break;
	case 3:
		ck_assert_int_eq(hearth_ping(h, 1000), 0);
		break;
	case 4:
		ck_assert_int_eq(hearth_model_load(h, &other, file, NULL), 0);
		hearth_model_close(&other);
		break;
	case 5:
		ck_assert_int_eq(hearth_model_open(h, &other, 7), -ECONNRESET);
		ck_assert(strstr(hearth_error(h), "number 7"));
		break;
	default:
		ck_assert_int_eq(hearth_model_unload(h, 7, 0), -ECONNRESET);
	}
	follow(&g, 1, false);
	whole(&g);
	ck_assert_int_eq(hearth_model_info(m, &info), 0);
	ck_assert_uint_eq(info.id, 107);
	release(&g, 1);
}
END_TEST

/* A closed model is not opened again, one that is only held is. */
START_TEST(closed_models_are_forgotten)
{
	const struct life life[] = { { .die = DIE_MODEL + 0 }, { 0 } };
	struct life two[2];
	struct hearth_model *a;
	struct hearth_model *b;

	memcpy(two, life, sizeof(two));
	two[0].die = DIE_TOKENS;
	two[0].after = 5;
	begin_loaded(two, 2, NULL);
	ck_assert_int_eq(hearth_model_load(h, &a, file, NULL), 0);
	ck_assert_int_eq(hearth_model_load(h, &b, file, NULL), 0);
	hearth_model_close(&a);
	ck_assert_int_eq(srv.n_load, 3);
	{
		struct got g;

		ask(&g, 1);
		follow(&g, 1, false);
		whole(&g);
		release(&g, 1);
	}
	ck_assert_int_eq(srv.n_load, 5);
	hearth_model_close(&b);
}
END_TEST

/* ----------------------------------------------------------------- queues */

/* More than the next session's queue takes at once: it goes bit by bit. */
START_TEST(a_full_queue)
{
	const struct life life[] = { { .die = DIE_TOKENS, .after = 1 },
				     { .later = true } };
	static uint32_t big[9000];
	struct hearth_request q;
	struct got g[FAKE_SLOTS] = { 0 };
	int i;

	begin_loaded(life, 2, NULL);
	q = seeded(1);
	m->info.n_ctx = 1u << 20;
	h->link.models->n_ctx = 0;
	big[0] = 65;
	q.prompt = big;
	q.n_prompt = 4000; /* four of them do not fit into 64 KiB */
	for (i = 0; i < FAKE_SLOTS; i++) {
		int err;
		double t = now();

		do {
			q.seed = (uint64_t)i + 1;
			err = hearth_submit(h, &q, &g[i].id);
		} while (err == -EAGAIN && now() - t < 5);
		ck_assert_msg(!err, "%s", hearth_error(h));
		g[i].seed = q.seed;
	}
	follow(g, FAKE_SLOTS, false);
	for (i = 0; i < FAKE_SLOTS; i++)
		whole(&g[i]);
	release(g, FAKE_SLOTS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("reconnect");
	TCase *t = tcase_create("reconnect");
	SRunner *r;
	int bad;

	tcase_add_checked_fixture(t, files, no_files);
	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, every_point, 0, 2 * DIE_N);
	tcase_add_loop_test(t, every_point_before_tokens, 0, 4);
	tcase_add_loop_test(t, load_again, 0, 2);
	tcase_add_test(t, generate);
	tcase_add_test(t, results_stay);
	tcase_add_loop_test(t, alternatives_run_anew, 0, 2);
	tcase_add_test(t, cancelled_is_cancelled);
	tcase_add_test(t, cancel_without_daemon);
	tcase_add_loop_test(t, once_is_enough, 0, 3);
	tcase_add_loop_test(t, nobody_comes, 0, 4);
	tcase_add_test(t, not_wanted);
	tcase_add_loop_test(t, greeted_anew, DIE_ACCEPT, DIE_READY);
	tcase_add_test(t, another_users_daemon);
	tcase_add_loop_test(t, model_by_digest, 0, 3);
	tcase_add_loop_test(t, model_is_another, 0, 3);
	tcase_add_loop_test(t, questions, 0, 7);
	tcase_add_test(t, closed_models_are_forgotten);
	tcase_add_test(t, a_full_queue);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad ? 1 : 0;
}
