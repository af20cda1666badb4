/* SPDX-License-Identifier: MIT */
/*
 * fetch.h - HTTP: small documents into memory, large files resumably to disk.
 */
#ifndef HEARTH_TOOL_FETCH_H
#define HEARTH_TOOL_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include "hearth-tool.h"

/**
 * struct fetch - where something is and what is known about it
 * @url:     https, or http
 * @bearer:  token for the host of @url only, or NULL
 * @size:    bytes, 0 when unknown
 * @sha256:  64 hex digits, or "" when unknown
 * @label:   for the progress bar and errors
 * @tries:   how often in a row without a new byte
 */
struct fetch {
	const char *url;
	const char *bearer;
	uint64_t size;
	const char *sha256;
	const char *label;
	unsigned tries;
};

/**
 * fetch_text() - get a document of at most @max bytes
 * @next: receives the URL of the next page, or NULL; to be freed
 *
 * Return: the HTTP status (200, 404, ...), or -errno after an error text.
 */
int fetch_text(const struct fetch *f, struct str *out, size_t max, char **next);

/**
 * fetch_file() - get a file into @part, going on where an earlier try stopped
 * @hex: receives the SHA-256 of the whole
 *
 * The part stays when the transfer breaks off or is interrupted, and goes when
 * its checksum is wrong. Return: 0, or -errno after an error text; -EINTR
 * without one.
 */
int fetch_file(const struct fetch *f, const char *part, char hex[65]);

/* Is there room for @need more bytes in @dir? 0, or -ENOSPC after a text. */
int fetch_room(const char *dir, uint64_t need);

#endif
