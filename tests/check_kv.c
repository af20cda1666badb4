/* SPDX-License-Identifier: MIT */
/* check_kv.c - block allocator and arena: exact accounts, nothing shared. */
#include <check.h>

#include "../daemon/arena.h"
#include "../daemon/kv.h"
#include "rig.h"

static const struct mem heap;

static struct kv new_kv(uint32_t blocks, uint32_t seqs, uint32_t max)
{
	struct kv kv;

	ck_assert_int_eq(kv_init(&kv, &heap, blocks, seqs, max), 0);
	return kv;
}

START_TEST(grow_and_give_back)
{
	struct kv kv = new_kv(8, 2, 8);
	int a = kv_seq_get(&kv), b = kv_seq_get(&kv);

	ck_assert_int_ge(a, 0);
	ck_assert_int_ge(b, 0);
	ck_assert_int_ne(a, b);
	ck_assert_int_eq(kv_seq_get(&kv), -EAGAIN);
	ck_assert_int_eq(kv_grow(&kv, a, 1), 0);
	ck_assert_uint_eq(kv.n_free, 7);
	ck_assert_int_eq(kv_grow(&kv, a, KV_BLOCK), 0);
	ck_assert_uint_eq(kv.n_free, 7);
	ck_assert_int_eq(kv_grow(&kv, a, KV_BLOCK + 1), 0);
	ck_assert_uint_eq(kv.n_free, 6);
	ck_assert_uint_eq(kv_reach(&kv, b), 6 * KV_BLOCK);
	/* All or nothing. */
	ck_assert_int_eq(kv_grow(&kv, b, 6 * KV_BLOCK + 1), -ENOSPC);
	ck_assert_uint_eq(kv.n_free, 6);
	ck_assert_int_eq(kv_grow(&kv, b, 6 * KV_BLOCK), 0);
	ck_assert_uint_eq(kv.n_free, 0);
	ck_assert(kv_consistent(&kv));
	kv_seq_put(&kv, b);
	ck_assert_uint_eq(kv.n_free, 6);
	kv_seq_put(&kv, a);
	ck_assert_uint_eq(kv.n_free, 8);
	ck_assert(kv_consistent(&kv));
	kv_fini(&kv, &heap);
}
END_TEST

START_TEST(table_has_an_end)
{
	struct kv kv = new_kv(8, 1, 2);
	int a = kv_seq_get(&kv);

	ck_assert_uint_eq(kv_reach(&kv, a), 2 * KV_BLOCK);
	ck_assert_int_eq(kv_grow(&kv, a, 2 * KV_BLOCK + 1), -ENOSPC);
	ck_assert_int_eq(kv_grow(&kv, a, UINT32_MAX), -ENOSPC);
	ck_assert_int_eq(kv_grow(&kv, a, 2 * KV_BLOCK), 0);
	kv_fini(&kv, &heap);
}
END_TEST

START_TEST(shared_prefix)
{
	struct kv kv = new_kv(8, 2, 8);
	int a = kv_seq_get(&kv), b = kv_seq_get(&kv);

	ck_assert_int_eq(kv_grow(&kv, a, 3 * KV_BLOCK), 0);
	kv_share(&kv, b, a, 2);
	ck_assert_uint_eq(kv.n_free, 5);
	ck_assert_uint_eq(kv_table(&kv, b)[1], kv_table(&kv, a)[1]);
	ck_assert_int_eq(kv_grow(&kv, b, 3 * KV_BLOCK), 0);
	ck_assert_uint_ne(kv_table(&kv, b)[2], kv_table(&kv, a)[2]);
	ck_assert_uint_eq(kv.n_free, 4);
	ck_assert(kv_consistent(&kv));
	kv_seq_put(&kv, a);
	ck_assert_uint_eq(kv.n_free, 5);
	kv_seq_put(&kv, b);
	ck_assert_uint_eq(kv.n_free, 8);
	ck_assert(kv_consistent(&kv));
	kv_fini(&kv, &heap);
}
END_TEST

/* Random life of sequences: no block is ever in two tables unshared. */
START_TEST(random_life)
{
	uint32_t len[16] = { 0 }, i, k, owner[64];
	struct kv kv = new_kv(64, 16, 20);
	uint64_t seed = (uint64_t)_i;
	int seq[16], n;

	for (i = 0; i < 16; i++)
		seq[i] = -1;
	for (n = 0; n < 2000; n++) {
		i = rig_rand(&seed) % 16;
		if (seq[i] < 0) {
			seq[i] = kv_seq_get(&kv);
			ck_assert_int_ge(seq[i], 0);
			len[i] = 0;
		} else if (rig_rand(&seed) % 8 == 0) {
			kv_seq_put(&kv, seq[i]);
			seq[i] = -1;
		} else {
			k = len[i] + rig_rand(&seed) % 100;
			if (!kv_grow(&kv, seq[i], k))
				len[i] = k;
		}
		ck_assert(kv_consistent(&kv));
		memset(owner, 0xff, sizeof(owner));
		for (i = 0; i < 16; i++) {
			for (k = 0; seq[i] >= 0 && k < kv_blocks_for(len[i]);
			     k++) {
				uint32_t b = kv_table(&kv, seq[i])[k];

				ck_assert_uint_lt(b, 64);
				ck_assert_uint_eq(owner[b], UINT32_MAX);
				owner[b] = i;
			}
		}
	}
	kv_fini(&kv, &heap);
}
END_TEST

START_TEST(arena_first_fit)
{
	struct arena a;
	uint64_t x, y, z, w;

	ck_assert_int_eq(arena_init(&a, &heap, 100, 1100, 4), 0);
	ck_assert_uint_eq(a.start, 128);
	ck_assert_uint_eq(a.end, 1088);
	ck_assert_uint_eq(arena_room(&a), 960);
	ck_assert_int_eq(arena_alloc(&a, 100, &x), 0);
	ck_assert_int_eq(arena_alloc(&a, 64, &y), 0);
	ck_assert_int_eq(arena_alloc(&a, 64, &z), 0);
	ck_assert_uint_eq(x, 128);
	ck_assert_uint_eq(y, 256);
	ck_assert_uint_eq(z, 320);
	ck_assert_int_eq(arena_alloc(&a, UINT64_MAX, &w), -ENOSPC);
	ck_assert_int_eq(arena_alloc(&a, 705, &w), -ENOSPC);
	ck_assert_int_eq(arena_alloc(&a, 704, &w), 0);
	ck_assert_uint_eq(arena_room(&a), 0);
	/* Its slots are used up, even where there is a hole. */
	arena_free(&a, y);
	ck_assert_int_eq(arena_alloc(&a, 64, &y), 0);
	ck_assert_uint_eq(y, 256);
	ck_assert_int_eq(arena_alloc(&a, 1, &y), -ENOSPC);
	/* Holes that touch are one hole. */
	arena_free(&a, 256);
	arena_free(&a, 128);
	ck_assert_uint_eq(arena_room(&a), 192);
	arena_free(&a, 384);
	arena_free(&a, 320);
	ck_assert_uint_eq(arena_room(&a), 960);
	arena_fini(&a, &heap);
}
END_TEST

START_TEST(arena_claims)
{
	struct arena a;
	uint64_t x;

	ck_assert_int_eq(arena_init(&a, &heap, 0, 1024, 8), 0);
	ck_assert_int_eq(arena_claim(&a, 256, 128), 0);
	ck_assert_int_eq(arena_claim(&a, 256, 64), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, 320, 64), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, 192, 128), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, 200, 8), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, 960, 65), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, 1u << 30, 64), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, UINT64_MAX - 63, 64), -EINVAL);
	ck_assert_int_eq(arena_claim(&a, 960, 64), 0);
	ck_assert_int_eq(arena_claim(&a, 192, 64), 0);
	ck_assert_int_eq(arena_alloc(&a, 192, &x), 0);
	ck_assert_uint_eq(x, 0);
	arena_fini(&a, &heap);
}
END_TEST

/* Random life: extents never overlap, and everything comes back. */
START_TEST(arena_random)
{
	struct arena a;
	uint64_t off[32], len[32] = { 0 }, seed = (uint64_t)_i + 99, room, n;
	int i, k, turn;

	ck_assert_int_eq(arena_init(&a, &heap, 4096, 65536, 32), 0);
	room = arena_room(&a);
	for (turn = 0; turn < 5000; turn++) {
		i = (int)(rig_rand(&seed) % 32);
		if (len[i]) {
			arena_free(&a, off[i]);
			len[i] = 0;
			continue;
		}
		n = 1 + rig_rand(&seed) % 6000;
		if (arena_alloc(&a, n, &off[i])) {
			ck_assert_uint_lt(arena_room(&a), n + ARENA_ALIGN);
			continue;
		}
		len[i] = n;
		ck_assert_uint_ge(off[i], 4096);
		ck_assert_uint_le(off[i] + n, 65536);
		for (k = 0; k < 32; k++)
			ck_assert(k == i || !len[k] || off[k] >= off[i] + n ||
				  off[i] >= off[k] + len[k]);
	}
	for (i = 0; i < 32; i++)
		if (len[i])
			arena_free(&a, off[i]);
	ck_assert_uint_eq(arena_room(&a), room);
	arena_fini(&a, &heap);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("kv");
	TCase *t = tcase_create("blocks");

	tcase_add_test(t, grow_and_give_back);
	tcase_add_test(t, table_has_an_end);
	tcase_add_test(t, shared_prefix);
	tcase_add_loop_test(t, random_life, 0, 5);
	suite_add_tcase(s, t);
	t = tcase_create("arena");
	tcase_add_test(t, arena_first_fit);
	tcase_add_test(t, arena_claims);
	tcase_add_loop_test(t, arena_random, 0, 5);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
