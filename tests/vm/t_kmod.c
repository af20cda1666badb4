/* SPDX-License-Identifier: MIT */
/*
 * t_kmod.c - /dev/hearth does what its header says, and nothing is left.
 */
#include <linux/memfd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "count.h"
#include "dev.h"

#define PARAM	  "/sys/module/hearth/parameters/"
#define LIST_FILE "/sys/kernel/debug/hearth/buffers"
#define TRACING	  "/sys/kernel/tracing/"
#define SEALED	  (F_SEAL_SHRINK | F_SEAL_GROW)

static int d;	   /* the device */
static long pages; /* free huge pages at the start */

static void number(const char *file, unsigned long long v)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", v);
	if (!put(file, text))
		DIE("cannot write %s", file);
}

static bool file_has(const char *path, const char *a, const char *b)
{
	char line[512];
	bool found = false;
	FILE *f = fopen(path, "r");

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, a) && strstr(line, b);
	if (f)
		fclose(f);
	return found;
}

/* What LIST says of a name; false if it has none such. */
static bool listed(const char *name, struct hearth_dev_buf *out)
{
	struct hearth_dev_buf l = { .id = 0 };

	while (!dev_call(d, HEARTH_DEV_IOC_LIST, &l))
		if (!strcmp(l.name, name)) {
			*out = l;
			return true;
		}
	return false;
}

static int open_of(const char *name)
{
	struct hearth_dev_buf l;

	return listed(name, &l) ? (int)l.open : -ENOENT;
}

/* ---- residency ---- */

static void fill_and_die(void)
{
	struct buf b;
	size_t i;

	buf_make(&b, 8);
	check_rc(dev_create(d, "resident", &b, 1000, NULL), 0, "CREATE");
	for (i = 0; i < b.bytes; i += 4096)
		*(uint64_t *)(b.map + i) = i * 0x9e3779b97f4a7c15ull;
	check_rc(fcntl(b.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0,
		 "what is pinned and mapped can be sealed against writing");
	kill(getpid(), SIGKILL);
}

static int unload(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK) ? -errno : 0;
}

static void read_back(void)
{
	char path[64], *map;
	size_t i, bad = 0;
	uint64_t id = 0;
	int fd, rw;

	fd = dev_get(d, HEARTH_DEV_IOC_ATTACH, "resident", HEARTH_DEV_RDONLY,
		     &id);
	check(fd >= 0 && id, "another process attaches");
	check(fcntl(fd, F_GETFD) == FD_CLOEXEC, "the fd is O_CLOEXEC");
	check((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "and O_RDONLY");
	map = mmap(NULL, 8 * HPAGE, PROT_READ, MAP_SHARED, fd, 0);
	for (i = 0; map != MAP_FAILED && i < 8 * HPAGE; i += 4096)
		bad += *(uint64_t *)(map + i) != i * 0x9e3779b97f4a7c15ull;
	check(map != MAP_FAILED && !bad, "and reads what was written");
	check(mprotect(map, HPAGE, PROT_READ | PROT_WRITE) && errno == EACCES,
	      "its mapping cannot be made writable");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rw = open(path, O_RDWR);
	check(mmap(NULL, HPAGE, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0) ==
			      MAP_FAILED &&
		      errno == EPERM,
	      "nor can it be mapped writable by opening it anew");
	check(fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			HPAGE) &&
		      errno == EPERM,
	      "nor can holes be made");
	check_rc(dev_get(d, HEARTH_DEV_IOC_ATTACH, "resident", 0, NULL),
		 -EACCES, "a sealed buffer is only given read-only");
}

static void test_residency(void)
{
	struct hearth_dev_buf l = { 0 };
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		fill_and_die();
	waitpid(pid, &status, 0);
	check(WIFSIGNALED(status), "its maker is killed");
	check(listed("resident", &l) && l.bytes == 8 * HPAGE && l.uid == 1000 &&
		      l.hpage_shift == 21 && (l.seals & F_SEAL_FUTURE_WRITE),
	      "LIST has it");
	check_rc(l.open, 0, "nobody has it open");
	check_rc(meminfo("HugePages_Free"), pages - 8, "its pages are taken");
	check_rc(dev_used(d, 1000), 8 * HPAGE, "its user is charged");
	in_child(read_back, "reading back");
	check_rc(open_of("resident"), 0, "nobody has it open again");
	close(d);
	check_rc(unload("hearth"), -EAGAIN, "the module cannot go with a name");
	d = dev_open();
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "resident", l.id), 0,
		 "DESTROY with its id");
}

/* An fd that cannot be told is not opened: the struct is in read-only memory */
static void test_no_fd_leak(void)
{
	struct hearth_dev_buf *g = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int before, after;
	struct buf b;

	buf_make(&b, 1);
	dev_create(d, "good", &b, 0, NULL);
	strcpy(g->name, "good");
	mprotect(g, 4096, PROT_READ);
	before = dup(d);
	close(before);
	check_rc(dev_call(d, HEARTH_DEV_IOC_ATTACH, g), -EFAULT,
		 "ATTACH: a result that cannot be written");
	check_rc(dev_call(d, HEARTH_DEV_IOC_EXPORT, g), -EFAULT,
		 "EXPORT: a result that cannot be written");
	after = dup(d);
	close(after);
	check_rc(after, before, "no fd is left open");
	munmap(g, 4096);
	buf_drop(&b);
	check_rc(open_of("good"), 0, "and no file");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "good", 0);
}

/* ---- quotas ---- */

static int limit(uint32_t uid, uint64_t bytes)
{
	struct hearth_dev_limit l = { .uid = uid,
				      .flags = HEARTH_DEV_SET,
				      .limit = bytes };

	return dev_call(d, HEARTH_DEV_IOC_LIMIT, &l);
}

static uint64_t limit_of(uint32_t uid)
{
	struct hearth_dev_limit l = { .uid = uid };

	return dev_call(d, HEARTH_DEV_IOC_LIMIT, &l) ? 0 : l.limit;
}

static void test_quota(void)
{
	struct hearth_dev_info i = dev_info(d);
	struct buf a, b;

	buf_make(&a, 2);
	buf_make(&b, 2);
	number(PARAM "max_bytes", 4 * HPAGE - 1);
	check_rc(dev_create(d, "a", &a, 1000, NULL), 0, "below max_bytes");
	check_rc(dev_create(d, "b", &b, 1001, NULL), -ENOSPC,
		 "a byte over max_bytes");
	number(PARAM "max_bytes", 4 * HPAGE);
	check_rc(dev_create(d, "b", &b, 1001, NULL), 0, "just max_bytes");
	check_rc(dev_info(d).max_bytes, 4 * HPAGE, "INFO says max_bytes");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "b", 0);
	number(PARAM "max_bytes", i.max_bytes);

	number(PARAM "max_uid_bytes", 4 * HPAGE - 1);
	check_rc(dev_create(d, "b", &b, 1000, NULL), -EDQUOT,
		 "a byte over max_uid_bytes");
	check_rc(dev_create(d, "b", &b, 1001, NULL), 0,
		 "another user has his own");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "b", 0);
	check_rc(limit(1000, 4 * HPAGE), 0, "LIMIT");
	check_rc(limit_of(1000), 4 * HPAGE, "LIMIT says so");
	check_rc(dev_create(d, "b", &b, 1000, NULL), 0, "his own limit");
	check_rc(dev_used(d, 1000), 4 * HPAGE, "what he uses");
	check_rc(limit(1000, HPAGE), 0, "LIMIT below what he uses");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "b", 0);
	check_rc(dev_create(d, "b", &b, 1000, NULL), -EDQUOT,
		 "then he gets no more");
	check_rc(limit(1000, ~0ull), 0, "LIMIT, as everybody");
	check_rc((long)limit_of(1000), -1, "LIMIT says so");
	check_rc(dev_create(d, "b", &b, 1000, NULL), -EDQUOT,
		 "as max_uid_bytes says");
	number(PARAM "max_uid_bytes", i.uid_bytes);
	check_rc(dev_used(d, 1001), 0, "the other user is charged nothing");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "a", 0);
	check_rc(dev_used(d, 1000), 0, "nor is he in the end");
	check_rc(dev_info(d).total_bytes, 0, "nor anybody");
	buf_drop(&a);
	buf_drop(&b);
}

/* ---- names, ids, users ---- */

static void test_ids(void)
{
	uint64_t first = 0, second = 0;
	struct buf b;

	buf_make(&b, 1);
	dev_create(d, "again", &b, 0, &first);
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "again", first + 1),
		 -ESTALE, "DESTROY of a later id");
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "again", first), 0,
		 "DESTROY of that id");
	dev_create(d, "again", &b, 0, &second);
	check(second > first, "an id is not used again");
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "again", first), -ESTALE,
		 "DESTROY of the earlier id leaves the new one");
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "again", 0), 0,
		 "DESTROY of any id");
	buf_drop(&b);
}

/* What is there all the time is listed once, whatever comes and goes. */
static void test_list(void)
{
	struct hearth_dev_buf l = { .id = 0 };
	struct buf b[8];
	char name[32];
	unsigned int i, seen[8] = { 0 }, other = 0, step = 0;

	for (i = 0; i < 8; i++) {
		buf_make(&b[i], 1);
		snprintf(name, sizeof(name), "list.%u", i);
		dev_create(d, name, &b[i], 0, NULL);
	}
	while (!dev_call(d, HEARTH_DEV_IOC_LIST, &l) && step < 100) {
		if (sscanf(l.name, "list.%u", &i) == 1 && i < 8)
			seen[i]++;
		else
			other++;
		step++;
		if (step == 3) { /* one that was, two that are to come */
			dev_name(d, HEARTH_DEV_IOC_DESTROY, "list.0", 0);
			dev_name(d, HEARTH_DEV_IOC_DESTROY, "list.3", 0);
			dev_name(d, HEARTH_DEV_IOC_DESTROY, "list.7", 0);
			dev_create(d, "new", &b[0], 0, NULL);
			dev_name(d, HEARTH_DEV_IOC_TOUCH, "list.1", 0);
		}
	}
	check(seen[1] == 1 && seen[2] == 1 && seen[4] == 1 && seen[5] == 1 &&
		      seen[6] == 1,
	      "LIST has each that stays once");
	check(seen[0] == 1 && !seen[3] && !seen[7] && other == 1 && step == 7,
	      "and those that come, and not those that are gone");
	dev_destroy_all(d);
	for (i = 0; i < 8; i++)
		buf_drop(&b[i]);
}

static void test_users(void)
{
	struct hearth_dev_buf l = { 0 };
	struct buf b;
	char *map;
	int fd;

	buf_make(&b, 2);
	dev_create(d, "used", &b, 1000, NULL);
	check_rc(open_of("used"), 1, "its maker has it open");
	buf_drop(&b);
	check_rc(open_of("used"), 0, "nobody has");
	check_rc(dev_info(d).nr_idle, 1, "INFO says idle");
	fd = dev_get(d, HEARTH_DEV_IOC_ATTACH, "used", 0, NULL);
	check_rc(open_of("used"), 1, "who attached has it open");
	map = mmap(NULL, 2 * HPAGE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	check_rc(open_of("used"), 1, "a mapping is enough");
	check_rc(dev_info(d).nr_idle, 0, "INFO says not idle");
	munmap(map, 2 * HPAGE);
	check_rc(open_of("used"), 0, "nobody has");
	usleep(20000);
	listed("used", &l);
	check(l.idle_ns >= 20000000, "it was not used for a while");
	dev_name(d, HEARTH_DEV_IOC_TOUCH, "used", 0);
	listed("used", &l);
	check(l.idle_ns < 20000000, "until it is touched");
	fd = dev_get(d, HEARTH_DEV_IOC_EXPORT, "used", 0, NULL);
	check_rc(open_of("used"), 1, "a dma-buf has it open");
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "used", 0), 0,
		 "its name can go");
	check_rc(dev_get(d, HEARTH_DEV_IOC_ATTACH, "used", 0, NULL), -ENOENT,
		 "and is gone at once");
	check(dev_used(d, 1000) == 2 * HPAGE &&
		      dev_info(d).total_bytes == 2 * HPAGE &&
		      meminfo("HugePages_Free") == pages - 2,
	      "the dma-buf keeps charge and pages");
	close(d);
	check_rc(unload("hearth"), -EAGAIN,
		 "the module cannot go with a dma-buf");
	d = dev_open();
	close(fd);
	check(pages_back(pages) && !dev_used(d, 1000),
	      "they go with the dma-buf");
}

/* ---- for people ---- */

static void test_listing(void)
{
	struct stat st;
	struct buf b;

	buf_make(&b, 1);
	dev_create(d, "seen.by:people", &b, 1234, NULL);
	check(file_has(LIST_FILE, " 1234 1 0 ", " seen.by:people\n"),
	      "the file in debugfs has it");
	check(!stat(LIST_FILE, &st) && (st.st_mode & 07777) == 0400,
	      "which is for root");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "seen.by:people", 0);
	check(!file_has(LIST_FILE, "seen.by:people", ""), "until it is gone");
	buf_drop(&b);
}

static void traced(const char *event)
{
	char text[64];

	snprintf(text, sizeof(text), "hearth_%s: name=traced bytes=2097152 ",
		 event);
	check(file_has(TRACING "trace", text, " cgroup="), "event %s", event);
}

static void test_trace(void)
{
	struct buf b;

	if (!put(TRACING "events/hearth/enable", "1") ||
	    !put(TRACING "trace", "\n"))
		DIE("no tracing");
	buf_make(&b, 1);
	number(PARAM "max_uid_bytes", HPAGE - 1);
	check_rc(dev_create(d, "traced", &b, 1000, NULL), -EDQUOT, "quota");
	number(PARAM "max_uid_bytes", ~0ull);
	dev_create(d, "traced", &b, 1000, NULL);
	close(dev_get(d, HEARTH_DEV_IOC_ATTACH, "traced", 0, NULL));
	close(dev_get(d, HEARTH_DEV_IOC_EXPORT, "traced", 0, NULL));
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "traced", 0);
	put(TRACING "events/hearth/enable", "0");
	traced("create");
	traced("attach");
	traced("export");
	traced("destroy");
	traced("denied");
	check(file_has(TRACING "trace", "hearth_create: name=traced",
		       " uid=1000 "),
	      "events have the user");
	check(file_has(TRACING "trace", "hearth_denied: name=traced",
		       " err=-122\n"),
	      "refusals have the reason");
	buf_drop(&b);
}

/* ---- pages of 1 GiB ---- */

static void test_gigantic(void)
{
	const char *nr = "/sys/kernel/mm/hugepages/hugepages-1048576kB/"
			 "nr_hugepages";
	const char *left = "/sys/kernel/mm/hugepages/hugepages-1048576kB/"
			   "free_hugepages";
	struct buf b = { .bytes = 1ul << 30 };
	struct hearth_dev_buf l;
	bool there;

	put("/proc/sys/vm/compact_memory", "1");
	there = put(nr, "1") && file_has(left, "1", "");
	if (!there) {
		printf("# no page of 1 GiB can be had here\n");
		put(nr, "0");
		return;
	}
	b.fd = memfd_create("1g", MFD_HUGETLB | MFD_HUGE_1GB |
					  MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (b.fd < 0 || ftruncate(b.fd, (off_t)b.bytes) ||
	    fcntl(b.fd, F_ADD_SEALS, SEALED))
		DIE("memfd of 1 GiB: %s", strerror(errno));
	b.map = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b.fd,
		     0);
	if (b.map == MAP_FAILED || madvise(b.map, b.bytes, MADV_POPULATE_WRITE))
		DIE("mmap of 1 GiB: %s", strerror(errno));
	check_rc(dev_create(d, "giga", &b, 0, NULL), 0, "a page of 1 GiB");
	check(listed("giga", &l) && l.hpage_shift == 30 && l.bytes == b.bytes,
	      "LIST says so");
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "giga", 0), 0, "DESTROY");
	buf_drop(&b);
	check(file_has(left, "1", ""), "the page of 1 GiB is back");
	put(nr, "0");
}

int main(void)
{
	struct hearth_dev_info i;
	struct buf probe;

	count_init();
	d = dev_open();
	pages = meminfo("HugePages_Free");
	i = dev_info(d);
	check(i.abi == HEARTH_DEV_ABI && !i.nr_bufs && !i.total_bytes &&
		      i.max_bytes && i.uid_bytes == ~0ull && !i.watermark,
	      "INFO of an empty pool");
	buf_make(&probe, 1);
	buf_drop(&probe);
	test_residency();
	test_no_fd_leak();
	test_quota();
	test_ids();
	test_list();
	test_users();
	test_listing();
	test_trace();
	test_gigantic();
	i = dev_info(d);
	check(!i.nr_bufs && !i.total_bytes && !i.nr_idle,
	      "nothing is left in the pool");
	check(pages_back(pages), "all %ld huge pages are back", pages);
	close(d);
	check_rc(unload("hearth"), 0, "the module can go");
	return count_end();
}
