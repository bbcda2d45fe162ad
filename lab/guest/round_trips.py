# SPDX-License-Identifier: GPL-2.0
"""A guest that uses its queues migrates between two hosts, again and again, and must not notice.

    with Guests() as guests, RoundTrips(guests, a, b) as trips:
        for _ in range(5):
            trips.migrate_once()
        assert trips.busy_share() >= 0.9

migrate_once() raises AssertionError if a check after the migration fails. The guest sleeps until
it is interrupted and has no timer: only interrupts make it go on.
"""

from __future__ import annotations

import time
from types import TracebackType

from lab.guest.ap_control import simulate, simulated
from lab.guest.counters import GUEST, Counters, QueueCounters
from lab.guest.mdev import GuestAp, Mdev
from lab.guest.migration import EARLY, LEFT, Outcome, migrate
from lab.guest.vm import Guests, Vm
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
# Replies of each queue after which the guest is taken to go on.
ENOUGH = 10
# Microseconds that a request takes. The guest keeps each queue filled, so that nearly always
# some are under way; long compared with the guest's own time in an emulated host.
LATENCY = 200_000
# The same of the host profiles.
USUAL_LATENCY = 1000
# Seconds after which a guest that gets no interrupts has long come to rest.
HANGS_WITHIN = 120


def outstanding(queue: QueueCounters) -> int:
    """Requests that a queue has not answered, as the guest sees it."""
    return queue.sent - queue.last - queue.early


def sent_again(left: Counters, here: Counters) -> bool:
    """The guest sent exactly those requests again that were unanswered when it left, in each of
    its queues. Not so in the queue that it was asking for a reply then: one may have been
    received, or a request sent, without being counted yet; or it has sent the next request at
    the target before it found the queue empty, and does not find out about the others."""
    odd = 0
    for before, after in zip(left.queues, here.queues, strict=True):
        assert before.apqn == after.apqn, (before, after)
        again = after.requeued - before.requeued
        odd += again != outstanding(before)
        if not 0 <= again <= outstanding(before) + left.polling:
            return False
    return odd <= left.polling


def check_sides(source: Vm, target: Vm, outcome: Outcome) -> None:
    """The guest runs at the target and nowhere else, and never ran at both."""
    assert outcome.completed, outcome
    assert outcome.states == LEFT, outcome.states
    assert (source.status(), target.status()) == ("postmigrate", "running"), (
        source.status(), target.status())
    stops = [event.time for event in source.events("STOP") if event.time > outcome.started]
    starts = [event.time for event in target.events("RESUME")]
    assert len(stops) == len(starts) == 1 and stops[0] < starts[0], (stops, starts)
    again = [event for event in source.events("RESUME") if event.time > outcome.started]
    assert not again, again


def check_devices(here: Mdev, there: Mdev, ap: GuestAp) -> None:
    """The state of both devices; both have kept their queues."""
    states = (here.state(), there.state())
    assert states == ("STOP", "RUNNING"), states
    for mdev in (here, there):
        assert mdev.guest_matrix() == ap.matrix(), mdev.guest_matrix()


class RoundTrips:
    """The guest, two hosts with a device each, and counters of the way.

    migrations: so many were made. requeued: requests that were sent again after them.
    stops, busy: queues whose interrupts were switched off when the guest left, and how many of
    them had a message in them then. blackouts: seconds between the guest's stop and its start.
    """

    def __init__(self, guests: Guests, a: Host, b: Host, ap: GuestAp = AP,
                 latency: int = LATENCY) -> None:
        self.ap = ap
        self.migrations = 0
        self.requeued = 0
        self.stops = 0
        self.busy = 0
        self.blackouts: list[float] = []
        self._guests = guests
        self._hosts = (a, b)
        self._latency = latency
        self._mdevs = [guests.mdev(host, ap) for host in (a, b)]
        self.vm: Vm

    def __enter__(self) -> RoundTrips:
        for host in self._hosts:
            simulate(host, f"latency * {self._latency}")
        self.vm = self._guests.vm(self._mdevs[0], kernel=GUEST)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        for host in self._hosts:
            if host.alive:
                simulate(host, f"latency * {USUAL_LATENCY}")

    def _count(self, host: Host, name: str) -> int:
        return sum(queue[name] for queue in simulated(host, *self.ap.matrix()).values())

    def leave(self) -> tuple[Vm, Counters]:
        """Migrate to the other host; return the VM that was left, and its guest's counters."""
        source, mdev = self.vm, self._mdevs[(self.migrations + 1) % 2]
        source.wait_answered(ENOUGH)
        target = self._guests.vm(mdev, incoming=True, kernel=GUEST)
        before = [self._count(source.host, name) for name in ("irq_off", "irq_off_busy")]
        outcome = migrate(source, target, *EARLY)
        self.migrations += 1
        check_sides(source, target, outcome)
        assert source.mdev is not None
        check_devices(source.mdev, mdev, self.ap)
        after = [self._count(source.host, name) for name in ("irq_off", "irq_off_busy")]
        self.stops += after[0] - before[0]
        self.busy += after[1] - before[1]
        self.blackouts.append(target.events("RESUME")[0].time - [
            event.time for event in source.events("STOP") if event.time > outcome.started][0])
        left = source.counters()
        assert left is not None and not left.faults(), left
        self.vm = target
        return source, left

    def migrate_once(self) -> None:
        """One migration; the guest goes on with all its queues."""
        source, left = self.leave()
        self.vm.wait_answered(ENOUGH, since=left)
        here = self.vm.stopped_counters()
        assert not here.faults(), here
        assert [queue.apqn for queue in here.queues] == self.ap.matrix(), here
        assert here.aqic == left.aqic, "it need not enable its interrupts once more"
        assert sent_again(left, here), (left, here)
        self.requeued += here.requeued - left.requeued
        assert source.counters() == left, "who has left executes nothing"
        source.quit()
        self.vm.call("cont")

    def expect_no_progress(self) -> None:
        """One migration; the guest looks at its queues once and never again."""
        source, left = self.leave()
        until = time.monotonic() + HANGS_WITHIN
        # It was kicked, sleeps, and no interrupt has reported the replies to its requests.
        while not (self._has_slept_since(left) and self._replies_wait()):
            assert time.monotonic() < until, (left, self.vm.counters())
            self.vm.status()
        here = self.vm.counters()
        assert here is not None
        assert sent_again(left, here), (left, here)
        self.requeued += here.requeued - left.requeued
        assert here.polls - left.polls <= 1 + (not left.sleeps()), (left, here)
        # The machine has nothing more to do.
        assert self.vm.counters() == here, (here, self.vm.counters())
        source.quit()

    def _has_slept_since(self, left: Counters) -> bool:
        here = self.vm.counters()
        return here is not None and here.sleeps() and here.interrupts > left.interrupts

    def _replies_wait(self) -> bool:
        """In each queue, and nothing else does."""
        return all(queue["qlen"] == queue["replies"] > 0
                   for queue in simulated(self.vm.host, *self.ap.matrix()).values())

    def busy_share(self) -> float:
        """Of the queues whose interrupts were switched off, how many had a message in them."""
        return self.busy / self.stops

    def summary(self) -> str:
        """One line of figures."""
        return (f"{self.migrations} migrations, {self.requeued} requests sent once more; a message "
                f"in {self.busy} of {self.stops} queues whose interrupts were switched off; "
                f"stopped for {min(self.blackouts):.2f} to {max(self.blackouts):.2f} s")
