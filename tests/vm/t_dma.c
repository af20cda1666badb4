/* SPDX-License-Identifier: MIT */
/*
 * t_dma.c - devices use a buffer: QEMU's edu through the IOMMU, vgem through
 * libdrm.
 */
#include <sys/klog.h>
#include <xf86drm.h>

#include "count.h"
#include "dev.h"
#include "edu/hearth_edu.h"

#define N     16u /* huge pages */
#define BYTES (N * HPAGE)
#define GUARD 64u /* bytes around what a device writes */

static int d, edu;
static long pages;

static uint32_t next(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s;
}

static int export(const char *name)
{
	int fd = dev_get(d, HEARTH_DEV_IOC_EXPORT, name, 0, NULL);

	if (fd < 0)
		DIE("EXPORT %s: %s", name, strerror(-fd));
	return fd;
}

/* The device copies bytes from anywhere to anywhere, and nothing else. */
static void copy(const struct buf *b)
{
	struct edu_copy c = { .len = 0 };
	unsigned int i, wrong = 0, failed = 0;
	uint32_t s = 1;
	size_t k;

	for (k = 0; k < b->bytes; k += 4)
		*(uint32_t *)(b->map + k) = next(&s);
	for (i = 0; i < 16; i++) {
		char want[EDU_MAX + 2 * GUARD], *dst;

		c.len = i ? 1 + next(&s) % EDU_MAX : EDU_MAX;
		/* near the edge of a huge page, inside another one */
		c.src = (next(&s) % N) * HPAGE + HPAGE - c.len;
		c.dst = (next(&s) % N) * HPAGE + 4096 + next(&s) % 65536;
		dst = b->map + c.dst;
		memcpy(want, dst - GUARD, c.len + 2 * GUARD);
		memcpy(want + GUARD, b->map + c.src, c.len);
		failed += ioctl(edu, EDU_IOC_COPY, &c) != 0;
		wrong += memcmp(want, dst - GUARD, c.len + 2 * GUARD) != 0;
	}
	check(!failed && !wrong, "edu moves bytes in it (%u failed, %u wrong)",
	      failed, wrong);
	c.src = BYTES - c.len + 1;
	check(ioctl(edu, EDU_IOC_COPY, &c) && errno == EINVAL,
	      "but not beyond it");
}

static void import(int dbuf, struct edu_import *im, unsigned int max_seg)
{
	*im = (struct edu_import){ .fd = dbuf, .max_seg = max_seg };
	if (ioctl(edu, EDU_IOC_IMPORT, im))
		DIE("IMPORT: %s", strerror(errno));
}

/*
 * Does the kernel's log say that the IOMMU stopped a write to @iova? It says so
 * from an interrupt of its own.
 */
static bool faulted(uint64_t iova)
{
	static char log[1 << 20];
	char want[64], *p;
	unsigned int i;
	int n;

	snprintf(want, sizeof(want), "fault addr %#llx ",
		 (unsigned long long)iova & ~4095ull);
	for (i = 0; i < 100; i++) {
		n = klogctl(3, log, sizeof(log) - 1); /* READ_ALL */
		log[n > 0 ? n : 0] = 0;
		for (p = strtok(log, "\n"); p; p = strtok(NULL, "\n"))
			if (strstr(p, "DMAR: [DMA Write") && strstr(p, want)) {
				printf("# %s\n", p);
				return true;
			}
		usleep(50000);
	}
	return false;
}

/* Into how many pieces of contiguous memory a buffer falls, says /proc */
static unsigned int contiguous(const struct buf *b)
{
	uint64_t entry, pfn, next = 0;
	unsigned int n = 0;
	size_t at;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	for (at = 0; at < b->bytes; at += HPAGE) {
		if (pread(fd, &entry, 8, ((uintptr_t)b->map + at) / 4096 * 8) !=
		    8)
			DIE("/proc/self/pagemap: %s", strerror(errno));
		pfn = entry & ((1ull << 55) - 1);
		n += pfn != next;
		next = pfn + HPAGE / 4096;
	}
	close(fd);
	return n;
}

static void pieces(int dbuf, const struct buf *b)
{
	unsigned int nents = contiguous(b);
	struct edu_import im;

	import(dbuf, &im, 0);
	check(im.pieces == nents, "as many pieces as memory has: %u of %u",
	      im.pieces, nents);
	check(im.translated && im.phys && im.iova != im.phys,
	      "the IOMMU is in between");
	check(im.segments == 1, "for the device it is one piece: %u",
	      im.segments);
	printf("RESULT map %llu ns\n", (unsigned long long)im.map_ns);
	import(dbuf, &im, 1 << 20);
	check(im.longest <= 1 << 20 && im.pieces >= 2 * N,
	      "an importer of short segments gets short ones: %u of %u bytes",
	      im.pieces, im.longest);
	import(dbuf, &im, 65536);
	check(im.longest == 65536 && im.pieces == BYTES / 65536,
	      "and of the default length: %u", im.pieces);
	import(dbuf, &im, 0);
}

/*
 * The mapping goes, its memory is given to another buffer, and the device
 * writes where it was.
 */
static void stale(uint64_t iova)
{
	struct edu_copy c = { .dst = iova, .len = EDU_MAX, .flags = EDU_RAW };
	size_t k, bad = 0;
	struct buf b;

	if (buf_new(&b, (unsigned int)pages)) /* all there are */
		DIE("the pages are not back");
	memset(b.map, 0x5a, b.bytes);
	check(!ioctl(edu, EDU_IOC_COPY, &c), "edu writes to the old address");
	check(faulted(iova), "the IOMMU faults at %#llx",
	      (unsigned long long)iova);
	for (k = 0; k < b.bytes; k++)
		bad += b.map[k] != 0x5a;
	check(!bad, "no byte of what is there now has changed");
	buf_drop(&b);
}

static void test_edu(void)
{
	struct hearth_dev_buf a = { .name = "dma", .uid = 1000 };
	struct edu_import im;
	struct buf b;
	int dbuf;

	edu = open("/dev/hearth_edu", O_RDWR | O_CLOEXEC);
	if (edu < 0)
		DIE("/dev/hearth_edu: %s", strerror(errno));
	buf_make(&b, N);
	a.fd = b.fd;
	check_rc(dev_call(d, HEARTH_DEV_IOC_CREATE, &a), 0, "CREATE");
	dbuf = export("dma");
	pieces(dbuf, &b);
	copy(&b);
	import(dbuf, &im, 0);
	close(dbuf);
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "dma", 0), 0,
		 "DESTROY while it is mapped");
	copy(&b); /* its name is gone, its pages are not */
	buf_drop(&b);
	check(meminfo("HugePages_Free") == pages - (long)N &&
		      dev_used(d, 1000) == BYTES,
	      "the device keeps pages and charge");
	check_rc(ioctl(edu, EDU_IOC_DROP), 0, "the device lets go");
	check(pages_back(pages) && !dev_used(d, 1000), "they are back");
	stale(im.iova);
	close(edu);
}

static int vgem(void)
{
	drmVersionPtr v;
	char path[32];
	bool is;
	int i, fd;

	for (i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		v = drmGetVersion(fd);
		is = v && !strcmp(v->name, "vgem");
		drmFreeVersion(v);
		if (is)
			return fd;
		close(fd);
	}
	return -1;
}

static void test_drm(void)
{
	uint32_t handle = 0, again = 0;
	int card = vgem(), dbuf, back = -1;
	struct hearth_dev_buf l = { 0 };
	struct buf b;

	if (card < 0) {
		printf("# there is no vgem\n");
		return;
	}
	buf_make(&b, 4);
	check_rc(dev_create(d, "drm", &b, 1000, NULL), 0, "CREATE");
	buf_drop(&b);
	dbuf = export("drm");
	check_rc(drmPrimeFDToHandle(card, dbuf, &handle), 0, "vgem imports it");
	check(!drmPrimeFDToHandle(card, dbuf, &again) && again == handle,
	      "once: the same handle again");
	close(dbuf);
	check(!dev_call(d, HEARTH_DEV_IOC_LIST, &l) && l.open,
	      "it is open as long as vgem has it");
	check_rc(drmPrimeHandleToFD(card, handle, DRM_CLOEXEC, &back), 0,
		 "vgem gives it on");
	check(lseek(back, 0, SEEK_END) == 4 * HPAGE, "the same size");
	close(back);
	check_rc(dev_name(d, HEARTH_DEV_IOC_DESTROY, "drm", 0), 0, "DESTROY");
	check_rc(meminfo("HugePages_Free"), pages - 4, "vgem keeps the pages");
	check_rc(drmCloseBufferHandle(card, handle), 0, "vgem lets go");
	check(pages_back(pages), "they are back");
	close(card);
}

int main(void)
{
	static const uint32_t uid = 1000;

	count_init();
	d = dev_open();
	pages = meminfo("HugePages_Free");
	test_edu();
	test_drm();
	dev_expect_empty(d, &uid, 1, pages, "all that");
	return count_end();
}
