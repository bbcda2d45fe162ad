/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Common setup of the vfio-ap migration tests: a mediated device with part of
 * the host's queues, open, and its stream.
 */
#ifndef SELFTEST_VFIO_AP_ENV_H
#define SELFTEST_VFIO_AP_ENV_H

#include <stdbool.h>

#include <sys/types.h>

#include "ap.h"
#include "stream.h"
#include "vfio.h"

/*
 * Seconds for one test. Debug kernels on emulated hosts are slow, and other work
 * slows them down further: the limit ends tests that hang, and nothing else. The
 * limit for a whole program is in the file settings.
 */
#define ENV_TIMEOUT	900

/* Seconds to wait for an event that a test expects */
#define ENV_PATIENCE	vfio_ap_patience()

/**
 * struct env - an open mediated device and its stream
 * @pool: queues of the host
 * @masks: configuration of the device: all adapters, all domains but the last
 * @dev: the device, open, RUNNING
 * @stream: its stream in STOP_COPY; empty before env_stream()
 * @decoded: the same
 */
struct env {
	struct ap_pool pool;
	struct ap_masks masks;
	struct vfio_ap dev;
	struct stream_buf stream;
	struct stream decoded;
};

/*
 * Number of repetitions: @times, or the value of the environment variable
 * VFIO_AP_REPEAT. A few show a leak that the test counts; soaks set the variable.
 */
unsigned int env_repeat(unsigned int times);

/*
 * Returns NULL, or the reason why the tests cannot run here (skip). *@ret is
 * 0 or a negative errno (fail).
 */
const char *env_setup(struct env *env, enum vfio_ap_path path, int *ret);
/* The same for tests that change the hardware, which need a control port */
const char *env_setup_control(struct env *env, enum vfio_ap_path path, int *ret);
void env_teardown(struct env *env);

/**
 * struct env_counts - figures that a leak changes
 * @module: references to the module; -ENOENT if it is built in
 * @files: open files of this process
 * @pinned: memory of this process that is pinned, in KiB
 * @masks: configuration of the device
 */
struct env_counts {
	long module;
	long files;
	long pinned;
	char masks[512];
};

/* -errno if there is no such module */
long env_module_references(void);

void env_count(const struct env *env, struct env_counts *counts);

/*
 * For tests; the harness is not included here.
 *
 * Variants of a fixture: the ways to open the device. The group and the cdev lead
 * to the same code of the driver, so most fixtures have the cdev only.
 */
#define ENV_CDEV(fixture)					\
FIXTURE_VARIANT(fixture) {					\
	enum vfio_ap_path path;					\
};								\
								\
FIXTURE_VARIANT_ADD(fixture, cdev) {				\
	.path = VFIO_AP_CDEV,					\
}

#define ENV_GROUP_AND_CDEV(fixture)				\
ENV_CDEV(fixture);						\
								\
FIXTURE_VARIANT_ADD(fixture, group) {				\
	.path = VFIO_AP_GROUP,					\
}

/* In FIXTURE_SETUP: call @setup, skip the test for the reason that it returns */
#define ENV_SETUP(setup, object, path) do {			\
	const char *__why;					\
	int __ret;						\
								\
	__why = setup(object, path, &__ret);			\
	if (__why)						\
		SKIP(return, "%s", __why);			\
	ASSERT_EQ(0, __ret);					\
} while (0)

/*
 * A fixture of an environment and its device, with one of the two sets of
 * variants; @stream: save the stream of the device before each test.
 */
#define ENV_FIXTURE(fixture, variants, stream)			\
FIXTURE(fixture) {						\
	struct env env;						\
	int device;						\
};								\
								\
variants(fixture);						\
								\
FIXTURE_SETUP(fixture)						\
{								\
	ENV_SETUP(env_setup, &self->env, variant->path);	\
	self->device = self->env.dev.device;			\
	if (stream)						\
		ASSERT_EQ(0, env_stream(&self->env));		\
}								\
								\
FIXTURE_TEARDOWN(fixture)					\
{								\
	env_teardown(&self->env);				\
}

/* A fixture of one @type, a structure with functions for setup and teardown of that name */
#define ENV_FIXTURE_OF(fixture, type, variants)			\
FIXTURE(fixture) {						\
	struct type type;					\
};								\
								\
variants(fixture);						\
								\
FIXTURE_SETUP(fixture)						\
{								\
	ENV_SETUP(type##_setup, &self->type, variant->path);	\
}								\
								\
FIXTURE_TEARDOWN(fixture)					\
{								\
	type##_teardown(&self->type);				\
}

#define EXPECT_COUNTS(env, before) do {			\
	struct env_counts __now;				\
								\
	env_count(env, &__now);					\
	EXPECT_EQ((before)->module, __now.module);		\
	EXPECT_LT(0, __now.files);				\
	EXPECT_EQ((before)->files, __now.files);		\
	EXPECT_LE(0, __now.pinned);				\
	EXPECT_EQ((before)->pinned, vfio_ap_await_pinned((before)->pinned)); \
	EXPECT_STREQ((before)->masks, __now.masks);		\
} while (0)

/* Save the device, RUNNING before and after, to @out. 0 or a negative errno */
int env_save(struct env *env, struct stream_buf *out);
/* The same to env->stream; decode */
int env_stream(struct env *env);

/*
 * From any state to @state, with a new session if it is one that has sessions.
 * From RESUMING it gets away by a reset. *@fd is the data file or -1; with a
 * NULL @fd it is closed.
 */
int env_enter(struct env *env, __u32 state, int *fd);

/* Read up to the end, also a temporary one, in pieces of @chunk bytes (0: as large as possible) */
int env_read(int fd, size_t chunk, struct stream_buf *out);
/*
 * Write all in pieces of @chunk bytes (0: all at once); the offset up to which
 * write() succeeded goes to *@done unless it is NULL.
 */
int env_write(int fd, const void *data, size_t len, size_t chunk, size_t *done);
/* -errno of one read() or write() of one byte, or the count */
int env_try_read(int fd);
int env_try_write(int fd);

/**
 * enum env_stage - how far a migration has come
 * @ENV_RUNNING: no migration
 * @ENV_RUNNING_P2P: the same
 * @ENV_PRE_COPY: everything that there is to read for now was read
 * @ENV_PRE_COPY_P2P: nothing was read
 * @ENV_STOP: the guest has stopped
 * @ENV_STOP_COPY: part of the stream was read
 * @ENV_RESUMING_HALF: part of the stream was written, CONFIG among it
 * @ENV_RESUMING_WHOLE: the whole stream was written
 * @ENV_RESUMED: STOP after RESUMING
 * @ENV_NR_STAGES: number of stages
 */
enum env_stage {
	ENV_RUNNING,
	ENV_RUNNING_P2P,
	ENV_PRE_COPY,
	ENV_PRE_COPY_P2P,
	ENV_STOP,
	ENV_STOP_COPY,
	ENV_RESUMING_HALF,
	ENV_RESUMING_WHOLE,
	ENV_RESUMED,
	ENV_NR_STAGES,
};

#define for_each_env_stage(stage)					\
	for ((stage) = ENV_RUNNING; (stage) < ENV_NR_STAGES; (stage)++)

/* The state that a device is left in whose session in @session was refused */
__u32 env_state_refused(__u32 session);

const char *env_stage_name(enum env_stage stage);
__u32 env_stage_state(enum env_stage stage);
/* Whether a session is open, and whether it is the source's */
bool env_stage_session(enum env_stage stage);
bool env_stage_source(enum env_stage stage);

/*
 * From any state to @stage; writes env->stream. *@fd is the data file or -1;
 * the bytes that were read or written replace those in @out.
 */
int env_enter_stage(struct env *env, enum env_stage stage, int *fd, struct stream_buf *out);

/*
 * Remove a mediated device in a child process; that ends, with status 0, when
 * the last user has closed the device. Returns the child or -1.
 */
pid_t env_remove_in_child(const char *uuid);

/* A second mediated device that has the domain that the first has not */
int env_neighbour(struct env *env, struct vfio_ap *dev, enum vfio_ap_path path);

/*
 * Resume @stream on the device, which is RUNNING before and after; it is reset
 * if it does not accept the stream. 0 or a negative errno.
 */
int env_resume(struct env *env, const void *data, size_t len, size_t chunk);

#endif
