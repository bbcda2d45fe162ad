# SPDX-License-Identifier: GPL-2.0
"""The driver's tracepoints in an emulated host, on the build machine's axis of time.

    with Tracer(host) as tracer:
        ...
        events = tracer.events(mdev.uuid)

A host's clock is its own. The tracer writes marks into the trace and notes the build machine's
time before and after each. A mark's time lies between these two, so each mark bounds the
difference of the clocks, and all of them together bound it best.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from lab.common.errors import LabError
from lab.host.host import Host

INSTANCE = "/sys/kernel/tracing/instances/lab"
# comm-pid [cpu] flags time: event: text
LINE = re.compile(r"^.+-\d+\s+\[\d+\]\s+\S+\s+(\d+\.\d+): ([\w]+): (.*)$")
# Marks at the beginning and at the end.
MARKS = 5


class TraceError(LabError):
    """The trace of a host is not as it has to be; str() tells."""


@dataclass(frozen=True)
class Traced:
    """A line of a trace. time: in seconds of the host's clock, or of the build machine's."""

    time: float
    name: str
    text: str


@dataclass(frozen=True)
class Mark:
    """The build machine's time before and after something that has a time in the trace."""

    before: float
    after: float
    traced: float


@dataclass(frozen=True)
class Difference:
    """value: build machine's time less the host's; it is right within
    error. Both in seconds."""

    value: float
    error: float


def parse(text: str) -> list[Traced]:
    """The events of a trace, comments left out."""
    found = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        fields = LINE.match(line)
        if not fields:
            raise TraceError(f"not a line of a trace: {line}")
        found.append(Traced(float(fields[1]), fields[2], fields[3]))
    return found


def difference(marks: Iterable[Mark]) -> Difference:
    """The difference of two clocks that go equally fast, from marks."""
    bounds = [(mark.before - mark.traced, mark.after - mark.traced) for mark in marks]
    if not bounds:
        raise TraceError("no mark in the trace")
    low, high = max(low for low, _ in bounds), min(high for _, high in bounds)
    if low > high:
        raise TraceError(f"the clocks do not go equally fast: {low - high:.6f} s apart")
    return Difference((low + high) / 2, (high - low) / 2)


class Tracer:
    """Records the driver's trace events in a host while the context lasts."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pings: list[tuple[float, float]] = []

    def _mark(self) -> None:
        before = time.monotonic()
        self._host.run(f"echo lab mark {len(self._pings)} >{INSTANCE}/trace_marker")
        self._pings.append((before, time.monotonic()))

    def _marks(self, traced: list[Traced]) -> list[Mark]:
        found = []
        for event in traced:
            number = re.fullmatch(r"lab mark (\d+)", event.text)
            if number:
                found.append(Mark(*self._pings[int(number[1])], event.time))
        return found

    def events(self, device: str) -> tuple[list[Traced], Difference]:
        """The driver's events of a device so far, in the build machine's time, and how far that
        can be wrong. The text of an event is without the name of the device."""
        for _ in range(MARKS):
            self._mark()
        traced = parse(self._host.run(f"cat {INSTANCE}/trace").out)
        clocks = difference(self._marks(traced))
        start = f"{device}: "
        return ([Traced(event.time + clocks.value, event.name, event.text.removeprefix(start))
                 for event in traced if event.text.startswith(start)], clocks)

    def __enter__(self) -> Tracer:
        self._host.run(f"mkdir {INSTANCE} && echo mono >{INSTANCE}/trace_clock\n"
                       f"echo 1 >{INSTANCE}/events/vfio_ap/enable")
        for _ in range(MARKS):
            self._mark()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._host.alive:
            self._host.run(f"rmdir {INSTANCE}", check=False)
