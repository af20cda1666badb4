/* SPDX-License-Identifier: MIT */
/*
 * t_refuse.c - /dev/hearth refuses what is not exactly right.
 *
 * Each row of a table is a call that succeeds but for one field; that it does
 * is checked too. A refusal leaves nothing behind.
 */
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "count.h"
#include "dev.h"

#define SEALED (F_SEAL_SHRINK | F_SEAL_GROW)

static int d; /* the device */

/* Any call's struct, with room for what a later version may add. */
union call {
	struct hearth_dev_buf buf;
	struct hearth_dev_limit limit;
	struct hearth_dev_info info;
	char raw[512];
};

static unsigned long sized(unsigned long cmd, size_t bytes)
{
	return _IOC(_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd), bytes);
}

/* ---- rejections ---- */

struct reject {
	const char *what;
	size_t offset, bytes;
	uint64_t value;
	const char *text; /* instead of @value: a name */
	int want;
};

#define FIELD(s, f)                         \
	offsetof(struct hearth_dev_##s, f), \
		sizeof(((struct hearth_dev_##s *)NULL)->f)

/* @base succeeds; with one field broken it is refused. */
static void reject(const char *call, unsigned long cmd, const union call *base,
		   const struct reject *r, size_t n)
{
	union call c;
	char what[128];

	for (; n--; r++) {
		c = *base;
		if (r->text) {
			memset(c.raw + r->offset, 0, r->bytes);
			memcpy(c.raw + r->offset, r->text,
			       strnlen(r->text, r->bytes));
		} else {
			memcpy(c.raw + r->offset, &r->value, r->bytes);
		}
		snprintf(what, sizeof(what), "%s: %s", call, r->what);
		check_rc(dev_call(d, cmd, &c), r->want, what);
	}
}

#define REJECT(name, cmd, base, rows) \
	reject(name, cmd, base, rows, sizeof(rows) / sizeof((rows)[0]))

static const char long_name[HEARTH_DEV_NAME + 1] =
	"0123456789012345678901234567890123456789012345678901234567890123456789"
	"01234567890123456789012345";

/* The names that nothing may have. */
static void reject_names(const char *call, unsigned long cmd,
			 const union call *base)
{
	const struct reject rows[] = {
		{ "no name", FIELD(buf, name), 0, "", -EINVAL },
		{ "a slash", FIELD(buf, name), 0, "a/b", -EINVAL },
		{ "a space", FIELD(buf, name), 0, "a b", -EINVAL },
		{ "a line", FIELD(buf, name), 0, "a\n", -EINVAL },
		{ "a percent sign", FIELD(buf, name), 0, "%s", -EINVAL },
		{ "not ASCII", FIELD(buf, name), 0, "\xc3\xa4", -EINVAL },
		{ "a name without end", FIELD(buf, name), 0, long_name,
		  -EINVAL },
	};

	REJECT(call, cmd, base, rows);
}

static int special_fd(unsigned int flags, size_t bytes, unsigned int seals,
		      bool present)
{
	int fd = memfd_create("x", flags | MFD_ALLOW_SEALING | MFD_CLOEXEC);
	char *map;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) ||
	    (seals && fcntl(fd, F_ADD_SEALS, seals)))
		DIE("memfd: %s", strerror(errno));
	if (!present)
		return fd;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || madvise(map, bytes, MADV_POPULATE_WRITE))
		DIE("memfd: %s", strerror(errno));
	munmap(map, bytes);
	return fd;
}

static void reject_files(const union call *base, const struct buf *b)
{
	char path[64];
	int i, fd[7];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	fd[0] = special_fd(0, HPAGE, SEALED, true);
	fd[1] = special_fd(MFD_HUGETLB, HPAGE, 0, true);
	fd[2] = special_fd(MFD_HUGETLB, HPAGE, F_SEAL_SHRINK, true);
	fd[3] = special_fd(MFD_HUGETLB, HPAGE, F_SEAL_GROW, true);
	fd[4] = special_fd(MFD_HUGETLB, 0, SEALED, false);
	fd[5] = special_fd(MFD_HUGETLB, 2 * HPAGE, SEALED, false);
	fd[6] = open(path, O_RDONLY);
	{
		const struct reject rows[] = {
			{ "no file", FIELD(buf, fd), -1ull, NULL, -EBADF },
			{ "the device", FIELD(buf, fd), (uint32_t)d, NULL,
			  -EINVAL },
			{ "small pages", FIELD(buf, fd), (uint32_t)fd[0], NULL,
			  -EINVAL },
			{ "no seals", FIELD(buf, fd), (uint32_t)fd[1], NULL,
			  -EINVAL },
			{ "may grow", FIELD(buf, fd), (uint32_t)fd[2], NULL,
			  -EINVAL },
			{ "may shrink", FIELD(buf, fd), (uint32_t)fd[3], NULL,
			  -EINVAL },
			{ "empty", FIELD(buf, fd), (uint32_t)fd[4], NULL,
			  -EINVAL },
			{ "pages missing", FIELD(buf, fd), (uint32_t)fd[5],
			  NULL, -ENODATA },
			{ "read-only", FIELD(buf, fd), (uint32_t)fd[6], NULL,
			  -EACCES },
		};

		REJECT("CREATE", HEARTH_DEV_IOC_CREATE, base, rows);
	}
	for (i = 0; i < 7; i++)
		close(fd[i]);
}

static void reject_create(void)
{
	const struct reject rows[] = {
		{ "a flag", FIELD(buf, flags), 1, NULL, -EINVAL },
		{ "another flag", FIELD(buf, flags), 1u << 31, NULL, -EINVAL },
		{ "nobody", FIELD(buf, uid), -1u, NULL, -EINVAL },
		{ "a name in use", FIELD(buf, name), 0, "taken", -EEXIST },
	};
	union call base = { .buf = { .name = "good" } }, c;
	struct buf b, taken;

	buf_make(&b, 2);
	buf_make(&taken, 1);
	check_rc(dev_create(d, "taken", &taken, 0, NULL), 0, "CREATE");
	base.buf.fd = b.fd;
	c = base;
	check(!dev_call(d, HEARTH_DEV_IOC_CREATE, &c) &&
		      c.buf.bytes == 2 * HPAGE && c.buf.id &&
		      c.buf.hpage_shift == 21,
	      "CREATE: as it should be");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "good", 0);
	REJECT("CREATE", HEARTH_DEV_IOC_CREATE, &base, rows);
	reject_names("CREATE", HEARTH_DEV_IOC_CREATE, &base);
	reject_files(&base, &b);
	c = base;
	memcpy(c.buf.name, long_name, HEARTH_DEV_NAME - 1);
	check_rc(dev_call(d, HEARTH_DEV_IOC_CREATE, &c), 0,
		 "CREATE: the longest name");
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, c.buf.name, 0), 0,
		 "DESTROY: the longest name");
	check_rc(dev_used(d, 0), HPAGE, "no refusal has left a charge");
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "taken", 0);
	buf_drop(&b);
	buf_drop(&taken);
}

static void reject_others(void)
{
	const struct reject get[] = {
		{ "a name that is not", FIELD(buf, name), 0, "none", -ENOENT },
		{ "a flag", FIELD(buf, flags), 2, NULL, -EINVAL },
		{ "another id", FIELD(buf, id), 1, NULL, -ESTALE },
	};
	const struct reject export[] = {
		{ "the flag of ATTACH", FIELD(buf, flags), HEARTH_DEV_RDONLY,
		  NULL, -EINVAL },
	};
	const struct reject id[] = {
		{ "a name that is not", FIELD(buf, name), 0, "none", -ENOENT },
		{ "another id", FIELD(buf, id), 1, NULL, -ESTALE },
		{ "the flag of ATTACH", FIELD(buf, flags), HEARTH_DEV_RDONLY,
		  NULL, -EINVAL },
	};
	const struct reject limit[] = {
		{ "a flag", FIELD(limit, flags), 2, NULL, -EINVAL },
		{ "nobody", FIELD(limit, uid), -1u, NULL, -EINVAL },
	};
	const struct reject list[] = {
		{ "after the last", FIELD(buf, id), -1ull, NULL, -ENOENT },
		{ "a flag", FIELD(buf, flags), 1, NULL, -EINVAL },
	};
	union call base = { .buf = { .name = "good" } }, c;
	struct buf b;

	buf_make(&b, 1);
	check_rc(dev_create(d, "good", &b, 0, NULL), 0, "CREATE");
	c = base;
	check_rc(dev_call(d, HEARTH_DEV_IOC_ATTACH, &c), 0, "ATTACH");
	check((fcntl(c.buf.fd, F_GETFL) & O_ACCMODE) == O_RDWR &&
		      c.buf.bytes == HPAGE && c.buf.seals == SEALED,
	      "ATTACH: what is not sealed is given writable");
	close(c.buf.fd);
	REJECT("ATTACH", HEARTH_DEV_IOC_ATTACH, &base, get);
	reject_names("ATTACH", HEARTH_DEV_IOC_ATTACH, &base);
	c = base;
	check_rc(dev_call(d, HEARTH_DEV_IOC_EXPORT, &c), 0, "EXPORT");
	check(lseek(c.buf.fd, 0, SEEK_END) == HPAGE, "EXPORT: its size");
	check(mmap(NULL, HPAGE, PROT_READ, MAP_SHARED, c.buf.fd, 0) ==
		      MAP_FAILED,
	      "EXPORT: not to be mapped");
	close(c.buf.fd);
	REJECT("EXPORT", HEARTH_DEV_IOC_EXPORT, &base, get);
	REJECT("EXPORT", HEARTH_DEV_IOC_EXPORT, &base, export);
	reject_names("EXPORT", HEARTH_DEV_IOC_EXPORT, &base);
	memset(&base, 0, sizeof(base));
	strcpy(base.buf.name, "good");
	REJECT("TOUCH", HEARTH_DEV_IOC_TOUCH, &base, id);
	reject_names("TOUCH", HEARTH_DEV_IOC_TOUCH, &base);
	check_rc(dev_call(d, HEARTH_DEV_IOC_TOUCH, &base), 0, "TOUCH");
	REJECT("DESTROY", HEARTH_DEV_IOC_DESTROY, &base, id);
	reject_names("DESTROY", HEARTH_DEV_IOC_DESTROY, &base);
	check_rc(dev_call(d, HEARTH_DEV_IOC_DESTROY, &base), 0, "DESTROY");
	check_rc(dev_call(d, HEARTH_DEV_IOC_DESTROY, &base), -ENOENT,
		 "DESTROY: only once");
	memset(&base, 0, sizeof(base));
	REJECT("LIMIT", HEARTH_DEV_IOC_LIMIT, &base, limit);
	REJECT("LIST", HEARTH_DEV_IOC_LIST, &base, list);
	buf_drop(&b);
}

/* ---- versions of structs ---- */

struct version {
	const char *what;
	unsigned long cmd;
	size_t bytes;
};

static const struct version versions[] = {
	{ "INFO", HEARTH_DEV_IOC_INFO, sizeof(struct hearth_dev_info) },
	{ "CREATE", HEARTH_DEV_IOC_CREATE, sizeof(struct hearth_dev_buf) },
	{ "ATTACH", HEARTH_DEV_IOC_ATTACH, sizeof(struct hearth_dev_buf) },
	{ "EXPORT", HEARTH_DEV_IOC_EXPORT, sizeof(struct hearth_dev_buf) },
	{ "DESTROY", HEARTH_DEV_IOC_DESTROY, sizeof(struct hearth_dev_buf) },
	{ "LIST", HEARTH_DEV_IOC_LIST, sizeof(struct hearth_dev_buf) },
	{ "TOUCH", HEARTH_DEV_IOC_TOUCH, sizeof(struct hearth_dev_buf) },
	{ "LIMIT", HEARTH_DEV_IOC_LIMIT, sizeof(struct hearth_dev_limit) },
};
#define N_VERSIONS (sizeof(versions) / sizeof(versions[0]))
_Static_assert(sizeof(struct hearth_dev_info) == 64 &&
		       sizeof(struct hearth_dev_buf) == 144 &&
		       sizeof(struct hearth_dev_limit) == 24,
	       "what programs were built with");

/* A call of @v with @bytes, where "good" is there unless it is to be made. */
static int call_sized(const struct version *v, union call *c, struct buf *b,
		      size_t bytes)
{
	int rc;

	if (v->cmd == HEARTH_DEV_IOC_CREATE)
		c->buf.fd = b->fd;
	else
		dev_create(d, "good", b, 0, NULL);
	if (v->bytes == sizeof(c->buf))
		strcpy(c->buf.name, "good");
	rc = dev_call(d, sized(v->cmd, bytes), c);
	if (!rc && (v->cmd == HEARTH_DEV_IOC_ATTACH ||
		    v->cmd == HEARTH_DEV_IOC_EXPORT))
		close(c->buf.fd);
	dev_name(d, HEARTH_DEV_IOC_DESTROY, "good", 0);
	return rc;
}

static void test_versions(void)
{
	const struct version *v;
	char what[96];
	struct buf b;
	union call c;

	buf_make(&b, 1);
	for (v = versions; v < versions + N_VERSIONS; v++) {
		memset(&c, 0, sizeof(c));
		snprintf(what, sizeof(what), "%s: too short", v->what);
		check_rc(call_sized(v, &c, &b, v->bytes - 1), -EINVAL, what);
		memset(&c, 0, sizeof(c));
		snprintf(what, sizeof(what), "%s: a later struct", v->what);
		check_rc(call_sized(v, &c, &b, v->bytes + 64), 0, what);
		if (v->cmd != HEARTH_DEV_IOC_INFO) {
			memset(&c, 0, sizeof(c));
			c.raw[v->bytes + 63] = 1;
			snprintf(what, sizeof(what), "%s: a later struct, used",
				 v->what);
			check_rc(call_sized(v, &c, &b, v->bytes + 64), -E2BIG,
				 what);
		}
		snprintf(what, sizeof(what), "%s: another direction", v->what);
		check_rc(dev_call(d, v->cmd ^ (3ul << _IOC_DIRSHIFT), &c),
			 -ENOTTY, what);
		snprintf(what, sizeof(what), "%s: a bad pointer", v->what);
		check_rc(dev_call(d, v->cmd, (void *)8), -EFAULT, what);
	}
	check_rc(dev_call(d, _IOWR(HEARTH_DEV_IOC, N_VERSIONS, char[64]), &c),
		 -ENOTTY, "an unknown call");
	check_rc(dev_call(d, HEARTH_DEV_IOC_INFO ^ (1 << _IOC_TYPESHIFT), &c),
		 -ENOTTY, "another device's call");
	buf_drop(&b);
}

/* ---- privilege ---- */

static void set_caps(uint64_t caps)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct c[2] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
		{ .effective = (uint32_t)(caps >> 32),
		  .permitted = (uint32_t)(caps >> 32) },
	};

	if (syscall(SYS_capset, &h, c))
		DIE("capset: %s", strerror(errno));
}

static void all_refused(const char *who)
{
	char what[96];
	union call c;
	size_t i;

	for (i = 0; i < N_VERSIONS; i++) {
		memset(&c, 0, sizeof(c));
		strcpy(c.buf.name, "good");
		snprintf(what, sizeof(what), "%s: %s", who, versions[i].what);
		check_rc(dev_call(d, versions[i].cmd, &c), -EPERM, what);
	}
}

static void as_nobody(void)
{
	if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
		DIE("setuid: %s", strerror(errno));
	all_refused("another user");
	check(open(HEARTH_DEV_PATH, O_RDWR) < 0 && errno == EACCES,
	      "another user cannot open the device");
}

static void without_caps(void)
{
	set_caps(~0ull & 0x1ffffffffffull & ~(1ull << CAP_IPC_LOCK) &
		 ~(1ull << CAP_SYS_ADMIN));
	all_refused("root without capabilities");
}

static void in_namespace(void)
{
	if (unshare(CLONE_NEWUSER)) {
		check(errno == ENOSYS || errno == EINVAL || errno == EPERM,
		      "there are no user namespaces");
		return;
	}
	all_refused("root of a user namespace");
}

static void one_cap(int cap, const char *what)
{
	struct hearth_dev_info i;

	set_caps(1ull << cap);
	check_rc(dev_call(d, HEARTH_DEV_IOC_INFO, &i), 0, what);
}

static void only_lock(void)
{
	one_cap(CAP_IPC_LOCK, "CAP_IPC_LOCK alone will do");
}

static void only_admin(void)
{
	one_cap(CAP_SYS_ADMIN, "CAP_SYS_ADMIN alone will do");
}

static void test_privilege(void)
{
	struct stat st;

	check(!stat(HEARTH_DEV_PATH, &st) && !st.st_uid &&
		      (st.st_mode & 07777) == 0600,
	      "the device is root's, 0600");
	in_child(as_nobody, "nobody");
	in_child(without_caps, "no capabilities");
	in_child(in_namespace, "user namespace");
	in_child(only_lock, "CAP_IPC_LOCK");
	in_child(only_admin, "CAP_SYS_ADMIN");
}

int main(void)
{
	long pages = meminfo("HugePages_Free");
	static const uint32_t root;

	count_init();
	d = dev_open();
	reject_create();
	reject_others();
	test_versions();
	test_privilege();
	dev_expect_empty(d, &root, 1, pages, "all those calls");
	return count_end();
}
