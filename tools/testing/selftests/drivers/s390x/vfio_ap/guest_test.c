// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that uses its AP queues: requests, replies and interrupts, and the
 * loss of each.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/env.h"
#include "lib/guest_fixture.h"
#include "kselftest_harness.h"

/* Replies for each queue that show that all is well */
#define ENOUGH		25
/* Milliseconds in which a guest that can go on does so */
#define A_WHILE		1000

/* Response codes */
#define NOT_THERE	0x01
#define RESET		0x02
#define BUSY		0x05
#define BAD_ADDRESS	0x06U
#define NO_FIRST_PART	0x13

/* Bytes at whose multiples NQAP may end early, by default */
#define SEGMENT		0x100000U

#define LC_PGM_CODE	0x8e
#define LC_TEID		0xa8
#define LC_IO_WORD	0xc0
#define LC_PGM_OLD	0x150
#define LC_PGM_NEW	0x1d0
#define LC_IO_NEW	0x1f0
/* The machine does not use this byte */
#define LC_FREE		0xff0

#define PSW_WAIT	0x0002000000000000ULL
#define PSW_IO		0x0200000000000000ULL
/* A PSW with DAT on, in the home space as in Linux */
#define PSW_HOME	(KVM_PSW_MASK | 0x0400c00000000000ULL)

/* A guest's segment table, and the page table behind it; addresses in the space of these */
#define TABLES		0x40000
#define ENTRY_INVALID	0x20
#define PAGE_INVALID	0x400
#define REQUEST		0x20ff0
#define REPLY		0x22ff0
#define UNMAPPED	0x24000
#define MESSAGE_SIZE	32

/* DIAG X'500', which is for user space, and its first halfword */
#define DIAG_500	0x83000500
#define DIAG_IPA	0x8300

ENV_FIXTURE_OF(guest, guest_fixture, ENV_CDEV)

static void pause_ms(unsigned int ms)
{
	const struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000,
	};

	nanosleep(&time, NULL);
}

/* Wait until the guest has got so many replies more */
static int wait_for_replies(struct guest_fixture *f, unsigned int nr)
{
	struct guest_counters c;

	guest_counters(&f->guest, &c);
	return guest_wait_answered(&f->guest, guest_answered(&c) + nr);
}

/* A guest with something that is not the guest program; it sleeps for ever after errors */
static int create_small(struct guest_fixture *f, const __u8 *code, size_t len)
{
	static const __u64 stop[] = { KVM_PSW_MASK | PSW_WAIT, GUEST_STOPPED };
	int ret;

	ret = guest_create(&f->guest, &f->env.dev, SMALL_ENTRY);
	if (ret)
		return ret;
	guest_write(&f->guest, SMALL_ENTRY, code, len);
	guest_write(&f->guest, LC_PGM_NEW, stop, sizeof(stop));
	return 0;
}

TEST_F_TIMEOUT(guest, each_request_is_answered_once, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	unsigned int i, apqn;
	long irqs, alerts;

	irqs = guest_fixture_sum(f, "guest_irqs");
	alerts = ap_counter("gib_alerts");
	ASSERT_EQ(0, guest_fixture_start(f));
	EXPECT_EQ(0, guest_wait_answered(&f->guest, ENOUGH));
	EXPECT_EQ(0, guest_stop(&f->guest));

	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	EXPECT_EQ(0U, guest_requeued(&c));
	EXPECT_EQ(FIXTURE_QUEUES, c.aqic);
	for (i = 0; i < FIXTURE_QUEUES; i++) {
		apqn = f->apids[i / 2] << 8 | f->domains[i % 2];
		EXPECT_EQ(apqn, c.queues[i].apqn);
		EXPECT_LE(1U, c.queues[i].sent - c.queues[i].last);
	}
	/* It was interrupted because of its queues, and woken up by alerts */
	EXPECT_GE(guest_fixture_sum(f, "guest_irqs") - irqs, (long)c.interrupts);
	EXPECT_LT(alerts, ap_counter("gib_alerts"));
}

TEST_F_TIMEOUT(guest, replies_wait_for_stopped_guest, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters before, c;
	int i, ret;

	ASSERT_EQ(0, guest_fixture_start(f));
	for (i = 0; i < 5; i++) {
		ret = wait_for_replies(f, ENOUGH);
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, guest_stop(&f->guest));
		guest_counters(&f->guest, &before);
		ASSERT_EQ(0, guest_fixture_wait_replies(f));
		guest_counters(&f->guest, &c);
		EXPECT_EQ(0, memcmp(&before, &c, sizeof(c)));
		ASSERT_EQ(0, guest_start(&f->guest));
	}
	EXPECT_EQ(0, wait_for_replies(f, ENOUGH));
	EXPECT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	EXPECT_EQ(0U, guest_requeued(&c));
}

/* MVI LC_FREE,1; J . */
static const __u8 store_and_loop[] = { 0x92, 0x01, 0x0f, 0xf0, 0xa7, 0xf4, 0x00, 0x00 };

/* Wait until the guest executes the J of store_and_loop */
static void wait_for_loop(struct guest_fixture *f)
{
	const __u8 *mem = f->env.dev.mem;

	while (!__atomic_load_n(mem + LC_FREE, __ATOMIC_ACQUIRE))
		pause_ms(1);
}

/* Neither the loop nor the sleep ends by itself */
TEST_F_TIMEOUT(guest, signal_stops_guest, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;

	ASSERT_EQ(0, create_small(f, store_and_loop, sizeof(store_and_loop)));
	ASSERT_EQ(0, guest_start(&f->guest));
	wait_for_loop(f);
	EXPECT_EQ(0, guest_stop(&f->guest));
	EXPECT_EQ((__u64)SMALL_ENTRY + 4, f->guest.cpu.run->psw_addr);

	ASSERT_EQ(0, ap_control("latency * 1000000000"));
	ASSERT_EQ(0, guest_load(&f->guest));
	kvm_cpu_set_psw(&f->guest.cpu, KVM_PSW_MASK, GUEST_ENTRY);
	ASSERT_EQ(0, guest_start(&f->guest));
	ASSERT_EQ(0, guest_fixture_wait_held(f));
	pause_ms(50);
	EXPECT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_EQ(0U, c.interrupts);
}

/* Pages go away under its hands; their contents do not */
TEST_F_TIMEOUT(guest, guest_pages_are_faulted_in, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;
	int i;

	ASSERT_EQ(0, guest_fixture_start(f));
	for (i = 0; i < ENOUGH; i++) {
		EXPECT_EQ(0, wait_for_replies(f, 2));
		ASSERT_EQ(0, madvise(f->env.dev.mem, f->env.dev.mem_size, MADV_DONTNEED));
	}
	EXPECT_EQ(0, wait_for_replies(f, 2));
	EXPECT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	EXPECT_EQ(0U, guest_requeued(&c));
}

static int log_dirty(struct guest_fixture *f, bool on)
{
	struct kvm_userspace_memory_region memory = {
		.flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.memory_size = f->env.dev.mem_size,
		.userspace_addr = (uintptr_t)f->env.dev.mem,
	};

	return ioctl(f->env.dev.vm, KVM_SET_USER_MEMORY_REGION, &memory) ? -errno : 0;
}

/* Whether KVM has logged a store to a page; forgets all that it has logged */
static bool was_stored_to(struct guest_fixture *f, __u64 addr)
{
	static __u64 bitmap[65536 / 64];
	struct kvm_dirty_log dirty = { .dirty_bitmap = bitmap };

	memset(bitmap, 0, sizeof(bitmap));
	if (ioctl(f->env.dev.vm, KVM_GET_DIRTY_LOG, &dirty))
		return false;
	addr /= 4096;
	/* Bit 0 is the rightmost one of byte 0 */
	return ((__u8 *)bitmap)[addr / 8] >> addr % 8 & 1;
}

TEST_F_TIMEOUT(guest, guest_stores_are_logged_and_queue_stores_are_not, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	__u8 *nib = (__u8 *)f->env.dev.mem + GUEST_NIB;

	ASSERT_EQ(0, guest_fixture_start(f));
	EXPECT_EQ(0, guest_wait_answered(&f->guest, 1));
	ASSERT_EQ(0, guest_stop(&f->guest));
	ASSERT_EQ(0, log_dirty(f, true));
	was_stored_to(f, 0);
	ASSERT_EQ(0, guest_fixture_wait_replies(f));

	/* No CPU executes the guest */
	__atomic_store_n(nib, 0, __ATOMIC_SEQ_CST);
	EXPECT_FALSE(was_stored_to(f, GUEST_NIB));
	EXPECT_EQ(0, ap_control("notify %02x.%04x", f->apids[0], f->domains[0]));
	EXPECT_EQ(1, __atomic_load_n(nib, __ATOMIC_SEQ_CST));
	EXPECT_FALSE(was_stored_to(f, GUEST_NIB));
	EXPECT_FALSE(was_stored_to(f, GUEST_COUNTERS));

	ASSERT_EQ(0, guest_start(&f->guest));
	EXPECT_EQ(0, wait_for_replies(f, ENOUGH));
	ASSERT_EQ(0, guest_stop(&f->guest));
	EXPECT_TRUE(was_stored_to(f, GUEST_NIB));
	EXPECT_FALSE(was_stored_to(f, GUEST_NIB));
	ASSERT_EQ(0, guest_start(&f->guest));
	EXPECT_EQ(0, wait_for_replies(f, ENOUGH));
	ASSERT_EQ(0, guest_stop(&f->guest));
	EXPECT_TRUE(was_stored_to(f, GUEST_COUNTERS));
	EXPECT_EQ(0, log_dirty(f, false));
}

/* The guest executes the instruction of execute_at() with the registers as they are */
static int execute_again(struct guest_fixture *f, __u64 psw_mask)
{
	struct kvm_run *run = f->guest.cpu.run;
	int ret;

	kvm_cpu_set_psw(&f->guest.cpu, psw_mask, SMALL_ENTRY);
	ret = guest_start(&f->guest) ?: guest_wait_end(&f->guest);
	if (ret)
		return ret;
	if (!kvm_cpu_intercepted(&f->guest.cpu, DIAG_IPA))
		return -EPROTO;
	return run->s.regs.gprs[1] >> 16 & 0xff;
}

/*
 * The guest executes a PQAP, NQAP or DQAP on a queue, with a message at @addr; the response code,
 * or a negative errno
 */
static int execute_at(struct guest_fixture *f, __u64 psw_mask, __u64 addr, __u8 opcode,
		      unsigned int apid, unsigned int domain)
{
	const __u32 code[] = { 0xb2000046 | opcode << 16, DIAG_500 };
	struct kvm_run *run = f->guest.cpu.run;

	guest_write(&f->guest, SMALL_ENTRY, code, sizeof(code));
	run->s.regs.gprs[0] = 0xc0000000 | apid << 8 | domain;
	if (opcode == 0xaf)
		run->s.regs.gprs[0] &= 0xffff;
	run->s.regs.gprs[6] = addr;
	run->s.regs.gprs[7] = MESSAGE_SIZE;
	run->s.regs.crs[13] = TABLES;
	run->kvm_dirty_regs = KVM_SYNC_GPRS | KVM_SYNC_CRS;
	return execute_again(f, psw_mask);
}

static int execute(struct guest_fixture *f, __u8 opcode, unsigned int apid, unsigned int domain)
{
	return execute_at(f, KVM_PSW_MASK, SMALL_ENTRY + 0x1000, opcode, apid, domain);
}

TEST_F_TIMEOUT(guest, guest_reaches_only_its_queues, ENV_TIMEOUT)
{
	static const __u8 opcodes[] = { 0xad, 0xae, 0xaf };
	struct guest_fixture *f = &self->guest_fixture;
	unsigned int i;

	ASSERT_EQ(0, create_small(f, NULL, 0));
	EXPECT_EQ(0, execute(f, 0xaf, f->apids[1], f->domains[1]));
	EXPECT_EQ(0, execute(f, 0xad, f->apids[1], f->domains[1]));
	for (i = 0; i < sizeof(opcodes); i++) {
		EXPECT_EQ(NOT_THERE, execute(f, opcodes[i], f->other, f->domains[0]));
		EXPECT_EQ(NOT_THERE, execute(f, opcodes[i], f->apids[0],
					     f->env.pool.domains[f->env.pool.nr_domains - 1]));
		EXPECT_EQ(NOT_THERE, execute(f, opcodes[i], 0xff, 0xff));
	}
	EXPECT_EQ(0, ap_queue_value(f->other, f->domains[0], "qlen"));

	/* An adapter that was taken away is gone at once */
	ASSERT_EQ(0, ap_mdev_write(f->env.dev.uuid, "unassign_adapter", "%u", f->apids[1]));
	EXPECT_EQ(NOT_THERE, execute(f, 0xaf, f->apids[1], f->domains[1]));
	EXPECT_EQ(0, execute(f, 0xaf, f->apids[0], f->domains[1]));
}

/* Tables of the home space: request and reply cross a page, and the pages change places */
static void write_tables(struct guest_fixture *f)
{
	static __u64 segments[512], pages[256];
	unsigned int i;

	for (i = 0; i < 512; i++)
		segments[i] = ENTRY_INVALID;
	for (i = 0; i < 256; i++)
		pages[i] = PAGE_INVALID;
	segments[0] = TABLES + sizeof(segments);
	pages[SMALL_ENTRY / 4096] = SMALL_ENTRY;
	pages[REQUEST / 4096] = 0x51000;
	pages[REQUEST / 4096 + 1] = 0x50000;
	pages[REPLY / 4096] = 0x53000;
	pages[REPLY / 4096 + 1] = 0x52000;
	guest_write(&f->guest, TABLES, segments, sizeof(segments));
	guest_write(&f->guest, TABLES + sizeof(segments), pages, sizeof(pages));
}

TEST_F_TIMEOUT(guest, operands_are_translated, ENV_TIMEOUT)
{
	/* The emulated adapter returns the message, with another type and the queue's number */
	__u8 request[MESSAGE_SIZE] = { 0x00, 0x60 }, reply[MESSAGE_SIZE];
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *mem = f->env.dev.mem;
	unsigned int i;

	for (i = 4; i < MESSAGE_SIZE; i++)
		request[i] = i;
	ASSERT_EQ(0, create_small(f, NULL, 0));
	write_tables(f);
	guest_write(&f->guest, 0x51ff0, request, 16);
	guest_write(&f->guest, 0x50000, request + 16, 16);
	ASSERT_EQ(0, execute_at(f, PSW_HOME, REQUEST, 0xad, f->apids[0], f->domains[0]));
	ASSERT_EQ(0, guest_fixture_wait_replies(f));
	ASSERT_EQ(0, execute_at(f, PSW_HOME, REPLY, 0xae, f->apids[0], f->domains[0]));
	EXPECT_EQ((__u64)REPLY + MESSAGE_SIZE, f->guest.cpu.run->s.regs.gprs[6]);
	memcpy(reply, mem + 0x53ff0, 16);
	memcpy(reply + 16, mem + 0x52000, 16);
	request[1] = 0xe0;
	request[2] = f->apids[0];
	request[3] = f->domains[0];
	EXPECT_EQ(0, memcmp(request, reply, sizeof(reply)));
}

/* The queue must not have seen the instruction */
TEST_F_TIMEOUT(guest, unmapped_operand_interrupts_guest, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *mem = f->env.dev.mem;

	ASSERT_EQ(0, create_small(f, NULL, 0));
	write_tables(f);
	ASSERT_EQ(0, execute_at(f, PSW_HOME, REQUEST, 0xad, f->apids[0], f->domains[0]));
	ASSERT_EQ(0, guest_fixture_wait_replies(f));
	EXPECT_EQ(-EPROTO, execute_at(f, PSW_HOME, UNMAPPED, 0xae, f->apids[0], f->domains[0]));
	EXPECT_TRUE(kvm_cpu_disabled(&f->guest.cpu));
	/* Page translation, for a store in the home space, at the instruction */
	EXPECT_EQ(0x11, *(const __u16 *)(mem + LC_PGM_CODE));
	EXPECT_EQ(UNMAPPED | 0x403U, *(const __u64 *)(mem + LC_TEID));
	EXPECT_EQ((__u64)SMALL_ENTRY, *(const __u64 *)(mem + LC_PGM_OLD + 8));
	EXPECT_EQ((__u64)UNMAPPED, f->guest.cpu.run->s.regs.gprs[6]);
	EXPECT_EQ(1, ap_queue_value(f->apids[0], f->domains[0], "replies"));
}

/*
 * A guest is stopped after NQAP ended with condition code 2, and goes on at the destination. The
 * queue there has no first part of that request, so it refuses the rest.
 */
TEST_F_TIMEOUT(guest, partial_request_is_refused_at_destination, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	unsigned int apid = f->apids[0], domain = f->domains[0];
	int rc;

	ASSERT_EQ(0, create_small(f, NULL, 0));
	/* The queue may still be in the reset of open */
	do {
		rc = execute(f, 0xaf, apid, domain);
	} while (rc == RESET);
	ASSERT_EQ(0, rc);
	ASSERT_EQ(0, ap_control("segment 16"));
	/* Condition code 2 leaves general register 1 as PQAP(TAPQ) has set it */
	rc = execute(f, 0xad, apid, domain);
	ASSERT_EQ(0, ap_control("segment %u", SEGMENT));
	EXPECT_EQ(0, rc);
	EXPECT_EQ(16U, f->guest.cpu.run->s.regs.gprs[7]);
	EXPECT_EQ(0, ap_queue_value(apid, domain, "qlen"));

	ASSERT_EQ(0, vfio_ap_reset(&f->env.dev));
	EXPECT_EQ(NO_FIRST_PART, execute_again(f, KVM_PSW_MASK));
	EXPECT_EQ(0, ap_queue_value(apid, domain, "qlen"));

	/* The whole request is accepted */
	EXPECT_EQ(0, execute(f, 0xad, apid, domain));
	EXPECT_EQ(1, ap_queue_value(apid, domain, "qlen"));
}

/* A PQAP(AQIC) that was refused may succeed later */
TEST_F_TIMEOUT(guest, interrupts_are_enabled_again, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;

	ASSERT_EQ(0, ap_control("rc %02x.%04x aqic %x 3", f->apids[0], f->domains[0], BUSY));
	ASSERT_EQ(0, ap_control("rc %02x.%04x aqic %x 2", f->apids[1], f->domains[1], RESET));
	ASSERT_EQ(0, guest_fixture_start(f));
	EXPECT_EQ(0, guest_wait_answered(&f->guest, ENOUGH));
	EXPECT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	/* The driver executes PQAP(AQIC) more often than the guest */
	EXPECT_LE(2U, c.aqic_again);
	EXPECT_GE(5U, c.aqic_again);
	EXPECT_EQ(FIXTURE_QUEUES, c.aqic);
}

TEST_F_TIMEOUT(guest, queue_without_interrupts_is_not_used, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;

	ASSERT_EQ(0, ap_control("rc %02x.%04x aqic %x 1", f->apids[0], f->domains[0],
				BAD_ADDRESS));
	ASSERT_EQ(0, guest_fixture_start(f));
	do {
		pause_ms(1);
		guest_counters(&f->guest, &c);
	} while (!f->guest.ended && c.queues[FIXTURE_QUEUES - 1].answered < ENOUGH);
	EXPECT_EQ(0, guest_stop(&f->guest));
	EXPECT_EQ(0U, c.queues[0].used);
	EXPECT_EQ(0U, c.queues[0].sent);
	EXPECT_EQ(1U, c.queues[1].used);
	EXPECT_EQ(f->apids[0] << 8 | f->domains[0], c.answer >> 32);
	EXPECT_EQ(BAD_ADDRESS, c.answer >> 16 & 0xff);
}

/* The guest has no other way to learn of replies: without this the others would prove nothing */
TEST_F_TIMEOUT(guest, guest_hangs_without_interrupts, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters c;

	ASSERT_EQ(0, ap_control("swallow * on"));
	ASSERT_EQ(0, guest_fixture_start(f));
	while (guest_fixture_sum(f, "replies") != (long)FIXTURE_QUEUES * GUEST_WINDOW)
		pause_ms(1);
	EXPECT_EQ(-ETIME, guest_wait_answered_for(&f->guest, 1, A_WHILE));
	EXPECT_LE((long)FIXTURE_QUEUES, guest_fixture_sum(f, "swallowed"));
	EXPECT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_EQ(FIXTURE_QUEUES, c.aqic);
	EXPECT_EQ(0U, c.interrupts);
	EXPECT_EQ(0U, c.polls);
}

static __u8 nib(struct guest_fixture *f)
{
	return __atomic_load_n((__u8 *)f->env.dev.mem + GUEST_NIB, __ATOMIC_SEQ_CST);
}

/* Make a guest look at its queues, as if one of them had a reply */
static int interrupt_guest(struct guest_fixture *f, bool notify)
{
	struct kvm_s390_interrupt irq = {
		.type = KVM_S390_INT_IO(1, 0, 0, 0),
		.parm64 = 0x80000000 | GUEST_ISC << 27,
	};

	if (notify)
		__atomic_store_n((__u8 *)f->env.dev.mem + GUEST_NIB, 1, __ATOMIC_SEQ_CST);
	return ioctl(f->env.dev.vm, KVM_S390_INTERRUPT, &irq) ? -errno : 0;
}

/* Requests are lost with their queues' interrupts: one poll brings everything back */
TEST_F_TIMEOUT(guest, one_interrupt_makes_guest_repeat_lost_requests, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	struct guest_counters before, c;
	bool notified;

	ASSERT_EQ(0, guest_fixture_start(f));
	EXPECT_EQ(0, guest_wait_answered(&f->guest, ENOUGH));
	EXPECT_EQ(0, guest_stop(&f->guest));
	EXPECT_LT(0, guest_fixture_sum(f, "qlen"));
	EXPECT_EQ(0, vfio_ap_reset(&f->env.dev));
	EXPECT_EQ(0, guest_fixture_sum(f, "qlen"));

	/* Without the NIB of a queue the guest does not ask any queue */
	guest_counters(&f->guest, &before);
	notified = before.interrupts != before.polls + before.spurious || nib(f);
	ASSERT_EQ(0, guest_start(&f->guest));
	if (!notified) {
		ASSERT_EQ(0, interrupt_guest(f, false));
		do {
			pause_ms(1);
			guest_counters(&f->guest, &c);
		} while (c.spurious == before.spurious && !f->guest.ended);
		EXPECT_EQ(before.polls, c.polls);
	}
	ASSERT_EQ(0, interrupt_guest(f, true));
	EXPECT_EQ(0, wait_for_replies(f, ENOUGH));
	EXPECT_EQ(0, guest_stop(&f->guest));
	guest_counters(&f->guest, &c);
	EXPECT_TRUE(guest_counters_valid(&c));
	EXPECT_LE(FIXTURE_QUEUES, guest_requeued(&c));
	EXPECT_EQ(2 * FIXTURE_QUEUES, c.aqic);
}

/* The kernel log has the backlog of each queue at the time it was disabled */
TEST_F_TIMEOUT(guest, backlog_of_disabled_queue_is_counted, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;
	const __u32 code[] = { 0xb2af0000, DIAG_500 };
	struct kvm_run *run;
	long off, busy;

	ASSERT_EQ(0, guest_fixture_start(f));
	EXPECT_EQ(0, guest_wait_answered(&f->guest, 1));
	EXPECT_EQ(0, guest_stop(&f->guest));
	off = guest_fixture_sum(f, "irq_off");
	busy = guest_fixture_sum(f, "irq_off_busy");

	/* PQAP(AQIC) with the interrupts off */
	run = f->guest.cpu.run;
	guest_write(&f->guest, SMALL_ENTRY, code, sizeof(code));
	kvm_cpu_set_psw(&f->guest.cpu, KVM_PSW_MASK, SMALL_ENTRY);
	run->s.regs.gprs[0] = 0x3000000 | f->apids[0] << 8 | f->domains[0];
	run->s.regs.gprs[1] = 0;
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	ASSERT_EQ(0, guest_start(&f->guest));
	EXPECT_EQ(0, guest_wait_end(&f->guest));
	EXPECT_TRUE(kvm_cpu_intercepted(&f->guest.cpu, DIAG_IPA));
	EXPECT_EQ(0U, run->s.regs.gprs[1] >> 16 & 0xff);
	EXPECT_EQ(off + 1, guest_fixture_sum(f, "irq_off"));
	EXPECT_EQ(busy + 1, guest_fixture_sum(f, "irq_off_busy"));
	EXPECT_EQ(ap_queue_value(f->apids[0], f->domains[0], "qlen"),
		  ap_queue_value(f->apids[0], f->domains[0], "off_qlen"));
}

TEST_F_TIMEOUT(guest, running_guest_is_interrupted, ENV_TIMEOUT)
{
	static const __u64 stop[] = { KVM_PSW_MASK | PSW_WAIT, GUEST_STOPPED + GUEST_ISC };
	struct guest_fixture *f = &self->guest_fixture;
	const __u8 *mem = f->env.dev.mem;
	struct kvm_run *run;

	ASSERT_EQ(0, create_small(f, NULL, 0));
	ASSERT_EQ(0, guest_aqic(&f->guest, f->apids[0] << 8 | f->domains[0], true, GUEST_NIB));
	guest_write(&f->guest, SMALL_ENTRY, store_and_loop, sizeof(store_and_loop));
	guest_write(&f->guest, LC_IO_NEW, stop, sizeof(stop));
	kvm_cpu_set_psw(&f->guest.cpu, KVM_PSW_MASK | PSW_IO, SMALL_ENTRY);
	run = f->guest.cpu.run;
	run->s.regs.crs[6] = 0x80000000 >> GUEST_ISC;
	run->kvm_dirty_regs = KVM_SYNC_CRS;
	ASSERT_EQ(0, guest_start(&f->guest));
	wait_for_loop(f);
	EXPECT_EQ(0, ap_control("notify %02x.%04x", f->apids[0], f->domains[0]));
	ASSERT_EQ(0, guest_wait_end(&f->guest));
	EXPECT_TRUE(kvm_cpu_disabled(&f->guest.cpu));
	EXPECT_EQ((__u64)GUEST_STOPPED + GUEST_ISC, run->psw_addr);
	EXPECT_EQ(0x80000000 | GUEST_ISC << 27, *(const __u32 *)(mem + LC_IO_WORD));
	EXPECT_EQ(1, mem[GUEST_NIB]);
}

TEST_F_TIMEOUT(guest, unknown_instruction_is_exception, ENV_TIMEOUT)
{
	static const __u8 code[] = { 0xb2, 0xff, 0x00, 0x00 };
	struct guest_fixture *f = &self->guest_fixture;
	__u16 program_code;

	ASSERT_EQ(0, create_small(f, code, sizeof(code)));
	ASSERT_EQ(0, guest_start(&f->guest));
	ASSERT_EQ(0, guest_wait_end(&f->guest));
	EXPECT_TRUE(kvm_cpu_disabled(&f->guest.cpu));
	EXPECT_EQ(GUEST_STOPPED, f->guest.cpu.run->psw_addr);
	memcpy(&program_code, (__u8 *)f->env.dev.mem + LC_PGM_CODE, sizeof(program_code));
	EXPECT_EQ(1, program_code);
}

TEST_F_TIMEOUT(guest, guest_stops_without_queues, ENV_TIMEOUT)
{
	struct guest_fixture *f = &self->guest_fixture;

	ASSERT_EQ(0, ap_mdev_write(f->env.dev.uuid, "unassign_domain", "%u", f->domains[0]));
	ASSERT_EQ(0, ap_mdev_write(f->env.dev.uuid, "unassign_domain", "%u", f->domains[1]));
	ASSERT_EQ(0, guest_fixture_start(f));
	ASSERT_EQ(0, guest_wait_end(&f->guest));
	EXPECT_TRUE(kvm_cpu_disabled(&f->guest.cpu));
	EXPECT_EQ(GUEST_STOPPED + GUEST_NO_QUEUES, f->guest.cpu.run->psw_addr);
}

TEST_HARNESS_MAIN
