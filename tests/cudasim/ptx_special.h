/* SPDX-License-Identifier: MIT */
/* ptx_special.h - registers that mov reads and nobody declares. */
#ifndef CUDASIM_PTX_SPECIAL_H
#define CUDASIM_PTX_SPECIAL_H

#include <stdint.h>

struct ptx_warp;

int ptx_special_find(const char *name); /* or -1 */
uint64_t ptx_special_read(struct ptx_warp *w, int special, int lane);

#endif
