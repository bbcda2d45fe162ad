# SPDX-License-Identifier: GPL-2.0
"""The gates on the sets. make check-fast: those of CI; make check (--all): all of them.

Prints `ok N check.NAME` or `not ok N check.NAME` with the findings below, the minutes of the
slowest gates, and a last line `N passed, N failed, 0 skipped`. Exit status: 0 if all pass, 1 if
not, 2 if no gate has a name that fits. Accepted findings of checkpatch and of limits are listed,
with their reasons, in lab/gates/exceptions: TYPE, glob of SET/PATCH, reason.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import functools
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence

from lab.common import progress
from lab.common.run import run
from lab.gates import (builds, emulator, kvm_selftests, limits, set_tests, structure,
                       tools, words)
from lab.gates.schedule import Gate, results
from lab.image import machine
from lab.series import mails, patches
from lab.series.chains import Chains
from lab.series.difference import difference
from lab.series.git import Blob, KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.sets import Set
from lab.series.top_level import wanted

# Lines that make series fills in, and a question that MAINTAINERS' patterns answer.
CHECKPATCH_IGNORED = "MISSING_SIGN_OFF,NO_AUTHOR_SIGN_OFF,FILE_PATH_CHANGES"
EXCEPTIONS = "lab/gates/exceptions"

LICENSES = ("GPL-2.0", "GPL-2.0-only", "GPL-2.0+", "GPL-2.0-or-later")
UAPI_LICENSES = tuple(f"{name} WITH Linux-syscall-note" for name in LICENSES)
NO_SPDX = (     # kinds of files that carry none in the kernel either, or hold no comments
    "*.txt", "*/config", "*.config", "*/.kunitconfig", "*/settings", ".gitignore", "*.bin",
    "*.json", "*.toml", "*.svg", "*.png", "setup.cfg", "*.md", "MAINTAINERS",
    "patches/*", "Documentation/ABI/*", "lab/gates/exceptions", "lab/tests/expected-*",
    "lab/commands/unreached", "lab/faults/mutants/*", "*/py.typed")
# Names in the kernel that codespell takes for misspelt words.
WORDS = "aci,extraversion,filp,fro,nd,parm,ser,sie,stap,te"
TIMEOUT = 300       # seconds for one run of a tool
COVER_LINES = 120


class NoGate(SeriesError):
    """No gate has a name that fits G=."""


def tool(cmd: Sequence[str | pathlib.Path], cwd: pathlib.Path, silent: bool = False) -> list[str]:
    """Run a tool: its output if it fails, else nothing. silent: any output is a failure."""
    # Scripts of the kernel call "env python3"; it shall be the one that has Debian's modules.
    env = {**os.environ, "LC_ALL": "C.UTF-8",
           "PATH": f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '/bin')}"}
    done = run(cmd, cwd=cwd, timeout=TIMEOUT, env=env, merge=True)
    lines = done.out.strip().splitlines()
    if done.rc == 0 and not (silent and lines):
        return []
    return lines or [f"{cmd[0]}: exit status {done.rc}"]


class Checker:
    """The gates on one repository and its kernel tree."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.patches = patches.load(layout)

    @functools.cached_property
    def tree(self) -> KernelTree:
        """The kernel tree with the series."""
        return KernelTree(self.layout.tree)

    @functools.cached_property
    def head(self) -> str:
        """The last commit of the series."""
        return self.tree.head()

    @functools.cached_property
    def chains(self) -> Chains:
        """Each set on its prerequisites."""
        return Chains(self.layout, self.patches)

    def series(self, one: Set) -> list[patches.Patch]:
        """The patches of a set."""
        return [patch for patch in self.patches if patch.set == one.name]

    @property
    def sets(self) -> list[Set]:
        """The sets that have patches."""
        return [one for one in self.layout.sets if self.series(one)]

    @functools.cached_property
    def new(self) -> dict[str, Blob]:
        """The files that the series adds."""
        every = wanted(self.layout, self.tree, self.head)
        return {name: blob for name, blob in every.items()
                if name not in ("MAINTAINERS", "Kconfig")}

    @functools.cached_property
    def builds(self) -> builds.Tree:
        """Where the series is built."""
        return builds.Tree(self.tree, self.layout.tree.parent / "check")

    def share(self, gates: Iterable[Gate]) -> None:
        """Get ready to run these gates at the same time."""
        self.builds.sparse_later = "sparse" in {gate.name for gate in gates}
        # Before several threads ask for them.
        if not self.new or not self.chains:
            raise SeriesError(f"{self.layout.tree}: the series adds no file")

    def gates(self) -> Iterator[Gate]:
        """The gates of check-fast."""
        yield Gate("am", self.am, cost=20)
        for one in self.sets:
            yield Gate(f"am.{one.name}", self.of_set(self.applies, one), cost=100)
            yield Gate(f"size.{one.name}", self.of_set(self.size, one), cost=90)
            yield Gate(f"rework.{one.name}", self.of_set(self.rework, one), cost=90)
        yield Gate("difference", lambda: difference(self.layout), cost=20)
        yield Gate("mails", self.mails, cost=80)
        for patch in self.patches:
            yield Gate(f"checkpatch.{patch.path.removesuffix('.patch')}", self.checkpatch(patch),
                       cost=len(patch.data) / 10_000)
        yield Gate("kernel-doc", self.kernel_doc)
        yield Gate("spdx", self.spdx)
        yield Gate("codespell", self.codespell, cost=10)
        yield Gate("mypy", lambda: python_tool("mypy", self.layout.root), cost=20)
        yield Gate("flake8", lambda: python_tool("flake8", self.layout.root), cost=10)
        yield Gate("structure", lambda: structure.check(self.layout.root))
        yield Gate("shellcheck", self.shellcheck)
        yield Gate("words", lambda: words.limits(self.layout.root), cost=5)
        yield Gate("documents", lambda: words.documents(self.layout.root))
        yield from self.build_gates("module")
        yield Gate("sparse", lambda: builds.sparse(self.tree, self.builds, "module", self.head),
                   builds=True)

    def more_gates(self) -> Iterator[Gate]:
        """The gates of make check that check-fast does not have."""
        yield Gate("maintainers", lambda: tools.maintainers(self.tree, self.patches), cost=20)
        yield Gate("abi", lambda: tools.abi(self.tree, self.head), cost=10)
        yield Gate("sphinx", lambda: tools.sphinx(self.tree, self.head), cost=100)
        yield Gate("uapi", lambda: tools.uapi(self.builds, self.head), builds=True)
        yield from self.build_gates("builtin")
        yield from self.build_gates("off")
        yield Gate("clang", lambda: tools.clang(self.tree, self.builds, self.head), builds=True)
        yield Gate("coccinelle",
                   lambda: tools.coccinelle(self.tree, self.builds, self.head), builds=True)
        # One after the other: each builds on the kernel of the one before.
        for one in self.sets:
            yield Gate(f"tests.{one.name}", self.of_set(self.tests, one), builds=True)

    def build_gates(self, name: str) -> Iterator[Gate]:
        """Each patch of each set, in one configuration."""
        for one in self.sets:
            yield Gate(f"build.{name}.{one.name}",
                       self.of_set(lambda one: self.build(name, one), one), builds=True)

    @staticmethod
    def of_set(gate: Callable[[Set], list[str]], one: Set) -> Callable[[], list[str]]:
        """The gate of a set."""
        return lambda: gate(one)

    def build(self, name: str, one: Set) -> list[str]:
        """Each step of a set on its prerequisites, in one configuration."""
        commits = [(commit.id, patch.path.removesuffix(".patch")) for commit, patch in
                   zip(self.chains.commits(one.name), self.series(one), strict=True)]
        return builds.walk(self.tree, self.builds, name, self.chains.base(one.name), commits)

    def applies(self, one: Set) -> list[str]:
        """git am of a set on its prerequisites alone."""
        self.chains.tip(one.name)
        return []

    def size(self, one: Set) -> list[str]:
        """The limits of a set, and that it names its tests."""
        found = limits.excused([*limits.size(self.tree, one, self.series(one),
                                             self.chains.tip(one.name))],
                               exceptions(self.layout.root), limits.SIZE_KINDS, one.name)
        return found + ([] if set_tests.globs(self.layout, one.name) else
                        [f"patches/{self.layout.kind}/{one.name}/tests: names no test"])

    def rework(self, one: Set) -> list[str]:
        """No patch deletes lines that an earlier patch of the set added."""
        lines = limits.deleted(self.tree, self.chains.base(one.name), self.chains.tip(one.name))
        return limits.excused(limits.rework(one, self.series(one), lines),
                              exceptions(self.layout.root), ("DELETES",), one.name)

    def tests(self, one: Set) -> list[str]:
        """The tests that a set names pass on a kernel with the set and its prerequisites."""
        return set_tests.run_set(self.layout, self.chains, self.patches, one.name)

    def am(self) -> list[str]:
        """git am of patches/ on pristine source gives the tree that is built."""
        if not self.patches:
            return ["patches/ is empty"]
        made = self.chains.whole()
        if self.tree.tree_of(made) != self.tree.tree_of(self.head):
            names = self.tree.paths("diff", "-z", "--name-only", made, self.head)
            return [f"{name}: not as in {self.layout.tree}" for name in names]
        return []

    def mails(self) -> list[str]:
        """The mails of make series give the tree that is tested, and short cover letters."""
        self.layout.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".check-", dir=self.layout.out) as out:
            try:
                written = mails.write(dataclasses.replace(self.layout, out=pathlib.Path(out)),
                                      "A Sender <sender@example.com>", "a tool",
                                      lambda text: None, chains=self.chains)
            except SeriesError as error:
                return str(error).splitlines()
            counts = {where.name: len(next(where.glob("0000-*")).read_text().splitlines())
                      for where in written}
        return [f"{name}: the cover letter has {lines} lines, {COVER_LINES} at most"
                for name, lines in counts.items() if lines > COVER_LINES]

    def checkpatch(self, patch: patches.Patch) -> Callable[[], list[str]]:
        """The gate that runs checkpatch on a patch."""
        def run() -> list[str]:
            ignored = [CHECKPATCH_IGNORED] + [kind for kind, glob in exceptions(self.layout.root)
                                              if fnmatch.fnmatchcase(patch.path, glob)]
            return tool(["perl", "scripts/checkpatch.pl", "--strict", "--show-types", "--terse",
                         "--no-summary", f"--ignore={','.join(ignored)}",
                         self.layout.patches / patch.path], self.layout.tree, silent=True)
        return run

    def kernel_doc(self) -> list[str]:
        """The kernel-doc comments of new C files."""
        files = [name for name in self.new if name.endswith((".c", ".h"))]
        if not files:
            return ["the series adds no C file"]
        return tool([sys.executable, self.layout.tree / "scripts/kernel-doc", "-none", "-Wall",
                     "-Werror", *files], self.layout.tree, silent=True)

    def spdx(self) -> list[str]:
        """Each file of ours names its licence, in the form that its kind wants."""
        texts = {name: blob.data for name, blob in self.new.items() if blob.mode != "120000"}
        for name in own_files(self.layout.root):
            texts.setdefault(name, (self.layout.root / name).read_bytes())
        found = []
        for name, data in sorted(texts.items()):
            if data and not any(fnmatch.fnmatchcase(name, glob) for glob in NO_SPDX):
                found += spdx_findings(name, data)
        return found

    def codespell(self) -> list[str]:
        """Spelling of the patches' added lines and messages, and of the lab."""
        found = []
        for patch in self.patches:
            text = "\n".join(line for line in patch.data.decode(errors="replace").splitlines()
                             if not line.startswith(("-", " ", "@@", "index ")))
            found += [f"{patch.path}: {line}" for line in spell(text)]
        for name in own_files(self.layout.root):
            if not name.startswith("patches/"):
                text = (self.layout.root / name).read_text(errors="replace")
                found += [f"{name}:{line}" for line in spell(text)]
        return found

    def shellcheck(self) -> list[str]:
        """Shell scripts of ours."""
        scripts = [name for name in [*own_files(self.layout.root), *self.new]
                   if is_shell(name, self.layout.root / name)]
        if not scripts:
            return ["there is no shell script"]
        return tool(["shellcheck", *sorted(set(scripts))], self.layout.root)


def python_tool(name: str, root: pathlib.Path) -> list[str]:
    """A checker of Python modules on lab/."""
    if not any((root / "lab").rglob("*.py")):
        return ["lab: has no Python module"]
    return tool([sys.executable, "-m", name, "lab"], root)


def own_files(root: pathlib.Path) -> list[str]:
    """The files of the repository, without those that mirror the kernel tree."""
    mirrored = ("drivers/", "include/", "Documentation/", "tools/", "arch/")
    repo = KernelTree(root)
    names = repo.paths("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [n for n in names if not n.startswith(mirrored) and (root / n).is_file()]


def is_shell(name: str, path: pathlib.Path) -> bool:
    """True for a shell script, by name or first line."""
    if name.endswith(".sh"):
        return True
    with open(path, "rb") as file:
        return bool(re.match(rb"#!\s*/\S*(?:sh|env (?:ba)?sh)\b", file.readline(80)))


def spdx_findings(name: str, data: bytes) -> list[str]:
    """Defects of a file's licence line."""
    head = data[:400].decode(errors="replace").splitlines()[:3]
    lines = [line for line in head if "SPDX-License-Identifier:" in line]
    if not lines:
        return [f"{name}: no SPDX-License-Identifier in its first lines"]
    text = lines[0]
    given = text.split("SPDX-License-Identifier:", 1)[1].replace("*/", "").strip(" ()\n")
    found = []
    if given not in (UAPI_LICENSES if "include/uapi/" in name else LICENSES):
        found.append(f"{name}: licence {given}")
    style = {".c": "// ", ".h": "/* ", ".rst": ".. "}.get(os.path.splitext(name)[1], "")
    if not text.startswith(style):
        found.append(f"{name}: the licence line starts with {style!r} in such a file")
    return found


def spell(text: str) -> list[str]:
    """codespell's findings in a text."""
    done = run(["codespell", "--ignore-words-list", WORDS, "-"], stdin=text, timeout=TIMEOUT)
    if done.rc not in (0, 65) or bool(done.rc) != bool(done.out.strip()):
        return [f"codespell: exit status {done.rc}: {done.text()}"]
    lines = done.out.strip().splitlines()
    return [f"{where.split(':')[0]}: {what.strip()}"
            for where, what in zip(lines[0::2], lines[1::2], strict=False)]


def exceptions(root: pathlib.Path) -> list[tuple[str, str]]:
    """(checkpatch type or limit, glob) of lab/gates/exceptions."""
    file = root / EXCEPTIONS
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            fields = line.split(None, 2)
            if len(fields) != 3:
                raise SeriesError(f"{file}:{number}: wanted TYPE GLOB REASON")
            found.append((fields[0], fields[1]))
    return found


def names() -> list[str]:
    """The names of all gates; builds nothing and needs no kernel tree."""
    return [gate.name for gate in gates_of(Checker(Layout.default()), True)]


def gates_of(checker: Checker, everything: bool) -> list[Gate]:
    """The gates of check-fast or, with everything, of check: on both series and on our scripts."""
    found = [*checker.gates(), *emulator.gates()]
    if everything:
        found += [*checker.more_gates(), *emulator.more_gates(), *kvm_selftests.gates()]
    return found


def chosen(found: Iterable[str], glob: str, command: str) -> list[str]:
    """The names that fit the glob check.G; none raises NoGate."""
    fit = [name for name in found if fnmatch.fnmatchcase(f"check.{name}", glob)]
    if not fit:
        raise NoGate(f"G={glob.removeprefix('check.')}: fits no gate of `make {command}`; "
                     "`make list` prints all names")
    return fit


def main(argv: Sequence[str], layout: Layout | None = None) -> int:
    """Run the gates; the exit status is 0 when all passed."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.gates.gates", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glob", nargs="?", default="*", help="only gates whose name fits")
    parser.add_argument("--all", action="store_true", help="those too that take long")
    parser.add_argument("--known", action="store_true", help="check that a gate's name fits, only")
    args = parser.parse_args(argv)
    try:
        checker = Checker(layout or Layout.default())
        gates = gates_of(checker, args.all)
        fit = chosen([gate.name for gate in gates], args.glob or "*",
                     "check" if args.all else "check-fast")
        if args.known:
            return 0
        gates = [gate for gate in gates if gate.name in fit]
        if args.all:
            machine.install_packages(tools.CHECK_PACKAGES)
        checker.share(gates)
        return run_all(gates)
    except NoGate as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except (SeriesError, machine.EnvError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def run_all(gates: Sequence[Gate]) -> int:
    """Run gates and print their results; the exit status."""
    failed = 0
    times = []
    with contextlib.closing(results(gates)) as every:
        for number, result in enumerate(every, 1):
            print(f"{'not ok' if result.found else 'ok'} {number} check.{result.gate.name}",
                  flush=True)
            for line in result.found:
                print(f"# {line}", flush=True)
            failed += bool(result.found)
            times.append((f"check.{result.gate.name}", result.seconds))
    for line in [*progress.slowest(times), f"{len(gates) - failed} passed, {failed} failed, "
                 "0 skipped"]:
        print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
