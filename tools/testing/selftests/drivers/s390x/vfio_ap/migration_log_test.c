// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: the messages and tracepoints that an administrator gets. A
 * failed session is one line in the kernel log.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/env.h"
#include "lib/log.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

#define FAILED	"migration failed: "
#define REFUSED	"migration refused: "

#define TRACE_DIR	"/sys/kernel/tracing"
#define TRACE_INSTANCE	TRACE_DIR "/instances/vfio_ap_migration_log_test"

FIXTURE(log) {
	struct env env;
	int device;
	int log;
};

FIXTURE_SETUP(log)
{
	ENV_SETUP(env_setup, &self->env, VFIO_AP_CDEV);
	self->device = self->env.dev.device;
	ASSERT_EQ(0, env_stream(&self->env));
	self->log = log_open();
	ASSERT_LE(0, self->log);
}

FIXTURE_TEARDOWN(log)
{
	close(self->log);
	env_teardown(&self->env);
}

/* The messages of one device, of which the log may have more */
static void format_message(const struct env *env, const char *kind, const char *text, char *buf,
			   size_t size)
{
	snprintf(buf, size, "%s: %s%s", env->dev.uuid, kind, text);
}

/*
 * Write a stream that is refused, several times. The log limits the rate of
 * messages, so some of them may be missing; no session has more than one.
 */
static void expect_refused(struct __test_metadata *_metadata, struct env *env, int log,
			   const struct stream_buf *b, int error, const char *text)
{
	char line[256], any[256];
	unsigned int nr = 0, tries;
	int fd;

	format_message(env, FAILED, text, line, sizeof(line));
	format_message(env, FAILED, "", any, sizeof(any));
	for (tries = 0; tries < ENV_PATIENCE && !nr; tries++) {
		log_count(log, any);
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		EXPECT_EQ(error, env_write(fd, b->data, b->len, 0, NULL));
		/* It sticks, and is not logged again */
		EXPECT_EQ(error, env_try_write(fd));
		EXPECT_EQ(error, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(env->dev.device));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		close(fd);
		nr = log_count(log, line);
		EXPECT_GE(1U, nr);
		/* A message that was suppressed comes with a later session */
		if (!nr)
			usleep(1000000);
	}
	EXPECT_EQ(1U, nr) {
		TH_LOG("%s", line);
	}
}

/* The rate is limited per device */
TEST_F_TIMEOUT(log, one_device_suppresses_no_message_of_another, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct vfio_ap other;
	char line[256];
	unsigned int i;

	ASSERT_EQ(0, env_neighbour(env, &other, VFIO_AP_CDEV));
	ASSERT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RESUMING, NULL));
	ASSERT_EQ(0, vfio_mig_set(other.device, VFIO_DEVICE_STATE_RESUMING, NULL));
	for (i = 0; i < 50; i++)
		ASSERT_EQ(-EINVAL, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(-EINVAL, vfio_mig_set(other.device, VFIO_DEVICE_STATE_STOP, NULL));
	snprintf(line, sizeof(line), "%s: " REFUSED "the stream is incomplete", other.uuid);
	EXPECT_EQ(1U, log_count(self->log, line));
	vfio_ap_close(&other);
	ap_mdev_remove(other.uuid);
}

TEST_F_TIMEOUT(log, enxio_if_configurations_differ, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf b = {};
	struct ap_masks source;
	unsigned int id;
	char text[128];

	source = env->masks;
	id = ap_mask_next(source.apm, 0, true);
	ap_mask_clear(source.apm, id);
	snprintf(text, sizeof(text), "adapter %02x: assigned here only", id);
	stream_header(&b);
	stream_config(&b, &source);
	expect_refused(_metadata, env, self->log, &b, -ENXIO, text);

	source = env->masks;
	id = ap_mask_next(source.aqm, 0, false);
	ap_mask_set(source.aqm, id);
	ap_mask_set(source.adm, ap_mask_next(source.adm, 0, false));
	snprintf(text, sizeof(text),
		 "domain %04x: assigned on the source only (1 more difference)", id);
	stream_free(&b);
	stream_header(&b);
	stream_config(&b, &source);
	expect_refused(_metadata, env, self->log, &b, -ENXIO, text);
	stream_free(&b);
}

/* A stream whose first adapter is of a newer type, and has more of all */
static void put_better(const struct env *env, struct stream_buf *b)
{
	struct stream source = env->decoded;
	__u64 *info = &source.rows[0].info;

	*info = hwinfo_put(*info, STREAM_HW_AT, hwinfo_get(*info, STREAM_HW_AT) + 1);
	*info = hwinfo_put(*info, STREAM_HW_ND, hwinfo_get(*info, STREAM_HW_ND) + 1);
	*info = hwinfo_put(*info, STREAM_HW_QD, hwinfo_get(*info, STREAM_HW_QD) + 1);
	stream_encode(b, &source);
}

TEST_F_TIMEOUT(log, enxio_if_hardware_differs, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	unsigned int type = hwinfo_get(env->decoded.rows[0].info, STREAM_HW_AT);
	struct stream_buf b = {};
	char text[128];

	put_better(env, &b);
	snprintf(text, sizeof(text),
		 "adapter %02x: type %u on the source, %u here (2 more differences)",
		 env->decoded.rows[0].apid, type + 1, type);
	expect_refused(_metadata, env, self->log, &b, -ENXIO, text);
	stream_free(&b);
}

TEST_F_TIMEOUT(log, errors_of_stream, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf *b = &env->stream;

	b->data[0] ^= 1;
	expect_refused(_metadata, env, self->log, b, -EINVAL, "the stream is malformed");
	b->data[0] ^= 1;
	b->data[5] = 2;
	expect_refused(_metadata, env, self->log, b, -EOPNOTSUPP,
		       "the stream has an unknown version or record");
	b->data[5] = STREAM_VERSION;
	EXPECT_EQ(0, env_resume(env, b->data, b->len, 0));
}

TEST_F_TIMEOUT(log, einval_if_stream_is_incomplete, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char line[256];
	int fd;

	format_message(env, REFUSED, "the stream is incomplete", line, sizeof(line));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len - 1, 0, NULL));
	EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	EXPECT_EQ(1U, log_count(self->log, line));
	/* The rest may still come */
	ASSERT_EQ(0, env_write(fd, env->stream.data + env->stream.len - 1, 1, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	close(fd);
}

TEST_F_TIMEOUT(log, ecanceled_if_host_changes_configuration, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = { ENV_PRE_COPY, ENV_STOP_COPY, ENV_RESUMING_HALF };
	struct env *env = &self->env;
	unsigned int cdom = env->pool.cdomains[0], i;
	struct stream_buf out = {};
	char line[256];
	int fd;

	format_message(env, FAILED, "the host changed the AP configuration", line, sizeof(line));
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++) {
		ASSERT_EQ(0, env_enter_stage(env, stages[i], &fd, &out));
		ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, "unassign_control_domain", "%#x", cdom));
		ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, "assign_control_domain", "%#x", cdom));
		EXPECT_EQ(-ECANCELED, env_stage_source(stages[i]) ? env_try_read(fd) :
			  env_try_write(fd));
		EXPECT_EQ((int)env_stage_state(stages[i]), vfio_mig_state(self->device));
		EXPECT_EQ(1U, log_count(self->log, line)) {
			TH_LOG("in %s", env_stage_name(stages[i]));
		}
		close(fd);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(log, ecanceled_and_ebusy_if_device_is_requested_back, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char failed[256], refused[256];
	int fd, event, status;
	__u64 count;
	pid_t pid;

	format_message(env, FAILED, "the device was requested back", failed, sizeof(failed));
	format_message(env, REFUSED, "the device was requested back", refused, sizeof(refused));
	event = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, event);
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_REQ_IRQ_INDEX, event));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	pid = env_remove_in_child(env->dev.uuid);
	ASSERT_LT(0, pid);
	ASSERT_EQ((ssize_t)sizeof(count), read(event, &count, sizeof(count)));
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	EXPECT_EQ(1U, log_count(self->log, failed));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(-EBUSY, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	EXPECT_EQ(1U, log_count(self->log, refused));
	close(fd);
	vfio_ap_close(&env->dev);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(event);
}

/* A session that userspace ends has not failed */
TEST_F_TIMEOUT(log, no_message_if_userspace_ends_session, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	enum env_stage stage;
	int fd;

	for_each_env_stage(stage) {
		ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		if (fd >= 0)
			close(fd);
	}
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	EXPECT_EQ(0U, log_count(self->log, env->dev.uuid));
	stream_free(&out);
}

/* Trace the driver from now on, in an instance of our own */
static int trace_start(void)
{
	if (mkdir(TRACE_INSTANCE, 0700) && errno != EEXIST)
		return -errno;
	return ap_file_write(TRACE_INSTANCE "/trace", "\n") ?:
	       ap_file_write(TRACE_INSTANCE "/tracing_on", "1") ?:
	       ap_file_write(TRACE_INSTANCE "/events/vfio_ap/enable", "1");
}

/* The trace, in memory to be freed; NULL if it cannot be read */
static char *trace_stop(void)
{
	const size_t size = 256 * 1024;
	char *text = malloc(size);
	int ret;

	ap_file_write(TRACE_INSTANCE "/events/vfio_ap/enable", "0");
	ret = text ? ap_file_read(TRACE_INSTANCE "/trace", text, size) : -ENOMEM;
	if (rmdir(TRACE_INSTANCE) || ret < 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* Each arc and each difference of an adapter, in this order */
TEST_F_TIMEOUT(log, tracepoints, ENV_TIMEOUT)
{
	static const char * const events[] = {
		"vfio_ap_arc: %s: RUNNING -> PRE_COPY: 0 (",
		"vfio_ap_arc: %s: PRE_COPY_P2P -> STOP_COPY: 0 (",
		"vfio_ap_arc: %s: STOP_COPY -> STOP: 0 (",
		"vfio_ap_arc: %s: STOP -> RESUMING: 0 (",
		"vfio_ap_difference: %s: adapter %02x: type ",
		"vfio_ap_difference: %s: adapter %02x: domains ",
		"vfio_ap_difference: %s: adapter %02x: queue depth ",
		"vfio_ap_arc: %s: RESUMING -> STOP: -6 (",
	};
	struct env *env = &self->env;
	struct stream_buf b = {}, out = {};
	char event[160], *text, *at;
	size_t i;
	int fd;

	if (access(TRACE_DIR "/events", F_OK))
		SKIP(return, "no tracefs in " TRACE_DIR);
	put_better(env, &b);
	ASSERT_EQ(0, trace_start());
	EXPECT_EQ(0, env_enter_stage(env, ENV_PRE_COPY, &fd, &out));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	EXPECT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-ENXIO, env_write(fd, b.data, b.len, 0, NULL));
	EXPECT_EQ(-ENXIO, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	close(fd);
	text = trace_stop();
	ASSERT_NE(NULL, text);
	at = text;
	for (i = 0; i < ARRAY_SIZE_OF(events); i++) {
		snprintf(event, sizeof(event), events[i], env->dev.uuid,
			 env->decoded.rows[0].apid);
		at = strstr(at, event);
		ASSERT_NE(NULL, at) {
			TH_LOG("%s", event);
		}
	}
	free(text);
	stream_free(&out);
	stream_free(&b);
}

TEST_HARNESS_MAIN
