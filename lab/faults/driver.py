# SPDX-License-Identifier: GPL-2.0
"""`make test-mutants`: faults that the driver could have had, and the tests that find them.

Each lab/faults/mutants/*.patch puts one fault back into the driver. It must turn its tests red:

    ok 1 control.a.vfio_ap_migration.save_again    the tests pass with the driver as it is
    ok 2 mutant.stale_snapshot                     and fail with the mutant
    not ok 3 mutant.no_io_mutex
    #   a.migration_file_test.file.group.two_readers_get_each_byte_once: passed

A patch begins with a header: what the fault is, and

    Test: NAME        as `make test` prints it: a KUnit case or a kselftest in host a. Each of
                      several lines must turn red
    Red: leak         kmemleak's scan after the test is what fails; otherwise it is the test

A kernel report, a dead host and a test without end are red, too. A mutant that does not apply,
build or load, and a test that did not run, are not: they are failures.

Only the modules that a test needs are built, as external modules against the objects of the
kernel, in build/mutants. The host is booted once and again after whatever may have left traces.
"""

from __future__ import annotations

import fcntl
import filecmp
import fnmatch
import os
import pathlib
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.common import config, progress
from lab.common.errors import LabError
from lab.common.run import CommandFailed, logged, run
from lab.host.errors import CommandError, CommandTimeout, HostError
from lab.host.host import Host
from lab.host.lab import Lab
from lab.image import kernel
from lab.report import tap
from lab.report.results import Results

FOLDER = config.REPO / "lab/faults/mutants"
INDEX = FOLDER / "pitfalls"
CRYPTO = pathlib.Path("drivers/s390/crypto")
PROFILE = "a"
WORK = config.BUILD / "mutants"
# More than ENV_TIMEOUT of the selftests, so that a test that hangs fails by itself.
LIMIT = 1200.0


class MutantError(LabError):
    """A mutant, or the way to try it, is wrong; str() says what."""


@dataclass(frozen=True)
class Named:
    """A test by its name in `make test`."""

    name: str

    @property
    def suite(self) -> str:
        """The KUnit suite or the kselftest program."""
        return self.name.split(".")[1]

    @property
    def case(self) -> str:
        """What it is called within the suite, parameters included."""
        return self.name.split(".", 2)[2]

    @property
    def kunit(self) -> bool:
        """Whether it is a KUnit case."""
        return not self.suite.endswith("_test")

    @property
    def module(self) -> str:
        """The module that has the code under test."""
        return f"tests/{self.suite}_kunit" if self.kunit else "vfio_ap"

    @property
    def source(self) -> pathlib.Path:
        """The file that has the test, below the kernel tree."""
        if self.kunit:
            return CRYPTO / f"{self.module}.c"
        return pathlib.Path("tools/testing/selftests") / config.SELFTEST / f"{self.suite}.c"


@dataclass(frozen=True)
class Mutant:
    """A fault, and the tests that find it."""

    name: str
    text: str
    tests: tuple[Named, ...]
    leak: bool
    prose: str

    @property
    def paths(self) -> list[str]:
        """The files that it changes."""
        return re.findall(r"^\+\+\+ b/(\S+)", self.text, re.M)


def parse(path: pathlib.Path) -> Mutant:
    """Read a patch; MutantError if its header is not as it should be."""
    text = path.read_text(encoding="utf-8")
    header, found, _ = text.partition("\n--- a/")
    if not found:
        raise MutantError(f"{path.name}: no patch in it")
    fields = re.findall(r"^([A-Z][a-z]+): (.*)$", header, re.M)
    wrong = [f"{key}: {value}" for key, value in fields
             if key != "Test" and (key, value) != ("Red", "leak")]
    tests = tuple(Named(value.strip()) for key, value in fields if key == "Test")
    bad = [test.name for test in tests if not re.fullmatch(r"a(\.\w+){2,}", test.name)]
    prose = re.sub(r"^[A-Z][a-z]+: .*$", "", header, flags=re.M).strip()
    if wrong or bad:
        raise MutantError(f"{path.name}: not understood: {'; '.join(wrong + bad)}")
    if not tests:
        raise MutantError(f"{path.name}: names no test")
    if not prose.endswith("."):
        raise MutantError(f"{path.name}: has no sentence that tells what the fault is")
    return Mutant(path.stem, text, tests, ("Red", "leak") in fields, prose)


def load(pattern: str = "*", folder: pathlib.Path = FOLDER) -> list[Mutant]:
    """The mutants whose names match, in the order of their names."""
    return [parse(path) for path in sorted(folder.glob("*.patch"))
            if fnmatch.fnmatchcase(path.stem, pattern)]


# The index: one line per pitfall and what stands for it.

@dataclass(frozen=True)
class Pitfall:
    """A line of lab/faults/mutants/pitfalls: the fault, its mutants, or the reason for none."""

    text: str
    mutants: tuple[str, ...]
    reason: str


def pitfalls(text: str) -> list[Pitfall]:
    """Read lab/faults/mutants/pitfalls; MutantError for an entry that is not as it should be."""
    found = []
    text = re.sub(r"\n[ \t]+", " ", re.sub(r"^[#\[].*\n?", "\n", text, flags=re.M))
    for entry in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in entry.strip().splitlines()]
        if not lines:
            continue
        key, _, value = lines[-1].partition(": ")
        if len(lines) < 2 or key not in ("mutants", "none") or not value:
            raise MutantError(f"lab/faults/mutants/pitfalls: {lines[0]}: "
                              "the last line is neither mutants: nor none:")
        names = tuple(value.split()) if key == "mutants" else ()
        found.append(Pitfall(" ".join(lines[:-1]), names, value if key == "none" else ""))
    return found


# Source and build

def apply(mutant: Mutant, tree: pathlib.Path) -> None:
    """Apply a mutant to a tree, without any leniency."""
    done = run(["patch", "-p1", "-s", "-F0", "-N", "--no-backup-if-mismatch", "-r-"], cwd=tree,
               stdin=mutant.text)
    if done.rc or done.stderr:
        raise MutantError(f"does not apply: {done.text()}")


def stage(mutant: Mutant | None, linux: pathlib.Path = config.LINUX) -> pathlib.Path:
    """A copy of the driver's folder, with the mutant in it; returns the tree's top."""
    top = WORK / "source"
    kernel.remove(top)
    shutil.copytree(linux / CRYPTO, top / CRYPTO)
    if mutant:
        apply(mutant, top)
    return top


def kbuild(makefile: str, modules: Iterable[str]) -> str:
    """What makes these modules of the driver's folder, made from its Makefile."""
    joined = makefile.replace("\\\n", " ")
    wanted = re.findall(r"^(?:vfio_ap-(?:objs|y)|CFLAGS_vfio_ap\w*\.o)\b.*$", joined, re.M)
    return "\n".join([*wanted, f"obj-m := {' '.join(f'{m}.o' for m in modules)}", ""])


def update(source: pathlib.Path, target: pathlib.Path) -> None:
    """Make the C files of a folder those of another; what is equal keeps its time."""
    wanted = {path.relative_to(source) for path in source.rglob("*.[ch]")}
    for path in list(target.rglob("*.[ch]")):
        if path.relative_to(target) not in wanted and not path.name.endswith(".mod.c"):
            path.unlink()
    for name in wanted:
        new, old = source / name, target / name
        if not old.exists() or not filecmp.cmp(new, old, shallow=False):
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, old)


def build(mutant: Mutant | None, modules: list[str], flavour: str) -> dict[str, pathlib.Path]:
    """Build modules of the driver with the mutant in it: the files by the modules' names."""
    source = stage(mutant) / CRYPTO
    work = WORK / flavour
    work.mkdir(parents=True, exist_ok=True)
    update(source, work)
    text = kbuild((source / "Makefile").read_text(encoding="utf-8"), modules)
    if not (work / "Kbuild").exists() or (work / "Kbuild").read_text() != text:
        (work / "Kbuild").write_text(text)
    try:
        logged("modules", [*kernel.MAKE, f"O={config.objects(flavour)}",
                           f"-j{os.cpu_count() or 1}", f"M={work}", "modules"],
               config.LOGS / "mutants/build.log", cwd=config.LINUX)
    except CommandFailed as error:
        raise MutantError(f"does not build: {error}") from None
    return {module: work / f"{module}.ko" for module in modules}


# In the host

@dataclass
class Verdict:
    """What a test came to."""

    red: bool
    why: list[str] = field(default_factory=list)


# What a test that breaks off may leave behind.
TRACES = """
cd /sys/bus/ap
ls devices; cat apmask aqmask
for card in devices/card*; do cat $card/config $card/chkstop; done
ls /sys/bus/mdev/devices
"""


class Bench:
    """A host to try mutants in: booted when it is needed, and anew when it has suffered."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self._boots = 0
        self._lab: Lab | None = None
        self._host: Host | None = None
        self._traces = ""
        self._marks = 0

    def host(self) -> Host:
        """A host without reports, in which nothing of the last test is left."""
        if self._host and not (self._host.alive and not self._host.reports
                               and self._traces == self._look()):
            self.close()
        if not self._host:
            self._boots += 1
            self._lab = Lab(self.flavour, f"mutants/{self._boots}")
            self._host = self._lab.boot(PROFILE)
            self._traces = self._look()
            self._host.run("modprobe kunit enable=1 autorun=1")
        return self._host

    def close(self) -> None:
        """End the host, whatever state it is in."""
        if self._lab:
            self._lab.close(orderly=False)
        self._lab = self._host = None

    def _look(self) -> str:
        assert self._host is not None
        try:
            return self._host.run(TRACES, timeout=60, check=False).out
        except LabError as error:
            return str(error)

    def load(self, path: pathlib.Path, glob: str) -> Host:
        """Put the module into a host in the place of the one that is there. A KUnit module runs
        those of its cases that match."""
        host = self.host()
        problem = self._unload(host, path.stem)
        if problem:
            self.close()
            host = self.host()
            problem = self._unload(host, path.stem)
        if problem:
            raise MutantError(f"{path.stem} cannot be unloaded: {problem}")
        shutil.copyfile(path, host.path(path.name))
        host.run(f"echo -n {shlex.quote(glob)} >/sys/module/kunit/parameters/filter_glob")
        done = host.run(f"insmod /lab/results/{path.name}", LIMIT, check=False)
        if done.rc:
            raise MutantError(f"{path.stem} does not load: {done.out.strip()}")
        return host

    @staticmethod
    def _unload(host: Host, name: str) -> str:
        """Remove a module, if it is there; what is in the way, if anything is."""
        try:
            done = host.run(f"[ ! -e /sys/module/{name} ] || rmmod {name}", 60, check=False)
        except LabError as error:
            return str(error)
        return done.out.strip() or f"exit status {done.rc}" if done.rc else ""

    def settle(self, host: Host) -> None:
        """Return when what the kernel has printed so far has been looked at."""
        self._marks += 1
        mark = f"lab: mark {self._marks}"
        host.run(f"echo '<5>{mark}' >/dev/kmsg")
        host.wait_for(lambda: mark in host.log_path.read_text(errors="replace"), 60)
        host.check()


def run_case(host: Host, named: Named) -> list[tap.Outcome]:
    """Run a test in the host: what it reported."""
    if named.kunit:
        text = host.run(f"cat /sys/kernel/debug/kunit/{named.suite}/results").out
    else:
        process = host.start(f"cd /lab/selftests/{config.SELFTEST}\n"
                             f"exec ./{named.suite} -r {shlex.quote(named.case)}")
        text = process.wait(LIMIT, check=False).out
    return tap.parse(text)


def judge(named: Named, outcomes: list[tap.Outcome]) -> Verdict:
    """Whether the named test failed; MutantError if it did not run."""
    mine = []
    for result in outcomes:
        name = result.name.removeprefix("global.").removeprefix(f"{named.suite}.")
        if name == named.case or name.startswith(f"{named.case}."):
            mine.append(result)
    if any(result.status == "not ok" for result in mine):
        return Verdict(True, ["failed"])
    if not mine or any(result.status == "skip" for result in mine):
        raise MutantError("did not run: " + "; ".join(
            " ".join([o.name, o.status, o.reason, *o.log[-3:]]) for o in outcomes))
    return Verdict(False, ["passed"])


def run_test(bench: Bench, named: Named, path: pathlib.Path, leak: bool) -> Verdict:
    """Try a module with a test."""
    try:
        host = bench.load(path, f"{named.suite}.{named.case.split('.')[0]}")
        if leak:
            host.run("echo clear >/sys/kernel/debug/kmemleak")
        verdict = judge(named, run_case(host, named))
        bench.settle(host)
        if leak and not verdict.red:
            leaks = host.leaks()
            verdict = Verdict(bool(leaks), ["leaked" if leaks else "leaked nothing"])
        return verdict
    except CommandError as error:
        raise MutantError(str(error)) from None
    except (HostError, CommandTimeout) as error:
        bench.close()
        return Verdict(True, str(error).splitlines()[:1])


Found = dict[Named, Verdict | MutantError]


def run_tests(bench: Bench, tests: Iterable[Named], paths: dict[str, pathlib.Path],
              leak: bool = False) -> Found:
    """Try modules with tests, one by one."""
    found: Found = {}
    for test in tests:
        try:
            found[test] = run_test(bench, test, paths[test.module], leak)
        except MutantError as error:
            found[test] = error
    return found


def run_suite(bench: Bench, tests: list[Named], path: pathlib.Path) -> Found:
    """Run a whole KUnit suite for those of its cases."""
    try:
        host = bench.load(path, f"{tests[0].suite}.*")
        outcomes = run_case(host, tests[0])
        bench.settle(host)
        return {test: judge(test, outcomes) for test in tests}
    except (LabError, MutantError) as error:
        bench.close()
        return {test: MutantError(str(error)) for test in tests}


def outcome(found: Found, red: bool) -> tap.Outcome:
    """The result of a mutant (red is wanted) or a control."""
    log = []
    for test, verdict in found.items():
        if isinstance(verdict, MutantError):
            log += [f"{test.name}: {line}" for line in str(verdict).splitlines()]
        elif verdict.red != red:
            log += [f"{test.name}: {line}" for line in verdict.why]
    return tap.Outcome("", "not ok" if log else "ok", log=log)


def run_controls(report: Results, bench: Bench, mutants: list[Mutant]) -> None:
    """Every test passes, or leaks nothing, without any mutant."""
    wanted = {(test, mutant.leak): None for mutant in mutants for test in mutant.tests}
    paths = build(None, sorted({test.module for test, _ in wanted}), bench.flavour)
    suites: dict[str, list[Named]] = {}
    for test, leak in wanted:
        if test.kunit and not leak:
            suites.setdefault(test.suite, []).append(test)
    for tests in suites.values():
        for test, verdict in run_suite(bench, tests, paths[tests[0].module]).items():
            report.add(f"control.{test.name}", outcome({test: verdict}, red=False))
    for test, leak in wanted:
        if leak or not test.kunit:
            report.add(f"control.{test.name}",
                       outcome(run_tests(bench, [test], paths, leak), red=False))


def run_mutants(report: Results, bench: Bench, mutants: list[Mutant]) -> None:
    """Every mutant turns its tests red."""
    for mutant in mutants:
        try:
            paths = build(mutant, sorted({test.module for test in mutant.tests}), bench.flavour)
            found = run_tests(bench, mutant.tests, paths, mutant.leak)
        except MutantError as error:
            found = {test: error for test in mutant.tests[:1]}
        report.add(f"mutant.{mutant.name}", outcome(found, red=True))


def run_all(report: Results, mutants: list[Mutant], flavour: str) -> None:
    """The tests with the driver as it is, then each mutant."""
    bench = Bench(flavour)
    try:
        with progress.stage("tests of the driver as it is"):
            run_controls(report, bench, mutants)
        with progress.stage("mutants"):
            run_mutants(report, bench, mutants)
    except MutantError as error:
        raise LabError(f"the driver as it is: {error}") from None
    finally:
        bench.close()


def main(pattern: str = "*", flavour: str = "debug") -> int:
    """Try every mutant whose name matches; the exit status."""
    mutants = load(pattern)
    config.OUT.mkdir(parents=True, exist_ok=True)
    with (config.OUT / ".mutants.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError(f"another run of the mutants writes to {config.OUT}") from None
        shutil.rmtree(config.LOGS / "mutants", ignore_errors=True)
        with (config.OUT / "mutants.tap").open("w", encoding="utf-8") as out:
            report = Results(out=out)
            run_all(report, mutants, flavour)
            progress.print_stages()
            return report.summary()
