# SPDX-License-Identifier: GPL-2.0
"""Mediated devices of vfio_ap in a host: assignment, attributes, debugfs."""

from __future__ import annotations

import re
import shlex
import uuid
from dataclasses import dataclass

from lab.common.errors import LabError
from lab.host.host import Host

MDEV_TYPE = "/sys/class/mdev_bus/matrix/mdev_supported_types/vfio_ap-passthrough"
# What debugfs tells of a migration session.
SESSION_REPORT = re.compile(r"session: (?:none\n|(?:(?P<role>saving|resuming)\n"
                            r"opened by: (?P<by>.+\[\d+\])\n"
                            r"status: (?P<status>open|ended)\n"
                            r"reason: (?P<reason>.+)\n"
                            r"error: (?P<error>0|-\d+)\n"
                            r"(?:published: (?P<published>\d+)\n)?"
                            r"differences: (?P<count>\d+)\n"
                            r"(?P<lines>(?:.+\n)*)))")


def numbers(text: str) -> list[int]:
    """The numbers in a hex list such as "05,0a"."""
    return [int(word, 16) for word in text.split(",") if word.strip()]


@dataclass(frozen=True)
class GuestAp:
    """What a guest has: hex lists as in the host profiles. cdomains None: as domains."""

    adapters: str
    domains: str
    cdomains: str | None = None

    def matrix(self) -> list[str]:
        """As the attribute `matrix` shows it."""
        return [f"{apid:02x}.{domain:04x}" for apid in sorted(numbers(self.adapters))
                for domain in sorted(numbers(self.domains))]


@dataclass(frozen=True)
class SessionReport:
    """What the kernel tells of the last migration session of a device, in debugfs.

    session: "none", "saving" or "resuming"; what follows is empty without a session.
    opened_by: the process, as COMM[PID]. status: "open" or "ended".
    reason: why it ended, or cannot succeed any more; "-" while there is nothing to say.
    error: 0 or a negative errno. published: configurations sent after the first one.
    differences: to the source ("adapter 05 at: source 14 here 13"). text: all of it.
    """

    session: str
    opened_by: str = ""
    status: str = ""
    reason: str = ""
    error: int = 0
    published: int = 0
    differences: tuple[str, ...] = ()
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> SessionReport:
        """LabError for a text that is not laid out like that."""
        match = SESSION_REPORT.fullmatch(text)
        if match is None:
            raise LabError(f"not a report of a migration session:\n{text}")
        if match["role"] is None:
            return cls("none", text=text)
        differences = tuple(match["lines"].splitlines())
        if len(differences) != int(match["count"]):
            raise LabError(f"the number of differences is wrong:\n{text}")
        return cls(match["role"], match["by"], match["status"], match["reason"],
                   int(match["error"]), int(match["published"] or 0), differences, text)


class Mdev:
    """A mediated device of vfio_ap in a host."""

    def __init__(self, host: Host, ident: str) -> None:
        self.host = host
        self.uuid = ident
        self.path = f"/sys/bus/mdev/devices/{ident}"

    @classmethod
    def create(cls, host: Host, ap: GuestAp, migratable: bool = True) -> Mdev:
        """Make one and assign to it; LabError if the host has less than that to give.

        migratable: let it migrate, where the driver has an attribute to say so."""
        mdev = cls(host, str(uuid.uuid4()))
        cdomains = ap.domains if ap.cdomains is None else ap.cdomains
        lines = [f"echo {mdev.uuid} >{MDEV_TYPE}/create", f"cd {mdev.path}"]
        for attribute, values in (("assign_adapter", ap.adapters), ("assign_domain", ap.domains),
                                  ("assign_control_domain", cdomains)):
            lines += [f"echo 0x{number:x} >{attribute}" for number in numbers(values)]
        if migratable:
            lines.append("[ ! -e migratable ] || echo 1 >migratable")
        try:
            host.run("set -e\n" + "\n".join(lines))
            if mdev.matrix() != ap.matrix():
                raise LabError(f"host {host.name}: the mdev has {mdev.matrix()}, "
                               f"not {ap.matrix()}")
        except LabError:
            if host.alive:
                host.run(f"[ ! -e {mdev.path} ] || echo 1 >{mdev.path}/remove", check=False)
            raise
        return mdev

    def read(self, attribute: str) -> str:
        """An attribute's text."""
        return self.host.run(f"cat {self.path}/{attribute}").out

    def store(self, attribute: str, text: str) -> str:
        """Write to an attribute; "" or what the shell says of the error."""
        result = self.host.run(f"echo {shlex.quote(text)} >{self.path}/{attribute}", check=False)
        if bool(result.rc) != bool(result.out.strip()):
            raise LabError(f"host {self.host.name}: {attribute}: status {result.rc}, "
                           f"{result.out!r}")
        return result.out.strip()

    def has(self, attribute: str) -> bool:
        """Whether the driver has that attribute."""
        return self.host.run(f"[ -e {self.path}/{attribute} ]", check=False).rc == 0

    def set_migratable(self, on: bool) -> None:
        """Let it migrate, or not; LabError if the driver refuses."""
        error = self.store("migratable", str(int(on)))
        if error:
            raise LabError(f"host {self.host.name}: {error}")

    def matrix(self) -> list[str]:
        """The queues that are assigned, as `05.0004`."""
        return self.read("matrix").split()

    def guest_matrix(self) -> list[str]:
        """The queues that the guest has, or will have."""
        return self.read("guest_matrix").split()

    def _debugfs(self, name: str) -> str:
        return self.host.run(f"cat /sys/kernel/debug/vfio/{self.uuid}/migration/{name}").out

    def state(self) -> str:
        """The migration state of the device as the kernel sees it ("RUNNING", ...)."""
        return self._debugfs("state").strip()

    def report(self) -> SessionReport:
        """The kernel's account of the last migration session."""
        return SessionReport.parse(self._debugfs("vfio_ap/report"))

    def remove(self) -> None:
        """Remove the device; nobody may use it."""
        self.host.run(f"echo 1 >{self.path}/remove")
