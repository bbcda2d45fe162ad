# SPDX-License-Identifier: GPL-2.0
"""QEMU migrates a vfio-ap device between two hosts with equal cards."""

from __future__ import annotations

from lab.hosts import Host
from lab.qemu_client import GuestAp, Guests, KernelLog, Outcome, Vm, migrate

AP = GuestAp("05,06", "04,06")
# Header, CONFIG, HWINFO of two adapters, END, and what QEMU puts around them.
STREAM = 176


def check_arrived(source: Vm, target: Vm, outcome: Outcome) -> None:
    """Both sides completed; the kernel's states are those of guests that do not run."""
    assert source.mdev is not None and target.mdev is not None
    assert outcome.completed, outcome
    assert outcome.device_bytes == STREAM, outcome.info
    assert source.status() == "postmigrate", source.status()
    assert target.status() in ("prelaunch", "paused"), target.status()
    assert source.mdev.state() == "STOP"
    # QEMU leaves RESUMING when the guest is started.
    assert target.mdev.state() == "RESUMING"
    for mdev in (source.mdev, target.mdev):
        assert mdev.matrix() == mdev.guest_matrix() == AP.matrix(), mdev.matrix()


def test_completes(a: Host, b: Host) -> None:
    """The usual way: with a return path, by which the source learns how it ended."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        log = KernelLog(b)
        check_arrived(source, target, migrate(source, target, "return-path"))
        states = [[str(e.data["device-state"]) for e in vm.events("VFIO_MIGRATION")]
                  for vm in (source, target)]
        # The guest never ran: QEMU goes from RUNNING to STOP_COPY in one step.
        assert states == [["stop-copy", "stop"], ["resuming"]], states
        assert not log.differences()
        for vm in (source, target):
            vm.quit()
        assert source.mdev is not None
        assert source.mdev.state() == "RUNNING", "a closed device keeps no state"


def test_completes_without_return_path(a: Host, b: Host) -> None:
    """The source has no way to hear from the destination."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        check_arrived(source, target, migrate(source, target))


def test_completes_with_multifd(a: Host, b: Host) -> None:
    """The device state goes through a channel of its own, written by a thread."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        outcome = migrate(source, target, "return-path", "multifd")
        assert outcome.completed, outcome
        assert target.mdev is not None and target.mdev.state() == "RESUMING"


def test_goes_back(a: Host, b: Host) -> None:
    """To b, and from there, out of RESUMING, back to a: with the same devices."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here)
        target = guests.vm(there, incoming=True)
        check_arrived(source, target, migrate(source, target, "return-path"))
        source.quit()
        again = guests.vm(here, incoming=True)
        check_arrived(target, again, migrate(target, again, "return-path"))


def test_control_domains_of_their_own(a: Host, b: Host) -> None:
    """A guest may control domains that it does not use."""
    ap = GuestAp("06", "04", cdomains="06,47")
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, ap))
        target = guests.vm(guests.mdev(b, ap), incoming=True)
        outcome = migrate(source, target, "return-path")
        assert outcome.completed, outcome
