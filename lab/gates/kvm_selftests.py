# SPDX-License-Identifier: GPL-2.0
"""The kernel's KVM selftests for s390x, in an emulated host with the debug kernel.

They are the independent check of SIE in the emulator. lab/gates/kvm_selftests.toml lists failures
that gaps of the emulator cause. A failure that is not listed is a finding, and so is a listed one
that does not occur.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.common import config, progress
from lab.common.run import CommandFailed, logged
from lab.gates.schedule import Gate
from lab.host.errors import CommandTimeout, HostError
from lab.host.host import Host
from lab.host.lab import Lab
from lab.image.kernel import MAKE
from lab.report import tap

LIST = config.REPO / "lab/gates/kvm_selftests.toml"
FLAVOUR = "debug"
# Below config.share(); in a host below /lab.
FOLDER = "kvm-selftests"
COLLECTION = "kvm"
# Seconds for one program on an idle machine.
LIMIT = 300.0
SKIPPED = 4


@dataclass(frozen=True)
class Gap:
    """A failing line (a regular expression) of a program, and the gap that causes it."""

    line: str
    gap: str


@dataclass(frozen=True)
class Listed:
    """The list: gaps by program, arguments of programs whose defaults take too long, and the
    reasons why programs do not run."""

    gaps: Mapping[str, Sequence[Gap]]
    arguments: Mapping[str, str]
    not_run: Mapping[str, str]

    @property
    def programs(self) -> set[str]:
        """The programs that the list names."""
        return {*self.gaps, *self.arguments, *self.not_run}


def gates() -> Iterator[Gate]:
    """The gate of make check."""
    yield Gate("kvm-selftests", check, builds=True)


def read_list(path: pathlib.Path = LIST) -> Listed:
    """Read lab/gates/kvm_selftests.toml."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    arguments, not_run = table.pop("arguments", {}), table.pop("not-run", {})
    return Listed({name: [Gap(line, entry["gap"]) for entry in entries for line in entry["lines"]]
                   for name, entries in table.items()}, arguments, not_run)


def failing_lines(rc: int, out: str) -> list[str]:
    """The lines of a program's output that report a failed or skipped test. With a status other
    than 0 there is at least one."""
    found = re.findall(r"^(?:not ok \d+ .*|ok \d+ (?:.* )?# SKIP.*)", out, re.M)
    found += [f"{place}: {condition}" for place, condition in re.findall(
        r"^==== Test Assertion Failure ====\n *(\S+): (.*)", out, re.M)]
    if rc == SKIPPED:
        found += re.findall(r"^1\.\.0 # SKIP.*", out, re.M)
    if rc and not found:
        found = [f"exit status {rc}"]
    return found


def compare(name: str, lines: Sequence[str], gaps: Sequence[Gap]) -> list[str]:
    """The findings on a program: failures that are not listed, and listed ones that are absent."""
    found = [f"{name}: not in {LIST.name}: {line}" for line in lines
             if not any(re.fullmatch(gap.line, line) for gap in gaps)]
    return found + [f"{name}: does not fail any more, remove from {LIST.name}: {gap.line}"
                    for gap in gaps if not any(re.fullmatch(gap.line, line) for line in lines)]


def build() -> list[str]:
    """Build and install the programs; their names."""
    share = config.share(FLAVOUR)
    target = config.objects(FLAVOUR)
    logged("KVM selftests", [*MAKE, f"O={target}", f"-j{os.cpu_count() or 1}",
                             "-C", "tools/testing/selftests", f"TARGETS={COLLECTION}",
                             "FORCE_TARGETS=1", "SKIP_TARGETS=",
                             f"INSTALL_PATH={share / FOLDER}", "install"],
           config.LOGS / "kvm-selftests.log", cwd=config.LINUX)
    listing = (share / FOLDER / "kselftest-list.txt").read_text(encoding="utf-8")
    return [program for _, program in tap.kselftest_programs(listing)]


def run_program(host: Host, name: str, arguments: str = "") -> tuple[list[str], str]:
    """The failing lines of a program, and its output."""
    process = host.start(f"cd /lab/{FOLDER}/{COLLECTION} && exec ./{shlex.quote(name)} {arguments}")
    try:
        result = process.wait(LIMIT, check=False)
    except CommandTimeout:
        return [f"no end after {LIMIT:.0f} s"], process.output()
    return failing_lines(result.rc, result.out), result.out


def boot(lab: Lab) -> Host:
    """Boot a host that runs the programs."""
    host = lab.boot("bare")
    # KVM waits for a grace period whenever memory slots or eventfds change.
    host.run("modprobe kvm && echo 1 >/sys/kernel/rcu_expedited")
    return host


def run_all(lab: Lab, programs: Sequence[str], listed: Listed) -> list[str]:
    """The findings on all programs. A host that dies or reports something is a finding, too."""
    found = [f"{name}: listed and not built"
             for name in sorted(listed.programs.difference(programs))]
    host: Host | None = None
    for name in programs:
        if name in listed.not_run:
            continue
        if host is None:
            host = boot(lab)
        progress.say(f"kvm-selftests: {name}")
        try:
            lines, out = run_program(host, name, listed.arguments.get(name, ""))
            host.check()
        except HostError as error:
            found.append(f"{name}: {error}")
            host.reports.clear()
            host.kill()
            host = None
            continue
        findings = compare(name, lines, listed.gaps.get(name, ()))
        found += [*findings, *out.splitlines()[-20:]] if findings else []
    return found


def check() -> list[str]:
    """Build the kernel and the programs, run them, compare with the list."""
    try:
        logged(f"{FLAVOUR} kernel and hosts", [sys.executable, "-m", "lab", "prepare", FLAVOUR],
               config.LOGS / "kvm-selftests-prepare.log", cwd=config.REPO)
        programs = build()
    except CommandFailed as error:
        return str(error).splitlines()
    with Lab(FLAVOUR, "kvm-selftests") as lab:
        return run_all(lab, programs, read_list())
