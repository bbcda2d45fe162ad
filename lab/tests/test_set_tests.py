# SPDX-License-Identifier: GPL-2.0
"""How the gate that tests a set makes its copy of the lab and reads its results."""

from __future__ import annotations

import pathlib

from lab.common import config
from lab.gates import set_tests
from lab.series import patches
from lab.series.chains import Chains
from lab.series.git import KernelTree
from lab.series.layout import Layout
from lab.tests import names
from lab.tests.series_bench import FIXES, OPS, STREAM, TEST, bench


def test_failures_are_read_out_of_results() -> None:
    results = ("ok 1 a.x\n# note\nnot ok 2 a.y\n#   expected 1\n#   got 2\nok 3 a.z\n"
               "not ok 4 a.host.clean\n#   a report\n2 passed, 2 failed, 0 skipped\n")
    assert set_tests.findings_of(results)[:3] == ["not ok 2 a.y", "expected 1", "got 2"]
    assert "not ok 4 a.host.clean" in set_tests.findings_of(results)
    assert not set_tests.findings_of(
        "ok 1 a.x\n#   1.0 min  in all\n1 passed, 0 failed, 0 skipped\n")


def test_sets_name_tests_that_exist() -> None:
    layout = Layout.default()
    every = names.all_names()
    for one in layout.sets:
        for glob in set_tests.globs(layout, one.name):
            assert names.select(glob, every)


def test_copy_has_the_lab_and_the_given_patches(tmp: pathlib.Path) -> None:
    with bench() as b:
        b.put("lab/x.py", "x = 1\n", b.root)
        b.put("setup.cfg", "[mypy]\n", b.root)
        every = patches.load(b.layout)
        copy = Layout(tmp / "copy", tmp / "build", tmp / "out")
        set_tests.copy_lab(b.layout, copy, every[:2])
        assert patches.load(copy) == every[:2]
        assert (copy.root / "lab/x.py").read_text() == "x = 1\n"
        # pytest does not start without it.
        assert (copy.root / "setup.cfg").exists()
        # The content of an earlier copy does not stay.
        (copy.root / "lab/y.py").write_text("old\n")
        set_tests.copy_lab(b.layout, copy, every)
        assert not (copy.root / "lab/y.py").exists()
        assert patches.load(copy) == every


def test_final_tests_are_laid_over_a_set() -> None:
    """Tests and ABI of the last commit, the driver of the set."""
    test = f"tools/testing/selftests/{config.SELFTEST}/x_test.c"
    with bench() as b:
        b.put(test, "final\n")
        b.put("include/uapi/linux/vfio_ap.h", "final\n")
        b.commit("fixup! selftests: test it")
        b.save()
        every = patches.load(b.layout)
        chains = Chains(b.layout, every)
        tree = KernelTree(b.linux)
        tip = chains.tip("fixes")
        laid, = set_tests.overlay(tree, tip)
        assert laid.set == b.layout.sets[-1].name
        made = patches.git_am(tree, [laid], base=tip)
        files = tree.files(made, [test, "include/uapi/linux/vfio_ap.h", STREAM, TEST, OPS])
        assert [bool(blob) for blob in files.values()] == [True, True, True, False, True]
        ops = files[OPS]
        assert ops and b"line three" in ops.data
        assert not set_tests.overlay(tree, chains.tip("selftests-migration"))
        (b.root / FIXES / "tests").unlink()
        assert set_tests.run_set(b.layout, chains, every, "fixes") == [
            "patches/linux/fixes/tests: names no test"]
