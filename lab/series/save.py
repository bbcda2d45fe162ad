# SPDX-License-Identifier: GPL-2.0
"""Write the commits of build/linux to patches/ and to the top level: make save [SET=]."""

from __future__ import annotations

import pathlib
import shlex
import tempfile
from collections.abc import Iterable, Mapping

from lab.series.git import BRANCH, PRISTINE, Blob, KernelTree, SeriesError
from lab.series.layout import Layout, say
from lab.series.membership import record_sets, sets_of
from lab.series.patches import (Patch, digest, format_patches, git_am, load, load_lenient, rewrite,
                                write_patches)
from lab.series.state import record_saved, saved_state, way_out
from lab.series.top_level import present, remove_file, wanted, write_file


def save(layout: Layout | None = None, into: str = "", force: bool = False) -> None:
    """Write the commits of the tree to patches/ and the new files to the top level.

    into: the set of commits that have none yet. force: overwrite edits of patches/ and of
    top-level files that the tree does not have.
    """
    layout = layout or Layout.default()
    kernel = KernelTree(layout.tree)
    with kernel.locked():
        require_ready(kernel, layout, force)
        save_commit(kernel, layout, kernel.head(), into, force)


def require_ready(tree: KernelTree, layout: Layout, force: bool) -> None:
    """Raise unless the tree is clean and patches/ is as it was when the tree was made."""
    if tree.busy():
        raise SeriesError(f"{tree.path}: finish the {tree.busy()} first")
    if tree.commit(BRANCH) and tree.branch() != BRANCH:
        raise SeriesError(f"{tree.path}: {tree.branch()} is checked out, and the series is the "
                          f"branch {BRANCH.removeprefix('refs/heads/')}")
    dirty = tree.dirty()
    if dirty:
        raise SeriesError(f"{tree.path}: commit or remove first (? is a file that "
                          "git add -f was forgotten for):\n  " + "\n  ".join(dirty[:20]))
    was, commit = saved_state(tree)
    if was and not force and digest(tree, load(layout)) != was:
        raise SeriesError("patches/ changed since the tree was made from it.\n"
                          + way_out(tree.path, commit))
    if not was and not force and load(layout):
        raise SeriesError(f"{tree.path} was not made from patches/: apply first "
                          "(`make test` does), or overwrite patches/ with FORCE=1")


def save_commit(tree: KernelTree, layout: Layout, tip: str, into: str = "",
                force: bool = False, taken: Iterable[str] = ()) -> None:
    """Save the series that ends in tip and move the tree there; taken: the
    top-level files that it was just given."""
    old = load(layout) if not force else load_lenient(layout)
    tip = autosquash(tree, tip)
    sets = sets_of(tree, layout, tree.commits(tip), old, into)
    tip = sort_sets(tree, layout, tip, sets)
    tip = rewrite(tree, tip)
    patches = format_patches(tree, tip, sets)
    again = git_am(tree, patches)
    if again != tip:
        patches = stable_patches(tree, tip, again, sets)
        tip = again
    _, before = saved_state(tree)
    files = wanted(layout, tree, tip)
    last = wanted(layout, tree, before) if tree.commit(before) else {}
    mine = set() if force else edited(layout, tree, files, last) - set(taken)
    lost = sorted(name for name in mine if files.get(name) != last.get(name))
    if lost:
        raise SeriesError("edited both at the top level and in the tree (`make take` joins the "
                          "two, FORCE=1 gives up the edit at the top level):\n  "
                          + "\n  ".join(lost))
    tree.move_to(tip)
    changed = write_patches(layout, patches)
    for name in set(files) - mine:
        changed += write_file(layout.root / name, files[name])
    for name in set(last) - set(files):
        remove_file(layout.root / name, layout.root)
        changed += 1
    record_sets(tree, layout, tip, sets)
    record_saved(tree, patches, tip)
    say(f"saved {len(patches)} patches, {len(files)} new files; {changed} files changed")
    for name in sorted(mine):
        say(f"note: {name} is edited at the top level (make take)")
    for name in sorted(set(present(layout, tree)) - set(files)):
        say(f"note: {name} is in no patch (make take STEP=...)")


def stable_patches(tree: KernelTree, tip: str, again: str,
                   sets: dict[str, str]) -> list[Patch]:
    """The patches of again, which git am made of tip's patches; raise if they do not settle."""
    if tree.tree_of(again) != tree.tree_of(tip):
        raise SeriesError("git am of the patches gives another tree than the commits: "
                          + ", ".join(tree.paths("diff", "-z", "--name-only", tip, again)))
    for old, new in zip(tree.commits(tip), tree.commits(again), strict=True):
        sets.setdefault(new.subject, sets[old.subject])
        before = tree.lines("log", "-1", "--format=%B", old.id)
        after = tree.lines("log", "-1", "--format=%B", new.id)
        for line in before:
            if line not in after:
                say(f"note: lost from the message of \"{new.subject}\", as git am takes it: "
                    f"{line}")
    patches = format_patches(tree, again, sets)
    if git_am(tree, patches) != again:
        raise SeriesError("a commit message does not survive git am (a diff in it?)")
    return patches


def edited(layout: Layout, tree: KernelTree, files: Mapping[str, Blob],
           last: Mapping[str, Blob]) -> set[str]:
    """The top-level files as neither this series (files) nor the one saved last has them."""
    return {name for name, blob in present(layout, tree).items()
            if (name in files or name in last)
            and blob not in (files.get(name), last.get(name))}


def autosquash(tree: KernelTree, tip: str) -> str:
    """Fold the fixup!, squash! and amend! commits of pristine..tip; return the new tip."""
    if not any(c.is_fixup for c in tree.commits(tip)):
        return tip
    tip = rebase(tree, tip, "true")
    left = [c.subject for c in tree.commits(tip) if c.is_fixup]
    if left:
        raise SeriesError("no commit for:\n  " + "\n  ".join(left))
    return tip


def sort_sets(tree: KernelTree, layout: Layout, tip: str, sets: Mapping[str, str]) -> str:
    """Bring the commits into the order of their sets; return the new tip."""
    names = [one.name for one in layout.sets]
    commits = tree.commits(tip)
    order = sorted(commits, key=lambda c: names.index(sets[c.subject]))
    if order == commits:
        return tip
    with tempfile.TemporaryDirectory() as tmp:
        todo = pathlib.Path(tmp) / "todo"
        todo.write_text("".join(f"pick {c.id}\n" for c in order), encoding="ascii")
        return rebase(tree, tip, f"cp {shlex.quote(str(todo))}")


def rebase(tree: KernelTree, tip: str, editor: str) -> str:
    """git rebase -i pristine in a scratch work tree; return the new tip."""
    with tree.scratch(tip, tree.touched(PRISTINE, tip)) as work:
        done = work.run("rebase", "-q", "-i", "--autosquash", PRISTINE, check=False,
                        env={"GIT_SEQUENCE_EDITOR": editor})
        if done.rc:
            files = work.paths("diff", "-z", "--name-only", "--diff-filter=U")
            stopped = work.run("log", "-1", "--format=%s", "REBASE_HEAD", check=False).stdout
            what = f"\"{stopped.decode().strip()}\" conflicts in {', '.join(files)}"
            if not files:
                what = done.stderr.decode(errors="replace").strip()
            raise SeriesError(f"{what}\nNothing was changed. By hand: git -C "
                              f"{shlex.quote(str(tree.path))} rebase -i --autosquash {PRISTINE}")
        return work.head()
