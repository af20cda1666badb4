/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * hearth.h - /dev/hearth: named, pinned buffers of huge pages.
 *
 * A buffer is a hugetlb memfd that a privileged process made and filled. Under
 * its name the module holds the file, its pages (pinned) and a charge against
 * a user's quota, whatever becomes of any process, until DESTROY, or until the
 * kernel is short of memory and nobody has the buffer open.
 *
 * Every struct may grow at its end. The ioctl number carries the caller's
 * size: the kernel takes a struct of an earlier version as filled up with zeros
 * (EINVAL: shorter than the first one) and refuses a longer one than it knows
 * (E2BIG) unless the rest is zero. Unknown flags are refused (EINVAL). Only a
 * process with CAP_SYS_ADMIN or CAP_IPC_LOCK in the initial user namespace may
 * use any of it (EPERM).
 */
#ifndef _UAPI_HEARTH_H
#define _UAPI_HEARTH_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HEARTH_DEV_PATH "/dev/hearth"
#define HEARTH_DEV_ABI	2
#define HEARTH_DEV_NAME 96 /* bytes of a name: [A-Za-z0-9._:-]{1,95} and NUL */
#define HEARTH_DEV_BUFS 4096 /* names; they are searched one by one */

/**
 * struct hearth_dev_info - the module and what it holds
 * @abi:          HEARTH_DEV_ABI
 * @nr_bufs:      names
 * @nr_idle:      of them, those that nobody has open: a shortage of memory takes
 *                them, if their pages are surplus huge pages
 * @resv:         0
 * @total_bytes:  pinned
 * @max_bytes:    limit on @total_bytes (parameter max_bytes)
 * @uid_bytes:    limit of a user without a limit of his own (max_uid_bytes)
 * @watermark:    bytes the shrinker leaves alone (parameter watermark)
 * @nr_shrunk:    buffers that a shortage of memory took
 * @shrunk_bytes: their bytes
 */
struct hearth_dev_info {
	__u32 abi;
	__u32 nr_bufs;
	__u32 nr_idle;
	__u32 resv;
	__u64 total_bytes;
	__u64 max_bytes;
	__u64 uid_bytes;
	__u64 watermark;
	__u64 nr_shrunk;
	__u64 shrunk_bytes;
};

#define HEARTH_DEV_RDONLY (1u << 0) /* ATTACH: the fd is O_RDONLY */

/**
 * struct hearth_dev_buf - a buffer: which one, and what a call learns of it
 * @name:  in, but for LIST
 * @id:    in: 0, or the id that it must have (ESTALE); LIST: where to go on,
 *         0 first; out: never used again until the next boot
 * @bytes: out
 * @idle_ns: out, but for CREATE: since it was last made, attached, exported or touched
 * @fd:    CREATE: in, a memfd; ATTACH and EXPORT: out, O_CLOEXEC; else -1
 * @flags: in: HEARTH_DEV_RDONLY (ATTACH), else 0; out: 0
 * @uid:   CREATE: in, the user to charge; else out
 * @hpage_shift: out: log2 of the size of a page
 * @seals: out, but for CREATE: F_SEAL_*; without F_SEAL_FUTURE_WRITE its maker
 *         never finished
 * @open:  out, but for CREATE: it had users beside its name
 *
 * CREATE gives a hugetlb memfd a name and pins it. The memfd is sealed SHRINK
 * and GROW, not empty (EINVAL), writable (EACCES), and all its pages are
 * present (ENODATA); the name must not exist (EEXIST). ENOSPC: over max_bytes,
 * or HEARTH_DEV_BUFS names. EDQUOT: over the user's limit.
 *
 * ATTACH gives a new fd of the memory, EXPORT a dma-buf. A buffer that is
 * sealed against writing is only ever attached read-only (EACCES without the
 * flag).
 *
 * DESTROY forgets a name. The memory goes when the last fd, mapping and dma-buf
 * of it has gone. TOUCH says that it was used just now.
 *
 * LIST describes the buffer with the smallest id above @id (ENOENT: there is
 * none).
 */
struct hearth_dev_buf {
	char name[HEARTH_DEV_NAME];
	__u64 id;
	__u64 bytes;
	__u64 idle_ns;
	__s32 fd;
	__u32 flags;
	__u32 uid;
	__u32 hpage_shift;
	__u32 seals;
	__u32 open;
};

#define HEARTH_DEV_SET (1u << 0) /* LIMIT: sets */

/**
 * struct hearth_dev_limit - a user's quota
 * @uid:   in
 * @flags: in: HEARTH_DEV_SET, else only asks
 * @limit: in/out: bytes; ~0 is "as max_uid_bytes says"
 * @used:  out
 */
struct hearth_dev_limit {
	__u32 uid;
	__u32 flags;
	__u64 limit;
	__u64 used;
};

#define HEARTH_DEV_IOC	       0xB7
#define HEARTH_DEV_IOC_INFO    _IOR(HEARTH_DEV_IOC, 0, struct hearth_dev_info)
#define HEARTH_DEV_IOC_CREATE  _IOWR(HEARTH_DEV_IOC, 1, struct hearth_dev_buf)
#define HEARTH_DEV_IOC_ATTACH  _IOWR(HEARTH_DEV_IOC, 2, struct hearth_dev_buf)
#define HEARTH_DEV_IOC_EXPORT  _IOWR(HEARTH_DEV_IOC, 3, struct hearth_dev_buf)
#define HEARTH_DEV_IOC_DESTROY _IOW(HEARTH_DEV_IOC, 4, struct hearth_dev_buf)
#define HEARTH_DEV_IOC_LIST    _IOWR(HEARTH_DEV_IOC, 5, struct hearth_dev_buf)
#define HEARTH_DEV_IOC_TOUCH   _IOW(HEARTH_DEV_IOC, 6, struct hearth_dev_buf)
#define HEARTH_DEV_IOC_LIMIT   _IOWR(HEARTH_DEV_IOC, 7, struct hearth_dev_limit)

#endif
