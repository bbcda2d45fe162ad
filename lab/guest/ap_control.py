# SPDX-License-Identifier: GPL-2.0
"""Change the simulated AP adapters of a host, and read their state.

No other module sends commands to the adapters. hw/s390x/ap-control.c in build/qemu lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.common.errors import LabError
from lab.host.host import Host

RESCAN = "echo 1 >/sys/bus/ap/scans\n"


def command_machine(host: Host, command: str) -> list[str]:
    """Send a command to the adapters of the emulated machine. The lines of the reply without the
    last one, "ok"; LabError if that is another."""
    text = str(host.qmp("x-ap-control", command_line=command)["text"])
    *lines, status = text.splitlines()
    if status != "ok":
        raise LabError(f"host {host.name}: {command}: {status}")
    return lines


def simulate(host: Host, *commands: str) -> None:
    """Send commands that reply nothing."""
    for command in commands:
        command_machine(host, command)


def simulated(host: Host, *apqns: str) -> dict[str, dict[str, int]]:
    """The state of queues (all of them, without names), by APQN and name, such as
    simulated(a, "05.0004")["05.0004"]["qlen"]; all of it as of the same time for each queue."""
    found = {}
    for line in command_machine(host, "queues"):
        apqn, *words = line.split()
        if apqn in apqns or not apqns:
            found[apqn] = {name: int(value, 16 if name in ("gisa", "nib") else 10)
                           for name, _, value in (word.partition("=") for word in words)}
    return found


def simulate_and_rescan(host: Host, *commands: str) -> None:
    """Change the simulated adapters; the AP bus scans again after each change. Devices are there,
    or gone, when this returns."""
    for command in commands:
        command_machine(host, command)
        host.run(RESCAN)


def pull(host: Host, apid: str) -> None:
    """Pull a card out."""
    simulate_and_rescan(host, f"card del {apid}")


def plug(host: Host, spec: str) -> None:
    """Plug a card in for vfio_ap: "05:13c", as in the profiles."""
    apid = spec.partition(":")[0]
    simulate_and_rescan(host, f"card add {spec}")
    drivers = host.run(f"for queue in /sys/bus/ap/devices/{apid}.*; do\n"
                       "\tdriver=$(readlink $queue/driver) && echo ${driver##*/} || echo none\n"
                       "done").out.split()
    if set(drivers) != {"vfio_ap"}:
        raise LabError(f"host {host.name}: the queues of card {apid} are bound to {drivers}")


def replace(host: Host, spec: str) -> None:
    """Pull the card and plug another into its place."""
    pull(host, spec.partition(":")[0])
    plug(host, spec)


@contextmanager
def pulled(host: Host, apid: str) -> Iterator[None]:
    """pull(), and plug() of the card of the host's profile afterwards."""
    pull(host, apid)
    try:
        yield
    finally:
        if host.alive:
            plug(host, of_profile(host, apid))


@contextmanager
def replaced(host: Host, spec: str) -> Iterator[None]:
    """replace(), and the card of the host's profile again afterwards."""
    replace(host, spec)
    try:
        yield
    finally:
        if host.alive:
            replace(host, of_profile(host, spec.partition(":")[0]))


def of_profile(host: Host, apid: str) -> str:
    """The specification of a card in the host's profile."""
    for spec in host.profile.cards.split(","):
        if spec.startswith(f"{apid}:"):
            return spec
    raise LabError(f"host {host.name}: no card {apid} in its profile")
