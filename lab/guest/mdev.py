# SPDX-License-Identifier: GPL-2.0
"""Mediated devices of vfio_ap in a host: assignment, attributes, debugfs."""

from __future__ import annotations

import shlex
import uuid
from dataclasses import dataclass

from lab.common.errors import LabError
from lab.host.host import Host

MDEV_TYPE = "/sys/class/mdev_bus/matrix/mdev_supported_types/vfio_ap-passthrough"


def numbers(text: str) -> list[int]:
    """The numbers in a hex list such as "05,0a"."""
    return [int(word, 16) for word in text.split(",") if word.strip()]


@dataclass(frozen=True)
class GuestAp:
    """AP resources of a guest: hex lists as in the host profiles. cdomains None: as domains."""

    adapters: str
    domains: str
    cdomains: str | None = None

    def matrix(self) -> list[str]:
        """As the attribute `matrix` shows it."""
        return [f"{apid:02x}.{domain:04x}" for apid in sorted(numbers(self.adapters))
                for domain in sorted(numbers(self.domains))]


class Mdev:
    """A mediated device of vfio_ap in a host."""

    def __init__(self, host: Host, ident: str) -> None:
        self.host = host
        self.uuid = ident
        self.path = f"/sys/bus/mdev/devices/{ident}"

    @classmethod
    def create(cls, host: Host, ap: GuestAp, migratable: bool = True, ident: str = "") -> Mdev:
        """Make one and assign to it; LabError if the host has less than that to give.

        migratable: let it migrate, where the driver has an attribute to say so.
        ident: its UUID; a new one if this is empty."""
        mdev = cls(host, ident or str(uuid.uuid4()))
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
        """Write to an attribute; "" or the shell's error message."""
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

    def remove(self) -> None:
        """Remove the device, which must not be in use."""
        self.host.run(f"echo 1 >{self.path}/remove")
