/* SPDX-License-Identifier: MIT */
/*
 * cuda_dump.h - what kernels give, kept in a file: HEARTH_CUDA_DUMP=FILE makes
 * each copy from the device append a record, so that the same program run in
 * the simulator and on a chip can be compared (tests/gpu/compare.py).
 *
 * A record: the name of the kernel looked up last in 48 bytes, the length in 8,
 * the bytes.
 */
#ifndef HEARTH_TESTS_CUDA_DUMP_H
#define HEARTH_TESTS_CUDA_DUMP_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cu_func;
struct cu_module;

static struct {
	int fd;
	char kernel[48];
	int (*function)(struct cu_func **f, struct cu_module *m,
			const char *name);
	int (*copy)(void *to, uint64_t from, size_t n);
} cuda_dump;

static inline int dump_function(struct cu_func **f, struct cu_module *m,
				const char *name)
{
	memset(cuda_dump.kernel, 0, sizeof(cuda_dump.kernel));
	memcpy(cuda_dump.kernel, name,
	       strnlen(name, sizeof(cuda_dump.kernel) - 1));
	return cuda_dump.function(f, m, name);
}

static inline void dump_bytes(const void *p, size_t n)
{
	if (write(cuda_dump.fd, p, n) != (ssize_t)n)
		abort();
}

static inline int dump_copy(void *to, uint64_t from, size_t n)
{
	uint64_t bytes = n;
	int rc = cuda_dump.copy(to, from, n);

	if (rc)
		return rc;
	dump_bytes(cuda_dump.kernel, sizeof(cuda_dump.kernel));
	dump_bytes(&bytes, sizeof(bytes));
	dump_bytes(to, n);
	return 0;
}

/* Put ourselves in front of the two calls, once for each time they are found. */
static inline void dump_calls(int (**function)(struct cu_func **f,
					       struct cu_module *m,
					       const char *name),
			      int (**copy)(void *to, uint64_t from, size_t n))
{
	const char *path = getenv("HEARTH_CUDA_DUMP");

	if (!path)
		return;
	cuda_dump.fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (cuda_dump.fd < 0)
		abort();
	cuda_dump.function = *function;
	cuda_dump.copy = *copy;
	*function = dump_function;
	*copy = dump_copy;
}

#endif
