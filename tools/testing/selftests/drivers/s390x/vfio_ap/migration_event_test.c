// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: events of the device during a migration that cannot be
 * refused, or that another layer refuses; in each state, on the source and on
 * the destination.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <linux/iommufd.h>
#include <linux/kvm.h>

#include "lib/env.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

/*
 * Effects of an event: a letter for each stage of a migration, in the order
 *
 *	RUNNING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P, STOP, STOP_COPY,
 *	RESUMING (half a stream), RESUMING (the whole stream), STOP after RESUMING
 *
 * No event but those of userspace itself changes the state.
 */
enum outcome {
	NOT_TRIED = '.', /* as after another event that takes the same way in the kernel */
	GOES_ON = '=',	/* nothing changes: configuration, session, bytes of the stream */
	NEW = 'n',	/* the guest has another configuration, there is no session */
	CANCELED = 'c',	/* -ECANCELED for file and RESUMING->STOP; every way out is open */
	HOTPLUG = 'h',	/* the stream was accepted: the session and RESUMING->STOP succeed */
	OVER = 'o',	/* RUNNING, and the file gives -ENODEV */
};

/* A control domain that no guest has */
#define FOREIGN		0xf7

#define HARMLESS	"========="
#define CHANGES		"nnccncchn"
#define ENDS		"ooooooooo"
/* Where it is a session that matters, and a scan of the AP bus takes its time */
#define SESSION_HARMLESS "..==.===."
#define SESSION_CHANGES	"..cc.cch."

/**
 * struct site - where events happen
 * @env: the device
 * @card: the first of its adapters
 * @older: the same of an older type
 * @apid: its number
 * @other: the number of another adapter of the device
 * @domain: a domain of the device
 * @cdomain: a control domain of the device
 * @ioas: an I/O address space that the device was attached to
 * @moved: of a thread that moves a queue: 0 or a negative errno
 * @done: that thread ends
 * @apmask: of the AP bus, before
 * @aqmask: of the AP bus, before
 */
struct site {
	struct env env;
	struct ap_card card;
	struct ap_card older;
	unsigned int apid;
	unsigned int other;
	unsigned int domain;
	unsigned int cdomain;
	__u32 ioas;
	int moved;
	atomic_bool done;
	char apmask[80];
	char aqmask[80];
};

/**
 * struct event - something that happens to a device
 * @outcome: an &enum outcome for each &enum env_stage
 * @refused: errno of resuming an earlier stream after the event
 * @prepare: done once, while the guest runs
 * @happen: the event
 * @undo: makes it not have happened
 * @back: the same as @outcome for @undo, where that is an event, too
 */
struct event {
	const char *outcome;
	int refused;
	int (*prepare)(struct site *site);
	int (*happen)(struct site *site);
	int (*undo)(struct site *site);
	const char *back;
};

/* How to make the first adapter, and an older one that has its place */
static void describe_cards(struct site *site)
{
	__u64 info = site->env.decoded.rows[0].info;

	ap_card_describe(&site->card, site->apid, info);
	info = hwinfo_put(info, STREAM_HW_AT, hwinfo_get(info, STREAM_HW_AT) - 1);
	ap_card_describe(&site->older, site->apid, info);
}

static const char *site_setup(struct site *site, enum vfio_ap_path path, int *ret)
{
	struct env *env = &site->env;
	const char *why;

	memset(site, 0, sizeof(*site));
	why = env_setup_control(env, path, ret);
	if (why || *ret)
		return why;
	site->apid = env->pool.adapters[0];
	site->other = env->pool.adapters[1];
	site->domain = env->pool.domains[0];
	site->cdomain = env->pool.cdomains[env->pool.nr_cdomains - 1];
	*ret = ap_bus_read("apmask", site->apmask, sizeof(site->apmask));
	if (*ret > 0)
		*ret = ap_bus_read("aqmask", site->aqmask, sizeof(site->aqmask));
	*ret = *ret < 0 ? *ret : env_stream(env);
	if (!*ret)
		describe_cards(site);
	return NULL;
}

static bool queue_is_bound(unsigned int apid, unsigned int domain)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/ap/devices/%02x.%04x/driver", apid, domain);
	return !access(path, F_OK);
}

/* Restore the host; steps that find it restored already fail, which is ignored */
static void site_teardown(struct site *site)
{
	env_teardown(&site->env);
	if (!site->card.spec[0])
		return;
	ap_control("cdomain del %02x", FOREIGN);
	ap_control("config %02x on", site->apid);
	ap_control("checkstop %02x off", site->other);
	ap_control("card add %s", site->card.spec);
	ap_control("domain add %02x", site->domain);
	ap_control("cdomain add %02x", site->cdomain);
	ap_bus_rescan();
	if (!queue_is_bound(site->apid, site->domain))
		ap_queue_bind(site->apid, site->domain, "vfio_ap", true);
	ap_bus_write("apmask", "%s", site->apmask);
	ap_bus_write("aqmask", "%s", site->aqmask);
}

/* A session that nothing has happened to can be completed */
static void expect_goes_on(struct __test_metadata *_metadata, struct env *env,
			   enum env_stage stage, int fd, struct stream_buf *out)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int device = env->dev.device, fd2;

	if (!env_stage_session(stage))
		return;
	if (!env_stage_source(stage)) {
		EXPECT_EQ(0, env_write(fd, env->stream.data + out->len,
				       env->stream.len - out->len, 0, NULL));
		EXPECT_EQ(0, vfio_mig_set(device, VFIO_DEVICE_STATE_STOP, NULL));
		return;
	}
	if (stage == ENV_PRE_COPY) {
		EXPECT_EQ(0, poll(&p, 1, 0));
		EXPECT_EQ(-ENOMSG, env_try_read(fd));
	}
	EXPECT_EQ(0, vfio_mig_set(device, VFIO_DEVICE_STATE_STOP_COPY, &fd2));
	EXPECT_EQ(-1, fd2);
	EXPECT_EQ(0, env_read(fd, 0, out));
	ASSERT_EQ(env->stream.len, out->len);
	EXPECT_EQ(0, memcmp(env->stream.data, out->data, out->len));
}

static void expect_canceled(struct __test_metadata *_metadata, struct env *env,
			    enum env_stage stage, int fd)
{
	static const __u32 targets[] = { VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING };
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	size_t i;

	EXPECT_EQ(1, poll(&p, 1, 0));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(-ECANCELED, env_stage_source(stage) ? env_try_read(fd) :
			  env_try_write(fd));
	for (i = 0; !env_stage_source(stage) && i < ARRAY_SIZE_OF(targets); i++)
		EXPECT_EQ(-ECANCELED, vfio_mig_set(env->dev.device, targets[i], NULL));
	EXPECT_EQ((int)env_stage_state(stage), vfio_mig_state(env->dev.device));
	if (stage == ENV_PRE_COPY || stage == ENV_PRE_COPY_P2P) {
		/* It succeeds; read() returns the error */
		EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		EXPECT_EQ(-ECANCELED, env_try_read(fd));
	}
}

/* The comparison was made, so the guest may start with its present resources */
static void expect_hotplug(struct __test_metadata *_metadata, struct env *env, int fd)
{
	EXPECT_EQ(0, env_write(fd, NULL, 0, 0, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(env->dev.device));
	EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL));
}

/* From where the stage has got to; afterwards the file is of no use */
static void leave_stage(struct __test_metadata *_metadata, struct env *env, enum env_stage stage,
			int fd)
{
	int device = env->dev.device;

	if (vfio_mig_state(device) == VFIO_DEVICE_STATE_RESUMING)
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	EXPECT_EQ(0, vfio_mig_set(device, VFIO_DEVICE_STATE_RUNNING, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(device));
	if (fd < 0)
		return;
	EXPECT_EQ(-ENODEV, env_stage_source(stage) ? env_try_read(fd) : env_try_write(fd));
	close(fd);
}

static bool same_bytes(const struct stream_buf *a, const struct stream_buf *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

/* @happen in mid-migration; env->stream is that of before, and then of after */
static void run_half(struct __test_metadata *_metadata, struct site *site, enum env_stage stage,
		     enum outcome outcome, int refused, int (*happen)(struct site *site))
{
	struct stream_buf out = {}, before = {};
	struct env *env = &site->env;
	int fd;

	ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
	ASSERT_EQ(0, happen(site));
	EXPECT_EQ(outcome == OVER ? VFIO_DEVICE_STATE_RUNNING : (int)env_stage_state(stage),
		  vfio_mig_state(env->dev.device));
	if (outcome == GOES_ON)
		expect_goes_on(_metadata, env, stage, fd, &out);
	else if (outcome == CANCELED)
		expect_canceled(_metadata, env, stage, fd);
	else if (outcome == HOTPLUG)
		expect_hotplug(_metadata, env, fd);
	leave_stage(_metadata, env, stage, fd);

	/* The next migration, which is independent of this one, has the guest's resources */
	stream_put(&before, env->stream.data, env->stream.len);
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(!refused, same_bytes(&before, &env->stream));
	if (refused && (stage == ENV_RUNNING || stage == ENV_PRE_COPY))
		EXPECT_EQ(refused, env_resume(env, before.data, before.len, 0));
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	stream_free(&before);
	stream_free(&out);
}

static void run_stage(struct __test_metadata *_metadata, struct site *site,
		      const struct event *event, enum env_stage stage)
{
	struct stream_buf before = {};
	struct env *env = &site->env;

	stream_put(&before, env->stream.data, env->stream.len);
	run_half(_metadata, site, stage, event->outcome[stage], event->refused, event->happen);
	if (event->back) {
		run_half(_metadata, site, stage, event->back[stage], event->refused, event->undo);
	} else if (event->undo) {
		ASSERT_EQ(0, event->undo(site));
		ASSERT_EQ(0, env_stream(env));
	}
	EXPECT_TRUE(same_bytes(&before, &env->stream));
	stream_free(&before);
}

static void run_event(struct __test_metadata *_metadata, struct site *site,
		      const struct event *event)
{
	enum env_stage stage;
	int before;

	if (event->prepare) {
		ASSERT_EQ(0, event->prepare(site));
		ASSERT_EQ(0, env_stream(&site->env));
	}
	for_each_env_stage(stage) {
		if (event->outcome[stage] == NOT_TRIED)
			continue;
		before = _metadata->exit_code;
		run_stage(_metadata, site, event, stage);
		if (_metadata->exit_code != before)
			TH_LOG("that was in %s", env_stage_name(stage));
	}
}

ENV_FIXTURE_OF(event, site, ENV_CDEV)

static int remove_card(struct site *site)
{
	return ap_card_remove(&site->card);
}

static int add_card(struct site *site)
{
	return ap_card_add(&site->card);
}

TEST_F_TIMEOUT(event, card_goes_and_comes, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = CHANGES,
		.refused = -ENXIO,
		.happen = remove_card,
		.undo = add_card,
		.back = CHANGES,
	});
}

/* Seen by one scan of the AP bus: the host's configuration stays the same */
static int replace_card(struct site *site)
{
	return ap_control("card del %02x", site->apid) ?: ap_card_add(&site->older);
}

static int restore_card(struct site *site)
{
	return ap_control("card del %02x", site->apid) ?: ap_card_add(&site->card);
}

TEST_F_TIMEOUT(event, card_is_replaced_by_older_one_and_back, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = CHANGES,
		.refused = -ENXIO,
		.happen = replace_card,
		.undo = restore_card,
		.back = CHANGES,
	});
}

static int remove_domain(struct site *site)
{
	return ap_change("domain del %02x", site->domain);
}

static int add_domain(struct site *site)
{
	return ap_change("domain add %02x", site->domain);
}

TEST_F_TIMEOUT(event, domain_goes_and_comes, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = SESSION_CHANGES,
		.refused = -ENXIO,
		.happen = remove_domain,
		.undo = add_domain,
		.back = SESSION_CHANGES,
	});
}

static int remove_cdomain(struct site *site)
{
	return ap_change("cdomain del %02x", site->cdomain);
}

static int add_cdomain(struct site *site)
{
	return ap_change("cdomain add %02x", site->cdomain);
}

TEST_F_TIMEOUT(event, control_domain_goes_and_comes, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = SESSION_CHANGES,
		.refused = -ENXIO,
		.happen = remove_cdomain,
		.undo = add_cdomain,
		.back = SESSION_CHANGES,
	});
}

static int remove_several(struct site *site)
{
	return ap_control("card del %02x", site->apid) ?:
	       ap_control("cdomain del %02x", site->cdomain) ?: remove_domain(site);
}

static int add_several(struct site *site)
{
	return ap_control("card add %s", site->card.spec) ?:
	       ap_control("cdomain add %02x", site->cdomain) ?: add_domain(site);
}

TEST_F_TIMEOUT(event, host_is_reconfigured, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = CHANGES,
		.refused = -ENXIO,
		.happen = remove_several,
		.undo = add_several,
		.back = CHANGES,
	});
}

/* A domain that is not assigned to the guest */
static int add_foreign_cdomain(struct site *site)
{
	(void)site;
	return ap_change("cdomain add %02x", FOREIGN);
}

static int remove_foreign_cdomain(struct site *site)
{
	(void)site;
	return ap_change("cdomain del %02x", FOREIGN);
}

TEST_F_TIMEOUT(event, host_is_reconfigured_for_others, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = SESSION_HARMLESS,
		.happen = add_foreign_cdomain,
		.undo = remove_foreign_cdomain,
		.back = SESSION_HARMLESS,
	});
}

/*
 * Cards that cannot be used for now are still there: the AP bus records the
 * state and calls no driver, the guest sees it as the host does.
 */
static bool cards_are(struct site *site, bool configured, bool checkstopped)
{
	return ap_card_attr(site->apid, "config") == configured &&
	       ap_card_attr(site->other, "chkstop") == checkstopped;
}

static int disable_cards(struct site *site)
{
	int ret;

	ret = ap_control("config %02x off", site->apid) ?:
	      ap_change("checkstop %02x on", site->other);
	return ret ?: cards_are(site, false, true) ? 0 : -EPROTO;
}

static int enable_cards(struct site *site)
{
	int ret;

	ret = ap_control("config %02x on", site->apid) ?:
	      ap_change("checkstop %02x off", site->other);
	return ret ?: cards_are(site, true, false) ? 0 : -EPROTO;
}

TEST_F_TIMEOUT(event, cards_are_deconfigured_and_checkstopped, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = SESSION_HARMLESS,
		.happen = disable_cards,
		.undo = enable_cards,
		.back = SESSION_HARMLESS,
	});
}

/* A guest has a matrix: without one of its queues it loses the adapter */
static int unbind_queue(struct site *site)
{
	return ap_queue_bind(site->apid, site->domain, "vfio_ap", false);
}

static int bind_queue(struct site *site)
{
	return ap_queue_bind(site->apid, site->domain, "vfio_ap", true);
}

TEST_F_TIMEOUT(event, queue_is_unbound_and_bound, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = CHANGES,
		.refused = -ENXIO,
		.happen = unbind_queue,
		.undo = bind_queue,
		.back = CHANGES,
	});
}

/* The AP bus asks vfio_ap before it takes queues away: a mask stays as it is */
static int take_by_mask(const char *name, unsigned int id)
{
	char before[80], after[80];
	int ret;

	ret = ap_bus_read(name, before, sizeof(before));
	if (ret < 0)
		return ret;
	ret = ap_bus_write(name, "+%u\n", id);
	if (ret != -EBUSY)
		return ret ?: -EPROTO;
	ret = ap_bus_read(name, after, sizeof(after));
	return ret < 0 ? ret : strcmp(before, after) ? -EPROTO : 0;
}

static int take_by_apmask(struct site *site)
{
	return take_by_mask("apmask", site->apid);
}

static int take_by_aqmask(struct site *site)
{
	return take_by_mask("aqmask", site->domain);
}

/* Where a queue is vfio_ap's because of both masks */
static int release_by_aqmask(struct site *site)
{
	return ap_bus_write("aqmask", "-%u\n", site->domain);
}

TEST_F_TIMEOUT(event, apmask_cannot_take_adapter, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = HARMLESS,
		.happen = take_by_apmask,
	});
}

TEST_F_TIMEOUT(event, aqmask_cannot_take_domain, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = HARMLESS,
		.prepare = release_by_aqmask,
		.happen = take_by_aqmask,
	});
}

/* Masks that are in use exclude overrides */
static int write_refused_override(struct site *site)
{
	int ret;

	ret = ap_queue_write(site->apid, site->domain, "driver_override", "cex4queue\n");
	return ret == -EINVAL ? 0 : -EPROTO;
}

TEST_F_TIMEOUT(event, driver_override_is_refused_beside_masks, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = HARMLESS,
		.happen = write_refused_override,
	});
}

/* An override is looked at when a driver is to be bound, not before */
static int override_with_zcrypt(struct site *site)
{
	return ap_queue_write(site->apid, site->domain, "driver_override", "cex4queue\n");
}

static int override_with_vfio_ap(struct site *site)
{
	return ap_queue_write(site->apid, site->domain, "driver_override", "vfio_ap\n");
}

static int bind_by_override(unsigned int apid, unsigned int domain)
{
	return ap_queue_write(apid, domain, "driver_override", "vfio_ap\n") ?:
	       ap_queue_bind(apid, domain, "cex4queue", false) ?:
	       ap_queue_bind(apid, domain, "vfio_ap", true);
}

/* Give vfio_ap its queues by overrides, in place of masks */
static int use_overrides(struct site *site)
{
	const struct ap_pool *pool = &site->env.pool;
	unsigned int i, j;
	int ret;

	env_teardown(&site->env);
	ret = ap_bus_write("apmask", "+0-255\n") ?: ap_bus_write("aqmask", "+0-255\n");
	for (i = 0; !ret && i < pool->nr_adapters; i++)
		for (j = 0; !ret && j < pool->nr_domains; j++)
			ret = bind_by_override(pool->adapters[i], pool->domains[j]);
	if (!ret)
		env_setup(&site->env, VFIO_AP_CDEV, &ret);
	return ret;
}

/* Close the device, remove all overrides, and write the masks of before again */
static int use_masks(struct site *site)
{
	const struct ap_pool pool = site->env.pool;
	unsigned int i, j;
	int ret = 0;

	env_teardown(&site->env);
	for (i = 0; !ret && i < pool.nr_adapters; i++)
		for (j = 0; !ret && j < pool.nr_domains; j++)
			ret = ap_queue_write(pool.adapters[i], pool.domains[j],
					     "driver_override", "\n");
	return ret ?: ap_bus_write("apmask", "%s", site->apmask) ?:
		      ap_bus_write("aqmask", "%s", site->aqmask);
}

TEST_F_TIMEOUT(event, driver_override_alone_moves_no_queue, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = HARMLESS,
		.prepare = use_overrides,
		.happen = override_with_zcrypt,
		.undo = override_with_vfio_ap,
		.back = HARMLESS,
	});
	/* The masks can be written when no override is left */
	EXPECT_EQ(0, use_masks(&self->site));
}

/* A source whose queues came by masks, a destination whose queues came by overrides; and back */
TEST_F_TIMEOUT(event, masks_and_overrides_give_same_stream, ENV_TIMEOUT)
{
	struct site *site = &self->site;
	struct env *env = &site->env;
	struct stream_buf masks = {}, overrides = {};
	int ret;

	stream_put(&masks, env->stream.data, env->stream.len);
	ASSERT_EQ(0, use_overrides(site));
	ASSERT_EQ(0, env_save(env, &overrides));
	EXPECT_TRUE(same_bytes(&masks, &overrides));
	EXPECT_EQ(0, env_resume(env, masks.data, masks.len, 0));
	ASSERT_EQ(0, use_masks(site));
	ASSERT_EQ(NULL, env_setup(env, VFIO_AP_CDEV, &ret));
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, env_resume(env, overrides.data, overrides.len, 0));
	stream_free(&masks);
	stream_free(&overrides);
}

/* Moves of a queue to zcrypt and back */
#define MOVES	10

static int move_queue(struct site *site)
{
	return override_with_zcrypt(site) ?:
	       ap_queue_bind(site->apid, site->domain, "vfio_ap", false) ?:
	       ap_queue_bind(site->apid, site->domain, "cex4queue", true) ?:
	       override_with_vfio_ap(site) ?:
	       ap_queue_bind(site->apid, site->domain, "cex4queue", false) ?:
	       ap_queue_bind(site->apid, site->domain, "vfio_ap", true);
}

static void *move_queues(void *arg)
{
	struct site *site = arg;
	unsigned int i, moves = env_repeat(MOVES);

	for (i = 0; i < moves && !site->moved; i++)
		site->moved = move_queue(site);
	site->done = true;
	return NULL;
}

/* A session begins, is read or written, and ends; the queue may go and come at any time */
static void try_session(struct __test_metadata *_metadata, struct env *env, __u32 state)
{
	bool save = state != VFIO_DEVICE_STATE_RESUMING;
	struct stream_buf out = {};
	int fd, ret;

	ASSERT_EQ(0, vfio_mig_set(env->dev.device, state, &fd));
	if (save)
		ret = env_read(fd, 0, &out);
	else
		ret = env_write(fd, env->stream.data, env->stream.len, 0, NULL);
	EXPECT_TRUE(!ret || ret == -ECANCELED ||
		    ret == (state == VFIO_DEVICE_STATE_PRE_COPY ? -ENOMSG : -ENXIO)) {
		TH_LOG("%s: %d", vfio_mig_name(state), ret);
	}
	if (!save)
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
	EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL));
	close(fd);
	stream_free(&out);
}

TEST_F_TIMEOUT(event, queue_moves_to_zcrypt_and_back_while_sessions_come_and_go, ENV_TIMEOUT)
{
	static const __u32 states[] = {
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY,
		VFIO_DEVICE_STATE_RESUMING,
	};
	struct site *site = &self->site;
	struct env *env = &site->env;
	struct stream_buf now = {};
	pthread_t thread;
	size_t i;

	ASSERT_EQ(0, use_overrides(site));
	ASSERT_EQ(0, env_stream(env));
	ASSERT_EQ(0, pthread_create(&thread, NULL, move_queues, site));
	for (i = 0; !site->done; i = (i + 1) % ARRAY_SIZE_OF(states))
		try_session(_metadata, env, states[i]);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, site->moved);
	EXPECT_EQ(0, env_save(env, &now));
	EXPECT_TRUE(same_bytes(&env->stream, &now));
	EXPECT_EQ(0, env_resume(env, now.data, now.len, 0));
	stream_free(&now);
	EXPECT_EQ(0, use_masks(site));
}

static int reset_device(struct site *site)
{
	return vfio_ap_reset(&site->env.dev);
}

TEST_F_TIMEOUT(event, device_is_reset, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = ENDS,
		.happen = reset_device,
	});
}

static int close_and_open(struct site *site)
{
	struct vfio_ap *dev = &site->env.dev;
	char uuid[AP_UUID_SIZE];

	memcpy(uuid, dev->uuid, sizeof(uuid));
	vfio_ap_close(dev);
	return vfio_ap_open(dev, uuid, dev->path);
}

TEST_F_TIMEOUT(event, device_is_closed, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = ENDS,
		.happen = close_and_open,
	});
}

enum way {
	WAY_STOP,
	WAY_RUNNING,
	WAY_RESUMING,
	WAY_RESET,
	WAY_CLOSE,
	NR_WAYS,
};

/* Out of a session, by state or otherwise; the state in which that ends */
static int end_session(struct site *site, enum way way, int *end)
{
	static const __u32 targets[] = {
		[WAY_STOP] = VFIO_DEVICE_STATE_STOP,
		[WAY_RUNNING] = VFIO_DEVICE_STATE_RUNNING,
		[WAY_RESUMING] = VFIO_DEVICE_STATE_RESUMING,
	};

	*end = way < WAY_RESET ? targets[way] : VFIO_DEVICE_STATE_RUNNING;
	switch (way) {
	case WAY_RESET:
		return vfio_ap_reset(&site->env.dev);
	case WAY_CLOSE:
		return close_and_open(site);
	default:
		return vfio_mig_set(site->env.dev.device, targets[way], NULL);
	}
}

/* Every way out of a session that has failed, and the next migration works */
TEST_F_TIMEOUT(event, failed_session_permits_every_exit, ENV_TIMEOUT)
{
	static const enum env_stage stages[] = {
		ENV_PRE_COPY, ENV_PRE_COPY_P2P, ENV_STOP_COPY, ENV_RESUMING_HALF,
		ENV_RESUMING_WHOLE,
	};
	struct stream_buf out = {}, now = {};
	struct site *site = &self->site;
	struct env *env = &site->env;
	enum way way;
	int fd, end;
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(stages); i++) {
		/* Out of RESUMING no state can be reached without the data */
		way = env_stage_source(stages[i]) ? WAY_STOP : WAY_RESET;
		for (; way < NR_WAYS; way++) {
			ASSERT_EQ(0, env_enter_stage(env, stages[i], &fd, &out));
			ASSERT_EQ(0, unbind_queue(site));
			EXPECT_EQ(0, end_session(site, way, &end)) {
				TH_LOG("way %d out of %s", way, env_stage_name(stages[i]));
			}
			EXPECT_EQ(end, vfio_mig_state(env->dev.device));
			EXPECT_EQ(-ENODEV, env_stage_source(stages[i]) ? env_try_read(fd) :
				  env_try_write(fd));
			close(fd);
			ASSERT_EQ(0, bind_queue(site));
			ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RUNNING, NULL));
			ASSERT_EQ(0, env_save(env, &now));
			EXPECT_TRUE(same_bytes(&env->stream, &now));
		}
	}
	stream_free(&now);
	stream_free(&out);
}

/* The rest is no configuration, so it has no stream */
TEST_F_TIMEOUT(event, last_domain_goes, ENV_TIMEOUT)
{
	struct site *site = &self->site;
	struct env *env = &site->env;
	struct stream_buf out = {};
	struct ap_masks one = env->masks;
	size_t i;
	int fd;

	memset(one.aqm, 0, sizeof(one.aqm));
	ap_mask_set(one.aqm, site->domain);
	ASSERT_EQ(0, ap_mdev_assign(env->dev.uuid, &one));
	ASSERT_EQ(0, env_stream(env));
	for (i = ENV_PRE_COPY; i <= ENV_PRE_COPY_P2P; i++) {
		ASSERT_EQ(0, env_enter_stage(env, i, &fd, &out));
		ASSERT_EQ(0, remove_domain(site));
		EXPECT_EQ((int)env_stage_state(i), vfio_mig_state(env->dev.device));
		expect_canceled(_metadata, env, i, fd);
		leave_stage(_metadata, env, i, fd);

		EXPECT_EQ(-ENXIO, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_PRE_COPY, NULL));
		EXPECT_EQ(-ENXIO, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, NULL));
		EXPECT_EQ(-ENXIO, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RESUMING, NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(env->dev.device));
		ASSERT_EQ(0, add_domain(site));
		ASSERT_EQ(0, env_save(env, &out));
		EXPECT_TRUE(same_bytes(&env->stream, &out));
		stream_free(&out);
	}
}

/* After that the guest has no queues, though the device's configuration has */
static void expect_withdrawn(struct __test_metadata *_metadata, struct env *env)
{
	static const __u32 targets[] = {
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P,
		VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(targets); i++) {
		EXPECT_EQ(-EBUSY, vfio_mig_set(env->dev.device, targets[i], NULL)) {
			TH_LOG("> %s", vfio_mig_name(targets[i]));
		}
		EXPECT_EQ((int)env_state_refused(targets[i]), vfio_mig_state(env->dev.device));
		EXPECT_EQ(0, vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL));
	}
}

/*
 * The removal of the mediated device waits until the user closes it. The user
 * can end an open session, in any way, but cannot open one.
 */
TEST_F_TIMEOUT(event, device_is_requested_back, ENV_TIMEOUT)
{
	struct env *env = &self->site.env;
	struct stream_buf out = {};
	char uuid[AP_UUID_SIZE];
	enum env_stage stage;
	int fd, event, status, ret;
	__u64 count;
	pid_t pid;

	memcpy(uuid, env->dev.uuid, sizeof(uuid));
	event = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, event);
	for_each_env_stage(stage) {
		ASSERT_EQ(0, vfio_ap_set_event(env->dev.device, VFIO_AP_REQ_IRQ_INDEX, event));
		ASSERT_EQ(0, env_enter_stage(env, stage, &fd, &out));
		pid = env_remove_in_child(uuid);
		ASSERT_LT(0, pid);
		ASSERT_EQ((ssize_t)sizeof(count), read(event, &count, sizeof(count)));

		EXPECT_EQ((int)env_stage_state(stage), vfio_mig_state(env->dev.device)) {
			TH_LOG("in %s", env_stage_name(stage));
		}
		if (stage == ENV_RESUMING_WHOLE)
			expect_hotplug(_metadata, env, fd);
		else if (env_stage_session(stage))
			expect_canceled(_metadata, env, stage, fd);
		leave_stage(_metadata, env, stage, fd);
		expect_withdrawn(_metadata, env);

		vfio_ap_close(&env->dev);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_FALSE(ap_mdev_exists(uuid));
		env_teardown(env);
		ASSERT_EQ(NULL, env_setup(env, VFIO_AP_CDEV, &ret));
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, env_stream(env));
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	}
	stream_free(&out);
	close(event);
}

/**
 * struct scan - a scan of the AP bus in another thread
 * @thread: the thread
 * @begin: it may begin
 * @ended: it has ended
 * @ret: 0 or a negative errno
 */
struct scan {
	pthread_t thread;
	atomic_bool begin;
	atomic_bool ended;
	int ret;
};

static void *scan_job(void *arg)
{
	struct scan *scan = arg;

	while (!scan->begin)
		sched_yield();
	scan->ret = ap_bus_rescan();
	scan->ended = true;
	return NULL;
}

/*
 * Between the AP bus telling that a domain has come and the end of its scan the
 * configuration is known to be about to change. Not much of the time of a scan
 * passes before that, but the calls have to fall into it: repeat until they did.
 */
TEST_F_TIMEOUT(event, no_session_begins_while_hotplug_is_pending, ENV_TIMEOUT)
{
	static const __u32 targets[] = {
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY,
		VFIO_DEVICE_STATE_RESUMING,
	};
	unsigned int seen[ARRAY_SIZE_OF(targets)] = {}, i;
	time_t end = time(NULL) + ENV_PATIENCE;
	struct site *site = &self->site;
	struct env *env = &site->env;
	struct scan scan;
	int ret, state;

	while (!(seen[0] && seen[1] && seen[2]) && time(NULL) < end) {
		ASSERT_EQ(0, remove_domain(site));
		ASSERT_EQ(0, ap_control("domain add %02x", site->domain));
		scan.begin = false;
		scan.ended = false;
		ASSERT_EQ(0, pthread_create(&scan.thread, NULL, scan_job, &scan));
		for (i = 0; !scan.ended; i = (i + 1) % ARRAY_SIZE_OF(targets)) {
			scan.begin = true;
			ret = vfio_mig_set(env->dev.device, targets[i], NULL);
			state = vfio_mig_state(env->dev.device);
			if (ret == -EAGAIN) {
				seen[i]++;
				/* STOP if the change began after the first of several arcs */
				if (targets[i] == VFIO_DEVICE_STATE_PRE_COPY ||
				    state != VFIO_DEVICE_STATE_STOP)
					EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, state);
			} else {
				EXPECT_EQ(0, ret);
			}
			EXPECT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RUNNING, NULL));
		}
		ASSERT_EQ(0, pthread_join(scan.thread, NULL));
		ASSERT_EQ(0, scan.ret);
	}
	for (i = 0; i < ARRAY_SIZE_OF(targets); i++) {
		EXPECT_LT(0U, seen[i]) {
			TH_LOG("> %s", vfio_mig_name(targets[i]));
		}
	}
	EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
}

/* Events that differ between group and cdev */
ENV_FIXTURE_OF(path_event, site, ENV_GROUP_AND_CDEV)

static int kvm_file_del(struct vfio_ap *dev)
{
	__s32 fd = dev->path == VFIO_AP_GROUP ? dev->group : dev->device;
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = KVM_DEV_VFIO_FILE_DEL,
		.addr = (uintptr_t)&fd,
	};

	return ioctl(dev->kvm_vfio, KVM_SET_DEVICE_ATTR, &attr) ? -errno : 0;
}

/* An open device keeps its VM though userspace closes that */
static int close_kvm(struct site *site)
{
	struct vfio_ap *dev = &site->env.dev;
	int *fds[] = { &dev->kvm_vfio, &dev->vm, &dev->kvm };
	size_t i;
	int ret;

	ret = kvm_file_del(dev);
	for (i = 0; i < ARRAY_SIZE_OF(fds); i++) {
		close(*fds[i]);
		*fds[i] = -1;
	}
	return ret;
}

TEST_F_TIMEOUT(path_event, virtual_machine_is_closed, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = SESSION_HARMLESS,
		.happen = close_kvm,
		.undo = close_and_open,
	});
}

static int unmap_group(struct vfio_ap *dev)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.size = dev->mem_size,
	};

	if (ioctl(dev->container, VFIO_IOMMU_UNMAP_DMA, &unmap))
		return -errno;
	return unmap.size == dev->mem_size ? 0 : -EPROTO;
}

static int map_group(struct vfio_ap *dev)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)dev->mem,
		.size = dev->mem_size,
	};

	return ioctl(dev->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static int unmap_ioas(struct vfio_ap *dev, __u32 ioas)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = ioas,
		.length = dev->mem_size,
	};

	if (ioctl(dev->iommufd, IOMMU_IOAS_UNMAP, &unmap))
		return -errno;
	return unmap.length == dev->mem_size ? 0 : -EPROTO;
}

static int map_ioas(struct vfio_ap *dev, __u32 ioas)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)dev->mem,
		.length = dev->mem_size,
	};

	return ioctl(dev->iommufd, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

/* Another address space: for the device all of the old one is unmapped */
static int replace_ioas(struct site *site)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct vfio_ap *dev = &site->env.dev;
	int ret;

	if (ioctl(dev->iommufd, IOMMU_IOAS_ALLOC, &alloc))
		return -errno;
	ret = map_ioas(dev, alloc.out_ioas_id);
	if (ret)
		return ret;
	attach.pt_id = alloc.out_ioas_id;
	site->ioas = alloc.out_ioas_id;
	return ioctl(dev->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ? -errno : 0;
}

static int unmap_memory(struct site *site)
{
	struct vfio_ap *dev = &site->env.dev;

	if (dev->path == VFIO_AP_GROUP)
		return unmap_group(dev);
	return replace_ioas(site) ?: unmap_ioas(dev, site->ioas);
}

static int map_memory(struct site *site)
{
	struct vfio_ap *dev = &site->env.dev;

	return dev->path == VFIO_AP_GROUP ? map_group(dev) : map_ioas(dev, site->ioas);
}

TEST_F_TIMEOUT(path_event, memory_of_guest_is_unmapped, ENV_TIMEOUT)
{
	run_event(_metadata, &self->site, &(struct event){
		.outcome = HARMLESS,
		.happen = unmap_memory,
		.undo = map_memory,
		.back = HARMLESS,
	});
}

TEST_HARNESS_MAIN
