# SPDX-License-Identifier: GPL-2.0
"""A lock between commands of the lab."""

from __future__ import annotations

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from lab.common.errors import LabError


@contextlib.contextmanager
def exclusive(path: pathlib.Path, refusal: str) -> Iterator[None]:
    """Hold the lock that is this file; raise LabError(refusal) if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError(refusal) from None
        yield
