// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: what an administrator is told. Every error, the way to
 * provoke it, and what the report in debugfs says of it; tracepoints.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/env.h"
#include "lib/report.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

/* Room for a difference, and for all that there can be */
#define LINE_SIZE	80
#define MAX_LINES	(3 * AP_IDS + 7 * AP_IDS)

/* What there may be in a stream of a later version */
#define UNKNOWN_RECORD	0x7abc

ENV_FIXTURE(report, ENV_CDEV, false)

/**
 * struct want - what a report of a session of this process should say
 * @session: REPORT_SAVING or REPORT_RESUMING
 * @open: the session is open
 * @reason: REPORT_*
 * @error: 0 or a negative errno
 * @published: for saving
 * @lines: differences
 */
struct want {
	const char *session;
	bool open;
	const char *reason;
	int error;
	int published;
	unsigned int lines;
};

static void expect_report(struct __test_metadata *_metadata, const struct env *env,
			  const struct want *want)
{
	struct report r;
	char comm[32];

	ASSERT_EQ(0, report_read(env->dev.uuid, &r));
	ASSERT_STREQ(want->session, r.session);
	EXPECT_EQ(want->open, r.open);
	EXPECT_STREQ(want->reason, r.reason);
	EXPECT_EQ(want->error, r.error);
	EXPECT_EQ(getpid(), r.pid);
	ASSERT_EQ(0, prctl(PR_GET_NAME, comm));
	EXPECT_STREQ(comm, r.comm);
	if (!strcmp(want->session, REPORT_SAVING))
		EXPECT_EQ(want->published, r.published);
	EXPECT_EQ(want->lines, r.nr_lines);
	report_free(&r);
}

#define EXPECT_REPORT(env, ...) \
	expect_report(_metadata, env, &(struct want){ __VA_ARGS__ })

/* What a text of the report means is the same after the session has ended */
static void expect_ended(struct __test_metadata *_metadata, const struct env *env,
			 struct want want)
{
	want.open = false;
	expect_report(_metadata, env, &want);
}

TEST_F_TIMEOUT(report, there_is_nothing_to_report_before_the_first_session, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char *text;
	int fd;

	text = report_text(env->dev.uuid);
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("session: none\n", text);
	free(text);

	/* States without a session do not count */
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING_P2P, NULL));
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	text = report_text(env->dev.uuid);
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("session: none\n", text);
	free(text);

	/* Nor is it known when nobody has opened the device yet */
	ASSERT_EQ(0, ap_mdev_create(ap_mdev_uuid(1)));
	text = report_text(ap_mdev_uuid(1));
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("session: none\n", text);
	free(text);

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_REPORT(env, .session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING);
	close(fd);
}

TEST_F_TIMEOUT(report, a_save, ENV_TIMEOUT)
{
	static const __u32 begins[] = { VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY };
	static const __u32 ends[] = { VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING };
	const struct want open = {
		.session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING,
	};
	struct env *env = &self->env;
	struct stream_buf out = {};
	size_t i;
	int fd;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, env_enter(env, begins[i / 2], &fd));
		expect_report(_metadata, env, &open);
		if (begins[i / 2] == VFIO_DEVICE_STATE_PRE_COPY) {
			EXPECT_EQ(-ENOMSG, env_read(fd, 0, &out));
			ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		}
		EXPECT_EQ(0, env_read(fd, 0, &out));
		expect_report(_metadata, env, &open);
		ASSERT_EQ(0, vfio_mig_set(self->device, ends[i % 2], NULL));
		EXPECT_REPORT(env, .session = REPORT_SAVING, .reason = REPORT_COMPLETED);
		close(fd);
		EXPECT_REPORT(env, .session = REPORT_SAVING, .reason = REPORT_COMPLETED);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(report, a_save_that_is_left_early, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = { ENV_PRE_COPY, ENV_PRE_COPY_P2P, ENV_STOP_COPY };
	static const __u32 ends[] = { VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING };
	struct env *env = &self->env;
	struct stream_buf out = {};
	size_t i;
	int fd;

	for (i = 0; i < 2 * ARRAY_SIZE_OF(stages); i++) {
		ASSERT_EQ(0, env_enter_stage(env, stages[i / 2], &fd, &out));
		EXPECT_REPORT(env, .session = REPORT_SAVING, .open = true,
			      .reason = REPORT_NOTHING);
		ASSERT_EQ(0, vfio_mig_set(self->device, ends[i % 2], NULL));
		EXPECT_REPORT(env, .session = REPORT_SAVING, .reason = REPORT_LEFT_EARLY);
		close(fd);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(report, a_resume, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct want want = {
		.session = REPORT_RESUMING, .open = true, .reason = REPORT_NOTHING,
	};
	int fd;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	expect_report(_metadata, env, &want);
	ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	expect_report(_metadata, env, &want);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	want.reason = REPORT_COMPLETED;
	expect_ended(_metadata, env, want);
	close(fd);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	expect_ended(_metadata, env, want);
}

/* Sessions that the user ends by force, seen by somebody else */
static void run_end(struct __test_metadata *_metadata, struct env *env, bool close_it)
{
	const char *reason = close_it ? REPORT_CLOSED : REPORT_RESET;
	struct stream_buf out = {};
	enum env_stage stage;
	char uuid[AP_UUID_SIZE];
	int fd;

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	ASSERT_EQ(0, env_stream(env));
	for_each_env_stage(stage) {
		if (!env_stage_session(stage))
			continue;
		ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
		if (close_it)
			vfio_ap_close(&env->dev);
		else
			ASSERT_EQ(0, vfio_ap_reset(&env->dev));
		EXPECT_REPORT(env, .reason = reason,
			      .session = env_stage_source(stage) ? REPORT_SAVING :
								   REPORT_RESUMING);
		close(fd);
		if (!close_it)
			continue;
		/* The next user can read what became of the last one's session */
		ASSERT_EQ(0, vfio_ap_open(&env->dev, uuid, VFIO_AP_CDEV));
		EXPECT_REPORT(env, .reason = reason,
			      .session = env_stage_source(stage) ? REPORT_SAVING :
								   REPORT_RESUMING);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(report, a_session_that_a_reset_ends, ENV_TIMEOUT)
{
	run_end(_metadata, &self->env, false);
}

TEST_F_TIMEOUT(report, a_session_that_close_ends, ENV_TIMEOUT)
{
	run_end(_metadata, &self->env, true);
}

/* What happens when there is no session is none of the last one's business */
TEST_F_TIMEOUT(report, what_is_reported_stays_until_the_next_session, ENV_TIMEOUT)
{
	const struct want want = { .session = REPORT_RESUMING, .reason = REPORT_COMPLETED };
	struct env *env = &self->env;
	char uuid[AP_UUID_SIZE];

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	expect_report(_metadata, env, &want);
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	expect_report(_metadata, env, &want);
	vfio_ap_close(&env->dev);
	expect_report(_metadata, env, &want);
	ASSERT_EQ(0, vfio_ap_open(&env->dev, uuid, VFIO_AP_CDEV));
	expect_report(_metadata, env, &want);

	/* One that is refused does not begin */
	if (!access(ap_mdev_path(uuid, "migratable"), F_OK)) {
		ASSERT_EQ(0, ap_mdev_write(uuid, "migratable", "0"));
		EXPECT_EQ(-EPERM, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		expect_report(_metadata, env, &want);
		ASSERT_EQ(0, ap_mdev_write(uuid, "migratable", "1"));
	}
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	EXPECT_REPORT(env, .session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING);
}

TEST_F_TIMEOUT(report, the_report_goes_with_the_mdev, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char path[256], byte;
	struct report r;
	int fd;

	ASSERT_EQ(0, env_stream(env));
	snprintf(path, sizeof(path), "/sys/kernel/debug/vfio/%s/migration/vfio_ap/report",
		 env->dev.uuid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, read(fd, &byte, 1));
	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));
	EXPECT_EQ(-ENOENT, report_read(ap_mdev_uuid(0), &r));
	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(EIO, errno);
	close(fd);

	/* The next device of that name has no past */
	ASSERT_EQ(0, ap_mdev_create(ap_mdev_uuid(0)));
	ASSERT_EQ(0, report_read(ap_mdev_uuid(0), &r));
	EXPECT_STREQ("none", r.session);
	report_free(&r);
}

static void *named_thread(void *arg)
{
	struct env *env = arg;

	prctl(PR_SET_NAME, "a thread");
	return (void *)(long)vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL);
}

/* The name may be anything, and its owner gone: somebody must find him all the same */
TEST_F_TIMEOUT(report, the_process_that_opened_the_session_is_named, ENV_TIMEOUT)
{
	static const char name[] = "a[b] c: d";
	struct env *env = &self->env;
	pthread_t thread;
	struct report r;
	int status;
	pid_t pid;
	void *ret;

	pid = fork();
	ASSERT_NE(-1, pid);
	if (!pid) {
		prctl(PR_SET_NAME, name);
		_exit(!!vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	/* Who goes on with it does not count */
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	ASSERT_EQ(0, report_read(env->dev.uuid, &r));
	EXPECT_TRUE(r.open);
	EXPECT_EQ(pid, r.pid);
	EXPECT_STREQ(name, r.comm);
	report_free(&r);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	ASSERT_EQ(0, report_read(env->dev.uuid, &r));
	EXPECT_EQ(pid, r.pid);
	EXPECT_STREQ(name, r.comm);
	report_free(&r);

	/* A thread of a VMM stands for all of it */
	ASSERT_EQ(0, pthread_create(&thread, NULL, named_thread, env));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(NULL, ret);
	EXPECT_REPORT(env, .session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING);
}

/**
 * struct lines - differences that are expected
 * @nr: how many
 * @line: each
 */
struct lines {
	unsigned int nr;
	char line[MAX_LINES][LINE_SIZE];
};

static void __printf(2, 3) add_line(struct lines *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->line[l->nr++], LINE_SIZE, fmt, ap);
	va_end(ap);
}

static void add_mask_lines(struct lines *l, const char *what, unsigned int digits,
			   const __u8 *source, const __u8 *here)
{
	unsigned int id;

	for (id = 0; id < AP_IDS; id++)
		if (ap_mask_test(source, id) != ap_mask_test(here, id))
			add_line(l, "%s %0*x assigned: source %d here %d", what, digits, id,
				 ap_mask_test(source, id), ap_mask_test(here, id));
}

static void add_config_lines(struct lines *l, const struct ap_masks *source,
			     const struct ap_masks *here)
{
	add_mask_lines(l, "adapter", 2, source->apm, here->apm);
	add_mask_lines(l, "domain", 4, source->aqm, here->aqm);
	add_mask_lines(l, "control domain", 4, source->adm, here->adm);
}

static const char *mode_name(__u64 info)
{
	switch (info & STREAM_HW_MODE) {
	case STREAM_HW_CCA:
		return "cca";
	case STREAM_HW_EP11:
		return "ep11";
	case STREAM_HW_ACCEL:
		return "accel";
	default:
		return "unknown";
	}
}

/* As the AP bus reads it: in bytes, with a default for small values */
static unsigned int message_length(__u64 info)
{
	__u64 chunks = hwinfo_get(info, STREAM_HW_ML);

	return chunks > 3 ? chunks * 4096 : 12 * 1024;
}

/* Fields that must be equal, and fields of which the destination may have more */
static void add_hwinfo_lines(struct lines *l, unsigned int apid, __u64 source, __u64 here)
{
	static const struct {
		const char *name;
		__u64 field;
		bool more;
		bool hex;
	} fields[] = {
		{ "at", STREAM_HW_AT, false, false },
		{ "facilities", 0xffULL << 56 & ~STREAM_HW_MODE, false, true },
		{ "class", STREAM_HW_CLASS, false, true },
		{ "nd", STREAM_HW_ND, true, false },
		{ "qd", STREAM_HW_QD, true, false },
	};
	unsigned int s, h;
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(fields); i++) {
		s = hwinfo_get(source, fields[i].field);
		h = hwinfo_get(here, fields[i].field);
		if (s == h || (fields[i].more && h > s))
			continue;
		if (fields[i].hex)
			add_line(l, "adapter %02x %s: source 0x%02x here 0x%02x", apid,
				 fields[i].name, s, h);
		else
			add_line(l, "adapter %02x %s: source %u here %u", apid,
				 fields[i].name, s, h);
	}
	if ((source ^ here) & STREAM_HW_MODE)
		add_line(l, "adapter %02x mode: source %s here %s", apid, mode_name(source),
			 mode_name(here));
	if (message_length(source) > message_length(here))
		add_line(l, "adapter %02x ml: source %u here %u", apid, message_length(source),
			 message_length(here));
}

/* Each line is there once, and there is no other */
static void expect_lines(struct __test_metadata *_metadata, const char *uuid,
			 const struct lines *want)
{
	struct report r;
	unsigned int i;

	ASSERT_EQ(0, report_read(uuid, &r));
	EXPECT_EQ(want->nr, r.nr_lines);
	for (i = 0; i < want->nr; i++) {
		EXPECT_EQ(1U, report_count(&r, want->line[i])) {
			TH_LOG("%s", want->line[i]);
		}
	}
	report_free(&r);
}

/* The report of a stream that is refused in write(), at once and after a reset */
static void expect_refused(struct __test_metadata *_metadata, struct env *env,
			   const struct stream_buf *b, int error, const char *reason,
			   const struct lines *lines)
{
	struct want want = {
		.session = REPORT_RESUMING, .open = true, .reason = reason, .error = error,
		.lines = lines ? lines->nr : 0,
	};
	int fd;

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(error, env_write(fd, b->data, b->len, 0, NULL));
	expect_report(_metadata, env, &want);
	/* It sticks, and is not found again */
	EXPECT_EQ(error, env_try_write(fd));
	EXPECT_EQ(error, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(env->dev.device));
	expect_report(_metadata, env, &want);
	if (lines)
		expect_lines(_metadata, env->dev.uuid, lines);
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	expect_ended(_metadata, env, want);
	close(fd);
	if (lines)
		expect_lines(_metadata, env->dev.uuid, lines);
}

TEST_F_TIMEOUT(report, enxio_if_the_configurations_differ, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	static struct lines lines;
	struct stream_buf b = {};
	struct ap_masks source;
	__u8 *mask[3];
	unsigned int i, id;

	for (i = 0; i < 6; i++) {
		source = env->masks;
		mask[0] = source.apm;
		mask[1] = source.aqm;
		mask[2] = source.adm;
		/* One less, and one more */
		id = ap_mask_next(mask[i / 2], 0, i % 2);
		ASSERT_GT((unsigned int)AP_IDS, id);
		if (i % 2)
			ap_mask_clear(mask[i / 2], id);
		else
			ap_mask_set(mask[i / 2], id);
		stream_free(&b);
		stream_header(&b);
		stream_config(&b, &source);
		lines.nr = 0;
		add_config_lines(&lines, &source, &env->masks);
		ASSERT_EQ(1U, lines.nr);
		expect_refused(_metadata, env, &b, -ENXIO, REPORT_CONFIG, &lines);
	}
	stream_free(&b);
}

static void invert(__u8 *mask)
{
	unsigned int i;

	for (i = 0; i < AP_MASK_BYTES; i++)
		mask[i] = ~mask[i];
}

/* Hundreds of differences: all of them, in more than a page */
TEST_F_TIMEOUT(report, every_difference_of_the_configurations_is_there, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	static struct lines lines;
	struct stream_buf b = {};
	struct ap_masks source = env->masks;
	char *text;

	invert(source.apm);
	invert(source.aqm);
	invert(source.adm);
	stream_header(&b);
	stream_config(&b, &source);
	add_config_lines(&lines, &source, &env->masks);
	ASSERT_EQ(3U * AP_IDS, lines.nr);
	expect_refused(_metadata, env, &b, -ENXIO, REPORT_CONFIG, &lines);
	text = report_text(env->dev.uuid);
	ASSERT_NE(NULL, text);
	EXPECT_LT((size_t)sysconf(_SC_PAGESIZE), strlen(text));
	free(text);
	stream_free(&b);
}

/* In pieces the report is the same text */
TEST_F_TIMEOUT(report, a_long_report_can_be_read_in_pieces, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct ap_masks source = env->masks;
	struct stream_buf b = {}, pieces = {};
	char path[256], *text;
	int fd;

	invert(source.aqm);
	stream_header(&b);
	stream_config(&b, &source);
	EXPECT_EQ(-ENXIO, env_resume(env, b.data, b.len, 0));
	snprintf(path, sizeof(path), "/sys/kernel/debug/vfio/%s/migration/vfio_ap/report",
		 env->dev.uuid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, env_read(fd, 61, &pieces));
	close(fd);
	text = report_text(env->dev.uuid);
	ASSERT_NE(NULL, text);
	ASSERT_EQ(strlen(text), pieces.len);
	EXPECT_EQ(0, memcmp(text, pieces.data, pieces.len));
	free(text);
	stream_free(&pieces);
	stream_free(&b);
}

/* Another information word that can not be replaced by @info in any field */
static __u64 better(__u64 info)
{
	__u64 mode = info & STREAM_HW_CCA ? STREAM_HW_EP11 : STREAM_HW_CCA;

	info = (info & ~STREAM_HW_MODE) | mode;
	info ^= STREAM_HW_APSC;
	info = hwinfo_put(info, STREAM_HW_CLASS, hwinfo_get(info, STREAM_HW_CLASS) + 1);
	info = hwinfo_put(info, STREAM_HW_AT, hwinfo_get(info, STREAM_HW_AT) + 1);
	info = hwinfo_put(info, STREAM_HW_ND, 255);
	info = hwinfo_put(info, STREAM_HW_ML, 15);
	return hwinfo_put(info, STREAM_HW_QD, 31);
}

TEST_F_TIMEOUT(report, every_difference_of_the_hardware_is_there, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	static struct lines lines;
	struct stream_buf b = {};
	struct stream source;
	unsigned int i;

	ASSERT_EQ(0, env_stream(env));
	source = env->decoded;
	for (i = 0; i < source.nr_rows; i++) {
		source.rows[i].info = better(source.rows[i].info);
		add_hwinfo_lines(&lines, source.rows[i].apid, source.rows[i].info,
				 env->decoded.rows[i].info);
	}
	/* At least the fields that have to be equal */
	ASSERT_LE(4 * source.nr_rows, lines.nr);
	stream_encode(&b, &source);
	expect_refused(_metadata, env, &b, -EXDEV, REPORT_HARDWARE, &lines);
	stream_free(&b);
}

TEST_F_TIMEOUT(report, exdev_if_one_field_of_the_hardware_differs, ENV_TIMEOUT)
{
	static const __u64 fields[] = {
		STREAM_HW_AT, STREAM_HW_APSC, STREAM_HW_CLASS, STREAM_HW_MODE, STREAM_HW_ND,
		STREAM_HW_QD, STREAM_HW_ML,
	};
	struct env *env = &self->env;
	static struct lines lines;
	struct stream_buf b = {};
	struct stream source;
	size_t i, row;

	ASSERT_EQ(0, env_stream(env));
	for (i = 0; i < ARRAY_SIZE_OF(fields); i++) {
		source = env->decoded;
		row = i % source.nr_rows;
		source.rows[row].info &= ~fields[i];
		source.rows[row].info |= better(env->decoded.rows[row].info) & fields[i];
		lines.nr = 0;
		add_hwinfo_lines(&lines, source.rows[row].apid, source.rows[row].info,
				 env->decoded.rows[row].info);
		/* Where the card already has the most that a field can say */
		if (!lines.nr)
			continue;
		EXPECT_EQ(1U, lines.nr);
		stream_free(&b);
		stream_encode(&b, &source);
		expect_refused(_metadata, env, &b, -EXDEV, REPORT_HARDWARE, &lines);
	}
	stream_free(&b);
}

/* A stream of this device with a byte changed, and the right checksum if @seal */
static void patched(struct env *env, struct stream_buf *b, size_t at, __u8 change, bool seal)
{
	stream_free(b);
	stream_put(b, env->stream.data, env->stream.len);
	b->data[at] ^= change;
	if (seal)
		stream_seal(b);
}

TEST_F_TIMEOUT(report, einval_if_the_stream_is_malformed, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf b = {};
	const struct stream *d;
	size_t i;

	ASSERT_EQ(0, env_stream(env));
	d = &env->decoded;
	const size_t at[] = {
		0,			/* magic */
		11,			/* length of the header */
		15,			/* reserved */
		d->config_at + 2,	/* flags of a record */
		d->config_at + 7,	/* length of a record */
		d->hwinfo_at + 7,	/* the same, of rows */
		d->hwinfo_at + 11,	/* reserved, of a row */
		d->end_at + 11,		/* number of records */
	};
	for (i = 0; i < ARRAY_SIZE_OF(at); i++) {
		patched(env, &b, at[i], 4, true);
		expect_refused(_metadata, env, &b, -EINVAL, REPORT_MALFORMED, NULL);
	}
	/* Nothing follows END */
	patched(env, &b, 0, 0, false);
	stream_put(&b, "x", 1);
	expect_refused(_metadata, env, &b, -EINVAL, REPORT_MALFORMED, NULL);
	stream_free(&b);
}

TEST_F_TIMEOUT(report, ebadmsg_if_the_checksum_is_wrong, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf b = {};

	ASSERT_EQ(0, env_stream(env));
	patched(env, &b, env->stream.len - 1, 1, false);
	expect_refused(_metadata, env, &b, -EBADMSG, REPORT_MALFORMED, NULL);
	stream_free(&b);
}

TEST_F_TIMEOUT(report, emsgsize_if_a_record_is_too_long, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf b = {};

	stream_header(&b);
	stream_config(&b, &env->masks);
	stream_record(&b, STREAM_HWINFO, STREAM_MANDATORY, (AP_IDS + 1) * STREAM_HWROW_SIZE);
	expect_refused(_metadata, env, &b, -EMSGSIZE, REPORT_MALFORMED, NULL);
	stream_free(&b);
	stream_header(&b);
	stream_record(&b, UNKNOWN_RECORD, 0, STREAM_OPTIONAL_MAX + 8);
	expect_refused(_metadata, env, &b, -EMSGSIZE, REPORT_MALFORMED, NULL);
	stream_free(&b);
}

TEST_F_TIMEOUT(report, eopnotsupp_if_the_version_is_unknown, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf b = {};

	/* A newer major version, and a record that must be understood */
	ASSERT_EQ(0, env_stream(env));
	patched(env, &b, 5, STREAM_MAJOR ^ (STREAM_MAJOR + 1), true);
	expect_refused(_metadata, env, &b, -EOPNOTSUPP, REPORT_VERSION, NULL);
	stream_free(&b);
	stream_header(&b);
	stream_record(&b, UNKNOWN_RECORD, STREAM_MANDATORY, 8);
	expect_refused(_metadata, env, &b, -EOPNOTSUPP, REPORT_VERSION, NULL);
	stream_free(&b);
}

TEST_F_TIMEOUT(report, enodata_if_the_stream_is_truncated, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct want want = {
		.session = REPORT_RESUMING, .open = true, .reason = REPORT_TRUNCATED,
		.error = -ENODATA,
	};
	struct stream_buf out = {};
	int fd;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, env_enter_stage(env, ENV_RESUMING_HALF, &fd, &out));
	EXPECT_EQ(-ENODATA, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	expect_report(_metadata, env, &want);
	ASSERT_EQ(0, vfio_ap_reset(&env->dev));
	expect_ended(_metadata, env, want);
	close(fd);

	/* Who writes the rest after all has completed it */
	ASSERT_EQ(0, env_enter_stage(env, ENV_RESUMING_HALF, &fd, &out));
	EXPECT_EQ(-ENODATA, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, env_write(fd, env->stream.data + out.len, env->stream.len - out.len, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_REPORT(env, .session = REPORT_RESUMING, .reason = REPORT_COMPLETED);
	close(fd);
	stream_free(&out);
}

TEST_F_TIMEOUT(report, enodev_of_a_file_whose_session_has_ended, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct vfio_precopy_info info;
	int fd;

	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(-ENODEV, env_try_read(fd));
	EXPECT_EQ(-EINVAL, vfio_precopy_info(fd, &info));
	close(fd);
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, vfio_ap_reset(&env->dev));
	EXPECT_EQ(-ENODEV, env_try_write(fd));
	/* That is no error of the session */
	EXPECT_REPORT(env, .session = REPORT_RESUMING, .reason = REPORT_RESET);
	close(fd);
}

TEST_F_TIMEOUT(report, enomsg_at_the_temporary_end, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	int fd;

	ASSERT_EQ(0, env_enter_stage(env, ENV_PRE_COPY, &fd, &out));
	EXPECT_EQ(-ENOMSG, env_try_read(fd));
	EXPECT_EQ(-ENOMSG, env_try_read(fd));
	EXPECT_REPORT(env, .session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING);
	/* Never in STOP_COPY: after END there is nothing to come */
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	EXPECT_EQ(0, env_try_read(fd));
	close(fd);
	stream_free(&out);
}

/* A change of the host that leaves all as it is: there and back */
static int toggle(unsigned int cdomain, bool there)
{
	return ap_sim_change("cdomain %s %02x", there ? "add" : "del", cdomain);
}

TEST_F_TIMEOUT(report, ecanceled_if_the_host_changes_the_configuration, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = {
		ENV_STOP_COPY, ENV_RESUMING_HALF, ENV_RESUMING_WHOLE,
	};
	struct env *env = &self->env;
	unsigned int cdomain = env->pool.cdomains[env->pool.nr_cdomains - 1];
	struct stream_buf out = {};
	struct want want = {
		.reason = REPORT_HOST_CHANGE, .error = -ECANCELED,
	};
	size_t i;
	int fd;

	if (!ap_sim_present())
		SKIP(return, AP_NO_SIM);
	ASSERT_EQ(0, env_stream(env));
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++) {
		ASSERT_EQ(0, env_enter_stage(env, stages[i], &fd, &out));
		ASSERT_EQ(0, toggle(cdomain, false));
		want.session = env_stage_source(stages[i]) ? REPORT_SAVING : REPORT_RESUMING;
		want.open = true;
		expect_report(_metadata, env, &want);
		EXPECT_EQ(-ECANCELED, env_stage_source(stages[i]) ? env_try_read(fd) :
			  env_try_write(fd));
		/* What was changed is changed back: the session has failed all the same */
		ASSERT_EQ(0, toggle(cdomain, true));
		expect_report(_metadata, env, &want);
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RUNNING, NULL));
		expect_ended(_metadata, env, want);
		close(fd);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(report, published_configurations_are_counted, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	unsigned int cdomain = env->pool.cdomains[env->pool.nr_cdomains - 1];
	struct want want = {
		.session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING,
	};
	struct stream_buf out = {};
	int fd, i;

	if (!ap_sim_present())
		SKIP(return, AP_NO_SIM);
	ASSERT_EQ(0, env_enter_stage(env, ENV_PRE_COPY, &fd, &out));
	expect_report(_metadata, env, &want);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, toggle(cdomain, i % 2));
		want.published++;
		expect_report(_metadata, env, &want);
		/* Whether it replaces the one before, or stands behind it */
		if (i == 1)
			EXPECT_EQ(-ENOMSG, env_read(fd, 0, &out));
	}
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	want.reason = REPORT_COMPLETED;
	expect_ended(_metadata, env, want);
	close(fd);
	stream_free(&out);
}

TEST_F_TIMEOUT(report, ecanceled_if_the_host_changes_it_too_often, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	unsigned int cdomain = env->pool.cdomains[env->pool.nr_cdomains - 1];
	struct want want = {
		.session = REPORT_SAVING, .open = true, .reason = REPORT_NOTHING,
	};
	struct stream_buf out = {};
	int fd, i;

	if (!ap_sim_present())
		SKIP(return, AP_NO_SIM);
	ASSERT_EQ(0, env_enter_stage(env, ENV_PRE_COPY, &fd, &out));
	for (i = 1; i < STREAM_MAX_PAIRS; i++) {
		ASSERT_EQ(0, toggle(cdomain, !(i % 2)));
		ASSERT_EQ(-ENOMSG, env_read(fd, 0, &out));
	}
	want.published = STREAM_MAX_PAIRS - 1;
	expect_report(_metadata, env, &want);
	ASSERT_EQ(0, toggle(cdomain, !(i % 2)));
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	want.reason = REPORT_TOO_OFTEN;
	want.error = -ECANCELED;
	expect_report(_metadata, env, &want);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	expect_ended(_metadata, env, want);
	close(fd);
	ASSERT_EQ(0, toggle(cdomain, true));
	stream_free(&out);
}

/**
 * struct watcher - a thread that reads the report all the time
 * @thread: the thread
 * @uuid: of the device
 * @stop: it is to end
 * @reads: how many reports it has read
 * @ret: 0, or what was wrong with one
 */
struct watcher {
	pthread_t thread;
	const char *uuid;
	atomic_bool stop;
	atomic_uint reads;
	int ret;
};

static void *watch_job(void *arg)
{
	struct watcher *w = arg;
	struct report r;

	while (!w->stop && !w->ret) {
		w->ret = report_read(w->uuid, &r);
		if (!w->ret) {
			w->reads++;
			report_free(&r);
		}
	}
	return NULL;
}

/* Whoever reads while sessions come and go gets a whole report of one of them */
TEST_F_TIMEOUT(report, it_is_whole_at_any_moment, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct watcher w = { .uuid = env->dev.uuid };
	struct ap_masks source = env->masks;
	struct stream_buf b = {}, out = {};
	unsigned int i;

	ASSERT_EQ(0, env_stream(env));
	invert(source.aqm);
	stream_header(&b);
	stream_config(&b, &source);
	ASSERT_EQ(0, pthread_create(&w.thread, NULL, watch_job, &w));
	for (i = 0; (i < 30 || w.reads < 30) && !w.ret; i++) {
		EXPECT_EQ(-ENXIO, env_resume(env, b.data, b.len, 0));
		EXPECT_EQ(0, env_save(env, &out));
		EXPECT_EQ(0, env_resume(env, out.data, out.len, 0));
	}
	w.stop = true;
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(0, w.ret);
	stream_free(&out);
	stream_free(&b);
}

#define TRACE_DIR	"/sys/kernel/tracing"
#define TRACE_INSTANCE	TRACE_DIR "/instances/vfio_ap_migration_report_test"

/* Trace what the driver tells from now on, in a place of our own */
static int trace_start(void)
{
	if (mkdir(TRACE_INSTANCE, 0700) && errno != EEXIST)
		return -errno;
	return ap_file_write(TRACE_INSTANCE "/trace", "\n") ?:
	       ap_file_write(TRACE_INSTANCE "/tracing_on", "1") ?:
	       ap_file_write(TRACE_INSTANCE "/events/vfio_ap/enable", "1");
}

/* What was traced, in memory to be freed; NULL if it can not be had */
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

/*
 * Events that are expected, in this order with others between them. Each ends
 * its line, but for one with an open bracket at its end: how long it took.
 */
static void expect_trace(struct __test_metadata *_metadata, const char *text,
			 const char * const *events, size_t nr)
{
	const char *at = text, *found;
	char event[160];
	size_t i;

	for (i = 0; i < nr; i++) {
		snprintf(event, sizeof(event), "%s%s", events[i],
			 events[i][strlen(events[i]) - 1] == '(' ? "" : "\n");
		found = strstr(at, event);
		EXPECT_NE(NULL, found) {
			TH_LOG("%s", events[i]);
		}
		if (found)
			at = found + strlen(event);
	}
}

TEST_F_TIMEOUT(report, tracepoints_tell_the_same, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char open_save[96], end_save[128], open_resume[96], arc_end[128], end_resume[128];
	char arc_pre[96], arc_stop[96], difference[96];
	const char * const saving[] = { open_save, arc_pre, arc_stop, end_save };
	const char * const resuming[] = { open_resume, difference, arc_end, end_resume };
	const char *uuid = env->dev.uuid;
	struct stream_buf b = {}, out = {};
	struct stream source;
	unsigned int apid, at;
	char *text;
	int fd;

	if (access(TRACE_DIR "/events", F_OK))
		SKIP(return, "no tracefs in " TRACE_DIR);
	ASSERT_EQ(0, env_stream(env));
	source = env->decoded;
	apid = source.rows[0].apid;
	at = hwinfo_get(source.rows[0].info, STREAM_HW_AT);
	source.rows[0].info = hwinfo_put(source.rows[0].info, STREAM_HW_AT, at + 1);
	stream_encode(&b, &source);

	ASSERT_EQ(0, trace_start());
	EXPECT_EQ(0, env_enter_stage(env, ENV_PRE_COPY, &fd, &out));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	EXPECT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-EXDEV, env_write(fd, b.data, b.len, 0, NULL));
	EXPECT_EQ(-EXDEV, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	close(fd);
	text = trace_stop();
	ASSERT_NE(NULL, text);

	snprintf(open_save, sizeof(open_save), "vfio_ap_session_open: %s: saving", uuid);
	snprintf(arc_pre, sizeof(arc_pre), "vfio_ap_arc: %s: RUNNING -> PRE_COPY: 0 (", uuid);
	snprintf(arc_stop, sizeof(arc_stop), "vfio_ap_arc: %s: PRE_COPY_P2P -> STOP_COPY: 0 (",
		 uuid);
	snprintf(end_save, sizeof(end_save), "vfio_ap_session_end: %s: saving: %s: 0", uuid,
		 REPORT_COMPLETED);
	snprintf(open_resume, sizeof(open_resume), "vfio_ap_session_open: %s: resuming", uuid);
	snprintf(difference, sizeof(difference),
		 "vfio_ap_difference: %s: at of %02x: source %u here %u", uuid, apid, at + 1, at);
	snprintf(arc_end, sizeof(arc_end), "vfio_ap_arc: %s: RESUMING -> STOP: %d (", uuid, -EXDEV);
	snprintf(end_resume, sizeof(end_resume), "vfio_ap_session_end: %s: resuming: %s: %d", uuid,
		 REPORT_HARDWARE, -EXDEV);
	expect_trace(_metadata, text, saving, ARRAY_SIZE_OF(saving));
	expect_trace(_metadata, text, resuming, ARRAY_SIZE_OF(resuming));
	free(text);
	stream_free(&out);
	stream_free(&b);
}

/*
 * VFIO removes the files of a device before it asks for it, so the reason is
 * traced and logged only.
 */
TEST_F_TIMEOUT(report, ecanceled_and_ebusy_if_the_device_is_requested_back, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = { ENV_PRE_COPY, ENV_STOP_COPY, ENV_RESUMING_HALF };
	struct env *env = &self->env;
	struct stream_buf out = {};
	int fd, event, status, ret;
	char uuid[AP_UUID_SIZE], end[160];
	const char * const ends[] = { end };
	struct report r;
	__u64 count;
	char *text;
	pid_t pid;
	size_t i;

	if (access(TRACE_DIR "/events", F_OK))
		SKIP(return, "no tracefs in " TRACE_DIR);
	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	event = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, event);
	for (i = 0; i < ARRAY_SIZE_OF(stages); i++) {
		ASSERT_EQ(0, env_stream(env));
		ASSERT_EQ(0, trace_start());
		ASSERT_EQ(0, vfio_ap_set_event(env->dev.device, VFIO_AP_REQ_IRQ_INDEX, event));
		ASSERT_EQ(0, env_enter_stage(env, stages[i], &fd, &out));
		pid = env_remove_in_child(uuid);
		ASSERT_LT(0, pid);
		ASSERT_EQ((ssize_t)sizeof(count), read(event, &count, sizeof(count)));

		EXPECT_EQ(-ENOENT, report_read(uuid, &r));
		EXPECT_EQ(-ECANCELED, env_stage_source(stages[i]) ? env_try_read(fd) :
			  env_try_write(fd));
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RUNNING, NULL));
		EXPECT_EQ(-EBUSY, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		close(fd);
		text = trace_stop();
		ASSERT_NE(NULL, text);
		snprintf(end, sizeof(end), "vfio_ap_session_end: %s: %s: %s: %d", uuid,
			 env_stage_source(stages[i]) ? REPORT_SAVING : REPORT_RESUMING,
			 REPORT_REQUESTED, -ECANCELED);
		expect_trace(_metadata, text, ends, ARRAY_SIZE_OF(ends));
		free(text);

		vfio_ap_close(&env->dev);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		env_teardown(env);
		ASSERT_EQ(NULL, env_setup(env, VFIO_AP_CDEV, &ret));
		ASSERT_EQ(0, ret);
	}
	stream_free(&out);
	close(event);
}

TEST_HARNESS_MAIN
