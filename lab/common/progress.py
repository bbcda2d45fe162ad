# SPDX-License-Identifier: GPL-2.0
"""What the user sees of long work: one line per step, and minutes per stage at the end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

STAGES: list[tuple[str, float]] = []
_START = time.monotonic()
PERIOD = 15.0
# Seconds from which on the duration of a test is told.
LONG = 20.0


def say(text: str) -> None:
    """A line about what is being done, with the time since the start."""
    seconds = int(time.monotonic() - _START)
    print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {text}", file=sys.stderr, flush=True)


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


def print_stages() -> None:
    """Minutes per stage."""
    for name, seconds in STAGES:
        print(f"# {seconds / 60:5.1f} min  {name}")
    print(f"# {(time.monotonic() - _START) / 60:5.1f} min  in all", flush=True)


class CommandFailed(Exception):
    """A command of the build machine failed; str() has its last lines and its log."""


def logged(what: str, argv: Sequence[str], log: pathlib.Path,
           env: Mapping[str, str] | None = None, cwd: pathlib.Path | None = None,
           measure: Callable[[int, str], str] | None = None) -> None:
    """Run a command with its output in a log; a progress line now and then; raise on failure.

    measure: (lines so far, last line) -> what a progress line says.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = shown = time.monotonic()
    count, last = 0, ""
    tail: list[str] = []
    with log.open("w", encoding="utf-8", errors="replace") as stream, subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=cwd, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}, text=True,
            errors="replace") as child:
        lock = threading.Lock()
        done = threading.Event()

        def report() -> None:
            while not done.wait(PERIOD):
                with lock:
                    text = (measure or (lambda n, line: line.strip()[:80]))(count, last)
                say(f"{what}: {time.monotonic() - started:.0f} s, {text}")

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                stream.write(line)
                with lock:
                    count, last = count + 1, line
                tail = [*tail[-30:], line]
        except BaseException:
            child.kill()
            raise
        finally:
            done.set()
        child.wait()
        shown = time.monotonic() - started
    if child.returncode:
        words = ("error", "Error", "ERROR", "E:", "cannot", "No rule", "***")
        errors = [line.rstrip() for line in tail if any(word in line for word in words)]
        raise CommandFailed(f"{what} failed with status {child.returncode} after {shown:.0f} s "
                            f"(log: {log}):\n  " +
                            "\n  ".join((errors or [t.rstrip() for t in tail])[-12:]))
