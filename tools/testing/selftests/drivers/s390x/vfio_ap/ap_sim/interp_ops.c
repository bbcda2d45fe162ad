// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: the instructions of a guest
 *
 * To add one, add a line to the table at the end.
 */

#include <linux/array_size.h>
#include <linux/bitops.h>
#include <linux/bits.h>
#include <linux/kvm_host.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/overflow.h>

#include "interp.h"

/* Program mask: report fixed-point overflow */
#define AP_SIM_PM_OVERFLOW	0x0000080000000000UL

/**
 * struct ap_sim_span - storage that may begin in one page and end in the next
 * @part: its beginning, and its rest
 * @first: number of bytes in the first part
 */
struct ap_sim_span {
	u8 *part[2];
	size_t first;
};

static bool ap_sim_span(struct ap_sim_guest *g, struct ap_sim_span *span,
			u64 addr, size_t len, bool write)
{
	span->first = min_t(size_t, len, PAGE_SIZE - offset_in_page(addr));
	span->part[0] = ap_sim_interp_map(g, addr, write);
	span->part[1] = NULL;
	if (!span->part[0])
		return false;
	if (span->first < len)
		span->part[1] = ap_sim_interp_map(g, addr + span->first, write);

	return span->first == len || span->part[1];
}

static u8 *ap_sim_span_at(const struct ap_sim_span *span, size_t pos)
{
	return pos < span->first ? span->part[0] + pos :
				   span->part[1] + (pos - span->first);
}

static bool ap_sim_cc_in(const struct ap_sim_guest *g, u8 mask)
{
	int cc = (g->psw.mask & PSW_MASK_CC) >> AP_SIM_CC_SHIFT;

	return mask & 8 >> cc;
}

static bool ap_sim_wide(const struct ap_sim_insn *in)
{
	return in->op->flags & AP_SIM_WIDE;
}

/* The first operand as a signed number */
static s64 ap_sim_first(const struct ap_sim_guest *g,
			const struct ap_sim_insn *in)
{
	return ap_sim_wide(in) ? (s64)g->gpr[in->r1] : (s32)g->gpr[in->r1];
}

static void ap_sim_set32(struct ap_sim_guest *g, u8 reg, u32 value)
{
	g->gpr[reg] &= ~(u64)U32_MAX;
	g->gpr[reg] |= value;
}

static void ap_sim_set_first(struct ap_sim_guest *g,
			     const struct ap_sim_insn *in, u64 value)
{
	if (ap_sim_wide(in))
		g->gpr[in->r1] = value;
	else
		ap_sim_set32(g, in->r1, value);
}

/* Addresses: the whole register in 64-bit mode only */
static void ap_sim_set_address(struct ap_sim_guest *g, u8 reg, u64 addr)
{
	if ((g->psw.mask & AP_SIM_AMODE) == AP_SIM_AMODE)
		g->gpr[reg] = addr;
	else
		ap_sim_set32(g, reg, addr);
}

static void ap_sim_set_sign_cc(struct ap_sim_guest *g, s64 value)
{
	ap_sim_interp_set_cc(g, value < 0 ? 1 : value > 0 ? 2 : 0);
}

static enum ap_sim_step ap_sim_load(struct ap_sim_guest *g,
				    const struct ap_sim_insn *in)
{
	ap_sim_set_first(g, in, in->value);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_load_test(struct ap_sim_guest *g,
					 const struct ap_sim_insn *in)
{
	ap_sim_set_first(g, in, in->value);
	ap_sim_set_sign_cc(g, ap_sim_first(g, in));

	return AP_SIM_STEP_DONE;
}

/* An immediate operand at one of the halfwords of an otherwise empty register */
static enum ap_sim_step ap_sim_load_halfword(struct ap_sim_guest *g,
					     const struct ap_sim_insn *in)
{
	g->gpr[in->r1] = in->value << in->op->arg;

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_load_address(struct ap_sim_guest *g,
					    const struct ap_sim_insn *in)
{
	ap_sim_set_address(g, in->r1, ap_sim_interp_wrap(g, in->opnd));

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_insert_char(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	g->gpr[in->r1] &= ~(u64)U8_MAX;
	g->gpr[in->r1] |= in->value;

	return AP_SIM_STEP_DONE;
}

/* op->arg: number of bytes, the rightmost ones of the register */
static enum ap_sim_step ap_sim_store(struct ap_sim_guest *g,
				     const struct ap_sim_insn *in)
{
	u8 *reg = (u8 *)&g->gpr[in->r1];

	return ap_sim_interp_copy(g, in->opnd, reg + sizeof(u64) - in->op->arg,
				  in->op->arg, true);
}

/* Signed sum or difference */
static enum ap_sim_step ap_sim_signed_result(struct ap_sim_guest *g,
					     const struct ap_sim_insn *in,
					     s64 result, bool overflow)
{
	if (!ap_sim_wide(in))
		overflow = result != (s32)result;
	ap_sim_set_first(g, in, result);
	if (!overflow) {
		ap_sim_set_sign_cc(g, result);
		return AP_SIM_STEP_DONE;
	}

	ap_sim_interp_set_cc(g, 3);
	if (g->psw.mask & AP_SIM_PM_OVERFLOW)
		return ap_sim_interp_program(g, PGM_FIXED_POINT_OVERFLOW);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_add(struct ap_sim_guest *g,
				   const struct ap_sim_insn *in)
{
	s64 result;
	bool overflow;

	overflow = check_add_overflow(ap_sim_first(g, in), (s64)in->value,
				      &result);

	return ap_sim_signed_result(g, in, result, overflow);
}

static enum ap_sim_step ap_sim_sub(struct ap_sim_guest *g,
				   const struct ap_sim_insn *in)
{
	s64 result;
	bool overflow;

	overflow = check_sub_overflow(ap_sim_first(g, in), (s64)in->value,
				      &result);

	return ap_sim_signed_result(g, in, result, overflow);
}

/* Both with 64 bits only. Condition code: carry or not, zero or not */
static enum ap_sim_step ap_sim_add_logical(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	bool carry;
	u64 result;

	carry = check_add_overflow(g->gpr[in->r1], in->value, &result);
	g->gpr[in->r1] = result;
	ap_sim_interp_set_cc(g, (carry ? 2 : 0) + !!result);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_sub_logical(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	bool borrow;
	u64 result;

	borrow = check_sub_overflow(g->gpr[in->r1], in->value, &result);
	g->gpr[in->r1] = result;
	ap_sim_interp_set_cc(g, (borrow ? 0 : 2) + !!result);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_bits_result(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in,
					   u64 result)
{
	ap_sim_set_first(g, in, result);
	ap_sim_interp_set_cc(g, !!ap_sim_first(g, in));

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_and(struct ap_sim_guest *g,
				   const struct ap_sim_insn *in)
{
	return ap_sim_bits_result(g, in, g->gpr[in->r1] & in->value);
}

static enum ap_sim_step ap_sim_or(struct ap_sim_guest *g,
				  const struct ap_sim_insn *in)
{
	return ap_sim_bits_result(g, in, g->gpr[in->r1] | in->value);
}

static enum ap_sim_step ap_sim_xor(struct ap_sim_guest *g,
				   const struct ap_sim_insn *in)
{
	return ap_sim_bits_result(g, in, g->gpr[in->r1] ^ in->value);
}

/* The other bits of the register and of the condition remain aside. */
static enum ap_sim_step ap_sim_and_halfword(struct ap_sim_guest *g,
					    const struct ap_sim_insn *in)
{
	g->gpr[in->r1] &= ~((u64)U16_MAX << in->op->arg) |
			  in->value << in->op->arg;
	ap_sim_interp_set_cc(g, !!(g->gpr[in->r1] >> in->op->arg & U16_MAX));

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_or_halfword(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	g->gpr[in->r1] |= in->value << in->op->arg;
	ap_sim_interp_set_cc(g, !!(g->gpr[in->r1] >> in->op->arg & U16_MAX));

	return AP_SIM_STEP_DONE;
}

static int ap_sim_three_way(bool less, bool greater)
{
	return less ? 1 : greater ? 2 : 0;
}

static enum ap_sim_step ap_sim_compare(struct ap_sim_guest *g,
				       const struct ap_sim_insn *in)
{
	s64 a = ap_sim_first(g, in), b = in->value;

	ap_sim_interp_set_cc(g, ap_sim_three_way(a < b, a > b));

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_compare_logical(struct ap_sim_guest *g,
					       const struct ap_sim_insn *in)
{
	u64 a = ap_sim_wide(in) ? g->gpr[in->r1] : (u32)g->gpr[in->r1];
	u64 b = in->value;

	ap_sim_interp_set_cc(g, ap_sim_three_way(a < b, a > b));

	return AP_SIM_STEP_DONE;
}

/* Which of the selected bits are ones: none, some (leftmost one 0 or 1), all */
static int ap_sim_test_mask(u64 selected, u64 mask)
{
	if (!selected)
		return 0;
	if (selected == mask)
		return 3;

	return selected & BIT_ULL(fls64(mask) - 1) ? 2 : 1;
}

static enum ap_sim_step ap_sim_test_halfword(struct ap_sim_guest *g,
					     const struct ap_sim_insn *in)
{
	u64 selected = g->gpr[in->r1] >> in->op->arg & in->value;

	ap_sim_interp_set_cc(g, ap_sim_test_mask(selected, in->value));

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_shift_left(struct ap_sim_guest *g,
					  const struct ap_sim_insn *in)
{
	g->gpr[in->r1] = g->gpr[in->r3] << (in->opnd & 63);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_shift_right(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	g->gpr[in->r1] = g->gpr[in->r3] >> (in->opnd & 63);

	return AP_SIM_STEP_DONE;
}

static void ap_sim_branch(struct ap_sim_guest *g, u64 target)
{
	g->psw.addr = ap_sim_interp_wrap(g, target);
}

/* op->format says where the target comes from; register 0 means nowhere. */
static void ap_sim_branch_operand(struct ap_sim_guest *g,
				  const struct ap_sim_insn *in, u64 reg)
{
	if (in->op->format != AP_SIM_RR && in->op->format != AP_SIM_RRE)
		ap_sim_branch(g, in->opnd);
	else if (in->r3)
		ap_sim_branch(g, reg);
}

static enum ap_sim_step ap_sim_branch_on_cc(struct ap_sim_guest *g,
					    const struct ap_sim_insn *in)
{
	if (ap_sim_cc_in(g, in->r1))
		ap_sim_branch_operand(g, in, g->gpr[in->r3]);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_branch_save(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	u64 link = g->psw.addr, reg = g->gpr[in->r3];

	if ((g->psw.mask & AP_SIM_AMODE) == PSW_MASK_BA)
		link |= PSW32_ADDR_AMODE;
	ap_sim_set_address(g, in->r1, link);
	ap_sim_branch_operand(g, in, reg);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_branch_on_count(struct ap_sim_guest *g,
					       const struct ap_sim_insn *in)
{
	u64 reg = g->gpr[in->r3];

	ap_sim_set_first(g, in, g->gpr[in->r1] - 1);
	if (ap_sim_first(g, in))
		ap_sim_branch_operand(g, in, reg);

	return AP_SIM_STEP_DONE;
}

/* One byte in storage, which may not be stored to if it does not change */
static enum ap_sim_step ap_sim_byte(struct ap_sim_guest *g,
				    const struct ap_sim_insn *in, u8 *byte)
{
	return ap_sim_interp_copy(g, in->opnd, byte, sizeof(*byte), false);
}

static enum ap_sim_step ap_sim_move_imm(struct ap_sim_guest *g,
					const struct ap_sim_insn *in)
{
	u8 byte = in->imm;

	return ap_sim_interp_copy(g, in->opnd, &byte, sizeof(byte), true);
}

/* Both access the byte for a store at once: no other fault comes later. */
static enum ap_sim_step ap_sim_and_imm(struct ap_sim_guest *g,
				       const struct ap_sim_insn *in)
{
	u8 *host = ap_sim_interp_map(g, in->opnd, true);

	if (!host)
		return AP_SIM_STEP_FAULT;
	*host &= in->imm;
	ap_sim_interp_set_cc(g, !!*host);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_or_imm(struct ap_sim_guest *g,
				      const struct ap_sim_insn *in)
{
	u8 *host = ap_sim_interp_map(g, in->opnd, true);

	if (!host)
		return AP_SIM_STEP_FAULT;
	*host |= in->imm;
	ap_sim_interp_set_cc(g, !!*host);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_compare_imm(struct ap_sim_guest *g,
					   const struct ap_sim_insn *in)
{
	u8 byte;

	if (ap_sim_byte(g, in, &byte))
		return AP_SIM_STEP_FAULT;
	ap_sim_interp_set_cc(g, ap_sim_three_way(byte < in->imm,
						 byte > in->imm));

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_test_imm(struct ap_sim_guest *g,
					const struct ap_sim_insn *in)
{
	u8 byte;

	if (ap_sim_byte(g, in, &byte))
		return AP_SIM_STEP_FAULT;
	/* Which of some bits is a one makes no difference here. */
	byte &= in->imm;
	ap_sim_interp_set_cc(g, !byte ? 0 : byte == in->imm ? 3 : 1);

	return AP_SIM_STEP_DONE;
}

/* Byte after byte from left to right, as operands that overlap show */
static enum ap_sim_step ap_sim_move_chars(struct ap_sim_guest *g,
					  const struct ap_sim_insn *in)
{
	struct ap_sim_span to, from;
	size_t i, len = in->imm + 1;

	if (!ap_sim_span(g, &to, in->opnd, len, true) ||
	    !ap_sim_span(g, &from, in->opnd2, len, false))
		return AP_SIM_STEP_FAULT;
	for (i = 0; i < len; i++)
		*ap_sim_span_at(&to, i) = *ap_sim_span_at(&from, i);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_xor_chars(struct ap_sim_guest *g,
					 const struct ap_sim_insn *in)
{
	struct ap_sim_span to, from;
	size_t i, len = in->imm + 1;
	u8 any = 0;

	if (!ap_sim_span(g, &to, in->opnd, len, true) ||
	    !ap_sim_span(g, &from, in->opnd2, len, false))
		return AP_SIM_STEP_FAULT;
	for (i = 0; i < len; i++) {
		*ap_sim_span_at(&to, i) ^= *ap_sim_span_at(&from, i);
		any |= *ap_sim_span_at(&to, i);
	}
	ap_sim_interp_set_cc(g, !!any);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_compare_chars(struct ap_sim_guest *g,
					     const struct ap_sim_insn *in)
{
	struct ap_sim_span first, second;
	size_t i, len = in->imm + 1;
	int diff = 0;

	if (!ap_sim_span(g, &first, in->opnd, len, false) ||
	    !ap_sim_span(g, &second, in->opnd2, len, false))
		return AP_SIM_STEP_FAULT;
	for (i = 0; i < len && !diff; i++)
		diff = *ap_sim_span_at(&first, i) - *ap_sim_span_at(&second, i);
	ap_sim_interp_set_cc(g, ap_sim_three_way(diff < 0, diff > 0));

	return AP_SIM_STEP_DONE;
}

/* Number of registers from r1 to r3, which may wrap around */
static unsigned int ap_sim_nr_regs(const struct ap_sim_insn *in)
{
	return ((in->r3 - in->r1) & 15) + 1;
}

static enum ap_sim_step ap_sim_load_multiple(struct ap_sim_guest *g,
					     const struct ap_sim_insn *in)
{
	unsigned int i, nr = ap_sim_nr_regs(in);
	u64 regs[16];

	if (ap_sim_interp_copy(g, in->opnd, regs, nr * sizeof(*regs), false))
		return AP_SIM_STEP_FAULT;
	for (i = 0; i < nr; i++)
		g->gpr[(in->r1 + i) & 15] = regs[i];

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_store_multiple(struct ap_sim_guest *g,
					      const struct ap_sim_insn *in)
{
	unsigned int i, nr = ap_sim_nr_regs(in);
	u64 regs[16];

	for (i = 0; i < nr; i++)
		regs[i] = g->gpr[(in->r1 + i) & 15];

	return ap_sim_interp_copy(g, in->opnd, regs, nr * sizeof(*regs), true);
}

static enum ap_sim_step ap_sim_intercept(struct ap_sim_guest *g,
					 const struct ap_sim_insn *in)
{
	return AP_SIM_STEP_INTERCEPT;
}

/* Whether the host wants to know of changes of one of the control registers */
static bool ap_sim_lctl_wanted(const struct ap_sim_guest *g,
			       const struct ap_sim_insn *in)
{
	unsigned int i, nr = ap_sim_nr_regs(in);

	for (i = 0; i < nr; i++)
		if (g->lctl & 0x8000 >> ((in->r1 + i) & 15))
			return true;

	return false;
}

static enum ap_sim_step ap_sim_load_control(struct ap_sim_guest *g,
					    const struct ap_sim_insn *in)
{
	unsigned int i, nr = ap_sim_nr_regs(in);
	u64 regs[16];

	if (ap_sim_lctl_wanted(g, in))
		return AP_SIM_STEP_INTERCEPT;
	if (in->opnd % sizeof(*regs))
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	if (ap_sim_interp_copy(g, in->opnd, regs, nr * sizeof(*regs), false))
		return AP_SIM_STEP_FAULT;
	for (i = 0; i < nr; i++)
		g->cr[(in->r1 + i) & 15] = regs[i];

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_store_control(struct ap_sim_guest *g,
					     const struct ap_sim_insn *in)
{
	unsigned int i, nr = ap_sim_nr_regs(in);
	u64 regs[16];

	if (g->ictl_stctl)
		return AP_SIM_STEP_INTERCEPT;
	if (in->opnd % sizeof(*regs))
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	for (i = 0; i < nr; i++)
		regs[i] = g->cr[(in->r1 + i) & 15];

	return ap_sim_interp_copy(g, in->opnd, regs, nr * sizeof(*regs), true);
}

/* The PSW is tested where it is used. */
static enum ap_sim_step ap_sim_load_psw(struct ap_sim_guest *g,
					const struct ap_sim_insn *in)
{
	u32 psw[2];

	if (g->ictl_lpsw)
		return AP_SIM_STEP_INTERCEPT;
	if (in->opnd % sizeof(psw))
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	if (ap_sim_interp_copy(g, in->opnd, psw, sizeof(psw), false))
		return AP_SIM_STEP_FAULT;
	if (!(psw[0] & PSW32_MASK_BASE))
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	g->psw.mask = (u64)(psw[0] & ~PSW32_MASK_BASE) << 32;
	g->psw.mask |= psw[1] & PSW32_ADDR_AMODE;
	g->psw.addr = psw[1] & PSW32_ADDR_INSN;

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_load_psw_extended(struct ap_sim_guest *g,
						 const struct ap_sim_insn *in)
{
	psw_t psw;

	if (g->ictl_lpsw)
		return AP_SIM_STEP_INTERCEPT;
	if (in->opnd % sizeof(u64))
		return ap_sim_interp_program(g, PGM_SPECIFICATION);
	if (ap_sim_interp_copy(g, in->opnd, &psw, sizeof(psw), false))
		return AP_SIM_STEP_FAULT;
	g->psw = psw;

	return AP_SIM_STEP_DONE;
}

/* The system mask is the first byte of the PSW. */
static void ap_sim_set_mask(struct ap_sim_guest *g, u8 mask)
{
	g->psw.mask &= GENMASK_ULL(55, 0);
	g->psw.mask |= (u64)mask << 56;
}

static enum ap_sim_step ap_sim_set_system_mask(struct ap_sim_guest *g,
					       const struct ap_sim_insn *in)
{
	u8 mask;

	if (ap_sim_byte(g, in, &mask))
		return AP_SIM_STEP_FAULT;
	ap_sim_set_mask(g, mask);

	return AP_SIM_STEP_DONE;
}

/* op->arg: OR the immediate operand, not AND */
static enum ap_sim_step ap_sim_swap_system_mask(struct ap_sim_guest *g,
						const struct ap_sim_insn *in)
{
	u8 mask = g->psw.mask >> 56;

	if (ap_sim_interp_copy(g, in->opnd, &mask, sizeof(mask), true))
		return AP_SIM_STEP_FAULT;
	ap_sim_set_mask(g, in->op->arg ? mask | in->imm : mask & in->imm);

	return AP_SIM_STEP_DONE;
}

static enum ap_sim_step ap_sim_ap(struct ap_sim_guest *g,
				  const struct ap_sim_insn *in)
{
	return g->ap(g, (u32)in->text[0] << 16 | in->text[1]);
}

#define OP(key, format, type, flags, arg, run)				\
	{ 0x##key, AP_SIM_##format, AP_SIM_##type, flags, arg, ap_sim_##run }
#define WIDE	AP_SIM_WIDE
#define PRIV	AP_SIM_PRIV

/* Sorted by key. */
static const struct ap_sim_op ap_sim_ops[] = {
	OP(0600, RR,  NONE, 0, 0, branch_on_count),		/* BCTR */
	OP(0700, RR,  NONE, 0, 0, branch_on_cc),		/* BCR */
	OP(0d00, RR,  NONE, 0, 0, branch_save),			/* BASR */
	OP(1200, RR,  S32,  0, 0, load_test),			/* LTR */
	OP(1400, RR,  U32,  0, 0, and),				/* NR */
	OP(1500, RR,  U32,  0, 0, compare_logical),		/* CLR */
	OP(1600, RR,  U32,  0, 0, or),				/* OR */
	OP(1700, RR,  U32,  0, 0, xor),				/* XR */
	OP(1800, RR,  U32,  0, 0, load),			/* LR */
	OP(1900, RR,  S32,  0, 0, compare),			/* CR */
	OP(1a00, RR,  S32,  0, 0, add),				/* AR */
	OP(1b00, RR,  S32,  0, 0, sub),				/* SR */
	OP(4000, RX,  NONE, 0, 2, store),			/* STH */
	OP(4100, RX,  NONE, 0, 0, load_address),		/* LA */
	OP(4200, RX,  NONE, 0, 1, store),			/* STC */
	OP(4300, RX,  U8,   0, 0, insert_char),			/* IC */
	OP(4600, RX,  NONE, 0, 0, branch_on_count),		/* BCT */
	OP(4700, RX,  NONE, 0, 0, branch_on_cc),		/* BC */
	OP(4800, RX,  S16,  0, 0, load),			/* LH */
	OP(4d00, RX,  NONE, 0, 0, branch_save),			/* BAS */
	OP(5000, RX,  NONE, 0, 4, store),			/* ST */
	OP(5400, RX,  U32,  0, 0, and),				/* N */
	OP(5500, RX,  U32,  0, 0, compare_logical),		/* CL */
	OP(5600, RX,  U32,  0, 0, or),				/* O */
	OP(5700, RX,  U32,  0, 0, xor),				/* X */
	OP(5800, RX,  U32,  0, 0, load),			/* L */
	OP(5900, RX,  S32,  0, 0, compare),			/* C */
	OP(5a00, RX,  S32,  0, 0, add),				/* A */
	OP(5b00, RX,  S32,  0, 0, sub),				/* S */
	OP(8000, S,   NONE, PRIV, 0, set_system_mask),		/* SSM */
	OP(8200, S,   NONE, PRIV, 0, load_psw),			/* LPSW */
	OP(8300, RS,  NONE, PRIV, 0, intercept),		/* DIAG */
	OP(9100, SI,  NONE, 0, 0, test_imm),			/* TM */
	OP(9200, SI,  NONE, 0, 0, move_imm),			/* MVI */
	OP(9400, SI,  NONE, 0, 0, and_imm),			/* NI */
	OP(9500, SI,  NONE, 0, 0, compare_imm),			/* CLI */
	OP(9600, SI,  NONE, 0, 0, or_imm),			/* OI */
	OP(a504, RI,  U16,  0, 48, and_halfword),		/* NIHH */
	OP(a505, RI,  U16,  0, 32, and_halfword),		/* NIHL */
	OP(a506, RI,  U16,  0, 16, and_halfword),		/* NILH */
	OP(a507, RI,  U16,  0, 0, and_halfword),		/* NILL */
	OP(a508, RI,  U16,  0, 48, or_halfword),		/* OIHH */
	OP(a509, RI,  U16,  0, 32, or_halfword),		/* OIHL */
	OP(a50a, RI,  U16,  0, 16, or_halfword),		/* OILH */
	OP(a50b, RI,  U16,  0, 0, or_halfword),			/* OILL */
	OP(a50c, RI,  U16,  0, 48, load_halfword),		/* LLIHH */
	OP(a50d, RI,  U16,  0, 32, load_halfword),		/* LLIHL */
	OP(a50e, RI,  U16,  0, 16, load_halfword),		/* LLILH */
	OP(a50f, RI,  U16,  0, 0, load_halfword),		/* LLILL */
	OP(a700, RI,  U16,  0, 16, test_halfword),		/* TMLH */
	OP(a701, RI,  U16,  0, 0, test_halfword),		/* TMLL */
	OP(a702, RI,  U16,  0, 48, test_halfword),		/* TMHH */
	OP(a703, RI,  U16,  0, 32, test_halfword),		/* TMHL */
	OP(a704, RI,  NONE, 0, 0, branch_on_cc),		/* BRC */
	OP(a705, RI,  NONE, 0, 0, branch_save),			/* BRAS */
	OP(a706, RI,  NONE, 0, 0, branch_on_count),		/* BRCT */
	OP(a707, RI,  NONE, WIDE, 0, branch_on_count),		/* BRCTG */
	OP(a708, RI,  S16,  0, 0, load),			/* LHI */
	OP(a709, RI,  S16,  WIDE, 0, load),			/* LGHI */
	OP(a70a, RI,  S16,  0, 0, add),				/* AHI */
	OP(a70b, RI,  S16,  WIDE, 0, add),			/* AGHI */
	OP(a70e, RI,  S16,  0, 0, compare),			/* CHI */
	OP(a70f, RI,  S16,  WIDE, 0, compare),			/* CGHI */
	OP(ac00, SI,  NONE, PRIV, 0, swap_system_mask),		/* STNSM */
	OP(ad00, SI,  NONE, PRIV, 1, swap_system_mask),		/* STOSM */
	OP(ae00, RS,  NONE, PRIV, 0, intercept),		/* SIGP */
	OP(b202, S,   NONE, PRIV, 0, intercept),		/* STIDP */
	OP(b210, S,   NONE, PRIV, 0, intercept),		/* SPX */
	OP(b211, S,   NONE, PRIV, 0, intercept),		/* STPX */
	OP(b212, S,   NONE, PRIV, 0, intercept),		/* STAP */
	OP(b220, RRE, NONE, PRIV, 0, intercept),		/* SERVC */
	OP(b230, S,   NONE, PRIV, 0, intercept),		/* CSCH */
	OP(b231, S,   NONE, PRIV, 0, intercept),		/* HSCH */
	OP(b232, S,   NONE, PRIV, 0, intercept),		/* MSCH */
	OP(b233, S,   NONE, PRIV, 0, intercept),		/* SSCH */
	OP(b234, S,   NONE, PRIV, 0, intercept),		/* STSCH */
	OP(b235, S,   NONE, PRIV, 0, intercept),		/* TSCH */
	OP(b236, S,   NONE, PRIV, 0, intercept),		/* TPI */
	OP(b25f, RRE, NONE, PRIV, 0, intercept),		/* CHSC */
	OP(b27d, S,   NONE, PRIV, 0, intercept),		/* STSI */
	OP(b2ad, RRE, NONE, PRIV, 0, ap),			/* NQAP */
	OP(b2ae, RRE, NONE, PRIV, 0, ap),			/* DQAP */
	OP(b2af, RRE, NONE, PRIV, 0, ap),			/* PQAP */
	OP(b2b1, S,   NONE, PRIV, 0, intercept),		/* STFL */
	OP(b2b2, S,   NONE, PRIV, 0, load_psw_extended),	/* LPSWE */
	OP(b902, RRE, 64,   WIDE, 0, load_test),		/* LTGR */
	OP(b904, RRE, 64,   WIDE, 0, load),			/* LGR */
	OP(b908, RRE, 64,   WIDE, 0, add),			/* AGR */
	OP(b909, RRE, 64,   WIDE, 0, sub),			/* SGR */
	OP(b90a, RRE, 64,   WIDE, 0, add_logical),		/* ALGR */
	OP(b90b, RRE, 64,   WIDE, 0, sub_logical),		/* SLGR */
	OP(b914, RRE, S32,  WIDE, 0, load),			/* LGFR */
	OP(b916, RRE, U32,  WIDE, 0, load),			/* LLGFR */
	OP(b920, RRE, 64,   WIDE, 0, compare),			/* CGR */
	OP(b921, RRE, 64,   WIDE, 0, compare_logical),		/* CLGR */
	OP(b946, RRE, NONE, WIDE, 0, branch_on_count),		/* BCTGR */
	OP(b980, RRE, 64,   WIDE, 0, and),			/* NGR */
	OP(b981, RRE, 64,   WIDE, 0, or),			/* OGR */
	OP(b982, RRE, 64,   WIDE, 0, xor),			/* XGR */
	OP(b984, RRE, U8,   WIDE, 0, load),			/* LLGCR */
	OP(b985, RRE, U16,  WIDE, 0, load),			/* LLGHR */
	OP(c000, RIL, NONE, 0, 0, load_address),		/* LARL */
	OP(c001, RIL, S32,  WIDE, 0, load),			/* LGFI */
	OP(c004, RIL, NONE, 0, 0, branch_on_cc),		/* BRCL */
	OP(c005, RIL, NONE, 0, 0, branch_save),			/* BRASL */
	OP(c00e, RIL, U32,  WIDE, 32, load_halfword),		/* LLIHF */
	OP(c00f, RIL, U32,  WIDE, 0, load),			/* LLILF */
	OP(c204, RIL, U32,  WIDE, 0, sub_logical),		/* SLGFI */
	OP(c208, RIL, S32,  WIDE, 0, add),			/* AGFI */
	OP(c209, RIL, S32,  0, 0, add),				/* AFI */
	OP(c20a, RIL, U32,  WIDE, 0, add_logical),		/* ALGFI */
	OP(c20c, RIL, S32,  WIDE, 0, compare),			/* CGFI */
	OP(c20d, RIL, S32,  0, 0, compare),			/* CFI */
	OP(c20e, RIL, U32,  WIDE, 0, compare_logical),		/* CLGFI */
	OP(c20f, RIL, U32,  0, 0, compare_logical),		/* CLFI */
	OP(d200, SS,  NONE, 0, 0, move_chars),			/* MVC */
	OP(d500, SS,  NONE, 0, 0, compare_chars),		/* CLC */
	OP(d700, SS,  NONE, 0, 0, xor_chars),			/* XC */
	OP(e302, RXY, 64,   WIDE, 0, load_test),		/* LTG */
	OP(e304, RXY, 64,   WIDE, 0, load),			/* LG */
	OP(e308, RXY, 64,   WIDE, 0, add),			/* AG */
	OP(e309, RXY, 64,   WIDE, 0, sub),			/* SG */
	OP(e314, RXY, S32,  WIDE, 0, load),			/* LGF */
	OP(e316, RXY, U32,  WIDE, 0, load),			/* LLGF */
	OP(e320, RXY, 64,   WIDE, 0, compare),			/* CG */
	OP(e321, RXY, 64,   WIDE, 0, compare_logical),		/* CLG */
	OP(e324, RXY, NONE, 0, 8, store),			/* STG */
	OP(e346, RXY, NONE, WIDE, 0, branch_on_count),		/* BCTG */
	OP(e350, RXY, NONE, 0, 4, store),			/* STY */
	OP(e358, RXY, U32,  0, 0, load),			/* LY */
	OP(e370, RXY, NONE, 0, 2, store),			/* STHY */
	OP(e371, RXY, NONE, 0, 0, load_address),		/* LAY */
	OP(e372, RXY, NONE, 0, 1, store),			/* STCY */
	OP(e380, RXY, 64,   WIDE, 0, and),			/* NG */
	OP(e381, RXY, 64,   WIDE, 0, or),			/* OG */
	OP(e382, RXY, 64,   WIDE, 0, xor),			/* XG */
	OP(e390, RXY, U8,   WIDE, 0, load),			/* LLGC */
	OP(e391, RXY, U16,  WIDE, 0, load),			/* LLGH */
	OP(eb04, RSY, NONE, 0, 0, load_multiple),		/* LMG */
	OP(eb0c, RSY, NONE, 0, 0, shift_right),			/* SRLG */
	OP(eb0d, RSY, NONE, 0, 0, shift_left),			/* SLLG */
	OP(eb24, RSY, NONE, 0, 0, store_multiple),		/* STMG */
	OP(eb25, RSY, NONE, PRIV, 0, store_control),		/* STCTG */
	OP(eb2f, RSY, NONE, PRIV, 0, load_control),		/* LCTLG */
};

#undef OP
#undef WIDE
#undef PRIV

/**
 * ap_sim_interp_find() - look an instruction up
 * @key: first byte of its operation code, then what else there is of it, or 0
 *
 * Return: the instruction, or NULL if it is not known
 */
const struct ap_sim_op *ap_sim_interp_find(u16 key)
{
	unsigned int low = 0, high = ARRAY_SIZE(ap_sim_ops), mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (ap_sim_ops[mid].key == key)
			return &ap_sim_ops[mid];
		if (ap_sim_ops[mid].key < key)
			low = mid + 1;
		else
			high = mid;
	}

	return NULL;
}
