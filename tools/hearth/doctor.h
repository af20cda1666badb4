/* SPDX-License-Identifier: MIT */
/*
 * doctor.h - what this machine has and what Hearth does with it.
 *
 * What asks the kernel (doctor_probe()) is apart from what judges the answers,
 * so that tests can make up machines: a struct doctor_probe and a tree of
 * files in place of /proc and /sys.
 */
#ifndef HEARTH_DOCTOR_H
#define HEARTH_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../kmod/uapi/hearth.h"
#include "hearth-tool.h"

#define DOCTOR_LINES 64

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_WARN, /* it works, and could be better */
	DOCTOR_FAIL, /* something does not work */
};

extern const char *const doctor_level_names[];

struct doctor_line {
	enum doctor_level level;
	char name[16];
	char text[320];
	char fix[200]; /* one command, or empty */
};

/**
 * struct doctor_probe - what the kernel answered
 * @io_uring, @memfd, @seccomp: 0 or -errno
 * @landlock: ABI version, or -errno
 * @dev:      /dev/hearth: 0, or -errno of opening it or of INFO
 * @info:     the module's, when @dev is 0
 */
struct doctor_probe {
	char release[65];
	uid_t uid;
	int io_uring;
	int memfd;
	int seccomp;
	int landlock;
	int dev;
	struct hearth_dev_info info;
	uint64_t memlock;
	uint64_t nofile;
};

/**
 * struct doctor - the report
 * @root: before /proc, /sys and /dev; "" but in tests
 */
struct doctor {
	const char *root;
	struct doctor_probe p;
	struct doctor_line line[DOCTOR_LINES];
	size_t n;
};

void doctor_probe(struct doctor_probe *p);

/* Add a line; @fix may be NULL. */
void doctor_say(struct doctor *d, enum doctor_level level, const char *name,
		const char *fix, const char *fmt, ...) PRINTF(5, 6);
/* Change the fix of the last line, formatted. */
void doctor_fix(struct doctor *d, const char *fmt, ...) PRINTF(2, 3);
const struct doctor_line *doctor_find(const struct doctor *d, const char *name);

/* Read a file below the root; false if there is none. */
bool doctor_read(const struct doctor *d, const char *path, char *buf, size_t n);
uint64_t doctor_meminfo(const struct doctor *d, const char *field); /* bytes */

/* doctor_host.c: kernel, CPU, memory, limits */
void doctor_host(struct doctor *d);

/**
 * struct doctor_huge - huge pages of the default size
 * @page:  bytes of one, 0: this kernel has none
 * @total, @free: configured; @more: on demand beyond that
 */
struct doctor_huge {
	uint64_t page;
	uint64_t total;
	uint64_t free;
	uint64_t more;
};

void doctor_huge_read(const struct doctor *d, struct doctor_huge *h);

/* doctor_pool.c: huge pages, the module, where weights go.
 * @taken: what a running daemon says about its pool, or NULL. */
void doctor_pool(struct doctor *d, const char *taken);

/* doctor_files.c: where models are */
void doctor_models(struct doctor *d);

#endif
