/* SPDX-License-Identifier: MIT */
/*
 * pull_place.c - from a URL to a model file under its final name.
 *
 * A name in the model directory always means a whole, checked file: transfers
 * go to NAME.part, members of archives to .NAME.tmp, and only rename() makes
 * the name. Beside each model lies NAME.source.json, which says where it came
 * from and its sha256.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pull.h"
#include "sha256.h"
#include "tar.h"
#include "zip.h"

#define SIDECAR	    ".source.json"
#define SPARE_BYTES (1u << 20) /* left free on the disk */

/* A member on its way out of an archive. */
struct outfile {
	const char *dir;
	char name[256];
	char tmp[4096];
	int fd;
	uint64_t size;
	uint64_t done;
	struct sha256 sha;
	struct progress bar;
	int err;
};

/* ----------------------------------------------------------------- sidecars */

static int path_of(char buf[4096], const char *dir, const char *name,
		   const char *end)
{
	int n = snprintf(buf, 4096, "%s/%s%s", dir, name, end);

	if (n < 0 || n >= 4096) {
		tool_err("%s: the path is too long", dir);
		return -ENAMETOOLONG;
	}
	return 0;
}

static bool str_is(const json_t *o, const char *key, const char *want)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *want && !strcasecmp(s, want);
}

/* Is the sidecar's model whole, and is it what @f is about? */
static bool is_placed(const char *dir, const char *sidecar,
		      const struct pull_file *f, char path[4096])
{
	char name[256];
	struct stat st;
	json_t *o;
	bool yes = false;

	snprintf(name, sizeof(name), "%.*s",
		 (int)(strlen(sidecar) - strlen(SIDECAR)), sidecar);
	if (path_of(path, dir, sidecar, ""))
		return false;
	o = json_load_file(path, 0, NULL);
	if (!o || path_of(path, dir, name, "") || stat(path, &st) < 0)
		goto out;
	if (*f->sha256)
		yes = str_is(o, "sha256", f->sha256) ||
		      str_is(o, "archive_sha256", f->sha256);
	else
		yes = str_is(o, "url", f->url);
	if (json_integer_value(json_object_get(o, "size")) !=
	    (json_int_t)st.st_size)
		yes = false;
out:
	json_decref(o);
	return yes;
}

/* Say which models of @f are there already; returns how many. */
static unsigned say_placed(const char *dir, const struct pull_file *f)
{
	size_t n, k = strlen(SIDECAR);
	struct dirent *e;
	char path[4096];
	unsigned found = 0;
	DIR *d = opendir(dir);

	if (!d)
		return 0;
	while ((e = readdir(d))) {
		n = strlen(e->d_name);
		if (n <= k || n > 255 || strcmp(e->d_name + n - k, SIDECAR) ||
		    !is_placed(dir, e->d_name, f, path))
			continue;
		tool_note("%s is already there", path);
		printf("%s\n", path);
		found++;
	}
	closedir(d);
	return found;
}

static int write_sidecar(const struct pull_plan *p, const struct pull_file *f,
			 const char *dir, const char *name, uint64_t size,
			 const char *sha, const char *archive_sha)
{
	char path[4096], tmp[4096], when[32];
	time_t now = time(NULL);
	struct tm tm;
	json_t *o;
	int rc = 0;

	if (path_of(path, dir, name, SIDECAR) ||
	    path_of(tmp, dir, name, SIDECAR ".tmp"))
		return -ENAMETOOLONG;
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	o = json_pack("{s:s, s:s, s:s, s:I, s:s}", "source", p->source, "url",
		      f->url, "sha256", sha, "size", (json_int_t)size,
		      "fetched", when);
	if (*archive_sha) {
		json_object_set_new(o, "archive", json_string(f->name));
		json_object_set_new(o, "archive_sha256",
				    json_string(archive_sha));
	}
	errno = 0;
	if (!o || json_dump_file(o, tmp, JSON_INDENT(2)) < 0 ||
	    rename(tmp, path) < 0) {
		rc = errno ? -errno : -EIO;
		tool_err("%s: %s", path, strerror(-rc));
		unlink(tmp);
	}
	json_decref(o);
	return rc;
}

/* ------------------------------------------------------------------ placing */

/* The name must be free, or ours to replace. */
static int check_free(const char *dir, const char *name, bool force)
{
	char path[4096];
	struct stat st;

	if (path_of(path, dir, name, ""))
		return -ENAMETOOLONG;
	if (lstat(path, &st) < 0 || (force && !S_ISDIR(st.st_mode)))
		return 0;
	tool_err("%s is already there and not from here; --force replaces it",
		 path);
	return -EEXIST;
}

static int give_name(const char *from, const char *dir, const char *name)
{
	char path[4096];
	int rc, fd;

	if (path_of(path, dir, name, ""))
		return -ENAMETOOLONG;
	if (rename(from, path) < 0) {
		rc = -errno;
		tool_err("%s: %s", path, strerror(-rc));
		return rc;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd); /* the name survives a crash, too */
		close(fd);
	}
	printf("%s\n", path);
	return 0;
}

static int out_open(struct outfile *o, const char *dir, const char *name,
		    uint64_t size)
{
	int rc, n;

	memset(o, 0, sizeof(*o));
	o->dir = dir;
	o->size = size;
	snprintf(o->name, sizeof(o->name), "%s", name);
	n = snprintf(o->tmp, sizeof(o->tmp), "%s/.%s.tmp", dir, name);
	if (n < 0 || (size_t)n >= sizeof(o->tmp)) {
		o->fd = -1;
		tool_err("%s: the path is too long", dir);
		return -ENAMETOOLONG;
	}
	o->fd = open(o->tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (o->fd < 0 || flock(o->fd, LOCK_EX | LOCK_NB) < 0 ||
	    ftruncate(o->fd, 0) < 0) {
		rc = -errno;
		tool_err("%s: %s", o->tmp,
			 rc == -EWOULDBLOCK ? "another pull is writing it"
					    : strerror(-rc));
		/* What another one writes is not ours to remove. */
		if (rc == -EWOULDBLOCK)
			o->tmp[0] = 0;
		return rc;
	}
	sha256_init(&o->sha);
	progress_start(&o->bar, o->name, NULL, 0, 500000000u);
	return 0;
}

static int out_write(void *arg, const void *p, size_t n)
{
	struct outfile *o = arg;
	const char *at = p;
	ssize_t k;

	sha256_add(&o->sha, p, n);
	while (n) {
		k = write(o->fd, at, n);
		if (k < 0) {
			o->err = -errno;
			return o->err;
		}
		at += k;
		n -= (size_t)k;
		o->done += (uint64_t)k;
	}
	progress_update(&o->bar, o->done, o->size);
	return tool_interrupted ? -EINTR : 0;
}

static void out_close(struct outfile *o)
{
	progress_end(&o->bar, o->done, false);
	sha256_free(&o->sha);
	if (o->fd >= 0) {
		if (*o->tmp)
			unlink(o->tmp);
		close(o->fd);
	}
}

static int out_finish(struct outfile *o, const struct pull_plan *p,
		      const struct pull_file *f, const char *archive_sha)
{
	char hex[65];
	int rc = 0;

	if (fsync(o->fd) < 0) {
		rc = -errno;
		tool_err("%s: %s", o->tmp, strerror(-rc));
		return rc;
	}
	sha256_end(&o->sha, hex);
	rc = give_name(o->tmp, o->dir, o->name);
	if (rc)
		return rc;
	o->tmp[0] = 0;
	return write_sidecar(p, f, o->dir, o->name, o->done, hex, archive_sha);
}

/* ----------------------------------------------------------------- archives */

struct unpack {
	struct pull_plan *p;
	struct pull_file *f;
	const char *dir;
	const char *sha;
	bool force;
	unsigned n;
};

/* Write one member; @read brings its bytes to out_write(). */
static int unpack_one(struct unpack *u, const char *member, uint64_t size,
		      int (*bring)(void *from, struct outfile *o), void *from,
		      const char *why)
{
	struct outfile o;
	char name[256];
	int rc;

	if (!pull_clean_name(member, name) || !pull_is_gguf(name))
		return 0;
	rc = check_free(u->dir, name, u->force);
	if (rc == 0)
		rc = fetch_room(u->dir, size + SPARE_BYTES);
	if (rc)
		return rc;
	rc = out_open(&o, u->dir, name, size);
	if (rc == 0) {
		rc = bring(from, &o);
		if (rc && o.err)
			tool_err("%s/%s: write: %s", u->dir, name,
				 strerror(-o.err));
		else if (rc && rc != -EINTR)
			tool_err("%s: %s", u->f->name, why);
	}
	if (rc == 0)
		rc = out_finish(&o, u->p, u->f, u->sha);
	out_close(&o);
	if (rc == 0)
		u->n++;
	return rc;
}

struct zip_member {
	struct zip *z;
	struct zip_entry e;
};

static int bring_zip(void *from, struct outfile *o)
{
	struct zip_member *m = from;

	return zip_extract(m->z, &m->e, out_write, o);
}

static int unpack_zip(struct unpack *u, int fd)
{
	struct zip_member m;
	struct zip z;
	int rc;

	m.z = &z;
	rc = zip_open(&z, fd);
	if (rc) {
		tool_err("%s: %s", u->f->name, z.why);
		return rc;
	}
	while ((rc = zip_next(&z, &m.e)) == 0) {
		rc = unpack_one(u, m.e.name, m.e.size, bring_zip, &m, z.why);
		if (rc)
			goto out;
	}
	if (rc == -ENOENT)
		rc = 0;
	else
		tool_err("%s: %s", u->f->name, z.why);
out:
	zip_close(&z);
	return rc;
}

static int bring_tar(void *from, struct outfile *o)
{
	return tar_extract(from, out_write, o);
}

static int unpack_tar(struct unpack *u, int fd)
{
	struct tar *t;
	int rc;

	rc = tar_open(&t, fd);
	if (rc) {
		tool_err("%s: %s", u->f->name, strerror(-rc));
		return rc;
	}
	while ((rc = tar_next(t)) == 0) {
		rc = unpack_one(u, tar_name(t), tar_size(t), bring_tar, t,
				tar_why(t));
		if (rc)
			goto out;
		if (tool_interrupted) {
			rc = -EINTR;
			goto out;
		}
	}
	if (rc == -ENOENT)
		rc = 0;
	else
		tool_err("%s: %s", u->f->name, tar_why(t));
out:
	tar_close(&t);
	return rc;
}

static int unpack(struct unpack *u, const char *part)
{
	int fd = open(part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc;

	if (fd < 0) {
		rc = -errno;
		tool_err("%s: %s", part, strerror(-rc));
		return rc;
	}
	rc = u->f->kind == PULL_ZIP ? unpack_zip(u, fd) : unpack_tar(u, fd);
	close(fd);
	if (rc == 0 && !u->n) {
		tool_err("%s: there is no .gguf file in it", u->f->name);
		rc = -ENOENT;
	}
	/* Interrupted or no room: the archive is good and saves a transfer. */
	if (rc != -EINTR && rc != -ENOSPC && rc != -EDQUOT && rc != -EFBIG &&
	    rc != -EEXIST)
		unlink(part);
	return rc;
}

int pull_place(struct pull_plan *p, struct pull_file *f, const char *dir,
	       bool force)
{
	struct fetch get = { .url = f->url,
			     .bearer = p->bearer,
			     .size = f->size,
			     .sha256 = f->sha256,
			     .label = f->name,
			     .tries = p->tries };
	struct unpack u = { .p = p, .f = f, .dir = dir, .force = force };
	char part[4096], sha[65];
	struct stat st;
	uint64_t have = 0;
	int rc;

	if (!force && say_placed(dir, f))
		return 0;
	rc = path_of(part, dir, f->name, ".part");
	if (rc == 0 && f->kind == PULL_MODEL)
		rc = check_free(dir, f->name, force);
	if (rc)
		return rc;
	if (stat(part, &st) == 0)
		have = (uint64_t)st.st_size;
	if (f->size > have)
		rc = fetch_room(dir, f->size - have + SPARE_BYTES);
	if (rc == 0)
		rc = fetch_file(&get, part, sha);
	if (rc)
		return rc;
	if (f->kind != PULL_MODEL) {
		u.sha = sha;
		return unpack(&u, part);
	}
	if (stat(part, &st) < 0) {
		rc = -errno;
		tool_err("%s: %s", part, strerror(-rc));
		return rc;
	}
	rc = give_name(part, dir, f->name);
	if (rc == 0)
		rc = write_sidecar(p, f, dir, f->name, (uint64_t)st.st_size,
				   sha, "");
	return rc;
}
