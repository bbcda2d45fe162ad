# SPDX-License-Identifier: GPL-2.0
"""patches/: its content, and its way from commits (git format-patch) and to commits (git am)."""

from __future__ import annotations

import contextlib
import email.header
import email.parser
import hashlib
import itertools
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.series.git import PRISTINE, Blob, Identity, KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.top_level import text_of, write_file

FORMAT = ("format-patch", "-q", "--zero-commit", "--no-numbered", "--no-signature",
          "--no-cover-letter", "--no-thread", "--no-attach", "--no-base", "--no-notes",
          "--abbrev=12", "--find-renames", "--subject-prefix=PATCH", "--suffix=.patch")


@dataclass(frozen=True)
class Patch:
    """A patch file as the `series` of its set lists it."""

    name: str
    set: str
    data: bytes

    @property
    def path(self) -> str:
        """The file below the directory of the sets."""
        return f"{self.set}/{self.name}"

    @property
    def subject(self) -> str:
        """The subject line without [PATCH]."""
        head = email.parser.BytesHeaderParser().parsebytes(self.data)
        text = str(email.header.make_header(email.header.decode_header(head["Subject"] or "")))
        return re.sub(r"^\[PATCH\] ", "", re.sub(r"\r?\n[ \t]", " ", text))

    @property
    def paths(self) -> list[str]:
        """The files that the patch touches."""
        found = re.findall(rb"^diff --git a/(.+) b/(.+)$", self.data, re.M)
        return sorted({os.fsdecode(p) for pair in found for p in pair})


def load(layout: Layout) -> list[Patch]:
    """Read the patches of all sets, in the order in which they are applied."""
    names = [one.name for one in layout.sets]
    wrong = sorted({path.relative_to(layout.patches).parts[0]
                    for path in layout.patches.rglob("*") if path.is_file()} - {*names})
    if wrong:
        raise SeriesError(f"{layout.patches}: {', '.join(wrong)}: sets are {' '.join(names)}")
    return [patch for name in names for patch in load_set(layout.patches / name)]


def load_set(where: pathlib.Path) -> list[Patch]:
    """Read the `series` of a set and the patches that it lists."""
    listing = where / "series"
    listed = listing.read_text(encoding="utf-8").split() if listing.exists() else []
    found = []
    for name in listed:
        try:
            found.append(Patch(name, where.name, (where / name).read_bytes()))
        except OSError as err:
            raise SeriesError(f"{listing}: {name}: {err.strerror}") from None
    extra = sorted({path.name for path in where.glob("*.patch")} - {*listed})
    if extra:
        raise SeriesError(f"{listing}: does not list {', '.join(extra)}")
    return found


def listing_of(patches: Iterable[Patch]) -> str:
    """The text of the `series` of a set with these patches."""
    return "".join(f"{patch.name}\n" for patch in patches)


def load_lenient(layout: Layout) -> list[Patch]:
    """The patches as far as they can be read."""
    with contextlib.suppress(SeriesError):
        return load(layout)
    return []


def digest(tree: KernelTree, patches: Sequence[Patch]) -> str:
    """One value that changes with the pristine source, any patch, their order or sets."""
    sha = hashlib.sha256(tree.pristine().encode())
    for patch in patches:
        sha.update(f"\0{patch.set}\0{patch.name}\0{len(patch.data)}\0".encode())
        sha.update(patch.data)
    return sha.hexdigest()


def write_patches(layout: Layout, patches: Sequence[Patch]) -> int:
    """Make the directories of the sets hold exactly these; return how many files changed."""
    changed = 0
    for patch in patches:
        changed += write_file(layout.patches / patch.path, Blob(patch.data))
    for one in layout.sets:
        where = layout.patches / one.name
        mine = [patch for patch in patches if patch.set == one.name]
        for old in where.glob("*.patch"):
            if old.name not in {patch.name for patch in mine}:
                old.unlink()
                changed += 1
        if mine:
            changed += write_file(where / "series", Blob(listing_of(mine).encode()))
        elif (where / "series").exists():
            (where / "series").unlink()
            changed += 1
    return changed


def git_am(tree: KernelTree, patches: Sequence[Patch], who: Identity = Identity(),
           base: str = PRISTINE) -> str:
    """Apply patches on the commit base in a scratch work tree; return the last commit."""
    if not patches:
        return tree.commit(base)
    paths = sorted({path for patch in patches for path in patch.paths})
    with tree.scratch(base, paths) as work, tempfile.TemporaryDirectory() as tmp:
        files = []
        for number, patch in enumerate(patches, 1):
            file = pathlib.Path(tmp) / f"{number:04}"
            file.write_bytes(patch.data)
            files.append(str(file))
        env = {"GIT_COMMITTER_NAME": who.name, "GIT_COMMITTER_EMAIL": who.mail}
        done = work.run("am", "-q", "--no-3way", "--keep-non-patch", "--no-scissors",
                        "--committer-date-is-author-date", "--whitespace=nowarn", *files,
                        check=False, env=env)
        if done.rc:
            raise SeriesError(am_failure(work, patches, done.stderr.decode(errors="replace")))
        return work.head()


def am_failure(work: KernelTree, patches: Sequence[Patch], stderr: str) -> str:
    """One line for a git am that stopped: which patch, which file."""
    try:
        number = int((work.git_dir() / "rebase-apply" / "next").read_text(encoding="ascii"))
        name = patches[number - 1].path
    except (OSError, ValueError, IndexError):
        name = "patches/"
    why = []
    for line in stderr.splitlines():
        match = re.match(r"error: (?:patch failed: )?(.+?)(?::(\d+)|: (.+))$", line)
        if match and "patch does not apply" not in line:
            why.append(f"{match[1]}" + (f" line {match[2]}" if match[2] else f" ({match[3]})"))
    release = release_of(work)
    return (f"{name} does not apply to {release}: "
            f"{'; '.join(why) or stderr.strip() or 'no reason given'}")


def release_of(tree: KernelTree) -> str:
    """The name and version of the pristine source: Linux in its Makefile, QEMU in VERSION."""
    version = text_of(tree.blob(PRISTINE, "VERSION")).strip()
    if version:
        return f"QEMU {version}"
    text = text_of(tree.blob(PRISTINE, "Makefile"))
    part = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = *(\d+)", text, re.M))
    return f"Linux {'.'.join(part.values()) or '(unknown)'}"


def format_patches(tree: KernelTree, tip: str, sets: Mapping[str, str]) -> list[Patch]:
    """The commits of pristine..tip as patches, numbered in each set; sets: subject -> set."""
    found: list[Patch] = []
    base = tree.pristine()
    for name, group in itertools.groupby(tree.commits(tip), lambda c: sets[c.subject]):
        commits = list(group)
        found += format_range(tree, base, commits[-1].id, name)
        base = commits[-1].id
    return found


def format_range(tree: KernelTree, base: str, tip: str, name: str) -> list[Patch]:
    """The commits of base..tip as the patches of a set."""
    with tempfile.TemporaryDirectory() as tmp:
        tree.run(*FORMAT, "-o", tmp, f"{base}..{tip}")
        files = sorted(pathlib.Path(tmp).iterdir())
        commits = tree.commits(tip, base)
        if len(files) != len(commits):
            raise SeriesError(f"git format-patch: {len(files)} patches for {len(commits)} "
                              f"commits of {name}; is one of them empty?")
        return [Patch(file.name, name, file.read_bytes()) for file in files]


def rewrite(tree: KernelTree, tip: str, message: Callable[[str], str] = lambda text: text,
            who: Identity = Identity(), base: str = PRISTINE) -> str:
    """The commits of base..tip again, with this identity and their messages changed."""
    parent = tree.commit(base)
    for commit in tree.commits(tip, base):
        text = tree.out("stripspace", stdin=tree.run("log", "-1", "--format=%B", commit.id).stdout)
        parent = tree.write_commit(tree.tree_of(commit.id), parent, message(text) + "\n", who)
    return parent
