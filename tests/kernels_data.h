/* SPDX-License-Identifier: MIT */
/* kernels_data.h - buffers between guards, and inputs that hurt kernels. */
#ifndef HEARTH_KERNELS_DATA_H
#define HEARTH_KERNELS_DATA_H

#include <check.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/mat.h"

#define GUARD	   64
#define GUARD_BYTE 0xa5

static uint64_t seed;

static uint64_t rng_state;

static inline uint64_t rnd(void)
{
	uint64_t z = (rng_state += 0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline float uniform(void)
{
	return (float)(rnd() >> 40) * 0x1p-24f;
}

static inline float gauss(void)
{
	return sqrtf(-2 * logf(uniform() + 0x1p-25f)) *
	       cosf(6.2831853f * uniform());
}

/* A buffer between guards; aligned like real ones. */
static inline void *guarded(size_t bytes)
{
	size_t room = (bytes + MAT_ALIGN - 1) / MAT_ALIGN * MAT_ALIGN;
	uint8_t *p = aligned_alloc(MAT_ALIGN, GUARD + room + GUARD);

	ck_assert_ptr_nonnull(p);
	memset(p, GUARD_BYTE, GUARD + room + GUARD);
	return p + GUARD;
}

static inline void guarded_free(void *v, size_t bytes)
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
static inline int same(float a, float b)
{
	return !memcmp(&a, &b, sizeof(a)) || (isnan(a) && isnan(b));
}

static inline void assert_same(const float *got, const float *want, size_t n,
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
static inline void tame(enum fmt f, uint8_t *data, size_t blocks)
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

static inline void fill_weights(enum fmt f, enum weights kind, uint8_t *data,
				size_t n)
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

static inline void fill_acts(enum acts kind, float *x, size_t n)
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

#endif
