// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a QEMU that knows the kernel's "migratable" does with it.
 *
 * The driver tells in a capability of VFIO_DEVICE_GET_INFO whether the administrator
 * of the host lets the device migrate, and signals an eventfd when he has changed his
 * mind. While he does not, there is a migration blocker: "migrate" is refused at once,
 * and query-migrate gives the reason, before any other side is bothered. The blocker
 * is a courtesy; the driver refuses to begin a migration by itself (EPERM).
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

#include "enable.h"

/* Of the series' uapi headers, which the machine that compiles this has not got yet */
#define CAP_AP			6
#define CAP_AP_VERSION		1
#define INFO_MIGRATABLE		(1U << 0)
#define MIGRATABLE_IRQ_INDEX	2

struct cap_ap {
	struct vfio_info_cap_header header;
	__u32 flags;
	__u32 reserved;
};

/* More than VFIO_DEVICE_GET_INFO tells of an AP device */
#define INFO_SIZE	1024

/* Time until a blocker is tried again that a migration did not let in (milliseconds) */
#define RETRY_MS	200

/**
 * struct policy - a device with a capability
 * @next: in the list of all
 * @vdev: the device
 * @name: its name in messages
 * @device: its file
 * @event: an eventfd that is signalled when the capability has changed
 * @retry: identifies a timer of glib, or 0
 * @waits: it was told that the end of a migration is waited for
 * @blocker: why there is no migration, or NULL
 */
struct policy {
	struct policy *next;
	const VFIODevice *vdev;
	char *name;
	int device;
	int event;
	unsigned int retry;
	bool waits;
	Error *blocker;
};

static struct policy *policies;

/* 1, 0, or -1 if the driver has no such capability */
static int read_migratable(int device)
{
	union {
		struct vfio_device_info info;
		uint8_t bytes[INFO_SIZE];
	} buf = { .info.argsz = sizeof(buf) };
	const struct cap_ap *cap;
	uint32_t at, steps;

	if (syscall(SYS_ioctl, device, VFIO_DEVICE_GET_INFO, &buf) ||
	    !(buf.info.flags & VFIO_DEVICE_FLAGS_CAPS) || buf.info.argsz > sizeof(buf))
		return -1;
	for (at = buf.info.cap_offset, steps = 0; at && steps < INFO_SIZE / 8; steps++) {
		if (at > INFO_SIZE - sizeof(*cap))
			return -1;
		cap = (const void *)(buf.bytes + at);
		/* What a later version tells, and where, is not known here */
		if (cap->header.id == CAP_AP)
			return cap->header.version == CAP_AP_VERSION ?
			       (int)(cap->flags & INFO_MIGRATABLE) : -1;
		at = cap->header.next;
	}
	return -1;
}

static int set_event(int device, int event)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} arg = {
		.set = {
			.argsz = sizeof(arg),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = MIGRATABLE_IRQ_INDEX,
			.count = 1,
		},
		.fd = event,
	};

	return syscall(SYS_ioctl, device, VFIO_DEVICE_SET_IRQS, &arg);
}

/*
 * Make the blocker what the capability says. Otherwise *errp, and -EBUSY if a
 * migration is under way or -EACCES if QEMU was told to have no device that blocks
 * one (-only-migratable).
 */
static int update(struct policy *p, Error **errp)
{
	int ret, migratable = read_migratable(p->device);

	if (migratable < 0 || migratable == !p->blocker)
		return 0;
	if (migratable) {
		qemu.migrate_del_blocker(&p->blocker);
		p->blocker = NULL;
		fprintf(stderr, PROGRAM "%s: migratable\n", p->name);
		return 0;
	}
	error_set(&p->blocker, "%s: " POLICY_REASON, p->name);
	/* a blocker that is not let in is freed */
	ret = qemu.migrate_add_blocker(&p->blocker, errp);
	if (ret < 0) {
		p->blocker = NULL;
		return ret;
	}
	fprintf(stderr, PROGRAM "%s: not migratable\n", p->name);
	return 0;
}

static int retry(void *opaque);

/*
 * -EBUSY: a migration is under way that has not come to the device yet, and will be
 * refused there. Until it is over there can be no blocker. Any other refusal stays.
 */
static void update_or_retry(struct policy *p)
{
	Error *err = NULL;
	int ret = update(p, &err);

	if (!ret) {
		p->waits = false;
		return;
	}
	if (ret != -EBUSY || !p->waits)
		fprintf(stderr, PROGRAM "%s: not blocked%s: %s\n", p->name,
			ret == -EBUSY ? " yet" : "", qemu.error_get_pretty(err));
	qemu.error_free(err);
	p->waits = ret == -EBUSY;
	if (p->waits && !p->retry)
		p->retry = qemu.g_timeout_add(RETRY_MS, retry, p);
}

static int retry(void *opaque)
{
	struct policy *p = opaque;

	p->retry = 0;
	update_or_retry(p);
	return 0;	/* once */
}

static void changed(void *opaque)
{
	struct policy *p = opaque;
	uint64_t times;

	/* Nobody waits for how often: what counts is what the capability says now. */
	if (read(p->event, &times, sizeof(times)) < 0 && errno != EAGAIN)
		fprintf(stderr, PROGRAM "%s: eventfd: %s\n", p->name, strerror(errno));
	update_or_retry(p);
}

static void free_policy(struct policy *p)
{
	if (p->event >= 0) {
		qemu.qemu_set_fd_handler(p->event, NULL, NULL, NULL);
		set_event(p->device, -1);
		close(p->event);
	}
	if (p->retry)
		qemu.g_source_remove(p->retry);
	if (p->blocker)
		qemu.migrate_del_blocker(&p->blocker);
	free(p->name);
	free(p);
}

bool policy_attach(const VFIODevice *vdev, const char *name, int device, Error **errp)
{
	struct policy *p;

	if (read_migratable(device) < 0)
		return true;
	p = calloc(1, sizeof(*p));
	if (p)
		p->name = strdup(name);
	if (!p || !p->name) {
		free(p);
		error_set(errp, PROGRAM "no memory");
		return false;
	}
	p->vdev = vdev;
	p->device = device;
	p->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->event < 0 || set_event(device, p->event)) {
		error_set(errp, "%s: cannot be told when it may migrate: %s", name,
			  strerror(errno));
		free_policy(p);
		return false;
	}
	qemu.qemu_set_fd_handler(p->event, changed, NULL, p);
	if (update(p, errp)) {
		free_policy(p);
		return false;
	}
	p->next = policies;
	policies = p;
	return true;
}

void policy_detach(const VFIODevice *vdev)
{
	struct policy **where, *p;

	for (where = &policies; (p = *where); where = &p->next) {
		if (p->vdev != vdev)
			continue;
		*where = p->next;
		free_policy(p);
		return;
	}
}
