# SPDX-License-Identifier: GPL-2.0
"""Which set a commit belongs to.

The set of a commit is the set of its subject in patches/. A commit with a new subject keeps the
set that a git note recorded when the commit was applied; without a note, it joins the set of the
commit before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.series.git import Commit, KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.patches import Patch

NOTES = "refs/notes/set"


def sets_of(tree: KernelTree, layout: Layout, commits: Sequence[Commit],
            patches: Sequence[Patch], new: str = "") -> dict[str, str]:
    """The set of each commit by its subject; new: the set of commits that have none yet."""
    names = [one.name for one in layout.sets]
    if new and new not in names:
        raise SeriesError(f"SET={new}: sets are {' '.join(names)}")
    listed = {patch.subject: patch.set for patch in patches}
    noted = {}
    for line in tree.lines("notes", f"--ref={NOTES}", "list"):
        blob, _, ident = line.partition(" ")
        noted[ident] = blob
    found: dict[str, str] = {}
    last = names[0]
    for commit in commits:
        if commit.is_fixup:
            continue
        if commit.subject in found:
            raise SeriesError(f"two commits have the subject \"{commit.subject}\"")
        name = listed.get(commit.subject, "")
        if not name and commit.id in noted:
            name = tree.out("cat-file", "blob", noted[commit.id]).split("\n")[0]
        found[commit.subject] = last = (name if name in names else "") or new or last
    return found


def record_sets(tree: KernelTree, layout: Layout, tip: str, sets: Mapping[str, str]) -> None:
    """Note each commit's set, and keep a branch set/NAME at the last commit of each."""
    tree.run("config", "notes.rewriteRef", NOTES)
    tree.run("config", "notes.rewriteMode", "overwrite")
    last: dict[str, str] = {}
    for commit in tree.commits(tip):
        last[sets[commit.subject]] = commit.id
        tree.run("notes", f"--ref={NOTES}", "add", "-f", "-m", sets[commit.subject], commit.id)
    for one in layout.sets:
        branch = f"refs/heads/set/{one.name}"
        if one.name in last:
            tree.run("update-ref", branch, last[one.name])
        elif tree.commit(branch):
            tree.run("update-ref", "-d", branch)
