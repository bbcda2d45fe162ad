# SPDX-License-Identifier: GPL-2.0
"""Actions of administrators around a migration: files, changes while guests run, a driver that is
loaded anew, hosts that are set up in different ways."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from lab.common import config
from lab.guest import ap_control
from lab.guest.counters import GUEST
from lab.guest.kernel_log import KernelLog
from lab.guest.mdev import MDEV_TYPE, GuestAp, Mdev
from lab.guest.migration import EARLY, FINAL, Migration, Outcome, migrate
from lab.guest.qmp import names_errno
from lab.guest.vm import Guests, Vm
from lab.host.host import Host
from lab.host.profile import mask

AP = GuestAp("05,06", "04,06")
# With one domain more.
MORE = GuestAp("05,06", "04,06,47", cdomains="04,06")
CHANGED = "the host changed the AP configuration"
ENOUGH = 10
FILE = "guest.state"
CLIENT = f"/lab/selftests/{config.SELFTEST}/vfio_ap_client"
UUID = "0be70000-0000-4000-8000-0000000000ad"


def check_running(vm: Vm, ap: GuestAp = AP) -> None:
    """QEMU runs the guest, and the kernel has its device in RUNNING with these queues."""
    assert vm.mdev is not None
    assert vm.status() == "running", vm.status()
    assert vm.mdev.state() == "RUNNING", vm.mdev.state()
    assert vm.mdev.guest_matrix() == ap.matrix(), vm.mdev.guest_matrix()


# Files

def save(vm: Vm) -> None:
    """Migrate the guest to FILE; its QEMU does not run it any more."""
    first = len(vm.events())
    vm.call("migrate", uri=f"file:/lab/results/{FILE}")
    assert vm.wait_migration(*FINAL, since=first) == "completed", vm.migration()
    assert vm.mdev is not None and vm.mdev.state() == "STOP", vm.mdev


def load(vm: Vm) -> str:
    """Load the guest from FILE; the state in which the migration ends."""
    vm.call("migrate-incoming", uri=f"file:/lab/results/{FILE}", exit_on_error=False)
    return vm.wait_migration(*FINAL)


def test_file_is_loaded_twice(a: Host, b: Host) -> None:
    """Where it was saved and on the other host; in both the guest's queues go on."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, kernel=GUEST)
        source.wait_answered(ENOUGH)
        save(source)
        saved = source.counters()
        source.quit()
        b.path(FILE).write_bytes(a.path(FILE).read_bytes())
        for mdev in (here, there):
            vm = guests.vm(mdev, incoming=True, kernel=GUEST)
            assert load(vm) == "completed", vm.migration()
            vm.wait_answered(ENOUGH, since=saved)
            check_running(vm)
            counters = vm.stopped_counters()
            assert not counters.faults(), counters
            vm.quit()
        for host in (a, b):
            host.path(FILE).unlink()


def test_file_is_refused_by_other_hardware(a: Host, b: Host) -> None:
    """With the reason; the file can be loaded where the hardware fits."""
    with Guests() as guests:
        there = guests.mdev(b, AP)
        source = guests.vm(guests.mdev(a, AP))
        save(source)
        source.quit()
        b.path(FILE).write_bytes(a.path(FILE).read_bytes())
        with ap_control.replaced(b, "05:13c"):
            log = KernelLog(b)
            vm = guests.vm(there, incoming=True)
            assert load(vm) == "failed", vm.migration()
            assert names_errno(vm.migration()["error-desc"], errno.ENXIO), vm.migration()
            assert log.failures(there) == ["adapter 05: type 14 on the source, 13 here"]
            assert vm.status() == "inmigrate", vm.status()
            vm.quit()
        vm = guests.vm(there, incoming=True)
        assert load(vm) == "completed", vm.migration()
        check_running(vm)
        for host in (a, b):
            host.path(FILE).unlink()


# Changes while guests run

def test_domain_is_added_on_both_hosts(a: Host, b: Host) -> None:
    """A guest gets a domain while it runs, its destination while it waits: the guest takes it
    along, and back. Without the domain on the destination it is refused."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        assert not here.store("assign_domain", "0x47")
        check_running(source, MORE)
        log = KernelLog(b)
        outcome = migrate(source, target, *EARLY)
        assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
        assert log.failures(there) == ["domain 0047: assigned on the source only"], log.of(there)
        target.quit()
        target = guests.vm(there, incoming=True)
        assert not there.store("assign_domain", "0x47")
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        check_running(target, MORE)
        source.quit()
        again = guests.vm(here, incoming=True)
        outcome = migrate(target, again, *EARLY)
        assert outcome.completed, outcome
        check_running(again, MORE)


def change_in_pre_copy(source: Vm, target: Vm, changed: Mdev) -> Outcome:
    """A migration whose one side gets a domain while the guest runs and the states wait."""
    assert source.mdev is not None and target.mdev is not None
    source.forbid_switchover()
    migration = Migration(source, target, *EARLY)
    migration.wait_device(source, "pre-copy")
    migration.wait_device(target, "resuming")
    assert (source.mdev.state(), target.mdev.state()) == ("PRE_COPY", "RESUMING")
    assert not changed.store("assign_domain", "0x47")
    # QEMU at the source reads, and fails, all the time; the destination waits for data.
    assert target.mdev.state() == "RESUMING", target.mdev.state()
    source.allow_switchover()
    outcome = migration.outcome()
    assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
    return outcome


def test_source_is_changed_in_pre_copy(a: Host, b: Host) -> None:
    """The administrator's change goes through and ends the session; the guest has its domain at
    once, and migrates when the destination has it, too."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        log = KernelLog(a)
        outcome = change_in_pre_copy(source, target, here)
        assert names_errno(outcome.source_error, errno.ECANCELED), outcome
        assert log.failures(here) == [CHANGED], log.of(here)
        check_running(source, MORE)
        target.quit()
        assert not there.store("assign_domain", "0x47")
        target = guests.vm(there, incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        check_running(target, MORE)


def test_target_is_changed_in_pre_copy(a: Host, b: Host) -> None:
    """The guest stays as it is, and migrates when the change is taken back."""
    with Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, wait=False)
        target = guests.vm(there, incoming=True)
        log = KernelLog(b)
        outcome = change_in_pre_copy(source, target, there)
        assert names_errno(outcome.target_error, errno.ECANCELED), outcome
        assert log.failures(there) == [CHANGED], log.of(there)
        check_running(source)
        target.quit()
        assert not there.store("unassign_domain", "0x47")
        target = guests.vm(there, incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        check_running(target)


def test_dirty_rate_and_reset(a: Host, b: Host) -> None:
    """QEMU logs dirty pages to measure a rate, and the machine is reset: the log of the device's
    DMA goes on. The guest migrates afterwards."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP), wait=False)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        source.call("calc-dirty-rate", calc_time=2, mode="dirty-bitmap")
        source.call("system_reset")
        source.wait(lambda: source.events("RESET") or None, "RESET")
        status = source.wait(lambda: next(
            (s for s in [str(source.call("query-dirty-rate")["status"])] if s != "measuring"),
            None), "a dirty rate")
        assert status == "measured", status
        assert "DMA logging" not in source.log(), source.log()
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        check_running(target)


# The driver and the hosts

def test_target_starts_over(a: Host, b: Host) -> None:
    """After a refusal the destination's QEMU is killed, its device removed, and the driver unloaded
    and loaded: a new device takes the guest."""
    with Guests() as guests:
        source = guests.vm(guests.mdev(a, AP))
        there = guests.mdev(b, GuestAp("05", "04,06"))
        target = guests.vm(there, incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert (outcome.source, outcome.target) == ("failed", "failed"), outcome
        assert there.state() == "RESUMING", there.state()
        target.kill()
        guests.remove(there)
        b.run("set -e\nrmmod vfio_ap\nmodprobe vfio_ap")
        check_running(source)
        target = guests.vm(guests.mdev(b, AP), incoming=True)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        check_running(target)


def test_device_is_opened_while_it_is_created(a: Host) -> None:
    """A user that waits for the device opens it as soon as it can, before anything is assigned.
    Another device is changed all the time, so that the new one waits for locks when it is
    registered. It is usable and gets the resources that are assigned to it."""
    device = f"/sys/bus/mdev/devices/{UUID}"
    with Guests() as guests:
        other = guests.mdev(a, GuestAp("06", "06"))
        try:
            a.run(f"""set -e
while :; do echo 0x47 >{other.path}/assign_domain; echo 0x47 >{other.path}/unassign_domain; done &
changer=$!
trap 'kill $changer' EXIT
for way in "" -c; do for turn in 1 2 3 4 5; do
        (until {CLIENT} $way info {UUID}; do :; done) >/tmp/opened 2>/dev/null &
        opener=$!
        echo {UUID} >{MDEV_TYPE}/create
        echo 5 >{device}/assign_adapter
        echo 4 >{device}/assign_domain
        wait $opener
        grep -q 'state RUNNING' /tmp/opened
        [ "$(cat {device}/guest_matrix)" = 05.0004 ]
        echo 1 >{device}/remove
done; done
""")
        finally:
            if a.alive:
                a.run(f"[ ! -e {device} ] || echo 1 >{device}/remove")


@contextmanager
def overrides(host: Host) -> Iterator[None]:
    """The host gives vfio_ap its queues by driver_override, and has no masks."""
    adapters = host.profile.vfio_adapters.split(",")
    queues = " ".join(f"/sys/bus/ap/devices/{apid}.*" for apid in adapters)
    host.run("set -e\ncd /sys/bus/ap\necho +0-255 >apmask\necho +0-255 >aqmask\n"
             f"for queue in {queues}; do\n"
             "\techo vfio_ap >$queue/driver_override\n"
             "\techo ${queue##*/} >$queue/driver/unbind\n"
             "\techo ${queue##*/} >drivers/vfio_ap/bind\n"
             "done")
    try:
        yield
    finally:
        if host.alive:
            host.run(f"set -e\ncd /sys/bus/ap\nfor queue in {queues}; do\n"
                     "\techo >$queue/driver_override\n"
                     "done\n"
                     f"echo {mask(host.profile.vfio_adapters)} >apmask\n"
                     f"for queue in {queues}; do\n"
                     "\t[ \"$(readlink $queue/driver | sed 's|.*/||')\" = vfio_ap ]\n"
                     "done")


def test_masks_here_and_overrides_there(a: Host, b: Host) -> None:
    """How a host gives its queues to vfio_ap is its own business: there and back."""
    with overrides(b), Guests() as guests:
        here, there = guests.mdev(a, AP), guests.mdev(b, AP)
        source = guests.vm(here, kernel=GUEST, wait=False)
        target = guests.vm(there, incoming=True, kernel=GUEST)
        left = source.wait_answered(ENOUGH)
        outcome = migrate(source, target, *EARLY)
        assert outcome.completed, outcome
        left = target.wait_answered(ENOUGH, since=left)
        check_running(target)
        source.quit()
        again = guests.vm(here, incoming=True, kernel=GUEST)
        outcome = migrate(target, again, *EARLY)
        assert outcome.completed, outcome
        again.wait_answered(ENOUGH, since=left)
        check_running(again)
