// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: the feature, the states and the arcs between them.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "client/client.h"
#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

static const __u32 states[] = {
	VFIO_DEVICE_STATE_RUNNING,
	VFIO_DEVICE_STATE_RUNNING_P2P,
	VFIO_DEVICE_STATE_STOP,
	VFIO_DEVICE_STATE_PRE_COPY,
	VFIO_DEVICE_STATE_PRE_COPY_P2P,
	VFIO_DEVICE_STATE_STOP_COPY,
	VFIO_DEVICE_STATE_RESUMING,
};

#define NR_STATES ARRAY_SIZE_OF(states)

/*
 * Effect of a walk on the data file, written down from the list of arcs in
 * linux/vfio.h: the shortest way, and none through a state that saves.
 *
 *   .  there is none, before and after
 *   n  a new one, the one before is dead
 *   x  the one before is dead, there is no other
 *   k  goes on to be used
 *   -  the walk is not permitted, and nothing happens
 */
static const char walks[NR_STATES][NR_STATES + 1] = {
	/* from           to:  running (P2P) stop pre-copy (P2P) stop-copy resuming */
	/* RUNNING */		"...nnnn",
	/* RUNNING_P2P */	"...nnnn",
	/* STOP */		"...nnnn",
	/* PRE_COPY */		"xxxkkkn",
	/* PRE_COPY_P2P */	"xxxkkkn",
	/* STOP_COPY */		"xxx--kn",
	/* RESUMING */		"xxxnnnk",
};

#define for_each_state(state)						\
	for (size_t __i = 0; __i < NR_STATES &&				\
	     ((state) = states[__i], true); __i++)

static bool is_pre_copy(__u32 state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* There is a file to read from */
static bool is_saving(__u32 state)
{
	return is_pre_copy(state) || state == VFIO_DEVICE_STATE_STOP_COPY;
}

static bool has_file(__u32 state)
{
	return is_saving(state) || state == VFIO_DEVICE_STATE_RESUMING;
}

/* 0 if a file is of no use any more, as it has to be after its session */
static int try_dead_file(__u32 state, int fd)
{
	int ret = is_saving(state) ? env_try_read(fd) : env_try_write(fd);

	return ret == -ENODEV ? 0 : ret ?: -EBADE;
}

ENV_FIXTURE(state, ENV_GROUP_AND_CDEV, false)

TEST_F_TIMEOUT(state, feature_is_advertised_with_valid_set_of_flags, ENV_TIMEOUT)
{
	__u64 flags;

	ASSERT_EQ(0, vfio_mig_flags(self->device, &flags));
	EXPECT_EQ((__u64)(VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
			  VFIO_MIGRATION_PRE_COPY), flags);
	/* QEMU requires the feature only to avoid a warning */
	ASSERT_EQ(0, vfio_feature(self->device, VFIO_DEVICE_FEATURE_PROBE |
				  VFIO_DEVICE_FEATURE_GET |
				  VFIO_DEVICE_FEATURE_MIGRATION, NULL, 0));
}

TEST_F_TIMEOUT(state, initial_state_is_running, ENV_TIMEOUT)
{
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
}

/* How the walk from states[from] to states[to] differs from @walks, or NULL */
static const char *walk(struct env *env, size_t from, size_t to)
{
	const char how = walks[from][to];
	int device = env->dev.device, fd, fd2, ret, now;
	const char *why = NULL;

	if (env_enter(env, states[from], &fd))
		return "can not be begun";
	if (has_file(states[from]) ? fd < 0 : fd >= 0)
		why = "file of the state before";
	if (states[from] == VFIO_DEVICE_STATE_RESUMING && how != 'k' &&
	    env_write(fd, env->stream.data, env->stream.len, 0, NULL))
		why = "write";

	ret = vfio_mig_set(device, states[to], &fd2);
	now = vfio_mig_state(device);
	if (ret != (how == '-' ? -EINVAL : 0))
		why = "result";
	else if (now != (int)states[how == '-' ? from : to])
		why = "state";
	else if (how == 'n' ? fd2 < 0 : fd2 >= 0)
		why = "new file";

	/* The file of before, and the new one */
	if (!why && strchr("k-", how) && is_saving(states[from]) && env_try_read(fd) != 1)
		why = "the file does not go on";
	if (!why && strchr("k-", how) && states[from] == VFIO_DEVICE_STATE_RESUMING &&
	    env_try_write(fd) != 1)
		why = "the file does not go on";
	if (!why && strchr("nx", how) && fd >= 0 && try_dead_file(states[from], fd))
		why = "the file of before is not dead";
	if (!why && how == 'n' &&
	    (is_saving(states[to]) ? env_try_read(fd2) : env_try_write(fd2)) != 1)
		why = "the new file is of no use";
	if (fd >= 0)
		close(fd);
	if (fd2 >= 0)
		close(fd2);
	return why;
}

/*
 * Every pair of states: those that are arcs of the specification and those
 * that are walked through others, as QEMU asks for them.
 */
TEST_F_TIMEOUT(state, every_walk_between_two_states, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	const char *why;
	size_t from, to;

	ASSERT_EQ(0, env_stream(env));
	for (from = 0; from < NR_STATES; from++) {
		for (to = 0; to < NR_STATES; to++) {
			why = walk(env, from, to);
			EXPECT_EQ(NULL, why) {
				TH_LOG("%s > %s: %s", vfio_mig_name(states[from]),
				       vfio_mig_name(states[to]), why);
			}
		}
	}
	/* That left nothing behind */
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
}

TEST_F_TIMEOUT(state, setting_present_state_does_nothing, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	__u32 state;
	size_t len;
	int fd, fd2;

	ASSERT_EQ(0, env_stream(env));
	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, &fd));
		/* The session goes on as if nothing had happened */
		if (is_saving(state))
			EXPECT_EQ(1, env_try_read(fd));
		if (state == VFIO_DEVICE_STATE_RESUMING)
			EXPECT_EQ(1, env_try_write(fd));
		EXPECT_EQ(0, vfio_mig_set(self->device, state, &fd2));
		EXPECT_EQ(-1, fd2);
		EXPECT_EQ((int)state, vfio_mig_state(self->device));
		if (is_saving(state)) {
			EXPECT_EQ(is_pre_copy(state) ? -ENOMSG : 0, env_read(fd, 0, &out));
			len = is_pre_copy(state) ? env->decoded.end_at : env->stream.len;
			ASSERT_EQ(len - 1, out.len);
			EXPECT_EQ(0, memcmp(env->stream.data + 1, out.data, out.len));
			stream_free(&out);
		}
		if (state == VFIO_DEVICE_STATE_RESUMING) {
			EXPECT_EQ(0, env_write(fd, env->stream.data + 1,
					       env->stream.len - 1, 0, NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
		}
		if (fd >= 0)
			close(fd);
	}
}

TEST_F_TIMEOUT(state, bad_targets_are_refused_and_change_nothing, ENV_TIMEOUT)
{
	static const __u32 targets[] = {
		VFIO_DEVICE_STATE_ERROR, VFIO_DEVICE_STATE_NR, 9, 0x7fffffff, 0x80000000,
		0xffffffff,
		/* These are bad from STOP_COPY only */
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P,
	};
	struct env *env = &self->env;
	struct stream_buf out = {};
	__u32 from;
	size_t i;
	int fd, fd2;

	ASSERT_EQ(0, env_stream(env));
	for_each_state(from) {
		ASSERT_EQ(0, env_enter(env, from, &fd));
		for (i = 0; i < ARRAY_SIZE_OF(targets); i++) {
			if (is_pre_copy(targets[i]) && from != VFIO_DEVICE_STATE_STOP_COPY)
				continue;
			EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, targets[i], &fd2)) {
				TH_LOG("%s > %#x", vfio_mig_name(from), targets[i]);
			}
			EXPECT_EQ(-1, fd2);
			EXPECT_EQ((int)from, vfio_mig_state(self->device)) {
				TH_LOG("%s > %#x", vfio_mig_name(from), targets[i]);
			}
		}
		if (is_saving(from)) {
			EXPECT_EQ(is_pre_copy(from) ? -ENOMSG : 0, env_read(fd, 0, &out));
			EXPECT_EQ(is_pre_copy(from) ? env->decoded.end_at : env->stream.len,
				  out.len);
			stream_free(&out);
		}
		if (from == VFIO_DEVICE_STATE_RESUMING)
			EXPECT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
		if (fd >= 0)
			close(fd);
	}
}

TEST_F_TIMEOUT(state, argsz_and_flags_of_features_are_checked, ENV_TIMEOUT)
{
	struct vfio_device_feature_mig_state mig = {
		.device_state = VFIO_DEVICE_STATE_STOP,
		.data_fd = -1,
	};
	struct vfio_device_feature_mig_data_size size = {};
	struct vfio_device_feature_migration flags = {};

	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					&mig, sizeof(mig) - 1));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, NULL, 0));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_GET |
					VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					&mig, sizeof(mig)));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					&mig, sizeof(mig)));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, 1 << 20 | VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					&mig, sizeof(mig)));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_MIGRATION,
					&flags, sizeof(flags)));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
					&size, sizeof(size)));
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_GET |
					VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
					&size, sizeof(size) - 1));
	/* This one has no payload, and there is nothing to get */
	EXPECT_EQ(-EINVAL, vfio_feature(self->device, VFIO_DEVICE_FEATURE_GET |
					VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, NULL, 0));
	EXPECT_EQ(0, vfio_feature(self->device, VFIO_DEVICE_FEATURE_PROBE |
				  VFIO_DEVICE_FEATURE_SET |
				  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, NULL, 0));
	EXPECT_EQ(0, vfio_mig_opt_in(self->device));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
}

TEST_F_TIMEOUT(state, data_size_is_never_zero_and_is_that_of_stream, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct vfio_ap empty;
	__u32 state;
	__u64 size;
	int fd;

	ASSERT_EQ(0, env_stream(env));
	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, &fd));
		EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
		/* QEMU iterates for as long as it takes this to be small */
		EXPECT_EQ(env->stream.len, size) {
			TH_LOG("in %s", vfio_mig_name(state));
		}
		if (fd >= 0)
			close(fd);
	}

	/* QEMU fails a migration when a device without queues says 0 */
	ASSERT_EQ(0, ap_mdev_create(ap_mdev_uuid(1)));
	ASSERT_EQ(0, vfio_ap_open(&empty, ap_mdev_uuid(1), variant->path));
	EXPECT_EQ(0, vfio_mig_data_size(empty.device, &size));
	EXPECT_GE(size, (__u64)STREAM_HEADER_SIZE);
	vfio_ap_close(&empty);
}

TEST_F_TIMEOUT(state, debugfs_shows_state_of_open_and_closed_device, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char text[32];
	__u32 state;

	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, NULL));
		ASSERT_EQ(0, ap_mdev_debug_state(env->dev.uuid, text, sizeof(text)));
		EXPECT_STREQ(vfio_mig_name(state), text);
	}
	ASSERT_EQ(0, vfio_ap_reset(&env->dev));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_PRE_COPY, NULL));
	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, ap_mdev_debug_state(env->dev.uuid, text, sizeof(text)));
	EXPECT_STREQ("RUNNING", text);

	/* Before the first open: earlier code crashed here */
	ASSERT_EQ(0, ap_mdev_create(ap_mdev_uuid(1)));
	ASSERT_EQ(0, ap_mdev_debug_state(ap_mdev_uuid(1), text, sizeof(text)));
	EXPECT_STREQ("RUNNING", text);
}

TEST_F_TIMEOUT(state, reset_leads_to_running_from_each_state, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	__u32 state;
	int fd;

	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, &fd));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device)) {
			TH_LOG("after %s", vfio_mig_name(state));
		}
		if (fd >= 0) {
			EXPECT_EQ(0, try_dead_file(state, fd)) {
				TH_LOG("after %s", vfio_mig_name(state));
			}
			close(fd);
		}
		/* QEMU still thinks of STOP after a reset of a paused VM */
		EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		EXPECT_EQ(0, env_stream(env));
	}
}

TEST_F_TIMEOUT(state, close_in_each_state_leaves_nothing_to_next_user, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	__u32 state;
	int fd;

	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, &fd));
		vfio_ap_close(&env->dev);
		if (fd >= 0) {
			EXPECT_EQ(0, try_dead_file(state, fd)) {
				TH_LOG("after %s", vfio_mig_name(state));
			}
			close(fd);
		}
		ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(0), variant->path));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(env->dev.device));
		EXPECT_EQ(0, env_stream(env));
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	}
}

TEST_F_TIMEOUT(state, resuming_without_data_does_not_end, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	__u32 state;
	int fd;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	for_each_state(state) {
		if (state == VFIO_DEVICE_STATE_RESUMING)
			continue;
		EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, state, NULL)) {
			TH_LOG("to %s", vfio_mig_name(state));
		}
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	}
	/* It is no dead end */
	EXPECT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
}

/* Save with the features @flags of a VMM, then resume in a new process of it */
static int migrate_to_the_same_device(struct env *env, __u64 flags, struct client_data *data)
{
	enum vfio_ap_path path = env->dev.path;
	struct client c;
	int ret;

	ret = client_realize(&c, &env->dev);
	c.flags &= flags;
	if (!ret)
		ret = client_save(&c, data);
	if (!ret && vfio_mig_state(env->dev.device) != VFIO_DEVICE_STATE_STOP)
		ret = -EBADE;
	vfio_ap_close(&env->dev);
	if (ret)
		return ret;

	ret = vfio_ap_open(&env->dev, ap_mdev_uuid(0), path);
	if (!ret)
		ret = client_realize(&c, &env->dev);
	c.flags &= flags;
	if (!ret)
		ret = client_load(&c, data);
	if (!ret && vfio_mig_state(env->dev.device) != VFIO_DEVICE_STATE_RESUMING)
		ret = -EBADE;
	if (!ret)
		ret = client_start(&c);
	if (!ret && vfio_mig_state(env->dev.device) != VFIO_DEVICE_STATE_RUNNING)
		ret = -EBADE;
	return ret ?: client_quit(&c);
}

TEST_F_TIMEOUT(state, calls_of_qemu_migrate_to_same_device, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct client_data data;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, migrate_to_the_same_device(env, ~0ULL, &data));
	/* All that can differ was there before the guest stopped */
	EXPECT_EQ(env->decoded.end_at, data.precopied);
	EXPECT_EQ(env->stream.len, data.len);
	client_data_free(&data);
}

/* Older VMMs know less: they get the same bytes */
TEST_F_TIMEOUT(state, calls_of_qemu_without_optional_states, ENV_TIMEOUT)
{
	static const __u64 flags[] = {
		VFIO_MIGRATION_STOP_COPY,
		VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
		VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
	};
	struct env *env = &self->env;
	struct client_data data;
	size_t i;

	ASSERT_EQ(0, env_stream(env));
	for (i = 0; i < ARRAY_SIZE_OF(flags); i++) {
		ASSERT_EQ(0, migrate_to_the_same_device(env, flags[i], &data)) {
			TH_LOG("with flags %#llx", (unsigned long long)flags[i]);
		}
		EXPECT_EQ(flags[i] & VFIO_MIGRATION_PRE_COPY ? env->decoded.end_at : 0,
			  data.precopied);
		ASSERT_EQ(env->stream.len, data.len);
		EXPECT_EQ(0, memcmp(env->stream.data, data.bytes, data.len));
		client_data_free(&data);
	}
}

/* A guest that was never started stops as little: straight to STOP_COPY */
TEST_F_TIMEOUT(state, calls_of_qemu_for_paused_guest, ENV_TIMEOUT)
{
	static const __u64 flags[] = { VFIO_MIGRATION_STOP_COPY, ~0ULL };
	struct env *env = &self->env;
	struct client_data data;
	struct client c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(flags); i++) {
		ASSERT_EQ(0, client_realize(&c, &env->dev));
		c.flags &= flags[i];
		c.paused = true;
		ASSERT_EQ(0, client_save(&c, &data));
		EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(self->device));
		ASSERT_EQ(0, client_cancel(&c));
		EXPECT_EQ(0, client_load(&c, &data));
		/* It is not started here, either */
		EXPECT_EQ(0, client_quit(&c));
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
		client_data_free(&data);
	}
}

/* As between two hosts: the guest's resources move to a device of another UUID */
TEST_F_TIMEOUT(state, calls_of_qemu_migrate_to_another_uuid, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct client_data data;
	struct client c;

	ASSERT_EQ(0, client_realize(&c, &env->dev));
	ASSERT_EQ(0, client_save(&c, &data));
	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, ap_mdev_remove(ap_mdev_uuid(0)));

	ASSERT_EQ(0, ap_mdev_create(ap_mdev_uuid(2)));
	ASSERT_EQ(0, ap_mdev_assign(ap_mdev_uuid(2), &env->masks));
	ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(2), variant->path));
	ASSERT_EQ(0, client_realize(&c, &env->dev));
	EXPECT_EQ(0, client_load(&c, &data));
	EXPECT_EQ(0, client_start(&c));
	client_data_free(&data);
}

/* A source reads at most MIG_DATA_SIZE bytes, the destination gets less */
TEST_F_TIMEOUT(state, calls_of_qemu_with_small_buffers, ENV_TIMEOUT)
{
	static const size_t chunks[] = { 1, 15, 16, 17, 64, 104 };
	struct env *env = &self->env;
	struct client_data data;
	struct client c;
	size_t i;
	int ret;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, client_realize(&c, &env->dev));
	for (i = 0; i < ARRAY_SIZE_OF(chunks); i++) {
		ASSERT_EQ(0, client_save_setup(&c, &data));
		data.chunk = chunks[i];
		do {
			ret = client_save_iterate(&c, &data);
		} while (!ret);
		ASSERT_EQ(1, ret);
		ASSERT_EQ(0, client_save_complete(&c, &data));
		ASSERT_EQ(0, client_cancel(&c));
		ASSERT_EQ(env->stream.len, data.len);
		EXPECT_EQ(0, memcmp(env->stream.data, data.bytes, data.len));
		EXPECT_EQ(0, client_load(&c, &data));
		EXPECT_EQ(0, client_start(&c));
		client_data_free(&data);
	}
}

/* Ending in another way than by success must not spoil the next migration */
TEST_F_TIMEOUT(state, cancelled_migration_can_be_repeated, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	int fd;

	ASSERT_EQ(0, env_stream(env));
	/* Not read at all, and read in part; QEMU closes after the arc */
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(1, env_try_read(fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	ASSERT_EQ(env->stream.len, out.len);
	EXPECT_EQ(0, memcmp(env->stream.data, out.data, out.len));
	stream_free(&out);
}

TEST_F_TIMEOUT(state, reading_data_size_has_no_effect, ENV_TIMEOUT)
{
	__u64 size;
	int i;

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
		EXPECT_EQ(0, ap_mdev_write(self->env.dev.uuid, "unassign_control_domain", "%#x",
					   self->env.pool.cdomains[0]));
		EXPECT_EQ(0, ap_mdev_write(self->env.dev.uuid, "assign_control_domain", "%#x",
					   self->env.pool.cdomains[0]));
	}
	EXPECT_EQ(0, env_stream(&self->env));
}

TEST_F_TIMEOUT(state, second_migration_sends_new_snapshot, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	unsigned int gone = env->pool.adapters[0];

	ASSERT_EQ(0, env_stream(env));
	EXPECT_TRUE(ap_mask_test(env->decoded.masks.apm, gone));
	ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, "unassign_adapter", "%#x", gone));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_FALSE(ap_mask_test(env->decoded.masks.apm, gone));
	ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, "assign_adapter", "%#x", gone));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_TRUE(ap_mask_test(env->decoded.masks.apm, gone));
}

TEST_F_TIMEOUT(state, many_migrations, ENV_TIMEOUT)
{
	struct client_data data;
	struct client c;
	unsigned int i, times = env_repeat(10);

	ASSERT_EQ(0, client_realize(&c, &self->env.dev));
	for (i = 0; i < times; i++) {
		ASSERT_EQ(0, client_save(&c, &data)) {
			TH_LOG("migration %u", i);
		}
		ASSERT_EQ(0, client_cancel(&c));
		ASSERT_EQ(0, client_load(&c, &data)) {
			TH_LOG("migration %u", i);
		}
		ASSERT_EQ(0, client_start(&c));
		client_data_free(&data);
	}
}

TEST_F_TIMEOUT(state, guest_without_queues_migrates, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct vfio_precopy_info info;
	struct stream_buf out = {};
	struct ap_masks none = {};
	int fd;

	ASSERT_EQ(0, ap_mdev_assign(env->dev.uuid, &none));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(0U, env->decoded.nr_rows);
	EXPECT_EQ(0, memcmp(&none, &env->decoded.masks, sizeof(none)));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));

	/* QEMU waits for initial bytes to be sent: there are some all the same */
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	EXPECT_EQ(0, vfio_precopy_info(fd, &info));
	EXPECT_EQ(STREAM_INITIAL_SIZE(0), info.initial_bytes);
	EXPECT_EQ(-ENOMSG, env_read(fd, 0, &out));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(0, env_read(fd, 0, &out));
	ASSERT_EQ(env->stream.len, out.len);
	EXPECT_EQ(0, memcmp(env->stream.data, out.data, out.len));
	stream_free(&out);
	close(fd);
}

/* VFIO cannot return the file to the user: the session is open all the same */
TEST_F_TIMEOUT(state, failed_copy_of_result_leaks_nothing, ENV_TIMEOUT)
{
	struct vfio_device_feature_mig_state *mig;
	struct vfio_device_feature *feature;
	struct rlimit old, none;
	__u32 state;
	int fd;

	feature = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, feature);
	mig = (void *)feature->data;
	feature->argsz = sizeof(*feature) + sizeof(*mig);
	feature->flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
	for_each_state(state) {
		if (!has_file(state))
			continue;
		ASSERT_EQ(0, mprotect(feature, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE));
		mig->device_state = state;
		ASSERT_EQ(0, mprotect(feature, sysconf(_SC_PAGESIZE), PROT_READ));
		EXPECT_EQ(-1, ioctl(self->device, VFIO_DEVICE_FEATURE, feature));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
	}

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	none = (struct rlimit){ .rlim_cur = 0, .rlim_max = old.rlim_max };
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	ASSERT_EQ(0, vfio_ap_reset(&self->env.dev));
	EXPECT_EQ(-EMFILE, vfio_mig_set(self->device, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(0, env_stream(&self->env));
}

/* Any walk from any state is right at any moment; only the number is fixed */
static int walk_at_random(struct vfio_ap *dev, unsigned int seed, unsigned int steps)
{
	__u32 state;
	int fd, ret;

	while (steps--) {
		switch (rand_r(&seed) % 9) {
		case 0:
			ret = vfio_ap_reset(dev);
			break;
		default:
			state = states[rand_r(&seed) % NR_STATES];
			ret = vfio_mig_set(dev->device, state, &fd);
			if (!ret && fd >= 0) {
				env_try_read(fd);
				env_try_write(fd);
				close(fd);
			}
			/* Out of RESUMING goes only who has the data */
			if (ret == -EINVAL)
				ret = 0;
			/* No walk leads from STOP_COPY to a pre-copy state */
			if (ret == -EINVAL && is_pre_copy(state))
				ret = 0;
			break;
		}
		if (ret)
			return ret;
	}
	return 0;
}

TEST_F_TIMEOUT(state, two_processes_change_state_of_one_device, ENV_TIMEOUT)
{
	unsigned int seed = time(NULL);
	int status, ret;
	pid_t child;

	TH_LOG("seed %u", seed);
	child = fork();
	ASSERT_NE(-1, child);
	if (!child)
		_exit(walk_at_random(&self->env.dev, seed, 200) ? 1 : 0);
	ret = walk_at_random(&self->env.dev, seed + 1, 200);
	EXPECT_EQ(0, ret);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));

	EXPECT_EQ(0, vfio_ap_reset(&self->env.dev));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
	EXPECT_EQ(0, env_stream(&self->env));
	EXPECT_EQ(0, env_resume(&self->env, self->env.stream.data, self->env.stream.len, 0));
}

TEST_HARNESS_MAIN
