// SPDX-License-Identifier: GPL-2.0+
/*
 * Live migration of a vfio-ap mediated device
 *
 * The machine operates a guest's AP queues by itself, so there is no device
 * state to move. The source sends its guest's adapters, domains and control
 * domains and the hardware information of the adapters, in the stream that
 * vfio_ap_stream.c describes. The destination compares them with those of its
 * own guest while the stream is written: userspace can still fail the migration
 * then, and the guest goes on at the source.
 *
 * PRE_COPY sends all of that while the guest still runs, so that a destination
 * that differs refuses before the guest is stopped. STOP_COPY appends the
 * guest's interrupt registrations.
 *
 * A session is open from entering PRE_COPY, STOP_COPY or RESUMING until the arc
 * out of it, VFIO_DEVICE_RESET or close. Closing the data file does not end the
 * session, and PRE_COPY->STOP_COPY goes on with the same one. A file may outlive
 * its session, the device's file and the mediated device: it reaches the
 * mediated device only through a pointer that the end of the session clears
 * under matrix_dev->mdevs_lock, a lock that the file's module reference keeps.
 *
 * The administrator may change the guest's matrix at any time. The change ends
 * an open session, unless the destination has accepted the whole stream: from
 * then on a change is a hot plug, as in RUNNING.
 */

#include <kunit/static_stub.h>
#include <linux/anon_inodes.h>
#include <linux/cleanup.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/mdev.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/uv.h>

#include "vfio_ap_private.h"
#include "vfio_ap_stream.h"
#include "vfio_ap_trace.h"

/* The most bytes that write() copies into the kernel at a time. */
#define VFIO_AP_MIGRATION_CHUNK	SZ_64K

/* The first allocation of rows of IRQ records has so many; it doubles. */
#define VFIO_AP_MIGRATION_MIN_IRQS	16

/**
 * struct vfio_ap_migration_file - a migration data file
 * @kref:	held by the open file and by the session
 * @io_mutex:	spans one read() or write() with its user copies; never taken
 *		under matrix_dev->mdevs_lock
 * @lock:	guards @disabled, @error, @precopy, @complete, @final_len and
 *		@read; innermost
 * @wait:	pollers
 * @matrix_mdev: the mediated device, NULL unless the session is open; guarded by
 *		matrix_dev->mdevs_lock
 * @disabled:	the session is not open; read() and write() return -ENODEV
 * @precopy:	the session is in PRE_COPY or PRE_COPY_P2P
 * @error:	0, or the negative errno that read() and write() return
 * @local:	the guest's AP configuration when the session began
 * @initial_len: saving: number of bytes in @initial; set before the file is used
 * @initial:	saving: header, CONFIG and HWINFO
 * @final:	saving: IRQ and END; set before @complete
 * @final_len:	saving: number of bytes in @final
 * @complete:	saving: @final is part of the stream
 * @read:	saving: number of bytes of the stream that were read
 * @dec:	resuming: the decoder, guarded by @io_mutex; @dec.image does not
 *		change any more once @registered is set
 * @irqs:	resuming: rows of IRQ records; guarded by @io_mutex, as @nr_irqs
 *		and @max_irqs
 * @nr_irqs:	number of rows
 * @max_irqs:	number of rows that @irqs has room for
 * @registered:	resuming: the stream is complete and all interrupts are
 *		registered; guarded by matrix_dev->mdevs_lock, as @hotplugged
 * @hotplugged:	resuming: the guest's matrix was changed after @registered was set
 */
struct vfio_ap_migration_file {
	struct kref kref;
	struct mutex io_mutex; /* one read() or write() at a time */
	spinlock_t lock; /* status, position */
	wait_queue_head_t wait;
	struct ap_matrix_mdev *matrix_mdev;
	bool disabled;
	bool precopy;
	int error;
	struct vfio_ap_stream_image local;
	size_t initial_len;
	u8 initial[VFIO_AP_STREAM_INITIAL_BYTES(VFIO_AP_STREAM_MAX_ADAPTERS)];
	u8 *final;
	size_t final_len;
	bool complete;
	size_t read;
	struct vfio_ap_stream_decoder dec;
	struct vfio_ap_stream_irq *irqs;
	unsigned int nr_irqs;
	unsigned int max_irqs;
	bool registered;
	bool hotplugged;
};

/**
 * struct vfio_ap_migration_diffs - the differences that a comparison finds
 * @matrix_mdev: the mediated device
 * @nr:		number of differences
 * @first:	text of the first one
 */
struct vfio_ap_migration_diffs {
	struct ap_matrix_mdev *matrix_mdev;
	unsigned int nr;
	char first[VFIO_AP_STREAM_DIFF_CHARS];
};

static void vfio_ap_migration_file_free(struct kref *kref)
{
	struct vfio_ap_migration_file *migf =
		container_of(kref, struct vfio_ap_migration_file, kref);

	kvfree(migf->final);
	kvfree(migf->irqs);
	mutex_destroy(&migf->io_mutex);
	kvfree(migf);
}

static void vfio_ap_migration_file_put(struct vfio_ap_migration_file *migf)
{
	kref_put(&migf->kref, vfio_ap_migration_file_free);
}

static int vfio_ap_migration_release(struct inode *inode, struct file *filp)
{
	vfio_ap_migration_file_put(filp->private_data);
	return 0;
}

static int vfio_ap_migration_file_status_locked(struct vfio_ap_migration_file *migf)
{
	lockdep_assert_held(&migf->lock);

	return migf->disabled ? -ENODEV : migf->error;
}

static int vfio_ap_migration_file_status(struct vfio_ap_migration_file *migf)
{
	guard(spinlock)(&migf->lock);
	return vfio_ap_migration_file_status_locked(migf);
}

/* Every access to the file returns the error from now on; the first one counts. */
static void vfio_ap_migration_fail_locked(struct vfio_ap_migration_file *migf,
					  int error, const char *why)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	scoped_guard(spinlock, &migf->lock) {
		if (vfio_ap_migration_file_status_locked(migf))
			return;
		migf->error = error;
	}
	vfio_ap_notice(migf->matrix_mdev, "migration failed: %s\n", why);
	wake_up_interruptible_all(&migf->wait);
}

/* Bytes of the stream that were published and not read. */
static size_t vfio_ap_migration_unread_locked(struct vfio_ap_migration_file *migf)
{
	lockdep_assert_held(&migf->lock);

	return migf->initial_len + migf->final_len - migf->read;
}

/* Read bytes of @initial or @final, whichever is next. */
static ssize_t vfio_ap_migration_read_part(struct vfio_ap_migration_file *migf,
					   char __user *buf, size_t len)
{
	size_t unread, left;
	const u8 *from;
	int ret;

	scoped_guard(spinlock, &migf->lock) {
		ret = vfio_ap_migration_file_status_locked(migf);
		if (ret)
			return ret;
		unread = vfio_ap_migration_unread_locked(migf);
		if (!unread)
			return migf->complete ? 0 : -ENOMSG;
		/* Only a reader changes the position, and holds io_mutex. */
		if (migf->read < migf->initial_len) {
			from = migf->initial + migf->read;
			left = migf->initial_len - migf->read;
		} else {
			from = migf->final + migf->read - migf->initial_len;
			left = unread;
		}
	}

	len = min(len, left);
	if (copy_to_user(buf, from, len))
		return -EFAULT;

	/* The bytes count only if the session has not failed or ended since. */
	guard(spinlock)(&migf->lock);
	ret = vfio_ap_migration_file_status_locked(migf);
	if (ret)
		return ret;
	migf->read += len;

	return len;
}

static ssize_t vfio_ap_migration_read(struct file *filp, char __user *buf,
				      size_t len, loff_t *pos)
{
	struct vfio_ap_migration_file *migf = filp->private_data;
	size_t done = 0;
	ssize_t ret;

	if (pos)
		return -ESPIPE;

	if (filp->f_flags & O_NONBLOCK) {
		if (!mutex_trylock(&migf->io_mutex))
			return -EAGAIN;
	} else if (mutex_lock_interruptible(&migf->io_mutex)) {
		return -ERESTARTSYS;
	}
	do {
		ret = vfio_ap_migration_read_part(migf, buf + done, len - done);
		if (ret > 0)
			done += ret;
	} while (ret > 0 && done < len);
	mutex_unlock(&migf->io_mutex);

	return done ? done : ret;
}

static __poll_t vfio_ap_migration_poll(struct file *filp,
				       struct poll_table_struct *wait)
{
	struct vfio_ap_migration_file *migf = filp->private_data;
	bool save = filp->f_mode & FMODE_READ;
	__poll_t ready = save ? EPOLLIN | EPOLLRDNORM : EPOLLOUT | EPOLLWRNORM;

	poll_wait(filp, &migf->wait, wait);

	guard(spinlock)(&migf->lock);
	if (vfio_ap_migration_file_status_locked(migf))
		return ready | EPOLLERR;
	if (save && !migf->complete && !vfio_ap_migration_unread_locked(migf))
		return 0;

	return ready;
}

/* vfio_check_precopy_ioctl() needs a device, which may be gone by now. */
static long vfio_ap_migration_ioctl(struct file *filp, unsigned int cmd,
				    unsigned long arg)
{
	const size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vfio_ap_migration_file *migf = filp->private_data;
	struct vfio_precopy_info info = {};

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;

	scoped_guard(spinlock, &migf->lock) {
		if (!migf->precopy)
			return -EINVAL;
		if (migf->error)
			return migf->error;
		info.initial_bytes = vfio_ap_migration_unread_locked(migf);
	}
	info.flags = 0;
	info.dirty_bytes = 0;

	return copy_to_user((void __user *)arg, &info, minsz) ? -EFAULT : 0;
}

static void vfio_ap_migration_report_diff(void *ctx, const char *text)
{
	struct vfio_ap_migration_diffs *diffs = ctx;

	trace_vfio_ap_difference(dev_name(mdev_dev(diffs->matrix_mdev->mdev)), text);
	if (!diffs->nr++)
		strscpy(diffs->first, text);
}

static int vfio_ap_migration_compare_locked(struct vfio_ap_migration_file *migf,
	bool (*compare)(const struct vfio_ap_stream_image *source,
			const struct vfio_ap_stream_image *local,
			vfio_ap_stream_diff_fn report, void *ctx))
{
	struct vfio_ap_migration_diffs diffs = { .matrix_mdev = migf->matrix_mdev };
	char why[VFIO_AP_STREAM_DIFF_CHARS + 32];

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (compare(&migf->dec.image, &migf->local, vfio_ap_migration_report_diff, &diffs))
		return 0;

	if (diffs.nr == 1)
		strscpy(why, diffs.first);
	else
		snprintf(why, sizeof(why), "%s (%u more difference%s)", diffs.first,
			 diffs.nr - 1, diffs.nr == 2 ? "" : "s");
	vfio_ap_migration_fail_locked(migf, -ENXIO, why);

	return -ENXIO;
}

/* Keep a row until END: the interrupts are registered all together. */
static int vfio_ap_migration_keep_irq(struct vfio_ap_migration_file *migf)
{
	struct vfio_ap_stream_irq *irqs;
	unsigned int max;

	lockdep_assert_held(&migf->io_mutex);

	if (migf->nr_irqs == migf->max_irqs) {
		max = max(2 * migf->max_irqs, VFIO_AP_MIGRATION_MIN_IRQS);
		irqs = kvrealloc(migf->irqs, array_size(max, sizeof(*irqs)),
				 GFP_KERNEL_ACCOUNT);
		if (!irqs)
			return -ENOMEM;
		migf->irqs = irqs;
		migf->max_irqs = max;
	}
	migf->irqs[migf->nr_irqs++] = migf->dec.irq;

	return 0;
}

static int vfio_ap_migration_receive_status(void *ctx)
{
	return vfio_ap_migration_file_status(ctx);
}

/* Register all interrupts; drops the lock while a page is pinned. */
static int vfio_ap_migration_receive_locked(struct vfio_ap_migration_file *migf)
{
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_irq_receive(migf->matrix_mdev, migf->irqs, migf->nr_irqs,
				  vfio_ap_migration_receive_status, migf);
	if (ret)
		vfio_ap_migration_fail_locked(migf, ret,
					      "the guest's interrupts cannot be registered");
	else
		migf->registered = true;

	return ret;
}

static int vfio_ap_migration_accept(struct vfio_ap_migration_file *migf,
				    enum vfio_ap_stream_event event)
{
	int ret;

	if (event == VFIO_AP_STREAM_NEED_DATA)
		return 0;
	if (event == VFIO_AP_STREAM_GOT_IRQ)
		return vfio_ap_migration_keep_irq(migf);

	guard(mutex)(&matrix_dev->mdevs_lock);
	ret = vfio_ap_migration_file_status(migf);
	if (ret)
		return ret;
	if (event == VFIO_AP_STREAM_GOT_END)
		return vfio_ap_migration_receive_locked(migf);

	return vfio_ap_migration_compare_locked(migf, event == VFIO_AP_STREAM_GOT_HWINFO ?
						      vfio_ap_stream_compare_hwinfo :
						      vfio_ap_stream_compare_config);
}

/* Decode a chunk that is in kernel memory; an error of the stream sticks. */
static int vfio_ap_migration_load(struct vfio_ap_migration_file *migf,
				  const u8 *data, size_t len)
{
	enum vfio_ap_stream_event event;
	ssize_t used;
	int ret;

	ret = vfio_ap_migration_file_status(migf);
	if (ret)
		return ret;
	for (; len && !ret; data += used, len -= used) {
		used = vfio_ap_stream_decode(&migf->dec, data, len, &event);
		if (used < 0) {
			ret = used;
			break;
		}
		ret = vfio_ap_migration_accept(migf, event);
	}
	if (!ret)
		return 0;

	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_migration_fail_locked(migf, ret,
				      ret == -EINVAL ? "the stream is malformed" :
				      ret == -ENOMEM ? "out of memory" :
				      "the stream has an unknown version or record");

	return vfio_ap_migration_file_status(migf);
}

static ssize_t vfio_ap_migration_write(struct file *filp, const char __user *buf,
				       size_t len, loff_t *pos)
{
	struct vfio_ap_migration_file *migf = filp->private_data;
	size_t done, n;
	int ret;

	if (pos)
		return -ESPIPE;

	ACQUIRE(mutex_intr, lock)(&migf->io_mutex);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -ERESTARTSYS;

	ret = vfio_ap_migration_file_status(migf);
	if (ret || !len)
		return ret;

	n = min_t(size_t, len, VFIO_AP_MIGRATION_CHUNK);
	u8 *chunk __free(kvfree) = kvmalloc(n, GFP_KERNEL_ACCOUNT);
	if (!chunk)
		return -ENOMEM;

	for (done = 0; done < len; done += n) {
		n = min_t(size_t, len - done, VFIO_AP_MIGRATION_CHUNK);
		if (copy_from_user(chunk, buf + done, n))
			return done ? done : -EFAULT;
		ret = vfio_ap_migration_load(migf, chunk, n);
		if (ret)
			return ret;
	}

	return len;
}

/* A file is opened for reading or for writing, never for both. */
static const struct file_operations vfio_ap_migration_fops = {
	.owner = THIS_MODULE,
	.read = vfio_ap_migration_read,
	.write = vfio_ap_migration_write,
	.poll = vfio_ap_migration_poll,
	.unlocked_ioctl = vfio_ap_migration_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = vfio_ap_migration_release,
};

/* A file without a session: read() and write() return -ENODEV. */
static struct file *vfio_ap_migration_file_open(int flags)
{
	struct vfio_ap_migration_file *migf;
	struct file *filp;

	migf = kvzalloc_obj(*migf, GFP_KERNEL_ACCOUNT);
	if (!migf)
		return ERR_PTR(-ENOMEM);

	kref_init(&migf->kref);
	mutex_init(&migf->io_mutex);
	spin_lock_init(&migf->lock);
	init_waitqueue_head(&migf->wait);
	migf->disabled = true;

	filp = anon_inode_getfile("vfio_ap_migration", &vfio_ap_migration_fops,
				  migf, flags);
	if (IS_ERR(filp)) {
		vfio_ap_migration_file_put(migf);
		return filp;
	}
	stream_open(filp->f_inode, filp);

	return filp;
}

static void vfio_ap_migration_set_locked(struct ap_matrix_mdev *matrix_mdev,
					 enum vfio_device_mig_state state)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	/* Read without a lock by vfio_ap_migration_get_state(). */
	WRITE_ONCE(matrix_mdev->mig.state, state);
}

/* Does not take io_mutex; I/O in progress checks the status after copying. */
static void vfio_ap_migration_end_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!migf)
		return;

	matrix_mdev->mig.file = NULL;
	migf->matrix_mdev = NULL;
	scoped_guard(spinlock, &migf->lock) {
		migf->disabled = true;
		migf->precopy = false;
	}
	wake_up_interruptible_all(&migf->wait);
	vfio_ap_migration_file_put(migf);
}

static bool vfio_ap_migration_guest_protected(struct kvm *kvm)
{
	KUNIT_STATIC_STUB_REDIRECT(vfio_ap_migration_guest_protected, kvm);

	/* Without the lock the guest could become protected at once. */
	lockdep_assert_held(&kvm->lock);
	return kvm_s390_pv_is_protected(kvm);
}

/**
 * vfio_ap_migration_offered - test whether this kernel offers migration
 *
 * A kernel that is a secure execution guest does not: the bind state of its
 * queues cannot be carried over.
 *
 * Return: true if mediated devices have the migration feature.
 */
bool vfio_ap_migration_offered(void)
{
	KUNIT_STATIC_STUB_REDIRECT(vfio_ap_migration_offered);

	return !is_prot_virt_guest();
}

static bool vfio_ap_migration_hotplug_pending(struct ap_matrix_mdev *matrix_mdev)
{
	return !bitmap_empty(matrix_mdev->apm_add, AP_DEVICES) ||
	       !bitmap_empty(matrix_mdev->aqm_add, AP_DOMAINS) ||
	       !bitmap_empty(matrix_mdev->adm_add, AP_DOMAINS);
}

static int vfio_ap_migration_refuse(struct ap_matrix_mdev *matrix_mdev, int error,
				    const char *why)
{
	vfio_ap_notice(matrix_mdev, "migration refused: %s\n", why);
	return error;
}

/*
 * Describe the guest's AP configuration. Filtering leaves the guest only adapters
 * whose queues are usable. Their information was kept when the queues were linked,
 * so no AP instruction is issued and no queue is looked up.
 */
static int vfio_ap_migration_image_locked(struct ap_matrix_mdev *matrix_mdev,
					  struct vfio_ap_stream_image *image)
{
	struct ap_matrix *apcb = &matrix_mdev->shadow_apcb;
	struct vfio_ap_stream_hwinfo *row = image->adapter;
	unsigned long apid;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!matrix_mdev->kvm)
		return vfio_ap_migration_refuse(matrix_mdev, -EOPNOTSUPP,
						"no guest uses AP through the device");
	if (vfio_ap_migration_guest_protected(matrix_mdev->kvm))
		return vfio_ap_migration_refuse(matrix_mdev, -EOPNOTSUPP,
						"the guest is protected");
	if (matrix_mdev->withdrawn)
		return vfio_ap_migration_refuse(matrix_mdev, -EBUSY,
						"the device was requested back");
	if (!bitmap_empty(apcb->apm, AP_DEVICES) && bitmap_empty(apcb->aqm, AP_DOMAINS))
		return vfio_ap_migration_refuse(matrix_mdev, -ENXIO,
						"the guest has adapters but no domain");

	/* Both are bit strings with bit 0 in front: s390 is big-endian. */
	memcpy(image->config.apm, apcb->apm, sizeof(image->config.apm));
	memcpy(image->config.aqm, apcb->aqm, sizeof(image->config.aqm));
	memcpy(image->config.adm, apcb->adm, sizeof(image->config.adm));

	for_each_set_bit_inv(apid, apcb->apm, AP_DEVICES) {
		row->apid = cpu_to_be16(apid);
		row->info = cpu_to_be64(matrix_mdev->mig.hwinfo[apid]);
		row++;
	}
	image->nr = row - image->adapter;

	return 0;
}

/**
 * vfio_ap_migration_config_changed - the guest's AP configuration has changed
 * @matrix_mdev: the mediated device
 *
 * An open session fails. Its state stays, as VFIO requires that no state changes
 * by itself. Once the destination has accepted the stream, the change is a hot
 * plug and the session goes on.
 *
 * Context: get_update_locks_for_mdev() was called.
 */
void vfio_ap_migration_config_changed(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!migf)
		return;
	if (migf->registered) {
		migf->hotplugged = true;
		return;
	}
	vfio_ap_migration_fail_locked(migf, -ECANCELED, matrix_mdev->withdrawn ?
				      "the device was requested back" :
				      "the host changed the AP configuration");
}

/*
 * Allocates without matrix_dev->mdevs_lock. Rows cannot be added afterwards:
 * PQAP(AQIC) of the guest is not executed while its interrupts are quiesced.
 */
static int vfio_ap_migration_alloc_final(struct vfio_ap_migration_file *migf,
					 struct ap_matrix_mdev *matrix_mdev)
{
	unsigned int rows = READ_ONCE(matrix_mdev->irq.nr_rows);

	migf->final = kvmalloc(vfio_ap_stream_irq_bytes(rows) +
			       VFIO_AP_STREAM_END_BYTES, GFP_KERNEL_ACCOUNT);

	return migf->final ? 0 : -ENOMEM;
}

/* Append the guest's interrupt registrations and END. */
static void vfio_ap_migration_complete_locked(struct vfio_ap_migration_file *migf)
{
	u8 *p = migf->final;
	unsigned int rows;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	rows = vfio_ap_irq_encode(migf->matrix_mdev,
				  p + sizeof(struct vfio_ap_stream_record));
	if (rows) {
		rows *= sizeof(struct vfio_ap_stream_irq);
		p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_IRQ, rows) + rows;
	}
	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_END, 0);

	scoped_guard(spinlock, &migf->lock) {
		migf->final_len = p - migf->final;
		migf->complete = true;
	}
	wake_up_interruptible_all(&migf->wait);
}

static int vfio_ap_migration_may_begin_locked(struct ap_matrix_mdev *matrix_mdev,
					      struct vfio_ap_migration_file *migf)
{
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_migratable_check_locked(matrix_mdev);
	if (ret)
		return ret;
	if (vfio_ap_migration_hotplug_pending(matrix_mdev))
		return vfio_ap_migration_refuse(matrix_mdev, -EAGAIN,
						"a hot plug by the host is pending");

	return vfio_ap_migration_image_locked(matrix_mdev, &migf->local);
}

static int vfio_ap_migration_begin_locked(struct ap_matrix_mdev *matrix_mdev,
					  struct vfio_ap_migration_file *migf,
					  enum vfio_device_mig_state state)
{
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_migration_may_begin_locked(matrix_mdev, migf);
	if (ret)
		return ret;

	if (state == VFIO_DEVICE_STATE_RESUMING)
		vfio_ap_irq_forget(matrix_mdev);
	else
		migf->initial_len = vfio_ap_stream_encode_initial(&migf->local,
								  migf->initial);
	kref_get(&migf->kref);
	migf->matrix_mdev = matrix_mdev;
	matrix_mdev->mig.file = migf;
	scoped_guard(spinlock, &migf->lock) {
		migf->disabled = false;
		migf->precopy = state == VFIO_DEVICE_STATE_PRE_COPY ||
				state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
	}
	if (state == VFIO_DEVICE_STATE_STOP_COPY)
		vfio_ap_migration_complete_locked(migf);
	vfio_ap_migration_set_locked(matrix_mdev, state);

	return 0;
}

/* Arcs into PRE_COPY, STOP_COPY and RESUMING that open a session. */
static struct file *vfio_ap_migration_begin(struct ap_matrix_mdev *matrix_mdev,
					    enum vfio_device_mig_state state)
{
	struct vfio_ap_migration_file *migf;
	struct file *filp;
	int ret = 0;

	filp = vfio_ap_migration_file_open(state == VFIO_DEVICE_STATE_RESUMING ?
					   O_WRONLY : O_RDONLY);
	if (IS_ERR(filp))
		return filp;

	migf = filp->private_data;
	if (state == VFIO_DEVICE_STATE_STOP_COPY) {
		ret = vfio_ap_migration_alloc_final(migf, matrix_mdev);
	} else if (state == VFIO_DEVICE_STATE_RESUMING) {
		get_update_locks_for_mdev(matrix_mdev);
		ret = vfio_ap_migration_may_begin_locked(matrix_mdev, migf);
		release_update_locks_for_mdev(matrix_mdev);
		/*
		 * Requests and replies of an earlier guest go. If a reset does not
		 * complete, the guest loses the adapter and the stream differs.
		 */
		if (!ret)
			vfio_ap_mdev_reset_guest(matrix_mdev);
	}
	if (!ret) {
		get_update_locks_for_mdev(matrix_mdev);
		ret = vfio_ap_migration_begin_locked(matrix_mdev, migf, state);
		release_update_locks_for_mdev(matrix_mdev);
	}
	if (ret) {
		fput(filp);
		return ERR_PTR(ret);
	}

	return filp;
}

/*
 * PRE_COPY->STOP_COPY never fails: userspace would take a failure for one of the
 * device and reset the device of a guest that goes on. read() fails instead.
 */
static void vfio_ap_migration_finish_precopy(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;
	int ret;

	vfio_ap_irq_quiesce(matrix_mdev);
	ret = vfio_ap_migration_alloc_final(migf, matrix_mdev);

	get_update_locks_for_mdev(matrix_mdev);
	if (ret)
		vfio_ap_migration_fail_locked(migf, ret, "out of memory");
	else if (vfio_ap_migration_guest_protected(matrix_mdev->kvm))
		vfio_ap_migration_fail_locked(migf, -ECANCELED,
					      "the guest became protected");
	else
		vfio_ap_migration_complete_locked(migf);
	scoped_guard(spinlock, &migf->lock)
		migf->precopy = false;
	vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_STOP_COPY);
	release_update_locks_for_mdev(matrix_mdev);
}

/* Compare the stream with the configuration that the guest has now. */
static int vfio_ap_migration_recheck_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;
	int ret;

	ret = vfio_ap_migration_file_status(migf);
	if (ret)
		return ret;
	if (!migf->registered)
		return vfio_ap_migration_refuse(matrix_mdev, -EINVAL,
						"the stream is incomplete");
	if (migf->hotplugged)
		return 0;

	ret = vfio_ap_migration_image_locked(matrix_mdev, &migf->local);
	if (!ret)
		ret = vfio_ap_migration_compare_locked(migf, vfio_ap_stream_compare_config);
	if (!ret)
		ret = vfio_ap_migration_compare_locked(migf, vfio_ap_stream_compare_hwinfo);

	return ret;
}

/* RESUMING->STOP; on failure the device stays in RESUMING. */
static int vfio_ap_migration_finish_resume(struct ap_matrix_mdev *matrix_mdev)
{
	int ret;

	get_update_locks_for_mdev(matrix_mdev);
	ret = vfio_ap_migration_recheck_locked(matrix_mdev);
	if (!ret) {
		vfio_ap_migration_end_locked(matrix_mdev);
		vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_STOP);
	}
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

#define VFIO_AP_ARC(from, to)						\
	(VFIO_DEVICE_STATE_##from * VFIO_DEVICE_STATE_NR + VFIO_DEVICE_STATE_##to)

/*
 * Take one of the arcs that vfio_mig_get_next_state() uses. Returns the data file
 * of the session that the arc opens, NULL if it opens none, or an error.
 */
static struct file *vfio_ap_migration_arc(struct ap_matrix_mdev *matrix_mdev,
					  enum vfio_device_mig_state cur,
					  enum vfio_device_mig_state new)
{
	bool end = false;

	switch (cur * VFIO_DEVICE_STATE_NR + new) {
	case VFIO_AP_ARC(RUNNING, RUNNING_P2P):
	case VFIO_AP_ARC(RUNNING_P2P, RUNNING):
	case VFIO_AP_ARC(PRE_COPY, PRE_COPY_P2P):
	case VFIO_AP_ARC(PRE_COPY_P2P, PRE_COPY):
		/* No peer-to-peer DMA exists that the P2P states would have to end. */
		break;
	case VFIO_AP_ARC(RUNNING_P2P, STOP):
		vfio_ap_irq_quiesce(matrix_mdev);
		break;
	case VFIO_AP_ARC(STOP, RUNNING_P2P):
		vfio_ap_irq_restore(matrix_mdev);
		break;
	case VFIO_AP_ARC(PRE_COPY, RUNNING):
	case VFIO_AP_ARC(PRE_COPY_P2P, RUNNING_P2P):
	case VFIO_AP_ARC(STOP_COPY, STOP):
		end = true;
		break;
	case VFIO_AP_ARC(RUNNING, PRE_COPY):
	case VFIO_AP_ARC(RUNNING_P2P, PRE_COPY_P2P):
	case VFIO_AP_ARC(STOP, STOP_COPY):
	case VFIO_AP_ARC(STOP, RESUMING):
		return vfio_ap_migration_begin(matrix_mdev, new);
	case VFIO_AP_ARC(PRE_COPY_P2P, STOP_COPY):
		vfio_ap_migration_finish_precopy(matrix_mdev);
		return NULL;
	case VFIO_AP_ARC(RESUMING, STOP):
		return ERR_PTR(vfio_ap_migration_finish_resume(matrix_mdev));
	default:
		WARN_ON_ONCE(true);
		return ERR_PTR(-EINVAL);
	}

	guard(mutex)(&matrix_dev->mdevs_lock);
	if (end)
		vfio_ap_migration_end_locked(matrix_mdev);
	vfio_ap_migration_set_locked(matrix_mdev, new);

	return NULL;
}

static struct file *
vfio_ap_migration_set_state(struct vfio_device *vdev,
			    enum vfio_device_mig_state new_state)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(vdev, struct ap_matrix_mdev, vdev);
	enum vfio_device_mig_state cur, next;
	struct file *filp = NULL;
	u64 began;
	int ret;

	guard(mutex)(&matrix_mdev->mig.mutex);

	/* Only the last arc opens a session. */
	while (!IS_ERR(filp) && matrix_mdev->mig.state != new_state) {
		cur = matrix_mdev->mig.state;
		ret = vfio_mig_get_next_state(vdev, cur, new_state, &next);
		if (ret)
			return ERR_PTR(ret);
		began = ktime_get_ns();
		filp = vfio_ap_migration_arc(matrix_mdev, cur, next);
		trace_vfio_ap_arc(dev_name(mdev_dev(matrix_mdev->mdev)), cur, next,
				  PTR_ERR_OR_ZERO(filp), ktime_get_ns() - began);
	}

	return filp;
}

/* Also called for a closed device, by debugfs. */
static int vfio_ap_migration_get_state(struct vfio_device *vdev,
				       enum vfio_device_mig_state *state)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(vdev, struct ap_matrix_mdev, vdev);

	*state = READ_ONCE(matrix_mdev->mig.state);
	return 0;
}

/* Takes no lock: userspace polls the size, and a stale estimate is acceptable. */
static int vfio_ap_migration_get_data_size(struct vfio_device *vdev,
					   unsigned long *stop_copy_length)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(vdev, struct ap_matrix_mdev, vdev);
	unsigned int adapters, rows;

	/* Each word is read once. */
	adapters = data_race(bitmap_weight(matrix_mdev->shadow_apcb.apm,
					   AP_DEVICES));
	rows = READ_ONCE(matrix_mdev->irq.nr_rows);
	*stop_copy_length = VFIO_AP_STREAM_INITIAL_BYTES(adapters) +
			    vfio_ap_stream_irq_bytes(rows) +
			    VFIO_AP_STREAM_END_BYTES;

	return 0;
}

static const struct vfio_migration_ops vfio_ap_migration_ops = {
	.migration_set_state = vfio_ap_migration_set_state,
	.migration_get_state = vfio_ap_migration_get_state,
	.migration_get_data_size = vfio_ap_migration_get_data_size,
};

/**
 * vfio_ap_migration_init - prepare a mediated device that is being created
 * @matrix_mdev: the mediated device, not registered yet
 */
void vfio_ap_migration_init(struct ap_matrix_mdev *matrix_mdev)
{
	mutex_init(&matrix_mdev->mig.mutex);
	matrix_mdev->mig.state = VFIO_DEVICE_STATE_RUNNING;

	if (!vfio_ap_migration_offered())
		return;

	matrix_mdev->vdev.migration_flags = VFIO_MIGRATION_STOP_COPY |
					    VFIO_MIGRATION_P2P |
					    VFIO_MIGRATION_PRE_COPY;
	matrix_mdev->vdev.mig_ops = &vfio_ap_migration_ops;
}

/**
 * vfio_ap_migration_reset - end the session and go to RUNNING
 * @matrix_mdev: the mediated device
 *
 * For VFIO_DEVICE_RESET and close. Never fails. PQAP(AQIC) of the guest is answered
 * as busy until vfio_ap_mdev_unblock_aqic(), so that no more pages are pinned.
 *
 * Context: matrix_mdev->mig.mutex is held. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_migration_reset(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_migration_end_locked(matrix_mdev);
	matrix_mdev->irq.aqic_blocked = true;
	vfio_ap_irq_wait_for_pins_locked(matrix_mdev);
	vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_RUNNING);
}

/**
 * vfio_ap_migration_close - reset, and stop DMA logging
 * @matrix_mdev: the mediated device that is being closed or opened
 *
 * Context: matrix_mdev->mig.mutex is held. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_migration_close(struct ap_matrix_mdev *matrix_mdev)
{
	vfio_ap_migration_reset(matrix_mdev);

	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_dirty_stop_locked(matrix_mdev);
}
