# SPDX-License-Identifier: GPL-2.0
"""`make bench`: what migration costs, each figure beside its floor and a baseline of the same run.

One emulated host counts instructions: a nanosecond of its clock is one (QEMU's icount), so the
figures are the same on any machine, and nearly the same in each run. There
lab/programs/bench/measure.c does what QEMU does, and the straightforward design
(lab/programs/bench/baseline) does the same work: 16 bytes and one PQAP(TAPQ) for each queue, built
anew at each read(). How long a guest is without an answer is measured between two hosts, in seconds
of this machine.

Writes the table, the figures as JSON and pictures to out/bench. Fails if a figure is beyond its
floor; says which is short of its goal.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import shutil
import time
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
# Adapters and domains of the guest.
SHAPES = ((1, 1), (4, 4), (4, 85), (16, 85), (60, 85))
# Where the goals are looked at.
LARGE = 5100
SIZE_GOAL = 6 * 1024
# Of the baseline's instructions: goal and floor.
SHARE_GOAL = 1 / 10
SHARE_FLOOR = 1 / 5
# The device's share of the blackout, in floors.
BLACKOUT_GOAL = 2.0
# Seconds without an answer.
GAP_GOAL = 1.0
# From the smallest guest to the largest one, in instructions.
FLAT = 1.1
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


def both(f: Figures) -> float:
    """Instructions of a save and a load."""
    return f["save"] + f["load"]


def both_baseline(f: Figures) -> float:
    """The same of the baseline, which is read twice: once for the bytes, once to find the end."""
    return baseline_cost(f, "save", 2) + baseline_cost(f, "load", 1)


def share(f: Figures) -> float:
    """What the device does while the guest is stopped, on both sides."""
    return f["source"] + f["target"]


def share_floor(f: Figures) -> float:
    """The system calls, and the instructions that tell the machine of each queue."""
    return sum(f[name] for name in ("source_syscalls", "source_insns", "target_syscalls",
                                    "target_insns"))


# The masks, and for each adapter what it is: no stream that tells the configuration has less.
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
    Row("save + load, instructions", both, lambda f: f["save_floor"] + f["load_floor"],
        both_baseline),
    Row("MIG_DATA_SIZE, instructions", lambda f: f["armed_data_size"],
        lambda f: f["data_size_floor"]),
    Row("blackout at the source, instructions", lambda f: f["source"],
        lambda f: f["source_syscalls"] + f["source_insns"]),
    Row("blackout at the target, instructions", lambda f: f["target"],
        lambda f: f["target_syscalls"] + f["target_insns"]),
    Row("blackout, instructions", share, share_floor),
    Row("assigning it all, instructions", lambda f: f["assign"]),
    Row("memory of a session, saving, bytes", lambda f: f["save_memory"], None,
        lambda f: f["baseline_size"]),
    Row("memory of a session, resuming, bytes", lambda f: f["load_memory"], None,
        lambda f: f["baseline_size"]),
)


@dataclass(frozen=True)
class Goal:
    """What was wanted, what was measured, and whether that is enough or at least no failure."""

    name: str
    wanted: str
    measured: str
    met: bool
    allowed: bool


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
                    vfio_adapters=numbers(adapters), reset_polls=1, cpus=1, icount=True)
    # Its clock is slow while it works, and with it the sign of life that it gives.
    host.silence_limit = LIMIT
    # The AP bus finds thousands of queues one by one, and tells nobody but who asks.
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
        found[adapters * domains] = {"adapters": float(adapters), **parse(text)}
        progress.say(f"{adapters * domains} queues: {time.monotonic() - started:.0f} s")
    return found


def gap(hosts: Sequence[Host], adapters: Sequence[str], domains: Sequence[str]) -> float:
    """Seconds without an answer, at most, of a guest that migrates between two hosts."""
    ap = GuestAp(",".join(adapters), ",".join(domains))
    queues = len(adapters) * len(domains)
    with Guests() as guests:
        mdevs = [guests.mdev(host, ap) for host in hosts]
        source = guests.vm(mdevs[0], memory=MEMORY, kernel=GUEST)
        source.wait_answered(ENOUGH)
        target = guests.vm(mdevs[1], incoming=True, memory=MEMORY, kernel=GUEST)
        with Watch(source, target, queues) as watch:
            outcome = Migration(source, target, *EARLY).outcome()
            if not outcome.completed:
                raise LabError(f"the guest with {queues} queues did not arrive: {outcome}")
            watch.wait_answers(ENOUGH * queues)
        return watch.gap


def gaps(lab: Lab) -> dict[int, float]:
    """The least gap of a few migrations, by number of queues: machines are noisy."""
    adapters, domains = WATCHED[-1]
    found = {}
    cards = ",".join(f"{number}:14c" for number in adapters)
    hosts = [lab.boot(name, cards=cards, domains=",".join(domains), cdomains=",".join(domains),
                      vfio_adapters=",".join(adapters)) for name in ("a", "b")]
    for host in hosts:
        simulate(host, f"latency * {LATENCY}")
    for shape in WATCHED:
        queues = len(shape[0]) * len(shape[1])
        found[queues] = min(gap(hosts, *shape) for _ in range(TRIES))
        progress.say(f"{queues} queues: without an answer for {found[queues]:.2f} s")
    return found


def streams_of_all() -> tuple[int, int]:
    """Bytes of the stream of a guest with all queues that there can be, and with an interrupt of
    each; by the encoder that the driver's is tested against."""
    everything = range(256)
    plain = golden.pair({apid: golden.CCA for apid in everything}, everything, everything)
    rows = golden.irqs(*((apid, 3, 0x1000, everything) for apid in everything))
    return (len(golden.stream(golden.header(), *plain)),
            len(golden.stream(golden.header(), *plain, rows)))


def goals(found: dict[int, Figures], waits: dict[int, float]) -> list[Goal]:
    """Each goal against what was measured."""
    large = found[LARGE]
    part = both(large) / both_baseline(large)
    times = {queues: share(f) / share_floor(f) for queues, f in found.items()}
    worst = max(times.values())
    sizes = [f["armed_data_size"] for f in found.values()]
    longest = max(waits.values())
    return [
        Goal(f"stream of {LARGE} queues, all with an interrupt", f"< {SIZE_GOAL:,} bytes",
             f"{large['armed_size']:,.0f}", large["armed_size"] < SIZE_GOAL,
             large["armed_size"] < SIZE_GOAL),
        Goal(f"save + load of {LARGE} queues, of the baseline",
             f"<= 1/{1 / SHARE_GOAL:.0f} (floor 1/{1 / SHARE_FLOOR:.0f})", f"1/{1 / part:.1f}",
             part <= SHARE_GOAL, part <= SHARE_FLOOR),
        Goal("device's share of the blackout, of its floor", f"<= {BLACKOUT_GOAL:.0f}",
             ", ".join(f"{value:.1f}" for value in times.values()), worst <= BLACKOUT_GOAL,
             times[LARGE] <= BLACKOUT_GOAL),
        Goal("MIG_DATA_SIZE, largest to smallest guest", f"<= {FLAT}",
             f"{max(sizes) / min(sizes):.2f}", max(sizes) / min(sizes) <= FLAT,
             max(sizes) / min(sizes) <= FLAT),
        Goal("longest time without an answer", f"< {GAP_GOAL:.0f} s", f"{longest:.2f} s",
             longest < GAP_GOAL, True),
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


def markdown(found: dict[int, Figures], waits: dict[int, float],
             everything: tuple[int, int]) -> str:
    """The table as the README has it."""
    lines = ["| queues | " + " | ".join(f"{queues:,}" for queues in found) + " |",
             "|---|" + "---:|" * len(found)]
    for row in ROWS:
        cells = []
        for f in found.values():
            parts = [figure(part(f)) if part else "-" for part in (row.value, row.floor,
                                                                   row.baseline)]
            cells.append(" / ".join(parts))
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    watched = ", ".join(f"{queues} queue{'s' if queues > 1 else ''} {value:.2f} s"
                        for queues, value in waits.items())
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
        "blackout": ("instructions of the device while the guest is stopped", [ROWS[8]]),
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
    """What the seconds were measured on; the instructions depend on the emulator alone."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, QEMU TCG"


def report(folder: pathlib.Path, found: dict[int, Figures], waits: dict[int, float],
           everything: tuple[int, int]) -> int:
    """Write and print all of it; 1 if a figure is beyond its floor."""
    judged = goals(found, waits)
    text = [time.strftime("%Y-%m-%d, ") + machine_line(), "", table(found), "",
            f"stream of 65,536 queues, bytes: {everything[0]:,}, with interrupts "
            f"{everything[1]:,}",
            "longest time without an answer, seconds: " + ", ".join(
                f"{value:.2f} ({queues} queues)" for queues, value in waits.items()), ""]
    for goal in judged:
        word = "met" if goal.met else "SHORT OF THE GOAL" if goal.allowed else "BEYOND THE FLOOR"
        text.append(f"{word:<18} {goal.name}: {goal.measured} (wanted {goal.wanted})")
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
    return int(not all(goal.allowed for goal in judged))


def main() -> int:
    """Measure, and tell; 0 if no figure is beyond its floor."""
    folder = config.OUT / "bench"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    with Lab(FLAVOUR, "bench") as lab:
        found = costs(lab)
    with Lab(FLAVOUR, "bench-gap") as lab:
        waits = gaps(lab)
    return report(folder, found, waits, streams_of_all())
