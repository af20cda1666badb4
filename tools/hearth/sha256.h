/* SPDX-License-Identifier: MIT */
/*
 * sha256.h - SHA-256 of what comes in pieces, for checking downloads.
 */
#ifndef HEARTH_TOOL_SHA256_H
#define HEARTH_TOOL_SHA256_H

#include <stddef.h>

/* @ctx is libcrypto's; NULL before the first sha256_init(). */
struct sha256 {
	void *ctx;
};

void sha256_init(struct sha256 *s); /* also to begin again */
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_end(struct sha256 *s, char hex[65]); /* frees it, too */
void sha256_free(struct sha256 *s);		 /* legal twice */

#endif
