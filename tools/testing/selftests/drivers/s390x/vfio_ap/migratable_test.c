// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: the attribute "migratable" of a mediated device, by which an
 * administrator keeps guests where they are, and its capability and event.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vfio_ap.h>

#include "client/client.h"
#include "lib/env.h"
#include "lib/info.h"
#include "lib/log.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

#define MATRIX_DIR	"/sys/devices/vfio_ap/matrix"
#define CREATE_FILE	MATRIX_DIR "/mdev_supported_types/vfio_ap-passthrough/create"
#define NOBODY		65534

/* Bytes that VFIO_DEVICE_GET_INFO needs to tell all */
#define INFO_ALL	(sizeof(struct vfio_device_info) + sizeof(struct vfio_device_info_cap_ap))

static const __u32 session_states[] = {
	VFIO_DEVICE_STATE_PRE_COPY,
	VFIO_DEVICE_STATE_PRE_COPY_P2P,
	VFIO_DEVICE_STATE_STOP_COPY,
	VFIO_DEVICE_STATE_RESUMING,
};

static const __u32 other_states[] = {
	VFIO_DEVICE_STATE_RUNNING,
	VFIO_DEVICE_STATE_RUNNING_P2P,
	VFIO_DEVICE_STATE_STOP,
};

static bool is_session(int state)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(session_states); i++)
		if (state == (int)session_states[i])
			return true;
	return false;
}

/* Threads do that at the same time, so the path is not in ap_mdev_path()'s buffer */
static const char *attribute_path(char *path, size_t size, const char *uuid)
{
	snprintf(path, size, MATRIX_DIR "/%s/migratable", uuid);
	return path;
}

/* One write(), of bytes that may be no text */
static int store_bytes(const char *uuid, const void *bytes, size_t len)
{
	char path[128];
	ssize_t n;
	int fd;

	fd = open(attribute_path(path, sizeof(path), uuid), O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, bytes, len);
	if (n < 0)
		n = -errno;
	else
		n = n == (ssize_t)len ? 0 : -EIO;
	close(fd);
	return n;
}

static int store(const char *uuid, const char *text)
{
	return store_bytes(uuid, text, strlen(text));
}

/* The value of the attribute, or a negative errno */
static int value(const char *uuid)
{
	char path[128], text[64];
	int ret;

	ret = ap_file_read(attribute_path(path, sizeof(path), uuid), text, sizeof(text));
	if (ret < 0)
		return ret;
	if (!strcmp(text, "0\n"))
		return 0;
	return strcmp(text, "1\n") ? -EBADMSG : 1;
}

/* The value in VFIO_DEVICE_GET_INFO, or a negative errno */
static int get_info_flag(int device)
{
	const struct vfio_device_info_cap_ap *cap;
	union info info;
	int ret;

	ret = info_get(device, INFO_ALL, &info);
	if (ret)
		return ret;
	cap = (const void *)info_cap(&info, VFIO_DEVICE_INFO_CAP_AP);
	return cap ? !!(cap->flags & VFIO_AP_INFO_MIGRATABLE) : -ENODATA;
}

/* A word of the features of the driver */
static bool has_feature(const char *word)
{
	char text[256], *rest = text, *name;

	if (ap_file_read(MATRIX_DIR "/features", text, sizeof(text)) < 0)
		return false;
	while ((name = strsep(&rest, "\n ")))
		if (!strcmp(name, word))
			return true;
	return false;
}

/* NULL, or the reason why there is nothing to test: a driver without the switch */
static const char *why_no_migratable(const char *uuid)
{
	if (has_feature("migratable") || !access(ap_mdev_path(uuid, "migratable"), F_OK))
		return NULL;
	return "this driver has no attribute 'migratable', each device can be migrated";
}

/* The attribute of a mediated device that is not open */
FIXTURE(attribute) {
	const char *uuid;
};

FIXTURE_SETUP(attribute)
{
	struct ap_pool pool;
	const char *why;

	why = ap_pool_get(&pool);
	if (why)
		SKIP(return, "%s", why);
	ap_mdev_remove_all();
	self->uuid = ap_mdev_uuid(0);
	/* ap_mdev_create() would set the attribute */
	ASSERT_EQ(0, ap_file_write(CREATE_FILE, self->uuid));
	why = why_no_migratable(self->uuid);
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(attribute)
{
	ap_mdev_remove_all();
}

TEST_F_TIMEOUT(attribute, new_device_is_not_migratable, ENV_TIMEOUT)
{
	const char *other = ap_mdev_uuid(1);

	EXPECT_EQ(0, value(self->uuid));
	ASSERT_EQ(0, store(self->uuid, "1"));
	EXPECT_EQ(1, value(self->uuid));
	ASSERT_EQ(0, ap_file_write(CREATE_FILE, other));
	EXPECT_EQ(0, value(other));
	EXPECT_EQ(1, value(self->uuid));

	ASSERT_EQ(0, ap_mdev_remove(self->uuid));
	ASSERT_EQ(0, ap_file_write(CREATE_FILE, self->uuid));
	EXPECT_EQ(0, value(self->uuid));
}

TEST_F_TIMEOUT(attribute, features_has_migratable, ENV_TIMEOUT)
{
	EXPECT_TRUE(has_feature("migratable"));
	EXPECT_TRUE(has_feature("guest_matrix"));
	EXPECT_TRUE(has_feature("hotplug"));
	EXPECT_TRUE(has_feature("ap_config"));
}

TEST_F_TIMEOUT(attribute, store_accepts_0_and_1, ENV_TIMEOUT)
{
	static const char * const texts[] = { "1", "0", "1\n", "0\n", "1", "1\n", "0", "0\n" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(texts); i++) {
		EXPECT_EQ(0, store(self->uuid, texts[i])) {
			TH_LOG("text %zu", i);
		}
		EXPECT_EQ(*texts[i] - '0', value(self->uuid));
	}
}

TEST_F_TIMEOUT(attribute, store_refuses_other_values, ENV_TIMEOUT)
{
	static const char * const texts[] = {
		"2", "3", "9", "-1", "-0", "+0", "+1", "00", "01", "10", "11", "000000000000",
		"0x0", "0x1", "0b1", "1.", "1.0", "1e0", "yes", "no", "y", "n", "Y", "N", "on",
		"off", "true", "false", "enabled", "one", " ", " 0", " 1", "0 ", "1 ", "\t1", "1\t",
		"\n", "\n0", "\n1", "0\n\n", "1\n\n", "1\n1", "0\n1", "1\n0", "1 0", "1\r\n", "1,",
		"1;", "\xb1", "\xf1", "4294967296", "4294967297", "18446744073709551616",
	};
	/* With their lengths: where a text would end there is more */
	static const struct {
		char bytes[4];
		size_t len;
	} raw[] = {
		{ { 0 }, 1 }, { { '0', 0 }, 2 }, { { '1', 0 }, 2 }, { { 0, '0' }, 2 },
		{ { 0, '1' }, 2 }, { { '0', 0, '\n' }, 3 }, { { '1', 0, '\n' }, 3 },
		{ { '1', '\n', 0 }, 3 }, { { '1', 0, '0' }, 3 }, { { '1', '\n', '1', 0 }, 4 },
	};
	char text[4096];
	size_t i, at;

	for (at = 0; at < 2; at++) {
		ASSERT_EQ(0, store(self->uuid, at ? "1" : "0"));
		for (i = 0; i < ARRAY_SIZE_OF(texts); i++) {
			EXPECT_EQ(-EINVAL, store(self->uuid, texts[i])) {
				TH_LOG("text \"%s\"", texts[i]);
			}
			EXPECT_EQ((int)at, value(self->uuid));
		}
		for (i = 0; i < ARRAY_SIZE_OF(raw); i++) {
			EXPECT_EQ(-EINVAL, store_bytes(self->uuid, raw[i].bytes, raw[i].len)) {
				TH_LOG("bytes %zu", i);
			}
			EXPECT_EQ((int)at, value(self->uuid));
		}
		memset(text, at ? '0' : '1', sizeof(text));
		EXPECT_EQ(-EINVAL, store_bytes(self->uuid, text, sizeof(text)));
		memset(text + 1, '\n', sizeof(text) - 1);
		EXPECT_EQ(-EINVAL, store_bytes(self->uuid, text, sizeof(text)));
		memset(text + 1, '\0', sizeof(text) - 1);
		EXPECT_EQ(-EINVAL, store_bytes(self->uuid, text, sizeof(text)));
		EXPECT_EQ((int)at, value(self->uuid));
		/* Nothing is nothing to sysfs, it asks no driver */
		EXPECT_EQ(0, store(self->uuid, ""));
		EXPECT_EQ((int)at, value(self->uuid));
	}
}

/* Who may be root's guest may not be root: _exit() status 0 if all is well */
static void try_as_nobody(const char *path)
{
	int fd;

	if (setgid(NOBODY) || setuid(NOBODY))
		_exit(1);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 || errno != EACCES)
		_exit(2);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	_exit(fd < 0 ? 3 : 0);
}

TEST_F_TIMEOUT(attribute, root_writes_and_everyone_reads, ENV_TIMEOUT)
{
	const char *path = ap_mdev_path(self->uuid, "migratable");
	struct stat st;
	pid_t child;
	int status;

	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(S_IFREG | 0644U, st.st_mode);
	EXPECT_EQ(0U, st.st_uid);
	EXPECT_EQ(0U, st.st_gid);

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		try_as_nobody(path);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* A device in use, by both ways to open one; it is migratable at first */
FIXTURE(migratable) {
	struct env env;
	const char *uuid;
	int device;
};

ENV_CDEV(migratable);

/* As env_setup(), with a stream; skips where there is no switch */
static const char *setup(struct env *env, enum vfio_ap_path path, int *ret)
{
	const char *why;

	why = env_setup(env, path, ret);
	if (why || *ret)
		return why;
	why = why_no_migratable(ap_mdev_uuid(0));
	if (why) {
		env_teardown(env);
		return why;
	}
	*ret = store(env->dev.uuid, "1");
	if (!*ret)
		*ret = env_stream(env);
	return NULL;
}

FIXTURE_SETUP(migratable)
{
	ENV_SETUP(setup, &self->env, variant->path);
	self->uuid = ap_mdev_uuid(0);
	self->device = self->env.dev.device;
}

FIXTURE_TEARDOWN(migratable)
{
	env_teardown(&self->env);
}

/* The result of the next open(): it changes if a descriptor leaks */
static int next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

TEST_F_TIMEOUT(migratable, zero_refuses_each_session, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	size_t from, to;
	int fd, unused;

	ASSERT_EQ(0, store(self->uuid, "0"));
	unused = next_fd();
	for (from = 0; from < ARRAY_SIZE_OF(other_states); from++) {
		ASSERT_EQ(0, env_enter(env, other_states[from], NULL));
		for (to = 0; to < ARRAY_SIZE_OF(session_states); to++) {
			EXPECT_EQ(-EPERM, vfio_mig_set(self->device, session_states[to], &fd)) {
				TH_LOG("%s > %s", vfio_mig_name(other_states[from]),
				       vfio_mig_name(session_states[to]));
			}
			EXPECT_EQ(-1, fd);
			/* The arcs before the one that begins a session were taken */
			EXPECT_EQ((int)env_state_refused(session_states[to]),
				  vfio_mig_state(self->device));
			EXPECT_EQ(unused, next_fd());
			ASSERT_EQ(0, env_enter(env, other_states[from], NULL));
		}
	}

	/* That it was the switch which refused: nothing else is in the way */
	ASSERT_EQ(0, store(self->uuid, "1"));
	for (from = 0; from < ARRAY_SIZE_OF(other_states); from++) {
		for (to = 0; to < ARRAY_SIZE_OF(session_states); to++) {
			ASSERT_EQ(0, env_enter(env, other_states[from], NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, session_states[to], &fd)) {
				TH_LOG("%s > %s", vfio_mig_name(other_states[from]),
				       vfio_mig_name(session_states[to]));
			}
			EXPECT_LE(0, fd);
			close(fd);
		}
	}
}

TEST_F_TIMEOUT(migratable, refusal_is_logged, ENV_TIMEOUT)
{
	int log = log_open();

	ASSERT_LE(0, log);
	ASSERT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(-EPERM, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	EXPECT_EQ(1U, log_count(log, "migration refused: the device is not migratable"));
	close(log);
}

TEST_F_TIMEOUT(migratable, zero_refuses_nothing_else, ENV_TIMEOUT)
{
	static const __u32 bad[] = {
		VFIO_DEVICE_STATE_ERROR, VFIO_DEVICE_STATE_NR, 0x7fffffff, 0xffffffff,
	};
	struct env *env = &self->env;
	__u64 flags_0, flags_1, size;
	size_t from, to;

	ASSERT_EQ(0, vfio_mig_flags(self->device, &flags_1));
	ASSERT_EQ(0, store(self->uuid, "0"));
	/* A user who looks before the administrator allows it sees the same */
	EXPECT_EQ(0, vfio_mig_flags(self->device, &flags_0));
	EXPECT_EQ(flags_1, flags_0);

	for (from = 0; from < ARRAY_SIZE_OF(other_states); from++) {
		for (to = 0; to < ARRAY_SIZE_OF(other_states); to++) {
			ASSERT_EQ(0, env_enter(env, other_states[from], NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, other_states[to], NULL));
			EXPECT_EQ((int)other_states[to], vfio_mig_state(self->device));
		}
		for (to = 0; to < ARRAY_SIZE_OF(bad); to++)
			EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, bad[to], NULL));
		EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
		EXPECT_EQ(env->stream.len, size);
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
	}
	/* The configuration can still be changed */
	EXPECT_EQ(0, ap_mdev_assign(self->uuid, &env->masks));
}

/* A stage's data file is closed, or not: a session is open all the same */
static void try_stage(struct __test_metadata *_metadata, struct env *env,
		      enum env_stage stage, bool close_file)
{
	const char *uuid = env->dev.uuid, *name = env_stage_name(stage);
	int want = env_stage_session(stage) ? -EBUSY : 0, fd;
	struct stream_buf out = {};

	ASSERT_EQ(0, store(uuid, "1"));
	ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out)) {
		TH_LOG("%s", name);
	}
	if (close_file && fd >= 0)
		close(fd);
	EXPECT_EQ(want, store(uuid, "0")) {
		TH_LOG("%s", name);
	}
	EXPECT_EQ(want ? 1 : 0, value(uuid));
	EXPECT_EQ(want, store(uuid, "0\n"));
	EXPECT_EQ(want ? 1 : 0, value(uuid));
	EXPECT_GT(0, store(uuid, "2"));
	EXPECT_EQ(0, store(uuid, "1"));
	EXPECT_EQ(0, store(uuid, "1\n"));
	EXPECT_EQ(1, value(uuid));
	EXPECT_EQ((int)env_stage_state(stage), vfio_mig_state(env->dev.device));
	if (!close_file && fd >= 0)
		close(fd);
	stream_free(&out);
}

TEST_F_TIMEOUT(migratable, store_fails_during_session, ENV_TIMEOUT)
{
	enum env_stage stage;

	for_each_env_stage(stage) {
		try_stage(_metadata, &self->env, stage, false);
		if (env_stage_session(stage))
			try_stage(_metadata, &self->env, stage, true);
	}
}

TEST_F_TIMEOUT(migratable, value_survives_close, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int i;

	for (i = 0; i < 2; i++) {
		vfio_ap_close(&env->dev);
		EXPECT_EQ(!i, value(self->uuid));
		ASSERT_EQ(0, vfio_ap_open(&env->dev, self->uuid, variant->path));
		EXPECT_EQ(!i, value(self->uuid));
		EXPECT_EQ(!i, get_info_flag(env->dev.device));
		EXPECT_EQ(i ? -EPERM : 0, vfio_mig_set(env->dev.device,
						       VFIO_DEVICE_STATE_STOP_COPY, NULL));
		EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL));
		ASSERT_EQ(0, store(self->uuid, "0"));
	}
	/* Changed while the device is closed */
	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, store(self->uuid, "1"));
	ASSERT_EQ(0, vfio_ap_open(&env->dev, self->uuid, variant->path));
	EXPECT_EQ(1, get_info_flag(env->dev.device));
	EXPECT_EQ(0, env_stream(env));
}

TEST_F_TIMEOUT(migratable, eventfd_is_signalled_once_for_each_change, ENV_TIMEOUT)
{
	static const char * const nothing[] = { "1", "1\n", "2", "yes", "", "1\n1", "-1" };
	int event, config, fd;
	size_t i;

	event = event_new();
	config = event_new();
	ASSERT_LE(0, event);
	ASSERT_LE(0, config);
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_CFG_CHG_IRQ_INDEX, config));
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, event));
	EXPECT_EQ(0, event_count(event));

	for (i = 0; i < ARRAY_SIZE_OF(nothing); i++) {
		store(self->uuid, nothing[i]);
		EXPECT_EQ(0, event_count(event)) {
			TH_LOG("text %zu", i);
		}
	}
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, store(self->uuid, i % 2 ? "1" : "0"));
		EXPECT_EQ(1, event_count(event));
	}
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, store(self->uuid, i % 2 ? "1\n" : "0\n"));
	EXPECT_EQ(4, event_count(event));

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	EXPECT_EQ(0, event_count(event));
	close(fd);
	EXPECT_EQ(0, event_count(config));
	close(event);
	close(config);
}

TEST_F_TIMEOUT(migratable, eventfd_can_be_replaced_and_removed, ENV_TIMEOUT)
{
	int first, second;

	first = event_new();
	second = event_new();
	ASSERT_LE(0, first);
	ASSERT_LE(0, second);
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, first));
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, second));
	ASSERT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(0, event_count(first));
	EXPECT_EQ(1, event_count(second));

	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, -1));
	ASSERT_EQ(0, store(self->uuid, "1"));
	EXPECT_EQ(0, event_count(second));
	EXPECT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, -1));

	/* All readers are closed, yet it can be signalled */
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, first));
	close(first);
	EXPECT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(0, value(self->uuid));

	/* The next user does not inherit the eventfd */
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, second));
	vfio_ap_close(&self->env.dev);
	EXPECT_EQ(0, store(self->uuid, "1"));
	ASSERT_EQ(0, vfio_ap_open(&self->env.dev, self->uuid, variant->path));
	EXPECT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(0, event_count(second));
	close(second);
}

/* As GET_INFO stays in its room at all, see info_test */
TEST_F_TIMEOUT(migratable, device_info_has_capability_if_argsz_suffices, ENV_TIMEOUT)
{
	const size_t own = sizeof(struct vfio_device_info);
	const struct vfio_device_info_cap_ap *cap;
	struct vfio_device_info *device;
	union info info;
	__u32 argsz;

	device = &info.device;
	for (argsz = INFO_MIN; argsz <= INFO_ALL + 16; argsz++) {
		ASSERT_EQ(0, info_get(self->device, argsz, &info)) {
			TH_LOG("argsz %u", argsz);
		}
		EXPECT_TRUE(!!(device->flags & VFIO_DEVICE_FLAGS_CAPS));
		if (argsz < INFO_ALL) {
			EXPECT_EQ(INFO_ALL, device->argsz);
			EXPECT_TRUE(info_untouched(&info, argsz < own ? argsz : own));
			if (argsz >= own)
				EXPECT_EQ(0U, device->cap_offset);
			continue;
		}
		EXPECT_EQ(argsz, device->argsz);
		EXPECT_TRUE(info_untouched(&info, INFO_ALL));
		EXPECT_EQ(1, info_nr_caps(&info));
		cap = (const void *)info_cap(&info, VFIO_DEVICE_INFO_CAP_AP);
		ASSERT_NE(NULL, cap);
		EXPECT_EQ(own, device->cap_offset);
		EXPECT_EQ(6, cap->header.id);
		EXPECT_EQ(1, cap->header.version);
		EXPECT_EQ(0U, cap->header.next);
		EXPECT_EQ((__u32)VFIO_AP_INFO_MIGRATABLE, cap->flags);
		EXPECT_EQ(0U, cap->reserved);
	}
	ASSERT_EQ(0, store(self->uuid, "0"));
	ASSERT_EQ(0, info_get(self->device, INFO_ALL, &info));
	cap = (const void *)info_cap(&info, VFIO_DEVICE_INFO_CAP_AP);
	ASSERT_NE(NULL, cap);
	EXPECT_EQ(0U, cap->flags);
	EXPECT_EQ(0U, cap->reserved);
	EXPECT_EQ(VFIO_AP_MIGRATABLE_IRQ_INDEX + 1U, device->num_irqs);
}

/* Room was promised that is not there */
TEST_F_TIMEOUT(migratable, device_info_at_end_of_memory, ENV_TIMEOUT)
{
	size_t page = sysconf(_SC_PAGESIZE), len;
	struct vfio_device_info *arg;
	__u8 *pages;

	pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, mprotect(pages + page, page, PROT_NONE));
	for (len = sizeof(*arg); len <= INFO_ALL; len += sizeof(__u32)) {
		arg = (void *)(pages + page - len);
		arg->argsz = INFO_ALL;
		EXPECT_EQ(len < INFO_ALL ? -1 : 0,
			  ioctl(self->device, VFIO_DEVICE_GET_INFO, arg)) {
			TH_LOG("%zu bytes", len);
		}
		if (len < INFO_ALL)
			EXPECT_EQ(EFAULT, errno);
	}
	/* Who did not promise it does not get it */
	for (len = INFO_MIN; len < INFO_ALL; len += sizeof(__u32)) {
		arg = (void *)(pages + page - len);
		arg->argsz = len;
		EXPECT_EQ(0, ioctl(self->device, VFIO_DEVICE_GET_INFO, arg)) {
			TH_LOG("%zu bytes", len);
		}
	}
	munmap(pages, 2 * page);
}

/* One device: sessions do not depend on the way in which it was opened */
FIXTURE(session) {
	struct env env;
	const char *uuid;
	int device;
};

FIXTURE_SETUP(session)
{
	ENV_SETUP(setup, &self->env, VFIO_AP_CDEV);
	self->uuid = ap_mdev_uuid(0);
	self->device = self->env.dev.device;
}

FIXTURE_TEARDOWN(session)
{
	env_teardown(&self->env);
}

/* Ways out of a session that are no arcs */
#define BY_RESET	0x100
#define BY_CLOSE	0x101

static int end_session(struct env *env, __u32 way)
{
	int ret;

	switch (way) {
	case BY_RESET:
		return vfio_ap_reset(&env->dev);
	case BY_CLOSE:
		vfio_ap_close(&env->dev);
		ret = value(env->dev.uuid) == 1 ? 0 : -EBADMSG;
		if (!ret)
			ret = store(env->dev.uuid, "0");
		return ret ?: vfio_ap_open(&env->dev, ap_mdev_uuid(0), VFIO_AP_CDEV);
	default:
		return vfio_mig_set(env->dev.device, way, NULL);
	}
}

TEST_F_TIMEOUT(session, store_succeeds_after_each_session_end, ENV_TIMEOUT)
{
	static const __u32 ways[] = {
		VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P,
		BY_RESET, BY_CLOSE,
	};
	struct env *env = &self->env;
	size_t from, way;
	int fd;

	for (from = 0; from < ARRAY_SIZE_OF(session_states); from++) {
		for (way = 0; way < ARRAY_SIZE_OF(ways); way++) {
			ASSERT_EQ(0, store(self->uuid, "1"));
			ASSERT_EQ(0, env_enter(env, session_states[from], &fd));
			if (session_states[from] == VFIO_DEVICE_STATE_RESUMING)
				ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len,
						       0, NULL));
			EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
			ASSERT_EQ(0, end_session(env, ways[way])) {
				TH_LOG("%s > %#x", vfio_mig_name(session_states[from]), ways[way]);
			}
			/* Its file may be open: that is no session */
			EXPECT_EQ(0, store(self->uuid, "0")) {
				TH_LOG("%s > %#x", vfio_mig_name(session_states[from]), ways[way]);
			}
			EXPECT_EQ(0, value(self->uuid));
			EXPECT_EQ(-EPERM, vfio_mig_set(env->dev.device, session_states[from],
						       NULL));
			EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING,
						  NULL));
			close(fd);
		}
	}
}

/* PRE_COPY and STOP_COPY are one session, between the two arcs too */
TEST_F_TIMEOUT(session, pre_copy_and_stop_copy_are_one_session, ENV_TIMEOUT)
{
	struct stream_buf out = {};
	int fd;

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	EXPECT_EQ(-ENOMSG, env_read(fd, 0, &out));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(-EPERM, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, store(self->uuid, "1"));
	stream_free(&out);
	close(fd);
}

/* A failed session is open until userspace changes the state */
TEST_F_TIMEOUT(session, failed_session_blocks_store, ENV_TIMEOUT)
{
	static const char nonsense[STREAM_HEADER_SIZE] = "nonsense";
	int fd;

	ASSERT_EQ(0, env_enter(&self->env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-EINVAL, env_write(fd, nonsense, sizeof(nonsense), 0, NULL));
	EXPECT_EQ(-EINVAL, env_try_write(fd));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	EXPECT_GT(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	EXPECT_EQ(1, get_info_flag(self->device));
	EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
	EXPECT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(-ENODEV, env_try_write(fd));
	close(fd);
}

/* The session ends when the guest has arrived, which then runs for any value */
TEST_F_TIMEOUT(session, session_ends_with_resuming, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int fd;

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(-EPERM, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-EPERM, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RESUMING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(0, value(self->uuid));
	close(fd);
}

/* "migratable" is checked before all other reasons */
TEST_F_TIMEOUT(session, migratable_is_checked_first, ENV_TIMEOUT)
{
	struct pollfd event = { .events = POLLIN };
	int device = self->device, status;
	pid_t child;

	event.fd = event_new();
	ASSERT_LE(0, event.fd);
	ASSERT_EQ(0, vfio_ap_set_event(device, VFIO_AP_REQ_IRQ_INDEX, event.fd));
	ASSERT_EQ(0, store(self->uuid, "0"));
	/* Without the switch a device that is requested back gives -EBUSY */
	child = env_remove_in_child(self->uuid);
	ASSERT_LT(0, child);
	ASSERT_EQ(1, poll(&event, 1, -1));
	EXPECT_EQ(-EPERM, vfio_mig_set(device, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	EXPECT_EQ(-EPERM, vfio_mig_set(device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-EPERM, vfio_mig_set(device, VFIO_DEVICE_STATE_RESUMING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(device));
	EXPECT_EQ(0, get_info_flag(device));
	vfio_ap_close(&self->env.dev);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	close(event.fd);
}

/*
 * An administrator changes a master key on one host after the other, and says
 * so to both first. One device plays the source and the destination.
 */
TEST_F_TIMEOUT(session, key_change_blocks_both_sides, ENV_TIMEOUT)
{
	struct client_data data, none;
	struct client c;

	ASSERT_EQ(0, client_realize(&c, &self->env.dev));
	ASSERT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(-EPERM, client_save(&c, &none));
	client_data_free(&none);
	ASSERT_EQ(0, client_cancel(&c));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));

	ASSERT_EQ(0, store(self->uuid, "1"));
	ASSERT_EQ(0, client_save(&c, &data));
	ASSERT_EQ(0, client_cancel(&c));

	/* The guest is on its way, and does not get in */
	ASSERT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(-EPERM, client_load(&c, &data));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));

	ASSERT_EQ(0, store(self->uuid, "1"));
	EXPECT_EQ(0, client_load(&c, &data));
	/* Nor can the key be changed while one gets in */
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	EXPECT_EQ(0, client_start(&c));
	EXPECT_EQ(0, store(self->uuid, "0"));
	client_data_free(&data);
}

/* A user who stays in a session: tells the pipe when it is there, never ends */
static void hold_session(const char *uuid, int ready)
{
	struct vfio_ap dev;
	int fd;

	/* The child has to end with the test */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || vfio_ap_open(&dev, uuid, VFIO_AP_CDEV) ||
	    vfio_mig_set(dev.device, VFIO_DEVICE_STATE_PRE_COPY, &fd) ||
	    write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* The documented way out for an administrator who cannot wait: end the VMM */
TEST_F_TIMEOUT(session, administrator_ends_session, ENV_TIMEOUT)
{
	int ready[2], status;
	pid_t child;
	char byte;

	vfio_ap_close(&self->env.dev);
	ASSERT_EQ(0, pipe(ready));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		close(ready[0]);
		hold_session(self->uuid, ready[1]);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ(-EBUSY, store(self->uuid, "0"));
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(0, store(self->uuid, "0"));
	EXPECT_EQ(0, value(self->uuid));
	close(ready[0]);
}

/**
 * struct watcher - a user who waits for changes
 * @device: device file descriptor
 * @event: eventfd, to be waited for
 * @rounds: changes to see
 * @want: the value after the next change
 * @wrong: changes after which the device told something else
 * @seen: posted after each
 */
struct watcher {
	int device;
	int event;
	int rounds;
	atomic_int want;
	int wrong;
	sem_t seen;
};

static void *watch_migratable(void *arg)
{
	struct watcher *w = arg;
	struct pollfd event = { .fd = w->event, .events = POLLIN };
	int i;

	for (i = 0; i < w->rounds; i++) {
		while (!event_count(w->event))
			poll(&event, 1, -1);
		if (get_info_flag(w->device) != atomic_load(&w->want))
			w->wrong++;
		sem_post(&w->seen);
	}
	return NULL;
}

TEST_F_TIMEOUT(session, signalled_change_is_visible, ENV_TIMEOUT)
{
	struct watcher w = { .device = self->device, .rounds = 60 };
	pthread_t thread;
	int i;

	w.event = event_new();
	ASSERT_LE(0, w.event);
	ASSERT_EQ(0, sem_init(&w.seen, 0, 0));
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, w.event));
	ASSERT_EQ(0, pthread_create(&thread, NULL, watch_migratable, &w));
	for (i = 0; i < w.rounds; i++) {
		atomic_store(&w.want, i % 2);
		ASSERT_EQ(0, store(self->uuid, i % 2 ? "1" : "0"));
		ASSERT_EQ(0, sem_wait(&w.seen));
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, w.wrong);
	close(w.event);
}

/**
 * struct span - how often something began and ended
 * @begun: number of beginnings
 * @done: number of ends
 *
 * One thread counts; the others read the counter to detect its progress.
 */
struct span {
	atomic_uint begun;
	atomic_uint done;
};

static void span_begin(struct span *s)
{
	atomic_fetch_add(&s->begun, 1);
}

static void span_end(struct span *s)
{
	atomic_fetch_add(&s->done, 1);
}

/* Whether it is not under way; *@mark is for span_since() */
static bool span_idle(struct span *s, unsigned int *mark)
{
	unsigned int done = atomic_load(&s->done);

	*mark = atomic_load(&s->begun);
	return *mark == done;
}

static bool span_since(struct span *s, unsigned int mark)
{
	return atomic_load(&s->begun) != mark;
}

/* Whether one has ended that began after the mark */
static bool span_passed(struct span *s, unsigned int mark)
{
	return (int)(atomic_load(&s->done) - mark) > 0;
}

#define RACE_ROUNDS	16
/* Turns in which a thread that is not waited for is likely to get somewhere */
#define RACE_YIELDS	1000
/* The steps of the migrating thread in each round */
enum race_step {
	RACE_AFTER_STORE,	/* attempts it once 0 is set */
	RACE_UNTIL_STORE,	/* stays in a session until a store of 0 was tried */
	RACE_UNTIL_RESET,	/* stays in a session until its reset is over */
	RACE_IN_RESET,		/* stays in a session until its reset is under way */
	RACE_BEHIND_RESET,	/* waits for the end of that, as does a store of 0 */
	RACE_FREE,		/* no more than the calls */
	RACE_STEPS = RACE_FREE + 16,
};

/**
 * struct race - three threads on one device, and their observations
 * @env: the device, and a stream for it
 * @seed: of the random decisions
 * @attempts: of the migrating thread, each from before SET_STATE until the
 *	session, if there was one, is left
 * @stores: of the administrator, each from before 0 is stored until it is
 *	settled that it is 1
 * @tries: the same stores, each until it has returned
 * @resets: of the resetting thread
 * @reset_wanted: posted by the migrating thread
 * @posted: how often
 * @zero: the administrator knows that 0 is set
 * @settling: the same, until 1 is set for certain
 * @entered: the migrating thread is in a session, as far as it knows
 * @waiting: the migrating thread waits for a store
 * @turns: of the administrator's loop, for as long as SET_STATE took
 * @over: the migrating thread has ended
 * @broken: a thread has seen a violation; @why is set
 * @why: the violation
 * @sessions: sessions that were entered
 * @refused: SET_STATE that gave -EPERM
 * @checks: looks at the attribute while a session was open for certain
 * @zeros: stores of 0 that succeeded
 * @busy: stores of 0 that gave -EBUSY
 * @looks: looks at the state while 0 was set
 */
struct race {
	struct env *env;
	unsigned int seed;
	struct span attempts;
	struct span stores;
	struct span tries;
	struct span resets;
	sem_t reset_wanted;
	unsigned int posted;
	atomic_bool zero;
	atomic_bool settling;
	atomic_bool entered;
	atomic_bool waiting;
	unsigned int turns;
	atomic_bool over;
	atomic_bool broken;
	char why[160];
	unsigned int sessions;
	unsigned int refused;
	unsigned int checks;
	unsigned int zeros;
	unsigned int busy;
	unsigned int looks;
};

static void __printf(2, 3) report_violation(struct race *r, const char *fmt, ...)
{
	va_list ap;

	if (atomic_exchange(&r->broken, true))
		return;
	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
}

static bool race_ends(struct race *r)
{
	return atomic_load(&r->over) || atomic_load(&r->broken);
}

/* 0 is set, by this thread: no session until it sets 1 */
static void hold_zero(struct race *r)
{
	int device = r->env->dev.device, state;
	unsigned int mark;

	span_idle(&r->attempts, &mark);
	atomic_store(&r->settling, true);
	atomic_store(&r->zero, true);
	span_end(&r->tries);
	do {
		state = vfio_mig_state(device);
		if (state < 0 || is_session(state))
			report_violation(r, "0 is set, the state is %d", state);
		if (value(r->env->dev.uuid))
			report_violation(r, "0 was set, and is no more");
		r->looks++;
	} while (!span_passed(&r->attempts, mark) && !race_ends(r));
	atomic_store(&r->zero, false);
	if (store(r->env->dev.uuid, "1"))
		report_violation(r, "0 is set, and 1 cannot be");
	atomic_store(&r->settling, false);
}

/* Until the other thread is in a session, or not any more, or for some turns */
static unsigned int watch_attempt(struct race *r, unsigned int mark, unsigned int turns)
{
	unsigned int n;

	for (n = 0; n < turns; n++)
		if (span_passed(&r->attempts, mark) || atomic_load(&r->entered) || race_ends(r))
			break;
	return n;
}

/*
 * 1 is set. Let the other thread, unless it waits for this one, make use of it;
 * and the next time come at any moment of its SET_STATE.
 */
static void offer_one(struct race *r, unsigned int *seed)
{
	unsigned int mark;

	span_idle(&r->attempts, &mark);
	while (!span_since(&r->attempts, mark) && !atomic_load(&r->entered) &&
	       !atomic_load(&r->waiting) && !race_ends(r))
		sched_yield();
	if (!span_since(&r->attempts, mark))
		return;
	if (r->zeros % 2)
		r->turns = watch_attempt(r, mark, UINT_MAX);
	else
		watch_attempt(r, mark, rand_r(seed) % (r->turns + 1));
}

static void *change_migratable(void *arg)
{
	const char *uuid = ((struct race *)arg)->env->dev.uuid;
	struct race *r = arg;
	unsigned int mark, seed = r->seed;
	bool idle;
	int ret;

	while (!race_ends(r)) {
		span_begin(&r->stores);
		span_begin(&r->tries);
		idle = span_idle(&r->attempts, &mark);
		ret = store(uuid, "0");
		if (!ret) {
			r->zeros++;
			hold_zero(r);
			span_end(&r->stores);
			offer_one(r, &seed);
			continue;
		}
		if (ret != -EBUSY)
			report_violation(r, "a store of 0 gave %d", ret);
		else if (idle && !span_since(&r->attempts, mark))
			report_violation(r, "a store of 0 gave -EBUSY without a session");
		if (value(uuid) != 1)
			report_violation(r, "a store of 0 gave -EBUSY and was done");
		r->busy++;
		span_end(&r->tries);
		span_end(&r->stores);
	}
	return NULL;
}

static void *run_requested_resets(void *arg)
{
	struct race *r = arg;
	int ret;

	for (;;) {
		while (sem_wait(&r->reset_wanted))
			;
		if (atomic_load(&r->over))
			return NULL;
		span_begin(&r->resets);
		ret = vfio_ap_reset(&r->env->dev);
		span_end(&r->resets);
		if (ret)
			report_violation(r, "a reset gave %d", ret);
	}
}

static void request_reset(struct race *r)
{
	r->posted++;
	sem_post(&r->reset_wanted);
}

static bool resets_done(struct race *r)
{
	return atomic_load(&r->resets.done) == r->posted;
}

/* A session was open before; unless a reset has ended it, the attribute is 1 */
static void check_migratable(struct race *r, bool idle, unsigned int mark)
{
	int now = value(r->env->dev.uuid);

	if (!idle || span_since(&r->resets, mark))
		return;
	if (now != 1)
		report_violation(r, "a session is open, the attribute gives %d", now);
	r->checks++;
}

/* Stay in the session until the step has had its effect */
static void stay_in_session(struct race *r, unsigned int step, bool idle, unsigned int mark)
{
	unsigned int tries;

	check_migratable(r, idle, mark);
	switch (step) {
	case RACE_UNTIL_STORE:
		span_idle(&r->tries, &tries);
		while (!span_passed(&r->tries, tries) && !atomic_load(&r->broken))
			check_migratable(r, idle, mark);
		break;
	case RACE_UNTIL_RESET:
		request_reset(r);
		while (!resets_done(r) && !atomic_load(&r->broken))
			check_migratable(r, idle, mark);
		break;
	case RACE_IN_RESET:
		request_reset(r);
		while (vfio_mig_state(r->env->dev.device) != VFIO_DEVICE_STATE_RUNNING &&
		       !atomic_load(&r->broken))
			;
		break;
	case RACE_BEHIND_RESET:
		/* That reset came first: it was seen to be under way */
		while (!resets_done(r))
			sched_yield();
		idle = span_idle(&r->resets, &mark);
		check_migratable(r, idle, mark);
		break;
	}
}

/* Out of a session by arcs; a reset may be faster */
static void leave_session(struct race *r, __u32 state, int fd, bool idle, unsigned int mark)
{
	struct stream_buf *stream = &r->env->stream;
	int device = r->env->dev.device, ret = 0;

	if (state == VFIO_DEVICE_STATE_RESUMING)
		ret = env_write(fd, stream->data, stream->len, rand_r(&r->seed) % 2 * 64, NULL);
	else if (state != VFIO_DEVICE_STATE_STOP_COPY && rand_r(&r->seed) % 2)
		ret = vfio_mig_set(device, VFIO_DEVICE_STATE_STOP_COPY, NULL);
	if (ret && idle && !span_since(&r->resets, mark))
		report_violation(r, "a session in %s gave %d", vfio_mig_name(state), ret);
	if (state != VFIO_DEVICE_STATE_RESUMING)
		check_migratable(r, idle, mark);
	/* From here on it may be over */
	atomic_store(&r->entered, false);
	ret = vfio_mig_set(device, VFIO_DEVICE_STATE_RUNNING, NULL);
	if (ret)
		report_violation(r, "%s > RUNNING gave %d", vfio_mig_name(state), ret);
}

/* Enter a session and leave it again; whether it could be entered */
static bool attempt_session(struct race *r, unsigned int step)
{
	__u32 state = session_states[rand_r(&r->seed) % ARRAY_SIZE_OF(session_states)];
	unsigned int stores, resets;
	bool idle, no_store;
	int fd, ret;

	span_begin(&r->attempts);
	no_store = span_idle(&r->stores, &stores);
	idle = span_idle(&r->resets, &resets);
	ret = vfio_mig_set(r->env->dev.device, state, &fd);
	if (!ret) {
		r->sessions++;
		atomic_store(&r->entered, true);
		stay_in_session(r, step, idle, resets);
		if (step == RACE_IN_RESET)
			atomic_store(&r->entered, false);
		else
			leave_session(r, state, fd, idle, resets);
		close(fd);
	} else if (ret != -EPERM) {
		report_violation(r, "RUNNING > %s gave %d", vfio_mig_name(state), ret);
	} else {
		r->refused++;
		if (no_store && !span_since(&r->stores, stores))
			report_violation(r, "RUNNING > %s gave -EPERM while 1 was set",
					 vfio_mig_name(state));
	}
	span_end(&r->attempts);
	return !ret;
}

/* A thread that asks again and again keeps the other one from the mutex */
static void yield_to_administrator(struct race *r)
{
	unsigned int n;

	for (n = 0; n < RACE_YIELDS && atomic_load(&r->settling); n++)
		sched_yield();
}

/* Until 0 is set, or was tried to be */
static void await_store(struct race *r)
{
	unsigned int mark;

	span_idle(&r->tries, &mark);
	atomic_store(&r->waiting, true);
	while (!atomic_load(&r->zero) && !span_passed(&r->tries, mark) &&
	       !atomic_load(&r->broken))
		sched_yield();
	atomic_store(&r->waiting, false);
}

static void migrate_repeatedly(struct race *r)
{
	unsigned int i, step, n;

	for (i = 0; i < RACE_ROUNDS * RACE_STEPS && !atomic_load(&r->broken); i++) {
		step = i % RACE_STEPS;
		switch (step) {
		case RACE_AFTER_STORE:
			while (!resets_done(r))
				sched_yield();
			await_store(r);
			attempt_session(r, step);
			break;
		case RACE_UNTIL_STORE:
		case RACE_UNTIL_RESET:
		case RACE_IN_RESET:
			/* The administrator gives 1 a chance after every other 0 */
			while (!attempt_session(r, step) && !atomic_load(&r->broken))
				yield_to_administrator(r);
			break;
		case RACE_BEHIND_RESET:
			/* Every other time let the store be the first that waits */
			for (n = 0; i / RACE_STEPS % 2 && n < RACE_YIELDS; n++)
				sched_yield();
			attempt_session(r, step);
			break;
		default:
			if (!attempt_session(r, step))
				yield_to_administrator(r);
			break;
		}
	}
}

/*
 * A switch that is tested at another moment than a session begins, or that is
 * set while one does, lets somebody see both a session and 0.
 */
TEST_F_TIMEOUT(session, no_session_unless_migratable, ENV_TIMEOUT)
{
	struct race r = { .env = &self->env, .seed = time(NULL) };
	pthread_t administrator, resetter;
	int event;

	TH_LOG("seed %u", r.seed);
	event = event_new();
	ASSERT_LE(0, event);
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_MIGRATABLE_IRQ_INDEX, event));
	ASSERT_EQ(0, sem_init(&r.reset_wanted, 0, 0));
	ASSERT_EQ(0, pthread_create(&resetter, NULL, run_requested_resets, &r));
	ASSERT_EQ(0, pthread_create(&administrator, NULL, change_migratable, &r));
	migrate_repeatedly(&r);
	atomic_store(&r.over, true);
	sem_post(&r.reset_wanted);
	ASSERT_EQ(0, pthread_join(administrator, NULL));
	ASSERT_EQ(0, pthread_join(resetter, NULL));

	TH_LOG("%u sessions, %u looks at their switch, %u refused; %u resets",
	       r.sessions, r.checks, r.refused, atomic_load(&r.resets.done));
	TH_LOG("%u times 0, %u looks at the state, %u busy", r.zeros, r.looks, r.busy);
	EXPECT_STREQ("", r.why);
	/* Each of these was made to happen, so each was looked at */
	EXPECT_LE((unsigned int)RACE_ROUNDS, r.zeros);
	EXPECT_LE((unsigned int)RACE_ROUNDS, r.refused);
	EXPECT_LE((unsigned int)RACE_ROUNDS, r.busy);
	EXPECT_LE(3U * RACE_ROUNDS, r.sessions);
	EXPECT_LT(0U, r.checks);
	EXPECT_EQ(2L * r.zeros, event_count(event));
	EXPECT_EQ(1, value(self->uuid));
	/* A refused attempt stays in the last state that it reached, STOP */
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
	close(event);
}

TEST_HARNESS_MAIN
