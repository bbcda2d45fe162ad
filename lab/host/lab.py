# SPDX-License-Identifier: GPL-2.0
"""Emulated s390 hosts: boot, run commands in them, watch their consoles.

    with Lab(flavour="debug", name="demo") as lab:
        a, b = lab.boot_all(["a", "b"])
        print(a.run("ls /sys/bus/ap/devices").out)
        server = b.start("socat -u TCP-LISTEN:4000,reuseaddr OPEN:/lab/results/got,creat")
        a.run(f"echo hello | socat -u - TCP:{b.address}:4000,retry=5,interval=1")
        server.wait(timeout=30)
        print(b.path("got").read_text())

Leaving the with block shuts every host down (kmemleak is scanned first in a debug kernel) and
raises if one of them reported an oops, WARN, lockdep, KASAN, UBSAN or kmemleak finding.

Emulators die with the thread that started them: boot hosts from a thread that outlives them.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from lab.common import config
from lab.common.errors import LabError
from lab.host.host import Host
from lab.host.profile import Profile


class Lab:
    """Up to two hosts that run at the same time, linked by a network of their own."""

    def __init__(self, flavour: str = "debug", name: str = "lab",
                 emulator: Sequence[str] = ()) -> None:
        """flavour: of the kernel, one of config.FRAGMENTS; name: folder below out/logs; emulator:
        the command that runs another one than lab.image.qemu's."""
        if flavour not in config.FRAGMENTS:
            raise LabError(f"no kernel flavour {flavour!r}; there are: "
                           f"{' '.join(config.FRAGMENTS)}")
        self.flavour = flavour
        self.logs = config.LOGS / name
        self._emulator = emulator
        # Names of Unix sockets are short: not below the build folder.
        self._sockets = pathlib.Path(tempfile.mkdtemp(prefix="lab-"))
        self._hosts: list[Host] = []

    def _launch(self, profile: str, name: str | None, overrides: dict[str, Any],
                interactive: bool = False) -> Host:
        loaded = Profile.load(profile).changed(overrides, "boot()")
        name = name or profile
        running = {host.slot: host for host in self._hosts if host.alive}
        if any(host.name == name for host in running.values()):
            raise LabError(f"there is already a host {name!r}; give the second one another name")
        free = [slot for slot in (0, 1) if slot not in running]
        if not free:
            raise LabError("a lab has at most two hosts at a time")
        for path in (config.bzimage(self.flavour), config.IMAGE, config.share(self.flavour)):
            if not path.exists():
                raise LabError(f"{path} is missing: run `make test` or `make demo`, which build it")
        for kind in ("link", "qmp", "control"):
            (self._sockets / f"{kind}-{free[0]}").unlink(missing_ok=True)
        host = Host(loaded, name, self.flavour, free[0], self.logs / name, self._sockets,
                    interactive, self._emulator)
        self._hosts.append(host)
        return host

    def boot(self, profile: str, name: str | None = None, **overrides: Any) -> Host:
        """Boot a host from lab/host/profiles/<profile>.toml; overrides replace profile keys
        (cards="05:14c", domains="04", memory=4096, ...). Returns once it takes commands."""
        host = self._launch(profile, name, overrides)
        try:
            host.wait_ready()
        except BaseException:
            host.kill()
            raise
        return host

    def boot_all(self, profiles: list[str]) -> list[Host]:
        """boot() each at the same time."""
        hosts = []
        try:
            for profile in profiles:
                hosts.append(self._launch(profile, None, {}))
            for host in hosts:
                host.wait_ready()
        except BaseException:
            for host in hosts:
                host.kill()
            raise
        return hosts

    def interactive(self, profile: str) -> int:
        """Boot a host whose console is this terminal; returns when it is left."""
        host = self._launch(profile, None, {}, interactive=True)
        return host.wait_exit()

    def close(self, orderly: bool = True) -> None:
        """End all hosts. Orderly: leak scan and report check, the first problem is raised."""
        problem: LabError | None = None
        for host in self._hosts:
            try:
                if orderly:
                    host.shutdown()
            except LabError as error:
                problem = problem or error
            finally:
                host.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)
        if problem:
            raise problem

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close(orderly=kind is None)
