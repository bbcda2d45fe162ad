// SPDX-License-Identifier: GPL-2.0
/*
 * A KVM guest with one CPU that executes random instructions.
 *
 *   random-guest SECONDS SEED [ROUND]
 *
 * In each round the guest executes a new area of random instructions, with random registers,
 * control registers and PSW. Each interruption of the guest enters a handler, which resumes with
 * new registers at the next slot of the area, so that an exception does not end the round. A round
 * ends when the handler has reached the end of the area, or after ROUND_MS.
 *
 * Nine of ten instructions have an opcode of the kernel's list; their operands are random. Register
 * values that are addresses in the guest's memory are frequent.
 *
 * The output is one "name value" per line: rounds, instructions, how KVM_RUN returned, and KVM's
 * exit counters. A line "round N" every ROUNDS_PER_VM rounds gives the number with which a run can
 * be repeated: the same seed and round give the same guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>

#define SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* The guest's memory. The page tables map the whole of it. */
#define MEMORY		0x400000UL
#define CODE		0x10000UL	/* the slots */
#define CODE_SIZE	0x4000UL
#define SLOT		64
#define SEGMENTS	0x20000UL	/* segment table */
#define SEGMENT_ENTRIES	2048
#define PAGES		0x24000UL	/* page tables */
#define PAGE_ENTRIES	256
#define PAGE_SIZE	4096UL
#define SEGMENT_SIZE	(PAGE_ENTRIES * PAGE_SIZE)

/* In the lowcore: new PSWs, where the architecture has them */
static const unsigned int new_psws[] = { 0x1a0, 0x1b0, 0x1c0, 0x1d0, 0x1e0, 0x1f0 };

/*
 * Places of the handler and its data; handler_start has the numbers again. Low-address protection
 * covers bytes 0 to 511 of the first two pages, but not the PSW whose address the handler advances.
 */
#define DONE_PSW	0x10UL		/* disabled wait */
#define LIMIT		0x20UL		/* address after the last slot */
#define TIMER		0x28UL
#define RESUME_PSW	0x280UL
#define HANDLER		0x1000UL
#define REGISTERS	0x1180UL

extern const uint8_t handler_start[], handler_end[];

asm(".pushsection .rodata\n"
    "handler_start:\n"
    "	spt	0x28\n"
    "	agsi	0x288,64\n"
    "	clc	0x288(8),0x20\n"
    "	jhe	1f\n"
    "	lmg	%r0,%r15,0x1180\n"
    "	lpswe	0x280\n"
    "1:	lpswe	0x10\n"
    "handler_end:\n"
    "	.popsection\n");

#define PSW_PER		(1UL << 62)
#define PSW_DAT		(1UL << 58)
#define PSW_IO		(1UL << 57)
#define PSW_EXT		(1UL << 56)
#define PSW_KEY_SHIFT	52
#define PSW_MCHECK	(1UL << 50)
#define PSW_WAIT	(1UL << 49)
#define PSW_PROBLEM	(1UL << 48)
#define PSW_AS_SHIFT	46
#define PSW_CC_SHIFT	44
#define PSW_64		(3UL << 31)

#define ASCE		(SEGMENTS | 3)	/* a segment table of full length */
#define SEGMENT_INVALID	0x20UL
#define PAGE_INVALID	0x400UL
#define PAGE_PROTECTED	0x200UL

#define CR0_LOWPROT	(1UL << 28)
#define CR0_EDAT	(1UL << 23)
#define CR0_AFP		(1UL << 18)
#define CR0_VECTOR	(1UL << 17)
#define CR0_CPU_TIMER	(1UL << 10)

/* The guest's CPU timer ends loops. In units of 1/4096 microsecond. */
#define TIMER_PERIOD	(2000UL << 12)
#define ROUND_MS	500
#define ROUNDS_PER_VM	16
#define EXITS_PER_ROUND	2000

struct opcode {
	uint8_t byte;		/* of the second part */
	uint8_t mask;
	uint8_t first;
	uint8_t second;
};

static const struct opcode opcodes[] = {
#include OPCODES
};

/* KVM's counters that the output has, summed over all VMs */
static const char *const counters[] = {
	"exit_userspace", "exit_null", "exit_external_request", "exit_io_request",
	"exit_external_interrupt", "exit_stop_request", "exit_validity", "exit_instruction",
	"exit_pei", "exit_program_interruption", "exit_instr_and_program",
	"exit_operation_exception", "exit_wait_state",
};
static uint64_t sums[SIZE(counters)];

static struct {
	uint64_t rounds, dat, access_registers, problem_state;
	uint64_t completed, timed_out, errors;
	uint64_t instructions, valid;
	uint64_t returns[64];
} counts;

struct vm {
	int vm;
	int vcpu;
	int stats;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *memory;
};

static const uint32_t capabilities[] = {
	KVM_CAP_S390_VECTOR_REGISTERS, KVM_CAP_S390_RI, KVM_CAP_S390_GS, KVM_CAP_S390_BPB,
};

/* Control registers of the primary, secondary and home space */
static const unsigned int asces[] = { 1, 7, 13 };

static uint64_t state;				/* of the random numbers */
static struct kvm_run *volatile running;	/* for alarm_handler() */
static volatile sig_atomic_t alarmed;

static void die(const char *what)
{
	printf("failed: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* SplitMix64 */
static uint64_t rnd(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15UL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
	return z ^ (z >> 31);
}

static bool one_in(unsigned int n)
{
	return rnd() % n == 0;
}

/* The contents of a register: an address in the guest's memory, a small number, or any */
static uint64_t rnd_value(void)
{
	switch (rnd() % 8) {
	case 0:
		return rnd();
	case 1:
		return rnd() % 256;
	case 2:
		return -(rnd() % 4096);
	default:
		return rnd() % MEMORY & -(1UL << rnd() % 13);
	}
}

static void put(struct vm *vm, uint64_t address, uint64_t value)
{
	memcpy(vm->memory + address, &value, sizeof(value));
}

static uint64_t get(struct vm *vm, uint64_t address)
{
	uint64_t value;

	memcpy(&value, vm->memory + address, sizeof(value));
	return value;
}

/* An opcode of the list. Most instructions for the supervisor start with B2. */
static const struct opcode *rnd_opcode(void)
{
	const bool control = one_in(8);
	const struct opcode *opcode;

	do {
		opcode = &opcodes[rnd() % SIZE(opcodes)];
	} while (control && opcode->first != 0xb2);
	return opcode;
}

/* Write one instruction; returns its length. */
static unsigned int make_instruction(uint8_t *to)
{
	uint64_t bits = rnd();

	memcpy(to, &bits, 6);
	if (!one_in(20)) {
		const struct opcode *opcode = rnd_opcode();

		to[0] = opcode->first;
		to[opcode->byte] = (to[opcode->byte] & ~opcode->mask) | opcode->second;
		counts.valid++;
	}
	counts.instructions++;
	return to[0] < 0x40 ? 2 : to[0] < 0xc0 ? 4 : 6;
}

/* The slots: random instructions, the last of which may reach into the next slot. */
static void make_code(struct vm *vm)
{
	unsigned long at = 0;

	while (at < CODE_SIZE)
		at += make_instruction(vm->memory + CODE + at);
}

/* Page tables that map most pages to themselves. */
static void make_tables(struct vm *vm)
{
	unsigned long i;

	for (i = 0; i < SEGMENT_ENTRIES; i++)
		put(vm, SEGMENTS + 8 * i, i < MEMORY / SEGMENT_SIZE ?
		    PAGES + 8 * PAGE_ENTRIES * i : SEGMENT_INVALID);
	for (i = 0; i < MEMORY / PAGE_SIZE; i++) {
		uint64_t page = one_in(32) ? rnd() % MEMORY & -PAGE_SIZE : i * PAGE_SIZE;

		page |= one_in(16) ? PAGE_INVALID : one_in(16) ? PAGE_PROTECTED : 0;
		put(vm, PAGES + 8 * i, page);
	}
}

static uint64_t make_psw_mask(void)
{
	uint64_t mask = PSW_64 | PSW_EXT | (rnd() & (PSW_IO | PSW_MCHECK));

	if (one_in(2)) {
		mask |= PSW_DAT | (rnd() % 4) << PSW_AS_SHIFT;
		counts.dat++;
		counts.access_registers += (mask >> PSW_AS_SHIFT) % 4 == 1;
	}
	if (one_in(3)) {
		mask |= PSW_PROBLEM;
		counts.problem_state++;
	}
	if (one_in(8))
		mask ^= one_in(2) ? PSW_64 : 1UL << 32;
	if (one_in(8))
		mask |= (rnd() % 16) << PSW_KEY_SHIFT;
	if (one_in(16))
		mask |= PSW_PER;
	return mask | (rnd() % 4) << PSW_CC_SHIFT;
}

/* Everything that a round starts with. */
static void make_round(struct vm *vm)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	unsigned int i;

	if (ioctl(vm->vcpu, KVM_S390_INITIAL_RESET, 0))
		die("KVM_S390_INITIAL_RESET");
	memset(vm->memory, 0, 2 * PAGE_SIZE);
	for (i = 0; i < SIZE(new_psws); i++) {
		put(vm, new_psws[i], PSW_64);
		put(vm, new_psws[i] + 8, HANDLER);
	}
	put(vm, DONE_PSW, PSW_WAIT | PSW_64);
	put(vm, LIMIT, CODE + CODE_SIZE);
	put(vm, TIMER, TIMER_PERIOD);
	memcpy(vm->memory + HANDLER, handler_start, handler_end - handler_start);
	make_code(vm);
	make_tables(vm);

	vm->run->psw_mask = make_psw_mask();
	vm->run->psw_addr = CODE;
	put(vm, RESUME_PSW, vm->run->psw_mask);
	put(vm, RESUME_PSW + 8, CODE);
	for (i = 0; i < SIZE(regs.gprs); i++) {
		regs.gprs[i] = rnd_value();
		put(vm, REGISTERS + 8 * i, regs.gprs[i]);
	}
	if (ioctl(vm->vcpu, KVM_SET_REGS, &regs))
		die("KVM_SET_REGS");

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		die("KVM_GET_SREGS");
	for (i = 0; i < SIZE(sregs.acrs); i++)
		sregs.acrs[i] = one_in(2) ? rnd() : 0;
	for (i = 0; i < SIZE(sregs.crs); i++)
		if (one_in(4))
			sregs.crs[i] = rnd();
	if (one_in(2))
		sregs.crs[0] = 0;
	sregs.crs[0] |= CR0_CPU_TIMER | (rnd() & (CR0_EDAT | CR0_AFP | CR0_VECTOR));
	if (!one_in(4))
		sregs.crs[0] |= CR0_AFP | CR0_VECTOR;
	if (!one_in(8))
		sregs.crs[0] |= CR0_LOWPROT;
	for (i = 0; i < SIZE(asces); i++)
		if (!one_in(16))
			sregs.crs[asces[i]] = ASCE;
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs))
		die("KVM_SET_SREGS");
}

static void alarm_handler(int signal)
{
	(void)signal;
	alarmed = 1;
	if (running)
		running->immediate_exit = 1;
}

/* Arm the alarm that ends a round; 0 disarms it. */
static void set_alarm(long ms)
{
	const struct itimerval value = { .it_value = { 0, ms * 1000 } };

	if (setitimer(ITIMER_REAL, &value, NULL))
		die("setitimer");
}

/* Execute a round to its end. Each return to user space resumes with the handler. */
static void run_round(struct vm *vm)
{
	unsigned int i;

	alarmed = 0;
	vm->run->immediate_exit = 0;
	running = vm->run;
	set_alarm(ROUND_MS);
	for (i = 0; i < EXITS_PER_ROUND && !alarmed; i++) {
		if (ioctl(vm->vcpu, KVM_RUN, 0)) {
			counts.errors += errno != EINTR;
			continue;
		}
		if (vm->run->exit_reason < SIZE(counts.returns))
			counts.returns[vm->run->exit_reason]++;
		if (get(vm, RESUME_PSW + 8) >= CODE + CODE_SIZE) {
			counts.completed++;
			break;
		}
		vm->run->psw_mask = PSW_64;
		vm->run->psw_addr = HANDLER;
	}
	set_alarm(0);
	running = NULL;
	counts.timed_out += alarmed;
	counts.rounds++;
}

static void add_counters(struct vm *vm)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	size_t size, i, j;
	uint64_t value;

	if (pread(vm->stats, &header, sizeof(header), 0) != sizeof(header))
		die("header of the counters");
	size = sizeof(*desc) + header.name_size;
	desc = malloc(size);
	for (i = 0; desc && i < header.num_desc; i++) {
		if (pread(vm->stats, desc, size, header.desc_offset + i * size) != (ssize_t)size)
			die("descriptor of a counter");
		for (j = 0; j < SIZE(counters); j++) {
			if (strcmp(desc->name, counters[j]))
				continue;
			if (pread(vm->stats, &value, sizeof(value),
				  header.data_offset + desc->offset) != sizeof(value))
				die("counter");
			sums[j] += value;
		}
	}
	free(desc);
}

static void open_vm(struct vm *vm, int kvm)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	size_t i;

	vm->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm->vm < 0)
		die("KVM_CREATE_VM");
	for (i = 0; i < SIZE(capabilities); i++) {
		struct kvm_enable_cap cap = { .cap = capabilities[i] };

		/* Not all hosts have all of them. */
		ioctl(vm->vm, KVM_ENABLE_CAP, &cap);
	}
	vm->memory = aligned_alloc(SEGMENT_SIZE, MEMORY);
	if (!vm->memory)
		die("memory");
	for (i = 0; i < MEMORY; i += sizeof(uint64_t))
		put(vm, i, rnd_value());
	region.userspace_addr = (uintptr_t)vm->memory;
	if (ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &region))
		die("KVM_SET_USER_MEMORY_REGION");
	vm->vcpu = ioctl(vm->vm, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		die("KVM_CREATE_VCPU");
	vm->run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		die("mmap of the CPU");
	vm->stats = ioctl(vm->vcpu, KVM_GET_STATS_FD, 0);
	if (vm->stats < 0)
		die("KVM_GET_STATS_FD");
}

static void close_vm(struct vm *vm)
{
	add_counters(vm);
	munmap(vm->run, vm->run_size);
	close(vm->stats);
	close(vm->vcpu);
	close(vm->vm);
	free(vm->memory);
}

static void print_counts(void)
{
	size_t i;

	printf("rounds %lu\ndat %lu\naccess_registers %lu\nproblem_state %lu\n", counts.rounds,
	       counts.dat, counts.access_registers, counts.problem_state);
	printf("completed %lu\ntimed_out %lu\nerrors %lu\ninstructions %lu\nvalid %lu\n",
	       counts.completed, counts.timed_out, counts.errors, counts.instructions,
	       counts.valid);
	for (i = 0; i < SIZE(counts.returns); i++)
		if (counts.returns[i])
			printf("return_%zu %lu\n", i, counts.returns[i]);
	for (i = 0; i < SIZE(counters); i++)
		printf("%s %lu\n", counters[i], sums[i]);
}

int main(int argc, char **argv)
{
	uint64_t seed, round;
	time_t end;
	int kvm, i;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: %s SECONDS SEED [ROUND]\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	end = time(NULL) + strtoul(argv[1], NULL, 0);
	seed = strtoul(argv[2], NULL, 0);
	round = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0)
		die("/dev/kvm");
	if (sigaction(SIGALRM, &(struct sigaction){ .sa_handler = alarm_handler }, NULL))
		die("sigaction");
	while (time(NULL) < end) {
		struct vm vm;

		printf("round %lu\n", round);
		state = (seed << 32) ^ round;
		open_vm(&vm, kvm);
		for (i = 0; i < ROUNDS_PER_VM; i++) {
			make_round(&vm);
			run_round(&vm);
		}
		close_vm(&vm);
		round += ROUNDS_PER_VM;
	}
	print_counts();
	return 0;
}
