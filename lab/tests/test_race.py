# SPDX-License-Identifier: GPL-2.0
"""All that can happen to a device at the same time, for long (race_test of the selftests)."""

from __future__ import annotations

import re

from lab.common import config
from lab.host.host import Host
from lab.tests.soak import Soak

FOLDER = f"/lab/selftests/{config.SELFTEST}"
# Rounds in one go, of each of the two ways to open the device.
ROUNDS = 10
# Migrations with which something has to go wrong.
FAULTED = 1000
# Of the debug kernel, in seconds for a round, several times over.
LIMIT = 120
SUMMARY = re.compile(r"seed \d+: (\d+) migrations, something went wrong with (\d+) of them")


def play(host: Host, first: int, seed: int, rounds: int = ROUNDS) -> tuple[int, int]:
    """Some rounds: migrations, and those with which something went wrong. A round that fails
    prints the command that repeats it."""
    command = (f"cd {FOLDER} && VFIO_AP_SEED={seed} VFIO_AP_FIRST={first} "
               f"VFIO_AP_ROUNDS={rounds} ./race_test")
    done = host.run(command, LIMIT * rounds, check=False)
    assert done.rc == 0, f"{command}: status {done.rc}: {done.out}"
    found = SUMMARY.findall(done.out)
    assert len(found) == 2, done.out
    return (sum(int(all_of_them) for all_of_them, _ in found),
            sum(int(faulted) for _, faulted in found))


def long_everything_at_once(a: Host, minutes: float, seed: int) -> None:
    """Until something has gone wrong with a thousand migrations, or for MINUTES= minutes;
    leaks and reports are looked for after each round."""
    soak = Soak("race", ("faulted", FAULTED), minutes, seed)
    while soak.is_unfinished():
        more, wrong = play(a, soak["rounds"], seed)
        soak.add(rounds=ROUNDS, migrations=more, faulted=wrong)
