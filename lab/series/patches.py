# SPDX-License-Identifier: GPL-2.0
"""patches/: what it holds, and its way from commits (git format-patch) and to commits (git am)."""

from __future__ import annotations

import contextlib
import email.header
import email.parser
import hashlib
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.series.git import PRISTINE, Blob, Identity, KernelTree, SeriesError
from lab.series.top_level import text_of, write_file

GROUPS = ("fixes", "core", "precopy", "interrupts", "tests", "policy")

FORMAT = ("format-patch", "-q", "--zero-commit", "--no-numbered", "--no-signature",
          "--no-cover-letter", "--no-thread", "--no-attach", "--no-base", "--no-notes",
          "--abbrev=12", "--find-renames", "--subject-prefix=PATCH", "--suffix=.patch")


@dataclass(frozen=True)
class Patch:
    """A patch file as patches/series lists it."""

    name: str
    group: str
    data: bytes

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


def load(where: pathlib.Path) -> list[Patch]:
    """Read patches/series and the patches that it lists."""
    listing = where / "series"
    if not listing.exists():
        if list(where.glob("*.patch")):
            raise SeriesError(f"{listing}: missing, but there are patches")
        return []
    found: list[Patch] = []
    group = ""
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            new = line.strip("[]")
            if new not in GROUPS or (group and GROUPS.index(new) <= GROUPS.index(group)):
                raise SeriesError(f"{listing}:{number}: {line}: groups are, in this order, "
                                  f"{' '.join(GROUPS)}")
            group = new
            continue
        if not group:
            raise SeriesError(f"{listing}:{number}: {line} stands before the first [group]")
        try:
            found.append(Patch(line, group, (where / line).read_bytes()))
        except OSError as err:
            raise SeriesError(f"{listing}:{number}: {line}: {err.strerror}") from None
    extra = sorted({p.name for p in where.glob("*.patch")} - {p.name for p in found})
    if extra:
        raise SeriesError(f"{listing}: does not list {', '.join(extra)}")
    return found


def listing_of(patches: Sequence[Patch]) -> str:
    """The text of patches/series."""
    text = ""
    for group in GROUPS:
        names = [p.name for p in patches if p.group == group]
        if names:
            text += f"[{group}]\n" + "".join(f"{name}\n" for name in names)
    return text


def load_lenient(where: pathlib.Path) -> list[Patch]:
    """The patches as far as they can be read."""
    with contextlib.suppress(SeriesError):
        return load(where)
    return []


def digest(tree: KernelTree, patches: Sequence[Patch]) -> str:
    """One value that changes with the pristine source, any patch, their order or groups."""
    sha = hashlib.sha256(tree.pristine().encode())
    for patch in patches:
        sha.update(f"\0{patch.group}\0{patch.name}\0{len(patch.data)}\0".encode())
        sha.update(patch.data)
    return sha.hexdigest()


def write_patches(where: pathlib.Path, patches: Sequence[Patch]) -> int:
    """Make patches/ hold exactly these; return how many files changed."""
    where.mkdir(exist_ok=True)
    changed = 0
    for patch in patches:
        changed += write_file(where / patch.name, Blob(patch.data))
    for old in where.glob("*.patch"):
        if old.name not in {p.name for p in patches}:
            old.unlink()
            changed += 1
    return changed + write_file(where / "series", Blob(listing_of(patches).encode()))


def git_am(tree: KernelTree, patches: Sequence[Patch], who: Identity = Identity()) -> str:
    """Apply patches on the pristine commit in a scratch work tree; return the last commit."""
    if not patches:
        return tree.pristine()
    paths = sorted({path for patch in patches for path in patch.paths})
    with tree.scratch(PRISTINE, paths) as work, tempfile.TemporaryDirectory() as tmp:
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
        name = patches[number - 1].name
    except (OSError, ValueError, IndexError):
        name = "patches/"
    why = []
    for line in stderr.splitlines():
        match = re.match(r"error: (?:patch failed: )?(.+?)(?::(\d+)|: (.+))$", line)
        if match and "patch does not apply" not in line:
            why.append(f"{match[1]}" + (f" line {match[2]}" if match[2] else f" ({match[3]})"))
    release = kernel_release(work)
    return (f"{name} does not apply to Linux {release}: "
            f"{'; '.join(why) or stderr.strip() or 'no reason given'}")


def kernel_release(tree: KernelTree) -> str:
    """The version that the pristine tree's Makefile names."""
    text = text_of(tree.blob(PRISTINE, "Makefile"))
    part = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = *(\d+)", text, re.M))
    return ".".join(part.values()) or "(unknown)"


def format_patches(tree: KernelTree, tip: str, groups: Mapping[str, str]) -> list[Patch]:
    """The commits of pristine..tip as patches; groups: subject -> group."""
    subjects = [c.subject for c in tree.commits(tip)]
    with tempfile.TemporaryDirectory() as tmp:
        tree.run(*FORMAT, "-o", tmp, f"{PRISTINE}..{tip}")
        files = sorted(pathlib.Path(tmp).iterdir())
        if len(files) != len(subjects):
            raise SeriesError(f"git format-patch: {len(files)} patches for {len(subjects)} "
                              "commits; is one of them empty?")
        return [Patch(file.name, groups[subject], file.read_bytes())
                for file, subject in zip(files, subjects, strict=True)]


def rewrite(tree: KernelTree, tip: str, message: Callable[[str], str] = lambda text: text,
            who: Identity = Identity()) -> str:
    """The commits of pristine..tip again, with this identity and their messages changed."""
    parent = tree.pristine()
    for commit in tree.commits(tip):
        text = tree.out("stripspace", stdin=tree.run("log", "-1", "--format=%B", commit.id).stdout)
        parent = tree.write_commit(tree.tree_of(commit.id), parent, message(text) + "\n", who)
    return parent
