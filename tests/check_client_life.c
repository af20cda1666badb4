/* SPDX-License-Identifier: MIT */
/* check_client_life.c - waiting, dying, lying and threads: libhearth when
 * things happen at the wrong time. */
#include <poll.h>
#include <pthread.h>

#include "client_fake.h"

/* ------------------------------------------------------- time, death, lies */

START_TEST(timeouts)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint64_t id;
	double t;

	start(&q, &id);
	t = now();
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	ck_assert(now() - t < 0.05);
	t = now();
	ck_assert_int_eq(next(&ev, 120), -EAGAIN);
	ck_assert(now() - t >= 0.12);
	ck_assert(now() - t < 2);
	ck_assert_uint_eq(f.rc->client_waiting, 0);
}
END_TEST

static void *die_soon(void *arg)
{
	usleep(50000);
	fake_die(arg);
	return NULL;
}

START_TEST(daemon_dies)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint64_t done;
	uint64_t run[2];
	uint32_t slot;
	uint32_t tok;
	pthread_t th;
	float lp;
	double t;
	int i;

	slot = start(&q, &done);
	fake_token(&f, slot, 'a', 0);
	fake_done(&f, slot, RING_FIN_EOS, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	slot = start(&q, &run[0]);
	run[1] = submit(&q);
	pthread_create(&th, NULL, die_soon, &f);
	t = now();
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(next(&ev, -1), 0);
		ck_assert(ev.id == run[0] || ev.id == run[1]);
		ck_assert(ev.type == HEARTH_EV_ERROR && ev.err == -ENOTCONN);
		ck_assert(strstr(ev.error, "daemon"));
	}
	ck_assert(now() - t < 2);
	pthread_join(th, NULL);
	ck_assert_int_eq(next(&ev, -1), -ENOTCONN);
	ck_assert_int_eq(next(&ev, 0), -ENOTCONN);
	ck_assert_int_eq(hearth_submit(h, &q, &run[0]), -ENOTCONN);
	ck_assert_int_eq(hearth_ping(h, 0), -ENOTCONN);
	ck_assert_int_eq(hearth_model_list(h, NULL, 0), -ENOTCONN);
	/* what was finished stays readable */
	ck_assert_int_eq(hearth_token_at(h, done, 0, &tok, &lp), 0);
	ck_assert_int_eq(hearth_release(h, done), 0);
	ck_assert_int_eq(hearth_release(h, run[1]), 0);
}
END_TEST

START_TEST(polling_caller_notices_death)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint64_t id;
	double t;
	int r;

	start(&q, &id);
	fake_die(&f);
	t = now();
	do {
		r = next(&ev, 0);
	} while (r == -EAGAIN && now() - t < 3);
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(ev.err, -ENOTCONN);
}
END_TEST

/* The daemon is not hostile, but a broken one must not take us along. */
START_TEST(lying_daemon)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	struct ring_slot *s;
	uint32_t slot;
	uint64_t id;
	uint32_t tok;
	float lp;

	slot = start(&q, &id);
	s = fake_slot(&f, slot);
	fake_token(&f, slot, 'a', 0);
	switch (_i) {
	case 0: /* completion index out of range */
		__atomic_store_n(&f.rd->cq_tail, 17, __ATOMIC_RELEASE);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert_int_eq(ev.type, HEARTH_EV_TOKENS);
		break;
	case 1: /* submission index out of range */
		f.rd->sq_head = 12345;
		ck_assert_int_eq(hearth_submit(h, &q, &id), -EPROTO);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert_int_eq(ev.type, HEARTH_EV_TOKENS);
		break;
	case 2: /* answer outside D */
		s->out_off = f.lay.d_bytes - 8;
		break;
	case 3: /* answer outside the arena */
		s->out_off = 64;
		break;
	case 4: /* size that overflows */
		s->max_out = UINT32_MAX;
		s->n_out = UINT32_MAX;
		break;
	case 5: /* more tokens than there is room for: the rest is not there */
		s->n_out = FAKE_OUT + 5;
		ck_assert_int_eq(hearth_token_at(h, id, FAKE_OUT, &tok, &lp),
				 -ENOENT);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert_int_eq(ev.type, HEARTH_EV_TOKENS);
		return;
	}
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(ev.type, HEARTH_EV_ERROR);
	ck_assert_int_eq(next(&ev, 0), -ENOTCONN);
}
END_TEST

START_TEST(layouts_are_checked)
{
	struct ring_layout l;

	fake_layout(&l, 16, DATA);
	ck_assert_int_eq(conn_check_layout(&l), 0);
#define BREAK(field, v)                                           \
	do {                                                      \
		fake_layout(&l, 16, DATA);                        \
		l.field = v;                                      \
		ck_assert_int_eq(conn_check_layout(&l), -EPROTO); \
	} while (0)
	BREAK(sq_entries, 0);
	BREAK(sq_entries, 15);
	BREAK(sq_entries, 1u << 31);
	BREAK(cq_entries, 8);
	BREAK(cq_entries, 24);
	BREAK(n_slots, 0);
	BREAK(n_slots, 1025);
	BREAK(c_bytes, RING_MAX_C_BYTES + 1ull);
	BREAK(c_bytes, 4096);
	BREAK(d_bytes, RING_MAX_D_BYTES + 1ull);
	BREAK(d_bytes, 6000);
	BREAK(c_sq_off, 0);
	BREAK(c_sq_off, RING_PAGE + 1);
	BREAK(c_sq_off, UINT64_MAX & ~63ull);
	BREAK(c_data_off, RING_PAGE);
	BREAK(c_data_off, l.c_bytes + 64);
	BREAK(d_cq_off, l.d_bytes);
	BREAK(d_slot_off, l.d_bytes);
	BREAK(d_slot_off, 0);
	BREAK(d_arena_off, l.d_bytes + 64);
}
END_TEST

START_TEST(pings_are_counted)
{
	struct ring_cqe c = { .event = RING_EV_NOP, .arg = 1 };

	/* answered already, twice: the second is one too many */
	fake_push(&f, &c);
	fake_push(&f, &c);
	h->nop_sent = 0;
	ck_assert_int_eq(cring_drain(h), 0);
	ck_assert_uint_eq(h->nop_wrong, 2);
	c.arg = 2;
	fake_push(&f, &c);
	c.arg = 1;
	fake_push(&f, &c);
	ck_assert_int_eq(hearth_ping(h, 0), -EPROTO);
}
END_TEST

/* ------------------------------------------------------------- concurrency */

struct echo {
	struct fake *f;
	volatile bool stop;
	uint64_t n;
};

/* An engine that answers NOPs and streams "word word ..." to each RUN. */
static void *echo(void *arg)
{
	struct echo *e = arg;
	struct ring_cqe c;
	struct ring_sqe s;
	unsigned int seed = 1;
	unsigned int i;

	while (!e->stop) {
		__atomic_store_n(&e->f->rd->daemon_waiting, 1,
				 __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!fake_pop(e->f, &s)) {
			struct pollfd p = { .fd = e->f->kick_fd,
					    .events = POLLIN };
			uint64_t v;
			ssize_t r;

			if (poll(&p, 1, 1000) <= 0)
				continue;
			r = read(e->f->kick_fd, &v, sizeof(v));
			(void)r;
			continue;
		}
		__atomic_store_n(&e->f->rd->daemon_waiting, 0,
				 __ATOMIC_RELAXED);
		e->n++;
		if (s.op == RING_OP_NOP) {
			memset(&c, 0, sizeof(c));
			c.event = RING_EV_NOP;
			c.arg = s.arg;
			fake_push(e->f, &c);
		} else if (s.op == RING_OP_RUN) {
			fake_accept(e->f, &s);
			for (i = 0; i < 20; i++) {
				if (rand_r(&seed) % 4 == 0)
					usleep(rand_r(&seed) % 100);
				fake_token(e->f, s.slot, 'a' + i, 0);
				/* sometimes the entry is coalesced away */
				if (i == 0)
					fake_event(e->f, RING_EV_PROGRESS,
						   s.slot);
			}
			fake_done(e->f, s.slot, RING_FIN_EOS, 0);
		}
	}
	return NULL;
}

START_TEST(no_wake_up_is_lost)
{
	struct echo e = { .f = &f };
	pthread_t th;
	double t = now();
	int i;

	pthread_create(&th, NULL, echo, &e);
	for (i = 0; i < 20000 && now() - t < 8; i++)
		ck_assert_int_eq(hearth_ping(h, i & 1 ? 5000 : 0), 0);
	ck_assert_uint_eq(e.n, (uint64_t)i);
	ck_assert_uint_eq(h->nop_wrong, 0);
	e.stop = true;
	pthread_join(th, NULL);
	/* a lost one would cost half a second */
	ck_assert_msg((now() - t) / i < 0.002, "%d pings in %g s", i,
		      now() - t);
}
END_TEST

static int gather(void *arg, const char *p, size_t n)
{
	strncat(arg, p, n);
	return 0;
}

START_TEST(generate_whole)
{
	struct hearth_request q = request();
	struct echo e = { .f = &f };
	char seen[64] = "";
	char *out;
	pthread_t th;
	int i;

	pthread_create(&th, NULL, echo, &e);
	for (i = 0; i < 50; i++) {
		seen[0] = 0;
		ck_assert_int_eq(
			hearth_generate(h, "hello", &q, gather, seen, &out), 0);
		ck_assert_str_eq(out, "abcdefghijklmnopqrst");
		ck_assert_str_eq(seen, out);
		free(out);
	}
	ck_assert_uint_eq(h->n_live, 0);
	e.stop = true;
	pthread_join(th, NULL);
}
END_TEST

START_TEST(generate_leaves_other_requests_alone)
{
	struct hearth_request q = request();
	struct echo e = { .f = &f };
	struct hearth_event ev;
	uint32_t n = 0;
	uint64_t id;
	pthread_t th;

	id = submit(&q);
	pthread_create(&th, NULL, echo, &e);
	ck_assert_int_eq(hearth_generate(h, "x", &q, NULL, NULL, NULL), 0);
	while (!next(&ev, 1000)) {
		ck_assert_uint_eq(ev.id, id);
		n += ev.n_tokens;
		if (ev.type == HEARTH_EV_DONE)
			break;
	}
	ck_assert_int_eq(ev.type, HEARTH_EV_DONE);
	ck_assert_uint_eq(n, 20);
	e.stop = true;
	pthread_join(th, NULL);
}
END_TEST

static int readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms);
}

/* Readable when there is something, and not for ever. */
START_TEST(fd_for_event_loops)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;
	int fd;
	int i;

	slot = start(&q, &id);
	fake_token(&f, slot, 'a', 0);
	fd = hearth_fd(h);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(hearth_fd(h), fd);
	/* there was something before anybody asked for the fd */
	ck_assert_int_eq(readable(fd, 1000), 1);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	ck_assert_int_eq(readable(fd, 30), 0);
	for (i = 0; i < 100; i++) {
		fake_token(&f, slot, 'a', 0);
		fake_event(&f, RING_EV_PROGRESS, slot);
		ck_assert_int_eq(readable(fd, 1000), 1);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert_int_eq(ev.type, HEARTH_EV_TOKENS);
		ck_assert_int_eq(next(&ev, 0), -EAGAIN);
		ck_assert_int_eq(readable(fd, 0), 0);
	}
	fake_die(&f);
	ck_assert_int_eq(readable(fd, 1000), 1);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(ev.err, -ENOTCONN);
	ck_assert_int_eq(readable(fd, 1000), 1);
	ck_assert_int_eq(next(&ev, 0), -ENOTCONN);
}
END_TEST

START_TEST(model_outlives_its_handle)
{
	struct hearth_request q = request();
	struct hearth_model *mine = model_get(m);
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;

	q.model = mine;
	slot = start(&q, &id);
	hearth_model_close(&mine);
	ck_assert_ptr_null(mine);
	fake_token(&f, slot, FAKE_W_ABC, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "abc");
	ck_assert_uint_eq(model_n_users(m), 2);
	hearth_release(h, id);
	ck_assert_uint_eq(model_n_users(m), 1);
}
END_TEST

START_TEST(no_daemon)
{
	struct hearth_options HEARTH_INIT(o);
	struct hearth *none;
	char longer[300];

	o.socket = "/nonexistent/hearth.sock";
	ck_assert_int_eq(hearth_open(&none, &o), -ENOENT);
	ck_assert_ptr_null(none);
	ck_assert(strstr(hearth_error(NULL), "/nonexistent/hearth.sock"));
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	o.socket = longer;
	ck_assert_int_eq(hearth_open(&none, &o), -ENAMETOOLONG);
	ck_assert_str_eq(hearth_version(), HEARTH_VERSION);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_life");
	TCase *t = tcase_create("client_life");
	SRunner *r;
	int bad;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 20);
	tcase_add_test(t, timeouts);
	tcase_add_test(t, daemon_dies);
	tcase_add_test(t, polling_caller_notices_death);
	tcase_add_loop_test(t, lying_daemon, 0, 6);
	tcase_add_test(t, layouts_are_checked);
	tcase_add_test(t, pings_are_counted);
	tcase_add_test(t, no_wake_up_is_lost);
	tcase_add_test(t, generate_whole);
	tcase_add_test(t, generate_leaves_other_requests_alone);
	tcase_add_test(t, fd_for_event_loops);
	tcase_add_test(t, model_outlives_its_handle);
	tcase_add_test(t, no_daemon);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad ? 1 : 0;
}
