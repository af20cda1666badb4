/* SPDX-License-Identifier: MIT */
/*
 * tar.h - reading members of a .tar.gz archive (ustar, GNU and pax names).
 */
#ifndef HEARTH_TOOL_TAR_H
#define HEARTH_TOOL_TAR_H

#include <stddef.h>
#include <stdint.h>

struct tar;

/* @fd is borrowed and read through to the end. 0 or -errno. */
int tar_open(struct tar **out, int fd);
void tar_close(struct tar **t);
/* Next regular file: 0, -ENOENT after the last, or another -errno. */
int tar_next(struct tar *t);
const char *tar_name(const struct tar *t);
uint64_t tar_size(const struct tar *t);
const char *tar_why(const struct tar *t); /* of the last failure */
/* Give the file's bytes to @sink; what it returns if not 0 ends it. */
int tar_extract(struct tar *t, int (*sink)(void *arg, const void *p, size_t n),
		void *arg);

#endif
