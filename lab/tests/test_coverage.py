# SPDX-License-Identifier: GPL-2.0
"""What `make coverage` makes of counts."""

from __future__ import annotations

import pathlib

from lab.commands.coverage import Lines, judge, read_reasons
from lab.common import config
from lab.common.errors import LabError

PATH = "drivers/s390/crypto/vfio_ap_x.c"


def lines(reached: int, missed: int) -> Lines:
    """A file of two functions; what was missed is all in the second."""
    count = {number: int(number <= reached) for number in range(1, reached + missed + 1)}
    return Lines(count, {number: "good" if number <= reached else "bad" for number in count})


def test_what_is_missed_needs_a_reason() -> None:
    reasons = {("vfio_ap_x.c", "bad"): "for a test"}
    assert judge({PATH: lines(100, 0)}, {})[1]
    table, good = judge({PATH: lines(95, 5)}, reasons)
    assert good and "95.0 %" in table[0] and "for a test" in table[1], table
    table, good = judge({PATH: lines(95, 5)}, {})
    assert not good and "NO REASON" in table[1], table


def test_a_file_below_the_floor_is_too_little() -> None:
    reasons = {("vfio_ap_x.c", "bad"): "for a test"}
    table, good = judge({PATH: lines(90, 10)}, reasons)
    assert good and "short of the goal" in table[0], table
    assert not judge({PATH: lines(89, 11)}, reasons)[1]
    # Nothing was counted at all; or there is nothing that could be.
    assert not judge({PATH: Lines()}, reasons)[1]
    assert judge({PATH: Lines(counted=True)}, reasons)[1]


def test_reasons_are_read() -> None:
    assert read_reasons("# a remark\n\na.c f: because: of x\n") == {("a.c", "f"): "because: of x"}
    for text in ("a.c f\n", "a.c: because\n", "a.c f:\n"):
        try:
            read_reasons(text)
        except LabError:
            continue
        raise AssertionError(f"{text!r} was taken")


def test_reasons_are_of_functions_that_exist() -> None:
    """Those of the repository, so that none stays behind."""
    found = read_reasons((config.REPO / "lab/commands/unreached").read_text(encoding="utf-8"))
    for (name, function), _ in found.items():
        text = pathlib.Path(config.REPO / "drivers/s390/crypto" / name).read_text(encoding="utf-8")
        assert function == "-" or f"{function}(" in text, (name, function)
