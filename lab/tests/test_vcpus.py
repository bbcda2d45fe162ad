# SPDX-License-Identifier: GPL-2.0
"""A KVM guest with four CPUs, whose instructions cause no exit from SIE, in a host with two CPUs.

lab/programs/vcpus contains the guest and compares the dirty log with the guest's memory.
"""

from __future__ import annotations

from lab.common.progress import say
from lab.host.host import Host

PROGRAM = "/lab/bin/vcpus"
CPUS = 4
ROUNDS = 100
# Pages of the dirty log that a CPU writes to.
WRITTEN = 256
SAMPLES = 200
# Seconds on an idle machine, under the debug kernel.
LIMIT = 120.0


def figures(out: str) -> dict[str, int]:
    """The lines "NAME VALUE" that the program prints."""
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


def test_dirty_log(bare: Host) -> None:
    """The log has the pages that four CPUs write to and no others; no write is lost."""
    bare.run("modprobe kvm")
    found = figures(bare.run(f"{PROGRAM} dirty {CPUS} {ROUNDS}", timeout=LIMIT).out)
    say(", ".join(f"{name} {value}" for name, value in found.items()))
    assert found["rounds"] == ROUNDS, found
    # Before each reading of the log, each CPU has made at least one whole pass.
    assert all(found[f"passes_{cpu}"] >= ROUNDS for cpu in range(CPUS)), found
    assert found["dirty"] == ROUNDS * WRITTEN, found


def test_unmapped_pages(bare: Host) -> None:
    """The log has pages that the guest has written to and that the host has unmapped since, for
    example to move them."""
    bare.run("modprobe kvm")
    found = figures(bare.run(f"{PROGRAM} unmap {CPUS}", timeout=LIMIT).out)
    assert found["dirty"] == WRITTEN, found


def test_aged_pages(bare: Host) -> None:
    """The log has pages that the guest has written to for the first time and that the host has aged
    since, as it does before it reclaims memory."""
    bare.run("modprobe kvm")
    found = figures(bare.run(f"{PROGRAM} age {CPUS}", timeout=LIMIT).out)
    assert found["dirty"] == WRITTEN, found


def long_request_to_leave(bare: Host) -> None:
    """A CPU leaves SIE when the host requests it, without waiting for an interrupt.

    The machine has to be idle: other work delays the emulated CPU for milliseconds."""
    bare.run("modprobe kvm")
    found = figures(bare.run(f"{PROGRAM} delay {SAMPLES}", timeout=LIMIT).out)
    say(", ".join(f"{name} {value}" for name, value in found.items()))
    # A CPU that left SIE only at interrupts would make most requests wait for one.
    assert found["in_sie_median_ns"] < found["interrupt_interval_ns"] / 4, found
