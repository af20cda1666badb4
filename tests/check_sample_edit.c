/* SPDX-License-Identifier: MIT */
/*
 * check_sample_edit.c - bias and penalties: the same answer from a whole row and
 * from its candidates, and the right one.
 */
#include "sample_rig.h"

#define MOST_BIAS 100

static struct ring_bias any_biases[MOST_BIAS];

/* A token that matters, or any, or now and then none that there is. */
static uint32_t any_token(const struct top_row *t, uint32_t n, uint64_t *seed)
{
	if (!below(seed, 50))
		return n + below(seed, 3);
	if (t->finite && below(seed, 2))
		return t->cand[below(seed, t->n)].token;
	return below(seed, n);
}

/* Tokens that do not matter come to matter. */
static void lift(const float *x, const struct top_row *t, uint32_t n,
		 uint64_t *seed)
{
	struct ring_bias *b = any_biases;
	uint32_t i;

	req.run.n_bias = 1 + below(seed, MOST_BIAS);
	for (i = 0; i < req.run.n_bias; i++, b++) {
		b->token = below(seed, n);
		b->bias = t->cand[0].logit - x[b->token] -
			  (float)below(seed, 100) / 20;
	}
	/* And are cut off among them. */
	if (below(seed, 2)) {
		req.run.min_p = expf(-(float)below(seed, 100) / 20);
		req.run.top_k = below(seed, 3) ? 0 : 64;
	}
}

/* Bias of a few tokens, or of all that are known of the row. */
static void any_bias(const struct top_row *t, uint32_t n, uint64_t *seed)
{
	static const float biases[] = { -INFINITY, NAN, 0,     1e-3f,
					3,	   -2,	3e38f, -3e38f };
	uint32_t i, all = !below(seed, 8) && t->finite ? t->n : 0;
	float one = below(seed, 2) ? -INFINITY : biases[below(seed, 8)];

	req.run.n_bias = all + (below(seed, 2) ? below(seed, 8) : 0);
	for (i = 0; i < req.run.n_bias; i++) {
		any_biases[i].token = i < all ? t->cand[i].token
					      : any_token(t, n, seed);
		any_biases[i].bias = i < all ? one : biases[below(seed, 8)];
	}
	if (all && below(seed, 2))
		any_biases[below(seed, all)].bias = 0;
}

static void any_edits(const float *x, const struct top_row *t, uint32_t n,
		      uint64_t *seed)
{
	static const float repeats[] = {
		1, 1.1f, 1.1f, 1.5f, 0.5f, 100, 1e-38f
	};
	static const float others[] = { 0, 0, 0.3f, 2, -2 };
	static const uint32_t lasts[] = { 0, 1, 20, 64, UINT32_MAX };
	struct ring_run *run = &req.run;
	uint32_t i;

	if (t->finite && !below(seed, 4))
		lift(x, t, n, seed);
	else
		any_bias(t, n, seed);
	run->repeat_penalty = repeats[below(seed, 7)];
	run->presence_penalty = others[below(seed, 5)];
	run->frequency_penalty = others[below(seed, 5)];
	run->penalty_last = lasts[below(seed, 5)];
	req.n_prompt = 1 + below(seed, 64);
	for (i = 0; i < req.n_prompt; i++)
		prompt[i] = i && !below(seed, 3) ? prompt[below(seed, i)]
						 : any_token(t, n, seed);
}

static float within(double x)
{
	const double most = 0x1.fffffep+127;

	if (x == -INFINITY)
		return -INFINITY;
	return (float)(x > most ? most : x < -most ? -most : x);
}

/* What the definition says, token by token. */
static void edit_plainly(float *x, uint32_t n)
{
	const struct ring_run *run = &req.run;
	bool off = run->repeat_penalty == 1 && run->presence_penalty == 0 &&
		   run->frequency_penalty == 0;
	uint32_t count[MOST] = { 0 }, from = 0, i;
	double y;

	for (i = 0; i < run->n_bias; i++) {
		const struct ring_bias *b = &any_biases[i];

		if (b->token < n && !isnan(b->bias))
			x[b->token] =
				within((double)x[b->token] + (double)b->bias);
	}
	if (req.n_prompt > run->penalty_last)
		from = req.n_prompt - run->penalty_last;
	for (i = from; i < req.n_prompt && !off; i++)
		if (prompt[i] < n)
			count[prompt[i]]++;
	for (i = 0; i < n; i++) {
		if (!count[i])
			continue;
		y = (double)x[i];
		y = y > 0 ? y / (double)run->repeat_penalty
			  : y * (double)run->repeat_penalty;
		x[i] = within(y - ((double)run->frequency_penalty * count[i] +
				   (double)run->presence_penalty));
	}
}

/* The sum of the edited row is what it is, nearly. */
static void right_sum(struct sample_row *row, const float *edited)
{
	struct top_cand best;
	double sum, z = 0;
	struct view v;
	uint32_t i;

	ck_assert_int_eq(view_open(&v, &sampler, &req, row), 0);
	ck_assert_int_eq(view_best(&v, &best), 0);
	if (best.logit != -INFINITY) {
		ck_assert_int_eq(view_sum(&v, best.logit, &sum), 0);
		for (i = 0; i < row->n; i++)
			z += exp((double)edited[i] - (double)best.logit);
		if (!(fabs(sum - z) < 1e-6 * z))
			ck_abort_msg("%u logits: sum %a, not %a", row->n, sum,
				     z);
	}
	view_close(&v);
}

/* One answer of the sampler. */
struct answer {
	int err;
	struct ring_token t;
	struct ring_top top[RING_MAX_TOP_LOGPROBS];
};

static void ask(struct answer *a, struct sample_row *row)
{
	memset(a, 0, sizeof(*a));
	a->err = sample_token(&sampler, &req, row, &a->t, a->top);
	if (a->err)
		memset(&a->t, 0, sizeof(a->t));
}

static void same_answer(const struct answer *got, const struct answer *want,
			uint32_t i, uint32_t n)
{
	if (memcmp(got, want, sizeof(*got)))
		ck_abort_msg("case %u, %u logits: %d, token %u (%a), not "
			     "%d, token %u (%a)",
			     i, n, got->err, got->t.token,
			     (double)got->t.logprob, want->err, want->t.token,
			     (double)want->t.logprob);
}

/* A row is as it was, whatever was done to it in between. */
static void as_it_was(const float *x, const float *was, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (sampler.where[i])
			ck_abort_msg("token %u is still touched", i);
	if (memcmp(x, was, n * sizeof(*x)))
		ck_abort_msg("the row of %u logits has changed", n);
}

/* What the sampler says of @x with candidates and picks, but for the first
 * @without of those. */
static void ask_short(struct answer *a, float *x, const struct top_row *top,
		      uint32_t n, uint32_t without)
{
	uint32_t picks[MOST_BIAS + 64], k;
	float picked[MOST_BIAS + 64];
	struct sample_row row = { .n = n, .top = top, .get = fetch, .arg = x };

	k = sample_picks(&req, n, picks, MOST_BIAS + 64);
	row.n_picks = k > without ? k - without : 0;
	row.picks = picks + (row.n_picks ? without : 0);
	row.picked = picked + (row.n_picks ? without : 0);
	while (k--)
		picked[k] = x[picks[k]];
	fetched = 0;
	ask(a, &row);
	ck_assert_int_le(fetched, 1);
}

/* From the row that the definition makes comes the same token, if no sum of it
 * is needed, as sums are nearly the same only. */
static void right_token(float *plain, uint32_t n, uint32_t token)
{
	const struct ring_run *run = &req.run;
	struct sample_row row = { .n = n, .x = plain };
	struct answer got;
	uint32_t i;

	if (run->top_p < 1 && (!run->top_k || run->top_k >= n))
		return;
	req.run.n_bias = req.run.penalty_last = req.run.flags = 0;
	/* Bans of the model's own are refused. */
	for (i = 0; i < n; i++)
		if (plain[i] == -INFINITY)
			return;
	ask(&got, &row);
	if (got.t.token != token)
		ck_abort_msg("%u logits: token %u, not %u", n, token,
			     got.t.token);
}

/*
 * With bias and penalties the answer is the same, bit for bit, from the whole
 * row, and from its candidates with the picks, without, or with others; and it
 * is that of the row that the definition makes.
 */
START_TEST(edited)
{
	static float x[MOST], was[MOST], plain[MOST];
	uint32_t n, i, k, turns = _i ? 60000 : 1000, spared = 0;
	uint64_t seed = 500 + (uint64_t)_i;
	struct answer want, got;
	struct top_row top;

	req.bias = any_biases;
	for (i = 0; i < turns; i++) {
		struct sample_row row = { .x = x };

		n = row.n = 1 + below(&seed, _i ? 300 : MOST);
		any_row(x, n, &seed);
		memcpy(was, x, n * sizeof(*x));
		top_row(&top, x, n);
		any_run(&req.run, n, &seed);
		any_edits(x, &top, n, &seed);
		ask(&want, &row);
		as_it_was(x, was, n);
		for (k = 0; k < 3; k++) {
			ask_short(&got, x, &top, n, k == 2 ? UINT32_MAX : k);
			same_answer(&got, &want, i, n);
			as_it_was(x, was, n);
			spared += !k && !fetched;
		}
		if (!top.finite)
			continue;
		memcpy(plain, x, n * sizeof(*x));
		edit_plainly(plain, n);
		right_sum(&row, plain);
		row.top = &top;
		right_sum(&row, plain);
		if (!want.err)
			right_token(plain, n, want.t.token);
	}
	ck_assert_uint_gt(spared, turns / 2);
	ck_assert_uint_lt(spared, turns - turns / 100);
}
END_TEST

/* Usual requests never ask for the row. */
START_TEST(edited_enough)
{
	static const struct {
		float temperature, top_p, min_p;
		uint32_t top_k;
	} v[] = {
		{ 0, 1, 0, 0 },	   { 0.8f, 0.95f, 0.05f, 40 }, { 1, 1, 0, 40 },
		{ 1, 0.9f, 0, 0 }, { 1, 1, 0.1f, 0 },
	};
	struct ring_bias b[3] = { { 7, -INFINITY }, { 8, 1 }, { 7, 4 } };
	struct ring_top t[RING_MAX_TOP_LOGPROBS];
	uint32_t picks[128], i, k;
	struct ring_token tok;
	struct top_row top;
	uint64_t seed = 12;
	float picked[128];
	static float x[N];

	req.bias = b;
	req.run.n_bias = 3;
	req.run.repeat_penalty = 1.1f;
	req.run.penalty_last = 64;
	req.run.flags = RING_RUN_LOGPROBS;
	req.run.n_top_logprobs = RING_MAX_TOP_LOGPROBS;
	req.n_prompt = 64;
	for (i = 0; i < 200 * sizeof(v) / sizeof(v[0]); i++) {
		struct sample_row row = { .n = N,
					  .top = &top,
					  .picks = picks,
					  .picked = picked,
					  .get = fetch,
					  .arg = x };

		fill(x, N, seed, 3);
		for (k = 0; k < 20; k++)
			x[below(&seed, N)] = 5 + (float)below(&seed, 100) / 10;
		top_row(&top, x, N);
		for (k = 0; k < 64; k++)
			prompt[k] = any_token(&top, N - 3, &seed);
		row.n_picks = sample_picks(&req, N, picks, 128);
		for (k = 0; k < row.n_picks; k++)
			picked[k] = x[picks[k]];
		req.run.temperature = v[i % 5].temperature;
		req.run.top_p = v[i % 5].top_p;
		req.run.min_p = v[i % 5].min_p;
		req.run.top_k = v[i % 5].top_k;
		fetched = 0;
		ck_assert_int_eq(sample_token(&sampler, &req, &row, &tok, t),
				 0);
		ck_assert_msg(!fetched, "row %u was fetched", i);
	}
}
END_TEST

/* What of a row is wanted by itself, and when that is too much. */
START_TEST(what_is_picked)
{
	struct ring_bias b[3] = { { 7, 1 }, { 900, 1 }, { 7, 2 } };
	const uint32_t want[] = { 7, 7, 5, 5, 1 };
	uint32_t got[8];

	req.bias = b;
	req.run.n_bias = 3;
	req.n_prompt = 4;
	prompt[0] = 3;
	prompt[1] = prompt[2] = 5;
	prompt[3] = 900;
	out_tokens[0].token = 1;
	req.n_out = 1;
	/* A window without a penalty looks at nothing. */
	req.run.penalty_last = 4;
	ck_assert_uint_eq(sample_picks(&req, 900, got, 8), 2);
	req.run.frequency_penalty = 0.1f;
	ck_assert_uint_eq(sample_picks(&req, 900, got, 7), 5);
	ck_assert_mem_eq(got, want, sizeof(want));
	ck_assert_uint_eq(sample_picks(&req, 900, got, 6), 0);
	req.run.penalty_last = UINT32_MAX;
	ck_assert_uint_eq(sample_picks(&req, 900, got, 8), 6);
	req.run.n_bias = req.run.penalty_last = 0;
	ck_assert_uint_eq(sample_picks(&req, 900, got, 8), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sample_edit");
	TCase *t = tcase_create("edits");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, edited, 0, 2);
	tcase_add_test(t, edited_enough);
	tcase_add_test(t, what_is_picked);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
