/* SPDX-License-Identifier: MIT */
/*
 * bench_launch.c - hearth bench hw: what it takes to launch a kernel, one by
 * one and in graphs, and to tell the host, or be told by it.
 */
#include "bench_gpu.h"

#include <errno.h>
#include <stdatomic.h>

#define CHAIN	200 /* twice as many are in a queue that holds 1024 */
#define TRIPS	2000
#define REPS	5
#define HOST_NS 5000000000ull /* until a flag that does not come is given up */

struct chain {
	unsigned int n;
	bool pdl;
	double host_s; /* of putting them into the queue */
};

static int queue(struct gpu_bench *b, struct chain *c)
{
	enum hw_kernel k = c->pdl ? HW_PDL : HW_EMPTY;
	uint64_t t = now_ns();
	unsigned int i;
	int rc = 0;

	for (i = 0; i < c->n && !rc; i++)
		rc = gpu_launch(b, k, 1, 32, c->pdl, NULL);
	c->host_s = (double)(now_ns() - t) * 1e-9;
	return rc;
}

static void set_flags(struct gpu_bench *b, uint32_t host, uint32_t kernel)
{
	b->flag[0] = host;
	b->flag[1] = kernel;
	atomic_thread_fence(memory_order_seq_cst);
}

static int held(struct gpu_bench *b, struct chain *c, double *s)
{
	void *hold[] = { &b->flag_at };
	struct cu_dev *d = &b->dev;
	float ms;
	int rc;

	set_flags(b, 0, 0);
	rc = gpu_launch(b, HW_HOLD, 1, 1, false, hold);
	if (!rc)
		rc = CU(d, cuEventRecord(b->from, d->compute), "measuring");
	if (!rc)
		rc = queue(b, c);
	if (!rc)
		rc = CU(d, cuEventRecord(b->to, d->compute), "measuring");
	/* also after a failure, or the kernel waits for it */
	b->flag[0] = 1;
	if (!rc)
		rc = cu_wait(d, b->to, "measuring launches");
	if (!rc && b->flag[1] != 1)
		rc = cu_fail(d, -ETIMEDOUT,
			     "the kernel that others are queued behind gave "
			     "up: are launches waited for (CUDA_LAUNCH_"
			     "BLOCKING)?");
	if (!rc)
		rc = CU(d, cuEventElapsedTime(&ms, b->from, b->to),
			"measuring");
	*s = rc ? 0 : ms * 1e-3;
	return rc;
}

/* From one kernel's end to the next one's: what twice as many take more, with
 * all in the queue before the first begins. */
static int bench_gap(struct gpu_bench *b, bool pdl)
{
	struct chain c = { .pdl = pdl };
	unsigned int n = b->sim ? 2 : CHAIN;
	double best[2] = { -1, -1 };
	double host = -1;
	double s;
	int half;
	int rc;
	int i;

	for (i = 0; i < (b->sim ? 1 : REPS); i++) {
		for (half = 0; half < 2; half++) {
			if (tool_interrupted)
				return -EINTR;
			c.n = half ? 2 * n : n;
			rc = held(b, &c, &s);
			if (rc)
				return rc;
			if (best[half] < 0 || s < best[half])
				best[half] = s;
			if (host < 0 || c.host_s / c.n < host)
				host = c.host_s / c.n;
		}
	}
	s = (best[1] - best[0]) / n;
	gpu_row(b, pdl ? "gap_pdl" : "gap",
		pdl ? "kernel to kernel, dependent launch" : "kernel to kernel",
		GPU_TIME, s > 0 ? s : 0, "%u empty kernels in a stream", 2 * n);
	if (!pdl)
		gpu_row(b, "host_launch", "host: a launch", GPU_TIME, host,
			"returns from cuLaunchKernelEx");
	return 0;
}

/* ----------------------------------------------------------------- graphs */

static int capture(struct gpu_bench *b, struct chain *c, struct cu_exec **x)
{
	int rc = cu_capture_begin(&b->dev, b->dev.compute);

	if (rc)
		return rc;
	return cu_capture_end(&b->dev, b->dev.compute, queue(b, c), x);
}

struct replay {
	struct cu_exec *x;
	double host_s;
};

static int replay(struct gpu_bench *b, void *arg)
{
	struct replay *r = arg;
	uint64_t t = now_ns();
	int rc = CU(&b->dev, cuGraphLaunch(r->x, b->dev.compute),
		    "launching a graph");
	double s = (double)(now_ns() - t) * 1e-9;

	if (r->host_s < 0 || s < r->host_s)
		r->host_s = s;
	return rc;
}

static int bench_graph(struct gpu_bench *b, bool pdl)
{
	unsigned int n = b->sim ? 2 : CHAIN;
	struct replay r = { .host_s = -1 };
	double s[2] = { 0, 0 };
	int half;
	int rc = 0;

	for (half = 0; half < 2 && !rc; half++) {
		struct chain c = { .n = half ? 2 * n : n, .pdl = pdl };

		rc = capture(b, &c, &r.x);
		if (!rc) /* the first time is its upload */
			rc = gpu_timed(b, b->sim ? 1 : 2 * REPS, replay, &r,
				       &s[half]);
		cu_exec_free(&b->dev, &r.x);
	}
	if (rc)
		return rc;
	s[0] = (s[1] - s[0]) / n;
	gpu_row(b, pdl ? "node_pdl" : "node",
		pdl ? "graph: node to node, dependent launch"
		    : "graph: node to node",
		GPU_TIME, s[0] > 0 ? s[0] : 0, "%u empty kernels in a graph",
		2 * n);
	if (!pdl)
		gpu_row(b, "host_graph", "host: a launch of a graph", GPU_TIME,
			r.host_s, "returns from cuGraphLaunch, %u nodes",
			2 * n);
	return 0;
}

/* ------------------------------------------------------------ round trips */

static int wait_event(struct gpu_bench *b)
{
	struct cu_dev *d = &b->dev;
	int rc = CU(d, cuEventRecord(b->to, d->compute), "measuring");

	return rc ? rc : cu_wait(d, b->to, "measuring a round trip");
}

/* Launch an empty kernel and wait: looking, or asleep. */
static int bench_trip(struct gpu_bench *b, bool asleep)
{
	unsigned int n = b->sim ? 3 : TRIPS;
	double best = -1;
	double sum = 0;
	unsigned int i;
	uint64_t t;
	double s;
	int rc;

	for (i = 0; i < n; i++) {
		if (tool_interrupted)
			return -EINTR;
		t = now_ns();
		rc = gpu_launch(b, HW_EMPTY, 1, 32, false, NULL);
		if (!rc)
			rc = asleep ? gpu_sync(b) : wait_event(b);
		if (rc)
			return rc;
		s = (double)(now_ns() - t) * 1e-9;
		sum += s;
		if (best < 0 || s < best)
			best = s;
	}
	gpu_row(b, asleep ? "trip_asleep" : "trip_looking",
		asleep ? "launch and wait, asleep" : "launch and wait, looking",
		GPU_TIME, sum / n,
		b->sim ? "mean" : "mean of %u, the shortest %.2f us", n,
		best * 1e6);
	return 0;
}

/* A kernel that answers flags in the host's memory. */
static int bench_flag(struct gpu_bench *b)
{
	uint32_t n = b->sim ? 3 : TRIPS;
	void *ping[] = { &b->flag_at, &n };
	uint64_t start = 0;
	uint64_t t = 0;
	uint32_t i;
	int rc;

	set_flags(b, 0, 0);
	rc = gpu_launch(b, HW_PING, 1, 1, false, ping);
	for (i = 1; i <= n && !rc; i++) {
		/* The first answer is that of the launch, too. */
		start = i <= 2 ? now_ns() : start;
		b->flag[0] = i;
		t = now_ns();
		while (b->flag[1] != i && !rc)
			if (now_ns() - t > HOST_NS)
				rc = cu_fail(&b->dev, -ETIMEDOUT,
					     "flag %u in the host's memory: no "
					     "answer from the GPU",
					     i);
	}
	if (rc) { /* let it end */
		b->flag[0] = n;
		return rc;
	}
	t = now_ns();
	rc = gpu_sync(b);
	if (!rc)
		gpu_row(b, "flag", "flag to the GPU and back", GPU_TIME,
			(double)(t - start) * 1e-9 / (n - 1),
			"mean of %u, in the host's memory", n - 1);
	return rc;
}

int gpu_bench_launches(struct gpu_bench *b)
{
	bool pdl = b->dev.id.sm >= 90;
	int rc = bench_gap(b, false);

	if (!rc && pdl)
		rc = bench_gap(b, true);
	if (!rc)
		rc = bench_graph(b, false);
	if (!rc && pdl)
		rc = bench_graph(b, true);
	if (!rc)
		rc = bench_trip(b, false);
	if (!rc)
		rc = bench_trip(b, true);
	return rc ? rc : bench_flag(b);
}
