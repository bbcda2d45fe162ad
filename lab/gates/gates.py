# SPDX-License-Identifier: GPL-2.0
"""The gates on the series. make check-fast: what CI runs; make check (--all): all of them.

Prints `ok N check.NAME` or `not ok N check.NAME` with the findings below, the minutes of the
slowest gates, and a last line `N passed, N failed, 0 skipped`. Exit status: 0 if all pass, 1 if
not, 2 if no gate has a name that fits. A checkpatch finding that has to stay is listed, with its
reason, in lab/gates/exceptions: TYPE, glob of patch names, reason.
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
from lab.gates import builds, drop_set, emulator, structure, tools
from lab.gates.schedule import Gate, results
from lab.image import machine
from lab.series import mails, patches
from lab.series.difference import difference
from lab.series.git import Blob, KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.top_level import wanted

# What make series fills in, and what MAINTAINERS' patterns answer.
CHECKPATCH_IGNORED = "MISSING_SIGN_OFF,NO_AUTHOR_SIGN_OFF,FILE_PATH_CHANGES"
EXCEPTIONS = pathlib.Path(__file__).with_name("exceptions")

LICENSES = ("GPL-2.0", "GPL-2.0-only", "GPL-2.0+", "GPL-2.0-or-later")
UAPI_LICENSES = tuple(f"{name} WITH Linux-syscall-note" for name in LICENSES)
NO_SPDX = (     # kinds of files that carry none in the kernel either, or hold no comments
    "*.txt", "*/config", "*.config", "*/.kunitconfig", "*/settings", ".gitignore", "*.bin",
    "*.json", "*.toml", "*.svg", "*.png", "setup.cfg", "README.md", "docs/*.md", "MAINTAINERS",
    "patches/*", "Documentation/ABI/*", "lab/gates/exceptions", "lab/tests/expected-*",
    "lab/commands/unreached", "lab/faults/mutants/*", "*/py.typed")
# Names in the kernel that codespell takes for misspelt words.
WORDS = "aci,extraversion,filp,fro,nd,parm,ser,sie,stap,te"
TIMEOUT = 300       # seconds for one run of a tool
POLICY = "policy"   # the group that the series must stand without


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
        self.patches = patches.load(layout.patches)
        self._share = False
        self._sparse: list[str] | None = None

    @functools.cached_property
    def tree(self) -> KernelTree:
        """The kernel tree with the series."""
        return KernelTree(self.layout.tree)

    @functools.cached_property
    def head(self) -> str:
        """The last commit of the series."""
        return self.tree.head()

    @functools.cached_property
    def new(self) -> dict[str, Blob]:
        """The files that the series adds."""
        return {name: blob for name, blob in wanted(self.tree, self.head).items()
                if name not in ("MAINTAINERS", "Kconfig")}

    @functools.cached_property
    def builds(self) -> builds.Tree:
        """Where the series is built."""
        return builds.Tree(self.tree, self.layout.tree.parent / "check")

    def share(self, gates: Iterable[Gate]) -> None:
        """Get ready to run these gates at the same time."""
        self._share = {"build.module", "sparse"} <= {gate.name for gate in gates}
        # Before several threads ask for them.
        if not self.new or not self.builds:
            raise SeriesError(f"{self.layout.tree}: the series adds no file")

    def gates(self) -> Iterator[Gate]:
        """The gates of check-fast."""
        yield Gate("am", self.am, cost=20)
        yield Gate("difference", lambda: difference(self.layout), cost=20)
        yield Gate("mails", self.mails, cost=30)
        for patch in self.patches:
            yield Gate(f"checkpatch.{patch.name.removesuffix('.patch')}", self.checkpatch(patch),
                       cost=len(patch.data) / 10_000)
        yield Gate("kernel-doc", self.kernel_doc)
        yield Gate("spdx", self.spdx)
        yield Gate("codespell", self.codespell, cost=10)
        yield Gate("mypy", lambda: python_tool("mypy", self.layout.root), cost=20)
        yield Gate("flake8", lambda: python_tool("flake8", self.layout.root), cost=10)
        yield Gate("structure", lambda: structure.check(self.layout.root))
        yield Gate("shellcheck", self.shellcheck)
        yield Gate("build.module", lambda: self.build("module"), builds=True)
        yield Gate("sparse", self.sparse, builds=True)

    def more_gates(self) -> Iterator[Gate]:
        """What make check has beyond check-fast."""
        yield Gate("maintainers", lambda: tools.maintainers(self.tree, self.patches), cost=20)
        yield Gate("abi", lambda: tools.abi(self.tree, self.head), cost=10)
        yield Gate("sphinx", lambda: tools.sphinx(self.tree, self.head), cost=100)
        yield Gate("uapi", lambda: tools.uapi(self.builds, self.head), builds=True)
        yield Gate("build.builtin", lambda: self.build("builtin"), builds=True)
        yield Gate("build.off", lambda: self.build("off"), builds=True)
        yield Gate("without-policy", self.without_policy, builds=True)
        yield Gate("without-policy.tests",
                   lambda: drop_set.test(POLICY, self.layout.root, self.patches), cost=1000)
        yield Gate("clang", lambda: tools.clang(self.tree, self.builds, self.head), builds=True)
        yield Gate("coccinelle",
                   lambda: tools.coccinelle(self.tree, self.builds, self.head), builds=True)

    def build(self, name: str) -> list[str]:
        """Each step, in one configuration."""
        commits = self.tree.commits(self.head)
        titles = [patch.name.removesuffix(".patch") for patch in self.patches]
        if len(titles) != len(commits):
            titles = [commit.subject for commit in commits]
        by_sparse: list[str] | None = [] if self._share and name == "module" else None
        found = builds.walk(self.tree, self.builds, name,
                            [(c.id, title) for c, title in zip(commits, titles, strict=True)],
                            sparse=by_sparse)
        if by_sparse is not None:
            self._sparse = by_sparse
        return found

    def sparse(self) -> list[str]:
        """sparse on pristine source and on the last commit, as part of a build of each step."""
        if self._sparse is not None:
            return self._sparse
        return builds.sparse(self.tree, self.builds, "module", self.head)

    def without_policy(self) -> list[str]:
        """The series without its last group: it applies and builds in all configurations."""
        rest = [patch for patch in self.patches if patch.group != POLICY]
        gone = sorted({path for patch in self.patches for path in patch.paths
                       if patch.group == POLICY and path.endswith("_test.c")})
        commit = patches.git_am(self.tree, rest)
        progress.say(f"without [{POLICY}]: {len(rest)} of {len(self.patches)} patches; without "
                     f"{' '.join(os.path.basename(path) for path in gone) or 'a test of its own'}")
        found = [f"{path}: is in the series without [{POLICY}]" for path in gone
                 if self.tree.blob(commit, path)]
        for name in builds.CONFIGURATIONS:
            found += builds.walk(self.tree, self.builds, name, [(commit, f"without [{POLICY}]")])
        return found

    def am(self) -> list[str]:
        """git am of patches/ on pristine source gives the tree that is built."""
        if not self.patches:
            return ["patches/ is empty"]
        made = patches.git_am(self.tree, self.patches)
        if self.tree.tree_of(made) != self.tree.tree_of(self.head):
            names = self.tree.paths("diff", "-z", "--name-only", made, self.head)
            return [f"{name}: not as in {self.layout.tree}" for name in names]
        return []

    def mails(self) -> list[str]:
        """What make series writes gives the tree that is tested."""
        self.layout.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".check-", dir=self.layout.out) as out:
            try:
                mails.write(dataclasses.replace(self.layout, out=pathlib.Path(out)),
                            "A Sender <sender@example.com>", "a tool", lambda text: None)
            except SeriesError as error:
                return str(error).splitlines()
        return []

    def checkpatch(self, patch: patches.Patch) -> Callable[[], list[str]]:
        """The gate that runs checkpatch on a patch."""
        def run() -> list[str]:
            ignored = [CHECKPATCH_IGNORED] + [kind for kind, glob in exceptions()
                                              if fnmatch.fnmatchcase(patch.name, glob)]
            return tool(["perl", "scripts/checkpatch.pl", "--strict", "--show-types", "--terse",
                         "--no-summary", f"--ignore={','.join(ignored)}",
                         self.layout.patches / patch.name], self.layout.tree, silent=True)
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
            found += [f"{patch.name}: {line}" for line in spell(text)]
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
    """The files of the repository but for what mirrors the kernel tree."""
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
    """What is wrong with the licence line of a file."""
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


def exceptions() -> list[tuple[str, str]]:
    """(checkpatch type, patch glob) of lab/gates/exceptions."""
    found = []
    for number, line in enumerate(EXCEPTIONS.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            fields = line.split(None, 2)
            if len(fields) != 3:
                raise SeriesError(f"{EXCEPTIONS}:{number}: wanted TYPE GLOB REASON")
            found.append((fields[0], fields[1]))
    return found


def names() -> list[str]:
    """The names of all gates; builds nothing and needs no kernel tree."""
    return [gate.name for gate in gates_of(Checker(Layout.default()), True)]


def gates_of(checker: Checker, everything: bool) -> list[Gate]:
    """The gates of check-fast or, with everything, of check: on both series and on our scripts."""
    found = [*checker.gates(), *emulator.gates()]
    return [*found, *checker.more_gates(), *emulator.more_gates()] if everything else found


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
