/* SPDX-License-Identifier: MIT */
/* check_cuda_embed.c - rows of packed matrices on the device, like mat_row(). */
#include <errno.h>

#include "cuda_rig.h"

#define ROWS   37
#define COLS   512
#define TOKENS 6

START_TEST(rows)
{
	static const uint32_t tokens[TOKENS] = { 0, 36, 17, 15, 16, 0 };
	enum weights kind;
	float want[TOKENS * COLS];
	int t, i;

	cuda_open(1);
	for (kind = 0; kind < W_N; kind++) {
		struct cuda_mat m =
			cuda_mat_new((enum fmt)_i, kind, ROWS, COLS);
		struct cu_embed p = {
			.m = m.dev,
			.tokens = dev_put(tokens, sizeof(tokens)),
			.out = dev_room(sizeof(want)),
			.scale = kind & 1 ? 22.627417f : 1,
			.n = TOKENS,
		};
		struct cu_launch l;

		for (t = 0; t < TOKENS; t++)
			mat_row(&m.host, tokens[t], want + t * COLS);
		for (i = 0; p.scale != 1 && i < TOKENS * COLS; i++)
			want[i] = want[i] * p.scale;
		cuda_run(&l, cu_launch_embed(&l, &p, &chip));
		dev_same(p.out, want, TOKENS * COLS, fmt_info[_i].name);
		dev_free(p.tokens);
		dev_free(p.out);
		cuda_mat_free(&m);
	}
}
END_TEST

START_TEST(odd_columns)
{
	struct cu_embed p = { .m = { .rows = 1, .cols = 6 }, .n = 1 };
	struct cu_launch l;

	ck_assert_int_eq(cu_launch_embed(&l, &p, &chip), -ENOTSUP);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda embed");
	TCase *t = tcase_create("embed");

	tcase_add_loop_test(t, rows, 0, FMT_N);
	tcase_add_test(t, odd_columns);
	suite_add_tcase(s, t);
	return cuda_main(s);
}
