/* SPDX-License-Identifier: MIT */
/* check_cudasim_lanes.c - shuffles, votes, atomics and turned matrices. */
#include <stdbool.h>

#include "cudasim_rig.h"

#define SEEDS 3

static int bits_from(int v, int at, int n)
{
	int64_t wide = v; /* beyond the top there is more of the sign */

	return (int)((uint64_t)(wide >> at) << (64 - n) >> (64 - n) ^
		     (1ull << (n - 1))) -
	       (1 << (n - 1));
}

static int bits_into(uint32_t a, uint32_t b, int at, int n)
{
	uint64_t m = ((1ull << n) - 1) << at;

	return (int)((b & ~m) | (((uint64_t)a << at) & m));
}

static int dot_lo(int v, int c)
{
	return (int16_t)v * 0x7f + (v >> 16) * 0x03 + c;
}

struct sums {
	int all;
	int least;
	int odd;
	int positive; /* of the lanes from 13 on */
};

static void want_of(const int *x, const struct sums *s, int l, int *w)
{
	int i;

	w[0] = x[l < 3 ? l : l - 3];
	w[1] = x[l % 16 + 5 < 16 ? l + 5 : l];
	w[2] = x[l * 7 & 31];
	w[3] = x[(l & 24) + 2];
	for (w[4] = 0, i = 0; i < 32; i++)
		w[4] |= (int)((uint32_t)((x[i] & 3) == (x[l] & 3)) << i);
	w[5] = s->all;
	w[6] = s->least;
	w[7] = s->odd;
	w[8] = 3;
	w[9] = l ? 0 : 7;
	w[10] = l == 12 ? x[8] : l < 13 ? x[l ^ 1] : s->positive;
	w[11] = bits_from(x[l], l, 9);
	w[12] = bits_into((uint32_t)x[l], ~(uint32_t)x[l], l, 5);
	w[13] = dot_lo(x[l], l);
	w[14] = __builtin_ffs(x[l]);
}

START_TEST(lanes)
{
	int x[32], out[15 * 32], w[15], l, i;
	struct sums s = { 0, 0x7fffffff, 0, 0 };
	uint64_t dx, dout;

	rig_open(_i, "lanes.ptx");
	srandom((unsigned int)_i);
	for (l = 0; l < 32; l++) {
		x[l] = (int)(random() - (1 << 30)) | 1;
		s.all = (int)((uint32_t)s.all + (uint32_t)x[l]);
		s.least = x[l] < s.least ? x[l] : s.least;
		s.odd ^= x[l];
		s.positive += l >= 13 && x[l] > 0;
	}
	dx = dev_with(x, sizeof(x));
	dout = dev_new(sizeof(out));
	ck_assert_int_eq(launch("lanes_k", 1, 32, 0, NULL, ARGS(&dx, &dout)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(out, dout, sizeof(out)), "%s",
		      said());
	for (l = 0; l < 32; l++) {
		want_of(x, &s, l, w);
		for (i = 0; i < 15; i++)
			ck_assert_msg(out[i * 32 + l] == w[i],
				      "value %d of lane %d: %x, not %x", i, l,
				      (unsigned int)out[i * 32 + l],
				      (unsigned int)w[i]);
	}
}
END_TEST

START_TEST(atomics)
{
	enum { T = 64 * 3 };
	int a[3] = { 0 };
	uint32_t u[6] = { ~0u, 0, 0, 0, 0, 1 }, odd = 0;
	uint64_t w = 1, da, du, dw, df;
	float f = 1;
	int i;

	rig_open(_i, "lanes.ptx");
	for (i = 0; i < T; i++)
		odd ^= (uint32_t)i;
	da = dev_with(a, sizeof(a));
	du = dev_with(u, sizeof(u));
	dw = dev_with(&w, sizeof(w));
	df = dev_with(&f, sizeof(f));
	ck_assert_int_eq(launch("atomics_k", 3, 64, 0, NULL,
				ARGS(&da, &du, &dw, &df)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(a, da, sizeof(a)), "%s", said());
	OK(cuMemcpyDtoH_v2(u, du, sizeof(u)));
	OK(cuMemcpyDtoH_v2(&w, dw, sizeof(w)));
	OK(cuMemcpyDtoH_v2(&f, df, sizeof(f)));
	ck_assert_int_eq(a[0], T * (T - 1) / 2);
	ck_assert_int_eq(a[1], T - 1);
	ck_assert_int_eq(a[2], 1 - T);
	ck_assert_uint_eq(u[0], 0);
	ck_assert_uint_eq(u[1], ~0u);
	ck_assert_uint_eq(u[2], odd);
	ck_assert_uint_eq(u[3], T % 10);
	ck_assert_uint_eq(u[4], 77);
	ck_assert_uint_eq(u[5], 1 + 3 * T);
	ck_assert_uint_eq(w, 1 + ((uint64_t)T << 33));
	ck_assert_float_eq(f, 1 + T * 0.25f);
}
END_TEST

START_TEST(transposed)
{
	uint16_t x[256], y[256];
	uint64_t dx, dy;
	int i;

	rig_open(1, "lanes.ptx");
	for (i = 0; i < 256; i++)
		x[i] = (uint16_t)random();
	dx = dev_with(x, sizeof(x));
	dy = dev_new(sizeof(y));
	ck_assert_int_eq(launch("transpose_k", 1, 32, 0, NULL, ARGS(&dx, &dy)),
			 0);
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(y, dy, sizeof(y)), "%s", said());
	for (i = 0; i < 256; i++)
		ck_assert_uint_eq(y[i], x[i % 16 * 16 + i / 16]);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cudasim lanes");
	TCase *t = tcase_create("lanes");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, lanes, 1, 1 + 4 * SEEDS);
	tcase_add_loop_test(t, atomics, 1, 1 + SEEDS);
	tcase_add_test(t, transposed);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return rig_run(suite());
}
