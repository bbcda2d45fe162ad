# SPDX-License-Identifier: GPL-2.0
"""A guest that uses its queues migrates between two hosts while requests are under way."""

from __future__ import annotations

import errno
import pathlib
import time

from lab.common import config, progress
from lab.guest import ap_control
from lab.guest.ap_control import simulate, simulated
from lab.guest.counters import GUEST, GUEST_NIB, GUEST_WINDOW, Counters
from lab.guest.migration import EARLY, MIDWAY, Migration, migrate
from lab.guest.qmp import names_errno
from lab.guest.round_trips import AP, ENOUGH, RoundTrips
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

# The guest program's value of control register 6, and the mark that follows it.
SUBCLASSES = bytes.fromhex("0000000010000000") + b"APGUEST1"


def migrate_running_guest(source: Vm, target: Vm) -> Counters:
    """Let the guest migrate; return its counters on arrival, or soon afterwards."""
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
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST, wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        migrate_running_guest(source, target)
        counters = target.stopped_counters()
        assert not counters.faults(), counters


def test_is_woken_up(a: Host, b: Host) -> None:
    """It sleeps when it leaves, and the replies that it waits for will never come: the queues
    of the target know nothing of them."""
    simulate(a, "latency * 1000000000")
    try:
        with Guests() as guests:
            source = guests.vm(guests.mdev(a, AP), kernel=GUEST, wait=False)
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
    """The guest repeats the requests in the source's queues; each request is answered once."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST, wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        here = migrate_running_guest(source, target)
        target.wait_answered(ENOUGH, since=here)
        counters = target.stopped_counters()
        assert not counters.faults(), counters


def check_round_trips(trips: RoundTrips) -> None:
    """Over all migrations: requests were under way, and were sent again."""
    progress.say(trips.summary())
    assert trips.busy_share() >= 0.9, trips.summary()
    assert trips.requeued >= trips.busy, trips.summary()


def test_repeated_migrations(a: Host, b: Host) -> None:
    """Five migrations; after each the guest goes on with every queue."""
    with Guests() as guests, RoundTrips(guests, a, b) as trips:
        for _ in range(5):
            trips.migrate_once()
        check_round_trips(trips)


def long_repeated_migrations(a: Host, b: Host, minutes: float) -> None:
    """The same fifty times, or for as long as MINUTES= says."""
    until = time.monotonic() + 60 * minutes
    with Guests() as guests, RoundTrips(guests, a, b) as trips:
        while time.monotonic() < until if minutes else trips.migrations < 50:
            trips.migrate_once()
            if trips.migrations % 5 == 0:
                progress.say(trips.summary())
        check_round_trips(trips)


def test_hangs_without_interrupts(a: Host, b: Host) -> None:
    """Control of the other tests: a destination whose queues do not interrupt, though enabling
    succeeds. The guest gets the kick there, and nothing after it."""
    with Guests() as guests, RoundTrips(guests, a, b) as trips:
        simulate(b, "swallow * on")
        try:
            trips.expect_no_progress()
        finally:
            simulate(b, "swallow * off")
        assert trips.requeued >= trips.busy, trips.summary()


# Migrations that come to nothing

def check_guest_continues(source: Vm) -> None:
    """The guest has its interrupts, and its requests: their replies were waiting for it."""
    assert source.mdev is not None
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    queues = simulated(source.host, *AP.matrix())
    assert [queue["irq"] for queue in queues.values()] == [1] * len(queues), queues
    source.wait_answered(ENOUGH, since=source.wait_answered(0))
    counters = source.stopped_counters()
    assert not counters.faults() and not counters.requeued, counters
    assert counters.aqic == len(AP.matrix()), "it need not enable its interrupts once more"
    source.call("cont")


def migrate_until_switchover(source: Vm, target: Vm) -> Migration:
    """Migrate until the device is next: the guest is stopped, its interrupts are off."""
    migration = Migration(source, target, *EARLY, "pause-before-switchover")
    migration.wait(source, MIDWAY)
    queues = simulated(source.host, *AP.matrix())
    assert [queue["irq"] for queue in queues.values()] == [0] * len(queues), queues
    return migration


def test_cancelled_before_the_guest_is_stopped(a: Host, b: Host) -> None:
    """In pre-copy; it never notices."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST, wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        source.wait_answered(ENOUGH)
        source.forbid_switchover()
        migration = Migration(source, target, *EARLY)
        migration.wait_device(source, "pre-copy")
        migration.wait_device(target, "resuming")
        source.call("migrate_cancel")
        outcome = migration.outcome()
        assert (outcome.source, outcome.stopped) == ("cancelled", False), outcome
        check_guest_continues(source)


def test_cancelled_midway(a: Host, b: Host) -> None:
    """When the guest is stopped; then it is migrated after all."""
    with Guests() as guests:
        there = guests.mdev(b, AP)
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        source.wait_answered(ENOUGH)
        target = guests.vm(there, incoming=True, kernel=GUEST)
        migration = migrate_until_switchover(source, target)
        source.call("migrate_cancel")
        outcome = migration.outcome()
        assert (outcome.source, outcome.stopped) == ("cancelled", True), outcome
        check_guest_continues(source)
        target.quit()
        target = guests.vm(there, incoming=True, kernel=GUEST)
        target.wait_answered(ENOUGH, since=migrate_running_guest(source, target))
        counters = target.stopped_counters()
        assert not counters.faults(), counters


def test_refused_in_pre_copy(a: Host, b: Host) -> None:
    """By a destination with another card."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        source.wait_answered(ENOUGH)
        with ap_control.replaced(b, "05:13c"):
            target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
            outcome = migrate(source, target, *EARLY)
            assert (outcome.source, outcome.stopped) == ("failed", False), outcome
            assert names_errno(outcome.target_error, errno.ENXIO), outcome
            check_guest_continues(source)


def test_refused_midway(a: Host, b: Host) -> None:
    """By a destination that has lost a card when the guest is stopped."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        source.wait_answered(ENOUGH)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        migration = migrate_until_switchover(source, target)
        with ap_control.pulled(b, "06"):
            migration.continue_paused()
            outcome = migration.outcome()
            assert (outcome.source, outcome.stopped) == ("failed", True), outcome
            assert names_errno(outcome.target_error, errno.ECANCELED), outcome
            check_guest_continues(source)


# The log of the pages that the machine writes to

def guest_without_interrupts(host: Host) -> str:
    """A guest program that is never interrupted: the machine's write to the page of the
    notification byte is the last one."""
    content = (config.share(host.flavour) / "selftests" / config.SELFTEST /
               pathlib.Path(GUEST).name).read_bytes()
    assert content.count(SUBCLASSES) == 1
    host.path("deaf").write_bytes(content.replace(SUBCLASSES, bytes(8) + SUBCLASSES[8:]))
    return "/lab/results/deaf"


def migrated_notification_byte(a: Host, b: Host, iommufd: bool) -> int:
    """Let the machine set the notification byte after QEMU has sent its page; return its value at
    the target, whose guest is not started, so that nothing is set there."""
    program = guest_without_interrupts(a)
    simulate(a, "latency * 1000000000")
    try:
        with Guests() as guests:
            source = guests.vm(guests.mdev(a, AP), kernel=program, iommufd=iommufd,
                               wait=False)
            target = guests.vm(guests.mdev(b, AP), incoming=True, started=False, kernel=GUEST,
                               iommufd=iommufd)
            while any(queue["qlen"] != GUEST_WINDOW
                      for queue in simulated(a, *AP.matrix()).values()):
                source.status()
            assert source.memory(GUEST_NIB, 1) == b"\0"
            source.forbid_switchover()
            migration = Migration(source, target, *EARLY)
            while source.migration().get("ram", {}).get("dirty-sync-count", 0) < 3:
                source.status()
            simulate(a, f"notify {AP.matrix()[0]}")
            assert source.memory(GUEST_NIB, 1) == b"\1"
            source.allow_switchover()
            outcome = migration.outcome()
            assert outcome.completed, outcome
            assert source.memory(GUEST_NIB, 1) == b"\1"
            return target.memory(GUEST_NIB, 1)[0]
    finally:
        simulate(a, "latency * 1000")


def test_notification_byte_arrives(a: Host, b: Host) -> None:
    """As it was when the guest was stopped, with both ways in which QEMU uses VFIO."""
    for iommufd in (False, True):
        assert migrated_notification_byte(a, b, iommufd) == 1, iommufd
