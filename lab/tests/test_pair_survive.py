# SPDX-License-Identifier: GPL-2.0
"""A guest survives the end of the host that it was on its way to.

In a file of its own, the last one: the host has to be booted again after it.
"""

from __future__ import annotations

from lab.hosts import Host
from lab.qemu_client import EARLY, MIDWAY, GuestAp, Guests, Migration, QemuError

AP = GuestAp("05,06", "04,06")
RETRIES = "/proc/sys/net/ipv4/tcp_retries2"


def test_target_host_dies(a: Host, b: Host) -> None:
    """The power is cut: a readable failure, and the guest stays at the source."""
    # Give a silent peer up after seconds, not after a quarter of an hour.
    before = a.run(f"cat {RETRIES}; echo 3 >{RETRIES}").out.strip()
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
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
