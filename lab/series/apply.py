# SPDX-License-Identifier: GPL-2.0
"""Make build/linux or build/qemu from the pristine source and all sets of patches/."""

from __future__ import annotations

from collections.abc import Mapping

from lab.series.git import KernelTree, SeriesError
from lab.series.layout import Layout, say
from lab.series.membership import record_sets
from lab.series.patches import digest, git_am, load
from lab.series.state import record_saved, saved_state, unsaved, way_out


def apply_patches(layout: Layout | None = None) -> None:
    """Make the tree pristine + patches/, unless it is so already.

    Files that do not differ keep their times. Work in the tree that patches/ does not have is
    left alone as long as patches/ has not changed, and else refused with SeriesError.
    """
    layout = layout or Layout.default()
    tree = layout.tree
    kernel = KernelTree(tree)
    with kernel.locked():
        patches = load(layout)
        was, commit = saved_state(kernel)
        if was == digest(kernel, patches) and kernel.commit(commit):
            extra = unsaved(kernel, commit)
            if extra:
                say(f"note: {tree} has work that patches/ does not have (`make save` keeps it): "
                    f"{extra[0]}" + (f" and {len(extra) - 1} more" if len(extra) > 1 else ""))
            return
        extra = unsaved(kernel, commit)
        if extra:
            raise SeriesError(f"patches/ changed, and {tree} has work of its own:\n  "
                              + "\n  ".join(extra) + "\n" + way_out(tree, commit))
        tip = git_am(kernel, patches)
        sets = {p.subject: p.set for p in patches}
        check_subjects(kernel, tip, sets)
        kernel.move_to(tip)
        record_sets(kernel, layout, tip, sets)
        record_saved(kernel, patches, tip)
        say(f"{len(patches)} patches applied in {tree}")


def check_subjects(tree: KernelTree, tip: str, sets: Mapping[str, str]) -> None:
    """Raise unless each commit's subject is that of a patch."""
    for commit in tree.commits(tip):
        if commit.subject not in sets:
            raise SeriesError(f"patches/: no patch, or two, with the subject \"{commit.subject}\"")
