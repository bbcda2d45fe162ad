// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: the bytes that PRE_COPY sends while the guest runs, and the
 * end of the session when the host changes the guest's configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

/* Milliseconds to wait for an event */
#define PATIENCE (ENV_PATIENCE * 1000)

/**
 * struct source - a device that is saved, and the host's part in that
 * @env: the device; env.decoded has all resources of its guest
 * @fd: data file or -1
 * @out: bytes read from it
 * @start: length of a stream up to the end of HWINFO
 * @cdom: a control domain that comes and goes
 * @cdom_gone: the host does not have it now
 * @card: the last adapter
 * @card_gone: the host does not have it now
 */
struct source {
	struct env env;
	int fd;
	struct stream_buf out;
	size_t start;
	unsigned int cdom;
	bool cdom_gone;
	struct ap_card card;
	bool card_gone;
};

static const char *source_setup(struct source *src, enum vfio_ap_path path, int *ret)
{
	struct env *env = &src->env;
	const char *why;
	struct stream *s = &env->decoded;

	memset(src, 0, sizeof(*src));
	src->fd = -1;
	why = env_setup(env, path, ret);
	if (why || *ret)
		return why;
	*ret = env_stream(env);
	if (*ret)
		return NULL;
	src->start = STREAM_INITIAL_SIZE(s->nr_rows);
	src->cdom = env->pool.cdomains[env->pool.nr_cdomains - 1];
	ap_card_describe(&src->card, s->rows[s->nr_rows - 1].apid, s->rows[s->nr_rows - 1].info);
	return NULL;
}

static const char *source_setup_control(struct source *src, enum vfio_ap_path path, int *ret)
{
	return ap_control_present() ? source_setup(src, path, ret) : AP_NO_CONTROL;
}

/* Forget the session of before */
static void source_drop(struct source *src)
{
	if (src->fd >= 0)
		close(src->fd);
	src->fd = -1;
	stream_free(&src->out);
}

/* Restore the host, after a failure too */
static void source_teardown(struct source *src)
{
	source_drop(src);
	env_teardown(&src->env);
	if (src->cdom_gone)
		ap_change("cdomain add %02x", src->cdom);
	if (src->card_gone)
		ap_card_add(&src->card);
}

/* A new session, from any state; 0 or a negative errno */
static int source_begin(struct source *src, __u32 state)
{
	source_drop(src);
	return env_enter(&src->env, state, &src->fd);
}

/* The host takes the control domain away, or gives it back */
static int toggle_cdomain(struct source *src)
{
	int ret;

	ret = ap_change("cdomain %s %02x", src->cdom_gone ? "add" : "del", src->cdom);
	if (!ret)
		src->cdom_gone = !src->cdom_gone;
	return ret;
}

/* The same with the card */
static int toggle_card(struct source *src)
{
	int ret;

	ret = src->card_gone ? ap_card_add(&src->card) : ap_card_remove(&src->card);
	if (!ret)
		src->card_gone = !src->card_gone;
	return ret;
}

/* The beginning of the guest's present stream, by the tests' own encoder */
static void put_start(const struct source *src, struct stream_buf *b)
{
	const struct stream *s = &src->env.decoded;
	struct ap_masks masks = s->masks;

	if (src->cdom_gone)
		ap_mask_clear(masks.adm, src->cdom);
	if (src->card_gone)
		ap_mask_clear(masks.apm, src->card.apid);
	stream_free(b);
	stream_header(b);
	stream_config(b, &masks);
	stream_hwinfo(b, s->rows, s->nr_rows - src->card_gone);
}

/* Read @len bytes; 0 or a negative errno */
static int source_read(struct source *src, size_t len)
{
	__u8 buf[48];
	ssize_t n;

	for (; len; len -= n) {
		n = read(src->fd, buf, len < sizeof(buf) ? len : sizeof(buf));
		if (n <= 0)
			return n ? -errno : -ENODATA;
		stream_put(&src->out, buf, n);
	}
	return 0;
}

/* Read up to a temporary end, of which it is sure that it is one */
static int source_read_all(struct source *src)
{
	int ret = env_read(src->fd, 0, &src->out);

	return ret == -ENOMSG ? 0 : ret ?: -EPROTO;
}

/* Go to STOP_COPY, without a new file, and read to the end */
static int source_finish(struct source *src)
{
	int fd, ret;

	ret = vfio_mig_set(src->env.dev.device, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	if (ret)
		return ret;
	return fd >= 0 ? -EPROTO : env_read(src->fd, 0, &src->out);
}

static bool same_bytes(const struct stream_buf *a, const struct stream_buf *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

/* Whether the bytes read are the guest's present stream */
static bool stream_matches(const struct source *src)
{
	struct stream_buf want = {};
	bool right;

	put_start(src, &want);
	stream_end(&want);
	right = same_bytes(&want, &src->out);
	stream_free(&want);
	return right;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && p.revents & POLLIN;
}

/* Whether the ioctl returns this; other results are printed */
static bool info_is(int fd, __u64 initial)
{
	struct vfio_precopy_info info;
	int ret = vfio_precopy_info(fd, &info);

	if (!ret && info.initial_bytes == initial && !info.dirty_bytes && !info.flags)
		return true;
	ksft_print_msg("%d: initial %llu dirty %llu flags %#x, not %llu\n", ret,
		       info.initial_bytes, info.dirty_bytes, info.flags, initial);
	return false;
}

/* The negative errno of the ioctl, or 0 */
static int try_info(int fd)
{
	struct vfio_precopy_info info;

	return vfio_precopy_info(fd, &info);
}

/**
 * struct waiter - a thread in poll()
 * @thread: the thread
 * @fd: file that it polls
 * @tid: its number, 0 before it runs
 * @revents: result of poll(); 0 after a timeout
 */
struct waiter {
	pthread_t thread;
	int fd;
	atomic_int tid;
	short revents;
};

static void *wait_job(void *arg)
{
	struct waiter *w = arg;
	struct pollfd p = { .fd = w->fd, .events = POLLIN };

	w->tid = gettid();
	/* Not poll(), which may make another system call */
	if (syscall(__NR_poll, &p, 1, PATIENCE) == 1)
		w->revents = p.revents;
	return NULL;
}

static long elapsed_ms(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

/* 0 when the thread sleeps in poll(), or a negative errno */
static int waiter_start(struct waiter *w, int fd)
{
	struct timespec since;
	char path[64], text[256];
	int ret;

	w->fd = fd;
	w->tid = 0;
	w->revents = 0;
	ret = pthread_create(&w->thread, NULL, wait_job, w);
	if (ret)
		return -ret;
	clock_gettime(CLOCK_MONOTONIC, &since);
	while (elapsed_ms(&since) < PATIENCE) {
		sched_yield();
		if (!w->tid)
			continue;
		/* "running", or the number of the system call in which it sleeps */
		snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", w->tid);
		ret = ap_file_read(path, text, sizeof(text));
		if (ret < 0)
			break;
		if (strtol(text, NULL, 10) == __NR_poll)
			return 0;
	}
	pthread_join(w->thread, NULL);
	return ret < 0 ? ret : -ETIMEDOUT;
}

/* The events that have woken it, or 0 after a timeout */
static int waiter_join(struct waiter *w)
{
	return pthread_join(w->thread, NULL) ? 0 : w->revents;
}

/* Tests of both states */
FIXTURE(precopy) {
	struct source src;
	int device;
};

FIXTURE_VARIANT(precopy) {
	__u32 state;
};

FIXTURE_VARIANT_ADD(precopy, pre_copy) {
	.state = VFIO_DEVICE_STATE_PRE_COPY,
};

FIXTURE_VARIANT_ADD(precopy, pre_copy_p2p) {
	.state = VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

FIXTURE_SETUP(precopy)
{
	ENV_SETUP(source_setup, &self->src, VFIO_AP_CDEV);
	self->device = self->src.env.dev.device;
}

FIXTURE_TEARDOWN(precopy)
{
	source_teardown(&self->src);
}

TEST_F_TIMEOUT(precopy, initial_bytes_are_all_but_end, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct stream_buf want = {};
	int i;

	EXPECT_EQ(8 + 8 + 96 + 8 + 16 * src->env.decoded.nr_rows, src->start);
	ASSERT_EQ(0, source_begin(src, variant->state));
	while (src->out.len < src->start) {
		ASSERT_TRUE(info_is(src->fd, src->start - src->out.len));
		ASSERT_TRUE(readable(src->fd));
		ASSERT_EQ(0, source_read(src, 1));
	}
	put_start(src, &want);
	EXPECT_TRUE(same_bytes(&want, &src->out));

	/* A temporary end, however often one asks */
	for (i = 0; i < 3; i++) {
		EXPECT_TRUE(info_is(src->fd, 0));
		EXPECT_FALSE(readable(src->fd));
		EXPECT_EQ(-ENOMSG, env_try_read(src->fd));
	}
	EXPECT_EQ((int)variant->state, vfio_mig_state(self->device));
	stream_free(&want);
}

/* All reads together return the stream of STOP_COPY alone */
TEST_F_TIMEOUT(precopy, stop_copy_appends_end_to_same_file, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	const size_t places[] = {
		0, 1, STREAM_HEADER_SIZE, STREAM_HEADER_SIZE + 1, 100, src->start - 1, src->start,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(places); i++) {
		ASSERT_EQ(0, source_begin(src, variant->state));
		ASSERT_EQ(0, source_read(src, places[i]));
		ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		EXPECT_TRUE(readable(src->fd));
		EXPECT_EQ(-EINVAL, try_info(src->fd));
		EXPECT_EQ(0, env_read(src->fd, i, &src->out));
		EXPECT_TRUE(same_bytes(&src->env.stream, &src->out)) {
			TH_LOG("after %zu bytes", places[i]);
		}
		/* The end is permanent, and wakes pollers */
		EXPECT_EQ(0, env_try_read(src->fd));
		EXPECT_EQ(0, env_try_read(src->fd));
		EXPECT_TRUE(readable(src->fd));
	}
	EXPECT_EQ(0, env_resume(&src->env, src->out.data, src->out.len, 0));
	EXPECT_EQ(-ENODEV, env_try_read(src->fd));
	EXPECT_EQ(-EINVAL, try_info(src->fd));
}

/* Refused while the guest still runs at the source, which then stays there */
TEST_F_TIMEOUT(precopy, destination_that_differs_refuses_before_end, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct vfio_ap other;
	size_t done;
	int fd;

	ASSERT_EQ(0, env_neighbour(&src->env, &other, VFIO_AP_CDEV));
	ASSERT_EQ(0, source_begin(src, variant->state));
	ASSERT_EQ(0, source_read_all(src));
	ASSERT_EQ(0, vfio_mig_set(other.device, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-ENXIO, env_write(fd, src->out.data, src->out.len, 1, &done));
	/* By the last byte of CONFIG */
	EXPECT_EQ((size_t)STREAM_HEADER_SIZE + STREAM_RECORD_SIZE + STREAM_CONFIG_SIZE - 1, done);
	EXPECT_EQ((int)variant->state, vfio_mig_state(self->device));
	EXPECT_EQ(-ENOMSG, env_try_read(src->fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	vfio_ap_close(&other);
}

/* Ways out of PRE_COPY that end the session */
enum way_out {
	OUT_RUNNING,
	OUT_RUNNING_P2P,
	OUT_STOP,
	OUT_RESUMING,
	OUT_RESET,
	OUT_CLOSE,
	NR_WAYS_OUT,
};

static int leave_session(struct source *src, enum way_out way)
{
	static const __u32 states[] = {
		[OUT_RUNNING] = VFIO_DEVICE_STATE_RUNNING,
		[OUT_RUNNING_P2P] = VFIO_DEVICE_STATE_RUNNING_P2P,
		[OUT_STOP] = VFIO_DEVICE_STATE_STOP,
		[OUT_RESUMING] = VFIO_DEVICE_STATE_RESUMING,
	};

	switch (way) {
	case OUT_RESET:
		return vfio_ap_reset(&src->env.dev);
	case OUT_CLOSE:
		vfio_ap_close_device(&src->env.dev);
		return 0;
	default:
		return vfio_mig_set(src->env.dev.device, states[way], NULL);
	}
}

TEST_F_TIMEOUT(precopy, end_of_session_wakes_pollers, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct waiter waiter;
	enum way_out way;
	int revents;

	for (way = 0; way < NR_WAYS_OUT; way++) {
		ASSERT_EQ(0, source_begin(src, variant->state));
		ASSERT_EQ(0, source_read_all(src));
		ASSERT_EQ(0, waiter_start(&waiter, src->fd));
		EXPECT_EQ(0, leave_session(src, way));
		revents = waiter_join(&waiter);
		EXPECT_EQ(POLLIN | POLLERR, revents & (POLLIN | POLLERR)) {
			TH_LOG("way %d", way);
		}
		EXPECT_EQ(-ENODEV, env_try_read(src->fd));
		EXPECT_EQ(-EINVAL, try_info(src->fd));
		EXPECT_TRUE(readable(src->fd));
	}
}

TEST_F_TIMEOUT(precopy, stop_copy_wakes_pollers, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct waiter waiter;

	ASSERT_EQ(0, source_begin(src, variant->state));
	ASSERT_EQ(0, source_read_all(src));
	ASSERT_EQ(0, waiter_start(&waiter, src->fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(POLLIN, waiter_join(&waiter) & (POLLIN | POLLERR));
	EXPECT_EQ(0, env_read(src->fd, 0, &src->out));
	EXPECT_TRUE(same_bytes(&src->env.stream, &src->out));
}

/* Tests of one state */
FIXTURE(file) {
	struct source src;
	int device;
};

FIXTURE_SETUP(file)
{
	ENV_SETUP(source_setup, &self->src, VFIO_AP_CDEV);
	self->device = self->src.env.dev.device;
}

FIXTURE_TEARDOWN(file)
{
	source_teardown(&self->src);
}

/* -errno of the ioctl with anything for an argument, or its result */
static int raw_info(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

TEST_F_TIMEOUT(file, arguments_of_precopy_info_are_checked, ENV_TIMEOUT)
{
	static const __u32 short_sizes[] = { 0, 4, 8, 16, sizeof(struct vfio_precopy_info) - 1 };
	static const unsigned long cmds[] = {
		0, VFIO_DEVICE_RESET, VFIO_DEVICE_FEATURE, VFIO_MIG_GET_PRECOPY_INFO + 1, ~0UL,
	};
	const long page = sysconf(_SC_PAGESIZE);
	struct source *src = &self->src;
	struct vfio_precopy_info *info;
	__u8 *mem;
	size_t i;

	mem = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mprotect(mem + page, page, PROT_NONE));
	info = (void *)(mem + page) - sizeof(*info);
	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));

	for (i = 0; i < ARRAY_SIZE_OF(short_sizes); i++) {
		*info = (struct vfio_precopy_info){ .argsz = short_sizes[i] };
		EXPECT_EQ(-EINVAL, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, info));
		EXPECT_EQ(0U, info->initial_bytes);
	}
	for (i = 0; i < ARRAY_SIZE_OF(cmds); i++) {
		info->argsz = sizeof(*info);
		EXPECT_EQ(-ENOTTY, raw_info(src->fd, cmds[i], info)) {
			TH_LOG("command %#lx", cmds[i]);
		}
		EXPECT_EQ(0U, info->initial_bytes);
	}
	EXPECT_EQ(-EFAULT, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, NULL));
	EXPECT_EQ(-EFAULT, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, mem + page));
	EXPECT_EQ(-EFAULT, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, (void *)info + 8));

	/* A larger one, of a newer user: the kernel does not touch the rest */
	info->argsz = 4096;
	EXPECT_EQ(0, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, info));
	EXPECT_EQ(4096U, info->argsz);
	EXPECT_EQ(src->start, info->initial_bytes);
	EXPECT_EQ(0U, info->dirty_bytes);

	/* Readable is not writable */
	ASSERT_EQ(0, mprotect(mem, page, PROT_READ));
	EXPECT_EQ(-EFAULT, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, info));
	ASSERT_EQ(0, mprotect(mem, page, PROT_READ | PROT_WRITE));

	/* Without the opt-in, flags are not ours; with it, they are output only */
	info->argsz = sizeof(*info);
	info->flags = ~0U;
	ASSERT_EQ(0, vfio_mig_opt_in(self->device));
	EXPECT_EQ(0, raw_info(src->fd, VFIO_MIG_GET_PRECOPY_INFO, info));
	EXPECT_EQ(0U, info->flags);
	/* None of all that has moved the position */
	EXPECT_TRUE(info_is(src->fd, src->start));
	munmap(mem, 2 * page);
}

TEST_F_TIMEOUT(file, precopy_info_belongs_to_pre_copy_states, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	int old, fd;

	/* A file that never was in PRE_COPY, and one that is written */
	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_STOP_COPY));
	EXPECT_EQ(-EINVAL, try_info(src->fd));
	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_RESUMING));
	EXPECT_EQ(-EINVAL, try_info(src->fd));
	EXPECT_EQ(0, vfio_ap_reset(&src->env.dev));

	ASSERT_EQ(0, env_enter(&src->env, VFIO_DEVICE_STATE_PRE_COPY, &old));
	EXPECT_EQ(0, try_info(old));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(-EINVAL, try_info(old));
	/* The state is right, but it is that of another session */
	ASSERT_EQ(0, env_enter(&src->env, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	EXPECT_EQ(-EINVAL, try_info(old));
	EXPECT_TRUE(info_is(fd, src->start));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY_P2P, NULL));
	EXPECT_TRUE(info_is(fd, src->start));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-EINVAL, try_info(fd));
	/* Also at the end of the file */
	EXPECT_EQ(0, env_read(fd, 0, &src->out));
	EXPECT_EQ(-EINVAL, try_info(fd));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(-EINVAL, try_info(fd));
	close(fd);
	close(old);
}

/* A temporary end is none that a nonblocking reader would have to wait for */
TEST_F_TIMEOUT(file, nonblocking_file, ENV_TIMEOUT)
{
	struct source *src = &self->src;

	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
	ASSERT_EQ(0, fcntl(src->fd, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-ENOMSG, env_read(src->fd, 7, &src->out));
	EXPECT_EQ(src->start, src->out.len);
	EXPECT_EQ(-ENOMSG, env_try_read(src->fd));
	EXPECT_EQ(0, source_finish(src));
	EXPECT_TRUE(same_bytes(&src->env.stream, &src->out));
	EXPECT_EQ(0, env_try_read(src->fd));
}

/* Two threads, until there is nothing for either, and until the end */
struct reader {
	pthread_t thread;
	int fd;
	size_t chunk;
	size_t len;
	size_t count[256];
	int ret;
};

static void *read_job(void *arg)
{
	struct reader *r = arg;
	__u8 buf[8];
	ssize_t n, i;

	while ((n = read(r->fd, buf, r->chunk)) > 0) {
		for (i = 0; i < n; i++)
			r->count[buf[i]]++;
		r->len += n;
	}
	r->ret = n < 0 ? -errno : 0;
	return NULL;
}

TEST_F_TIMEOUT(file, two_readers_get_each_byte_once, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct reader r[2];
	size_t want[256], i, k, round;

	for (round = 0; round < 10; round++) {
		memset(want, 0, sizeof(want));
		for (i = 0; i < src->start; i++)
			want[src->env.stream.data[i]]++;
		memset(r, 0, sizeof(r));
		ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
		for (k = 0; k < 2; k++) {
			r[k].fd = src->fd;
			r[k].chunk = 1 + k * round % 8;
			ASSERT_EQ(0, pthread_create(&r[k].thread, NULL, read_job, &r[k]));
		}
		for (k = 0; k < 2; k++) {
			ASSERT_EQ(0, pthread_join(r[k].thread, NULL));
			EXPECT_EQ(-ENOMSG, r[k].ret);
		}
		EXPECT_EQ(src->start, r[0].len + r[1].len);
		for (i = 0; i < 256; i++)
			ASSERT_EQ(want[i], r[0].count[i] + r[1].count[i]);
	}
}

/* AP has no peer-to-peer DMA: nothing but the state's name changes */
TEST_F_TIMEOUT(file, p2p_arcs_keep_session, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	size_t chunk = src->start / 8;
	__u32 state;
	int fd, i;

	ASSERT_EQ(0, env_enter(&src->env, VFIO_DEVICE_STATE_RUNNING_P2P, NULL));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY_P2P, &src->fd));
	ASSERT_LE(0, src->fd);
	for (i = 0; i < 9; i++) {
		state = i % 2 ? VFIO_DEVICE_STATE_PRE_COPY_P2P : VFIO_DEVICE_STATE_PRE_COPY;
		EXPECT_EQ(0, vfio_mig_set(self->device, state, &fd));
		EXPECT_EQ(-1, fd);
		EXPECT_EQ((int)state, vfio_mig_state(self->device));
		EXPECT_TRUE(info_is(src->fd, src->start - src->out.len));
		ASSERT_EQ(0, source_read(src, src->start - src->out.len < chunk ?
					 src->start - src->out.len : chunk));
	}
	EXPECT_EQ(-ENOMSG, env_try_read(src->fd));
	EXPECT_EQ(0, source_finish(src));
	EXPECT_TRUE(same_bytes(&src->env.stream, &src->out));
}

/* The host changes the configuration */
FIXTURE(change) {
	struct source src;
	int device;
};

FIXTURE_SETUP(change)
{
	ENV_SETUP(source_setup_control, &self->src, VFIO_AP_CDEV);
	self->device = self->src.env.dev.device;
}

FIXTURE_TEARDOWN(change)
{
	source_teardown(&self->src);
}

/* The session ends wherever the reader is, and the guest can go on or be stopped */
TEST_F_TIMEOUT(change, change_ends_session_at_each_read_position, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	const size_t places[] = { 0, 1, STREAM_HEADER_SIZE, 60, src->start - 1, src->start };
	struct waiter waiter;
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE_OF(places) && !_metadata->exit_code; i++) {
		ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
		ASSERT_EQ(0, source_read(src, places[i]));
		if (places[i] == src->start)
			ASSERT_EQ(0, waiter_start(&waiter, src->fd));
		ASSERT_EQ(0, i % 2 ? toggle_cdomain(src) : toggle_card(src));
		if (places[i] == src->start)
			EXPECT_EQ(POLLIN | POLLERR, waiter_join(&waiter) & (POLLIN | POLLERR));
		/* The last change leaves the host as it was */
		for (k = 0; k < 3; k++) {
			EXPECT_EQ(-ECANCELED, env_try_read(src->fd)) {
				TH_LOG("after %zu bytes", places[i]);
			}
			EXPECT_EQ(-ECANCELED, try_info(src->fd));
			EXPECT_TRUE(readable(src->fd));
			EXPECT_EQ(VFIO_DEVICE_STATE_PRE_COPY, vfio_mig_state(self->device));
			/* Undoing the change does not mend it */
			ASSERT_EQ(0, i % 2 ? toggle_cdomain(src) : toggle_card(src));
		}
		/* Half of them go on, half are stopped */
		if (i % 2) {
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
			EXPECT_EQ(-ECANCELED, env_try_read(src->fd));
			EXPECT_EQ(-EINVAL, try_info(src->fd));
		}
		EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		EXPECT_EQ(-ENODEV, env_try_read(src->fd));

		ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
		EXPECT_EQ(0, source_finish(src));
		EXPECT_TRUE(stream_matches(src));
		EXPECT_EQ(0, env_resume(&src->env, src->out.data, src->out.len, 0));
	}
}

/* PRECOPY_INFO returns the error of a failed session in PRE_COPY only */
TEST_F_TIMEOUT(change, failed_stop_copy_gives_no_precopy_info, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	int fd;

	ASSERT_EQ(0, env_enter(&src->env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	ASSERT_EQ(0, toggle_cdomain(src));
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	EXPECT_EQ(-EINVAL, try_info(fd));
	close(fd);
}

/* Scans of the AP bus, and changes of resources that the guest lacks, end no session */
TEST_F_TIMEOUT(change, unassigned_resources_end_no_session, ENV_TIMEOUT)
{
	struct source *src = &self->src;

	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
	ASSERT_EQ(0, source_read_all(src));
	EXPECT_EQ(0, ap_bus_rescan());
	EXPECT_EQ(0, ap_change("cdomain add f7"));
	EXPECT_EQ(0, ap_change("cdomain del f7"));
	EXPECT_FALSE(readable(src->fd));
	EXPECT_EQ(-ENOMSG, env_try_read(src->fd));
	EXPECT_EQ(0, source_finish(src));
	EXPECT_TRUE(same_bytes(&src->env.stream, &src->out));
}

TEST_F_TIMEOUT(change, device_request_ends_session, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct waiter waiter;
	int event, status;
	__u64 count;
	pid_t pid;

	event = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, event);
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_REQ_IRQ_INDEX, event));
	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
	ASSERT_EQ(0, source_read_all(src));
	ASSERT_EQ(0, waiter_start(&waiter, src->fd));
	pid = env_remove_in_child(src->env.dev.uuid);
	ASSERT_LT(0, pid);
	ASSERT_EQ((ssize_t)sizeof(count), read(event, &count, sizeof(count)));

	EXPECT_EQ(POLLIN | POLLERR, waiter_join(&waiter) & (POLLIN | POLLERR));
	EXPECT_EQ(-ECANCELED, env_try_read(src->fd));
	EXPECT_EQ(-ECANCELED, try_info(src->fd));
	EXPECT_EQ(VFIO_DEVICE_STATE_PRE_COPY, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-ECANCELED, env_try_read(src->fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(-EBUSY, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	EXPECT_EQ(-EBUSY, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY_P2P, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING_P2P, vfio_mig_state(self->device));
	vfio_ap_close(&src->env.dev);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-ENODEV, env_try_read(src->fd));
	close(event);
}

/**
 * struct collector - a thread that reads a file to its very end
 * @thread: the thread
 * @fd: data file
 * @seed: of the lengths that it asks for
 * @out: bytes that it read
 * @ret: how it ended: 0 or a negative errno
 */
struct collector {
	pthread_t thread;
	int fd;
	unsigned int seed;
	struct stream_buf out;
	int ret;
};

static void *collect_job(void *arg)
{
	struct collector *c = arg;
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	__u8 buf[64];
	ssize_t n;

	do {
		n = read(c->fd, buf, 1 + rand_r(&c->seed) % sizeof(buf));
		if (n > 0)
			stream_put(&c->out, buf, n);
		if (n < 0 && errno == ENOMSG) {
			n = poll(&p, 1, PATIENCE);
			if (!n)
				errno = ETIMEDOUT;
			n = n ?: -1;
		}
	} while (n > 0);
	c->ret = n < 0 ? -errno : 0;
	return NULL;
}

/* A change at any byte makes the next read return the error */
TEST_F_TIMEOUT(change, concurrent_change_fails_read, ENV_TIMEOUT)
{
	unsigned int seed = time(NULL), round;
	struct source *src = &self->src;
	struct collector c;

	TH_LOG("seed %u", seed);
	for (round = 0; round < 8; round++) {
		ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
		c = (struct collector){ .fd = src->fd, .seed = seed + round };
		ASSERT_EQ(0, pthread_create(&c.thread, NULL, collect_job, &c));
		ASSERT_EQ(0, round % 4 ? toggle_cdomain(src) : toggle_card(src));
		EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		ASSERT_EQ(0, pthread_join(c.thread, NULL));
		EXPECT_EQ(-ECANCELED, c.ret);
		stream_free(&c.out);
	}
}

/**
 * struct scan - a scan of the AP bus in another thread
 * @thread: the thread
 * @ended: it has ended
 * @ret: 0 or a negative errno
 */
struct scan {
	pthread_t thread;
	atomic_bool ended;
	int ret;
};

static void *scan_job(void *arg)
{
	struct scan *scan = arg;

	scan->ret = ap_bus_rescan();
	scan->ended = true;
	return NULL;
}

/*
 * A stream can be ended while a card is being plugged. If the card comes before
 * the end was read, read() returns the error.
 */
TEST_F_TIMEOUT(change, stop_copy_succeeds_while_hotplug_is_pending, ENV_TIMEOUT)
{
	struct source *src = &self->src;
	struct scan scan;
	long before;

	ASSERT_EQ(0, toggle_card(src));
	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
	ASSERT_EQ(0, source_read_all(src));
	before = ap_counter("tapq");
	ASSERT_EQ(0, ap_control("card add %s", src->card.spec));
	scan.ended = false;
	ASSERT_EQ(0, pthread_create(&scan.thread, NULL, scan_job, &scan));
	/* The bus looks at queues after it has announced the card, until it is plugged */
	while (ap_counter("tapq") == before && !scan.ended)
		sched_yield();
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	ASSERT_EQ(0, pthread_join(scan.thread, NULL));
	ASSERT_EQ(0, scan.ret);
	src->card_gone = false;
	EXPECT_EQ(-ECANCELED, env_try_read(src->fd));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	ASSERT_EQ(0, source_begin(src, VFIO_DEVICE_STATE_PRE_COPY));
	EXPECT_EQ(0, source_finish(src));
	EXPECT_TRUE(stream_matches(src));
}

TEST_HARNESS_MAIN
