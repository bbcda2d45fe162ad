// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: lifetimes. Sessions and files that end in any
 * order, at any point, again and again, and leave nothing behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

#define MODULE "vfio_ap"

ENV_FIXTURE(lifetime, ENV_GROUP_AND_CDEV, true)

/* Save through PRE_COPY, the guest runs again afterwards; 0 or a negative errno */
static int save_with_pre_copy(struct env *env, struct stream_buf *out)
{
	int fd, ret, back;

	stream_free(out);
	ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_PRE_COPY, &fd);
	if (ret)
		return ret;
	ret = env_read(fd, 0, out);
	if (ret == -ENOMSG)
		ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL);
	if (!ret)
		ret = env_read(fd, 0, out);
	back = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL);
	close(fd);
	return ret ?: back;
}

/* @times complete migrations, here and back; 0 or a negative errno */
static int migrate(struct env *env, unsigned int times)
{
	struct stream_buf out = {};
	int ret = 0;

	while (times-- && !ret) {
		ret = times % 2 ? env_save(env, &out) : save_with_pre_copy(env, &out);
		if (!ret && (out.len != env->stream.len ||
			     memcmp(out.data, env->stream.data, out.len)))
			ret = -EBADMSG;
		if (!ret)
			ret = env_resume(env, out.data, out.len, 0);
	}
	stream_free(&out);
	return ret;
}

TEST_F_TIMEOUT(lifetime, second_migration_equals_first, ENV_TIMEOUT)
{
	struct env_counts before;

	env_count(&self->env, &before);
	EXPECT_EQ(0, migrate(&self->env, 1));
	EXPECT_COUNTS(&self->env, &before);
	EXPECT_EQ(0, migrate(&self->env, 1));
	EXPECT_COUNTS(&self->env, &before);
}

TEST_F_TIMEOUT(lifetime, many_migrations_leave_nothing, ENV_TIMEOUT)
{
	struct env_counts before;

	env_count(&self->env, &before);
	EXPECT_EQ(0, migrate(&self->env, env_repeat(10)));
	EXPECT_COUNTS(&self->env, &before);
}

TEST_F_TIMEOUT(lifetime, many_failed_migrations_leave_nothing, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	unsigned int i, times = env_repeat(10);
	struct env_counts before;
	int fd;

	env_count(&self->env, &before);
	/* The payload length of END */
	s->data[s->len - 1] ^= 8;
	for (i = 0; i < times; i++) {
		ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, &fd));
		EXPECT_EQ(1, env_try_read(fd));
		ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		close(fd);
		EXPECT_EQ(-EINVAL, env_resume(&self->env, s->data, s->len, 0));
	}
	s->data[s->len - 1] ^= 8;
	EXPECT_COUNTS(&self->env, &before);
	EXPECT_EQ(0, migrate(&self->env, 1));
}

/* Close, open, remove and create in between: the driver keeps no data */
TEST_F_TIMEOUT(lifetime, used_devices_leave_nothing, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = {
		ENV_PRE_COPY, ENV_STOP_COPY, ENV_RESUMING_HALF, ENV_RESUMING_WHOLE, ENV_RESUMED,
	};
	struct env *env = &self->env;
	struct stream_buf out = {};
	struct env_counts before;
	int fd, ret;
	size_t i;

	env_count(&self->env, &before);
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++) {
		ASSERT_EQ(0, env_enter_stage(env, stages[i], &fd, &out));
		env_teardown(env);
		stream_free(&out);
		if (fd >= 0)
			close(fd);
		ASSERT_EQ(NULL, env_setup(env, variant->path, &ret));
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, env_stream(env));
		EXPECT_EQ(0, migrate(env, 1));
	}
	EXPECT_COUNTS(&self->env, &before);
}

/**
 * struct job - migrations in a thread of their own
 * @env: the device
 * @ret: 0 or a negative errno
 */
struct job {
	struct env env;
	int ret;
};

static void *migrate_job(void *arg)
{
	struct job *job = arg;

	job->ret = migrate(&job->env, 20);
	return NULL;
}

TEST_F_TIMEOUT(lifetime, two_devices_migrate_independently, ENV_TIMEOUT)
{
	struct job job = {};
	pthread_t thread;

	ASSERT_EQ(0, env_neighbour(&self->env, &job.env.dev, VFIO_AP_CDEV));
	ASSERT_EQ(0, env_stream(&job.env));
	EXPECT_NE(0, memcmp(&self->env.decoded.masks, &job.env.decoded.masks,
			    sizeof(job.env.decoded.masks)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, migrate_job, &job));
	EXPECT_EQ(0, migrate(&self->env, 20));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, job.ret);

	/* A session of the one is none of the other */
	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(job.env.dev.device));
	EXPECT_EQ(0, migrate(&job.env, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	vfio_ap_close(&job.env.dev);
	stream_free(&job.env.stream);
}

/**
 * struct reader - a thread that reads from PRE_COPY to the end
 * @fd: data file
 * @thread: the thread
 * @count: how often each byte value was read
 * @len: bytes that were read
 * @ret: result: 0 or a negative errno
 */
struct reader {
	int fd;
	pthread_t thread;
	size_t count[256];
	size_t len;
	int ret;
};

static void *reader_job(void *arg)
{
	struct reader *r = arg;
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	__u8 byte;
	ssize_t n;

	do {
		n = read(r->fd, &byte, 1);
		if (n > 0) {
			r->count[byte]++;
			r->len++;
		} else if (n < 0 && errno == ENOMSG) {
			/* Until there is more, or nothing any more */
			n = poll(&p, 1, -1);
		}
	} while (n > 0);
	r->ret = n < 0 ? -errno : 0;
	return NULL;
}

TEST_F_TIMEOUT(lifetime, two_threads_on_one_file_get_each_byte_once, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	struct reader r[2];
	size_t i, round;
	int fd;

	for (round = 0; round < 10; round++) {
		memset(r, 0, sizeof(r));
		ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, &fd));
		for (i = 0; i < 2; i++) {
			r[i].fd = fd;
			ASSERT_EQ(0, pthread_create(&r[i].thread, NULL, reader_job, &r[i]));
		}
		EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, pthread_join(r[i].thread, NULL));
			EXPECT_EQ(0, r[i].ret);
		}
		ASSERT_EQ(s->len, r[0].len + r[1].len);
		for (i = 0; i < s->len; i++)
			r[0].count[s->data[i]]--;
		for (i = 0; i < 256; i++)
			ASSERT_EQ(0U, r[0].count[i] + r[1].count[i]);
		ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		close(fd);
	}
}

/* Offsets at which a stream may break off: in, before and behind each part */
static size_t offsets(const struct stream *s, size_t *at)
{
	const size_t edges[] = {
		0, STREAM_HEADER_SIZE, s->config_at + STREAM_RECORD_SIZE,
		s->hwinfo_at, s->hwinfo_at + STREAM_RECORD_SIZE,
		s->hwinfo_at + STREAM_RECORD_SIZE + STREAM_HWROW_SIZE,
		s->end_at, s->end_at + STREAM_RECORD_SIZE, s->len,
	};
	size_t i, n = 0;

	for (i = 0; i < ARRAY_SIZE_OF(edges); i++) {
		if (edges[i])
			at[n++] = edges[i] - 1;
		at[n++] = edges[i];
		if (edges[i] < s->len)
			at[n++] = edges[i] + 1;
	}
	return n;
}

#define MAX_OFFSETS (3 * 9)

/* Read so much and no more, also where there is no more for now */
static int read_some(int fd, size_t len)
{
	__u8 buf[4096];
	size_t part;
	ssize_t n;

	while (len) {
		part = len < sizeof(buf) ? len : sizeof(buf);
		n = read(fd, buf, part);
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		len -= n;
	}
	return 0;
}

/* From PRE_COPY or STOP_COPY, or first the one and then the other */
static int begin_save(struct env *env, unsigned int kind, size_t len, int *fd)
{
	const size_t before = env->decoded.end_at;
	int ret;

	ret = vfio_mig_set(env->dev.device, kind == 1 ? VFIO_DEVICE_STATE_STOP_COPY :
			   VFIO_DEVICE_STATE_PRE_COPY, fd);
	if (ret || kind)
		return ret ?: kind == 1 ? read_some(*fd, len) :
		       vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL) ?:
		       read_some(*fd, len);
	return read_some(*fd, len < before ? len : before);
}

TEST_F_TIMEOUT(lifetime, save_can_be_cancelled_at_each_point, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	size_t at[MAX_OFFSETS], n, i;
	struct env_counts before;
	unsigned int kind;
	int fd;

	env_count(&self->env, &before);
	n = offsets(&env->decoded, at);
	for (i = 0; i < n; i++) {
		for (kind = 0; kind < 3; kind++) {
			ASSERT_EQ(0, begin_save(env, kind, at[i], &fd)) {
				TH_LOG("kind %u, %zu bytes", kind, at[i]);
			}
			if (i % 2)
				EXPECT_EQ(0, vfio_ap_reset(&env->dev));
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
			EXPECT_EQ(-ENODEV, env_try_read(fd));
			close(fd);
		}
		ASSERT_EQ(0, env_save(env, &out));
		ASSERT_EQ(env->stream.len, out.len);
		EXPECT_EQ(0, memcmp(env->stream.data, out.data, out.len));
	}
	stream_free(&out);
	EXPECT_COUNTS(&self->env, &before);
}

TEST_F_TIMEOUT(lifetime, resume_can_be_cancelled_at_each_point, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf *s = &env->stream;
	size_t at[MAX_OFFSETS], n, i;
	struct env_counts before;
	int fd;

	env_count(&self->env, &before);
	n = offsets(&env->decoded, at);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		ASSERT_EQ(0, env_write(fd, s->data, at[i], 0, NULL));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
		EXPECT_EQ(-ENODEV, env_try_write(fd));
		close(fd);
		EXPECT_EQ(0, env_resume(env, s->data, s->len, 0)) {
			TH_LOG("after %zu bytes", at[i]);
		}
	}
	EXPECT_COUNTS(&self->env, &before);
}

/* The same by closing, which takes more time: one point of each part */
TEST_F_TIMEOUT(lifetime, closing_cancels_at_each_point, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	const struct stream *d = &env->decoded;
	struct stream_buf *s = &env->stream;
	const size_t at[] = {
		0, 5, STREAM_HEADER_SIZE, d->config_at + 50, d->hwinfo_at, d->hwinfo_at + 20,
		d->end_at, d->end_at + 5, d->len,
	};
	char uuid[AP_UUID_SIZE];
	struct env_counts before;
	size_t i;
	int fd;

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	env_count(&self->env, &before);
	for (i = 0; i < 2 * ARRAY_SIZE_OF(at); i++) {
		if (i % 2) {
			ASSERT_EQ(0, begin_save(env, i / 2 % 3, at[i / 2], &fd));
		} else {
			ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
			ASSERT_EQ(0, env_write(fd, s->data, at[i / 2], 0, NULL));
		}
		vfio_ap_close(&env->dev);
		EXPECT_EQ(-ENODEV, i % 2 ? env_try_read(fd) : env_try_write(fd));
		close(fd);
		ASSERT_EQ(0, vfio_ap_open(&env->dev, uuid, variant->path));
		EXPECT_EQ(0, migrate(env, 1)) {
			TH_LOG("%s, %zu bytes", i % 2 ? "save" : "resume", at[i / 2]);
		}
	}
	EXPECT_COUNTS(&self->env, &before);
}

/* Each call on a file whose session and device are gone */
static void expect_dead_file(struct __test_metadata *_metadata, int fd, bool source)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	struct vfio_precopy_info info;
	char path[64], text[512];
	struct stat st;
	int i;

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(source ? -ENODEV : -EBADF, env_try_read(fd));
		EXPECT_EQ(source ? -EBADF : -ENODEV, env_try_write(fd));
		EXPECT_EQ(1, poll(&p, 1, 0));
		EXPECT_EQ(-EINVAL, vfio_precopy_info(fd, &info));
		EXPECT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(-1, lseek(fd, 0, SEEK_SET));
		EXPECT_EQ(ESPIPE, errno);
	}
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	EXPECT_LT(0, ap_file_read(path, text, sizeof(text)));
}

TEST_F_TIMEOUT(lifetime, files_outlive_session_device_and_mdev, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = {
		ENV_PRE_COPY_P2P, ENV_PRE_COPY, ENV_STOP_COPY, ENV_RESUMING_HALF,
		ENV_RESUMING_WHOLE,
	};
	struct env *env = &self->env;
	struct stream_buf out = {};
	int fd[ARRAY_SIZE_OF(stages)];
	long references;
	size_t i;

	/* Each session ends when the next begins, the last with the device */
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++)
		ASSERT_EQ(0, env_enter_stage(env, stages[i], &fd[i], &out));
	for (i = 0; i < ARRAY_SIZE_OF(stages) - 1; i++)
		expect_dead_file(_metadata, fd[i], env_stage_source(stages[i]));
	vfio_ap_close(&env->dev);
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++)
		expect_dead_file(_metadata, fd[i], env_stage_source(stages[i]));
	ASSERT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));
	references = env_module_references();
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++) {
		expect_dead_file(_metadata, fd[i], env_stage_source(stages[i]));
		close(fd[i]);
		/* Their code is in the module: each has a reference to it */
		if (references >= 0)
			EXPECT_EQ(--references, env_module_references());
	}
	stream_free(&out);
}

/* An open session, too, ends when the device goes, not when its file is used */
TEST_F_TIMEOUT(lifetime, each_file_of_open_session_outlives_mdev, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	enum env_stage stage;
	int fd, ret;

	for_each_env_stage(stage) {
		if (!env_stage_session(stage))
			continue;
		ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
		vfio_ap_close(&env->dev);
		ASSERT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));
		expect_dead_file(_metadata, fd, env_stage_source(stage));
		close(fd);
		ASSERT_EQ(NULL, env_setup(env, variant->path, &ret));
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, env_stream(env));
	}
	stream_free(&out);
}

/* A file's last user need not be who opened the device, nor be alive when it goes */
TEST_F_TIMEOUT(lifetime, file_outlives_process_that_opened_it, ENV_TIMEOUT)
{
	static const __u32 states[] = {
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY,
		VFIO_DEVICE_STATE_RESUMING,
	};
	int go[2], fd[ARRAY_SIZE_OF(states)], status;
	struct env *env = &self->env;
	size_t i;
	pid_t pid;
	char byte;

	ASSERT_EQ(0, pipe(go));
	for (i = 0; i < ARRAY_SIZE_OF(states); i++)
		ASSERT_EQ(0, env_enter(env, states[i], &fd[i]));
	pid = fork();
	ASSERT_NE(-1, pid);
	if (!pid) {
		/* All but the data files, so that the device can go */
		vfio_ap_close(&env->dev);
		close(go[1]);
		status = read(go[0], &byte, 1) != 1;
		for (i = 0; i < ARRAY_SIZE_OF(states); i++)
			status |= (i < 2 ? env_try_read(fd[i]) : env_try_write(fd[i])) != -ENODEV;
		_exit(status);
	}
	for (i = 0; i < ARRAY_SIZE_OF(states); i++)
		close(fd[i]);
	vfio_ap_close(&env->dev);
	EXPECT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));
	EXPECT_EQ(1, write(go[1], "g", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(go[0]);
	close(go[1]);
}

/* Who has inherited the device keeps the session */
TEST_F_TIMEOUT(lifetime, session_ends_with_last_user_of_device, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int go[2], fd, status;
	pid_t pid;
	char byte;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	pid = fork();
	ASSERT_NE(-1, pid);
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) != 1);
	}
	vfio_ap_close_device(&env->dev);
	EXPECT_EQ(1, env_try_read(fd));
	EXPECT_EQ(1, write(go[1], "g", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-ENODEV, env_try_read(fd));
	close(fd);
	close(go[0]);
	close(go[1]);
}

static int delete_module(void)
{
	return syscall(__NR_delete_module, MODULE, O_NONBLOCK) ? -errno : 0;
}

TEST_F_TIMEOUT(lifetime, module_stays_as_long_as_file_is_open, ENV_TIMEOUT)
{
	static const __u32 states[] = {
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY,
		VFIO_DEVICE_STATE_RESUMING,
	};
	struct env *env = &self->env;
	int fd, ret;
	size_t i;

	if (!ap_control_present())
		SKIP(return, "unloads the module: not where it may be in use by others");
	if (env_module_references() < 0)
		SKIP(return, "no /sys/module/" MODULE "/refcnt: it is built in or can not go");
	if (system("modprobe -n " MODULE))
		SKIP(return, "could not load the module again: modprobe does not find it");
	for (i = 0; i < ARRAY_SIZE_OF(states); i++) {
		ASSERT_EQ(0, env_enter(env, states[i], &fd));
		env_teardown(env);
		EXPECT_EQ(1, env_module_references());
		EXPECT_EQ(-EWOULDBLOCK, delete_module());
		EXPECT_EQ(-ENODEV, i < 2 ? env_try_read(fd) : env_try_write(fd));
		close(fd);
		EXPECT_EQ(0, env_module_references());
		if (i == ARRAY_SIZE_OF(states) - 1) {
			EXPECT_EQ(0, delete_module());
			ASSERT_EQ(0, system("modprobe " MODULE));
		}
		ASSERT_EQ(NULL, env_setup(env, variant->path, &ret));
		ASSERT_EQ(0, ret);
	}
	EXPECT_EQ(0, env_stream(env));
}

/*
 * An eventfd has a number, the lowest that is free, which it keeps as long as
 * anybody has a reference to it: that of a driver shows in nothing else.
 */
static int eventfd_id(int event)
{
	char path[64], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", event);
	if (ap_file_read(path, text, sizeof(text)) < 0)
		return -errno;
	at = strstr(text, "eventfd-id:");
	return at ? (int)strtol(at + strlen("eventfd-id:"), NULL, 10) : -ENOENT;
}

/* Whether a new eventfd would get one of the numbers; each counted once */
static unsigned int reused(const int *ids, unsigned int nr)
{
	unsigned int i, j, n = 0;
	int event[16];

	for (i = 0; i < nr; i++) {
		event[i] = eventfd(0, EFD_CLOEXEC);
		for (j = 0; j < nr; j++)
			n += eventfd_id(event[i]) == ids[j];
	}
	for (i = 0; i < nr; i++)
		close(event[i]);
	return n;
}

/* Give the device an eventfd for each index, keep none; their numbers */
static int register_events(int device, int *ids, unsigned int nr)
{
	int event[16], ret = 0;
	unsigned int i;

	/* All before the first is given away: that may set a number free */
	for (i = 0; i < nr; i++) {
		event[i] = eventfd(0, EFD_CLOEXEC);
		ids[i] = eventfd_id(event[i]);
		if (ids[i] < 0)
			ret = ids[i];
	}
	for (i = 0; i < nr; i++) {
		ret = ret ?: vfio_ap_set_event(device, i, event[i]);
		close(event[i]);
	}
	return ret;
}

TEST_F_TIMEOUT(lifetime, eventfds_are_released_at_close, ENV_TIMEOUT)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct env *env = &self->env;
	unsigned int nr, tries, again = 0;
	char uuid[AP_UUID_SIZE];
	int ids[16];

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	ASSERT_EQ(0, ioctl(self->device, VFIO_DEVICE_GET_INFO, &info));
	nr = info.num_irqs;
	ASSERT_LE(2U, nr);
	ASSERT_GE(ARRAY_SIZE_OF(ids), nr);
	/* Somebody else on the host may be faster with a number, not each time */
	for (tries = 0; tries < 5 && again != nr; tries++) {
		ASSERT_EQ(0, register_events(env->dev.device, ids, nr));
		EXPECT_EQ(0U, reused(ids, nr));
		vfio_ap_close(&env->dev);
		again = reused(ids, nr);
		ASSERT_EQ(0, vfio_ap_open(&env->dev, uuid, variant->path));
	}
	EXPECT_EQ(nr, again);
}

TEST_F_TIMEOUT(lifetime, eventfds_are_released_when_they_are_replaced, ENV_TIMEOUT)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	unsigned int nr, tries, i, again[2] = {};
	int first[16], second[16];

	ASSERT_EQ(0, ioctl(self->device, VFIO_DEVICE_GET_INFO, &info));
	nr = info.num_irqs;
	ASSERT_GE(ARRAY_SIZE_OF(first), nr);
	for (tries = 0; tries < 5 && (again[0] != nr || again[1] != nr); tries++) {
		ASSERT_EQ(0, register_events(self->device, first, nr));
		ASSERT_EQ(0, register_events(self->device, second, nr));
		again[0] = reused(first, nr);
		EXPECT_EQ(0U, reused(second, nr));
		for (i = 0; i < nr; i++)
			ASSERT_EQ(0, vfio_ap_set_event(self->device, i, -1));
		again[1] = reused(first, nr) + reused(second, nr);
	}
	EXPECT_EQ(nr, again[0]);
	EXPECT_EQ(nr, again[1]);
}

TEST_HARNESS_MAIN
