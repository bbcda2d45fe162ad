# SPDX-License-Identifier: GPL-2.0
"""QEMU migrates a vfio-ap device between two hosts with equal cards."""

from __future__ import annotations

from lab.guest.kernel_log import KernelLog
from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, LEFT, Outcome, migrate
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# Header, CONFIG and HWINFO of two adapters, END.
INITIAL = 8 + 8 + 96 + 8 + 2 * 16
STREAM = INITIAL + 8
# QEMU's tracepoint of an answer of the destination to EARLY.
ACKED = "source_return_path_thread_switchover_acked"


def check_arrived(source: Vm, target: Vm, outcome: Outcome, size: int = STREAM) -> None:
    """Both sides completed; the guest runs at the target and nowhere else."""
    assert source.mdev is not None and target.mdev is not None
    assert outcome.completed, outcome
    assert outcome.device_bytes == size, outcome.info
    assert outcome.states == LEFT, outcome.states
    assert source.status() == "postmigrate", source.status()
    assert target.status() == "running", target.status()
    assert source.mdev.state() == "STOP"
    assert target.mdev.state() == "RUNNING"
    for mdev in (source.mdev, target.mdev):
        assert mdev.matrix() == mdev.guest_matrix() == AP.matrix(), mdev.matrix()


def test_completes(a: Host, b: Host) -> None:
    """The usual way: the destination has agreed before the source stops the guest."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), trace=(ACKED,), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        assert source.mdev is not None and target.mdev is not None
        log = KernelLog(b)
        check_arrived(source, target, migrate(source, target, *EARLY))
        assert source.log().count(ACKED) == 1, source.log()
        states = [str(e.data["device-state"]) for e in target.events("VFIO_MIGRATION")]
        states = [state for state in states if not state.endswith("-prepare")]
        assert states == ["resuming", "running-p2p", "running"], states
        assert not log.failures(target.mdev)
        for vm in (source, target):
            vm.quit()
        assert source.mdev.state() == "RUNNING", "a closed device keeps no state"


def test_completes_with_return_path(a: Host, b: Host) -> None:
    """The source learns how it ended, but stops the guest without asking."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        check_arrived(source, target, migrate(source, target, "return-path"))


def test_completes_without_return_path(a: Host, b: Host) -> None:
    """The source has no way to hear from the destination."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        check_arrived(source, target, migrate(source, target))


def test_completes_with_multifd(a: Host, b: Host) -> None:
    """The rest after pre-copy goes through a channel of its own, written by a thread."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        outcome = migrate(source, target, *EARLY, "multifd")
        assert outcome.completed, outcome
        assert outcome.states == LEFT, outcome
        assert target.mdev is not None and target.mdev.state() == "RUNNING"


def test_goes_back(a: Host, b: Host) -> None:
    """To b, and from there back to a: with the same devices."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        check_arrived(source, target, migrate(source, target, *EARLY))
        source.quit()
        again = guests.vm(here, incoming=True)
        check_arrived(target, again, migrate(target, again, *EARLY))


def test_paused_guest(a: Host, b: Host) -> None:
    """A guest that was never started, to b and back to a."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, started=False, wait=False)
        target = guests.vm(there, incoming=True, started=False)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        assert outcome.device_bytes == STREAM, outcome.info
        assert outcome.states == ["pre-copy", "stop-copy", "stop"], outcome.states
        assert target.status() in ("prelaunch", "paused"), target.status()
        # QEMU leaves RESUMING when the guest is started.
        assert there.state() == "RESUMING"
        source.quit()
        # QEMU begins no pre-copy in that state. It puts the device into RUNNING then, and the
        # stream is found to be complete.
        again = guests.vm(here, incoming=True)
        outcome = migrate(target, again, *EARLY)
        assert (outcome.source, outcome.states) == ("failed", ["running"]), outcome
        assert "Invalid device state" in outcome.source_error, outcome
        again.quit()
        again = guests.vm(here, incoming=True, started=False)
        outcome = migrate(target, again, *EARLY)
        assert outcome.completed, outcome
        again.quit()


def test_control_domains_of_their_own(a: Host, b: Host) -> None:
    """A guest may control domains that it does not use."""
    ap = GuestAp("06", "04", cdomains="06,47")
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, ap), wait=False)
        target = guests.vm(guests.mdev(b, ap), incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
