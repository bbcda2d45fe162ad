# SPDX-License-Identifier: GPL-2.0
"""Programs and modules written in C that report several tests each: run once, then asked.

A suite runs when its first test is due. Kselftest programs can run in a second host at the same
time: Beside takes them from the same list in a thread of its own.
"""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Sequence

from lab.common import config, progress, speed
from lab.common.errors import LabError
from lab.common.run import run
from lab.host.errors import CommandTimeout, HostError
from lab.host.pool import Pool
from lab.image import kernel
from lab.report import tap
from lab.tests.names import Section

# Seconds for a kselftest program without a "settings" file, and for a KUnit module.
DEFAULT_LIMIT = 300.0
KUNIT_LIMIT = 600.0
NATIVE_LIMIT = 600.0
# A program with so many selected tests, or fewer, runs these only.
FEW = 5


class Suite:
    """The tests of one program or module, and their reports.

    outcomes: by the names that the section lists. problems: why the suite as a whole failed.
    seconds: how long it ran.
    """

    def __init__(self, section: Section, selected: Sequence[str]) -> None:
        self.section = section
        self.selected = list(selected)
        self.outcomes: dict[str, tap.Outcome] = {}
        self.problems: list[str] = []
        self.seconds = 0.0
        self._done = threading.Event()
        self._claim = threading.Lock()

    @property
    def some(self) -> bool:
        """Whether only the selected tests run."""
        return False

    def claim(self) -> bool:
        """Whether the caller is the one that has to call run()."""
        return self._claim.acquire(blocking=False)

    def run(self, pool: Pool) -> None:
        """Run it; problems and outcomes are there afterwards."""
        title = self.section.complete().rpartition(".")[0]
        progress.say(f"{title} starts")
        started = time.monotonic()
        try:
            self._run(pool)
        except LabError as error:
            self.problems += str(error).splitlines()
        finally:
            self.seconds = time.monotonic() - started
            progress.say(f"{title}: {len(self.outcomes)} results in {self.seconds:.0f} s")
            self._done.set()

    def wait(self) -> None:
        """Return when run() is over, in whichever thread."""
        self._done.wait()

    @property
    def done(self) -> bool:
        """Whether run() is over."""
        return self._done.is_set()

    def _run(self, pool: Pool) -> None:
        raise NotImplementedError

    def take(self, suite: str, outcomes: Sequence[tap.Outcome]) -> None:
        """Add outcomes. A plan that is not fulfilled is a problem of the whole."""
        for outcome in outcomes:
            if outcome.name == "plan":
                self.problems += outcome.log
                continue
            # kselftest_harness.h calls tests without a fixture "global.x"; KUnit repeats the suite.
            name = outcome.name.removeprefix("global.").removeprefix(f"{suite}.")
            name = "_".join(name.split())
            self.outcomes[f"{suite}.{name}" if self.section.kind == "kunit" else name] = outcome

    def differences(self) -> list[str]:
        """Failures of the suite as a whole, one line each."""
        wanted = set(self.selected or self.section.tests)
        found = list(self.problems)
        found += [f"did not report: {name}" for name in sorted(wanted - set(self.outcomes))]
        found += [f"not in lab/tests/expected-tests: {name}"
                  for name in sorted(set(self.outcomes) - set(self.section.tests))]
        return found


class Native(Suite):
    """The driver's stream code, built for and run on the build machine."""

    def _run(self, pool: Pool) -> None:
        source = config.LINUX / "tools/testing/selftests" / config.SELFTEST
        done = run(["make", "-C", source, f"ARCH={config.ARCH}",
                    f"OUTPUT={config.BUILD / 'host_test'}", "host_test"],
                   timeout=speed.scaled(NATIVE_LIMIT))
        text = "\n".join(line for line in done.out.splitlines() if not line.startswith("make"))
        outcomes = tap.parse(text)
        self.take(self.section.title, outcomes)
        if done.rc and all(outcome.status != "not ok" for outcome in outcomes):
            self.problems += [f"exit status {done.rc}", *done.err.splitlines()[-20:]]


def split_suites(text: str) -> list[tuple[str, str]]:
    """(suite, results) of each "suite: NAME" line and the lines after it."""
    parts = re.split(r"^suite: (\S+)$\n?", text, flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


class Kunit(Suite):
    """A KUnit module, loaded in host a; its suites report in debugfs."""

    def _run(self, pool: Pool) -> None:
        module = self.section.title
        host, = pool.get(["a"])
        root = "/sys/kernel/debug/kunit"
        text = host.run(f"modprobe kunit enable=1 autorun=1; ls {root} >/tmp/before\n"
                        f"modprobe {module}\n"
                        f"for suite in $(ls {root}); do\n"
                        "grep -qx $suite /tmp/before || "
                        f"{{ echo \"suite: $suite\"; cat {root}/$suite/results; }}\ndone",
                        timeout=KUNIT_LIMIT).out
        suites = split_suites(text)
        if not suites:
            self.problems += ["the module registered no suite", *text.splitlines()]
        for name, results in suites:
            self.take(name, tap.parse(results))


class Kselftest(Suite):
    """A kselftest program in host a."""

    @property
    def some(self) -> bool:
        return 0 < len(self.selected) <= FEW and len(self.selected) < len(self.section.tests)

    def _run(self, pool: Pool) -> None:
        folder = config.share(pool.flavour) / "selftests" / config.SELFTEST
        program = self.section.title
        if not (folder / program).exists():
            raise LabError(f"{program} was not built")
        chosen = "".join(f" -r {shlex.quote(name)}" for name in self.selected) if self.some else ""
        host, = pool.get(["a"])
        process = host.start(f"cd /lab/selftests/{config.SELFTEST}\n"
                             f"exec ./{shlex.quote(program)}{chosen}")
        result = None
        try:
            result = process.wait(tap.kselftest_timeout(folder, DEFAULT_LIMIT), check=False)
        except (CommandTimeout, HostError) as error:
            self.problems += str(error).splitlines()[:1]
        text = process.output()
        outcomes = tap.parse(text)
        self.take(program, outcomes)
        failed = any(outcome.status == "not ok" for outcome in outcomes)
        if result and (result.rc not in (0, 1, 4) or result.rc == 1 and not failed):
            self.problems += [f"exit status {result.rc}", *text.splitlines()[-30:]]


KINDS = {"native": Native, "kunit": Kunit, "kselftest": Kselftest}


def make(section: Section, selected: Sequence[str]) -> Suite:
    """The suite of a section; selected: the tests that were asked for, as it lists them."""
    return KINDS[section.kind](section, selected)


def not_listed(flavour: str, sections: Sequence[Section]) -> list[str]:
    """Programs and KUnit modules that were built and have no section, and the reverse."""
    have = {(section.kind, section.title) for section in sections if section.kind != "native"}
    there = {("kunit", path.stem) for path in kernel.kunit_modules(flavour)}
    listing = config.share(flavour) / "selftests/kselftest-list.txt"
    if listing.exists():
        there |= {("kselftest", program)
                  for _, program in tap.kselftest_programs(listing.read_text())}
    return ([f"{kind} {title} was built and is not in lab/tests/expected-tests"
             for kind, title in sorted(there - have)]
            + [f"{kind} {title} is in lab/tests/expected-tests and was not built"
               for kind, title in sorted(have - there)])


class Runner:
    """Runs suites: native ones and KUnit modules when they are due, kselftest programs also in a
    second host beside everything else."""

    def __init__(self, suites: Sequence[Suite], pool: Pool, second: Pool) -> None:
        self.suites = list(suites)
        self._programs = [suite for suite in suites if suite.section.kind == "kselftest"]
        self._pool = pool
        self._second = second
        self.ending = threading.Event()
        self._thread = threading.Thread(target=self._beside, name="second host")

    def start(self) -> None:
        """Begin with the programs in the second host, unless one host does as well."""
        if len(self._programs) > 1:
            self._thread.start()

    def _beside(self) -> None:
        # An emulator ends with the thread that started it, so this thread shuts it down.
        while not self.ending.is_set() and self._run_next(self._second):
            pass
        self._second.close()

    def _run_next(self, pool: Pool) -> bool:
        """Run one program that has not been started; return whether there was one."""
        for suite in self._programs:
            if suite.claim():
                suite.run(pool)
                return True
        return False

    def results(self, suite: Suite) -> Suite:
        """The suite after it ran. Runs other programs while the second host has it."""
        while not suite.done:
            if suite.claim():
                suite.run(self._pool)
            elif not self._run_next(self._pool):
                suite.wait()
        return suite

    def stop(self, abort: bool) -> None:
        """Wait for the second host; abort: cut its power instead."""
        self.ending.set()
        if abort:
            self._second.abort()
        if self._thread.ident:
            self._thread.join()
