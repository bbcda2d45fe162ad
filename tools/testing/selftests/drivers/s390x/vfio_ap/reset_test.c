// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap: VFIO_DEVICE_RESET of a device with a queue whose reset takes long
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

/* Response codes of PQAP(TAPQ) while the queue is being reset */
#define RESET_IN_PROGRESS	0x02
#define BUSY			0x05

/**
 * struct resetter - a thread that resets a device
 * @dev: the device
 * @thread: the thread
 * @done: it has; read and written atomically
 * @ret: result of the reset
 */
struct resetter {
	struct vfio_ap *dev;
	pthread_t thread;
	bool done;
	int ret;
};

FIXTURE(reset) {
	struct env env;
	struct resetter resetter;
	char scan_interval[16];
};

ENV_CDEV(reset);

/* A scan would take the answers that are meant for vfio_ap: the next one is in two minutes */
static int hold_scans(void)
{
	return ap_bus_write("config_time", "120\n");
}

static int set_response(const struct env *env, unsigned int rc)
{
	return hold_scans() ?: ap_control("rc %02x.%04x tapq %x", env->pool.adapters[0],
			      env->pool.domains[0], rc);
}

FIXTURE_SETUP(reset)
{
	ENV_SETUP(env_setup_control, &self->env, variant->path);
	self->resetter.dev = &self->env.dev;

	ASSERT_LT(0, ap_bus_read("config_time", self->scan_interval,
				 sizeof(self->scan_interval)));
	ASSERT_EQ(0, hold_scans());
}

FIXTURE_TEARDOWN(reset)
{
	if (self->scan_interval[0])
		set_response(&self->env, 0);
	env_teardown(&self->env);
	if (self->scan_interval[0])
		ap_bus_write("config_time", "%s", self->scan_interval);
}

static void *resetter_thread(void *arg)
{
	struct resetter *resetter = arg;

	resetter->ret = vfio_ap_reset(resetter->dev);
	__atomic_store_n(&resetter->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Begin a reset of the device; returns when its queues are looked at again */
static int resetter_start(struct resetter *resetter)
{
	long before = ap_counter("tapq");
	int ret;

	if (before < 0)
		return before;
	ret = pthread_create(&resetter->thread, NULL, resetter_thread, resetter);
	if (ret)
		return -ret;
	while (ap_counter("tapq") < before + 2 &&
	       !__atomic_load_n(&resetter->done, __ATOMIC_SEQ_CST))
		sched_yield();
	return 0;
}

/* The result of the reset, or -ETIME if it ended only when the queue was ready */
static int resetter_join(struct resetter *resetter, const struct env *env)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += ENV_PATIENCE;
	if (!pthread_timedjoin_np(resetter->thread, NULL, &end))
		return resetter->ret;
	set_response(env, 0);
	pthread_join(resetter->thread, NULL);
	return -ETIME;
}

/* Calls on another guest's device do not wait for the reset */
TEST_F_TIMEOUT(reset, slow_queue_delays_no_other_guest, ENV_TIMEOUT)
{
	struct vfio_ap neighbour;
	char text[4096];
	__u64 size;

	ASSERT_EQ(0, env_neighbour(&self->env, &neighbour, variant->path));
	ASSERT_EQ(0, set_response(&self->env, RESET_IN_PROGRESS));
	ASSERT_EQ(0, resetter_start(&self->resetter));
	EXPECT_EQ(0, vfio_mig_set(neighbour.device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, vfio_mig_data_size(neighbour.device, &size));
	EXPECT_EQ(0, vfio_mig_set(neighbour.device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_LT(0, ap_mdev_read(self->env.dev.uuid, "matrix", text, sizeof(text)));
	EXPECT_FALSE(__atomic_load_n(&self->resetter.done, __ATOMIC_SEQ_CST));

	ASSERT_EQ(0, set_response(&self->env, 0));
	EXPECT_EQ(0, resetter_join(&self->resetter, &self->env));
	vfio_ap_close(&neighbour);
}

/* The guest keeps the adapter though the host looks at its queues during the reset */
TEST_F_TIMEOUT(reset, slow_queue_stays_with_its_guest, ENV_TIMEOUT)
{
	const struct ap_pool *pool = &self->env.pool;
	const char *uuid = self->env.dev.uuid;
	char before[4096], now[4096];

	ASSERT_LT(0, ap_mdev_read(uuid, "guest_matrix", before, sizeof(before)));
	ASSERT_EQ(0, ap_control("rc %02x.%04x zapq %x 1", pool->adapters[0], pool->domains[0],
				RESET_IN_PROGRESS));
	ASSERT_EQ(0, set_response(&self->env, RESET_IN_PROGRESS));
	ASSERT_EQ(0, resetter_start(&self->resetter));
	EXPECT_EQ(0, ap_queue_bind(pool->adapters[1], pool->domains[0], "vfio_ap", false));
	EXPECT_EQ(0, ap_queue_bind(pool->adapters[1], pool->domains[0], "vfio_ap", true));
	EXPECT_FALSE(__atomic_load_n(&self->resetter.done, __ATOMIC_SEQ_CST));
	EXPECT_LT(0, ap_mdev_read(uuid, "guest_matrix", now, sizeof(now)));
	EXPECT_STREQ(before, now);

	ASSERT_EQ(0, set_response(&self->env, 0));
	EXPECT_EQ(0, resetter_join(&self->resetter, &self->env));
}

/* Wait until the guest's configuration change is signalled. -ETIME */
static int await_change(int event)
{
	struct pollfd fd = { .fd = event, .events = POLLIN };
	__u64 count;

	if (poll(&fd, 1, ENV_PATIENCE * 1000) != 1)
		return -ETIME;
	return read(event, &count, sizeof(count)) == sizeof(count) ? 0 : -errno;
}

/* A reset without end is given up, and can be repeated; the state is RUNNING */
TEST_F_TIMEOUT(reset, reset_times_out_on_stuck_queue, ENV_TIMEOUT)
{
	static const unsigned int codes[] = { RESET_IN_PROGRESS, BUSY };
	const char *uuid = self->env.dev.uuid;
	char before[4096], now[4096];
	unsigned int i;
	int event, fd;

	event = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, event);
	ASSERT_EQ(0, vfio_ap_set_event(self->env.dev.device, VFIO_AP_CFG_CHG_IRQ_INDEX, event));
	ASSERT_LT(0, ap_mdev_read(uuid, "guest_matrix", before, sizeof(before)));
	for (i = 0; i < ARRAY_SIZE_OF(codes); i++) {
		ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
		ASSERT_EQ(0, set_response(&self->env, codes[i]));
		self->resetter.done = false;
		ASSERT_EQ(0, resetter_start(&self->resetter));
		/* The session ends before the queues are waited for */
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->env.dev.device));
		EXPECT_EQ(-ENODEV, env_try_read(fd));
		close(fd);
		EXPECT_EQ(-EIO, resetter_join(&self->resetter, &self->env));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->env.dev.device));

		/* The guest has lost the adapter, and gets it back when the queue is done */
		ASSERT_EQ(0, await_change(event));
		ASSERT_LT(0, ap_mdev_read(uuid, "guest_matrix", now, sizeof(now)));
		EXPECT_STRNE(before, now);
		ASSERT_EQ(0, set_response(&self->env, 0));
		ASSERT_EQ(0, await_change(event));
		ASSERT_LT(0, ap_mdev_read(uuid, "guest_matrix", now, sizeof(now)));
		EXPECT_STREQ(before, now);
		EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
	}
	close(event);
}

TEST_HARNESS_MAIN
