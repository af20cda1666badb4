/* SPDX-License-Identifier: MIT */
/*
 * pool.c - which provider there is, and the objects' ends: image and meta.
 *
 * Objects are read with pread(2), which no hole and no truncation can turn
 * into a signal; only the tail is ever mapped here, after its pages exist.
 */
#include "pool.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libclient/image.h"
#include "hash.h"
#include "log.h"
#include "pool_priv.h"

#define MAX_WEIGHTS (1ull << 46)
#define IMAGE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
#define CHUNK	    (1u << 20)

/* In the order that auto tries them; see pool_names in conf.c. */
static const struct pool_ops *const providers[] = { &pool_kmod, &pool_hugetlbfs,
						    &pool_tmpfs,
						    &pool_private };

#define N_PROVIDERS (sizeof(providers) / sizeof(providers[0]))

/* --------------------------------------------------------------- choosing */

static int try(struct pool *p, const struct pool_ops *ops, char why[160])
{
	int err;

	why[0] = 0;
	p->text[0] = 0;
	p->priv = NULL;
	p->ops = ops;
	err = ops->open(p, why);
	if (err)
		p->ops = NULL;
	return err;
}

/* Why a better one was not taken, behind the text of the one that was. */
static void add_why(struct pool *p, const char *whys)
{
	size_t n = strlen(p->text);

	if (*whys)
		snprintf(p->text + n, sizeof(p->text) - n, " (%s)", whys);
}

struct left {
	struct pool pool;
	uint64_t bytes;
};

static void drop_one(void *arg, const struct pool_entry *e)
{
	struct left *l = arg;

	if (!l->pool.ops->destroy(&l->pool, e->name))
		l->bytes += e->bytes;
}

/*
 * What lies in the ones after @i, from when there was nothing better, nobody
 * would find any more, nor would its memory ever be free again.
 */
static void drop_left(const struct conf *conf, size_t i)
{
	struct left l;
	char why[160];

	while (++i < N_PROVIDERS) {
		l = (struct left){ .pool.conf = conf, .pool.page = POOL_PAGE };
		if (providers[i] == &pool_private ||
		    try(&l.pool, providers[i], why))
			continue;
		l.pool.ops->list(&l.pool, drop_one, &l);
		if (l.bytes)
			log_info("pool: dropped %llu MiB that were left in %s",
				 (unsigned long long)(l.bytes >> 20),
				 l.pool.text);
		pool_close(&l.pool);
	}
}

static int choose(struct pool *p, char why[160])
{
	char whys[256] = "";
	size_t n;
	size_t i = 0;
	int err = -ENODEV;

	if (geteuid()) {
		i = N_PROVIDERS - 1;
		snprintf(whys, sizeof(whys), "not root");
	} else if (p->conf->exit_idle_s) {
		/* It leaves by itself, and so do its weights. */
		i = N_PROVIDERS - 1;
		snprintf(whys, sizeof(whys), "exit-idle-s is set");
	}
	for (; i < N_PROVIDERS; i++) {
		err = try(p, providers[i], why);
		if (!err)
			break;
		n = strlen(whys);
		snprintf(whys + n, sizeof(whys) - n, "%s%.90s", n ? "; " : "",
			 why);
	}
	if (!err) {
		add_why(p, whys);
		drop_left(p->conf, i);
	}
	return err;
}

int pool_open(struct pool *p, const struct conf *conf, char why[160])
{
	size_t i;

	memset(p, 0, sizeof(*p));
	p->conf = conf;
	p->page = POOL_PAGE;
	if (!strcmp(conf->pool, "auto"))
		return choose(p, why);
	for (i = 0; i < N_PROVIDERS; i++)
		if (!strcmp(conf->pool, providers[i]->name))
			return try(p, providers[i], why);
	return say_why(why, -EINVAL, "pool: no such provider (%s)", conf->pool);
}

void pool_close(struct pool *p)
{
	if (p->ops)
		p->ops->close(p);
	p->ops = NULL;
}

/* ------------------------------------------------------------------ names */

void pool_name(char out[POOL_NAME], const struct pool_meta *meta)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t both[2 * HASH_BYTES];
	uint8_t id[HASH_BYTES];
	size_t i;

	memcpy(both, meta->digest, HASH_BYTES);
	memcpy(both + HASH_BYTES, meta->image_digest, HASH_BYTES);
	hash_sha256(id, both, sizeof(both));
	for (i = 0; i < HASH_BYTES; i++) {
		out[2 * i] = hex[id[i] >> 4];
		out[2 * i + 1] = hex[id[i] & 15];
	}
	snprintf(out + 64, POOL_NAME - 64, ".%.*s", POOL_LAYOUT - 1,
		 meta->layout);
}

int pool_image_digest(int image_fd, uint8_t digest[32])
{
	struct stat st;
	void *v;

	if (fstat(image_fd, &st))
		return -errno;
	v = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, image_fd, 0);
	if (v == MAP_FAILED)
		return -errno;
	hash_sha256(digest, v, (size_t)st.st_size);
	munmap(v, (size_t)st.st_size);
	return 0;
}

static bool layout_valid(const char layout[POOL_LAYOUT])
{
	size_t i;

	for (i = 0; i < POOL_LAYOUT && layout[i]; i++)
		if (!isalnum((unsigned char)layout[i]) && layout[i] != '-' &&
		    layout[i] != '_')
			return false;
	return i && i < POOL_LAYOUT;
}

bool pool_name_valid(const char *name)
{
	char layout[POOL_LAYOUT] = "";
	size_t i;

	for (i = 0; i < 64; i++)
		if (!name[i] || !strchr("0123456789abcdef", name[i]))
			return false;
	if (name[64] != '.' || strlen(name) >= 65 + POOL_LAYOUT)
		return false;
	memcpy(layout, name + 65, strlen(name) - 65);
	return layout_valid(layout);
}

/* ---------------------------------------------------------- ends of objects */

static uint64_t page_up(uint64_t n)
{
	return (n + POOL_PAGE - 1) / POOL_PAGE * POOL_PAGE;
}

uint64_t pool_need(uint64_t weight_bytes, uint64_t image_bytes)
{
	if (weight_bytes > MAX_WEIGHTS || image_bytes > IMAGE_MAX_BYTES)
		return 0;
	return page_up(weight_bytes) + page_up(image_bytes) + POOL_PAGE;
}

static void meta_check(const struct pool_meta *meta, uint8_t check[32])
{
	struct pool_meta m = *meta;

	memset(m.check, 0, sizeof(m.check));
	hash_sha256(check, &m, sizeof(m));
}

static int read_all(int fd, void *buf, uint64_t n, uint64_t off)
{
	ssize_t r;

	while (n) {
		r = pread(fd, buf, n < CHUNK ? n : CHUNK, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EBADMSG;
		buf = (char *)buf + r;
		n -= (uint64_t)r;
		off += (uint64_t)r;
	}
	return 0;
}

/* All pages of the tail exist now, or this fails: then none can be missing
 * when it is written. What lies before it was the loader's to fill. */
static int fill_tail(int fd, const struct stat *st, uint64_t from,
		     char why[160])
{
	struct stat now;
	uint64_t page = (uint64_t)st->st_blksize;

	from = from / page * page;
	while (fallocate(fd, 0, (off_t)from, st->st_size - (off_t)from))
		if (errno != EINTR)
			return say_why(why, -errno,
				       "pool: no memory for the model "
				       "image: %s",
				       strerrordesc_np(errno));
	if (fstat(fd, &now))
		return -errno;
	if (now.st_blocks < now.st_size / 512)
		return say_why(why, -EBADMSG,
			       "pool: the loader left holes (%lld of %lld "
			       "bytes)",
			       (long long)now.st_blocks * 512,
			       (long long)now.st_size);
	return 0;
}

int pool_finish(int fd, struct pool_meta *meta, int image_fd, char why[160])
{
	struct stat im;
	struct stat st;
	uint64_t page;
	uint64_t from;
	char *v;
	int err;

	if (fstat(fd, &st) || fstat(image_fd, &im))
		return say_why(why, -errno, "pool: fstat: %s",
			       strerrordesc_np(errno));
	page = (uint64_t)st.st_blksize;
	meta->magic = POOL_MAGIC;
	meta->abi = POOL_ABI;
	meta->resv = 0;
	meta->object_bytes = (uint64_t)st.st_size;
	meta->image_off = page_up(meta->weight_bytes);
	meta->image_bytes = (uint64_t)im.st_size;
	if (!pool_need(meta->weight_bytes, meta->image_bytes) ||
	    pool_need(meta->weight_bytes, meta->image_bytes) >
		    meta->object_bytes)
		return say_why(why, -EBADMSG,
			       "pool: %llu bytes are too few for the model",
			       (unsigned long long)meta->object_bytes);
	meta_check(meta, meta->check);
	err = fill_tail(fd, &st, meta->image_off, why);
	if (err)
		return err;
	from = meta->image_off / page * page;
	v = mmap(NULL, meta->object_bytes - from, PROT_READ | PROT_WRITE,
		 MAP_SHARED, fd, (off_t)from);
	if (v == MAP_FAILED)
		return say_why(why, -errno, "pool: mmap: %s",
			       strerrordesc_np(errno));
	err = read_all(image_fd, v + (meta->image_off - from),
		       meta->image_bytes, 0);
	if (err)
		say_why(why, err, "pool: the model image cannot be read");
	else
		memcpy(v + (meta->object_bytes - POOL_PAGE - from), meta,
		       sizeof(*meta));
	munmap(v, meta->object_bytes - from);
	return err;
}

static bool meta_valid(const struct pool_meta *m, uint64_t bytes)
{
	uint8_t check[32];

	if (m->magic != POOL_MAGIC || m->abi != POOL_ABI)
		return false;
	meta_check(m, check);
	if (memcmp(check, m->check, sizeof(check)))
		return false;
	return m->object_bytes == bytes && m->n_files &&
	       m->n_files <= WIRE_MAX_FDS && m->image_bytes &&
	       pool_need(m->weight_bytes, m->image_bytes) &&
	       pool_need(m->weight_bytes, m->image_bytes) <= bytes &&
	       m->image_off == page_up(m->weight_bytes) &&
	       layout_valid(m->layout) && memchr(m->name, 0, sizeof(m->name));
}

int pool_meta_read(int fd, struct pool_meta *meta)
{
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < 2 * POOL_PAGE ||
	    st.st_size % POOL_PAGE || st.st_blocks < st.st_size / 512)
		return -EBADMSG;
	err = read_all(fd, meta, sizeof(*meta),
		       (uint64_t)st.st_size - POOL_PAGE);
	if (err)
		return err;
	return meta_valid(meta, (uint64_t)st.st_size) ? 0 : -EBADMSG;
}

int pool_image(int fd, const struct pool_meta *meta, int *image_fd)
{
	int out = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	off_t n = (off_t)meta->image_bytes;
	void *v;
	int err;

	if (out < 0)
		return -errno;
	/* fallocate(2): all its pages are there, or this fails. */
	if (ftruncate(out, n) || fallocate(out, 0, 0, n)) {
		err = -errno;
		goto fail;
	}
	v = mmap(NULL, meta->image_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		 out, 0);
	if (v == MAP_FAILED) {
		err = -errno;
		goto fail;
	}
	err = read_all(fd, v, meta->image_bytes, meta->image_off);
	munmap(v, meta->image_bytes);
	if (!err && fcntl(out, F_ADD_SEALS, IMAGE_SEALS))
		err = -errno;
	if (err)
		goto fail;
	*image_fd = out;
	return 0;
fail:
	close(out);
	return err;
}
