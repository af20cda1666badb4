/* SPDX-License-Identifier: MIT */
/* launch_mul.h - the parts of cu_launch_mul(). */
#ifndef HEARTH_KERNELS_CUDA_LAUNCH_MUL_H
#define HEARTH_KERNELS_CUDA_LAUNCH_MUL_H

#include "launch.h"

int cu_launch_mv(struct cu_launch *l, const struct cu_mul *p,
		 const struct cu_chip *chip);
int cu_launch_mm(struct cu_launch *l, const struct cu_mul *p,
		 const struct cu_chip *chip);

#endif
