# SPDX-License-Identifier: GPL-2.0
"""Evaluation of the record of `make demo`: clocks, arcs, figures, pictures."""

from __future__ import annotations

import json
import pathlib

from lab.commands.demo import arc_of_each_state
from lab.guest.tracing import Mark, TraceError, difference, parse
from lab.report import picture
from lab.report.timeline import Answers, Event, Record, arcs, blackout, drivers_share, states

TRACE = """# tracer: nop
#
 qemu-system-s39-271     [001] .....   103.250000: vfio_ap_arc: UUID: RUNNING -> PRE_COPY: 0
              sh-12      [000] ...1.   103.500000: tracing_mark_write: lab mark 0
"""


def arc(at: float, host: str, text: str) -> Event:
    """An arc of a device."""
    return Event(at, host, "kernel", "vfio_ap_arc", text)


def device_event(at: float, host: str, state: str) -> Event:
    """QEMU's event for a state of a device."""
    return Event(at, host, "qemu", "VFIO_MIGRATION", state)


def migrated() -> Record:
    """A guest that goes from a to b and is stopped from 2 to 3.5."""
    record = Record("Run 1: <equal> cards", "a", "b")
    record.events = [
        Event(0.5, "a", "qemu", "MIGRATION", "setup"), arc(1, "a", "RUNNING -> PRE_COPY: 0"),
        arc(1.1, "b", "RUNNING -> STOP: 0"), arc(1.2, "b", "STOP -> RESUMING: 0"),
        device_event(1.3, "b", "resuming"), device_event(1.4, "a", "pre-copy"),
        arc(2, "a", "PRE_COPY -> PRE_COPY_P2P: 0"), arc(2.5, "a", "PRE_COPY_P2P -> STOP_COPY: 0"),
        arc(3, "b", "RESUMING -> STOP: 0"), arc(3.5, "b", "STOP -> RUNNING: 0"),
        device_event(3.6, "b", "running"), arc(3.7, "a", "STOP_COPY -> STOP: 0"),
        Event(4, "a", "qemu", "MIGRATION", "completed")]
    record.answers = [Answers(1, "a", 10), Answers(4, "b", 20)]
    record.figures = {"bytes in all": 300783}
    return record


def test_trace_is_read() -> None:
    """Comments are skipped, and other lines that are not of a trace are reported."""
    found = parse(TRACE)
    assert [(e.time, e.name) for e in found] == [
        (103.25, "vfio_ap_arc"), (103.5, "tracing_mark_write")]
    assert found[1].text == "lab mark 0"
    try:
        parse("CPU:0 [LOST 7 EVENTS]")
    except TraceError as error:
        assert "LOST" in str(error)
    else:
        raise AssertionError("lost events were not noticed")


def test_clocks_are_compared() -> None:
    """Each mark narrows the bounds; marks that contradict each other are no clock."""
    found = difference([Mark(10.0, 10.4, 3.0), Mark(20.1, 20.5, 13.3)])
    assert abs(found.value - 7.1) < 1e-9 and abs(found.error - 0.1) < 1e-9, found
    wrong: list[list[Mark]] = [[], [Mark(10.0, 10.1, 3.0), Mark(20.0, 20.1, 12.0)]]
    for marks in wrong:
        try:
            difference(marks)
        except TraceError:
            continue
        raise AssertionError(f"{marks} give a difference")


def test_arcs_and_blackout() -> None:
    """Failed arcs are none; a guest that goes on at the source was stopped until then."""
    record = migrated()
    record.events.append(arc(2.2, "a", "PRE_COPY_P2P -> STOP_COPY: -12"))
    assert len(arcs(record.events, "a")) == 4
    assert states(record, "b", 9)[-1] == (3.5, 9, "RUNNING")
    assert blackout(record) == (2, 3.5)
    back = Record("", "a", "b", [arc(1, "a", "RUNNING -> STOP: 0"),
                                 arc(2, "a", "STOP -> RUNNING_P2P: 0"),
                                 arc(3, "a", "RUNNING_P2P -> RUNNING: 0")])
    assert blackout(back) == (1, 3)
    assert blackout(Record("", "a", "b", [arc(1, "a", "RUNNING -> PRE_COPY: 0"),
                                          arc(2, "a", "PRE_COPY -> RUNNING: 0")])) is None


def test_share_of_the_drivers() -> None:
    """The time of their arcs while the guest was stopped, on both sides, and nothing else."""
    record = migrated()
    assert drivers_share(record) == 0
    for event in record.events:
        if event.name == "vfio_ap_arc":
            event.text += " (1000000 ns)"
    # Two arcs at the source, two at the target; the others are before and after.
    assert abs(drivers_share(record) - 0.004) < 1e-9, drivers_share(record)
    assert blackout(record) == (2, 3.5)


def test_qemu_and_driver_are_compared() -> None:
    """Each state in QEMU's events needs its arc, in order; setting the same again needs none."""
    record = migrated()
    assert arc_of_each_state(record, "a") and arc_of_each_state(record, "b")
    record.events.append(device_event(5, "a", "running"))
    assert not arc_of_each_state(record, "a")
    assert arc_of_each_state(Record("", "a", "b", [device_event(1, "b", "running")]), "b")


def test_record_is_kept(tmp: pathlib.Path) -> None:
    """As JSON, to draw it again."""
    record = migrated()
    record.save(tmp / "run1.json")
    assert Record.load(tmp / "run1.json") == record
    assert json.loads((tmp / "run1.json").read_text())["events"][0]["text"] == "setup"


def test_page_needs_nothing_else() -> None:
    """The pictures stand in it, each with names of its own."""
    svg = '<?xml version="1.0"?>\n<svg><g id="x"/><use href="#x"/></svg>'
    text = picture.page([migrated(), migrated()], [svg, svg])
    assert text.count('id="r0-x"') == text.count('href="#r1-x"') == 1, text
    assert "Run 1: &lt;equal&gt; cards" in text and "300,783" in text
    assert "<?xml" not in text and "http" not in text
