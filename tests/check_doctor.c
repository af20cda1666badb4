/* SPDX-License-Identifier: MIT */
/* check_doctor.c - hearth doctor's judgement of made-up machines. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tools/hearth/doctor.h"
#include "util.h"

#define HUGE "sys/kernel/mm/hugepages/hugepages-2048kB/"
#define THP  "sys/kernel/mm/transparent_hugepage/"

static char root[64];
static struct doctor *d;

static void put(const char *rel, const char *text)
{
	char path[256];
	FILE *f;

	make_way(path, root, rel);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* A machine with nothing to complain about, without huge pages or module. */
static void setup(void)
{
	strcpy(root, "/tmp/check_doctor.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	put("proc/meminfo", "MemTotal:       16777216 kB\n"
			    "MemFree:          100000 kB\n"
			    "MemAvailable:    8388608 kB\n"
			    "SwapTotal:             0 kB\n"
			    "Hugepagesize:       2048 kB\n");
	put("proc/pressure/memory",
	    "some avg10=0.12 avg60=0.00 avg300=0.00 total=1\n");
	put("proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU\n");
	put("proc/self/mounts", "tmpfs /dev/shm tmpfs rw 0 0\n");
	put(HUGE "nr_hugepages", "0\n");
	put(HUGE "free_hugepages", "0\n");
	put(HUGE "nr_overcommit_hugepages", "0\n");
	put(HUGE "surplus_hugepages", "0\n");
	put(THP "enabled", "always [madvise] never\n");
	put(THP "shmem_enabled", "always within_size advise [never] deny\n");
	d = calloc(1, sizeof(*d));
	d->root = root;
	strcpy(d->p.release, "6.1.0-49-amd64");
	d->p.landlock = 2;
	d->p.dev = -ENOENT;
	d->p.memlock = ~0ull;
	d->p.nofile = 524288;
}

static void teardown(void)
{
	free(d);
	ck_assert_int_eq(remove_tree(root), 0);
}

static const struct doctor_line *look(const char *name)
{
	const struct doctor_line *l;

	d->n = 0;
	doctor_host(d);
	doctor_pool(d, NULL);
	l = doctor_find(d, name);
	ck_assert_msg(l, "no line '%s'", name);
	return l;
}

static void is(const char *name, enum doctor_level level, const char *text,
	       const char *fix)
{
	const struct doctor_line *l = look(name);

	ck_assert_msg(l->level == level, "%s: %s: %s", name,
		      doctor_level_names[l->level], l->text);
	ck_assert_msg(strstr(l->text, text), "%s: %s", name, l->text);
	if (fix)
		ck_assert_str_eq(l->fix, fix);
	else
		ck_assert_msg(!*l->fix, "%s: %s", name, l->fix);
}

START_TEST(good)
{
	size_t i;

	look("kernel");
	for (i = 0; i < d->n; i++)
		if (strcmp(d->line[i].name, "huge pages") &&
		    strcmp(d->line[i].name, "module"))
			ck_assert_msg(d->line[i].level == DOCTOR_OK &&
					      !*d->line[i].fix,
				      "%s: %s", d->line[i].name,
				      d->line[i].text);
	is("memory", DOCTOR_OK, "8.6 GB available of 17.2 GB, swap 0 B", NULL);
	is("pressure", DOCTOR_OK, "0.1 %", NULL);
	is("thp", DOCTOR_OK, "madvise for memory of processes, never for",
	   NULL);
}
END_TEST

START_TEST(kernels)
{
	static const struct {
		const char *release;
		bool fine;
	} v[] = {
		{ "6.1.0", true },     { "6.10.3-x", true },
		{ "7.0", true },       { "6.0.19", false },
		{ "5.10.0-8", false }, { "nonsense", false },
	};
	size_t i;

	for (i = 0; i < N_ELEM(v); i++) {
		strcpy(d->p.release, v[i].release);
		is("kernel", v[i].fine ? DOCTOR_OK : DOCTOR_FAIL, v[i].release,
		   v[i].fine ? NULL : "apt install linux-image-amd64");
	}
}
END_TEST

START_TEST(features)
{
	d->p.io_uring = -ENOSYS;
	is("io_uring", DOCTOR_WARN, "Function not implemented", NULL);
	d->p.io_uring = -EPERM;
	put("proc/sys/kernel/io_uring_disabled", "2\n");
	is("io_uring", DOCTOR_WARN, "epoll",
	   "sysctl -w kernel.io_uring_disabled=0");
	/* allowed by the system, forbidden by some filter: no command helps */
	put("proc/sys/kernel/io_uring_disabled", "0\n");
	is("io_uring", DOCTOR_WARN, "not permitted", NULL);
	d->p.memfd = -ENOSYS;
	is("memfd", DOCTOR_FAIL, "no session", NULL);
	d->p.landlock = -EOPNOTSUPP;
	is("landlock", DOCTOR_WARN, "seccomp alone", NULL);
	d->p.seccomp = -EINVAL;
	is("seccomp", DOCTOR_WARN, "none in this kernel", NULL);
}
END_TEST

START_TEST(memory)
{
	put("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1024 kB\n"
			    "Hugepagesize: 2048 kB\n");
	is("memory", DOCTOR_WARN, "1.0 MB available",
	   "hearth stop --all --evict");
	put("proc/meminfo", "");
	is("memory", DOCTOR_FAIL, "/proc/meminfo", "mount -t proc proc /proc");
	is("huge pages", DOCTOR_WARN, "this kernel has none", NULL);
	put("proc/pressure/memory", "some avg10=55.20 avg60=0\n");
	is("pressure", DOCTOR_WARN, "55.2 %", "hearth stop --all --evict");
	put("proc/pressure/memory", "");
	is("pressure", DOCTOR_OK, "not measured", NULL);
	put(THP "enabled", "always madvise [never]\n");
	is("thp", DOCTOR_WARN, "never for memory",
	   "echo madvise > /" THP "enabled");
	put(THP "enabled", "rubbish");
	is("thp", DOCTOR_WARN, "no transparent", NULL);
}
END_TEST

START_TEST(limits)
{
	d->p.nofile = 1024;
	is("limits", DOCTOR_WARN, "open files 1024 (few sessions)",
	   "ulimit -Hn 65536");
	d->p.nofile = 65536;
	d->p.memlock = 65536;
	is("limits", DOCTOR_OK, "locked memory 65.5 kB", NULL); /* root */
	d->p.uid = 1000;
	is("limits", DOCTOR_WARN, "locked memory 65.5 kB",
	   "systemctl edit user@.service   # LimitMEMLOCK=64M");
}
END_TEST

/* Half of the memory, as pages on demand. */
#define MORE_PAGES "sysctl -w vm.nr_overcommit_hugepages=4096"

START_TEST(huge_pages)
{
	is("huge pages", DOCTOR_WARN, "2 MiB: none configured", MORE_PAGES);
	is("pool", DOCTOR_OK, "/dev/shm, of 4 KiB pages: there are no huge",
	   NULL);
	put(HUGE "nr_hugepages", "40\n");
	put(HUGE "free_hugepages", "30\n");
	put(HUGE "resv_hugepages", "3\n");
	put(HUGE "nr_overcommit_hugepages", "100\n");
	put(HUGE "surplus_hugepages", "8\n");
	is("huge pages", DOCTOR_OK, "40 configured, 27 of them free, 92 more",
	   NULL);
	is("pool", DOCTOR_WARN, "no hugetlbfs is mounted",
	   "mount -t hugetlbfs hugetlbfs /dev/hugepages");
	put("proc/self/mounts", "t /dev/shm tmpfs rw 0 0\n"
				"h /mnt/huge hugetlbfs rw 0 0\n");
	is("pool", DOCTOR_OK, "files in /mnt/huge", NULL);
	/* others have them */
	put(HUGE "nr_overcommit_hugepages", "0\n");
	is("huge pages", DOCTOR_WARN,
	   "27 of them free, 0 more on demand; no room for a model",
	   MORE_PAGES);
	is("pool", DOCTOR_OK, "/dev/shm", NULL);
	/* too few to be of use */
	put(HUGE "nr_hugepages", "8\n");
	put(HUGE "free_hugepages", "8\n");
	is("huge pages", DOCTOR_WARN, "8 configured", MORE_PAGES);
	is("pool", DOCTOR_OK, "/dev/shm", NULL);
	put("proc/self/mounts", "t /tmp tmpfs rw 0 0\n");
	is("pool", DOCTOR_WARN, "go with the daemon",
	   "mount -t tmpfs tmpfs /dev/shm");
	d->p.uid = 1000;
	is("pool", DOCTOR_WARN, "a daemon of yours",
	   "systemctl enable --now hearthd.socket");
}
END_TEST

/* On demand they are made of memory, of which there may be little. */
START_TEST(on_demand)
{
	put(HUGE "nr_overcommit_hugepages", "4096\n");
	is("huge pages", DOCTOR_OK, "0 of them free, 4096 more", NULL);
	put("proc/meminfo", "MemTotal:       16777216 kB\n"
			    "MemAvailable:      51200 kB\n"
			    "Hugepagesize:       2048 kB\n");
	is("huge pages", DOCTOR_WARN, "25 more on demand; no room", MORE_PAGES);
	is("memory", DOCTOR_WARN, "52", "hearth stop --all --evict");
}
END_TEST

START_TEST(module)
{
	is("module", DOCTOR_WARN, "not installed",
	   "dkms install ./kmod   # in the sources");
	put("lib/modules/6.1.0-49-amd64/modules.dep",
	    "kernel/a.ko:\nupdates/dkms/hearth.ko.xz:\n");
	is("module", DOCTOR_WARN, "not loaded", "modprobe hearth");
	put("sys/module/hearth/version", "0.1.0\n");
	is("module", DOCTOR_FAIL, "does not work: No such file",
	   "modprobe -r hearth && modprobe hearth");
	d->p.dev = -EACCES;
	is("module", DOCTOR_OK, "only root", NULL);
	d->p.dev = 0;
	d->p.info.abi = HEARTH_DEV_ABI + 1;
	look("module");
	ck_assert_int_eq(doctor_find(d, "module")->level, DOCTOR_FAIL);
	ck_assert_ptr_nonnull(
		strstr(doctor_find(d, "module")->text, "it is not used"));
	is("pool", DOCTOR_OK, "/dev/shm", NULL);
	d->p.info = (struct hearth_dev_info){ .abi = HEARTH_DEV_ABI,
					      .nr_bufs = 3,
					      .nr_idle = 2,
					      .total_bytes = 3000000000,
					      .max_bytes = 8000000000,
					      .nr_shrunk = 7 };
	is("module", DOCTOR_OK,
	   "3 models, 3.0 GB pinned of at most 8.0 GB, 2 idle; 7 given", NULL);
	is("pool", DOCTOR_OK, "take the module", NULL);
	/* empty, and no pages to fill it with */
	d->p.info.nr_bufs = 0;
	is("pool", DOCTOR_OK, "/dev/shm", NULL);
}
END_TEST

/* What a daemon has taken counts, not what one would take. */
START_TEST(taken)
{
	const struct doctor_line *l;

	doctor_pool(d, "tmpfs in /dev/shm/hearth, 4 KiB pages");
	l = doctor_find(d, "pool");
	ck_assert_int_eq(l->level, DOCTOR_OK);
	ck_assert_ptr_nonnull(strstr(l->text, "in: tmpfs in /dev/shm/hearth"));
	d->n = 0;
	doctor_pool(d, "private memory (not root)");
	l = doctor_find(d, "pool");
	ck_assert_int_eq(l->level, DOCTOR_WARN);
	ck_assert_str_eq(l->fix, "systemctl enable --now hearthd.socket");
}
END_TEST

START_TEST(directories)
{
	char path[192];

	put("models/A.gguf", "GGUF");
	put("models/B.GGUF", "GGUF");
	put("models/notes.txt", "");
	snprintf(path, sizeof(path), "%s/models:%s/nothing", root, root);
	setenv("HEARTH_MODELS", path, 1);
	doctor_models(d);
	ck_assert_uint_eq(d->n, 2);
	ck_assert_ptr_nonnull(strstr(d->line[0].text, ": 2 models on "));
	ck_assert_ptr_nonnull(strstr(d->line[1].text, "not there yet"));
	/* more directories than lines: what does not fit is left out */
	d->n = DOCTOR_LINES - 1;
	doctor_models(d);
	ck_assert_uint_eq(d->n, DOCTOR_LINES);
}
END_TEST

/* This machine, as it is: every question gets an answer. */
START_TEST(real)
{
	d->root = "";
	doctor_probe(&d->p);
	ck_assert(*d->p.release && d->p.nofile);
	ck_assert_int_eq(look("memory")->level != DOCTOR_FAIL, 1);
	ck_assert_uint_ge(d->n, 13);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("doctor");
	TCase *t = tcase_create("doctor");
	SRunner *r;
	int bad;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, good);
	tcase_add_test(t, kernels);
	tcase_add_test(t, features);
	tcase_add_test(t, memory);
	tcase_add_test(t, limits);
	tcase_add_test(t, huge_pages);
	tcase_add_test(t, on_demand);
	tcase_add_test(t, module);
	tcase_add_test(t, taken);
	tcase_add_test(t, directories);
	tcase_add_test(t, real);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad != 0;
}
