/* SPDX-License-Identifier: MIT */
/* cpu.c - what the CPU can do, and which of it we use. */
#include "cpu.h"

#include <errno.h>
#include <string.h>

const char *const cpu_level_names[CPU_LEVEL_N] = {
	[CPU_C] = "c",
	[CPU_AVX2] = "avx2",
	[CPU_AVX512] = "avx512",
	[CPU_AMX] = "amx",
};

int cpu_level_parse(const char *name)
{
	int i;

	for (i = 0; i < CPU_LEVEL_N; i++)
		if (!strcmp(name, cpu_level_names[i]))
			return i;
	return -EINVAL;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bits of XCR0: what the kernel saves on a context switch. */
#define XCR0_AVX    0x6u
#define XCR0_AVX512 0xe6u
#define XCR0_AMX    0x60000u

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

/* CPUID leaf 1, ecx */
#define L1_AVX2_NEEDS (1u << 12 | 1u << 27 | 1u << 28 | 1u << 29)
/* leaf 7.0, ebx: BMI1, AVX2, BMI2; AVX512 F, DQ, BW, VL; ecx: VNNI */
#define L7B_AVX2_NEEDS	 (1u << 3 | 1u << 5 | 1u << 8)
#define L7B_AVX512_NEEDS (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31)
#define L7C_AVX512_NEEDS (1u << 11)
/* leaf 7.0, edx: AMX BF16, TILE, INT8 */
#define L7D_AMX_NEEDS (1u << 22 | 1u << 24 | 1u << 25)
/* leaf 0x80000001, ecx: LZCNT */
#define LX_AVX2_NEEDS (1u << 5)

static uint32_t xcr0(void)
{
	uint32_t lo, hi;

	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo;
}

static int has(uint32_t word, uint32_t need)
{
	return (word & need) == need;
}

enum cpu_level cpu_detect(void)
{
	uint32_t a, b, c, d, x, ignore;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, L1_AVX2_NEEDS))
		return CPU_C;
	if (!__get_cpuid(0x80000001, &a, &b, &x, &d) || !has(x, LX_AVX2_NEEDS))
		return CPU_C;
	if (!__get_cpuid_count(7, 0, &ignore, &b, &c, &d) ||
	    !has(b, L7B_AVX2_NEEDS) || !has(xcr0(), XCR0_AVX))
		return CPU_C;
	if (!has(b, L7B_AVX512_NEEDS) || !has(c, L7C_AVX512_NEEDS) ||
	    !has(xcr0(), XCR0_AVX512))
		return CPU_AVX2;
	/* The kernel gives a process the tiles only when it asks. */
	if (!has(d, L7D_AMX_NEEDS) || !has(xcr0(), XCR0_AMX) ||
	    syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA))
		return CPU_AVX512;
	return CPU_AMX;
}
#else
enum cpu_level cpu_detect(void)
{
	return CPU_C;
}
#endif
