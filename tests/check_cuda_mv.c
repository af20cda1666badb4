/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_mv.c - products for few tokens on the device: each format, input
 * and epilogue gives the bits of plain C.
 */
#include <errno.h>

#include "cuda_mul.h"

static void gated(struct job *j, enum vec_act act, bool want_out, bool want_act)
{
	uint32_t rows = j->m[0].host.rows, n = j->p.n;

	j->p.glu = (uint8_t)(1 + act);
	products(j, false);
	vk.glu[act](j->want[0], j->want[0], j->want[1], n * rows);
	if (want_out)
		j->p.out[0] = dev_room(4ul * n * rows);
	if (!want_act)
		return;
	j->want_act = quantised(j->want[0], n, rows);
	j->p.act_out = dev_room(act_bytes(n, rows));
}

/* Each format, number of tokens and input, plain, with bias or with addition;
 * tiles, panels and chunks end early. */
START_TEST(formats)
{
	static const uint32_t tokens[] = { 1, 2, 3, 8 };
	static const uint32_t rows[] = { 48, 33, 7, 16, 80 };
	static const uint32_t cols[] = { 256, 800, 512, 1280, 32, 544, 1024 };
	enum fmt f = (enum fmt)_i;
	uint32_t i;

	start(1 + _i);
	rng_state = seed = (uint64_t)_i;
	for (i = 0; i < COUNT(tokens) * 3 * 4; i++) {
		enum cu_in in = (enum cu_in)(i / 4 % 3);
		struct job j = { 0 };
		uint32_t n = tokens[i / 12], c = cols[i % COUNT(cols)];
		char what[64];

		c = c < fmt_info[f].block ? fmt_info[f].block : wide(f, c);
		if (!mat_wants_q8(f) && in == CU_IN_ACT)
			in = CU_IN_FLOAT;
		snprintf(what, sizeof(what), "%s, case %u", fmt_info[f].name,
			 i);
		matrix(&j, f, (enum weights)(i % W_N), rows[i % COUNT(rows)], c,
		       i % 4 == 1);
		input(&j, in, (enum acts)((i + i / 12) % A_N), n, c);
		products(&j, i % 4 >= 2);
		run_job(&j, what);
	}
}
END_TEST

/* A gate and what it is multiplied with, of one format or two, as floats and
 * quantised. Blocks take several tiles. */
START_TEST(gates)
{
	static const struct {
		enum fmt f[2];
		uint32_t n, rows;
		uint8_t in, act;
		bool out, quant, bias;
	} t[] = {
		{ { FMT_Q4_K, FMT_Q6_K }, 1, 160, CU_IN_NORM, 0, 0, 1, 0 },
		{ { FMT_Q4_0, FMT_Q4_0 }, 2, 40, CU_IN_ACT, 1, 1, 0, 1 },
		{ { FMT_Q8_0, FMT_Q2_K }, 5, 64, CU_IN_NORM, 1, 1, 1, 1 },
		{ { FMT_F16, FMT_BF16 }, 1, 64, CU_IN_NORM, 0, 1, 1, 1 },
		{ { FMT_BF16, FMT_BF16 }, 7, 32, CU_IN_FLOAT, 1, 0, 1, 0 },
	};
	uint32_t i = (uint32_t)_i % COUNT(t);
	struct job j = { 0 };
	char what[64];

	setenv("CUDASIM_SMS", "1", 1);
	start(1 + _i);
	chip.sms = 1;
	snprintf(what, sizeof(what), "gate %u, seed %d", i, 1 + _i);
	matrix(&j, t[i].f[0], W_NORMAL, t[i].rows, 768, t[i].bias);
	matrix(&j, t[i].f[1], W_NORMAL, t[i].rows, 768, t[i].bias);
	input(&j, (enum cu_in)t[i].in, A_NORMAL, t[i].n, 768);
	gated(&j, (enum vec_act)t[i].act, t[i].out, t[i].quant);
	run_job(&j, what);
}
END_TEST

/* Queries, keys and values: three matrices, several tiles a block, and a chunk
 * that ends early. */
START_TEST(three)
{
	static const uint32_t tokens[] = { 1, 2, 4, 8 };
	uint32_t n = tokens[_i % 4];
	struct job j = { 0 };
	char what[64];

	setenv("CUDASIM_SMS", "1", 1);
	start(1 + _i);
	snprintf(what, sizeof(what), "three, %u tokens, seed %d", n, 1 + _i);
	matrix(&j, FMT_Q4_K, W_RANDOM, 144, 1280, true);
	matrix(&j, _i & 1 ? FMT_Q4_K : FMT_Q5_1, W_RANDOM, 33, 1280, false);
	matrix(&j, FMT_Q6_K, W_RANDOM, 16, 1280, true);
	input(&j, CU_IN_NORM, A_NORMAL, n, 1280);
	products(&j, false);
	run_job(&j, what);
}
END_TEST

/* Without room for the input in shared memory it is read where it is, or, if
 * each block would have to prepare it, refused. */
START_TEST(little_room)
{
	enum fmt f = _i & 1 ? FMT_Q5_K : FMT_F16;
	uint32_t n = (uint32_t[]){ 1, 2, 6 }[_i / 2];
	struct job j = { 0 };
	struct cu_launch l;

	start(1);
	matrix(&j, f, W_NORMAL, 20, 512, false);
	input(&j, _i & 1 ? CU_IN_ACT : CU_IN_FLOAT, A_NORMAL, n, 512);
	products(&j, true);
	ck_assert_int_eq(cu_launch_mul(&l, &j.p, &chip), 1);
	chip.smem = l.smem - 1;
	j.p.in = CU_IN_NORM;
	ck_assert(!cu_mul_fits(&j.p, &chip));
	ck_assert_int_eq(cu_launch_mul(&l, &j.p, &chip), -ENOTSUP);
	j.p.in = _i & 1 ? CU_IN_ACT : CU_IN_FLOAT;
	run_job(&j, "little room");
}
END_TEST

/* What one kernel writes and the next, begun early, reads. */
START_TEST(one_after_the_other)
{
	static const enum fmt f[2][2] = { { FMT_Q4_K, FMT_Q6_K },
					  { FMT_F16, FMT_BF16 } };
	struct job a = { 0 }, b = { 0 };
	struct cu_launch l[2];
	bool quant = _i & 1;

	start(1 + _i);
	matrix(&a, f[!quant][0], W_NORMAL, 256, 512, false);
	matrix(&a, f[!quant][1], W_NORMAL, 256, 512, false);
	input(&a, CU_IN_NORM, A_NORMAL, 2, 512);
	gated(&a, VEC_SILU, !quant, quant);
	matrix(&b, f[!quant][1], W_NORMAL, 64, 256, false);
	input(&b, quant ? CU_IN_ACT : CU_IN_FLOAT, A_NORMAL, 2, 256);
	memcpy(b.x, a.want[0], 4 * 2 * 256);
	if (quant) {
		mk.act_quant(&b.in, 0, b.x);
		mk.act_quant(&b.in, 1, b.x + 256);
	}
	products(&b, true);
	b.p.act = a.p.act_out;
	b.p.x = a.p.out[0];
	ck_assert_int_eq(cu_launch_mul(&l[0], &a.p, &chip), 1);
	ck_assert_int_eq(cu_launch_mul(&l[1], &b.p, &chip), 1);
	ck_assert(l[1].pdl);
	cuda_run(l, 2);
	dev_same(b.p.out[0], b.want[0], 2 * 64, "the second");
}
END_TEST

START_TEST(refused)
{
	struct cu_chip h100 = { .cc = 90, .sms = 132, .smem = 232448 };
	struct cu_mul p = { .m = { { .rows = 48, .cols = 256 },
				   { .rows = 48, .cols = 256 } },
			    .act_out = (struct act_block *)64,
			    .n = 1,
			    .n_mats = 2,
			    .in = CU_IN_FLOAT,
			    .glu = 1 };
	struct cu_launch l;

	/* a block of activations would be split between tiles */
	ck_assert_int_eq(cu_launch_mul(&l, &p, &h100), -ENOTSUP);
	p.act_out = NULL;
	ck_assert_int_eq(cu_launch_mul(&l, &p, &h100), 1);
	ck_assert_uint_eq(l.grid[0], 2);
	p.m[0].cols = p.m[1].cols = 48;
	ck_assert_int_eq(cu_launch_mul(&l, &p, &h100), -ENOTSUP);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda mv");
	TCase *t = tcase_create("mv");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, formats, 0, FMT_N);
	tcase_add_loop_test(t, gates, 0, 10);
	tcase_add_loop_test(t, three, 0, 6);
	tcase_add_loop_test(t, little_room, 0, 6);
	tcase_add_loop_test(t, one_after_the_other, 0, 6);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	return cuda_main(s);
}
