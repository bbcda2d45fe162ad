/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VFIO side of the vfio-ap selftests: a mediated device opened as a VMM opens
 * it, and the migration features.
 *
 * Functions return 0 or a negative errno unless stated otherwise.
 */
#ifndef SELFTEST_VFIO_AP_VFIO_H
#define SELFTEST_VFIO_AP_VFIO_H

#include <stddef.h>

#include <linux/types.h>
#include <linux/vfio.h>

#include "ap.h"

enum vfio_ap_path {
	VFIO_AP_GROUP,		/* group, container, type1 */
	VFIO_AP_CDEV,		/* character device, iommufd */
};

/**
 * struct vfio_ap - an open mediated device with the VM that owns it
 * @uuid: of the mediated device
 * @path: how it was opened
 * @device: device file descriptor
 * @kvm: /dev/kvm
 * @vm: the virtual machine
 * @kvm_vfio: KVM's VFIO pseudo device
 * @group: VFIO group, or -1
 * @container: type1 container, or -1
 * @iommufd: or -1
 * @ioas: I/O address space that maps @mem for @iommufd
 * @mem: the memory of the VM, mapped for DMA at address 0
 * @mem_size: its size in bytes
 */
struct vfio_ap {
	char uuid[AP_UUID_SIZE];
	enum vfio_ap_path path;
	int device;
	int kvm;
	int vm;
	int kvm_vfio;
	int group;
	int container;
	int iommufd;
	__u32 ioas;
	void *mem;
	size_t mem_size;
};

/* Failures are printed to stderr */
int vfio_ap_open(struct vfio_ap *dev, const char *uuid, enum vfio_ap_path path);
/* The same with a VM of its own, in the container and with the memory of @first */
int vfio_ap_open_beside(struct vfio_ap *dev, const char *uuid, const struct vfio_ap *first);
/* Close the device, and nothing else: migration files stay open */
void vfio_ap_close_device(struct vfio_ap *dev);
/* Open it again; after a failure, vfio_ap_close_device() */
int vfio_ap_open_device(struct vfio_ap *dev);
/* Close everything; also after a failed open, or a second time */
void vfio_ap_close(struct vfio_ap *dev);

/*
 * Seconds to wait for an event that a test expects: 300, or VFIO_AP_PATIENCE in
 * the environment
 */
unsigned int vfio_ap_patience(void);

int vfio_ap_reset(const struct vfio_ap *dev);
/* Memory of this process that is pinned, in KiB; VFIO and iommufd count apart. -1 if unknown */
long vfio_ap_pinned(void);
/* Wait until it is @kib, as the driver unpins pages later; returns the last value */
long vfio_ap_await_pinned(long kib);

/* Have interrupt @index signal the eventfd @event, or with -1 nothing */
int vfio_ap_set_event(int device, __u32 index, int event);

/* VFIO_DEVICE_FEATURE on @len bytes of payload */
int vfio_feature(int device, __u32 flags, void *payload, size_t len);

int vfio_mig_flags(int device, __u64 *flags);
int vfio_mig_get(int device, __u32 *state);
/* @fd may be NULL: then a new data file is closed at once */
int vfio_mig_set(int device, __u32 state, int *fd);
int vfio_mig_data_size(int device, __u64 *size);
/* Opt in to reports of new initial data: VFIO_PRECOPY_INFO_REINIT */
int vfio_mig_opt_in(int device);
/* Bytes to read from the data file of a device in a pre-copy state */
int vfio_precopy_info(int fd, struct vfio_precopy_info *info);
/* The present state, or a negative errno */
int vfio_mig_state(int device);
const char *vfio_mig_name(__u32 state);

#endif
