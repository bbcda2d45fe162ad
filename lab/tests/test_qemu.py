# SPDX-License-Identifier: GPL-2.0
"""The emulator's patches: what is applied, what is refused, and the way back by make save-qemu."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from lab.gates import emulator, schedule
from lab.image import kernel, qemu
from lab.series.git import KernelTree
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
def small_tree(folder: pathlib.Path) -> Iterator[KernelTree]:
    """build/qemu with one file, and patches/qemu/machine with one patch, both below folder."""
    source, patches = folder / "build/qemu", folder / "patches/qemu/machine"
    source.mkdir(parents=True)
    patches.mkdir(parents=True)
    (source / "file").write_text("one\ntwo\nthree\n")
    kernel.commit_pristine(source, "small")
    (patches / "0001-Change-the-file.patch").write_text(PATCH)
    (patches / "series").write_text("0001-Change-the-file.patch\n")
    own = settings(QEMU=source, REPO=folder)
    with contextlib.ExitStack() as stack:
        for owner, name, value in ((qemu, "config", own), (emulator, "config", own),
                                   (qemu, "PATCHES", patches),
                                   (qemu, "say", lambda text: None)):
            stack.enter_context(replaced(owner, name, value))
        yield KernelTree(source)


def refusal(*words: str) -> None:
    """apply_patches() is refused with these words."""
    try:
        qemu.apply_patches()
    except qemu.QemuError as error:
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError("applied")


def test_apply(tmp: pathlib.Path) -> None:
    """The patches are applied once; a changed patch is applied anew."""
    with small_tree(tmp) as tree:
        qemu.apply_patches()
        assert (tree.path / "file").read_text() == "one\nTWO\nthree\n"
        head = tree.head()
        qemu.apply_patches()
        assert tree.head() == head
        patch = qemu.PATCHES / "0001-Change-the-file.patch"
        patch.write_text(PATCH.replace("+TWO", "+2"))
        qemu.apply_patches()
        assert (tree.path / "file").read_text() == "one\n2\nthree\n"


def test_work_is_kept(tmp: pathlib.Path) -> None:
    """A commit that the patches do not have stays, and is not replaced by changed patches."""
    with small_tree(tmp) as tree:
        qemu.apply_patches()
        (tree.path / "file").write_text("mine\n")
        tree.run("commit", "-q", "-a", "-m", "mine")
        head = tree.head()
        qemu.apply_patches()
        assert tree.head() == head
        (qemu.PATCHES / "series").write_text("")
        (qemu.PATCHES / "0001-Change-the-file.patch").unlink()
        refusal("work of its own", "mine")
        assert tree.head() == head


def test_unlisted_patch(tmp: pathlib.Path) -> None:
    """A patch that the list does not name is refused, not left out."""
    with small_tree(tmp):
        (qemu.PATCHES / "0002-Other.patch").write_text(PATCH)
        refusal("0002-Other.patch")


def test_save(tmp: pathlib.Path) -> None:
    """A fixup is folded into its patch, and the saved patches give the same tree."""
    with small_tree(tmp) as tree:
        qemu.apply_patches()
        (tree.path / "file").write_text("one\nTwo\nthree\n")
        tree.run("commit", "-q", "-a", "-m", "fixup! Change the file")
        qemu.save()
        text = (qemu.PATCHES / "0001-Change-the-file.patch").read_text()
        assert "\n+Two\n" in text and "\nWhy.\n" in text, text
        assert [c.subject for c in tree.commits(tree.head())] == ["Change the file"]
        saved = tree.tree_of(tree.head())
        tree.move_to(tree.pristine())
        tree.run("update-ref", "-d", "refs/lab/saved")
        (tree.git_dir() / "lab-series.json").unlink()
        qemu.apply_patches()
        assert tree.tree_of(tree.head()) == saved


def test_gates_find_faults(tmp: pathlib.Path) -> None:
    """A patch that checkpatch dislikes and a tree that is not made of the patches are found."""
    with small_tree(tmp) as tree:
        qemu.apply_patches()
        # Stands for QEMU's own: it finds a FIXME, and nothing without --no-signoff.
        checkpatch = tree.path / "scripts/checkpatch.pl"
        checkpatch.parent.mkdir()
        checkpatch.write_text('exit 9 unless grep { $_ eq "--no-signoff" } @ARGV;\n'
                              'open(my $in, "<", pop @ARGV) or exit 9;\n'
                              'exit 0 unless grep { /^\\+.*FIXME/ } <$in>;\n'
                              'print "ERROR: FIXME\\n"; exit 1;\n')

        def findings() -> dict[str, list[str]]:
            return {gate.name: schedule.run_gate(gate) for gate in emulator.gates()}

        name = "qemu.checkpatch.0001-Change-the-file"
        assert findings() == {"qemu.am": [], name: []}
        patch = qemu.PATCHES / "0001-Change-the-file.patch"
        patch.write_text(PATCH.replace("+TWO", "+FIXME"))
        found = findings()
        assert found[name] == ["ERROR: FIXME"], found
        assert found["qemu.am"] and "file" in found["qemu.am"][0], found
        patch.write_text(PATCH.replace("-two", "-2"))
        assert "does not apply" in " ".join(findings()["qemu.am"])


def test_progress() -> None:
    """A line of ninja becomes a step and what is made."""
    assert qemu.step(0, "[7/12] Compiling C object a/b.c.o\n") == "step 7 of 12, a/b.c.o"
    assert qemu.step(0, "ninja: no work to do.\n") == "ninja: no work to do."
