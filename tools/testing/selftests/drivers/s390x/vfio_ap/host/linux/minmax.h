/* SPDX-License-Identifier: GPL-2.0 */
/* tools/include has these in linux/kernel.h. */
#ifndef SELFTEST_VFIO_AP_MINMAX_H
#define SELFTEST_VFIO_AP_MINMAX_H

#include <linux/kernel.h>

#endif
