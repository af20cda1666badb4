/* SPDX-License-Identifier: MIT */
/*
 * bench_hw.c - hearth bench hw: how fast memory can be read, and a GPU if there
 * is one (bench_gpu.c).
 *
 * Decoding one token reads every weight once, so this rate bounds it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>

#include "hearth-tool.h"

#define BUF_BYTES   (256ull << 20) /* beyond any cache that matters */
#define THREADS_MAX 256
#define CHUNK	    (1u << 20)

struct reader {
	pthread_t thread;
	const uint8_t *p;
	size_t n;
	uint64_t end_ns;
	uint64_t bytes;
	uint64_t sum; /* so that the reads are not optimised away */
};

/* Four independent sums of 32 bytes: enough loads in flight. */
static uint64_t read_chunk(const uint8_t *p, size_t n)
{
	typedef uint64_t vec __attribute__((vector_size(32), aligned(32)));
	const vec *v = (const vec *)(const void *)p;
	vec a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
	size_t i;

	for (i = 0; i < n / sizeof(vec); i += 4) {
		a += v[i];
		b += v[i + 1];
		c += v[i + 2];
		d += v[i + 3];
	}
	a += b + c + d;
	return a[0] + a[1] + a[2] + a[3];
}

static void *reader(void *arg)
{
	struct reader *r = arg;
	size_t at = 0;

	while (now_ns() < r->end_ns) {
		r->sum += read_chunk(r->p + at, CHUNK);
		r->bytes += CHUNK;
		at += CHUNK;
		if (at >= r->n)
			at = 0;
	}
	return NULL;
}

static uint8_t *map_buffer(bool huge)
{
	uint8_t *p = mmap(NULL, BUF_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, BUF_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(p, 1, BUF_BYTES);
	return p;
}

/* Rate of @n threads, each over its own part of the buffer. */
static double measure(const uint8_t *buf, unsigned n, unsigned ms)
{
	struct reader *r = xrealloc(NULL, n, sizeof(*r));
	size_t part = BUF_BYTES / n / CHUNK * CHUNK;
	uint64_t start, total = 0;
	volatile uint64_t keep = 0;
	unsigned i, made;

	memset(r, 0, n * sizeof(*r));
	start = now_ns();
	for (made = 0; made < n; made++) {
		r[made].p = buf + made * part;
		r[made].n = part;
		r[made].end_ns = start + ms * 1000000ull;
		if (pthread_create(&r[made].thread, NULL, reader, r + made))
			break;
	}
	for (i = 0; i < made; i++) {
		pthread_join(r[i].thread, NULL);
		total += r[i].bytes;
		keep += r[i].sum;
	}
	(void)keep;
	start = now_ns() - start;
	free(r);
	return made ? (double)total * 1e9 / (double)start : 0;
}

double bench_read_rate(unsigned threads, unsigned ms)
{
	uint8_t *p = map_buffer(true);
	double best = 0, v;
	int i;

	if (!p)
		return 0;
	for (i = 0; i < 3; i++) {
		v = measure(p, threads, ms / 3 + 1);
		best = v > best ? v : best;
	}
	munmap(p, BUF_BYTES);
	return best;
}

static double best_of(const uint8_t *p, unsigned n)
{
	double best = 0, v;
	int i;

	for (i = 0; i < 3; i++) {
		v = measure(p, n, 100);
		best = v > best ? v : best;
	}
	return best;
}

/* The host's memory: rows of the table and of @list. */
static int bench_memory(struct table *t, json_t *list)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint8_t *small = map_buffer(false), *huge = map_buffer(true);
	unsigned n, max = cpus < 1	       ? 1
			  : cpus > THREADS_MAX ? THREADS_MAX
					       : (unsigned)cpus;
	double s, l;

	if (!small || !huge) {
		tool_err("bench hw: no memory for two buffers of %llu MiB",
			 BUF_BYTES >> 20);
		return -ENOMEM;
	}
	for (n = 1; n <= max && !tool_interrupted; n = n == max	     ? n + 1
						       : n * 2 > max ? max
								     : n * 2) {
		s = best_of(small, n);
		l = best_of(huge, n);
		table_cell(t, "%u", n);
		table_cell(t, "%.1f GB/s", s / 1e9);
		table_cell(t, "%.1f GB/s", l / 1e9);
		json_array_append_new(list,
				      json_pack("{s:i, s:f, s:f}", "threads",
						(int)n, "read_4k_bytes_per_s",
						s, "read_2m_bytes_per_s", l));
	}
	munmap(small, BUF_BYTES);
	munmap(huge, BUF_BYTES);
	return tool_interrupted ? -EINTR : 0;
}

int bench_hw(const char *device, uint64_t bytes, bool json)
{
	static const char *const head[] = { "THREADS", "4K PAGES", "2M PAGES" };
	json_t *list = json_array(), *gpu = NULL, *all;
	struct table t;
	int rc;

	table_init(&t, head, N_ELEM(head), 7);
	rc = bench_memory(&t, list);
	if (!json)
		table_print(&t, stdout);
	table_fini(&t);
	fflush(stdout);
	if (!rc && !(device && !strcmp(device, "none")))
		rc = bench_gpu(device, bytes, json, &gpu);
	all = json_pack("{s:o, s:o?}", "memory", list, "gpu", gpu);
	if (json) {
		json_dumpf(all, stdout,
			   JSON_INDENT(2) | JSON_REAL_PRECISION(6));
		putchar('\n');
	}
	json_decref(all);
	if (rc == -EINTR)
		return EXIT_INTR;
	return rc ? EXIT_FAIL : EXIT_OK;
}
