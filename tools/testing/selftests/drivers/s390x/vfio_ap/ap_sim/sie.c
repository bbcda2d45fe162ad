// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: in the place of SIE (start interpretive execution)
 *
 * The machine has no SIE, so somebody else has to execute the guest. KVM leaves
 * the instruction out when it finds in the state description that the virtual
 * CPU is wanted elsewhere, and has a tracepoint before and after it. The probe
 * of the first pretends that; the one of the second executes the guest from its
 * own storage, until there is something for the host, and leaves what SIE would
 * have left. The second, because KVM may still decide against SIE after the
 * first, and would never look at what an instruction left there.
 *
 * To KVM the virtual CPU is in SIE meanwhile: who wants it to leave waits until
 * it did. So it must not be preempted, must not wait itself, and leaves soon.
 *
 * Storage is found as SIE does it, in the DAT tables of the guest's address
 * space. Where these have no page, or a protected one, the guest leaves with the
 * host's access exception, which KVM resolves and, for a store, notes in the
 * dirty log.
 *
 * Interrupts are never taken in here, though SIE could take those of adapters:
 * the guest leaves when it can be interrupted, and KVM interrupts it. That goes
 * for its timers, too: KVM looks at them each time.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/entry-virt.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/preempt.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include <asm/dat-bits.h>

/* KVM's own: where the address space of a guest is. */
#include "gmap.h"

#include "ap_sim.h"
#include "interp.h"

/* Instructions until KVM gets a turn even if nobody wants anything */
#define AP_SIM_SIE_BUDGET	512
/* The prefix register's unit in the state description */
#define AP_SIM_PREFIX_SHIFT	12
/* Bytes of a message that must be there before it is begun to be copied */
#define AP_SIM_SIE_MESSAGE	0x10000
#define AP_SIM_GISA_MASK	0x7fffffe0U
#define AP_SIM_CRYCB_MASK	0x7ffffff8U

/**
 * struct ap_sim_sie - a virtual CPU while it executes
 * @g: what the interpreter works on
 * @vcpu: KVM's view of it
 * @masks: the queues that it may use
 * @fault_code: the host's access exception when storage is missing
 */
struct ap_sim_sie {
	struct ap_sim_guest g;
	struct kvm_vcpu *vcpu;
	struct ap_config_info masks;
	u16 fault_code;
};

/**
 * struct ap_sim_sie_cpu - the processor as the simulated cards see it
 * @cpu: their view
 * @g: the guest
 */
struct ap_sim_sie_cpu {
	struct ap_sim_cpu cpu;
	struct ap_sim_guest *g;
};

/* Translate like DAT: 0 and the host's absolute address, or the exception. */
static u16 ap_sim_sie_translate(struct ap_sim_sie *sie, u64 addr, bool write,
				u64 *absolute)
{
	static const u16 codes[] = {
		[TABLE_TYPE_SEGMENT] = PGM_SEGMENT_TRANSLATION,
		[TABLE_TYPE_REGION3] = PGM_REGION_THIRD_TRANS,
		[TABLE_TYPE_REGION2] = PGM_REGION_SECOND_TRANS,
		[TABLE_TYPE_REGION1] = PGM_REGION_FIRST_TRANS,
	};
	union asce asce = READ_ONCE(sie->vcpu->arch.gmap->asce);
	u64 *table = phys_to_virt(asce.val & PAGE_MASK);
	unsigned int shift = 20 + 11 * asce.dt;
	int level = asce.dt;
	u64 entry;

	if (shift + 11 < 64 && addr >> (shift + 11))
		return PGM_ASCE_TYPE;

	for (; level >= TABLE_TYPE_SEGMENT; level--, shift -= 11) {
		entry = READ_ONCE(table[addr >> shift & 0x7ff]);
		if (entry & _REGION_ENTRY_INVALID)
			return codes[level];
		if (write && entry & _REGION_ENTRY_PROTECT)
			return PGM_PROTECTION;
		if (level <= TABLE_TYPE_REGION3 &&
		    entry & _REGION3_ENTRY_LARGE) {
			*absolute = (entry & ~(BIT_ULL(shift) - 1)) |
				    (addr & (BIT_ULL(shift) - 1));
			return 0;
		}
		table = phys_to_virt(entry & (level ? PAGE_MASK :
						      _SEGMENT_ENTRY_ORIGIN));
	}

	entry = READ_ONCE(table[addr >> PAGE_SHIFT & 0xff]);
	if (entry & _PAGE_INVALID)
		return PGM_PAGE_TRANSLATION;
	if (write && entry & _PAGE_PROTECT)
		return PGM_PROTECTION;
	*absolute = (entry & PAGE_MASK) | offset_in_page(addr);

	return 0;
}

static u8 *ap_sim_sie_map(struct ap_sim_guest *g, u64 addr, bool write)
{
	struct ap_sim_sie *sie = container_of(g, struct ap_sim_sie, g);
	u64 absolute;

	sie->fault_code = ap_sim_sie_translate(sie, addr, write, &absolute);
	if (sie->fault_code)
		return NULL;

	return phys_to_virt(absolute);
}

/* APCB format 0 has 64 adapters and 16 domains. */
static void ap_sim_sie_masks0(const struct kvm_s390_apcb0 *apcb,
			      struct ap_config_info *masks)
{
	memcpy(masks->apm, apcb->apm, 8);
	memcpy(masks->aqm, apcb->aqm, 2);
	memcpy(masks->adm, apcb->adm, 2);
}

static void ap_sim_sie_masks1(const struct kvm_s390_apcb1 *apcb,
			      struct ap_config_info *masks)
{
	memcpy(masks->apm, apcb->apm, sizeof(masks->apm));
	memcpy(masks->aqm, apcb->aqm, sizeof(masks->aqm));
	memcpy(masks->adm, apcb->adm, sizeof(masks->adm));
}

static void ap_sim_sie_masks(struct ap_sim_sie *sie)
{
	u32 crycbd = READ_ONCE(sie->vcpu->arch.sie_block->crycbd);
	const struct kvm_s390_crypto_cb *crycb;

	memset(&sie->masks, 0, sizeof(sie->masks));
	if (!(crycbd & AP_SIM_CRYCB_MASK))
		return;
	crycb = phys_to_virt(crycbd & AP_SIM_CRYCB_MASK);
	if ((crycbd & CRYCB_FORMAT_MASK) == CRYCB_FORMAT2)
		ap_sim_sie_masks1(&crycb->apcb1, &sie->masks);
	else
		ap_sim_sie_masks0(&crycb->apcb0, &sie->masks);
}

static int ap_sim_sie_read(struct ap_sim_cpu *cpu, void *dst,
			   unsigned long addr, size_t len)
{
	struct ap_sim_guest *g = container_of(cpu, struct ap_sim_sie_cpu, cpu)->g;

	return ap_sim_interp_copy(g, addr, dst, len, false) ? -EFAULT : 0;
}

static int ap_sim_sie_write(struct ap_sim_cpu *cpu, unsigned long addr,
			    const void *src, size_t len)
{
	struct ap_sim_guest *g = container_of(cpu, struct ap_sim_sie_cpu, cpu)->g;

	return ap_sim_interp_copy(g, addr, (void *)src, len, true) ? -EFAULT : 0;
}

static u8 ap_sim_sie_function(const struct ap_sim_guest *g)
{
	return g->gpr[0] >> AP_SIM_GR0_FC_SHIFT & AP_SIM_GR0_FC_MASK;
}

/* A queue must not see an instruction that is to be executed once more. */
static enum ap_sim_step ap_sim_sie_probe(struct ap_sim_guest *g, u32 insn)
{
	unsigned int r2 = insn & 0xe;
	u64 len = min_t(u64, g->gpr[r2 + 1], AP_SIM_SIE_MESSAGE);

	if (insn >> 16 != AP_SIM_OP_PQAP)
		return ap_sim_interp_probe(g, g->gpr[r2], len,
					   insn >> 16 == AP_SIM_OP_DQAP);
	if (ap_sim_sie_function(g) == AP_SIM_FC_QCI)
		return ap_sim_interp_probe(g, g->gpr[2],
					   sizeof(struct ap_config_info), true);

	return AP_SIM_STEP_DONE;
}

/*
 * With AP interpretation all but PQAP(AQIC) is executed here, on the queues
 * that the crypto control block names.
 */
static enum ap_sim_step ap_sim_sie_ap(struct ap_sim_guest *g, u32 insn)
{
	struct ap_sim_sie *sie = container_of(g, struct ap_sim_sie, g);
	struct ap_sim_sie_cpu cpu = {
		.cpu = {
			.gprs = (unsigned long *)g->gpr,
			.masks = &sie->masks,
			.read = ap_sim_sie_read,
			.write = ap_sim_sie_write,
		},
		.g = g,
	};

	if (!(sie->vcpu->arch.sie_block->eca & ECA_APIE))
		return AP_SIM_STEP_INTERCEPT;
	if (insn >> 16 == AP_SIM_OP_PQAP &&
	    ap_sim_sie_function(g) == AP_SIM_FC_AQIC)
		return AP_SIM_STEP_INTERCEPT;
	if (ap_sim_sie_probe(g, insn))
		return AP_SIM_STEP_FAULT;

	ap_sim_sie_masks(sie);
	switch (ap_sim_execute(&cpu.cpu, insn)) {
	case 0:
		ap_sim_interp_set_cc(g, cpu.cpu.cc);
		return AP_SIM_STEP_DONE;
	case -EFAULT:
		return AP_SIM_STEP_FAULT;
	default:
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	}
}

/* What KVM or anybody else asks for. */
static bool ap_sim_sie_wanted(struct kvm_vcpu *vcpu)
{
	return atomic_read(&vcpu->arch.sie_block->prog20) ||
	       kvm_request_pending(vcpu) || need_resched() ||
	       __xfer_to_guest_mode_work_pending();
}

/* Adapter interrupts for which the guest is enabled */
static bool ap_sim_sie_gisa_pending(const struct kvm_s390_sie_block *scb)
{
	const struct kvm_s390_gisa *gisa;

	if (!(scb->eca & ECA_AIV) || !(scb->gd & AP_SIM_GISA_MASK))
		return false;
	gisa = phys_to_virt(scb->gd & AP_SIM_GISA_MASK);

	return READ_ONCE(gisa->ipm) & (u8)(scb->gcr[6] >> 24);
}

/* Leave with what SIE would find before it executes an instruction. */
static bool ap_sim_sie_leaves(struct ap_sim_sie *sie)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;
	int flags = atomic_read(&scb->cpuflags);
	u64 mask = sie->g.psw.mask;

	if (flags & CPUSTAT_STOP_INT)
		scb->icptcode = ICPT_STOP;
	else if (flags & CPUSTAT_EXT_INT && mask & PSW_MASK_EXT)
		scb->icptcode = ICPT_EXTREQ;
	else if (flags & CPUSTAT_IO_INT && mask & PSW_MASK_IO)
		scb->icptcode = ICPT_IOREQ;

	return scb->icptcode || ap_sim_sie_wanted(sie->vcpu) ||
	       (mask & PSW_MASK_IO && ap_sim_sie_gisa_pending(scb));
}

/* The exception that KVM finds after a host fault in SIE */
static void ap_sim_sie_fault(struct ap_sim_sie *sie)
{
	union teid teid = {
		.addr = sie->g.fault_addr >> PAGE_SHIFT,
		.fsi = sie->g.fault_write ? TEID_FSI_STORE : TEID_FSI_FETCH,
		.as = PSW_BITS_AS_PRIMARY,
	};

	current->thread.gmap_teid = teid;
	current->thread.gmap_int_code = sie->fault_code;
}

static void ap_sim_sie_program(struct ap_sim_sie *sie)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;

	scb->icptcode = ICPT_PROGI;
	scb->iprcc = sie->g.pgm_code;
	scb->pgmilc = sie->g.ilen;
}

static void ap_sim_sie_operation(struct ap_sim_sie *sie)
{
	struct ap_sim_guest *g = &sie->g;

	pr_warn_ratelimited("guest: unknown instruction %04x %08x at %lx\n",
			    g->ipa, g->ipb, g->psw.addr - g->ilen);
	sie->vcpu->arch.sie_block->icptcode = ICPT_OPEREXC;
}

/* Leave with what the last instruction has come to. */
static void ap_sim_sie_leave(struct ap_sim_sie *sie, enum ap_sim_step step)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;

	scb->ipa = sie->g.ipa;
	scb->ipb = sie->g.ipb;

	switch (step) {
	case AP_SIM_STEP_DONE:
		break;
	case AP_SIM_STEP_INTERCEPT:
		scb->icptcode = ICPT_INST;
		break;
	case AP_SIM_STEP_PROGRAM:
		ap_sim_sie_program(sie);
		break;
	case AP_SIM_STEP_OPERATION:
		ap_sim_sie_operation(sie);
		break;
	case AP_SIM_STEP_FAULT:
		ap_sim_sie_fault(sie);
		break;
	case AP_SIM_STEP_WAIT:
		scb->icptcode = ICPT_WAIT;
		break;
	}
}

static void ap_sim_sie_load(struct ap_sim_sie *sie)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;
	struct ap_sim_guest *g = &sie->g;

	/* Like SIE: registers 14 and 15 are in the state description. */
	memcpy(g->gpr, sie->vcpu->run->s.regs.gprs, 14 * sizeof(*g->gpr));
	g->gpr[14] = scb->gg14;
	g->gpr[15] = scb->gg15;
	g->psw = scb->gpsw;
	g->cr = scb->gcr;
	g->prefix = (u64)scb->prefix << AP_SIM_PREFIX_SHIFT;
	g->lctl = scb->lctl;
	g->ictl_lpsw = scb->ictl & ICTL_LPSW;
	g->ictl_stctl = scb->ictl & ICTL_STCTL;
	g->map = ap_sim_sie_map;
	g->ap = ap_sim_sie_ap;
}

static void ap_sim_sie_store(struct ap_sim_sie *sie)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;
	struct ap_sim_guest *g = &sie->g;

	memcpy(sie->vcpu->run->s.regs.gprs, g->gpr, 14 * sizeof(*g->gpr));
	scb->gg14 = g->gpr[14];
	scb->gg15 = g->gpr[15];
	scb->gpsw = g->psw;
}

static void ap_sim_sie_run(struct ap_sim_sie *sie)
{
	rwlock_t *lock = &sie->vcpu->kvm->mmu_lock;
	enum ap_sim_step step = AP_SIM_STEP_DONE;
	int budget = AP_SIM_SIE_BUDGET;

	ap_sim_sie_load(sie);
	while (!step && budget-- && !ap_sim_sie_leaves(sie)) {
		/*
		 * Pages must stay where the tables say. Who has the lock may
		 * be waiting for this virtual CPU to leave.
		 */
		if (!read_trylock(lock))
			break;
		step = ap_sim_interp_step(&sie->g);
		read_unlock(lock);
	}
	ap_sim_sie_store(sie);
	if (step)
		ap_sim_sie_leave(sie, step);
}

static void ap_sim_sie_before(void *data, struct kvm_vcpu *vcpu, int cpuflags)
{
	atomic_or(PROG_REQUEST, &vcpu->arch.sie_block->prog20);
}

/*
 * KVM's own PROG_REQUEST goes with ours, but not what it is about: that was
 * noted before and keeps the guest from executing.
 */
static void ap_sim_sie_after(void *data, struct kvm_vcpu *vcpu, u8 icptcode)
{
	struct kvm_s390_sie_block *scb = vcpu->arch.sie_block;
	struct ap_sim_sie sie = { .vcpu = vcpu };

	atomic_andnot(PROG_REQUEST, &scb->prog20);
	if (!vcpu->arch.gmap)
		return;

	guard(preempt)();
	WRITE_ONCE(scb->prog0c, scb->prog0c | PROG_IN_SIE);
	/* Either this sees what is wanted, or who wants it sees PROG_IN_SIE. */
	smp_mb();
	ap_sim_sie_run(&sie);
	/* Who waits for this to leave sees everything that the guest has done. */
	smp_mb();
	WRITE_ONCE(scb->prog0c, scb->prog0c & ~PROG_IN_SIE);
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
