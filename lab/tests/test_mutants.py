# SPDX-License-Identifier: GPL-2.0
"""Planted faults: their patches, the judgement of a run, and a sample of them in a host."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from lab.common import config, progress
from lab.common.errors import LabError
from lab.faults import driver, planted
from lab.faults.driver import FaultHost, Verdict
from lab.faults.planted import Fault, FaultError, Named
from lab.host.errors import CommandTimeout, HostDied, HostReport, HostSilent
from lab.host.host import Host
from lab.host.lab import Lab
from lab.host.process import Result
from lab.report import tap
from lab.series import patches
from lab.series.layout import Layout
from lab.tests import names

FIXES = ("type1", "ap", "fixes")
SAMPLE = """The fault is a sample.

Test: a.vfio_ap_stream.golden_decode.one
Test: a.migration_file_test.file.group.name
Red: leak

--- a/drivers/s390/crypto/file.c
+++ b/drivers/s390/crypto/file.c
@@ -1,3 +1,3 @@
 one
-two
+zwei
 three
"""


def refused(call: object, *args: object) -> str:
    """The message of a FaultError."""
    assert callable(call)
    try:
        call(*args)
    except FaultError as error:
        return str(error)
    raise AssertionError(f"{call} took {args}")


def test_header(tmp: pathlib.Path) -> None:
    """Tests, the wanted result, a sentence; anything else is a mistake."""
    path = tmp / "sample.patch"
    path.write_text(SAMPLE)
    got = planted.parse(path)
    assert (got.name, got.leak, got.hang) == ("sample", True, False)
    assert got.prose == "The fault is a sample."
    assert [test.suite for test in got.tests] == ["vfio_ap_stream", "migration_file_test"]
    assert [test.kunit for test in got.tests] == [True, False]
    assert [test.module for test in got.tests] == ["tests/vfio_ap_stream_kunit", "vfio_ap"]
    assert got.paths == ["drivers/s390/crypto/file.c"]
    for old, new, words in (("Red: leak", "Red: green", "Red: green"),
                            ("Red: leak", "Reason: none", "Reason: none"),
                            ("Red: leak", "Found-by: luck", "Found-by: luck"),
                            ("a.vfio_ap_stream.golden_decode.one", "golden_decode", "golden"),
                            (SAMPLE[:SAMPLE.index("\n--- ")], "Text.\n", "names no test"),
                            ("The fault is a sample.", "", "no sentence"),
                            ("--- a/", "+++ a/", "no patch")):
        path.write_text(SAMPLE.replace(old, new))
        assert words in refused(planted.parse, path), (old, new)


def test_index_format() -> None:
    """Entries of several lines; each ends with faults or a reason."""
    found = planted.pitfalls("# words\n\n[part]\n\nOne\nfault.\nfaults: a b\n\tc\n\nTwo.\n"
                             "none: because\n")
    assert [(p.text, p.faults, p.reason) for p in found] == [
        ("One fault.", ("a", "b", "c"), ""), ("Two.", (), "because")], found
    for bad in ("One.\n", "One.\nfaults:\n", "faults: a\n", "One.\nsome: a\n"):
        assert "the last line" in refused(planted.pitfalls, bad), bad


def test_apply_is_strict(tmp: pathlib.Path) -> None:
    """Lines may have moved; no fuzz, no patch that is there already, no reject files."""
    path = tmp / "sample.patch"
    path.write_text(SAMPLE)
    fault = planted.parse(path)
    file = tmp / "tree/drivers/s390/crypto/file.c"
    for text, good in (("one\ntwo\nthree\n", True), ("one\nzwei\nthree\n", False),
                       ("eins\ntwo\nthree\n", False), ("zero\none\ntwo\nthree\n", True)):
        shutil.rmtree(tmp / "tree", ignore_errors=True)
        file.parent.mkdir(parents=True)
        file.write_text(text)
        if good:
            planted.apply(fault, tmp / "tree")
            assert file.read_text() == text.replace("two", "zwei")
        else:
            assert "does not apply" in refused(planted.apply, fault, tmp / "tree"), text
        assert [p.name for p in file.parent.iterdir()] == ["file.c"]


def test_kbuild() -> None:
    """The makefile of the modules is made from the driver's."""
    text = ("ap-objs := ap_bus.o\nCFLAGS_vfio_ap_trace.o := -I$(src)\n"
            "vfio_ap-objs := one.o \\\n\ttwo.o\nvfio_ap-objs += three.o\n"
            "obj-$(CONFIG_VFIO_AP) += vfio_ap.o\nCFLAGS_other.o := -O3\n")
    assert planted.kbuild(text, ["vfio_ap", "tests/x_kunit"]).splitlines() == [
        "CFLAGS_vfio_ap_trace.o := -I$(src)", "vfio_ap-objs := one.o  \ttwo.o",
        "vfio_ap-objs += three.o", "obj-m := vfio_ap.o tests/x_kunit.o"]


def test_update_keeps_equal_files(tmp: pathlib.Path) -> None:
    """Only changed files are built again."""
    new, old = tmp / "new", tmp / "old"
    for folder in (new, old):
        (folder / "tests").mkdir(parents=True)
    for name, texts in {"same.c": "aa", "tests/other.h": "ab", "gone.c": " a",
                        "made.mod.c": " a", "added.c": "a "}.items():
        for folder, text in zip((new, old), texts, strict=True):
            if text != " ":
                (folder / name).write_text(text)
    times = {path: path.stat().st_mtime_ns for path in old.rglob("*.c")}
    planted.update(new, old)
    assert (old / "same.c").stat().st_mtime_ns == times[old / "same.c"]
    assert (old / "tests/other.h").read_text() == "a" and (old / "added.c").exists()
    assert (old / "made.mod.c").exists() and not (old / "gone.c").exists()


def test_red_outcomes() -> None:
    """A test that failed is red; one that did not run is an error."""
    def verdict_of(name: str, *outcomes: tuple[str, str]) -> Verdict:
        return driver.verdict_of(Named(name), [tap.Outcome(n, s) for n, s in outcomes])

    assert verdict_of("a.x_test.f.v.t", ("f.v.t", "not ok")).red
    assert not verdict_of("a.x_test.f.v.t", ("f.v.t", "ok"), ("f.v.other", "not ok")).red
    assert verdict_of("a.vfio_x.case", ("vfio_x.case.one", "ok"), ("vfio_x.case.two", "not ok")).red
    assert not verdict_of("a.vfio_x.case.one", ("vfio_x.case.one", "ok"),
                          ("vfio_x.case.two", "not ok")).red
    assert "did not run" in refused(verdict_of, "a.x_test.f.v.t")
    for other in (("plan", "not ok"), ("f.v.t", "skip"), ("f.v.tt", "not ok")):
        assert "did not run" in refused(verdict_of, "a.x_test.f.v.t", other), other


class FakeHost(Host):
    """A host that was not booted; its commands call a function."""

    def __init__(self, command: Callable[[], None]) -> None:
        self.reports = []
        self.command = command

    def run(self, command: str, timeout: float = 120.0, check: bool = True) -> Result:
        self.command()
        return Result(0, "")


class FakeBench(FaultHost):
    """Raises an error, with a kernel report or without, when a host is booted, when the module is
    loaded, or in the test."""

    def __init__(self, place: str, error: LabError, report: str) -> None:
        super().__init__("debug")
        self.place, self.error, self.report = place, error, report
        self.host = FakeHost(lambda: self.reach("test"))
        self.closed = False

    def reach(self, place: str) -> None:
        """Raise if this is the place."""
        if place == self.place:
            self.host.reports += [(0.0, self.report)] if self.report else []
            raise self.error

    def prepare(self, module: str, profiles: Sequence[str]) -> list[Host]:
        self.reach("boot")
        return [self.host]

    def insert(self, host: Host, path: pathlib.Path, glob: str) -> None:
        self.reach("load")

    def close(self) -> None:
        self.closed = True


LOG = pathlib.Path("console.log")
DEAD = HostDied("a", "the emulator was killed by signal 9", LOG)
LATE = HostDied("a", "not booted after 900 s", LOG)
SILENT = HostSilent("a", "its console has been silent for 300 s", LOG)
HUNG = CommandTimeout("host a", 600, "")
SPOKE = HostReport("a", "BUG: KASAN", LOG)


def test_only_evidence_is_red(tmp: pathlib.Path) -> None:
    """A kernel report, a panic and, if the header says so, a hang. All else is an error."""
    for place, error, report, hang, wanted in (
            ("boot", LATE, "", False, "not booted"), ("boot", LATE, "", True, "not booted"),
            ("boot", HUNG, "", True, "no end"), ("boot", SPOKE, "BUG: KASAN", True, "KASAN"),
            ("load", FaultError("x does not load"), "", True, "does not load"),
            ("load", HUNG, "", False, "no end"), ("load", SPOKE, "BUG: KASAN", False, ""),
            ("test", HUNG, "", False, "no end"), ("test", HUNG, "", True, ""),
            ("test", SILENT, "", False, "silent"), ("test", SILENT, "", True, ""),
            ("test", DEAD, "", False, "signal 9"), ("test", DEAD, "", True, "signal 9"),
            ("test", DEAD, "Kernel panic", False, ""), ("test", SPOKE, "BUG: KASAN", False, ""),
            ("test", LabError("no disk"), "", True, "no disk")):
        bench = FakeBench(place, error, report)
        case = (place, str(error), report, hang)
        try:
            got = driver.run_test(bench, Named("a.x.case"), tmp / "x.ko", hang=hang)
        except FaultError as raised:
            assert wanted and wanted in str(raised), (case, raised)
        else:
            assert not wanted and got.red, (case, got)
        assert bench.closed, case


def test_no_result_is_a_failure(tmp: pathlib.Path) -> None:
    """The result file, and the exit status."""
    path = tmp / "out.tap"
    good, bad = ("a b", tap.Outcome("", "ok")), ("b", tap.Outcome("", "not ok"))
    skipped = ("a", tap.Outcome("", "skip", "no card"))
    table: list[tuple[list[tuple[str, tap.Outcome]], int]] = [
        ([], 1), ([good], 0), ([good, bad], 1), ([skipped], 1)]
    for results, status in table:
        with path.open("w", encoding="utf-8") as out:
            assert tap.write(results, out) == status, results
    assert path.read_text() == "not ok 1 a\n#   no card\n0 passed, 1 failed, 0 skipped\n"


def test_error_is_not_ok() -> None:
    """An error of the run is printed as one, for a planted fault and for a control."""
    for red in (True, False):
        got = driver.outcome({Named("a.x.one"): FaultError("no host: not booted")}, red)
        assert got.status == "not ok", got
        assert got.log == ["a.x.one: error: no host: not booted"], got


def test_pair_fails_by_assertion_only() -> None:
    """Other exceptions of a test of two hosts say nothing about the fault."""
    class Pair(Named):
        """A test that raises."""

        def __init__(self, error: Exception | None) -> None:
            super().__init__("pair.x.y")
            object.__setattr__(self, "error", error)

        @property
        def function(self) -> Any:
            def call() -> None:
                if self.error:  # type: ignore[attr-defined]
                    raise self.error  # type: ignore[attr-defined]
            return call

    assert driver.run_pair([], Pair(AssertionError("two"))).red
    assert not driver.run_pair([], Pair(None)).red
    try:
        driver.run_pair([], Pair(LabError("QEMU: no answer")))
    except LabError:
        return
    raise AssertionError("an error of the run is a verdict")


def quick_faults(count: int) -> list[Fault]:
    """Some faults: two that take long, and others."""
    def fault(name: str, test: str, hang: bool = False) -> Fault:
        return Fault(name, "", (Named(test),), False, hang, "")

    return [fault("hangs", "a.x.case", True), fault("slow", "pair.x.case"),
            *(fault(str(number), "a.x.case") for number in range(count))]


def test_sample_rotates() -> None:
    """The same seed gives the same faults; consecutive seeds give all; slow ones are left out."""
    faults = quick_faults(7)
    chosen = [[fault.name for fault in planted.sample(faults, seed)] for seed in range(1, 4)]
    assert all(len(set(found)) == 3 for found in chosen), chosen
    assert {name for found in chosen for name in found} == set("0123456"), chosen
    assert [fault.name for fault in planted.sample(faults, 2)] == chosen[1]
    assert len(planted.sample(quick_faults(2), 5)) == 2


def try_faults(faults: list[Fault], flavour: str, logs: str) -> None:
    """Each is found, and its tests pass without it."""
    with driver.exclusive():
        results = list(driver.run_all(faults, flavour, logs))
    for name, got in results:
        print(name, got.status, *got.log)
    assert len(results) > len(faults)
    assert all(got.status == "ok" for _, got in results)


def test_mutant_sample(lab: Lab) -> None:
    """Three planted faults, other ones each day; SEED= repeats a day's."""
    seed = planted.seed_of_today()
    faults = planted.sample(planted.load(), seed)
    progress.say(f"planted faults of SEED={seed}: {' '.join(fault.name for fault in faults)}")
    try_faults(faults, lab.flavour, "test/lab.mutants.mutant_sample")


def test_results() -> None:
    """A planted fault needs each test red, a control none; an error is neither."""
    one, two = Named("a.x.one"), Named("a.x.two")
    red, green = Verdict(True, ["failed"]), Verdict(False, ["passed"])
    broken = FaultError("does not load")
    table: list[tuple[Verdict, Verdict | FaultError, bool, str]] = [
        (red, red, True, "ok"), (red, green, True, "not ok"), (green, green, False, "ok"),
        (green, red, False, "not ok"), (red, broken, True, "not ok"),
        (green, broken, False, "not ok")]
    for first, second, wanted, status in table:
        got = driver.outcome({one: first, two: second}, wanted)
        assert got.status == status and bool(got.log) == (status != "ok"), (first, second, got)
    assert driver.outcome({one: red, two: green}, True).log == ["a.x.two: passed"]


def test_every_fault_applies(tmp: pathlib.Path) -> None:
    """Each to the driver as it is, within its folder."""
    found = planted.load()
    assert found
    for fault in found:
        outside = [p for p in fault.paths if pathlib.Path(p).parent != planted.CRYPTO]
        assert fault.paths and not outside, (fault.name, outside)
        tree = tmp / fault.name
        (tree / planted.CRYPTO).mkdir(parents=True)
        for name in fault.paths:
            shutil.copyfile(config.LINUX / name, tree / name)
        planted.apply(fault, tree)


def long_every_fault_builds(lab: Lab) -> None:
    """The objects that it changes compile."""
    faults = planted.load()
    broken = []
    with driver.exclusive():
        for number, fault in enumerate(faults, 1):
            progress.say(f"building {number} of {len(faults)}: {fault.name}")
            try:
                planted.compile_changed(fault, lab.flavour)
            except FaultError as error:
                broken.append(f"{fault.name}: {error}")
    assert not broken, "\n".join(broken)


def test_every_named_test_exists() -> None:
    """`make test` has each test that a planted fault names."""
    every = names.all_names()
    for fault in planted.load():
        for test in fault.tests:
            # A parametrised KUnit case reports once per parameter.
            assert any(f"{name}.".startswith(f"{test.name}.") for name in every), (
                fault.name, test.name)


def test_every_pitfall_has_its_fault() -> None:
    """The index names each fault, and nothing that is none."""
    index = planted.pitfalls(planted.INDEX.read_text(encoding="utf-8"))
    named = {name for pitfall in index for name in pitfall.faults}
    known = {fault.name for fault in planted.load()}
    assert named == known, f"not in the index: {known - named}; no fault: {named - known}"


def test_every_fix_has_its_fault() -> None:
    """The index has each patch of the sets of fixes."""
    index = {p.text for p in planted.pitfalls(planted.INDEX.read_text(encoding="utf-8"))}
    missing = [patch.subject for patch in patches.load(Layout.default())
               if patch.set in FIXES and patch.subject not in index]
    assert not missing, missing
