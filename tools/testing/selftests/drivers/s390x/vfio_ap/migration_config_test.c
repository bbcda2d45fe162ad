// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: changes of the configuration by the administrator before,
 * while and after a session is open; and their comparison with a stream.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

ENV_FIXTURE(config, ENV_CDEV, true)

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

/**
 * struct change - a change of the guest's matrix by the administrator
 * @name: the attribute
 * @undo: the attribute that undoes it; NULL for ap_config
 * @id: the number that is written
 */
struct change {
	const char *name;
	const char *undo;
	unsigned int id;
};

/* The seven attributes, some of them as the undo of another one */
static unsigned int list_changes(const struct env *env, struct change *changes)
{
	unsigned int spare = env->pool.domains[env->pool.nr_domains - 1];
	const struct change all[] = {
		{ "unassign_adapter", "assign_adapter", env->pool.adapters[0] },
		{ "assign_domain", "unassign_domain", spare },
		{ "unassign_domain", "assign_domain", env->pool.domains[0] },
		{ "unassign_control_domain", "assign_control_domain", env->pool.cdomains[0] },
		{ "ap_config", NULL, 0 },
	};

	memcpy(changes, all, sizeof(all));
	return ARRAY_SIZE_OF(all);
}

#define MAX_CHANGES 5

static int make_change(const struct env *env, const struct change *c)
{
	struct ap_masks masks = env->masks;

	if (c->undo)
		return ap_mdev_write(env->dev.uuid, c->name, "%#x", c->id);
	ap_mask_clear(masks.aqm, ap_mask_next(masks.aqm, 0, true));
	return ap_mdev_assign(env->dev.uuid, &masks);
}

static int undo_change(const struct env *env, const struct change *c)
{
	if (c->undo)
		return ap_mdev_write(env->dev.uuid, c->undo, "%#x", c->id);
	return ap_mdev_assign(env->dev.uuid, &env->masks);
}

/* The session has ended, or goes on if it had accepted the stream; the state stays */
static void expect_ended(struct __test_metadata *_metadata, struct env *env,
			 enum env_stage stage, int fd)
{
	EXPECT_EQ((int)env_stage_state(stage), vfio_mig_state(env->dev.device));
	if (env_stage_source(stage)) {
		EXPECT_EQ(-ECANCELED, env_try_read(fd));
		/* The guest can be stopped, and the error stays */
		EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		EXPECT_EQ(-ECANCELED, env_try_read(fd));
	} else if (stage == ENV_RESUMING_WHOLE) {
		EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
	} else {
		EXPECT_EQ(-ECANCELED, env_try_write(fd));
		EXPECT_EQ(-ECANCELED, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(env->dev.device));
	}
}

/* No user of a device can keep the administrator from changing it */
TEST_F_TIMEOUT(config, attributes_are_stored_in_each_state, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct change changes[MAX_CHANGES];
	char before[4096], after[4096];
	struct stream_buf out = {};
	unsigned int i, nr;
	enum env_stage stage;
	int fd;

	ASSERT_EQ(0, show_config(env->dev.uuid, before, sizeof(before)));
	nr = list_changes(env, changes);
	for_each_env_stage(stage) {
		for (i = 0; i < nr; i++) {
			ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
			EXPECT_EQ(0, make_change(env, &changes[i])) {
				TH_LOG("%s in %s", changes[i].name, env_stage_name(stage));
			}
			ASSERT_EQ(0, show_config(env->dev.uuid, after, sizeof(after)));
			EXPECT_STRNE(before, after);
			if (env_stage_session(stage))
				expect_ended(_metadata, env, stage, fd);
			else
				EXPECT_EQ((int)env_stage_state(stage),
					  vfio_mig_state(self->device));
			EXPECT_EQ(0, undo_change(env, &changes[i]));
			if (fd >= 0)
				close(fd);
			ASSERT_EQ(0, show_config(env->dev.uuid, after, sizeof(after)));
			EXPECT_STREQ(before, after);
		}
	}
	/* And the next migration knows nothing of it */
	ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(0, env_save(env, &out));
	EXPECT_EQ(0, env_resume(env, out.data, out.len, 0));
	stream_free(&out);
}

/* A value that is refused, or changes nothing, ends no session */
TEST_F_TIMEOUT(config, stores_without_effect_end_no_session, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf out = {};
	enum env_stage stage;
	int fd;

	for_each_env_stage(stage) {
		if (!env_stage_session(stage))
			continue;
		ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
		EXPECT_EQ(-EINVAL, ap_mdev_write(env->dev.uuid, "ap_config", "nonsense"));
		EXPECT_EQ(-ENODEV, ap_mdev_write(env->dev.uuid, "assign_adapter", "0xfff"));
		EXPECT_EQ(0, ap_mdev_assign(env->dev.uuid, &env->masks));
		EXPECT_EQ(0, ap_mdev_write(env->dev.uuid, "assign_adapter", "%#x",
					   env->pool.adapters[0]));
		if (env_stage_source(stage)) {
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
			EXPECT_EQ(0, env_read(fd, 0, &out));
			ASSERT_EQ(env->stream.len, out.len);
			EXPECT_EQ(0, memcmp(env->stream.data, out.data, out.len));
		} else {
			EXPECT_EQ(0, env_write(fd, env->stream.data + out.len,
					       env->stream.len - out.len, 0, NULL));
			EXPECT_EQ(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
		}
		close(fd);
	}
	stream_free(&out);
}

/* A destination that is configured otherwise, by the administrator's own hand */
TEST_F_TIMEOUT(config, missing_resource_is_refused, ENV_TIMEOUT)
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

static void remember_card(struct env *env, unsigned int i, struct ap_card *card)
{
	ap_card_describe(card, env->decoded.rows[i].apid, env->decoded.rows[i].info);
}

/* The card that comes back is of another type, as in the lab's demo */
TEST_F_TIMEOUT(config, card_of_another_type_is_difference, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream_buf first = env->stream;
	struct ap_card card, other;
	__u64 *info;

	if (!ap_control_present())
		SKIP(return, AP_NO_CONTROL);
	remember_card(env, 0, &card);
	info = &env->decoded.rows[0].info;
	*info = hwinfo_put(*info, STREAM_HW_AT, hwinfo_get(*info, STREAM_HW_AT) - 1);
	remember_card(env, 0, &other);
	memset(&env->stream, 0, sizeof(env->stream));

	ASSERT_EQ(0, ap_card_remove(&card));
	ASSERT_EQ(0, ap_card_add(&other));
	EXPECT_EQ(-ENXIO, env_resume(env, first.data, first.len, 0));
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	ASSERT_EQ(0, ap_card_remove(&other));
	ASSERT_EQ(0, ap_card_add(&card));
	EXPECT_EQ(0, env_resume(env, first.data, first.len, 0));
	stream_free(&first);
}

/* Attaching the device to a guest changes the configuration of that guest */
TEST_F_TIMEOUT(config, new_user_inherits_no_eventfd, ENV_TIMEOUT)
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
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_CFG_CHG_IRQ_INDEX, event));

	vfio_ap_close(&env->dev);
	ASSERT_EQ(0, vfio_ap_open(&env->dev, uuid, variant->path));
	EXPECT_EQ(-1, read(event, &count, sizeof(count)));
	EXPECT_EQ(EAGAIN, errno);

	ASSERT_EQ(0, vfio_ap_set_event(env->dev.device, VFIO_AP_CFG_CHG_IRQ_INDEX, own));
	ASSERT_EQ(0, ap_mdev_write(uuid, "unassign_control_domain", "%#x",
				   env->pool.cdomains[0]));
	EXPECT_EQ((ssize_t)sizeof(count), read(own, &count, sizeof(count)));
	EXPECT_EQ(-1, read(event, &count, sizeof(count)));
	close(own);
	close(event);
}

/* The reset leads to RUNNING though a queue cannot be reset */
TEST_F_TIMEOUT(config, reset_leads_to_running_with_dead_card, ENV_TIMEOUT)
{
	static const char * const faults[] = { "config %02x off", "checkstop %02x on" };
	static const char * const repairs[] = { "config %02x on", "checkstop %02x off" };
	struct env *env = &self->env;
	unsigned int apid = env->pool.adapters[0], i;
	char command[64];
	int fd;

	if (!ap_control_present())
		SKIP(return, AP_NO_CONTROL);
	for (i = 0; i < ARRAY_SIZE_OF(faults); i++) {
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		snprintf(command, sizeof(command), faults[i], apid);
		ASSERT_EQ(0, ap_control("%s", command));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev)) {
			TH_LOG("after %s", command);
		}
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->device));
		EXPECT_EQ(-ENODEV, env_try_write(fd));
		close(fd);
		snprintf(command, sizeof(command), repairs[i], apid);
		ASSERT_EQ(0, ap_control("%s", command));
		ASSERT_EQ(0, ap_bus_rescan());
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	}
}

/*
 * Comparing takes no AP instruction: the information is kept since probe. To stop
 * takes one for each queue, which tells whether it interrupts. RESUMING resets each
 * queue, and looks until the reset has completed.
 */
TEST_F_TIMEOUT(config, comparison_executes_no_ap_instruction, ENV_TIMEOUT)
{
	static const char * const insns[] = { "tapq", "rapq", "zapq", "aqic", "qact" };
	struct env *env = &self->env;
	long before, used, queues, needed;
	unsigned int tries;
	__u64 size;
	size_t i;

	if (!ap_control_present())
		SKIP(return, AP_NO_CONTROL);
	queues = ap_mask_weight(env->masks.apm) * ap_mask_weight(env->masks.aqm);
	/* To stop once to save, and once to resume; the reset */
	needed = 2 * queues + (1 + AP_RESET_POLLS + 1) * queues;
	/* The AP bus asks too, from time to time, but not each time */
	for (tries = 0, used = needed + 1; used != needed && tries < 5; tries++) {
		for (i = 0, before = 0; i < ARRAY_SIZE_OF(insns); i++)
			before += ap_counter(insns[i]);
		EXPECT_EQ(0, vfio_mig_data_size(self->device, &size));
		EXPECT_EQ(0, env_stream(env));
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
		for (i = 0, used = -before; i < ARRAY_SIZE_OF(insns); i++)
			used += ap_counter(insns[i]);
	}
	EXPECT_EQ(needed, used);
	EXPECT_LT(0, queues);
}

TEST_HARNESS_MAIN
