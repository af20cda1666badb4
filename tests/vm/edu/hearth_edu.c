// SPDX-License-Identifier: GPL-2.0-only
/*
 * hearth_edu.c - test driver: QEMU's edu device moves bytes of a dma-buf.
 *
 * The device has a buffer of 4 KiB and a DMA engine between it and what it
 * takes for memory, 28 bits of address. One dma-buf at a time is imported; it
 * stays so when its fd is closed, until DROP or the driver goes.
 */
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "hearth_edu.h"

#define EDU_BUFFER 0x40000 /* the device's own memory, as its engine sees it */
#define EDU_SRC	   0x80
#define EDU_DST	   0x88
#define EDU_COUNT  0x90
#define EDU_CMD	   0x98
#define EDU_RUN	   1
#define EDU_TO_RAM 2

static DEFINE_MUTEX(lock);
static struct pci_dev *edu;
static void __iomem *bar;
static struct dma_buf *dbuf;
static struct dma_buf_attachment *at;
static struct sg_table *sgt;

static int transfer(dma_addr_t ram, u32 len, bool to_ram)
{
	int i;

	writeq(to_ram ? EDU_BUFFER : ram, bar + EDU_SRC);
	writeq(to_ram ? ram : EDU_BUFFER, bar + EDU_DST);
	writeq(len, bar + EDU_COUNT);
	writeq(EDU_RUN | (to_ram ? EDU_TO_RAM : 0), bar + EDU_CMD);
	for (i = 0; i < 500; i++) {
		if (!(readq(bar + EDU_CMD) & EDU_RUN))
			return 0;
		usleep_range(2000, 10000);
	}
	return -ETIMEDOUT;
}

/* Where the device sees @len bytes at @off, if they are in one segment. */
static int locate(u64 off, u32 len, dma_addr_t *addr)
{
	struct scatterlist *sg;
	int i;

	if (!sgt)
		return -ENODEV;
	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (off < sg_dma_len(sg)) {
			*addr = sg_dma_address(sg) + off;
			return len <= sg_dma_len(sg) - off ? 0 : -EINVAL;
		}
		off -= sg_dma_len(sg);
	}
	return -EINVAL;
}

static void drop(void)
{
	if (sgt) {
		dma_resv_lock(dbuf->resv, NULL);
		dma_buf_unmap_attachment(at, sgt, DMA_BIDIRECTIONAL);
		dma_resv_unlock(dbuf->resv);
	}
	if (at)
		dma_buf_detach(dbuf, at);
	if (dbuf)
		dma_buf_put(dbuf);
	sgt = NULL;
	at = NULL;
	dbuf = NULL;
}

static bool translated(void)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&edu->dev);

	return domain && (domain->type & __IOMMU_DOMAIN_PAGING);
}

static void describe(struct edu_import *a)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&edu->dev);
	struct scatterlist *sg;
	int i;

	a->pieces = sgt->orig_nents;
	a->segments = sgt->nents;
	a->longest = 0;
	for_each_sgtable_sg(sgt, sg, i)
		a->longest = max(a->longest, sg->length);
	a->iova = sg_dma_address(sgt->sgl);
	a->translated = translated();
	a->phys = a->translated ? iommu_iova_to_phys(domain, a->iova) : 0;
}

static int import(struct edu_import *a)
{
	u64 t0;
	int ret;

	drop();
	dma_set_max_seg_size(&edu->dev, a->max_seg ? a->max_seg : UINT_MAX);
	dbuf = dma_buf_get(a->fd);
	if (IS_ERR(dbuf)) {
		ret = PTR_ERR(dbuf);
		dbuf = NULL;
		return ret;
	}
	at = dma_buf_attach(dbuf, &edu->dev);
	if (IS_ERR(at)) {
		ret = PTR_ERR(at);
		at = NULL;
		goto err;
	}
	t0 = ktime_get_ns();
	dma_resv_lock(dbuf->resv, NULL);
	sgt = dma_buf_map_attachment(at, DMA_BIDIRECTIONAL);
	dma_resv_unlock(dbuf->resv);
	if (IS_ERR(sgt)) {
		ret = PTR_ERR(sgt);
		sgt = NULL;
		goto err;
	}
	a->map_ns = ktime_get_ns() - t0;
	describe(a);
	return 0;
err:
	drop();
	return ret;
}

static int copy(const struct edu_copy *a)
{
	dma_addr_t src, dst = a->dst;
	int ret;

	if (!a->len || a->len > EDU_MAX || (a->flags & ~EDU_RAW))
		return -EINVAL;
	if ((a->flags & EDU_RAW) && !translated())
		return -EPERM; /* it would write to anybody's memory */
	if (!(a->flags & EDU_RAW)) {
		ret = locate(a->src, a->len, &src);
		if (!ret)
			ret = locate(a->dst, a->len, &dst);
		if (!ret)
			ret = transfer(src, a->len, false);
		if (ret)
			return ret;
	}
	return transfer(dst, a->len, true);
}

static long edu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *up = (void __user *)arg;
	struct edu_import im;
	struct edu_copy cp;
	long ret = 0;

	mutex_lock(&lock);
	switch (cmd) {
	case EDU_IOC_IMPORT:
		if (copy_from_user(&im, up, sizeof(im)))
			ret = -EFAULT;
		else
			ret = import(&im);
		if (!ret && copy_to_user(up, &im, sizeof(im)))
			ret = -EFAULT;
		break;
	case EDU_IOC_COPY:
		if (copy_from_user(&cp, up, sizeof(cp)))
			ret = -EFAULT;
		else
			ret = copy(&cp);
		break;
	case EDU_IOC_DROP:
		drop();
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&lock);
	return ret;
}

static const struct file_operations edu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = edu_ioctl,
};

static struct miscdevice edu_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hearth_edu",
	.fops = &edu_fops,
	.mode = 0600,
};

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	if (edu)
		return -EBUSY;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(28));
	if (ret)
		return ret;
	bar = pcim_iomap(pdev, 0, 0);
	if (!bar)
		return -ENOMEM;
	edu = pdev;
	ret = misc_register(&edu_misc);
	if (ret)
		edu = NULL;
	return ret;
}

static void edu_remove(struct pci_dev *pdev)
{
	misc_deregister(&edu_misc);
	drop();
	edu = NULL;
}

static const struct pci_device_id edu_ids[] = { { PCI_DEVICE(0x1234, 0x11e8) },
						{} };
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "hearth_edu",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};
module_pci_driver(edu_driver);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("imports dma-bufs into QEMU's edu device");
