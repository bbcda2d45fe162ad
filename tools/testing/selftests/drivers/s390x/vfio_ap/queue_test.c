// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap: the queues of a mediated device when something is taken away. Their
 * device, their guest, or an end of their reset.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/info.h"
#include "lib/kvm.h"
#include "kselftest_harness.h"

#define ARRAY_SIZE_OF(a) (sizeof(a) / sizeof(*(a)))

/* Response codes */
#define NOT_AVAILABLE		0x01
#define RESET_IN_PROGRESS	0x02
#define DECONFIGURED		0x03
#define CHECKSTOPPED		0x04
#define BUSY			0x05
#define INVALID_ADDRESS		0x06
#define STATE_CHANGE_IN_PROGRESS	0x0a
#define ASSOC_SECRET_NOT_UNIQUE	0x35
#define ASSOC_FAILED		0x36
/* One that neither PQAP(TAPQ) nor PQAP(ZAPQ) has any reason to give */
#define UNKNOWN_RC		0x07

/* As often as the driver asks a queue that is busy to interrupt no more */
#define MAX_TRIES		6

/* The notification byte of the guest, and its interruption subclass */
#define NIB			0x5008
#define NEXT_PAGE		0x6000
#define GISC			3

/* The guest's program, and its address */
#define PROGRAM			0x1000
#define INSN_PQAP		0xb2af0000
#define INSN_DIAG_500		0x83000500

/* Operands of PQAP(AQIC) in general registers 0 and 1 */
#define AQIC_FC			0x3000000UL
#define AQIC_IR			0x800000000000UL

/**
 * struct place - where the tests play
 * @env: a device with all adapters and all domains
 * @apid: its first adapter
 * @domain: its first domain; the queue of both is the one that things happen to
 * @sibling: its last domain
 * @other: its last adapter
 * @spare: more files of a device, or -1
 * @group: group of a second device, or -1
 * @cpu: a virtual CPU of the device's VM
 * @log: the kernel's messages since the test began, or -1
 * @scan_interval: of the AP bus, before the test
 */
struct place {
	struct env env;
	unsigned int apid;
	unsigned int domain;
	unsigned int sibling;
	unsigned int other;
	int spare[16];
	int group;
	struct kvm_cpu cpu;
	int log;
	char scan_interval[16];
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool is_bound(unsigned int apid, unsigned int domain)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/ap/drivers/vfio_ap/%02x.%04x", apid, domain);
	return !access(path, F_OK);
}

/* A scan would take the answers that are meant for vfio_ap: the next one is in two minutes */
static int hold_scans(void)
{
	return ap_bus_write("config_time", "120\n");
}

/* Answer an instruction with a response code; @count 0: until told otherwise */
static int set_response(struct place *p, const char *insn, unsigned int rc, unsigned int count)
{
	int ret = hold_scans();

	if (ret)
		return ret;
	if (!count)
		return ap_control("rc %02x.%04x %s %x", p->apid, p->domain, insn, rc);
	return ap_control("rc %02x.%04x %s %x %u", p->apid, p->domain, insn, rc, count);
}

static void clear_responses(struct place *p)
{
	set_response(p, "tapq", 0, 0);
	set_response(p, "zapq", 0, 0);
}

/* All domains; the environment assigns fewer */
static int assign_all(struct place *p)
{
	unsigned int i;

	for (i = 0; i < p->env.pool.nr_domains; i++)
		ap_mask_set(p->env.masks.aqm, p->env.pool.domains[i]);
	return ap_mdev_assign(p->env.dev.uuid, &p->env.masks);
}

static const char *place_setup(struct place *p, enum vfio_ap_path path, int *ret)
{
	const struct ap_pool *pool = &p->env.pool;
	const char *why;
	unsigned int i;

	memset(p, 0, sizeof(*p));
	for (i = 0; i < ARRAY_SIZE_OF(p->spare); i++)
		p->spare[i] = -1;
	p->cpu.fd = -1;
	p->log = -1;
	p->group = -1;
	why = env_setup_control(&p->env, path, ret);
	if (why || *ret)
		return why;
	p->apid = pool->adapters[0];
	p->other = pool->adapters[pool->nr_adapters - 1];
	p->domain = pool->domains[0];
	p->sibling = pool->domains[pool->nr_domains - 1];
	*ret = assign_all(p);
	if (*ret)
		return NULL;
	*ret = ap_bus_read("config_time", p->scan_interval, sizeof(p->scan_interval));
	*ret = *ret < 0 ? *ret : hold_scans();
	p->log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (!*ret && (p->log < 0 || lseek(p->log, 0, SEEK_END) < 0))
		*ret = -errno;
	return NULL;
}

static void place_teardown(struct place *p)
{
	unsigned int i;

	if (!p->scan_interval[0]) {
		env_teardown(&p->env);
		return;
	}
	clear_responses(p);
	kvm_cpu_close(&p->cpu);
	for (i = 0; i < ARRAY_SIZE_OF(p->spare); i++)
		close_fd(&p->spare[i]);
	close_fd(&p->group);
	env_teardown(&p->env);
	if (!is_bound(p->apid, p->domain))
		ap_queue_bind(p->apid, p->domain, "vfio_ap", true);
	if (!is_bound(p->apid, p->sibling))
		ap_queue_bind(p->apid, p->sibling, "vfio_ap", true);
	close_fd(&p->log);
	ap_bus_write("config_time", "%s", p->scan_interval);
}

ENV_FIXTURE_OF(queue, place, ENV_CDEV)

/* For tests that differ between group and cdev */
ENV_FIXTURE_OF(path, place, ENV_GROUP_AND_CDEV)

/* For tests of the type 1 IOMMU driver */
FIXTURE(container) {
	struct place place;
};

FIXTURE_SETUP(container)
{
	ENV_SETUP(place_setup, &self->place, VFIO_AP_GROUP);
}

FIXTURE_TEARDOWN(container)
{
	place_teardown(&self->place);
}

/* Whether one of the messages since the last call contains the text */
static bool log_has(struct place *p, const char *text)
{
	char record[8192];
	bool found = false;
	ssize_t n;

	while ((n = read(p->log, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		if (n <= 0)
			continue;
		record[n] = '\0';
		found |= !!strstr(record, text);
	}
	return found;
}

/* Whether the adapter is among the queues that an attribute lists */
static bool lists_adapter(const char *uuid, const char *attr, unsigned int apid)
{
	char text[4096], line[8];

	if (ap_mdev_read(uuid, attr, text, sizeof(text)) < 0)
		return false;
	snprintf(line, sizeof(line), "%02x.", apid);
	return !strncmp(text, line, 3) || strstr(text, (char []){ '\n', line[0], line[1], '.', 0 });
}

static bool guest_has(const char *uuid, unsigned int apid)
{
	return lists_adapter(uuid, "guest_matrix", apid);
}

/* vfio_ap's status of a queue, in a static buffer */
static const char *queue_status(unsigned int apid, unsigned int domain)
{
	static char text[32];
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/ap/devices/%02x.%04x/status", apid, domain);
	if (ap_file_read(path, text, sizeof(text)) < 0)
		return "unknown";
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static int reopen(struct place *p)
{
	struct vfio_ap *dev = &p->env.dev;
	char uuid[AP_UUID_SIZE];

	memcpy(uuid, dev->uuid, sizeof(uuid));
	vfio_ap_close(dev);
	return vfio_ap_open(dev, uuid, dev->path);
}

/**
 * struct task - something that waits for a reset
 * @p: where
 * @run: its function; 0 or a negative errno
 * @ret: result of @run
 */
struct task {
	struct place *p;
	int (*run)(struct place *p);
	int ret;
};

static void *task_thread(void *arg)
{
	struct task *task = arg;

	task->ret = task->run(task->p);
	return NULL;
}

/*
 * Run a function; returns its result, or -ETIME if it ended only when the queue
 * could be reset again.
 */
static int run_bounded(struct place *p, int (*run)(struct place *p))
{
	struct task task = { .p = p, .run = run };
	struct timespec end;
	pthread_t thread;
	int ret;

	ret = pthread_create(&thread, NULL, task_thread, &task);
	if (ret)
		return -ret;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += ENV_PATIENCE;
	ret = pthread_timedjoin_np(thread, NULL, &end);
	if (!ret)
		return task.ret;
	clear_responses(p);
	pthread_join(thread, NULL);
	return -ETIME;
}

static int close_device(struct place *p)
{
	vfio_ap_close_device(&p->env.dev);
	return 0;
}

static int unassign_adapter(struct place *p)
{
	return ap_mdev_write(p->env.dev.uuid, "unassign_adapter", "%u", p->apid);
}

static int unassign_domain(struct place *p)
{
	return ap_mdev_write(p->env.dev.uuid, "unassign_domain", "%u", p->domain);
}

static int unassign_by_config(struct place *p)
{
	struct ap_masks masks = p->env.masks;

	ap_mask_clear(masks.apm, p->apid);
	ap_mask_clear(masks.aqm, p->domain);
	return ap_mdev_assign(p->env.dev.uuid, &masks);
}

static int unbind_queue(struct place *p)
{
	return ap_queue_bind(p->apid, p->domain, "vfio_ap", false);
}

static int bind_queue(struct place *p)
{
	return ap_queue_bind(p->apid, p->domain, "vfio_ap", true);
}

/* The guest loses the adapter, which stays assigned */
static int unbind_sibling(struct place *p)
{
	return ap_queue_bind(p->apid, p->sibling, "vfio_ap", false);
}

static int bind_sibling(struct place *p)
{
	return ap_queue_bind(p->apid, p->sibling, "vfio_ap", true);
}

/* Unassign the queue of a filtered adapter, remove the device, then the queue */
static void remove_filtered_queue(struct __test_metadata *_metadata, struct place *p,
				  int (*unassign)(struct place *p))
{
	char uuid[AP_UUID_SIZE];

	memcpy(uuid, p->env.dev.uuid, sizeof(uuid));
	ASSERT_EQ(0, unbind_sibling(p));
	EXPECT_FALSE(guest_has(uuid, p->apid));
	EXPECT_TRUE(lists_adapter(uuid, "matrix", p->apid));
	ASSERT_EQ(0, unassign(p));
	EXPECT_STREQ("unassigned", queue_status(p->apid, p->domain));
	vfio_ap_close(&p->env.dev);
	ASSERT_EQ(0, ap_mdev_remove(uuid));
	ASSERT_EQ(0, unbind_queue(p));

	ASSERT_EQ(0, bind_queue(p));
	ASSERT_EQ(0, bind_sibling(p));
	ASSERT_EQ(0, ap_mdev_create(uuid));
	ASSERT_EQ(0, ap_mdev_assign(uuid, &p->env.masks));
	EXPECT_TRUE(guest_has(uuid, p->apid));
	ASSERT_EQ(0, vfio_ap_open(&p->env.dev, uuid, p->env.dev.path));
}

/* KASAN detects the failure of this test reliably, other kernels by chance */
TEST_F_TIMEOUT(queue, unassigned_queue_has_no_device, ENV_TIMEOUT)
{
	struct place *p = &self->place;

	remove_filtered_queue(_metadata, p, unassign_adapter);
	remove_filtered_queue(_metadata, p, unassign_domain);
	remove_filtered_queue(_metadata, p, unassign_by_config);
	EXPECT_FALSE(log_has(p, "BUG:"));
}

/* An adapter is filtered because of a queue that is assigned, not because of one that was */
TEST_F_TIMEOUT(queue, adapter_comes_back_when_its_unbound_domain_is_unassigned, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	char *uuid = p->env.dev.uuid;

	ASSERT_EQ(0, unbind_sibling(p));
	EXPECT_FALSE(guest_has(uuid, p->apid));
	EXPECT_TRUE(guest_has(uuid, p->other));
	ASSERT_EQ(0, ap_mdev_write(uuid, "unassign_domain", "%u", p->sibling));
	EXPECT_TRUE(guest_has(uuid, p->apid));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
	EXPECT_TRUE(guest_has(uuid, p->other));
}

/* A request for the device has come; drains the eventfds */
static bool wait_for_request(int request, int change)
{
	struct pollfd p = { .fd = request, .events = POLLIN };

	if (poll(&p, 1, ENV_PATIENCE * 1000) != 1)
		return false;
	/* They are signalled in the other order, under one lock */
	return event_count(request) > 0 && event_count(change) > 0;
}

/* Make the driver filter the guest's matrix, in each way it has */
static void change_host(struct __test_metadata *_metadata, struct place *p)
{
	unsigned int cdomain = p->env.pool.cdomains[0];

	ASSERT_EQ(0, unbind_queue(p));
	EXPECT_STREQ("assigned", queue_status(p->other, p->domain));
	ASSERT_EQ(0, bind_queue(p));
	EXPECT_STREQ("assigned", queue_status(p->apid, p->domain));

	EXPECT_EQ(0, ap_change("domain del %02x", p->domain));
	EXPECT_EQ(0, ap_change("domain add %02x", p->domain));
	EXPECT_EQ(0, ap_change("cdomain del %02x", cdomain));
	EXPECT_EQ(0, ap_change("cdomain add %02x", cdomain));
	ASSERT_TRUE(is_bound(p->apid, p->domain));
	EXPECT_STREQ("assigned", queue_status(p->apid, p->domain));
	EXPECT_STREQ("assigned", queue_status(p->other, p->sibling));
}

TEST_F_TIMEOUT(queue, device_requested_back_gets_no_resources, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct vfio_ap *dev = &p->env.dev;
	int request = event_new(), change = event_new(), status;
	long changes;
	pid_t pid;

	ASSERT_LE(0, request);
	ASSERT_LE(0, change);
	ASSERT_EQ(0, vfio_ap_set_event(dev->device, VFIO_AP_REQ_IRQ_INDEX, request));
	ASSERT_EQ(0, vfio_ap_set_event(dev->device, VFIO_AP_CFG_CHG_IRQ_INDEX, change));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));

	pid = env_remove_in_child(dev->uuid);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_for_request(request, change));
	EXPECT_STREQ("assigned", queue_status(p->apid, p->domain));
	EXPECT_STREQ("assigned", queue_status(p->other, p->sibling));

	/* Only the requests, which are repeated, change something for the guest */
	change_host(_metadata, p);
	changes = event_count(change);
	EXPECT_GE(event_count(request), changes);
	EXPECT_EQ(-EBUSY, vfio_mig_set(dev->device, VFIO_DEVICE_STATE_STOP_COPY, NULL));

	vfio_ap_close_device(dev);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_STREQ("unassigned", queue_status(p->apid, p->domain));
	close(request);
	close(change);
}

/* The character device of a mediated device, open but not bound; or -1 */
static int cdev_open(const char *uuid)
{
	char path[128], dev[64];
	int i;

	for (i = 0; i < 4096; i++) {
		snprintf(path, sizeof(path), "vfio-dev/vfio%d", i);
		if (access(ap_mdev_path(uuid, path), F_OK))
			continue;
		snprintf(dev, sizeof(dev), "/dev/vfio/devices/vfio%d", i);
		return open(dev, O_RDWR | O_CLOEXEC);
	}
	return -1;
}

static int kvm_file(const struct vfio_ap *dev, __u64 attr, int fd)
{
	struct kvm_device_attr set = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = attr,
		.addr = (uintptr_t)&fd,
	};

	return ioctl(dev->kvm_vfio, KVM_SET_DEVICE_ATTR, &set) ? -errno : 0;
}

/* Open the device again with the VM and the iommufd of the first time */
static int cdev_bind(const struct vfio_ap *dev, int fd)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = dev->iommufd,
	};
	int ret;

	ret = kvm_file(dev, KVM_DEV_VFIO_FILE_ADD, fd);
	if (!ret && ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		ret = -errno;
	return ret;
}

static void cdev_close(const struct vfio_ap *dev, int *fd)
{
	kvm_file(dev, KVM_DEV_VFIO_FILE_DEL, *fd);
	close_fd(fd);
}

/*
 * Who holds a file from before the removal can open the device until it is
 * requested again, which happens all the time: look in between.
 */
static void expect_next_user_has_all(struct __test_metadata *_metadata, struct place *p,
				     int request)
{
	struct vfio_ap *dev = &p->env.dev;
	bool all, judged = false;
	unsigned int i;

	for (i = 0; !judged && i < ARRAY_SIZE_OF(p->spare); i++) {
		ASSERT_EQ(0, cdev_bind(dev, p->spare[i]));
		ASSERT_EQ(0, vfio_ap_set_event(p->spare[i], VFIO_AP_REQ_IRQ_INDEX, request));
		all = !strcmp("in use", queue_status(p->apid, p->domain)) &&
		      !strcmp("in use", queue_status(p->other, p->sibling));
		judged = all || event_count(request) <= 0;
		if (judged)
			EXPECT_TRUE(all);
		cdev_close(dev, &p->spare[i]);
	}
	EXPECT_TRUE(judged);
}

TEST_F_TIMEOUT(path, device_requested_back_is_complete_for_next_user, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct vfio_ap *dev = &p->env.dev;
	int request = event_new(), change = event_new(), status;
	unsigned int i;
	pid_t pid;

	for (i = 0; dev->path == VFIO_AP_CDEV && i < ARRAY_SIZE_OF(p->spare); i++) {
		p->spare[i] = cdev_open(dev->uuid);
		ASSERT_LE(0, p->spare[i]);
	}
	ASSERT_EQ(0, vfio_ap_set_event(dev->device, VFIO_AP_REQ_IRQ_INDEX, request));
	ASSERT_EQ(0, vfio_ap_set_event(dev->device, VFIO_AP_CFG_CHG_IRQ_INDEX, change));
	pid = env_remove_in_child(dev->uuid);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_for_request(request, change));

	/* A group gives no device that is being removed */
	if (dev->path == VFIO_AP_GROUP) {
		EXPECT_EQ(-1, ioctl(dev->group, VFIO_GROUP_GET_DEVICE_FD, dev->uuid));
		EXPECT_EQ(ENODEV, errno);
	}
	vfio_ap_close_device(dev);
	if (dev->path == VFIO_AP_CDEV)
		expect_next_user_has_all(_metadata, p, request);
	for (i = 0; i < ARRAY_SIZE_OF(p->spare); i++)
		close_fd(&p->spare[i]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	/* A new device is whole, too */
	ASSERT_EQ(0, ap_mdev_create(dev->uuid));
	ASSERT_EQ(0, ap_mdev_assign(dev->uuid, &p->env.masks));
	ASSERT_EQ(0, reopen(p));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
	EXPECT_STREQ("in use", queue_status(p->other, p->sibling));
	close(request);
	close(change);
}

/*
 * Of an adapter with a queue that was not reset a guest gets nothing, the one
 * that has it open or the next; of the others everything.
 */
static void expect_not_passed(struct __test_metadata *_metadata, struct place *p,
			      const char *uuid)
{
	EXPECT_FALSE(guest_has(uuid, p->apid));
	EXPECT_TRUE(lists_adapter(uuid, "matrix", p->apid));
	EXPECT_TRUE(guest_has(uuid, p->other));
}

/* The reset that closing requests has come to its end */
static void expect_recovers(struct __test_metadata *_metadata, struct place *p)
{
	clear_responses(p);
	ASSERT_EQ(0, reopen(p));
	EXPECT_TRUE(guest_has(p->env.dev.uuid, p->apid));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
	EXPECT_FALSE(log_has(p, "BUG:"));
}

TEST_F_TIMEOUT(queue, closing_ends_with_stuck_reset, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	const char *uuid = p->env.dev.uuid;
	char text[64];

	ASSERT_EQ(0, set_response(p, "tapq", RESET_IN_PROGRESS, 0));
	ASSERT_EQ(0, run_bounded(p, close_device));
	expect_not_passed(_metadata, p, uuid);
	snprintf(text, sizeof(text), "Reset of queue %02x.%04x failed", p->apid, p->domain);
	EXPECT_TRUE(log_has(p, text));

	/* Nor is it passed to the next guest, but it is when a reset completes */
	ASSERT_EQ(0, run_bounded(p, reopen));
	expect_not_passed(_metadata, p, uuid);
	EXPECT_STREQ("assigned", queue_status(p->apid, p->domain));
	EXPECT_STREQ("in use", queue_status(p->other, p->domain));
	clear_responses(p);
	EXPECT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_TRUE(guest_has(uuid, p->apid));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
}

TEST_F_TIMEOUT(queue, unassigning_ends_with_stuck_reset, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	char *uuid = p->env.dev.uuid;

	ASSERT_EQ(0, set_response(p, "tapq", BUSY, 0));
	ASSERT_EQ(0, run_bounded(p, unassign_adapter));
	EXPECT_STREQ("unassigned", queue_status(p->apid, p->domain));
	ASSERT_EQ(0, ap_mdev_write(uuid, "assign_adapter", "%u", p->apid));
	expect_not_passed(_metadata, p, uuid);

	/* Nor is it passed by another device */
	ASSERT_EQ(0, unassign_adapter(p));
	ASSERT_EQ(0, ap_mdev_create(ap_mdev_uuid(1)));
	ASSERT_EQ(0, ap_mdev_write(ap_mdev_uuid(1), "assign_domain", "%u", p->domain));
	ASSERT_EQ(0, ap_mdev_write(ap_mdev_uuid(1), "assign_adapter", "%u", p->apid));
	EXPECT_FALSE(guest_has(ap_mdev_uuid(1), p->apid));
	EXPECT_TRUE(lists_adapter(ap_mdev_uuid(1), "matrix", p->apid));
	ASSERT_EQ(0, ap_mdev_remove(ap_mdev_uuid(1)));

	clear_responses(p);
	ASSERT_EQ(0, ap_mdev_write(uuid, "assign_adapter", "%u", p->apid));
	expect_recovers(_metadata, p);
}

TEST_F_TIMEOUT(queue, unbinding_ends_with_stuck_reset, ENV_TIMEOUT)
{
	struct place *p = &self->place;

	ASSERT_EQ(0, set_response(p, "zapq", BUSY, 0));
	ASSERT_EQ(0, run_bounded(p, unbind_queue));
	EXPECT_FALSE(is_bound(p->apid, p->domain));
	EXPECT_FALSE(guest_has(p->env.dev.uuid, p->apid));
	clear_responses(p);
	ASSERT_EQ(0, bind_queue(p));
	expect_recovers(_metadata, p);
}

/* The guest loses the adapter, so all of its queues are reset */
TEST_F_TIMEOUT(queue, filtering_ends_with_stuck_reset, ENV_TIMEOUT)
{
	struct place *p = &self->place;

	ASSERT_EQ(0, set_response(p, "tapq", RESET_IN_PROGRESS, 0));
	ASSERT_EQ(0, run_bounded(p, unbind_sibling));
	clear_responses(p);
	ASSERT_EQ(0, bind_sibling(p));
	expect_not_passed(_metadata, p, p->env.dev.uuid);
	expect_recovers(_metadata, p);
}

/* The next guest does not pay for a queue that was only slow */
TEST_F_TIMEOUT(queue, slow_reset_is_repeated_when_device_is_opened, ENV_TIMEOUT)
{
	struct place *p = &self->place;

	ASSERT_EQ(0, set_response(p, "tapq", RESET_IN_PROGRESS, 0));
	ASSERT_EQ(0, run_bounded(p, close_device));
	expect_not_passed(_metadata, p, p->env.dev.uuid);
	clear_responses(p);
	ASSERT_EQ(0, reopen(p));
	EXPECT_TRUE(guest_has(p->env.dev.uuid, p->apid));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
}

/* The log says that such a queue is not passed to guests */
TEST_F_TIMEOUT(queue, adapter_with_stuck_queue_is_taken_by_reset_and_given_back, ENV_TIMEOUT)
{
	struct place *p = &self->place;

	ASSERT_EQ(0, set_response(p, "tapq", UNKNOWN_RC, 1));
	EXPECT_EQ(-EIO, vfio_ap_reset(&p->env.dev));
	expect_not_passed(_metadata, p, p->env.dev.uuid);
	EXPECT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_TRUE(guest_has(p->env.dev.uuid, p->apid));
	EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
}

/* An answer that there is no reason for does not mean that a queue is reset */
TEST_F_TIMEOUT(queue, reset_with_unknown_response_fails, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct vfio_ap *dev = &p->env.dev;

	ASSERT_EQ(0, set_response(p, "tapq", UNKNOWN_RC, 1));
	EXPECT_EQ(-EIO, vfio_ap_reset(dev));
	EXPECT_EQ(0, vfio_ap_reset(dev));
	ASSERT_EQ(0, set_response(p, "zapq", UNKNOWN_RC, 1));
	EXPECT_EQ(-EIO, vfio_ap_reset(dev));
	EXPECT_EQ(0, vfio_ap_reset(dev));

	ASSERT_EQ(0, set_response(p, "tapq", UNKNOWN_RC, 1));
	ASSERT_EQ(0, run_bounded(p, close_device));
	expect_not_passed(_metadata, p, dev->uuid);
	expect_recovers(_metadata, p);
}

/* A virtual CPU with something to execute: PQAP, and then an instruction for user space */
static int vcpu_create(struct place *p)
{
	static const __u32 program[] = { INSN_PQAP, INSN_DIAG_500 };
	int ret;

	/*
	 * The AP bus resets a queue that changes its driver, without waiting for
	 * the end: the guest would get the response code "reset in progress".
	 */
	ret = vfio_ap_reset(&p->env.dev);
	if (ret)
		return ret;
	memcpy((__u8 *)p->env.dev.mem + PROGRAM, program, sizeof(program));
	return kvm_cpu_create(&p->cpu, &p->env.dev);
}

/* The guest executes PQAP(AQIC); the response code or a negative errno */
static int vcpu_aqic_at(struct place *p, bool enable, __u64 nib)
{
	struct kvm_run *run = p->cpu.run;
	int ret;

	kvm_cpu_set_psw(&p->cpu, KVM_PSW_MASK, PROGRAM);
	run->s.regs.gprs[0] = AQIC_FC | p->apid << 8 | p->domain;
	run->s.regs.gprs[1] = enable ? AQIC_IR | GISC : 0;
	run->s.regs.gprs[2] = nib;
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	ret = kvm_cpu_run(&p->cpu);
	if (ret)
		return ret;
	if (!kvm_cpu_intercepted(&p->cpu, INSN_DIAG_500 >> 16))
		return -EPROTO;
	return run->s.regs.gprs[1] >> 16 & 0xff;
}

static int vcpu_aqic(struct place *p, bool enable)
{
	return vcpu_aqic_at(p, enable, NIB);
}

/* Have the guest enable the interrupts of the queue: a page is pinned then */
static void enable_interrupts(struct __test_metadata *_metadata, struct place *p,
			      long *before)
{
	ASSERT_EQ(0, vcpu_create(p));
	*before = vfio_ap_pinned();
	ASSERT_EQ(0, vcpu_aqic(p, true));
	EXPECT_LT(*before, vfio_ap_pinned());
}

/* The queue writes to the notification byte of the guest */
static bool queue_notifies(struct place *p)
{
	__u8 *nib = (__u8 *)p->env.dev.mem + NIB;

	__atomic_store_n(nib, 0, __ATOMIC_SEQ_CST);
	ap_control("notify %02x.%04x", p->apid, p->domain);
	return __atomic_load_n(nib, __ATOMIC_SEQ_CST);
}

TEST_F_TIMEOUT(queue, guest_registers_interrupt, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	EXPECT_FALSE(queue_notifies(p));
	enable_interrupts(_metadata, p, &before);
	EXPECT_TRUE(queue_notifies(p));
	EXPECT_EQ(0, vcpu_aqic(p, false));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_FALSE(queue_notifies(p));

	EXPECT_EQ(0, vcpu_aqic(p, true));
	EXPECT_TRUE(queue_notifies(p));
	EXPECT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_FALSE(queue_notifies(p));

	EXPECT_EQ(0, vcpu_aqic(p, true));
	vfio_ap_close_device(&p->env.dev);
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_FALSE(queue_notifies(p));
}

/*
 * The queue refuses the guest's request, which leaves nothing, and the guest
 * can repeat it. An ISC that stays shows when the VM goes.
 */
TEST_F_TIMEOUT(queue, refused_registration_leaves_nothing, ENV_TIMEOUT)
{
	static const unsigned int codes[] = { RESET_IN_PROGRESS, BUSY, INVALID_ADDRESS };
	struct place *p = &self->place;
	long before;
	size_t i;

	ASSERT_EQ(0, vcpu_create(p));
	before = vfio_ap_pinned();
	ASSERT_LE(0, before);
	for (i = 0; i < ARRAY_SIZE_OF(codes); i++) {
		ASSERT_EQ(0, set_response(p, "aqic", codes[i], 1));
		EXPECT_EQ((int)codes[i], vcpu_aqic(p, true));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		EXPECT_FALSE(queue_notifies(p));

		EXPECT_EQ(0, vcpu_aqic(p, true));
		EXPECT_LT(before, vfio_ap_pinned());
		EXPECT_TRUE(queue_notifies(p));
		EXPECT_EQ(0, vcpu_aqic(p, false));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
	}

	/* With one registered, the page of both is the same */
	EXPECT_EQ(0, vcpu_aqic(p, true));
	ASSERT_EQ(0, set_response(p, "aqic", BUSY, 1));
	EXPECT_EQ(BUSY, vcpu_aqic(p, true));
	vfio_ap_close_device(&p->env.dev);
	EXPECT_EQ(before, vfio_ap_await_pinned(before));

	kvm_cpu_close(&p->cpu);
	vfio_ap_close(&p->env.dev);
	EXPECT_FALSE(log_has(p, "WARNING:"));
}

/* The adapter goes while the queue has an interrupt, or stays busy: no reason to warn anybody */
TEST_F_TIMEOUT(queue, interrupt_is_released_with_adapter, ENV_TIMEOUT)
{
	static const unsigned int codes[] = { NOT_AVAILABLE, DECONFIGURED, CHECKSTOPPED };
	struct place *p = &self->place;
	long before;
	size_t i;

	enable_interrupts(_metadata, p, &before);
	for (i = 0; i < ARRAY_SIZE_OF(codes); i++) {
		ASSERT_EQ(0, set_response(p, "aqic", codes[i], 1));
		EXPECT_EQ((int)codes[i], vcpu_aqic(p, false));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		/* The machine did not reset the queue */
		ASSERT_EQ(0, vfio_ap_reset(&p->env.dev));
		EXPECT_EQ(0, vcpu_aqic(p, true));
	}
	for (i = 0; i < ARRAY_SIZE_OF(codes); i++) {
		ASSERT_EQ(0, set_response(p, "tapq", codes[i], 1));
		EXPECT_EQ(0, vcpu_aqic(p, false));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		EXPECT_EQ(0, vcpu_aqic(p, true));
	}
	ASSERT_EQ(0, set_response(p, "aqic", BUSY, MAX_TRIES));
	EXPECT_EQ(BUSY, vcpu_aqic(p, false));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	ASSERT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_FALSE(log_has(p, "WARNING:"));
}

/* Answers that a guest with secrets or a change of the configuration can bring about */
TEST_F_TIMEOUT(queue, unknown_response_to_disable_keeps_pages_without_warning, ENV_TIMEOUT)
{
	static const unsigned int codes[] = {
		STATE_CHANGE_IN_PROGRESS, ASSOC_SECRET_NOT_UNIQUE, ASSOC_FAILED,
	};
	struct place *p = &self->place;
	long before;
	size_t i;

	enable_interrupts(_metadata, p, &before);
	for (i = 0; i < ARRAY_SIZE_OF(codes); i++) {
		ASSERT_EQ(0, set_response(p, "aqic", codes[i], 0));
		EXPECT_EQ((int)codes[i], vcpu_aqic(p, false));
		ASSERT_EQ(0, set_response(p, "aqic", 0, 0));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		ASSERT_EQ(0, vfio_ap_reset(&p->env.dev));
		EXPECT_EQ(0, vcpu_aqic(p, true));

		ASSERT_EQ(0, set_response(p, "tapq", codes[i], 0));
		EXPECT_EQ(0, vcpu_aqic(p, false));
		ASSERT_EQ(0, set_response(p, "tapq", 0, 0));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		ASSERT_EQ(0, vfio_ap_reset(&p->env.dev));
		EXPECT_EQ(0, vcpu_aqic(p, true));
	}
	EXPECT_FALSE(log_has(p, "WARNING:"));

	ASSERT_EQ(0, set_response(p, "aqic", ASSOC_FAILED, 0));
	EXPECT_EQ(ASSOC_FAILED, vcpu_aqic(p, false));
	ASSERT_EQ(0, set_response(p, "aqic", 0, 0));
	EXPECT_TRUE(log_has(p, "may still interrupt: two pages stay allocated"));
	ASSERT_EQ(0, vfio_ap_reset(&p->env.dev));

	/* A change of the state ends by itself: the queue is asked again */
	EXPECT_EQ(0, vcpu_aqic(p, true));
	ASSERT_EQ(0, set_response(p, "aqic", STATE_CHANGE_IN_PROGRESS, 1));
	EXPECT_EQ(0, vcpu_aqic(p, false));
	EXPECT_FALSE(log_has(p, "may still interrupt"));
}

#define KEPT	"may still interrupt: two pages stay allocated"

/*
 * Do something that the driver logs, until it does: it limits the rate of its messages,
 * and tests before this one have caused some. True if it did; the device is reset.
 */
static bool is_logged(struct place *p, int (*act)(struct place *p), const char *text)
{
	const struct timespec pause = { .tv_sec = 1 };
	bool found = false;
	unsigned int s;

	for (s = 0; s < ENV_PATIENCE && !found; s++) {
		if (s)
			nanosleep(&pause, NULL);
		if (act(p) || ap_control("aqic_polls %d", AP_AQIC_POLLS))
			return false;
		found = log_has(p, text);
		if (vfio_ap_reset(&p->env.dev))
			return false;
	}
	return found;
}

/* Disable an interrupt that is being enabled */
static int disable_too_soon(struct place *p)
{
	if (ap_control("aqic_polls 200") || vcpu_aqic(p, true))
		return -EPROTO;
	return vcpu_aqic(p, false) == BUSY ? 0 : -EPROTO;
}

/* Disable an interrupt; the queue accepts it, and does not do it in time */
static int disable_slowly(struct place *p)
{
	if (ap_control("aqic_polls 0") || vcpu_aqic(p, true))
		return -EPROTO;
	return ap_control("aqic_polls 200") ?: vcpu_aqic(p, false);
}

/* While an interrupt is being enabled PQAP(TAPQ) shows it as disabled: that is no proof */
TEST_F_TIMEOUT(queue, interrupt_that_is_being_enabled_keeps_its_pages, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	ASSERT_EQ(0, vcpu_create(p));
	before = vfio_ap_pinned();
	EXPECT_TRUE(is_logged(p, disable_too_soon, KEPT));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_EQ(0, vcpu_aqic(p, true));
	EXPECT_TRUE(queue_notifies(p));
}

/* The queue accepts the request, but is too slow: its pages must stay pinned */
TEST_F_TIMEOUT(queue, interrupt_that_stays_on_keeps_its_pages, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	ASSERT_EQ(0, vcpu_create(p));
	before = vfio_ap_pinned();
	EXPECT_TRUE(is_logged(p, disable_slowly, KEPT));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_EQ(0, vcpu_aqic(p, true));
	EXPECT_TRUE(queue_notifies(p));
}

/* The driver no longer polls the queue: the guest's PQAP(AQIC) must not wait */
TEST_F_TIMEOUT(queue, abandoned_reset_is_not_pending, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	char text[64];
	long before;

	enable_interrupts(_metadata, p, &before);
	ASSERT_EQ(0, set_response(p, "tapq", RESET_IN_PROGRESS, 0));
	EXPECT_EQ(-EIO, vfio_ap_reset(&p->env.dev));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	snprintf(text, sizeof(text), "Reset of queue %02x.%04x failed", p->apid, p->domain);
	EXPECT_TRUE(log_has(p, text));

	/* The machine has completed the reset */
	ASSERT_EQ(0, set_response(p, "tapq", 0, 0));
	ASSERT_EQ(0, set_response(p, "aqic", BUSY, 1));
	EXPECT_EQ(BUSY, vcpu_aqic(p, true));
	EXPECT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_EQ(0, vcpu_aqic(p, true));
	EXPECT_TRUE(queue_notifies(p));
}

/* Unmap the memory of the guest, or detach the device from where it is mapped */
static int unmap_all(struct place *p)
{
	struct vfio_ap *dev = &p->env.dev;
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.size = dev->mem_size,
	};
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	if (dev->path == VFIO_AP_CDEV)
		return ioctl(dev->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach) ? -errno : 0;
	return ioctl(dev->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
}

/* A range may begin at 0, which is no address that a queue has registered */
TEST_F_TIMEOUT(path, unmapping_concerns_registered_interrupts_only, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before, aqic;

	aqic = ap_counter("aqic");
	ASSERT_LT(0, aqic);
	ASSERT_EQ(0, unmap_all(p));
	EXPECT_EQ(aqic, ap_counter("aqic"));

	ASSERT_EQ(0, reopen(p));
	/* The driver asks again while the interrupt is on: here it takes effect at once */
	ASSERT_EQ(0, ap_control("aqic_polls 0"));
	enable_interrupts(_metadata, p, &before);
	aqic = ap_counter("aqic");
	ASSERT_EQ(0, unmap_all(p));
	EXPECT_EQ(aqic + 1, ap_counter("aqic"));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_FALSE(queue_notifies(p));
}

/* The page of the notification byte is not mapped, but the next page is */
TEST_F_TIMEOUT(container, guest_registers_no_unmapped_page, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct vfio_ap *dev = &p->env.dev;
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)dev->mem + NEXT_PAGE,
		.iova = NEXT_PAGE,
		.size = dev->mem_size - NEXT_PAGE,
	};
	long before;

	ASSERT_EQ(0, vcpu_create(p));
	before = vfio_ap_pinned();
	ASSERT_EQ(0, unmap_all(p));
	ASSERT_EQ(0, ioctl(dev->container, VFIO_IOMMU_MAP_DMA, &map));
	ASSERT_EQ(INVALID_ADDRESS, vcpu_aqic_at(p, true, NEXT_PAGE - 8));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_EQ(0, vcpu_aqic_at(p, true, NEXT_PAGE));
	EXPECT_LT(before, vfio_ap_pinned());
}

/* The guest has not got the adapter, but registers an interrupt nevertheless */
TEST_F_TIMEOUT(queue, unassigned_queue_keeps_no_interrupt, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	ASSERT_EQ(0, unbind_sibling(p));
	EXPECT_FALSE(guest_has(p->env.dev.uuid, p->apid));
	enable_interrupts(_metadata, p, &before);
	ASSERT_EQ(0, unassign_adapter(p));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_FALSE(queue_notifies(p));
}

TEST_F_TIMEOUT(queue, reset_with_unknown_response_releases_pin, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	enable_interrupts(_metadata, p, &before);
	ASSERT_EQ(0, set_response(p, "tapq", UNKNOWN_RC, 1));
	EXPECT_EQ(-EIO, vfio_ap_reset(&p->env.dev));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));

	EXPECT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_EQ(0, vcpu_aqic(p, true));
	ASSERT_EQ(0, set_response(p, "tapq", UNKNOWN_RC, 1));
	vfio_ap_close_device(&p->env.dev);
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
}

/*
 * The queue refuses to be reset, and can still notify a guest that does not
 * exist any more. The page that it writes to must not have another use, which
 * KASAN detects.
 */
static void expect_no_stray_writes(struct __test_metadata *_metadata, struct place *p,
				   long before)
{
	struct vfio_ap *dev = &p->env.dev;
	char uuid[AP_UUID_SIZE];

	ASSERT_EQ(0, run_bounded(p, close_device));
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	EXPECT_TRUE(queue_notifies(p));

	memcpy(uuid, dev->uuid, sizeof(uuid));
	kvm_cpu_close(&p->cpu);
	vfio_ap_close(dev);
	ASSERT_EQ(0, ap_control("notify %02x.%04x", p->apid, p->domain));
	EXPECT_FALSE(log_has(p, "BUG:"));

	/* When the queue can be reset the two pages go */
	clear_responses(p);
	ASSERT_EQ(0, vfio_ap_open(dev, uuid, dev->path));
	EXPECT_TRUE(guest_has(uuid, p->apid));
	expect_recovers(_metadata, p);
}

TEST_F_TIMEOUT(queue, stuck_queue_writes_to_no_foreign_page, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	enable_interrupts(_metadata, p, &before);
	ASSERT_EQ(0, set_response(p, "zapq", BUSY, 0));
	expect_no_stray_writes(_metadata, p, before);
}

TEST_F_TIMEOUT(queue, queue_without_reset_writes_to_no_foreign_page, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	long before;

	enable_interrupts(_metadata, p, &before);
	ASSERT_EQ(0, set_response(p, "zapq", UNKNOWN_RC, 1));
	expect_no_stray_writes(_metadata, p, before);
}

static int group_open(const char *uuid)
{
	char link[256], path[300];
	ssize_t len;

	len = readlink(ap_mdev_path(uuid, "iommu_group"), link, sizeof(link) - 1);
	if (len < 0)
		return -1;
	link[len] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* Give a second device to the VM of the first; 0 or a negative errno */
static int open_second(struct place *p, const char *uuid)
{
	struct vfio_ap *dev = &p->env.dev;
	int ret;

	if (dev->path == VFIO_AP_CDEV) {
		p->spare[0] = cdev_open(uuid);
		return p->spare[0] < 0 ? -errno : cdev_bind(dev, p->spare[0]);
	}
	p->group = group_open(uuid);
	if (p->group < 0)
		return -errno;
	if (ioctl(p->group, VFIO_GROUP_SET_CONTAINER, &dev->container))
		return -errno;
	ret = kvm_file(dev, KVM_DEV_VFIO_FILE_ADD, p->group);
	if (ret)
		return ret;
	p->spare[0] = ioctl(p->group, VFIO_GROUP_GET_DEVICE_FD, uuid);
	return p->spare[0] < 0 ? -errno : 0;
}

static void close_second(struct place *p)
{
	struct vfio_ap *dev = &p->env.dev;

	if (dev->path == VFIO_AP_CDEV) {
		cdev_close(dev, &p->spare[0]);
		return;
	}
	close_fd(&p->spare[0]);
	if (p->group >= 0)
		kvm_file(dev, KVM_DEV_VFIO_FILE_DEL, p->group);
	close_fd(&p->group);
}

/* Two devices of one VM: the intercept handler knows only one */
TEST_F_TIMEOUT(path, second_device_of_guest_is_refused_without_effect, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct vfio_ap *dev = &p->env.dev;
	const char *uuid = ap_mdev_uuid(1);
	long before;
	int i;

	ASSERT_EQ(0, ap_mdev_write(dev->uuid, "unassign_domain", "%u", p->sibling));
	ASSERT_EQ(0, ap_mdev_create(uuid));
	ASSERT_EQ(0, ap_mdev_write(uuid, "assign_domain", "%u", p->sibling));
	ASSERT_EQ(0, ap_mdev_write(uuid, "assign_adapter", "%u", p->apid));
	ASSERT_EQ(0, vcpu_create(p));
	before = vfio_ap_pinned();
	ASSERT_LE(0, before);

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EPERM, open_second(p, uuid));
		close_second(p);
		EXPECT_STREQ("in use", queue_status(p->apid, p->domain));
		EXPECT_STREQ("assigned", queue_status(p->apid, p->sibling));
		EXPECT_EQ(0, vcpu_aqic(p, true));
		EXPECT_TRUE(queue_notifies(p));
		EXPECT_EQ(0, vcpu_aqic(p, false));
		EXPECT_EQ(before, vfio_ap_await_pinned(before));
		EXPECT_EQ(0, vfio_ap_reset(dev));
	}

	/* The refused device can be removed, and the guest goes on with its first */
	ASSERT_EQ(0, ap_mdev_remove(uuid));
	EXPECT_EQ(0, vcpu_aqic(p, true));
	EXPECT_TRUE(queue_notifies(p));
	EXPECT_EQ(0, env_stream(&p->env));

	/* With the first closed, the VM can have the second */
	vfio_ap_close_device(dev);
	EXPECT_EQ(before, vfio_ap_await_pinned(before));
	ASSERT_EQ(0, ap_mdev_create(uuid));
	ASSERT_EQ(0, ap_mdev_write(uuid, "assign_domain", "%u", p->sibling));
	ASSERT_EQ(0, ap_mdev_write(uuid, "assign_adapter", "%u", p->apid));
	EXPECT_EQ(0, open_second(p, uuid));
	EXPECT_STREQ("in use", queue_status(p->apid, p->sibling));
	close_second(p);
}

TEST_HARNESS_MAIN
