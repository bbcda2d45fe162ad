# SPDX-License-Identifier: GPL-2.0
"""A guest that uses its queues migrates between two hosts while requests are under way."""

from __future__ import annotations

from lab.hosts import Host
from lab.qemu_client import (EARLY, GUEST, GUEST_WINDOW, Counters, GuestAp, Guests, Vm, migrate,
                             simulate, simulated)

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


def test_is_woken_up(a: Host, b: Host) -> None:
    """It sleeps when it leaves, and the replies that it waits for will never come: the queues
    of the target know nothing of them."""
    simulate(a, "latency * 1000000000")
    try:
        with Guests() as guests:
            source = guests.vm(guests.mdev(a, AP), kernel=GUEST)
            target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
            while any(queue["qlen"] != GUEST_WINDOW
                      for queue in simulated(a, *AP.matrix()).values()):
                source.status()
            outcome = migrate(source, target, *EARLY)
            assert outcome.completed, outcome
            target.wait_answered(ENOUGH, timeout=60)
            counters = target.stopped_counters()
            assert not counters.faults(), counters
            assert counters.requeued >= GUEST_WINDOW * len(AP.matrix()), counters
    finally:
        simulate(a, "latency * 1000")


def test_goes_on(a: Host, b: Host) -> None:
    """What the queues of the source had is sent once more, everything is answered once."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        here = arrived(source, target)
        target.wait_answered(here.answered + ENOUGH)
        counters = target.stopped_counters()
        assert not counters.faults(), counters
