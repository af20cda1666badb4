/* SPDX-License-Identifier: MIT */
/* check_cuda_vec.c - CUDA kernels of rows give the bits of plain C. */
#include <errno.h>

#include "../kernels/vec.h"
#include "cuda_rig.h"

static struct mat_kernels mk;
static struct vec_kernels vk;

static void begin(int with_seed)
{
	seed = (uint64_t)with_seed;
	rng_state = seed;
	mat_kernels_init(&mk, CPU_C);
	vec_kernels_init(&vk, CPU_C);
	cuda_open(with_seed);
}

/* @n rows of values of different kinds, one after the other. */
static float *rows(size_t width, size_t n)
{
	float *x = guarded(n * width * sizeof(*x));
	size_t i;

	for (i = 0; i < n; i++)
		fill_acts((enum acts)(rnd() % A_N), x + i * width, width);
	return x;
}

static struct act_block *quantised(const float *x, uint32_t width, uint32_t n)
{
	struct act_block *b = guarded(n * act_bytes(1, width));
	struct act a;
	uint32_t t;

	for (t = 0; t < n; t++) {
		act_init(&a, 1, width, b + t * (width / ACT_BLOCK));
		mk.act_quant(&a, 0, x + (size_t)t * width);
	}
	return b;
}

/* The rows @y of a kernel's result, and quantised. */
static void is(const float *out, const struct act_block *act, const float *y,
	       uint32_t width, uint32_t n, const char *what)
{
	size_t blocks = (size_t)n * (width / ACT_BLOCK);
	struct act_block *b;

	if (out)
		dev_same(out, y, (size_t)n * width, what);
	if (!act)
		return;
	b = quantised(y, width, n);
	dev_same_act(act, b, blocks, what);
	guarded_free(b, n * act_bytes(1, width));
}

/* Where a norm's results go. */
enum { TO_OUT = 1, TO_X = 2, TO_SUM = 4, TO_SUM_X = 8, TO_ACT = 16, NO_W = 32 };

static void norm(uint32_t width, uint32_t n, int to)
{
	size_t all = (size_t)n * width, bytes = all * sizeof(float), i;
	float *x = rows(width, n), *w = rows(width, 1), *s = rows(width, n);
	float *y = guarded(bytes);
	struct cu_norm p = {
		.x = dev_put(x, bytes),
		.w = to & NO_W ? NULL : dev_put(w, width * sizeof(float)),
		.eps = 1e-5f,
		.width = width,
		.n = n,
	};
	struct cu_launch l;

	for (i = 0; i < n; i++)
		vk.rmsnorm(y + i * width, x + i * width, to & NO_W ? NULL : w,
			   width, p.eps);
	p.out = to & TO_X ? (float *)p.x : dev_room(to & TO_OUT ? bytes : 0);
	p.sum = to & TO_SUM_X ? (float *)p.x
			      : dev_put(s, to & TO_SUM ? bytes : 0);
	p.act = dev_room(to & TO_ACT ? n * act_bytes(1, width) : 0);
	cuda_run(&l, cu_launch_norm(&l, &p, &chip));
	is(p.out, p.act, y, width, n, "norm");
	if (p.sum) {
		vk.add(p.sum == p.x ? x : s, y, (uint32_t)all);
		dev_same(p.sum, p.sum == p.x ? x : s, all, "sum of norm");
	}
	if (p.out != p.x)
		dev_free(p.out);
	if (p.sum != p.x)
		dev_free(p.sum);
	dev_free(p.act);
	dev_free(p.w);
	dev_free(p.x);
	guarded_free(x, bytes);
	guarded_free(s, bytes);
	guarded_free(y, bytes);
	guarded_free(w, width * sizeof(float));
}

START_TEST(norms)
{
	static const uint32_t widths[] = { 8,	40,   64,   256, 264,
					   576, 1000, 2048, 4096 };
	size_t i;

	begin(_i);
	for (i = 0; i < COUNT(widths); i++) {
		norm(widths[i], 1, TO_OUT);
		norm(widths[i], 3, TO_SUM_X);
		norm(widths[i], 2, TO_X | TO_SUM);
		if (widths[i] % ACT_BLOCK == 0)
			norm(widths[i], 3, TO_ACT | TO_OUT | NO_W);
	}
	norm(11008, 1, TO_ACT);
	norm(64, 40, TO_ACT);
}
END_TEST

/* Values of one kind, for what reaches quantisation only if all are so. */
START_TEST(quantises)
{
	static const uint32_t widths[] = { 32, 64, 288, 576 };
	struct cu_launch l;
	size_t i, kind;

	begin(_i);
	for (i = 0; i < COUNT(widths); i++)
		for (kind = 0; kind < A_N; kind++) {
			uint32_t n = kind % 2 ? 3 : 1, width = widths[i];
			size_t bytes = (size_t)n * width * sizeof(float);
			float *x = guarded(bytes);
			struct cu_quant p = { .width = width, .n = n };

			fill_acts((enum acts)kind, x, (size_t)n * width);
			p.x = dev_put(x, bytes);
			p.act = dev_room(n * act_bytes(1, width));
			cuda_run(&l, cu_launch_quant(&l, &p, &chip));
			is(NULL, p.act, x, width, n, "quant");
			dev_free(p.x);
			dev_free(p.act);
			guarded_free(x, bytes);
		}
}
END_TEST

static void glu(uint32_t kind, uint32_t width, uint32_t n, bool floats)
{
	size_t all = (size_t)n * width, bytes = all * sizeof(float);
	float *g = rows(width, n), *u = rows(width, n);
	struct cu_glu p = {
		.g = dev_put(g, bytes),
		.u = dev_put(u, bytes),
		.out = dev_room(floats ? bytes : 0),
		.act = dev_room(width % ACT_BLOCK ? 0
						  : n * act_bytes(1, width)),
		.kind = kind,
		.width = width,
		.n = n,
	};
	struct cu_launch l;

	vk.glu[kind](g, g, u, (uint32_t)all);
	cuda_run(&l, cu_launch_glu(&l, &p, &chip));
	is(p.out, p.act, g, width, n, "glu");
	dev_free(p.g);
	dev_free(p.u);
	dev_free(p.out);
	dev_free(p.act);
	guarded_free(g, bytes);
	guarded_free(u, bytes);
}

START_TEST(glus)
{
	uint32_t kind;

	begin(_i);
	for (kind = 0; kind < VEC_ACT_N; kind++) {
		glu(kind, 64, 1, true);
		glu(kind, 1000, 2, true);
		glu(kind, 1536, 3, false);
		glu(kind, 32, 40, true);
	}
}
END_TEST

START_TEST(gathers)
{
	enum { WIDTH = 520, N = 9, OUT = 5 };
	static const uint32_t want[OUT] = { 8, 0, 3, 3, 7 };
	float *x, y[OUT * WIDTH];
	struct cu_gather p = { .width = WIDTH, .n = OUT };
	struct cu_launch l;
	int i;

	begin(_i);
	x = rows(WIDTH, N);
	for (i = 0; i < OUT; i++)
		memcpy(y + i * WIDTH, x + want[i] * WIDTH, sizeof(y) / OUT);
	p.x = dev_put(x, N * WIDTH * sizeof(*x));
	p.rows = dev_put(want, sizeof(want));
	p.out = dev_room(sizeof(y));
	cuda_run(&l, cu_launch_gather(&l, &p, &chip));
	dev_same(p.out, y, OUT * WIDTH, "gather");
	guarded_free(x, N * WIDTH * sizeof(*x));
}
END_TEST

/* What no kernel does is refused. */
START_TEST(refuses)
{
	struct cu_launch l;
	static struct act_block act;
	struct cu_norm norm = { .act = &act, .width = 40, .n = 1 };
	struct cu_quant quant = { .act = &act, .width = 40, .n = 1 };
	struct cu_glu glu = { .act = &act, .width = 40, .n = 1 };

	begin(_i);
	ck_assert_int_eq(cu_launch_norm(&l, &norm, &chip), -ENOTSUP);
	ck_assert_int_eq(cu_launch_quant(&l, &quant, &chip), -ENOTSUP);
	ck_assert_int_eq(cu_launch_glu(&l, &glu, &chip), -ENOTSUP);
	glu.act = NULL;
	ck_assert_int_eq(cu_launch_glu(&l, &glu, &chip), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda vec");
	TCase *c = tcase_create("rows");

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, norms, 1, 3);
	tcase_add_loop_test(c, quantises, 1, 3);
	tcase_add_loop_test(c, glus, 1, 3);
	tcase_add_loop_test(c, gathers, 1, 2);
	tcase_add_loop_test(c, refuses, 1, 2);
	suite_add_tcase(s, c);
	return cuda_main(s);
}
