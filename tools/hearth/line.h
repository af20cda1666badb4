/* SPDX-License-Identifier: MIT */
/*
 * line.h - lines typed at a terminal, with editing and history.
 */
#ifndef HEARTH_TOOL_LINE_H
#define HEARTH_TOOL_LINE_H

#include "hearth-tool.h"

struct line;

enum line_end {
	LINE_OK,
	LINE_EOF,  /* Ctrl-D */
	LINE_INTR, /* Ctrl-C; the text typed so far is in the buffer */
};

/* @commands: NULL-terminated, completed by Tab at the beginning of a line. */
int line_open(struct line **out, const char *const *commands);
void line_close(struct line **l);
/* Read a line without its end. A pasted text may have line ends inside. */
enum line_end line_read(struct line *l, const char *prompt, struct str *s);
void line_remember(struct line *l, const char *text);

#endif
