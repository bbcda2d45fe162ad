# SPDX-License-Identifier: GPL-2.0
"""`make coverage`: which lines of the driver's new files the tests in one host reach.

A kernel that counts lines (gcov) in these files runs KUnit and the kselftests, with failing
allocations and user copies. The counts of each host are fetched before it is shut down; gcovr adds
them up. out/coverage shows the lines that no test reaches, and lab/commands/unreached lists them:

    FILE:FUNCTION: TEXT OF THE LINE: REASON

An entry stands for one line of the function with that text. The last ": " precedes the reason. A
reason that begins with "sometimes" is that of a line which only some runs reach. make coverage
fails if a test fails, if a file is below the floor, if a line that is not reached is not listed,
and if a listed one is reached.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lab.common import config, progress
from lab.common.errors import LabError
from lab.common.run import run
from lab.host.host import Host
from lab.image import kernel, machine

FLAVOUR = "cover"
PACKAGE = "gcovr"
FLOOR = 0.90
GOAL = 0.95
REASONS = config.REPO / "lab/commands/unreached"
# Prints nothing: a file's counts can be read, but it has no size.
FETCH = """
mkdir -p /lab/results/gcov
find /sys/kernel/debug/gcov -path '*/s390/crypto/vfio_ap*.gcda' | while read -r file; do
    cat "$file" >"/lab/results/gcov/${file##*/}"
done
"""

# File, function and text, without blanks around it.
Place = tuple[str, str, str]


@dataclass(frozen=True)
class Line:
    """A line of code: its place, its number and how often it was reached."""

    place: Place
    number: int
    count: int


def read_reasons(text: str) -> list[tuple[Place, str]]:
    """The entries of lab/commands/unreached: place and reason."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            place, _, reason = line.rpartition(": ")
            match = re.fullmatch(r"(\S+\.c):(\w+): (\S.*)", place)
            if not match or not reason.strip():
                raise LabError(f"{REASONS}: wanted FILE:FUNCTION: TEXT: REASON, not {line!r}")
            found.append(((match[1], match[2], match[3].strip()), reason.strip()))
    return found


def functions_of(lines: list[str]) -> list[str]:
    """The function of each line of a source in kernel style; "-" outside of functions.

    gcov names none for the lines of a function that was inlined."""
    found = ["-"] * len(lines)
    first, name = 0, "-"
    for number, line in enumerate(lines):
        start = re.match(r"(?:\w[^(]*[ *])?(\w+)\(", line)
        if start:
            first, name = number, start[1]
        if line == "}":
            found[first:number + 1] = [name] * (number + 1 - first)
            name = "-"
    return found


def read_lines(report: dict[str, Any], root: pathlib.Path) -> dict[str, list[Line]]:
    """The lines of code of each file in gcovr's report, by the file's path in the source."""
    found = {}
    for file in report["files"]:
        path = pathlib.Path(file["file"])
        text = (root / path).read_text(encoding="utf-8").splitlines()
        functions = functions_of(text)
        lines = [Line((path.name, functions[line["line_number"] - 1],
                       text[line["line_number"] - 1].strip()), line["line_number"], line["count"])
                 for line in file["lines"] if not line["gcovr/noncode"]]
        if lines:
            found[str(path)] = lines
    return found


class Data:
    """The counts of all hosts."""

    def __init__(self, folder: pathlib.Path, sources: Iterable[str]) -> None:
        self._folder = folder
        self._nr = 0
        self.sources = list(sources)
        self.counted: set[str] = set()

    def fetch(self, host: Host) -> None:
        """Keep the counts of a host that is about to be shut down."""
        host.run(FETCH)
        self._nr += 1
        where = self._folder / f"host{self._nr}"
        shutil.copytree(host.path("gcov"), where)
        for path in self.sources:
            stem = pathlib.Path(path).stem
            if (where / f"{stem}.gcda").exists():
                shutil.copy(config.objects(FLAVOUR) / kernel.DRIVER / f"{stem}.gcno", where)
                self.counted.add(path)

    def lines(self) -> dict[str, list[Line]]:
        """The lines of code of each file, with the counts added up."""
        if not self.counted:
            return {}
        filters = [word for path in self.sources
                   for word in ("--filter", f"{re.escape(str(config.LINUX / path))}$")]
        done = run(["gcovr", "--json", "-", "--root", config.LINUX, *filters,
                    "--object-directory", config.objects(FLAVOUR),
                    "--gcov-executable", f"{config.CROSS_COMPILE}gcov", self._folder],
                   error=LabError)
        (self._folder / "coverage.json").write_bytes(done.stdout)
        return read_lines(json.loads(done.stdout), config.LINUX)


def listing(path: str, lines: list[Line]) -> str:
    """The source with a mark at each line that was not reached, and two lines around it."""
    text = (config.LINUX / path).read_text(encoding="utf-8").splitlines()
    missed = {line.number for line in lines if not line.count}
    shown = {near for number in missed for near in range(number - 2, number + 3)}
    return "".join(f"{'#####' if number in missed else '':>6} {number:>5} {line}\n"
                   for number, line in enumerate(text, 1) if number in shown)


def percentages(sources: Iterable[str], files: dict[str, list[Line]],
                counted: set[str]) -> tuple[list[str], bool]:
    """A line per file, and whether each is above the floor. A file without code has no line."""
    table, good, total, total_reached = [], True, 0, 0
    for path in sources:
        lines = files.get(path, [])
        if path in counted and not lines:
            continue
        reached = sum(1 for line in lines if line.count)
        part = reached / max(len(lines), 1)
        verdict = ("" if part >= GOAL else "  short of the goal" if part >= FLOOR
                   else "  BELOW THE FLOOR")
        good &= part >= FLOOR
        table.append(f"{pathlib.Path(path).name:<24}{reached:>6} of {len(lines):>4}"
                     f"{100 * part:>7.1f} %{verdict}")
        total, total_reached = total + len(lines), total_reached + reached
    table.append(f"{'all':<24}{total_reached:>6} of {total:>4}"
                 f"{100 * total_reached / max(total, 1):>7.1f} %")
    return table, good


def check_reasons(files: dict[str, list[Line]], reasons: list[tuple[Place, str]]) -> list[str]:
    """The lines that are missed without an entry, and the entries that no missed line needs."""
    missed = Counter(line.place for lines in files.values() for line in lines if not line.count)
    known = {line.place for lines in files.values() for line in lines}
    listed = Counter(place for place, _ in reasons)
    sometimes = {place for place, reason in reasons if reason.startswith("sometimes")}
    wrong = [f"NOT REACHED: {': '.join((f'{file}:{function}', text))}"
             for file, function, text in (missed - listed).elements()]
    wrong += [f"{'REACHED' if (file, function, text) in known else 'NO SUCH LINE'}, BUT LISTED: "
              f"{file}:{function}: {text}" for file, function, text in (listed - missed).elements()
              if (file, function, text) not in known & sometimes]
    return wrong


def run_tests(pattern: str, data: Data) -> int:
    """Run the tests in one host, two hosts at a time; their exit status."""
    plugin = importlib.import_module("lab.tests.plugin")
    session = importlib.import_module("lab.tests.session")
    return int(session.main(plugin.Settings(pattern, FLAVOUR, before_end=data.fetch)))


def main(pattern: str) -> int:
    """Run the tests and print which lines they reach; 0 if the list of the others is right."""
    machine.install_packages([PACKAGE])
    folder = config.OUT / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = Data(folder, kernel.new_files())
    status = run_tests(pattern, data)
    files = data.lines()
    for path, lines in files.items():
        (folder / f"{pathlib.Path(path).name}.missed").write_text(listing(path, lines))
    table, good = percentages(data.sources, files, data.counted)
    wrong = check_reasons(files, read_reasons(REASONS.read_text(encoding="utf-8")))
    print("\n".join([*table, *wrong]))
    (folder / "coverage.txt").write_text("\n".join([*table, *wrong]) + "\n")
    print(f"Lines that were not reached: {folder}/*.missed; reasons: lab/commands/unreached")
    progress.print_stages()
    return status or int(bool(wrong) or not good)
