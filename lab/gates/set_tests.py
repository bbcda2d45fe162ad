# SPDX-License-Identifier: GPL-2.0
"""The kernel of a set and its prerequisites, tested with the final tests.

A copy of the lab, whose patches/ has these sets and one patch that lays the final tests over
them, builds a kernel of its own and runs the tests that patches/TREE/SET/tests names, a glob per
line. Downloads and root file systems are those of the lab that it is a copy of.
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
from lab.series.chains import Chains
from lab.series.git import KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.sets import SETS, with_needs

# Folders of build/ that the copy shares; they are complete, so the copy does not change them.
SHARED = (config.CACHE, config.BUILD / "python", roots.HOSTS.folder, config.IMAGE,
          roots.HOSTS.folder.with_name(f"{roots.HOSTS.folder.name}.json"),
          roots.CLIENT.folder, roots.CLIENT.folder.with_name(f"{roots.CLIENT.folder.name}.json"),
          config.IMAGE.with_name(f"{config.IMAGE.name}.from"))
# The tests, and the files from which they take the ABI and the code that runs in user space, too.
# vfio.h has the number of interrupts of the last set: sets without `migratable` report one that
# they lack, and leave out the tests of that.
OVERLAY = (f"tools/testing/selftests/{config.SELFTEST}/", "tools/testing/selftests/Makefile",
           "include/uapi/linux/vfio.h", "include/uapi/linux/vfio_ap.h",
           "drivers/s390/crypto/vfio_ap_stream.c", "drivers/s390/crypto/vfio_ap_stream.h")
# The last one: its patches come after those of any other.
OVERLAY_SET = SETS["linux"][-1].name
# The leak scans are for the debug kernel; this shows that nothing else is needed.
FLAVOUR = "fast"
RUN_TIMEOUT = 3600


def findings_of(results: str) -> list[str]:
    """The tests that failed and their messages, out of the output of `make test`."""
    found: list[str] = []
    bad = False
    for line in results.splitlines():
        if line.startswith(("ok ", "not ok ")):
            bad = line.startswith("not ok ")
        if bad:
            found.append(line.removeprefix("#").strip())
    return found


def globs(layout: Layout, name: str) -> list[str]:
    """The tests that a set names."""
    file = layout.patches / name / "tests"
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def overlay(tree: KernelTree, tip: str, final: str = "HEAD") -> list[patches.Patch]:
    """A patch on the commit tip that puts the tests of the commit final there."""
    differ = [path for path in tree.paths("diff", "-z", "--no-renames", "--name-only", tip, final)
              if path.startswith(OVERLAY)]
    if not differ:
        return []
    made = tree.commit_files(tip, tree.files(final, differ), "The final tests\n")
    return patches.format_range(tree, tip, made, OVERLAY_SET)


def copy_lab(layout: Layout, copy: Layout, series: Sequence[patches.Patch]) -> None:
    """The repository's files as they are in the work tree, with these patches only."""
    shutil.rmtree(copy.root, ignore_errors=True)
    repo = KernelTree(layout.root)
    for name in repo.paths("ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        if name in ("Makefile", "setup.cfg") or name.startswith(("lab/", "patches/qemu/")):
            if (layout.root / name).is_file():
                target = copy.root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(layout.root / name, target)
    patches.write_patches(copy, series)


def link_shared(build: pathlib.Path) -> None:
    """Make build/ of the copy, with links to the shared folders."""
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


def run_set(layout: Layout, chains: Chains, series: Sequence[patches.Patch], name: str,
            patterns: Sequence[str] = (), final: str = "HEAD") -> list[str]:
    """Build the kernel of a set and run its tests, or patterns, as the commit final has them; the
    tests that fail."""
    patterns = patterns or globs(layout, name)
    if not patterns:
        return [f"patches/{layout.kind}/{name}/tests: names no test"]
    # All sets share the folder: a kernel is built on the objects of the one before.
    place = config.BUILD / "sets"
    logs = config.LOGS / "sets" / name
    status, _ = lab_command(layout.root, ["prepare"], logs / "prepare.log", {})
    if status:
        raise SeriesError(f"the hosts' root file systems cannot be made (log: {logs}/prepare.log)")
    copy = Layout(place / "lab", place / "build" / layout.kind, place / "out", layout.kind)
    needs = with_needs(layout.sets, name)
    copy_lab(layout, copy, [*(patch for patch in series if patch.set in needs),
                            *overlay(KernelTree(layout.tree), chains.tip(name), final)])
    link_shared(place / "build")
    progress.say(f"{name}: make test T='{' '.join(patterns)}' FLAVOUR={FLAVOUR}")
    status, results = lab_command(copy.root, ["test"], logs / "test.log", {
        "LAB_BUILD": str(place / "build"), "LAB_OUT": str(place / "out"),
        "T": " ".join(patterns), "REPEAT": "1", "FLAVOUR": FLAVOUR})
    last = results.strip().splitlines()[-1:] or ["no test ran"]
    progress.say(f"{name}: {last[0]}")
    found = findings_of(results)
    return found or ([f"{last[0]} (log: {logs}/test.log)"] if status else [])
