# SPDX-License-Identifier: GPL-2.0
"""The state of patches/ and of build/linux at the last apply or save, and changes since then."""

from __future__ import annotations

import json
import pathlib
import shlex
from collections.abc import Sequence

from lab.series.git import PRISTINE, KernelTree
from lab.series.patches import Patch, digest

SAVED = "refs/lab/saved"


def state_file(tree: KernelTree) -> pathlib.Path:
    """The file with the inputs of the tree."""
    return tree.git_dir() / "lab-series.json"


def saved_state(tree: KernelTree) -> tuple[str, str]:
    """(digest of patches/, commit) of the last apply or save; empty when there was none."""
    try:
        data = json.loads(state_file(tree).read_text(encoding="ascii"))
        return str(data["digest"]), str(data["commit"])
    except (OSError, ValueError, KeyError):
        return "", ""


def record_saved(tree: KernelTree, patches: Sequence[Patch], tip: str) -> None:
    """Note that the tree's commit tip and these patches are the same."""
    tree.run("update-ref", SAVED, tip)
    data = {"digest": digest(tree, patches), "commit": tip}
    state_file(tree).write_text(json.dumps(data) + "\n", encoding="ascii")


def unsaved(tree: KernelTree, commit: str) -> list[str]:
    """Changes of the tree since the saved commit, one line each."""
    lines = []
    if tree.busy():
        lines.append(f"a {tree.busy()} that is not finished")
    lines += [f"uncommitted: {line}" for line in tree.dirty()[:5]]
    head = tree.head()
    if head not in (commit, tree.pristine()):
        base = tree.out("merge-base", commit or PRISTINE, head) or PRISTINE
        new = tree.commits(head, base)
        lines += [f"not in patches/: {c.id[:12]} {c.subject}" for c in new[:5]]
        if not new:
            lines.append("the branch stands before the last saved commit")
    return lines


def way_out(tree: pathlib.Path, commit: str) -> str:
    """How to keep or drop changes of the tree that are not in patches/."""
    git = f"git -C {shlex.quote(str(tree))}"
    base = SAVED if commit else PRISTINE
    return (f"To keep it:  {git} branch mine   (commit first), drop it as below, `make save`\n"
            f"             {git} cherry-pick {(commit or PRISTINE)[:12]}..mine, `make save`\n"
            f"To keep it and give up the change of patches/:  make save FORCE=1\n"
            f"To drop it:  {git} reset --hard {base}   (and git clean -fd there)")
