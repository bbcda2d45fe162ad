# SPDX-License-Identifier: GPL-2.0
"""QEMU's answer to a driver that refuses a device state; docs/failures.md has the whole matrix.

The driver of this series refuses none of the states that QEMU asks for after PRE_COPY and
RESUMING. The faults are injected into QEMU's ioctls, so the driver keeps its state.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from lab.guest import ap_control
from lab.guest.kernel_log import KernelLog
from lab.guest.mdev import GuestAp, Mdev
from lab.guest.migration import EARLY, MIDWAY, Migration, Outcome, migrate
from lab.guest.qmp import STEP, QemuError
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
WAYS = (False, True)        # iommufd


def check_running(vm: Vm) -> None:
    """QEMU runs the guest, and the kernel has the device in RUNNING with all its queues."""
    assert vm.mdev is not None
    assert vm.status() == "running", vm.status()
    assert vm.mdev.state() == "RUNNING", vm.mdev.state()
    assert vm.mdev.guest_matrix() == AP.matrix(), vm.mdev.guest_matrix()


def migrate_with_faults(source: Vm, target: Vm, faulty: Vm, *faults: str) -> Outcome:
    """Migrate while ioctls of one side fail, each once."""
    injector = faulty.inject(*faults)
    outcome = migrate(source, target, *EARLY)
    result = injector.wait(STEP)
    assert [f"injected {fault}" in result.out for fault in faults] == [True] * len(faults), result
    return outcome


def check_source_keeps_the_guest(guests: Guests, source: Vm, there: Mdev, faulty: str,
                                 fault: str, iommufd: bool) -> Outcome:
    """A migration that fails on both sides; the guest runs at the source, both kernels have
    nothing to say, and the destination's device can be used again."""
    assert source.mdev is not None
    target = guests.vm(there, incoming=True, iommufd=iommufd)
    logs = [(KernelLog(mdev.host), mdev) for mdev in (source.mdev, there)]
    outcome = migrate_with_faults(source, target, source if faulty == "source" else target, fault)
    assert (outcome.source, outcome.target) == ("failed", "failed"), (fault, outcome)
    if outcome.stopped:
        source.wait(lambda: source.status() == "running" or None, "the guest to go on")
    check_running(source)
    assert target.status() == "inmigrate", (fault, target.status())
    target.quit()
    for log, mdev in logs:
        assert not log.failures(mdev), (fault, log.of(mdev))
        assert mdev.state() == "RUNNING", (fault, mdev.state())
    return outcome


def test_source_refuses_a_state(a: Host, b: Host) -> None:
    """PRE_COPY fails before the guest stops. With the later ones QEMU resets the device and lets
    the guest go on. At last the same guest migrates, though the device is to stay in STOP_COPY:
    QEMU asks for STOP when the destination runs the guest."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        for iommufd in WAYS:
            source = guests.vm(here, iommufd=iommufd)
            # PRE_COPY_P2P fails as STOP_COPY does.
            for state, stopped in (("PRE_COPY", False), ("STOP_COPY", True),
                                   ("PRE_COPY_P2P", True))[:2 if iommufd else 3]:
                outcome = check_source_keeps_the_guest(guests, source, there, "source",
                                                       f"{state}={errno.EINVAL}", iommufd)
                assert outcome.stopped == stopped, (state, outcome)
            target = guests.vm(there, incoming=True, iommufd=iommufd)
            outcome = migrate_with_faults(source, target, source, f"STOP={errno.EINVAL}")
            assert outcome.completed, outcome
            assert source.status() == "postmigrate", source.status()
            assert here.state() == "RUNNING", here.state()
            check_running(target)
            source.quit()
            target.quit()


def test_target_refuses_to_resume(a: Host, b: Host) -> None:
    """Before the source has stopped the guest."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        for iommufd in WAYS:
            source = guests.vm(here, iommufd=iommufd)
            outcome = check_source_keeps_the_guest(guests, source, there, "target",
                                                   f"RESUMING={errno.EIO}", iommufd)
            assert not outcome.stopped, outcome
            source.quit()


def test_target_refuses_to_run(a: Host, b: Host) -> None:
    """The source does not learn of it: QEMU at the destination resets the device and runs the
    guest. So the driver refuses in write(), which fails the migration."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        for iommufd, state in zip(WAYS, ("RUNNING_P2P", "RUNNING"), strict=True):
            source = guests.vm(here, iommufd=iommufd, wait=False)
            target = guests.vm(there, incoming=True, iommufd=iommufd)
            outcome = migrate_with_faults(source, target, target, f"{state}={errno.EINVAL}")
            assert outcome.completed, outcome
            assert f"Failed setting device state to {state}" in target.log(), target.log()
            assert source.status() == "postmigrate", source.status()
            assert here.state() == "STOP", here.state()
            check_running(target)
            source.quit()
            target.quit()


def test_stop_refused_at_the_end_of_qemu(a: Host) -> None:
    """QEMU 10.0 aborts: it stores the error in a migration state that is gone. The guest has ended
    before, and the kernel takes the device back."""
    with Guests() as guests:
        mdev = guests.mdev(a, AP)
        for iommufd, state in zip(WAYS, ("RUNNING_P2P", "STOP"), strict=True):
            vm = guests.vm(mdev, iommufd=iommufd)
            injector = vm.inject(f"{state}={errno.EINVAL}")
            try:
                vm.quit()
            except QemuError as error:
                assert "mutex->initialized" in str(error), error
            else:
                raise AssertionError("QEMU ended in order")
            assert f"injected {state}" in injector.wait(STEP, check=False).out
            assert mdev.state() == "RUNNING", mdev.state()


def test_postcopy_is_refused(a: Host, b: Host) -> None:
    """At the command, with the reason. Nothing happened then."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        for iommufd in WAYS:
            source = guests.vm(here, iommufd=iommufd, wait=False)
            target = guests.vm(there, incoming=True, iommufd=iommufd)
            source.set_capabilities(postcopy_ram=True)
            try:
                source.call("migrate", uri=f"tcp:{b.address}:1")
            except QemuError as error:
                assert "not supported with postcopy migration" in str(error), error
            else:
                raise AssertionError("QEMU migrates a device with postcopy")
            source.set_capabilities(postcopy_ram=False)
            assert here.state() == "RUNNING", here.state()
            outcome = migrate(source, target, *EARLY)
            assert outcome.completed, outcome
            check_running(target)
            source.quit()
            target.quit()


def test_reset_of_a_paused_guest(a: Host, b: Host) -> None:
    """VFIO_DEVICE_RESET brings the device to RUNNING, and QEMU takes it to be in STOP: it asks
    for the present state when the guest goes on. The guest migrates then."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        for iommufd in WAYS:
            source = guests.vm(here, iommufd=iommufd, wait=False)
            target = guests.vm(there, incoming=True, iommufd=iommufd)
            source.call("stop")
            assert here.state() == "STOP", here.state()
            source.call("system_reset")
            source.wait(lambda: source.events("RESET") or None, "RESET")
            assert here.state() == "RUNNING", here.state()
            source.call("cont")
            check_running(source)
            outcome = migrate(source, target, *EARLY)
            assert outcome.completed, outcome
            check_running(target)
            source.quit()
            target.quit()


def refuse_early(source: Vm, target: Vm) -> tuple[str, str]:
    """Another card at the destination."""
    with ap_control.replaced(target.host, "05:13c"):
        outcome = migrate(source, target, *EARLY)
    assert not outcome.stopped, outcome
    return outcome.source, outcome.target


def fail_midway(source: Vm, target: Vm, fail: Callable[[], object]) -> tuple[str, str]:
    """A failure when the source has stopped the guest."""
    migration = Migration(source, target, *EARLY, "pause-before-switchover")
    migration.wait(source, MIDWAY)
    fail()
    migration.continue_paused()
    outcome = migration.outcome()
    assert outcome.stopped, outcome
    return outcome.source, outcome.target


def lose_a_card(host: Host) -> None:
    """The card is back at once; the session has ended."""
    with ap_control.pulled(host, "06"):
        pass


def test_failures_with_iommufd(a: Host, b: Host) -> None:
    """As other tests with a container: refused before and after the source has stopped, a
    card lost at the source, cancelled. One guest survives all of it, and migrates."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, iommufd=True)
        attempts: tuple[tuple[Callable[[Vm], tuple[str, str]], str], ...] = (
            (lambda target: refuse_early(source, target), "failed"),
            (lambda target: fail_midway(source, target, lambda: lose_a_card(b)), "failed"),
            (lambda target: fail_midway(source, target, lambda: lose_a_card(a)), "failed"),
            (lambda target: fail_midway(source, target, lambda: source.call("migrate_cancel")),
             "cancelled"))
        for attempt, expected in attempts:
            target = guests.vm(there, incoming=True, iommufd=True)
            assert attempt(target) == (expected, "failed"), source.migration()
            check_running(source)
            assert target.status() == "inmigrate", target.status()
            target.quit()
            assert there.state() == "RUNNING", there.state()
        target = guests.vm(there, incoming=True, iommufd=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        check_running(target)


def long_reset_fails_in_recovery(a: Host, b: Host) -> None:
    """A driver that refuses STOP_COPY and then does not reset the device either: QEMU aborts, as
    the device is in no known state. The guest is lost, so the driver must never do so."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        assert source.mdev is not None
        injector = source.inject(f"STOP_COPY={errno.EINVAL}", f"RESET={errno.EIO}")
        migration = Migration(source, target, *EARLY)
        assert migration.wait(target, "failed", "completed") == "failed", target.migration()
        result = source.process.wait(STEP, check=False)
        assert result.rc and "Failed resetting device" in result.out, result
        assert "injected RESET" in injector.output(), injector.output()
        assert target.status() == "inmigrate", target.status()
        assert source.mdev.state() == "RUNNING", "a closed device keeps no state"
