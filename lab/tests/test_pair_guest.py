# SPDX-License-Identifier: GPL-2.0
"""A guest that uses its queues migrates between two hosts while requests are under way."""

from __future__ import annotations

from lab.hosts import Host
from lab.qemu_client import EARLY, GUEST, Counters, GuestAp, Guests, Vm, migrate

AP = GuestAp("05,06", "04,06")
ENOUGH = 10


def arrived(source: Vm, target: Vm) -> Counters:
    """Let the guest migrate; what it had counted when it arrived, or soon afterwards."""
    source.wait_answered(ENOUGH)
    outcome = migrate(source, target, *EARLY)
    assert outcome.completed, outcome
    left, here = source.counters(), target.counters()
    assert left is not None and here is not None
    assert here.answered >= left.answered >= ENOUGH, (left, here)
    assert here.interrupts >= left.interrupts, (left, here)
    assert target.status() == "running", target.status()
    return here


def test_arrives(a: Host, b: Host) -> None:
    """With everything that it has counted."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        arrived(source, target)
        counters = target.stopped_counters()
        assert not counters.faults(), counters
