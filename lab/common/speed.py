# SPDX-License-Identifier: GPL-2.0
"""How fast this machine is now, as a factor by which limits on time are multiplied."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import time

# Bytes that each thread hashes, and the seconds that takes on an idle core of the machine for
# which the limits of the lab are written.
WORK = 128 << 20
USUAL_SECONDS = 0.30


def measure() -> float:
    """The seconds that one piece of work takes when every core gets one."""
    data = bytes(WORK)
    slowest = [0.0] * (os.cpu_count() or 1)

    def work(number: int) -> None:
        started = time.monotonic()
        hashlib.sha256(data).digest()
        slowest[number] = time.monotonic() - started

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(slowest))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(slowest)


@functools.cache
def factor() -> float:
    """At least 1; measured when it is first asked for, and the same for the whole run."""
    return max(1.0, *(measure() / USUAL_SECONDS for _ in range(3)))


def scaled(seconds: float) -> float:
    """A limit for this machine; written for an idle one of usual speed."""
    return seconds * factor()
