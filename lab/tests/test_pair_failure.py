# SPDX-License-Identifier: GPL-2.0
"""Migrations that are broken off: by the user, by the end of one QEMU, by a host's change."""

from __future__ import annotations

import errno

from lab.guest import ap_control
from lab.guest.kernel_log import KernelLog
from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, MIDWAY, Migration, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# AP without card 06.
LESS = GuestAp("05", "04,06")
# QEMU's tracepoint of the moment at which it has read the device's stream to the end.
READ = "vfio_save_complete_precopy "
CHANGED = "the host changed the AP configuration"


def check_intact(source: Vm) -> None:
    """The guest can go on at the source."""
    assert source.mdev is not None
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.guest_matrix() == AP.matrix(), source.mdev.guest_matrix()


def start(source: Vm, target: Vm) -> Migration:
    """Migrate up to the point where the device is next."""
    assert source.mdev is not None and target.mdev is not None
    migration = Migration(source, target, *EARLY, "pause-before-switchover")
    migration.wait(source, MIDWAY)
    assert source.mdev.state() == "STOP_COPY", source.mdev.state()
    assert target.mdev.state() == "RESUMING", target.mdev.state()
    return migration


def test_cancel(a: Host, b: Host) -> None:
    """Cancelled, and started again with the same devices on both sides."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        source.call("migrate_cancel")
        outcome = migration.outcome()
        assert (outcome.source, outcome.target) == ("cancelled", "failed"), outcome
        assert outcome.stopped, "it was midway"
        check_intact(source)
        target.quit()
        outcome = migrate(source, guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_cancel_in_pre_copy(a: Host, b: Host) -> None:
    """Cancelled while the guest has not been stopped, ten times over."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here)
        source.forbid_switchover()
        for _ in range(10):
            target = guests.vm(there, incoming=True)
            migration = Migration(source, target, *EARLY)
            migration.wait_device(source, "pre-copy")
            migration.wait_device(target, "resuming")
            source.call("migrate_cancel")
            outcome = migration.outcome()
            assert (outcome.source, outcome.target) == ("cancelled", "failed"), outcome
            assert not outcome.stopped, outcome
            assert outcome.states == ["pre-copy", "running"], outcome.states
            target.quit()
        check_intact(source)
        source.allow_switchover()
        outcome = migrate(source, guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_target_ends(a: Host, b: Host) -> None:
    """The destination's QEMU is killed with its device in RESUMING."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        there = guests.mdev(b, AP)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        target.kill()
        assert there.state() == "RUNNING", "a closed device keeps no state"
        migration.continue_paused()
        assert migration.wait(source, "failed", "completed") == "failed", source.migration()
        assert source.migration()["error-desc"], source.migration()
        check_intact(source)
        outcome = migrate(source, guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_source_ends(a: Host, b: Host) -> None:
    """The source's QEMU is killed: the destination fails and can be used again."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        source.kill()
        assert migration.wait(target, "failed", "completed") == "failed", target.migration()
        assert target.migration()["error-desc"], target.migration()
        assert target.status() == "inmigrate", target.status()
        assert here.state() == "RUNNING", "a closed device keeps no state"
        target.quit()
        outcome = migrate(guests.vm(here), guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_target_loses_a_card(a: Host, b: Host) -> None:
    """The destination's host loses a card after its device has agreed: the rest of the stream is
    refused with -ECANCELED, even if the card is back by then."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        there = guests.mdev(b, AP)
        target = guests.vm(there, incoming=True)
        log = KernelLog(b)
        migration = start(source, target)
        with ap_control.pulled(b, "06"):
            pass
        assert there.state() == "RESUMING", "no state changes by itself"
        migration.continue_paused()
        outcome = migration.outcome()
        assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
        assert names_errno(outcome.target_error, errno.ECANCELED), outcome.target_error
        check_intact(source)
        assert log.failures(there) == [CHANGED], log.of(there)
        target.quit()
        outcome = migrate(source, guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_source_loses_a_card(a: Host, b: Host) -> None:
    """The source's host loses a card in STOP_COPY, before QEMU has read the rest of the stream:
    reading fails with -ECANCELED, and the guest goes on at the source, without that card."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        log = KernelLog(a)
        migration = start(source, target)
        with ap_control.pulled(a, "06"):
            assert here.state() == "STOP_COPY", "no state changes by itself"
            migration.continue_paused()
            outcome = migration.outcome()
            assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
            assert log.failures(here) == [CHANGED], log.of(here)
            assert here.guest_matrix() == LESS.matrix(), here.guest_matrix()
            assert source.status() == "running", source.status()
        check_intact(source)
        target.quit()
        outcome = migrate(source, guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_source_loses_a_card_late(a: Host, b: Host) -> None:
    """The same when QEMU has the whole stream and waits for the destination: the guest, which
    does not use that card any more, arrives."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, trace=(READ.strip(),), wait=False)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        with target.frozen():
            migration.continue_paused()
            source.wait_log(READ)
            with ap_control.pulled(a, "06"):
                assert here.guest_matrix() == LESS.matrix(), here.guest_matrix()
                assert here.state() == "STOP_COPY", "no state changes by itself"
        outcome = migration.outcome()
        assert outcome.completed, outcome
        assert target.status() == "running", target.status()
        assert there.guest_matrix() == AP.matrix(), there.guest_matrix()
        assert there.state() == "RUNNING", there.state()
