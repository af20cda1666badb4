/* SPDX-License-Identifier: MIT */
/*
 * t_failnth.c - let the 1st, 2nd, ... allocation and user copy of each call
 * fail, until a call comes through untouched, and see that nothing is left.
 *
 * Usage: t_failnth [DRIVER]: of the edu device, whose import is failed as well.
 * Needs a kernel with fault injection (/proc/thread-self/fail-nth).
 */
#include "dev.h"
#include "edu/hearth_edu.h"

#define NAME  "failnth"
#define PAGES 4
#define LIMIT 2000

static int dev, edu = -1, nth = -1;
static long pages;
static struct buf buf;
static int export_fd = -1;

static void arm(int n)
{
	char s[16];
	ssize_t k;

	snprintf(s, sizeof(s), "%d", n);
	do /* the fault may hit this very copy, and is spent then */
		k = pwrite(nth, s, strlen(s), 0);
	while (k < 0 && errno == EFAULT);
	if (k < 0)
		DIE("fail-nth: %s", strerror(errno));
}

/* True if the fault that was armed was not reached before this. */
static bool disarm(void)
{
	char s[32] = "";
	bool early = true;

	if (pread(nth, s, sizeof(s) - 1, 0) >= 0)
		early = atoi(s) != 0;
	else if (errno != EFAULT)
		DIE("fail-nth: %s", strerror(errno));
	arm(0);
	return early;
}

static int count_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* ---- the calls: 0, an fd, or -errno; and what undoes a success */

static int do_open(void)
{
	int fd = open(HEARTH_DEV_PATH, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int do_create(void)
{
	return dev_create(dev, NAME, &buf, 1000, NULL);
}

static int do_attach(void)
{
	return dev_get(dev, HEARTH_DEV_IOC_ATTACH, NAME, HEARTH_DEV_RDONLY,
		       NULL);
}

static int do_export(void)
{
	return dev_get(dev, HEARTH_DEV_IOC_EXPORT, NAME, 0, NULL);
}

static int do_destroy(void)
{
	return dev_name(dev, HEARTH_DEV_IOC_DESTROY, NAME, 0);
}

static int do_touch(void)
{
	return dev_name(dev, HEARTH_DEV_IOC_TOUCH, NAME, 0);
}

static int do_list(void)
{
	struct hearth_dev_buf l = { .id = 0 };

	return dev_call(dev, HEARTH_DEV_IOC_LIST, &l);
}

static int do_info(void)
{
	struct hearth_dev_info i;

	return dev_call(dev, HEARTH_DEV_IOC_INFO, &i);
}

/* A user that has no limit yet needs a record of his own. */
static int do_limit(void)
{
	struct hearth_dev_limit l = { .uid = 4711,
				      .flags = HEARTH_DEV_SET,
				      .limit = 1 << 30 };

	return dev_call(dev, HEARTH_DEV_IOC_LIMIT, &l);
}

static void undo_limit(int rc)
{
	struct hearth_dev_limit l = { .uid = 4711,
				      .flags = HEARTH_DEV_SET,
				      .limit = ~0ull };

	(void)rc;
	dev_call(dev, HEARTH_DEV_IOC_LIMIT, &l);
}

static int do_import(void)
{
	struct edu_import im = { .fd = export_fd };

	return dev_call(edu, EDU_IOC_IMPORT, &im);
}

static void undo_import(int rc)
{
	(void)rc;
	ioctl(edu, EDU_IOC_DROP);
}

static void undo_fd(int rc)
{
	close(rc);
}

static void undo_create(int rc)
{
	(void)rc;
	do_destroy();
}

static void undo_destroy(int rc)
{
	(void)rc;
	do_create();
}

static const struct call {
	const char *name;
	int (*run)(void);
	void (*undo)(int rc);
	bool named; /* needs the buffer */
	bool edu;
} calls[] = {
	{ "open", do_open, undo_fd, false, false },
	{ "info", do_info, NULL, false, false },
	{ "limit", do_limit, undo_limit, false, false },
	{ "create", do_create, undo_create, false, false },
	{ "list", do_list, NULL, true, false },
	{ "touch", do_touch, NULL, true, false },
	{ "attach", do_attach, undo_fd, true, false },
	{ "export", do_export, undo_fd, true, false },
	{ "destroy", do_destroy, undo_destroy, true, false },
	{ "import", do_import, undo_import, true, true },
};

/* Faults may be survived; what they may not do is to leave something. */
static void walk(const struct call *c)
{
	unsigned int n, failed = 0, survived = 0;
	static const uint32_t uid[] = { 0, 1000, 4711 };
	int rc, fds;
	bool through = false;

	if (buf_new(&buf, PAGES))
		DIE("%s: no huge pages", c->name);
	if (c->named && do_create())
		DIE("%s: CREATE", c->name);
	export_fd = c->edu ? do_export() : -1;
	fds = count_fds();
	for (n = 1; n < LIMIT && !through; n++) {
		arm((int)n);
		rc = c->run();
		through = disarm();
		if (rc < 0 && rc != -ENOMEM && rc != -EFAULT && rc != -EINTR)
			DIE("%s: fault %u: %s", c->name, n, strerror(-rc));
		if (rc < 0 && through)
			DIE("%s: fails without a fault: %s", c->name,
			    strerror(-rc));
		failed += rc < 0;
		survived += rc >= 0 && !through;
		if (rc >= 0 && c->undo)
			c->undo(rc);
		if (count_fds() != fds)
			DIE("%s: fault %u: an fd is left", c->name, n);
	}
	if (!through)
		DIE("%s: no end after %u faults", c->name, n);
	if (export_fd >= 0)
		close(export_fd);
	if (c->named && do_destroy())
		DIE("%s: the buffer has gone", c->name);
	buf_drop(&buf);
	dev_expect_empty(dev, uid, 3, pages, c->name);
	printf("RESULT failnth %s points %u failed %u survived %u\n", c->name,
	       n - 2, failed, survived);
}

int main(int argc, char **argv)
{
	static const char *const kind[] = { "failslab", "fail_page_alloc",
					    "fail_usercopy" };
	char path[96];
	unsigned int i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth < 0) {
		puts("no fault injection in this kernel");
		return 77;
	}
	for (i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose",
			 kind[i]);
		put(path, "0");
		snprintf(path, sizeof(path),
			 "/sys/kernel/debug/%s/ignore-gfp-wait", kind[i]);
		put(path, "N");
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/min-order",
			 kind[i]);
		put(path, "0");
	}
	if (argc > 1)
		edu = open(argv[1], O_RDWR | O_CLOEXEC);
	if (argc > 1 && edu < 0)
		DIE("%s: %s", argv[1], strerror(errno));
	dev = dev_open();
	pages = meminfo("HugePages_Free");
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!calls[i].edu || edu >= 0)
			walk(&calls[i]);
	puts("ok every allocation point");
	return 0;
}
