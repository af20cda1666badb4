/* SPDX-License-Identifier: MIT */
/*
 * check_pool.c - every provider that this machine can have: objects are
 * published once, found again, and never written; what is torn or foreign is
 * seen for what it is.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../daemon/hash.h"
#include "../daemon/pool.h"

#define WEIGHTS	 100000u
#define IMAGE	 5000u
#define STRANGER 65533 /* a uid that is nobody's */
#define N_HUGE	 8

static const struct pool_ops *const all[] = { &pool_kmod, &pool_hugetlbfs,
					      &pool_tmpfs, &pool_private };
#define N_PROVIDERS 4

static char dir[64]; /* a mount of tmpfs or hugetlbfs, and its pool */
static char *huge_was;
static struct conf conf;
static struct pool pool;
static char why[160];

/* ------------------------------------------------------------ huge pages */

static void huge_pages(const char *n)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "we");

	if (!f)
		return;
	fputs(n, f);
	fclose(f);
}

static unsigned long huge_free(void)
{
	unsigned long n = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "HugePages_Free: %lu", &n);
	if (f)
		fclose(f);
	return n;
}

/* ------------------------------------------------------------- providers */

/* A pool of provider @i, or a skip. Children of the check get it, too. */
static bool have(int i)
{
	const char *type = i == 1 ? "hugetlbfs" : "tmpfs";

	if (i < 3 && geteuid())
		return false;
	if ((i == 0 || i == 1) && huge_free() < 2)
		return false;
	if (i == 1 || i == 2) {
		strcpy(dir, "/tmp/check_pool.XXXXXX");
		ck_assert_ptr_nonnull(mkdtemp(dir));
		/* Descriptors are tried by another user, too. */
		ck_assert_int_eq(chmod(dir, 0755), 0);
		if (mount("none", dir, type, 0, NULL)) {
			rmdir(dir);
			dir[0] = 0;
			return false;
		}
	}
	conf_init(&conf);
	snprintf(conf.pool, sizeof(conf.pool), "%s", all[i]->name);
	if (dir[0])
		snprintf(conf.pool_dir, sizeof(conf.pool_dir), "%s/p", dir);
	if (!pool_open(&pool, &conf, why))
		return true;
	ck_assert_msg(i == 0, "%s: %s", all[i]->name, why);
	return false;
}

static void drop_object(void *arg, const struct pool_entry *e)
{
	(void)arg;
	pool.ops->destroy(&pool, e->name);
}

static void reopen(void)
{
	pool_close(&pool);
	ck_assert_msg(!pool_open(&pool, &conf, why), "%s", why);
}

static void setup(void)
{
	dir[0] = 0;
	memset(&pool, 0, sizeof(pool));
}

static void teardown(void)
{
	if (pool.ops) {
		pool.ops->list(&pool, drop_object, NULL);
		pool_close(&pool);
	}
	if (dir[0]) {
		umount2(dir, MNT_DETACH);
		rmdir(dir);
	}
}

/* --------------------------------------------------------------- objects */

static int image(char c)
{
	char buf[IMAGE];
	int fd = memfd_create("image", MFD_CLOEXEC);

	memset(buf, c, sizeof(buf));
	ck_assert_int_eq(write(fd, buf, sizeof(buf)), sizeof(buf));
	return fd;
}

static struct pool_meta meta_of(uint8_t seed)
{
	struct pool_meta m = { .uid = 7,
			       .weight_bytes = WEIGHTS,
			       .layout = "test-1",
			       .name = "m",
			       .n_files = 1 };
	int im = image('i');

	memset(m.digest, seed, sizeof(m.digest));
	m.file[0].ino = seed;
	ck_assert_int_eq(pool_image_digest(im, m.image_digest), 0);
	close(im);
	return m;
}

/* As a loader does, all of the weights but @less bytes. */
static int filled(uint8_t seed, uint64_t less)
{
	uint64_t bytes = pool_need(WEIGHTS, IMAGE);
	char *v;
	int fd;

	ck_assert_msg(!pool.ops->create(&pool, &bytes, 7, &fd, why), "%s", why);
	ck_assert_uint_ge(bytes, pool_need(WEIGHTS, IMAGE));
	ck_assert_uint_eq(bytes % pool.page, 0);
	v = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(v, MAP_FAILED);
	ck_assert_int_eq(v[0], 0);
	if (WEIGHTS > less)
		memset(v, seed, WEIGHTS - less);
	munmap(v, bytes);
	return fd;
}

/* A whole object, published; its name. */
static void make(uint8_t seed, char name[POOL_NAME])
{
	struct pool_meta m = meta_of(seed);
	int im = image('i');
	int fd = filled(seed, 0);

	ck_assert_msg(!pool_finish(fd, &m, im, why), "%s", why);
	pool_name(name, &m);
	ck_assert(pool_name_valid(name));
	ck_assert_msg(!pool.ops->publish(&pool, fd, name, 7, why), "%s", why);
	close(fd);
	close(im);
}

static void expect(const char *name, uint8_t seed)
{
	struct pool_meta m;
	struct stat st;
	uint8_t *v;
	char *t;
	int im;
	int fd;

	ck_assert_int_eq(pool.ops->attach(&pool, name, &fd), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(pool_meta_read(fd, &m), 0);
	ck_assert_uint_eq(m.file[0].ino, seed);
	v = mmap(NULL, m.object_bytes, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(v, MAP_FAILED);
	ck_assert_uint_eq(v[0], seed);
	ck_assert_uint_eq(v[WEIGHTS - 1], seed);
	munmap(v, m.object_bytes);
	ck_assert_int_eq(pool_image(fd, &m, &im), 0);
	ck_assert_int_eq(fstat(im, &st), 0);
	ck_assert_int_eq(st.st_size, IMAGE);
	t = mmap(NULL, IMAGE, PROT_READ, MAP_SHARED, im, 0);
	ck_assert(t[0] == 'i' && t[IMAGE - 1] == 'i');
	munmap(t, IMAGE);
	ck_assert_int_eq(write(im, "x", 1), -1); /* sealed */
	close(im);
	close(fd);
}

static unsigned int n_listed;
static char listed[8][POOL_NAME];

static void list_one(void *arg, const struct pool_entry *e)
{
	(void)arg;
	ck_assert_uint_eq(e->bytes % POOL_PAGE, 0);
	ck_assert_uint_lt(e->idle_ns, 3600000000000ull);
	ck_assert_uint_lt(n_listed, 8);
	memcpy(listed[n_listed++], e->name, POOL_NAME);
}

static unsigned int list(void)
{
	n_listed = 0;
	ck_assert_int_eq(pool.ops->list(&pool, list_one, NULL), 0);
	return n_listed;
}

/* ------------------------------------------------------------------ tests */

START_TEST(life)
{
	char a[POOL_NAME];
	char b[POOL_NAME];
	struct pool_meta m;
	int im;
	int fd;

	if (!have(_i))
		return;
	ck_assert_uint_eq(list(), 0);
	make(1, a);
	make(2, b);
	ck_assert_str_ne(a, b);
	ck_assert_uint_eq(list(), 2);
	expect(a, 1);
	expect(b, 2);
	/* the same name twice */
	m = meta_of(1);
	fd = filled(1, 0);
	im = image('i');
	ck_assert_int_eq(pool_finish(fd, &m, im, why), 0);
	ck_assert_int_eq(pool.ops->publish(&pool, fd, a, 7, why), -EEXIST);
	close(fd);
	close(im);
	expect(a, 1);
	/* gone at once by name, for who has it only with its last user */
	ck_assert_int_eq(pool.ops->attach(&pool, a, &fd), 0);
	ck_assert_int_eq(pool.ops->destroy(&pool, a), 0);
	ck_assert_int_eq(pool_meta_read(fd, &m), 0);
	close(fd);
	ck_assert_int_eq(pool.ops->attach(&pool, a, &fd), -ENOENT);
	ck_assert_int_eq(pool.ops->destroy(&pool, a), -ENOENT);
	ck_assert_int_eq(pool.ops->attach(&pool, "", &fd), -ENOENT);
	ck_assert_int_eq(pool.ops->attach(&pool, "../p", &fd), -ENOENT);
	ck_assert_uint_eq(list(), 1);
	ck_assert_str_eq(listed[0], b);
	if (pool.ops->touch)
		pool.ops->touch(&pool, b);
}
END_TEST

/* The next daemon finds them; private memory is gone. */
START_TEST(restart)
{
	char a[POOL_NAME];
	char other[160];
	struct pool second;
	int fd;

	if (!have(_i))
		return;
	make(3, a);
	fd = filled(4, 0); /* a load that is under way when it dies */
	if (_i < 3) {
		ck_assert_int_eq(pool_open(&second, &conf, other), -EBUSY);
		ck_assert_ptr_nonnull(strstr(other, "another hearthd uses it"));
	}
	close(fd);
	reopen();
	ck_assert_uint_eq(list(), _i == 3 ? 0 : 1);
	if (_i < 3)
		expect(a, 3);
}
END_TEST

/* Nothing of an object changes, through no descriptor that is given away. */
static void attack(int fd)
{
	char path[32];
	void *v;
	int rw;

	ck_assert_int_eq(write(fd, "x", 1), -1);
	ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_int_eq(fallocate(fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   0, 4096),
			 -1);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			      fd, 0),
			 MAP_FAILED);
	v = mmap(NULL, pool.page, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(v, MAP_FAILED);
	ck_assert_int_eq(mprotect(v, pool.page, PROT_READ | PROT_WRITE), -1);
	ck_assert_int_eq(madvise(v, pool.page, MADV_REMOVE), -1);
	munmap(v, pool.page);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rw = open(path, O_RDWR | O_CLOEXEC);
	if (rw >= 0) { /* its owner may open, and still not write */
		ck_assert(geteuid() != STRANGER);
		ck_assert_int_eq(write(rw, "x", 1), -1);
		ck_assert_int_eq(ftruncate(rw, 0), -1);
		ck_assert_int_eq(fallocate(rw,
					   FALLOC_FL_PUNCH_HOLE |
						   FALLOC_FL_KEEP_SIZE,
					   0, 4096),
				 -1);
		ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				      MAP_SHARED, rw, 0),
				 MAP_FAILED);
		close(rw);
	}
}

START_TEST(sealed)
{
	char a[POOL_NAME];
	int status;
	pid_t pid;
	int fd;

	if (!have(_i))
		return;
	make(5, a);
	ck_assert_int_eq(pool.ops->attach(&pool, a, &fd), 0);
	/* memfds are sealed against root itself */
	if (_i == 0 || _i == 3)
		attack(fd);
	if (!geteuid()) {
		pid = fork();
		if (!pid) {
			ck_assert_int_eq(
				setresgid(STRANGER, STRANGER, STRANGER), 0);
			ck_assert_int_eq(
				setresuid(STRANGER, STRANGER, STRANGER), 0);
			attack(fd);
			if (dir[0])
				ck_assert_int_eq(access(conf.pool_dir, X_OK),
						 -1);
			_exit(0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
	}
	close(fd);
	expect(a, 5);
}
END_TEST

/* A loader that did not write all of it. */
START_TEST(holes)
{
	struct pool_meta m = meta_of(6);
	int im = image('i');
	int fd;

	if (!have(_i))
		return;
	if (pool.page > POOL_PAGE) {
		close(im);
		return; /* all in one page */
	}
	fd = filled(6, 3 * POOL_PAGE);
	ck_assert_int_eq(pool_finish(fd, &m, im, why), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(why, "left holes"));
	close(fd);
	close(im);
}
END_TEST

/* Ends that were never written, or not by us. */
START_TEST(torn)
{
	uint64_t bytes = pool_need(WEIGHTS, IMAGE);
	struct pool_meta m = meta_of(7);
	struct pool_meta got;
	char *v;
	int im = image('i');
	int fd;

	if (!have(_i))
		return;
	fd = filled(7, 0);
	ck_assert_int_eq(pool_meta_read(fd, &got), -EBADMSG);
	ck_assert_int_eq(pool_finish(fd, &m, im, why), 0);
	ck_assert_int_eq(pool_meta_read(fd, &got), 0);
	ck_assert_int_eq(memcmp(&m, &got, sizeof(m)), 0);
	v = mmap(NULL, m.object_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	ck_assert_ptr_ne(v, MAP_FAILED);
	for (bytes = 0; bytes < sizeof(m); bytes += 5) {
		v[m.object_bytes - POOL_PAGE + bytes] ^= 1;
		ck_assert_int_eq(pool_meta_read(fd, &got), -EBADMSG);
		v[m.object_bytes - POOL_PAGE + bytes] ^= 1;
	}
	ck_assert_int_eq(pool_meta_read(fd, &got), 0);
	munmap(v, m.object_bytes);
	close(fd);
	fd = image('x'); /* a stranger's file */
	ck_assert_int_eq(pool_meta_read(fd, &got), -EBADMSG);
	close(fd);
	close(im);
}
END_TEST

/* What is right by itself, but not in itself: sizes that do not fit. */
START_TEST(liars)
{
	struct pool_meta m = meta_of(8);
	struct pool_meta bad;
	struct pool_meta got;
	int im = image('i');
	char *v;
	int fd;
	int i;

	if (!have(3))
		return;
	fd = filled(8, 0);
	ck_assert_int_eq(pool_finish(fd, &m, im, why), 0);
	v = mmap(NULL, m.object_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	ck_assert_ptr_ne(v, MAP_FAILED);
	for (i = 0; i <= 9; i++) {
		bad = m;
		switch (i) {
		case 0:
			bad.object_bytes += POOL_PAGE;
			break;
		case 1:
			bad.weight_bytes = m.object_bytes;
			break;
		case 2:
			bad.image_off = 0;
			break;
		case 3:
			bad.image_bytes = m.object_bytes;
			break;
		case 4:
			bad.n_files = 0;
			break;
		case 5:
			bad.n_files = WIRE_MAX_FDS + 1;
			break;
		case 6:
			memset(bad.name, 'x', sizeof(bad.name));
			break;
		case 7:
			memcpy(bad.layout, "../x", 5);
			break;
		case 8:
			bad.abi++;
			break;
		default:
			break;
		}
		memset(bad.check, 0, sizeof(bad.check));
		hash_sha256(bad.check, &bad, sizeof(bad));
		memcpy(v + m.object_bytes - POOL_PAGE, &bad, sizeof(bad));
		ck_assert_msg(pool_meta_read(fd, &got) ==
				      (i < 9 ? -EBADMSG : 0),
			      "field %d", i);
	}
	munmap(v, m.object_bytes);
	close(fd);
	close(im);
}
END_TEST

/* More than there is: refused, with both numbers. */
START_TEST(too_much)
{
	uint64_t bytes = 1ull << 45;
	int fd;

	if (!have(_i))
		return;
	ck_assert_int_lt(pool.ops->create(&pool, &bytes, 7, &fd, why), 0);
	ck_assert_msg(strstr(why, "33554432 MiB") && strstr(why, "MiB") &&
			      strpbrk(strstr(why, "MiB") + 3, "0123456789"),
		      "%s", why);
	ck_assert_uint_lt(pool.ops->free(&pool), 1ull << 45);
	ck_assert_uint_eq(pool_need(~0ull, 1), 0);
	ck_assert_uint_eq(pool_need(1, ~0ull), 0);
}
END_TEST

/* A directory that is not ours alone, and one on another file system. */
START_TEST(places)
{
	if (!have(2))
		return;
	pool_close(&pool);
	ck_assert_int_eq(chmod(conf.pool_dir, 0750), 0);
	ck_assert_int_eq(pool_open(&pool, &conf, why), -EPERM);
	ck_assert_ptr_nonnull(strstr(why, "not a directory of ours alone"));
	ck_assert_int_eq(chmod(conf.pool_dir, 0700), 0);
	ck_assert_int_eq(chown(conf.pool_dir, STRANGER, 0), 0);
	ck_assert_int_eq(pool_open(&pool, &conf, why), -EPERM);
	ck_assert_int_eq(chown(conf.pool_dir, 0, 0), 0);
	snprintf(conf.pool, sizeof(conf.pool), "hugetlbfs");
	ck_assert_int_eq(pool_open(&pool, &conf, why), -ENODEV);
	ck_assert_ptr_nonnull(strstr(why, "is not on a hugetlbfs"));
	snprintf(conf.pool_dir, sizeof(conf.pool_dir), "%s/no/p", dir);
	ck_assert_int_eq(pool_open(&pool, &conf, why), -ENOENT);
}
END_TEST

/* By itself: private memory for who is not root, or leaves by itself. */
START_TEST(choice)
{
	conf_init(&conf);
	conf.exit_idle_s = 1;
	ck_assert_int_eq(pool_open(&pool, &conf, why), 0);
	ck_assert_str_eq(pool.ops->name, "private");
	ck_assert_ptr_nonnull(
		strstr(pool.text, geteuid() ? "not root" : "exit-idle-s"));
	pool_close(&pool);
	conf.exit_idle_s = 0;
	if (geteuid())
		return;
	/* No place can be had in the first of them: the next one it is. */
	snprintf(conf.pool_dir, sizeof(conf.pool_dir), "/proc/nowhere");
	ck_assert_int_eq(pool_open(&pool, &conf, why), 0);
	ck_assert(pool.ops == &pool_private || pool.ops == &pool_kmod);
	if (pool.ops == &pool_private)
		ck_assert_ptr_nonnull(strstr(pool.text, "module: "));
}
END_TEST

START_TEST(names)
{
	char n[POOL_NAME];
	struct pool_meta m = meta_of(9);
	struct pool_meta o = m;

	pool_name(n, &m);
	ck_assert(pool_name_valid(n));
	ck_assert_uint_eq(strlen(n), 64 + 1 + 6);
	o.image_digest[0] ^= 1;
	pool_name(why, &o);
	ck_assert_str_ne(n, why);
	n[0] = 'G';
	ck_assert(!pool_name_valid(n));
	ck_assert(!pool_name_valid(""));
	ck_assert(!pool_name_valid("a"));
	pool_name(n, &m);
	n[64] = '/';
	ck_assert(!pool_name_valid(n));
	n[64] = '.';
	n[65] = 0;
	ck_assert(!pool_name_valid(n));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");
	bool root = !geteuid();
	char was[32] = "";
	SRunner *r;
	FILE *f;
	int failed;

	/* As many as the tests need, and afterwards as many as there were. */
	f = root ? fopen("/proc/sys/vm/nr_hugepages", "re") : NULL;
	if (f && fgets(was, sizeof(was), f)) {
		huge_was = was;
		if (strtoul(was, NULL, 10) < N_HUGE)
			huge_pages("8");
	}
	if (f)
		fclose(f);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, life, 0, N_PROVIDERS);
	tcase_add_loop_test(t, restart, 0, N_PROVIDERS);
	tcase_add_loop_test(t, sealed, 0, N_PROVIDERS);
	tcase_add_loop_test(t, holes, 0, N_PROVIDERS);
	tcase_add_loop_test(t, torn, 0, N_PROVIDERS);
	tcase_add_test(t, liars);
	tcase_add_loop_test(t, too_much, 0, N_PROVIDERS);
	tcase_add_test(t, places);
	tcase_add_test(t, choice);
	tcase_add_test(t, names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	printf("providers: hugetlbfs %s, tmpfs %s, module %s\n",
	       root && huge_free() >= 2 ? "tested" : "not to be had",
	       root ? "tested" : "not to be had",
	       access("/dev/hearth", F_OK) ? "not to be had" : "tested");
	if (huge_was)
		huge_pages(huge_was);
	return failed ? 1 : 0;
}
