# SPDX-License-Identifier: GPL-2.0
"""`make demo`: QEMU migrates a guest with AP queues between two emulated hosts.

The guest keeps requests in each of its queues and sleeps until an interrupt tells it of a reply.
It has no timer. It hangs if a migration loses its interrupts, or does not wake it up to repeat
the requests that stayed in the queues of host a.

Four migrations from host a to host b, over the network between them:
  1. the hosts have equal cards: the guest arrives;
  2. one card of b is of another type: b refuses, and a has not stopped the guest;
  3. that card is replaced by an equal one, whose keys are not set yet, so b's device is not
     migratable: b refuses;
  4. it is migratable again: the same guest arrives. `migratable` cannot be cleared during the
     migration.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.common import config
from lab.common.errors import LabError
from lab.guest import ap_control
from lab.guest.ap_control import simulate
from lab.guest.counters import GUEST, Counters
from lab.guest.gap import Watch
from lab.guest.kernel_log import KernelLog
from lab.guest.mdev import GuestAp, Mdev
from lab.guest.migration import EARLY, LEFT, MIDWAY, Migration, Outcome
from lab.guest.qmp import names_errno, transferred
from lab.guest.round_trips import outstanding, sent_again
from lab.guest.tracing import Tracer
from lab.guest.vm import Guests, Vm
from lab.host.host import Host
from lab.host.lab import Lab
from lab.image import machine
from lab.report import picture
from lab.report.timeline import Answers, Event, Record, arcs, blackout, drivers_share
from lab.report.timeline_table import Timeline

AP = GuestAp(adapters="05,06", domains="04,06")
# The card that differs in the second run, and its type then.
APID = "05"
PLANTED_TYPE = 13
# Of the guests, in MiB.
MEMORY = 64
# Microseconds that a request takes, so that some are under way at any time.
LATENCY = 100_000
# Replies of each queue before a migration, and of all queues after it.
ENOUGH = 10


def show_counters(where: str, counters: Counters) -> None:
    """Print the guest's counters, queue by queue."""
    print(f"  {where + ', queue:':<34}" + "".join(f"{q.apqn:>9}" for q in counters.queues))
    for what, values in (("requests answered", [q.answered for q in counters.queues]),
                         ("sent once more", [q.requeued for q in counters.queues])):
        print(f"  {'':<16}{what:<18}" + "".join(f"{value:>9}" for value in values))
    sys.stdout.flush()


def qemu_events(vm: Vm, first: int, start: float) -> Iterator[Event]:
    """QEMU's events of a migration, from event number first on."""
    for event in vm.events(since=first):
        if event.name in ("MIGRATION", "VFIO_MIGRATION"):
            text = str(event.data["status" if event.name == "MIGRATION" else "device-state"])
            if not text.endswith("-prepare"):
                yield Event(event.time - start, vm.host.name, "qemu", event.name, text, event.sent)


def add_events(timeline: Timeline, vm: Vm, since: int = 0, failure: str = "") -> None:
    """Add the migration events of a VM, from number since on; failure: why it failed."""
    for event in vm.events(since=since):
        if event.name == "MIGRATION":
            status = str(event.data["status"])
            if failure and status == "failed":
                status += f": {failure}"
            timeline.add(vm.host.name, f"migration {status}", event.sent, event.time)
        elif event.name == "VFIO_MIGRATION":
            timeline.add(vm.host.name, f"vfio-ap device {event.data['device-state']}", None,
                         event.time)


def arc_of_each_state(record: Record, host: str) -> bool:
    """Whether the driver took an arc to each state that QEMU says it has set, in that order."""
    taken = iter(arc.after for arc in arcs(record.events, host))
    now = "RUNNING"
    for event in record.events:
        state = event.text.upper().replace("-", "_")
        # To set the state that the device has is no arc.
        if (event.host, event.name) != (host, "VFIO_MIGRATION") or state == now:
            continue
        if state not in taken:
            return False
        now = state
    return True


class Demo:
    """The hosts, the checks that passed, and the folder for logs."""

    def __init__(self, a: Host, b: Host, guests: Guests, folder: pathlib.Path) -> None:
        self.a = a
        self.b = b
        self.folder = folder
        self.failures: list[str] = []
        self.guests = guests
        self.mdevs = (guests.mdev(a, AP), guests.mdev(b, AP))

    def expect(self, what: str, holds: bool, seen: object) -> None:
        """One line on something that must hold."""
        print(f"  {'ok' if holds else 'NOT OK':<7} {what}"
              + ("" if holds else f"; seen: {seen}"), flush=True)
        if not holds:
            self.failures.append(what)

    def expect_refused(self, outcome: Outcome, error: str, number: int) -> None:
        """Both sides failed, for that reason, and the source did not stop for it."""
        self.expect("refused: migration failed on both sides",
                    (outcome.source, outcome.target) == ("failed", "failed"), outcome)
        self.expect(f"QEMU: {errno.errorcode[number]} ({os.strerror(number)})",
                    names_errno(error, number), error)
        self.expect("a never stopped the guest", not outcome.stopped, outcome)

    def expect_difference(self, log: KernelLog, card: str) -> None:
        """The kernel log must name the planted card and field, and nothing else."""
        source_type = int(re.findall(r":(\d+)", card)[0])
        line = f"adapter {APID}: type {source_type} on the source, {PLANTED_TYPE} here"
        said = log.failures(self.mdevs[1])
        self.expect(f"b's kernel log: \"{line}\"", said == [line], said)

    def expect_intact(self, source: Vm) -> None:
        """The guest can go on at a."""
        status = source.status()
        self.expect("source intact: the guest runs", status == "running", status)
        state = self.mdevs[0].state()
        self.expect("source intact: device state RUNNING", state == "RUNNING", state)
        kept = self.mdevs[0].guest_matrix()
        self.expect("source intact: the guest has its queues", kept == AP.matrix(), kept)

    def expect_arrived(self, outcome: Outcome) -> None:
        """The guest is at b, with its queues; b had agreed before a stopped it."""
        self.expect("completed on both sides", outcome.completed, outcome)
        self.expect("device state was sent", outcome.device_bytes > 0, outcome.info)
        self.expect("a asked b while the guest was running",
                    outcome.states == LEFT, outcome.states)
        states = [mdev.state() for mdev in self.mdevs]
        self.expect("the guest runs on b and not on a", states == ["STOP", "RUNNING"], states)
        queues = self.mdevs[1].guest_matrix()
        self.expect("the guest on b has the same queues", queues == AP.matrix(), queues)

    def expect_answers(self, before: Counters, left: Counters, vm: Vm) -> None:
        """The guest has gone on in that VM. It is stopped for a moment to be looked at."""
        here = vm.stopped_counters()
        vm.call("cont")
        show_counters(f"guest on {vm.host.name}", here)
        lost = sum(outstanding(queue) for queue in left.queues)
        if vm.mdev is self.mdevs[0]:
            self.expect("nothing had to be sent once more", here.requeued == before.requeued, here)
        else:
            self.expect(f"the {lost} requests that stayed behind in a's queues were sent once more",
                        sent_again(left, here), (left, here))
        self.expect("each request was answered once, in each queue", not here.faults(), here)

    def show(self, log: KernelLog) -> None:
        """Print the lines that an administrator reads."""
        print("  b's kernel log says:")
        for line in log.of(self.mdevs[1]):
            print(f"          {line}")

    def add_kernel(self, record: Record, timeline: Timeline, start: float,
                   tracers: tuple[Tracer, Tracer]) -> None:
        """Add the drivers' trace events of their devices to the timeline."""
        for mdev, tracer in zip(self.mdevs, tracers, strict=True):
            traced, clocks = tracer.events(mdev.uuid)
            record.uncertainty[mdev.host.name] = clocks.error
            for event in traced:
                record.events.append(Event(event.time - start, mdev.host.name, "kernel",
                                           event.name, event.text))
            for arc in arcs(record.events, mdev.host.name):
                timeline.add(mdev.host.name, f"    driver {arc.before} -> {arc.after}",
                             at=start + arc.time)

    def expect_record(self, record: Record, outcome: Outcome, gap: float) -> None:
        """Both sides' events agree with each other; and the figures that follow from them."""
        error = sum(record.uncertainty.values())
        for vm_host in (record.source, record.target):
            self.expect(f"{vm_host}: the driver took an arc to each state that QEMU tells of",
                        arc_of_each_state(record, vm_host), record.events)
        stopped = blackout(record)
        self.expect("the devices were stopped for a time" if outcome.stopped else
                    "the device was not stopped", bool(stopped) == outcome.stopped, stopped)
        if stopped:
            record.figures["queues out of use (ms)"] = (stopped[1] - stopped[0]) * 1000
            own = drivers_share(record)
            record.figures["of that, in the two drivers (ms)"] = own * 1000
            record.figures["of that uncertain, as the hosts' clocks differ (ms)"] = error * 1000
            print(f"  no queue could be used for {stopped[1] - stopped[0]:.3f} s (within "
                  f"{error:.3f} s);\n  the drivers were at work for {own * 1000:.1f} ms of that")
        record.figures["longest time without an answer, at most (ms)"] = gap * 1000
        if outcome.completed:
            record.figures["bytes of the device's state"] = outcome.device_bytes
            record.figures["bytes in all"] = transferred(outcome.info)

    def run(self, title: str, source: Vm, cause: int | None = None,
            midway: Callable[[Timeline], None] | None = None) -> tuple[Vm, Outcome, KernelLog]:
        """One migration with its timeline. cause: errno with which b is to refuse. midway: called
        when the device is next."""
        print(f"\n{title}", flush=True)
        log = KernelLog(self.b)
        target = self.guests.vm(self.mdevs[1], incoming=True, memory=MEMORY, kernel=GUEST)
        before = source.wait_answered(ENOUGH)
        show_counters("guest on a", before)
        timeline = Timeline()
        record = Record(title, source.host.name, target.host.name)
        start, first = time.monotonic(), len(source.events())
        with (Tracer(self.a) as at_a, Tracer(self.b) as at_b,
              Watch(source, target, len(AP.matrix())) as watch):
            migration = Migration(source, target, *EARLY,
                                  *(["pause-before-switchover"] if midway else []))
            held_up = 0.0
            if midway:
                migration.wait(source, MIDWAY)
                held_up = time.monotonic()
                midway(timeline)
                held_up = time.monotonic() - held_up
                migration.go_on()
            outcome = migration.outcome()
            watch.wait_answers(ENOUGH * len(AP.matrix()))
            record.events += [Event(step.time, step.host, "user", "", step.what)
                              for step in timeline.steps]
            self.add_kernel(record, timeline, start, (at_a, at_b))
        record.events += [*qemu_events(source, first, start), *qemu_events(target, 0, start)]
        record.events.sort(key=lambda event: event.time)
        record.answers = [Answers(at - start, host, number) for at, host, number in watch.seen]
        error = outcome.target_error
        if cause == errno.EPERM:
            error = target.refused_state("RESUMING")
        named = cause is not None and names_errno(error, cause)
        add_events(timeline, source, first)
        add_events(timeline, target, failure=os.strerror(cause) if cause and named else "")
        for vm, mdev in ((source, self.mdevs[0]), (target, self.mdevs[1])):
            timeline.add(vm.host.name, f"kernel: {mdev.state()}, guest {vm.status()}")
        table = timeline.table()
        print(table)
        left = source.counters()
        assert left is not None
        self.expect_answers(before, left, target if outcome.completed else source)
        included = f", which includes {held_up:.1f} s held up midway" if held_up else ""
        print(f"  longest time without an answer: at most {watch.gap:.1f} s{included}\n  (the "
              f"guest's counters were read through QEMU {watch.looks} times, every "
              f"{watch.interval * 1000:.0f} ms)", flush=True)
        self.expect_record(record, outcome, watch.gap)
        number = len(list(self.folder.glob("run*.txt"))) + 1
        record.save(self.folder / f"run{number}.json")
        (self.folder / f"run{number}.txt").write_text(
            f"{title}\n\n{table}\n\n{outcome}\n\nQEMU on a:\n{source.log()}\n"
            f"QEMU on b:\n{target.log()}\nkernel of b:\n" + "\n".join(log.lines()) + "\n")
        return target, outcome, log


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Announce a step that takes a while, and how long it took."""
    print(f"{what} ...", flush=True)
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def store(demo: Demo, mdev: Mdev, value: str, error: str = "") -> None:
    """Set `migratable` as an administrator does; error: the answer that is expected."""
    said = mdev.store("migratable", value)
    answer = said.rpartition(": ")[2]
    demo.expect(f"{mdev.host.name}: echo {value} > migratable: {error or 'done'}",
                answer == error, said)


def change_keys(demo: Demo, source: Vm) -> Callable[[Timeline], None]:
    """Make run 3; return the callback for run 4."""
    a_mdev, b_mdev = demo.mdevs
    store(demo, b_mdev, "0")
    target, outcome, _ = demo.run("Run 3: b's device is not migratable", source, errno.EPERM)
    demo.expect_refused(outcome, target.refused_state("RESUMING"), errno.EPERM)
    demo.expect_intact(source)
    target.quit()
    store(demo, b_mdev, "1")

    def midway(timeline: Timeline) -> None:
        for mdev in (a_mdev, b_mdev):
            store(demo, mdev, "0", os.strerror(errno.EBUSY))
            timeline.add(mdev.host.name, "echo 0 > migratable refused")
    return midway


def demonstrate(demo: Demo) -> None:
    """The four runs."""
    a_mdev, b_mdev = demo.mdevs
    card = ap_control.of_profile(demo.b, APID)
    planted = re.sub(r":\d+", f":{PLANTED_TYPE}", card)

    source = demo.guests.vm(a_mdev, memory=MEMORY, kernel=GUEST)
    queues = a_mdev.guest_matrix()
    demo.expect(f"the guest on a has the queues {' '.join(AP.matrix())}",
                queues == AP.matrix(), queues)
    target, outcome, _ = demo.run("Run 1: equal cards", source)
    demo.expect_arrived(outcome)
    target.quit()
    source.quit()

    with timed(f"Host b: card {card} replaced by {planted}"):
        ap_control.replace(demo.b, planted)
    source = demo.guests.vm(a_mdev, memory=MEMORY, kernel=GUEST)
    target, outcome, log = demo.run(f"Run 2: card {APID} of b is of type {PLANTED_TYPE}", source,
                                    errno.ENXIO)
    demo.expect_refused(outcome, outcome.target_error, errno.ENXIO)
    demo.expect_difference(log, card)
    demo.expect_intact(source)
    demo.show(log)
    target.quit()

    with timed(f"Host b: card {planted} replaced by {card}"):
        ap_control.replace(demo.b, card)
    midway = None
    if b_mdev.has("migratable"):
        midway = change_keys(demo, source)
    else:
        print("\nRun 3 left out: this kernel has no `migratable`", flush=True)
    target, outcome, _ = demo.run("Run 4: the same guest again, equal cards", source,
                                  midway=midway)
    demo.expect_arrived(outcome)
    target.quit()
    source.quit()


def show_pictures(folder: pathlib.Path) -> None:
    """Draw all runs if the drawing program is available."""
    try:
        machine.install_packages([picture.PACKAGE])
        written = picture.write(folder)
    except (machine.EnvError, ImportError) as error:
        print(f"\nNo pictures: {error}")
        return
    print(f"\nPictures: {written[-1]}")


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
                for host in (a, b):
                    simulate(host, f"latency * {LATENCY}")
                failures = demo.failures
                demonstrate(demo)
    except LabError as error:
        print(f"  NOT OK  {error}", flush=True)
        failures.append(str(error))
    finally:
        show_pictures(folder)
        print(f"\nLogs: {folder}, {config.LOGS / 'demo'}")
    seconds = time.monotonic() - started
    if failures:
        print(f"demo: FAILED after {seconds:.0f} s: {len(failures)} of its checks did not hold")
        return 1
    print(f"demo: passed in {seconds:.0f} s: a guest that uses AP queues was migrated between two "
          "hosts and\nwent on with them, and a host whose card differs refused it before the guest "
          "was stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
