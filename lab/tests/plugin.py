# SPDX-License-Identifier: GPL-2.0
"""The plugin for pytest that offers hosts, kselftests and KUnit suites to it.

A test function's arguments are the objects that it needs:
    a, b, ...      a host of that profile (lab/host/profiles), booted at first use, shared by the
                   tests of the run and booted anew when it died or reported something
    lab            a Lab of its own, for tests that boot and kill hosts themselves
    tmp            an empty folder
    minutes, seed  of a soak: for how long it goes on (0: until its goal), the random numbers
long_*() are tests of `make test-long`, all others of `make test`.

Tests have the names of lab.tests.names. @pytest.mark.limit(seconds) sets the limit of a test on
an idle machine (default: LIMIT); on a slower machine it is longer (lab.common.speed). A skip that
lab/tests/expected-skips.FLAVOUR does not list with its reason is a failure.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import pathlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.common import config, progress, speed
from lab.common.errors import LabError
from lab.host.host import Host
from lab.host.lab import Lab
from lab.host.pool import Pool
from lab.tests import names, suites

# Seconds for a test without a mark of its own: a boot under the debug kernel takes half a minute.
LIMIT = 600.0
# Seconds for a test of `make test-long`, besides MINUTES=.
LONG_LIMIT = 6 * 3600.0
PROFILES = sorted(path.stem for path in (config.REPO / "lab/host/profiles").glob("*.toml"))


class ReportedFailure(LabError):
    """A test in a program failed; str() is the program's output about it."""


def parse_skips(text: str) -> list[tuple[str, str]]:
    """"name-glob: reason-glob" per line, # comments."""
    found = []
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            name, _, reason = line.partition(":")
            found.append((name.strip(), reason.strip()))
    return found


def expected_skips(flavour: str) -> list[tuple[str, str]]:
    """The skips that are allowed with that kernel."""
    path = config.REPO / f"lab/tests/expected-skips.{flavour}"
    return parse_skips(path.read_text(encoding="utf-8")) if path.exists() else []


@dataclass
class Counts:
    """The last line."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass
class Settings:
    """Options of a run, and its outcome.

    pattern: globs over test names. flavour: of the kernel. long: the tests of `make test-long`.
    before_end: called for each shared host before it is shut down.
    """

    pattern: str = "*"
    flavour: str = "debug"
    long: bool = False
    minutes: int = 0
    seed: int = 1
    before_end: Callable[[Host], None] | None = None
    interrupted: bool = False
    counts: Counts = field(default_factory=Counts)
    durations: list[tuple[str, float]] = field(default_factory=list)


class ReportedTest(pytest.Item):
    """One test that a suite reports, or (test is None) the suite as a whole."""

    def __init__(self, suite: suites.Suite, test: str | None, run: suites.Runner,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._suite = suite
        self._test = test
        self._run = run

    def runtest(self) -> None:
        """Run the suite, once, and look the result up."""
        suite = self._run.results(self._suite)
        if self._test is None:
            if suite.differences():
                raise ReportedFailure("\n".join(suite.differences()))
            return
        outcome = suite.outcomes.get(self._test)
        if outcome is None:
            raise ReportedFailure("\n".join(["did not report", *suite.problems]))
        if outcome.status == "skip":
            pytest.skip(outcome.reason or "no reason given")
        if outcome.status != "ok":
            raise ReportedFailure("\n".join(outcome.log))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The program's output; a traceback of ours has no information."""
        if isinstance(excinfo.value, ReportedFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[pathlib.Path, int | None, str]:
        """Where it stands: nowhere in Python."""
        return self.path, None, self.name


class CleanHost(pytest.Item):
    """No host of a profile reported anything or leaked. The first of them shuts all hosts down."""

    def __init__(self, plugin: Plugin, profile: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._plugin = plugin
        self._profile = profile

    def runtest(self) -> None:
        """Shut down, scan for leaks, and look."""
        problems = self._plugin.problems().get(self._profile)
        if problems is None:
            pytest.skip("no host of this profile ran")
        if problems:
            raise ReportedFailure("\n".join(problems))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The host's report."""
        if isinstance(excinfo.value, ReportedFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[pathlib.Path, int | None, str]:
        """Where it stands: nowhere in Python."""
        return self.path, None, self.name


class Plugin:
    """The hooks of one run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pool = Pool(settings.flavour, "test/shared", settings.before_end)
        self.second = Pool(settings.flavour, "test/second", settings.before_end)
        self._skips = expected_skips(settings.flavour)
        self._runner = suites.Runner([], self.pool, self.second)
        self._closed = False

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        """Options of pytest's terminal reporter, which this plugin replaces, that others read."""
        group = parser.getgroup("lab")
        group.addoption("--tb", dest="tbstyle", default="short")
        group.addoption("--verbosity", dest="verbose", type=int, default=0)
        group.addoption("--showlocals", dest="showlocals", action="store_true")
        group.addoption("--full-trace", dest="fulltrace", action="store_true")

    # Collection

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session,
                                      items: list[pytest.Item]) -> None:
        """Give the tests their names, add those in C, select, and set limits."""
        settings = self.settings
        python: list[pytest.Item] = []
        for item in items:
            function = getattr(item, "originalname", item.name)
            if function.startswith(names.LONG) != settings.long:
                continue
            item._nodeid = names.of_function(item.path.stem, function)
            item.add_marker(pytest.mark.timeout(self._limit(item), method="signal"))
            python.append(item)
        python = [item for item in python if self._wants(item.nodeid)]
        here = [item for item in python if not item.nodeid.startswith("pair.")]
        pairs = [item for item in python if item.nodeid.startswith("pair.")]
        reported = [] if settings.long else self._reported(session)
        items[:] = [*here, *reported, *pairs]
        profiles = {name for item in python for name in getattr(item, "fixturenames", ())
                    if name in PROFILES}
        if any(isinstance(item, ReportedTest) for item in reported):
            profiles.add("a")
        for profile in sorted(profiles):
            name = f"{profile}.host.clean"
            item = CleanHost.from_parent(session, name=name, nodeid=name, plugin=self,
                                         profile=profile)
            item.add_marker(pytest.mark.timeout(self._limit(item), method="signal"))
            items.append(item)

    def _limit(self, item: pytest.Item) -> float:
        """Seconds that a test can take on this machine."""
        if self.settings.long:
            return speed.scaled(LONG_LIMIT) + 60 * self.settings.minutes
        mark = item.get_closest_marker("limit")
        return speed.scaled(float(mark.args[0]) if mark else LIMIT)

    def _wants(self, name: str) -> bool:
        return names.fits(name, self.settings.pattern)

    def _reported(self, session: pytest.Session) -> list[pytest.Item]:
        wanted: list[tuple[suites.Suite, names.Section]] = []
        for section in names.expected():
            selected = [test for test in section.tests if self._wants(section.name(test))]
            if selected or self._wants(section.complete()):
                wanted.append((suites.make(section, selected), section))
        self._runner = suites.Runner([suite for suite, _ in wanted], self.pool, self.second)
        found: list[pytest.Item] = []
        for suite, section in wanted:
            # The result as a whole comes with any of its tests.
            found += [self._item(session, section.name(test), suite, test)
                      for test in suite.selected]
            found.append(self._item(session, section.complete(), suite, None))
        return found

    def _item(self, session: pytest.Session, name: str, suite: suites.Suite,
              test: str | None) -> pytest.Item:
        item: pytest.Item = ReportedTest.from_parent(
            session, name=name, nodeid=name, suite=suite, test=test, run=self._runner)
        # The suite has its own limits.
        item.add_marker(pytest.mark.timeout(0))
        return item

    # The run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Start the second host, unless a file of tests cannot be read and nothing will run."""
        if session.testsfailed:
            return
        progress.say(f"limits of time are multiplied by {speed.factor():.1f}")
        self._runner.start()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of tests that cannot be imported."""
        if report.failed:
            self.settings.counts.failed += 1
            print(f"not ok {report.nodeid} (import)\n{report.longreprtext}", file=sys.__stdout__,
                  flush=True)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """The name, before anything can hang."""
        progress.say(nodeid)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, None, None]:
        """A test whose hosts have something to report failed."""
        started = time.monotonic()
        yield
        self.settings.durations.append((pyfuncitem.nodeid, time.monotonic() - started))
        for value in pyfuncitem.funcargs.values():
            if isinstance(value, Host):
                value.check()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item,
                                  call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
        """Turn a skip that is not expected into a failure, and remember failures for fixtures."""
        report = (yield).get_result()
        if report.skipped:
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if not any(fnmatch.fnmatchcase(item.nodeid, name) and fnmatch.fnmatchcase(reason, why)
                       for name, why in self._skips):
                report.outcome = "failed"
                report.longrepr = (f"skipped, which lab/tests/expected-skips."
                                   f"{self.settings.flavour} does not list: {reason}")
        if report.failed:
            setattr(item, "lab_failed", True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count, and print a failure at once: the run may take long to its end."""
        counts = self.settings.counts
        if report.failed:
            counts.failed += 1
            printed = "".join(f"\n{title}\n{text}" for title, text in report.sections)
            print(f"not ok {report.nodeid} ({report.when})\n{report.longreprtext}{printed}",
                  file=sys.__stdout__, flush=True)
        elif report.skipped:
            counts.skipped += 1
        elif report.when == "call":
            counts.passed += 1
        if report.when == "call" and not report.failed:
            print(f"ok {report.nodeid}{' # SKIP' if report.skipped else ''}", file=sys.__stdout__,
                  flush=True)

    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C: nothing is waited for."""
        self.settings.interrupted = True
        self._end(abort=True)

    def problems(self) -> dict[str, list[str]]:
        """Shut the shared hosts down; return the reports of each profile."""
        self._end(abort=False)
        found: dict[str, list[str]] = {}
        for pool in (self.pool, self.second):
            for profile, lines in pool.problems.items():
                found.setdefault(profile, []).extend(lines)
        return found

    def _end(self, abort: bool) -> None:
        if self._closed:
            return
        self._closed = True
        with progress.stage("leak scans and shutdown"):
            if abort:
                self.pool.abort()
                self._runner.stop(abort=True)
                return
            self._runner.stop(abort=False)
            self.pool.close()

    def pytest_sessionfinish(self) -> None:
        """End all hosts, also after an interruption. Keep the names that were reported."""
        self._end(abort=True)
        reported = {suite.section.title: list(suite.outcomes) for suite in self._runner.suites
                    if suite.done and not suite.some and not suite.problems}
        if any(suite.differences() for suite in self._runner.suites if suite.done):
            (config.OUT / "expected-tests").write_text(names.format_sections(
                names.updated(names.expected(), reported)), encoding="utf-8")
        self.settings.durations += [
            (f"{suite.section.complete().rpartition('.')[0]}.*", suite.seconds)
            for suite in self._runner.suites if suite.seconds]

    # Fixtures of test functions

    def hosts(self, request: pytest.FixtureRequest, profile: str) -> Host:
        """A shared host; all that the test asks for boot at the same time."""
        wanted = [name for name in request.fixturenames if name in PROFILES]
        return dict(zip(wanted, self.pool.get(wanted), strict=True))[profile]

    @pytest.fixture
    def lab(self, request: pytest.FixtureRequest) -> Iterator[Lab]:
        """A Lab of the test's own. Reports and leaks of its hosts fail the test, unless it failed
        already."""
        with Lab(self.settings.flavour, f"test/{request.node.nodeid}") as lab:
            yield lab
            if self.settings.interrupted or hasattr(request.node, "lab_failed"):
                lab.close(orderly=False)

    @pytest.fixture
    def tmp(self, request: pytest.FixtureRequest) -> Iterator[pathlib.Path]:
        """An empty folder."""
        folder = config.OUT / "tmp" / request.node.nodeid
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    @pytest.fixture
    def minutes(self) -> int:
        """MINUTES=, 0 if it is not set."""
        return self.settings.minutes

    @pytest.fixture
    def seed(self) -> int:
        """SEED=, 1 if it is not set."""
        return self.settings.seed


def _host_fixture(profile: str) -> Any:
    def fixture(self: Plugin, request: pytest.FixtureRequest) -> Host:
        return self.hosts(request, profile)

    fixture.__doc__ = f"A shared host of profile {profile}."
    return pytest.fixture(name=profile)(fixture)


for _profile in PROFILES:
    setattr(Plugin, f"host_{_profile}", _host_fixture(_profile))


def arm_stack_dump() -> None:
    """SIGTERM prints where every thread is before the process ends."""
    faulthandler.register(signal.SIGTERM, file=sys.__stderr__, all_threads=True, chain=True)
