# SPDX-License-Identifier: GPL-2.0
"""The guest's machine is reset while it migrates: VFIO_DEVICE_RESET ends the session, so the
migration fails, and the guest runs at the source."""

from __future__ import annotations

import errno

from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, MIDWAY, Migration, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# QEMU's first call decides: the data file is disabled, the log of DMA has ended.
ENDED = (errno.ENODEV, errno.EINVAL)


def reset(vm: Vm) -> None:
    """Reset the machine, and with it its devices."""
    vm.call("system_reset")
    vm.wait(lambda: vm.events("RESET") or None, "RESET")


def check_failed(guests: Guests, source: Vm, target: Vm, migration: Migration) -> None:
    """Both sides know of it, both devices are usable, and the guest migrates at a second try."""
    assert source.mdev is not None and target.mdev is not None
    outcome = migration.outcome()
    assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
    assert any(names_errno(outcome.source_error, number) for number in ENDED), outcome
    assert outcome.stopped == ("stop-copy" in outcome.states), outcome
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.guest_matrix() == AP.matrix(), source.mdev.guest_matrix()
    assert target.status() != "running", target.status()
    target.quit()
    again = migrate(source, guests.vm(target.mdev, incoming=True), *EARLY)
    assert again.completed, again


def test_reset_in_pre_copy(a: Host, b: Host) -> None:
    """Before the guest is stopped."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        source.forbid_switchover()
        migration = Migration(source, target, *EARLY)
        migration.wait_device(source, "pre-copy")
        migration.wait_device(target, "resuming")
        reset(source)
        source.allow_switchover()
        check_failed(guests, source, target, migration)


def test_reset_midway(a: Host, b: Host) -> None:
    """When it is stopped, and the device is next."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        migration = Migration(source, target, *EARLY, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        reset(source)
        migration.continue_paused()
        check_failed(guests, source, target, migration)
