/* SPDX-License-Identifier: MIT */
/* check_conf.c - the option table: every row, its limits, files, the manual. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../daemon/conf.h"

#define MAN "Documentation/man/hearthd.conf.5"

static struct conf conf;
static char why[160];

static void setup(void)
{
	conf_init(&conf);
	why[0] = 0;
}

/* Names and values as conf_print() gives them. */
static int each(int (*fn)(const char *name, const char *value))
{
	static char buf[16384];
	char name[64];
	char value[128];
	char *line;
	char *save = NULL;
	int n = 0;

	ck_assert_int_lt(conf_print(&conf, buf, sizeof(buf)), sizeof(buf));
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), n++) {
		ck_assert_int_eq(sscanf(line, "%63s %127s", name, value), 2);
		ck_assert_msg(!fn(name, value), "%s %s: %s", name, value, why);
	}
	return n;
}

static int set_again(const char *name, const char *value)
{
	if (!strcmp(value, "-"))
		value = "";
	return conf_set(&conf, name, value, why);
}

/* What is printed can be set, and changes nothing. */
START_TEST(print_and_set)
{
	static struct conf before;

	before = conf;
	ck_assert_int_gt(each(set_again), 20);
	ck_assert(!memcmp(&before, &conf, sizeof(conf)));
}
END_TEST

static int refuse_rubbish(const char *name, const char *value)
{
	static const char *const bad[] = { "-1",
					   "x",
					   "1x",
					   "0x10",
					   "1 2",
					   "99999999999999999999",
					   "18446744073709551615T" };
	size_t i;

	if (!strcmp(name, "socket") || !strcmp(name, "user") ||
	    !strcmp(name, "pool-dir"))
		return 0;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (!conf_set(&conf, name, bad[i], why))
			return snprintf(why, sizeof(why), "takes %s", bad[i]);
		if (strncmp(why, name, strlen(name)))
			return 1; /* the sentence begins with the option */
	}
	return conf_set(&conf, name, strcmp(value, "-") ? value : "", why);
}

START_TEST(rubbish)
{
	static struct conf before;
	char longer[512];

	before = conf;
	each(refuse_rubbish);
	ck_assert(!memcmp(&before, &conf, sizeof(conf)));
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	ck_assert_int_eq(conf_set(&conf, "socket", longer, why), -ERANGE);
	ck_assert_int_eq(conf_set(&conf, "user", longer, why), -ERANGE);
	ck_assert_int_eq(conf_set(&conf, longer, "1", why), -EINVAL);
	ck_assert_int_eq(conf_set(&conf, "", "", why), -EINVAL);
	ck_assert(!memcmp(&before, &conf, sizeof(conf)));
}
END_TEST

START_TEST(ranges)
{
	ck_assert_int_eq(conf_set(&conf, "max-batch", "0", why), -ERANGE);
	ck_assert_str_eq(why, "max-batch: 0 is out of range (1 to 1024)");
	ck_assert_int_eq(conf_set(&conf, "max-batch", "1025", why), -ERANGE);
	ck_assert_int_eq(conf_set(&conf, "max-batch", "1024", why), 0);
	ck_assert_int_eq(conf.max_batch, 1024);
	ck_assert_int_eq(conf_set(&conf, "max-in-bytes", "64K", why), 0);
	ck_assert_int_eq(conf.max_in_bytes, 65536);
	ck_assert_int_eq(conf_set(&conf, "mem-bytes", "3g", why), 0);
	ck_assert_int_eq(conf.mem_bytes, 3ull << 30);
	ck_assert_int_eq(conf_set(&conf, "mem-bytes", "1Gi", why), -EINVAL);
	ck_assert_int_eq(conf_set(&conf, "socket-mode", "0660", why), 0);
	ck_assert_int_eq(conf.socket_mode, 0660);
	ck_assert_int_eq(conf_set(&conf, "socket-mode", "0999", why), -EINVAL);
	ck_assert_int_eq(conf_set(&conf, "socket-mode", "1777", why), -ERANGE);
}
END_TEST

START_TEST(names)
{
	ck_assert_int_eq(conf_set(&conf, "backend", "oracle", why), 0);
	ck_assert_int_eq(conf_set(&conf, "backend", "tpu", why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "no such backend (tpu)"));
	ck_assert_str_eq(conf.backend, "oracle");
	ck_assert_int_eq(conf_set(&conf, "cpu-mask", "avx2", why), 0);
	ck_assert_int_eq(conf_set(&conf, "cpu-mask", "sse9", why), -EINVAL);
	ck_assert_int_eq(conf_set(&conf, "cpu-mask", "", why), 0);
}
END_TEST

static int read_text(const char *text)
{
	char path[] = "/tmp/check_conf.XXXXXX";
	int fd = mkstemp(path);
	size_t n = strlen(text);
	int err;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, n), n);
	close(fd);
	err = conf_read(&conf, path, why);
	unlink(path);
	return err;
}

START_TEST(files)
{
	ck_assert_int_eq(read_text("# all comment\n\n  threads\t 3  # three\n"
				   "backend oracle\nuser nobody"),
			 0);
	ck_assert_int_eq(conf.threads, 3);
	ck_assert_str_eq(conf.backend, "oracle");
	ck_assert_str_eq(conf.user, "nobody");
	ck_assert_int_eq(read_text("threads 1\nnonsense 2\n"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, ":2: nonsense: no such option ("));
	ck_assert_int_eq(read_text("threads\n"), -EINVAL);
	ck_assert_int_eq(conf_read(&conf, "/nonexistent", why), -ENOENT);
	ck_assert_int_eq(conf_read(&conf, "/", why), -EIO);
}
END_TEST

START_TEST(long_line)
{
	char text[2048];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ck_assert_int_ne(read_text(text), 0);
	ck_assert_ptr_nonnull(strstr(why, ":1: line too long"));
}
END_TEST

START_TEST(small_buffers)
{
	char full[16384];
	char cut[100];
	int n = conf_print(&conf, full, sizeof(full));

	ck_assert_int_eq(conf_print(&conf, cut, sizeof(cut)), n);
	ck_assert_int_eq(strlen(cut), sizeof(cut) - 1);
	ck_assert_int_eq(strncmp(cut, full, sizeof(cut) - 1), 0);
	ck_assert_int_eq(conf_print(&conf, NULL, 0), n);
	n = conf_help(full, sizeof(full));
	ck_assert_int_eq(conf_help(NULL, 0), n);
	ck_assert_int_eq(strlen(full), n);
}
END_TEST

static char manual[65536];

static int in_manual(const char *name, const char *value)
{
	char item[96];

	(void)value;
	snprintf(item, sizeof(item), ".It Cm %s", name);
	if (strstr(manual, item))
		return 0;
	return snprintf(why, sizeof(why), "%s lacks it", MAN);
}

/* hearthd.conf(5) has every option and no other. */
START_TEST(man_page)
{
	FILE *f = fopen(MAN, "re");
	const char *p;
	int n = 0;

	if (!f)
		return; /* not run from the source tree */
	manual[fread(manual, 1, sizeof(manual) - 1, f)] = 0;
	fclose(f);
	for (p = manual; (p = strstr(p, "\n.It Cm ")); p++)
		n++;
	ck_assert_int_eq(each(in_manual), n);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf");
	TCase *t = tcase_create("conf");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, print_and_set);
	tcase_add_test(t, rubbish);
	tcase_add_test(t, ranges);
	tcase_add_test(t, names);
	tcase_add_test(t, files);
	tcase_add_test(t, long_line);
	tcase_add_test(t, small_buffers);
	tcase_add_test(t, man_page);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
