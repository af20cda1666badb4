/* SPDX-License-Identifier: MIT */
/* code.c - kernels: loaded, launched, captured as a graph. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../log.h"
#include "device.h"

#define FATBIN_MAGIC 0xba55ed50u

struct fatbin {
	uint32_t magic;
	uint16_t version;
	uint16_t header;
	uint64_t bytes;
};

/* The driver is not told how long the image is, and believes what is in it. */
static int check_image(struct cu_dev *d, const void *image, size_t bytes)
{
	struct fatbin f = { 0 };

	memcpy(&f, image, bytes < sizeof(f) ? bytes : sizeof(f));
	if (f.magic != FATBIN_MAGIC) {
		if (bytes && memchr(image, 0, bytes))
			return 0;
		return cu_fail(d, -ENOEXEC,
			       "cuda: kernels are no fatbin and no text with "
			       "an end");
	}
	if (bytes < sizeof(f) || f.header > bytes || f.header < sizeof(f) ||
	    f.bytes > bytes - f.header)
		return cu_fail(d, -ENOEXEC,
			       "cuda: a fatbin of %zu bytes says it has %llu",
			       bytes, (unsigned long long)f.bytes + f.header);
	return 0;
}

/* The compiler's first words, on one line, behind what the driver said. */
static void add_log(struct cu_dev *d, const char *log)
{
	size_t n = strlen(d->why);
	size_t i;

	snprintf(d->why + n, sizeof(d->why) - n, ": %s", log);
	for (i = n; d->why[i]; i++)
		if (d->why[i] == '\n')
			d->why[i] = d->why[i + 1] ? ' ' : 0;
}

static int load(struct cu_dev *d, struct cu_module **m, const void *image)
{
	char info[2048] = "";
	char error[2048] = "";
	int option[] = { CU_JIT_INFO, CU_JIT_INFO_BYTES, CU_JIT_ERROR,
			 CU_JIT_ERROR_BYTES };
	void *value[] = { info, (void *)sizeof(info), error,
			  (void *)sizeof(error) };
	int rc;

	rc = CU(d, cuModuleLoadDataEx(m, image, 4, option, value),
		"loading kernels for sm_%d", d->id.sm);
	info[sizeof(info) - 1] = 0;
	error[sizeof(error) - 1] = 0;
	if (rc && *error)
		add_log(d, error);
	else if (*info)
		log_debug("cuda: %s", info);
	return rc;
}

int cu_code_load(struct cu_dev *d, struct cu_module **m, const void *image,
		 size_t bytes, const char *const names[], struct cu_func *fns[],
		 size_t n)
{
	size_t i;
	int rc;

	*m = NULL;
	rc = check_image(d, image, bytes);
	if (rc)
		return rc;
	rc = load(d, m, image);
	if (rc) {
		*m = NULL;
		return rc;
	}
	for (i = 0; i < n && !rc; i++)
		rc = CU(d, cuModuleGetFunction(&fns[i], *m, names[i]),
			"looking for kernel %s", names[i]);
	if (rc)
		cu_code_unload(d, m);
	return rc;
}

void cu_code_unload(struct cu_dev *d, struct cu_module **m)
{
	if (*m)
		CU_DROP(d, cuModuleUnload(*m));
	*m = NULL;
}

int cu_run(struct cu_dev *d, const struct cu_run *l, struct cu_stream *s,
	   void *params[])
{
	struct cu_attr pdl = { .id = CU_ATTR_PDL, .value.i = 1 };
	struct cu_launch_config c = {
		.grid = { l->grid[0], l->grid[1], l->grid[2] },
		.block = { l->block[0], l->block[1], l->block[2] },
		.shared = l->shared,
		.stream = s,
		.attr = l->pdl ? &pdl : NULL,
		.n_attr = l->pdl,
	};

	return CU(d, cuLaunchKernelEx(&c, l->fn, params, NULL),
		  "launching %s <%u,%u,%u x %u>", l->name, l->grid[0],
		  l->grid[1], l->grid[2], l->block[0]);
}

int cu_capture_begin(struct cu_dev *d, struct cu_stream *s)
{
	return CU(d, cuStreamBeginCapture(s, CU_CAPTURE_THREAD),
		  "capturing a graph");
}

int cu_capture_end(struct cu_dev *d, struct cu_stream *s, int rc,
		   struct cu_exec **x)
{
	struct cu_graph *g = NULL;

	*x = NULL;
	if (rc) {
		/* Ended all the same, or the stream would be of no use. */
		CU_DROP(d, cuStreamEndCapture(s, &g));
	} else {
		rc = CU(d, cuStreamEndCapture(s, &g), "capturing a graph");
	}
	if (!rc)
		rc = CU(d, cuGraphInstantiateWithFlags(x, g, 0),
			"instantiating a graph");
	if (rc)
		*x = NULL;
	if (g)
		CU_DROP(d, cuGraphDestroy(g));
	if (!rc && d->drv.cuGraphUpload)
		rc = CU(d, cuGraphUpload(*x, s), "uploading a graph");
	if (rc)
		cu_exec_free(d, x);
	return rc;
}

void cu_exec_free(struct cu_dev *d, struct cu_exec **x)
{
	if (*x)
		CU_DROP(d, cuGraphExecDestroy(*x));
	*x = NULL;
}
