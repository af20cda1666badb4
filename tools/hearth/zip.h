/* SPDX-License-Identifier: MIT */
/*
 * zip.h - reading members of a zip archive (stored, deflated, zip64).
 *
 * The archive is hostile: every offset, length and count is checked against
 * the file before it is used, a member never yields more bytes than its
 * directory entry says, and its CRC must be right.
 */
#ifndef HEARTH_TOOL_ZIP_H
#define HEARTH_TOOL_ZIP_H

#include <stddef.h>
#include <stdint.h>

#define ZIP_MAX_DIR (64u << 20) /* bytes of directory */
#define ZIP_NAME    512

struct zip_entry {
	char name[ZIP_NAME];
	uint64_t size;
	uint64_t packed;
	uint64_t header; /* offset of the local header */
	uint32_t crc;
	uint16_t method;
	uint16_t flags;
};

struct zip {
	int fd; /* borrowed */
	uint64_t file_bytes;
	uint64_t dir_at;
	uint64_t dir_bytes;
	uint64_t n_entries;
	uint8_t *dir;
	uint64_t pos; /* in dir, of the next entry */
	uint64_t index;
	char why[200]; /* of the last failure */
};

/* Read the directory of the archive in @fd. Returns 0 or -errno and z->why. */
int zip_open(struct zip *z, int fd);
void zip_close(struct zip *z);
/* Next entry: 0, -ENOENT after the last, or -EINVAL and z->why. */
int zip_next(struct zip *z, struct zip_entry *e);
/* Give the member's bytes to @sink; what it returns if not 0 ends it. */
int zip_extract(struct zip *z, const struct zip_entry *e,
		int (*sink)(void *arg, const void *p, size_t n), void *arg);

#endif
