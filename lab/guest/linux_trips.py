# SPDX-License-Identifier: GPL-2.0
"""A Linux guest with requests in its AP queues migrates between two hosts.

    with Guests() as guests, LinuxTrips(guests, a, b) as trips:
        trips.migrate_once()
        trips.power_off()
    print(trips.summary())

migrate_once() and power_off() raise AssertionError if a check fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from lab.guest.ap_control import simulate, simulated
from lab.guest.linux import BOOT, Count, End, LinuxGuest, LinuxVm
from lab.guest.mdev import Mdev
from lab.guest.migration import EARLY, Migration
from lab.guest.round_trips import AP, ENOUGH, LATENCY, USUAL_LATENCY, check_devices, check_sides
from lab.guest.vm import Guests
from lab.host.host import Host

# Types of the cards 05 and 06 of the hosts, as the guest names them.
TYPES = {"05": "CEX8C", "06": "CEX8P"}


@contextmanager
def slow_queues(*hosts: Host) -> Iterator[None]:
    """Requests take long, so that some are in the queues at any time."""
    try:
        for host in hosts:
            simulate(host, f"latency * {LATENCY}")
        yield
    finally:
        for host in hosts:
            if host.alive:
                simulate(host, f"latency * {USUAL_LATENCY}")


def total(host: Host, name: str) -> int:
    """A counter of the guest's queues in a host, in all."""
    return sum(queue[name] for queue in simulated(host, *AP.matrix()).values())


class Tally:
    """Counters of the hosts that a guest was in.

    left: requests and replies that the guest left in queues."""

    def __init__(self, host: Host) -> None:
        """host: in which the guest will start."""
        self.left = 0
        self._sent = 0
        self._before = total(host, "nqap")

    def leave(self, source: Host, before: int) -> None:
        """The guest has left a host. before: NQAP instructions that the queues of its new host had
        counted before it arrived."""
        self.left += total(source, "off_qlen")
        self._sent += total(source, "nqap") - self._before
        self._before = before

    def sent_again(self, host: Host, ends: dict[str, End]) -> int:
        """Messages that the AP bus of the guest has sent to a queue again; the guest has powered
        off in that host."""
        return (self._sent + total(host, "nqap") - self._before
                - sum(end.queued for end in ends.values()))


class LinuxTrips:
    """The guest, two hosts with a device each, and figures.

    migrations: number of migrations that completed. gaps: per migration, the longest time without a
    reply of a queue, in seconds of the guest's clock, which stands still while the guest is
    stopped. stops: per migration, the seconds for which the guest was stopped.
    sent_again: messages that the AP bus of the guest has sent to a queue more than once; known when
    the guest has powered off. answered: right replies, known then, too.
    """

    def __init__(self, guests: Guests, a: Host, b: Host, cpus: int = 1) -> None:
        self.migrations = 0
        self.gaps: list[float] = []
        self.stops: list[float] = []
        self.sent_again = 0
        self.answered = 0
        self.guest: LinuxGuest
        self._cpus = cpus
        self._guests = guests
        self._hosts = (a, b)
        self._mdevs = [guests.mdev(host, AP) for host in (a, b)]
        self._tally = Tally(a)
        self._stack = ExitStack()

    def __enter__(self) -> LinuxTrips:
        with ExitStack() as stack:
            stack.enter_context(slow_queues(*self._hosts))
            self.guest = LinuxGuest(
                self._guests.add(LinuxVm(self._mdevs[0], cpus=self._cpus)))
            self.guest.wait_replies(ENOUGH, timeout=BOOT)
            queues = {apqn: TYPES[apqn[:2]] for apqn in AP.matrix()}
            assert self.guest.queues() == queues, self.guest.queues()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def here(self) -> Mdev:
        """The device that the guest has."""
        return self._mdevs[self.migrations % 2]

    @property
    def there(self) -> Mdev:
        """The device in the other host."""
        return self._mdevs[(self.migrations + 1) % 2]

    def start(self, *capabilities: str) -> Migration:
        """Start a migration to the other host, whose QEMU is new."""
        target = self._guests.add(LinuxVm(self.there, incoming=True, cpus=self._cpus))
        return Migration(self.guest.vm, target, *EARLY, *capabilities)

    def leave(self) -> Count:
        """Migrate to the other host; the last counts of the guest before that."""
        before = self.guest.wait_replies(ENOUGH, since=self.guest.last())
        counted = total(self.there.host, "nqap")
        migration = self.start()
        source, target = migration.source, migration.target
        outcome = migration.outcome()
        check_sides(source, target, outcome)
        check_devices(self.here, self.there, AP)
        self._tally.leave(self.here.host, counted)
        self.stops.append(target.events("RESUME")[0].time - [
            event.time for event in source.events("STOP") if event.time > outcome.started][0])
        source.quit()
        self.migrations += 1
        assert isinstance(target, LinuxVm)
        self.guest.moved(target)
        return before

    def check_guest_continues(self, before: Count) -> None:
        """Each queue of the guest gets replies, and the guest has reported no fault."""
        self.guest.wait_replies(ENOUGH, since=self.guest.last())
        self.gaps.append(self.guest.gap_since(before))
        assert not self.guest.faults(), self.guest.faults()

    def migrate_once(self) -> None:
        """One migration; the guest goes on with all its queues."""
        self.check_guest_continues(self.leave())

    def check_stayed(self, before: Count) -> None:
        """The guest goes on where it was."""
        vm = self.guest.vm
        assert vm.status() == "running", vm.status()
        assert self.here.state() == "RUNNING", self.here.state()
        assert self.here.guest_matrix() == AP.matrix(), self.here.guest_matrix()
        self.check_guest_continues(before)

    def power_off(self) -> None:
        """The guest waits for its replies and powers off. Each request was answered once; the
        AP bus sent exactly those again that the guest had left in queues."""
        ends = self.guest.power_off()
        assert sorted(ends) == AP.matrix(), self.guest.console()
        for apqn, end in ends.items():
            assert end.requests.sent == end.requests.right, (apqn, end)
        assert not self.guest.faults(), self.guest.faults()
        self.answered = sum(end.requests.right for end in ends.values())
        self.sent_again = self._tally.sent_again(self.here.host, ends)
        assert self.sent_again == self._tally.left, (self.sent_again, self._tally.left, ends)

    def summary(self) -> str:
        """One line of figures."""
        return (f"{self.migrations} migrations of a Linux guest with {self._cpus} processors; "
                f"{self.answered} requests answered, {self.sent_again} of them sent again; "
                f"longest gap {max(self.gaps):.2f} s of the guest's clock; the guest was stopped "
                f"for {min(self.stops):.2f} to {max(self.stops):.2f} s")
