/* SPDX-License-Identifier: MIT */
/* cuda_device.c - the one device, its contexts, and how calls begin and end. */
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

struct dev dev = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.done_cond = PTHREAD_COND_INITIALIZER,
	.n_sm = 4,
	.watchdog_s = 10,
	.total = (size_t)8 << 30,
};

#define PCI_ADDRESS "0000:00:1f.0"
#define CTX_DEPTH   16
static __thread struct cu_ctx *current[CTX_DEPTH];
static __thread int depth;

static struct cu_ctx *ctx_now(void)
{
	return depth ? current[depth - 1] : NULL;
}

void dev_note(const char *fmt, ...)
{
	va_list ap;

	fputs("cudasim: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

uint64_t dev_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t dev_random(void)
{
	uint64_t z = dev.rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* ------------------------------------------------------- planned failures */

static const struct {
	int error;
	const char *name;
} errors[] = {
	/* clang-format off */
	{ CU_OK, "CUDA_SUCCESS" },
	{ CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE" },
	{ CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY" },
	{ CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED" },
	{ CU_DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED" },
	{ CU_DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE" },
	{ CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE" },
	{ CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE" },
	{ CU_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE" },
	{ CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT" },
	{ CU_NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU" },
	{ CU_ECC, "CUDA_ERROR_ECC_UNCORRECTABLE" },
	{ CU_INVALID_PTX, "CUDA_ERROR_INVALID_PTX" },
	{ CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE" },
	{ CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND" },
	{ CU_NOT_READY, "CUDA_ERROR_NOT_READY" },
	{ CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS" },
	{ CU_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" },
	{ CU_TIMEOUT, "CUDA_ERROR_LAUNCH_TIMEOUT" },
	{ CU_CONTEXT_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED" },
	{ CU_ASSERT, "CUDA_ERROR_ASSERT" },
	{ CU_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED" },
	{ CU_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED" },
	{ CU_ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION" },
	{ CU_MISALIGNED, "CUDA_ERROR_MISALIGNED_ADDRESS" },
	{ CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED" },
	{ CU_TOO_LARGE, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE" },
	{ CU_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED" },
	{ CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED" },
	{ CU_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" },
	{ CU_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" },
	{ CU_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED" },
	{ CU_UNKNOWN, "CUDA_ERROR_UNKNOWN" },
	/* clang-format on */
};

static double env_number(const char *name, double otherwise)
{
	const char *e = getenv(name);

	return e && *e ? strtod(e, NULL) : otherwise;
}

/* Is CALL, the N-th, the one that PLAN means: "[call#]N"? SO_FAR: of that name.
 * Then *REST is what follows. */
static bool is_it(const char *plan, const char *call, long n, long *so_far,
		  const char **rest)
{
	size_t len = strcspn(plan, "#,");

	if (plan[len] == '#') {
		/* cuMemAlloc is cuMemAlloc_v2 too */
		if (strncmp(plan, call, len) ||
		    (call[len] && strncmp(call + len, "_v", 2)))
			return false;
		n = __atomic_add_fetch(so_far, 1, __ATOMIC_RELAXED);
		plan += len + 1;
	}
	return strtol(plan, (char **)rest, 10) == n;
}

/* CUDASIM_HOLD="[call#]N": copies from registered memory wait for that call. */
static void let_go(const char *call, long n)
{
	const char *plan = getenv("CUDASIM_HOLD"), *rest;
	static long so_far;

	if (!plan || !*plan || !is_it(plan, call, n, &so_far, &rest))
		return;
	pthread_mutex_lock(&dev.lock);
	dev.let_go = true;
	pthread_cond_signal(&dev.work);
	pthread_mutex_unlock(&dev.lock);
}

bool dev_holds(void)
{
	const char *plan = getenv("CUDASIM_HOLD");

	return plan && *plan && !dev.let_go;
}

#define PLANS 4

/*
 * CUDASIM_FAIL="[call#]N:what,...": the N-th call (of that name) returns an error
 * ("OUT_OF_MEMORY" or a number), never returns ("hang"), takes the context with
 * it ("lost"), or finds that others have so many bytes of the device's memory
 * ("taken=BYTES"). CUDASIM_TRACE=1 counts the calls aloud.
 */
static int planned(const char *call)
{
	static long n_any, n_named[PLANS];
	const char *plan = getenv("CUDASIM_FAIL"), *rest = NULL;
	long n = __atomic_add_fetch(&n_any, 1, __ATOMIC_RELAXED);
	unsigned int i, met = 0;
	char what[64];

	if (env_number("CUDASIM_TRACE", 0) != 0)
		dev_note("call %ld: %s", n, call);
	let_go(call, n);
	for (i = 0; plan && *plan && i < PLANS; i++) {
		if (is_it(plan, call, n, &n_named[i], &rest) && *rest == ':') {
			snprintf(what, sizeof(what), "%.*s",
				 (int)strcspn(rest + 1, ","), rest + 1);
			met++;
		}
		plan = strchr(plan, ',');
		plan += plan != NULL;
	}
	if (!met)
		return 0;
	dev_note("call %ld, %s: %s, as CUDASIM_FAIL says", n, call, what);
	if (!strncmp(what, "taken=", 6)) {
		pthread_mutex_lock(&dev.lock);
		dev.used += strtoull(what + 6, NULL, 10);
		dev.used = dev.used < dev.total ? dev.used : dev.total;
		pthread_mutex_unlock(&dev.lock);
		return 0;
	}
	if (!strcmp(what, "hang"))
		for (;;)
			pause();
	if (!strcmp(what, "lost")) {
		pthread_mutex_lock(&dev.lock);
		dev_fail(CU_UNKNOWN);
		pthread_mutex_unlock(&dev.lock);
		return CU_UNKNOWN;
	}
	for (i = 1; i < sizeof(errors) / sizeof(*errors); i++)
		if (!strcmp(errors[i].name + strlen("CUDA_ERROR_"), what))
			return errors[i].error;
	return atoi(what) ? atoi(what) : CU_UNKNOWN;
}

int api_enter(const char *call, int needs)
{
	int rc = planned(call);

	if (rc)
		return rc;
	__atomic_add_fetch(&dev.waiting, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&dev.lock);
	__atomic_sub_fetch(&dev.waiting, 1, __ATOMIC_SEQ_CST);
	if ((needs & API_INIT) && !dev.inited)
		return api_leave(CU_NOT_INITIALIZED);
	if ((needs & API_INIT) && dev.sticky)
		return api_leave(dev.sticky);
	if (needs == API_CTX && (!ctx_now() || ctx_now()->dead))
		return api_leave(CU_INVALID_CONTEXT);
	return 0;
}

int api_leave(int rc)
{
	pthread_mutex_unlock(&dev.lock);
	return rc;
}

/* --------------------------------------------------------------- calls */

/* Each block of threads has new registers: pages that were given back and come
 * again would cost more than what is done with them. */
static void keep_memory(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

int cuInit(unsigned int flags)
{
	ENTER(API_ANY);
	if (flags)
		return api_leave(CU_INVALID_VALUE);
	if (!dev.inited) {
		dev.seed = (uint64_t)env_number("CUDASIM_SEED", 1);
		dev.rng = dev.seed;
		dev.n_sm = (int)env_number("CUDASIM_SMS", dev.n_sm);
		if (dev.n_sm < 1 || dev.n_sm > DEV_BLOCKS)
			dev.n_sm = 4;
		dev.watchdog_s = env_number("CUDASIM_WATCHDOG", dev.watchdog_s);
		dev.total =
			(size_t)env_number("CUDASIM_MEM", (double)dev.total);
		keep_memory();
		dev_start();
		dev.inited = true;
	}
	return api_leave(0);
}

int cuDriverGetVersion(int *v)
{
	ENTER(API_ANY);
	*v = 13000;
	return api_leave(0);
}

static const struct {
	const char *name;
	void *fn;
} calls[] = {
#define CALL(name, args) { #name, (void *)name },
#include "cuda_calls.def"
#undef CALL
};

int cuGetProcAddress_v2(const char *name, void **fn, int version,
			uint64_t flags, int *status)
{
	size_t n = strlen(name);
	int best = -1;
	unsigned int i;

	ENTER(API_ANY);
	(void)version, (void)flags;
	*fn = NULL;
	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		const char *rest = calls[i].name + n;
		int v;

		if (strncmp(calls[i].name, name, n) ||
		    (*rest && strncmp(rest, "_v", 2)))
			continue;
		v = *rest ? atoi(rest + 2) : 1;
		if (v > best) {
			best = v;
			*fn = calls[i].fn;
		}
	}
	if (status)
		*status = *fn ? 0 : 1;
	return api_leave(*fn ? 0 : CU_NOT_FOUND);
}

int cuGetErrorName(int error, const char **s)
{
	unsigned int i;

	for (i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (errors[i].error == error) {
			*s = errors[i].name;
			return 0;
		}
	*s = NULL;
	return CU_INVALID_VALUE;
}

int cuGetErrorString(int error, const char **s)
{
	return cuGetErrorName(error, s);
}

int cuDeviceGetCount(int *n)
{
	ENTER(API_INIT);
	*n = 1;
	return api_leave(0);
}

int cuDeviceGet(int *d, int i)
{
	ENTER(API_INIT);
	*d = 0;
	return api_leave(i ? CU_INVALID_DEVICE : 0);
}

int cuDeviceGetName(char *s, int n, int d)
{
	ENTER(API_INIT);
	if (d || n < 1)
		return api_leave(CU_INVALID_DEVICE);
	snprintf(s, (size_t)n, "cudasim sm_90a");
	return api_leave(0);
}

int cuDeviceGetUuid_v2(struct cu_uuid *u, int d)
{
	ENTER(API_INIT);
	memcpy(u->bytes, "cudasim-device-0", sizeof(u->bytes));
	return api_leave(d ? CU_INVALID_DEVICE : 0);
}

int cuDeviceGetPCIBusId(char *s, int n, int d)
{
	ENTER(API_INIT);
	snprintf(s, (size_t)n, PCI_ADDRESS);
	return api_leave(d ? CU_INVALID_DEVICE : 0);
}

int cuDeviceGetByPCIBusId(int *d, const char *s)
{
	ENTER(API_INIT);
	*d = 0;
	return api_leave(strcmp(s, PCI_ADDRESS) ? CU_INVALID_DEVICE : 0);
}

int cuDeviceTotalMem_v2(size_t *n, int d)
{
	ENTER(API_INIT);
	*n = dev.total;
	return api_leave(d ? CU_INVALID_DEVICE : 0);
}

static const struct {
	int attr;
	int value;
} attrs[] = {
	/* clang-format off */
	{ 1, 1024 },   /* threads per block */
	{ 2, 1024 }, { 3, 1024 }, { 4, 64 }, /* block's shape */
	{ 5, 0x7fffffff }, { 6, 65535 }, { 7, 65535 }, /* grid's */
	{ 8, 49152 },  /* shared memory per block */
	{ 9, 65536 },  /* constant memory */
	{ 10, 32 },    /* warp */
	{ 12, 65536 }, /* registers per block */
	{ 13, 1000000 }, /* kHz */
	{ 19, 1 },     /* host memory can be mapped */
	{ 31, 1 },     /* kernels run beside each other */
	{ 33, 0 }, { 34, 31 }, /* PCI bus and device */
	{ 36, 1000000 }, { 37, 64 }, /* memory clock, bus width */
	{ CU_DEV_L2_BYTES, 1 << 20 },
	{ 39, 2048 },  /* threads per multiprocessor */
	{ CU_DEV_COPY_ENGINES, 2 },
	{ 41, 1 },     /* unified addresses */
	{ 50, 0 },     /* PCI domain */
	{ CU_DEV_MAJOR, 9 }, { CU_DEV_MINOR, 0 },
	{ 78, 1 },     /* stream priorities */
	{ CU_DEV_SHARED_SM, 233472 }, { 82, 65536 },
	{ 91, 1 },     /* host pointers are device pointers */
	{ 95, 1 },     /* cooperative launch */
	{ CU_DEV_SHARED_BLOCK, DEV_SHARED },
	{ CU_DEV_HOST_REGISTER, 1 },
	{ CU_DEV_VMM, 1 },
	{ 106, 1 },    /* blocks per multiprocessor */
	{ CU_DEV_READ_ONLY_REGISTER, 1 },
	/* clang-format on */
};

/* CUDASIM_ATTR="75=8,102=0": a device with these attributes. */
int dev_attr(int attr)
{
	const char *s = getenv("CUDASIM_ATTR");
	unsigned int i;

	while (s && *s) {
		char *end;
		long a = strtol(s, &end, 10);

		if (*end == '=' && a == attr)
			return atoi(end + 1);
		s = strchr(end, ',');
		s += s != NULL;
	}
	if (attr == CU_DEV_SMS)
		return dev.n_sm;
	for (i = 0; i < sizeof(attrs) / sizeof(*attrs); i++)
		if (attrs[i].attr == attr)
			return attrs[i].value;
	return 0;
}

int cuDeviceGetAttribute(int *v, int attr, int d)
{
	ENTER(API_INIT);
	if (d)
		return api_leave(CU_INVALID_DEVICE);
	*v = dev_attr(attr);
	return api_leave(0);
}

int cuDevicePrimaryCtxRetain(struct cu_ctx **ctx, int d)
{
	ENTER(API_INIT);
	if (d)
		return api_leave(CU_INVALID_DEVICE);
	dev.primary.refs++;
	*ctx = &dev.primary;
	return api_leave(0);
}

/* What the program made and did not give back. */
static void tell_left(void)
{
	static const char *const what[] = {
		[MADE_STREAM] = "stream",	  [MADE_EVENT] = "event",
		[MADE_MODULE] = "module",	  [MADE_GRAPH] = "graph",
		[MADE_EXEC] = "executable graph",
	};
	int left[MADE_KINDS + 1] = { 0 };
	char text[256] = "";
	size_t n = 0;
	int i;

	memcpy(left, dev.made, sizeof(dev.made));
	/* A module has memory of its own. */
	for (i = 0; i < dev.n_mem && !left[MADE_MODULE]; i++)
		left[MADE_KINDS]++;
	left[MADE_KINDS] += vmm_left();
	for (i = 0; i <= MADE_KINDS; i++)
		if (left[i])
			n += (size_t)snprintf(
				text + n, sizeof(text) - n, "%s%d %s%s",
				n ? ", " : "", left[i],
				i == MADE_KINDS ? "piece of memory" : what[i],
				left[i] > 1 ? "s" : "");
	if (n)
		dev_note("the context is released with %s", text);
}

int cuDevicePrimaryCtxRelease_v2(int d)
{
	ENTER(API_INIT);
	if (d || !dev.primary.refs)
		return api_leave(CU_INVALID_CONTEXT);
	if (!--dev.primary.refs)
		tell_left();
	return api_leave(0);
}

int cuDevicePrimaryCtxReset_v2(int d)
{
	ENTER(API_INIT);
	return api_leave(d ? CU_INVALID_DEVICE : 0);
}

int cuDevicePrimaryCtxSetFlags_v2(int d, unsigned int flags)
{
	ENTER(API_INIT);
	(void)flags;
	return api_leave(d ? CU_INVALID_DEVICE : 0);
}

static int push_ctx(struct cu_ctx *ctx)
{
	if (depth == CTX_DEPTH)
		return CU_INVALID_VALUE;
	current[depth++] = ctx;
	return 0;
}

int cuCtxCreate_v2(struct cu_ctx **ctx, unsigned int flags, int d)
{
	ENTER(API_INIT);
	(void)flags;
	if (d)
		return api_leave(CU_INVALID_DEVICE);
	*ctx = calloc(1, sizeof(**ctx));
	return api_leave(*ctx ? push_ctx(*ctx) : CU_OUT_OF_MEMORY);
}

int cuCtxCreate_v4(struct cu_ctx **ctx, void *params, unsigned int flags, int d)
{
	(void)params;
	return cuCtxCreate_v2(ctx, flags, d);
}

/* Others may hold it as current: it stays, dead. */
int cuCtxDestroy_v2(struct cu_ctx *ctx)
{
	ENTER(API_INIT);
	if (!ctx || ctx == &dev.primary || ctx->dead)
		return api_leave(CU_INVALID_CONTEXT);
	ctx->dead = true;
	if (ctx_now() == ctx)
		depth--;
	return api_leave(0);
}

int cuCtxSetCurrent(struct cu_ctx *ctx)
{
	ENTER(API_INIT);
	if (!depth)
		depth = 1;
	current[depth - 1] = ctx;
	return api_leave(0);
}

int cuCtxGetCurrent(struct cu_ctx **ctx)
{
	ENTER(API_INIT);
	*ctx = ctx_now();
	return api_leave(0);
}

int cuCtxPushCurrent_v2(struct cu_ctx *ctx)
{
	ENTER(API_INIT);
	return api_leave(push_ctx(ctx));
}

int cuCtxPopCurrent_v2(struct cu_ctx **ctx)
{
	ENTER(API_INIT);
	if (!depth)
		return api_leave(CU_INVALID_CONTEXT);
	depth--;
	if (ctx)
		*ctx = current[depth];
	return api_leave(0);
}

int cuCtxGetDevice(int *d)
{
	ENTER(API_CTX);
	*d = 0;
	return api_leave(0);
}

int cuCtxSynchronize(void)
{
	ENTER(API_CTX);
	return api_leave(stream_wait_all());
}

int cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	ENTER(API_CTX);
	if (least)
		*least = 0;
	if (greatest)
		*greatest = -5;
	return api_leave(0);
}
