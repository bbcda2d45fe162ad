/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counters of the guest program, see vfio_ap_guest.S.
 */
#ifndef SELFTEST_VFIO_AP_GUEST_H
#define SELFTEST_VFIO_AP_GUEST_H

#include <linux/types.h>

/* Where it begins, and where its counters are */
#define GUEST_ENTRY		0x20000
#define GUEST_COUNTERS		0x30000
/* Where its notification indicator byte is */
#define GUEST_NIB		0x31000

#define GUEST_MAGIC		0x4150475545535431ULL	/* "APGUEST1" */
#define GUEST_MAX_QUEUES	16
/* Requests under way in each queue */
#define GUEST_WINDOW		2
/* Interruption subclass of its queues */
#define GUEST_ISC		3

/* &guest_counters.flags: polled unasked; an unknown interrupt; too many queues */
#define GUEST_UNASKED		1
#define GUEST_STRANGE		2
#define GUEST_MANY		4

/* Address of a disabled wait, of which the last byte says why */
#define GUEST_STOPPED		0xdead00ULL
#define GUEST_PROGRAM_CHECK	0x40
#define GUEST_NO_QUEUES		0x70

/**
 * struct guest_queue - one of the guest's queues
 * @apqn: adapter and domain
 * @sent: requests sent; the number of the last one
 * @answered: replies that were right
 * @requeued: requests sent again
 * @wrong: replies that were wrong
 * @duplicate: replies that had been there already
 * @last: requests up to this number have been answered
 * @used: 1, or 0 if it is not used any more
 * @early: 1 if request @last + 2 has been answered, too: @last + 1 was lost
 * @reserved: zero
 */
struct guest_queue {
	__u64 apqn;
	__u64 sent;
	__u64 answered;
	__u64 requeued;
	__u64 wrong;
	__u64 duplicate;
	__u64 last;
	__u64 used;
	__u64 early;
	__u64 reserved[7];
};

/**
 * struct guest_counters - everything that it tells
 * @magic: GUEST_MAGIC when the queues are known
 * @nr_queues: number of @queues
 * @interrupts: interrupts taken
 * @spurious: of these without a notification
 * @polls: how often all queues were asked for replies
 * @flags: GUEST_UNASKED...
 * @aqic: PQAP(AQIC) that were successful
 * @aqic_again: PQAP(AQIC) that had to be repeated
 * @answer: APQN and queue status word of the last answer that was too much for it
 * @polling: an interrupt has come and its poll has not ended
 * @reserved: zero
 * @queues: its queues
 */
struct guest_counters {
	__u64 magic;
	__u64 nr_queues;
	__u64 interrupts;
	__u64 spurious;
	__u64 polls;
	__u64 flags;
	__u64 aqic;
	__u64 aqic_again;
	__u64 answer;
	__u64 polling;
	__u64 reserved[6];
	struct guest_queue queues[GUEST_MAX_QUEUES];
};

#endif
