/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_mm.c - products for many tokens on the device: each format, tile
 * and epilogue gives the bits of plain C.
 */
#include <errno.h>

#include "cuda_mul.h"

/* Edges of tiles, of stages and of rings, in both. */
START_TEST(formats)
{
	static const struct {
		uint32_t n, rows, cols;
		uint8_t weights, acts, bias, add;
	} t[] = {
		{ 9, 16, 256, W_RANDOM, A_NORMAL, 0, 0 },
		{ 16, 130, 768, W_SATURATED, A_SATURATED, 1, 0 },
		{ 33, 40, 512, W_NORMAL, A_OUTLIER, 0, 1 },
		{ 70, 40, 768, W_RANDOM, A_NORMAL, 1, 1 },
		{ 70, 16, 256, W_WILD, A_TINY, 0, 0 },
		{ 33, 130, 288, W_RANDOM, A_WILD, 0, 0 },
		{ 9, 40, 64, W_SATURATED, A_NORMAL, 0, 1 },
	};
	enum fmt f = (enum fmt)_i;
	char what[64];
	uint32_t i;

	start(1 + _i % 2);
	for (i = 0; i < COUNT(t); i++) {
		struct job j = { 0 };
		uint32_t cols = wide(f, t[i].cols);

		if (!cols)
			continue;
		snprintf(what, sizeof(what), "%s, case %u", fmt_info[f].name,
			 i);
		matrix(&j, f, (enum weights)t[i].weights, t[i].rows, cols,
		       t[i].bias);
		input(&j, mat_wants_q8(f) ? CU_IN_ACT : CU_IN_FLOAT,
		      (enum acts)t[i].acts, t[i].n, cols);
		products(&j, t[i].add);
		run_job(&j, what);
	}
}
END_TEST

/* Large tiles, which one multiprocessor is given. */
START_TEST(wide_tiles)
{
	static const struct {
		uint32_t n, rows, cols;
		uint8_t weights, acts, bias;
	} t[] = {
		{ 70, 120, 256, W_SATURATED, A_SATURATED, 1 },
		{ 128, 128, 352, W_RANDOM, A_OUTLIER, 0 },
	};
	enum fmt f = (enum fmt)_i;
	struct cu_launch l;
	char what[64];
	uint32_t i;

	start(1 + _i % 2);
	chip.sms = 1;
	for (i = 0; i < COUNT(t); i++) {
		struct job j = { 0 };
		uint32_t cols = wide(f, t[i].cols);

		snprintf(what, sizeof(what), "%s, wide %u", fmt_info[f].name,
			 i);
		matrix(&j, f, (enum weights)t[i].weights, t[i].rows, cols,
		       t[i].bias);
		input(&j, CU_IN_ACT, (enum acts)t[i].acts, t[i].n, cols);
		products(&j, i);
		ck_assert_int_eq(cu_launch_mul(&l, &j.p, &chip), 1);
		ck_assert_msg(strstr(cu_kernels[l.kernel].name, "wide"),
			      "%s: %s", what, cu_kernels[l.kernel].name);
		run_job(&j, what);
	}
}
END_TEST

/* Queries, keys and values. */
START_TEST(three)
{
	static const enum fmt f[2][3] = { { FMT_Q4_K, FMT_Q8_0, FMT_Q6_K },
					  { FMT_F16, FMT_BF16, FMT_F16 } };
	struct job j = { 0 };

	start(1 + _i);
	matrix(&j, f[_i][0], W_NORMAL, 72, 512, true);
	matrix(&j, f[_i][1], W_NORMAL, 33, 512, false);
	matrix(&j, f[_i][2], W_NORMAL, 16, 512, true);
	input(&j, _i ? CU_IN_FLOAT : CU_IN_ACT, A_NORMAL, 11, 512);
	products(&j, false);
	run_job(&j, "three");
}
END_TEST

/* What one kernel writes and the next, begun early, reads: a product, which is
 * quantised, and another, to which it is added. */
START_TEST(one_after_the_other)
{
	static const enum fmt f[2][2] = { { FMT_Q4_K, FMT_Q6_K },
					  { FMT_BF16, FMT_F32 } };
	struct job a = { 0 }, b = { 0 };
	struct cu_launch l[3];
	bool quant = _i & 1;
	struct cu_quant q;
	uint32_t t;
	int n = 0;

	start(1 + _i);
	matrix(&a, f[!quant][0], W_NORMAL, 256, 256, false);
	input(&a, quant ? CU_IN_ACT : CU_IN_FLOAT, A_NORMAL, 20, 256);
	products(&a, false);
	matrix(&b, f[!quant][1], W_NORMAL, 48, 256, false);
	input(&b, quant ? CU_IN_ACT : CU_IN_FLOAT, A_NORMAL, 20, 256);
	memcpy(b.x, a.want[0], 4 * 20 * 256);
	for (t = 0; quant && t < 20; t++)
		mk.act_quant(&b.in, t, b.x + t * 256);
	products(&b, true);
	b.p.x = a.p.out[0];
	n += cu_launch_mul(&l[n], &a.p, &chip);
	q = (struct cu_quant){ a.p.out[0], (void *)(uintptr_t)b.p.act, 256,
			       20 };
	if (quant)
		n += cu_launch_quant(&l[n], &q, &chip);
	n += cu_launch_mul(&l[n], &b.p, &chip);
	ck_assert_int_eq(n, 2 + quant);
	ck_assert(l[n - 1].pdl);
	cuda_run(l, n);
	dev_same(b.p.out[0], b.want[0], 20 * 48, "the second");
}
END_TEST

START_TEST(refused)
{
	struct cu_chip h100 = { .cc = 90, .sms = 132, .smem = 232448 };
	struct cu_mul good = { .m = { { .rows = 48,
					.cols = 256,
					.fmt = FMT_Q4_K } },
			       .n = 9,
			       .n_mats = 1,
			       .in = CU_IN_ACT },
		      p = good;
	struct cu_launch l[CU_MATS];

	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), 1);
	p.in = CU_IN_FLOAT;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), -ENOTSUP);
	p.m[0].fmt = FMT_F16;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), 1);
	p.in = CU_IN_ACT;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), -ENOTSUP);
	p = good;
	p.glu = 1;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), -ENOTSUP);
	p = good;
	p.m[0].cols = 288;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), -ENOTSUP);
	p = good;
	h100.smem = 4096;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), -ENOTSUP);
	p.m[0].fmt = FMT_F32;
	p.in = CU_IN_FLOAT;
	ck_assert_int_eq(cu_launch_mul(l, &p, &h100), -ENOTSUP);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda mm");
	TCase *t = tcase_create("mm");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, formats, 0, FMT_N);
	tcase_add_loop_test(t, wide_tiles, FMT_Q4_0, FMT_N);
	tcase_add_loop_test(t, three, 0, 2);
	tcase_add_loop_test(t, one_after_the_other, 0, 4);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	return cuda_main(s);
}
