# SPDX-License-Identifier: GPL-2.0
"""QEMU 10.0.2, which the users of Debian 12 have, beside the newer one."""

from __future__ import annotations

import errno

from lab.guest import ap_control as cards
from lab.guest.counters import GUEST
from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host
from lab.image import roots

AP = GuestAp("05,06", "04,06")
# The newest type of machine that both versions have.
MACHINE = "s390-ccw-virtio-10.0"
NEW = "qemu-system-s390x"
ENOUGH = 10


def go(guests: Guests, source: Vm, there: Host, program: str) -> Vm:
    """Migrate a guest that uses its queues; it goes on with them. The QEMU that has it now."""
    before = source.wait_answered(ENOUGH)
    target = guests.vm(guests.mdev(there, AP), incoming=True, kernel=GUEST, program=program,
                       machine=MACHINE)
    outcome = migrate(source, target, *EARLY)
    assert outcome.completed, outcome
    assert outcome.device_bytes > 0, outcome
    after = target.wait_answered(ENOUGH, since=before)
    assert after.answered_since(before) >= ENOUGH, after
    source.quit()
    assert source.mdev is not None
    guests.remove(source.mdev)
    return target


def long_migrates_to_and_fro(a: Host, b: Host) -> None:
    """Between two of it, and from it to the newer one and back."""
    old = roots.old_qemu(a.flavour)
    with Guests() as guests:
        vm = guests.vm(guests.mdev(a, AP), kernel=GUEST, program=old, machine=MACHINE)
        assert "QEMU 10.0.2" in vm.log(), vm.log()
        for there, program in ((b, old), (a, NEW), (b, NEW), (a, old)):
            vm = go(guests, vm, there, program)
        vm.call("stop")
        counters = vm.counters()
        assert counters is not None and not counters.faults(), counters


def long_refuses_another_card(a: Host, b: Host) -> None:
    """A card that differs is found before the source has stopped the guest, which runs on."""
    old = roots.old_qemu(a.flavour)
    spec = cards.of_profile(b, "06").replace(":14", ":13")
    with cards.replaced(b, spec), Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), kernel=GUEST, program=old, wait=False)
        target = guests.vm(guests.mdev(b, AP), kernel=GUEST, program=old, incoming=True)
        before = source.wait_answered(ENOUGH)
        outcome = migrate(source, target, *EARLY)
        assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
        assert names_errno(outcome.target_error or target.log(), errno.EXDEV), outcome
        assert not outcome.stopped, outcome
        source.wait_answered(ENOUGH, since=before)


def long_held_off(a: Host) -> None:
    """`migratable` blocks it there, too."""
    old = roots.old_qemu(a.flavour)
    with Guests() as guests:
        mdev = guests.mdev(a, AP, migratable=False)
        vm = guests.vm(mdev, program=old)
        assert len(vm.blockers()) == 1, vm.blockers()
        mdev.set_migratable(True)
        vm.wait_log(": migratable\n")
        assert not vm.blockers(), vm.blockers()
