/* SPDX-License-Identifier: MIT */
/* check_find.c - what a model's name means, and texts that end an answer. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../daemon/proc.h"
#include "../libclient/conn.h"
#include "../libclient/openfile.h"

/* ------------------------------------------------------------------ names */

static char dir[64];

static void put(const char *name)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
}

static void setup(void)
{
	char path[300];
	char dirs[300];

	strcpy(dir, "/tmp/check_find.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a", dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/b", dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/b/sub", dir);
	mkdir(path, 0700);
	put("a/SmolLM2-135M-Instruct.Q4_1.gguf");
	put("a/qwen3-0.6b-q8_0.gguf");
	put("a/big-00001-of-00003.gguf");
	put("a/big-00002-of-00003.gguf");
	put("a/big-00003-of-00003.gguf");
	put("a/readme.txt");
	put("b/gemma-3-270m-q4_k_m.gguf");
	put("b/gemma-3-1b-q4_k_m.gguf");
	put("b/qwen3-0.6b-q8_0.gguf");
	put("b/sub/deep.gguf");
	snprintf(dirs, sizeof(dirs), "%s/a:%s/b", dir, dir);
	setenv("HEARTH_MODELS", dirs, 1);
}

static void teardown(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ck_assert_int_eq(system(cmd), 0);
}

static void finds(const char *name, const char *file)
{
	char want[256];
	char got[FIND_PATH];

	snprintf(want, sizeof(want), "%s/%s", dir, file);
	ck_assert_int_eq(hearth_model_find(name, got, sizeof(got)), 0);
	ck_assert_str_eq(got, want);
}

START_TEST(names)
{
	finds("SmolLM2-135M-Instruct.Q4_1",
	      "a/SmolLM2-135M-Instruct.Q4_1.gguf");
	finds("SmolLM2-135M-Instruct.Q4_1.gguf",
	      "a/SmolLM2-135M-Instruct.Q4_1.gguf");
	finds("smollm2-135m-instruct.q4_1",
	      "a/SmolLM2-135M-Instruct.Q4_1.gguf");
	/* only one continues it, from a boundary on */
	finds("smollm2", "a/SmolLM2-135M-Instruct.Q4_1.gguf");
	finds("smollm2-135m-instruct", "a/SmolLM2-135M-Instruct.Q4_1.gguf");
	/* the same name twice: the first directory's */
	finds("qwen3-0.6b-q8_0", "a/qwen3-0.6b-q8_0.gguf");
	finds("qwen3", "a/qwen3-0.6b-q8_0.gguf");
	finds("gemma-3-270m", "b/gemma-3-270m-q4_k_m.gguf");
	/* split, and below a directory */
	finds("big", "a/big-00001-of-00003.gguf");
	finds("sub/deep", "b/sub/deep.gguf");
}
END_TEST

START_TEST(paths)
{
	char path[256];
	char got[FIND_PATH];

	snprintf(path, sizeof(path), "%s/b/gemma-3-1b-q4_k_m.gguf", dir);
	ck_assert_int_eq(hearth_model_find(path, got, sizeof(got)), 0);
	ck_assert_str_eq(got, path);
	snprintf(path, sizeof(path), "%s/b/gemma-3-1b-q4_k_m", dir);
	ck_assert_int_eq(hearth_model_find(path, got, sizeof(got)), 0);
	ck_assert(strstr(got, "q4_k_m.gguf"));
	ck_assert_int_eq(hearth_model_find("/no/such.gguf", got, sizeof(got)),
			 -ENOENT);
	ck_assert_str_eq(got, "");
	ck_assert_int_eq(hearth_model_find("../../etc/x", got, sizeof(got)),
			 -ENOENT);
	ck_assert_int_eq(hearth_model_find("", got, sizeof(got)), -ENOENT);
	ck_assert_int_eq(hearth_model_find("..", got, sizeof(got)), -ENOENT);
	ck_assert_int_eq(hearth_model_find("big", got, 5), -ENAMETOOLONG);
}
END_TEST

static void near_is(const char *name, const char *first)
{
	char got[FIND_PATH];

	ck_assert_int_eq(hearth_model_find(name, got, sizeof(got)), -ENOENT);
	ck_assert_msg(!strncmp(got, first, strlen(first)), "%s: %s", name, got);
}

START_TEST(nearest_names)
{
	char got[FIND_PATH];

	near_is("smolm2-135m-instruct.q4_1", "SmolLM2-135M-Instruct.Q4_1");
	near_is("qwen3-0.6b-q4_0", "qwen3-0.6b-q8_0");
	/* two continue it: no guess, but both are named */
	near_is("gemma-3", "gemma-3-1b-q4_k_m, gemma-3-270m-q4_k_m");
	near_is("270m", "gemma-3-270m-q4_k_m");
	ck_assert_int_eq(hearth_model_find("zzzzzz", got, sizeof(got)),
			 -ENOENT);
	ck_assert_str_eq(got, "");
}
END_TEST

START_TEST(parts_of_a_split_model)
{
	static char part[8][FIND_PATH];
	char why[256];
	char name[64];

	ck_assert_int_eq(find_parts("/m/x-00002-of-00003.gguf", part, 8, why,
				    sizeof(why)),
			 3);
	ck_assert_str_eq(part[0], "/m/x-00001-of-00003.gguf");
	ck_assert_str_eq(part[2], "/m/x-00003-of-00003.gguf");
	ck_assert_int_eq(find_parts("x-00001-of-00009.gguf", part, 8, why,
				    sizeof(why)),
			 -E2BIG);
	ck_assert(strstr(why, "9") && strstr(why, "8"));
	/* not the form: one file of that name */
	ck_assert_int_eq(find_parts("x-00004-of-00003.gguf", part, 8, why,
				    sizeof(why)),
			 1);
	ck_assert_int_eq(find_parts("x-00000-of-00000.gguf", part, 8, why,
				    sizeof(why)),
			 1);
	ck_assert_int_eq(find_parts("x-1-of-3.gguf", part, 8, why, sizeof(why)),
			 1);
	ck_assert_int_eq(find_parts("-00001-of-00002.gguf", part, 8, why,
				    sizeof(why)),
			 1);
	find_name("/m/x-00002-of-00003.gguf", name, sizeof(name));
	ck_assert_str_eq(name, "x");
	find_name("y.GGUF", name, sizeof(name));
	ck_assert_str_eq(name, "y");
	find_name("/m/longer.gguf", name, 4);
	ck_assert_str_eq(name, "lon");
}
END_TEST

START_TEST(directories)
{
	char buf[256];

	setenv("HEARTH_MODELS", "/x:/y", 1);
	ck_assert_int_eq(hearth_model_dirs(buf, sizeof(buf)), 5);
	ck_assert_str_eq(buf, "/x:/y");
	ck_assert_int_eq(hearth_model_dirs(buf, 5), -ENOSPC);
	unsetenv("HEARTH_MODELS");
	setenv("XDG_DATA_HOME", "/d", 1);
	ck_assert_int_gt(hearth_model_dirs(buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/d/hearth/models:/var/lib/hearth/models");
	unsetenv("XDG_DATA_HOME");
	setenv("HOME", "/h", 1);
	ck_assert_int_gt(hearth_model_dirs(buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/h/.local/share/hearth/models:"
			      "/var/lib/hearth/models");
}
END_TEST

/* ------------------------------------------------------------- stop texts */

/* The definition: end at the first byte that completes a text; of those that
 * end there the one that began first. */
static size_t naive(const char *s, size_t n, const char *const *stop,
		    size_t n_stop, bool *hit)
{
	size_t best;
	size_t end;
	size_t i;

	for (end = 1; end <= n; end++) {
		best = 0;
		for (i = 0; i < n_stop; i++) {
			size_t k = strlen(stop[i]);

			if (k <= end && k > best &&
			    !memcmp(s + end - k, stop[i], k))
				best = k;
		}
		if (best) {
			*hit = true;
			return end - best;
		}
	}
	*hit = false;
	return n;
}

/* Feed @s in pieces that end where bits of @cuts are set. */
static void feed(const char *s, size_t n, uint64_t cuts,
		 const char *const *stop, size_t n_stop)
{
	char buf[256];
	char out[256];
	struct stop st;
	size_t out_n = 0;
	size_t at = 0;
	size_t k;
	bool want_hit;
	bool hit = false;
	size_t want = naive(s, n, stop, n_stop, &want_hit);

	ck_assert_int_eq(stop_init(&st, stop, n_stop), 0);
	while (at < n && !hit) {
		for (k = 1; at + k < n && !(cuts >> (at + k - 1) & 1); k++)
			;
		memcpy(buf, s + at, k);
		at += k;
		k = stop_feed(&st, buf, k, &hit);
		memcpy(out + out_n, buf, k);
		out_n += k;
		/* nothing is given out that would have to be taken back */
		ck_assert_uint_le(out_n, want);
	}
	if (!hit) {
		k = stop_flush(&st, buf);
		memcpy(out + out_n, buf, k);
		out_n += k;
	}
	stop_fini(&st);
	ck_assert(hit == want_hit);
	ck_assert_uint_eq(out_n, want);
	ck_assert(!memcmp(out, s, want));
}

START_TEST(every_split)
{
	static const char *const one[] = { "stop" };
	static const char *const two[] = { "aab", "ab", "abcabd" };
	static const char *const text[] = { "ststop it", "xxstox", "aaabcabd",
					    "abcabcabd", "sto",	   "caabab" };
	uint64_t cuts;
	size_t i;
	size_t n;

	for (i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
		n = strlen(text[i]);
		for (cuts = 0; cuts < 1ull << (n - 1); cuts++) {
			feed(text[i], n, cuts, one, 1);
			feed(text[i], n, cuts, two, 3);
		}
	}
}
END_TEST

START_TEST(random_texts)
{
	char text[60];
	char word[4][8];
	const char *stop[4];
	unsigned int seed = 7;
	size_t n_stop;
	size_t n;
	int round;
	size_t i;
	size_t k;

	for (round = 0; round < 20000; round++) {
		n_stop = 1 + (size_t)rand_r(&seed) % 4;
		for (i = 0; i < n_stop; i++) {
			n = 1 + (size_t)rand_r(&seed) % 6;
			for (k = 0; k < n; k++)
				word[i][k] = (char)('a' + rand_r(&seed) % 3);
			word[i][n] = 0;
			stop[i] = word[i];
		}
		n = 1 + (size_t)rand_r(&seed) % sizeof(text);
		for (k = 0; k < n; k++)
			text[k] = (char)('a' + rand_r(&seed) % 3);
		feed(text, n, (uint64_t)rand_r(&seed) << 31 | rand_r(&seed),
		     stop, n_stop);
	}
}
END_TEST

START_TEST(bad_stop_texts)
{
	static char longer[STOP_MAX_BYTES + 2];
	const char *text[STOP_MAX + 1];
	struct stop s;
	size_t i;

	ck_assert_int_eq(stop_init(&s, NULL, 0), 0);
	ck_assert_uint_eq(stop_room(&s), 0);
	ck_assert_int_eq(stop_init(&s, NULL, 1), -EINVAL);
	text[0] = "";
	ck_assert_int_eq(stop_init(&s, text, 1), -EINVAL);
	text[0] = NULL;
	ck_assert_int_eq(stop_init(&s, text, 1), -EINVAL);
	memset(longer, 'x', sizeof(longer) - 1);
	text[0] = longer;
	ck_assert_int_eq(stop_init(&s, text, 1), -EINVAL);
	for (i = 0; i <= STOP_MAX; i++)
		text[i] = "x";
	ck_assert_int_eq(stop_init(&s, text, STOP_MAX + 1), -EINVAL);
	ck_assert_int_eq(stop_init(&s, text, STOP_MAX), 0);
	stop_fini(&s);
}
END_TEST

/* The parser is asked with the same bytes whoever asks. */
START_TEST(parser_messages_agree)
{
	size_t hdr = sizeof(struct proc_hdr);

	ck_assert_int_eq(OPENFILE_LOAD, PROC_MODEL_LOAD);
	ck_assert_int_eq(OPENFILE_PARSED, PROC_PARSED);
	ck_assert_int_eq(OPENFILE_SOCK, PROC_FD);
	ck_assert_uint_eq(sizeof(struct openfile_ask),
			  hdr + sizeof(struct proc_load));
	ck_assert_uint_eq(offsetof(struct openfile_ask, n_files),
			  hdr + offsetof(struct proc_load, n_files));
	ck_assert_uint_eq(sizeof(struct openfile_msg),
			  hdr + sizeof(struct proc_status));
	ck_assert_uint_eq(offsetof(struct openfile_msg, err),
			  hdr + offsetof(struct proc_status, err));
	ck_assert_uint_eq(offsetof(struct openfile_msg, text),
			  hdr + offsetof(struct proc_status, text));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("find");
	TCase *t = tcase_create("find");
	TCase *u = tcase_create("stop");
	SRunner *r;
	int bad;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, names);
	tcase_add_test(t, paths);
	tcase_add_test(t, nearest_names);
	tcase_add_test(t, parts_of_a_split_model);
	tcase_add_test(t, directories);
	suite_add_tcase(s, t);
	tcase_set_timeout(u, 20);
	tcase_add_test(u, every_split);
	tcase_add_test(u, random_texts);
	tcase_add_test(u, bad_stop_texts);
	tcase_add_test(u, parser_messages_agree);
	suite_add_tcase(s, u);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad ? 1 : 0;
}
