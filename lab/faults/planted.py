# SPDX-License-Identifier: GPL-2.0
"""Planted faults in the driver: their descriptions, and modules that are built with them.

Each lab/faults/mutants/*.patch plants one fault; lab.faults.driver describes its header.
"""

from __future__ import annotations

import filecmp
import fnmatch
import importlib
import inspect
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.common import config
from lab.common.errors import LabError
from lab.common.run import CommandFailed, logged, run
from lab.image import kernel

FOLDER = config.REPO / "lab/faults/mutants"
INDEX = FOLDER / "pitfalls"
CRYPTO = pathlib.Path("drivers/s390/crypto")
PROFILE = "a"
WORK = config.BUILD / "mutants"
# Tests that take too long for a sample.
SLOW = ("pair.*", "a.race_test.*", "a.fail_nth_test.*")


class FaultError(LabError):
    """A planted fault was not tried as it has to be; str() gives the reason."""


@dataclass(frozen=True)
class Named:
    """A test by its name in `make test`."""

    name: str

    @property
    def suite(self) -> str:
        """The KUnit suite, the kselftest program or the file lab/tests/test_pair_*.py."""
        return self.name.split(".")[1]

    @property
    def case(self) -> str:
        """Its name within the suite, parameters included."""
        return self.name.split(".", 2)[2]

    @property
    def pair(self) -> bool:
        """Whether it is a test of two hosts."""
        return self.name.startswith("pair.")

    @property
    def kunit(self) -> bool:
        """Whether it is a KUnit case."""
        return not self.pair and not self.suite.endswith("_test")

    @property
    def module(self) -> str:
        """The module that has the code under test."""
        return f"tests/{self.suite}_kunit" if self.kunit else "vfio_ap"

    @property
    def source(self) -> pathlib.Path:
        """The file that has the test."""
        if self.pair:
            return config.REPO / f"lab/tests/test_pair_{self.suite}.py"
        if self.kunit:
            return config.LINUX / CRYPTO / f"{self.module}.c"
        return config.LINUX / f"tools/testing/selftests/{config.SELFTEST}/{self.suite}.c"

    @property
    def function(self) -> Callable[..., None]:
        """The function of a test of two hosts."""
        module = importlib.import_module(f"lab.tests.test_pair_{self.suite}")
        found: Callable[..., None] = getattr(module, f"test_{self.case}")
        return found

    @property
    def profiles(self) -> list[str]:
        """The hosts that it needs."""
        return list(inspect.signature(self.function).parameters) if self.pair else [PROFILE]


@dataclass(frozen=True)
class Fault:
    """A planted fault, and the tests that find it."""

    name: str
    text: str
    tests: tuple[Named, ...]
    leak: bool
    hang: bool
    prose: str

    @property
    def paths(self) -> list[str]:
        """The files that it changes."""
        return re.findall(r"^\+\+\+ b/(\S+)", self.text, re.M)


def parse(path: pathlib.Path) -> Fault:
    """Read a patch; FaultError if its header is malformed."""
    text = path.read_text(encoding="utf-8")
    header, found, _ = text.partition("\n--- a/")
    if not found:
        raise FaultError(f"{path.name}: no patch in it")
    fields = re.findall(r"^([A-Z][a-z-]+): (.*)$", header, re.M)
    wrong = [f"{key}: {value}" for key, value in fields
             if key != "Test" and (key, value) not in (("Red", "leak"), ("Found-by", "hang"))]
    tests = tuple(Named(value.strip()) for key, value in fields if key == "Test")
    bad = [test.name for test in tests if not re.fullmatch(r"(a|pair)(\.\w+){2,}", test.name)]
    prose = re.sub(r"^[A-Z][a-z-]+: .*$", "", header, flags=re.M).strip()
    if wrong or bad:
        raise FaultError(f"{path.name}: not understood: {'; '.join(wrong + bad)}")
    if not tests:
        raise FaultError(f"{path.name}: names no test")
    if not prose.endswith("."):
        raise FaultError(f"{path.name}: has no sentence that describes the fault")
    return Fault(path.stem, text, tests, ("Red", "leak") in fields, ("Found-by", "hang") in fields,
                 prose)


def load(pattern: str = "*", folder: pathlib.Path = FOLDER) -> list[Fault]:
    """The planted faults whose names match, in the order of their names."""
    return [parse(path) for path in sorted(folder.glob("*.patch"))
            if fnmatch.fnmatchcase(path.stem, pattern)]


def is_quick(fault: Fault) -> bool:
    """Whether the fault is found in seconds."""
    return not fault.hang and not any(fnmatch.fnmatchcase(test.name, glob)
                                      for test in fault.tests for glob in SLOW)


def sample(faults: list[Fault], seed: int, count: int = 3) -> list[Fault]:
    """A few of the faults that are found quickly. Consecutive seeds give each fault its turn."""
    quick = list(filter(is_quick, faults))
    return [quick[(seed * count + number) % len(quick)] for number in range(min(count, len(quick)))]


def seed_of_today() -> int:
    """SEED= or the day of the year."""
    return int(os.environ.get("SEED") or time.localtime().tm_yday)


# The index: one entry per pitfall.

@dataclass(frozen=True)
class Pitfall:
    """An entry of lab/faults/mutants/pitfalls: a mistake, the planted faults that stand for it or
    the reason for none."""

    text: str
    faults: tuple[str, ...]
    reason: str


def pitfalls(text: str) -> list[Pitfall]:
    """Read lab/faults/mutants/pitfalls; FaultError if an entry is malformed."""
    found = []
    text = re.sub(r"\n[ \t]+", " ", re.sub(r"^[#\[].*\n?", "\n", text, flags=re.M))
    for entry in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in entry.strip().splitlines()]
        if not lines:
            continue
        key, _, value = lines[-1].partition(": ")
        if len(lines) < 2 or key not in ("faults", "none") or not value:
            raise FaultError(f"lab/faults/mutants/pitfalls: {lines[0]}: "
                             "the last line is neither faults: nor none:")
        names = tuple(value.split()) if key == "faults" else ()
        found.append(Pitfall(" ".join(lines[:-1]), names, value if key == "none" else ""))
    return found


# Source and build

def apply(fault: Fault, tree: pathlib.Path) -> None:
    """Apply a fault to a tree, without fuzz."""
    done = run(["patch", "-p1", "-s", "-F0", "-N", "--no-backup-if-mismatch", "-r-"], cwd=tree,
               stdin=fault.text)
    if done.rc or done.stderr:
        raise FaultError(f"does not apply: {done.text()}")


def stage(fault: Fault | None, linux: pathlib.Path = config.LINUX) -> pathlib.Path:
    """Copy the driver's folder and plant the fault there; return the top of the tree."""
    top = WORK / "source"
    kernel.remove(top)
    shutil.copytree(linux / CRYPTO, top / CRYPTO)
    if fault:
        apply(fault, top)
    return top


def kbuild(makefile: str, modules: Iterable[str]) -> str:
    """The makefile for these modules, from the Makefile of the driver's folder."""
    joined = makefile.replace("\\\n", " ")
    wanted = re.findall(r"^(?:vfio_ap-(?:objs|y)|CFLAGS_vfio_ap\w*\.o)\b.*$", joined, re.M)
    return "\n".join([*wanted, f"obj-m := {' '.join(f'{m}.o' for m in modules)}", ""])


def update(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy the C files of a folder to another; a file that is equal keeps its time."""
    wanted = {path.relative_to(source) for path in source.rglob("*.[ch]")}
    for path in list(target.rglob("*.[ch]")):
        if path.relative_to(target) not in wanted and not path.name.endswith(".mod.c"):
            path.unlink()
    for name in wanted:
        new, old = source / name, target / name
        if not old.exists() or not filecmp.cmp(new, old, shallow=False):
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, old)


def make(fault: Fault | None, modules: list[str], flavour: str, targets: list[str]) -> pathlib.Path:
    """Make targets in a copy of the driver's folder that has the fault; return that folder."""
    source = stage(fault) / CRYPTO
    work = WORK / flavour
    work.mkdir(parents=True, exist_ok=True)
    update(source, work)
    text = kbuild((source / "Makefile").read_text(encoding="utf-8"), modules)
    if not (work / "Kbuild").exists() or (work / "Kbuild").read_text() != text:
        (work / "Kbuild").write_text(text)
    try:
        logged("modules", [*kernel.MAKE, f"O={config.objects(flavour)}",
                           f"-j{os.cpu_count() or 1}", f"M={work}", *targets],
               config.LOGS / "mutants/build.log", cwd=config.LINUX)
    except CommandFailed as error:
        raise FaultError(f"does not build: {error}") from None
    return work


def build(fault: Fault | None, modules: list[str], flavour: str) -> dict[str, pathlib.Path]:
    """Build modules of the driver with the fault; the files by the modules' names."""
    work = make(fault, modules, flavour, ["modules"])
    return {module: work / f"{module}.ko" for module in modules}


def compile_changed(fault: Fault, flavour: str) -> None:
    """Compile only the objects that the fault changes."""
    changed = [pathlib.Path(path) for path in fault.paths]
    if any(path.suffix == ".h" for path in changed):
        objects = ["vfio_ap.o"]
    else:
        objects = [f"{path.stem}.o" for path in changed]
    make(fault, ["vfio_ap"], flavour, objects)
