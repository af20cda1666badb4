/* SPDX-License-Identifier: MIT */
/* image_write.h - makes a model image of a model's headers. */
#ifndef HEARTH_IMAGE_WRITE_H
#define HEARTH_IMAGE_WRITE_H

#include <stddef.h>

#include "gguf.h"

/**
 * image_build() - check a model against its architecture and flatten it
 * @g:   borrowed
 * @flags: MODEL_VOCAB_ONLY: without tensors the vocabulary alone is taken
 * @out: new, malloc()ed; passes image_open_mem()
 *
 * Return: 0, -EBADMSG, -ENOTSUP (architecture, tensor), -ENOMEM; @why names
 * tensor or key.
 */
int image_build(const struct gguf *g, unsigned int flags, void **out, size_t *n,
		char why[160]);

#endif
