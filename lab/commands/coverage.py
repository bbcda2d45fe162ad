# SPDX-License-Identifier: GPL-2.0
"""`make coverage`: which lines of the driver's new files the tests in one host reach.

A kernel that counts lines (gcov) in these files runs KUnit and the kselftests, with failing
allocations and user copies. Each host's counts are fetched before it is shut down, and added up
here. What no test reaches stands in out/coverage, and with a reason in lab/commands/unreached:
"FILE FUNCTION: REASON". Fails if a test does, if a file is below the floor, or if there is no
reason.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.common import config, progress
from lab.common.errors import LabError
from lab.common.run import run
from lab.host.host import Host
from lab.image import kernel

FLAVOUR = "cover"
FLOOR = 0.90
GOAL = 0.95
REASONS = config.REPO / "lab/commands/unreached"
GCOV = f"{config.CROSS_COMPILE}gcov"
# Prints nothing: a file's counts can be read, but it has no size.
FETCH = """
mkdir -p /lab/results/gcov
find /sys/kernel/debug/gcov -path '*/s390/crypto/vfio_ap*.gcda' | while read -r file; do
    cat "$file" >"/lab/results/gcov/${file##*/}"
done
"""


@dataclass
class Lines:
    """The lines of a file that are code: how often each was reached, and in which function ("-":
    unknown to gcov). counted: a kernel had counts of the file, though it may have no code."""

    count: dict[int, int] = field(default_factory=dict)
    function: dict[int, str] = field(default_factory=dict)
    counted: bool = False

    @property
    def reached(self) -> int:
        """How many were reached."""
        return sum(1 for count in self.count.values() if count)

    @property
    def part(self) -> float:
        """What part of all that is; 0 without a line."""
        return self.reached / len(self.count) if self.count else 0.0

    def missed(self) -> list[int]:
        """Those that were not."""
        return sorted(number for number, count in self.count.items() if not count)

    def functions_missed(self) -> set[str]:
        """The functions that have some of them."""
        return {self.function[number] for number in self.missed()}


def read_reasons(text: str) -> dict[tuple[str, str], str]:
    """(file, function) -> why nobody reaches all of it."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            place, _, reason = line.partition(":")
            words = place.split()
            if len(words) != 2 or not reason.strip():
                raise LabError(f"{REASONS}: wanted FILE FUNCTION: REASON, not {line!r}")
            found[words[0], words[1]] = reason.strip()
    return found


class Data:
    """What the hosts have counted."""

    def __init__(self, folder: pathlib.Path, sources: Iterable[str]) -> None:
        self._folder = folder
        self._sources = {pathlib.Path(path).stem: path for path in sources}
        self._nr = 0
        self.files = {path: Lines() for path in self._sources.values()}

    def fetch(self, host: Host) -> None:
        """Take what a host has counted; it is about to end."""
        host.run(FETCH)
        self._nr += 1
        self.add(host.path("gcov"), self._folder / f"host{self._nr}")

    def add(self, counts: pathlib.Path, where: pathlib.Path) -> None:
        """Add the counts in a folder, and keep it."""
        shutil.copytree(counts, where)
        objects = config.objects(FLAVOUR) / kernel.DRIVER
        for name, path in self._sources.items():
            if (where / f"{name}.gcda").exists():
                shutil.copy(objects / f"{name}.gcno", where)
                self._add_file(path, where / f"{name}.gcda")

    def _add_file(self, path: str, counts: pathlib.Path) -> None:
        done = run([GCOV, "--json-format", "--stdout", counts.name], cwd=counts.parent,
                   error=LabError)
        lines = self.files[path]
        lines.counted = True
        for file in json.loads(done.stdout)["files"]:
            if not file["file"].endswith(path):
                continue
            for line in file["lines"]:
                number = line["line_number"]
                lines.count[number] = lines.count.get(number, 0) + line["count"]
                lines.function[number] = line.get("function_name", "-")


def listing(path: str, lines: Lines) -> str:
    """The source with a mark at each line that was not reached, those around it left out."""
    text = (config.LINUX / path).read_text(encoding="utf-8").splitlines()
    shown = {near for number in lines.missed() for near in range(number - 2, number + 3)}
    missed = set(lines.missed())
    return "".join(f"{'#####' if number in missed else '':>6} {number:>5} {line}\n"
                   for number, line in enumerate(text, 1) if number in shown)


def judge(files: dict[str, Lines], reasons: dict[tuple[str, str], str]) -> tuple[list[str], bool]:
    """The table with what is missing, and whether all is as it has to be."""
    table, good = [], True
    for path, lines in files.items():
        name = pathlib.Path(path).name
        if lines.counted and not lines.count:
            continue
        verdict = ("" if lines.part >= GOAL else "  short of the goal" if lines.part >= FLOOR
                   else "  BELOW THE FLOOR")
        good &= lines.part >= FLOOR
        table.append(f"{name:<24}{lines.reached:>6} of {len(lines.count):>4}"
                     f"{100 * lines.part:>7.1f} %{verdict}")
        for function in sorted(lines.functions_missed()):
            reason = reasons.get((name, function))
            good &= reason is not None
            table.append(f"    {function}: {reason or 'NO REASON IN lab/commands/unreached'}")
    count = sum(len(lines.count) for lines in files.values())
    reached = sum(lines.reached for lines in files.values())
    table.append(f"{'all':<24}{reached:>6} of {count:>4}{100 * reached / max(count, 1):>7.1f} %")
    return table, good


def run_tests(pattern: str, data: Data) -> int:
    """The tests in one host, in two hosts at a time; their exit status."""
    plugin = importlib.import_module("lab.tests.plugin")
    session = importlib.import_module("lab.tests.session")
    return int(session.main(plugin.Settings(pattern, FLAVOUR, before_end=data.fetch)))


def main(pattern: str) -> int:
    """Run the tests and tell what they reach; 0 if that is enough, and the rest explained."""
    folder = config.OUT / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = Data(folder, kernel.new_files())
    status = run_tests(pattern, data)
    for path, lines in data.files.items():
        (folder / f"{pathlib.Path(path).name}.missed").write_text(listing(path, lines))
    table, good = judge(data.files, read_reasons(REASONS.read_text(encoding="utf-8")))
    print("\n".join(table))
    (folder / "coverage.txt").write_text("\n".join(table) + "\n")
    print(f"Lines that were not reached: {folder}/*.missed")
    progress.print_stages()
    return status or int(not good)
