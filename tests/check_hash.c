/* SPDX-License-Identifier: MIT */
/* check_hash.c - digests of files: the values that fs-verity's tool gives. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../daemon/hash.h"

/* What `fsverity digest` says of a file whose byte i is below. */
static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 131 + (i >> 12) * 7);
}

static const struct {
	uint64_t bytes;
	const char *digest;
} golden[] = {
	/* clang-format off */
	{ 0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95" },
	{ 1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551" },
	{ 4095, "de15d5663f795e809c7e0c4c468790d71f2aa25eab530244231e05b19c673f2d" },
	{ 4096, "0d5fa6409d4b558cae4fb7fd1e06719f23b827c810519a104556c55134466f70" },
	{ 4097, "ab71e9c03fb5d95e0d005f06788e0d342a4803f4d7f14c807bf90b809d1eaa83" },
	{ 12288, "baf59a4e6ba00bab730c7fbbe41295e5ea0e8a7e3328300d3ed30877d2818fcf" },
	{ 524288, "042744fe4d531f05e90da8ca33033019661f079daaf8696a8bd471ff99bbe1a5" },
	{ 524289, "bf241f51902864fb979f1bd9f4ab067beb68816cd1f804eaa5ae9df90d5ba5cd" },
	{ 1572941, "6c31e36b9ebfe466f7b9c4b6564670026420961a29eded53085d67e0fa6f80e8" },
	{ 67633157, "46d27a5c858bf5b9f1cfd9e45715850d63708135d471cf205648732b5a139adb" },
	/* clang-format on */
};

static uint8_t *file_of(uint64_t bytes)
{
	uint64_t room = (bytes + HASH_BLOCK) / HASH_BLOCK * HASH_BLOCK, i;
	uint8_t *p = calloc(1, room);

	ck_assert_ptr_nonnull(p);
	for (i = 0; i < bytes; i++)
		p[i] = byte_at(i);
	return p;
}

static void hex(char out[65], const uint8_t *d)
{
	static const char digit[] = "0123456789abcdef";
	int i;

	for (i = 0; i < HASH_BYTES; i++) {
		out[2 * i] = digit[d[i] >> 4];
		out[2 * i + 1] = digit[d[i] & 15];
	}
	out[64] = 0;
}

struct share {
	struct hash_tree *t;
	const uint8_t *data;
	uint64_t first;
	uint64_t step;
};

/* Blocks from the last one back, every step-th. */
static void *put_some(void *arg)
{
	struct share *s = arg;
	uint8_t h[HASH_BYTES];
	uint64_t i;

	for (i = s->first; i < s->t->n_blocks; i += s->step) {
		uint64_t b = s->t->n_blocks - 1 - i;

		hash_block(h, s->data + b * HASH_BLOCK);
		if (hash_tree_put(s->t, b, h))
			return arg;
	}
	return NULL;
}

static void digest_of(const uint8_t *p, uint64_t bytes, unsigned int threads,
		      char out[65])
{
	struct share s[8];
	struct hash_tree t;
	pthread_t th[8];
	uint8_t d[HASH_BYTES];
	void *bad;
	unsigned int i;

	ck_assert_int_eq(hash_tree_init(&t, bytes), 0);
	ck_assert_int_eq(hash_tree_complete(&t), bytes == 0);
	for (i = 0; i < threads; i++) {
		s[i] = (struct share){ &t, p, i, threads };
		ck_assert(!pthread_create(&th[i], NULL, put_some, &s[i]));
	}
	for (i = 0; i < threads; i++) {
		ck_assert(!pthread_join(th[i], &bad));
		ck_assert_ptr_null(bad);
	}
	ck_assert(hash_tree_complete(&t));
	hash_tree_digest(&t, d);
	hash_tree_fini(&t);
	hex(out, d);
}

START_TEST(test_golden)
{
	uint8_t *p = file_of(golden[_i].bytes);
	unsigned int threads;
	char text[65];

	for (threads = 1; threads <= 8; threads *= 2) {
		digest_of(p, golden[_i].bytes, threads, text);
		ck_assert_str_eq(text, golden[_i].digest);
	}
	free(p);
}
END_TEST

/* Any bit counts, and so does the length. */
START_TEST(test_bits)
{
	char was[65], is[65];
	uint8_t *p = file_of(1000000);
	uint64_t at;

	digest_of(p, 1000000, 1, was);
	for (at = 0; at < 1000000; at += 99999) {
		p[at] ^= 1;
		digest_of(p, 1000000, 1, is);
		ck_assert_str_ne(was, is);
		p[at] ^= 1;
	}
	p[999999] = 0; /* only the length differs */
	digest_of(p, 1000000, 1, was);
	digest_of(p, 999999, 1, is);
	ck_assert_str_ne(was, is);
	free(p);
}
END_TEST

START_TEST(test_parts)
{
	uint8_t part[2][HASH_BYTES], one[HASH_BYTES], two[HASH_BYTES];

	hash_sha256(part[0], "abc", 3);
	hash_sha256(part[1], "abd", 3);
	hash_parts((const uint8_t(*)[HASH_BYTES])part, 1, one);
	ck_assert_mem_eq(one, part[0], HASH_BYTES);
	hash_parts((const uint8_t(*)[HASH_BYTES])part, 2, one);
	hash_sha256(two, part, sizeof(part));
	ck_assert_mem_eq(one, two, HASH_BYTES);
	memcpy(part[1], part[0], HASH_BYTES);
	hash_parts((const uint8_t(*)[HASH_BYTES])part, 2, two);
	ck_assert_mem_ne(one, two, HASH_BYTES);
}
END_TEST

START_TEST(test_sha256)
{
	uint8_t d[HASH_BYTES];
	char text[65];

	hash_sha256(d, "abc", 3); /* FIPS 180-2 */
	hex(text, d);
	ck_assert_str_eq(text, "ba7816bf8f01cfea414140de5dae2223"
			       "b00361a396177a9cb410ff61f20015ad");
}
END_TEST

/* Side by side as one by one. */
START_TEST(test_many)
{
	uint8_t many[50][HASH_BYTES], one[HASH_BYTES];
	uint8_t *p = file_of(50 * HASH_BLOCK);
	size_t n, i;

	for (n = 0; n <= 50; n++) {
		memset(many, 0, sizeof(many));
		hash_blocks(many, p, n);
		for (i = 0; i < 50; i++) {
			if (i < n)
				hash_block(one, p + i * HASH_BLOCK);
			else
				memset(one, 0, sizeof(one));
			ck_assert_mem_eq(many[i], one, HASH_BYTES);
		}
	}
	free(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hash");
	TCase *t = tcase_create("hash");
	SRunner *r;
	int failed;

	tcase_add_test(t, test_sha256);
	tcase_add_test(t, test_many);
	tcase_add_loop_test(t, test_golden, 0,
			    sizeof(golden) / sizeof(golden[0]));
	tcase_add_test(t, test_bits);
	tcase_add_test(t, test_parts);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
