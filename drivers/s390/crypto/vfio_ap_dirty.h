/* SPDX-License-Identifier: GPL-2.0 */
/* Guest pages that a vfio-ap device may have written to; see vfio_ap_dirty.c */
#ifndef _VFIO_AP_DIRTY_H_
#define _VFIO_AP_DIRTY_H_

#include <linux/rbtree.h>
#include <linux/types.h>

struct ap_matrix_mdev;
struct vfio_ap_irq_row;

/**
 * struct vfio_ap_dirty - DMA logging of a mediated device; guarded by
 *			  matrix_dev->mdevs_lock
 * @on:		userspace has started it
 * @rows:	rows without users whose pages were not reported since, by page
 */
struct vfio_ap_dirty {
	bool on;
	struct rb_root rows;
};

void vfio_ap_dirty_init(struct ap_matrix_mdev *matrix_mdev);
bool vfio_ap_dirty_add_locked(struct ap_matrix_mdev *matrix_mdev,
			      struct vfio_ap_irq_row *row);
void vfio_ap_dirty_stop_locked(struct ap_matrix_mdev *matrix_mdev);

#endif /* _VFIO_AP_DIRTY_H_ */
