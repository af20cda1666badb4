/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_upload.c - weights on their way up while steps begin, in the
 * simulator: the bits are the CPU's, each launch waits for what it reads, what
 * is given up or fails in the middle leaves nothing.
 */
#ifdef HEARTH_SANITIZE
#include <sanitizer/lsan_interface.h>
#endif

#include "cuda_backend_rig.h"

#define PIECE 2048

/* No copy from registered memory is begun until that call. */
static void hold(const char *call)
{
	setenv("CUDASIM_HOLD", call, 1);
}

static void small(uint32_t arch, enum fmt f, uint32_t n_layer, struct rig *r)
{
	struct image_hparams hp = tiny_hparams(arch);

	hp.n_layer = n_layer;
	rig_piece = PIECE;
	rig_open(r, &hp, f);
}

/* Steps of all kinds, whatever was before. */
static void run_more(struct rig *r)
{
	struct work w;

	one(r, 1, 5, 2);
	work_init(&w);
	add(r, &w, 0, 1, 1);
	add(r, &w, 1, 2, 1);
	step(r, &w.b);
}

/* What a step of one token launches, and what each needs. */
static int list(struct rig *r)
{
	struct backend_model *m = r->gpu.m;
	const struct cuda_key key = {
		.n = 1, .n_exact = 1, .n_out = 1, .n_logits = 1, .spans = 1
	};

	return cuda_list(m, &key, 1, m->list);
}

/* All launches of a first step are there before the first copy is; then there
 * are graphs, and the host memory is given back. */
START_TEST(overlaps)
{
	const struct backend_model *m;
	char call[64];
	struct rig r;
	int n, i;

	hold("cuLaunchKernelEx#1000");
	small(ARCH_qwen3, FMT_Q4_K, 2, &r);
	m = r.gpu.m;
	ck_assert_uint_eq(m->up.done, 0);
	ck_assert_uint_eq(m->up.queued, m->up.bytes);
	ck_assert_uint_gt(m->up.n_copies, 50);
	ck_assert_uint_gt(m->up.n_pins, 1);
	n = list(&r);
	ck_assert_int_gt(n, 5);
	/* It goes up as they need it, in more than one go. */
	ck_assert_uint_lt(m->need[0], m->up.bytes / 2);
	ck_assert_uint_eq(m->need[n - 1], m->up.bytes);
	for (i = 1; i < n; i++)
		ck_assert_uint_ge(m->need[i], m->need[i - 1]);
	snprintf(call, sizeof(call), "cuLaunchKernelEx#%d", n);
	hold(call);
	one(&r, 0, 1, 1);
	ck_assert_uint_eq(m->up.done, m->up.bytes);
	ck_assert_uint_eq(m->n_captured, 0);
	for (i = 0; i < 40 && m->up.base; i++)
		one(&r, i % 2, 1, 1);
	ck_assert_ptr_null(m->up.base);
	ck_assert_uint_eq(m->w.object.bytes, 0);
	ck_assert_uint_eq(m->n_captured, 1);
	rig_close(&r);
}
END_TEST

/* A first step of many tokens, one without outputs, one of several sequences. */
static const struct first {
	uint32_t arch;
	enum fmt f;
	uint32_t n;
	uint32_t n_out;
} firsts[] = {
	{ ARCH_llama, FMT_Q4_0, 33, 1 },
	{ ARCH_gemma3, FMT_Q8_0, 20, 0 },
	{ ARCH_llama, FMT_F32, 2, 0 },
	{ ARCH_gemma3, FMT_BF16, 8, 3 },
};

START_TEST(first_steps)
{
	const struct first *f = &firsts[_i];
	struct rig r;

	hold("cuLaunchKernelEx#4");
	small(f->arch, f->f, 1, &r);
	ck_assert_uint_eq(r.gpu.m->up.done, 0);
	one(&r, 0, f->n, f->n_out);
	run_more(&r);
	rig_close(&r);
}
END_TEST

/* The @which-th launch that needs more than the one before it by a copy. */
static int later(const struct backend_model *m, int n, int which)
{
	int i;

	for (i = 1; i < n; i++)
		if (m->need[i] > m->need[i - 1] + 2 * PIECE && !which--)
			return i;
	return -1;
}

#define PLANTS 5

/* A launch that does not wait for all that it reads is found. */
START_TEST(planted)
{
	struct backend_model *m;
	uint64_t need;
	uint32_t t;
	char call[64];
	struct work w;
	struct rig r;
	int n, i;

#ifdef HEARTH_SANITIZE
	__lsan_disable(); /* a driver that is lost takes nothing back */
#endif
	hold("cuLaunchKernelEx#1000");
	small(ARCH_qwen3, FMT_Q8_0, 2, &r);
	m = r.gpu.m;
	n = list(&r);
	i = later(m, n, _i);
	ck_assert_int_gt(i, 0);
	need = m->need[i];
	for (t = 0; t < m->w.n; t++)
		if (m->w.end[t] > m->need[i - 1] && m->w.end[t] <= need)
			m->w.end[t] = m->need[i - 1];
	snprintf(call, sizeof(call), "cuLaunchKernelEx#%d", i + 1);
	hold(call);
	work_init(&w);
	add(&r, &w, 0, 1, 1);
	ck_assert_int_eq(r.gpu.ops->step(m, &w.b), -ENODEV);
	ck_assert_msg(strstr(m->be->dev.why, "CUDA_ERROR_ILLEGAL_ADDRESS") !=
			      NULL,
		      "%s", m->be->dev.why);
	rig_close(&r);
}
END_TEST

/* Nothing of a model is left. */
static void nothing(const struct rig *r)
{
	ck_assert_uint_eq(r->gpu.be->dev.total.now, 0);
	ck_assert_uint_eq(r->gpu.be->dev.pinned.now, 0);
}

/* Who unloads it waits for the copies that are under way. */
START_TEST(unloaded)
{
	struct rig r;
	char why[160];

	hold("cuEventSynchronize#1");
	small(ARCH_llama, FMT_Q8_0, 1, &r);
	ck_assert_uint_eq(r.gpu.m->up.done, 0);
	r.gpu.ops->unload(r.gpu.be, r.gpu.m);
	nothing(&r);
	ck_assert(!r.gpu.be->dev.lost);
	ck_assert_msg(!side_load(&r.gpu, &r.t, why), "%s", why);
	ck_assert_int_eq(r.gpu.ops->kv_alloc(r.gpu.m, MAX_SEQS * BLOCKS), 0);
	one(&r, 0, 3, 1);
	rig_close(&r);
}
END_TEST

/* While a second model is on its way, what the first came from is not given
 * back: the driver might wait. */
START_TEST(two)
{
	struct backend_model *m, *second;
	uint32_t n_pins;
	struct rig r;
	char why[160];
	int i;

	small(ARCH_llama, FMT_Q8_0, 1, &r);
	m = r.gpu.m;
	one(&r, 0, 1, 1);
	n_pins = m->up.n_pins;
	ck_assert_uint_gt(n_pins, 0);
	hold("cuLaunchKernelEx#1000");
	ck_assert_msg(!side_load(&r.gpu, &r.t, why), "%s", why);
	ck_assert_uint_eq(r.gpu.m->up.done, 0);
	second = r.gpu.m;
	r.gpu.m = m;
	one(&r, 0, 1, 1);
	one(&r, 1, 9, 1);
	ck_assert_uint_eq(m->up.n_pins, n_pins);
	hold("");
	for (i = 0; i < 100 && m->up.base; i++)
		one(&r, i % 2, 1, 1);
	ck_assert_ptr_null(m->up.base);
	r.gpu.ops->unload(r.gpu.be, second);
	rig_close(&r);
}
END_TEST

/* What fails in a load, at which pieces were on their way. */
static const struct failure {
	const char *plan;
	int rc;
} failures[] = {
	{ "cuMemcpyHtoDAsync#7:OUT_OF_MEMORY", -ENOMEM },
	{ "cuEventRecord#9:OUT_OF_MEMORY", -ENOMEM },
	{ "cuEventCreate#20:OUT_OF_MEMORY", -ENOMEM },
	{ "cuMemHostRegister#2:OUT_OF_MEMORY", 0 },
	{ "cuMemHostRegister#1:OUT_OF_MEMORY,cuMemHostAlloc#4:OUT_OF_MEMORY",
	  -ENOMEM },
	{ "cuMemcpyHtoDAsync#7:lost", -ENODEV },
	{ "cuMemHostRegister#2:lost", -ENODEV },
};

START_TEST(fails)
{
	const struct failure *f = &failures[_i];
	struct rig r;
	char why[160] = "";
	int rc;

#ifdef HEARTH_SANITIZE
	if (f->rc == -ENODEV)
		__lsan_disable();
#endif
	small(ARCH_llama, FMT_Q8_0, 1, &r);
	r.gpu.ops->unload(r.gpu.be, r.gpu.m);
	setenv("CUDASIM_FAIL", f->plan, 1);
	rc = side_load(&r.gpu, &r.t, why);
	ck_assert_msg(rc == f->rc, "%d: %s", rc, why);
	if (rc)
		nothing(&r);
	if (rc == -ENODEV)
		return;
	unsetenv("CUDASIM_FAIL");
	ck_assert_msg(!rc || !side_load(&r.gpu, &r.t, why), "%s", why);
	ck_assert_int_eq(r.gpu.ops->kv_alloc(r.gpu.m, MAX_SEQS * BLOCKS), 0);
	one(&r, 0, 3, 1);
	rig_close(&r);
}
END_TEST

int main(void)
{
	const int all = getenv("HEARTH_LONG") != NULL;
	const int n_plants = SANITIZE ? 1 : all ? PLANTS : 3;
	const int n_failures =
		SANITIZE ? 4 : sizeof(failures) / sizeof(failures[0]);
	const int n_firsts = all	? sizeof(firsts) / sizeof(firsts[0])
			     : SANITIZE ? 1
					: 2;
	Suite *s = suite_create("cuda_upload");
	TCase *t = tcase_create("cuda_upload");
	SRunner *r;
	int failed;

	if (cu_codes[0].begin == cu_codes[0].end) {
		puts("built without a CUDA compiler");
		return 77;
	}
	tcase_set_timeout(t, 60);
	tcase_add_test(t, overlaps);
	tcase_add_loop_test(t, first_steps, 0, n_firsts);
	tcase_add_loop_test(t, planted, 0, n_plants);
	tcase_add_test(t, unloaded);
	tcase_add_test(t, two);
	tcase_add_loop_test(t, fails, 0, n_failures);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
