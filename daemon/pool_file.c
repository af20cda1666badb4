/* SPDX-License-Identifier: MIT */
/*
 * pool_file.c - weights in files of a hugetlbfs or a tmpfs, which stay when
 * the daemon goes.
 *
 * The directory is its user's alone (0700) and locked. An object has no name
 * while it is loaded (O_TMPFILE), so nothing of a torn load is left behind;
 * its name comes by linkat(2), after mode 0400. Descriptors given away are
 * read-only, and without the directory nobody finds another way to a file.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "pool_priv.h"

#define SHM	   "/dev/shm/hearth"
#define HUGE_NAME  "hearth-pool"
#define PATH_BYTES 256

struct files {
	int dir;
	bool huge;
	char path[PATH_BYTES];
};

/* ---------------------------------------------------------------- opening */

/* A mount point as /proc/mounts writes it: "\040" is a space. */
static void unescape(char *s)
{
	char *out = s;
	unsigned int c;

	while (*s) {
		if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
			*out++ = (char)c;
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

static int find_mount(char path[PATH_BYTES])
{
	char line[1024];
	char where[200];
	char type[32];
	int err = -ENODEV;
	FILE *f = fopen("/proc/self/mounts", "re");

	if (!f)
		return -errno;
	while (err && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %199s %31s", where, type) != 2 ||
		    strcmp(type, "hugetlbfs"))
			continue;
		unescape(where);
		snprintf(path, PATH_BYTES, "%s/%s", where, HUGE_NAME);
		err = 0;
	}
	fclose(f);
	return err;
}

/* Ours and nobody else's, or not used at all. */
static int open_dir(struct files *f, const char *kind, char why[160])
{
	struct stat st;

	if (mkdir(f->path, 0700) && errno != EEXIST)
		return say_why(why, -errno, "%s: %.80s: %s", kind, f->path,
			       strerrordesc_np(errno));
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (f->dir < 0 || fstat(f->dir, &st))
		return say_why(why, -errno, "%s: %.80s: %s", kind, f->path,
			       strerrordesc_np(errno));
	if (st.st_uid != geteuid() || (st.st_mode & 077))
		return say_why(why, -EPERM,
			       "%s: %.60s is not a directory of ours alone "
			       "(uid %u, mode %04o)",
			       kind, f->path, st.st_uid, st.st_mode & 07777);
	return 0;
}

static int check_fs(struct pool *p, struct files *f, const char *kind,
		    char why[160])
{
	struct statfs fs;

	if (fstatfs(f->dir, &fs))
		return say_why(why, -errno, "%s: %.80s: %s", kind, f->path,
			       strerrordesc_np(errno));
	if ((unsigned long)fs.f_type !=
	    (f->huge ? HUGETLBFS_MAGIC : TMPFS_MAGIC))
		return say_why(why, -ENODEV, "%s: %.80s is not on a %s", kind,
			       f->path, kind);
	p->page = f->huge ? (uint64_t)fs.f_bsize : POOL_PAGE;
	return 0;
}

static bool any_object(struct files *f)
{
	bool found = false;
	struct dirent *e;
	DIR *d;
	int fd = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return false;
	while (!found && (e = readdir(d)))
		found = pool_name_valid(e->d_name);
	closedir(d);
	return found;
}

static void file_close(struct pool *p)
{
	struct files *f = p->priv;

	if (f->dir >= 0)
		close(f->dir);
	free(f);
	p->priv = NULL;
}

static int file_open(struct pool *p, bool huge, char why[160])
{
	const char *kind = huge ? "hugetlbfs" : "tmpfs";
	struct files *f = calloc(1, sizeof(*f));
	int err = 0;

	if (!f)
		return say_why(why, -ENOMEM, "%s: no memory", kind);
	f->dir = -1;
	f->huge = huge;
	p->priv = f;
	if (*p->conf->pool_dir)
		snprintf(f->path, sizeof(f->path), "%s", p->conf->pool_dir);
	else if (!huge)
		snprintf(f->path, sizeof(f->path), "%s", SHM);
	else if ((err = find_mount(f->path)))
		say_why(why, err, "hugetlbfs: none is mounted");
	if (!err)
		err = open_dir(f, kind, why);
	if (!err)
		err = check_fs(p, f, kind, why);
	if (!err && huge)
		err = pool_huge_use(p, any_object(f), kind, why);
	if (!err)
		err = pool_lock(f->dir, f->path, why);
	if (err) {
		file_close(p);
		return err;
	}
	snprintf(p->text, sizeof(p->text), "%s in %.150s, %llu KiB pages", kind,
		 f->path, (unsigned long long)(p->page >> 10));
	return 0;
}

static int huge_open(struct pool *p, char why[160])
{
	return file_open(p, true, why);
}

static int tmpfs_open(struct pool *p, char why[160])
{
	return file_open(p, false, why);
}

/* ---------------------------------------------------------------- objects */

static uint64_t file_free(struct pool *p)
{
	struct files *f = p->priv;
	struct pool_huge h;
	struct statfs fs;
	uint64_t n = 0;

	if (!f->huge)
		n = pool_mem_free();
	else if (!pool_huge_read(&h, p->page))
		n = h.free * h.page;
	/* Without a limit of its own a mount says 0 blocks. */
	if (!fstatfs(f->dir, &fs) && fs.f_blocks &&
	    (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < n)
		n = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	return n;
}

static int file_create(struct pool *p, uint64_t *bytes, uint32_t uid, int *fd,
		       char why[160])
{
	struct files *f = p->priv;
	uint64_t have = file_free(p);
	int err = 0;

	(void)uid;
	*bytes = (*bytes + p->page - 1) / p->page * p->page;
	if (*bytes > have)
		return pool_short(why,
				  f->huge ? "huge pages (nr_hugepages)"
				  : have < pool_mem_free() ? f->path
							   : "memory",
				  *bytes, have);
	*fd = openat(f->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*fd < 0)
		return say_why(why, -errno, "pool: %.80s: %s", f->path,
			       strerrordesc_np(errno));
	if (ftruncate(*fd, (off_t)*bytes))
		err = -errno;
	if (!err && f->huge)
		err = pool_reserve(*fd, *bytes);
	if (!err)
		return 0;
	close(*fd);
	return say_why(why, err, "pool: %llu MiB in %.80s: %s",
		       (unsigned long long)(*bytes >> 20), f->path,
		       strerrordesc_np(-err));
}

static int file_publish(struct pool *p, int fd, const char *name, uint32_t uid,
			char why[160])
{
	struct files *f = p->priv;
	char path[32];

	(void)uid;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!fchmod(fd, 0400) &&
	    !linkat(AT_FDCWD, path, f->dir, name, AT_SYMLINK_FOLLOW))
		return 0;
	return say_why(why, -errno, "pool: %.60s: %s", f->path,
		       strerrordesc_np(errno));
}

/* O_NONBLOCK: nobody may be at the other end of a FIFO. */
static int open_object(struct files *f, const char *name)
{
	return openat(f->dir, name,
		      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static int file_attach(struct pool *p, const char *name, int *fd)
{
	struct files *f = p->priv;

	if (!pool_name_valid(name))
		return -ENOENT;
	*fd = open_object(f, name);
	return *fd < 0 ? -errno : 0;
}

static uint64_t idle_ns(const struct stat *st)
{
	struct timespec now;
	int64_t s;

	clock_gettime(CLOCK_REALTIME, &now);
	s = now.tv_sec - st->st_mtim.tv_sec;
	s = s * 1000000000 + now.tv_nsec - st->st_mtim.tv_nsec;
	return s > 0 ? (uint64_t)s : 0;
}

static int file_list(struct pool *p,
		     void (*fn)(void *arg, const struct pool_entry *e),
		     void *arg)
{
	struct files *f = p->priv;
	struct pool_entry pe = { 0 };
	struct dirent *e;
	struct stat st;
	DIR *d;
	int fd = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	while ((e = readdir(d))) {
		/* What is no file was never one of ours. */
		if (!pool_name_valid(e->d_name) ||
		    fstatat(f->dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(st.st_mode))
			continue;
		snprintf(pe.name, sizeof(pe.name), "%.95s", e->d_name);
		pe.bytes = (uint64_t)st.st_size;
		pe.idle_ns = idle_ns(&st);
		fn(arg, &pe);
	}
	closedir(d);
	return 0;
}

static int file_destroy(struct pool *p, const char *name)
{
	struct files *f = p->priv;
	int fd = -1;
	int err;

	if (!pool_name_valid(name))
		return -ENOENT;
	/* Held open so that pages are freed where the last close is. */
	if (p->drop)
		fd = open_object(f, name);
	err = unlinkat(f->dir, name, 0) ? -errno : 0;
	if (fd >= 0)
		p->drop(p->drop_arg, fd);
	return err;
}

static void file_touch(struct pool *p, const char *name)
{
	struct files *f = p->priv;

	if (pool_name_valid(name))
		utimensat(f->dir, name, NULL, AT_SYMLINK_NOFOLLOW);
}

const struct pool_ops pool_hugetlbfs = {
	.name = "hugetlbfs",
	.open = huge_open,
	.close = file_close,
	.create = file_create,
	.publish = file_publish,
	.attach = file_attach,
	.list = file_list,
	.destroy = file_destroy,
	.touch = file_touch,
	.free = file_free,
};

const struct pool_ops pool_tmpfs = {
	.name = "tmpfs",
	.open = tmpfs_open,
	.close = file_close,
	.create = file_create,
	.publish = file_publish,
	.attach = file_attach,
	.list = file_list,
	.destroy = file_destroy,
	.touch = file_touch,
	.free = file_free,
};
