/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h - tracepoints: what happened to which buffer, whose, how long.
 *
 * The cgroup is that of the process that did it.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hearth

#if !defined(HEARTH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define HEARTH_TRACE_H

#include <linux/cgroup.h>
#include <linux/tracepoint.h>

#include "pool.h"

/* clang-format off */
DECLARE_EVENT_CLASS(hearth,
	TP_PROTO(const char *name, u64 bytes, u32 uid, s64 result),
	TP_ARGS(name, bytes, uid, result),
	TP_STRUCT__entry(
		__array(char, name, HEARTH_DEV_NAME)
		__field(u64, bytes)
		__field(u32, uid)
		__field(u64, cgroup)
		__field(s64, result)
	),
	TP_fast_assign(
		strscpy(__entry->name, name, HEARTH_DEV_NAME);
		__entry->bytes = bytes;
		__entry->uid = uid;
		rcu_read_lock();
		__entry->cgroup = cgroup_id(task_dfl_cgroup(current));
		rcu_read_unlock();
		__entry->result = result;
	),
	TP_printk("name=%s bytes=%llu uid=%u cgroup=%llu ns=%lld",
		  __entry->name, __entry->bytes, __entry->uid,
		  __entry->cgroup, __entry->result)
);

#define HEARTH_EVENT(what) \
DEFINE_EVENT(hearth, hearth_##what, \
	TP_PROTO(const char *name, u64 bytes, u32 uid, s64 result), \
	TP_ARGS(name, bytes, uid, result))
HEARTH_EVENT(create);
HEARTH_EVENT(attach);
HEARTH_EVENT(export);
HEARTH_EVENT(map);
HEARTH_EVENT(unmap);
HEARTH_EVENT(shrink);
HEARTH_EVENT(destroy);

/* A privilege, a quota or a seal forbade it; uid: the caller's */
DEFINE_EVENT_PRINT(hearth, hearth_denied,
	TP_PROTO(const char *name, u64 bytes, u32 uid, s64 result),
	TP_ARGS(name, bytes, uid, result),
	TP_printk("name=%s bytes=%llu uid=%u cgroup=%llu err=%lld",
		  __entry->name, __entry->bytes, __entry->uid,
		  __entry->cgroup, __entry->result)
);
/* clang-format on */

/* trace_buf(map, b, t0): of a buffer, since ktime_get_ns() was t0 */
#define trace_buf(what, b, t0)                               \
	trace_hearth_##what((b)->name, (b)->bytes, (b)->uid, \
			    (s64)(ktime_get_ns() - (t0)))

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
