# SPDX-License-Identifier: GPL-2.0
"""A guest survives the end of the host that it was on its way to.

In a file of its own, the last one: the host has to be booted again after it.
"""

from __future__ import annotations

from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, MIDWAY, Migration
from lab.guest.qmp import QemuError
from lab.guest.vm import Guests
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
RETRIES = "/proc/sys/net/ipv4/tcp_retries2"


def test_target_host_dies(a: Host, b: Host) -> None:
    """The power is cut: a readable failure, and the guest stays at the source."""
    # Give a silent peer up after seconds, not after a quarter of an hour.
    before = a.run(f"cat {RETRIES}; echo 3 >{RETRIES}").out.strip()
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        migration = Migration(source, target, *EARLY, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        b.kill()
        try:
            migration.wait(target, "completed")
        except QemuError as error:
            assert f"{target.name}: ended" in str(error), error
        else:
            raise AssertionError("a dead host completed a migration")
        source.call("migrate-continue", state=MIDWAY)
        assert migration.wait(source, "failed", "completed", timeout=300) == "failed"
        assert source.migration()["error-desc"], source.migration()
        assert source.status() == "running", source.status()
        assert source.mdev is not None
        assert source.mdev.state() == "RUNNING", source.mdev.state()
        assert source.mdev.guest_matrix() == AP.matrix()
    a.run(f"echo {before} >{RETRIES}")


def long_source_host_dies(a: Host, b: Host) -> None:
    """The power is cut where the guest runs, midway: it is lost, as without a migration. The
    destination gets no message, and never runs it; its device can be used again."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        there = guests.mdev(b, AP)
        target = guests.vm(there, incoming=True)
        migration = Migration(source, target, *EARLY, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        a.kill()
        try:
            migration.wait(source, "completed")
        except QemuError as error:
            assert f"{source.name}: ended" in str(error), error
        else:
            raise AssertionError("a dead host completed a migration")
        assert target.status() == "inmigrate", target.status()
        assert there.state() == "RESUMING", there.state()
        target.quit()
        assert there.state() == "RUNNING", "a closed device keeps no state"
        again = guests.vm(there)
        assert again.status() == "running", again.status()
        assert there.guest_matrix() == AP.matrix(), there.guest_matrix()
