# SPDX-License-Identifier: GPL-2.0
"""`make test`: every automated test, in one flat list.

    ok 1 lab.fetch.newest_that_fits            lab/tests/test_*.py, on the build machine
    ok 2 lab.series.difference                 patches/, build/linux and the top level agree
    ok 3 lab.stream_host_test.goldens          the driver's stream code, built for this machine
    ok 4 a.vfio_ap_stream.golden               KUnit suites, in host a
    ok 5 a.migration_state_test.cancel         kselftests, in host a
    ok 6 pair.migrate.completes                lab/tests/test_pair_*.py, hosts a and b
    ok 7 a.host.clean                          console and leak scan of every host that ran

A Python test is a function test_*(); its arguments say what it wants:
    a, b, ...   a host of that profile, booted at first use, shared by the tests of the run and
                booted anew when it died or reported something
    lab         a Lab of its own, for tests that boot and kill hosts themselves
    tmp         an empty folder
It fails by raising, and is skipped by raising Skip(reason).

A function long_*() is a test of `make test-long`. It can take the arguments minutes and seed, too:
for how long it is to go on, 0 for what it thinks is enough, and what its random numbers come from.

A skip that lab/tests/expected-skips does not list with its reason is a failure. So is a planned
test that did not report.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import importlib.util
import inspect
import io
import pathlib
import re
import shlex
import shutil
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from lab.common import config, progress
from lab.common.errors import LabError
from lab.common.run import run
from lab.host.errors import CommandTimeout, HostError
from lab.host.host import Host
from lab.host.lab import Lab
from lab.report import tap
from lab.series import difference as series

EXPECTED_SKIPS = config.REPO / "lab/tests/expected-skips"
# A kselftest's limit is written for hardware; the emulator with a debug kernel takes longer.
SLOWDOWN = 10
DEFAULT_TIMEOUT = 45.0
# What the names of test functions begin with: in `make test` and in `make test-long`.
SHORT = "test_"
LONG = "long_"
LOG_LINES = 60


class Skip(LabError):
    """Raised by a test that cannot run here; the reason must stand in lab/expected-skips."""


def could_match(pattern: str, prefix: str) -> bool:
    """Whether some name that starts with prefix matches the pattern."""
    for wanted, got in zip(pattern, prefix, strict=False):
        if wanted in "*[":
            return True
        if wanted not in ("?", got):
            return False
    return len(pattern) >= len(prefix)


def parse_skips(text: str) -> list[tuple[str, str]]:
    """lab/tests/expected-skips: "name-glob: reason-glob" per line, # comments."""
    found = []
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            name, _, reason = line.partition(":")
            found.append((name.strip(), reason.strip()))
    return found


@dataclass
class Report:
    """Counts and prints results."""

    pattern: str = "*"
    skips: list[tuple[str, str]] = field(default_factory=list)
    out: io.TextIOBase | None = None
    # Where to print; a test function's own output is redirected, and others may end meanwhile.
    stdout: TextIO | None = None
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def print(self, text: str) -> None:
        """A line of output, also in out/test.tap."""
        print(text, flush=True, file=self.stdout)
        if self.out:
            self.out.write(text + "\n")
            self.out.flush()

    def wants(self, name: str) -> bool:
        """Whether a test is to be run."""
        return fnmatch.fnmatchcase(name, self.pattern)

    def may_want(self, suite: str) -> bool:
        """Whether a suite may have a test that is to be run."""
        return could_match(self.pattern, f"{suite}.")

    def add(self, name: str, outcome: tap.Outcome) -> None:
        """Print one result. name: complete, without blanks. From any thread."""
        with self.lock:
            self._add(name, outcome)

    def _add(self, name: str, outcome: tap.Outcome) -> None:
        name = "_".join(name.split())
        number = self.passed + self.failed + self.skipped + 1
        if outcome.status == "skip":
            reason = outcome.reason or "no reason given"
            if any(fnmatch.fnmatchcase(name, glob) and fnmatch.fnmatchcase(reason, why)
                   for glob, why in self.skips):
                self.skipped += 1
                self.print(f"ok {number} {name} # SKIP {reason}")
                return
            outcome.log = [f"skipped, which lab/tests/expected-skips does not list: {reason}"]
        if outcome.status == "ok":
            self.passed += 1
            self.print(f"ok {number} {name}")
            return
        self.failed += 1
        self.print(f"not ok {number} {name}")
        for line in outcome.log[-LOG_LINES:]:
            self.print(f"#   {line}")

    def summary(self) -> int:
        """Print the last line; the exit status."""
        self.print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return int(self.failed > 0 or self.passed == 0)


class Pool:
    """Hosts that tests share: booted when first asked for, together, and kept.

    before_end: called for each of them that is alive before it is shut down."""

    def __init__(self, report: Report, flavour: str = "debug", name: str = "test",
                 minutes: int = 0, seed: int = 1,
                 before_end: Callable[[Host], None] | None = None) -> None:
        self.flavour = flavour
        self.minutes = minutes
        self.seed = seed
        self._before_end = before_end
        self._report = report
        self._name = name
        self._lab: Lab | None = None
        self._hosts: dict[str, Host] = {}
        self._problems: dict[str, list[str]] = {}
        self._round = 0

    def get(self, names: list[str]) -> list[Host]:
        """These hosts, alive and without a report; others make room if they have to."""
        for name, host in list(self._hosts.items()):
            if not host.alive or host.reports:
                self._drop(name)
        missing = [name for name in names if name not in self._hosts]
        others = [name for name in self._hosts if name not in names]
        while others and len(names) + len(others) > 2:
            self._drop(others.pop())
        if missing:
            if self._lab is None:
                self._round += 1
                self._lab = Lab(self.flavour, f"{self._name}/{self._round}")
            started = time.monotonic()
            booted = self._lab.boot_all(missing)
            progress.say(f"hosts {' '.join(missing)} booted in "
                         f"{time.monotonic() - started:.0f} s")
            self._hosts.update(zip(missing, booted, strict=True))
        return [self._hosts[name] for name in names]

    def _drop(self, name: str) -> None:
        host = self._hosts.pop(name)
        problems = self._problems.setdefault(name, [])
        try:
            if self._before_end and host.alive:
                self._before_end(host)
            host.shutdown()
        except LabError as error:
            problems += str(error).splitlines()
            leaks = host.path("kmemleak.txt")
            if leaks.exists():
                problems += leaks.read_text(errors="replace").splitlines()[:40]
        # Names of hosts are names of folders: keep the log of this one.
        if host.log_path.parent.exists():
            serial = sum(1 for _ in host.log_path.parent.parent.glob(f"{name}.*")) + 1
            kept = host.log_path.parent.with_name(f"{name}.{serial}")
            host.log_path.parent.rename(kept)
            problems[:] = [line.replace(str(host.log_path.parent) + "/", f"{kept}/")
                           for line in problems]

    def close(self) -> None:
        """Shut all down; one result per profile: nothing reported, nothing leaked."""
        for name in list(self._hosts):
            self._drop(name)
        if self._lab:
            self._lab.close(orderly=False)
            self._lab = None
        for name, problems in sorted(self._problems.items()):
            self._report.add(f"{name}.host.clean",
                             tap.Outcome("clean", "not ok" if problems else "ok", log=problems))
        self._problems.clear()


# Python tests

def functions_of(path: pathlib.Path,
                 prefix: str = SHORT) -> list[tuple[str, Callable[..., None]]]:
    """The test functions of a file, in the order they stand there."""
    spec = importlib.util.spec_from_file_location(f"lab.tests.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return [(name.removeprefix(prefix), value) for name, value in vars(module).items()
            if name.startswith(prefix) and inspect.isfunction(value)
            and value.__module__ == spec.name]


def profiles() -> set[str]:
    """The names that a test can take as arguments to get a host."""
    return {path.stem for path in (config.REPO / "lab/host/profiles").glob("*.toml")}


@contextlib.contextmanager
def arguments(function: Callable[..., None], name: str, pool: Pool) -> Iterator[dict[str, object]]:
    """What the test function asks for."""
    names = list(inspect.signature(function).parameters)
    hosts = [n for n in names if n in profiles()]
    unknown = [n for n in names if n not in hosts and n not in ("lab", "tmp", "minutes", "seed")]
    if unknown:
        raise LabError(f"{name}: no such test argument: {' '.join(unknown)}")
    values: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        if "tmp" in names:
            folder = config.OUT / "tmp" / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            values["tmp"] = folder
        if hosts:
            values.update(zip(hosts, pool.get(hosts), strict=True))
        if "minutes" in names:
            values["minutes"] = pool.minutes
        if "seed" in names:
            values["seed"] = pool.seed
        if "lab" in names:
            lab = Lab(pool.flavour, f"test/{name}")
            stack.push(lab.__exit__)
            values["lab"] = lab
        yield values


def run_function(function: Callable[..., None], name: str, pool: Pool) -> tap.Outcome:
    """Call a test function; its exception and output make the outcome."""
    printed = io.StringIO()
    try:
        with arguments(function, name, pool) as values:
            with contextlib.redirect_stdout(printed):
                function(**values)
            for value in values.values():
                if isinstance(value, Host):
                    value.check()
    except Skip as skip:
        return tap.Outcome(name, "skip", str(skip))
    except LabError as error:
        where = traceback.extract_tb(error.__traceback__)
        mine = [f"{pathlib.Path(f.filename).name}:{f.lineno}: {f.line}" for f in where
                if "/lab/tests/" in f.filename]
        return tap.Outcome(name, "not ok", log=[*printed.getvalue().splitlines(), *mine[-1:],
                                                *str(error).splitlines()])
    except Exception:  # pylint: disable=broad-except
        return tap.Outcome(name, "not ok", log=[*printed.getvalue().splitlines(),
                                                *traceback.format_exc().splitlines()])
    return tap.Outcome(name, "ok")


def run_python(report: Report, pool: Pool, pair: bool, prefix: str = SHORT) -> None:
    """lab/tests/test_pair_*.py, or the other ones: the functions with that prefix."""
    for path in sorted((config.REPO / "lab/tests").glob("test_*.py")):
        stem = path.stem.removeprefix("test_")
        if stem.startswith("pair_") != pair:
            continue
        suite = f"pair.{stem.removeprefix('pair_')}" if pair else f"lab.{stem}"
        if not report.may_want(suite):
            continue
        try:
            functions = functions_of(path, prefix)
        except Exception:  # pylint: disable=broad-except
            report.add(f"{suite}.import", tap.Outcome(
                "import", "not ok", log=traceback.format_exc().splitlines()))
            continue
        for name, function in functions:
            full = f"{suite}.{name}"
            if report.wants(full):
                with progress.timed(full):
                    outcome = run_function(function, full, pool)
                report.add(full, outcome)


def run_difference(report: Report) -> None:
    """patches/, build/linux and the top level agree."""
    name = "lab.series.difference"
    if report.wants(name):
        differences = series.difference()
        report.add(name, tap.Outcome(name, "not ok" if differences else "ok", log=differences))


def run_native(report: Report) -> None:
    """The driver's stream code, built for and run on this machine."""
    suite = "lab.stream_host_test"
    source = config.LINUX / "tools/testing/selftests" / config.SELFTEST
    if not report.may_want(suite) or not (source / "stream_host_test.c").exists():
        return
    output = config.BUILD / "host_test"
    done = run(["make", "-C", source, f"ARCH={config.ARCH}", f"OUTPUT={output}", "host_test"])
    lines = [line for line in done.out.splitlines() if not line.startswith("make")]
    outcomes = tap.parse("\n".join(lines))
    if done.rc and all(o.status != "not ok" for o in outcomes):
        outcomes.append(tap.Outcome("end", "not ok", log=done.err.splitlines()))
    elif done.rc:
        outcomes[-1].log += done.err.splitlines()[-20:]
    add_suite(report, suite, outcomes)


# Tests in a host

def add_suite(report: Report, suite: str, outcomes: list[tap.Outcome]) -> None:
    """Results of one suite or program."""
    for outcome in outcomes:
        # kselftest_harness.h calls tests without a fixture "global.x"; KUnit repeats the suite.
        name = outcome.name.removeprefix("global.").removeprefix(f"{suite.split('.')[-1]}.")
        if report.wants(f"{suite}.{name}"):
            report.add(f"{suite}.{name}", outcome)


def kunit_modules(flavour: str) -> list[str]:
    """The KUnit modules that were built, kunit.ko itself aside."""
    return sorted({path.stem for path in (config.share(flavour) / "lib/modules").rglob("*.ko")
                   if path.stem.endswith("_kunit") or path.stem.endswith("_test")})


def split_suites(text: str) -> list[tuple[str, str]]:
    """(suite, results) of each "suite: NAME" line and what follows it."""
    parts = re.split(r"^suite: (\S+)$\n?", text, flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run_kunit(report: Report, pool: Pool, profile: str) -> None:
    """Load each KUnit module in the host and read its suites from debugfs."""
    for module in kunit_modules(pool.flavour):
        guess = module.removesuffix("_test").removesuffix("_kunit")
        if not report.may_want(f"{profile}.{guess}"):
            continue
        try:
            host, = pool.get([profile])
            root = "/sys/kernel/debug/kunit"
            text = host.run(f"modprobe kunit enable=1 autorun=1; ls {root} >/tmp/before\n"
                            f"modprobe {module}\n"
                            f"for suite in $(ls {root}); do\n"
                            "grep -qx $suite /tmp/before || "
                            f"{{ echo \"suite: $suite\"; cat {root}/$suite/results; }}\ndone",
                            timeout=600).out
        except LabError as error:
            report.add(f"{profile}.{guess}.load",
                       tap.Outcome("load", "not ok", log=str(error).splitlines()))
            continue
        suites = split_suites(text)
        if not suites:
            report.add(f"{profile}.{guess}.plan", tap.Outcome(
                "plan", "not ok", log=["the module registered no suite", *text.splitlines()]))
        for name, results in suites:
            add_suite(report, f"{profile}.{name}", tap.parse(results))


def selftests(flavour: str) -> pathlib.Path:
    """The collection that was built for hosts of that kernel."""
    return config.share(flavour) / "selftests"


class Programs:
    """The programs of kselftest-list.txt that may have a test that is to be run.

    Several hosts can take them from here. One keeps a core of the build machine busy, mostly."""

    def __init__(self, report: Report, root: pathlib.Path, profile: str) -> None:
        self._report = report
        self._profile = profile
        self._root = root
        self._left: deque[tuple[str, str]] = deque()
        listing = root / "kselftest-list.txt"
        if listing.exists():
            self._left += [(folder, program) for folder, program
                           in tap.kselftest_programs(listing.read_text())
                           if report.may_want(self._suite(program))]

    def _suite(self, program: str) -> str:
        return f"{self._profile}.{pathlib.Path(program).stem}"

    def run(self, pool: Pool) -> None:
        """Run one after the other in the pool's host until none is left."""
        while True:
            try:
                folder, program = self._left.popleft()
            except IndexError:
                return
            limit = SLOWDOWN * tap.kselftest_timeout(self._root / folder, DEFAULT_TIMEOUT)
            with progress.timed(self._suite(program)):
                outcomes = run_program(pool, self._profile, folder, program, limit)
            add_suite(self._report, self._suite(program), outcomes)

    @contextlib.contextmanager
    def run_beside(self, pool: Pool) -> Iterator[None]:
        """Run them in this pool's host, too, while the caller does something else, and then takes
        what is left; the pool is closed at the end."""
        def work() -> None:
            # An emulator ends with the thread that started it.
            self.run(pool)
            pool.close()

        helper = threading.Thread(target=work)
        if len(self._left) > 1:
            helper.start()
        try:
            yield
        except BaseException:
            self._left.clear()
            raise
        finally:
            if helper.ident:
                helper.join()


def run_program(pool: Pool, profile: str, folder: str, program: str,
                limit: float) -> list[tap.Outcome]:
    """One kselftest program: its tests, and how it ended if that was not well."""
    text, end = "", []
    try:
        host, = pool.get([profile])
        process = host.start(f"cd /lab/selftests/{shlex.quote(folder)}\n"
                             f"exec ./{shlex.quote(program)}")
        try:
            result = process.wait(limit, check=False)
            text = result.out
            if result.rc not in (0, 1, 4):
                end = [f"exit status {result.rc}"]
        except (CommandTimeout, HostError) as error:
            text, end = process.output(), str(error).splitlines()[:1]
    except LabError as error:
        return [tap.Outcome("start", "not ok", log=str(error).splitlines())]
    outcomes = tap.parse(text)
    bad = [o for o in outcomes if o.status == "not ok"]
    if not end and not bad and result.rc == 1:
        end = ["exit status 1, though no test failed"]
    if end:
        outcomes.append(tap.Outcome("end", "not ok", log=[*end, *text.splitlines()[-30:]]))
    return outcomes


@contextlib.contextmanager
def results_file(name: str = "test") -> Iterator[io.TextIOWrapper]:
    """out/test.tap, which one run at a time writes; logs of the run before are removed."""
    config.OUT.mkdir(parents=True, exist_ok=True)
    with (config.OUT / ".test.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError(f"another test run writes to {config.OUT}") from None
        shutil.rmtree(config.LOGS / "test", ignore_errors=True)
        with (config.OUT / f"{name}.tap").open("w", encoding="utf-8") as out:
            yield out


def main(pattern: str = "*", repeat: int = 1, flavour: str = "debug") -> int:
    """Run everything that matches; the exit status."""
    skips = parse_skips(EXPECTED_SKIPS.read_text()) if EXPECTED_SKIPS.exists() else []
    with results_file() as out:
        report = Report(pattern, skips, out, sys.stdout)
        for _ in range(repeat):
            pool = Pool(report, flavour)
            second = Pool(report, flavour, "test/second")
            try:
                programs = Programs(report, selftests(flavour), "a")
                with programs.run_beside(second):
                    with progress.stage("tests on the build machine, and some in one host"):
                        run_difference(report)
                        run_native(report)
                        run_python(report, pool, pair=False)
                    with progress.stage("the other tests in one host"):
                        run_kunit(report, pool, "a")
                        programs.run(pool)
                with progress.stage("tests of two hosts"):
                    run_python(report, pool, pair=True)
            finally:
                with progress.stage("leak scans and shutdown"):
                    second.close()
                    pool.close()
        progress.print_stages()
        return report.summary()


def main_long(pattern: str = "*", flavour: str = "debug", minutes: int = 0,
              seed: int = 1) -> int:
    """Run the long tests that match; the exit status."""
    with results_file("test-long") as out:
        report = Report(pattern, out=out)
        pool = Pool(report, flavour, minutes=minutes, seed=seed)
        try:
            with progress.stage("long tests"):
                for pair in (False, True):
                    run_python(report, pool, pair, LONG)
        finally:
            pool.close()
        progress.print_stages()
        return report.summary()
