/* SPDX-License-Identifier: MIT */
/*
 * check_kernels.c - every kernel of every CPU level against plain C.
 *
 *	check_kernels [--level NAME] [--seed N]
 *	check_kernels --bench [--level NAME] [--fmt NAME] [--threads N]
 *		[--rows N] [--cols N] [--mib N] [--tokens N]
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels_bench.h"
#include "kernels_data.h"

static enum cpu_level top_level;

/**
 * struct job - a packed matrix and activations, all guarded
 */
struct job {
	struct mat m;
	struct act a;
	uint8_t *file;
	void *packed;
	float *x;
	void *blocks;
	size_t packed_bytes, x_bytes, block_bytes;
};

static void job_new(struct job *j, const struct mat_kernels *k, enum fmt f,
		    uint32_t rows, uint32_t cols, uint32_t n, enum weights w,
		    enum acts acts)
{
	uint64_t row_bytes = fmt_bytes(f, cols), panel;
	uint32_t p, t, left;

	memset(j, 0, sizeof(*j));
	j->m = (struct mat){ f, rows, cols, NULL };
	j->file = malloc(row_bytes * rows);
	ck_assert_ptr_nonnull(j->file);
	fill_weights(f, w, j->file, (size_t)rows * cols);
	j->packed_bytes = mat_bytes(f, rows, cols);
	j->packed = guarded(j->packed_bytes);
	panel = mat_panel_bytes(f, cols);
	for (p = 0; p < mat_panels(&j->m); p++) {
		left = rows - p * MAT_PANEL;
		mat_pack(f, cols, j->file + p * MAT_PANEL * row_bytes,
			 left < MAT_PANEL ? left : MAT_PANEL,
			 (uint8_t *)j->packed + p * panel);
	}
	j->m.data = j->packed;

	j->x_bytes = sizeof(float) * n * cols;
	j->x = guarded(j->x_bytes);
	fill_acts(acts, j->x, (size_t)n * cols);
	if (mat_wants_q8(f)) {
		j->block_bytes = act_bytes(n, cols);
		j->blocks = guarded(j->block_bytes);
	}
	act_init(&j->a, n, cols, j->blocks);
	j->a.f = j->x;
	for (t = 0; t < n && j->blocks; t++)
		k->act_quant(&j->a, t, j->x + (size_t)t * cols);
}

static void job_free(struct job *j)
{
	free(j->file);
	guarded_free(j->packed, j->packed_bytes);
	guarded_free(j->x, j->x_bytes);
	guarded_free(j->blocks, j->block_bytes);
}

/* ------------------------------------------------------------- the formats */
START_TEST(test_table)
{
	int f, g;

	for (f = 0; f < FMT_N; f++) {
		const struct fmt_info *i = &fmt_info[f];

		ck_assert_int_eq(fmt_from_ggml(i->ggml_type), f);
		ck_assert_str_eq(ggml_type_name(i->ggml_type), i->name);
		ck_assert_uint_eq(fmt_bytes(f, 3ull * i->block), 3 * i->bytes);
		if (i->block > 1)
			ck_assert_uint_eq(fmt_bytes(f, i->block + 1), 0);
		if (i->bytes > i->block)
			ck_assert_uint_eq(
				fmt_bytes(f, UINT64_MAX / i->block * i->block),
				0);
		for (g = 0; g < f; g++)
			ck_assert_str_ne(i->name, fmt_info[g].name);
	}
	ck_assert_str_eq(ggml_type_name(16), "IQ2_XXS");
	ck_assert_ptr_null(ggml_type_name(77));
	ck_assert_int_eq(fmt_from_ggml(16), -ENOTSUP);
	ck_assert_uint_eq(mat_panel_bytes(FMT_Q4_K, 128), 0);
	ck_assert_uint_eq(mat_bytes(FMT_Q8_0, UINT64_MAX, 4096), 0);
	ck_assert_uint_eq(mat_panel_bytes(FMT_Q8_0, 1ull << 40), 0);
}
END_TEST

START_TEST(test_levels)
{
	int i;

	for (i = 0; i < CPU_LEVEL_N; i++)
		ck_assert_int_eq(cpu_level_parse(cpu_level_names[i]), i);
	ck_assert_int_eq(cpu_level_parse("sse"), -EINVAL);
	ck_assert_int_lt(cpu_detect(), CPU_LEVEL_N);
}
END_TEST

/* All half floats, to float and back. */
START_TEST(test_half)
{
	uint32_t h;

	for (h = 0; h < 65536; h++) {
		uint16_t in = (uint16_t)h, out;
		float f, want;
		int e = (h >> 10) & 31;

		fmt_info[FMT_F16].dequant(&in, &f, 1);
		want = ldexpf((float)(h & 0x3ff) + (e ? 1024 : 0),
			      (e ? e : 1) - 25);
		if (e == 31)
			ck_assert(h & 0x3ff ? isnan(f) : isinf(f));
		else
			ck_assert(f == (h & 0x8000 ? -want : want));
		fmt_info[FMT_F16].quant(&f, &out, 1);
		ck_assert_uint_eq(out, isnan(f) ? (h | 0x200) : h);
	}
}
END_TEST

/* Vectors made by tests/golden/dequant.py with ggml. */
START_TEST(test_golden)
{
	uint32_t head[2], seen = 0;
	FILE *file = fopen("tests/golden/dequant.bin", "rb");

	ck_assert_msg(file != NULL, "tests/golden/dequant.bin: %s",
		      strerror(errno));
	while (fread(head, sizeof(head), 1, file) == 1) {
		int f = fmt_from_ggml(head[0]);
		size_t n;
		uint8_t *in;
		float *want, *got;

		ck_assert_int_ge(f, 0);
		n = (size_t)head[1] * fmt_info[f].block;
		in = malloc(fmt_bytes(f, n));
		want = malloc(n * sizeof(float));
		got = guarded(n * sizeof(float));
		ck_assert_uint_eq(fread(in, fmt_info[f].bytes, head[1], file),
				  head[1]);
		ck_assert_uint_eq(fread(want, sizeof(float), n, file), n);
		fmt_info[f].dequant(in, got, n);
		assert_same(got, want, n, fmt_info[f].name);
		guarded_free(got, n * sizeof(float));
		free(in);
		free(want);
		seen++;
	}
	fclose(file);
	ck_assert_uint_eq(seen, FMT_N);
}
END_TEST

START_TEST(test_quant)
{
	const struct fmt_info *info = &fmt_info[_i];
	size_t n = 256 * 64, bytes = fmt_bytes(_i, n), i;
	float *x = malloc(n * sizeof(float)), *y = malloc(n * sizeof(float));
	void *q = guarded(bytes);
	double e = 0, s = 0;

	rng_state = seed;
	for (i = 0; i < n; i++)
		x[i] = gauss();
	info->quant(x, q, n);
	info->dequant(q, y, n);
	for (i = 0; i < n; i++) {
		e += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
		s += (double)x[i] * x[i];
	}
	ck_assert_msg(sqrt(e / s) <= facts[_i].rms,
		      "%s: error %.4f is above %.4f", info->name, sqrt(e / s),
		      facts[_i].rms);
	/* what cannot be represented must not become a NaN */
	for (i = 0; i < n; i++)
		x[i] = i < n / 2 ? 0 : ldexpf(x[i], -140);
	info->quant(x, q, n);
	info->dequant(q, y, n);
	for (i = 0; i < n; i++)
		ck_assert(isfinite(y[i]) && fabsf(y[i]) < 1e-6f);
	guarded_free(q, bytes);
	free(x);
	free(y);
}
END_TEST

/* A packed row is the file's row. */
START_TEST(test_row)
{
	const uint32_t rows = 35, cols = mat_wants_q8(_i) ? 512 : 67;
	struct mat_kernels k;
	struct job j;
	float *got = guarded(cols * sizeof(float));
	float *want = malloc(cols * sizeof(float));
	int w;
	uint32_t r;

	rng_state = seed;
	mat_kernels_init(&k, CPU_C);
	for (w = 0; w < W_N; w++) {
		job_new(&j, &k, _i, rows, cols, 1, w, A_NORMAL);
		for (r = 0; r < rows; r++) {
			mat_row(&j.m, r, got);
			fmt_info[_i].dequant(j.file + r * fmt_bytes(_i, cols),
					     want, cols);
			assert_same(got, want, cols, weights_names[w]);
		}
		job_free(&j);
	}
	guarded_free(got, cols * sizeof(float));
	free(want);
}
END_TEST

/* @bytes that end where nothing may be read any more. */
static uint8_t *at_the_edge(size_t bytes, void **map, size_t *map_bytes)
{
	size_t page = 4096, room = (bytes + page - 1) / page * page;
	uint8_t *p;

	*map_bytes = room + page;
	*map = mmap(NULL, *map_bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(*map, MAP_FAILED);
	p = *map;
	ck_assert(!mprotect(p + room, page, PROT_NONE));
	return p + room - bytes;
}

/* One level's panels against C's; _i is level * FMT_N + format. */
START_TEST(test_pack)
{
	static const uint32_t n_rows[] = { 16, 1, 15 };
	enum fmt f = _i % FMT_N;
	uint32_t i, w, cols;
	struct mat_kernels k;
	size_t bytes, panel, map_bytes;
	uint8_t *want, *got, *src;
	void *map;

	rng_state = seed + _i;
	mat_kernels_init(&k, _i / FMT_N);
	for (w = 0; w < W_N * 6; w++) {
		i = w / W_N % 3;
		cols = 256 * (1 + (uint32_t)(rnd() % 9));
		if (f <= FMT_BF16)
			cols -= (uint32_t)(rnd() % 9);
		else if (fmt_info[f].block == 32)
			cols -= 32 * (uint32_t)(rnd() % 8);
		bytes = fmt_bytes(f, cols) * n_rows[i];
		panel = mat_panel_bytes(f, cols);
		src = at_the_edge(bytes, &map, &map_bytes);
		fill_weights(f, w % W_N, src, (size_t)n_rows[i] * cols);
		want = guarded(panel);
		got = guarded(panel);
		mat_pack(f, cols, src, n_rows[i], want);
		k.pack(f, cols, src, n_rows[i], got);
		ck_assert_msg(!memcmp(want, got, panel),
			      "%s %s, %u columns, %u rows, weights %s",
			      cpu_level_names[_i / FMT_N], fmt_info[f].name,
			      cols, n_rows[i], weights_names[w % W_N]);
		guarded_free(want, panel);
		guarded_free(got, panel);
		munmap(map, map_bytes);
	}
}
END_TEST

/* ------------------------------------------------------------- activations */
START_TEST(test_act)
{
	const uint32_t n = 21, cols = 160;
	size_t bytes = act_bytes(n, cols);
	struct mat_kernels c, k;
	struct act want, got;
	float *x = malloc(sizeof(float) * n * cols);
	uint32_t t, b;
	int kind, i;

	rng_state = seed;
	mat_kernels_init(&c, CPU_C);
	mat_kernels_init(&k, _i);
	for (kind = 0; kind < A_N; kind++) {
		act_init(&want, n, cols, guarded(bytes));
		act_init(&got, n, cols, guarded(bytes));
		fill_acts(kind, x, (size_t)n * cols);
		for (t = 0; t < n; t++) {
			c.act_quant(&want, t, x + t * cols);
			k.act_quant(&got, t, x + t * cols);
		}
		for (t = 0; t < n; t++)
			for (b = 0; b < cols / ACT_BLOCK; b++) {
				struct act_block *w = act_at(&want, t, b);
				struct act_block *g = act_at(&got, t, b);
				int sum = 0;

				ck_assert(!memcmp(g->q, w->q, ACT_BLOCK));
				ck_assert(same(g->d, w->d));
				ck_assert(same(g->ds, w->ds));
				ck_assert(same(g->ds16[0], w->ds16[0]));
				ck_assert(same(g->ds16[1], w->ds16[1]));
				ck_assert_int_eq(g->off, w->off);
				ck_assert_int_eq(g->off16[0], w->off16[0]);
				ck_assert_int_eq(g->off16[1], w->off16[1]);
				for (i = 0; i < ACT_BLOCK; i++) {
					float v = x[t * cols + b * 32 + i];

					sum += w->q[i];
					if (!isnan(w->d))
						ck_assert(
							fabsf(v -
							      w->q[i] * w->d) <=
							w->d * 0.5001f +
								ACT_TINY);
				}
				ck_assert_int_eq(w->off, -128 * sum);
			}
		guarded_free(want.blk, bytes);
		guarded_free(got.blk, bytes);
	}
	free(x);
}
END_TEST

/* ---------------------------------------------------------------- products */
static void product(const struct mat_kernels *k, const struct job *j, bool add,
		    float *out, size_t stride)
{
	k->mul[j->m.fmt](&j->m, 0, mat_panels(&j->m), &j->a, out, stride, add);
}

/* Plain C against doubles: with the very activations it reads the error is
 * that of float sums, with the real ones that of 8-bit activations. */
START_TEST(test_mul_c)
{
	const uint32_t rows = 19, cols = 768, n = 3, stride = 24;
	static const enum acts kinds[] = { A_NORMAL, A_OUTLIER, A_SATURATED,
					   A_ZERO };
	float *w = malloc(sizeof(float) * cols), *out;
	struct mat_kernels k;
	struct job j;
	uint32_t r, t, c, i;

	rng_state = seed;
	mat_kernels_init(&k, CPU_C);
	for (i = 0; i < 4 * W_WILD; i++) {
		job_new(&j, &k, _i, rows, cols, n, i / 4, kinds[i % 4]);
		out = guarded(sizeof(float) * n * stride);
		product(&k, &j, false, out, stride);
		for (t = 0; t < n; t++)
			for (r = 0; r < rows; r++) {
				double near = 0, real = 0, mag = 0, off = 0;
				double got = out[t * stride + r];

				mat_row(&j.m, r, w);
				for (c = 0; c < cols; c++) {
					double x = j.x[t * cols + c], xq = x;

					if (j.blocks) {
						struct act_block *b =
							act_at(&j.a, t, c / 32);

						xq = (double)b->q[c % 32] *
						     b->d;
						off += fabs(w[c]) * b->d;
					}
					near += w[c] * xq;
					real += w[c] * x;
					mag += fabs(w[c] * xq);
				}
				ck_assert_msg(fabs(got - near) <= 1e-5 * mag,
					      "%s row %u: %g, not %g",
					      fmt_info[_i].name, r, got, near);
				ck_assert_msg(fabs(got - real) <=
						      1e-5 * mag + 0.51 * off,
					      "%s row %u: %g, not %g",
					      fmt_info[_i].name, r, got, real);
			}
		guarded_free(out, sizeof(float) * n * stride);
		job_free(&j);
	}
	free(w);
}
END_TEST

static const struct {
	uint32_t rows, cols, n;
} shapes_tried[] = {
	{ 1, 256, 1 },	{ 16, 512, 1 },	 { 35, 1280, 1 },  { 33, 768, 2 },
	{ 17, 512, 3 }, { 31, 1024, 5 }, { 16, 256, 7 },   { 40, 768, 11 },
	{ 9, 512, 15 }, { 48, 512, 16 }, { 21, 1280, 19 }, { 18, 256, 45 },
};

/* One level against C; _i is level * FMT_N + format. */
START_TEST(test_mul)
{
	enum cpu_level level = _i / FMT_N;
	enum fmt f = _i % FMT_N;
	struct mat_kernels c, k;
	unsigned i, w, tries = 0;
	struct job j;
	char what[128];

	mat_kernels_init(&c, CPU_C);
	mat_kernels_init(&k, level);
	if (k.mul[f] == c.mul[f])
		return;
	rng_state = seed + _i;
	for (i = 0; i < sizeof(shapes_tried) / sizeof(shapes_tried[0]); i++)
		for (w = 0; w < W_N; w++) {
			uint32_t rows = shapes_tried[i].rows;
			uint32_t cols = shapes_tried[i].cols;
			uint32_t n = shapes_tried[i].n, t, r;
			size_t stride = rows + rnd() % 9;
			size_t bytes =
				sizeof(float) * ((n - 1) * stride + rows);
			float *want = guarded(bytes), *got = guarded(bytes);
			enum acts acts = tries++ % A_N;

			if (f <= FMT_BF16)
				cols -= (uint32_t)(rnd() % 9);
			else if (fmt_info[f].block == 32)
				cols -= 32 * (uint32_t)(rnd() % 8);
			job_new(&j, &k, f, rows, cols, n, w, acts);
			product(&c, &j, false, want, stride);
			product(&k, &j, false, got, stride);
			snprintf(what, sizeof(what),
				 "%s %s %ux%u x%u, weights %s, input %d",
				 cpu_level_names[level], fmt_info[f].name, rows,
				 cols, n, weights_names[w], acts);
			for (t = 0; t < n; t++)
				assert_same(got + t * stride, want + t * stride,
					    rows, what);
			/* once more on top, panels apart, last one first */
			product(&c, &j, true, want, stride);
			for (r = mat_panels(&j.m); r-- > 0;)
				k.mul[f](&j.m, r, r + 1, &j.a, got, stride,
					 true);
			for (t = 0; t < n; t++)
				assert_same(got + t * stride, want + t * stride,
					    rows, what);
			/* between the rows nothing is written */
			for (t = 0; t + 1 < n; t++)
				for (r = rows; r < stride; r++)
					ck_assert(
						((uint8_t *)(got + t * stride +
							     r))[0] ==
						GUARD_BYTE);
			guarded_free(want, bytes);
			guarded_free(got, bytes);
			job_free(&j);
		}
}
END_TEST

/* A token's row does not depend on its company. */
START_TEST(test_alone)
{
	const uint32_t rows = 33, cols = 512, n = 37;
	enum cpu_level level = _i / FMT_N;
	enum fmt f = _i % FMT_N;
	float *all, *one;
	struct mat_kernels k;
	struct job j;
	struct act a;
	void *mem;
	uint32_t t;

	rng_state = seed + _i;
	mat_kernels_init(&k, level);
	job_new(&j, &k, f, rows, cols, n, W_NORMAL, A_NORMAL);
	all = guarded(sizeof(float) * n * rows);
	one = guarded(sizeof(float) * rows);
	mem = aligned_alloc(MAT_ALIGN, act_bytes(1, cols));
	product(&k, &j, false, all, rows);
	for (t = 0; t < n; t++) {
		act_init(&a, 1, cols, mem);
		a.f = j.x + t * cols;
		k.act_quant(&a, 0, a.f);
		k.mul[f](&j.m, 0, mat_panels(&j.m), &a, one, rows, false);
		assert_same(one, all + t * rows, rows, fmt_info[f].name);
	}
	free(mem);
	guarded_free(all, sizeof(float) * n * rows);
	guarded_free(one, sizeof(float) * rows);
	job_free(&j);
}
END_TEST

/* -------------------------------------------------------------------- main */
static Suite *suite(void)
{
	Suite *s = suite_create("kernels");
	TCase *t = tcase_create("formats");
	int n = ((int)top_level + 1) * FMT_N;

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_table);
	tcase_add_test(t, test_levels);
	tcase_add_test(t, test_half);
	tcase_add_test(t, test_golden);
	tcase_add_loop_test(t, test_quant, 0, FMT_N);
	tcase_add_loop_test(t, test_row, 0, FMT_N);
	tcase_add_loop_test(t, test_pack, FMT_N, n);
	suite_add_tcase(s, t);
	t = tcase_create("products");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_act, 0, (int)top_level + 1);
	tcase_add_loop_test(t, test_mul_c, 0, FMT_N);
	tcase_add_loop_test(t, test_mul, FMT_N, n);
	tcase_add_loop_test(t, test_alone, 0, n);
	suite_add_tcase(s, t);
	return s;
}

int main(int argc, char **argv)
{
	struct bench_opts o = { NULL, 8192, 2048, 0, 512, 1 };
	enum cpu_level have = cpu_detect();
	int i, run_bench = 0, failed, level = have;
	SRunner *r;

	seed = (uint64_t)time(NULL);
	for (i = 1; i < argc; i++) {
		const char *v = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--bench")) {
			run_bench = 1;
			continue;
		}
		if (!strcmp(argv[i], "--level"))
			level = cpu_level_parse(v);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(v, NULL, 0);
		else if (!strcmp(argv[i], "--fmt"))
			o.fmt = v;
		else if (!strcmp(argv[i], "--threads"))
			o.threads = atoi(v);
		else if (!strcmp(argv[i], "--rows"))
			o.rows = (uint32_t)atoi(v);
		else if (!strcmp(argv[i], "--cols"))
			o.cols = (uint32_t)atoi(v);
		else if (!strcmp(argv[i], "--mib"))
			o.mib = (size_t)atoi(v);
		else if (!strcmp(argv[i], "--tokens"))
			o.tokens = (uint32_t)atoi(v);
		else
			level = -1;
		i++;
	}
	if (level < 0 || o.threads < 1 || o.threads > 64 || !o.rows ||
	    !o.cols || o.cols % 256) {
		fprintf(stderr, "check_kernels: bad option\n");
		return 2;
	}
	top_level = (enum cpu_level)level < have ? (enum cpu_level)level : have;
	if (run_bench)
		return bench(&o, top_level);
	printf("seed %llu, levels c..%s\n", (unsigned long long)seed,
	       cpu_level_names[top_level]);
	r = srunner_create(suite());
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
