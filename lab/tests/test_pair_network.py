# SPDX-License-Identifier: GPL-2.0
"""The network between the hosts fails during a migration.

QEMU does not notice for as long as TCP is patient. The management makes it give up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lab.guest.ap_control import simulated
from lab.guest.counters import GUEST
from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, MIDWAY, Migration, migrate
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
ENOUGH = 10


@contextlib.contextmanager
def link_down(host: Host) -> Iterator[None]:
    """The cable of the host's link to the other one is pulled for a while."""
    device = host.run(f"ip -o -4 address show to {host.address}").out.split()[1]
    host.run(f"ip link set {device} down")
    try:
        yield
    finally:
        host.run(f"ip link set {device} up")


def check_one_side(source: Vm, target: Vm) -> None:
    """The guest does not run at the destination, and can go on at the source."""
    assert source.mdev is not None and target.mdev is not None
    assert source.status() == "running", source.status()
    assert source.mdev.state() == "RUNNING", source.mdev.state()
    assert target.status() == "inmigrate", target.status()
    assert target.mdev.state() == "RESUMING", target.mdev.state()


def check_works(vm: Vm) -> None:
    """Each queue interrupts its guest, which goes on and has missed nothing."""
    queues = simulated(vm.host, *AP.matrix())
    assert [queue["irq"] for queue in queues.values()] == [1] * len(queues), queues
    vm.wait_answered(ENOUGH, since=vm.wait_answered(0))
    counters = vm.stopped_counters()
    assert not counters.faults(), counters
    vm.call("cont")


def end_destination(target: Vm) -> None:
    """The management ends the destination before the network is back: TCP then delivers all that
    the source has sent. If the last bytes of the stream are among it, the guest would run there,
    too."""
    assert target.status() == "inmigrate", target.status()
    target.quit()


def check_second_migration(guests: Guests, source: Vm, target: Vm) -> None:
    """A second migration of the same guest succeeds."""
    assert target.mdev is not None
    again = guests.vm(target.mdev, incoming=True, kernel=GUEST)
    outcome = migrate(source, again, *EARLY)
    assert outcome.completed, outcome
    check_works(again)


def long_cut_in_pre_copy(a: Host, b: Host) -> None:
    """While the guest has not been stopped; it does not notice. The user cancels."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST, wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        source.wait_answered(ENOUGH)
        source.forbid_switchover()
        migration = Migration(source, target, *EARLY)
        migration.wait_device(source, "pre-copy")
        migration.wait_device(target, "resuming")
        with link_down(b):
            source.call("migrate_cancel")
            migration.wait(source, "cancelled", "failed", "completed")
            assert source.migration()["status"] == "cancelled", source.migration()
            assert "stop" not in "".join(migration.device_states(source))
            check_one_side(source, target)
            check_works(source)
            end_destination(target)
        source.allow_switchover()
        check_second_migration(guests, source, target)


def test_cut_midway(a: Host, b: Host) -> None:
    """When the guest is stopped, and its last state is on its way: it runs nowhere until the
    connection is yanked; then it goes on at the source."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST, wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True, kernel=GUEST)
        source.wait_answered(ENOUGH)
        migration = Migration(source, target, *EARLY, "pause-before-switchover")
        migration.wait(source, MIDWAY)
        with link_down(b):
            migration.continue_paused()
            # QEMU's main loop waits for the thread that writes: only out-of-band commands work.
            migration.wait(source, "device", "failed", "completed")
            assert target.status() == "inmigrate", target.status()
            source.call("yank", oob=True, instances=[{"type": "migration"}])
            assert migration.wait(source, "failed", "completed") == "failed", source.migration()
            source.wait(lambda: source.events("RESUME") or None, "RESUME")
            check_one_side(source, target)
            check_works(source)
            end_destination(target)
        check_second_migration(guests, source, target)
