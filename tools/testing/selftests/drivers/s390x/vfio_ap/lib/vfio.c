// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO side of the vfio-ap selftests, see vfio.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/kvm.h>

#include "vfio.h"

#define MEM_SIZE	(16UL << 20)
/* Seconds; leaves time in the limit of a test */
#define PATIENCE	300

static int failed(const char *what)
{
	int err = errno;

	fprintf(stderr, "# %s: %s\n", what, strerror(err));
	return -err;
}

static int open_vm(struct vfio_ap *dev)
{
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };

	dev->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (dev->kvm < 0)
		return failed("/dev/kvm");
	dev->vm = ioctl(dev->kvm, KVM_CREATE_VM, 0);
	if (dev->vm < 0)
		return failed("KVM_CREATE_VM");
	if (ioctl(dev->vm, KVM_CREATE_DEVICE, &create))
		return failed("KVM_CREATE_DEVICE(VFIO)");
	dev->kvm_vfio = create.fd;
	return 0;
}

/* Tell KVM that @fd, a group or a device, belongs to the VM, or no longer */
static int kvm_file(struct vfio_ap *dev, __u64 attr, __s32 fd)
{
	struct kvm_device_attr set = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = attr,
		.addr = (uintptr_t)&fd,
	};

	if (ioctl(dev->kvm_vfio, KVM_SET_DEVICE_ATTR, &set))
		return failed("KVM_DEV_VFIO_FILE");
	return 0;
}

static int open_group_device(struct vfio_ap *dev)
{
	dev->device = ioctl(dev->group, VFIO_GROUP_GET_DEVICE_FD, dev->uuid);
	return dev->device < 0 ? failed("VFIO_GROUP_GET_DEVICE_FD") : 0;
}

static int set_up_container(struct vfio_ap *dev)
{
	struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)dev->mem,
		.size = dev->mem_size,
	};

	if (ioctl(dev->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return failed("VFIO_SET_IOMMU");
	if (ioctl(dev->container, VFIO_IOMMU_GET_INFO, &info))
		return failed("VFIO_IOMMU_GET_INFO");
	if (ioctl(dev->container, VFIO_IOMMU_MAP_DMA, &map))
		return failed("VFIO_IOMMU_MAP_DMA");
	return 0;
}

/* In the container of @first, or in one of its own */
static int open_group(struct vfio_ap *dev, const struct vfio_ap *first)
{
	char link[PATH_MAX], path[PATH_MAX + 16];
	ssize_t len;
	int ret;

	len = readlink(ap_mdev_path(dev->uuid, "iommu_group"), link, sizeof(link) - 1);
	if (len < 0)
		return failed("iommu_group");
	link[len] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	dev->group = open(path, O_RDWR | O_CLOEXEC);
	if (dev->group < 0)
		return failed(path);
	dev->container = first ? dup(first->container) :
				 open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (dev->container < 0)
		return failed("/dev/vfio/vfio");
	if (ioctl(dev->group, VFIO_GROUP_SET_CONTAINER, &dev->container))
		return failed("VFIO_GROUP_SET_CONTAINER");
	ret = first ? 0 : set_up_container(dev);
	if (ret)
		return ret;
	ret = kvm_file(dev, KVM_DEV_VFIO_FILE_ADD, dev->group);
	return ret ?: open_group_device(dev);
}

static int open_cdev_file(struct vfio_ap *dev)
{
	char path[PATH_MAX] = "";
	struct dirent *entry;
	int ret = 0;
	DIR *dir;

	dir = opendir(ap_mdev_path(dev->uuid, "vfio-dev"));
	if (!dir)
		return failed("vfio-dev");
	errno = 0;
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, "vfio", 4))
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	if (errno)
		ret = failed("vfio-dev");
	closedir(dir);
	if (ret)
		return ret;
	dev->device = open(path, O_RDWR | O_CLOEXEC);
	if (dev->device < 0)
		return failed(path);
	return 0;
}

static int open_cdev_device(struct vfio_ap *dev)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = dev->iommufd,
	};
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = dev->ioas,
	};
	int ret;

	ret = open_cdev_file(dev);
	if (ret)
		return ret;
	ret = kvm_file(dev, KVM_DEV_VFIO_FILE_ADD, dev->device);
	if (ret)
		return ret;
	if (ioctl(dev->device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return failed("VFIO_DEVICE_BIND_IOMMUFD");
	if (ioctl(dev->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		return failed("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
	return 0;
}

static int open_cdev(struct vfio_ap *dev)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.user_va = (uintptr_t)dev->mem,
		.length = dev->mem_size,
	};

	dev->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (dev->iommufd < 0)
		return failed("/dev/iommu");
	if (ioctl(dev->iommufd, IOMMU_IOAS_ALLOC, &alloc))
		return failed("IOMMU_IOAS_ALLOC");
	dev->ioas = alloc.out_ioas_id;
	map.ioas_id = dev->ioas;
	if (ioctl(dev->iommufd, IOMMU_IOAS_MAP, &map))
		return failed("IOMMU_IOAS_MAP");
	return open_cdev_device(dev);
}

int vfio_ap_open_device(struct vfio_ap *dev)
{
	return dev->path == VFIO_AP_GROUP ? open_group_device(dev) : open_cdev_device(dev);
}

static void init(struct vfio_ap *dev, const char *uuid, enum vfio_ap_path path)
{
	memset(dev, 0, sizeof(*dev));
	dev->path = path;
	dev->device = -1;
	dev->kvm = -1;
	dev->vm = -1;
	dev->kvm_vfio = -1;
	dev->group = -1;
	dev->container = -1;
	dev->iommufd = -1;
	snprintf(dev->uuid, sizeof(dev->uuid), "%s", uuid);
}

int vfio_ap_open(struct vfio_ap *dev, const char *uuid, enum vfio_ap_path path)
{
	int ret;

	init(dev, uuid, path);
	dev->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (dev->mem == MAP_FAILED) {
		dev->mem = NULL;
		return failed("memory of the VM");
	}
	dev->mem_size = MEM_SIZE;

	ret = open_vm(dev);
	if (!ret)
		ret = path == VFIO_AP_GROUP ? open_group(dev, NULL) : open_cdev(dev);
	if (ret)
		vfio_ap_close(dev);
	return ret;
}

int vfio_ap_open_beside(struct vfio_ap *dev, const char *uuid, const struct vfio_ap *first)
{
	int ret;

	init(dev, uuid, VFIO_AP_GROUP);
	dev->mem = mremap(first->mem, 0, first->mem_size, MREMAP_MAYMOVE);
	if (dev->mem == MAP_FAILED) {
		dev->mem = NULL;
		return failed("memory of the VM");
	}
	dev->mem_size = first->mem_size;
	ret = open_vm(dev) ?: open_group(dev, first);
	if (ret)
		vfio_ap_close(dev);
	return ret;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vfio_ap_close_device(struct vfio_ap *dev)
{
	/* KVM has a reference to a device file, without which it stays open */
	if (dev->path == VFIO_AP_CDEV && dev->device >= 0 && dev->kvm_vfio >= 0)
		kvm_file(dev, KVM_DEV_VFIO_FILE_DEL, dev->device);
	close_fd(&dev->device);
}

void vfio_ap_close(struct vfio_ap *dev)
{
	vfio_ap_close_device(dev);
	close_fd(&dev->kvm_vfio);
	close_fd(&dev->group);
	close_fd(&dev->container);
	close_fd(&dev->iommufd);
	close_fd(&dev->vm);
	close_fd(&dev->kvm);
	if (dev->mem)
		munmap(dev->mem, dev->mem_size);
	dev->mem = NULL;
}

int vfio_ap_reset(const struct vfio_ap *dev)
{
	return ioctl(dev->device, VFIO_DEVICE_RESET) ? -errno : 0;
}

long vfio_ap_pinned(void)
{
	char text[8192], *at;
	long sum = 0;

	if (ap_file_read("/proc/self/status", text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, "VmLck:");
	sum += at ? strtol(at + 6, NULL, 10) : 0;
	at = strstr(text, "VmPin:");
	sum += at ? strtol(at + 6, NULL, 10) : 0;
	return sum;
}

unsigned int vfio_ap_patience(void)
{
	const char *text = getenv("VFIO_AP_PATIENCE");

	return text && *text ? strtoul(text, NULL, 0) : PATIENCE;
}

long vfio_ap_await_pinned(long kib)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	unsigned int ms;
	long now;

	/* No event shows that a page was unpinned */
	for (ms = 0; (now = vfio_ap_pinned()) != kib && ms < 1000 * vfio_ap_patience(); ms++)
		nanosleep(&pause, NULL);
	return now;
}

int vfio_ap_set_event(int device, __u32 index, int event)
{
	struct {
		struct vfio_irq_set set;
		__s32 fd;
	} arg = {
		.set = {
			.argsz = sizeof(arg),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = index,
			.count = 1,
		},
		.fd = event,
	};

	return ioctl(device, VFIO_DEVICE_SET_IRQS, &arg) ? -errno : 0;
}

int vfio_feature(int device, __u32 flags, void *payload, size_t len)
{
	__u64 buf[16] = {};
	struct vfio_device_feature *feature = (void *)buf;
	int ret = 0;

	if (sizeof(*feature) + len > sizeof(buf))
		return -EOVERFLOW;
	feature->argsz = sizeof(*feature) + len;
	feature->flags = flags;
	if (len)
		memcpy(feature->data, payload, len);
	if (ioctl(device, VFIO_DEVICE_FEATURE, feature))
		ret = -errno;
	if (len)
		memcpy(payload, feature->data, len);
	return ret;
}

int vfio_mig_flags(int device, __u64 *flags)
{
	struct vfio_device_feature_migration mig = {};
	int ret;

	ret = vfio_feature(device, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION,
			   &mig, sizeof(mig));
	*flags = mig.flags;
	return ret;
}

int vfio_mig_get(int device, __u32 *state)
{
	struct vfio_device_feature_mig_state mig = {};
	int ret;

	ret = vfio_feature(device,
			   VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
			   &mig, sizeof(mig));
	*state = mig.device_state;
	return ret;
}

int vfio_mig_state(int device)
{
	__u32 state;
	int ret;

	ret = vfio_mig_get(device, &state);
	return ret ? ret : (int)state;
}

int vfio_mig_set(int device, __u32 state, int *fd)
{
	struct vfio_device_feature_mig_state mig = {
		.device_state = state,
		.data_fd = -1,
	};
	int ret;

	ret = vfio_feature(device,
			   VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
			   &mig, sizeof(mig));
	if (fd)
		*fd = mig.data_fd;
	else if (!ret && mig.data_fd >= 0)
		close(mig.data_fd);
	return ret;
}

int vfio_mig_data_size(int device, __u64 *size)
{
	struct vfio_device_feature_mig_data_size mig = {};
	int ret;

	ret = vfio_feature(device,
			   VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
			   &mig, sizeof(mig));
	*size = mig.stop_copy_length;
	return ret;
}

int vfio_mig_opt_in(int device)
{
	return vfio_feature(device, VFIO_DEVICE_FEATURE_SET |
			    VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, NULL, 0);
}

int vfio_precopy_info(int fd, struct vfio_precopy_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	return ioctl(fd, VFIO_MIG_GET_PRECOPY_INFO, info) ? -errno : 0;
}

const char *vfio_mig_name(__u32 state)
{
	static const char * const names[] = {
		[VFIO_DEVICE_STATE_ERROR] = "ERROR",
		[VFIO_DEVICE_STATE_STOP] = "STOP",
		[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
		[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
		[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
		[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
		[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
		[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
	};

	return state < sizeof(names) / sizeof(*names) ? names[state] : "unknown";
}
