# SPDX-License-Identifier: GPL-2.0
"""Each set on its prerequisites alone, as commits of the tree that no branch has."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lab.series.git import Commit, KernelTree
from lab.series.layout import Layout
from lab.series.patches import Patch, git_am
from lab.series.sets import with_needs


class Chains:
    """Applies sets with git am, each combination once. Threads may share it."""

    def __init__(self, layout: Layout, patches: Sequence[Patch]) -> None:
        self._layout = layout
        self._patches = patches
        self._applied: dict[tuple[str, ...], str] = {}
        self._lock = threading.RLock()

    def whole(self) -> str:
        """The commit with all sets."""
        return self._apply(tuple(one.name for one in self._layout.sets))

    def base(self, name: str) -> str:
        """The commit with the prerequisites of a set."""
        return self._apply(tuple(with_needs(self._layout.sets, name)[:-1]))

    def tip(self, name: str) -> str:
        """The commit with a set on its prerequisites."""
        return self._apply(tuple(with_needs(self._layout.sets, name)))

    def commits(self, name: str) -> list[Commit]:
        """The commits of a set on its prerequisites."""
        return KernelTree(self._layout.tree).commits(self.tip(name), self.base(name))

    def _apply(self, names: tuple[str, ...]) -> str:
        with self._lock:
            if names not in self._applied:
                tree = KernelTree(self._layout.tree)
                base = self._apply(names[:-1]) if names else tree.pristine()
                mine = [patch for patch in self._patches if patch.set in names[-1:]]
                self._applied[names] = git_am(tree, mine, base=base)
            return self._applied[names]
