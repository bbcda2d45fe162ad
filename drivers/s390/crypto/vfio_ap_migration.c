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
 * PRE_COPY sends all of that but the end while the guest still runs, so that a
 * destination which differs refuses before the guest was stopped. Should the
 * host change the configuration meanwhile, it is sent again.
 *
 * A session is open from entering PRE_COPY, STOP_COPY or RESUMING until the arc
 * out of it, VFIO_DEVICE_RESET or close; closing its file does not end it, and
 * PRE_COPY->STOP_COPY goes on with the same one. A file may
 * outlive its session, the device's file and the mediated device: it reaches
 * the mediated device only through a pointer that the end of the session clears
 * under matrix_dev->mdevs_lock, a lock that the file's module reference keeps.
 */

#include <kunit/static_stub.h>
#include <linux/anon_inodes.h>
#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/compiler.h>
#include <linux/device.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/kvm_host.h>
#include <linux/mdev.h>
#include <linux/minmax.h>
#include <linux/overflow.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/wait.h>
#include <asm/uv.h>

#include "vfio_ap_irq.h"
#include "vfio_ap_log.h"
#include "vfio_ap_private.h"
#include "vfio_ap_report.h"
#include "vfio_ap_stream.h"
#include "vfio_ap_trace.h"

/* The most that write() copies into the kernel at a time. */
#define VFIO_AP_MIGRATION_CHUNK	SZ_64K

/* The header, every pair of CONFIG and HWINFO, IRQ, and END. */
#define VFIO_AP_MIGRATION_MAX_PIECES	(VFIO_AP_STREAM_MAX_PAIRS + 3)

/* Rows of IRQ records for which memory is taken at first; it doubles. */
#define VFIO_AP_MIGRATION_MIN_IRQS	16

/**
 * struct vfio_ap_migration_piece - some bytes of a stream to be read
 * @kref:	held by the file and by who copies from it
 * @len:	bytes of @data; neither changes once the piece is published
 * @data:	the bytes: the header, a pair of CONFIG and HWINFO, IRQ, or END
 */
struct vfio_ap_migration_piece {
	struct kref kref;
	size_t len;
	u8 data[];
};

/**
 * struct vfio_ap_migration_file - a migration data file
 * @kref:	held by the open file and by the session
 * @io_mutex:	spans one read() or write() with its user copies; never taken
 *		under matrix_dev->mdevs_lock
 * @lock:	guards @disabled, @error, @pieces and what tells the position in
 *		them; innermost
 * @wait:	pollers
 * @matrix_mdev: the mediated device; NULL once the session has ended, and until
 *		it begins. Guarded by matrix_dev->mdevs_lock
 * @disabled:	there is no session, or it has ended; every access gives -ENODEV
 * @error:	0, or the negative errno that every access and RESUMING->STOP give
 * @here:	the guest's AP configuration when last looked at. Guarded by
 *		matrix_dev->mdevs_lock
 * @pieces:	saving: the stream. Written under @lock and matrix_dev->mdevs_lock,
 *		read under either; so is @nr
 * @nr:		number of pieces that are published
 * @at:		the piece that is read next, @nr at the end
 * @off:	bytes of it that were read
 * @unread:	bytes that were not read
 * @initial:	of them, the first ones, those that VFIO calls initial bytes
 * @renewed:	a pair was published and not told by VFIO_MIG_GET_PRECOPY_INFO
 * @complete:	the last piece ends the stream
 * @spare:	saving: for the next pair, so that a change by the host finds memory.
 *		Guarded by matrix_dev->mdevs_lock
 * @end:	saving: for END; guarded by matrix_dev->mdevs_lock
 * @dec:	resuming: the decoder, guarded by matrix_dev->mdevs_lock
 * @irqs:	resuming: the rows of IRQ records that have arrived, guarded by
 *		matrix_dev->mdevs_lock; so are @nr_irqs and @max_irqs
 * @nr_irqs:	number of rows
 * @max_irqs:	number of rows that @irqs has memory for
 * @registered:	resuming: the whole stream was taken, and all interrupts registered
 * @report:	the report on the session, which takes it over when it begins
 */
struct vfio_ap_migration_file {
	struct kref kref;
	struct mutex io_mutex; /* one read() or write() at a time */
	spinlock_t lock; /* disabled, error, pieces, position */
	wait_queue_head_t wait;
	struct ap_matrix_mdev *matrix_mdev;
	bool disabled;
	int error;
	struct vfio_ap_stream_image here;
	struct vfio_ap_migration_piece *pieces[VFIO_AP_MIGRATION_MAX_PIECES];
	unsigned int nr;
	unsigned int at;
	size_t off;
	size_t unread;
	size_t initial;
	bool renewed;
	bool complete;
	struct vfio_ap_migration_piece *spare;
	struct vfio_ap_migration_piece *end;
	struct vfio_ap_stream_decoder *dec;
	struct vfio_ap_stream_irq *irqs;
	unsigned int nr_irqs;
	unsigned int max_irqs;
	bool registered;
	struct vfio_ap_report *report;
};

static struct vfio_ap_migration_piece *vfio_ap_migration_piece_alloc(size_t size)
{
	struct vfio_ap_migration_piece *piece;

	piece = kvzalloc(sizeof(*piece) + size, GFP_KERNEL_ACCOUNT);
	if (piece)
		kref_init(&piece->kref);

	return piece;
}

static void vfio_ap_migration_piece_free(struct kref *kref)
{
	kvfree(container_of(kref, struct vfio_ap_migration_piece, kref));
}

static void vfio_ap_migration_piece_put(struct vfio_ap_migration_piece *piece)
{
	if (piece)
		kref_put(&piece->kref, vfio_ap_migration_piece_free);
}

static void vfio_ap_migration_file_free(struct kref *kref)
{
	struct vfio_ap_migration_file *migf =
		container_of(kref, struct vfio_ap_migration_file, kref);
	unsigned int i;

	for (i = 0; i < migf->nr; i++)
		vfio_ap_migration_piece_put(migf->pieces[i]);
	vfio_ap_migration_piece_put(migf->spare);
	vfio_ap_migration_piece_put(migf->end);
	vfio_ap_report_free(migf->report);
	kfree(migf->dec);
	kvfree(migf->irqs);
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
	scoped_guard(spinlock, &migf->lock)
		migf->disabled = true;
	wake_up_interruptible_all(&migf->wait);
}

/* The first error sticks: true if it is this one. */
static bool vfio_ap_migration_file_set_error(struct vfio_ap_migration_file *migf,
					     int error)
{
	guard(spinlock)(&migf->lock);
	if (migf->error)
		return false;
	migf->error = error;

	return true;
}

/* Every access to the file fails from here on, and so does RESUMING->STOP. */
static void vfio_ap_migration_file_fail_locked(struct vfio_ap_migration_file *migf,
					       enum vfio_ap_reason reason,
					       int error)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!vfio_ap_migration_file_set_error(migf, error))
		return;
	vfio_ap_report_fail_locked(migf->matrix_mdev, reason, error);
	wake_up_interruptible_all(&migf->wait);
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

/* What was read leaves no byte of a complete stream. */
static bool vfio_ap_migration_file_drained(struct vfio_ap_migration_file *migf)
{
	guard(spinlock)(&migf->lock);
	return migf->complete && !migf->unread;
}

static void vfio_ap_migration_add_piece_locked(struct vfio_ap_migration_file *migf,
					       struct vfio_ap_migration_piece *piece)
{
	lockdep_assert_held(&migf->lock);

	migf->pieces[migf->nr++] = piece;
	migf->unread += piece->len;
}

/*
 * In place of the last piece, of which nothing was read. Returns that one; to free
 * it may sleep.
 */
static struct vfio_ap_migration_piece *
vfio_ap_migration_replace_piece_locked(struct vfio_ap_migration_file *migf,
				       struct vfio_ap_migration_piece *piece)
{
	struct vfio_ap_migration_piece *old = migf->pieces[migf->nr - 1];
	bool initial = migf->initial == migf->unread;

	lockdep_assert_held(&migf->lock);

	migf->pieces[migf->nr - 1] = piece;
	migf->unread += piece->len;
	migf->unread -= old->len;
	if (initial)
		migf->initial = migf->unread;

	return old;
}

/*
 * Publish the pair that is in @spare, unless it is the same as the last one.
 * Returns -E2BIG if a stream can not have another one.
 */
static int vfio_ap_migration_file_publish(struct vfio_ap_migration_file *migf)
{
	struct vfio_ap_migration_piece *last = migf->pieces[migf->nr - 1];
	struct vfio_ap_migration_piece *piece = migf->spare;
	struct vfio_ap_migration_piece *old = NULL;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (last->len == piece->len && !memcmp(last->data, piece->data, last->len))
		return 0;

	scoped_guard(spinlock, &migf->lock) {
		if (migf->at < migf->nr - 1 ||
		    (migf->at == migf->nr - 1 && !migf->off))
			old = vfio_ap_migration_replace_piece_locked(migf, piece);
		else if (migf->nr < 1 + VFIO_AP_STREAM_MAX_PAIRS)
			vfio_ap_migration_add_piece_locked(migf, piece);
		else
			return -E2BIG;
		migf->renewed = true;
	}
	migf->spare = NULL;
	if (old)
		vfio_ap_migration_piece_put(old);
	vfio_ap_report_published_locked(migf->matrix_mdev);
	wake_up_interruptible_all(&migf->wait);

	return 0;
}

/* The checksum of all pieces */
static u32 vfio_ap_migration_file_crc(struct vfio_ap_migration_file *migf)
{
	u32 crc = VFIO_AP_STREAM_CRC_INIT;
	unsigned int i;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	for (i = 0; i < migf->nr; i++)
		crc = vfio_ap_stream_crc(crc, migf->pieces[i]->data,
					 migf->pieces[i]->len);

	return crc;
}

/* The registrations of the guest's interrupts; an empty piece if there are none. */
static struct vfio_ap_migration_piece *
vfio_ap_migration_alloc_irqs(struct ap_matrix_mdev *matrix_mdev)
{
	unsigned int rows = vfio_ap_irq_nr_rows(matrix_mdev);
	struct vfio_ap_migration_piece *piece;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	piece = vfio_ap_migration_piece_alloc(VFIO_AP_STREAM_IRQ_BYTES(rows));
	if (!piece)
		return NULL;

	rows = vfio_ap_irq_encode(matrix_mdev,
				  piece->data + VFIO_AP_STREAM_IRQ_BYTES(0));
	if (rows) {
		vfio_ap_stream_encode_irq_head(rows, piece->data);
		piece->len = VFIO_AP_STREAM_IRQ_BYTES(rows);
	}

	return piece;
}

/* Append IRQ, unless it is empty, and END to the header and the pairs. */
static void vfio_ap_migration_file_complete(struct vfio_ap_migration_file *migf,
					    struct vfio_ap_migration_piece *irqs)
{
	unsigned int records = (migf->nr - 1) * VFIO_AP_STREAM_PAIR_RECORDS;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (irqs->len) {
		records++;
		scoped_guard(spinlock, &migf->lock)
			vfio_ap_migration_add_piece_locked(migf, irqs);
	} else {
		vfio_ap_migration_piece_put(irqs);
	}

	migf->end->len = VFIO_AP_STREAM_END_BYTES;
	vfio_ap_stream_encode_end(records, vfio_ap_migration_file_crc(migf),
				  migf->end->data);
	scoped_guard(spinlock, &migf->lock) {
		vfio_ap_migration_add_piece_locked(migf, migf->end);
		migf->complete = true;
	}
	migf->end = NULL;
	wake_up_interruptible_all(&migf->wait);
}

/*
 * What is read next, with a reference, and where in it. Otherwise returns NULL
 * and in *@ret what read() returns.
 */
static struct vfio_ap_migration_piece *
vfio_ap_migration_file_get_piece(struct vfio_ap_migration_file *migf,
				 size_t *off, int *ret)
{
	struct vfio_ap_migration_piece *piece;

	guard(spinlock)(&migf->lock);
	*ret = vfio_ap_migration_file_status_locked(migf);
	if (*ret)
		return NULL;
	if (!migf->unread) {
		*ret = migf->complete ? 0 : -ENOMSG;
		return NULL;
	}

	piece = migf->pieces[migf->at];
	kref_get(&piece->kref);
	*off = migf->off;

	return piece;
}

/*
 * What was copied counts only if the session was still good afterwards, and the
 * piece still stood in the stream: -EAGAIN asks to copy its successor.
 */
static ssize_t vfio_ap_migration_file_advance(struct vfio_ap_migration_file *migf,
					      struct vfio_ap_migration_piece *piece,
					      size_t len)
{
	int ret;

	guard(spinlock)(&migf->lock);
	ret = vfio_ap_migration_file_status_locked(migf);
	if (ret)
		return ret;
	if (migf->pieces[migf->at] != piece)
		return -EAGAIN;

	migf->off += len;
	migf->unread -= len;
	migf->initial -= min(migf->initial, len);
	if (migf->off == piece->len) {
		migf->at++;
		migf->off = 0;
	}

	return len;
}

static ssize_t vfio_ap_migration_read_piece(struct vfio_ap_migration_file *migf,
					    char __user *buf, size_t len)
{
	struct vfio_ap_migration_piece *piece;
	ssize_t done;
	size_t off;
	int ret;

	do {
		piece = vfio_ap_migration_file_get_piece(migf, &off, &ret);
		if (!piece)
			return ret;

		/* Only a reader moves the position, and io_mutex keeps others out. */
		len = min(len, piece->len - off);
		if (copy_to_user(buf, piece->data + off, len))
			done = -EFAULT;
		else
			done = vfio_ap_migration_file_advance(migf, piece, len);
		vfio_ap_migration_piece_put(piece);
	} while (done == -EAGAIN);

	return done;
}

static ssize_t vfio_ap_migration_read_pieces(struct vfio_ap_migration_file *migf,
					     char __user *buf, size_t len)
{
	size_t done = 0;
	ssize_t ret;

	do {
		ret = vfio_ap_migration_read_piece(migf, buf + done, len - done);
		if (ret > 0)
			done += ret;
	} while (ret > 0 && done < len);

	return done ? done : ret;
}

static ssize_t vfio_ap_migration_read(struct file *filp, char __user *buf,
				      size_t len, loff_t *pos)
{
	struct vfio_ap_migration_file *migf = filp->private_data;
	ssize_t ret;

	if (pos)
		return -ESPIPE;

	if (filp->f_flags & O_NONBLOCK) {
		if (!mutex_trylock(&migf->io_mutex))
			return -EAGAIN;
	} else if (mutex_lock_interruptible(&migf->io_mutex)) {
		return -ERESTARTSYS;
	}
	ret = vfio_ap_migration_read_pieces(migf, buf, len);
	mutex_unlock(&migf->io_mutex);

	return ret;
}

static __poll_t vfio_ap_migration_save_poll(struct file *filp,
					    struct poll_table_struct *wait)
{
	struct vfio_ap_migration_file *migf = filp->private_data;

	poll_wait(filp, &migf->wait, wait);

	guard(spinlock)(&migf->lock);
	if (vfio_ap_migration_file_status_locked(migf))
		return EPOLLIN | EPOLLRDNORM | EPOLLERR;

	return migf->unread || migf->complete ? EPOLLIN | EPOLLRDNORM : 0;
}

static __poll_t vfio_ap_migration_resume_poll(struct file *filp,
					      struct poll_table_struct *wait)
{
	struct vfio_ap_migration_file *migf = filp->private_data;

	poll_wait(filp, &migf->wait, wait);

	guard(spinlock)(&migf->lock);
	if (vfio_ap_migration_file_status_locked(migf))
		return EPOLLOUT | EPOLLWRNORM | EPOLLERR;

	return EPOLLOUT | EPOLLWRNORM;
}

static bool vfio_ap_migration_in_precopy(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/*
 * Who opted in hears once that the configuration is sent again, and that all of
 * it is initial data; to others it is dirty data.
 */
static int vfio_ap_migration_fill_info(struct vfio_ap_migration_file *migf,
				       struct vfio_precopy_info *info)
{
	struct vfio_device *vdev;
	int ret;

	guard(mutex)(&matrix_dev->mdevs_lock);
	guard(spinlock)(&migf->lock);

	/* Whatever else has become of the session */
	if (!migf->matrix_mdev ||
	    !vfio_ap_migration_in_precopy(migf->matrix_mdev->mig.state))
		return -EINVAL;
	ret = vfio_ap_migration_file_status_locked(migf);
	if (ret)
		return ret;

	vdev = &migf->matrix_mdev->vdev;
	if (vdev->precopy_info_v2) {
		info->flags = 0;
		/* Even if it was read by now: userspace has to know what it sent. */
		if (migf->renewed) {
			migf->initial = migf->unread;
			info->flags = VFIO_PRECOPY_INFO_REINIT;
		}
		migf->renewed = false;
	}
	info->initial_bytes = migf->initial;
	info->dirty_bytes = migf->unread - migf->initial;

	return 0;
}

/* vfio_check_precopy_ioctl() needs a device, which may be gone by now. */
static long vfio_ap_migration_ioctl(struct file *filp, unsigned int cmd,
				    unsigned long arg)
{
	const size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vfio_ap_migration_file *migf = filp->private_data;
	struct vfio_precopy_info info = {};
	int ret;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;

	ret = vfio_ap_migration_fill_info(migf, &info);
	if (ret)
		return ret;

	return copy_to_user((void __user *)arg, &info, minsz) ? -EFAULT : 0;
}

/* Which of its reasons an errno of the decoder or of a comparison stands for. */
static enum vfio_ap_reason vfio_ap_migration_stream_reason(int error)
{
	switch (error) {
	case -ENXIO:
		return VFIO_AP_REASON_CONFIG;
	case -EXDEV:
		return VFIO_AP_REASON_HARDWARE;
	case -EOPNOTSUPP:
		return VFIO_AP_REASON_VERSION;
	case -ENODATA:
		return VFIO_AP_REASON_TRUNCATED;
	default:
		return VFIO_AP_REASON_MALFORMED;
	}
}

static int vfio_ap_migration_compare_locked(struct vfio_ap_migration_file *migf,
					    unsigned int parts)
{
	return vfio_ap_report_compare_locked(migf->matrix_mdev, parts,
					     &migf->dec->image, &migf->here);
}

/* Keep a row until the end of the stream tells that it arrived as it was sent. */
static int vfio_ap_migration_keep_irq_locked(struct vfio_ap_migration_file *migf)
{
	struct vfio_ap_stream_irq *irqs;
	unsigned int max;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (migf->nr_irqs == migf->max_irqs) {
		max = max(2 * migf->max_irqs, VFIO_AP_MIGRATION_MIN_IRQS);
		irqs = kvrealloc(migf->irqs, array_size(max, sizeof(*irqs)),
				 GFP_KERNEL_ACCOUNT);
		if (!irqs)
			return -ENOMEM;
		migf->irqs = irqs;
		migf->max_irqs = max;
	}
	migf->irqs[migf->nr_irqs++] = migf->dec->irq;

	return 0;
}

static int vfio_ap_migration_receive_status(void *ctx)
{
	return vfio_ap_migration_file_status(ctx);
}

/* Register all interrupts; the lock is dropped meanwhile. */
static int vfio_ap_migration_receive_locked(struct vfio_ap_migration_file *migf)
{
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_irq_receive(migf->matrix_mdev, migf->irqs, migf->nr_irqs,
				  vfio_ap_migration_receive_status, migf);
	if (!ret)
		migf->registered = true;

	return ret;
}

static int vfio_ap_migration_judge_locked(struct vfio_ap_migration_file *migf,
					  enum vfio_ap_stream_event event,
					  enum vfio_ap_reason *reason)
{
	int ret = 0;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	switch (event) {
	case VFIO_AP_STREAM_GOT_CONFIG:
		ret = vfio_ap_migration_compare_locked(migf, VFIO_AP_REPORT_CONFIG);
		*reason = VFIO_AP_REASON_CONFIG;
		break;
	case VFIO_AP_STREAM_GOT_HWINFO:
		ret = vfio_ap_migration_compare_locked(migf, VFIO_AP_REPORT_HWINFO);
		*reason = VFIO_AP_REASON_HARDWARE;
		break;
	case VFIO_AP_STREAM_GOT_IRQ:
		ret = vfio_ap_migration_keep_irq_locked(migf);
		*reason = VFIO_AP_REASON_INTERRUPTS;
		break;
	case VFIO_AP_STREAM_GOT_END:
		ret = vfio_ap_migration_receive_locked(migf);
		*reason = VFIO_AP_REASON_INTERRUPTS;
		break;
	case VFIO_AP_STREAM_MORE:
		break;
	}

	return ret;
}

static int vfio_ap_migration_decode_locked(struct vfio_ap_migration_file *migf,
					   const u8 *data, size_t len,
					   enum vfio_ap_reason *reason)
{
	enum vfio_ap_stream_event event;
	ssize_t used;
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	while (len) {
		used = vfio_ap_stream_decode(migf->dec, data, len, &event);
		if (used < 0) {
			*reason = vfio_ap_migration_stream_reason(used);
			return used;
		}
		ret = vfio_ap_migration_judge_locked(migf, event, reason);
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
	enum vfio_ap_reason reason;
	int ret, status;

	guard(mutex)(&matrix_dev->mdevs_lock);

	ret = vfio_ap_migration_file_status(migf);
	if (ret)
		return ret;

	ret = vfio_ap_migration_decode_locked(migf, data, len, &reason);
	if (!ret)
		return 0;

	/* Whatever else ended the session meanwhile has told so itself. */
	status = vfio_ap_migration_file_status(migf);
	if (status)
		return status;
	vfio_ap_migration_file_fail_locked(migf, reason, ret);

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
	.poll = vfio_ap_migration_save_poll,
	.unlocked_ioctl = vfio_ap_migration_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = vfio_ap_migration_release,
};

static const struct file_operations vfio_ap_migration_resume_fops = {
	.owner = THIS_MODULE,
	.write = vfio_ap_migration_write,
	.poll = vfio_ap_migration_resume_poll,
	.release = vfio_ap_migration_release,
};

static int vfio_ap_migration_alloc_decoder(struct vfio_ap_migration_file *migf)
{
	migf->dec = kzalloc_obj(*migf->dec, GFP_KERNEL_ACCOUNT);
	if (!migf->dec)
		return -ENOMEM;

	vfio_ap_stream_decode_init(migf->dec);
	return 0;
}

static int vfio_ap_migration_alloc_pieces(struct vfio_ap_migration_file *migf,
					  const size_t *sizes, unsigned int nr)
{
	for (; migf->nr < nr; migf->nr++) {
		migf->pieces[migf->nr] =
			vfio_ap_migration_piece_alloc(sizes[migf->nr]);
		if (!migf->pieces[migf->nr])
			return -ENOMEM;
	}

	return 0;
}

static struct vfio_ap_migration_piece *vfio_ap_migration_alloc_pair(void)
{
	const size_t size = VFIO_AP_STREAM_PAIR_BYTES(VFIO_AP_STREAM_MAX_ADAPTERS);

	return vfio_ap_migration_piece_alloc(size);
}

/* Everything that the session will need, before any lock is taken. */
static int vfio_ap_migration_file_reserve(struct vfio_ap_migration_file *migf,
					  enum vfio_device_mig_state state)
{
	static const size_t pieces[] = {
		VFIO_AP_STREAM_HEADER_BYTES,
		VFIO_AP_STREAM_PAIR_BYTES(VFIO_AP_STREAM_MAX_ADAPTERS),
	};

	migf->report = vfio_ap_report_alloc(state == VFIO_DEVICE_STATE_RESUMING);
	if (!migf->report)
		return -ENOMEM;
	if (state == VFIO_DEVICE_STATE_RESUMING)
		return vfio_ap_migration_alloc_decoder(migf);

	migf->spare = vfio_ap_migration_alloc_pair();
	migf->end = vfio_ap_migration_piece_alloc(VFIO_AP_STREAM_END_BYTES);
	if (!migf->spare || !migf->end)
		return -ENOMEM;

	return vfio_ap_migration_alloc_pieces(migf, pieces, ARRAY_SIZE(pieces));
}

static struct vfio_ap_migration_file *
vfio_ap_migration_file_alloc(enum vfio_device_mig_state state)
{
	struct vfio_ap_migration_file *migf;

	migf = kzalloc_obj(*migf, GFP_KERNEL_ACCOUNT);
	if (!migf)
		return NULL;

	kref_init(&migf->kref);
	mutex_init(&migf->io_mutex);
	spin_lock_init(&migf->lock);
	init_waitqueue_head(&migf->wait);
	migf->disabled = true;
	if (vfio_ap_migration_file_reserve(migf, state)) {
		vfio_ap_migration_file_put(migf);
		return NULL;
	}

	return migf;
}

/* A file that no session has yet: reads and writes give -ENODEV. */
static struct file *vfio_ap_migration_file_open(enum vfio_device_mig_state state)
{
	bool save = state != VFIO_DEVICE_STATE_RESUMING;
	struct vfio_ap_migration_file *migf;
	struct file *filp;

	migf = vfio_ap_migration_file_alloc(state);
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
	vfio_ap_report_begin_locked(matrix_mdev, no_free_ptr(migf->report));
	guard(spinlock)(&migf->lock);
	migf->disabled = false;
}

static void vfio_ap_migration_end_locked(struct ap_matrix_mdev *matrix_mdev,
					 enum vfio_ap_reason reason)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!migf)
		return;

	vfio_ap_report_end_locked(matrix_mdev, reason);
	matrix_mdev->mig.file = NULL;
	vfio_ap_migration_file_disable(migf);
	vfio_ap_migration_file_put(migf);
}

/* Why a session of saving ends if userspace leaves its states now. */
static enum vfio_ap_reason
vfio_ap_migration_left_reason(struct vfio_ap_migration_file *migf)
{
	if (!migf)
		return VFIO_AP_REASON_NONE;

	return vfio_ap_migration_file_drained(migf) ? VFIO_AP_REASON_COMPLETED :
						      VFIO_AP_REASON_LEFT;
}

static bool vfio_ap_migration_guest_protected(struct kvm *kvm)
{
	KUNIT_STATIC_STUB_REDIRECT(vfio_ap_migration_guest_protected, kvm);

	/* For an answer that stays true. */
	lockdep_assert_held(&kvm->lock);
	return kvm_s390_pv_is_protected(kvm);
}

static bool vfio_ap_migration_host_protected(void)
{
	KUNIT_STATIC_STUB_REDIRECT(vfio_ap_migration_host_protected);

	return is_prot_virt_guest();
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

	if (!matrix_mdev->kvm ||
	    vfio_ap_migration_guest_protected(matrix_mdev->kvm))
		return -EOPNOTSUPP;

	return matrix_mdev->withdrawn ? -EBUSY : 0;
}

/*
 * One queue stands for its adapter: what was kept with it is the card's. Mostly
 * the first one that is looked at.
 */
static struct vfio_ap_queue *
vfio_ap_migration_find_queue(struct ap_matrix_mdev *matrix_mdev, unsigned long apid)
{
	struct vfio_ap_queue *q;
	unsigned long apqi;

	for_each_set_bit_inv(apqi, matrix_mdev->shadow_apcb.aqm, AP_DOMAINS) {
		q = vfio_ap_mdev_get_queue(matrix_mdev, AP_MKQID(apid, apqi));
		if (vfio_ap_queue_passable(q))
			return q;
	}

	return NULL;
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
	struct vfio_ap_stream_adapter *row = image->adapter;
	struct vfio_ap_queue *q;
	unsigned long apid;
	int ret;

	ret = vfio_ap_migration_check_guest_locked(matrix_mdev);
	if (ret)
		return ret;

	/* Both are bit strings with bit 0 in front: s390 is big-endian. */
	memcpy(image->config.apm, apcb->apm, sizeof(image->config.apm));
	memcpy(image->config.aqm, apcb->aqm, sizeof(image->config.aqm));
	memcpy(image->config.adm, apcb->adm, sizeof(image->config.adm));

	for_each_set_bit_inv(apid, apcb->apm, AP_DEVICES) {
		q = vfio_ap_migration_find_queue(matrix_mdev, apid);
		if (!q) {
			dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
					       "adapter %02lx has no usable queue\n",
					       apid);
			return -ENXIO;
		}
		row->apid = apid;
		row->info = q->hwinfo;
		row++;
	}
	image->nr = row - image->adapter;

	return 0;
}

/*
 * Whether a session may begin, or go on in STOP_COPY. Asked in the arc and, if
 * others come first, before those, so that a refused request has changed nothing.
 */
static int vfio_ap_migration_check_locked(struct ap_matrix_mdev *matrix_mdev)
{
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_policy_check_locked(matrix_mdev);
	if (ret)
		return ret;

	if (vfio_ap_migration_hotplug_pending(matrix_mdev))
		return -EAGAIN;

	return vfio_ap_migration_check_guest_locked(matrix_mdev);
}

static int vfio_ap_migration_may_begin_locked(struct ap_matrix_mdev *matrix_mdev,
					      struct vfio_ap_stream_image *image)
{
	int ret;

	ret = vfio_ap_migration_check_locked(matrix_mdev);
	if (ret)
		return ret;

	return vfio_ap_migration_image_locked(matrix_mdev, image);
}

static int vfio_ap_migration_may_complete_locked(struct ap_matrix_mdev *matrix_mdev)
{
	int ret;

	ret = vfio_ap_migration_file_status(matrix_mdev->mig.file);
	if (ret)
		return ret;

	return vfio_ap_migration_check_locked(matrix_mdev);
}

/* Send the guest's configuration again if it is not what was sent last. */
static int vfio_ap_migration_publish_locked(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	ret = vfio_ap_migration_image_locked(matrix_mdev, &migf->here);
	if (ret)
		return ret;

	if (!migf->spare)
		migf->spare = vfio_ap_migration_alloc_pair();
	if (!migf->spare)
		return -ENOMEM;

	migf->spare->len = VFIO_AP_STREAM_PAIR_BYTES(migf->here.nr);
	vfio_ap_stream_encode_pair(&migf->here, migf->spare->data);
	ret = vfio_ap_migration_file_publish(migf);

	/* Without memory now, the next change tries again. */
	if (!migf->spare)
		migf->spare = vfio_ap_migration_alloc_pair();

	return ret;
}

/**
 * vfio_ap_migration_config_changed - the guest's AP configuration has changed
 * @matrix_mdev: the mediated device
 *
 * For changes that cannot be refused. In PRE_COPY the configuration is sent
 * again. Any other open session fails from here on; the state stays, as VFIO
 * wants no state to change by itself.
 *
 * Context: get_update_locks_for_mdev() was called.
 */
void vfio_ap_migration_config_changed(struct ap_matrix_mdev *matrix_mdev)
{
	enum vfio_ap_reason reason = VFIO_AP_REASON_HOST;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (!matrix_mdev->mig.file ||
	    vfio_ap_migration_file_status(matrix_mdev->mig.file))
		return;

	if (vfio_ap_migration_in_precopy(matrix_mdev->mig.state)) {
		switch (vfio_ap_migration_publish_locked(matrix_mdev)) {
		case 0:
			return;
		case -E2BIG:
			reason = VFIO_AP_REASON_TOO_OFTEN;
			break;
		}
	}
	if (matrix_mdev->withdrawn)
		reason = VFIO_AP_REASON_REQUESTED;

	vfio_ap_migration_file_fail_locked(matrix_mdev->mig.file, reason,
					   -ECANCELED);
}

/* Encode what a session of saving begins with; its file is not in use yet. */
static void vfio_ap_migration_file_fill(struct vfio_ap_migration_file *migf)
{
	struct vfio_ap_migration_piece **pieces = migf->pieces;
	unsigned int i;

	pieces[0]->len = VFIO_AP_STREAM_HEADER_BYTES;
	vfio_ap_stream_encode_header(pieces[0]->data);
	pieces[1]->len = VFIO_AP_STREAM_PAIR_BYTES(migf->here.nr);
	vfio_ap_stream_encode_pair(&migf->here, pieces[1]->data);

	for (i = 0; i < migf->nr; i++)
		migf->unread += pieces[i]->len;
	migf->initial = migf->unread;
}

/* What is saved or, to resume, dropped when the session begins */
static int vfio_ap_migration_prepare_file_locked(struct ap_matrix_mdev *matrix_mdev,
						 struct vfio_ap_migration_file *migf,
						 enum vfio_device_mig_state state)
{
	struct vfio_ap_migration_piece *irqs;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	if (state == VFIO_DEVICE_STATE_RESUMING) {
		vfio_ap_irq_forget(matrix_mdev);
		return 0;
	}

	vfio_ap_migration_file_fill(migf);
	if (state != VFIO_DEVICE_STATE_STOP_COPY)
		return 0;

	irqs = vfio_ap_migration_alloc_irqs(matrix_mdev);
	if (!irqs)
		return -ENOMEM;
	vfio_ap_migration_file_complete(migf, irqs);

	return 0;
}

/* Arcs into PRE_COPY, STOP_COPY and RESUMING that open a session */
static int vfio_ap_migration_begin(struct ap_matrix_mdev *matrix_mdev,
				   struct vfio_ap_migration_file *migf,
				   enum vfio_device_mig_state state)
{
	int ret;

	get_update_locks_for_mdev(matrix_mdev);

	ret = vfio_ap_migration_may_begin_locked(matrix_mdev, &migf->here);
	if (ret)
		goto out;

	ret = vfio_ap_migration_prepare_file_locked(matrix_mdev, migf, state);
	if (ret)
		goto out;

	vfio_ap_migration_begin_locked(matrix_mdev, migf);
	vfio_ap_migration_set_locked(matrix_mdev, state);
out:
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

static int vfio_ap_migration_complete(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_piece *irqs;
	int ret;

	get_update_locks_for_mdev(matrix_mdev);

	ret = vfio_ap_migration_may_complete_locked(matrix_mdev);
	if (ret)
		goto out;

	irqs = vfio_ap_migration_alloc_irqs(matrix_mdev);
	if (!irqs) {
		ret = -ENOMEM;
		goto out;
	}

	vfio_ap_migration_file_complete(matrix_mdev->mig.file, irqs);
	vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_STOP_COPY);
out:
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

/* PRE_COPY->STOP_COPY; on failure the device stays in PRE_COPY */
static int vfio_ap_migration_finish_precopy(struct ap_matrix_mdev *matrix_mdev)
{
	int ret;

	vfio_ap_irq_quiesce(matrix_mdev);
	ret = vfio_ap_migration_complete(matrix_mdev);
	if (ret)
		vfio_ap_irq_restore(matrix_mdev);

	return ret;
}

static int vfio_ap_migration_refuse_resume_locked(struct ap_matrix_mdev *matrix_mdev,
						  enum vfio_ap_reason reason,
						  int error)
{
	vfio_ap_report_fail_locked(matrix_mdev, reason, error);
	return error;
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
	/* The write() of the end may be under way. */
	if (!ret && !migf->registered)
		ret = -ENODATA;
	if (ret)
		return vfio_ap_migration_refuse_resume_locked(matrix_mdev,
							      VFIO_AP_REASON_TRUNCATED,
							      ret);

	ret = vfio_ap_migration_image_locked(matrix_mdev, &migf->here);
	if (ret)
		return vfio_ap_migration_refuse_resume_locked(matrix_mdev,
							      VFIO_AP_REASON_GUEST,
							      ret);

	ret = vfio_ap_report_compare_locked(matrix_mdev,
					    VFIO_AP_REPORT_CONFIG |
					    VFIO_AP_REPORT_HWINFO,
					    image, &migf->here);
	if (ret)
		return vfio_ap_migration_refuse_resume_locked(matrix_mdev,
							      vfio_ap_migration_stream_reason(ret),
							      ret);

	return 0;
}

/* RESUMING->STOP; on failure the device stays in RESUMING */
static int vfio_ap_migration_finish_resume(struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_migration_file *migf = matrix_mdev->mig.file;
	int ret;

	get_update_locks_for_mdev(matrix_mdev);

	ret = vfio_ap_migration_recheck_locked(matrix_mdev, migf);
	if (ret)
		goto out;

	vfio_ap_migration_end_locked(matrix_mdev, VFIO_AP_REASON_COMPLETED);
	matrix_mdev->mig.resumed = true;
	vfio_ap_migration_set_locked(matrix_mdev, VFIO_DEVICE_STATE_STOP);
out:
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

/* Arcs that never fail: the state alone changes */
static int vfio_ap_migration_stay(struct ap_matrix_mdev *matrix_mdev,
				  enum vfio_device_mig_state state)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_migration_set_locked(matrix_mdev, state);

	return 0;
}

/* Running->stop: never fails, and nothing interrupts the guest any more */
static int vfio_ap_migration_stop(struct ap_matrix_mdev *matrix_mdev,
				  enum vfio_device_mig_state state)
{
	vfio_ap_irq_quiesce(matrix_mdev);

	return vfio_ap_migration_stay(matrix_mdev, state);
}

/* Stop->running: never fails, and the guest is interrupted again */
static int vfio_ap_migration_run(struct ap_matrix_mdev *matrix_mdev,
				 enum vfio_device_mig_state state)
{
	vfio_ap_irq_restore(matrix_mdev);

	return vfio_ap_migration_stay(matrix_mdev, state);
}

/* Arcs that never fail: a session of saving ends, if there is one */
static int vfio_ap_migration_leave(struct ap_matrix_mdev *matrix_mdev,
				   enum vfio_device_mig_state state)
{
	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_migration_end_locked(matrix_mdev,
				     vfio_ap_migration_left_reason(matrix_mdev->mig.file));
	vfio_ap_migration_set_locked(matrix_mdev, state);

	return 0;
}

static int vfio_ap_migration_arc(struct ap_matrix_mdev *matrix_mdev,
				 enum vfio_device_mig_state cur,
				 enum vfio_device_mig_state new,
				 struct vfio_ap_migration_file *migf)
{
	/* There is no peer-to-peer DMA that the P2P states would have to end. */
	if ((cur == VFIO_DEVICE_STATE_RUNNING && new == VFIO_DEVICE_STATE_RUNNING_P2P) ||
	    (cur == VFIO_DEVICE_STATE_RUNNING_P2P && new == VFIO_DEVICE_STATE_RUNNING) ||
	    (cur == VFIO_DEVICE_STATE_PRE_COPY && new == VFIO_DEVICE_STATE_PRE_COPY_P2P) ||
	    (cur == VFIO_DEVICE_STATE_PRE_COPY_P2P && new == VFIO_DEVICE_STATE_PRE_COPY))
		return vfio_ap_migration_stay(matrix_mdev, new);

	if (cur == VFIO_DEVICE_STATE_RUNNING_P2P && new == VFIO_DEVICE_STATE_STOP)
		return vfio_ap_migration_stop(matrix_mdev, new);

	if (cur == VFIO_DEVICE_STATE_STOP && new == VFIO_DEVICE_STATE_RUNNING_P2P)
		return vfio_ap_migration_run(matrix_mdev, new);

	if ((cur == VFIO_DEVICE_STATE_PRE_COPY && new == VFIO_DEVICE_STATE_RUNNING) ||
	    (cur == VFIO_DEVICE_STATE_PRE_COPY_P2P && new == VFIO_DEVICE_STATE_RUNNING_P2P) ||
	    (cur == VFIO_DEVICE_STATE_STOP_COPY && new == VFIO_DEVICE_STATE_STOP))
		return vfio_ap_migration_leave(matrix_mdev, new);

	/* Arcs that begin a session. */
	if ((cur == VFIO_DEVICE_STATE_RUNNING && new == VFIO_DEVICE_STATE_PRE_COPY) ||
	    (cur == VFIO_DEVICE_STATE_RUNNING_P2P && new == VFIO_DEVICE_STATE_PRE_COPY_P2P) ||
	    (cur == VFIO_DEVICE_STATE_STOP && new == VFIO_DEVICE_STATE_STOP_COPY) ||
	    (cur == VFIO_DEVICE_STATE_STOP && new == VFIO_DEVICE_STATE_RESUMING))
		return vfio_ap_migration_begin(matrix_mdev, migf, new);

	if (cur == VFIO_DEVICE_STATE_PRE_COPY_P2P && new == VFIO_DEVICE_STATE_STOP_COPY)
		return vfio_ap_migration_finish_precopy(matrix_mdev);

	if (cur == VFIO_DEVICE_STATE_RESUMING && new == VFIO_DEVICE_STATE_STOP)
		return vfio_ap_migration_finish_resume(matrix_mdev);

	/* vfio_mig_get_next_state() does not use arcs other than the above. */
	WARN_ON(true);
	return -EINVAL;
}

static int vfio_ap_migration_step(struct ap_matrix_mdev *matrix_mdev,
				  enum vfio_device_mig_state new,
				  struct vfio_ap_migration_file *migf)
{
	enum vfio_device_mig_state cur = matrix_mdev->mig.state;
	u64 began = ktime_get_ns();
	int ret;

	lockdep_assert_held(&matrix_mdev->mig.mutex);

	ret = vfio_ap_migration_arc(matrix_mdev, cur, new, migf);
	trace_vfio_ap_arc(dev_name(mdev_dev(matrix_mdev->mdev)), cur, new, ret,
			  ktime_get_ns() - began);

	return ret;
}

/*
 * A file, if the session that comes with it may begin. An arc that is the only one
 * finds that out by itself.
 */
static struct file *vfio_ap_migration_prepare_session(struct ap_matrix_mdev *matrix_mdev,
						      enum vfio_device_mig_state state,
						      bool only_arc)
{
	struct vfio_ap_migration_file *migf;
	struct file *filp;
	int ret;

	filp = vfio_ap_migration_file_open(state);
	if (IS_ERR(filp) || only_arc)
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

/* Whether PRE_COPY may go over into STOP_COPY. */
static int vfio_ap_migration_prepare_complete(struct ap_matrix_mdev *matrix_mdev)
{
	int ret;

	get_update_locks_for_mdev(matrix_mdev);
	ret = vfio_ap_migration_may_complete_locked(matrix_mdev);
	release_update_locks_for_mdev(matrix_mdev);

	return ret;
}

/*
 * Everything that can refuse @state, before any arc that could have to be taken
 * back. Returns the file of the session that @state will begin, NULL if it begins
 * none.
 */
static struct file *vfio_ap_migration_prepare(struct ap_matrix_mdev *matrix_mdev,
					      enum vfio_device_mig_state state,
					      bool only_arc)
{
	bool precopy = vfio_ap_migration_in_precopy(matrix_mdev->mig.state);

	switch (state) {
	case VFIO_DEVICE_STATE_PRE_COPY:
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		if (precopy)
			return NULL;
		break;
	case VFIO_DEVICE_STATE_STOP_COPY:
		if (precopy)
			return ERR_PTR(vfio_ap_migration_prepare_complete(matrix_mdev));
		break;
	case VFIO_DEVICE_STATE_RESUMING:
		break;
	default:
		return NULL;
	}

	return vfio_ap_migration_prepare_session(matrix_mdev, state, only_arc);
}

static int vfio_ap_migration_walk(struct ap_matrix_mdev *matrix_mdev,
				  enum vfio_device_mig_state new_state,
				  struct vfio_ap_migration_file *migf)
{
	enum vfio_device_mig_state next_state;
	int ret;

	while (matrix_mdev->mig.state != new_state) {
		ret = vfio_mig_get_next_state(&matrix_mdev->vdev,
					      matrix_mdev->mig.state, new_state,
					      &next_state);
		if (ret)
			return ret;
		ret = vfio_ap_migration_step(matrix_mdev, next_state, migf);
		if (ret)
			return ret;
	}

	return 0;
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

	/* Nothing leads there, and vfio_mig_get_next_state() would warn. */
	if (matrix_mdev->mig.state == VFIO_DEVICE_STATE_ERROR)
		return ERR_PTR(-EIO);

	/* Whether there is a way at all. */
	ret = vfio_mig_get_next_state(vdev, matrix_mdev->mig.state, new_state,
				      &next_state);
	if (ret)
		return ERR_PTR(ret);

	filp = vfio_ap_migration_prepare(matrix_mdev, new_state,
					 next_state == new_state);
	if (IS_ERR(filp))
		return filp;

	ret = vfio_ap_migration_walk(matrix_mdev, new_state,
				     filp ? filp->private_data : NULL);
	if (ret) {
		if (filp)
			fput(filp);
		return ERR_PTR(ret);
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
	unsigned int adapters, rows;

	/* Each word is read once; a stale one makes an estimate that is stale. */
	adapters = data_race(bitmap_weight(matrix_mdev->shadow_apcb.apm,
					   AP_DEVICES));
	*stop_copy_length = VFIO_AP_STREAM_BYTES(adapters);
	rows = vfio_ap_irq_nr_rows(matrix_mdev);
	if (rows)
		*stop_copy_length += VFIO_AP_STREAM_IRQ_BYTES(rows);
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

	if (vfio_ap_migration_host_protected())
		return;

	matrix_mdev->vdev.migration_flags = VFIO_MIGRATION_STOP_COPY |
					    VFIO_MIGRATION_P2P |
					    VFIO_MIGRATION_PRE_COPY;
	matrix_mdev->vdev.mig_ops = &vfio_ap_migration_ops;
}

/**
 * vfio_ap_migration_exit - undo vfio_ap_migration_init()
 * @matrix_mdev: the mediated device, of which nobody has a reference any more
 */
void vfio_ap_migration_exit(struct ap_matrix_mdev *matrix_mdev)
{
	vfio_ap_report_free(matrix_mdev->mig.report);
	mutex_destroy(&matrix_mdev->mig.mutex);
}

/**
 * vfio_ap_migration_reset - end the session and go to RUNNING
 * @matrix_mdev: the mediated device
 * @reason: why the session ends
 *
 * For VFIO_DEVICE_RESET and close. Never fails. PQAP(AQIC) of the guest is not
 * executed afterwards, until vfio_ap_irq_release(). Only close ends DMA logging.
 *
 * Context: matrix_mdev->mig.mutex is held. Takes matrix_dev->mdevs_lock.
 */
void vfio_ap_migration_reset(struct ap_matrix_mdev *matrix_mdev,
			     enum vfio_ap_reason reason)
{
	lockdep_assert_held(&matrix_mdev->mig.mutex);

	guard(mutex)(&matrix_dev->mdevs_lock);
	vfio_ap_migration_end_locked(matrix_mdev, reason);
	/* Userspace asks for reports before, during and after a reset of the guest. */
	if (reason != VFIO_AP_REASON_RESET)
		vfio_ap_log_reset(matrix_mdev);
	vfio_ap_irq_hold(matrix_mdev);
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
	vfio_ap_migration_reset(matrix_mdev, VFIO_AP_REASON_CLOSED);
	vfio_ap_irq_release(matrix_mdev);
}
