/* SPDX-License-Identifier: MIT */
/*
 * t_pressure.c - a shortage of memory takes idle buffers, the least recently
 * used one first, and nobody is killed.
 *
 * Persistent huge pages are set to none, so that all are surplus.
 */
#include "count.h"
#include "dev.h"

#define VM	"/proc/sys/vm/"
#define PARAM	"/sys/module/hearth/parameters/"
#define TRACING "/sys/kernel/tracing/"
#define PAGES	32u /* of a buffer: 64 MiB */

static int d;

static void number(const char *file, unsigned long long v)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", v);
	if (!put(file, text))
		DIE("cannot write %s", file);
}

static bool there(const char *name)
{
	struct hearth_dev_buf l = { .id = 0 };

	while (!dev_call(d, HEARTH_DEV_IOC_LIST, &l))
		if (!strcmp(l.name, name))
			return true;
	return false;
}

/* Idle when it is made; the later the more recently used. */
static void idle(const char *name)
{
	struct buf b;

	buf_make(&b, PAGES);
	if (dev_create(d, name, &b, 1000, NULL))
		DIE("CREATE %s", name);
	buf_drop(&b);
}

/* Reclaim asks every shrinker for all it has, one round after the other; the
 * module wants to be asked twice. */
static void squeeze(unsigned int rounds)
{
	for (rounds *= 3; rounds; rounds--) {
		if (!put(VM "drop_caches", "2"))
			DIE("drop_caches");
		usleep(100000); /* a worker frees */
	}
}

static long vmstat(const char *field)
{
	char name[64];
	FILE *f = fopen("/proc/vmstat", "r");
	long v, found = -1;

	while (f && fscanf(f, "%63s %ld", name, &v) == 2)
		if (!strcmp(name, field))
			found = v;
	if (f)
		fclose(f);
	return found;
}

/* Never one that somebody has, in whatever way. */
static void test_spared(void)
{
	struct hearth_dev_info i;
	int fd, dbuf;
	char *map;

	idle("attached");
	idle("mapped");
	idle("exported");
	idle("idle");
	fd = dev_get(d, HEARTH_DEV_IOC_ATTACH, "attached", HEARTH_DEV_RDONLY,
		     NULL);
	dbuf = dev_get(d, HEARTH_DEV_IOC_ATTACH, "mapped", HEARTH_DEV_RDONLY,
		       NULL);
	map = mmap(NULL, PAGES * HPAGE, PROT_READ, MAP_SHARED, dbuf, 0);
	close(dbuf);
	dbuf = dev_get(d, HEARTH_DEV_IOC_EXPORT, "exported", 0, NULL);
	if (fd < 0 || map == MAP_FAILED || dbuf < 0)
		DIE("attaching");
	squeeze(6);
	check(!there("idle"), "an idle buffer is taken");
	check(there("attached"), "not one that is attached");
	check(there("mapped"), "not one that is mapped");
	check(there("exported"), "not one that is a dma-buf");
	i = dev_info(d);
	check(i.nr_shrunk == 1 && i.shrunk_bytes == PAGES * HPAGE,
	      "INFO counts it");
	close(fd);
	munmap(map, PAGES * HPAGE);
	close(dbuf);
	squeeze(6);
	i = dev_info(d);
	check(!i.nr_bufs && i.nr_shrunk == 4, "they go when nobody has them");
	check(!dev_used(d, 1000) && !i.total_bytes, "nothing is charged");
	check(pages_back(0) && !meminfo("HugePages_Total"),
	      "and the system has the pages");
}

static void test_order(void)
{
	idle("first");
	idle("second");
	idle("third");
	dev_name(d, HEARTH_DEV_IOC_TOUCH, "first", 0);
	number(PARAM "watermark", 2 * PAGES * HPAGE);
	squeeze(4);
	check(!there("second") && there("first") && there("third"),
	      "the least recently used goes first; the watermark stays");
	number(PARAM "watermark", PAGES * HPAGE + 1);
	squeeze(4);
	check(there("first") && there("third"),
	      "a byte more than is left is too much");
	number(PARAM "watermark", PAGES * HPAGE);
	squeeze(4);
	check(!there("third") && there("first"), "then the next one");
	number(PARAM "watermark", 0);
	squeeze(4);
	check(!there("first"), "then the last one");
}

/* Pages that would stay in the pool of huge pages help nobody. */
static void test_persistent(void)
{
	idle("kept");
	number(VM "nr_hugepages", PAGES);
	squeeze(6);
	check(there("kept"), "persistent huge pages are left alone");
	number(VM "nr_hugepages", 0); /* in use, so they become surplus */
	squeeze(6);
	check(!there("kept"), "until they are surplus");
	check(pages_back(0) && !meminfo("HugePages_Total"),
	      "the system has the pages");
}

static size_t mib(const char *field)
{
	return (size_t)meminfo(field) / 1024;
}

/* So many MiB of address space; NULL if there is no room. */
static char *room(size_t n)
{
	char *p = mmap(NULL, n << 20, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Makes so many MiB present. */
static void touch(char *p, size_t n)
{
	size_t k;

	for (k = 0; k < n << 20; k += 4096)
		p[k] = 1;
}

static bool take(size_t n)
{
	char *p = room(n);

	if (p)
		touch(p, n);
	return p;
}

static void read_all(int fd)
{
	static char block[1 << 16];

	lseek(fd, 0, SEEK_SET);
	while (read(fd, block, sizeof(block)) > 0)
		;
}

static long stolen(void)
{
	return vmstat("pgsteal_kswapd") + vmstat("pgsteal_direct");
}

/*
 * Files read through a page cache that cannot hold them are no shortage. How
 * much of MemAvailable a cache really gets differs from kernel to kernel, and
 * one with far too little is right to take something: so memory is taken a few
 * MiB at a time, until @disk no longer fits.
 */
static void test_cache(const char *disk)
{
	int fd = open(disk, O_RDONLY | O_CLOEXEC), round;
	size_t have, leave;
	long before;
	char *p;

	if (fd < 0)
		DIE("%s: %s", disk, strerror(errno));
	idle("resident");
	leave = (size_t)lseek(fd, 0, SEEK_END) >> 20;
	put(VM "drop_caches", "1");
	have = mib("MemAvailable");
	if (have < leave + 64)
		DIE("%zu MiB are too few", have);
	p = room(have);
	if (!p)
		DIE("no address space");
	touch(p, have - leave);
	before = stolen();
	for (; leave > 32 && stolen() - before < 1000; leave -= 8) {
		read_all(fd);
		touch(p + ((have - leave) << 20), 8);
	}
	for (round = 0; round < 3; round++)
		read_all(fd);
	check(stolen() - before >= 1000,
	      "the page cache is reclaimed: %ld pages, %zu MiB left",
	      stolen() - before, leave);
	check(there("resident"), "that takes no buffer");
	munmap(p, have << 20);
	close(fd);
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "resident", 0);
}

/* Takes more and more until there is no buffer left, and some of the last. */
static void hog(void)
{
	size_t n = 0;

	put("/proc/self/oom_score_adj", "1000"); /* the first to be killed */
	while (dev_info(d).nr_bufs && take(4))
		n += 4;
	take(16);
	check(true, "a hog gets what it wants");
	printf("RESULT hog %zu MiB of %zu\n", n + 16, mib("MemTotal"));
}

/* Lines of the trace, in order: "NAME NAME ..." */
static void shrunk(char *out, size_t n)
{
	char line[512], name[HEARTH_DEV_NAME];
	FILE *f = fopen(TRACING "trace", "r");
	char *p;

	*out = 0;
	while (f && fgets(line, sizeof(line), f)) {
		p = strstr(line, "hearth_shrink: name=");
		if (p && sscanf(p, "hearth_shrink: name=%95s", name) == 1 &&
		    strlen(out) + strlen(name) + 2 < n)
			strcat(strcat(out, name), " ");
	}
	if (f)
		fclose(f);
}

/* More than there is without the buffers. Reclaim may outrun the worker that
 * frees them: not every time, so the test is run more than once. */
static void test_hog(void)
{
	long kills = vmstat("oom_kill");
	struct hearth_dev_info i = dev_info(d);
	char order[256];

	put(TRACING "trace", "\n");
	put(TRACING "events/hearth/enable", "1");
	idle("old");
	idle("older");
	idle("newer");
	dev_name(d, HEARTH_DEV_IOC_TOUCH, "old", 0);
	dev_name(d, HEARTH_DEV_IOC_TOUCH, "newer", 0);
	in_child(hog, "the hog");
	check_rc(vmstat("oom_kill"), kills, "nobody is killed");
	check_rc(dev_info(d).nr_bufs, 0, "the buffers are gone");
	check_rc(dev_info(d).nr_shrunk - i.nr_shrunk, 3, "INFO counts them");
	put(TRACING "events/hearth/enable", "0");
	shrunk(order, sizeof(order));
	check(!strcmp(order, "older old newer "), "in order: %s", order);
}

/*
 * What is done before the OOM killer strikes, which is called by hand: then it
 * does strike, and a process offers itself.
 */
static void test_last_round(void)
{
	uint64_t before = dev_info(d).nr_shrunk;
	int status = 0;
	pid_t pid;

	idle("last");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		put("/proc/self/oom_score_adj", "1000");
		take(16);
		for (;;)
			pause();
	}
	usleep(500000);
	if (!put("/proc/sysrq-trigger", "f"))
		DIE("no sysrq");
	check(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
	      "the OOM killer is called");
	check(!there("last") && dev_info(d).nr_shrunk == before + 1,
	      "before it strikes a buffer is taken");
}

int main(int argc, char **argv)
{
	static const uint32_t uid = 1000;
	long persistent = meminfo("HugePages_Total");
	int round;

	count_init();
	if (argc < 2)
		DIE("usage: t_pressure DISK");
	d = dev_open();
	number(VM "nr_overcommit_hugepages", 8 * PAGES);
	number(VM "nr_hugepages", 0);
	test_spared();
	test_order();
	test_persistent();
	test_cache(argv[1]);
	for (round = 0; round < 3; round++)
		test_hog();
	test_last_round();
	dev_expect_empty(d, &uid, 1, 0, "all that");
	number(VM "nr_overcommit_hugepages", 0);
	number(VM "nr_hugepages", (unsigned long long)persistent);
	return count_end();
}
