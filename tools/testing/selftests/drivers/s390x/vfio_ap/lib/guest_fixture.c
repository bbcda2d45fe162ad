// SPDX-License-Identifier: GPL-2.0
/*
 * A device with four queues and a guest that uses them, see guest_fixture.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest_fixture.h"

/* The device of the environment with two adapters and two domains */
static int assign_resources(struct guest_fixture *f)
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

const char *guest_fixture_setup(struct guest_fixture *f, enum vfio_ap_path path, int *ret)
{
	const char *why;

	memset(f, 0, sizeof(*f));
	why = env_setup_control(&f->env, path, ret);
	if (why || *ret)
		return why;
	f->ready = true;
	if (f->env.pool.nr_adapters < 3) {
		guest_fixture_teardown(f);
		return "needs three adapters";
	}
	*ret = assign_resources(f);
	return NULL;
}

void guest_fixture_teardown(struct guest_fixture *f)
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

int guest_fixture_reopen(struct guest_fixture *f)
{
	enum vfio_ap_path path = f->env.dev.path;
	char uuid[AP_UUID_SIZE];

	ap_control("latency * 1000");
	memcpy(uuid, f->env.dev.uuid, sizeof(uuid));
	guest_free(&f->guest);
	vfio_ap_close(&f->env.dev);
	return vfio_ap_open(&f->env.dev, uuid, path);
}

int guest_fixture_start(struct guest_fixture *f)
{
	int ret;

	ret = guest_create(&f->guest, &f->env.dev, GUEST_ENTRY);
	if (!ret)
		ret = guest_load(&f->guest);
	if (!ret)
		ret = guest_start(&f->guest);
	return ret;
}

long guest_fixture_sum(struct guest_fixture *f, const char *name)
{
	long value, sum = 0;
	unsigned int i;

	for (i = 0; i < FIXTURE_QUEUES; i++) {
		value = ap_queue_value(f->apids[i / 2], f->domains[i % 2], name);
		if (value < 0)
			return value;
		sum += value;
	}
	return sum;
}

/* The host's subclass of the interrupts that wake up guests: GAL_ISC in asm/isc.h */
#define HOST_ISC	5

long guest_fixture_count_irqs(struct guest_fixture *f)
{
	unsigned int i, apid, domain;
	long nr = 0;

	for (i = 0; i < FIXTURE_QUEUES; i++) {
		apid = f->apids[i / 2];
		domain = f->domains[i % 2];
		nr += ap_queue_value(apid, domain, "irq") == 1 &&
		      ap_queue_value(apid, domain, "isc") == HOST_ISC &&
		      ap_queue_value(apid, domain, "gisc") == GUEST_ISC;
	}
	return nr;
}

static int wait_for(struct guest_fixture *f, bool (*done)(struct guest_fixture *f))
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

static bool all_held(struct guest_fixture *f)
{
	return guest_fixture_sum(f, "qlen") == (long)FIXTURE_QUEUES * GUEST_WINDOW &&
	       !guest_fixture_sum(f, "replies");
}

static bool all_answered(struct guest_fixture *f)
{
	return guest_fixture_sum(f, "replies") == guest_fixture_sum(f, "qlen");
}

int guest_fixture_wait_held(struct guest_fixture *f)
{
	return wait_for(f, all_held);
}

int guest_fixture_wait_replies(struct guest_fixture *f)
{
	return wait_for(f, all_answered);
}

__u64 guest_requeued(const struct guest_counters *c)
{
	__u64 sum = 0;
	unsigned int i;

	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++)
		sum += c->queues[i].requeued;
	return sum;
}

static bool queue_counters_valid(const struct guest_counters *c, const struct guest_queue *q)
{
	/* One of them may just have its reply looked at */
	return q->used && !q->wrong && !q->duplicate &&
	       q->last + q->early - q->answered <= c->polling &&
	       q->sent - q->last <= GUEST_WINDOW;
}

bool guest_counters_valid(const struct guest_counters *c)
{
	const struct guest_queue *q;
	bool valid = c->magic == GUEST_MAGIC && c->nr_queues == FIXTURE_QUEUES && !c->flags &&
		    !c->answer && c->interrupts;
	unsigned int i;

	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++)
		valid &= queue_counters_valid(c, &c->queues[i]);
	if (valid)
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

bool guest_fixture_in_session(const struct guest_fixture *f)
{
	const char *uuid = f->env.dev.uuid;

	if (ap_mdev_write(uuid, "migratable", "0") == -EBUSY)
		return true;
	ap_mdev_write(uuid, "migratable", "1");
	return false;
}
