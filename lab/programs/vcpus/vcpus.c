// SPDX-License-Identifier: GPL-2.0
/*
 * A KVM guest with several CPUs that write to memory. Its instructions cause no exit from SIE.
 *
 *   vcpus dirty CPUS ROUNDS
 *   vcpus unmap CPUS
 *   vcpus age CPUS
 *   vcpus delay SAMPLES
 *
 * dirty: each CPU increments a word in each of its pages, in a loop. The program reads the
 * dirty log ROUNDS times while they run, and fails if
 *  - a page changed that the log does not have,
 *  - the log has a page that no CPU writes to, or
 *  - an increment is lost.
 * Before each reading, each CPU has written to all of its pages since the reading before.
 *
 * unmap: after each CPU has written to all of its pages, the program write-protects the memory of
 * the process and lifts that again, so that KVM unmaps the pages. It prints the number of pages in
 * the next log, and fails if a page changed that the log does not have.
 *
 * age: each CPU writes to all of its pages for the first time; the program then marks the pages as
 * idle, so that the host ages them. It prints and checks as for unmap.
 *
 * delay: the time from a request of the host to leave SIE until the CPU has left. KVM requests this
 * from each CPU, and waits, when the guest's TOD clock is set. The program measures the same call
 * without a CPU in SIE, and the interval between timer interrupts of the host's CPU, which end SIE.
 *
 * The output is one "name value" per line.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>

#define MAX_CPUS	8
#define PAGE_SIZE	4096UL
#define SEGMENT_SIZE	(1UL << 20)
#define NS_PER_S	1000000000UL

/* Guest memory: the code, a page per CPU for its number of passes, the pages of the dirty log */
#define CODE		0x10000UL
#define PASSES		0x20000UL
#define DATA		SEGMENT_SIZE
#define DATA_SIZE	(2 * SEGMENT_SIZE)
#define MEMORY		(DATA + DATA_SIZE)
#define PAGES		(DATA_SIZE / PAGE_SIZE)
#define LOG_WORDS	(PAGES / 64)
#define LOG_SLOT	1

#define PSW_64		(3UL << 31)

/* The CPU of the host that executes the guest whose exits are measured */
#define GUEST_CPU	1

/* CPU n writes to the pages n, n + 2 * CPUS and so on. Half of the pages have no writer. */
extern const uint8_t code_start[], code_end[];

asm(".pushsection .rodata\n"
    "code_start:\n"		/* r2: first page, r3: end, r4: distance, r5: number of passes */
    "0:	lgr	%r1,%r2\n"
    "1:	agsi	0(%r1),1\n"
    "	agr	%r1,%r4\n"
    "	cgr	%r1,%r3\n"
    "	jl	1b\n"
    "	agsi	0(%r5),1\n"
    "	j	0b\n"
    "code_end:\n"
    "	.popsection\n");

struct cpu {
	unsigned int number;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
};

static uint8_t *memory;
static int vm;
static struct cpu cpus[MAX_CPUS];
static unsigned int cpu_count;
static size_t run_size;
static volatile bool stopping;

static void die(const char *what)
{
	printf("failed: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void fail(const char *what, unsigned long where)
{
	printf("failed: %s %lu\n", what, where);
	exit(1);
}

static uint64_t word(uint64_t address)
{
	return __atomic_load_n((uint64_t *)(memory + address), __ATOMIC_ACQUIRE);
}

static uint64_t passes(unsigned int cpu)
{
	return word(PASSES + cpu * PAGE_SIZE);
}

static uint64_t page_word(unsigned long page)
{
	return word(DATA + page * PAGE_SIZE);
}

static bool written(unsigned long page)
{
	return page % (2 * cpu_count) < cpu_count;
}

/* Interrupts KVM_RUN. */
static void handler(int signal)
{
	(void)signal;
}

static void *run_cpu(void *arg)
{
	struct cpu *cpu = arg;

	while (!stopping) {
		if (ioctl(cpu->fd, KVM_RUN, 0) && errno != EINTR)
			die("KVM_RUN");
		if (!stopping && cpu->run->exit_reason != KVM_EXIT_INTR)
			fail("exit reason", cpu->run->exit_reason);
	}
	return NULL;
}

static void set_region(unsigned int slot, uint64_t start, uint64_t size, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = start, .memory_size = size, .flags = flags,
		.userspace_addr = (uintptr_t)memory + start,
	};

	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
		die("KVM_SET_USER_MEMORY_REGION");
}

static void open_cpu(struct cpu *cpu, unsigned int number)
{
	struct kvm_regs regs = { 0 };

	cpu->number = number;
	cpu->fd = ioctl(vm, KVM_CREATE_VCPU, number);
	if (cpu->fd < 0)
		die("KVM_CREATE_VCPU");
	cpu->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	if (cpu->run == MAP_FAILED)
		die("mmap of the CPU");
	if (ioctl(cpu->fd, KVM_S390_INITIAL_RESET, 0))
		die("KVM_S390_INITIAL_RESET");
	if (ioctl(cpu->fd, KVM_SET_MP_STATE,
		  &(struct kvm_mp_state){ .mp_state = KVM_MP_STATE_OPERATING }))
		die("KVM_SET_MP_STATE");
	cpu->run->psw_mask = PSW_64;
	cpu->run->psw_addr = CODE;
	regs.gprs[2] = DATA + number * PAGE_SIZE;
	regs.gprs[3] = DATA + DATA_SIZE;
	regs.gprs[4] = 2 * cpu_count * PAGE_SIZE;
	regs.gprs[5] = PASSES + number * PAGE_SIZE;
	if (ioctl(cpu->fd, KVM_SET_REGS, &regs))
		die("KVM_SET_REGS");
}

static void open_vm(unsigned int count)
{
	int kvm = open("/dev/kvm", O_RDWR);
	unsigned int i;

	if (kvm < 0)
		die("/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");
	memory = aligned_alloc(SEGMENT_SIZE, MEMORY);
	if (!memory)
		die("memory");
	memset(memory, 0, MEMORY);
	memcpy(memory + CODE, code_start, code_end - code_start);
	set_region(0, 0, DATA, 0);
	set_region(LOG_SLOT, DATA, DATA_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cpu_count = count;
	for (i = 0; i < count; i++)
		open_cpu(&cpus[i], i);
}

static void start_cpus(void)
{
	unsigned int i;

	stopping = false;
	for (i = 0; i < cpu_count; i++)
		cpus[i].run->immediate_exit = 0;
	if (sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = handler }, NULL))
		die("sigaction");
	for (i = 0; i < cpu_count; i++) {
		errno = pthread_create(&cpus[i].thread, NULL, run_cpu, &cpus[i]);
		if (errno)
			die("pthread_create");
	}
}

static void stop_cpus(void)
{
	unsigned int i;

	stopping = true;
	for (i = 0; i < cpu_count; i++) {
		/* A signal before KVM_RUN is not lost. */
		cpus[i].run->immediate_exit = 1;
		pthread_kill(cpus[i].thread, SIGUSR1);
	}
	for (i = 0; i < cpu_count; i++)
		pthread_join(cpus[i].thread, NULL);
}

/* Wait until each CPU has made one whole pass. The first pass that ends may have started before. */
static void wait_passes(void)
{
	uint64_t start[MAX_CPUS];
	unsigned int i;

	for (i = 0; i < cpu_count; i++)
		start[i] = passes(i);
	for (i = 0; i < cpu_count; i++)
		while (passes(i) < start[i] + 2)
			sched_yield();
}

static void read_log(uint64_t *log)
{
	struct kvm_dirty_log arg = { .slot = LOG_SLOT, .dirty_bitmap = log };

	if (ioctl(vm, KVM_GET_DIRTY_LOG, &arg))
		die("KVM_GET_DIRTY_LOG");
}

/* Bit 0 is the rightmost one of byte 0. */
static bool in_log(const uint64_t *log, unsigned long page)
{
	return ((const uint8_t *)log)[page / 8] >> (page % 8) & 1;
}

/* The log, then the word of each page. */
struct reading {
	uint64_t log[LOG_WORDS];
	uint64_t words[PAGES];
};

static void read_all(struct reading *to)
{
	unsigned long page;

	read_log(to->log);
	for (page = 0; page < PAGES; page++)
		to->words[page] = page_word(page);
}

/*
 * Check the pages that changed between the readings @before and @then. The log of @then has
 * those that changed before it was read; the next log, of @after, has the others.
 */
static void check_changes(const struct reading *before, const struct reading *then,
			  const struct reading *after)
{
	unsigned long page;

	for (page = 0; page < PAGES; page++) {
		if (then->words[page] != before->words[page] &&
		    !in_log(then->log, page) && !in_log(after->log, page))
			fail("changed, not in the log: page", page);
		if (!written(page) && in_log(after->log, page))
			fail("in the log, not written to: page", page);
	}
}

static void check_dirty(unsigned int count, unsigned long rounds)
{
	static struct reading readings[3];
	unsigned long i, page, dirty = 0;

	open_vm(count);
	start_cpus();
	for (i = 0; i < rounds; i++) {
		wait_passes();
		read_all(&readings[i % 3]);
		for (page = 0; page < PAGES; page++)
			dirty += in_log(readings[i % 3].log, page);
		if (i > 1)
			check_changes(&readings[(i - 2) % 3], &readings[(i - 1) % 3],
				      &readings[i % 3]);
	}
	stop_cpus();
	read_all(&readings[i % 3]);
	check_changes(&readings[(i - 2) % 3], &readings[(i - 1) % 3], &readings[i % 3]);
	check_changes(&readings[(i - 1) % 3], &readings[i % 3], &readings[i % 3]);
	for (page = 0; page < PAGES; page++) {
		uint64_t done = written(page) ? passes(page % (2 * cpu_count)) : 0;

		if (page_word(page) < done || page_word(page) > done + written(page))
			fail("increments are lost: page", page);
	}
	printf("rounds %lu\ndirty %lu\n", rounds, dirty);
	for (i = 0; i < count; i++)
		printf("passes_%lu %lu\n", i, passes(i));
}

/* Print the number of dirty pages, and check that all changes are in the log. */
static void report_changes(const struct reading *before)
{
	static struct reading after;
	unsigned long page, dirty = 0;

	read_all(&after);
	for (page = 0; page < PAGES; page++)
		dirty += in_log(after.log, page);
	printf("dirty %lu\n", dirty);
	check_changes(before, &after, &after);
}

static void check_unmapped(unsigned int count)
{
	static struct reading before;

	open_vm(count);
	start_cpus();
	wait_passes();
	stop_cpus();
	read_all(&before);
	start_cpus();
	wait_passes();
	stop_cpus();
	if (mprotect(memory + DATA, DATA_SIZE, PROT_READ) ||
	    mprotect(memory + DATA, DATA_SIZE, PROT_READ | PROT_WRITE))
		die("mprotect");
	report_changes(&before);
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

/* Put all pages on the lists of the host's memory management: others are never idle. */
static void drain_pages(void)
{
	int fd = open_file("/proc/sys/vm/drop_caches", O_WRONLY);

	if (write(fd, "1", 1) != 1)
		die("drop_caches");
	close(fd);
}

/* Mark each page of the dirty log as idle. */
static void age_pages(void)
{
	int frames = open_file("/proc/self/pagemap", O_RDONLY);
	int idle = open_file("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	uint64_t frame, bits;
	unsigned long page;
	off_t at;

	drain_pages();
	for (page = 0; page < PAGES; page++) {
		at = ((uintptr_t)memory + DATA) / PAGE_SIZE + page;
		if (pread(frames, &frame, sizeof(frame), at * sizeof(frame)) != sizeof(frame))
			die("pagemap");
		/* Bits 0 to 54, counted from the right */
		frame &= (1UL << 55) - 1;
		at = frame / 64 * sizeof(bits);
		bits = 1UL << frame % 64;
		if (pwrite(idle, &bits, sizeof(bits), at) != sizeof(bits) ||
		    pread(idle, &bits, sizeof(bits), at) != sizeof(bits))
			die("page_idle");
		if (!(bits >> frame % 64 & 1))
			fail("not idle: page", page);
	}
	close(idle);
	close(frames);
}

static void check_aged(unsigned int count)
{
	static struct reading before;

	open_vm(count);
	read_all(&before);
	start_cpus();
	wait_passes();
	stop_cpus();
	age_pages();
	report_changes(&before);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The number of clock comparator interrupts of a CPU of the host */
static unsigned long timer_interrupts(unsigned int cpu)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[4096], *at = NULL;
	unsigned long count = 0;
	unsigned int i;

	if (!file)
		die("/proc/interrupts");
	while (!at && fgets(line, sizeof(line), file))
		at = strstr(line, "CLK:");
	fclose(file);
	if (!at)
		fail("no CLK in /proc/interrupts, CPU", cpu);
	at += strlen("CLK:");
	for (i = 0; i <= cpu; i++)
		count = strtoul(at, &at, 10);
	return count;
}

/* Set the guest's TOD clock, each time after a pass if @in_sie, and print the durations. */
static void measure(const char *name, unsigned long samples, bool in_sie)
{
	uint64_t *times = calloc(samples, sizeof(*times));
	uint64_t tod = 0;
	struct kvm_device_attr attr = {
		.group = KVM_S390_VM_TOD, .attr = KVM_S390_VM_TOD_LOW, .addr = (uintptr_t)&tod,
	};
	unsigned long i;

	if (!times)
		die("memory");
	for (i = 0; i < samples; i++) {
		uint64_t start;

		if (in_sie)
			wait_passes();
		start = now();
		if (ioctl(vm, KVM_SET_DEVICE_ATTR, &attr))
			die("KVM_SET_DEVICE_ATTR");
		times[i] = now() - start;
	}
	qsort(times, samples, sizeof(*times), compare);
	printf("%s_median_ns %lu\n%s_99_percent_ns %lu\n%s_max_ns %lu\n", name,
	       times[samples / 2], name, times[samples * 99 / 100], name, times[samples - 1]);
	free(times);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void measure_delay(unsigned long samples)
{
	unsigned long interrupts;
	uint64_t start;

	open_vm(1);
	measure("outside", samples, false);
	/* The thread of the virtual CPU inherits the affinity. */
	pin(GUEST_CPU);
	start_cpus();
	pin(0);
	wait_passes();
	interrupts = timer_interrupts(GUEST_CPU);
	start = now();
	measure("in_sie", samples, true);
	/* Wait for at least one interrupt, so that there is an interval. */
	while (timer_interrupts(GUEST_CPU) == interrupts)
		wait_passes();
	printf("interrupt_interval_ns %lu\n",
	       (now() - start) / (timer_interrupts(GUEST_CPU) - interrupts));
	stop_cpus();
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "dirty")) {
		unsigned long count = strtoul(argv[2], NULL, 0);
		unsigned long rounds = strtoul(argv[3], NULL, 0);

		if (count && count <= MAX_CPUS && rounds >= 3) {
			check_dirty(count, rounds);
			return 0;
		}
	} else if (argc == 3 && (!strcmp(argv[1], "unmap") || !strcmp(argv[1], "age"))) {
		unsigned long count = strtoul(argv[2], NULL, 0);

		if (count && count <= MAX_CPUS) {
			if (!strcmp(argv[1], "age"))
				check_aged(count);
			else
				check_unmapped(count);
			return 0;
		}
	} else if (argc == 3 && !strcmp(argv[1], "delay") && strtoul(argv[2], NULL, 0)) {
		measure_delay(strtoul(argv[2], NULL, 0));
		return 0;
	}
	fprintf(stderr, "usage: %s dirty CPUS ROUNDS | unmap CPUS | age CPUS | delay SAMPLES\n",
		argv[0]);
	return 2;
}
