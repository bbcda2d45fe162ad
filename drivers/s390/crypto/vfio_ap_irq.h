/* SPDX-License-Identifier: GPL-2.0 */
/* Guest interrupts of a vfio-ap device; see vfio_ap_irq.c */
#ifndef _VFIO_AP_IRQ_H_
#define _VFIO_AP_IRQ_H_

#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/ap.h>

#include "vfio_ap_stream.h"

struct ap_matrix_mdev;
struct page;
struct vfio_ap_queue;

/**
 * enum vfio_ap_irq_state - the interrupts of a queue, as the driver knows the machine
 * @VFIO_AP_IRQ_NONE:	the queue stores into no page of a guest
 * @VFIO_AP_IRQ_ON:	the machine accepted PQAP(AQIC) that enables, at
 *			&vfio_ap_queue.irq_enabled_at, and was not asked to disable
 *			since. It may still be enabling: TAPQ shows irq_enabled=0 then
 * @VFIO_AP_IRQ_REFUSED: the machine was asked to disable and did not accept
 * @VFIO_AP_IRQ_DISABLING: the machine accepted to disable, or to reset the queue
 * @VFIO_AP_IRQ_OFF:	TAPQ showed irq_enabled=0 after that; the registration is kept
 */
enum vfio_ap_irq_state {
	VFIO_AP_IRQ_NONE,
	VFIO_AP_IRQ_ON,
	VFIO_AP_IRQ_REFUSED,
	VFIO_AP_IRQ_DISABLING,
	VFIO_AP_IRQ_OFF,
};

/**
 * struct vfio_ap_irq_row - queues of an adapter with the same ISC and NIB
 * @node:	in the mediated device's rows while @users is not 0; after that, in its
 *		dirty rows until the page is reported
 * @list:	in the mediated device's pins while @page is being pinned or unpinned
 * @irq:	the row of the stream; @irq.domains has the queues that interrupt
 * @users:	queues that have it, and a PQAP(AQIC) that is about to add one
 * @kept:	queues that gave it up and may still store into @page and @gisa
 * @page:	the page of the NIB; pinned while @users is not 0 or @unpinning is set
 * @gisa:	the page of the guest interruption state area
 * @nisc:	the host's ISC for the guest's, registered while @users is not 0
 * @unmapped:	userspace unmaps the page
 * @unpinning:	the worker is about to unpin the page
 *
 * Guarded by matrix_dev->mdevs_lock.
 */
struct vfio_ap_irq_row {
	struct rb_node node;
	struct list_head list;
	struct vfio_ap_stream_irq irq;
	unsigned int users;
	unsigned int kept;
	struct page *page;
	struct page *gisa;
	u8 nisc;
	bool unmapped;
	bool unpinning;
};

/**
 * struct vfio_ap_irqs - the guest interrupts of a mediated device
 * @rows:	struct vfio_ap_irq_row, in the order of the stream
 * @nr_rows:	number of @rows; read without the lock where a stale value does no harm
 * @pins:	rows whose page is being pinned or unpinned
 * @nr_allocs:	rows that are being allocated for @pins
 * @unmaps:	ranges that are being unmapped (struct vfio_ap_irq_range)
 * @wait:	waits for @pins to get shorter
 * @unpin:	unpins the pages of @pins
 * @aqic_blocked: PQAP(AQIC) of the guest is answered as busy
 *
 * Guarded by matrix_dev->mdevs_lock.
 */
struct vfio_ap_irqs {
	struct rb_root rows;
	unsigned int nr_rows;
	struct list_head pins;
	unsigned int nr_allocs;
	struct list_head unmaps;
	wait_queue_head_t wait;
	struct work_struct unpin;
	bool aqic_blocked;
};

static inline struct vfio_ap_irq_row *vfio_ap_irq_row(const struct rb_node *node)
{
	return rb_entry(node, struct vfio_ap_irq_row, node);
}

void vfio_ap_irq_init(struct ap_matrix_mdev *matrix_mdev);
struct vfio_ap_irq_row *vfio_ap_irq_row_get(struct ap_matrix_mdev *matrix_mdev,
					    u16 apid, u8 isc, dma_addr_t nib);
void vfio_ap_irq_row_put(struct ap_matrix_mdev *matrix_mdev,
			 struct vfio_ap_irq_row *row);
struct ap_queue_status vfio_ap_irq_register(struct vfio_ap_queue *q,
					    struct vfio_ap_irq_row *row);
struct ap_queue_status vfio_ap_irq_disable(struct vfio_ap_queue *q);
void vfio_ap_irq_reset_accepted(struct vfio_ap_queue *q);
void vfio_ap_free_aqic_resources(struct vfio_ap_queue *q);
void vfio_ap_give_up_aqic_resources(struct vfio_ap_queue *q);
void vfio_ap_irq_abandon(struct vfio_ap_queue *q);
void vfio_ap_irq_quiesce(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_restore(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_wait_for_pins_locked(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_unmap(struct ap_matrix_mdev *matrix_mdev, u64 iova, u64 length);
void vfio_ap_irq_forget(struct ap_matrix_mdev *matrix_mdev);
unsigned int vfio_ap_irq_encode(struct ap_matrix_mdev *matrix_mdev, u8 *buf);
int vfio_ap_irq_receive(struct ap_matrix_mdev *matrix_mdev,
			const struct vfio_ap_stream_irq *irqs, unsigned int nr,
			int (*status)(void *ctx), void *ctx);

#endif /* _VFIO_AP_IRQ_H_ */
