/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of the migration of vfio-ap devices
 *
 * Both name the mediated device. vfio_ap_arc fires under the device's mig.mutex,
 * vfio_ap_difference under matrix_dev->mdevs_lock.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_ap

#if !defined(_VFIO_AP_TRACE_H_) || defined(TRACE_HEADER_MULTI_READ)
#define _VFIO_AP_TRACE_H_

#include <linux/tracepoint.h>
#include <linux/types.h>
#include <linux/vfio.h>

/* Tools read the names of values, not of constants, in a format. */
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_ERROR);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_STOP);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RUNNING);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_STOP_COPY);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RESUMING);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_RUNNING_P2P);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_PRE_COPY);
TRACE_DEFINE_ENUM(VFIO_DEVICE_STATE_PRE_COPY_P2P);

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
 * vfio_ap_difference - source and destination differ
 * @name: the destination's mediated device
 * @text: the difference, in the words of the log
 */
TRACE_EVENT(vfio_ap_difference,
	TP_PROTO(const char *name, const char *text),
	TP_ARGS(name, text),

	TP_STRUCT__entry(
		__string(name, name)
		__string(text, text)
	),

	TP_fast_assign(
		__assign_str(name);
		__assign_str(text);
	),

	TP_printk("%s: %s", __get_str(name), __get_str(text))
);

#endif /* _VFIO_AP_TRACE_H_ */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vfio_ap_trace

#include <trace/define_trace.h>
