/* SPDX-License-Identifier: GPL-2.0 */
/* A guest that waits for I/O interrupts. It enables none, so it waits for ever. */

	.text
	.globl	_start
_start:
	larl	%r1,wait
	lpswe	0(%r1)

	.balign	8
wait:	.quad	0x0202000180000000, 0	/* 64-bit mode, wait, I/O interrupts */
