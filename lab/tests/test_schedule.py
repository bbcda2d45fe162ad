# SPDX-License-Identifier: GPL-2.0
"""The order of gates, and their end after an interrupt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from lab.common import config, progress
from lab.common.speed import scaled
from lab.gates import schedule


def test_slowest_come_first() -> None:
    times = [("a", 30.0), ("b", 120.0), ("c", 1.0)]
    assert progress.slowest(times) == ["#   2.0 min  b", "#   0.5 min  a"]
    assert progress.slowest(times, 1) == ["#   2.0 min  b"]


def test_results_come_in_the_order_of_the_gates() -> None:
    order: list[str] = []

    def gate(name: str, builds: bool = False, cost: float = 1) -> schedule.Gate:
        def run() -> list[str]:
            order.append(name)
            if name == "error":
                raise OSError("planted")
            return []
        return schedule.Gate(name, run, builds, cost)

    all_gates = [gate("small"), gate("error", cost=3), gate("first", True), gate("second", True)]
    got = list(schedule.results(all_gates, 1))
    assert [result.gate.name for result in got] == ["small", "error", "first", "second"]
    assert [bool(result.found) for result in got] == [False, True, False, False]
    assert order == ["first", "second", "error", "small"]


# A shell starts commands in the background with SIGINT ignored.
INTERRUPTED = """
import signal
import sys
from lab.common.run import run
from lab.gates import gates, schedule
def long(name):
    def gate():
        for _ in range(100):
            run(["sleep", "120"])
        return []
    return schedule.Gate(name, gate, builds=name == "b")
signal.signal(signal.SIGINT, signal.default_int_handler)
@PREPARE@
try:
    sys.exit(gates.run_all([long(name) for name in "abcdef"]))
except KeyboardInterrupt:
    sys.exit(130)
"""
# The interrupt arrives when one of two threads has started.
AS_THEY_START = """
class Pool(schedule.ThreadPoolExecutor):
    calls = 0
    def submit(self, *args):
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().submit(*args)
schedule.ThreadPoolExecutor = Pool
"""


@contextlib.contextmanager
def interrupted(prepare: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process group of its own with six gates that do not end."""
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED.replace("@PREPARE@", prepare)],
                          cwd=config.REPO, text=True, process_group=0) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def group(pgid: int) -> list[str]:
    """The names of the processes of a group."""
    done = subprocess.run(["ps", "-o", "comm=", "--no-headers", "-e", "-o", "pgid="], check=True,
                          capture_output=True, text=True)
    return [line.split()[0] for line in done.stdout.splitlines() if line.split()[-1] == str(pgid)]


def wait_for_group(pgid: int, fits: Callable[[list[str]], bool]) -> None:
    """Poll until the names of the processes of a group fit: no event reports a change of them."""
    end = time.monotonic() + scaled(10)
    while not fits(names := group(pgid)):
        assert time.monotonic() < end, names
        time.sleep(0.05)


def test_interrupt_ends_all_gates() -> None:
    """The terminal's SIGINT reaches the group; a SIGINT to Python alone ends the children, too."""
    for send in (os.killpg, os.kill):
        with interrupted() as child:
            wait_for_group(child.pid, lambda names: names.count("sleep") == 2)
            send(child.pid, signal.SIGINT)
            assert child.wait(scaled(10)) == 130
            wait_for_group(child.pid, lambda names: not names)


def test_interrupt_ends_gates_that_start() -> None:
    with interrupted(AS_THEY_START) as child:
        assert child.wait(scaled(10)) == 130
        wait_for_group(child.pid, lambda names: not names)
