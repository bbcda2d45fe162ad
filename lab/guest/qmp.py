# SPDX-License-Identifier: GPL-2.0
"""QEMU's monitor (QMP), reached through a forwarded port of the host.

A thread of its own collects the events as they arrive.
"""

from __future__ import annotations

import asyncio
import collections
import os
import re
import sys
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from lab.common import config, speed
from lab.common.errors import LabError

sys.path.append(str(config.BUILD / "python"))

from qemu.qmp import EventListener, Message, QMPClient, QMPError, Runstate  # noqa: E402

T = TypeVar("T")

# The longest that a step of QEMU has to take in a debug kernel on a busy machine.
STEP = 180.0
# Seconds that an event waits for query-migrate.
PATIENCE = 2.0


class QemuError(LabError):
    """QEMU ended, refused a command or was silent; str() says which and why."""


@dataclass(frozen=True)
class Event:
    """An event of QEMU: when it arrived (time.monotonic()), its name and data.

    sent: bytes that the migration had sent by then (only with MIGRATION, at the source).
    """

    time: float
    name: str
    data: dict[str, Any]
    sent: int | None = None


class _Loop:
    """The event loop of all monitors, in a thread of its own."""

    _lock = threading.Lock()
    _loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def get(cls) -> asyncio.AbstractEventLoop:
        with cls._lock:
            if cls._loop is None:
                cls._loop = asyncio.new_event_loop()
                threading.Thread(target=cls._loop.run_forever, name="qmp", daemon=True).start()
            return cls._loop


class Monitor:
    """A connection to QEMU's monitor, usable from any thread; collects all events."""

    def __init__(self, name: str, address: tuple[str, int], timeout: float = STEP) -> None:
        self.name = name
        self.events: list[Event] = []
        self.changed = threading.Condition()
        self.closed = False
        self._client = QMPClient(name)
        # When each event came, however late it is taken.
        self._times: collections.deque[float] = collections.deque()
        self._answers: set[asyncio.Future[int | None]] = set()
        self._listener = EventListener(event_filter=self._stamp)
        self._client.register_listener(self._listener)
        try:
            timeout = speed.scaled(timeout)
            self._do(asyncio.wait_for(self._client.connect(address), timeout), timeout + 5)
        except (QMPError, OSError, asyncio.TimeoutError) as error:
            raise QemuError(f"{name}: no connection to the monitor: {error!r}") from error
        # Kept, because the loop itself holds tasks by weak references only.
        self._tasks = [asyncio.run_coroutine_threadsafe(task, _Loop.get())
                       for task in (self._collect(), self._watch())]

    def _do(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, _Loop.get()).result(timeout)

    def _stamp(self, _: Message) -> bool:
        self._times.append(time.monotonic())
        return True

    async def _collect(self) -> None:
        while True:
            message = await self._listener.get()
            now = self._times.popleft()
            sent = None
            data = message.get("data")
            if message["event"] == "MIGRATION":
                # QEMU answers late, or never, while its network is dead: the event counts.
                answer = asyncio.ensure_future(self._bytes_sent())
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)
                done, _ = await asyncio.wait({answer}, timeout=PATIENCE)
                sent = answer.result() if done else None
            with self.changed:
                self.events.append(Event(now, str(message["event"]),
                                         data if isinstance(data, dict) else {}, sent))
                self.changed.notify_all()

    async def _bytes_sent(self) -> int | None:
        try:
            info = await self._client.execute("query-migrate")
        except QMPError:
            return None     # the connection is gone; _watch() raises
        assert isinstance(info, dict)
        return transferred(info) if "ram" in info else None

    async def _watch(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        try:
            await self._client.disconnect()
        except (QMPError, OSError, EOFError):
            pass            # the end of QEMU or of its host: seen as closed

    def call(self, command: str, timeout: float = STEP, oob: bool = False,
             **arguments: object) -> Any:
        """Execute a command; '_' stands for '-' in argument names. oob: out of band, which goes
        while QEMU's main loop is stuck, for the commands that can."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            timeout = speed.scaled(timeout)
            return self._do(asyncio.wait_for(self._client.execute(command, named, oob), timeout),
                            timeout + 5)
        except asyncio.TimeoutError:
            raise QemuError(f"{self.name}: {command}: no answer in {timeout:.0f} s") from None
        except QMPError as error:
            raise QemuError(f"{self.name}: {command}: {error}") from error

    def close(self) -> None:
        """Drop the connection."""
        for task in self._tasks:
            task.cancel()
        try:
            self._do(self._client.disconnect(), 10)
        except (QMPError, OSError, EOFError, TimeoutError):
            pass            # it was broken already


def names_errno(text: str, number: int) -> bool:
    """Whether an error text of QEMU names an errno, as text or as negative number."""
    return os.strerror(number) in text or re.search(rf"(?<!\w)-{number}(?!\d)", text) is not None


def transferred(info: dict[str, Any]) -> int:
    """Bytes sent as query-migrate tells: everything that went over the wire."""
    return int(info.get("ram", {}).get("transferred", 0))
