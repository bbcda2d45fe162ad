# SPDX-License-Identifier: GPL-2.0
"""The Linux guest (lab.image.linux_guest) under a QEMU in an emulated host.

    vm = guests.add(LinuxVm(guests.mdev(a, AP)))
    guest = LinuxGuest(vm)
    guest.wait_replies(10)
    assert not guest.faults(), guest.faults()

Its program crypto_load keeps requests in each of its AP queues, compares the replies, and prints
counters on the console; lab/programs/linux_guest/crypto_load.c has the format.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lab.common import speed
from lab.guest.mdev import Mdev
from lab.guest.qmp import STEP, QemuError
from lab.guest.vm import Vm
from lab.image.linux_guest import FOLDER, INITRAMFS, KERNEL

T = TypeVar("T")

# MiB: what Debian's kernel and each of the programs need. QEMU sends 34 MB of the latter.
CHECKS_MEMORY, MEMORY = 256, 80
# Seconds until the guest has booted, under the debug kernel of an idle machine.
BOOT = 300.0
# Seconds after which the console is read again though it has not changed
LOOK = 1.0
# What the kernel of the guest prints with a time in front of it.
KERNEL_LINE = re.compile(r"^\[ *\d+\.\d+\] .*$", re.M)
# Messages on the speed of the machine, which is emulated.
SLOW = re.compile(r"hrtimer: interrupt took \d+ ns$")
REPORT = re.compile(r"Kernel panic|Oops|WARNING: |BUG: |rcu: INFO|soft lockup|blocked for more")

_numbers = itertools.count()


def boot_options(cpus: int = 1) -> list[str]:
    """QEMU's options for the guest's processors and initramfs."""
    return ["-smp", str(cpus), "-action", "panic=exit-failure",
            "-initrd", f"/lab/{FOLDER}/{INITRAMFS}"]


def arguments(cpus: int = 1, memory: int = CHECKS_MEMORY) -> list[str]:
    """QEMU's arguments for the guest; its console is QEMU's standard output. memory: MiB.

    QEMU ends with status 0 when the guest powers off, with status 1 when its kernel panics."""
    return [*boot_options(cpus), "-m", str(memory), "-kernel", f"/lab/{FOLDER}/{KERNEL}",
            "-chardev", "stdio,id=console,signal=off", "-device", "sclpconsole,chardev=console"]


class LinuxVm(Vm):
    """A Vm of the Linux guest with crypto_load."""

    # This guest writes to its memory, so QEMU has to send most of it before it stops the guest.
    DOWNTIME = 10_000
    # The first process. QEMU sends no content of a page of zeros: init_on_free makes them.
    COMMAND_LINE = "rdinit=/crypto_load init_on_free=1"

    def __init__(self, mdev: Mdev, incoming: bool = False, cpus: int = 1,
                 memory: int = MEMORY) -> None:
        """cpus: of the guest. memory: MiB."""
        self._console = f"{mdev.host.name}.console{next(_numbers)}"
        super().__init__(
            mdev.host, mdev, incoming, memory, kernel=f"/lab/{FOLDER}/{KERNEL}",
            options=(*boot_options(cpus), "-append", self.COMMAND_LINE,
                     "-chardev", f"file,id=console,path=/lab/results/{self._console}",
                     "-device", "sclpconsole,chardev=console"))

    def console(self) -> str:
        """The part of the guest's console that this QEMU has written."""
        path = self.host.path(self._console)
        return path.read_bytes().decode(errors="replace") if path.exists() else ""

    def answered(self) -> int | None:
        """Right replies in the last line of counters that this QEMU has written, for Watch."""
        # The guest may have moved, so the caller looks at the other console soon.
        self.host.wait_for(lambda: self.process.poll() is not None, 0.1)
        counts = parse_counts(self.console().replace("\r", ""))
        return sum(queue.right for queue in counts[-1].queues.values()) if counts else None


@dataclass(frozen=True)
class Requests:
    """Requests that crypto_load has counted for a queue."""

    sent: int
    right: int
    wrong: int
    failed: int


@dataclass(frozen=True)
class Count:
    """A line of counters. gap: seconds of the guest's clock, the longest time since the line before
    in which a queue with requests got no reply. queues: by APQN."""

    number: int
    gap: float
    queues: dict[str, Requests]

    @classmethod
    def parse(cls, number: str, gap: str, queues: str) -> Count:
        """From the words of the line."""
        found = {}
        for word in queues.split():
            apqn, *values = word.split(":")
            found[apqn] = Requests(*map(int, values))
        return cls(int(number), int(gap) / 1000, found)


def parse_counts(console: str) -> list[Count]:
    """All complete lines of counters."""
    return [Count.parse(*words) for words in
            re.findall(r"^guest: count (\d+) gap (\d+)((?: \S+)+)\n", console, re.M)]


def reached(counts: list[Count], number: int, since: Count | None = None) -> Count | None:
    """The last line of counters if each queue has so many right replies, or so many more than it
    had then."""
    if not counts:
        return None
    last = counts[-1]
    least = min(requests.right - (since.queues[apqn].right if since else 0)
                for apqn, requests in last.queues.items())
    return last if least >= number else None


def find_faults(console: str) -> list[str]:
    """Lines that a guest without a fault does not print: faults that crypto_load has found, reports
    of the kernel, and any of its messages between the first counters and the end, but those on the
    speed of the machine. Also counters that are missing, and queues with a wrong reply or a failed
    request."""
    found = re.findall(r"^guest: fault: .*$", console, re.M)
    found += [line for line in KERNEL_LINE.findall(console) if REPORT.search(line)]
    _, began, rest = console.partition("guest: count ")
    late = KERNEL_LINE.findall(rest.partition("guest: power off")[0]) if began else []
    found += [line for line in late if not SLOW.search(line)]
    counts = parse_counts(console)
    numbers = [count.number for count in counts]
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"lines of counters are missing: {numbers}")
    found += [f"{apqn}: {requests}" for count in counts[-1:]
              for apqn, requests in count.queues.items() if requests.wrong or requests.failed]
    return found


@dataclass(frozen=True)
class End:
    """The final counters of a queue. queued: messages that the AP bus of the guest has put into
    the queue's list, those of its kernel included."""

    requests: Requests
    queued: int


class LinuxGuest:
    """A Linux guest, in one VM after the other."""

    def __init__(self, vm: LinuxVm) -> None:
        self.vms = [vm]

    @property
    def vm(self) -> LinuxVm:
        """The VM that the guest is in."""
        return self.vms[-1]

    def moved(self, vm: LinuxVm) -> None:
        """The guest has arrived in another VM."""
        self.vms.append(vm)

    def console(self) -> str:
        """All that the guest has printed, in one VM after the other."""
        return "".join(vm.console() for vm in self.vms).replace("\r", "")

    def queues(self) -> dict[str, str]:
        """The type of the card of each queue that the guest has found, by APQN."""
        return dict(re.findall(r"^guest: queue (\S+) (\S+)\n", self.console(), re.M))

    def counts(self) -> list[Count]:
        """All lines of counters so far."""
        return parse_counts(self.console())

    def ends(self) -> dict[str, End]:
        """The final counters, by APQN."""
        return {apqn: End(Requests(*map(int, values[:4])), int(values[4])) for apqn, *values in
                re.findall(r"^guest: end (\S+) (\d+) (\d+) (\d+) (\d+) (\d+)\n", self.console(),
                           re.M)}

    def faults(self) -> list[str]:
        """find_faults() of the console."""
        return find_faults(self.console())

    def wait(self, condition: Callable[[list[Count]], T | None], what: str,
             timeout: float = STEP) -> T:
        """Wait until condition() gives something for the lines of counters."""
        deadline = time.monotonic() + speed.scaled(timeout)
        while True:
            vm, seen = self.vm, self.vm.console()
            found = condition(self.counts())
            if found is not None:
                return found
            ended = vm.process.poll() is not None
            if ended or time.monotonic() > deadline or "guest: fault: " in self.console():
                raise QemuError(f"{vm.name}: {'ended' if ended else 'gives up'} while waiting for: "
                                f"{what}\n{vm.log()}\n{self.console()[-4000:]}")
            vm.host.wait_for(lambda: vm.process.poll() is not None or vm.console() != seen, LOOK)

    def wait_replies(self, number: int, since: Count | None = None,
                     timeout: float = STEP) -> Count:
        """Wait until each queue has so many right replies, or so many more than it had then."""
        return self.wait(lambda counts: reached(counts, number, since),
                         f"{number} right replies of each queue", timeout)

    def last(self) -> Count:
        """The last line of counters."""
        return self.counts()[-1]

    def gap_since(self, count: Count) -> float:
        """The longest gap in the lines after that one; seconds of the guest's clock."""
        return max(line.gap for line in self.counts() if line.number > count.number)

    def power_off(self) -> dict[str, End]:
        """Ask the guest to power off, and wait until it has got its last replies and QEMU has
        ended; the final counters."""
        vm = self.vm
        vm.call("system_powerdown")
        result = vm.process.wait(STEP, check=False)
        vm.kill()
        if result.rc or "guest: power off" not in self.console():
            raise QemuError(f"{vm.name}: ended with status {result.rc}\n{result.out}\n"
                            f"{self.console()[-4000:]}")
        return self.ends()
