# SPDX-License-Identifier: GPL-2.0
"""Debian's kernel for s390x as a KVM guest in an emulated host, which uses SIE of the emulator."""

from __future__ import annotations

import re
import shlex
import stat
import time

from lab.common.progress import say
from lab.common.run import run
from lab.guest import linux
from lab.guest.linux import Count, Requests
from lab.guest.vm import FIRMWARE, PROGRAM
from lab.host.host import Host
from lab.image import linux_guest
from lab.image.linux_guest import Entry

# Seconds on an idle machine, under the debug kernel.
LIMIT = 300.0
QEMU = [PROGRAM, "-L", FIRMWARE, "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "s390-ccw-virtio", "-accel", "kvm", "-cpu", "host"]


def check_guest(host: Host, cpus: int) -> None:
    """The guest's program finds all as it should be, and the guest powers off."""
    host.run("modprobe kvm")
    started = time.monotonic()
    console = host.run(shlex.join([*QEMU, *linux.arguments(cpus)]), timeout=LIMIT).out
    say(f"Debian's kernel with {cpus} processors: {time.monotonic() - started:.0f} s from the "
        f"start of QEMU to its end under the {host.flavour} kernel (goal: 60 s under the fast "
        "kernel on an idle machine)")
    found = re.findall(r"^guest: (.*?)\r?$", console, re.M)
    assert found[:2] == [f"kernel: {linux_guest.release(host.flavour)}",
                         f"processors: {cpus}"], console
    wanted = [f"processor {cpu}: {what}: right" for cpu in range(cpus)
              for what in ("memory", "timer")]
    assert sorted(found[2:-1]) == sorted(wanted), console
    assert found[-1] == "power off", console
    assert not re.search(r"Kernel panic|Oops|WARNING: |BUG: ", console), console


def test_one_cpu(bare: Host) -> None:
    """From power-on to power-off with one virtual CPU."""
    check_guest(bare, 1)


def test_two_cpus(bare: Host) -> None:
    """From power-on to power-off with two virtual CPUs, which interrupt each other."""
    check_guest(bare, 2)


def long_four_cpus(bare: Host) -> None:
    """The same with twice as many virtual CPUs as the host has."""
    check_guest(bare, 4)


def test_initramfs() -> None:
    """cpio reads the archive that the kernel gets."""
    entries = [*linux_guest.SKELETON, Entry("init", stat.S_IFREG | 0o755, b"12345")]
    archive = linux_guest.cpio(entries)
    listed = run(["cpio", "-itv", "--quiet"], stdin=archive).out.splitlines()
    assert [line.split()[-1] for line in listed] == [entry.name for entry in entries], listed
    assert listed[-2].startswith("crw-------") and "5,   1" in listed[-2], listed
    assert listed[-1].startswith("-rwxr-xr-x") and listed[-1].split()[4] == "5", listed
    assert run(["cpio", "-i", "--quiet", "--to-stdout", "init"], stdin=archive).stdout == b"12345"


CONSOLE = """[    1.000000] random: crng init done
guest: queue 05.0004 CEX8C
guest: count 1 gap 0 05.0004:2:0:0:0
guest: count 2 gap 215 05.0004:4:2:0:0
"""


def test_counters_are_read() -> None:
    """A line counts when it is complete."""
    counts = [Count(1, 0.0, {"05.0004": Requests(2, 0, 0, 0)}),
              Count(2, 0.215, {"05.0004": Requests(4, 2, 0, 0)})]
    assert linux.parse_counts(CONSOLE) == counts
    assert linux.parse_counts(CONSOLE + "guest: count 3 gap 2 05.0004:1") == counts


def test_faults_are_found() -> None:
    """Each fault of a guest is found, and nothing else."""
    assert not linux.find_faults(CONSOLE)
    assert not linux.find_faults(CONSOLE + "guest: power off\n[    9.000000] reboot: Power down\n")
    assert not linux.find_faults(CONSOLE + "[    9.000000] hrtimer: interrupt took 62149700 ns\n")
    for line in ("guest: fault: queue 05.0004: request 1: wrong reply",
                 "[    9.000000] Crypto dev=05.0004 unknown response type 0x00",
                 "guest: count 4 gap 215 05.0004:4:2:0:0",
                 "guest: count 3 gap 215 05.0004:5:2:1:0",
                 "guest: count 3 gap 215 05.0004:5:2:0:1"):
        assert len(linux.find_faults(f"{CONSOLE}{line}\n")) == 1, line
    report = "[    0.500000] WARNING: CPU: 0 PID: 1 at lib/refcount.c:28\n"
    assert linux.find_faults(report + CONSOLE) == [report.strip()]
