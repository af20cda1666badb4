/* SPDX-License-Identifier: MIT */
/* ptx_ops.h - the functions that ptx_ops.def names. */
#ifndef CUDASIM_PTX_OPS_H
#define CUDASIM_PTX_OPS_H

#include "ptx.h"

#define OP(name, fn, least, most, flags) \
	void fn(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex);
#include "ptx_ops.def"
#undef OP

#endif
