// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that uses its AP queues, executed by the simulator in place of SIE:
 * requests, replies, interrupts, and what happens when one of them is lost.
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
#include "lib/guest.h"
#include "kselftest_harness.h"

#define NR_QUEUES	4U
/* Replies for each queue that show that all is well */
#define ENOUGH		25
/* Milliseconds in which a guest that can go on does so */
#define A_WHILE		1000

/* Response codes */
#define NOT_THERE	0x01
#define RESET		0x02
#define BUSY		0x05
#define BAD_ADDRESS	0x06U

/* Where small programs begin, and where one leaves what it has found */
#define SMALL		0x10000

#define LC_PGM_CODE	0x8e
#define LC_PGM_NEW	0x1d0

/* DIAG X'500', which is for user space, and its first halfword */
#define DIAG_500	0x83, 0x00, 0x05, 0x00
#define DIAG_IPA	0x8300

/**
 * struct place - where the tests play
 * @env: a device with two adapters and two domains
 * @guest: who has it
 * @apids: its adapters
 * @domains: its domains
 * @other: an adapter that it has not
 * @ready: everything is there
 */
struct place {
	struct env env;
	struct guest guest;
	unsigned int apids[2];
	unsigned int domains[2];
	unsigned int other;
	bool ready;
};

FIXTURE(guest) {
	struct place place;
};

static void pause_ms(unsigned int ms)
{
	const struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000,
	};

	nanosleep(&time, NULL);
}

/* The device of the environment with two adapters and two domains */
static int assign_four(struct place *p)
{
	const struct ap_pool *pool = &p->env.pool;
	struct ap_masks masks = {};
	unsigned int i;

	for (i = 0; i < 2; i++) {
		p->apids[i] = pool->adapters[i];
		p->domains[i] = pool->domains[i];
		ap_mask_set(masks.apm, p->apids[i]);
		ap_mask_set(masks.aqm, p->domains[i]);
	}
	p->other = pool->adapters[2];
	return ap_mdev_assign(p->env.dev.uuid, &masks);
}

FIXTURE_SETUP(guest)
{
	struct place *p = &self->place;
	const char *why;
	int ret;

	p->ready = false;
	why = ap_sim_present() ? env_setup(&p->env, VFIO_AP_CDEV, &ret) : AP_NO_SIM;
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ret);
	p->ready = true;
	if (p->env.pool.nr_adapters < 3)
		SKIP(return, "needs three adapters");
	ASSERT_EQ(0, assign_four(p));
}

FIXTURE_TEARDOWN(guest)
{
	struct place *p = &self->place;

	if (!p->ready)
		return;
	ap_sim_control("swallow * off");
	ap_sim_control("rc * aqic 0");
	ap_sim_control("latency * 1000");
	guest_free(&p->guest);
	env_teardown(&p->env);
}

static int start_guest(struct place *p)
{
	int ret;

	ret = guest_create(&p->guest, &p->env.dev, GUEST_ENTRY);
	if (!ret)
		ret = guest_load(&p->guest);
	if (!ret)
		ret = guest_start(&p->guest);
	return ret;
}

/* The same with something that is not the guest program; it sleeps for ever after errors */
static int create_small(struct place *p, const __u8 *code, size_t len)
{
	static const __u64 stop[] = { KVM_PSW_MASK | 0x0002000000000000ULL, GUEST_STOPPED };
	int ret;

	ret = guest_create(&p->guest, &p->env.dev, SMALL);
	if (ret)
		return ret;
	guest_write(&p->guest, SMALL, code, len);
	guest_write(&p->guest, LC_PGM_NEW, stop, sizeof(stop));
	return 0;
}

/* Whether nothing is wrong; says what is */
static bool all_is_well(struct __test_metadata *_metadata, const struct guest_counters *c)
{
	const struct guest_queue *q;
	bool well = c->magic == GUEST_MAGIC && c->nr_queues == NR_QUEUES && !c->flags &&
		    !c->answer && c->interrupts;
	unsigned int i;

	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++) {
		q = &c->queues[i];
		/* One of them may just have its reply looked at */
		if (!q->used || q->wrong || q->duplicate ||
		    q->last + q->early - q->answered > c->polling ||
		    q->sent - q->last > GUEST_WINDOW)
			well = false;
	}
	if (well)
		return true;
	TH_LOG("queues %llu interrupts %llu spurious %llu polls %llu flags %llx answer %llx",
	       c->nr_queues, c->interrupts, c->spurious, c->polls, c->flags, c->answer);
	for (i = 0; i < c->nr_queues && i < GUEST_MAX_QUEUES; i++) {
		q = &c->queues[i];
		TH_LOG("%04llx: sent %llu answered %llu requeued %llu wrong %llu again %llu last %llu",
		       q->apqn, q->sent, q->answered, q->requeued, q->wrong, q->duplicate,
		       q->last);
	}
	return false;
}

static __u64 requeued(const struct guest_counters *c)
{
	__u64 sum = 0;
	unsigned int i;

	for (i = 0; i < c->nr_queues; i++)
		sum += c->queues[i].requeued;
	return sum;
}

/* A value of the simulator, the sum over the queues of the guest */
static long queues_value(struct place *p, const char *name)
{
	long sum = 0;
	unsigned int i;

	for (i = 0; i < NR_QUEUES; i++)
		sum += ap_sim_queue_value(p->apids[i / 2], p->domains[i % 2], name);
	return sum;
}

TEST_F_TIMEOUT(guest, each_request_is_answered_once, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters c;
	unsigned int i, apqn;
	long irqs, alerts;

	irqs = queues_value(p, "guest_irqs");
	alerts = ap_sim_counter("gib_alerts");
	ASSERT_EQ(0, start_guest(p));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, ENOUGH));
	EXPECT_EQ(0, guest_stop(&p->guest));

	guest_counters(&p->guest, &c);
	EXPECT_TRUE(all_is_well(_metadata, &c));
	EXPECT_EQ(0U, requeued(&c));
	EXPECT_EQ(NR_QUEUES, c.aqic);
	for (i = 0; i < NR_QUEUES; i++) {
		apqn = p->apids[i / 2] << 8 | p->domains[i % 2];
		EXPECT_EQ(apqn, c.queues[i].apqn);
		EXPECT_LE(1U, c.queues[i].sent - c.queues[i].last);
	}
	/* It was interrupted because of its queues, and woken up by alerts */
	EXPECT_GE(queues_value(p, "guest_irqs") - irqs, (long)c.interrupts);
	EXPECT_LT(alerts, ap_sim_counter("gib_alerts"));
}

TEST_F_TIMEOUT(guest, replies_wait_for_a_stopped_guest, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters before, c;
	int i, ret;

	ASSERT_EQ(0, start_guest(p));
	for (i = 1; i <= 5; i++) {
		ret = guest_wait_answered(&p->guest, i * ENOUGH);
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, guest_stop(&p->guest));
		guest_counters(&p->guest, &before);
		while (queues_value(p, "qlen") != queues_value(p, "replies"))
			pause_ms(1);
		guest_counters(&p->guest, &c);
		EXPECT_EQ(0, memcmp(&before, &c, sizeof(c)));
		ASSERT_EQ(0, guest_start(&p->guest));
	}
	EXPECT_EQ(0, guest_wait_answered(&p->guest, guest_answered(&before) + ENOUGH));
	EXPECT_EQ(0, guest_stop(&p->guest));
	guest_counters(&p->guest, &c);
	EXPECT_TRUE(all_is_well(_metadata, &c));
	EXPECT_EQ(0U, requeued(&c));
}

/* Whoever runs may be stopped, and whoever sleeps for ever, too */
TEST_F_TIMEOUT(guest, a_signal_stops_it_at_once, ENV_TIMEOUT)
{
	/* J . */
	static const __u8 loop[] = { 0xa7, 0xf4, 0x00, 0x00 };
	struct place *p = &self->place;
	struct guest_counters c;

	ASSERT_EQ(0, create_small(p, loop, sizeof(loop)));
	ASSERT_EQ(0, guest_start(&p->guest));
	pause_ms(50);
	EXPECT_EQ(0, guest_stop(&p->guest));
	EXPECT_EQ((__u64)SMALL, p->guest.cpu.run->psw_addr);

	ASSERT_EQ(0, ap_sim_control("latency * 1000000000"));
	ASSERT_EQ(0, guest_load(&p->guest));
	kvm_cpu_set_psw(&p->guest.cpu, KVM_PSW_MASK, GUEST_ENTRY);
	ASSERT_EQ(0, guest_start(&p->guest));
	while (queues_value(p, "qlen") != (long)NR_QUEUES * GUEST_WINDOW)
		pause_ms(1);
	pause_ms(50);
	EXPECT_EQ(0, guest_stop(&p->guest));
	guest_counters(&p->guest, &c);
	EXPECT_EQ(0U, c.interrupts);
}

/* Pages go away under its hands; their contents do not */
TEST_F_TIMEOUT(guest, its_pages_are_faulted_in, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters c;
	int i;

	ASSERT_EQ(0, start_guest(p));
	for (i = 1; i <= ENOUGH; i++) {
		EXPECT_EQ(0, guest_wait_answered(&p->guest, i * 2));
		ASSERT_EQ(0, madvise(p->env.dev.mem, p->env.dev.mem_size, MADV_DONTNEED));
	}
	EXPECT_EQ(0, guest_wait_answered(&p->guest, i * 2));
	EXPECT_EQ(0, guest_stop(&p->guest));
	guest_counters(&p->guest, &c);
	EXPECT_TRUE(all_is_well(_metadata, &c));
	EXPECT_EQ(0U, requeued(&c));
}

static int log_dirty(struct place *p, bool on)
{
	struct kvm_userspace_memory_region memory = {
		.flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.memory_size = p->env.dev.mem_size,
		.userspace_addr = (uintptr_t)p->env.dev.mem,
	};

	return ioctl(p->env.dev.vm, KVM_SET_USER_MEMORY_REGION, &memory) ? -errno : 0;
}

/* Whether KVM has logged a store to a page; forgets all that it has logged */
static bool was_stored_to(struct place *p, __u64 addr)
{
	static __u8 bitmap[65536 / 8] __attribute__((aligned(8)));
	struct kvm_dirty_log dirty = { .dirty_bitmap = bitmap };

	memset(bitmap, 0, sizeof(bitmap));
	if (ioctl(p->env.dev.vm, KVM_GET_DIRTY_LOG, &dirty))
		return false;
	addr /= 4096;
	return bitmap[addr / 8] >> addr % 8 & 1;
}

TEST_F_TIMEOUT(guest, its_stores_are_logged_those_of_its_queues_are_not, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	__u8 *nib = (__u8 *)p->env.dev.mem + GUEST_NIB;

	ASSERT_EQ(0, start_guest(p));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, 1));
	ASSERT_EQ(0, guest_stop(&p->guest));
	ASSERT_EQ(0, log_dirty(p, true));
	was_stored_to(p, 0);
	while (queues_value(p, "qlen") != queues_value(p, "replies"))
		pause_ms(1);

	/* Nobody executes anything */
	__atomic_store_n(nib, 0, __ATOMIC_SEQ_CST);
	EXPECT_FALSE(was_stored_to(p, GUEST_NIB));
	EXPECT_EQ(0, ap_sim_control("notify %02x.%04x", p->apids[0], p->domains[0]));
	EXPECT_EQ(1, __atomic_load_n(nib, __ATOMIC_SEQ_CST));
	EXPECT_FALSE(was_stored_to(p, GUEST_NIB));
	EXPECT_FALSE(was_stored_to(p, GUEST_COUNTERS));

	ASSERT_EQ(0, guest_start(&p->guest));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, ENOUGH));
	ASSERT_EQ(0, guest_stop(&p->guest));
	EXPECT_TRUE(was_stored_to(p, GUEST_NIB));
	EXPECT_FALSE(was_stored_to(p, GUEST_NIB));
	ASSERT_EQ(0, guest_start(&p->guest));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, 2 * ENOUGH));
	ASSERT_EQ(0, guest_stop(&p->guest));
	EXPECT_TRUE(was_stored_to(p, GUEST_COUNTERS));
	EXPECT_EQ(0, log_dirty(p, false));
}

/* The guest executes a PQAP, NQAP or DQAP on a queue; the response code, or a negative errno */
static int execute(struct place *p, __u8 opcode, unsigned int apid, unsigned int domain)
{
	const __u8 code[] = { 0xb2, opcode, 0x00, 0x46, DIAG_500 };
	struct kvm_run *run = p->guest.cpu.run;
	int ret;

	guest_write(&p->guest, SMALL, code, sizeof(code));
	kvm_cpu_set_psw(&p->guest.cpu, KVM_PSW_MASK, SMALL);
	run->s.regs.gprs[0] = 0xc0000000 | apid << 8 | domain;
	if (opcode == 0xaf)
		run->s.regs.gprs[0] &= 0xffff;
	run->s.regs.gprs[6] = SMALL + 0x1000;
	run->s.regs.gprs[7] = 32;
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	ret = guest_start(&p->guest) ?: guest_wait_end(&p->guest);
	if (ret)
		return ret;
	if (!kvm_cpu_intercepted(&p->guest.cpu, DIAG_IPA))
		return -EPROTO;
	return run->s.regs.gprs[1] >> 16 & 0xff;
}

TEST_F_TIMEOUT(guest, it_has_its_queues_and_no_others, ENV_TIMEOUT)
{
	static const __u8 opcodes[] = { 0xad, 0xae, 0xaf };
	struct place *p = &self->place;
	unsigned int i;

	ASSERT_EQ(0, create_small(p, NULL, 0));
	EXPECT_EQ(0, execute(p, 0xaf, p->apids[1], p->domains[1]));
	EXPECT_EQ(0, execute(p, 0xad, p->apids[1], p->domains[1]));
	for (i = 0; i < sizeof(opcodes); i++) {
		EXPECT_EQ(NOT_THERE, execute(p, opcodes[i], p->other, p->domains[0]));
		EXPECT_EQ(NOT_THERE, execute(p, opcodes[i], p->apids[0],
					     p->env.pool.domains[p->env.pool.nr_domains - 1]));
		EXPECT_EQ(NOT_THERE, execute(p, opcodes[i], 0xff, 0xff));
	}
	EXPECT_EQ(0, ap_sim_queue_value(p->other, p->domains[0], "qlen"));

	/* What it has not any more is gone at once */
	ASSERT_EQ(0, ap_mdev_write(p->env.dev.uuid, "unassign_adapter", "%u", p->apids[1]));
	EXPECT_EQ(NOT_THERE, execute(p, 0xaf, p->apids[1], p->domains[1]));
	EXPECT_EQ(0, execute(p, 0xaf, p->apids[0], p->domains[1]));
}

/* What PQAP(AQIC) cannot do now it may do later */
TEST_F_TIMEOUT(guest, interrupts_are_asked_for_again, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters c;

	ASSERT_EQ(0, ap_sim_control("rc %02x.%04x aqic %x 3", p->apids[0], p->domains[0], BUSY));
	ASSERT_EQ(0, ap_sim_control("rc %02x.%04x aqic %x 2", p->apids[1], p->domains[1], RESET));
	ASSERT_EQ(0, start_guest(p));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, ENOUGH));
	EXPECT_EQ(0, guest_stop(&p->guest));
	guest_counters(&p->guest, &c);
	EXPECT_TRUE(all_is_well(_metadata, &c));
	/* The driver executes PQAP(AQIC) more often than the guest */
	EXPECT_LE(2U, c.aqic_again);
	EXPECT_GE(5U, c.aqic_again);
	EXPECT_EQ(NR_QUEUES, c.aqic);
}

TEST_F_TIMEOUT(guest, a_queue_without_interrupts_is_not_used, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters c;

	ASSERT_EQ(0, ap_sim_control("rc %02x.%04x aqic %x 1", p->apids[0], p->domains[0],
				    BAD_ADDRESS));
	ASSERT_EQ(0, start_guest(p));
	do {
		pause_ms(1);
		guest_counters(&p->guest, &c);
	} while (!p->guest.ended && c.queues[NR_QUEUES - 1].answered < ENOUGH);
	EXPECT_EQ(0, guest_stop(&p->guest));
	EXPECT_EQ(0U, c.queues[0].used);
	EXPECT_EQ(0U, c.queues[0].sent);
	EXPECT_EQ(1U, c.queues[1].used);
	EXPECT_EQ(p->apids[0] << 8 | p->domains[0], c.answer >> 32);
	EXPECT_EQ(BAD_ADDRESS, c.answer >> 16 & 0xff);
}

/* The guest has no other way to learn of replies: without this the others would prove nothing */
TEST_F_TIMEOUT(guest, without_interrupts_it_hangs, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters c;

	ASSERT_EQ(0, ap_sim_control("swallow * on"));
	ASSERT_EQ(0, start_guest(p));
	while (queues_value(p, "replies") != (long)NR_QUEUES * GUEST_WINDOW)
		pause_ms(1);
	EXPECT_EQ(-ETIME, guest_wait_answered_for(&p->guest, 1, A_WHILE));
	EXPECT_LE((long)NR_QUEUES, queues_value(p, "swallowed"));
	EXPECT_EQ(0, guest_stop(&p->guest));
	guest_counters(&p->guest, &c);
	EXPECT_EQ(NR_QUEUES, c.aqic);
	EXPECT_EQ(0U, c.interrupts);
	EXPECT_EQ(0U, c.polls);
}

/* What makes a guest look at its queues, as if one of them had a reply */
static int interrupt(struct place *p, bool notify)
{
	struct kvm_s390_interrupt irq = {
		.type = KVM_S390_INT_IO(1, 0, 0, 0),
		.parm64 = 0x80000000 | GUEST_ISC << 27,
	};

	if (notify)
		__atomic_store_n((__u8 *)p->env.dev.mem + GUEST_NIB, 1, __ATOMIC_SEQ_CST);
	return ioctl(p->env.dev.vm, KVM_S390_INTERRUPT, &irq) ? -errno : 0;
}

/* Requests are lost with their queues' interrupts: one poll brings everything back */
TEST_F_TIMEOUT(guest, one_interrupt_brings_lost_requests_back, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	struct guest_counters c;
	__u64 before;

	ASSERT_EQ(0, start_guest(p));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, ENOUGH));
	EXPECT_EQ(0, guest_stop(&p->guest));
	EXPECT_LT(0, queues_value(p, "qlen"));
	EXPECT_EQ(0, vfio_ap_reset(&p->env.dev));
	EXPECT_EQ(0, queues_value(p, "qlen"));

	ASSERT_EQ(0, guest_start(&p->guest));
	guest_counters(&p->guest, &c);
	before = guest_answered(&c);
	/* A pending interrupt may have told it already: then there is nothing to see here */
	if (guest_wait_answered_for(&p->guest, before + 1, A_WHILE)) {
		guest_counters(&p->guest, &c);
		before = c.polls;
		ASSERT_EQ(0, interrupt(p, false));
		pause_ms(A_WHILE / 10);
		guest_counters(&p->guest, &c);
		EXPECT_EQ(before, c.polls);
		EXPECT_LE(1U, c.spurious);
		ASSERT_EQ(0, interrupt(p, true));
	}
	EXPECT_EQ(0, guest_wait_answered(&p->guest, 2 * ENOUGH));
	EXPECT_EQ(0, guest_stop(&p->guest));
	guest_counters(&p->guest, &c);
	EXPECT_TRUE(all_is_well(_metadata, &c));
	EXPECT_LE(NR_QUEUES, requeued(&c));
	EXPECT_EQ(2 * NR_QUEUES, c.aqic);
}

/* How many messages there were in a queue when it was silenced is told afterwards */
TEST_F_TIMEOUT(guest, what_a_silenced_queue_held_is_counted, ENV_TIMEOUT)
{
	struct place *p = &self->place;
	const __u8 code[] = { 0xb2, 0xaf, 0x00, 0x00, DIAG_500 };
	struct kvm_run *run;
	long off, busy;

	ASSERT_EQ(0, start_guest(p));
	EXPECT_EQ(0, guest_wait_answered(&p->guest, 1));
	EXPECT_EQ(0, guest_stop(&p->guest));
	off = queues_value(p, "irq_off");
	busy = queues_value(p, "irq_off_busy");

	/* PQAP(AQIC) with the interrupts off */
	run = p->guest.cpu.run;
	guest_write(&p->guest, SMALL, code, sizeof(code));
	kvm_cpu_set_psw(&p->guest.cpu, KVM_PSW_MASK, SMALL);
	run->s.regs.gprs[0] = 0x3000000 | p->apids[0] << 8 | p->domains[0];
	run->s.regs.gprs[1] = 0;
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	ASSERT_EQ(0, guest_start(&p->guest));
	EXPECT_EQ(0, guest_wait_end(&p->guest));
	EXPECT_TRUE(kvm_cpu_intercepted(&p->guest.cpu, DIAG_IPA));
	EXPECT_EQ(0U, run->s.regs.gprs[1] >> 16 & 0xff);
	EXPECT_EQ(off + 1, queues_value(p, "irq_off"));
	EXPECT_EQ(busy + 1, queues_value(p, "irq_off_busy"));
	EXPECT_EQ(ap_sim_queue_value(p->apids[0], p->domains[0], "qlen"),
		  ap_sim_queue_value(p->apids[0], p->domains[0], "off_qlen"));
}

TEST_F_TIMEOUT(guest, an_unknown_instruction_is_an_exception, ENV_TIMEOUT)
{
	static const __u8 code[] = { 0xb2, 0xff, 0x00, 0x00 };
	struct place *p = &self->place;
	__u16 program_code;

	ASSERT_EQ(0, create_small(p, code, sizeof(code)));
	ASSERT_EQ(0, guest_start(&p->guest));
	ASSERT_EQ(0, guest_wait_end(&p->guest));
	EXPECT_TRUE(kvm_cpu_disabled(&p->guest.cpu));
	EXPECT_EQ(GUEST_STOPPED, p->guest.cpu.run->psw_addr);
	memcpy(&program_code, (__u8 *)p->env.dev.mem + LC_PGM_CODE, sizeof(program_code));
	EXPECT_EQ(1, program_code);
}

TEST_F_TIMEOUT(guest, without_queues_it_stops, ENV_TIMEOUT)
{
	struct place *p = &self->place;

	ASSERT_EQ(0, ap_mdev_write(p->env.dev.uuid, "unassign_domain", "%u", p->domains[0]));
	ASSERT_EQ(0, ap_mdev_write(p->env.dev.uuid, "unassign_domain", "%u", p->domains[1]));
	ASSERT_EQ(0, start_guest(p));
	ASSERT_EQ(0, guest_wait_end(&p->guest));
	EXPECT_TRUE(kvm_cpu_disabled(&p->guest.cpu));
	EXPECT_EQ(GUEST_STOPPED + GUEST_NO_QUEUES, p->guest.cpu.run->psw_addr);
}

TEST_HARNESS_MAIN
