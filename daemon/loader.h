/* SPDX-License-Identifier: MIT */
/*
 * loader.h - from a model's files to an object full of packed weights.
 *
 * A pass over the files on all cores: each part is read, hashed and packed
 * while it is in the cache. What is packed are the very bytes that were
 * hashed, so an object is what its digest says, whatever happens to the file
 * meanwhile. The process around it is `hearthd --loader`, one a load, which
 * answers the monitor and is gone; tests call the same functions.
 */
#ifndef HEARTH_LOADER_H
#define HEARTH_LOADER_H

#include "backend.h"
#include "conf.h"
#include "hash.h"

struct loader;
struct reader;

/**
 * reader_open() - what needs rights: to be called before the sandbox closes
 * @fds: borrowed; opened again for direct reads if that is possible
 */
int reader_open(struct reader **out, const int *fds, unsigned int n_files,
		char why[160]);
void reader_close(struct reader *rd);

/**
 * loader_new() - plan a load
 * @im, @rd: borrowed
 * Return: 0 or -errno with a sentence.
 */
int loader_new(struct loader **out, const struct backend_ops *ops,
	       const struct image *im, struct reader *rd, char why[160]);
void loader_free(struct loader *ld);

/* What the object must hold. */
const struct backend_layout *loader_layout(const struct loader *ld);

/**
 * struct loader_way - how to fill an object
 * @n_threads: the calling one included
 * @pg:        counts bytes of the files; its stop ends the load
 * @tell:      called by the calling thread at most every 50 ms; may be NULL
 */
struct loader_way {
	unsigned int n_threads;
	struct backend_progress *pg;
	void (*tell)(void *arg);
	void *arg;
};

/**
 * struct loader_times - where the time of a load went, summed over threads
 */
struct loader_times {
	uint64_t wait_ns; /* for reads */
	uint64_t hash_ns;
	uint64_t pack_ns;
	uint64_t page_ns; /* getting the object's pages */
	const char *how;  /* "io_uring, direct" */
};

/**
 * loader_fill() - read, hash and pack everything; once
 * @object: borrowed, writable, of layout->bytes at least
 * @digest: of the files, see hash.h
 *
 * Return: 0; -ECANCELED; -EBADMSG, -ENODATA, -EIO, -ESTALE, ... with file,
 * tensor and offset in @why.
 */
int loader_fill(struct loader *ld, int object, const struct loader_way *way,
		uint8_t digest[HASH_BYTES], char why[160]);
void loader_times(const struct loader *ld, struct loader_times *t);

/**
 * loader_run() - all of it, without a process of its own
 * @object: set: a memfd, the caller's
 * @bytes:  set: of weights
 */
int loader_run(const struct backend_ops *ops, const struct image *im,
	       const int *fds, const struct loader_way *way, int *object,
	       uint64_t *bytes, uint8_t digest[HASH_BYTES], char why[160]);

/* Cores that this process may run on. */
unsigned int loader_cores(void);

void loader_main(const struct conf *conf, int ctl) __attribute__((noreturn));

#endif
