// SPDX-License-Identifier: GPL-2.0+
/*
 * Guest pages that a vfio-ap device may have written to
 *
 * The machine sets notification indicator bytes, and so does vfio_ap when it kicks a
 * guest that has migrated. Neither store is in KVM's dirty log, as both bypass the
 * guest's page tables. A page that is not reported arrives stale at the destination,
 * and the guest takes its interrupt for a spurious one.
 *
 * The machine may set a byte at any time while it is registered. So each report has
 * its page, and so has the next one after the last queue gave up the registration. A
 * page that stays allocated because its queue does not disable the interrupt is in
 * each report, too.
 */

#include <linux/cleanup.h>
#include <linux/interval_tree.h>
#include <linux/iova_bitmap.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "vfio_ap_private.h"

/* Pages that a report has room for at first. */
#define VFIO_AP_DIRTY_ROOM	64

/**
 * struct vfio_ap_dirty_pages - pages to be reported
 * @first:	the first byte of the range they lie in
 * @last:	the last byte of it
 * @nr:		number of pages; some may be there more than once
 * @max:	number of pages that @pages has room for
 * @pages:	their addresses
 */
struct vfio_ap_dirty_pages {
	u64 first;
	u64 last;
	size_t nr;
	size_t max;
	u64 pages[] __counted_by(max);
};

static struct ap_matrix_mdev *vfio_ap_dirty_mdev(struct vfio_device *vdev)
{
	return container_of(vdev, struct ap_matrix_mdev, vdev);
}

static u64 vfio_ap_dirty_page(const struct vfio_ap_irq_row *row)
{
	return be64_to_cpu(row->irq.nib) & PAGE_MASK;
}

static int vfio_ap_dirty_cmp(struct rb_node *a, const struct rb_node *b)
{
	u64 page_a = vfio_ap_dirty_page(vfio_ap_irq_row(a));
	u64 page_b = vfio_ap_dirty_page(vfio_ap_irq_row(b));

	return page_a < page_b ? -1 : page_a > page_b;
}

/**
 * vfio_ap_dirty_add_locked - keep a row whose page is no longer written to
 * @matrix_mdev: the mediated device
 * @row: the row, without users
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: true if the next report takes the row over; false if logging is off or
 * another row has the page, and the caller frees the row.
 */
bool vfio_ap_dirty_add_locked(struct ap_matrix_mdev *matrix_mdev,
			      struct vfio_ap_irq_row *row)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	return matrix_mdev->dirty.on &&
	       !rb_find_add(&row->node, &matrix_mdev->dirty.rows, vfio_ap_dirty_cmp);
}

/**
 * vfio_ap_dirty_stop_locked - stop DMA logging
 * @matrix_mdev: the mediated device
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_dirty_stop_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_irq_row *row, *next;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	matrix_mdev->dirty.on = false;
	rbtree_postorder_for_each_entry_safe(row, next, &matrix_mdev->dirty.rows, node)
		kfree(row);
	matrix_mdev->dirty.rows = RB_ROOT;
}

/* The ranges do not matter: there are few pages, and a report names its own. */
static int vfio_ap_dirty_log_start(struct vfio_device *vdev,
				   struct rb_root_cached *ranges, u32 nnodes,
				   u64 *page_size)
{
	struct ap_matrix_mdev *matrix_mdev = vfio_ap_dirty_mdev(vdev);

	if (!is_power_of_2(*page_size))
		return -EINVAL;

	guard(mutex)(&matrix_dev->mdevs_lock);

	if (matrix_mdev->dirty.on)
		return -EBUSY;
	matrix_mdev->dirty.on = true;
	*page_size = PAGE_SIZE;

	return 0;
}

static int vfio_ap_dirty_log_stop(struct vfio_device *vdev)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_dirty_stop_locked(vfio_ap_dirty_mdev(vdev));

	return 0;
}

static bool vfio_ap_dirty_in_range(const struct vfio_ap_dirty_pages *pages,
				   const struct vfio_ap_irq_row *row)
{
	u64 page = vfio_ap_dirty_page(row);

	return page >= (pages->first & PAGE_MASK) && page <= pages->last;
}

/* Count the page of a row if it lies in the range, and take it if there is room. */
static void vfio_ap_dirty_take(struct vfio_ap_dirty_pages *pages,
			       const struct vfio_ap_irq_row *row)
{
	if (!vfio_ap_dirty_in_range(pages, row))
		return;
	if (pages->nr < pages->max)
		pages->pages[pages->nr] = vfio_ap_dirty_page(row);
	pages->nr++;
}

/*
 * Collect the pages of the range; forget those that are not written to any more.
 * Fails, and forgets none, if there are more than there is room for; @pages->nr has
 * their number.
 */
static int vfio_ap_dirty_collect(struct ap_matrix_mdev *matrix_mdev,
				 struct vfio_ap_dirty_pages *pages)
{
	struct rb_node *node, *next;
	struct vfio_ap_irq_row *row;
	struct vfio_ap_queue *q;
	int bucket;

	guard(mutex)(&matrix_dev->mdevs_lock);

	if (!matrix_mdev->dirty.on)
		return -EINVAL;

	for (node = rb_first(&matrix_mdev->irq.rows); node; node = rb_next(node))
		vfio_ap_dirty_take(pages, vfio_ap_irq_row(node));
	list_for_each_entry(row, &matrix_mdev->irq.pins, list)
		vfio_ap_dirty_take(pages, row);
	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode)
		if (q->kept_row)
			vfio_ap_dirty_take(pages, q->kept_row);
	for (node = rb_first(&matrix_mdev->dirty.rows); node; node = rb_next(node))
		vfio_ap_dirty_take(pages, vfio_ap_irq_row(node));
	if (pages->nr > pages->max)
		return -ENOBUFS;

	for (node = rb_first(&matrix_mdev->dirty.rows); node; node = next) {
		next = rb_next(node);
		row = vfio_ap_irq_row(node);
		if (!vfio_ap_dirty_in_range(pages, row))
			continue;
		rb_erase(node, &matrix_mdev->dirty.rows);
		kfree(row);
	}

	return 0;
}

/* No bit outside of the range: userspace aligns it as it likes. */
static void vfio_ap_dirty_report(const struct vfio_ap_dirty_pages *pages,
				 struct iova_bitmap *dirty)
{
	u64 first, last;
	size_t i;

	for (i = 0; i < pages->nr; i++) {
		first = max(pages->pages[i], pages->first);
		last = min(pages->pages[i] + PAGE_SIZE - 1, pages->last);
		iova_bitmap_set(dirty, first, last - first + 1);
	}
}

/* Neither takes memory nor pins the pages of userspace's bitmap under the lock. */
static int vfio_ap_dirty_read_and_clear(struct vfio_device *vdev,
					unsigned long iova, unsigned long length,
					struct iova_bitmap *dirty)
{
	size_t room = VFIO_AP_DIRTY_ROOM;
	struct vfio_ap_dirty_pages *pages;
	int ret;

	if (!length)
		return 0;

	do {
		pages = kvzalloc_flex(*pages, pages, room, GFP_KERNEL_ACCOUNT);
		if (!pages)
			return -ENOMEM;
		pages->max = room;
		pages->first = iova;
		pages->last = iova + length - 1;
		ret = vfio_ap_dirty_collect(vfio_ap_dirty_mdev(vdev), pages);
		room = pages->nr;
		if (!ret)
			vfio_ap_dirty_report(pages, dirty);
		kvfree(pages);
	} while (ret == -ENOBUFS);

	return ret;
}

static const struct vfio_log_ops vfio_ap_dirty_ops = {
	.log_start = vfio_ap_dirty_log_start,
	.log_stop = vfio_ap_dirty_log_stop,
	.log_read_and_clear = vfio_ap_dirty_read_and_clear,
};

/**
 * vfio_ap_dirty_init - prepare a mediated device that is being created
 * @matrix_mdev: the mediated device, not registered yet
 */
void vfio_ap_dirty_init(struct ap_matrix_mdev *matrix_mdev)
{
	matrix_mdev->dirty.rows = RB_ROOT;
	matrix_mdev->vdev.log_ops = &vfio_ap_dirty_ops;
}

MODULE_IMPORT_NS("IOMMUFD");
