# SPDX-License-Identifier: GPL-2.0
"""Compare top level, patches/ and build/linux. `make test` does this."""

from __future__ import annotations

from lab.series.git import KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.membership import sets_of
from lab.series.patches import format_patches, listing_of, load
from lab.series.top_level import present, wanted


def difference(layout: Layout | None = None) -> list[str]:
    """Where top level, patches/ and tree disagree, one line each; [] when they agree."""
    layout = layout or Layout.default()
    try:
        kernel = KernelTree(layout.tree)
        found = [f"{layout.tree}: uncommitted: {line}" for line in kernel.dirty()]
        tip = kernel.head()
        found += patch_difference(kernel, layout, tip)
        here, there = present(layout, kernel), wanted(layout, kernel, tip)
    except SeriesError as err:
        return [str(err)]
    for name in sorted(set(here) | set(there)):
        if name not in here:
            found.append(f"{name}: missing at the top level")
        elif name not in there:
            found.append(f"{name}: at the top level, but in no patch")
        elif here[name].mode != there[name].mode:
            found.append(f"{name}: mode {here[name].mode} at the top level, "
                         f"{there[name].mode} in the series")
        elif here[name] != there[name]:
            found.append(f"{name}: top level and series differ")
    return found


def patch_difference(tree: KernelTree, layout: Layout, tip: str) -> list[str]:
    """Differences between patches/ and git format-patch of tip."""
    old = load(layout)
    new = format_patches(tree, tip, sets_of(tree, layout, tree.commits(tip), old))
    found = []
    where = layout.patches.relative_to(layout.root)
    if [p.path for p in old] != [p.path for p in new]:
        found.append(f"{where}: lists other patches than the tree has commits")
    for one in layout.sets:
        mine = [patch for patch in new if patch.set == one.name]
        listing = layout.patches / one.name / "series"
        if mine and listing.exists() and listing.read_text(encoding="utf-8") != listing_of(mine):
            found.append(f"{where}/{one.name}/series: not as `make save` writes it")
    data = {p.path: p.data for p in new}
    for patch in old:
        if patch.path not in data:
            found.append(f"{where}/{patch.path}: no such commit in the tree")
        elif data.pop(patch.path) != patch.data:
            found.append(f"{where}/{patch.path}: not what the tree's commit gives")
    return found + [f"{where}/{path}: missing" for path in data]
