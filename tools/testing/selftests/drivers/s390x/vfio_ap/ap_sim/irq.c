// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: adapter interrupts
 *
 * A reply of a queue with interrupts enabled sets the notification indicator
 * byte, then makes an adapter interrupt pending: in the host for its
 * interruption subclass, or in the guest interruption state area (GISA), which
 * alerts the host if the guest needs that to get it.
 *
 * The host's interrupt is raised by an irq_work that calls the handler of the
 * adapter interrupt, with the interruption code that hardware would have
 * stored, so that all of the kernel's code from the dispatcher on runs.
 */

#include <linux/atomic.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/irq_work.h>
#include <linux/irqdesc.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/ptrace.h>

#include <asm/irq.h>
#include <asm/irq_regs.h>

#include "ap_sim.h"

#define AP_SIM_GISA_IPM_SHIFT	24

/* Pending adapter interrupts, bit 7 - isc */
static atomic_t ap_sim_pending;

/* Absolute address of the guest information block, 0: none */
static u32 ap_sim_gib;

/**
 * ap_sim_absolute_ok() - test for existing memory
 * @addr: absolute address
 * @len: number of bytes, not more than a page
 *
 * Return: true if the memory exists
 */
bool ap_sim_absolute_ok(u64 addr, size_t len)
{
	return addr + len > addr && pfn_valid(PHYS_PFN(addr)) &&
	       pfn_valid(PHYS_PFN(addr + len - 1));
}

static void ap_sim_irq_deliver(unsigned int isc)
{
	struct pt_regs regs = {
		.tpi_info = {
			.adapter_IO = 1,
			.isc = isc,
		},
	};
	struct pt_regs *old_regs;

	old_regs = set_irq_regs(&regs);
	generic_handle_irq(THIN_INTERRUPT);
	set_irq_regs(old_regs);
}

static void ap_sim_irq_work(struct irq_work *work)
{
	int isc, pending = atomic_xchg(&ap_sim_pending, 0);

	for (isc = 0; isc < 8; isc++)
		if (pending & 0x80 >> isc)
			ap_sim_irq_deliver(isc);
}

static struct irq_work ap_sim_work = IRQ_WORK_INIT_HARD(ap_sim_irq_work);

static void ap_sim_irq_raise(unsigned int isc)
{
	atomic_or(0x80 >> isc, &ap_sim_pending);
	irq_work_queue(&ap_sim_work);
}

/*
 * Put a GISA, which is on no list and whose next_alert the caller has taken
 * over, in front of the alert list. The host's interrupt becomes pending only
 * when the list was empty and not being worked on.
 */
static void ap_sim_gib_alert(struct kvm_s390_gib *gib,
			     struct kvm_s390_gisa *gisa, u32 origin, u32 next)
{
	u32 old = next;

	while (!try_cmpxchg(&gib->alert_list_origin, &old, origin))
		WRITE_ONCE(gisa->next_alert, old);

	ap_sim_counts[AP_SIM_GIB_ALERTS]++;
	if (!old)
		ap_sim_irq_raise(gib->nisc);
}

/* Make the interrupt pending for the guest, see the GISA in asm/kvm_host.h. */
static void ap_sim_irq_guest(const struct ap_sim_aqic *aqic)
{
	struct kvm_s390_gib *gib = ap_sim_gib ? phys_to_virt(ap_sim_gib) : NULL;
	struct kvm_s390_gisa *gisa = phys_to_virt(aqic->gisa);
	u64 mask = 0x80UL >> aqic->gisc;
	u64 old, new;
	bool alert;
	u32 next = 0;

	old = READ_ONCE(gisa->u64.word[0]);
	do {
		new = old | mask << AP_SIM_GISA_IPM_SHIFT;
		alert = gib && old & mask && old >> 32 == aqic->gisa;
		if (alert) {
			next = READ_ONCE(gib->alert_list_origin);
			/* the new next_alert, interrupts pending, no IAM */
			new = (u64)next << 32 | (new & 0xffffff00UL);
		}
	} while (!try_cmpxchg(&gisa->u64.word[0], &old, new));

	if (alert)
		ap_sim_gib_alert(gib, gisa, aqic->gisa, next);
}

/**
 * ap_sim_irq_notify() - tell of a reply
 * @q: the queue that has it
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_irq_notify(struct ap_sim_queue *q)
{
	const struct ap_sim_aqic *aqic = &q->aqic;

	/* The first reply is not lost to a program that waits for its interrupt. */
	if (q->settle && q->next.on) {
		q->settle = 0;
		q->aqic = q->next;
	}
	if (!aqic->on)
		return;

	/* A store of the machine: no guest dirty log ever hears of it. */
	WRITE_ONCE(*(u8 *)phys_to_virt(aqic->nib), 1);
	if (aqic->gisa) {
		ap_sim_queue_count(q, AP_SIM_GUEST_IRQS, 1);
		ap_sim_irq_guest(aqic);
	} else {
		ap_sim_queue_count(q, AP_SIM_HOST_IRQS, 1);
		ap_sim_irq_raise(aqic->isc);
	}
}

/**
 * ap_sim_irq_set_gib() - set or clear the guest information block
 * @origin: its absolute address, 0: none
 */
void ap_sim_irq_set_gib(u32 origin)
{
	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	ap_sim_gib = origin;
}

/**
 * ap_sim_irq_exit() - wait for interrupts under way
 *
 * No queue may exist any more.
 */
void ap_sim_irq_exit(void)
{
	irq_work_sync(&ap_sim_work);
}
