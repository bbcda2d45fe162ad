# SPDX-License-Identifier: GPL-2.0
"""Watch a guest's counters while it migrates: how long was it without an answer?

    with Watch(source, target, lambda vm: vm.all_answered(queues)) as watch:
        ...                     migrate
        watch.wait_answers(10)
    print(watch.gap, watch.interval)

The counters are read over and over: at the source, and at the target as soon as the guest runs
there. All times are taken here, so the hosts' clocks need not agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from lab.common.errors import LabError
from lab.guest.qmp import STEP
from lab.guest.vm import Vm

V = TypeVar("V", bound=Vm)


class Watch(Generic[V]):
    """gap: the longest time without an answer so far, or more: reading takes time, so the gap
    begins before the look that saw an answer and ends after the one that saw the next. looks:
    how often the counters were read. interval: seconds between two looks, on average."""

    def __init__(self, source: V, target: V, answered: Callable[[V], int | None]) -> None:
        """answered: returns how many requests the guest in a VM reports as answered, None if it
        has not reported there."""
        self._answered = answered
        self.gap = 0.0
        self.looks = 0
        self.seen: list[tuple[float, str, int]] = []
        self._source = source
        self._target = target
        self._answers = 0
        self._since = 0.0
        self._began = 0.0
        self._last = 0.0
        self._end = False
        self._changed = threading.Condition()
        self._error: LabError | None = None
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return (self._last - self._began) / max(self.looks - 1, 1)

    def _poll_answers(self, vm: V) -> None:
        begin = time.monotonic()
        answers = self._answered(vm)
        now = time.monotonic()
        if answers is None:
            return
        with self._changed:
            self.looks += 1
            self.seen.append(((begin + now) / 2, vm.host.name, answers))
            self._last = now
            if self.looks == 1:
                self._began = now
                self._since = begin
                self._answers = answers
            elif answers > self._answers:
                self.gap = max(self.gap, now - self._since)
                self._since = begin
                self._answers = answers
            self._changed.notify_all()

    def _watch(self) -> None:
        try:
            while not self._end:
                self._poll_answers(self._target if self._target.events("RESUME") else self._source)
        except LabError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def wait_answers(self, number: int) -> None:
        """Wait until the guest has got so many more answers, in all."""
        with self._changed:
            wanted = self._answers + number
            there = self._changed.wait_for(lambda: self._error or self._answers >= wanted, STEP)
            if self._error:
                raise self._error
            if not there:
                raise LabError(f"the guest got no {number} answers in {STEP:.0f} s")

    def __enter__(self) -> Watch[V]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._end = True
        self._thread.join()
