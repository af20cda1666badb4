/* SPDX-License-Identifier: MIT */
/* version.c - the version of this library. */
#include "include/hearth.h"

#define STR_(x) #x
#define STR(x)	STR_(x)

const char *hearth_version(void)
{
	return STR(HEARTH_VERSION_MAJOR) "." STR(HEARTH_VERSION_MINOR) "." STR(
		HEARTH_VERSION_PATCH);
}
