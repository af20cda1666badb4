// SPDX-License-Identifier: GPL-2.0-only
/*
 * dmabuf.c - a buffer as a dma-buf: neighbouring huge pages are one segment.
 *
 * There is no mmap: a dma-buf's file has no get_unmapped_area of hugetlbfs, so
 * addresses would be misaligned. Map the memfd.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "pool.h"
#include "trace.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif

/* Bytes from @off on that are one piece of memory, @max at most. */
static size_t piece(const struct hearth_buf *b, u64 off, size_t max)
{
	size_t size = 1ul << b->shift, len = size - (off & (size - 1));
	unsigned long i = off >> b->shift;

	for (; len < max && i + 1 < b->nr; i++, len += size)
		if (folio_pfn(b->folios[i + 1]) !=
		    folio_pfn(b->folios[i]) + (size >> PAGE_SHIFT))
			break;
	return min(len, max);
}

/**
 * dmabuf_pieces() - into how many segments a buffer falls
 * @b:   pinned
 * @max: bytes of a segment, whole pages
 */
unsigned int dmabuf_pieces(const struct hearth_buf *b, size_t max)
{
	unsigned int n = 0;
	u64 off;

	for (off = 0; off < b->bytes; off += piece(b, off, max))
		n++;
	return n;
}

/* Segments no longer than the importer can do, as each has its own table. */
static int fill(const struct hearth_buf *b, struct device *dev,
		struct sg_table *sgt)
{
	size_t len, max = min_t(size_t, dma_get_max_seg_size(dev), SZ_1G);
	struct scatterlist *sg;
	u64 off = 0;
	int i, ret;

	max = min(max, dma_max_mapping_size(dev)) & PAGE_MASK;
	if (!max)
		return -EIO;
	ret = sg_alloc_table(sgt, dmabuf_pieces(b, max), GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(sgt, sg, i) {
		struct folio *folio = b->folios[off >> b->shift];
		size_t at = off & ((1ul << b->shift) - 1);

		len = piece(b, off, max);
		sg_set_page(sg, folio_page(folio, at >> PAGE_SHIFT), len, 0);
		off += len;
	}
	return 0;
}

static struct sg_table *buf_map(struct dma_buf_attachment *at,
				enum dma_data_direction dir)
{
	struct hearth_buf *b = at->dmabuf->priv;
	u64 t0 = ktime_get_ns();
	struct sg_table *sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	int ret;

	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = fill(b, at->dev, sgt);
	if (ret)
		goto err_free;
	ret = dma_map_sgtable(at->dev, sgt, dir, 0);
	if (ret)
		goto err_table;
	trace_buf(map, b, t0);
	return sgt;
err_table:
	sg_free_table(sgt);
err_free:
	kfree(sgt);
	return ERR_PTR(ret);
}

static void buf_unmap(struct dma_buf_attachment *at, struct sg_table *sgt,
		      enum dma_data_direction dir)
{
	struct hearth_buf *b = at->dmabuf->priv;
	u64 t0 = ktime_get_ns();

	dma_unmap_sgtable(at->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
	trace_buf(unmap, b, t0);
}

static void buf_release(struct dma_buf *dbuf)
{
	pool_put(dbuf->priv);
}

static const struct dma_buf_ops buf_ops = {
	.map_dma_buf = buf_map,
	.unmap_dma_buf = buf_unmap,
	.release = buf_release,
};

/* EXPORT: each dma-buf holds a reference of the buffer. */
int dmabuf_export(struct hearth_call *c)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	u64 t0 = ktime_get_ns();
	struct dma_buf *dbuf;
	struct hearth_buf *b;

	if (c->get.flags || c->get.resv)
		return -EINVAL;
	b = pool_get(c->get.name, 0);
	if (IS_ERR(b))
		return PTR_ERR(b);
	info.ops = &buf_ops;
	info.size = b->bytes;
	info.flags = O_RDWR | O_CLOEXEC;
	info.priv = b;
	dbuf = dma_buf_export(&info);
	if (IS_ERR(dbuf)) {
		pool_put(b);
		return PTR_ERR(dbuf);
	}
	c->file = dbuf->file; /* and with it our reference */
	call_describe(c, b);
	trace_buf(export, b, t0);
	return 0;
}
