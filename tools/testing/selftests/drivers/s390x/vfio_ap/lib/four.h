/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device with four queues, two adapters by two domains, and the guest program
 * that uses them.
 *
 * Functions return 0 or a negative errno unless stated otherwise.
 */
#ifndef SELFTEST_VFIO_AP_LIB_FOUR_H
#define SELFTEST_VFIO_AP_LIB_FOUR_H

#include <stdbool.h>

#include "env.h"
#include "guest.h"

#define FOUR		4U

/* Where small programs begin, which are not the guest program */
#define FOUR_SMALL	0x10000

/**
 * struct four - a device with four queues, and its guest
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
struct four {
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
const char *four_setup(struct four *f, enum vfio_ap_path path, int *ret);
/* The adapters are as before, too */
void four_teardown(struct four *f);
/* The same device for another guest, in a VM of its own; nothing is left of the last */
int four_renew(struct four *f);
/* A guest for the device that runs the guest program */
int four_start(struct four *f);

/* The sum of a number that the machine reports of each queue */
long four_sum(struct four *f, const char *name);
/*
 * Queues that interrupt the guest, with its subclass and through the host's subclass for guests.
 * The AP bus of the host may have enabled others for itself.
 */
long four_irqs(struct four *f);
/* Wait until all requests of the guest are in its queues, and no reply. -ETIME */
int four_wait_held(struct four *f);
/* Wait until no request is in a queue, but its reply. -ETIME */
int four_wait_replies(struct four *f);
/* Requests that the guest has sent again */
__u64 four_requeued(const struct guest_counters *c);
/* Whether a stopped guest has lost nothing; prints its counters if it has */
bool four_is_well(const struct guest_counters *c);
/* Whether a session is open: `migratable` answers -EBUSY then */
bool four_session_open(const struct four *f);

#endif
