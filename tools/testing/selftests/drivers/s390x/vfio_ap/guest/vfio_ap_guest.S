/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that uses AP queues, and nothing else
 *
 * It finds its queues, switches their interrupts on, and keeps requests in each
 * of them for ever. It sleeps until an adapter interrupt signals a reply, and
 * has no timer: when an interrupt is lost it does not wake up again. It counts
 * requests and replies where the host can read the counters.
 *
 * The requests are those of type 0x60, which an emulated adapter echoes: they
 * have a number and say for which queue they are, so do the replies. Requests
 * that a queue has lost (it is empty although a reply is missing) are sent
 * again under the same number, as Linux does it, see ap_sm_read() in
 * drivers/s390/crypto/ap_queue.c.
 *
 * Everything that the program knows is in its registers and its storage, so it
 * can be moved to another host at any instruction. No stack, no DAT, 64-bit
 * mode.
 *
 * Storage:
 *
 *	0x00000	lowcore
 *	0x20000	program, entered at its beginning in 64-bit mode
 *	0x30000	counters, for the host to read
 *	0x31000	notification indicator byte (NIB), alone in its page
 *	0x32000	messages
 *
 * Counters, all of them 64 bits and big-endian; guest.h has the same in C:
 *
 *	0x00	magic: "APGUEST1", when the queues are known
 *	0x08	number of queues
 *	0x10	interrupts taken
 *	0x18	of these spurious: the NIB was not 1
 *	0x20	polls: all queues were asked for replies
 *	0x28	flags: 1: polled without an interrupt before, 2: an interrupt
 *		that was not for the program, 4: more queues than it can have
 *	0x30	PQAP(AQIC) that were successful
 *	0x38	PQAP(AQIC) that had to be repeated
 *	0x40	last response that the program does not handle: APQN
 *		in bits 16-31, queue status word in bits 32-63
 *	0x48	an interrupt has come and its poll has not ended
 *	0x80	for each queue, 0x80 bytes apart:
 *		0x00	APQN
 *		0x08	requests sent, which is the number of the last one
 *		0x10	replies that were right
 *		0x18	requests sent again
 *		0x20	replies that were wrong: content, length or number
 *		0x28	replies that had been there already
 *		0x30	requests up to this number have been answered
 *		0x38	1, or 0 if the queue is not used any more
 *		0x40	1 if the request after the next one has been answered,
 *			which is so if the next one was lost and that one not
 *
 * Disabled wait states: address 0xdead00 plus
 *
 *	0x10 restart, 0x20 external, 0x30 SVC, 0x40 program,
 *	0x50 machine check interruption
 *	0x60 PQAP(QCI) failed
 *	0x70 no queues
 */

#define MAX_QUEUES	16
/* Requests that are in a queue, or will be when it is asked for replies; see Q_EARLY */
#define WINDOW		2
/* Interruption subclass, its bit in control register 6, its interruption word */
#define ISC		3
#define ISC_BIT		0x10000000
#define ISC_WORD	0x98000000
/* How often a queue is asked if the interrupts are on now */
#define PATIENCE	64

/* Counters */
#define C_MAGIC		0x00
#define C_QUEUES	0x08
#define C_INTERRUPTS	0x10
#define C_SPURIOUS	0x18
#define C_POLLS		0x20
#define C_FLAGS		0x28
#define C_AQIC		0x30
#define C_AQIC_AGAIN	0x38
#define C_ANSWER	0x40
#define C_POLLING	0x48
#define C_FIRST		0x80
#define C_SIZE		(C_FIRST + MAX_QUEUES * Q_SIZE)

#define FLAG_UNASKED	1
#define FLAG_STRANGE	2
#define FLAG_MANY	4

#define Q_APQN		0x00
#define Q_SENT		0x08
#define Q_ANSWERED	0x10
#define Q_REQUEUED	0x18
#define Q_WRONG		0x20
#define Q_DUPLICATE	0x28
#define Q_LAST		0x30
#define Q_USED		0x38
#define Q_EARLY		0x40
#define Q_SIZE		0x80
#define Q_SHIFT		7

/* Lowcore */
#define LC_IO_WORD	0xc0
#define LC_RESTART_NEW	0x1a0
#define LC_EXT_NEW	0x1b0
#define LC_SVC_NEW	0x1c0
#define LC_PGM_NEW	0x1d0
#define LC_MCK_NEW	0x1e0
#define LC_IO_NEW	0x1f0

/* PSW masks: 64-bit mode, wait, I/O interrupts */
#define PSW_64		0x0000000180000000
#define PSW_WAIT	0x0002000000000000
#define PSW_IO		0x0200000000000000

/* Queue status word: the queue is empty, interrupts are on; response codes */
#define QS_EMPTY	0x8000
#define QS_IRQ		0x0100
#define RC_NORMAL	0x00
#define RC_NOT_THERE	0x01
#define RC_RESET	0x02
#define RC_BUSY		0x05
#define RC_CHANGED	0x07
#define RC_NO_REPLY	0x10
#define RC_FULL		0x10

/* Messages: type, APQN, number, its complement */
#define MSG_SIZE	24
#define MSG_TYPE	0x01
#define MSG_APQN	0x02
#define MSG_NUMBER	0x08
#define MSG_CHECK	0x10
#define TYPE_REQUEST	0x60
#define TYPE_REPLY	0xe0
#define REPLY_ROOM	512

/* Where PQAP(QCI) stores adapters and domains */
#define QCI_SIZE	128
#define QCI_ADAPTERS	16
#define QCI_DOMAINS	48

	.macro	pqap
	.insn	rre, 0xb2af0000, 0, 0
	.endm

	/* message identifier in both registers; address and length */
	.macro	nqap id, msg
	.insn	rre, 0xb2ad0000, \id, \msg
	.endm

	.macro	dqap id, msg
	.insn	rre, 0xb2ae0000, \id, \msg
	.endm

	/* add a small number to a counter; destroys %r1 */
	.macro	count where, n=1
	lg	%r1, \where
	aghi	%r1, \n
	stg	%r1, \where
	.endm

	/* the response code of a queue status word */
	.macro	response_code to, status
	srlg	\to, \status, 16
	llgcr	\to, \to
	.endm

/*
 * %r11	the queue that is dealt with
 * %r12	counters
 * %r13, %r14	return addresses of poll_queue, and of the functions that it calls
 */

	.section .text, "ax"
	.globl	_start
_start:
	larl	%r12, counters
	xc	0(256, %r12), 0(%r12)
	larl	%r1, counters_end
	lgr	%r2, %r12
.Lclear:
	xc	0(Q_SIZE, %r2), 0(%r2)
	aghi	%r2, Q_SIZE
	clgr	%r2, %r1
	jl	.Lclear

	larl	%r1, new_psws
	lghi	%r2, LC_RESTART_NEW
	mvc	0(6 * 16, %r2), 0(%r1)
	larl	%r1, cr6
	lctlg	%c6, %c6, 0(%r1)

	brasl	%r13, find_queues
	lg	%r1, C_QUEUES(%r12)
	ltgr	%r1, %r1
	larl	%r1, no_queues_psw
	jz	.Lstop
	larl	%r1, magic
	mvc	C_MAGIC(8, %r12), 0(%r1)

	larl	%r13, 1f
	jg	first_queue
1:	jz	2f
	brasl	%r14, enable_interrupts
	larl	%r13, 1b
	jg	next_queue

2:	larl	%r13, 3f
	jg	first_queue
3:	jz	sleep
	lghi	%r8, WINDOW
4:	lg	%r3, Q_SENT(%r11)
	aghi	%r3, 1
	brasl	%r14, send
	jnz	5f
	count	Q_SENT(%r11)
	brct	%r8, 4b
5:	larl	%r13, 3b
	jg	next_queue

sleep:
	larl	%r1, sleep_psw
	lpswe	0(%r1)

.Lstop:
	lpswe	0(%r1)

/* The new PSW of I/O interruptions leads here, with everything disabled. */
interrupt:
	count	C_INTERRUPTS(%r12)
	lghi	%r2, LC_IO_WORD
	llgf	%r1, 0(%r2)
	llilf	%r2, ISC_WORD
	clgr	%r1, %r2
	jne	.Lstrange
	larl	%r2, nib
	cli	0(%r2), 1
	jne	.Lspurious
	/* First, so that a reply after the poll is not overlooked */
	mvi	0(%r2), 0
	lghi	%r1, 1
	stg	%r1, C_POLLING(%r12)

	larl	%r13, 1f
	jg	first_queue
1:	jz	2f
	brasl	%r13, poll_queue
	larl	%r13, 1b
	jg	next_queue
2:	count	C_POLLS(%r12)
	lghi	%r1, 0
	stg	%r1, C_POLLING(%r12)
	j	sleep

.Lspurious:
	count	C_SPURIOUS(%r12)
	j	sleep

.Lstrange:
	oi	C_FLAGS + 7(%r12), FLAG_STRANGE
	j	sleep

/*
 * Go to the first or next queue: %r11. Condition code 0: there is none. Queues
 * that are not used any more are left out.
 */
first_queue:
	la	%r11, C_FIRST(%r12)
	j	1f
next_queue:
	aghi	%r11, Q_SIZE
1:	lg	%r1, C_QUEUES(%r12)
	sllg	%r1, %r1, Q_SHIFT
	la	%r1, C_FIRST(%r1, %r12)
	clgr	%r11, %r1
	ber	%r13
	lg	%r1, Q_USED(%r11)
	ltgr	%r1, %r1
	jz	next_queue
	br	%r13

/*
 * Ask each APQN that PQAP(QCI) allows if there is such a queue.
 * %r8 adapter, %r9 domain, %r6, %r7 their bits, leftmost one next
 */
find_queues:
	la	%r11, C_FIRST(%r12)
	llilf	%r0, 0x04000000
	larl	%r2, qci
	lgr	%r3, %r2
	pqap
	larl	%r1, qci_psw
	jnz	.Lstop

	lghi	%r8, 0
.Ladapter:
	tmll	%r8, 63
	jnz	1f
	lgr	%r1, %r8
	srlg	%r1, %r1, 3
	la	%r1, 0(%r1, %r3)
	lg	%r6, QCI_ADAPTERS(%r1)
1:	ltgr	%r6, %r6
	jnm	.Lnext_adapter

	lghi	%r9, 0
.Ldomain:
	tmll	%r9, 63
	jnz	1f
	lgr	%r1, %r9
	srlg	%r1, %r1, 3
	la	%r1, 0(%r1, %r3)
	lg	%r7, QCI_DOMAINS(%r1)
1:	ltgr	%r7, %r7
	jnm	.Lnext_domain

	sllg	%r0, %r8, 8
	ogr	%r0, %r9
	lgr	%r5, %r0
	pqap
	response_code %r1, %r1
	cghi	%r1, RC_NOT_THERE
	je	.Lnext_domain
	lg	%r1, C_QUEUES(%r12)
	cghi	%r1, MAX_QUEUES
	je	.Lmany
	count	C_QUEUES(%r12)
	stg	%r5, Q_APQN(%r11)
	lghi	%r1, 1
	stg	%r1, Q_USED(%r11)
	aghi	%r11, Q_SIZE

.Lnext_domain:
	sllg	%r7, %r7, 1
	aghi	%r9, 1
	cghi	%r9, 256
	jl	.Ldomain
.Lnext_adapter:
	sllg	%r6, %r6, 1
	aghi	%r8, 1
	cghi	%r8, 256
	jl	.Ladapter
	br	%r13

.Lmany:
	oi	C_FLAGS + 7(%r12), FLAG_MANY
	br	%r13

/*
 * Enable the interrupts of a queue. They may be enabled already: the bit in a
 * status word is not always up to date.
 */
enable_interrupts:
	llilf	%r0, 0x03000000
	og	%r0, Q_APQN(%r11)
	llihl	%r1, 0x8000
	oill	%r1, ISC
	larl	%r2, nib
	pqap
	response_code %r2, %r1
	cghi	%r2, RC_RESET
	je	.Laqic_again
	cghi	%r2, RC_BUSY
	je	.Laqic_again
	cghi	%r2, RC_CHANGED
	je	1f
	cghi	%r2, RC_NORMAL
	jne	give_up
	count	C_AQIC(%r12)

1:	lghi	%r3, PATIENCE
2:	lg	%r0, Q_APQN(%r11)
	pqap
	tmlh	%r1, QS_IRQ
	bnzr	%r14
	brct	%r3, 2b
	br	%r14

.Laqic_again:
	count	C_AQIC_AGAIN(%r12)
	j	enable_interrupts

/* Note a status word (%r1) that nothing can be done about; never use the queue again. */
give_up:
	lg	%r2, Q_APQN(%r11)
	sllg	%r2, %r2, 32
	llgfr	%r1, %r1
	ogr	%r1, %r2
	stg	%r1, C_ANSWER(%r12)
	lghi	%r1, 0
	stg	%r1, Q_USED(%r11)
	lghi	%r1, 1
	ltgr	%r1, %r1
	br	%r14

/* Make the message number %r3 of a type (%r2) at %r6. */
make_message:
	xc	0(MSG_SIZE, %r6), 0(%r6)
	stc	%r2, MSG_TYPE(%r6)
	lg	%r1, Q_APQN(%r11)
	sth	%r1, MSG_APQN(%r6)
	stg	%r3, MSG_NUMBER(%r6)
	lghi	%r1, -1
	xgr	%r1, %r3
	stg	%r1, MSG_CHECK(%r6)
	br	%r10

/* Send the request number %r3. Condition code 0: done */
send:
	larl	%r6, request
	lghi	%r2, TYPE_REQUEST
	bras	%r10, make_message
	llilf	%r0, 0x40000000
	og	%r0, Q_APQN(%r11)
	srlg	%r4, %r3, 32
	llgfr	%r5, %r3
	lghi	%r7, MSG_SIZE
1:	nqap	%r4, %r6
	jh	1b
	response_code %r2, %r1
	cghi	%r2, RC_RESET
	je	send
	cghi	%r2, RC_BUSY
	je	send
	cghi	%r2, RC_FULL
	je	2f
	cghi	%r2, RC_NORMAL
	jne	give_up
	br	%r14
2:	ltgr	%r2, %r2
	br	%r14

/* Receive all replies of a queue, and send a request for each of them. */
poll_queue:
	lg	%r1, C_POLLING(%r12)
	ltgr	%r1, %r1
	jnz	receive
	oi	C_FLAGS + 7(%r12), FLAG_UNASKED
receive:
	llilf	%r0, 0x80000000
	og	%r0, Q_APQN(%r11)
	larl	%r6, reply
	lghi	%r7, REPLY_ROOM
1:	dqap	%r4, %r6
	jh	1b
	jl	.Ltoo_long
	response_code %r2, %r1
	cghi	%r2, RC_NO_REPLY
	je	.Lno_reply
	cghi	%r2, RC_RESET
	je	receive
	cghi	%r2, RC_BUSY
	je	receive
	lgr	%r14, %r13
	cghi	%r2, RC_NORMAL
	jne	give_up

	/* Whose reply is it? */
	sllg	%r3, %r4, 32
	ogr	%r3, %r5
	lgr	%r1, %r3
	sg	%r1, Q_LAST(%r11)
	jnh	.Lduplicate
	lg	%r2, Q_SENT(%r11)
	clgr	%r3, %r2
	jh	.Lwrong
	lg	%r2, Q_EARLY(%r11)
	cghi	%r1, 1
	je	.Lnext
	ltgr	%r2, %r2
	jnz	.Lduplicate
	lghi	%r2, 1
	stg	%r2, Q_EARLY(%r11)
	j	.Lcheck
.Lnext:
	/* and the one after it, if that is there already */
	agr	%r2, %r3
	stg	%r2, Q_LAST(%r11)
	lghi	%r2, 0
	stg	%r2, Q_EARLY(%r11)
.Lcheck:
	cghi	%r7, REPLY_ROOM - MSG_SIZE
	jne	.Lwrong
	larl	%r6, expected
	lghi	%r2, TYPE_REPLY
	bras	%r10, make_message
	larl	%r7, reply
	clc	0(MSG_SIZE, %r6), 0(%r7)
	jne	.Lwrong
	count	Q_ANSWERED(%r11)
	j	.Lsend_next

.Ltoo_long:
	count	Q_WRONG(%r11)
	lghi	%r1, 0
	lgr	%r14, %r13
	j	give_up

.Lduplicate:
	count	Q_DUPLICATE(%r11)
	j	receive

.Lwrong:
	count	Q_WRONG(%r11)

.Lsend_next:
	lg	%r3, Q_SENT(%r11)
	lgr	%r1, %r3
	sg	%r1, Q_LAST(%r11)
	cghi	%r1, WINDOW
	jnl	receive
	aghi	%r3, 1
	brasl	%r14, send
	jnz	.Lnot_sent
	count	Q_SENT(%r11)
	j	receive
.Lnot_sent:
	lg	%r1, Q_USED(%r11)
	ltgr	%r1, %r1
	jnz	receive
	br	%r13

/* Everything was received. Is there something else to come, and an interrupt for it? */
.Lno_reply:
	lgr	%r9, %r1
	tmlh	%r9, QS_IRQ
	jnz	1f
	brasl	%r14, enable_interrupts
1:	tmlh	%r9, QS_EMPTY
	bzr	%r13
	lg	%r3, Q_LAST(%r11)
2:	lg	%r1, Q_SENT(%r11)
	clgr	%r3, %r1
	ber	%r13
	aghi	%r3, 1
	brasl	%r14, send
	bnzr	%r13
	count	Q_REQUEUED(%r11)
	lg	%r1, Q_EARLY(%r11)
	ltgr	%r1, %r1
	bnzr	%r13
	j	2b

	.section .rodata, "a"
	.balign	8
new_psws:
	.quad	PSW_64 | PSW_WAIT, 0xdead10
	.quad	PSW_64 | PSW_WAIT, 0xdead20
	.quad	PSW_64 | PSW_WAIT, 0xdead30
	.quad	PSW_64 | PSW_WAIT, 0xdead40
	.quad	PSW_64 | PSW_WAIT, 0xdead50
	.quad	PSW_64, interrupt
sleep_psw:
	.quad	PSW_64 | PSW_WAIT | PSW_IO, sleep
qci_psw:
	.quad	PSW_64 | PSW_WAIT, 0xdead60
no_queues_psw:
	.quad	PSW_64 | PSW_WAIT, 0xdead70
cr6:
	.quad	ISC_BIT
magic:
	.ascii	"APGUEST1"

	.section .counters, "aw", @nobits
	.balign	8
counters:
	.space	C_SIZE
counters_end:

	.section .nib, "aw", @nobits
nib:
	.space	1

	.section .messages, "aw", @nobits
	.balign	8
qci:
	.space	QCI_SIZE
request:
	.space	MSG_SIZE
expected:
	.space	MSG_SIZE
reply:
	.space	REPLY_ROOM
