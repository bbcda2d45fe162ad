/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a vfio-ap device tells of its last migration session
 *
 * See vfio_ap_report.c.
 */

#ifndef _VFIO_AP_REPORT_H_
#define _VFIO_AP_REPORT_H_

#include <linux/bits.h>
#include <linux/types.h>

#include "vfio_ap_stream.h"

struct ap_matrix_mdev;
struct vfio_ap_report;

/**
 * enum vfio_ap_reason - why a session failed or ended
 * @VFIO_AP_REASON_NONE:	it has done neither
 * @VFIO_AP_REASON_COMPLETED:	the stream was read, or written and found right
 * @VFIO_AP_REASON_LEFT:	its state was left before the end of the stream
 * @VFIO_AP_REASON_RESET:	VFIO_DEVICE_RESET
 * @VFIO_AP_REASON_CLOSED:	the device was closed
 * @VFIO_AP_REASON_CONFIG:	adapters, domains or control domains differ
 * @VFIO_AP_REASON_HARDWARE:	an adapter is no substitute for the source's
 * @VFIO_AP_REASON_MALFORMED:	no decoder could understand the stream
 * @VFIO_AP_REASON_VERSION:	this decoder does not understand the stream
 * @VFIO_AP_REASON_TRUNCATED:	the stream has no end
 * @VFIO_AP_REASON_GUEST:	there is no guest that may migrate
 * @VFIO_AP_REASON_HOST:	the host changed the guest's AP configuration
 * @VFIO_AP_REASON_TOO_OFTEN:	the same, and the stream has no room for it
 * @VFIO_AP_REASON_INTERRUPTS:	the guest's interrupts can not be registered
 * @VFIO_AP_REASON_REQUESTED:	the device was requested back
 */
enum vfio_ap_reason {
	VFIO_AP_REASON_NONE,
	VFIO_AP_REASON_COMPLETED,
	VFIO_AP_REASON_LEFT,
	VFIO_AP_REASON_RESET,
	VFIO_AP_REASON_CLOSED,
	VFIO_AP_REASON_CONFIG,
	VFIO_AP_REASON_HARDWARE,
	VFIO_AP_REASON_MALFORMED,
	VFIO_AP_REASON_VERSION,
	VFIO_AP_REASON_TRUNCATED,
	VFIO_AP_REASON_GUEST,
	VFIO_AP_REASON_HOST,
	VFIO_AP_REASON_TOO_OFTEN,
	VFIO_AP_REASON_INTERRUPTS,
	VFIO_AP_REASON_REQUESTED,
};

/* Parts of an image, for vfio_ap_report_compare_locked(). */
#define VFIO_AP_REPORT_CONFIG	BIT(0)
#define VFIO_AP_REPORT_HWINFO	BIT(1)

struct vfio_ap_report *vfio_ap_report_alloc(bool resuming);
void vfio_ap_report_free(struct vfio_ap_report *report);

void vfio_ap_report_begin_locked(struct ap_matrix_mdev *matrix_mdev,
				 struct vfio_ap_report *report);
void vfio_ap_report_fail_locked(struct ap_matrix_mdev *matrix_mdev,
				enum vfio_ap_reason reason, int error);
void vfio_ap_report_end_locked(struct ap_matrix_mdev *matrix_mdev,
			       enum vfio_ap_reason reason);
void vfio_ap_report_published_locked(struct ap_matrix_mdev *matrix_mdev);
int vfio_ap_report_compare_locked(struct ap_matrix_mdev *matrix_mdev,
				  unsigned int parts,
				  const struct vfio_ap_stream_image *source,
				  const struct vfio_ap_stream_image *here);

void vfio_ap_report_debugfs_init(struct ap_matrix_mdev *matrix_mdev);

#endif /* _VFIO_AP_REPORT_H_ */
