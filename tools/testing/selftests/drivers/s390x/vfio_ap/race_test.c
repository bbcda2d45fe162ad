// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: all that can happen to a device, at the same time.
 *
 * A thread migrates a device to itself again and again, in ways that it makes up.
 * Others change the configuration as an administrator does, reset the device, close
 * and open it, look at it, and have its guest register interrupts; the machine takes adapters
 * away, or has them fail. Each operation may only fail with its documented errnos.
 *
 * After each round all of them stop, hardware and configuration are put back, and
 * then the device is as at the beginning, nothing is left behind, and a guest gets
 * replies from each of its queues.
 *
 * From the environment: VFIO_AP_ROUNDS, the number of rounds; VFIO_AP_SEED, the seed
 * of the threads; VFIO_AP_FIRST, the number of the first round. The actions of each
 * thread in a round follow from seed and number; their interleaving does not.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/guest_fixture.h"
#include "lib/info.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

#define ROUNDS		3
/* One round of so many is calm, the third at first */
#define CALM		4U
#define SEED		1
/* Migrations of a round */
#define MIGRATIONS	25U
/* Replies for each queue that show that all is well */
#define ENOUGH		3
/* More than the stream of four queues has */
#define MAX_STREAM	4096
/* Seconds: for a soak that somebody asked for */
#define LONG		86400
/* A response code: try again */
#define BUSY		0x05
/* Scans of the AP bus after which there is nothing left that could be new to it */
#define SCANS		3

struct worker;

enum operation {
	CALL_SET_STATE,
	CALL_READ,
	CALL_WRITE,
	CALL_RESET,
	CALL_QUERY,
	CALL_MIGRATABLE,
	CALL_ASSIGN,
};

/* Of the VFIO core, for a device that is closed, or a descriptor that is another file's by now */
static const int core_errnos[] = { EBADF, ENOTTY, ENODEV, EINVAL };

/* The errnos with which a call may fail; @core: also with those of the VFIO core */
static const struct {
	const char *name;
	bool core;
	int errnos[6];
} calls[] = {
	/* ECANCELED: RESUMING->STOP returns the error of the session */
	[CALL_SET_STATE] = { "SET_STATE", true,
			     { EPERM, EAGAIN, EOPNOTSUPP, EBUSY, ENXIO, ECANCELED } },
	[CALL_READ] = { "read", false, { ENOMSG, ECANCELED, ENODEV } },
	[CALL_WRITE] = { "write", false, { ENXIO, EINVAL, EOPNOTSUPP, ECANCELED, ENODEV } },
	/* A queue of an adapter that went away was not reset */
	[CALL_RESET] = { "VFIO_DEVICE_RESET", true, { EIO } },
	[CALL_QUERY] = { "GET_STATE or MIG_DATA_SIZE", true, {} },
	[CALL_MIGRATABLE] = { "migratable", false, { EBUSY } },
	/* The AP bus is scanning, or has just lost the card */
	[CALL_ASSIGN] = { "assign", false, { EBUSY, EAGAIN, ENODEV, EADDRNOTAVAIL } },
};

/**
 * struct race - where the threads meet
 * @fixture: the device; its guest only executes PQAP(AQIC) while they do
 * @cards: its adapters
 * @before: counters at the beginning
 * @stop: the round is over
 * @migrations: of this round
 * @failed: how many of them something went wrong with
 * @arcs: read-locked by calls that may change the state
 * @quiet: how often the device was seen outside of RUNNING without interrupts
 * @noisy: how often with one
 * @undocumented: an errno that is not documented for the call, or 0
 * @where: the call that returned it
 */
struct race {
	struct guest_fixture fixture;
	struct ap_card cards[2];
	struct env_counts before;
	atomic_bool stop;
	atomic_uint migrations;
	atomic_uint failed;
	pthread_rwlock_t arcs;
	atomic_uint quiet;
	atomic_uint noisy;
	atomic_int undocumented;
	const char *where;
};

/**
 * struct worker - a thread
 * @race: the race to which it belongs
 * @step: the function that it repeats
 * @name: of that
 * @state: of its random numbers
 * @thread: identifies it
 * @fd: of the one that migrates: the data file of a session that is over, or -1
 * @stream: the last stream that was saved to its end
 * @len: bytes of it
 */
struct worker {
	struct race *race;
	void (*step)(struct worker *w);
	const char *name;
	uint64_t state;
	pthread_t thread;
	int fd;
	__u8 stream[MAX_STREAM];
	size_t len;
};

FIXTURE(race) {
	struct race race;
};

ENV_GROUP_AND_CDEV(race);

/* splitmix64: a number below @limit, the same sequence for the same seed */
static unsigned int pick(struct worker *w, unsigned int limit)
{
	uint64_t z = w->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % limit;
}

static bool is_among(int error, const int *errnos, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (error == errnos[i])
			return true;
	return false;
}

/* Record an errno that is not documented for the call; return @ret */
static int check_errno(struct worker *w, enum operation call, int ret)
{
	if (ret >= 0 ||
	    is_among(-ret, calls[call].errnos, ARRAY_SIZE_OF(calls[call].errnos)) ||
	    (calls[call].core && is_among(-ret, core_errnos, ARRAY_SIZE_OF(core_errnos))))
		return ret;
	w->race->where = calls[call].name;
	w->race->undocumented = ret;
	return ret;
}

static int reset_device(struct worker *w)
{
	int ret;

	pthread_rwlock_rdlock(&w->race->arcs);
	ret = vfio_ap_reset(&w->race->fixture.env.dev);
	pthread_rwlock_unlock(&w->race->arcs);
	return check_errno(w, CALL_RESET, ret);
}

static int set_state_locked(struct worker *w, __u32 state, int *fd)
{
	int unused = -1;
	int ret;

	ret = vfio_mig_set(w->race->fixture.env.dev.device, state, fd ?: &unused);
	if (unused >= 0)
		close(unused);
	return check_errno(w, CALL_SET_STATE, ret);
}

static int set_state(struct worker *w, __u32 state, int *fd)
{
	int ret;

	pthread_rwlock_rdlock(&w->race->arcs);
	ret = set_state_locked(w, state, fd);
	pthread_rwlock_unlock(&w->race->arcs);
	return ret;
}

/* To STOP_COPY, where no queue interrupts; the state stays until that is checked */
static int stop_and_count_irqs(struct worker *w, int *fd)
{
	struct race *race = w->race;
	int ret;

	pthread_rwlock_wrlock(&race->arcs);
	ret = set_state_locked(w, VFIO_DEVICE_STATE_STOP_COPY, fd);
	if (!ret && guest_fixture_count_irqs(&race->fixture))
		race->noisy++;
	else if (!ret)
		race->quiet++;
	pthread_rwlock_unlock(&race->arcs);
	return ret;
}

/* Read on, up to the end or, as it comes, less; true at the end of the whole stream */
static bool read_some(struct worker *w, int fd, __u8 *stream, size_t *len)
{
	ssize_t n;

	/* Another thread has begun the session, and has its file */
	if (fd < 0)
		return false;
	do {
		n = read(fd, stream + *len, 1 + pick(w, MAX_STREAM - *len));
		if (n > 0)
			*len += n;
	} while (n > 0 && *len < MAX_STREAM && pick(w, 16));
	if (n < 0)
		check_errno(w, CALL_READ, -errno);
	return !n;
}

static bool save_stream(struct worker *w)
{
	__u8 stream[MAX_STREAM];
	bool whole = false;
	size_t len = 0;
	int fd = -1;

	if (pick(w, 4)) {
		if (set_state(w, VFIO_DEVICE_STATE_PRE_COPY, &fd))
			return false;
		read_some(w, fd, stream, &len);
		if (pick(w, 2))
			set_state(w, VFIO_DEVICE_STATE_PRE_COPY_P2P, NULL);
		if (!stop_and_count_irqs(w, NULL))
			whole = read_some(w, fd, stream, &len);
	} else if (!stop_and_count_irqs(w, &fd)) {
		whole = read_some(w, fd, stream, &len);
	}
	/* It may outlive its session, and the device */
	if (w->fd >= 0) {
		read_some(w, w->fd, stream, &(size_t){ 0 });
		close(w->fd);
	}
	w->fd = fd;
	whole = whole && len && len < MAX_STREAM;
	if (whole) {
		memcpy(w->stream, stream, len);
		w->len = len;
	}
	return whole;
}

static bool load_stream(struct worker *w)
{
	size_t at, part;
	ssize_t n = 0;
	int fd;

	if (!w->len || set_state(w, VFIO_DEVICE_STATE_RESUMING, &fd) || fd < 0)
		return false;
	for (at = 0; at < w->len && n >= 0 && pick(w, 32); at += part) {
		part = 1 + pick(w, w->len - at);
		n = write(fd, w->stream + at, part);
	}
	if (n < 0)
		check_errno(w, CALL_WRITE, -errno);
	close(fd);
	return at >= w->len && n >= 0 && !set_state(w, VFIO_DEVICE_STATE_STOP, NULL);
}

static void migrate(struct worker *w)
{
	bool good = save_stream(w);

	if (pick(w, 2))
		set_state(w, VFIO_DEVICE_STATE_STOP, NULL);
	good &= load_stream(w);
	if (set_state(w, VFIO_DEVICE_STATE_RUNNING, NULL)) {
		good = false;
		reset_device(w);
	}
	if (!good)
		w->race->failed++;
	w->race->migrations++;
}

/* A second one, without a plan */
static void set_random_state(struct worker *w)
{
	int state = pick(w, VFIO_DEVICE_STATE_PRE_COPY_P2P + 1);

	if (state != VFIO_DEVICE_STATE_ERROR)
		set_state(w, state, NULL);
}

static void write_migratable(struct worker *w)
{
	const char *uuid = w->race->fixture.env.dev.uuid;

	if (!access(ap_mdev_path(uuid, "migratable"), F_OK))
		check_errno(w, CALL_MIGRATABLE,
			    ap_mdev_write(uuid, "migratable", pick(w, 4) ? "1" : "0"));
}

static void write_assignment(struct worker *w)
{
	static const char * const attributes[] = {
		"assign_adapter", "unassign_adapter", "assign_domain", "unassign_domain",
		"assign_control_domain", "unassign_control_domain",
	};
	const struct guest_fixture *f = &w->race->fixture;
	unsigned int attr = pick(w, ARRAY_SIZE_OF(attributes));
	unsigned int apids[] = { f->apids[0], f->apids[1], f->other };
	unsigned int id;

	id = attr < 2 ? apids[pick(w, 3)] : f->domains[pick(w, 2)];
	check_errno(w, CALL_ASSIGN,
		    ap_mdev_write(f->env.dev.uuid, attributes[attr], "0x%02x", id));
}

static void try_reset(struct worker *w)
{
	reset_device(w);
}

static void query_device(struct worker *w)
{
	const struct vfio_ap *dev = &w->race->fixture.env.dev;
	char text[64];
	__u64 size;

	ap_mdev_debug_state(dev->uuid, text, sizeof(text));
	check_errno(w, CALL_QUERY, vfio_mig_data_size(dev->device, &size));
	check_errno(w, CALL_QUERY, vfio_mig_state(dev->device));
	sched_yield();
}

/* The data file and calls under way go on without the device */
static void reopen_device(struct worker *w)
{
	struct vfio_ap *dev = &w->race->fixture.env.dev;

	pthread_rwlock_rdlock(&w->race->arcs);
	vfio_ap_close_device(dev);
	if (vfio_ap_open_device(dev))
		vfio_ap_close_device(dev);
	pthread_rwlock_unlock(&w->race->arcs);
}

static void execute_aqic(struct worker *w)
{
	struct guest_fixture *f = &w->race->fixture;
	unsigned int apqn = f->apids[pick(w, 2)] << 8 | f->domains[pick(w, 2)];

	guest_aqic(&f->guest, apqn, pick(w, 3), GUEST_NIB + 8 * pick(w, 4));
}

static void change_hardware(struct worker *w)
{
	const struct ap_card *card = &w->race->cards[pick(w, 2)];

	switch (pick(w, 8)) {
	case 0:
		ap_card_remove(card);
		break;
	case 1:
	case 2:
		ap_card_add(card);
		break;
	case 3:
		ap_change("config %02x %s", card->apid, pick(w, 2) ? "on" : "off");
		break;
	case 4:
		ap_change("checkstop %02x %s", card->apid, pick(w, 2) ? "on" : "off");
		break;
	case 5:
		ap_control("rc * aqic %x %u", BUSY, pick(w, 4));
		break;
	case 6:
		ap_control("aqic_polls %u", pick(w, 4));
		break;
	case 7:
		ap_control("reset_polls %u", pick(w, 6));
		break;
	}
}

static const struct {
	const char *name;
	void (*step)(struct worker *w);
} plan[] = {
	{ "migrate", migrate },
	{ "set_random_state", set_random_state },
	{ "write_migratable", write_migratable },
	{ "write_assignment", write_assignment },
	{ "try_reset", try_reset },
	{ "query_device", query_device },
	{ "reopen_device", reopen_device },
	{ "execute_aqic", execute_aqic },
	{ "change_hardware", change_hardware },
};

/* In a calm round the other threads only do things that fail no migration */
static bool is_calm(unsigned int round)
{
	return round % CALM == 2;
}

/* The threads of a round: the one that migrates, and others, which differ from round to round */
static bool takes_part(size_t nr, unsigned int round)
{
	if (plan[nr].step == migrate)
		return true;
	if (is_calm(round))
		return plan[nr].step == query_device || plan[nr].step == execute_aqic;
	return (nr + round) % 3;
}

static void *run_worker(void *arg)
{
	struct worker *w = arg;

	while (!w->race->stop) {
		w->step(w);
		if (w->step == migrate && w->race->migrations >= MIGRATIONS)
			w->race->stop = true;
	}
	return NULL;
}

static int run_round(struct race *race, unsigned int seed, unsigned int round)
{
	static struct worker workers[ARRAY_SIZE_OF(plan)];
	struct worker *w;
	size_t i;
	int ret = 0;

	race->stop = false;
	race->migrations = 0;
	race->failed = 0;
	memset(workers, 0, sizeof(workers));
	for (i = 0; i < ARRAY_SIZE_OF(plan) && !ret; i++) {
		w = &workers[i];
		if (!takes_part(i, round))
			continue;
		*w = (struct worker){
			.race = race,
			.step = plan[i].step,
			.name = plan[i].name,
			.state = (uint64_t)seed << 32 | round << 8 | i,
			.fd = -1,
		};
		ret = -pthread_create(&w->thread, NULL, run_worker, w);
		if (ret)
			w->step = NULL;
	}
	race->stop = race->stop || ret;
	for (i = 0; i < ARRAY_SIZE_OF(plan); i++) {
		w = &workers[i];
		if (!w->step)
			continue;
		pthread_join(w->thread, NULL);
		if (w->fd >= 0)
			close(w->fd);
	}
	return ret;
}

/* Restore the hardware; the machine refuses to add cards that are present */
static void restore_hardware(struct race *race)
{
	size_t i;

	ap_control("rc * aqic 0 0");
	ap_control("aqic_polls %d", AP_AQIC_POLLS);
	ap_control("reset_polls %d", AP_RESET_POLLS);
	for (i = 0; i < ARRAY_SIZE_OF(race->cards); i++) {
		ap_control("card add %s", race->cards[i].spec);
		ap_control("config %02x on", race->cards[i].apid);
		ap_control("checkstop %02x off", race->cards[i].apid);
	}
	/* A scan handles one condition of a queue: checkstop, configuration, error */
	for (i = 0; i < SCANS; i++)
		ap_bus_rescan();
}

/* Whether the AP bus, which resets queues that come back, has done with one */
static bool is_settled(unsigned int apid, unsigned int domain)
{
	static const char * const attributes[] = { "reset", "interrupt" };
	char path[128], text[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(attributes); i++) {
		snprintf(path, sizeof(path), "/sys/bus/ap/devices/%02x.%04x/%s", apid, domain,
			 attributes[i]);
		if (ap_file_read(path, text, sizeof(text)) < 0 || strstr(text, "progress") ||
		    strstr(text, "pending"))
			return false;
	}
	return true;
}

/* The AP bus enables its queues' interrupts at the end, without an event */
static int wait_settled(const struct guest_fixture *f)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	unsigned int i, ms;

	for (i = 0, ms = 0; i < FIXTURE_QUEUES && ms < GUEST_DEADLINE_MS; ms++) {
		if (is_settled(f->apids[i / 2], f->domains[i % 2]))
			i++;
		else
			nanosleep(&pause, NULL);
	}
	return i == FIXTURE_QUEUES ? 0 : -ETIME;
}

/* The device with its configuration, for a guest of its own that has not run */
static int restore_device(struct race *race)
{
	struct guest_fixture *f = &race->fixture;
	struct ap_masks masks = {};
	unsigned int i;
	int ret;

	restore_hardware(race);
	ret = wait_settled(f);
	if (ret)
		return ret;
	for (i = 0; i < 2; i++) {
		ap_mask_set(masks.apm, f->apids[i]);
		ap_mask_set(masks.aqm, f->domains[i]);
	}
	/* A closed device has no open session */
	vfio_ap_close_device(&f->env.dev);
	ret = ap_mdev_assign(f->env.dev.uuid, &masks);
	if (!ret && !access(ap_mdev_path(f->env.dev.uuid, "migratable"), F_OK))
		ret = ap_mdev_write(f->env.dev.uuid, "migratable", "1");
	if (!ret)
		ret = guest_fixture_reopen(f);
	/* As a VMM does it: the former user of the queues left interrupts on */
	return ret ?: vfio_ap_reset(&f->env.dev);
}

FIXTURE_SETUP(race)
{
	struct race *race = &self->race;
	struct guest_fixture *f = &race->fixture;
	pthread_rwlockattr_t attr;
	unsigned int i;

	/* A writer must not wait for readers that come later, and come all the time */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	ASSERT_EQ(0, pthread_rwlock_init(&race->arcs, &attr));
	ENV_SETUP(guest_fixture_setup, f, variant->path);
	ASSERT_EQ(0, env_stream(&f->env));
	ASSERT_EQ(2U, f->env.decoded.nr_rows);
	for (i = 0; i < 2; i++)
		ap_card_describe(&race->cards[i], f->env.decoded.rows[i].apid,
				 f->env.decoded.rows[i].info);
	stream_free(&f->env.stream);
	ASSERT_EQ(0, guest_fixture_reopen(f));
	env_count(&f->env, &race->before);
}

FIXTURE_TEARDOWN(race)
{
	restore_hardware(&self->race);
	guest_fixture_teardown(&self->race.fixture);
}

static unsigned int get_env_number(const char *name, unsigned int otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

/* The device is as it was, for a guest that uses it */
static void expect_restored(struct __test_metadata *_metadata, struct race *race)
{
	struct guest_fixture *f = &race->fixture;
	struct guest_counters c;

	ASSERT_EQ(0, restore_device(race));
	EXPECT_COUNTS(&f->env, &race->before);
	EXPECT_FALSE(guest_fixture_in_session(f));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(f->env.dev.device));

	ASSERT_EQ(0, guest_fixture_start(f));
	EXPECT_EQ(0, guest_wait_answered(&f->guest, ENOUGH));
	ASSERT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	EXPECT_EQ((long)FIXTURE_QUEUES, guest_fixture_count_irqs(f));
	ASSERT_EQ(0, guest_fixture_reopen(f));
}

TEST_F_TIMEOUT(race, everything_at_once, LONG)
{
	unsigned int rounds = get_env_number("VFIO_AP_ROUNDS", ROUNDS);
	unsigned int first = get_env_number("VFIO_AP_FIRST", 0);
	unsigned int seed = get_env_number("VFIO_AP_SEED", SEED);
	struct race *race = &self->race;
	unsigned long migrations = 0, failed = 0;
	unsigned int round;

	for (round = first; round < first + rounds; round++) {
		ASSERT_EQ(0, guest_create(&race->fixture.guest, &race->fixture.env.dev,
					  GUEST_ENTRY));
		EXPECT_EQ(0, run_round(race, seed, round));
		EXPECT_EQ(0, race->undocumented) {
			TH_LOG("%s", race->where);
		}
		migrations += race->migrations;
		failed += race->failed;
		if (is_calm(round))
			EXPECT_LT(race->failed, race->migrations);
		expect_restored(_metadata, race);
		if (_metadata->exit_code) {
			TH_LOG("VFIO_AP_SEED=%u VFIO_AP_FIRST=%u VFIO_AP_ROUNDS=1", seed, round);
			break;
		}
	}
	TH_LOG("seed %u: %lu migrations, something went wrong with %lu of them", seed,
	       migrations, failed);
	TH_LOG("in STOP_COPY %u times, with an interrupt on %u times", race->quiet + race->noisy,
	       race->noisy);
	EXPECT_EQ(0U, race->noisy);
	EXPECT_LT(0U, race->quiet);
	EXPECT_LT(0UL, failed);
}

TEST_HARNESS_MAIN
