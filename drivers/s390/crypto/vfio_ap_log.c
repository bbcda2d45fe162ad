// SPDX-License-Identifier: GPL-2.0+
/*
 * Which guest pages a vfio-ap device may have written to
 *
 * The machine sets notification indicator bytes, and so does vfio_ap when it
 * kicks a guest that has migrated. Both are stores of which KVM's dirty log does
 * not hear: they bypass the guest's page tables. A page of which userspace does
 * not know arrives stale at the destination, and the guest there takes its
 * interrupt for one that means nothing.
 *
 * The machine may set a byte at any time while it is registered, so its page is
 * reported each time, and once more after it was unregistered. A page that stays
 * allocated because its queue does not disable the interrupt may still be written
 * to, so it is reported each time, too.
 */

#include <linux/cleanup.h>
#include <linux/hashtable.h>
#include <linux/interval_tree.h>
#include <linux/iova_bitmap.h>
#include <linux/lockdep.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "vfio_ap_log.h"
#include "vfio_ap_private.h"

/**
 * struct vfio_ap_log_pages - pages to be reported
 * @iova:	the first byte of the range they lie in
 * @last:	the last byte of it
 * @nr:		number of pages; some may be there more than once
 * @lost_first:	the first of those pages in the range of which any may have been
 *		written to
 * @lost_last:	the last one; less than @lost_first if there is none
 * @max:	number of pages that @pages has room for
 * @pages:	their addresses
 */
struct vfio_ap_log_pages {
	u64 iova;
	u64 last;
	size_t nr;
	unsigned long lost_first;
	unsigned long lost_last;
	size_t max;
	u64 pages[] __counted_by(max);
};

static struct ap_matrix_mdev *vfio_ap_log_mdev(struct vfio_device *vdev)
{
	return container_of(vdev, struct ap_matrix_mdev, vdev);
}

static void vfio_ap_log_none_lost(struct vfio_ap_log *log)
{
	log->lost_first = ULONG_MAX;
	log->lost_last = 0;
}

static void vfio_ap_log_stop_locked(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	matrix_mdev->log.on = false;
	vfio_ap_log_none_lost(&matrix_mdev->log);
	xa_destroy(&matrix_mdev->log.released);
}

/* The ranges do not matter: there are few pages, and a report names its own. */
static int vfio_ap_log_start(struct vfio_device *vdev,
			     struct rb_root_cached *ranges, u32 nnodes,
			     u64 *page_size)
{
	struct ap_matrix_mdev *matrix_mdev = vfio_ap_log_mdev(vdev);

	if (!is_power_of_2(*page_size))
		return -EINVAL;

	guard(mutex)(&matrix_dev->mdevs_lock);

	if (matrix_mdev->log.on)
		return -EBUSY;
	matrix_mdev->log.on = true;
	*page_size = PAGE_SIZE;

	return 0;
}

static int vfio_ap_log_stop(struct vfio_device *vdev)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_log_stop_locked(vfio_ap_log_mdev(vdev));

	return 0;
}

static void vfio_ap_log_add(struct vfio_ap_log_pages *pages, u64 page)
{
	if (page >= (pages->iova & PAGE_MASK) && page <= pages->last &&
	    pages->nr < pages->max)
		pages->pages[pages->nr++] = page;
}

/* No bit outside of the range: userspace aligns it as it likes. */
static void vfio_ap_log_set(struct iova_bitmap *dirty,
			    const struct vfio_ap_log_pages *pages, u64 page)
{
	u64 first = max(page, pages->iova);
	u64 last = min(page + PAGE_SIZE - 1, pages->last);

	iova_bitmap_set(dirty, first, last - first + 1);
}

static void vfio_ap_log_set_lost(struct iova_bitmap *dirty,
				 const struct vfio_ap_log_pages *pages)
{
	u64 first, last;

	if (pages->lost_first > pages->lost_last)
		return;

	first = max((u64)pages->lost_first << PAGE_SHIFT, pages->iova);
	last = min(((u64)pages->lost_last << PAGE_SHIFT) + PAGE_SIZE - 1, pages->last);
	iova_bitmap_set(dirty, first, last - first + 1);
}

/* At most two pages for each queue, and those that were released. */
static size_t vfio_ap_log_count(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_queue *q;
	unsigned long index;
	size_t nr = 0;
	void *entry;
	int bucket;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode)
		nr += (q->saved_isc != VFIO_AP_ISC_INVALID) + !!q->kept_nib;
	xa_for_each(&matrix_mdev->log.released, index, entry)
		nr++;

	return nr;
}

/*
 * Take from the lost pages those that are in the report. A report of only some in
 * the middle leaves all of them to be reported.
 */
static void vfio_ap_log_take_lost_locked(struct vfio_ap_log *log,
					 struct vfio_ap_log_pages *pages)
{
	unsigned long first = pages->iova >> PAGE_SHIFT;
	unsigned long last = pages->last >> PAGE_SHIFT;

	pages->lost_first = max(log->lost_first, first);
	pages->lost_last = min(log->lost_last, last);
	if (pages->lost_first > pages->lost_last)
		return;

	if (first <= log->lost_first && last >= log->lost_last)
		vfio_ap_log_none_lost(log);
	else if (first <= log->lost_first)
		log->lost_first = last + 1;
	else if (last >= log->lost_last)
		log->lost_last = first - 1;
}

/* Take the pages that lie in the range; those released are reported but once. */
static struct vfio_ap_log_pages *
vfio_ap_log_take_locked(struct ap_matrix_mdev *matrix_mdev, u64 iova, u64 last)
{
	unsigned long index, end = last >> PAGE_SHIFT;
	struct vfio_ap_log_pages *pages;
	struct vfio_ap_queue *q;
	void *entry;
	size_t max;
	int bucket;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	max = vfio_ap_log_count(matrix_mdev);
	pages = kvzalloc_flex(*pages, pages, max, GFP_KERNEL_ACCOUNT);
	if (!pages)
		return NULL;
	pages->max = max;
	pages->iova = iova;
	pages->last = last;
	vfio_ap_log_take_lost_locked(&matrix_mdev->log, pages);

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode) {
		if (q->saved_isc != VFIO_AP_ISC_INVALID)
			vfio_ap_log_add(pages, q->saved_iova & PAGE_MASK);
		if (q->kept_nib)
			vfio_ap_log_add(pages, q->kept_iova & PAGE_MASK);
	}
	xa_for_each_range(&matrix_mdev->log.released, index, entry,
			  iova >> PAGE_SHIFT, end) {
		vfio_ap_log_add(pages, (u64)index << PAGE_SHIFT);
		xa_erase(&matrix_mdev->log.released, index);
	}

	return pages;
}

static int vfio_ap_log_read_and_clear(struct vfio_device *vdev,
				      unsigned long iova, unsigned long length,
				      struct iova_bitmap *dirty)
{
	struct ap_matrix_mdev *matrix_mdev = vfio_ap_log_mdev(vdev);
	struct vfio_ap_log_pages *pages;
	size_t i;

	if (!length)
		return 0;

	scoped_guard(mutex, &matrix_dev->mdevs_lock) {
		if (!matrix_mdev->log.on)
			return -EINVAL;
		pages = vfio_ap_log_take_locked(matrix_mdev, iova,
						iova + length - 1);
	}
	if (!pages)
		return -ENOMEM;

	/* It pins the pages of userspace's bitmap, so not under the lock. */
	vfio_ap_log_set_lost(dirty, pages);
	for (i = 0; i < pages->nr; i++)
		vfio_ap_log_set(dirty, pages, pages->pages[i]);
	kvfree(pages);

	return 0;
}

static const struct vfio_log_ops vfio_ap_log_ops = {
	.log_start = vfio_ap_log_start,
	.log_stop = vfio_ap_log_stop,
	.log_read_and_clear = vfio_ap_log_read_and_clear,
};

/**
 * vfio_ap_log_init - prepare a mediated device that is being created
 * @matrix_mdev: the mediated device, not registered yet
 */
void vfio_ap_log_init(struct ap_matrix_mdev *matrix_mdev)
{
	xa_init(&matrix_mdev->log.released);
	vfio_ap_log_none_lost(&matrix_mdev->log);
	matrix_mdev->vdev.log_ops = &vfio_ap_log_ops;
}

/**
 * vfio_ap_log_released_locked - a page is not registered any more
 * @matrix_mdev: the mediated device
 * @nib: guest address of the notification indicator byte
 *
 * Without memory to note it, the next report has all pages between this one and
 * others for which there was none, either.
 *
 * Context: matrix_dev->mdevs_lock is held by the caller, or by a task that waits
 * for the caller.
 */
void vfio_ap_log_released_locked(struct ap_matrix_mdev *matrix_mdev,
				 dma_addr_t nib)
{
	struct vfio_ap_log *log = &matrix_mdev->log;
	unsigned long page = nib >> PAGE_SHIFT;

	/* A worker that waits for the end of a reset relies on the task that waits for it. */
	lockdep_assert(current_work() ||
		       lockdep_is_held(&matrix_dev->mdevs_lock));

	if (!log->on)
		return;
	if (!xa_err(xa_store(&log->released, page, xa_mk_value(1),
			     GFP_KERNEL_ACCOUNT)))
		return;
	log->lost_first = min(log->lost_first, page);
	log->lost_last = max(log->lost_last, page);
}

/**
 * vfio_ap_log_reset - stop logging for a device that is opened or closed
 * @matrix_mdev: the mediated device
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_log_reset(struct ap_matrix_mdev *matrix_mdev)
{
	vfio_ap_log_stop_locked(matrix_mdev);
}

MODULE_IMPORT_NS("IOMMUFD");
