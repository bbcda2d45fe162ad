/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ap_sim: interpreter for the instructions of a guest
 *
 * Knows the z/Architecture only, neither KVM nor the simulated cards: what is
 * outside of the processor comes in through callbacks.
 */

#ifndef AP_SIM_INTERP_H
#define AP_SIM_INTERP_H

#include <linux/bits.h>
#include <linux/types.h>

#include <asm/ptrace.h>

/**
 * enum ap_sim_step - what became of an instruction
 * @AP_SIM_STEP_DONE: it was executed; 0
 * @AP_SIM_STEP_INTERCEPT: it is for the host, see &ap_sim_guest.ipa and
 *	&ap_sim_guest.ipb; the PSW is behind it
 * @AP_SIM_STEP_PROGRAM: program exception &ap_sim_guest.pgm_code; the PSW is
 *	the old PSW
 * @AP_SIM_STEP_OPERATION: operation exception; the PSW is the old PSW,
 *	&ap_sim_guest.ipa and &ap_sim_guest.ipb are as for an interception
 * @AP_SIM_STEP_FAULT: there is no storage at &ap_sim_guest.fault_addr yet,
 *	nothing has changed
 * @AP_SIM_STEP_WAIT: nothing to execute, the PSW has the wait bit
 */
enum ap_sim_step {
	AP_SIM_STEP_DONE,
	AP_SIM_STEP_INTERCEPT,
	AP_SIM_STEP_PROGRAM,
	AP_SIM_STEP_OPERATION,
	AP_SIM_STEP_FAULT,
	AP_SIM_STEP_WAIT,
};

/**
 * struct ap_sim_guest - a guest's processor
 * @gpr: general registers
 * @psw: program status word
 * @cr: control registers
 * @prefix: absolute address of the first 8 KiB of its storage
 * @lctl: LCTL interception controls: leftmost bit: control register 0
 * @ictl_lpsw: LPSW and LPSWE are for the host
 * @ictl_stctl: STCTL and STCTG are for the host
 * @ipa: first halfword of an instruction for the host
 * @ipb: its other halfwords, left-justified
 * @pgm_code: program interruption code
 * @ilen: length of the latest instruction
 * @fault_addr: absolute address of missing storage
 * @fault_write: it is missing for a store
 * @map: where to find the byte at an absolute address and all that follow in
 *	its 4 KiB page, for a store too if the last argument is true; NULL if
 *	there is no storage
 * @ap: execute a PQAP, NQAP or DQAP whose instruction text is the argument;
 *	registers and condition code are the callback's, the PSW address is not
 *
 * Nothing here faults or sleeps, so neither must the callbacks.
 */
struct ap_sim_guest {
	u64 gpr[16];
	psw_t psw;
	u64 *cr;
	u64 prefix;
	u16 lctl;
	bool ictl_lpsw;
	bool ictl_stctl;
	u16 ipa;
	u32 ipb;
	u16 pgm_code;
	u8 ilen;
	u64 fault_addr;
	bool fault_write;
	u8 *(*map)(struct ap_sim_guest *g, u64 addr, bool write);
	enum ap_sim_step (*ap)(struct ap_sim_guest *g, u32 insn);
};

/* interp.c */
enum ap_sim_step ap_sim_interp_step(struct ap_sim_guest *g);
enum ap_sim_step ap_sim_interp_copy(struct ap_sim_guest *g, u64 addr,
				    void *buf, size_t len, bool write);
enum ap_sim_step ap_sim_interp_probe(struct ap_sim_guest *g, u64 addr,
				     size_t len, bool write);
enum ap_sim_step ap_sim_interp_program(struct ap_sim_guest *g, u16 code);
void ap_sim_interp_set_cc(struct ap_sim_guest *g, int cc);

/*
 * What follows is for interp.c and interp_ops.c only.
 */

#define AP_SIM_AMODE		(PSW_MASK_EA | PSW_MASK_BA)
#define AP_SIM_CC_SHIFT		44

/* Where an instruction has its operands */
enum ap_sim_format {
	AP_SIM_RI,
	AP_SIM_RIL,
	AP_SIM_RR,
	AP_SIM_RRE,
	AP_SIM_RS,
	AP_SIM_RSY,
	AP_SIM_RX,
	AP_SIM_RXY,
	AP_SIM_S,
	AP_SIM_SI,
	AP_SIM_SS,
};

/* The second operand: not fetched, or of which length, to be extended how */
enum ap_sim_type {
	AP_SIM_NONE,
	AP_SIM_U8,
	AP_SIM_U16,
	AP_SIM_S16,
	AP_SIM_U32,
	AP_SIM_S32,
	AP_SIM_64,
};

/* Results and first operands have 64 bits, not 32 */
#define AP_SIM_WIDE		BIT(0)
/* Not for programs in the problem state */
#define AP_SIM_PRIV		BIT(1)

struct ap_sim_insn;

/**
 * struct ap_sim_op - an instruction that the interpreter knows
 * @key: its operation code, see ap_sim_key()
 * @format: enum ap_sim_format
 * @type: enum ap_sim_type
 * @flags: AP_SIM_WIDE, AP_SIM_PRIV
 * @arg: for @run
 * @run: executes it
 */
struct ap_sim_op {
	u16 key;
	u8 format;
	u8 type;
	u8 flags;
	u8 arg;
	enum ap_sim_step (*run)(struct ap_sim_guest *g,
				const struct ap_sim_insn *in);
};

/**
 * struct ap_sim_insn - an instruction of the guest
 * @op: which one
 * @text: its halfwords, zero behind its end
 * @addr: where it is
 * @r1: first register operand, or mask
 * @r3: second or third register operand, or index register
 * @imm: immediate operand, or length code
 * @opnd: logical address of the storage operand, the first of two
 * @opnd2: logical address of the second storage operand
 * @value: second operand, if it was fetched
 */
struct ap_sim_insn {
	const struct ap_sim_op *op;
	u16 text[3];
	u64 addr;
	u8 r1;
	u8 r3;
	u32 imm;
	u64 opnd;
	u64 opnd2;
	u64 value;
};

/* interp.c */
u64 ap_sim_interp_wrap(const struct ap_sim_guest *g, u64 addr);
u8 *ap_sim_interp_map(struct ap_sim_guest *g, u64 addr, bool write);

/* interp_ops.c */
const struct ap_sim_op *ap_sim_interp_find(u16 key);

#endif /* AP_SIM_INTERP_H */
