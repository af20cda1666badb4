/* SPDX-License-Identifier: MIT */
/* check_engine.c - requests through the whole engine, every token checked. */
#include <check.h>
#include <math.h>

#include "../daemon/batch.h"
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

/* Does slot @slot end like this? */
static void ends(struct rig_client *c, uint32_t slot, uint32_t finish, int err)
{
	ck_assert_int_ge(rig_drive(&rig, 100000), 0);
	ck_assert_uint_eq(rig_slot(c, slot)->state, RING_SLOT_DONE);
	ck_assert_uint_eq(rig_slot(c, slot)->finish, finish);
	ck_assert_int_eq(rig_slot(c, slot)->err, err);
}

static void small(void)
{
	ck_assert_int_eq(rig_model(&rig, 0, 1000, 16, 512, 0), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 16, 64, 1 << 20, 1 << 20),
			 0);
}

static const uint32_t prompt[] = { 5, 6, 7 };

START_TEST(context_is_all_there_is)
{
	struct rig_client *c = &rig.clients[0];
	struct ring_run *run;

	small();
	run = rig_record(c, 0, prompt, 3, RING_MAX_TOKENS_CTX);
	run->flags = RING_RUN_IGNORE_EOS;
	rig_run(c, 0, 0, 200);
	ends(c, 0, RING_FIN_LENGTH, 0);
	ck_assert_uint_eq(rig_slot(c, 0)->n_out, 512 - 3);
}
END_TEST

START_TEST(stop_tokens)
{
	struct rig_client *c = &rig.clients[0];
	struct ring_run *run;
	uint32_t out[20], n, p[1];
	bool eog;

	small();
	n = rig_answer(&rig.images[0].im, prompt, 3, 20, out, &eog);
	ck_assert_uint_eq(n, 20);
	run = rig_record(c, 0, prompt, 3, 20);
	run->n_stop = 1;
	run->stop_off = run->prompt_off + 12;
	*(uint32_t *)((char *)run + run->stop_off) = out[7];
	rig_run(c, 0, 0, 200);
	ends(c, 0, RING_FIN_STOP, 0);
	ck_assert_uint_eq(rig_slot(c, 0)->n_out, 7);
	/* The end of a turn is not emitted either. */
	for (p[0] = 2, eog = false; !eog; p[0]++)
		n = rig_answer(&rig.images[0].im, p, 1, 20, out, &eog);
	p[0]--;
	rig_run_prompt(c, 1, 0, p, 1, 20);
	ends(c, 1, RING_FIN_EOS, 0);
	ck_assert_uint_eq(rig_slot(c, 1)->n_out, n);
	rig_record(c, 0, p, 1, 20)->flags = RING_RUN_IGNORE_EOS;
	rig_run(c, 2, 0, 200);
	ends(c, 2, RING_FIN_LENGTH, 0);
	ck_assert_uint_gt(rig_slot(c, 2)->n_out, n);
}
END_TEST

/* An answer that another session began: it goes on after those tokens. */
START_TEST(goes_on)
{
	static const uint32_t n_done[] = { 0, 1, 7, 19, 20 };
	struct rig_client *c = &rig.clients[0];
	struct ring_token first[20] = { 0 };
	struct ring_run *run;
	float embed[16];
	uint32_t i;

	small();
	for (i = 0; i < 2; i++) {
		run = rig_record(c, 0, prompt, 3, 20);
		run->flags = RING_RUN_LOGPROBS | RING_RUN_IGNORE_EOS |
			     RING_RUN_EMBED_MEAN;
		run->temperature = 1;
		run->seed = 5;
		run->repeat_penalty = 1.2f;
		run->presence_penalty = 0.5f;
		run->penalty_last = 30;
		run->n_done = i ? n_done[_i] : 0;
		run->done_off = run->prompt_off + 12;
		memcpy((char *)run + run->done_off, first, run->n_done * 8ull);
		rig_run(c, i, 0, 400);
		ends(c, i, RING_FIN_LENGTH, 0);
		ck_assert_uint_eq(rig_slot(c, i)->n_out, 20);
		if (i) {
			ck_assert_mem_eq(first, rig_out(c, i), sizeof(first));
			ck_assert_mem_eq(embed,
					 c->d + rig_slot(c, i)->embed_off,
					 sizeof(embed));
		} else {
			memcpy(first, rig_out(c, i), sizeof(first));
			memcpy(embed, c->d + rig_slot(c, i)->embed_off,
			       sizeof(embed));
		}
	}
	ck_assert_uint_eq(rig.st.model[0].n_decode, 40 - n_done[_i]);
	/* As many as the context takes: they are part of that. */
	run = rig_record(c, 0, prompt, 3, RING_MAX_TOKENS_CTX);
	run->flags = RING_RUN_IGNORE_EOS;
	run->n_done = n_done[_i];
	run->done_off = run->prompt_off + 12;
	memcpy((char *)run + run->done_off, first, run->n_done * 8ull);
	rig_run(c, 2, 0, 400);
	ends(c, 2, RING_FIN_LENGTH, 0);
	ck_assert_uint_eq(rig_slot(c, 2)->n_out, 512 - 3);
	ck_assert_mem_eq(first, rig_out(c, 2), run->n_done * 8ull);
	ck_assert(rig_quiet(&rig));
}
END_TEST

START_TEST(times_and_counters)
{
	struct rig_client *c = &rig.clients[0];
	const struct ring_slot *s = rig_slot(c, 0);

	small();
	s = rig_slot(c, 0);
	rig_run_prompt(c, 0, 0, prompt, 3, 5);
	ends(c, 0, RING_FIN_LENGTH, 0);
	ck_assert(0 < s->t_submit_ns && s->t_submit_ns < s->t_start_ns &&
		  s->t_start_ns < s->t_first_ns &&
		  s->t_first_ns < s->t_last_ns);
	ck_assert_uint_eq(rig.st.n_requests, 1);
	ck_assert_uint_eq(rig.st.model[0].n_prefill, 3);
	ck_assert_uint_eq(rig.st.model[0].n_decode, 5);
	ck_assert_uint_eq(rig.st.n_steps, 5);
	ck_assert_uint_eq(rig.st.n_sessions, 1);
	ck_assert_uint_gt(rig.st.model[0].t_idle_ns, s->t_last_ns);
	/* The monitor was told once that there is something to watch. */
	ck_assert_uint_eq(rig.st.busy, 1);
	ck_assert_uint_eq(rig.n_busy, 1);
	ck_assert(engine_idle(rig.e));
	ck_assert_uint_eq(rig.st.busy, 0);
	engine_awake(rig.e);
	ck_assert_uint_eq(rig.n_busy, 2);
	ck_assert(engine_idle(rig.e));
	/* It watches already: no word. */
	rig.st.watched = 1;
	engine_awake(rig.e);
	ck_assert_uint_eq(rig.st.busy, 1);
	ck_assert_uint_eq(rig.n_busy, 2);
}
END_TEST

/* Embeddings and logits: the same, however the prompt is cut. */
START_TEST(arrays)
{
	static const uint32_t steps[] = { 1, 7, 33, 64, 500 };
	static uint32_t p[400];
	static float row[1000];
	const uint32_t at[] = { 0, 1, 63, 64, 200, 399 };
	struct rig_client *c = &rig.clients[0];
	uint64_t h = ORACLE_SEED, seed = 3;
	const struct ring_slot *s;
	struct ring_run *run;
	double mean[16] = { 0 };
	const float *x;
	uint32_t i, j, k;

	teardown();
	rig_init(&rig);
	rig.conf.step_tokens = steps[_i];
	ck_assert_int_eq(rig_start(&rig), 0);
	small();
	random_prompt(p, 400, 1000, &seed);
	for (i = 0; i < 2; i++) {
		run = rig_record(c, i * 4096ull, p, 400, i * 5);
		run->flags = i ? RING_RUN_EMBED_MEAN : RING_RUN_EMBED_LAST;
		run->n_logits = 6;
		run->logits_off = run->prompt_off + 1600;
		memcpy((char *)run + run->logits_off, at, sizeof(at));
		rig_run(c, i, i * 4096ull, 136 + 1600 + 24);
	}
	/* Others come and go beside them. */
	for (i = 2; i < 10; i++)
		rig_run_prompt(c, i, 8192 + i * 4096ull, p, i * 30, 20);
	ends(c, 0, RING_FIN_DONE, 0);
	ends(c, 1, RING_FIN_LENGTH, 0);
	for (i = 0, k = 0; i < 400; i++) {
		h = oracle_hash(h, p[i], i);
		oracle_logits(h, &rig.images[0].im, row);
		if (i == at[k]) {
			for (s = rig_slot(c, 0); s <= rig_slot(c, 1); s++)
				ck_assert_mem_eq(c->d + s->logits_off +
							 k * sizeof(row),
						 row, sizeof(row));
			k++;
		}
		for (j = 0; j < 16; j++)
			mean[j] += (double)oracle_hidden(h, j);
	}
	x = (const float *)(c->d + rig_slot(c, 0)->embed_off);
	for (i = 0; i < 16; i++)
		ck_assert(x[i] == oracle_hidden(h, i));
	x = (const float *)(c->d + rig_slot(c, 1)->embed_off);
	for (i = 0; i < 16; i++)
		ck_assert(x[i] == (float)(mean[i] / 400));
	ck_assert(rig_right(&rig, c, 1, p, 400));
	ck_assert_uint_eq(rig_slot(c, 0)->n_out, 0);
}
END_TEST

/* ------------------------------------------------------ when things fail */

static int step_error;
static uint32_t poison; /* a row whose last token is this gets a NaN */

static int bad_step(struct backend_model *m, struct batch *b)
{
	uint32_t i;
	int err = backend_oracle.step(m, b);

	if (err || step_error)
		return err ? err : step_error;
	for (i = 0; i < b->n_logits; i++)
		if (b->tokens[b->out_rows[i]] == poison)
			b->logits[i * 1000 + 77] = NAN;
	for (i = 0; i < b->n_out; i++)
		if (b->tokens[b->out_rows[i]] == poison)
			((float *)(uintptr_t)b->hidden)[i * 16 + 3] = NAN;
	return 0;
}

START_TEST(not_a_number)
{
	const uint32_t sick[] = { 4, 5, 666 };
	struct rig_client *c = &rig.clients[0];
	struct ring_run *run;
	uint32_t i;

	teardown();
	rig_init(&rig);
	rig.ops.step = bad_step;
	poison = 666;
	ck_assert_int_eq(rig_start(&rig), 0);
	small();
	rig_run_prompt(c, 0, 0, prompt, 3, 10);
	rig_run_prompt(c, 1, 4096, sick, 3, 10);
	run = rig_record(c, 8192, sick, 3, 0);
	run->flags = RING_RUN_EMBED_LAST;
	rig_run(c, 2, 8192, 200);
	run = rig_record(c, 12288, sick, 3, 0);
	run->flags = RING_RUN_EMBED_MEAN;
	rig_run(c, 3, 12288, 200);
	ends(c, 0, RING_FIN_LENGTH, 0);
	ck_assert(rig_right(&rig, c, 0, prompt, 3));
	for (i = 1; i < 4; i++)
		ends(c, i, RING_FIN_ERROR, -EDOM);
	ck_assert(rig_quiet(&rig));
}
END_TEST

START_TEST(backend_error)
{
	struct rig_client *c = &rig.clients[0];

	teardown();
	rig_init(&rig);
	rig.ops.step = bad_step;
	poison = UINT32_MAX;
	ck_assert_int_eq(rig_start(&rig), 0);
	small();
	rig_run_prompt(c, 0, 0, prompt, 3, 10);
	engine_poll(rig.e);
	engine_step(rig.e);
	step_error = -EIO;
	ends(c, 0, RING_FIN_ERROR, -EIO);
	ck_assert_uint_eq(rig_slot(c, 0)->n_out, 1);
	step_error = 0;
	rig_run_prompt(c, 1, 0, prompt, 3, 10);
	ends(c, 1, RING_FIN_LENGTH, 0);
	ck_assert(rig_right(&rig, c, 1, prompt, 3));
	ck_assert(rig_quiet(&rig));
}
END_TEST

START_TEST(model_goes)
{
	struct rig_client *c = &rig.clients[0];
	struct ring_run *run;
	struct ring_cqe e;
	bool told = false;
	uint32_t i;

	small();
	ck_assert_int_eq(rig_model(&rig, 1, 300, 8, 256, 0), 0);
	engine_grant(rig.e, 1, 2);
	for (i = 0; i < 10; i++) {
		run = rig_record(c, i * 4096ull, prompt, 3, 50);
		run->model = 1 + i % 2;
		rig_run(c, i, i * 4096ull, 200);
	}
	for (i = 0; i < 5; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	rig_model_del(&rig, 1);
	ck_assert_int_ge(rig_drive(&rig, 1000), 0);
	for (i = 0; i < 10; i++) {
		ck_assert_uint_eq(rig_slot(c, i)->state, RING_SLOT_DONE);
		if (i % 2)
			ck_assert_int_eq(rig_slot(c, i)->err, -ENODEV);
		ck_assert(rig_right(&rig, c, i, prompt, 3));
	}
	while (rig_reap(c, &e))
		told |= e.event == RING_EV_MODEL && e.slot == 2 &&
			e.err == -ENODEV;
	ck_assert(told);
	ck_assert(rig_quiet(&rig));
	run = rig_record(c, 0, prompt, 3, 50);
	run->model = 2;
	rig_run(c, 10, 0, 200);
	engine_poll(rig.e);
	ck_assert(rig_reap(c, &e));
	ck_assert_uint_eq(e.reason, RING_BAD_MODEL);
}
END_TEST

/*
 * Fail the n-th allocation for every n: each is reported, nothing is lost or
 * leaked, and what works afterwards works.
 */
START_TEST(no_memory)
{
	struct rig_client *c = &rig.clients[0];
	struct backend_conf bc;
	long n, live;
	int err;

	teardown();
	for (n = 0;; n++) {
		rig_init(&rig);
		rig.fail_at = n;
		err = rig_start(&rig);
		if (err)
			goto failed;
		err = rig_model(&rig, 0, 1000, 16, 512, 0);
		if (err)
			goto failed;
		err = rig_client(&rig, 0, 1000, 16, 64, 65536, 65536);
		if (err)
			goto failed;
		err = rig_model(&rig, 1, 2000, 16, 512, 0);
		if (err)
			goto failed;
		/* From here on nothing is allocated. */
		live = rig.n_allocs;
		rig_run_prompt(c, 0, 0, prompt, 3, 10);
		ends(c, 0, RING_FIN_LENGTH, 0);
		ck_assert_int_eq(rig.n_allocs, live);
		rig_stop(&rig);
		ck_assert_int_eq(rig.n_live, 0);
		break;
	failed:
		ck_assert_int_eq(err, -ENOMEM);
		rig.fail_at = -1;
		if (!rig.e) {
			engine_backend_conf(&rig.conf, &bc);
			ck_assert_int_eq(engine_new(&rig.e, &rig.conf, &rig.env,
						    &rig.ops, &rig.st),
					 0);
		}
		if (!rig.bm[0])
			ck_assert_int_eq(rig_model(&rig, 0, 1000, 16, 512, 0),
					 0);
		engine_session_end(rig.e, 1);
		rig_client_free(c);
		ck_assert_int_eq(
			rig_client(&rig, 0, 1000, 16, 64, 65536, 65536), 0);
		rig_run_prompt(c, 0, 0, prompt, 3, 10);
		ends(c, 0, RING_FIN_LENGTH, 0);
		ck_assert(rig_right(&rig, c, 0, prompt, 3));
		rig_stop(&rig);
		ck_assert_int_eq(rig.n_live, 0);
	}
	ck_assert_int_gt(n, 30);
	setup();
}
END_TEST

/* A client that is to come again must not take it for the end of its request. */
START_TEST(session_ends_in_silence)
{
	struct rig_client *c = &rig.clients[0];
	uint32_t tail;
	int i;

	small();
	rig_run_prompt(c, 0, 0, prompt, 3, 100);
	rig_run_prompt(c, 1, 1024, prompt, 3, 100);
	for (i = 0; i < 3; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	ck_assert_uint_eq(rig_slot(c, 0)->state, RING_SLOT_RUNNING);
	tail = c->rd->cq_tail;
	engine_session_end(rig.e, 1);
	ck_assert_uint_eq(c->rd->cq_tail, tail);
	ck_assert_uint_eq(rig_slot(c, 0)->state, RING_SLOT_RUNNING);
	ck_assert_uint_eq(rig_slot(c, 1)->state, RING_SLOT_RUNNING);
	ck_assert_uint_eq(rig.st.model[0].n_active, 0);
	ck_assert_uint_eq(rig.st.model[0].kv_used, 0);
	rig_client_free(c);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 16, 64, 65536, 65536), 0);
	rig_run_prompt(c, 0, 0, prompt, 3, 10);
	ends(c, 0, RING_FIN_LENGTH, 0);
}
END_TEST

/* --------------------------------------------------------------- fairness */

/* A uid with hundreds of requests does not keep another one waiting. */
START_TEST(fair_to_uids)
{
	struct rig_client *hog = &rig.clients[0], *meek = &rig.clients[1];
	static uint32_t p[300];
	uint64_t seed = 5;
	uint32_t i, turns;

	small();
	engine_session_end(rig.e, 1);
	rig_client_free(hog);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 256, 256, 1 << 20, 4 << 20),
			 0);
	ck_assert_int_eq(rig_client(&rig, 1, 1001, 4, 16, 65536, 65536), 0);
	random_prompt(p, 300, 1000, &seed);
	for (i = 0; i < 200; i++) {
		rig_record(hog, 2048ull * i, p, 100 + i, 200)->flags =
			RING_RUN_IGNORE_EOS;
		rig_run(hog, i, 2048ull * i, 2048);
	}
	for (i = 0; i < 30; i++) {
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	rig_run_prompt(meek, 0, 0, p, 64, 20);
	for (turns = 0; rig_slot(meek, 0)->state != RING_SLOT_DONE; turns++) {
		ck_assert_uint_lt(turns, 1000);
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	/*
	 * Alone it needs 1 + 20 steps; with half of the prompt budget of 56
	 * tokens a step, and a place at once, a few more.
	 */
	ck_assert_uint_lt(turns, 40);
	ck_assert(rig_right(&rig, meek, 0, p, 64));
	/* The hog lost one place of eight, and got it back. */
	ck_assert_uint_eq(rig.st.n_preempted, 1);
	ck_assert_int_ge(rig_drive(&rig, 100000), 0);
	for (i = 0; i < 200; i++)
		ck_assert_uint_eq(rig_slot(hog, i)->n_out, 200);
}
END_TEST

/* Within a uid: first come, first served, preempted or not. */
START_TEST(first_in_first_out)
{
	struct rig_client *c = &rig.clients[0];
	static uint32_t p[40];
	uint32_t i;

	/* Blocks for two contexts of 256, eight places. */
	ck_assert_int_eq(rig_model(&rig, 0, 1000, 16, 256, 16 * 256), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 64, 64, 1 << 20, 1 << 20),
			 0);
	for (i = 0; i < 32; i++) {
		rig_record(c, i * 1024ull, p, 40, 100)->flags =
			RING_RUN_IGNORE_EOS;
		rig_run(c, i, i * 1024ull, 1024);
	}
	ck_assert_int_ge(rig_drive(&rig, 100000), 0);
	ck_assert_uint_gt(rig.st.n_preempted, 0);
	for (i = 0; i < 32; i++) {
		ck_assert_uint_eq(rig_slot(c, i)->n_out, 100);
		if (!i)
			continue;
		ck_assert_uint_le(rig_slot(c, i - 1)->t_start_ns,
				  rig_slot(c, i)->t_start_ns);
		/* Of the same length: they end in their order, too. */
		ck_assert_uint_le(rig_slot(c, i - 1)->t_last_ns,
				  rig_slot(c, i)->t_last_ns);
	}
}
END_TEST

/* Prompts that take every position and every block there is. */
START_TEST(whole_cache)
{
	struct rig_client *c = &rig.clients[0];
	static uint32_t p[256];
	struct ring_run *run;
	uint32_t i;

	ck_assert_int_eq(rig_model(&rig, 0, 1000, 16, 256, 8 * 256), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 16, 64, 1 << 20, 1 << 20),
			 0);
	for (i = 0; i < 6; i++) {
		run = rig_record(c, i * 4096ull, p, 256 - i / 3, i / 3);
		if (i < 3)
			run->flags = RING_RUN_EMBED_LAST;
		rig_run(c, i, i * 4096ull, 4096);
	}
	ck_assert_int_ge(rig_drive(&rig, 1000), 0);
	for (i = 0; i < 6; i++) {
		ck_assert_uint_eq(rig_slot(c, i)->state, RING_SLOT_DONE);
		ck_assert_int_eq(rig_slot(c, i)->err, 0);
		ck_assert(rig_right(&rig, c, i, p, 256 - i / 3));
	}
}
END_TEST

/* Sums over positions: rows come in the order of their tokens. */
START_TEST(rows_in_order)
{
	struct batch_row rows[] = { { .token = 1 }, { .token = 4 },
				    { .token = 0 }, { .token = 2 },
				    { .token = 3 }, { .token = 5 } };
	const uint32_t order[] = { 2, 0, 3, 4, 1, 5 };
	struct batch_plan plan = { .b = { .n_logits = 2, .n_out = 6 },
				   .rows = rows };
	uint32_t i = 0, j = 0, n, row;

	for (n = 0; batch_next(&plan, &i, &j, &row); n++)
		ck_assert_uint_eq(row, order[n]);
	ck_assert_uint_eq(n, 6);
}
END_TEST

/* Two uids with work without end get the same number of tokens. */
START_TEST(equal_shares)
{
	struct rig_client *c;
	uint64_t tokens[2] = { 0 };
	uint32_t i, k, n, turn, len[2] = { 3, 3 };
	struct ring_cqe e;
	static uint32_t p[200];

	small();
	engine_session_end(rig.e, 1);
	rig_client_free(&rig.clients[0]);
	/* One has many slots and long requests, the other few and short. */
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(rig_client(&rig, (int)i, 1000 + i, i ? 32 : 64,
					    256, 1 << 20, 1 << 20),
				 0);
	len[0] = 150;
	for (turn = 0; turn < 3000; turn++) {
		for (i = 0; i < 2; i++) {
			c = &rig.clients[i];
			while (rig_reap(c, &e))
				;
			for (k = 0; k < c->l.n_slots; k++) {
				n = rig_slot(c, k)->state;
				if (n == RING_SLOT_DONE) {
					tokens[i] +=
						len[i] + rig_slot(c, k)->n_out;
					rig_submit(c, RING_OP_RELEASE, k,
						   rig_slot(c, k)->gen, 0, 0);
				} else if (n == RING_SLOT_FREE &&
					   c->sq_tail - c->rd->sq_head < 200) {
					rig_run_prompt(c, k, k * 1024ull, p,
						       len[i], i ? 20 : 100);
				}
			}
		}
		engine_poll(rig.e);
		engine_step(rig.e);
	}
	ck_assert_uint_gt(tokens[0], 10000);
	ck_assert_uint_lt(tokens[0], tokens[1] + tokens[1] / 8);
	ck_assert_uint_lt(tokens[1], tokens[0] + tokens[0] / 8);
}
END_TEST

/* -------------------------------------------------------------- sizes */

START_TEST(sizes)
{
	struct proc_load l = { .id = 1 };
	struct backend_model *m;
	struct rig_image ri;
	uint64_t kv, block = 256, scratch;
	struct backend_info info;
	uint32_t ctx;
	char why[160];

	rig_image(&ri, 1000, 16, 4096);
	ck_assert_int_eq(rig.ops.load(rig.be, &ri.im, NULL, -1, 0, &m, why), 0);
	rig.ops.info(m, &info);
	ck_assert_uint_eq(info.kv_block_bytes, block);
	scratch = info.scratch_bytes;
	/* The model's own context, several times. */
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 0);
	ck_assert_uint_eq(ctx, 4096);
	ck_assert_uint_eq(kv, 4 * 128 * block);
	engine_model_del(rig.e, 1);
	/* As much context as half of the free memory takes. */
	rig.free_bytes = 100 * block;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 0);
	ck_assert_uint_eq(ctx, 50 * KV_BLOCK);
	ck_assert_uint_eq(kv, 50 * block);
	engine_model_del(rig.e, 1);
	/* A context that was asked for is had or refused, never cut. */
	l.n_ctx = 51 * KV_BLOCK;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 -ENOMEM);
	ck_assert_str_eq(why, "context needs 13056 bytes, 12800 are free");
	l.n_ctx = 5000;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 -EINVAL);
	ck_assert_str_eq(why,
			 "context of 5000 tokens wanted, the model has 4096");
	l.n_ctx = 1000;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 0);
	ck_assert_uint_eq(ctx, 1000);
	engine_model_del(rig.e, 1);
	/* KV memory that was asked for, likewise. */
	l.n_ctx = 0;
	l.kv_bytes = 101 * block;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 -ENOMEM);
	ck_assert_str_eq(why, "KV cache needs 25856 bytes, 25600 are free");
	l.kv_bytes = 10 * block + 255;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 0);
	ck_assert_uint_eq(ctx, 10 * KV_BLOCK);
	ck_assert_uint_eq(kv, 10 * block);
	/* The bound over all models counts this one. */
	rig.conf.mem_bytes = 2 * scratch + 20 * block;
	rig.free_bytes = 0;
	l.id = 2;
	l.kv_bytes = 11 * block;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 -ENOMEM);
	ck_assert_str_eq(why, "KV cache needs 2816 bytes, 2560 are free");
	l.kv_bytes = 0;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 0);
	ck_assert_uint_eq(kv, 10 * block);
	l.id = 3;
	ck_assert_int_eq(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 -ENOMEM);
	ck_assert_msg(strstr(why, "model needs") && strstr(why, " 0 are free"),
		      "%s", why);
	/* The same id again, and no end of models. */
	l.id = 2;
	ck_assert_int_lt(engine_model_add(rig.e, &l, &ri.im, m, &ctx, &kv, why),
			 0);
	engine_model_del(rig.e, 1);
	engine_model_del(rig.e, 2);
	engine_model_del(rig.e, 3);
	rig.ops.unload(rig.be, m);
}
END_TEST

/* A vocabulary of 256k, and steps that are still short. */
START_TEST(large_vocabulary)
{
	struct rig_client *c = &rig.clients[0];
	uint32_t i;

	ck_assert_int_eq(rig_model(&rig, 0, 262144, 64, 512, 0), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, 16, 64, 1 << 20, 1 << 20),
			 0);
	for (i = 0; i < 8; i++)
		rig_run_prompt(c, i, i * 4096ull, prompt, 1 + i % 3, 50);
	ck_assert_int_ge(rig_drive(&rig, 1000), 0);
	for (i = 0; i < 8; i++)
		ck_assert(rig_right(&rig, c, i, prompt, 1 + i % 3));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("engine");
	TCase *t = tcase_create("answers");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_answer);
	tcase_add_loop_test(t, many_answers, 0, 2);
	tcase_add_test(t, context_is_all_there_is);
	tcase_add_test(t, stop_tokens);
	tcase_add_loop_test(t, goes_on, 0, 5);
	tcase_add_test(t, times_and_counters);
	tcase_add_loop_test(t, arrays, 0, 5);
	tcase_add_test(t, large_vocabulary);
	suite_add_tcase(s, t);
	t = tcase_create("failures");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, not_a_number);
	tcase_add_test(t, backend_error);
	tcase_add_test(t, model_goes);
	tcase_add_test(t, no_memory);
	suite_add_tcase(s, t);
	t = tcase_create("shares");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, session_ends_in_silence);
	tcase_add_test(t, fair_to_uids);
	tcase_add_test(t, first_in_first_out);
	tcase_add_test(t, whole_cache);
	tcase_add_test(t, rows_in_order);
	tcase_add_test(t, equal_shares);
	tcase_add_test(t, sizes);
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
