# SPDX-License-Identifier: GPL-2.0
"""`make demo`: QEMU migrates a Linux guest with AP queues between two emulated hosts.

The guest is Debian's kernel, unmodified. A program in it keeps requests in each of its queues
through /dev/z90crypt, and compares each reply with its request. If a migration lost the guest's
interrupts, or did not interrupt the guest at host b, so that its AP bus sends those requests again
that stayed in the queues of host a, the guest would wait for them for 15 minutes.

Three migrations from host a to host b, over the network between them:
  1. one card of b is of another type: b refuses, and a has not stopped the guest;
  2. that card is replaced by an equal one, whose keys are not set yet, so b's device is not
     migratable: b refuses;
  3. it is migratable again: the same guest arrives. `migratable` cannot be cleared during the
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
from lab.guest.gap import Watch
from lab.guest.kernel_log import KernelLog
from lab.guest.linux import BOOT, Count, LinuxGuest, LinuxVm
from lab.guest.linux_trips import TYPES, Tally, total
from lab.guest.mdev import Mdev
from lab.guest.migration import EARLY, LEFT, MIDWAY, Migration, Outcome
from lab.guest.qmp import names_errno, transferred
from lab.guest.round_trips import AP
from lab.guest.tracing import Tracer
from lab.guest.vm import Guests, Vm
from lab.host.host import Host
from lab.host.lab import Lab
from lab.image import machine
from lab.report import picture
from lab.report.timeline import Answers, Event, Record, arcs, blackout, drivers_share
from lab.report.timeline_table import Timeline

# The card that differs in the first run, and its type then.
APID = "05"
PLANTED_TYPE = 13
# Microseconds that a request takes, so that some are under way at any time.
LATENCY = 100_000
# Replies of each queue before and after a migration.
ENOUGH = 10


def show_counts(where: str, count: Count) -> None:
    """Print the guest's counters, queue by queue."""
    print(f"  {where + ', queue:':<34}" + "".join(f"{apqn:>9}" for apqn in count.queues))
    for name in ("sent", "right"):
        print(f"  {'':<16}{'requests sent' if name == 'sent' else 'replies, right':<18}"
              + "".join(f"{getattr(queue, name):>9}" for queue in count.queues.values()))
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
        self.tally = Tally(a)
        self.guest = LinuxGuest(guests.add(LinuxVm(self.mdevs[0])))

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

    def boot(self) -> None:
        """Boot the guest; its queues as the guest sees them."""
        self.guest.wait_replies(ENOUGH, timeout=BOOT)
        found = self.guest.queues()
        for apqn, kind in found.items():
            print(f"  guest: queue {apqn}, {kind}")
        self.expect(f"the guest has the queues {' '.join(AP.matrix())}",
                    found == {apqn: TYPES[apqn[:2]] for apqn in AP.matrix()}, found)

    def expect_intact(self) -> None:
        """The guest can go on at a."""
        status = self.guest.vm.status()
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

    def expect_answers(self) -> None:
        """The guest goes on with all its queues."""
        last = self.guest.wait_replies(ENOUGH, since=self.guest.last())
        show_counts(f"guest on {self.guest.vm.host.name}", last)
        faults = self.guest.faults()
        self.expect("the guest found no wrong reply, and its kernel log is clean", not faults,
                    faults)

    def expect_end(self) -> None:
        """The guest powers off when its requests are answered."""
        ends = self.guest.power_off()
        sent = sum(end.requests.sent for end in ends.values())
        lost = [f"{apqn}: {end}" for apqn, end in ends.items()
                if end.requests.sent != end.requests.right]
        self.expect(f"each of {sent} requests was answered, once and rightly",
                    not lost and sorted(ends) == AP.matrix(), ends)
        again = self.tally.sent_again(self.b, ends)
        self.expect(f"the {self.tally.left} requests that stayed in a's queues were sent again by "
                    "the guest's AP bus, and no others", again == self.tally.left, again)

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

    def expect_record(self, record: Record, outcome: Outcome) -> None:
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
        if outcome.completed:
            record.figures["bytes of the device's state"] = outcome.device_bytes
            record.figures["bytes in all"] = transferred(outcome.info)

    def run(self, title: str, cause: int | None = None,
            midway: Callable[[Timeline], None] | None = None) -> tuple[Vm, Outcome, KernelLog]:
        """One migration with its timeline. cause: errno with which b is to refuse. midway: called
        when the device is next."""
        print(f"\n{title}", flush=True)
        log = KernelLog(self.b)
        source = self.guest.vm
        target = self.guests.add(LinuxVm(self.mdevs[1], incoming=True))
        counted = total(self.b, "nqap")
        before = self.guest.wait_replies(ENOUGH, since=self.guest.last())
        show_counts("guest on a", before)
        timeline = Timeline()
        record = Record(title, source.host.name, target.host.name)
        start, first = time.monotonic(), len(source.events())
        with (Tracer(self.a) as at_a, Tracer(self.b) as at_b,
              Watch(source, target, LinuxVm.answered) as watch):
            migration = Migration(source, target, *EARLY,
                                  *(["pause-before-switchover"] if midway else []))
            if midway:
                migration.wait(source, MIDWAY)
                midway(timeline)
                migration.continue_paused()
            outcome = migration.outcome()
            if outcome.completed:
                self.guest.moved(target)
                self.tally.leave(self.a, counted)
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
        self.expect_answers()
        gap = self.guest.gap_since(before)
        print(f"  longest time in which a queue of the guest got no reply: {gap * 1000:.0f} ms of "
              f"its clock,\n  which stands still while the guest is stopped", flush=True)
        record.figures["longest time without a reply, of the guest's clock (ms)"] = gap * 1000
        self.expect_record(record, outcome)
        number = len(list(self.folder.glob("run*.txt"))) + 1
        record.save(self.folder / f"run{number}.json")
        (self.folder / f"run{number}.txt").write_text(
            f"{title}\n\n{table}\n\n{outcome}\n\nQEMU on a:\n{source.log()}\n"
            f"QEMU on b:\n{target.log()}\nkernel of b:\n" + "\n".join(log.lines()) +
            f"\nconsole of the guest:\n{self.guest.console()}\n")
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


def change_keys(demo: Demo) -> Callable[[Timeline], None]:
    """Make run 2; return the callback for run 3."""
    a_mdev, b_mdev = demo.mdevs
    store(demo, b_mdev, "0")
    target, outcome, _ = demo.run("Run 2: b's device is not migratable", errno.EPERM)
    demo.expect_refused(outcome, target.refused_state("RESUMING"), errno.EPERM)
    demo.expect_intact()
    target.quit()
    store(demo, b_mdev, "1")

    def midway(timeline: Timeline) -> None:
        for mdev in (a_mdev, b_mdev):
            store(demo, mdev, "0", os.strerror(errno.EBUSY))
            timeline.add(mdev.host.name, "echo 0 > migratable refused")
    return midway


def demonstrate(demo: Demo) -> None:
    """The three runs."""
    card = ap_control.of_profile(demo.b, APID)
    planted = re.sub(r":\d+", f":{PLANTED_TYPE}", card)
    with timed("Booting the Linux guest on a"):
        demo.boot()

    with timed(f"Host b: card {card} replaced by {planted}"):
        ap_control.replace(demo.b, planted)
    target, outcome, log = demo.run(f"Run 1: card {APID} of b is of type {PLANTED_TYPE}",
                                    errno.ENXIO)
    demo.expect_refused(outcome, outcome.target_error, errno.ENXIO)
    demo.expect_difference(log, card)
    demo.expect_intact()
    demo.show(log)
    target.quit()

    with timed(f"Host b: card {planted} replaced by {card}"):
        ap_control.replace(demo.b, card)
    midway = None
    if demo.mdevs[1].has("migratable"):
        midway = change_keys(demo)
    else:
        print("\nRun 2 left out: this kernel has no `migratable`", flush=True)
    _, outcome, _ = demo.run("Run 3: the same guest again, equal cards", midway=midway)
    demo.expect_arrived(outcome)
    demo.expect_end()


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
    print(f"demo: passed in {seconds:.0f} s: a Linux guest that uses AP queues was migrated "
          "between two\nhosts and went on with them, and a host whose card differs refused it "
          "before the guest was stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
