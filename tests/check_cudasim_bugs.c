/* SPDX-License-Identifier: MIT */
/* check_cudasim_bugs.c - each planted bug is an error that says what it is. */
#include <stdbool.h>

#include "cudasim_rig.h"

#define SEEDS 5

/* The error is sticky, and told with the kernel and SAYS. */
static void caught(int error, const char *kernel, const char *says)
{
	uint64_t at;

	ck_assert_msg(cu.cuCtxSynchronize() == error, "not %d: %s", error,
		      said());
	ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 4), error);
	ck_assert_msg(strstr(said(), kernel) != NULL, "%s: %s", kernel, said());
	ck_assert_msg(strstr(said(), says) != NULL, "%s: %s", says, said());
}

START_TEST(missing_barrier)
{
	static float x[4096];
	uint64_t dx, dout;
	size_t n = COUNT(x);

	rig_open(_i, "warp.ptx");
	dx = dev_with(x, sizeof(x));
	dout = dev_with(x, 4);
	ck_assert_int_eq(launch("reduce_racy", 2, 256, 0, NULL,
				ARGS(&dx, &dout, &n)),
			 0);
	caught(CU_LAUNCH_FAILED, "reduce_racy", "with no barrier between");
}
END_TEST

START_TEST(copy_read_early)
{
	static int8_t w[4 * 4096];
	uint64_t dw, dy;
	int k = 4096;

	rig_open(_i, "warp.ptx");
	dw = dev_with(w, sizeof(w));
	dy = dev_new(64);
	ck_assert_int_eq(launch("gemv_early", 1, 128, 4 * 3 * 512, NULL,
				ARGS(&dw, &dw, &dw, &dy, &k)),
			 0);
	caught(CU_LAUNCH_FAILED, "gemv_early", "before an asynchronous copy");
}
END_TEST

START_TEST(out_of_bounds)
{
	uint64_t at;
	int n = 64;

	rig_open(_i, "warp.ptx");
	at = dev_new(64 * 4);
	ck_assert_int_eq(launch("oob", 1, 32, 0, NULL, ARGS(&at, &n)), 0);
	caught(CU_ILLEGAL_ADDRESS, "oob, block (0,0,0), thread 5, PTX line",
	       "12 bytes behind the 256");
}
END_TEST

START_TEST(prefetched_out_of_bounds)
{
	static const struct {
		uint32_t n, more;
		int error;
		const char *says;
	} c[] = {
		{ 1025, 0, CU_ILLEGAL_ADDRESS, "prefetches 1 bytes from" },
		{ 1024, 16, CU_ILLEGAL_ADDRESS, "prefetches 1040 bytes from" },
		{ 1024, 8, CU_MISALIGNED, "prefetch of 1032 bytes from" },
	};
	uint32_t n = 1024, more = 0;
	uint64_t at;

	rig_open(1, "warp.ptx");
	at = dev_new(1024);
	ck_assert_int_eq(
		launch("ahead_k", 1, 64, 0, NULL, ARGS(&at, &n, &more)), 0);
	OK(cuCtxSynchronize());
	n = c[_i].n;
	more = c[_i].more;
	ck_assert_int_eq(
		launch("ahead_k", 1, 64, 0, NULL, ARGS(&at, &n, &more)), 0);
	caught(c[_i].error, "ahead_k", c[_i].says);
}
END_TEST

START_TEST(shared_out_of_bounds)
{
	uint64_t at;
	int n = 100;

	rig_open(_i, "warp.ptx");
	at = dev_new(512);
	ck_assert_int_eq(launch("shared_oob", 1, 32, 512, NULL, ARGS(&at, &n)),
			 0);
	caught(CU_ILLEGAL_ADDRESS, "shared_oob, block (0,0,0), thread 28",
	       "4 bytes at 512 of 512 bytes of shared memory");
}
END_TEST

START_TEST(freed_memory)
{
	uint64_t at;
	int n = 8;

	rig_open(_i, "warp.ptx");
	at = dev_new(256);
	OK(cuMemFree_v2(at));
	ck_assert_int_eq(launch("oob", 1, 32, 0, NULL, ARGS(&at, &n)), 0);
	caught(CU_ILLEGAL_ADDRESS, "oob", "outside every allocation");
}
END_TEST

START_TEST(misaligned)
{
	uint64_t at;

	rig_open(_i, "warp.ptx");
	at = dev_new(256);
	ck_assert_int_eq(launch("misaligned", 1, 8, 0, NULL, ARGS(&at)), 0);
	caught(CU_MISALIGNED, "misaligned, block (0,0,0), thread 1",
	       "not aligned");
}
END_TEST

START_TEST(half_barrier)
{
	uint64_t at;

	rig_open(_i, "warp.ptx");
	at = dev_new(512);
	ck_assert_int_eq(launch("half_barrier", 1, 128, 0, NULL, ARGS(&at)), 0);
	caught(CU_ILLEGAL_INSTRUCTION, "half_barrier",
	       "64 threads wait at a barrier, 64 of 128 have returned");
}
END_TEST

START_TEST(grid_too_large)
{
	uint64_t bar;

	setenv("CUDASIM_WATCHDOG", "0.3", 1);
	setenv("CUDASIM_SMS", "4", 1);
	rig_open(_i, "hopper.ptx");
	bar = dev_new(4);
	OK(cuMemsetD32_v2(bar, 0, 1));
	ck_assert_int_eq(launch("grid_barrier", 4, 64, 0, NULL, ARGS(&bar)), 0);
	OK(cuCtxSynchronize());
	OK(cuMemsetD32_v2(bar, 0, 1));
	ck_assert_int_eq(launch("grid_barrier", 5, 64, 0, NULL, ARGS(&bar)), 0);
	caught(CU_TIMEOUT, "grid_barrier", "blocks that are not resident");
}
END_TEST

static void ring(int seed, const char *name, const char *says)
{
	enum { CHUNKS = 23, N = CHUNKS * 1024 };
	static float x[N];
	uint64_t dx, dpart, dbar;
	int chunks = CHUNKS;

	rig_open(seed, "hopper.ptx");
	dx = dev_with(x, sizeof(x));
	dpart = dev_new(64);
	dbar = dev_new(4);
	OK(cuMemsetD32_v2(dbar, 0, 1));
	ck_assert_int_eq(launch(name, 3, 128, 128 + 2 * 4096 + 64, NULL,
				ARGS(&dx, &dpart, &dpart, &dbar, &chunks)),
			 0);
	caught(CU_LAUNCH_FAILED, name, says);
}

START_TEST(ring_refilled_early)
{
	ring(_i, "persist_refill", "shared memory at");
}
END_TEST

START_TEST(ring_read_early)
{
	ring(_i, "persist_nowait", "read");
}
END_TEST

static void wgmma_bug(int seed, const char *name, const char *says)
{
	enum { K = 256 };
	static uint16_t a[64 * K];
	_Alignas(64) uint8_t map[128];
	uint64_t da, dc;
	int k = K;

	rig_open(seed, "hopper.ptx");
	da = dev_with(a, sizeof(a));
	dc = dev_new(64 * 64 * 4);
	OK(cuTensorMapEncodeTiled(map, 9, 2, (void *)(uintptr_t)da,
				  (uint64_t[]){ K, 64 }, (uint64_t[]){ K * 2 },
				  (uint32_t[]){ 64, 64 }, (uint32_t[]){ 1, 1 },
				  0, 3, 0, 0));
	ck_assert_int_eq(
		launch(name, 1, 128, 32768, NULL, ARGS(map, map, &dc, &k)), 0);
	caught(CU_LAUNCH_FAILED, name, says);
}

START_TEST(wgmma_not_waited)
{
	wgmma_bug(_i, "hop_nowait", "wgmma");
}
END_TEST

START_TEST(wgmma_stage_refilled)
{
	wgmma_bug(_i, "hop_early", "shared memory at");
}
END_TEST

/* Two streams and one buffer, with an event between them or without. */
static void two_streams(int seed, bool event)
{
	static float x[1000];
	struct cu_stream *s[2];
	struct cu_event *e;
	uint64_t dx;
	int n = COUNT(x), i;
	float by = 2;

	rig_open(seed, "warp.ptx");
	dx = dev_with(x, sizeof(x));
	OK(cuEventCreate(&e, 0));
	for (i = 0; i < 2; i++)
		OK(cuStreamCreate(&s[i], 1));
	ck_assert_int_eq(launch("scale_k", 8, 128, 0, s[0], ARGS(&dx, &by, &n)),
			 0);
	if (event) {
		OK(cuEventRecord(e, s[0]));
		OK(cuStreamWaitEvent(s[1], e, 0));
	}
	ck_assert_int_eq(launch("scale_k", 8, 128, 0, s[1], ARGS(&dx, &by, &n)),
			 0);
	if (!event)
		return;
	ck_assert_msg(!cu.cuStreamSynchronize(s[1]), "%s", said());
	OK(cuMemcpyDtoH_v2(x, dx, sizeof(x)));
	ck_assert_float_eq(x[999], 3);
}

START_TEST(missing_event)
{
	two_streams(_i, false);
	caught(CU_ILLEGAL_ADDRESS, "scale_k", "no event orders it");
}
END_TEST

START_TEST(event_is_enough)
{
	two_streams(_i, true);
}
END_TEST

/* A kernel that may begin before its predecessor is done. */
static uint64_t dependent(int seed, const char *name)
{
	struct cu_attr pdl = { .id = CU_ATTR_PDL, .value.i = 1 };
	struct cu_launch_config c = {
		.grid = { 8, 1, 1 },
		.block = { 128, 1, 1 },
		.attr = &pdl,
		.n_attr = 1,
	};
	uint64_t dx, dy;
	int n = 1000;

	rig_open(seed, "warp.ptx");
	OK(cuStreamCreate(&c.stream, 1));
	dx = dev_new(4000);
	dy = dev_new(4000);
	ck_assert_int_eq(launch("first_k", 8, 128, 0, c.stream, ARGS(&dx, &n)),
			 0);
	OK(cuLaunchKernelEx(&c, func(name), ARGS(&dx, &dy, &n), NULL));
	return dy;
}

START_TEST(dependent_waits)
{
	uint64_t dy = dependent(_i, "dependent_ok");
	float y[1000];

	ck_assert_msg(!cu.cuCtxSynchronize(), "%s", said());
	OK(cuMemcpyDtoH_v2(y, dy, sizeof(y)));
	ck_assert_float_eq(y[999], 1998);
}
END_TEST

START_TEST(dependent_early)
{
	dependent(_i, "dependent_early");
	caught(CU_ILLEGAL_ADDRESS, "dependent_early", "griddepcontrol.wait");
}
END_TEST

static void refused(const char *ptx, const char *says)
{
	rig_init(1);
	ck_assert_int_eq(cu.cuModuleLoadData(&module, ptx), CU_INVALID_PTX);
	ck_assert_msg(strstr(said(), says) != NULL, "%s: %s", says, said());
}

#define KERNEL(body)                                                           \
	".version 9.0\n.target sm_90a\n.visible .entry k(\n.param .u64 p\n)\n" \
	"{\n.reg .b32 %r<4>;\n" body "\n}\n"

static const struct {
	const char *ptx;
	const char *says;
} broken[] = {
	{ KERNEL("frobnicate.b32 %r1, %r2;"), "not known: frobnicate" },
	{ KERNEL("add.q7 %r1, %r2, %r3;"), "modifier that is not known: q7" },
	{ KERNEL("add.s32 %r1, %r2;"), "so many operands" },
	{ KERNEL("add.s32 %r1, %r2, %r9;"), "not declared: %r9" },
	{ KERNEL("add.s32 %r1, %r2, 1x;"), "no number: 1x" },
	{ KERNEL("add.rz.f16 %r1, %r2, %r3;"), "rounding that is not" },
	{ KERNEL("bra nowhere;"), "line 8: a label that is nowhere" },
	{ KERNEL("@%p1 ret;"), "guard that is not declared" },
	{ KERNEL("ld.global.b32 %r1, [%r2;"), "not closed" },
	{ KERNEL("ret"), "without an end" },
	{ KERNEL("{"), "a kernel without an end" },
	{ "}", "a brace outside kernels" },
	{ "add.s32 %r1, %r2, %r3;", "an instruction outside kernels" },
};

START_TEST(broken_ptx)
{
	refused(broken[_i].ptx, broken[_i].says);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cudasim bugs");
	TCase *t = tcase_create("planted");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, missing_barrier, 1, 1 + SEEDS);
	tcase_add_loop_test(t, copy_read_early, 1, 1 + SEEDS);
	tcase_add_loop_test(t, out_of_bounds, 1, 1 + SEEDS);
	tcase_add_loop_test(t, prefetched_out_of_bounds, 0, 3);
	tcase_add_loop_test(t, shared_out_of_bounds, 1, 1 + SEEDS);
	tcase_add_loop_test(t, freed_memory, 1, 2);
	tcase_add_loop_test(t, misaligned, 1, 1 + SEEDS);
	tcase_add_loop_test(t, half_barrier, 1, 1 + SEEDS);
	tcase_add_loop_test(t, grid_too_large, 1, 1 + SEEDS);
	tcase_add_loop_test(t, ring_refilled_early, 1, 1 + SEEDS);
	tcase_add_loop_test(t, ring_read_early, 1, 1 + SEEDS);
	tcase_add_loop_test(t, wgmma_not_waited, 1, 1 + SEEDS);
	/* in one of them a warp misses its phase, and waits for ever */
	tcase_add_loop_test(t, wgmma_stage_refilled, 1, 15);
	tcase_add_loop_test(t, missing_event, 1, 1 + SEEDS);
	tcase_add_loop_test(t, event_is_enough, 1, 1 + SEEDS);
	tcase_add_loop_test(t, dependent_waits, 1, 1 + SEEDS);
	tcase_add_loop_test(t, dependent_early, 1, 1 + SEEDS);
	tcase_add_loop_test(t, broken_ptx, 0, COUNT(broken));
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return rig_run(suite());
}
