// SPDX-License-Identifier: GPL-2.0+
/*
 * Guest interrupts of a vfio-ap device that migrates
 *
 * A guest enables the interrupt of a queue with PQAP(AQIC), which KVM intercepts
 * and vfio_ap executes for it: it pins the page with the notification indicator
 * byte (NIB), registers the guest's interruption subclass (ISC) with KVM, and has
 * the machine set the byte and the guest's interrupt when a reply arrives. What
 * the guest has registered is kept here in rows, one for each adapter and
 * distinct pair of ISC and NIB, as the migration stream has them.
 *
 * Whoever leaves RUNNING is promised that the device changes nothing any more, so
 * the machine is told to interrupt for no queue, and it is waited until it does
 * not (quiesce). The pins and registrations are kept: to go back to RUNNING must
 * not fail. There, or at the destination, which has made the same registrations
 * from the stream, the machine is told to interrupt again (restore).
 *
 * Requests in the queues stay behind at the source, and replies that arrive while
 * interrupts are off are told to nobody. So the guest gets one interrupt more
 * than there were replies, with its byte set (kick). It looks at its queues then,
 * as after any interrupt, and sends again what it finds lost; without, it would
 * wait for its own time-out.
 */

#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/hashtable.h>
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/mdev.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <asm/ap.h>

#include "vfio_ap_irq.h"
#include "vfio_ap_log.h"
#include "vfio_ap_private.h"
#include "vfio_ap_stream.h"
#include "vfio_ap_trace.h"

/* How long queues may take to do as they are told (milliseconds). */
#define VFIO_AP_IRQ_BOUND	500

/* Time between two looks at the queues, which doubles (microseconds). */
#define VFIO_AP_IRQ_INTERVAL_MIN	50
#define VFIO_AP_IRQ_INTERVAL_MAX	20000

/**
 * struct vfio_ap_irq_row - queues of an adapter with the same ISC and NIB
 * @node:	in the rows of the mediated device
 * @users:	queues that have it, and who is about to register one
 * @irq:	the row; a domain is in it while its queue has it
 *
 * Guarded by matrix_dev->mdevs_lock.
 */
struct vfio_ap_irq_row {
	struct rb_node node;
	unsigned int users;
	struct vfio_ap_stream_irq irq;
};

static bool vfio_ap_irq_registered(const struct vfio_ap_queue *q)
{
	return q->saved_isc != VFIO_AP_ISC_INVALID;
}

/* By adapter, ISC and NIB, which is the order of the stream */
static int vfio_ap_irq_row_cmp(const struct vfio_ap_stream_irq *a,
			       const struct vfio_ap_stream_irq *b)
{
	if (a->apid != b->apid)
		return a->apid < b->apid ? -1 : 1;
	if (a->isc != b->isc)
		return a->isc < b->isc ? -1 : 1;
	if (a->nib != b->nib)
		return a->nib < b->nib ? -1 : 1;

	return 0;
}

static int vfio_ap_irq_row_find_cmp(const void *key, const struct rb_node *node)
{
	return vfio_ap_irq_row_cmp(key, &rb_entry(node, struct vfio_ap_irq_row,
						  node)->irq);
}

static bool vfio_ap_irq_row_less(struct rb_node *a, const struct rb_node *b)
{
	return vfio_ap_irq_row_cmp(&rb_entry(a, struct vfio_ap_irq_row, node)->irq,
				   &rb_entry(b, struct vfio_ap_irq_row, node)->irq) < 0;
}

/**
 * vfio_ap_irq_row_get - find or make the row for a registration
 * @matrix_mdev: the mediated device
 * @apqn: the queue
 * @isc: guest interruption subclass
 * @nib: guest address of the notification indicator byte
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: the row, for vfio_ap_irq_register() or vfio_ap_irq_row_put(); NULL
 * without memory.
 */
struct vfio_ap_irq_row *vfio_ap_irq_row_get(struct ap_matrix_mdev *matrix_mdev,
					    int apqn, u8 isc, dma_addr_t nib)
{
	struct vfio_ap_stream_irq key = {
		.apid = AP_QID_CARD(apqn),
		.isc = isc,
		.nib = nib,
	};
	struct vfio_ap_irq_row *row;
	struct rb_node *node;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	node = rb_find(&key, &matrix_mdev->irq.rows, vfio_ap_irq_row_find_cmp);
	if (node) {
		row = rb_entry(node, struct vfio_ap_irq_row, node);
		row->users++;
		return row;
	}

	row = kzalloc_obj(*row, GFP_KERNEL_ACCOUNT);
	if (!row)
		return NULL;

	row->users = 1;
	row->irq = key;
	rb_add(&row->node, &matrix_mdev->irq.rows, vfio_ap_irq_row_less);
	/* Read without a lock by vfio_ap_irq_nr_rows(). */
	WRITE_ONCE(matrix_mdev->irq.nr_rows, matrix_mdev->irq.nr_rows + 1);

	return row;
}

/* A worker that waits for the end of a reset relies on the task that waits for it. */
static void vfio_ap_irq_assert_locked(void)
{
	lockdep_assert(current_work() ||
		       lockdep_is_held(&matrix_dev->mdevs_lock));
}

/**
 * vfio_ap_irq_row_put - give back a row
 * @matrix_mdev: the mediated device
 * @row: the row; freed if nobody has it any more
 *
 * Context: matrix_dev->mdevs_lock is held by the caller, or by a task that waits
 * for the caller.
 */
void vfio_ap_irq_row_put(struct ap_matrix_mdev *matrix_mdev,
			 struct vfio_ap_irq_row *row)
{
	vfio_ap_irq_assert_locked();

	if (--row->users)
		return;

	rb_erase(&row->node, &matrix_mdev->irq.rows);
	WRITE_ONCE(matrix_mdev->irq.nr_rows, matrix_mdev->irq.nr_rows - 1);
	kfree(row);
}

/* The machine has accepted to enable the interrupts of a queue. */
static void vfio_ap_irq_set_enabled(struct vfio_ap_queue *q)
{
	q->irq_off = false;
	q->irq_off_accepted = false;
	q->irq_fresh = true;
	q->irq_enabled_at = jiffies;
	q->irq_nr_resets = READ_ONCE(q->aq->nr_resets);
}

/**
 * vfio_ap_irq_register - note what a queue's interrupts are registered with
 * @q: the queue, without a registration
 * @row: its row; passed on to @q
 * @page: the page with the notification indicator byte, pinned
 * @nisc: the host's ISC, as kvm_s390_gisc_register() gave it
 *
 * vfio_ap_free_aqic_resources() undoes it, together with the pin and the
 * registration of the guest's ISC.
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_irq_register(struct vfio_ap_queue *q, struct vfio_ap_irq_row *row,
			  struct page *page, u8 nisc)
{
	u8 domain = AP_QID_QUEUE(q->apqn);

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	q->irq_row = row;
	q->saved_isc = row->irq.isc;
	q->saved_iova = row->irq.nib;
	q->nib_page = page;
	q->nisc = nisc;
	q->irq_dropped = false;
	vfio_ap_irq_set_enabled(q);
	row->irq.domains[domain / 8] |= 0x80 >> (domain % 8);
}

/**
 * vfio_ap_irq_unregister - take a queue out of its row
 * @q: the queue
 *
 * Context: matrix_dev->mdevs_lock is held by the caller, or by a task that waits
 * for the caller.
 */
void vfio_ap_irq_unregister(struct vfio_ap_queue *q)
{
	struct vfio_ap_irq_row *row = q->irq_row;
	u8 domain = AP_QID_QUEUE(q->apqn);

	vfio_ap_irq_assert_locked();

	vfio_ap_log_released_locked(q->matrix_mdev, row->irq.nib);
	row->irq.domains[domain / 8] &= ~(0x80 >> (domain % 8));
	vfio_ap_irq_row_put(q->matrix_mdev, row);
	q->irq_row = NULL;
	q->irq_off = false;
	q->irq_dropped = false;
}

/**
 * vfio_ap_irq_nr_rows - how many rows an IRQ record would have
 * @matrix_mdev: the mediated device
 *
 * Context: any; what it says may be out of date at once.
 * Return: the number of rows.
 */
unsigned int vfio_ap_irq_nr_rows(struct ap_matrix_mdev *matrix_mdev)
{
	return READ_ONCE(matrix_mdev->irq.nr_rows);
}

/* The part of a row that the guest has queues for; false if there is none. */
static bool vfio_ap_irq_row_visible(struct ap_matrix_mdev *matrix_mdev,
				    const struct vfio_ap_irq_row *row,
				    struct vfio_ap_stream_irq *irq)
{
	const u8 *aqm = (const u8 *)matrix_mdev->shadow_apcb.aqm;
	bool any = false;
	unsigned int i;

	if (!test_bit_inv(row->irq.apid, matrix_mdev->shadow_apcb.apm))
		return false;

	*irq = row->irq;
	for (i = 0; i < sizeof(irq->domains); i++) {
		irq->domains[i] &= aqm[i];
		any |= irq->domains[i];
	}

	return any;
}

/**
 * vfio_ap_irq_encode - write the rows of an IRQ record
 * @matrix_mdev: the mediated device, with its interrupts quiesced
 * @buf: where to write; room for vfio_ap_irq_nr_rows() rows
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: the number of rows that were written.
 */
unsigned int vfio_ap_irq_encode(struct ap_matrix_mdev *matrix_mdev, u8 *buf)
{
	struct vfio_ap_stream_irq irq;
	unsigned int nr = 0;
	struct rb_node *node;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	for (node = rb_first(&matrix_mdev->irq.rows); node; node = rb_next(node)) {
		if (!vfio_ap_irq_row_visible(matrix_mdev,
					     rb_entry(node, struct vfio_ap_irq_row,
						      node), &irq))
			continue;
		vfio_ap_stream_encode_irq(&irq, buf);
		buf += sizeof(struct vfio_ap_stream_irq_row);
		nr++;
	}

	return nr;
}

/*
 * Do something with each queue. To execute an instruction for each of thousands of
 * queues takes a while, in which other guests need the lock: it is dropped now and
 * then, so queues may come and go. Returns true if @fn did so for each.
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

/* Until each is as it is to be, or for long enough. */
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

/*
 * Whether it was the guest that has disabled the interrupts, by a reset, which the
 * machine executes without an intercept. Then the machine finds nothing to change,
 * or the reset in progress, when it is asked for the first time to disable them.
 * That it was still enabling them, or that somebody else has reset the queue, is to
 * be ruled out: a registration that is dropped by mistake costs the guest its
 * interrupts.
 */
static bool vfio_ap_irq_dropped_by_guest(struct vfio_ap_queue *q)
{
	unsigned long settled = q->irq_enabled_at + msecs_to_jiffies(VFIO_AP_IRQ_BOUND);

	return vfio_ap_irq_registered(q) && q->irq_fresh &&
	       time_after(jiffies, settled) &&
	       q->irq_nr_resets == READ_ONCE(q->aq->nr_resets);
}

static void vfio_ap_irq_switch_off(struct vfio_ap_queue *q)
{
	union ap_qirq_ctrl ctrl = { .value = 0 };
	struct ap_queue_status status;

	status = ap_aqic(q->apqn, ctrl, 0);
	if (status.response_code == AP_RESPONSE_NORMAL ||
	    status.response_code == AP_RESPONSE_OTHERWISE_CHANGED)
		q->irq_off_accepted = true;
	if ((status.response_code == AP_RESPONSE_OTHERWISE_CHANGED ||
	     status.response_code == AP_RESPONSE_RESET_IN_PROGRESS) &&
	    vfio_ap_irq_dropped_by_guest(q))
		q->irq_dropped = true;
	q->irq_fresh = false;
}

/*
 * Whether the queue interrupts nobody. The machine knows, not the registration:
 * the AP bus may have reset the queue, or enabled interrupts for the host.
 *
 * PQAP(TAPQ) shows interrupts as disabled while they are being enabled, and
 * PQAP(AQIC) is rejected meanwhile: it is repeated until the machine accepts it.
 */
static bool vfio_ap_irq_is_off(struct vfio_ap_queue *q, u8 *rc)
{
	struct ap_queue_status status = ap_tapq(q->apqn, NULL);

	*rc = status.response_code;
	if (vfio_ap_not_operational(status.response_code))
		return true;
	if (status.response_code == AP_RESPONSE_RESET_IN_PROGRESS)
		return !status.irq_enabled;
	if (status.response_code == AP_RESPONSE_NORMAL &&
	    !status.irq_enabled && q->irq_off_accepted)
		return true;

	if (status.irq_enabled || !q->irq_off_accepted)
		vfio_ap_irq_switch_off(q);

	return false;
}

static bool vfio_ap_irq_begin_quiesce(struct vfio_ap_queue *q)
{
	q->irq_wait = true;
	q->irq_lost = 0;
	/* Nothing can be under way for a queue that has no pages to write to. */
	if (vfio_ap_irq_registered(q) || q->kept_nib)
		vfio_ap_irq_switch_off(q);
	else
		q->irq_off_accepted = true;

	return true;
}

static bool vfio_ap_irq_confirm_quiesce(struct vfio_ap_queue *q, u8 *rc)
{
	u8 domain = AP_QID_QUEUE(q->apqn);

	if (!q->irq_wait)
		return true;
	if (!vfio_ap_irq_is_off(q, rc))
		return false;

	q->irq_wait = false;
	q->irq_off = vfio_ap_irq_registered(q);
	/* Pages are not unpinned here: that may take long, and the lock is held. */
	if (q->irq_dropped)
		q->irq_row->irq.domains[domain / 8] &= ~(0x80 >> (domain % 8));
	if (q->irq_off)
		trace_vfio_ap_queue_quiesced(dev_name(mdev_dev(q->matrix_mdev->mdev)),
					     q->apqn, *rc);

	return true;
}

static bool vfio_ap_irq_look_quiesce(struct vfio_ap_queue *q)
{
	u8 rc;

	return vfio_ap_irq_confirm_quiesce(q, &rc);
}

/*
 * A queue that does not switch its interrupts off is reset. Not one that is only
 * busy, or that could not be looked at in time because others had the lock.
 */
static bool vfio_ap_irq_insist(struct vfio_ap_queue *q)
{
	bool accepted = q->irq_off_accepted;
	struct ap_queue_status status;
	u8 rc;

	if (vfio_ap_irq_confirm_quiesce(q, &rc))
		return true;
	if (q->irq_off_accepted && (!accepted || rc == AP_RESPONSE_BUSY))
		return true;

	dev_warn_ratelimited(mdev_dev(q->matrix_mdev->mdev),
			     "queue %02x.%04x: interrupts stay on, resetting it\n",
			     AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
	status = ap_zapq(q->apqn, 0);
	if (status.response_code == AP_RESPONSE_NORMAL)
		q->irq_off_accepted = true;

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
 * vfio_ap_irq_quiesce - let no queue of a device interrupt
 * @matrix_mdev: the mediated device
 *
 * Pins and registrations are kept for vfio_ap_irq_restore(), and until then
 * PQAP(AQIC) of the guest is not executed. Waits for a bounded time only, without
 * the lock; a queue that still interrupts then is reset, as the guest would find
 * its requests lost anyway. A queue that does not confirm after that, either,
 * keeps its pages until it does.
 *
 * Context: matrix_mdev->mig.mutex is held. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_quiesce(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);

	matrix_mdev->irq.quiet = true;

	/* Tell all of them before any is waited for. */
	vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_begin_quiesce);
	if (vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_quiesce))
		return;

	vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_insist);
	if (!vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_quiesce))
		vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_give_up_quiesce);
}

/**
 * vfio_ap_irq_hold - let nobody pin a page of the guest
 * @matrix_mdev: the mediated device, whose session has ended
 *
 * Waits for whoever does. Until vfio_ap_irq_release(), PQAP(AQIC) of the guest is
 * not executed.
 *
 * Context: matrix_dev->mdevs_lock is held; it may be dropped and taken again.
 */
void vfio_ap_irq_hold(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	matrix_mdev->irq.quiet = true;
	vfio_ap_wait_for_pins(matrix_mdev);
}

/**
 * vfio_ap_irq_release - undo vfio_ap_irq_hold(), or vfio_ap_irq_quiesce()
 * @matrix_mdev: the mediated device, without registrations or about to lose them
 *
 * Context: Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_release(struct ap_matrix_mdev *matrix_mdev)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	matrix_mdev->irq.quiet = false;
}

static struct ap_queue_status vfio_ap_irq_switch_on(struct vfio_ap_queue *q)
{
	struct kvm_s390_gisa *gisa = READ_ONCE(q->matrix_mdev->kvm->arch.gisa_int.origin);
	union ap_qirq_ctrl ctrl = {
		.ir = 1,
		.gisc = q->saved_isc,
		.isc = q->nisc,
	};

	/* The guest may have become protected since, on a machine without AIV. */
	if (!gisa)
		return (struct ap_queue_status){
			.response_code = AP_RESPONSE_INVALID_ADDRESS,
		};
	ctrl.gisa = virt_to_phys(gisa) >> 4;

	return ap_aqic(q->apqn, ctrl, page_to_phys(q->nib_page) |
				      (q->saved_iova & ~PAGE_MASK));
}

static bool vfio_ap_irq_begin_restore(struct vfio_ap_queue *q)
{
	/* Also a queue that has not confirmed that its interrupts are off. */
	q->irq_wait = vfio_ap_irq_registered(q) && !q->irq_dropped;

	return true;
}

/* True if the queue interrupts as registered, or refuses; irq_lost tells which. */
static bool vfio_ap_irq_look_restore(struct vfio_ap_queue *q)
{
	struct ap_queue_status status;

	/* The registration may have been dropped since the last look. */
	if (!q->irq_wait || !vfio_ap_irq_registered(q))
		return true;

	status = vfio_ap_irq_switch_on(q);
	q->irq_lost = status.response_code;
	switch (status.response_code) {
	case AP_RESPONSE_NORMAL:
		vfio_ap_irq_set_enabled(q);
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
	trace_vfio_ap_queue_restored(dev_name(mdev_dev(q->matrix_mdev->mdev)),
				     q->apqn, status.response_code);

	return true;
}

/* Set the bytes, and make an interrupt pending for each ISC. */
static void vfio_ap_irq_kick(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_queue *q;
	unsigned long iscs = 0;
	unsigned int isc;
	int bucket;
	u8 *nib;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode) {
		if (!vfio_ap_irq_registered(q) || q->irq_dropped)
			continue;
		nib = page_to_virt(q->nib_page) + offset_in_page(q->saved_iova);
		WRITE_ONCE(*nib, 1);
		iscs |= BIT(q->saved_isc);
	}

	for_each_set_bit(isc, &iscs, VFIO_AP_STREAM_MAX_ISC + 1)
		kvm_s390_gisc_inject(matrix_mdev->kvm, isc);
}

/*
 * The guest finds out when it looks at the queue, which it does now, and enables
 * the interrupts itself.
 */
static void vfio_ap_irq_give_up(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_queue *q;
	int bucket;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode) {
		if (!vfio_ap_irq_registered(q))
			continue;
		if (q->irq_dropped) {
			vfio_ap_give_up_aqic_resources(q);
			continue;
		}
		if (!q->irq_lost)
			continue;
		dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
				       "queue %02x.%04x: interrupts not restored: response code %02x\n",
				       AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn),
				       q->irq_lost);
		vfio_ap_give_up_aqic_resources(q);
	}
}

/**
 * vfio_ap_irq_restore - let the queues of a device interrupt again
 * @matrix_mdev: the mediated device, quiesced; its registrations are those that
 *		 were kept, or that were received
 *
 * Waits for a bounded time only, without the lock. Never fails: a queue that
 * refuses is told of in the log and in the report, and its guest gets the kick as
 * for the others.
 *
 * Context: matrix_mdev->mig.mutex is held. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_restore(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);

	vfio_ap_irq_for_each(matrix_mdev, vfio_ap_irq_begin_restore);
	vfio_ap_irq_wait(matrix_mdev, vfio_ap_irq_look_restore);

	matrix_mdev->irq.quiet = false;
	vfio_ap_irq_kick(matrix_mdev);
	vfio_ap_irq_give_up(matrix_mdev);
}

/**
 * vfio_ap_irq_unmap - the page with the notification byte of a queue is unmapped
 * @q: the queue, with a registration
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_irq_unmap(struct vfio_ap_queue *q)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!q->matrix_mdev->irq.quiet) {
		vfio_ap_irq_disable(q);
		return;
	}

	dev_notice_ratelimited(mdev_dev(q->matrix_mdev->mdev),
			       "queue %02x.%04x: interrupts not restored: unmapped\n",
			       AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
	q->irq_lost = VFIO_AP_IRQ_UNMAPPED;
	if (q->irq_off)
		vfio_ap_free_aqic_resources(q);
	else
		vfio_ap_irq_disable(q);
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

static int vfio_ap_irq_check_row(struct ap_matrix_mdev *matrix_mdev,
				 const struct vfio_ap_stream_irq *irq)
{
	unsigned int domain;

	if (!kvm_s390_is_gpa_in_memslot(matrix_mdev->kvm, irq->nib))
		return -EINVAL;

	for (domain = 0; domain < AP_DOMAINS; domain++) {
		if (vfio_ap_stream_test_bit(irq->domains, domain) &&
		    !vfio_ap_mdev_get_queue(matrix_mdev,
					    AP_MKQID(irq->apid, domain)))
			return -ENXIO;
	}

	return 0;
}

static int vfio_ap_irq_check_rows(struct ap_matrix_mdev *matrix_mdev,
				  const struct vfio_ap_stream_irq *irqs,
				  unsigned int nr)
{
	unsigned int i;
	int ret, idx;

	idx = srcu_read_lock(&matrix_mdev->kvm->srcu);
	for (i = 0, ret = 0; i < nr && !ret; i++)
		ret = vfio_ap_irq_check_row(matrix_mdev, &irqs[i]);
	srcu_read_unlock(&matrix_mdev->kvm->srcu, idx);

	return ret;
}

/* Register a queue as the source had it; the page is pinned already. */
static int vfio_ap_irq_adopt(struct ap_matrix_mdev *matrix_mdev, int apqn,
			     const struct vfio_ap_stream_irq *irq,
			     struct page *page)
{
	struct vfio_ap_irq_row *row;
	struct vfio_ap_queue *q;
	int nisc;

	q = vfio_ap_mdev_get_queue(matrix_mdev, apqn);
	if (!q || vfio_ap_irq_registered(q))
		return -ENXIO;

	row = vfio_ap_irq_row_get(matrix_mdev, apqn, irq->isc, irq->nib);
	if (!row)
		return -ENOMEM;

	nisc = kvm_s390_gisc_register(matrix_mdev->kvm, irq->isc);
	if (nisc < 0) {
		vfio_ap_irq_row_put(matrix_mdev, row);
		return -EOPNOTSUPP;
	}

	vfio_ap_irq_register(q, row, page, nisc);
	q->irq_off = true;
	q->irq_lost = 0;

	return 0;
}

static int vfio_ap_irq_receive_queue(struct ap_matrix_mdev *matrix_mdev, int apqn,
				     const struct vfio_ap_stream_irq *irq,
				     int (*status)(void *ctx), void *ctx)
{
	struct page *page;
	int ret;

	ret = vfio_ap_pin_nib(matrix_mdev, irq->nib, &page);
	if (ret)
		return ret;

	/* What may have changed while the page was pinned. */
	ret = status(ctx);
	if (!ret)
		ret = vfio_ap_irq_adopt(matrix_mdev, apqn, irq, page);
	if (ret)
		vfio_unpin_pages(&matrix_mdev->vdev, irq->nib, 1);

	return ret;
}

static int vfio_ap_irq_receive_row(struct ap_matrix_mdev *matrix_mdev,
				   const struct vfio_ap_stream_irq *irq,
				   int (*status)(void *ctx), void *ctx)
{
	unsigned int domain;
	int ret;

	for (domain = 0; domain < AP_DOMAINS; domain++) {
		if (!vfio_ap_stream_test_bit(irq->domains, domain))
			continue;
		ret = vfio_ap_irq_receive_queue(matrix_mdev,
						AP_MKQID(irq->apid, domain),
						irq, status, ctx);
		if (ret)
			return ret;
	}

	return 0;
}

/**
 * vfio_ap_irq_receive - make the registrations that the source has sent
 * @matrix_mdev: the mediated device, in RESUMING and without registrations
 * @irqs: the rows, as the decoder has checked them
 * @nr: number of rows
 * @status: tells whether to go on: 0 or a negative errno
 * @ctx: passed to @status
 *
 * All or nothing. The machine is not told of them before vfio_ap_irq_restore().
 *
 * Context: matrix_dev->mdevs_lock is held; it is dropped while a page is pinned.
 * The session of RESUMING, of which @status tells, keeps the device open: who
 * ends it waits in vfio_ap_irq_hold().
 * Return: 0; what @status returned; or
 * * -EINVAL: a notification byte is not in the guest's memory
 * * -ENXIO: a queue is not there
 * * -EOPNOTSUPP: the guest gets no AP interrupts here
 * * -ENOMEM: no memory
 */
int vfio_ap_irq_receive(struct ap_matrix_mdev *matrix_mdev,
			const struct vfio_ap_stream_irq *irqs, unsigned int nr,
			int (*status)(void *ctx), void *ctx)
{
	unsigned int i;
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_irq_check_rows(matrix_mdev, irqs, nr);
	for (i = 0; i < nr && !ret; i++)
		ret = vfio_ap_irq_receive_row(matrix_mdev, &irqs[i], status, ctx);
	if (ret)
		vfio_ap_irq_forget(matrix_mdev);

	return ret;
}
