# SPDX-License-Identifier: GPL-2.0
"""A destination that is not what the source's guest has refuses, and the guest stays.

Each test migrates one guest several times: refused by destinations that differ, at last taken by
one that does not. So each refusal is also shown to leave the source as it was.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from lab import cards
from lab.hosts import Host
from lab.qemu_client import (GuestAp, Guests, KernelLog, Mdev, Outcome, Vm, migrate,
                             names_errno)

AP = GuestAp("05,06", "04,06")


def check_intact(source: Vm) -> None:
    """The guest can go on at the source."""
    assert source.mdev is not None
    assert source.status() in ("prelaunch", "paused"), source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert source.mdev.matrix() == source.mdev.guest_matrix() == AP.matrix()
    assert source.process.poll() is None


def check_refused(outcome: Outcome, log: KernelLog, number: int, lines: list[str]) -> None:
    """Both sides failed; errno and kernel messages say why, and nothing else."""
    assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
    assert names_errno(outcome.target_error, number), outcome.target_error
    said = log.differences()
    assert said == lines, f"expected: {lines}, seen: {said}"


def attempt(guests: Guests, source: Vm, mdev: Mdev, capabilities: tuple[str, ...],
            check: Callable[[Outcome, KernelLog, Mdev], None]) -> None:
    """Migrate the source to a new VM with that device, check, end the VM."""
    target = guests.vm(mdev, incoming=True)
    log = KernelLog(mdev.host)
    outcome = migrate(source, target, *capabilities)
    check(outcome, log, mdev)
    target.quit()
    assert mdev.state() == "RUNNING", "a closed device keeps no state"


def arrived(outcome: Outcome, log: KernelLog, mdev: Mdev) -> None:
    """For attempt(): the destination took the guest."""
    assert outcome.completed, outcome
    assert mdev.state() == "RESUMING"
    assert not log.differences()


def refused(number: int, *lines: str) -> Callable[[Outcome, KernelLog, Mdev], None]:
    """For attempt(): the destination refused with this errno and these messages."""
    def check(outcome: Outcome, log: KernelLog, mdev: Mdev) -> None:
        check_refused(outcome, log, number, list(lines))
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
            attempt(guests, source, mdev, ("return-path",), refused(errno.ENXIO, *lines))
            guests.remove(mdev)
            check_intact(source)
        attempt(guests, source, guests.mdev(b, AP), ("return-path",), arrived)


def test_card_differs(a: Host, b: Host) -> None:
    """Type, mode and queue depth of the destination's card: -EXDEV."""
    assert cards.of_profile(b, "05") == "05:14c", "the cases below start from that"
    cases = [
        ("05:13c", "adapter 05 at: source 14 here 13"),
        ("05:14p", "adapter 05 mode: source cca here ep11"),
        ("05:14c:qd=3", "adapter 05 qd: source 7 here 3"),
    ]
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        mdev = guests.mdev(b, AP)
        for spec, line in cases:
            with cards.replaced(b, spec):
                attempt(guests, source, mdev, ("return-path",), refused(errno.EXDEV, line))
            check_intact(source)
        # A deeper queue is no reason to refuse.
        with cards.replaced(b, "05:14c:qd=15"):
            attempt(guests, source, mdev, ("return-path",), arrived)


def test_without_return_path(a: Host, b: Host) -> None:
    """The source cannot learn of it and takes the migration for completed; the destination does
    not run the guest. (So says QEMU: whoever manages it has to use a return path.)"""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        with cards.replaced(b, "05:13c"):
            target = guests.vm(guests.mdev(b, AP), incoming=True)
            log = KernelLog(b)
            outcome = migrate(source, target)
            assert outcome.target == "failed", outcome
            assert names_errno(outcome.target_error, errno.EXDEV), outcome.target_error
            assert log.differences() == ["adapter 05 at: source 14 here 13"]
            assert target.status() == "inmigrate", target.status()


def test_with_multifd(a: Host, b: Host) -> None:
    """The write fails in a thread of QEMU that loads the device state."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        with cards.replaced(b, "05:13c"):
            target = guests.vm(guests.mdev(b, AP), incoming=True)
            log = KernelLog(b)
            outcome = migrate(source, target, "return-path", "multifd")
            assert outcome.target == "failed", outcome
            assert log.differences() == ["adapter 05 at: source 14 here 13"]
            assert target.status() == "inmigrate", target.status()
