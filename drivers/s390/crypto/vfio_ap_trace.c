// SPDX-License-Identifier: GPL-2.0
#define CREATE_TRACE_POINTS
#include "vfio_ap_trace.h"
