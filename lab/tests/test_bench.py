# SPDX-License-Identifier: GPL-2.0
"""`make bench`: the judgement and the tables, from figures that are made up."""

from __future__ import annotations

import dataclasses

from lab.commands import bench
from lab.commands.bench import (Figures, Goal, Missed, Waits, check_goals, goals, markdown, parse,
                                read_missed, spread, streams_of_all, table)
from lab.common import config
from lab.common.errors import LabError


PARTS = ("source", "target", "source_at_once", "target_at_once")


def figures(queues: int) -> Figures:
    """Made up ones that meet all goals."""
    spans = {f"{part}_{insn}": 2.0 * queues for part in (*PARTS, "resuming")
             for insn in bench.INSNS}
    return {"adapters": 4.0, "queues": queues, "size": 208, "armed_size": 408,
            "baseline_size": 16.0 * queues,
            "save": 5000, "load": 5000, "save_floor": 2000, "load_floor": 2000,
            "tapq": 600 * queues, "baseline_save": 1230 * queues + 60_000,
            "baseline_load": 620 * queues + 60_000,
            "data_size": 460, "armed_data_size": 460, "data_size_floor": 385,
            "aqic": 700 * queues, "zapq": 800 * queues, **spans,
            "source_cpu": 4250 * queues, "target_cpu": 4400 * queues,
            "source_at_once_cpu": 4230 * queues, "target_at_once_cpu": 4300 * queues,
            "resuming_cpu": 4300 * queues, "pins": 4.0, "unmap": 5e6,
            "assign": 10, "save_memory": 1, "load_memory": 1}


WAITS: Waits = {1: [0.5, 0.4, 0.6]}


def test_goals_are_measured() -> None:
    """Each goal is missed by a figure of its own."""
    found = {queues: figures(queues) for queues in (16, bench.LARGE)}
    assert all(goal.met for goal in goals(found, WAITS)), goals(found, WAITS)
    for key, queues, name, factor in (
            ("size", bench.LARGE, "armed_size", 20), ("save_and_load", bench.LARGE, "save", 40),
            ("source", bench.LARGE, "source_cpu", 1.01), ("target", bench.LARGE, "target_cpu", 1.1),
            ("pins", 16, "pins", 2), ("data_size", bench.LARGE, "armed_data_size", 1.06)):
        worse = {number: dict(f) for number, f in found.items()}
        worse[queues][name] *= factor
        assert [goal.key for goal in goals(worse, WAITS) if not goal.met] == [key], key
    late = [goal.key for goal in goals(found, WAITS | {16: [0.1, 1.5, 1.2]}) if not goal.met]
    assert late == ["without_answer"], late


def test_median_and_maximum_are_named() -> None:
    """The least of some times is not printed as the longest one."""
    text = spread([0.5, 2.0, 0.9])
    assert "median 0.90 s" in text and "maximum 2.00 s" in text and "0.5" not in text, text
    found = {queues: figures(queues) for queues in (16, bench.LARGE)}
    assert text in markdown(found, {16: [0.5, 2.0, 0.9]}, (1, 2))


def test_pqap_is_subtracted() -> None:
    """From the instructions of a part of the migration, by number and kind of PQAP."""
    f = figures(16)
    assert bench.pqaps(f, "source") == 6
    assert (bench.own(f, "source"), bench.own(f, "target")) == (50, 200)
    f["source_aqic"] += 16
    f["source_cpu"] += 16 * 700
    assert bench.own(f, "source") == 50


def test_missed_goal_fails() -> None:
    """Unless it is listed, within its margin, and still missed."""
    goal = Goal("one", "a goal", "< 1", "2", 2.0, False)
    listed = {"one": Missed(1.9, 0.1, "a reason")}
    assert not check_goals([goal], {})[1], "a missed goal without a reason"
    lines, good = check_goals([goal], listed)
    assert good and any("a reason" in line for line in lines), lines
    worse = dataclasses.replace(goal, figure=2.1)
    assert not check_goals([worse], listed)[1], "worse than the margin"
    assert not check_goals([dataclasses.replace(goal, met=True)], listed)[1], "not missed any more"
    assert check_goals([dataclasses.replace(goal, met=True)], {})[1]
    assert not check_goals([], listed)[1], "no such goal"


def test_list_of_missed_goals() -> None:
    """The committed list is well-formed, and names goals."""
    listed = read_missed(bench.MISSED.read_text(encoding="utf-8"))
    found = {queues: figures(queues) for queues in (16, bench.LARGE)}
    assert listed.keys() <= {goal.key for goal in goals(found, WAITS)}
    for text in ("[a]\nfigure = 1\nmargin = 0\n", "[a]\nfigure = 1\nmargin = 0\nreason = ' '\n",
                 "[a]\nfigure = 1\nmargin = 0\nreason = 'x'\nother = 1\n", "a = 1\n"):
        try:
            read_missed(text)
        except LabError:
            continue
        raise AssertionError(f"{text!r} was taken")


def test_tables_have_every_figure() -> None:
    found = {queues: figures(queues) for queues in (16, bench.LARGE)}
    for text in (table(found), markdown(found, WAITS, (1, 2))):
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
    """Of a guest with everything, as the format has it: 128 bytes, and rows of 16 and 48."""
    plain, armed = streams_of_all()
    assert plain == 128 + 256 * 16
    assert armed == plain + 8 + 256 * 48


def test_shapes_have_the_wanted_numbers_of_queues() -> None:
    assert [adapters * domains for adapters, domains in bench.SHAPES] == [1, 16, 340, 1360, 5100]
    assert (config.REPO / "lab/programs/bench/measure.c").exists()
