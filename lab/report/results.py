# SPDX-License-Identifier: GPL-2.0
"""Results of a command that is no session of pytest: test-mutants, test-fuzz."""

from __future__ import annotations

import io
from dataclasses import dataclass

from lab.report.tap import Outcome

LOG_LINES = 60


@dataclass
class Results:
    """Prints results as they come, also to a file, and counts them."""

    out: io.TextIOBase | None = None
    passed: int = 0
    failed: int = 0

    def _print(self, text: str) -> None:
        print(text, flush=True)
        if self.out:
            self.out.write(text + "\n")
            self.out.flush()

    def add(self, name: str, outcome: Outcome) -> None:
        """Print one result; anything but "ok" is a failure."""
        number = self.passed + self.failed + 1
        if outcome.status == "ok":
            self.passed += 1
            self._print(f"ok {number} {name}")
            return
        self.failed += 1
        self._print(f"not ok {number} {name}")
        for line in outcome.log[-LOG_LINES:]:
            self._print(f"#   {line}")

    def summary(self) -> int:
        """Print the last line; the exit status, which is 1 if nothing ran."""
        self._print(f"{self.passed} passed, {self.failed} failed, 0 skipped")
        return int(self.failed > 0 or self.passed == 0)
