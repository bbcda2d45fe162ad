/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Information on a VFIO device and its interrupts, and eventfds that these
 * signal.
 *
 * Functions return 0 or a negative errno unless stated otherwise.
 */
#ifndef SELFTEST_VFIO_AP_INFO_H
#define SELFTEST_VFIO_AP_INFO_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <linux/vfio.h>

/* Larger than the information of any device */
#define INFO_SIZE	1024
/* Value of bytes that the kernel has not written */
#define INFO_FILL	0xa5
/* VFIO_DEVICE_GET_INFO and VFIO_DEVICE_GET_IRQ_INFO take no smaller argsz */
#define INFO_MIN	offsetof(struct vfio_device_info, cap_offset)
#define IRQ_INFO_MIN	sizeof(struct vfio_irq_info)

/**
 * union info - the argument of VFIO_DEVICE_GET_INFO and its capabilities
 * @device: the argument
 * @bytes: all of it
 */
union info {
	struct vfio_device_info device;
	__u8 bytes[INFO_SIZE];
};

/* VFIO_DEVICE_GET_INFO; but for argsz, all is INFO_FILL before the call */
int info_get(int device, __u32 argsz, union info *info);
/* Whether the kernel has written nothing from byte @from on */
bool info_untouched(const union info *info, size_t from);
/*
 * The number of capabilities in the result of info_get(), or -EBADMSG if their
 * chain is no chain.
 */
int info_nr_caps(const union info *info);
/* A capability by its id, or NULL */
const struct vfio_info_cap_header *info_cap(const union info *info, __u16 id);

int irq_info_get(int device, __u32 index, struct vfio_irq_info *info);

/* An eventfd that does not block, or a negative errno */
int event_new(void);
/* How often the eventfd was signalled since the last call, or a negative errno */
long event_count(int event);

#endif
