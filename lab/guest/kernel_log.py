# SPDX-License-Identifier: GPL-2.0
"""The kernel messages of a host."""

from __future__ import annotations

import itertools
import re

from lab.common.errors import LabError
from lab.guest.mdev import Mdev
from lab.host.host import Host

# What a destination's kernel says of a difference, whatever it is.
DIFFERENCE = re.compile(r"(adapter|(control )?domain) [0-9a-f]+ \w+: source \S+ here \S+$")

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
        """What was said of a device, without the time."""
        return [line.partition("] ")[2] for line in self.lines() if f" {mdev.uuid}: " in line]

    def differences(self) -> list[str]:
        """What vfio_ap says of differences to a migration's source ("adapter 05 at: ...")."""
        return [m.group(0) for m in map(DIFFERENCE.search, self.lines()) if m]
