# SPDX-License-Identifier: GPL-2.0
"""The kernel messages of a host."""

from __future__ import annotations

import itertools

from lab.common.errors import LabError
from lab.guest.mdev import Mdev
from lab.host.host import Host

# Precedes the reason of a failed migration session.
FAILED = "migration failed: "

_numbers = itertools.count()


class KernelLog:
    """The kernel messages of a host from now on."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._mark = f"lab: mark {next(_numbers)}"
        host.run(f"echo '{self._mark}' >/dev/kmsg")

    def lines(self) -> list[str]:
        """The lines since then, without the marks and signs of life of the lab."""
        text = self._host.run("dmesg").out
        _, found, rest = text.partition(self._mark + "\n")
        if not found:
            raise LabError(f"host {self._host.name}: the kernel log ran over")
        return [line for line in rest.splitlines() if "lab: " not in line]

    def of(self, mdev: Mdev) -> list[str]:
        """The lines about a device, without the time."""
        return [line.partition("] ")[2] for line in self.lines() if f" {mdev.uuid}: " in line]

    def failures(self, mdev: Mdev) -> list[str]:
        """The reason of each failed migration session of a device, as vfio_ap logs it."""
        return [line.partition(FAILED)[2] for line in self.of(mdev) if FAILED in line]
