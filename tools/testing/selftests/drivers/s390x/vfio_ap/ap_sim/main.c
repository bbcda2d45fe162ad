// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: module parameters, loading and unloading
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/string.h>

#include <asm/facility.h>

#include "ap_sim.h"

/* The whole simulated hardware; taken in program-check context too. */
DEFINE_RAW_SPINLOCK(ap_sim_lock);

/* Serializes changes of the topology. Outside of ap_sim_lock. */
DEFINE_MUTEX(ap_sim_mutex);

/* Under ap_sim_lock. */
u64 ap_sim_counts[AP_SIM_NR_COUNTS];

u32 ap_sim_latency_us = 1000;
module_param_named(latency_us, ap_sim_latency_us, uint, 0444);
MODULE_PARM_DESC(latency_us, "Time from a request to its reply in us (default 1000)");

u32 ap_sim_reset_polls = 2;
module_param_named(reset_polls, ap_sim_reset_polls, uint, 0444);
MODULE_PARM_DESC(reset_polls,
		 "Answers RESET_IN_PROGRESS after a reset (default 2)");

u32 ap_sim_aqic_polls = 3;
module_param_named(aqic_polls, ap_sim_aqic_polls, uint, 0444);
MODULE_PARM_DESC(aqic_polls,
		 "Status words before AQIC takes effect (default 3)");

u32 ap_sim_segment = 0x100000;
module_param_named(segment, ap_sim_segment, uint, 0444);
MODULE_PARM_DESC(segment,
		 "NQAP and DQAP end early at multiples of this address (default 1 MiB)");

/*
 * There is no symbol dependency that keeps the simulator loaded while drivers
 * execute AP instructions or rely on what it told KVM, so hold a reference for
 * each of these modules. All other users (zcrypt, vfio_ap) need one of them.
 */
static const char * const ap_sim_users[] = { "ap", "kvm" };

static int ap_sim_module_event(struct notifier_block *nb, unsigned long event,
			       void *data)
{
	const struct module *mod = data;

	if (match_string(ap_sim_users, ARRAY_SIZE(ap_sim_users), mod->name) < 0)
		return NOTIFY_DONE;

	switch (event) {
	case MODULE_STATE_COMING:
		__module_get(THIS_MODULE);
		break;
	case MODULE_STATE_GOING:
		module_put(THIS_MODULE);
		break;
	}

	return NOTIFY_OK;
}

static struct notifier_block ap_sim_module_nb = {
	.notifier_call = ap_sim_module_event,
};

static int __init ap_sim_init(void)
{
	int rc;

	if (ap_instructions_available()) {
		pr_err("this machine executes AP instructions, refusing to simulate them\n");
		return -EBUSY;
	}

	if (!is_power_of_2(ap_sim_segment) || ap_sim_segment < 8) {
		pr_err("segment: %u is not a power of two of at least 8\n",
		       ap_sim_segment);
		return -EINVAL;
	}

	if (!test_facility(12) || !test_facility(15) || !test_facility(65))
		pr_warn("facilities 12, 15 and 65 are expected, boot with facilities=12,15,65\n");

	rc = ap_sim_parse_domains();
	if (!rc)
		rc = ap_sim_parse_cards();
	if (rc)
		goto err_topology;

	rc = ap_sim_kvm_init();
	if (rc)
		goto err_topology;

	rc = ap_sim_sie_init();
	if (rc)
		goto err_kvm;

	rc = register_module_notifier(&ap_sim_module_nb);
	if (rc)
		goto err_sie;

	rc = ap_sim_insn_init();
	if (rc)
		goto err_notifier;

	ap_sim_debugfs_init();

	return 0;

err_notifier:
	unregister_module_notifier(&ap_sim_module_nb);
err_sie:
	ap_sim_sie_exit();
err_kvm:
	ap_sim_kvm_exit();
err_topology:
	ap_sim_topology_clear();
	return rc;
}
module_init(ap_sim_init);

static void __exit ap_sim_exit(void)
{
	ap_sim_debugfs_exit();
	ap_sim_insn_exit();
	unregister_module_notifier(&ap_sim_module_nb);
	ap_sim_sie_exit();
	ap_sim_kvm_exit();
	ap_sim_topology_clear();
	ap_sim_irq_exit();
}
module_exit(ap_sim_exit);

MODULE_DESCRIPTION("Simulated AP (crypto card) hardware");
MODULE_LICENSE("GPL");
