// SPDX-License-Identifier: GPL-2.0+
/*
 * Whether the administrator lets a vfio-ap device migrate
 *
 * The guest's requests are executed by the machine with the master keys of its
 * adapters. While an administrator changes these on one host after the other, a
 * guest must not move between hosts whose keys differ. The AP driver cannot see
 * the keys, so the administrator says so, and no session begins.
 *
 * The attribute is written, and looked at when a session begins, under the
 * device's mig.mutex: once 0 was stored there is no session and none begins.
 */

#include <linux/cleanup.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/sysfs.h>
#include <linux/vfio.h>
#include <linux/vfio_ap.h>

#include "vfio_ap_migratable.h"
#include "vfio_ap_private.h"

/**
 * vfio_ap_migratable_check_locked - test whether a session may begin
 * @matrix_mdev: the mediated device
 *
 * Context: matrix_mdev->mig.mutex is held.
 * Return: 0, or -EPERM if the administrator does not allow it.
 */
int vfio_ap_migratable_check_locked(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	if (matrix_mdev->migratable.allowed)
		return 0;

	vfio_ap_notice(matrix_mdev,
		       "migration refused: the device is not migratable\n");
	return -EPERM;
}

/**
 * vfio_ap_migratable_set_trigger_locked - set the eventfd of a change
 * @matrix_mdev: the mediated device
 * @fd: an eventfd, or -1 for none
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: 0; -EINVAL or -EBADF if @fd is no eventfd.
 */
int vfio_ap_migratable_set_trigger_locked(struct ap_matrix_mdev *matrix_mdev, int fd)
{
	struct eventfd_ctx *trigger = NULL;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (fd < -1)
		return -EINVAL;
	if (fd >= 0)
		trigger = eventfd_ctx_fdget(fd);
	if (IS_ERR(trigger))
		return PTR_ERR(trigger);

	if (matrix_mdev->migratable.trigger)
		eventfd_ctx_put(matrix_mdev->migratable.trigger);
	matrix_mdev->migratable.trigger = trigger;

	return 0;
}

/**
 * vfio_ap_migratable_add_cap_locked - add the capability to VFIO_DEVICE_GET_INFO
 * @matrix_mdev: the mediated device
 * @caps: where to add it
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: 0, or -ENOMEM.
 */
int vfio_ap_migratable_add_cap_locked(struct ap_matrix_mdev *matrix_mdev,
				      struct vfio_info_cap *caps)
{
	struct vfio_device_info_cap_ap cap = {
		.header.id = VFIO_DEVICE_INFO_CAP_AP,
		.header.version = 1,
	};

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (matrix_mdev->migratable.allowed)
		cap.flags |= VFIO_AP_INFO_MIGRATABLE;

	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static int vfio_ap_migratable_set(struct ap_matrix_mdev *matrix_mdev, bool migratable)
{
	int ret;

	/* A reset or close may hold it while it waits for a page fault. */
	ACQUIRE(mutex_intr, requests)(&matrix_mdev->mig.mutex);
	ret = ACQUIRE_ERR(mutex_intr, &requests);
	if (ret)
		return ret;

	guard(mutex)(&matrix_dev->mdevs_lock);

	if (migratable == matrix_mdev->migratable.allowed)
		return 0;
	if (matrix_mdev->mig.file)
		return -EBUSY;

	matrix_mdev->migratable.allowed = migratable;
	if (matrix_mdev->migratable.trigger)
		eventfd_signal(matrix_mdev->migratable.trigger);

	return 0;
}

static ssize_t migratable_store(struct device *dev, struct device_attribute *attr,
				const char *buf, size_t count)
{
	int ret;

	/* kstrtobool() accepts other words, sysfs_streq() any text after a NUL. */
	if (count < 1 || count > 2 || (count == 2 && buf[1] != '\n') ||
	    (buf[0] != '0' && buf[0] != '1'))
		return -EINVAL;

	ret = vfio_ap_migratable_set(dev_get_drvdata(dev), buf[0] == '1');

	return ret ? ret : count;
}

static ssize_t migratable_show(struct device *dev, struct device_attribute *attr,
			       char *buf)
{
	struct ap_matrix_mdev *matrix_mdev = dev_get_drvdata(dev);

	guard(mutex)(&matrix_dev->mdevs_lock);
	return sysfs_emit(buf, "%d\n", matrix_mdev->migratable.allowed);
}
DEVICE_ATTR_RW(migratable);
