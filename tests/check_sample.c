/* SPDX-License-Identifier: MIT */
/*
 * check_sample.c - the sampler against exact distributions.
 *
 * The reference sorts everything and uses libm. With --bench: time a token.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <time.h>

#include "sample_rig.h"

static uint32_t sample(float *x, uint32_t n)
{
	struct ring_token t;

	ck_assert_int_eq(try(x, n, &t, NULL), 0);
	return t.token;
}

START_TEST(philox_known_answers)
{
	static const struct {
		uint32_t ctr[4], key[2], out[4];
	} v[] = {
		{ { 0, 0, 0, 0 },
		  { 0, 0 },
		  { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ { ~0u, ~0u, ~0u, ~0u },
		  { ~0u, ~0u },
		  { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
		  { 0xa4093822, 0x299f31d0 },
		  { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};
	uint32_t out[4], i;

	for (i = 0; i < 3; i++) {
		sample_philox(v[i].ctr, v[i].key, out);
		ck_assert_mem_eq(out, v[i].out, sizeof(out));
	}
}
END_TEST

START_TEST(exp_and_log)
{
	uint64_t seed = 3;
	double x, y;
	int i;

	for (i = 0; i < 200000; i++) {
		x = -(double)(rig_rand(&seed) >> 11) * 0x1p-53 *
		    (i % 2 ? 700 : 1);
		y = exp(x);
		ck_assert_msg(fabs(top_exp(x) - y) <= 1e-15 * y,
			      "exp(%a) is %a, not %a", x, y, top_exp(x));
		x = ldexp(1 + (double)(rig_rand(&seed) >> 12) * 0x1p-52,
			  (int)(rig_rand(&seed) % 200) - 100);
		y = log(x);
		ck_assert_msg(fabs(sample_log(x) - y) <=
				      4e-16 * fabs(y) + 1e-16,
			      "log(%a) is %a, not %a", x, y, sample_log(x));
	}
	ck_assert(top_exp(0) == 1);
	ck_assert(top_exp(-INFINITY) == 0);
	ck_assert(top_exp(-746) == 0);
	ck_assert(top_exp(-744) > 0);
	ck_assert(top_exp(-1e300) == 0);
	ck_assert(sample_log(1) == 0);
}
END_TEST

START_TEST(greedy)
{
	static float x[N];

	fill(x, N, 1, 10);
	x[77] = x[400] = 10.5f;
	req.run.temperature = 0;
	ck_assert_uint_eq(sample(x, N), 77);
	/* The flag beats the temperature. */
	req.run.temperature = 100;
	req.run.flags = RING_RUN_GREEDY;
	ck_assert_uint_eq(sample(x, N), 77);
}
END_TEST

/* -------------------------------------------------- distributions */

struct ref {
	double p;
	float logit;
	uint32_t token;
};

static int by_logit(const void *a, const void *b)
{
	const struct ref *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit < y->logit ? 1 : -1;
	return x->token < y->token ? -1 : 1;
}

/* Exact probability of each token, by the definition of each option. */
static void exact(const float *x, uint32_t n, double *p)
{
	struct ref *r = calloc(n, sizeof(*r));
	double z = 0, sum = 0, max;
	uint32_t i, k = n;

	for (i = 0; i < n; i++)
		r[i] = (struct ref){ 0, x[i], i };
	qsort(r, n, sizeof(*r), by_logit);
	max = (double)r[0].logit;
	if (req.run.top_k && req.run.top_k < n)
		k = req.run.top_k;
	for (i = 0; i < k; i++)
		z += r[i].p = exp((double)r[i].logit - max);
	if (req.run.top_p < 1) {
		for (i = 0; i < k;) {
			sum += r[i++].p;
			if (sum >= (double)req.run.top_p * z)
				break;
		}
		k = i;
	}
	for (i = k; i > 1 && r[i - 1].p < (double)req.run.min_p; i--)
		;
	k = i;
	memset(p, 0, n * sizeof(*p));
	for (z = 0, i = 0; i < k; i++)
		z += exp(((double)r[i].logit - max) /
			 (double)req.run.temperature);
	for (i = 0; i < k; i++)
		p[r[i].token] = exp(((double)r[i].logit - max) /
				    (double)req.run.temperature) /
				z;
	free(r);
}

/* clang-format off */
static const struct {
	float temperature, top_p, min_p;
	uint32_t top_k, n;
	float scale;
} modes[] = {
	{ 1, 1, 0, 0, 50, 3 },
	{ 0.5f, 1, 0, 0, 50, 3 },
	{ 2, 1, 0, 0, N, 8 },
	{ 100, 1, 0, 0, 20, 8 },
	{ 1, 1, 0, 1, N, 8 },
	{ 1, 1, 0, 7, N, 3 },
	{ 1, 1, 0, N + 10, N, 5 },
	{ 1, 0.5f, 0, 0, N, 5 },
	{ 1, 0.9f, 0, 0, N, 20 },
	{ 1.5f, 0.99f, 0, 0, N, 2 },
	{ 1, 1e-9f, 0, 0, N, 5 },
	{ 1, 1, 0.3f, 0, N, 5 },
	{ 1, 1, 0.999f, 0, N, 5 },
	{ 0.8f, 0.95f, 0.05f, 40, N, 5 },
	{ 1.3f, 0.7f, 0.1f, 0, N, 4 },
	{ 1, 0.8f, 0, 12, N, 4 },
	{ 1e-30f, 1, 0, 0, N, 4 },
};
/* clang-format on */

START_TEST(distribution)
{
	const uint32_t n = modes[_i].n, draws = 20000;
	static uint32_t seen[N];
	static double p[N];
	static float x[N];
	double chi = 0, expect, rest_p = 0, rest_n = 0, df = -1;
	uint32_t i;

	fill(x, n, (uint64_t)_i + 11, modes[_i].scale);
	/* A tie across the edge of whatever is cut. */
	x[n - 1] = x[n / 2];
	req.run.temperature = modes[_i].temperature;
	req.run.top_p = modes[_i].top_p;
	req.run.min_p = modes[_i].min_p;
	req.run.top_k = modes[_i].top_k;
	exact(x, n, p);
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < draws; i++) {
		req.run.seed = 5 + i / 1000;
		req.n_prompt = i % 1000 + 1;
		seen[sample(x, n)]++;
	}
	for (i = 0; i < n; i++) {
		ck_assert_msg(p[i] > 0 || !seen[i],
			      "token %u was drawn, but is cut off", i);
		expect = p[i] * draws;
		if (expect < 5) {
			rest_p += expect;
			rest_n += seen[i];
			continue;
		}
		chi += (seen[i] - expect) * (seen[i] - expect) / expect;
		df++;
	}
	if (rest_p >= 5) {
		chi += (rest_n - rest_p) * (rest_n - rest_p) / rest_p;
		df++;
	}
	if (df < 1)
		return;
	/* Wilson-Hilferty: five sigma. */
	expect = 1 - 2 / (9 * df) + 5 * sqrt(2 / (9 * df));
	expect = df * expect * expect * expect;
	ck_assert_msg(chi < expect, "chi square %.1f, %.0f degrees", chi, df);
}
END_TEST

START_TEST(deterministic)
{
	static float x[N];
	uint32_t a[200], i, same = 0;

	fill(x, N, 9, 2);
	req.run.temperature = 1;
	req.run.top_p = 0.95f;
	for (i = 0; i < 200; i++) {
		req.n_prompt = i + 1;
		a[i] = sample(x, N);
	}
	/* Any order, another seed in between: the same tokens. */
	for (i = 200; i-- > 0;) {
		req.n_prompt = i + 1;
		req.run.seed = 1;
		same += sample(x, N) == a[i];
		req.run.seed = 0;
		ck_assert_uint_eq(sample(x, N), a[i]);
	}
	ck_assert_uint_lt(same, 50);
}
END_TEST

/* ------------------------------------------- bias, penalties, logprobs */

START_TEST(bias)
{
	struct ring_bias b[3] = { { 3, -INFINITY }, { 4, 2 }, { 4, 3.5f } };
	float x[6] = { 0, 1, 2, 9, 1, 5 };
	uint32_t i;

	req.bias = b;
	req.run.n_bias = 1;
	ck_assert_uint_eq(sample(x, 6), 5);
	req.run.n_bias = 3;
	ck_assert_uint_eq(sample(x, 6), 4);
	req.run.temperature = 1;
	for (i = 1; i < 5000; i++) {
		req.n_prompt = i;
		ck_assert_uint_ne(sample(x, 6), 3);
	}
	/* Extremes stay comparable. */
	b[1].bias = b[2].bias = 3e38f;
	ck_assert_uint_eq(sample(x, 6), 4);
	b[1].bias = b[2].bias = -3e38f;
	ck_assert_uint_ne(sample(x, 6), 4);
}
END_TEST

START_TEST(all_banned)
{
	struct ring_bias b[3] = { { 0, -INFINITY },
				  { 1, -INFINITY },
				  { 2, -INFINITY } };
	float x[3] = { 1, 2, 3 };
	struct ring_token t;

	req.bias = b;
	req.run.n_bias = 3;
	ck_assert_int_eq(try(x, 3, &t, NULL), -EDOM);
	req.run.temperature = 1;
	ck_assert_int_eq(try(x, 3, &t, NULL), -EDOM);
	req.run.n_bias = 2;
	ck_assert_uint_eq(sample(x, 3), 2);
}
END_TEST

START_TEST(penalties)
{
	float x[4] = { 3, 2.4f, 2.1f, -1 }, y[3] = { -1, -1.3f, -1.8f };

	req.n_prompt = 3;
	prompt[0] = 0;
	prompt[1] = 0;
	prompt[2] = 1;
	ck_assert_uint_eq(sample(x, 4), 0);
	/* Nothing without a window. */
	req.run.repeat_penalty = 1.4f;
	ck_assert_uint_eq(sample(x, 4), 0);
	/* 3/1.4 = 2.14, 2.4/1.4 = 1.71 */
	req.run.penalty_last = 64;
	ck_assert_uint_eq(sample(x, 4), 0);
	req.run.repeat_penalty = 1.5f;
	ck_assert_uint_eq(sample(x, 4), 2);
	/* The last token alone is 1. */
	req.run.penalty_last = 1;
	ck_assert_uint_eq(sample(x, 4), 0);
	/* Below zero it multiplies: -1 -> -1.5. */
	req.run.penalty_last = 64;
	ck_assert_uint_eq(sample(y, 3), 0);
	req.run.repeat_penalty = 2;
	ck_assert_uint_eq(sample(y, 3), 2);
	/* Presence counts once, frequency each time. */
	req.run.repeat_penalty = 1;
	req.run.presence_penalty = 0.7f;
	ck_assert_uint_eq(sample(x, 4), 0);
	req.run.presence_penalty = 0;
	req.run.frequency_penalty = 0.5f;
	ck_assert_uint_eq(sample(x, 4), 2);
	/* Output counts like the prompt. */
	out_tokens[0].token = 2;
	req.n_out = 1;
	req.run.frequency_penalty = 0.4f;
	ck_assert_uint_eq(sample(x, 4), 0);
	req.run.frequency_penalty = -2;
	ck_assert_uint_eq(sample(x, 4), 0);
	/* Counters are clean again after every call. */
	req.run.frequency_penalty = 0;
	ck_assert_uint_eq(
		sampler.where[0] + sampler.where[1] + sampler.where[2], 0);
}
END_TEST

START_TEST(log_probabilities)
{
	struct ring_top top[RING_MAX_TOP_LOGPROBS];
	struct ring_bias b = { 9, -INFINITY };
	static float x[N];
	struct ring_token t;
	double z = 0;
	uint32_t i, n, above;

	fill(x, N, 21, 12);
	x[9] = x[10] = 12.25f;
	for (i = 0; i < N; i++)
		z += exp((double)x[i]);
	z = log(z);
	/* The model's own, whatever bias and truncation do. */
	req.bias = &b;
	req.run.n_bias = 1;
	req.run.flags = RING_RUN_LOGPROBS;
	for (n = 0; n <= RING_MAX_TOP_LOGPROBS; n++) {
		req.run.n_top_logprobs = n;
		ck_assert_int_eq(try(x, N, &t, top), 0);
		ck_assert_uint_eq(t.token, 10);
		ck_assert(fabs((double)t.logprob - ((double)x[10] - z)) < 1e-5);
		for (i = 0; i < n; i++) {
			ck_assert(fabs((double)top[i].logprob -
				       ((double)x[top[i].token] - z)) < 1e-5);
			ck_assert(!i || top[i].logprob <= top[i - 1].logprob);
		}
		if (!n)
			continue;
		ck_assert_uint_eq(top[0].token, 9);
		for (above = 0, i = 0; i < N; i++)
			above += x[i] > x[top[n - 1].token];
		ck_assert_uint_lt(above, n);
	}
	/* More alternatives than tokens: the rest is zero. */
	req.run.n_bias = 0;
	ck_assert_int_eq(try(x, 3, &t, top), 0);
	ck_assert(top[3].logprob == 0 && top[3].token == 0);
}
END_TEST

START_TEST(not_finite)
{
	static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
	static float x[N];
	struct ring_token t;
	uint32_t i, k;

	fill(x, N, 4, 1);
	for (k = 0; k < 4; k++) {
		for (i = 0; i < N; i++) {
			float keep = x[i];

			x[i] = bad[k];
			ck_assert_int_eq(try(x, N, &t, NULL), -EDOM);
			x[i] = keep;
		}
	}
	ck_assert_int_eq(try(x, N, &t, NULL), 0);
}
END_TEST

/* Every combination of extremes ends, with a token that is not banned. */
START_TEST(extremes)
{
	static const float temps[] = { 0, 1e-38f, 1, 100 };
	static const float tops[] = { 1e-38f, 0.5f, 0.99999994f, 1 };
	static const float mins[] = { 0, 1e-38f, 0.99999994f };
	static const float repeats[] = { 1e-38f, 1, 100 };
	static const uint32_t ks[] = { 0, 1, 2, UINT32_MAX };
	static float rows[][4] = {
		{ 0, 0, 0, 0 },
		{ 3e38f, -3e38f, 3e38f, 0 },
		{ 1e-45f, -1e-45f, 0, 0 },
		{ -3e38f, -3e38f, -3e38f, -3e38f },
	};
	struct ring_bias b = { 2, -INFINITY };
	uint32_t i, n = 4 * 4 * 3 * 3 * 4 * 4 * 2;

	req.bias = &b;
	req.n_prompt = 2;
	prompt[0] = prompt[1] = 1;
	req.run.penalty_last = UINT32_MAX;
	req.run.frequency_penalty = -2;
	for (i = 0; i < n; i++) {
		uint32_t j = i;

		req.run.temperature = temps[j % 4];
		j /= 4;
		req.run.top_p = tops[j % 4];
		j /= 4;
		req.run.min_p = mins[j % 3];
		j /= 3;
		req.run.repeat_penalty = repeats[j % 3];
		j /= 3;
		req.run.top_k = ks[j % 4];
		j /= 4;
		req.run.n_bias = j / 4;
		j = sample(rows[j % 4], 4);
		ck_assert_uint_lt(j, 4);
		ck_assert(!req.run.n_bias || j != 2);
	}
}
END_TEST

/* ------------------------------------------------------ from candidates */

/* A token, its log-probability and its alternatives are the same, bit for bit,
 * whether the sampler begins with all of the row or with its candidates. */
START_TEST(from_candidates)
{
	struct ring_top a_top[RING_MAX_TOP_LOGPROBS], b_top[sizeof(a_top) / 8];
	struct ring_bias b[2] = { { 0, 3 }, { 0, -INFINITY } };
	uint64_t seed = 100 + (uint64_t)_i;
	static float x[MOST];
	struct top_row top;
	uint32_t n, i, spared = 0;

	req.bias = b;
	for (i = 0; i < 10000; i++) {
		struct ring_token a = { 0 }, c = { 0 };
		struct sample_row row = { .top = &top, .get = fetch, .arg = x };
		int err;

		n = row.n = 1 + below(&seed, below(&seed, 100) ? 300 : MOST);
		any_row(x, n, &seed);
		any_run(&req.run, n, &seed);
		b[0].token = below(&seed, n);
		b[1].token = below(&seed, n);
		memset(a_top, 0, sizeof(a_top));
		memset(b_top, 0, sizeof(b_top));
		top_row(&top, x, n);
		err = try(x, n, &a, a_top);
		fetched = 0;
		ck_assert_int_eq(sample_token(&sampler, &req, &row, &c, b_top),
				 err);
		if (!err && (a.token != c.token || memcmp(&a, &c, sizeof(a)) ||
			     memcmp(a_top, b_top, sizeof(a_top))))
			ck_abort_msg("case %u, %u logits: token %u (%a), not "
				     "%u (%a)",
				     i, n, c.token, (double)c.logprob, a.token,
				     (double)a.logprob);
		ck_assert_int_le(fetched, 1);
		spared += !fetched;
		/* Where it must never ask. */
		if (!req.run.n_bias && !req.run.penalty_last &&
		    (req.run.temperature == 0 || n <= TOP_N ||
		     (req.run.top_k && req.run.top_k <= TOP_N)))
			ck_assert_int_eq(fetched, 0);
	}
	/* And not often at all. */
	ck_assert_uint_gt(spared, 5000);
	ck_assert_uint_lt(spared, 9900);
}
END_TEST

/* What it is that candidates are enough for, on a row with one good token. */
START_TEST(enough)
{
	static const struct {
		float temperature, top_p, min_p;
		uint32_t top_k, flags, n_bias;
		int fetched;
	} v[] = {
		{ 0, 1, 0, 0, RING_RUN_LOGPROBS, 0, 0 },
		{ 1, 1, 0, 64, RING_RUN_LOGPROBS, 0, 0 },
		{ 1, 0.9f, 0, 64, 0, 0, 0 },
		{ 1, 1, 0, 65, RING_RUN_LOGPROBS, 0, 1 },
		{ 1, 0.9f, 0, 0, RING_RUN_LOGPROBS, 0, 0 },
		{ 1, 0.999999f, 0, 0, 0, 0, 1 },
		{ 1, 0.999999f, 0.1f, 0, 0, 0, 0 },
		{ 1, 1, 0.1f, 0, RING_RUN_LOGPROBS, 0, 0 },
		{ 1, 1, 1e-9f, 0, 0, 0, 1 },
		{ 1, 1, 0, 0, RING_RUN_LOGPROBS, 0, 1 },
		{ 0, 1, 0, 0, RING_RUN_LOGPROBS, 1, 1 },
	};
	struct ring_bias b = { 5, 1 };
	struct ring_top t[RING_MAX_TOP_LOGPROBS];
	struct top_row top;
	struct ring_token tok;
	static float x[N];
	uint32_t i;

	fill(x, N, 3, 1);
	x[N / 2] = 12;
	top_row(&top, x, N);
	req.bias = &b;
	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		struct sample_row row = {
			.n = N, .top = &top, .get = fetch, .arg = x
		};

		req.run.temperature = v[i].temperature;
		req.run.top_p = v[i].top_p;
		req.run.min_p = v[i].min_p;
		req.run.top_k = v[i].top_k;
		req.run.flags = v[i].flags;
		req.run.n_bias = v[i].n_bias;
		req.run.n_top_logprobs = RING_MAX_TOP_LOGPROBS;
		fetched = fetch_error = 0;
		ck_assert_int_eq(sample_token(&sampler, &req, &row, &tok, t),
				 0);
		ck_assert_msg(fetched == v[i].fetched, "row %u: fetched %d", i,
			      fetched);
		/* What cannot be fetched is told. */
		row.x = NULL;
		fetch_error = -EIO;
		ck_assert_int_eq(sample_token(&sampler, &req, &row, &tok, t),
				 v[i].fetched ? -EIO : 0);
	}
}
END_TEST

/* What is in a row's summary, found in another way. */
START_TEST(summary)
{
	static const uint32_t sizes[] = { 1, 63, 64, 65, 255, 4096, 4097, MOST };
	const uint32_t n = sizes[_i];
	static struct ref r[MOST];
	static float x[MOST];
	struct top_row top;
	double z = 0;
	uint32_t i;

	fill(x, n, (uint64_t)_i, 20);
	for (i = 0; i < n; i += 3)
		x[i] = roundf(x[i]);
	for (i = 0; i < n; i++)
		r[i] = (struct ref){ 0, x[i], i };
	qsort(r, n, sizeof(*r), by_logit);
	for (i = 0; i < n; i++)
		z += exp((double)x[i] - (double)r[0].logit);
	top_row(&top, x, n);
	ck_assert(top.finite);
	ck_assert_uint_eq(top.n, n < TOP_N ? n : TOP_N);
	for (i = 0; i < top.n; i++) {
		ck_assert_uint_eq(top.cand[i].token, r[i].token);
		ck_assert(top.cand[i].logit == r[i].logit);
	}
	ck_assert_msg(fabs(top.sum - z) < 1e-13 * z, "%a, not %a", top.sum, z);
	x[n - 1] = -INFINITY;
	top_row(&top, x, n);
	ck_assert(!top.finite);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sample");
	TCase *t = tcase_create("parts");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, philox_known_answers);
	tcase_add_test(t, exp_and_log);
	tcase_add_test(t, greedy);
	tcase_add_test(t, deterministic);
	tcase_add_test(t, bias);
	tcase_add_test(t, all_banned);
	tcase_add_test(t, penalties);
	tcase_add_test(t, log_probabilities);
	tcase_add_test(t, not_finite);
	tcase_add_test(t, extremes);
	tcase_add_test(t, enough);
	tcase_add_loop_test(t, summary, 0, 8);
	suite_add_tcase(s, t);
	t = tcase_create("distribution");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, distribution, 0,
			    (int)(sizeof(modes) / sizeof(modes[0])));
	tcase_add_loop_test(t, from_candidates, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

#define BENCH_N 128256 /* Llama 3's vocabulary */

/* Microseconds a token: from all of the row, or from what a device gives. */
static double bench_one(float *x, bool in_short)
{
	static uint32_t picks[64];
	struct ring_top alternatives[20];
	const uint32_t turns = 50;
	struct timespec a, b;
	struct ring_token t;
	struct top_row top;
	float picked[64];
	uint32_t i, k;

	top_row(&top, x, BENCH_N);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < turns; i++) {
		struct sample_row row = { .n = BENCH_N, .x = x };

		req.run.seed = i;
		if (in_short) {
			row.x = NULL;
			row.top = &top;
			row.get = fetch;
			row.arg = x;
			row.picks = picks;
			row.picked = picked;
			row.n_picks = sample_picks(&req, BENCH_N, picks, 64);
			for (k = 0; k < row.n_picks; k++)
				picked[k] = x[picks[k]];
		}
		sample_token(&sampler, &req, &row, &t, alternatives);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	return ((double)(b.tv_sec - a.tv_sec) * 1e6 +
		(double)(b.tv_nsec - a.tv_nsec) / 1e3) /
	       turns;
}

static void bench(void)
{
	float *x = calloc(BENCH_N, sizeof(*x));
	uint32_t m, i, penal;

	setup();
	fill(x, BENCH_N, 1, 4);
	for (i = 0; i < 200; i++)
		x[i * 600] += (float)i / 15;
	for (i = 0; i < 64; i++)
		prompt[i] = i % 2 ? (199 - i / 2) * 600 : i * 7;
	req.n_prompt = 64;
	req.run.penalty_last = 64;
	printf("%d logits; microseconds a token; short: from the candidates\n"
	       "temperature top_k top_p min_p logprobs repeat_penalty: all, "
	       "short\n",
	       BENCH_N);
	for (m = 0; m < 2 * (sizeof(modes) / sizeof(modes[0]) + 2); m++) {
		penal = m % 2;
		i = m / 2;
		req.run.repeat_penalty = penal ? 1.1f : 1;
		req.run.temperature = 0;
		req.run.flags = i == 1 ? RING_RUN_LOGPROBS : 0;
		if (i > 1) {
			req.run.temperature = modes[i - 2].temperature;
			req.run.top_p = modes[i - 2].top_p;
			req.run.min_p = modes[i - 2].min_p;
			req.run.top_k = modes[i - 2].top_k;
		}
		printf("%g %u %g %g %d %g: %.0f, ", (double)req.run.temperature,
		       req.run.top_k, (double)req.run.top_p,
		       (double)req.run.min_p, req.run.flags != 0,
		       (double)req.run.repeat_penalty, bench_one(x, false));
		printf("%.1f\n", bench_one(x, true));
	}
	teardown();
	free(x);
}

int main(int argc, char **argv)
{
	SRunner *sr;
	int failed;

	if (argc > 1 && !strcmp(argv[1], "--bench")) {
		bench();
		return 0;
	}
	sr = srunner_create(suite());
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
