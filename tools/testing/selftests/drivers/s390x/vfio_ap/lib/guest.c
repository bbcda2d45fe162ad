// SPDX-License-Identifier: GPL-2.0
/*
 * The guest program in a virtual machine of this process, see guest.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/elf.h>

#include "guest.h"

#define PROGRAM		"vfio_ap_guest"
#define PROGRAM_MAX	65536
#define KICK		SIGUSR1

/* Where programs begin that are not the guest program */
#define SMALL		0x10000

/* PQAP(RAPQ): function code in GR0 */
#define RAPQ_FC		0x1000000UL

/* In the guest's lowcore: program interruption code, program old PSW */
#define LC_PGM_CODE	0x8e
#define LC_PGM_OLD	0x150

static void kicked(int signal)
{
	(void)signal;
}

int guest_create(struct guest *guest, const struct vfio_ap *dev, __u64 entry)
{
	struct sigaction action = { .sa_handler = kicked };
	int ret;

	memset(guest, 0, sizeof(*guest));
	guest->dev = dev;
	if (sigaction(KICK, &action, NULL))
		return -errno;
	ret = kvm_cpu_create(&guest->cpu, dev);
	if (!ret)
		kvm_cpu_set_psw(&guest->cpu, KVM_PSW_MASK, entry);
	return ret;
}

void guest_free(struct guest *guest)
{
	if (!guest->dev)
		return;
	guest_stop(guest);
	kvm_cpu_close(&guest->cpu);
	guest->dev = NULL;
}

void guest_write(struct guest *guest, __u64 addr, const void *data, size_t len)
{
	memcpy((__u8 *)guest->dev->mem + addr, data, len);
}

/* Beside this program, or in the directory that it was built in */
static int open_program(void)
{
	static const char * const names[] = { PROGRAM, "guest/" PROGRAM };
	char path[PATH_MAX + 64], dir[PATH_MAX];
	unsigned int i;
	ssize_t len;
	int fd = -1;

	len = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	if (len < 0)
		return -errno;
	dir[len] = '\0';
	*strrchr(dir, '/') = '\0';
	for (i = 0; i < sizeof(names) / sizeof(*names) && fd < 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static int load_segments(struct guest *guest, const __u8 *file, size_t len)
{
	const struct elf64_hdr *elf = (const void *)file;
	const struct elf64_phdr *segment = (const void *)(file + elf->e_phoff);
	unsigned int i;

	if (len < sizeof(*elf) || memcmp(elf->e_ident, ELFMAG, SELFMAG) ||
	    elf->e_phoff + elf->e_phnum * sizeof(*segment) > len)
		return -ENOEXEC;
	for (i = 0; i < elf->e_phnum; i++, segment++) {
		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_offset + segment->p_filesz > len ||
		    segment->p_paddr + segment->p_memsz > guest->dev->mem_size)
			return -ENOEXEC;
		memset((__u8 *)guest->dev->mem + segment->p_paddr, 0, segment->p_memsz);
		guest_write(guest, segment->p_paddr, file + segment->p_offset, segment->p_filesz);
	}
	return elf->e_entry == GUEST_ENTRY ? 0 : -ENOEXEC;
}

int guest_load(struct guest *guest)
{
	static __u64 file[PROGRAM_MAX / sizeof(__u64)];
	ssize_t len;
	int fd;

	fd = open_program();
	if (fd < 0)
		return fd;
	len = read(fd, file, sizeof(file));
	close(fd);
	return len < 0 ? -errno : load_segments(guest, (const __u8 *)file, len);
}

static void *run(void *arg)
{
	struct guest *guest = arg;

	guest->ret = kvm_cpu_run(&guest->cpu);
	__atomic_store_n(&guest->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

int guest_start(struct guest *guest)
{
	int ret;

	guest->cpu.run->immediate_exit = 0;
	guest->ended = false;
	ret = pthread_create(&guest->thread, NULL, run, guest);
	if (ret)
		return -ret;
	guest->running = true;
	return 0;
}

static int join(struct guest *guest)
{
	struct timespec end;
	int ret;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += GUEST_DEADLINE_MS / 1000;
	ret = pthread_timedjoin_np(guest->thread, NULL, &end);
	if (ret)
		return -ETIME;
	guest->running = false;
	return guest->ret;
}

int guest_stop(struct guest *guest)
{
	int ret;

	if (!guest->running)
		return -ESRCH;
	__atomic_store_n(&guest->cpu.run->immediate_exit, 1, __ATOMIC_RELEASE);
	pthread_kill(guest->thread, KICK);
	ret = join(guest);
	/* Told to stop it has done so; anything else stopped it before */
	return ret == -EINTR ? 0 : ret ?: -ECHILD;
}

int guest_wait_end(struct guest *guest)
{
	return guest->running ? join(guest) : -ESRCH;
}

static int pqap(struct guest *guest, __u64 gr0, __u64 gr1, __u64 gr2)
{
	/* PQAP, and DIAG 500 with which it ends */
	static const __u8 code[] = { 0xb2, 0xaf, 0x00, 0x00, 0x83, 0x00, 0x05, 0x00 };
	struct kvm_run *run = guest->cpu.run;
	int ret;

	guest_write(guest, SMALL, code, sizeof(code));
	kvm_cpu_set_psw(&guest->cpu, KVM_PSW_MASK, SMALL);
	run->s.regs.gprs[0] = gr0;
	run->s.regs.gprs[1] = gr1;
	run->s.regs.gprs[2] = gr2;
	run->kvm_dirty_regs = KVM_SYNC_GPRS;
	ret = guest_start(guest) ?: guest_wait_end(guest);
	if (ret)
		return ret;
	if (!kvm_cpu_intercepted(&guest->cpu, 0x8300))
		return -EPROTO;
	return run->s.regs.gprs[1] >> 16 & 0xff;
}

int guest_aqic(struct guest *guest, unsigned int apqn, bool enable, __u64 addr)
{
	return pqap(guest, GUEST_FC_AQIC | apqn, enable ? GUEST_AQIC_IR | GUEST_ISC : 0,
		    addr);
}

int guest_rapq(struct guest *guest, unsigned int apqn)
{
	return pqap(guest, RAPQ_FC | apqn, 0, 0);
}

void guest_counters(const struct guest *guest, struct guest_counters *counters)
{
	memcpy(counters, (const __u8 *)guest->dev->mem + GUEST_COUNTERS, sizeof(*counters));
}

__u64 guest_answered(const struct guest_counters *counters)
{
	__u64 least = counters->nr_queues ? ~0ULL : 0;
	unsigned int i;

	if (counters->magic != GUEST_MAGIC)
		return 0;
	for (i = 0; i < counters->nr_queues && i < GUEST_MAX_QUEUES; i++)
		if (counters->queues[i].answered < least)
			least = counters->queues[i].answered;
	return least;
}

/* Print the reason why the guest ended */
static int has_ended(const struct guest *guest)
{
	const struct kvm_run *run = guest->cpu.run;
	const __u8 *mem = guest->dev->mem;

	fprintf(stderr, "# guest: ret %d exit %u icpt %x ipa %x, psw %llx %llx\n", guest->ret,
		run->exit_reason, run->s390_sieic.icptcode, run->s390_sieic.ipa, run->psw_mask,
		run->psw_addr);
	fprintf(stderr, "# guest: program code %x at %llx\n",
		*(const __u16 *)(mem + LC_PGM_CODE), *(const __u64 *)(mem + LC_PGM_OLD + 8));
	return -ECHILD;
}

int guest_wait_answered_for(struct guest *guest, __u64 nr, unsigned int ms)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	struct guest_counters counters;

	/* The guest only counts in its memory, so poll */
	while (ms--) {
		guest_counters(guest, &counters);
		if (guest_answered(&counters) >= nr)
			return 0;
		if (__atomic_load_n(&guest->ended, __ATOMIC_ACQUIRE))
			return has_ended(guest);
		nanosleep(&pause, NULL);
	}
	return -ETIME;
}

int guest_wait_answered(struct guest *guest, __u64 nr)
{
	return guest_wait_answered_for(guest, nr, GUEST_DEADLINE_MS);
}
