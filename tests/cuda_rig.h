/* SPDX-License-Identifier: MIT */
/*
 * cuda_rig.h - CUDA kernels, run and compared with plain C.
 *
 * They run in the simulator, or on a chip if HEARTH_CUDA names a driver
 * (HEARTH_CUDA=libcuda.so.1). Device buffers are as large as they must be, so
 * that the simulator sees a kernel that goes past one.
 */
#ifndef HEARTH_TESTS_CUDA_RIG_H
#define HEARTH_TESTS_CUDA_RIG_H

#include "cudasim_rig.h"
#include "kernels_data.h"
#include "../kernels/cuda/launch.h"

static struct cu_chip chip;
static struct cu_stream *cuda_stream;
static struct cu_module *cuda_modules[CU_FILE_N + 1];

/* The driver, a context, and what of the device launches depend on. */
static inline void cuda_open(int with_seed)
{
	int major, minor, sms, smem, d;

	rig_init(with_seed);
	OK(cuCtxGetDevice(&d));
	OK(cuDeviceGetAttribute(&major, 75, d));
	OK(cuDeviceGetAttribute(&minor, 76, d));
	OK(cuDeviceGetAttribute(&sms, 16, d));
	OK(cuDeviceGetAttribute(&smem, 97, d));
	chip.cc = (uint32_t)(10 * major + minor);
	chip.sms = (uint32_t)sms;
	chip.smem = (uint32_t)smem;
	OK(cuStreamCreate(&cuda_stream, 0));
}

static inline struct cu_func *cuda_func(int kernel)
{
	const struct cu_kernel_info *k = &cu_kernels[kernel];
	struct cu_module **m = &cuda_modules[k->file];
	struct cu_func *f;

	if (!*m)
		ck_assert_msg(!cu.cuModuleLoadData(m, cu_codes[k->file].begin),
			      "%s: %s", cu_codes[k->file].name, said());
	ck_assert_msg(!cu.cuModuleGetFunction(&f, *m, k->name), "%s", k->name);
	return f;
}

/* Do the @n launches at @l, one after the other as their pdl says, and wait. */
static inline void cuda_run(const struct cu_launch *l, int n)
{
	struct cu_attr pdl = { .id = CU_ATTR_PDL, .value = { .i = 1 } };
	int i;

	ck_assert_int_gt(n, 0);
	for (i = 0; i < n; i++, l++) {
		struct cu_func *f = cuda_func(l->kernel);
		struct cu_launch_config c = {
			.grid = { l->grid[0], l->grid[1], l->grid[2] },
			.block = { l->block, 1, 1 },
			.shared = l->smem,
			.stream = cuda_stream,
			.attr = &pdl,
			.n_attr = l->pdl ? 1 : 0,
		};
		struct cu_launch own = *l;

		if (l->smem > 49152)
			OK(cuFuncSetAttribute(f, 8, (int)l->smem));
		ck_assert_msg(!cu.cuLaunchKernelEx(&c, f, ARGS(&own.p), NULL),
			      "%s: %s", cu_kernels[l->kernel].name, said());
	}
	ck_assert_msg(!cu.cuStreamSynchronize(cuda_stream), "%s: %s",
		      cu_kernels[l[-1].kernel].name, said());
}

/* Addresses as they stand in a parameter; NULL for no bytes. */
static inline void *dev_room(size_t n)
{
	return n ? (void *)(uintptr_t)dev_new(n) : NULL;
}

static inline void *dev_put(const void *from, size_t n)
{
	return n ? (void *)(uintptr_t)dev_with(from, n) : NULL;
}

static inline void dev_get(void *to, const void *at, size_t n)
{
	ck_assert_msg(!cu.cuMemcpyDtoH_v2(to, PTR(at), n), "%s", said());
}

static inline void dev_free(const void *at)
{
	if (at)
		OK(cuMemFree_v2(PTR(at)));
}

/* A matrix on both sides. */
struct cuda_mat {
	struct mat host;
	struct cu_mat dev;
};

static inline struct cuda_mat cuda_mat_new(enum fmt f, enum weights kind,
					   uint32_t rows, uint32_t cols)
{
	uint64_t panel = mat_panel_bytes(f, cols);
	uint64_t row = fmt_bytes(f, cols), bytes = mat_bytes(f, rows, cols);
	uint8_t *file = malloc(rows * row);
	uint8_t *data = aligned_alloc(MAT_ALIGN, bytes);
	struct cuda_mat m = { .host = { f, rows, cols, data } };
	uint32_t r;

	ck_assert(file && data);
	fill_weights(f, kind, file, (size_t)rows * cols);
	for (r = 0; r < rows; r += MAT_PANEL)
		mat_pack(f, cols, file + r * row,
			 rows - r < MAT_PANEL ? rows - r : MAT_PANEL,
			 data + r / MAT_PANEL * panel);
	free(file);
	m.dev.data = dev_put(data, bytes);
	m.dev.rows = rows;
	m.dev.cols = cols;
	m.dev.fmt = f;
	return m;
}

static inline void cuda_mat_free(struct cuda_mat *m)
{
	dev_free(m->dev.data);
	free((void *)(uintptr_t)m->host.data);
}

/* @n floats at @at are @want, bit for bit; a NaN is any NaN. */
static inline void dev_same(const void *at, const float *want, size_t n,
			    const char *what)
{
	float *got = calloc(n, sizeof(*got));

	ck_assert_ptr_nonnull(got);
	dev_get(got, at, n * sizeof(*got));
	assert_same(got, want, n, what);
	free(got);
}

/* @n quantised blocks at @at are @want; what comes of a NaN is any NaN. */
static inline void dev_same_act(const void *at, const struct act_block *want,
				size_t n, const char *what)
{
	struct act_block *got = calloc(n, sizeof(*got));
	size_t i;

	ck_assert_ptr_nonnull(got);
	dev_get(got, at, n * sizeof(*got));
	for (i = 0; i < n; i++) {
		const struct act_block *g = &got[i], *w = &want[i];

		ck_assert_msg(
			!memcmp(g->q, w->q, sizeof(g->q)) && same(g->d, w->d) &&
				g->off == w->off && same(g->ds, w->ds) &&
				g->off16[0] == w->off16[0] &&
				g->off16[1] == w->off16[1] &&
				same(g->ds16[0], w->ds16[0]) &&
				same(g->ds16[1], w->ds16[1]),
			"%s: block %zu: scale %a, not %a; q[0] %d, not %d",
			what, i, g->d, w->d, g->q[0], w->q[0]);
	}
	free(got);
}

/* 77, unless there are kernels to run. */
static inline int cuda_main(Suite *s)
{
	return rig_suite(s, !CU_FILE_N || cu_codes[0].end == cu_codes[0].begin);
}

#endif
