/* SPDX-License-Identifier: MIT */
/* check_client.c - requests and events of libhearth, beside an engine
 * that does what it is told. */
#include <math.h>

#include "client_fake.h"

/* -------------------------------------------------------------- submitting */

START_TEST(record_is_what_was_asked)
{
	static const struct hearth_bias bias[] = { { 3, -INFINITY },
						   { 9, 1.5f } };
	static const uint32_t stop[] = { 11, 12, 13 };
	static const uint32_t pos[] = { 0, 3 };
	struct hearth_request q = request();
	struct ring_sqe e;
	struct ring_run r;
	const uint8_t *rec;

	q.temperature = 0.7f;
	q.top_k = 40;
	q.min_p = 0.05f;
	q.seed = 99;
	q.bias = bias;
	q.n_bias = 2;
	q.stop_tokens = stop;
	q.n_stop_tokens = 3;
	q.logits_pos = pos;
	q.n_logits_pos = 2;
	q.n_top_logprobs = 5;
	q.ignore_eos = true;
	q.embed_mean = true;
	q.key = 0x1122334455667788;
	submit(&q);
	ck_assert(fake_pop(&f, &e));
	ck_assert_uint_eq(e.off % 64, 0);
	ck_assert_uint_ge(e.off, f.lay.c_data_off);
	ck_assert_uint_le(e.off + e.len, f.lay.c_bytes);
	rec = f.c + e.off;
	memcpy(&r, rec, sizeof(r));
	ck_assert_uint_eq(r.model, 7);
	ck_assert_uint_eq(r.flags, RING_RUN_IGNORE_EOS | RING_RUN_EMBED_MEAN |
					   RING_RUN_LOGPROBS);
	ck_assert_uint_eq(r.key, q.key);
	ck_assert_uint_eq(r.seed, 99);
	ck_assert_uint_eq(r.max_tokens, 100);
	ck_assert_uint_eq(r.top_k, 40);
	ck_assert(r.temperature == 0.7f && r.min_p == 0.05f && r.top_p == 1.0f);
	ck_assert(r.repeat_penalty == 1.0f && r.penalty_last == 64);
	ck_assert(r.n_prompt == 4 && r.n_bias == 2 && r.n_stop == 3 &&
		  r.n_logits == 2 && r.n_top_logprobs == 5);
	ck_assert(!memcmp(rec + r.prompt_off, prompt, 16));
	ck_assert(!memcmp(rec + r.bias_off, bias, 16));
	ck_assert(!memcmp(rec + r.stop_off, stop, 12));
	ck_assert(!memcmp(rec + r.logits_off, pos, 8));
	ck_assert_uint_eq(r.logits_off + 8, e.len);
}
END_TEST

START_TEST(defaults)
{
	struct hearth_request q = request();
	struct ring_sqe e;
	struct ring_run r;
	uint64_t seed;

	q.max_tokens = 0;
	submit(&q);
	ck_assert(fake_pop(&f, &e));
	memcpy(&r, f.c + e.off, sizeof(r));
	ck_assert_uint_eq(r.max_tokens, RING_MAX_TOKENS_CTX);
	ck_assert_uint_eq(r.flags, RING_RUN_GREEDY);
	seed = r.seed;
	ck_assert_uint_ne(seed, 0);
	q.no_generate = true;
	submit(&q);
	ck_assert(fake_pop(&f, &e));
	memcpy(&r, f.c + e.off, sizeof(r));
	ck_assert_uint_eq(r.max_tokens, 0);
	ck_assert_uint_ne(r.seed, seed);
}
END_TEST

static void refuse(const struct hearth_request *q, int err, const char *a,
		   const char *b)
{
	uint64_t id = 5;

	ck_assert_int_eq(hearth_submit(h, q, &id), err);
	ck_assert_uint_eq(id, 0);
	ck_assert_msg(strstr(hearth_error(h), a), "%s", hearth_error(h));
	ck_assert_msg(strstr(hearth_error(h), b), "%s", hearth_error(h));
	ck_assert_uint_eq(f.rc->sq_tail, 0);
}

START_TEST(refused_at_once)
{
	static const uint32_t bad_tok[] = { 1, 2, 300 };
	static const uint32_t pos[] = { 2, 2 };
	static const char *const empty[] = { "" };
	struct hearth_request q = request();

	q.max_tokens = 997;
	refuse(&q, -E2BIG, "1001", "1000");
	q = request();
	q.n_prompt = 0;
	refuse(&q, -EINVAL, "no tokens", "");
	q = request();
	q.prompt = bad_tok;
	q.n_prompt = 3;
	refuse(&q, -EINVAL, "token 2", "300");
	q = request();
	q.temperature = 101;
	refuse(&q, -EINVAL, "temperature", "100");
	q.temperature = NAN;
	refuse(&q, -EINVAL, "temperature", "nan");
	q = request();
	q.top_p = 1.5f;
	refuse(&q, -EINVAL, "top_p", "1.5");
	q = request();
	q.min_p = 1;
	refuse(&q, -EINVAL, "min_p is 1", "less than 1");
	q = request();
	q.presence_penalty = -3;
	refuse(&q, -EINVAL, "presence_penalty", "-3");
	q = request();
	q.n_top_logprobs = 21;
	refuse(&q, -EINVAL, "21", "20");
	q = request();
	q.n_bias = 1;
	refuse(&q, -EINVAL, "no array", "");
	q = request();
	q.logits_pos = pos;
	q.n_logits_pos = 2;
	refuse(&q, -EINVAL, "position 1", "2");
	q = request();
	q.stop_text = empty;
	q.n_stop_text = 1;
	refuse(&q, -EINVAL, "stop texts", "64");
	q = request();
	q.model = NULL;
	refuse(&q, -EINVAL, "no model", "");
	q = request();
	q.size = 0;
	refuse(&q, -EINVAL, "size", "");
	m->resident = false;
	q = request();
	refuse(&q, -EINVAL, "not loaded", "fake");
}
END_TEST

START_TEST(slots_run_out_and_come_back)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint64_t id[FAKE_SLOTS];
	struct ring_sqe e;
	uint64_t more;
	int i;

	for (i = 0; i < FAKE_SLOTS; i++)
		start(&q, &id[i]);
	ck_assert_int_eq(hearth_submit(h, &q, &more), -EAGAIN);
	ck_assert(strstr(hearth_error(h), "all 4"));
	fake_done(&f, (uint32_t)id[2], RING_FIN_EOS, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_uint_eq(ev.id, id[2]);
	/* finished, but its results are still wanted */
	ck_assert_int_eq(hearth_submit(h, &q, &more), -EAGAIN);
	ck_assert_int_eq(hearth_release(h, id[2]), 0);
	expect_op(RING_OP_RELEASE, id[2]);
	ck_assert_int_eq(hearth_submit(h, &q, &more), 0);
	ck_assert_uint_ne(more, id[2]);
	ck_assert_uint_eq((uint32_t)more, (uint32_t)id[2]);
	ck_assert(fake_pop(&f, &e));
	/* the old number means nothing, and an old completion hits nobody */
	ck_assert_int_eq(hearth_cancel(h, id[2]), -ENOENT);
	ck_assert_int_eq(hearth_release(h, id[2]), -ENOENT);
	fake_event(&f, RING_EV_DONE, (uint32_t)id[2]);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	fake_accept(&f, &e);
	fake_done(&f, e.slot, RING_FIN_LENGTH, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_uint_eq(ev.id, more);
	ck_assert_uint_eq(ev.finish, HEARTH_FINISH_LENGTH);
}
END_TEST

START_TEST(full_queue_defers_release)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	struct ring_sqe e;
	uint64_t id[2];
	uint64_t none;
	int i;

	fake_close(&f, &h);
	fake_open(&f, &h, 2, DATA);
	start(&q, &id[0]);
	start(&q, &id[1]);
	submit(&q);
	submit(&q);
	/* two entries unread: neither cancel nor release find room */
	ck_assert_int_eq(hearth_cancel(h, id[1]), 0);
	ck_assert_int_eq(hearth_release(h, id[0]), 0);
	ck_assert_int_eq(hearth_release(h, id[0]), -ENOENT);
	ck_assert_int_eq(hearth_submit(h, &q, &none), -EAGAIN);
	for (i = 0; i < 2; i++) {
		ck_assert(fake_pop(&f, &e));
		ck_assert_int_eq(e.op, RING_OP_RUN);
	}
	ck_assert(!fake_pop(&f, &e));
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	expect_op(RING_OP_RELEASE, id[0]);
	expect_op(RING_OP_CANCEL, id[1]);
	ck_assert(!fake_pop(&f, &e));
	ck_assert_int_eq(h->n_deferred, 0);
	submit(&q);
}
END_TEST

START_TEST(data_area_wraps_and_fills)
{
	static uint32_t big[DATA / 4];
	struct hearth_request q = request();
	struct ring_sqe e[64];
	struct ring_run r;
	uint64_t id;
	unsigned int n;
	unsigned int i;
	unsigned int k;
	uint32_t bad;
	uint32_t t;
	int round;
	int err;

	m->info.n_ctx = 1u << 20;
	q.prompt = big;
	q.n_prompt = DATA / 4;
	ck_assert_int_eq(hearth_submit(h, &q, &id), -E2BIG);
	ck_assert(strstr(hearth_error(h), "65536"));
	srand(1);
	for (round = 0; round < 60; round++) {
		n = 0;
		for (;;) {
			q.n_prompt = 1 + (unsigned int)rand() % (DATA / 10);
			for (k = 0; k < q.n_prompt; k++)
				big[k] = (uint32_t)(round + (int)n) % 300;
			err = hearth_submit(h, &q, &id);
			if (err)
				break;
			ck_assert(fake_pop(&f, &e[n]));
			/* not read yet as far as the client knows */
			f.sq_head--;
			f.rd->sq_head = f.sq_head - n;
			f.sq_head++;
			n++;
		}
		ck_assert_int_eq(err, -EAGAIN);
		ck_assert_uint_gt(n, 0);
		for (i = 0; i < n; i++) {
			memcpy(&r, f.c + e[i].off, sizeof(r));
			bad = 0;
			for (k = 0; k < r.n_prompt; k++) {
				memcpy(&t,
				       f.c + e[i].off + r.prompt_off + k * 4,
				       4);
				bad += t != (uint32_t)(round + (int)i) % 300;
			}
			ck_assert_uint_eq(bad, 0);
		}
		f.rd->sq_head = f.sq_head;
		for (i = 0; i < n; i++) {
			struct ring_cqe c = { .event = RING_EV_REFUSED,
					      .err = -EAGAIN,
					      .reason = RING_TOO_MANY,
					      .slot = e[i].slot,
					      .gen = e[i].gen };

			fake_push(&f, &c);
		}
		for (i = 0; i < n; i++) {
			struct hearth_event ev;

			ck_assert_int_eq(next(&ev, 0), 0);
			ck_assert_int_eq(ev.type, HEARTH_EV_ERROR);
			ck_assert_int_eq(hearth_release(h, ev.id), 0);
		}
	}
}
END_TEST

/* ------------------------------------------------------------------ events */

START_TEST(events_in_order)
{
	static const uint32_t pos[] = { 1, 3 };
	struct hearth_request q = request();
	struct hearth_timings HEARTH_INIT(t);
	const struct hearth_top *top;
	struct ring_top *rt;
	struct hearth_event ev;
	struct ring_slot *s;
	const float *v;
	uint32_t slot;
	uint64_t id;
	uint32_t tok;
	uint32_t n;
	float lp;

	q.n_top_logprobs = 2;
	q.logits_pos = pos;
	q.n_logits_pos = 2;
	q.embed_last = true;
	ck_assert_int_eq(hearth_timings(h, 123, &t), -ENOENT);
	slot = start(&q, &id);
	s = fake_slot(&f, slot);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	ck_assert_int_eq(hearth_logits(h, id, 0, &v, &n), -ENOENT);
	s->n_prefill = 2;
	fake_event(&f, RING_EV_PROGRESS, slot);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(ev.type, HEARTH_EV_PREFILL);
	ck_assert(ev.id == id && ev.n_prefill == 2 && ev.n_prompt == 4);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	fake_token(&f, slot, 'H', -0.5f);
	fake_token(&f, slot, 'i', -0.25f);
	fake_event(&f, RING_EV_PROGRESS, slot);
	rt = (struct ring_top *)(void *)(f.d + s->top_off);
	rt[2].token = 77;
	rt[3].logprob = -4;
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(ev.type, HEARTH_EV_TOKENS);
	ck_assert(ev.first == 0 && ev.n_tokens == 2 && ev.n_prefill == 4);
	expect_text(&ev, "Hi");
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	fake_token(&f, slot, FAKE_W_ENDE, -1);
	fake_done(&f, slot, RING_FIN_EOS, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert(ev.type == HEARTH_EV_TOKENS && ev.first == 2 &&
		  ev.n_tokens == 1);
	expect_text(&ev, "Ende");
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert(ev.type == HEARTH_EV_DONE && ev.finish == HEARTH_FINISH_EOS);
	ck_assert_uint_eq(ev.text_n, 0);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	ck_assert_int_eq(next(&ev, -1), -ENOENT);
	/* results */
	ck_assert_int_eq(hearth_token_at(h, id, 1, &tok, &lp), 0);
	ck_assert(tok == 'i' && lp == -0.25f);
	ck_assert_int_eq(hearth_token_at(h, id, 3, &tok, &lp), -ENOENT);
	ck_assert_int_eq(hearth_top_at(h, id, 1, &top), 2);
	ck_assert(top[0].token == 77 && top[1].logprob == -4);
	((float *)(void *)(f.d + s->logits_off))[FAKE_VOCAB + 5] = 2.5f;
	ck_assert_int_eq(hearth_logits(h, id, 1, &v, &n), 0);
	ck_assert(n == FAKE_VOCAB && v[5] == 2.5f);
	ck_assert_int_eq(hearth_logits(h, id, 2, &v, &n), -ENOENT);
	((float *)(void *)(f.d + s->embed_off))[7] = 3.5f;
	ck_assert_int_eq(hearth_embedding(h, id, &v, &n), 0);
	ck_assert(n == FAKE_EMBD && v[7] == 3.5f);
	ck_assert_int_eq(hearth_timings(h, id, &t), 0);
	ck_assert(t.n_prompt == 4 && t.n_out == 3 && t.queue_ns == 2000 &&
		  t.prefill_ns == 4000 && t.decode_ns == 2002);
	ck_assert_uint_gt(t.first_ns, 0);
	ck_assert_int_eq(hearth_release(h, id), 0);
	expect_op(RING_OP_RELEASE, id);
	ck_assert_int_eq(hearth_token_at(h, id, 0, &tok, &lp), -ENOENT);
}
END_TEST

/* The entry that would have told of the second token was never written: the
 * first was still unread when the engine looked. */
START_TEST(coalesced_output_is_seen)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;
	double t;

	slot = start(&q, &id);
	fake_token(&f, slot, 'a', 0);
	fake_event(&f, RING_EV_PROGRESS, slot);
	ck_assert_int_eq(next(&ev, 0), 0);
	fake_token(&f, slot, 'b', 0);
	t = now();
	ck_assert_int_eq(next(&ev, 5000), 0);
	ck_assert(now() - t < 2);
	expect_text(&ev, "b");
}
END_TEST

START_TEST(fair_between_requests)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint64_t id[FAKE_SLOTS];
	int seen[FAKE_SLOTS] = { 0 };
	int round;
	int i;

	for (i = 0; i < FAKE_SLOTS; i++)
		start(&q, &id[i]);
	for (round = 0; round < 40; round++) {
		for (i = 0; i < FAKE_SLOTS; i++)
			fake_token(&f, (uint32_t)i, 'x', 0);
		ck_assert_int_eq(next(&ev, 0), 0);
		seen[(uint32_t)ev.id]++;
	}
	for (i = 0; i < FAKE_SLOTS; i++)
		ck_assert_int_eq(seen[i], 10);
}
END_TEST

START_TEST(half_characters_wait)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;

	slot = start(&q, &id);
	fake_token(&f, slot, 0xe2, 0);
	fake_token(&f, slot, 0x82, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_uint_eq(ev.n_tokens, 2);
	expect_text(&ev, "");
	fake_token(&f, slot, 0xac, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "\xe2\x82\xac");
	fake_token(&f, slot, 0xe2, 0);
	fake_done(&f, slot, RING_FIN_LENGTH, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "");
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(ev.type, HEARTH_EV_DONE);
	/* what never became a character comes as it is */
	expect_text(&ev, "\xe2");
}
END_TEST

START_TEST(stop_text_cuts)
{
	static const char *const stop[] = { "stop", "never" };
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint32_t tok;
	uint64_t id;
	float lp;

	q.stop_text = stop;
	q.n_stop_text = 2;
	slot = start(&q, &id);
	fake_token(&f, slot, 'x', 0);
	fake_token(&f, slot, 's', 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "x");
	fake_token(&f, slot, 't', 0);
	fake_token(&f, slot, 'a', 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "sta");
	fake_token(&f, slot, 's', 0);
	fake_token(&f, slot, 't', 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "");
	fake_token(&f, slot, 'o', 0);
	fake_token(&f, slot, 'p', 0);
	fake_token(&f, slot, 'y', 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert(ev.type == HEARTH_EV_TOKENS && ev.n_tokens == 2);
	expect_text(&ev, "");
	expect_op(RING_OP_CANCEL, id);
	/* the engine goes on a little: nobody sees that */
	fake_token(&f, slot, 'z', 0);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	ck_assert_int_eq(hearth_token_at(h, id, 7, &tok, &lp), 0);
	ck_assert_int_eq(hearth_token_at(h, id, 8, &tok, &lp), -ENOENT);
	fake_done(&f, slot, RING_FIN_CANCEL, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert(ev.type == HEARTH_EV_DONE && ev.finish == HEARTH_FINISH_STOP);
	expect_text(&ev, "");
}
END_TEST

START_TEST(held_text_comes_at_the_end)
{
	static const char *const stop[] = { "stop" };
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;

	q.stop_text = stop;
	q.n_stop_text = 1;
	slot = start(&q, &id);
	fake_token(&f, slot, 's', 0);
	fake_token(&f, slot, 't', 0);
	fake_done(&f, slot, RING_FIN_EOS, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	expect_text(&ev, "");
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert(ev.type == HEARTH_EV_DONE && ev.finish == HEARTH_FINISH_EOS);
	expect_text(&ev, "st");
}
END_TEST

START_TEST(many_tokens_many_events)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t total = 0;
	uint32_t slot;
	uint64_t id;
	int i;

	slot = start(&q, &id);
	for (i = 0; i < FAKE_OUT; i++)
		fake_token(&f, slot, (uint32_t)('a' + i % 26), 0);
	fake_done(&f, slot, RING_FIN_LENGTH, 0);
	while (!next(&ev, 0) && ev.type == HEARTH_EV_TOKENS) {
		ck_assert_uint_eq(ev.first, total);
		ck_assert_uint_eq(ev.text_n, ev.n_tokens);
		ck_assert_int_eq(ev.text[0], 'a' + (int)(total % 26));
		total += ev.n_tokens;
	}
	ck_assert_uint_eq(total, FAKE_OUT);
	ck_assert_int_eq(ev.type, HEARTH_EV_DONE);
}
END_TEST

/* Every refusal is a sentence of its own, with the numbers it has. */
START_TEST(refusals_are_sentences)
{
	char text[RING_REFUSAL_N][CONN_ERR];
	struct hearth_request q = request();
	struct ring_cqe c = { .event = RING_EV_REFUSED, .err = -E2BIG };
	struct hearth_event ev;
	struct ring_sqe e;
	uint64_t id;
	int i;
	int k;

	for (i = RING_BAD_SLOT; i < RING_REFUSAL_N; i++) {
		id = submit(&q);
		ck_assert(fake_pop(&f, &e));
		c.slot = e.slot;
		c.gen = e.gen;
		c.reason = (uint16_t)i;
		c.arg = i == RING_BAD_PARAM ? RING_F_TOP_K : 4711;
		c.limit = 1234;
		fake_push(&f, &c);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert(ev.id == id && ev.type == HEARTH_EV_ERROR &&
			  ev.err == -E2BIG && ev.finish == HEARTH_FINISH_ERROR);
		snprintf(text[i], sizeof(text[i]), "%s", ev.error);
		ck_assert_uint_gt(strlen(text[i]), 10);
		for (k = RING_BAD_SLOT; k < i; k++)
			ck_assert_str_ne(text[k], text[i]);
		ck_assert_int_eq(hearth_release(h, id), 0);
		/* the engine never had it: nothing to give back */
		ck_assert(!fake_pop(&f, &e));
	}
	ck_assert(strstr(text[RING_NO_CONTEXT], "4711") &&
		  strstr(text[RING_NO_CONTEXT], "1234"));
	ck_assert(strstr(text[RING_NO_KV], "4711") &&
		  strstr(text[RING_NO_ARENA], "1234"));
	ck_assert(strstr(text[RING_BAD_PARAM], "top_k"));
}
END_TEST

START_TEST(failures_are_sentences)
{
	static const int errs[] = { -EDOM, -EIO, -ENOTCONN, -ENODEV, -ENOMEM };
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;
	size_t i;

	for (i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		slot = start(&q, &id);
		fake_token(&f, slot, 'a', 0);
		fake_done(&f, slot, RING_FIN_ERROR, errs[i]);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert_int_eq(ev.type, HEARTH_EV_TOKENS);
		ck_assert_int_eq(next(&ev, 0), 0);
		ck_assert(ev.type == HEARTH_EV_ERROR && ev.err == errs[i]);
		ck_assert_uint_gt(strlen(ev.error), 10);
		ck_assert_str_eq(ev.error, hearth_error(h));
		hearth_release(h, id);
		expect_op(RING_OP_RELEASE, id);
	}
}
END_TEST

START_TEST(release_while_running)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	uint32_t slot;
	uint64_t id;

	slot = start(&q, &id);
	fake_token(&f, slot, 'a', 0);
	fake_event(&f, RING_EV_PROGRESS, slot);
	ck_assert_int_eq(hearth_release(h, id), 0);
	expect_op(RING_OP_RELEASE, id);
	ck_assert_int_eq(next(&ev, 0), -EAGAIN);
	ck_assert_int_eq(hearth_cancel(h, id), -ENOENT);
	ck_assert_uint_eq(h->n_live, 0);
}
END_TEST

START_TEST(cancel_is_sent_once)
{
	struct hearth_request q = request();
	struct hearth_event ev;
	struct ring_sqe e;
	uint32_t slot;
	uint64_t id;

	slot = start(&q, &id);
	ck_assert_int_eq(hearth_cancel(h, id), 0);
	ck_assert_int_eq(hearth_cancel(h, id), 0);
	expect_op(RING_OP_CANCEL, id);
	ck_assert(!fake_pop(&f, &e));
	fake_done(&f, slot, RING_FIN_CANCEL, 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert(ev.type == HEARTH_EV_DONE &&
		  ev.finish == HEARTH_FINISH_CANCEL);
	ck_assert_int_eq(hearth_cancel(h, id), 0);
	ck_assert(!fake_pop(&f, &e));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client");
	TCase *t = tcase_create("client");
	SRunner *r;
	int bad;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 20);
	tcase_add_test(t, record_is_what_was_asked);
	tcase_add_test(t, defaults);
	tcase_add_test(t, refused_at_once);
	tcase_add_test(t, slots_run_out_and_come_back);
	tcase_add_test(t, full_queue_defers_release);
	tcase_add_test(t, data_area_wraps_and_fills);
	tcase_add_test(t, events_in_order);
	tcase_add_test(t, coalesced_output_is_seen);
	tcase_add_test(t, fair_between_requests);
	tcase_add_test(t, half_characters_wait);
	tcase_add_test(t, stop_text_cuts);
	tcase_add_test(t, held_text_comes_at_the_end);
	tcase_add_test(t, many_tokens_many_events);
	tcase_add_test(t, refusals_are_sentences);
	tcase_add_test(t, failures_are_sentences);
	tcase_add_test(t, release_while_running);
	tcase_add_test(t, cancel_is_sent_once);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad ? 1 : 0;
}
