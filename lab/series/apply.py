# SPDX-License-Identifier: GPL-2.0
"""Make build/linux from the pristine source and patches/. `make demo` and `make test` do this."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from lab.series.git import KernelTree, SeriesError
from lab.series.groups import note_groups
from lab.series.layout import Layout, say
from lab.series.patches import digest, git_am, load
from lab.series.state import remember, saved_state, unsaved, way_out


def apply_patches(tree: pathlib.Path, layout: Layout | None = None) -> None:
    """Make tree pristine + patches/, unless it is so already.

    Files that do not differ keep their times. Work in the tree that patches/ does not have is
    left alone as long as patches/ has not changed, and else refused with SeriesError.
    """
    layout = layout or Layout.default()
    kernel = KernelTree(tree)
    with kernel.locked():
        patches = load(layout.patches)
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
        groups = {p.subject: p.group for p in patches}
        check_subjects(kernel, tip, groups)
        kernel.move_to(tip)
        note_groups(kernel, tip, groups)
        remember(kernel, patches, tip)
        say(f"{len(patches)} patches applied in {tree}")


def check_subjects(tree: KernelTree, tip: str, groups: Mapping[str, str]) -> None:
    """Raise unless each commit's subject is that of a patch."""
    for commit in tree.commits(tip):
        if commit.subject not in groups:
            raise SeriesError(f"patches/: no patch, or two, with the subject \"{commit.subject}\"")
