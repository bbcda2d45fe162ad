// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: the instructions
 *
 * An instruction that the machine does not have ends in a program check. For
 * kernel code the handler asks the die notifiers; one that returns NOTIFY_STOP
 * makes execution go on after the instruction, as if it had been executed.
 */

#include <linux/instrumented.h>
#include <linux/kdebug.h>
#include <linux/notifier.h>
#include <linux/ptrace.h>
#include <linux/uaccess.h>

#include "ap_sim.h"

static bool ap_sim_mask_test(const u32 *mask, u8 nr)
{
	return mask[nr / 32] & 0x80000000U >> nr % 32;
}

static struct ap_sim_queue *ap_sim_find_gr0(const struct ap_sim_cpu *cpu)
{
	u8 apid = AP_QID_CARD(cpu->gprs[0]), domain = AP_QID_QUEUE(cpu->gprs[0]);

	if (cpu->masks && !(ap_sim_mask_test(cpu->masks->apm, apid) &&
			    ap_sim_mask_test(cpu->masks->aqm, domain)))
		return NULL;

	return ap_sim_queue_find(apid, domain);
}

static void ap_sim_set_status(struct ap_sim_cpu *cpu,
			      struct ap_queue_status status)
{
	cpu->gprs[1] = status.value;
	cpu->cc = status.response_code ? 3 : 0;
}

static int ap_sim_exec_tapq(struct ap_sim_cpu *cpu)
{
	struct ap_sim_queue *q = ap_sim_find_gr0(cpu);
	struct ap_queue_status status;

	if (!ap_sim_queue_refuses(q, AP_SIM_TAPQ, &status))
		status = ap_sim_queue_status(q, AP_SIM_RC_NORMAL);
	cpu->gprs[2] = q ? ap_sim_tapq_info(q->card,
					    cpu->gprs[0] & AP_SIM_GR0_TBIT) : 0;
	ap_sim_set_status(cpu, status);

	return 0;
}

static int ap_sim_exec_reset(struct ap_sim_cpu *cpu, enum ap_sim_count insn)
{
	struct ap_sim_queue *q = ap_sim_find_gr0(cpu);
	struct ap_queue_status status;

	if (!ap_sim_queue_refuses(q, insn, &status))
		status = ap_sim_queue_reset(q);
	ap_sim_set_status(cpu, status);

	return 0;
}

static int ap_sim_exec_aqic(struct ap_sim_cpu *cpu)
{
	union ap_qirq_ctrl ctrl = { .value = cpu->gprs[1] };
	struct ap_sim_queue *q = ap_sim_find_gr0(cpu);
	struct ap_queue_status status;

	if (!ap_sim_queue_refuses(q, AP_SIM_AQIC, &status))
		status = ap_sim_queue_aqic(q, ctrl, cpu->gprs[2]);
	ap_sim_set_status(cpu, status);

	return 0;
}

static int ap_sim_exec_qci(struct ap_sim_cpu *cpu)
{
	struct ap_config_info info;
	int i;

	ap_sim_qci(&info);
	for (i = 0; cpu->masks && i < ARRAY_SIZE(info.apm); i++) {
		info.apm[i] &= cpu->masks->apm[i];
		info.aqm[i] &= cpu->masks->aqm[i];
		info.adm[i] &= cpu->masks->adm[i];
	}
	cpu->cc = 0;

	return cpu->write(cpu, cpu->gprs[2], &info, sizeof(info));
}

/*
 * General register 1 names a mode and the highest type that the program knows,
 * general register 2 receives the highest type not above it that the card is
 * compatible with: cards are compatible with all older ones of their mode.
 */
static int ap_sim_exec_qact(struct ap_sim_cpu *cpu)
{
	union ap_qact_ap_info in = { .val = cpu->gprs[1] };
	struct ap_sim_queue *q = ap_sim_find_gr0(cpu);
	union ap_qact_ap_info out = { .val = 0 };
	struct ap_queue_status status;

	if (!ap_sim_queue_refuses(q, AP_SIM_QACT, &status)) {
		status = ap_sim_queue_status(q, AP_SIM_RC_NORMAL);
		out.mode = q->card->spec.fac >> 26;
		if (in.mode == out.mode)
			out.cat = min_t(u8, in.cat, q->card->spec.at);
	}
	cpu->gprs[2] = out.val;
	ap_sim_set_status(cpu, status);

	return 0;
}

static int ap_sim_exec_pqap(struct ap_sim_cpu *cpu)
{
	switch ((cpu->gprs[0] >> AP_SIM_GR0_FC_SHIFT) & AP_SIM_GR0_FC_MASK) {
	case AP_SIM_FC_TAPQ:
		return ap_sim_exec_tapq(cpu);
	case AP_SIM_FC_RAPQ:
		return ap_sim_exec_reset(cpu, AP_SIM_RAPQ);
	case AP_SIM_FC_ZAPQ:
		return ap_sim_exec_reset(cpu, AP_SIM_ZAPQ);
	case AP_SIM_FC_AQIC:
		return ap_sim_exec_aqic(cpu);
	case AP_SIM_FC_QCI:
		ap_sim_counts[AP_SIM_QCI]++;
		return ap_sim_exec_qci(cpu);
	case AP_SIM_FC_QACT:
		return ap_sim_exec_qact(cpu);
	default:
		ap_sim_counts[AP_SIM_UNKNOWN]++;
		return -EOPNOTSUPP;
	}
}

/* Bytes that a step may process: not beyond the end of a segment. */
static u32 ap_sim_step(unsigned long addr, unsigned long len)
{
	u32 room = ap_sim_segment - (addr & (ap_sim_segment - 1));

	return min_t(unsigned long, len, room);
}

/*
 * R1: psmid in two halves, R2: address and length of the message, updated.
 * Condition code 1: a part was accepted and more parts are to come, 2: ended
 * at a segment boundary, to be repeated.
 */
static int ap_sim_exec_nqap(struct ap_sim_cpu *cpu, unsigned int r1,
			    unsigned int r2)
{
	unsigned long addr = cpu->gprs[r2], len = cpu->gprs[r2 + 1];
	struct ap_sim_queue *q = ap_sim_find_gr0(cpu);
	struct ap_queue_status status;
	u32 step, head;

	if (ap_sim_queue_refuses(q, AP_SIM_NQAP, &status)) {
		ap_sim_set_status(cpu, status);
		return 0;
	}

	if (!(cpu->gprs[0] & AP_SIM_GR0_CONT)) {
		q->part_len = 0;
	} else if (!q->part_len) {
		/* A reset came in between. */
		ap_sim_set_status(cpu, ap_sim_queue_status(q, AP_SIM_RC_NO_FIRST_PART));
		return 0;
	}

	if (q->count == q->depth) {
		ap_sim_set_status(cpu, ap_sim_queue_status(q, AP_SIM_RC_Q_FULL));
		return 0;
	}

	if (len > ap_sim_max_message(q) - q->part_len) {
		q->part_len = 0;
		ap_sim_set_status(cpu, ap_sim_queue_status(q, AP_SIM_RC_MESSAGE_TOO_BIG));
		return 0;
	}

	step = ap_sim_step(addr, len);
	if (q->part_len < AP_SIM_REQ_HEAD) {
		head = min_t(u32, step, AP_SIM_REQ_HEAD - q->part_len);
		if (cpu->read(cpu, q->part + q->part_len, addr, head))
			return -EFAULT;
	}
	q->part_len += step;
	cpu->gprs[r2] = addr + step;
	cpu->gprs[r2 + 1] = len - step;

	if (step < len || !(cpu->gprs[0] & AP_SIM_GR0_LAST)) {
		cpu->gprs[0] |= AP_SIM_GR0_CONT;
		cpu->cc = step < len ? 2 : 1;
		return 0;
	}

	cpu->gprs[0] &= ~AP_SIM_GR0_CONT;
	ap_sim_queue_submit(q, cpu->gprs[r1] << 32 |
			       (cpu->gprs[r1 + 1] & 0xffffffff));
	ap_sim_set_status(cpu, ap_sim_queue_status(q, AP_SIM_RC_NORMAL));

	return 0;
}

static int ap_sim_copy_reply(struct ap_sim_cpu *cpu,
			     const struct ap_sim_reply *reply, u32 pos,
			     unsigned long addr, u32 len)
{
	u8 buf[64] __aligned(8);
	u32 n;

	for (; len; len -= n, pos += n, addr += n) {
		n = min_t(u32, len, sizeof(buf));
		ap_sim_reply_bytes(reply, pos, buf, n);
		if (cpu->write(cpu, addr, buf, n))
			return -EFAULT;
	}

	return 0;
}

/*
 * R1 receives the psmid in two halves, R2: address and length of the buffer,
 * updated, general register 2 receives what is left of the message.
 * Condition code 1: the buffer is full, the message stays in the queue, 2:
 * ended at a segment boundary. General register 0 then tells where to go on.
 */
static int ap_sim_exec_dqap(struct ap_sim_cpu *cpu, unsigned int r1,
			    unsigned int r2)
{
	unsigned long addr = cpu->gprs[r2], room = cpu->gprs[r2 + 1];
	struct ap_sim_queue *q = ap_sim_find_gr0(cpu);
	struct ap_queue_status status;
	struct ap_sim_reply *reply;
	u32 left, step;

	if (ap_sim_queue_refuses(q, AP_SIM_DQAP, &status)) {
		ap_sim_set_status(cpu, status);
		return 0;
	}

	reply = ap_sim_queue_oldest(q);
	if (!reply) {
		ap_sim_set_status(cpu, ap_sim_queue_status(q, AP_SIM_RC_NO_REPLY));
		return 0;
	}

	if (cpu->gprs[0] & AP_SIM_GR0_FIRST)
		q->taken = 0;
	left = reply->len - q->taken;
	step = ap_sim_step(addr, min_t(unsigned long, room, left));
	if (ap_sim_copy_reply(cpu, reply, q->taken, addr, step))
		return -EFAULT;

	q->taken += step;
	left -= step;
	cpu->gprs[r1] = reply->psmid >> 32;
	cpu->gprs[r1 + 1] = reply->psmid & 0xffffffff;
	cpu->gprs[r2] = addr + step;
	cpu->gprs[r2 + 1] = room - step;
	cpu->gprs[2] = left;

	if (left) {
		cpu->gprs[0] &= ~AP_SIM_GR0_FIRST;
		cpu->gprs[0] |= AP_SIM_GR0_CONT;
		cpu->cc = step == room ? 1 : 2;
		return 0;
	}

	cpu->gprs[0] &= ~AP_SIM_GR0_CONT;
	ap_sim_queue_remove_oldest(q);
	ap_sim_set_status(cpu, ap_sim_queue_status(q, AP_SIM_RC_NORMAL));

	return 0;
}

/**
 * ap_sim_is_ap() - test for an AP instruction
 * @insn: an instruction of four bytes
 *
 * Return: true for PQAP, NQAP and DQAP
 */
bool ap_sim_is_ap(u32 insn)
{
	switch (insn >> 16) {
	case AP_SIM_OP_PQAP:
	case AP_SIM_OP_NQAP:
	case AP_SIM_OP_DQAP:
		return true;
	default:
		return false;
	}
}

/**
 * ap_sim_execute() - execute one AP instruction
 * @cpu: the processor
 * @insn: the instruction
 *
 * Context: any; interrupts may be on or off.
 *
 * Return: 0: executed, registers and condition code are set;
 *	   -EOPNOTSUPP: not an AP instruction, or one that raises an exception;
 *	   -EFAULT: an operand cannot be accessed
 */
int ap_sim_execute(struct ap_sim_cpu *cpu, u32 insn)
{
	unsigned int r1 = (insn >> 4) & 0xf, r2 = insn & 0xf;
	int rc;

	if (!ap_sim_is_ap(insn))
		return -EOPNOTSUPP;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	if (insn >> 16 == AP_SIM_OP_PQAP)
		rc = ap_sim_exec_pqap(cpu);
	else if ((r1 | r2) & 1)
		rc = -EOPNOTSUPP;
	else if (insn >> 16 == AP_SIM_OP_NQAP)
		rc = ap_sim_exec_nqap(cpu, r1, r2);
	else
		rc = ap_sim_exec_dqap(cpu, r1, r2);
	if (rc)
		ap_sim_counts[AP_SIM_EXCEPTIONS]++;

	return rc;
}

static int ap_sim_host_read(struct ap_sim_cpu *cpu, void *dst,
			    unsigned long addr, size_t len)
{
	return copy_from_kernel_nofault(dst, (void *)addr, len) ? -EFAULT : 0;
}

static int ap_sim_host_write(struct ap_sim_cpu *cpu, unsigned long addr,
			     const void *src, size_t len)
{
	instrument_write((void *)addr, len);
	pagefault_disable();
	while (len) {
		if (len >= sizeof(u64) && !((addr | (unsigned long)src) & 7)) {
			__put_kernel_nofault((u64 *)addr, (u64 *)src, u64, fault);
			addr += sizeof(u64);
			src += sizeof(u64);
			len -= sizeof(u64);
		} else {
			__put_kernel_nofault((u8 *)addr, (u8 *)src, u8, fault);
			addr++;
			src++;
			len--;
		}
	}
	pagefault_enable();

	return 0;

fault:
	pagefault_enable();

	return -EFAULT;
}

static void ap_sim_set_cc(struct pt_regs *regs, int cc)
{
	regs->psw.mask &= ~PSW_MASK_CC;
	regs->psw.mask |= (unsigned long)cc << 44;
}

static int ap_sim_die(struct notifier_block *nb, unsigned long event, void *data)
{
	struct die_args *args = data;
	struct pt_regs *regs = args->regs;
	struct ap_sim_cpu cpu = {
		.gprs = regs->gprs,
		.read = ap_sim_host_read,
		.write = ap_sim_host_write,
	};
	unsigned int ilen = regs->int_code >> 16;
	u16 insn[2];

	/* User space gets its SIGILL: AP instructions are privileged. */
	if (event != DIE_BPT || user_mode(regs) || ilen < sizeof(insn))
		return NOTIFY_DONE;

	if (copy_from_kernel_nofault(insn, (void *)(regs->psw.addr - ilen),
				     sizeof(insn)))
		return NOTIFY_DONE;

	if (ilen != 4 || ap_sim_execute(&cpu, (u32)insn[0] << 16 | insn[1]))
		return NOTIFY_DONE;
	ap_sim_set_cc(regs, cpu.cc);

	return NOTIFY_STOP;
}

static struct notifier_block ap_sim_die_nb = {
	.notifier_call = ap_sim_die,
};

/**
 * ap_sim_insn_init() - start to execute AP instructions
 *
 * Return: 0, or the error of register_die_notifier()
 */
int ap_sim_insn_init(void)
{
	return register_die_notifier(&ap_sim_die_nb);
}

/**
 * ap_sim_insn_exit() - stop to execute AP instructions
 */
void ap_sim_insn_exit(void)
{
	unregister_die_notifier(&ap_sim_die_nb);
}
