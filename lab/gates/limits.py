# SPDX-License-Identifier: GPL-2.0
"""Limits on the sets: their size, the subjects, and lines that a set adds and deletes again.

    python3 -m lab.gates.limits [SET...]     print the deleted lines, those with a reason too

lab/gates/exceptions lists accepted findings: KIND, glob, reason. The globs of the kinds that this
module checks match SET/PATCH (SUBJECT, PATCH_LINES), SET/PATCH:FILE (DELETES), SET (PATCHES) or
SET:FILES (GROWTH).
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.series import patches
from lab.series.chains import Chains
from lab.series.git import PRISTINE, KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.patches import Patch
from lab.series.sets import PATCH_LINES, Set

SUBJECT = 75
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True)
class Finding:
    """A limit that is exceeded: its kind and its object, as exceptions name them."""

    kind: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.about}: {self.text}"


@dataclass(frozen=True)
class Deleted:
    """A line that a patch of a set deletes and an earlier patch of the set (by) has added."""

    number: int
    file: str
    by: int
    line: str


def excused(found: Sequence[Finding], exceptions: Sequence[tuple[str, str]],
            kinds: Sequence[str], name: str) -> list[str]:
    """The findings of a set that no exception names, and the exceptions that name none."""
    mine = [(kind, glob) for kind, glob in exceptions
            if kind in kinds and re.split("[/:]", glob)[0] == name]

    def fits(one: Finding, exception: tuple[str, str]) -> bool:
        return one.kind == exception[0] and fnmatch.fnmatchcase(one.about, exception[1])

    left = [str(one) for one in found if not any(fits(one, exception) for exception in mine)]
    return left + [f"{kind} {glob}: an exception that nothing needs" for kind, glob in mine
                   if not any(fits(one, (kind, glob)) for one in found)]


# ---- size ---------------------------------------------------------------------------------------

SIZE_KINDS = ("SUBJECT", "PATCH_LINES", "PATCHES", "GROWTH")


def size(tree: KernelTree, one: Set, series: Sequence[Patch], tip: str) -> Iterator[Finding]:
    """Patches, subjects and files of a set (with its prerequisites: tip) that are too long."""
    if len(series) > one.patches > 0:
        yield Finding("PATCHES", one.name, f"{len(series)} patches, {one.patches} at most")
    for patch in series:
        lines = patch.data.count(b"\n")
        if lines > PATCH_LINES:
            yield Finding("PATCH_LINES", patch.path, f"{lines} lines, {PATCH_LINES} at most")
        if len(patch.subject) > SUBJECT:
            yield Finding("SUBJECT", patch.path,
                          f"{len(patch.subject)} characters, {SUBJECT} at most")
    for growth in one.growth:
        lines = sum(net for path, net in grown(tree, tip, growth.added).items()
                    if fnmatch.fnmatchcase(path, growth.files))
        if lines > growth.lines:
            yield Finding("GROWTH", f"{one.name}:{growth.files}",
                          f"{lines} lines{' in new files' if growth.added else ' net'}, "
                          f"{growth.lines} at most")


def grown(tree: KernelTree, tip: str, added: bool) -> dict[str, int]:
    """The lines by which files have grown since pristine source; added: only new files."""
    found = {}
    for line in tree.lines("diff", "--numstat", "--no-renames",
                           *(["--diff-filter=A"] if added else []), PRISTINE, tip):
        plus, minus, path = line.split("\t")
        if plus != "-":
            found[path] = int(plus) - int(minus)
    return found


# ---- lines that a set adds and deletes again ----------------------------------------------------

def deleted(tree: KernelTree, base: str, tip: str) -> list[Deleted]:
    """The lines that a commit of base..tip deletes and an earlier one added; numbers from 1.

    Lines without a letter or digit do not count: diff may take one brace for another."""
    origin: dict[str, list[int]] = {}       # for each line of a file: the commit, 0 for base
    found: list[Deleted] = []
    shift = at = number = 0
    path, inside = "", False
    commits = tree.commits(tip, base)
    for number, commit in enumerate(commits, 1):
        text = tree.run("diff", "-U0", "--no-renames", "--no-color", "--no-ext-diff",
                        f"{commit.id}^", commit.id).stdout.decode(errors="replace")
        for line in text.split("\n"):
            if line.startswith("diff --git "):
                path, shift, inside = line.rpartition(" b/")[2], 0, False
                if path not in origin:
                    blob = tree.blob(base, path)
                    origin[path] = [0] * (blob.data.count(b"\n") + 1 if blob else 0)
            elif match := HUNK.match(line):
                start, count = int(match[1]), int(match[2] or 1)
                at = start - 1 + shift + (count == 0)
                shift += int(match[4] or 1) - count
                inside = True
            elif inside and line.startswith("-"):
                by = origin[path].pop(at)
                if by and re.search(r"\w", line[1:]):
                    found.append(Deleted(number, path, by, line[1:]))
            elif inside and line.startswith("+"):
                origin[path].insert(at, number)
                at += 1
    return found


def rework(one: Set, series: Sequence[Patch], found: Sequence[Deleted]) -> list[Finding]:
    """A finding per patch and file."""
    lines: dict[tuple[int, str], list[Deleted]] = {}
    for line in found:
        lines.setdefault((line.number, line.file), []).append(line)
    return [Finding("DELETES", f"{series[number - 1].path}:{file}",
                    f"{len(here)} lines that "
                    f"{', '.join(series[by - 1].name[:4] for by in sorted({x.by for x in here}))} "
                    f"added, the first: {here[0].line.strip()}")
            for (number, file), here in lines.items()]


def main(argv: Sequence[str]) -> int:
    """Print the lines that sets add and delete again."""
    layout = Layout.default()
    every = patches.load(layout)
    chains = Chains(layout, every)
    tree = KernelTree(layout.tree)
    for one in layout.sets:
        series = [patch for patch in every if patch.set == one.name]
        if not series or argv and one.name not in argv:
            continue
        found = deleted(tree, chains.base(one.name), chains.tip(one.name))
        print(f"{one.name}: {len(found)} lines")
        last = ""
        for line in found:
            where = f"  {series[line.number - 1].path}: {line.file}"
            if where != last:
                print(where)
            last = where
            print(f"    {series[line.by - 1].name[:4]} {line.line}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SeriesError as err:
        sys.exit(f"error: {err}")
