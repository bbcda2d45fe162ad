# SPDX-License-Identifier: GPL-2.0
"""The mutants: what can be seen of them without a host."""

from __future__ import annotations

import pathlib
import re
import shutil

from lab.common import config
from lab.faults import driver
from lab.faults.driver import MutantError, Named, Verdict
from lab.report import tap
from lab.series import patches

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
    """What a MutantError says."""
    assert callable(call)
    try:
        call(*args)
    except MutantError as error:
        return str(error)
    raise AssertionError(f"{call} took {args}")


def test_header(tmp: pathlib.Path) -> None:
    """Tests, the wanted result, a sentence; anything else is a mistake."""
    path = tmp / "sample.patch"
    path.write_text(SAMPLE)
    got = driver.parse(path)
    assert (got.name, got.leak, got.prose) == ("sample", True, "The fault is a sample.")
    assert [test.suite for test in got.tests] == ["vfio_ap_stream", "migration_file_test"]
    assert [test.kunit for test in got.tests] == [True, False]
    assert [test.module for test in got.tests] == ["tests/vfio_ap_stream_kunit", "vfio_ap"]
    assert got.paths == ["drivers/s390/crypto/file.c"]
    for old, new, words in (("Red: leak", "Red: green", "Red: green"),
                            ("Red: leak", "Reason: none", "Reason: none"),
                            ("a.vfio_ap_stream.golden_decode.one", "golden_decode", "golden"),
                            (SAMPLE[:SAMPLE.index("\n--- ")], "Text.\n", "names no test"),
                            ("The fault is a sample.", "", "no sentence"),
                            ("--- a/", "+++ a/", "no patch")):
        path.write_text(SAMPLE.replace(old, new))
        assert words in refused(driver.parse, path), (old, new)


def test_index_format() -> None:
    """Entries of several lines; each ends with mutants or a reason."""
    found = driver.pitfalls("# words\n\n[part]\n\nOne\nfault.\nmutants: a b\n\tc\n\nTwo.\n"
                            "none: because\n")
    assert [(p.text, p.mutants, p.reason) for p in found] == [
        ("One fault.", ("a", "b", "c"), ""), ("Two.", (), "because")], found
    for bad in ("One.\n", "One.\nmutants:\n", "mutants: a\n", "One.\nsome: a\n"):
        assert "the last line" in refused(driver.pitfalls, bad), bad


def test_apply_is_strict(tmp: pathlib.Path) -> None:
    """Lines may have moved; no fuzz, no patch that is there already, no reject files."""
    path = tmp / "sample.patch"
    path.write_text(SAMPLE)
    mutant = driver.parse(path)
    file = tmp / "tree/drivers/s390/crypto/file.c"
    for text, good in (("one\ntwo\nthree\n", True), ("one\nzwei\nthree\n", False),
                       ("eins\ntwo\nthree\n", False), ("zero\none\ntwo\nthree\n", True)):
        shutil.rmtree(tmp / "tree", ignore_errors=True)
        file.parent.mkdir(parents=True)
        file.write_text(text)
        if good:
            driver.apply(mutant, tmp / "tree")
            assert file.read_text() == text.replace("two", "zwei")
        else:
            assert "does not apply" in refused(driver.apply, mutant, tmp / "tree"), text
        assert [p.name for p in file.parent.iterdir()] == ["file.c"]


def test_kbuild() -> None:
    """The makefile of the modules is made from the driver's."""
    text = ("ap-objs := ap_bus.o\nCFLAGS_vfio_ap_trace.o := -I$(src)\n"
            "vfio_ap-objs := one.o \\\n\ttwo.o\nvfio_ap-objs += three.o\n"
            "obj-$(CONFIG_VFIO_AP) += vfio_ap.o\nCFLAGS_other.o := -O3\n")
    assert driver.kbuild(text, ["vfio_ap", "tests/x_kunit"]).splitlines() == [
        "CFLAGS_vfio_ap_trace.o := -I$(src)", "vfio_ap-objs := one.o  \ttwo.o",
        "vfio_ap-objs += three.o", "obj-m := vfio_ap.o tests/x_kunit.o"]


def test_update_keeps_what_is_equal(tmp: pathlib.Path) -> None:
    """Only what differs is built again."""
    new, old = tmp / "new", tmp / "old"
    for folder in (new, old):
        (folder / "tests").mkdir(parents=True)
    for name, texts in {"same.c": "aa", "tests/other.h": "ab", "gone.c": " a",
                        "made.mod.c": " a", "added.c": "a "}.items():
        for folder, text in zip((new, old), texts, strict=True):
            if text != " ":
                (folder / name).write_text(text)
    times = {path: path.stat().st_mtime_ns for path in old.rglob("*.c")}
    driver.update(new, old)
    assert (old / "same.c").stat().st_mtime_ns == times[old / "same.c"]
    assert (old / "tests/other.h").read_text() == "a" and (old / "added.c").exists()
    assert (old / "made.mod.c").exists() and not (old / "gone.c").exists()


def test_what_is_red() -> None:
    """A test that failed; one that did not run is a mistake."""
    def judge(name: str, *outcomes: tuple[str, str]) -> Verdict:
        return driver.judge(Named(name), [tap.Outcome(n, s) for n, s in outcomes])

    assert judge("a.x_test.f.v.t", ("f.v.t", "not ok")).red
    assert not judge("a.x_test.f.v.t", ("f.v.t", "ok"), ("f.v.other", "not ok")).red
    assert judge("a.vfio_x.case", ("vfio_x.case.one", "ok"), ("vfio_x.case.two", "not ok")).red
    assert not judge("a.vfio_x.case.one", ("vfio_x.case.one", "ok"),
                     ("vfio_x.case.two", "not ok")).red
    assert "did not run" in refused(judge, "a.x_test.f.v.t")
    for other in (("plan", "not ok"), ("f.v.t", "skip"), ("f.v.tt", "not ok")):
        assert "did not run" in refused(judge, "a.x_test.f.v.t", other), other


def test_results() -> None:
    """A mutant needs every test red, a control none; an error is neither."""
    one, two = Named("a.x.one"), Named("a.x.two")
    red, green = Verdict(True, ["failed"]), Verdict(False, ["passed"])
    broken = MutantError("does not load")
    table: list[tuple[Verdict, Verdict | MutantError, bool, str]] = [
        (red, red, True, "ok"), (red, green, True, "not ok"), (green, green, False, "ok"),
        (green, red, False, "not ok"), (red, broken, True, "not ok"),
        (green, broken, False, "not ok")]
    for first, second, wanted, status in table:
        got = driver.outcome({one: first, two: second}, wanted)
        assert got.status == status and bool(got.log) == (status != "ok"), (first, second, got)
    assert driver.outcome({one: red, two: green}, True).log == ["a.x.two: passed"]


def test_every_mutant_applies(tmp: pathlib.Path) -> None:
    """Each to the driver as it is, within its folder."""
    found = driver.load()
    assert found
    for mutant in found:
        outside = [p for p in mutant.paths if pathlib.Path(p).parent != driver.CRYPTO]
        assert mutant.paths and not outside, (mutant.name, outside)
        tree = tmp / mutant.name
        (tree / driver.CRYPTO).mkdir(parents=True)
        for name in mutant.paths:
            shutil.copyfile(config.LINUX / name, tree / name)
        driver.apply(mutant, tree)


def cases(named: Named) -> set[str]:
    """The names in a test's source that the named test must be made of."""
    text = (config.LINUX / named.source).read_text(encoding="utf-8")
    if named.kunit:
        return set(re.findall(r"^\tKUNIT_CASE\w*\((\w+)", text, re.M))
    with_fixture = re.findall(r"^TEST_F(?:_\w+)?\((\w+),\s*(\w+)", text, re.M)
    variants = re.findall(r"^FIXTURE_VARIANT_ADD\((\w+),\s*(\w+)", text, re.M)
    # Macros of lib/env.h add variants: ENV_CDEV(x), ENV_FIXTURE(x, ENV_GROUP_AND_CDEV, true).
    for macro, fixture, rest in re.findall(r"^(ENV_\w+)\((\w+)(.*)\)", text, re.M):
        variants += [(fixture, way.lower()) for way in ("GROUP", "CDEV") if way in macro + rest]
    names = {f"{fixture}.{name}" for fixture, name in with_fixture}
    names |= {f"{fixture}.{variant}.{name}" for fixture, name in with_fixture
              for other, variant in variants if other == fixture}
    return names


def test_every_named_test_exists() -> None:
    """In the sources that are tested."""
    for mutant in driver.load():
        for test in mutant.tests:
            assert (config.LINUX / test.source).exists(), (mutant.name, test.name)
            name = test.case.split(".")[0] if test.kunit else test.case
            assert name in cases(test), (mutant.name, test.name)


def test_every_pitfall_has_its_mutant() -> None:
    """The index names each mutant, and nothing that is none."""
    index = driver.pitfalls(driver.INDEX.read_text(encoding="utf-8"))
    named = {name for pitfall in index for name in pitfall.mutants}
    known = {mutant.name for mutant in driver.load()}
    assert named == known, f"not in the index: {known - named}; no mutant: {named - known}"


def test_every_fix_has_its_mutant() -> None:
    """Each patch of [fixes] stands in the index."""
    index = {p.text for p in driver.pitfalls(driver.INDEX.read_text(encoding="utf-8"))}
    missing = [patch.subject for patch in patches.load(config.PATCHES)
               if patch.group == "fixes" and patch.subject not in index]
    assert not missing, missing
