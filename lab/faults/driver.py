# SPDX-License-Identifier: GPL-2.0
"""`make test-mutants`: plant faults in the driver, one at a time; the tests must find each.

Each lab/faults/mutants/*.patch plants one fault. Its tests must fail:

    ok 1 control.a.vfio_ap_migration.save_again    the test passes without a fault
    ok 2 planted.stale_snapshot                    and fails with the fault
    not ok 3 planted.read_without_io_mutex
    #   a.migration_file_test.file.group.two_readers_get_each_byte_once: passed

A patch begins with a header: a description of the fault, and

    Test: NAME        a name from `make test`: a KUnit case or a kselftest in host a, or pair.*.
                      Each of several must fail
    Red: leak         the test passes, but kmemleak reports a leak after it
    Found-by: hang    the test does not end, or the console falls silent

A fault is found if the module with the fault was loaded and then the test failed, or if the kernel
reported something or panicked. Anything else is an error of the run, and "not ok": the
fault does not apply or build, a host does not boot, the module does not load, the test does not
run, a command does not end, or the emulator dies without a panic.

Only the modules that a test needs are built, as external modules against the objects of the
kernel, in build/mutants. A host is booted again if a test may have left traces in it.
"""

from __future__ import annotations

import contextlib
import math
import pathlib
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lab.common import config, lock, progress, speed
from lab.common.errors import LabError
from lab.faults.planted import PROFILE, WORK, Fault, FaultError, Named, build, load
from lab.host.errors import CommandTimeout, HostSilent
from lab.host.host import Host
from lab.host.lab import Lab
from lab.report import tap

# Seconds for one test; kselftest_harness ends a test that hangs after 900 s.
LIMIT = 1200.0
# Seconds for which a kselftest waits for an event, on an idle machine. The test has to pass with it
# without a fault, so a slow machine does not find faults.
PATIENCE = 30.0
FEW = 6


@dataclass
class Verdict:
    """The result of a test: whether it is red."""

    red: bool
    why: list[str] = field(default_factory=list)


# State that an aborted test may leave behind.
TRACES = """
cd /sys/bus/ap
ls devices; cat apmask aqmask
for card in devices/card*; do cat $card/config $card/chkstop; done
ls /sys/bus/mdev/devices
"""


class FaultHost:
    """Hosts to try planted faults in. They are booted when they are needed, and again if a test
    may have left traces."""

    def __init__(self, flavour: str, logs: str = "mutants") -> None:
        self.flavour = flavour
        self._logs = logs
        self._boots = 0
        self._lab: Lab | None = None
        self._hosts: dict[str, Host] = {}
        self._traces: dict[str, str] = {}
        self._marks = 0

    def _clean(self, name: str, host: Host) -> bool:
        return host.alive and not host.reports and self._traces[name] == self._read_traces(host)

    def hosts(self, profiles: Sequence[str]) -> list[Host]:
        """Hosts of these profiles, without reports and without traces of earlier tests."""
        if (not self._hosts.keys() >= set(profiles)
                or not all(self._clean(name, host) for name, host in self._hosts.items())):
            self.close()
        if not self._hosts:
            self._boots += 1
            self._lab = Lab(self.flavour, f"{self._logs}/{self._boots}")
            booted = self._lab.boot_all(list(profiles))
            self._hosts = dict(zip(profiles, booted, strict=True))
            for name, host in self._hosts.items():
                self._traces[name] = self._read_traces(host)
                host.run("modprobe kunit enable=1 autorun=1")
        return [self._hosts[name] for name in profiles]

    def close(self) -> None:
        """End the hosts, in any state."""
        if self._lab:
            self._lab.close(orderly=False)
        self._lab = None
        self._hosts = {}

    @staticmethod
    def _read_traces(host: Host) -> str:
        try:
            return host.run(TRACES, timeout=60, check=False).out
        except LabError as error:
            return str(error)

    def prepare(self, module: str, profiles: Sequence[str]) -> list[Host]:
        """Hosts in which the module is not loaded."""
        problem = ""
        for _ in range(2):
            hosts = self.hosts(profiles)
            problem = next(filter(None, (self._unload(host, module) for host in hosts)), "")
            if not problem:
                return hosts
            self.close()
        raise FaultError(f"{module} cannot be unloaded: {problem}")

    @staticmethod
    def _unload(host: Host, name: str) -> str:
        """Remove a module if it is loaded; return the reason if that fails."""
        try:
            done = host.run(f"[ ! -e /sys/module/{name} ] || rmmod {name}", 60, check=False)
        except LabError as error:
            return str(error)
        return done.out.strip() or f"exit status {done.rc}" if done.rc else ""

    def insert(self, host: Host, path: pathlib.Path, glob: str) -> None:
        """Load a module. A KUnit module runs those of its cases that match."""
        shutil.copyfile(path, host.path(path.name))
        host.run(f"echo -n {shlex.quote(glob)} >/sys/module/kunit/parameters/filter_glob")
        done = host.run(f"insmod /lab/results/{path.name}", LIMIT, check=False)
        if done.rc:
            raise FaultError(f"{path.stem} does not load: {done.out.strip()}")

    def settle(self, host: Host) -> None:
        """Return after the console has shown all messages so far; raise if one is a report."""
        self._marks += 1
        mark = f"lab: mark {self._marks}"
        host.run(f"echo '<5>{mark}' >/dev/kmsg")
        if not host.wait_for(lambda: mark in host.log_path.read_text(errors="replace"), 60):
            raise CommandTimeout("the console shows no mark", 60, "")
        host.check()


def run_case(host: Host, named: Named) -> list[tap.Outcome]:
    """Run a test in the host; return its results."""
    if named.kunit:
        text = host.run(f"cat /sys/kernel/debug/kunit/{named.suite}/results").out
    else:
        process = host.start(f"cd /lab/selftests/{config.SELFTEST}\n"
                             f"export VFIO_AP_PATIENCE={math.ceil(speed.scaled(PATIENCE))}\n"
                             f"exec ./{named.suite} -r {shlex.quote(named.case)}")
        text = process.wait(LIMIT, check=False).out
    return tap.parse(text)


def verdict_of(named: Named, outcomes: list[tap.Outcome]) -> Verdict:
    """Whether the named test failed; FaultError if it did not run."""
    mine = []
    for result in outcomes:
        name = result.name.removeprefix("global.").removeprefix(f"{named.suite}.")
        if name == named.case or name.startswith(f"{named.case}."):
            mine.append(result)
    if any(result.status == "not ok" for result in mine):
        return Verdict(True, ["failed"])
    if not mine or any(result.status == "skip" for result in mine):
        raise FaultError("did not run: " + "; ".join(
            " ".join([o.name, o.status, o.reason, *o.log[-3:]]) for o in outcomes))
    return Verdict(False, ["passed"])


def run_pair(hosts: Sequence[Host], named: Named) -> Verdict:
    """Call a test of two hosts. Only a false assertion is a failure of the test."""
    try:
        named.function(*hosts)
    except AssertionError as error:
        return Verdict(True, [f"failed: {error}"])
    return Verdict(False, ["passed"])


def run_loaded(bench: FaultHost, hosts: Sequence[Host], named: Named, leak: bool) -> Verdict:
    """Run a test in hosts that have the module with the fault."""
    if leak:
        hosts[0].run("echo clear >/sys/kernel/debug/kmemleak")
    verdict = run_pair(hosts, named) if named.pair else verdict_of(named, run_case(hosts[0], named))
    for host in hosts:
        bench.settle(host)
    if leak and not verdict.red:
        leaks = hosts[0].leaks()
        return Verdict(bool(leaks), ["leaked" if leaks else "leaked nothing"])
    return verdict


def run_test(bench: FaultHost, named: Named, path: pathlib.Path, leak: bool = False,
             hang: bool = False) -> Verdict:
    """Try a module with a test; FaultError if the result says nothing about the module."""
    try:
        hosts = bench.prepare(path.stem, named.profiles)
    except LabError as error:
        bench.close()
        raise FaultError(f"no host: {error}") from None
    try:
        for host in hosts:
            bench.insert(host, path, f"{named.suite}.{named.case.split('.')[0]}")
        return run_loaded(bench, hosts, named, leak)
    except LabError as error:
        # prepare() gave hosts without reports, and the module was loaded since.
        reports = [line for host in hosts for _, line in host.reports]
        bench.close()
        if reports:
            return Verdict(True, reports[:1])
        if hang and isinstance(error, (CommandTimeout, HostSilent)):
            return Verdict(True, [f"hung: {str(error).splitlines()[0]}"])
        raise FaultError(str(error)) from None


Found = dict[Named, Verdict | FaultError]


def run_tests(bench: FaultHost, tests: Iterable[Named], paths: dict[str, pathlib.Path],
              leak: bool = False, hang: bool = False) -> Found:
    """Try modules with tests, one by one."""
    found: Found = {}
    for test in tests:
        try:
            found[test] = run_test(bench, test, paths[test.module], leak, hang)
        except FaultError as error:
            found[test] = error
    return found


def run_suite(bench: FaultHost, tests: list[Named], path: pathlib.Path) -> Found:
    """Run a whole KUnit suite for those of its cases."""
    try:
        host, = bench.prepare(path.stem, [PROFILE])
        bench.insert(host, path, f"{tests[0].suite}.*")
        outcomes = run_case(host, tests[0])
        bench.settle(host)
        return {test: verdict_of(test, outcomes) for test in tests}
    except LabError as error:
        bench.close()
        return {test: FaultError(str(error)) for test in tests}


def outcome(found: Found, red: bool) -> tap.Outcome:
    """The result of a planted fault (which must be red) or of a control."""
    log = []
    for test, verdict in found.items():
        if isinstance(verdict, FaultError):
            log += [f"{test.name}: error: {line}" for line in str(verdict).splitlines()]
        elif verdict.red != red:
            log += [f"{test.name}: {line}" for line in verdict.why]
    return tap.Outcome("", "not ok" if log else "ok", log=log)


Results = Iterator[tuple[str, tap.Outcome]]


def run_controls(bench: FaultHost, faults: list[Fault]) -> Results:
    """Each test passes, or leaks nothing, without a fault."""
    wanted = {(test, fault.leak): None for fault in faults for test in fault.tests}
    paths = build(None, sorted({test.module for test, _ in wanted}), bench.flavour)
    suites: dict[str, list[Named]] = {}
    for test, leak in wanted:
        if test.kunit and not leak:
            suites.setdefault(test.suite, []).append(test)
    # A few cases take less time than their whole suite.
    suites = {name: tests for name, tests in suites.items() if len(tests) > FEW}
    for tests in suites.values():
        for test, verdict in run_suite(bench, tests, paths[tests[0].module]).items():
            yield f"control.{test.name}", outcome({test: verdict}, red=False)
    for test, leak in sorted(wanted, key=lambda item: item[0].pair):
        if leak or test.suite not in suites:
            yield (f"control.{test.name}",
                   outcome(run_tests(bench, [test], paths, leak), red=False))


def run_faults(bench: FaultHost, faults: list[Fault]) -> Results:
    """Each planted fault turns its tests red."""
    for fault in sorted(faults, key=lambda fault: any(test.pair for test in fault.tests)):
        try:
            paths = build(fault, sorted({test.module for test in fault.tests}), bench.flavour)
            found = run_tests(bench, fault.tests, paths, fault.leak, fault.hang)
        except FaultError as error:
            found = {test: error for test in fault.tests[:1]}
        for test, verdict in found.items():
            if isinstance(verdict, Verdict):
                progress.say(f"{fault.name}: {test.name}: {verdict.why[0][:100]}")
        yield f"planted.{fault.name}", outcome(found, red=True)


def run_all(faults: list[Fault], flavour: str, logs: str = "mutants") -> Results:
    """The tests without a fault, then each planted fault."""
    bench = FaultHost(flavour, logs)
    try:
        with progress.stage("tests without a fault"):
            yield from run_controls(bench, faults)
        with progress.stage("planted faults"):
            yield from run_faults(bench, faults)
    except FaultError as error:
        raise LabError(f"the driver without a fault: {error}") from None
    finally:
        bench.close()


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """One run at a time builds in build/mutants."""
    with lock.exclusive(config.OUT / ".mutants.lock", "another run of planted faults builds in "
                        f"{WORK} and writes to {config.OUT}"):
        yield


def main(pattern: str = "*", flavour: str = "debug") -> int:
    """Try each planted fault whose name matches; the exit status."""
    faults = load(pattern)
    with exclusive():
        shutil.rmtree(config.LOGS / "mutants", ignore_errors=True)
        with (config.OUT / "mutants.tap").open("w", encoding="utf-8") as out:
            status = tap.write(run_all(faults, flavour), out)
        progress.print_stages()
        return status
