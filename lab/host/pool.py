# SPDX-License-Identifier: GPL-2.0
"""Hosts that tests share: booted at first use, booted anew when one died or reported something."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lab.common import progress
from lab.common.errors import LabError
from lab.host.host import Host
from lab.host.lab import Lab


class Pool:
    """At most two hosts at a time, each of another profile.

    before_end: called for each host that is alive before it is shut down.
    problems: per profile, lines that its hosts reported, leaks, reasons of death. A profile whose
    hosts were all clean has an empty list.
    """

    def __init__(self, flavour: str = "debug", name: str = "test",
                 before_end: Callable[[Host], None] | None = None) -> None:
        self.flavour = flavour
        self.problems: dict[str, list[str]] = {}
        self._before_end = before_end
        self._name = name
        self._lab: Lab | None = None
        self._hosts: dict[str, Host] = {}

    def get(self, names: Sequence[str]) -> list[Host]:
        """These hosts, alive and without a report; other hosts leave if there are too many."""
        for name, host in list(self._hosts.items()):
            if not host.alive or host.reports:
                self._drop(name)
        missing = [name for name in names if name not in self._hosts]
        others = [name for name in self._hosts if name not in names]
        while others and len(names) + len(others) > 2:
            self._drop(others.pop())
        if missing:
            if self._lab is None:
                self._lab = Lab(self.flavour, self._name)
            started = time.monotonic()
            booted = self._lab.boot_all(missing)
            progress.say(f"hosts {' '.join(missing)} booted in "
                         f"{time.monotonic() - started:.0f} s")
            self._hosts.update(zip(missing, booted, strict=True))
        return [self._hosts[name] for name in names]

    def _drop(self, name: str) -> None:
        host = self._hosts.pop(name)
        problems = self.problems.setdefault(name, [])
        found: list[str] = []
        try:
            if self._before_end and host.alive:
                self._before_end(host)
            host.shutdown()
        except LabError as error:
            found += str(error).splitlines()
            leaks = host.path("kmemleak.txt")
            if leaks.exists():
                found += leaks.read_text(errors="replace").splitlines()[:40]
        # Names of hosts are names of folders: keep the log of this one.
        folder = host.log_path.parent
        if folder.exists():
            serial = sum(1 for _ in folder.parent.glob(f"{name}.*")) + 1
            kept = folder.with_name(f"{name}.{serial}")
            folder.rename(kept)
            found = [line.replace(f"{folder}/", f"{kept}/") for line in found]
        problems += found

    def close(self) -> None:
        """Shut all hosts down, after a scan for leaks."""
        for name in list(self._hosts):
            self._drop(name)
        if self._lab:
            self._lab.close(orderly=False)
            self._lab = None

    def abort(self) -> None:
        """Cut the power of all hosts; from any thread. Waiting for one raises HostDied."""
        if self._lab:
            self._lab.close(orderly=False)
