# SPDX-License-Identifier: GPL-2.0
"""Migrations that fail when the source has sent all that it has, and those in which a side ends.

Without a return path, the source's QEMU does not get the failure and takes the migration for
completed. The guest then runs nowhere until the management continues it at the source. The driver
has to ensure that it can be continued, with queues that work.
"""

from __future__ import annotations

import errno

from lab.guest import ap_control
from lab.guest.ap_control import simulated
from lab.guest.counters import GUEST
from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, MIDWAY, Migration, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
ENOUGH = 10
# QEMU's tracepoint of the moment at which it has read the device's stream to the end.
READ = "vfio_save_complete_precopy "


def check_runs(vm: Vm) -> None:
    """The guest goes on there: each queue interrupts it, and the replies that waited are there."""
    assert vm.mdev is not None
    assert vm.status() == "running", vm.status()
    assert vm.mdev.state() == "RUNNING", vm.mdev.state()
    queues = simulated(vm.host, *AP.matrix())
    assert [queue["irq"] for queue in queues.values()] == [1] * len(queues), queues
    vm.wait_answered(ENOUGH, since=vm.wait_answered(0))
    counters = vm.stopped_counters()
    assert not counters.faults() and not counters.requeued, counters
    vm.call("cont")


def start_pair(guests: Guests, a: Host, b: Host) -> tuple[Vm, Vm]:
    """A guest that works on a, and b that waits for it."""
    source = guests.vm(guests.mdev(a, AP), kernel=GUEST, trace=(READ.strip(),), wait=False)
    target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
    source.wait_answered(ENOUGH)
    return source, target


def test_refused_without_return_path(a: Host, b: Host) -> None:
    """The destination's host loses a card after its device has agreed, and QEMU there is slow: by
    the time that it refuses, QEMU at the source takes the migration for completed."""
    with Guests() as guests:
        source, target = start_pair(guests, a, b)
        assert source.mdev is not None
        migration = Migration(source, target, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        with ap_control.pulled(b, "06"):
            with target.frozen():
                migration.continue_paused()
                migration.wait(source, "failed", "completed")
            outcome = migration.outcome()
        assert (outcome.source, outcome.target) == ("completed", "failed"), outcome
        assert names_errno(outcome.target_error, errno.ECANCELED), outcome.target_error
        assert (source.status(), target.status()) == ("postmigrate", "inmigrate")
        assert source.mdev.state() == "STOP", source.mdev.state()
        source.call("cont")
        check_runs(source)


def test_refused_late_with_multifd(a: Host, b: Host) -> None:
    """A thread writes the data that crosses after the guest has stopped. Its failure reaches the
    source by the return path, and the guest goes on by itself."""
    with Guests() as guests:
        source, target = start_pair(guests, a, b)
        assert source.mdev is not None
        migration = Migration(source, target, *EARLY, "multifd", "pause-before-switchover")
        migration.wait(source, MIDWAY)
        with ap_control.pulled(b, "06"):
            migration.continue_paused()
            outcome = migration.outcome()
        assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
        # It tells the number alone.
        assert outcome.target_error.endswith(f": {errno.ECANCELED}"), outcome.target_error
        source.wait(lambda: source.events("RESUME") or None, "RESUME")
        check_runs(source)


def test_target_ends_late(a: Host, b: Host) -> None:
    """The destination's QEMU is killed when it has all, and has not said anything yet: with a
    return path the source learns of it, and the guest goes on by itself."""
    with Guests() as guests:
        source, target = start_pair(guests, a, b)
        assert target.mdev is not None
        migration = Migration(source, target, *EARLY, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        with target.frozen():
            migration.continue_paused()
            source.wait_log(READ)
            target.kill()
        assert migration.wait(source, "failed", "completed") == "failed", source.migration()
        source.wait(lambda: source.events("RESUME") or None, "RESUME")
        assert target.mdev.state() == "RUNNING", "a closed device keeps no state"
        check_runs(source)


def migrate_until_pre_copy(guests: Guests, a: Host, b: Host) -> tuple[Vm, Vm, Migration]:
    """A migration that stays in pre-copy: the guest is not stopped."""
    source, target = start_pair(guests, a, b)
    source.forbid_switchover()
    migration = Migration(source, target, *EARLY)
    migration.wait_device(source, "pre-copy")
    migration.wait_device(target, "resuming")
    return source, target, migration


def long_target_ends_in_pre_copy(a: Host, b: Host) -> None:
    """The guest does not notice, and migrates at the next try."""
    with Guests() as guests:
        source, target, migration = migrate_until_pre_copy(guests, a, b)
        assert target.mdev is not None
        target.kill()
        assert migration.wait(source, "failed", "completed") == "failed", source.migration()
        source.wait(lambda: "running" in migration.device_states(source) or None, "running")
        assert migration.device_states(source) == ["pre-copy", "running"]
        check_runs(source)
        source.allow_switchover()
        again = guests.vm(target.mdev, incoming=True, kernel=GUEST)
        outcome = migrate(source, again, *EARLY)
        assert outcome.completed, outcome


def long_source_ends_in_pre_copy(a: Host, b: Host) -> None:
    """The guest is gone, as without a migration; the destination never ran it, and can be used."""
    with Guests() as guests:
        source, target, migration = migrate_until_pre_copy(guests, a, b)
        assert source.mdev is not None and target.mdev is not None
        source.kill()
        assert migration.wait(target, "failed", "completed") == "failed", target.migration()
        assert target.status() == "inmigrate", target.status()
        assert source.mdev.state() == "RUNNING", "a closed device keeps no state"
        assert target.mdev.state() == "RESUMING", target.mdev.state()
        target.quit()
        check_runs(guests.vm(target.mdev, kernel=GUEST))


def test_target_loses_a_card_in_pre_copy(a: Host, b: Host) -> None:
    """The next write fails at the destination; the source did not stop for it."""
    with Guests() as guests:
        source, target, migration = migrate_until_pre_copy(guests, a, b)
        assert target.mdev is not None
        with ap_control.pulled(b, "06"):
            assert target.mdev.state() == "RESUMING", "no state changes by itself"
            source.allow_switchover()
            outcome = migration.outcome()
        assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
        assert names_errno(outcome.target_error, errno.ECANCELED), outcome.target_error
        assert target.status() == "inmigrate", target.status()
        check_runs(source)
