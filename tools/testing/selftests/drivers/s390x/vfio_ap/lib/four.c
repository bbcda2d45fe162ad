// SPDX-License-Identifier: GPL-2.0
/*
 * A device with four queues and a guest that uses them, see four.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "four.h"

/* The device of the environment with two adapters and two domains */
static int assign(struct four *f)
{
	const struct ap_pool *pool = &f->env.pool;
	struct ap_masks masks = {};
	unsigned int i;

	for (i = 0; i < 2; i++) {
		f->apids[i] = pool->adapters[i];
		f->domains[i] = pool->domains[i];
		ap_mask_set(masks.apm, f->apids[i]);
		ap_mask_set(masks.aqm, f->domains[i]);
	}
	f->other = pool->adapters[2];
	return ap_mdev_assign(f->env.dev.uuid, &masks);
}

const char *four_setup(struct four *f, enum vfio_ap_path path, int *ret)
{
	const char *why;

	memset(f, 0, sizeof(*f));
	why = env_setup_control(&f->env, path, ret);
	if (why || *ret)
		return why;
	f->ready = true;
	if (f->env.pool.nr_adapters < 3) {
		four_teardown(f);
		return "needs three adapters";
	}
	*ret = assign(f);
	return NULL;
}

void four_teardown(struct four *f)
{
	if (!f->ready)
		return;
	ap_control("swallow * off");
	ap_control("rc * aqic 0 0");
	ap_control("aqic_polls %d", AP_AQIC_POLLS);
	ap_control("reset_polls %d", AP_RESET_POLLS);
	ap_control("latency * 1000");
	guest_free(&f->guest);
	env_teardown(&f->env);
	f->ready = false;
}

int four_renew(struct four *f)
{
	enum vfio_ap_path path = f->env.dev.path;
	char uuid[AP_UUID_SIZE];

	ap_control("latency * 1000");
	memcpy(uuid, f->env.dev.uuid, sizeof(uuid));
	guest_free(&f->guest);
	vfio_ap_close(&f->env.dev);
	return vfio_ap_open(&f->env.dev, uuid, path);
}

int four_start(struct four *f)
{
	int ret;

	ret = guest_create(&f->guest, &f->env.dev, GUEST_ENTRY);
	if (!ret)
		ret = guest_load(&f->guest);
	if (!ret)
		ret = guest_start(&f->guest);
	return ret;
}

long four_sum(struct four *f, const char *name)
{
	long value, sum = 0;
	unsigned int i;

	for (i = 0; i < FOUR; i++) {
		value = ap_queue_value(f->apids[i / 2], f->domains[i % 2], name);
		if (value < 0)
			return value;
		sum += value;
	}
	return sum;
}

/* The host's subclass of the interrupts that wake up guests: GAL_ISC in asm/isc.h */
#define HOST_ISC	5

long four_irqs(struct four *f)
{
	unsigned int i, apid, domain;
	long nr = 0;

	for (i = 0; i < FOUR; i++) {
		apid = f->apids[i / 2];
		domain = f->domains[i % 2];
		nr += ap_queue_value(apid, domain, "irq") == 1 &&
		      ap_queue_value(apid, domain, "isc") == HOST_ISC &&
		      ap_queue_value(apid, domain, "gisc") == GUEST_ISC;
	}
	return nr;
}

static int wait_for(struct four *f, bool (*done)(struct four *f))
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	unsigned int ms;

	/* The machine does not report changes, so poll */
	for (ms = 0; ms < GUEST_DEADLINE_MS; ms++) {
		if (done(f))
			return 0;
		nanosleep(&pause, NULL);
	}
	return -ETIME;
}

static bool all_held(struct four *f)
{
	return four_sum(f, "qlen") == (long)FOUR * GUEST_WINDOW && !four_sum(f, "replies");
}

static bool all_answered(struct four *f)
{
	return four_sum(f, "replies") == four_sum(f, "qlen");
}

int four_wait_held(struct four *f)
{
	return wait_for(f, all_held);
}

int four_wait_replies(struct four *f)
{
	return wait_for(f, all_answered);
}

__u64 four_requeued(const struct guest_counters *c)
{
	__u64 sum = 0;
	unsigned int i;

	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++)
		sum += c->queues[i].requeued;
	return sum;
}

static bool queue_is_well(const struct guest_counters *c, const struct guest_queue *q)
{
	/* One of them may just have its reply looked at */
	return q->used && !q->wrong && !q->duplicate &&
	       q->last + q->early - q->answered <= c->polling &&
	       q->sent - q->last <= GUEST_WINDOW;
}

bool four_is_well(const struct guest_counters *c)
{
	const struct guest_queue *q;
	bool well = c->magic == GUEST_MAGIC && c->nr_queues == FOUR && !c->flags &&
		    !c->answer && c->interrupts;
	unsigned int i;

	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++)
		well &= queue_is_well(c, &c->queues[i]);
	if (well)
		return true;
	fprintf(stderr, "# guest: queues %llu interrupts %llu spurious %llu polls %llu\n",
		c->nr_queues, c->interrupts, c->spurious, c->polls);
	fprintf(stderr, "# guest: flags %llx answer %llx\n", c->flags, c->answer);
	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++) {
		q = &c->queues[i];
		fprintf(stderr, "# %04llx: sent %llu answered %llu requeued %llu last %llu\n",
			q->apqn, q->sent, q->answered, q->requeued, q->last);
		fprintf(stderr, "# %04llx: wrong %llu again %llu\n",
			q->apqn, q->wrong, q->duplicate);
	}
	return false;
}

bool four_session_open(const struct four *f)
{
	const char *uuid = f->env.dev.uuid;

	if (ap_mdev_write(uuid, "migratable", "0") == -EBUSY)
		return true;
	ap_mdev_write(uuid, "migratable", "1");
	return false;
}
