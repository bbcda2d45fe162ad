/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which guest pages a vfio-ap device may have written to
 *
 * See vfio_ap_log.c.
 */

#ifndef _VFIO_AP_LOG_H_
#define _VFIO_AP_LOG_H_

#include <linux/types.h>
#include <linux/xarray.h>

struct ap_matrix_mdev;

/**
 * struct vfio_ap_log - the log of a mediated device; guarded by
 *			matrix_dev->mdevs_lock
 * @on:		userspace has started it
 * @released:	pages that were registered and have not been reported since, by
 *		guest page frame number
 * @lost_first:	the first page for which there was no memory in @released; all
 *		pages up to @lost_last are reported instead
 * @lost_last:	the last one; less than @lost_first if there is none
 */
struct vfio_ap_log {
	bool on;
	struct xarray released;
	unsigned long lost_first;
	unsigned long lost_last;
};

void vfio_ap_log_init(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_log_released_locked(struct ap_matrix_mdev *matrix_mdev,
				 dma_addr_t nib);
void vfio_ap_log_reset(struct ap_matrix_mdev *matrix_mdev);

#endif /* _VFIO_AP_LOG_H_ */
