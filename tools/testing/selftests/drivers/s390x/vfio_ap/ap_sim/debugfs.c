// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: /sys/kernel/debug/ap_sim
 *
 *  control	write commands, one per line; the first bad one ends the write
 *  counters	instructions executed and other events; writing resets them
 *  queues	state of each queue, and what happened to it
 *  topology	cards and domains
 *
 * Commands are described in front of the function that executes them. Of what
 * is counted for each queue
 *
 *  qlen		messages in it now, of which
 *  replies		so many are replies
 *  off_qlen		messages in it when interrupts were last switched off
 *  irq_off		how often that was by PQAP(AQIC)
 *  irq_off_busy	and how often of these there were messages in it
 *  swallowed		interrupts that were to be switched on and were not, see
 *			the command "swallow"
 */

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "ap_sim.h"

#define AP_SIM_MAX_WORDS	6

static struct dentry *ap_sim_dir;

static int ap_sim_parse_on_off(const char *str)
{
	if (!strcmp(str, "on"))
		return 1;
	if (!strcmp(str, "off"))
		return 0;

	return -EINVAL;
}

/* card add SPEC | card del APID */
static int ap_sim_cmd_card(int argc, char **argv)
{
	struct ap_sim_spec spec;
	u8 apid;
	int rc;

	if (argc != 3)
		return -EINVAL;
	if (!strcmp(argv[1], "add")) {
		rc = ap_sim_parse_card(argv[2], &spec);
		return rc ?: ap_sim_card_add(&spec);
	}
	if (!strcmp(argv[1], "del")) {
		rc = kstrtou8(argv[2], 16, &apid);
		return rc ?: ap_sim_card_del(apid);
	}

	return -EINVAL;
}

/* domain add|del N | cdomain add|del N */
static int ap_sim_cmd_domain(int argc, char **argv)
{
	bool control = argv[0][0] == 'c';
	u8 domain;
	int rc;

	if (argc != 3)
		return -EINVAL;
	rc = kstrtou8(argv[2], 16, &domain);
	if (rc)
		return rc;
	if (!strcmp(argv[1], "add"))
		return control ? ap_sim_cdomain_add(domain) :
				 ap_sim_domain_add(domain);
	if (!strcmp(argv[1], "del"))
		return control ? ap_sim_cdomain_del(domain) :
				 ap_sim_domain_del(domain);

	return -EINVAL;
}

/* config APID on|off | checkstop APID on|off */
static int ap_sim_cmd_state(int argc, char **argv)
{
	int rc, on;
	u8 apid;

	if (argc != 3)
		return -EINVAL;
	rc = kstrtou8(argv[1], 16, &apid);
	if (rc)
		return rc;
	on = ap_sim_parse_on_off(argv[2]);
	if (on < 0)
		return on;

	return !strcmp(argv[0], "config") ? ap_sim_card_config(apid, on) :
					    ap_sim_card_checkstop(apid, on);
}

/* rc APQN|* INSN CODE [COUNT] [async] */
static int ap_sim_cmd_rc(int argc, char **argv)
{
	struct ap_sim_force force = { .count = AP_SIM_FORCE_ALWAYS };
	struct ap_sim_force *where = ap_sim_force_all;
	bool all = argc > 1 && !strcmp(argv[1], "*");
	struct ap_sim_queue *q;
	u8 apid, domain;
	int insn, rc;

	if (argc > 4 && !strcmp(argv[argc - 1], "async")) {
		force.async = true;
		argc--;
	}
	if (argc != 4 && argc != 5)
		return -EINVAL;
	insn = ap_sim_parse_insn(argv[2]);
	if (insn < 0)
		return insn;
	rc = kstrtou8(argv[3], 16, &force.code);
	if (!rc && argc == 5)
		rc = kstrtou32(argv[4], 10, &force.count);
	if (!rc && !all)
		rc = ap_sim_parse_apqn(argv[1], &apid, &domain);
	if (rc)
		return rc;
	if (!force.code && !force.async)
		force.count = 0;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	if (!all) {
		q = ap_sim_queue_find(apid, domain);
		if (!q)
			return -ENOENT;
		where = q->force;
	}
	where[insn] = force;

	return 0;
}

/* latency APQN|* USEC */
static int ap_sim_cmd_latency(int argc, char **argv)
{
	struct ap_sim_queue *q;
	u8 apid, domain;
	u32 usec;
	int rc, i, j;

	if (argc != 3)
		return -EINVAL;
	rc = kstrtou32(argv[2], 10, &usec);
	if (rc)
		return rc;

	if (!strcmp(argv[1], "*")) {
		guard(mutex)(&ap_sim_mutex);
		guard(raw_spinlock_irqsave)(&ap_sim_lock);
		ap_sim_latency_us = usec;
		for (i = 0; i < AP_SIM_MAX_CARDS; i++)
			for (j = 0; j < AP_SIM_MAX_DOMAINS; j++) {
				q = ap_sim_queue_find(i, j);
				if (q)
					ap_sim_queue_set_latency(q, usec);
			}
		return 0;
	}

	rc = ap_sim_parse_apqn(argv[1], &apid, &domain);
	if (rc)
		return rc;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);
	q = ap_sim_queue_find(apid, domain);
	if (!q)
		return -ENOENT;
	ap_sim_queue_set_latency(q, usec);

	return 0;
}

/*
 * swallow APQN|* on|off: PQAP(AQIC) switches no interrupts on, but is answered
 * as if it had
 */
static int ap_sim_cmd_swallow(int argc, char **argv)
{
	struct ap_sim_queue *q;
	u8 apid, domain;
	int rc, on;

	if (argc != 3)
		return -EINVAL;
	on = ap_sim_parse_on_off(argv[2]);
	if (on < 0)
		return on;

	if (!strcmp(argv[1], "*")) {
		guard(raw_spinlock_irqsave)(&ap_sim_lock);
		ap_sim_swallow_all = on;
		return 0;
	}

	rc = ap_sim_parse_apqn(argv[1], &apid, &domain);
	if (rc)
		return rc;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);
	q = ap_sim_queue_find(apid, domain);
	if (!q)
		return -ENOENT;
	q->swallow = on;

	return 0;
}

/* reset_polls N | aqic_polls N | segment N */
static int ap_sim_cmd_number(int argc, char **argv)
{
	u32 value;
	int rc;

	if (argc != 2)
		return -EINVAL;
	rc = kstrtou32(argv[1], 0, &value);
	if (rc)
		return rc;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	if (!strcmp(argv[0], "reset_polls")) {
		ap_sim_reset_polls = value;
	} else if (!strcmp(argv[0], "aqic_polls")) {
		ap_sim_aqic_polls = value;
	} else {
		if (!is_power_of_2(value) || value < 8)
			return -EINVAL;
		ap_sim_segment = value;
	}

	return 0;
}

/* notify APQN: as for a reply, though there may be none */
static int ap_sim_cmd_notify(int argc, char **argv)
{
	struct ap_sim_queue *q;
	u8 apid, domain;
	int rc;

	if (argc != 2)
		return -EINVAL;
	rc = ap_sim_parse_apqn(argv[1], &apid, &domain);
	if (rc)
		return rc;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	q = ap_sim_queue_find(apid, domain);
	if (!q)
		return -ENOENT;
	ap_sim_irq_notify(q);

	return 0;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} ap_sim_cmds[] = {
	{ "card",		ap_sim_cmd_card },
	{ "domain",		ap_sim_cmd_domain },
	{ "cdomain",		ap_sim_cmd_domain },
	{ "config",		ap_sim_cmd_state },
	{ "checkstop",		ap_sim_cmd_state },
	{ "rc",			ap_sim_cmd_rc },
	{ "latency",		ap_sim_cmd_latency },
	{ "notify",		ap_sim_cmd_notify },
	{ "swallow",		ap_sim_cmd_swallow },
	{ "reset_polls",	ap_sim_cmd_number },
	{ "aqic_polls",		ap_sim_cmd_number },
	{ "segment",		ap_sim_cmd_number },
};

static int ap_sim_command(char *line)
{
	char *argv[AP_SIM_MAX_WORDS];
	char *word;
	int argc = 0;
	int i;

	while ((word = strsep(&line, " \t"))) {
		if (!*word)
			continue;
		if (argc == AP_SIM_MAX_WORDS)
			return -EINVAL;
		argv[argc++] = word;
	}
	if (!argc)
		return 0;

	for (i = 0; i < ARRAY_SIZE(ap_sim_cmds); i++)
		if (!strcmp(argv[0], ap_sim_cmds[i].name))
			return ap_sim_cmds[i].run(argc, argv);

	return -EINVAL;
}

static ssize_t ap_sim_control_write(struct file *file, const char __user *ubuf,
				    size_t count, loff_t *ppos)
{
	char *buf, *pos, *line;
	int rc = 0;

	if (count > PAGE_SIZE)
		return -E2BIG;
	buf = memdup_user_nul(ubuf, count);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	pos = buf;
	while (!rc && (line = strsep(&pos, "\n")))
		rc = ap_sim_command(line);

	kfree(buf);
	return rc ?: count;
}

static const struct file_operations ap_sim_control_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = ap_sim_control_write,
};

static int ap_sim_counters_show(struct seq_file *m, void *v)
{
	u64 counts[AP_SIM_NR_COUNTS];
	int i;

	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
		memcpy(counts, ap_sim_counts, sizeof(counts));
	for (i = 0; i < AP_SIM_NR_COUNTS; i++)
		seq_printf(m, "%s %llu\n", ap_sim_count_name(i), counts[i]);

	return 0;
}

static int ap_sim_counters_open(struct inode *inode, struct file *file)
{
	return single_open(file, ap_sim_counters_show, NULL);
}

static ssize_t ap_sim_counters_write(struct file *file, const char __user *ubuf,
				     size_t count, loff_t *ppos)
{
	ap_sim_counts_clear();

	return count;
}

static const struct file_operations ap_sim_counters_fops = {
	.owner = THIS_MODULE,
	.open = ap_sim_counters_open,
	.read = seq_read,
	.write = ap_sim_counters_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/* The position is APID * 256 + domain of the next candidate. */
static void *ap_sim_queues_at(loff_t *pos)
{
	struct ap_sim_queue *q;

	for (; *pos < AP_SIM_MAX_CARDS * AP_SIM_MAX_DOMAINS; ++*pos) {
		q = ap_sim_queue_find(*pos / AP_SIM_MAX_DOMAINS,
				      *pos % AP_SIM_MAX_DOMAINS);
		if (q)
			return q;
	}

	return NULL;
}

static void *ap_sim_queues_start(struct seq_file *m, loff_t *pos)
{
	mutex_lock(&ap_sim_mutex);

	return ap_sim_queues_at(pos);
}

static void *ap_sim_queues_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;

	return ap_sim_queues_at(pos);
}

static void ap_sim_queues_stop(struct seq_file *m, void *v)
{
	mutex_unlock(&ap_sim_mutex);
}

static int ap_sim_queues_show(struct seq_file *m, void *v)
{
	ap_sim_queue_show(m, v);

	return 0;
}

static const struct seq_operations ap_sim_queues_sops = {
	.start = ap_sim_queues_start,
	.next = ap_sim_queues_next,
	.stop = ap_sim_queues_stop,
	.show = ap_sim_queues_show,
};

DEFINE_SEQ_ATTRIBUTE(ap_sim_queues);

static int ap_sim_topo_show(struct seq_file *m, void *v)
{
	ap_sim_topology_show(m);

	return 0;
}

DEFINE_SHOW_ATTRIBUTE(ap_sim_topo);

/**
 * ap_sim_debugfs_init() - make the files
 */
void __init ap_sim_debugfs_init(void)
{
	ap_sim_dir = debugfs_create_dir("ap_sim", NULL);
	debugfs_create_file("control", 0200, ap_sim_dir, NULL,
			    &ap_sim_control_fops);
	debugfs_create_file("counters", 0600, ap_sim_dir, NULL,
			    &ap_sim_counters_fops);
	debugfs_create_file("queues", 0400, ap_sim_dir, NULL,
			    &ap_sim_queues_fops);
	debugfs_create_file("topology", 0400, ap_sim_dir, NULL,
			    &ap_sim_topo_fops);
}

/**
 * ap_sim_debugfs_exit() - remove the files
 */
void ap_sim_debugfs_exit(void)
{
	debugfs_remove(ap_sim_dir);
}
