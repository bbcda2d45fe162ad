/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A program without an operating system that executes random AP instructions on
 * the adapters of the machine.
 *
 * It executes ROUNDS instructions, with registers that follow from SEED, on the
 * adapters and domains 00 to 03. Operands are in a buffer or not in storage. It
 * ends with a disabled wait PSW: at 0xfff after the last instruction, at 0xbad
 * after a program interruption other than addressing and specification.
 *
 * Its variables are in the lowcore, so it needs no base register, and an AP
 * instruction may change any register.
 */
#define PGM_CODE	0x8e
#define PGM_NEW		0x1d0
#define STATE		0x200
#define LEFT		0x208
#define OPCODE		0x210
#define REGISTERS	0x300
#define BUFFER		0x200000

#define ADDRESSING	5
#define SPECIFICATION	6

	.text
	.globl _start
_start:
	larl	%r1, handler_psw
	mvc	PGM_NEW(16), 0(%r1)
	lgrl	%r1, seed
	stg	%r1, STATE
	lgrl	%r1, rounds
	stg	%r1, LEFT

round:
	/* Registers 4 and 5: the message identifier */
	brasl	%r14, next
	stg	%r2, REGISTERS+4*8
	stg	%r2, REGISTERS+5*8

	/* Register 0: function 0 to 7, bits between it and the APQN, APQN */
	brasl	%r14, next
	lgr	%r3, %r2
	llilh	%r4, 0xe780
	oill	%r4, 0x0303
	ngr	%r3, %r4
	/* In half of the rounds, only function and APQN */
	tmhh	%r2, 1
	jz	1f
	llilh	%r4, 0x0700
	oill	%r4, 0x0303
	ngr	%r3, %r4
1:	stg	%r3, REGISTERS+0*8

	/* Register 1: interruption control; the GISA is in the buffer or missing */
	brasl	%r14, next
	lgr	%r3, %r2
	llihl	%r4, 0x8700
	oill	%r4, 0x0007
	ngr	%r3, %r4
	tmhh	%r2, 1
	jz	2f
	oilh	%r3, BUFFER >> 16
2:	stg	%r3, REGISTERS+1*8

	/* Registers 2 and 6: addresses; register 7: a length */
	brasl	%r14, address
	stg	%r2, REGISTERS+2*8
	brasl	%r14, address
	stg	%r2, REGISTERS+6*8
	brasl	%r14, next
	lgr	%r3, %r2
	nilf	%r3, 0x7fff
	llgfr	%r3, %r3
	tmhh	%r2, 7
	jnz	3f
	lgr	%r3, %r2
3:	stg	%r3, REGISTERS+7*8

	/* NQAP, DQAP or PQAP, in most cases with even registers */
	brasl	%r14, next
	lghi	%r4, 3
	lghi	%r6, 0
	lgr	%r7, %r2
	dlgr	%r6, %r4
	/* The remainder, which is added to the opcode, is in register 6. */
	sllg	%r6, %r6, 16
	lghi	%r4, 0x46
	tmll	%r2, 0x1f
	jnz	4f
	lghi	%r4, 0x57
4:	llilh	%r7, 0xb2ad
	agr	%r7, %r6
	agr	%r7, %r4
	strl	%r7, instruction

	lmg	%r0, %r7, REGISTERS
	j	instruction
resume:
	agsi	LEFT, -1
	jnz	round
	larl	%r1, done_psw
	lpswe	0(%r1)

handler:
	clhhsi	PGM_CODE, ADDRESSING
	je	resume
	clhhsi	PGM_CODE, SPECIFICATION
	je	resume
	larl	%r1, failed_psw
	lpswe	0(%r1)

/* An address in register 2: in the buffer, in most cases. Changes register 3, too. */
address:
	lgr	%r8, %r14
	brasl	%r14, next
	tmhh	%r2, 7
	jz	5f
	nilh	%r2, 0x000f
	nihf	%r2, 0
	oilh	%r2, BUFFER >> 16
5:	br	%r8

/* splitmix64: the next number in register 2. Changes register 3, too. */
next:
	lg	%r2, STATE
	lgrl	%r3, increment
	agr	%r2, %r3
	stg	%r2, STATE
	srlg	%r3, %r2, 30
	xgr	%r2, %r3
	lgrl	%r3, factor1
	msgr	%r2, %r3
	srlg	%r3, %r2, 27
	xgr	%r2, %r3
	lgrl	%r3, factor2
	msgr	%r2, %r3
	srlg	%r3, %r2, 31
	xgr	%r2, %r3
	br	%r14

	.balign	16
handler_psw:
	.quad	0x0000000180000000, handler
done_psw:
	.quad	0x0002000180000000, 0xfff
failed_psw:
	.quad	0x0002000180000000, 0xbad
seed:
	.quad	SEED
rounds:
	.quad	ROUNDS
increment:
	.quad	0x9e3779b97f4a7c15
factor1:
	.quad	0xbf58476d1ce4e5b9
factor2:
	.quad	0x94d049bb133111eb

	/* In a page of its own: the emulator translates changed pages anew. */
	.balign	4096
instruction:
	.insn	rre, 0xb2af0000, %r0, %r0
	j	resume
