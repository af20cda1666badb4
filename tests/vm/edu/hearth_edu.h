/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * hearth_edu.h - /dev/hearth_edu: QEMU's edu device imports a dma-buf.
 */
#ifndef HEARTH_EDU_H
#define HEARTH_EDU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define EDU_MAX 2048 /* bytes a transfer: QEMU 7.2 aborts at 4096 */

/**
 * struct edu_import - attach and map a dma-buf; it replaces the last one
 * @fd:         in
 * @max_seg:    in: bytes of a segment that the device says it can do; 0: 4 GiB
 * @pieces:     out: entries of the table as exported
 * @segments:   out: entries as mapped by the IOMMU
 * @longest:    out: bytes of the longest piece
 * @translated: out: an IOMMU is in between
 * @iova:       out: where the device sees the first byte
 * @phys:       out: where that is
 * @map_ns:     out
 */
struct edu_import {
	__s32 fd;
	__u32 max_seg;
	__u32 pieces;
	__u32 segments;
	__u32 longest;
	__u32 translated;
	__u64 iova;
	__u64 phys;
	__u64 map_ns;
};

#define EDU_RAW (1u << 0)

/**
 * struct edu_copy - the device reads @len bytes at @src and writes them to @dst
 * @src, @dst: offsets in the dma-buf
 * @flags: EDU_RAW: the device only writes, what it read last, and @dst is an
 *         address as it sees it, mapped or not. Refused without an IOMMU.
 */
struct edu_copy {
	__u64 src;
	__u64 dst;
	__u32 len;
	__u32 flags;
};

#define EDU_IOC_IMPORT _IOWR(0xE0, 0, struct edu_import)
#define EDU_IOC_COPY   _IOW(0xE0, 1, struct edu_copy)
#define EDU_IOC_DROP   _IO(0xE0, 2)

#endif
