# SPDX-License-Identifier: GPL-2.0
"""QEMU migrates a vfio-ap device between two hosts with equal cards."""

from __future__ import annotations

from lab import cards
from lab.hosts import Host
from lab.qemu_client import (EARLY, MIDWAY, GuestAp, Guests, KernelLog, Migration, Outcome, Vm,
                             migrate)

AP = GuestAp("05,06", "04,06")
# Header, CONFIG and HWINFO of two adapters, END.
PAIR = 8 + 96 + 8 + 2 * 16
STREAM = 16 + PAIR + 16
# QEMU's tracepoint of an answer of the destination to EARLY.
ACKED = "source_return_path_thread_switchover_acked"


def check_arrived(source: Vm, target: Vm, outcome: Outcome, size: int = STREAM) -> None:
    """Both sides completed; the kernel's states are those of guests that do not run."""
    assert source.mdev is not None and target.mdev is not None
    assert outcome.completed, outcome
    assert outcome.device_bytes == size, outcome.info
    # The guest never ran: QEMU goes from PRE_COPY to STOP_COPY in one step.
    assert outcome.states == ["pre-copy", "stop-copy", "stop"], outcome.states
    assert source.status() == "postmigrate", source.status()
    assert target.status() in ("prelaunch", "paused"), target.status()
    assert source.mdev.state() == "STOP"
    # QEMU leaves RESUMING when the guest is started.
    assert target.mdev.state() == "RESUMING"
    for mdev in (source.mdev, target.mdev):
        assert mdev.matrix() == mdev.guest_matrix() == AP.matrix(), mdev.matrix()


def test_completes(a: Host, b: Host) -> None:
    """The usual way: the destination has agreed before the source stops the guest."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        assert source.mdev is not None and target.mdev is not None
        assert source.mdev.report().session == "none"
        log = KernelLog(b)
        check_arrived(source, target, migrate(source, target, *EARLY))
        states = [str(e.data["device-state"]) for e in target.events("VFIO_MIGRATION")]
        assert states == ["resuming"], states
        assert not log.differences()
        report = source.mdev.report()
        assert (report.session, report.status, report.reason) == ("saving", "ended",
                                                                  "completed"), report
        assert (report.error, report.published, report.differences) == (0, 0, ()), report
        assert report.opened_by.startswith("qemu-system-s39["), report
        report = target.mdev.report()
        assert (report.session, report.status, report.reason) == ("resuming", "open",
                                                                  "-"), report
        assert (report.error, report.differences) == (0, ()), report
        for vm in (source, target):
            vm.quit()
        assert source.mdev.state() == "RUNNING", "a closed device keeps no state"
        report = target.mdev.report()
        assert (report.status, report.reason) == ("ended", "device closed"), report


def test_completes_with_return_path(a: Host, b: Host) -> None:
    """The source learns how it ended, but stops the guest without asking."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        check_arrived(source, target, migrate(source, target, "return-path"))


def test_completes_without_return_path(a: Host, b: Host) -> None:
    """The source has no way to hear from the destination."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        check_arrived(source, target, migrate(source, target))


def test_completes_with_multifd(a: Host, b: Host) -> None:
    """What is left after pre-copy goes through a channel of its own, written by a thread."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        outcome = migrate(source, target, *EARLY, "multifd")
        assert outcome.completed, outcome
        assert outcome.states == ["pre-copy", "stop-copy", "stop"], outcome.states
        assert target.mdev is not None and target.mdev.state() == "RESUMING"


def test_goes_back(a: Host, b: Host) -> None:
    """To b, and from there back to a: with the same devices."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here)
        target = guests.vm(there, incoming=True)
        check_arrived(source, target, migrate(source, target, *EARLY))
        source.quit()
        # The device is in RESUMING until the guest is started, and QEMU begins no pre-copy
        # there. It puts the device into RUNNING then, and finds the stream to be complete.
        again = guests.vm(here, incoming=True)
        outcome = migrate(target, again, *EARLY)
        assert (outcome.source, outcome.states) == ("failed", ["running"]), outcome
        assert "Invalid device state" in outcome.source_error, outcome
        assert there.state() == "RUNNING", there.state()
        report = there.report()
        assert (report.session, report.reason, report.error) == ("resuming", "completed",
                                                                 0), report
        again.quit()
        again = guests.vm(here, incoming=True)
        check_arrived(target, again, migrate(target, again, *EARLY))


def test_control_domains_of_their_own(a: Host, b: Host) -> None:
    """A guest may control domains that it does not use."""
    ap = GuestAp("06", "04", cdomains="06,47")
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, ap))
        target = guests.vm(guests.mdev(b, ap), incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome


def test_card_comes_back(a: Host, b: Host) -> None:
    """The source's host loses a card and gets it again, after the destination has agreed and
    while QEMU cannot look: QEMU has to ask once more, as the initial bytes are others now."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), trace=(ACKED,))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        source.set_downtime(0)
        migration = Migration(source, target, *EARLY)
        source.wait_log(ACKED)
        with source.frozen(), cards.pulled(a, "06"):
            assert source.mdev is not None
            assert source.mdev.guest_matrix() == GuestAp("05", "04,06").matrix()
        assert migration.device_states(source) == ["pre-copy"]
        source.set_downtime()
        check_arrived(source, target, migration.outcome(), STREAM + PAIR)
        assert source.log().count(ACKED) == 2, source.log()
        assert source.mdev.report().published > 0, source.mdev.report()


def test_card_comes_back_midway(a: Host, b: Host) -> None:
    """The same when QEMU asks no more: the last pair of CONFIG and HWINFO, which counts, goes
    with the rest of the stream."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        migration = Migration(source, target, *EARLY, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        with cards.pulled(a, "06"):
            pass
        migration.go_on()
        check_arrived(source, target, migration.outcome(), STREAM + PAIR)
