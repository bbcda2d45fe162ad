// SPDX-License-Identifier: GPL-2.0
/*
 * AP instructions one by one, executed by a guest on its queues.
 *
 * The registers, condition codes and response codes are those that the kernel
 * expects (asm/ap.h and drivers/s390/crypto/ap_queue.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/env.h"
#include "lib/guest_fixture.h"
#include "kselftest_harness.h"

/* Response codes */
#define NORMAL		0x00U
#define NOT_THERE	0x01U
#define RESET		0x02U
#define FULL		0x10U
#define NO_REPLY	0x10U
#define TOO_LONG	0x15U

/* Instructions: RRE format with the registers 4 and 6 */
#define NQAP		0xb2ad0046U
#define DQAP		0xb2ae0046U
#define PQAP		0xb2af0000U
/* The same with an odd register */
#define NQAP_ODD	0xb2ad0047U
#define DQAP_ODD	0xb2ae0056U
#define DIAG_500	0x83000500U
#define DIAG_IPA	0x8300

/* General register 0 */
#define TAPQ		0x00000000UL
#define RAPQ		0x01000000UL
#define ZAPQ		0x02000000UL
#define QCI		0x04000000UL
#define QACT		0x05000000UL
#define UNKNOWN		0x1f000000UL
#define TBIT		0x00800000UL
#define FIRST		0x80000000UL
#define LAST		0x40000000UL
#define CONTINUE	0x20000000UL

/* Status word */
#define EMPTY		0x80000000UL
#define REPLIES		0x40000000UL
#define IS_FULL		0x20000000UL

/* QACT: mode and compatible type */
#define QACT_INFO(mode, type)	((__u64)(mode) << 58 | (__u64)(type) << 24)
#define MODE_CCA	4

#define LC_PGM_CODE	0x8e
#define LC_PGM_NEW	0x1d0
#define PSW_WAIT	0x0002000000000000ULL
#define SPECIFICATION	6

#define REQUEST		0x20000
#define REPLY		0x30000
#define MESSAGE_SIZE	64
/* Of an adapter whose message length limit is the least one */
#define MAX_MESSAGE	(12 * 1024)
/* Layout of the block of QCI */
#define QCI_SIZE	128
#define QCI_APM		16
#define QCI_AQM		48
#define QCI_ADM		80

ENV_FIXTURE_OF(instruction, guest_fixture, ENV_CDEV)

/* General registers of the guest, before and after an instruction */
static __u64 gr[16];

static __u64 first_queue(const struct guest_fixture *f)
{
	return f->apids[0] << 8 | f->domains[0];
}

static unsigned int response(void)
{
	return gr[1] >> 16 & 0xff;
}

/*
 * Execute an instruction with the registers of gr, which receives the
 * registers. The condition code, or a negative errno: -EPROTO after a program
 * interruption.
 */
static int execute(struct guest_fixture *f, __u32 insn)
{
	static const __u64 stop[] = { KVM_PSW_MASK | PSW_WAIT, GUEST_STOPPED };
	const __u32 code[] = { insn, DIAG_500 };
	struct kvm_run *run = f->guest.cpu.run;
	int ret;

	guest_write(&f->guest, SMALL_ENTRY, code, sizeof(code));
	guest_write(&f->guest, LC_PGM_NEW, stop, sizeof(stop));
	kvm_cpu_set_psw(&f->guest.cpu, KVM_PSW_MASK, SMALL_ENTRY);
	memcpy(run->s.regs.gprs, gr, sizeof(gr));
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	ret = kvm_cpu_run(&f->guest.cpu);
	if (ret)
		return ret;
	if (!kvm_cpu_intercepted(&f->guest.cpu, DIAG_IPA))
		return -EPROTO;
	memcpy(gr, run->s.regs.gprs, sizeof(gr));
	return run->psw_mask >> 44 & 3;
}

static int pqap(struct guest_fixture *f, __u64 function, __u64 apqn)
{
	gr[0] = function | apqn;
	return execute(f, PQAP);
}

static int nqap(struct guest_fixture *f, __u64 psmid, __u64 len)
{
	gr[0] = LAST | first_queue(f);
	gr[4] = psmid >> 32;
	gr[5] = psmid & 0xffffffff;
	gr[6] = REQUEST;
	gr[7] = len;
	return execute(f, NQAP);
}

/* @parts: FIRST, or how far the last one came */
static int dqap(struct guest_fixture *f, __u64 parts, __u64 addr, __u64 room)
{
	gr[0] = parts | first_queue(f);
	gr[6] = addr;
	gr[7] = room;
	return execute(f, DQAP);
}

/* A function of PQAP on the first queue, again while a reset is in progress */
static int pqap_after_reset(struct guest_fixture *f, __u64 function)
{
	int ret;

	do {
		ret = pqap(f, function, first_queue(f));
	} while (ret >= 0 && response() == RESET);
	return ret;
}

/*
 * A guest with a request, whose first queue is reset: the AP bus of the host
 * may have enabled interrupts before it gave the queue away.
 */
static int create(struct guest_fixture *f)
{
	__u8 request[MESSAGE_SIZE] = { 0x00, 0x60 };
	unsigned int i;
	int ret;

	for (i = 4; i < MESSAGE_SIZE; i++)
		request[i] = i;
	memset(gr, 0, sizeof(gr));
	ret = guest_create(&f->guest, &f->env.dev, SMALL_ENTRY);
	if (ret)
		return ret;
	guest_write(&f->guest, REQUEST, request, sizeof(request));
	return pqap_after_reset(f, RAPQ) ?: pqap_after_reset(f, TAPQ);
}

TEST_F_TIMEOUT(instruction, tapq_describes_adapter, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	long depth = ap_card_attr(f->apids[0], "depth");

	ASSERT_EQ(0, create(f));
	EXPECT_EQ(0, pqap(f, TAPQ | TBIT, first_queue(f)));
	EXPECT_EQ(EMPTY, gr[1]);
	EXPECT_NE(0U, gr[2] >> 32);
	EXPECT_EQ(ap_card_attr(f->apids[0], "raw_hwtype"), (long)(gr[2] >> 24 & 0xff));
	EXPECT_EQ(depth - 1, (long)(gr[2] & 0x1f));
	/* Without the T bit there are no facilities. */
	EXPECT_EQ(0, pqap(f, TAPQ, first_queue(f)));
	EXPECT_EQ(0U, gr[2] >> 32);
	EXPECT_EQ(depth - 1, (long)(gr[2] & 0x1f));
}

TEST_F_TIMEOUT(instruction, missing_queue_is_not_available, ENV_TIMEOUT)
{
	static const __u64 functions[] = { TAPQ, RAPQ, ZAPQ, QACT };
	struct guest_fixture *f = &self->guest_fixture;
	const __u64 other = f->other << 8 | f->domains[0];
	size_t i;

	ASSERT_EQ(0, create(f));
	for (i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		EXPECT_EQ(3, pqap(f, functions[i], other));
		EXPECT_EQ(NOT_THERE, response());
	}
}

TEST_F_TIMEOUT(instruction, qci_stores_masks_of_guest, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *info = (const __u8 *)f->env.dev.mem + REPLY;
	__u8 apm[AP_MASK_BYTES] = {}, aqm[AP_MASK_BYTES] = {};
	unsigned int i;

	ASSERT_EQ(0, create(f));
	for (i = 0; i < 2; i++) {
		ap_mask_set(apm, f->apids[i]);
		ap_mask_set(aqm, f->domains[i]);
	}
	memset(f->env.dev.mem + REPLY, 0xff, QCI_SIZE + 1);
	gr[2] = REPLY;
	EXPECT_EQ(0, pqap(f, QCI, 0));
	EXPECT_EQ(0, memcmp(info + QCI_APM, apm, sizeof(apm)));
	EXPECT_EQ(0, memcmp(info + QCI_AQM, aqm, sizeof(aqm)));
	EXPECT_EQ(0U, ap_mask_weight(info + QCI_ADM));
	EXPECT_EQ(255, info[QCI_SIZE]);
}

TEST_F_TIMEOUT(instruction, qact_returns_compatible_type, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	const __u64 type = ap_card_attr(f->apids[0], "raw_hwtype");

	ASSERT_EQ(0, create(f));
	gr[1] = QACT_INFO(MODE_CCA, type - 1);
	EXPECT_EQ(0, pqap(f, QACT, first_queue(f)));
	EXPECT_EQ(QACT_INFO(MODE_CCA, type - 1), gr[2]);
	gr[1] = QACT_INFO(MODE_CCA, type + 1);
	EXPECT_EQ(0, pqap(f, QACT, first_queue(f)));
	EXPECT_EQ(QACT_INFO(MODE_CCA, type), gr[2]);
	/* Another mode than that of the adapter */
	gr[1] = QACT_INFO(1, type);
	EXPECT_EQ(0, pqap(f, QACT, first_queue(f)));
	EXPECT_EQ(QACT_INFO(MODE_CCA, 0), gr[2]);
}

TEST_F_TIMEOUT(instruction, reset_is_in_progress_for_all, ENV_TIMEOUT)
{
	static const __u64 resets[] = { RAPQ, ZAPQ };
	struct guest_fixture *f = &self->guest_fixture;
	size_t i;

	ASSERT_EQ(0, create(f));
	ASSERT_EQ(0, ap_control("latency * 1000000000"));
	ASSERT_EQ(0, ap_control("reset_polls 4"));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, nqap(f, 1, MESSAGE_SIZE));
		EXPECT_EQ(0, pqap(f, resets[i], first_queue(f)));
		EXPECT_EQ(3, nqap(f, 1, MESSAGE_SIZE));
		EXPECT_EQ(RESET, response());
		EXPECT_EQ(3, dqap(f, FIRST, REPLY, MESSAGE_SIZE));
		EXPECT_EQ(RESET, response());
		EXPECT_EQ(3, pqap(f, RAPQ, first_queue(f)));
		EXPECT_EQ(RESET, response());
		EXPECT_EQ(0U, gr[1] & EMPTY);
		EXPECT_EQ(3, pqap(f, TAPQ, first_queue(f)));
		EXPECT_EQ(RESET, response());
		EXPECT_EQ(0, pqap(f, TAPQ, first_queue(f)));
		EXPECT_EQ(EMPTY, gr[1]);
	}
}

TEST_F_TIMEOUT(instruction, full_queue_refuses_requests, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	long i, depth = ap_card_attr(f->apids[0], "depth");

	ASSERT_LT(1, depth);
	ASSERT_EQ(0, create(f));
	ASSERT_EQ(0, ap_control("latency * 1000000000"));
	for (i = 1; i <= depth; i++) {
		ASSERT_EQ(0, nqap(f, i << 32 | i, MESSAGE_SIZE));
		EXPECT_EQ(i == depth ? IS_FULL : 0, gr[1]);
		EXPECT_EQ((__u64)REQUEST + MESSAGE_SIZE, gr[6]);
		EXPECT_EQ(0U, gr[7]);
	}
	EXPECT_EQ(3, nqap(f, i, MESSAGE_SIZE));
	EXPECT_EQ(FULL, response());
	EXPECT_EQ(IS_FULL, gr[1] & 0xff000000);
	EXPECT_EQ((__u64)MESSAGE_SIZE, gr[7]);
	/* Full, but no reply yet */
	EXPECT_EQ(3, dqap(f, FIRST, REPLY, MESSAGE_SIZE));
	EXPECT_EQ(NO_REPLY, response());
	EXPECT_EQ(IS_FULL, gr[1] & 0xff000000);

	ASSERT_EQ(0, ap_control("latency * 0"));
	ASSERT_EQ(0, guest_fixture_wait_replies(f));
	for (i = 1; i <= depth; i++) {
		ASSERT_EQ(0, dqap(f, FIRST, REPLY, MESSAGE_SIZE));
		EXPECT_EQ(i == depth ? EMPTY : REPLIES, gr[1]);
		EXPECT_EQ((__u64)i, gr[4]);
		EXPECT_EQ((__u64)i, gr[5]);
	}
	/* The refused request is not in the queue. */
	EXPECT_EQ(3, dqap(f, FIRST, REPLY, MESSAGE_SIZE));
	EXPECT_EQ(NO_REPLY, response());
	EXPECT_EQ(EMPTY, gr[1] & 0xff000000);
}

TEST_F_TIMEOUT(instruction, long_message_is_refused, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *reply = (const __u8 *)f->env.dev.mem + REPLY;

	ASSERT_EQ(0, create(f));
	EXPECT_EQ(3, nqap(f, 1, MAX_MESSAGE + 1));
	EXPECT_EQ(TOO_LONG, response());
	EXPECT_EQ(0, pqap(f, TAPQ, first_queue(f)));
	EXPECT_EQ(EMPTY, gr[1]);

	/* The adapter answers the longest message, which is of no type, with an error. */
	memset(f->env.dev.mem + REQUEST, 0, MESSAGE_SIZE);
	ASSERT_EQ(0, nqap(f, 2, MAX_MESSAGE));
	ASSERT_EQ(0, guest_fixture_wait_replies(f));
	ASSERT_EQ(0, dqap(f, FIRST, REPLY, MESSAGE_SIZE));
	EXPECT_EQ(2U, gr[5]);
	EXPECT_EQ((__u64)MESSAGE_SIZE - 8, gr[7]);
	EXPECT_EQ(0x82, reply[1]);
	EXPECT_EQ(0x20, reply[4]);
}

TEST_F_TIMEOUT(instruction, reply_is_received_in_parts, ENV_TIMEOUT)
{
	enum { PART = 20 };
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *reply = (const __u8 *)f->env.dev.mem + REPLY;
	__u64 left = MESSAGE_SIZE;
	unsigned int i;

	ASSERT_EQ(0, create(f));
	ASSERT_EQ(0, nqap(f, 0x123456789aUL, MESSAGE_SIZE));
	ASSERT_EQ(0, guest_fixture_wait_replies(f));
	/* The first part twice, the last one is shorter */
	EXPECT_EQ(1, dqap(f, FIRST, REPLY + 0x1000, PART));
	EXPECT_EQ(left - PART, gr[2]);
	EXPECT_EQ(1, dqap(f, FIRST, REPLY, PART));
	for (left -= PART; left > PART; left -= PART) {
		EXPECT_EQ(left, gr[2]);
		EXPECT_EQ(CONTINUE, gr[0] & (FIRST | CONTINUE));
		EXPECT_EQ(1, dqap(f, CONTINUE, REPLY + MESSAGE_SIZE - left, PART));
	}
	EXPECT_EQ(1, ap_queue_value(f->apids[0], f->domains[0], "replies"));
	EXPECT_EQ(0, dqap(f, CONTINUE, REPLY + MESSAGE_SIZE - left, PART));
	EXPECT_EQ(0U, gr[2]);
	EXPECT_EQ(EMPTY, gr[1]);
	EXPECT_EQ(0x12U, gr[4]);
	EXPECT_EQ(0x3456789aU, gr[5]);
	EXPECT_EQ(0xe0, reply[1]);
	for (i = 4; i < MESSAGE_SIZE; i++)
		EXPECT_EQ(i, reply[i]);
	EXPECT_EQ(0, memcmp(reply, reply + 0x1000, PART));
}

TEST_F_TIMEOUT(instruction, invalid_operands_are_exceptions, ENV_TIMEOUT)
{
	static const struct {
		__u64 gr0;
		__u32 insn;
	} bad[] = {
		{ LAST, NQAP_ODD }, { FIRST, DQAP_ODD }, { UNKNOWN, PQAP },
	};
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *mem = f->env.dev.mem;
	size_t i;

	ASSERT_EQ(0, create(f));
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		memset(f->env.dev.mem + LC_PGM_CODE, 0, 2);
		gr[0] = bad[i].gr0 | first_queue(f);
		EXPECT_EQ(-EPROTO, execute(f, bad[i].insn));
		EXPECT_TRUE(kvm_cpu_disabled(&f->guest.cpu));
		EXPECT_EQ(SPECIFICATION, *(const __u16 *)(mem + LC_PGM_CODE));
	}
}

TEST_HARNESS_MAIN
