# SPDX-License-Identifier: GPL-2.0
"""Counting of requests that were sent again (lab/guest/round_trips.py)."""

from __future__ import annotations

from lab.guest.counters import Counters, QueueCounters
from lab.guest.round_trips import sent_again

# Of each queue: the last request, replies, requests sent again.
LEFT = ((33, 31, 0), (32, 30, 0))


def counters(*queues: tuple[int, int, int], polling: bool = False) -> Counters:
    """With these queues."""
    return Counters(41, 0, 41 - polling, 0, 4, 0, 0, polling, tuple(
        QueueCounters(f"05.{number:04x}", sent, answered, again, 0, 0, answered, True, False)
        for number, (sent, answered, again) in enumerate(queues)))


def test_all_lost_requests_count() -> None:
    """And no more; each queue for itself."""
    left = counters(*LEFT)
    assert sent_again(left, counters((40, 38, 2), (40, 38, 2)))
    for more in (0, 1, 3):
        assert not sent_again(left, counters((40, 38, 2), (40, 38, more))), more
    assert not sent_again(left, counters((40, 38, 1), (40, 38, 3)))


def test_in_the_middle_of_a_poll() -> None:
    """It may be less in one queue, or one more."""
    left = counters(*LEFT, polling=True)
    for first in (0, 1, 2, 3):
        assert sent_again(left, counters((40, 38, first), (40, 38, 2))), first
        assert sent_again(left, counters((40, 38, 2), (40, 38, first))), first
    assert not sent_again(left, counters((40, 38, 4), (40, 38, 2)))
    assert not sent_again(left, counters((40, 38, 1), (40, 38, 1)))


def test_sleeps() -> None:
    """When all interrupts have been dealt with."""
    assert counters(*LEFT).sleeps()
    assert not counters(*LEFT, polling=True).sleeps()
