/* SPDX-License-Identifier: MIT */
/* kernels_bench.h - times products: one line a format, level and batch. */
#ifndef HEARTH_KERNELS_BENCH_H
#define HEARTH_KERNELS_BENCH_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels_data.h"

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
	struct bench each[64] = { *b };
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

static int bench(const struct bench_opts *o, enum cpu_level top_level)
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

#endif
