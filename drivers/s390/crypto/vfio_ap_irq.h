/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest interrupts of a vfio-ap device that migrates
 *
 * See vfio_ap_irq.c.
 */

#ifndef _VFIO_AP_IRQ_H_
#define _VFIO_AP_IRQ_H_

#include <linux/rbtree.h>
#include <linux/types.h>

struct ap_matrix_mdev;
struct page;
struct vfio_ap_irq_row;
struct vfio_ap_queue;
struct vfio_ap_stream_irq;

/* Instead of a response code: the notification byte's page was unmapped. */
#define VFIO_AP_IRQ_UNMAPPED	0xff

/**
 * struct vfio_ap_irqs - the guest interrupts of a mediated device
 * @rows:	what is registered (struct vfio_ap_irq_row), in the order of the
 *		stream; guarded by matrix_dev->mdevs_lock
 * @nr_rows:	number of rows; written under matrix_dev->mdevs_lock, read under it,
 *		or, for information only, without
 * @quiet:	no PQAP(AQIC) is executed for the guest; guarded by
 *		matrix_dev->mdevs_lock
 */
struct vfio_ap_irqs {
	struct rb_root rows;
	unsigned int nr_rows;
	bool quiet;
};

struct vfio_ap_irq_row *vfio_ap_irq_row_get(struct ap_matrix_mdev *matrix_mdev,
					    int apqn, u8 isc, dma_addr_t nib);
void vfio_ap_irq_row_put(struct ap_matrix_mdev *matrix_mdev,
			 struct vfio_ap_irq_row *row);
void vfio_ap_irq_register(struct vfio_ap_queue *q, struct vfio_ap_irq_row *row,
			  struct page *page, u8 nisc);
void vfio_ap_irq_unregister(struct vfio_ap_queue *q);

void vfio_ap_irq_quiesce(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_restore(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_hold(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_release(struct ap_matrix_mdev *matrix_mdev);
void vfio_ap_irq_unmap(struct vfio_ap_queue *q);
void vfio_ap_irq_forget(struct ap_matrix_mdev *matrix_mdev);

unsigned int vfio_ap_irq_nr_rows(struct ap_matrix_mdev *matrix_mdev);
unsigned int vfio_ap_irq_encode(struct ap_matrix_mdev *matrix_mdev, u8 *buf);
int vfio_ap_irq_receive(struct ap_matrix_mdev *matrix_mdev,
			const struct vfio_ap_stream_irq *irqs, unsigned int nr,
			int (*status)(void *ctx), void *ctx);

#endif /* _VFIO_AP_IRQ_H_ */
