# SPDX-License-Identifier: GPL-2.0
"""A KVM guest that executes random instructions ends neither the host nor the emulator.

The seed is printed; SEED= sets it. lab/programs/random_guest has the guest.
"""

from __future__ import annotations

from lab.common.progress import say
from lab.host.host import Host

PROGRAM = "/lab/bin/random-guest"
SECONDS = 60
# Without MINUTES=.
LONG_MINUTES = 5


def check_survives(host: Host, seconds: int, seed: int) -> None:
    """The guest executes for so long, the host goes on, and KVM handled enough exits.

    The counts are compared with the number of rounds: how many there are depends on the machine."""
    host.run("modprobe kvm")
    say(f"random instructions for {seconds} s, SEED={seed}")
    out = host.run(f"{PROGRAM} {seconds} {seed}", timeout=3 * seconds + 120).out
    words = [line.split() for line in out.splitlines()]
    counts = {name: int(value) for name, value in words if name != "round"}
    say(", ".join(f"{name} {value}" for name, value in counts.items() if value))
    rounds = counts["rounds"]
    assert rounds >= 16, out
    assert counts["valid"] >= 0.9 * counts["instructions"] >= 100 * rounds, out
    for mode in ("dat", "access_registers", "problem_state"):
        assert 0 < counts[mode] < rounds, out
    # Interceptions, without those that only a signal or another task in the host causes.
    assert counts["exit_instruction"] >= 2 * rounds, out
    assert counts["exit_operation_exception"] >= 20 * rounds, out
    # Rounds in which the guest reached the end of its area, so that it did not lose the handler.
    assert counts["completed"] >= rounds / 8, out


def test_survives(bare: Host, seed: int) -> None:
    """One minute."""
    check_survives(bare, SECONDS, seed)
    assert bare.run("echo alive").out == "alive\n"


def long_survives(bare: Host, seed: int, minutes: int) -> None:
    """Five minutes, or MINUTES=."""
    check_survives(bare, 60 * (minutes or LONG_MINUTES), seed)
    assert bare.run("echo alive").out == "alive\n"
