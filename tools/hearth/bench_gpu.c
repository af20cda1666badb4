/* SPDX-License-Identifier: MIT */
/*
 * bench_gpu.c - hearth bench hw: a GPU, what it is and how fast its memory can
 * be read and copied by kernels. Decoding is measured against the reading.
 */
#include "bench_gpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_BYTES ((uint64_t)2 << 30) /* far beyond any L2 */
#define SIM_BYTES     ((uint64_t)64 << 10)
#define REPS	      10
#define SPIN_US	      2000

/* From hw.fatbin; empty if there was no CUDA compiler. */
extern const uint8_t cu_hw_begin[], cu_hw_end[];

/* ------------------------------------------------------------ reporting */

static void print_value(char out[32], enum gpu_unit unit, double v)
{
	if (v < 0)
		snprintf(out, 32, "-");
	else if (unit == GPU_RATE)
		snprintf(out, 32, "%.1f GB/s", v / 1e9);
	else if (unit == GPU_PER_GIB)
		snprintf(out, 32, "%.1f ms/GiB", v * 1e3);
	else
		snprintf(out, 32, "%.2f us", v * 1e6);
}

void gpu_row(struct gpu_bench *b, const char *key, const char *what,
	     enum gpu_unit unit, double value, const char *how, ...)
{
	static const char *const units[] = { "bytes/s", "s/GiB", "s" };
	char text[32];
	char *note;
	json_t *row;
	va_list ap;

	va_start(ap, how);
	note = xvasprintf(how, ap);
	va_end(ap);
	if (b->sim && value >= 0)
		snprintf(text, sizeof(text), "ran");
	else
		print_value(text, unit, value);
	table_cell(&b->t, "%s", what);
	table_cell(&b->t, "%s", text);
	table_cell(&b->t, "%s", note);
	row = json_pack("{s:s, s:s, s:s, s:s, s:b}", "key", key, "what", what,
			"unit", units[unit], "how", note, "ran", value >= 0);
	if (value >= 0 && !b->sim)
		json_object_set_new(row, "value", json_real(value));
	json_array_append_new(b->rows, row);
	free(note);
}

/* ------------------------------------------------------------- measuring */

int gpu_launch(struct gpu_bench *b, enum hw_kernel k, uint32_t grid,
	       uint32_t block, bool pdl, void *params[])
{
	struct cu_run l = {
		.fn = b->fn[k],
		.name = "a kernel to measure",
		.grid = { grid, 1, 1 },
		.block = { block, 1, 1 },
		.pdl = pdl,
	};

	return cu_run(&b->dev, &l, b->dev.compute, params);
}

int gpu_sync(struct gpu_bench *b)
{
	return CU(&b->dev, cuStreamSynchronize(b->dev.compute),
		  "waiting for what is measured");
}

int gpu_timed(struct gpu_bench *b, unsigned int reps,
	      int (*work)(struct gpu_bench *b, void *arg), void *arg,
	      double *seconds)
{
	struct cu_dev *d = &b->dev;
	unsigned int i;
	float ms;
	int rc;

	*seconds = -1;
	for (i = 0; i < reps; i++) {
		if (tool_interrupted)
			return -EINTR;
		rc = CU(d, cuEventRecord(b->from, d->compute), "measuring");
		if (!rc)
			rc = work(b, arg);
		if (!rc)
			rc = CU(d, cuEventRecord(b->to, d->compute),
				"measuring");
		if (!rc)
			rc = cu_wait(d, b->to, "measuring");
		if (!rc)
			rc = CU(d, cuEventElapsedTime(&ms, b->from, b->to),
				"measuring");
		if (rc)
			return rc;
		if (*seconds < 0 || ms * 1e-3 < *seconds)
			*seconds = ms * 1e-3;
	}
	return 0;
}

/* ------------------------------------------------------ memory by kernels */

struct sweep {
	enum hw_kernel kernel;
	uint32_t grid;
	uint32_t block;
	uint64_t at[2];
	uint64_t out;
};

static int sweep_once(struct gpu_bench *b, void *arg)
{
	struct sweep *s = arg;
	uint64_t n = b->bytes / 16;
	void *reads[] = { &s->at[0], &n, &s->out };
	void *copies[] = { &s->at[1], &s->at[0], &n };

	return gpu_launch(b, s->kernel, s->grid, s->block, false,
			  s->kernel == HW_READ ? reads : copies);
}

static int dtod(struct gpu_bench *b, void *arg)
{
	struct sweep *s = arg;
	struct cu_dev *d = &b->dev;

	return CU(d,
		  cuMemcpyDtoDAsync(s->at[1], s->at[0], b->bytes, d->compute),
		  "copying on the device");
}

/* The best of some shapes of grid: no one shape is best on every chip. */
static int best_sweep(struct gpu_bench *b, struct sweep *s, const char *key,
		      const char *what, double bytes)
{
	static const uint32_t threads[] = { 256, 512, 1024 };
	uint32_t best_block = 0;
	uint32_t best_per = 0;
	double best = -1;
	double v = 0;
	uint32_t per;
	size_t i;
	int rc;

	for (i = 0; i < N_ELEM(threads); i++) {
		for (per = 1; per * threads[i] <= 2048; per *= 2) {
			s->block = threads[i];
			s->grid = per * (uint32_t)b->dev.n_sm;
			rc = gpu_timed(b, b->sim ? 1 : REPS, sweep_once, s, &v);
			if (rc)
				return rc;
			if (best >= 0 && v >= best)
				continue;
			best = v;
			best_block = threads[i];
			best_per = per;
		}
		if (b->sim)
			break;
	}
	gpu_row(b, key, what, GPU_RATE, bytes / best,
		"kernel, %u x %u threads a multiprocessor", best_per,
		best_block);
	return 0;
}

static int get_buffers(struct gpu_bench *b, struct sweep *s)
{
	struct cu_dev *d = &b->dev;
	uint64_t n = b->bytes / 8;
	int rc = CU(d, cuMemAlloc(&s->out, 4), "getting memory");
	int i;

	for (i = 0; i < 2 && !rc; i++)
		rc = CU(d, cuMemAlloc(&s->at[i], b->bytes),
			"getting %llu bytes", (unsigned long long)b->bytes);
	if (!rc)
		rc = gpu_launch(b, HW_FILL, 4 * (uint32_t)d->n_sm, 256, false,
				(void *[]){ &s->at[0], &n });
	if (!rc)
		rc = CU(d, cuMemsetD8Async(s->at[1], 0, b->bytes, d->compute),
			"clearing a buffer");
	return rc ? rc : gpu_sync(b);
}

/* The end of the copy is there: a kernel that does less is faster. */
static int check_copy(struct gpu_bench *b, const struct sweep *s)
{
	uint64_t n = b->bytes / 8;
	uint64_t v = 0;
	int rc = cu_get(&b->dev, &v, s->at[1] + b->bytes - 8, 8);

	if (!rc && v != n * 0x9e3779b97f4a7c15)
		rc = cu_fail(&b->dev, -EIO,
			     "the copy on the device ends in %#llx, not %#llx",
			     (unsigned long long)v,
			     (unsigned long long)(n * 0x9e3779b97f4a7c15));
	return rc;
}

static int bench_memory(struct gpu_bench *b)
{
	struct sweep s = { .kernel = HW_READ };
	double n = (double)b->bytes;
	double v = 0;
	int rc = get_buffers(b, &s);
	int i;

	if (!rc)
		rc = best_sweep(b, &s, "read", "device memory, read", n);
	s.kernel = HW_COPY;
	if (!rc)
		rc = best_sweep(b, &s, "copy",
				"device memory, copied (read + written)",
				2 * n);
	if (!rc)
		rc = check_copy(b, &s);
	if (!rc)
		rc = gpu_timed(b, b->sim ? 1 : REPS, dtod, &s, &v);
	if (!rc)
		gpu_row(b, "copy_driver", "the same by the driver", GPU_RATE,
			2 * n / v, "cuMemcpyDtoDAsync");
	for (i = 0; i < 2; i++)
		if (s.at[i])
			CU_DROP(&b->dev, cuMemFree(s.at[i]));
	if (s.out)
		CU_DROP(&b->dev, cuMemFree(s.out));
	return rc;
}

/* ------------------------------------------------------------- the device */

static size_t code_bytes(void)
{
	return (size_t)((uintptr_t)cu_hw_end - (uintptr_t)cu_hw_begin);
}

static int load_kernels(struct gpu_bench *b)
{
	static const char *const names[HW_N] = {
		[HW_FILL] = "hw_fill", [HW_READ] = "hw_read",
		[HW_COPY] = "hw_copy", [HW_EMPTY] = "hw_empty",
		[HW_PDL] = "hw_pdl",   [HW_HOLD] = "hw_hold",
		[HW_PING] = "hw_ping",
	};

	return cu_code_load(&b->dev, &b->code, cu_hw_begin, code_bytes(), names,
			    b->fn, HW_N);
}

static int set_bytes(struct gpu_bench *b, uint64_t bytes)
{
	uint64_t left;
	int rc = cu_dev_left(&b->dev, &left);

	if (rc)
		return rc;
	if (!bytes)
		bytes = b->sim ? SIM_BYTES : DEFAULT_BYTES;
	if (bytes > left / 4)
		bytes = left / 4;
	b->bytes = (bytes + 4095) / 4096 * 4096;
	return 0;
}

static int open_bench(struct gpu_bench *b, uint64_t bytes)
{
	struct cu_dev *d = &b->dev;
	void *p;
	int rc;

	b->sim = !strncmp(d->id.name, "cudasim", strlen("cudasim"));
	rc = set_bytes(b, bytes);
	if (!rc)
		rc = load_kernels(b);
	if (!rc)
		rc = cu_event_new(d, &b->from, true);
	if (!rc)
		rc = cu_event_new(d, &b->to, true);
	if (!rc)
		rc = cu_pinned_new(d, 4096, &p, &b->flag_at);
	if (!rc)
		b->flag = p;
	return rc;
}

static void close_bench(struct gpu_bench *b)
{
	struct cu_dev *d = &b->dev;

	cu_event_free(d, &b->from);
	cu_event_free(d, &b->to);
	if (b->flag)
		cu_pinned_free(d, (void *)(uintptr_t)b->flag, 4096);
	cu_code_unload(d, &b->code);
	cu_dev_close(d);
}

/* Of nvidia.ko: the driver calls give CUDA's version alone. */
static void module_version(char out[32])
{
	FILE *f = fopen("/sys/module/nvidia/version", "re");

	snprintf(out, 32, "?");
	if (f && fgets(out, 32, f))
		out[strcspn(out, "\n")] = 0;
	if (f)
		fclose(f);
}

static int attribute(struct cu_dev *d, enum cu_dev_attr attr)
{
	int v = 0;

	return d->drv.cuDeviceGetAttribute(&v, attr, d->id.dev) ? 0 : v;
}

/* Clocks are the highest there are: what they are now, no driver call says. */
static json_t *describe(struct gpu_bench *b, char *line, size_t n)
{
	struct cu_dev *d = &b->dev;
	int khz = attribute(d, CU_DEV_CLOCK_KHZ);
	int mem_khz = attribute(d, CU_DEV_MEMORY_KHZ);
	int bits = attribute(d, CU_DEV_BUS_BITS);
	time_t now = time(NULL);
	char version[32];
	char date[32];
	char text[256];
	struct tm tm;

	module_version(version);
	strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&now, &tm));
	cu_dev_print(d, text, sizeof(text));
	snprintf(line, n,
		 "%s, module %s, clocks up to %d MHz, memory %d MHz x %d "
		 "bits, %s",
		 text, version, khz / 1000, mem_khz / 1000, bits, date);
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:i, s:i, s:i, "
			 "s:s, s:b, s:I}",
			 "name", d->id.name, "uuid", d->id.uuid, "pci",
			 d->id.pci, "sm", d->id.sm, "multiprocessors", d->n_sm,
			 "cuda_version", d->drv.version, "module", version,
			 "max_clock_khz", khz, "max_memory_clock_khz", mem_khz,
			 "memory_bits", bits, "date", date, "simulated", b->sim,
			 "bytes", (json_int_t)b->bytes);
}

static int measure(struct gpu_bench *b, uint64_t bytes)
{
	int rc = open_bench(b, bytes);

	if (!rc)
		rc = bench_memory(b);
	if (!rc)
		rc = gpu_bench_copies(b);
	if (!rc)
		rc = gpu_bench_launches(b);
	return rc;
}

int bench_gpu(const char *which, uint64_t bytes, bool json, json_t **out)
{
	static const char *const head[] = { "GPU", "RESULT", "HOW" };
	const struct backend_conf conf = { .spin_us = SPIN_US };
	struct gpu_bench b = { 0 };
	char line[512];
	int rc;

	*out = NULL;
	if (!code_bytes()) {
		snprintf(b.dev.why, sizeof(b.dev.why),
			 "cuda: this was built without a CUDA compiler");
		rc = -ENOTSUP;
	} else {
		rc = cu_dev_open(&b.dev, &conf, which ? which : "", NULL);
	}
	if (rc && !which) {
		tool_note("no GPU is measured: %s", b.dev.why);
		return 0;
	}
	if (rc) {
		tool_err("bench hw: %s", b.dev.why);
		return rc;
	}
	table_init(&b.t, head, N_ELEM(head), 1 << 1);
	b.rows = json_array();
	rc = measure(&b, bytes);
	*out = describe(&b, line, sizeof(line));
	json_object_set_new(*out, "rows", b.rows);
	if (!json) {
		printf("\n%s\n", line);
		if (b.sim)
			puts("This is a simulator: that a measurement ran is "
			     "all it says.");
		table_print(&b.t, stdout);
	}
	table_fini(&b.t);
	if (rc && rc != -EINTR)
		tool_err("bench hw: %s", b.dev.why);
	close_bench(&b);
	return rc;
}
