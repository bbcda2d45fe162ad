# SPDX-License-Identifier: GPL-2.0
"""The series without one of its groups, built and tested as if it had never had more.

A copy of the lab, whose patches/ lacks the group, builds a kernel of its own and runs its tests;
downloads and root file systems are those of the lab that it is a copy of. The emulator is built
anew.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from collections.abc import Mapping, Sequence

from lab.common import config, progress
from lab.common.run import run
from lab.image import roots
from lab.series import patches
from lab.series.git import KernelTree, SeriesError

# What the copy takes from build/; it changes none of them, as they are ready.
SHARED = (config.CACHE, config.BUILD / "python", roots.HOSTS.folder, config.IMAGE,
          roots.HOSTS.folder.with_name(f"{roots.HOSTS.folder.name}.json"),
          config.IMAGE.with_name(f"{config.IMAGE.name}.from"))
# All in one host, and a stock QEMU that migrates and is refused; what the group brings is tested
# by pair.migratable and pair.policy.
TESTS = ("a.*", "pair.migrate.*", "pair.refuse.*")
# The leak scans are for the debug kernel; this shows that nothing needs the group.
FLAVOUR = "fast"
RUN_TIMEOUT = 3600


def findings_of(results: str) -> list[str]:
    """The tests that failed and what was said of them, out of what `make test` printed."""
    found: list[str] = []
    bad = False
    for line in results.splitlines():
        if line.startswith(("ok ", "not ok ")):
            bad = line.startswith("not ok ")
        if bad:
            found.append(line.removeprefix("#").strip())
    return found


def copy_lab(root: pathlib.Path, where: pathlib.Path, rest: Sequence[patches.Patch]) -> None:
    """The repository's files as they are in the work tree, with these patches only."""
    shutil.rmtree(where, ignore_errors=True)
    repo = KernelTree(root)
    for name in repo.paths("ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        if name == "Makefile" or name.startswith(("lab/", "patches/qemu/")):
            if (root / name).is_file():
                target = where / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, target)
    patches.write_patches(where / "patches", rest)


def link_shared(build: pathlib.Path) -> None:
    """build/ of the copy, with links to what it shares."""
    build.mkdir(parents=True, exist_ok=True)
    for path in SHARED:
        link = build / path.name
        if not link.is_symlink():
            link.symlink_to(path)


def lab_command(where: pathlib.Path, args: Sequence[str], log: pathlib.Path,
                env: Mapping[str, str]) -> tuple[int, str]:
    """A command of the lab in that folder: its status and results; its messages are logged."""
    log.parent.mkdir(parents=True, exist_ok=True)
    done = run([sys.executable, "-m", "lab", *args], cwd=where, timeout=RUN_TIMEOUT,
               env={**os.environ, **env})
    log.write_bytes(done.stderr)
    return done.rc, done.out


def test(group: str, root: pathlib.Path, series: Sequence[patches.Patch],
         patterns: Sequence[str] = TESTS) -> list[str]:
    """Build and test the series without the group; the tests that fail."""
    place = config.BUILD / f"without-{group}"
    logs = config.LOGS / f"without-{group}"
    status, _ = lab_command(root, ["prepare"], logs / "prepare.log", {})
    if status:
        raise SeriesError(f"the hosts' root file systems cannot be made (log: {logs}/prepare.log)")
    copy_lab(root, place / "lab", [patch for patch in series if patch.group != group])
    link_shared(place / "build")
    found: list[str] = []
    for pattern in patterns:
        progress.say(f"without [{group}]: make test T='{pattern}' FLAVOUR={FLAVOUR}")
        log = logs / f"{pattern.rstrip('.*')}.log"
        status, results = lab_command(place / "lab", ["test"], log, {
            "LAB_BUILD": str(place / "build"), "LAB_OUT": str(place / "out"),
            "T": pattern, "REPEAT": "1", "FLAVOUR": FLAVOUR})
        last = results.strip().splitlines()[-1:] or ["no test ran"]
        progress.say(f"without [{group}]: {pattern}: {last[0]}")
        here = findings_of(results)
        if status and not here:
            here = [f"{pattern}: {last[0]} (log: {log})"]
        found += here
    return found
