# SPDX-License-Identifier: GPL-2.0
"""QEMU in an emulated host as the client of vfio_ap.

QEMU is built from Debian's source with patches/qemu (lab.image.client). A guest executes the
program that it is given (GUEST). Without a program it waits for interrupts that never come:

    vm = Vm(a, Mdev.create(a, GuestAp("05,06", "04")), kernel=GUEST)
    vm.wait_answered(10)
    assert not vm.counters().faults(), vm.counters()
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from lab.common import speed
from lab.common.errors import LabError
from lab.guest.counters import GUEST_COUNTERS, GUEST_HEADER, GUEST_QUEUE, GUEST_SIZE, Counters
from lab.guest.mdev import GuestAp, Mdev
from lab.guest.qmp import STEP, Event, Monitor, QemuError
from lab.host.host import Host
from lab.host.process import Process

T = TypeVar("T")
V = TypeVar("V", bound="Vm")

# Error of query-migrate for a device whose `migratable` is 0.
HELD_OFF = "The administrator of the host does not allow migration"
PROGRAM = "/lab/bin/qemu-system-s390x"
# Of Debian's package
FIRMWARE = "/usr/share/qemu"
IDLE = "/lab/bin/idle"
INJECT = "/lab/bin/vfio-inject"
# QEMU listens on its monitor by then.
KVM_READY = "kvm_init_vcpu"
# QEMU has read `migratable`, and follows it when the monitor answers the next command.
MIGRATABLE = "vfio_ap_migratable"
# MiB. QEMU sends few pages (the guest has not written any of them), but it looks at each page.
MEMORY = 16
# QEMU's default for max-bandwidth, in bytes per second.
BANDWIDTH = 128 * 2**20

_numbers = itertools.count()


class Vm:
    """A QEMU with KVM in an emulated host, with a vfio-ap device if it gets an mdev.

    QEMU starts in the background. ready() waits until it can be used, and raises QemuError if it
    cannot; Guests.vm() calls it.
    """

    # Milliseconds that the guest may be stopped. QEMU goes on sending memory until it expects to
    # meet this, by the bandwidth that it measured: in an emulated host that is some KiB/s.
    DOWNTIME = 1_000_000

    def __init__(self, host: Host, mdev: Mdev | None, incoming: bool = False,
                 memory: int = MEMORY, trace: tuple[str, ...] = (), started: bool = True,
                 kernel: str = "", iommufd: bool = False,
                 machine: str = "s390-ccw-virtio", options: tuple[str, ...] = (),
                 added: bool = True) -> None:
        """memory: MiB. machine: its type, which both sides of a migration need. trace: tracepoints
        of QEMU, for log(). started: let the guest run, now or when it has come in. kernel: file
        that the guest executes; without, it is idle. iommufd: use that in the place of a VFIO
        container. options: more of QEMU's options. added: ready() adds the device."""
        self.host = host
        self.mdev = mdev
        self.memory_size = memory
        number = next(_numbers)
        self.name = f"{host.name}.qemu{number}"
        self._port = 4400 + number % 1000
        self._migration_port = 5400 + number % 1000
        # KVM has AP interrupts for guests though the CPU that is emulated here has none.
        cpu = "host,ap=on,apqci=on,apft=on,apqi=on" if kernel else "host"
        argv = [PROGRAM, "-L", FIRMWARE, "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", machine, "-accel", "kvm", "-cpu", cpu,
                "-m", str(memory), "-qmp", f"tcp:0.0.0.0:{self._port},server=on,wait=off"]
        argv += ["-kernel", kernel or IDLE, *options]
        if iommufd:
            argv += ["-object", "iommufd,id=iommufd0"]
        if incoming:
            argv += ["-incoming", "defer"]
        if not (incoming and started):
            argv += ["-S"]
        for event in (KVM_READY, MIGRATABLE, *trace):
            argv += ["-trace", event]
        self._device: dict[str, Any] = {"iommufd": "iommufd0"} if iommufd else {}
        self._cont = started and not incoming
        self._added = added
        self._monitor: Monitor | None = None
        self._killed = False
        self.process = host.start("echo pid $$; exec " + shlex.join(argv))

    def ready(self) -> None:
        """Wait until QEMU has the device, and runs the guest if it is to."""
        if self._monitor is not None or self._killed:
            return
        try:
            self.process.wait_output(f"^{KVM_READY} ", STEP)
            self._monitor = Monitor(self.name, self.host.forward(self._port))
            self.set_capabilities(events=True)
            self.allow_switchover()
            if self.mdev is not None and self._added:
                self.add_device()
                reasons = [r for r in self.blockers() if HELD_OFF not in r]
                if reasons:
                    raise QemuError(f"QEMU will not migrate: {reasons}")
            if self._cont:
                self.call("cont")
        except LabError as error:
            self.kill()
            raise QemuError(f"{self.name}: {error}\n{self.process.output()}") from error

    def add_device(self, name: str = "ap0") -> None:
        """Plug the vfio-ap device in."""
        assert self.mdev is not None
        self.call("device_add", driver="vfio-ap", id=name, sysfsdev=self.mdev.path,
                  migration_events=True, **self._device)

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor."""
        if self._monitor is None:
            raise QemuError(f"{self.name}: is not ready")
        return self._monitor

    def call(self, command: str, timeout: float = STEP, oob: bool = False,
             **arguments: object) -> Any:
        """Execute a QMP command; '_' stands for '-' in argument names. oob: see Monitor."""
        return self.monitor.call(command, timeout, oob, **arguments)

    def status(self) -> str:
        """The run state of the guest ("prelaunch", "postmigrate", ...)."""
        return str(self.call("query-status")["status"])

    def migration(self) -> dict[str, Any]:
        """The answer of query-migrate."""
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

    def allow_switchover(self) -> None:
        """Let a migration stop the guest, however long that takes."""
        self.call("migrate-set-parameters", downtime_limit=self.DOWNTIME,
                  avail_switchover_bandwidth=0, max_bandwidth=BANDWIDTH)

    def forbid_switchover(self) -> None:
        """Keep migrations in pre-copy: QEMU sends changed pages, and the data of the device.

        QEMU stops the guest if the rest fits into downtime-limit. One byte fits
        into 1 ms at 1000 bytes/s, and the state of a device is longer. QEMU computes that limit
        after 100 ms. Until then it stops the guest as soon as nothing is left of its memory, so
        memory must take longer: each page takes nine bytes at least."""
        pages = self.memory_size * 256
        self.call("migrate-set-parameters", downtime_limit=1, avail_switchover_bandwidth=1000,
                  max_bandwidth=pages * 9 * 3)

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
        deadline = time.monotonic() + speed.scaled(timeout)
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
        """The guest program's counters; None before it has begun. If the guest runs, they are not
        all as of the same time."""
        return Counters.parse(self.memory(GUEST_COUNTERS, GUEST_SIZE))

    def wait_answered(self, number: int, since: Counters | None = None,
                      timeout: float = STEP) -> Counters:
        """Wait until each queue of the guest program has so many right replies; more than it had
        since then. Its queues need not be equally fast."""
        deadline = time.monotonic() + speed.scaled(timeout)
        while True:
            counters = self.counters()
            if counters is not None and counters.answered_since(since) >= number:
                return counters
            if time.monotonic() > deadline:
                raise QemuError(f"{self.name}: no {number} replies in {timeout:.0f} s: {counters}"
                                f" since {since}")

    def stopped_counters(self) -> Counters:
        """Stop the guest; return the counters of its program."""
        self.call("stop")
        counters = self.counters()
        if counters is None:
            raise QemuError(f"{self.name}: the guest has not begun to count")
        return counters

    def log(self) -> str:
        """QEMU's stdout and stderr."""
        return self.process.output()

    def wait_log(self, text: str, count: int = 1) -> None:
        """Wait until log() contains a text count times."""
        self.wait(lambda: self.log().count(text) >= count or None, f"{text!r} in the log")

    def refused_state(self, state: str) -> str:
        """The line of log() on a device state ("RESUMING") that the driver refused. For a
        destination it names the errno: QEMU 10.0 takes any such error for EINVAL otherwise."""
        line = re.compile(rf"^.*Failed setting device state to {state}\..*(?=\n)", re.M)

        def condition() -> str | None:
            match = line.search(self.log())
            return match.group(0) if match else None
        return self.wait(condition, f"refused state {state}")

    @property
    def pid(self) -> int:
        """QEMU's process in the host."""
        pid = re.search(r"^pid (\d+)$", self.log(), re.M)
        assert pid is not None
        return int(pid[1])

    def inject(self, *faults: str) -> Process:
        """Let ioctls of QEMU fail: "STOP_COPY=22", as lab/programs/inject/inject.c describes it.
        The process that does so ends when each has failed once."""
        injector = self.host.start(shlex.join([INJECT, str(self.pid), *faults]))
        injector.wait_output("^ready$", STEP)
        return injector

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """QEMU executes nothing while the context lasts. It may be killed."""
        tasks = f"/proc/{self.pid}/task/*/status"
        self.host.run(f"kill -STOP {self.pid} || exit\n"
                      f"while grep '^State:' {tasks} | grep -qv 'T (stopped)'; do :; done")
        try:
            yield
        finally:
            if self.host.alive and self.process.poll() is None:
                self.host.run(f"kill -CONT {self.pid}")

    def quit(self) -> None:
        """Let QEMU end in order."""
        monitor = self.monitor
        if not monitor.closed:
            try:
                self.call("quit")
            except QemuError:
                pass        # it may end before it answers
        result = self.process.wait(STEP, check=False)
        monitor.close()
        if result.rc:
            raise QemuError(f"{self.name}: ended with status {result.rc}\n{result.out}")

    def kill(self) -> None:
        """End QEMU at once."""
        self._killed = True
        if self.process.poll() is None and self.host.alive:
            self.process.kill()
            self.process.wait(STEP, check=False)
        if self._monitor is not None:
            self._monitor.close()


class Guests:
    """Makes mdevs and VMs; removes them at the end, in every state."""

    def __init__(self) -> None:
        self._vms: list[Vm] = []
        self._mdevs: list[Mdev] = []

    def mdev(self, host: Host, ap: GuestAp, migratable: bool = True, ident: str = "") -> Mdev:
        """Mdev.create()."""
        mdev = Mdev.create(host, ap, migratable, ident)
        self._mdevs.append(mdev)
        return mdev

    def vm(self, mdev: Mdev, incoming: bool = False, wait: bool = True, **options: Any) -> Vm:
        """A Vm with that device, in its host; add()."""
        return self.add(Vm(mdev.host, mdev, incoming, **options), wait)

    def add(self, vm: V, wait: bool = True) -> V:
        """Kill that VM at the end. wait=False: it gets ready with the next one, so that source
        and target start at the same time."""
        self._vms.append(vm)
        if wait:
            for starting in self._vms:
                starting.ready()
        return vm

    def remove(self, mdev: Mdev) -> None:
        """Remove a device, which must not be in use, before the end."""
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
