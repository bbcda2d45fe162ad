# SPDX-License-Identifier: GPL-2.0
"""Bring an edit of a file at the top level into its patch: make take [STEP=]."""

from __future__ import annotations

import fnmatch
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence

from lab.series import shared_files
from lab.series.git import PRISTINE, Blob, Commit, KernelTree, SeriesError
from lab.series.layout import Layout, say
from lab.series.patches import load
from lab.series.save import require_ready, save_commit
from lab.series.state import saved_state
from lab.series.top_level import present, text_of, wanted


def take(layout: Layout | None = None, step: str = "", subject: str = "", into: str = "",
         files: str = "", message: str = "") -> None:
    """Bring edits of top-level files into their patches, then save.

    step: a patch as SET/NUMBER, a part of its subject, or a glob of files (the last patch that
    touches one); "new", or a subject alone, makes a new patch with subject, set (into) and
    message (its text); "" picks for each file the last patch that touches it. files: take only
    those that this glob matches.
    """
    step = step or ("new" if subject else "")
    layout = layout or Layout.default()
    kernel = KernelTree(layout.tree)
    with kernel.locked():
        require_ready(kernel, layout, force=False)
        tip = kernel.head()
        changes = top_level_edits(kernel, layout)
        if files:
            changes = {k: v for k, v in changes.items() if fnmatch.fnmatchcase(k, files)}
        if not changes:
            raise SeriesError("no top-level file differs from the tree"
                              + (f" ({files})" if files else ""))
        for name, blob in changes.items():
            say(f"take {name}" + ("" if blob else " (removed)"))
        commits = kernel.commits(tip)
        _, saved = saved_state(kernel)
        content = {}
        for name, blob in changes.items():
            file = kernel_content(kernel, saved or tip, name, blob)
            content[kind_path(name)] = three_way(kernel, saved or tip, tip, kind_path(name), file)
        if step == "new":
            if not subject:
                raise SeriesError("STEP=new needs SUBJECT=\"area: what it does\"")
            if subject in {c.subject for c in commits}:
                raise SeriesError(f"there is a patch \"{subject}\" already")
            text = subject + ("\n\n" + message.strip() if message.strip() else "") + "\n"
            tip = kernel.commit_files(tip, content, text)
        else:
            numbers = {patch.path.partition("-")[0]: patch.subject for patch in load(layout)}
            for target, paths in targets(kernel, commits, step, sorted(content), numbers).items():
                tip = kernel.commit_files(tip, {p: content[p] for p in paths},
                                          f"fixup! {target}\n")
        save_commit(kernel, layout, tip, into, taken=changes)


def kind_path(name: str) -> str:
    """The path of a top-level file in the kernel tree."""
    for kind in shared_files.KINDS:
        if name == kind.name:
            return kind.kernel_path
    return name


def kernel_content(tree: KernelTree, tip: str, name: str, blob: Blob | None) -> Blob | None:
    """The kernel's file that has this top-level file's content (as entries, for those)."""
    for kind in shared_files.KINDS:
        if name == kind.name:
            base, head = tree.blob(PRISTINE, kind.kernel_path), tree.blob(tip, kind.kernel_path)
            if base is None or head is None:
                raise SeriesError(f"the kernel has no {kind.kernel_path}")
            return Blob(kind.merge(text_of(base), text_of(head), text_of(blob)).encode(),
                        head.mode)
    return blob


def three_way(tree: KernelTree, base: str, tip: str, path: str, blob: Blob | None) -> Blob | None:
    """The change of a file from commit base to blob, brought to commit tip."""
    old, now = tree.blob(base, path), tree.blob(tip, path)
    if now in (old, blob) or blob is None:
        return blob
    if now is None:
        raise SeriesError(f"{path}: edited at the top level, and removed in the tree")
    with tempfile.TemporaryDirectory() as tmp:
        names = []
        for name, side in (("tree", now), ("saved", old or Blob(b"")), ("top-level", blob)):
            (pathlib.Path(tmp) / name).write_bytes(side.data)
            names.append(str(pathlib.Path(tmp) / name))
        done = tree.run("merge-file", "-p", *names, check=False)
    if done.rc:
        raise SeriesError(f"{path}: the edit at the top level and commits that are not saved yet "
                          "conflict; put the file as you want it into the tree, commit, and "
                          "`make save FORCE=1`")
    return Blob(done.stdout, blob.mode)


def top_level_edits(tree: KernelTree, layout: Layout) -> dict[str, Blob | None]:
    """The top-level files that differ from the series as saved last; None: removed."""
    _, saved = saved_state(tree)
    here, there = present(layout, tree), wanted(layout, tree, saved or tree.head())
    return {name: here.get(name) for name in sorted(set(here) | set(there))
            if here.get(name) != there.get(name)}


def targets(tree: KernelTree, commits: Sequence[Commit], step: str,
            paths: Sequence[str], numbers: Mapping[str, str]) -> dict[str, list[str]]:
    """The subjects of the patches to fix, each with the files of paths that go there.

    numbers: subjects by SET/NUMBER."""
    commits = [c for c in commits if not c.is_fixup]
    if step:
        return {find_step(tree, commits, step, numbers).subject: list(paths)}
    found: dict[str, list[str]] = {}
    new = []
    touched = {c.id: tree.touched(f"{c.id}^", c.id) for c in commits}
    for path in paths:
        last = [c for c in commits if path in touched[c.id]]
        if last:
            found.setdefault(last[-1].subject, []).append(path)
        else:
            new.append(path)
    if new:
        raise SeriesError("in no patch yet; STEP= says into which, or STEP=new SUBJECT=... "
                          "SET=...:\n  " + "\n  ".join(new))
    return found


def find_step(tree: KernelTree, commits: Sequence[Commit], step: str,
              numbers: Mapping[str, str]) -> Commit:
    """The commit that SET/NUMBER, a part of a subject or a file glob names."""
    match = re.fullmatch(r"([\w-]+/)(\d+)", step)
    if match:
        step = numbers.get(f"{match[1]}{int(match[2]):04}", step)
    exact = [c for c in commits if c.subject == step]
    part = exact or [c for c in commits if step.lower() in c.subject.lower()]
    if len(part) > 1:
        raise SeriesError(f"STEP={step} fits several patches:\n  "
                          + "\n  ".join(c.subject for c in part))
    if part:
        return part[0]
    touching = [c for c in commits
                if fnmatch.filter(tree.touched(f"{c.id}^", c.id), step)]
    if not touching:
        raise SeriesError(f"STEP={step}: no patch has that number, subject or file")
    return touching[-1]
