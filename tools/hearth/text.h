/* SPDX-License-Identifier: MIT */
/*
 * text.h - text as JSON strings.
 */
#ifndef HEARTH_TOOL_TEXT_H
#define HEARTH_TOOL_TEXT_H

#include <jansson.h>

#include "hearth-tool.h"

/* A JSON string; bytes that are no UTF-8 become U+FFFD. */
json_t *text_json(const char *p, size_t n);

#endif
