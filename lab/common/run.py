# SPDX-License-Identifier: GPL-2.0
"""Commands on the build machine: run() for short ones, logged() for those that take minutes."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.common.errors import LabError
from lab.common.progress import say

# Seconds between two lines on the progress of a command.
PERIOD = 15.0
# The commands of run() that have not ended; stop() ends them and refuses new ones.
_running: set[subprocess.Popen[bytes]] = set()
_stopped = threading.Event()
# The exit statuses of a shell and of timeout(1) for these cases.
NOT_INSTALLED = 127
TIMED_OUT = 124


class Stopped(LabError):
    """The command does not start, because the user interrupted the lab."""


@dataclass(frozen=True)
class Done:
    """A command that ended: exit status, standard output, standard error.

    With merge=True the standard output has both."""

    rc: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def out(self) -> str:
        """The standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def err(self) -> str:
        """The standard error as text."""
        return self.stderr.decode(errors="replace")

    def text(self) -> str:
        """Both, on one line."""
        return " ".join(f"{self.err} {self.out}".split())


def run(argv: Sequence[str | pathlib.Path], *, cwd: pathlib.Path | None = None,
        env: Mapping[str, str] | None = None, stdin: str | bytes = b"",
        timeout: float | None = None, merge: bool = False,
        error: type[LabError] | None = None) -> Done:
    """Run a command to its end and return its output.

    env: the whole environment; the default is this process's with LC_ALL=C.UTF-8.
    merge: standard error goes to the standard output. error: raise this unless the status is 0.
    A program that is not installed has status 127, one that exceeds the timeout (in seconds) 124;
    both with a message as output.
    """
    words = [str(word) for word in argv]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    if _stopped.is_set():
        raise Stopped(f"{words[0]}: not started after an interrupt")
    try:
        with subprocess.Popen(
                words, cwd=cwd, env={**os.environ, "LC_ALL": "C.UTF-8"} if env is None else env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge else subprocess.PIPE) as child:
            _running.add(child)
            try:
                if _stopped.is_set():
                    child.terminate()
                out, err = child.communicate(data, timeout)
            except BaseException:
                child.kill()
                raise
            finally:
                _running.discard(child)
        done = Done(child.returncode, out, err or b"")
    except FileNotFoundError:
        done = _failed(NOT_INSTALLED, f"{words[0]}: not installed", merge)
    except subprocess.TimeoutExpired:
        done = _failed(TIMED_OUT, f"{words[0]}: no end after {timeout:.0f} s", merge)
    if error and done.rc:
        tail = (done.err or done.out).strip().splitlines()[-20:]
        raise error("\n".join([f"{' '.join(words)[:200]}: exit status {done.rc}", *tail]))
    return done


def stop() -> None:
    """End the commands of all threads and start no more: run() raises Stopped from now on."""
    _stopped.set()
    for child in list(_running):
        child.terminate()


def _failed(status: int, message: str, merge: bool) -> Done:
    text = f"{message}\n".encode()
    return Done(status, text) if merge else Done(status, b"", text)


class CommandFailed(LabError):
    """A command of the build machine failed; str() has its last lines and its log."""


def logged(what: str, argv: Sequence[str], log: pathlib.Path,
           env: Mapping[str, str] | None = None, cwd: pathlib.Path | None = None,
           measure: Callable[[int, str], str] | None = None) -> None:
    """Run a command with its output in a log; a progress line now and then; raise on failure.

    measure: (lines so far, last line) -> text of a progress line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
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
                say(", ".join(filter(None, [f"{what}: {time.monotonic() - started:.0f} s", text])))

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
        took = time.monotonic() - started
    if child.returncode:
        words = ("error", "Error", "ERROR", "E:", "cannot", "No rule", "***")
        errors = [line.rstrip() for line in tail if any(word in line for word in words)]
        raise CommandFailed(f"{what} failed with status {child.returncode} after {took:.0f} s "
                            f"(log: {log}):\n  " +
                            "\n  ".join((errors or [t.rstrip() for t in tail])[-12:]))
