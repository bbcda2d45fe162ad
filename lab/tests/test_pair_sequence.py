# SPDX-License-Identifier: GPL-2.0
"""The ioctl client of the selftests asks for the states that QEMU asks for, in QEMU's order."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from lab.common import config
from lab.guest.mdev import GuestAp, Mdev
from lab.guest.migration import EARLY, migrate
from lab.guest.vm import Guests
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
CLIENT = f"/lab/selftests/{config.SELFTEST}/vfio_ap_client"
TRACING = "/sys/kernel/tracing"
INSTANCE = f"{TRACING}/instances/sequence"


class Arcs:
    """The arcs that the driver has taken in a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def of(self, mdev: Mdev) -> list[str]:
        """Those of a device so far, as "STOP -> RUNNING_P2P: 0"; they are forgotten then."""
        text = self._host.run(f"cat {INSTANCE}/trace; echo >{INSTANCE}/trace").out
        return re.findall(rf"vfio_ap_arc: {mdev.uuid}: (.*?)(?: \(\d+ ns\))?$", text, re.M)


@contextlib.contextmanager
def arcs(host: Host) -> Iterator[Arcs]:
    """Trace the arcs of a host for a while."""
    host.run(f"[ -d {TRACING}/instances ] || mount -t tracefs tracefs {TRACING}\n"
             f"mkdir {INSTANCE} && echo 1 >{INSTANCE}/events/vfio_ap/vfio_ap_arc/enable")
    try:
        yield Arcs(host)
    finally:
        host.run(f"rmdir {INSTANCE}")


def migrate_by_client(here: Mdev, there: Mdev) -> None:
    """Migrate a device by the client: its state goes by way of the build machine."""
    here.host.run(f"{CLIENT} save {here.uuid} /lab/results/state")
    there.host.path("state").write_bytes(here.host.path("state").read_bytes())
    there.host.run(f"{CLIENT} resume {there.uuid} /lab/results/state")
    for mdev in (here, there):
        mdev.host.path("state").unlink()


def migrate_by_qemu(guests: Guests, here: Mdev, there: Mdev) -> None:
    """Migrate a guest, and end both QEMUs."""
    source, target = guests.vm(here), guests.vm(there, incoming=True)
    outcome = migrate(source, target, *EARLY)
    assert outcome.completed, outcome
    for vm in (source, target):
        vm.quit()


def test_client_does_as_qemu_does(a: Host, b: Host) -> None:
    """QEMU takes the same steps as the client of the selftests."""
    with Guests() as guests, arcs(a) as at_source, arcs(b) as at_target:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        migrate_by_qemu(guests, here, there)
        source, target = at_source.of(here), at_target.of(there)
        # Before that QEMU has started the guest, which the client has not got.
        source = source[source.index("RUNNING -> PRE_COPY: 0"):]
        assert "STOP -> RESUMING: 0" in target, target
        migrate_by_client(here, there)
        for found, wanted in ((at_source.of(here), source), (at_target.of(there), target)):
            assert found == wanted, f"client: {found}, QEMU: {wanted}"
