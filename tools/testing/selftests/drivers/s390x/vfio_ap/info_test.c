// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap: VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO and
 * VFIO_DEVICE_SET_IRQS, with good and bad arguments.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/info.h"
#include "lib/trap.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

#define SET_EVENT (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

/* The argument of VFIO_DEVICE_SET_IRQS with room for two eventfds */
struct irq_arg {
	struct vfio_irq_set set;
	__s32 events[2];
};

/*
 * Memory with an end: two pages of which only the first can be written to, if
 * at all. No mapped byte follows an object at its end.
 */
struct edge {
	__u8 *pages;
	size_t page;
};

/**
 * struct cdomain - a control domain that a guest gets and loses
 * @uuid: the guest's mediated device
 * @id: of the domain
 * @assigned: whether the guest has it
 */
struct cdomain {
	const char *uuid;
	unsigned int id;
	bool assigned;
};

FIXTURE(info) {
	struct env env;
	struct edge edge;
	union info info;
	int device;
	struct cdomain cdomain;
};

ENV_GROUP_AND_CDEV(info);

FIXTURE_SETUP(info)
{
	struct edge *edge = &self->edge;

	ENV_SETUP(env_setup, &self->env, variant->path);
	self->device = self->env.dev.device;
	self->cdomain.uuid = self->env.dev.uuid;
	self->cdomain.id = self->env.pool.cdomains[0];
	self->cdomain.assigned = true;

	edge->page = sysconf(_SC_PAGESIZE);
	edge->pages = mmap(NULL, 2 * edge->page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, edge->pages);
	ASSERT_EQ(0, mprotect(edge->pages + edge->page, edge->page, PROT_NONE));
}

FIXTURE_TEARDOWN(info)
{
	if (self->edge.pages)
		munmap(self->edge.pages, 2 * self->edge.page);
	env_teardown(&self->env);
}

/* The first @len bytes of @data at the very end of the memory */
static void *edge_put(struct edge *edge, const void *data, size_t len)
{
	return memcpy(edge->pages + edge->page - len, data, len);
}

static int edge_protect(struct edge *edge, int protection)
{
	return mprotect(edge->pages, edge->page, protection);
}

static int call(int device, unsigned long cmd, const void *arg)
{
	return ioctl(device, cmd, arg) ? -errno : 0;
}

/* Change the guest's resources: VFIO_AP_CFG_CHG_IRQ_INDEX */
static int change_config(struct cdomain *cdomain)
{
	cdomain->assigned = !cdomain->assigned;
	return ap_mdev_write(cdomain->uuid, cdomain->assigned ?
			     "assign_control_domain" : "unassign_control_domain",
			     "%#x", cdomain->id);
}

TEST_F_TIMEOUT(info, device_info_content, ENV_TIMEOUT)
{
	static const __u32 sizes[] = {
		INFO_MIN, sizeof(struct vfio_device_info), INFO_SIZE, 0x80000000, 0xffffffff,
	};
	const __u32 always = VFIO_DEVICE_FLAGS_AP | VFIO_DEVICE_FLAGS_RESET;
	struct vfio_device_info *device = &self->info.device;
	size_t i;

	for (i = 0; i < ARRAY_SIZE_OF(sizes); i++) {
		ASSERT_EQ(0, info_get(self->device, sizes[i], &self->info)) {
			TH_LOG("argsz %#x", sizes[i]);
		}
		EXPECT_EQ(always, device->flags & ~VFIO_DEVICE_FLAGS_CAPS);
		EXPECT_EQ(0U, device->num_regions);
		EXPECT_LE(VFIO_AP_CFG_CHG_IRQ_INDEX + 1U, device->num_irqs);
		/* Only who has capabilities may ask for more room */
		if (!(device->flags & VFIO_DEVICE_FLAGS_CAPS))
			EXPECT_EQ(sizes[i], device->argsz);
		if (device->flags & VFIO_DEVICE_FLAGS_CAPS && sizes[i] >= INFO_SIZE)
			EXPECT_LT(0, info_nr_caps(&self->info));
	}
}

TEST_F_TIMEOUT(info, device_info_needs_minimal_argsz, ENV_TIMEOUT)
{
	__u32 argsz;

	for (argsz = 0; argsz < INFO_MIN; argsz++) {
		EXPECT_EQ(-EINVAL, info_get(self->device, argsz, &self->info)) {
			TH_LOG("argsz %u", argsz);
		}
		EXPECT_EQ(argsz, self->info.device.argsz);
		EXPECT_TRUE(info_untouched(&self->info, sizeof(argsz)));
	}
}

/* A buffer that is too small gets the needed size */
TEST_F_TIMEOUT(info, device_info_respects_argsz, ENV_TIMEOUT)
{
	struct vfio_device_info *device = &self->info.device;
	__u32 argsz, wanted;

	ASSERT_EQ(0, info_get(self->device, INFO_MIN, &self->info));
	wanted = device->argsz;
	ASSERT_LE(INFO_MIN, wanted);
	ASSERT_GE(INFO_SIZE / 2U, wanted);
	for (argsz = INFO_MIN; argsz <= wanted + 32; argsz++) {
		ASSERT_EQ(0, info_get(self->device, argsz, &self->info)) {
			TH_LOG("argsz %u", argsz);
		}
		EXPECT_TRUE(info_untouched(&self->info, argsz < wanted ? argsz : wanted)) {
			TH_LOG("argsz %u", argsz);
		}
		EXPECT_EQ(argsz < wanted ? wanted : argsz, device->argsz);
		if (argsz >= wanted)
			EXPECT_LE(0, info_nr_caps(&self->info));
	}
}

TEST_F_TIMEOUT(info, device_info_at_bad_addresses, ENV_TIMEOUT)
{
	struct vfio_device_info arg = { .argsz = INFO_MIN };
	struct edge *edge = &self->edge;

	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_INFO, NULL));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_INFO, edge->pages + edge->page));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_INFO,
				edge_put(edge, &arg, INFO_MIN - 1)));
	/* An old user's structure ends here */
	EXPECT_EQ(0, call(self->device, VFIO_DEVICE_GET_INFO, edge_put(edge, &arg, INFO_MIN)));
	edge_put(edge, &arg, INFO_MIN);
	ASSERT_EQ(0, edge_protect(edge, PROT_READ));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_INFO,
				edge->pages + edge->page - INFO_MIN));
}

TEST_F_TIMEOUT(info, each_interrupt_is_one_eventfd, ENV_TIMEOUT)
{
	struct vfio_irq_info irq;
	__u32 index, nr;

	ASSERT_EQ(0, info_get(self->device, INFO_SIZE, &self->info));
	nr = self->info.device.num_irqs;
	for (index = 0; index < nr; index++) {
		ASSERT_EQ(0, irq_info_get(self->device, index, &irq)) {
			TH_LOG("index %u", index);
		}
		EXPECT_EQ(IRQ_INFO_MIN, irq.argsz);
		EXPECT_EQ((__u32)VFIO_IRQ_INFO_EVENTFD, irq.flags);
		EXPECT_EQ(index, irq.index);
		EXPECT_EQ(1U, irq.count);
	}
	EXPECT_EQ(-EINVAL, irq_info_get(self->device, nr, &irq));
	EXPECT_EQ(-EINVAL, irq_info_get(self->device, nr + 1, &irq));
	EXPECT_EQ(-EINVAL, irq_info_get(self->device, INT_MAX, &irq));
	EXPECT_EQ(-EINVAL, irq_info_get(self->device, UINT_MAX, &irq));
}

TEST_F_TIMEOUT(info, argsz_and_address_of_irq_info, ENV_TIMEOUT)
{
	struct {
		struct vfio_irq_info irq;
		__u8 behind[64];
	} arg;
	struct edge *edge = &self->edge;
	__u8 fill[sizeof(arg.behind)];
	__u32 argsz;

	memset(fill, INFO_FILL, sizeof(fill));
	for (argsz = 0; argsz <= sizeof(arg); argsz++) {
		memset(&arg, INFO_FILL, sizeof(arg));
		arg.irq.argsz = argsz;
		arg.irq.index = VFIO_AP_REQ_IRQ_INDEX;
		EXPECT_EQ(argsz < IRQ_INFO_MIN ? -EINVAL : 0,
			  call(self->device, VFIO_DEVICE_GET_IRQ_INFO, &arg)) {
			TH_LOG("argsz %u", argsz);
		}
		EXPECT_EQ(0, memcmp(arg.behind, fill, sizeof(fill)));
		EXPECT_EQ(argsz, arg.irq.argsz);
	}

	arg.irq.argsz = 0xffffffff;
	EXPECT_EQ(0, call(self->device, VFIO_DEVICE_GET_IRQ_INFO, &arg));
	EXPECT_EQ(0, memcmp(arg.behind, fill, sizeof(fill)));

	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_IRQ_INFO, NULL));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_IRQ_INFO,
				edge_put(edge, &arg, IRQ_INFO_MIN - 1)));
	EXPECT_EQ(0, call(self->device, VFIO_DEVICE_GET_IRQ_INFO,
			  edge_put(edge, &arg, IRQ_INFO_MIN)));
	ASSERT_EQ(0, edge_protect(edge, PROT_READ));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_GET_IRQ_INFO,
				edge->pages + edge->page - IRQ_INFO_MIN));
}

/**
 * struct refusal - a bad call of VFIO_DEVICE_SET_IRQS
 * @why: the defect
 * @want: the error
 * @argsz: as in the call
 * @flags: the same
 * @start: the same
 * @count: the same
 * @event: the same
 */
struct refusal {
	char why[40];
	int want;
	__u32 argsz;
	__u32 flags;
	__u32 start;
	__u32 count;
	__s32 event;
};

static const struct refusal refusals[] = {
	{ "argsz 0", -EINVAL, 0, SET_EVENT, 0, 1, -1 },
	{ "argsz of less than the header", -EINVAL, 19, SET_EVENT, 0, 1, -1 },
	{ "argsz of the header alone", -EINVAL, 20, SET_EVENT, 0, 1, -1 },
	{ "argsz that cuts the eventfd", -EINVAL, 23, SET_EVENT, 0, 1, -1 },
	{ "second interrupt", -EINVAL, 24, SET_EVENT, 1, 1, -1 },
	{ "no interrupt", -EINVAL, 20, SET_EVENT, 0, 0, -1 },
	{ "no interrupt, but an eventfd", -EINVAL, 24, SET_EVENT, 0, 0, -1 },
	{ "two interrupts", -EINVAL, 28, SET_EVENT, 0, 2, -1 },
	{ "start and count overflow", -EINVAL, 24, SET_EVENT, UINT_MAX, 1, -1 },
	{ "all interrupts there could be", -EINVAL, 24, SET_EVENT, 0, UINT_MAX, -1 },
	{ "data overflow", -EINVAL, 24, SET_EVENT, 0, 1U << 30, -1 },
	{ "no flags", -EINVAL, 24, 0, 0, 1, -1 },
	{ "no action", -EINVAL, 24, VFIO_IRQ_SET_DATA_EVENTFD, 0, 1, -1 },
	{ "no type of data", -EINVAL, 24, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, -1 },
	{ "two types of data", -EINVAL, 24, SET_EVENT | VFIO_IRQ_SET_DATA_BOOL, 0, 1, -1 },
	{ "nothing can be masked", -EINVAL, 24,
	  VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK, 0, 1, -1 },
	{ "nothing can be unmasked", -EINVAL, 24,
	  VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, -1 },
	{ "next free flag", -EINVAL, 24, SET_EVENT | 1U << 6, 0, 1, -1 },
	{ "last flag", -EINVAL, 24, SET_EVENT | 1U << 31, 0, 1, -1 },
	{ "-2 is no file", -EINVAL, 24, SET_EVENT, 0, 1, -2 },
	{ "INT_MIN is no file", -EINVAL, 24, SET_EVENT, 0, 1, INT_MIN },
	{ "file that is not open", -EBADF, 24, SET_EVENT, 0, 1, INT_MAX },
};

static int set_irqs(int device, const struct refusal *refusal, __u32 index)
{
	struct irq_arg arg = {
		.set = {
			.argsz = refusal->argsz,
			.flags = refusal->flags,
			.index = index,
			.start = refusal->start,
			.count = refusal->count,
		},
		.events = { refusal->event, -1 },
	};

	return call(device, VFIO_DEVICE_SET_IRQS, &arg);
}

/* Without interrupts there is no eventfd: nothing behind argsz is read */
TEST_F_TIMEOUT(info, set_irqs_for_no_interrupt_reads_no_eventfd, ENV_TIMEOUT)
{
	struct vfio_irq_set set = { .argsz = sizeof(set), .flags = SET_EVENT };
	__u32 nr;

	ASSERT_EQ(0, info_get(self->device, INFO_SIZE, &self->info));
	nr = self->info.device.num_irqs;
	for (set.index = 0; set.index < nr; set.index++) {
		EXPECT_EQ(-EINVAL, call(self->device, VFIO_DEVICE_SET_IRQS,
					edge_put(&self->edge, &set, sizeof(set)))) {
			TH_LOG("index %u", set.index);
		}
	}
}

TEST_F_TIMEOUT(info, bad_calls_of_set_irqs_are_refused_and_change_nothing, ENV_TIMEOUT)
{
	__u32 index, nr;
	int event;
	size_t i;

	ASSERT_EQ(0, info_get(self->device, INFO_SIZE, &self->info));
	nr = self->info.device.num_irqs;
	event = event_new();
	ASSERT_LE(0, event);
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_CFG_CHG_IRQ_INDEX, event));

	for (index = 0; index < nr; index++) {
		for (i = 0; i < ARRAY_SIZE_OF(refusals); i++)
			EXPECT_EQ(refusals[i].want,
				  set_irqs(self->device, refusals + i, index)) {
				TH_LOG("index %u: %s", index, refusals[i].why);
			}
		/* A file, but not of the kind */
		EXPECT_EQ(-EINVAL, vfio_ap_set_event(self->device, index, self->device));
	}
	EXPECT_EQ(-EINVAL, vfio_ap_set_event(self->device, nr, event));
	EXPECT_EQ(-EINVAL, vfio_ap_set_event(self->device, INT_MAX, event));
	EXPECT_EQ(-EINVAL, vfio_ap_set_event(self->device, UINT_MAX, event));

	EXPECT_EQ(0, event_count(event));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_LT(0, event_count(event));
	close(event);
}

TEST_F_TIMEOUT(info, set_irqs_at_bad_addresses, ENV_TIMEOUT)
{
	const size_t head = offsetof(struct vfio_irq_set, data), whole = head + sizeof(__s32);
	struct edge *edge = &self->edge;
	struct irq_arg arg = {
		.set = {
			.argsz = whole,
			.flags = SET_EVENT,
			.index = VFIO_AP_CFG_CHG_IRQ_INDEX,
			.count = 1,
		},
	};
	int event;

	event = event_new();
	ASSERT_LE(0, event);
	arg.events[0] = event;
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_SET_IRQS, NULL));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_SET_IRQS,
				edge_put(edge, &arg, head - 1)));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_SET_IRQS, edge_put(edge, &arg, head)));
	EXPECT_EQ(-EFAULT, call(self->device, VFIO_DEVICE_SET_IRQS,
				edge_put(edge, &arg, whole - 1)));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_EQ(0, event_count(event));

	/* The call writes nothing, so its argument need not be writable */
	edge_put(edge, &arg, whole);
	ASSERT_EQ(0, edge_protect(edge, PROT_READ));
	EXPECT_EQ(0, call(self->device, VFIO_DEVICE_SET_IRQS, edge->pages + edge->page - whole));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_LT(0, event_count(event));
	close(event);
}

TEST_F_TIMEOUT(info, eventfd_can_be_replaced_and_removed, ENV_TIMEOUT)
{
	const __u32 index = VFIO_AP_CFG_CHG_IRQ_INDEX;
	int first, second, other;

	first = event_new();
	second = event_new();
	other = event_new();
	ASSERT_LE(0, first);
	ASSERT_LE(0, second);
	ASSERT_LE(0, other);

	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_REQ_IRQ_INDEX, other));
	ASSERT_EQ(0, vfio_ap_set_event(self->device, index, first));
	EXPECT_EQ(0, event_count(first));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_LT(0, event_count(first));

	/* The same again is no mistake */
	ASSERT_EQ(0, vfio_ap_set_event(self->device, index, first));
	ASSERT_EQ(0, vfio_ap_set_event(self->device, index, second));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_EQ(0, event_count(first));
	EXPECT_LT(0, event_count(second));

	/* Another interrupt's eventfd has nothing to do with it */
	ASSERT_EQ(0, vfio_ap_set_event(self->device, VFIO_AP_REQ_IRQ_INDEX, -1));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_LT(0, event_count(second));

	ASSERT_EQ(0, vfio_ap_set_event(self->device, index, -1));
	ASSERT_EQ(0, change_config(&self->cdomain));
	EXPECT_EQ(0, event_count(second));
	/* There is nothing left to remove, and that is no mistake either */
	EXPECT_EQ(0, vfio_ap_set_event(self->device, index, -1));

	/* All readers are closed, yet it can be signalled */
	ASSERT_EQ(0, vfio_ap_set_event(self->device, index, first));
	close(first);
	EXPECT_EQ(0, change_config(&self->cdomain));
	EXPECT_EQ(0, event_count(second));
	EXPECT_EQ(0, event_count(other));
	close(second);
	close(other);
}

/**
 * struct stuck_call - an ioctl whose argument is in a trap
 * @trap: the trap
 * @device: device file descriptor
 * @cmd: the ioctl
 * @ret: 0 or a negative errno
 */
struct stuck_call {
	struct trap trap;
	int device;
	unsigned long cmd;
	int ret;
};

static void *call_job(void *arg)
{
	struct stuck_call *stuck = arg;

	stuck->ret = call(stuck->device, stuck->cmd, stuck->trap.mem);
	return NULL;
}

/* Who does not get on with his own memory keeps no other guest waiting */
TEST_F_TIMEOUT(info, stuck_caller_delays_no_other_guest, ENV_TIMEOUT)
{
	const struct vfio_device_info info = { .argsz = sizeof(info) };
	const struct vfio_irq_info irq = { .argsz = sizeof(irq) };
	const struct irq_arg set = {
		.set = {
			.argsz = sizeof(set.set) + sizeof(*set.events),
			.flags = SET_EVENT,
			.index = VFIO_AP_REQ_IRQ_INDEX,
			.count = 1,
		},
		.events = { -1 },
	};
	const struct {
		unsigned long cmd;
		const void *arg;
		size_t len;
	} calls[] = {
		{ VFIO_DEVICE_GET_INFO, &info, sizeof(info) },
		{ VFIO_DEVICE_GET_IRQ_INFO, &irq, sizeof(irq) },
		{ VFIO_DEVICE_SET_IRQS, &set, sizeof(set) },
	};
	struct stuck_call stuck = { .device = self->device };
	struct vfio_ap neighbour;
	pthread_t thread;
	size_t i;

	ASSERT_EQ(0, env_neighbour(&self->env, &neighbour, variant->path));
	for (i = 0; i < ARRAY_SIZE_OF(calls); i++) {
		stuck.cmd = calls[i].cmd;
		ASSERT_EQ(0, trap_set(&stuck.trap));
		ASSERT_EQ(0, pthread_create(&thread, NULL, call_job, &stuck));
		ASSERT_EQ(0, trap_wait(&stuck.trap));
		EXPECT_EQ(0, vfio_mig_set(neighbour.device, VFIO_DEVICE_STATE_STOP, NULL));
		EXPECT_EQ(0, vfio_mig_set(neighbour.device, VFIO_DEVICE_STATE_RUNNING, NULL));
		ASSERT_EQ(0, trap_open(&stuck.trap, calls[i].arg, calls[i].len));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, stuck.ret);
		trap_free(&stuck.trap);
	}
	vfio_ap_close(&neighbour);
}

TEST_HARNESS_MAIN
