/* SPDX-License-Identifier: MIT */
/*
 * check_refuse.c - what an engine does not take: each field of a request, each
 * entry and each layout that is wrong is refused with its reason.
 */
#include <stddef.h>

#include "session_rig.h"

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
	{ AT(n_logits), U(7), RING_BAD_RECORD, RING_F_LOGITS_OFF },
	{ AT(prompt_off), U(0), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(prompt_off), U(132), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(prompt_off), U(138), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(prompt_off), U(UINT32_MAX - 3), RING_BAD_RECORD, RING_F_PROMPT_OFF },
	{ AT(bias_off), U(UINT32_MAX - 3), RING_BAD_RECORD, RING_F_BIAS_OFF },
	{ AT(bias_off), U(64), RING_BAD_RECORD, RING_F_BIAS_OFF },
	{ AT(stop_off), U(1 << 20), RING_BAD_RECORD, RING_F_STOP_OFF },
	{ AT(stop_off), U(137), RING_BAD_RECORD, RING_F_STOP_OFF },
	{ AT(logits_off), U(0x80000000), RING_BAD_RECORD, RING_F_LOGITS_OFF },
	{ AT(n_done), U(9), RING_BAD_PARAM, RING_F_N_DONE },
	{ AT(n_done), U(UINT32_MAX), RING_BAD_PARAM, RING_F_N_DONE },
	{ AT(n_done), U(8), RING_BAD_RECORD, RING_F_DONE_OFF },
	{ AT(done_off), U(UINT32_MAX - 3), RING_BAD_RECORD, RING_F_DONE_OFF },
	{ AT(done_off), U(132), RING_BAD_RECORD, RING_F_DONE_OFF },
	{ AT(done_off), U(186), RING_BAD_RECORD, RING_F_DONE_OFF },
	{ AT(n_top_logprobs), U(1), RING_BAD_PARAM, RING_F_N_DONE },
	{ AT(resv[0]), U(1), RING_BAD_RECORD, RING_F_RESV },
	{ AT(resv[7]), U(0x80000000), RING_BAD_RECORD, RING_F_RESV },
	/* Arrays of the full record: 136 prompt, 152 bias, 168 stop, 176 logits,
	 * 184 done */
	{ 136, U(N_VOCAB), RING_BAD_TOKEN, 0 },
	{ 148, U(UINT32_MAX), RING_BAD_TOKEN, 3 },
	{ 152, U(N_VOCAB), RING_BAD_PARAM, RING_F_BIAS_OFF },
	{ 156, F(NAN), RING_BAD_PARAM, RING_F_BIAS_OFF },
	{ 164, F(INFINITY), RING_BAD_PARAM, RING_F_BIAS_OFF },
	{ 172, U(N_VOCAB), RING_BAD_PARAM, RING_F_STOP_OFF },
	{ 176, U(3), RING_BAD_PARAM, RING_F_LOGITS_OFF },
	{ 180, U(0), RING_BAD_PARAM, RING_F_LOGITS_OFF },
	{ 180, U(4), RING_BAD_PARAM, RING_F_LOGITS_OFF },
	{ 184, U(N_VOCAB), RING_BAD_PARAM, RING_F_DONE_OFF },
	{ 192, U(UINT32_MAX), RING_BAD_PARAM, RING_F_DONE_OFF },
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
	{ AT(n_done), U(1) },
	{ AT(n_done), U(2) },
	{ 152, U(N_VOCAB - 1) },
	{ 156, F(3.4e38f) },
	{ 176, U(2) },
};
/* clang-format on */

START_TEST(allowed_field)
{
	struct ring_cqe e;
	uint32_t len;

	full_record(&len)->n_done = 0;
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
	run->n_done = 0;
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

static Suite *suite(void)
{
	Suite *s = suite_create("refuse");
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
	return s;
}

int main(void)
{
	return run_suite(suite());
}
