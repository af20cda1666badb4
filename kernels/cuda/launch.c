/* SPDX-License-Identifier: MIT */
/* launch.c - the tables of CUDA kernels and of their code. */
#include "launch.h"

/* From the fatbins, which the build puts into code.S. */
#define CODE(file) extern const uint8_t cu_##file##_begin[], cu_##file##_end[];
#define KERNEL(file, name, type)
#include "kernels.def"

const struct cu_code cu_codes[] = {
#define CODE(file) { #file, cu_##file##_begin, cu_##file##_end },
#define KERNEL(file, name, type)
#include "kernels.def"
};

const struct cu_kernel_info cu_kernels[] = {
#define CODE(file)
#define KERNEL(file, name, type) { #name, CU_FILE_##file, sizeof(struct type) },
#include "kernels.def"
};
