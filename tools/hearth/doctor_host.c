/* SPDX-License-Identifier: MIT */
/*
 * doctor_host.c - kernel, CPU, memory and limits, for hearth doctor.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../../kernels/cpu.h"

#define MEMLOCK_MIN (8ull << 20) /* buffers that a loader registers */
#define NOFILE_MIN  4096
#define AVAIL_MIN   (512ull << 20)

const char *const doctor_level_names[] = { "ok", "warn", "fail" };

/* ---------------------------------------------------------------- asking */

static int try_io_uring(void)
{
	struct io_uring_params p = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 1, &p);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int try_memfd(void)
{
	int fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int try_dev(struct hearth_dev_info *info)
{
	int fd = open(HEARTH_DEV_PATH, O_RDWR | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, HEARTH_DEV_IOC_INFO, info) < 0)
		err = -errno;
	close(fd);
	return err;
}

void doctor_probe(struct doctor_probe *p)
{
	struct utsname u;
	struct rlimit r;

	memset(p, 0, sizeof(*p));
	if (!uname(&u))
		snprintf(p->release, sizeof(p->release), "%.64s", u.release);
	p->uid = geteuid();
	p->io_uring = try_io_uring();
	p->memfd = try_memfd();
	p->seccomp = prctl(PR_GET_SECCOMP) < 0 ? -errno : 0;
	p->landlock = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
				   LANDLOCK_CREATE_RULESET_VERSION);
	if (p->landlock < 0)
		p->landlock = -errno;
	p->dev = try_dev(&p->info);
	if (!getrlimit(RLIMIT_MEMLOCK, &r))
		p->memlock = r.rlim_max;
	if (!getrlimit(RLIMIT_NOFILE, &r))
		p->nofile = r.rlim_max;
}

/* ----------------------------------------------------------------- lines */

void doctor_say(struct doctor *d, enum doctor_level level, const char *name,
		const char *fix, const char *fmt, ...)
{
	struct doctor_line *l;
	va_list ap;

	if (d->n == DOCTOR_LINES)
		return;
	l = &d->line[d->n++];
	l->level = level;
	snprintf(l->name, sizeof(l->name), "%s", name);
	snprintf(l->fix, sizeof(l->fix), "%s", fix ? fix : "");
	va_start(ap, fmt);
	vsnprintf(l->text, sizeof(l->text), fmt, ap);
	va_end(ap);
}

void doctor_fix(struct doctor *d, const char *fmt, ...)
{
	struct doctor_line *l = &d->line[d->n - 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->fix, sizeof(l->fix), fmt, ap);
	va_end(ap);
}

const struct doctor_line *doctor_find(const struct doctor *d, const char *name)
{
	size_t i;

	for (i = 0; i < d->n; i++)
		if (!strcmp(d->line[i].name, name))
			return &d->line[i];
	return NULL;
}

bool doctor_read(const struct doctor *d, const char *path, char *buf, size_t n)
{
	char full[512];
	ssize_t k;
	int fd;

	buf[0] = 0;
	snprintf(full, sizeof(full), "%s%s", d->root, path);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	k = read(fd, buf, n - 1);
	close(fd);
	buf[k > 0 ? k : 0] = 0;
	return k > 0;
}

uint64_t doctor_meminfo(const struct doctor *d, const char *field)
{
	char buf[4096];
	char *p;
	size_t n = strlen(field);

	doctor_read(d, "/proc/meminfo", buf, sizeof(buf));
	for (p = buf; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, field, n) && p[n] == ':')
			return strtoull(p + n + 1, NULL, 10) * 1024;
	}
	return 0;
}

/* ---------------------------------------------------------------- kernel */

static void kernel(struct doctor *d)
{
	unsigned int major = 0, minor = 0;

	if (sscanf(d->p.release, "%u.%u", &major, &minor) == 2 &&
	    (major > 6 || (major == 6 && minor >= 1)))
		doctor_say(d, DOCTOR_OK, "kernel", NULL, "Linux %s",
			   d->p.release);
	else
		doctor_say(d, DOCTOR_FAIL, "kernel",
			   "apt install linux-image-amd64",
			   "Linux %s; Hearth needs 6.1", d->p.release);
}

static void io_uring(struct doctor *d)
{
	char text[16];

	if (!d->p.io_uring) {
		doctor_say(d, DOCTOR_OK, "io_uring", NULL,
			   "for waiting and for loading");
		return;
	}
	doctor_say(d, DOCTOR_WARN, "io_uring", NULL,
		   "not allowed (%s): the daemon waits by epoll, and loads "
		   "slower",
		   strerror(-d->p.io_uring));
	if (doctor_read(d, "/proc/sys/kernel/io_uring_disabled", text,
			sizeof(text)) &&
	    *text != '0')
		doctor_fix(d, "sysctl -w kernel.io_uring_disabled=0");
}

static void sandbox(struct doctor *d)
{
	if (d->p.memfd)
		doctor_say(d, DOCTOR_FAIL, "memfd", NULL,
			   "no sealed memory (%s): no session can be made",
			   strerror(-d->p.memfd));
	else
		doctor_say(d, DOCTOR_OK, "memfd", NULL,
			   "sealed memory for sessions");
	if (d->p.landlock < 1)
		doctor_say(d, DOCTOR_WARN, "landlock", NULL,
			   "none (%s): parsers and engine are fenced in by "
			   "seccomp alone; lsm= at boot may switch it on",
			   strerror(-d->p.landlock));
	else
		doctor_say(d, DOCTOR_OK, "landlock", NULL, "ABI %d",
			   d->p.landlock);
	if (d->p.seccomp)
		doctor_say(d, DOCTOR_WARN, "seccomp", NULL,
			   "none in this kernel: parsers and engine may call "
			   "anything");
	else
		doctor_say(d, DOCTOR_OK, "seccomp", NULL, "filters");
}

/* ------------------------------------------------------------ CPU, memory */

static void cpu(struct doctor *d)
{
	enum cpu_level level = cpu_detect();
	char buf[16384], *p, *end, model[80] = "unknown CPU";
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	doctor_read(d, "/proc/cpuinfo", buf, sizeof(buf));
	p = strstr(buf, "model name");
	p = p ? strchr(p, ':') : NULL;
	end = p ? strchr(p, '\n') : NULL;
	if (end)
		snprintf(model, sizeof(model), "%.*s",
			 (int)(end - p > 2 ? end - p - 2 : 0), p + 2);
	/* no kernels for AMX yet: those of the level below run */
	if (level == CPU_AMX)
		level = CPU_AVX512;
	if (level == CPU_C)
		doctor_say(d, DOCTOR_WARN, "cpu", NULL,
			   "%s, %ld cores; plain C runs, as there is no AVX2",
			   model, cores);
	else
		doctor_say(d, DOCTOR_OK, "cpu", NULL,
			   "%s, %ld cores; kernels: %s", model, cores,
			   cpu_level_names[level]);
}

static void memory(struct doctor *d)
{
	uint64_t total = doctor_meminfo(d, "MemTotal");
	uint64_t avail = doctor_meminfo(d, "MemAvailable");
	uint64_t swap = doctor_meminfo(d, "SwapTotal");
	char a[32], b[32], c[32];

	if (!total)
		doctor_say(d, DOCTOR_FAIL, "memory", "mount -t proc proc /proc",
			   "unknown: /proc/meminfo cannot be read");
	else
		doctor_say(d, avail < AVAIL_MIN ? DOCTOR_WARN : DOCTOR_OK,
			   "memory",
			   avail < AVAIL_MIN ? "hearth stop --all --evict"
					     : NULL,
			   "%s available of %s, swap %s", fmt_size(a, avail),
			   fmt_size(b, total), fmt_size(c, swap));
}

static void pressure(struct doctor *d)
{
	char buf[256];
	double some;

	if (!doctor_read(d, "/proc/pressure/memory", buf, sizeof(buf)) ||
	    sscanf(buf, "some avg10=%lf", &some) != 1)
		doctor_say(d, DOCTOR_OK, "pressure", NULL,
			   "not measured by this kernel (psi=1 switches it "
			   "on); not needed");
	else
		doctor_say(d, some > 10 ? DOCTOR_WARN : DOCTOR_OK, "pressure",
			   some > 10 ? "hearth stop --all --evict" : NULL,
			   "something waits for memory %.1f %% of the time",
			   some);
}

/* The word in brackets. */
static bool chosen(const struct doctor *d, const char *path, char word[16])
{
	char buf[128];
	const char *p, *end;

	doctor_read(d, path, buf, sizeof(buf));
	p = strchr(buf, '[');
	end = p ? strchr(p, ']') : NULL;
	if (!end)
		return false;
	snprintf(word, 16, "%.*s", (int)(end - p - 1), p + 1);
	return true;
}

#define THP "/sys/kernel/mm/transparent_hugepage/"

static void thp(struct doctor *d)
{
	char anon[16], shared[16] = "none";

	if (!chosen(d, THP "enabled", anon)) {
		doctor_say(d, DOCTOR_WARN, "thp", NULL,
			   "this kernel has no transparent huge pages");
		return;
	}
	chosen(d, THP "shmem_enabled", shared);
	doctor_say(d, DOCTOR_OK, "thp", NULL,
		   "%s for memory of processes, %s for shared memory", anon,
		   shared);
	if (strcmp(anon, "never"))
		return;
	d->line[d->n - 1].level = DOCTOR_WARN;
	doctor_fix(d, "echo madvise > " THP "enabled");
}

static void limits(struct doctor *d)
{
	char lock[32] = "unlimited";
	bool low_lock = d->p.uid && d->p.memlock < MEMLOCK_MIN;
	bool low_files = d->p.nofile < NOFILE_MIN;
	const char *fix = NULL;

	if (d->p.memlock != RLIM_INFINITY)
		fmt_size(lock, d->p.memlock);
	if (low_lock)
		fix = "systemctl edit user@.service   # LimitMEMLOCK=64M";
	else if (low_files)
		fix = "ulimit -Hn 65536";
	doctor_say(d, fix ? DOCTOR_WARN : DOCTOR_OK, "limits", fix,
		   "locked memory %s, open files %llu%s", lock,
		   (unsigned long long)d->p.nofile,
		   low_files ? " (few sessions)" : "");
}

void doctor_host(struct doctor *d)
{
	kernel(d);
	io_uring(d);
	sandbox(d);
	cpu(d);
	memory(d);
	pressure(d);
	thp(d);
	limits(d);
}
