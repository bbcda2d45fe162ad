# SPDX-License-Identifier: GPL-2.0
"""Progress of long work: one line per step, and minutes per stage at the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

STAGES: list[tuple[str, float]] = []
_START = time.monotonic()
# Seconds from which on the duration of a test is printed.
LONG = 20.0


def say(text: str) -> None:
    """Print a line about the current step, with the time since the start."""
    seconds = int(time.monotonic() - _START)
    print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {text}", file=sys.__stderr__, flush=True)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage for the table at the end."""
    started = time.monotonic()
    try:
        yield
    finally:
        STAGES.append((name, time.monotonic() - started))


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Say how long something took if that was long."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        if seconds >= LONG:
            say(f"{name}: {seconds:.0f} s")


def slowest(times: Iterable[tuple[str, float]], most: int = 10) -> list[str]:
    """Lines with minutes and name, the longest of (name, seconds) first; without 0.0 minutes."""
    longest = sorted(times, key=lambda pair: -pair[1])[:most]
    return [f"# {seconds / 60:5.1f} min  {name}" for name, seconds in longest if seconds >= 3]


def print_stages() -> None:
    """Minutes per stage."""
    for name, seconds in STAGES:
        print(f"# {seconds / 60:5.1f} min  {name}")
    print(f"# {(time.monotonic() - _START) / 60:5.1f} min  in all", flush=True)
