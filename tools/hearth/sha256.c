/* SPDX-License-Identifier: MIT */
/*
 * sha256.c - SHA-256 by libcrypto, which has it for this CPU.
 */
#include "sha256.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "hearth-tool.h"

/* Without memory, or without SHA-256, nothing here can be said to be right. */
static void must(int ok)
{
	if (ok)
		return;
	tool_err("libcrypto has no memory for SHA-256");
	exit(EXIT_FAIL);
}

void sha256_init(struct sha256 *s)
{
	if (!s->ctx)
		s->ctx = EVP_MD_CTX_new();
	must(s->ctx && EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
}

void sha256_add(struct sha256 *s, const void *p, size_t n)
{
	must(EVP_DigestUpdate(s->ctx, p, n));
}

void sha256_end(struct sha256 *s, char hex[65])
{
	uint8_t out[32];

	must(EVP_DigestFinal_ex(s->ctx, out, NULL));
	fmt_hex(hex, out);
	sha256_free(s);
}

void sha256_free(struct sha256 *s)
{
	EVP_MD_CTX_free(s->ctx);
	s->ctx = NULL;
}
