/* SPDX-License-Identifier: MIT */
/* check_engine.c - requests through the whole engine, every token checked. */
#include <check.h>

#include "rig.h"

static struct rig rig;

static void setup(void)
{
	rig_init(&rig);
	ck_assert_int_eq(rig_start(&rig), 0);
}

static void teardown(void)
{
	rig_stop(&rig);
	ck_assert_int_eq(rig.n_live, 0);
}

static uint32_t random_prompt(uint32_t *p, uint32_t n, uint32_t n_vocab,
			      uint64_t *seed)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		p[i] = (uint32_t)(rig_rand(seed) % n_vocab);
	return n;
}

START_TEST(one_answer)
{
	const uint32_t prompt[] = { 5, 6, 7 };
	struct rig_client *c = &rig.clients[0];
	struct ring_cqe e;
	bool done = false;

	ck_assert_int_eq(rig_model(&rig, 0, 1000, 16, 512, 0), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 4, 16, 65536, 65536), 0);
	rig_run_prompt(c, 0, 0, prompt, 3, 20);
	ck_assert_int_ge(rig_drive(&rig, 100), 0);
	while (rig_reap(c, &e)) {
		ck_assert_uint_eq(e.gen, 1);
		ck_assert_int_ne(e.event, RING_EV_REFUSED);
		done |= e.event == RING_EV_DONE;
	}
	ck_assert(done);
	ck_assert(rig_right(&rig, c, 0, prompt, 3));
	ck_assert_uint_gt(rig_slot(c, 0)->n_out, 0);
	ck_assert(rig_quiet(&rig));
	ck_assert(engine_idle(rig.e));
	ck_assert_uint_eq(c->rd->daemon_waiting, 1);
	engine_awake(rig.e);
	ck_assert_uint_eq(c->rd->daemon_waiting, 0);
}
END_TEST

#define MANY 48

START_TEST(many_answers)
{
	static uint32_t prompts[MANY][400];
	uint32_t n[MANY], i;
	uint64_t seed = (uint64_t)_i + 1;
	struct rig_client *c = &rig.clients[0];
	/* Variant 1 has hardly any KV memory: preemption all the time. */
	uint64_t kv = (_i ? 16 : 8 * 16) * KV_BLOCK * 8;

	ck_assert_int_eq(rig_model(&rig, 0, 50000, 16, 512, kv), 0);
	ck_assert_int_eq(
		rig_client(&rig, 0, 1000, MANY, 64, MANY * 4096, 1 << 20), 0);
	for (i = 0; i < MANY; i++) {
		n[i] = random_prompt(prompts[i], 1 + rig_rand(&seed) % 350,
				     50000, &seed);
		rig_run_prompt(c, i, i * 4096ull, prompts[i], n[i],
			       1 + rig_rand(&seed) % 100);
	}
	ck_assert_int_ge(rig_drive(&rig, 100000), 0);
	for (i = 0; i < MANY; i++) {
		ck_assert_uint_eq(rig_slot(c, i)->state, RING_SLOT_DONE);
		ck_assert_uint_eq(rig_slot(c, i)->n_prefill, n[i]);
		ck_assert(rig_right(&rig, c, i, prompts[i], n[i]));
	}
	ck_assert(rig_quiet(&rig));
	if (_i)
		ck_assert_uint_gt(rig.st.n_preempted, 0);
	else
		ck_assert_uint_eq(rig.st.n_preempted, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("engine");
	TCase *t = tcase_create("answers");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, one_answer);
	tcase_add_loop_test(t, many_answers, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
