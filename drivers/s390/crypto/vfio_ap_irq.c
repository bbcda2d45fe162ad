// SPDX-License-Identifier: GPL-2.0+
/*
 * Guest interrupts of a vfio-ap device
 *
 * A guest enables the interrupt of a queue with PQAP(AQIC), which KVM intercepts
 * and vfio_ap executes for it: it pins the page with the notification indicator
 * byte (NIB), registers the guest's interruption subclass (ISC) with KVM, and has
 * the machine set the byte and the guest's interrupt when a reply arrives. The
 * driver keeps registrations in rows, one for each adapter and distinct pair of
 * ISC and NIB, as the migration stream has them. A row holds one pin and one
 * registration of the ISC; the queues are its members.
 *
 * Outside of RUNNING the device may change nothing, so the driver asks the machine
 * to disable the interrupts of all queues and waits until they are off (quiesce).
 * It keeps the pins and registrations: the way back to RUNNING must not fail.
 * There, or at the destination, which has made the same registrations from the
 * stream, it asks the machine to enable the interrupts again (restore).
 *
 * Requests in the queues stay behind at the source, and a reply that arrives while
 * interrupts are off raises none. So the guest gets one interrupt more than there
 * were replies, with its byte set (kick). It then looks at its queues, as after any
 * interrupt, and repeats the requests that it finds lost; without, it would wait
 * for its own time-out.
 *
 * vfio_unpin_pages() may wait for a page fault of userspace, so no lock that other
 * guests need may be held: a worker of the mediated device unpins. Until it has, the
 * row stays listed, and dma_unmap and close wait for it.
 */

#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/mdev.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <asm/ap.h>

#include "vfio_ap_debug.h"
#include "vfio_ap_dirty.h"
#include "vfio_ap_irq.h"
#include "vfio_ap_private.h"
#include "vfio_ap_stream.h"

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

static bool vfio_ap_irq_registered(const struct vfio_ap_queue *q)
{
	return q->irq_row;
}

static bool vfio_ap_irq_in_range(const struct vfio_ap_irq_row *row, u64 iova,
				 u64 length)
{
	return row->irq.nib >= iova && row->irq.nib - iova < length;
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

/* Free a row that holds nothing any more, unless its page is to be reported. */
static void vfio_ap_irq_row_finish(struct ap_matrix_mdev *matrix_mdev,
				   struct vfio_ap_irq_row *row)
{
	if (row->users || row->kept || row->unpinning)
		return;
	if (matrix_mdev && vfio_ap_dirty_add_locked(matrix_mdev, row))
		return;
	kfree(row);
}

static struct vfio_ap_irq_row *
vfio_ap_irq_next_unpin_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_irq_row *row;

	list_for_each_entry(row, &matrix_mdev->irq.pins, list)
		if (row->unpinning)
			return row;

	return NULL;
}

static void vfio_ap_irq_unpin_work(struct work_struct *work)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(work, struct ap_matrix_mdev, irq.unpin);
	struct vfio_ap_irq_row *row;

	guard(mutex)(&matrix_dev->mdevs_lock);

	while ((row = vfio_ap_irq_next_unpin_locked(matrix_mdev))) {
		mutex_unlock(&matrix_dev->mdevs_lock);
		vfio_unpin_pages(&matrix_mdev->vdev, row->irq.nib, 1);
		mutex_lock(&matrix_dev->mdevs_lock);

		list_del(&row->list);
		row->unpinning = false;
		vfio_ap_irq_row_finish(matrix_mdev, row);
		wake_up_all(&matrix_mdev->irq.wait);
	}
}

/* Have the worker unpin the page of a row that has no users. */
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
		if (vfio_ap_irq_in_range(row, range->iova, range->length))
			return true;

	return false;
}

/*
 * Pin the page of a row that is in no list or tree. Userspace decides how long it
 * takes to bring the page into memory, so matrix_dev->mdevs_lock is dropped
 * meanwhile. dma_unmap waits for the pin; a page that it unmaps is not used.
 */
static int vfio_ap_irq_row_pin(struct ap_matrix_mdev *matrix_mdev,
			       struct vfio_ap_irq_row *row)
{
	int ret;

	if (vfio_ap_irq_unmapping(matrix_mdev, row)) {
		wake_up_all(&matrix_mdev->irq.wait);
		return -EINVAL;
	}

	list_add_tail(&row->list, &matrix_mdev->irq.pins);
	mutex_unlock(&matrix_dev->mdevs_lock);
	ret = vfio_pin_pages(&matrix_mdev->vdev, row->irq.nib, 1,
			     IOMMU_READ | IOMMU_WRITE, &row->page);
	mutex_lock(&matrix_dev->mdevs_lock);
	list_del(&row->list);
	wake_up_all(&matrix_mdev->irq.wait);
	if (ret == 1)
		return 0;

	VFIO_AP_DBF_WARN("%s: vfio_pin_pages failed: rc=%d, nib=%#llx\n",
			 __func__, ret, row->irq.nib);
	return ret == -ENOMEM ? ret : -EINVAL;
}

/* Make a row with a pinned page and the guest's ISC registered, if there is none yet. */
static struct vfio_ap_irq_row *
vfio_ap_irq_row_new(struct ap_matrix_mdev *matrix_mdev,
		    const struct vfio_ap_stream_irq *key)
{
	struct vfio_ap_irq_row *row;
	struct rb_node *node;
	int ret;

	/* Reset and close wait for this as they do for the pin. */
	matrix_mdev->irq.nr_allocs++;
	mutex_unlock(&matrix_dev->mdevs_lock);
	row = kzalloc_obj(*row, GFP_KERNEL_ACCOUNT);
	mutex_lock(&matrix_dev->mdevs_lock);
	matrix_mdev->irq.nr_allocs--;
	if (!row) {
		wake_up_all(&matrix_mdev->irq.wait);
		return ERR_PTR(-ENOMEM);
	}
	row->irq = *key;

	ret = vfio_ap_irq_row_pin(matrix_mdev, row);
	if (ret) {
		kfree(row);
		return ERR_PTR(ret);
	}

	/* Another one may have been made meanwhile. */
	node = rb_find(key, &matrix_mdev->irq.rows, vfio_ap_irq_row_find_cmp);
	if (row->unmapped || node) {
		vfio_ap_irq_row_unpin(matrix_mdev, row);
		return node ? rb_entry(node, struct vfio_ap_irq_row, node) :
			      ERR_PTR(-EINVAL);
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
 * @matrix_mdev: the mediated device; it is open and stays so meanwhile
 * @apid: the adapter
 * @isc: guest interruption subclass
 * @nib: guest address of the notification indicator byte
 *
 * Context: matrix_dev->mdevs_lock is held. It is dropped and taken again, so the
 * caller looks up queues anew.
 * Return: the row, for vfio_ap_irq_register() and vfio_ap_irq_row_put(), or
 * * -EINVAL: the page can not be pinned, or is being unmapped
 * * -EOPNOTSUPP: the guest gets no AP interrupts
 * * -ENOMEM: no memory, or the limit of pinned pages
 */
struct vfio_ap_irq_row *vfio_ap_irq_row_get(struct ap_matrix_mdev *matrix_mdev,
					    u16 apid, u8 isc, dma_addr_t nib)
{
	struct vfio_ap_stream_irq key = {
		.apid = apid,
		.isc = isc,
		.nib = nib,
	};
	struct vfio_ap_irq_row *row;
	struct rb_node *node;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	node = rb_find(&key, &matrix_mdev->irq.rows, vfio_ap_irq_row_find_cmp);
	if (node)
		row = rb_entry(node, struct vfio_ap_irq_row, node);
	else
		row = vfio_ap_irq_row_new(matrix_mdev, &key);
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

static void vfio_ap_irq_hide(struct vfio_ap_queue *q)
{
	u8 domain = AP_QID_QUEUE(q->apqn);

	q->irq_row->irq.domains[domain / 8] &= ~(0x80 >> (domain % 8));
}

static void vfio_ap_irq_join(struct vfio_ap_queue *q, struct vfio_ap_irq_row *row)
{
	u8 domain = AP_QID_QUEUE(q->apqn);

	row->users++;
	row->irq.domains[domain / 8] |= 0x80 >> (domain % 8);
	q->irq_row = row;
	q->irq_dropped = false;
	q->irq_lost = 0;
}

static void vfio_ap_irq_leave(struct vfio_ap_queue *q)
{
	struct vfio_ap_irq_row *row = q->irq_row;

	vfio_ap_irq_hide(q);
	q->irq_row = NULL;
	q->irq_dropped = false;
	vfio_ap_irq_row_put(q->matrix_mdev, row);
}

/* The machine has accepted to enable the interrupts of a queue. */
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
				      (row->irq.nib & ~PAGE_MASK));
}

/**
 * vfio_ap_irq_register - have a queue interrupt the guest
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

/* A guest's page, and its GISA, that the queue may still store into */
static void vfio_ap_irq_keep(struct vfio_ap_queue *q, struct vfio_ap_irq_row *row)
{
	get_page(row->page);
	get_page(row->gisa);
	row->kept++;
	q->kept_row = row;
}

static void vfio_ap_irq_unkeep(struct vfio_ap_queue *q)
{
	struct vfio_ap_irq_row *row = q->kept_row;

	put_page(row->page);
	put_page(row->gisa);
	row->kept--;
	q->kept_row = NULL;
	vfio_ap_irq_row_finish(q->matrix_mdev, row);
}

/**
 * vfio_ap_free_aqic_resources - drop the registration of a queue
 * @q: the queue, or NULL. It must not be able to interrupt any more
 *
 * Releases what vfio_ap_give_up_aqic_resources() has kept, too.
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
	if (q->kept_row)
		vfio_ap_irq_unkeep(q);
	q->irq_state = VFIO_AP_IRQ_NONE;
}

/**
 * vfio_ap_irq_abandon - a queue is removed
 * @q: the queue, without a registration
 *
 * Nobody will learn whether it still stores into the pages that it kept: they stay
 * allocated for good.
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

/*
 * Whether it was the guest that has disabled the interrupts, by a reset, which the
 * machine executes without an intercept. Then the machine finds nothing to change,
 * or the reset in progress, when it is asked for the first time to disable them.
 * It may have been enabling them still, or the host may have reset the queue: then
 * the registration is kept, as without it the guest would lose its interrupts.
 */
static bool vfio_ap_irq_reset_by_guest(struct vfio_ap_queue *q)
{
	unsigned long settled = q->irq_enabled_at + msecs_to_jiffies(VFIO_AP_IRQ_BOUND);

	return vfio_ap_irq_registered(q) && q->irq_state == VFIO_AP_IRQ_ON &&
	       time_after(jiffies, settled) &&
	       q->irq_nr_resets == READ_ONCE(q->aq->nr_resets);
}

/* Ask the machine to disable the interrupts of a queue, and note its answer. */
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
 * Whether the queue interrupts nobody, by PQAP(TAPQ). The machine knows, not the
 * registration: the AP bus may have reset the queue, or enabled interrupts for the
 * host. TAPQ shows interrupts as disabled while they are being enabled, too: without
 * an accepted PQAP(AQIC) or reset that proves nothing.
 */
static bool vfio_ap_irq_confirmed(struct vfio_ap_queue *q, struct ap_queue_status *status)
{
	*status = ap_tapq(q->apqn, NULL);
	if (vfio_ap_not_operational(status->response_code))
		return true;
	if (status->irq_enabled)
		return false;

	return status->response_code == AP_RESPONSE_RESET_IN_PROGRESS ||
	       (status->response_code == AP_RESPONSE_NORMAL &&
		vfio_ap_irq_off_accepted(q));
}

/* The same; repeats what the machine has not accepted, or undone since. */
static bool vfio_ap_irq_is_off(struct vfio_ap_queue *q, u8 *rc)
{
	struct ap_queue_status status;
	bool off = vfio_ap_irq_confirmed(q, &status);

	*rc = status.response_code;
	if (!off && (status.irq_enabled || !vfio_ap_irq_off_accepted(q)))
		vfio_ap_irq_switch_off(q);

	return off;
}

/**
 * vfio_ap_give_up_aqic_resources - drop the registration of a queue that may still
 *				    interrupt
 * @q: the queue, which was told to stop interrupts, by a reset or by PQAP(AQIC)
 *
 * The pin must not outlast the mapping, nor the registration of the ISC the guest.
 * But a queue that does not confirm may set the notification indicator byte, and
 * the guest's bit in the GISA, at any time. Then the two pages stay allocated until
 * a later reset or PQAP(AQIC) succeeds; or for good if the queue is removed before.
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
	vfio_ap_irq_keep(q, q->irq_row);
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
	u8 rc;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	status = vfio_ap_irq_switch_off(q);
	while (tries-- && (status.response_code == AP_RESPONSE_RESET_IN_PROGRESS ||
			   status.response_code == AP_RESPONSE_BUSY ||
			   status.response_code == AP_RESPONSE_STATE_CHANGE_IN_PROGRESS)) {
		msleep(20);
		status = vfio_ap_irq_switch_off(q);
	}
	for (tries = VFIO_AP_IRQ_TRIES; tries && !vfio_ap_irq_is_off(q, &rc); tries--)
		msleep(20);
	vfio_ap_give_up_aqic_resources(q);

	return status;
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

static bool vfio_ap_irq_begin_quiesce(struct vfio_ap_queue *q)
{
	q->irq_wait = true;
	q->irq_lost = 0;
	/* A queue that has no page of a guest to store into is only looked at. */
	if (q->irq_state != VFIO_AP_IRQ_NONE)
		vfio_ap_irq_switch_off(q);

	return true;
}

static bool vfio_ap_irq_confirm_quiesce(struct vfio_ap_queue *q, u8 *rc)
{
	if (!q->irq_wait)
		return true;
	if (!vfio_ap_irq_is_off(q, rc))
		return false;

	q->irq_wait = false;
	q->irq_state = vfio_ap_irq_registered(q) ? VFIO_AP_IRQ_OFF : VFIO_AP_IRQ_NONE;
	if (q->kept_row)
		vfio_ap_irq_unkeep(q);
	if (q->irq_dropped)
		vfio_ap_irq_hide(q);

	return true;
}

static bool vfio_ap_irq_look_quiesce(struct vfio_ap_queue *q)
{
	u8 rc;

	return vfio_ap_irq_confirm_quiesce(q, &rc);
}

/*
 * Reset a queue that does not disable its interrupts. Not one that is only busy, or
 * that was not looked at in time because others had the lock.
 */
static bool vfio_ap_irq_insist(struct vfio_ap_queue *q)
{
	bool accepted = vfio_ap_irq_off_accepted(q);
	struct ap_queue_status status;
	u8 rc;

	if (vfio_ap_irq_confirm_quiesce(q, &rc))
		return true;
	if (vfio_ap_irq_off_accepted(q) && (!accepted || rc == AP_RESPONSE_BUSY))
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
 * vfio_ap_irq_wait_for_pins_locked - wait until no page is being pinned or unpinned
 * @matrix_mdev: the mediated device
 *
 * Context: matrix_dev->mdevs_lock is held; it is dropped while there is something
 * to wait for. The worker takes it, so no lock may be held that is taken inside it.
 */
void vfio_ap_irq_wait_for_pins_locked(struct ap_matrix_mdev *matrix_mdev)
{
	wait_event_cmd(matrix_mdev->irq.wait,
		       list_empty(&matrix_mdev->irq.pins) && !matrix_mdev->irq.nr_allocs,
		       mutex_unlock(&matrix_dev->mdevs_lock),
		       mutex_lock(&matrix_dev->mdevs_lock));
}

/**
 * vfio_ap_irq_hold_locked - let nobody pin a page of the guest
 * @matrix_mdev: the mediated device, whose session has ended
 *
 * Waits for pins that are under way. Until vfio_ap_irq_release(), PQAP(AQIC) of the
 * guest is answered as busy.
 *
 * Context: matrix_dev->mdevs_lock is held; it may be dropped and taken again.
 */
void vfio_ap_irq_hold_locked(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	matrix_mdev->irq.quiet = true;
	vfio_ap_irq_wait_for_pins_locked(matrix_mdev);
}

/**
 * vfio_ap_irq_release - undo vfio_ap_irq_hold_locked(), or vfio_ap_irq_quiesce()
 * @matrix_mdev: the mediated device, without registrations or about to lose them
 *
 * Context: Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_release(struct ap_matrix_mdev *matrix_mdev)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	matrix_mdev->irq.quiet = false;
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
	if (!q->irq_wait || !vfio_ap_irq_registered(q) || q->irq_row->unmapped)
		return true;

	status = vfio_ap_irq_switch_on(q, q->irq_row);
	q->irq_lost = status.response_code;
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
		row = rb_entry(node, struct vfio_ap_irq_row, node);
		if (row->unmapped || !memchr_inv(row->irq.domains, 0,
						 sizeof(row->irq.domains)))
			continue;
		nib = page_to_virt(row->page) + offset_in_page(row->irq.nib);
		WRITE_ONCE(*nib, 1);
		iscs |= BIT(row->irq.isc);
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
		vfio_ap_notice(matrix_mdev,
			       "queue %02x.%04x: interrupts not restored: response code %02x\n",
			       AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn), q->irq_lost);
		vfio_ap_give_up_aqic_resources(q);
	}
}

/**
 * vfio_ap_irq_restore - let the queues of a device interrupt again
 * @matrix_mdev: the mediated device, quiesced; its registrations are those that
 *		 were kept, or that were received
 *
 * Waits for a bounded time only, without the lock. Never fails: a queue that
 * refuses is logged, and its guest gets the kick as for the others.
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

static bool vfio_ap_irq_begin_unmap(struct vfio_ap_queue *q)
{
	if (q->irq_row && q->irq_row->unmapped && q->irq_state != VFIO_AP_IRQ_OFF)
		vfio_ap_irq_switch_off(q);

	return true;
}

static void vfio_ap_irq_log_unmapped(struct vfio_ap_queue *q)
{
	if (q->matrix_mdev->irq.quiet)
		vfio_ap_notice(q->matrix_mdev,
			       "queue %02x.%04x: interrupts not restored: unmapped\n",
			       AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
}

static bool vfio_ap_irq_look_unmap(struct vfio_ap_queue *q)
{
	u8 rc;

	if (!q->irq_row || !q->irq_row->unmapped)
		return true;
	if (q->irq_state != VFIO_AP_IRQ_OFF && !vfio_ap_irq_is_off(q, &rc))
		return false;
	vfio_ap_irq_log_unmapped(q);
	vfio_ap_free_aqic_resources(q);

	return true;
}

static bool vfio_ap_irq_give_up_unmap(struct vfio_ap_queue *q)
{
	if (q->irq_row && q->irq_row->unmapped) {
		vfio_ap_irq_log_unmapped(q);
		vfio_ap_give_up_aqic_resources(q);
	}

	return true;
}

/* Mark the registrations of a range; true if there are any. */
static bool vfio_ap_irq_mark_unmapped(struct ap_matrix_mdev *matrix_mdev,
				      u64 iova, u64 length)
{
	struct vfio_ap_irq_row *row;
	struct rb_node *node;
	bool any = false;

	list_for_each_entry(row, &matrix_mdev->irq.pins, list)
		row->unmapped |= vfio_ap_irq_in_range(row, iova, length);

	for (node = rb_first(&matrix_mdev->irq.rows); node; node = rb_next(node)) {
		row = rb_entry(node, struct vfio_ap_irq_row, node);
		row->unmapped |= vfio_ap_irq_in_range(row, iova, length);
		any |= row->unmapped;
	}

	return any;
}

/* Whether pages of a range are being pinned or unpinned. */
static bool vfio_ap_irq_pins_in_range(struct ap_matrix_mdev *matrix_mdev,
				      const struct vfio_ap_irq_range *range)
{
	struct vfio_ap_irq_row *row;

	list_for_each_entry(row, &matrix_mdev->irq.pins, list)
		if (vfio_ap_irq_in_range(row, range->iova, range->length))
			return true;

	return false;
}

/**
 * vfio_ap_irq_unmap - unpin the pages of a range that userspace unmaps
 * @matrix_mdev: the mediated device
 * @iova: guest address of the range
 * @length: bytes
 *
 * Disables the interrupts of all queues that have a notification byte there, and
 * waits once for all of them, for a bounded time and without the lock. Then waits
 * until the last page of the range is unpinned. Meanwhile no page there is pinned.
 *
 * Context: Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_irq_unmap(struct ap_matrix_mdev *matrix_mdev, u64 iova, u64 length)
{
	struct vfio_ap_irq_range range = { .iova = iova, .length = length };

	guard(mutex)(&matrix_dev->mdevs_lock);

	list_add(&range.node, &matrix_mdev->irq.unmaps);
	if (vfio_ap_irq_mark_unmapped(matrix_mdev, iova, length)) {
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

/* Register the queues of a row as the source had them. */
static int vfio_ap_irq_adopt(struct ap_matrix_mdev *matrix_mdev,
			     const struct vfio_ap_stream_irq *irq,
			     struct vfio_ap_irq_row *row)
{
	struct vfio_ap_queue *q;
	unsigned int domain;

	for (domain = 0; domain < AP_DOMAINS; domain++) {
		if (!vfio_ap_stream_test_bit(irq->domains, domain))
			continue;
		q = vfio_ap_mdev_get_queue(matrix_mdev, AP_MKQID(irq->apid, domain));
		if (!q || vfio_ap_irq_registered(q))
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
	struct vfio_ap_irq_row *row;
	int ret;

	row = vfio_ap_irq_row_get(matrix_mdev, irq->apid, irq->isc, irq->nib);
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
 * @status: tells whether to go on: 0 or a negative errno
 * @ctx: passed to @status
 *
 * All or nothing. The machine is not told of them before vfio_ap_irq_restore().
 *
 * Context: matrix_dev->mdevs_lock is held; it is dropped while a page is pinned.
 * The session of RESUMING, of which @status tells, keeps the device open: who
 * ends it waits in vfio_ap_irq_hold_locked().
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

/**
 * vfio_ap_irq_exit - undo vfio_ap_irq_init()
 * @matrix_mdev: the mediated device, of which nobody has a reference any more
 */
void vfio_ap_irq_exit(struct ap_matrix_mdev *matrix_mdev)
{
	/* It may be queued once more than there were pages to unpin. */
	flush_work(&matrix_mdev->irq.unpin);
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
