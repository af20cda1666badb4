/* SPDX-License-Identifier: MIT */
/* vec.c - choosing the vector kernels of a CPU level. */
#include "vec.h"

void vec_kernels_init(struct vec_kernels *k, enum cpu_level level)
{
	vec_fill_c(k);
	k->level = CPU_C;
#ifdef __x86_64__
	if (level >= CPU_AVX2) {
		vec_fill_avx2(k);
		k->level = CPU_AVX2;
	}
	if (level >= CPU_AVX512) {
		vec_fill_avx512(k);
		k->level = CPU_AVX512;
	}
#else
	(void)level;
#endif
}
