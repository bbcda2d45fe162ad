// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: interpreter for the instructions of a guest
 *
 * As much of the z/Architecture as a small program needs that uses AP queues:
 * real mode (DAT off), no floating point, no storage keys, no timers. Whatever
 * is not in the table of interp_ops.c is an operation exception.
 *
 * An instruction is executed completely or, if there is no storage for one of
 * its operands, not at all.
 */

#include <linux/bits.h>
#include <linux/kvm_host.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/string.h>

#include "interp.h"

/* Must be zero */
#define AP_SIM_UNASSIGNED	0xb80800fe7fffffffUL
/* The first 8 KiB change places with those at the prefix. */
#define AP_SIM_PREFIX_AREA	0x2000UL

/**
 * ap_sim_interp_wrap() - cut an address to what the addressing mode has
 * @g: the guest
 * @addr: the address
 *
 * Return: its 24, 31 or 64 bits
 */
u64 ap_sim_interp_wrap(const struct ap_sim_guest *g, u64 addr)
{
	switch (g->psw.mask & AP_SIM_AMODE) {
	case AP_SIM_AMODE:
		return addr;
	case PSW_MASK_BA:
		return addr & GENMASK(30, 0);
	default:
		return addr & GENMASK(23, 0);
	}
}

static u64 ap_sim_absolute(const struct ap_sim_guest *g, u64 real)
{
	u64 area = real & ~(AP_SIM_PREFIX_AREA - 1);

	if (!area)
		return real + g->prefix;
	if (area == g->prefix)
		return real - g->prefix;

	return real;
}

/**
 * ap_sim_interp_map() - find storage
 * @g: the guest, for which a fault is noted if there is none
 * @addr: logical address
 * @write: for a store, too
 *
 * Return: the host's address of the byte and all that follow in its page, or
 *	   NULL
 */
u8 *ap_sim_interp_map(struct ap_sim_guest *g, u64 addr, bool write)
{
	u64 absolute = ap_sim_absolute(g, ap_sim_interp_wrap(g, addr));
	u8 *host = g->map(g, absolute, write);

	if (!host) {
		g->fault_addr = absolute;
		g->fault_write = write;
	}

	return host;
}

/**
 * ap_sim_interp_probe() - see if there is storage
 * @g: the guest
 * @addr: logical address
 * @len: number of bytes
 * @write: there must be for a store, too
 *
 * Return: AP_SIM_STEP_DONE or AP_SIM_STEP_FAULT
 */
enum ap_sim_step ap_sim_interp_probe(struct ap_sim_guest *g, u64 addr,
				     size_t len, bool write)
{
	size_t part;

	for (; len; len -= part, addr += part) {
		part = min_t(size_t, len, PAGE_SIZE - offset_in_page(addr));
		if (!ap_sim_interp_map(g, addr, write))
			return AP_SIM_STEP_FAULT;
	}

	return AP_SIM_STEP_DONE;
}

/**
 * ap_sim_interp_copy() - read or write the guest's storage
 * @g: the guest
 * @addr: logical address
 * @buf: what to write, or where to read to
 * @len: number of bytes
 * @write: write
 *
 * Return: AP_SIM_STEP_DONE; or AP_SIM_STEP_FAULT, then nothing was copied
 */
enum ap_sim_step ap_sim_interp_copy(struct ap_sim_guest *g, u64 addr,
				    void *buf, size_t len, bool write)
{
	size_t part;
	u8 *host;

	if (ap_sim_interp_probe(g, addr, len, write))
		return AP_SIM_STEP_FAULT;

	for (; len; len -= part, addr += part, buf += part) {
		part = min_t(size_t, len, PAGE_SIZE - offset_in_page(addr));
		host = ap_sim_interp_map(g, addr, write);
		if (!host)
			return AP_SIM_STEP_FAULT;
		if (write)
			memcpy(host, buf, part);
		else
			memcpy(buf, host, part);
	}

	return AP_SIM_STEP_DONE;
}

/**
 * ap_sim_interp_program() - recognize a program exception
 * @g: the guest, whose PSW is the old PSW
 * @code: program interruption code
 *
 * Return: AP_SIM_STEP_PROGRAM
 */
enum ap_sim_step ap_sim_interp_program(struct ap_sim_guest *g, u16 code)
{
	g->pgm_code = code;

	return AP_SIM_STEP_PROGRAM;
}

/**
 * ap_sim_interp_set_cc() - set the condition code
 * @g: the guest
 * @cc: 0 to 3
 */
void ap_sim_interp_set_cc(struct ap_sim_guest *g, int cc)
{
	g->psw.mask &= ~PSW_MASK_CC;
	g->psw.mask |= (u64)cc << AP_SIM_CC_SHIFT;
}

/* First byte of the operation code, then what else there is of it, or 0 */
static u16 ap_sim_key(const u16 *text)
{
	switch (text[0] >> 8) {
	case 0xa5:
	case 0xa7:
	case 0xc0:
	case 0xc2:
		return text[0] & 0xff0f;
	case 0xb2:
	case 0xb9:
		return text[0];
	case 0xe3:
	case 0xeb:
		return (text[0] & 0xff00) | (text[2] & 0xff);
	default:
		return text[0] & 0xff00;
	}
}

/* The two bits on the left of an instruction tell its length. */
static u8 ap_sim_length(u16 text)
{
	static const u8 lengths[] = { 2, 4, 4, 6 };

	return lengths[text >> 14];
}

static enum ap_sim_step ap_sim_fetch(struct ap_sim_guest *g,
				     struct ap_sim_insn *in)
{
	u64 addr = g->psw.addr;
	u8 len;

	if (ap_sim_interp_copy(g, addr, in->text, 2, false))
		return AP_SIM_STEP_FAULT;
	len = ap_sim_length(in->text[0]);
	if (ap_sim_interp_copy(g, addr + 2, in->text + 1, len - 2, false))
		return AP_SIM_STEP_FAULT;

	in->addr = addr;
	in->op = ap_sim_interp_find(ap_sim_key(in->text));
	g->ilen = len;
	g->ipa = in->text[0];
	g->ipb = (u32)in->text[1] << 16 | in->text[2];

	return AP_SIM_STEP_DONE;
}

/* Base and displacement in a halfword */
static u64 ap_sim_base(const struct ap_sim_guest *g, u16 text)
{
	u8 base = text >> 12;

	return (base ? g->gpr[base] : 0) + (text & 0xfff);
}

/* The displacement continues in the byte after the halfword, with its sign. */
static u64 ap_sim_long_base(const struct ap_sim_guest *g, const u16 *text)
{
	return ap_sim_base(g, text[1]) + ((s64)(s8)(text[2] >> 8) << 12);
}

static u64 ap_sim_index(const struct ap_sim_guest *g, u8 index)
{
	return index ? g->gpr[index] : 0;
}

static void ap_sim_decode(const struct ap_sim_guest *g, struct ap_sim_insn *in)
{
	const u16 *text = in->text;

	in->r1 = text[0] >> 4 & 15;
	in->r3 = text[0] & 15;
	in->imm = text[0] & 0xff;

	switch (in->op->format) {
	case AP_SIM_RR:
		break;
	case AP_SIM_RRE:
		in->r1 = text[1] >> 4 & 15;
		in->r3 = text[1] & 15;
		break;
	case AP_SIM_RI:
		in->imm = text[1];
		in->opnd = in->addr + (s64)(s16)text[1] * 2;
		break;
	case AP_SIM_RIL:
		in->imm = (u32)text[1] << 16 | text[2];
		in->opnd = in->addr + (s64)(s32)in->imm * 2;
		break;
	case AP_SIM_RX:
		in->opnd = ap_sim_base(g, text[1]) + ap_sim_index(g, in->r3);
		break;
	case AP_SIM_RXY:
		in->opnd = ap_sim_long_base(g, text) + ap_sim_index(g, in->r3);
		break;
	case AP_SIM_RSY:
		in->opnd = ap_sim_long_base(g, text);
		break;
	case AP_SIM_RS:
	case AP_SIM_S:
	case AP_SIM_SI:
		in->opnd = ap_sim_base(g, text[1]);
		break;
	case AP_SIM_SS:
		in->opnd = ap_sim_base(g, text[1]);
		in->opnd2 = ap_sim_base(g, text[2]);
		break;
	}
}

static u64 ap_sim_extend(u64 value, u8 type)
{
	switch (type) {
	case AP_SIM_U8:
		return (u8)value;
	case AP_SIM_U16:
		return (u16)value;
	case AP_SIM_S16:
		return (s16)value;
	case AP_SIM_U32:
		return (u32)value;
	case AP_SIM_S32:
		return (s32)value;
	default:
		return value;
	}
}

static size_t ap_sim_size(u8 type)
{
	switch (type) {
	case AP_SIM_U8:
		return 1;
	case AP_SIM_U16:
	case AP_SIM_S16:
		return 2;
	case AP_SIM_U32:
	case AP_SIM_S32:
		return 4;
	default:
		return 8;
	}
}

/* Get the second operand from storage, a register or the instruction. */
static enum ap_sim_step ap_sim_fetch_operand(struct ap_sim_guest *g,
					     struct ap_sim_insn *in)
{
	size_t size = ap_sim_size(in->op->type);
	u64 value = 0;

	switch (in->op->format) {
	case AP_SIM_RX:
	case AP_SIM_RXY:
		/* right-aligned */
		if (ap_sim_interp_copy(g, in->opnd,
				       (u8 *)&value + sizeof(value) - size,
				       size, false))
			return AP_SIM_STEP_FAULT;
		break;
	case AP_SIM_RI:
	case AP_SIM_RIL:
		value = in->imm;
		break;
	default:
		value = g->gpr[in->r3];
	}
	in->value = ap_sim_extend(value, in->op->type);

	return AP_SIM_STEP_DONE;
}

/* DAT is valid, but not here. */
static bool ap_sim_psw_ok(const psw_t *psw)
{
	if (psw->mask & (AP_SIM_UNASSIGNED | PSW_MASK_DAT) || psw->addr & 1)
		return false;

	switch (psw->mask & AP_SIM_AMODE) {
	case AP_SIM_AMODE:
		return true;
	case PSW_MASK_BA:
		return psw->addr <= GENMASK(30, 0);
	case 0:
		return psw->addr <= GENMASK(23, 0);
	default:
		return false;
	}
}

static enum ap_sim_step ap_sim_run(struct ap_sim_guest *g,
				   struct ap_sim_insn *in)
{
	if (!in->op)
		return AP_SIM_STEP_OPERATION;
	if (in->op->flags & AP_SIM_PRIV && g->psw.mask & PSW_MASK_PSTATE)
		return ap_sim_interp_program(g, PGM_PRIVILEGED_OP);

	ap_sim_decode(g, in);
	if (in->op->type != AP_SIM_NONE &&
	    ap_sim_fetch_operand(g, in))
		return AP_SIM_STEP_FAULT;

	return in->op->run(g, in);
}

/**
 * ap_sim_interp_step() - execute one instruction
 * @g: the guest
 *
 * Interrupts are not looked at.
 *
 * Return: what has become of it
 */
enum ap_sim_step ap_sim_interp_step(struct ap_sim_guest *g)
{
	struct ap_sim_insn in = {};
	enum ap_sim_step step;

	if (!ap_sim_psw_ok(&g->psw)) {
		g->ilen = 0;
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	}
	if (g->psw.mask & PSW_MASK_WAIT)
		return AP_SIM_STEP_WAIT;

	step = ap_sim_fetch(g, &in);
	if (step)
		return step;

	g->psw.addr = ap_sim_interp_wrap(g, in.addr + g->ilen);
	step = ap_sim_run(g, &in);
	if (step == AP_SIM_STEP_FAULT)
		g->psw.addr = in.addr;

	return step;
}
