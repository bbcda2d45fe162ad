// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: AP instructions of a guest
 *
 * With AP interpretation (ECA_APIE) a machine executes the AP instructions of a
 * guest in SIE, except for PQAP(AQIC). The emulator leaves SIE for each of them.
 * KVM has a tracepoint after SIE, whose probe executes the instruction on the
 * guest's registers and storage. It then clears the interception code, so that
 * KVM enters SIE again.
 *
 * Storage is found as SIE does it: by the DAT tables of the guest if its DAT is
 * on, then by those of its address space in the host. An exception of the first
 * translation is the guest's. One of the second is the host's: KVM resolves it
 * and, for a store, notes the page in the dirty log; the guest repeats the
 * instruction.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/kvm_host.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include <asm/dat-bits.h>

/* KVM's own: the address space of a guest */
#include "gmap.h"

#include "ap_sim.h"

/* The prefix register's unit in the state description */
#define AP_SIM_PREFIX_SHIFT	12
/* The first 8 KiB change places with those at the prefix. */
#define AP_SIM_PREFIX_AREA	0x2000UL
/* Bytes of a message that must be there before it is begun to be copied */
#define AP_SIM_SIE_MESSAGE	0x10000
#define AP_SIM_CRYCB_MASK	0x7ffffff8U

/* In the status of an interception: by EXECUTE, and the length of that */
#define AP_SIM_ICPT_EX		0x01
#define AP_SIM_ICPT_ILEN_SHIFT	4
#define AP_SIM_ICPT_ILEN_MASK	0x06

/**
 * struct ap_sim_sie - a virtual CPU that has left SIE for an AP instruction
 * @cpu: the processor as the simulated cards see it
 * @vcpu: KVM's view of it
 * @gprs: general registers
 * @masks: the queues that it may use
 * @host_code: access exception of the host, or 0
 * @host_addr: guest absolute address of missing storage, if @host_code
 * @host_write: the storage is missing for a store, if @host_code
 * @code: program exception of the guest, or 0
 * @teid: translation-exception identification, if @code is an access exception
 */
struct ap_sim_sie {
	struct ap_sim_cpu cpu;
	struct kvm_vcpu *vcpu;
	unsigned long gprs[16];
	struct ap_config_info masks;
	u16 host_code;
	u64 host_addr;
	bool host_write;
	u16 code;
	union teid teid;
};

typedef u64 *(*ap_sim_entry_fn)(struct ap_sim_sie *sie, u64 addr);

/*
 * Translate by DAT tables, whose format is the same for guest and host.
 * Return: 0 and *@result, or the exception. If @entry() returns NULL, 0 and
 * &ap_sim_sie.host_code.
 */
static u16 ap_sim_sie_dat(struct ap_sim_sie *sie, union asce asce, u64 addr,
			  bool write, ap_sim_entry_fn entry_at, u64 *result)
{
	static const u16 codes[] = {
		[TABLE_TYPE_SEGMENT] = PGM_SEGMENT_TRANSLATION,
		[TABLE_TYPE_REGION3] = PGM_REGION_THIRD_TRANS,
		[TABLE_TYPE_REGION2] = PGM_REGION_SECOND_TRANS,
		[TABLE_TYPE_REGION1] = PGM_REGION_FIRST_TRANS,
	};
	unsigned int shift = 20 + 11 * asce.dt;
	unsigned int index, first = 0, last = asce.tl;
	u64 table = asce.val & PAGE_MASK;
	int level = asce.dt;
	u64 entry, *where;

	if (shift + 11 < 64 && addr >> (shift + 11))
		return PGM_ASCE_TYPE;

	for (; level >= TABLE_TYPE_SEGMENT; level--, shift -= 11) {
		index = addr >> shift & 0x7ff;
		if (index >> 9 < first || index >> 9 > last)
			return codes[level];
		where = entry_at(sie, table + index * sizeof(entry));
		if (!where)
			return 0;
		entry = READ_ONCE(*where);
		if (entry & _REGION_ENTRY_INVALID)
			return codes[level];
		if ((entry & _REGION_ENTRY_TYPE_MASK) >> 2 != level)
			return PGM_TRANSLATION_SPEC;
		if (write && entry & _REGION_ENTRY_PROTECT)
			return PGM_PROTECTION;
		if (level <= TABLE_TYPE_REGION3 &&
		    entry & _REGION3_ENTRY_LARGE) {
			*result = (entry & ~(BIT_ULL(shift) - 1)) |
				  (addr & (BIT_ULL(shift) - 1));
			return 0;
		}
		first = (entry & _REGION_ENTRY_OFFSET) >> 6;
		last = entry & _REGION_ENTRY_LENGTH;
		table = entry & (level ? PAGE_MASK : _SEGMENT_ENTRY_ORIGIN);
	}

	where = entry_at(sie, table + (addr >> PAGE_SHIFT & 0xff) * sizeof(entry));
	if (!where)
		return 0;
	entry = READ_ONCE(*where);
	if (entry & _PAGE_INVALID)
		return PGM_PAGE_TRANSLATION;
	if (write && entry & _PAGE_PROTECT)
		return PGM_PROTECTION;
	*result = (entry & PAGE_MASK) | offset_in_page(addr);

	return 0;
}

static u64 *ap_sim_sie_host_entry(struct ap_sim_sie *sie, u64 addr)
{
	return phys_to_virt(addr);
}

/* The host's address of a guest absolute address, or NULL and a host exception */
static void *ap_sim_sie_host(struct ap_sim_sie *sie, u64 addr, bool write)
{
	union asce asce = READ_ONCE(sie->vcpu->arch.gmap->asce);
	u64 host;

	sie->host_code = ap_sim_sie_dat(sie, asce, addr, write,
					ap_sim_sie_host_entry, &host);
	if (!sie->host_code)
		return phys_to_virt(host);
	sie->host_addr = addr;
	sie->host_write = write;

	return NULL;
}

/* The guest's DAT tables are at absolute addresses. */
static u64 *ap_sim_sie_guest_entry(struct ap_sim_sie *sie, u64 addr)
{
	return ap_sim_sie_host(sie, addr, false);
}

static u64 ap_sim_sie_wrap(const psw_t *psw, u64 addr)
{
	switch (psw->mask & (PSW_MASK_EA | PSW_MASK_BA)) {
	case PSW_MASK_EA | PSW_MASK_BA:
		return addr;
	case PSW_MASK_BA:
		return addr & GENMASK(30, 0);
	default:
		return addr & GENMASK(23, 0);
	}
}

static union asce ap_sim_sie_asce(const struct kvm_s390_sie_block *scb)
{
	switch (psw_bits(scb->gpsw).as) {
	case PSW_BITS_AS_SECONDARY:
		return (union asce){ .val = scb->gcr[7] };
	case PSW_BITS_AS_HOME:
		return (union asce){ .val = scb->gcr[13] };
	default:
		return (union asce){ .val = scb->gcr[1] };
	}
}

/* A logical address of the guest to a real one: false if there is an exception */
static bool ap_sim_sie_real(struct ap_sim_sie *sie, u64 addr, bool write,
			    u64 *real)
{
	const struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;
	union asce asce = ap_sim_sie_asce(scb);

	*real = addr;
	if (!(scb->gpsw.mask & PSW_MASK_DAT) || asce.r)
		return true;

	sie->host_code = 0;
	sie->code = ap_sim_sie_dat(sie, asce, addr, write,
				   ap_sim_sie_guest_entry, real);
	sie->teid = (union teid){
		.addr = addr >> PAGE_SHIFT,
		.fsi = write ? TEID_FSI_STORE : TEID_FSI_FETCH,
		.b61 = sie->code == PGM_PROTECTION,
		.as = psw_bits(scb->gpsw).as,
	};

	return !sie->code && !sie->host_code;
}

static u64 ap_sim_sie_absolute(const struct kvm_s390_sie_block *scb, u64 real)
{
	u64 prefix = (u64)scb->prefix << AP_SIM_PREFIX_SHIFT;
	u64 area = real & ~(AP_SIM_PREFIX_AREA - 1);

	if (!area)
		return real + prefix;
	if (area == prefix)
		return real - prefix;

	return real;
}

/* The host's address of the byte and all that follow in its page, or NULL */
static void *ap_sim_sie_map(struct ap_sim_sie *sie, u64 addr, bool write)
{
	const struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;
	u64 real;

	if (!ap_sim_sie_real(sie, ap_sim_sie_wrap(&scb->gpsw, addr), write, &real))
		return NULL;

	return ap_sim_sie_host(sie, ap_sim_sie_absolute(scb, real), write);
}

/* Whether there is storage */
static bool ap_sim_sie_probe(struct ap_sim_sie *sie, u64 addr, size_t len,
			     bool write)
{
	size_t part;

	for (; len; len -= part, addr += part) {
		part = min_t(size_t, len, PAGE_SIZE - offset_in_page(addr));
		if (!ap_sim_sie_map(sie, addr, write))
			return false;
	}

	return true;
}

static int ap_sim_sie_read(struct ap_sim_cpu *cpu, void *dst,
			   unsigned long addr, size_t len)
{
	struct ap_sim_sie *sie = container_of(cpu, struct ap_sim_sie, cpu);
	size_t part;
	void *host;

	for (; len; len -= part, addr += part, dst += part) {
		part = min_t(size_t, len, PAGE_SIZE - offset_in_page(addr));
		host = ap_sim_sie_map(sie, addr, false);
		if (!host)
			return -EFAULT;
		memcpy(dst, host, part);
	}

	return 0;
}

static int ap_sim_sie_write(struct ap_sim_cpu *cpu, unsigned long addr,
			    const void *src, size_t len)
{
	struct ap_sim_sie *sie = container_of(cpu, struct ap_sim_sie, cpu);
	size_t part;
	void *host;

	for (; len; len -= part, addr += part, src += part) {
		part = min_t(size_t, len, PAGE_SIZE - offset_in_page(addr));
		host = ap_sim_sie_map(sie, addr, true);
		if (!host)
			return -EFAULT;
		memcpy(host, src, part);
	}

	return 0;
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

	if (!(crycbd & AP_SIM_CRYCB_MASK))
		return;
	crycb = phys_to_virt(crycbd & AP_SIM_CRYCB_MASK);
	if ((crycbd & CRYCB_FORMAT_MASK) == CRYCB_FORMAT2)
		ap_sim_sie_masks1(&crycb->apcb1, &sie->masks);
	else
		ap_sim_sie_masks0(&crycb->apcb0, &sie->masks);
}

static u8 ap_sim_sie_function(const struct ap_sim_sie *sie)
{
	return sie->gprs[0] >> AP_SIM_GR0_FC_SHIFT & AP_SIM_GR0_FC_MASK;
}

/* A queue must not see an instruction that is to be executed again. */
static bool ap_sim_sie_operands(struct ap_sim_sie *sie, u32 insn)
{
	unsigned int r2 = insn & 0xe;
	size_t len = min_t(u64, sie->gprs[r2 + 1], AP_SIM_SIE_MESSAGE);

	if (insn >> 16 != AP_SIM_OP_PQAP)
		return ap_sim_sie_probe(sie, sie->gprs[r2], len,
					insn >> 16 == AP_SIM_OP_DQAP);
	if (ap_sim_sie_function(sie) == AP_SIM_FC_QCI)
		return ap_sim_sie_probe(sie, sie->gprs[2],
					sizeof(struct ap_config_info), true);

	return true;
}

static void ap_sim_sie_load(struct ap_sim_sie *sie)
{
	const struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;

	/* SIE leaves registers 14 and 15 in the state description. */
	memcpy(sie->gprs, sie->vcpu->run->s.regs.gprs, 14 * sizeof(*sie->gprs));
	sie->gprs[14] = scb->gg14;
	sie->gprs[15] = scb->gg15;
}

/* Complete the instruction. */
static void ap_sim_sie_store(struct ap_sim_sie *sie)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;

	memcpy(sie->vcpu->run->s.regs.gprs, sie->gprs, 14 * sizeof(*sie->gprs));
	scb->gg14 = sie->gprs[14];
	scb->gg15 = sie->gprs[15];
	scb->gpsw.mask &= ~PSW_MASK_CC;
	scb->gpsw.mask |= (u64)sie->cpu.cc << 44;
	scb->icptcode = 0;
}

/* The exception that KVM finds after a host fault in SIE */
static void ap_sim_sie_fault(struct ap_sim_sie *sie)
{
	union teid teid = {
		.addr = sie->host_addr >> PAGE_SHIFT,
		.fsi = sie->host_write ? TEID_FSI_STORE : TEID_FSI_FETCH,
		.as = PSW_BITS_AS_PRIMARY,
	};

	sie->vcpu->arch.sie_block->icptcode = 0;
	current->thread.gmap_teid = teid;
	current->thread.gmap_int_code = sie->host_code;
}

static void ap_sim_sie_program(struct ap_sim_sie *sie, u8 ilen)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;

	scb->icptcode = ICPT_PROGI;
	scb->iprcc = sie->code;
	scb->pgmilc = ilen;
	scb->tecmc = sie->teid.val;
	scb->eai = 0;
	scb->oai = 0;
}

/* Access exceptions are nullifying, all others that occur here suppressing. */
static bool ap_sim_sie_nullifies(const struct ap_sim_sie *sie)
{
	return sie->host_code || (sie->code != PGM_PROTECTION &&
				  sie->code != PGM_SPECIFICATION &&
				  sie->code != PGM_TRANSLATION_SPEC);
}

static void ap_sim_sie_except(struct ap_sim_sie *sie)
{
	struct kvm_s390_sie_block *scb = sie->vcpu->arch.sie_block;
	u8 ilen = 4;

	if (scb->icptstatus & AP_SIM_ICPT_EX)
		ilen = scb->icptstatus >> AP_SIM_ICPT_ILEN_SHIFT &
		       AP_SIM_ICPT_ILEN_MASK;
	if (ap_sim_sie_nullifies(sie))
		scb->gpsw.addr = ap_sim_sie_wrap(&scb->gpsw,
						 scb->gpsw.addr - ilen);
	if (sie->host_code)
		ap_sim_sie_fault(sie);
	else
		ap_sim_sie_program(sie, ilen);
}

static int ap_sim_sie_execute(struct ap_sim_sie *sie, u32 insn)
{
	/* Pages must stay where the tables say. */
	guard(read_lock)(&sie->vcpu->kvm->mmu_lock);

	if (!ap_sim_sie_operands(sie, insn))
		return -EFAULT;

	return ap_sim_execute(&sie->cpu, insn);
}

static void ap_sim_sie_exit_probe(void *data, struct kvm_vcpu *vcpu, u8 icptcode)
{
	struct kvm_s390_sie_block *scb = vcpu->arch.sie_block;
	u32 insn = (u32)scb->ipa << 16 | scb->ipb >> 16;
	struct ap_sim_sie sie = {
		.cpu = {
			.gprs = sie.gprs,
			.masks = &sie.masks,
			.read = ap_sim_sie_read,
			.write = ap_sim_sie_write,
		},
		.vcpu = vcpu,
	};

	if (icptcode != ICPT_INST || !vcpu->arch.gmap || !(scb->eca & ECA_APIE) ||
	    !ap_sim_is_ap(insn))
		return;
	ap_sim_sie_load(&sie);
	if (insn >> 16 == AP_SIM_OP_PQAP &&
	    ap_sim_sie_function(&sie) == AP_SIM_FC_AQIC)
		return;

	ap_sim_sie_masks(&sie);
	switch (ap_sim_sie_execute(&sie, insn)) {
	case 0:
		ap_sim_sie_store(&sie);
		break;
	case -EFAULT:
		ap_sim_sie_except(&sie);
		break;
	default:
		sie.code = PGM_SPECIFICATION;
		ap_sim_sie_except(&sie);
	}
}

static int ap_sim_sie_event(struct notifier_block *nb, unsigned long event,
			    void *data)
{
	const struct tp_module *tp_mod = data;
	struct module *mod = tp_mod->mod;
	struct tracepoint *tp;
	int i, rc;

	for (i = 0; i < mod->num_tracepoints; i++) {
		tp = tracepoint_ptr_deref(&mod->tracepoints_ptrs[i]);
		if (strcmp(tp->name, "kvm_s390_sie_exit"))
			continue;
		if (event == MODULE_STATE_COMING)
			rc = tracepoint_probe_register(tp, ap_sim_sie_exit_probe,
						       NULL);
		else
			rc = tracepoint_probe_unregister(tp, ap_sim_sie_exit_probe,
							 NULL);
		if (rc)
			pr_err("tracepoint %s: error %d\n", tp->name, rc);
	}

	return NOTIFY_OK;
}

static struct notifier_block ap_sim_sie_nb = {
	.notifier_call = ap_sim_sie_event,
};

/**
 * ap_sim_sie_init() - execute AP instructions of guests when KVM is loaded
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
