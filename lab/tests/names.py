# SPDX-License-Identifier: GPL-2.0
"""The names of all tests, known without building or running anything.

    lab.series.difference             a function in lab/tests/test_series.py
    pair.migrate.completes            a function in lab/tests/test_pair_migrate.py
    lab.stream_host_test.goldens      the driver's stream code on the build machine
    a.vfio_ap_stream.golden           a KUnit case, in host a
    a.info_test.info.cdev.argsz       a kselftest, in host a

lab/tests/expected-tests lists the tests of the last three kinds, which are written in C. A listed
test that does not report is a failure, and so is one that reports and is not listed.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from lab.common import config
from lab.common.errors import LabError

EXPECTED = config.REPO / "lab/tests/expected-tests"
# Prefixes of test functions: in `make test` and in `make test-long`.
SHORT, LONG = "test_", "long_"
# Kinds of sections in expected-tests, and prefixes of the names of their tests.
PREFIXES = {"native": "lab.", "kunit": "a.", "kselftest": "a."}
# The result of a program or module as a whole.
COMPLETE = "complete"


class NamesError(LabError):
    """A list of names that cannot be read, or a pattern that matches nothing."""


@dataclass(frozen=True)
class Section:
    """The tests that one program or module reports.

    kind: native, kunit or kselftest; title: the program or module; tests: the names that it
    reports, with that of the suite for KUnit.
    """

    kind: str
    title: str
    tests: tuple[str, ...]

    def name(self, test: str) -> str:
        """The complete name of a test."""
        middle = "" if self.kind == "kunit" else f"{self.title}."
        return f"{PREFIXES[self.kind]}{middle}{test}"

    def names(self) -> list[str]:
        """The complete names of all tests, and that of the result as a whole."""
        return [*(self.name(test) for test in self.tests), self.complete()]

    def complete(self) -> str:
        """The name of the result as a whole."""
        return f"{PREFIXES[self.kind]}{self.title}.{COMPLETE}"


def parse(text: str) -> list[Section]:
    """Sections: a line "[kind title]", then a line per test."""
    found: list[tuple[str, str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            kind, _, title = line.strip("[]").partition(" ")
            if kind not in PREFIXES or not title:
                raise NamesError(f"{EXPECTED}:{number}: unknown section {line}")
            found.append((kind, title, []))
        elif not found:
            raise NamesError(f"{EXPECTED}:{number}: a test before the first section")
        else:
            found[-1][2].append(line)
    for _, title, tests in found:
        if not tests:
            raise NamesError(f"{EXPECTED}: no test in the section of {title}")
    return [Section(kind, title, tuple(tests)) for kind, title, tests in found]


def format_sections(sections: Iterable[Section]) -> str:
    """The text that parse() reads."""
    return "".join(f"[{section.kind} {section.title}]\n"
                   + "".join(f"{test}\n" for test in section.tests) + "\n"
                   for section in sections)


def updated(sections: Iterable[Section], reported: dict[str, list[str]]) -> list[Section]:
    """The sections with the tests that programs and modules reported, by title."""
    return [Section(section.kind, section.title, tuple(reported.get(section.title) or
                                                       section.tests)) for section in sections]


def expected() -> list[Section]:
    """lab/tests/expected-tests."""
    return parse(EXPECTED.read_text(encoding="utf-8"))


def of_function(stem: str, function: str) -> str:
    """The name of a test function: "test_pair_migrate", "test_completes"."""
    suite = stem.removeprefix("test_")
    suite = suite.replace("_", ".", 1) if suite.startswith("pair_") else f"lab.{suite}"
    return f"{suite}.{function.removeprefix(SHORT).removeprefix(LONG)}"


def functions(prefix: str) -> list[str]:
    """The names of the test functions of lab/tests with that prefix."""
    found = []
    for path in sorted((config.REPO / "lab/tests").glob("test_*.py"),
                       key=lambda path: (path.stem.startswith("test_pair_"), path.stem)):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found += [of_function(path.stem, node.name) for node in tree.body
                  if isinstance(node, ast.FunctionDef) and node.name.startswith(prefix)]
    return found


def all_names() -> list[str]:
    """The tests of `make test`."""
    python = functions(SHORT)
    reported = [name for section in expected() for name in section.names()]
    return [*(name for name in python if not name.startswith("pair.")), *reported,
            *(name for name in python if name.startswith("pair."))]


def fits(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern: globs with blanks between them; "!glob" excludes names."""
    words = pattern.split()
    wanted = [word for word in words if not word.startswith("!")] or ["*"]
    return (any(fnmatch.fnmatchcase(name, glob) for glob in wanted)
            and not any(fnmatch.fnmatchcase(name, word[1:])
                        for word in words if word.startswith("!")))


def select(pattern: str, names: Iterable[str]) -> list[str]:
    """Those that match; NamesError if a glob of the pattern matches none."""
    every = list(names)
    for glob in pattern.split() or [pattern]:
        if not any(fnmatch.fnmatchcase(name, glob.removeprefix("!")) for name in every):
            raise NamesError(f"T={glob}: no test has such a name; `make list` prints all names")
    return [name for name in every if fits(name, pattern)]
