// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Make the vfio-ap device of an unmodified QEMU migratable.
 *
 *	LD_PRELOAD=./vfio-ap-enable.so qemu-system-s390x -accel kvm ...
 *
 * Every QEMU up to 11.1 marks vfio-ap unmigratable. Once the kernel supports the
 * migration of the device, QEMU has to
 *
 *  - drop that mark (DeviceClass.vmsd),
 *  - implement vfio_get_object in vfio_ap_ops,
 *  - give VFIODevice what vfio-pci has from its properties (and VFIO_MIGRATION events,
 *    which are off by default there). Not among that is enable-migration: its default
 *    is QEMU's own, which takes a device that logs what it writes to,
 *  - call vfio_migration_realize() and vfio_migration_exit() when a device is
 *    realized and unrealized,
 *  - block migration while the kernel's "migratable" of the device is 0 (policy.c),
 *  - take the log of DMA for what it is. Its bitmap is an array of u64, QEMU reads it
 *    as a little-endian bitmap like that of KVM: on this machine it sees other pages
 *    than those that were written to. (That goes for the bitmap of a VFIO container,
 *    too, which QEMU does not ask for if the device has a log.)
 *
 * QEMU exports its global symbols, so this library does the same in the running
 * program. QEMU's structures are no ABI: before anything is changed the build is
 * looked up by version (any update of Debian's QEMU 10.0), and each offset is checked
 * against the program itself: its property tables, class data, and a realized device.
 *
 * A QEMU that is not recognised runs unchanged, after one line on stderr. With
 * VFIO_AP_ENABLE_STRICT=1 in the environment it ends with status 1 instead. A device
 * whose kernel driver cannot migrate blocks migration, and query-migrate says why, as
 * for any other device.
 *
 * The work is done when QEMU creates its KVM VM: all classes exist by then and no
 * device does, so devices from the command line are covered as well.
 *
 * With VFIO_AP_ENABLE_IDLE=1 no CPU of the guest executes anything, for hosts that
 * cannot execute guests. To QEMU such a guest runs, waits and is stopped as any other.
 *
 * With VFIO_AP_ENABLE_POLICY=ignore QEMU does not know "migratable": what happens then
 * is up to the driver.
 *
 * VFIO_AP_ENABLE_LOG is for tests of what the log of DMA is for. With "none" QEMU sees
 * a driver that has none, with "silent" one that reports no page; with "raw" it gets
 * the bitmap as it is.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/vfio.h>

#include "enable.h"

/* VFIO_DEVICE_TYPE_AP in QEMU's enumeration. */
#define QEMU_VFIO_DEVICE_TYPE_AP	3

/* A loop over QEMU's device list ends here even if the list were damaged. */
#define MAX_DEVICES	4096

/* qdev's Property: only the first members are used, the size is in the layout. */
struct property {
	const char *name;
	const void *info;
	ptrdiff_t offset;
};

/**
 * struct layout - where QEMU keeps what this library reads or changes
 * @dc_desc: DeviceClass.desc
 * @dc_props: DeviceClass.props_
 * @dc_props_count: DeviceClass.props_count_ (u16)
 * @dc_realize: DeviceClass.realize
 * @dc_unrealize: DeviceClass.unrealize
 * @dc_vmsd: DeviceClass.vmsd
 * @dc_bus_type: DeviceClass.bus_type
 * @vmsd_unmigratable: VMStateDescription.unmigratable (u8)
 * @property_size: size of Property
 * @vdev_next: VFIODevice.global_next
 * @vdev_sysfsdev: VFIODevice.sysfsdev
 * @vdev_name: VFIODevice.name
 * @vdev_dev: VFIODevice.dev
 * @vdev_events: VFIODevice.migration_events (bool)
 * @vdev_ops: VFIODevice.ops
 * @ops_get_object: VFIODeviceOps.vfio_get_object
 *
 * Offsets in bytes.
 */
struct layout {
	size_t dc_desc;
	size_t dc_props;
	size_t dc_props_count;
	size_t dc_realize;
	size_t dc_unrealize;
	size_t dc_vmsd;
	size_t dc_bus_type;
	size_t vmsd_unmigratable;
	size_t property_size;
	size_t vdev_next;
	size_t vdev_sysfsdev;
	size_t vdev_name;
	size_t vdev_dev;
	size_t vdev_events;
	size_t vdev_ops;
	size_t ops_get_object;
};

static const struct layout layout_10_0 = {
	.dc_desc = 0x70,
	.dc_props = 0x78,
	.dc_props_count = 0x80,
	.dc_realize = 0x90,
	.dc_unrealize = 0x98,
	.dc_vmsd = 0xa8,
	.dc_bus_type = 0xb0,
	.vmsd_unmigratable = 0x08,
	.property_size = 0x48,
	.vdev_next = 0x20,
	.vdev_sysfsdev = 0x40,
	.vdev_name = 0x48,
	.vdev_dev = 0x50,
	.vdev_events = 0x70,
	.vdev_ops = 0x78,
	.ops_get_object = 0x18,
};

/*
 * Builds whose code was read: 10.0.2 and 10.0.13. Updates of a stable release keep these
 * structures, and the offsets are checked in any case. The package is compared up to its
 * length here.
 */
static const struct build {
	int major;
	int minor;
	const char *package;
	const struct layout *layout;
} builds[] = {
	{ 10, 0, "Debian 1:10.0.", &layout_10_0 },
};

struct qemu qemu;

static const struct {
	const char *name;
	void *where;
} symbols[] = {
	{ "object_class_by_name", &qemu.object_class_by_name },
	{ "object_property_get_str", &qemu.object_property_get_str },
	{ "qmp_query_version", &qemu.qmp_query_version },
	{ "qapi_free_VersionInfo", &qemu.qapi_free_VersionInfo },
	{ "error_propagate", &qemu.error_propagate },
	{ "error_setg_internal", &qemu.error_setg_internal },
	{ "vfio_device_init", &qemu.vfio_device_init },
	{ "vfio_migration_realize", &qemu.vfio_migration_realize },
	{ "vfio_migration_exit", &qemu.vfio_migration_exit },
	{ "migrate_add_blocker", &qemu.migrate_add_blocker },
	{ "migrate_del_blocker", &qemu.migrate_del_blocker },
	{ "qemu_set_fd_handler", &qemu.qemu_set_fd_handler },
	{ "error_free", &qemu.error_free },
	{ "error_get_pretty", &qemu.error_get_pretty },
	{ "g_timeout_add", &qemu.g_timeout_add },
	{ "g_source_remove", &qemu.g_source_remove },
	{ "g_free", &qemu.g_free },
	{ "vfio_device_list", &qemu.vfio_device_list },
	{ "vfio_ap_ops", &qemu.vfio_ap_ops },
	{ "qdev_prop_bool", &qemu.qdev_prop_bool },
	{ "qdev_prop_string", &qemu.qdev_prop_string },
};

static bool strict;
static bool idle;
static bool policy = true;
static enum {
	LOG_AS_IT_IS,
	LOG_NONE,
	LOG_SILENT,
	LOG_RAW,
} dma_log;
static bool symbols_present;
static const struct layout *lay;
static void (*original_realize)(void *dev, Error **errp);
static void (*original_unrealize)(void *dev);
/* The file of the device whose migration QEMU has asked the kernel about last */
static int feature_fd = -1;

static void *at(const void *base, size_t offset)
{
	return (char *)base + offset;
}

static void *pointer_at(const void *base, size_t offset)
{
	void *p;

	memcpy(&p, at(base, offset), sizeof(p));
	return p;
}

static void set_pointer_at(void *base, size_t offset, const void *value)
{
	memcpy(at(base, offset), &value, sizeof(value));
}

/* One line on stderr; ends the program if the caller must have a migratable device. */
static void __attribute__((format(printf, 1, 2))) decline(const char *fmt, ...)
{
	va_list args;

	fputs(PROGRAM, stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs(strict ? "\n" : "; vfio-ap stays unmigratable\n", stderr);
	if (strict)
		exit(EXIT_FAILURE);
}

struct range {
	uintptr_t start;
	size_t len;
	uint32_t flags;
	bool found;
};

static int match_range(struct dl_phdr_info *info, size_t size, void *data)
{
	struct range *r = data;
	int i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type != PT_LOAD || (ph->p_flags & r->flags) != r->flags)
			continue;
		if (r->start >= start && r->start - start < ph->p_memsz &&
		    r->len <= ph->p_memsz - (r->start - start))
			r->found = true;
	}
	return 1;	/* the first object is the program itself */
}

/* Do len bytes at p belong to a segment of the program with these flags (PF_*)? */
static bool in_program(const void *p, size_t len, uint32_t flags)
{
	struct range r = { .start = (uintptr_t)p, .len = len, .flags = flags };

	dl_iterate_phdr(match_range, &r);
	return r.found;
}

static bool is_string(const char *p, const char *expected)
{
	size_t len = strlen(expected) + 1;

	return in_program(p, len, PF_R) && !memcmp(p, expected, len);
}

static const char *find_symbols(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(symbols); i++) {
		void *sym = dlsym(RTLD_DEFAULT, symbols[i].name);

		if (!sym)
			return symbols[i].name;
		memcpy(symbols[i].where, &sym, sizeof(sym));
	}
	return NULL;
}

/* The property of a class in its static table, NULL if there is none like that. */
static const struct property *find_property(ObjectClass *oc, const char *name,
					    const void *info)
{
	const char *props = pointer_at(oc, lay->dc_props);
	uint16_t count, i;

	memcpy(&count, at(oc, lay->dc_props_count), sizeof(count));
	if (!in_program(props, count * lay->property_size, PF_R))
		return NULL;
	for (i = 0; i < count; i++) {
		const struct property *p = at(props, i * lay->property_size);

		if (is_string(p->name, name))
			return p->info == info ? p : NULL;
	}
	return NULL;
}

static const char *check_class(ObjectClass *oc)
{
	const void *vmsd = pointer_at(oc, lay->dc_vmsd);

	if (!is_string(pointer_at(oc, lay->dc_desc), "VFIO-based AP device assignment"))
		return "DeviceClass.desc";
	if (!is_string(pointer_at(oc, lay->dc_bus_type), "ap-bus"))
		return "DeviceClass.bus_type";
	if (!in_program(vmsd, lay->vmsd_unmigratable + 1, PF_R) ||
	    !is_string(pointer_at(vmsd, 0), "vfio-ap") ||
	    *(uint8_t *)at(vmsd, lay->vmsd_unmigratable) != 1)
		return "DeviceClass.vmsd";
	if (!in_program(pointer_at(oc, lay->dc_realize), 1, PF_X))
		return "DeviceClass.realize";
	if (!in_program(pointer_at(oc, lay->dc_unrealize), 1, PF_X))
		return "DeviceClass.unrealize";
	return NULL;
}

/*
 * vfio-pci has properties for the members in question, and both devices have one for
 * VFIODevice.sysfsdev: the distance between two properties of vfio-pci is the distance
 * of the members in VFIODevice.
 */
static const char *check_properties(ObjectClass *ap, ObjectClass *pci)
{
	const struct property *sysfsdev, *events;
	ptrdiff_t vdev;

	sysfsdev = find_property(pci, "sysfsdev", qemu.qdev_prop_string);
	events = find_property(pci, "migration-events", qemu.qdev_prop_bool);
	if (!sysfsdev || !find_property(ap, "sysfsdev", qemu.qdev_prop_string))
		return "VFIODevice.sysfsdev";
	vdev = sysfsdev->offset - (ptrdiff_t)lay->vdev_sysfsdev;
	if (!events || events->offset - vdev != (ptrdiff_t)lay->vdev_events)
		return "VFIODevice.migration_events";
	return NULL;
}

/* Let QEMU initialise a VFIODevice of ours and see where things went. */
static const char *check_device_init(void)
{
	static uint64_t scratch[512];
	VFIODevice *vdev = (VFIODevice *)scratch;
	static char dev;

	qemu.vfio_device_init(vdev, QEMU_VFIO_DEVICE_TYPE_AP, qemu.vfio_ap_ops, &dev, true);
	if (pointer_at(vdev, lay->vdev_dev) != &dev)
		return "VFIODevice.dev";
	if (pointer_at(vdev, lay->vdev_ops) != qemu.vfio_ap_ops)
		return "VFIODevice.ops";
	return NULL;
}

static const char *check_ops(void)
{
	if (!in_program(qemu.vfio_ap_ops, lay->ops_get_object + sizeof(void *), PF_W) ||
	    !in_program(pointer_at(qemu.vfio_ap_ops, 0), 1, PF_X) ||
	    pointer_at(qemu.vfio_ap_ops, lay->ops_get_object))
		return "VFIODeviceOps";
	return NULL;
}

static Object *get_object(VFIODevice *vdev)
{
	return pointer_at(vdev, lay->vdev_dev);
}

static VFIODevice *find_device(const void *dev)
{
	VFIODevice *vdev = *qemu.vfio_device_list;
	int i;

	for (i = 0; vdev && i < MAX_DEVICES; i++) {
		if (pointer_at(vdev, lay->vdev_dev) == dev)
			return vdev;
		vdev = pointer_at(vdev, lay->vdev_next);
	}
	return NULL;
}

/* Compare a realized device with what QEMU says of it through its properties. */
static bool check_device(VFIODevice *vdev, void *dev)
{
	const char *name, *field, *base;
	char *sysfsdev;
	bool ok;

	if (pointer_at(vdev, lay->vdev_ops) != qemu.vfio_ap_ops)
		return false;
	sysfsdev = qemu.object_property_get_str(dev, "sysfsdev", NULL);
	if (!sysfsdev)
		return false;
	field = pointer_at(vdev, lay->vdev_sysfsdev);
	name = pointer_at(vdev, lay->vdev_name);
	base = strrchr(sysfsdev, '/');
	/* with a file descriptor in place of a path the name is the user's choice */
	ok = !*sysfsdev ? !field && name :
	     field && name && base && !strcmp(field, sysfsdev) && !strcmp(name, base + 1);
	qemu.g_free(sysfsdev);
	return ok;
}

static bool enable_device(VFIODevice *vdev, Error **errp)
{
	bool events = true;

	feature_fd = -1;
	memcpy(at(vdev, lay->vdev_events), &events, sizeof(events));
	if (!qemu.vfio_migration_realize(vdev, errp))
		return false;
	if (!policy || feature_fd < 0 ||
	    policy_attach(vdev, pointer_at(vdev, lay->vdev_name), feature_fd, errp))
		return true;
	qemu.vfio_migration_exit(vdev);
	return false;
}

static void realize(void *dev, Error **errp)
{
	Error *err = NULL;
	VFIODevice *vdev;

	original_realize(dev, &err);
	if (err) {
		qemu.error_propagate(errp, err);
		return;
	}
	vdev = find_device(dev);
	if (!vdev || !check_device(vdev, dev))
		error_set(errp, PROGRAM "the device is not laid out as expected");
	else if (enable_device(vdev, errp))
		return;
	original_unrealize(dev);
}

static void unrealize(void *dev)
{
	VFIODevice *vdev = find_device(dev);

	if (vdev) {
		policy_detach(vdev);
		qemu.vfio_migration_exit(vdev);
	}
	original_unrealize(dev);
}

static const struct build *find_build(const struct version_info *v)
{
	const char *package = v->package ? v->package : "";
	size_t i;

	for (i = 0; i < ARRAY_SIZE(builds); i++) {
		const struct build *b = &builds[i];

		if (v->qemu->major == b->major && v->qemu->minor == b->minor &&
		    strstr(package, b->package))
			return b;
	}
	return NULL;
}

static void enable(void)
{
	const struct build *build;
	struct version_info *v;
	ObjectClass *ap, *pci;
	const char *wrong;
	char name[128];

	v = qemu.qmp_query_version(NULL);
	if (!v || !v->qemu) {
		decline("QEMU does not tell its version");
		return;
	}
	snprintf(name, sizeof(name), "QEMU %d.%d.%d%s%s", (int)v->qemu->major,
		 (int)v->qemu->minor, (int)v->qemu->micro,
		 v->package && *v->package ? " " : "", v->package ? v->package : "");
	build = find_build(v);
	qemu.qapi_free_VersionInfo(v);
	if (!build) {
		decline("%s is not a build that this library knows", name);
		return;
	}
	lay = build->layout;
	ap = qemu.object_class_by_name("vfio-ap");
	pci = qemu.object_class_by_name("vfio-pci");
	if (!ap || !pci) {
		decline("%s has no class vfio-%s", name, ap ? "pci" : "ap");
		return;
	}
	wrong = check_class(ap);
	if (!wrong)
		wrong = check_properties(ap, pci);
	if (!wrong)
		wrong = check_ops();
	if (!wrong)
		wrong = check_device_init();
	if (wrong) {
		decline("%s: %s is not where it is expected", name, wrong);
		return;
	}
	original_realize = (void (*)(void *, Error **))pointer_at(ap, lay->dc_realize);
	original_unrealize = (void (*)(void *))pointer_at(ap, lay->dc_unrealize);
	set_pointer_at(qemu.vfio_ap_ops, lay->ops_get_object, (void *)get_object);
	set_pointer_at(ap, lay->dc_realize, (void *)realize);
	set_pointer_at(ap, lay->dc_unrealize, (void *)unrealize);
	set_pointer_at(ap, lay->dc_vmsd, NULL);
	fprintf(stderr, PROGRAM "%s: vfio-ap made migratable\n", name);
}

/*
 * KVM_RUN of a guest that never executes anything: it ends with a signal. QEMU's
 * handler sets immediate_exit, so one that came before this is seen, too.
 */
static int idle_cpu(int fd)
{
	static __thread const struct kvm_run *run;
	sigset_t all, before;

	if (!run) {
		void *page = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, fd, 0);

		if (page == MAP_FAILED)
			return -1;
		run = page;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!*(volatile const __u8 *)&run->immediate_exit)
		sigsuspend(&before);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = EINTR;
	return -1;
}

/* Between the order of bytes that the kernel uses and the one that QEMU expects. */
static void swap_bitmap(const struct vfio_device_feature_dma_logging_report *report)
{
	uint64_t *words = (uint64_t *)(uintptr_t)report->bitmap;
	uint64_t nr = (report->length / report->page_size + 63) / 64;

	while (nr--)
		words[nr] = htole64(words[nr]);
}

/* QEMU asks several devices with the same bitmap: what is there must stay right. */
static int report_dirty(int fd, struct vfio_device_feature *feature)
{
	const void *report = feature->data;
	int ret;

	if (dma_log == LOG_SILENT)
		return 0;
	if (dma_log != LOG_RAW)
		swap_bitmap(report);
	ret = syscall(SYS_ioctl, fd, VFIO_DEVICE_FEATURE, feature);
	if (dma_log != LOG_RAW)
		swap_bitmap(report);
	return ret;
}

static int device_feature(int fd, struct vfio_device_feature *feature)
{
	uint32_t which = feature->flags & VFIO_DEVICE_FEATURE_MASK;

	if (which == VFIO_DEVICE_FEATURE_MIGRATION)
		feature_fd = fd;
	if (dma_log == LOG_NONE && (which == VFIO_DEVICE_FEATURE_DMA_LOGGING_START ||
				    which == VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP ||
				    which == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)) {
		errno = ENOTTY;
		return -1;
	}
	if (which == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT &&
	    !(feature->flags & VFIO_DEVICE_FEATURE_PROBE))
		return report_dirty(fd, feature);
	return syscall(SYS_ioctl, fd, VFIO_DEVICE_FEATURE, feature);
}

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value && strcmp(value, "0");
}

/* In place of the C library's: all that QEMU does with devices passes here. */
__attribute__((visibility("default")))
int ioctl(int fd, unsigned long request, ...)
{
	static bool done;
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	/* sent once, by the main thread, before any other thread uses KVM */
	if (request == KVM_CREATE_VM && symbols_present && !done) {
		done = true;
		enable();
	}
	if (request == KVM_RUN && idle)
		return idle_cpu(fd);
	if (request == VFIO_DEVICE_FEATURE && original_realize)
		return device_feature(fd, arg);
	return syscall(SYS_ioctl, fd, request, arg);
}

__attribute__((constructor))
static void start(void)
{
	const char *missing, *log;

	strict = is_set("VFIO_AP_ENABLE_STRICT");
	idle = is_set("VFIO_AP_ENABLE_IDLE");
	log = getenv("VFIO_AP_ENABLE_POLICY");
	policy = !log || strcmp(log, "ignore");
	log = getenv("VFIO_AP_ENABLE_LOG");
	if (log && !strcmp(log, "none"))
		dma_log = LOG_NONE;
	else if (log && !strcmp(log, "silent"))
		dma_log = LOG_SILENT;
	else if (log && !strcmp(log, "raw"))
		dma_log = LOG_RAW;
	/* for QEMU only, not for what it may start */
	unsetenv("LD_PRELOAD");
	missing = find_symbols();
	symbols_present = !missing;
	if (missing)
		decline("%s exports no %s, it is not a QEMU that this library knows",
			program_invocation_short_name, missing);
}
