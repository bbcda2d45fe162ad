// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: queues, their messages and their states
 */

#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ap_sim.h"

/* Response codes on demand for every queue, under ap_sim_lock. */
struct ap_sim_force ap_sim_force_all[AP_SIM_NR_QINSN];

/* &ap_sim_queue.swallow for every queue, under ap_sim_lock. */
bool ap_sim_swallow_all;

static struct ap_sim_reply *ap_sim_slot(struct ap_sim_queue *q, unsigned int nr)
{
	return &q->slot[(q->first + nr) % q->depth];
}

/* Arm the timer for the oldest request. Its callback may run at any time. */
static void ap_sim_queue_arm(struct ap_sim_queue *q)
{
	if (q->ready < q->count)
		hrtimer_start(&q->timer, ap_sim_slot(q, q->ready)->due,
			      HRTIMER_MODE_ABS_HARD);
}

/**
 * ap_sim_queue_count() - count what happens
 * @q: the queue to which it happens, NULL if there is none
 * @nr: counter, below AP_SIM_NR_QCOUNTS
 * @n: how often
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_queue_count(struct ap_sim_queue *q, enum ap_sim_count nr, u64 n)
{
	ap_sim_counts[nr] += n;
	if (q)
		q->counts[nr] += n;
}

static enum hrtimer_restart ap_sim_queue_timer(struct hrtimer *timer)
{
	struct ap_sim_queue *q = container_of(timer, struct ap_sim_queue, timer);
	ktime_t now = ktime_get();
	unsigned int done = 0;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	while (q->ready < q->count && ap_sim_slot(q, q->ready)->due <= now) {
		q->ready++;
		done++;
	}
	ap_sim_queue_count(q, AP_SIM_REPLIES, done);
	if (done)
		ap_sim_irq_notify(q);
	ap_sim_queue_arm(q);

	return HRTIMER_NORESTART;
}

/**
 * ap_sim_queue_alloc() - make an empty queue
 * @card: card of the queue
 * @domain: domain of the queue
 *
 * Return: the queue, or NULL
 */
struct ap_sim_queue *ap_sim_queue_alloc(struct ap_sim_card *card, u8 domain)
{
	unsigned int depth = card->spec.qd + 1;
	struct ap_sim_queue *q;

	q = kvzalloc_flex(*q, slot, depth);
	if (!q)
		return NULL;
	q->depth = depth;
	q->card = card;
	q->domain = domain;
	q->latency_us = ap_sim_latency_us;
	hrtimer_setup(&q->timer, ap_sim_queue_timer, CLOCK_MONOTONIC,
		      HRTIMER_MODE_ABS_HARD);

	return q;
}

/**
 * ap_sim_queue_free() - free a queue that can no longer be found
 * @q: the queue, or NULL
 */
void ap_sim_queue_free(struct ap_sim_queue *q)
{
	if (!q)
		return;
	/* A callback that runs now might arm the timer once more. */
	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
		ap_sim_queue_flush(q);
	hrtimer_cancel(&q->timer);
	kvfree(q);
}

/**
 * ap_sim_queue_flush() - forget all messages, the interruption control, a reset
 * @q: the queue
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_queue_flush(struct ap_sim_queue *q)
{
	ap_sim_queue_count(q, AP_SIM_DISCARDED, q->count);
	q->first = 0;
	q->count = 0;
	q->ready = 0;
	q->taken = 0;
	q->part_len = 0;
	q->reset = 0;
	q->settle = 0;
	memset(&q->aqic, 0, sizeof(q->aqic));
}

/**
 * ap_sim_max_message() - message length limit of a queue
 * @q: the queue
 *
 * Return: number of bytes
 */
u32 ap_sim_max_message(const struct ap_sim_queue *q)
{
	return max_t(u32, AP_SIM_ML_DEFAULT, q->card->spec.ml * AP_SIM_ML_UNIT);
}

/* The interruption control that was asked for takes effect. */
static void ap_sim_queue_settle(struct ap_sim_queue *q)
{
	q->aqic = q->next;
	/* Replies that wait already interrupt, too. */
	if (q->aqic.on && q->ready)
		ap_sim_irq_notify(q);
}

/**
 * ap_sim_queue_status() - make the queue status word
 * @q: the queue, NULL if there is none
 * @rc: response code
 *
 * PQAP(AQIC) takes effect only after a number of status words; one that enables
 * interrupts, with the next reply at the latest.
 *
 * Context: under ap_sim_lock.
 *
 * Return: the status word
 */
struct ap_queue_status ap_sim_queue_status(struct ap_sim_queue *q, u8 rc)
{
	struct ap_queue_status status = { .value = 0 };

	status.response_code = rc;
	if (!q)
		return status;

	status.queue_empty = !q->count;
	status.replies_waiting = !!q->ready;
	status.queue_full = q->count == q->depth;
	status.irq_enabled = q->aqic.on;
	if (q->settle && !--q->settle)
		ap_sim_queue_settle(q);

	return status;
}

static bool ap_sim_forced(struct ap_sim_force *force, struct ap_sim_queue *q,
			  struct ap_queue_status *status)
{
	if (!force->count)
		return false;
	if (force->count != AP_SIM_FORCE_ALWAYS)
		force->count--;
	*status = ap_sim_queue_status(q, force->code);
	status->async = force->async;

	return true;
}

/**
 * ap_sim_queue_refuses() - count an instruction, test if a queue executes it
 * @q: the queue, NULL if there is none
 * @insn: the instruction
 * @status: receives the status word if it does not
 *
 * Context: under ap_sim_lock.
 *
 * Return: true if @status is the answer
 */
bool ap_sim_queue_refuses(struct ap_sim_queue *q, enum ap_sim_count insn,
			  struct ap_queue_status *status)
{
	ap_sim_queue_count(q, insn, 1);

	if (!q) {
		*status = ap_sim_queue_status(NULL, AP_SIM_RC_Q_NOT_AVAIL);
		return true;
	}

	if (ap_sim_forced(&q->force[insn], q, status) ||
	    ap_sim_forced(&ap_sim_force_all[insn], q, status))
		return true;

	if (q->card->decfg) {
		*status = ap_sim_queue_status(q, AP_SIM_RC_DECONFIGURED);
		return true;
	}

	if (q->card->chkstop) {
		*status = ap_sim_queue_status(q, AP_SIM_RC_CHECKSTOPPED);
		return true;
	}

	if (q->reset) {
		*status = ap_sim_queue_status(q, AP_SIM_RC_RESET_IN_PROGRESS);
		if (!--q->reset)
			ap_sim_queue_flush(q);
		return true;
	}

	return false;
}

/**
 * ap_sim_queue_reset() - start a reset
 * @q: the queue
 *
 * Until it is done the queue works on its messages, and interrupts.
 *
 * Context: under ap_sim_lock.
 *
 * Return: the status word
 */
struct ap_queue_status ap_sim_queue_reset(struct ap_sim_queue *q)
{
	q->reset = ap_sim_reset_polls;
	if (!q->reset)
		ap_sim_queue_flush(q);

	return ap_sim_queue_status(q, AP_SIM_RC_NORMAL);
}

/* Whether a host has caught the queue at work cannot be seen later. */
static void ap_sim_count_off(struct ap_sim_queue *q)
{
	q->off_count = q->count;
	ap_sim_queue_count(q, AP_SIM_IRQ_OFF, 1);
	if (q->count)
		ap_sim_queue_count(q, AP_SIM_IRQ_OFF_BUSY, 1);
}

/**
 * ap_sim_queue_aqic() - execute PQAP(AQIC)
 * @q: the queue
 * @ctrl: general register 1
 * @nib: general register 2, absolute address of the notification byte
 *
 * Context: under ap_sim_lock.
 *
 * Return: the status word
 */
struct ap_queue_status ap_sim_queue_aqic(struct ap_sim_queue *q,
					 union ap_qirq_ctrl ctrl, u64 nib)
{
	const struct ap_sim_aqic *asked = q->settle ? &q->next : &q->aqic;
	struct ap_sim_aqic new = { .on = ctrl.ir };
	u8 rc = AP_SIM_RC_NORMAL;

	if (ctrl.ir) {
		new.nib = nib;
		new.gisa = ctrl.gisa << 4;
		new.isc = ctrl.isc;
		new.gisc = ctrl.gisc;
	}

	if (ctrl.ir == asked->on)
		rc = AP_SIM_RC_OTHERWISE_CHANGED;
	else if (q->settle)
		rc = AP_SIM_RC_BUSY;
	else if (ctrl.ir && !ap_sim_absolute_ok(nib, 1))
		rc = AP_SIM_RC_INVALID_ADDRESS;
	else if (new.gisa && !ap_sim_absolute_ok(new.gisa, 32))
		rc = AP_SIM_RC_INVALID_GISA;

	if (rc != AP_SIM_RC_NORMAL)
		return ap_sim_queue_status(q, rc);

	if (ctrl.ir && (q->swallow || ap_sim_swallow_all)) {
		ap_sim_queue_count(q, AP_SIM_SWALLOWED, 1);
		return ap_sim_queue_status(q, AP_SIM_RC_NORMAL);
	}

	if (!ctrl.ir)
		ap_sim_count_off(q);
	q->next = new;
	q->settle = min_t(u32, ap_sim_aqic_polls, U8_MAX);
	if (!q->settle)
		ap_sim_queue_settle(q);

	return ap_sim_queue_status(q, AP_SIM_RC_NORMAL);
}

/**
 * ap_sim_queue_set_latency() - change the latency of a queue
 * @q: the queue
 * @usec: time from a request to its reply, in microseconds
 *
 * A request in the queue is not answered later than if it had come now. So a
 * test can hold requests for as long as it wants.
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_queue_set_latency(struct ap_sim_queue *q, u32 usec)
{
	ktime_t due = ktime_add_us(ktime_get(), usec);
	struct ap_sim_reply *reply;
	unsigned int i;

	q->latency_us = usec;
	for (i = q->ready; i < q->count; i++) {
		reply = ap_sim_slot(q, i);
		reply->due = min(reply->due, due);
	}
	ap_sim_queue_arm(q);
}

/**
 * ap_sim_queue_submit() - the request in &ap_sim_queue.part is complete
 * @q: the queue, which has a free slot
 * @psmid: message identifier of the request
 *
 * Requests are answered in order.
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_queue_submit(struct ap_sim_queue *q, u64 psmid)
{
	struct ap_sim_reply *reply = ap_sim_slot(q, q->count);
	ktime_t due = ktime_add_us(ktime_get(), q->latency_us);

	if (q->ready < q->count)
		due = max(due, ap_sim_slot(q, q->count - 1)->due);
	ap_sim_reply_build(q, q->part, q->part_len, reply);
	reply->psmid = psmid;
	reply->due = due;
	q->part_len = 0;
	q->count++;
	if (q->count - q->ready == 1)
		ap_sim_queue_arm(q);
}

/**
 * ap_sim_queue_oldest() - the reply to receive next
 * @q: the queue
 *
 * Context: under ap_sim_lock.
 *
 * Return: the reply, or NULL
 */
struct ap_sim_reply *ap_sim_queue_oldest(struct ap_sim_queue *q)
{
	return q->ready ? ap_sim_slot(q, 0) : NULL;
}

/**
 * ap_sim_queue_remove_oldest() - the oldest reply was received completely
 * @q: the queue
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_queue_remove_oldest(struct ap_sim_queue *q)
{
	q->first = (q->first + 1) % q->depth;
	q->count--;
	q->ready--;
	q->taken = 0;
}

/**
 * ap_sim_queue_show() - describe a queue in one line
 * @m: where to
 * @q: the queue
 *
 * Context: under ap_sim_mutex.
 */
void ap_sim_queue_show(struct seq_file *m, struct ap_sim_queue *q)
{
	unsigned int count, ready, reset, off_count;
	u64 counts[AP_SIM_NR_QCOUNTS];
	struct ap_sim_aqic aqic;
	u32 latency_us;
	int i;

	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock) {
		count = q->count;
		ready = q->ready;
		reset = q->reset;
		off_count = q->off_count;
		/* Interrupts that are being enabled are shown as on. */
		aqic = q->settle && q->next.on ? q->next : q->aqic;
		latency_us = q->latency_us;
		memcpy(counts, q->counts, sizeof(counts));
	}

	seq_printf(m,
		   "%02x.%04x qlen=%u replies=%u depth=%u irq=%d isc=%u gisc=%u gisa=%x nib=%llx reset=%u latency=%u off_qlen=%u",
		   q->card->spec.apid, q->domain, count, ready, q->depth,
		   aqic.on, aqic.isc, aqic.gisc, aqic.gisa, aqic.nib, reset,
		   latency_us, off_count);
	for (i = 0; i < AP_SIM_NR_QCOUNTS; i++)
		seq_printf(m, " %s=%llu", ap_sim_count_name(i), counts[i]);
	seq_putc(m, '\n');
}
