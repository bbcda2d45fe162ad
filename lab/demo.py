# SPDX-License-Identifier: GPL-2.0
"""`make demo`: stock QEMU migrates a guest with AP queues between two emulated hosts.

Three migrations from host a to host b, over the network between them:
  1. the hosts have equal cards: the guest arrives;
  2. one card of b is of another type: b refuses, the guest goes on at a;
  3. that card is replaced by an equal one: the same guest arrives after all.
"""

from __future__ import annotations

import argparse
import errno
import os
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab import cards, config
from lab.hosts import Host, Lab, LabError
from lab.qemu_client import (GuestAp, Guests, KernelLog, Outcome, Timeline, Vm, migrate,
                             names_errno)

GUEST = GuestAp(adapters="05,06", domains="04,06")
# The card that differs in the second run, and what it is then.
APID = "05"
PLANTED_TYPE = 13
# Of the guests, in MiB.
MEMORY = 64


class Demo:
    """The hosts, what has been checked so far, and the folder for logs."""

    def __init__(self, a: Host, b: Host, guests: Guests, folder: pathlib.Path) -> None:
        self.a = a
        self.b = b
        self.folder = folder
        self.failures: list[str] = []
        self.guests = guests
        self.mdevs = (guests.mdev(a, GUEST), guests.mdev(b, GUEST))

    def expect(self, what: str, holds: bool, seen: object) -> None:
        """One line on something that must hold."""
        print(f"  {'ok' if holds else 'NOT OK':<7} {what}"
              + ("" if holds else f"; seen: {seen}"), flush=True)
        if not holds:
            self.failures.append(what)

    def expect_difference(self, log: KernelLog, outcome: Outcome, card: str) -> None:
        """errno and message must name the planted card and field, and nothing else."""
        source_type = int(re.findall(r":(\d+)", card)[0])
        line = f"adapter {APID} at: source {source_type} here {PLANTED_TYPE}"
        said = log.differences()
        self.expect(f"b's kernel: \"{line}\"", said == [line], said)
        text = f"{outcome.target_error} {outcome.source_error}"
        self.expect(f"QEMU: EXDEV ({os.strerror(errno.EXDEV)})",
                    names_errno(text, errno.EXDEV), text)

    def run(self, title: str, source: Vm, kept: bool = False) -> tuple[Vm, Outcome, KernelLog]:
        """One migration with its timeline; kept: the source must keep the guest."""
        print(f"\n{title}", flush=True)
        log = KernelLog(self.b)
        target = self.guests.vm(self.mdevs[1], incoming=True, memory=MEMORY)
        timeline = Timeline()
        first = len(source.events())
        outcome = migrate(source, target, "return-path")
        timeline.add_events(source, first)
        timeline.add_events(target)
        for vm, mdev in ((source, self.mdevs[0]), (target, self.mdevs[1])):
            timeline.add(vm.host.name, f"kernel: {mdev.state()}, guest {vm.status()}")
        table = timeline.table()
        print(table)
        number = len(list(self.folder.glob("run*.txt"))) + 1
        (self.folder / f"run{number}.txt").write_text(
            f"{title}\n\n{table}\n\n{outcome}\n\nQEMU on a:\n{source.log()}\n"
            f"QEMU on b:\n{target.log()}\nkernel of b:\n" + "\n".join(log.lines()) + "\n")
        if kept:
            self.expect("refused: migration failed on both sides",
                        (outcome.source, outcome.target) == ("failed", "failed"), outcome)
        else:
            self.expect("completed on both sides", outcome.completed, outcome)
            self.expect("device state was sent", outcome.device_bytes > 0, outcome.info)
        return target, outcome, log


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Announce a step that takes a while, and how long it took."""
    print(f"{what} ...", flush=True)
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def demonstrate(demo: Demo) -> None:
    """The three runs."""
    a_mdev, b_mdev = demo.mdevs
    card = cards.of_profile(demo.b, APID)
    planted = re.sub(r":\d+", f":{PLANTED_TYPE}", card)

    source = demo.guests.vm(a_mdev, memory=MEMORY)
    queues = a_mdev.guest_matrix()
    demo.expect(f"the guest on a has the queues {' '.join(GUEST.matrix())}",
                queues == GUEST.matrix(), queues)
    target, _, _ = demo.run("Run 1: equal cards", source)
    arrived = b_mdev.guest_matrix()
    demo.expect("the guest on b has the same queues", arrived == queues, arrived)
    target.quit()
    source.quit()

    with timed(f"Host b: card {card} replaced by {planted}"):
        cards.replace(demo.b, planted)
    source = demo.guests.vm(a_mdev, memory=MEMORY)
    target, outcome, log = demo.run(f"Run 2: card {APID} of b is of type {PLANTED_TYPE}", source,
                                    kept=True)
    demo.expect_difference(log, outcome, card)
    status = source.status()
    demo.expect("source intact: the guest can run", status in ("prelaunch", "paused"), status)
    state = a_mdev.state()
    demo.expect("source intact: device state RUNNING", state == "RUNNING", state)
    kept = a_mdev.guest_matrix()
    demo.expect("source intact: the guest has its queues", kept == queues, kept)
    target.quit()

    with timed(f"Host b: card {planted} replaced by {card}"):
        cards.replace(demo.b, card)
    target, _, _ = demo.run("Run 3: the same guest again, equal cards", source)
    target.quit()
    source.quit()


def main(argv: list[str]) -> int:
    """Run the demo; 0 if everything was as it has to be."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flavour", choices=config.FLAVOURS, default="fast",
                        help="kernel of the hosts (default: %(default)s)")
    options = parser.parse_args(argv)
    folder = config.OUT / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    failures: list[str] = []
    started = time.monotonic()
    try:
        with Lab(options.flavour, "demo") as lab:
            with timed("Booting hosts a and b"):
                a, b = lab.boot_all(["a", "b"])
            with Guests() as guests:
                demo = Demo(a, b, guests, folder)
                failures = demo.failures
                demonstrate(demo)
    except LabError as error:
        print(f"  NOT OK  {error}", flush=True)
        failures.append(str(error))
    finally:
        print(f"\nLogs: {folder}, {config.LOGS / 'demo'}")
    seconds = time.monotonic() - started
    if failures:
        print(f"demo: FAILED after {seconds:.0f} s: {len(failures)} of its checks did not hold")
        return 1
    print(f"demo: passed in {seconds:.0f} s: a guest with AP queues was migrated between two "
          "hosts,\nand a host whose card differs refused it.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
