# SPDX-License-Identifier: GPL-2.0
"""Streams that are changed at random, written to a live driver (lab/programs/fuzz/live.c)."""

from __future__ import annotations

import re

from lab.common import progress
from lab.host.host import Host
from lab.tests.soak import Soak

PROGRAM = "/lab/bin/vfio-ap-live-fuzz"
SEED = 1
# Of the debug kernel, in seconds for a thousand streams, several times over.
LIMIT = 600


def write_streams(host: Host, count: int, first: int = 0, seed: int = SEED) -> list[int]:
    """Write so many streams; how many were accepted, different, malformed and without an end.
    The error's text has the command that repeats a failure."""
    command = f"{PROGRAM} {seed} {count} {first}"
    done = host.run(command, LIMIT * (1 + count // 1000), check=False)
    assert done.rc == 0, f"{command}: status {done.rc}: {done.out}"
    found = re.findall(rf"^{count} streams: (\d+) .*, (\d+) .*, (\d+) .*, (\d+) .*$",
                       done.out, re.M)
    assert found, done.out
    progress.say(done.out.strip().splitlines()[-1])
    return [int(number) for number in found[-1]]


def test_thousand_changed_streams(a: Host) -> None:
    """Each gets its answer, nothing is left, and every kind was among them."""
    kinds = write_streams(a, 1000)
    assert sum(kinds) == 1000, kinds
    assert min(kinds) > 0, kinds


def long_changed_streams(a: Host, minutes: float, seed: int) -> None:
    """The same a hundred thousand times, or for as long as MINUTES= says."""
    soak = Soak("streams", ("streams", 100_000), minutes, seed)
    while soak.is_unfinished():
        write_streams(a, 1000, soak["streams"], seed)
        soak.add(streams=1000)
