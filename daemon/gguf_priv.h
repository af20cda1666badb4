/* SPDX-License-Identifier: MIT */
/* gguf_priv.h - what reading a header and asking about it share. */
#ifndef HEARTH_GGUF_PRIV_H
#define HEARTH_GGUF_PRIV_H

#include <string.h>

#include "gguf.h"

/* Where we are, for reading and for messages. */
struct gguf_reader {
	struct gguf *g;
	struct gguf_part *p;
	char *why;
};

/* Set why to "part 2: tensor x: what (at byte n)"; returns @err. */
int gguf_fail(struct gguf_reader *r, int err, uint64_t at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* An integer key of a part: 1 found, 0 not there, or an error. */
int gguf_part_u32(struct gguf_reader *r, const char *key, uint32_t *out);

int gguf_compare(const uint8_t *a, size_t na, const uint8_t *b, size_t nb);

/* A little-endian number, like the machine's. */
static inline uint64_t gguf_load(const uint8_t *p, unsigned int bytes)
{
	uint64_t v = 0;

	memcpy(&v, p, bytes);
	return v;
}

#endif
