/* SPDX-License-Identifier: MIT */
/* check_cuda_top.c - rows of logits in short on the device, like top_row(), and
 * logits that are picked. */
#include <errno.h>

#include "cuda_rig.h"
#include "../kernels/top.h"

#define ROWS  3
#define PICKS 300 /* of a row at most: more than a thread has one of */

static const uint32_t widths[] = { 1,	 63,   64,   65,    257,
				   1000, 4096, 4099, 12289, 41000 };

/* How the logits of a row are. */
enum kind {
	UNIFORM,
	TIES,	    /* of few values, and both zeros among them */
	EQUAL,	    /* all of them */
	RISING,	    /* the first candidates are the last tokens */
	ONE_THREAD, /* all first candidates are one thread's, and the others */
	HUGE,	    /* as far apart as floats are */
	KINDS,
};

static float logit(enum kind k, uint32_t i)
{
	float x = 2 * uniform() - 1;

	switch (k) {
	case TIES:
		x = (float)(int)(x * 3);
		return x == 0 && i % 2 ? -0.0f : x;
	case EQUAL:
		return -7.5f;
	case RISING:
		return (float)i * 1e-3f;
	case ONE_THREAD:
		return x + (i % TOP_LANES == 77 ? 100 : 0);
	case HUGE:
		return x * 3e38f;
	default:
		return x * 12;
	}
}

/* What is picked of rows: none, the last one, all that there is room for, the
 * same twice, and in no order. */
struct picking {
	struct cu_picks of[ROWS];
	uint32_t token[ROWS * PICKS];
	float want[ROWS * PICKS];
};

static void choose(struct picking *k, const float *x, uint32_t width,
		   uint32_t n)
{
	uint32_t r, i, at = 0, token;

	for (r = 0; r < ROWS * PICKS; r++)
		k->want[r] = -77;
	for (r = 0; r < n; r++) {
		k->of[r].at = at;
		k->of[r].n = r == 0 ? rnd() % (PICKS + 1) : r == 1 ? 0 : PICKS;
		for (i = 0; i < k->of[r].n; i++) {
			token = i ? rnd() % width : width - 1;
			if (i % 7 == 6)
				token = k->token[at - 3];
			k->token[at++] = token;
			k->want[r * PICKS + i] = x[(size_t)r * width + token];
		}
	}
}

/* Rows through the kernel, twice: it leaves its tickets as they were. */
static void run(const float *x, uint32_t width, uint32_t n, struct top_row *out)
{
	static const uint32_t zero[ROWS];
	static float untouched[ROWS * PICKS];
	static struct picking k;
	size_t part = CU_TOP_PART((size_t)width) * sizeof(uint64_t);
	size_t picked = (size_t)n * PICKS, i;
	struct cu_top p = {
		.x = dev_put(x, (size_t)n * width * sizeof(*x)),
		.out = dev_room(n * sizeof(*out)),
		.part = dev_room(n * part),
		.ticket = dev_put(zero, n * sizeof(*zero)),
		.most = PICKS,
		.width = width,
		.n = n,
	};
	struct cu_launch l[2];

	choose(&k, x, width, n);
	for (i = 0; i < picked; i++)
		untouched[i] = -77;
	p.picks = dev_put(k.of, n * sizeof(*k.of));
	p.tokens = dev_put(k.token, sizeof(k.token));
	p.picked = dev_put(untouched, picked * sizeof(*untouched));
	ck_assert_int_eq(cu_launch_top(&l[0], &p, &chip), 1);
	l[1] = l[0];
	cuda_run(l, 2);
	dev_get(out, p.out, n * sizeof(*out));
	dev_same(p.picked, k.want, picked, "picked logits");
	dev_free(p.x);
	dev_free(p.out);
	dev_free(p.part);
	dev_free(p.ticket);
	dev_free(p.picks);
	dev_free(p.tokens);
	dev_free(p.picked);
}

static void same_row(const struct top_row *got, const struct top_row *want,
		     uint32_t width, int kind)
{
	uint32_t i;

	ck_assert_uint_eq(got->finite, want->finite);
	ck_assert_uint_eq(got->n, want->n);
	ck_assert_msg(!memcmp(&got->sum, &want->sum, sizeof(double)),
		      "%u logits, kind %d: sum %a, not %a", width, kind,
		      got->sum, want->sum);
	for (i = 0; i < want->n; i++)
		ck_assert_msg(!memcmp(&got->cand[i], &want->cand[i],
				      sizeof(got->cand[i])),
			      "%u logits, kind %d: candidate %u is %u (%a), "
			      "not %u (%a)",
			      width, kind, i, got->cand[i].token,
			      (double)got->cand[i].logit, want->cand[i].token,
			      (double)want->cand[i].logit);
}

START_TEST(rows)
{
	const uint32_t width = widths[_i];
	float *x = calloc((size_t)ROWS * width, sizeof(*x));
	struct top_row got[ROWS], want;
	uint32_t r, i, at;

	ck_assert_ptr_nonnull(x);
	cuda_open(1);
	for (at = 0; at < KINDS; at += ROWS) {
		for (r = 0; r < ROWS; r++)
			for (i = 0; i < width; i++)
				x[r * width + i] = logit(at + r, i);
		run(x, width, ROWS, got);
		for (r = 0; r < ROWS; r++) {
			top_row(&want, x + (size_t)r * width, width);
			same_row(&got[r], &want, width, (int)(at + r));
		}
	}
	free(x);
}
END_TEST

/* One logit that is none is seen, wherever it is, and in its row alone. */
START_TEST(not_finite)
{
	static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
	static const uint32_t where[] = { 0, 255, 256, 4095, 4096, 4098 };
	const uint32_t width = 4099;
	static float x[2 * 4099];
	struct top_row got[2], want;
	uint32_t i;

	cuda_open(1);
	for (i = 0; i < 2 * width; i++)
		x[i] = logit(UNIFORM, i);
	top_row(&want, x + width, width);
	for (i = 0; i < 6; i++) {
		float keep = x[where[i]];

		x[where[i]] = bad[i % 4];
		run(x, width, 2, got);
		ck_assert_uint_eq(got[0].finite, 0);
		same_row(&got[1], &want, width, -1);
		x[where[i]] = keep;
	}
}
END_TEST

START_TEST(sizes)
{
	struct cu_top p = { .width = CU_TOP_CHUNKS * TOP_CHUNK, .n = 1 };
	struct cu_launch l;

	ck_assert_int_eq(cu_launch_top(&l, &p, &chip), 1);
	p.width++;
	ck_assert_int_eq(cu_launch_top(&l, &p, &chip), -ENOTSUP);
	p.width = 0;
	ck_assert_int_eq(cu_launch_top(&l, &p, &chip), -ENOTSUP);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda top");
	TCase *t = tcase_create("top");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, rows, 0, sizeof(widths) / sizeof(widths[0]));
	tcase_add_test(t, not_finite);
	tcase_add_test(t, sizes);
	suite_add_tcase(s, t);
	return cuda_main(s);
}
