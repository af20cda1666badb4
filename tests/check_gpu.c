/* SPDX-License-Identifier: MIT */
/* check_gpu.c - GPUs as libdrm would report them, with a made-up sysfs. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xf86drm.h>

#include "../daemon/gpu.h"
#include "util.h"

static char sys_dir[64];

static void make_dir(const char *rel)
{
	char path[256];

	make_way(path, sys_dir, rel);
	ck_assert(!mkdir(path, 0700));
}

static void make_link(const char *rel, const char *to)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", sys_dir, rel);
	ck_assert(!symlink(to, path));
}

static void setup(void)
{
	strcpy(sys_dir, "/tmp/check_gpu.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(sys_dir));
	make_dir("bus/pci/devices/0000:01:00.0");
	make_link("bus/pci/devices/0000:01:00.0/driver",
		  "../../../bus/pci/drivers/nvidia");
	make_dir("bus/platform/devices/vgem");
}

static void teardown(void)
{
	ck_assert_int_eq(remove_tree(sys_dir), 0);
}

/* A device with nodes that nobody can open. */
struct fake {
	drmDevice d;
	char *nodes[DRM_NODE_MAX];
	char primary[32];
	char render[32];
	drmPciBusInfo pci;
	drmPciDeviceInfo pci_dev;
	drmPlatformBusInfo platform;
};

static void fake_init(struct fake *f, int bus)
{
	memset(f, 0, sizeof(*f));
	strcpy(f->primary, "/nowhere/card0");
	strcpy(f->render, "/nowhere/renderD128");
	f->nodes[DRM_NODE_PRIMARY] = f->primary;
	f->nodes[DRM_NODE_RENDER] = f->render;
	f->d.nodes = f->nodes;
	f->d.available_nodes = 1 << DRM_NODE_PRIMARY | 1 << DRM_NODE_RENDER;
	f->d.bustype = bus;
	if (bus == DRM_BUS_PCI) {
		f->pci.bus = 1;
		f->pci_dev.vendor_id = 0x10de;
		f->pci_dev.device_id = 0x2330;
		f->d.businfo.pci = &f->pci;
		f->d.deviceinfo.pci = &f->pci_dev;
	} else if (bus == DRM_BUS_PLATFORM) {
		strcpy(f->platform.fullname, "platform:vgem");
		f->d.businfo.platform = &f->platform;
	}
}

START_TEST(nvidia)
{
	struct fake f;
	struct gpu g;
	char text[200];

	fake_init(&f, DRM_BUS_PCI);
	gpu_fill(&g, &f.d, sys_dir);
	ck_assert(g.render && g.computes);
	ck_assert_ptr_nonnull(strstr(g.serves, "cuda backend"));
	ck_assert_int_eq(gpu_print(&g, text, sizeof(text)), strlen(text));
	ck_assert_str_eq(text, "pci 0000:01:00.0, NVIDIA 0x2330, "
			       "driver nvidia, /nowhere/renderD128");
}
END_TEST

/* A card that only drives a display, and a vendor that nobody has heard of. */
START_TEST(no_compute)
{
	struct fake f;
	struct gpu g;

	fake_init(&f, DRM_BUS_PCI);
	f.d.available_nodes = 1 << DRM_NODE_PRIMARY;
	gpu_fill(&g, &f.d, sys_dir);
	ck_assert(!g.render && !g.computes);
	ck_assert_str_eq(g.node, "/nowhere/card0");
	ck_assert_str_eq(g.serves, "nothing here computes");
	fake_init(&f, DRM_BUS_PCI);
	f.pci_dev.vendor_id = 0xbeef;
	f.pci.domain = 0xabcd;
	f.pci.dev = 31;
	f.pci.func = 7;
	gpu_fill(&g, &f.d, sys_dir);
	ck_assert(!g.computes);
	ck_assert_str_eq(g.vendor, "0xbeef");
	ck_assert_str_eq(g.where, "abcd:01:1f.7");
	ck_assert_str_eq(g.driver, "?");
}
END_TEST

START_TEST(odd_buses)
{
	struct fake f;
	struct gpu g;
	char text[200];

	fake_init(&f, DRM_BUS_PLATFORM);
	gpu_fill(&g, &f.d, sys_dir);
	gpu_print(&g, text, sizeof(text));
	ck_assert_str_eq(text, "platform vgem, no vendor, driver ?, "
			       "/nowhere/renderD128");
	ck_assert(!g.computes);
	/* a long name is cut, not written past its end */
	memset(f.platform.fullname, 'x', sizeof(f.platform.fullname) - 1);
	gpu_fill(&g, &f.d, sys_dir);
	ck_assert_uint_eq(strlen(g.where), sizeof(g.where) - 1);
	fake_init(&f, 99);
	f.d.available_nodes = 0;
	gpu_fill(&g, &f.d, sys_dir);
	gpu_print(&g, text, sizeof(text));
	ck_assert_str_eq(text, "bus 99 ?, no vendor, driver ?, no node");
}
END_TEST

/* Whatever this machine has. */
START_TEST(real)
{
	struct gpu g[GPU_MAX];
	int n = gpu_list(g, GPU_MAX);
	int i;

	ck_assert_int_ge(n, 0);
	for (i = 0; i < n; i++)
		ck_assert(*g[i].bus && *g[i].where && *g[i].driver &&
			  *g[i].vendor && g[i].serves);
	ck_assert_int_le(gpu_list(g, 1), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gpu");
	TCase *t = tcase_create("gpu");
	SRunner *r;
	int bad;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nvidia);
	tcase_add_test(t, no_compute);
	tcase_add_test(t, odd_buses);
	tcase_add_test(t, real);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad != 0;
}
