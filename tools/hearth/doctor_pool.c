/* SPDX-License-Identifier: MIT */
/*
 * doctor_pool.c - where weights are kept, and what would keep them better.
 *
 * The daemon decides (its option pool); this only looks, and changes nothing.
 */
#include "doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HUGE_USE (64ull << 20) /* the daemon's least for files in hugetlbfs */
#define SERVICE	 "systemctl enable --now hearthd.socket"
#define SYSCTL	 "vm.nr_overcommit_hugepages"

static uint64_t huge_file(const struct doctor *d, uint64_t page,
			  const char *name)
{
	char path[128], buf[32];

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
		 (unsigned long long)(page / 1024), name);
	doctor_read(d, path, buf, sizeof(buf));
	return strtoull(buf, NULL, 10);
}

void doctor_huge_read(const struct doctor *d, struct doctor_huge *h)
{
	uint64_t surplus, over, resv, most;

	memset(h, 0, sizeof(*h));
	h->page = doctor_meminfo(d, "Hugepagesize");
	if (!h->page)
		return;
	h->total = huge_file(d, h->page, "nr_hugepages");
	h->free = huge_file(d, h->page, "free_hugepages");
	resv = huge_file(d, h->page, "resv_hugepages");
	h->free = h->free > resv ? h->free - resv : 0;
	over = huge_file(d, h->page, "nr_overcommit_hugepages");
	surplus = huge_file(d, h->page, "surplus_hugepages");
	h->more = over > surplus ? over - surplus : 0;
	/* made of what is available, if they are made */
	most = doctor_meminfo(d, "MemAvailable") / h->page;
	h->more = h->more < most ? h->more : most;
}

/* As many as the daemon wants, to take a pool of them by itself. */
static bool is_enough(const struct doctor_huge *h)
{
	return (h->free + h->more) * h->page >= HUGE_USE;
}

static void huge_pages(struct doctor *d, const struct doctor_huge *h)
{
	uint64_t half = doctor_meminfo(d, "MemTotal") / 2;
	char a[32];

	if (!h->page) {
		doctor_say(d, DOCTOR_WARN, "huge pages", NULL,
			   "this kernel has none; 4 KiB pages are used");
		return;
	}
	snprintf(a, sizeof(a), "%llu MiB", (unsigned long long)h->page >> 20);
	if (h->total || h->more)
		doctor_say(d, is_enough(h) ? DOCTOR_OK : DOCTOR_WARN,
			   "huge pages", NULL,
			   "of %s: %llu configured, %llu of them free, %llu "
			   "more on demand%s",
			   a, (unsigned long long)h->total,
			   (unsigned long long)h->free,
			   (unsigned long long)h->more,
			   is_enough(h) ? "" : "; no room for a model");
	else
		doctor_say(d, DOCTOR_WARN, "huge pages", NULL,
			   "of %s: none configured; weights lie in 4 KiB pages",
			   a);
	if (!is_enough(h))
		doctor_fix(d, "sysctl -w " SYSCTL "=%llu",
			   (unsigned long long)(half / h->page));
}

/* Is it built for this kernel? Then modprobe finds it. */
static bool is_installed(const struct doctor *d)
{
	char path[256];
	char line[512];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/lib/modules/%s/modules.dep", d->root,
		 d->p.release);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, "/hearth.ko") != NULL;
	if (f)
		fclose(f);
	return found;
}

static bool is_loaded(const struct doctor *d)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/sys/module/hearth", d->root);
	return !stat(path, &st);
}

static void module(struct doctor *d)
{
	const struct hearth_dev_info *i = &d->p.info;
	char a[32], b[32];

	if (d->p.dev == -EACCES || d->p.dev == -EPERM) {
		doctor_say(d, DOCTOR_OK, "module", NULL,
			   "loaded; only root may ask it more");
	} else if (d->p.dev && is_loaded(d)) {
		doctor_say(d, DOCTOR_FAIL, "module",
			   "modprobe -r hearth && modprobe hearth",
			   "loaded, but " HEARTH_DEV_PATH " does not work: %s",
			   strerror(-d->p.dev));
	} else if (d->p.dev) {
		doctor_say(d, DOCTOR_WARN, "module",
			   is_installed(d)
				   ? "modprobe hearth"
				   : "dkms install ./kmod   # in the sources",
			   "not %s; weights can be kept in files instead",
			   is_installed(d) ? "loaded" : "installed");
	} else if (i->abi != HEARTH_DEV_ABI) {
		doctor_say(d, DOCTOR_FAIL, "module",
			   "dkms install --force hearth/" HEARTH_VERSION
			   " && modprobe -r hearth && modprobe hearth",
			   "speaks version %u, this build %u: it is not used",
			   i->abi, HEARTH_DEV_ABI);
	} else {
		doctor_say(d, DOCTOR_OK, "module", NULL,
			   "%u models, %s pinned of at most %s, %u idle; "
			   "%llu given back under pressure",
			   i->nr_bufs, fmt_size(a, i->total_bytes),
			   fmt_size(b, i->max_bytes), i->nr_idle,
			   (unsigned long long)i->nr_shrunk);
	}
}

/* A file system of this type: the first, or the one that is at @at. */
static bool is_mounted(const struct doctor *d, const char *want, const char *at,
		       char where[128])
{
	char line[1024], type[32];
	bool found = false;
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/mounts", d->root);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %127s %31s", where, type) == 2 &&
			!strcmp(type, want) && (!at || !strcmp(where, at));
	if (f)
		fclose(f);
	return found;
}

/* No module, and so files. */
static void would_use_files(struct doctor *d, const struct doctor_huge *h)
{
	char where[128];
	bool enough = is_enough(h);

	if (enough && is_mounted(d, "hugetlbfs", NULL, where))
		doctor_say(d, DOCTOR_OK, "pool", NULL,
			   "a daemon would take files in %s", where);
	else if (!is_mounted(d, "tmpfs", "/dev/shm", where))
		doctor_say(d, DOCTOR_WARN, "pool",
			   "mount -t tmpfs tmpfs /dev/shm",
			   "private memory: weights go with the daemon, as "
			   "there is no /dev/shm");
	else
		doctor_say(d, enough ? DOCTOR_WARN : DOCTOR_OK, "pool",
			   enough ? "mount -t hugetlbfs hugetlbfs "
				    "/dev/hugepages"
				  : NULL,
			   "a daemon would take files in /dev/shm, of 4 KiB "
			   "pages: %s",
			   enough ? "no hugetlbfs is mounted"
				  : "there are no huge pages for it");
}

/* What "auto" takes when root starts the daemon, in the daemon's own order. */
static void would_take(struct doctor *d, const struct doctor_huge *h)
{
	bool module_ok = !d->p.dev && d->p.info.abi == HEARTH_DEV_ABI;

	if (d->p.uid)
		doctor_say(d, DOCTOR_WARN, "pool", SERVICE,
			   "private memory: the weights of a daemon of yours "
			   "go with it; those of the machine's daemon stay");
	else if (module_ok && (is_enough(h) || d->p.info.nr_bufs))
		doctor_say(d, DOCTOR_OK, "pool", NULL,
			   "a daemon would take the module");
	else
		would_use_files(d, h);
}

void doctor_pool(struct doctor *d, const char *taken)
{
	struct doctor_huge h;

	doctor_huge_read(d, &h);
	huge_pages(d, &h);
	module(d);
	if (!taken)
		would_take(d, &h);
	else if (strncmp(taken, "private", 7))
		doctor_say(d, DOCTOR_OK, "pool", NULL,
			   "the daemon keeps weights in: %s", taken);
	else
		doctor_say(d, DOCTOR_WARN, "pool", SERVICE,
			   "the daemon keeps weights in: %s; they go with it",
			   taken);
}
