/* SPDX-License-Identifier: MIT */
/*
 * driver.h - libcuda.so.1, opened by name: its entry points and its errors.
 */
#ifndef HEARTH_CUDA_DRIVER_H
#define HEARTH_CUDA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

#include "abi.h"

#define CU_WHY	      320   /* bytes of a sentence that says what failed */
#define CU_DRIVER_MIN 12000 /* the first with cuGetProcAddress_v2: 12.0 */

/**
 * struct cu_driver - the calls of calls.def, by name
 * @version: CUDA's, of the driver: 13000 is 13.0
 */
struct cu_driver {
	int version;
#define CALL(name, since, required, args) int(*name) args;
#include "calls.def"
#undef CALL
};

/**
 * cu_driver_open() - find the driver and initialise it
 * @lib: path, or NULL for "libcuda.so.1" as the loader finds it
 * @why: says what is missing or too old, and in which driver
 *
 * It is never closed: threads of its own run in it.
 *
 * Return: 0; -ENOENT: no such library; -ENOSYS: too old, or a call is not in
 * it; -ENODEV: no device; or the -errno of what cuInit() said.
 */
int cu_driver_open(struct cu_driver *drv, const char *lib, char why[CU_WHY]);

/**
 * struct cu_error - what a result of the driver's means here
 * @err:  -errno
 * @lost: the context is gone or may be: only another process can go on
 */
struct cu_error {
	int err;
	bool lost;
};

/* One table for all calls; a result it does not know is a loss. */
struct cu_error cu_error(int result);

/* "CUDA_ERROR_OUT_OF_MEMORY: out of memory". Return @buf. */
char *cu_error_text(const struct cu_driver *drv, int result, char *buf,
		    size_t n);

#endif
