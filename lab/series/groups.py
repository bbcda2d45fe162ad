# SPDX-License-Identifier: GPL-2.0
"""The groups of the series: the sections of patches/series.

The group of a commit is the group of its subject in patches/series. A commit with a new subject
keeps the group that a git note recorded when the commit was applied; without a note, it joins
the group of the commit before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.series.git import Commit, KernelTree, SeriesError
from lab.series.patches import GROUPS, Patch

NOTES = "refs/notes/group"


def groups_of(tree: KernelTree, commits: Sequence[Commit], patches: Sequence[Patch],
              new: str = "") -> dict[str, str]:
    """The group of each commit by its subject; new: the group of commits that have none yet."""
    if new and new not in GROUPS:
        raise SeriesError(f"GROUP={new}: groups are {' '.join(GROUPS)}")
    listed = {patch.subject: patch.group for patch in patches}
    noted = {}
    for line in tree.lines("notes", f"--ref={NOTES}", "list"):
        blob, _, ident = line.partition(" ")
        noted[ident] = blob
    found: dict[str, str] = {}
    last = GROUPS[1]
    for commit in commits:
        if commit.is_fixup:
            continue
        if commit.subject in found:
            raise SeriesError(f"two commits have the subject \"{commit.subject}\"")
        group = listed.get(commit.subject, "")
        if not group and commit.id in noted:
            group = tree.out("cat-file", "blob", noted[commit.id]).split("\n")[0]
        found[commit.subject] = last = group or new or last
    return found


def note_groups(tree: KernelTree, tip: str, groups: Mapping[str, str]) -> None:
    """Note each commit's group, and keep a branch group/NAME at the last commit of each."""
    tree.run("config", "notes.rewriteRef", NOTES)
    tree.run("config", "notes.rewriteMode", "overwrite")
    last: dict[str, str] = {}
    for commit in tree.commits(tip):
        group = groups[commit.subject]
        last[group] = commit.id
        tree.run("notes", f"--ref={NOTES}", "add", "-f", "-m", group, commit.id)
    for group in GROUPS:
        if group in last:
            tree.run("update-ref", f"refs/heads/group/{group}", last[group])
        elif tree.commit(f"refs/heads/group/{group}"):
            tree.run("update-ref", "-d", f"refs/heads/group/{group}")
