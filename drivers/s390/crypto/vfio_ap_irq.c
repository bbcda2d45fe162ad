// SPDX-License-Identifier: GPL-2.0+
/*
 * Guest interrupts of a vfio-ap device
 *
 * A guest enables the interrupts of a queue with PQAP(AQIC). KVM intercepts the
 * instruction and vfio_ap executes it: the driver pins the page of the notification
 * indicator byte (NIB), registers the guest's interruption subclass (ISC) with KVM,
 * and asks the machine to set the byte and to interrupt the guest when a reply
 * arrives. As in the migration stream, there is a row for each adapter, ISC and NIB.
 * A row holds one pin and one ISC registration; the queues are its members.
 *
 * Outside of RUNNING the device must change nothing. Quiesce disables the interrupts
 * of all queues and waits until they are off. It keeps pins and registrations, as
 * the way back to RUNNING must not fail. Restore enables the interrupts again; at
 * the destination, the registrations are those of the stream.
 *
 * Requests in the queues stay behind at the source, and a reply that arrives while
 * interrupts are off raises none. So the guest gets one additional interrupt, with
 * its byte set (kick). It then polls its queues and repeats lost requests; without
 * the kick it would wait for its own time-out.
 *
 * vfio_unpin_pages() may wait for a page fault of userspace, so a worker calls it,
 * without the locks that other guests need. Until then the row stays listed, and
 * dma_unmap and close wait for it.
 */

#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/mdev.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "vfio_ap_debug.h"
#include "vfio_ap_private.h"

/* Longest wait for the machine to enable or disable interrupts (milliseconds). */
#define VFIO_AP_IRQ_BOUND	500

/* Time between two looks at the queues, which doubles (microseconds). */
#define VFIO_AP_IRQ_INTERVAL_MIN	50
#define VFIO_AP_IRQ_INTERVAL_MAX	20000

/* PQAP(AQIC) of a guest: tries, and looks at its effect, 20 ms apart. */
#define VFIO_AP_IRQ_TRIES	5

/**
 * struct vfio_ap_irq_range - guest addresses that are being unmapped
 * @node:	in the ranges of the mediated device
 * @iova:	the first address
 * @length:	bytes
 */
struct vfio_ap_irq_range {
	struct list_head node;
	u64 iova;
	u64 length;
};

static bool vfio_ap_irq_in_range(const struct vfio_ap_irq_row *row,
				 const struct vfio_ap_irq_range *range)
{
	u64 nib = be64_to_cpu(row->irq.nib);

	return nib >= range->iova && nib - range->iova < range->length;
}

static int vfio_ap_irq_row_cmp(const void *key, const struct rb_node *node)
{
	return memcmp(key, &vfio_ap_irq_row(node)->irq, VFIO_AP_STREAM_IRQ_KEY);
}

static bool vfio_ap_irq_row_less(struct rb_node *a, const struct rb_node *b)
{
	return vfio_ap_irq_row_cmp(&vfio_ap_irq_row(a)->irq, b) < 0;
}

/* Free an unused row, unless its page is to be reported. */
static void vfio_ap_irq_row_finish(struct ap_matrix_mdev *matrix_mdev,
				   struct vfio_ap_irq_row *row)
{
	if (row->users || row->kept || row->unpinning)
		return;
	if (matrix_mdev && vfio_ap_dirty_add_locked(matrix_mdev, row))
		return;
	kfree(row);
}

static void vfio_ap_irq_unpin_work(struct work_struct *work)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(work, struct ap_matrix_mdev, irq.unpin);
	struct vfio_ap_irq_row *row;

	guard(mutex)(&matrix_dev->mdevs_lock);

again:
	list_for_each_entry(row, &matrix_mdev->irq.pins, list) {
		if (!row->unpinning)
			continue;
		mutex_unlock(&matrix_dev->mdevs_lock);
		vfio_unpin_pages(&matrix_mdev->vdev, be64_to_cpu(row->irq.nib) & PAGE_MASK, 1);
		mutex_lock(&matrix_dev->mdevs_lock);

		list_del(&row->list);
		row->unpinning = false;
		vfio_ap_irq_row_finish(matrix_mdev, row);
		wake_up_all(&matrix_mdev->irq.wait);
		goto again;
	}
}

/* In the order in which the pages were given up, so that dma_unmap does not starve. */
static void vfio_ap_irq_row_unpin(struct ap_matrix_mdev *matrix_mdev,
				  struct vfio_ap_irq_row *row)
{
	row->unpinning = true;
	list_add_tail(&row->list, &matrix_mdev->irq.pins);
	queue_work(system_long_wq, &matrix_mdev->irq.unpin);
}

static bool vfio_ap_irq_unmapping(struct ap_matrix_mdev *matrix_mdev,
				  const struct vfio_ap_irq_row *row)
{
	struct vfio_ap_irq_range *range;

	list_for_each_entry(range, &matrix_mdev->irq.unmaps, node)
		if (vfio_ap_irq_in_range(row, range))
			return true;

	return false;
}

/*
 * Make a row with a pinned page and the guest's ISC registered, unless there is one.
 * Userspace decides how long it takes to bring the page into memory, so
 * matrix_dev->mdevs_lock is dropped. Reset, close and dma_unmap wait until the pin
 * is no longer listed.
 */
static struct vfio_ap_irq_row *
vfio_ap_irq_row_new(struct ap_matrix_mdev *matrix_mdev,
		    const struct vfio_ap_stream_irq *key)
{
	u64 nib = be64_to_cpu(key->nib);
	struct vfio_ap_irq_row *row;
	struct rb_node *node;
	int ret = -EINVAL;

	/* Reset and close wait for the allocation. It ends soon, dma_unmap need not. */
	matrix_mdev->irq.nr_allocs++;
	mutex_unlock(&matrix_dev->mdevs_lock);
	row = kzalloc_obj(*row, GFP_KERNEL_ACCOUNT);
	mutex_lock(&matrix_dev->mdevs_lock);
	matrix_mdev->irq.nr_allocs--;
	wake_up_all(&matrix_mdev->irq.wait);
	if (!row)
		return ERR_PTR(-ENOMEM);

	row->irq = *key;
	if (!vfio_ap_irq_unmapping(matrix_mdev, row)) {
		list_add_tail(&row->list, &matrix_mdev->irq.pins);
		mutex_unlock(&matrix_dev->mdevs_lock);
		ret = vfio_pin_pages(&matrix_mdev->vdev, nib & PAGE_MASK, 1,
				     IOMMU_READ | IOMMU_WRITE, &row->page);
		mutex_lock(&matrix_dev->mdevs_lock);
		list_del(&row->list);
		wake_up_all(&matrix_mdev->irq.wait);
	}
	if (ret != 1) {
		VFIO_AP_DBF_WARN("%s: vfio_pin_pages failed: rc=%d, nib=%#llx\n",
				 __func__, ret, nib);
		kfree(row);
		return ERR_PTR(ret == -ENOMEM ? ret : -EINVAL);
	}

	/* Another task may have made the same row. */
	node = rb_find(key, &matrix_mdev->irq.rows, vfio_ap_irq_row_cmp);
	if (row->unmapped || node) {
		vfio_ap_irq_row_unpin(matrix_mdev, row);
		return node ? vfio_ap_irq_row(node) : ERR_PTR(-EINVAL);
	}

	ret = kvm_s390_gisc_register(matrix_mdev->kvm, key->isc);
	if (ret < 0) {
		VFIO_AP_DBF_WARN("%s: gisc registration failed: nisc=%d, isc=%d\n",
				 __func__, ret, key->isc);
		vfio_ap_irq_row_unpin(matrix_mdev, row);
		return ERR_PTR(-EOPNOTSUPP);
	}
	row->nisc = ret;
	row->gisa = virt_to_page(matrix_mdev->kvm->arch.gisa_int.origin);
	rb_add(&row->node, &matrix_mdev->irq.rows, vfio_ap_irq_row_less);
	WRITE_ONCE(matrix_mdev->irq.nr_rows, matrix_mdev->irq.nr_rows + 1);

	return row;
}

/**
 * vfio_ap_irq_row_get - find or make the row for a registration
 * @matrix_mdev: the mediated device; the caller keeps it open
 * @apid: the adapter
 * @isc: guest interruption subclass
 * @nib: guest address of the notification indicator byte
 *
 * Context: matrix_dev->mdevs_lock is held. It is dropped and taken again, so the
 * caller looks up queues anew.
 * Return: the row, for vfio_ap_irq_register() and vfio_ap_irq_row_put(), or
 * * -EINVAL: the page cannot be pinned, or is being unmapped
 * * -EOPNOTSUPP: the guest gets no AP interrupts
 * * -ENOMEM: out of memory, or the limit of pinned pages
 */
struct vfio_ap_irq_row *vfio_ap_irq_row_get(struct ap_matrix_mdev *matrix_mdev,
					    u16 apid, u8 isc, dma_addr_t nib)
{
	struct vfio_ap_stream_irq key = {
		.apid = cpu_to_be16(apid),
		.isc = isc,
		.nib = cpu_to_be64(nib),
	};
	struct vfio_ap_irq_row *row;
	struct rb_node *node;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	node = rb_find(&key, &matrix_mdev->irq.rows, vfio_ap_irq_row_cmp);
	row = node ? vfio_ap_irq_row(node) : vfio_ap_irq_row_new(matrix_mdev, &key);
	if (IS_ERR(row))
		return row;
	if (row->unmapped)
		return ERR_PTR(-EINVAL);
	row->users++;

	return row;
}

/**
 * vfio_ap_irq_row_put - give back a row
 * @matrix_mdev: the mediated device
 * @row: the row; without users it holds neither pin nor registration
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_irq_row_put(struct ap_matrix_mdev *matrix_mdev,
			 struct vfio_ap_irq_row *row)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (--row->users)
		return;

	rb_erase(&row->node, &matrix_mdev->irq.rows);
	WRITE_ONCE(matrix_mdev->irq.nr_rows, matrix_mdev->irq.nr_rows - 1);
	kvm_s390_gisc_unregister(matrix_mdev->kvm, row->irq.isc);
	vfio_ap_irq_row_unpin(matrix_mdev, row);
}

static void vfio_ap_irq_join(struct vfio_ap_queue *q, struct vfio_ap_irq_row *row)
{
	row->users++;
	set_bit_inv(AP_QID_QUEUE(q->apqn), (unsigned long *)row->irq.domains);
	q->irq_row = row;
	q->irq_dropped = false;
}

static void vfio_ap_irq_leave(struct vfio_ap_queue *q)
{
	struct vfio_ap_irq_row *row = q->irq_row;

	clear_bit_inv(AP_QID_QUEUE(q->apqn), (unsigned long *)row->irq.domains);
	q->irq_row = NULL;
	q->irq_dropped = false;
	vfio_ap_irq_row_put(q->matrix_mdev, row);
}

static void vfio_ap_irq_set_on(struct vfio_ap_queue *q)
{
	q->irq_state = VFIO_AP_IRQ_ON;
	q->irq_enabled_at = jiffies;
	q->irq_nr_resets = READ_ONCE(q->aq->nr_resets);
}

static struct ap_queue_status vfio_ap_irq_switch_on(struct vfio_ap_queue *q,
						    struct vfio_ap_irq_row *row)
{
	struct kvm_s390_gisa *gisa = READ_ONCE(q->matrix_mdev->kvm->arch.gisa_int.origin);
	union ap_qirq_ctrl ctrl = {
		.ir = 1,
		.gisc = row->irq.isc,
		.isc = row->nisc,
	};

	/* The guest may have become protected since, on a machine without AIV. */
	if (!gisa)
		return (struct ap_queue_status){
			.response_code = AP_RESPONSE_INVALID_ADDRESS,
		};
	ctrl.gisa = virt_to_phys(gisa) >> 4;

	return ap_aqic(q->apqn, ctrl, page_to_phys(row->page) |
				      offset_in_page(be64_to_cpu(row->irq.nib)));
}

/**
 * vfio_ap_irq_register - enable the interrupts of a queue for the guest
 * @q: the queue
 * @row: the row; the caller keeps its own use of it
 *
 * An accepted PQAP(AQIC) replaces an older registration, which the machine must
 * have disabled by then; a refused one leaves it alone.
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: the answer of the machine
 */
struct ap_queue_status vfio_ap_irq_register(struct vfio_ap_queue *q,
					    struct vfio_ap_irq_row *row)
{
	struct ap_queue_status status;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	status = vfio_ap_irq_switch_on(q, row);
	if (status.response_code != AP_RESPONSE_NORMAL) {
		VFIO_AP_DBF_WARN("%s: queue %02x.%04x: PQAP(AQIC) failed with status=%#02x, isc=%d\n",
				 __func__, AP_QID_CARD(q->apqn),
				 AP_QID_QUEUE(q->apqn), status.response_code,
				 row->irq.isc);
		return status;
	}
	vfio_ap_free_aqic_resources(q);
	vfio_ap_irq_join(q, row);
	vfio_ap_irq_set_on(q);

	return status;
}

/**
 * vfio_ap_irq_abandon - forget the row whose pages a queue keeps
 * @q: the queue; unless the caller put the pages they stay allocated, as a removed
 *     queue may still store into them
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_irq_abandon(struct vfio_ap_queue *q)
{
	struct vfio_ap_irq_row *row = q->kept_row;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!row)
		return;
	row->kept--;
	q->kept_row = NULL;
	vfio_ap_irq_row_finish(q->matrix_mdev, row);
}

static void vfio_ap_irq_unkeep(struct vfio_ap_queue *q)
{
	if (!q->kept_row)
		return;

	put_page(q->kept_row->page);
	put_page(q->kept_row->gisa);
	vfio_ap_irq_abandon(q);
}

/**
 * vfio_ap_free_aqic_resources - drop the registration of a queue
 * @q: the queue, which cannot interrupt, or NULL
 *
 * Releases the pages that vfio_ap_give_up_aqic_resources() has kept, too.
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_free_aqic_resources(struct vfio_ap_queue *q)
{
	if (!q)
		return;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (q->irq_row)
		vfio_ap_irq_leave(q);
	vfio_ap_irq_unkeep(q);
	q->irq_state = VFIO_AP_IRQ_NONE;
}

/*
 * The machine executes a guest's reset without an intercept. It disables interrupts,
 * so the first PQAP(AQIC) that disables them finds nothing to change, or a reset in
 * progress. If the machine may still have been enabling them, or the host has reset
 * the queue, the registration is kept, as the guest would lose its interrupts.
 */
static bool vfio_ap_irq_reset_by_guest(struct vfio_ap_queue *q)
{
	unsigned long settled = q->irq_enabled_at + msecs_to_jiffies(VFIO_AP_IRQ_BOUND);

	return q->irq_row && q->irq_state == VFIO_AP_IRQ_ON &&
	       time_after(jiffies, settled) &&
	       q->irq_nr_resets == READ_ONCE(q->aq->nr_resets);
}

static struct ap_queue_status vfio_ap_irq_switch_off(struct vfio_ap_queue *q)
{
	union ap_qirq_ctrl ctrl = { .value = 0 };
	struct ap_queue_status status;
	bool dropped = vfio_ap_irq_reset_by_guest(q);

	status = ap_aqic(q->apqn, ctrl, 0);
	switch (status.response_code) {
	case AP_RESPONSE_OTHERWISE_CHANGED:
		q->irq_dropped |= dropped;
		fallthrough;
	case AP_RESPONSE_NORMAL:
		q->irq_state = VFIO_AP_IRQ_DISABLING;
		return status;
	case AP_RESPONSE_RESET_IN_PROGRESS:
		q->irq_dropped |= dropped;
		break;
	}
	if (q->irq_state != VFIO_AP_IRQ_DISABLING)
		q->irq_state = VFIO_AP_IRQ_REFUSED;

	return status;
}

static bool vfio_ap_irq_off_accepted(const struct vfio_ap_queue *q)
{
	return q->irq_state != VFIO_AP_IRQ_ON && q->irq_state != VFIO_AP_IRQ_REFUSED;
}

/**
 * vfio_ap_irq_reset_accepted - the machine has accepted to reset a queue
 * @q: the queue
 *
 * Context: matrix_dev->mdevs_lock is held by the caller, or by a task that waits
 * for the caller.
 */
void vfio_ap_irq_reset_accepted(struct vfio_ap_queue *q)
{
	if (!vfio_ap_irq_off_accepted(q))
		q->irq_state = VFIO_AP_IRQ_DISABLING;
}

/*
 * Ask the machine whether the interrupts are off: the AP bus may have reset the
 * queue, or enabled its interrupts for the host. TAPQ shows interrupts as disabled
 * while the machine is enabling them, so that proves nothing unless the machine has
 * accepted a PQAP(AQIC) or a reset.
 */
static bool vfio_ap_irq_confirmed(struct vfio_ap_queue *q, struct ap_queue_status *status)
{
	*status = ap_tapq(q->apqn, NULL);
	q->irq_rc = status->response_code;
	if (vfio_ap_not_operational(q->irq_rc))
		return true;
	if (status->irq_enabled)
		return false;

	return q->irq_rc == AP_RESPONSE_RESET_IN_PROGRESS ||
	       (q->irq_rc == AP_RESPONSE_NORMAL && vfio_ap_irq_off_accepted(q));
}

/* The same; repeats a PQAP(AQIC) that was not accepted, or was undone. */
static bool vfio_ap_irq_is_off(struct vfio_ap_queue *q)
{
	struct ap_queue_status status;
	bool off = vfio_ap_irq_confirmed(q, &status);

	if (!off && (status.irq_enabled || !vfio_ap_irq_off_accepted(q)))
		vfio_ap_irq_switch_off(q);

	return off;
}

/**
 * vfio_ap_give_up_aqic_resources - drop the registration of a queue that may still
 *				    interrupt
 * @q: the queue, after a PQAP(AQIC) that disables interrupts, or a reset
 *
 * The pin must not outlast the mapping, nor the ISC registration the guest. A queue
 * that does not confirm may store into the NIB and the guest's GISA at any time: the
 * two pages stay allocated until a later reset or PQAP(AQIC) succeeds, or for good
 * if the queue is removed before.
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_give_up_aqic_resources(struct vfio_ap_queue *q)
{
	struct ap_queue_status status;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!q->irq_row && !q->kept_row)
		return;
	if (q->irq_state == VFIO_AP_IRQ_OFF || vfio_ap_irq_confirmed(q, &status)) {
		vfio_ap_free_aqic_resources(q);
		return;
	}
	if (!q->irq_row)
		return;

	pr_warn_ratelimited("Queue %02x.%04x may still interrupt: two pages stay allocated\n",
			    AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
	vfio_ap_irq_abandon(q);
	q->kept_row = q->irq_row;
	q->kept_row->kept++;
	get_page(q->kept_row->page);
	get_page(q->kept_row->gisa);
	vfio_ap_irq_leave(q);
}

/**
 * vfio_ap_irq_disable - disable the interrupts of a queue for the guest
 * @q: the queue
 *
 * Repeats a PQAP(AQIC) that the machine is too busy for, and waits until it took
 * effect, 100 ms each; then drops the registration.
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: the answer of the machine
 */
struct ap_queue_status vfio_ap_irq_disable(struct vfio_ap_queue *q)
{
	unsigned int tries = VFIO_AP_IRQ_TRIES;
	struct ap_queue_status status;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	status = vfio_ap_irq_switch_off(q);
	while (tries-- && (status.response_code == AP_RESPONSE_RESET_IN_PROGRESS ||
			   status.response_code == AP_RESPONSE_BUSY ||
			   status.response_code == AP_RESPONSE_STATE_CHANGE_IN_PROGRESS)) {
		msleep(20);
		status = vfio_ap_irq_switch_off(q);
	}
	for (tries = VFIO_AP_IRQ_TRIES; tries && !vfio_ap_irq_is_off(q); tries--)
		msleep(20);
	vfio_ap_give_up_aqic_resources(q);

	return status;
}

/**
 * vfio_ap_irq_encode - write the rows of an IRQ record, of queues that the guest has
 * @matrix_mdev: the mediated device, with its interrupts quiesced
 * @buf: where to write; room for @matrix_mdev->irq.nr_rows rows
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: the number of rows that were written.
 */
unsigned int vfio_ap_irq_encode(struct ap_matrix_mdev *matrix_mdev, u8 *buf)
{
	struct ap_matrix *apcb = &matrix_mdev->shadow_apcb;
	struct vfio_ap_stream_irq irq;
	unsigned long *domains = (unsigned long *)irq.domains;
	unsigned int nr = 0;
	struct rb_node *node;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	for (node = rb_first(&matrix_mdev->irq.rows); node; node = rb_next(node)) {
		irq = vfio_ap_irq_row(node)->irq;
		if (!test_bit_inv(be16_to_cpu(irq.apid), apcb->apm) ||
		    !bitmap_and(domains, domains, apcb->aqm, AP_DOMAINS))
			continue;
		memcpy(buf + nr++ * sizeof(irq), &irq, sizeof(irq));
	}

	return nr;
}

/*
 * Call @fn for each queue; true if it always returns true. With thousands of queues
 * this takes long and other guests need the lock, so the lock is dropped now and
 * then. Queues may come and go.
 */
static bool vfio_ap_irq_for_each(struct ap_matrix_mdev *matrix_mdev,
				 bool (*fn)(struct vfio_ap_queue *q))
{
	struct hlist_head *bucket = matrix_mdev->qtable.queues;
	struct hlist_head *end = bucket + HASH_SIZE(matrix_mdev->qtable.queues);
	struct vfio_ap_queue *q;
	bool all = true;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	for (; bucket < end; bucket++) {
		if (hlist_empty(bucket))
			continue;
		hlist_for_each_entry(q, bucket, mdev_qnode)
			all &= fn(q);
		mutex_unlock(&matrix_dev->mdevs_lock);
		mutex_lock(&matrix_dev->mdevs_lock);
	}

	return all;
}

/* Wait until @done returns true for each queue, VFIO_AP_IRQ_BOUND at most. */
static bool vfio_ap_irq_wait(struct ap_matrix_mdev *matrix_mdev,
			     bool (*done)(struct vfio_ap_queue *q))
{
	unsigned long bound = jiffies + msecs_to_jiffies(VFIO_AP_IRQ_BOUND);
	unsigned int interval = VFIO_AP_IRQ_INTERVAL_MIN;

	while (!vfio_ap_irq_for_each(matrix_mdev, done)) {
		if (time_after(jiffies, bound))
			return false;
		mutex_unlock(&matrix_dev->mdevs_lock);
		fsleep(interval);
		mutex_lock(&matrix_dev->mdevs_lock);
		interval = min(2 * interval, VFIO_AP_IRQ_INTERVAL_MAX);
	}

	return true;
}

static bool vfio_ap_irq_begin_quiesce(struct vfio_ap_queue *q)
{
	q->irq_wait = true;
	/* NONE: the queue can store into no page, so it needs only to be looked at. */
	if (q->irq_state != VFIO_AP_IRQ_NONE)
		vfio_ap_irq_switch_off(q);

	return true;
}

static bool vfio_ap_irq_look_quiesce(struct vfio_ap_queue *q)
{
	if (!q->irq_wait)
		return true;
	if (!vfio_ap_irq_is_off(q))
		return false;

	q->irq_wait = false;
	q->irq_state = q->irq_row ? VFIO_AP_IRQ_OFF : VFIO_AP_IRQ_NONE;
	vfio_ap_irq_unkeep(q);
	if (q->irq_dropped)
		clear_bit_inv(AP_QID_QUEUE(q->apqn),
			      (unsigned long *)q->irq_row->irq.domains);

	return true;
}

/*
 * Not if the queue is only busy, or was looked at too late because another task held
 * the lock.
 */
static bool vfio_ap_irq_reset_noisy(struct vfio_ap_queue *q)
{
	bool accepted = vfio_ap_irq_off_accepted(q);
	struct ap_queue_status status;

	if (vfio_ap_irq_look_quiesce(q))
		return true;
	if (vfio_ap_irq_off_accepted(q) && (!accepted || q->irq_rc == AP_RESPONSE_BUSY))
		return true;

	dev_warn_ratelimited(mdev_dev(q->matrix_mdev->mdev),
			     "queue %02x.%04x: interrupts stay on, resetting it\n",
			     AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
	status = ap_zapq(q->apqn, 0);
	if (status.response_code == AP_RESPONSE_NORMAL)
		vfio_ap_irq_reset_accepted(q);

	return true;
}

static bool vfio_ap_irq_give_up_quiesce(struct vfio_ap_queue *q)
{
	if (q->irq_wait)
		dev_warn_ratelimited(mdev_dev(q->matrix_mdev->mdev),
				     "queue %02x.%04x: interrupts stay on\n",
				     AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));

	return true;
}

/**
 * vfio_ap_irq_quiesce - disable the interrupts of all queues
 * @matrix_mdev: the mediated device
 *
 * Keeps pins and registrations for vfio_ap_irq_restore(); PQAP(AQIC) of the guest is
 * answered as busy until then. Waits for a bounded time, without the lock. A queue
 * that still interrupts is reset: a migrated guest finds its requests lost anyway. If
 * it does not confirm then, either, it keeps its pages until it does.
 *
 * Context: the caller serializes changes of the state. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_quiesce(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);

	matrix_mdev->irq.aqic_blocked = true;

	vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_begin_quiesce);
	if (vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_quiesce))
		return;

	vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_reset_noisy);
	if (!vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_quiesce))
		vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_give_up_quiesce);
}

/**
 * vfio_ap_irq_wait_for_pins_locked - wait until no page is being pinned or unpinned
 * @matrix_mdev: the mediated device
 *
 * Context: matrix_dev->mdevs_lock is held; it is dropped while pages are listed. The
 * worker takes it: no lock may be held that is taken inside it.
 */
void vfio_ap_irq_wait_for_pins_locked(struct ap_matrix_mdev *matrix_mdev)
{
	wait_event_cmd(matrix_mdev->irq.wait,
		       list_empty(&matrix_mdev->irq.pins) && !matrix_mdev->irq.nr_allocs,
		       mutex_unlock(&matrix_dev->mdevs_lock),
		       mutex_lock(&matrix_dev->mdevs_lock));
}

static bool vfio_ap_irq_begin_restore(struct vfio_ap_queue *q)
{
	/* This includes queues that did not confirm that their interrupts are off. */
	q->irq_wait = q->irq_row && !q->irq_dropped;
	q->irq_rc = 0;

	return true;
}

/* True if the queue interrupts as registered, or refuses; irq_rc is the reason. */
static bool vfio_ap_irq_look_restore(struct vfio_ap_queue *q)
{
	struct ap_queue_status status;

	/* The registration may have been dropped since the last look. */
	if (!q->irq_wait || !q->irq_row || q->irq_row->unmapped)
		return true;

	status = vfio_ap_irq_switch_on(q, q->irq_row);
	q->irq_rc = status.response_code;
	switch (status.response_code) {
	case AP_RESPONSE_NORMAL:
		vfio_ap_irq_set_on(q);
		break;
	case AP_RESPONSE_OTHERWISE_CHANGED:
		/* Enabled for the host, or never disabled. */
		vfio_ap_irq_switch_off(q);
		return false;
	case AP_RESPONSE_BUSY:
	case AP_RESPONSE_RESET_IN_PROGRESS:
		return false;
	}
	q->irq_wait = false;

	return true;
}

/* Set the byte of each row, and make an interrupt pending for each ISC. */
static void vfio_ap_irq_kick(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_irq_row *row;
	unsigned long iscs = 0;
	struct rb_node *node;
	unsigned int isc;
	u8 *nib;

	for (node = rb_first(&matrix_mdev->irq.rows); node; node = rb_next(node)) {
		row = vfio_ap_irq_row(node);
		if (row->unmapped ||
		    bitmap_empty((unsigned long *)row->irq.domains, AP_DOMAINS))
			continue;
		nib = page_to_virt(row->page) + offset_in_page(be64_to_cpu(row->irq.nib));
		WRITE_ONCE(*nib, 1);
		iscs |= BIT(row->irq.isc);
	}

	for_each_set_bit(isc, &iscs, VFIO_AP_STREAM_MAX_ISC + 1)
		kvm_s390_gisc_inject(matrix_mdev->kvm, isc);
}

/* After the kick the guest finds that a queue does not interrupt, and enables it. */
static void vfio_ap_irq_give_up(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_queue *q;
	int bucket;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode) {
		bool refused = q->irq_rc && q->irq_row && !q->irq_row->unmapped;

		if (refused && !q->irq_dropped)
			vfio_ap_notice(matrix_mdev,
				       "queue %02x.%04x: interrupts not restored: response code %02x\n",
				       AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn),
				       q->irq_rc);
		if (refused || q->irq_dropped)
			vfio_ap_give_up_aqic_resources(q);
	}
}

/**
 * vfio_ap_irq_restore - enable the interrupts of all registered queues again
 * @matrix_mdev: the mediated device, quiesced
 *
 * Waits for a bounded time, without the lock. Never fails: a queue that refuses is
 * logged, and its guest gets the kick nevertheless.
 *
 * Context: the caller serializes changes of the state. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_restore(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);

	vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_begin_restore);
	vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_restore);

	matrix_mdev->irq.aqic_blocked = false;
	vfio_ap_irq_kick(matrix_mdev);
	vfio_ap_irq_give_up(matrix_mdev);
}

static bool vfio_ap_irq_begin_unmap(struct vfio_ap_queue *q)
{
	if (!q->irq_row || !q->irq_row->unmapped)
		return true;
	if (q->matrix_mdev->irq.aqic_blocked)
		vfio_ap_notice(q->matrix_mdev,
			       "queue %02x.%04x: interrupts not restored: unmapped\n",
			       AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
	if (q->irq_state != VFIO_AP_IRQ_OFF)
		vfio_ap_irq_switch_off(q);

	return true;
}

static bool vfio_ap_irq_look_unmap(struct vfio_ap_queue *q)
{
	if (!q->irq_row || !q->irq_row->unmapped)
		return true;
	if (q->irq_state != VFIO_AP_IRQ_OFF && !vfio_ap_irq_is_off(q))
		return false;
	vfio_ap_free_aqic_resources(q);

	return true;
}

static bool vfio_ap_irq_give_up_unmap(struct vfio_ap_queue *q)
{
	if (q->irq_row && q->irq_row->unmapped)
		vfio_ap_give_up_aqic_resources(q);

	return true;
}

/* True if there are registrations in the range. */
static bool vfio_ap_irq_mark_unmapped(struct ap_matrix_mdev *matrix_mdev,
				      const struct vfio_ap_irq_range *range)
{
	struct vfio_ap_irq_row *row;
	struct rb_node *node;
	bool any = false;

	list_for_each_entry(row, &matrix_mdev->irq.pins, list)
		row->unmapped |= vfio_ap_irq_in_range(row, range);

	for (node = rb_first(&matrix_mdev->irq.rows); node; node = rb_next(node)) {
		row = vfio_ap_irq_row(node);
		row->unmapped |= vfio_ap_irq_in_range(row, range);
		any |= row->unmapped;
	}

	return any;
}

static bool vfio_ap_irq_pins_in_range(struct ap_matrix_mdev *matrix_mdev,
				      const struct vfio_ap_irq_range *range)
{
	struct vfio_ap_irq_row *row;

	list_for_each_entry(row, &matrix_mdev->irq.pins, list)
		if (vfio_ap_irq_in_range(row, range))
			return true;

	return false;
}

/**
 * vfio_ap_irq_unmap - unpin the pages of a range that userspace unmaps
 * @matrix_mdev: the mediated device
 * @iova: guest address of the range
 * @length: bytes
 *
 * Disables the interrupts of all queues that have a notification byte there, waits
 * once for all of them, for a bounded time and without the lock, then until the last
 * page of the range is unpinned. No page of the range is pinned until then.
 *
 * Context: Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_unmap(struct ap_matrix_mdev *matrix_mdev, u64 iova, u64 length)
{
	struct vfio_ap_irq_range range = { .iova = iova, .length = length };

	guard(mutex)(&matrix_dev->mdevs_lock);

	list_add(&range.node, &matrix_mdev->irq.unmaps);
	if (vfio_ap_irq_mark_unmapped(matrix_mdev, &range)) {
		vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_begin_unmap);
		if (!vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_unmap))
			vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_give_up_unmap);
	}
	wait_event_cmd(matrix_mdev->irq.wait,
		       !vfio_ap_irq_pins_in_range(matrix_mdev, &range),
		       mutex_unlock(&matrix_dev->mdevs_lock),
		       mutex_lock(&matrix_dev->mdevs_lock));
	list_del(&range.node);
}

/**
 * vfio_ap_irq_forget - drop all registrations of a device
 * @matrix_mdev: the mediated device, quiesced
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_irq_forget(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_queue *q;
	int bucket;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	/* Each registration has a row. */
	if (RB_EMPTY_ROOT(&matrix_mdev->irq.rows))
		return;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode)
		vfio_ap_give_up_aqic_resources(q);
}

/* Register the queues of a row as the source had them. */
static int vfio_ap_irq_adopt(struct ap_matrix_mdev *matrix_mdev,
			     const struct vfio_ap_stream_irq *irq,
			     struct vfio_ap_irq_row *row)
{
	struct vfio_ap_queue *q;
	unsigned long domain;

	for_each_set_bit_inv(domain, (unsigned long *)irq->domains, AP_DOMAINS) {
		q = vfio_ap_mdev_get_queue(matrix_mdev,
					   AP_MKQID(be16_to_cpu(irq->apid), domain));
		if (!q || q->irq_row)
			return -ENXIO;
		vfio_ap_irq_join(q, row);
		q->irq_state = VFIO_AP_IRQ_OFF;
	}

	return 0;
}

static int vfio_ap_irq_receive_row(struct ap_matrix_mdev *matrix_mdev,
				   const struct vfio_ap_stream_irq *irq,
				   int (*status)(void *ctx), void *ctx)
{
	u64 nib = be64_to_cpu(irq->nib);
	struct vfio_ap_irq_row *row;
	int ret = 0;

	scoped_guard(srcu, &matrix_mdev->kvm->srcu)
		if (!kvm_s390_is_gpa_in_memslot(matrix_mdev->kvm, nib))
			ret = -EINVAL;
	if (ret)
		return ret;

	row = vfio_ap_irq_row_get(matrix_mdev, be16_to_cpu(irq->apid), irq->isc, nib);
	if (IS_ERR(row))
		return PTR_ERR(row);

	/* The session may have ended while the page was pinned. */
	ret = status(ctx);
	if (!ret)
		ret = vfio_ap_irq_adopt(matrix_mdev, irq, row);
	vfio_ap_irq_row_put(matrix_mdev, row);

	return ret;
}

/**
 * vfio_ap_irq_receive - make the registrations that the source has sent
 * @matrix_mdev: the mediated device, in RESUMING and without registrations
 * @irqs: the rows, as the decoder has checked them
 * @nr: number of rows
 * @status: 0, or a negative errno if the session has ended
 * @ctx: passed to @status
 *
 * All or nothing. vfio_ap_irq_restore() enables the interrupts.
 *
 * Context: matrix_dev->mdevs_lock is held; it is dropped while a page is pinned.
 * The session keeps the device open: a task that ends the session waits in
 * vfio_ap_irq_wait_for_pins_locked().
 * Return: 0; the errno of @status; or
 * * -EINVAL: a notification byte is not in the guest's memory
 * * -ENXIO: a queue is not there
 * * -EOPNOTSUPP: the guest gets no AP interrupts here
 * * -ENOMEM: out of memory
 */
int vfio_ap_irq_receive(struct ap_matrix_mdev *matrix_mdev,
			const struct vfio_ap_stream_irq *irqs, unsigned int nr,
			int (*status)(void *ctx), void *ctx)
{
	unsigned int i;
	int ret = 0;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	for (i = 0; i < nr && !ret; i++)
		ret = vfio_ap_irq_receive_row(matrix_mdev, &irqs[i], status, ctx);
	if (ret)
		vfio_ap_irq_forget(matrix_mdev);

	return ret;
}

/**
 * vfio_ap_irq_init - prepare a mediated device that is being created
 * @matrix_mdev: the mediated device, not registered yet
 */
void vfio_ap_irq_init(struct ap_matrix_mdev *matrix_mdev)
{
	matrix_mdev->irq.rows = RB_ROOT;
	INIT_LIST_HEAD(&matrix_mdev->irq.pins);
	INIT_LIST_HEAD(&matrix_mdev->irq.unmaps);
	init_waitqueue_head(&matrix_mdev->irq.wait);
	INIT_WORK(&matrix_mdev->irq.unpin, vfio_ap_irq_unpin_work);
}
