// SPDX-License-Identifier: GPL-2.0
/*
 * Memory at whose access a thread gets stuck, see trap.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "trap.h"

static int trap_page(struct trap *trap)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };

	trap->uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (trap->uffd < 0 || ioctl(trap->uffd, UFFDIO_API, &api))
		return -errno;
	reg.range.start = (unsigned long)trap->mem;
	reg.range.len = trap->page;
	return ioctl(trap->uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int trap_set(struct trap *trap)
{
	trap->page = sysconf(_SC_PAGESIZE);
	trap->own = true;
	trap->mem = mmap(NULL, trap->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return trap->mem == MAP_FAILED ? -errno : trap_page(trap);
}

int trap_set_at(struct trap *trap, void *mem)
{
	trap->page = sysconf(_SC_PAGESIZE);
	trap->own = false;
	trap->mem = (void *)((unsigned long)mem & ~(trap->page - 1));
	if (madvise(trap->mem, trap->page, MADV_REMOVE))
		return -errno;
	return trap_page(trap);
}

int trap_wait(struct trap *trap)
{
	struct uffd_msg msg;

	if (read(trap->uffd, &msg, sizeof(msg)) != sizeof(msg))
		return -EIO;
	return msg.event == UFFD_EVENT_PAGEFAULT ? 0 : -EINVAL;
}

int trap_open(struct trap *trap, const void *data, size_t len)
{
	struct uffdio_copy copy = {};
	void *page = aligned_alloc(trap->page, trap->page);
	int ret;

	if (!page)
		return -ENOMEM;
	memset(page, 0, trap->page);
	memcpy(page, data, len);
	copy.dst = (unsigned long)trap->mem;
	copy.src = (unsigned long)page;
	copy.len = trap->page;
	ret = ioctl(trap->uffd, UFFDIO_COPY, &copy) ? -errno : 0;
	free(page);
	return ret;
}

void trap_free(struct trap *trap)
{
	if (trap->own)
		munmap(trap->mem, trap->page);
	close(trap->uffd);
}
