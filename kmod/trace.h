/* SPDX-License-Identifier: GPL-2.0-only */
/* trace.h - tracepoints: what happened to which buffer, whose, how long. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hearth

#if !defined(HEARTH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define HEARTH_TRACE_H

#include <linux/cgroup.h>
#include <linux/tracepoint.h>

#include "uapi/hearth.h"

/* clang-format off */
DECLARE_EVENT_CLASS(hearth,
	TP_PROTO(const struct hearth_dev_buf *is, s64 result),
	TP_ARGS(is, result),
	TP_STRUCT__entry(
		__array(char, name, HEARTH_DEV_NAME)
		__field(u64, bytes)
		__field(u32, uid)
		__field(u64, cgroup)
		__field(s64, result)
	),
	TP_fast_assign(
		strscpy(__entry->name, is->name, HEARTH_DEV_NAME);
		__entry->bytes = is->bytes;
		__entry->uid = is->uid;
		rcu_read_lock();
		__entry->cgroup = cgroup_id(task_dfl_cgroup(current));
		rcu_read_unlock();
		__entry->result = result;
	),
	TP_printk("name=%s bytes=%llu uid=%u cgroup=%llu %s=%lld",
		  __entry->name, __entry->bytes, __entry->uid, __entry->cgroup,
		  __entry->result < 0 ? "err" : "ns", __entry->result)
);

#define HEARTH_EVENT(what) \
DEFINE_EVENT(hearth, hearth_##what, \
	TP_PROTO(const struct hearth_dev_buf *is, s64 result), \
	TP_ARGS(is, result))
HEARTH_EVENT(create);
HEARTH_EVENT(attach);
HEARTH_EVENT(export);
HEARTH_EVENT(map);
HEARTH_EVENT(unmap);
HEARTH_EVENT(shrink);
HEARTH_EVENT(destroy);
HEARTH_EVENT(denied); /* by a privilege, quota or seal; uid: the caller's */
/* clang-format on */

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
