// SPDX-License-Identifier: GPL-2.0+
/*
 * KUnit tests of the migration of a vfio-ap mediated device
 *
 * They need no AP hardware, no guest and no mediated device that is registered:
 * the migration code is included below, and stubs replace the rest of the driver
 * and the machine. Data files are read and written through their file operations,
 * with memory of a user space that KUnit provides.
 */

/* The trace events are those of vfio_ap.ko, which cannot lend them. */
#define NOTRACE

/* The tests of the stream bring these along, too, when both are built in. */
#define vfio_ap_stream_put_record	migration_kunit_stream_put_record
#define vfio_ap_stream_encode_initial	migration_kunit_stream_encode_initial
#define vfio_ap_stream_decode		migration_kunit_stream_decode
#define vfio_ap_stream_compare_config	migration_kunit_stream_compare_config
#define vfio_ap_stream_compare_hwinfo	migration_kunit_stream_compare_hwinfo

/* Interrupts need queues and a guest: these stubs record the requests. */
#define vfio_ap_irq_quiesce		migration_kunit_irq_quiesce
#define vfio_ap_irq_restore		migration_kunit_irq_restore
#define vfio_ap_irq_wait_for_pins_locked migration_kunit_irq_wait_for_pins_locked
#define vfio_ap_irq_forget		migration_kunit_irq_forget
#define vfio_ap_irq_encode		migration_kunit_irq_encode
#define vfio_ap_irq_receive		migration_kunit_irq_receive
#define vfio_ap_dirty_stop_locked	migration_kunit_dirty_stop_locked
#define vfio_ap_mdev_reset_guest	migration_kunit_mdev_reset_guest

#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

/* A reader or writer waits for its memory: see during_copy. */
static void migration_kunit_in_copy(void);

static unsigned long migration_kunit_to_user(void __user *to, const void *from,
					     unsigned long len)
{
	migration_kunit_in_copy();
	return copy_to_user(to, from, len);
}

static unsigned long migration_kunit_from_user(void *to, const void __user *from,
					       unsigned long len)
{
	migration_kunit_in_copy();
	return copy_from_user(to, from, len);
}

#define copy_to_user		migration_kunit_to_user
#define copy_from_user		migration_kunit_from_user

#include "../vfio_ap_stream.c"
#include "../vfio_ap_migratable.c"
#include "../vfio_ap_migration.c"
#include "vfio_ap_stream_whole.h"

#undef copy_to_user
#undef copy_from_user

#define STATES		VFIO_DEVICE_STATE_NR
#define USER_BYTES	SZ_64K

/* Bytes of the parts of a stream, from the text of the format. */
#define HEADER_BYTES	8
#define CONFIG_BYTES	(8 + 96)
#define INITIAL_BYTES(n) (HEADER_BYTES + CONFIG_BYTES + 8 + (n) * 16)
#define END_BYTES	8
#define STREAM_BYTES(n)	(INITIAL_BYTES(n) + END_BYTES)
#define IRQ_BYTES(n)	(8 + (n) * 48)

/* A CEX8C as PQAP(TAPQ) describes it, and one of a newer type. */
#define INFO_CCA	0x920000000e540007ULL
#define INFO_NEWER	(INFO_CCA + BIT_ULL(24))

/* The domain that the guest has, and one that it does not have. */
#define DOMAIN		0x47
#define OTHER_DOMAIN	0x48

static const char * const state_names[STATES] = {
	[VFIO_DEVICE_STATE_ERROR]	 = "error",
	[VFIO_DEVICE_STATE_STOP]	 = "stop",
	[VFIO_DEVICE_STATE_RUNNING]	 = "running",
	[VFIO_DEVICE_STATE_STOP_COPY]	 = "stop_copy",
	[VFIO_DEVICE_STATE_RESUMING]	 = "resuming",
	[VFIO_DEVICE_STATE_RUNNING_P2P]	 = "running_p2p",
	[VFIO_DEVICE_STATE_PRE_COPY]	 = "pre_copy",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "pre_copy_p2p",
};

/* States that can be set, states that have a session, and those that save. */
static const enum vfio_device_mig_state live_states[] = {
	VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING,
	VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING,
	VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_PRE_COPY,
	VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

static const enum vfio_device_mig_state session_states[] = {
	VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING,
	VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P,
};

static const enum vfio_device_mig_state quiet_states[] = {
	VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING,
	VFIO_DEVICE_STATE_RUNNING_P2P,
};

/**
 * struct migration_test - the data of each test case
 * @mdev:	a mediated device that is open
 * @kvm:	its guest
 * @user:	memory of a user space, USER_BYTES
 * @buf:	as much memory of the kernel
 * @got:	bytes that read_all() put into @buf
 * @file:	the data file that a change of the state gave last
 * @dec:	a decoder
 * @here:	the configuration of the guest
 * @guest_protected: the guest is protected
 * @host_protected: this kernel is a protected guest itself
 * @irqs:	rows that the guest has registered, then those of a stream; the number
 *		is in @mdev
 * @quiet:	interrupts are off
 * @nr_resets:	how often the guest's queues were reset
 * @receive:	how the attempt to register ends
 * @next:	the data file that @during_copy got
 * @copies:	how often it was called
 * @during_copy: called once, when the driver is about to copy from or to the user
 */
struct migration_test {
	struct ap_matrix_mdev *mdev;
	struct kvm *kvm;
	unsigned long user;
	u8 *buf;
	size_t got;
	struct file *file;
	struct vfio_ap_stream_decoder dec;
	struct vfio_ap_stream_image here;
	bool guest_protected;
	bool host_protected;
	struct vfio_ap_stream_irq irqs[AP_DEVICES];
	bool quiet;
	unsigned int nr_resets;
	int receive;
	struct file *next;
	unsigned int copies;
	void (*during_copy)(struct migration_test *t);
};

/* Stubs for the rest of the driver. */

static struct ap_matrix_dev test_matrix_dev = {
	.guests_lock = __MUTEX_INITIALIZER(test_matrix_dev.guests_lock),
	.mdevs_lock = __MUTEX_INITIALIZER(test_matrix_dev.mdevs_lock),
};

struct ap_matrix_dev *matrix_dev = &test_matrix_dev;

void vfio_ap_irq_quiesce(struct ap_matrix_mdev *matrix_mdev)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_mdev->mig.mutex);
	lockdep_assert_not_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_FALSE(kunit_get_current_test(), t->quiet);
	t->quiet = true;
}

void vfio_ap_irq_restore(struct ap_matrix_mdev *matrix_mdev)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_mdev->mig.mutex);
	lockdep_assert_not_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_TRUE(kunit_get_current_test(), t->quiet);
	t->quiet = false;
}

void vfio_ap_irq_wait_for_pins_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_TRUE(kunit_get_current_test(), matrix_mdev->irq.aqic_blocked);
	t->quiet = false;
	matrix_mdev->irq.nr_rows = 0;
}

void vfio_ap_irq_forget(struct ap_matrix_mdev *matrix_mdev)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_TRUE(kunit_get_current_test(), t->quiet);
	matrix_mdev->irq.nr_rows = 0;
}

unsigned int vfio_ap_irq_encode(struct ap_matrix_mdev *matrix_mdev, u8 *buf)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_TRUE(kunit_get_current_test(), t->quiet);
	memcpy(buf, t->irqs, matrix_mdev->irq.nr_rows * sizeof(t->irqs[0]));

	return matrix_mdev->irq.nr_rows;
}

int vfio_ap_irq_receive(struct ap_matrix_mdev *matrix_mdev,
			const struct vfio_ap_stream_irq *irqs, unsigned int nr,
			int (*status)(void *ctx), void *ctx)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_TRUE(kunit_get_current_test(), t->quiet);
	KUNIT_EXPECT_EQ(kunit_get_current_test(), 0, status(ctx));
	if (t->receive)
		return t->receive;
	matrix_mdev->irq.nr_rows = nr;
	memcpy(t->irqs, irqs, nr * sizeof(*irqs));

	return 0;
}

int vfio_ap_mdev_reset_guest(struct ap_matrix_mdev *matrix_mdev)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	lockdep_assert_held(&matrix_mdev->mig.mutex);
	lockdep_assert_not_held(&matrix_dev->mdevs_lock);
	KUNIT_EXPECT_TRUE(kunit_get_current_test(), t->quiet);
	t->nr_resets++;

	return 0;
}

void vfio_ap_dirty_stop_locked(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);
}

static void migration_kunit_in_copy(void)
{
	struct migration_test *t = kunit_get_current_test()->priv;
	void (*during_copy)(struct migration_test *t) = t->during_copy;

	t->during_copy = NULL;
	if (during_copy)
		during_copy(t);
}

static bool guest_protected(struct kvm *kvm)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	KUNIT_EXPECT_PTR_EQ(kunit_get_current_test(), kvm, t->kvm);
	lockdep_assert_held(&kvm->lock);
	return t->guest_protected;
}

static bool offered(void)
{
	struct migration_test *t = kunit_get_current_test()->priv;

	return !t->host_protected;
}

/* Actions of userspace. */

static struct file *set_state(struct migration_test *t,
			      enum vfio_device_mig_state state)
{
	struct vfio_device *vdev = &t->mdev->vdev;

	return vdev->mig_ops->migration_set_state(vdev, state);
}

static enum vfio_device_mig_state get_state(struct migration_test *t)
{
	enum vfio_device_mig_state state = VFIO_DEVICE_STATE_NR;
	struct vfio_device *vdev = &t->mdev->vdev;

	KUNIT_EXPECT_EQ(kunit_get_current_test(), 0,
			vdev->mig_ops->migration_get_state(vdev, &state));

	return state;
}

static unsigned long get_data_size(struct migration_test *t)
{
	struct vfio_device *vdev = &t->mdev->vdev;
	unsigned long size = 0;

	KUNIT_EXPECT_EQ(kunit_get_current_test(), 0,
			vdev->mig_ops->migration_get_data_size(vdev, &size));

	return size;
}

/* Set a state that gives no file. */
static int go(struct migration_test *t, enum vfio_device_mig_state state)
{
	struct file *filp = set_state(t, state);

	if (!IS_ERR_OR_NULL(filp)) {
		KUNIT_FAIL(kunit_get_current_test(), "a file in state %d", state);
		__fput_sync(filp);
		return -EEXIST;
	}

	return PTR_ERR_OR_ZERO(filp);
}

/* Close the last data file. */
static void close_file(struct migration_test *t)
{
	if (t->file)
		__fput_sync(t->file);
	t->file = NULL;
}

/* Set a state that gives a file. */
static int begin(struct migration_test *t, enum vfio_device_mig_state state)
{
	struct file *filp = set_state(t, state);

	if (IS_ERR(filp))
		return PTR_ERR(filp);

	KUNIT_EXPECT_NOT_NULL_MSG(kunit_get_current_test(), filp,
				  "no file in state %d", state);
	close_file(t);
	t->file = filp;

	return filp ? 0 : -ENOENT;
}

/* VFIO_DEVICE_RESET, without the queues */
static void reset(struct migration_test *t)
{
	guard(mutex)(&t->mdev->mig.mutex);
	vfio_ap_migration_reset(t->mdev);
}

static bool has_session(struct migration_test *t)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	return t->mdev->mig.file;
}

static ssize_t read_some(struct migration_test *t, u8 *to, size_t len)
{
	void __user *user = (void __user *)t->user;
	ssize_t ret;

	len = min(len, USER_BYTES);
	ret = t->file->f_op->read(t->file, user, len, NULL);
	if (ret > 0 && copy_from_user(to, user, ret))
		return -EFAULT;

	return ret;
}

/* Read as far as it goes, adding to @buf; how it ended: 0 or an errno. */
static int read_all(struct migration_test *t, size_t chunk)
{
	ssize_t ret;

	do {
		ret = read_some(t, t->buf + t->got,
				min(chunk, USER_BYTES - t->got));
		if (ret > 0)
			t->got += ret;
	} while (ret > 0);

	return ret;
}

static ssize_t write_some(struct migration_test *t, const u8 *from, size_t len)
{
	void __user *user = (void __user *)t->user;

	if (copy_to_user(user, from, len))
		return -EFAULT;

	return t->file->f_op->write(t->file, user, len, NULL);
}

/* Write @got bytes of @buf; 0 or the first error. */
static int write_all(struct migration_test *t, size_t chunk)
{
	ssize_t ret;
	size_t done;

	for (done = 0; done < t->got; done += ret) {
		ret = write_some(t, t->buf + done, min(chunk, t->got - done));
		if (ret <= 0)
			return ret ?: -EIO;
	}

	return 0;
}

static int precopy_info(struct migration_test *t, struct vfio_precopy_info *info)
{
	void __user *user = (void __user *)t->user;
	int ret;

	if (copy_to_user(user, info, sizeof(*info)))
		return -EFAULT;
	ret = t->file->f_op->unlocked_ioctl(t->file, VFIO_MIG_GET_PRECOPY_INFO,
					    t->user);
	if (copy_from_user(info, user, sizeof(*info)))
		return -EFAULT;

	return ret;
}

static void expect_precopy_info(struct kunit *test, u64 initial)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info), .flags = ~0 };
	struct migration_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, 0, precopy_info(t, &info));
	KUNIT_EXPECT_EQ(test, info.initial_bytes, initial);
	KUNIT_EXPECT_EQ(test, info.dirty_bytes, 0);
	KUNIT_EXPECT_EQ(test, info.flags, 0);
}

static bool readable(struct migration_test *t)
{
	return t->file->f_op->poll(t->file, NULL) & EPOLLIN;
}

/* Whether the session of a data file is open; loses a byte of those that save. */
static int file_status(struct file *filp, unsigned long user)
{
	ssize_t ret;

	if (filp->f_mode & FMODE_WRITE)
		return filp->f_op->write(filp, (void __user *)user, 0, NULL);

	ret = filp->f_op->read(filp, (void __user *)user, 1, NULL);
	return ret < 0 && ret != -ENOMSG ? ret : 0;
}

/* Actions of the host. */

/* The guest has adapters 0 to @adapters - 1, and a domain. */
static void set_adapters(struct migration_test *t, unsigned int adapters)
{
	struct ap_matrix *apcb = &t->mdev->shadow_apcb;
	unsigned int i;

	set_bit_inv(DOMAIN, apcb->aqm);
	bitmap_zero(apcb->apm, AP_DEVICES);
	for (i = 0; i < adapters; i++) {
		set_bit_inv(i, apcb->apm);
		t->mdev->mig.hwinfo[i] = INFO_CCA;
	}
}

/* The host changes the configuration of an open device. */
static void change_adapters(struct migration_test *t, unsigned int adapters)
{
	get_update_locks_for_mdev(t->mdev);
	set_adapters(t, adapters);
	vfio_ap_migration_config_changed(t->mdev);
	release_update_locks_for_mdev(t->mdev);
}

/* Both open and close do this. */
static void close_mdev(struct ap_matrix_mdev *mdev)
{
	guard(mutex)(&mdev->mig.mutex);
	vfio_ap_migration_close(mdev);
}

static void open_device(struct migration_test *t)
{
	t->mdev->withdrawn = false;
	close_mdev(t->mdev);
}

/* The expected configuration of the guest. */
static void set_image(struct migration_test *t, unsigned int adapters)
{
	struct vfio_ap_stream_image *image = &t->here;
	unsigned int i;

	memset(image, 0, sizeof(*image));
	image->config.aqm[DOMAIN / 8] = 0x80 >> (DOMAIN % 8);
	image->config.adm[DOMAIN / 8] = 0x80 >> (DOMAIN % 8);
	image->nr = adapters;
	for (i = 0; i < adapters; i++) {
		image->config.apm[i / 8] |= 0x80 >> (i % 8);
		image->adapter[i].apid = cpu_to_be16(i);
		image->adapter[i].info = cpu_to_be64(INFO_CCA);
	}
}

/* Put the stream of a guest with so many adapters into @buf. */
static void make_stream(struct migration_test *t, unsigned int adapters)
{
	set_image(t, adapters);
	t->got = vfio_ap_stream_encode(&t->here, t->buf);
	KUNIT_ASSERT_EQ(kunit_get_current_test(), t->got, STREAM_BYTES(adapters));
}

/* @buf is a whole stream of so many adapters. */
static void expect_stream(struct kunit *test, unsigned int adapters)
{
	struct migration_test *t = test->priv;
	enum vfio_ap_stream_event event;
	size_t done;
	ssize_t ret;

	memset(&t->dec, 0, sizeof(t->dec));
	for (done = 0; done < t->got; done += ret) {
		ret = vfio_ap_stream_decode(&t->dec, t->buf + done,
					    t->got - done, &event);
		KUNIT_ASSERT_GT(test, ret, 0);
	}
	KUNIT_ASSERT_EQ(test, t->dec.state, VFIO_AP_LOAD_DONE);
	set_image(t, adapters);
	KUNIT_EXPECT_EQ(test, t->dec.image.nr, adapters);
	KUNIT_EXPECT_MEMEQ(test, &t->dec.image.config, &t->here.config,
			   sizeof(t->here.config));
	KUNIT_EXPECT_MEMEQ(test, t->dec.image.adapter, t->here.adapter,
			   adapters * sizeof(t->here.adapter[0]));
}

static int migration_test_init(struct kunit *test)
{
	struct migration_test *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	t->buf = kunit_kzalloc(test, USER_BYTES, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->buf);
	t->user = kunit_vm_mmap(test, NULL, 0, USER_BYTES,
				PROT_READ | PROT_WRITE,
				MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_NE(test, t->user, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(t->user));

	t->kvm = kunit_kzalloc(test, sizeof(*t->kvm), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->kvm);
	mutex_init(&t->kvm->lock);

	t->mdev = kunit_kzalloc(test, sizeof(*t->mdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->mdev);
	t->mdev->mdev = kunit_kzalloc(test, sizeof(*t->mdev->mdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->mdev->mdev);
	t->mdev->mdev->dev.init_name = "vfio_ap_migration_kunit";

	kunit_activate_static_stub(test, vfio_ap_migration_guest_protected,
				   guest_protected);
	kunit_activate_static_stub(test, vfio_ap_migration_offered, offered);

	set_adapters(t, 2);
	set_bit_inv(DOMAIN, t->mdev->shadow_apcb.adm);
	vfio_ap_migration_init(t->mdev);
	t->mdev->migratable.allowed = true;
	open_device(t);
	t->mdev->kvm = t->kvm;

	return 0;
}

/* Also when a case was broken off: no session may keep the device. */
static void migration_test_exit(struct kunit *test)
{
	struct migration_test *t = test->priv;

	if (!t)
		return;
	if (t->mdev && t->mdev->vdev.mig_ops) {
		reset(t);
		mutex_destroy(&t->mdev->mig.mutex);
	}
	close_file(t);
	if (t->next)
		__fput_sync(t->next);
}

/* Go to a state from RUNNING; RESUMING gets a whole stream. */
static void enter(struct kunit *test, enum vfio_device_mig_state state)
{
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(session_states); i++)
		if (state == session_states[i])
			break;

	if (i < ARRAY_SIZE(session_states))
		KUNIT_ASSERT_EQ(test, 0, begin(t, state));
	else
		KUNIT_ASSERT_EQ(test, 0, go(t, state));
	KUNIT_ASSERT_EQ(test, get_state(t), state);

	if (state == VFIO_DEVICE_STATE_RESUMING) {
		make_stream(t, 2);
		KUNIT_ASSERT_EQ(test, 0, write_all(t, USER_BYTES));
	}
}

/*
 * What include/uapi/linux/vfio.h says of each change, from row to column, in
 * the order of enum vfio_device_mig_state: ERROR, STOP, RUNNING, STOP_COPY,
 * RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P.
 *
 * x	not permitted: the state stays, and so does a session
 * =	that is the state: the same
 * -	no session afterwards, so no file; a session ends
 * +	a session begins: there is a new file; the one before ends
 * >	the session goes on with the file that it has
 */
static const char walks[STATES][STATES + 1] = {
	[VFIO_DEVICE_STATE_STOP]	 = "x=-++-++",
	[VFIO_DEVICE_STATE_RUNNING]	 = "x-=++-++",
	[VFIO_DEVICE_STATE_STOP_COPY]	 = "x--=+-xx",
	[VFIO_DEVICE_STATE_RESUMING]	 = "x--+=-++",
	[VFIO_DEVICE_STATE_RUNNING_P2P]	 = "x--++=++",
	[VFIO_DEVICE_STATE_PRE_COPY]	 = "x-->+-=>",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "x-->+->=",
};

/* Numbers that are no states. */
static const u32 no_states[] = { STATES, STATES + 1, 255, S32_MAX, U32_MAX };

/* A parameter is the address of an element, nothing is in it. */
static const char walk_params[STATES][STATES + ARRAY_SIZE(no_states)];

static const void *walk_gen_params(struct kunit *test, const void *prev,
				   char *desc)
{
	size_t columns = ARRAY_SIZE(walk_params[0]);
	/* Row 0 is ERROR, which the driver never enters. */
	size_t nr = prev ? (const char *)prev - &walk_params[0][0] + 1 : columns;
	size_t to = nr % columns;

	if (nr == sizeof(walk_params))
		return NULL;

	if (to < STATES)
		snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s_to_%s",
			 state_names[nr / columns], state_names[to]);
	else
		snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s_to_%u",
			 state_names[nr / columns], no_states[to - STATES]);

	return &walk_params[0][0] + nr;
}

static bool stopped(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_STOP ||
	       state == VFIO_DEVICE_STATE_STOP_COPY ||
	       state == VFIO_DEVICE_STATE_RESUMING;
}

static void state_walk(struct kunit *test)
{
	size_t nr = (const char *)test->param_value - &walk_params[0][0];
	size_t column = nr % ARRAY_SIZE(walk_params[0]);
	enum vfio_device_mig_state from = nr / ARRAY_SIZE(walk_params[0]);
	u32 to = column < STATES ? column : no_states[column - STATES];
	char walk = column < STATES ? walks[from][to] : 'x';
	struct migration_test *t = test->priv;
	struct file *old, *filp;

	enter(test, from);
	old = t->file;
	t->file = NULL;
	filp = set_state(t, to);
	if (!IS_ERR(filp))
		t->file = filp;

	KUNIT_EXPECT_EQ(test, IS_ERR(filp), walk == 'x');
	if (IS_ERR(filp))
		KUNIT_EXPECT_EQ(test, PTR_ERR(filp), -EINVAL);
	KUNIT_EXPECT_EQ(test, get_state(t), walk == 'x' ? from : to);
	KUNIT_EXPECT_EQ_MSG(test, t->quiet, stopped(get_state(t)), "interrupts off");
	KUNIT_EXPECT_EQ_MSG(test, !!t->file, walk == '+', "new file");
	if (t->file)
		KUNIT_EXPECT_EQ(test, 0, file_status(t->file, t->user));
	if (old) {
		KUNIT_EXPECT_EQ(test, file_status(old, t->user),
				walk == '-' || walk == '+' ? -ENODEV : 0);
		__fput_sync(old);
	}

	/* Out of any state. */
	reset(t);
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RUNNING);
	KUNIT_EXPECT_FALSE(test, has_session(t));
	if (t->file)
		KUNIT_EXPECT_EQ(test, file_status(t->file, t->user), -ENODEV);
}

/* As in QEMU: a session of its own for each, and none is left behind. */
static void walks_of_two_arcs(struct kunit *test)
{
	struct migration_test *t = test->priv;
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(session_states); i++) {
		for (k = 0; k < ARRAY_SIZE(quiet_states); k++) {
			enter(test, session_states[i]);
			KUNIT_ASSERT_TRUE(test, has_session(t));
			KUNIT_ASSERT_EQ(test, 0, go(t, quiet_states[k]));
			KUNIT_ASSERT_EQ(test, file_status(t->file, t->user),
					-ENODEV);
			KUNIT_ASSERT_EQ(test, 0,
					go(t, VFIO_DEVICE_STATE_RUNNING));
			KUNIT_ASSERT_FALSE(test, has_session(t));
		}
	}
}

/* debugfs asks a device that was never open. */
static void state_before_open(struct kunit *test)
{
	struct migration_test *t = test->priv;

	mutex_destroy(&t->mdev->mig.mutex);
	memset(&t->mdev->mig, 0, sizeof(t->mdev->mig));
	vfio_ap_migration_init(t->mdev);
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RUNNING);
	KUNIT_EXPECT_EQ(test, get_data_size(t), STREAM_BYTES(2));
}

static void open_forgets(struct kunit *test)
{
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(live_states); i++) {
		enter(test, live_states[i]);
		open_device(t);
		KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RUNNING);
		KUNIT_EXPECT_FALSE(test, has_session(t));
		KUNIT_EXPECT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_STOP_COPY));
		reset(t);
	}
}

/**
 * struct refusal - why a session may not begin
 * @name:	shown in the test's name
 * @spoil:	makes it so
 * @ret:	the result of SET_STATE
 */
struct refusal {
	const char *name;
	void (*spoil)(struct migration_test *t);
	int ret;
};

static void spoil_protected(struct migration_test *t)
{
	t->guest_protected = true;
}

static void spoil_kvm(struct migration_test *t)
{
	t->mdev->kvm = NULL;
}

static void spoil_withdrawn(struct migration_test *t)
{
	t->mdev->withdrawn = true;
}

static void spoil_hotplug_adapter(struct migration_test *t)
{
	set_bit_inv(AP_DEVICES - 1, t->mdev->apm_add);
}

static void spoil_hotplug_domain(struct migration_test *t)
{
	set_bit_inv(AP_DOMAINS - 1, t->mdev->aqm_add);
}

static void spoil_hotplug_control(struct migration_test *t)
{
	set_bit_inv(0, t->mdev->adm_add);
}

static void spoil_no_domain(struct migration_test *t)
{
	bitmap_zero(t->mdev->shadow_apcb.aqm, AP_DOMAINS);
}

static void spoil_migratable(struct migration_test *t)
{
	t->mdev->migratable.allowed = false;
}

/* The administrator's word comes first. */
static void spoil_everything(struct migration_test *t)
{
	spoil_protected(t);
	spoil_withdrawn(t);
	spoil_hotplug_adapter(t);
	spoil_no_domain(t);
	spoil_migratable(t);
}

static const struct refusal refusals[] = {
	{ "not_migratable", spoil_migratable, -EPERM },
	{ "all_reasons", spoil_everything, -EPERM },
	{ "protected_guest", spoil_protected, -EOPNOTSUPP },
	{ "no_guest", spoil_kvm, -EOPNOTSUPP },
	{ "requested_back", spoil_withdrawn, -EBUSY },
	{ "hotplug_of_adapter", spoil_hotplug_adapter, -EAGAIN },
	{ "hotplug_of_domain", spoil_hotplug_domain, -EAGAIN },
	{ "hotplug_of_control_domain", spoil_hotplug_control, -EAGAIN },
	{ "adapters_without_domain", spoil_no_domain, -ENXIO },
};

KUNIT_ARRAY_PARAM_DESC(refusal, refusals, name);

/* The state before the arc into a session */
static enum vfio_device_mig_state state_before(enum vfio_device_mig_state session)
{
	switch (session) {
	case VFIO_DEVICE_STATE_PRE_COPY:
		return VFIO_DEVICE_STATE_RUNNING;
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		return VFIO_DEVICE_STATE_RUNNING_P2P;
	default:
		return VFIO_DEVICE_STATE_STOP;
	}
}

/* A refused session leaves the device in the state before it. */
static void refused_session(struct kunit *test)
{
	const struct refusal *refusal = test->param_value;
	struct migration_test *t = test->priv;
	enum vfio_device_mig_state to;
	unsigned int i, k;

	refusal->spoil(t);
	for (i = 0; i < ARRAY_SIZE(quiet_states); i++) {
		for (k = 0; k < ARRAY_SIZE(session_states); k++) {
			to = session_states[k];
			KUNIT_EXPECT_EQ(test, 0, go(t, quiet_states[i]));
			KUNIT_EXPECT_EQ_MSG(test, begin(t, to), refusal->ret,
					    "%s to %s",
					    state_names[quiet_states[i]],
					    state_names[to]);
			KUNIT_EXPECT_EQ(test, get_state(t), state_before(to));
			KUNIT_EXPECT_EQ(test, t->quiet, stopped(get_state(t)));
			KUNIT_EXPECT_FALSE(test, has_session(t));
			KUNIT_EXPECT_NULL(test, t->file);
		}
	}
}

/* STOP_COPY->RESUMING passes STOP, where the first session ends. */
static void refused_session_after_another(struct kunit *test)
{
	const struct refusal *refusal = test->param_value;
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_STOP_COPY);
	refusal->spoil(t);
	KUNIT_EXPECT_EQ(test, begin(t, VFIO_DEVICE_STATE_RESUMING), refusal->ret);
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_STOP);
	KUNIT_EXPECT_EQ(test, -ENODEV, file_status(t->file, t->user));
	KUNIT_EXPECT_EQ(test, 0, t->nr_resets);
}

/* Once, after all that can refuse; not on the way to any other state. */
static void entering_resuming_resets_the_queues(struct kunit *test)
{
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_PRE_COPY);
	reset(t);
	enter(test, VFIO_DEVICE_STATE_STOP_COPY);
	reset(t);
	KUNIT_EXPECT_EQ(test, 0, t->nr_resets);
	enter(test, VFIO_DEVICE_STATE_RESUMING);
	KUNIT_EXPECT_EQ(test, 1, t->nr_resets);
}

/* The guest can be stopped, and go on. */
static void never_refused(struct kunit *test)
{
	const struct refusal *refusal = test->param_value;
	struct migration_test *t = test->priv;
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(live_states); i++) {
		/* Its arc out may be refused; of that below. */
		if (live_states[i] == VFIO_DEVICE_STATE_RESUMING)
			continue;
		for (k = 0; k < ARRAY_SIZE(quiet_states); k++) {
			t->guest_protected = false;
			t->mdev->kvm = t->kvm;
			t->mdev->migratable.allowed = true;
			open_device(t);
			bitmap_zero(t->mdev->apm_add, AP_DEVICES);
			bitmap_zero(t->mdev->aqm_add, AP_DOMAINS);
			bitmap_zero(t->mdev->adm_add, AP_DOMAINS);
			set_adapters(t, 2);

			enter(test, live_states[i]);
			refusal->spoil(t);
			KUNIT_EXPECT_EQ_MSG(test, 0, go(t, quiet_states[k]),
					    "%s to %s",
					    state_names[live_states[i]],
					    state_names[quiet_states[k]]);
			KUNIT_EXPECT_EQ(test, get_state(t), quiet_states[k]);
			KUNIT_EXPECT_FALSE(test, has_session(t));
		}
	}
}

/**
 * struct precopy_end - a reason that could fail PRE_COPY->STOP_COPY
 * @name:	shown in the test's name
 * @spoil:	makes it so, in PRE_COPY
 * @changed:	the guest's matrix changes with it
 * @ret:	result of read() in STOP_COPY
 */
struct precopy_end {
	const char *name;
	void (*spoil)(struct migration_test *t);
	bool changed;
	int ret;
};

static const struct precopy_end precopy_ends[] = {
	{ "not_migratable", spoil_migratable, false, 0 },
	{ "protected_guest", spoil_protected, false, -ECANCELED },
	{ "requested_back", spoil_withdrawn, true, -ECANCELED },
	{ "hotplug_of_adapter", spoil_hotplug_adapter, false, 0 },
	{ "hotplug_of_domain", spoil_hotplug_domain, false, 0 },
	{ "hotplug_of_control_domain", spoil_hotplug_control, false, 0 },
	{ "adapters_without_domain", spoil_no_domain, true, -ECANCELED },
};

KUNIT_ARRAY_PARAM_DESC(precopy_end, precopy_ends, name);

/* The arc succeeds; read() fails instead, and the guest can go on. */
static void stop_copy_after_precopy(struct kunit *test)
{
	const struct precopy_end *end = test->param_value;
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_PRE_COPY);
	KUNIT_EXPECT_EQ(test, -ENOMSG, read_all(t, USER_BYTES));
	end->spoil(t);
	if (end->changed) {
		get_update_locks_for_mdev(t->mdev);
		vfio_ap_migration_config_changed(t->mdev);
		release_update_locks_for_mdev(t->mdev);
	}
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP_COPY));
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_STOP_COPY);
	KUNIT_EXPECT_TRUE(test, t->quiet);
	KUNIT_EXPECT_TRUE(test, readable(t));
	KUNIT_EXPECT_EQ(test, end->ret, read_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, end->ret, read_all(t, USER_BYTES));
	if (!end->ret)
		expect_stream(test, 2);
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
	KUNIT_EXPECT_FALSE(test, t->quiet);
}

/* RESUMING->STOP fails and stays; a reset brings the device back. */
static void protected_while_resuming(struct kunit *test)
{
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(quiet_states); i++) {
		t->guest_protected = false;
		enter(test, VFIO_DEVICE_STATE_RESUMING);
		t->guest_protected = true;
		KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, go(t, quiet_states[i]));
		KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
		reset(t);
		KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RUNNING);
	}
}

static void protected_host(struct kunit *test)
{
	struct migration_test *t = test->priv;
	struct ap_matrix_mdev *mdev;

	mdev = kunit_kzalloc(test, sizeof(*mdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mdev);
	mdev->mdev = t->mdev->mdev;

	t->host_protected = true;
	vfio_ap_migration_init(mdev);
	KUNIT_EXPECT_EQ(test, mdev->vdev.migration_flags, 0);
	KUNIT_EXPECT_NULL(test, mdev->vdev.mig_ops);
	/* The device can be opened and reset all the same. */
	close_mdev(mdev);
	mutex_destroy(&mdev->mig.mutex);

	t->host_protected = false;
	memset(&mdev->mig, 0, sizeof(mdev->mig));
	vfio_ap_migration_init(mdev);
	KUNIT_EXPECT_EQ(test, mdev->vdev.migration_flags,
			VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
			VFIO_MIGRATION_PRE_COPY);
	KUNIT_EXPECT_NOT_NULL(test, mdev->vdev.mig_ops);
	mutex_destroy(&mdev->mig.mutex);
}

static void data_size(struct kunit *test)
{
	static const unsigned int adapters[] = { 0, 1, 2, 60, 255, 256 };
	struct migration_test *t = test->priv;
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(live_states); i++) {
		set_adapters(t, 2);
		enter(test, live_states[i]);
		for (k = 0; k < ARRAY_SIZE(adapters); k++) {
			set_adapters(t, adapters[k]);
			KUNIT_ASSERT_EQ(test, get_data_size(t),
					128 + 16 * adapters[k]);
		}
		reset(t);
	}
}

/* A closed device, and one that has no adapter, has a size, too. */
static void data_size_without_guest(struct kunit *test)
{
	struct migration_test *t = test->priv;

	t->mdev->kvm = NULL;
	KUNIT_EXPECT_EQ(test, get_data_size(t), STREAM_BYTES(2));
	/* Who asks has not begun to migrate. */
	KUNIT_EXPECT_FALSE(test, has_session(t));
	bitmap_zero(t->mdev->shadow_apcb.apm, AP_DEVICES);
	KUNIT_EXPECT_EQ(test, get_data_size(t), STREAM_BYTES(0));
}

/**
 * struct asker - a thread that asks for state and size
 * @t:		the test's data
 * @done:	it has its answers
 */
struct asker {
	struct migration_test *t;
	struct completion done;
};

static int ask(void *data)
{
	struct asker *asker = data;
	struct vfio_device *vdev = &asker->t->mdev->vdev;
	enum vfio_device_mig_state state;
	unsigned long size;

	vdev->mig_ops->migration_get_state(vdev, &state);
	vdev->mig_ops->migration_get_data_size(vdev, &size);
	complete(&asker->done);

	return 0;
}

/* Pollers and readers return, whichever lock is held. */
static void state_and_size_take_no_lock(struct kunit *test)
{
	struct migration_test *t = test->priv;
	struct asker asker = { .t = t };
	struct task_struct *task;
	unsigned long left;

	init_completion(&asker.done);
	mutex_lock(&t->mdev->mig.mutex);
	get_update_locks_for_mdev(t->mdev);
	task = kthread_run(ask, &asker, "vfio_ap_asker");
	left = IS_ERR(task) ? 0 : wait_for_completion_timeout(&asker.done, 20 * HZ);
	release_update_locks_for_mdev(t->mdev);
	mutex_unlock(&t->mdev->mig.mutex);

	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	if (!left)
		wait_for_completion(&asker.done);
	KUNIT_EXPECT_NE_MSG(test, left, 0, "waited for a lock");
}

static void set_matrix(struct migration_test *t, unsigned int adapters,
		       unsigned int domains)
{
	unsigned int i;

	set_adapters(t, adapters);
	for (i = 0; i < domains; i++)
		set_bit_inv(i, t->mdev->shadow_apcb.aqm);
}

/* A stream grows with the adapters, not with the queues. */
static void stream_sizes(struct kunit *test)
{
	static const struct {
		unsigned int adapters, domains, limit;
	} cases[] = {
		{ 60, 85, 6 * 1024 },
		{ 256, 1, 24 * 1024 },
		{ 256, 256, 24 * 1024 },
	};
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		set_matrix(t, cases[i].adapters, cases[i].domains);
		t->got = 0;
		enter(test, VFIO_DEVICE_STATE_STOP_COPY);
		KUNIT_EXPECT_EQ(test, 0, read_all(t, USER_BYTES));
		KUNIT_EXPECT_EQ(test, t->got, STREAM_BYTES(cases[i].adapters));
		KUNIT_EXPECT_EQ(test, t->got, get_data_size(t));
		KUNIT_EXPECT_LT(test, t->got, cases[i].limit);
		reset(t);
	}
}

/* With reads of any size, and the last adapter anywhere. */
static void save_in_chunks(struct kunit *test)
{
	static const size_t chunks[] = { 1, 7, 16, 100, USER_BYTES };
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(chunks); i++) {
		t->got = 0;
		enter(test, VFIO_DEVICE_STATE_STOP_COPY);
		KUNIT_EXPECT_EQ(test, 0, read_all(t, chunks[i]));
		KUNIT_EXPECT_EQ(test, t->got, STREAM_BYTES(2));
		KUNIT_EXPECT_EQ(test, 0, read_all(t, chunks[i]));
		expect_stream(test, 2);
		reset(t);
	}
}

/* Reads of any size return the configuration at the beginning of the session. */
static void save_one_snapshot(struct kunit *test)
{
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_STOP_COPY);
	t->got = read_some(t, t->buf, 20);
	/* The session is not informed, so it does not end. */
	set_adapters(t, 5);
	KUNIT_EXPECT_EQ(test, 0, read_all(t, 20));
	expect_stream(test, 2);
}

/* The next session has nothing of one that was cancelled. */
static void save_again(struct kunit *test)
{
	struct migration_test *t = test->priv;
	unsigned int i, adapters;

	for (i = 0; i < 6; i++) {
		adapters = 1 + i;
		set_adapters(t, adapters);
		enter(test, i % 2 ? VFIO_DEVICE_STATE_PRE_COPY :
				    VFIO_DEVICE_STATE_STOP_COPY);
		if (i % 3)
			read_some(t, t->buf, 40);
		KUNIT_ASSERT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));

		t->got = 0;
		set_adapters(t, adapters + 1);
		enter(test, VFIO_DEVICE_STATE_STOP_COPY);
		KUNIT_ASSERT_EQ(test, 0, read_all(t, USER_BYTES));
		expect_stream(test, adapters + 1);
		KUNIT_ASSERT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
	}
}

/* Pre-copy gives the first part, stop-copy the rest: the stream of STOP_COPY. */
static void precopy_gives_the_same_stream(struct kunit *test)
{
	static const size_t chunks[] = { 1, 7, 16, 100, USER_BYTES };
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(chunks); i++) {
		t->got = 0;
		enter(test, i % 2 ? VFIO_DEVICE_STATE_PRE_COPY_P2P :
				    VFIO_DEVICE_STATE_PRE_COPY);
		KUNIT_ASSERT_TRUE(test, readable(t));
		KUNIT_ASSERT_EQ(test, -ENOMSG, read_all(t, chunks[i]));
		KUNIT_ASSERT_EQ(test, t->got, INITIAL_BYTES(2));
		KUNIT_ASSERT_EQ(test, -ENOMSG, read_all(t, chunks[i]));
		KUNIT_ASSERT_FALSE(test, readable(t));

		KUNIT_ASSERT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP_COPY));
		KUNIT_ASSERT_TRUE(test, readable(t));
		KUNIT_ASSERT_EQ(test, 0, read_all(t, chunks[i]));
		KUNIT_ASSERT_TRUE_MSG(test, readable(t), "permanent end");
		KUNIT_ASSERT_EQ(test, t->got, STREAM_BYTES(2));
		expect_stream(test, 2);
		reset(t);
	}
}

static void during_copy_change(struct migration_test *t)
{
	change_adapters(t, 5);
}

/* A change ends a session of saving; the state does not change by itself. */
static void change_ends_saving(struct kunit *test)
{
	static const enum vfio_device_mig_state states[] = {
		VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P,
		VFIO_DEVICE_STATE_STOP_COPY,
	};
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(states); i++) {
		set_adapters(t, 2);
		enter(test, states[i]);
		KUNIT_EXPECT_EQ(test, 10, read_some(t, t->buf, 10));
		change_adapters(t, 1);
		KUNIT_EXPECT_EQ(test, -ECANCELED, read_all(t, USER_BYTES));
		/* Even if the host changes it back. */
		change_adapters(t, 2);
		KUNIT_EXPECT_EQ(test, -ECANCELED, read_all(t, USER_BYTES));
		KUNIT_EXPECT_EQ(test, get_state(t), states[i]);
		KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP));
	}
}

static void change_ends_resuming(struct kunit *test)
{
	struct migration_test *t = test->priv;
	size_t len;

	for (len = 0; len < STREAM_BYTES(2); len++) {
		set_adapters(t, 2);
		KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
		make_stream(t, 2);
		if (len)
			KUNIT_ASSERT_EQ(test, len, write_some(t, t->buf, len));
		change_adapters(t, 1);
		change_adapters(t, 2);
		KUNIT_ASSERT_EQ(test, -ECANCELED, write_some(t, t->buf + len, 1));
		KUNIT_ASSERT_EQ(test, -ECANCELED, go(t, VFIO_DEVICE_STATE_STOP));
		KUNIT_ASSERT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
		reset(t);
	}
}

/* Once the stream was accepted, a change is a hot plug. */
static void change_after_the_end_is_a_hotplug(struct kunit *test)
{
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_RESUMING);
	change_adapters(t, 1);
	KUNIT_EXPECT_EQ(test, 0, file_status(t->file, t->user));
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP));
	change_adapters(t, 3);
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
}

/* A session that fails during the copy returns no bytes. */
static void change_while_it_is_read(struct kunit *test)
{
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_STOP_COPY);
	t->during_copy = during_copy_change;
	KUNIT_EXPECT_EQ(test, -ECANCELED, read_some(t, t->buf, 10));
}

static void change_while_it_is_written(struct kunit *test)
{
	struct migration_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	t->during_copy = during_copy_change;
	KUNIT_EXPECT_EQ(test, -ECANCELED, write_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, -ECANCELED, go(t, VFIO_DEVICE_STATE_STOP));
}

/* All bytes are initial ones, without any opt-in. */
static void precopy_info_bytes(struct kunit *test)
{
	struct migration_test *t = test->priv;
	unsigned int v2;

	for (v2 = 0; v2 < 2; v2++) {
		t->mdev->vdev.precopy_info_v2 = v2;
		enter(test, VFIO_DEVICE_STATE_PRE_COPY);
		expect_precopy_info(test, INITIAL_BYTES(2));
		KUNIT_EXPECT_EQ(test, 20, read_some(t, t->buf, 20));
		expect_precopy_info(test, INITIAL_BYTES(2) - 20);
		KUNIT_EXPECT_EQ(test, -ENOMSG, read_all(t, 50));
		expect_precopy_info(test, 0);
		reset(t);
	}
}

/* Outside PRE_COPY the state is the first reason, then the failed session. */
static void precopy_info_of_a_failed_session(struct kunit *test)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_PRE_COPY);
	change_adapters(t, 3);
	KUNIT_EXPECT_EQ(test, -ECANCELED, precopy_info(t, &info));
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP_COPY));
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));
	reset(t);
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));
}

static void precopy_info_errors(struct kunit *test)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) - 1 };
	struct migration_test *t = test->priv;
	const struct file_operations *fops;

	enter(test, VFIO_DEVICE_STATE_PRE_COPY);
	fops = t->file->f_op;
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));
	info.argsz = sizeof(info);
	KUNIT_EXPECT_EQ(test, 0, precopy_info(t, &info));
	info.argsz = sizeof(info) + 8;
	KUNIT_EXPECT_EQ(test, 0, precopy_info(t, &info));
	KUNIT_EXPECT_EQ(test, -ENOTTY,
			fops->unlocked_ioctl(t->file, VFIO_GET_API_VERSION, t->user));
	KUNIT_EXPECT_EQ(test, -EFAULT,
			fops->unlocked_ioctl(t->file, VFIO_MIG_GET_PRECOPY_INFO, 1));
	KUNIT_EXPECT_PTR_EQ(test, fops->compat_ioctl, compat_ptr_ioctl);

	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_PRE_COPY_P2P));
	KUNIT_EXPECT_EQ(test, 0, precopy_info(t, &info));
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP_COPY));
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_STOP));
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));

	enter(test, VFIO_DEVICE_STATE_STOP_COPY);
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));
	enter(test, VFIO_DEVICE_STATE_RESUMING);
	KUNIT_EXPECT_EQ(test, -EINVAL, precopy_info(t, &info));
}

static void resume_in_chunks(struct kunit *test)
{
	static const size_t chunks[] = { 1, 7, 16, 100, USER_BYTES };
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(chunks); i++) {
		KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
		make_stream(t, 2);
		KUNIT_EXPECT_EQ(test, 0, write_all(t, chunks[i]));
		KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
	}
}

/* Wherever it was cut, RESUMING is not left; the rest may still come. */
static void resume_truncated(struct kunit *test)
{
	struct migration_test *t = test->priv;
	size_t len;

	for (len = 0; len < STREAM_BYTES(2); len++) {
		KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
		make_stream(t, 2);
		if (len)
			KUNIT_ASSERT_EQ(test, len, write_some(t, t->buf, len));
		KUNIT_ASSERT_EQ(test, -EINVAL, go(t, VFIO_DEVICE_STATE_STOP));
		KUNIT_ASSERT_EQ(test, -EINVAL, go(t, VFIO_DEVICE_STATE_RUNNING));
		KUNIT_ASSERT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
		KUNIT_ASSERT_TRUE(test, has_session(t));
		KUNIT_ASSERT_EQ(test, STREAM_BYTES(2) - len,
				write_some(t, t->buf + len, STREAM_BYTES(2) - len));
		KUNIT_ASSERT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
	}
}

/* No byte after the end, not even with the last write. */
static void resume_with_too_much(struct kunit *test)
{
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_RESUMING);
	KUNIT_EXPECT_EQ(test, -EINVAL, write_some(t, t->buf, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, go(t, VFIO_DEVICE_STATE_STOP));
	reset(t);

	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	t->got++;
	KUNIT_EXPECT_EQ(test, -EINVAL, write_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, -EINVAL, go(t, VFIO_DEVICE_STATE_STOP));
}

/* The guest has interrupts on so many adapters, each with a NIB of its own. */
static void set_irqs(struct migration_test *t, unsigned int adapters)
{
	unsigned int i;

	memset(t->irqs, 0, sizeof(t->irqs));
	for (i = 0; i < adapters; i++) {
		t->irqs[i].apid = cpu_to_be16(i);
		t->irqs[i].isc = i % 8;
		t->irqs[i].nib = cpu_to_be64(0x1234567 + i);
		t->irqs[i].domains[DOMAIN / 8] = 0x80 >> (DOMAIN % 8);
	}
	t->mdev->irq.nr_rows = adapters;
}

/* The rows of the stream replace all others, unchanged. */
static void expect_irqs_resume(struct kunit *test, unsigned int adapters,
			       size_t chunk)
{
	struct migration_test *t = test->priv;
	struct vfio_ap_stream_irq *want;

	set_irqs(t, 1);
	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	KUNIT_ASSERT_EQ(test, 0, t->mdev->irq.nr_rows);
	KUNIT_ASSERT_EQ(test, 0, write_all(t, chunk));
	want = kmemdup(t->irqs, sizeof(t->irqs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, want);
	KUNIT_EXPECT_EQ(test, t->mdev->irq.nr_rows, adapters);
	set_irqs(t, adapters);
	KUNIT_EXPECT_MEMEQ(test, want, t->irqs, adapters * sizeof(t->irqs[0]));
	kfree(want);
	KUNIT_EXPECT_TRUE(test, t->quiet);
	KUNIT_ASSERT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
}

/* From the source's registrations to the destination's, by either way to save. */
static void interrupts_are_carried_over(struct kunit *test)
{
	static const size_t chunks[] = { 1, 7, 48, USER_BYTES };
	static const unsigned int adapters[] = { 0, 1, 2, 60, 256 };
	struct migration_test *t = test->priv;
	size_t irq_bytes;
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(adapters); i++) {
		irq_bytes = adapters[i] ? IRQ_BYTES(adapters[i]) : 0;
		set_adapters(t, adapters[i]);
		for (k = 0; k < ARRAY_SIZE(chunks); k++) {
			set_irqs(t, adapters[i]);
			KUNIT_ASSERT_EQ(test, get_data_size(t),
					STREAM_BYTES(adapters[i]) + irq_bytes);
			t->got = 0;
			enter(test, k % 2 ? VFIO_DEVICE_STATE_STOP_COPY :
					    VFIO_DEVICE_STATE_PRE_COPY);
			if (!(k % 2)) {
				KUNIT_ASSERT_EQ(test, -ENOMSG,
						read_all(t, chunks[k]));
				KUNIT_ASSERT_FALSE(test, t->quiet);
				KUNIT_ASSERT_EQ(test, 0,
						go(t, VFIO_DEVICE_STATE_STOP_COPY));
			}
			KUNIT_ASSERT_EQ(test, 0, read_all(t, chunks[k]));
			KUNIT_ASSERT_EQ(test, t->got,
					STREAM_BYTES(adapters[i]) + irq_bytes);
			expect_irqs_resume(test, adapters[i], chunks[k]);
		}
	}
}

/* A stream fails if its interrupts cannot be registered. */
static void interrupts_that_cannot_be_registered(struct kunit *test)
{
	struct migration_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	t->receive = -EINVAL;
	KUNIT_EXPECT_EQ(test, -EINVAL, write_all(t, 1));
	t->receive = 0;
	KUNIT_EXPECT_EQ(test, -EINVAL, write_some(t, t->buf, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, go(t, VFIO_DEVICE_STATE_STOP));
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
}

/**
 * struct difference - a guest that is not the source's
 * @name:	shown in the test's name
 * @bytes:	bytes of the stream with which it must be found
 */
struct difference {
	const char *name;
	size_t bytes;
};

static const struct difference differences[] = {
	{ "adapter", HEADER_BYTES + CONFIG_BYTES },
	{ "domain", HEADER_BYTES + CONFIG_BYTES },
	{ "control_domain", HEADER_BYTES + CONFIG_BYTES },
	{ "card", INITIAL_BYTES(2) },
};

KUNIT_ARRAY_PARAM_DESC(difference, differences, name);

static void make_difference(struct migration_test *t, const struct difference *d)
{
	struct ap_matrix *apcb = &t->mdev->shadow_apcb;

	switch (d - differences) {
	case 0:
		set_adapters(t, 3);
		break;
	case 1:
		set_bit_inv(OTHER_DOMAIN, apcb->aqm);
		break;
	case 2:
		set_bit_inv(OTHER_DOMAIN, apcb->adm);
		break;
	default:
		t->mdev->mig.hwinfo[1] = INFO_NEWER;
	}
}

/* Found with the last byte of the record that tells it, and it sticks. */
static void difference_fails_the_write(struct kunit *test)
{
	const struct difference *d = test->param_value;
	struct migration_test *t = test->priv;

	make_difference(t, d);
	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	KUNIT_EXPECT_EQ(test, d->bytes - 1, write_some(t, t->buf, d->bytes - 1));
	KUNIT_EXPECT_EQ(test, -ENXIO, write_some(t, t->buf + d->bytes - 1, 1));
	KUNIT_EXPECT_EQ(test, -ENXIO,
			write_some(t, t->buf + d->bytes, t->got - d->bytes));
	KUNIT_EXPECT_EQ(test, -ENXIO, go(t, VFIO_DEVICE_STATE_STOP));
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
	reset(t);

	/* In one write with all that follows, it is the same. */
	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	KUNIT_EXPECT_EQ(test, -ENXIO, write_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, -ENXIO, go(t, VFIO_DEVICE_STATE_STOP));
}

/* A difference that arises after the comparison is found at the arc. */
static void difference_fails_the_arc(struct kunit *test)
{
	const struct difference *d = test->param_value;
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_RESUMING);
	make_difference(t, d);
	KUNIT_EXPECT_EQ(test, -ENXIO, go(t, VFIO_DEVICE_STATE_STOP));
	KUNIT_EXPECT_EQ(test, get_state(t), VFIO_DEVICE_STATE_RESUMING);
}

/* The stream is compared and never applied. */
static void resume_changes_nothing(struct kunit *test)
{
	const struct difference *d = test->param_value;
	struct migration_test *t = test->priv;
	struct ap_matrix *before;

	before = kunit_kzalloc(test, sizeof(*before), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	make_difference(t, d);
	*before = t->mdev->shadow_apcb;
	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	KUNIT_EXPECT_EQ(test, -ENXIO, write_all(t, USER_BYTES));
	KUNIT_EXPECT_MEMEQ(test, before, &t->mdev->shadow_apcb, sizeof(*before));
	reset(t);
	KUNIT_EXPECT_MEMEQ(test, before, &t->mdev->shadow_apcb, sizeof(*before));
}

/* A data file may be the last that is left of it all. */
static void files_outlive_the_device(struct kunit *test)
{
	struct migration_test *t = test->priv;
	struct ap_matrix_mdev *mdev = t->mdev;
	struct file *files[ARRAY_SIZE(session_states)];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		enter(test, session_states[i]);
		files[i] = t->file;
		t->file = NULL;
		reset(t);
	}

	t->mdev = NULL;
	mutex_destroy(&mdev->mig.mutex);
	kunit_kfree(test, mdev);
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		KUNIT_EXPECT_EQ(test, -ENODEV, file_status(files[i], t->user));
		__fput_sync(files[i]);
	}
}

/* And the session outlives its file. */
static void sessions_outlive_the_file(struct kunit *test)
{
	struct migration_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(session_states); i++) {
		enter(test, session_states[i]);
		close_file(t);
		KUNIT_EXPECT_EQ(test, get_state(t), session_states[i]);
		KUNIT_EXPECT_TRUE(test, has_session(t));
		change_adapters(t, 2);
		reset(t);
		KUNIT_EXPECT_FALSE(test, has_session(t));
	}
}

/* The file of an earlier session does not affect the next one. */
static void old_file_leaves_a_new_session_alone(struct kunit *test)
{
	struct migration_test *t = test->priv;
	struct file *old;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(session_states); i++) {
		t->got = 0;
		enter(test, session_states[i]);
		old = t->file;
		t->file = NULL;
		reset(t);
		enter(test, session_states[i]);
		KUNIT_EXPECT_EQ(test, -ENODEV, file_status(old, t->user));
		__fput_sync(old);
		KUNIT_EXPECT_EQ(test, 0, file_status(t->file, t->user));
		KUNIT_EXPECT_TRUE(test, has_session(t));
		reset(t);
	}
}

/* The session ends, and another one begins, with a file of its own. */
static void during_copy_begin_again(struct migration_test *t)
{
	enum vfio_device_mig_state state = get_state(t);
	struct file *old = t->file;

	reset(t);
	t->file = NULL;
	KUNIT_EXPECT_EQ(kunit_get_current_test(), 0, begin(t, state));
	swap(t->file, old);
	t->next = old;
}

static void take_next_file(struct migration_test *t)
{
	close_file(t);
	t->file = t->next;
	t->next = NULL;
}

/* Who was waiting when its session ended has nothing of the next one. */
static void late_read_gets_nothing(struct kunit *test)
{
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_STOP_COPY);
	t->during_copy = during_copy_begin_again;
	KUNIT_EXPECT_EQ(test, -ENODEV, read_some(t, t->buf, 10));
	take_next_file(t);
	KUNIT_EXPECT_EQ(test, 0, read_all(t, USER_BYTES));
	expect_stream(test, 2);
}

static void late_write_has_no_effect(struct kunit *test)
{
	struct migration_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	t->during_copy = during_copy_begin_again;
	KUNIT_EXPECT_EQ(test, -ENODEV, write_some(t, t->buf, 100));
	take_next_file(t);
	KUNIT_EXPECT_EQ(test, -EINVAL, go(t, VFIO_DEVICE_STATE_STOP));
	KUNIT_EXPECT_EQ(test, 0, write_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, 0, go(t, VFIO_DEVICE_STATE_RUNNING));
}

static void during_copy_try_locks(struct migration_test *t)
{
	bool free = mutex_trylock(&matrix_dev->mdevs_lock);

	KUNIT_EXPECT_TRUE(kunit_get_current_test(), free);
	if (free)
		mutex_unlock(&matrix_dev->mdevs_lock);
	t->copies++;
}

/* Memory may be slow to come: no guest may have to wait for it. */
static void copies_hold_no_lock_of_others(struct kunit *test)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	struct migration_test *t = test->priv;

	enter(test, VFIO_DEVICE_STATE_PRE_COPY);
	t->during_copy = during_copy_try_locks;
	KUNIT_EXPECT_EQ(test, 8, read_some(t, t->buf, 8));
	t->during_copy = during_copy_try_locks;
	KUNIT_EXPECT_EQ(test, 0, precopy_info(t, &info));
	reset(t);
	KUNIT_ASSERT_EQ(test, 0, begin(t, VFIO_DEVICE_STATE_RESUMING));
	make_stream(t, 2);
	t->during_copy = during_copy_try_locks;
	KUNIT_EXPECT_EQ(test, 0, write_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, t->copies, 3);
}

/**
 * struct holder - a thread that holds the global lock
 * @held:	it has the lock
 * @done:	it may release the lock
 * @left:	0 if @done was not completed in time
 */
struct holder {
	struct completion held;
	struct completion done;
	unsigned long left;
};

static int hold(void *data)
{
	struct holder *holder = data;

	guard(mutex)(&matrix_dev->mdevs_lock);
	complete(&holder->held);
	holder->left = wait_for_completion_timeout(&holder->done, 20 * HZ);

	return 0;
}

/* A task that stalls with the global lock stalls no reader. */
static void read_takes_no_lock_of_others(struct kunit *test)
{
	struct migration_test *t = test->priv;
	struct holder holder = {};
	struct task_struct *task;

	enter(test, VFIO_DEVICE_STATE_PRE_COPY);
	init_completion(&holder.held);
	init_completion(&holder.done);
	task = kthread_create(hold, &holder, "vfio_ap_holder");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	wake_up_process(task);
	wait_for_completion(&holder.held);
	expect_precopy_info(test, INITIAL_BYTES(2));
	KUNIT_EXPECT_EQ(test, -ENOMSG, read_all(t, USER_BYTES));
	KUNIT_EXPECT_EQ(test, t->got, INITIAL_BYTES(2));
	KUNIT_EXPECT_FALSE(test, readable(t));
	complete(&holder.done);
	kthread_stop_put(task);
	KUNIT_EXPECT_NE_MSG(test, holder.left, 0, "waited for the lock");
}

static struct kunit_case migration_cases[] = {
	KUNIT_CASE_PARAM(state_walk, walk_gen_params),
	KUNIT_CASE(walks_of_two_arcs),
	KUNIT_CASE(state_before_open),
	KUNIT_CASE(open_forgets),
	KUNIT_CASE_PARAM(refused_session, refusal_gen_params),
	KUNIT_CASE_PARAM(refused_session_after_another, refusal_gen_params),
	KUNIT_CASE(entering_resuming_resets_the_queues),
	KUNIT_CASE_PARAM(never_refused, refusal_gen_params),
	KUNIT_CASE_PARAM(stop_copy_after_precopy, precopy_end_gen_params),
	KUNIT_CASE(protected_while_resuming),
	KUNIT_CASE(protected_host),
	KUNIT_CASE(data_size),
	KUNIT_CASE(data_size_without_guest),
	KUNIT_CASE(state_and_size_take_no_lock),
	KUNIT_CASE(read_takes_no_lock_of_others),
	KUNIT_CASE_ATTR(stream_sizes, { .speed = KUNIT_SPEED_SLOW }),
	KUNIT_CASE(save_in_chunks),
	KUNIT_CASE(save_one_snapshot),
	KUNIT_CASE(save_again),
	KUNIT_CASE(precopy_gives_the_same_stream),
	KUNIT_CASE(change_ends_saving),
	KUNIT_CASE(change_ends_resuming),
	KUNIT_CASE(change_after_the_end_is_a_hotplug),
	KUNIT_CASE(change_while_it_is_read),
	KUNIT_CASE(change_while_it_is_written),
	KUNIT_CASE(precopy_info_bytes),
	KUNIT_CASE(precopy_info_of_a_failed_session),
	KUNIT_CASE(precopy_info_errors),
	KUNIT_CASE(resume_in_chunks),
	KUNIT_CASE(resume_truncated),
	KUNIT_CASE(resume_with_too_much),
	KUNIT_CASE(interrupts_are_carried_over),
	KUNIT_CASE(interrupts_that_cannot_be_registered),
	KUNIT_CASE_PARAM(difference_fails_the_write, difference_gen_params),
	KUNIT_CASE_PARAM(difference_fails_the_arc, difference_gen_params),
	KUNIT_CASE_PARAM(resume_changes_nothing, difference_gen_params),
	KUNIT_CASE(files_outlive_the_device),
	KUNIT_CASE(sessions_outlive_the_file),
	KUNIT_CASE(old_file_leaves_a_new_session_alone),
	KUNIT_CASE(late_read_gets_nothing),
	KUNIT_CASE(late_write_has_no_effect),
	KUNIT_CASE(copies_hold_no_lock_of_others),
	{}
};

static struct kunit_suite migration_suite = {
	.name = "vfio_ap_migration",
	.init = migration_test_init,
	.exit = migration_test_exit,
	.test_cases = migration_cases,
};

kunit_test_suite(migration_suite);

MODULE_DESCRIPTION("KUnit tests of the migration of a vfio-ap mediated device");
MODULE_LICENSE("GPL");
