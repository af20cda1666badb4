/* SPDX-License-Identifier: MIT */
/*
 * t_fuzz.c - calls of /dev/hearth that are almost right, from processes that
 * are killed in the middle of them.
 *
 * Usage: t_fuzz SECONDS [SEED]. Where the kernel injects faults, allocations
 * and user copies of the second half fail now and then.
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "dev.h"

#define SETS 4	/* good buffers of a process */
#define KEEP 16 /* fds that it holds on to */

/* Seen by all processes: how often each call succeeded, of how many. */
struct tally {
	unsigned long n, ok[16], killed;
};

static struct tally *tally;
static uint64_t state;
static int dev;
static struct buf set[SETS];
static int odd[8]; /* fds that CREATE must refuse */
static int keep[KEEP];
static char *edge; /* the last bytes before an unmapped page end here */

static uint32_t rnd(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % n;
}

static uint64_t word(void)
{
	static const uint64_t v[] = {
		0, 1, 4096, HPAGE, ~0ull, 1ull << 63, 0x7fffffff, 0xffffffff
	};

	return rnd(2) ? v[rnd(8)] : (uint64_t)rnd(~0u) << rnd(33);
}

static void noise(void *p, size_t n)
{
	unsigned char *b = p;

	while (n--)
		*b++ = (unsigned char)rnd(256);
}

static void some_name(char *name)
{
	static const char *const bad[] = { "",	 "a/b",	     "a b",
					   "..", "\xff\xfe", "%s%n" };

	memset(name, 0, HEARTH_DEV_NAME);
	switch (rnd(20)) {
	case 0:
		noise(name, HEARTH_DEV_NAME);
		break;
	case 1:
		memset(name, 'x', HEARTH_DEV_NAME - rnd(2));
		break;
	case 2:
		strcpy(name, bad[rnd(6)]);
		break;
	default:
		snprintf(name, HEARTH_DEV_NAME, "fuzz:%u.cpu-1", rnd(6));
	}
}

static int some_fd(const struct buf *b)
{
	switch (rnd(12)) {
	case 0:
		return odd[rnd(8)];
	case 1:
		return keep[rnd(KEEP)];
	case 2:
		return (int)word();
	default:
		return b->fd;
	}
}

/* A request that is right but for what chance spoils; returns its size. */
static size_t request(unsigned int nr, void *p)
{
	struct hearth_dev_buf *a = p;
	struct hearth_dev_limit *m = p;
	const struct buf *b = &set[rnd(SETS)];

	switch (nr) {
	case 1:
		some_name(a->name);
		a->fd = some_fd(b);
		a->uid = 1000 + rnd(3);
		a->flags = rnd(20) ? 0 : (uint32_t)word();
		return sizeof(*a);
	case 2:
	case 3:
		some_name(a->name);
		a->id = rnd(20) ? 0 : word();
		a->flags = rnd(10) ? rnd(2) : (uint32_t)word();
		return sizeof(*a);
	case 4:
	case 6:
		some_name(a->name);
		a->id = rnd(4) ? 0 : word();
		a->flags = rnd(20) ? 0 : (uint32_t)word();
		return sizeof(*a);
	case 5:
		a->id = rnd(3) ? 0 : word();
		return sizeof(*a);
	case 7:
		m->uid = rnd(4) ? 1000 + rnd(3) : rnd(4) ? 2000 + rnd(64) : ~0u;
		m->flags = rnd(6) ? 0 : rnd(4);
		m->limit = rnd(4) ? ~0ull : word();
		return sizeof(*m);
	default:
		return nr ? rnd(256) : sizeof(struct hearth_dev_info);
	}
}

/* What a process does with an fd that it got. */
static void use(int fd)
{
	unsigned int k = rnd(KEEP);
	char *p;

	if (keep[k] >= 0)
		close(keep[k]);
	keep[k] = fd;
	switch (rnd(6)) {
	case 0:
		p = mmap(NULL, HPAGE, PROT_READ, MAP_SHARED, fd, 0);
		if (p != MAP_FAILED) {
			*(volatile char *)(p + rnd(HPAGE));
			munmap(p, HPAGE);
		}
		break;
	case 1:
		fcntl(fd, F_ADD_SEALS, 1 << rnd(6));
		break;
	case 2:
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  HPAGE);
		break;
	case 3:
		(void)!ftruncate(fd, rnd(3) * HPAGE);
		break;
	case 4:
		ioctl(fd, word(), edge);
		break;
	default:
		break;
	}
}

static void call(void)
{
	_Alignas(8) unsigned char req[512] = { 0 };
	unsigned int nr = rnd(24) ? rnd(8) : rnd(256);
	/* INFO says nothing that is interesting twice a millisecond */
	size_t n = request(nr = nr ? nr : rnd(8), req), size = n;
	unsigned long dir = nr == 0		 ? _IOC_READ
			    : nr == 4 || nr == 6 ? _IOC_WRITE
						 : _IOC_READ | _IOC_WRITE;
	void *p = req;
	int rc;

	switch (rnd(24)) {
	case 0: /* an earlier or a later version of it */
		size = rnd(sizeof(req));
		if (rnd(2))
			noise(req + n, sizeof(req) - n);
		break;
	case 1:
		req[rnd((uint32_t)(n ? n : 1))] ^= 1u << rnd(8);
		break;
	case 2: /* it ends where memory does, or a little later */
		p = edge - (n > 8 ? n - rnd(2) * 8 : n);
		memcpy(p, req, (size_t)(edge - (char *)p));
		break;
	case 3:
		p = (void *)(uintptr_t)word();
		break;
	case 4:
		dir = rnd(4);
		break;
	default:
		break;
	}
	rc = ioctl(dev, _IOC(dir, HEARTH_DEV_IOC, nr, size), p);
	__atomic_add_fetch(&tally->n, 1, __ATOMIC_RELAXED);
	if (rc < 0 || nr > 7)
		return;
	__atomic_add_fetch(&tally->ok[nr], 1, __ATOMIC_RELAXED);
	if ((nr == 2 || nr == 3) && p == req && size >= n)
		use(((struct hearth_dev_buf *)req)->fd);
	if (nr == 1 && rnd(3) == 0)
		fcntl(set[rnd(SETS)].fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
}

/* Fresh memory for one of the buffers: what had it may live on in a name. */
static void renew(struct buf *b)
{
	buf_drop(b);
	if (buf_new(b, 1 + rnd(2)))
		*b = (struct buf){ .fd = -1 };
}

static void make_odd(void)
{
	unsigned int i;

	for (i = 0; i < 8; i++)
		odd[i] = -1;
	odd[0] = memfd_create("small", MFD_ALLOW_SEALING);
	odd[1] = memfd_create("unsealed", MFD_HUGETLB | MFD_ALLOW_SEALING);
	odd[2] = memfd_create("empty", MFD_HUGETLB | MFD_ALLOW_SEALING);
	odd[3] = open("/dev/null", O_RDWR);
	odd[4] = dev;
	odd[5] = memfd_create("absent", MFD_HUGETLB | MFD_ALLOW_SEALING);
	odd[6] = open("/proc/self/maps", O_RDONLY);
	(void)!ftruncate(odd[0], 8192);
	(void)!ftruncate(odd[1], HPAGE);
	(void)!ftruncate(odd[5], HPAGE);
	for (i = 0; i < 6; i++)
		fcntl(odd[i], F_ADD_SEALS,
		      i == 1 ? 0 : F_SEAL_SHRINK | F_SEAL_GROW);
}

static void fuzz(uint64_t seed, bool faults)
{
	unsigned int i;

	state = seed * 0x9e3779b97f4a7c15ull + 1;
	for (i = 0; i < KEEP; i++)
		keep[i] = -1;
	for (i = 0; i < SETS; i++)
		set[i] = (struct buf){ .fd = -1 };
	make_odd();
	edge = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + 2 * 4096, 4096);
	edge += 2 * 4096;
	for (i = 0; i < SETS; i++)
		renew(&set[i]);
	if (faults)
		put("/proc/self/make-it-fail", "1");
	for (;;) {
		call();
		if (rnd(64) == 0)
			renew(&set[rnd(SETS)]);
		if (rnd(64) == 0)
			dev_name(dev, HEARTH_DEV_IOC_DESTROY, "fuzz:0.cpu-1",
				 0);
	}
}

/* True if faults can be injected. Only into tasks that ask for it. */
static bool faults_on(const char *probability)
{
	static const char *const kind[] = { "failslab", "fail_page_alloc",
					    "fail_usercopy" };
	static const char *const row[][2] = {
		{ "verbose", "0" },   { "task-filter", "Y" },
		{ "times", "-1" },    { "ignore-gfp-wait", "N" },
		{ "min-order", "0" },
	};
	char path[96];
	unsigned int i, k;
	bool any = false;

	for (i = 0; i < 3; i++) {
		for (k = 0; k < sizeof(row) / sizeof(row[0]); k++) {
			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s",
				 kind[i], row[k][0]);
			put(path, row[k][1]);
		}
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/probability",
			 kind[i]);
		any |= put(path, probability);
	}
	return any;
}

/* Two processes at a time, each killed after some milliseconds. */
static void round_of(uint64_t seed, bool faults)
{
	pid_t pid[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (!pid[i])
			fuzz(seed * 2 + i, faults);
	}
	usleep(20000 + rnd(400) * 1000);
	for (i = 0; i < 2; i++) {
		int st = 0;

		if (pid[i] < 0)
			DIE("fork: %s", strerror(errno));
		kill(pid[i], SIGKILL);
		waitpid(pid[i], &st, 0);
		if (!WIFSIGNALED(st) ||
		    (WTERMSIG(st) != SIGKILL && WTERMSIG(st) != SIGBUS))
			DIE("seed %llu: status %x",
			    (unsigned long long)(seed * 2 + i), st);
		tally->killed++;
	}
}

int main(int argc, char **argv)
{
	static const uint32_t uid[] = { 0, 1000, 1001, 1002 };
	static const char *const name[] = { "info",   "create",	 "attach",
					    "export", "destroy", "list",
					    "touch",  "limit" };
	time_t t0, secs = argc > 1 ? atoi(argv[1]) : 10;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0)
				 : (uint64_t)time(NULL) ^ (uint64_t)getpid();
	unsigned int i;
	bool can;
	long pages;

	setvbuf(stdout, NULL, _IOLBF, 0);
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dev = dev_open();
	pages = meminfo("HugePages_Free");
	printf("seed %llu\n", (unsigned long long)seed);
	state = seed * 2 + 1;
	can = faults_on("0");
	for (t0 = time(NULL); time(NULL) - t0 < secs; seed++) {
		bool faults = can && time(NULL) - t0 >= secs / 2;

		if (can)
			faults_on(faults ? "3" : "0");
		round_of(seed, faults);
	}
	faults_on("0");
	for (i = 0; i < 8; i++)
		printf("RESULT fuzz %s succeeded %lu times\n", name[i],
		       tally->ok[i]);
	printf("RESULT fuzz %lu calls, %lu processes killed, faults %s\n",
	       tally->n, tally->killed,
	       can ? "injected" : "cannot be injected");
	dev_destroy_all(dev);
	for (i = 0; i < 4; i++) {
		struct hearth_dev_limit l = { .uid = uid[i],
					      .flags = HEARTH_DEV_SET,
					      .limit = ~0ull };

		dev_call(dev, HEARTH_DEV_IOC_LIMIT, &l);
	}
	dev_expect_empty(dev, uid, 4, pages, "fuzzing");
	for (i = 0; i < 8; i++)
		if (!tally->ok[i])
			DIE("fuzzing never got through %s", name[i]);
	puts("ok fuzzing");
	return 0;
}
