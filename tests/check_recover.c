/* SPDX-License-Identifier: MIT */
/*
 * check_recover.c - a new engine over the memories of one that was killed:
 * nothing is lost, nothing is done twice, damage is noticed.
 */
#include <stddef.h>

#include "session_rig.h"

#define LONG 100 /* tokens of an answer in which an engine dies */

/* A new engine without models over the same memories; the old one is dead. */
static void next_engine(void)
{
	rig_sweep(&rig);
	rig.ops.unload(rig.be, rig.bm[0]);
	rig.ops.close(rig.be);
	rig.bm[0] = NULL;
	memset(&rig.st, 0, sizeof(rig.st));
	ck_assert_int_eq(rig_start(&rig), 0);
}

static void load(void)
{
	ck_assert_int_eq(rig_model(&rig, 0, N_VOCAB, 16, N_CTX, 0), 0);
}

static void take_over(void)
{
	next_engine();
	load();
	ck_assert_int_eq(rig_attach(&rig, 1, 2, 1001, PROC_SESSION_RECOVER), 0);
}

static int recover_client(void)
{
	return rig_attach(&rig, 0, 1, 1000, PROC_SESSION_RECOVER);
}

static int crash_client(void)
{
	return rig_attach(&rig, 0, 1, 1000,
			  PROC_SESSION_RECOVER | PROC_SESSION_CRASHED);
}

static void turns(int n)
{
	while (n--) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
}

static struct ring_slot *slot(uint32_t i)
{
	return (struct ring_slot *)(uintptr_t)rig_slot(client, i);
}

START_TEST(goes_on)
{
	struct ring_token before[200];
	const struct ring_slot *s;
	struct ring_cqe e;
	uint32_t n, i, n_prompt;

	rig_run_prompt(client, 0, 0, prompt, 4, 3);
	drive();
	final(client);
	rig_run_prompt(client, 1, 4096, prompt, 3, 200);
	turns(20);
	rig_run_prompt(client, 2, 8192, prompt, 2, 10);
	engine_poll(rig.e);
	s = slot(1);
	n = s->n_out;
	ck_assert_uint_gt(n, 10);
	memcpy(before, rig_out(client, 1), n * sizeof(before[0]));
	/* Submitted, not yet taken: the new engine runs it. */
	rig_run_prompt(client, 3, 12288, prompt, 1, 5);
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	ck_assert_uint_eq(slot(0)->finish, RING_FIN_LENGTH);
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	ck_assert_uint_eq(s->state, RING_SLOT_RUNNING);
	ck_assert_uint_eq(s->n_restart, 1);
	ck_assert_uint_eq(s->n_out, n);
	ck_assert_mem_eq(before, rig_out(client, 1), n * sizeof(before[0]));
	ck_assert_uint_eq(slot(2)->state, RING_SLOT_QUEUED);
	ck_assert_uint_eq(rig.st.model[0].n_active, 2);
	drive();
	for (i = 0; i < 3; i++) {
		e = final(client);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_int_eq(e.err, 0);
		ck_assert_uint_ne(e.slot, 0);
		n_prompt = e.slot == 1 ? 3 : e.slot == 2 ? 2 : 1;
		ck_assert(rig_right(&rig, client, e.slot, prompt, n_prompt));
		ck_assert_uint_eq(slot(e.slot)->n_prefill, n_prompt);
	}
	ck_assert(!rig_reap(client, &e));
	ck_assert_uint_gt(s->n_out, n);
	ck_assert_mem_eq(before, rig_out(client, 1), 10 * sizeof(before[0]));
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

/* Submitted when its model was not here yet: nobody refuses it for that. */
START_TEST(submitted_meanwhile)
{
	struct ring_cqe e;
	uint32_t taken;

	next_engine();
	ck_assert_int_eq(recover_client(), 0);
	ck_assert_int_eq(rig_attach(&rig, 1, 2, 1001, PROC_SESSION_RECOVER), 0);
	taken = client->rd->sq_head;
	rig_submit(client, RING_OP_NOP, 0, 0, 0, 0);
	rig_run_prompt(client, 0, 0, prompt, 4, 20);
	turns(2);
	ck_assert_uint_eq(final(client).event, RING_EV_NOP);
	ck_assert_uint_eq(client->rd->sq_head, taken + 1);
	if (_i & 1)
		load();
	engine_grant(rig.e, 1, 1);
	turns(2);
	ck_assert(engine_idle(rig.e));
	engine_awake(rig.e);
	ck_assert_uint_eq(client->rd->sq_head, taken + 1);
	engine_grant(rig.e, 1, 0);
	turns(1);
	ck_assert_uint_eq(client->rd->sq_head, taken + 1 + (_i & 1));
	if (_i == 0)
		load();
	else if (_i == 2)
		engine_model_del(rig.e, 1);
	drive();
	do
		e = final(client);
	while (e.event == RING_EV_MODEL);
	if (_i == 2) {
		ck_assert_uint_eq(e.event, RING_EV_REFUSED);
		ck_assert_uint_eq(e.reason, RING_BAD_MODEL);
	} else {
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert(rig_right(&rig, client, 0, prompt, 4));
	}
	if (_i == 2)
		load();
	engine_grant(rig.e, 2, 1);
	engine_grant(rig.e, 2, 0);
	other_is_well();
}
END_TEST

/* The session comes first, then grants and models, in any order, or never. */
START_TEST(model_comes_late)
{
	struct ring_cqe e;
	uint32_t gen;

	gen = rig_run_prompt(client, 0, 0, prompt, 4, 50);
	turns(5);
	next_engine();
	ck_assert_int_eq(recover_client(), 0);
	ck_assert_int_eq(rig_attach(&rig, 1, 2, 1001, PROC_SESSION_RECOVER), 0);
	turns(3);
	ck_assert_uint_eq(slot(0)->state, RING_SLOT_RUNNING);
	/* It may sleep: nothing can be done. */
	ck_assert(engine_idle(rig.e));
	engine_awake(rig.e);
	switch (_i) {
	case 0:
		engine_grant(rig.e, 1, 1);
		engine_grant(rig.e, 1, 0);
		load();
		break;
	case 1:
		load();
		ck_assert_uint_eq(rig.st.model[0].n_active, 0);
		engine_grant(rig.e, 1, 1);
		engine_grant(rig.e, 1, 0);
		break;
	case 2: /* the model was unloaded while there was no engine */
		load();
		engine_grant(rig.e, 1, 0);
		break;
	case 3: /* the model cannot be loaded again */
		engine_grant(rig.e, 1, 1);
		engine_model_del(rig.e, 1);
		load();
		break;
	case 4: /* cancelled while it waits */
		rig_submit(client, RING_OP_CANCEL, 0, gen, 0, 0);
		turns(1);
		load();
		engine_grant(rig.e, 1, 1);
		break;
	case 5: /* released while it waits */
		rig_submit(client, RING_OP_RELEASE, 0, gen, 0, 0);
		turns(1);
		load();
		engine_grant(rig.e, 1, 1);
		ck_assert_uint_eq(slot(0)->state, RING_SLOT_FREE);
		break;
	case 6: /* the client goes away */
		engine_session_end(rig.e, 1);
		ck_assert(client->gone);
		load();
		break;
	}
	engine_grant(rig.e, 2, 1);
	engine_grant(rig.e, 2, 0);
	if (_i < 5) {
		drive();
		do
			e = final(client);
		while (e.event == RING_EV_MODEL);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_int_eq(e.err, _i == 2 || _i == 3 ? -ENODEV : 0);
		ck_assert_uint_eq(slot(0)->finish, _i < 2    ? RING_FIN_LENGTH
						   : _i == 4 ? RING_FIN_CANCEL
							     : RING_FIN_ERROR);
		ck_assert(rig_right(&rig, client, 0, prompt, 4));
	}
	other_is_well();
}
END_TEST

/* Another model under the same id, or less memory: an error, no answer. */
START_TEST(model_has_changed)
{
	static const struct {
		uint32_t n_vocab, n_embd, n_ctx;
		int err;
	} v[] = {
		{ N_VOCAB - 1, 16, N_CTX, -EBADMSG },
		{ N_VOCAB, 8, N_CTX, -EBADMSG },
		{ N_VOCAB, 16, 96, -EMSGSIZE },
	};
	struct ring_cqe e;

	rig_run_prompt(client, 0, 0, prompt, 4, LONG);
	turns(5);
	next_engine();
	ck_assert_int_eq(rig_model(&rig, 0, v[_i].n_vocab, v[_i].n_embd,
				   v[_i].n_ctx, 0),
			 0);
	ck_assert_int_eq(recover_client(), 0);
	drive();
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, v[_i].err);
	ck_assert_uint_eq(slot(0)->n_out, 5);
	ck_assert(rig_quiet(&rig));
}
END_TEST

/* A uid's budget holds over an engine's death. */
START_TEST(budget)
{
	struct ring_cqe e;

	rig_run_prompt(client, 0, 0, prompt, 4, 50);
	rig_run_prompt(client, 1, 4096, prompt, 4, 50);
	turns(3);
	rig.conf.max_requests_uid = 2;
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	rig_run_prompt(client, 2, 8192, prompt, 4, 5);
	engine_poll(rig.e);
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_REFUSED);
	ck_assert_uint_eq(e.reason, RING_TOO_MANY);
	drive();
	final(client);
	final(client);
	rig_run_prompt(client, 2, 8192, prompt, 4, 5);
	drive();
	ck_assert_uint_eq(final(client).event, RING_EV_DONE);
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
		e = final(client);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_int_eq(e.err, 0);
		ck_assert(rig_right(&rig, client, 0, prompt, 4));
		ck_assert(!rig_reap(client, &e));
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
		{ S(gen), 9 },
		{ S(sum_rec), 9 },
		{ S(sum_out), 9 },
		{ S(sum_out[1]), 9 },
	};
	struct ring_slot *s;
	struct ring_run *run;
	struct ring_cqe e;
	uint32_t len;

	run = full_record(&len);
	run->flags = RING_RUN_LOGPROBS | RING_RUN_EMBED_LAST;
	run->n_top_logprobs = 3;
	run->n_done = 0;
	run->max_tokens = 100;
	rig_run(client, 0, 0, len);
	turns(v[_i].off == S(sum_out[1]) ? 1 : 2);
	s = slot(0);
	memcpy((char *)s + v[_i].off, &v[_i].value, 4);
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, -EBADMSG);
	ck_assert_uint_eq(e.reason, RING_ENGINE_LOST);
	ck_assert_uint_eq(s->state, RING_SLOT_DONE);
	ck_assert_uint_eq(s->n_out, 0);
	ck_assert_uint_eq(s->out_off, 0);
	/* It can be released and used again. */
	rig_submit(client, RING_OP_RELEASE, 0, s->gen, 0, 0);
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
	s = slot(0);
	s[1].rec_off = s[0].rec_off;
	s[1].out_off = s[0].out_off;
	take_over();
	ck_assert_int_eq(recover_client(), 0);
	ck_assert_uint_ne(s[0].state, RING_SLOT_DONE);
	ck_assert_int_eq(s[1].err, -EBADMSG);
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

#define FLIPS 3000

/* What slots 0 to 2 run: greedy, sampled with all there is, and finished. */
static void run_three(uint32_t *len)
{
	struct ring_run *run;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		run = full_record(len);
		if (i == 1) {
			run->flags = RING_RUN_LOGPROBS | RING_RUN_EMBED_MEAN;
			run->n_top_logprobs = 2;
			run->n_done = 0;
			run->temperature = 1.5f;
			run->frequency_penalty = 0.5f;
			run->penalty_last = 9;
			run->seed = 77;
		}
		run->n_stop = 0;
		run->flags |= RING_RUN_IGNORE_EOS;
		run->max_tokens = i == 2 ? 3 : 12;
		rig_run(client, i, 0, *len);
		engine_poll(rig.e);
	}
}

/* Whole answers of an undisturbed run, by slot. */
static unsigned char answers[3][12 * (8 + 16)];

static void keep_answer(uint32_t i, unsigned char *to)
{
	const struct ring_slot *s = slot(i);

	memset(to, 0, sizeof(answers[0]));
	memcpy(to, client->d + s->out_off, s->n_out * 8ull);
	if (s->top_off)
		memcpy(to + 96, client->d + s->top_off, s->n_out * 16ull);
}

static bool says_right(uint32_t i)
{
	const struct ring_slot *s = slot(i);
	unsigned char now[sizeof(answers[0])];
	uint32_t max = i == 2 ? 3 : 12;

	if (s->state != RING_SLOT_DONE || s->gen != i + 1 ||
	    s->finish == RING_FIN_ERROR || s->finish == RING_FIN_CANCEL)
		return true;
	if (s->n_out != max || s->max_out != max ||
	    s->out_off > client->l.d_bytes - 12 * 8 ||
	    s->top_off > client->l.d_bytes - 12 * 16)
		return false;
	keep_answer(i, now);
	return !memcmp(now, answers[i], sizeof(now));
}

/* Any bit of D turns over between two engines: no crash, no false token. */
START_TEST(flipped_bit)
{
	uint64_t seed = (uint64_t)_i + 1, bit;
	uint32_t len, i, k, n_right = 0;

	run_three(&len);
	drive();
	for (i = 0; i < 3; i++)
		keep_answer(i, answers[i]);
	for (k = 0; k < FLIPS; k++) {
		teardown();
		setup();
		run_three(&len);
		turns(1 + (int)(rig_rand(&seed) % 11));
		/* Half of them in slots and what they use of the arena. */
		bit = rig_rand(&seed) % (8 * client->l.d_bytes);
		if (k & 1)
			bit = 8 * client->l.d_slot_off +
			      rig_rand(&seed) % (8 * (4 * 256 + 3 * 1024));
		next_engine();
		client->d[bit / 8] ^= (unsigned char)(1 << bit % 8);
		load();
		ck_assert_int_eq(
			rig_attach(&rig, 1, 2, 1001, PROC_SESSION_RECOVER), 0);
		if (recover_client())
			continue;
		drive();
		if (client->bad)
			continue;
		for (i = 0; i < 3; i++) {
			ck_assert_msg(says_right(i),
				      "flip %u: slot %u lies after bit %llu of "
				      "byte %#llx of D",
				      k, i, (unsigned long long)bit % 8,
				      (unsigned long long)bit / 8);
			n_right += slot(i)->finish == RING_FIN_LENGTH;
		}
	}
	/* Most bits are nobody's: the answers came. */
	ck_assert_uint_gt(n_right, FLIPS);
	other_is_well();
}
END_TEST

/* ------------------------------------------------------------- strikes */

static sigjmp_buf crashed;
static uint32_t killer; /* a token that the backend dies of */
static uint32_t n_alone, n_crowd;

static int deadly_step(struct backend_model *m, struct batch *b)
{
	uint32_t i;

	for (i = 0; i < b->n_tokens; i++)
		if (b->tokens[i] == killer)
			siglongjmp(crashed, 1);
	if (b->n_seqs == 1)
		n_alone++;
	else
		n_crowd++;
	return backend_oracle.step(m, b);
}

/* Drive, and start another engine each time it crashes: how often it did. */
static uint32_t survive(void)
{
	static volatile uint32_t n;

	n = 0;
	if (sigsetjmp(crashed, 1)) {
		n++;
		ck_assert_uint_le(n, 10);
		rig.ops.step = deadly_step;
		next_engine();
		load();
		ck_assert_int_eq(rig_attach(&rig, 1, 2, 1001,
					    PROC_SESSION_RECOVER |
						    PROC_SESSION_CRASHED),
				 0);
		ck_assert_int_eq(crash_client(), 0);
	}
	n_alone = n_crowd = 0;
	drive();
	return n;
}

/* One of several kills the engine: alone it is found out, and given up. */
START_TEST(killer_is_found)
{
	static const uint32_t bad[] = { 5, 999, 7 };
	struct ring_cqe e;
	uint32_t i;

	killer = 999;
	rig.ops.step = deadly_step;
	engine_free(rig.e);
	ck_assert_int_eq(
		engine_new(&rig.e, &rig.conf, &rig.env, &rig.ops, &rig.st), 0);
	rig.ops.unload(rig.be, rig.bm[0]);
	load();
	memset(client->c, 0, RING_PAGE);
	client->gone = other->gone = false;
	ck_assert_int_eq(rig_attach(&rig, 0, 1, 1000, 0), 0);
	ck_assert_int_eq(rig_attach(&rig, 1, 2, 1001, 0), 0);
	for (i = 0; i < 3; i++)
		rig_run_prompt(client, i, 4096ull * i, prompt, 4, LONG);
	rig_run_prompt(other, 0, 0, prompt, 4, LONG);
	if (_i)
		turns(20);
	rig_run_prompt(client, 3, 12288, bad, 3, LONG);
	/* With the others, then alone. */
	ck_assert_uint_eq(survive(), 2);
	ck_assert_uint_gt(n_crowd, 50);
	for (i = 0; i < 4; i++) {
		e = final(client);
		ck_assert_uint_eq(e.event, RING_EV_DONE);
		ck_assert_uint_eq(slot(e.slot)->n_restart, 2);
		if (e.slot == 3) {
			ck_assert_int_eq(e.err, -ENOTRECOVERABLE);
			ck_assert_uint_eq(e.reason, RING_KILLS_ENGINE);
			ck_assert_uint_eq(slot(3)->finish, RING_FIN_ERROR);
			continue;
		}
		ck_assert_int_eq(e.err, 0);
		ck_assert(rig_right(&rig, client, e.slot, prompt, 4));
		ck_assert_uint_eq(slot(e.slot)->mark, 0);
	}
	ck_assert(rig_right(&rig, other, 0, prompt, 4));
	ck_assert_int_eq(final(other).err, 0);
	ck_assert(rig_quiet(&rig));
}
END_TEST

/* Killed from outside, ever so often: nobody's fault. */
START_TEST(no_strikes)
{
	uint32_t i;

	rig_run_prompt(client, 0, 0, prompt, 4, LONG);
	for (i = 0; i < 20; i++) {
		turns(3);
		/* As if in the middle of a step. */
		slot(0)->step_to = 4 + slot(0)->n_out;
		slot(0)->step_alone = 1;
		take_over();
		ck_assert_int_eq(recover_client(), 0);
		ck_assert_uint_eq(slot(0)->n_strikes, 0);
		ck_assert_uint_eq(slot(0)->mark, 0);
	}
	drive();
	ck_assert_int_eq(final(client).err, 0);
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	ck_assert_uint_eq(slot(0)->n_restart, 20);
}
END_TEST

/* Alone both times, at two different places: that is twice, too. */
START_TEST(two_own_crashes)
{
	struct ring_cqe e;

	rig_run_prompt(client, 0, 0, prompt, 4, LONG);
	turns(5);
	slot(0)->step_to = 4 + slot(0)->n_out;
	slot(0)->step_alone = 1;
	take_over();
	ck_assert_int_eq(crash_client(), 0);
	ck_assert_uint_eq(slot(0)->n_strikes, 1);
	ck_assert_uint_eq(slot(0)->mark, 9);
	turns(10);
	ck_assert_uint_eq(slot(0)->mark, 0);
	slot(0)->step_to = 4 + slot(0)->n_out;
	take_over();
	ck_assert_int_eq(crash_client(), 0);
	e = final(client);
	ck_assert_int_eq(e.err, -ENOTRECOVERABLE);
	ck_assert_uint_eq(e.reason, RING_KILLS_ENGINE);
	/* What it said stays readable. */
	ck_assert_uint_gt(slot(0)->n_out, 10);
	ck_assert(rig_right(&rig, client, 0, prompt, 4));
	other_is_well();
}
END_TEST

/* The engine dies while it looks at a submission: twice, and no more. */
START_TEST(poisoned_submission)
{
	struct ring_cqe e;
	uint32_t i;

	rig_run_prompt(client, 0, 0, prompt, 4, 5);
	for (i = 0; i < 2; i++) {
		client->rd->taking_sq = client->rd->sq_head;
		client->rd->taking_cq = client->rd->cq_tail;
		take_over();
		ck_assert_int_eq(_i ? crash_client() : recover_client(), 0);
	}
	drive();
	e = final(client);
	if (_i) {
		ck_assert_uint_eq(e.event, RING_EV_REFUSED);
		ck_assert_uint_eq(e.reason, RING_KILLS_ENGINE);
	} else {
		ck_assert_uint_eq(e.event, RING_EV_DONE);
	}
	/* The next one is not blamed. */
	rig_run_prompt(client, 1, 4096, prompt, 4, 5);
	drive();
	ck_assert_uint_eq(final(client).event, RING_EV_DONE);
	other_is_well();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("recover");
	TCase *t;

	t = tcase_create("recovery");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, goes_on);
	tcase_add_loop_test(t, submitted_meanwhile, 0, 3);
	tcase_add_loop_test(t, model_comes_late, 0, 7);
	tcase_add_loop_test(t, model_has_changed, 0, 3);
	tcase_add_test(t, budget);
	tcase_add_loop_test(t, nothing_twice, 0, 6);
	tcase_add_loop_test(t, damaged_slot, 0, 23);
	tcase_add_test(t, overlapping_slots);
	tcase_add_loop_test(t, damaged_page, 0, 4);
	suite_add_tcase(s, t);
	t = tcase_create("damage");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, flipped_bit, 0, 4);
	suite_add_tcase(s, t);
	t = tcase_create("strikes");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, killer_is_found, 0, 2);
	tcase_add_test(t, no_strikes);
	tcase_add_test(t, two_own_crashes);
	tcase_add_loop_test(t, poisoned_submission, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
