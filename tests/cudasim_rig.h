/* SPDX-License-Identifier: MIT */
/*
 * cudasim_rig.h - the simulated driver, opened as a program opens the real; or
 * the real one, if HEARTH_CUDA is its name.
 */
#ifndef HEARTH_TESTS_CUDASIM_RIG_H
#define HEARTH_TESTS_CUDASIM_RIG_H

#include <check.h>
#include <dlfcn.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../daemon/cuda/abi.h"
#include "cuda_dump.h"

static struct {
#define CALL(name, args) int(*name) args;
#include "cudasim/cuda_calls.def"
#undef CALL
} cu;

#ifndef RIG_FINDS_LEAKS
/* A test ends with its device as it is; the kernel takes it all back. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

static struct cu_module *module;
static int said_fd = -1;

#define OK(call)  ck_assert_int_eq(cu.call, 0)
#define PTR(p)	  ((uint64_t)(uintptr_t)(p))
#define ARGS(...) ((void *[]){ __VA_ARGS__ })
#define COUNT(a)  (sizeof(a) / sizeof(*(a)))

static inline const char *built(const char *file)
{
	static char path[4096];
	char exe[2048];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		abort();
	exe[n] = 0;
	snprintf(path, sizeof(path), "%s/cudasim/%s", dirname(exe), file);
	return path;
}

static inline char *read_built(const char *file)
{
	FILE *f = fopen(built(file), "rb");
	char *p;
	long n;

	ck_assert_msg(f != NULL, "%s", built(file));
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	p = calloc(1, (size_t)n + 1);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(fread(p, 1, (size_t)n, f), (size_t)n);
	fclose(f);
	return p;
}

/* What went to standard error since rig_open(). */
static inline const char *said(void)
{
	static char text[65536];
	ssize_t n = pread(said_fd, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = 0;
	return text;
}

static inline void rig_calls(void)
{
	int (*get)(const char *, void **, int, uint64_t, int *);
	const char *real = getenv("HEARTH_CUDA");
	void *so = dlopen(real ? real : built("libcuda.so.1"),
			  RTLD_NOW | RTLD_LOCAL);

	ck_assert_msg(so != NULL, "%s", dlerror());
	*(void **)&get = dlsym(so, "cuGetProcAddress_v2");
	ck_assert_ptr_nonnull(get);
#define CALL(name, args)                                          \
	do {                                                      \
		char base[64];                                    \
		char *v;                                          \
		snprintf(base, sizeof(base), "%s", #name);        \
		v = strstr(base, "_v");                           \
		if (v)                                            \
			*v = 0;                                   \
		/* an older driver lacks some */                  \
		if (get(base, (void **)&cu.name, 13000, 0, NULL)) \
			ck_assert_msg(real != NULL, "%s", base);  \
	} while (0);
#include "cudasim/cuda_calls.def"
#undef CALL
	/* Of two versions the newer is the one found. */
	*(void **)&cu.cuCtxCreate_v2 = dlsym(so, "cuCtxCreate_v2");
	dump_calls(&cu.cuModuleGetFunction, &cu.cuMemcpyDtoH_v2);
}

static inline void rig_init(int seed)
{
	struct cu_ctx *ctx;
	char s[16];
	int d;

	snprintf(s, sizeof(s), "%d", seed);
	setenv("CUDASIM_SEED", s, 1);
	said_fd = memfd_create("said", MFD_CLOEXEC);
	ck_assert_int_ge(said_fd, 0);
	dup2(said_fd, 2);
	rig_calls();
	OK(cuInit(0));
	OK(cuDeviceGet(&d, 0));
	OK(cuDevicePrimaryCtxRetain(&ctx, d));
	OK(cuCtxSetCurrent(ctx));
}

/* The driver, a context, and the kernels of FILE. */
static inline void rig_open(int seed, const char *file)
{
	char *text = read_built(file);

	rig_init(seed);
	ck_assert_msg(!cu.cuModuleLoadData(&module, text), "%s", said());
	free(text);
}

static inline struct cu_func *func(const char *name)
{
	struct cu_func *f;

	ck_assert_msg(!cu.cuModuleGetFunction(&f, module, name), "%s", name);
	return f;
}

static inline uint64_t dev_new(size_t n)
{
	uint64_t at;

	OK(cuMemAlloc_v2(&at, n));
	return at;
}

static inline uint64_t dev_with(const void *from, size_t n)
{
	uint64_t at = dev_new(n);

	OK(cuMemcpyHtoD_v2(at, from, n));
	return at;
}

static inline int launch(const char *name, unsigned int grid,
			 unsigned int block, unsigned int dyn,
			 struct cu_stream *s, void **args)
{
	struct cu_func *f = func(name);

	if (dyn > 49152)
		OK(cuFuncSetAttribute(f, 8, (int)dyn));
	return cu.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, dyn, s, args,
				 NULL);
}

static inline float unit(void)
{
	return (float)random() / (float)RAND_MAX - 0.5f;
}

static inline float from_bf16(uint16_t v)
{
	uint32_t u = (uint32_t)v << 16;
	float f;

	memcpy(&f, &u, 4);
	return f;
}

static inline uint16_t to_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline int rig_suite(Suite *s, bool no_kernels)
{
	SRunner *sr;
	int n;

	if (no_kernels) {
		puts("no nvcc here: the kernels were not compiled");
		return 77;
	}
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	n = srunner_ntests_failed(sr);
	srunner_free(sr);
	return n ? 1 : 0;
}

/* 77, unless there are kernels to run. */
static inline int rig_run(Suite *s)
{
	return rig_suite(s, access(built("warp.ptx"), R_OK) != 0);
}

#endif
