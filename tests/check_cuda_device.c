/* SPDX-License-Identifier: MIT */
/* check_cuda_device.c - the driver table and the device layer, simulated. */
#include "../daemon/weights.h"
#include "cuda_dev_rig.h"

/* ------------------------------------------------------------ the driver */

START_TEST(no_library)
{
	ck_assert_int_eq(cu_dev_open(&dev, &conf, "", "/no/libcuda.so.1"),
			 -ENOENT);
	WHY("cuda: /no/libcuda.so.1: cannot open shared object file");
	cu_dev_close(&dev);
	/* a library, but not the one */
	ck_assert_int_eq(cu_dev_open(&dev, &conf, "", "libm.so.6"), -ENOSYS);
	WHY("cuGetProcAddress_v2");
}
END_TEST

START_TEST(a_call_is_missing)
{
	setenv("CUDASIM_FAIL", "cuGetProcAddress#5:NOT_FOUND", 1);
	listen_in();
	ck_assert_int_eq(cu_dev_open(&dev, &conf, "", lib()), -ENOSYS);
	WHY("cuda: cuDeviceGetCount of CUDA 2.0 is not in this driver, which "
	    "is of 13.0");
}
END_TEST

START_TEST(no_device)
{
	setenv("CUDASIM_FAIL", "cuInit#1:NO_DEVICE", 1);
	listen_in();
	ck_assert_int_eq(cu_dev_open(&dev, &conf, "", lib()), -ENODEV);
	WHY("cuda: cuInit: CUDA_ERROR_NO_DEVICE (driver of CUDA 13.0)");
}
END_TEST

START_TEST(results)
{
	static const struct {
		int result;
		int err;
		bool lost;
	} t[] = {
		{ CU_INVALID_VALUE, -EINVAL, false },
		{ CU_OUT_OF_MEMORY, -ENOMEM, false },
		{ CU_DEINITIALIZED, -EIO, true },
		{ CU_DEVICE_UNAVAILABLE, -EIO, true },
		{ CU_NO_DEVICE, -ENODEV, false },
		{ CU_INVALID_DEVICE, -ENODEV, false },
		{ CU_NOT_LICENSED, -ENODEV, false },
		{ CU_INVALID_PTX, -ENOEXEC, false },
		{ CU_ECC, -EIO, true },
		{ CU_NVLINK, -EIO, true },
		{ 222, -ENOEXEC, false },
		{ CU_CONTAINED, -EIO, true },
		{ CU_NOT_FOUND, -ENOENT, false },
		{ CU_ILLEGAL_ADDRESS, -EIO, true },
		{ CU_OUT_OF_RESOURCES, -EINVAL, false },
		{ CU_TIMEOUT, -EIO, true },
		{ CU_CONTEXT_DESTROYED, -EIO, true },
		{ CU_ASSERT, -EIO, true },
		{ CU_ALREADY_REGISTERED, -EEXIST, false },
		{ CU_HARDWARE_STACK, -EIO, true },
		{ 717, -EIO, true },
		{ CU_LAUNCH_FAILED, -EIO, true },
		{ CU_NOT_PERMITTED, -EPERM, false },
		{ CU_NOT_SUPPORTED, -EOPNOTSUPP, false },
		{ 905, -EINVAL, false },
		{ CU_EXTERNAL_DEVICE, -EIO, true },
		{ CU_UNKNOWN, -EIO, true },
		{ 123456, -EIO, true },
	};
	unsigned int i;

	for (i = 0; i < COUNT(t); i++) {
		ck_assert_int_eq(cu_error(t[i].result).err, t[i].err);
		ck_assert_int_eq(cu_error(t[i].result).lost, t[i].lost);
	}
}
END_TEST

START_TEST(all_calls)
{
	struct cu_driver *drv = &dev.drv;
	char why[CU_WHY];

	listen_in();
	ck_assert_msg(!cu_driver_open(drv, lib(), why), "%s", why);
#define CALL(name, since, required, args) ck_assert_ptr_nonnull(drv->name);
#include "../daemon/cuda/calls.def"
#undef CALL
	ck_assert_int_eq(drv->version, 13000);
}
END_TEST

/* ------------------------------------------------------------- choosing */

static const struct cu_id ids[] = {
	{ 0, 75, "old", "GPU-aaaa0000-0000-0000-0000-000000000000",
	  "0000:01:00.0" },
	{ 1, 80, "mid", "GPU-aaaa1111-0000-0000-0000-000000000000",
	  "0000:c1:00.0" },
	{ 2, 90, "new", "GPU-bbbb0000-0000-0000-0000-000000000000",
	  "0001:01:00.0" },
};

START_TEST(choosing)
{
	static const struct {
		const char *which;
		int is;
		const char *says;
	} t[] = {
		{ "", 1, NULL }, /* the first that will do */
		{ "0", 0, NULL },
		{ "2", 2, NULL },
		{ "3", -ENODEV, "no device 3, there are 3" },
		{ "99999999999999999999", -ENODEV, "no device" },
		{ "GPU-bbbb", 2, NULL },
		{ "gpu-AAAA1111-0000-0000-0000-000000000000", 1, NULL },
		{ "GPU-aaaa", -EINVAL, "more than one" },
		{ "GPU-cccc", -ENODEV, "no device 'GPU-cccc'" },
		{ "0000:01:00.0", 0, NULL },
		{ "01:00.0", 0, NULL },
		{ "0000:C1:00.0", 1, NULL },
		{ "00000001:01:00.0", 2, NULL },
		{ "0000:02:00.0", -ENODEV, "no device '0000:02:00.0'" },
		{ "-1", -EINVAL, "'-1' is no index" },
		{ "2x", -EINVAL, "'2x' is no index" },
		{ "card", -EINVAL, "'card' is no index" },
		{ "0000:01:00.0 ", -EINVAL, "is no index" },
	};
	char why[CU_WHY];
	unsigned int i;

	for (i = 0; i < COUNT(t); i++) {
		why[0] = 0;
		ck_assert_int_eq(cu_choose(ids, 3, t[i].which, why), t[i].is);
		if (t[i].says)
			ck_assert_msg(strstr(why, t[i].says) != NULL, "%s",
				      why);
	}
	ck_assert_int_eq(cu_choose(ids, 0, "", why), -ENODEV);
	/* none will do: the first is the one that is refused */
	ck_assert_int_eq(cu_choose(ids, 1, "", why), 0);
}
END_TEST

START_TEST(pairing)
{
	static const struct gpu list[] = {
		{ .bus = "platform", .where = "0000:01:00.0" },
		{ .bus = "pci", .where = "0000:0a:00.0" },
		{ .bus = "pci", .where = "0000:01:00.0" },
	};

	ck_assert_ptr_eq(cu_pair("0000:01:00.0", list, 3), &list[2]);
	ck_assert_ptr_eq(cu_pair("0000:0A:00.0", list, 3), &list[1]);
	ck_assert_ptr_null(cu_pair("0000:02:00.0", list, 3));
	ck_assert_ptr_null(cu_pair("", list, 3));
}
END_TEST

START_TEST(opening)
{
	static const char *const which[] = {
		"",
		"0",
		"0000:00:1f.0",
		"GPU-63756461",
		"GPU-63756461-7369-6d2d-6465-766963652d30",
	};
	char text[256];
	uint64_t left;

	listen_in();
	GOOD(cu_dev_open(&dev, &conf, which[_i], lib()));
	ck_assert_str_eq(dev.id.uuid, which[4]);
	ck_assert_str_eq(dev.id.pci, which[2]);
	ck_assert_int_eq(dev.id.sm, 90);
	ck_assert_int_eq(dev.n_sm, 4);
	ck_assert_uint_eq(dev.shared_block, 232448);
	ck_assert_uint_eq(dev.l2_bytes, 1 << 20);
	ck_assert_uint_eq(dev.vram_bytes, 8192 * MIB);
	ck_assert(dev.vmm && dev.registers && dev.read_only);
	GOOD(cu_dev_left(&dev, &left));
	ck_assert_uint_eq(left, dev.vram_bytes);
	cu_dev_print(&dev, text, sizeof(text));
	ck_assert_str_eq(text, "cudasim sm_90a (sm_90, 4 SMs, 8.0 GiB), pci "
			       "0000:00:1f.0, not known to DRM, driver of "
			       "CUDA 13.0");
	closed();
}
END_TEST

START_TEST(another_device)
{
	listen_in();
	ck_assert_int_eq(cu_dev_open(&dev, &conf, "1", lib()), -ENODEV);
	WHY("no device 1, there is 1");
	setenv("CUDASIM_ATTR", "75=7,76=5", 1);
	ck_assert_int_eq(cu_dev_open(&dev, &conf, "", lib()), -EOPNOTSUPP);
	WHY("cudasim sm_90a at 0000:00:1f.0 is sm_75, our kernels need sm_80");
	setenv("CUDASIM_ATTR", "75=8,76=0", 1);
	GOOD(cu_dev_open(&dev, &conf, "", lib()));
	closed();
}
END_TEST

/* --------------------------------------------------------------- arenas */

START_TEST(arenas)
{
	struct cu_arena w, kv;
	uint64_t left[2];
	char text[32] = "at the seam";

	opened();
	GOOD(cu_dev_left(&dev, &left[0]));
	GOOD(cu_arena_open(&dev, &w, CU_WEIGHTS, 5 * GRANULE - 1));
	GOOD(cu_arena_open(&dev, &kv, CU_KV, 1));
	ck_assert_uint_eq(w.reserved, 5 * GRANULE);
	ck_assert_uint_eq(dev.total.now, 0);
	GOOD(cu_arena_grow(&dev, &w, 1));
	GOOD(cu_arena_grow(&dev, &w, GRANULE));
	ck_assert_uint_eq(w.bytes, GRANULE);
	GOOD(cu_arena_grow(&dev, &w, GRANULE + 1));
	GOOD(cu_arena_grow(&dev, &w, 4 * GRANULE + 1));
	GOOD(cu_arena_grow(&dev, &kv, 7));
	ck_assert_uint_eq(w.bytes, 5 * GRANULE);
	ck_assert_uint_eq(dev.bytes[CU_WEIGHTS].now, 5 * GRANULE);
	ck_assert_uint_eq(dev.bytes[CU_KV].now, GRANULE);
	ck_assert_uint_eq(dev.total.now, 6 * GRANULE);
	/* the counters are what the driver says */
	GOOD(cu_dev_left(&dev, &left[1]));
	ck_assert_uint_eq(left[0] - left[1], 6 * GRANULE);
	ck_assert_int_eq(cu_arena_grow(&dev, &w, 5 * GRANULE + 1), -ENOMEM);
	WHY("of weights, only 10 are reserved");
	/* one memory, though in pieces */
	GOOD(cu_put(&dev, w.at + GRANULE - 6, text, sizeof(text)));
	memset(text, 0, sizeof(text));
	GOOD(cu_get(&dev, text, w.at + GRANULE - 6, sizeof(text)));
	ck_assert_str_eq(text, "at the seam");
	/* what was grown by goes as a whole */
	cu_arena_shrink(&dev, &w, 3 * GRANULE);
	ck_assert_uint_eq(w.bytes, 5 * GRANULE);
	cu_arena_shrink(&dev, &w, 2 * GRANULE);
	ck_assert_uint_eq(w.bytes, 2 * GRANULE);
	GOOD(cu_get(&dev, text, w.at + GRANULE - 6, sizeof(text)));
	ck_assert_str_eq(text, "at the seam");
	ck_assert_int_ne(cu_get(&dev, text, w.at + 2 * GRANULE, 1), 0);
	ck_assert_uint_eq(dev.bytes[CU_WEIGHTS].now, 2 * GRANULE);
	ck_assert_uint_eq(dev.bytes[CU_WEIGHTS].peak, 5 * GRANULE);
	GOOD(cu_arena_grow(&dev, &w, 3 * GRANULE));
	cu_arena_close(&dev, &w);
	cu_arena_close(&dev, &kv);
	cu_arena_close(&dev, &kv);
	GOOD(cu_dev_left(&dev, &left[1]));
	ck_assert_uint_eq(left[0], left[1]);
	ck_assert_uint_eq(dev.total.peak, 6 * GRANULE);
	closed();
}
END_TEST

/* Full: it says how full, and what there was stays. */
START_TEST(no_room)
{
	struct cu_arena w;

	setenv("CUDASIM_MEM", "16777216", 1);
	opened();
	GOOD(cu_arena_open(&dev, &w, CU_WEIGHTS, 64 * MIB));
	GOOD(cu_arena_grow(&dev, &w, 10 * MIB));
	ck_assert_int_eq(cu_arena_grow(&dev, &w, 20 * MIB), -ENOMEM);
	WHY("cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY, growing weights (10 MiB, "
	    "of 16 MiB there are 6 free)");
	ck_assert(!dev.lost);
	ck_assert_uint_eq(w.bytes, 10 * MIB);
	GOOD(cu_arena_grow(&dev, &w, 16 * MIB));
	cu_arena_close(&dev, &w);
	closed();
}
END_TEST

START_TEST(arenas_without_vmm)
{
	struct cu_arena a[2];
	int v = 7;

	setenv("CUDASIM_ATTR", "102=0", 1);
	setenv("CUDASIM_MEM", "16777216", 1);
	opened();
	log_init("test", 0);
	GOOD(cu_arena_open(&dev, &a[0], CU_SCRATCH, 3 * MIB));
	GOOD(cu_arena_open(&dev, &a[1], CU_KV, 3 * MIB));
	SAYS("arenas are allocated whole");
	ck_assert_ptr_null(strstr(strstr(said(), "allocated whole") + 1,
				  "allocated whole"));
	ck_assert_uint_eq(a[0].bytes, 4 * MIB);
	ck_assert_uint_eq(dev.bytes[CU_SCRATCH].now, 4 * MIB);
	GOOD(cu_arena_grow(&dev, &a[0], 3 * MIB));
	ck_assert_int_eq(cu_arena_grow(&dev, &a[0], 5 * MIB), -ENOMEM);
	cu_arena_shrink(&dev, &a[0], 0);
	ck_assert_uint_eq(a[0].bytes, 4 * MIB);
	GOOD(cu_put(&dev, a[0].at + 4 * MIB - 4, &v, 4));
	cu_arena_close(&dev, &a[0]);
	cu_arena_close(&dev, &a[1]);
	ck_assert_int_eq(cu_arena_open(&dev, &a[0], CU_WEIGHTS, 17 * MIB),
			 -ENOMEM);
	WHY("cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY, allocating weights (18 "
	    "MiB, of 16 MiB there are 16 free)");
	cu_arena_close(&dev, &a[0]);
	closed();
}
END_TEST

/* -------------------------------------------------------------- uploads */

static void same(uint64_t at, const uint8_t *want, uint64_t n)
{
	uint8_t *got = malloc(n);

	GOOD(cu_get(&dev, got, at, n));
	ck_assert_mem_eq(got, want, n);
	free(got);
}

/* Small, as the simulator is. */
#define PIECE  ((uint64_t)64 << 10)
#define PINNED (4 * PIECE)

static void opened_small(void)
{
	opened();
	dev.piece_bytes = PIECE;
	dev.pin_bytes = PINNED;
}

/* How host memory is registered, and that what is uploaded arrives. */
static const struct fallback {
	const char *attr;
	const char *fail;
	bool read_only;
	uint32_t n_pins; /* of four */
	const char *says;
} fallbacks[] = {
	{ "", "", true, 4, "pool: 0.00 GiB registered read-only in " },
	{ "", "", false, 4, "pool: 0.00 GiB registered writable in " },
	/* the device cannot, and writable is not what this mapping is */
	{ "113=0", "", true, 0,
	  "0.00 GiB of 0.00 go through buffers (cuMemHostRegister: "
	  "CUDA_ERROR_INVALID_VALUE, registering writable memory at 0.0 GiB" },
	/* read-only is refused, and writable will do */
	{ "", "cuMemHostRegister#1:NOT_PERMITTED", false, 0,
	  "go through buffers (cuMemHostRegister: CUDA_ERROR_NOT_PERMITTED" },
	{ "", "cuMemHostRegister#1:NOT_SUPPORTED", true, 0,
	  "go through buffers" },
	{ "99=0", "", true, 0,
	  "go through buffers (the device registers nothing)" },
	/* the first piece is, the second is not */
	{ "", "cuMemHostRegister#2:OUT_OF_MEMORY", true, 1,
	  "0.00 GiB of 0.00 go through buffers (cuMemHostRegister: "
	  "CUDA_ERROR_OUT_OF_MEMORY, registering read-only memory at 0.0 GiB" },
};

/* Across seams of registrations and copies, and two runs in one page. */
static const struct weights_run runs[] = {
	{ .off = 5000, .at = 0, .bytes = 2 * PINNED - 17 },
	{ .off = 5000 + 2 * PINNED,
	  .at = 2 * PINNED - 17,
	  .bytes = PIECE + 9000 },
};
#define RUNS_END (runs[1].off + runs[1].bytes)
#define RUNS_ALL (runs[1].at + runs[1].bytes)

static struct cu_host host(const uint8_t *p, const struct weights_run *run,
			   uint32_t n, bool read_only)
{
	return (struct cu_host){ .what = "pool",
				 .base = p,
				 .run = run,
				 .n_runs = n,
				 .read_only = read_only };
}

START_TEST(falls_back)
{
	const struct fallback *f = &fallbacks[_i];
	const uint8_t *p = mapping(RUNS_END, 0, RUNS_END);
	const struct cu_host h = host(p, runs, 2, f->read_only);
	const uint64_t n = RUNS_ALL;
	struct cu_upload u;
	struct cu_arena w;
	uint32_t i;

	setenv("CUDASIM_ATTR", f->attr, 1);
	setenv("CUDASIM_FAIL", f->fail, 1);
	opened_small();
	log_init("test", 0);
	if (!f->read_only)
		p = mmap((void *)(uintptr_t)p, RUNS_END, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	GOOD(cu_arena_open(&dev, &w, CU_WEIGHTS, n));
	GOOD(cu_arena_grow(&dev, &w, n));
	GOOD(cu_upload_start(&u, &dev, w.at, &h));
	SAYS(f->says);
	ck_assert_uint_eq(u.bytes, n);
	ck_assert_uint_eq(u.queued, n);
	ck_assert_uint_eq(u.n_pins, f->n_pins);
	/* What goes through buffers has arrived, and they are gone. */
	if (f->n_pins < 4)
		ck_assert_uint_eq(u.done, n);
	ck_assert_uint_eq(dev.pinned.now, 0);
	ck_assert_uint_eq(dev.pinned.peak, f->n_pins < 4 ? 2 * PIECE : 0);
	GOOD(cu_upload_wait(&u, n));
	for (i = 0; i < 2; i++)
		same(w.at + runs[i].at, p + runs[i].off, runs[i].bytes);
	for (i = 0; i < f->n_pins; i++)
		ck_assert(cu_upload_unpin(&u));
	ck_assert(!cu_upload_unpin(&u));
	cu_upload_drop(&u);
	cu_upload_drop(&u);
	cu_arena_close(&dev, &w);
	closed();
	munmap((void *)(uintptr_t)p, RUNS_END);
}
END_TEST

/* A stream waits for as much as it was told; copies beat. */
START_TEST(uploads_in_order)
{
	const struct weights_run run = { .bytes = 2 * PIECE + 4096 };
	const uint64_t n = run.bytes;
	const uint8_t *p = mapping(n, 0, n);
	const struct cu_host h = host(p, &run, 1, true);
	uint64_t before;
	struct cu_upload u;
	struct cu_arena w;
	uint8_t *got = malloc(n);

	opened_small();
	GOOD(cu_arena_open(&dev, &w, CU_WEIGHTS, n));
	GOOD(cu_arena_grow(&dev, &w, n));
	GOOD(cu_upload_start(&u, &dev, w.at, &h));
	ck_assert_uint_eq(u.n_copies, 3);
	ck_assert_int_eq(cu_upload_order(&u, 0, dev.compute), 0);
	ck_assert_int_eq(cu_upload_order(&u, 1, dev.compute), 1);
	ck_assert_int_eq(cu_upload_order(&u, PIECE, dev.compute), 0);
	/* the simulator tells of a copy that nothing orders */
	GOOD(CU(&dev, cuMemcpyDtoHAsync(got, w.at, PIECE, dev.compute),
		"reading"));
	ck_assert_int_eq(cu_upload_order(&u, n - 4096, dev.compute), 1);
	ck_assert_uint_eq(u.ordered, n - 4096);
	GOOD(CU(&dev, cuMemcpyDtoHAsync(got, w.at, n - 4096, dev.compute),
		"reading"));
	GOOD(CU(&dev, cuStreamSynchronize(dev.compute), "reading"));
	ck_assert_mem_eq(got, p, n - 4096);
	/* What has arrived is found at a look. */
	GOOD(cu_upload_poll(&u));
	ck_assert_uint_ge(u.done, n - 4096);
	ck_assert_int_eq(cu_upload_order(&u, n - 4096, dev.compute), 0);
	ck_assert_int_ge(cu_upload_order(&u, 2 * n, dev.compute), 0);
	GOOD(cu_upload_wait(&u, n));
	ck_assert_uint_eq(u.done, n);
	ck_assert_int_eq(cu_upload_order(&u, n, dev.compute), 0);
	same(w.at, p, n);
	cu_upload_drop(&u);
	/* given up half way */
	before = beat;
	GOOD(cu_upload_start(&u, &dev, w.at, &h));
	cu_upload_drop(&u);
	ck_assert_uint_ge(beat - before, 3);
	cu_arena_close(&dev, &w);
	closed();
	munmap((void *)(uintptr_t)p, n);
	free(got);
}
END_TEST

/* No copy of registered memory is begun, and yet all of it is on its way; who
 * gives it up waits. */
START_TEST(does_not_wait)
{
	const struct weights_run run = { .bytes = PINNED + PIECE };
	const uint8_t *p = mapping(run.bytes, 0, run.bytes);
	const struct cu_host h = host(p, &run, 1, true);
	struct cu_upload u;
	struct cu_arena w;

	setenv("CUDASIM_HOLD", "cuEventSynchronize#1", 1);
	opened_small();
	GOOD(cu_arena_open(&dev, &w, CU_WEIGHTS, run.bytes));
	GOOD(cu_arena_grow(&dev, &w, run.bytes));
	GOOD(cu_upload_start(&u, &dev, w.at, &h));
	ck_assert_uint_eq(u.queued, run.bytes);
	GOOD(cu_upload_poll(&u));
	ck_assert_uint_eq(u.done, 0);
	ck_assert_int_ne(*(const uint8_t *)(uintptr_t)(w.at + 9), p[9]);
	cu_upload_drop(&u);
	same(w.at, p, run.bytes);
	cu_arena_close(&dev, &w);
	closed();
	munmap((void *)(uintptr_t)p, run.bytes);
}
END_TEST

START_TEST(order_is_needed)
{
	const struct weights_run run = { .bytes = PIECE + 4096 };
	const uint64_t n = run.bytes;
	const uint8_t *p = mapping(n, 0, 1);
	const struct cu_host h = host(p, &run, 1, true);
	struct cu_upload u;
	struct cu_arena w;
	uint8_t got;
	int rc;

	opened_small();
	GOOD(cu_arena_open(&dev, &w, CU_WEIGHTS, n));
	GOOD(cu_arena_grow(&dev, &w, n));
	GOOD(cu_upload_start(&u, &dev, w.at, &h));
	/* the first copy alone: the last is not there */
	ck_assert_int_eq(cu_upload_order(&u, 1, dev.compute), 1);
	GOOD(CU(&dev, cuMemcpyDtoHAsync(&got, w.at + n - 1, 1, dev.compute),
		"reading"));
	/* whichever of the two came second is the one that is told */
	rc = CU(&dev, cuStreamSynchronize(dev.compute), "reading row %d", 3);
	if (!rc)
		rc = CU(&dev, cuStreamSynchronize(dev.copy), "reading row %d",
			3);
	ck_assert_int_eq(rc, -EIO);
	WHY("cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS, reading row 3");
	ck_assert(dev.lost);
	SAYS("race");
	ck_assert_int_eq(cu_upload_wait(&u, n), -EIO);
	cu_upload_drop(&u);
	cu_arena_close(&dev, &w);
	cu_dev_close(&dev);
	ck_assert_uint_eq(dev.total.now, 0);
	munmap((void *)(uintptr_t)p, n);
}
END_TEST

/* -------------------------------------------------------------- waiting */

struct opening {
	uint32_t *word;
	_Atomic bool waits;
};

static void *opens_late(void *arg)
{
	struct opening *o = arg;

	while (!atomic_load(&o->waits))
		;
	usleep(50000);
	__atomic_store_n(o->word, 1, __ATOMIC_RELEASE);
	return NULL;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A long wait takes no time on a core; a short one does not sleep. */
START_TEST(waiting)
{
	struct opening o = { 0 };
	struct cu_event *e;
	uint64_t at, t0;
	pthread_t t;
	void *p;

	opened();
	rig_calls();
	GOOD(cu_event_new(&dev, &e, false));
	GOOD(cu_pinned_new(&dev, 4096, &p, &at));
	ck_assert_uint_eq(dev.pinned.now, 4096);
	o.word = p;
	*o.word = 0;
	ck_assert_int_eq(pthread_create(&t, NULL, opens_late, &o), 0);
	OK(cuStreamWaitValue32_v2(dev.compute, at, 1, 0));
	GOOD(CU(&dev, cuEventRecord(e, dev.compute), "recording"));
	t0 = cpu_ns();
	atomic_store(&o.waits, true);
	GOOD(cu_wait(&dev, e, "waiting for the other"));
	ck_assert_uint_lt(cpu_ns() - t0, 20000000);
	pthread_join(t, NULL);
	/* it has happened: seen at the first look */
	setenv("CUDASIM_FAIL", "cuEventSynchronize#1:NOT_READY", 1);
	GOOD(cu_wait(&dev, e, "again"));
	unsetenv("CUDASIM_FAIL");
	cu_event_free(&dev, &e);
	cu_event_free(&dev, &e);
	cu_pinned_free(&dev, p, 4096);
	closed();
}
END_TEST

/* -------------------------------------------------------------- kernels */

START_TEST(kernels)
{
	const char *file = _i ? "warp.fatbin" : "warp.ptx";
	struct cu_run run = { .name = "scale_k",
			      .grid = { 8, 1, 1 },
			      .block = { 4096, 1, 1 } };
	char *image = read_built(file);
	struct cu_module *m;
	struct cu_exec *x;
	struct cu_arena a;
	float got[1000];

	opened();
	GOOD(cu_arena_open(&dev, &a, CU_SCRATCH, 8192));
	GOOD(cu_arena_grow(&dev, &a, 8192));
	GOOD(run_kernels(image, size_of(file) + 1, a.at, a.at + 4096, &m, &x));
	GOOD(CU(&dev, cuStreamSynchronize(dev.compute), "waiting"));
	GOOD(cu_get(&dev, got, a.at, sizeof(got)));
	ck_assert_float_eq(got[999], 15);
	GOOD(cu_get(&dev, got, a.at + 4096, sizeof(got)));
	ck_assert_float_eq(got[999], 30);
	cu_exec_free(&dev, &x);
	cu_exec_free(&dev, &x);
	/* a failure in between is what is told, and the stream is of use */
	GOOD(CU(&dev, cuModuleGetFunction(&run.fn, m, run.name), "looking"));
	GOOD(cu_capture_begin(&dev, dev.compute));
	ck_assert_int_eq(cu_capture_end(&dev, dev.compute,
					cu_run(&dev, &run, dev.compute, NULL),
					&x),
			 -EINVAL);
	WHY("cuLaunchKernelEx: CUDA_ERROR_INVALID_VALUE, launching scale_k "
	    "<8,1,1 x 4096>");
	ck_assert_ptr_null(x);
	GOOD(CU(&dev, cuStreamSynchronize(dev.compute), "waiting"));
	free(image);
	cu_code_unload(&dev, &m);
	cu_code_unload(&dev, &m);
	cu_arena_close(&dev, &a);
	closed();
}
END_TEST

static const char not_ptx[] = ".version 8.0\n.target sm_80\n"
			      ".address_size 64\n"
			      ".visible .entry k()\n{\n\tfrobnicate.u32 %r1;\n"
			      "\tret;\n}\n";

START_TEST(refused_images)
{
	static const uint8_t fatbin[24] = { 0x50, 0xed, 0x55, 0xba, 1,
					    0,	  16,	0,    200,  0 };
	struct cu_module *m;

	opened();
	/* the compiler's words are in it */
	ck_assert_int_eq(cu_code_load(&dev, &m, not_ptx, sizeof(not_ptx), NULL,
				      NULL, 0),
			 -ENOEXEC);
	WHY("cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX, loading kernels for "
	    "sm_90: ");
	WHY("frobnicate");
	ck_assert_ptr_null(m);
	ck_assert_int_eq(cu_code_load(&dev, &m, not_ptx, sizeof(not_ptx) - 1,
				      NULL, NULL, 0),
			 -ENOEXEC);
	WHY("no text with an end");
	ck_assert_int_eq(cu_code_load(&dev, &m, fatbin, sizeof(fatbin), NULL,
				      NULL, 0),
			 -ENOEXEC);
	WHY("a fatbin of 24 bytes says it has 216");
	ck_assert_int_eq(cu_code_load(&dev, &m, fatbin, 9, NULL, NULL, 0),
			 -ENOEXEC);
	ck_assert_int_eq(cu_code_load(&dev, &m, fatbin, 0, NULL, NULL, 0),
			 -ENOEXEC);
	ck_assert(!dev.lost);
	closed();
}
END_TEST

START_TEST(no_such_kernel)
{
	static const char *const none[] = { "scale_k", "scale_q" };
	char *image = read_built("warp.ptx");
	struct cu_func *fn[2];
	struct cu_module *m;

	opened();
	ck_assert_int_eq(cu_code_load(&dev, &m, image, size_of("warp.ptx") + 1,
				      none, fn, 2),
			 -ENOENT);
	WHY("cuModuleGetFunction: CUDA_ERROR_NOT_FOUND, looking for kernel "
	    "scale_q");
	ck_assert_ptr_null(m);
	free(image);
	closed();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cuda device");
	TCase *t = tcase_create("device");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, no_library);
	tcase_add_test(t, a_call_is_missing);
	tcase_add_test(t, no_device);
	tcase_add_test(t, results);
	tcase_add_test(t, all_calls);
	tcase_add_test(t, choosing);
	tcase_add_test(t, pairing);
	tcase_add_loop_test(t, opening, 0, 5);
	tcase_add_test(t, another_device);
	tcase_add_test(t, arenas);
	tcase_add_test(t, no_room);
	tcase_add_test(t, arenas_without_vmm);
	tcase_add_loop_test(t, falls_back, 0, COUNT(fallbacks));
	tcase_add_test(t, uploads_in_order);
	tcase_add_test(t, does_not_wait);
	tcase_add_test(t, order_is_needed);
	tcase_add_test(t, waiting);
	tcase_add_test(t, refused_images);
	if (has_nvcc()) {
		tcase_add_loop_test(t, kernels, 0, 2);
		tcase_add_test(t, no_such_kernel);
	}
	suite_add_tcase(s, t);
	return s;
}

/* Some of them need no kernels. */
int main(void)
{
	return rig_suite(suite(), false);
}
