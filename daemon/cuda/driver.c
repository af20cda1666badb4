/* SPDX-License-Identifier: MIT */
/* driver.c - libcuda.so.1, found at run time, and what its results mean. */
#include "driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct call {
	const char *name;
	int since;
	bool required;
	size_t at; /* in struct cu_driver */
} calls[] = {
#define CALL(name, since, required, args) \
	{ #name, since, required, offsetof(struct cu_driver, name) },
#include "calls.def"
#undef CALL
};

/* Results from one to another, both included, in order. */
static const struct {
	int first;
	int last;
	struct cu_error means;
} errors[] = {
	/* clang-format off */
	{ CU_INVALID_VALUE, 0, { -EINVAL, false } },
	{ CU_OUT_OF_MEMORY, 0, { -ENOMEM, false } },
	{ CU_NOT_INITIALIZED, 0, { -EINVAL, false } },
	{ CU_DEINITIALIZED, 0, { -EIO, true } },
	{ CU_STUB_LIBRARY, 0, { -ENOSYS, false } },
	{ CU_NEWER_DRIVER, 0, { -ENOSYS, false } },
	{ CU_DEVICE_UNAVAILABLE, 0, { -EIO, true } },
	{ CU_NO_DEVICE, CU_NOT_LICENSED, { -ENODEV, false } },
	{ CU_INVALID_IMAGE, 0, { -ENOEXEC, false } },
	{ CU_INVALID_CONTEXT, 0, { -EINVAL, false } },
	{ CU_NO_BINARY, 0, { -ENOEXEC, false } },
	{ CU_ECC, 0, { -EIO, true } },
	{ CU_INVALID_PTX, 0, { -ENOEXEC, false } },
	{ CU_NVLINK, 0, { -EIO, true } },
	{ CU_NVLINK + 1, CU_JIT_DISABLED, { -ENOEXEC, false } }, /* no compiler */
	{ CU_CONTAINED, 0, { -EIO, true } },
	{ CU_OPERATING_SYSTEM, 0, { -EIO, false } },
	{ CU_INVALID_HANDLE, 0, { -EINVAL, false } },
	{ CU_NOT_FOUND, 0, { -ENOENT, false } },
	{ CU_NOT_READY, 0, { -EAGAIN, false } },
	{ CU_ILLEGAL_ADDRESS, 0, { -EIO, true } },
	{ CU_OUT_OF_RESOURCES, 0, { -EINVAL, false } }, /* more than a block may have */
	{ CU_TIMEOUT, 0, { -EIO, true } },
	{ CU_CONTEXT_DESTROYED, CU_ASSERT, { -EIO, true } },
	{ CU_ALREADY_REGISTERED, 0, { -EEXIST, false } },
	{ CU_NOT_REGISTERED, 0, { -ENOENT, false } },
	{ CU_HARDWARE_STACK, CU_LAUNCH_FAILED, { -EIO, true } },
	{ CU_TOO_LARGE, 0, { -EINVAL, false } },
	{ CU_TENSOR_MEMORY_LEAK, 0, { -EIO, true } },
	{ CU_NOT_PERMITTED, 0, { -EPERM, false } },
	{ CU_NOT_SUPPORTED, 0, { -EOPNOTSUPP, false } },
	{ CU_SYSTEM_NOT_READY, CU_COMPAT_NOT_SUPPORTED, { -ENODEV, false } },
	{ CU_CAPTURE_UNSUPPORTED, CU_CAPTURE_WRONG_THREAD, { -EINVAL, false } },
	/* clang-format on */
};

struct cu_error cu_error(int result)
{
	size_t i;

	for (i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		int first = errors[i].first;
		int last = errors[i].last ? errors[i].last : first;

		if (result >= first && result <= last)
			return errors[i].means;
	}
	return (struct cu_error){ -EIO, true };
}

char *cu_error_text(const struct cu_driver *drv, int result, char *buf,
		    size_t n)
{
	const char *name = NULL;
	const char *text = NULL;

	if (drv->cuGetErrorName && drv->cuGetErrorName(result, &name))
		name = NULL;
	if (drv->cuGetErrorString && drv->cuGetErrorString(result, &text))
		text = NULL;
	if (!name)
		snprintf(buf, n, "error %d", result);
	else if (!text || !strcmp(name, text))
		snprintf(buf, n, "%s", name);
	else
		snprintf(buf, n, "%s: %s", name, text);
	return buf;
}

static int too_old(int version, char why[CU_WHY])
{
	snprintf(why, CU_WHY,
		 "cuda: the driver is of CUDA %d.%d, %d.%d is the oldest that "
		 "will do",
		 version / 1000, version % 1000 / 10, CU_DRIVER_MIN / 1000,
		 CU_DRIVER_MIN % 1000 / 10);
	return -ENOSYS;
}

/* Of drivers that are too old for the way we ask, all that can be told. */
static int no_way_to_ask(void *so, char why[CU_WHY])
{
	int (*get)(int *);
	int version = 0;

	*(void **)&get = dlsym(so, "cuDriverGetVersion");
	if (get && !get(&version) && version < CU_DRIVER_MIN)
		return too_old(version, why);
	snprintf(why, CU_WHY, "cuda: %s",
		 "cuGetProcAddress_v2 is not in libcuda.so.1");
	return -ENOSYS;
}

static int find_calls(struct cu_driver *drv, void *so, char why[CU_WHY])
{
	int (*get)(const char *, void **, int, uint64_t, int *);
	size_t i;

	*(void **)&get = dlsym(so, "cuGetProcAddress_v2");
	if (!get)
		return no_way_to_ask(so, why);
	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		const struct call *c = &calls[i];
		void **to = (void **)(void *)((char *)drv + c->at);
		int status = 0;
		int rc = get(c->name, to, c->since, 0, &status);

		if (rc || status)
			*to = NULL;
		if (*to || !c->required)
			continue;
		if (drv->cuDriverGetVersion)
			drv->cuDriverGetVersion(&drv->version);
		snprintf(why, CU_WHY,
			 "cuda: %s of CUDA %d.%d is not in this driver, which "
			 "is of %d.%d",
			 c->name, c->since / 1000, c->since % 1000 / 10,
			 drv->version / 1000, drv->version % 1000 / 10);
		return -ENOSYS;
	}
	return 0;
}

int cu_driver_open(struct cu_driver *drv, const char *lib, char why[CU_WHY])
{
	char text[160];
	void *so;
	int rc;

	memset(drv, 0, sizeof(*drv));
	so = dlopen(lib ? lib : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		snprintf(why, CU_WHY, "cuda: %.300s", dlerror());
		return -ENOENT;
	}
	rc = find_calls(drv, so, why);
	if (rc)
		return rc;
	rc = drv->cuDriverGetVersion(&drv->version);
	if (rc) {
		snprintf(why, CU_WHY, "cuda: cuDriverGetVersion: %s",
			 cu_error_text(drv, rc, text, sizeof(text)));
		return cu_error(rc).err;
	}
	if (drv->version < CU_DRIVER_MIN)
		return too_old(drv->version, why);
	rc = drv->cuInit(0);
	if (rc) {
		snprintf(why, CU_WHY, "cuda: cuInit: %s (driver of CUDA %d.%d)",
			 cu_error_text(drv, rc, text, sizeof(text)),
			 drv->version / 1000, drv->version % 1000 / 10);
		return cu_error(rc).err;
	}
	return 0;
}
