/* SPDX-License-Identifier: MIT */
/*
 * bench_gpu.h - what the parts of hearth bench hw that measure a GPU share.
 *
 * Each measurement is a row; it returns 0 or -errno with the device's @why.
 */
#ifndef HEARTH_TOOL_BENCH_GPU_H
#define HEARTH_TOOL_BENCH_GPU_H

#include <jansson.h>

#include "../../daemon/cuda/device.h"
#include "hearth-tool.h"

/* The kernels of kernels/cuda/hw.cu. */
enum hw_kernel {
	HW_FILL,
	HW_READ,
	HW_COPY,
	HW_EMPTY,
	HW_PDL,
	HW_HOLD,
	HW_PING,
	HW_N
};

enum gpu_unit {
	GPU_RATE,    /* bytes a second */
	GPU_PER_GIB, /* seconds a GiB */
	GPU_TIME,    /* seconds */
};

/**
 * struct gpu_bench - a GPU that is measured
 * @bytes: of a device buffer
 * @sim:   no chip, a simulator: that a measurement ran is all there is to say
 * @flag:  pinned: flag[0] is written here, flag[1] by kernels
 */
struct gpu_bench {
	struct cu_dev dev;
	struct cu_module *code;
	struct cu_func *fn[HW_N];
	struct cu_event *from;
	struct cu_event *to;
	uint64_t bytes;
	bool sim;
	volatile uint32_t *flag;
	uint64_t flag_at;
	json_t *rows;
	struct table t;
};

/* A negative @value: it could not be measured, @how says why. */
void gpu_row(struct gpu_bench *b, const char *key, const char *what,
	     enum gpu_unit unit, double value, const char *how, ...)
	PRINTF(6, 7);

int gpu_launch(struct gpu_bench *b, enum hw_kernel k, uint32_t grid,
	       uint32_t block, bool pdl, void *params[]);

/* What @work puts on the compute stream, by events: the shortest of @reps. */
int gpu_timed(struct gpu_bench *b, unsigned int reps,
	      int (*work)(struct gpu_bench *b, void *arg), void *arg,
	      double *seconds);

/* Wait for everything on the compute stream. */
int gpu_sync(struct gpu_bench *b);

int gpu_bench_copies(struct gpu_bench *b);   /* bench_copy.c */
int gpu_bench_launches(struct gpu_bench *b); /* bench_launch.c */

#endif
