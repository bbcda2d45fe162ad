# SPDX-License-Identifier: GPL-2.0
"""The gates on QEMU's patches, and the progress of its build."""

from __future__ import annotations

import contextlib
import io
import pathlib
from collections.abc import Iterator

from lab.gates import emulator, schedule
from lab.image import kernel, qemu
from lab.series import layout as layouts
from lab.series.apply import apply_patches
from lab.series.layout import Layout
from lab.tests.test_env import replaced, settings

PATCH = """From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Author not set <author-not-set@invalid>
Date: Thu, 1 Jan 2026 00:00:00 +0000
Subject: [PATCH] Change the file

Why.
---
 file | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/file b/file
--- a/file
+++ b/file
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""


@contextlib.contextmanager
def small_tree(folder: pathlib.Path) -> Iterator[Layout]:
    """build/qemu with one file, and patches/qemu with one patch, both below folder."""
    own = settings(REPO=folder, BUILD=folder / "build")
    with replaced(layouts, "config", own):
        layout = Layout.default("qemu")
        layout.tree.mkdir(parents=True)
        (layout.tree / "file").write_text("one\ntwo\nthree\n")
        kernel.commit_pristine(layout.tree, "small")
        patches = layout.patches / "machine"
        patches.mkdir(parents=True)
        (patches / "0001-Change-the-file.patch").write_text(PATCH)
        (patches / "series").write_text("0001-Change-the-file.patch\n")
        with contextlib.redirect_stderr(io.StringIO()):
            apply_patches(layout)
        yield layout


def test_gates_find_faults(tmp: pathlib.Path) -> None:
    """A patch that checkpatch dislikes and a tree that is not made of the patches are found."""
    with small_tree(tmp) as layout:
        # Stands for QEMU's own: it finds a FIXME, and nothing without --no-signoff.
        checkpatch = layout.tree / "scripts/checkpatch.pl"
        checkpatch.parent.mkdir()
        checkpatch.write_text('exit 9 unless grep { $_ eq "--no-signoff" } @ARGV;\n'
                              'open(my $in, "<", pop @ARGV) or exit 9;\n'
                              'exit 0 unless grep { /^\\+.*FIXME/ } <$in>;\n'
                              'print "ERROR: FIXME\\n"; exit 1;\n')

        def findings() -> dict[str, list[str]]:
            return {gate.name: schedule.run_gate(gate) for gate in emulator.gates()}

        name = "qemu.checkpatch.machine.0001-Change-the-file"
        assert findings() == {"qemu.am": [], name: []}
        patch = layout.patches / "machine/0001-Change-the-file.patch"
        patch.write_text(PATCH.replace("+TWO", "+FIXME"))
        found = findings()
        assert found[name] == ["ERROR: FIXME"], found
        assert found["qemu.am"] and "file" in found["qemu.am"][0], found
        patch.write_text(PATCH.replace("-two", "-2"))
        assert "does not apply" in " ".join(findings()["qemu.am"])


def test_progress() -> None:
    """A line of ninja becomes a step and its target."""
    assert qemu.step(0, "[7/12] Compiling C object a/b.c.o\n") == "step 7 of 12, a/b.c.o"
    assert qemu.step(0, "ninja: no work to do.\n") == "ninja: no work to do."
