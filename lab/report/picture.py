# SPDX-License-Identifier: GPL-2.0
"""Draw the record of `make demo`: a picture of each migration, and a page with all of them.

    python3 -m lab.report.picture out/demo         draws the recorded runs again
"""

from __future__ import annotations

import html
import importlib
import io
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from lab.report.timeline import Event, Record, blackout, states

PACKAGE = "python3-matplotlib"
COLOURS = {
    "RUNNING": "#4c9f70", "RUNNING_P2P": "#9bcfb0", "PRE_COPY": "#3d7ea6",
    "PRE_COPY_P2P": "#94bcd6", "STOP": "#b9b9b9", "STOP_COPY": "#d98032",
    "RESUMING": "#8e6bb0",
}
# QEMU's states that are over in an instant have no room for a name.
NARROW = 0.06
# The width of a letter of a label, as a part of the axis of time; and how low labels may stand.
LETTER = 0.0062
LEVELS = 5
SIZE = (11.0, 5.6)
# Seconds that are shown before the first event and after the last.
BEFORE = 0.5
AFTER = 2.0
# One sentence for each chart.
CAPTION = ("The upper chart shows, for each host, the states of QEMU's migration (grey), those of "
           "the vfio-ap device (coloured) and events of the driver and the administrator; the "
           "orange field is the time in which the guest could use no queue. The lower chart shows "
           "the number of replies that the guest has counted, in all its queues.")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vfio-ap: guests that migrate</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }}
figure {{ margin: 0 0 1rem }} svg {{ max-width: 100%; height: auto }}
td {{ padding: 0 1.5rem 0 0 }} td + td {{ text-align: right; font-variant-numeric: tabular-nums }}
</style>
<h1>Guests with AP queues migrate</h1>
{body}
</html>
"""


def pyplot() -> Any:
    """matplotlib, without a display; ImportError if it is not there."""
    library = importlib.import_module("matplotlib")
    library.use("svg")
    # Text as text, and the same names in each run.
    library.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "vfio-ap"})
    return importlib.import_module("matplotlib.pyplot")


# Arcs in which the driver disables the interrupts of all queues, or enables them.
SWITCHES = {"RUNNING_P2P -> STOP: 0": "interrupts off", "PRE_COPY_P2P -> STOP_COPY: 0":
            "interrupts off", "STOP -> RUNNING_P2P: 0": "interrupts on"}


def _migration(record: Record, host: str, until: float) -> list[tuple[float, float, str]]:
    """(from, to, state) of QEMU's migration on a host."""
    steps = [event for event in record.events
             if (event.host, event.source, event.name) == (host, "qemu", "MIGRATION")]
    return [(step.time, after.time if after else until, step.text.partition(":")[0])
            for step, after in zip(steps, [*steps[1:], None], strict=True)]


def _bar(axes: Any, row: float, parts: list[tuple[float, float, str]], width: float,
         colour: str = "") -> None:
    """A line of coloured states, with their names where there is room."""
    for begin, end, name in parts:
        axes.barh(row, end - begin, left=begin, height=0.7, edgecolor="white", linewidth=0.6,
                  color=colour or COLOURS.get(name, "#dddddd"))
        if (end - begin) / width > max(NARROW, 0.009 * len(name)):
            axes.text((begin + end) / 2, row, name, ha="center", va="center", fontsize=7,
                      color="#222222" if colour else "white")


def _labels(axes: Any, row: float, events: Sequence[Event], width: float) -> None:
    """Names of events below a bar; each as high as there is room beside those before it."""
    ends = [float("-inf")] * LEVELS
    for event in events:
        level = next((n for n, end in enumerate(ends) if end < event.time), LEVELS - 1)
        ends[level] = event.time + width * LETTER * (len(event.text) + 2)
        bottom = row - 0.52 - 0.24 * level
        axes.plot([event.time, event.time], [row - 0.36, bottom - 0.08], color="#777777",
                  linewidth=0.6)
        axes.text(event.time + 0.003 * width, bottom, event.text, ha="left", va="center",
                  fontsize=7, color="#333333")


def _labelled(record: Record, host: str) -> list[Event]:
    """The events of a host that have a label; equal labels in a row are one."""
    found: list[Event] = []
    for event in record.events:
        if event.host != host or event.source == "qemu":
            continue
        text = event.text
        if event.name == "vfio_ap_arc":
            text = next((text for arc, text in SWITCHES.items() if event.text.startswith(arc)), "")
        elif event.name == "vfio_ap_difference":
            text = f"differs: {event.text}"
        if not text:
            continue
        if not found or found[-1].text != text:
            found.append(Event(event.time, host, event.source, event.name, text))
    return found


def _answers(axes: Any, record: Record, until: float) -> None:
    for host, marker in ((record.source, "o"), (record.target, "s")):
        seen = [answers for answers in record.answers
                if answers.host == host and answers.time <= until]
        axes.plot([answers.time for answers in seen], [answers.number for answers in seen],
                  marker, markersize=3, label=f"read on {host}",
                  color="#4c9f70" if host == record.source else "#8e6bb0")
    axes.set_ylabel("replies", fontsize=8)
    axes.legend(fontsize=7, loc="upper left", frameon=False)
    axes.tick_params(labelsize=7)


def _shown(record: Record) -> tuple[float, float]:
    """The part of time that something happens in."""
    times = [event.time for event in record.events]
    return min(times) - BEFORE, max(times) + AFTER


def _clipped(parts: list[tuple[float, float, str]],
             began: float) -> list[tuple[float, float, str]]:
    """The parts that have not ended by then."""
    return [(max(begin, began), end, name) for begin, end, name in parts if end > began]


def _legend(plot: Any, axes: Any, record: Record, until: float) -> None:
    """The colours of the states that the devices had."""
    had = {part[2] for host in (record.source, record.target)
           for part in states(record, host, until)}
    axes.legend([plot.Rectangle((0, 0), 1, 1, color=colour)
                 for name, colour in COLOURS.items() if name in had],
                [name for name in COLOURS if name in had], fontsize=7, frameon=False,
                ncol=len(COLOURS), loc="lower left", bbox_to_anchor=(0, -0.02))
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def draw(record: Record) -> str:
    """The picture as SVG, to stand in a page or in a file of its own."""
    plot = pyplot()
    began, ended = _shown(record)
    until, width = ended, ended - began
    figure, (lanes, graph) = plot.subplots(
        2, 1, figsize=SIZE, sharex=True, gridspec_kw={"height_ratios": [3.4, 1]})
    rows = {record.source: 4.0, record.target: 1.4}
    for host, row in rows.items():
        _bar(lanes, row + 0.8, _migration(record, host, until), width, "#e6e6e6")
        _bar(lanes, row, _clipped(states(record, host, until), began), width)
        _labels(lanes, row, _labelled(record, host), width)
    lanes.set_yticks([row + up for row in rows.values() for up in (0.8, 0)],
                     [f"{host}: {what}" for host in rows for what in ("QEMU", "vfio-ap")],
                     fontsize=8)
    lanes.set_ylim(-0.7, 5.4)
    lanes.set_title(record.title, fontsize=10, loc="left")
    gap = blackout(record)
    for axes in (lanes, graph):
        axes.spines[["top", "right"]].set_visible(False)
        if gap:
            axes.axvspan(*gap, color="#d9803222", linewidth=0)
    if gap:
        lanes.text(sum(gap) / 2, 5.3, f"stopped for {gap[1] - gap[0]:.2f} s", ha="center",
                   va="top", fontsize=8, color="#a85a16")
    _legend(plot, lanes, record, until)
    _answers(graph, record, until)
    graph.set_xlim(began, until)
    graph.set_xlabel("seconds", fontsize=8)
    figure.tight_layout()
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plot.close(figure)
    return out.getvalue()


def page(records: Sequence[Record], pictures: Sequence[str]) -> str:
    """All pictures with their figures in one HTML page that needs nothing else."""
    body = []
    for number, (record, picture) in enumerate(zip(records, pictures, strict=True)):
        inline = picture[picture.index("<svg"):]
        # Names within a picture must differ from those of the next.
        inline = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>r{number}-", inline)
        rows = "".join(f"<tr><td>{html.escape(name)}<td>{value:,.0f}"
                       for name, value in record.figures.items())
        body.append(f"<h2>{html.escape(record.title)}</h2>\n<figure>{inline}"
                    f"<figcaption>{CAPTION}</figcaption></figure>\n"
                    f"<table>{rows}</table>")
    return PAGE.format(body="\n".join(body))


def write(folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw each run*.json of a folder; the files that were written."""
    sources = sorted(folder.glob("run*.json"))
    records = [Record.load(path) for path in sources]
    pictures = [draw(record) for record in records]
    written = []
    for path, picture in zip(sources, pictures, strict=True):
        path.with_suffix(".svg").write_text(picture, encoding="utf-8")
        written.append(path.with_suffix(".svg"))
    (folder / "index.html").write_text(page(records, pictures), encoding="utf-8")
    return [*written, folder / "index.html"]


if __name__ == "__main__":
    print("\n".join(str(path) for path in write(pathlib.Path(sys.argv[1]))))
