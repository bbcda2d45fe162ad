/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Interfaces for vfio-ap
 */

#ifndef _VFIO_AP_H_
#define _VFIO_AP_H_

#include <linux/types.h>
#include <linux/vfio.h>

/*
 * The guest may be migrated: the sysfs attribute "migratable" of the mediated
 * device is 1. Unless this is set, VFIO_DEVICE_STATE_PRE_COPY,
 * VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_STOP_COPY and
 * VFIO_DEVICE_STATE_RESUMING cannot be entered (EPERM); it does not change while
 * the device is in one of them. The eventfd that was set for
 * VFIO_AP_MIGRATABLE_IRQ_INDEX is signalled after each change. Devices that
 * cannot migrate have neither the capability nor the index.
 */
#define VFIO_AP_INFO_MIGRATABLE	(1 << 0)

/**
 * struct vfio_device_info_cap_ap - properties of an AP device, from VFIO_DEVICE_GET_INFO
 * @header: capability header; its id is VFIO_DEVICE_INFO_CAP_AP, its version 1
 * @flags: the VFIO_AP_INFO_* bits that hold at present; all other bits are 0
 * @reserved: 0
 */
struct vfio_device_info_cap_ap {
	struct vfio_info_cap_header header;
	__u32 flags;
	__u32 reserved;
};

#endif /* _VFIO_AP_H_ */
