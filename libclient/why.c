/* SPDX-License-Identifier: MIT */
/* why.c - an error and the sentence that goes with it. */
#include "why.h"

#include <stdarg.h>
#include <stdio.h>

int say_why(char why[WHY_BYTES], int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, WHY_BYTES, fmt, ap);
	va_end(ap);
	return err;
}
