# SPDX-License-Identifier: GPL-2.0
"""The patch series: patches/ <-> build/linux <-> the new files at the top level.

    apply       build/linux = pristine source + patches/              (demo and test do it)
    save        the commits of build/linux -> patches/, top level     make save [GROUP=]
    take        an edit at the top level -> its patch                 make take [STEP=]
    series      mails for git am, b4, git-send-email in out/series/   make series [FROM=]
    difference  where the three disagree                              make test

patches/series lists the patches in groups; the group of a commit is that of its subject there,
or, for a subject that is new, what the commit was applied as (a git note), or that of the
commit before it.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import pathlib
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.common import config
from lab.series import shared_files
from lab.series.git import BRANCH, PRISTINE, Blob, Commit, KernelTree, SeriesError
from lab.series.patches import (GROUPS, Patch, digest, format_patches, git_am, listing_of, load,
                                load_lenient, rewrite, write_patches)
from lab.series.top_level import present, remove_file, text_of, wanted, write_file

SAVED = "refs/lab/saved"
NOTES = "refs/notes/group"


@dataclass(frozen=True)
class Layout:
    """Where things are: the repository, the kernel tree, the results."""

    root: pathlib.Path
    tree: pathlib.Path
    out: pathlib.Path

    @classmethod
    def default(cls) -> Layout:
        """This repository, as lab.config has it."""
        return cls(config.REPO, config.LINUX, config.OUT)

    @property
    def patches(self) -> pathlib.Path:
        """The directory of the patches and their list."""
        return self.root / "patches"


def say(text: str) -> None:
    """Tell the user what happened; stdout is kept for the results of tests."""
    print(text, file=sys.stderr, flush=True)


# ---- groups -----------------------------------------------------------------------------------

def groups_of(tree: KernelTree, commits: Sequence[Commit], patches: Sequence[Patch],
              new: str = "") -> dict[str, str]:
    """The group of each commit by its subject; new: the group of commits that have none yet."""
    if new and new not in GROUPS:
        raise SeriesError(f"GROUP={new}: groups are {' '.join(GROUPS)}")
    listed = {patch.subject: patch.group for patch in patches}
    noted = {}
    for line in tree.lines("notes", f"--ref={NOTES}", "list"):
        blob, _, ident = line.partition(" ")
        noted[ident] = blob
    found: dict[str, str] = {}
    last = GROUPS[1]
    for commit in commits:
        if commit.is_fixup:
            continue
        if commit.subject in found:
            raise SeriesError(f"two commits have the subject \"{commit.subject}\"")
        group = listed.get(commit.subject, "")
        if not group and commit.id in noted:
            group = tree.out("cat-file", "blob", noted[commit.id]).split("\n")[0]
        found[commit.subject] = last = group or new or last
    return found


def note_groups(tree: KernelTree, tip: str, groups: Mapping[str, str]) -> None:
    """Note each commit's group, and keep a branch group/NAME at the last commit of each."""
    tree.run("config", "notes.rewriteRef", NOTES)
    tree.run("config", "notes.rewriteMode", "overwrite")
    last: dict[str, str] = {}
    for commit in tree.commits(tip):
        group = groups[commit.subject]
        last[group] = commit.id
        tree.run("notes", f"--ref={NOTES}", "add", "-f", "-m", group, commit.id)
    for group in GROUPS:
        if group in last:
            tree.run("update-ref", f"refs/heads/group/{group}", last[group])
        elif tree.commit(f"refs/heads/group/{group}"):
            tree.run("update-ref", "-d", f"refs/heads/group/{group}")


# ---- which state was applied or saved last ----------------------------------------------------

def state_file(tree: KernelTree) -> pathlib.Path:
    """Where the tree remembers what it was made of."""
    return tree.git_dir() / "lab-series.json"


def saved_state(tree: KernelTree) -> tuple[str, str]:
    """(digest of patches/, commit) of the last apply or save; empty when there was none."""
    try:
        data = json.loads(state_file(tree).read_text(encoding="ascii"))
        return str(data["digest"]), str(data["commit"])
    except (OSError, ValueError, KeyError):
        return "", ""


def remember(tree: KernelTree, patches: Sequence[Patch], tip: str) -> None:
    """Note that the tree's commit tip and these patches are the same."""
    tree.run("update-ref", SAVED, tip)
    data = {"digest": digest(tree, patches), "commit": tip}
    state_file(tree).write_text(json.dumps(data) + "\n", encoding="ascii")


def unsaved(tree: KernelTree, commit: str) -> list[str]:
    """What the tree has that the saved commit has not, one line each."""
    lines = []
    if tree.busy():
        lines.append(f"a {tree.busy()} that is not finished")
    lines += [f"uncommitted: {line}" for line in tree.dirty()[:5]]
    head = tree.head()
    if head not in (commit, tree.pristine()):
        base = tree.out("merge-base", commit or PRISTINE, head) or PRISTINE
        new = tree.commits(head, base)
        lines += [f"not in patches/: {c.id[:12]} {c.subject}" for c in new[:5]]
        if not new:
            lines.append("the branch stands before the last saved commit")
    return lines


# ---- apply ------------------------------------------------------------------------------------

def apply_patches(tree: pathlib.Path, layout: Layout | None = None) -> None:
    """Make tree pristine + patches/, unless it is so already.

    Files that do not differ keep their times. Work in the tree that patches/ does not have is
    left alone as long as patches/ has not changed, and else refused with SeriesError.
    """
    layout = layout or Layout.default()
    kernel = KernelTree(tree)
    with kernel.locked():
        patches = load(layout.patches)
        was, commit = saved_state(kernel)
        if was == digest(kernel, patches) and kernel.commit(commit):
            extra = unsaved(kernel, commit)
            if extra:
                say(f"note: {tree} has work that patches/ does not have (`make save` keeps it): "
                    f"{extra[0]}" + (f" and {len(extra) - 1} more" if len(extra) > 1 else ""))
            return
        extra = unsaved(kernel, commit)
        if extra:
            raise SeriesError(f"patches/ changed, and {tree} has work of its own:\n  "
                              + "\n  ".join(extra) + "\n" + way_out(tree, commit))
        tip = git_am(kernel, patches)
        groups = {p.subject: p.group for p in patches}
        check_subjects(kernel, tip, groups)
        kernel.move_to(tip)
        note_groups(kernel, tip, groups)
        remember(kernel, patches, tip)
        say(f"{len(patches)} patches applied in {tree}")


def check_subjects(tree: KernelTree, tip: str, groups: Mapping[str, str]) -> None:
    """Raise unless each commit's subject is that of a patch."""
    for commit in tree.commits(tip):
        if commit.subject not in groups:
            raise SeriesError(f"patches/: no patch, or two, with the subject \"{commit.subject}\"")


def way_out(tree: pathlib.Path, commit: str) -> str:
    """How to keep or drop what the tree has and patches/ has not."""
    git = f"git -C {shlex.quote(str(tree))}"
    base = SAVED if commit else PRISTINE
    return (f"To keep it:  {git} branch mine   (commit first), drop it as below, `make save`\n"
            f"             {git} cherry-pick {(commit or PRISTINE)[:12]}..mine, `make save`\n"
            f"To keep it and give up the change of patches/:  make save FORCE=1\n"
            f"To drop it:  {git} reset --hard {base}   (and git clean -fd there)")


# ---- save -------------------------------------------------------------------------------------

def save(layout: Layout | None = None, group: str = "", force: bool = False) -> None:
    """Write the commits of the tree to patches/ and the new files to the top level.

    group: where commits go that have no group yet. force: overwrite edits of patches/ and of
    top-level files that the tree does not have.
    """
    layout = layout or Layout.default()
    kernel = KernelTree(layout.tree)
    with kernel.locked():
        require_ready(kernel, layout, force)
        save_commit(kernel, layout, kernel.head(), group, force)


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
    if was and not force and digest(tree, load(layout.patches)) != was:
        raise SeriesError("patches/ changed since the tree was made from it.\n"
                          + way_out(tree.path, commit))
    if not was and not force and load(layout.patches):
        raise SeriesError(f"{tree.path} was not made from patches/: apply first "
                          "(`make test` does), or overwrite patches/ with FORCE=1")


def save_commit(tree: KernelTree, layout: Layout, tip: str, group: str = "",
                force: bool = False, taken: Iterable[str] = ()) -> None:
    """Save the series that ends in tip and move the tree there; taken: the
    top-level files that it was just given."""
    old = load(layout.patches) if not force else load_lenient(layout.patches)
    tip = autosquash(tree, tip)
    groups = groups_of(tree, tree.commits(tip), old, group)
    tip = sort_groups(tree, tip, groups)
    tip = rewrite(tree, tip)
    patches = format_patches(tree, tip, groups)
    again = git_am(tree, patches)
    if again != tip:
        patches = stable_patches(tree, tip, again, groups)
        tip = again
    files = wanted(tree, tip)
    _, before = saved_state(tree)
    last = wanted(tree, before) if tree.commit(before) else {}
    mine = set() if force else edited(layout, tree, files, last) - set(taken)
    lost = sorted(name for name in mine if files.get(name) != last.get(name))
    if lost:
        raise SeriesError("edited both at the top level and in the tree (`make take` joins the "
                          "two, FORCE=1 gives up the edit at the top level):\n  "
                          + "\n  ".join(lost))
    tree.move_to(tip)
    changed = write_patches(layout.patches, patches)
    for name in set(files) - mine:
        changed += write_file(layout.root / name, files[name])
    for name in set(last) - set(files):
        remove_file(layout.root / name, layout.root)
        changed += 1
    note_groups(tree, tip, groups)
    remember(tree, patches, tip)
    say(f"saved {len(patches)} patches, {len(files)} new files; {changed} files changed")
    for name in sorted(mine):
        say(f"note: {name} is edited at the top level (make take)")
    for name in sorted(set(present(layout.root, tree)) - set(files)):
        say(f"note: {name} is in no patch (make take STEP=...)")


def stable_patches(tree: KernelTree, tip: str, again: str,
                   groups: dict[str, str]) -> list[Patch]:
    """The patches of again, which git am made of tip's patches; raise if they do not settle."""
    if tree.tree_of(again) != tree.tree_of(tip):
        raise SeriesError("git am of the patches gives another tree than the commits: "
                          + ", ".join(tree.paths("diff", "-z", "--name-only", tip, again)))
    for old, new in zip(tree.commits(tip), tree.commits(again), strict=True):
        groups.setdefault(new.subject, groups[old.subject])
        before = tree.lines("log", "-1", "--format=%B", old.id)
        after = tree.lines("log", "-1", "--format=%B", new.id)
        for line in before:
            if line not in after:
                say(f"note: lost from the message of \"{new.subject}\", as git am takes it: "
                    f"{line}")
    patches = format_patches(tree, again, groups)
    if git_am(tree, patches) != again:
        raise SeriesError("a commit message does not survive git am (a diff in it?)")
    return patches


def edited(layout: Layout, tree: KernelTree, files: Mapping[str, Blob],
           last: Mapping[str, Blob]) -> set[str]:
    """The top-level files as neither this series (files) nor the one saved last has them."""
    return {name for name, blob in present(layout.root, tree).items()
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


def sort_groups(tree: KernelTree, tip: str, groups: Mapping[str, str]) -> str:
    """Bring the commits into the order of their groups; return the new tip."""
    commits = tree.commits(tip)
    order = sorted(commits, key=lambda c: GROUPS.index(groups[c.subject]))
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


# ---- take -------------------------------------------------------------------------------------

def take(layout: Layout | None = None, step: str = "", subject: str = "", group: str = "",
         files: str = "", message: str = "") -> None:
    """Bring edits of top-level files into their patches, then save.

    step: a patch's number, a part of its subject, or a glob of files (the last patch that
    touches one); "new", or a subject alone, makes a new patch with subject, group and message
    (its text); "" picks for each file the last patch that touches it. files: take only what
    this glob matches.
    """
    step = step or ("new" if subject else "")
    layout = layout or Layout.default()
    kernel = KernelTree(layout.tree)
    with kernel.locked():
        require_ready(kernel, layout, force=False)
        tip = kernel.head()
        changes = top_level_edits(kernel, layout)
        if files:
            changes = {k: v for k, v in changes.items() if fnmatch.fnmatchcase(k, files)}
        if not changes:
            raise SeriesError("no top-level file differs from the tree"
                              + (f" ({files})" if files else ""))
        for name, blob in changes.items():
            say(f"take {name}" + ("" if blob else " (removed)"))
        commits = kernel.commits(tip)
        _, saved = saved_state(kernel)
        content = {}
        for name, blob in changes.items():
            file = kernel_content(kernel, saved or tip, name, blob)
            content[kind_path(name)] = three_way(kernel, saved or tip, tip, kind_path(name), file)
        if step == "new":
            if not subject:
                raise SeriesError("STEP=new needs SUBJECT=\"area: what it does\"")
            if subject in {c.subject for c in commits}:
                raise SeriesError(f"there is a patch \"{subject}\" already")
            text = subject + ("\n\n" + message.strip() if message.strip() else "") + "\n"
            tip = kernel.commit_files(tip, content, text)
        else:
            for target, paths in targets(kernel, commits, step, sorted(content)).items():
                tip = kernel.commit_files(tip, {p: content[p] for p in paths},
                                          f"fixup! {target}\n")
        save_commit(kernel, layout, tip, group, taken=changes)


def kind_path(name: str) -> str:
    """Where a top-level file stands in the kernel tree."""
    for kind in shared_files.KINDS:
        if name == kind.name:
            return kind.kernel_path
    return name


def kernel_content(tree: KernelTree, tip: str, name: str, blob: Blob | None) -> Blob | None:
    """The kernel's file that has this top-level file's content (as entries, for those)."""
    for kind in shared_files.KINDS:
        if name == kind.name:
            base, head = tree.blob(PRISTINE, kind.kernel_path), tree.blob(tip, kind.kernel_path)
            if base is None or head is None:
                raise SeriesError(f"the kernel has no {kind.kernel_path}")
            return Blob(kind.merge(text_of(base), text_of(head), text_of(blob)).encode(),
                        head.mode)
    return blob


def three_way(tree: KernelTree, base: str, tip: str, path: str, blob: Blob | None) -> Blob | None:
    """The change of a file from commit base to blob, brought to commit tip."""
    old, now = tree.blob(base, path), tree.blob(tip, path)
    if now in (old, blob) or blob is None:
        return blob
    if now is None:
        raise SeriesError(f"{path}: edited at the top level, and removed in the tree")
    with tempfile.TemporaryDirectory() as tmp:
        names = []
        for name, side in (("tree", now), ("saved", old or Blob(b"")), ("top-level", blob)):
            (pathlib.Path(tmp) / name).write_bytes(side.data)
            names.append(str(pathlib.Path(tmp) / name))
        done = tree.run("merge-file", "-p", *names, check=False)
    if done.rc:
        raise SeriesError(f"{path}: the edit at the top level and commits that are not saved yet "
                          "conflict; put the file as you want it into the tree, commit, and "
                          "`make save FORCE=1`")
    return Blob(done.stdout, blob.mode)


def top_level_edits(tree: KernelTree, layout: Layout) -> dict[str, Blob | None]:
    """The top-level files that differ from the series as saved last; None: removed."""
    _, saved = saved_state(tree)
    here, there = present(layout.root, tree), wanted(tree, saved or tree.head())
    return {name: here.get(name) for name in sorted(set(here) | set(there))
            if here.get(name) != there.get(name)}


def targets(tree: KernelTree, commits: Sequence[Commit], step: str,
            paths: Sequence[str]) -> dict[str, list[str]]:
    """The subjects of the patches to fix, each with the files of paths that go there."""
    commits = [c for c in commits if not c.is_fixup]
    if step:
        return {find_step(tree, commits, step).subject: list(paths)}
    found: dict[str, list[str]] = {}
    new = []
    touched = {c.id: tree.touched(f"{c.id}^", c.id) for c in commits}
    for path in paths:
        last = [c for c in commits if path in touched[c.id]]
        if last:
            found.setdefault(last[-1].subject, []).append(path)
        else:
            new.append(path)
    if new:
        raise SeriesError("in no patch yet; STEP= says into which, or STEP=new SUBJECT=... "
                          "GROUP=...:\n  " + "\n  ".join(new))
    return found


def find_step(tree: KernelTree, commits: Sequence[Commit], step: str) -> Commit:
    """The commit that a number, a part of a subject or a file glob names."""
    if re.fullmatch(r"\d+", step):
        if not 0 < int(step) <= len(commits):
            raise SeriesError(f"STEP={step}: the series has {len(commits)} patches")
        return commits[int(step) - 1]
    exact = [c for c in commits if c.subject == step]
    part = exact or [c for c in commits if step.lower() in c.subject.lower()]
    if len(part) > 1:
        raise SeriesError(f"STEP={step} fits several patches:\n  "
                          + "\n  ".join(c.subject for c in part))
    if part:
        return part[0]
    touching = [c for c in commits
                if fnmatch.filter(tree.touched(f"{c.id}^", c.id), step)]
    if not touching:
        raise SeriesError(f"STEP={step}: no patch has that number, subject or file")
    return touching[-1]


# ---- difference -------------------------------------------------------------------------------

def difference(layout: Layout | None = None) -> list[str]:
    """Where top level, patches/ and tree disagree, one line each; [] when they agree."""
    layout = layout or Layout.default()
    try:
        kernel = KernelTree(layout.tree)
        found = [f"{layout.tree}: uncommitted: {line}" for line in kernel.dirty()]
        tip = kernel.head()
        found += patch_difference(kernel, layout, tip)
        here, there = present(layout.root, kernel), wanted(kernel, tip)
    except SeriesError as err:
        return [str(err)]
    for name in sorted(set(here) | set(there)):
        if name not in here:
            found.append(f"{name}: missing at the top level")
        elif name not in there:
            found.append(f"{name}: at the top level, but in no patch")
        elif here[name].mode != there[name].mode:
            found.append(f"{name}: mode {here[name].mode} at the top level, "
                         f"{there[name].mode} in the series")
        elif here[name] != there[name]:
            found.append(f"{name}: top level and series differ")
    return found


def patch_difference(tree: KernelTree, layout: Layout, tip: str) -> list[str]:
    """Where patches/ is not what git format-patch makes of tip."""
    old = load(layout.patches)
    new = format_patches(tree, tip, groups_of(tree, tree.commits(tip), old))
    found = []
    if [(p.name, p.group) for p in old] != [(p.name, p.group) for p in new]:
        found.append("patches/series: lists other patches than the tree has commits")
    elif new and (layout.patches / "series").read_text(encoding="utf-8") != listing_of(new):
        found.append("patches/series: not as `make save` writes it")
    mine = {p.name: p.data for p in new}
    for patch in old:
        if patch.name not in mine:
            found.append(f"patches/{patch.name}: no such commit in the tree")
        elif mine.pop(patch.name) != patch.data:
            found.append(f"patches/{patch.name}: not what the tree's commit gives")
    return found + [f"patches/{name}: missing" for name in mine]


# ---- command line -----------------------------------------------------------------------------

def main(argv: Sequence[str]) -> int:
    """The commands behind make apply, save, take, series."""
    parser = argparse.ArgumentParser(prog="lab.series", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apply", help="pristine source + patches/ in build/linux")
    cmd = commands.add_parser("save", help="write patches/ and the top level from build/linux")
    cmd.add_argument("--group", default="", help="group of new commits")
    cmd.add_argument("--force", action="store_true", help="overwrite patches/ and the top level")
    cmd = commands.add_parser("take", help="bring top-level edits into their patches, and save")
    cmd.add_argument("--step", default="", help="patch number, part of a subject, glob, or new")
    cmd.add_argument("--subject", default="", help="with --step new: the subject")
    cmd.add_argument("--group", default="", help="with --step new: the group")
    cmd.add_argument("--message", default="", help="with --step new: file with the message's text")
    cmd.add_argument("--files", default="", help="take only files that this glob matches")
    cmd = commands.add_parser("series", help="cover letter and patches in out/series/")
    cmd.add_argument("--from", dest="sender", default="", help="\"Name <mail>\"")
    cmd.add_argument("--assisted-by", default="", help="text of an Assisted-by trailer")
    cmd.add_argument("--lab", default="", help="where this repository can be had")
    commands.add_parser("difference", help="print where tree, patches/ and top level disagree")
    args = parser.parse_args(argv)
    layout = Layout.default()
    try:
        if args.command == "apply":
            apply_patches(layout.tree)
        elif args.command == "save":
            save(layout, args.group, args.force)
        elif args.command == "take":
            text = pathlib.Path(args.message).read_text(encoding="utf-8") if args.message else ""
            take(layout, args.step, args.subject, args.group, args.files, text)
        elif args.command == "series":
            from lab.series import mails
            mails.write(layout, args.sender, args.assisted_by, lab=args.lab)
        else:
            found = difference(layout)
            print("\n".join(found) or "top level, patches/ and tree agree")
            return 1 if found else 0
    except (SeriesError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
