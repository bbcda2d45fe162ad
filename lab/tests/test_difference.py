# SPDX-License-Identifier: GPL-2.0
"""patches/, build/linux and the top level of the repository hold the same series."""

from __future__ import annotations

from lab.series.difference import difference


def test_patches_tree_and_top_level() -> None:
    """`make difference` finds nothing."""
    assert not difference()
