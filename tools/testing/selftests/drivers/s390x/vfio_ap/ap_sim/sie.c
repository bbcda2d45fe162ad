// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: virtual CPUs that execute two instructions
 *
 * On a machine without interpretive execution a virtual CPU cannot run. For
 * tests of what KVM and vfio_ap do when a guest executes PQAP(AQIC) it is
 * enough to pretend: KVM leaves the SIE instruction out when told by the state
 * description that somebody wants the virtual CPU to exit, and has a tracepoint
 * before and after it. The probes here ask for that exit and leave the
 * interception that hardware would have presented.
 *
 * The guest's storage seems to be filled with the program
 *
 *	PQAP		at addresses that are a multiple of 8
 *	DIAG X'500'	at the other multiples of 4
 *
 * so that KVM_RUN, with the PSW at a multiple of 8, executes one PQAP on the
 * general registers and returns to user space, which gets the interception of
 * the DIAG.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "ap_sim.h"

#define AP_SIM_SIE_ILEN		4
#define AP_SIM_IPA_PQAP		0xb2af
#define AP_SIM_IPA_DIAG		0x8300
#define AP_SIM_IPB_DIAG_500	0x05000000

static bool ap_sim_sie_on;

/**
 * ap_sim_sie_set() - let virtual CPUs execute the two instructions, or not
 * @on: while not, they enter SIE, for which they need a machine that has it
 */
void ap_sim_sie_set(bool on)
{
	WRITE_ONCE(ap_sim_sie_on, on);
}

static void ap_sim_sie_before(void *data, struct kvm_vcpu *vcpu, int cpuflags)
{
	struct kvm_s390_sie_block *scb = vcpu->arch.sie_block;

	if (!READ_ONCE(ap_sim_sie_on))
		return;

	scb->icptcode = ICPT_INST;
	if (scb->gpsw.addr & AP_SIM_SIE_ILEN) {
		scb->ipa = AP_SIM_IPA_DIAG;
		scb->ipb = AP_SIM_IPB_DIAG_500;
	} else {
		scb->ipa = AP_SIM_IPA_PQAP;
		scb->ipb = 0;
	}
	scb->gpsw.addr += AP_SIM_SIE_ILEN;
	atomic_or(PROG_REQUEST, &scb->prog20);
}

/* What KVM has requested meanwhile it finds elsewhere, too. */
static void ap_sim_sie_after(void *data, struct kvm_vcpu *vcpu, u8 icptcode)
{
	atomic_andnot(PROG_REQUEST, &vcpu->arch.sie_block->prog20);
}

static const struct {
	const char *name;
	void *probe;
} ap_sim_sie_probes[] = {
	{ "kvm_s390_sie_enter",	ap_sim_sie_before },
	{ "kvm_s390_sie_exit",	ap_sim_sie_after },
};

static int ap_sim_sie_attach(struct tracepoint *tp, void *probe, bool attach)
{
	return attach ? tracepoint_probe_register(tp, probe, NULL) :
			tracepoint_probe_unregister(tp, probe, NULL);
}

static int ap_sim_sie_event(struct notifier_block *nb, unsigned long event,
			    void *data)
{
	const struct tp_module *tp_mod = data;
	struct module *mod = tp_mod->mod;
	struct tracepoint *tp;
	int i, j, rc;

	for (i = 0; i < mod->num_tracepoints; i++) {
		tp = tracepoint_ptr_deref(&mod->tracepoints_ptrs[i]);
		for (j = 0; j < ARRAY_SIZE(ap_sim_sie_probes); j++) {
			if (strcmp(tp->name, ap_sim_sie_probes[j].name))
				continue;
			rc = ap_sim_sie_attach(tp, ap_sim_sie_probes[j].probe,
					       event == MODULE_STATE_COMING);
			if (rc)
				pr_err("tracepoint %s: error %d\n", tp->name, rc);
		}
	}

	return NOTIFY_OK;
}

static struct notifier_block ap_sim_sie_nb = {
	.notifier_call = ap_sim_sie_event,
};

/**
 * ap_sim_sie_init() - wait for KVM
 *
 * Return: 0, or the error of register_tracepoint_module_notifier()
 */
int __init ap_sim_sie_init(void)
{
	return register_tracepoint_module_notifier(&ap_sim_sie_nb);
}

/**
 * ap_sim_sie_exit() - undo ap_sim_sie_init()
 */
void ap_sim_sie_exit(void)
{
	unregister_tracepoint_module_notifier(&ap_sim_sie_nb);
	tracepoint_synchronize_unregister();
}
