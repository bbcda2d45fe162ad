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
	VFIO_DEVICE_STATE_STOP,
	VFIO_DEVICE_STATE_STOP_COPY,
	VFIO_DEVICE_STATE_RESUMING,
};

#define for_each_state(state)						\
	for (size_t __i = 0; __i < ARRAY_SIZE_OF(states) &&		\
	     ((state) = states[__i], true); __i++)

static bool has_file(__u32 state)
{
	return state == VFIO_DEVICE_STATE_STOP_COPY || state == VFIO_DEVICE_STATE_RESUMING;
}

FIXTURE(state) {
	struct env env;
	int device;
};

FIXTURE_VARIANT(state) {
	enum vfio_ap_path path;
};

FIXTURE_VARIANT_ADD(state, group) {
	.path = VFIO_AP_GROUP,
};

FIXTURE_VARIANT_ADD(state, cdev) {
	.path = VFIO_AP_CDEV,
};

FIXTURE_SETUP(state)
{
	const char *why;
	int ret;

	why = env_setup(&self->env, variant->path, &ret);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ret);
	self->device = self->env.dev.device;
}

FIXTURE_TEARDOWN(state)
{
	env_teardown(&self->env);
}

TEST_F_TIMEOUT(state, feature_is_advertised_with_a_valid_set_of_flags, ENV_TIMEOUT)
{
	__u64 flags;

	ASSERT_EQ(0, vfio_mig_flags(self->device, &flags));
	EXPECT_TRUE(!!(flags & VFIO_MIGRATION_STOP_COPY));
	EXPECT_EQ(0U, flags & ~(__u64)(VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
				       VFIO_MIGRATION_PRE_COPY));
	/* QEMU warns where the driver can not tell its DMA, it needs no more */
	ASSERT_EQ(0, vfio_feature(self->device, VFIO_DEVICE_FEATURE_PROBE |
				  VFIO_DEVICE_FEATURE_GET |
				  VFIO_DEVICE_FEATURE_MIGRATION, NULL, 0));
}

TEST_F_TIMEOUT(state, initial_state_is_running, ENV_TIMEOUT)
{
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
}

/*
 * Every pair of states: those that are arcs of the specification and those
 * that are walked through others, as QEMU asks for them.
 */
TEST_F_TIMEOUT(state, every_walk_between_two_states, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	__u32 from, to;
	int fd, fd2;

	ASSERT_EQ(0, env_stream(env));
	for_each_state(from) {
		for_each_state(to) {
			ASSERT_EQ(0, env_enter(env, from, &fd));
			EXPECT_EQ(has_file(from), fd >= 0);
			if (from == VFIO_DEVICE_STATE_RESUMING)
				ASSERT_EQ(0, env_write(fd, env->stream.data,
						       env->stream.len, 0, NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, to, &fd2)) {
				TH_LOG("%s > %s", vfio_mig_name(from), vfio_mig_name(to));
			}
			EXPECT_EQ((int)to, vfio_mig_state(self->device)) {
				TH_LOG("%s > %s", vfio_mig_name(from), vfio_mig_name(to));
			}
			EXPECT_EQ(has_file(to) && from != to, fd2 >= 0) {
				TH_LOG("%s > %s", vfio_mig_name(from), vfio_mig_name(to));
			}
			if (fd >= 0)
				close(fd);
			if (fd2 >= 0)
				close(fd2);
		}
	}
}

TEST_F_TIMEOUT(state, setting_the_present_state_does_nothing, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	__u32 state;
	int fd, fd2;

	ASSERT_EQ(0, env_stream(env));
	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, &fd));
		/* The session goes on as if nothing had happened */
		if (state == VFIO_DEVICE_STATE_STOP_COPY)
			EXPECT_EQ(1, env_try_read(fd));
		if (state == VFIO_DEVICE_STATE_RESUMING)
			EXPECT_EQ(1, env_try_write(fd));
		EXPECT_EQ(0, vfio_mig_set(self->device, state, &fd2));
		EXPECT_EQ(-1, fd2);
		EXPECT_EQ((int)state, vfio_mig_state(self->device));
		if (state == VFIO_DEVICE_STATE_STOP_COPY) {
			EXPECT_EQ(0, env_read(fd, 0, &out));
			ASSERT_EQ(env->stream.len - 1, out.len);
			EXPECT_EQ(0, memcmp(env->stream.data + 1, out.data, out.len));
		}
		if (state == VFIO_DEVICE_STATE_RESUMING) {
			EXPECT_EQ(0, env_write(fd, env->stream.data + 1,
					       env->stream.len - 1, 0, NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
		}
		if (fd >= 0)
			close(fd);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(state, bad_targets_are_refused_and_change_nothing, ENV_TIMEOUT)
{
	static const __u32 targets[] = {
		VFIO_DEVICE_STATE_ERROR, VFIO_DEVICE_STATE_RUNNING_P2P,
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P,
		VFIO_DEVICE_STATE_NR, 9, 0x7fffffff, 0x80000000, 0xffffffff,
	};
	struct env *env = &self->env;
	struct stream_buf out = {};
	__u32 from;
	__u64 flags;
	size_t i;
	int fd, fd2;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, vfio_mig_flags(self->device, &flags));
	for_each_state(from) {
		ASSERT_EQ(0, env_enter(env, from, &fd));
		for (i = 0; i < ARRAY_SIZE_OF(targets); i++) {
			if (targets[i] == VFIO_DEVICE_STATE_RUNNING_P2P &&
			    flags & VFIO_MIGRATION_P2P)
				continue;
			if ((targets[i] == VFIO_DEVICE_STATE_PRE_COPY ||
			     targets[i] == VFIO_DEVICE_STATE_PRE_COPY_P2P) &&
			    flags & VFIO_MIGRATION_PRE_COPY &&
			    from != VFIO_DEVICE_STATE_STOP_COPY)
				continue;
			EXPECT_EQ(-EINVAL, vfio_mig_set(self->device, targets[i], &fd2)) {
				TH_LOG("%s > %#x", vfio_mig_name(from), targets[i]);
			}
			EXPECT_EQ(-1, fd2);
			EXPECT_EQ((int)from, vfio_mig_state(self->device)) {
				TH_LOG("%s > %#x", vfio_mig_name(from), targets[i]);
			}
		}
		if (from == VFIO_DEVICE_STATE_STOP_COPY) {
			EXPECT_EQ(0, env_read(fd, 0, &out));
			EXPECT_EQ(env->stream.len, out.len);
		}
		if (from == VFIO_DEVICE_STATE_RESUMING)
			EXPECT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
		if (fd >= 0)
			close(fd);
	}
	stream_free(&out);
}

TEST_F_TIMEOUT(state, argsz_and_flags_of_the_features_are_checked, ENV_TIMEOUT)
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
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
}

TEST_F_TIMEOUT(state, data_size_is_never_zero_and_covers_the_stream, ENV_TIMEOUT)
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
		EXPECT_GE(size, env->stream.len);
		/* QEMU iterates for as long as it takes this to be small */
		if (state == VFIO_DEVICE_STATE_STOP_COPY)
			EXPECT_EQ(env->stream.len, size);
		EXPECT_LE(size, STREAM_MAX_SIZE);
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

TEST_F_TIMEOUT(state, debugfs_tells_the_state_of_an_open_and_a_closed_device, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char text[32];
	__u32 state;

	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, NULL));
		ASSERT_EQ(0, ap_mdev_debug_state(env->dev.uuid, text, sizeof(text)));
		EXPECT_STREQ(vfio_mig_name(state), text);
	}
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
		if (state == VFIO_DEVICE_STATE_STOP_COPY)
			EXPECT_EQ(-ENODEV, env_try_read(fd));
		if (state == VFIO_DEVICE_STATE_RESUMING)
			EXPECT_EQ(-ENODEV, env_try_write(fd));
		if (fd >= 0)
			close(fd);
		/* QEMU still thinks of STOP after a reset of a paused VM */
		EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		EXPECT_EQ(0, env_stream(env));
	}
}

TEST_F_TIMEOUT(state, close_in_each_state_leaves_nothing_to_the_next_user, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	__u32 state;
	int fd;

	for_each_state(state) {
		ASSERT_EQ(0, env_enter(env, state, &fd));
		vfio_ap_close(&env->dev);
		if (state == VFIO_DEVICE_STATE_STOP_COPY)
			EXPECT_EQ(-ENODEV, env_try_read(fd));
		if (state == VFIO_DEVICE_STATE_RESUMING)
			EXPECT_EQ(-ENODEV, env_try_write(fd));
		if (fd >= 0)
			close(fd);
		ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(0), variant->path));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(env->dev.device));
		EXPECT_EQ(0, env_stream(env));
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	}
}

TEST_F_TIMEOUT(state, resuming_without_data_does_not_end, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int fd;

	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-ENODATA, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	EXPECT_EQ(-ENODATA, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	EXPECT_EQ(-ENODATA, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	/* It is no dead end */
	EXPECT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
}

TEST_F_TIMEOUT(state, the_calls_of_qemu_migrate_to_the_same_device, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct client_data data;
	struct client c;

	ASSERT_EQ(0, client_realize(&c, &env->dev));
	ASSERT_EQ(0, client_save(&c, &data));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(self->device));
	vfio_ap_close(&env->dev);

	ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(0), variant->path));
	ASSERT_EQ(0, client_realize(&c, &env->dev));
	ASSERT_EQ(0, client_load(&c, &data));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(env->dev.device));
	ASSERT_EQ(0, client_start(&c));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(env->dev.device));
	EXPECT_EQ(0, client_quit(&c));
	client_data_free(&data);
}

/* As between two hosts: what the guest has moves to a device of another UUID */
TEST_F_TIMEOUT(state, the_calls_of_qemu_migrate_to_another_uuid, ENV_TIMEOUT)
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

/* A source reads at most what MIG_DATA_SIZE said, the destination gets less */
TEST_F_TIMEOUT(state, the_calls_of_qemu_with_small_buffers, ENV_TIMEOUT)
{
	static const size_t chunks[] = { 1, 15, 16, 17, 64, 104 };
	struct client_data data;
	struct client c;
	size_t i;

	ASSERT_EQ(0, client_realize(&c, &self->env.dev));
	ASSERT_EQ(0, client_save(&c, &data));
	ASSERT_EQ(0, client_cancel(&c));
	for (i = 0; i < ARRAY_SIZE_OF(chunks); i++) {
		data.chunk = chunks[i];
		EXPECT_EQ(0, client_load(&c, &data));
		EXPECT_EQ(0, client_start(&c));
	}
	client_data_free(&data);
}

/* Ending in another way than by success must not spoil the next migration */
TEST_F_TIMEOUT(state, a_cancelled_migration_can_be_repeated, ENV_TIMEOUT)
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

TEST_F_TIMEOUT(state, asking_for_the_size_commits_to_nothing, ENV_TIMEOUT)
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

TEST_F_TIMEOUT(state, a_second_migration_sends_no_stale_snapshot, ENV_TIMEOUT)
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

TEST_F_TIMEOUT(state, a_hundred_migrations, ENV_TIMEOUT)
{
	struct client_data data;
	struct client c;
	int i;

	ASSERT_EQ(0, client_realize(&c, &self->env.dev));
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, client_save(&c, &data)) {
			TH_LOG("migration %d", i);
		}
		ASSERT_EQ(0, client_cancel(&c));
		ASSERT_EQ(0, client_load(&c, &data)) {
			TH_LOG("migration %d", i);
		}
		ASSERT_EQ(0, client_start(&c));
		client_data_free(&data);
	}
}

TEST_F_TIMEOUT(state, a_guest_without_queues_migrates, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct ap_masks none = {};

	ASSERT_EQ(0, ap_mdev_assign(env->dev.uuid, &none));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(0U, env->decoded.nr_rows);
	EXPECT_EQ(0, memcmp(&none, &env->decoded.masks, sizeof(none)));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
}

/* The core can not give the file to the user: the session is open all the same */
TEST_F_TIMEOUT(state, a_result_that_can_not_be_stored_leaks_nothing, ENV_TIMEOUT)
{
	struct vfio_device_feature_mig_state *mig;
	struct vfio_device_feature *feature;
	struct rlimit old, none;
	int i, fd;

	feature = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, feature);
	mig = (void *)feature->data;
	feature->argsz = sizeof(*feature) + sizeof(*mig);
	feature->flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, mprotect(feature, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE));
		mig->device_state = i ? VFIO_DEVICE_STATE_RESUMING : VFIO_DEVICE_STATE_STOP_COPY;
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
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(0, env_stream(&self->env));
}

/* Any walk from any state is right at any moment; only the number is fixed */
static int walk_at_random(struct vfio_ap *dev, unsigned int seed, unsigned int steps)
{
	int fd, ret;

	while (steps--) {
		switch (rand_r(&seed) % 6) {
		case 0:
			ret = vfio_ap_reset(dev);
			break;
		default:
			ret = vfio_mig_set(dev->device, states[rand_r(&seed) % 4], &fd);
			if (!ret && fd >= 0) {
				env_try_read(fd);
				env_try_write(fd);
				close(fd);
			}
			/* Out of RESUMING goes only who has the data */
			if (ret == -ENODATA)
				ret = 0;
			break;
		}
		if (ret)
			return ret;
	}
	return 0;
}

TEST_F_TIMEOUT(state, two_processes_change_the_state_of_one_device, ENV_TIMEOUT)
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
