/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether the administrator lets a vfio-ap device migrate
 *
 * See vfio_ap_migratable.c.
 */

#ifndef _VFIO_AP_MIGRATABLE_H_
#define _VFIO_AP_MIGRATABLE_H_

#include <linux/device.h>
#include <linux/eventfd.h>
#include <linux/types.h>

struct ap_matrix_mdev;
struct vfio_info_cap;

/**
 * struct vfio_ap_migratable - whether a mediated device may migrate
 * @allowed:	it may; written under mig.mutex and matrix_dev->mdevs_lock, read
 *		under either
 * @trigger:	eventfd that is signalled when @allowed changes, or NULL;
 *		guarded by matrix_dev->mdevs_lock
 */
struct vfio_ap_migratable {
	bool allowed;
	struct eventfd_ctx *trigger;
};

extern struct device_attribute dev_attr_migratable;

int vfio_ap_migratable_check_locked(struct ap_matrix_mdev *matrix_mdev);
int vfio_ap_migratable_set_trigger_locked(struct ap_matrix_mdev *matrix_mdev, int fd);
int vfio_ap_migratable_add_cap_locked(struct ap_matrix_mdev *matrix_mdev,
				      struct vfio_info_cap *caps);

#endif /* _VFIO_AP_MIGRATABLE_H_ */
