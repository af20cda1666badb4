/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h - tracepoints: what happened to which buffer, for whom, how long.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hearth

#if !defined(HEARTH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define HEARTH_TRACE_H

#include <linux/tracepoint.h>
#include "pool.h"

/* @ns: how long it took; cgroup: of the process that did it */
DECLARE_EVENT_CLASS(hearth_buf,
	TP_PROTO(const struct hearth_buf *b, u64 ns),
	TP_ARGS(b, ns),
	TP_STRUCT__entry(
		__array(char, name, HEARTH_DEV_NAME)
		__field(u64, bytes)
		__field(u32, uid)
		__field(u64, cgroup)
		__field(u64, ns)
	),
	TP_fast_assign(
		memcpy(__entry->name, b->name, HEARTH_DEV_NAME);
		__entry->bytes = b->bytes;
		__entry->uid = b->uid;
		__entry->cgroup = pool_cgroup();
		__entry->ns = ns;
	),
	TP_printk("name=%s bytes=%llu uid=%u cgroup=%llu ns=%llu",
		  __entry->name, __entry->bytes, __entry->uid,
		  __entry->cgroup, __entry->ns)
);

#define HEARTH_EVENT(what) \
DEFINE_EVENT(hearth_buf, what, \
	TP_PROTO(const struct hearth_buf *b, u64 ns), TP_ARGS(b, ns))
HEARTH_EVENT(hearth_create);
HEARTH_EVENT(hearth_attach);
HEARTH_EVENT(hearth_export);
HEARTH_EVENT(hearth_map);
HEARTH_EVENT(hearth_unmap);
HEARTH_EVENT(hearth_shrink);
HEARTH_EVENT(hearth_destroy);

/* A privilege, a quota or a seal forbade it; uid: of the caller */
TRACE_EVENT(hearth_denied,
	TP_PROTO(unsigned int nr, const char *name, u64 bytes, u32 uid, int err),
	TP_ARGS(nr, name, bytes, uid, err),
	TP_STRUCT__entry(
		__field(unsigned int, nr)
		__array(char, name, HEARTH_DEV_NAME)
		__field(u64, bytes)
		__field(u32, uid)
		__field(u64, cgroup)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->nr = nr;
		strscpy(__entry->name, name, HEARTH_DEV_NAME);
		__entry->bytes = bytes;
		__entry->uid = uid;
		__entry->cgroup = pool_cgroup();
		__entry->err = err;
	),
	TP_printk("ioctl=%u name=%s bytes=%llu uid=%u cgroup=%llu err=%d",
		  __entry->nr, __entry->name, __entry->bytes, __entry->uid,
		  __entry->cgroup, __entry->err)
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
