/* SPDX-License-Identifier: MIT */
/* load.h - a model from its files in a test, as loader and engine make it. */
#ifndef HEARTH_TESTS_LOAD_H
#define HEARTH_TESTS_LOAD_H

#include <unistd.h>

#include "../daemon/loader.h"

static inline int load_part(const struct backend_ops *ops, struct backend *be,
			    const struct image *im,
			    const struct backend_part *part, const int *fds,
			    unsigned int n_threads, struct backend_progress *pg,
			    struct backend_model **m, char why[160])
{
	struct loader_way way = { .n_threads = n_threads, .pg = pg };
	uint8_t digest[HASH_BYTES];
	uint64_t bytes = 0;
	int object, ret;

	ret = loader_run(ops, im, fds, &way, &object, &bytes, digest, why);
	if (ret)
		return ret;
	ret = ops->load(be, im, part, object, bytes, m, why);
	close(object);
	return ret;
}

static inline int load_model(const struct backend_ops *ops, struct backend *be,
			     const struct image *im, const int *fds,
			     unsigned int n_threads,
			     struct backend_progress *pg,
			     struct backend_model **m, char why[160])
{
	return load_part(ops, be, im, NULL, fds, n_threads, pg, m, why);
}

#endif
