// SPDX-License-Identifier: GPL-2.0+
/*
 * Live migration of a vfio-ap mediated device
 *
 * A guest's AP queues are operated by the machine itself, so there is no device
 * state to move. The source tells the destination, in the stream described in
 * vfio_ap_stream.c, which adapters, domains and control domains its guest has
 * and what hardware the adapters are. The destination compares that with what
 * its own guest was given. It does so while the stream is written: userspace
 * can still fail the migration then, and the guest goes on at the source.
 *
 * A session is open from entering STOP_COPY or RESUMING until the arc out of
 * it, VFIO_DEVICE_RESET or close; closing its file does not end it. A file may
 * outlive its session, the device's file and the mediated device: it reaches
 * the mediated device only through a pointer that the end of the session clears
 * under matrix_dev->mdevs_lock, a lock that the file's module reference keeps.
 */

#include <linux/anon_inodes.h>
#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/compiler.h>
#include <linux/device.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/kvm_host.h>
#include <linux/mdev.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <asm/uv.h>

#include "vfio_ap_private.h"
#include "vfio_ap_stream.h"

/* The most that write() copies into the kernel at a time. */
#define VFIO_AP_MIGRATION_CHUNK	SZ_64K

/**
 * struct vfio_ap_migration_file - a migration data file
 * @kref:	held by the open file and by the session
 * @io_mutex:	spans one read() or write() with its user copies; never taken
 *		under matrix_dev->mdevs_lock
 * @lock:	guards @disabled, @error and @pos; innermost
 * @matrix_mdev: the mediated device; NULL once the session has ended, and until
 *		it begins. Guarded by matrix_dev->mdevs_lock
 * @disabled:	there is no session, or it has ended; every access gives -ENODEV
 * @error:	0, or the negative errno that every access and RESUMING->STOP give
 * @pos:	saving: bytes that were read
 * @here:	the guest's AP configuration when the session began; RESUMING->STOP
 *		looks again. Guarded by matrix_dev->mdevs_lock
 * @data:	saving: the stream; immutable
 * @size:	saving: bytes of @data
 * @dec:	resuming: the decoder, guarded by matrix_dev->mdevs_lock
 */
struct vfio_ap_migration_file {
	struct kref kref;
	struct mutex io_mutex; /* one read() or write() at a time */
	spinlock_t lock; /* disabled, error, pos */
	struct ap_matrix_mdev *matrix_mdev;
	bool disabled;
	int error;
	size_t pos;
	struct vfio_ap_stream_image here;
	u8 *data;
	size_t size;
	struct vfio_ap_stream_decoder *dec;
};

static void vfio_ap_migration_file_free(struct kref *kref)
{
	struct vfio_ap_migration_file *migf =
		container_of(kref, struct vfio_ap_migration_file, kref);

	kvfree(migf->data);
	kfree(migf->dec);
	mutex_destroy(&migf->io_mutex);
	kfree(migf);
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

/* Waits for nobody: a reader or writer in a page fault finds out afterwards. */
static void vfio_ap_migration_file_disable(struct vfio_ap_migration_file *migf)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	migf->matrix_mdev = NULL;
	guard(spinlock)(&migf->lock);
	migf->disabled = true;
}

/* The first error sticks. */
static void vfio_ap_migration_file_fail(struct vfio_ap_migration_file *migf,
					int error)
{
	guard(spinlock)(&migf->lock);
	if (!migf->error)
		migf->error = error;
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

/* The bytes that are left to read, or the negative errno that a read gives. */
static ssize_t vfio_ap_migration_file_left(struct vfio_ap_migration_file *migf)
{
	int ret;

	guard(spinlock)(&migf->lock);
	ret = vfio_ap_migration_file_status_locked(migf);
	if (ret)
		return ret;

	return migf->size - migf->pos;
}

/* What was copied counts only if the session was still good afterwards. */
static ssize_t vfio_ap_migration_file_advance(struct vfio_ap_migration_file *migf,
					      size_t len)
{
	int ret;

	guard(spinlock)(&migf->lock);
	ret = vfio_ap_migration_file_status_locked(migf);
	if (ret)
		return ret;
	migf->pos += len;

	return len;
}

static ssize_t vfio_ap_migration_read(struct file *filp, char __user *buf,
				      size_t len, loff_t *pos)
{
	struct vfio_ap_migration_file *migf = filp->private_data;
	ssize_t left;

	if (pos)
		return -ESPIPE;

	ACQUIRE(mutex_intr, lock)(&migf->io_mutex);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -ERESTARTSYS;

	left = vfio_ap_migration_file_left(migf);
	if (left < 0)
		return left;

	/* Only a reader moves @pos, and io_mutex keeps the others out. */
	len = min_t(size_t, len, left);
	if (copy_to_user(buf, migf->data + migf->pos, len))
		return -EFAULT;

	return vfio_ap_migration_file_advance(migf, len);
}

static void vfio_ap_migration_report(void *ctx,
				     const struct vfio_ap_stream_diff *diff)
{
	struct ap_matrix_mdev *matrix_mdev = ctx;
	char line[VFIO_AP_STREAM_DIFF_CHARS];

	vfio_ap_stream_diff_format(diff, line, sizeof(line));
	dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev), "%s\n", line);
}

static int vfio_ap_migration_judge_locked(struct vfio_ap_migration_file *migf,
					  enum vfio_ap_stream_event event)
{
	struct ap_matrix_mdev *matrix_mdev = migf->matrix_mdev;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	switch (event) {
	case VFIO_AP_STREAM_GOT_CONFIG:
		return vfio_ap_stream_compare_config(&migf->dec->image,
						     &migf->here,
						     vfio_ap_migration_report,
						     matrix_mdev);
	case VFIO_AP_STREAM_GOT_HWINFO:
		return vfio_ap_stream_compare_hwinfo(&migf->dec->image,
						     &migf->here,
						     vfio_ap_migration_report,
						     matrix_mdev);
	default:
		return 0;
	}
}

static int vfio_ap_migration_decode_locked(struct vfio_ap_migration_file *migf,
					   const u8 *data, size_t len)
{
	enum vfio_ap_stream_event event;
	ssize_t used;
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	while (len) {
		used = vfio_ap_stream_decode(migf->dec, data, len, &event);
		if (used < 0) {
			dev_notice_ratelimited(mdev_dev(migf->matrix_mdev->mdev),
					       "migration stream refused: %zd\n",
					       used);
			return used;
		}
		ret = vfio_ap_migration_judge_locked(migf, event);
		if (ret)
			return ret;
		data += used;
		len -= used;
	}

	return 0;
}

/* Decode a chunk that is in kernel memory; an error of it sticks. */
static int vfio_ap_migration_load(struct vfio_ap_migration_file *migf,
				  const u8 *data, size_t len)
{
	int ret;

	guard(mutex)(&matrix_dev->mdevs_lock);

	ret = vfio_ap_migration_file_status(migf);
	if (ret)
		return ret;

	ret = vfio_ap_migration_decode_locked(migf, data, len);
	if (ret)
		vfio_ap_migration_file_fail(migf, ret);

	return ret;
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

static const struct file_operations vfio_ap_migration_save_fops = {
	.owner = THIS_MODULE,
	.read = vfio_ap_migration_read,
	.release = vfio_ap_migration_release,
};

static const struct file_operations vfio_ap_migration_resume_fops = {
	.owner = THIS_MODULE,
	.write = vfio_ap_migration_write,
	.release = vfio_ap_migration_release,
};

static struct vfio_ap_migration_file *vfio_ap_migration_file_alloc(bool save)
{
	struct vfio_ap_migration_file *migf;

	migf = kzalloc_obj(*migf, GFP_KERNEL_ACCOUNT);
	if (!migf)
		return NULL;

	kref_init(&migf->kref);
	mutex_init(&migf->io_mutex);
	spin_lock_init(&migf->lock);
	migf->disabled = true;
	if (save) {
		migf->data = kvzalloc(VFIO_AP_STREAM_BUF_BYTES,
				      GFP_KERNEL_ACCOUNT);
	} else {
		migf->dec = kzalloc_obj(*migf->dec, GFP_KERNEL_ACCOUNT);
		if (migf->dec)
			vfio_ap_stream_decode_init(migf->dec);
	}
	if (!migf->data && !migf->dec) {
		vfio_ap_migration_file_put(migf);
		return NULL;
	}

	return migf;
}

/* A file that no session has yet: reads and writes give -ENODEV. */
static struct file *vfio_ap_migration_file_open(enum vfio_device_mig_state state)
{
	bool save = state == VFIO_DEVICE_STATE_STOP_COPY;
	struct vfio_ap_migration_file *migf;
	struct file *filp;

	migf = vfio_ap_migration_file_alloc(save);
	if (!migf)
		return ERR_PTR(-ENOMEM);

	filp = anon_inode_getfile("vfio_ap_migration",
				  save ? &vfio_ap_migration_save_fops :
					 &vfio_ap_migration_resume_fops,
				  migf, save ? O_RDONLY : O_WRONLY);
	if (IS_ERR(filp)) {
		vfio_ap_migration_file_put(migf);
		return filp;
	}
	stream_open(filp->f_inode, filp);

	return filp;
}

/**
 * vfio_ap_migration_busy - test whether the AP configuration must stay as it is
 * @matrix_mdev: the mediated device
 *
 * True while a session is open, and from RESUMING->STOP until RUNNING, when the
 * guest depends on a comparison that was made. Userspace's changes are refused
 * with -EBUSY then.
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: true if the configuration must not change.
 */
bool vfio_ap_migration_busy(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	return matrix_mdev->mig.file || matrix_mdev->mig.resumed;
}

/**
 * vfio_ap_migration_config_changed - the guest's AP configuration has changed
 * @matrix_mdev: the mediated device
 *
 * For changes that cannot be refused. An open session fails from here on; the
 * state stays, as VFIO wants no state to change by itself.
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_migration_config_changed(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!matrix_mdev->mig.file)
		return;

	dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
			       "migration ended: the host changed the AP configuration\n");
	vfio_ap_migration_file_fail(matrix_mdev->mig.file, -ECANCELED);
}

static void vfio_ap_migration_set_locked(struct ap_matrix_mdev *matrix_mdev,
					 enum vfio_device_mig_state state)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	/* Read without a lock by vfio_ap_migration_get_state(). */
	WRITE_ONCE(matrix_mdev->mig.state, state);
	if (state == VFIO_DEVICE_STATE_RUNNING)
		matrix_mdev->mig.resumed = false;
}

static void vfio_ap_migration_begin_locked(struct ap_matrix_mdev *matrix_mdev,
					   struct vfio_ap_migration_file *migf)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	kref_get(&migf->kref);
	migf->matrix_mdev = matrix_mdev;
	matrix_mdev->mig.file = migf;
	guard(spinlock)(&migf->lock);
	migf->disabled = false;
}

static void vfio_ap_migration_end_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!migf)
		return;

	matrix_mdev->mig.file = NULL;
	vfio_ap_migration_file_disable(migf);
	vfio_ap_migration_file_put(migf);
}

static bool vfio_ap_migration_hotplug_pending(struct ap_matrix_mdev *matrix_mdev)
{
	return !bitmap_empty(matrix_mdev->apm_add, AP_DEVICES) ||
	       !bitmap_empty(matrix_mdev->aqm_add, AP_DOMAINS) ||
	       !bitmap_empty(matrix_mdev->adm_add, AP_DOMAINS);
}

/* Whether there is a guest whose AP configuration can be told to a peer. */
static int vfio_ap_migration_check_guest_locked(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!matrix_mdev->kvm)
		return -EOPNOTSUPP;

	/* For a stable answer of the next test. */
	lockdep_assert_held(&matrix_mdev->kvm->lock);
	if (kvm_s390_pv_is_protected(matrix_mdev->kvm))
		return -EOPNOTSUPP;

	/* shadow_apcb is not what the guest has, see vfio_ap_mdev_request(). */
	return matrix_mdev->mig.withdrawn ? -EBUSY : 0;
}

/*
 * One queue stands for its adapter: what was kept with it is the card's. Rows
 * are indexed by adapter number here, those that were filled in are in @found.
 */
static void vfio_ap_migration_find_adapters(struct ap_matrix_mdev *matrix_mdev,
					    struct vfio_ap_stream_adapter *rows,
					    unsigned long *found)
{
	struct vfio_ap_queue *q;
	int bucket;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode) {
		if (vfio_ap_queue_passable(q) &&
		    test_bit_inv(AP_QID_QUEUE(q->apqn),
				 matrix_mdev->shadow_apcb.aqm)) {
			rows[AP_QID_CARD(q->apqn)].info = q->hwinfo;
			set_bit_inv(AP_QID_CARD(q->apqn), found);
		}
	}
}

/**
 * vfio_ap_migration_image_locked - describe the guest's AP configuration
 * @matrix_mdev: the mediated device
 * @image: filled in
 *
 * The adapters' information was kept when their queues were bound, so no AP
 * instruction is issued.
 *
 * Context: get_update_locks_for_mdev() was called.
 * Return: 0; -EOPNOTSUPP without a guest that has AP or if it is protected;
 * -EBUSY if the device was requested back; -ENXIO if an adapter has no queue
 * that the guest could use.
 */
static int vfio_ap_migration_image_locked(struct ap_matrix_mdev *matrix_mdev,
					  struct vfio_ap_stream_image *image)
{
	struct ap_matrix *apcb = &matrix_mdev->shadow_apcb;
	DECLARE_BITMAP(found, AP_DEVICES) = {};
	unsigned long apid;
	int ret;

	ret = vfio_ap_migration_check_guest_locked(matrix_mdev);
	if (ret)
		return ret;

	/* Both are bit strings with bit 0 in front: s390 is big-endian. */
	memcpy(image->config.apm, apcb->apm, sizeof(image->config.apm));
	memcpy(image->config.aqm, apcb->aqm, sizeof(image->config.aqm));
	memcpy(image->config.adm, apcb->adm, sizeof(image->config.adm));

	vfio_ap_migration_find_adapters(matrix_mdev, image->adapter, found);

	/* Close the gaps: a row moves down or stays. */
	image->nr = 0;
	for_each_set_bit_inv(apid, apcb->apm, AP_DEVICES) {
		if (!test_bit_inv(apid, found)) {
			dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
					       "adapter %02lx has no usable queue\n",
					       apid);
			return -ENXIO;
		}
		image->adapter[image->nr].info = image->adapter[apid].info;
		image->adapter[image->nr].apid = apid;
		image->nr++;
	}

	return 0;
}

/*
 * Whether a session may begin. Asked before the first arc, so that a refused
 * request has changed nothing, and again in the arc.
 */
static int vfio_ap_migration_may_begin_locked(struct ap_matrix_mdev *matrix_mdev,
					      struct vfio_ap_stream_image *image)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (vfio_ap_migration_hotplug_pending(matrix_mdev))
		return -EAGAIN;

	return vfio_ap_migration_image_locked(matrix_mdev, image);
}

/* STOP->STOP_COPY and STOP->RESUMING */
static int vfio_ap_migration_begin(struct ap_matrix_mdev *matrix_mdev,
				   struct vfio_ap_migration_file *migf,
				   enum vfio_device_mig_state state)
{
	int ret;

	get_update_locks_for_mdev(matrix_mdev);

	ret = vfio_ap_migration_may_begin_locked(matrix_mdev, &migf->here);
	if (ret)
		goto out;

	if (state == VFIO_DEVICE_STATE_STOP_COPY)
		migf->size = vfio_ap_stream_encode(&migf->here, migf->data,
						   VFIO_AP_STREAM_BUF_BYTES);
	vfio_ap_migration_begin_locked(matrix_mdev, migf);
	vfio_ap_migration_set_locked(matrix_mdev, state);
out:
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

/* What was written, against what the guest has now. */
static int vfio_ap_migration_recheck_locked(struct ap_matrix_mdev *matrix_mdev,
					    struct vfio_ap_migration_file *migf)
{
	struct vfio_ap_stream_image *image = &migf->dec->image;
	int ret;

	ret = vfio_ap_migration_file_status(migf);
	if (ret)
		return ret;

	ret = vfio_ap_stream_decode_finish(migf->dec);
	if (ret)
		return ret;

	ret = vfio_ap_migration_image_locked(matrix_mdev, &migf->here);
	if (ret)
		return ret;

	ret = vfio_ap_stream_compare_config(image, &migf->here,
					    vfio_ap_migration_report,
					    matrix_mdev);
	if (ret)
		return ret;

	return vfio_ap_stream_compare_hwinfo(image, &migf->here,
					     vfio_ap_migration_report,
					     matrix_mdev);
}

/* RESUMING->STOP; on failure the device stays in RESUMING */
static int vfio_ap_migration_finish_resume(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;
	int ret;

	get_update_locks_for_mdev(matrix_mdev);

	ret = vfio_ap_migration_recheck_locked(matrix_mdev, migf);
	if (ret) {
		dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
				       "migration not completed: %d\n", ret);
		goto out;
	}

	vfio_ap_migration_end_locked(matrix_mdev);
	matrix_mdev->mig.resumed = true;
	vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_STOP);
out:
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

static int vfio_ap_migration_step(struct ap_matrix_mdev *matrix_mdev,
				  enum vfio_device_mig_state new,
				  struct vfio_ap_migration_file *migf)
{
	enum vfio_device_mig_state cur = matrix_mdev->mig.state;

	lockdep_assert_held(&matrix_mdev->mig.mutex);
	dev_dbg(mdev_dev(matrix_mdev->mdev), "migration state %d -> %d\n",
		cur, new);

	/* Arcs that never fail; there is a session to end in STOP_COPY only. */
	if ((cur == VFIO_DEVICE_STATE_RUNNING && new == VFIO_DEVICE_STATE_STOP) ||
	    (cur == VFIO_DEVICE_STATE_STOP && new == VFIO_DEVICE_STATE_RUNNING) ||
	    (cur == VFIO_DEVICE_STATE_STOP_COPY && new == VFIO_DEVICE_STATE_STOP)) {
		guard(mutex)(&matrix_dev->mdevs_lock);
		vfio_ap_migration_end_locked(matrix_mdev);
		vfio_ap_migration_set_locked(matrix_mdev, new);
		return 0;
	}

	/* Arcs that begin a session. */
	if (cur == VFIO_DEVICE_STATE_STOP &&
	    (new == VFIO_DEVICE_STATE_STOP_COPY ||
	     new == VFIO_DEVICE_STATE_RESUMING))
		return vfio_ap_migration_begin(matrix_mdev, migf, new);

	if (cur == VFIO_DEVICE_STATE_RESUMING && new == VFIO_DEVICE_STATE_STOP)
		return vfio_ap_migration_finish_resume(matrix_mdev);

	/* vfio_mig_get_next_state() does not use arcs other than the above. */
	WARN_ON(true);
	return -EINVAL;
}

/*
 * Everything that can refuse a session, before any arc: the file for it, and
 * whether it may begin. Returns NULL if @state needs no session.
 */
static struct file *vfio_ap_migration_prepare(struct ap_matrix_mdev *matrix_mdev,
					      enum vfio_device_mig_state state)
{
	struct vfio_ap_migration_file *migf;
	struct file *filp;
	int ret;

	if (state != VFIO_DEVICE_STATE_STOP_COPY &&
	    state != VFIO_DEVICE_STATE_RESUMING)
		return NULL;

	filp = vfio_ap_migration_file_open(state);
	if (IS_ERR(filp))
		return filp;

	migf = filp->private_data;
	get_update_locks_for_mdev(matrix_mdev);
	ret = vfio_ap_migration_may_begin_locked(matrix_mdev, &migf->here);
	release_update_locks_for_mdev(matrix_mdev);
	if (ret) {
		fput(filp);
		return ERR_PTR(ret);
	}

	return filp;
}

static struct file *
vfio_ap_migration_set_state(struct vfio_device *vdev,
			    enum vfio_device_mig_state new_state)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(vdev, struct ap_matrix_mdev, vdev);
	enum vfio_device_mig_state next_state;
	struct file *filp;
	int ret;

	guard(mutex)(&matrix_mdev->mig.mutex);

	if (new_state == matrix_mdev->mig.state)
		return NULL;

	filp = vfio_ap_migration_prepare(matrix_mdev, new_state);
	if (IS_ERR(filp))
		return filp;

	while (matrix_mdev->mig.state != new_state) {
		ret = vfio_mig_get_next_state(vdev, matrix_mdev->mig.state,
					      new_state, &next_state);
		if (!ret)
			ret = vfio_ap_migration_step(matrix_mdev, next_state,
						     filp ? filp->private_data : NULL);
		if (ret) {
			if (filp)
				fput(filp);
			return ERR_PTR(ret);
		}
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

/*
 * Userspace polls this while the guest runs, to decide when to stop it, and
 * takes it for the size of its buffer. Both want the true size, but none that
 * is still true afterwards: so no lock.
 */
static int vfio_ap_migration_get_data_size(struct vfio_device *vdev,
					   unsigned long *stop_copy_length)
{
	struct ap_matrix_mdev *matrix_mdev =
		container_of(vdev, struct ap_matrix_mdev, vdev);
	unsigned int adapters;

	/* Each word is read once; a stale one makes an estimate that is stale. */
	adapters = data_race(bitmap_weight(matrix_mdev->shadow_apcb.apm,
					   AP_DEVICES));
	*stop_copy_length = VFIO_AP_STREAM_BYTES(adapters);
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
 *
 * A kernel that is itself a secure execution guest does not advertise the
 * feature: the bind state of its queues cannot be carried over.
 */
void vfio_ap_migration_init(struct ap_matrix_mdev *matrix_mdev)
{
	mutex_init(&matrix_mdev->mig.mutex);
	matrix_mdev->mig.state = VFIO_DEVICE_STATE_RUNNING;

	if (is_prot_virt_guest())
		return;

	matrix_mdev->vdev.migration_flags = VFIO_MIGRATION_STOP_COPY;
	matrix_mdev->vdev.mig_ops = &vfio_ap_migration_ops;
}

/**
 * vfio_ap_migration_reset - end the session and go to RUNNING
 * @matrix_mdev: the mediated device
 *
 * For VFIO_DEVICE_RESET and close. Never fails.
 *
 * Context: matrix_mdev->mig.mutex is held. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_migration_reset(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_migration_end_locked(matrix_mdev);
	vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_RUNNING);
}

/**
 * vfio_ap_migration_open - forget what an earlier user left
 * @matrix_mdev: the mediated device that is being opened
 *
 * Context: Takes matrix_mdev->mig.mutex and matrix_dev->mdevs_lock.
 */
void vfio_ap_migration_open(struct ap_matrix_mdev *matrix_mdev)
{
	guard(mutex)(&matrix_mdev->mig.mutex);
	vfio_ap_migration_reset(matrix_mdev);

	guard(mutex)(&matrix_dev->mdevs_lock);
	matrix_mdev->mig.withdrawn = false;
}
