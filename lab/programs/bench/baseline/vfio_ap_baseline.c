// SPDX-License-Identifier: GPL-2.0
/*
 * The baseline of `make bench`: the straightforward design
 *
 * The straightforward design describes each queue in 16 bytes and asks the
 * machine about it with one PQAP(TAPQ), builds its state anew at each read(), and
 * compares each queue at the destination with the result of PQAP(TAPQ) there.
 *
 * It also executes PQAP alone, so that its part of other figures is known.
 *
 * In debugfs, vfio_ap_baseline/:
 *	state	read: the state of all queues. write: compare it with the local queues
 *	tapq1	write: one PQAP(TAPQ) for each queue
 *	tapq2	write: two. The difference is the time of the instruction itself
 *	aqic1, aqic2	the same with PQAP(AQIC) that disables interrupts
 *	zapq1, zapq2	the same with PQAP(ZAPQ)
 *
 * The queues are those of @adapters and @domains, and must not be in use.
 */

#include <linux/array_size.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/ap.h>

/* The 16 bytes that are sent for a queue */
struct baseline_queue {
	__be16 apid;
	__be16 domain;
	__be32 reserved;
	__be64 info;
};

static unsigned int adapters = 1;
module_param(adapters, uint, 0600);
MODULE_PARM_DESC(adapters, "Adapters 0 to this number are used");

static unsigned int domains = 1;
module_param(domains, uint, 0600);
MODULE_PARM_DESC(domains, "Domains 0 to this number are used");

static DEFINE_MUTEX(baseline_mutex);
static struct dentry *baseline_dir;

static size_t baseline_size(void)
{
	return (size_t)adapters * domains * sizeof(struct baseline_queue);
}

static u64 baseline_tapq(int apqn)
{
	struct ap_tapq_hwinfo info = {};

	ap_tapq(apqn, &info);
	return info.value;
}

static void baseline_build(struct baseline_queue *q)
{
	unsigned int apid, domain;

	for (apid = 0; apid < adapters; apid++) {
		for (domain = 0; domain < domains; domain++, q++) {
			q->apid = cpu_to_be16(apid);
			q->domain = cpu_to_be16(domain);
			q->reserved = 0;
			q->info = cpu_to_be64(baseline_tapq(AP_MKQID(apid, domain)));
		}
	}
}

static int baseline_compare(const struct baseline_queue *q, size_t nr)
{
	for (; nr; nr--, q++) {
		if (be16_to_cpu(q->apid) >= adapters || be16_to_cpu(q->domain) >= domains)
			return -ENXIO;
		if (be64_to_cpu(q->info) !=
		    baseline_tapq(AP_MKQID(be16_to_cpu(q->apid), be16_to_cpu(q->domain))))
			return -EXDEV;
	}

	return 0;
}

static ssize_t baseline_read(struct file *filp, char __user *buf, size_t len,
			     loff_t *pos)
{
	struct baseline_queue *state __free(kvfree) = NULL;

	guard(mutex)(&baseline_mutex);
	state = kvmalloc(baseline_size(), GFP_KERNEL);
	if (!state)
		return -ENOMEM;
	baseline_build(state);

	return simple_read_from_buffer(buf, len, pos, state, baseline_size());
}

static ssize_t baseline_write(struct file *filp, const char __user *buf, size_t len,
			      loff_t *pos)
{
	struct baseline_queue *state __free(kvfree) = NULL;
	int ret;

	guard(mutex)(&baseline_mutex);
	if (len != baseline_size())
		return -EINVAL;
	state = kvmalloc(len, GFP_KERNEL);
	if (!state)
		return -ENOMEM;
	if (copy_from_user(state, buf, len))
		return -EFAULT;
	ret = baseline_compare(state, len / sizeof(*state));

	return ret ? ret : len;
}

static const struct file_operations baseline_state_fops = {
	.owner = THIS_MODULE,
	.read = baseline_read,
	.write = baseline_write,
};

/* Function codes of PQAP in general register 0 */
#define BASELINE_TAPQ	0
#define BASELINE_ZAPQ	2
#define BASELINE_AQIC	3

/* PQAP, @nr times without anything in between */
static void baseline_pqap(unsigned int apqn, unsigned int function, unsigned int nr)
{
	asm volatile(
		"	lgr	0,%[gr0]\n"
		"	lghi	2,0\n"
		"0:	lghi	1,0\n"
		"	.insn	rre,0xb2af0000,0,0\n"
		"	brct	%[nr],0b\n"
		: [nr] "+d" (nr)
		: [gr0] "d" ((unsigned long)function << 24 | apqn)
		: "cc", "0", "1", "2");
}

/**
 * struct baseline_action - a debugfs file and its action on each queue
 * @name: of the file that does it
 * @function: function code of PQAP
 * @nr: how often it is executed
 */
static const struct baseline_action {
	const char *name;
	unsigned int function;
	unsigned int nr;
} baseline_actions[] = {
	{ "tapq1", BASELINE_TAPQ, 1 },
	{ "tapq2", BASELINE_TAPQ, 2 },
	{ "aqic1", BASELINE_AQIC, 1 },
	{ "aqic2", BASELINE_AQIC, 2 },
	{ "zapq1", BASELINE_ZAPQ, 1 },
	{ "zapq2", BASELINE_ZAPQ, 2 },
};

static ssize_t baseline_action_write(struct file *filp, const char __user *buf,
				     size_t len, loff_t *pos)
{
	const struct baseline_action *action = file_inode(filp)->i_private;
	unsigned int apid, domain;

	guard(mutex)(&baseline_mutex);
	for (apid = 0; apid < adapters; apid++)
		for (domain = 0; domain < domains; domain++)
			baseline_pqap(AP_MKQID(apid, domain), action->function, action->nr);

	return len;
}

static const struct file_operations baseline_action_fops = {
	.owner = THIS_MODULE,
	.write = baseline_action_write,
};

static int __init baseline_init(void)
{
	unsigned int i;

	baseline_dir = debugfs_create_dir("vfio_ap_baseline", NULL);
	debugfs_create_file("state", 0600, baseline_dir, NULL, &baseline_state_fops);
	for (i = 0; i < ARRAY_SIZE(baseline_actions); i++)
		debugfs_create_file(baseline_actions[i].name, 0200, baseline_dir,
				    (void *)&baseline_actions[i], &baseline_action_fops);

	return 0;
}

static void __exit baseline_exit(void)
{
	debugfs_remove_recursive(baseline_dir);
}

module_init(baseline_init);
module_exit(baseline_exit);

MODULE_DESCRIPTION("The straightforward design of vfio-ap migration, for comparison");
MODULE_LICENSE("GPL");
