/* SPDX-License-Identifier: MIT */
/* sha256.c - which kernel for many hashes a CPU has. */
#include "sha256.h"

void sha256_kernels_init(struct sha256_kernels *k, enum cpu_level level)
{
	k->lanes = NULL;
#if defined(__x86_64__)
	if (level >= CPU_AVX512)
		k->lanes = sha256_lanes_avx512;
#else
	(void)level;
#endif
}
