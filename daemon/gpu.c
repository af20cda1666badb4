/* SPDX-License-Identifier: MIT */
/* gpu.c - the GPUs of this machine, through libdrm. */
#include "gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xf86drm.h>

static const struct vendor {
	uint16_t id;
	const char *name;
	const char *serves; /* NULL: nothing that could compute */
} vendors[] = {
	{ 0x10de, "NVIDIA", "cuda backend, with libcuda and sm_80; else cpu" },
	{ 0x1002, "AMD", "cpu backend; no backend for AMD in this build" },
	{ 0x8086, "Intel", "cpu backend; no backend for Intel in this build" },
	{ 0x1af4, "virtio", NULL },
	{ 0x1234, "QEMU", NULL },
	{ 0x1b36, "QXL", NULL },
	{ 0x15ad, "VMware", NULL },
	{ 0x1a03, "ASPEED", NULL },
	{ 0x102b, "Matrox", NULL },
};

/* The last part of what a "driver" link in sysfs points to. */
static bool driver_link(char out[32], const char *sys, const char *bus,
			const char *where)
{
	char path[PATH_MAX];
	char to[PATH_MAX];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/bus/%s/devices/%s/driver", sys, bus,
		 where);
	n = readlink(path, to, sizeof(to) - 1);
	if (n <= 0)
		return false;
	to[n] = 0;
	slash = strrchr(to, '/');
	snprintf(out, 32, "%.31s", slash ? slash + 1 : to);
	return true;
}

/* Asks the driver itself, which needs the right to open the node. */
static bool driver_version(char out[32], const char *node)
{
	drmVersionPtr v;
	int fd = open(node, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	v = drmGetVersion(fd);
	close(fd);
	if (!v)
		return false;
	snprintf(out, 32, "%.*s", v->name_len < 31 ? v->name_len : 31, v->name);
	drmFreeVersion(v);
	return true;
}

static void fill_place(struct gpu *g, const struct _drmDevice *d)
{
	const drmPciBusInfo *pci;
	const char *name;

	switch (d->bustype) {
	case DRM_BUS_PCI:
		pci = d->businfo.pci;
		snprintf(g->bus, sizeof(g->bus), "pci");
		snprintf(g->where, sizeof(g->where), "%04x:%02x:%02x.%x",
			 pci->domain, pci->bus, pci->dev, pci->func);
		g->vendor_id = d->deviceinfo.pci->vendor_id;
		g->device_id = d->deviceinfo.pci->device_id;
		break;
	case DRM_BUS_PLATFORM:
		/* "platform:vgem", or a path of the device tree */
		name = d->businfo.platform->fullname;
		if (!strncmp(name, "platform:", 9))
			name += 9;
		snprintf(g->bus, sizeof(g->bus), "platform");
		snprintf(g->where, sizeof(g->where), "%.63s", name);
		break;
	case DRM_BUS_USB:
		snprintf(g->bus, sizeof(g->bus), "usb");
		snprintf(g->where, sizeof(g->where), "%u-%u",
			 d->businfo.usb->bus, d->businfo.usb->dev);
		break;
	default:
		snprintf(g->bus, sizeof(g->bus), "bus %d", d->bustype);
		snprintf(g->where, sizeof(g->where), "?");
	}
}

static void fill_vendor(struct gpu *g)
{
	size_t i;

	g->serves = "nothing here computes";
	snprintf(g->vendor, sizeof(g->vendor), "0x%04x", g->vendor_id);
	for (i = 0; i < sizeof(vendors) / sizeof(vendors[0]); i++) {
		if (vendors[i].id != g->vendor_id)
			continue;
		snprintf(g->vendor, sizeof(g->vendor), "%s", vendors[i].name);
		g->computes = vendors[i].serves && g->render;
		if (g->computes)
			g->serves = vendors[i].serves;
	}
	if (!g->vendor_id)
		snprintf(g->vendor, sizeof(g->vendor), "no vendor");
}

void gpu_fill(struct gpu *g, const struct _drmDevice *d, const char *sys)
{
	memset(g, 0, sizeof(*g));
	g->render = d->available_nodes & 1 << DRM_NODE_RENDER;
	if (g->render)
		snprintf(g->node, sizeof(g->node), "%.63s",
			 d->nodes[DRM_NODE_RENDER]);
	else if (d->available_nodes & 1 << DRM_NODE_PRIMARY)
		snprintf(g->node, sizeof(g->node), "%.63s",
			 d->nodes[DRM_NODE_PRIMARY]);
	fill_place(g, d);
	fill_vendor(g);
	if (!driver_link(g->driver, sys, g->bus, g->where) &&
	    !driver_version(g->driver, g->node))
		snprintf(g->driver, sizeof(g->driver), "?");
}

int gpu_list(struct gpu *out, size_t max)
{
	drmDevicePtr list[GPU_MAX];
	int n = drmGetDevices2(0, list, GPU_MAX);
	int i;

	/* No DRM at all is no GPU. */
	if (n < 0)
		return n == -ENOENT ? 0 : n;
	if (n > GPU_MAX)
		n = GPU_MAX;
	for (i = 0; i < n && (size_t)i < max; i++)
		gpu_fill(&out[i], list[i], "/sys");
	drmFreeDevices(list, n);
	return i;
}

int gpu_print(const struct gpu *g, char *buf, size_t n)
{
	char id[16] = "";

	if (g->vendor_id)
		snprintf(id, sizeof(id), " 0x%04x", g->device_id);
	return snprintf(buf, n, "%s %s, %s%s, driver %s, %s", g->bus, g->where,
			g->vendor, id, g->driver,
			*g->node ? g->node : "no node");
}
