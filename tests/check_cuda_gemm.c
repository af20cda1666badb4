/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_gemm.c - BF16 products by wgmma against exact sums of the rounded
 * operands.
 */
#include <errno.h>

#include "cuda_rig.h"

static float rounded(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	u += 0x7fff + (u >> 16 & 1);
	u &= 0xffff0000;
	memcpy(&f, &u, 4);
	return f;
}

/* Sums of float products, in whatever order, are this near to exact ones; @old
 * and @bias are added to them if not NULL. */
static void near(const float *got, const struct mat *w, const float *x,
		 uint32_t n, const float *old, const float *bias,
		 const char *what)
{
	float *row = calloc(w->cols, sizeof(*row));
	uint32_t r, t, k;

	ck_assert_ptr_nonnull(row);
	for (r = 0; r < w->rows; r++) {
		mat_row(w, r, row);
		for (t = 0; t < n; t++) {
			double sum = 0, size = 0, y;

			for (k = 0; k < w->cols; k++) {
				y = (double)rounded(row[k]) *
				    (double)rounded(x[t * w->cols + k]);
				sum += y;
				size += fabs(y);
			}
			y = old ? (double)old[t * w->rows + r] : 0;
			y += bias ? (double)bias[r] : 0;
			sum += y;
			size += fabs(y);
			y = (double)got[t * w->rows + r];
			ck_assert_msg(fabs(y - sum) <= size * w->cols * 0x1p-24,
				      "%s: row %u, token %u is %g, not %g",
				      what, r, t, y, sum);
		}
	}
	free(row);
}

START_TEST(products)
{
	/* edges of a tile, of columns, and more stages than the ring has */
	static const struct {
		enum fmt f;
		uint32_t n, rows, cols;
		bool add, bias;
	} c[] = {
		{ FMT_BF16, 70, 40, 512, false, false },
		{ FMT_F16, 9, 300, 96, true, true },
		{ FMT_F32, 130, 16, 64, false, true },
	};
	uint32_t n = c[_i].n, rows = c[_i].rows, cols = c[_i].cols;
	float *x = calloc((size_t)n * cols, 4),
	      *out = calloc((size_t)n * rows, 4),
	      *old = calloc((size_t)n * rows, 4), *bias = calloc(rows, 4);
	struct cu_tiles w = { .m = { 0 } }, a = { .n = n, .cols = cols };
	struct cu_gemm g = { .rows = rows, .cols = cols, .n = n };
	struct cuda_mat m;
	struct cu_launch l[3];

	ck_assert(x && out && old && bias);
	cuda_open(1 + _i);
	m = cuda_mat_new(c[_i].f, W_NORMAL, rows, cols);
	fill_acts(A_NORMAL, x, (size_t)n * cols);
	w.m = m.dev;
	w.out = dev_room(cu_tiles_bytes(rows, cols));
	a.x = dev_put(x, (size_t)n * cols * 4);
	a.out = dev_room(cu_tiles_bytes(n, cols));
	g.w = w.out;
	g.x = a.out;
	fill_acts(A_NORMAL, old, (size_t)n * rows);
	fill_acts(A_NORMAL, bias, rows);
	g.out = dev_put(old, (size_t)n * rows * 4);
	g.add = c[_i].add;
	g.bias = c[_i].bias ? dev_put(bias, rows * 4ul) : NULL;
	ck_assert_int_eq(cu_launch_tiles(&l[0], &w, &chip), 1);
	ck_assert_int_eq(cu_launch_tiles(&l[1], &a, &chip), 1);
	ck_assert_int_eq(cu_launch_gemm(&l[2], &g, &chip), 1);
	cuda_run(l, 3);
	dev_get(out, g.out, (size_t)n * rows * 4);
	near(out, &m.host, x, n, c[_i].add ? old : NULL,
	     c[_i].bias ? bias : NULL, fmt_info[c[_i].f].name);
	free(x);
	free(out);
	free(old);
	free(bias);
	cuda_mat_free(&m);
}
END_TEST

START_TEST(refused)
{
	struct cu_chip ada = { .cc = 89, .sms = 128, .smem = 101376 };
	struct cu_chip hopper = { .cc = 90, .sms = 132, .smem = 232448 };
	struct cu_tiles t = { .m = { .rows = 16, .cols = 64, .fmt = FMT_Q8_0 } };
	struct cu_gemm g = { .rows = 16, .cols = 64, .n = 9 };
	struct cu_launch l;

	ck_assert_int_eq(cu_launch_gemm(&l, &g, &ada), -ENOTSUP);
	ck_assert_int_eq(cu_launch_gemm(&l, &g, &hopper), 1);
	ck_assert_int_eq(cu_launch_tiles(&l, &t, &hopper), -ENOTSUP);
	t.m.fmt = FMT_BF16;
	ck_assert_int_eq(cu_launch_tiles(&l, &t, &hopper), 1);
	ck_assert_int_eq(cu_launch_tiles(&l, &t, &ada), -ENOTSUP);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda gemm");
	TCase *t = tcase_create("gemm");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, products, 0, 3);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	return cuda_main(s);
}
