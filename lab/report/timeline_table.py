# SPDX-License-Identifier: GPL-2.0
"""A table of events with their times and hosts."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A line of a timeline: seconds since its start, host, event, bytes sent."""

    time: float
    host: str
    what: str
    sent: int | None = None


class Timeline:
    """Events with times and hosts, printed as a table."""

    def __init__(self, start: float | None = None) -> None:
        self._start = time.monotonic() if start is None else start
        self.steps: list[Step] = []

    def add(self, host: str, what: str, sent: int | None = None, at: float | None = None) -> None:
        """Add a line, by default as of now."""
        now = time.monotonic() if at is None else at
        self.steps.append(Step(now - self._start, host, what, sent))

    def table(self) -> str:
        """As text, in order of time."""
        lines = [f"{'host':<5} {'time/s':>8}  {'state':<42} {'bytes':>10}"]
        for step in sorted(self.steps, key=lambda s: s.time):
            sent = "" if step.sent is None else f"{step.sent:>10}"
            lines.append(f"{step.host:<5} {step.time:>8.3f}  {step.what:<42} {sent}".rstrip())
        return "\n".join(lines)
