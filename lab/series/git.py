# SPDX-License-Identifier: GPL-2.0
"""The kernel's git tree (build/linux): git commands that ignore the user's git configuration.

The tree holds a commit tagged "pristine" and, on the branch "series", the patches on top of it.
Commands that rewrite commits (git am, rebase) run in a scratch work tree that has only the files
the patches touch; the branch then moves in one step and only files that differ are written, so
that the times of all others, and with them a kernel build, stay as they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pathlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.common.errors import LabError
from lab.common.run import Done, run

PRISTINE = "pristine"
BRANCH = "refs/heads/series"

# Author of the commits in build/linux and of patches/. `make series FROM=...` names people.
NAME = "Author not set"
MAIL = "author-not-set@invalid"       # git send-email stops at a domain without a dot
DATE = "2026-01-01T00:00:00+00:00"

CONFIG = {
    "advice.detachedHead": "false",
    "commit.gpgSign": "false",
    "core.autocrlf": "false",
    "core.hooksPath": "/dev/null",
    "core.quotePath": "false",
    "gc.auto": "0",
    "safe.directory": "*",
}


class SeriesError(LabError):
    """A defect of the series or its tree, and its remedy; str() is fit for a user."""


@dataclass(frozen=True)
class Identity:
    """Author and committer of the commits that are written."""

    name: str = NAME
    mail: str = MAIL
    date: str = DATE


@dataclass(frozen=True)
class Blob:
    """A file's content and git mode (100644, 100755 or 120000)."""

    data: bytes
    mode: str = "100644"


@dataclass(frozen=True)
class Commit:
    """A commit of the series."""

    id: str
    subject: str

    @property
    def is_fixup(self) -> bool:
        """True for commits that autosquash folds into an earlier one."""
        return self.subject.startswith(("fixup! ", "squash! ", "amend! "))


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without variables that change git's output or commits."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env.update(LC_ALL="C", TZ="UTC", GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null",
               GIT_TERMINAL_PROMPT="0", GIT_EDITOR="true", GIT_SEQUENCE_EDITOR="true")
    env.update(identity_env(Identity()))
    env.update(extra or {})
    return env


def identity_env(who: Identity) -> dict[str, str]:
    """The environment variables that give git this author and committer."""
    env = {}
    for role in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{role}_NAME"] = who.name
        env[f"GIT_{role}_EMAIL"] = who.mail
        env[f"GIT_{role}_DATE"] = who.date
    return env


class KernelTree:
    """A kernel tree with the tag "pristine"; path is its work tree."""

    def __init__(self, path: pathlib.Path, config: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._config = {**CONFIG, **(config or {})}
        if not (path / ".git").exists():
            raise SeriesError(f"{path}: not there yet, or not a git tree "
                              "(`make test` or `make demo` makes it)")

    def run(self, *args: str, stdin: bytes = b"", check: bool = True,
            env: Mapping[str, str] | None = None) -> Done:
        """Run git in the tree; a status other than 0 raises unless check is False."""
        cmd = ["git"]
        for key, value in self._config.items():
            cmd += ["-c", f"{key}={value}"]
        done = run([*cmd, *args], cwd=self.path, stdin=stdin, env=clean_env(env))
        if check and done.rc:
            text = (done.err + done.out).strip()
            raise SeriesError(f"git {shlex.join(args)}: {text}")
        return done

    def out(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """Run git and return its output, without the last newline."""
        return self.run(*args, stdin=stdin, env=env).stdout.decode().rstrip("\n")

    def lines(self, *args: str) -> list[str]:
        """Run git and return its output as lines."""
        return self.out(*args).splitlines()

    def paths(self, *args: str) -> list[str]:
        """Run git with -z output and return the fields."""
        return [os.fsdecode(p) for p in self.run(*args).stdout.split(b"\0") if p]

    def git_dir(self) -> pathlib.Path:
        """The directory that git keeps for this work tree."""
        return pathlib.Path(self.out("rev-parse", "--absolute-git-dir"))

    def commit(self, ref: str) -> str:
        """The id of the commit ref names; "" when there is none."""
        done = self.run("rev-parse", "-q", "--verify", f"{ref}^{{commit}}", check=False)
        return done.stdout.decode().strip()

    def pristine(self) -> str:
        """The id of the pristine commit."""
        found = self.commit(f"refs/tags/{PRISTINE}")
        if not found:
            raise SeriesError(f"{self.path}: has no commit tagged {PRISTINE}")
        return found

    def head(self) -> str:
        """The id of the commit that is checked out."""
        return self.commit("HEAD")

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self.out("rev-parse", f"{commit}^{{tree}}")

    def commits(self, tip: str, base: str = PRISTINE) -> list[Commit]:
        """The commits of base..tip, first one first."""
        if tip != self.pristine() and self.run("merge-base", "--is-ancestor", base, tip,
                                               check=False).rc:
            raise SeriesError(f"{self.path}: {tip[:12]} does not build on {base}")
        if self.out("rev-list", "--merges", f"{base}..{tip}"):
            raise SeriesError(f"{self.path}: a merge commit cannot be a patch; rebase instead")
        found = []
        for line in self.lines("log", "--reverse", "--format=%H %s", f"{base}..{tip}"):
            ident, _, subject = line.partition(" ")
            found.append(Commit(ident, subject))
        return found

    def touched(self, base: str, tip: str) -> list[str]:
        """Every path that a commit of base..tip touches."""
        return sorted(set(self.paths("log", "-z", "--no-renames", "--name-only", "--format=",
                                     f"{base}..{tip}")))

    def added(self, tip: str, base: str = PRISTINE) -> dict[str, Blob]:
        """The files that tip has and base has not."""
        fields = self.paths("diff-tree", "-r", "-z", "--no-renames", "--diff-filter=A", base, tip)
        modes, idents = [], []
        for meta in fields[0::2]:
            _, mode, _, ident, _ = meta.split(" ")
            modes.append(mode)
            idents.append(ident)
        data = self.blobs(idents)
        return {path: Blob(data[ident], mode)
                for path, mode, ident in zip(fields[1::2], modes, idents, strict=True)}

    def blobs(self, idents: Sequence[str]) -> dict[str, bytes]:
        """The content of blobs by their ids."""
        stream = io.BytesIO(self.run("cat-file", "--batch", stdin="".join(
            f"{ident}\n" for ident in idents).encode()).stdout)
        found = {}
        for ident in idents:
            size = int(stream.readline().split()[2])
            found[ident] = stream.read(size)
            stream.read(1)
        return found

    def blob(self, tip: str, path: str) -> Blob | None:
        """A file of a commit, None when it has no such file."""
        entry = self.paths("ls-tree", "-z", tip, "--", path)
        if not entry:
            return None
        mode, _, ident = entry[0].partition("\t")[0].split(" ")
        return Blob(self.run("cat-file", "blob", ident).stdout, mode)

    def files(self, tip: str, paths: Sequence[str]) -> dict[str, Blob | None]:
        """These files of a commit; None for a file that it lacks."""
        found: dict[str, Blob | None] = dict.fromkeys(paths)
        entries = {}
        if paths:
            for entry in self.paths("--literal-pathspecs", "ls-tree", "-z", tip, "--", *paths):
                meta, _, path = entry.partition("\t")
                entries[path] = meta.split(" ")
        data = self.blobs([ident for _, _, ident in entries.values()])
        for path, (mode, _, ident) in entries.items():
            found[path] = Blob(data[ident], mode)
        return found

    def dirty(self) -> list[str]:
        """Changed and untracked files of the work tree, one line each; [] for a clean tree.

        Debian's .gitignore hides everything; the pattern !/*/ shows new files nevertheless.
        """
        found = [line.strip() for line in
                 self.lines("--no-optional-locks", "status", "--porcelain", "--no-renames",
                            "--untracked-files=no")]
        return found + [f"? {path}" for path in
                        self.paths("ls-files", "-z", "--others", "--exclude=!/*/",
                                   "--exclude-per-directory=.gitignore")]

    def branch(self) -> str:
        """The branch that is checked out ("HEAD": none) as a full name."""
        return self.run("symbolic-ref", "-q", "HEAD", check=False).stdout.decode().strip() or "HEAD"

    def busy(self) -> str:
        """The git operation (rebase, am) that stands half done in the tree, or ""."""
        for name in ("rebase-merge", "rebase-apply", "CHERRY_PICK_HEAD", "MERGE_HEAD"):
            if (self.git_dir() / name).exists():
                return {"CHERRY_PICK_HEAD": "cherry-pick", "MERGE_HEAD": "merge"}.get(
                    name, "rebase or am")
        return ""

    def write_commit(self, tree: str, parent: str, message: str,
                     who: Identity = Identity()) -> str:
        """Write a commit object and return its id."""
        return self.out("commit-tree", tree, "-p", parent, "-F", "-",
                        stdin=message.encode(), env=identity_env(who))

    def commit_files(self, parent: str, files: Mapping[str, Blob | None], message: str) -> str:
        """Write a commit that puts files (None: removes) on top of parent; return its id."""
        with tempfile.TemporaryDirectory(prefix="series-") as tmp:
            env = {"GIT_INDEX_FILE": str(pathlib.Path(tmp) / "index")}
            self.run("read-tree", parent, env=env)
            info = b""
            for path, blob in files.items():
                if blob is None:
                    line = f"0 {'0' * 40}\t{path}"
                else:
                    ident = self.out("hash-object", "-w", "--stdin", stdin=blob.data)
                    line = f"{blob.mode} {ident}\t{path}"
                info += os.fsencode(line) + b"\0"
            self.run("update-index", "-z", "--index-info", stdin=info, env=env)
            tree = self.out("write-tree", env=env)
        return self.write_commit(tree, parent, message)

    def move_to(self, commit: str) -> None:
        """Put the branch "series" at commit; only files that differ are written."""
        if self.branch() != BRANCH:
            self.run("update-ref", BRANCH, "HEAD")
            self.run("symbolic-ref", "HEAD", BRANCH)
        self.run("update-index", "-q", "--refresh", check=False)
        self.run("reset", "-q", "--keep", commit)

    @contextlib.contextmanager
    def scratch(self, commit: str, paths: Sequence[str]) -> Iterator[KernelTree]:
        """A work tree of its own at commit that holds only paths."""
        self.run("worktree", "prune")
        top = pathlib.Path(tempfile.mkdtemp(prefix=".series-", dir=self.path.parent))
        where = top / "linux"
        try:
            self.run("worktree", "add", "-q", "--no-checkout", "--detach", str(where), commit)
            tree = KernelTree(where, {**self._config, "core.sparseCheckout": "true",
                                      "core.sparseCheckoutCone": "false"})
            patterns = tree.git_dir() / "info" / "sparse-checkout"
            patterns.parent.mkdir(parents=True, exist_ok=True)
            patterns.write_text("".join(f"/{escape(p)}\n" for p in paths))
            tree.run("read-tree", "-m", "-u", "HEAD")
            yield tree
        finally:
            shutil.rmtree(top, ignore_errors=True)
            self.run("worktree", "prune", check=False)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands that rewrite the tree waiting."""
        with open(self.git_dir() / "lab-series.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def escape(path: str) -> str:
    """path as a pattern of git's sparse checkout that matches only itself."""
    return re.sub(r"([*?\[\]\\ ])", r"\\\1", path)
