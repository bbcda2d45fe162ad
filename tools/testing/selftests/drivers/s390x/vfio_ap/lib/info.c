// SPDX-License-Identifier: GPL-2.0
/*
 * Information on a VFIO device and its interrupts, see info.h.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "info.h"

int info_get(int device, __u32 argsz, union info *info)
{
	memset(info, INFO_FILL, sizeof(*info));
	info->device.argsz = argsz;
	return ioctl(device, VFIO_DEVICE_GET_INFO, info) ? -errno : 0;
}

bool info_untouched(const union info *info, size_t from)
{
	while (from < sizeof(*info))
		if (info->bytes[from++] != INFO_FILL)
			return false;
	return true;
}

/*
 * The capability at offset @at, which was made certain to be in front of all
 * that were seen before: the chain ends. NULL if it is out of bounds.
 */
static const struct vfio_info_cap_header *cap_at(const union info *info, __u32 at)
{
	if (at < sizeof(info->device) || at % sizeof(__u64) ||
	    at > info->device.argsz || at > INFO_SIZE ||
	    sizeof(struct vfio_info_cap_header) > info->device.argsz - at ||
	    sizeof(struct vfio_info_cap_header) > INFO_SIZE - at)
		return NULL;
	return (const void *)(info->bytes + at);
}

/* Walk the chain up to the capability @id; a negative @id is none's */
static int walk(const union info *info, int id, const struct vfio_info_cap_header **found)
{
	__u32 at = info->device.cap_offset, last = 0;
	const struct vfio_info_cap_header *cap;
	int nr = 0;

	if (!(info->device.flags & VFIO_DEVICE_FLAGS_CAPS))
		return 0;
	for (; at; at = cap->next, nr++) {
		cap = at > last ? cap_at(info, at) : NULL;
		if (!cap)
			return -EBADMSG;
		if (cap->id == id) {
			*found = cap;
			return nr;
		}
		last = at;
	}
	return nr;
}

int info_nr_caps(const union info *info)
{
	const struct vfio_info_cap_header *none;

	return walk(info, -1, &none);
}

const struct vfio_info_cap_header *info_cap(const union info *info, __u16 id)
{
	const struct vfio_info_cap_header *cap = NULL;

	return walk(info, id, &cap) < 0 ? NULL : cap;
}

int irq_info_get(int device, __u32 index, struct vfio_irq_info *info)
{
	memset(info, INFO_FILL, sizeof(*info));
	info->argsz = sizeof(*info);
	info->index = index;
	return ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, info) ? -errno : 0;
}

int event_new(void)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return event < 0 ? -errno : event;
}

long event_count(int event)
{
	__u64 count;

	if (read(event, &count, sizeof(count)) == (ssize_t)sizeof(count))
		return count;
	return errno == EAGAIN ? 0 : -errno;
}
