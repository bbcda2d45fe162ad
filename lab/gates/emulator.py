# SPDX-License-Identifier: GPL-2.0
"""The gates on the patches of QEMU in patches/qemu/machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab.common import config
from lab.common.run import run
from lab.gates.schedule import Gate
from lab.image import qemu
from lab.series.git import KernelTree
from lab.series.patches import Patch, git_am

TIMEOUT = 300       # seconds for one run of checkpatch


def gates() -> Iterator[Gate]:
    """The gates of check-fast."""
    yield Gate("qemu.am", am, cost=10)
    for patch in qemu.machine_patches():
        yield Gate(f"qemu.checkpatch.{patch.name.removesuffix('.patch')}", checkpatch(patch),
                   cost=len(patch.data) / 10_000)


def more_gates() -> Iterator[Gate]:
    """What make check has beyond check-fast."""
    yield Gate("qemu.build", build_each, builds=True)


def am() -> list[str]:
    """git am of the patches on pristine source gives the tree that is built."""
    patches = qemu.machine_patches()
    if not patches:
        return [f"{qemu.PATCHES}: holds no patch"]
    tree = KernelTree(config.QEMU)
    names = tree.paths("diff", "-z", "--name-only", git_am(tree, patches), tree.head())
    return [f"{name}: not as in {config.QEMU}" for name in names]


def checkpatch(patch: Patch) -> Callable[[], list[str]]:
    """The gate that runs QEMU's checkpatch on a patch."""
    def gate() -> list[str]:
        done = run(["perl", "scripts/checkpatch.pl", "--no-signoff", "--terse", "--no-summary",
                    qemu.PATCHES / patch.name], cwd=config.QEMU, timeout=TIMEOUT, merge=True)
        lines = done.out.strip().splitlines()
        return lines or ([f"checkpatch: exit status {done.rc}"] if done.rc else [])
    return gate


def build_each() -> list[str]:
    """Each patch builds without a warning (QEMU is configured with --enable-werror)."""
    tree = KernelTree(config.QEMU)
    place = config.BUILD / "check"
    place.mkdir(parents=True, exist_ok=True)
    source, objects = place / "qemu", place / "qemu-machine"
    tree.run("worktree", "prune")
    if not source.exists():
        tree.run("worktree", "add", "-q", "--detach", str(source), tree.pristine())
    work = KernelTree(source)
    found = []
    for commit in tree.commits(tree.head()):
        work.run("checkout", "-q", "--force", commit.id)
        try:
            qemu.build(source, objects)
        except qemu.QemuError as error:
            found += [f"{commit.subject}: {line}" for line in str(error).splitlines()]
    return found
