/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest program in a virtual machine of this process.
 *
 * Functions return 0 or a negative errno unless stated otherwise.
 */
#ifndef SELFTEST_VFIO_AP_LIB_GUEST_H
#define SELFTEST_VFIO_AP_LIB_GUEST_H

#include <pthread.h>
#include <stdbool.h>

#include "guest/guest.h"
#include "kvm.h"
#include "vfio.h"

/* PQAP(AQIC): function code in GR0, enable in GR1 */
#define GUEST_FC_AQIC		0x3000000UL
#define GUEST_AQIC_IR		0x800000000000UL

/* The longest time to wait for the guest, in milliseconds */
#define GUEST_DEADLINE_MS	(1000 * vfio_ap_patience())

/**
 * struct guest - a guest
 * @dev: its AP device
 * @cpu: its virtual CPU
 * @thread: that runs it
 * @running: there is that thread
 * @ended: it has ended by itself
 * @ret: 0 if it left KVM_RUN, see &kvm_cpu.run, or a negative errno
 */
struct guest {
	const struct vfio_ap *dev;
	struct kvm_cpu cpu;
	pthread_t thread;
	bool running;
	bool ended;
	int ret;
};

/* Give the VM of @dev a CPU, whose PSW is that of a program at @entry */
int guest_create(struct guest *guest, const struct vfio_ap *dev, __u64 entry);
void guest_free(struct guest *guest);
/* Load the guest program into the memory of the VM */
int guest_load(struct guest *guest);
/* Copy other instructions to where a program begins */
void guest_write(struct guest *guest, __u64 addr, const void *data, size_t len);

/*
 * Have it execute PQAP(AQIC), to enable interrupts of class GUEST_ISC with a byte at @addr or to
 * disable them, and nothing else. The response code or a negative errno
 */
int guest_aqic(struct guest *guest, unsigned int apqn, bool enable, __u64 addr);
/* The same with PQAP(RAPQ), which the host does not intercept */
int guest_rapq(struct guest *guest, unsigned int apqn);

/* Let it run; stop it, which is done when this returns, even while it sleeps */
int guest_start(struct guest *guest);
int guest_stop(struct guest *guest);
/* Wait until it has ended by itself. -ETIME if it does not */
int guest_wait_end(struct guest *guest);

/* Its counters; if it runs, they are not all read at the same time */
void guest_counters(const struct guest *guest, struct guest_counters *counters);
/* Wait until each of its queues, at least one, has so many right replies. -ETIME or -ECHILD */
int guest_wait_answered(struct guest *guest, __u64 nr);
/* The same with another deadline, in milliseconds or a little more */
int guest_wait_answered_for(struct guest *guest, __u64 nr, unsigned int ms);
/* The least number of right replies that one of its queues has */
__u64 guest_answered(const struct guest_counters *counters);

#endif
