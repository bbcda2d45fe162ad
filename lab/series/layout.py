# SPDX-License-Identifier: GPL-2.0
"""The directories that the commands on the series use, and their messages."""

from __future__ import annotations

import pathlib
import sys
from dataclasses import dataclass

from lab.common import config


@dataclass(frozen=True)
class Layout:
    """Where things are: the repository, the kernel tree, the results."""

    root: pathlib.Path
    tree: pathlib.Path
    out: pathlib.Path

    @classmethod
    def default(cls) -> Layout:
        """This repository, as lab.config has it."""
        return cls(config.REPO, config.LINUX, config.OUT)

    @property
    def patches(self) -> pathlib.Path:
        """The directory of the patches and their list."""
        return self.root / "patches"


def say(text: str) -> None:
    """Tell the user what happened; stdout is kept for the results of tests."""
    print(text, file=sys.stderr, flush=True)
