/* SPDX-License-Identifier: MIT */
/*
 * openfile.h - what a program says to the `hearthd --parser` that it started,
 * and the answer.
 *
 * The same bytes as the messages PROC_MODEL_LOAD and PROC_PARSED between the
 * daemon's processes; tests compare them.
 */
#ifndef HEARTH_OPENFILE_H
#define HEARTH_OPENFILE_H

#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define OPENFILE_SOCK	3 /* in the child */
#define OPENFILE_LOAD	3 /* with fds: the image, then the files */
#define OPENFILE_PARSED 12

struct openfile_ask {
	uint32_t type;
	uint32_t len;
	uint64_t id;
	uint32_t uid;
	uint32_t n_files;
	uint32_t n_ctx;
	uint32_t resv;
	uint64_t kv_bytes;
	uint64_t weight_bytes;
};

struct openfile_msg {
	uint32_t type;
	uint32_t len;
	uint64_t id;
	int32_t err;
	uint32_t resv;
	char text[WIRE_TEXT];
};

/* Path of the program that parses: $HEARTH_DAEMON, or beside this one, ... */
int openfile_daemon(char *buf, size_t n);

#endif
