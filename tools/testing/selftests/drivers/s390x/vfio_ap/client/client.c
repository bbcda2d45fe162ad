// SPDX-License-Identifier: GPL-2.0
/*
 * A VMM's side of a migration, see client.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../lib/vfio.h"
#include "client.h"

/* QEMU asks 1 to 6000 times before it has an idea of the bandwidth */
#define NR_ESTIMATES	32

static void print_call(const struct client *c, const char *call, long value)
{
	if (c->log)
		fprintf(c->log, "%-24s %ld\n", call, value);
}

static int reset_device(struct client *c)
{
	int ret = ioctl(c->device, VFIO_DEVICE_RESET) ? -errno : 0;

	print_call(c, "VFIO_DEVICE_RESET", ret);
	return ret;
}

/*
 * Go to @state. Fails as QEMU does: back to @recover, or, where that is ERROR
 * or does not work either, to RUNNING by a reset.
 */
static int set_state(struct client *c, __u32 state, __u32 recover)
{
	int fd = -1, ret;

	if (c->state == state)
		return 0;
	ret = vfio_mig_set(c->device, state, &fd);
	print_call(c, vfio_mig_name(state), ret);
	if (ret) {
		if (recover != VFIO_DEVICE_STATE_ERROR &&
		    !vfio_mig_set(c->device, recover, NULL)) {
			c->state = recover;
			return ret;
		}
		if (!reset_device(c))
			c->state = VFIO_DEVICE_STATE_RUNNING;
		return ret;
	}
	c->state = state;
	if (fd >= 0) {
		/* QEMU calls this "data_fd out of sync" */
		if (c->data_fd >= 0) {
			close(fd);
			return -EBADF;
		}
		c->data_fd = fd;
	}
	return 0;
}

static void close_data(struct client *c)
{
	if (c->data_fd >= 0)
		close(c->data_fd);
	c->data_fd = -1;
}

/* One eventfd for an interrupt index, as QEMU registers them at realize */
static int set_irq(int device, __u32 index)
{
	int fd, ret;

	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	ret = vfio_ap_set_event(device, index, fd);
	/* The driver holds its own reference */
	close(fd);
	return ret;
}

int client_realize(struct client *c, const struct vfio_ap *dev)
{
	int device = dev->device;
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_irq_info irq;
	__u32 index;
	int ret;

	memset(c, 0, sizeof(*c));
	c->device = device;
	c->container = dev->container;
	c->mem_size = dev->mem_size;
	c->data_fd = -1;
	c->state = VFIO_DEVICE_STATE_RUNNING;

	if (ioctl(device, VFIO_DEVICE_GET_INFO, &info))
		return -errno;
	for (index = VFIO_AP_REQ_IRQ_INDEX; index <= VFIO_AP_CFG_CHG_IRQ_INDEX; index++) {
		irq = (struct vfio_irq_info){ .argsz = sizeof(irq), .index = index };
		if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &irq))
			return -errno;
		if (irq.count < 1)
			return -EINVAL;
		ret = set_irq(device, index);
		if (ret)
			return ret;
	}

	ret = vfio_mig_flags(device, &c->flags);
	if (ret)
		return ret;
	if (!(c->flags & VFIO_MIGRATION_STOP_COPY))
		return -EOPNOTSUPP;
	if (c->flags & VFIO_MIGRATION_PRE_COPY) {
		/* Kernels that do not know this have nothing to tell, either */
		ret = vfio_mig_opt_in(device);
		print_call(c, "MIG_PRECOPY_INFOv2", ret);
		if (ret && ret != -ENOTTY)
			return ret;
	}
	/* QEMU goes on without: this tells whether the device logs its DMA */
	ret = vfio_feature(device,
			   VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
			   NULL, 0);
	if (ret && ret != -ENOTTY)
		return ret;
	return reset_device(c);
}

static int append(struct client_data *data, const void *bytes, size_t len)
{
	__u8 *more = realloc(data->bytes, data->len + len);

	if (!more)
		return -ENOMEM;
	data->bytes = more;
	memcpy(more + data->len, bytes, len);
	data->len += len;
	return 0;
}

void client_data_free(struct client_data *data)
{
	free(data->bytes);
	memset(data, 0, sizeof(*data));
}

/*
 * Dirty pages of a type1 container; nothing like it is done for iommufd, where
 * a mediated device has no hardware page table.
 */
static int track_dirty(struct client *c, __u32 action)
{
	const size_t argsz = sizeof(struct vfio_iommu_type1_dirty_bitmap) +
			     sizeof(struct vfio_iommu_type1_dirty_bitmap_get);
	struct vfio_iommu_type1_dirty_bitmap *dirty;
	struct vfio_iommu_type1_dirty_bitmap_get get = {};
	long page = sysconf(_SC_PAGESIZE);
	void *bits = NULL;
	int ret;

	if (c->container < 0)
		return 0;
	dirty = calloc(1, argsz);
	if (!dirty)
		return -ENOMEM;
	dirty->argsz = argsz;
	dirty->flags = action;
	if (action == VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) {
		get.size = c->mem_size;
		get.bitmap.pgsize = page;
		get.bitmap.size = (c->mem_size / page + 63) / 64 * 8;
		bits = calloc(1, get.bitmap.size);
		get.bitmap.data = bits;
		memcpy(dirty->data, &get, sizeof(get));
	} else {
		dirty->argsz = sizeof(*dirty);
	}
	ret = ioctl(c->container, VFIO_IOMMU_DIRTY_PAGES, dirty) ? -errno : 0;
	print_call(c, "VFIO_IOMMU_DIRTY_PAGES", ret);
	free(bits);
	free(dirty);
	return ret;
}

static bool in_pre_copy(const struct client *c)
{
	return c->state == VFIO_DEVICE_STATE_PRE_COPY ||
	       c->state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/*
 * The guest stops. All devices are quiet towards each other before the first
 * of them stops. In a migration a device of which some was read goes on to the
 * rest at once.
 */
static int stop_device(struct client *c)
{
	bool saving = in_pre_copy(c);
	int ret;

	if (c->flags & VFIO_MIGRATION_P2P) {
		ret = set_state(c, saving ? VFIO_DEVICE_STATE_PRE_COPY_P2P :
				VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_ERROR);
		if (ret)
			return ret;
	}
	return set_state(c, saving ? VFIO_DEVICE_STATE_STOP_COPY : VFIO_DEVICE_STATE_STOP,
			 VFIO_DEVICE_STATE_ERROR);
}

/* One read(), of at most @data->chunk bytes; the count or a negative errno */
static ssize_t read_chunk(struct client *c, struct client_data *data)
{
	void *buf = malloc(data->chunk);
	ssize_t n;
	int ret;

	if (!buf)
		return -ENOMEM;
	n = read(c->data_fd, buf, data->chunk);
	if (n < 0)
		n = -errno;
	data->nr_reads++;
	print_call(c, "read", n);
	if (n > 0) {
		ret = append(data, buf, n);
		if (ret)
			n = ret;
	}
	free(buf);
	return n;
}

static int get_data_size(struct client *c, __u64 *size)
{
	int ret = vfio_mig_data_size(c->device, size);

	print_call(c, "MIG_DATA_SIZE", ret ? ret : (long)*size);
	return ret;
}

static int get_precopy_info(struct client *c)
{
	struct vfio_precopy_info info;
	int ret;

	ret = vfio_precopy_info(c->data_fd, &info);
	print_call(c, "MIG_GET_PRECOPY_INFO",
		   ret ? ret : (long)(info.initial_bytes + info.dirty_bytes));
	return ret;
}

int client_save_setup(struct client *c, struct client_data *data)
{
	__u64 size;
	int ret;

	memset(data, 0, sizeof(*data));
	ret = track_dirty(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
	if (ret)
		return ret;
	c->dirty = true;
	ret = track_dirty(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP);
	if (ret)
		return ret;

	/* The size decides on the buffer, while the VM runs */
	ret = get_data_size(c, &size);
	if (ret)
		return ret;
	if (!size)
		return -ENOMEM;	/* g_try_malloc0(0) gives NULL */
	data->chunk = size < CLIENT_MAX_BUFFER ? size : CLIENT_MAX_BUFFER;

	/* A device that is stopped goes to STOP_COPY in the end */
	if (!(c->flags & VFIO_MIGRATION_PRE_COPY) || c->state != VFIO_DEVICE_STATE_RUNNING)
		return 0;
	ret = set_state(c, VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RUNNING);
	return ret ?: get_precopy_info(c);
}

int client_save_iterate(struct client *c, struct client_data *data)
{
	ssize_t n;
	__u64 size;
	int ret;

	ret = get_data_size(c, &size);
	if (ret)
		return ret;
	if (!in_pre_copy(c))
		return 1;
	ret = get_precopy_info(c);
	if (ret)
		return ret;
	n = read_chunk(c, data);
	if (n == -ENOMSG)
		return 1;
	return n < 0 ? (int)n : 0;
}

int client_save_complete(struct client *c, struct client_data *data)
{
	ssize_t n;
	int ret;

	data->precopied = data->len;
	if (!c->paused) {
		ret = stop_device(c);
		if (!ret)
			ret = track_dirty(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP);
		if (ret)
			return ret;
	}

	ret = set_state(c, VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP);
	if (ret)
		return ret;
	do {
		n = read_chunk(c, data);
	} while (n > 0);
	if (n < 0)
		return n;

	/* save_cleanup */
	ret = set_state(c, VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_ERROR);
	close_data(c);
	return ret;
}

int client_save(struct client *c, struct client_data *data)
{
	int i, ret;

	ret = client_save_setup(c, data);
	for (i = 0; !ret && i < NR_ESTIMATES - 1; i++) {
		ret = client_save_iterate(c, data);
		if (ret > 0)
			ret = 0;
	}
	while (!ret)
		ret = client_save_iterate(c, data);
	if (ret > 0)
		ret = client_save_complete(c, data);
	if (ret)
		client_cancel(c);
	return ret;
}

int client_cancel(struct client *c)
{
	int ret;

	if (c->dirty)
		track_dirty(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
	c->dirty = false;
	ret = set_state(c, VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_ERROR);
	close_data(c);
	return ret;
}

/* qemu_file_get_to_fd() writes the content of the file's buffer in one piece */
static int write_chunk(struct client *c, size_t *at, const __u8 *bytes, size_t len)
{
	size_t room;
	ssize_t n;

	*at = (*at + CLIENT_CHUNK_HEADER) % CLIENT_FILE_BUFFER;
	while (len) {
		room = CLIENT_FILE_BUFFER - *at;
		n = write(c->data_fd, bytes, len < room ? len : room);
		print_call(c, "write", n < 0 ? -errno : n);
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO;
		*at = (*at + n) % CLIENT_FILE_BUFFER;
		bytes += n;
		len -= n;
	}
	return 0;
}

int client_load(struct client *c, const struct client_data *data)
{
	size_t at = CLIENT_FILE_START, done, len;
	int ret;

	ret = set_state(c, VFIO_DEVICE_STATE_RESUMING, c->state);
	for (done = 0; !ret && done < data->len; done += len) {
		len = data->len - done;
		if (len > data->chunk)
			len = data->chunk;
		/* A read() of the source did not go over this */
		if (done < data->precopied && len > data->precopied - done)
			len = data->precopied - done;
		ret = write_chunk(c, &at, data->bytes + done, len);
	}
	if (ret)
		close_data(c);
	return ret;
}

int client_start(struct client *c)
{
	int ret = 0;

	if (c->flags & VFIO_MIGRATION_P2P)
		ret = set_state(c, VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_ERROR);
	if (!ret)
		ret = set_state(c, VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_ERROR);
	close_data(c);
	return ret;
}

int client_quit(struct client *c)
{
	int ret = 0;

	/* Only a VM that runs is stopped */
	if (c->state == VFIO_DEVICE_STATE_RUNNING && !c->paused)
		ret = stop_device(c);
	close_data(c);
	return ret;
}
