# SPDX-License-Identifier: GPL-2.0
"""`make bench-emulator`: the emulator of the lab beside Debian's binary of QEMU, in one run.

The figures are seconds of CPU time of the emulator, all of its threads: other work on the machine
changes them less than the time on the clock. Each is the median of a few runs, which alternate
between the two. Debian's QEMU has neither SIE nor AP adapters, so the kselftest does not run there.
"""

from __future__ import annotations

import os
import pathlib
import statistics
from collections.abc import Sequence

from lab.common import config, progress
from lab.common.run import run
from lab.host.host import Host
from lab.host.lab import Lab
from lab.image import qemu, roots

FLAVOUR = "debug"
RUNS = 3
# Half of the system calls read, half write.
CALLS = 100_000
KSELFTEST = "migration_state_test"
# Seconds on an idle machine.
LIMIT = 900.0

# The rows: seconds.
Figures = dict[str, float]


def debian() -> list[str]:
    """The command that runs Debian's binary, with the libraries and the firmware of its root."""
    roots.unpack(roots.DEBIAN_QEMU)
    root = roots.DEBIAN_QEMU.folder
    libraries = root / "usr/lib/x86_64-linux-gnu"
    return [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", str(libraries),
            f"{root}/usr/bin/{qemu.PROGRAM}", "-L", f"{root}/usr/share/qemu"]


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used, in user space and in the kernel."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def spent(host: Host, command: str) -> float:
    """The CPU time of the emulator while the host runs a command."""
    before = cpu_seconds(host.emulator_pid)
    host.run(command, timeout=LIMIT)
    return cpu_seconds(host.emulator_pid) - before


def measure(emulator: Sequence[str], name: str) -> Figures:
    """The figures of an emulator: a boot of a host without adapters, then the rest."""
    found: Figures = {}
    with Lab(FLAVOUR, f"bench-emulator-{name}", emulator) as lab:
        host = lab.boot("bare")
        found["boot of the debug kernel"] = cpu_seconds(host.emulator_pid)
        found[f"{CALLS:,} system calls"] = spent(
            host, f"dd if=/dev/zero of=/dev/null bs=1 count={CALLS // 2} 2>/dev/null")
        host.kill()
        if "ap-adapter" in run([*emulator, "-M", "s390-ccw-virtio", "-device", "help"]).out:
            found[KSELFTEST] = spent(lab.boot("a"), f"cd /lab/selftests/{config.SELFTEST} && "
                                     f"exec ./{KSELFTEST} >/dev/null")
    return found


def version(emulator: Sequence[str]) -> str:
    """The version of an emulator."""
    return run([*emulator, "--version"]).out.splitlines()[0].removeprefix("QEMU emulator version ")


def main() -> int:
    """Measure both and print the table."""
    emulators = {"debian": debian(), "lab": qemu.emulator()}
    runs: dict[str, list[Figures]] = {name: [] for name in emulators}
    for number in range(RUNS):
        for name, emulator in emulators.items():
            progress.say(f"run {number + 1} of {RUNS}: {name}")
            runs[name].append(measure(emulator, name))
    print(f"| CPU seconds | Debian's {version(emulators['debian'])} | "
          f"the lab's {version(emulators['lab'])} |\n|---|---:|---:|")
    for row in runs["lab"][0]:
        cells = [[figures[row] for figures in runs[name] if row in figures] for name in emulators]
        texts = [f"{statistics.median(cell):.1f}" if cell else "no adapters" for cell in cells]
        print(f"| {row} | {' | '.join(texts)} |")
    return 0
