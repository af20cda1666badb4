/* SPDX-License-Identifier: MIT */
/* mat_avx512.c - products with packed matrices, avx512. */
#include "../shape.h"

void mat_init_avx512(struct mat_kernels *k)
{
	(void)k;
}
