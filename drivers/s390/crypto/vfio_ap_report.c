// SPDX-License-Identifier: GPL-2.0+
/*
 * What a vfio-ap device tells of its last migration session
 *
 * An administrator who asks why a guest did not migrate finds the answer on
 * either host: in the kernel log, where lines may be missing because userspace
 * can provoke them and so they are rate-limited; as tracepoints; and complete
 * in debugfs, in the file migration/vfio_ap/report of the device, until the
 * next session begins.
 *
 * The differences are not kept as lines, which could be thousands, but as the
 * two images of which the lines are made when the report is read.
 */

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/hashtable.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/vfio.h>

#include "vfio_ap_private.h"
#include "vfio_ap_report.h"
#include "vfio_ap_stream.h"
#include "vfio_ap_trace.h"

/**
 * struct vfio_ap_report - the report on one session
 *
 * Guarded by matrix_dev->mdevs_lock once the session has begun.
 *
 * @resuming:	the session is one of RESUMING, not of PRE_COPY or STOP_COPY
 * @open:	it has not ended yet
 * @reason:	why it failed or ended
 * @error:	0, or the negative errno with which it failed
 * @published:	how often PRE_COPY had to send the configuration again
 * @tgid:	the process that opened it, as the initial namespace knows it
 * @comm:	its name
 * @differences: number of differences
 * @parts:	VFIO_AP_REPORT_*: what of @source and @here was compared and differs
 * @source:	the source's image
 * @here:	this host's
 */
struct vfio_ap_report {
	bool resuming;
	bool open;
	enum vfio_ap_reason reason;
	int error;
	unsigned int published;
	pid_t tgid;
	char comm[TASK_COMM_LEN];
	unsigned int differences;
	unsigned int parts;
	struct vfio_ap_stream_image source;
	struct vfio_ap_stream_image here;
};

static const char *vfio_ap_reason_text(enum vfio_ap_reason reason)
{
	static const char * const texts[] = {
		[VFIO_AP_REASON_NONE]	   = "-",
		[VFIO_AP_REASON_COMPLETED] = "completed",
		[VFIO_AP_REASON_LEFT]	   = "left before the end of the stream",
		[VFIO_AP_REASON_RESET]	   = "device reset",
		[VFIO_AP_REASON_CLOSED]	   = "device closed",
		[VFIO_AP_REASON_CONFIG]	   = "the configurations differ",
		[VFIO_AP_REASON_HARDWARE]  = "the hardware differs",
		[VFIO_AP_REASON_MALFORMED] = "the stream is malformed",
		[VFIO_AP_REASON_VERSION]   = "the stream is of an unknown version",
		[VFIO_AP_REASON_TRUNCATED] = "the stream is truncated",
		[VFIO_AP_REASON_GUEST]	   = "the guest can not migrate",
		[VFIO_AP_REASON_HOST]	   = "the host changed the AP configuration",
		[VFIO_AP_REASON_TOO_OFTEN] = "the host changed the AP configuration too often",
		[VFIO_AP_REASON_INTERRUPTS] = "the guest's interrupts can not be registered",
		[VFIO_AP_REASON_REQUESTED] = "the device was requested back",
	};

	return texts[reason];
}

static const char *vfio_ap_report_kind(const struct vfio_ap_report *report)
{
	return report->resuming ? "resuming" : "saving";
}

/**
 * vfio_ap_report_alloc - make the report on a session that is to begin
 * @resuming: whether it is one of RESUMING
 *
 * Names the calling process.
 *
 * Return: the report, or NULL without memory.
 */
struct vfio_ap_report *vfio_ap_report_alloc(bool resuming)
{
	struct vfio_ap_report *report;

	report = kvzalloc_obj(*report, GFP_KERNEL_ACCOUNT);
	if (!report)
		return NULL;

	report->resuming = resuming;
	report->tgid = task_tgid_nr(current);
	get_task_comm(report->comm, current->group_leader);

	return report;
}

/**
 * vfio_ap_report_free - free a report
 * @report: the report or NULL
 */
void vfio_ap_report_free(struct vfio_ap_report *report)
{
	kvfree(report);
}

/**
 * vfio_ap_report_begin_locked - a session begins
 * @matrix_mdev: the mediated device; its last report is freed
 * @report: the report on the session
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_report_begin_locked(struct ap_matrix_mdev *matrix_mdev,
				 struct vfio_ap_report *report)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	vfio_ap_report_free(matrix_mdev->mig.report);
	matrix_mdev->mig.report = report;
	report->open = true;
	trace_vfio_ap_session_open(dev_name(mdev_dev(matrix_mdev->mdev)),
				   vfio_ap_report_kind(report));
}

/**
 * vfio_ap_report_fail_locked - tell what is wrong with the open session
 * @matrix_mdev: the mediated device, with an open session
 * @reason: what is wrong
 * @error: the negative errno that its user is given
 *
 * The last failure counts: one that is final leaves no room for another, and
 * what could still be mended may be followed by one that can not.
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_report_fail_locked(struct ap_matrix_mdev *matrix_mdev,
				enum vfio_ap_reason reason, int error)
{
	struct vfio_ap_report *report = matrix_mdev->mig.report;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	report->reason = reason;
	report->error = error;
	dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
			       "migration failed: %s (%d)\n",
			       vfio_ap_reason_text(reason), error);
}

/**
 * vfio_ap_report_end_locked - the open session ends
 * @matrix_mdev: the mediated device, with an open session
 * @reason: why; a failure that was told before it counts more
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_report_end_locked(struct ap_matrix_mdev *matrix_mdev,
			       enum vfio_ap_reason reason)
{
	struct vfio_ap_report *report = matrix_mdev->mig.report;
	const char *name = dev_name(mdev_dev(matrix_mdev->mdev));

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	report->open = false;
	if (reason == VFIO_AP_REASON_COMPLETED)
		report->error = 0;
	if (!report->error)
		report->reason = reason;
	if (!report->error && reason != VFIO_AP_REASON_COMPLETED)
		dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev),
				       "migration ended: %s\n",
				       vfio_ap_reason_text(reason));
	trace_vfio_ap_session_end(name, vfio_ap_report_kind(report),
				  vfio_ap_reason_text(report->reason),
				  report->error);
}

/**
 * vfio_ap_report_published_locked - PRE_COPY sends the configuration again
 * @matrix_mdev: the mediated device, in PRE_COPY
 *
 * Context: matrix_dev->mdevs_lock is held.
 */
void vfio_ap_report_published_locked(struct ap_matrix_mdev *matrix_mdev)
{
	lockdep_assert_held(&matrix_dev->mdevs_lock);

	matrix_mdev->mig.report->published++;
}

static void vfio_ap_report_difference(void *ctx,
				      const struct vfio_ap_stream_diff *diff)
{
	struct ap_matrix_mdev *matrix_mdev = ctx;
	char line[VFIO_AP_STREAM_DIFF_CHARS];

	matrix_mdev->mig.report->differences++;
	trace_vfio_ap_difference(dev_name(mdev_dev(matrix_mdev->mdev)), diff);
	vfio_ap_stream_diff_format(diff, line, sizeof(line));
	dev_notice_ratelimited(mdev_dev(matrix_mdev->mdev), "%s\n", line);
}

static int vfio_ap_report_compare(unsigned int parts,
				  const struct vfio_ap_stream_image *source,
				  const struct vfio_ap_stream_image *here,
				  vfio_ap_stream_diff_fn report, void *ctx)
{
	int ret = 0;

	if (parts & VFIO_AP_REPORT_CONFIG)
		ret = vfio_ap_stream_compare_config(source, here, report, ctx);
	if (!ret && parts & VFIO_AP_REPORT_HWINFO)
		ret = vfio_ap_stream_compare_hwinfo(source, here, report, ctx);

	return ret;
}

/**
 * vfio_ap_report_compare_locked - compare two images and report what differs
 * @matrix_mdev: the mediated device, with an open session of RESUMING
 * @parts: VFIO_AP_REPORT_CONFIG, VFIO_AP_REPORT_HWINFO or both. The latter is
 *	for images whose configurations are equal
 * @source: the image from the stream
 * @here: the image of this host's guest
 *
 * Context: matrix_dev->mdevs_lock is held.
 * Return: 0; -ENXIO if the configurations differ; -EXDEV if the hardware does.
 */
int vfio_ap_report_compare_locked(struct ap_matrix_mdev *matrix_mdev,
				  unsigned int parts,
				  const struct vfio_ap_stream_image *source,
				  const struct vfio_ap_stream_image *here)
{
	struct vfio_ap_report *report = matrix_mdev->mig.report;
	int ret;

	lockdep_assert_held(&matrix_dev->mdevs_lock);

	report->differences = 0;
	report->parts = 0;
	ret = vfio_ap_report_compare(parts, source, here,
				     vfio_ap_report_difference, matrix_mdev);
	if (ret) {
		report->parts = parts;
		report->source = *source;
		report->here = *here;
	}

	return ret;
}

static void vfio_ap_report_print(void *ctx,
				 const struct vfio_ap_stream_diff *diff)
{
	char line[VFIO_AP_STREAM_DIFF_CHARS];

	vfio_ap_stream_diff_format(diff, line, sizeof(line));
	seq_printf(ctx, "%s\n", line);
}

/* The queues whose interrupts were not switched on again, and why. */
static void vfio_ap_report_print_queues(struct seq_file *seq,
					struct ap_matrix_mdev *matrix_mdev)
{
	struct vfio_ap_queue *q;
	int bucket;

	hash_for_each(matrix_mdev->qtable.queues, bucket, q, mdev_qnode) {
		if (!q->irq_lost)
			continue;
		seq_printf(seq, "queue %02x.%04x interrupts not restored: ",
			   AP_QID_CARD(q->apqn), AP_QID_QUEUE(q->apqn));
		if (q->irq_lost == VFIO_AP_IRQ_UNMAPPED)
			seq_puts(seq, "unmapped\n");
		else
			seq_printf(seq, "response code %02x\n", q->irq_lost);
	}
}

static int vfio_ap_report_show(struct seq_file *seq, void *unused)
{
	struct ap_matrix_mdev *matrix_mdev = seq->private;
	struct vfio_ap_report *report;

	guard(mutex)(&matrix_dev->mdevs_lock);

	report = matrix_mdev->mig.report;
	if (!report) {
		seq_puts(seq, "session: none\n");
		return 0;
	}

	seq_printf(seq, "session: %s\n", vfio_ap_report_kind(report));
	seq_printf(seq, "opened by: %s[%d]\n", report->comm, report->tgid);
	seq_printf(seq, "status: %s\n", report->open ? "open" : "ended");
	seq_printf(seq, "reason: %s\n", vfio_ap_reason_text(report->reason));
	seq_printf(seq, "error: %d\n", report->error);
	if (!report->resuming)
		seq_printf(seq, "published: %u\n", report->published);
	seq_printf(seq, "differences: %u\n", report->differences);
	vfio_ap_report_compare(report->parts, &report->source, &report->here,
			       vfio_ap_report_print, seq);
	vfio_ap_report_print_queues(seq, matrix_mdev);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vfio_ap_report);

/**
 * vfio_ap_report_debugfs_init - make the report's file
 * @matrix_mdev: the mediated device, registered with VFIO
 *
 * VFIO has made the directory above it, and removes both when the device is
 * unregistered.
 */
void vfio_ap_report_debugfs_init(struct ap_matrix_mdev *matrix_mdev)
{
	struct dentry *migration, *dir;

	if (!IS_ENABLED(CONFIG_VFIO_DEBUGFS) || !matrix_mdev->vdev.mig_ops)
		return;

	migration = debugfs_lookup("migration", matrix_mdev->vdev.debug_root);
	if (!migration)
		return;

	dir = debugfs_create_dir("vfio_ap", migration);
	debugfs_create_file("report", 0400, dir, matrix_mdev,
			    &vfio_ap_report_fops);
	dput(migration);
}
