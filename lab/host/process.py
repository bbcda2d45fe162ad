# SPDX-License-Identifier: GPL-2.0
"""A command that runs in a host."""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lab.host.errors import CommandError, CommandTimeout


@dataclass(frozen=True)
class Result:
    """Exit status and output (stdout and stderr together) of a command that ended."""

    rc: int
    out: str


@dataclass
class Command:
    """State of one command: Host changes it as the agent in the host reports."""

    text: str
    pid: int | None = None
    rc: int | None = None
    started: float = field(default_factory=time.monotonic)


class ProcessHost(Protocol):
    """The part of a Host that its processes use."""

    name: str

    def wait_for(self, predicate: Callable[[], bool], timeout: float, since: float = 0.0) -> bool:
        """Wait until predicate() or the timeout: whether it holds."""

    def send(self, line: str) -> None:
        """Send a line to the agent in the host."""

    def command_path(self, ident: int, suffix: str) -> pathlib.Path:
        """A file of a command in the shared folder."""


class Process:
    """A command started in a host by Host.start()."""

    def __init__(self, host: ProcessHost, ident: int, command: Command) -> None:
        self._host = host
        self._ident = ident
        self._command = command

    def __str__(self) -> str:
        first = self._command.text.strip().splitlines()[0] if self._command.text.strip() else ""
        return f"host {self._host.name}: {first[:100]}"

    def wait(self, timeout: float = 120.0, check: bool = True) -> Result:
        """Wait for the end. Raises CommandError (rc != 0 and check), CommandTimeout (then the
        command is killed), HostDied, HostSilent, HostReport."""
        if not self._host.wait_for(lambda: self._command.rc is not None, timeout,
                                   since=self._command.started):
            self.kill()
            self._host.wait_for(lambda: self._command.rc is not None, 10,
                                since=self._command.started)
            raise CommandTimeout(str(self), timeout, self.output())
        assert self._command.rc is not None
        result = Result(self._command.rc, self.output())
        if check and result.rc:
            raise CommandError(str(self), result.rc, result.out)
        return result

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._command.rc

    def kill(self, signal_name: str = "KILL") -> None:
        """Send a signal to the command and everything it started (its process group)."""
        self._host.wait_for(lambda: self._command.pid is not None, 30,
                            since=self._command.started)
        if self._command.rc is None:
            self._host.send(f"signal {self._command.pid} {signal_name}")

    def output(self) -> str:
        """Its output so far."""
        path = self._host.command_path(self._ident, "out")
        return path.read_bytes().decode(errors="replace") if path.exists() else ""

    def wait_output(self, pattern: str, timeout: float = 60.0) -> str:
        """Wait until a line of the output matches the regular expression; return that line.
        Raises CommandTimeout, or CommandError when the command ended without."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        while True:
            rc = self.poll()
            out = self.output()
            for line in out.splitlines():
                if wanted.search(line):
                    return line
            if rc is not None:
                raise CommandError(f"{self}: ended without a line {pattern!r}", rc, out)
            if time.monotonic() > deadline:
                raise CommandTimeout(f"{self}: line {pattern!r}", timeout, out)
            self._host.wait_for(
                lambda: self._command.rc is not None or self.output() != out,
                max(deadline - time.monotonic(), 0), since=self._command.started)
