# SPDX-License-Identifier: GPL-2.0
"""QEMU in an emulated host as the client of vfio_ap: guests, their mdevs, migrations.

    source = Vm(a, Mdev.create(a, GuestAp("05,06", "04")))
    target = Vm(b, Mdev.create(b, GuestAp("05,06", "04")), incoming=True)
    outcome = migrate(source, target)
    assert outcome.completed, outcome

QEMU is Debian's, unmodified, with lab/programs/enable's library preloaded. Its monitor (QMP) is
reached through a forwarded port; events are collected by a thread of their own as they arrive. A
guest executes the program that it is given (GUEST), one without a program executes nothing though
it
runs as far as QEMU can tell:

    vm = Vm(a, Mdev.create(a, GuestAp("05,06", "04")), kernel=GUEST)
    vm.wait_answered(10)
    assert not vm.counters().faults(), vm.counters()
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import re
import shlex
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from lab.common import config
from lab.common.errors import LabError
from lab.host.host import Host

sys.path.append(str(config.BUILD / "python"))

from qemu.qmp import EventListener, Message, QMPClient, QMPError, Runstate  # noqa: E402

T = TypeVar("T")

# What query-migrate tells of a device whose `migratable` is 0.
HELD_OFF = "the administrator of this host holds its migration off"
LIBRARY = "/lab/bin/vfio-ap-enable.so"
# The guest program: guest/vfio_ap_guest.S of the selftests, where its layout is explained.
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
MDEV_TYPE = "/sys/class/mdev_bus/matrix/mdev_supported_types/vfio_ap-passthrough"
# What a destination's kernel says of a difference, whatever it is.
DIFFERENCE = re.compile(r"(adapter|(control )?domain) [0-9a-f]+ \w+: source \S+ here \S+$")
# What debugfs tells of a migration session.
REPORT = re.compile(r"session: (?:none\n|(?:(?P<role>saving|resuming)\n"
                    r"opened by: (?P<by>.+\[\d+\])\n"
                    r"status: (?P<status>open|ended)\n"
                    r"reason: (?P<reason>.+)\n"
                    r"error: (?P<error>0|-\d+)\n"
                    r"(?:published: (?P<published>\d+)\n)?"
                    r"differences: (?P<count>\d+)\n"
                    r"(?P<lines>(?:.+\n)*)))")
# The longest that a step of QEMU has to take in a debug kernel on a busy machine.
STEP = 180.0

# MiB. What is sent is little (the guest has not written any of it), but QEMU looks at each page.
MEMORY = 16
# Milliseconds that the guest may be stopped. QEMU goes on sending memory until it expects to meet
# this, by the bandwidth that it measured: in an emulated host that is some KiB/s.
DOWNTIME = 1_000_000

# States in which a migration stays.
FINAL = ("completed", "failed", "cancelled")
# The guest is stopped and its memory sent, the device is next: with pause-before-switchover.
# The device is in STOP_COPY then, or in PRE_COPY if the guest did not run before.
MIDWAY = "pre-switchover"
# What QEMU tells of the device of a guest that ran, when the guest has left.
LEFT = ["pre-copy", "pre-copy-p2p", "stop-copy", "stop"]
# What a Migration switches on, and off when it is not asked for.
CAPABILITIES = ("return-path", "switchover-ack", "pause-before-switchover", "multifd")
# The destination says whether it takes the device before the source stops the guest.
EARLY = ("return-path", "switchover-ack")

_numbers = itertools.count()


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


# Seconds that an event waits for what it is told with.
PATIENCE = 2.0


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
            return None     # gone meanwhile; _watch() tells
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


def numbers(text: str) -> list[int]:
    """The numbers in a hex list such as "05,0a"."""
    return [int(word, 16) for word in text.split(",") if word.strip()]


@dataclass(frozen=True)
class GuestAp:
    """What a guest has: hex lists as in the host profiles. cdomains None: as domains."""

    adapters: str
    domains: str
    cdomains: str | None = None

    def matrix(self) -> list[str]:
        """As the attribute `matrix` shows it."""
        return [f"{apid:02x}.{domain:04x}" for apid in sorted(numbers(self.adapters))
                for domain in sorted(numbers(self.domains))]


@dataclass(frozen=True)
class Report:
    """What the kernel tells of the last migration session of a device, in debugfs.

    session: "none", "saving" or "resuming"; what follows is empty without a session.
    opened_by: the process, as COMM[PID]. status: "open" or "ended".
    reason: why it ended, or cannot succeed any more; "-" while there is nothing to say.
    error: 0 or a negative errno. published: configurations sent after the first one.
    differences: to the source ("adapter 05 at: source 14 here 13"). text: all of it.
    """

    session: str
    opened_by: str = ""
    status: str = ""
    reason: str = ""
    error: int = 0
    published: int = 0
    differences: tuple[str, ...] = ()
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Report:
        """LabError for a text that is not laid out like that."""
        match = REPORT.fullmatch(text)
        if match is None:
            raise LabError(f"not a report of a migration session:\n{text}")
        if match["role"] is None:
            return cls("none", text=text)
        differences = tuple(match["lines"].splitlines())
        if len(differences) != int(match["count"]):
            raise LabError(f"the number of differences is wrong:\n{text}")
        return cls(match["role"], match["by"], match["status"], match["reason"],
                   int(match["error"]), int(match["published"] or 0), differences, text)


class Mdev:
    """A mediated device of vfio_ap in a host."""

    def __init__(self, host: Host, ident: str) -> None:
        self.host = host
        self.uuid = ident
        self.path = f"/sys/bus/mdev/devices/{ident}"

    @classmethod
    def create(cls, host: Host, ap: GuestAp, migratable: bool = True) -> Mdev:
        """Make one and assign to it; LabError if the host has less than that to give.

        migratable: let it migrate, where the driver has an attribute to say so."""
        mdev = cls(host, str(uuid.uuid4()))
        cdomains = ap.domains if ap.cdomains is None else ap.cdomains
        lines = [f"echo {mdev.uuid} >{MDEV_TYPE}/create", f"cd {mdev.path}"]
        for attribute, values in (("assign_adapter", ap.adapters), ("assign_domain", ap.domains),
                                  ("assign_control_domain", cdomains)):
            lines += [f"echo 0x{number:x} >{attribute}" for number in numbers(values)]
        if migratable:
            lines.append("[ ! -e migratable ] || echo 1 >migratable")
        try:
            host.run("set -e\n" + "\n".join(lines))
            if mdev.matrix() != ap.matrix():
                raise LabError(f"host {host.name}: the mdev has {mdev.matrix()}, "
                               f"not {ap.matrix()}")
        except LabError:
            if host.alive:
                host.run(f"[ ! -e {mdev.path} ] || echo 1 >{mdev.path}/remove", check=False)
            raise
        return mdev

    def read(self, attribute: str) -> str:
        """An attribute's text."""
        return self.host.run(f"cat {self.path}/{attribute}").out

    def store(self, attribute: str, text: str) -> str:
        """Write to an attribute; "" or what the shell says of the error."""
        result = self.host.run(f"echo {shlex.quote(text)} >{self.path}/{attribute}", check=False)
        if bool(result.rc) != bool(result.out.strip()):
            raise LabError(f"host {self.host.name}: {attribute}: status {result.rc}, "
                           f"{result.out!r}")
        return result.out.strip()

    def has(self, attribute: str) -> bool:
        """Whether the driver has that attribute."""
        return self.host.run(f"[ -e {self.path}/{attribute} ]", check=False).rc == 0

    def set_migratable(self, on: bool) -> None:
        """Let it migrate, or not; LabError if the driver refuses."""
        error = self.store("migratable", str(int(on)))
        if error:
            raise LabError(f"host {self.host.name}: {error}")

    def matrix(self) -> list[str]:
        """The queues that are assigned, as `05.0004`."""
        return self.read("matrix").split()

    def guest_matrix(self) -> list[str]:
        """The queues that the guest has, or will have."""
        return self.read("guest_matrix").split()

    def _debugfs(self, name: str) -> str:
        return self.host.run(f"cat /sys/kernel/debug/vfio/{self.uuid}/migration/{name}").out

    def state(self) -> str:
        """The migration state of the device as the kernel sees it ("RUNNING", ...)."""
        return self._debugfs("state").strip()

    def report(self) -> Report:
        """The kernel's account of the last migration session."""
        return Report.parse(self._debugfs("vfio_ap/report"))

    def remove(self) -> None:
        """Remove the device; nobody may use it."""
        self.host.run(f"echo 1 >{self.path}/remove")


def simulate(host: Host, *commands: str) -> None:
    """Commands for the simulator of AP hardware, see ap_sim/debugfs.c of the selftests."""
    for command in commands:
        host.run(f"echo {shlex.quote(command)} >/sys/kernel/debug/ap_sim/control")


def simulated(host: Host, *apqns: str) -> dict[str, dict[str, int]]:
    """What the simulator tells of queues (all of them, without names), by APQN and name, such as
    simulated(a, "05.0004")["05.0004"]["qlen"]; all of it as of the same time for each queue."""
    found = {}
    for line in host.run("cat /sys/kernel/debug/ap_sim/queues").out.splitlines():
        apqn, *words = line.split()
        if apqn in apqns or not apqns:
            found[apqn] = {name: int(value, 16 if name in ("gisa", "nib") else 10)
                           for name, _, value in (word.partition("=") for word in words)}
    return found


class KernelLog:
    """The kernel messages of a host from now on."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._mark = f"lab: mark {next(_numbers)}"
        host.run(f"echo '{self._mark}' >/dev/kmsg")

    def lines(self) -> list[str]:
        """The lines since then, without the marks and signs of life of the lab."""
        text = self._host.run("dmesg").out
        _, found, rest = text.partition(self._mark + "\n")
        if not found:
            raise LabError(f"host {self._host.name}: the kernel log ran over")
        return [line for line in rest.splitlines() if "lab: " not in line]

    def of(self, mdev: Mdev) -> list[str]:
        """What was said of a device, without the time."""
        return [line.partition("] ")[2] for line in self.lines() if f" {mdev.uuid}: " in line]

    def differences(self) -> list[str]:
        """What vfio_ap says of differences to a migration's source ("adapter 05 at: ...")."""
        return [m.group(0) for m in map(DIFFERENCE.search, self.lines()) if m]


@dataclass(frozen=True)
class QueueCounters:
    """What the guest program counts of one queue.

    apqn: as in GuestAp.matrix(). sent: the number of the last request. answered: right replies.
    requeued: requests sent once more. last: requests up to this number are answered.
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
    """What the guest program counts. spurious: interrupts without a notification.
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
        """Requests sent once more, in all."""
        return sum(queue.requeued for queue in self.queues)

    def sleeps(self) -> bool:
        """It has done with all interrupts that it got."""
        return not self.polling and self.interrupts == self.polls + self.spurious

    def faults(self) -> list[str]:
        """What must not be. Only for a guest that is stopped, or sleeps."""
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


class Vm:
    """A QEMU with KVM in an emulated host, with a vfio-ap device if it gets an mdev."""

    def __init__(self, host: Host, mdev: Mdev | None, incoming: bool = False,
                 memory: int = MEMORY, program: str = "qemu-system-s390x",
                 strict: bool = True, trace: tuple[str, ...] = (),
                 started: bool = True, kernel: str = "", iommufd: bool = False,
                 dma_log: str = "", policy: bool = True,
                 machine: str = "s390-ccw-virtio") -> None:
        """memory: MiB. program: the command that runs QEMU in the host; machine: its type, which
        both sides of a migration need. strict: end if the library does not know that QEMU.
        trace: tracepoints of QEMU, for log(). started: let the guest run, now or when it has come
        in. kernel: what the guest executes; without, it is idle. iommufd: use that in the place of
        a VFIO container. dma_log: "none", "silent": as if the driver had no log of its DMA, or one
        that is always empty; "raw": QEMU takes its bitmap for what it is not, as it does without
        the library. policy: QEMU knows `migratable`, and blocks migration while it is 0."""
        self.host = host
        self.mdev = mdev
        number = next(_numbers)
        self.name = f"{host.name}.qemu{number}"
        self._port = 4400 + number % 1000
        self._migration_port = 5400 + number % 1000
        # KVM has AP interrupts for guests though the CPU that is emulated here has none.
        cpu = "host,ap=on,apqci=on,apft=on,apqi=on" if kernel else "host"
        argv = ["env", f"VFIO_AP_ENABLE_STRICT={int(strict)}",
                f"VFIO_AP_ENABLE_IDLE={int(not kernel)}",
                f"VFIO_AP_ENABLE_LOG={dma_log}",
                f"VFIO_AP_ENABLE_POLICY={'obey' if policy else 'ignore'}",
                f"LD_PRELOAD={LIBRARY}",
                *shlex.split(program), "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", machine, "-accel", "kvm", "-cpu", cpu,
                "-m", str(memory), "-qmp", f"tcp:0.0.0.0:{self._port},server=on,wait=off"]
        if kernel:
            argv += ["-kernel", kernel]
        if iommufd:
            argv += ["-object", "iommufd,id=iommufd0"]
        if incoming:
            argv += ["-incoming", "defer"]
        if not (incoming and started):
            argv += ["-S"]
        for event in trace:
            argv += ["-trace", event]
        self.process = host.start("echo pid $$; exec " + shlex.join(argv))
        try:
            # QEMU listens by now, and the library has found it to be a build that it knows.
            self.process.wait_output("^vfio-ap-enable: ", STEP)
            self.monitor = Monitor(self.name, host.forward(self._port))
            self.set_capabilities(events=True)
            self.set_downtime()
            if mdev is not None:
                options: dict[str, Any] = {"iommufd": "iommufd0"} if iommufd else {}
                self.call("device_add", driver="vfio-ap", id="ap0", sysfsdev=mdev.path,
                          **options)
                reasons = [r for r in self.blockers() if HELD_OFF not in r]
                if strict and dma_log != "none" and reasons:
                    raise QemuError(f"QEMU will not migrate: {reasons}")
            if started and not incoming:
                self.call("cont")
        except LabError as error:
            self.kill()
            raise QemuError(f"{self.name}: {error}\n{self.process.output()}") from error

    def call(self, command: str, timeout: float = STEP, oob: bool = False,
             **arguments: object) -> Any:
        """Execute a QMP command; '_' stands for '-' in argument names. oob: see Monitor."""
        return self.monitor.call(command, timeout, oob, **arguments)

    def status(self) -> str:
        """The run state of the guest ("prelaunch", "postmigrate", ...)."""
        return str(self.call("query-status")["status"])

    def migration(self) -> dict[str, Any]:
        """What query-migrate tells."""
        info = self.call("query-migrate")
        assert isinstance(info, dict)
        return info

    def blockers(self) -> list[str]:
        """Why QEMU refuses to migrate the guest, in its words."""
        return [str(reason) for reason in self.migration().get("blocked-reasons", [])]

    def set_capabilities(self, **states: bool) -> None:
        """Switch migration capabilities; '_' stands for '-' in their names."""
        self.call("migrate-set-capabilities",
                  capabilities=[{"capability": name.replace("_", "-"), "state": on}
                                for name, on in states.items()])

    def set_downtime(self, milliseconds: int = DOWNTIME) -> None:
        """How long the guest may be stopped. With 0 QEMU never stops it: it sends what changes,
        and what the device still gives, for as long as the migration lasts.

        QEMU 10.0 stops the guest for any limit when its estimate of the rest is 0, and asks the
        device for the size of its state only if the estimate is below what fits into the limit.
        One byte fits into 1 ms at 1000 bytes/s, and the state of a device is longer."""
        hold = milliseconds == 0
        self.call("migrate-set-parameters", downtime_limit=1 if hold else milliseconds,
                  avail_switchover_bandwidth=1000 if hold else 0)

    def listen(self) -> str:
        """Wait for a guest to come in; returns the URI to migrate to."""
        self.call("migrate-incoming", uri=f"tcp:0.0.0.0:{self._migration_port}",
                  exit_on_error=False)
        return f"tcp:{self.host.address}:{self._migration_port}"

    def events(self, name: str = "", since: int = 0) -> list[Event]:
        """Events so far, of one kind or of all, from number since on."""
        with self.monitor.changed:
            return [e for e in self.monitor.events[since:] if not name or e.name == name]

    def wait(self, condition: Callable[[], T | None], what: str, timeout: float = STEP) -> T:
        """Wait until condition() gives something; it is asked at each event.

        Raises HostDied etc. for the host, QemuError when QEMU is gone or the time is over."""
        deadline = time.monotonic() + timeout
        while True:
            with self.monitor.changed:
                found = condition()
                if found is not None:
                    return found
                closed = self.monitor.closed
                if not closed:
                    self.monitor.changed.wait(1.0)
            self.host.check()
            if closed:
                raise QemuError(f"{self.name}: ended while waiting for: {what}\n"
                                f"{self.process.output()}")
            if time.monotonic() > deadline:
                raise QemuError(f"{self.name}: no {what} in {timeout:.0f} s")

    def wait_migration(self, *states: str, since: int = 0, timeout: float = STEP) -> str:
        """Wait until the migration enters one of the states."""
        def condition() -> str | None:
            return next((str(e.data["status"]) for e in self.events("MIGRATION", since)
                         if e.data["status"] in states), None)
        return self.wait(condition, f"migration state {' or '.join(states)}", timeout)

    def memory(self, address: int, size: int) -> bytes:
        """A piece of the guest's memory."""
        name = f"{self.name}.memory"
        self.call("pmemsave", val=address, size=size, filename=f"/lab/results/{name}")
        return self.host.path(name).read_bytes()

    def words(self, address: int, number: int) -> list[int]:
        """Words of 64 bits in the guest's memory: quicker than memory(), for a few."""
        text = self.call("human-monitor-command", command_line=f"xp /{number}gx {address:#x}")
        return [int(word, 16) for line in str(text).splitlines()
                for word in line.partition(":")[2].split()]

    def all_answered(self, queues: int) -> int:
        """Right replies that the guest program has got, in all, from its first queues."""
        words = GUEST_QUEUE.size // 8
        return sum(self.words(GUEST_COUNTERS + GUEST_HEADER.size, words * queues)[2::words])

    def counters(self) -> Counters | None:
        """What the guest program has counted; None before it has begun. If the guest runs, not
        everything is as of the same time."""
        return Counters.parse(self.memory(GUEST_COUNTERS, GUEST_SIZE))

    def wait_answered(self, number: int, since: Counters | None = None,
                      timeout: float = STEP) -> Counters:
        """Wait until each queue of the guest program has so many right replies; more than it had
        since then. Its queues need not be equally fast."""
        deadline = time.monotonic() + timeout
        while True:
            counters = self.counters()
            if counters is not None and counters.answered_since(since) >= number:
                return counters
            if time.monotonic() > deadline:
                raise QemuError(f"{self.name}: no {number} replies in {timeout:.0f} s: {counters}"
                                f" since {since}")

    def stopped_counters(self) -> Counters:
        """Stop the guest; what its program has counted until then."""
        self.call("stop")
        counters = self.counters()
        if counters is None:
            raise QemuError(f"{self.name}: the guest has not begun to count")
        return counters

    def log(self) -> str:
        """What QEMU wrote to stdout and stderr."""
        return self.process.output()

    def wait_log(self, text: str, count: int = 1) -> None:
        """Wait until a text stands in log() so often."""
        self.wait(lambda: self.log().count(text) >= count or None, f"{text!r} in the log")

    def refused_state(self, state: str) -> str:
        """The line of log() on a device state ("RESUMING") that the driver refused. For a
        destination it names the errno: QEMU 10.0 takes any such error for EINVAL otherwise."""
        line = re.compile(rf"^.*Failed setting device state to {state}\..*(?=\n)", re.M)

        def condition() -> str | None:
            match = line.search(self.log())
            return match.group(0) if match else None
        return self.wait(condition, f"refused state {state}")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """QEMU executes nothing meanwhile. It may be killed."""
        pid = re.search(r"^pid (\d+)$", self.log(), re.M)
        assert pid is not None
        tasks = f"/proc/{pid[1]}/task/*/status"
        self.host.run(f"kill -STOP {pid[1]} || exit\n"
                      f"while grep '^State:' {tasks} | grep -qv 'T (stopped)'; do :; done")
        try:
            yield
        finally:
            if self.host.alive and self.process.poll() is None:
                self.host.run(f"kill -CONT {pid[1]}")

    def quit(self) -> None:
        """Let QEMU end in order."""
        if not self.monitor.closed:
            try:
                self.call("quit")
            except QemuError:
                pass        # it may end before it answers
        result = self.process.wait(STEP, check=False)
        self.monitor.close()
        if result.rc:
            raise QemuError(f"{self.name}: ended with status {result.rc}\n{result.out}")

    def kill(self) -> None:
        """End QEMU at once."""
        if self.process.poll() is None and self.host.alive:
            self.process.kill()
            self.process.wait(STEP, check=False)
        if hasattr(self, "monitor"):
            self.monitor.close()


class Guests:
    """Makes mdevs and VMs; takes them away at the end, whatever has happened to them."""

    def __init__(self) -> None:
        self._vms: list[Vm] = []
        self._mdevs: list[Mdev] = []

    def mdev(self, host: Host, ap: GuestAp, migratable: bool = True) -> Mdev:
        """Mdev.create()."""
        mdev = Mdev.create(host, ap, migratable)
        self._mdevs.append(mdev)
        return mdev

    def vm(self, mdev: Mdev, incoming: bool = False, **options: Any) -> Vm:
        """A Vm with that device, in its host."""
        vm = Vm(mdev.host, mdev, incoming, **options)
        self._vms.append(vm)
        return vm

    def remove(self, mdev: Mdev) -> None:
        """Remove a device before the end; nobody may use it."""
        mdev.remove()
        self._mdevs.remove(mdev)

    def __enter__(self) -> Guests:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        for vm in self._vms:
            vm.kill()
        for mdev in self._mdevs:
            if mdev.host.alive:
                mdev.remove()


@dataclass
class Outcome:
    """How a migration ended on both sides.

    source, target: final state of the migration; "" if that side has none.
    source_error, target_error: QEMU's description of the failure.
    info: query-migrate of the source.
    started, ended: time.monotonic().
    states: those that QEMU at the source put the device into.
    stopped: QEMU at the source stopped the guest, for good or until it learnt better.
    """

    source: str
    target: str
    source_error: str = ""
    target_error: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    states: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def completed(self) -> bool:
        """Whether both sides say so."""
        return self.source == self.target == "completed"

    @property
    def device_bytes(self) -> int:
        """Bytes of VFIO device state that the source sent."""
        return int(self.info.get("vfio", {}).get("transferred", 0))


class Migration:
    """A migration under way, over the network between the hosts."""

    def __init__(self, source: Vm, target: Vm, *capabilities: str) -> None:
        """Start it, with these of CAPABILITIES on both sides and without the others."""
        self.source = source
        self.target = target
        self._first = {vm: len(vm.events()) for vm in (source, target)}
        unknown = set(capabilities) - set(CAPABILITIES)
        if unknown:
            raise LabError(f"not one of CAPABILITIES: {' '.join(sorted(unknown))}")
        for vm in (source, target):
            vm.set_capabilities(**{name: name in capabilities for name in CAPABILITIES})
        uri = target.listen()
        self.started = time.monotonic()
        source.call("migrate", uri=uri)

    def wait(self, vm: Vm, *states: str, timeout: float = STEP) -> str:
        """Wait until one side enters one of the states."""
        return vm.wait_migration(*states, since=self._first[vm], timeout=timeout)

    def wait_device(self, vm: Vm, state: str) -> None:
        """Wait until QEMU on one side has put the device into a state ("pre-copy", ...)."""
        vm.wait(lambda: state in self.device_states(vm) or None, f"device state {state}")

    def device_states(self, vm: Vm) -> list[str]:
        """The states that QEMU on one side has put the device into so far; what it tells
        before it sets some of them ("...-prepare") is left out."""
        states = [str(e.data["device-state"])
                  for e in vm.events("VFIO_MIGRATION", self._first[vm])]
        return [state for state in states if not state.endswith("-prepare")]

    def go_on(self) -> None:
        """Let a migration that waits midway go on."""
        try:
            self.source.call("migrate-continue", state=MIDWAY)
        except QemuError:
            pass    # it has noticed something and does not wait any more

    def _settled(self) -> bool | None:
        states = self.device_states(self.source)
        return not states or states[-1] in ("running", "stop") or None

    def outcome(self, timeout: float = STEP) -> Outcome:
        """Wait for the end on both sides, and of the session of the source's device."""
        ends = [self.wait(vm, *FINAL, timeout=timeout) for vm in (self.source, self.target)]
        ended = time.monotonic()
        self.source.wait(self._settled, "end of the device's session")
        infos = [vm.migration() for vm in (self.source, self.target)]
        return Outcome(ends[0], ends[1], str(infos[0].get("error-desc", "")),
                       str(infos[1].get("error-desc", "")), infos[0], self.started, ended,
                       self.device_states(self.source),
                       bool(self.source.events("STOP", self._first[self.source])))


def migrate(source: Vm, target: Vm, *capabilities: str, timeout: float = STEP) -> Outcome:
    """Start a migration and wait for its end."""
    return Migration(source, target, *capabilities).outcome(timeout)


@dataclass(frozen=True)
class Step:
    """A line of a timeline: seconds since its start, host, what happened there, bytes sent."""

    time: float
    host: str
    what: str
    sent: int | None = None


class Timeline:
    """What happened when and where; printed as a table."""

    def __init__(self, start: float | None = None) -> None:
        self._start = time.monotonic() if start is None else start
        self.steps: list[Step] = []

    def add(self, host: str, what: str, sent: int | None = None, at: float | None = None) -> None:
        """Note something, by default as of now."""
        now = time.monotonic() if at is None else at
        self.steps.append(Step(now - self._start, host, what, sent))

    def add_events(self, vm: Vm, since: int = 0, failure: str = "") -> None:
        """Note the migration events of a VM, from number since on; failure: why it failed."""
        for event in vm.events(since=since):
            if event.name == "MIGRATION":
                status = str(event.data["status"])
                if failure and status == "failed":
                    status += f": {failure}"
                self.add(vm.host.name, f"migration {status}", event.sent, event.time)
            elif event.name == "VFIO_MIGRATION":
                self.add(vm.host.name, f"vfio-ap device {event.data['device-state']}", None,
                         event.time)

    def table(self) -> str:
        """As text, in order of time."""
        lines = [f"{'host':<5} {'time/s':>8}  {'state':<42} {'bytes':>10}"]
        for step in sorted(self.steps, key=lambda s: s.time):
            sent = "" if step.sent is None else f"{step.sent:>10}"
            lines.append(f"{step.host:<5} {step.time:>8.3f}  {step.what:<42} {sent}".rstrip())
        return "\n".join(lines)
