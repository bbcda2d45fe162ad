# SPDX-License-Identifier: GPL-2.0
"""`make bench`: costs of migration, each figure beside its floor and a baseline of the same run.

One emulated host counts instructions: a nanosecond of its clock is one (QEMU's icount), so the
figures are the same on any machine, and nearly the same in each run. There
lab/programs/bench/measure.c makes QEMU's system calls, and the straightforward design
(lab/programs/bench/baseline) does the same work: 16 bytes and one PQAP(TAPQ) for each queue, built
anew at each read(). The instructions of the blackout are those of the driver: those of PQAP are
counted and subtracted, and the time in which the driver waits for the machine is not in them.
How long a guest is without an answer is measured between two hosts, in seconds of this machine.

Writes the table, the figures as JSON and pictures to out/bench. Fails if a goal is missed, unless
lab/commands/missed-goals.toml has the figure and the reason. Fails then if the figure is worse than
the recorded one by more than the margin there, and if the goal is met after all.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import shutil
import statistics
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.common import config, progress
from lab.common.errors import LabError
from lab.common.run import logged
from lab.faults import golden
from lab.guest.ap_control import simulate
from lab.guest.counters import GUEST
from lab.guest.gap import Watch
from lab.guest.mdev import GuestAp
from lab.guest.migration import EARLY, Migration
from lab.guest.vm import Guests
from lab.host.host import Host
from lab.host.lab import Lab
from lab.image import machine
from lab.report import picture

FLAVOUR = "fast"
MISSED = config.REPO / "lab/commands/missed-goals.toml"
# Adapters and domains of the guest.
SHAPES = ((1, 1), (4, 4), (4, 85), (16, 85), (60, 85))
# Where the goals are looked at.
LARGE = 5100
SIZE_GOAL = 6 * 1024
# Of the baseline's instructions.
SHARE_GOAL = 1 / 10
# Instructions of the driver per queue, with an interrupt of each, while the guest is stopped.
SOURCE_GOAL = 60
TARGET_GOAL = 250
# Seconds without an answer.
GAP_GOAL = 1.0
# From the smallest guest to the largest one, in instructions.
FLAT = 1.05
PROGRAM = "/lab/bin/vfio-ap-bench"
MODULE = "/lab/bin/baseline/vfio_ap_baseline.ko"
LIMIT = 900
# Guests whose answers are watched: adapters and domains. The guest program knows 16 queues.
WATCHED = ((("05",), ("04",)), (("05", "06", "0a", "0b"), ("04", "06", "47", "48")))
# Microseconds that a request of these takes; answers to wait for; MiB; migrations.
LATENCY = 20_000
ENOUGH = 10
MEMORY = 64
TRIES = 3

Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A row of the table: a figure, its floor and the baseline's, from the figures of a shape."""

    name: str
    value: Callable[[Figures], float]
    floor: Callable[[Figures], float] | None = None
    baseline: Callable[[Figures], float] | None = None


def baseline_cost(f: Figures, name: str, tapqs: int) -> float:
    """Instructions of the baseline without those of PQAP(TAPQ) itself."""
    return f[f"baseline_{name}"] - tapqs * f["tapq"]


def save_and_load_cost(f: Figures) -> float:
    """Instructions of a save and a load."""
    return f["save"] + f["load"]


def baseline_save_and_load_cost(f: Figures) -> float:
    """The same of the baseline, which is read twice: once for the bytes, once to find the end."""
    return baseline_cost(f, "save", 2) + baseline_cost(f, "load", 1)


# AP instructions of the driver, by the names of the machine's counters.
INSNS = ("tapq", "aqic", "zapq")


def pqaps(f: Figures, part: str) -> float:
    """AP instructions per queue in a part of the migration."""
    return sum(f[f"{part}_{insn}"] for insn in INSNS) / f["queues"]


def own(f: Figures, part: str) -> float:
    """Instructions per queue of the driver in a part of the migration, without those of PQAP. The
    figures of PQAP are those of one for each queue."""
    simulated = sum(f[f"{part}_{insn}"] * f[insn] for insn in INSNS) / f["queues"]
    return (f[f"{part}_cpu"] - simulated) / f["queues"]


# Bytes of the three masks, the least that a stream with the configuration has.
MASKS = 96
ADAPTER = 8
# For each adapter with interrupts: adapter, subclass, byte, domains.
REGISTRATION = 2 + 1 + 8 + 32

ROWS = (
    Row("stream, bytes", lambda f: f["size"], lambda f: MASKS + ADAPTER * f["adapters"],
        lambda f: f["baseline_size"]),
    Row("stream with interrupts, bytes", lambda f: f["armed_size"],
        lambda f: MASKS + (ADAPTER + REGISTRATION) * f["adapters"]),
    Row("save, instructions", lambda f: f["save"], lambda f: f["save_floor"],
        lambda f: baseline_cost(f, "save", 2)),
    Row("load, instructions", lambda f: f["load"], lambda f: f["load_floor"],
        lambda f: baseline_cost(f, "load", 1)),
    Row("save + load, instructions", save_and_load_cost,
        lambda f: f["save_floor"] + f["load_floor"],
        baseline_save_and_load_cost),
    Row("MIG_DATA_SIZE, instructions", lambda f: f["armed_data_size"],
        lambda f: f["data_size_floor"]),
    Row("blackout at the source, instructions per queue", lambda f: own(f, "source")),
    Row("  PQAP per queue", lambda f: pqaps(f, "source")),
    Row("  on a machine that disables at once", lambda f: own(f, "source_at_once")),
    Row("blackout at the target, instructions per queue", lambda f: own(f, "target")),
    Row("  PQAP per queue", lambda f: pqaps(f, "target")),
    Row("  on a machine that enables at once", lambda f: own(f, "target_at_once")),
    Row("to RESUMING, with the resets, instructions per queue", lambda f: own(f, "resuming")),
    Row("  PQAP per queue", lambda f: pqaps(f, "resuming")),
    Row("pages pinned at the target", lambda f: f["pins"], lambda f: f["adapters"]),
    Row("unmapping the guest's memory, milliseconds", lambda f: f["unmap"] / 1e6),
    Row("assigning it all, instructions", lambda f: f["assign"]),
    Row("memory of a session, saving, bytes", lambda f: f["save_memory"], None,
        lambda f: f["baseline_size"]),
    Row("memory of a session, resuming, bytes", lambda f: f["load_memory"], None,
        lambda f: f["baseline_size"]),
)


@dataclass(frozen=True)
class Goal:
    """A goal, and the figure that was measured: the less, the better."""

    key: str
    name: str
    wanted: str
    measured: str
    figure: float
    met: bool


@dataclass(frozen=True)
class Missed:
    """A goal that is known to be missed: the recorded figure, how much worse a run may be, why."""

    figure: float
    margin: float
    reason: str


def read_missed(text: str) -> dict[str, Missed]:
    """Read lab/commands/missed-goals.toml; LabError if an entry is malformed."""
    found = {}
    for key, entry in tomllib.loads(text).items():
        try:
            found[key] = Missed(float(entry.pop("figure")), float(entry.pop("margin")),
                                str(entry.pop("reason")))
        except (AttributeError, KeyError, ValueError) as error:
            raise LabError(f"{MISSED}: {key}: {error!r}") from None
        if entry or not found[key].reason.strip():
            raise LabError(f"{MISSED}: {key}: wanted figure, margin and reason")
    return found


def check_goals(checked: Sequence[Goal], missed: dict[str, Missed]) -> tuple[list[str], bool]:
    """A line for each goal, with the reason if it is missed; and whether all is as recorded."""
    lines, good = [], True
    for goal in checked:
        known = missed.get(goal.key)
        if goal.met:
            word, fine = ("MET, BUT LISTED", False) if known else ("met", True)
        elif not known:
            word, fine = "MISSED", False
        elif goal.figure > known.figure * (1 + known.margin):
            word, fine = "WORSE", False
        else:
            word, fine = "missed", True
        good &= fine
        lines.append(f"{word:<16} {goal.name}: {goal.measured} (wanted {goal.wanted})")
        if known:
            lines.append(f"{'':<16} recorded {known.figure:g}, {100 * known.margin:.0f} % margin: "
                         f"{' '.join(known.reason.split())}")
        elif not fine:
            lines.append(f"{'':<16} no entry {goal.key} in {MISSED.relative_to(config.REPO)}")
    unknown = sorted(missed.keys() - {goal.key for goal in checked})
    lines += [f"{'NO SUCH GOAL':<16} {key}" for key in unknown]
    return lines, good and not unknown


def install() -> None:
    """The program and the baseline, for the hosts."""
    share_folder = config.share(FLAVOUR)
    logged("lab/programs/bench", [
        "make", "-C", "lab/programs/bench", "install", f"DESTDIR={share_folder}/bin",
        f"LINUX={config.LINUX}", f"HEADERS={config.objects(FLAVOUR)}/usr/include",
        f"KDIR={config.objects(FLAVOUR)}"], config.LOGS / "lab-bench.log", cwd=config.REPO)


def numbers(count: int) -> str:
    """The ids 0 to count, as profiles have them."""
    return ",".join(f"{number:02x}" for number in range(count))


def boot(lab: Lab, adapters: int, domains: int) -> Host:
    """A host whose clock counts instructions, with that many queues for vfio_ap."""
    cards = ",".join(f"{number:02x}:14c" for number in range(adapters))
    host = lab.boot("a", cards=cards, domains=numbers(domains), cdomains=numbers(domains),
                    vfio_adapters=numbers(adapters), cpus=1, icount=True)
    simulate(host, "reset_polls 1")
    # Its clock is slow while it works, and with it the sign of life that it gives.
    host.silence_limit = LIMIT
    # The AP bus finds thousands of queues one by one. The clock jumps while the host is idle, so
    # this sleep takes no time.
    host.run("until grep -q complete /sys/bus/ap/bindings; do sleep 1; done\n"
             f"insmod {MODULE}", LIMIT)
    return host


def parse(text: str) -> Figures:
    """The lines "NAME VALUE" that the program prints."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if not value.isdecimal():
            raise LabError(f"{PROGRAM}: {line}")
        found[name] = float(value)
    return found


def costs(lab: Lab) -> dict[int, Figures]:
    """The figures of each shape, by number of queues."""
    found = {}
    host = boot(lab, *SHAPES[-1])
    for adapters, domains in SHAPES:
        started = time.monotonic()
        text = host.run(f"{PROGRAM} {adapters} {domains}", LIMIT).out
        found[adapters * domains] = {"adapters": float(adapters),
                                     "queues": float(adapters * domains), **parse(text)}
        progress.say(f"{adapters * domains} queues: {time.monotonic() - started:.0f} s")
    return found


def gap(hosts: Sequence[Host], adapters: Sequence[str], domains: Sequence[str]) -> float:
    """The longest time without an answer, in seconds, of a guest that migrates."""
    ap = GuestAp(",".join(adapters), ",".join(domains))
    queues = len(adapters) * len(domains)
    with Guests() as guests:
        mdevs = [guests.mdev(host, ap) for host in hosts]
        source = guests.vm(mdevs[0], memory=MEMORY, kernel=GUEST)
        source.wait_answered(ENOUGH)
        target = guests.vm(mdevs[1], incoming=True, memory=MEMORY, kernel=GUEST)
        with Watch(source, target, lambda vm: vm.all_answered(queues)) as watch:
            outcome = Migration(source, target, *EARLY).outcome()
            if not outcome.completed:
                raise LabError(f"the guest with {queues} queues did not arrive: {outcome}")
            watch.wait_answers(ENOUGH * queues)
        return watch.gap


Waits = dict[int, list[float]]


def gaps(lab: Lab) -> Waits:
    """The longest time without an answer in each of a few migrations, by number of queues."""
    adapters, domains = WATCHED[-1]
    found = {}
    cards = ",".join(f"{number}:14c" for number in adapters)
    hosts = [lab.boot(name, cards=cards, domains=",".join(domains), cdomains=",".join(domains),
                      vfio_adapters=",".join(adapters)) for name in ("a", "b")]
    for host in hosts:
        simulate(host, f"latency * {LATENCY}")
    for shape in WATCHED:
        queues = len(shape[0]) * len(shape[1])
        found[queues] = [gap(hosts, *shape) for _ in range(TRIES)]
        progress.say(f"{queues} queues: without an answer for {spread(found[queues])}")
    return found


def spread(times: Sequence[float]) -> str:
    """Median and maximum of a few times."""
    return (f"median {statistics.median(times):.2f} s, maximum {max(times):.2f} s of "
            f"{len(times)} migrations")


def streams_of_all() -> tuple[int, int]:
    """Bytes of the stream of a guest with all queues that there can be, and with an interrupt of
    each; by the encoder that the driver's is tested against."""
    everything = range(256)
    plain = golden.pair({apid: golden.CCA for apid in everything}, everything, everything)
    rows = golden.irqs(*((apid, 3, 0x1000, everything) for apid in everything))
    return (len(golden.stream(golden.header(), *plain)),
            len(golden.stream(golden.header(), *plain, rows)))


def goals(found: dict[int, Figures], waits: Waits) -> list[Goal]:
    """Each goal and the figure that was measured."""
    large = found[LARGE]
    part = save_and_load_cost(large) / baseline_save_and_load_cost(large)
    sizes = [f["armed_data_size"] for f in found.values()]
    flat = max(sizes) / min(sizes)
    medians = {queues: statistics.median(seconds) for queues, seconds in waits.items()}
    longest = max(medians.values())

    def blackout(part: str, wanted: float) -> Goal:
        worst = own(large, part)
        return Goal(part, f"blackout at the {part}, the driver's instructions per queue of {LARGE}",
                    f"<= {wanted:g}", f"{worst:.0f}", worst, worst <= wanted)

    pins = max(f["pins"] / f["adapters"] for f in found.values())
    return [
        Goal("size", f"stream of {LARGE} queues, all with an interrupt", f"< {SIZE_GOAL:,} bytes",
             f"{large['armed_size']:,.0f}", large["armed_size"], large["armed_size"] < SIZE_GOAL),
        Goal("save_and_load", f"save + load of {LARGE} queues",
             f"<= {SHARE_GOAL:.3f} of the baseline", f"{part:.3f}", part, part <= SHARE_GOAL),
        blackout("source", SOURCE_GOAL),
        blackout("target", TARGET_GOAL),
        Goal("pins", "pages pinned at the target, per row of the stream", "1", f"{pins:g}", pins,
             pins <= 1),
        Goal("data_size", "MIG_DATA_SIZE, largest to smallest guest", f"<= {FLAT}", f"{flat:.2f}",
             flat, flat <= FLAT),
        Goal("without_answer", "median of the longest time without an answer",
             f"< {GAP_GOAL:.0f} s", ", ".join(f"{seconds:.2f} s ({queues} queues)"
                                              for queues, seconds in medians.items()),
             longest, longest < GAP_GOAL),
    ]


def figure(value: float | None) -> str:
    """A figure of the table."""
    return "" if value is None else f"{value:,.0f}"


def table(found: dict[int, Figures]) -> str:
    """All rows, for each number of queues with floor and baseline below the figure."""
    width = max(len(row.name) for row in ROWS) + 2
    lines = [" " * width + "".join(f"{f'{queues:,}':>14}" for queues in found)]
    for row in ROWS:
        for name, part in ((row.name, row.value), ("  floor", row.floor),
                           ("  baseline", row.baseline)):
            if part:
                lines.append(f"{name:<{width}}" + "".join(
                    f"{figure(part(f)):>14}" for f in found.values()))
    return "\n".join(lines)


def markdown(found: dict[int, Figures], waits: Waits,
             everything: tuple[int, int]) -> str:
    """The table as docs/benchmark.md has it."""
    lines = ["| queues | " + " | ".join(f"{queues:,}" for queues in found) + " |",
             "|---|" + "---:|" * len(found)]
    for row in ROWS:
        cells = []
        for f in found.values():
            parts = [figure(part(f)) if part else "-" for part in (row.value, row.floor,
                                                                   row.baseline)]
            cells.append(" / ".join(parts))
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    watched = "; ".join(f"{queues} queue{'s' if queues > 1 else ''} {spread(times)}"
                        for queues, times in waits.items())
    lines += ["", f"Stream of 65,536 queues: {everything[0]:,} bytes, with an interrupt of each "
              f"{everything[1]:,}. Longest time without an answer: {watched}."]
    return "\n".join(lines) + "\n"


def plot(folder: pathlib.Path, found: dict[int, Figures]) -> None:
    """A picture for each group of rows, by number of queues."""
    library = picture.pyplot()
    queues = list(found)
    pictures = {
        "size": ("bytes of the stream", [ROWS[0], ROWS[1]]),
        "work": ("instructions of save + load, without AP instructions", [ROWS[4]]),
        "blackout": ("instructions of the driver per queue while the guest is stopped",
                     [ROWS[6], ROWS[9]]),
    }
    for name, (title, rows) in pictures.items():
        canvas, axes = library.subplots(figsize=(7.0, 4.2))
        for row, colour in zip(rows, ("#3d7ea6", "#d98032"), strict=False):
            label = row.name.partition(",")[0]
            for part, style, what in ((row.value, "o-", ""), (row.floor, "o:", ", floor"),
                                      (row.baseline, "s--", ", baseline")):
                if part:
                    axes.plot(queues, [part(f) for f in found.values()], style, label=label + what,
                              color="#888888" if part is row.baseline else colour, markersize=4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(queues, [f"{number:,}" for number in queues])
        axes.minorticks_off()
        axes.set_xlabel("queues of the guest")
        axes.set_title(title, fontsize=10)
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.legend(fontsize=8, frameon=False)
        canvas.tight_layout()
        canvas.savefig(folder / f"{name}.svg", metadata={"Date": None})
        library.close(canvas)


def machine_line() -> str:
    """The machine of the measurement; seconds depend on it, instructions do not."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, QEMU TCG"


def report(folder: pathlib.Path, found: dict[int, Figures], waits: Waits,
           everything: tuple[int, int]) -> int:
    """Write and print all of it; 1 if a goal is not as recorded."""
    lines, good = check_goals(goals(found, waits), read_missed(MISSED.read_text(encoding="utf-8")))
    text = [time.strftime("%Y-%m-%d, ") + machine_line(), "", table(found), "",
            f"stream of 65,536 queues, bytes: {everything[0]:,}, with interrupts "
            f"{everything[1]:,}",
            *(f"longest time without an answer, {queues} queues: {spread(times)}"
              for queues, times in waits.items()), "", *lines]
    print("\n".join(text), flush=True)
    (folder / "bench.txt").write_text("\n".join(text) + "\n")
    (folder / "bench.md").write_text(markdown(found, waits, everything))
    (folder / "bench.json").write_text(json.dumps(
        {"machine": machine_line(), "date": time.strftime("%Y-%m-%d"), "figures": found,
         "gaps": waits, "stream of 65536 queues": everything}, indent=1) + "\n")
    try:
        machine.install_packages([picture.PACKAGE])
        plot(folder, found)
    except (machine.EnvError, ImportError) as error:
        print(f"No pictures: {error}")
    print(f"\nFigures and pictures: {folder}")
    return int(not good)


def main() -> int:
    """Measure and report; 0 if each goal is met or missed as recorded."""
    folder = config.OUT / "bench"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    with Lab(FLAVOUR, "bench") as lab:
        found = costs(lab)
    with Lab(FLAVOUR, "bench-gap") as lab:
        waits = gaps(lab)
    return report(folder, found, waits, streams_of_all())
