# SPDX-License-Identifier: GPL-2.0
"""Soaks go on where they ended (lab/soak.py)."""

from __future__ import annotations

import pathlib

from lab.tests.soak import Soak, SoakError

GOAL = ("streams", 3)


def run(soak: Soak, fails_at: int = -1) -> list[int]:
    """The numbers of the streams that were done; one of them can fail."""
    done = []
    while soak.is_unfinished():
        number = soak["streams"]
        if number == fails_at:
            break
        done.append(number)
        soak.add(streams=1, faulted=2)
    return done


def test_goes_on_where_it_ended(tmp: pathlib.Path) -> None:
    """The one that failed comes first; then up to the goal; and then to the next one."""
    assert run(Soak("s", GOAL, 0, folder=tmp), fails_at=2) == [0, 1]
    assert run(Soak("s", GOAL, 0, folder=tmp)) == [2]
    soak = Soak("s", GOAL, 0, folder=tmp)
    assert run(soak) == [3, 4, 5]
    assert soak["faulted"] == 12
    assert str(soak) == "seed 1, 6 streams, 12 faulted"


def test_seeds_and_names_are_independent(tmp: pathlib.Path) -> None:
    """Each has a position of its own."""
    assert run(Soak("s", GOAL, 0, folder=tmp)) == [0, 1, 2]
    assert run(Soak("s", GOAL, 0, 2, folder=tmp)) == [0, 1, 2]
    assert run(Soak("t", GOAL, 0, folder=tmp)) == [0, 1, 2]


def test_time_replaces_goal(tmp: pathlib.Path) -> None:
    """Many times the goal if there is time, nothing if there is none left."""
    soak = Soak("s", GOAL, 60, folder=tmp)
    for _ in range(4):
        assert soak.is_unfinished()
        soak.add(streams=3)
    assert not Soak("s", GOAL, 1e-9, folder=tmp).is_unfinished()


def test_position_that_cannot_be_read(tmp: pathlib.Path) -> None:
    """The error has the remedy; the file is left alone."""
    for text in ("", "[1]", '{"streams": "many"}', '{"streams": null}'):
        (tmp / "s-1.json").write_text(text, encoding="utf-8")
        try:
            Soak("s", GOAL, 0, folder=tmp)
        except SoakError as error:
            assert "remove it to begin at 0" in str(error), error
        else:
            raise AssertionError(f"{text!r} was taken")
        assert (tmp / "s-1.json").read_text(encoding="utf-8") == text
