// SPDX-License-Identifier: GPL-2.0
/*
 * First process of a Linux guest: checks processors, memory and timers, and powers the guest off.
 *
 * Each result is one line on the console that starts with "guest: ". lab/tests/test_debian_guest.py
 * compares all lines with the expected ones, so a failed check has a line, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "report.h"

#define MEMORY		(32UL << 20)	/* bytes that each processor writes and reads */
#define TICKS		20		/* expirations of a timer that each processor awaits */
#define PERIOD_NS	10000000L

/* The number that /proc/cpuinfo has in "# processors    : N"; 0 on failure. */
static int processors(void)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[4096];
	int count = 0;

	while (file && !count && fgets(line, sizeof(line), file))
		sscanf(line, "# processors : %d", &count);
	if (file)
		fclose(file);
	return count;
}

/* Fill memory with its addresses, let other processes run, and compare. */
static int check_memory(void)
{
	uintptr_t *words = malloc(MEMORY);
	size_t i;

	if (!words)
		return -ENOMEM;
	for (i = 0; i < MEMORY / sizeof(*words); i++)
		words[i] = (uintptr_t)&words[i];
	sched_yield();
	for (i = 0; i < MEMORY / sizeof(*words); i++)
		if (words[i] != (uintptr_t)&words[i])
			return -EIO;
	free(words);
	return 0;
}

/* Wait for a periodic timer; the clock must have advanced by all of its periods. */
static int check_timer(void)
{
	const struct itimerspec period = { { 0, PERIOD_NS }, { 0, PERIOD_NS } };
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	long long start = now();
	uint64_t ticks = 0, more;

	if (fd < 0 || timerfd_settime(fd, 0, &period, NULL))
		return -errno;
	while (ticks < TICKS) {
		if (read(fd, &more, sizeof(more)) != sizeof(more))
			return -errno;
		ticks += more;
	}
	close(fd);
	return now() - start < (long long)ticks * PERIOD_NS ? -ETIME : 0;
}

/* All checks on one processor. */
static void check(int cpu)
{
	cpu_set_t set;
	int err;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) || sched_getcpu() != cpu) {
		report("processor %d: cannot be used: %s", cpu, strerror(errno));
		return;
	}
	err = check_memory();
	report("processor %d: memory: %s", cpu, err ? strerror(-err) : "right");
	err = check_timer();
	report("processor %d: timer: %s", cpu, err ? strerror(-err) : "right");
}

int main(void)
{
	struct utsname name;
	int cpu, count;

	if (mount("proc", "/proc", "proc", 0, NULL))
		report("/proc: %s", strerror(errno));
	uname(&name);
	report("kernel: %s", name.release);
	count = processors();
	report("processors: %d", count);
	for (cpu = 0; cpu < count; cpu++) {
		pid_t pid = fork();

		if (!pid) {
			check(cpu);
			_exit(0);
		}
		if (pid < 0)
			report("fork: %s", strerror(errno));
	}
	while (wait(NULL) > 0)
		;
	report("power off");
	reboot(RB_POWER_OFF);
	report("reboot: %s", strerror(errno));
	return 1;
}
