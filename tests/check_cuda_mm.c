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

int main(void)
{
	Suite *s = suite_create("cuda mm");
	TCase *t = tcase_create("mm");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, formats, FMT_Q4_0, FMT_N);
	tcase_add_loop_test(t, wide_tiles, FMT_Q4_0, FMT_N);
	suite_add_tcase(s, t);
	return cuda_main(s);
}
