# SPDX-License-Identifier: GPL-2.0
"""What `make bench` makes of figures."""

from __future__ import annotations

import pathlib

from lab.commands import bench
from lab.commands.bench import Figures, goals, markdown, parse, streams_of_all, table
from lab.common.errors import LabError


def figures(queues: int) -> Figures:
    """Made up ones that meet all goals."""
    return {"adapters": 4.0, "size": 208, "armed_size": 408, "baseline_size": 16.0 * queues,
            "save": 5000, "load": 5000, "save_floor": 2000, "load_floor": 2000,
            "tapq": 600 * queues, "baseline_save": 1230 * queues + 60_000,
            "baseline_load": 620 * queues + 60_000,
            "data_size": 460, "armed_data_size": 460, "data_size_floor": 385,
            "source": 1500 * queues, "target": 1000 * queues, "source_syscalls": 10,
            "source_insns": 1000 * queues, "target_syscalls": 10, "target_insns": 900 * queues,
            "assign": 10, "save_memory": 1, "load_memory": 1}


def test_goals_are_judged() -> None:
    found = {queues: figures(queues) for queues in (16, bench.LARGE)}
    judged = goals(found, {1: 0.5})
    assert [goal.met for goal in judged] == [True] * 5, judged
    # Twice what the floor allows, each by itself.
    for number, name, factor in ((0, "armed_size", 20), (1, "save", 40), (2, "source", 4)):
        worse = {queues: dict(f) for queues, f in found.items()}
        worse[bench.LARGE][name] *= factor
        judged = goals(worse, {1: 0.5})
        assert not judged[number].met and not judged[number].allowed, (name, judged[number])
    worse = {queues: dict(f) for queues, f in found.items()}
    worse[bench.LARGE]["armed_data_size"] *= 2
    assert not goals(worse, {1: 0.5})[3].allowed
    assert not goals(found, {1: 1.5})[4].met


def test_tables_have_every_figure() -> None:
    found = {queues: figures(queues) for queues in (16, bench.LARGE)}
    for text in (table(found), markdown(found, {1: 0.5}, (1, 2))):
        assert all(row.name in text for row in bench.ROWS), text
        assert "5,100" in text and "81,600" in text, text


def test_output_is_read() -> None:
    assert parse("size 160\nsave 12\n") == {"size": 160, "save": 12}
    try:
        parse("# read: No such device\n")
    except LabError as error:
        assert "No such device" in str(error)
    else:
        raise AssertionError("an error was taken for a figure")


def test_largest_stream_is_bounded() -> None:
    """Of a guest with everything, as the format has it: 144 bytes, and rows of 16 and 48."""
    plain, armed = streams_of_all()
    assert plain == 144 + 256 * 16
    assert armed == plain + 8 + 256 * 48


def test_shapes_have_the_wanted_numbers_of_queues() -> None:
    assert [adapters * domains for adapters, domains in bench.SHAPES] == [1, 16, 340, 1360, 5100]
    assert pathlib.Path(bench.__file__).with_name("bench").joinpath("measure.c").exists()
