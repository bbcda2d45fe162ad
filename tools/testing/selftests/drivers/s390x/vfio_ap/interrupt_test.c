// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: the interrupts of a guest that uses its queues. They are
 * off while the device is not running, and on again afterwards, on this side or
 * on the other; and the guest is kicked for those that it has missed.
 *
 * The other side is the same device after a reset: it has the guest's memory
 * and no other state of the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/iommufd.h>

#include "lib/env.h"
#include "lib/guest_fixture.h"
#include "lib/log.h"
#include "lib/trap.h"
#include "kselftest_harness.h"

/* Replies for each queue that show that all is well */
#define ENOUGH		10

/* Response codes */
#define RESETTING	0x02
#define DECONFIGURED	0x03
#define BUSY		0x05

/* A notification byte in another page */
#define OTHER_NIB	(GUEST_NIB + 0x10000ULL)

/* Microseconds: a request that is answered soon, and one that stays in its queue */
#define LATENCY		1000
#define HELD		1000000000

ENV_FIXTURE_OF(interrupt, guest_fixture, ENV_CDEV)

static int set_state(struct guest_fixture *f, __u32 state)
{
	return vfio_mig_set(f->env.dev.device, state, NULL);
}

static __u8 *nib(struct guest_fixture *f)
{
	return (__u8 *)f->env.dev.mem + GUEST_NIB;
}

static __u8 nib_value(struct guest_fixture *f)
{
	return __atomic_load_n(nib(f), __ATOMIC_SEQ_CST);
}

static void nib_clear(struct guest_fixture *f)
{
	__atomic_store_n(nib(f), 0, __ATOMIC_SEQ_CST);
}

/* A guest that works, and is stopped now; with HELD, all its requests are in its queues */
static void run_guest(struct __test_metadata *_metadata, struct guest_fixture *f,
		      unsigned int latency)
{
	ASSERT_EQ(0, guest_fixture_start(f));
	ASSERT_EQ(0, guest_wait_answered(&f->guest, ENOUGH));
	ASSERT_EQ(0, ap_control("latency * %u", latency));
	if (latency == HELD)
		ASSERT_EQ(0, guest_fixture_wait_held(f));
	ASSERT_EQ(0, guest_stop(&f->guest));
	ASSERT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
}

/* It goes on from where it was, and nothing is wrong */
static void expect_guest_continues(struct __test_metadata *_metadata, struct guest_fixture *f)
{
	struct guest_counters c;
	__u64 answered;

	ASSERT_EQ(0, ap_control("latency * %u", LATENCY));
	guest_counters(&f->guest, &c);
	answered = guest_answered(&c);
	ASSERT_EQ(0, guest_start(&f->guest));
	ASSERT_EQ(0, guest_wait_answered(&f->guest, answered + ENOUGH));
	ASSERT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
}

/* To the other side: the stream, then a device that remembers nothing */
static int migrate(struct guest_fixture *f)
{
	struct stream_buf saved = {};
	int ret;

	ret = env_save(&f->env, &saved) ?: vfio_ap_reset(&f->env.dev);
	if (!ret)
		ret = env_resume(&f->env, saved.data, saved.len, 0);
	stream_free(&saved);
	return ret;
}

TEST_F_TIMEOUT(interrupt, stop_disables_and_running_enables_interrupts, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	long pins;

	run_guest(_metadata, f, LATENCY);
	pins = vfio_ap_pinned();
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	nib_clear(f);
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	/* The kick */
	EXPECT_EQ(1, nib_value(f));
	expect_guest_continues(_metadata, f);
}

/* No interrupt reports replies that come then; the guest finds them when it goes on */
TEST_F_TIMEOUT(interrupt, no_interrupt_while_stopped, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	long irqs, alerts;

	run_guest(_metadata, f, HELD);
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	ASSERT_EQ(0, guest_fixture_sum(f, "replies"));
	nib_clear(f);
	irqs = guest_fixture_sum(f, "guest_irqs");
	alerts = ap_counter("gib_alerts");
	ASSERT_EQ(0, ap_control("latency * %u", LATENCY));
	ASSERT_EQ(0, guest_fixture_wait_replies(f));
	EXPECT_EQ(0, nib_value(f));
	EXPECT_EQ(irqs, guest_fixture_sum(f, "guest_irqs"));
	EXPECT_EQ(alerts, ap_counter("gib_alerts"));

	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ(1, nib_value(f));
	expect_guest_continues(_metadata, f);
	guest_counters(&f->guest, &c);
	EXPECT_EQ(0U, guest_requeued(&c));
}

/* Cancelled wherever it may be: the source's guest goes on */
TEST_F_TIMEOUT(interrupt, cancelled_migration_restores_interrupts, ENV_TIMEOUT)
{
	static const __u32 walks[][3] = {
		{ VFIO_DEVICE_STATE_STOP },
		{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY },
		{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP },
		{ VFIO_DEVICE_STATE_PRE_COPY },
		{ VFIO_DEVICE_STATE_PRE_COPY_P2P },
		{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY },
		{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P,
		  VFIO_DEVICE_STATE_STOP_COPY },
		{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP },
	};
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	unsigned int i, k;
	bool on;

	run_guest(_metadata, f, LATENCY);
	for (i = 0; i < ARRAY_SIZE(walks); i++) {
		for (k = 0; k < 3 && walks[i][k]; k++) {
			ASSERT_EQ(0, set_state(f, walks[i][k]));
			on = walks[i][k] != VFIO_DEVICE_STATE_STOP &&
			     walks[i][k] != VFIO_DEVICE_STATE_STOP_COPY;
			EXPECT_EQ(on ? (long)FIXTURE_QUEUES : 0, guest_fixture_count_irqs(f));
		}
		ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
		expect_guest_continues(_metadata, f);
	}
	guest_counters(&f->guest, &c);
	EXPECT_EQ(0U, guest_requeued(&c));
}

TEST_F_TIMEOUT(interrupt, stream_has_row_for_each_adapter, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	const struct stream *s = &f->env.decoded;
	unsigned int i, k;
	__u64 size;

	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, vfio_mig_data_size(f->env.dev.device, &size));
	ASSERT_EQ(0, env_stream(&f->env));
	EXPECT_EQ(size, f->env.stream.len);
	ASSERT_EQ(2U, s->nr_irqs);
	EXPECT_EQ(1U, s->irq_records);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(f->apids[i], s->irqs[i].apid);
		EXPECT_EQ((__u64)GUEST_NIB, s->irqs[i].nib);
		EXPECT_EQ(GUEST_ISC, s->irqs[i].isc);
		EXPECT_EQ(2U, ap_mask_weight(s->irqs[i].domains));
		for (k = 0; k < 2; k++)
			EXPECT_TRUE(ap_mask_test(s->irqs[i].domains, f->domains[k]));
	}

	/* Without a registration there is no record */
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	ASSERT_EQ(0, vfio_mig_data_size(f->env.dev.device, &size));
	ASSERT_EQ(0, env_stream(&f->env));
	EXPECT_EQ(size, f->env.stream.len);
	EXPECT_EQ(0U, s->nr_irqs);
}

/* The requests stay behind; the guest finds out at once, and asks again */
TEST_F_TIMEOUT(interrupt, destination_interrupts_guest, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	int i;

	run_guest(_metadata, f, HELD);
	for (i = 1; i <= 3; i++) {
		EXPECT_LT(0, guest_fixture_sum(f, "qlen"));
		nib_clear(f);
		ASSERT_EQ(0, migrate(f));
		EXPECT_EQ(0, guest_fixture_sum(f, "qlen"));
		EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
		EXPECT_EQ(1, nib_value(f));
		expect_guest_continues(_metadata, f);
		guest_counters(&f->guest, &c);
		EXPECT_LE((__u64)i * FIXTURE_QUEUES, guest_requeued(&c));
		/* The guest had no need to enable any interrupt again. */
		EXPECT_EQ((__u64)FIXTURE_QUEUES, c.aqic);
	}
}

/* Control of the test before: without interrupts, it fails */
TEST_F_TIMEOUT(interrupt, guest_hangs_at_destination_without_interrupts, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	__u64 answered;

	run_guest(_metadata, f, HELD);
	ASSERT_EQ(0, ap_control("swallow * on"));
	ASSERT_EQ(0, migrate(f));
	ASSERT_EQ(0, ap_control("latency * %u", LATENCY));
	guest_counters(&f->guest, &c);
	answered = guest_answered(&c);
	ASSERT_EQ(0, guest_start(&f->guest));
	/* The kick has it ask again, but of the answers it does not hear. */
	EXPECT_EQ(-ETIME, guest_wait_answered_for(&f->guest, answered + ENOUGH, 2000));
	ASSERT_EQ(0, guest_stop(&f->guest));
}

/* The guest executes PQAP(AQIC) for a queue; the response code, or a negative errno */
static int queue_aqic(struct guest_fixture *f, unsigned int apqn, bool enable, __u64 addr)
{
	int ret;

	/* As a guest does it: a reset that the driver or the AP bus has begun may not have ended */
	do {
		ret = guest_aqic(&f->guest, apqn, enable, addr);
	} while (ret == RESETTING);
	return ret;
}

/* The same for its first queue */
static int first_aqic(struct guest_fixture *f, bool enable, __u64 addr)
{
	return queue_aqic(f, f->apids[0] << 8 | f->domains[0], enable, addr);
}

TEST_F_TIMEOUT(interrupt, aqic_returns_busy_while_stopped, ENV_TIMEOUT)
{
	static const __u32 states[] = {
		VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY,
		VFIO_DEVICE_STATE_RESUMING,
	};
	struct guest_fixture *f = &self->guest_fixture;
	unsigned int i;
	long aqics;

	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		EXPECT_EQ(0, first_aqic(f, true, GUEST_NIB));
		ASSERT_EQ(0, set_state(f, states[i]));
		aqics = ap_counter("aqic");
		EXPECT_EQ(BUSY, first_aqic(f, true, GUEST_NIB));
		EXPECT_EQ(BUSY, first_aqic(f, false, 0));
		EXPECT_EQ(aqics, ap_counter("aqic"));
		ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
		EXPECT_EQ(0, first_aqic(f, true, GUEST_NIB));
		EXPECT_EQ(0, first_aqic(f, false, 0));
	}
}

static void *reset_device(void *arg)
{
	struct guest_fixture *f = arg;

	f->reset = vfio_ap_reset(&f->env.dev);
	return NULL;
}

/* No page is pinned while the driver waits for a queue, so that the reset ends */
TEST_F_TIMEOUT(interrupt, aqic_returns_busy_during_reset, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	pthread_t thread;
	long aqics, zapqs;

	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	ASSERT_EQ(0, ap_control("rc %02x.%04x tapq %x", f->apids[0], f->domains[0], BUSY));
	zapqs = ap_counter("zapq");
	ASSERT_EQ(0, pthread_create(&thread, NULL, reset_device, f));
	while (ap_counter("zapq") == zapqs)
		sched_yield();
	aqics = ap_counter("aqic");
	EXPECT_EQ(BUSY, first_aqic(f, true, GUEST_NIB));
	EXPECT_EQ(aqics, ap_counter("aqic"));

	ASSERT_EQ(0, ap_control("rc %02x.%04x tapq 0 0", f->apids[0], f->domains[0]));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, f->reset);
	EXPECT_EQ(0, first_aqic(f, true, GUEST_NIB));
}

/**
 * struct bad - rows that no source sends
 * @name: their defect
 * @change: makes it wrong
 */
struct bad {
	const char *name;
	void (*change)(struct stream *s, const struct guest_fixture *f);
};

static void bad_isc(struct stream *s, const struct guest_fixture *f)
{
	(void)f;
	s->irqs[1].isc = 8;
}

static void bad_no_nib(struct stream *s, const struct guest_fixture *f)
{
	(void)f;
	s->irqs[0].nib = 0;
}

static void bad_nib_outside(struct stream *s, const struct guest_fixture *f)
{
	s->irqs[1].nib = f->env.dev.mem_size + 0x1000;
}

static void bad_adapter(struct stream *s, const struct guest_fixture *f)
{
	s->irqs[1].apid = f->other;
}

static void bad_domain(struct stream *s, const struct guest_fixture *f)
{
	ap_mask_set(s->irqs[1].domains, f->env.pool.domains[f->env.pool.nr_domains - 1]);
}

static void bad_no_queue(struct stream *s, const struct guest_fixture *f)
{
	(void)f;
	memset(s->irqs[1].domains, 0, AP_MASK_BYTES);
}

static void bad_order(struct stream *s, const struct guest_fixture *f)
{
	struct stream_irqrow row = s->irqs[0];

	(void)f;
	s->irqs[0] = s->irqs[1];
	s->irqs[1] = row;
}

static void bad_twice(struct stream *s, const struct guest_fixture *f)
{
	(void)f;
	s->irqs[1] = s->irqs[0];
}

static void bad_queue_in_two_rows(struct stream *s, const struct guest_fixture *f)
{
	(void)f;
	s->irqs[1] = s->irqs[0];
	s->irqs[1].isc++;
}

static const struct bad bads[] = {
	{ "an ISC that does not exist", bad_isc },
	{ "no address", bad_no_nib },
	{ "an address outside of the memory", bad_nib_outside },
	{ "an adapter that the guest has not", bad_adapter },
	{ "a domain that the guest has not", bad_domain },
	{ "a row of no queue", bad_no_queue },
	{ "rows that are not sorted", bad_order },
	{ "a row twice", bad_twice },
	{ "a queue in two rows", bad_queue_in_two_rows },
};

TEST_F_TIMEOUT(interrupt, bad_rows_fail_write_and_pin_nothing, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct stream_buf saved = {}, bad = {};
	struct stream s;
	unsigned int i;
	long pins;
	int fd;

	pins = vfio_ap_pinned();
	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, env_save(&f->env, &saved));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	for (i = 0; i < ARRAY_SIZE(bads); i++) {
		ASSERT_EQ(NULL, stream_decode(&s, saved.data, saved.len));
		bads[i].change(&s, f);
		stream_free(&bad);
		stream_encode(&bad, &s);
		ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
		EXPECT_EQ(-EINVAL, env_write(fd, bad.data, bad.len, 0, NULL)) {
			TH_LOG("%s", bads[i].name);
		}
		EXPECT_EQ(-EINVAL, env_try_write(fd));
		EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
		EXPECT_EQ(-EINVAL, set_state(f, VFIO_DEVICE_STATE_STOP));
		EXPECT_EQ(-EINVAL, set_state(f, VFIO_DEVICE_STATE_RUNNING));
		ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
		close(fd);
	}
	/* The device is none the worse for it */
	ASSERT_EQ(0, env_resume(&f->env, saved.data, saved.len, 1));
	expect_guest_continues(_metadata, f);
	stream_free(&saved);
	stream_free(&bad);
}

/* The rows that came in count when the stream is complete, and not before */
TEST_F_TIMEOUT(interrupt, nothing_is_pinned_before_end, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct stream_buf saved = {};
	long pins, before;
	int fd;

	before = vfio_ap_pinned();
	run_guest(_metadata, f, LATENCY);
	pins = vfio_ap_pinned();
	EXPECT_LT(before, pins);
	ASSERT_EQ(0, env_save(&f->env, &saved));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	/* RESUMING drops earlier registrations */
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	ASSERT_EQ(0, env_write(fd, saved.data, saved.len - 1, 1, NULL));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_EQ(-EINVAL, set_state(f, VFIO_DEVICE_STATE_STOP));
	ASSERT_EQ(0, env_write(fd, saved.data + saved.len - 1, 1, 1, NULL));
	EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	close(fd);
	expect_guest_continues(_metadata, f);
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	stream_free(&saved);
}

/* Requests and replies of an earlier guest must not reach the one that arrives */
TEST_F_TIMEOUT(interrupt, resuming_begins_with_empty_queues, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	int fd;

	run_guest(_metadata, f, HELD);
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	ASSERT_LT(0, guest_fixture_sum(f, "qlen"));
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(0, guest_fixture_sum(f, "qlen"));
	close(fd);
}

/* One that is not reset in time is not for the guest: the stream is found to differ */
TEST_F_TIMEOUT(interrupt, stuck_reset_fails_write, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	int fd;

	ASSERT_EQ(0, env_stream(&f->env));
	ASSERT_EQ(0, ap_control("rc %02x.%04x tapq %x", f->apids[0], f->domains[0], BUSY));
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, ap_control("rc %02x.%04x tapq 0 0", f->apids[0], f->domains[0]));
	EXPECT_EQ(-ENXIO, env_write(fd, f->env.stream.data, f->env.stream.len, 0, NULL));
	EXPECT_EQ(-ENXIO, set_state(f, VFIO_DEVICE_STATE_STOP));
	close(fd);
}

/* The IOMMU drivers of the group and of the cdev unmap memory in different ways */
ENV_FIXTURE_OF(mapping, guest_fixture, ENV_GROUP_AND_CDEV)

/* Take the guest's memory away from the device, or give it back */
static int map_memory(struct guest_fixture *f, bool map)
{
	struct vfio_ap *dev = &f->env.dev;
	struct vfio_iommu_type1_dma_map add = {
		.argsz = sizeof(add),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)dev->mem,
		.size = dev->mem_size,
	};
	struct vfio_iommu_type1_dma_unmap del = {
		.argsz = sizeof(del),
		.size = dev->mem_size,
	};
	struct iommu_ioas_map ioas_add = {
		.size = sizeof(ioas_add),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = dev->ioas,
		.user_va = (uintptr_t)dev->mem,
		.length = dev->mem_size,
	};
	struct iommu_ioas_unmap ioas_del = {
		.size = sizeof(ioas_del),
		.ioas_id = dev->ioas,
		.length = dev->mem_size,
	};
	int ret;

	if (dev->path == VFIO_AP_GROUP)
		ret = map ? ioctl(dev->container, VFIO_IOMMU_MAP_DMA, &add) :
			    ioctl(dev->container, VFIO_IOMMU_UNMAP_DMA, &del);
	else
		ret = map ? ioctl(dev->iommufd, IOMMU_IOAS_MAP, &ioas_add) :
			    ioctl(dev->iommufd, IOMMU_IOAS_UNMAP, &ioas_del);
	return ret ? -errno : 0;
}

TEST_F_TIMEOUT(mapping, unmapping_drops_kept_registrations, ENV_TIMEOUT)
{
	static const __u32 states[] = { VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY };
	struct guest_fixture *f = &self->guest_fixture;
	int log = log_open();
	unsigned int i;
	long before;

	before = vfio_ap_pinned();
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		run_guest(_metadata, f, LATENCY);
		ASSERT_EQ(0, set_state(f, states[i]));
		EXPECT_EQ(0, map_memory(f, false));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		ASSERT_EQ(0, map_memory(f, true));
		ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
		EXPECT_EQ(0, guest_fixture_count_irqs(f));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		guest_free(&f->guest);
		guest_fixture_reopen(f);
	}
	EXPECT_LT(0U, log_count(log, " interrupts not restored: unmapped"));
	close(log);
}

static void *enable_and_disable(void *arg)
{
	struct guest_fixture *f = arg;

	while (!__atomic_load_n(&f->done, __ATOMIC_SEQ_CST)) {
		first_aqic(f, true, GUEST_NIB);
		first_aqic(f, false, 0);
	}
	return NULL;
}

/* A guest that registers its interrupt in that memory all the time does not hold it up */
TEST_F_TIMEOUT(mapping, unmapping_ends_under_concurrent_aqic, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	unsigned int i, times = env_repeat(20);
	pthread_t thread;
	long before;

	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	before = vfio_ap_pinned();
	f->done = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, enable_and_disable, f));
	for (i = 0; i < times; i++) {
		EXPECT_EQ(0, map_memory(f, false));
		EXPECT_EQ(before, vfio_ap_pinned());
		EXPECT_EQ(0, map_memory(f, true));
	}
	__atomic_store_n(&f->done, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, first_aqic(f, true, GUEST_NIB));
}

/* Have a guest execute PQAP(AQIC) for a queue that enables its interrupt, over and over */
static int start_enabling(struct guest *guest, const struct vfio_ap *dev, unsigned int apid,
			  unsigned int domain)
{
	/* LGR 1,3; PQAP; J to the first */
	static const __u32 code[] = { 0xb9040013, 0xb2af0000, 0xa7f4fffc };
	struct kvm_run *run;
	int ret;

	ret = guest_create(guest, dev, SMALL_ENTRY);
	if (ret)
		return ret;
	guest_write(guest, SMALL_ENTRY, code, sizeof(code));
	run = guest->cpu.run;
	run->s.regs.gprs[0] = GUEST_FC_AQIC | apid << 8 | domain;
	run->s.regs.gprs[2] = GUEST_NIB;
	run->s.regs.gprs[3] = GUEST_AQIC_IR | GUEST_ISC;
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	return guest_start(guest);
}

static void expect_unmapped(struct __test_metadata *_metadata, struct guest_fixture *f, long before)
{
	unsigned int i, times = env_repeat(3);

	for (i = 0; i < times; i++) {
		EXPECT_EQ(0, map_memory(f, false));
		EXPECT_EQ(before, vfio_ap_pinned());
		EXPECT_EQ(0, map_memory(f, true));
	}
}

/* The unmapping task gets the CPU only when the guest waits */
TEST_F_TIMEOUT(mapping, unmapping_ends_at_lowest_priority, ENV_TIMEOUT)
{
	const struct sched_param lowest = {};
	struct guest_fixture *f = &self->guest_fixture;
	cpu_set_t all, one;
	long before;

	/* The queue accepts PQAP(AQIC) again as soon as its interrupt is off */
	ASSERT_EQ(0, ap_control("aqic_polls 0"));
	before = vfio_ap_pinned();
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	ASSERT_EQ(0, start_enabling(&f->guest, &f->env.dev, f->apids[0], f->domains[0]));
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_IDLE, &lowest));
	expect_unmapped(_metadata, f, before);
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &lowest));
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(all), &all));
	EXPECT_EQ(0, guest_stop(&f->guest));

	/* The guest may have been stopped before it enabled the interrupt again */
	first_aqic(f, false, 0);
	EXPECT_EQ(0, first_aqic(f, true, GUEST_NIB));
}

/* Two devices in a container, each with a VM of its own */
FIXTURE(container) {
	struct guest_fixture guest_fixture;
};

FIXTURE_SETUP(container)
{
	ENV_SETUP(guest_fixture_setup, &self->guest_fixture, VFIO_AP_GROUP);
}

FIXTURE_TEARDOWN(container)
{
	guest_fixture_teardown(&self->guest_fixture);
}

/* One of the guests pins the page again while the other's interrupt is being disabled */
TEST_F_TIMEOUT(container, unmapping_ends_beside_second_device, ENV_TIMEOUT)
{
	const char *uuid = ap_mdev_uuid(1);
	struct guest_fixture *f = &self->guest_fixture;
	struct ap_masks masks = {};
	struct guest second = {};
	struct vfio_ap other;
	long before;

	ap_mask_set(masks.apm, f->other);
	ap_mask_set(masks.aqm, f->domains[0]);
	ASSERT_EQ(0, ap_mdev_create(uuid));
	ASSERT_EQ(0, ap_mdev_assign(uuid, &masks));
	ASSERT_EQ(0, vfio_ap_open_beside(&other, uuid, &f->env.dev));
	before = vfio_ap_pinned();
	ASSERT_EQ(0, start_enabling(&f->guest, &f->env.dev, f->apids[0], f->domains[0]));
	ASSERT_EQ(0, start_enabling(&second, &other, f->other, f->domains[0]));
	expect_unmapped(_metadata, f, before);
	EXPECT_EQ(0, guest_stop(&f->guest));
	EXPECT_EQ(0, guest_stop(&second));
	guest_free(&second);
	vfio_ap_close(&other);
}

TEST_F_TIMEOUT(mapping, unmapping_drops_received_registrations, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct stream_buf saved = {};
	long before;
	int fd;

	before = vfio_ap_pinned();
	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, env_save(&f->env, &saved));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, env_write(fd, saved.data, saved.len, 0, NULL));
	EXPECT_LT(before, vfio_ap_pinned());
	EXPECT_EQ(0, map_memory(f, false));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	ASSERT_EQ(0, map_memory(f, true));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	close(fd);

	/* A page that is not mapped cannot be registered */
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, map_memory(f, false));
	EXPECT_EQ(-EINVAL, env_write(fd, saved.data, saved.len, 0, NULL));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	ASSERT_EQ(0, map_memory(f, true));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	close(fd);
	stream_free(&saved);
}

/* All or nothing: memory of the guest that is not mapped for the device cannot be pinned */
TEST_F_TIMEOUT(mapping, failed_pin_releases_other_pages, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct stream_buf saved = {}, bad = {};
	struct stream s;
	long before;
	int fd;

	before = vfio_ap_pinned();
	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, env_save(&f->env, &saved));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	ASSERT_EQ(NULL, stream_decode(&s, saved.data, saved.len));
	ASSERT_EQ(0, map_memory(f, false));
	f->env.dev.mem_size -= 4096;
	ASSERT_EQ(0, map_memory(f, true));
	s.irqs[1].nib = f->env.dev.mem_size;
	stream_encode(&bad, &s);
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-EINVAL, env_write(fd, bad.data, bad.len, 0, NULL));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	close(fd);
	ASSERT_EQ(0, map_memory(f, false));
	f->env.dev.mem_size += 4096;
	ASSERT_EQ(0, map_memory(f, true));
	ASSERT_EQ(0, env_resume(&f->env, saved.data, saved.len, 0));
	expect_guest_continues(_metadata, f);
	stream_free(&saved);
	stream_free(&bad);
}

/* A queue that refuses costs the guest nothing but the time to ask again */
TEST_F_TIMEOUT(interrupt, refused_restore_is_logged, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	int log = log_open();
	struct guest_counters c;

	run_guest(_metadata, f, HELD);
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP_COPY));
	ASSERT_EQ(0, ap_control("rc %02x.%04x aqic %x 1", f->apids[0], f->domains[1],
				DECONFIGURED));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ((long)FIXTURE_QUEUES - 1, guest_fixture_count_irqs(f));
	EXPECT_EQ(1U, log_count(log, " interrupts not restored: response code 03"));
	close(log);
	/* It looks at all its queues after the kick, and asks that one again */
	expect_guest_continues(_metadata, f);
	guest_counters(&f->guest, &c);
	EXPECT_EQ((__u64)FIXTURE_QUEUES + 1, c.aqic);
}

TEST_F_TIMEOUT(interrupt, busy_queue_is_retried, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;

	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, ap_control("rc * aqic %x 3", BUSY));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, ap_control("rc * aqic %x 3", BUSY));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	/* A machine that takes its time to switch them off, and on */
	ASSERT_EQ(0, ap_control("aqic_polls 3"));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	ASSERT_EQ(0, ap_control("aqic_polls 0"));
	expect_guest_continues(_metadata, f);
	guest_counters(&f->guest, &c);
	EXPECT_EQ((__u64)FIXTURE_QUEUES, c.aqic);
	EXPECT_EQ(0U, guest_requeued(&c));
}

/*
 * The machine enables an interrupt some time after it has accepted PQAP(AQIC), and
 * rejects PQAP(AQIC) until then. PQAP(TAPQ) shows the interrupt as disabled.
 */
TEST_F_TIMEOUT(interrupt, stop_disables_interrupt_that_is_being_enabled, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	int polls;

	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	for (polls = 0; polls < 8; polls++) {
		ASSERT_EQ(0, ap_control("aqic_polls %d", polls));
		ASSERT_EQ(0, first_aqic(f, true, GUEST_NIB));
		ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
		EXPECT_EQ(0, guest_fixture_count_irqs(f)) {
			TH_LOG("aqic_polls %d: a queue is still armed in STOP", polls);
		}
		ASSERT_EQ(0, ap_control("aqic_polls 0"));
		ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
		EXPECT_EQ(1, guest_fixture_count_irqs(f));
		EXPECT_EQ(0, first_aqic(f, false, 0));
		EXPECT_EQ(0, guest_fixture_count_irqs(f));
	}
}

/* A queue that stays enabled is reset, so that it cannot interrupt a stopped guest */
TEST_F_TIMEOUT(interrupt, noisy_queue_is_reset, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	long resets;

	run_guest(_metadata, f, HELD);
	resets = ap_counter("zapq");
	ASSERT_EQ(0, ap_control("rc %02x.%04x aqic %x", f->apids[1], f->domains[0], BUSY));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	EXPECT_EQ(resets + 1, ap_counter("zapq"));
	ASSERT_EQ(0, ap_control("rc %02x.%04x aqic 0 0", f->apids[1], f->domains[0]));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	expect_guest_continues(_metadata, f);
	guest_counters(&f->guest, &c);
	EXPECT_LE(1U, guest_requeued(&c));
}

/* A queue that has accepted PQAP(AQIC) is not reset because PQAP(TAPQ) answers busy */
TEST_F_TIMEOUT(interrupt, busy_tapq_does_not_reset_queue, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	long resets;

	run_guest(_metadata, f, HELD);
	resets = ap_counter("zapq");
	ASSERT_EQ(0, ap_control("rc %02x.%04x tapq %x", f->apids[1], f->domains[0], BUSY));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	ASSERT_EQ(0, ap_control("rc %02x.%04x tapq 0 0", f->apids[1], f->domains[0]));
	EXPECT_EQ(resets, ap_counter("zapq"));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	expect_guest_continues(_metadata, f);
	guest_counters(&f->guest, &c);
	EXPECT_EQ(0U, guest_requeued(&c));
}

/* The AP bus resets queues without the driver, which has the guest's registrations */
TEST_F_TIMEOUT(interrupt, reset_queue_is_enabled_again, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;

	run_guest(_metadata, f, HELD);
	ASSERT_LE(0, ap_queue_write(f->apids[0], f->domains[0], "reset", "1"));
	/* A queue that has changed its driver since it was found is not reset by the AP bus. */
	if (guest_fixture_count_irqs(f) == (long)FIXTURE_QUEUES)
		TH_LOG("the AP bus has not reset the queue");
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	expect_guest_continues(_metadata, f);
}

/*
 * The machine executes PQAP(RAPQ) of the guest without an intercept. It disables the
 * interrupt, which must not come back: the guest may use the page for something else.
 */
TEST_F_TIMEOUT(interrupt, registration_dropped_by_guest_reset_is_not_restored, ENV_TIMEOUT)
{
	const struct timespec settled = { .tv_nsec = 600000000 };
	struct guest_fixture *f = &self->guest_fixture;
	const struct stream *s = &f->env.decoded;
	unsigned int first = f->apids[0] << 8 | f->domains[0];
	unsigned int other = f->apids[1] << 8 | f->domains[0];
	unsigned int polls;
	long pins;

	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	ASSERT_EQ(0, queue_aqic(f, other, true, OTHER_NIB));
	pins = vfio_ap_pinned();
	/* The reset has completed when the guest is stopped, or is still in progress */
	for (polls = 0; polls <= 2; polls += 2) {
		ASSERT_EQ(0, ap_control("reset_polls %u", polls));
		ASSERT_EQ(0, first_aqic(f, true, GUEST_NIB));
		ASSERT_EQ(2, guest_fixture_count_irqs(f));
		/* The driver allows half a second for interrupts to be enabled */
		nanosleep(&settled, NULL);
		ASSERT_EQ(0, guest_rapq(&f->guest, first));
		ASSERT_EQ(polls ? 2 : 1, guest_fixture_count_irqs(f));

		nib_clear(f);
		ASSERT_EQ(0, env_stream(&f->env));
		EXPECT_EQ(1U, s->nr_irqs);
		EXPECT_EQ(OTHER_NIB, s->irqs[s->nr_irqs - 1].nib);
		EXPECT_EQ(1, guest_fixture_count_irqs(f));
		EXPECT_EQ(0, nib_value(f));
		EXPECT_EQ(pins, vfio_ap_await_pinned(pins));
	}

	/* The guest may enable it again */
	EXPECT_EQ(0, first_aqic(f, true, GUEST_NIB));
	EXPECT_EQ(2, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, env_stream(&f->env));
	EXPECT_EQ(2U, s->nr_irqs);
	EXPECT_EQ(2, guest_fixture_count_irqs(f));
	EXPECT_EQ(1, nib_value(f));
}

/* Another queue's reset, which takes long, with matrix_dev->mdevs_lock held */
static void *hold_lock(void *arg)
{
	struct guest_fixture *f = arg;

	while (!__atomic_load_n(&f->done, __ATOMIC_SEQ_CST) && !f->ret)
		f->ret = ap_queue_bind(f->other, f->domains[0], "vfio_ap", false) ?:
			 ap_queue_bind(f->other, f->domains[0], "vfio_ap", true);
	return NULL;
}

/* A queue that was only not looked at in time is not reset */
TEST_F_TIMEOUT(interrupt, contended_lock_resets_no_queue, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	pthread_t thread;
	unsigned int i;
	long resets;

	run_guest(_metadata, f, HELD);
	resets = guest_fixture_sum(f, "zapq");
	/* 20 ms each: longer than the driver waits for interrupts to be off */
	ASSERT_EQ(0, ap_control("reset_polls 40"));
	f->ret = 0;
	f->done = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, hold_lock, f));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
		EXPECT_EQ(0, guest_fixture_count_irqs(f));
		EXPECT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	}
	__atomic_store_n(&f->done, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, ap_control("reset_polls %d", AP_RESET_POLLS));
	EXPECT_EQ(0, f->ret);
	EXPECT_EQ(resets, guest_fixture_sum(f, "zapq"));
	expect_guest_continues(_metadata, f);
}

/* A card that is gone, for now, holds nothing up */
TEST_F_TIMEOUT(interrupt, deconfigured_card_does_not_delay_stop, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;

	run_guest(_metadata, f, HELD);
	ASSERT_EQ(0, ap_control("config %02x off", f->apids[0]));
	EXPECT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	ASSERT_EQ(0, ap_control("config %02x on", f->apids[0]));
	EXPECT_EQ(2, guest_fixture_count_irqs(f));
}

/* A reset while stopped: nothing is kept, and the guest can begin anew */
TEST_F_TIMEOUT(interrupt, reset_drops_registrations_in_every_state, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	enum env_stage stage;
	struct stream_buf out = {};
	long before;
	int fd;

	ASSERT_EQ(0, env_stream(&f->env));
	before = vfio_ap_pinned();
	for_each_env_stage(stage) {
		run_guest(_metadata, f, LATENCY);
		ASSERT_EQ(0, env_enter_stage(&f->env, stage, &fd, &out));
		ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		EXPECT_EQ(0, guest_fixture_count_irqs(f));
		if (fd >= 0)
			close(fd);
		guest_free(&f->guest);
		guest_fixture_reopen(f);
	}
	stream_free(&out);
}

static int log_start(struct guest_fixture *f, __u64 *page_size)
{
	struct vfio_device_feature_dma_logging_range range = { .length = f->env.dev.mem_size };
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = *page_size,
		.num_ranges = 1,
		.ranges = (uintptr_t)&range,
	};
	int ret;

	ret = vfio_feature(f->env.dev.device, VFIO_DEVICE_FEATURE_SET |
			   VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control, sizeof(control));
	*page_size = control.page_size;
	return ret;
}

static int log_stop(struct guest_fixture *f)
{
	return vfio_feature(f->env.dev.device, VFIO_DEVICE_FEATURE_SET |
			    VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
}

#define LOG_WORDS	4096

/* Number of dirty pages in a range, and whether that of the NIB is among them */
static int log_report(struct guest_fixture *f, __u64 iova, __u64 length, bool *has_nib)
{
	static __u64 bitmap[LOG_WORDS];
	struct vfio_device_feature_dma_logging_report report = {
		.iova = iova,
		.length = length,
		.page_size = 4096,
		.bitmap = (uintptr_t)bitmap,
	};
	__u64 page = (GUEST_NIB - iova) / 4096;
	int ret, nr = 0;
	unsigned int i;

	memset(bitmap, 0, sizeof(bitmap));
	ret = vfio_feature(f->env.dev.device, VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report, sizeof(report));
	if (ret)
		return ret;
	for (i = 0; i < LOG_WORDS; i++)
		nr += __builtin_popcountll(bitmap[i]);
	*has_nib = iova <= GUEST_NIB && page < length / 4096 &&
		   bitmap[page / 64] >> (page % 64) & 1;
	return nr;
}

TEST_F_TIMEOUT(interrupt, page_of_byte_is_logged, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	__u64 all = f->env.dev.mem_size, page = 4096;
	bool has_nib;

	EXPECT_EQ(-EINVAL, log_report(f, 0, all, &has_nib));
	EXPECT_EQ(0, log_stop(f));
	ASSERT_EQ(0, log_start(f, &page));
	EXPECT_EQ(4096U, page);
	EXPECT_EQ(-EBUSY, log_start(f, &page));
	EXPECT_EQ(0, log_report(f, 0, all, &has_nib));

	run_guest(_metadata, f, LATENCY);
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_TRUE(has_nib);
	/* As long as a queue may set the byte; also while it is not set */
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_EQ(0, log_report(f, 0, GUEST_NIB & ~4095ULL, &has_nib));
	EXPECT_EQ(1, log_report(f, GUEST_NIB & ~4095ULL, 4096, &has_nib));
	EXPECT_TRUE(has_nib);
	ASSERT_EQ(0, set_state(f, VFIO_DEVICE_STATE_STOP));
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_TRUE(has_nib);

	/* And again when the page may not be pinned any more */
	ASSERT_EQ(0, map_memory(f, false));
	ASSERT_EQ(0, map_memory(f, true));
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_TRUE(has_nib);
	EXPECT_EQ(0, log_report(f, 0, all, &has_nib));
	ASSERT_EQ(0, log_stop(f));
	EXPECT_EQ(0, log_stop(f));
}

TEST_F_TIMEOUT(interrupt, logging_takes_any_page_size_that_is_power_of_two, ENV_TIMEOUT)
{
	static const struct {
		__u64 asked;
		int ret;
	} sizes[] = { { 512, 0 }, { 4096, 0 }, { 65536, 0 }, { 0, -EINVAL }, { 12288, -EINVAL } };
	struct guest_fixture *f = &self->guest_fixture;
	unsigned int i;
	__u64 page;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		page = sizes[i].asked;
		EXPECT_EQ(sizes[i].ret, log_start(f, &page)) {
			TH_LOG("page size %llu", sizes[i].asked);
		}
		if (!sizes[i].ret)
			EXPECT_EQ(4096U, page);
		ASSERT_EQ(0, log_stop(f));
	}
}

/**
 * struct log_request - a report that userspace may ask for
 * @iova: guest address of its first byte
 * @page_size: bytes for which a bit stands
 * @offset: of the bitmap in its first page
 */
struct log_request {
	__u64 iova;
	__u64 page_size;
	unsigned int offset;
};

/* One bit is set, that of the page with the byte, and nothing beside the bitmap */
TEST_F_TIMEOUT(interrupt, report_fills_any_bitmap, ENV_TIMEOUT)
{
	static __u8 room[5 * 4096] __attribute__((aligned(4096)));
	static const struct log_request requests[] = {
		{ 0, 4096, 0 }, { 0, 4096, 8 }, { 0, 4096, 4088 }, { 0x1000, 4096, 4088 },
		{ GUEST_NIB & ~4095ULL, 4096, 4088 }, { 0x3000, 65536, 0 }, { 0, 65536, 4088 },
		{ 0, 1 << 20, 4088 }, { 0, 1ULL << 40, 0 }, { 0x5000, 1ULL << 40, 4088 },
	};
	struct guest_fixture *f = &self->guest_fixture;
	struct vfio_device_feature_dma_logging_report report;
	__u64 page = 4096, bit, *bitmap;
	unsigned int i, k, set;

	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, log_start(f, &page));
	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		memset(room, 0, sizeof(room));
		bitmap = (__u64 *)(room + requests[i].offset);
		report = (struct vfio_device_feature_dma_logging_report){
			.iova = requests[i].iova,
			.length = f->env.dev.mem_size - requests[i].iova,
			.page_size = requests[i].page_size,
			.bitmap = (uintptr_t)bitmap,
		};
		EXPECT_EQ(0, vfio_feature(f->env.dev.device, VFIO_DEVICE_FEATURE_GET |
					  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
					  &report, sizeof(report)));
		bit = (GUEST_NIB - requests[i].iova) / requests[i].page_size;
		EXPECT_EQ(1ULL, bitmap[bit / 64] >> (bit % 64) & 1) {
			TH_LOG("request %u", i);
		}
		for (k = 0, set = 0; k < sizeof(room); k++)
			set += __builtin_popcount(room[k]);
		EXPECT_EQ(1U, set) {
			TH_LOG("request %u", i);
		}
	}
}

/* QEMU resets the device of a guest that reboots, and goes on asking for reports */
TEST_F_TIMEOUT(interrupt, logging_goes_on_after_reset_and_ends_with_close, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	__u64 all = f->env.dev.mem_size, page = 4096;
	bool has_nib = false;

	ASSERT_EQ(0, log_start(f, &page));
	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	/* The reset has dropped the registrations: their page is reported one last time */
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_TRUE(has_nib);
	EXPECT_EQ(0, log_report(f, 0, all, &has_nib));
	EXPECT_EQ(-EBUSY, log_start(f, &page));

	ASSERT_EQ(0, guest_fixture_reopen(f));
	EXPECT_EQ(-EINVAL, log_report(f, 0, all, &has_nib));
	EXPECT_EQ(0, log_start(f, &page));
}

/* The queue may write to the page of an interrupt that it does not disable */
TEST_F_TIMEOUT(interrupt, retained_page_is_logged_each_time, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	__u64 all = f->env.dev.mem_size, page = 4096;
	bool has_nib = false;
	int i;

	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	ASSERT_EQ(0, log_start(f, &page));
	ASSERT_EQ(0, first_aqic(f, true, GUEST_NIB));
	ASSERT_EQ(0, ap_control("aqic_polls 200"));
	EXPECT_EQ(0, first_aqic(f, false, 0));
	ASSERT_EQ(0, ap_control("aqic_polls 0"));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, log_report(f, 0, all, &has_nib)) {
			TH_LOG("report %d", i);
		}
		EXPECT_TRUE(has_nib);
		has_nib = false;
	}
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	EXPECT_EQ(1, log_report(f, 0, all, &has_nib));
	EXPECT_EQ(0, log_report(f, 0, all, &has_nib));
}

static void *write_stream(void *arg)
{
	struct guest_fixture *f = arg;

	f->ret = env_write(f->fd, f->env.stream.data, f->env.stream.len, 0, NULL);
	return NULL;
}

static void *enable_interrupt(void *arg)
{
	struct guest_fixture *f = arg;

	f->ret = first_aqic(f, true, GUEST_NIB);
	return NULL;
}

static void *unassign_adapter(void *arg)
{
	struct guest_fixture *f = arg;

	f->reset = ap_mdev_write(f->env.dev.uuid, "unassign_adapter", "0x%02x", f->apids[1]);
	return NULL;
}

/* All calls on the other guest's device succeed */
static void expect_not_blocked(struct __test_metadata *_metadata, const struct vfio_ap *other)
{
	EXPECT_EQ(0, vfio_mig_set(other->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, vfio_mig_set(other->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(0, vfio_ap_reset(other));
}

/*
 * The type 1 IOMMU driver does not wait for userfaultfd, but fails; memory that
 * it has to wait for is harder to come by.
 */
ENV_FIXTURE_OF(stuck, guest_fixture, ENV_CDEV)

/* Memory that does not come holds up its own guest only */
TEST_F_TIMEOUT(stuck, stuck_page_fault_blocks_no_other_guest, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	pthread_t thread, unplug;
	struct timespec until;
	struct vfio_ap other;
	struct trap trap;
	bool unplugged;
	long before;

	before = vfio_ap_pinned();
	ASSERT_EQ(0, env_neighbour(&f->env, &other, VFIO_AP_CDEV));
	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, env_stream(&f->env));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));

	/* The destination's registration */
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &f->fd));
	ASSERT_EQ(0, trap_set_at(&trap, nib(f)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_stream, f));
	ASSERT_EQ(0, trap_wait(&trap));
	expect_not_blocked(_metadata, &other);
	/* Nor is the stream complete */
	EXPECT_EQ(-EINVAL, set_state(f, VFIO_DEVICE_STATE_STOP));
	ASSERT_EQ(0, trap_open(&trap, "", 1));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, f->ret);
	EXPECT_EQ(0, set_state(f, VFIO_DEVICE_STATE_RUNNING));
	trap_free(&trap);
	close(f->fd);
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));

	/* The guest's own PQAP(AQIC), while a queue with a page of its own is unplugged */
	ASSERT_EQ(0, queue_aqic(f, f->apids[1] << 8 | f->domains[0], true, OTHER_NIB));
	ASSERT_EQ(0, trap_set_at(&trap, nib(f)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, enable_interrupt, f));
	ASSERT_EQ(0, trap_wait(&trap));
	ASSERT_EQ(0, pthread_create(&unplug, NULL, unassign_adapter, f));
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ENV_PATIENCE;
	unplugged = !pthread_timedjoin_np(unplug, NULL, &until);
	EXPECT_TRUE(unplugged);
	if (unplugged)
		expect_not_blocked(_metadata, &other);
	ASSERT_EQ(0, trap_open(&trap, "", 1));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	if (!unplugged)
		ASSERT_EQ(0, pthread_join(unplug, NULL));
	EXPECT_EQ(0, f->ret);
	EXPECT_EQ(0, f->reset);
	trap_free(&trap);
	vfio_ap_close(&other);
	ap_mdev_remove(other.uuid);
}

/* The reset waits for the pin, and releases the page */
TEST_F_TIMEOUT(stuck, reset_waits_for_pin_in_progress, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	pthread_t writer, resetter;
	struct pollfd ended = { .events = 0 };
	struct timespec until;
	struct trap trap;
	long before;
	bool waits;

	before = vfio_ap_pinned();
	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, env_stream(&f->env));
	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	ASSERT_EQ(0, vfio_mig_set(f->env.dev.device, VFIO_DEVICE_STATE_RESUMING, &f->fd));
	ended.fd = f->fd;
	ASSERT_EQ(0, trap_set_at(&trap, nib(f)));
	ASSERT_EQ(0, pthread_create(&writer, NULL, write_stream, f));
	ASSERT_EQ(0, trap_wait(&trap));
	ASSERT_EQ(0, pthread_create(&resetter, NULL, reset_device, f));
	/* The session ends at once, though the writer waits */
	ASSERT_EQ(1, poll(&ended, 1, -1));
	EXPECT_TRUE(ended.revents & POLLERR);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	waits = pthread_timedjoin_np(resetter, NULL, &until) == ETIMEDOUT;
	EXPECT_TRUE(waits);
	ASSERT_EQ(0, trap_open(&trap, "", 1));
	ASSERT_EQ(0, pthread_join(writer, NULL));
	if (waits)
		ASSERT_EQ(0, pthread_join(resetter, NULL));
	EXPECT_EQ(-ENODEV, f->ret);
	EXPECT_EQ(0, f->reset);
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(f->env.dev.device));
	trap_free(&trap);
	close(f->fd);
	ASSERT_EQ(0, migrate(f));
}

/**
 * struct stalled - a VMM, and a process that writes the stream to its data file
 * @uuid: the mediated device
 * @trap: a page of the VMM that does not come
 * @stream: of the device
 * @report_pipe: a pipe to the test
 */
struct stalled {
	char uuid[AP_UUID_SIZE];
	struct trap trap;
	const struct stream_buf *stream;
	int report_pipe[2];
};

/* Write the stream, with nothing of the VMM but its data file */
static pid_t fork_writer(const struct stalled *s, int fd)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	dup2(fd, 3);
	close_range(4, ~0U, 0);
	_exit(env_write(3, s->stream->data, s->stream->len, 0, NULL) ? 1 : 0);
}

/**
 * struct vmm_report - of the VMM to the test
 * @writer: the other process
 * @uffd: the VMM's file descriptor of its userfaultfd
 */
struct vmm_report {
	pid_t writer;
	int uffd;
};

/* Open the device, have the other process write, and wait to be killed */
static int run_vmm(struct stalled *s)
{
	struct guest guest;
	struct vfio_ap dev;
	struct vmm_report report;
	int fd, ret;

	ret = vfio_ap_open(&dev, s->uuid, VFIO_AP_CDEV) ?:
	      guest_create(&guest, &dev, SMALL_ENTRY) ?:
	      vfio_mig_set(dev.device, VFIO_DEVICE_STATE_RESUMING, &fd) ?:
	      trap_set_at(&s->trap, (__u8 *)dev.mem + GUEST_NIB);
	if (ret)
		return ret;
	report.uffd = s->trap.uffd;
	report.writer = fork_writer(s, fd);
	close(fd);
	ret = trap_wait(&s->trap);
	if (ret || write(s->report_pipe[1], &report, sizeof(report)) != sizeof(report))
		return -EPROTO;
	pause();
	return -EPROTO;
}

/*
 * A VMM that is killed waits in close for a page of its memory that is being pinned, if another
 * process wrote the data file and a third one holds the userfaultfd. It ends with the writer.
 */
TEST_F_TIMEOUT(stuck, killed_vmm_waits_for_writer, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct stalled s = { .stream = &f->env.stream };
	struct pollfd vmm_end = { .events = POLLIN };
	struct vmm_report report;
	int status, uffd;
	pid_t vmm;

	run_guest(_metadata, f, LATENCY);
	ASSERT_EQ(0, env_stream(&f->env));
	memcpy(s.uuid, f->env.dev.uuid, sizeof(s.uuid));
	guest_free(&f->guest);
	vfio_ap_close(&f->env.dev);
	ASSERT_EQ(0, pipe(s.report_pipe));
	vmm = fork();
	if (!vmm)
		_exit(run_vmm(&s) ? 1 : 0);
	close(s.report_pipe[1]);
	ASSERT_EQ((ssize_t)sizeof(report), read(s.report_pipe[0], &report, sizeof(report)));
	vmm_end.fd = syscall(SYS_pidfd_open, vmm, 0);
	ASSERT_LE(0, vmm_end.fd);
	uffd = syscall(SYS_pidfd_getfd, vmm_end.fd, report.uffd, 0);
	ASSERT_LE(0, uffd);

	ASSERT_EQ(0, kill(vmm, SIGKILL));
	EXPECT_EQ(0, poll(&vmm_end, 1, 1000));
	ASSERT_EQ(0, kill(report.writer, SIGKILL));
	ASSERT_EQ(vmm, waitpid(vmm, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(0, vfio_ap_open(&f->env.dev, s.uuid, VFIO_AP_CDEV));
	ASSERT_EQ(0, guest_create(&f->guest, &f->env.dev, SMALL_ENTRY));
	EXPECT_EQ(0, env_resume(&f->env, f->env.stream.data, f->env.stream.len, 0));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	close(uffd);
	close(vmm_end.fd);
	close(s.report_pipe[0]);
}

TEST_HARNESS_MAIN
