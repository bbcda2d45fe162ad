# SPDX-License-Identifier: GPL-2.0
"""`migratable`: while master keys are changed on one host, no guest moves to or from it."""

from __future__ import annotations

import errno
import os

from lab.guest.mdev import GuestAp, Mdev
from lab.guest.migration import EARLY, MIDWAY, Migration, Outcome, migrate
from lab.guest.qmp import QemuError, names_errno
from lab.guest.vm import HELD_OFF, Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
BUSY = os.strerror(errno.EBUSY)
# QEMU has read 0 or 1.
TRACE = tuple(f"migratable={value}\n" for value in (0, 1))
# An address on the link between the hosts that neither has: it takes seconds to find out.
NOBODY = "10.99.0.77"


def check_intact(source: Vm) -> None:
    """The guest can go on at the source."""
    assert source.mdev is not None
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.guest_matrix() == AP.matrix()


def check_refused(outcome: Outcome, error: str) -> None:
    """Both sides failed, one with EPERM; the source did not stop its guest."""
    assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
    assert names_errno(error, errno.EPERM), outcome
    assert not outcome.stopped, outcome


def read_migratable(mdev: Mdev) -> int:
    """The value of the attribute."""
    return int(mdev.read("migratable"))


def change_migratable(vm: Vm, migratable: bool) -> None:
    """Write the attribute and wait until QEMU has read this value."""
    assert vm.mdev is not None
    seen = vm.log().count(TRACE[migratable])
    vm.mdev.set_migratable(migratable)
    vm.wait_log(TRACE[migratable], seen + 1)
    reasons = vm.blockers()
    assert all(HELD_OFF in reason for reason in reasons), reasons
    assert len(reasons) == (0 if migratable else 1), reasons


def check_blocked(vm: Vm) -> None:
    """QEMU refuses by itself, and does not so much as connect to anybody."""
    try:
        vm.call("migrate", uri=f"tcp:{vm.host.address}:1")
    except QemuError as error:
        assert HELD_OFF in str(error), error
    else:
        raise AssertionError("QEMU migrates a device whose migration is held off")
    assert vm.migration().get("status", "none") == "none", vm.migration()
    check_intact(vm)


def test_blocked_at_once(a: Host, b: Host) -> None:
    """0 on the source: QEMU refuses before it has asked the destination, and tells why; 1 again,
    and the same guest migrates. On the destination 0 blocks outgoing migrations, too."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP, migratable=False), guests.mdev(b, AP)
        source = guests.vm(here)
        assert len(source.blockers()) == 1, source.blockers()
        assert HELD_OFF in source.blockers()[0] and here.uuid in source.blockers()[0]
        check_blocked(source)
        assert here.state() == "RUNNING", here.state()

        change_migratable(source, True)
        target = guests.vm(there, incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        change_migratable(target, False)
        assert target.status() == "running", target.status()


def test_blocker_comes_and_goes(a: Host) -> None:
    """As often as the administrator changes his mind; and with the device."""
    with Guests() as guests:
        mdev = guests.mdev(a, AP)
        vm = guests.vm(mdev)
        for _ in range(5):
            change_migratable(vm, False)
            check_blocked(vm)
            change_migratable(vm, True)
        change_migratable(vm, False)
        vm.call("device_del", id="ap0")
        vm.wait(lambda: vm.events("DEVICE_DELETED") or None, "DEVICE_DELETED")
        assert not vm.blockers(), vm.blockers()
        vm.add_device("ap1")
        assert len(vm.blockers()) == 1, vm.blockers()
        change_migratable(vm, True)


def test_blocker_waits_for_a_migration(a: Host) -> None:
    """A migration that has not reached anybody yet, nor the device: the administrator can still
    say 0. QEMU takes no blocker then; it has one as soon as that migration has failed."""
    with Guests() as guests:
        mdev = guests.mdev(a, AP)
        vm = guests.vm(mdev)
        vm.call("migrate", uri=f"tcp:{NOBODY}:1")
        mdev.set_migratable(False)
        vm.wait_log(TRACE[False], 1)
        assert not vm.blockers(), vm.blockers()
        vm.wait_migration("failed")
        vm.wait_log(TRACE[False], 2)
        check_blocked_again(vm)
        assert mdev.state() == "RUNNING", mdev.state()
        change_migratable(vm, True)


def check_blocked_again(vm: Vm) -> None:
    """The blocker is there, once, and the guest runs."""
    assert [HELD_OFF in reason for reason in vm.blockers()] == [True], vm.blockers()
    check_intact(vm)


def test_key_change(a: Host, b: Host) -> None:
    """The story of a key change: 0 on the source, where QEMU refuses; on the destination, where
    the driver refuses; and 1 again on both."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP, migratable=False), guests.mdev(b, AP)
        assert (read_migratable(here), read_migratable(there)) == (0, 1), "0 is the default"
        source = guests.vm(here)
        check_blocked(source)

        there.set_migratable(False)
        change_migratable(source, True)
        target = guests.vm(there, incoming=True)
        outcome = migrate(source, target, *EARLY)
        check_refused(outcome, target.refused_state("RESUMING"))
        assert there.state() == "RUNNING", there.state()
        check_intact(source)
        target.quit()

        there.set_migratable(True)
        outcome = migrate(source, guests.vm(there, incoming=True), *EARLY)
        assert outcome.completed, outcome


def test_changed_while_open(a: Host, b: Host) -> None:
    """While a migration is under way neither side can be made unmigratable, and says so; it can
    as soon as the migration has ended, in any way."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        for last in (False, True):
            migration = Migration(source, target, *EARLY, "pause-before-switchover")
            migration.wait(source, MIDWAY)
            assert (here.state(), there.state()) == ("STOP_COPY", "RESUMING")
            for mdev in (here, there):
                error = mdev.store("migratable", "0")
                assert error.endswith(BUSY), error
                assert read_migratable(mdev) == 1
                assert mdev.store("migratable", "1") == "", "the same value changes nothing"
            if last:
                break
            source.call("migrate_cancel")
            assert migration.outcome().source == "cancelled", source.migration()
            check_intact(source)
            target.quit()
            change_migratable(source, False)
            change_migratable(source, True)
            there.set_migratable(False)
            assert read_migratable(there) == 0
            there.set_migratable(True)
            target = guests.vm(there, incoming=True, started=False)
        migration.continue_paused()
        outcome = migration.outcome()
        assert outcome.completed, outcome
        # The source's session is over; the destination's lasts until the guest is started.
        here.set_migratable(False)
        error = there.store("migratable", "0")
        assert error.endswith(BUSY), error
        target.call("cont")
        there.set_migratable(False)
        assert target.status() == "running", target.status()


def check_usable(guests: Guests, mdev: Mdev) -> None:
    """A guest can be made, reset and ended."""
    vm = guests.vm(mdev)
    vm.call("system_reset")
    vm.wait(lambda: vm.events("RESET") or None, "RESET")
    assert mdev.state() == "RUNNING", mdev.state()
    assert mdev.guest_matrix() == AP.matrix()
    vm.quit()


def test_forbids_nothing_else(a: Host, b: Host) -> None:
    """0 forbids to begin a migration, and changes nothing for a guest that stays."""
    with Guests() as guests:
        for host in (a, b):
            check_usable(guests, guests.mdev(host, AP, migratable=False))


def test_only_migratable(a: Host) -> None:
    """With -only-migratable no device whose `migratable` is 0 can be added. The refusal leaves
    nothing behind: it is repeated, and with 1 the same QEMU takes the device."""
    with Guests() as guests:
        mdev = guests.mdev(a, AP, migratable=False)
        vm = guests.vm(mdev, options=("-only-migratable",), added=False)
        for _ in range(2):
            try:
                vm.add_device()
            except QemuError as error:
                assert HELD_OFF in str(error) and "only-migratable" in str(error), error
            else:
                raise AssertionError("QEMU takes a device whose migration is held off")
        mdev.set_migratable(True)
        vm.add_device()
        assert not vm.blockers(), vm.blockers()
