/* SPDX-License-Identifier: MIT */
/* launch_mul.c - which kernels compute a product. */
#include "launch_mul.h"

int cu_launch_mul(struct cu_launch *l, const struct cu_mul *p,
		  const struct cu_chip *chip)
{
	return p->n <= CU_FEW ? cu_launch_mv(l, p, chip)
			      : cu_launch_mm(l, p, chip);
}
