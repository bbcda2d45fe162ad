# SPDX-License-Identifier: GPL-2.0
"""Other checks of maintainers: documentation, ABI files, headers, coccinelle, clang.

Each function takes a commit and returns its findings, without those of the pristine source.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from lab.common import config
from lab.common.progress import say
from lab.common.run import run
from lab.gates.builds import SELFTEST, Tree, must_build, new_findings
from lab.series.git import PRISTINE, KernelTree, SeriesError
from lab.series.patches import Patch

# Debian packages that only these gates and `make docs` call.
DOCS_PACKAGES = ("python3-sphinx", "python3-yaml")
LLVM = "-19"        # Debian 12's default, 14, is older than scripts/min-tool-version.sh allows
CHECK_PACKAGES = (*DOCS_PACKAGES, "clang-19", "lld-19", "llvm-19", "coccinelle")

CHAPTER = "arch/s390"
ABI = "Documentation/ABI"
SECTION = "S390 VFIO-AP DRIVER"
HEADERS = ("linux/vfio_ap.h", "linux/vfio.h")
COCCI_SECONDS = 900
# Semantic patches that only rewrite have nothing to report; those in OCaml need a compiler of
# it and the sources of coccinelle.
COCCI_REPORTS = re.compile(r"^virtual\b.*\breport\b", re.M)
COCCI_OCAML = re.compile(r"^@.*\bscript:ocaml\b", re.M)
# It takes a lock that is dropped for a while and taken again, or taken twice under the same
# condition as the driver always did, for one that is never released.
COCCI_WRONG = ("mini_lock.cocci",)


def call(args: Sequence[str | pathlib.Path], cwd: pathlib.Path, seconds: int = 600,
         stdin: str | None = None) -> tuple[int, str]:
    """Run a tool: its status and all that it prints."""
    env = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
           "PATH": f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '/bin')}"}
    done = run(args, cwd=cwd, env=env, stdin=stdin or "", timeout=seconds, merge=True)
    return done.rc, done.out


def plain(text: str) -> Iterator[str]:
    """Lines without the colours that tools give them."""
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        if line.strip():
            yield line.strip()


class Sources:
    """Whole directories of a commit, in a folder that goes away again."""

    def __init__(self, tree: KernelTree, top: pathlib.Path) -> None:
        self._tree = tree
        self._top = top
        self._number = 0

    def take(self, commit: str, paths: Sequence[str]) -> pathlib.Path:
        """The folder that holds these paths of a commit."""
        self._number += 1
        where = self._top / f"{self._number}"
        where.mkdir()
        there = [path for path in paths if self._tree.run(
            "cat-file", "-e", f"{commit}:{path}", check=False).rc == 0]
        if there:
            archive = self._tree.run("archive", "--format=tar", commit, "--", *there).stdout
            run(["tar", "-x"], cwd=where, stdin=archive, error=SeriesError)
        return where


# ---- documentation ----------------------------------------------------------------------------

# Files that htmldocs of one directory reads.
DOCS_READ = ("Documentation", "Makefile", "MAINTAINERS", "CREDITS", "scripts", "tools/docs",
             "tools/lib/python", "tools/net/ynl", "include", "arch/s390", "drivers/s390", "Kbuild",
             "Kconfig", "LICENSES")


def html(source: pathlib.Path, target: pathlib.Path) -> tuple[int, list[str]]:
    """The chapter on s390 as HTML in target/Documentation/output; status and messages."""
    target.mkdir(parents=True, exist_ok=True)
    status, text = call(["make", f"ARCH={config.ARCH}", f"O={target}", f"SPHINXDIRS={CHAPTER}",
                         "htmldocs"], source)
    lines = [line.replace(f"{source}/", "") for line in plain(text)]
    return status, lines


def docs(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The chapter on s390 in target, as build/linux has it now; returns the page on vfio-ap."""
    made = config.BUILD / "docs"
    status, lines = html(source, made)
    for line in lines:
        if status or re.search(r"\b(WARNING|ERROR)\b", line):
            say(line)
    output = made / "Documentation/output"
    page = output / CHAPTER / "vfio-ap.html"
    if status or not page.exists():
        raise SeriesError(f"htmldocs: status {status}")
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(output, target, ignore=shutil.ignore_patterns(".doctrees", "*.rst.txt"))
    return target / CHAPTER / "vfio-ap.html"


def sphinx(tree: KernelTree, commit: str) -> list[str]:
    """Warnings of sphinx that the pristine documentation does not give."""
    results = []
    with tempfile.TemporaryDirectory(dir=config.BUILD, prefix=".docs-") as folder:
        sources = Sources(tree, pathlib.Path(folder))
        for number, ident in enumerate((PRISTINE, commit)):
            source = sources.take(ident, DOCS_READ)
            status, lines = html(source, pathlib.Path(folder) / f"out{number}")
            results.append([line for line in lines if re.search(r"\b(WARNING|ERROR)\b", line)])
            if status:
                if ident == PRISTINE:
                    raise SeriesError("\n".join(lines[-5:]))
                return new_findings(results[-1], results[0]) or lines[-5:]
            shutil.rmtree(source)
    return new_findings(results[1], results[0])


def abi(tree: KernelTree, commit: str) -> list[str]:
    """The ABI files, by the kernel's own parser."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        sources = Sources(tree, pathlib.Path(folder))
        for ident in (PRISTINE, commit):
            where = sources.take(ident, (ABI, "tools/docs", "tools/lib/python"))
            status, text = call([sys.executable, "tools/docs/get_abi.py", "--dir", ABI, "validate"],
                                where)
            lines = [line.replace(f"{where}/", "") for line in plain(text)]
            if not any((where / ABI).rglob("*vfio*")):
                lines, status = [f"{ABI}: has no file on vfio"], 1
            if status:
                lines = lines[-5:] or [f"get_abi.py: status {status}"]
                if ident == PRISTINE:
                    raise SeriesError("\n".join(lines))
            # rst shows lines that the parser cannot read
            status, text = call([sys.executable, "tools/docs/get_abi.py", "--dir", ABI, "rest"],
                                where)
            lines += [line.replace(f"{where}/", "") for line in plain(text)
                      if re.match(r"\[?(WARNING|ERROR|CRITICAL)|Traceback", line)]
            results.append(lines)
    return new_findings(results[1], results[0])


# ---- headers, maintainers ---------------------------------------------------------------------

def uapi(builds: Tree, commit: str) -> list[str]:
    """Each uapi header that the series touches compiles alone, in C and in C++."""
    found = []
    with builds.lock, tempfile.TemporaryDirectory() as folder:
        builds.checkout(commit)
        found += builds.configure("module")
        status, text = builds.run("module", ["headers_install", f"INSTALL_HDR_PATH={folder}"])
        if status:
            return found + (text.strip().splitlines()[-5:] or ["headers_install failed"])
        for header in HEADERS:
            if not (pathlib.Path(folder) / "include" / header).exists():
                found.append(f"{header}: headers_install does not install it")
                continue
            # There is no C++ compiler for s390 among the packages; the machine's does.
            for compiler in ((f"{config.CROSS_COMPILE}gcc", "-xc", "-std=gnu89"),
                             (f"{config.CROSS_COMPILE}gcc", "-xc", "-std=gnu11"),
                             ("g++", "-xc++", "-std=c++11")):
                status, text = call([*compiler, "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                                     f"-I{folder}/include", "-"], pathlib.Path(folder),
                                    stdin=f"#include <{header}>\n#include <{header}>\n")
                if status:
                    lines = [line for line in plain(text) if "error" in line] or [f"{status}"]
                    found += [f"{' '.join(compiler)}: {line.replace(folder + '/', '')}"
                              for line in lines]
    return found


def sections_of(tree: KernelTree, path: str) -> dict[str, str]:
    """The entries of MAINTAINERS that have a file, by name, the one for everything excepted."""
    status, text = call(["perl", "scripts/get_maintainer.pl", "--no-git", "--no-git-fallback",
                         "--sections", "--no-rolestats"], tree.path,
                        stdin=f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n"
                              "@@ -1 +1 @@\n-old\n+new\n")
    if status:
        raise SeriesError(f"get_maintainer: {text.strip()}")
    found = {part.strip().splitlines()[0]: part for part in text.split("\n\n") if part.strip()}
    found.pop("THE REST", None)
    return found


def maintainers(tree: KernelTree, series: Sequence[Patch]) -> list[str]:
    """get_maintainer finds somebody for each patch, and our entry for each file of ours."""
    known: dict[str, dict[str, str]] = {}
    found = []
    for patch in series:
        people = False
        for path in patch.paths:
            # One file stands for all of the selftests.
            key = SELFTEST if path.startswith(SELFTEST) else path
            if key not in known:
                known[key] = sections_of(tree, path)
                if re.search(r"vfio[-_]ap", path) and SECTION not in known[key]:
                    found.append(f"{patch.path}: {SECTION} does not have {path}")
            people |= any(re.search(r"^M:", part, re.M) for part in known[key].values())
        # Whose entry a patch of MAINTAINERS changes is not a matter of files.
        if not people and patch.paths != ["MAINTAINERS"]:
            found.append(f"{patch.path}: nobody maintains {' '.join(patch.paths)}")
    return found


# ---- coccinelle, clang ------------------------------------------------------------------------

def coccinelle(tree: KernelTree, builds: Tree, commit: str,
               seconds: int = COCCI_SECONDS) -> list[str]:
    """The kernel's semantic patches on the C files that the series touches, one after another."""
    end = time.monotonic() + seconds
    files = [path for path in tree.touched(PRISTINE, commit)
             if path.endswith((".c", ".h")) and path.startswith(("drivers/", "arch/", "virt/"))]
    results: list[list[str]] = []
    with builds.lock, tempfile.TemporaryDirectory() as folder:
        sources = Sources(tree, pathlib.Path(folder))
        builds.checkout(commit)
        found = builds.configure("module")
        if found:
            return found
        rules = []
        for path in sorted((builds.path / "scripts/coccinelle").rglob("*.cocci")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if COCCI_REPORTS.search(text) and COCCI_OCAML.search(text):
                say(f"coccinelle: left out is {path.name}, which is written in OCaml")
            elif COCCI_REPORTS.search(text) and path.name not in COCCI_WRONG:
                rules.append(path)
        if not rules:
            return ["scripts/coccinelle: has no semantic patch that reports"]
        # Both at once: one run of a rule reads the pristine files and ours.
        for ident in (PRISTINE, commit):
            sources.take(ident, files)
        for rule in rules:
            if time.monotonic() > end:
                return [f"not done after {seconds} s, at {rule.name}"]
            status, text = builds.run("module", ["coccicheck", "MODE=report", f"COCCI={rule}",
                                                 f"M={folder}", f"J={os.cpu_count() or 1}"])
            lines = [line.replace(f"{folder}/", "").removeprefix("./") for line in plain(text)]
            if status:
                return [f"{rule.name}: {line}" for line in lines[-3:]]
            results.append([line for line in lines if re.match(r"[12]/\S+:\d+", line)])
    hits = [line for lines in results for line in lines]
    before = [re.sub(r":\d+[-:\d]*", ":", line[2:]) for line in hits if line.startswith("1/")]
    return [line[2:] for line in hits if line.startswith("2/")
            and re.sub(r":\d+[-:\d]*", ":", line[2:]) not in before]


def clang(tree: KernelTree, builds: Tree, commit: str) -> list[str]:
    """The same objects by clang, the whole series at once."""
    everything = tree.touched(PRISTINE, commit)
    extra = [f"LLVM={LLVM}"]
    with builds.lock:
        builds.checkout(tree.pristine())
        before = must_build(builds.build("clang", everything, tests=False, extra=extra))
        builds.checkout(commit)
        return new_findings(builds.build("clang", everything, tests=False, extra=extra), before)
