# SPDX-License-Identifier: GPL-2.0
"""A migration as `make demo` has seen it: events of both sides, the guest's answers, figures.

Plain data, kept as JSON in out/demo and drawn by lab/report/picture.py. All times are seconds since
the begin of the run, on the build machine's clock.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Kernels of before the last field do not tell how long it took.
ARC = re.compile(r"(\w+) -> (\w+): (-?\d+)(?: \((\d+) ns\))?$")
# Where the guest may run and use its queues.
RUNS = ("RUNNING", "PRE_COPY")


@dataclass
class Event:
    """An event. source: "qemu", "kernel" or "user"; name: of the event; text: its message;
    sent: bytes that QEMU had sent by then."""

    time: float
    host: str
    source: str
    name: str
    text: str
    sent: int | None = None


@dataclass
class Answers:
    """The guest's counter of answers in all its queues, as read on a host."""

    time: float
    host: str
    number: int


@dataclass
class Record:
    """One migration. uncertainty: of the kernels' times, in seconds by host; figures:
    measurements, by name."""

    title: str
    source: str
    target: str
    events: list[Event] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    uncertainty: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def save(self, path: pathlib.Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: pathlib.Path) -> Record:
        """Read a file of save()."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["events"] = [Event(**event) for event in raw["events"]]
        raw["answers"] = [Answers(**answers) for answers in raw["answers"]]
        return cls(**raw)


@dataclass(frozen=True)
class Arc:
    """The device of a host has changed its state, which took the driver so long (seconds)."""

    time: float
    before: str
    after: str
    took: float = 0.0


def arcs(events: Iterable[Event], host: str) -> list[Arc]:
    """Those of a host's kernel that succeeded, in order of time."""
    found = []
    for event in sorted(events, key=lambda event: event.time):
        fields = ARC.match(event.text)
        if (event.host, event.source, event.name) == (host, "kernel", "vfio_ap_arc") and fields:
            if fields[3] == "0":
                found.append(Arc(event.time, fields[1], fields[2], int(fields[4] or 0) / 1e9))
    return found


def states(record: Record, host: str, until: float) -> list[tuple[float, float, str]]:
    """(from, to, state) of the device of a host, up to a time."""
    steps = arcs(record.events, host)
    if not steps:
        return [(0.0, until, "RUNNING")]
    found = [(0.0, steps[0].time, steps[0].before)]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        found.append((step.time, after.time if after else until, step.after))
    return [part for part in found if part[1] > part[0]]


def blackout(record: Record) -> tuple[float, float] | None:
    """From when to when no device of the two let the guest use its queues, after the source's
    device had begun to send its state; None if there was no such time.

    P2P states count as stopped: VFIO tells the device of them when the guest's CPUs have been."""
    began = None
    for arc in arcs(record.events, record.source):
        if arc.before in RUNS and arc.after not in RUNS:
            began = arc.time
        elif arc.after in RUNS and began is not None:
            return began, arc.time
    if began is None:
        return None
    ends = [arc.time for arc in arcs(record.events, record.target) if arc.after == "RUNNING"]
    return (began, max(ends)) if ends and max(ends) > began else None


def drivers_share(record: Record) -> float:
    """Seconds of the blackout in which the driver of a host was at work: in arcs that are over
    by its end. Those of the target before, while the guest still ran, are none of it."""
    stopped = blackout(record)
    if stopped is None:
        return 0.0
    return sum(arc.took for host in (record.source, record.target)
               for arc in arcs(record.events, host) if stopped[0] <= arc.time <= stopped[1])
