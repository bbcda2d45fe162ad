# SPDX-License-Identifier: GPL-2.0
"""The Linux guest (lab.image.linux_guest) under a QEMU in an emulated host."""

from __future__ import annotations

from lab.image.linux_guest import FOLDER, INITRAMFS, KERNEL

# MiB that Debian's kernel and the program need.
MEMORY = 256


def arguments(cpus: int = 1, memory: int = MEMORY) -> list[str]:
    """QEMU's arguments for the guest; its console is QEMU's standard output. memory: MiB.

    QEMU ends with status 0 when the guest powers off, with status 1 when its kernel panics."""
    return ["-smp", str(cpus), "-m", str(memory), "-action", "panic=exit-failure",
            "-kernel", f"/lab/{FOLDER}/{KERNEL}", "-initrd", f"/lab/{FOLDER}/{INITRAMFS}",
            "-chardev", "stdio,id=console,signal=off", "-device", "sclpconsole,chardev=console"]
