# SPDX-License-Identifier: GPL-2.0
"""The gates on the series. make check-fast: what CI runs; make check (--all): all of them.

Prints `ok N check.NAME` or `not ok N check.NAME` with the findings below, and a last line
`N passed, N failed, N skipped`. A checkpatch finding that has to stay is listed, with its
reason, in lab/gates/exceptions: TYPE, glob of patch names, reason.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab.common import progress
from lab.common.errors import LabError
from lab.common.run import run
from lab.gates import builds, drop_set, tools
from lab.image import machine
from lab.series import mails, patches
from lab.series.difference import difference
from lab.series.git import KernelTree, SeriesError
from lab.series.layout import Layout
from lab.series.top_level import wanted

# What make series fills in, and what MAINTAINERS' patterns answer.
CHECKPATCH_IGNORED = "MISSING_SIGN_OFF,NO_AUTHOR_SIGN_OFF,FILE_PATH_CHANGES"
EXCEPTIONS = pathlib.Path(__file__).with_name("check-exceptions")

LICENSES = ("GPL-2.0", "GPL-2.0-only", "GPL-2.0+", "GPL-2.0-or-later")
UAPI_LICENSES = tuple(f"{name} WITH Linux-syscall-note" for name in LICENSES)
NO_SPDX = (     # kinds of files that carry none in the kernel either, or hold no comments
    "*.txt", "*/config", "*.config", "*/.kunitconfig", "*/settings", ".gitignore", "*.bin",
    "*.json", "*.toml", "*.svg", "*.png", "setup.cfg", "README.md", "MAINTAINERS", "patches/*",
    "Documentation/ABI/*",
    "lab/gates/exceptions", "lab/tests/expected-skips", "lab/commands/unreached",
    "lab/faults/mutants/*", "*/py.typed")
# Names in the kernel that codespell takes for misspelt words.
WORDS = "aci,extraversion,filp,fro,nd,parm,ser,sie,stap,te"
TIMEOUT = 300       # seconds for one run of a tool
POLICY = "policy"   # the group that the series must stand without


@dataclass(frozen=True)
class Gate:
    """A check: its name and a function that gives the findings, none when all is well."""

    name: str
    run: Callable[[], list[str]]


def tool(cmd: Sequence[str | pathlib.Path], cwd: pathlib.Path) -> list[str]:
    """Run a tool; what it prints if it fails, else nothing."""
    # Scripts of the kernel call "env python3"; it shall be the one that has Debian's modules.
    env = {**os.environ, "LC_ALL": "C.UTF-8",
           "PATH": f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '/bin')}"}
    done = run(cmd, cwd=cwd, timeout=TIMEOUT, env=env, merge=True)
    if done.rc == 0:
        return []
    return done.out.strip().splitlines() or [f"{cmd[0]}: exit status {done.rc}"]


class Checker:
    """The gates on one repository and its kernel tree."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tree = KernelTree(layout.tree)
        self.head = self.tree.head()
        self.patches = patches.load(layout.patches)
        self.new = {name: blob for name, blob in wanted(self.tree, self.head).items()
                    if name not in ("MAINTAINERS", "Kconfig")}

        self.builds = builds.Tree(self.tree, layout.tree.parent / "check")

    def gates(self) -> Iterator[Gate]:
        """The gates of check-fast."""
        yield Gate("am", self.am)
        yield Gate("difference", lambda: difference(self.layout))
        yield Gate("mails", self.mails)
        for patch in self.patches:
            yield Gate(f"checkpatch.{patch.name.removesuffix('.patch')}", self.checkpatch(patch))
        yield Gate("kernel-doc", self.kernel_doc)
        yield Gate("spdx", self.spdx)
        yield Gate("codespell", self.codespell)
        yield Gate("mypy", lambda: tool([sys.executable, "-m", "mypy", "lab"], self.layout.root))
        yield Gate("flake8", lambda: tool([sys.executable, "-m", "flake8", "lab"],
                                          self.layout.root))
        yield Gate("shellcheck", self.shellcheck)
        yield Gate("build.module", lambda: self.build("module"))
        yield Gate("sparse", lambda: builds.sparse(self.tree, self.builds, "module", self.head))

    def more_gates(self) -> Iterator[Gate]:
        """What make check has beyond check-fast."""
        yield Gate("maintainers", lambda: tools.maintainers(self.tree, self.patches))
        yield Gate("abi", lambda: tools.abi(self.tree, self.head))
        yield Gate("sphinx", lambda: tools.sphinx(self.tree, self.head))
        yield Gate("uapi", lambda: tools.uapi(self.builds, self.head))
        yield Gate("build.builtin", lambda: self.build("builtin"))
        yield Gate("build.off", lambda: self.build("off"))
        yield Gate("without-policy", self.without_policy)
        yield Gate("without-policy.tests",
                   lambda: drop_set.test(POLICY, self.layout.root, self.patches))
        yield Gate("clang", lambda: tools.clang(self.tree, self.builds, self.head))
        yield Gate("coccinelle",
                   lambda: tools.coccinelle(self.tree, self.builds, self.head))

    def build(self, name: str) -> list[str]:
        """Each step, in one configuration."""
        commits = self.tree.commits(self.head)
        titles = [patch.name.removesuffix(".patch") for patch in self.patches]
        if len(titles) != len(commits):
            titles = [commit.subject for commit in commits]
        return builds.walk(self.tree, self.builds, name,
                           [(c.id, title) for c, title in zip(commits, titles, strict=True)])

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
                         self.layout.patches / patch.name], self.layout.tree)
        return run

    def kernel_doc(self) -> list[str]:
        """The kernel-doc comments of new C files."""
        files = [name for name in self.new if name.endswith((".c", ".h"))]
        if not files:
            return []
        return tool([sys.executable, self.layout.tree / "scripts/kernel-doc", "-none", "-Wall",
                     "-Werror", *files], self.layout.tree)

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
        return tool(["shellcheck", *sorted(set(scripts))], self.layout.root) if scripts else []


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
    if done.rc not in (0, 65):
        return [done.text()]
    lines = done.out.strip().splitlines()
    return [f"{where.split(':')[0]}: {what.strip()}"
            for where, what in zip(lines[0::2], lines[1::2], strict=False)]


def exceptions() -> list[tuple[str, str]]:
    """(checkpatch type, patch glob) of lab/gates/exceptions."""
    if not EXCEPTIONS.exists():
        return []
    found = []
    for number, line in enumerate(EXCEPTIONS.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            fields = line.split(None, 2)
            if len(fields) != 3:
                raise SeriesError(f"{EXCEPTIONS}:{number}: wanted TYPE GLOB REASON")
            found.append((fields[0], fields[1]))
    return found


def run_gate(gate: Gate) -> list[str]:
    """A gate's findings; an error is one, too."""
    try:
        return gate.run()
    except (LabError, OSError) as err:
        return str(err).splitlines()


def main(argv: Sequence[str]) -> int:
    """Run the gates; the exit status is 0 when all passed."""
    parser = argparse.ArgumentParser(prog="lab.check", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glob", nargs="?", default="*", help="only gates whose name fits")
    parser.add_argument("--all", action="store_true", help="those too that take long")
    args = parser.parse_args(argv)
    try:
        checker = Checker(Layout.default())
        gates = list(checker.gates())
        if args.all:
            machine.install_packages(tools.CHECK_PACKAGES)
            gates += checker.more_gates()
        gates = [gate for gate in gates
                 if fnmatch.fnmatchcase(f"check.{gate.name}", args.glob or "*")]
    except (SeriesError, machine.EnvError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    failed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for number, (gate, found) in enumerate(zip(gates, pool.map(run_gate, gates)), 1):
            print(f"{'not ok' if found else 'ok'} {number} check.{gate.name}", flush=True)
            for line in found:
                print(f"# {line}")
            failed += bool(found)
    print(f"{len(gates) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not gates else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
