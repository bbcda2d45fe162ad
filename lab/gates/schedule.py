# SPDX-License-Identifier: GPL-2.0
"""Runs gates on all cores: one thread builds, the others run the gates that build nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from lab.common.errors import LabError
from lab.common.run import stop


@dataclass(frozen=True)
class Gate:
    """A check: its name and a function that returns the findings, none if the check passes.

    builds: it needs the work tree of lab.gates.builds. cost: gates of a higher cost start first.
    """

    name: str
    run: Callable[[], list[str]]
    builds: bool = False
    cost: float = 1


@dataclass(frozen=True)
class Result:
    """The findings of a gate and the seconds that it took."""

    gate: Gate
    found: list[str]
    seconds: float


def run_gate(gate: Gate) -> list[str]:
    """A gate's findings; an error is a finding, too."""
    try:
        return gate.run()
    except (LabError, OSError) as err:
        return str(err).splitlines() or [type(err).__name__]


def results(gates: Sequence[Gate], workers: int = 0) -> Generator[Result, None, None]:
    """Run all gates; yield each result in the order of gates, as soon as it is there."""
    count = workers or max(2, os.cpu_count() or 1)
    futures: dict[str, Future[Result]] = {gate.name: Future() for gate in gates}
    # Builds in their order: one builds on the objects of the one before it.
    build = [gate for gate in gates if gate.builds]
    light = sorted((gate for gate in gates if not gate.builds), key=lambda gate: -gate.cost)
    lock = Lock()
    over = False

    def take(queues: Sequence[list[Gate]]) -> Gate | None:
        with lock:
            return next((queue.pop(0) for queue in queues if queue and not over), None)

    def work(*queues: list[Gate]) -> None:
        while gate := take(queues):
            started = time.monotonic()
            try:
                found = run_gate(gate)
                futures[gate.name].set_result(Result(gate, found, time.monotonic() - started))
            except BaseException as err:        # a fault in a gate ends the command
                futures[gate.name].set_exception(err)

    with ThreadPoolExecutor(count) as pool:
        # An interrupt may arrive while the threads start; __exit__() waits for those that did.
        try:
            pool.submit(work, build, light)
            for _ in range(count - 1):
                pool.submit(work, light)
            for gate in gates:
                yield futures[gate.name].result()
        except BaseException:
            over = True
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
