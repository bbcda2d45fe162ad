// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that executes random AP instructions:
 *
 *	ap-random SECONDS SEED
 *
 * It has two adapters by two domains. Most instructions address one of these
 * queues. Operands are in storage, at its end, or behind it. Prints the number
 * of instructions by condition code and by program interruption. Another guest
 * then uses the same queues.
 *
 * Ends with status 0 if that guest gets its replies, 1 if not, 4 if it cannot
 * run here.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/env.h"
#include "lib/guest_fixture.h"

/* Replies for each queue of the second guest */
#define ENOUGH		25
#define DIAG_500	0x83000500U
#define DIAG_IPA	0x8300
#define LC_PGM_CODE	0x8e
#define LC_PGM_NEW	0x1d0
#define PSW_WAIT	0x0002000000000000ULL
#define PSW_PROBLEM	0x0001000000000000ULL
/* Operands are not below this address: lowcore and program stay as they are. */
#define OPERANDS	0x20000
#define NR_CODES	0x40
/* Bytes at whose multiples NQAP and DQAP end early, by default */
#define SEGMENT		0x100000

static struct guest_fixture fixture;
static uint64_t state;
static unsigned long condition[4], interruption[NR_CODES], others;

/* splitmix64: the same sequence for the same seed */
static uint64_t next(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static bool one_of(unsigned int n)
{
	return next() % n == 0;
}

/* Function code, APQN and the bits between them */
static uint64_t random_gr0(void)
{
	uint64_t gr0 = one_of(16) ? next() : (next() % 6) << 24;

	if (one_of(2))
		gr0 |= next() & 0xe0800000;
	gr0 &= ~0xffffULL;
	if (one_of(8))
		return gr0 | (next() & 0xffff);
	return gr0 | fixture.apids[next() % 2] << 8 | fixture.domains[next() % 2];
}

static uint64_t random_address(void)
{
	const size_t size = fixture.env.dev.mem_size;

	switch (next() % 8) {
	case 0:
		return size - next() % 8192;
	case 1:
		return size + next() % size;
	case 2:
		return next() | 1ULL << 40;
	default:
		return OPERANDS + next() % (size - OPERANDS);
	}
}

static uint64_t random_length(void)
{
	switch (next() % 4) {
	case 0:
		return next() >> next() % 64;
	case 1:
		return next() % 32768;
	default:
		return next() % 256;
	}
}

static void random_registers(__u64 *gprs)
{
	unsigned int i;

	for (i = 0; i < 16; i++)
		gprs[i] = i % 2 ? random_length() : random_address();
	gprs[0] = random_gr0();
	gprs[1] = one_of(2) ? next() : GUEST_AQIC_IR | GUEST_ISC;
}

/* An AP instruction, with even registers in most cases */
static uint32_t random_insn(void)
{
	uint32_t registers = next() & 0xee;

	if (one_of(16))
		registers = next() & 0xff;
	if (one_of(16))
		registers |= next() & 0xff00;
	return 0xb2ad0000 + (next() % 3 << 16) + registers;
}

/* Execute one instruction; 0 or a negative errno */
static int step(void)
{
	const __u64 stop[] = { KVM_PSW_MASK | PSW_WAIT, GUEST_STOPPED };
	const __u32 code[] = { random_insn(), DIAG_500 };
	struct kvm_cpu *cpu = &fixture.guest.cpu;
	const __u8 *mem = fixture.env.dev.mem;
	unsigned int program;
	int ret;

	guest_write(&fixture.guest, SMALL_ENTRY, code, sizeof(code));
	guest_write(&fixture.guest, LC_PGM_NEW, stop, sizeof(stop));
	random_registers(cpu->run->s.regs.gprs);
	cpu->run->kvm_dirty_regs = KVM_SYNC_GPRS;
	kvm_cpu_set_psw(cpu, KVM_PSW_MASK | (one_of(64) ? PSW_PROBLEM : 0), SMALL_ENTRY);
	ret = kvm_cpu_run(cpu);
	if (ret)
		return ret;
	program = *(const __u16 *)(mem + LC_PGM_CODE);
	if (kvm_cpu_intercepted(cpu, DIAG_IPA))
		condition[cpu->run->psw_mask >> 44 & 3]++;
	else if (kvm_cpu_disabled(cpu) && program < NR_CODES)
		interruption[program]++;
	else
		others++;
	return 0;
}

static void report(void)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		printf("condition_%u %lu\n", i, condition[i]);
	for (i = 0; i < NR_CODES; i++)
		if (interruption[i])
			printf("interruption_%02x %lu\n", i, interruption[i]);
	printf("others %lu\n", others);
}

/* A guest that keeps requests in the queues gets replies and interrupts. */
static int queues_work(void)
{
	struct guest_counters counters;
	int ret;

	ret = guest_fixture_reopen(&fixture);
	if (!ret)
		ret = guest_fixture_start(&fixture);
	if (!ret)
		ret = guest_wait_answered(&fixture.guest, ENOUGH);
	if (!ret)
		ret = guest_stop(&fixture.guest);
	if (ret)
		return ret;
	guest_counters(&fixture.guest, &counters);
	return guest_counters_valid(&counters) ? 0 : -EIO;
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atol(argv[1]) : 10);
	const char *why;
	int ret;

	state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	why = guest_fixture_setup(&fixture, VFIO_AP_CDEV, &ret);
	if (why || ret) {
		fprintf(stderr, "%s\n", why ?: strerror(-ret));
		return 4;
	}
	/* Often enough, NQAP and DQAP end with condition code 2. */
	ap_control("segment 4096");
	ret = guest_create(&fixture.guest, &fixture.env.dev, SMALL_ENTRY);
	while (!ret && time(NULL) < end)
		ret = step();
	ap_control("segment %d", SEGMENT);
	report();
	if (!ret)
		ret = queues_work();
	if (ret)
		fprintf(stderr, "%s\n", strerror(-ret));
	guest_fixture_teardown(&fixture);
	return ret ? 1 : 0;
}
