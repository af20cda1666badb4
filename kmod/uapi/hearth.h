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
 * size: the kernel takes a shorter struct as filled up with zeros (EINVAL when
 * it lacks what the call is about) and refuses a longer one (E2BIG) unless what
 * it does not know is zero. Unknown flags are refused (EINVAL). Only a process
 * with CAP_SYS_ADMIN or CAP_IPC_LOCK in the initial user namespace may use any
 * of it (EPERM).
 */
#ifndef _UAPI_HEARTH_H
#define _UAPI_HEARTH_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HEARTH_DEV_PATH "/dev/hearth"
#define HEARTH_DEV_ABI	1
#define HEARTH_DEV_NAME 96 /* bytes of a name: [A-Za-z0-9._:-]{1,95} and NUL */

/* struct hearth_dev_info.features */
#define HEARTH_DEV_F_FOLIOS (1u << 0) /* CREATE needs no @uaddr */

/**
 * struct hearth_dev_info - the module and what it holds
 * @abi:          HEARTH_DEV_ABI
 * @features:     HEARTH_DEV_F_*
 * @nr_bufs:      names
 * @nr_idle:      of them, those that nobody has open: a shortage of memory takes
 *                them, if their pages are surplus huge pages
 * @total_bytes:  pinned
 * @max_bytes:    limit on @total_bytes (parameter max_bytes)
 * @uid_bytes:    limit of a user without a limit of his own (max_uid_bytes)
 * @watermark:    bytes the shrinker leaves alone (parameter watermark)
 * @nr_shrunk:    buffers that a shortage of memory took
 * @shrunk_bytes: their bytes
 */
struct hearth_dev_info {
	__u32 abi;
	__u32 features;
	__u32 nr_bufs;
	__u32 nr_idle;
	__u64 total_bytes;
	__u64 max_bytes;
	__u64 uid_bytes;
	__u64 watermark;
	__u64 nr_shrunk;
	__u64 shrunk_bytes;
};

/**
 * struct hearth_dev_create - give a hugetlb memfd a name and pin it
 * @name:   in: must not exist (EEXIST)
 * @memfd:  in: hugetlb, sealed SHRINK and GROW, not empty (EINVAL), writable
 *          (EACCES), all pages present (ENODATA)
 * @flags:  in: 0
 * @uaddr:  in: the caller's shared writable mapping of the whole of it (ESTALE:
 *          it is of something else); needed without HEARTH_DEV_F_FOLIOS, else
 *          ignored
 * @uid:    in: the user to charge
 * @resv:   in: 0
 * @bytes:  out
 * @id:     out: never used again until the next boot
 * @pin_ns: out: how long pinning took
 * @hpage_shift: out
 * @nents:  out: pieces of contiguous memory
 *
 * ENOSPC: over max_bytes, 4096 names or 1024 users. EDQUOT: over the user's
 * limit.
 */
struct hearth_dev_create {
	char name[HEARTH_DEV_NAME];
	__s32 memfd;
	__u32 flags;
	__u64 uaddr;
	__u32 uid;
	__u32 resv;
	__u64 bytes;
	__u64 id;
	__u64 pin_ns;
	__u32 hpage_shift;
	__u32 nents;
};

#define HEARTH_DEV_RDONLY (1u << 0) /* the fd is O_RDONLY */

/**
 * struct hearth_dev_get - a new fd: ATTACH of the memory, EXPORT of a dma-buf
 * @name:  in
 * @flags: in: HEARTH_DEV_RDONLY (ATTACH); a buffer that is sealed against
 *         writing is only ever given read-only (EACCES without the flag)
 * @fd:    out: O_CLOEXEC
 * @bytes: out
 * @id:    out
 * @hpage_shift: out
 * @seals: out: F_SEAL_*; without F_SEAL_FUTURE_WRITE its maker never finished
 * @uid:   out: who is charged
 * @resv:  in: 0
 */
struct hearth_dev_get {
	char name[HEARTH_DEV_NAME];
	__u32 flags;
	__s32 fd;
	__u64 bytes;
	__u64 id;
	__u32 hpage_shift;
	__u32 seals;
	__u32 uid;
	__u32 resv;
};

/**
 * struct hearth_dev_destroy - forget a name
 * @name: in
 * @id: in: 0, or the id that it must have (ESTALE)
 *
 * The memory goes when the last fd, mapping and dma-buf of it has gone.
 */
struct hearth_dev_destroy {
	char name[HEARTH_DEV_NAME];
	__u64 id;
};

/* The same struct for TOUCH: it was used just now (for the shrinker's LRU). */

/**
 * struct hearth_dev_list - the next name
 * @cookie: in: 0 first; out: for the next call; ENOENT when there is no more
 * @name:   out
 * @bytes:  out
 * @id:     out
 * @idle_ns: out: since it was last attached or touched
 * @uid:    out: who is charged
 * @seals:  out: F_SEAL_*
 * @open:   out: it has users beside its name
 * @hpage_shift: out
 */
struct hearth_dev_list {
	__u64 cookie;
	char name[HEARTH_DEV_NAME];
	__u64 bytes;
	__u64 id;
	__u64 idle_ns;
	__u32 uid;
	__u32 seals;
	__u32 open;
	__u32 hpage_shift;
};

#define HEARTH_DEV_SET (1u << 0)

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

#define HEARTH_DEV_IOC	      0xB7
#define HEARTH_DEV_IOC_INFO   _IOR(HEARTH_DEV_IOC, 0, struct hearth_dev_info)
#define HEARTH_DEV_IOC_CREATE _IOWR(HEARTH_DEV_IOC, 1, struct hearth_dev_create)
#define HEARTH_DEV_IOC_ATTACH _IOWR(HEARTH_DEV_IOC, 2, struct hearth_dev_get)
#define HEARTH_DEV_IOC_EXPORT _IOWR(HEARTH_DEV_IOC, 3, struct hearth_dev_get)
#define HEARTH_DEV_IOC_DESTROY \
	_IOW(HEARTH_DEV_IOC, 4, struct hearth_dev_destroy)
#define HEARTH_DEV_IOC_LIST  _IOWR(HEARTH_DEV_IOC, 5, struct hearth_dev_list)
#define HEARTH_DEV_IOC_TOUCH _IOW(HEARTH_DEV_IOC, 6, struct hearth_dev_destroy)
#define HEARTH_DEV_IOC_LIMIT _IOWR(HEARTH_DEV_IOC, 7, struct hearth_dev_limit)

#endif
