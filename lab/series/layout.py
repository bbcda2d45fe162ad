# SPDX-License-Identifier: GPL-2.0
"""The directories that the commands on the series use, and their messages."""

from __future__ import annotations

import pathlib
import sys
from dataclasses import dataclass

from lab.common import config
from lab.series.sets import SETS, Set


@dataclass(frozen=True)
class Layout:
    """Where things are: the repository, the git tree, the results. kind: linux or qemu."""

    root: pathlib.Path
    tree: pathlib.Path
    out: pathlib.Path
    kind: str = "linux"

    @classmethod
    def default(cls, kind: str = "linux") -> Layout:
        """This repository, as lab.config has it."""
        return cls(config.REPO, config.BUILD / kind, config.OUT, kind)

    @property
    def patches(self) -> pathlib.Path:
        """The directory with a directory per set."""
        return self.root / "patches" / self.kind

    @property
    def sets(self) -> tuple[Set, ...]:
        """The sets of the tree, in the order in which they are applied."""
        return SETS[self.kind]

    @property
    def mirrored(self) -> bool:
        """Whether the new files of the tree stand at the top level of the repository."""
        return self.kind == "linux"


def say(text: str) -> None:
    """Print to stderr; stdout is kept for the results of tests."""
    print(text, file=sys.stderr, flush=True)
