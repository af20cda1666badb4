/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_backend.c - tiny models through the CUDA backend, in the
 * simulator: logits and hidden states have the bits of the CPU backend's,
 * however the work is cut; sizes are what was said; failures are told.
 */
#ifdef HEARTH_SANITIZE
#include <sanitizer/lsan_interface.h>
#endif

#include "cuda_backend_rig.h"

/* ---------------------------------------------------------------- equality */

static const struct {
	uint32_t arch;
	enum fmt f;
} models[] = {
	{ ARCH_llama, FMT_Q4_0 },  { ARCH_qwen2, FMT_Q8_0 },
	{ ARCH_qwen3, FMT_Q4_K },  { ARCH_gemma3, FMT_Q6_K },
	{ ARCH_llama, FMT_F32 },   { ARCH_qwen3, FMT_F16 },
	{ ARCH_gemma3, FMT_BF16 },
};

/* Prompts in chunks, single tokens, several sequences, all in one. */
static void run_all(struct rig *r)
{
	struct work w;
	uint32_t i;

	one(r, 0, 1, 1);
	one(r, 0, 5, 5);
	one(r, 1, 33, 1);
	one(r, 1, 1, 1);
	one(r, 2, 8, 0);
	one(r, 2, 9, 9);
	for (i = 0; i < 2; i++) {
		work_init(&w);
		add(r, &w, 0, 1, 1);
		add(r, &w, 1, 1, 1);
		add(r, &w, 2, 2, 1);
		add(r, &w, 3, 3, 2);
		step(r, &w.b);
	}
	work_init(&w);
	add(r, &w, 4, 17, 0);
	add(r, &w, 1, 1, 1);
	add(r, &w, 3, 20, 3);
	w.b.n_logits = 1;
	step(r, &w.b);
}

START_TEST(equal)
{
	struct image_hparams hp = tiny_hparams(models[_i].arch);
	struct rig r;

	rig_open(&r, &hp, models[_i].f);
	run_all(&r);
	rig_close(&r);
}
END_TEST

/* Some layers here and some there, cut wherever. */
static const struct {
	uint32_t arch;
	enum fmt f;
	bool tied;
	int32_t gpu_layers;
} splits[] = {
	{ ARCH_llama, FMT_Q4_0, true, 1 },  { ARCH_qwen3, FMT_Q4_K, false, 1 },
	{ ARCH_gemma3, FMT_Q6_K, true, 1 }, { ARCH_gemma3, FMT_Q8_0, true, 2 },
	{ ARCH_gemma3, FMT_Q8_0, true, 3 }, { ARCH_llama, FMT_Q4_0, true, 0 },
};

START_TEST(split)
{
	struct image_hparams hp = tiny_hparams(splits[_i].arch);
	struct backend_info info, whole;
	char want[32];
	struct rig r;

	hp.tied = splits[_i].tied;
	rig_open_split(&r, &hp, splits[_i].f, splits[_i].gpu_layers);
	r.gpu.ops->info(r.gpu.m, &info);
	r.cpu.ops->info(r.cpu.m, &whole);
	ck_assert_uint_eq(info.kv_block_bytes, whole.kv_block_bytes);
	ck_assert_uint_eq(info.own_block_bytes,
			  whole.kv_block_bytes / hp.n_layer *
				  (uint32_t)splits[_i].gpu_layers);
	if (splits[_i].gpu_layers &&
	    (uint32_t)splits[_i].gpu_layers < hp.n_layer) {
		snprintf(want, sizeof(want), "cuda %d/%u, cpu",
			 splits[_i].gpu_layers, hp.n_layer);
		ck_assert_msg(!strncmp(info.text, want, strlen(want)), "%s",
			      info.text);
	}
	run_all(&r);
	rig_close(&r);
}
END_TEST

/* The layer in the middle alone is the GPU's: rows come to it and go from it. */
START_TEST(middle)
{
	struct image_hparams hp = tiny_hparams(ARCH_gemma3);
	const uint32_t n[] = { 1, 8, 33, 1, 3, 9 };
	struct side part[3] = { { .ops = &backend_cpu },
				{ .ops = &backend_cuda },
				{ .ops = &backend_cpu } };
	float x[MAX_TOKENS * 256];
	struct work w;
	struct batch b;
	struct rig r;
	size_t i;
	uint32_t k;

	ck_assert_uint_eq(hp.n_layer, 3);
	ck_assert_uint_eq(hp.n_embd, 256);
	rig_open_split(&r, &hp, FMT_Q8_0, 0);
	/* A thread has one device. */
	side_close(&r.gpu);
	r.gpu.ops = NULL;
	for (k = 0; k < 3; k++)
		part_open(&part[k], &r.t, k);
	for (i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
		work_init(&w);
		add(&r, &w, 0, n[i], 2);
		add(&r, &w, 1, 1, 1);
		b = w.b;
		b.x = x;
		ck_assert_int_eq(r.cpu.ops->step(r.cpu.m, &w.b), 0);
		for (k = 0; k < 3; k++)
			ck_assert_int_eq(part[k].ops->step(part[k].m, &b), 0);
		same(b.logits, w.b.logits, (size_t)b.n_logits * r.t.hp.n_vocab,
		     "logit", &b);
		same(b.hidden, w.b.hidden, (size_t)b.n_out * r.t.hp.n_embd,
		     "hidden", &b);
	}
	for (k = 0; k < 3; k++)
		side_close(&part[k]);
	rig_close(&r);
}
END_TEST

/* Beyond a span of attention, and beyond what is rotated at a time. */
START_TEST(spans)
{
	struct image_hparams hp = tiny_hparams(_i ? ARCH_gemma3 : ARCH_llama);
	struct rig r;
	uint32_t i;

	hp.n_layer = _i ? 2 : 1;
	hp.swa_period = 2;
	rig_open(&r, &hp, FMT_Q8_0);
	for (i = 0; i < 5; i++)
		one(&r, 0, MAX_TOKENS, 1);
	one(&r, 0, 15, 1);
	one(&r, 0, 3, 3);
	one(&r, 0, 1, 1);
	one(&r, 0, 17, 2);
	one(&r, 0, 2, 2);
	rig_close(&r);
}
END_TEST

/* A step like one before is replayed, and one that is not is captured. */
START_TEST(graphs)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	struct rig r;
	uint32_t i;

	hp.n_layer = 1;
	rig_open(&r, &hp, FMT_Q4_0);
	for (i = 0; i < 4; i++)
		one(&r, i % 2, 1, 1);
	ck_assert_uint_eq(r.gpu.m->n_captured, 1);
	one(&r, 0, 2, 1);
	one(&r, 0, 2, 2);
	one(&r, 1, 2, 2);
	ck_assert_uint_eq(r.gpu.m->n_captured, 3);
	one(&r, 1, 9, 1);
	ck_assert_uint_eq(r.gpu.m->n_captured, 3);
	/* The oldest makes room, and comes back. */
	for (i = 0; i < CUDA_GRAPHS; i++)
		r.gpu.m->graph[i].key.n_out += 100;
	one(&r, 0, 1, 1);
	ck_assert_uint_eq(r.gpu.m->n_captured, 4);
	rig_close(&r);
}
END_TEST

/* Launches that read little ask for weights, for nothing else and not for more
 * than they may, and the bits are the same. */
START_TEST(ahead)
{
	struct image_hparams hp = tiny_hparams(_i ? ARCH_gemma3 : ARCH_llama);
	const struct cuda_key key = {
		.n = 2, .n_exact = 2, .n_out = 1, .n_logits = 1, .spans = 1
	};
	struct backend_model *m;
	const struct cu_ahead *a;
	struct rig r;
	int i, k, n, asked = 0;

	conf.gpu_ahead = _i ? 100000 : 1 << 30;
	rig_open(&r, &hp, _i ? FMT_BF16 : FMT_Q4_0);
	m = r.gpu.m;
	ck_assert_uint_eq(m->be->ahead,
			  _i ? 100000 : m->be->dev.l2_bytes / 5 * 2);
	one(&r, 0, 5, 2);
	one(&r, 0, 1, 1);
	one(&r, 1, 2, 2);
	one(&r, 1, 9, 1);
	n = cuda_list(m, &key, 0, m->list);
	for (i = 0; i < n; i++) {
		const struct cu_launch *l = &m->list[i];
		uint64_t all = 0;

		a = l->kernel == CU_embed      ? &l->p.embed.ahead
		    : l->kernel == CU_rmsnorm  ? &l->p.norm.ahead
		    : l->kernel == CU_attn_few ? &l->p.attn.ahead
		    : l->kernel == CU_top      ? &l->p.top.ahead
					       : NULL;
		for (k = 0; a && k < CU_MATS && a->bytes[k]; k++) {
			const uint64_t at = (uintptr_t)a->from[k];

			ck_assert_uint_ge(at, m->weights.at);
			ck_assert_uint_le(at + a->bytes[k],
					  m->weights.at + m->plan.weight_bytes);
			all += a->bytes[k];
		}
		ck_assert_uint_le(all, m->be->ahead);
		asked += all > 0;
	}
	/* the embedding, each layer's attention, norms, the logits' rows */
	ck_assert_int_ge(asked, 2 + (int)hp.n_layer);
	rig_close(&r);
}
END_TEST

/* -------------------------------------------------------- sizes, failures */

/* What is said without a device is what it takes. */
START_TEST(sizes)
{
	struct image_hparams hp = tiny_hparams(ARCH_gemma3);
	struct cuda_context ctx;
	struct backend_info info;
	struct cuda_plan p;
	struct weights w;
	struct tape tape;
	const struct cu_dev *d;
	struct rig r;
	char why[160];

	rig_open(&r, &hp, FMT_Q4_K);
	ck_assert_int_eq(tape_build(&tape, &r.t.im, why), 0);
	ck_assert_int_eq(weights_measure(&w, &r.t.im, &tape, why), 0);
	ck_assert_int_eq(cuda_plan_build(&p, &r.t.im, &tape, &w, &conf, why),
			 0);
	cuda_plan_context(&p, MAX_SEQS * BLOCKS, &ctx);
	d = &r.gpu.be->dev;
	r.gpu.ops->info(r.gpu.m, &info);
	ck_assert_uint_eq(info.weight_bytes, w.bytes);
	ck_assert_uint_eq(info.scratch_bytes, p.scratch_bytes);
	ck_assert_uint_eq(d->bytes[CU_WEIGHTS].now, cu_arena_round(d, w.bytes));
	ck_assert_uint_eq(d->bytes[CU_SCRATCH].now,
			  cu_arena_round(d, p.scratch_bytes) +
				  cu_arena_round(d, ctx.bytes));
	ck_assert_uint_eq(
		d->bytes[CU_KV].now,
		cu_arena_round(d, info.kv_block_bytes * MAX_SEQS * BLOCKS));
	ck_assert_uint_gt(info.kv_budget, info.kv_block_bytes);
	ck_assert_uint_lt(info.kv_budget, d->vram_bytes);
	r.gpu.ops->unload(r.gpu.be, r.gpu.m);
	ck_assert_uint_eq(d->total.now, 0);
	ck_assert_uint_eq(d->pinned.now, 0);
	ck_assert(!side_load(&r.gpu, &r.t, why));
	cuda_plan_free(&p);
	weights_free(&w);
	rig_close(&r);
}
END_TEST

/* All of a cache that is said to fit does. */
START_TEST(budget)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	struct backend_info info;
	struct side s = { .ops = &backend_cuda };
	uint64_t left = 0;
	struct tiny t;
	char why[160];

	ck_assert_int_eq(setenv("CUDASIM_MEM", "268435456", 1), 0);
	open_driver();
	tiny_make(&t, &hp, FMT_Q8_0, 1);
	ck_assert_int_eq(s.ops->open(&s.be, &conf), 0);
	ck_assert_msg(!side_load(&s, &t, why), "%s", why);
	s.ops->info(s.m, &info);
	ck_assert_int_eq(s.ops->kv_alloc(s.m, (uint32_t)(info.kv_budget /
							 info.kv_block_bytes)),
			 0);
	ck_assert_int_eq(cu_dev_left(&s.be->dev, &left), 0);
	ck_assert_uint_ge(left, cuda_margin(s.be->dev.vram_bytes));
	ck_assert_uint_le(left, cuda_margin(s.be->dev.vram_bytes) + (16 << 20));
	side_close(&s);
	tiny_free(&t);
}
END_TEST

START_TEST(no_room)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	struct side s = { .ops = &backend_cuda };
	struct tiny t;
	char why[160] = "";

	ck_assert_int_eq(setenv("CUDASIM_MEM", "139000000", 1), 0);
	open_driver();
	tiny_make(&t, &hp, FMT_Q8_0, 1);
	ck_assert_int_eq(s.ops->open(&s.be, &conf), 0);
	ck_assert_int_eq(side_load(&s, &t, why), -ENOMEM);
	ck_assert_msg(strstr(why, "needs ") && strstr(why, " are free"), "%s",
		      why);
	ck_assert_uint_eq(s.be->dev.total.now, 0);
	s.ops->close(s.be);
	tiny_free(&t);
}
END_TEST

/* A batch that is none is refused, and nothing is done. */
START_TEST(refused)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	struct work w;
	struct rig r;

	hp.n_layer = 1;
	rig_open(&r, &hp, FMT_Q8_0);
	work_init(&w);
	add(&r, &w, 0, 2, 1);
	w.tokens[1] = hp.n_vocab;
	ck_assert_int_eq(r.gpu.ops->step(r.gpu.m, &w.b), -EINVAL);
	w.tokens[1] = 1;
	w.out[0] = 2;
	ck_assert_int_eq(r.gpu.ops->step(r.gpu.m, &w.b), -EINVAL);
	w.out[0] = 1;
	w.n_picks[0] = BATCH_PICKS + 1;
	ck_assert_int_eq(r.gpu.ops->step(r.gpu.m, &w.b), -EINVAL);
	w.n_picks[0] = 2;
	w.picks[1] = hp.n_vocab;
	ck_assert_int_eq(r.gpu.ops->step(r.gpu.m, &w.b), -EINVAL);
	w.picks[1] = 0;
	step(&r, &w.b);
	rig_close(&r);
}
END_TEST

static const char *const losses[] = {
	"cuMemcpyHtoDAsync#9:lost",
	"cuGraphLaunch#2:lost",
	"cuLaunchKernelEx#3:OUT_OF_MEMORY",
	"cuEventRecord#3:ILLEGAL_ADDRESS",
	"cuGraphInstantiateWithFlags#1:INVALID_VALUE",
	"cuMemcpyDtoHAsync#3:lost", /* two are of the graph */
};

/* Whatever fails in a step: the device is done with, and the rest can be
 * given back. */
START_TEST(lost)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	struct work w;
	struct rig r;
	int i, rc = 0;
	float *x;

	hp.n_layer = 1;
#ifdef HEARTH_SANITIZE
	__lsan_disable(); /* a driver that is lost takes nothing back */
#endif
	ck_assert_int_eq(setenv("CUDASIM_FAIL", losses[_i], 1), 0);
	rig_open(&r, &hp, FMT_Q8_0);
	for (i = 0; i < 12 && !rc; i++) {
		work_init(&w);
		add(&r, &w, 0, 1, 1);
		rc = r.gpu.ops->step(r.gpu.m, &w.b);
		if (!rc)
			rc = r.gpu.ops->logits(r.gpu.m, 0, &x);
	}
	ck_assert_int_eq(rc, -ENODEV);
	rig_close(&r);
}
END_TEST

int main(void)
{
	/* The kernels' arithmetic is the same when the simulator is slow. */
	const int n_models = SANITIZE ? 1 : sizeof(models) / sizeof(models[0]);
	const int n_splits = SANITIZE ? 2 : sizeof(splits) / sizeof(splits[0]);
	const int n_losses = sizeof(losses) / sizeof(losses[0]);
	Suite *s = suite_create("cuda_backend");
	TCase *t = tcase_create("cuda_backend");
	TCase *sim =
		tcase_create("simulated"); /* what no chip does when told */
	SRunner *r;
	int failed;

	if (cu_codes[0].begin == cu_codes[0].end) {
		puts("built without a CUDA compiler");
		return 77;
	}
	tcase_set_timeout(t, 240);
	tcase_add_loop_test(t, equal, 0, n_models);
	tcase_add_loop_test(t, split, 0, n_splits);
	tcase_add_test(t, middle);
	tcase_add_loop_test(t, spans, SANITIZE, 2);
	tcase_add_test(t, graphs);
	tcase_add_loop_test(t, ahead, 0, 2);
	tcase_add_test(t, sizes);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	tcase_set_timeout(sim, 240);
	tcase_add_test(sim, budget);
	tcase_add_test(sim, no_room);
	tcase_add_loop_test(sim, lost, 0, n_losses);
	suite_add_tcase(s, sim);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
