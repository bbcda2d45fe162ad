/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether the administrator lets a vfio-ap device migrate
 *
 * See vfio_ap_policy.c.
 */

#ifndef _VFIO_AP_POLICY_H_
#define _VFIO_AP_POLICY_H_

#include <linux/device.h>
#include <linux/eventfd.h>
#include <linux/types.h>

struct ap_matrix_mdev;
struct vfio_info_cap;

/**
 * struct vfio_ap_policy - whether a mediated device may migrate
 * @migratable:	it may; written under mig.mutex and matrix_dev->mdevs_lock, read
 *		under either
 * @trigger:	eventfd that is signalled when @migratable changes, or NULL;
 *		guarded by matrix_dev->mdevs_lock
 */
struct vfio_ap_policy {
	bool migratable;
	struct eventfd_ctx *trigger;
};

extern struct device_attribute dev_attr_migratable;

int vfio_ap_policy_check_locked(struct ap_matrix_mdev *matrix_mdev);
int vfio_ap_policy_set_trigger_locked(struct ap_matrix_mdev *matrix_mdev, int fd);
int vfio_ap_policy_add_cap_locked(struct ap_matrix_mdev *matrix_mdev,
				  struct vfio_info_cap *caps);

#endif /* _VFIO_AP_POLICY_H_ */
