/* SPDX-License-Identifier: MIT */
/*
 * launch.h - the CUDA kernels as the host sees them: names, code, geometry.
 *
 * cu_launch_*() turn an operation into launches: which kernel, how many blocks,
 * how much shared memory. Plain C that calls no driver.
 */
#ifndef HEARTH_KERNELS_CUDA_LAUNCH_H
#define HEARTH_KERNELS_CUDA_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gemm.h"
#include "op.h"

enum cu_file {
#define CODE(file) CU_FILE_##file,
#define KERNEL(file, name, type)
#include "kernels.def"
	CU_FILE_N,
};

enum cu_kernel {
#define CODE(file)
#define KERNEL(file, name, type) CU_##name,
#include "kernels.def"
	CU_KERNEL_N,
};

/* A fatbin with the kernels of a file; empty if Hearth was built without a CUDA
 * compiler. */
struct cu_code {
	const char *name;
	const uint8_t *begin;
	const uint8_t *end;
};

struct cu_kernel_info {
	const char *name;
	enum cu_file file;
	size_t param_bytes;
};

extern const struct cu_code cu_codes[]; /* CU_FILE_N of them */
extern const struct cu_kernel_info cu_kernels[];

/**
 * struct cu_chip - of a device, what launches depend on
 * @cc:   compute capability, 90 for 9.0
 * @sms:  multiprocessors
 * @smem: shared memory a block may ask for
 */
struct cu_chip {
	uint32_t cc;
	uint32_t sms;
	uint32_t smem;
};

/**
 * struct cu_launch - one launch
 * @kernel: enum cu_kernel
 * @smem:   dynamic shared memory
 * @pdl:    may begin before the launch before it ends: it waits itself
 * @p:      the parameter, cu_kernels[kernel].param_bytes of it
 */
struct cu_launch {
	uint16_t kernel;
	uint8_t pdl;
	uint32_t grid[3];
	uint32_t block;
	uint32_t smem;
	union {
		struct cu_embed embed;
		struct cu_mul mul;
		struct cu_mv mv;
		struct cu_tiles tiles;
		struct cu_gemm gemm;
		struct cu_norm norm;
		struct cu_quant quant;
		struct cu_glu glu;
		struct cu_gather gather;
		struct cu_rope_kv rope_kv;
		struct cu_attn attn;
		struct cu_top top;
	} p;
};

/*
 * Each fills @l and returns how many launches it took (at most CU_MATS), or
 * -ENOTSUP where no kernel does it; n is not 0.
 *
 * cu_launch_mul() with n <= CU_FEW takes everything struct cu_mul can say as
 * long as cu_mul_fits() is true. With more tokens: no glu, quant formats take
 * CU_IN_ACT and float formats CU_IN_FLOAT.
 */
int cu_launch_embed(struct cu_launch *l, const struct cu_embed *p,
		    const struct cu_chip *chip);
int cu_launch_mul(struct cu_launch *l, const struct cu_mul *p,
		  const struct cu_chip *chip);
int cu_launch_norm(struct cu_launch *l, const struct cu_norm *p,
		   const struct cu_chip *chip);
int cu_launch_quant(struct cu_launch *l, const struct cu_quant *p,
		    const struct cu_chip *chip);
int cu_launch_glu(struct cu_launch *l, const struct cu_glu *p,
		  const struct cu_chip *chip);
int cu_launch_gather(struct cu_launch *l, const struct cu_gather *p,
		     const struct cu_chip *chip);
int cu_launch_rope_kv(struct cu_launch *l, const struct cu_rope_kv *p,
		      const struct cu_chip *chip);
int cu_launch_attn(struct cu_launch *l, const struct cu_attn *p,
		   const struct cu_chip *chip);
int cu_launch_top(struct cu_launch *l, const struct cu_top *p,
		  const struct cu_chip *chip);

/* Products by wgmma, which are near and not equal: is there code for the chip,
 * and does it take such a matrix? Operands become tiles first, of so many
 * bytes. */
bool cu_gemm_here(const struct cu_chip *chip);
bool cu_gemm_takes(uint32_t fmt, uint32_t cols);
uint64_t cu_tiles_bytes(uint32_t rows, uint32_t cols);
int cu_launch_tiles(struct cu_launch *l, const struct cu_tiles *p,
		    const struct cu_chip *chip);
int cu_launch_gemm(struct cu_launch *l, const struct cu_gemm *p,
		   const struct cu_chip *chip);

/* True if the input of a product for few tokens can be prepared (normed,
 * quantised) in shared memory by each block itself. */
bool cu_mul_fits(const struct cu_mul *p, const struct cu_chip *chip);

/* How many of @of cover @n. */
static inline uint32_t cu_up(uint32_t n, uint32_t of)
{
	return (n + of - 1) / of;
}

#endif
