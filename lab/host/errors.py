# SPDX-License-Identifier: GPL-2.0
"""Errors of a host, or of a command in it."""

from __future__ import annotations

import pathlib

from lab.common.errors import LabError


class HostError(LabError):
    """A host is not usable: carries which one and where its console log is."""

    def __init__(self, host: str, reason: str, log_path: pathlib.Path) -> None:
        super().__init__(f"host {host}: {reason} (console log: {log_path})")
        self.host = host
        self.reason = reason
        self.log_path = log_path


class HostDied(HostError):
    """The emulated machine is gone (killed, panic, emulator crash)."""


class HostSilent(HostError):
    """Nothing came from the console for longer than a living host stays silent."""


class HostReport(HostError):
    """The kernel reported an oops, WARN, lockdep, KASAN, UBSAN or kmemleak finding."""


class CommandError(LabError):
    """A command in a host ended with a status other than 0: .rc, .out."""

    def __init__(self, what: str, rc: int, out: str) -> None:
        super().__init__(f"{what}: exit status {rc}\n{out[-2000:]}")
        self.rc = rc
        self.out = out


class CommandTimeout(LabError):
    """A command in a host did not end in time; it was killed. .out: its output so far."""

    def __init__(self, what: str, seconds: float, out: str) -> None:
        super().__init__(f"{what}: no end after {seconds:.0f} s\n{out[-2000:]}")
        self.out = out
