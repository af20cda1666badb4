/* SPDX-License-Identifier: MIT */
/*
 * t_race.c - everything that /dev/hearth can do, at once, on few names.
 *
 * Usage: t_race SECONDS, at least. Each buffer carries its name's number in
 * every page, so memory that is not the name's own shows. The last name is only
 * made, destroyed and taken by the shrinker.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "dev.h"

#define NAMES 6
#define PAGES 2

static int dev;
static atomic_bool stop;
static atomic_ulong n_create, n_attach, n_export, n_destroy, n_list, n_stale;

static void name_of(char *out, size_t n, unsigned int i)
{
	snprintf(out, n, "race.%u", i);
}

/* 0, or one of those that racing may give; anything else is a mistake. */
static bool expected(int rc, const char *what)
{
	static const int ok[] = { EEXIST, ENOENT, ESTALE, ENOMEM, EACCES };
	unsigned int i;

	if (rc >= 0)
		return true;
	for (i = 0; i < sizeof(ok) / sizeof(ok[0]); i++)
		if (rc == -ok[i])
			return false;
	DIE("%s: %s", what, strerror(-rc));
}

static void *creator(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg, p;
	char name[32];
	struct buf b;
	uint64_t id;
	int rc;

	for (; !stop; i++) {
		if (buf_new(&b, PAGES)) {
			usleep(1000);
			continue;
		}
		for (p = 0; p < PAGES; p++)
			*(uint64_t *)(b.map + p * HPAGE) = i % NAMES;
		name_of(name, sizeof(name), i % NAMES);
		rc = dev_create(dev, name, &b, 1000 + i % 2, &id);
		if (expected(rc, "CREATE")) {
			n_create++;
			if (i % 3 == 0)
				fcntl(b.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
			if (i % 4 == 0)
				dev_name(dev, HEARTH_DEV_IOC_DESTROY, name, id);
		}
		buf_drop(&b);
	}
	return NULL;
}

/* Half of them by an id that may be another buffer's by now. */
static void *destroyer(void *arg)
{
	struct hearth_dev_buf l;
	uint64_t old[NAMES] = { 0 };
	unsigned int i = 0;
	char name[32];
	int rc;

	for (; !stop; i++) {
		name_of(name, sizeof(name), i % NAMES);
		rc = dev_name(dev, HEARTH_DEV_IOC_DESTROY, name,
			      old[i % NAMES]);
		if (expected(rc, "DESTROY"))
			n_destroy++;
		n_stale += rc == -ESTALE;
		if (i % 64 == 0)
			memset(old, 0, sizeof(old));
		memset(&l, 0, sizeof(l));
		while (!(rc = dev_call(dev, HEARTH_DEV_IOC_LIST, &l))) {
			n_list++;
			if (strncmp(l.name, "race.", 5) ||
			    l.bytes != PAGES * HPAGE)
				DIE("LIST: '%s', %llu bytes", l.name,
				    (unsigned long long)l.bytes);
			if (i % 64 == 7)
				old[atoi(l.name + 5) % NAMES] = l.id;
		}
		if (rc != -ENOENT)
			DIE("LIST: %s", strerror(-rc));
		usleep(300);
	}
	return arg;
}

static void *attacher(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg, p;
	char name[32], *map;
	uint64_t id, seen;
	int fd;

	for (; !stop; i++) {
		name_of(name, sizeof(name), i % (NAMES - 1));
		fd = dev_get(dev, HEARTH_DEV_IOC_ATTACH, name,
			     HEARTH_DEV_RDONLY, &id);
		if (!expected(fd, "ATTACH"))
			continue;
		map = mmap(NULL, PAGES * HPAGE, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
		if (map == MAP_FAILED)
			DIE("mmap: %s", strerror(errno));
		for (p = 0; p < PAGES; p++) {
			seen = *(volatile uint64_t *)(map + p * HPAGE);
			if (seen != i % (NAMES - 1))
				DIE("page %u of %s is %llu's", p, name,
				    (unsigned long long)seen);
		}
		munmap(map, PAGES * HPAGE);
		n_attach++;
	}
	return NULL;
}

static void *exporter(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg;
	char name[32];
	int fd;

	for (; !stop; i++) {
		name_of(name, sizeof(name), i % (NAMES - 1));
		fd = dev_get(dev, HEARTH_DEV_IOC_EXPORT, name, 0, NULL);
		if (expected(fd, "EXPORT")) {
			n_export++;
			if (i % 2)
				usleep(200);
			close(fd);
		}
		expected(dev_name(dev, HEARTH_DEV_IOC_TOUCH, name, 0), "TOUCH");
	}
	return NULL;
}

/* The shrinker, the accounts and the totals, while all that goes on. */
static void *shrinker(void *arg)
{
	struct hearth_dev_limit l;
	struct hearth_dev_info info;

	while (!stop) {
		put("/proc/sys/vm/drop_caches", "2");
		l = (struct hearth_dev_limit){ .uid = 1000,
					       .flags = HEARTH_DEV_SET,
					       .limit = ~0ull };
		if (dev_call(dev, HEARTH_DEV_IOC_LIMIT, &l))
			DIE("LIMIT: %s", strerror(errno));
		info = dev_info(dev);
		if (info.total_bytes % (PAGES * HPAGE))
			DIE("%llu bytes in all",
			    (unsigned long long)info.total_bytes);
		usleep(2000);
	}
	return arg;
}

static bool seen(void)
{
	return n_create && n_attach && n_export && n_destroy &&
	       dev_info(dev).nr_shrunk;
}

int main(int argc, char **argv)
{
	static void *(*const fn[])(void *) = { creator,	 creator,  destroyer,
					       attacher, attacher, exporter,
					       exporter, shrinker };
	static const uint32_t uid[] = { 0, 1000, 1001 };
	pthread_t t[sizeof(fn) / sizeof(fn[0])];
	unsigned int i, secs = argc > 1 ? (unsigned int)atoi(argv[1]) : 5;
	struct hearth_dev_info info;
	long pages;

	setvbuf(stdout, NULL, _IOLBF, 0);
	dev = dev_open();
	pages = meminfo("HugePages_Free");
	for (i = 0; i < sizeof(fn) / sizeof(fn[0]); i++)
		if (pthread_create(&t[i], NULL, fn[i], (void *)(uintptr_t)i))
			DIE("pthread_create");
	/* A slow machine may take its time until everything was seen. */
	for (i = 0; i < secs || (i < 20 * secs && !seen()); i++)
		sleep(1);
	stop = true;
	for (i = 0; i < sizeof(fn) / sizeof(fn[0]); i++)
		pthread_join(t[i], NULL);
	dev_destroy_all(dev);
	info = dev_info(dev);
	dev_expect_empty(dev, uid, 3, pages, "the races");
	printf("RESULT race create %lu attach %lu export %lu destroy %lu "
	       "list %lu stale %lu shrunk %llu\n",
	       n_create, n_attach, n_export, n_destroy, n_list, n_stale,
	       (unsigned long long)info.nr_shrunk);
	if (!seen())
		DIE("not all of them succeeded");
	puts("ok races");
	return 0;
}
