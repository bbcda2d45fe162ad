# SPDX-License-Identifier: GPL-2.0
"""A destination that is not what the source's guest has refuses, and the guest stays.

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
from lab.guest.migration import EARLY, MIDWAY, Migration, Outcome, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# What a guest has of it without card 06.
LESS = GuestAp("05", "04,06")
# What the kernel says when write() fails with that errno.
REASONS = {errno.ENXIO: "the configurations differ", errno.EXDEV: "the hardware differs"}
# QEMU's tracepoint of an answer of the destination to EARLY.
ACKED = "source_return_path_thread_switchover_acked"


def check_intact(source: Vm, ap: GuestAp = AP) -> None:
    """The guest can go on at the source, with what is left of its queues."""
    assert source.mdev is not None
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.matrix() == AP.matrix(), source.mdev.matrix()
    assert source.mdev.guest_matrix() == ap.matrix(), source.mdev.guest_matrix()
    assert source.process.poll() is None


def check_differences(mdev: Mdev, log: KernelLog, number: int, lines: list[str]) -> None:
    """The destination's kernel names the differences and nothing else, in log and report."""
    said = log.differences()
    assert said == lines, f"expected: {lines}, seen: {said}"
    report = mdev.report()
    assert list(report.differences) == lines, report
    assert (report.session, report.error) == ("resuming", -number), report
    assert report.reason == REASONS[number], report
    assert any(REASONS[number] in line for line in log.of(mdev)), log.of(mdev)


def check_refused(outcome: Outcome, log: KernelLog, mdev: Mdev, number: int,
                  lines: list[str]) -> None:
    """Both sides failed; errno, kernel messages and report say why."""
    assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
    assert names_errno(outcome.target_error, number), outcome.target_error
    check_differences(mdev, log, number, lines)


def check_early(outcome: Outcome, source: Vm) -> None:
    """The source never stopped the guest: its device was in PRE_COPY and in RUNNING again."""
    assert source.mdev is not None
    assert not outcome.stopped, outcome
    assert outcome.states == ["pre-copy", "running"], outcome.states
    report = source.mdev.report()
    assert (report.session, report.status) == ("saving", "ended"), report
    assert report.reason == "left before the end of the stream", report


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
    assert not log.differences()


def refused_with(number: int, *lines: str) -> Callable[[Outcome, KernelLog, Mdev], None]:
    """For try_migration(): the destination refused with this errno and these messages."""
    def check(outcome: Outcome, log: KernelLog, mdev: Mdev) -> None:
        check_refused(outcome, log, mdev, number, list(lines))
        assert mdev.state() == "RESUMING"
    return check


def test_assignment_differs(a: Host, b: Host) -> None:
    """Adapters, domains and control domains of the destination's device: -ENXIO."""
    cases = [
        (GuestAp("05", "04,06"), ["adapter 06 assigned: source 1 here 0"]),
        (GuestAp("05,06,0a", "04,06"), ["adapter 0a assigned: source 0 here 1"]),
        (GuestAp("05,06", "04,47", cdomains="04,06"), ["domain 0006 assigned: source 1 here 0",
                                                       "domain 0047 assigned: source 0 here 1"]),
        (GuestAp("05,06", "04,06", cdomains="04"),
         ["control domain 0006 assigned: source 1 here 0"]),
    ]
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        for ap, lines in cases:
            mdev = guests.mdev(b, ap)
            outcome = try_migration(guests, source, mdev, refused_with(errno.ENXIO, *lines))
            guests.remove(mdev)
            check_early(outcome, source)
            check_intact(source)
        try_migration(guests, source, guests.mdev(b, AP), check_arrived)


def test_card_differs(a: Host, b: Host) -> None:
    """Type, mode and queue depth of the destination's card: -EXDEV."""
    assert ap_control.of_profile(b, "05") == "05:14c", "the cases below start from that"
    cases = [
        ("05:13c", "adapter 05 at: source 14 here 13"),
        ("05:14p", "adapter 05 mode: source cca here ep11"),
        ("05:14c:qd=3", "adapter 05 qd: source 7 here 3"),
    ]
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        for spec, line in cases:
            with ap_control.replaced(b, spec):
                outcome = try_migration(guests, source, mdev, refused_with(errno.EXDEV, line))
            check_early(outcome, source)
            check_intact(source)
        # A deeper queue is no reason to refuse.
        with ap_control.replaced(b, "05:14c:qd=15"):
            try_migration(guests, source, mdev, check_arrived)


def test_without_switchover_ack(a: Host, b: Host) -> None:
    """QEMU may have stopped the guest by the time it hears of the refusal; it goes on then."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        with ap_control.replaced(b, "05:13c"):
            outcome = try_migration(guests, source, mdev,
                                    refused_with(errno.EXDEV, "adapter 05 at: source 14 here 13"),
                                    "return-path")
        assert outcome.states[0] == "pre-copy" and outcome.states[-1] == "running", outcome
        check_intact(source)
        try_migration(guests, source, mdev, check_arrived, "return-path")


def test_without_return_path(a: Host, b: Host) -> None:
    """The source cannot learn of it and may take the migration for completed; the destination
    does not run the guest. (So says QEMU: whoever manages it has to use a return path.)"""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        with ap_control.replaced(b, "05:13c"):
            target = guests.vm(guests.mdev(b, AP), incoming=True)
            assert target.mdev is not None
            log = KernelLog(b)
            outcome = migrate(source, target)
            assert outcome.target == "failed", outcome
            assert names_errno(outcome.target_error, errno.EXDEV), outcome.target_error
            check_differences(target.mdev, log, errno.EXDEV, ["adapter 05 at: source 14 here 13"])
            assert target.status() == "inmigrate", target.status()


def test_with_multifd(a: Host, b: Host) -> None:
    """The configuration does not wait for multifd: it crosses in pre-copy."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        with ap_control.replaced(b, "05:13c"):
            outcome = try_migration(guests, source, mdev,
                                    refused_with(errno.EXDEV, "adapter 05 at: source 14 here 13"),
                                    *EARLY, "multifd")
        check_early(outcome, source)
        check_intact(source)


def test_source_loses_a_card(a: Host, b: Host) -> None:
    """After the destination has agreed, while the guest runs: the source publishes what is left,
    and the destination, which has the card, refuses that. The source never stops."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), trace=(ACKED,), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        assert source.mdev is not None and target.mdev is not None
        log = KernelLog(b)
        source.set_downtime(0)
        migration = Migration(source, target, *EARLY)
        source.wait_log(ACKED)
        with ap_control.pulled(a, "06"):
            outcome = migration.outcome()
            check_refused(outcome, log, target.mdev, errno.ENXIO,
                          ["adapter 06 assigned: source 0 here 1"])
            check_early(outcome, source)
            assert source.mdev.report().published > 0, source.mdev.report()
            check_intact(source, LESS)
            target.quit()
            guests.remove(target.mdev)
            # A device that has no more than that takes the guest as it is now.
            source.set_downtime()
            try_migration(guests, source, guests.mdev(b, LESS), check_arrived)
            source.quit()


def test_source_loses_a_card_midway(a: Host, b: Host) -> None:
    """The same with a guest that was not started, at the moment when its device is next."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), started=False, wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        assert source.mdev is not None and target.mdev is not None
        log = KernelLog(b)
        migration = Migration(source, target, "return-path", "pause-before-switchover")
        migration.wait(source, MIDWAY)
        with ap_control.pulled(a, "06"):
            migration.go_on()
            outcome = migration.outcome()
            check_refused(outcome, log, target.mdev, errno.ENXIO,
                          ["adapter 06 assigned: source 0 here 1"])
            # QEMU 10.0 ends its own part first, which leaves STOP_COPY, and then starts the device.
            assert outcome.states == ["pre-copy", "stop-copy", "stop", "running"], outcome.states
            assert source.mdev.guest_matrix() == LESS.matrix()
        source.call("cont")
        check_intact(source)
