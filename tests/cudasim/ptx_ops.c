/* SPDX-License-Identifier: MIT */
/* ptx_ops.c - the table of instructions. */
#include "ptx_ops.h"

const struct ptx_op ptx_ops[] = {
#define OP(name, fn, least, most, flags) { name, fn, least, most, flags },
#include "ptx_ops.def"
#undef OP
};

const int n_ptx_ops = sizeof(ptx_ops) / sizeof(*ptx_ops);
