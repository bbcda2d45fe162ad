/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM side of the vfio-ap selftests: a virtual CPU that may use AP queues.
 *
 * Functions return 0 or a negative errno unless stated otherwise.
 */
#ifndef SELFTEST_VFIO_AP_KVM_H
#define SELFTEST_VFIO_AP_KVM_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/kvm.h>
#include <linux/types.h>

#include "vfio.h"

/* 64-bit mode, and nothing enabled */
#define KVM_PSW_MASK		0x0000000180000000ULL

/**
 * struct kvm_cpu - a virtual CPU
 * @fd: its file, or -1
 * @run: the memory that it shares with the kernel
 * @run_size: the size of that in bytes
 */
struct kvm_cpu {
	int fd;
	struct kvm_run *run;
	size_t run_size;
};

/*
 * Give the VM of a device its memory, the facilities for AP instructions and
 * interrupts, and a CPU. Once for each VM.
 */
int kvm_cpu_create(struct kvm_cpu *cpu, const struct vfio_ap *dev);
/* Also after a failed kvm_cpu_create(), or a second time */
void kvm_cpu_close(struct kvm_cpu *cpu);
/* Where to go on */
void kvm_cpu_set_psw(struct kvm_cpu *cpu, __u64 mask, __u64 addr);
/* Until there is something for user space: -EINTR after a signal */
int kvm_cpu_run(struct kvm_cpu *cpu);
/* Whether it wants user space to look at an instruction, the first halfword of which is @ipa */
bool kvm_cpu_intercepted(const struct kvm_cpu *cpu, __u16 ipa);
/* Whether it has loaded a PSW from which no interrupt takes it away */
bool kvm_cpu_disabled(const struct kvm_cpu *cpu);

#endif
