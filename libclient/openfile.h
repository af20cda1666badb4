/* SPDX-License-Identifier: MIT */
/*
 * openfile.h - what `hearthd --parser` says to the program that started it.
 *
 * The same bytes as the PROC_PARSED message between the daemon's processes;
 * tests compare the two.
 */
#ifndef HEARTH_OPENFILE_H
#define HEARTH_OPENFILE_H

#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define OPENFILE_SOCK	3
#define OPENFILE_PARSED 12

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
