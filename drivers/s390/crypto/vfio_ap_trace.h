/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of the migration of vfio-ap devices
 *
 * All name the mediated device. They fire under matrix_dev->mdevs_lock, except
 * vfio_ap_arc, which fires under the device's mig.mutex.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_ap

#if !defined(_VFIO_AP_TRACE_H_) || defined(TRACE_HEADER_MULTI_READ)
#define _VFIO_AP_TRACE_H_

#include <linux/tracepoint.h>
#include <linux/types.h>
#include <linux/vfio.h>
#include <asm/ap.h>

#include "vfio_ap_stream.h"

/* Tools read the names of values, not of constants, in a format. */
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_ERROR);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_STOP);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RUNNING);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_STOP_COPY);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RESUMING);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RUNNING_P2P);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_PRE_COPY);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_PRE_COPY_P2P);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_ADAPTER);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_DOMAIN);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_CONTROL);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_TYPE);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_MODE);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_FACILITIES);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_CLASS);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_DOMAINS);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_DEPTH);
TRACE_DEFINE_ENUM(VFIO_AP_DIFF_MSGLEN);

#define show_vfio_ap_state(state)					\
	__print_symbolic(state,						\
		{ VFIO_DEVICE_STATE_ERROR,	  "ERROR" },		\
		{ VFIO_DEVICE_STATE_STOP,	  "STOP" },		\
		{ VFIO_DEVICE_STATE_RUNNING,	  "RUNNING" },		\
		{ VFIO_DEVICE_STATE_STOP_COPY,	  "STOP_COPY" },	\
		{ VFIO_DEVICE_STATE_RESUMING,	  "RESUMING" },		\
		{ VFIO_DEVICE_STATE_RUNNING_P2P,  "RUNNING_P2P" },	\
		{ VFIO_DEVICE_STATE_PRE_COPY,	  "PRE_COPY" },		\
		{ VFIO_DEVICE_STATE_PRE_COPY_P2P, "PRE_COPY_P2P" })

#define show_vfio_ap_field(field)					\
	__print_symbolic(field,						\
		{ VFIO_AP_DIFF_ADAPTER,		"adapter" },		\
		{ VFIO_AP_DIFF_DOMAIN,		"domain" },		\
		{ VFIO_AP_DIFF_CONTROL,		"control domain" },	\
		{ VFIO_AP_DIFF_TYPE,		"at" },			\
		{ VFIO_AP_DIFF_MODE,		"mode" },		\
		{ VFIO_AP_DIFF_FACILITIES,	"facilities" },		\
		{ VFIO_AP_DIFF_CLASS,		"class" },		\
		{ VFIO_AP_DIFF_DOMAINS,		"nd" },			\
		{ VFIO_AP_DIFF_DEPTH,		"qd" },			\
		{ VFIO_AP_DIFF_MSGLEN,		"ml" })

/**
 * vfio_ap_arc - one arc between two migration states
 * @name: the mediated device
 * @from: the state before
 * @to: the state asked for
 * @ret: 0, or the negative errno with which the arc was refused
 * @ns: how long it took, in nanoseconds
 */
TRACE_EVENT(vfio_ap_arc,
	TP_PROTO(const char *name, u32 from, u32 to, int ret, u64 ns),
	TP_ARGS(name, from, to, ret, ns),

	TP_STRUCT__entry(
		__string(name, name)
		__field(u32, from)
		__field(u32, to)
		__field(int, ret)
		__field(u64, ns)
	),

	TP_fast_assign(
		__assign_str(name);
		__entry->from = from;
		__entry->to = to;
		__entry->ret = ret;
		__entry->ns = ns;
	),

	TP_printk("%s: %s -> %s: %d (%llu ns)", __get_str(name),
		  show_vfio_ap_state(__entry->from),
		  show_vfio_ap_state(__entry->to), __entry->ret, __entry->ns)
);

/**
 * vfio_ap_session_open - a session begins
 * @name: the mediated device
 * @kind: "saving" or "resuming"
 */
TRACE_EVENT(vfio_ap_session_open,
	TP_PROTO(const char *name, const char *kind),
	TP_ARGS(name, kind),

	TP_STRUCT__entry(
		__string(name, name)
		__string(kind, kind)
	),

	TP_fast_assign(
		__assign_str(name);
		__assign_str(kind);
	),

	TP_printk("%s: %s", __get_str(name), __get_str(kind))
);

/**
 * vfio_ap_session_end - a session has ended
 * @name: the mediated device
 * @kind: "saving" or "resuming"
 * @reason: why, in the words of the report
 * @error: 0, or the negative errno that its user was given
 */
TRACE_EVENT(vfio_ap_session_end,
	TP_PROTO(const char *name, const char *kind, const char *reason, int error),
	TP_ARGS(name, kind, reason, error),

	TP_STRUCT__entry(
		__string(name, name)
		__string(kind, kind)
		__string(reason, reason)
		__field(int, error)
	),

	TP_fast_assign(
		__assign_str(name);
		__assign_str(kind);
		__assign_str(reason);
		__entry->error = error;
	),

	TP_printk("%s: %s: %s: %d", __get_str(name), __get_str(kind),
		  __get_str(reason), __entry->error)
);

/**
 * vfio_ap_difference - source and destination differ
 * @name: the destination's mediated device
 * @diff: the difference
 */
TRACE_EVENT(vfio_ap_difference,
	TP_PROTO(const char *name, const struct vfio_ap_stream_diff *diff),
	TP_ARGS(name, diff),

	TP_STRUCT__entry(
		__string(name, name)
		__field(int, field)
		__field(u16, id)
		__field(u64, source)
		__field(u64, here)
	),

	TP_fast_assign(
		__assign_str(name);
		__entry->field = diff->field;
		__entry->id = diff->id;
		__entry->source = diff->source;
		__entry->here = diff->here;
	),

	TP_printk("%s: %s of %02x: source %llu here %llu", __get_str(name),
		  show_vfio_ap_field(__entry->field), __entry->id,
		  __entry->source, __entry->here)
);

DECLARE_EVENT_CLASS(vfio_ap_queue,
	TP_PROTO(const char *name, int apqn, u8 rc),
	TP_ARGS(name, apqn, rc),

	TP_STRUCT__entry(
		__string(name, name)
		__field(u16, apqn)
		__field(u8, rc)
	),

	TP_fast_assign(
		__assign_str(name);
		__entry->apqn = apqn;
		__entry->rc = rc;
	),

	TP_printk("%s: %02x.%04x: response code %02x", __get_str(name),
		  AP_QID_CARD(__entry->apqn), AP_QID_QUEUE(__entry->apqn),
		  __entry->rc)
);

/**
 * vfio_ap_queue_quiesced - a queue that the guest has enabled interrupts for
 *			    does not interrupt any more
 * @name: the mediated device
 * @apqn: the queue
 * @rc: response code of PQAP(TAPQ) that told so
 */
DEFINE_EVENT(vfio_ap_queue, vfio_ap_queue_quiesced,
	TP_PROTO(const char *name, int apqn, u8 rc),
	TP_ARGS(name, apqn, rc)
);

/**
 * vfio_ap_queue_restored - a queue interrupts the guest again, or refuses to
 * @name: the mediated device
 * @apqn: the queue
 * @rc: response code of PQAP(AQIC); 0 unless it refuses
 */
DEFINE_EVENT(vfio_ap_queue, vfio_ap_queue_restored,
	TP_PROTO(const char *name, int apqn, u8 rc),
	TP_ARGS(name, apqn, rc)
);

#endif /* _VFIO_AP_TRACE_H_ */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vfio_ap_trace

#include <trace/define_trace.h>
