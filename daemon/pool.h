/* SPDX-License-Identifier: MIT */
/*
 * pool.h - memory for weights that outlives processes, by name.
 *
 * The monitor's. An object is [weights][model image][struct pool_meta], a
 * whole number of pages; its name is made of its content's digest and the
 * layout it is in. Where the memory lives is the provider's matter: the kernel
 * module, files in a hugetlbfs or tmpfs mount that root owns, or memory that
 * goes when the daemon goes. One loader process fills an object and has ended
 * before it is published; from then on nobody can write it, and everybody
 * gets it read-only. What was not published is dropped at the next start.
 */
#ifndef HEARTH_POOL_H
#define HEARTH_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../libclient/wire.h"
#include "conf.h"

#define POOL_NAME   96 /* see pool_name() */
#define POOL_LAYOUT 24 /* name of a layout, with its NUL: "cpu-panel16-1" */
#define POOL_PAGE   4096
#define POOL_MAGIC  0x6c6f6f7068747268ull
#define POOL_ABI    1

/* What makes two files the same file with the same content. */
struct pool_file {
	uint64_t dev;
	uint64_t ino;
	uint64_t size;
	int64_t mtime_s;
	int64_t ctime_s;
	uint32_t mtime_ns;
	uint32_t ctime_ns;
	uint32_t mode;
	uint32_t resv;
};

/**
 * struct pool_meta - the last page of an object
 * @object_bytes: of the whole object
 * @weight_bytes: weights begin at 0
 * @image_off, @image_bytes: the model image
 * @digest: of the files' content: SHA-256 over the fs-verity digests of the
 *          parts, or the only part's itself (see hash.h)
 * @image_digest: SHA-256 of the image
 * @uid:    who loaded it first
 * @n_files, @file: where it came from, to find it without reading
 * @check:  SHA-256 of this struct with @check zero
 */
struct pool_meta {
	uint64_t magic;
	uint32_t abi;
	uint32_t uid;
	uint64_t object_bytes;
	uint64_t weight_bytes;
	uint64_t image_off;
	uint64_t image_bytes;
	uint64_t t_load_ns;
	uint8_t digest[32];
	uint8_t image_digest[32];
	char layout[POOL_LAYOUT];
	char name[WIRE_NAME];
	uint32_t n_files;
	uint32_t resv;
	struct pool_file file[WIRE_MAX_FDS];
	uint8_t check[32];
};

_Static_assert(sizeof(struct pool_meta) <= POOL_PAGE, "meta page");

struct pool;

/**
 * struct pool_entry - one object of the list
 * @idle_ns: since it was last attached or touched
 * @open:    somebody has it open, as far as the provider knows
 */
struct pool_entry {
	char name[POOL_NAME];
	uint64_t bytes;
	uint64_t idle_ns;
	bool open;
};

/**
 * struct pool_ops - a provider
 * @open:    -ENODEV with a sentence when the machine does not have it; drops
 *           what was left unpublished
 * @create:  new unnamed memory of zeros: *fd is writable, the caller's. Huge
 *           pages are reserved, others only counted: who fills it faults them
 *           in (which takes long, so the monitor does not). @bytes are rounded
 *           up to *bytes. -ENOMEM, -EDQUOT, -ENOSPC with a sentence that has
 *           both numbers
 * @publish: give it its name and make it unwritable for ever. All pages are
 *           present and nobody has it mapped writable any more. -EEXIST: that
 *           name is there already. The caller closes @fd in any case
 * @attach:  a read-only fd; -ENOENT
 * @list:    call @fn for each published object
 * @destroy: forget the name; memory goes with its last user. -ENOENT
 * @touch:   it was used just now; may be NULL
 * @free:    bytes a new object may have at most
 */
struct pool_ops {
	const char *name; /* "module", "hugetlbfs", "tmpfs", "private" */
	int (*open)(struct pool *p, char why[160]);
	void (*close)(struct pool *p);
	int (*create)(struct pool *p, uint64_t *bytes, uint32_t uid, int *fd,
		      char why[160]);
	int (*publish)(struct pool *p, int fd, const char *name, uint32_t uid,
		       char why[160]);
	int (*attach)(struct pool *p, const char *name, int *fd);
	int (*list)(struct pool *p,
		    void (*fn)(void *arg, const struct pool_entry *e),
		    void *arg);
	int (*destroy)(struct pool *p, const char *name);
	void (*touch)(struct pool *p, const char *name);
	uint64_t (*free)(struct pool *p);
};

extern const struct pool_ops pool_kmod, pool_hugetlbfs, pool_tmpfs,
	pool_private;

/**
 * struct pool - the pool
 * @conf:  borrowed: pool, pool-dir, pool-bytes
 * @text:  one line for people: provider, page size, where; why not a better one
 * @page:  bytes of its pages
 * @drop:  closes the last fd of a large object, which takes a while; set after
 *         pool_open() by who has a thread to do it in, else it is close(2)
 */
struct pool {
	const struct pool_ops *ops;
	const struct conf *conf;
	char text[384];
	uint64_t page;
	void (*drop)(void *arg, int fd);
	void *drop_arg;
	void *priv;
};

/**
 * pool_open() - the best provider there is, or the one that conf names
 * Return: 0; -errno with a sentence when conf names one that cannot be had.
 */
int pool_open(struct pool *p, const struct conf *conf, char why[160]);
void pool_close(struct pool *p);

/**
 * pool_name() - what an object is called, by its content
 *
 * "HEX.LAYOUT", where HEX is of SHA-256 over digest and image_digest: who
 * shows one header to the parser and another to the loader gets an object of
 * his own, and nobody else is given it for the genuine one.
 */
void pool_name(char out[POOL_NAME], const struct pool_meta *meta);

/* SHA-256 of an image, for pool_name(). */
int pool_image_digest(int image_fd, uint8_t digest[32]);

/* Is it a name of pool_name()'s making? */
bool pool_name_valid(const char *name);

/* Bytes of an object: weights, image and meta. 0: more than there can be. */
uint64_t pool_need(uint64_t weight_bytes, uint64_t image_bytes);

/**
 * pool_finish() - write image and meta to the end of an object
 * @meta: the caller fills uid, weight_bytes, t_load_ns, the digests, layout,
 *        name and files; the rest is filled here
 *
 * Return: 0; -EBADMSG: its weights were not written in full; -ENOSPC.
 */
int pool_finish(int fd, struct pool_meta *meta, int image_fd, char why[160]);

/**
 * pool_meta_read() - read and check an object's last page
 * Return: 0; -EBADMSG: it is none of ours, or torn.
 */
int pool_meta_read(int fd, struct pool_meta *meta);

/* A sealed memfd with the object's model image, as the parser made it. */
int pool_image(int fd, const struct pool_meta *meta, int *image_fd);

#endif
