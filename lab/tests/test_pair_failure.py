# SPDX-License-Identifier: GPL-2.0
"""Migrations that are broken off: by the user, by the end of one QEMU."""

from __future__ import annotations

from lab.hosts import Host
from lab.qemu_client import GuestAp, Guests, Migration, QemuError, Vm, migrate

AP = GuestAp("05,06", "04,06")
# Memory is sent, the device is next.
MIDWAY = "pre-switchover"


def check_intact(source: Vm) -> None:
    """The guest can go on at the source."""
    assert source.mdev is not None
    assert source.status() in ("prelaunch", "paused"), source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.guest_matrix() == AP.matrix()


def start(source: Vm, target: Vm) -> Migration:
    """Migrate up to the point where the device is next."""
    migration = Migration(source, target, "return-path", "pause-before-switchover")
    migration.wait(source, MIDWAY)
    return migration


def go_on(source: Vm) -> None:
    """Let a migration that waits midway go on."""
    try:
        source.call("migrate-continue", state=MIDWAY)
    except QemuError:
        pass    # it has noticed and does not wait any more


def test_cancel(a: Host, b: Host) -> None:
    """Cancelled, and started again with the same devices on both sides."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        there = guests.mdev(b, AP)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        assert there.state() == "RESUMING"
        source.call("migrate_cancel")
        outcome = migration.outcome()
        assert (outcome.source, outcome.target) == ("cancelled", "failed"), outcome
        check_intact(source)
        target.quit()
        source.set_capabilities("pause-before-switchover", on=False)
        outcome = migrate(source, guests.vm(there, incoming=True), "return-path")
        assert outcome.completed, outcome


def test_target_ends(a: Host, b: Host) -> None:
    """The destination's QEMU is killed with its device in RESUMING."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        there = guests.mdev(b, AP)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        target.kill()
        assert there.state() == "RUNNING", "a closed device keeps no state"
        go_on(source)
        assert migration.wait(source, "failed", "completed") == "failed", source.migration()
        assert source.migration()["error-desc"], source.migration()
        check_intact(source)
        source.set_capabilities("pause-before-switchover", on=False)
        outcome = migrate(source, guests.vm(there, incoming=True), "return-path")
        assert outcome.completed, outcome


def test_source_ends(a: Host, b: Host) -> None:
    """The source's QEMU is killed: the destination fails and can be used again."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here)
        target = guests.vm(there, incoming=True)
        migration = start(source, target)
        source.kill()
        assert migration.wait(target, "failed", "completed") == "failed", target.migration()
        assert target.migration()["error-desc"], target.migration()
        assert here.state() == "RUNNING", "a closed device keeps no state"
        target.quit()
        outcome = migrate(guests.vm(here), guests.vm(there, incoming=True), "return-path")
        assert outcome.completed, outcome
