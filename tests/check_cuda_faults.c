/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_faults.c - every driver call of the device layer fails, hangs or
 * loses the context, one after the other.
 */
#include "../daemon/weights.h"
#include "cuda_dev_rig.h"

/* All that a backend does with a device, in small. */
struct rig {
	struct cu_arena weights;
	struct cu_arena scratch;
	struct cu_upload up;
	struct cu_event *done;
	struct cu_module *m;
	struct cu_exec *x;
	void *out;
	const uint8_t *map;
};
#define UP_OFF	  ((uint64_t)4096)
#define UP_BYTES  ((uint64_t)131072)
#define MAP_BYTES (UP_OFF + UP_BYTES)

static char *image;
static size_t image_bytes;

static int rig_memory(struct rig *r)
{
	int rc = cu_arena_open(&dev, &r->weights, CU_WEIGHTS, 8 * MIB);

	if (!rc)
		rc = cu_arena_grow(&dev, &r->weights, UP_BYTES);
	if (!rc)
		rc = cu_arena_grow(&dev, &r->weights, 3 * MIB);
	if (!rc)
		rc = cu_arena_open(&dev, &r->scratch, CU_SCRATCH, 8192);
	if (!rc)
		rc = cu_arena_grow(&dev, &r->scratch, 8192);
	return rc;
}

/* Two registrations, of two copies each. */
static int rig_upload(struct rig *r)
{
	const struct weights_run run = { .off = UP_OFF, .bytes = UP_BYTES };
	const struct cu_host h = { .what = "pool",
				   .base = r->map,
				   .run = &run,
				   .n_runs = 1,
				   .read_only = true };
	int rc;

	dev.piece_bytes = UP_BYTES / 4;
	dev.pin_bytes = UP_BYTES / 2;
	rc = cu_upload_start(&r->up, &dev, r->weights.at, &h);
	if (!rc)
		rc = cu_upload_order(&r->up, UP_BYTES, dev.compute);
	return rc < 0 ? rc : 0;
}

static int rig_result(struct rig *r)
{
	uint8_t *got = malloc(UP_BYTES);
	uint64_t at;
	int rc = cu_pinned_new(&dev, 4096, &r->out, &at);

	if (!rc)
		rc = CU(&dev,
			cuMemcpyDtoHAsync(r->out, r->scratch.at + 4096, 4000,
					  dev.compute),
			"reading");
	if (!rc)
		rc = cu_event_new(&dev, &r->done, false);
	if (!rc)
		rc = CU(&dev, cuEventRecord(r->done, dev.compute), "reading");
	if (!rc)
		rc = cu_wait(&dev, r->done, "waiting for the step");
	if (!rc)
		rc = cu_upload_wait(&r->up, UP_BYTES);
	if (!rc)
		rc = cu_get(&dev, got, r->weights.at, UP_BYTES);
	if (!rc) {
		ck_assert_mem_eq(got, r->map + UP_OFF, UP_BYTES);
		if (image)
			ck_assert_float_eq(((float *)r->out)[999], 30);
	}
	free(got);
	return rc;
}

static int scenario(void)
{
	struct rig r = { .map = mapping(MAP_BYTES, UP_OFF, UP_BYTES) };
	const struct backend_conf asleep = { .beat = &beat };
	int rc = cu_dev_open(&dev, &asleep, "", lib());

	if (rc)
		goto unmap;
	rc = rig_memory(&r);
	if (!rc)
		rc = rig_upload(&r);
	if (!rc && image)
		rc = run_kernels(image, image_bytes, r.scratch.at,
				 r.scratch.at + 4096, &r.m, &r.x);
	if (!rc)
		rc = rig_result(&r);
	cu_upload_drop(&r.up);
	cu_exec_free(&dev, &r.x);
	cu_code_unload(&dev, &r.m);
	cu_event_free(&dev, &r.done);
	cu_pinned_free(&dev, r.out, 4096);
	cu_arena_close(&dev, &r.scratch);
	cu_arena_close(&dev, &r.weights);
	cu_dev_close(&dev);
unmap:
	munmap((void *)(uintptr_t)r.map, MAP_BYTES);
	return rc;
}

/* The name of the call that failed as planned, without its version. */
static char *failed(void)
{
	static char name[64];
	const char *s = strstr(said(), "as CUDASIM_FAIL says");

	if (!s)
		return NULL;
	while (s > said() && s[-1] != '\n')
		s--;
	ck_assert_int_eq(sscanf(s, "cudasim: call %*d, %63[^:]", name), 1);
	if (strstr(name, "_v"))
		*strstr(name, "_v") = 0;
	return name;
}

/* Where a failure is no reason not to go on. */
static bool gives_back(const char *name)
{
	static const char *const how[] = { "Destroy",	"Free",	  "Release",
					   "Unmap",	"Unload", "Unregister",
					   "SetCurrent" };
	unsigned int i;

	for (i = 0; i < COUNT(how); i++)
		if (strstr(name, how[i]))
			return true;
	return false;
}

static void plan(const char *how, int n)
{
	char text[64];

	image = has_nvcc() ? read_built("warp.ptx") : NULL;
	image_bytes = image ? size_of("warp.ptx") + 1 : 0;
	listen_in();
	log_init("test", 0);
	snprintf(text, sizeof(text), how, n);
	setenv("CUDASIM_FAIL", text, 1);
}

/* It was told by the call's name: as an error, or in the log if it went on. */
static void check_told(int rc, const char *name)
{
	char line[80];

	if (!strcmp(name, "cuGetProcAddress")) {
		/* one of them may be missing */
		if (rc && !dev.lost)
			WHY("is not in this driver");
		return;
	}
	snprintf(line, sizeof(line), "%s: CUDA_ERROR_", name);
	ck_assert_msg(strstr(dev.why, line) || strstr(said(), line),
		      "%s failed, and '%s' is what is told", name, dev.why);
	if (!rc)
		ck_assert_msg(gives_back(name) ||
				      !strcmp(name, "cuMemHostRegister"),
			      "%s failed, and nobody noticed", name);
}

/*
 * Whether an event is waited for or is there at the first look is the device's
 * matter, so the last few calls are not made in each run.
 */
#define VARY 8
static struct {
	int calls;
	_Atomic int reached; /* of them, by any_call_fails */
} * shared;

START_TEST(any_call_fails)
{
	const char *name;
	int rc;

	plan("%d:OUT_OF_MEMORY", _i);
	rc = scenario();
	name = failed();
	if (!name) {
		ck_assert_msg(_i > shared->calls - VARY, "call %d: %s", _i,
			      said());
		ck_assert_int_eq(rc, 0);
	} else {
		shared->reached++;
		check_told(rc, name);
		ck_assert(!dev.lost);
		/* What could not be given back is left, and else nothing. */
		if (!gives_back(name) && strcmp(name, "cuStreamEndCapture"))
			QUIET("released with");
	}
	ck_assert_uint_eq(dev.total.now, 0);
	ck_assert_uint_eq(dev.pinned.now, 0);
	/* it was that call's failure and nothing else's */
	unsetenv("CUDASIM_FAIL");
	rc = scenario();
	ck_assert_msg(!rc, "%s", dev.why);
	free(image);
}
END_TEST

START_TEST(any_call_loses_the_context)
{
	const char *name;
	int rc;

	plan("%d:lost", _i);
	rc = scenario();
	name = failed();
	if (!name) {
		ck_assert_int_gt(_i, shared->calls - VARY);
		ck_assert_int_eq(rc, 0);
		return;
	}
	check_told(rc, name);
	/* Before it is initialised, there is none to lose. */
	if (strcmp(name, "cuGetProcAddress") && strcmp(name, "cuInit") &&
	    strcmp(name, "cuDriverGetVersion")) {
		ck_assert(dev.lost);
		if (rc)
			ck_assert_int_eq(rc, -EIO);
	}
	ck_assert_uint_eq(dev.total.now, 0);
	ck_assert_uint_eq(dev.pinned.now, 0);
	/* and for good: in this process there is no other */
	rc = scenario();
	ck_assert_int_lt(rc, 0);
	free(image);
}
END_TEST

/* Ends the process when nothing has beaten for a while, as a monitor does. */
static void *watch(void *arg)
{
	uint64_t last = 0;
	int still = 0;

	(void)arg;
	while (still < 10) {
		usleep(50000);
		still = atomic_load(&beat) == last ? still + 1 : 0;
		last = atomic_load(&beat);
	}
	_exit(beat ? 42 : 43);
}

static const char *const hangs[] = {
	"cuMemHostRegister#%d:hang", "cuMemcpyHtoDAsync#%d:hang",
	"cuEventQuery#%d:hang",	     "cuStreamSynchronize#%d:hang",
	"cuMemUnmap#%d:hang",	     "cuMemCreate#%d:hang",
};

START_TEST(a_call_hangs)
{
	pthread_t t;

	plan(hangs[_i], 1);
	atomic_store(&beat, 1);
	ck_assert_int_eq(pthread_create(&t, NULL, watch, NULL), 0);
	scenario();
	_exit(0);
}
END_TEST

START_TEST(counting)
{
	const char *s;

	plan("%d:OUT_OF_MEMORY", 0);
	setenv("CUDASIM_TRACE", "1", 1);
	GOOD(scenario());
	for (s = strstr(said(), "call "); s; s = strstr(s + 1, "call "))
		shared->calls = atoi(s + 5);
	ck_assert_int_gt(shared->calls, 100);
	free(image);
}
END_TEST

static int run(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int n;

	srunner_run_all(sr, CK_NORMAL);
	n = srunner_ntests_failed(sr);
	srunner_free(sr);
	return n;
}

static Suite *counts(void)
{
	Suite *s = suite_create("cuda faults: calls");
	TCase *t = tcase_create("counting");

	tcase_add_test(t, counting);
	suite_add_tcase(s, t);
	return s;
}

static Suite *faults(void)
{
	Suite *s = suite_create("cuda faults");
	TCase *t = tcase_create("failures");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, any_call_fails, 1, shared->calls + 2);
	tcase_add_loop_test(t, any_call_loses_the_context, 1,
			    shared->calls + 1);
	tcase_add_loop_exit_test(t, a_call_hangs, 42, 0, COUNT(hangs));
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	int n;

	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || run(counts()))
		return 1;
	n = run(faults());
	printf("%d calls failed%s\n", shared->reached,
	       has_nvcc() ? "" : ", none of kernels: there is no nvcc");
	return n || shared->reached < shared->calls - VARY;
}
