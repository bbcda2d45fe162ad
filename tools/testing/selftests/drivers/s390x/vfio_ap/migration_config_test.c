// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: changes of the configuration while a session is open, by
 * the administrator, who is refused, and by the host, who is not.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "client/client.h"
#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

FIXTURE(config) {
	struct env env;
	int device;
};

FIXTURE_VARIANT(config) {
	enum vfio_ap_path path;
};

FIXTURE_VARIANT_ADD(config, group) {
	.path = VFIO_AP_GROUP,
};

FIXTURE_VARIANT_ADD(config, cdev) {
	.path = VFIO_AP_CDEV,
};

FIXTURE_SETUP(config)
{
	const char *why;
	int ret;

	why = env_setup(&self->env, variant->path, &ret);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ret);
	self->device = self->env.dev.device;
	ASSERT_EQ(0, env_stream(&self->env));
}

FIXTURE_TEARDOWN(config)
{
	env_teardown(&self->env);
}

/* The attributes as files show them, in one string */
static int show_config(const char *uuid, char *text, size_t size)
{
	static const char * const attrs[] = {
		"ap_config", "matrix", "guest_matrix", "control_domains",
	};
	size_t i, len = 0;
	int n;

	for (i = 0; i < ARRAY_SIZE_OF(attrs); i++) {
		n = ap_mdev_read(uuid, attrs[i], text + len, size - len);
		if (n < 0)
			return n;
		len += n;
	}
	return 0;
}

/* How many of the seven attributes gave @want; each is told that did not */
static unsigned int try_attributes(struct env *env, int want)
{
	unsigned int spare = env->pool.domains[env->pool.nr_domains - 1];
	static const struct ap_masks none;
	const char *uuid = env->dev.uuid;
	struct {
		const char *attr;
		unsigned int id;
	} writes[] = {
		{ "unassign_adapter", env->pool.adapters[0] },
		{ "assign_adapter", env->pool.adapters[0] },
		{ "assign_domain", spare },
		{ "unassign_domain", spare },
		{ "unassign_control_domain", env->pool.cdomains[0] },
		{ "assign_control_domain", env->pool.cdomains[0] },
	};
	unsigned int i, right = 0;
	int ret;

	for (i = 0; i < ARRAY_SIZE_OF(writes); i++) {
		ret = ap_mdev_write(uuid, writes[i].attr, "%#x", writes[i].id);
		if (ret != want)
			ksft_print_msg("%s: %d, not %d\n", writes[i].attr, ret, want);
		right += ret == want;
	}
	ret = ap_mdev_assign(uuid, &none);
	if (ret != want)
		ksft_print_msg("ap_config: %d, not %d\n", ret, want);
	right += ret == want;
	/* Where that was allowed, the device has to be as it was */
	if (!ret)
		ap_mdev_assign(uuid, &env->masks);
	return right;
}

static const unsigned int nr_attributes = 7;

TEST_F_TIMEOUT(config, attributes_are_busy_while_a_session_is_open, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	static const __u32 states[] = { VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING };
	char before[4096], after[4096];
	size_t i;
	int fd;

	ASSERT_EQ(0, show_config(env->dev.uuid, before, sizeof(before)));
	for (i = 0; i < ARRAY_SIZE_OF(states); i++) {
		ASSERT_EQ(0, env_enter(env, states[i], &fd));
		EXPECT_EQ(nr_attributes, try_attributes(env, -EBUSY));
		/* Also without the file: the session is what counts */
		close(fd);
		EXPECT_EQ(nr_attributes, try_attributes(env, -EBUSY));
		ASSERT_EQ(0, show_config(env->dev.uuid, after, sizeof(after)));
		EXPECT_STREQ(before, after);
	}
	/* Refused values are not looked at */
	EXPECT_EQ(-EBUSY, ap_mdev_write(env->dev.uuid, "ap_config", "nonsense"));
	EXPECT_EQ(-EBUSY, ap_mdev_write(env->dev.uuid, "assign_adapter", "0xfff"));
}

TEST_F_TIMEOUT(config, attributes_are_free_after_a_save, ENV_TIMEOUT)
{
	struct env *env = &self->env;

	EXPECT_EQ(nr_attributes, try_attributes(env, 0));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(nr_attributes, try_attributes(env, 0));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(nr_attributes, try_attributes(env, 0));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(nr_attributes, try_attributes(env, 0));
}

/* What was found equal stays equal until the guest runs */
TEST_F_TIMEOUT(config, attributes_are_busy_from_resuming_until_running, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char before[4096], after[4096];
	int fd;

	ASSERT_EQ(0, show_config(env->dev.uuid, before, sizeof(before)));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	close(fd);
	EXPECT_EQ(nr_attributes, try_attributes(env, -EBUSY));
	/* Saved again on the way, which does not make the guest run */
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(nr_attributes, try_attributes(env, -EBUSY));
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(nr_attributes, try_attributes(env, -EBUSY));
	ASSERT_EQ(0, show_config(env->dev.uuid, after, sizeof(after)));
	EXPECT_STREQ(before, after);
	ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(nr_attributes, try_attributes(env, 0));
}

TEST_F_TIMEOUT(config, reset_and_close_free_the_attributes, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	int fd, i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		EXPECT_EQ(nr_attributes, try_attributes(env, 0));
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		if (i) {
			ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
			ASSERT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
		}
		close(fd);
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		EXPECT_EQ(nr_attributes, try_attributes(env, 0));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, env_enter(env, i ? VFIO_DEVICE_STATE_RESUMING :
				       VFIO_DEVICE_STATE_STOP_COPY, &fd));
		if (i == 2) {
			ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
			ASSERT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
		}
		vfio_ap_close(&env->dev);
		EXPECT_EQ(nr_attributes, try_attributes(env, 0));
		close(fd);
		ASSERT_EQ(0, vfio_ap_open(&env->dev, ap_mdev_uuid(0), variant->path));
	}
}

/* A destination that is configured otherwise, by the administrator's own hand */
TEST_F_TIMEOUT(config, a_destination_without_one_of_the_resources_refuses, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct {
		const char *take, *give;
		unsigned int id;
	} parts[] = {
		{ "unassign_adapter", "assign_adapter", env->pool.adapters[0] },
		{ "unassign_domain", "assign_domain", env->pool.domains[0] },
		{ "unassign_control_domain", "assign_control_domain", env->pool.cdomains[0] },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(parts); i++) {
		ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, parts[i].take, "%#x", parts[i].id));
		EXPECT_EQ(-ENXIO, env_resume(env, env->stream.data, env->stream.len, 0)) {
			TH_LOG("after %s", parts[i].take);
		}
		ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, parts[i].give, "%#x", parts[i].id));
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	}
	/* More than the source has is a difference too */
	ASSERT_EQ(0, ap_mdev_write(env->dev.uuid, "assign_domain", "%#x",
				   env->pool.domains[env->pool.nr_domains - 1]));
	EXPECT_EQ(-ENXIO, env_resume(env, env->stream.data, env->stream.len, 0));
}

/**
 * struct card - what has to be known of a card to put it back
 * @apid: adapter
 * @spec: as the simulator wants it
 */
struct card {
	unsigned int apid;
	char spec[128];
};

static void remember_card(struct env *env, unsigned int i, struct card *card)
{
	__u64 info = env->decoded.rows[i].info;

	card->apid = env->decoded.rows[i].apid;
	snprintf(card->spec, sizeof(card->spec), "%02x:%u%c:fac=0x%x:qd=%u:ml=%u:nd=%u",
		 card->apid, (__u32)hwinfo_get(info, STREAM_HW_AT),
		 info & STREAM_HW_CCA ? 'c' : info & STREAM_HW_EP11 ? 'p' : 'a',
		 (__u32)(info >> 32), (__u32)hwinfo_get(info, STREAM_HW_QD),
		 (__u32)hwinfo_get(info, STREAM_HW_ML), (__u32)hwinfo_get(info, STREAM_HW_ND));
}

static int remove_card(const struct card *card)
{
	int ret = ap_sim_control("card del %02x", card->apid);

	return ret ?: ap_bus_rescan();
}

static int add_card(const struct card *card)
{
	int ret = ap_sim_control("card add %s", card->spec);

	return ret ?: ap_bus_rescan();
}

/* A guest must not run on with less than the stream says that it has */
TEST_F_TIMEOUT(config, a_card_that_goes_ends_a_save, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct card card;
	int fd;

	remember_card(env, env->decoded.nr_rows - 1, &card);
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(1, env_try_read(fd));
	ASSERT_EQ(0, remove_card(&card));
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	/* The state does not change by itself, and every way out is open */
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(-ENODEV, env_try_read(fd));
	close(fd);
	ASSERT_EQ(0, env_stream(env));
	EXPECT_FALSE(ap_mask_test(env->decoded.masks.apm, card.apid));
	ASSERT_EQ(0, add_card(&card));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_TRUE(ap_mask_test(env->decoded.masks.apm, card.apid));
}

TEST_F_TIMEOUT(config, a_card_that_goes_ends_a_resume, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct card card;
	int fd;

	remember_card(env, env->decoded.nr_rows - 1, &card);
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len - 1, 0, NULL));
	ASSERT_EQ(0, remove_card(&card));
	EXPECT_EQ(-ECANCELED, env_try_write(fd));
	EXPECT_EQ(-ECANCELED, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	close(fd);
	EXPECT_EQ(-ENXIO, env_resume(env, env->stream.data, env->stream.len, 0));
	ASSERT_EQ(0, add_card(&card));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
}

/* All was compared, then the hardware changed before the last arc */
TEST_F_TIMEOUT(config, a_card_that_goes_after_the_end_of_the_stream, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct card card;
	int fd;

	remember_card(env, env->decoded.nr_rows - 1, &card);
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(0, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
	ASSERT_EQ(0, remove_card(&card));
	EXPECT_NE(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	close(fd);
	ASSERT_EQ(0, add_card(&card));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
}

/* A control domain that the host loses is taken from the guest at once */
TEST_F_TIMEOUT(config, a_control_domain_that_goes_ends_a_save, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	unsigned int i, cdom = AP_IDS;
	int fd;

	for (i = 0; i < env->pool.nr_cdomains; i++)
		if (!memchr(env->pool.domains, env->pool.cdomains[i], env->pool.nr_domains))
			cdom = env->pool.cdomains[i];
	if (cdom == AP_IDS)
		cdom = env->pool.cdomains[env->pool.nr_cdomains - 1];
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	ASSERT_EQ(0, ap_sim_control("cdomain del %02x", cdom));
	ASSERT_EQ(0, ap_bus_rescan());
	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	ASSERT_EQ(0, ap_sim_control("cdomain add %02x", cdom));
	ASSERT_EQ(0, ap_bus_rescan());
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(0, memcmp(&env->masks, &env->decoded.masks, sizeof(env->masks)));
}

/* The card that comes back is of another type: what the lab's demo plants */
TEST_F_TIMEOUT(config, a_card_of_another_type_is_a_difference, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf first = env->stream;
	struct card card, other;
	__u64 *info;

	remember_card(env, 0, &card);
	info = &env->decoded.rows[0].info;
	*info = hwinfo_put(*info, STREAM_HW_AT, hwinfo_get(*info, STREAM_HW_AT) - 1);
	remember_card(env, 0, &other);
	memset(&env->stream, 0, sizeof(env->stream));

	ASSERT_EQ(0, remove_card(&card));
	ASSERT_EQ(0, add_card(&other));
	EXPECT_EQ(-EXDEV, env_resume(env, first.data, first.len, 0));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	ASSERT_EQ(0, remove_card(&other));
	ASSERT_EQ(0, add_card(&card));
	EXPECT_EQ(0, env_resume(env, first.data, first.len, 0));
	stream_free(&first);
}

/* A queue that can not be reset is no reason to stay where one is */
static int set_event(int device, __u32 index, int event)
{
	struct {
		struct vfio_irq_set set;
		__s32 fd;
	} arg = {
		.set = {
			.argsz = sizeof(arg),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = index,
			.count = 1,
		},
		.fd = event,
	};

	return ioctl(device, VFIO_DEVICE_SET_IRQS, &arg) ? -errno : 0;
}

/* Attaching the device to a guest changes the configuration of that guest */
TEST_F_TIMEOUT(config, a_new_user_signals_no_eventfd_of_the_last, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char uuid[AP_UUID_SIZE];
	int event, own;
	__u64 count;

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_LE(0, event);
	ASSERT_LE(0, own);
	ASSERT_EQ(0, set_event(self->device, VFIO_AP_CFG_CHG_IRQ_INDEX, event));

	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, vfio_ap_open(&env->dev, uuid, variant->path));
	EXPECT_EQ(-1, read(event, &count, sizeof(count)));
	EXPECT_EQ(EAGAIN, errno);

	ASSERT_EQ(0, set_event(env->dev.device, VFIO_AP_CFG_CHG_IRQ_INDEX, own));
	ASSERT_EQ(0, ap_mdev_write(uuid, "unassign_control_domain", "%#x",
				   env->pool.cdomains[0]));
	EXPECT_EQ((ssize_t)sizeof(count), read(own, &count, sizeof(count)));
	EXPECT_EQ(-1, read(event, &count, sizeof(count)));
	close(own);
	close(event);
}

/* Remove the mediated device; that ends when nobody has it open any more */
static pid_t remove_in_child(const char *uuid)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	close_range(3, ~0U, 0);
	_exit(ap_mdev_remove(uuid) ? 1 : 0);
}

/*
 * Once the host wants the device back the guest has no queues, though the
 * device's configuration still has: nothing can be told to a peer.
 */
TEST_F_TIMEOUT(config, a_device_that_is_requested_back_does_not_migrate, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	char uuid[AP_UUID_SIZE];
	int fd, event, status;
	__u64 count;
	pid_t pid;

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	event = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, event);
	ASSERT_EQ(0, set_event(self->device, VFIO_AP_REQ_IRQ_INDEX, event));
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(1, env_try_read(fd));

	pid = remove_in_child(uuid);
	ASSERT_LT(0, pid);
	ASSERT_EQ((ssize_t)sizeof(count), read(event, &count, sizeof(count)));

	EXPECT_EQ(-ECANCELED, env_try_read(fd));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(-EBUSY, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-EBUSY, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RESUMING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(self->device));
	EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
	/* Refused before the first arc: nothing has changed */
	EXPECT_EQ(-EBUSY, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));

	vfio_ap_close(&env->dev);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_FALSE(ap_mdev_exists(uuid));
	EXPECT_EQ(-ENODEV, env_try_read(fd));
	close(fd);
	close(event);
}

TEST_F_TIMEOUT(config, reset_leads_to_running_with_a_dead_card, ENV_TIMEOUT)
{
	static const char * const faults[] = { "config %02x off", "checkstop %02x on" };
	static const char * const repairs[] = { "config %02x on", "checkstop %02x off" };
	struct env *env = &self->env;
	unsigned int apid = env->pool.adapters[0], i;
	char command[64];
	int fd;

	for (i = 0; i < ARRAY_SIZE_OF(faults); i++) {
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		snprintf(command, sizeof(command), faults[i], apid);
		ASSERT_EQ(0, ap_sim_control("%s", command));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev)) {
			TH_LOG("after %s", command);
		}
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
		EXPECT_EQ(-ENODEV, env_try_write(fd));
		close(fd);
		snprintf(command, sizeof(command), repairs[i], apid);
		ASSERT_EQ(0, ap_sim_control("%s", command));
		ASSERT_EQ(0, ap_bus_rescan());
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	}
}

/* Comparing takes no AP instruction: the information is kept since probe */
TEST_F_TIMEOUT(config, saving_and_resuming_ask_no_queue, ENV_TIMEOUT)
{
	static const char * const insns[] = { "tapq", "rapq", "zapq", "aqic", "qact" };
	struct env *env = &self->env;
	unsigned int tries;
	long before, used;
	__u64 size;
	size_t i;

	/* The AP bus asks too, from time to time, but not each time */
	for (tries = 0, used = 1; used && tries < 5; tries++) {
		for (i = 0, before = 0; i < ARRAY_SIZE_OF(insns); i++)
			before += ap_sim_counter(insns[i]);
		EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
		EXPECT_EQ(0, env_stream(env));
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
		for (i = 0, used = -before; i < ARRAY_SIZE_OF(insns); i++)
			used += ap_sim_counter(insns[i]);
	}
	EXPECT_EQ(0, used);
	/* That was counted at all */
	EXPECT_LT(0, before);
}

TEST_HARNESS_MAIN
