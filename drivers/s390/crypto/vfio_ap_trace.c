// SPDX-License-Identifier: GPL-2.0
/*
 * Tracepoint definitions for vfio_ap
 */

#define CREATE_TRACE_POINTS
#include "vfio_ap_trace.h"
