/* SPDX-License-Identifier: MIT */
/* cuda_dev_rig.h - the device layer on the simulated driver, for tests. */
#ifndef HEARTH_TESTS_CUDA_DEV_RIG_H
#define HEARTH_TESTS_CUDA_DEV_RIG_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define RIG_FINDS_LEAKS
#include "../daemon/cuda/device.h"
#include "../daemon/log.h"
#include "cudasim_rig.h"

#define MIB	((uint64_t)1 << 20)
#define GRANULE CU_GRANULE

/* What the simulated driver holds is told by itself, when it is released. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libcuda.so.1\n";
}

static _Atomic uint64_t beat;
static const struct backend_conf conf = { .beat = &beat, .spin_us = 20 };
static struct cu_dev dev;

#define GOOD(call)  ck_assert_msg(!(call), #call ": %s", dev.why)
#define SAYS(what)  ck_assert_msg(strstr(said(), what) != NULL, "%s", said())
#define WHY(what)   ck_assert_msg(strstr(dev.why, what) != NULL, "%s", dev.why)
#define QUIET(what) ck_assert_msg(!strstr(said(), what), "%s", said())

static inline void listen_in(void)
{
	if (said_fd >= 0)
		close(said_fd);
	said_fd = memfd_create("said", MFD_CLOEXEC);
	ck_assert_int_ge(said_fd, 0);
	dup2(said_fd, 2);
}

static inline const char *lib(void)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s", built("libcuda.so.1"));
	return path;
}

static inline void opened(void)
{
	listen_in();
	GOOD(cu_dev_open(&dev, &conf, "", lib()));
}

/* Whatever was done, nothing is left of it. */
static inline void closed(void)
{
	cu_dev_close(&dev);
	ck_assert_uint_eq(dev.total.now, 0);
	ck_assert_uint_eq(dev.pinned.now, 0);
	QUIET("released with");
	QUIET("giving back");
}

/* Memory of a pool's: a file without a writer, mapped read-only. */
static inline const uint8_t *mapping(uint64_t bytes, uint64_t from, uint64_t n)
{
	int fd = memfd_create("weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *p;
	uint64_t i;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	for (i = 0; i < n; i++)
		p[from + i] = (uint8_t)(i * 2654435761u >> 13);
	munmap(p, bytes);
	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	close(fd);
	return p;
}

static inline bool has_nvcc(void)
{
	return !access(built("warp.ptx"), R_OK);
}

static inline size_t size_of(const char *file)
{
	struct stat st;

	ck_assert_int_eq(stat(built(file), &st), 0);
	return (size_t)st.st_size;
}

/* x becomes 2x + 1; y becomes 2x, begun before x is there. */
static const char *const names[] = { "scale_k", "dependent_ok" };

/* On @x, of 1000 floats that are 0: it becomes 15 and *y 30, by one launch of
 * the first and three of a graph of both. Kernels and graph are the caller's,
 * whatever comes of it. */
static inline int run_kernels(const char *image, size_t bytes, uint64_t x,
			      uint64_t y, struct cu_module **m,
			      struct cu_exec **graph)
{
	struct cu_run run[2] = {
		{ .name = names[0],
		  .grid = { 8, 1, 1 },
		  .block = { 128, 1, 1 } },
		{ .name = names[1],
		  .grid = { 8, 1, 1 },
		  .block = { 128, 1, 1 },
		  .pdl = true },
	};
	struct cu_func *fn[2];
	float by = 2;
	int n = 1000;
	void *args[2][3] = { { &x, &by, &n }, { &x, &y, &n } };
	int rc = cu_code_load(&dev, m, image, bytes, names, fn, 2);
	int i;

	if (rc)
		return rc;
	run[0].fn = fn[0];
	run[1].fn = fn[1];
	rc = CU(&dev, cuMemsetD8Async(x, 0, 4000, dev.compute), "clearing");
	if (!rc)
		rc = cu_run(&dev, &run[0], dev.compute, args[0]);
	if (!rc)
		rc = cu_capture_begin(&dev, dev.compute);
	if (rc)
		return rc;
	rc = cu_run(&dev, &run[0], dev.compute, args[0]);
	if (!rc)
		rc = cu_run(&dev, &run[1], dev.compute, args[1]);
	rc = cu_capture_end(&dev, dev.compute, rc, graph);
	for (i = 0; i < 3 && !rc; i++)
		rc = CU(&dev, cuGraphLaunch(*graph, dev.compute), "launching");
	return rc;
}

#endif
