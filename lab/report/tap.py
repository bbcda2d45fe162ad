# SPDX-License-Identifier: GPL-2.0
"""Test results in KTAP or TAP, read with the kernel's own parser."""

from __future__ import annotations

import importlib
import pathlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TextIO

from lab.common import config


@dataclass
class Outcome:
    """One test: its name; "ok", "not ok" or "skip"; reason of the skip; its output."""

    name: str
    status: str
    reason: str = ""
    log: list[str] = field(default_factory=list)


def _parser() -> tuple[Any, Any]:
    """kunit_parser and kunit_printer of the source under test."""
    folder = str(config.LINUX / "tools/testing/kunit")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("kunit_parser"), importlib.import_module("kunit_printer")


def parse(text: str) -> list[Outcome]:
    """The tests in an output. A plan that is not fulfilled, or no test at all, is an outcome of
    its own, "plan", that failed."""
    parser, printer = _parser()
    lines = text.splitlines()
    empty = next((m for m in (re.match(r"1\.\.0\s*# ?SKIP\s*(.*)", line) for line in lines) if m),
                 None)
    if empty:
        return [Outcome("all", "skip", empty[1].strip())]
    main = parser.parse_run_tests(lines, printer.Printer(print=False))
    found: list[Outcome] = []
    _leaves(parser, main, "", found)
    if main.counts.errors or not found:
        missing = "no test result" if not found else "not every planned test reported"
        found.append(Outcome("plan", "not ok", log=[missing, *lines[-20:]]))
    return found


def _leaves(parser: Any, test: Any, prefix: str, found: list[Outcome]) -> None:
    status = parser.TestStatus
    if test.subtests:
        for sub in test.subtests:
            name = prefix if test.name in ("main", "") else f"{prefix}{test.name}."
            _leaves(parser, sub, name, found)
        if test.status == status.FAILURE and all(s.ok_status() for s in test.subtests):
            found.append(Outcome(f"{prefix}{test.name}", "not ok", log=list(test.log)))
        return
    if not test.name or test.name in ("main", "<missing>"):
        return
    what = {status.SUCCESS: "ok", status.SKIPPED: "skip"}.get(test.status, "not ok")
    found.append(Outcome(f"{prefix}{test.name}", what, test.skip_reason, list(test.log)))


def kselftest_programs(listing: str) -> list[tuple[str, str]]:
    """kselftest-list.txt: (collection, program) of each line."""
    return [(folder, name) for folder, _, name in
            (line.strip().partition(":") for line in listing.splitlines()) if name]


def kselftest_timeout(folder: pathlib.Path, default: float) -> float:
    """The limit in a collection's "settings" file, in seconds."""
    settings = folder / "settings"
    if settings.exists():
        match = re.search(r"^timeout=(\d+)$", settings.read_text(), re.M)
        if match:
            return float(match[1])
    return default


def write(results: Iterable[tuple[str, Outcome]], out: TextIO | None = None) -> int:
    """Print results as they come, and write them to a file; the exit status. No result, or a
    skipped one, is a failure."""
    count = failed = 0
    for name, outcome in results:
        count += 1
        good = outcome.status == "ok"
        failed += not good
        lines = [f"{'ok' if good else 'not ok'} {count} {'_'.join(name.split())}"]
        if not good:
            lines += [f"#   {line}" for line in outcome.log or [outcome.reason]]
        _print(lines, out)
    _print([f"{count - failed} passed, {failed} failed, 0 skipped"], out)
    return int(failed > 0 or count == 0)


def _print(lines: list[str], out: TextIO | None) -> None:
    for stream in filter(None, (sys.stdout, out)):
        print(*lines, sep="\n", file=stream, flush=True)
