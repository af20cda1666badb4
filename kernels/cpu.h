/* SPDX-License-Identifier: MIT */
/* cpu.h - what the CPU can do, and which of it we use. */
#ifndef HEARTH_CPU_H
#define HEARTH_CPU_H

#include <stdint.h>

/* Levels are bundles, each contains the ones before it. */
enum cpu_level {
	CPU_C,	    /* plain C */
	CPU_AVX2,   /* AVX2, FMA, F16C, BMI */
	CPU_AVX512, /* F, BW, DQ, VL, VNNI */
	CPU_AMX, /* the above and AMX-INT8, AMX-BF16, permitted by the kernel */
	CPU_LEVEL_N,
};

extern const char *const cpu_level_names[CPU_LEVEL_N]; /* "c", "avx2", ... */

/* Highest level this machine has. */
enum cpu_level cpu_detect(void);

/* Level of a name, or -EINVAL. */
int cpu_level_parse(const char *name);

#endif
