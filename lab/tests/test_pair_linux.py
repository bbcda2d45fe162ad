# SPDX-License-Identifier: GPL-2.0
"""Debian's kernel with requests in all its AP queues migrates between two hosts."""

from __future__ import annotations

import errno

import pytest

from lab.common import progress
from lab.guest import ap_control
from lab.guest.ap_control import simulate, simulated
from lab.guest.linux import Count
from lab.guest.linux_trips import LinuxTrips
from lab.guest.migration import MIDWAY
from lab.guest.qmp import names_errno
from lab.guest.round_trips import AP
from lab.guest.vm import Guests
from lab.host.host import Host

# Seconds on an idle machine
LIMIT = 600.0
# Seconds of the guest's clock without a reply that an interrupt must have been lost for: a request
# takes a fifth of a second.
LOST = 5.0


def check_cancelled(trips: LinuxTrips, midway: bool) -> None:
    """A migration is cancelled in pre-copy, or when the guest is stopped."""
    before = trips.guest.last()
    source = trips.guest.vm
    if midway:
        migration = trips.start("pause-before-switchover")
        migration.wait(source, MIDWAY)
    else:
        source.forbid_switchover()
        migration = trips.start()
        migration.wait_device(source, "pre-copy")
        migration.wait_device(migration.target, "resuming")
    source.call("migrate_cancel")
    outcome = migration.outcome()
    assert (outcome.source, outcome.stopped) == ("cancelled", midway), outcome
    source.allow_switchover()
    trips.check_stayed(before)
    migration.target.quit()


def check_refused(trips: LinuxTrips) -> None:
    """The destination has another card."""
    before = trips.guest.last()
    with ap_control.replaced(trips.there.host, "05:13c"):
        migration = trips.start()
        outcome = migration.outcome()
        assert (outcome.source, outcome.stopped) == ("failed", False), outcome
        assert names_errno(outcome.target_error, errno.ENXIO), outcome
        migration.target.quit()
    trips.check_stayed(before)


@pytest.mark.limit(LIMIT)
def test_one_processor(a: Host, b: Host) -> None:
    """Migrations that are cancelled and refused, then to host b and back to host a."""
    with Guests() as guests, LinuxTrips(guests, a, b) as trips:
        check_cancelled(trips, midway=False)
        check_cancelled(trips, midway=True)
        check_refused(trips)
        trips.migrate_once()
        trips.migrate_once()
        trips.power_off()
        progress.say(trips.summary())


@pytest.mark.limit(LIMIT)
def test_two_processors(a: Host, b: Host) -> None:
    """To host b and back to host a."""
    with Guests() as guests, LinuxTrips(guests, a, b, cpus=2) as trips:
        trips.migrate_once()
        trips.migrate_once()
        trips.power_off()
        progress.say(trips.summary())


@pytest.mark.limit(LIMIT)
def test_lost_interrupts(a: Host, b: Host) -> None:
    """Control: the queues of the destination do not interrupt, though they report that they do. The
    clock of the guest runs on, and the gap grows."""
    with Guests() as guests, LinuxTrips(guests, a, b) as trips:
        simulate(b, "swallow * on")
        try:
            trips.leave()
            arrived = trips.guest.last().number

            def gap(counts: list[Count]) -> float | None:
                longest = max(count.gap for count in counts if count.number >= arrived)
                return longest if longest >= LOST else None
            seen = trips.guest.wait(gap, f"a gap of {LOST} s")
            progress.say(f"without interrupts at the destination: a gap of {seen:.1f} s")
            queues = simulated(b, *AP.matrix())
            assert all(queue["irq"] for queue in queues.values()), queues
            assert all(queue["swallowed"] for queue in queues.values()), queues
        finally:
            simulate(b, "swallow * off")


def long_ten_round_trips(a: Host, b: Host) -> None:
    """Twenty migrations of a guest with two processors."""
    with Guests() as guests, LinuxTrips(guests, a, b, cpus=2) as trips:
        for _ in range(20):
            trips.migrate_once()
        trips.power_off()
        progress.say(trips.summary())
