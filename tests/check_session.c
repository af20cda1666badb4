/* SPDX-License-Identifier: MIT */
/*
 * check_session.c - rings at work: slots and generations, credits, wake-ups.
 */
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session_rig.h"

/* ------------------------------------------------------ slots and entries */

START_TEST(nop)
{
	struct ring_cqe e;
	uint32_t i;

	for (i = 0; i < 100; i++) {
		rig_sqe(client)->arg = i * 0x123456789abcull;
		rig_publish(client);
		drive();
		e = only(client);
		ck_assert_uint_eq(e.event, RING_EV_NOP);
		ck_assert_uint_eq(e.arg, i * 0x123456789abcull);
		ck_assert_uint_eq(client->rd->sq_head, i + 1);
	}
}
END_TEST

START_TEST(generations)
{
	struct ring_cqe e;
	uint32_t gen;

	gen = rig_run_prompt(client, 0, 0, prompt, 4, 400);
	engine_poll(rig.e);
	engine_step(rig.e);
	/* Neither touches a request of another generation. */
	rig_submit(client, RING_OP_CANCEL, 0, gen - 1, 0, 0);
	rig_submit(client, RING_OP_RELEASE, 0, gen + 1, 0, 0);
	engine_poll(rig.e);
	ck_assert_uint_eq(rig_slot(client, 0)->state, RING_SLOT_RUNNING);
	/* The slot is taken. */
	rig_run_prompt(client, 0, 0, prompt, 4, 4);
	engine_poll(rig.e);
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_REFUSED);
	ck_assert_uint_eq(e.reason, RING_BAD_SLOT);
	ck_assert_int_eq(e.err, -EBUSY);
	/* Cancel: at once, before another step. */
	rig_submit(client, RING_OP_CANCEL, 0, gen, 0, 0);
	ck_assert(!engine_poll(rig.e));
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_uint_eq(e.gen, gen);
	ck_assert_uint_eq(rig_slot(client, 0)->finish, RING_FIN_CANCEL);
	ck_assert(rig_quiet(&rig));
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	/* Again: nothing. */
	rig_submit(client, RING_OP_CANCEL, 0, gen, 0, 0);
	drive();
	ck_assert(!rig_reap(client, &e));
	/* Output stays until it is released; twice does nothing. */
	rig_submit(client, RING_OP_RELEASE, 0, gen, 0, 0);
	rig_submit(client, RING_OP_RELEASE, 0, gen, 0, 0);
	drive();
	ck_assert_uint_eq(rig_slot(client, 0)->state, RING_SLOT_FREE);
	ck_assert(!rig_reap(client, &e));
	rig_run_prompt(client, 0, 0, prompt, 4, 4);
	drive();
	ck_assert_uint_eq(final(client).event, RING_EV_DONE);
}
END_TEST

START_TEST(release_while_running)
{
	struct ring_cqe e;
	uint32_t gen, n = 0;

	gen = rig_run_prompt(client, 0, 0, prompt, 4, 400);
	engine_poll(rig.e);
	engine_step(rig.e);
	rig_submit(client, RING_OP_RELEASE, 0, gen, 0, 0);
	ck_assert(!engine_poll(rig.e));
	ck_assert(rig_quiet(&rig));
	ck_assert_uint_eq(rig_slot(client, 0)->state, RING_SLOT_FREE);
	rig_run_prompt(client, 0, 0, prompt, 4, 4);
	drive();
	while (rig_reap(client, &e)) {
		ck_assert(e.gen != gen || e.event == RING_EV_PROGRESS);
		n += e.event == RING_EV_DONE;
	}
	ck_assert_uint_eq(n, 1);
}
END_TEST

/* ---------------------------------------------------------------- credits */

START_TEST(progress_is_coalesced)
{
	struct ring_cqe e;
	uint32_t i;

	rig_run_prompt(client, 0, 0, prompt, 4, 100);
	for (i = 0; i < 20; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	/* Twenty tokens, one entry. */
	ck_assert_uint_ge(rig_slot(client, 0)->n_out, 15);
	e = only(client);
	ck_assert_uint_eq(e.event, RING_EV_PROGRESS);
	engine_poll(rig.e);
	engine_step(rig.e);
	e = only(client);
	ck_assert_uint_eq(e.event, RING_EV_PROGRESS);
}
END_TEST

/* A client that never reads: nothing overflows, nothing is lost. */
START_TEST(queue_never_overflows)
{
	struct ring_cqe e;
	uint32_t i, nops = 0, sent = 0, done = 0, full;

	for (i = 0; i < 300; i++) {
		if (client->sq_tail - client->rd->sq_head <
		    client->l.sq_entries) {
			if (i % 3 == 0 && i / 3 < N_SLOTS) {
				rig_run_prompt(client, i / 3, 4096ull * (i / 3),
					       prompt, 4, 50);
			} else {
				rig_sqe(client)->arg = sent++;
				rig_publish(client);
			}
		}
		engine_poll(rig.e);
		engine_step(rig.e);
		ck_assert_uint_le(client->rd->cq_tail, client->l.cq_entries);
	}
	full = client->rd->cq_tail;
	ck_assert_uint_lt(nops, sent);
	ck_assert_uint_gt(full, N_SLOTS);
	/* It may sleep although there are submissions: there is no room. */
	ck_assert(engine_idle(rig.e));
	engine_awake(rig.e);
	other_is_well();
	while (rig_reap(client, &e)) {
		if (e.event == RING_EV_NOP)
			ck_assert_uint_eq(e.arg, nops++);
		done += e.event == RING_EV_DONE;
		engine_poll(rig.e);
	}
	ck_assert_uint_eq(nops, sent);
	ck_assert_uint_eq(done, N_SLOTS);
	ck_assert(!client->bad);
}
END_TEST

/* With every slot running and nothing read, a cancel still gets through. */
START_TEST(cancel_without_room)
{
	struct ring_cqe e;
	uint32_t i, gen[N_SLOTS], done = 0;

	for (i = 0; i < N_SLOTS; i++)
		gen[i] = rig_run_prompt(client, i, 4096ull * i, prompt, 4, 500);
	for (i = 0; i < 8; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	for (i = 0; i < 12; i++) {
		rig_sqe(client)->arg = i;
		if (i < 3)
			rig_publish(client);
	}
	for (i = 0; i < N_SLOTS; i++)
		rig_submit(client, RING_OP_CANCEL, i, gen[i], 0, 0);
	engine_poll(rig.e);
	for (i = 0; i < N_SLOTS; i++)
		ck_assert_uint_eq(rig_slot(client, i)->finish, RING_FIN_CANCEL);
	ck_assert(rig_quiet(&rig));
	while (rig_reap(client, &e))
		done += e.event == RING_EV_DONE;
	ck_assert_uint_eq(done, N_SLOTS);
}
END_TEST

/* ----------------------------------------------------------------- waking */

START_TEST(wake_bits)
{
	uint32_t bits;

	for (bits = 0; bits < 8; bits++) {
		client->n_wakes = 0;
		client->rc->client_waiting = bits;
		rig_submit(client, RING_OP_NOP, 0, 0, 0, 0);
		drive();
		only(client);
		ck_assert_uint_eq(client->n_wakes, (bits & 3) != 0);
	}
}
END_TEST

START_TEST(no_sleep_with_work)
{
	ck_assert(engine_idle(rig.e));
	ck_assert_uint_eq(client->rd->daemon_waiting, 1);
	engine_awake(rig.e);
	/* Submitted after the last poll: the second look must see it. */
	rig_submit(client, RING_OP_NOP, 0, 0, 0, 0);
	ck_assert(!engine_idle(rig.e));
	ck_assert_uint_eq(client->rd->daemon_waiting, 0);
	drive();
	rig_run_prompt(client, 0, 0, prompt, 4, 50);
	engine_poll(rig.e);
	ck_assert(!engine_idle(rig.e));
	drive();
	ck_assert(engine_idle(rig.e));
}
END_TEST

#define PINGS 10000

static int kick;
static _Atomic int stop_engine;

static void futex_wake(void *arg, uint64_t session, uint32_t *word, int eventfd,
		       uint32_t how)
{
	(void)arg;
	(void)session;
	(void)eventfd;
	if (how & RING_WAIT_FUTEX)
		syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void *engine_thread(void *arg)
{
	struct pollfd p = { .fd = kick, .events = POLLIN };
	uint64_t n;

	(void)arg;
	while (!stop_engine) {
		if (engine_poll(rig.e)) {
			engine_step(rig.e);
			continue;
		}
		if (!engine_idle(rig.e))
			continue;
		poll(&p, 1, 5000);
		n = read(kick, &n, sizeof(n)) < 0;
		engine_awake(rig.e);
	}
	return NULL;
}

/* Two threads that sleep whenever they can: no wake-up is ever lost. */
START_TEST(both_sleep)
{
	const struct timespec limit = { 4, 0 };
	uint64_t one = 1, i;
	struct ring_cqe e;
	pthread_t t;
	uint32_t tail;

	kick = eventfd(0, EFD_NONBLOCK);
	engine_free(rig.e);
	rig.env.wake = futex_wake;
	ck_assert_int_eq(
		engine_new(&rig.e, &rig.conf, &rig.env, &rig.ops, &rig.st), 0);
	memset(client->c, 0, client->l.c_bytes);
	ck_assert_int_eq(rig_attach(&rig, 0, 1, 1000, 0), 0);
	ck_assert_int_eq(pthread_create(&t, NULL, engine_thread, NULL), 0);
	for (i = 0; i < PINGS; i++) {
		rig_sqe(client)->arg = i;
		rig_publish(client);
		if (__atomic_load_n(&client->rd->daemon_waiting,
				    __ATOMIC_RELAXED))
			ck_assert_int_eq(write(kick, &one, 8), 8);
		while (!rig_reap(client, &e)) {
			__atomic_store_n(&client->rc->client_waiting,
					 RING_WAIT_FUTEX, __ATOMIC_RELAXED);
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			tail = __atomic_load_n(&client->rd->cq_tail,
					       __ATOMIC_ACQUIRE);
			if (tail == client->cq_head)
				ck_assert_msg(!syscall(SYS_futex,
						       &client->rd->cq_tail,
						       FUTEX_WAIT, tail, &limit,
						       NULL, 0) ||
						      errno == EAGAIN ||
						      errno == EINTR,
					      "wake-up %llu is lost",
					      (unsigned long long)i);
			__atomic_store_n(&client->rc->client_waiting, 0,
					 __ATOMIC_RELAXED);
		}
		ck_assert_uint_eq(e.arg, i);
	}
	stop_engine = true;
	ck_assert_int_eq(write(kick, &one, 8), 8);
	pthread_join(t, NULL);
	close(kick);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("session");
	TCase *t;

	t = tcase_create("slots");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nop);
	tcase_add_test(t, generations);
	tcase_add_test(t, release_while_running);
	tcase_add_test(t, progress_is_coalesced);
	tcase_add_test(t, queue_never_overflows);
	tcase_add_test(t, cancel_without_room);
	suite_add_tcase(s, t);
	t = tcase_create("waking");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, wake_bits);
	tcase_add_test(t, no_sleep_with_work);
	tcase_add_test(t, both_sleep);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
