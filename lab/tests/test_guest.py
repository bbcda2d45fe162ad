# SPDX-License-Identifier: GPL-2.0
"""A guest in QEMU uses its AP queues."""

from __future__ import annotations

import pathlib

from lab.common import config
from lab.guest.ap_control import simulate
from lab.guest.counters import GUEST, Counters
from lab.guest.mdev import GuestAp
from lab.guest.qmp import QemuError
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# Replies for each queue that show that all is well.
ENOUGH = 10
# LARL with the address of the counters, and something of the same length.
BEGINNING = bytes.fromhex("c0c000008000")
UNKNOWN = bytes.fromhex("b2ff00000707")
ENTRY = 0x20000
# In the prefix area: the program-interruption code, the address in the old PSW.
PGM_CODE = 0x8e
PGM_OLD_ADDRESS = 0x158
OPERATION_EXCEPTION = b"\x00\x01"


def check(counters: Counters, requeued: bool = False) -> None:
    """Each request was answered once, and none was lost."""
    assert not counters.faults(), counters
    assert bool(counters.requeued) == requeued, counters
    assert [queue.apqn for queue in counters.queues] == AP.matrix(), counters


def test_runs(a: Host) -> None:
    """It finds its queues, and each of its requests is answered once."""
    with Guests() as guests:
        vm = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        vm.wait_answered(ENOUGH)
        counters = vm.stopped_counters()
        check(counters)
        assert counters.interrupts >= counters.polls > 0, counters
        assert counters.aqic == len(AP.matrix()), counters
        assert vm.status() == "paused", vm.status()
        vm.quit()


def test_goes_on_after_a_pause(a: Host) -> None:
    """Replies that come during the pause are there afterwards."""
    with Guests() as guests:
        vm = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        for _ in range(3):
            number = vm.wait_answered(ENOUGH).answered
            before = vm.stopped_counters()
            assert vm.counters() == before, "it is stopped"
            vm.call("cont")
            vm.wait_answered(number + ENOUGH)
        check(vm.stopped_counters())


def test_begins_anew_after_a_reset(a: Host) -> None:
    """The program is loaded again, on queues that were reset."""
    with Guests() as guests:
        vm = guests.vm(guests.mdev(a, AP), kernel=GUEST)
        vm.wait_answered(ENOUGH)
        before = vm.stopped_counters()
        try:
            # So that a beginning is seen.
            simulate(a, "latency * 1000000000")
            vm.call("system_reset")
            vm.wait(lambda: vm.events("RESET") or None, "reset")
            vm.call("cont")
            while vm.wait_answered(0).answered:
                pass
        finally:
            simulate(a, "latency * 1000")
        vm.wait_answered(ENOUGH)
        after = vm.stopped_counters()
        check(after)
        assert after.aqic == before.aqic, after


def expect_no_progress(vm: Vm) -> None:
    """The guest gets no reply within three seconds."""
    try:
        counters = vm.wait_answered(1, timeout=3)
    except QemuError:
        return
    raise AssertionError(f"it goes on: {counters}")


def test_hangs_without_interrupts(a: Host) -> None:
    """It sleeps until it is interrupted and has no timer, as the other tests require."""
    simulate(a, "swallow * on")
    try:
        with Guests() as guests:
            vm = guests.vm(guests.mdev(a, AP), kernel=GUEST)
            expect_no_progress(vm)
            counters = vm.stopped_counters()
            assert counters.aqic == len(AP.matrix()), counters
            assert (counters.interrupts, counters.polls) == (0, 0), counters
            assert all(queue.sent for queue in counters.queues), counters
    finally:
        simulate(a, "swallow * off")


def test_unknown_instruction(a: Host) -> None:
    """The guest gets an operation exception, and QEMU reports that it stopped."""
    content = (config.share(a.flavour) / "selftests" / config.SELFTEST /
               pathlib.Path(GUEST).name).read_bytes()
    assert content.count(BEGINNING) == 1
    a.path("bad").write_bytes(content.replace(BEGINNING, UNKNOWN))
    with Guests() as guests:
        vm = guests.vm(guests.mdev(a, AP), kernel="/lab/results/bad", started=False)
        vm.call("set-action", panic="pause")
        vm.call("cont")
        vm.wait(lambda: vm.events("GUEST_PANICKED") or None, "panic")
        assert vm.status() == "guest-panicked", vm.status()
        assert vm.memory(PGM_CODE, 2) == OPERATION_EXCEPTION
        assert int.from_bytes(vm.memory(PGM_OLD_ADDRESS, 8), "big") == ENTRY + 4
