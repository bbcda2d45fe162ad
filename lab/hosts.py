# SPDX-License-Identifier: GPL-2.0
"""Emulated s390 hosts: boot, run commands in them, watch their consoles.

    with Lab(flavour="debug", name="demo") as lab:
        a, b = lab.boot_all(["a", "b"])
        print(a.run("lszcrypt || ls /sys/bus/ap/devices").out)
        server = b.start("socat -u TCP-LISTEN:4000,reuseaddr OPEN:/lab/results/got,creat")
        a.run(f"echo hello | socat -u - TCP:{b.address}:4000,retry=5,interval=1")
        server.wait(timeout=30)
        print((b.shared / "got").read_text())

Leaving the with block shuts every host down (kmemleak is scanned first in a debug kernel) and
raises if one of them reported an oops, WARN, lockdep, KASAN, UBSAN or kmemleak finding.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from types import TracebackType


class LabError(Exception):
    """Anything that went wrong with a host or a command in it; str() is fit for a user."""


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


@dataclass(frozen=True)
class Result:
    """Exit status and output (stdout and stderr together) of a command that ended."""

    rc: int
    out: str


class Process:
    """A command started in a host by Host.start()."""

    def wait(self, timeout: float = 120.0, check: bool = True) -> Result:
        """Wait for the end. Raises CommandError (rc != 0 and check), CommandTimeout (then the
        command is killed), HostDied, HostSilent, HostReport."""
        raise NotImplementedError

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        raise NotImplementedError

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to the command and everything it started (its process group)."""
        raise NotImplementedError

    def output(self) -> str:
        """What it has written so far."""
        raise NotImplementedError

    def wait_output(self, pattern: str, timeout: float = 60.0) -> str:
        """Wait until the output matches the regular expression; return the matching line.
        Raises CommandTimeout, or CommandError when it ended without."""
        raise NotImplementedError


class Host:
    """One emulated host. Made by Lab.boot(), not directly.

    name      "a", "b", ... the profile's name unless boot() was told another
    address   its address on the link between the hosts ("10.99.0.1" for the first booted)
    shared    folder on the build machine that the host sees, writable, as /lab/results
    log_path  its console log
    In the host: /lab/modules, /lab/selftests, /lab/bin (enabling library etc.), read-only.
    """

    name: str
    address: str
    shared: pathlib.Path
    log_path: pathlib.Path

    def run(self, command: str, timeout: float = 120.0, check: bool = True) -> Result:
        """start() and wait(). The command is a busybox-sh script text, run by root in /."""
        raise NotImplementedError

    def start(self, command: str) -> Process:
        """Start a command (a shell script text) in a process group of its own."""
        raise NotImplementedError

    def forward(self, port: int) -> tuple[str, int]:
        """Forward a TCP port of the host: (address, port) to connect to from the build
        machine. Something must listen on 0.0.0.0 in the host. Repeated calls give the same."""
        raise NotImplementedError

    def path(self, name: str) -> pathlib.Path:
        """self.shared / name; in the host: /lab/results/<name>."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise HostDied, HostSilent or HostReport if there is reason to."""
        raise NotImplementedError

    def kill(self) -> None:
        """Cut the power: the emulator is gone when this returns. Not an error afterwards."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Scan for leaks (debug kernel), power off; raises if the host had a report."""
        raise NotImplementedError


class Lab:
    """Up to two hosts that run at the same time, linked by a network of their own."""

    def __init__(self, flavour: str = "debug", name: str = "lab") -> None:
        """flavour: "fast" or "debug" (kernel); name: folder below out/logs."""
        raise NotImplementedError

    def boot(self, profile: str, name: str | None = None, **overrides: object) -> Host:
        """Boot a host from lab/profiles/<profile>.toml; overrides replace profile keys
        (cards="05:14c", domains="04", memory=4096, ...). Returns once it takes commands."""
        raise NotImplementedError

    def boot_all(self, profiles: list[str]) -> list[Host]:
        """boot() each at the same time."""
        raise NotImplementedError

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        raise NotImplementedError
