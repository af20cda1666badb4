/* SPDX-License-Identifier: MIT */
/* loader_priv.h - the reading side of a load, for loader.c. */
#ifndef HEARTH_LOADER_PRIV_H
#define HEARTH_LOADER_PRIV_H

#include <stdbool.h>

#include "../libclient/image.h"
#include "loader.h"

#define READ_ALIGN 4096u

/**
 * struct unit - consecutive bytes of a file, read in one go
 * @piece0, @piece1: pieces of the layout that lie in it
 * @from, @to: where it begins and ends; blocks are read whole
 * @head, @tail: hashes of its first and last block, as it read them; used
 *               where a neighbour reads the block, too
 */
struct unit {
	uint32_t file;
	uint32_t piece0;
	uint32_t piece1;
	uint64_t from;
	uint64_t to;
	uint8_t head[HASH_BYTES];
	uint8_t tail[HASH_BYTES];
};

/**
 * struct reader_file - a model's file
 * @fd:     the caller's; reads through the page cache
 * @direct: ours, or -1
 * @verity: its digest is known
 */
struct reader_file {
	int fd;
	int direct;
	uint64_t bytes;
	int64_t mtime_s;
	int64_t mtime_ns;
	int64_t ctime_s;
	int64_t ctime_ns;
	bool verity;
	uint8_t digest[HASH_BYTES];
};

/* A unit's bytes, from its first block's start on. */
struct reader_slot {
	uint32_t unit;
	uint32_t index;
	uint32_t want;
	uint32_t got;
	bool busy;
	uint8_t *buf;
};

const struct reader_file *reader_files(const struct reader *rd,
				       unsigned int *n);

/* Where its bytes are read from, as a word for people. */
const char *reader_how(const struct reader *rd);

/* Have room for units of @bytes, and for @n_threads of them at least. */
int reader_start(struct reader *rd, const struct unit *units, uint32_t n_units,
		 uint64_t bytes, unsigned int n_threads);

/**
 * reader_next() - wait for any unit; thread-safe
 * @at: where it failed
 * Return: 1; 0: there are no more; -errno; -ENODATA: the file ends inside it.
 */
int reader_next(struct reader *rd, struct reader_slot **slot, uint32_t *at);
void reader_done(struct reader *rd, struct reader_slot *slot);

/* -ESTALE if a file is not what it was at reader_open(). */
int reader_check(const struct reader *rd, unsigned int *which);

#endif
