/* SPDX-License-Identifier: MIT */
/* check_cudasim_driver.c - the simulated driver's calls, and their failures. */
#include <signal.h>
#include <stdbool.h>

#include "cudasim_rig.h"

#define SEEDS 4
#define N     1000

static float by = 2;
static int n_floats = N;

static int scale(uint64_t at, struct cu_stream *s)
{
	return launch("scale_k", 8, 128, 0, s, ARGS(&at, &by, &n_floats));
}

static void same(uint64_t at, float want)
{
	float x[N];
	int i;

	ck_assert_msg(!cu.cuMemcpyDtoH_v2(x, at, sizeof(x)), "%s", said());
	for (i = 0; i < N; i++)
		ck_assert_float_eq(x[i], want);
}

static uint64_t zeros(void)
{
	uint64_t at = dev_new(N * 4);

	OK(cuMemsetD8_v2(at, 0, N * 4));
	OK(cuCtxSynchronize());
	return at;
}

START_TEST(fatbin)
{
	rig_open(1, "warp.fatbin");
	same(zeros(), 0);
	func("scale_k");
}
END_TEST

START_TEST(images)
{
	static const char elf[64] = "\177ELF";

	rig_init(1);
	ck_assert_int_eq(cu.cuModuleLoadData(&module, elf), CU_NO_BINARY);
	ck_assert_int_eq(cu.cuModuleLoadData(&module, NULL), CU_INVALID_VALUE);
	ck_assert_msg(strstr(said(), "PTX only") != NULL, "%s", said());
}
END_TEST

START_TEST(device)
{
	static const struct {
		int attr;
		int value;
	} t[] = { { 10, 32 },	  { 16, 7 },  { 75, 9 },  { 76, 0 },
		  { 97, 232448 }, { 102, 1 }, { 9999, 0 } };
	size_t left, total;
	char name[64];
	unsigned int i;
	int v;

	setenv("CUDASIM_SMS", "7", 1);
	setenv("CUDASIM_MEM", "1048576", 1);
	rig_init(1);
	for (i = 0; i < COUNT(t); i++) {
		OK(cuDeviceGetAttribute(&v, t[i].attr, 0));
		ck_assert_int_eq(v, t[i].value);
	}
	OK(cuDeviceGetName(name, sizeof(name), 0));
	ck_assert_str_eq(name, "cudasim sm_90a");
	OK(cuDeviceTotalMem_v2(&total, 0));
	ck_assert_uint_eq(total, 1048576);
	dev_new(1000000);
	OK(cuMemGetInfo_v2(&left, &total));
	ck_assert_uint_eq(left, 48576);
	ck_assert_int_eq(cu.cuMemAlloc_v2((uint64_t[1]){ 0 }, 50000),
			 CU_OUT_OF_MEMORY);
	ck_assert_int_eq(cu.cuDeviceGet(&v, 1), CU_INVALID_DEVICE);
}
END_TEST

START_TEST(contexts)
{
	struct cu_ctx *a, *b, *c;
	uint64_t at;

	rig_calls();
	ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 4), CU_NOT_INITIALIZED);
	OK(cuInit(0));
	ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 4), CU_INVALID_CONTEXT);
	OK(cuCtxCreate_v4(&a, NULL, 0, 0));
	OK(cuMemAlloc_v2(&at, 4));
	OK(cuCtxCreate_v4(&b, NULL, 0, 0));
	OK(cuCtxGetCurrent(&c));
	ck_assert_ptr_eq(c, b);
	OK(cuCtxPopCurrent_v2(&c));
	ck_assert_ptr_eq(c, b);
	OK(cuCtxDestroy_v2(a));
	ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 4), CU_INVALID_CONTEXT);
	ck_assert_int_eq(cu.cuCtxDestroy_v2(a), CU_INVALID_CONTEXT);
	OK(cuCtxSetCurrent(b));
	OK(cuMemAlloc_v2(&at, 4));
}
END_TEST

START_TEST(one_address_space)
{
	uint16_t x[N], y[N];
	uint64_t at[2];
	int d = 5;

	rig_open(_i, "warp.ptx");
	at[0] = dev_new(sizeof(x));
	at[1] = dev_new(sizeof(x));
	OK(cuMemsetD16_v2(at[0], 0x1234, N));
	OK(cuMemcpyAsync(at[1], at[0], sizeof(x), NULL));
	OK(cuMemcpy(PTR(x), at[1], sizeof(x)));
	ck_assert_uint_eq(x[N - 1], 0x1234);
	x[7] = 9;
	OK(cuMemcpy(at[1], PTR(x), sizeof(x)));
	OK(cuMemcpyDtoH_v2(y, at[1], sizeof(y)));
	ck_assert_mem_eq(x, y, sizeof(x));
	OK(cuDeviceGetByPCIBusId(&d, "0000:00:1f.0"));
	ck_assert_int_eq(d, 0);
	ck_assert_int_eq(cu.cuLaunchCooperativeKernel(
				 func("scale_k"), 5, 1, 1, 32, 1, 1, 0, NULL,
				 ARGS(&at[0], &by, &n_floats)),
			 CU_TOO_LARGE);
}
END_TEST

/* Pageable memory is read at the call, pinned memory when its time comes. */
START_TEST(pinned_is_read_late)
{
	struct cu_stream *s;
	uint64_t flag, at[2];
	static float pageable[N];
	float *pinned;
	int i;

	rig_open(_i, "warp.ptx");
	OK(cuMemHostAlloc((void **)&pinned, N * 4, 0));
	flag = zeros();
	at[0] = zeros();
	at[1] = zeros();
	OK(cuStreamCreate(&s, 1));
	for (i = 0; i < N; i++)
		pageable[i] = pinned[i] = 1;
	OK(cuStreamWaitValue32_v2(s, flag, 1, 0));
	OK(cuMemcpyHtoDAsync_v2(at[0], pageable, N * 4, s));
	OK(cuMemcpyHtoDAsync_v2(at[1], pinned, N * 4, s));
	for (i = 0; i < N; i++)
		pageable[i] = pinned[i] = 2;
	ck_assert_int_eq(cu.cuStreamQuery(s), CU_NOT_READY);
	OK(cuStreamWriteValue32_v2(NULL, flag, 1, 0));
	OK(cuStreamSynchronize(s));
	OK(cuStreamQuery(s));
	same(at[0], 1);
	same(at[1], 2);
}
END_TEST

START_TEST(registered)
{
	static float x[N];
	uint64_t at, host;

	rig_open(_i, "warp.ptx");
	OK(cuMemHostRegister_v2(x, sizeof(x), 2));
	ck_assert_int_eq(cu.cuMemHostRegister_v2(x + 9, 4, 0),
			 CU_ALREADY_REGISTERED);
	OK(cuMemHostGetDevicePointer_v2(&host, x, 0));
	ck_assert_int_eq(scale(host, NULL), 0);
	OK(cuCtxSynchronize());
	ck_assert_float_eq(x[N - 1], 1);
	OK(cuMemHostUnregister(x));
	ck_assert_int_eq(cu.cuMemHostUnregister(x), CU_NOT_REGISTERED);
	/* read-only: what it holds can be copied and not changed */
	OK(cuMemHostRegister_v2(x, sizeof(x), 8));
	at = zeros();
	OK(cuMemcpyHtoD_v2(at, x, sizeof(x)));
	same(at, 1);
	ck_assert_int_eq(scale(host, NULL), 0);
	ck_assert_int_eq(cu.cuCtxSynchronize(), CU_ILLEGAL_ADDRESS);
	ck_assert_msg(strstr(said(), "it is read-only") != NULL, "%s", said());
}
END_TEST

/* Two registrations are not one, and what is read-only is registered so. */
START_TEST(registered_in_pieces)
{
	const size_t page = 4096;
	char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t at;

	rig_init(1);
	at = zeros();
	OK(cuMemHostRegister_v2(p, page, 0));
	ck_assert_int_eq(cu.cuMemcpyHtoD_v2(at, p + page - 8, 16),
			 CU_INVALID_VALUE);
	OK(cuMemHostRegister_v2(p + page, page, 0));
	ck_assert_int_eq(cu.cuMemcpyHtoD_v2(at, p + page - 8, 16),
			 CU_INVALID_VALUE);
	OK(cuMemcpyHtoD_v2(at, p + page - 8, 8));
	OK(cuMemHostUnregister(p));
	OK(cuMemHostUnregister(p + page));
	ck_assert_int_eq(mprotect(p + page, page, PROT_READ), 0);
	ck_assert_int_eq(cu.cuMemHostRegister_v2(p, 2 * page, 0),
			 CU_INVALID_VALUE);
	OK(cuMemHostRegister_v2(p, page, 0));
	OK(cuMemHostRegister_v2(p + page, page, CU_HOST_READ_ONLY));
	OK(cuMemHostUnregister(p + page));
	setenv("CUDASIM_ATTR", "113=0", 1);
	ck_assert_int_eq(cu.cuMemHostRegister_v2(p + page, page,
						 CU_HOST_READ_ONLY),
			 CU_NOT_SUPPORTED);
}
END_TEST

/* What a program leaves behind is told when it goes. */
START_TEST(left_behind)
{
	struct cu_stream *s[2];
	struct cu_event *e[2];
	struct cu_graph *g;
	struct cu_exec *x;
	uint64_t at;

	rig_init(1);
	OK(cuStreamCreate(&s[0], 1));
	OK(cuStreamCreate(&s[1], 1));
	OK(cuEventCreate(&e[0], 0));
	OK(cuEventCreate(&e[1], 0));
	at = dev_new(64);
	/* a capture that was not ended goes with its stream */
	OK(cuStreamBeginCapture_v2(s[0], 0));
	OK(cuMemsetD8Async(at, 0, 64, s[0]));
	OK(cuStreamDestroy_v2(s[0]));
	OK(cuStreamBeginCapture_v2(s[1], 0));
	OK(cuMemsetD8Async(at, 0, 64, s[1]));
	OK(cuStreamEndCapture(s[1], &g));
	OK(cuGraphInstantiateWithFlags(&x, g, 0));
	OK(cuEventDestroy_v2(e[0]));
	OK(cuDevicePrimaryCtxRelease_v2(0));
	ck_assert_msg(strstr(said(), "the context is released with 1 stream, "
				     "1 event, 1 graph, 1 executable graph, "
				     "1 piece of memory") != NULL,
		      "%s", said());
}
END_TEST

START_TEST(nothing_left_behind)
{
	struct cu_stream *s;
	uint64_t at;

	rig_init(1);
	OK(cuStreamCreate(&s, 1));
	at = dev_new(64);
	OK(cuMemFree_v2(at));
	OK(cuStreamDestroy_v2(s));
	OK(cuDevicePrimaryCtxRelease_v2(0));
	ck_assert_str_eq(said(), "");
}
END_TEST

static void set_int(void *p)
{
	*(volatile int *)p = 7;
}

START_TEST(events)
{
	struct cu_event *e[2];
	struct cu_stream *s;
	uint64_t at;
	int called = 0;
	float ms;

	rig_open(_i, "warp.ptx");
	at = zeros();
	OK(cuStreamCreate(&s, 0));
	OK(cuEventCreate(&e[0], 0));
	OK(cuEventCreate(&e[1], 0));
	ck_assert_int_eq(cu.cuEventElapsedTime_v2(&ms, e[0], e[1]),
			 CU_INVALID_HANDLE);
	OK(cuEventRecord(e[0], s));
	ck_assert_int_eq(scale(at, s), 0);
	OK(cuLaunchHostFunc(s, set_int, &called));
	OK(cuEventRecord(e[1], s));
	OK(cuEventSynchronize(e[1]));
	OK(cuEventQuery(e[1]));
	ck_assert_int_eq(called, 7);
	OK(cuEventElapsedTime_v2(&ms, e[0], e[1]));
	ck_assert(ms > 0);
	/* a blocking stream and the default one are in order by themselves */
	ck_assert_int_eq(scale(at, NULL), 0);
	ck_assert_int_eq(scale(at, s), 0);
	same(at, 7);
	OK(cuEventDestroy_v2(e[0]));
	OK(cuStreamDestroy_v2(s));
}
END_TEST

/* a -> (b beside c) -> d, captured from two streams. */
static int fork_join(struct cu_stream **s, const uint64_t *at, bool join,
		     struct cu_graph **g)
{
	struct cu_event *e[2];

	OK(cuEventCreate(&e[0], 0));
	OK(cuEventCreate(&e[1], 0));
	OK(cuStreamBeginCapture_v2(s[0], 0));
	ck_assert_int_eq(scale(at[0], s[0]), 0);
	OK(cuEventRecord(e[0], s[0]));
	OK(cuStreamWaitEvent(s[1], e[0], 0));
	ck_assert_int_eq(scale(at[0], s[0]), 0);
	ck_assert_int_eq(scale(at[1], s[1]), 0);
	if (join) {
		OK(cuEventRecord(e[1], s[1]));
		OK(cuStreamWaitEvent(s[0], e[1], 0));
	}
	OK(cuMemcpyDtoDAsync_v2(at[2], at[1], N * 4, s[0]));
	return cu.cuStreamEndCapture(s[0], g);
}

START_TEST(graphs)
{
	struct cu_stream *s[2];
	struct cu_graph *g;
	struct cu_exec *x;
	uint64_t at[3];
	size_t n = 0;
	int i;

	rig_open(_i, "warp.ptx");
	for (i = 0; i < 3; i++)
		at[i] = zeros();
	OK(cuStreamCreate(&s[0], 1));
	OK(cuStreamCreate(&s[1], 1));
	ck_assert_int_eq(fork_join(s, at, true, &g), 0);
	same(at[0], 0);
	OK(cuGraphGetNodes(g, NULL, &n));
	ck_assert_uint_eq(n, 4);
	OK(cuGraphInstantiateWithFlags(&x, g, 0));
	OK(cuGraphDestroy(g));
	for (i = 0; i < 3; i++)
		OK(cuGraphLaunch(x, s[i & 1]));
	/* launches of one graph are in order, whatever the stream */
	OK(cuStreamSynchronize(s[0]));
	OK(cuStreamSynchronize(s[1]));
	same(at[0], 63);
	same(at[1], 7);
	same(at[2], 7);
	OK(cuGraphExecDestroy(x));
}
END_TEST

START_TEST(graph_without_join)
{
	struct cu_stream *s[2];
	struct cu_graph *g;
	uint64_t at[3];
	int i;

	rig_open(_i, "warp.ptx");
	for (i = 0; i < 3; i++)
		at[i] = zeros();
	OK(cuStreamCreate(&s[0], 1));
	OK(cuStreamCreate(&s[1], 1));
	ck_assert_int_eq(fork_join(s, at, false, &g), CU_CAPTURE_UNJOINED);
	ck_assert_int_eq(scale(at[0], s[0]), 0);
	OK(cuStreamSynchronize(s[0]));
	same(at[0], 1);
}
END_TEST

START_TEST(graph_of_pageable_memory)
{
	struct cu_stream *s;
	struct cu_graph *g;
	float x[4] = { 0 };
	uint64_t at;

	rig_open(1, "warp.ptx");
	at = zeros();
	OK(cuStreamCreate(&s, 1));
	OK(cuStreamBeginCapture_v2(s, 0));
	ck_assert_int_eq(cu.cuStreamSynchronize(s), CU_CAPTURE_UNSUPPORTED);
	ck_assert_int_eq(cu.cuMemcpyHtoDAsync_v2(at, x, sizeof(x), s),
			 CU_CAPTURE_UNSUPPORTED);
	ck_assert_int_eq(cu.cuStreamEndCapture(s, &g), CU_CAPTURE_INVALIDATED);
}
END_TEST

#define MB2 ((size_t)2 << 20)
static const struct cu_alloc_prop prop = { .type = 1, .location = { 1, 0 } };
static const struct cu_access rw = { { 1, 0 }, 3 };

START_TEST(mapping)
{
	size_t left[2], total, granule;
	uint64_t at, h[2];

	rig_open(_i, "warp.ptx");
	OK(cuMemGetAllocationGranularity(&granule, &prop, 0));
	ck_assert_uint_eq(granule, MB2);
	OK(cuMemGetInfo_v2(&left[0], &total));
	OK(cuMemAddressReserve(&at, 4 * MB2, 0, 0, 0));
	OK(cuMemCreate(&h[0], MB2, &prop, 0));
	OK(cuMemCreate(&h[1], MB2, &prop, 0));
	OK(cuMemMap(at, MB2, 0, h[0], 0));
	OK(cuMemMap(at + MB2, MB2, 0, h[1], 0));
	/* the same memory at two places */
	OK(cuMemMap(at + 2 * MB2, MB2, 0, h[0], 0));
	OK(cuMemSetAccess(at, 3 * MB2, &rw, 1));
	OK(cuMemRelease(h[0]));
	OK(cuMemRelease(h[1]));
	/* a copy across the seam */
	OK(cuMemsetD32_v2(at + MB2 - N * 2, 0, N));
	ck_assert_int_eq(scale(at + MB2 - N * 2, NULL), 0);
	same(at + MB2 - N * 2, 1);
	OK(cuMemsetD32_v2(at, 0, N));
	ck_assert_int_eq(scale(at, NULL), 0);
	same(at + 2 * MB2, 1);
	OK(cuMemGetInfo_v2(&left[1], &total));
	ck_assert_uint_eq(left[0] - left[1], 2 * MB2);
	ck_assert_int_eq(cu.cuMemAddressFree(at, 4 * MB2), CU_INVALID_VALUE);
	OK(cuMemUnmap(at, MB2));
	OK(cuMemUnmap(at + MB2, MB2));
	OK(cuMemUnmap(at + 2 * MB2, MB2));
	OK(cuMemAddressFree(at, 4 * MB2));
	OK(cuMemGetInfo_v2(&left[1], &total));
	ck_assert_uint_eq(left[0], left[1]);
}
END_TEST

START_TEST(mapping_without_access)
{
	uint64_t at, h;

	rig_open(_i, "warp.ptx");
	OK(cuMemAddressReserve(&at, MB2, 0, 0, 0));
	OK(cuMemCreate(&h, MB2, &prop, 0));
	ck_assert_int_eq(cu.cuMemMap(at + 4096, MB2, 0, h, 0),
			 CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuMemMap(at, MB2, 0, h + 1, 0), CU_INVALID_VALUE);
	OK(cuMemMap(at, MB2, 0, h, 0));
	ck_assert_int_eq(cu.cuMemMap(at, MB2, 0, h, 0), CU_INVALID_VALUE);
	ck_assert_int_eq(scale(at, NULL), 0);
	ck_assert_int_eq(cu.cuCtxSynchronize(), CU_ILLEGAL_ADDRESS);
	ck_assert_msg(strstr(said(), "cuMemSetAccess") != NULL, "%s", said());
}
END_TEST

START_TEST(refused_values)
{
	struct cu_func *f;
	uint64_t at;
	float x[4];

	rig_open(1, "warp.ptx");
	at = zeros();
	f = func("scale_k");
	ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 0), CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuMemFree_v2(at + 4), CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuMemcpyDtoH_v2(x, at + N * 4 - 8, 16),
			 CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuMemcpyHtoD_v2(at - 4, x, 16), CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuMemsetD32_v2(at + 2, 0, 1), CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuModuleGetFunction(&f, module, "none"),
			 CU_NOT_FOUND);
	ck_assert_int_eq(launch("scale_k", 0, 1, 0, NULL, ARGS(&at)),
			 CU_INVALID_VALUE);
	ck_assert_int_eq(launch("scale_k", 1, 2048, 0, NULL, ARGS(&at)),
			 CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 60000, NULL,
					   ARGS(&at), NULL),
			 CU_INVALID_VALUE);
	ck_assert_int_eq(cu.cuFuncSetAttribute(f, 8, 300000), CU_INVALID_VALUE);
	same(at, 0);
}
END_TEST

/* ------------------------------------------------------ planned failures */

/* Calls of every kind, up to the first that fails: its error. */
static int scenario(void)
{
	static char *text;
	float x[N] = { 0 };
	struct cu_stream *s = NULL;
	struct cu_ctx *ctx;
	struct cu_func *f;
	uint64_t at = 0;
	int d, rc;

	if (!text)
		text = read_built("warp.ptx");
#define TRY(call)                  \
	do {                       \
		rc = cu.call;      \
		if (rc)            \
			return rc; \
	} while (0)
	TRY(cuInit(0));
	TRY(cuDeviceGet(&d, 0));
	TRY(cuDevicePrimaryCtxRetain(&ctx, 0));
	TRY(cuCtxSetCurrent(ctx));
	TRY(cuModuleLoadData(&module, text));
	TRY(cuModuleGetFunction(&f, module, "scale_k"));
	TRY(cuMemAlloc_v2(&at, sizeof(x)));
	TRY(cuStreamCreate(&s, 1));
	TRY(cuMemcpyHtoDAsync_v2(at, x, sizeof(x), s));
	TRY(cuLaunchKernel(f, 8, 1, 1, 128, 1, 1, 0, s,
			   ARGS(&at, &by, &n_floats), NULL));
	TRY(cuStreamSynchronize(s));
	TRY(cuMemcpyDtoH_v2(x, at, sizeof(x)));
	TRY(cuMemFree_v2(at));
#undef TRY
	return x[N - 1] == 1 ? 0 : -1;
}
#define SCENARIO_CALLS 13

static void plan(const char *how, int n)
{
	char text[64];

	rig_calls();
	snprintf(text, sizeof(text), how, n);
	setenv("CUDASIM_FAIL", text, 1);
}

/* Each entry point was asked for by a call. */
static int calls_so_far(void)
{
	int n = 0;

#define CALL(name, args) n++;
#include "cudasim/cuda_calls.def"
#undef CALL
	return n;
}

START_TEST(any_call_fails)
{
	plan("%d:OUT_OF_MEMORY", calls_so_far() + _i);
	ck_assert_int_eq(scenario(),
			 _i <= SCENARIO_CALLS ? CU_OUT_OF_MEMORY : 0);
	unsetenv("CUDASIM_FAIL");
	/* it was that call's failure and nothing else's */
	ck_assert_int_eq(scenario(), 0);
}
END_TEST

START_TEST(any_call_loses_the_context)
{
	uint64_t at;

	plan("%d:lost", calls_so_far() + _i);
	ck_assert_int_eq(scenario(), CU_UNKNOWN);
	ck_assert_int_eq(cu.cuCtxSynchronize(),
			 _i > 1 ? CU_UNKNOWN : CU_NOT_INITIALIZED);
	if (_i > 1)
		ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 4), CU_UNKNOWN);
}
END_TEST

START_TEST(a_named_call_fails)
{
	uint64_t at;

	plan("cuMemAlloc#%d:719", 2);
	ck_assert_int_eq(scenario(), 0);
	ck_assert_int_eq(cu.cuMemAlloc_v2(&at, 4), CU_LAUNCH_FAILED);
	OK(cuMemAlloc_v2(&at, 4));
}
END_TEST

START_TEST(a_call_hangs)
{
	plan("cuStreamSynchronize#%d:hang", 1);
	/* libcheck has a handler of its own */
	signal(SIGALRM, SIG_DFL);
	alarm(1);
	scenario();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cudasim driver");
	TCase *t = tcase_create("calls");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, fatbin);
	tcase_add_test(t, images);
	tcase_add_test(t, device);
	tcase_add_test(t, contexts);
	tcase_add_loop_test(t, one_address_space, 1, 1 + SEEDS);
	tcase_add_loop_test(t, pinned_is_read_late, 1, 1 + SEEDS);
	tcase_add_loop_test(t, registered, 1, 1 + SEEDS);
	tcase_add_test(t, registered_in_pieces);
	tcase_add_test(t, left_behind);
	tcase_add_test(t, nothing_left_behind);
	tcase_add_loop_test(t, events, 1, 1 + SEEDS);
	tcase_add_loop_test(t, graphs, 1, 1 + SEEDS);
	tcase_add_loop_test(t, graph_without_join, 1, 1 + SEEDS);
	tcase_add_test(t, graph_of_pageable_memory);
	tcase_add_loop_test(t, mapping, 1, 1 + SEEDS);
	tcase_add_loop_test(t, mapping_without_access, 1, 1 + SEEDS);
	tcase_add_test(t, refused_values);
	tcase_add_loop_test(t, any_call_fails, 1, SCENARIO_CALLS + 2);
	tcase_add_loop_test(t, any_call_loses_the_context, 1,
			    SCENARIO_CALLS + 1);
	tcase_add_test(t, a_named_call_fails);
	tcase_add_test_raise_signal(t, a_call_hangs, SIGALRM);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return rig_run(suite());
}
