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
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "../kernels/mat.h"

#define GUARD	   64
#define GUARD_BYTE 0xa5

static enum cpu_level top_level;
static uint64_t seed;

/* ----------------------------------------------------------------- helpers */
static uint64_t rng_state;

static uint64_t rnd(void)
{
	uint64_t z = (rng_state += 0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static float uniform(void)
{
	return (float)(rnd() >> 40) * 0x1p-24f;
}

static float gauss(void)
{
	return sqrtf(-2 * logf(uniform() + 0x1p-25f)) *
	       cosf(6.2831853f * uniform());
}

/* A buffer between guards; aligned like real ones. */
static void *guarded(size_t bytes)
{
	size_t room = (bytes + MAT_ALIGN - 1) / MAT_ALIGN * MAT_ALIGN;
	uint8_t *p = aligned_alloc(MAT_ALIGN, GUARD + room + GUARD);

	ck_assert_ptr_nonnull(p);
	memset(p, GUARD_BYTE, GUARD + room + GUARD);
	return p + GUARD;
}

static void guarded_free(void *v, size_t bytes)
{
	size_t room = (bytes + MAT_ALIGN - 1) / MAT_ALIGN * MAT_ALIGN, i;
	uint8_t *p = v;

	if (!p)
		return;
	for (i = 1; i <= GUARD; i++)
		ck_assert_msg(p[-(ptrdiff_t)i] == GUARD_BYTE,
			      "byte %zu before the buffer written", i);
	for (i = bytes; i < room + GUARD; i++)
		ck_assert_msg(p[i] == GUARD_BYTE,
			      "byte %zu after the buffer written", i - bytes);
	free(p - GUARD);
}

/* Equal bits, and NaN where NaN. */
static int same(float a, float b)
{
	return !memcmp(&a, &b, sizeof(a)) || (isnan(a) && isnan(b));
}

static void assert_same(const float *got, const float *want, size_t n,
			const char *what)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!same(got[i], want[i]))
			ck_abort_msg(
				"%s: element %zu is %a, not %a (seed %llu)",
				what, i, got[i], want[i],
				(unsigned long long)seed);
}

/* What a test needs to know of a format beyond its row: where the half floats
 * of a block are, and the root mean square error of quantising a normal
 * distribution that its reference quantiser must keep. */
static const struct {
	int halves[2];
	float rms;
} facts[FMT_N] = {
	[FMT_F32] = { { -1, -1 }, 0 },
	[FMT_F16] = { { -1, -1 }, 0.0004f },
	[FMT_BF16] = { { -1, -1 }, 0.003f },
	[FMT_Q4_0] = { { 0, -1 }, 0.09f },
	[FMT_Q4_1] = { { 0, 2 }, 0.08f },
	[FMT_Q5_0] = { { 0, -1 }, 0.045f },
	[FMT_Q5_1] = { { 0, 2 }, 0.04f },
	[FMT_Q8_0] = { { 0, -1 }, 0.006f },
	[FMT_Q2_K] = { { 80, 82 }, 0.33f },
	[FMT_Q3_K] = { { 108, -1 }, 0.17f },
	[FMT_Q4_K] = { { 0, 2 }, 0.08f },
	[FMT_Q5_K] = { { 0, 2 }, 0.04f },
	[FMT_Q6_K] = { { 208, -1 }, 0.022f },
};

enum weights { W_NORMAL, W_RANDOM, W_SATURATED, W_ZERO, W_WILD, W_N };
static const char *const weights_names[W_N] = { "normal", "random", "saturated",
						"zero", "wild" };

/* Finite half floats of moderate size where the format has any. */
static void tame(enum fmt f, uint8_t *data, size_t blocks)
{
	size_t i;
	int h;

	for (i = 0; i < blocks; i++)
		for (h = 0; h < 2 && facts[f].halves[h] >= 0; h++) {
			uint8_t *p = data + i * fmt_info[f].bytes +
				     facts[f].halves[h];
			uint16_t v = (uint16_t)((rnd() & 0x83ff) |
						(6 + rnd() % 12) << 10);

			memcpy(p, &v, 2);
		}
}

static void fill_weights(enum fmt f, enum weights kind, uint8_t *data, size_t n)
{
	size_t bytes = fmt_bytes(f, n), i;
	float *x;

	if (kind == W_ZERO) {
		memset(data, 0, bytes);
		return;
	}
	if (kind == W_WILD || (kind == W_RANDOM && mat_wants_q8(f))) {
		for (i = 0; i < bytes; i++)
			data[i] = (uint8_t)rnd();
		if (kind == W_RANDOM)
			tame(f, data, n / fmt_info[f].block);
		return;
	}
	if (kind == W_SATURATED && mat_wants_q8(f)) {
		/* extreme codes of either sign, of rows and of pairs */
		for (i = 0; i < bytes; i++)
			data[i] = (const uint8_t[]){ 0xff, 0, 0x80,
						     0x7f }[rnd() & 3];
		tame(f, data, n / fmt_info[f].block);
		return;
	}
	x = calloc(n, sizeof(*x));
	for (i = 0; x && i < n; i++)
		x[i] = kind == W_NORMAL ? 0.02f * gauss()
					: gauss() * powf(10, 8 * uniform() - 4);
	if (x)
		fmt_info[f].quant(x, data, n);
	free(x);
}

enum acts { A_NORMAL, A_OUTLIER, A_SATURATED, A_ZERO, A_TINY, A_WILD, A_N };

static void fill_acts(enum acts kind, float *x, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		x[i] = gauss();
		if (kind == A_OUTLIER && rnd() % 97 == 0)
			x[i] *= 10000;
		if (kind == A_SATURATED)
			x[i] = rnd() & 1 ? 3.5f : -3.5f;
		if (kind == A_ZERO)
			x[i] = rnd() & 1 ? 0.0f : -0.0f;
		if (kind == A_TINY)
			x[i] = ldexpf(x[i], -150 + (int)(rnd() % 60));
		if (kind == A_WILD && rnd() % 50 == 0)
			x[i] = (float[]){ INFINITY, -INFINITY, NAN,
					  3e38f }[rnd() & 3];
	}
}

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

/* ------------------------------------------------------------------- bench */
struct bench {
	const struct mat_kernels *k;
	struct act *a;
	const uint8_t *data;
	float *out;
	struct mat m;
	size_t bytes; /* of one matrix */
	size_t n_mats;
	uint32_t thread, threads;
};

/* With one thread its own time counts, not what others take of the core. */
static double now(int threads)
{
	struct timespec ts;

	clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
		      &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* Each thread takes its share of the panels of each matrix. */
static void *bench_thread(void *arg)
{
	struct bench *b = arg;
	struct mat m = b->m;
	uint32_t n = mat_panels(&m), p;
	size_t i;

	for (i = 0; i < b->n_mats; i++) {
		m.data = b->data + i * b->bytes;
		for (p = b->thread * 8; p < n; p += 8 * b->threads)
			b->k->mul[m.fmt](&m, p, p + 8 < n ? p + 8 : n, b->a,
					 b->out, m.rows, false);
	}
	return NULL;
}

static double bench_once(struct bench *b, int threads)
{
	struct bench each[64];
	pthread_t id[64];
	double t0 = now(threads);
	int i;

	for (i = 0; i < threads; i++) {
		each[i] = *b;
		each[i].thread = (uint32_t)i;
		each[i].threads = (uint32_t)threads;
		if (i)
			pthread_create(&id[i], NULL, bench_thread, &each[i]);
	}
	bench_thread(&each[0]);
	for (i = 1; i < threads; i++)
		pthread_join(id[i], NULL);
	return now(threads) - t0;
}

struct bench_opts {
	const char *fmt;
	uint32_t rows, cols, tokens;
	size_t mib;
	int threads;
};

static void bench_one(const struct bench_opts *o, enum fmt f,
		      enum cpu_level level, uint32_t n)
{
	struct mat_kernels k, c;
	struct bench b = { 0 };
	struct act a;
	uint8_t *file, *data;
	float *x;
	size_t i, total, row = fmt_bytes(f, o->cols);
	double best = 1e9, work, t, start;
	void *mem;
	int reps = 0;

	mat_kernels_init(&k, level);
	mat_kernels_init(&c, level - 1);
	if (k.mul[f] == c.mul[f])
		return;
	b.bytes = mat_bytes(f, o->rows, o->cols);
	/* many tokens: arithmetic counts, one matrix does; few: memory */
	b.n_mats = n > 32 ? 1 : (o->mib << 20) / b.bytes;
	b.n_mats = b.n_mats ? b.n_mats : 1;
	total = (b.bytes * b.n_mats + (2u << 20)) & ~((2ul << 20) - 1);
	file = malloc(row * MAT_PANEL);
	data = aligned_alloc(2u << 20, total);
	x = malloc(sizeof(float) * n * o->cols);
	mem = aligned_alloc(MAT_ALIGN, act_bytes(n, o->cols));
	b.out = malloc(sizeof(float) * n * o->rows);
	madvise(data, total, MADV_HUGEPAGE);
	fill_weights(f, W_NORMAL, file, (size_t)MAT_PANEL * o->cols);
	mat_pack(f, o->cols, file, MAT_PANEL, data);
	for (i = 1; i < b.bytes * b.n_mats / mat_panel_bytes(f, o->cols); i++)
		memcpy(data + i * mat_panel_bytes(f, o->cols), data,
		       mat_panel_bytes(f, o->cols));
	fill_acts(A_NORMAL, x, (size_t)n * o->cols);
	act_init(&a, n, o->cols, mem);
	a.f = x;
	for (i = 0; i < n; i++)
		k.act_quant(&a, (uint32_t)i, x + i * o->cols);
	b.m = (struct mat){ f, o->rows, o->cols, data };
	b.k = &k;
	b.a = &a;
	b.data = data;
	start = now(1);
	while (reps++ < 3 || now(1) - start < 0.4) {
		t = bench_once(&b, o->threads);
		best = t < best ? t : best;
	}
	best /= (double)b.n_mats;
	work = 2.0 * o->rows * o->cols * n;
	printf("mul %-5s %-6s %5ux%-5u n=%-4u t=%d %10.1f us %7.2f GB/s "
	       "%8.1f GOP/s\n",
	       fmt_info[f].name, cpu_level_names[level], o->rows, o->cols, n,
	       o->threads, best * 1e6, (double)b.bytes / best * 1e-9,
	       work / best * 1e-9);
	fflush(stdout);
	free(file);
	free(data);
	free(x);
	free(mem);
	free(b.out);
}

static void bench_act(enum cpu_level level)
{
	enum { COLS = 2048, N = 64 };
	struct mat_kernels k;
	struct act a;
	float *x = malloc(sizeof(float) * COLS * N);
	double best = 1e9, t;
	int reps, i;

	mat_kernels_init(&k, level);
	act_init(&a, N, COLS, aligned_alloc(MAT_ALIGN, act_bytes(N, COLS)));
	fill_acts(A_NORMAL, x, (size_t)COLS * N);
	for (reps = 0; reps < 50; reps++) {
		t = now(1);
		for (i = 0; i < N; i++)
			k.act_quant(&a, (uint32_t)i, x + i * COLS);
		t = now(1) - t;
		best = t < best ? t : best;
	}
	printf("act_quant   %-6s %d columns %10.2f us\n",
	       cpu_level_names[level], COLS, best / N * 1e6);
	free(a.blk);
	free(x);
}

static int bench(const struct bench_opts *o)
{
	static const uint32_t counts[] = { 1, 2, 4, 8, 16, 512 };
	unsigned i;
	int f, l;

	for (l = CPU_C; l <= (int)top_level; l++)
		bench_act(l);
	for (f = 0; f < FMT_N; f++) {
		if (o->fmt && strcmp(o->fmt, fmt_info[f].name))
			continue;
		for (l = CPU_C + 1; l <= (int)top_level; l++)
			for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
				if (!o->tokens || o->tokens == counts[i])
					bench_one(o, f, l, counts[i]);
	}
	return 0;
}

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
		return bench(&o);
	printf("seed %llu, levels c..%s\n", (unsigned long long)seed,
	       cpu_level_names[top_level]);
	r = srunner_create(suite());
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
