// SPDX-License-Identifier: GPL-2.0
/*
 * What `make bench` compares the driver with: the straightforward design, and
 * what no design can do without
 *
 * The straightforward design describes each queue in 16 bytes and asks the
 * machine about it with one PQAP(TAPQ), builds its state anew at each read(), and
 * compares each queue at the destination with what PQAP(TAPQ) says there.
 *
 * What no design can do without: the machine has to be told for each queue that
 * has an interrupt to raise it no more, and asked whether it does not (one AQIC,
 * one TAPQ), and told at the destination to raise it (one AQIC).
 *
 * In debugfs, vfio_ap_baseline/:
 *	state	read: the state of all queues. write: compare it with what is here
 *	off	write: one AQIC and one TAPQ for each queue
 *	on	write: one AQIC for each queue
 *	once	write: one TAPQ for each queue
 *	twice	write: two. The difference is what the instruction itself takes, which
 *		is not the design's fault
 *
 * The queues are those of @adapters and @domains; nobody else may use them.
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
#include <asm/isc.h>

/* What is sent of a queue: the 16 bytes */
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
static u8 *baseline_nib;

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

static void baseline_aqic(unsigned int apqn, bool enable)
{
	union ap_qirq_ctrl ctrl = {
		.ir = enable,
		.isc = AP_ISC,
	};

	ap_aqic(apqn, ctrl, virt_to_phys(baseline_nib));
}

static void baseline_off(unsigned int apqn)
{
	baseline_aqic(apqn, false);
	ap_tapq(apqn, NULL);
}

static void baseline_on(unsigned int apqn)
{
	baseline_aqic(apqn, true);
}

/* TAPQ as ap_tapq() has it, @nr times without anything in between */
static void baseline_tapq_only(unsigned int apqn, unsigned int nr)
{
	asm volatile(
		"	lgr	0,%[apqn]\n"
		"	lghi	2,0\n"
		"0:	lghi	1,0\n"
		"	.insn	rre,0xb2af0000,0,0\n"
		"	brct	%[nr],0b\n"
		: [nr] "+d" (nr)
		: [apqn] "d" ((unsigned long)apqn)
		: "cc", "0", "1", "2");
}

static void baseline_once(unsigned int apqn)
{
	baseline_tapq_only(apqn, 1);
}

static void baseline_twice(unsigned int apqn)
{
	baseline_tapq_only(apqn, 2);
}

/**
 * struct baseline_action - what is done with each queue
 * @name: of the file that does it
 * @fn: does it
 */
static const struct baseline_action {
	const char *name;
	void (*fn)(unsigned int apqn);
} baseline_actions[] = {
	{ "off", baseline_off },
	{ "on", baseline_on },
	{ "once", baseline_once },
	{ "twice", baseline_twice },
};

static ssize_t baseline_action_write(struct file *filp, const char __user *buf,
				     size_t len, loff_t *pos)
{
	const struct baseline_action *action = file_inode(filp)->i_private;
	unsigned int apid, domain;

	guard(mutex)(&baseline_mutex);
	for (apid = 0; apid < adapters; apid++)
		for (domain = 0; domain < domains; domain++)
			action->fn(AP_MKQID(apid, domain));

	return len;
}

static const struct file_operations baseline_action_fops = {
	.owner = THIS_MODULE,
	.write = baseline_action_write,
};

static int __init baseline_init(void)
{
	unsigned int i;

	baseline_nib = (u8 *)get_zeroed_page(GFP_KERNEL);
	if (!baseline_nib)
		return -ENOMEM;

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
	free_page((unsigned long)baseline_nib);
}

module_init(baseline_init);
module_exit(baseline_exit);

MODULE_DESCRIPTION("The straightforward design of vfio-ap migration, for comparison");
MODULE_LICENSE("GPL");
