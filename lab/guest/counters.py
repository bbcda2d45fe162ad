# SPDX-License-Identifier: GPL-2.0
"""The program that a guest executes, and the counters that it keeps in its memory.

The program is guest/vfio_ap_guest.S of the selftests, which explains the layout.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.common import config

# The path of the program in a host.
GUEST = f"/lab/selftests/{config.SELFTEST}/vfio_ap_guest"
GUEST_MAGIC = b"APGUEST1"
GUEST_COUNTERS = 0x30000
GUEST_NIB = 0x31000
GUEST_HEADER = struct.Struct(">8s9Q48x")
GUEST_QUEUE = struct.Struct(">9Q56x")
GUEST_MAX_QUEUES = 16
GUEST_SIZE = GUEST_HEADER.size + GUEST_MAX_QUEUES * GUEST_QUEUE.size
# Requests that are under way in each of its queues.
GUEST_WINDOW = 2


@dataclass(frozen=True)
class QueueCounters:
    """Counters of one queue in the guest program.

    apqn: as in GuestAp.matrix(). sent: the number of the last request. answered: right replies.
    requeued: requests sent again. last: requests up to this number are answered.
    used: False if the program has given it up. early: request last + 2 is answered, too."""

    apqn: str
    sent: int
    answered: int
    requeued: int
    wrong: int
    duplicate: int
    last: int
    used: bool
    early: bool

    @classmethod
    def parse(cls, data: bytes) -> QueueCounters:
        """Out of the guest's memory."""
        apqn, sent, answered, requeued, wrong, duplicate, last, used, early = \
            GUEST_QUEUE.unpack(data)
        return cls(f"{apqn >> 8:02x}.{apqn & 0xff:04x}", sent, answered, requeued, wrong,
                   duplicate, last, bool(used), bool(early))


@dataclass(frozen=True)
class Counters:
    """Counters of the guest program. spurious: interrupts without a notification.
    polls: how often it asked all of its queues for replies, because of an interrupt.
    flags: 1: polled unasked, 2: a strange interrupt, 4: more queues than it can have.
    aqic, aqic_again: PQAP(AQIC) that were successful, and repeated.
    answer: the last answer that was too much for it. polling: it has not finished a poll."""

    interrupts: int
    spurious: int
    polls: int
    flags: int
    aqic: int
    aqic_again: int
    answer: int
    polling: bool
    queues: tuple[QueueCounters, ...]

    @classmethod
    def parse(cls, data: bytes) -> Counters | None:
        """Out of the guest's memory; None if it has not begun to count."""
        (magic, nr_queues, interrupts, spurious, polls, flags, aqic, aqic_again, answer,
         polling) = GUEST_HEADER.unpack_from(data)
        if magic != GUEST_MAGIC:
            return None
        rows = [data[at:at + GUEST_QUEUE.size]
                for at in range(GUEST_HEADER.size, GUEST_SIZE, GUEST_QUEUE.size)]
        return cls(interrupts, spurious, polls, flags, aqic, aqic_again, answer, bool(polling),
                   tuple(QueueCounters.parse(row) for row in rows[:nr_queues]))

    @property
    def answered(self) -> int:
        """The least number of right replies that a queue has."""
        return min((queue.answered for queue in self.queues), default=0)

    def answered_since(self, then: Counters | None) -> int:
        """The same, counted from then on."""
        if then is None:
            return self.answered
        return min((here.answered - there.answered for here, there
                    in zip(self.queues, then.queues, strict=True)), default=0)

    @property
    def requeued(self) -> int:
        """Requests sent again, in all queues."""
        return sum(queue.requeued for queue in self.queues)

    def sleeps(self) -> bool:
        """It has done with all interrupts that it got."""
        return not self.polling and self.interrupts == self.polls + self.spurious

    def faults(self) -> list[str]:
        """Violated invariants. Only for a guest that is stopped, or sleeps."""
        found = []
        if self.flags or self.answer:
            found.append(f"flags {self.flags:x}, answer {self.answer:x}")
        for queue in self.queues:
            missing = queue.last + queue.early - queue.answered
            if (queue.wrong or queue.duplicate or not queue.used or
                    not 0 <= missing <= self.polling or
                    not 0 <= queue.sent - queue.last <= GUEST_WINDOW):
                found.append(str(queue))
        return found
