/* SPDX-License-Identifier: MIT */
/* why.h - an error and the sentence that goes with it. */
#ifndef HEARTH_WHY_H
#define HEARTH_WHY_H

#define WHY_BYTES 160

/* Write what is wrong, and where, to @why. Return: @err. */
int say_why(char why[WHY_BYTES], int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
