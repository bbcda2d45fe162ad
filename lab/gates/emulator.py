# SPDX-License-Identifier: GPL-2.0
"""The gates on the patches of QEMU in patches/qemu."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab.common import config
from lab.common.run import run
from lab.gates.schedule import Gate
from lab.image import client, qemu
from lab.series.git import KernelTree
from lab.series.layout import Layout
from lab.series.patches import Patch, git_am, load

TIMEOUT = 300       # seconds for one run of checkpatch
# checkpatch asks this about each patch that changes linux-headers/.
HEADERS = "imported from Linux, are you using scripts/update-linux-headers.sh?"


def gates() -> Iterator[Gate]:
    """The gates of check-fast."""
    yield Gate("qemu.am", am, cost=10)
    for patch in load(Layout.default("qemu")):
        name = f"{patch.set}.{patch.name.removesuffix('.patch')}"
        yield Gate(f"qemu.checkpatch.{name}", checkpatch(patch), cost=len(patch.data) / 10_000)


def more_gates() -> Iterator[Gate]:
    """The gates of make check that check-fast does not have."""
    yield Gate("qemu.build", build_each, builds=True)


def am() -> list[str]:
    """git am of the patches on pristine source gives the tree that is built; each set applies
    alone, too, as it is sent alone."""
    layout = Layout.default("qemu")
    tree = KernelTree(layout.tree)
    patches = load(layout)
    if not patches:
        return [f"{layout.patches}: holds no patch"]
    for one in layout.sets:
        git_am(tree, [patch for patch in patches if patch.set == one.name])
    names = tree.paths("diff", "-z", "--name-only", git_am(tree, patches), tree.head())
    return [f"{name}: not as in {layout.tree}" for name in names]


def checkpatch(patch: Patch) -> Callable[[], list[str]]:
    """The gate that runs QEMU's checkpatch on a patch."""
    def gate() -> list[str]:
        layout = Layout.default("qemu")
        done = run(["perl", "scripts/checkpatch.pl", "--no-signoff", "--terse", "--no-summary",
                    layout.patches / patch.path], cwd=layout.tree,
                   timeout=TIMEOUT, merge=True)
        lines = done.out.strip().splitlines()
        left = [line for line in lines if HEADERS not in line]
        return left or ([f"checkpatch: exit status {done.rc}"] if done.rc and not lines else [])
    return gate


def build_each() -> list[str]:
    """Each patch builds without a warning (QEMU is configured with --enable-werror)."""
    tree = KernelTree(config.QEMU)
    place = config.BUILD / "check"
    place.mkdir(parents=True, exist_ok=True)
    source = place / "qemu"
    builds = ((qemu.EMULATOR, place / "qemu-machine"), (client.recipe(), place / "qemu-client"))
    tree.run("worktree", "prune")
    if not source.exists():
        tree.run("worktree", "add", "-q", "--detach", str(source), tree.pristine())
    work = KernelTree(source)
    found = []
    for commit in tree.commits(tree.head()):
        work.run("checkout", "-q", "--force", commit.id)
        for recipe, objects in builds:
            try:
                qemu.build(recipe, source, objects)
            except qemu.QemuError as error:
                found += [f"{commit.subject}: {line}" for line in str(error).splitlines()]
    return found
