// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: each system call of a migration with its first, second, ...
 * allocation or copy failing, until none is left that could. A failing call returns
 * a documented errno, the device is in a state from which it can go on, and
 * nothing is left behind.
 *
 * /proc/thread-self/fail-nth counts the kernel's fault injection points of this
 * thread: slab and page allocations, and copies from and to user space. The last
 * ones also fail in the VFIO core, before or after the driver has set the state:
 * -EFAULT says nothing about the state.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/guest_fixture.h"
#include "lib/info.h"
#include "kselftest_harness.h"

#define FAULTS		"/sys/kernel/debug/"

/* Replies for each queue that show that all is well */
#define ENOUGH		3

/* Microseconds: a request that is answered soon, and one that stays in its queue */
#define LATENCY		1000
#define HELD		1000000000

/* More points than any call here has */
#define MAX_POINTS	1000U

/* Settings with which all allocations can fail, silently; reason to skip if one is missing */
static const struct {
	const char *path;
	const char *value;
	const char *missing;
} knobs[] = {
	{ FAULTS "failslab/ignore-gfp-wait", "N", "needs CONFIG_FAILSLAB" },
	{ FAULTS "failslab/verbose", "0", "needs CONFIG_FAILSLAB" },
	/* For reset_without_memory() */
	{ FAULTS "failslab/task-filter", "Y", "needs CONFIG_FAILSLAB" },
	{ FAULTS "failslab/times", "-1", "needs CONFIG_FAILSLAB" },
	{ FAULTS "fail_page_alloc/ignore-gfp-wait", "N", "needs CONFIG_FAIL_PAGE_ALLOC" },
	{ FAULTS "fail_page_alloc/verbose", "0", "needs CONFIG_FAIL_PAGE_ALLOC" },
	{ FAULTS "fail_usercopy/verbose", "0", "needs CONFIG_FAULT_INJECTION_USERCOPY" },
};

#define NR_KNOBS	(sizeof(knobs) / sizeof(*knobs))

/**
 * struct nth - where faults are injected
 * @fixture: a device, and its guest, which is stopped and has requests in its queues
 * @before: counters at the beginning
 * @irqs: queues that interrupted the guest then
 * @scratch: part of the stream that was read or written before the call
 * @saved: values of the knobs
 * @nr_saved: number of @saved
 * @file: fail-nth of this thread, or -1
 * @data: data file, or -1
 * @event: an eventfd
 */
struct nth {
	struct guest_fixture fixture;
	struct env_counts before;
	long irqs;
	struct stream_buf scratch;
	char saved[NR_KNOBS][32];
	unsigned int nr_saved;
	int file;
	int data;
	int event;
};

/* NULL, or the option that the kernel lacks for injecting faults; *@ret: any other error */
static const char *knobs_set(struct nth *t, int *ret)
{
	char *end;
	unsigned int i;

	t->file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (t->file < 0)
		return "needs CONFIG_FAULT_INJECTION";
	for (i = 0; i < NR_KNOBS; i++) {
		if (access(knobs[i].path, F_OK))
			return knobs[i].missing;
		*ret = ap_file_read(knobs[i].path, t->saved[i], sizeof(t->saved[i]));
		if (*ret < 0)
			return NULL;
		end = strchr(t->saved[i], '\n');
		if (end)
			*end = '\0';
		t->nr_saved = i + 1;
		*ret = ap_file_write(knobs[i].path, knobs[i].value);
		if (*ret)
			return NULL;
	}
	return NULL;
}

static void knobs_reset(struct nth *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_saved; i++)
		ap_file_write(knobs[i].path, t->saved[i]);
	if (t->file >= 0)
		close(t->file);
}

/* Counts are of a time without faults */
static void record_counts(struct nth *t)
{
	env_count(&t->fixture.env, &t->before);
	t->irqs = guest_fixture_count_irqs(&t->fixture);
}

static void expect_unchanged(struct __test_metadata *_metadata, struct nth *t)
{
	EXPECT_COUNTS(&t->fixture.env, &t->before);
	EXPECT_EQ(t->irqs, guest_fixture_count_irqs(&t->fixture));
	EXPECT_FALSE(guest_fixture_in_session(&t->fixture));
}

/* A guest with requests in all its queues, which is stopped now */
static int prepare_guest(struct guest_fixture *f)
{
	int ret;

	ret = guest_fixture_start(f);
	if (!ret)
		ret = guest_wait_answered(&f->guest, ENOUGH);
	if (!ret)
		ret = ap_control("latency * %u", HELD);
	if (!ret)
		ret = guest_fixture_wait_held(f);
	return ret ?: guest_stop(&f->guest);
}

static void nth_teardown(struct nth *t)
{
	knobs_reset(t);
	if (t->data >= 0)
		close(t->data);
	stream_free(&t->scratch);
	guest_fixture_teardown(&t->fixture);
}

static const char *nth_setup(struct nth *t, enum vfio_ap_path path, int *ret)
{
	struct guest_fixture *f = &t->fixture;
	const char *why;

	memset(t, 0, sizeof(*t));
	t->data = -1;
	t->file = -1;
	why = guest_fixture_setup(f, path, ret);
	if (!why && !*ret)
		why = knobs_set(t, ret);
	if (!why && !*ret)
		*ret = prepare_guest(f);
	if (!why && !*ret)
		*ret = env_stream(&f->env);
	if (why)
		nth_teardown(t);
	return why;
}

FIXTURE(fail_nth) {
	struct nth nth;
};

ENV_CDEV(fail_nth);

FIXTURE_SETUP(fail_nth)
{
	struct nth *t = &self->nth;

	ENV_SETUP(nth_setup, t, variant->path);
	ASSERT_LT(0U, t->fixture.env.decoded.nr_irqs);
	record_counts(t);
	ASSERT_EQ((long)FIXTURE_QUEUES, t->irqs);
	ASSERT_LT(0, t->before.pinned);
}

FIXTURE_TEARDOWN(fail_nth)
{
	nth_teardown(&self->nth);
}

static int arm_fault(struct nth *t, unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	return pwrite(t->file, text, len, 0) == len ? 0 : -errno;
}

/*
 * Whether the fault was injected since arm_fault(). If not it can hit these accesses
 * themselves, which is as good as no fault.
 */
static bool disarm_fault(struct nth *t)
{
	char text[16] = "";
	bool hit;

	hit = pread(t->file, text, sizeof(text) - 1, 0) > 0 && !strtol(text, NULL, 10);
	if (!hit)
		pwrite(t->file, "0", 1, 0);
	return hit;
}

/**
 * struct call - a system call to be tried
 * @from: how far the migration has come before it
 * @run: the call; 0 or a negative errno
 * @to: state of the device after it
 * @via: bits of the states on the way, in which it may stay if it fails
 * @never_refused: the driver may not fail it, so only the VFIO core's copies do
 * @prepare: preparation in which no fault is injected, or NULL
 */
struct call {
	enum env_stage from;
	int (*run)(struct nth *t);
	__u32 to;
	unsigned int via;
	bool never_refused;
	int (*prepare)(struct nth *t);
};

/* The guest runs again with its interrupts, after every outcome of the call */
static int restore_guest(struct nth *t)
{
	struct env *env = &t->fixture.env;
	int ret;

	ret = env_enter(env, VFIO_DEVICE_STATE_RUNNING, NULL);
	if (t->data >= 0)
		close(t->data);
	t->data = -1;
	/* After RESUMING the device has no registrations */
	if (!ret && guest_fixture_count_irqs(&t->fixture) != (long)FIXTURE_QUEUES)
		ret = env_resume(env, env->stream.data, env->stream.len, 0);
	return ret;
}

static void check_failure(struct __test_metadata *_metadata, struct nth *t,
			  const struct call *call, int ret)
{
	int state = vfio_mig_state(t->fixture.env.dev.device);
	unsigned int ways = call->via | 1U << call->to | 1U << env_stage_state(call->from);

	if (call->never_refused)
		EXPECT_EQ(-EFAULT, ret);
	EXPECT_TRUE(ret == -ENOMEM || ret == -EFAULT);
	ASSERT_LE(0, state);
	EXPECT_NE(0U, ways & 1U << state);
}

/* Repeat a call until no fault is injected; at least one fault must be */
static void try_each_fault(struct __test_metadata *_metadata, struct nth *t,
			   const struct call *call)
{
	struct env *env = &t->fixture.env;
	unsigned int nth, failures = 0;
	bool hit = true;
	int ret;

	for (nth = 1; hit; nth++) {
		ASSERT_GT(MAX_POINTS, nth);
		ASSERT_EQ(0, env_enter_stage(env, call->from, &t->data, &t->scratch));
		if (call->prepare)
			ASSERT_EQ(0, call->prepare(t));
		ASSERT_EQ(0, arm_fault(t, nth));
		ret = call->run(t);
		hit = disarm_fault(t);
		if (ret) {
			EXPECT_TRUE(hit);
			failures++;
			check_failure(_metadata, t, call, ret);
		} else {
			EXPECT_EQ((int)call->to, vfio_mig_state(env->dev.device));
		}
		ASSERT_EQ(0, restore_guest(t));
		expect_unchanged(_metadata, t);
		if (!__test_passed(_metadata))
			TH_LOG("at point %u: %d", nth, ret);
		ASSERT_TRUE(__test_passed(_metadata));
	}
	TH_LOG("%u points, %u failures", nth - 2, failures);
	EXPECT_LT(0U, failures);
	EXPECT_EQ(0, ret);
}

/* SET_STATE; a new data file belongs to the fixture */
static int set_state(struct nth *t, __u32 state)
{
	int fd = -1, ret;

	ret = vfio_mig_set(t->fixture.env.dev.device, state, &fd);
	if (!ret && fd >= 0)
		t->data = fd;
	return ret;
}

static int to_stop(struct nth *t)
{
	return set_state(t, VFIO_DEVICE_STATE_STOP);
}

static int to_running(struct nth *t)
{
	return set_state(t, VFIO_DEVICE_STATE_RUNNING);
}

static int to_pre_copy(struct nth *t)
{
	return set_state(t, VFIO_DEVICE_STATE_PRE_COPY);
}

static int to_pre_copy_p2p(struct nth *t)
{
	return set_state(t, VFIO_DEVICE_STATE_PRE_COPY_P2P);
}

static int to_stop_copy(struct nth *t)
{
	return set_state(t, VFIO_DEVICE_STATE_STOP_COPY);
}

static int to_resuming(struct nth *t)
{
	return set_state(t, VFIO_DEVICE_STATE_RESUMING);
}

#define STATE(name) VFIO_DEVICE_STATE_##name
#define VIA(name) (1U << STATE(name))

#define TRY(from_, run_, to_, ...)					\
	try_each_fault(_metadata, &self->nth, &(const struct call){		\
		.from = (from_), .run = (run_), .to = (to_), __VA_ARGS__ })

TEST_F_TIMEOUT(fail_nth, session_begins, ENV_TIMEOUT)
{
	TRY(ENV_RUNNING, to_pre_copy, STATE(PRE_COPY));
	TRY(ENV_RUNNING, to_pre_copy_p2p, STATE(PRE_COPY_P2P),
	    .via = VIA(RUNNING_P2P) | VIA(PRE_COPY));
	TRY(ENV_RUNNING, to_stop_copy, STATE(STOP_COPY),
	    .via = VIA(RUNNING_P2P) | VIA(STOP));
	TRY(ENV_STOP, to_stop_copy, STATE(STOP_COPY));
	TRY(ENV_RUNNING, to_resuming, STATE(RESUMING),
	    .via = VIA(RUNNING_P2P) | VIA(STOP));
	TRY(ENV_STOP, to_resuming, STATE(RESUMING));
}

TEST_F_TIMEOUT(fail_nth, pre_copy_ends, ENV_TIMEOUT)
{
	TRY(ENV_PRE_COPY, to_stop_copy, STATE(STOP_COPY), .via = VIA(PRE_COPY_P2P),
	    .never_refused = true);
	TRY(ENV_PRE_COPY_P2P, to_stop_copy, STATE(STOP_COPY), .never_refused = true);
}

/* PRE_COPY->STOP_COPY succeeds though the rest of the stream finds no memory; read() fails */
TEST_F_TIMEOUT(fail_nth, pre_copy_ends_and_read_is_out_of_memory, ENV_TIMEOUT)
{
	struct nth *t = &self->nth;
	struct env *env = &t->fixture.env;
	unsigned int nth, out_of_memory = 0;
	bool hit = true;
	int ret;

	for (nth = 1; hit; nth++) {
		ASSERT_GT(MAX_POINTS, nth);
		ASSERT_EQ(0, env_enter_stage(env, ENV_PRE_COPY_P2P, &t->data, &t->scratch));
		ASSERT_EQ(0, arm_fault(t, nth));
		ret = to_stop_copy(t);
		hit = disarm_fault(t);
		if (!ret) {
			ASSERT_EQ(STATE(STOP_COPY), vfio_mig_state(env->dev.device));
			ret = env_read(t->data, 0, &t->scratch);
			EXPECT_TRUE(!ret || (hit && ret == -ENOMEM)) {
				TH_LOG("at point %u: %d", nth, ret);
			}
			if (ret) {
				out_of_memory++;
				EXPECT_EQ(0U, t->scratch.len);
				EXPECT_EQ(-ENOMEM, env_try_read(t->data));
			}
		}
		ASSERT_EQ(0, restore_guest(t));
		expect_unchanged(_metadata, t);
		ASSERT_TRUE(__test_passed(_metadata));
	}
	EXPECT_LT(0U, out_of_memory);
}

TEST_F_TIMEOUT(fail_nth, return_to_running_never_fails, ENV_TIMEOUT)
{
	TRY(ENV_RUNNING, to_stop, STATE(STOP), .never_refused = true);
	TRY(ENV_STOP, to_running, STATE(RUNNING), .never_refused = true);
	TRY(ENV_PRE_COPY, to_running, STATE(RUNNING), .never_refused = true);
	TRY(ENV_STOP_COPY, to_stop, STATE(STOP), .never_refused = true);
	TRY(ENV_STOP_COPY, to_running, STATE(RUNNING), .never_refused = true);
	TRY(ENV_RESUMED, to_running, STATE(RUNNING), .never_refused = true);
}

TEST_F_TIMEOUT(fail_nth, resuming_ends, ENV_TIMEOUT)
{
	TRY(ENV_RESUMING_WHOLE, to_stop, STATE(STOP));
	TRY(ENV_RESUMING_WHOLE, to_running, STATE(RUNNING),
	    .via = VIA(STOP) | VIA(RUNNING_P2P));
}

/* Read to the end of the stream; *@at is how far that has come */
static int read_on(struct nth *t, __u8 *buf, size_t *at)
{
	ssize_t n;

	do {
		n = read(t->data, buf + *at, STREAM_MAX_SIZE - *at);
		if (n > 0)
			*at += n;
	} while (n > 0);
	return n < 0 ? -errno : 0;
}

/* A read that fails has taken nothing: each byte is read once */
static int read_rest(struct nth *t)
{
	static __u8 buf[STREAM_MAX_SIZE];
	struct stream_buf *want = &t->fixture.env.stream;
	size_t at = t->scratch.len;
	int ret;

	memcpy(buf, t->scratch.data, at);
	ret = read_on(t, buf, &at);
	if (ret && read_on(t, buf, &at))
		return -EPROTO;
	return at == want->len && !memcmp(buf, want->data, at) ? ret : -EBADMSG;
}

static int precopy_info(struct nth *t)
{
	struct vfio_precopy_info info;

	return vfio_precopy_info(t->data, &info);
}

TEST_F_TIMEOUT(fail_nth, stream_is_read, ENV_TIMEOUT)
{
	TRY(ENV_STOP_COPY, read_rest, STATE(STOP_COPY));
	TRY(ENV_PRE_COPY_P2P, precopy_info, STATE(PRE_COPY_P2P));
}

static int write_rest(struct nth *t)
{
	struct stream_buf *s = &t->fixture.env.stream;
	size_t done = t->scratch.len;
	ssize_t n;

	n = write(t->data, s->data + done, s->len - done);
	if (n < 0)
		return -errno;
	return n == (ssize_t)(s->len - done) ? 0 : -EMSGSIZE;
}

/* A write that fails has either changed nothing, or ended the session for good */
static int write_again(struct nth *t)
{
	int ret = write_rest(t), again;

	if (!ret)
		return 0;
	again = write_rest(t);
	return !again || again == ret ? ret : -EPROTO;
}

TEST_F_TIMEOUT(fail_nth, stream_is_written, ENV_TIMEOUT)
{
	TRY(ENV_RESUMING_HALF, write_again, STATE(RESUMING));
}

static int data_size(struct nth *t)
{
	__u64 size;

	return vfio_mig_data_size(t->fixture.env.dev.device, &size);
}

static int mig_flags(struct nth *t)
{
	__u64 flags;

	return vfio_mig_flags(t->fixture.env.dev.device, &flags);
}

static int get_state(struct nth *t)
{
	__u32 state;

	return vfio_mig_get(t->fixture.env.dev.device, &state);
}

static int opt_in(struct nth *t)
{
	return vfio_mig_opt_in(t->fixture.env.dev.device);
}

TEST_F_TIMEOUT(fail_nth, query_ioctls, ENV_TIMEOUT)
{
	TRY(ENV_RUNNING, data_size, STATE(RUNNING));
	TRY(ENV_RUNNING, mig_flags, STATE(RUNNING));
	TRY(ENV_STOP_COPY, get_state, STATE(STOP_COPY));
	TRY(ENV_RUNNING, opt_in, STATE(RUNNING));
}

static int reset(struct nth *t)
{
	return vfio_ap_reset(&t->fixture.env.dev);
}

/* The ioctl copies nothing: only the driver could fail it, and does not */
TEST_F_TIMEOUT(fail_nth, reset_never_fails, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = {
		ENV_RUNNING, ENV_PRE_COPY, ENV_STOP_COPY, ENV_RESUMING_WHOLE, ENV_RESUMED,
	};
	struct nth *t = &self->nth;
	struct env *env = &t->fixture.env;
	unsigned int i, nth;
	bool hit;

	for (i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		hit = true;
		for (nth = 1; hit; nth++) {
			ASSERT_GT(MAX_POINTS, nth);
			ASSERT_EQ(0, env_enter_stage(env, stages[i], &t->data, &t->scratch));
			ASSERT_EQ(0, arm_fault(t, nth));
			EXPECT_EQ(0, reset(t));
			hit = disarm_fault(t);
			EXPECT_EQ(STATE(RUNNING), vfio_mig_state(env->dev.device));
			ASSERT_EQ(0, restore_guest(t));
			expect_unchanged(_metadata, t);
			ASSERT_TRUE(__test_passed(_metadata));
		}
	}
}

static int log_start(struct nth *t)
{
	struct vfio_device_feature_dma_logging_range range = { .length = 1 << 20 };
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = 4096,
		.num_ranges = 1,
		.ranges = (uintptr_t)&range,
	};
	int device = t->fixture.env.dev.device, ret;

	ret = vfio_feature(device, VFIO_DEVICE_FEATURE_SET |
			   VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control, sizeof(control));
	return ret;
}

static int log_stop(struct nth *t)
{
	return vfio_feature(t->fixture.env.dev.device, VFIO_DEVICE_FEATURE_SET |
			    VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
}

static int log_report(struct nth *t)
{
	static __u64 bitmap[16];
	struct vfio_device_feature_dma_logging_report report = {
		.length = 1 << 20,
		.page_size = 4096,
		.bitmap = (uintptr_t)bitmap,
	};

	return vfio_feature(t->fixture.env.dev.device, VFIO_DEVICE_FEATURE_GET |
			    VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report, sizeof(report));
}

/* Logging is off afterwards, after a failure too */
static int log_all(struct nth *t)
{
	int ret, stop;

	ret = log_start(t);
	if (!ret)
		ret = log_report(t);
	stop = log_stop(t);
	if (stop && log_stop(t))
		return -EPROTO;
	return ret ?: stop;
}

TEST_F_TIMEOUT(fail_nth, pages_are_logged, ENV_TIMEOUT)
{
	TRY(ENV_RUNNING, log_all, STATE(RUNNING));
}

/* Number of dirty pages, or a negative errno */
static int dirty_pages(struct nth *t)
{
	static __u64 bitmap[16];
	struct vfio_device_feature_dma_logging_report report = {
		.length = 1 << 20,
		.page_size = 4096,
		.bitmap = (uintptr_t)bitmap,
	};
	unsigned int i;
	int nr, ret;

	memset(bitmap, 0, sizeof(bitmap));
	ret = vfio_feature(t->fixture.env.dev.device, VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report, sizeof(report));
	for (i = 0, nr = 0; i < sizeof(bitmap) / sizeof(*bitmap); i++)
		nr += __builtin_popcountll(bitmap[i]);
	return ret ?: nr;
}

/*
 * The same with each slab allocation failing if @fail is "1": the kernel repeats some
 * that fail once. Tasks are concerned only that have asked for it, see knobs[].
 */
static int reset_without_memory(struct nth *t, const char *fail)
{
	int fd, ret;

	ret = ap_file_write(FAULTS "failslab/probability", "100");
	if (ret)
		return ret;
	fd = open("/proc/thread-self/make-it-fail", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, fail, 1, 0) != 1)
		ret = -EPROTO;
	else
		ret = reset(t);
	if (fd < 0 || pwrite(fd, "0", 1, 0) != 1)
		ret = -EPROTO;
	close(fd);
	return ret ?: ap_file_write(FAULTS "failslab/probability", "0");
}

/*
 * The reset drops the registrations. To record their page takes no memory. The first
 * time nothing fails, but the code is brought into memory: a page fault that finds no
 * memory is repeated for ever.
 */
TEST_F_TIMEOUT(fail_nth, released_page_is_reported_if_memory_runs_out, ENV_TIMEOUT)
{
	struct nth *t = &self->nth;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, log_start(t));
		EXPECT_EQ(0, reset_without_memory(t, i ? "1" : "0"));
		EXPECT_EQ(1, dirty_pages(t));
		EXPECT_EQ(0, dirty_pages(t));
		ASSERT_EQ(0, log_stop(t));
		ASSERT_EQ(0, restore_guest(t));
		expect_unchanged(_metadata, t);
	}
}

/* The same configuration again */
static int store_config(struct nth *t)
{
	return ap_mdev_write(t->fixture.env.dev.uuid, "ap_config", "%s", t->before.masks);
}

static int store_domain(struct nth *t, const char *attr)
{
	return ap_mdev_write(t->fixture.env.dev.uuid, attr, "0x%x",
			     t->fixture.env.pool.cdomains[0]);
}

/* Assign and unassign; a failed store is undone */
static int store_control_domain(struct nth *t)
{
	int ret;

	ret = store_domain(t, "assign_control_domain");
	if (ret)
		return ret;
	ret = store_domain(t, "unassign_control_domain");
	return ret && store_domain(t, "unassign_control_domain") ? -EPROTO : ret;
}

TEST_F_TIMEOUT(fail_nth, attributes_are_stored, ENV_TIMEOUT)
{
	TRY(ENV_RUNNING, store_config, STATE(RUNNING));
	TRY(ENV_RUNNING, store_control_domain, STATE(RUNNING));
}

static int set_event(struct nth *t)
{
	int device = t->fixture.env.dev.device, ret, off;

	ret = vfio_ap_set_event(device, VFIO_AP_REQ_IRQ_INDEX, t->event);
	if (ret)
		return ret;
	off = vfio_ap_set_event(device, VFIO_AP_REQ_IRQ_INDEX, -1);
	return off && vfio_ap_set_event(device, VFIO_AP_REQ_IRQ_INDEX, -1) ? -EPROTO : off;
}

static int get_info(struct nth *t)
{
	union info info;

	return info_get(t->fixture.env.dev.device, sizeof(info), &info);
}

TEST_F_TIMEOUT(fail_nth, get_info_and_set_irqs, ENV_TIMEOUT)
{
	struct nth *t = &self->nth;

	t->event = event_new();
	ASSERT_LE(0, t->event);
	/* One file more than when the fixture counted */
	record_counts(t);
	TRY(ENV_RUNNING, get_info, STATE(RUNNING));
	TRY(ENV_RUNNING, set_event, STATE(RUNNING));
	close(t->event);
}

/* The device is open afterwards, after a failure too */
static int reopen(struct nth *t)
{
	struct vfio_ap *dev = &t->fixture.env.dev;
	int ret;

	ret = vfio_ap_open_device(dev);
	if (!ret)
		return 0;
	vfio_ap_close_device(dev);
	return vfio_ap_open_device(dev) ? -EPROTO : ret;
}

static int close_first(struct nth *t)
{
	vfio_ap_close_device(&t->fixture.env.dev);
	return 0;
}

TEST_F_TIMEOUT(fail_nth, device_is_opened, ENV_TIMEOUT)
{
	TRY(ENV_RUNNING, reopen, STATE(RUNNING), .prepare = close_first);
}

TEST_HARNESS_MAIN
