/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the enabling library share, see vfio-ap-enable.c. */
#ifndef LAB_QEMU_ENABLE_H
#define LAB_QEMU_ENABLE_H

#include <stdbool.h>
#include <stdint.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PROGRAM		"vfio-ap-enable: "

/* Why a device does not migrate, behind its name; query-migrate shows it to the user. */
#define POLICY_REASON	"the administrator of this host holds its migration off (migratable is 0)"

/* QEMU's types, of which only pointers are used. */
typedef struct Error Error;
typedef struct Object Object;
typedef struct ObjectClass ObjectClass;
typedef struct VFIODevice VFIODevice;

/* qapi's VersionInfo. */
struct version_info {
	struct {
		int64_t major;
		int64_t minor;
		int64_t micro;
	} *qemu;
	char *package;
};

/* What is used of QEMU, filled in from the program's symbols by find_symbols(). */
struct qemu {
	ObjectClass *(*object_class_by_name)(const char *name);
	char *(*object_property_get_str)(Object *obj, const char *name, Error **errp);
	struct version_info *(*qmp_query_version)(Error **errp);
	void (*qapi_free_VersionInfo)(struct version_info *info);
	void (*error_propagate)(Error **dst, Error *src);
	void (*error_setg_internal)(Error **errp, const char *src, int line,
				    const char *func, const char *fmt, ...)
		__attribute__((format(printf, 5, 6)));
	void (*vfio_device_init)(VFIODevice *vdev, int type, void *ops, void *dev,
				 bool ram_discard);
	bool (*vfio_migration_realize)(VFIODevice *vdev, Error **errp);
	void (*vfio_migration_exit)(VFIODevice *vdev);
	void (*g_free)(void *mem);
	VFIODevice **vfio_device_list;
	void *vfio_ap_ops;
	const void *qdev_prop_bool;
	const void *qdev_prop_string;
	int (*migrate_add_blocker)(Error **reason, Error **errp);
	void (*migrate_del_blocker)(Error **reason);
	void (*qemu_set_fd_handler)(int fd, void (*readable)(void *opaque),
				    void (*writable)(void *opaque), void *opaque);
	void (*error_free)(Error *err);
	const char *(*error_get_pretty)(const Error *err);
	unsigned int (*g_timeout_add)(unsigned int ms, int (*function)(void *opaque),
				      void *opaque);
	int (*g_source_remove)(unsigned int tag);
};

extern struct qemu qemu;

#define error_set(errp, ...) \
	qemu.error_setg_internal(errp, __FILE__, __LINE__, __func__, __VA_ARGS__)

/*
 * Let the kernel's "migratable" of a realized device block migration, if its driver
 * has that. False and *errp if that is not possible.
 */
bool policy_attach(const VFIODevice *vdev, const char *name, int device, Error **errp);
/* Before the device is unrealized; nothing for one that is not attached */
void policy_detach(const VFIODevice *vdev);

#endif
