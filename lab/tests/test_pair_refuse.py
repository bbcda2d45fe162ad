# SPDX-License-Identifier: GPL-2.0
"""A destination with other AP resources than the source refuses, and the guest stays.

With switchover-ack it does so before the source stops the guest. Most tests migrate one guest
several times: refused by destinations that differ, at last taken by one that does not. So each
refusal is also shown to leave the source as it was.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from lab.guest import ap_control
from lab.guest.kernel_log import KernelLog
from lab.guest.mdev import GuestAp, Mdev
from lab.guest.migration import EARLY, Migration, Outcome, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# AP without card 06.
LESS = GuestAp("05", "04,06")
# QEMU's tracepoint of an answer of the destination to EARLY.
ACKED = "source_return_path_thread_switchover_acked"


def check_intact(source: Vm, ap: GuestAp = AP) -> None:
    """The guest can go on at the source, with the rest of its queues."""
    assert source.mdev is not None
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.matrix() == AP.matrix(), source.mdev.matrix()
    assert source.mdev.guest_matrix() == ap.matrix(), source.mdev.guest_matrix()
    assert source.process.poll() is None


def check_differences(mdev: Mdev, log: KernelLog, line: str) -> None:
    """The destination's kernel logs the failed session once, with the first difference."""
    said = log.failures(mdev)
    assert said == [line], f"expected: {line}, seen: {said}"


def check_refused(outcome: Outcome, log: KernelLog, mdev: Mdev, line: str) -> None:
    """Both sides failed; errno and kernel log give the reason."""
    assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
    assert names_errno(outcome.target_error, errno.ENXIO), outcome.target_error
    check_differences(mdev, log, line)


def check_early(outcome: Outcome, source: Vm) -> None:
    """The source never stopped the guest: its device was in PRE_COPY and in RUNNING again."""
    assert source.mdev is not None
    assert not outcome.stopped, outcome
    assert outcome.states == ["pre-copy", "running"], outcome.states


def try_migration(guests: Guests, source: Vm, mdev: Mdev,
                  check: Callable[[Outcome, KernelLog, Mdev], None], *capabilities: str) -> Outcome:
    """Migrate the source to a new VM with that device, check, end the VM."""
    target = guests.vm(mdev, incoming=True)
    log = KernelLog(mdev.host)
    outcome = migrate(source, target, *(capabilities or EARLY))
    check(outcome, log, mdev)
    target.quit()
    assert mdev.state() == "RUNNING", "a closed device keeps no state"
    return outcome


def check_arrived(outcome: Outcome, log: KernelLog, mdev: Mdev) -> None:
    """For try_migration(): the destination took the guest."""
    assert outcome.completed, outcome
    assert mdev.state() == "RUNNING"
    assert not log.failures(mdev)


def refused_with(line: str) -> Callable[[Outcome, KernelLog, Mdev], None]:
    """For try_migration(): the destination refused with this message."""
    def check(outcome: Outcome, log: KernelLog, mdev: Mdev) -> None:
        check_refused(outcome, log, mdev, line)
        assert mdev.state() == "RESUMING"
    return check


def test_assignment_differs(a: Host, b: Host) -> None:
    """Adapters, domains and control domains of the destination's device: -ENXIO."""
    cases = [
        (GuestAp("05", "04,06"), "adapter 06: assigned on the source only"),
        (GuestAp("05,06,0a", "04,06"), "adapter 0a: assigned here only"),
        (GuestAp("05,06", "04,47", cdomains="04,06"),
         "domain 0006: assigned on the source only (1 more difference)"),
        (GuestAp("05,06", "04,06", cdomains="04"),
         "control domain 0006: assigned on the source only"),
    ]
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        for ap, line in cases:
            mdev = guests.mdev(b, ap)
            outcome = try_migration(guests, source, mdev, refused_with(line))
            guests.remove(mdev)
            check_early(outcome, source)
            check_intact(source)
        try_migration(guests, source, guests.mdev(b, AP), check_arrived)


def test_card_differs(a: Host, b: Host) -> None:
    """Type, mode and queue depth of the destination's card: -ENXIO."""
    assert ap_control.of_profile(b, "05") == "05:14c", "the cases below start from that"
    cases = [
        ("05:13c", "adapter 05: type 14 on the source, 13 here"),
        ("05:14p", "adapter 05: mode cca on the source, ep11 here"),
        ("05:14c:qd=3", "adapter 05: queue depth 7 on the source, 3 here"),
    ]
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        for spec, line in cases:
            with ap_control.replaced(b, spec):
                outcome = try_migration(guests, source, mdev, refused_with(line))
            check_early(outcome, source)
            check_intact(source)
        # A deeper queue is no reason to refuse.
        with ap_control.replaced(b, "05:14c:qd=15"):
            try_migration(guests, source, mdev, check_arrived)


def test_without_switchover_ack(a: Host, b: Host) -> None:
    """QEMU may have stopped the guest by the time the refusal arrives; it goes on then."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        with ap_control.replaced(b, "05:13c"):
            outcome = try_migration(guests, source, mdev,
                                    refused_with("adapter 05: type 14 on the source, 13 here"),
                                    "return-path")
        assert outcome.states[0] == "pre-copy" and outcome.states[-1] == "running", outcome
        check_intact(source)
        try_migration(guests, source, mdev, check_arrived, "return-path")


def test_without_return_path(a: Host, b: Host) -> None:
    """The source cannot learn of it and may take the migration for completed; the destination
    does not run the guest. (As QEMU documents: the management has to use a return path.)"""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        with ap_control.replaced(b, "05:13c"):
            target = guests.vm(guests.mdev(b, AP), incoming=True)
            assert target.mdev is not None
            log = KernelLog(b)
            outcome = migrate(source, target)
            assert outcome.target == "failed", outcome
            assert names_errno(outcome.target_error, errno.ENXIO), outcome.target_error
            check_differences(target.mdev, log, "adapter 05: type 14 on the source, 13 here")
            assert target.status() == "inmigrate", target.status()


def test_with_multifd(a: Host, b: Host) -> None:
    """The configuration does not wait for multifd: it crosses in pre-copy."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        with ap_control.replaced(b, "05:13c"):
            outcome = try_migration(guests, source, mdev,
                                    refused_with("adapter 05: type 14 on the source, 13 here"),
                                    *EARLY, "multifd")
        check_early(outcome, source)
        check_intact(source)


def test_source_loses_a_card(a: Host, b: Host) -> None:
    """After the destination has agreed, while the guest runs: the source's session ends, and the
    guest goes on there without the card. A second migration sends the guest's present queues."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), trace=(ACKED,), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        assert source.mdev is not None and target.mdev is not None
        log = KernelLog(a)
        source.forbid_switchover()
        migration = Migration(source, target, *EARLY)
        source.wait_log(ACKED)
        with ap_control.pulled(a, "06"):
            source.allow_switchover()
            outcome = migration.outcome()
            assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
            assert names_errno(outcome.source_error, errno.ECANCELED), outcome.source_error
            assert log.failures(source.mdev) == ["the host changed the AP configuration"]
            check_intact(source, LESS)
            target.quit()
            guests.remove(target.mdev)
            # A device that has no more than that takes the guest as it is now.
            try_migration(guests, source, guests.mdev(b, LESS), check_arrived)
            source.quit()
