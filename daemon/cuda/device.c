/* SPDX-License-Identifier: MIT */
/* device.c - a GPU: chosen, opened, its errors told once, and waited for. */
#include "device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../clock.h"
#include "../log.h"

#define GIB ((double)(1 << 30))

/* --------------------------------------------------------------- errors */

/* The name at the beginning of a call's text. */
static int name_len(const char *call)
{
	return (int)strcspn(call, "(");
}

int cu_check(struct cu_dev *d, int result, const char *call, const char *fmt,
	     ...)
{
	char doing[96];
	char text[160];
	struct cu_error e;
	va_list ap;

	if (!result)
		return 0;
	e = cu_error(result);
	d->lost |= e.lost;
	va_start(ap, fmt);
	vsnprintf(doing, sizeof(doing), fmt, ap);
	va_end(ap);
	snprintf(d->why, sizeof(d->why), "%.*s: %s, %s", name_len(call), call,
		 cu_error_text(&d->drv, result, text, sizeof(text)), doing);
	return e.err;
}

int cu_fail(struct cu_dev *d, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->why, sizeof(d->why), fmt, ap);
	va_end(ap);
	return err;
}

void cu_dropped(struct cu_dev *d, int result, const char *call)
{
	char text[160];

	if (!result)
		return;
	d->lost |= cu_error(result).lost;
	log_warnx("cuda: %.*s: %s, giving back", name_len(call), call,
		  cu_error_text(&d->drv, result, text, sizeof(text)));
}

/* ------------------------------------------------------------- choosing */

struct pci {
	unsigned int domain;
	unsigned int bus;
	unsigned int dev;
	unsigned int fn;
};

/* With a domain of four digits, of eight as nvidia-smi has it, or none. */
static bool read_pci(const char *s, struct pci *p)
{
	int end = 0;

	memset(p, 0, sizeof(*p));
	if (sscanf(s, "%8x:%2x:%2x.%1x%n", &p->domain, &p->bus, &p->dev, &p->fn,
		   &end) == 4 &&
	    !s[end])
		return true;
	p->domain = 0;
	end = 0;
	return sscanf(s, "%2x:%2x.%1x%n", &p->bus, &p->dev, &p->fn, &end) ==
		       3 &&
	       end && !s[end];
}

static bool same_pci(const char *a, const char *b)
{
	struct pci x;
	struct pci y;

	return read_pci(a, &x) && read_pci(b, &y) && !memcmp(&x, &y, sizeof(x));
}

const struct gpu *cu_pair(const char *pci, const struct gpu *list, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (!strcmp(list[i].bus, "pci") && same_pci(list[i].where, pci))
			return &list[i];
	return NULL;
}

static int choose_first(const struct cu_id *ids, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (ids[i].sm >= CU_SM_MIN)
			return i;
	return 0;
}

static int choose_index(int n, const char *which, char why[CU_WHY])
{
	unsigned long i;

	if (which[strspn(which, "0123456789")]) {
		snprintf(why, CU_WHY,
			 "cuda: '%.80s' is no index, no UUID (GPU-...) and no "
			 "PCI address (0000:01:00.0)",
			 which);
		return -EINVAL;
	}
	i = strtoul(which, NULL, 10);
	if (i < (unsigned long)n)
		return (int)i;
	snprintf(why, CU_WHY, "cuda: no device %.80s, there %s %d", which,
		 n == 1 ? "is" : "are", n);
	return -ENODEV;
}

int cu_choose(const struct cu_id *ids, int n, const char *which,
	      char why[CU_WHY])
{
	bool uuid = !strncasecmp(which, "GPU-", 4);
	struct pci pci;
	int found = -ENODEV;
	int i;

	if (n < 1) {
		snprintf(why, CU_WHY, "cuda: the driver has no device");
		return -ENODEV;
	}
	if (!*which)
		return choose_first(ids, n);
	if (!uuid && !read_pci(which, &pci))
		return choose_index(n, which, why);
	for (i = 0; i < n; i++) {
		if (uuid ? strncasecmp(ids[i].uuid, which, strlen(which))
			 : !same_pci(ids[i].pci, which))
			continue;
		if (found >= 0) {
			snprintf(why, CU_WHY,
				 "cuda: '%.80s' is the beginning of more than "
				 "one UUID",
				 which);
			return -EINVAL;
		}
		found = i;
	}
	if (found < 0)
		snprintf(why, CU_WHY, "cuda: no device '%.80s' among %d", which,
			 n);
	return found;
}

static int attribute(struct cu_dev *d, enum cu_dev_attr attr, int *v)
{
	return CU(d, cuDeviceGetAttribute(v, attr, d->id.dev),
		  "attribute %d of device %d", attr, d->id.dev);
}

static void print_uuid(char out[48], const struct cu_uuid *u)
{
	char *p = out + sprintf(out, "GPU");
	int i;

	for (i = 0; i < 16; i++)
		p += sprintf(p, "%s%02x",
			     !i || i == 4 || i == 6 || i == 8 || i == 10 ? "-"
									 : "",
			     (uint8_t)u->bytes[i]);
}

/* What identifies device @i: into d->id. */
static int identify(struct cu_dev *d, int i)
{
	struct cu_id *id = &d->id;
	struct cu_uuid uuid;
	char pci[32];
	struct pci at;
	int major;
	int minor;
	int rc;

	memset(id, 0, sizeof(*id));
	rc = CU(d, cuDeviceGet(&id->dev, i), "device %d", i);
	if (!rc)
		rc = CU(d, cuDeviceGetName(id->name, sizeof(id->name), id->dev),
			"device %d", i);
	if (!rc)
		rc = CU(d, cuDeviceGetUuid(&uuid, id->dev), "device %d", i);
	if (!rc)
		rc = CU(d, cuDeviceGetPCIBusId(pci, sizeof(pci), id->dev),
			"device %d", i);
	if (!rc)
		rc = attribute(d, CU_DEV_MAJOR, &major);
	if (!rc)
		rc = attribute(d, CU_DEV_MINOR, &minor);
	if (rc)
		return rc;
	id->sm = major * 10 + minor;
	print_uuid(id->uuid, &uuid);
	if (read_pci(pci, &at))
		snprintf(id->pci, sizeof(id->pci), "%04x:%02x:%02x.%x",
			 at.domain & 0xffff, at.bus & 0xff, at.dev & 0xff,
			 at.fn & 0xf);
	return 0;
}

static int choose(struct cu_dev *d, const char *which)
{
	struct cu_id ids[CU_DEVICES];
	int n = 0;
	int rc;
	int i;

	rc = CU(d, cuDeviceGetCount(&n), "counting devices");
	if (rc)
		return rc;
	if (n > CU_DEVICES)
		n = CU_DEVICES;
	for (i = 0; i < n; i++) {
		rc = identify(d, i);
		if (rc)
			return rc;
		ids[i] = d->id;
	}
	i = cu_choose(ids, n, which, d->why);
	if (i < 0)
		return i;
	d->id = ids[i];
	if (d->id.sm < CU_SM_MIN)
		return cu_fail(d, -EOPNOTSUPP,
			       "cuda: %s at %s is sm_%d, our kernels need "
			       "sm_%d",
			       d->id.name, d->id.pci, d->id.sm, CU_SM_MIN);
	return 0;
}

/* -------------------------------------------------------------- opening */

static int ask_numbers(struct cu_dev *d)
{
	const struct {
		enum cu_dev_attr attr;
		int at;
	} want[] = { { CU_DEV_SMS, 0 },
		     { CU_DEV_SHARED_BLOCK, 1 },
		     { CU_DEV_SHARED_SM, 2 },
		     { CU_DEV_L2_BYTES, 3 },
		     { CU_DEV_VMM, 4 },
		     { CU_DEV_HOST_REGISTER, 5 },
		     { CU_DEV_READ_ONLY_REGISTER, 6 } };
	int v[7] = { 0 };
	size_t total = 0;
	size_t i;
	int rc;

	for (i = 0; i < sizeof(want) / sizeof(*want); i++) {
		rc = attribute(d, want[i].attr, &v[want[i].at]);
		if (rc)
			return rc;
	}
	d->n_sm = v[0];
	d->shared_block = (uint32_t)v[1];
	d->shared_sm = (uint32_t)v[2];
	d->l2_bytes = (uint64_t)v[3];
	d->vmm = v[4];
	d->registers = v[5];
	d->read_only = v[5] && v[6];
	rc = CU(d, cuDeviceTotalMem(&total, d->id.dev), "memory of device %d",
		d->id.dev);
	d->vram_bytes = total;
	return rc;
}

static void find_drm(struct cu_dev *d)
{
	struct gpu list[GPU_MAX];
	const struct gpu *g = NULL;
	int n = gpu_list(list, GPU_MAX);

	if (n > 0)
		g = cu_pair(d->id.pci, list, n);
	d->has_drm = g;
	if (g)
		d->drm = *g;
}

static int open_context(struct cu_dev *d)
{
	int rc;

	rc = CU(d, cuDevicePrimaryCtxSetFlags(d->id.dev, CU_CTX_BLOCKING),
		"opening a context");
	if (!rc)
		rc = CU(d, cuDevicePrimaryCtxRetain(&d->ctx, d->id.dev),
			"opening a context");
	if (rc)
		return rc;
	d->opened = true;
	return CU(d, cuCtxSetCurrent(d->ctx), "opening a context");
}

static int open_streams(struct cu_dev *d)
{
	int least = 0;
	int greatest = 0;
	int rc;

	rc = CU(d, cuCtxGetStreamPriorityRange(&least, &greatest),
		"opening streams");
	if (!rc)
		rc = CU(d,
			cuStreamCreateWithPriority(
				&d->compute, CU_STREAM_NON_BLOCKING, greatest),
			"opening the stream of kernels");
	if (!rc)
		rc = CU(d,
			cuStreamCreateWithPriority(
				&d->copy, CU_STREAM_NON_BLOCKING, least),
			"opening the stream of copies");
	return rc;
}

/* What memory is mapped in: 2 MiB on all there is, but the driver says. */
static int ask_granule(struct cu_dev *d)
{
	const struct cu_alloc_prop prop = { .type = 1,
					    .location = { 1, d->id.dev } };
	size_t n = 0;
	int rc;

	d->granule = CU_GRANULE;
	if (!d->vmm)
		return 0;
	rc = CU(d,
		cuMemGetAllocationGranularity(&n, &prop, CU_GRANULARITY_LEAST),
		"asking for the granularity");
	if (!rc && n > d->granule)
		d->granule = n;
	return rc;
}

int cu_dev_open(struct cu_dev *d, const struct backend_conf *conf,
		const char *which, const char *lib)
{
	int rc;

	memset(d, 0, sizeof(*d));
	d->conf = *conf;
	d->piece_bytes = CU_UPLOAD_PIECE;
	d->pin_bytes = CU_REGISTER_PIECE;
	rc = cu_driver_open(&d->drv, lib, d->why);
	if (!rc)
		rc = choose(d, which);
	if (!rc)
		rc = ask_numbers(d);
	if (!rc)
		rc = open_context(d);
	if (!rc)
		rc = open_streams(d);
	if (!rc)
		rc = ask_granule(d);
	if (rc) {
		cu_dev_close(d);
		return rc;
	}
	find_drm(d);
	return 0;
}

void cu_dev_close(struct cu_dev *d)
{
	if (d->copy)
		CU_DROP(d, cuStreamDestroy(d->copy));
	if (d->compute)
		CU_DROP(d, cuStreamDestroy(d->compute));
	if (d->opened) {
		CU_DROP(d, cuCtxSetCurrent(NULL));
		CU_DROP(d, cuDevicePrimaryCtxRelease(d->id.dev));
	}
	d->copy = NULL;
	d->compute = NULL;
	d->opened = false;
}

int cu_dev_print(const struct cu_dev *d, char *buf, size_t n)
{
	return snprintf(buf, n,
			"%s (sm_%d, %d SMs, %.1f GiB), pci %s, %s, driver of "
			"CUDA %d.%d",
			d->id.name, d->id.sm, d->n_sm,
			(double)d->vram_bytes / GIB, d->id.pci,
			d->has_drm ? d->drm.node : "not known to DRM",
			d->drv.version / 1000, d->drv.version % 1000 / 10);
}

int cu_dev_left(struct cu_dev *d, uint64_t *left)
{
	size_t now = 0;
	size_t total;
	int rc = CU(d, cuMemGetInfo(&now, &total), "asking for free memory");

	*left = now;
	return rc;
}

/* -------------------------------------------------------------- waiting */

int cu_event_new(struct cu_dev *d, struct cu_event **e, bool timed)
{
	return CU(d,
		  cuEventCreate(e, CU_EVENT_BLOCKING |
					   (timed ? 0 : CU_EVENT_NO_TIMING)),
		  "making an event");
}

void cu_event_free(struct cu_dev *d, struct cu_event **e)
{
	if (*e)
		CU_DROP(d, cuEventDestroy(*e));
	*e = NULL;
}

int cu_wait(struct cu_dev *d, struct cu_event *e, const char *doing)
{
	uint64_t end = clock_ns() + (uint64_t)d->conf.spin_us * 1000;
	int result;

	do {
		result = d->drv.cuEventQuery(e);
		if (result != CU_NOT_READY)
			return cu_check(d, result, "cuEventQuery", "%s", doing);
	} while (clock_ns() < end);
	return CU(d, cuEventSynchronize(e), "%s", doing);
}
