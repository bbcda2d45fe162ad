// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: the machine's part of AP interrupts of guests
 *
 * KVM sets up AP interrupts if the machine has adapter interruption
 * virtualization, and then announces its guest information block by a command
 * of the channel subsystem. The emulator has neither.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/module.h>

#include <asm/css_chars.h>

#include "ap_sim.h"

static bool kvm = true;
module_param(kvm, bool, 0444);
MODULE_PARM_DESC(kvm, "Offer AP interrupts to guests (default true)");

static bool ap_sim_had_aiv;

static int ap_sim_sgib_enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	*(u32 *)ri->data = regs->gprs[2];

	return 0;
}
NOKPROBE_SYMBOL(ap_sim_sgib_enter);

/* The channel subsystem refused a command that it does not know: execute it. */
static int ap_sim_sgib_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	ap_sim_irq_set_gib(*(u32 *)ri->data);
	regs_set_return_value(regs, 0);

	return 0;
}
NOKPROBE_SYMBOL(ap_sim_sgib_return);

static struct kretprobe ap_sim_sgib_probe = {
	.kp.symbol_name = "chsc_sgib",
	.entry_handler = ap_sim_sgib_enter,
	.handler = ap_sim_sgib_return,
	.data_size = sizeof(u32),
	.maxactive = 4,
};

/**
 * ap_sim_kvm_init() - pretend to have what KVM looks for
 *
 * Return: 0, or the error of register_kretprobe()
 */
int __init ap_sim_kvm_init(void)
{
	int rc;

	if (!kvm)
		return 0;

	rc = register_kretprobe(&ap_sim_sgib_probe);
	if (rc) {
		pr_err("cannot probe %s: error %d\n",
		       ap_sim_sgib_probe.kp.symbol_name, rc);
		return rc;
	}

	ap_sim_had_aiv = css_general_characteristics.aiv;
	css_general_characteristics.aiv = 1;

	return 0;
}

/**
 * ap_sim_kvm_exit() - undo ap_sim_kvm_init()
 */
void ap_sim_kvm_exit(void)
{
	if (!kvm)
		return;

	css_general_characteristics.aiv = ap_sim_had_aiv;
	unregister_kretprobe(&ap_sim_sgib_probe);
}
