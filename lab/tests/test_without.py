# SPDX-License-Identifier: GPL-2.0
"""How the gate without a group makes its copy of the lab and reads its results."""

from __future__ import annotations

import pathlib

from lab.gates import drop_set
from lab.series import patches
from lab.tests.series_bench import bench


def test_failures_are_read_out_of_results() -> None:
    results = ("ok 1 a.x\n# note\nnot ok 2 a.y\n#   expected 1\n#   got 2\nok 3 a.z\n"
               "not ok 4 a.host.clean\n#   a report\n2 passed, 2 failed, 0 skipped\n")
    assert drop_set.findings_of(results)[:3] == ["not ok 2 a.y", "expected 1", "got 2"]
    assert "not ok 4 a.host.clean" in drop_set.findings_of(results)
    assert not drop_set.findings_of(
        "ok 1 a.x\n#   1.0 min  in all\n1 passed, 0 failed, 0 skipped\n")


def test_copy_has_the_lab_and_no_patch_of_the_group(tmp: pathlib.Path) -> None:
    with bench() as b:
        b.save()
        b.put("lab/x.py", "x = 1\n", b.root)
        was = patches.load(b.layout.patches)
        groups = {patch.group for patch in was}
        gone = sorted(groups)[0]
        where = tmp / "copy"
        drop_set.copy_lab(b.root, where, [patch for patch in was if patch.group != gone])
        assert {patch.group for patch in patches.load(where / "patches")} == groups - {gone}
        assert (where / "lab/x.py").read_text() == "x = 1\n"
        # What the copy held before does not stay.
        (where / "lab/y.py").write_text("old\n")
        drop_set.copy_lab(b.root, where, was)
        assert not (where / "lab/y.py").exists()
        assert len(patches.load(where / "patches")) == len(was)
