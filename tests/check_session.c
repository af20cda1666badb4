/* SPDX-License-Identifier: MIT */
/*
 * check_session.c - rings: each refusal, credits, wake-ups, recovery, and the
 * attacks that a client can make through its memory alone.
 */
#include <check.h>
#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../daemon/session.h"
#include "rig.h"

#define N_VOCAB 1000
#define N_CTX	512
#define N_SLOTS 4
#define ARENA	65536
#define C_DATA	65536

static struct rig rig;
static struct rig_client *const client = &rig.clients[0];
static struct rig_client *const other = &rig.clients[1];
static const uint32_t prompt[] = { 5, 6, 7, 8 };

static void setup(void)
{
	rig_init(&rig);
	ck_assert_int_eq(rig_start(&rig), 0);
	ck_assert_int_eq(rig_model(&rig, 0, N_VOCAB, 16, N_CTX, 0), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, N_SLOTS, 16, C_DATA, ARENA),
			 0);
	ck_assert_int_eq(rig_client(&rig, 1, 1001, N_SLOTS, 16, C_DATA, ARENA),
			 0);
}

static void teardown(void)
{
	rig_stop(&rig);
	ck_assert_int_eq(rig.n_live, 0);
}

static void drive(void)
{
	ck_assert_int_ge(rig_drive(&rig, 10000), 0);
}

/* The only completion there is. */
static struct ring_cqe only(struct rig_client *c)
{
	struct ring_cqe e, more;

	ck_assert(rig_reap(c, &e));
	ck_assert(!rig_reap(c, &more));
	return e;
}

/* The completion of a request: progress before it does not matter. */
static struct ring_cqe final(struct rig_client *c)
{
	struct ring_cqe e;

	do
		ck_assert(rig_reap(c, &e));
	while (e.event == RING_EV_PROGRESS);
	return e;
}

/* The other client is served as if nothing had happened. */
static void other_is_well(void)
{
	struct ring_cqe e;

	rig_run_prompt(other, 0, 0, prompt, 4, 10);
	drive();
	e = final(other);
	ck_assert_int_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, 0);
	ck_assert(rig_right(&rig, other, 0, prompt, 4));
	ck_assert(!other->bad);
	rig_submit(other, RING_OP_RELEASE, 0, other->gen, 0, 0);
	drive();
	ck_assert(rig_quiet(&rig));
}

static void expect_bad(void)
{
	drive();
	ck_assert(client->bad);
	ck_assert(rig_quiet(&rig));
	other_is_well();
	engine_session_end(rig.e, client->id);
	ck_assert(client->gone);
}

/* ------------------------------------------------------------ refusals */

/* A record with every array, all of it right. */
static struct ring_run *full_record(uint32_t *len)
{
	struct ring_run *run = rig_record(client, 0, prompt, 4, 8);
	unsigned char *p = (unsigned char *)run;
	const uint32_t stop[] = { 11, 12 }, at[] = { 0, 3 };
	const struct ring_bias bias[] = { { 1, 0.5f }, { 2, -INFINITY } };
	uint32_t off = run->prompt_off + 16;

	run->n_bias = run->n_stop = run->n_logits = 2;
	run->bias_off = off;
	memcpy(p + off, bias, sizeof(bias));
	run->stop_off = off += sizeof(bias);
	memcpy(p + off, stop, sizeof(stop));
	run->logits_off = off += sizeof(stop);
	memcpy(p + off, at, sizeof(at));
	*len = off + (uint32_t)sizeof(at);
	return run;
}

#define AT(x) offsetof(struct ring_run, x)
#define F(x)             \
	{                \
		.f = (x) \
	}
#define U(x)             \
	{                \
		.u = (x) \
	}
/* clang-format off */
static const struct {
	uint32_t off;
	union { uint32_t u; float f; } v;
	uint32_t reason;
	uint64_t arg;
} refusals[] = {
	{ AT(model), U(2), RING_BAD_MODEL, 2 },
	{ AT(model), U(0), RING_BAD_MODEL, 0 },
	{ AT(model), U(UINT32_MAX), RING_BAD_MODEL, UINT32_MAX },
	{ AT(flags), U(32), RING_BAD_PARAM, RING_F_FLAGS },
	{ AT(flags), U(UINT32_MAX), RING_BAD_PARAM, RING_F_FLAGS },
	{ AT(flags), U(RING_RUN_EMBED_LAST | RING_RUN_EMBED_MEAN), RING_BAD_PARAM, RING_F_FLAGS },
	{ AT(n_prompt), U(0), RING_NO_PROMPT, 0 },
	{ AT(n_prompt), U(UINT32_MAX), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(n_prompt), U(0x40000001), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(max_tokens), U(N_CTX), RING_NO_CONTEXT, N_CTX + 4 },
	{ AT(max_tokens), U(UINT32_MAX - 1), RING_NO_CONTEXT, UINT32_MAX + 3ull },
	{ AT(temperature), F(-0.001f), RING_BAD_PARAM, RING_F_TEMPERATURE },
	{ AT(temperature), F(100.1f), RING_BAD_PARAM, RING_F_TEMPERATURE },
	{ AT(temperature), F(NAN), RING_BAD_PARAM, RING_F_TEMPERATURE },
	{ AT(temperature), F(INFINITY), RING_BAD_PARAM, RING_F_TEMPERATURE },
	{ AT(temperature), F(-INFINITY), RING_BAD_PARAM, RING_F_TEMPERATURE },
	{ AT(top_p), F(0), RING_BAD_PARAM, RING_F_TOP_P },
	{ AT(top_p), F(-1), RING_BAD_PARAM, RING_F_TOP_P },
	{ AT(top_p), F(1.0001f), RING_BAD_PARAM, RING_F_TOP_P },
	{ AT(top_p), F(NAN), RING_BAD_PARAM, RING_F_TOP_P },
	{ AT(min_p), F(1), RING_BAD_PARAM, RING_F_MIN_P },
	{ AT(min_p), F(-0.1f), RING_BAD_PARAM, RING_F_MIN_P },
	{ AT(min_p), F(NAN), RING_BAD_PARAM, RING_F_MIN_P },
	{ AT(repeat_penalty), F(0), RING_BAD_PARAM, RING_F_REPEAT_PENALTY },
	{ AT(repeat_penalty), F(-1), RING_BAD_PARAM, RING_F_REPEAT_PENALTY },
	{ AT(repeat_penalty), F(101), RING_BAD_PARAM, RING_F_REPEAT_PENALTY },
	{ AT(repeat_penalty), F(INFINITY), RING_BAD_PARAM, RING_F_REPEAT_PENALTY },
	{ AT(repeat_penalty), F(NAN), RING_BAD_PARAM, RING_F_REPEAT_PENALTY },
	{ AT(presence_penalty), F(2.1f), RING_BAD_PARAM, RING_F_PRESENCE_PENALTY },
	{ AT(presence_penalty), F(-2.1f), RING_BAD_PARAM, RING_F_PRESENCE_PENALTY },
	{ AT(presence_penalty), F(NAN), RING_BAD_PARAM, RING_F_PRESENCE_PENALTY },
	{ AT(frequency_penalty), F(2.1f), RING_BAD_PARAM, RING_F_FREQUENCY_PENALTY },
	{ AT(frequency_penalty), F(-2.1f), RING_BAD_PARAM, RING_F_FREQUENCY_PENALTY },
	{ AT(frequency_penalty), F(NAN), RING_BAD_PARAM, RING_F_FREQUENCY_PENALTY },
	{ AT(n_top_logprobs), U(21), RING_BAD_PARAM, RING_F_N_TOP_LOGPROBS },
	{ AT(n_top_logprobs), U(UINT32_MAX), RING_BAD_PARAM, RING_F_N_TOP_LOGPROBS },
	{ AT(n_bias), U(4097), RING_BAD_PARAM, RING_F_N_BIAS },
	{ AT(n_bias), U(UINT32_MAX), RING_BAD_PARAM, RING_F_N_BIAS },
	{ AT(n_bias), U(4096), RING_BAD_RECORD, RING_F_BIAS_OFF },
	{ AT(n_stop), U(65), RING_BAD_PARAM, RING_F_N_STOP },
	{ AT(n_stop), U(64), RING_BAD_RECORD, RING_F_STOP_OFF },
	{ AT(n_logits), U(4097), RING_BAD_PARAM, RING_F_N_LOGITS },
	{ AT(n_logits), U(3), RING_BAD_RECORD, RING_F_LOGITS_OFF },
	{ AT(prompt_off), U(0), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(prompt_off), U(132), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(prompt_off), U(138), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(prompt_off), U(UINT32_MAX - 3), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(bias_off), U(UINT32_MAX - 3), RING_BAD_RECORD, RING_F_BIAS_OFF },
	{ AT(bias_off), U(64), RING_BAD_RECORD, RING_F_BIAS_OFF },
	{ AT(stop_off), U(1 << 20), RING_BAD_RECORD, RING_F_STOP_OFF },
	{ AT(stop_off), U(137), RING_BAD_RECORD, RING_F_STOP_OFF },
	{ AT(logits_off), U(0x80000000), RING_BAD_RECORD, RING_F_LOGITS_OFF },
	{ AT(resv[0]), U(1), RING_BAD_RECORD, RING_F_RESV },
	{ AT(resv[9]), U(0x80000000), RING_BAD_RECORD, RING_F_RESV },
	/* Arrays of the full record: 136 prompt, 152 bias, 168 stop, 176 logits */
	{ 136, U(N_VOCAB), RING_BAD_TOKEN, 0 },
	{ 148, U(UINT32_MAX), RING_BAD_TOKEN, 3 },
	{ 152, U(N_VOCAB), RING_BAD_PARAM, RING_F_BIAS_OFF },
	{ 156, F(NAN), RING_BAD_PARAM, RING_F_BIAS_OFF },
	{ 164, F(INFINITY), RING_BAD_PARAM, RING_F_BIAS_OFF },
	{ 172, U(N_VOCAB), RING_BAD_PARAM, RING_F_STOP_OFF },
	{ 176, U(3), RING_BAD_PARAM, RING_F_LOGITS_OFF },
	{ 180, U(0), RING_BAD_PARAM, RING_F_LOGITS_OFF },
	{ 180, U(4), RING_BAD_PARAM, RING_F_LOGITS_OFF },
};
/* clang-format on */

START_TEST(refused_field)
{
	uint32_t len, gen;
	struct ring_cqe e;

	full_record(&len);
	memcpy(client->c + client->l.c_data_off + refusals[_i].off,
	       &refusals[_i].v, 4);
	gen = rig_run(client, 2, 0, len);
	drive();
	e = only(client);
	ck_assert_uint_eq(e.event, RING_EV_REFUSED);
	ck_assert_uint_eq(e.reason, refusals[_i].reason);
	ck_assert_uint_eq(e.arg, refusals[_i].arg);
	ck_assert_int_lt(e.err, 0);
	ck_assert_uint_eq(e.slot, 2);
	ck_assert_uint_eq(e.gen, gen);
	ck_assert_uint_eq(rig.st.n_refused, 1);
	ck_assert(rig_quiet(&rig));
	/* The slot is free and nothing of it lingers in the arena. */
	full_record(&len);
	rig_run(client, 2, 0, len);
	drive();
	ck_assert_uint_eq(final(client).event, RING_EV_DONE);
	ck_assert(!client->bad);
}
END_TEST

/* Values at the edge that must be taken. */
/* clang-format off */
static const struct {
	uint32_t off;
	union { uint32_t u; float f; } v;
} allowed[] = {
	{ AT(flags), U(0) },
	{ AT(flags), U(RING_RUN_ALL_FLAGS & ~RING_RUN_EMBED_LAST) },
	{ AT(max_tokens), U(0) },
	{ AT(max_tokens), U(N_CTX - 4) },
	{ AT(max_tokens), U(RING_MAX_TOKENS_CTX) },
	{ AT(temperature), F(100) },
	{ AT(temperature), F(-0.0f) },
	{ AT(temperature), F(1e-45f) },
	{ AT(top_k), U(UINT32_MAX) },
	{ AT(top_p), F(1e-45f) },
	{ AT(min_p), F(0.99999994f) },
	{ AT(repeat_penalty), F(1e-45f) },
	{ AT(repeat_penalty), F(100) },
	{ AT(presence_penalty), F(-2) },
	{ AT(frequency_penalty), F(2) },
	{ AT(penalty_last), U(UINT32_MAX) },
	{ AT(n_top_logprobs), U(20) },
	{ AT(n_bias), U(0) },
	{ AT(n_stop), U(0) },
	{ AT(n_logits), U(0) },
	{ 152, U(N_VOCAB - 1) },
	{ 156, F(3.4e38f) },
	{ 176, U(2) },
};
/* clang-format on */

START_TEST(allowed_field)
{
	struct ring_cqe e;
	uint32_t len;

	full_record(&len);
	memcpy(client->c + client->l.c_data_off + allowed[_i].off,
	       &allowed[_i].v, 4);
	rig_run(client, 0, 0, len);
	drive();
	e = final(client);
	ck_assert_uint_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, 0);
}
END_TEST

START_TEST(refused_entry)
{
	const struct {
		uint32_t op, flags, slot, resv, len;
		uint64_t off;
		uint32_t reason;
	} v[] = {
		{ RING_OP_N, 0, 0, 0, 200, 0, RING_BAD_OP },
		{ 0xffff, 0, 0, 0, 200, 0, RING_BAD_OP },
		{ RING_OP_NOP, 1, 0, 0, 0, 0, RING_BAD_OP },
		{ RING_OP_RUN, 0x8000, 0, 0, 200, 0, RING_BAD_OP },
		{ RING_OP_CANCEL, 1, 0, 0, 0, 0, RING_BAD_OP },
		{ RING_OP_RUN, 0, 0, 1, 200, 0, RING_BAD_RECORD },
		{ RING_OP_RELEASE, 0, 0, 1, 0, 0, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, N_SLOTS, 0, 200, 0, RING_BAD_SLOT },
		{ RING_OP_RUN, 0, UINT32_MAX, 0, 200, 0, RING_BAD_SLOT },
		{ RING_OP_CANCEL, 0, N_SLOTS, 0, 0, 0, RING_BAD_SLOT },
		{ RING_OP_RELEASE, 0, UINT32_MAX, 0, 0, 0, RING_BAD_SLOT },
		{ RING_OP_RUN, 0, 0, 0, 135, 0, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, 0, 0, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, 200, 4, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, C_DATA + 1, 0, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, UINT32_MAX, 0, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, 200, C_DATA, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, 200, 1ull << 40, RING_BAD_RECORD },
		{ RING_OP_RUN, 0, 0, 0, 200, -64ull, RING_BAD_RECORD },
	};
	struct ring_sqe *s;
	struct ring_cqe e;
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		rig_record(client, 0, prompt, 4, 8);
		s = rig_sqe(client);
		s->op = (uint16_t)v[i].op;
		s->flags = (uint16_t)v[i].flags;
		s->slot = v[i].slot;
		s->resv[v[i].op % 4] = v[i].resv;
		s->len = v[i].len;
		s->off = client->l.c_data_off + v[i].off;
		s->gen = (uint32_t)i;
		rig_publish(client);
		drive();
		e = only(client);
		ck_assert_uint_eq(e.event, RING_EV_REFUSED);
		ck_assert_uint_eq(e.reason, v[i].reason);
		ck_assert_uint_eq(e.gen, i);
		ck_assert_uint_eq(e.slot, v[i].slot);
	}
	ck_assert(!client->bad);
	other_is_well();
}
END_TEST

START_TEST(refused_numbers)
{
	struct ring_run *run;
	struct ring_cqe e;
	uint32_t len;

	/* Context: what is needed, and what there is. */
	rig_run_prompt(client, 0, 0, prompt, 4, N_CTX - 3);
	drive();
	e = only(client);
	ck_assert_uint_eq(e.reason, RING_NO_CONTEXT);
	ck_assert_uint_eq(e.arg, N_CTX + 1);
	ck_assert_uint_eq(e.limit, N_CTX);
	/* D: all logits of four positions are 16 kB, more than is left. */
	run = full_record(&len);
	run->n_logits = 2;
	rig_run(client, 0, 0, len);
	rig_run(client, 1, 0, len);
	drive();
	final(client);
	final(client);
	run->max_tokens = 500;
	run->flags = RING_RUN_LOGPROBS;
	run->n_top_logprobs = 20;
	rig_run(client, 2, 0, len);
	drive();
	e = only(client);
	ck_assert_uint_eq(e.reason, RING_NO_ARENA);
	ck_assert_uint_gt(e.arg, 500 * 20 * 8);
	ck_assert_uint_lt(e.limit, ARENA - 2 * 8192);
	ck_assert_uint_gt(e.limit, ARENA - 3 * 8192);
	/* A vocabulary. */
	run->prompt_off -= 0;
	*(uint32_t *)((char *)run + run->prompt_off + 8) = 4711;
	rig_run(client, 2, 0, len);
	run->max_tokens = 1;
	drive();
	e = only(client);
	ck_assert_uint_eq(e.reason, RING_BAD_TOKEN);
	ck_assert_uint_eq(e.arg, 2);
	ck_assert_uint_eq(e.limit, N_VOCAB);
}
END_TEST

START_TEST(refused_kv)
{
	const struct run_limits lim = { .n_ctx = 4096,
					.n_vocab = 10,
					.n_embd = 4,
					.n_blocks = 4,
					.block_bytes = 1000 };
	struct ring_run run = { .n_prompt = 4 * KV_BLOCK, .max_tokens = 2 };
	struct run_refusal why;
	uint32_t max;

	ck_assert_int_lt(run_fit(&run, &lim, &max, &why), 0);
	ck_assert_uint_eq(why.reason, RING_NO_KV);
	ck_assert_uint_eq(why.arg, 5000);
	ck_assert_uint_eq(why.limit, 4000);
	/* The last token of an answer needs no place. */
	run.max_tokens = 1;
	ck_assert_int_eq(run_fit(&run, &lim, &max, &why), 0);
	ck_assert_uint_eq(max, 1);
}
END_TEST

START_TEST(model_not_yet_there)
{
	struct ring_cqe e;
	struct ring_run *run;

	engine_grant(rig.e, client->id, 2);
	run = rig_record(client, 0, prompt, 4, 8);
	run->model = 2;
	rig_run(client, 0, 0, 200);
	drive();
	e = only(client);
	ck_assert_uint_eq(e.reason, RING_NOT_READY);
	ck_assert_int_eq(rig_model(&rig, 1, 100, 8, 64, 0), 0);
	e = only(client);
	ck_assert_uint_eq(e.event, RING_EV_MODEL);
	ck_assert_uint_eq(e.slot, 2);
	ck_assert_int_eq(e.err, 0);
	rig_run(client, 0, 0, 200);
	drive();
	ck_assert_uint_eq(final(client).event, RING_EV_DONE);
	/* The other one was granted the first model only. */
	rig_record(other, 0, prompt, 4, 8)->model = 2;
	rig_run(other, 0, 0, 200);
	drive();
	e = only(other);
	ck_assert_uint_eq(e.reason, RING_BAD_MODEL);
}
END_TEST

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

/* --------------------------------------------------------------- recovery */

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

START_TEST(layouts)
{
	const struct ring_layout good = client->l;
	struct proc_session ps = { .id = 9, .layout = good };
	struct ring_layout *l = &ps.layout;
	int i;

	for (i = 0; i < 18; i++) {
		*l = good;
		switch (i) {
		case 0:
			l->sq_entries = 0;
			break;
		case 1:
			l->sq_entries = 12;
			break;
		case 2:
			l->sq_entries = 1u << 31;
			break;
		case 3:
			l->cq_entries = l->n_slots * 2;
			break;
		case 4:
			l->cq_entries = 1u << 31;
			break;
		case 5:
			l->n_slots = 0;
			break;
		case 6:
			l->n_slots = RING_MAX_SLOTS + 1;
			break;
		case 7:
			l->n_slots = UINT32_MAX / 4 + 2;
			break;
		case 8:
			l->c_bytes = l->c_data_off - 64;
			break;
		case 9:
			l->c_bytes = 1ull << 40;
			break;
		case 10:
			l->d_bytes = 1ull << 40;
			break;
		case 11:
			l->c_sq_off = 0;
			break;
		case 12:
			l->c_data_off = l->c_sq_off;
			break;
		case 13:
			l->d_cq_off = 64;
			break;
		case 14:
			l->d_slot_off = l->d_cq_off;
			break;
		case 15:
			l->d_arena_off = l->d_slot_off;
			break;
		case 16:
			l->d_arena_off = -64ull;
			break;
		case 17:
			l->d_slot_off += 4;
			break;
		}
		ck_assert_msg(engine_session_new(rig.e, &ps, client->c,
						 client->d, -1) == -EINVAL,
			      "layout %d", i);
	}
	/* The id is in use. */
	ps.id = 1;
	*l = good;
	ck_assert_int_eq(engine_session_new(rig.e, &ps, client->c, client->d,
					    -1),
			 -EEXIST);
}
END_TEST

/* ---------------------------------------------------------------- attacks */

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

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

static Suite *suite(void)
{
	Suite *s = suite_create("session");
	TCase *t;

	t = tcase_create("refusals");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, refused_field, 0, COUNT(refusals));
	tcase_add_loop_test(t, allowed_field, 0, COUNT(allowed));
	tcase_add_test(t, refused_entry);
	tcase_add_test(t, refused_numbers);
	tcase_add_test(t, refused_kv);
	tcase_add_test(t, model_not_yet_there);
	tcase_add_test(t, layouts);
	suite_add_tcase(s, t);
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
	t = tcase_create("recovery");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, lost_and_kept);
	tcase_add_loop_test(t, nothing_twice, 0, 6);
	tcase_add_loop_test(t, damaged_slot, 0, 19);
	tcase_add_test(t, overlapping_slots);
	tcase_add_loop_test(t, damaged_page, 0, 4);
	suite_add_tcase(s, t);
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
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
