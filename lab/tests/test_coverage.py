# SPDX-License-Identifier: GPL-2.0
"""`make coverage`: the judgement, from a report of gcovr that is made up."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from lab.commands.coverage import (REASONS, Line, Place, check_reasons, functions_of, percentages,
                                   read_lines, read_reasons)
from lab.common import config
from lab.common.errors import LabError

PATH = "drivers/x.c"
SOURCE = """static int one(int a)
{
\tif (a)
\t\treturn -EINVAL;
\treturn 0;
}

static int two(int a)
{
\tif (a)
\t\treturn -EINVAL;
\tif (a > 1)
\t\treturn -EINVAL;
\treturn 0;
}
"""
CODE = (1, 3, 4, 5, 8, 10, 11, 12, 13, 14)
LISTED = "x.c:two: return -EINVAL;: nobody asks\n"


def report(missed: Iterable[int]) -> dict[str, Any]:
    """gcovr's report on the source above."""
    return {"files": [{
        "file": PATH,
        "functions": [{"name": "one", "lineno": 1, "execution_count": 1}],
        "lines": [{"line_number": number, "count": int(number not in missed), "branches": [],
                   "gcovr/noncode": number not in CODE, "gcovr/excluded": False}
                  for number in range(1, 16)]}]}


def lines(tmp: pathlib.Path, *missed: int) -> dict[str, list[Line]]:
    """The lines of the source above."""
    (tmp / PATH).parent.mkdir(parents=True, exist_ok=True)
    (tmp / PATH).write_text(SOURCE)
    return read_lines(report(missed), tmp)


def test_lines_have_their_function(tmp: pathlib.Path) -> None:
    """A line is known by file, function and text; its number may change."""
    found = lines(tmp, 4)[PATH]
    assert [line.number for line in found] == list(CODE)
    assert found[2] == Line(("x.c", "one", "return -EINVAL;"), 4, 0)
    assert found[6].place == ("x.c", "two", "return -EINVAL;") and found[6].count


def test_missed_line_needs_a_reason(tmp: pathlib.Path) -> None:
    """One entry for each line: another line of the same function needs its own."""
    reasons = read_reasons(LISTED)
    assert not check_reasons(lines(tmp), [])
    assert not check_reasons(lines(tmp, 11), reasons)
    assert check_reasons(lines(tmp, 11), []) == ["NOT REACHED: x.c:two: return -EINVAL;"]
    assert check_reasons(lines(tmp, 11, 13), reasons) == ["NOT REACHED: x.c:two: return -EINVAL;"]
    assert not check_reasons(lines(tmp, 11, 13), read_reasons(LISTED * 2))
    assert check_reasons(lines(tmp, 4, 11), reasons) == ["NOT REACHED: x.c:one: return -EINVAL;"]
    assert check_reasons(lines(tmp, 11, 14), reasons) == ["NOT REACHED: x.c:two: return 0;"]


def test_reached_line_needs_no_entry(tmp: pathlib.Path) -> None:
    """An entry of a line that is reached, or that is gone, fails."""
    assert check_reasons(lines(tmp), read_reasons(LISTED)) == [
        "REACHED, BUT LISTED: x.c:two: return -EINVAL;"]
    assert check_reasons(lines(tmp), read_reasons("x.c:two: return 7;: nobody asks\n")) == [
        "NO SUCH LINE, BUT LISTED: x.c:two: return 7;"]
    sometimes = read_reasons("x.c:two: return -EINVAL;: sometimes, by luck\n")
    assert not check_reasons(lines(tmp), sometimes) and not check_reasons(lines(tmp, 11), sometimes)
    assert check_reasons(lines(tmp), read_reasons("x.c:two: return 7;: sometimes, by luck\n"))


def test_file_below_the_floor_fails(tmp: pathlib.Path) -> None:
    """A file that no kernel counted fails; a counted file without code does not."""
    assert percentages([PATH], lines(tmp), {PATH})[1]
    table, good = percentages([PATH], lines(tmp, 4), {PATH})
    assert good and "90.0 %  short of the goal" in table[0], table
    assert not percentages([PATH], lines(tmp, 4, 11), {PATH})[1]
    assert not percentages([PATH], {}, set())[1]
    assert percentages([PATH], {}, {PATH})[1]


def test_reasons_are_read() -> None:
    """Text and reason are separated by the last colon with a blank."""
    assert read_reasons("# a remark\n\na.c:f: return a ? b : c;: because\n") == [
        (("a.c", "f", "return a ? b : c;"), "because")]
    assert read_reasons("a.c:f: default:: because\n") == [(("a.c", "f", "default:"), "because")]
    for text in ("a.c:f\n", "a.c:f: return;\n", "a.c: return;: because\n", "a.c f: x;: because\n"):
        try:
            read_reasons(text)
        except LabError:
            continue
        raise AssertionError(f"{text!r} was taken")


def test_listed_lines_exist() -> None:
    """Each entry of the repository names a line of that function, as often as it is there."""
    listed = Counter(place for place, _ in read_reasons(REASONS.read_text(encoding="utf-8")))
    there: Counter[Place] = Counter()
    for name in {name for name, _, _ in listed}:
        text = (config.LINUX / "drivers/s390/crypto" / name).read_text(encoding="utf-8")
        lines = text.splitlines()
        there.update((name, function, line.strip())
                     for function, line in zip(functions_of(lines), lines, strict=True))
    assert listed and not listed - there, listed - there
