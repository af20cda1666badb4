/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_prompts.c - prompts that may be near: they are near the CPU's,
 * what is generated is exact, and neither depends on what else is in a step.
 * HEARTH_LONG=1: that of all models.
 */
#include "cuda_backend_rig.h"

#define PROMPT 40
#define SAID   3 /* tokens after it */
#define WORDS  (PROMPT + SAID)
#define VOCAB  512 /* at most */

static const struct {
	uint32_t arch;
	enum fmt f;
} models[] = {
	{ ARCH_llama, FMT_BF16 },
	{ ARCH_qwen2, FMT_F16 },
	{ ARCH_gemma3, FMT_BF16 },
};

/* What a sequence is about, and what was answered to its last words. */
struct talk {
	uint32_t word[WORDS];
	float row[1 + SAID][VOCAB];
};

static void open_rig(struct rig *r, int i, bool near)
{
	struct image_hparams hp = tiny_hparams(models[i].arch);

	ck_assert_uint_le(hp.n_vocab, VOCAB);
	/* a tile is a tile in the simulator, and takes its time */
	hp.n_layer = 2;
	hp.n_embd = 96;
	hp.n_ff = 160;
	hp.n_head = 2;
	hp.n_head_kv = 1;
	hp.head_dim = hp.n_rope = 32;
	conf.gpu_prompts = near;
	rig_open(r, &hp, models[i].f);
}

static void talk_init(struct rig *r, struct talk *t)
{
	uint32_t i;

	for (i = 0; i < WORDS; i++)
		t->word[i] = tiny_rnd(&r->rng) % r->t.hp.n_vocab;
}

/* The next @n words, the last @n_out of which are to be answered. */
static void tell(struct rig *r, struct work *w, uint32_t seq,
		 const struct talk *t, uint32_t n, uint32_t n_out)
{
	const uint32_t pos = r->pos[seq];

	add(r, w, seq, n, n_out);
	memcpy(w->tokens + w->b.n_tokens - n, t->word + pos,
	       n * sizeof(*t->word));
	w->seqs[w->b.n_seqs - 1].prompt = pos < PROMPT;
}

static void run(struct side *s, const struct work *w)
{
	struct batch b = w->b;

	ck_assert_int_eq(s->ops->step(s->m, &b), 0);
}

static void hear(struct rig *r, uint32_t i, float *to)
{
	float *x;

	ck_assert_int_eq(r->gpu.ops->logits(r->gpu.m, i, &x), 0);
	memcpy(to, x, r->t.hp.n_vocab * sizeof(*x));
}

static void same_row(const struct rig *r, const float *got, const float *want,
		     const char *what)
{
	ck_assert_msg(!memcmp(got, want, r->t.hp.n_vocab * sizeof(*got)),
		      "%s: other logits", what);
}

/* ---------------------------------------------------------------- nearness */

static uint32_t best(const float *x, uint32_t n)
{
	uint32_t i, at = 0;

	for (i = 1; i < n; i++)
		if (x[i] > x[at])
			at = i;
	return at;
}

/* A prompt, then what is likeliest. */
static void converse(struct rig *r, uint32_t seq, uint32_t n)
{
	const uint32_t vocab = r->t.hp.n_vocab;
	double off, worst = 0, most = 0;
	float row[VOCAB];
	struct work w;
	uint32_t k, i, token = 0;

	for (k = 0; k < 4; k++) {
		work_init(&w);
		add(r, &w, seq, k ? 1 : n, 1);
		w.seqs[0].prompt = !k;
		if (k)
			w.tokens[0] = token;
		run(&r->gpu, &w);
		hear(r, 0, row);
		ck_assert_int_eq(r->cpu.ops->step(r->cpu.m, &w.b), 0);
		for (i = 0; i < vocab; i++) {
			off = fabs((double)row[i] - (double)w.b.logits[i]);
			worst = off > worst ? off : worst;
			off = fabs((double)row[i]);
			most = off > most ? off : most;
		}
		token = best(w.b.logits, vocab);
		ck_assert_uint_eq(best(row, vocab), token);
	}
	printf("%u tokens: logits up to %g are off by %g\n", n, most, worst);
	ck_assert_msg(worst <= 1e-2 * most, "of up to %g, a logit is off by %g",
		      most, worst);
	ck_assert_msg(worst > 0, "they are exact");
}

START_TEST(near)
{
	struct rig r;

	open_rig(&r, _i, true);
	converse(&r, 0, 1);
	converse(&r, 1, 33);
	rig_close(&r);
}
END_TEST

/* As it is unless one asks. */
START_TEST(exact)
{
	struct work w;
	struct rig r;

	open_rig(&r, 0, false);
	work_init(&w);
	add(&r, &w, 0, 2, 1);
	add(&r, &w, 1, 30, 2);
	w.seqs[1].prompt = true;
	step(&r, &w.b);
	rig_close(&r);
}
END_TEST

/* ------------------------------------------------------------ independence */

/* Whole and alone, then word by word. */
static void alone(struct rig *r, struct talk *t, uint32_t seq)
{
	struct work w;
	uint32_t k;

	for (k = 0; k <= SAID; k++) {
		work_init(&w);
		tell(r, &w, seq, t, k ? 1 : PROMPT, 1);
		run(&r->gpu, &w);
		hear(r, 0, t->row[k]);
	}
}

/* In chunks, and what was said computed again at once. */
static void chunks(struct rig *r, const struct talk *t, uint32_t seq)
{
	static const uint32_t n[] = { 1, 8, 9, PROMPT - 18 };
	float row[VOCAB];
	struct work w;
	uint32_t k;

	for (k = 0; k < 4; k++) {
		work_init(&w);
		tell(r, &w, seq, t, n[k], 1);
		run(&r->gpu, &w);
	}
	hear(r, 0, row);
	same_row(r, row, t->row[0], "chunks");
	work_init(&w);
	tell(r, &w, seq, t, SAID, SAID);
	run(&r->gpu, &w);
	for (k = 0; k < SAID; k++) {
		hear(r, k, row);
		same_row(r, row, t->row[1 + k], "computed again");
	}
}

/* With sequence @other in the same steps, of which no word is a prompt: its
 * answers are the CPU's; and one of which all are. */
static void together(struct rig *r, const struct talk *t, uint32_t seq,
		     uint32_t other, uint32_t third)
{
	static const uint32_t n[] = { 30, PROMPT - 30, 1, 1, 1 };
	static const uint32_t n_other[] = { 10, 1, 9, 1, 2 };
	float row[VOCAB];
	struct work w, o;
	uint32_t k;

	for (k = 0; k < 5; k++) {
		work_init(&w);
		add(r, &w, other, n_other[k], 1);
		o = w;
		o.b.tokens = o.tokens;
		o.b.out_rows = o.out;
		o.b.seqs = o.seqs;
		tell(r, &w, seq, t, n[k], 1);
		add(r, &w, third, 1 + 4 * k, 1);
		w.seqs[2].prompt = true;
		run(&r->gpu, &w);
		hear(r, 0, row);
		ck_assert_int_eq(r->cpu.ops->step(r->cpu.m, &o.b), 0);
		same_row(r, row, o.b.logits, "exact beside prompts");
		hear(r, 1, row);
		if (k)
			same_row(r, row, t->row[k - 1], "together");
	}
}

START_TEST(independent)
{
	struct talk t;
	struct rig r;

	open_rig(&r, _i, true);
	talk_init(&r, &t);
	alone(&r, &t, 0);
	chunks(&r, &t, 1);
	together(&r, &t, 2, 3, 4);
	rig_close(&r);
}
END_TEST

/* ------------------------------------------------------------------ others */

/* A prompt before what is none is no batch. */
START_TEST(order)
{
	struct batch b;
	struct work w;
	struct rig r;

	open_rig(&r, 0, true);
	work_init(&w);
	add(&r, &w, 0, 3, 1);
	add(&r, &w, 1, 1, 1);
	w.seqs[0].prompt = true;
	b = w.b;
	ck_assert_int_eq(r.gpu.ops->step(r.gpu.m, &b), -EINVAL);
	ck_assert_int_eq(r.cpu.ops->step(r.cpu.m, &b), -EINVAL);
	rig_close(&r);
}
END_TEST

/* A GPU that there is no such kernel for has the CPU's bits. */
START_TEST(other_chip)
{
	struct work w;
	struct rig r;

	ck_assert_int_eq(setenv("CUDASIM_ATTR", "75=8,76=9", 1), 0);
	open_rig(&r, 0, true);
	ck_assert(!r.gpu.m->plan.near);
	work_init(&w);
	add(&r, &w, 0, 30, 1);
	w.seqs[0].prompt = true;
	step(&r, &w.b);
	rig_close(&r);
}
END_TEST

int main(void)
{
	const int n_models = sizeof(models) / sizeof(models[0]);
	const bool whole = getenv("HEARTH_LONG") != NULL;
	Suite *s = suite_create("cuda_prompts");
	TCase *t = tcase_create("cuda_prompts");
	TCase *sim = tcase_create("simulated");
	SRunner *r;
	int failed;

	if (cu_codes[0].begin == cu_codes[0].end) {
		puts("built without a CUDA compiler");
		return 77;
	}
	tcase_set_timeout(t, 240);
	tcase_add_loop_test(t, near, 0, SANITIZE ? 1 : n_models);
	tcase_add_test(t, exact);
	tcase_add_loop_test(t, independent, 0, whole ? n_models : !SANITIZE);
	tcase_add_test(t, order);
	suite_add_tcase(s, t);
	tcase_set_timeout(sim, 240);
	tcase_add_test(sim, other_chip);
	suite_add_tcase(s, sim);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
