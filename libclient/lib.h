/* SPDX-License-Identifier: MIT */
/*
 * lib.h - what the files of libhearth share about an opened model.
 *
 * A model is an image (mapped read-only, checked once) and the tables that
 * the text functions make of it on first use. Once opened it never changes,
 * so any number of threads may use it.
 */
#ifndef HEARTH_LIB_H
#define HEARTH_LIB_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "image.h"
#include "include/hearth.h"

struct model_source;

/**
 * struct hearth_model - an opened model
 * @im:       the checked image; all pointers in it live as long as the model
 * @image_fd: the image's memfd, or -1 when the memory is the caller's
 * @refs:     holders: the handle, each request that still needs the model,
 *            and each connection that would open it again (these are counted
 *            once more in the upper half)
 * @src:      how to open it again, or NULL
 * @id:       number at the daemon that opened it last; 0: as in @info
 * @resident: the daemon has it: @info.id may be named in requests
 * @lock:     held while @text is being made
 * @text:     tables of the text functions, NULL until the first use. Made
 *            under @lock, then stored with release; readers load with acquire
 * @info:     what hearth_model_info() reports
 */
struct hearth_model {
	struct image im;
	int image_fd;
	uint64_t refs;
	struct model_source *src;
	uint32_t id;
	bool resident;
	pthread_mutex_t lock;
	void *text;
	struct hearth_model_info info;
};

/**
 * model_new_fd() - a model over an image memfd
 * @image_fd: consumed, also on failure
 * Return: 0 or -errno and what is wrong with the image in @why.
 */
int model_new_fd(struct hearth_model **out, int image_fd, char why[160]);

/* The same over memory that the caller keeps alive (tests, fuzzers). */
int model_new_mem(struct hearth_model **out, const void *p, size_t n,
		  char why[160]);

/* One more, one less holder of @m; the last one frees it. NULL is legal. */
struct hearth_model *model_get(const struct hearth_model *m);
void model_put(struct hearth_model *m);

/* The same for a connection, which is nobody who uses it. */
struct hearth_model *model_keep(const struct hearth_model *m);
void model_drop(struct hearth_model *m);
/* Holders that are no connections. */
uint32_t model_n_users(const struct hearth_model *m);
/* Its number at the daemon, as far as known. */
uint32_t model_id(const struct hearth_model *m);

/* Free what the text functions hang on @m->text; NULL there is legal. */
void text_free(struct hearth_model *m);

#endif
