/* SPDX-License-Identifier: MIT */
/*
 * check_attack.c - the attacks that a client can make through its memory
 * alone: it is refused or cut off, and the others are served.
 */
#include <pthread.h>

#include "session_rig.h"

/* Its own memory convicts the client: it alone is cut off. */
static void expect_bad(void)
{
	drive();
	ck_assert(client->bad);
	ck_assert(rig_quiet(&rig));
	other_is_well();
	engine_session_end(rig.e, client->id);
	ck_assert(client->gone);
}

/* 1: random, backward and over-size indices. */
START_TEST(attack_01_indices)
{
	static const uint32_t tails[] = { 17, 0x80000000, UINT32_MAX, 1000 };

	rig_run_prompt(client, 0, 0, prompt, 4, 500);
	engine_poll(rig.e);
	engine_step(rig.e);
	if (_i < 4)
		client->rc->sq_tail = client->sq_tail + tails[_i];
	else if (_i == 4)
		client->rc->sq_tail = client->sq_tail - 1;
	if (_i < 5) {
		expect_bad();
		return;
	}
	client->rc->cq_head = _i == 5 ? 7 : _i == 6 ? UINT32_MAX : 0x80000000;
	expect_bad();
}
END_TEST

/* 2: entries and records that change while they are looked at. */
static _Atomic int stop_flipping;

static void *flip(void *arg)
{
	volatile uint64_t *c = (volatile uint64_t *)client->c;
	const size_t sq = client->l.c_sq_off / 8;
	const size_t n = (client->l.c_data_off + 4096 - client->l.c_sq_off) / 8;
	uint64_t seed = (uintptr_t)arg;

	while (!stop_flipping)
		c[sq + rig_rand(&seed) % n] ^= 1ull << rig_rand(&seed) % 64;
	return NULL;
}

START_TEST(attack_02_flip)
{
	struct ring_cqe e;
	pthread_t t;
	uint32_t i, n = 0;

	stop_flipping = false;
	ck_assert_int_eq(pthread_create(&t, NULL, flip, (void *)7), 0);
	for (i = 0; i < 20000; i++) {
		if (client->sq_tail - client->rd->sq_head < 16)
			rig_run_prompt(client, i % N_SLOTS,
				       1024ull * (i % N_SLOTS), prompt, 4,
				       i % 8);
		if (i % 3 == 0)
			rig_submit(client, RING_OP_RELEASE, (i + 1) % N_SLOTS,
				   client->gen - 3, 0, 0);
		engine_poll(rig.e);
		engine_step(rig.e);
		while (rig_reap(client, &e))
			n++;
		if (client->bad)
			break;
	}
	stop_flipping = true;
	pthread_join(t, NULL);
	ck_assert_uint_gt(n, 0);
	engine_session_end(rig.e, client->id);
	other_is_well();
}
END_TEST

/* 3: records that point at the ring, at each other, or out of C. */
START_TEST(attack_03_offsets)
{
	const uint64_t offs[] = { 0,
				  64,
				  client->l.c_sq_off,
				  client->l.c_data_off - 64,
				  client->l.c_bytes,
				  client->l.c_bytes - 64,
				  -64ull,
				  1ull << 63 };
	const uint32_t lens[] = { 0, 1, 135, 136, 4096, 0x7fffffff, UINT32_MAX };
	struct ring_run *run;
	struct ring_cqe e;
	uint32_t i, k;

	for (i = 0; i < 8; i++) {
		for (k = 0; k < 7; k++) {
			rig_submit(client, RING_OP_RUN, 0, 1, offs[i], lens[k]);
			drive();
			e = only(client);
			ck_assert_uint_eq(e.event, RING_EV_REFUSED);
			ck_assert_uint_eq(e.reason, RING_BAD_RECORD);
		}
	}
	/* Arrays that overlap each other are four copies of the same. */
	run = rig_record(client, 0, prompt, 4, 5);
	run->n_stop = run->n_logits = 1;
	run->n_bias = 2;
	run->bias_off = run->stop_off = run->logits_off = run->prompt_off;
	memset((char *)run + run->prompt_off, 0, 16);
	rig_run(client, 0, 0, run->prompt_off + 16);
	drive();
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, 0);
	ck_assert(!client->bad);
	other_is_well();
}
END_TEST

/* 4: ids of others, ids again, cancels twice. */
START_TEST(attack_04_ids)
{
	struct ring_cqe e;
	uint32_t i, gen;

	gen = rig_run_prompt(other, 0, 0, prompt, 4, 100);
	for (i = 0; i < 5; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	for (i = 0; i < 16; i++) {
		rig_submit(client, RING_OP_CANCEL, i, gen, 0, 0);
		rig_submit(client, RING_OP_RELEASE, i, gen, 0, 0);
		engine_poll(rig.e);
		while (rig_reap(client, &e))
			ck_assert_uint_eq(e.reason, RING_BAD_SLOT);
	}
	ck_assert_uint_eq(rig_slot(other, 0)->state, RING_SLOT_RUNNING);
	drive();
	ck_assert(rig_right(&rig, other, 0, prompt, 4));
	ck_assert_uint_ne(rig_slot(other, 0)->finish, RING_FIN_CANCEL);
	/* The same generation for every slot: each has its own. */
	client->gen = 41;
	for (i = 0; i < N_SLOTS; i++) {
		client->gen = 41;
		rig_run_prompt(client, i, 0, prompt, 4, 300);
	}
	rig_submit(client, RING_OP_CANCEL, 2, 42, 0, 0);
	rig_submit(client, RING_OP_CANCEL, 2, 42, 0, 0);
	engine_poll(rig.e);
	e = only(client);
	ck_assert_uint_eq(e.slot, 2);
	ck_assert_uint_eq(rig_slot(client, 1)->state, RING_SLOT_QUEUED);
}
END_TEST

/* 7: never reading, or one entry at a time. */
START_TEST(attack_07_slow_reader)
{
	uint32_t i, k, n = 0;
	struct ring_cqe e;

	for (i = 0; i < 3000; i++) {
		k = i % N_SLOTS;
		if (client->sq_tail - client->rd->sq_head < 15) {
			rig_submit(client, RING_OP_RELEASE, k,
				   client->gen + 1 - N_SLOTS, 0, 0);
			rig_run_prompt(client, k, 1024ull * k, prompt, 4, 3);
		}
		engine_poll(rig.e);
		engine_step(rig.e);
		ck_assert_uint_le(client->rd->cq_tail - client->cq_head,
				  client->l.cq_entries);
		if (_i && i % 100 == 0)
			n += rig_reap(client, &e);
	}
	ck_assert(!client->bad);
	ck_assert_uint_eq(n > 0, (unsigned int)_i);
	other_is_well();
}
END_TEST

/* 11: more requests than a uid may have, from as many slots as there are. */
START_TEST(attack_11_flood)
{
	struct rig_client *c = &rig.clients[2];
	uint32_t i, done = 0, refused = 0;
	struct ring_cqe e;

	rig.conf.max_requests_uid = 20;
	ck_assert_int_eq(rig_client(&rig, 2, 1000, 64, 256, 1 << 20, 1 << 20),
			 0);
	for (i = 0; i < 64; i++)
		rig_run_prompt(c, i, 2048ull * i, prompt, 4, 50);
	/* A budget a turn: the others' entries are not behind all of these. */
	engine_poll(rig.e);
	ck_assert_uint_eq(c->rd->sq_head, SESSION_BUDGET);
	rig_run_prompt(other, 0, 0, prompt, 4, 10);
	drive();
	while (rig_reap(c, &e)) {
		done += e.event == RING_EV_DONE;
		if (e.event != RING_EV_REFUSED)
			continue;
		refused++;
		ck_assert_uint_eq(e.reason, RING_TOO_MANY);
		ck_assert_uint_eq(e.arg, 21);
		ck_assert_uint_eq(e.limit, 20);
	}
	ck_assert_uint_eq(done + refused, 64);
	ck_assert_uint_ge(done, 20);
	ck_assert_uint_gt(refused, 0);
	ck_assert_uint_eq(final(other).event, RING_EV_DONE);
	rig_submit(other, RING_OP_RELEASE, 0, other->gen, 0, 0);
	other_is_well();
	/* What has ended does not count. */
	for (i = 0; i < N_SLOTS; i++)
		rig_run_prompt(client, i, 4096ull * i, prompt, 4, 5);
	drive();
	while (rig_reap(client, &e))
		ck_assert_uint_ne(e.event, RING_EV_REFUSED);
}
END_TEST

/* 12: stopped in the middle of publishing: half an entry, half a record. */
START_TEST(attack_12_half_published)
{
	struct ring_sqe *s;
	struct ring_cqe e;
	uint32_t n;

	for (n = 0; n <= 64; n += 4) {
		struct ring_sqe whole;

		rig_record(client, 0, prompt, 4, 3);
		s = rig_sqe(client);
		memset(&whole, 0, sizeof(whole));
		whole.op = RING_OP_RUN;
		whole.gen = n;
		whole.slot = 1;
		whole.off = client->l.c_data_off;
		whole.len = 200;
		memset(s, 0xa5, sizeof(*s));
		memcpy(s, &whole, n);
		rig_publish(client);
		drive();
		e = final(client);
		ck_assert_uint_eq(e.event,
				  n < 64 ? RING_EV_REFUSED : RING_EV_DONE);
	}
	for (n = 0; n < 136; n += 4) {
		struct ring_run *run = rig_record(client, 0, prompt, 4, 3);

		memset((char *)run + n, 0xa5, sizeof(*run) - n);
		rig_run(client, 0, 0, 200);
		drive();
		e = final(client);
		ck_assert_uint_eq(e.event, RING_EV_REFUSED);
	}
	ck_assert(!client->bad);
	other_is_well();
}
END_TEST

/* 13: the client is gone after any step. */
START_TEST(attack_13_killed)
{
	uint32_t i, k;

	rig_run_prompt(client, 0, 0, prompt, 4, 12);
	rig_run_prompt(client, 1, 4096, prompt, 3, 12);
	rig_submit(client, RING_OP_CANCEL, 1, 2, 0, 0);
	for (k = 0; k < (uint32_t)_i; k++) {
		if (k % 2)
			engine_step(rig.e);
		else
			engine_poll(rig.e);
	}
	engine_session_end(rig.e, client->id);
	ck_assert(client->gone);
	ck_assert(rig_quiet(&rig));
	for (i = 0; i < 1000; i++)
		engine_grant(rig.e, client->id, i);
	engine_session_end(rig.e, client->id);
	other_is_well();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("attack");
	TCase *t;

	t = tcase_create("attacks");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, attack_01_indices, 0, 8);
	tcase_add_test(t, attack_02_flip);
	tcase_add_test(t, attack_03_offsets);
	tcase_add_test(t, attack_04_ids);
	tcase_add_loop_test(t, attack_07_slow_reader, 0, 2);
	tcase_add_test(t, attack_11_flood);
	tcase_add_test(t, attack_12_half_published);
	tcase_add_loop_test(t, attack_13_killed, 0, 30);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
