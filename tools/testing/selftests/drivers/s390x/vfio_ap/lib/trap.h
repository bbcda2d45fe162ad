/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory at whose access a thread, or the kernel on its behalf, gets stuck.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef SELFTEST_VFIO_AP_TRAP_H
#define SELFTEST_VFIO_AP_TRAP_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct trap - memory whose first access waits for trap_open()
 * @uffd: userfaultfd
 * @mem: one page
 * @own: trap_end() frees @mem
 * @page: its size
 */
struct trap {
	int uffd;
	void *mem;
	bool own;
	long page;
};

int trap_set(struct trap *trap);
/* The page at @mem, which is shared memory, instead of one of its own; it loses its contents */
int trap_set_at(struct trap *trap, void *mem);
/* Wait until somebody is in the trap */
int trap_wait(struct trap *trap);
/* Let him out; the memory holds @data then */
int trap_open(struct trap *trap, const void *data, size_t len);
void trap_free(struct trap *trap);

#endif
