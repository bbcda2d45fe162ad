# SPDX-License-Identifier: GPL-2.0
"""Soaks: long tests that go on where the last run with the same seed ended.

    make test-long T='pair.stream.*'              up to the test's goal; again: up to twice of it
    make test-long T='lab.race.*' MINUTES=60      for so long instead
    make test-long T='lab.race.*' SEED=7          with other random numbers

out/soak has the position of each; without that file it begins at 0. Failures are not counted, so
that the next run begins with the one that failed.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections import Counter

from lab.common import config, progress
from lab.common.errors import LabError

FOLDER = config.OUT / "soak"


class SoakError(LabError):
    """A position that cannot be read."""


class Soak:
    """Counts of one soak, over all runs of a seed. goal: (name of a count, its target)."""

    def __init__(self, name: str, goal: tuple[str, int], minutes: float, seed: int = 1,
                 folder: pathlib.Path = FOLDER) -> None:
        self.seed = seed
        self._path = folder / f"{name}-{seed}.json"
        self._counts: Counter[str] = Counter(self._read())
        self._what, many = goal
        self._goal = (self._counts[self._what] // many + 1) * many
        self._until = time.monotonic() + 60 * minutes if minutes else None
        if self._counts:
            progress.say(f"goes on: {self}")

    def __getitem__(self, what: str) -> int:
        return self._counts[what]

    def __str__(self) -> str:
        return ", ".join([f"seed {self.seed}",
                          *(f"{count} {what}" for what, count in self._counts.items())])

    def _read(self) -> dict[str, int]:
        try:
            counts = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(what): int(count) for what, count in counts.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise SoakError(f"{self._path}: {error}; remove it to begin at 0") from None

    def is_unfinished(self) -> bool:
        """Neither the time is over nor, if none was given, the goal reached."""
        if self._until is not None:
            return time.monotonic() < self._until
        return self._counts[self._what] < self._goal

    def add(self, **counts: int) -> None:
        """So much was done, and was well. The file has it at any time."""
        self._counts.update(counts)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._counts) + "\n", encoding="utf-8")
        new.replace(self._path)
        progress.say(str(self))
