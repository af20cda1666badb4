/* SPDX-License-Identifier: MIT */
/*
 * check_recover.c - a new engine over the memories of one that was killed:
 * nothing is lost, nothing is done twice, damage is noticed.
 */
#include <stddef.h>

#include "session_rig.h"

/* A new engine over the same memories, after the old one was killed. */
static void take_over(void)
{
	rig_sweep(&rig);
	rig.ops.unload(rig.be, rig.bm[0]);
	rig.ops.close(rig.be);
	rig.bm[0] = NULL;
	ck_assert_int_eq(rig_start(&rig), 0);
	ck_assert_int_eq(rig_model(&rig, 0, N_VOCAB, 16, N_CTX, 0), 0);
	ck_assert_int_eq(rig_attach(&rig, 1, 2, 1001, PROC_SESSION_RECOVER), 0);
}

static int recover_client(void)
{
	return rig_attach(&rig, 0, 1, 1000, PROC_SESSION_RECOVER);
}

START_TEST(lost_and_kept)
{
	struct ring_token before[100];
	const struct ring_slot *s;
	uint32_t n, i;
	struct ring_cqe e;

	rig_run_prompt(client, 0, 0, prompt, 4, 3);
	drive();
	final(client);
	rig_run_prompt(client, 1, 4096, prompt, 3, 200);
	for (i = 0; i < 20; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	rig_run_prompt(client, 2, 8192, prompt, 2, 10);
	engine_poll(rig.e);
	s = rig_slot(client, 1);
	n = s->n_out;
	ck_assert_uint_gt(n, 10);
	memcpy(before, rig_out(client, 1), n * sizeof(before[0]));
	/* Submitted, not yet taken: the new engine runs it. */
	rig_run_prompt(client, 3, 12288, prompt, 1, 5);
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	ck_assert_uint_eq(rig_slot(client, 0)->finish, RING_FIN_LENGTH);
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	ck_assert_uint_eq(s->state, RING_SLOT_DONE);
	ck_assert_uint_eq(s->finish, RING_FIN_ERROR);
	ck_assert_int_eq(s->err, -ENOTCONN);
	ck_assert_uint_eq(s->n_restart, 1);
	ck_assert_uint_eq(s->n_out, n);
	ck_assert_mem_eq(before, rig_out(client, 1), n * sizeof(before[0]));
	for (i = 1; i < 3; i++) {
		e = final(client);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_uint_eq(e.reason, RING_ENGINE_LOST);
		ck_assert_int_eq(e.err, -ENOTCONN);
		ck_assert_uint_eq(e.slot, i);
	}
	drive();
	e = final(client);
	ck_assert_uint_eq(e.slot, 3);
	ck_assert_int_eq(e.err, 0);
	ck_assert(rig_right(&rig, client, 3, prompt, 1));
	/* What was adopted is not overwritten, and can be released. */
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	for (i = 0; i < N_SLOTS; i++)
		rig_submit(client, RING_OP_RELEASE, i, i + 1, 0, 0);
	rig_run_prompt(client, 0, 0, prompt, 4, 100);
	drive();
	ck_assert_uint_eq(final(client).event, RING_EV_DONE);
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	other_is_well();
}
END_TEST

/* The engine died after it had dealt with an entry, before it said so. */
START_TEST(nothing_twice)
{
	struct ring_cqe e;

	switch (_i) {
	case 0: /* NOP that was answered, one that was not, both alike */
		rig_sqe(client)->arg = 7;
		rig_publish(client);
		drive();
		client->rd->sq_head--;
		rig_sqe(client)->arg = 7;
		rig_publish(client);
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		drive();
		ck_assert(rig_reap(client, &e));
		e = only(client);
		ck_assert_uint_eq(e.arg, 7);
		break;
	case 1: /* RUN that was accepted */
		rig_run_prompt(client, 0, 0, prompt, 4, 100);
		engine_poll(rig.e);
		client->rd->sq_head--;
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		drive();
		e = only(client);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_int_eq(e.err, -ENOTCONN);
		break;
	case 2: /* RUN that was refused */
		rig_run_prompt(client, 0, 0, prompt, 0, 100);
		engine_poll(rig.e);
		client->rd->sq_head--;
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		drive();
		e = only(client);
		ck_assert_uint_eq(e.event, RING_EV_REFUSED);
		break;
	case 3: /* CANCEL */
		rig_run_prompt(client, 0, 0, prompt, 4, 100);
		rig_submit(client, RING_OP_CANCEL, 0, 1, 0, 0);
		engine_poll(rig.e);
		client->rd->sq_head--;
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		drive();
		e = only(client);
		ck_assert_uint_eq(rig_slot(client, 0)->finish, RING_FIN_CANCEL);
		break;
	case 4: /* RELEASE */
		rig_run_prompt(client, 0, 0, prompt, 4, 1);
		drive();
		final(client);
		rig_submit(client, RING_OP_RELEASE, 0, 1, 0, 0);
		drive();
		client->rd->sq_head--;
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		drive();
		ck_assert(!rig_reap(client, &e));
		ck_assert_uint_eq(rig_slot(client, 0)->state, RING_SLOT_FREE);
		break;
	case 5: /* the end was written, its entry was not */
		rig_run_prompt(client, 0, 0, prompt, 4, 0);
		engine_poll(rig.e);
		engine_step(rig.e);
		ck_assert_uint_eq(rig_slot(client, 0)->state, RING_SLOT_DONE);
		client->rd->cq_tail--;
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		drive();
		e = only(client);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_int_eq(e.err, 0);
		break;
	}
	ck_assert_uint_eq(client->rd->sq_head, client->sq_tail);
	rig_run_prompt(client, 1, 4096, prompt, 4, 4);
	drive();
	ck_assert_uint_eq(final(client).slot, 1);
	ck_assert(rig_right(&rig, client, 1, prompt, 4));
}
END_TEST

#define S(x) offsetof(struct ring_slot, x)

/* Each field of a slot in D that does not fit the others drops the output. */
START_TEST(damaged_slot)
{
	static const struct {
		uint32_t off;
		uint32_t value;
	} v[] = {
		{ S(rec_off), 64 },
		{ S(rec_off), 0xffffffc0 },
		{ S(rec_len), 0 },
		{ S(rec_len), UINT32_MAX },
		{ S(out_off), 0 },
		{ S(out_off), UINT32_MAX },
		{ S(top_off), 64 },
		{ S(logits_off), 4 },
		{ S(embed_off), 4 },
		{ S(n_prompt), 5 },
		{ S(n_prompt), UINT32_MAX },
		{ S(n_out), 101 },
		{ S(n_prefill), 5 },
		{ S(max_out), 101 },
		{ S(max_out), UINT32_MAX },
		{ S(n_vocab), UINT32_MAX },
		{ S(n_embd), UINT32_MAX },
		{ S(model), 9 },
		{ S(key), 9 },
	};
	struct ring_slot *s;
	struct ring_run *run;
	struct ring_cqe e;
	uint32_t len;

	run = full_record(&len);
	run->flags = RING_RUN_LOGPROBS | RING_RUN_EMBED_LAST;
	run->n_top_logprobs = 3;
	run->max_tokens = 100;
	rig_run(client, 0, 0, len);
	engine_poll(rig.e);
	engine_step(rig.e);
	s = (struct ring_slot *)(uintptr_t)rig_slot(client, 0);
	memcpy((char *)s + v[_i].off, &v[_i].value, 4);
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, -EIO);
	ck_assert_uint_eq(s->state, RING_SLOT_DONE);
	ck_assert_uint_eq(s->n_out, 0);
	ck_assert_uint_eq(s->out_off, 0);
	/* It can be released and used again. */
	rig_submit(client, RING_OP_RELEASE, 0, 1, 0, 0);
	rig_run(client, 0, 0, len);
	drive();
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, 0);
	other_is_well();
}
END_TEST

START_TEST(overlapping_slots)
{
	struct ring_slot *s;

	rig_run_prompt(client, 0, 0, prompt, 4, 100);
	rig_run_prompt(client, 1, 0, prompt, 4, 100);
	engine_poll(rig.e);
	s = (struct ring_slot *)(uintptr_t)rig_slot(client, 0);
	s[1].rec_off = s[0].rec_off;
	s[1].out_off = s[0].out_off;
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	ck_assert_int_eq(s[0].err, -ENOTCONN);
	ck_assert_int_eq(s[1].err, -EIO);
	ck_assert_uint_eq(s[1].out_off, 0);
	other_is_well();
}
END_TEST

START_TEST(damaged_page)
{
	take_over();
	switch (_i) {
	case 0:
		client->rd->magic++;
		ck_assert_int_eq(recover_client(), -EBADMSG);
		break;
	case 1:
		client->rd->abi++;
		ck_assert_int_eq(recover_client(), -EBADMSG);
		break;
	case 2:
		client->rc->cq_head = 77;
		ck_assert_int_eq(recover_client(), 0);
		drive();
		ck_assert(client->bad);
		break;
	case 3:
		client->rd->cq_tail += 77;
		ck_assert_int_eq(recover_client(), 0);
		drive();
		ck_assert(client->bad);
		break;
	}
	other_is_well();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("recover");
	TCase *t;

	t = tcase_create("recovery");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, lost_and_kept);
	tcase_add_loop_test(t, nothing_twice, 0, 6);
	tcase_add_loop_test(t, damaged_slot, 0, 19);
	tcase_add_test(t, overlapping_slots);
	tcase_add_loop_test(t, damaged_page, 0, 4);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
