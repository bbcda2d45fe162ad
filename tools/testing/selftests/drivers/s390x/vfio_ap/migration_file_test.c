// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: the data file, its lifetime, and concurrent users.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/env.h"
#include "lib/trap.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

/* Seconds for a test that hangs if a stuck thread delays others */
#define STUCK_TIMEOUT 300

ENV_FIXTURE(file, ENV_CDEV, true)

/* The stream has the guest's resources and the hardware data of the AP bus */
TEST_F_TIMEOUT(file, stream_holds_configuration_and_hardware, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream *s = &env->decoded;
	unsigned int i, apid;

	EXPECT_EQ(0, memcmp(&env->masks, &s->masks, sizeof(s->masks)));
	ASSERT_EQ(env->pool.nr_adapters, s->nr_rows);
	for (i = 0; i < s->nr_rows; i++) {
		apid = s->rows[i].apid;
		EXPECT_EQ(env->pool.adapters[i], apid);
		EXPECT_EQ(ap_card_attr(apid, "raw_hwtype"),
			  (long)hwinfo_get(s->rows[i].info, STREAM_HW_AT));
		/* The field is one less than the depth */
		EXPECT_EQ(ap_card_attr(apid, "depth"),
			  (long)hwinfo_get(s->rows[i].info, STREAM_HW_QD) + 1);
	}
}

TEST_F_TIMEOUT(file, reads_of_any_size_give_same_bytes, ENV_TIMEOUT)
{
	static const size_t chunks[] = { 1, 2, 7, 15, 16, 17, 64, 4096, STREAM_MAX_SIZE };
	struct env *env = &self->env;
	struct stream_buf out = {};
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE_OF(chunks); i++) {
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
		EXPECT_EQ(0, env_read(fd, chunks[i], &out));
		ASSERT_EQ(env->stream.len, out.len);
		EXPECT_EQ(0, memcmp(env->stream.data, out.data, out.len));
		/* The end is permanent */
		EXPECT_EQ(0, env_try_read(fd));
		EXPECT_EQ(0, env_try_read(fd));
		close(fd);
		stream_free(&out);
	}
}

TEST_F_TIMEOUT(file, writes_of_any_size_are_accepted, ENV_TIMEOUT)
{
	static const size_t chunks[] = { 1, 2, 7, 15, 16, 17, 64, 0 };
	struct stream_buf *s = &self->env.stream;
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(chunks); i++) {
		EXPECT_EQ(0, env_resume(&self->env, s->data, s->len, chunks[i])) {
			TH_LOG("pieces of %zu", chunks[i]);
		}
	}
}

TEST_F_TIMEOUT(file, writes_of_random_sizes_are_accepted, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	unsigned int seed = time(NULL), i;
	size_t at, len;
	int fd;

	TH_LOG("seed %u", seed);
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
		for (at = 0; at < s->len; at += len) {
			len = 1 + rand_r(&seed) % (i + 1);
			if (len > s->len - at)
				len = s->len - at;
			ASSERT_EQ((ssize_t)len, write(fd, s->data + at, len));
		}
		ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		close(fd);
	}
}

TEST_F_TIMEOUT(file, vectors_of_buffers_are_accepted, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	__u8 in[3][50];
	struct iovec iov[] = {
		{ s->data, 5 }, { s->data + 5, 0 }, { s->data + 5, 20 },
		{ s->data + 25, s->len - 25 },
	};
	struct iovec back[] = {
		{ in[0], sizeof(in[0]) }, { in[1], sizeof(in[1]) }, { in[2], sizeof(in[2]) },
	};
	int fd;

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	ASSERT_EQ((ssize_t)sizeof(in), readv(fd, back, ARRAY_SIZE_OF(back)));
	EXPECT_EQ(0, memcmp(in, s->data, sizeof(in)));
	close(fd);

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ((ssize_t)s->len, writev(fd, iov, ARRAY_SIZE_OF(iov)));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
}

/* Earlier code took nothing for a header, or dereferenced an empty buffer */
TEST_F_TIMEOUT(file, zero_length_reads_and_writes, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	struct stream_buf out = {};
	int fd;

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(0, write(fd, s->data, 0));
	EXPECT_EQ(0, env_write(fd, s->data, 5, 0, NULL));
	EXPECT_EQ(0, write(fd, s->data + 5, 0));
	EXPECT_EQ(0, env_write(fd, s->data + 5, s->len - 5, 0, NULL));
	EXPECT_EQ(0, write(fd, s->data, 0));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(0, read(fd, &out, 0));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	EXPECT_EQ(s->len, out.len);
	stream_free(&out);
	close(fd);
}

/* States whose file is read */
static const __u32 saving[] = {
	VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_STOP_COPY,
};

TEST_F_TIMEOUT(file, seek_and_pread_fail, ENV_TIMEOUT)
{
	__u8 byte = 'V';
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE_OF(saving); i++) {
		ASSERT_EQ(0, env_enter(&self->env, saving[i], &fd));
		EXPECT_EQ(-1, pread(fd, &byte, 1, 0));
		EXPECT_EQ(ESPIPE, errno);
		EXPECT_EQ(-1, lseek(fd, 0, SEEK_SET));
		EXPECT_EQ(ESPIPE, errno);
		close(fd);
	}
	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, 0));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(ESPIPE, errno);
	close(fd);
}

TEST_F_TIMEOUT(file, wrong_direction_is_refused, ENV_TIMEOUT)
{
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE_OF(saving); i++) {
		ASSERT_EQ(0, env_enter(&self->env, saving[i], &fd));
		EXPECT_EQ(-EBADF, env_try_write(fd));
		EXPECT_EQ(1, env_try_read(fd));
		EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD) & FD_CLOEXEC);
		close(fd);
	}
	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-EBADF, env_try_read(fd));
	EXPECT_EQ(1, env_try_write(fd));
	EXPECT_EQ(O_WRONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

/* A fault loses no byte and doubles none: the position moves only by success */
TEST_F_TIMEOUT(file, bad_address_loses_no_byte, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	struct stream_buf out = {};
	long page = sysconf(_SC_PAGESIZE);
	size_t at, len, i;
	bool pre_copy;
	ssize_t n;
	__u8 *two;
	int fd;

	two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, two);
	ASSERT_EQ(0, mprotect(two + page, page, PROT_NONE));

	for (i = 0; i < 2 * ARRAY_SIZE_OF(saving); i++) {
		/* In the header, or from it into the first record */
		at = i % 2 ? 1 : 10;
		pre_copy = saving[i / 2] != VFIO_DEVICE_STATE_STOP_COPY;
		ASSERT_EQ(0, env_enter(&self->env, saving[i / 2], &fd));
		ASSERT_EQ((ssize_t)at, read(fd, two, at));
		EXPECT_EQ(-1, read(fd, two + page, 10));
		EXPECT_EQ(EFAULT, errno);
		/* The second half of this buffer is not writable */
		n = read(fd, two + page - 10, 20);
		if (n < 0) {
			EXPECT_EQ(EFAULT, errno);
			n = 0;
		}
		EXPECT_LE(n, 10);
		EXPECT_EQ(0, memcmp(two + page - 10, s->data + at, n));
		EXPECT_EQ(pre_copy ? -ENOMSG : 0, env_read(fd, 0, &out));
		len = pre_copy ? self->env.decoded.end_at : s->len;
		ASSERT_EQ(len - at - n, out.len);
		EXPECT_EQ(0, memcmp(s->data + at + n, out.data, out.len));
		stream_free(&out);
		close(fd);
	}

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(0, env_write(fd, s->data, 10, 0, NULL));
	EXPECT_EQ(-1, write(fd, two + page, 10));
	EXPECT_EQ(EFAULT, errno);
	memcpy(two + page - 10, s->data + 10, 10);
	n = write(fd, two + page - 10, 20);
	if (n < 0) {
		EXPECT_EQ(EFAULT, errno);
		n = 0;
	}
	EXPECT_LE(n, 10);
	EXPECT_EQ(0, env_write(fd, s->data + 10 + n, s->len - 10 - n, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
}

/* A guest that runs again must not be rewritten through a file kept open */
TEST_F_TIMEOUT(file, file_is_dead_after_arc_out, ENV_TIMEOUT)
{
	static const struct {
		__u32 in, out;
		int read, write;
	} arcs[] = {
		{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RUNNING, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RUNNING, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RESUMING, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_RUNNING_P2P, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_RUNNING, -ENODEV, -EBADF },
		{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP, -EBADF, -ENODEV },
		{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_RUNNING, -EBADF, -ENODEV },
		{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP_COPY, -EBADF, -ENODEV },
	};
	struct stream_buf *s = &self->env.stream;
	struct pollfd p;
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE_OF(arcs); i++) {
		ASSERT_EQ(0, env_enter(&self->env, arcs[i].in, &fd));
		if (arcs[i].in == VFIO_DEVICE_STATE_RESUMING)
			ASSERT_EQ(0, env_write(fd, s->data, s->len, 0, NULL));
		ASSERT_EQ(0, vfio_mig_set(self->device, arcs[i].out, NULL));
		EXPECT_EQ(arcs[i].read, env_try_read(fd));
		EXPECT_EQ(arcs[i].write, env_try_write(fd));
		/* A poll of it does not sleep for ever */
		p = (struct pollfd){ .fd = fd, .events = POLLIN | POLLOUT };
		EXPECT_EQ(1, poll(&p, 1, 0));
		close(fd);
	}
}

TEST_F_TIMEOUT(file, file_outlives_device_and_mdev, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int in, out;

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &in));
	vfio_ap_close_device(&env->dev);
	EXPECT_EQ(-ENODEV, env_try_read(in));
	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(0), variant->path));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &out));
	EXPECT_EQ(1, env_try_write(out));
	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));
	EXPECT_EQ(-ENODEV, env_try_read(in));
	EXPECT_EQ(-ENODEV, env_try_write(out));
	close(in);
	close(out);
}

/* Closing, and using, an old file is nothing to the session after it */
TEST_F_TIMEOUT(file, old_file_does_not_disturb_new_session, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf *s = &env->stream;
	struct stream_buf out = {};
	int old, new;

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &old));
	EXPECT_EQ(1, env_try_read(old));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &new));
	EXPECT_EQ(-ENODEV, env_try_read(old));
	EXPECT_EQ(0, env_read(new, 1, &out));
	close(old);
	EXPECT_EQ(0, env_try_read(new));
	ASSERT_EQ(s->len, out.len);
	EXPECT_EQ(0, memcmp(s->data, out.data, out.len));
	close(new);
	stream_free(&out);

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &old));
	EXPECT_EQ(0, env_write(old, s->data, 100, 0, NULL));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &new));
	EXPECT_EQ(0, env_write(new, s->data, 50, 0, NULL));
	EXPECT_EQ(-ENODEV, env_write(old, s->data + 100, s->len - 100, 0, NULL));
	close(old);
	EXPECT_EQ(0, env_write(new, s->data + 50, s->len - 50, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(new);
}

TEST_F_TIMEOUT(file, closing_file_does_not_end_session, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int fd;

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	close(fd);
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));

	/* With all the data there, the arc needs no file */
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	close(fd);
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
}

TEST_F_TIMEOUT(file, truncated_stream_is_not_accepted, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf *s = &env->stream;
	const size_t cuts[] = {
		1, 4, STREAM_HEADER_SIZE - 1, STREAM_HEADER_SIZE, env->decoded.config_at + 4,
		env->decoded.config_at + 8, env->decoded.hwinfo_at - 1, env->decoded.hwinfo_at,
		env->decoded.hwinfo_at + 8, env->decoded.end_at - 1, env->decoded.end_at,
		env->decoded.end_at + 1, s->len - 4, s->len - 1,
	};
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE_OF(cuts); i++) {
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		ASSERT_EQ(0, env_write(fd, s->data, cuts[i], 0, NULL));
		EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL)) {
			TH_LOG("cut after %zu bytes", cuts[i]);
		}
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
		/* The rest may come yet, or a reset ends it */
		if (i % 2) {
			EXPECT_EQ(0, env_write(fd, s->data + cuts[i], s->len - cuts[i], 0, NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		} else {
			EXPECT_EQ(0, vfio_ap_reset(&env->dev));
			EXPECT_EQ(-ENODEV, env_try_write(fd));
		}
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
		close(fd);
	}
}

TEST_F_TIMEOUT(file, process_reads_while_another_changes_state, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int go[2], got[2], fd, status;
	struct stream_buf out = {};
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(got));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	child = fork();
	ASSERT_NE(-1, child);
	if (!child) {
		close(go[1]);
		/* Without the device the rest of the process does not count */
		status = env_read(fd, 3, &out) || out.len != env->stream.len ||
			 memcmp(out.data, env->stream.data, out.len);
		if (write(got[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1)
			status = 2;
		else if (env_try_read(fd) != -ENODEV)
			status = 3;
		_exit(status);
	}
	close(go[0]);
	close(got[1]);
	close(fd);
	EXPECT_EQ(1, read(got[0], &byte, 1));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(1, write(go[1], "g", 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/**
 * struct job - one thread at a data file
 * @fd: the file
 * @chunk: bytes at once
 * @data: bytes to write
 * @len: of @data, or bytes read
 * @count: how often each byte value was read
 * @ret: result of the thread: 0 or a negative errno
 */
struct job {
	int fd;
	size_t chunk;
	const __u8 *data;
	size_t len;
	size_t count[256];
	int ret;
};

static void *read_job(void *arg)
{
	struct job *job = arg;
	__u8 buf[64];
	ssize_t n, i;

	do {
		n = read(job->fd, buf, job->chunk);
		for (i = 0; i < n; i++)
			job->count[buf[i]]++;
		if (n > 0)
			job->len += n;
	} while (n > 0);
	job->ret = n < 0 ? -errno : 0;
	return NULL;
}

static void *write_job(void *arg)
{
	struct job *job = arg;

	job->ret = env_write(job->fd, job->data, job->len, job->chunk, NULL);
	return NULL;
}

/* FMODE_STREAM files have no lock of the VFS: each byte once, none twice */
TEST_F_TIMEOUT(file, two_readers_get_each_byte_once, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	size_t want[256] = {}, i, round, rounds = env_repeat(10);
	struct job job[2];
	pthread_t thread;
	int fd;

	for (i = 0; i < s->len; i++)
		want[s->data[i]]++;
	for (round = 0; round < rounds; round++) {
		memset(job, 0, sizeof(job));
		ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
		for (i = 0; i < 2; i++) {
			job[i].fd = fd;
			job[i].chunk = 1 + i * 4;
		}
		ASSERT_EQ(0, pthread_create(&thread, NULL, read_job, &job[0]));
		read_job(&job[1]);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, job[0].ret);
		EXPECT_EQ(0, job[1].ret);
		ASSERT_EQ(s->len, job[0].len + job[1].len);
		for (i = 0; i < 256; i++)
			ASSERT_EQ(want[i], job[0].count[i] + job[1].count[i]);
		close(fd);
	}
}

/* Each of two writers of the same file spoils the stream of the other */
TEST_F_TIMEOUT(file, two_writers_do_no_harm, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	struct job job[2];
	size_t i, round, rounds = env_repeat(10);
	pthread_t thread;
	int fd, ret;

	for (round = 0; round < rounds; round++) {
		memset(job, 0, sizeof(job));
		ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
		for (i = 0; i < 2; i++) {
			job[i].fd = fd;
			job[i].chunk = 1 + i * round;
			job[i].data = s->data;
			job[i].len = s->len;
		}
		ASSERT_EQ(0, pthread_create(&thread, NULL, write_job, &job[0]));
		write_job(&job[1]);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		/* Either their bytes got mixed, or one came after the other's END */
		EXPECT_NE(0, job[0].ret | job[1].ret);
		/* The error sticks: both get it */
		ret = env_try_write(fd);
		EXPECT_LT(ret, 0);
		for (i = 0; i < 2; i++)
			if (job[i].ret)
				EXPECT_EQ(ret, job[i].ret);
		EXPECT_NE(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
		close(fd);
	}
	EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
	EXPECT_EQ(0, env_resume(&self->env, s->data, s->len, 0));
}

/* Sessions that end under a reader or a writer, at any moment */
TEST_F_TIMEOUT(file, sessions_end_under_readers_and_writers, ENV_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	pthread_t thread;
	struct job job;
	unsigned int round, rounds = env_repeat(24);
	int fd, ret;

	for (round = 0; round < rounds; round++) {
		memset(&job, 0, sizeof(job));
		job.chunk = 1;
		job.data = s->data;
		job.len = s->len;
		ASSERT_EQ(0, env_enter(&self->env, round % 2 ? saving[round / 2 % 3] :
				       VFIO_DEVICE_STATE_RESUMING, &fd));
		job.fd = fd;
		ASSERT_EQ(0, pthread_create(&thread, NULL, round % 2 ? read_job : write_job,
					    &job));
		ret = 0;
		if (round % 4 < 2)
			ret = vfio_ap_reset(&self->env.dev);
		else if (round % 2)
			ret = vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL);
		EXPECT_EQ(0, ret);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		/* Unless it got to the end, which may be a temporary one, before */
		if (job.ret && (job.ret != -ENOMSG || !(round % 2)))
			EXPECT_EQ(-ENODEV, job.ret);
		close(fd);
	}
}

/**
 * struct stuck - a thread that reads into, or writes out of, a trap
 * @trap: the trap
 * @fd: data file
 * @write: which
 * @len: bytes
 * @ret: result of read() or write()
 */
struct stuck {
	struct trap trap;
	int fd;
	bool write;
	size_t len;
	ssize_t ret;
};

static void *stuck_job(void *arg)
{
	struct stuck *stuck = arg;

	if (stuck->write)
		stuck->ret = write(stuck->fd, stuck->trap.mem, stuck->len);
	else
		stuck->ret = read(stuck->fd, stuck->trap.mem, stuck->len);
	if (stuck->ret < 0)
		stuck->ret = -errno;
	return NULL;
}

/* The other guest of the host migrates while this one's thread is stuck */
static int migrate_neighbour(struct vfio_ap *dev)
{
	struct stream_buf out = {};
	__u64 size;
	int fd, ret;

	ret = vfio_mig_data_size(dev->device, &size);
	if (!ret)
		ret = vfio_mig_set(dev->device, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	if (ret)
		return ret;
	ret = env_read(fd, 0, &out);
	close(fd);
	if (!ret)
		ret = vfio_mig_set(dev->device, VFIO_DEVICE_STATE_RESUMING, &fd);
	if (!ret) {
		ret = env_write(fd, out.data, out.len, 0, NULL);
		close(fd);
	}
	if (!ret)
		ret = vfio_mig_set(dev->device, VFIO_DEVICE_STATE_RUNNING, NULL);
	if (!ret)
		ret = vfio_ap_reset(dev);
	stream_free(&out);
	return ret;
}

TEST_F_TIMEOUT(file, stuck_reader_blocks_no_other_caller, STUCK_TIMEOUT)
{
	struct stuck stuck = { .len = 64 };
	struct stream_buf out = {};
	struct vfio_ap neighbour;
	pthread_t thread;
	__u64 size;
	int fd;

	ASSERT_EQ(0, env_neighbour(&self->env, &neighbour, variant->path));
	ASSERT_EQ(0, trap_set(&stuck.trap));
	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_STOP_COPY, &stuck.fd));
	ASSERT_EQ(0, pthread_create(&thread, NULL, stuck_job, &stuck));
	ASSERT_EQ(0, trap_wait(&stuck.trap));

	EXPECT_EQ(0, migrate_neighbour(&neighbour));
	EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	/* Nor its own device, which ends the session and opens the next */
	EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	EXPECT_EQ(self->env.stream.len, out.len);

	ASSERT_EQ(0, trap_open(&stuck.trap, "", 0));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	/* It began before the end of the session, but its bytes come too late */
	EXPECT_EQ(-ENODEV, stuck.ret);
	EXPECT_EQ(-ENODEV, env_try_read(stuck.fd));
	stream_free(&out);
	close(fd);
	close(stuck.fd);
	trap_free(&stuck.trap);
	vfio_ap_close(&neighbour);
}

/* A change by the host waits for no reader; the reader gets the error in the end */
TEST_F_TIMEOUT(file, stuck_reader_delays_no_change_by_host, STUCK_TIMEOUT)
{
	struct env *env = &self->env;
	unsigned int cdom = env->pool.cdomains[env->pool.nr_cdomains - 1];
	struct vfio_precopy_info info;
	struct stuck stuck = { .len = 64 };
	struct vfio_ap neighbour;
	pthread_t thread;

	if (!ap_control_present())
		SKIP(return, AP_NO_CONTROL);
	ASSERT_EQ(0, env_neighbour(env, &neighbour, variant->path));
	ASSERT_EQ(0, trap_set(&stuck.trap));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_PRE_COPY, &stuck.fd));
	ASSERT_EQ(0, pthread_create(&thread, NULL, stuck_job, &stuck));
	ASSERT_EQ(0, trap_wait(&stuck.trap));
	EXPECT_EQ(0, vfio_precopy_info(stuck.fd, &info));
	EXPECT_EQ(env->decoded.end_at, info.initial_bytes);

	EXPECT_EQ(0, ap_change("cdomain del %02x", cdom));
	EXPECT_EQ(0, migrate_neighbour(&neighbour));
	EXPECT_EQ(-ECANCELED, vfio_precopy_info(stuck.fd, &info));
	/* Another reader waits for the stuck one, unless its reads do not block */
	EXPECT_EQ(0, fcntl(stuck.fd, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-EAGAIN, env_try_read(stuck.fd));

	ASSERT_EQ(0, trap_open(&stuck.trap, "", 0));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-ECANCELED, stuck.ret);
	EXPECT_EQ(-ECANCELED, env_try_read(stuck.fd));
	EXPECT_EQ(VFIO_DEVICE_STATE_PRE_COPY, vfio_mig_state(self->device));
	EXPECT_EQ(0, ap_change("cdomain add %02x", cdom));
	close(stuck.fd);
	trap_free(&stuck.trap);
	vfio_ap_close(&neighbour);
}

TEST_F_TIMEOUT(file, stuck_writer_blocks_no_other_caller_and_fails, STUCK_TIMEOUT)
{
	struct stream_buf *s = &self->env.stream;
	struct stuck stuck = { .write = true, .len = s->len };
	struct vfio_ap neighbour;
	pthread_t thread;
	__u64 size;
	int fd;

	ASSERT_EQ(0, env_neighbour(&self->env, &neighbour, variant->path));
	ASSERT_EQ(0, trap_set(&stuck.trap));
	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &stuck.fd));
	ASSERT_EQ(0, pthread_create(&thread, NULL, stuck_job, &stuck));
	ASSERT_EQ(0, trap_wait(&stuck.trap));

	EXPECT_EQ(0, migrate_neighbour(&neighbour));
	EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
	EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(0, env_write(fd, s->data, 20, 0, NULL));

	ASSERT_EQ(0, trap_open(&stuck.trap, s->data, s->len));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-ENODEV, stuck.ret);
	EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, env_write(fd, s->data + 20, s->len - 20, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	close(stuck.fd);
	trap_free(&stuck.trap);
	vfio_ap_close(&neighbour);
}

TEST_F_TIMEOUT(file, stuck_reader_and_writer_do_not_keep_device_open, STUCK_TIMEOUT)
{
	struct env *env = &self->env;
	struct stuck stuck[2] = {
		{ .len = 64 },
		{ .len = env->stream.len, .write = true },
	};
	pthread_t thread;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, trap_set(&stuck[i].trap));
		ASSERT_EQ(0, env_enter(env, i ? VFIO_DEVICE_STATE_RESUMING :
				       VFIO_DEVICE_STATE_STOP_COPY, &stuck[i].fd));
		ASSERT_EQ(0, pthread_create(&thread, NULL, stuck_job, &stuck[i]));
		ASSERT_EQ(0, trap_wait(&stuck[i].trap));
		vfio_ap_close(&env->dev);
		if (i)
			EXPECT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));
		ASSERT_EQ(0, trap_open(&stuck[i].trap, env->stream.data, env->stream.len));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(-ENODEV, stuck[i].ret);
		close(stuck[i].fd);
		trap_free(&stuck[i].trap);
		if (!i)
			ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(0), variant->path));
	}
}

TEST_HARNESS_MAIN
