/* SPDX-License-Identifier: MIT */
/* check_cudasim.c - what kernels compute in the simulator, against plain C. */
#include <math.h>
#include <stdbool.h>

#include "cudasim_rig.h"

#define SEEDS 3

static float bf16_sum(const uint16_t *a, const uint16_t *b, int k)
{
	double s = 0;
	int i;

	for (i = 0; i < k; i++)
		s += (double)from_bf16(a[i]) * from_bf16(b[i]);
	return (float)s;
}

START_TEST(reduces)
{
	static float x[100000];
	float out = 0;
	double want = 0;
	uint64_t dx, dout;
	size_t n = COUNT(x), i;

	rig_open(_i, "warp.ptx");
	for (i = 0; i < n; i++)
		want += x[i] = (float)(random() % 17);
	dx = dev_with(x, sizeof(x));
	dout = dev_with(&out, sizeof(out));
	OK(cuCtxSynchronize());
	ck_assert_int_eq(
		launch("reduce_ok", 9, 256, 0, NULL, ARGS(&dx, &dout, &n)), 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(&out, dout, 4), "%s", said());
	ck_assert_double_eq(out, want);
}
END_TEST

START_TEST(gemv)
{
	enum { ROWS = 64, K = 2048 };
	static int8_t w[ROWS * K], x[K];
	float scale[ROWS], y[ROWS];
	uint64_t dw, ds, dx, dy;
	int i, j, k = K;

	rig_open(_i, "warp.ptx");
	for (i = 0; i < ROWS * K; i++)
		w[i] = (int8_t)random();
	for (i = 0; i < K; i++)
		x[i] = (int8_t)random();
	for (i = 0; i < ROWS; i++)
		scale[i] = unit();
	dw = dev_with(w, sizeof(w));
	ds = dev_with(scale, sizeof(scale));
	dx = dev_with(x, sizeof(x));
	dy = dev_new(sizeof(y));
	ck_assert_int_eq(launch("gemv_ok", ROWS / 4, 128, 4 * 3 * 512, NULL,
				ARGS(&dw, &ds, &dx, &dy, &k)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(y, dy, sizeof(y)), "%s", said());
	for (i = 0; i < ROWS; i++) {
		int s = 0;

		for (j = 0; j < K; j++)
			s += w[i * K + j] * x[j];
		ck_assert_float_eq(y[i], (float)s * scale[i]);
	}
}
END_TEST

/* A number of either sign, small, and none so small as to be subnormal. */
static uint16_t some_f16(void)
{
	return (uint16_t)(random() & 0x83ff) |
	       (uint16_t)((8 + random() % 7) << 10);
}

static float from_f16(uint16_t v)
{
	float f = ldexpf((float)(1024 + (v & 1023)), (v >> 10 & 31) - 25);

	return v & 0x8000 ? -f : f;
}

START_TEST(mma_of_floats)
{
	enum { K = 64 };
	uint16_t a[16 * K], b[8 * K];
	float fa[16 * K], fb[8 * K], c[128];
	uint64_t da, db, dc;
	int i, j, k = K;
	bool half = _i;

	rig_open(1, "warp.ptx");
	for (i = 0; i < 16 * K; i++) {
		a[i] = half ? some_f16() : to_bf16(unit());
		fa[i] = half ? from_f16(a[i]) : from_bf16(a[i]);
	}
	for (i = 0; i < 8 * K; i++) {
		b[i] = half ? some_f16() : to_bf16(unit());
		fb[i] = half ? from_f16(b[i]) : from_bf16(b[i]);
	}
	da = dev_with(a, sizeof(a));
	db = dev_with(b, sizeof(b));
	dc = dev_new(sizeof(c));
	ck_assert_int_eq(launch(half ? "mma_f16_k" : "mma_bf16_k", 1, 32, 0,
				NULL, ARGS(&da, &db, &dc, &k)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(c, dc, sizeof(c)), "%s", said());
	for (i = 0; i < 128; i++) {
		double s = 0;

		for (j = 0; j < K; j++)
			s += (double)fa[i / 8 * K + j] * fb[i % 8 * K + j];
		ck_assert_double_eq_tol(c[i], s, 1e-5);
	}
}
END_TEST

START_TEST(mma_of_bytes)
{
	enum { K = 96 };
	int8_t a[16 * K], b[8 * K];
	int c[128], i, j, k = K;
	uint64_t da, db, dc;

	rig_open(1, "warp.ptx");
	for (i = 0; i < 16 * K; i++)
		a[i] = (int8_t)random();
	for (i = 0; i < 8 * K; i++)
		b[i] = (int8_t)random();
	da = dev_with(a, sizeof(a));
	db = dev_with(b, sizeof(b));
	dc = dev_new(sizeof(c));
	ck_assert_int_eq(
		launch("mma_s8_k", 1, 32, 0, NULL, ARGS(&da, &db, &dc, &k)), 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(c, dc, sizeof(c)), "%s", said());
	for (i = 0; i < 128; i++) {
		int s = 0;

		for (j = 0; j < K; j++)
			s += a[i / 8 * K + j] * b[i % 8 * K + j];
		ck_assert_int_eq(c[i], s);
	}
}
END_TEST

START_TEST(ldmatrix)
{
	uint16_t a[256];
	uint32_t frag[128];
	uint64_t da, df;
	int i, l;

	rig_open(1, "warp.ptx");
	for (i = 0; i < 256; i++)
		a[i] = (uint16_t)random();
	da = dev_with(a, sizeof(a));
	df = dev_new(sizeof(frag));
	ck_assert_int_eq(launch("ldmatrix_k", 1, 32, 0, NULL, ARGS(&da, &df)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(frag, df, sizeof(frag)), "%s",
		      said());
	for (i = 0; i < 4; i++)
		for (l = 0; l < 32; l++) {
			int row = l / 4 + (i & 1) * 8;
			int col = 2 * (l & 3) + (i >> 1) * 8;

			ck_assert_uint_eq(
				frag[i * 32 + l],
				a[row * 16 + col] |
					(uint32_t)a[row * 16 + col + 1] << 16);
		}
}
END_TEST

struct mix {
	int i;
	float f;
	double d;
	unsigned long long u;
};

static uint32_t reversed(uint32_t v)
{
	uint32_t r = 0;
	int i;

	for (i = 0; i < 32; i++)
		r |= (v >> i & 1) << (31 - i);
	return r;
}

static void mix_ints(const struct mix *in, int i, int n, int *out)
{
	static const int table[4] = { 3, -5, 7, 11 };
	uint32_t b = (uint32_t)(i * (i & 7) + in->i) * 2654435761u;
	uint64_t two = (uint64_t)b << 32 | (uint32_t)i;
	uint8_t bytes[8];
	int live = n - i / 32 * 32 < 32 ? n - i / 32 * 32 : 32;

	memcpy(bytes, (uint32_t[]){ b, (uint32_t)i }, 8);
	out[0] = (i * ((i * 5) & 7) + in->i) / (i + 1) + table[i & 3];
	out[1] = __builtin_popcount(b) + (i ? __builtin_clz((unsigned)i) : 32) +
		 (int)(reversed(b) >> 28);
	out[2] = (int)(bytes[0] | (uint32_t)bytes[4] << 8 |
		       (uint32_t)bytes[1] << 16 | (uint32_t)bytes[5] << 24);
	out[3] = (i - 20) % 7 + ((i - 20) >> 1);
	out[4] = (int)((in->u * (unsigned)i) >> 33);
	out[5] = (int)(((int64_t)(i * 1234567) * -98765) >> 32);
	out[6] = (int)((two << 7) >> 32);
	out[6] = (int)(((((uint64_t)(uint32_t)i << 32) | b) << 7) >> 32);
	out[7] = live / 2;
}

START_TEST(ordinary_code)
{
	enum { N = 100 };
	struct mix in = { 13, 1.25f, 3.5, 0x123456789abcdefull };
	int out[N * 8], want[8], i, j, n = N;
	float f[N * 4];
	uint32_t count = 0;
	uint64_t dout, df, dcount;
	size_t bytes;

	rig_open(_i, "warp.ptx");
	dout = dev_new(sizeof(out));
	df = dev_new(sizeof(f));
	OK(cuModuleGetGlobal_v2(&dcount, &bytes, module, "mix_count"));
	ck_assert_uint_eq(bytes, 4);
	ck_assert_int_eq(
		launch("mix_k", 2, 64, 0, NULL, ARGS(&in, &dout, &df, &n)), 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(out, dout, sizeof(out)), "%s",
		      said());
	OK(cuMemcpyDtoH_v2(f, df, sizeof(f)));
	OK(cuMemcpyDtoH_v2(&count, dcount, 4));
	ck_assert_uint_eq(count, N);
	for (i = 0; i < N; i++) {
		float top = fminf(fmaxf((float)i - 30, -8), 9);

		mix_ints(&in, i, N, want);
		for (j = 0; j < 8; j++)
			ck_assert_msg(out[i * 8 + j] == want[j],
				      "thread %d, value %d: %d, not %d", i, j,
				      out[i * 8 + j], want[j]);
		ck_assert_float_eq_tol(f[i * 4], in.f * (float)i + 0.5f, 1e-6f);
		ck_assert_float_eq_tol(f[i * 4 + 1],
				       expf(-(float)i * 0.1f) +
					       1 / sqrtf((float)i + 1),
				       1e-5f);
		ck_assert_float_eq(f[i * 4 + 2], (float)(in.d / (i + 1)));
		ck_assert_float_eq(f[i * 4 + 3],
				   top + (float)(int)rintf((float)i * 0.3f));
	}
}
END_TEST

START_TEST(counting_barriers)
{
	enum { T = 96 };
	int out[T], i, n = 50;
	uint64_t dout;

	rig_open(_i, "warp.ptx");
	dout = dev_new(sizeof(out));
	ck_assert_int_eq(launch("count_k", 1, T, 0, NULL, ARGS(&dout, &n)), 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(out, dout, sizeof(out)), "%s",
		      said());
	for (i = 0; i < T; i++) {
		int low = i & 1 ? 1000 : 2000;

		ck_assert_int_eq(out[i], 25 + (i < n ? low : 0) + 10000);
	}
}
END_TEST

/* The float beside V that a rounding gives: -1 down, 1 up, 2 to zero. */
static float directed(long double v, int how)
{
	float f = (float)v;

	if (how == 2)
		how = v > 0 ? -1 : 1;
	if (how < 0 && (long double)f > v)
		return nextafterf(f, -INFINITY);
	if (how > 0 && (long double)f < v)
		return nextafterf(f, INFINITY);
	return f;
}

START_TEST(roundings)
{
	float x[32], y[32], out[256];
	uint64_t dx, dy, dout;
	int i, j;

	rig_open(1, "warp.ptx");
	for (i = 0; i < 32; i++) {
		x[i] = unit();
		y[i] = unit() * 1e-3f;
	}
	dx = dev_with(x, sizeof(x));
	dy = dev_with(y, sizeof(y));
	dout = dev_new(sizeof(out));
	ck_assert_int_eq(
		launch("round_k", 1, 32, 0, NULL, ARGS(&dx, &dy, &dout)), 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(out, dout, sizeof(out)), "%s",
		      said());
	for (i = 0; i < 32; i++) {
		long double a = x[i], b = y[i];
		float want[8] = {
			directed(a + b, 0),  directed(a + b, 2),
			directed(a + b, -1), directed(a + b, 1),
			directed(a * b, -1), directed(a * b + 1, 1),
			directed(a / b, 2),  directed(a * b, -1),
		};

		for (j = 0; j < 8; j++)
			ck_assert_msg(out[i * 8 + j] == want[j],
				      "value %d: %a, not %a", j, out[i * 8 + j],
				      want[j]);
	}
}
END_TEST

static void persistent(int seed, const char *name, int want_rc)
{
	enum { CHUNKS = 23, N = CHUNKS * 1024 };
	static float x[N];
	float out = 0;
	double want = 0;
	uint64_t dx, dpart, dout, dbar;
	int i, chunks = CHUNKS;

	rig_open(seed, "hopper.ptx");
	for (i = 0; i < N; i++)
		want += x[i] = (float)(random() % 9);
	dx = dev_with(x, sizeof(x));
	dpart = dev_new(64);
	dout = dev_new(4);
	dbar = dev_new(4);
	OK(cuMemsetD32_v2(dbar, 0, 1));
	ck_assert_int_eq(launch(name, 3, 128, 128 + 2 * 4096 + 64, NULL,
				ARGS(&dx, &dpart, &dout, &dbar, &chunks)),
			 0);
	ck_assert_msg(cu.cuMemcpyDtoH_v2(&out, dout, 4) == want_rc, "%s",
		      said());
	ck_assert_double_eq(out, want);
}

START_TEST(persistent_ring)
{
	persistent(_i, "persist_ok", 0);
}
END_TEST

/* A map of ROWS rows of K bf16, in boxes of 64 by 64. */
static void make_map(void *map, uint64_t at, uint64_t k, uint64_t rows)
{
	OK(cuTensorMapEncodeTiled(map, 9, 2, (void *)(uintptr_t)at,
				  (uint64_t[]){ k, rows },
				  (uint64_t[]){ k * 2 }, (uint32_t[]){ 64, 64 },
				  (uint32_t[]){ 1, 1 }, 0, 3, 0, 0));
}

START_TEST(tiles_and_wgmma)
{
	enum { K = 256 };
	static uint16_t a[64 * K], b[64 * K];
	static float c[64 * 64];
	_Alignas(64) uint8_t ta[128], tb[128];
	uint64_t da, db, dc;
	int i, k = K;

	rig_open(_i, "hopper.ptx");
	for (i = 0; i < 64 * K; i++) {
		a[i] = to_bf16(unit());
		b[i] = to_bf16(unit());
	}
	da = dev_with(a, sizeof(a));
	db = dev_with(b, sizeof(b));
	dc = dev_new(sizeof(c));
	make_map(ta, da, K, 64);
	make_map(tb, db, K, 64);
	ck_assert_int_eq(launch("hop_ok", 1, 128, 32768, NULL,
				ARGS(ta, tb, &dc, &k)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(c, dc, sizeof(c)), "%s", said());
	for (i = 0; i < 64 * 64; i++)
		ck_assert_float_eq_tol(
			c[i], bf16_sum(a + i / 64 * K, b + i % 64 * K, K),
			1e-4f);
}
END_TEST

START_TEST(mixed_wgmma)
{
	enum { K = 128 };
	static int8_t a[64 * K];
	static uint16_t b[64 * K];
	static float c[64 * 64];
	_Alignas(64) uint8_t tb[128];
	uint64_t da, db, dc;
	int i, j, k = K;

	rig_open(_i, "hopper.ptx");
	for (i = 0; i < 64 * K; i++) {
		a[i] = (int8_t)random();
		b[i] = to_bf16(unit());
	}
	da = dev_with(a, sizeof(a));
	db = dev_with(b, sizeof(b));
	dc = dev_new(sizeof(c));
	make_map(tb, db, K, 64);
	ck_assert_int_eq(launch("hop_mixed", 1, 128, 8192, NULL,
				ARGS(&da, tb, &dc, &k)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(c, dc, sizeof(c)), "%s", said());
	for (i = 0; i < 64 * 64; i++) {
		double s = 0;

		for (j = 0; j < K; j++)
			s += (double)a[i / 64 * K + j] *
			     from_bf16(b[i % 64 * K + j]);
		ck_assert_double_eq_tol(c[i], s, 1e-2);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cudasim");
	TCase *t = tcase_create("kernels");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, reduces, 1, 1 + SEEDS);
	tcase_add_loop_test(t, gemv, 1, 1 + SEEDS);
	tcase_add_loop_test(t, mma_of_floats, 0, 2);
	tcase_add_test(t, mma_of_bytes);
	tcase_add_test(t, ldmatrix);
	tcase_add_loop_test(t, counting_barriers, 1, 1 + SEEDS);
	tcase_add_test(t, roundings);
	tcase_add_loop_test(t, ordinary_code, 1, 1 + SEEDS);
	tcase_add_loop_test(t, persistent_ring, 1, 1 + 2 * SEEDS);
	tcase_add_loop_test(t, tiles_and_wgmma, 1, 1 + SEEDS);
	tcase_add_loop_test(t, mixed_wgmma, 1, 1 + SEEDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return rig_run(suite());
}
