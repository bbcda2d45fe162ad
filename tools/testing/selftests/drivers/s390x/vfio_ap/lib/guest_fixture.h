/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device with four queues, two adapters by two domains, and the guest program
 * that uses them.
 *
 * Functions return 0 or a negative errno unless stated otherwise.
 */
#ifndef SELFTEST_VFIO_AP_LIB_GUEST_FIXTURE_H
#define SELFTEST_VFIO_AP_LIB_GUEST_FIXTURE_H

#include <stdbool.h>

#include "env.h"
#include "guest.h"

#define FIXTURE_QUEUES	4U

/* Where small programs begin, which are not the guest program */
#define SMALL_ENTRY	0x10000

/**
 * struct guest_fixture - a device with four queues, and its guest
 * @env: the device
 * @guest: its guest
 * @apids: its adapters
 * @domains: its domains
 * @other: an adapter that it has not
 * @ready: everything is there
 * @fd: of a test: a data file
 * @ret: of a test: the result of a thread
 * @reset: of a test: the same of another one
 * @done: of a test: its thread ends; read and written atomically
 */
struct guest_fixture {
	struct env env;
	struct guest guest;
	unsigned int apids[2];
	unsigned int domains[2];
	unsigned int other;
	bool ready;
	int fd;
	int ret;
	int reset;
	bool done;
};

/*
 * NULL, or why the tests cannot run here; *@ret tells whether something went
 * wrong.
 */
const char *guest_fixture_setup(struct guest_fixture *f, enum vfio_ap_path path, int *ret);
/* The adapters are as before, too */
void guest_fixture_teardown(struct guest_fixture *f);
/* The same device for another guest, in a VM of its own; nothing is left of the last */
int guest_fixture_reopen(struct guest_fixture *f);
/* A guest for the device that runs the guest program */
int guest_fixture_start(struct guest_fixture *f);

/* The sum of a number that the machine reports of each queue */
long guest_fixture_sum(struct guest_fixture *f, const char *name);
/*
 * Queues that interrupt the guest, with its subclass and through the host's subclass for guests.
 * The AP bus of the host may have enabled others for itself.
 */
long guest_fixture_count_irqs(struct guest_fixture *f);
/* Wait until all requests of the guest are in its queues, and no reply. -ETIME */
int guest_fixture_wait_held(struct guest_fixture *f);
/* Wait until no request is in a queue, but its reply. -ETIME */
int guest_fixture_wait_replies(struct guest_fixture *f);
/* Requests that the guest has sent again */
__u64 guest_requeued(const struct guest_counters *c);
/* Whether a stopped guest has lost nothing; prints its counters if it has */
bool guest_counters_valid(const struct guest_counters *c);
/* Whether a session is open: `migratable` answers -EBUSY then */
bool guest_fixture_in_session(const struct guest_fixture *f);

#endif
