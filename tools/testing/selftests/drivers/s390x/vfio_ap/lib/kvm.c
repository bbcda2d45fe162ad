// SPDX-License-Identifier: GPL-2.0
/*
 * KVM side of the vfio-ap selftests, see kvm.h.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm.h"

/* Facility: AP queue interruption control */
#define FACILITY_AQIC		65

/* Interception codes: an instruction; a wait state */
#define ICPT_INST		0x04
#define ICPT_WAIT		0x1c

#define NR_FACILITIES		(sizeof(((struct kvm_s390_vm_cpu_processor *)0)->fac_list) / 8)

static int vm_attr(int vm, __u32 group, __u64 attr, void *arg, bool set)
{
	struct kvm_device_attr device_attr = {
		.group = group,
		.attr = attr,
		.addr = (uintptr_t)arg,
	};

	return ioctl(vm, set ? KVM_SET_DEVICE_ATTR : KVM_GET_DEVICE_ATTR, &device_attr) ?
	       -errno : 0;
}

/* Let the VM have AP instructions, PQAP(AQIC) among them */
static int vm_enable_ap(int vm)
{
	static struct kvm_s390_vm_cpu_processor cpu;
	static struct kvm_s390_vm_cpu_machine machine;
	unsigned int i;
	int ret;

	ret = vm_attr(vm, KVM_S390_VM_CPU_MODEL, KVM_S390_VM_CPU_MACHINE, &machine, false);
	if (!ret)
		ret = vm_attr(vm, KVM_S390_VM_CPU_MODEL, KVM_S390_VM_CPU_PROCESSOR, &cpu, false);
	for (i = 0; i < NR_FACILITIES; i++)
		cpu.fac_list[i] = machine.fac_list[i] & machine.fac_mask[i];
	cpu.fac_list[FACILITY_AQIC / 64] |= 1ULL << (63 - FACILITY_AQIC % 64);
	if (!ret)
		ret = vm_attr(vm, KVM_S390_VM_CPU_MODEL, KVM_S390_VM_CPU_PROCESSOR, &cpu, true);
	if (!ret)
		ret = vm_attr(vm, KVM_S390_VM_CRYPTO, KVM_S390_VM_CRYPTO_ENABLE_APIE, NULL, true);
	return ret;
}

static int vm_add_memory(const struct vfio_ap *dev)
{
	struct kvm_userspace_memory_region memory = {
		.memory_size = dev->mem_size,
		.userspace_addr = (uintptr_t)dev->mem,
	};

	return ioctl(dev->vm, KVM_SET_USER_MEMORY_REGION, &memory) ? -errno : 0;
}

int kvm_cpu_create(struct kvm_cpu *cpu, const struct vfio_ap *dev)
{
	int ret;

	cpu->fd = -1;
	cpu->run = NULL;
	ret = vm_enable_ap(dev->vm);
	if (!ret)
		ret = vm_add_memory(dev);
	if (ret)
		return ret;
	cpu->fd = ioctl(dev->vm, KVM_CREATE_VCPU, 0);
	if (cpu->fd < 0)
		return -errno;
	cpu->run_size = ioctl(dev->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cpu->run = mmap(NULL, cpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	if (cpu->run != MAP_FAILED)
		return 0;
	ret = -errno;
	cpu->run = NULL;
	kvm_cpu_close(cpu);
	return ret;
}

void kvm_cpu_close(struct kvm_cpu *cpu)
{
	if (cpu->run)
		munmap(cpu->run, cpu->run_size);
	cpu->run = NULL;
	if (cpu->fd >= 0)
		close(cpu->fd);
	cpu->fd = -1;
}

void kvm_cpu_set_psw(struct kvm_cpu *cpu, __u64 mask, __u64 addr)
{
	cpu->run->psw_mask = mask;
	cpu->run->psw_addr = addr;
}

int kvm_cpu_run(struct kvm_cpu *cpu)
{
	int ret;

	/* -EAGAIN: a page of the guest's lowcore went away while KVM looked for it */
	do {
		ret = ioctl(cpu->fd, KVM_RUN, 0) ? -errno : 0;
	} while (ret == -EAGAIN);
	return ret;
}

bool kvm_cpu_intercepted(const struct kvm_cpu *cpu, __u16 ipa)
{
	return cpu->run->exit_reason == KVM_EXIT_S390_SIEIC &&
	       cpu->run->s390_sieic.icptcode == ICPT_INST &&
	       cpu->run->s390_sieic.ipa == ipa;
}

bool kvm_cpu_disabled(const struct kvm_cpu *cpu)
{
	return cpu->run->exit_reason == KVM_EXIT_S390_SIEIC &&
	       cpu->run->s390_sieic.icptcode == ICPT_WAIT;
}
